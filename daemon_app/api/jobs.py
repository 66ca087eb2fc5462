"""Jobs: list, create, read, change, delete, switch on and off, run."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _t
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import scheduler
from daemon_app.api import paging, preconditions, serializers
from daemon_app.api.endpoint import Endpoint, asking, following, may, trigger_of
from daemon_app.api.errors import Problem, refused
from daemon_app.api.schema import NOT_STARTED, SEED_JOB, answers
from daemon_app.api.serializers import JobSerializer, RunSerializer, StartedRun, searched
from daemon_app.models import Job, Run
from daemon_app.schedules import ScheduleError
from daemon_app.tiles import jobs as tiles_of_jobs

IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,80}")
KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Up to 80 visible characters. The same key starts no second run.",
)
STARTED = answers(
    {
        200: OpenApiResponse(StartedRun, "The run that this key has started before."),
        202: OpenApiResponse(StartedRun, "The new run; it starts at once."),
        409: OpenApiResponse(NOT_STARTED, "It can't start: why, and what is in its way."),
    },
    404,
    changes=True,
)


class Jobs(Endpoint):
    """All jobs."""

    rights: ClassVar = {"GET": "view", "POST": "edit"}
    query_class = serializers.JobsQuery

    @extend_schema(
        operation_id="list_jobs",
        summary="List jobs",
        tags=["jobs"],
        parameters=[serializers.JobsQuery],
        responses=answers({200: serializers.Jobs}),
    )
    def get(self, request: Request) -> Response:
        """Return jobs by id, or sorted as is asked for."""
        shown, there = page_of_jobs(request, self.query, self.now, 200)
        return Response(
            {
                "jobs": JobSerializer(shown, many=True, context=_rights(request)).data,
                "count": len(shown),
                "next": there,
            }
        )

    @extend_schema(
        operation_id="create_job",
        summary="Create a job",
        tags=["jobs"],
        request=JobSerializer,
        examples=[
            OpenApiExample("Every hour", SEED_JOB, request_only=True),
            OpenApiExample(
                "Backup on workdays",
                {
                    "name": "nightly-backup",
                    "schedule": "30 3 * * MON-FRI",
                    "command": "tar -czf /srv/backup/home.tgz /home",
                    "timeout_seconds": 3600,
                },
                request_only=True,
            ),
        ],
        responses=answers({201: serializers.CreatedJob}, 409, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Create a job; it takes effect at once."""
        with transaction.atomic():
            job = JobSerializer().write(Job(), request.data, now=self.now, by=asking(request))
        return Response(
            serializers.CreatedJob(job, context=_rights(request)).data,
            status=201,
            headers={"Location": reverse("api:job", args=[job.pk])},
        )


def page_of_jobs(
    request: Request, query: Mapping[str, Any], now: datetime, usual: int
) -> tuple[list[Job], str | None]:
    """Return the jobs that a query asks for, `usual` unless it says how many, and what is next."""
    limit, order = query.get("limit", usual), query.get("sort", "id")
    jobs = tiles_of_jobs.found(searched(query))
    if "state" in query:
        jobs = tiles_of_jobs.in_states(jobs, now)[query["state"]]
    for name in ("name", "is_active", "job_type"):
        if name in query:
            jobs = jobs.filter(**{name: query[name]})
    if "after" in query:
        if "sort" in query or "cursor" in query:
            raise refused({"after": [_t("In a sorted list, go on from “next”.")]})
        jobs = jobs.filter(pk__gt=query["after"])
    shown, cursor = paging.page_of(jobs, order, limit, query.get("cursor", ""))
    if not cursor:
        return shown, None
    if "sort" in query:
        return shown, following(request, cursor=cursor)
    return shown, following(request, after=shown[-1].pk)


class OneJob(Endpoint):
    """One job."""

    rights: ClassVar = {"GET": "view", "PATCH": "edit", "DELETE": "edit"}
    conditional = frozenset({"PATCH", "DELETE"})

    @extend_schema(
        operation_id="read_job",
        summary="Read a job",
        tags=["jobs"],
        responses=answers({200: JobSerializer}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return a job."""
        return _shown(self, request, get_object_or_404(Job, pk=pk))

    @extend_schema(
        operation_id="change_job",
        summary="Change a job",
        tags=["jobs"],
        request=JobSerializer,
        examples=[
            OpenApiExample(
                "Other times", {"job_type": "interval", "schedule": "2h"}, request_only=True
            )
        ],
        responses=answers({200: JobSerializer}, 404, 409, changes=True),
    )
    def patch(self, request: Request, pk: int) -> Response:
        """Change the fields that are given. A changed schedule starts anew and owes nothing."""
        with transaction.atomic():
            job = _locked(request, pk)
            job = JobSerializer().write(job, request.data, now=self.now, by=asking(request))
        return _shown(self, request, job)

    @extend_schema(
        operation_id="delete_job",
        summary="Delete a job",
        tags=["jobs"],
        request=None,
        responses=answers(
            {204: OpenApiResponse(description="It is gone.")}, 404, 409, changes=True
        ),
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Delete a job with its runs and their output; what still runs of it is stopped."""
        try:
            with transaction.atomic():
                scheduler.remove(_locked(request, pk), by=asking(request), now=self.now)
        except ValidationError as error:  # it comes with the program
            raise Problem(409, "of_a_skill", " ".join(error.messages)) from error
        return Response(status=204)


class ToggleJob(Endpoint):
    """A job's schedule, on or off."""

    rights: ClassVar = {"PUT": "operate"}
    conditional = frozenset({"PUT"})

    @extend_schema(
        operation_id="toggle_job",
        summary="Switch a job on or off",
        tags=["jobs"],
        request=serializers.Toggle,
        examples=[OpenApiExample("Off", {"is_active": False}, request_only=True)],
        responses=answers({200: JobSerializer}, 404, changes=True),
    )
    def put(self, request: Request, pk: int) -> Response:
        """Switch a job on or off; without a body to the other state."""
        values, wrong = serializers.Toggle().read(request.data)
        if wrong:
            raise refused(wrong)
        with transaction.atomic():
            job = _locked(request, pk)
            try:
                job.set_active(
                    values.get("is_active", not job.is_active), now=self.now, by=asking(request)
                )
            except ScheduleError as error:
                raise refused({"schedule": [error.message("de")]}) from error
        return _shown(self, request, job)


class PauseJob(Endpoint):
    """A job's schedule, off for a while."""

    rights: ClassVar = {"POST": "operate"}
    conditional = frozenset({"POST"})

    @extend_schema(
        operation_id="pause_job",
        summary="Pause a job until a time",
        tags=["jobs"],
        request=serializers.Pause,
        examples=[
            OpenApiExample(
                "Until Monday",
                {"until": "2026-12-24T08:00:00+01:00", "note": "disk is being replaced"},
                request_only=True,
            )
        ],
        responses=answers({200: JobSerializer}, 404, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Switch a job's schedule off until an instant, when it goes on by itself.

        Nothing of the time between is caught up. Sooner: switch the job on.
        """
        values, wrong = serializers.Pause().read(request.data)
        if "until" not in {**values, **wrong}:
            wrong["until"] = [_t("Say until when the job is paused.")]
        if wrong:
            raise refused(wrong)
        with transaction.atomic():
            job = _locked(request, pk)
            try:
                job.pause(
                    values["until"],
                    now=self.now,
                    by=asking(request),
                    note=values.get("note", ""),
                )
            except ValidationError as error:
                raise refused({"until": error.messages}) from error
        return _shown(self, request, job)


class RunJob(Endpoint):
    """Starting a job by hand."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="run_job",
        summary="Run a job now",
        tags=["jobs", "runs"],
        request=serializers.StartRun,
        examples=[
            OpenApiExample("Beside others", {"beside": True}, request_only=True),
            OpenApiExample("All the same", {"force": True}, request_only=True),
        ],
        parameters=[KEY],
        responses=STARTED,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Start a job now, an inactive one too. The schedule does not move.

        With `beside` it starts although another run of it is active, with `force` although its
        conditions are not met. While everything is held nothing starts.
        """
        key = request.headers.get("Idempotency-Key")
        if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
            raise refused({"Idempotency-Key": [_t("Give 1 to 80 visible ASCII characters.")]})
        values, wrong = serializers.StartRun().read(request.data)
        if wrong:
            raise refused(wrong)
        job = get_object_or_404(Job, pk=pk)
        started = scheduler.start(
            job,
            trigger=trigger_of(request),
            by=asking(request),
            now=self.now,
            idempotency_key=key,
            beside=values.get("beside", False),
            forced=values.get("force", False),
        )
        context = {"now": self.now}
        if started.run is None:
            blocking = started.blocking
            raise Problem(
                404 if started.code == "gone" else 409,
                started.code,
                started.reason,
                blocking_run=RunSerializer(blocking, context=context).data if blocking else None,
            )
        if started.run.job_id != job.pk:
            raise Problem(
                409,
                "key_used",
                _t("This key has already started a run of another job."),
                blocking_run=None,
            )
        return Response(
            StartedRun(started.run, context=context).data,
            status=200 if started.code == "repeated" else 202,
            headers={"Location": reverse("api:run", args=[started.run.pk])},
        )


class RunAgain(RunJob):
    """Starting the job of a run once more."""

    @extend_schema(
        operation_id="run_again",
        summary="Run the job of a run again",
        tags=["runs"],
        request=serializers.StartRun,
        examples=[OpenApiExample("All the same", {"force": True}, request_only=True)],
        parameters=[KEY],
        responses=STARTED,
    )
    def post(self, request: Request, pk: int) -> Response:
        """Start the job of this run now, as the job is today; see “Run a job now”."""
        run = get_object_or_404(Run.objects.only("job_id"), pk=pk)
        return super().post(request, run.job_id)


def _locked(request: Request, pk: int) -> Job:
    """Return a job that nobody else changes until the transaction ends, if it is as wished."""
    job = get_object_or_404(Job.objects.select_for_update(), pk=pk)
    preconditions.require(request, job.version)
    return job


def _shown(view: Endpoint, request: Request, job: Job) -> Response:
    """Return a job as whoever asks may see it, wherever that was."""
    view.version = str(job.version)
    told = JobSerializer(job, context=_rights(request)).data
    return Response(told, headers={"Content-Location": reverse("api:job", args=[job.pk])})


def _rights(request: Request) -> dict[str, bool]:
    return {"may_edit": may(request, "edit")}

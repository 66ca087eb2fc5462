"""Failures of a job that are known: not told any more for a while, or up to a run."""

from datetime import timedelta
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import Fields, refused
from daemon_app.api.fields import Instant, Strict, Whole
from daemon_app.api.schema import answers
from daemon_app.models import Job, Run

LONGEST = timedelta(days=366)


class Mute(Strict):
    """Until when, or up to which run; one of both."""

    until = Instant(required=False, help_text="Not told until then: in the future, within a year.")
    run_id = Whole(
        min_value=1, required=False, help_text="Not told until a run newer than this one fails."
    )


class Muted(serializers.ModelSerializer[Job]):
    """Whether failures of a job are told."""

    job_id = serializers.IntegerField(source="pk", read_only=True)
    muted_until = Instant(read_only=True, allow_null=True, help_text="null: without such an end.")
    muted_by = serializers.CharField(read_only=True, help_text="Empty: nobody said until when.")
    seen_run_id = serializers.IntegerField(
        source="seen_failure",
        read_only=True,
        allow_null=True,
        help_text="Failures up to this run are known; null: none is.",
    )

    class Meta:
        model = Job
        fields = ("job_id", "muted_until", "muted_by", "seen_run_id")
        read_only_fields = fields


class MuteJob(Endpoint):
    """What is told of a job's failures."""

    rights: ClassVar = {"GET": "view", "PUT": "operate", "DELETE": "operate"}

    @extend_schema(
        operation_id="read_mute",
        summary="Read whether a job's failures are told",
        tags=["jobs"],
        responses=answers({200: Muted}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return until when, or up to which run, failures of a job are not told."""
        return Response(Muted(get_object_or_404(Job, pk=pk)).data)

    @extend_schema(
        operation_id="mute_job",
        summary="Tell of a job's failures no more for a while",
        tags=["jobs"],
        request=Mute,
        examples=[
            OpenApiExample(
                "Until Monday", {"until": "2026-11-30T08:00:00+01:00"}, request_only=True
            ),
            OpenApiExample("This one is known", {"run_id": 17}, request_only=True),
        ],
        responses=answers({200: Muted}, 404, changes=True),
    )
    def put(self, request: Request, pk: int) -> Response:
        """Tell of a job's failures no more until a time, or until a run newer than one fails.

        Its runs fail all the same, and stand in every list as what they are.
        """
        values, wrong = Mute().read(request.data)
        job = get_object_or_404(Job, pk=pk)
        self._check(job, values, wrong)
        if wrong:
            raise refused(wrong)
        if "until" in values:
            job.mute(values["until"], by=asking(request))
        else:
            job.see_failure(values["run_id"])
        return Response(Muted(job).data)

    def _check(self, job: Job, values: dict[str, Any], wrong: Fields) -> None:
        """Add to `wrong` what can't be meant."""
        if wrong:
            return
        if len(values) != 1:
            wrong["until"] = [_t("Give either “until” or “run_id”.")]
        elif "until" in values:
            if not self.now < values["until"] <= self.now + LONGEST:
                wrong["until"] = [_t("Give a time in the future, within a year.")]
        # Of one that is still to come nobody has seen anything.
        elif not Run.objects.filter(pk=_in_range(values["run_id"]), job=job).exists():
            wrong["run_id"] = [_t("This job has no such run.")]

    @extend_schema(
        operation_id="unmute_job",
        summary="Tell of a job's failures again",
        tags=["jobs"],
        request=None,
        responses=answers({200: Muted}, 404, changes=True),
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Tell of a job's failures again, those that were known too."""
        job = get_object_or_404(Job, pk=pk)
        if job.muted_until or job.seen_failure:
            job.mute(None, by=asking(request))
        return Response(Muted(job).data)


def _in_range(number: int) -> int:
    """Return a number that a database can look for; 0, which none has, for any other."""
    return number if 0 < number < 2**63 else 0

"""What a schedule, or a whole job, would mean: nothing is stored and nothing executed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import preflight, previews, terms, tiles
from daemon_app.api.endpoint import Endpoint
from daemon_app.api.errors import refused
from daemon_app.api.fields import Choice, Count, Instant, Strict, Text
from daemon_app.api.glance import iso
from daemon_app.api.schema import SEED_JOB, answers
from daemon_app.api.serializers import JobSerializer
from daemon_app.models import Job
from daemon_app.models.job import MAX_COMMAND, fault_of
from daemon_app.schedules import ScheduleError

TIMES, MOST_TIMES = 5, 100
# What a job is asked for; of text that is far too long nothing can be said.
LONGEST_SCHEDULE, LONGEST_ZONE = 256, 64
LONGEST_PATH, LONGEST_ARGUMENTS = 1024, 4096
MOST_TOLD = 20  # overlaps


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class PreviewQuery(Strict):
    """A schedule."""

    job_type = Choice(choices=Job.Kind.choices, required=False, help_text="cron unless given.")
    schedule = Text(max_length=LONGEST_SCHEDULE, required=False, help_text="As in a job.")
    timezone = Text(
        max_length=LONGEST_ZONE, required=False, help_text="IANA zone; the machine's unless given."
    )
    job_id = Count(
        min_value=1,
        required=False,
        help_text="The job that has it, or is to get it: an interval it has goes on.",
    )
    times = Count(
        min_value=1, max_value=MOST_TIMES, required=False, help_text=f"{TIMES} unless given."
    )


class Meeting(serializers.Serializer[Any]):
    """Another job that runs at one of these times."""

    job_id = serializers.IntegerField()
    name = serializers.CharField()
    at = Instant(help_text="When it starts.")
    until = Instant(
        allow_null=True, help_text="Until when it usually runs; null: unknown, they start together."
    )


class Preview(serializers.Serializer[Any]):
    """What a schedule means."""

    job_type = serializers.CharField()
    schedule = serializers.CharField(help_text="As it would be stored.")
    timezone = serializers.CharField()
    sentence = serializers.CharField()
    times = serializers.ListField(child=Instant(), help_text="The next ones; none: never.")
    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="What may surprise, as clocks that are set."
    )
    overlaps = Meeting(many=True, help_text=f"Each other job once, at most {MOST_TOLD}.")
    longer_seconds = serializers.FloatField(
        allow_null=True,
        help_text="How long a run usually takes, when that is longer than from one to the next.",
    )


class Finding(serializers.Serializer[Any]):
    """What is known of one word of a command."""

    level = serializers.ChoiceField(choices=["ok", "note", "warn"])
    code = serializers.CharField(help_text="For programs; does not change.")
    what = serializers.CharField(help_text="As it was written.")
    path = serializers.CharField(help_text="Where it leads; empty: unknown.")
    sentence = serializers.CharField(help_text="Empty where the path says it all.")


class CommandReport(serializers.Serializer[Any]):
    """What a command would find."""

    user = serializers.CharField(help_text="Who would run it.")
    folder = serializers.CharField(help_text="Where.")
    shell = serializers.CharField(help_text="By which shell; empty: without one.")
    findings = Finding(many=True)


class Checked(serializers.Serializer[Any]):
    """What was found of a definition."""

    valid = serializers.BooleanField(help_text="Whether it would be stored.")
    fields = serializers.DictField(  # type: ignore[assignment] # errors call it so
        child=serializers.ListField(child=serializers.CharField()),
        help_text="What is wrong with each field, as the error of storing it would say.",
    )
    schedule = Preview(allow_null=True, help_text="null: the schedule is none.")
    command = CommandReport(allow_null=True, help_text="null: a skill runs, no command.")
    conditions = serializers.ListField(
        child=serializers.CharField(), help_text="What has to be true before a start, in words."
    )
    rules = serializers.ListField(
        child=serializers.CharField(), help_text="By which rules it runs, in words."
    )


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
class PreviewSchedule(Endpoint):
    """What a schedule means."""

    rights: ClassVar = {"GET": "view"}
    query_class = PreviewQuery

    @extend_schema(
        operation_id="preview_schedule",
        summary="Say what a schedule means",
        tags=["jobs"],
        parameters=[PreviewQuery],
        responses=answers({200: Preview}, 404),
    )
    def get(self, request: Request) -> Response:
        """Return a schedule as a sentence, its next times, and what may surprise of them.

        One that can't be right is refused beside its field, with the way out.
        """
        query = self.query
        kind = query.get("job_type", Job.Kind.CRON)
        text, tz = query.get("schedule", ""), query.get("timezone", "").strip()
        job = get_object_or_404(Job, pk=query["job_id"]) if "job_id" in query else None
        if wrong := {
            name: [_t("At most %(n)s characters.") % {"n": most}]
            for name, said, most in (
                ("schedule", text, LONGEST_SCHEDULE),
                ("timezone", tz, LONGEST_ZONE),
            )
            if len(said) > most
        }:
            raise refused(wrong)
        try:
            most = query.get("times", TIMES)
            told = preview_told(kind, text, tz or settings.TIME_ZONE, job, self.now, most)
        except ScheduleError as error:
            field = "timezone" if error.field == "timezone" else "schedule"
            raise refused({field: [fault_of(error)]}) from error
        return Response(told)


class CheckJob(Endpoint):
    """A new job, not stored."""

    rights: ClassVar = {"POST": "edit"}

    @extend_schema(
        operation_id="check_job",
        summary="Check a new job without storing it",
        tags=["jobs"],
        request=JobSerializer,
        examples=[OpenApiExample("Every hour", SEED_JOB, request_only=True)],
        responses=answers({200: Checked}, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Return what would be said of a new job: faults, times, and what its command finds.

        Nothing is stored and nothing executed.
        """
        return Response(self.checked(Job(), request.data))

    def checked(self, job: Job, data: Any) -> dict[str, Any]:
        """Return what is found of a job with these changes."""
        wrong = JobSerializer().faults(job, data, now=self.now)
        schedule = None
        if not {*Job.WHEN} & wrong.keys():
            stored = Job.objects.filter(pk=job.pk).first() if job.pk else None
            when = (job.job_type, job.schedule, job.timezone)
            schedule = preview_told(*when, stored, self.now, TIMES)
        language = tiles.current_language()
        return {
            "valid": not wrong,
            "fields": wrong,
            "schedule": schedule,
            "command": None if job.skill else _report_told(job, wrong),
            "conditions": [] if wrong else terms.of(job.needs(), job.on_presence, language),
            "rules": [] if wrong else terms.rules(job, language),
        }


class CheckChange(CheckJob):
    """A change of a job, not stored."""

    @extend_schema(
        operation_id="check_change",
        summary="Check a change of a job without storing it",
        tags=["jobs"],
        request=JobSerializer(partial=True),
        examples=[OpenApiExample("Other times", {"schedule": "2h"}, request_only=True)],
        responses=answers({200: Checked}, 404, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:  # type: ignore[override] # of one
        """Return what would be said of a job with the fields that are given.

        Nothing is stored and nothing executed.
        """
        return Response(self.checked(get_object_or_404(Job, pk=pk), request.data))


# ── What is told ─────────────────────────────────────────────────────────────────────────────────
def preview_told(  # noqa: PLR0913, PLR0917 - a schedule is three words
    kind: str, text: str, tz: str, job: Job | None, now: datetime, most: int
) -> dict[str, Any]:
    """Return what a schedule means. Raises ScheduleError for one that is none."""
    language = tiles.current_language()
    found = previews.preview(
        kind, text, tz, of=job, now=now, language=language, most=max(most, previews.LOOKED_AT)
    )
    return {
        "job_type": kind,
        "schedule": found.text,
        "timezone": tz,
        "sentence": found.words,
        "times": [iso(at) for at in found.times[:most]],
        "warnings": list(found.warnings),
        "overlaps": [
            {"job_id": each.job_id, "name": each.name, "at": iso(each.at), "until": iso(each.until)}
            for each in found.overlaps[:MOST_TOLD]
        ],
        "longer_seconds": found.longer,
    }


def _report_told(job: Job, wrong: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the command of a job would find; what is `wrong` may be of any kind."""
    report = preflight.look(
        preflight.Wanted(
            command=job.command[:MAX_COMMAND],
            use_shell=job.use_shell,
            script_path=job.script_path[:LONGEST_PATH],
            arguments=job.arguments[:LONGEST_ARGUMENTS],
            working_directory=job.working_directory[:LONGEST_PATH],
            environment={} if "environment" in wrong else job.environment,
            parameters={} if "parameters" in wrong else job.parameters,
        )
    )
    return {
        "user": report.user,
        "folder": report.folder,
        "shell": report.shell,
        "findings": [
            {
                "level": found.level,
                "code": found.code,
                "what": found.what,
                "path": found.path,
                "sentence": found.sentence,
            }
            for found in report.findings
        ],
    }

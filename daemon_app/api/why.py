"""Why a job or a run is as it is, now or at an earlier time."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import why
from daemon_app.api.endpoint import Endpoint
from daemon_app.api.errors import refused
from daemon_app.api.fields import Instant, InstantWord, Strict
from daemon_app.api.glance import iso
from daemon_app.api.schema import answers
from daemon_app.models import Job, Run

# Nothing was recorded before; and each zone can show what comes after.
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)


class WhyQuery(Strict):
    """When."""

    at = InstantWord(
        required=False, help_text="What became of it then, as recorded; now unless given."
    )


class Rule(serializers.Serializer[Any]):
    """One rule and what it says."""

    name = serializers.CharField(help_text="For programs; does not change.")
    label = serializers.CharField()  # type: ignore[assignment] # the rule has one, too
    state = serializers.CharField(help_text="ok, blocked, info (keeps nobody) or unknown.")
    code = serializers.CharField(help_text="What it says, for programs; does not change.")
    sentence = serializers.CharField()
    facts = serializers.DictField()


class Event(serializers.Serializer[Any]):
    """Something that was recorded."""

    at = Instant()
    until = Instant(allow_null=True, help_text="null: it did not last.")
    code = serializers.CharField()
    sentence = serializers.CharField()
    run_id = serializers.IntegerField(allow_null=True)
    facts = serializers.DictField()


class Explanation(serializers.Serializer[Any]):
    """Why something is as it is."""

    state = serializers.CharField(
        help_text="off, broken, over, manual, scheduled, overdue, waiting, running, none (nothing "
        "is recorded), or the final state of a run."
    )
    sentence = serializers.CharField(help_text="Why, in plain words.")
    job_id = serializers.IntegerField()
    run_id = serializers.IntegerField(allow_null=True, help_text="null: it is about no run.")
    next_due_at = Instant(allow_null=True)
    rules = Rule(many=True)
    history = Event(many=True, help_text="What was recorded.")


class WhyJob(Endpoint):
    """Why a job runs, or does not."""

    rights: ClassVar = {"GET": "view"}
    query_class = WhyQuery

    @extend_schema(
        operation_id="why_job",
        summary="Ask why a job runs, or does not",
        tags=["jobs", "why"],
        parameters=[WhyQuery],
        responses=answers({200: Explanation}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return one sentence, and each rule with its reading.

        Of the past comes what was recorded then; where nothing was, it says so.
        """
        at = self.query.get("at")
        if at is not None and at < EARLIEST:
            raise refused({"at": [_t("Give a time since 1970.")]})
        job = get_object_or_404(Job, pk=pk)
        end = why.whole_minute(at, request.query_params["at"]) if at else None
        return Response(told(why.of_job(job, self.now, at=at, end=end)))


class WhyRun(Endpoint):
    """Why a run waits, runs, or ended as it did."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="why_run",
        summary="Ask why a run is as it is",
        tags=["runs", "why"],
        responses=answers({200: Explanation}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return one sentence, and each rule with its reading, or with what was recorded of it."""
        run = get_object_or_404(Run.objects.select_related("job"), pk=pk)
        return Response(told(why.of_run(run, self.now)))


def told(explanation: "why.Explanation") -> dict[str, Any]:
    """Return an explanation as JSON, with names and instants as everywhere here."""
    return {
        "state": explanation.state,
        "sentence": explanation.sentence,
        "job_id": explanation.job_id,
        "run_id": explanation.run_id,
        "next_due_at": iso(explanation.next_due_at),
        "rules": [rule.as_json() for rule in explanation.rules],
        "history": [
            {
                "at": iso(event.at),
                "until": iso(event.until),
                "code": event.code,
                "sentence": event.sentence,
                "run_id": event.run_id,
                "facts": event.as_json()["facts"],
            }
            for event in explanation.history
        ],
    }

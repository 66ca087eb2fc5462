"""How jobs are doing: the table of jobs as the pages show it, and one job in numbers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api.endpoint import Endpoint
from daemon_app.api.fields import Count, Instant
from daemon_app.api.glance import iso
from daemon_app.api.jobs import page_of_jobs
from daemon_app.api.schema import answers
from daemon_app.api.serializers import JobsQuery
from daemon_app.models import Job, Run
from daemon_app.tiles.history import Past, record_of
from daemon_app.tiles.strip import latest_runs

USUAL, MOST = 50, 200
STATES = (
    *("running", "waiting", "paused", "broken", "planned", "never"),
    *(Run.State.SUCCEEDED, Run.State.CANCELLED, Run.State.MISSED, *Run.UNHAPPY),
)
JUDGED = (Run.State.SUCCEEDED, *Run.UNHAPPY)


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class OverviewQuery(JobsQuery):
    """Which jobs, as in their list."""

    limit = Count(min_value=1, max_value=MOST, required=False, help_text=f"{USUAL} unless given.")


class PastRun(serializers.Serializer[Any]):
    """A run, in short."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Run.State.choices)
    started_at = Instant(allow_null=True)
    ended_at = Instant(allow_null=True)
    duration_seconds = serializers.FloatField(allow_null=True, help_text="null: it never began.")


class JobAtAGlance(serializers.Serializer[Any]):
    """How a job is doing."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.ChoiceField(
        choices=STATES,
        help_text="What it does now; else why it rests (paused, broken: its schedule can't be "
        "read); else how its last run ended. planned, never: it has not run yet.",
    )
    schedule_text = serializers.CharField()
    is_active = serializers.BooleanField()
    next_due_at = Instant(allow_null=True, help_text="null: not by itself.")
    active_run_id = serializers.IntegerField(allow_null=True, help_text="What runs or waits.")
    last_run = PastRun(allow_null=True, help_text="The newest that began.")
    success_percent = serializers.IntegerField(
        allow_null=True, help_text="Of those among the last 30 runs that ended; null: none has."
    )
    runs = serializers.ListField(
        child=serializers.ChoiceField(choices=Run.State.choices),
        help_text="The states of the last 30 runs, newest first.",
    )


class Overview(serializers.Serializer[Any]):
    """A page of jobs, and how they are doing."""

    jobs = JobAtAGlance(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class Figures(serializers.Serializer[Any]):
    """How a job has been doing lately."""

    job_id = serializers.IntegerField()
    success_percent = serializers.IntegerField(allow_null=True)
    judged = serializers.IntegerField(help_text="Of so many runs that ended, 30 at most.")
    median_seconds = serializers.FloatField(
        allow_null=True, help_text="Half of those that succeeded took less; null: none did."
    )
    p95_seconds = serializers.FloatField(
        allow_null=True, help_text="95 of 100 took less; null: too few to say."
    )
    longest_seconds = serializers.FloatField(
        allow_null=True, help_text="Of the last 50 that ended, however."
    )
    peak_rss_bytes = serializers.IntegerField(
        allow_null=True, help_text="The most that one of the last 50 used; null: not measured."
    )
    unusual = PastRun(many=True, help_text="Of the last 50, those unusually long or short.")


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
class JobsOverview(Endpoint):
    """The table of jobs."""

    rights: ClassVar = {"GET": "view"}
    query_class = OverviewQuery

    @extend_schema(
        operation_id="list_jobs_at_a_glance",
        summary="List how jobs are doing",
        tags=["jobs"],
        parameters=[OverviewQuery],
        responses=answers({200: Overview}),
    )
    def get(self, request: Request) -> Response:
        """Return jobs with their state, their last runs, and how many of these succeeded."""
        jobs, there = page_of_jobs(request, self.query, self.now, USUAL)
        runs = latest_runs([job.pk for job in jobs])
        told = [_at_a_glance(job, runs.get(job.pk, []), self.now) for job in jobs]
        return Response({"jobs": told, "next": there})


class FiguresOfJob(Endpoint):
    """One job in numbers."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="read_figures",
        summary="Read how a job has been doing",
        tags=["jobs"],
        responses=answers({200: Figures}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return how the newest runs of a job went: how many well, how long, how much memory."""
        record = record_of(get_object_or_404(Job, pk=pk))
        newest = record.runs[:50]
        memory = (run.peak_rss_bytes for run in newest if run.peak_rss_bytes is not None)
        return Response(
            {
                "job_id": pk,
                "success_percent": record.success,
                "judged": record.judged,
                "median_seconds": record.median,
                "p95_seconds": record.p95,
                "longest_seconds": record.longest,
                "peak_rss_bytes": max(memory, default=None),
                "unusual": [_past(run, run.seconds(self.now)) for run in newest if run.unusual],
            }
        )


def _at_a_glance(job: Job, runs: Sequence[Run], now: datetime) -> dict[str, Any]:
    active = [run for run in runs if run.is_active and run.due_at <= now]
    last = next((run for run in runs if run.started_at), None)
    ended = [run.state for run in runs if run.state in JUDGED]
    good = sum(state == Run.State.SUCCEEDED for state in ended)
    taken = last.duration(now) if last else None
    return {
        "id": job.pk,
        "name": job.name,
        "state": _state(job, runs, active),
        "schedule_text": job.describe(),
        "is_active": job.is_active,
        "next_due_at": iso(job.next_due_at if job.is_active else None),
        "active_run_id": active[0].pk if active else None,
        "last_run": _past(last, taken.total_seconds() if taken else None) if last else None,
        "success_percent": round(100 * good / len(ended)) if ended else None,
        "runs": [run.state for run in runs if run.state != Run.State.QUEUED],
    }


def _state(job: Job, runs: Sequence[Run], active: Sequence[Run]) -> str:
    """Return how a job is doing, in the order in which the pages say it."""
    if active:
        is_running = any(run.state == Run.State.RUNNING for run in active)
        return "running" if is_running else "waiting"
    if not job.is_active:
        return "paused"
    if job.schedule_error:
        return "broken"
    # An occurrence that was skipped says nothing of how the job does.
    quiet = (Run.State.SKIPPED, *Run.ACTIVE)
    ended = next((run.state for run in runs if run.state not in quiet), None)
    return ended or ("planned" if job.next_due_at else "never")


def _past(run: Run | Past, seconds: float | None) -> dict[str, Any]:
    return {
        "id": run.pk,
        "state": run.state,
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_seconds": seconds,
    }

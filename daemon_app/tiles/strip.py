"""The last thirty runs of a job, as bars and in words."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import sqrt
from typing import NamedTuple

from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import ends
from daemon_app.models import (
    Job,
    Run,
)

STRIP = 30
PORTION = 5_000  # ids in a question


class Bar(NamedTuple):
    """One run in the strip: where it stands, how tall it is, how it ended."""

    outcome: str
    x: float
    y: float
    height: float
    state: str


OUTCOMES: dict[str, str] = {
    Run.State.SUCCEEDED: "ok",
    Run.State.RUNNING: "run",
    Run.State.FAILED: "fail",
    Run.State.TIMED_OUT: "fail",
    Run.State.LOST: "fail",
    Run.State.MISSED: "warn",
}
STEP, BOTTOM, TALLEST = 152 / STRIP, 24.0, 18.0


def bars(runs: Sequence[Run], now: datetime) -> list[Bar]:
    """Return the bars of at most thirty runs, given newest first, drawn oldest first.

    The height is the square root of the duration, so that one long run does not flatten the rest.
    Failures stand at full height: they must be seen.
    """
    shown = [run for run in runs if run.state != Run.State.QUEUED][:STRIP]
    seconds = [seconds_of(run, now) for run in shown]
    longest = max(seconds, default=0) or 1
    drawn = []
    for place, (run, length) in enumerate(zip(shown, seconds, strict=True)):
        outcome = OUTCOMES.get(run.state, "quiet")
        height = 4 + (TALLEST - 5) * sqrt(length / longest)
        if outcome == "fail":
            height = TALLEST
        elif run.started_at is None:
            height = 4
        drawn.append(
            Bar(
                outcome=outcome,
                x=round((STRIP - 1 - place) * STEP, 2),
                y=round(BOTTOM - height, 1),
                height=round(height, 1),
                state=run.state,
            )
        )
    return drawn[::-1]


def strip_label(drawn: Sequence[Bar]) -> str:
    """Return the strip in words: "Letzte 17 Läufe: 13 fertig, 4 Fehlschlag"."""
    if not drawn:
        return _t("No runs yet")
    counts: dict[str, int] = defaultdict(int)
    for bar in drawn:
        counts[bar.state] += 1
    parts = [f"{counts[state]} {state.label}" for state in Run.State if counts.get(state)]
    head = ngettext("Last run", "Last %(n)s runs", len(drawn)) % {"n": len(drawn)}
    return f"{head}: {', '.join(parts)}"


def usual_seconds(runs: Iterable[Run]) -> float | None:
    """Return the median duration of the runs that succeeded; None with fewer than three."""
    lengths = [
        (run.ended_at - run.started_at).total_seconds()
        for run in runs
        if run.state == Run.State.SUCCEEDED and run.started_at and run.ended_at
    ]
    return statistics.median(lengths) if len(lengths) >= 3 else None


def seconds_of(run: Run, now: datetime) -> float:
    """Return how long a run has taken, or takes by now; 0 before its start."""
    length = run.duration(now)
    return length.total_seconds() if length else 0.0


# What is asked of a run of the past thirty; the rest stays in the database.
REMEMBERED = (
    "job_id",
    "state",
    "due_at",
    "started_at",
    "ended_at",
    "stop_requested_at",
    "stop_requested_by",
    "phase",
    "reason_code",
    "reason_facts",
    "exit_code",
    "signal",
    "last_line",
)


def latest_runs(job_ids: Sequence[int], most: int = STRIP) -> dict[int, list[Run]]:
    """Return the last runs of each job, newest first, in few queries; thirty unless `most` is less.

    Thirty of jobs that had no run since they were asked for last are remembered.
    """
    if not job_ids or most < STRIP:
        return _latest_runs(job_ids, most)
    known, active, turn = ends.kept(job_ids)
    asked = _latest_runs([pk for pk in job_ids if pk not in known])
    ends.keep(asked, turn)
    if active:
        for run in Run.objects.filter(pk__in=active).only(*REMEMBERED).order_by("id"):
            together = sorted([run, *known[run.job_id]], key=lambda each: -each.pk)
            known[run.job_id] = together[:STRIP]
    return known | asked


def newest_runs(job_ids: Sequence[int]) -> dict[int, Run]:
    """Return the newest run of each job that has one; one query for 5,000 jobs."""
    newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id").values("id")[:1]
    found = {}
    for start in range(0, len(job_ids), PORTION):
        jobs = Job.objects.filter(pk__in=job_ids[start : start + PORTION])
        ids = jobs.annotate(newest=Subquery(newest)).values("newest")
        for run in Run.objects.filter(pk__in=ids).only(*REMEMBERED):
            found[run.job_id] = run
    return found


def _latest_runs(job_ids: Sequence[int], most: int = STRIP) -> dict[int, list[Run]]:
    """Return the last runs of each job from the database, in two queries.

    The id of the oldest of them comes from the index alone; a window function would read
    the whole history of every job shown.
    """
    found: dict[int, list[Run]] = {pk: [] for pk in job_ids}
    if not job_ids:
        return found
    newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id").values("id")
    floors = Job.objects.filter(pk__in=job_ids).values_list("pk", Subquery(newest[most - 1 : most]))
    wanted = Q(pk__in=[])
    for pk, floor in floors:
        wanted |= Q(job_id=pk) if floor is None else Q(job_id=pk, id__gte=floor)
    for run in Run.objects.filter(wanted).only(*REMEMBERED).order_by("-id"):
        found[run.job_id].append(run)
    return found

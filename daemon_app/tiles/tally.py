"""What the tab of every page tells: how much needs a person, what runs, what ended well or badly.

Nothing of it is seen: title.js writes the numbers into the title and colours the icon of the tab,
notify.js tells a person who asked for it what went wrong, and what works again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse
from django.utils.translation import gettext as _t

from daemon_app import notices as hints
from daemon_app.models import Job, Run
from daemon_app.tiles.marks import run_mark, why
from daemon_app.tiles.overview import (
    REMEMBERED_FOR,
    SAID_ELSEWHERE,
    current_hints,
    failing_ids,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import active_counts
from daemon_app.tiles.strip import REMEMBERED

MOST_TOLD = 20  # of each kind
TOLD_FOR = timedelta(minutes=10)  # a page that was away for longer finds it on the overview
JUDGED = (Run.State.SUCCEEDED, Run.State.CANCELLED, *Run.UNHAPPY)


@dataclass(frozen=True)
class News:
    """One thing to be told once; `key` is the same wherever it is told."""

    key: str
    title: str
    text: str
    address: str


@region("tally", topics=("runs", "jobs", "alarms", "incidents", "policy", "daemon"))
def tally(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return how many things need a person, how many runs are under way, and the latest news."""
    troubles = [
        hint
        for hint in current_hints(now)
        if hint.level == hints.ERROR and hint.code not in SAID_ELSEWHERE - {"daemon_silent"}
    ]
    failed = _failed(now)
    return {
        "needs": len(failing_ids(now)) + len(troubles),
        "running": active_counts(now)[0],
        "news": [
            *map(_trouble, troubles[:MOST_TOLD]),
            *_failures(failed, now),
            *_recoveries(failed, now),
        ],
    }


class Failed(NamedTuple):
    """A run that ended badly."""

    run: int
    job: int
    ended_at: datetime
    muted_until: datetime | None


def _failed(now: datetime) -> list[Failed]:
    """Return the newest runs that ended badly within a week, of jobs that are not muted.

    Each state has an index of its own; together they would be sorted first.
    """
    found: list[Failed] = []
    wanted = Run.objects.filter(ended_at__isnull=False).order_by("-id")
    asked = wanted.values_list("pk", "job_id", "ended_at", "job__muted_until")
    for state in Run.UNHAPPY:
        found += map(Failed._make, asked.filter(state=state)[:MOST_TOLD])
    return [
        each
        for each in sorted(found, reverse=True)
        if each.ended_at >= now - REMEMBERED_FOR
        and (each.muted_until is None or each.muted_until <= now)
    ]


def _failures(failed: Iterable[Failed], now: datetime) -> list[News]:
    """Return what has failed in the last minutes, the newest first."""
    lately = [each.run for each in failed if each.ended_at >= now - TOLD_FOR]
    asked = (*REMEMBERED, "job_name", "blocking_run_id")
    runs = Run.objects.filter(pk__in=lately).only(*asked).order_by("-id") if lately else ()
    return [_failure(run) for run in runs]


def _recoveries(failed: Iterable[Failed], now: datetime) -> list[News]:
    """Return which of the jobs that failed lately have succeeded since, in the last minutes."""
    last = {each.job: each.run for each in reversed([*failed])}
    ends = Run.objects.filter(job=OuterRef("pk"), state__in=JUDGED).order_by("-id")
    newest = Job.objects.filter(pk__in=last).annotate(end=Subquery(ends.values("pk")[:1]))
    good = Q(state=Run.State.SUCCEEDED, ended_at__gte=now - TOLD_FOR)
    asked = Run.objects.filter(good, pk__in=newest.values_list("end", flat=True))
    runs = list(asked.defer("definition").order_by("-id"))
    new = _first_successes({run.job_id: last[run.job_id] for run in runs}, now)
    return [
        News(
            key=f"good-{last[run.job_id]}",
            title=_t("%(job)s works again") % {"job": run.job_name},
            text=_t("Run %(n)s has succeeded.") % {"n": run.pk},
            address=reverse("run", args=[run.pk]),
        )
        for run in runs
        if run.job_id in new
    ]


def _first_successes(last: dict[int, int], now: datetime) -> set[int]:
    """Return the jobs whose first success after their `last` failure is only minutes old."""
    first = Q(pk__in=[])
    for job_id, failure in last.items():
        after = Run.objects.filter(job_id=job_id, pk__gt=failure, state=Run.State.SUCCEEDED)
        first |= Q(pk__in=after.order_by("id").values("pk")[:1])
    found = Run.objects.filter(first, ended_at__gte=now - TOLD_FOR) if last else Run.objects.none()
    return set(found.values_list("job_id", flat=True))


def _failure(run: Run) -> News:
    return News(
        key=f"bad-{run.pk}",
        title=f"{run.job_name}: {run_mark(run).word}",
        text=" ".join(filter(None, [why(run), run.last_line])),
        address=reverse("run", args=[run.pk]),
    )


def _trouble(hint: hints.Notice) -> News:
    since = int(hint.since.timestamp()) if hint.since else 0
    return News(
        key=f"trouble-{hint.code}-{hint.job_id or ''}-{since}",
        title=hint.title,
        text=hint.text,
        address=reverse("overview"),
    )

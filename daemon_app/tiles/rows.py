"""Jobs and runs as lists show them, and what chooses them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from urllib.parse import parse_qs, urlencode

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import formats
from daemon_app.models import (
    Job,
    Policy,
    Run,
)
from daemon_app.tiles.instant import once
from daemon_app.tiles.marks import Mark, run_mark, why
from daemon_app.tiles.regions import Context, current_language, number_in
from daemon_app.tiles.strip import Bar, bars

MAX_SEARCH = 80
MOST_PAGES = 1_000_000  # an offset beyond what a database counts is an error


@dataclass(frozen=True)
class Filter:
    """What a list shows, as it stands in the address.

    until   the newest run the page knew when it was opened
    below   where a search through older runs goes on
    brief   whether a page shows other things, too, and fewer rows
    """

    state: str = ""
    job: int | None = None
    trigger: str = ""
    time: str = ""
    q: str = ""
    page: int = 1
    until: int | None = None
    below: int | None = None
    brief: bool = False

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Return the filter that a query string says; what makes no sense is left out."""
        if text and len(text) > 600:
            text = ""
        found = {key: values[-1] for key, values in parse_qs(text or "").items()}
        return cls(
            state=found.get("state", ""),
            job=number_in(found.get("job")),
            trigger=found.get("trigger", ""),
            time=found.get("time", "")[:10],
            q=" ".join(found.get("q", "").replace("\0", "").split())[:MAX_SEARCH],
            page=min(number_in(found.get("page")) or 1, MOST_PAGES),
            until=number_in(found.get("until")),
            below=number_in(found.get("below")),
            brief=found.get("brief") == "1",
        )

    def query(self, **changes: object) -> str:
        """Return the query string of this filter with `changes`; a new filter begins on page 1."""
        words = {
            "state": self.state,
            "job": self.job,
            "trigger": self.trigger,
            "time": self.time,
            "q": self.q,
            "page": self.page if self.page > 1 else None,
            "until": self.until,
            "below": self.below,
            "brief": "1" if self.brief else None,
        }
        if "page" not in changes:
            words["page"] = words["below"] = None
        return urlencode({key: value for key, value in (words | changes).items() if value})

    @property
    def is_narrow(self) -> bool:
        """Whether anything is left out by choice."""
        return bool(self.state or self.job or self.trigger or self.time or self.q)


@dataclass(frozen=True)
class Tab:
    """One choice of a filter."""

    label: str
    count: int | None
    query: str
    current: bool


def pager(wanted: Filter, page: int, pages: int) -> Context:
    """Return the page and the queries of those before and after it."""
    return {
        "page": page,
        "pages": pages,
        "earlier": wanted.query(page=page - 1) if page > 1 else None,
        "later": wanted.query(page=page + 1) if page < pages else None,
    }


@dataclass(frozen=True)
class JobRow:
    """A job as a table shows it."""

    job: Job
    mark: Mark
    bars: list[Bar]
    active: Run | None
    last: Run | None = None  # the newest that began
    success: int | None = None  # per cent of the thirty newest that ended


def job_row(job: Job, runs: Sequence[Run], now: datetime) -> JobRow:
    """Return a job with its state, its strip and its active run."""
    active = next((run for run in runs if run.is_active and run.due_at <= now), None)
    last = next((run for run in runs if run.started_at), None)
    ended = [run.state for run in runs if run.state in (Run.State.SUCCEEDED, *Run.UNHAPPY)]
    good = sum(state == Run.State.SUCCEEDED for state in ended)
    success = round(100 * good / len(ended)) if ended else None
    return JobRow(job, job_mark(job, runs, now), bars(runs, now), active, last, success)


def job_mark(job: Job, runs: Sequence[Run], now: datetime) -> Mark:
    """Return how a job is doing: what it does now, else why it rests, else how it ended last."""
    active = [run for run in runs if run.is_active and run.due_at <= now]
    for state in (Run.State.RUNNING, Run.State.QUEUED):
        for run in active:
            if run.state == state:
                return run_mark(run)
    if not job.is_active:
        return Mark(_t("Paused"), "pause", "is-quiet")
    if job.schedule_error:
        return Mark(_t("Broken"), "triangle-alert", "is-warn")
    # A skipped occurrence says nothing about how the job does.
    ended = next(
        (run for run in runs if not run.is_active and run.state != Run.State.SKIPPED), None
    )
    if ended is not None:
        return run_mark(ended)
    if job.next_due_at:
        return Mark(_t("Planned"), "clock", "is-quiet", calm=True)
    return Mark(_t("Never run"), "clock", "is-quiet", calm=True)


@dataclass(frozen=True)
class RunRow:
    """A run as a table shows it."""

    run: Run
    mark: Mark
    heading: str | None
    seconds: float | None
    why: str
    unusual: str = ""  # in words


def run_rows(runs: Iterable[Run], now: datetime, *, headings: bool = False) -> list[RunRow]:
    """Return runs as rows; the first of each day with its heading, if wanted."""
    here, language = timezone.get_current_timezone(), current_language()
    rows, last = [], ""
    for run in runs:
        heading = formats.day_heading(run.started_at or run.due_at, now, here, language)
        length = run.duration(now)
        rows.append(
            RunRow(
                run,
                run_mark(run),
                heading if headings and heading != last else None,
                length.total_seconds() if length and run.ended_at else None,
                why(run),
                str(Run.Unusual(run.unusual).label) if run.unusual else "",
            )
        )
        last = heading
    return rows


@dataclass(frozen=True)
class Now:
    """A running run as the overview shows it."""

    run: Run
    mark: Mark
    usual: float | None  # seconds, by its job's past runs
    ready_at: datetime | None
    attempts: int  # that it may make in all

    @property
    def is_measured(self) -> bool:
        """Whether the command itself has said how far it is."""
        return self.run.progress is not None


def now_of(run: Run, usual: float | None, retries: object, now: datetime) -> Now:
    """Return a running run with how long it may still take."""
    left = run.eta(now, None if usual is None else timedelta(seconds=usual))
    ready_at = None if left is None else now + left
    return Now(run, run_mark(run), usual, ready_at, int(str(retries or 0)) + 1)


def upcoming_jobs() -> QuerySet[Job]:
    """Return the jobs that start next, by time."""
    return Job.objects.active().filter(next_due_at__isnull=False).order_by("next_due_at", "id")


def running_runs() -> QuerySet[Run]:
    """Return what runs, newest first."""
    return Run.objects.running().order_by("-id")


def waiting_runs(now: datetime) -> QuerySet[Run]:
    """Return the line in the order of start."""
    # Occurrences are prepared a moment before they are due; those do not wait yet.
    return Run.objects.queued().filter(due_at__lte=now).order_by("-priority", "due_at", "id")


@once
def rules(now: datetime) -> Policy:  # noqa: ARG001 - all of one instant share the answer
    """Return the rules in force."""
    return Policy.current()


@once
def active_counts(now: datetime) -> tuple[int, int]:
    """Return how many runs run, and how many wait."""
    return running_runs().count(), waiting_runs(now).count()

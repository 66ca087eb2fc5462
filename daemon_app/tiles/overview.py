"""The overview: how things stand, what needs a person, what runs, and what comes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from django.db.models import QuerySet
from django.db.models.fields.json import KT

from daemon_app import admission, gauges, idleness
from daemon_app import notices as hints
from daemon_app.ends import End, bad_ends, suspects
from daemon_app.models import (
    Job,
    Run,
)
from daemon_app.tiles.instant import once
from daemon_app.tiles.marks import run_mark, why
from daemon_app.tiles.regions import Context, Viewer, number_in, region
from daemon_app.tiles.rows import (
    active_counts,
    now_of,
    rules,
    running_runs,
    upcoming_jobs,
)
from daemon_app.tiles.strip import STRIP, latest_runs, usual_seconds
from daemon_app.tiles.writing import last_line_of

MOST_RUNNING, MOST_WAITING = 20, 10
MOST_NOTICES = 3
MOST_NAMED = 8  # jobs that fail, in one notice
REMEMBERED_FOR = timedelta(days=7)


@region("situation", topics=("daemon", "runs", "jobs", "policy", "health", "presence"))
def situation(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what one sentence says: who has the right of way, is somebody scheduling, what runs.

    It speaks of idleness where that is known or where a job heeds it.
    """
    node, policy = gauges.host(now), rules(now)
    running_count, waiting_count = active_counts(now)
    return {
        "node": node,
        "alive": node is not None and node.is_alive(now),
        "idleness": idleness.current(node, now),
        "said": idleness.said(policy, now),
        "policy": policy,
        "running": running_count,
        "waiting": waiting_count,
        "next": upcoming_jobs()[:1].first(),
        "jobs": Job.objects.filter(skill="").exists(),
        "active": Job.objects.active().exists(),
        "failing": 0 if waiting_count or running_count else len(failing_ids(now)),
    }


@dataclass(frozen=True)
class Notice:
    """A job that needs a person: its newest run ended badly, and none succeeded since."""

    job: Job
    run: Run | None = None
    in_a_row: int = 0

    @property
    def cause(self) -> str:
        """Why the last run failed; what it wrote last, where it says nothing else."""
        assert self.run is not None
        return " ".join(filter(None, [why(self.run), self.run.last_line]))

    @property
    def in_a_row_text(self) -> str:
        """How often, as far as thirty runs tell."""
        return f"{STRIP}+" if self.in_a_row >= STRIP else str(self.in_a_row)


# What the head of the page says already, or the notice of a failing job says better.
SAID_ELSEWHERE = {"held", "daemon_away", "daemon_silent"}
TONES = {"error": "is-fail", "warn": "is-warn", "info": "is-quiet"}


@dataclass(frozen=True)
class Hint:
    """One thing a person should know: an alarm, what can't work, what happened, or who fails."""

    key: str
    tone: str
    hint: hints.Notice | None = None
    failing: Notice | None = None
    many: list[Notice] = field(default_factory=list)  # more jobs than are told one by one
    count: int = 0  # of them, with those that are not named

    @property
    def is_calm(self) -> bool:
        """Whether it tells what happened, and holds nothing up."""
        return bool(self.hint and self.hint.incident_id and self.hint.level != hints.ERROR)


@region("notices", topics=("runs", "jobs", "alarms", "incidents", "policy", "daemon"))
def notices(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what needs a person: three in view, the worst first, the others behind a fold.

    Jobs that fail come after what keeps the daemon itself from working; many of them are one.
    """
    failing = failing_ends(now)
    known = Job.objects.in_bulk([*failing][: MOST_NAMED + 1])
    jobs = [known[pk] for pk in failing if pk in known]
    failed = {("configs_bad", job.pk) for job in jobs}  # the job that fails says what it found
    told = [
        hint
        for hint in current_hints(now)
        if hint.code not in SAID_ELSEWHERE and (hint.code, hint.job_id) not in failed
    ]
    bad = [hint for hint in told if hint.level == hints.ERROR]
    mild = [hint for hint in told if hint.level != hints.ERROR]
    sick = _failing({job: failing[job.pk] for job in jobs[:MOST_NAMED]})
    if len(sick) > MOST_NOTICES:
        of_jobs = [Hint("jobs", "is-fail", many=sick, count=len(failing))]
    else:
        of_jobs = [Hint(f"job-{each.job.pk}", "is-fail", failing=each) for each in sick]
    shown = [*map(_hint, bad), *of_jobs, *map(_hint, mild)]
    return {"hints": shown[:MOST_NOTICES], "others": shown[MOST_NOTICES:]}


@once
def failing_ends(now: datetime) -> dict[int, End]:
    """Return the jobs that a person should look at with their last ends, the newest at first.

    One bad end counts for a week, several in a row until one succeeds. A job that was switched off
    has been looked at, and so has a failure that somebody has seen, or muted.
    """
    ends = suspects()
    if ends is None:  # inside a transaction
        ends = bad_ends()
    standing = {
        pk: end
        for pk, end in ends.items()
        if end.state in Run.UNHAPPY
        and (
            end.before in Run.UNHAPPY
            or (end.ended_at is not None and end.ended_at >= now - REMEMBERED_FOR)
        )
    }
    jobs = Job.objects.active().filter(pk__in=standing).order_by()
    found = {
        pk: standing[pk]
        for pk, muted, seen in jobs.values_list("pk", "muted_until", "seen_failure")
        if (muted is None or muted <= now) and (seen is None or seen < standing[pk].run)
    }
    return dict(sorted(found.items(), key=lambda each: -each[1].run))


def failing_ids(now: datetime) -> list[int]:
    """Return the ids of these jobs, the one whose run failed last at first."""
    return [*failing_ends(now)]


current_hints = once(hints.current)


def _hint(hint: hints.Notice) -> Hint:
    key = f"incident-{hint.incident_id}" if hint.incident_id else hint.code
    key += f"-{hint.job_id}" if hint.job_id else ""
    key += f"-{hint.jobs[0][0]}" if hint.jobs else ""
    return Hint(key, TONES.get(hint.level, "is-warn"), hint=hint)


def _failing(jobs: Mapping[Job, End]) -> list[Notice]:
    """Return how often jobs have failed since their last success; what never ran doesn't count."""
    for job, end in jobs.items():
        # It stays as it is until one more ends, and that is another `End`.
        if end.row is None:
            ends = (
                _judged_runs().filter(job=job, pk__lte=end.run).values_list("id", "state")[:STRIP]
            )
            end.row = [pk for pk, _state in takewhile(lambda each: each[1] in Run.UNHAPPY, ends)]
    wanted = [end.row[0] for end in jobs.values() if end.row]
    last = Run.objects.defer("definition").in_bulk(wanted)
    return [
        Notice(job, run=last[end.row[0]], in_a_row=len(end.row))
        for job, end in jobs.items()
        # It may have been tidied away since.
        if end.row and end.row[0] in last
    ]


def _judged_runs() -> QuerySet[Run]:
    states = (Run.State.SUCCEEDED, Run.State.CANCELLED, *Run.UNHAPPY)
    return Run.objects.filter(state__in=states).order_by("-id")


@region("running", topics=("runs", "policy"))
def running(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what runs, how far it is, and what waits, with place and reason."""
    retries = KT("definition__max_retries")
    shown = list(running_runs().defer("definition").annotate(retries=retries)[:MOST_RUNNING])
    waiting_count = active_counts(now)[1]
    waiting = admission.line(now, MOST_WAITING) if waiting_count else []
    history = latest_runs(sorted({run.job_id for run in shown}))
    return {
        "runs": [
            now_of(run, usual_seconds(history[run.job_id]), run.retries, now) for run in shown
        ],
        "waiting": [(each, run_mark(each.run)) for each in waiting],
        "running_count": len(shown) if len(shown) < MOST_RUNNING else active_counts(now)[0],
        "waiting_count": waiting_count,
        "last": None
        if shown or waiting
        else Run.objects.filter(ended_at__isnull=False, started_at__isnull=False)
        .defer("definition")
        .order_by("-id")
        .first(),
    }


@region("last-line", topics=("log:{arg}", "run:{arg}"))
def last_line(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the line a running command wrote last; read from its file, without the database."""
    number = number_in(arg)
    if number is None:
        return None
    return {"line": last_line_of(number)}


@region("next", topics=("jobs", "runs", "policy"))
def next_runs(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the jobs that start next."""
    return {"jobs": list(upcoming_jobs()[:6]), "held": rules(now).is_held}

"""One job: how it does, when it runs next, and its runs."""

import os
import pwd
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from django.utils.translation import gettext as _t

from daemon_app import gates, runner, supervisor
from daemon_app.gates.conditions import Conditions
from daemon_app.models import (
    Change,
    Displacement,
    Job,
    Pool,
    Run,
)
from daemon_app.schedules import ScheduleError
from daemon_app.tiles.changes import change_rows
from daemon_app.tiles.history import (
    MOST_NAMED,
    SHOWN,
    lengths_chart,
    memory_chart,
    record_of,
    standouts,
)
from daemon_app.tiles.pauses import picks
from daemon_app.tiles.regions import Context, Viewer, current_language, number_in, region
from daemon_app.tiles.rows import job_row, rules, run_rows
from daemon_app.tiles.strip import latest_runs

MOST_COUNTED = 1_000  # beyond it is said "more than"
MOST_CHANGES = 10
AHEAD, SOON = 20, 8  # times that are told, and of those without being asked
CLOCKS_ARE_SET_NEAR = timedelta(hours=2)


@region("job-head", topics=("job:{arg}", "runs", "policy", "incidents", "presence", "health"))
def job_head(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return a job's state and its next times; None when it was deleted."""
    job = job_of(arg)
    if job is None:
        return None
    runs = latest_runs([job.pk]).get(job.pk, [])
    return {
        "job": job,
        "row": job_row(job, runs, now),
        "has_choice": has_choice(job, now),
        "troubles": _troubles(job),
        "held": rules(now).is_held,
        "picks": picks(now),
        "is_muted": job.muted_until is not None and job.muted_until > now,
    }


def has_choice(job: Job, now: datetime) -> bool:
    """Return whether a start now differs from one "all the same", which makes way for nobody."""
    if job.only_when_idle or job.on_presence != Job.Presence.CONTINUE:
        return True
    return gates.closed(job.needs(), Conditions.current(now)) is not None


@dataclass(frozen=True)
class Trouble:
    """Why a job can't start, or was switched off, and what to do about it."""

    tone: str
    words: str
    incident_id: int | None = None


def _troubles(job: Job) -> list[Trouble]:
    sizes = Pool.sizes()
    found = []
    for pool, need in sorted(job.pools.items()):
        size = sizes.get(pool)
        if size is None:
            words = _t("It can never start: there is no pool “%(pool)s” any more.")
        elif need > size:
            words = _t("It can never start: it needs %(need)s of pool “%(pool)s”, which has %(n)s.")
        else:
            continue
        found.append(Trouble("is-fail", words % {"pool": pool, "need": need, "n": size}))
    # The same is said of the pools as they are now, not as they were.
    incidents = job.incidents.filter(acknowledged_at=None).exclude(code="impossible")
    found += [
        Trouble("is-warn", str(incident), incident.pk)
        for incident in incidents.order_by("-at", "-id")[:3]
    ]
    return found


@region("job-facts", topics=("job:{arg}", "runs", "daemon"))
def job_facts(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return how a job has been doing: its last runs in numbers and bars, what stands out."""
    job = job_of(arg)
    if job is None:
        return None
    record = record_of(job)
    told = standouts(record, now)
    ended = [each for each in told if not each.is_running]
    counted = Run.objects.filter(job=job).order_by()[: MOST_COUNTED + 1].count()
    return {
        "job": job,
        "record": record,
        "charts": {"lengths": lengths_chart(record, now), "memory": memory_chart(record)},
        "shown": min(len(record.runs), SHOWN),
        "now_long": [each for each in told if each.is_running],
        "standouts": ended[:MOST_NAMED],
        "more_standouts": len(ended[MOST_NAMED:]),
        "total": min(counted, MOST_COUNTED),
        "is_more": counted > MOST_COUNTED,
        "made_way": _made_way(job),
    }


def _made_way(job: Job) -> tuple[int, float | None]:
    """Return how often runs of a job made way, up to MOST_COUNTED, and how fast they did lately."""
    of_job = Displacement.objects.filter(job_id=job.pk).order_by("-id")
    times = list(of_job.values_list("yielded_seconds", flat=True)[:MOST_COUNTED])
    lately = [seconds for seconds in times[:SHOWN] if seconds is not None]
    return len(times), median(lately) if lately else None


@region("job-next", topics=("job:{arg}", "policy"))
def job_next(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the next times of a job with their distance, and what may surprise of them."""
    job = job_of(arg)
    if job is None:
        return None
    times, warnings = _ahead(job, now)
    return {
        "job": job,
        "times": times[:SOON],
        "later": times[SOON:],
        "warnings": warnings,
        "held": rules(now).is_held,
    }


@dataclass(frozen=True)
class Time:
    """A time at which a job is due; `remark` when clocks are set just then."""

    at: datetime
    remark: str = ""


def _ahead(job: Job, now: datetime) -> tuple[list[Time], list[str]]:
    """Return when a job starts next, up to its deadline, and what may surprise.

    One that is paused starts from the end of its pause on; one switched off, never by itself.
    """
    since = now
    if not job.is_active:
        if job.paused_until is None:
            return [], []
        since = max(now, job.paused_until - timedelta(microseconds=1))
    if job.skill or job.schedule_error:
        return [], []
    language = current_language()
    try:
        plan = job.plan
        found = [
            at
            for at in plan.upcoming(since, AHEAD, anchor=job.anchor)
            if job.deadline is None or at <= job.deadline
        ]
        warnings = plan.warnings(now)
    except ScheduleError:
        return [], []
    remarks = {each.at: each.sentence(language) for each in warnings if each.at}

    def remark(at: datetime) -> str:
        near = (said for when, said in remarks.items() if abs(at - when) <= CLOCKS_ARE_SET_NEAR)
        return next(near, "")

    return [Time(at, remark(at)) for at in found], [each.sentence(language) for each in warnings]


@region("job-command", topics=("job:{arg}",))
def job_command(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return what exactly a job runs: command, folder, user, names of variables, limits."""
    job = job_of(arg)
    if job is None:
        return None
    own = [*job.environment, *(f"BACH_PARAM_{name.upper()}" for name in job.parameters)]
    try:
        words = [] if job.skill else runner.command_line(job.definition())
    except ValueError:  # a quotation mark is not closed
        words = []
    return {
        "job": job,
        "words": shlex.join(words),
        "shell": words[0] if words and job.use_shell and not job.script_path else "",
        "folder": os.path.expanduser(job.working_directory or "~"),  # noqa: PTH111 - as the runner does
        "user": _user(),
        "own": own,
        "given": sorted(runner.inherited()),
        "umask": f"{supervisor.UMASK:03o}",
    }


def _user() -> str:
    """Return as whom commands run: whoever runs the program."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@region("job-changes", topics=("job:{arg}",))
def job_changes(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the newest changes of a job."""
    job = job_of(arg)
    if job is None:
        return None
    found = list(Change.objects.of_jobs(job.pk)[: MOST_CHANGES + 1])
    return {
        "job": job,
        "rows": change_rows(found[:MOST_CHANGES], now),
        "more": len(found) > MOST_CHANGES,
    }


@region("job-runs", topics=("job:{arg}", "runs"))
def job_runs(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the newest runs of a job."""
    job = job_of(arg)
    if job is None:
        return None
    found = list(Run.objects.filter(job=job).order_by("-id")[:16])
    return {"job": job, "rows": run_rows(found[:15], now), "more": len(found) > 15}


def job_of(arg: str | None) -> Job | None:
    """Return the job of this number; None when there is none."""
    number = number_in(arg)
    return Job.objects.filter(pk=number).first() if number else None

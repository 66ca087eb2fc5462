"""One job: how it does, when it runs next, and its runs."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _t

from daemon_app import gates
from daemon_app.gates.conditions import Conditions
from daemon_app.models import (
    Job,
    Policy,
    Pool,
    Run,
)
from daemon_app.models.presence import yield_times
from daemon_app.tiles.regions import Context, Viewer, number_in, region
from daemon_app.tiles.rows import job_row, run_rows
from daemon_app.tiles.strip import bars, latest_runs, seconds_of


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
        "held": Policy.current().is_held,
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


@region("job-facts", topics=("job:{arg}", "runs"))
def job_facts(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return how a job has been doing: the last thirty runs in numbers and bars."""
    job = job_of(arg)
    if job is None:
        return None
    runs = latest_runs([job.pk]).get(job.pk, [])
    judged = [run for run in runs if run.state in (Run.State.SUCCEEDED, *Run.UNHAPPY)]
    good = sum(run.state == Run.State.SUCCEEDED for run in judged)
    lengths = [seconds_of(run, now) for run in runs if run.started_at and run.ended_at]
    usual = job.median_duration()
    return {
        "job": job,
        "bars": bars(runs, now),
        "success": round(100 * good / len(judged)) if judged else None,
        "judged": len(judged),
        "median": usual.total_seconds() if usual else None,
        "longest": max(lengths, default=None),
        "total": Run.objects.filter(job=job).count(),
        "made_way": yield_times(job_id=job.pk),
    }


@region("job-next", topics=("job:{arg}", "runs", "policy"))
def job_next(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the next five times of a job."""
    job = job_of(arg)
    if job is None:
        return None
    times = job.upcoming(now) if job.is_active else []
    return {"job": job, "times": times, "held": Policy.current().is_held}


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

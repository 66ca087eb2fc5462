"""Why a job or a run is as it is: one plain sentence, then every rule with its reading.

    why.of_job(job, now)               # live: what keeps it, or what it does
    why.of_run(run, now)               # live while it waits or runs, else what was recorded
    why.of_job(job, now, at=three)     # what became of the occurrence at, or before, that instant

What is said of now is read now. What is said of the past comes from the rows that were written
then, and where nothing was written it says so: nothing is worked out afterwards.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta

from daemon_app import admission
from daemon_app.models import Job, Run
from daemon_app.models.run import ON_TIME
from daemon_app.why import live, past
from daemon_app.why.answers import BLOCKED, INFO, OK, UNKNOWN, Event, Explanation, Rule
from daemon_app.why.words import joined, say

__all__ = [
    "BLOCKED",
    "INFO",
    "OK",
    "UNKNOWN",
    "Event",
    "Explanation",
    "Rule",
    "of_job",
    "of_run",
    "whole_minute",
]


def of_job(
    job: Job, now: datetime, at: datetime | None = None, *, end: datetime | None = None
) -> Explanation:
    """Return why `job` does not run, or does; with `at`, what became of it then.

    While runs of it are active, the first that waits is explained, or else the newest that runs.
    With `end`, `at` stands for all the time until then: for a whole minute.
    """
    if at is not None and at <= now:
        return _then(job, now, at, min(end or at, now))
    active = Run.objects.active_of(job.pk)
    waiting = active.queued().filter(due_at__lte=now).order_by(*admission.IN_ORDER).first()
    run = waiting or active.running().order_by("-id").first()
    found = of_run(run, now) if run else live.of_quiet_job(live.Scene(job, None, now))
    if at is None:
        return found
    return replace(found, sentence=joined(say(now, "to_come", at=at), found.sentence))


def whole_minute(at: datetime, written: str) -> datetime | None:
    """Return the end of the minute that somebody named without its seconds; None with seconds."""
    if at.second or at.microsecond or not MINUTE.fullmatch(written.strip()):
        return None
    return at + timedelta(minutes=1) - timedelta.resolution


# In a query string the plus before an offset may have become a blank.
MINUTE = re.compile(r"(?:[\d-]+[T ])?\d\d:?\d\d(?:[Zz]|[+ -]\d\d:?\d\d)?")


def of_run(run: Run, now: datetime) -> Explanation:
    """Return why `run` waits, runs, or ended as it did."""
    if run.state == Run.State.QUEUED:
        return live.of_waiting_run(live.Scene(run.job, run, now))
    if run.state == Run.State.RUNNING:
        return live.of_running_run(live.Scene(run.job, run, now))
    return past.of_ended_run(run, now)


def _then(job: Job, now: datetime, at: datetime, end: datetime) -> Explanation:
    """Explain what became of the occurrence at `at`, or of the last one before it."""
    run = past.occurrence(job, end)
    if run is None:
        return past.of_nothing(job, now, at, end)
    found = of_run(run, now)
    if run.state not in Run.ACTIVE:
        if run.due_at > end or (end - run.due_at < ON_TIME and past.is_plain(run)):
            return found
        return replace(found, sentence=joined(past.state_at(run, at, now, end), found.sentence))
    # What it does now is another matter, and so are the readings of now.
    told = past.state_at(run, at, now, end)
    if now - end >= ON_TIME:
        told = joined(told, say(now, "by_now", why=found.sentence.rstrip(".")))
    else:
        told = joined(told, found.sentence)
    return replace(found, sentence=told, rules=past.recorded(run, now))

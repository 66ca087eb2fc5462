"""Jobs and runs for tests, in a line."""

from datetime import UTC, datetime
from typing import Any

from daemon_app.models import Job, Run

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def job(name: str = "backup", *, now: datetime = NOON, **fields: Any) -> Job:
    """Return a stored job; by default one that is started by hand and prints a word."""
    wanted = {"job_type": "manual", "command": "echo hi", "timezone": "Europe/Berlin", **fields}
    return Job(name=name, **wanted).store(now=now, by="anna")


def run(of: Job | None = None, *, now: datetime = NOON, **fields: Any) -> Run:
    """Return a queued run as a start by hand leaves it."""
    of = of or job(f"job-{Job.objects.count() + 1}")
    wanted = {
        "job_name": of.name,
        "trigger": Run.Trigger.MANUAL,
        "due_at": now,
        "definition": of.definition(),
        "state": Run.State.QUEUED,
        "queued_at": now,
        "submitted_at": now,
        **fields,
    }
    return Run.objects.create(job=of, **wanted)

"""What the beat costs: `python bench/beat.py`, lines of name, tab, value, tab, goal.

With 10,000 and 100,000 jobs of which none is due; and the storm: 10,000 jobs due at the same
second, on the real stack, with a job every second that has to get through meanwhile.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

STORM = 10_000


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        print(alone(int(sys.argv[1])))
        return
    for jobs in (10_000, 100_000):
        # Each in a process of its own: settings name one data folder.
        told = subprocess.run(
            [sys.executable, __file__, str(jobs)], capture_output=True, text=True, check=True
        )
        print(f"beat with {jobs} jobs, nothing due\t{told.stdout.strip()}\tp50 ≤ 5 ms", flush=True)
    for name, value, goal in storm():
        print(f"{name}\t{value}\t{goal}", flush=True)


def fill(jobs: int, due: datetime) -> None:
    """Write `jobs` jobs that are due at `due` once, quicker than one by one."""
    from daemon_app.models import Job

    now = datetime.now(UTC)
    Job.objects.bulk_create(
        (
            Job(
                name=f"job {n}",
                job_type="once",
                schedule=due.strftime("%Y-%m-%d %H:%M:%S"),
                timezone="UTC",
                command="true",
                anchor=now,
                created_at=now,
                updated_at=now,
                next_due_at=due,
                priority=n % 7,
            )
            for n in range(jobs)
        ),
        batch_size=500,
    )


# ── Nothing due ──────────────────────────────────────────────────────────────────────────────────
def alone(jobs: int) -> str:
    """Return what one beat costs that finds nothing to do."""
    folder = Path(tempfile.mkdtemp(prefix="bach-bench-", dir="/tmp"))
    try:
        os.environ |= {"BACH_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
        import django

        django.setup()
        from django.core.management import call_command

        from daemon_app import scheduler

        call_command("migrate", verbosity=0)
        fill(jobs, datetime.now(UTC) + timedelta(days=1))
        took = []
        for _ in range(200):
            begun = time.perf_counter()
            now = datetime.now(UTC)
            scheduler.tick(now)
            scheduler.next_wake(now)
            took.append((time.perf_counter() - begun) * 1000)
        return f"{statistics.median(took):.2f} / {max(took):.2f} ms p50 / max"
    finally:
        shutil.rmtree(folder)


# ── All at once ──────────────────────────────────────────────────────────────────────────────────
def storm() -> Iterator[tuple[str, str, str]]:
    """Yield what 10,000 jobs of the same second do to a stack."""
    from tests.stack import Stack

    stack = Stack()
    stack.env["BACH_MAX_PARALLEL"] = "8"
    os.environ.update({k: v for k, v in stack.env.items() if k.startswith("BACH_")})
    os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"
    stack.start()
    try:
        import django

        django.setup()
        from daemon_app.models import Job, Run

        now = datetime.now(UTC)
        due = (now + timedelta(seconds=15)).replace(microsecond=0)
        Job(name="probe", job_type="interval", schedule="1s", command="true", priority=100).store(
            now=now, by="bench"
        )
        fill(STORM, due)
        wait_until(due - timedelta(seconds=1))
        rows = Run.objects.filter(due_at=due, job__name__startswith="job ")
        while rows.count() < STORM:
            time.sleep(0.05)
        last = rows.latest("queued_at").queued_at
        yield (
            f"{STORM} jobs due at once: last row written after",
            f"{max((last - due).total_seconds(), 0):.1f} s (first {_first(rows, due):+.1f} s)",
            "≤ 5 s",
        )
        while Run.objects.queued().count():
            time.sleep(0.5)
        done = Run.objects.filter(due_at=due, job__name__startswith="job ")
        order = list(done.order_by("started_at", "id").values_list("priority", flat=True))
        misplaced = sum(1 for before, after in pairwise(order) if after > before)
        probes = Run.objects.filter(job__name="probe", due_at__gte=due).exclude(state="queued")
        moments = probes.values_list("due_at", "started_at", "ended_at")
        late = [(started or ended or due) - due for due, started, ended in moments]
        yield (
            "    a job of every second meanwhile, late by at most",
            f"{max(late).total_seconds():.2f} s ({probes.filter(state='skipped').count()} skipped)",
            "< 2 s",
        )
        ends = done.exclude(ended_at=None).values_list("ended_at", flat=True)
        seconds = (max(end for end in ends if end) - due).total_seconds()
        yield "    all run after", f"{seconds:.0f} s, {STORM / seconds:.0f} runs/s", ""
        yield "    started before one of higher priority that waited", str(misplaced), ""
    finally:
        stack.close()


def _first(rows: "object", due: datetime) -> float:
    first = rows.earliest("queued_at").queued_at  # type: ignore[attr-defined]
    return (first - due).total_seconds()  # type: ignore[no-any-return]


def wait_until(at: datetime) -> None:
    """Sleep until `at`."""
    time.sleep(max((at - datetime.now(UTC)).total_seconds(), 0))


if __name__ == "__main__":
    main()

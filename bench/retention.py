"""What tidying costs others: `python -m bench.retention`, lines of name, tab, value.

200,000 runs of 50 jobs, of which 100,000 are to go; 10,000 of them have folders. Measured are the
transactions (with the checkpoint that follows some, when the lock is free again), how long one call
holds the beat, and, by a process of its own, how long somebody else waits for the lock meanwhile.
"""

import argparse
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon_app.retention import Tidier

JOBS, RUNS, FOLDERS, STAY = 50, 200_000, 10_000, 1_000
KEEP_OUTPUT_MB = 20
PACED = 150  # steps with the pauses that they ask for; the rest goes without


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=RUNS)
    options = asked.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bach-bench-", dir=os.environ.get("BENCH_DIR", "/tmp")))
    try:
        for name, value in measured(folder, options.runs):
            print(f"{name}\t{value}", flush=True)
    finally:
        shutil.rmtree(folder)


def measured(folder: Path, runs: int) -> Iterator[tuple[str, str]]:
    """Yield the figures."""
    os.environ["BACH_DATA_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"
    os.environ.pop("DATABASE_URL", None)
    import django

    django.setup()
    from django.core.management import call_command

    from daemon_app.models import Policy, Run
    from daemon_app.retention import BUSY, Tidier

    call_command("migrate", verbosity=0)
    now = datetime.now(UTC)
    fill(now, runs)
    Policy(keep_runs=2 * STAY, keep_output_mb=KEEP_OUTPUT_MB).store(now=now, by="bench")
    tidier = Tidier()
    context = multiprocessing.get_context("spawn")
    stop, waits = context.Event(), context.SimpleQueue()
    other = context.Process(target=wait_for_the_database, args=(str(folder), stop, waits))
    other.start()
    steps, locks, wait = stepped(tidier, now, PACED, BUSY)
    stop.set()
    waited = waits.get()
    other.join()
    begun, done = time.perf_counter(), Run.objects.count()
    fast_steps, fast_locks, wait = stepped(tidier, now, 1_000_000, 0)
    took, left = time.perf_counter() - begun, Run.objects.count()
    yield f"{runs} runs to {left}: a transaction, ms p50 / p95 / max", told(locks + fast_locks)
    yield "    a whole step, reads and folders included", told(steps + fast_steps)
    yield f"    another process's wait for the lock, {PACED} steps", told(waited)
    yield "    without pauses", f"{(done - left) / took:.0f} runs/s, last {tidier.pace.size} a step"
    rounds: list[float] = []
    while not rounds or wait == BUSY:
        before = time.perf_counter()
        wait = tidier.step(now)
        rounds.append(time.perf_counter() - before)
    yield "    a round with nothing to do, all its steps", f"{sum(rounds) * 1000:.1f} ms"


def stepped(
    tidier: "Tidier", now: datetime, most: int, pause: float
) -> tuple[list[float], list[float], float]:
    """Step up to `most` times; return how long steps and transactions took, and the last answer."""
    from daemon_app.retention import QUIET

    steps: list[float] = []
    locks: list[float] = []
    wait = 0.0
    while wait != QUIET and len(steps) < most:
        tidier.pace.seconds = 0.0
        before = time.perf_counter()
        wait = tidier.step(now)
        steps.append(time.perf_counter() - before)
        if tidier.pace.seconds:
            locks.append(tidier.pace.seconds)
        time.sleep(pause)
    return steps, locks, wait


def fill(now: datetime, runs: int) -> None:
    """Write jobs, runs and folders: half too old, half too many, and more output than allowed."""
    from django.db import connection

    from daemon_app.models import Job, Run

    for n in range(JOBS):
        fields = {"name": f"job {n}", "job_type": "manual", "command": "true", "timezone": "UTC"}
        Job(**fields).store(now=now, by="bench")
    jobs = list(Job.objects.all())
    definition = jobs[0].definition()
    kept = JOBS * STAY
    for start in range(0, runs, 10_000):
        rows = []
        for n in range(start, min(start + 10_000, runs)):
            old = n < (runs - kept) // 2
            at = now - timedelta(days=100 if old else 1, seconds=runs - n)
            job = jobs[n % JOBS]
            rows.append(
                Run(
                    job=job,
                    job_name=job.name,
                    trigger="manual",
                    due_at=at,
                    not_before=at,
                    queued_at=at,
                    started_at=at,
                    ended_at=at,
                    state="succeeded",
                    definition=definition,
                    output_bytes=1_000,
                )
            )
        Run.objects.bulk_create(rows)
    for pk in list(Run.objects.order_by("pk").values_list("pk", flat=True)[:FOLDERS]):
        folder = Run(pk=pk).folder
        folder.mkdir(parents=True)
        for name in ("output.0", "result.json"):
            (folder / name).write_bytes(b"x" * 1000)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def wait_for_the_database(
    folder: str, stop: Event, waits: "multiprocessing.SimpleQueue[list[float]]"
) -> None:
    """Write a little every 5 ms as any other process would; report the waits in seconds."""
    connection = sqlite3.connect(f"{folder}/bach.sqlite3", isolation_level=None, timeout=20)
    found = []
    while not stop.is_set():
        begun = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        found.append(time.perf_counter() - begun)
        connection.execute("ROLLBACK")
        time.sleep(0.005)
    waits.put(found)


def told(seconds: list[float]) -> str:
    """Return median, 95th percentile and maximum in milliseconds."""
    ordered = sorted(value * 1000 for value in seconds)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"{statistics.median(ordered):.1f} / {p95:.1f} / {ordered[-1]:.1f} (n={len(ordered)})"


if __name__ == "__main__":
    main()

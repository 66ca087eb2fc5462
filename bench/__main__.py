"""Measure the product as it is used: `python -m bench [--rounds 3] [--only delay,idle]`.

Every figure is taken on the real stack (`bach up`) with a data folder of its own, repeated, and
given as a median; the machine's own spawn rate stands in the same table, so that figures from
different moments can be compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack import Stack

if TYPE_CHECKING:
    import psutil

PATIENCE = 120.0  # seconds
LINES = 1_000_000
LINE = "x" * 99


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: str
    goal: str = ""


def main() -> None:
    """Measure and print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--only", default="", help=f"some of: {', '.join(MEASURES)}")
    options = asked.parse_args()
    names = [n for n in options.only.split(",") if n] or list(MEASURES)
    unknown = set(names) - MEASURES.keys()
    if unknown:
        asked.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(MEASURES)}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {load()}", flush=True)
    for name in names:
        for figure in MEASURES[name](options.rounds):
            print(f"  {figure.name:<58} {figure.value:<52} {figure.goal}".rstrip(), flush=True)
    print(f"at the end: {load()}")


def load() -> str:
    """Return how busy the machine is, others included; beyond the cores, figures suffer."""
    return "load " + " ".join(f"{each:.1f}" for each in os.getloadavg())


# ── The machine itself ───────────────────────────────────────────────────────────────────────────
def spawns(rounds: int) -> Iterable[Figure]:
    """How fast this machine starts processes at all."""
    rates = []
    for _ in range(max(rounds, 3)):
        begun = time.perf_counter()
        for _ in range(300):
            os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        rates.append(300 / (time.perf_counter() - begun))
    yield Figure(
        "machine: posix_spawn + exit of /bin/true, one at a time", f"{median(rates):.0f}/s"
    )


def spawned(command: str, count: int) -> list[str]:
    """Return what `count` shells print that are started at once, by nothing but posix_spawn."""
    started = []
    for _ in range(count):
        out, end = os.pipe()
        streams = [(os.POSIX_SPAWN_DUP2, end, 1)]
        shell = ["sh", "-c", command]
        pid = os.posix_spawn("/bin/sh", shell, {"PATH": os.defpath}, file_actions=streams)
        os.close(end)
        started.append((pid, out))
    said = []
    for pid, out in started:
        with os.fdopen(out) as stream:
            said.append(stream.read())
        os.waitpid(pid, 0)
    return said


# ── Start delay ──────────────────────────────────────────────────────────────────────────────────
STAMP = "date +%s%N"


def delay(rounds: int) -> Iterable[Figure]:
    """From the due instant to the command's own time stamp, and the same command without us."""
    with_stack(lambda _stack: None)  # warm the disk's caches
    for jobs, bursts, seconds in ((1, 20 * rounds, 1), (100, 2 * rounds, 5)):
        measure = partial(_delays, jobs=jobs, bursts=bursts, every=timedelta(seconds=seconds))
        ours, floor = with_stack(measure)
        goal = "p50 ≤ 6" if jobs == 1 else "p50 ≤ 120, max ≤ 300"
        what = "1 job" if jobs == 1 else f"{jobs} jobs at once"
        yield Figure(f"start delay, {what}, ms p50 / p95 / max", told(ours), goal)
        yield Figure("    floor: the same commands by posix_spawn alone", told(floor))


def told(bursts: list[list[float]]) -> str:
    """Return median, 95th percentile and maximum: of all, or of the median burst and the worst."""
    if len(bursts[0]) == 1:
        return f"{spread([burst[0] for burst in bursts])} (n={len(bursts)})"
    columns = zip(*(figures(burst) for burst in bursts), strict=True)
    middle = " / ".join(f"{median(list(column)):.1f}" for column in columns)
    worst = max(max(burst) for burst in bursts)
    return f"{middle} (median of {len(bursts)} bursts; worst {worst:.1f})"


def _delays(
    _stack: Stack, *, jobs: int, bursts: int, every: timedelta
) -> tuple[list[list[float]], list[list[float]]]:
    """Return the delays of each burst, in ms: ours, and those of the same commands without us."""
    django()
    from daemon_app import output
    from daemon_app.models import Job, Run

    now = datetime.now(UTC)
    for n in range(jobs):
        Job(
            name=f"stamp {n}",
            job_type="interval",
            schedule=f"{every.seconds}s",
            command=STAMP,
            overlap="parallel",
            max_instances=10,
        ).store(now=now, by="bench")
    floor = []
    for burst in range(1, bursts + 2):  # the first one warms up
        until(partial(_succeeded, jobs * burst))
        begun = time.time()
        floor.append([(int(stamp) / 1e9 - begun) * 1000 for stamp in spawned(STAMP, jobs)])
    ended = Run.objects.filter(state="succeeded").order_by("due_at")[: jobs * (bursts + 1)]
    late: dict[datetime, list[float]] = {}
    for run in ended:
        stamp = int(output.read(run.folder, 0).data) / 1e9
        late.setdefault(run.due_at, []).append((stamp - run.due_at.timestamp()) * 1000)
    # A burst that was cut off by the limit above does not count.
    ours = [burst for burst in list(late.values())[1:] if len(burst) == jobs]
    return ours, floor[1:]


def _succeeded(wanted: int) -> bool:
    from daemon_app.models import Run

    return Run.objects.filter(state="succeeded").count() >= wanted


# ── Throughput ───────────────────────────────────────────────────────────────────────────────────
RUNS = 1000
TRIVIAL = "echo done"


def throughput(rounds: int) -> Iterable[Figure]:
    """1,000 trivial runs with history and output, from due to the last end in the database."""
    rates, costs, bare = [], [], []
    for _ in range(rounds):
        rate, cost = with_stack(_throughput)
        rates.append(rate)
        costs.append(cost)
        before = sum(os.times()[2:4])
        for _ in range(200):
            spawned(TRIVIAL, 1)
        bare.append((sum(os.times()[2:4]) - before) / 200 * 1000)
    yield Figure(f"{RUNS} trivial runs, due to recorded", f"{median(rates):.0f} runs/s", "≥ 250")
    ours = median([cost - alone for cost, alone in zip(costs, bare, strict=True)])
    yield Figure("CPU a run, all our processes, without the command's", f"{ours:.2f} ms", "≤ 4")
    yield Figure("    the command's own, by posix_spawn alone", f"{median(bare):.2f} ms")


def _throughput(stack: Stack) -> tuple[float, float]:
    """Return runs per second, and CPU milliseconds a run with the command's own."""
    django()
    from daemon_app.models import Job

    now = datetime.now(UTC)
    due = now + timedelta(seconds=4)
    jobs = [
        Job(
            name=f"trivial {n}",
            job_type="interval",
            schedule="7d",
            command=TRIVIAL,
            timezone="UTC",
            anchor=due - timedelta(days=7),
            next_due_at=due,
            created_at=now,
            updated_at=now,
        )
        for n in range(RUNS)
    ]
    Job.objects.bulk_create(jobs)
    before = cpu_seconds(stack)
    jobs[0].ring()
    until(partial(_succeeded, RUNS))
    took = time.time() - due.timestamp()
    time.sleep(1)  # let the pages' hub and the supervisors settle
    return RUNS / took, (cpu_seconds(stack) - before) / RUNS * 1000


# ── Idle cost ────────────────────────────────────────────────────────────────────────────────────
IDLE_SECONDS = 20.0


def idle(rounds: int) -> Iterable[Figure]:
    """CPU and memory of everything while nothing is due."""
    for jobs, memory_goal in ((20, "≤ 120"), (10_000, "≤ 140")):
        cpu, memory, parts = with_stack(partial(_idle, jobs=jobs, rounds=rounds))
        yield Figure(f"idle CPU, {jobs} jobs", f"{cpu:.2f} % of one core", "≤ 0.3 %")
        name = f"idle memory (PSS, all processes), {jobs} jobs"
        yield Figure(name, f"{memory:.0f} MB", memory_goal)
        for name, size in parts:
            yield Figure(f"    {name}", f"{size:.1f} MB")


def _idle(stack: Stack, jobs: int, rounds: int) -> tuple[float, float, list[tuple[str, float]]]:
    django()
    from daemon_app.models import Job

    now = datetime.now(UTC)
    Job.objects.bulk_create(
        Job(
            name=f"idle {n}",
            job_type="cron",
            schedule="0 3 1 1 *",
            command="true",
            timezone="UTC",
            anchor=now,
            next_due_at=now + timedelta(days=30),
            created_at=now,
            updated_at=now,
        )
        for n in range(jobs)
    )
    Job.objects.first().ring()  # type: ignore[union-attr]
    time.sleep(8)  # let the start settle
    shares = []
    for _ in range(max(rounds, 3)):
        before, begun = cpu_seconds(stack), time.monotonic()
        time.sleep(IDLE_SECONDS)
        shares.append((cpu_seconds(stack) - before) / (time.monotonic() - begun) * 100)
    parts = sorted(((p.name(), pss_mb(p)) for p in family(stack)), key=lambda pair: -pair[1])
    return median(shares), sum(size for _name, size in parts), parts


# ── Output ───────────────────────────────────────────────────────────────────────────────────────
FLOOD = f"yes {LINE} | head -n {LINES}"


def output_flood(rounds: int) -> Iterable[Figure]:
    """100 MB in a million lines through a run, beside the same command without us."""
    plain, piped = [], []
    for _ in range(max(rounds, 3)):
        plain.append(timed(f"{FLOOD} > /dev/null"))
        piped.append(timed(f"{FLOOD} | cat > /tmp/bench-flood.$$; rm -f /tmp/bench-flood.$$"))
    ours = with_stack(lambda _: [_flood() for _ in range(max(rounds, 3))])
    yield Figure("1 M lines, 100 MB: to /dev/null", f"{median(plain):.2f} s")
    yield Figure("1 M lines, 100 MB: by a pipe into a file", f"{median(piped):.2f} s")
    ratio = median(ours) / median(plain)
    name = "1 M lines, 100 MB: through a run"
    yield Figure(name, f"{median(ours):.2f} s ({ratio:.1f}x /dev/null)")
    yield from by_script("supervisor.py", "--only", "output", "--rounds", str(rounds), "--short")


def _flood() -> float:
    django()
    from daemon_app import scheduler
    from daemon_app.models import Job, Run

    now = datetime.now(UTC)
    job = Job.objects.filter(name="flood").first() or Job(
        name="flood", job_type="manual", command=FLOOD
    ).store(now=now, by="bench")
    started = scheduler.start(job, trigger="manual", by="bench", now=now).run
    assert started is not None
    until(lambda: Run.objects.filter(pk=started.pk, state="succeeded").exists())
    started.refresh_from_db()
    assert started.output_lines == LINES
    assert started.started_at is not None
    assert started.ended_at is not None
    return (started.ended_at - started.started_at).total_seconds()


# ── From a line to the browser ───────────────────────────────────────────────────────────────────
def line(rounds: int) -> Iterable[Figure]:
    """From a command's write to the frame at a websocket client: `bench/live.py`."""
    yield from by_script("live.py", "--rounds", str(rounds), "--short")


# ── Retention ────────────────────────────────────────────────────────────────────────────────────
def retention(_rounds: int) -> Iterable[Figure]:
    """How long removing 100,000 old runs holds anybody up: `bench/retention.py`."""
    goals = iter(["", "", "max ≤ 50"])
    for figure in by_script("retention.py"):
        yield Figure(figure.name, figure.value, next(goals, ""))


# ── Making way ───────────────────────────────────────────────────────────────────────────────────
def displacement(rounds: int) -> Iterable[Figure]:
    """From a person's request to the signal to what runs: `bench/displacement.py`."""
    yield from by_script("displacement.py", "--rounds", str(20 * rounds), "--short")


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────
def commands(rounds: int) -> Iterable[Figure]:
    """How long commands take beside an empty start of Django: `bench/cli.py`."""
    yield from by_script("cli.py", "--rounds", str(max(rounds, 3)))


def by_script(name: str, *arguments: str) -> Iterable[Figure]:
    """Return what a script beside this one prints as lines of name, tab, value."""
    command = [sys.executable, str(Path(__file__).parent / name), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for row in told.strip().splitlines():
        label, _tab, value = row.partition("\t")
        yield Figure(label, value)


# ── Shared ───────────────────────────────────────────────────────────────────────────────────────
def with_stack(measure: Callable[[Stack], Any]) -> Any:
    """Return what `measure` says of a fresh stack; its processes and data are gone afterwards."""
    stack = Stack()
    stack.env["BACH_MAX_PARALLEL"] = os.environ.get("BENCH_PARALLEL", "64")
    os.environ.update({k: v for k, v in stack.env.items() if k.startswith("BACH_")})
    stack.start()
    try:
        _point_django_at(stack)
        return measure(stack)
    finally:
        stack.close()


def django() -> None:
    """Set Django up in this process, once."""
    import django as package

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bachweb.settings")
    package.setup()


def _point_django_at(stack: Stack) -> None:
    django()
    from django.conf import settings
    from django.db import connections

    connections["default"].close()
    settings.DATA_DIR = stack.data_dir
    settings.RUNS_DIR = stack.data_dir / "runs"
    connections["default"].settings_dict["NAME"] = str(stack.data_dir / "bach.sqlite3")


def until(answer: Callable[[], bool]) -> None:
    """Wait for a true answer; fail when it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not answer():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def timed(command: str) -> float:
    """Return the seconds a shell command takes."""
    begun = time.perf_counter()
    subprocess.run(command, shell=True, check=True)
    return time.perf_counter() - begun


def cpu_seconds(stack: Stack) -> float:
    """Return the CPU time of all processes of a stack, those that have ended included."""
    total = 0.0
    for process in family(stack):
        with suppress(Exception):
            total += sum(process.cpu_times()[:4])
    return total


def family(stack: Stack) -> "list[psutil.Process]":
    """Return every process of a stack: what `bach up` started, supervisors included."""
    import psutil

    assert stack.process is not None
    head = psutil.Process(stack.process.pid)
    return [head, *head.children(recursive=True)]


def pss_mb(process: "psutil.Process") -> float:
    """Return a process's proportional share of memory in MB; 0 when it has ended."""
    with suppress(OSError):
        for row in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                return int(row.split()[1]) / 1024
    return 0.0


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def figures(values: list[float]) -> tuple[float, float, float]:
    """Return median, 95th percentile and maximum."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return statistics.median(ordered), p95, ordered[-1]


def spread(values: list[float]) -> str:
    """Return median, 95th percentile and maximum, as in the table."""
    return " / ".join(f"{value:.1f}" for value in figures(values))


MEASURES: dict[str, Callable[[int], Iterable[Figure]]] = {
    "spawns": spawns,
    "delay": delay,
    "throughput": throughput,
    "idle": idle,
    "output": output_flood,
    "line": line,
    "retention": retention,
    "displacement": displacement,
    "commands": commands,
}

if __name__ == "__main__":
    main()

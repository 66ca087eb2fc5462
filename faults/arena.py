"""One round: a service with jobs, faults that strike it, and the verdict when all has settled."""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import psutil

from faults.judge import COUNTERS, Facts, Fault, Plan, Press, Verdict, judge, percentile
from faults.ledger import MICROSECOND, Ledger, micros, read
from faults.service import RefusedError, Samples, Service, now_micros, parts_of

COMMAND = Path(__file__).with_name("command.py")
CALM_WITHIN = 120.0  # seconds after the last fault in which jobs must start on time again
SETTLED_WITHIN = 150.0  # seconds in which all runs must have ended
ON_TIME = MICROSECOND
LOSSES_ALLOWED = 2  # a day and job; with the third the product switches the job off
# The product writes an occurrence at its second; what was due so shortly before an edit may be
# part of the old schedule or of the new one.
GREY = 2 * MICROSECOND


class UnmetError(Exception):
    """Something that must come true did not; the message says what."""


@dataclass
class Made:
    """A job of the round: its plan, and the grid of instants that its schedule means."""

    id: int
    plan: Plan
    longest: float  # seconds that a run of it lasts
    grids: list[tuple[int, int, int | None]] = field(default_factory=list)  # first, period, until

    def begins(self, first: int | None, period: int) -> None:
        """Let its instants be `first + k * period` from now on; None for none at all."""
        if first is not None and period:
            self.grids.append((first, period, None))

    def ends(self, until: int) -> None:
        """Let the newest grid end with `until`."""
        if self.grids and self.grids[-1][2] is None:
            first, period, _ = self.grids[-1]
            self.grids[-1] = (first, period, until)

    def fill(self) -> None:
        """Work out every instant that is owed."""
        for first, period, until in self.grids:
            assert until is not None  # the round has ended
            self.plan.due |= set(range(first, until + 1, period))


class Arena:
    """A round from its first process to its verdict. Use it as a context manager."""

    def __init__(self, experiment: str, seed: int, *, long: bool, parallel: int = 64) -> None:
        self.experiment, self.seed, self.long = experiment, seed, long
        self.random = random.Random(f"{experiment} {seed}")
        safe = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.place = Path(tempfile.mkdtemp(prefix="bach-faults-", dir=safe))
        self.ledger_file = self.place / "ledger"
        self.ledger_file.touch()
        self.service = Service()
        self.service.env["BACH_MAX_PARALLEL"] = str(parallel)
        self.samples = Samples()
        self.jobs: list[Made] = []
        self.presses: list[Press] = []
        self.faults: list[Fault] = []
        self.hung: list[str] = []
        self.seen: list[str] = []  # what the experiment itself found wrong
        self.figures: dict[str, float] = {}
        self.begun = time.monotonic()
        self._rows: list[dict[str, Any]] = []
        self._brakes: dict[str, int] = {}
        self._broken: list[str] = []
        self._living: list[tuple[int, int]] = []
        self.after = contextlib.ExitStack()  # what is undone at the very end
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._keeper.join(10)
        self.service.close()
        self.after.close()
        shutil.rmtree(self.service.data_dir, ignore_errors=True)
        shutil.rmtree(self.place, ignore_errors=True)

    def _keep(self) -> None:
        """Be the service manager, and look at memory now and then."""
        while not self._over.wait(0.1):
            with contextlib.suppress(psutil.Error, OSError):
                self.service.keep_up()
                self.samples.take(self.service)

    # ── Jobs ─────────────────────────────────────────────────────────────────────────────────────
    def job(  # noqa: PLR0913 - a job has many sides
        self,
        name: str,
        *,
        every: int = 0,
        seconds: float = 0.2,
        codes: str = "0",
        size: int = 100,
        then: str = "",
        plan: dict[str, Any] | None = None,
        **fields: object,
    ) -> Made:
        """Make a job that notes itself in the ledger; `every` so many seconds, 0: by hand only.

        `then` is a shell line that follows. `fields` are those of the REST interface.
        """
        words = (sys.executable, "-I", "-S", COMMAND, self.ledger_file, seconds, codes, size)
        line = shlex.join(map(str, words))
        wanted: dict[str, object] = {
            "name": name,
            "job_type": "interval" if every else "manual",
            "schedule": f"{every}s" if every else "",
            "command": f"{line}; {then}" if then else line,
            "use_shell": bool(then),
            "timezone": "Europe/Berlin",
            **fields,
        }
        _status, told = self.service.ask("POST", "jobs", wanted)
        overlapping = wanted.get("overlap") == "parallel"
        made = Made(told["id"], Plan(name, overlapping=overlapping, **(plan or {})), seconds)
        first = told["next_due_at"] and micros(told["next_due_at"])
        period = 60 if wanted["job_type"] == "cron" else every
        if first is not None:
            self._check_first(made, first, period)
        made.begins(first, period * MICROSECOND)
        self.jobs.append(made)
        return made

    def _check_first(self, made: Made, first: int, period: int) -> None:
        """Hold the first instant against our own clock: the grid hangs on it."""
        ahead = first - now_micros()
        if not -2 * MICROSECOND <= ahead <= (period + 2) * MICROSECOND:
            self.seen.append(f"L: {made.plan.name}: its first start is {ahead} µs ahead")

    def press(self, job: Made, key: str) -> int | None:
        """Start a job by hand; return its run, or None when it was refused with a reason."""
        status, told = self.service.ask(
            "POST", f"jobs/{job.id}/run", {}, headers={"Idempotency-Key": key}
        )
        if status == 409:
            return None
        self.presses.append(Press(key, told["id"]))
        return int(told["id"])

    def presser(self, job: Made, *, every: float) -> "Presser":
        """Return a thread's context that presses a job's button for as long as it lasts."""
        return Presser(self, job, every)

    # ── Faults ───────────────────────────────────────────────────────────────────────────────────
    def strike(
        self,
        kind: str,
        pid: int,
        *,
        run: int | None = None,
        how: signal.Signals = signal.SIGKILL,
    ) -> bool:
        """Send a signal to a process of ours and note it; False when it was gone already."""
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return False
        self.note(kind, pid=pid, run=run)
        return True

    def note(self, kind: str, *, pid: int | None = None, run: int | None = None) -> None:
        """Write a fault down."""
        after = round(time.monotonic() - self.begun, 3)
        self.faults.append(Fault(kind, after, now_micros(), pid, run))

    def kill(self, role: str) -> bool:
        """Kill one process of a role, chosen by the seed; False when there is none."""
        if role in {"supervisor", "command"}:
            return self._kill_in_a_run(role)
        if role == "supervisor idle":
            idle = self.service.idle_supervisors()
            return bool(idle) and self.kill_supervisor(f"kill {role}", self.random.choice(idle))
        process = self.service.roles().get(role)
        return process is not None and self.strike(f"kill {role}", process.pid)

    def _kill_in_a_run(self, role: str) -> bool:
        running = self.service.supervisors()
        if role == "supervisor":
            running = [each for each in running if self._may_be_lost(each[0])]
        if not running:
            return False
        run, supervisor, command = self.random.choice(running)
        if role == "command":
            return self.strike("kill command", command, run=run)
        return self.kill_supervisor("kill supervisor", supervisor, run)

    def kill_supervisor(self, kind: str, pid: int, run: int | None = None) -> bool:
        """Kill a supervisor, with `run` or idle; it may have taken another run since we looked."""
        if not self.strike(kind, pid, run=run):
            return False
        self.faults += [
            replace(self.faults[-1], run=other) for other in sorted(self._left_by(pid) - {run})
        ]
        return True

    def _may_be_lost(self, run: int) -> bool:
        """Return whether another loss leaves a run's job on: the third one switches it off."""
        of_run = "SELECT id FROM daemon_runs WHERE job_id = "
        of_run += "(SELECT job_id FROM daemon_runs WHERE id = ?)"
        return self._losses({each for (each,) in self.service.query(of_run, run)}) < LOSSES_ALLOWED

    def _losses(self, runs: set[int]) -> int:
        """Return how often the supervisor of one of `runs` was killed."""
        return len([f for f in self.faults if f.run in runs and "supervisor" in f.kind])

    def _left_by(self, pid: int) -> set[int]:
        found = set()
        for lock in (self.service.data_dir / "runs").glob("*/*/lock"):
            with contextlib.suppress(OSError, ValueError):
                who: dict[str, Any] = {}
                for line in lock.read_bytes().splitlines():
                    who |= json.loads(line)
                if who.get("pid") == pid and "outcome" not in who:
                    found.add(int(lock.parent.name))
        return found

    def freeze(
        self, kind: str, pids: Iterable[int], seconds: float, run: int | None = None
    ) -> None:
        """Stop processes for a while; noted as one fault."""
        frozen = list(pids)
        self.note(f"freeze {kind}", run=run)
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def everything(self) -> list[int]:
        """Return every process of the service and of its runs."""
        pids = [pid for _role, pid in parts_of(self.service)]
        pids += [pid for _run, pid, _command in self.service.supervisors()]
        pids += [pid for pid, _run in self.service.marked()]
        return list(dict.fromkeys(pids))

    # ── Waiting ──────────────────────────────────────────────────────────────────────────────────
    def until(self, what: str, answer: Callable[[], object], within: float) -> float:
        """Wait for a true answer; return the seconds it took. Raises UnmetError."""
        begun = time.monotonic()
        while not answer():
            if time.monotonic() - begun > within:
                raise UnmetError(f"not within {within:.0f} s: {what}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def calm(self, within: float = CALM_WITHIN) -> None:
        """Wait until jobs start on time again; note how long that took."""
        since = now_micros()
        took = self.until(
            "all processes are there and a job starts on time",
            lambda: self.service.is_whole() and self._starts_on_time(since),
            within,
        )
        self.figures["back"] = max(self.figures.get("back", 0.0), round(took, 2))

    def _starts_on_time(self, since: int) -> bool:
        return any(
            start.due > since and start.at - start.due < ON_TIME
            for start in reversed(self.ledger().starts)
        )

    def ledger(self) -> Ledger:
        """Return what ran so far."""
        return read(self.ledger_file)

    def active(self) -> int:
        """Return how many runs wait or run, as the database says."""
        wanted = "SELECT COUNT(*) FROM daemon_runs WHERE state IN ('queued', 'running')"
        return int(self.service.query(wanted)[0][0])

    # ── The end ──────────────────────────────────────────────────────────────────────────────────
    def finish(self) -> None:
        """Let the round settle: schedules off, all runs ended, the service stopped cleanly."""
        if any(job.grids for job in self.jobs):
            self.calm()
        until = now_micros()
        time.sleep(2.5)
        for job in self.jobs:
            job.ends(until)
            if job.grids and not job.plan.removed:
                with contextlib.suppress(RefusedError):
                    self.service.ask("PUT", f"jobs/{job.id}/toggle", {"is_active": False})
        longest = max((job.longest for job in self.jobs), default=0.0)
        self.until("no run waits or runs", lambda: not self.active(), SETTLED_WITHIN + longest)
        self.service.wanted = False
        if self.service.process and self.service.process.poll() is None:
            code = self.service.stop(signal.SIGTERM)
            if code:
                self.hung.append(f"the clean stop ended with code {code}")
        left = [p for p in self.service.processes() if p.is_running()]
        self.seen += [f"O: {p.name()} ({p.pid}) outlived a clean stop" for p in left]

    def collect(self) -> None:
        """Read what the judgement needs, whatever state the round is in."""
        self.service.wanted = False
        with contextlib.suppress(psutil.Error, OSError):
            self._living = self.service.marked()
        try:
            self._rows = self.service.rows()
            self._brakes = self.service.brakes()
            self._broken = self.service.broken()
        except Exception as error:  # noqa: BLE001 - a broken database is a finding, not an error
            self._broken = [f"the database can't be read: {error}"]

    def verdict(self) -> Verdict:
        """Return the judgement of the round."""
        until = now_micros()
        for job in self.jobs:
            job.ends(until)
            self._heed_brake(job)
            job.fill()
        verdict = judge(
            Facts(
                plans=[job.plan for job in self.jobs],
                presses=self.presses,
                faults=self.faults,
                ledger=self.ledger(),
                rows=self._rows,
                living=self._living,
                broken=self._broken,
            )
        )
        for finding in self.seen:
            verdict.add(*finding.split(": ", 1))
        for finding in self.hung:
            verdict.add("H", finding)
        return verdict

    def _heed_brake(self, job: Made) -> None:
        """Expect nothing more of a job that the product has switched off for its losses.

        Only we know whether it had them: a brake without them excuses nothing.
        """
        at = self._brakes.get(job.plan.name)
        runs = {row["id"] for row in self._rows if row["job_name"] == job.plan.name}
        if at is not None and self._losses(runs) > LOSSES_ALLOWED:
            job.grids = [
                (first, period, min(until or at, at)) for first, period, until in job.grids
            ]

    def keep(self, folder: Path, verdict: Verdict) -> None:
        """Keep everything of a round that went wrong."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(self.ledger_file, folder)
        lines = [json.dumps(asdict(fault)) for fault in self.faults]
        (folder / "faults.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "findings.txt").write_text("\n".join(verdict.findings) + "\n")
        (folder / "up.log").write_text(self.service.log())
        for file in self.service.data_dir.glob("bach.sqlite3*"):
            with contextlib.suppress(OSError):
                shutil.copy(file, folder)
        with contextlib.suppress(OSError):
            shutil.copytree(self.service.data_dir / "logs", folder / "logs")


class Presser(threading.Thread):
    """Somebody who starts a job by hand every so often, and again until it is acknowledged."""

    def __init__(self, arena: Arena, job: Made, every: float) -> None:
        super().__init__(daemon=True)
        self.arena, self.job, self.every = arena, job, every
        self.random = random.Random(f"presser {arena.experiment} {arena.seed}")
        self._stop_it = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop_it.set()
        self.join(180)
        if self._error and exc[0] is None:
            raise self._error

    def run(self) -> None:
        """Press until told to stop."""
        count = 0
        try:
            while not self._stop_it.wait(self.random.uniform(0.5, 1.5) * self.every):
                count += 1
                self.arena.press(self.job, f"{self.job.plan.name}-{count}")
        except (TimeoutError, RefusedError, AssertionError) as error:
            self._error = error


def play(  # noqa: PLR0913 - a round has many sides
    experiment: str,
    act: Callable[[Arena], None],
    seed: int,
    *,
    long: bool,
    artefacts: Path,
    parallel: int,
    before: Callable[[Arena], None],
) -> dict[str, Any]:
    """Play one round and return its line; `before` the service's first start."""
    begun = time.monotonic()
    load = os.getloadavg()[0]
    arena = Arena(experiment, seed, long=long, parallel=parallel)
    before(arena)
    with arena:
        try:
            arena.service.open()
            act(arena)
            arena.finish()
        except (UnmetError, AssertionError, RefusedError, LookupError, OSError) as error:
            arena.hung.append(f"{type(error).__name__}: {str(error)[:2000]}")
        arena.collect()
        verdict = arena.verdict()
        # Noted for two runs it is still one.
        struck = {(fault.kind, fault.at, fault.pid) for fault in arena.faults}
        line: dict[str, Any] = {
            "experiment": experiment,
            "seed": seed,
            "tier": "long" if long else "short",
            "product": product(),
            "duration": round(time.monotonic() - begun, 1),
            "load": round(load, 1),
            "faults": dict(Counter(kind for kind, _at, _pid in struck)),
            "E": verdict.expected,
            "starts": verdict.starts,
            "states": dict(verdict.states),
            **{counter: verdict.counts[counter] for counter in COUNTERS},
            "T": {
                name: round(percentile(verdict.late, share), 3)
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
            "noticed": percentile(verdict.noticed, 1.0),
            "figures": arena.figures,
            "R": arena.samples.slopes(),
        }
        if any(verdict.counts.values()):
            folder = artefacts / f"{experiment}-{seed}"
            arena.keep(folder, verdict)
            line["findings"] = verdict.findings[:5]
            line["kept"] = str(folder)
    return line


def product() -> str:
    """Return the commit that is tested, with a + when files differ from it; "" outside of git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            capture_output=True,
            text=True,
            check=True,
            cwd=here,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip()

"""The product under fire: `bach up` with its processes by role, killed and started again."""

import contextlib
import hashlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from faults.ledger import MICROSECOND, micros
from tests.stack import BACH, Stack

# What a service manager would wait before it starts a service again.
RESTART_AFTER = 0.3  # seconds
ASK_FOR = 120.0  # seconds until an answer that does not come is a failure
# In the order in which the cluster starts them.
CLUSTER = ("worker", "monitor", "pusher")
SERVICES = ("daemon", "web", "cluster", *CLUSTER, "zygote")
ROWS = """SELECT id, job_name, state, "trigger", due_at, started_at, ended_at, attempt, exit_code,
  reason_code, reason_facts, blocking_run_id, idempotency_key, output_bytes, dropped_bytes
  FROM daemon_runs"""


class RefusedError(Exception):
    """The product answered that it will not; the message is its answer."""


class Service(Stack):
    """A stack whose processes can be told apart, and which is started again whenever it ends."""

    def __init__(self) -> None:
        super().__init__()
        # A name of its own: who tidies up after the tests must not take a round's ground away.
        self.data_dir.rmdir()
        self.data_dir = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
        self.log_file = self.data_dir.with_suffix(".log")
        self.env["BACH_DATA_DIR"] = str(self.data_dir)
        self.token = ""
        self.wanted = False  # whether `keep_up` starts it
        self._ended_at = 0.0
        self._cluster: dict[int, str] = {}  # pid → role, of the cluster's children

    # ── Up and down ──────────────────────────────────────────────────────────────────────────────
    def open(self) -> None:
        """Start for the first time, and get a token for the REST interface."""
        self.start()
        told = self.bach(
            *("daemon", "token", "create", "--name", "faults", "--role", "admin", "--json")
        )
        self.token = json.loads(told)["token"]
        self.wanted = True

    def launch(self) -> None:
        """Start `bach up` and do not wait for it."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [BACH, "up"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.data_dir,
                start_new_session=True,
            )

    def keep_up(self) -> None:
        """Start `bach up` again when it has ended, as a service manager does."""
        if not self.wanted or (self.process and self.process.poll() is None):
            return
        now = time.monotonic()
        if not self._ended_at:
            self._ended_at = now
        if now - self._ended_at >= RESTART_AFTER:
            self._ended_at = 0.0
            self.launch()

    # ── Its processes ────────────────────────────────────────────────────────────────────────────
    def roles(self) -> dict[str, psutil.Process]:
        """Return the living processes of the service by role; what is down is missing."""
        found: dict[str, psutil.Process] = {}
        if self.process is None or self.process.poll() is not None:
            return found
        with contextlib.suppress(psutil.Error):
            found["up"] = head = psutil.Process(self.process.pid)
            for part in _children(head):
                with contextlib.suppress(psutil.Error):
                    name = part.name().removeprefix("bach-")
                    if name in {"daemon", "web", "cluster"}:
                        found[name] = part
        if "cluster" in found:
            found |= self._in_cluster(found["cluster"])
        if "daemon" in found:
            for child in _children(found["daemon"]):
                with contextlib.suppress(psutil.Error):
                    if child.name() == "bach-zygote":
                        found["zygote"] = child
        return found

    def _in_cluster(self, cluster: psutil.Process) -> dict[str, psutil.Process]:
        """Tell the cluster's children apart: by their order, later by whom a new one replaces."""
        children = sorted(_children(cluster), key=lambda child: child.pid)
        pids = [child.pid for child in children]
        known = {pid: role for pid, role in self._cluster.items() if pid in pids}
        vacant = [role for role in CLUSTER if role not in known.values()]
        for pid in pids:
            if pid not in known and (len(vacant) == 1 or len(pids) == len(CLUSTER)):
                known[pid] = vacant.pop(0)
        self._cluster = known
        return {known[child.pid]: child for child in children if child.pid in known}

    def is_whole(self) -> bool:
        """Return whether all processes of the service are there."""
        return set(SERVICES) <= self.roles().keys()

    def supervisors(self) -> list[tuple[int, int, int]]:
        """Return (run, supervisor's pid, command's pid) of what runs, as the locks say."""
        found = []
        for lock in (self.data_dir / "runs").glob("*/*/lock"):
            with contextlib.suppress(OSError, ValueError):
                who: dict[str, Any] = {}
                for line in lock.read_bytes().splitlines():
                    who |= json.loads(line)
                if "command" in who and "outcome" not in who and psutil.pid_exists(who["pid"]):
                    found.append((int(lock.parent.name), int(who["pid"]), int(who["command"])))
        return sorted(found)

    def idle_supervisors(self) -> list[int]:
        """Return the pids of the supervisors that wait for work."""
        busy = {pid for _run, pid, _command in self.supervisors()}
        zygote = self.roles().get("zygote")
        return [c.pid for c in _children(zygote) if c.pid not in busy] if zygote else []

    def marked(self) -> list[tuple[int, int]]:
        """Return (pid, run) of every living process that carries the mark of a run of ours."""
        token = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        wanted = f"BACH_RUN_TOKEN={token}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if wanted in variables:
                    run = next(v for v in variables if v.startswith(b"BACH_RUN_ID="))
                    found.append((int(entry.name), int(run.partition(b"=")[2])))
        return found

    def close(self) -> None:
        """Kill whatever is left, runs and their supervisors included, and remove the data."""
        self.wanted = False
        self._end([pid for _run, pid, _command in self.supervisors()])
        self._end([pid for pid, _run in self.marked()])
        super().close()

    def _end(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    # ── Its doors ────────────────────────────────────────────────────────────────────────────────
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> tuple[int, Any]:
        """Return status and content of an answer, asking again for as long as nobody answers.

        Raises RefusedError for what is wrong with the request, and TimeoutError.
        """
        deadline = time.monotonic() + ASK_FOR
        request = urllib.request.Request(
            f"{self.url}/api/daemon/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
        )
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    text = answer.read()
                    return answer.status, json.loads(text) if text else None
            except urllib.error.HTTPError as problem:
                if problem.code == 429:
                    time.sleep(float(problem.headers.get("Retry-After") or 1))
                    continue
                if problem.code < 500 and problem.code != 409:
                    raise RefusedError(
                        f"{method} {path}: {problem.read().decode()[:500]}"
                    ) from problem
                if problem.code == 409:
                    return 409, json.loads(problem.read())
            except (OSError, ValueError, http.client.HTTPException):
                pass  # not up, or killed in the middle of its answer
            self.keep_up()
            meanwhile()
            time.sleep(0.1)
        raise TimeoutError(f"{method} {path}: no answer in {ASK_FOR:.0f} s\n{self.log()}")

    def notices(self) -> set[str]:
        """Return the codes of what the product says is wrong now; none without an answer.

        What was wrong stays in its list until somebody has marked it as seen.
        """
        request = urllib.request.Request(
            f"{self.url}/api/daemon/status", headers={"Authorization": f"Bearer {self.token}"}
        )
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            urllib.request.urlopen(request, timeout=25) as answer,
        ):
            found = json.load(answer)["notices"]
            return {notice["code"] for notice in found if notice["incident_id"] is None}
        return set()

    # ── Its database, past all doors ─────────────────────────────────────────────────────────────
    @property
    def database(self) -> Path:
        """The file of the database."""
        return self.data_dir / "bach.sqlite3"

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a SELECT finds."""
        with closing(sqlite3.connect(self.database, timeout=60)) as connection:
            return connection.execute(statement, values).fetchall()

    def rows(self) -> list[dict[str, Any]]:
        """Return all runs, with instants in microseconds."""
        with closing(sqlite3.connect(self.database, timeout=60)) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute(ROWS)]
        for row in found:
            for name in ("due", "started", "ended"):
                text = row.pop(f"{name}_at")
                row[name] = None if text is None else micros(f"{text}+00:00")
            row["reason_facts"] = json.loads(row["reason_facts"] or "{}")
        return found

    def brakes(self) -> dict[str, int]:
        """Return when jobs were switched off because too many of their runs were lost, by name."""
        found = self.query("SELECT facts, at FROM daemon_incidents WHERE code = 'poisoned'")
        return {json.loads(facts)["job"]: micros(f"{at}+00:00") for facts, at in found}

    def broken(self) -> list[str]:
        """Return what the database's own checks have to say; [] when all is well."""
        said = [line for (line,) in self.query("PRAGMA integrity_check") if line != "ok"]
        said += [f"foreign key: {row}" for row in self.query("PRAGMA foreign_key_check")]
        return said


class Samples:
    """How memory and open files of the long-lived processes develop."""

    EVERY = 2.0  # seconds
    WARM = 20.0  # seconds of a process's life that do not count
    LEAST = 60.0  # seconds of samples below which a slope says nothing

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], list[tuple[float, float, int]]] = {}
        self._next = 0.0

    def take(self, service: Service) -> None:
        """Look at the processes, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.EVERY
        for role, process in service.roles().items():
            with contextlib.suppress(psutil.Error, OSError):
                if time.time() - process.create_time() > self.WARM:
                    size = process.memory_info().rss / 1024
                    seen = self._seen.setdefault((role, process.pid), [])
                    seen.append((now, size, process.num_fds()))

    def slopes(self) -> dict[str, dict[str, float]]:
        """Return KB and descriptors gained per minute by role: the worst of its processes."""
        found: dict[str, dict[str, float]] = {}
        for (role, _pid), seen in self._seen.items():
            if seen[-1][0] - seen[0][0] < self.LEAST:
                continue
            kb = round(_slope([(at, size) for at, size, _fds in seen]) * 60, 1)
            fds = round(_slope([(at, fds) for at, _size, fds in seen]) * 60, 2)
            worst = found.setdefault(role, {"kb_min": kb, "fds_min": fds})
            worst["kb_min"] = max(worst["kb_min"], kb)
            worst["fds_min"] = max(worst["fds_min"], fds)
        return found


def _slope(points: list[tuple[float, float]]) -> float:
    """Return the least squares slope per second."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children()
    except psutil.Error:
        return []
    return [child for child in children if _lives(child)]


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def now_micros() -> int:
    """Return the time of day in microseconds since the epoch."""
    return time.time_ns() * MICROSECOND // 10**9


def parts_of(service: Service) -> Iterator[tuple[str, int]]:
    """Yield (role, pid) of every process of the service, idle supervisors included."""
    for role, process in service.roles().items():
        yield role, process.pid
    for pid in service.idle_supervisors():
        yield "supervisor idle", pid

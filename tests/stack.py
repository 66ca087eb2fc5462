"""The real product in processes of its own: `bach up` with a data folder and a port of its own."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil

BACH = Path(sys.executable).with_name("bach")
READY_WITHIN = 60.0  # seconds; on two busy cores a first start with its migrations takes a few
STOPPED_WITHIN = 30.0
LATEST_RUNS = "SELECT id, job_name, state, trigger FROM daemon_runs ORDER BY id DESC LIMIT 1000"


class Stack:
    """`bach up`, as a person starts it; it can be stopped and started again.

    Nothing of it is left after `close`, not even a run that survives a stop on purpose.
    """

    def __init__(self) -> None:
        # Short, for the addresses of Unix sockets lie in it.
        self.data_dir = Path(tempfile.mkdtemp(prefix="bach-", dir="/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = self.data_dir.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.env = {
            **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
            "LANG": "C.UTF-8",
            "BACH_DATA_DIR": str(self.data_dir),
            "BACH_HOST": "127.0.0.1",
            "BACH_PORT": str(self.port),
            "BACH_TIME_ZONE": "Europe/Berlin",
        }

    def start(self) -> None:
        """Start everything and return when a page answers."""
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
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when a page answers; fail with the log when that takes too long."""
        assert self.process
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if (code := self.process.poll()) is not None:
                raise AssertionError(f"bach up ended with {code} at its start\n{self.log()}")
            try:
                with urllib.request.urlopen(f"{self.url}/daemon/login/", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError as problem:
                if problem.code >= 500:
                    raise AssertionError(f"the first page: {problem}\n{self.log()}") from problem
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"no page after {READY_WITHIN:.0f} s\n{self.log()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl+C does and return its exit code."""
        assert self.process
        self.process.send_signal(how)
        try:
            return self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"bach up did not end within {STOPPED_WITHIN:.0f} s of {how.name}\n{self.log()}"
            ) from None

    def bach(self, *arguments: str, timeout: float = 60) -> str:
        """Run `bach …` on the same data and return what it printed; fail when it fails."""
        answer = subprocess.run(
            [BACH, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.env,
            cwd=self.data_dir,
            check=False,
        )
        assert answer.returncode == 0, f"bach {' '.join(arguments)}: {answer}\n{self.log()}"
        return answer.stdout

    def login_link(self) -> str:
        """Return a one-time link that signs its first visitor in as the owner."""
        printed = self.bach("daemon", "login", "--print")
        link = next(word for word in printed.split() if word.startswith("http") and "#" in word)
        parts = urlsplit(link)
        # A cookie is bound to the host: what signs in must be the address the tests use.
        return f"{self.url}{parts.path}#{parts.fragment}"

    def runs(self) -> list[dict[str, object]]:
        """Return the latest runs of all jobs, newest first, straight from the database."""
        with closing(sqlite3.connect(self.data_dir / "bach.sqlite3")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(LATEST_RUNS)]

    def wait_for(self, answer: Callable[[], object]) -> bool:
        """Return whether `answer` becomes true in good time."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if answer():
                return True
            time.sleep(0.05)
        return False

    def log(self) -> str:
        """Return what was printed so far."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return f"── bach up ──\n{text}\n─────────────"

    def processes(self) -> Iterator[psutil.Process]:
        """Yield every living process that belongs to this stack, detached ones too."""
        mine = f"BACH_DATA_DIR={self.data_dir}"
        for process in psutil.process_iter():
            try:
                environment = [f"{name}={value}" for name, value in process.environ().items()]
                named = any(str(self.data_dir) in part for part in process.cmdline())
                if process.pid != os.getpid() and (mine in environment or named):
                    yield process
            except psutil.Error:
                continue

    def close(self) -> None:
        """Kill whatever is left and remove the data."""
        deadline = time.monotonic() + STOPPED_WITHIN
        while left := set(self.processes()):
            for process in [*left]:
                try:
                    left.update(process.children(recursive=True))
                except psutil.Error:
                    continue
            for process in left:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs(left, timeout=5)
            assert time.monotonic() < deadline, f"can't end {left}"
        if self.process:
            self.process.wait(5)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.log_file.unlink(missing_ok=True)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

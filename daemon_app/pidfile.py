"""A pid file that can be believed: it names one process for certain, and only one can hold it.

    with pidfile.held(data / "daemon.pid"):          # raises Taken
        …
    holder = pidfile.holder(data / "daemon.pid")     # None: nobody, whatever the file says

Line by line it holds the process id, the start of that process, the boot, and an address (or
nothing). A number that was left behind, or given to another process since, is so told from the
real one. Beside it lies a lock (`daemon.lock`) which the system lets go when the holder and all it
forked have ended, however they ended; it repeats the lines, in case the file is removed by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal as signals
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon_app.processes import LINUX, Identity, boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# The children of one that was killed end by themselves a moment later.
PATIENCE = 5.0  # seconds
POLL = 0.05  # seconds
LONGEST_FILE = 4096  # bytes


class Taken(Exception):  # noqa: N818 - an expected answer
    """Another process holds the pid file.

    `holder` says which, `pid` its number; None when the one that held it is gone and something it
    forked is not.
    """

    def __init__(self, path: Path, holder: Holder | None) -> None:
        self.holder = holder
        self.pid = holder.pid if holder else None
        who = f"process {holder.pid}" if holder else "what an earlier process left running"
        super().__init__(f"{path} is held by {who}")


@dataclass(frozen=True)
class Holder:
    """The process a pid file names: its number, when it started, in which boot, its address."""

    pid: int
    started: str
    boot: str
    address: str = ""

    @classmethod
    def myself(cls, address: str = "") -> Holder:
        """Return this very process."""
        pid = os.getpid()
        return cls(pid, _start_of(pid) or "", boot_id() or "", address)

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Return what the lines of a pid file say; None when they make no sense."""
        lines = [line.strip() for line in text.splitlines()]
        pid, started, boot, address, *_ = [*lines, "", "", "", ""]
        if not pid.isascii() or not pid.isdigit() or not 0 < len(pid) < 11 or int(pid) < 1:
            return None
        return cls(int(pid), started, boot, address)

    def is_alive(self) -> bool:
        """Return whether this very process still exists; a zombie does not count."""
        if self.boot != (boot_id() or ""):
            return False
        return bool(self.started) and _start_of(self.pid) == self.started

    def signal(self, number: int) -> bool:
        """Send a signal to this very process; False when it is gone.

        Raises PermissionError when it is somebody else's.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except (AttributeError, OSError):  # macOS, and Linux before 5.3
            return self.is_alive() and _kill(self.pid, number)
        try:
            # The descriptor keeps the number from meaning another process; is it still ours?
            if not self.is_alive():
                return False
            signals.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait until this process has ended; False when it has not after `seconds`."""
        return _holds_within(seconds, lambda: not self.is_alive())

    def __str__(self) -> str:
        return f"{self.pid}\n{self.started}\n{self.boot}\n{self.address}\n"


def holder(path: Path) -> Holder | None:
    """Return the living process that holds the pid file at `path`; None when there is none.

    A missing file, nonsense in it, and a process that is gone all mean None.
    """
    for place in (path, _lock_of(path)):
        found = _read(place)
        if found is not None and found.is_alive():
            return found
    return None


@contextlib.contextmanager
def held(path: Path, address: str = "", *, patience: float = PATIENCE) -> Iterator[Holder]:
    """Hold the pid file at `path` for this process, from now to the end of the `with` block.

    To be called by the process that is to be named, so after any fork that detaches it. `address`
    is kept for others to read. Raises Taken when another process holds it; leftovers
    of one that is gone get `patience` seconds to end.
    """
    lock = os.open(
        _lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode=0o600
    )
    try:
        if not _holds_within(patience, lambda: _lock(lock) or holder(path) is not None):
            raise Taken(path, None)
        # Also when the lock is ours: somebody may have removed the file that the other one locked.
        other = holder(path)
        if other is not None:
            raise Taken(path, other)
        mine = Holder.myself(address)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(mine).encode(), 0)
        _write(path, str(mine))
        try:
            yield mine
        finally:
            # A forked child that leaves this block by accident ends nothing of its parent's.
            if os.getpid() == mine.pid:
                if _read(path) == mine:
                    path.unlink()
                os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Holder | None:
    try:
        with path.open("rb") as file:
            return Holder.parse(file.read(LONGEST_FILE).decode("utf-8", "replace"))
    except OSError:
        return None


def _write(path: Path, text: str) -> None:
    """Put `text` into place at once: a reader sees the old file or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _start_of(pid: int) -> str | None:
    """Return when the process with this number started, in words of the system's own choice.

    None when there is no such process, or only its zombie.
    """
    if not LINUX:
        return _start_by_ps(pid)
    identity = Identity.of(pid)
    return str(identity.started) if identity.is_alive() else None


def _start_by_ps(pid: int) -> str | None:
    """Ask `ps`, as macOS has no /proc. It writes the local time: one zone, or it would move."""
    found = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={"LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, started = found.stdout.strip().partition(" ")
    return " ".join(started.split()) if started and not state.startswith("Z") else None


def _holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return whether `condition` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True

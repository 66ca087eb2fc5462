"""A cgroup of its own for each run, where one has been handed over to us to divide (Linux).

systemd does so for a service with `Delegate=yes`. Then the kernel itself knows who belongs to a
run, whatever the processes do to hide, and ends all of them in one step that no fork escapes; also
when the supervisor is dead. Everywhere else this module finds nothing, and /proc has to do.
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import errno
import os
import select
import sys
from contextlib import contextmanager, suppress
from functools import cache

from daemon_app.processes import Identity, boot_id

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "bach-run-"
# systemd marks what it delegates; the second one, of older versions, only root can read
MARKS = ("user.delegate", "trusted.delegate")
PASSES = 50  # looks at members that keep coming, or that are just about to be gone


@cache
def delegated() -> str | None:
    """Return the folder of our cgroup if it is ours to divide, else None."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/self/cgroup") as file:
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        path = _below_mount(own)
    except (OSError, StopIteration):
        return None
    return path if path is not None and is_ours(path) else None


def _below_mount(own: str) -> str | None:
    """Return where the cgroup with the path `own` stands in the file system."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            mount, _, kind = line.partition(" - ")
            if not kind.startswith("cgroup2 "):
                continue
            root, point = mount.split()[3:5]
            root = root.rstrip("/")
            if f"{own}/".startswith(f"{root}/") and "\\" not in point:
                return (point + own[len(root) :]).rstrip("/")
    return None


def is_ours(path: str) -> bool:
    """Say whether we may make cgroups in `path`: allowed to, and meant to."""
    # The hierarchy's root has no such file, nor has a kernel before 5.14.
    if not os.path.exists(f"{path}/cgroup.kill"):
        return False
    if not (os.access(path, os.W_OK | os.X_OK) and os.access(f"{path}/cgroup.procs", os.W_OK)):
        return False
    # A daemon in a subgroup of its own (DelegateSubgroup=) finds the mark one level up.
    if any(_is_marked(each) for each in (path, os.path.dirname(path))):
        return True
    # What systemd hands over it gives to the service's user. A user's own systemd is no sign, as
    # there all belongs to the user.
    return 0 != os.stat(path).st_uid == os.geteuid() and "/user@" not in path


def _is_marked(path: str) -> bool:
    for name in MARKS:
        with suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


class Cgroup:
    """The cgroup of one run, made in the cgroup `parent`, where its supervisor `owner` lives.

    Methods raise OSError unless they say otherwise.
    """

    __slots__ = ("_is_stuck", "_parent", "error", "path")

    def __init__(self, parent: str, run: int, owner: Identity) -> None:
        """Make it."""
        self._parent = parent
        self.error: OSError | None = None
        self._is_stuck = False  # we did not come out of it again
        self.path = f"{parent}/{PREFIX}{run}-{owner.pid}-{owner.started}"
        with suppress(FileExistsError):  # of the same run's earlier attempt
            os.mkdir(self.path)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in it for a moment: who is born meanwhile is in it from the first instant.

        Never raises; `error` says why it was not possible.
        """
        try:
            _write(f"{self.path}/cgroup.procs", b"0")
        except OSError as error:
            self.error = error
            yield
            return
        try:
            yield
        finally:
            try:
                _write(f"{self._parent}/cgroup.procs", b"0")
            except OSError as error:
                self.error = error
                self._is_stuck = True

    def pids(self) -> list[int]:
        """Return the processes in it, and in cgroups that they made in there; never raises."""
        me = os.getpid()
        return [pid for pid in _pids(self.path) if pid != me]

    def cpu_seconds(self) -> float:
        """Return what all of its processes have used, dead or alive."""
        with open(f"{self.path}/cpu.stat", "rb") as file:
            return int(file.readline().split()[1]) / 1_000_000

    def kill(self) -> None:
        """Kill all of its processes in one step."""
        if self._is_stuck:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), self.path)
        _write(f"{self.path}/cgroup.kill", b"1")

    def let_go(self) -> None:
        """Send its processes to where they would be without it, as they are to live on."""
        for _ in range(PASSES):
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    _write(f"{self._parent}/cgroup.procs", b"%d" % pid)

    def remove(self) -> bool:
        """Remove it; False when somebody is left in it, or takes long to be gone. Never raises."""
        return _remove(self.path)


def sweep(parent: str | None = None) -> int:
    """End what lives in cgroups of supervisors that are dead; return how many cgroups that were.

    For `parent` take what is delegated to us, which may be nothing. Takes no longer than the dying,
    at most a tenth of a second for each. Never raises.
    """
    parent = parent or delegated()
    if parent is None:
        return 0
    swept = 0
    try:
        names = os.listdir(parent)
    except OSError:
        return 0
    for name in names:
        owner = _owner(name)
        if owner is None or owner.is_alive():
            continue
        with suppress(OSError):
            _write(f"{parent}/{name}/cgroup.kill", b"1")
            swept += 1
        _remove(f"{parent}/{name}")
    return swept


def _owner(name: str) -> Identity | None:
    """Return the supervisor that made a cgroup, by its name; cgroups live no longer than a boot."""
    parts = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or len(parts) != 3 or not all(map(str.isdecimal, parts)):
        return None
    _run, pid, started = map(int, parts)
    return Identity(pid, started, boot_id())


def _pids(path: str) -> list[int]:
    found: list[int] = []
    try:
        with open(f"{path}/cgroup.procs", "rb") as file:
            found += map(int, file.read().split())
        for inner in _inner(path):
            found += _pids(inner)
    except OSError:
        pass  # it is gone
    return found


def _inner(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _remove(path: str) -> bool:
    for _ in range(PASSES):
        if _is_removed(path):
            return True
        select.poll().poll(2)  # a moment to die
    return False


def _is_removed(path: str) -> bool:
    try:
        for inner in _inner(path):
            _is_removed(inner)
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _write(path: str, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, content)
    finally:
        os.close(file)

"""One process tree: start it, find all of it, end all of it, recognise it later.

Linux gives all that is needed: orphans are adopted by their sub-reaper, the parent's death is a
signal, and /proc shows who descends from whom and what environment it was given. Elsewhere (macOS)
`ps` stands in for /proc, the process group for the sub-reaper, and what was started with a marker
cannot be found again.
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import sys
from contextlib import suppress
from functools import cache

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn

LINUX = sys.platform == "linux"
RUN_MARK, TOKEN_MARK = "BACH_RUN_ID", "BACH_RUN_TOKEN"

# <sys/prctl.h>
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
# ioprio_set(2), by machine; <linux/ioprio.h>
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "armv7l": 314, "ppc64le": 273}
IOPRIO_CLASSES = {"realtime": 1, "best-effort": 2, "idle": 3}

_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A command could not be started.

    `name` is the errno's name ("ENOENT"), `what` the part that failed ("command", "interpreter",
    "cwd", "nice", "process"), `path` the file or folder in question, None where there is none.
    """

    def __init__(self, number: int, what: str, path: str | None) -> None:
        self.name = errno.errorcode.get(number, str(number))
        self.what = what
        self.path = path
        super().__init__(f"{what}: {os.strerror(number)}" + (f": {path}" if path else ""))


class Identity:
    """A process that cannot be mistaken for a later one that was given the same number.

    `started` is its start in clock ticks since boot, `boot` names the boot; both None where the
    system does not tell.
    """

    __slots__ = ("boot", "pid", "started")

    def __init__(self, pid: int, started: int | None, boot: str | None) -> None:
        self.pid = pid
        self.started = started
        self.boot = boot

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Return the identity of the process that has this number now."""
        found = _stat(pid)
        return cls(pid, found.started if found else None, boot_id())

    def is_alive(self) -> bool:
        """Say whether this very process still exists (a zombie does not count)."""
        if self.boot != boot_id():
            return False
        if LINUX:
            found = _stat(self.pid)
            return found is not None and found.state not in "ZX" and found.started == self.started
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            return error.errno == errno.EPERM
        return True

    def signal(self, number: int) -> bool:
        """Send a signal to this very process; False when it is gone."""
        if not LINUX:
            if not self.is_alive():
                return False
            return _kill(self.pid, number)
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            # The descriptor holds on to whoever has the number now; is that still the one?
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


@cache
def boot_id() -> str | None:
    """Return what names this boot of the machine; None where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


# ── starting ─────────────────────────────────────────────────────────────────────────────────────


def adopt_orphans() -> None:
    """Make every orphan among our descendants our child, however it detached itself (Linux)."""
    if LINUX:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have this process sent signal `number` when its parent ends, however that ends (Linux).

    `parent` is its process id, taken before the fork: one that has ended meanwhile ends us now.
    """
    if LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)


def rename(name: str) -> None:
    """Give this process a short name for `ps -o comm` and `top` (Linux; 15 bytes)."""
    if LINUX:
        _libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


class Tripwire:
    """Has the kernel kill a process when this one ends, however that happens (Linux).

    A process can ask for the same by itself, but between fork and exec only, so that it takes a
    fork: 1.4 ms of processor time more than posix_spawn. Here the kernel is to report by SIGKILL
    to the process what happens on a pipe, where nothing happens until we die and the reading end
    goes. In what order a dying process's files are closed is the kernel's affair, so there are two
    pipes, with their ends in either order.
    """

    def __init__(self) -> None:
        _reading, first = os.pipe()
        reading, second = os.pipe()
        fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, second)  # gets a number above
        os.close(reading)
        self._writing = (first, second)
        for end in self._writing:
            fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)

    def attach(self, pid: int) -> None:
        """Tie the life of `pid` to ours, and that of no other any longer."""
        for end in self._writing:
            fcntl.fcntl(end, fcntl.F_SETOWN, pid)


def start(  # noqa: PLR0913 - what a process is made of
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    cwd: str | None,
    stdin: int,
    stdout: int,
    stderr: int,
    umask: int = 0o022,
    nice: int | None = None,
    ionice: str | None = None,
    remark: Callable[[str], None] | None = None,
    tripwire: Tripwire | None = None,
) -> int:
    """Start a command in a session of its own and return its process id once it runs.

    It dies when this process dies (Linux). Its environment is `env` and nothing else, the program
    is looked up in its PATH. A priority that is not granted is no reason not to run: `remark` is
    called with the reason. With a `tripwire`, which only a process with one thread may give, no
    fork is needed as long as the priority stays. Raises StartError.
    """
    program, arguments, variables = _in_bytes(argv, env, cwd)
    streams = (stdin, stdout, stderr)
    if tripwire is not None and not nice and not ionice:
        pid = _spawn(program, arguments, variables, cwd, streams, umask)
        tripwire.attach(pid)
        return pid
    me = os.getpid()
    told, tell = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(told)
        os.close(tell)
        raise StartError(error.errno or errno.EAGAIN, "process", None) from error
    if pid == 0:
        _become(
            program,
            arguments,
            variables,
            me,
            tell,
            cwd,
            streams,
            umask,
            nice,
            ionice,
        )
    os.close(tell)
    # The pipe closes when the command takes the place of our copy; until then it tells its woes.
    woes = b""
    while part := os.read(told, 4096):
        woes += part
    os.close(told)
    for woe in woes.decode().split():
        what, _, number = woe.partition(":")
        if what in ("nice", "ionice"):
            if remark is not None:
                remark(f"{what}: {errno.errorcode.get(int(number), number)}")
            continue
        os.waitpid(pid, 0)
        raise _start_error(int(number), what, program, cwd)
    return pid


def _in_bytes(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None
) -> tuple[str, list[bytes], dict[bytes, bytes]]:
    """Return the file to execute, its arguments and its environment. Raises StartError."""
    if not argv:
        raise StartError(errno.EINVAL, "command", None)
    try:
        program = _find_program(argv[0], env, cwd)
        arguments = [os.fsencode(each) for each in argv]
        variables = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        if any(b"\0" in each for each in (*arguments, *variables, *variables.values())) or any(
            b"=" in name or not name for name in variables
        ):
            raise StartError(errno.EINVAL, "command", argv[0])
    except (UnicodeError, ValueError) as error:
        raise StartError(errno.EINVAL, "command", argv[0]) from error
    return program, arguments, variables


def _spawn(  # noqa: PLR0913, PLR0917
    program: str,
    argv: list[bytes],
    env: dict[bytes, bytes],
    cwd: str | None,
    streams: tuple[int, int, int],
    umask: int,
) -> int:
    """Start a command by posix_spawn, which takes folder and umask from us."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ours = os.umask(umask)
    what = "cwd"
    try:
        if cwd is not None:
            os.chdir(cwd)
        what = "command"
        targets = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(streams)]
        return os.posix_spawn(program, argv, env, file_actions=targets, setsid=True)
    except OSError as error:
        number = error.errno or errno.EIO
        if what == "command" and number in NO_PROCESS:
            what = "process"
        raise _start_error(number, what, program, cwd) from error
    finally:
        os.umask(ours)
        os.fchdir(here)
        os.close(here)


NO_PROCESS = (errno.EAGAIN, errno.ENOMEM)  # nobody but the system is to blame


def _become(  # noqa: C901, PLR0913, PLR0917
    program: str,
    argv: list[bytes],
    env: dict[bytes, bytes],
    parent: int,
    tell: int,
    cwd: str | None,
    streams: tuple[int, int, int],
    umask: int,
    nice: int | None,
    ionice: str | None,
) -> NoReturn:
    """In the child: turn into the command. Short, as each page touched here is copied."""
    what = "process"
    try:
        os.setsid()
        if LINUX:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)  # it died before we asked to be told
        for target, source in enumerate(streams):
            os.dup2(source, target)
        os.umask(umask)
        if nice:
            try:
                os.nice(nice)
            except OSError as error:
                os.write(tell, b"nice:%d " % (error.errno or 0))
        if ionice:
            number = _set_io_priority(ionice)
            if number:
                os.write(tell, b"ionice:%d " % number)
        if cwd is not None:
            what = "cwd"
            os.chdir(cwd)
        what = "command"
        os.execve(program, argv, env)
    except OSError as error:
        os.write(tell, b"%s:%d " % (what.encode(), error.errno or errno.EIO))
    except BaseException:  # noqa: BLE001 - nothing of ours may go on in here
        os.write(tell, b"%s:%d " % (what.encode(), errno.EINVAL))
    finally:
        os._exit(127)


def _find_program(name: str, env: Mapping[str, str], cwd: str | None) -> str:
    """Return the file to execute. Raises StartError: ENOENT when no folder in PATH has it."""
    if "/" in name:
        return name
    refused = None
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(cwd or "", folder, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
        if refused is None and os.path.isfile(path):
            refused = path
    if refused is not None:
        raise StartError(errno.EACCES, "command", refused)
    raise StartError(errno.ENOENT, "command", name)


def _start_error(number: int, what: str, program: str, cwd: str | None) -> StartError:
    if what == "cwd":
        return StartError(number, what, cwd)
    if what == "process":
        return StartError(number, what, None)
    path = os.path.join(cwd or "", program)
    if number == errno.ENOENT and os.path.exists(path):
        # The file is there, so what is missing is the program that its first line asks for.
        return StartError(number, "interpreter", _interpreter(path))
    return StartError(number, what, program)


def _interpreter(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            line = file.readline(256)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = line[2:].split()
    return os.fsdecode(words[0]) if words else None


def _set_io_priority(ionice: str) -> int:
    """Apply "idle", "best-effort" or "best-effort:0" to "…:7"; return 0 or the errno."""
    name, _, level = ionice.partition(":")
    number = IOPRIO_SET.get(os.uname().machine) if LINUX else None
    if number is None or name not in IOPRIO_CLASSES or not (level or "4").isdecimal():
        return errno.ENOSYS if number is None else errno.EINVAL
    value = IOPRIO_CLASSES[name] << 13 | (0 if name == "idle" else int(level or "4"))
    return ctypes.get_errno() if _libc.syscall(number, 1, 0, value) else 0


# ── who descends from whom ───────────────────────────────────────────────────────────────────────


class Process:
    """What the system says about one process, at one moment."""

    __slots__ = ("cpu", "group", "parent", "pid", "resident", "session", "started", "state")

    def __init__(  # noqa: PLR0913, PLR0917 - as proc(5) has them
        self,
        pid: int,
        state: str,
        parent: int,
        group: int,
        session: int,
        started: int | None,
        resident: int,
        cpu: float = 0.0,
    ) -> None:
        self.pid = pid
        self.state = state  # as in proc(5): R S D Z T t X
        self.parent = parent
        self.group = group
        self.session = session
        self.started = started  # clock ticks since boot
        self.resident = resident  # bytes
        self.cpu = cpu  # seconds, those of its ended children too; to a hundredth


def descendants(pid: int, *, zombies: bool = False) -> list[Process]:
    """Return every living descendant of `pid`, parents before children; `zombies` if wanted."""
    found = (_from_children_files if _has_children_files() else _from_everybody)(pid)
    return found if zombies else [each for each in found if each.state not in "ZX"]


def listens(pid: int, number: int) -> bool:
    """Say whether a process has a handler of its own for a signal; False where nobody tells."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            caught = file.read().partition(b"SigCgt:")[2].split(maxsplit=1)
        return bool(int(caught[0], 16) >> (number - 1) & 1)
    except (OSError, IndexError, ValueError):
        return False


def living(pids: Iterable[int]) -> list[Process]:
    """Return those of these processes that live; no zombies."""
    found = (_stat(pid) for pid in pids)
    return [each for each in found if each is not None and each.state not in "ZX"]


def occupied(processes: Iterable[Process]) -> int:
    """Return the bytes of memory that these processes occupy together.

    What several share is divided among them, unlike in the sum of `resident`. Looking takes longer
    in return: up to some milliseconds for each that is big. Where nobody tells, it is that sum.
    """
    total = 0
    for each in processes:
        try:
            with open(f"/proc/{each.pid}/smaps_rollup", "rb") as file:
                parts = file.read().split()
            total += int(parts[parts.index(b"Pss:") + 1]) * 1024
        except (OSError, ValueError):
            total += each.resident
    return total


def transferred(pids: Iterable[int]) -> tuple[int, int]:
    """Return the bytes that these processes had read from and written to storage.

    Those of their ended children included. Linux, as far as /proc/<pid>/io may be read, else 0.
    """
    totals = [0, 0]
    for pid in pids:
        try:
            with open(f"/proc/{pid}/io", "rb") as file:
                parts = file.read().split()
        except OSError:
            continue
        for place, name in enumerate((b"read_bytes:", b"write_bytes:")):
            with suppress(ValueError):
                totals[place] += int(parts[parts.index(name) + 1])
    return totals[0], totals[1]


def children(pid: int) -> list[Process]:
    """Return the children of `pid`, zombies too."""
    if _has_children_files():
        return [found for each in _children_of(pid) if (found := _stat(each))]
    return [each for each in _everybody() if each.parent == pid]


def group(leader: int, besides: set[int]) -> list[Process]:
    """Return the living processes of one process group, those in `besides` left out."""
    return [
        each
        for each in _everybody()
        if each.group == leader and each.pid not in besides and each.state not in "ZX"
    ]


def _from_everybody(pid: int) -> list[Process]:
    by_parent: dict[int, list[Process]] = {}
    for each in _everybody():
        by_parent.setdefault(each.parent, []).append(each)
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        branch = by_parent.pop(waiting.pop(), [])
        found += branch
        waiting += [each.pid for each in branch]
    return found


def _from_children_files(pid: int) -> list[Process]:
    found: list[Process] = []
    waiting = _children_of(pid)
    while waiting:
        each = _stat(waiting.pop())
        if each is not None:
            found.append(each)
            waiting += _children_of(each.pid)
    return found


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(each) for each in file.read().split()]
        except OSError:
            continue
    return found


@cache
def _has_children_files() -> bool:
    """Say whether the kernel was built with CONFIG_PROC_CHILDREN; many small ones are not."""
    me = os.getpid()
    return os.path.exists(f"/proc/{me}/task/{me}/children")


def _everybody() -> list[Process]:
    if LINUX:
        return [found for each in _pids() if (found := _stat(each))]
    return _everybody_by_ps()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _everybody_by_ps() -> list[Process]:
    import subprocess  # dear, and never needed on Linux

    listing = subprocess.run(
        ["/bin/ps", "-Ao", "pid=,stat=,ppid=,pgid=,rss="],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    ).stdout
    found = []
    for line in listing.splitlines():
        pid, state, parent, group, kilobytes = line.split()[:5]
        found.append(
            Process(int(pid), state[0], int(parent), int(group), 0, None, int(kilobytes) * 1024)
        )
    return found


def _stat(pid: int) -> Process | None:
    if not LINUX:
        return None
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name in brackets may itself contain brackets and blanks: everything counts from the last.
    fields = line[line.rfind(b")") + 2 :].split()
    if len(fields) < 22:
        return None
    return Process(
        pid,
        fields[0].decode(),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        int(fields[19]),
        int(fields[21]) * PAGE,
        (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / TICKS,
    )


PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


# ── ending ───────────────────────────────────────────────────────────────────────────────────────


def signal_all(processes: Sequence[Process], number: int) -> None:
    """Send a signal to each; who is gone or not ours is left out."""
    for each in processes:
        _kill(each.pid, number)


def kill_descendants(pid: int, *, freeze: bool) -> list[Process]:
    """Send SIGKILL to every descendant of `pid`; return whom.

    One pass: what is forked meanwhile is met by the next. `freeze` stops everybody first, again
    and again until nobody is new, for trees that fork faster than one can look.
    """
    found = descendants(pid)
    if freeze:
        seen: set[int] = set()
        for _ in range(FREEZE_PASSES):
            new = [each for each in found if each.pid not in seen]
            if not new:
                break
            signal_all(new, signal.SIGSTOP)
            seen.update(each.pid for each in new)
            found = descendants(pid)
    # A group is killed in one step that no fork escapes; then each by itself.
    own = os.getpgid(0)
    for group in {each.group for each in found} - {own}:
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    signal_all(found, signal.SIGKILL)
    return found


FREEZE_PASSES = 20


def kill_tree(pid: int, *, freeze: bool) -> None:
    """Send SIGKILL to every descendant of `pid` and to itself; one pass."""
    kill_descendants(pid, freeze=freeze)
    _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


# ── what was left behind ─────────────────────────────────────────────────────────────────────────


def marks(run: int, token: str) -> dict[str, str]:
    """Return the variables that mark a run's processes; `token` tells installations apart."""
    return {RUN_MARK: str(run), TOKEN_MARK: token}


def find_marked(
    run: int, token: str | None = None, session: Identity | None = None
) -> list[Identity]:
    """Return the living processes that carry the marks of `run`, whoever their parent is by now.

    `session` is the run's command as it once was: who is in its session is the run's too, even if
    it threw its environment away.
    Never returns this process. Empty where the system does not show environments (macOS).
    """
    if not LINUX:
        return []
    wanted = {f"{RUN_MARK}={run}".encode()}
    if token is not None:
        wanted.add(f"{TOKEN_MARK}={token}".encode())
    me = os.getpid()
    found = []
    for pid in _pids():
        if pid == me:
            continue
        if wanted.issubset(_environment(pid)) or _in_session(pid, session):
            identity = Identity.of(pid)
            if identity.is_alive():
                found.append(identity)
    return found


def end_marked(run: int, token: str | None = None, session: Identity | None = None) -> int:
    """Kill what `find_marked` finds until nothing is left; return how many processes that were.

    What cannot be killed (it is not ours) is given up after a few passes.
    """
    ended: set[tuple[int, int | None]] = set()
    for _ in range(MARKED_PASSES):
        found = find_marked(run, token, session)
        if not found:
            break
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for each in found:
                if each.signal(number):
                    ended.add((each.pid, each.started))
    return len(ended)


MARKED_PASSES = 50


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _in_session(pid: int, session: Identity | None) -> bool:
    if session is None or session.started is None or session.boot != boot_id():
        return False
    found = _stat(pid)
    if found is None or found.session != session.pid or (found.started or 0) < session.started:
        return False
    # A number is not given to a new process while it names a session that has members. So the
    # leader is the old one, or there is none, or else all of the old session are gone.
    leader = _stat(session.pid)
    return leader is None or leader.started == session.started

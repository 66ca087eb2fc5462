"""One running run, from start to end, detached from everything else of ours.

Three parts, one file:

- `Launcher`, `look`, `request_stop`: what the runner uses, in any process.
- the zygote: `main`, in an isolated interpreter without Django: a tiny process that forks
  supervisors and keeps a few warm.
- the supervisor: takes one launch after another; owns the command's process tree, its output, its
  result, and a lock. It outlives the daemon, the zygote and the web server.

Launches travel through one Unix socket that all idle supervisors read: the kernel hands each to one
of them, and nothing of ours stands between. The run's folder holds the truth:

    lock         flock'ed by the supervisor while the run lives; says who it is. At the end it
                 takes in the result and is renamed: one file less for each run, and a full disk
                 has room for the result, because it has had room for the lock
    output.*     what the command wrote (see `output`)
    phase        how far a stop has come: asked, term, kill
    progress     what the command said last of its progress, also to `bach progress`; its token
                 lies beside it, see `progress`
    stop         a wish to stop: "stop" or "kill", and the fence it is for
    displace     a wish that the run makes room for somebody, and the fence it is for
    asked        made when that is followed, under the name that BACH_STOP gives to the command
    usage        what the command used of the processor and the memory over time, see `usage`
    result.json  how it ended; written once, whole
    attempts/    what earlier attempts have left, each in a folder named by its fence
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import errno
import fcntl
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import nullcontext, suppress

from daemon_app import cgroups, doorbell, output, processes, progress, usage
from daemon_app.processes import LINUX, Identity

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Any, Literal, NoReturn, Self

GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
DISPLACE_SECONDS = 5.0  # from asking for room to SIGTERM, and from there to SIGKILL
HEED_SECONDS = 2.0  # at most, from the end of the stop command to SIGTERM
LINGER_SECONDS = 5.0  # for descendants that hold the output after the command has ended
BREATH_SECONDS = 0.05  # for other descendants: most that one meets here are just about to end
LEFTOVER_GRACE_SECONDS = 1.0  # from SIGTERM to SIGKILL for them
KILL_SECONDS = 3.0  # after SIGKILL, for what cannot die; then it is reported as a survivor
BELL_SECONDS = 0.04  # between two rings for output
TELL_SECONDS = 0.01  # until a start is told; a command that ends sooner has its end to tell
END_PATIENCE = 2.0  # seconds to wait for room at the runner's bell, for the news of an end
RETELL_SECONDS = 0.25  # until news that found no room at the runner's bell is told again
PROGRESS_SECONDS = 0.25  # between two pieces of news of a command's progress
KEEP_SECONDS = 1.0  # between two times that it is written down
LOOK_SECONDS = 1.0  # at most between two looks at what a tree with limits uses
MOMENT_SECONDS = 0.1  # at least
LOOKS_SHARE = 50  # … and so many times as long as a look takes
SAMPLES_AFTER = 2.0  # what a run uses is written down from then on; most runs are over by then
SAMPLES_SHARE = 1000  # samples are so many times as far apart as a look takes: 0.1 % of a processor
LIVE_PATIENCE = 0.1  # … at a page server's, for the last bytes
WARM = 2
LINGER_IDLE_SECONDS = 10.0  # a warm supervisor beyond WARM waits so long for more work
MOST_SUPERVISORS = 2000
EARLY_SECONDS, EARLY_DEATHS = 1.0, 3  # so many zygotes that die so young: something is wrong
MOST_ATTEMPTS = 20  # that are kept of a run
MOST_RUNS = 1000  # of one supervisor, against leaks
PIPE_BYTES = 1 << 20  # of a busy pipe; a quiet one keeps the kernel's size


# ── what the runner uses ─────────────────────────────────────────────────────────────────────────


class LaunchError(Exception):
    """No supervisor can be had; the message says why."""


class Launcher:
    """Starts runs in supervisors, and keeps `warm` of them ready.

    A thread waits for the zygote's death and replaces it at once; launches on their way are not
    lost. Running runs need neither this object nor the zygote.
    """

    def __init__(self, runtime: Path | str, warm: int = WARM) -> None:
        import threading

        self._runtime = os.fspath(runtime)
        self._warm = warm
        doorbell.check_private(self._runtime)
        # We keep the reading end, for the next zygote: launches on their way survive the old one.
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, WORK_SOCKET)
        for option in (socket.SO_SNDBUF, SO_SNDBUFFORCE):
            with suppress(OSError):  # forcing needs root
                self._sender.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self._sender.setblocking(False)
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()
        self._helper: threading.Thread | None = None
        self._closed = threading.Event()
        self._failure: str | None = None  # why there is no zygote
        self._zygote = self._start_zygote()
        threading.Thread(target=self._watch, name="zygote's keeper", daemon=True).start()

    def launch(self, spec: Mapping[str, Any]) -> None:
        """Have a supervisor start the run that `spec` describes; never blocks.

        What becomes of it is told by bell, and by `look(spec["folder"])`. A launch of the same run
        and fence that comes twice starts once. Raises LaunchError when no zygote can be started, or
        when `spec` lacks one of these keys:

            run, fence      int; a folder that saw this fence or a higher one starts nothing
            folder          str, of this run alone; made when missing
            runtime         str, where the bells are
            argv            list of str; the program is looked up in the PATH of `env`
            env             dict of str, the whole environment of the command

        These may be absent, or None for the default:

            cwd             str; None: /
            timeout         seconds, counted from the start; None or 0: no limit
            soft_timeout    seconds until {"op": "phase", "phase": "soft"} is told, and no more
            grace           seconds from SIGTERM to SIGKILL, and at most for the stop command; 10
            linger          seconds that descendants may hold the output after the command; 5
            leave_descendants   bool: what outlives the command is left alone, not ended
            stop_command    str for /bin/sh, tried before SIGTERM; sees BACH_COMMAND_PID. SIGTERM
                            follows 2 s (or the grace, if shorter) after it has ended, at once if
                            it has failed, and after the grace in any case
            ask_signal      "TERM", "INT", "HUP", "USR1" or "USR2", by which the command is asked to
                            make room; "TERM". That one goes to the whole tree. Any other
                            goes to those alone who listen for it, so that no helper dies of it (a
                            shell listens for INT, and ends); where nobody listens, USR1 and USR2
                            go to nobody, the rest to all
            on_presence     "cancel": who is to make room is stopped instead, and for good
            yield_seconds   from asking for room to SIGTERM, and from there to SIGKILL; 5
            nice            int, as for nice(1)
            ionice          "idle", "best-effort" or "best-effort:0" to "…:7"
            umask           int, of the command; 0o022
            chunk, tail_chunks  limits of the output, see `output.Writer`
            cpu_limit       seconds of processor time that the whole tree may use; None or 0: any
            memory_limit    bytes that the whole tree may occupy; None or 0: any
            limit_sustain   seconds for which it may occupy more; 0
            limit_action    "warn": {"op": "phase", "phase": "cpu_limit"} or "memory_limit" is told,
                            and no more; "stop": the run is ended as well; "warn"
            cgroup          str, a cgroup to make the run's own in; None: where one is delegated
        """
        if missing := REQUIRED - spec.keys():
            raise LaunchError(f"a launch needs {', '.join(sorted(missing))}")
        message = json.dumps(spec).encode()
        if len(message) > LONGEST_LAUNCH:
            message = self._by_file(message)
        with self._lock:
            if self._closed.is_set():
                raise LaunchError("the launcher is closed")
            if self._failure is not None:
                raise LaunchError(f"the supervisors' parent does not start: {self._failure}")
            self._waiting.append(message)
            if self._helper is None and not self._send_waiting():
                import threading

                self._helper = threading.Thread(target=self._help, daemon=True)
                self._helper.start()

    @property
    def zygote(self) -> int:
        """The zygote's process id; another one after its death."""
        return self._zygote.pid

    def close(self) -> None:
        """End the zygote and the idle supervisors. Running runs go on."""
        with self._lock:
            self._closed.set()
            self._waiting.clear()
            self._sender.close()  # which is what the zygote and the idle ones listen for
            self._receiver.close()
        try:
            self._zygote.wait(2.0)
        except Exception:  # noqa: BLE001 - TimeoutExpired, without its import
            self._zygote.kill()
            self._zygote.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        """Replace the zygote whenever it dies; with pauses if it does so again and again."""
        early_deaths = 0
        while True:
            born = time.monotonic()
            self._zygote.wait()
            early_deaths = early_deaths + 1 if time.monotonic() - born < EARLY_SECONDS else 0
            if early_deaths >= EARLY_DEATHS:
                self._failure = self._last_words()
                self._closed.wait(EARLY_SECONDS)
            with self._lock:
                if self._closed.is_set():
                    return
                try:
                    self._zygote = self._start_zygote()
                except LaunchError as error:
                    self._failure = str(error)
                else:
                    self._failure = None

    def _start_zygote(self) -> subprocess.Popen[bytes]:
        import subprocess

        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        log = os.open(f"{self._runtime}/zygote.log", flags, mode=0o600)
        try:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-B", "-c", ZYGOTE),
                    *(HOME, str(self._receiver.fileno()), str(self._warm)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={},  # nothing of ours, so that no secret shows in /proc
                cwd="/",
                pass_fds=[self._receiver.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"cannot execute {sys.executable}: {error}") from error
        finally:
            os.close(log)

    def _last_words(self) -> str:
        try:
            with open(f"{self._runtime}/zygote.log", errors="replace") as file:
                return file.read()[-500:].strip() or "it says nothing"
        except OSError as error:
            return str(error)

    def _send_waiting(self) -> bool:
        """Send what waits; False when the socket is full. The lock is held."""
        while self._waiting:
            message = self._waiting[0]
            try:
                self._sender.send(message)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return False
                raise
            del self._waiting[0]
        return True

    def _help(self) -> None:
        """Send what waits as room comes free; a thread that lives only while the socket is full."""
        room = select.poll()
        room.register(self._sender, select.POLLOUT)
        while True:
            room.poll(100)
            with self._lock:
                try:
                    if self._send_waiting():
                        self._helper = None
                        return
                except OSError:
                    return  # closed

    def _by_file(self, message: bytes) -> bytes:
        """Lay a launch that is too big for the socket into a file; return a launch naming it."""
        path = f"{self._runtime}/launch-{os.getpid()}-{time.monotonic_ns()}.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(path, flags, mode=0o600), "wb") as file:
            file.write(message)
        return json.dumps({"file": path}).encode()


class Sighting:
    """What can be seen of a run from its folder.

    `kind` is "running" (a supervisor holds the lock), "ended" (`result` says how), "gone" (the
    supervisor died without a result) or "absent" (nothing was ever started here). `pid` is the
    supervisor, `command` the command's process, `fence` that of the attempt; None where unknown.
    """

    __slots__ = (
        *("command", "fence", "identity", "kind", "pid", "result", "started_at"),
        "_command_started",
    )

    def __init__(
        self,
        kind: Literal["running", "ended", "gone", "absent"],
        result: dict[str, Any] | None = None,
        who: Mapping[str, Any] | None = None,
    ) -> None:
        who = who or {}
        self.kind = kind
        self.result = result
        self.pid: int | None = who.get("pid")
        self.fence: int | None = who.get("fence")
        self.command: int | None = who.get("command")
        self.started_at: float | None = who.get("started_at")
        self._command_started: int | None = who.get("command_started")
        self.identity = (
            Identity(self.pid, who.get("started"), who.get("boot")) if self.pid else None
        )

    @property
    def session(self) -> Identity | None:
        """The command, whose session `processes.end_marked` looks into; None when unknown."""
        if self.command is None or self.identity is None:
            return None
        return Identity(self.command, self._command_started, self.identity.boot)

    def __repr__(self) -> str:
        return f"Sighting({self.kind!r}, pid={self.pid}, fence={self.fence})"


def look(folder: Path | str) -> Sighting:
    """Say what has become of the run in `folder`. Costs some file calls, waits for nothing."""
    folder = os.fspath(folder)
    try:
        lock = os.open(f"{folder}/lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        result = _read_result(folder)
        return Sighting("absent") if result is None else Sighting("ended", result, result)
    try:
        # Held first, result second: a supervisor writes the result before it lets go.
        held = False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        who = _read_lock(lock)
    finally:
        os.close(lock)
    result = _read_result(folder)
    if result is None and not held and "outcome" in who:
        result = who  # its supervisor was killed before it could rename the file
    if result is not None and result["fence"] >= who.get("fence", 0):
        return Sighting("ended", result, result)
    if held:
        return Sighting("running", None, who)
    return Sighting("gone", None, who) if who else Sighting("absent")


def request_stop(
    folder: Path | str, how: Literal["stop", "kill", "displace"] = "stop", fence: int | None = None
) -> bool:
    """Ask for the end of the run in `folder`: "stop" asks politely first, "kill" does not.

    "displace" asks it to make room for somebody: the file appears that BACH_STOP names, the stop
    command starts, `ask_signal` is sent; then come SIGTERM and SIGKILL, each `yield_seconds` later.
    Its outcome is "displaced", but "exited" if the command had ended before it was asked, or has
    finished all the same: exit code 0 and progress 100. Any other wish wins over this one, whether
    it came before or comes later: then the outcome is "stopped", and its own grace counts.

    With a `fence` that attempt is meant, also when it has not begun yet and an earlier one has left
    its end here. False when there is nothing to stop any more. True when a supervisor was told, or
    when none has begun yet: then the wish lies in the folder, and the run will end before it
    starts.
    """
    folder = os.fspath(folder)
    if _has_ended(look(folder), fence):
        return False
    os.makedirs(folder, mode=0o700, exist_ok=True)
    wish = how if fence is None else f"{how} {fence}"
    # In a file of its own, so that one who displaces never overwrites another's wish to stop.
    name = "displace" if how == "displace" else "stop"
    output.write_whole(f"{folder}/{name}", wish.encode())
    # Looked at again: a supervisor that began meanwhile has missed the file, or is still to see it.
    found = look(folder)
    if found.kind == "running" and found.identity is not None:
        return found.identity.signal(signal.SIGUSR1)
    return not _has_ended(found, fence)


def _has_ended(seen: Sighting, fence: int | None) -> bool:
    return seen.kind in ("ended", "gone") and (fence is None or (seen.fence or 0) >= fence)


def _read_lock(lock: int) -> dict[str, Any]:
    """Return what a supervisor wrote into its lock: who it is, what it started, or the result."""
    who: dict[str, Any] = {}
    for line in os.pread(lock, LONGEST_LOCK, 0).splitlines():
        try:
            who |= json.loads(line)
        except ValueError:
            break  # the rest was cut off by a full disk
    return who


def _read_result(folder: str) -> dict[str, Any] | None:
    try:
        file = os.open(f"{folder}/result.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(file, "rb") as opened:
        try:
            result = json.loads(opened.read())
        except ValueError:
            return None  # power was lost before it reached the disk
    return result if isinstance(result, dict) and "fence" in result else None


# Imported, not run as a file: compiling it anew would make each supervisor a quarter bigger.
ZYGOTE = "import sys; sys.path.append(sys.argv[1]); from daemon_app.supervisor import main; main()"
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK_SOCKET = socket.SOCK_SEQPACKET if LINUX else socket.SOCK_DGRAM
SO_SNDBUFFORCE = 32  # <asm-generic/socket.h>; not in the socket module


# ── the zygote ───────────────────────────────────────────────────────────────────────────────────

# What a supervisor's slot in the shared table says
FREE, IDLE, BUSY = 0, 1, 2
# Exit status of a supervisor that left processes behind, on purpose or because they cannot be ended
LEFT = 3


def main() -> None:
    """Be the zygote. Arguments: HOME, the descriptor of the launches, how many to keep warm."""
    os.umask(0o077)
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Handlers that do nothing, not SIG_IGN: an ignored signal would stay ignored in the commands.
    for number in (
        *(signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE),
        *(signal.SIGXFSZ, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGTTOU),
    ):
        signal.signal(number, _nothing)
    processes.adopt_orphans()
    processes.rename("bach-zygote")
    cgroups.delegated()  # found once, for all supervisors
    zygote = _Zygote(int(sys.argv[2]), int(sys.argv[3]))
    gc.collect()
    gc.disable()
    gc.freeze()
    zygote.serve()


def _nothing(_number: int, _frame: object) -> None:
    pass


class _Zygote:
    """Forks supervisors: as many as keep `warm` of them idle."""

    def __init__(self, receiver: int, warm: int) -> None:
        self.warm = warm
        self.work = receiver
        os.set_blocking(receiver, False)
        os.set_inheritable(receiver, False)
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.slots = mmap.mmap(-1, MOST_SUPERVISORS)  # shared with all supervisors
        self.supervisors: dict[int, int] = {}  # process id → slot
        self.left: set[int] = set()  # children that are meant to live on
        # Supervisors note here that too few of them are idle.
        self.notes, self.noted = os.pipe()
        # Held open by us alone: its end tells the supervisors of ours.
        self.lifeline, self.life = os.pipe()
        for end in (self.notes, self.noted):
            os.set_blocking(end, False)

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
        woken = _wake_by_signals()
        events = select.poll()
        events.register(self.work, 0)  # nothing but the end of the daemon
        events.register(self.notes, select.POLLIN)
        events.register(woken, select.POLLIN)
        patience = None
        while True:
            patience = None if self._keep_warm() else 200
            for descriptor, _ in events.poll(patience):
                if descriptor == self.work:
                    os._exit(0)
                _empty(descriptor)
                if descriptor == woken:
                    self._reap()

    def idle(self) -> int:
        """How many supervisors wait for work."""
        return self.slots[:].count(IDLE)

    def _keep_warm(self) -> bool:
        """Fork until enough supervisors are idle; False when the system refuses."""
        while self.idle() < self.warm and len(self.supervisors) < MOST_SUPERVISORS:
            slot = self.slots.find(b"\0")
            self.slots[slot] = IDLE
            try:
                pid = os.fork()
            except OSError:
                self.slots[slot] = FREE
                return False
            if pid == 0:
                try:
                    _Supervisor(self, slot).serve()
                except BaseException:  # noqa: BLE001 - this copy must never go on as a zygote
                    sys.excepthook(*sys.exc_info())  # into zygote.log
                finally:
                    os._exit(1)
            self.supervisors[pid] = slot
        return True

    def _reap(self) -> None:
        killed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.left.discard(pid)
            slot = self.supervisors.pop(pid, None)
            if slot is None:
                continue
            was, self.slots[slot] = self.slots[slot], FREE
            if status == 0:
                continue
            if os.waitstatus_to_exitcode(status) == LEFT:
                self.left |= self._strangers()
            elif was == BUSY:
                killed = True
        if killed:
            self._end_orphans()
            cgroups.sweep()

    def _strangers(self) -> set[int]:
        """Children that are no supervisors: orphans of a supervisor's tree, adopted by us."""
        found = {each.pid for each in processes.children(os.getpid()) if each.state not in "ZX"}
        return found - self.supervisors.keys()

    def _end_orphans(self) -> None:
        """End what a killed supervisor left. Its command has died with it; its descendants not."""
        before: set[int] | None = None
        for attempt in range(processes.FREEZE_PASSES):
            looked = processes.children(os.getpid())
            spared = self.supervisors.keys() | self.left
            orphans = {each.pid for each in looked if each.state not in "ZX"} - spared
            # Who dies while one looks leaves us its children after the list was read. Nobody is
            # left only where all whom the last look has met were dead by then, and nobody is new.
            seen = {each.pid for each in looked}
            if not orphans and seen == before:
                return
            before = None if orphans else seen
            for orphan in orphans:
                processes.kill_tree(orphan, freeze=attempt > 1)
            if orphans:
                select.poll().poll(5)  # a moment to die


def _wake_by_signals() -> int:
    """Return a descriptor that becomes readable when a signal arrives, so that none is missed."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return woken


def _empty(descriptor: int) -> None:
    with suppress(BlockingIOError):
        os.read(descriptor, 4096)


# ── the supervisor ───────────────────────────────────────────────────────────────────────────────


class _Supervisor:
    """Takes launches, one after another, and sees each through."""

    def __init__(self, zygote: _Zygote, slot: int) -> None:
        os.setsid()
        os.close(zygote.life)
        processes.adopt_orphans()
        processes.rename("bach-supervisor")
        self.zygote = zygote
        self.slot = slot
        self.null = zygote.null
        self.tripwire = processes.Tripwire() if LINUX else None
        self.woken = _wake_by_signals()
        self.identity = Identity.of(os.getpid())
        self.terminated = self.wished = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGUSR1, self._on_sigusr1)
        self._idle: select.epoll | select.poll
        if LINUX:
            self._idle = select.epoll()
            # Exclusive: one launch wakes one supervisor, and always the first that is free, so
            # that a few stay hot in the caches and the others can leave.
            self._idle.register(zygote.work, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        else:
            self._idle = select.poll()
            self._idle.register(zygote.work, select.POLLIN)
        self._idle.register(zygote.lifeline, 0)
        self._idle.register(self.woken, select.POLLIN)

    def serve(self) -> NoReturn:
        for _ in range(MOST_RUNS):
            spec = self._next()
            if spec is None:
                break
            if not _Run(spec, self).supervise():
                os._exit(LEFT)
        os._exit(0)  # quicker than an interpreter that tidies up, and nothing is buffered

    def _next(self) -> dict[str, Any] | None:
        """Wait for a launch; None when there is no more work for this supervisor."""
        message = self._receive()
        if message is None:
            return None
        spec: dict[str, Any] = json.loads(message)
        if "file" in spec:
            with open(spec["file"], "rb") as file:
                message = file.read()
            os.unlink(spec["file"])
            spec = json.loads(message)
        return spec

    def _receive(self) -> bytes | None:
        slots, warm = self.zygote.slots, self.zygote.warm
        slots[self.slot] = IDLE
        self.terminated = False
        while True:
            surplus = self.zygote.idle() > warm
            events = self._idle.poll(LINGER_IDLE_SECONDS * TIMEOUT_UNIT if surplus else None)
            for descriptor, event in events:
                if descriptor == self.woken:
                    _empty(descriptor)
                elif event & ~select.POLLIN:
                    return None  # the daemon or the zygote has ended
            if self.terminated or (not events and self.zygote.idle() > warm):
                slots[self.slot] = FREE
                return None
            try:
                message = os.read(self.zygote.work, LONGEST_LAUNCH)
            except BlockingIOError:
                continue  # somebody was quicker
            except OSError:
                return None
            if not message:
                return None
            slots[self.slot] = BUSY
            if self.zygote.idle() < warm:
                with suppress(BlockingIOError):  # a thousand notes wait already
                    os.write(self.zygote.noted, b"\0")
            return message

    def _on_sigterm(self, _number: int, _frame: object) -> None:
        self.terminated = True

    def _on_sigusr1(self, _number: int, _frame: object) -> None:
        self.wished = True


LONGEST_LAUNCH = 65_536  # bytes; a longer one goes by file
REQUIRED = frozenset({"run", "fence", "folder", "runtime", "argv", "env"})
TIMEOUT_UNIT = 1 if LINUX else 1000  # epoll counts in seconds, poll in milliseconds


class _Run:
    """One run: from its launch to its result."""

    def __init__(self, spec: Mapping[str, Any], supervisor: _Supervisor) -> None:
        self.spec = spec
        self.supervisor = supervisor
        self.folder: str = spec["folder"]
        self.runtime: str = spec["runtime"]
        self.grace: float = _given(spec, "grace", GRACE_SECONDS)
        self.lock = -1
        self.output = output.Writer(
            self.folder,
            chunk=_given(spec, "chunk", output.CHUNK),
            tail_chunks=_given(spec, "tail_chunks", output.TAIL_CHUNKS),
        )
        self.remarks: list[str] = []
        self.error: processes.StartError | None = None
        # "timed_out", "stopped", "over_limit" or "displaced", once we end it
        self.reason: str | None = None
        self.phase: str | None = None
        self.told_phase: str | None = None  # not that of mere leftovers
        self.patience = self.grace  # from one rung of the ladder to the next
        self.displacing = False  # down a ladder of its own
        self.asked_at: float | None = None  # epoch
        self.command: int | None = None  # process id
        self.status: int | None = None  # of the command, once it has ended
        self.stopper: int | None = None  # process id of the stop command
        self.cgroup: cgroups.Cgroup | None = None
        self.alone = False  # no child is left, so no descendant either
        self.cpu = 0.0
        self.peak = 0
        self.read = self.written = 0  # bytes, by who was reaped
        # Until it turns into the command, our copy is as big as we are, and the kernel counts that.
        self.floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.left_behind: set[int] = set()
        self.left_running = self.survivors = 0
        self.limits = {kind: spec[f"{kind}_limit"] for kind in LIMITS if spec.get(f"{kind}_limit")}
        self.limit: str | None = None  # the first that was crossed
        self.too_big_since: float | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.started = self.ended = 0.0  # by the monotonic clock, like all that follow
        self.streams: dict[int, int] = {}  # open reading end → STDOUT or STDERR
        self.listeners: dict[int, progress.Listener] = {}  # … → who hears its progress
        path = spec["env"].get(progress.FILE)
        own_path = f"{self.folder}/{progress.NAME}"
        self.progress = _Report(own_path, path)
        self.token = _Report(progress.token_path(own_path), path and progress.token_path(path))
        self.progress_kept_at = float("-inf")
        self.events = select.poll()
        # What is to be done, and when (monotonic). Each action sees itself whether to come again.
        self.due: dict[Callable[[_Run, float], None], float] = {}
        self.over = False  # nothing more to wait for, even if something lives on
        self.kill_until = 0.0
        self.kills = 0
        self.measure_every = 0.25
        self.usage = usage.Recorder(self.folder)
        self.bell_at = self.progress_bell_at = 0.0  # not before
        self.unrung = False  # bytes came that no bell has told of
        self.untold: list[bytes] = []  # news of phases
        self.noted_start = False

    def supervise(self) -> bool:
        """See the run through; False when processes are left, so that this supervisor must go."""
        try:
            if not self._take_folder():
                return True
        except OSError as error:
            if self.lock >= 0:
                os.close(self.lock)
            self._cannot(error, "folder", self.folder)
            self._tell_end(json.dumps(self._result()))
            return True
        try:
            if wish := self._read_wish():
                self.reason = "displaced" if wish == "displace" else "stopped"
            elif self._start():
                self._watch()
        except Exception:  # noqa: BLE001 - one run must not take others with it
            self._give_up()
        self._finish()
        return self.survivors == 0 and self.left_running == 0

    # ── the folder ───────────────────────────────────────────────────────────────────────────────

    def _take_folder(self) -> bool:
        """Make the folder ours. False when this run was started before; raises OSError."""
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            pass  # a stop was wished already, or this is another attempt
        except FileNotFoundError:
            os.makedirs(self.folder, 0o700, exist_ok=True)
        if not self._hold_lock():
            return False
        result = _read_result(self.folder)
        earlier = result or (_read_lock(self.lock) if os.fstat(self.lock).st_size else {})
        fence = max(earlier.get("fence", 0), *self._attempts(), 0)
        if fence >= self.spec["fence"]:
            if result is not None or not earlier:
                os.unlink(f"{self.folder}/lock")  # made by us, just now
            if result is not None and fence == result["fence"] == self.spec["fence"]:
                self._tell_end(json.dumps(result))  # whoever asks again has missed it
            os.close(self.lock)
            return False
        if fence:
            self._put_aside(fence)
        identity = self.supervisor.identity
        self._note(
            {
                "run": self.spec["run"],
                "fence": self.spec["fence"],
                "pid": identity.pid,
                "started": identity.started,
                "boot": identity.boot,
            }
        )
        return True

    def _hold_lock(self) -> bool:
        """Open and lock the lock; False when another supervisor keeps it. Raises OSError."""
        path = f"{self.folder}/lock"
        for _ in range(LOCK_TRIES):
            self.lock = os.open(path, LOCK_FLAGS, mode=0o600)
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # It may have become a result while we waited; then that is not the lock any more.
                if os.path.samestat(os.fstat(self.lock), os.stat(path, follow_symlinks=False)):
                    return True
            except FileNotFoundError:
                pass
            except BlockingIOError:
                if self._is_running(path):
                    break
                select.poll().poll(10)  # somebody looks at it, which takes a moment
            os.close(self.lock)
        else:
            return False
        os.close(self.lock)
        return False

    def _is_running(self, path: str) -> bool:
        """Say whether a supervisor keeps the lock that we have opened, not one that looks at it."""
        try:
            fcntl.flock(self.lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # As long as it has that name; a supervisor at its end has given it another one.
            with suppress(FileNotFoundError):
                return os.path.samestat(os.fstat(self.lock), os.stat(path, follow_symlinks=False))
        return False

    def _attempts(self) -> list[int]:
        """Return the fences of the attempts that were put aside, in order."""
        try:
            names = os.listdir(f"{self.folder}/{ATTEMPTS}")
        except OSError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    def _put_aside(self, fence: int) -> None:
        """Move what an earlier attempt has left to a folder of its own. Raises OSError.

        Whoever is killed in here is followed by an attempt that moves the rest, as the new folder
        names the fence. On a full disk to begin is worth more than to remember.
        """
        aside = f"{self.folder}/{ATTEMPTS}/{fence}"
        names = set(os.listdir(self.folder)) - {"lock", ATTEMPTS}
        names.difference_update(name for name in WISHES if self._read(name, only_ours=True))
        # Somebody may be writing a wish for this attempt right now.
        names.difference_update(f"{name}~" for name in WISHES)
        try:
            os.makedirs(aside, 0o700, exist_ok=True)
            for name in names:
                os.rename(f"{self.folder}/{name}", f"{aside}/{name}")
            for name in names.intersection(WISHES):
                # It took the place of an old one after we had looked, and went with it.
                if self._read(f"{ATTEMPTS}/{fence}/{name}", only_ours=True):
                    os.rename(f"{aside}/{name}", f"{self.folder}/{name}")
            if who := os.pread(self.lock, LONGEST_LOCK, 0):
                output.write_whole(f"{aside}/lock", who)  # it died: so it looks there, too
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.remarks.append(f"attempts: {_name(error)}")
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(f"{self.folder}/{name}")
        os.ftruncate(self.lock, 0)
        for old in self._attempts()[:-MOST_ATTEMPTS]:
            _remove_folder(f"{self.folder}/{ATTEMPTS}/{old}")

    def _note(self, who: Mapping[str, Any]) -> None:
        os.write(self.lock, json.dumps(who).encode() + b"\n")

    def _read_wish(self) -> str | None:
        """Return how this attempt is to end, None if nobody wishes that."""
        wish = self._read("stop") or self._read("displace")
        ends_for_good = wish == "displace" and self.spec.get("on_presence") == "cancel"
        return "stop" if ends_for_good else wish

    def _read(self, wish: str, *, only_ours: bool = False) -> str | None:
        """Return what the file of a wish says for this attempt.

        It may leave open which attempt it is for; `only_ours` does without such.
        """
        try:
            with open(f"{self.folder}/{wish}", "rb") as file:
                how, _, fence = file.read(40).decode(errors="replace").partition(" ")
        except OSError:
            return None
        is_ours = fence == str(self.spec["fence"]) or not (fence or only_ours)
        return how if is_ours else None

    # ── the command ──────────────────────────────────────────────────────────────────────────────

    def _start(self) -> bool:
        """Start the command; False when it cannot be, with the reason in `error`."""
        spec = self.spec
        try:
            out, out_end = os.pipe()
            err, err_end = os.pipe()
        except OSError as error:
            self._cannot(error, "process", None)
            return False
        self._make_cgroup()
        try:
            with self._in_cgroup():
                self.command = processes.start(
                    spec["argv"],
                    spec["env"],
                    cwd=spec.get("cwd"),
                    stdin=self.supervisor.null,
                    stdout=out_end,
                    stderr=err_end,
                    umask=_given(spec, "umask", UMASK),
                    nice=spec.get("nice"),
                    ionice=spec.get("ionice"),
                    remark=self.remarks.append,
                    tripwire=self.supervisor.tripwire,
                )
        except processes.StartError as error:
            self.error = error
            os.close(out)
            os.close(err)
            return False
        finally:
            os.close(out_end)
            os.close(err_end)
        self.started_at, self.started = time.time(), time.monotonic()
        if self.cgroup is not None and self.cgroup.error is not None:
            self.remarks.append(f"cgroup: {_name(self.cgroup.error)}")
        self.streams = {out: output.STDOUT, err: output.STDERR}
        self.listeners = {end: progress.Listener() for end in self.streams}
        for end in (out, err, self.supervisor.woken):
            self.events.register(end, select.POLLIN)
        self.due = {
            _Run._tell_start: self.started + TELL_SECONDS,
            _Run._measure: self.started + self.measure_every,
        }
        if self.limits:
            self.due[_Run._check_limits] = self.started + MOMENT_SECONDS
        if spec.get("timeout"):
            self.due[_Run._time_out] = self.started + spec["timeout"]
        if spec.get("soft_timeout"):
            self.due[_Run._warn] = self.started + spec["soft_timeout"]
        return True

    def _make_cgroup(self) -> None:
        """Give the run a cgroup of its own where that is possible."""
        parent = _given(self.spec, "cgroup", cgroups.delegated())
        if parent:
            try:
                self.cgroup = cgroups.Cgroup(parent, self.spec["run"], self.supervisor.identity)
            except OSError as error:
                self.remarks.append(f"cgroup: {_name(error)}")

    def _in_cgroup(self) -> AbstractContextManager[None]:
        return nullcontext() if self.cgroup is None else self.cgroup.inside()

    def _cannot(self, error: OSError, what: str, path: str | None) -> None:
        self.error = processes.StartError(error.errno or errno.EIO, what, path)

    def _watch(self) -> None:
        """Serve output, signals and deadlines until nothing of the run lives."""
        woken = self.supervisor.woken
        self._reap()  # what ended before we listened
        while True:
            now = time.monotonic()
            for action in [action for action, at in self.due.items() if now >= at]:
                del self.due[action]
                action(self, now)
            if self._is_over(now):
                break
            wait = max(0.0, min(self.due.values()) - now) * 1000 + 0.5
            for descriptor, _ in self.events.poll(wait):
                if descriptor == woken:
                    _empty(woken)
                    self._reap()
                    self._heed()
                else:
                    self._drain(descriptor)
        for descriptor in list(self.streams):
            os.set_blocking(descriptor, False)
            while self._drain(descriptor):
                pass
            if descriptor in self.streams:  # held open by somebody who is none of ours
                self._close(descriptor)

    def _is_over(self, now: float) -> bool:
        """Say whether the run has ended, with all that it started. If not, see to it."""
        if self.over or self.status is None:
            return self.over
        if self.alone or not (LINUX or self._tree()):
            return True
        # The command has ended, descendants have not. Who may still write gets a while to finish.
        if self.phase is None:
            wait = _given(self.spec, "linger", LINGER_SECONDS) if self.streams else BREATH_SECONDS
            before = self.due.get(_Run._end_leftovers, now + wait)
            self.due[_Run._end_leftovers] = min(before, now + wait)
        return self.over

    def _end_leftovers(self, now: float) -> None:
        if self.phase is not None:
            return
        if self.spec.get("leave_descendants"):
            self.left_running = len(self._tree())
            self.over = True
            self._add_up_the_living()
            if self.cgroup is not None:
                with suppress(OSError):
                    self.cgroup.let_go()
            return
        # No grace as long as the command's own: it has had its say, they are only in the way.
        self.phase = "term"
        self._term()
        self.due[_Run._escalate] = now + min(self.grace, LEFTOVER_GRACE_SECONDS)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.alone = LINUX  # elsewhere orphans are not our children
                return
            if pid == 0:
                self.alone = False
                return
            self.cpu += usage.ru_utime + usage.ru_stime
            self.read += usage.ru_inblock * BLOCK
            self.written += usage.ru_oublock * BLOCK
            if usage.ru_maxrss > self.floor:
                self.peak = max(self.peak, usage.ru_maxrss * MAXRSS_UNIT)
            if pid == self.command:
                self.status = status
                self.ended, self.ended_at = time.monotonic(), time.time()
            elif pid == self.stopper and self.phase == "asked":
                self._heed_stopper(status)

    # ── the end that we bring ────────────────────────────────────────────────────────────────────

    def _time_out(self, now: float) -> None:
        if self.status is None:
            self._end("timed_out", now)

    def _warn(self, _now: float) -> None:
        if self.status is None:
            self._announce("soft")

    def _check_limits(self, now: float) -> None:
        """See whether the tree uses more than it may, and when that could be so next."""
        if self.status is not None:
            return
        tree = self._measure_tree()
        pause = LOOK_SECONDS
        if limit := self.limits.get("cpu"):
            used = self._cpu_of(tree)
            # Twice: who was counted alive may have been counted once more as somebody's dead child.
            if used >= limit and self._cpu_of(self._tree()) >= limit:
                self._cross("cpu", now)
            else:
                pause = min(pause, max(0.0, limit - used) / PROCESSORS)
        if limit := self.limits.get("memory"):
            # The sum counts what is shared again and again, so that it is never too small.
            resident = sum(each.resident for each in tree)
            if resident <= limit or processes.occupied(tree) <= limit:
                self.too_big_since = None
            else:
                since = now if self.too_big_since is None else self.too_big_since
                self.too_big_since = since
                left = since + _given(self.spec, "limit_sustain", 0.0) - now
                if left <= 0:
                    self._cross("memory", now)
                pause = min(pause, left)
            if resident > limit / 2:  # it may grow soon, or shrink for a while
                pause = min(pause, LOOK_SECONDS / 4)
        if self.limits:
            after = time.monotonic()
            pause = min(LOOK_SECONDS, max(pause, MOMENT_SECONDS, LOOKS_SHARE * (after - now)))
            self.due[_Run._check_limits] = after + pause

    def _cpu_of(self, tree: list[processes.Process]) -> float:
        """Return the processor time of all that ever lived of the run, as far as it is known.

        A cgroup knows it. Without, a child that its parent does not wait for is missing.
        """
        if self.cgroup is not None:
            with suppress(OSError):
                return self.cgroup.cpu_seconds()
        return self.cpu + sum(each.cpu for each in tree)

    def _cross(self, kind: str, now: float) -> None:
        """A limit was crossed: tell it once, and stop the run if that is wanted."""
        del self.limits[kind]
        self.limit = self.limit or kind
        self._announce(f"{kind}_limit")
        if self.spec.get("limit_action") == "stop":
            self._end("over_limit", now)

    def _heed(self) -> None:
        """Follow a wish to stop, which came by signal."""
        if self.supervisor.wished:
            self.supervisor.wished = False
            wish, now = self._read_wish(), time.monotonic()
            if wish == "displace":
                self._displace(now)
            elif wish is not None:
                if self.displacing:
                    self._overrule(now)
                self._end("stopped", now, at_once=wish == "kill")
        if self.supervisor.terminated:
            self.supervisor.terminated = False
            self._end("stopped", time.monotonic())

    def _displace(self, now: float) -> None:
        """Have the run make room, unless it is about to end in any case."""
        if self.phase is not None:
            return
        self.patience = _given(self.spec, "yield_seconds", DISPLACE_SECONDS)
        self._reap()  # who has just ended by itself was not displaced
        if self.status is None:
            self.reason, self.displacing = "displaced", True
            self._enter("asked", now)
        else:
            self._enter("term", now)

    def _overrule(self, now: float) -> None:
        """Turn a displacement into a stop, with the grace that one has."""
        self.displacing, self.patience = False, self.grace
        if self.status is None:
            self.reason = "stopped"
        if self.phase != "kill":
            # It has been asked, be it by a signal that it may take as news: now SIGTERM is next.
            self.due[_Run._escalate] = now if self.phase == "asked" else now + self.patience

    def _end(self, reason: str, now: float, *, at_once: bool = False) -> None:
        """Step onto the ladder, or jump to its last rung."""
        if self.status is None and self.reason is None:
            self.reason = reason
        if at_once:
            self._enter("kill", now)
        elif self.phase is None:
            self._escalate(now)

    def _escalate(self, now: float) -> None:
        if self.phase is None and self.spec.get("stop_command") and self.status is None:
            self._enter("asked", now)
        elif self.phase in (None, "asked"):
            self._enter("term", now)
        else:
            self._enter("kill", now)

    def _enter(self, phase: str, now: float) -> None:
        """Do what belongs to a rung of the ladder, and tell of it: who has to end comes first."""
        if self.phase == phase:
            return
        self.phase = phase
        at = self._begin_patience()
        if phase == "asked" and self.displacing:
            at = self._ask_for_room()
        elif phase == "asked":
            self._ask()
        elif phase == "term":
            self._term()
        else:
            del self.due[_Run._escalate]
            self.kill_until = now + KILL_SECONDS
            self._kill(now)
        if self.reason is not None:  # else the command has ended, and this is about leftovers
            self.told_phase = phase
            self.asked_at = at if self.asked_at is None else self.asked_at
            try:
                output.write_whole(f"{self.folder}/phase", phase.encode())
            except OSError as error:
                self.remarks.append(f"phase: {_name(error)}")
            self._announce(phase, at)

    def _ask_for_room(self) -> float:
        """Ask in all the ways there are; return when the signal went out (epoch)."""
        try:
            output.write_whole(f"{self.folder}/{ASKED}", DISPLACED)
        except OSError as error:
            self.remarks.append(f"{ASKED}: {_name(error)}")
        name = self.spec.get("ask_signal") or "TERM"
        if name not in ASK_SIGNALS:
            self.remarks.append(f"ask_signal: {name}")
        number = ASK_SIGNALS.get(name, signal.SIGTERM)
        asked = self._whom_to_ask(number)  # before there is a stop command among them
        if self.spec.get("stop_command"):
            self._ask()
        at = self._begin_patience()  # looking at the tree may have taken a while
        self._signal(asked, number)
        return at

    def _begin_patience(self) -> float:
        """Let the time to the next rung begin now; return when that is (epoch)."""
        at = time.time()
        self.due[_Run._escalate] = time.monotonic() + self.patience
        return at

    def _whom_to_ask(self, number: int) -> list[processes.Process]:
        """Return who gets the signal by which the command is asked to make room.

        A shell does not hand on what it gets, so the tree gets it, not only the command. But most
        programs know nothing of USR1 and die of it: a pipe's other end, or the shell that was to
        tell how its command has ended.
        """
        tree = self._tree()
        if number == signal.SIGTERM:
            return tree
        listening = [each for each in tree if processes.listens(each.pid, number)]
        return listening or ([] if number in MERE_NEWS else tree)

    def _ask(self) -> None:
        """Run the stop command. Its own output goes where the command's errors go."""
        stderr = self.supervisor.null
        for descriptor, stream in self.streams.items():
            if stream == output.STDERR and LINUX:
                stderr = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            with self._in_cgroup():
                self.stopper = processes.start(
                    ["/bin/sh", "-c", self.spec["stop_command"]],
                    {**self.spec["env"], "BACH_COMMAND_PID": str(self.command)},
                    cwd=self.spec.get("cwd"),
                    stdin=self.supervisor.null,
                    stdout=stderr,
                    stderr=stderr,
                    umask=_given(self.spec, "umask", UMASK),
                )
        except processes.StartError as error:
            self.remarks.append(f"stop_command: {error.name}")
            if not self.displacing:
                self.due[_Run._escalate] = 0.0
        finally:
            if stderr != self.supervisor.null:
                os.close(stderr)

    def _heed_stopper(self, status: int) -> None:
        """The stop command has ended: what it asked for is to come about soon, or never will."""
        if status:
            self.remarks.append(f"stop_command: exit {os.waitstatus_to_exitcode(status)}")
        if self.displacing:
            return  # it was not the only way in which room was asked for
        if status:
            self.due[_Run._escalate] = 0.0
        else:
            soon = time.monotonic() + min(self.grace, HEED_SECONDS)
            self.due[_Run._escalate] = min(self.due[_Run._escalate], soon)

    def _term(self) -> None:
        tree = self._tree()
        if self.status is not None:
            self.left_behind.update(each.pid for each in tree)
        self._signal(tree, signal.SIGTERM)

    def _signal(self, tree: list[processes.Process], number: int) -> None:
        processes.signal_all(tree, number)
        # Who is stopped sees no signal before it may go on.
        processes.signal_all([each for each in tree if each.state == "T"], signal.SIGCONT)

    def _kill(self, now: float) -> None:
        """Kill whatever lives, and come back until nothing does."""
        if now >= self.kill_until:
            self.survivors = len(self._tree())
            self.over = True
            self._add_up_the_living()
            return
        inside = self._kill_cgroup()
        killed = processes.kill_descendants(os.getpid(), freeze=self.kills > 1)
        if self.status is not None:
            self.left_behind.update(inside)
        if not LINUX:
            killed = self._tree()
            processes.signal_all(killed, signal.SIGKILL)
        if self.status is not None:
            self.left_behind.update(each.pid for each in killed)
        self.kills += 1
        self.due[_Run._kill] = now + min(0.2, 0.005 * self.kills)

    def _add_up_the_living(self) -> None:
        """Count what those have used so far who live on, which nobody will tell us later."""
        tree = self._tree(zombies=True)
        self.cpu += sum(each.cpu for each in tree)
        read, written = processes.transferred(each.pid for each in tree)
        self.read += read
        self.written += written

    def _kill_cgroup(self) -> list[int]:
        """Kill all in the run's cgroup, if it has one; return whom."""
        if self.cgroup is None:
            return []
        inside = self.cgroup.pids()
        with suppress(OSError):
            self.cgroup.kill()
        return inside

    def _tree(self, *, zombies: bool = False) -> list[processes.Process]:
        """All that lives of the run, and with `zombies` all that somebody has still to wait for."""
        found = processes.descendants(os.getpid(), zombies=zombies)
        if self.cgroup is not None:
            known = {each.pid for each in found}
            found += processes.living(pid for pid in self.cgroup.pids() if pid not in known)
        if not LINUX and self.command is not None:
            found += processes.group(self.command, besides={each.pid for each in found})
        return found

    # ── output and bells ─────────────────────────────────────────────────────────────────────────

    def _drain(self, descriptor: int) -> bool:
        """Store what has come, one piece of it so that others get a turn; False at the end."""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close(descriptor)
            return False
        now = time.monotonic()
        self.output.write(data, self.streams[descriptor], time.time())
        self._note_progress(self.listeners[descriptor].hear(data))
        self.unrung = True
        if now >= self.bell_at:
            self._ring(now)
        else:
            self.due[_Run._ring] = self.bell_at
        if len(data) == READ_BYTES:
            _widen(descriptor)
        return True

    def _close(self, descriptor: int) -> None:
        self._note_progress(self.listeners[descriptor].end())
        self.events.unregister(descriptor)
        os.close(descriptor)
        del self.streams[descriptor]

    def _ring(self, now: float, patience: float = 0.0) -> None:
        topics = b'["log:%d"]' % self.spec["run"]
        _, missed = doorbell.deliver(self.runtime, "live-*", topics, patience)
        self.unrung = missed > 0
        self.bell_at = now + BELL_SECONDS
        if missed:
            self.due[_Run._ring] = self.bell_at

    def _news(self, op: str, details: Mapping[str, Any]) -> bytes:
        news = {"op": op, "run": self.spec["run"], "fence": self.spec["fence"], **details}
        return json.dumps(news).encode()

    def _tell_start(self, now: float) -> None:
        """Tell of the start, also who looks into the folder."""
        if not self.noted_start:
            self.noted_start = True
            try:
                command = Identity.of(self.command or 0)
                self._note(
                    {
                        "command": command.pid,
                        "command_started": command.started,
                        "started_at": self.started_at,
                    }
                )
            except OSError as error:
                self.remarks.append(f"lock: {_name(error)}")
        news = self._news("started", {"pid": self.command, "at": self.started_at})
        _, missed = doorbell.deliver(self.runtime, "runner", news)
        if missed:
            self.due[_Run._tell_start] = now + TELL_SECONDS

    def _announce(self, phase: str, at: float | None = None) -> None:
        details = {"phase": phase, "at": time.time() if at is None else at}
        self.untold.append(self._news("phase", details))
        self._tell_phases(time.monotonic())

    def _tell_phases(self, now: float) -> None:
        while self.untold:
            _, missed = doorbell.deliver(self.runtime, "runner", self.untold[0])
            if missed:
                self.due[_Run._tell_phases] = now + RETELL_SECONDS
                return
            del self.untold[0]

    def _note_progress(self, found: progress.Progress | None) -> None:
        if found is None:
            return
        for report, part in ((self.progress, found.without_token), (self.token, found.only_token)):
            if part is not None:
                report.note(part)
                if not report.is_told:
                    self.due[_Run._tell_progress] = self.progress_bell_at
                self.due[_Run._keep_progress] = self.progress_kept_at + KEEP_SECONDS

    def _tell_progress(self, now: float, patience: float = 0.0) -> None:
        told, token = self.progress.said, self.token.said
        if self.progress.is_told and self.token.is_told:
            return
        facts = told.facts if told else {}
        if token and not self.token.is_told:
            facts |= token.facts
        news = self._news("progress", facts)
        _, missed = doorbell.deliver(self.runtime, "runner", news, patience)
        self.progress_bell_at = now + PROGRESS_SECONDS
        if missed:
            self.due[_Run._tell_progress] = self.progress_bell_at
        else:
            self.progress.told, self.token.told = told, token

    def _keep_progress(self, now: float) -> None:
        """Write down what lines said, for a daemon that is away now."""
        self.progress_kept_at = now
        self.progress.keep()
        self.token.keep()

    def _measure(self, now: float) -> None:
        """Look at what the tree occupies, and write it down unless the run is young."""
        begun = time.process_time()  # what others take of the processor costs no samples
        tree = self._measure_tree()
        age = now - self.started
        if age < SAMPLES_AFTER:
            self.measure_every *= 2
            self.due[_Run._measure] = min(now + self.measure_every, self.started + SAMPLES_AFTER)
            return
        resident = sum(each.resident for each in tree)
        self.usage.note(time.time(), self._cpu_of(tree), resident, len(tree))
        cost = time.process_time() - begun
        pause = max(min(self.usage.every, 30.0), SAMPLES_SHARE * cost)
        self.due[_Run._measure] = time.monotonic() + pause

    def _measure_tree(self) -> list[processes.Process]:
        """Note how big the tree is, zombies included, and return it."""
        tree = self._tree(zombies=True)
        self.peak = max(self.peak, sum(each.resident for each in tree))
        return tree

    # ── the result ───────────────────────────────────────────────────────────────────────────────

    def _give_up(self) -> None:
        """After a fault of our own: leave its trace in the folder, and nothing of the run alive."""
        import traceback

        with suppress(OSError), open(f"{self.folder}/supervisor.err", "a") as file:
            traceback.print_exc(file=file)
        trace = f"{self.folder}/supervisor.err"
        self.error = processes.StartError(errno.EIO, "supervisor", trace)
        limit = time.monotonic() + KILL_SECONDS
        while not self.alone and time.monotonic() < limit:
            self._kill_cgroup()
            processes.kill_descendants(os.getpid(), freeze=self.kills > 1)
            self.kills += 1
            select.poll().poll(5)
            self._reap()
        self.survivors = len(self._tree())
        for descriptor in self.streams:
            os.close(descriptor)

    def _finish(self) -> None:
        self.output.close()
        self.progress.hear_tool()
        self.token.hear_tool()
        if self.reason == "displaced":
            self._settle_displacement()
        result = self._result()
        for _ in range(RESULT_TRIES):
            content = json.dumps(result)
            try:
                self._rewrite_lock(content.encode())
                os.rename(f"{self.folder}/lock", f"{self.folder}/result.json")
            except OSError as error:
                if error.errno not in FULL:
                    break  # somebody has removed the folder: who cares for the end has the bell
                # The disk is full. The end is worth more than old output; or somebody may make
                # room. The runner hears of it at once, and that we hold the lock stays true.
                if not self.output.give_up_room():
                    self._tell_end(content)
                    select.poll().poll(1000)
                result["dropped_bytes"] = self.output.dropped
            else:
                break
        self._tell_end(content)
        if self.unrung:
            self._ring(time.monotonic(), LIVE_PATIENCE)
        os.close(self.lock)
        if self.cgroup is not None:
            self.cgroup.remove()

    def _settle_displacement(self) -> None:
        """Call a displaced run what it is in the end: what has finished need not run again."""
        said = self.progress.said
        if self.status == 0 and said is not None and said.percent == progress.LAST:
            self.reason = None
        elif self._read("stop"):
            self.reason = "stopped"

    def _rewrite_lock(self, content: bytes) -> None:
        # Only the whole of it is a line of JSON, so nobody takes a part of it for the result.
        written = 0
        while written < len(content):
            written += os.pwrite(self.lock, content[written:], written)
        os.ftruncate(self.lock, written)

    def _result(self) -> dict[str, Any]:
        """Return what is to be known of the run.

        `cpu_seconds` and the bytes are what the kernel told of everybody that was waited for, by
        us or by who started them, and of those that live on up to now. Missing is who was never
        waited for, as its parent ignores SIGCHLD (a cgroup knows its processor time all the same).
        `read_bytes` and `write_bytes` are those of storage: what came from the page cache was not
        read, and what is written counts when it becomes dirty there, also if it is deleted before
        it reaches a disk; a tmpfs or a network's file system counts nothing. None outside of Linux.

        `peak_rss_bytes` is the greatest of what one process had at any time, and of what all had
        together when we looked, shared memory counted for each.

        `asked_at` is when the first signal of a stop went out, `yielded_at` when the last process
        was gone after that, `phase` how far the stop has come; None where there was none. A run
        that was displaced before it began has the outcome "displaced" and None for `started_at`.
        """
        status, error = self.status, self.error
        exit_code = number = None
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            exit_code, number = (code, None) if code >= 0 else (None, -code)
        if self.reason is not None:
            outcome = self.reason
        elif status is None:
            outcome = "not_started" if self.started_at is None else "signaled"
        else:
            outcome = "exited" if number is None else "signaled"
        if self.ended_at is None:
            self.ended, self.ended_at = time.monotonic(), time.time()
        has_yielded = self.asked_at is not None and not self.survivors
        return {
            "run": self.spec["run"],
            "fence": self.spec["fence"],
            "pid": self.supervisor.identity.pid,
            "command": self.command,
            "outcome": outcome,
            "exit_code": exit_code,
            "signal": number,
            "error": error.name if error else None,
            "error_what": error.what if error else None,
            "error_path": error.path if error else None,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration": self.ended - self.started if self.started_at is not None else 0.0,
            "cpu_seconds": self._cpu_of([]),
            "peak_rss_bytes": self.peak or None,
            "read_bytes": self.read if LINUX and self.started_at is not None else None,
            "write_bytes": self.written if LINUX and self.started_at is not None else None,
            "limit": self.limit,
            "output_bytes": self.output.produced,
            "dropped_bytes": self.output.dropped,
            "output_error": self.output.error,
            "lines": self.output.lines,
            "asked_at": self.asked_at,
            "yielded_at": time.time() if has_yielded else None,
            "phase": self.told_phase,
            "progress": self.progress.said.percent if self.progress.said else None,
            "progress_label": self.progress.said.label if self.progress.said else "",
            "token": self.token.said.token if self.token.said else None,
            "last_line": output.last_line(self.output.ending),
            "left_behind": len(self.left_behind),
            "left_running": self.left_running,
            "survivors": self.survivors,
            "remarks": self.remarks,
        }

    def _tell_end(self, result: str) -> None:
        now = time.monotonic()
        self._tell_phases(now)
        self._tell_progress(now, END_PATIENCE)
        run, fence = self.spec["run"], self.spec["fence"]
        news = f'{{"op": "ended", "run": {run}, "fence": {fence}, "result": {result}}}'.encode()
        doorbell.deliver(self.runtime, "runner", news, END_PATIENCE)


class _Report:
    """What the command said last of one thing: of its progress, or its token.

    `ours` is the file where it is kept for who is away, `path` the one that `bach progress` writes,
    None where it was given none; most often the same.
    """

    __slots__ = ("at", "kept", "ours", "path", "said", "told")

    def __init__(self, ours: str, path: str | None) -> None:
        self.ours = ours
        self.path = path
        self.said: progress.Progress | None = None
        self.told: progress.Progress | None = None
        self.at = 0.0  # epoch
        self.kept: tuple[progress.Progress, float] | None = None  # as `progress.read_file`

    @property
    def is_told(self) -> bool:
        return self.said is None or self.said == self.told

    def note(self, said: progress.Progress) -> None:
        """Take in what a line said."""
        self.said, self.at = said, time.time()

    def keep(self) -> None:
        """Write down what a line said, unless the tool has said something since."""
        if self.said is None or self._tool_said() is not None:
            return
        found = progress.read_file(self.ours)
        if found is None or found[0] != self.said:
            # Its name may belong to something else, or the disk is full: then nothing is kept.
            with suppress(OSError):
                output.write_whole(self.ours, json.dumps(self.said.facts).encode())
                self.kept = progress.read_file(self.ours)

    def hear_tool(self) -> None:
        """Take in what `bach progress` said, if that was the last; it has told it by itself."""
        said = self._tool_said()
        if said is not None:
            self.said = self.told = said

    def _tool_said(self) -> progress.Progress | None:
        """Return what `bach progress` has written since the last line that told of this."""
        found = progress.read_file(self.path) if self.path else None
        # What we have kept there is no news, also when the clock was set back since.
        if found is None or found == self.kept or found[1] < self.at:
            return None
        return found[0]


UMASK = 0o022
WISHES = ("stop", "displace")
ASKED = "asked"  # the file in the run's folder that BACH_STOP names
DISPLACED = b"displaced: somebody needs this computer; save what is to be kept, and end\n"
ASK_SIGNALS = {
    name: getattr(signal, f"SIG{name}") for name in ("TERM", "INT", "HUP", "USR1", "USR2")
}
MERE_NEWS = (signal.SIGUSR1, signal.SIGUSR2)  # they do not mean an end to anybody
ATTEMPTS = "attempts"
LONGEST_LOCK = 65_536  # bytes; a result with a long token in it
LIMITS = ("cpu", "memory")
PROCESSORS = os.cpu_count() or 1
BLOCK = 512  # bytes; what Linux counts in rusage
READ_BYTES = 65_536
LOCK_TRIES = 100
LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
RESULT_TRIES = 600
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
MAXRSS_UNIT = 1024 if LINUX else 1


def _widen(descriptor: int) -> None:
    """Give a busy pipe more room, so that the command waits less often for us."""
    if LINUX:
        with suppress(OSError):  # the user's share of pipe pages is used up
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _remove_folder(path: str) -> None:
    """Remove a folder that holds nothing but files, as far as that is possible."""
    with suppress(OSError):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def _given(spec: Mapping[str, Any], key: str, default: Any) -> Any:
    value = spec.get(key)
    return default if value is None else value


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")

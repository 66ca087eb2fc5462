"""Wake other processes on this host: Unix datagrams that never block and may be lost.

A bell says only "look again"; the row or the file says what is true. Whoever listens puts a socket
into the runtime directory, whoever has news rings by name:

    bell = Bell(runtime, "live-*")           # /…/sock/live-4711.sock
    ring(runtime, "live-*", b'["run:17"]')   # every live-<pid>.sock
    topics = bell.wait(timeout=30)           # the payloads, oldest first; [] when nobody rang
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import atexit
import errno
import os
import select
import socket
import stat
import struct
from contextlib import suppress

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

LONGEST_ADDRESS = 100  # bytes; the kernels allow 104 (macOS) to 108 (Linux) with the final NUL
LONGEST_NAME = 30  # bytes that a socket's name may add to the runtime directory
LONGEST_PAYLOAD = 65_536


class DoorbellError(Exception):
    """The runtime directory cannot be trusted or used; the message says what to do."""


def runtime_dir(data_dir: Path) -> Path:
    """Return the directory for the sockets of the installation in `data_dir`; make it if missing.

    That is `data_dir/sock`, or, where this is too long for a socket's address, a directory of our
    own below `$XDG_RUNTIME_DIR` or `/tmp`. It is always ours and mode 0700: whoever may write
    there could stop runs. Raises DoorbellError when it is somebody else's or open to others.
    """
    place = data_dir / "sock"
    if len(os.fsencode(place)) + LONGEST_NAME > LONGEST_ADDRESS:
        # Dear imports that only long paths pay for.
        import hashlib
        import tempfile

        digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:12]
        parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        place = type(data_dir)(parent) / f"bach-{os.geteuid()}-{digest}"
        if len(os.fsencode(place)) + LONGEST_NAME > LONGEST_ADDRESS:
            place = type(data_dir)("/tmp") / place.name  # noqa: S108 - checked below
    try:
        place.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise DoorbellError(
            f"cannot make the directory {place} for the sockets: {error.strerror}"
        ) from error
    check_private(os.fspath(place))
    return place


def check_private(directory: str) -> None:
    """Raise DoorbellError unless `directory` is a real one, ours, and closed to everybody else."""
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise DoorbellError(f"{directory} is not a directory; remove it and start again")
    if found.st_uid != os.geteuid():
        raise DoorbellError(
            f"{directory} belongs to user {found.st_uid}, not to us ({os.geteuid()});"
            " remove it or start as that user"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise DoorbellError(f"{directory} is open to other users; run: chmod 700 {directory}")


class Bell:
    """A listening end: `<runtime>/<name>.sock`; a name ending in `-*` gets this process's id.

    A socket file of that name is replaced, the newest listener wins. Not blocking; `fileno()` goes
    into any event loop. Raises DoorbellError when `runtime` is not private.
    """

    def __init__(self, runtime: Path | str, name: str) -> None:
        if name.endswith("-*"):
            name = f"{name[:-1]}{os.getpid()}"
        check_private(os.fspath(runtime))
        self.path = os.path.join(os.fspath(runtime), f"{name}.sock")
        if len(os.fsencode(self.path)) > LONGEST_ADDRESS + 4:
            raise DoorbellError(f"{self.path} is too long for a socket; use a shorter data folder")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # Bound aside and moved into place, so that there is no moment without a socket.
        aside = f"{self.path}~"
        with suppress(FileNotFoundError):
            os.unlink(aside)
        self._socket.bind(aside)
        os.chmod(aside, 0o600)
        os.rename(aside, self.path)
        self._inode = os.stat(self.path).st_ino
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when somebody rings; -1 after `close`."""
        return self._socket.fileno()

    def drain(self) -> list[bytes]:
        """Return the payloads that wait, oldest first, without waiting."""
        payloads: list[bytes] = []
        while True:
            try:
                payloads.append(self._socket.recv(LONGEST_PAYLOAD))
            except BlockingIOError:
                return payloads

    def wait(self, timeout: float | None) -> list[bytes]:
        """Return what was rung, waiting up to `timeout` seconds (None: for ever) for the first."""
        self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return self.drain()

    def close(self) -> None:
        """Stop listening and remove the socket file, unless a newer bell has taken its place."""
        self._socket.close()
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ring(runtime: Path | str, name: str, payload: bytes = b"") -> int:
    """Ring every bell called `name` (`live-*`: all that begin so); return how many were reached.

    Never blocks and never raises: a bell that is full, gone or absent is not counted. Sockets
    whose process is dead are removed on the way.
    """
    return deliver(runtime, name, payload)[0]


def deliver(
    runtime: Path | str, name: str, payload: bytes = b"", patience: float = 0.0
) -> tuple[int, int]:
    """Ring like `ring`; return (reached, missed), missed being listeners whose queue was full.

    Linux queues only `net.unix.max_dgram_qlen` (often 10) datagrams per listener. With `patience`
    this waits up to so many seconds for room at each, for news that should arrive soon.
    """
    directory = os.fspath(runtime)
    if name.endswith("*"):
        prefix = name[:-1]
        try:
            found = os.listdir(directory)
        except OSError:
            return 0, 0
        names = [each for each in found if each.startswith(prefix) and each.endswith(".sock")]
    else:
        names = [f"{name}.sock"]
    reached = missed = 0
    for each in names:
        try:
            _sender(patience).sendto(payload, f"{directory}/{each}")
            reached += 1
        except OSError as error:
            if error.errno in FULL:
                missed += 1
            elif error.errno == errno.ECONNREFUSED:
                _forget(directory, each)
    return reached, missed


FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETIMEDOUT})
# By process id, as a fork must not share its parent's, and by patience
_senders: dict[tuple[int, float], socket.socket] = {}


def _sender(patience: float) -> socket.socket:
    key = (os.getpid(), patience)
    if key not in _senders:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.setblocking(patience > 0)
        # In the kernel, not by settimeout(): poll() calls an unconnected datagram socket writable
        # even when the listener's queue is full, so that Python's own time-out would spin.
        timeval = struct.pack("@ll", int(patience), int(patience % 1 * 1_000_000))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        _senders[key] = sender
    return _senders[key]


@atexit.register
def _close_senders() -> None:
    while _senders:
        _senders.popitem()[1].close()


def _forget(directory: str, name: str) -> None:
    """Remove the socket of a dead process. A fixed name stays: its next listener may be binding."""
    pid = name[: -len(".sock")].rpartition("-")[2]
    if not pid.isdecimal():
        return
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        with suppress(OSError):
            os.unlink(f"{directory}/{name}")
    except (OSError, OverflowError):
        pass  # it lives, or it never was a process

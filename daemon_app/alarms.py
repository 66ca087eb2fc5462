"""The alarm board: what is wrong now, told even when neither disk nor database take a word.

    board = Board(runtime)
    board.raise_("disk_full", free_mb=0)     # the daemon, or who watches it
    board.clear("disk_full")
    board.read()                             # any process: [Alarm("disk_full", since, facts)]

It is one small file, filled in advance and overwritten in place, so that a full disk can't stop it.
A checksum tells a reader who comes in the middle of a change, and that one looks again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon_app import doorbell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "alarms"
SIZE = 8192  # bytes
HEAD = 18  # checksum and length in hexadecimal digits, a blank between, a line's end
LONGEST_FACT = 200  # characters
LOOKS = 5  # at a board that is being changed
PAUSE = 0.002  # seconds between them
TURN = 0.5  # seconds that a writer waits for another

# Raised by the beat, which takes them down when it starts anew, and by who watches it.
BEAT = (
    "database_locked",
    "database_failing",
    "disk_full",
    "cluster_silent",
    "clock_behind",
    "supervisors_failing",
)
PART_FAILS = "part_fails"


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong: its code, since when, and what is to be known of it."""

    code: str
    since: datetime
    facts: dict[str, Any] = field(default_factory=dict)


class Board:
    """The board of the installation whose sockets lie in `runtime`; made by who first writes.

    Any process may read. Those that write take turns; what can't be written stays in the memory of
    the one who raised it, and is written with its next change. `live-*` is rung at each change.
    """

    def __init__(self, runtime: Path | str, clock: Callable[[], float] = time.time) -> None:
        self._runtime = os.fspath(runtime)
        self._path = os.path.join(self._runtime, FILE)  # noqa: PTH118 - beside a socket's address
        self._clock = clock
        self._unwritten: dict[str, Alarm] | None = None

    def raise_(self, code: str, **facts: Any) -> bool:
        """Put an alarm up, or its newer facts; return whether it was not there before."""
        kept = {name: _kept(value) for name, value in facts.items()}
        with self._changing() as alarms:
            before = alarms.get(code)
            since = before.since if before else datetime.fromtimestamp(self._clock(), UTC)
            alarms[code] = Alarm(code, since, kept)
        return before is None

    def clear(self, *codes: str) -> list[Alarm]:
        """Take alarms down; return those that were up."""
        with self._changing() as alarms:
            return [alarms.pop(code) for code in codes if code in alarms]

    def read(self) -> list[Alarm]:
        """Return the alarms that are up, the oldest first; none when there is no board."""
        return sorted(self._alarms().values(), key=lambda alarm: alarm.since)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Alarm]]:
        with self._turn():
            alarms = self._alarms()
            before = dict(alarms)
            yield alarms
            if alarms == before and self._unwritten is None:
                return
            try:
                self._write(list(alarms.values()))
                self._unwritten = None
            except OSError:
                self._unwritten = dict(alarms)
        if alarms != before:
            doorbell.ring(self._runtime, "live-*", b'["alarms"]')

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other writers off for a moment; not for ever, for one may have been stopped."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
        directory = os.open(self._runtime, flags)
        try:
            deadline = time.monotonic() + TURN
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    time.sleep(PAUSE)
            yield
        finally:
            os.close(directory)

    def _alarms(self) -> dict[str, Alarm]:
        if self._unwritten is not None:
            return dict(self._unwritten)
        for _look in range(LOOKS):
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                return {}
            with os.fdopen(descriptor, "rb") as file:
                found = _parse(file.read(SIZE))
            if found is not None:
                return {alarm.code: alarm for alarm in found}
            time.sleep(PAUSE)
        return {}

    def _write(self, alarms: list[Alarm]) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size < SIZE:
                os.pwrite(descriptor, b"\0" * SIZE, 0)
            os.pwrite(descriptor, _written(alarms), 0)
        finally:
            os.close(descriptor)


def _kept(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else str(value)[:LONGEST_FACT]


def _written(alarms: list[Alarm]) -> bytes:
    """Return what stands in the file: as much as there is room for, the oldest in any case."""
    told = [[alarm.code, alarm.since.timestamp(), alarm.facts] for alarm in alarms]
    while len(body := json.dumps(told).encode()) > SIZE - HEAD:
        told.pop()
    return b"%08x %08x\n" % (zlib.crc32(body), len(body)) + body


def _parse(data: bytes) -> list[Alarm] | None:
    """Return the alarms of a file; None when it holds something half written."""
    if not data.strip(b"\0"):
        return []
    try:
        checksum, length = int(data[:8], 16), int(data[9:17], 16)
        body = data[HEAD : HEAD + length]
        if zlib.crc32(body) != checksum:
            return None
        return [
            Alarm(code, datetime.fromtimestamp(since, UTC), facts)
            for code, since, facts in json.loads(body)
        ]
    except (ValueError, TypeError, OverflowError):
        return None

"""What the daemon and its skills note for other programs: `exports/experience/daemon_log.jsonl`.

One JSON object a line, with exactly these names: "timestamp" (ISO 8601 with zone), "level" (info,
warn, error), "skill", "message", "data". Several processes write to it; a line is always whole.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.utils import timezone

log = logging.getLogger(__name__)

INFO, WARN, ERROR = "info", "warn", "error"
LEVELS: Final = (INFO, WARN, ERROR)
LARGEST: Final = 5_000_000  # bytes of a file; a line begun below that is finished
FILES: Final = 5  # daemon_log.jsonl and .1 to .4, the oldest last
LONGEST: Final = 65_536  # bytes of a line; larger data is left out and said to be
PATIENCE: Final = 0.05  # seconds for the other writers

_complained = False


def path() -> Path:
    """Return where the newest lines are."""
    return Path(settings.EXPORTS_DIR) / "experience" / "daemon_log.jsonl"


def write(
    skill: str, level: str, message: str, data: Mapping[str, Any] | None = None, *, now: datetime
) -> bool:
    """Add a line; return False when the disk does not take it, which is logged once.

    Raises ValueError for a level that is none.
    """
    global _complained  # noqa: PLW0603 - one file, one complaint
    line = _line(skill, level, message, dict(data or {}), now)
    try:
        _append(path(), line)
    except OSError as error:
        if not _complained:
            log.warning("%s can't be written: %s", path(), error)
        _complained = True
        return False
    _complained = False
    return True


def _line(skill: str, level: str, message: str, data: dict[str, Any], now: datetime) -> bytes:
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    entry: dict[str, Any] = {
        "timestamp": timezone.localtime(now).isoformat(timespec="milliseconds"),
        "level": level,
        "skill": skill,
        "message": message[:2000],
        "data": data,
    }
    try:
        line = _encoded(entry)
    except (ValueError, RecursionError) as error:  # not a number, or a circle
        line = _encoded({**entry, "data": {"left_out": str(error)[:200]}})
    if len(line) > LONGEST:
        line = _encoded({**entry, "data": {"left_out": f"{len(line)} bytes"}})
    return line


def _encoded(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False, default=str)
    return text.encode(errors="backslashreplace") + b"\n"


def _append(file: Path, line: bytes) -> None:
    """Write one whole line, or none of it; raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(file) as descriptor:
        if os.fstat(descriptor).st_size < LARGEST:
            _put(descriptor, line)
            return
        locked = _lock(descriptor)
        # Somebody may have done it meanwhile. Without the lock a file gets a little too large.
        if locked and _is_at(file, descriptor):
            _rotate(file)
    with _opened(file) as descriptor:
        _put(descriptor, line)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(file, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put(descriptor: int, line: bytes) -> None:
    locked = _lock(descriptor)
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line  # after what somebody else left unfinished
    written = os.write(descriptor, line)
    if written < len(line):
        # The disk is full. Nobody else writes meanwhile, so the part may go again.
        if locked:
            os.ftruncate(descriptor, size)
        raise OSError(28, "No space left on device")


def _lock(descriptor: int) -> bool:
    """Return whether the file is ours until it is closed; a writer that stands still is passed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(PATIENCE / 20)
        except OSError:
            return False  # a file system without locks
        else:
            return True


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _rotate(file: Path) -> None:
    for number in range(FILES - 1, 0, -1):
        older = file if number == 1 else file.with_name(f"{file.name}.{number - 1}")
        with contextlib.suppress(FileNotFoundError):
            older.replace(file.with_name(f"{file.name}.{number}"))

"""Reading files of others: whole, bounded, and nothing that is no file."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FileError(Exception):
    """A file that is not read: `code` is missing, denied, no_file, too_big, not_utf8 or ours."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


def text(path: Path, most: int, ours: Path | None = None, *, is_utf8: bool = False) -> str:
    """Return what stands in a file of at most `most` bytes. Raises FileError.

    `ours` is the database we work with: opening and closing it would drop the locks on it. With
    `is_utf8` it is that or nothing; else it may come from the days of old.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise FileError("no_file")
        if ours is not None and ours.exists() and path.samefile(ours):
            raise FileError("ours")
        descriptor = os.open(path, FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError as error:
        raise FileError("missing") from error
    except (OSError, ValueError) as error:
        raise FileError("denied", getattr(error, "strerror", "") or str(error)) from error
    if len(data) > most:
        raise FileError("too_big", str(most))
    return whole(data, most) if is_utf8 else decoded(data)


def whole(data: bytes, most: int) -> str:
    """Return text in UTF-8. Raises FileError, with the line that is none."""
    if len(data) > most:
        raise FileError("too_big", str(most))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError("not_utf8", str(data.count(b"\n", 0, error.start) + 1)) from error


def decoded(data: bytes) -> str:
    """Return text as it was meant: UTF-8, else one byte a character, as in the days of old."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")

"""Room put by: a file that is given up bit by bit when the disk is full.

With it, what has become of runs is written down although nothing else fits on the disk any more.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1024 * 1024
FULL_SIZE = 16 * MEBIBYTE
# It takes no more than so much of what is free: all of it from 192 MiB.
SHARE = 12
SMALLEST = MEBIBYTE  # less would be no help
SLICE = 4 * MEBIBYTE  # given up at a time, or running commands would take it all at once
LOW = 32 * MEBIBYTE  # less than so much free is an alarm
LOW_SHARE = 8  # … or than this part of a small disk


class Ballast:
    """The file at `path`, and how full the disk is on which it lies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        """Return how many bytes are put by."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def take(self) -> int:
        """Put by as much as there is plenty of; return how many bytes now are.

        Random bytes, for a file system that compresses would keep nothing for zeros.
        """
        have = self.size()
        wanted = min(FULL_SIZE, (self.free() + have) // SHARE)
        if wanted < SMALLEST or have >= wanted - MEBIBYTE:
            return have
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            while have < wanted:
                have += os.write(descriptor, os.urandom(min(MEBIBYTE, wanted - have)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)
        return have

    def give(self) -> bool:
        """Give up a slice; False when nothing is left, or the disk is too ill even for that."""
        left = self.size()
        if not left:
            return False
        try:
            os.truncate(self._path, max(left - SLICE, 0))
        except OSError:
            return False
        return True

    def free(self) -> int:
        """Return how many bytes of the disk may still be used."""
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize

    def low(self) -> int:
        """Return below how many free bytes the disk counts as full."""
        found = os.statvfs(self._path.parent)
        return min(LOW, found.f_blocks * found.f_frsize // LOW_SHARE)


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk, or this user's share of it, is full."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return "disk is full" in str(error) or "No space left" in str(error)

"""Which bytes of a run's output an answer holds, and byte ranges of it (RFC 9110, 14).

A range counts in the body that is sent without one: of a very long output that is what is kept, its
head and its tail, put together. `offset` and the Log headers count in what the run has written.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from daemon_app import output

RANGES = re.compile(r"\s*bytes\s*=(.*)", re.IGNORECASE)
RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)


class Stretch(NamedTuple):
    """So many bytes of the output, from an offset on."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


def within(kept: Iterable[tuple[int, int]], offset: int, limit: int) -> list[Stretch]:
    """Return what is kept from `offset` on, at most `limit` bytes."""
    found = []
    for start, length in kept:
        begin = max(start, offset)
        count = min(start + length - begin, limit)
        if count > 0:
            found.append(Stretch(begin, count))
            limit -= count
    return found


def size(stretches: Iterable[Stretch]) -> int:
    """Return how many bytes these are."""
    return sum(each.length for each in stretches)


def gap(stretches: Sequence[Stretch], offset: int) -> int:
    """Return how many bytes from `offset` to the end of the last stretch are in none of them."""
    return stretches[-1].end - offset - size(stretches) if stretches else 0


def cut(stretches: Sequence[Stretch], first: int, last: int) -> list[Stretch]:
    """Return the stretches of the bytes `first` to `last`, counted in all of them together."""
    found = []
    begins = accumulate((each.length for each in stretches), initial=0)
    for each, begin in zip(stretches, begins, strict=False):
        low, high = max(first - begin, 0), min(last + 1 - begin, each.length)
        if low < high:
            found.append(Stretch(each.offset + low, high - low))
    return found


def read(folder: Path, stretches: Iterable[Stretch]) -> bytes | None:
    """Return exactly these bytes; None when some of them have been dropped meanwhile."""
    parts = []
    for offset, length in stretches:
        piece = output.read(folder, offset, length)
        if piece.offset != offset or len(piece.data) != length:
            return None
        parts.append(piece.data)
    return b"".join(parts)


class UnsatisfiableError(Exception):
    """A range in which there is no byte."""


def asked(header: str, total: int) -> tuple[int, int] | None:
    """Return the first and the last byte that a Range header asks for, of `total`.

    None for what is to be answered with everything: no range of bytes, several ranges, one that
    makes no sense. Raises UnsatisfiableError for one beyond the end.
    """
    unit = RANGES.fullmatch(header)
    single = RANGE.fullmatch(unit[1]) if unit else None
    if single is None or not (single[1] or single[2]):
        return None
    if not single[1]:
        if int(single[2]) == 0:
            raise UnsatisfiableError
        return (max(0, total - int(single[2])), total - 1) if total else None
    first = int(single[1])
    last = int(single[2]) if single[2] else total - 1
    if single[2] and last < first:
        return None
    if first >= total:
        raise UnsatisfiableError
    return first, min(last, total - 1)

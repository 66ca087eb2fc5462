"""The bounded output of one run: head and tail in files, exact counts of what was dropped.

A run's folder holds `output.<offset>` files; each contains the bytes from that offset on, raw.
The first one (the head) and the newest ones (the tail) are kept, the middle is deleted while the
run writes. What is missing between two files is a gap. Beside a file, `output.<offset>.idx` may say
when and by which stream its bytes came; without it, all is standard output of one moment.

`Writer` belongs to the supervisor. The functions below it are for everybody else, at any time, also
while the run writes; they follow no symbolic link and open nothing but regular files.
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from contextlib import suppress

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

STDOUT, STDERR = 1, 2
CHUNK = 1 << 20  # bytes in one file, and so in the head
TAIL_CHUNKS = 9  # full files kept behind the gap, beside the one being written
RETRY_SECONDS = 1.0  # after a full disk, output is tried again this often
REMEMBERED = 2048  # bytes at the end of the output, for the last line
LAST_LINE = 200  # characters

# offset of the byte, line ends before it, epoch time, stream
MARK = struct.Struct("<QQdB")
MARKS_PER_FILE = 8192  # of each kind, streams and times: 400 KB beside 1 MiB in the worst case
LONG_PAUSE = 60.0  # seconds; what comes after it has a time of its own as long as there is room


class Piece:
    """Bytes read from an output: `data` begins at `offset`, after `gap` dropped bytes."""

    __slots__ = ("data", "gap", "offset")

    def __init__(self, offset: int, data: bytes, gap: int = 0) -> None:
        self.offset = offset
        self.data = data
        self.gap = gap

    @property
    def end(self) -> int:
        """The offset to go on from."""
        return self.offset + len(self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Piece):
            return NotImplemented
        return (self.offset, self.data, self.gap) == (other.offset, other.data, other.gap)

    def __hash__(self) -> int:
        return hash((self.offset, self.data, self.gap))

    def __repr__(self) -> str:
        return f"Piece({self.offset}, {self.data!r}, gap={self.gap})"


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


class Writer:
    """Stores what a command writes, at once and within bounds. Never raises for a sick disk.

    `produced` counts every byte that came, `dropped` those that are not kept, `line_ends` the
    newlines that came. `error` names the first thing that the disk refused (such as "ENOSPC"),
    None while all is well.
    """

    def __init__(self, folder: str, *, chunk: int = CHUNK, tail_chunks: int = TAIL_CHUNKS) -> None:
        self.produced = 0
        self.line_ends = 0
        self.dropped = 0
        self.error: str | None = None
        self.ending = b""  # the newest bytes, also those that found no room
        self._folder = folder
        self._chunk = chunk
        self._tail = chunk * tail_chunks
        self._file = self._index = -1  # descriptors
        self._start = 0  # of the file being written
        self._stored = 0  # bytes in it
        self._kept: list[tuple[int, int]] = []  # finished files behind the head: (offset, bytes)
        self._kept_bytes = 0
        self._not_before = 0.0
        self._first: tuple[int, int, float, int] | None = None  # a mark that is not yet written
        self._marked = self._marked_at = 0.0
        self._marked_stream = 0
        self._flips = self._times = 0

    @property
    def lines(self) -> int:
        """Lines that came; a last one without a newline counts."""
        return self.line_ends + (self.ending != b"" and not self.ending.endswith(b"\n"))

    def write(self, data: bytes, stream: int, now: float) -> None:
        """Store `data` of `stream` (STDOUT or STDERR), which came at `now` (epoch)."""
        self.ending = (self.ending + data if len(data) < REMEMBERED else data)[-REMEMBERED:]
        while data:
            if self._file >= 0 and self._stored >= self._chunk:
                self._finish_file()
            if self._file < 0 and not self._open_file(stream, now):
                self._drop(data)
                return
            if stream != self._marked_stream or now - self._marked_at >= 1.0:
                self._mark(stream, now)
            room = self._chunk - self._stored
            part = data if len(data) <= room else data[:room]
            try:
                written = os.write(self._file, part)
            except OSError as error:
                self._refused(error, now)
                self._drop(data)
                return
            self._stored += written
            self._count(part if written == len(part) else part[:written])
            if written == len(data):
                return
            data = data[written:]

    def close(self) -> None:
        """Finish. Nothing waits to be written; this only gives the descriptors back."""
        for descriptor in (self._file, self._index):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._index = -1

    def give_up_room(self) -> bool:
        """Delete the oldest file behind the head, for a disk so full that no result fits."""
        if not self._kept:
            return False
        self._delete_oldest()
        return True

    def _count(self, part: bytes) -> None:
        self.produced += len(part)
        self.line_ends += part.count(b"\n")

    def _drop(self, data: bytes) -> None:
        self._count(data)
        self.dropped += len(data)

    def _open_file(self, stream: int, now: float) -> bool:
        if now < self._not_before:
            return False
        try:
            self._file = os.open(f"{self._folder}/output.{self.produced}", WRITE_FLAGS, mode=0o600)
        except OSError as error:
            self._refused(error, now)
            return False
        self._start = self.produced
        self._stored = self._flips = self._times = 0
        self._first = (self.produced, self.line_ends, now, stream)
        self._marked_at, self._marked_stream = now, stream
        self._marked = self.produced
        if self.produced or stream != STDOUT:
            self._write_marks()
        return True

    def _finish_file(self) -> None:
        self.close()
        if self._start:
            self._kept.append((self._start, self._stored))
            self._kept_bytes += self._stored
            while self._kept_bytes > self._tail:
                self._delete_oldest()

    def _delete_oldest(self) -> None:
        offset, length = self._kept.pop(0)
        self._kept_bytes -= length
        for name in (f"output.{offset}", f"output.{offset}.idx"):
            with suppress(OSError):
                os.unlink(f"{self._folder}/{name}")
        self.dropped += length

    def _refused(self, error: OSError, now: float) -> None:
        """Note what the disk refused, end the file here, and try a new one in a while."""
        if self.error is None:
            self.error = errno.errorcode.get(error.errno or 0, "EIO")
        self._not_before = now + RETRY_SECONDS
        if self._file >= 0:
            if self._stored:
                self._finish_file()
            else:
                self.close()
                for name in (f"output.{self._start}", f"output.{self._start}.idx"):
                    with suppress(OSError):
                        os.unlink(f"{self._folder}/{name}")

    def _mark(self, stream: int, now: float) -> None:
        """Note that from here on bytes are of `stream` and came at `now`, within bounds."""
        if stream != self._marked_stream:
            if self._flips >= MARKS_PER_FILE:
                return
            self._flips += 1
        else:
            if self._times >= MARKS_PER_FILE:
                return
            # One half is for whoever comes first: a few bytes now and then are what most runs
            # write. The other has to last for the rest of the file.
            is_little = self.produced - self._marked < 2 * self._chunk // MARKS_PER_FILE
            is_soon = now - self._marked_at < LONG_PAUSE
            if self._times >= MARKS_PER_FILE // 2 and is_little and is_soon:
                return
            self._times += 1
        self._marked, self._marked_at, self._marked_stream = self.produced, now, stream
        self._write_marks(MARK.pack(self.produced, self.line_ends, now, stream))

    def _write_marks(self, mark: bytes = b"") -> None:
        """Append to the index, which is only made when there is something to say."""
        with suppress(OSError):  # the bytes are worth more than their times
            if self._index < 0:
                self._index = os.open(
                    f"{self._folder}/output.{self._start}.idx", WRITE_FLAGS, mode=0o600
                )
            if self._first is not None:
                mark, self._first = MARK.pack(*self._first) + mark, None
            os.write(self._index, mark)


WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def write_whole(path: str, content: bytes, own: str = "") -> None:
    """Write a file so that nobody ever sees half of it. Raises OSError.

    Where several may write it at once, each gives a name of its `own` for the time being.
    """
    aside = f"{path}~{own}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(aside, flags, mode=0o600)
    try:
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)
    os.rename(aside, path)


# ── showing ──────────────────────────────────────────────────────────────────────────────────────


def last_line(ending: bytes) -> str:
    """Return the last line that shows anything, fit to be shown: no escapes, no controls."""
    text = ESCAPES.sub("", ending.decode(errors="replace"))
    lines = (shown(line) for line in reversed(LINE_BREAKS.split(text)))
    return next((line[:LAST_LINE] for line in lines if line), "")


def shown(text: str) -> str:
    """Return `text` as one line without anything that does not show, or that no file can hold."""
    line = LINE_BREAKS.sub(" ", ESCAPES.sub("", text)).replace("\t", " ")
    return UNSHOWN.sub("", line).strip()


# CSI, then OSC/DCS/APC/PM/SOS up to their end, then every other escape
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
LINE_BREAKS = re.compile(r"[\n\r\v\f\x85\u2028\u2029]")
# controls, soft hyphen, marks of direction and of no width, halves of characters
UNSHOWN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff\ufeff]"
)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def size(folder: Path | str) -> int:
    """Return how many bytes the run has written so far, kept or not; 0 without any output."""
    with _Folder(folder) as output:
        for offset in reversed(output.starts):
            length = output.length(offset)
            if length is not None:
                return offset + length
    return 0


def dropped(folder: Path | str) -> int:
    """Return how many of those bytes are not kept."""
    with _Folder(folder) as output:
        pieces = [(offset, output.length(offset) or 0) for offset in output.starts]
    end = max((offset + length for offset, length in pieces), default=0)
    return end - sum(length for _offset, length in pieces)


def read(folder: Path | str, offset: int, limit: int = 65_536) -> Piece:
    """Return up to `limit` bytes from `offset` on.

    Where `offset` lies in a dropped part, the piece begins at the next kept byte and `gap` says how
    many were skipped. At the end (of what there is so far) the piece is empty.
    """
    with _Folder(folder) as output:
        return output.read(max(0, offset), limit)


def kept(folder: Path | str) -> tuple[int, list[tuple[int, int]]]:
    """Return a mark of this output, and (offset, bytes) of each stretch that is kept, in order.

    The output of another attempt in the same folder has another mark. Both are of one moment: while
    the run writes there will be more, and from the middle there may be less.
    """
    with _Folder(folder) as output:
        return output.mark(), output.stretches()


def before(folder: Path | str, end: int, limit: int = 65_536) -> Piece:
    """Return the up to `limit` bytes that end at the offset `end`, or before it where it was cut.

    `gap` says how many dropped bytes are between them and `end`. Empty when nothing is before it.
    """
    with _Folder(folder) as output:
        return output.before(end, limit)


def tail(folder: Path | str, lines: int, limit: int = 262_144) -> tuple[int, bytes]:
    """Return where the last `lines` lines begin, and they themselves: at most `limit` bytes."""
    with _Folder(folder) as output:
        return output.tail(lines, limit)


def line_at(folder: Path | str, offset: int) -> int:
    """Return the number (from 1) of the line that contains the byte at `offset`.

    Dropped lines count, so the numbers after a gap are right. An offset inside a gap stands for
    the first kept byte after it, one behind the end for the end.
    """
    with _Folder(folder) as output:
        return output.line_ends_before(offset) + 1


def offset_of_line(folder: Path | str, number: int) -> int:
    """Return the offset at which line `number` (from 1) begins.

    For a dropped line that is the first kept byte after the gap, for one that does not exist (yet)
    the end of the output.
    """
    with _Folder(folder) as output:
        return output.offset_of_line(number)


def spans(
    folder: Path | str, start: int = 0, end: int | None = None
) -> list[tuple[int, float, int]]:
    """Return (offset, epoch time, stream) for each stretch of output between `start` and `end`.

    In order; a stretch reaches to the next one. The first may begin before `start`. Empty without
    output. Times are exact to a second, streams are STDOUT or STDERR.
    """
    found: list[tuple[int, float, int]] = []
    with _Folder(folder) as output:
        for offset, following in zip(output.starts, [*output.starts[1:], None], strict=False):
            if following is not None and following <= start:
                continue  # each file says how it begins
            if end is not None and offset >= end:
                break
            for at, _lines, when, stream in output.marks(offset):
                if end is not None and at >= end:
                    break
                if at <= start:
                    found.clear()
                found.append((at, when, stream))
    return found


class _Folder:
    """The kept files of one output, as they were when it was opened."""

    def __init__(self, folder: Path | str) -> None:
        self.starts: list[int] = []
        self._descriptor = -1
        try:
            self._descriptor = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError:
            return
        self._list()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _list(self) -> None:
        starts = []
        for name in os.listdir(self._descriptor):
            head, _, offset = name.partition(".")
            if head == "output" and offset.isdecimal():
                starts.append(int(offset))
        self.starts = sorted(starts)

    def _open(self, name: str) -> int | None:
        try:
            descriptor = os.open(name, READ_FLAGS, dir_fd=self._descriptor)
        except OSError:  # deleted since we looked, or a link that somebody planted
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def length(self, start: int) -> int | None:
        """Return the bytes in the file that begins at `start`; None when it is gone."""
        descriptor = self._open(f"output.{start}")
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _bytes(self, start: int, skip: int, limit: int) -> bytes | None:
        descriptor = self._open(f"output.{start}")
        if descriptor is None:
            return None
        try:
            parts = []
            while limit > 0:
                part = os.pread(descriptor, limit, skip)
                if not part:
                    break
                parts.append(part)
                skip += len(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def marks(self, start: int) -> list[tuple[int, int, float, int]]:
        """Return the marks of one file; where it has no index, what that means."""
        descriptor = self._open(f"output.{start}.idx")
        if descriptor is not None:
            try:
                stored = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            finally:
                os.close(descriptor)
            whole = len(stored) - len(stored) % MARK.size
            if whole:
                return list(MARK.iter_unpack(stored[:whole]))
        descriptor = self._open(f"output.{start}")
        if descriptor is None:
            return []
        try:
            when = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        return [(start, 0 if start == 0 else self._line_ends_to(start), when, STDOUT)]

    def _line_ends_to(self, start: int) -> int:
        """Count the line ends before a file whose index is missing (its disk was full)."""
        earlier = [each for each in self.starts if each < start]
        if not earlier:
            return 0
        last = self.marks(earlier[-1])[-1:]
        if not last:
            return 0
        at, line_ends, _, _ = last[0]
        rest = self._bytes(earlier[-1], at - earlier[-1], start - at) or b""
        return line_ends + rest.count(b"\n")

    def _pieces(self, offset: int) -> Iterator[tuple[int, int]]:
        """Yield (start, length) of each file that holds bytes at or after `offset`, in order."""
        for start in self.starts:
            length = self.length(start)
            if length is not None and start + length > offset:
                yield start, length

    def read(self, offset: int, limit: int) -> Piece:
        gap = 0
        parts: list[bytes] = []
        at = offset
        for start, _length in self._pieces(offset):
            if start > at:
                if parts:
                    break
                gap, at = start - at, start
            part = self._bytes(start, at - start, limit)
            if part is None:
                continue
            parts.append(part)
            at += len(part)
            limit -= len(part)
            if limit <= 0:
                break
        data = b"".join(parts)
        return Piece(at - len(data), data, gap)

    def mark(self) -> int:
        descriptor = self._open(f"output.{self.starts[0]}") if self.starts else None
        if descriptor is None:
            return 0
        try:
            return os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)

    def stretches(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for start, length in self._pieces(-1):
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], found[-1][1] + length)
            elif length:
                found.append((start, length))
        return found

    def before(self, end: int, limit: int) -> Piece:
        files = [(start, start + length) for start, length in self._pieces(-1) if start < end]
        if not files:
            return Piece(0, b"")
        kept_end = files[-1][1]
        stop = at = min(end, kept_end)
        parts: list[bytes] = []
        for start, its_end in reversed(files):
            begin = max(start, stop - limit)
            if its_end < at or begin >= at:
                break
            part = self._bytes(start, begin - start, at - begin)
            if part is None or len(part) < at - begin:
                break
            parts.insert(0, part)
            at = begin
        is_within = end <= self.end()
        return Piece(at, b"".join(parts), end - stop if is_within else 0)

    def end(self) -> int:
        return max((start + length for start, length in self._pieces(-1)), default=0)

    def tail(self, lines: int, limit: int) -> tuple[int, bytes]:
        end = self.end()
        data = b""
        begin = end
        step = 8192
        while lines > 0 and begin > 0 and len(data) < limit:
            want = max(0, begin - min(step, limit - len(data)))
            piece = self.read(want, begin - want)
            while piece.end < begin and piece.data:
                more = self.read(piece.end, begin - piece.end)
                if not more.data or more.offset >= begin:
                    break
                # A gap inside: what is before it is not the tail any more.
                piece = more if more.gap else Piece(piece.offset, piece.data + more.data)
            if not piece.data or piece.offset >= begin:
                break
            reached_gap = piece.offset > want
            data = piece.data + data
            begin = piece.offset
            cut = _start_of_last_lines(data, lines)
            if cut is not None:
                return begin + cut, data[cut:]
            if reached_gap:
                break
            step *= 4
        return begin, data

    def line_ends_before(self, offset: int) -> int:
        for start, length in self._pieces(offset):
            if start >= offset:
                marks = self.marks(start)
                return marks[0][1] if marks else 0
            return self._count_to(start, min(offset, start + length))
        if not self.starts:
            return 0
        last = self.starts[-1]
        return self._count_to(last, last + (self.length(last) or 0))

    def _count_to(self, start: int, offset: int) -> int:
        """Count the line ends before `offset`, which lies in the file that begins at `start`."""
        before = [mark for mark in self.marks(start) if mark[0] <= offset]
        if not before:
            return 0
        at, line_ends, _, _ = before[-1]
        return line_ends + (self._bytes(start, at - start, offset - at) or b"").count(b"\n")

    def offset_of_line(self, number: int) -> int:
        if number <= 1:
            return 0
        wanted = number - 1  # line ends before it
        for start in self.starts:
            marks = self.marks(start)
            if not marks:
                continue
            if marks[0][1] >= wanted and start:
                return start
            length = self.length(start) or 0
            end = start + length
            if self._count_to(start, end) < wanted:
                continue
            at, line_ends = next((mark[0], mark[1]) for mark in reversed(marks) if mark[1] < wanted)
            data = self._bytes(start, at - start, end - at) or b""
            position = -1
            for _ in range(wanted - line_ends):
                position = data.find(b"\n", position + 1)
                if position < 0:
                    return end
            begin = at + position + 1
            later = [each for each in self.starts if each >= end]
            return later[0] if begin == end and later else begin
        return self.end()


READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _start_of_last_lines(data: bytes, lines: int) -> int | None:
    """Return where the last `lines` lines begin in `data`; None when they begin before it."""
    position = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        position = data.rfind(b"\n", 0, position)
        if position < 0:
            return None
    return position + 1

r"""A run's output as pages read it: in pieces of text with streams, times and line numbers.

A piece is a JSON object, the same over the socket and by request:
    {"run": 17, "offset": 0, "next": 20, "line": 1, "gap": 0,
     "text": [[1, "to stdout\n", 1764000000], [2, "to stderr", 1764000003]]}
Offsets are bytes of the output, `line` is the one that holds `offset`, times are whole seconds. A
piece begins and ends between two characters. `gap` bytes before it are not kept, and of one that
was asked for by its end, `gap_after` behind it.
"""

from __future__ import annotations

import codecs
import json
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from daemon_app import output

if TYPE_CHECKING:
    from pathlib import Path

PLACES = ("offset", "before", "line", "before_line", "around")
BYTES = 64 * 1024  # of output in one piece
BYTES_BEFORE = 128 * 1024  # … in one that was asked for by its end: who scrolls up reads fast
LINES = 4000  # … at most: a page makes so many rows in a moment, and holds a few times as many
FIRST_BYTES, FIRST_LINES = 1024 * 1024, 10_000  # a log begins with at most so much
CONTEXT_BYTES, CONTEXT_LINES = 16 * 1024, 400  # before a line that somebody wants to see

SEARCHED_BYTES = 1 << 20  # at a time
SEARCH_SECONDS = 0.5  # then whoever searches is asked to go on
MOST_HITS = 2000  # lines, in one answer
LONGEST_SEARCH = 200  # characters
EXCERPT = 160  # characters of a line that was found


class Piece(NamedTuple):
    """A piece of a log, encoded once for all pages; `end` and `line` are where the next begins."""

    end: int
    line: int
    body: str


Part = tuple[int, str, int]  # stream, text, epoch seconds


# ── Pieces ───────────────────────────────────────────────────────────────────────────────────────
def begin(folder: Path, offset: int | None) -> tuple[int, int]:
    """Return the offset a log is read from and its line; without offset, its newest lines."""
    if offset is None:
        offset, _ = output.tail(folder, FIRST_LINES, FIRST_BYTES)
    return offset, output.line_at(folder, offset)


def around(folder: Path, line: int) -> tuple[int, int]:
    """Return where to begin so that one piece shows `line` and what is before it: offset, line.

    What was not kept is no line: then the piece ends before it, and the next one says so.
    """
    offset = output.offset_of_line(folder, line)
    before = output.before(folder, offset, CONTEXT_BYTES)
    if before.data:
        offset = _last_lines(_at_line(before), CONTEXT_LINES).offset
    return offset, output.line_at(folder, offset)


def at_place(
    folder: Path, run: int, place: str, number: int | None, *, ended: bool
) -> tuple[int, Piece | None]:
    """Return the piece at one of PLACES and the offset it was looked for at; None for nothing.

    "offset" and "before" take a byte, where it begins or ends; "line", "before_line" and "around"
    a line. Without a number "offset" is the beginning of the newest lines.
    """
    if place.startswith("before"):
        end = number or 0
        if place == "before_line":
            end = output.offset_of_line(folder, end)
        return end, piece_before(folder, run, end)
    if place == "around":
        offset, line = around(folder, number or 1)
    else:
        if place == "line":
            number = output.offset_of_line(folder, number or 1)
        offset, line = begin(folder, number)
    return offset, piece(folder, run, offset, line, ended=ended)


def piece(folder: Path, run: int, offset: int, line: int, *, ended: bool) -> Piece | None:
    """Return the output from `offset` on, as far as it makes whole characters; None for nothing.

    Once the run has `ended`, the rest of a broken character is shown as what it is.
    """
    read = _first_lines(output.read(folder, offset, BYTES), LINES)
    if read.gap:
        line = output.line_at(folder, read.offset)
    return _encoded(folder, run, read, line, ended=ended, gaps={"gap": read.gap})


def piece_before(folder: Path, run: int, end: int) -> Piece | None:
    """Return the output up to the byte `end`, from the beginning of a line on; None for nothing."""
    read = output.before(folder, end, BYTES_BEFORE)
    if not read.data:
        return None
    gap_after, read = read.gap, _last_lines(_at_line(read), LINES)
    line = output.line_at(folder, read.offset)
    return _encoded(folder, run, read, line, ended=True, gaps={"gap": 0, "gap_after": gap_after})


def _at_line(read: output.Piece) -> output.Piece:
    """Return what is left of a piece from its first whole line on, or at least whole character."""
    data = read.data
    if read.offset == 0:
        return read
    cut = data.find(b"\n", 0, len(data) - 1) + 1
    if not cut:
        cut = next((n for n in range(min(4, len(data))) if data[n] & 0xC0 != 0x80), 0)
    return output.Piece(read.offset + cut, data[cut:], read.gap)


def _first_lines(read: output.Piece, most: int) -> output.Piece:
    data = read.data
    if data.count(b"\n") <= most:
        return read
    end = 0
    for _ in range(most):
        end = data.find(b"\n", end) + 1
    return output.Piece(read.offset, data[:end], read.gap)


def _last_lines(read: output.Piece, most: int) -> output.Piece:
    data = read.data
    if data.count(b"\n") <= most:
        return read
    start = len(data) - data.endswith(b"\n")
    for _ in range(most):
        start = data.rfind(b"\n", 0, start)
    return output.Piece(read.offset + start + 1, data[start + 1 :], read.gap)


def _encoded(  # noqa: PLR0913 - what a piece consists of
    folder: Path, run: int, read: output.Piece, line: int, *, ended: bool, gaps: dict[str, int]
) -> Piece | None:
    spans = output.spans(folder, read.offset, read.end) if read.data else []
    parts, left = decode(read, spans, final=False)
    if not parts and ended:
        parts, left = decode(read, spans, final=True)
    if not parts:
        return None
    end = read.end - left
    body = {"run": run, "offset": read.offset, "next": end, "line": line, **gaps, "text": parts}
    encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Piece(end, line + read.data.count(b"\n"), f',"log":{encoded}')


def decode(
    read: output.Piece, spans: list[tuple[int, float, int]], *, final: bool
) -> tuple[list[Part], int]:
    """Return the text of `read` part by part, and how many bytes of a character are left.

    A character may come in two parts of its stream at different times; it belongs to the later.
    """
    parts: list[Part] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    cuts = [max(read.offset, start) for start, _, _ in spans[1:]]
    begins, ends = [read.offset, *cuts], [*cuts, read.end]
    known = [(stream, int(at)) for _, at, stream in spans] or [(output.STDOUT, 0)]
    last = known[0]
    for start, end, (stream, at) in zip(begins, ends, known, strict=True):
        if stream != last[0]:
            _add(parts, last[0], decoder.decode(b"", final=True), last[1])
        last = stream, at
        part = read.data[start - read.offset : end - read.offset]
        _add(parts, stream, decoder.decode(part), at)
    if final:
        _add(parts, last[0], decoder.decode(b"", final=True), last[1])
    return parts, len(decoder.getstate()[0])


def _add(parts: list[Part], stream: int, text: str, at: int) -> None:
    if not text:
        return
    if parts and (parts[-1][0], parts[-1][2]) == (stream, at):
        parts[-1] = (stream, parts[-1][1] + text, at)
    else:
        parts.append((stream, text, at))


# ── Search ───────────────────────────────────────────────────────────────────────────────────────
class Hit(NamedTuple):
    """A line in which words were found, and what stands around them."""

    line: int
    excerpt: str


class Found(NamedTuple):
    """What a search has found, and the byte at which it is to go on; None when it is through."""

    hits: list[Hit]
    next: int | None


def search(
    folder: Path, words: str, *, match_case: bool = False, start: int = 0, most: int = MOST_HITS
) -> Found:
    """Return the lines from the byte `start` on that show `words`: at most `most`, and in a while.

    What a page shows is searched: no colours, and of a line that was written over and over what
    it says in the end. Takes some megabytes, however long the output is or a line of it.
    """
    words = _wanted(words, match_case=match_case)
    hits: list[Hit] = []
    if not words:
        return Found(hits, None)
    until = time.monotonic() + SEARCH_SECONDS
    offset, line = start, output.line_at(folder, start)
    overlap = 4 * len(words) + 64  # bytes; more than the words have
    while True:
        read = output.read(folder, offset, SEARCHED_BYTES)
        if not read.data:
            return Found(hits, None)
        if read.gap:
            line = output.line_at(folder, read.offset)
        data = read.data
        if whole := data.rfind(b"\n") + 1:
            offset, data = read.offset + whole, data[:whole]
        else:  # within a long line, or the last one
            more = output.read(folder, read.end, 1)
            # Never back over lines that were counted: more may have come just now.
            again = max(read.offset, read.end - overlap)
            offset = again if more.data and not more.gap else read.end
        for hit in _hits(data, words, line, match_case=match_case):
            if not hits or hits[-1].line < hit.line:
                hits.append(hit)
            if len(hits) == most:
                there = output.offset_of_line(folder, hit.line + 1)
                is_over = there >= output.size(folder)
                return Found(hits, None if is_over else there)
        line += data.count(b"\n")
        if time.monotonic() >= until:
            return Found(hits, offset)


def _wanted(words: str, *, match_case: bool) -> str:
    words = words[:LONGEST_SEARCH].split("\n", maxsplit=1)[0].strip("\r")
    return words if match_case else words.lower()


def _hits(data: bytes, words: str, line: int, *, match_case: bool) -> list[Hit]:
    """Return the lines of `data` that show `words`; the first one has the number `line`."""
    text = data.decode(errors="replace")
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    folded = text if match_case else text.lower()
    if len(folded) != len(text):  # in few languages a small letter is two characters
        text = folded
    hits: list[Hit] = []
    at = counted = 0
    while (found := folded.find(words, at)) >= 0 and len(hits) < MOST_HITS:
        end = folded.find("\n", found)
        end = len(folded) if end < 0 else end
        shown_end = end
        while shown_end > found and folded[shown_end - 1] == "\r":
            shown_end -= 1
        overwritten = folded.rfind("\r", found, shown_end)
        if overwritten >= 0:
            at = overwritten + 1
            continue
        line += folded.count("\n", counted, found)
        counted = found
        start = max(folded.rfind("\n", 0, found), folded.rfind("\r", 0, found)) + 1
        start = max(start, found - EXCERPT // 2)
        hits.append(Hit(line, output.shown(text[start : min(shown_end, start + EXCERPT)])))
        at = end + 1
    return hits


# As static/daemon/js/ansi.js has them; none goes on in the next line.
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n\r]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
)

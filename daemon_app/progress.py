"""How far a run has come, as its command says itself: a number from 0 to 100 and a few words.

A command may say it in two ways, as often as it likes:

    echo '{"progress": 40, "label": "step 2"}'     a line on standard output or error
    bach progress 40 "step 2"                      from any process of the run

The supervisor hears the lines by a `Listener`. The tool calls `report`, which writes the file that
BACH_PROGRESS names and rings the runner; the supervisor reads that file at the end. Into the same
file it writes what lines have said, once a second: who was away finds by `read` what was said last.
"""

# Supervisors are many and small, and `bach progress` is called often: nothing dear is imported.

from __future__ import annotations

import json
import math
import os
import stat

from daemon_app import doorbell, output

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from collections.abc import Mapping

# What the runner gives to a command
RUN, FENCE, FILE, RUNTIME = "BACH_RUN_ID", "BACH_FENCE", "BACH_PROGRESS", "BACH_RUNTIME"
NAME = "progress"  # of that file, in the run's folder
LAST = 100  # per cent
LONGEST_LABEL = 200  # characters
LONGEST_LINE = 4096  # bytes; a longer line reports nothing
SIGN = b'{"progress":'  # how a line begins that reports
NEXT_SIGN = b"\n" + SIGN
TRIES = 8  # lines that look like a report and are none, before a piece of output is given up


class NotInRunError(Exception):
    """There is no run to report for: the command was not started by the daemon."""


class Progress:
    """What was reported: whole per cent, rounded down, and a label fit to be shown ("": none)."""

    __slots__ = ("label", "percent")

    def __init__(self, percent: float, label: str = "") -> None:
        """Take any finite number; what is below 0 is 0, what is above 100 is 100."""
        self.percent = math.floor(min(LAST, max(0, percent)))
        self.label = output.shown(label)[:LONGEST_LABEL].rstrip()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Progress):
            return NotImplemented
        return (self.percent, self.label) == (other.percent, other.label)

    def __hash__(self) -> int:
        return hash((self.percent, self.label))

    def __repr__(self) -> str:
        return f"Progress({self.percent}, {self.label!r})"

    @property
    def facts(self) -> dict[str, int | str]:
        """What a message or a file says of it."""
        return {"progress": self.percent, "label": self.label}


def parse(line: bytes) -> Progress | None:
    """Return what a line of JSON reports; None when it is no report, or of no finite number."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    percent = found.get("progress") if isinstance(found, dict) else None
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        return None
    if isinstance(percent, float) and not math.isfinite(percent):  # an int may be too big to ask
        return None
    label = found.get("label")
    return Progress(percent, label if isinstance(label, str) else "")


# ── what the supervisor uses ─────────────────────────────────────────────────────────────────────


class Listener:
    """Finds reports in one stream of output, at the cost of one search for a few bytes."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        # The part of the current line that has come; None when that will not become a report.
        self._begun: bytes | None = b""

    def hear(self, data: bytes) -> Progress | None:
        """Return the last report in a line that ends in `data`; None when there is none."""
        begun = self._begun
        whole = begun + data if begun else data
        end = whole.rfind(b"\n")
        found = _last_report(whole, end, at_line_start=begun is not None) if end >= 0 else None
        if end < 0 and begun is None:
            return None
        rest = whole[end + 1 : end + 2 + LONGEST_LINE]
        is_possible = rest.startswith(SIGN) or SIGN.startswith(rest)
        self._begun = rest if is_possible and len(rest) <= LONGEST_LINE else None
        return found

    def end(self) -> Progress | None:
        """The stream has ended; return what its last line reports, if it had no line end."""
        begun, self._begun = self._begun, None
        return parse(begun) if begun else None


def _last_report(whole: bytes, end: int, *, at_line_start: bool) -> Progress | None:
    """Return the last report in the lines up to the line end at `end`."""
    if whole.rfind(SIGN[0], 0, end) < 0:
        return None  # most output has no such character, and one is found ten times as fast
    before = end
    for _ in range(TRIES):
        at = whole.rfind(NEXT_SIGN, 0, before)
        if at < 0:
            break
        if found := _report(whole, at + 1):
            return found
        before = at + 1
    else:
        return None
    return _report(whole, 0) if at_line_start and whole.startswith(SIGN) else None


def _report(whole: bytes, start: int) -> Progress | None:
    end = whole.find(b"\n", start, start + LONGEST_LINE + 1)
    return parse(whole[start:end]) if end >= 0 else None


def read(path: str) -> tuple[Progress, float] | None:
    """Return what was reported last by a run's file, and when (epoch); None when there is nothing.

    The file is in the hands of the command: whatever it made of it is opened with care.
    """
    try:
        file = os.open(path, output.READ_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(file)
        progress = parse(os.read(file, LONGEST_LINE)) if stat.S_ISREG(found.st_mode) else None
    except OSError:
        return None
    finally:
        os.close(file)
    return (progress, found.st_mtime) if progress else None


# ── what `bach progress` uses ────────────────────────────────────────────────────────────────────


def report(progress: Progress, environment: Mapping[str, str]) -> None:
    """Say from inside of a run how far it has come.

    Raises NotInRunError outside of a run, and OSError when the run's file cannot be written.
    """
    run, path = environment.get(RUN, ""), environment.get(FILE, "")
    if not run.isdecimal() or not path:
        raise NotInRunError
    output.write_whole(path, json.dumps(progress.facts).encode(), own=str(os.getpid()))
    news: dict[str, int | str] = {"op": "progress", "run": int(run), **progress.facts}
    if (fence := environment.get(FENCE, "")).isdecimal():
        news["fence"] = int(fence)
    if runtime := environment.get(RUNTIME):
        doorbell.ring(runtime, "runner", json.dumps(news).encode())


def from_words(words: list[str]) -> Progress | None:
    """Return what the words behind `bach progress` mean, such as 40 step 2; None for nonsense.

    >>> from_words(["40", "Schritt", "2"]), from_words(["99.9%"]), from_words(["250"])
    (Progress(40, 'Schritt 2'), Progress(99, ''), None)
    """
    try:
        percent = float(words[0].removesuffix("%"))
    except (IndexError, ValueError):
        return None
    return Progress(percent, " ".join(words[1:])) if 0 <= percent <= LAST else None

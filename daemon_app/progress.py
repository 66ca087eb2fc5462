"""How far a run has come, as its command says itself: a number from 0 to 100 and a few words.

A command may say it in two ways, as often as it likes:

    echo '{"progress": 40, "label": "step 2"}'     a line on standard output or error
    bach progress 40 "step 2"                      from any process of the run

Just so it may say a token, words that mean something to the command alone. It gets them back in
BACH_PROGRESS_TOKEN when it had to make room for somebody and begins again.

    echo '{"token": "page 17"}'                    or {"progress": 40, "token": "page 17"}
    bach progress --token "page 17"                or bach progress 40 "step 2" --token "page 17"

The supervisor hears the lines by a `Listener`. The tool calls `report`, which writes the file that
BACH_PROGRESS names and rings the runner; the supervisor reads that file at the end. Into the same
file it writes what lines have said, once a second: who was away finds by `read` what was said last.
The token has a file of its own beside it: of two who write at once neither undoes the other's word.
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
    from collections.abc import Iterator, Mapping

# What the runner gives to a command
RUN, FENCE, FILE, RUNTIME = "BACH_RUN_ID", "BACH_FENCE", "BACH_PROGRESS", "BACH_RUNTIME"
NAME = "progress"  # of that file, in the run's folder
LAST = 100  # per cent
LONGEST_LABEL = 200  # characters
LONGEST_TOKEN = 4096  # bytes in UTF-8
LONGEST_LINE = 32_768  # bytes; a longer line reports nothing. JSON may make six of one of a token
SIGNS = (b'{"progress":', b'{"token":')  # how a line begins that reports
SIGN_OF_TOKEN = b'"token"'
TRIES = 8  # lines that look like a report and are none, before a piece of output is given up


class NotInRunError(Exception):
    """There is no run to report for: the command was not started by the daemon."""


class TokenError(Exception):
    """A text can be no token. `size` is that of one that is too long, in bytes; else it is None."""

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size


class Progress:
    """What was reported: whole per cent, rounded down, a label fit to be shown, and a token.

    None for `percent` or `token` means that nothing was said of it; "" for `label` the same.
    """

    __slots__ = ("label", "percent", "token")

    def __init__(self, percent: float | None, label: str = "", token: str | None = None) -> None:
        """Take any finite number; what is below 0 is 0, what is above 100 is 100."""
        self.percent = None if percent is None else math.floor(min(LAST, max(0, percent)))
        self.label = output.shown(label)[:LONGEST_LABEL].rstrip()
        self.token = token

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Progress):
            return NotImplemented
        mine = (self.percent, self.label, self.token)
        return mine == (other.percent, other.label, other.token)

    def __hash__(self) -> int:
        return hash((self.percent, self.label, self.token))

    def __repr__(self) -> str:
        token = "" if self.token is None else f", {self.token!r}"
        return f"Progress({self.percent}, {self.label!r}{token})"

    @property
    def facts(self) -> dict[str, int | str]:
        """What a message or a file says of it; nothing of what was not said."""
        facts: dict[str, int | str] = {}
        if self.percent is not None:
            facts |= {"progress": self.percent, "label": self.label}
        if self.token is not None:
            facts["token"] = self.token
        return facts

    @property
    def without_token(self) -> Progress | None:
        """What it says of progress; None if nothing."""
        return None if self.percent is None else Progress(self.percent, self.label)

    @property
    def only_token(self) -> Progress | None:
        """What it says of a token; None if nothing."""
        return None if self.token is None else Progress(None, token=self.token)


def checked_token(text: str) -> str:
    """Return `text` if an environment can hold it and it is short enough. Raises TokenError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise TokenError(None) from error
    if size > LONGEST_TOKEN:
        raise TokenError(size)
    if "\0" in text:
        raise TokenError(None)
    return text


def parse(line: bytes) -> Progress | None:
    """Return what a line of JSON reports; None when it is no report.

    That is a finite number, a token, or both. What can be no token counts as not said.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    percent, label, token = found.get("progress"), found.get("label"), found.get("token")
    try:
        token = checked_token(token) if isinstance(token, str) else None
    except TokenError:
        token = None
    if not _is_finite(percent):
        return None if token is None else Progress(None, token=token)
    return Progress(percent, label if isinstance(label, str) else "", token)


def _is_finite(found: object) -> bool:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return isinstance(found, int) or math.isfinite(found)  # an int may be too big to ask


# ── what the supervisor uses ─────────────────────────────────────────────────────────────────────


class Listener:
    """Finds reports in one stream of output, at the cost of one search for a few bytes."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        # The part of the current line that has come; None when that will not become a report.
        self._begun: bytes | None = b""

    def hear(self, data: bytes) -> Progress | None:
        """Return the last progress and the last token in lines that end in `data`; None: none."""
        begun = self._begun
        whole = begun + data if begun else data
        end = whole.rfind(b"\n")
        found = _last_reports(whole, end, at_line_start=begun is not None) if end >= 0 else None
        if end < 0 and begun is None:
            return None
        rest = whole[end + 1 : end + 2 + LONGEST_LINE]
        is_possible = any(rest.startswith(sign) or sign.startswith(rest) for sign in SIGNS)
        self._begun = rest if is_possible and len(rest) <= LONGEST_LINE else None
        return found

    def end(self) -> Progress | None:
        """The stream has ended; return what its last line reports, if it had no line end."""
        begun, self._begun = self._begun, None
        return parse(begun) if begun else None


def _last_reports(whole: bytes, end: int, *, at_line_start: bool) -> Progress | None:
    """Return the last progress and the last token in the lines up to the line end at `end`."""
    if whole.rfind(SIGNS[0][0], 0, end) < 0:
        return None  # most output has no such character, and one is found ten times as fast
    said = token = None
    has_token = whole.find(SIGN_OF_TOKEN, 0, end) >= 0
    failures = 0
    for at in _lines_that_may_report(whole, end, at_line_start=at_line_start):
        if said and whole.find(SIGN_OF_TOKEN, at, whole.find(b"\n", at)) < 0:
            continue  # there may be a thousand of these behind the line with the token
        found = _report(whole, at)
        if found is None:
            failures += 1
        else:
            said, token = said or found.without_token, token or found.only_token
        if failures == TRIES or (said and (token or not has_token)):
            break
    if said is None or token is None:
        return said or token
    return Progress(said.percent, said.label, token.token)


def _lines_that_may_report(whole: bytes, end: int, *, at_line_start: bool) -> Iterator[int]:
    """Yield where lines with a sign begin, the last first."""

    def last(sign: bytes, before: int) -> int:
        at = whole.rfind(b"\n" + sign, 0, before)
        if at >= 0:
            return at + 1
        return 0 if at_line_start and before > 0 and whole.startswith(sign) else -1

    places = {sign: last(sign, end) for sign in SIGNS}
    while (at := max(places.values())) >= 0:
        yield at
        for sign, place in places.items():
            if place == at:
                places[sign] = last(sign, at)


def _report(whole: bytes, start: int) -> Progress | None:
    end = whole.find(b"\n", start, start + LONGEST_LINE + 1)
    return parse(whole[start:end]) if end >= 0 else None


def read(path: str) -> tuple[Progress, float] | None:
    """Return what was reported last by a run's files, and when (epoch); None if there is nothing.

    `path` is what BACH_PROGRESS says. Where progress and token are of different times, the time is
    that of the later one.
    """
    said, token = read_file(path), read_file(token_path(path))
    if said is None or token is None:
        return said or token
    return Progress(said[0].percent, said[0].label, token[0].token), max(said[1], token[1])


def token_path(path: str) -> str:
    """Return the file of the token that belongs to the file that BACH_PROGRESS names."""
    return f"{path}.token"


def read_file(path: str) -> tuple[Progress, float] | None:
    """Return what one of the two files says, and since when.

    It is in the hands of the command: whatever it made of it is opened with care.
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
    for part, file in ((progress.only_token, token_path(path)), (progress.without_token, path)):
        if part is not None:
            output.write_whole(file, json.dumps(part.facts).encode(), own=str(os.getpid()))
    news: dict[str, int | str] = {"op": "progress", "run": int(run), **progress.facts}
    if (fence := environment.get(FENCE, "")).isdecimal():
        news["fence"] = int(fence)
    if runtime := environment.get(RUNTIME):
        doorbell.ring(runtime, "runner", json.dumps(news).encode())


def from_words(words: list[str], token: str | None = None) -> Progress | None:
    """Return what the words behind `bach progress` mean, such as 40 step 2; None for nonsense.

    With a token there need be no words. Raises TokenError when it can be none.

    >>> from_words(["40", "Schritt", "2"]), from_words(["99.9%"]), from_words(["250"])
    (Progress(40, 'Schritt 2'), Progress(99, ''), None)
    >>> from_words([], "Seite 17")
    Progress(None, '', 'Seite 17')
    """
    if token is not None:
        token = checked_token(token)
        if not words:
            return Progress(None, token=token)
    try:
        percent = float(words[0].removesuffix("%"))
    except (IndexError, ValueError):
        return None
    return Progress(percent, " ".join(words[1:]), token) if 0 <= percent <= LAST else None


def split_token(words: list[str]) -> tuple[list[str], str | None]:
    """Return the words without --token TEXT or --token=TEXT, and the text; None without one.

    >>> split_token(["40", "--token", "Seite 17", "Schritt"]), split_token(["--token="])
    ((['40', 'Schritt'], 'Seite 17'), ([], ''))
    """
    rest: list[str] = []
    token = None
    left = iter(words)
    for word in left:
        name, equals, text = word.partition("=")
        if name != OPTION:
            rest.append(word)
        elif equals:
            token = text
        elif (token := next(left, None)) is None:
            rest.insert(0, word)  # which is nonsense, and is to be seen as such
    return rest, token


OPTION = "--token"

"""What goes to the terminal: tables, JSON, and text of others without its control sequences."""

import json
import os
import re
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

# How far a terminal is wide when there is none: no line of a table may be cut in a pipe.
PIPE_WIDTH = 10_000
GAP = 3  # between columns
COLOURS = {"is-ok": "green", "is-run": "blue", "is-warn": "yellow", "is-fail": "red"}
SIGNS = {"is-ok": "✓", "is-run": "▶", "is-warn": "!", "is-fail": "✗"}


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def wants_colour() -> bool:
    """Return whether to write colours: on a terminal, unless NO_COLOR or TERM=dumb forbid it."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str = "", *, tone: str = "") -> None:
    """Write a line to standard output, on a terminal in the colour of `tone` ("is-ok", …)."""
    coloured = click.style(text, fg=COLOURS[tone]) if tone in COLOURS else text
    click.echo(coloured, color=wants_colour())


def note(text: str) -> None:
    """Write a line to standard error: what people should know and programs needn't read."""
    click.echo(text, err=True)


def marked(word: str, tone: str) -> str:
    """Return a state with its sign: colour is never alone in saying it."""
    return f"{SIGNS.get(tone, '·')} {word}"


# Characters that JSON may hold as they are and that a terminal would obey.
UNSEEN_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def say_json(value: Any) -> None:
    """Write `value` as JSON, indented, with dates as ISO texts."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=_as_json)
    click.echo(UNSEEN_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> None:
    """Write a table; a cell may be (text, tone). On a terminal it fits the width."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not is_terminal() and not wants_colour():
        # As below, in a hundredth of the time: programs ask for thousands of rows.
        told = [[shown(each if isinstance(each, str) else each[0]) for each in row] for row in rows]
        texts = [[*columns], *told]
        widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
        if sum(widths) + GAP * (len(widths) - 1) <= PIPE_WIDTH:
            for words in texts:
                padded = (
                    text + " " * (width - cell_len(text) + GAP)
                    for text, width in zip(words, widths, strict=True)
                )
                click.echo("".join(padded).rstrip())
            return
        rows = told
    console = Console(
        file=sys.stdout,
        width=None if is_terminal() else PIPE_WIDTH,
        no_color=not wants_colour(),
        highlight=False,
        markup=False,
        emoji=False,
    )
    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, GAP, 0, 0))
    for position, column in enumerate(columns):
        drawn.add_column(column, no_wrap=position < 2, overflow="fold")
    for row in rows:
        cells = ((cell, "") if isinstance(cell, str) else cell for cell in row)
        drawn.add_row(*(Text(shown(text), style=COLOURS.get(tone, "")) for text, tone in cells))
    with console.capture() as capture:
        console.print(drawn)
    for line in capture.get().splitlines():
        click.echo(line.rstrip(), color=wants_colour())


@contextmanager
def output() -> Iterator[Callable[[bytes], None]]:
    """Give what writes a command's output: cleaned for a terminal, byte for byte elsewhere."""
    if not is_terminal():
        yield _write
        return
    cleaner = Cleaner(colour=wants_colour())
    try:
        yield lambda data: _write(cleaner.feed(data).encode())
    finally:
        _write(cleaner.close().encode())


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


# ── Text of others ───────────────────────────────────────────────────────────────────────────────
def shown(text: str) -> str:
    """Return `text` as one line that moves, colours and hides nothing."""
    return Cleaner(colour=False).feed(text.encode(errors="replace")).replace("\n", " ")


# Sequences end with their final byte; strings (titles, links, …) with BEL or ST, and here also
# with the line, so that an open one does not swallow what follows.
SEQUENCE = re.compile(
    r"""
    (?P<colour> (?:\x1b\[|\x9b) [0-9;:]* m )
    | (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]
    | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) [^\x07\x1b\x9c\x18\x1a\n]*
      (?: \x07 | \x1b\\ | \x9c | \x18 | \x1a | (?=\n) | (?=\x1b) )
    | \x1b [ -/]* [0-~]
    | (?P<control> [\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]
      | [\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069] )
    """,
    re.VERBOSE,
)
# A sequence whose end has not come yet.
OPEN = re.compile(
    r"""
    (?: \x1b
    | (?:\x1b\[|\x9b) [0-?]* [ -/]*
    | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]) [^\x07\x1b\x9c\x18\x1a\n]* \x1b?
    | \x1b [ -/]+ ) \Z
    """,
    re.VERBOSE,
)
LONGEST_OPEN = 4096
RESET = "\x1b[0m"


class Cleaner:
    """Makes a command's output fit for a terminal, piece by piece.

    Keeps text, tabs, line ends and, if `colour`, colours; drops every other control sequence; shows
    stray control characters and those that turn the reading direction.
    """

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")
        self._open = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """Return what of `data` may be shown now; the rest waits for its end."""
        text = self._open + self._decoder.decode(data)
        found = OPEN.search(text)
        self._open = found[0] if found and len(found[0]) <= LONGEST_OPEN else ""
        return SEQUENCE.sub(self._replaced, text[: len(text) - len(self._open)])

    def close(self) -> str:
        """Return what ends the output properly: the normal colour, if it was changed."""
        return RESET if self._coloured else ""

    def _replaced(self, match: re.Match[str]) -> str:
        if match["colour"]:
            self._coloured |= self.colour
            return match["colour"].replace("\x9b", "\x1b[") if self.colour else ""
        control = match["control"]
        if not control:
            return ""
        if ord(control) < 0x20:
            return chr(0x2400 + ord(control))
        return "␡" if control == "\x7f" else f"<U+{ord(control):04X}>"

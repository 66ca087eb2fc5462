"""What goes to the terminal: tables, JSON, and text of others without its control sequences."""

import json
import os
import re
import shutil
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
    """Return whether to write colours: on a terminal that shows them, unless NO_COLOR forbids it.

    FORCE_COLOR asks for them everywhere, for example through `less -R`.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return is_terminal() and os.environ.get("TERM") != "dumb"


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
    click.echo(as_json(value))


def as_json(value: Any) -> str:
    """Return `value` as `say_json` writes it."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=_as_json)
    return UNSEEN_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


@contextmanager
def progress(label: str, length: int, *, is_long: bool = True) -> Iterator[Callable[[int], None]]:
    """Give what is told how many more steps are done: a bar on standard error, if people watch it.

    Nothing is shown of what is not `is_long`: it would only flicker.
    """
    if not is_long or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


Cell = str | tuple[str, str]  # the text, or text and tone


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table. On a terminal it fits the width."""
    cells = [[("", each) if isinstance(each, str) else each[::-1] for each in row] for row in rows]
    told = [[*columns], *([shown(text) for _tone, text in row] for row in cells)]
    widths = [max(map(width, column)) for column in zip(*told, strict=True)]
    room = shutil.get_terminal_size().columns if is_terminal() else PIPE_WIDTH
    if sum(widths) + GAP * (len(widths) - 1) > room:
        _folded(told, cells, room)
        return
    coloured = wants_colour()
    lines = []
    for position, words in enumerate(told):
        parts = []
        for place, text in enumerate(words):
            gap = " " * (widths[place] - width(text) + GAP)
            parts.append(_styled(text, cells, position, place) if coloured else text)
            parts.append(gap)
        lines.append("".join(parts).rstrip())
    click.echo("\n".join(lines), color=coloured)


def _styled(
    text: str, cells: Sequence[Sequence[tuple[str, str]]], position: int, place: int
) -> str:
    if position == 0:
        return click.style(text, dim=True)
    colour = COLOURS.get(cells[position - 1][place][0])
    return click.style(text, fg=colour) if colour else text


def _folded(
    told: Sequence[Sequence[str]], cells: Sequence[Sequence[tuple[str, str]]], room: int
) -> None:
    """Write a table that is too wide, its cells on several lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    coloured = wants_colour()
    console = Console(
        file=sys.stdout,
        width=room,
        force_terminal=coloured,
        no_color=not coloured,
        highlight=False,
        markup=False,
        emoji=False,
    )
    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, GAP, 0, 0))
    for place, column in enumerate(told[0]):
        drawn.add_column(column, no_wrap=place < 2, overflow="fold")
    for words, row in zip(told[1:], cells, strict=True):
        styles = [COLOURS.get(tone, "") for tone, _text in row]
        drawn.add_row(*(Text(text, style=style) for text, style in zip(words, styles, strict=True)))
    with console.capture() as capture:
        console.print(drawn)
    for line in capture.get().splitlines():
        click.echo(line.rstrip(), color=coloured)


def width(text: str) -> int:
    """Return how many columns `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


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
    if text.isprintable():
        return text
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

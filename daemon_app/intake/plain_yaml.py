"""YAML as people keep it in git: plain data, each text in the form in which it is read best.

Written in one way alone, so that a comparison shows what has changed and nothing else. Read with
the lines in which all stands, and without what data have no use for: aliases, tags, keys that are
there twice, words that mean something else than they say (`no`, `22:00`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml
from django.utils.translation import gettext as _t
from yaml.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEEPEST: Final = 8
MOST_VALUES: Final = 1_000_000
LONGEST_LINE: Final = 60  # of what is cited


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────
class YamlError(Exception):
    """A text that is not read: in which line, and why, in the reader's language."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"{line}: {why}")
        self.line, self.why = line, why


class Lined(dict[str, Any]):
    """A mapping that knows in which line each of its keys stands, and itself begins."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


# libyaml where it comes with PyYAML: ten times as fast.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
HALVES = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2})"
)
# As in YAML 1.2: "yes" is text, and "010" and "22:00" are no numbers.
WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def documents(text: str) -> list[tuple[Any, int]]:
    """Return the values that a text holds, each with the line in which it begins.

    Mappings are `Lined`. Raises YamlError.
    """
    if found := UNREADABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise YamlError(
            line,
            _t("There is a character here that no text holds: %(code)s") % {"code": _code(found)},
        )
    try:
        return list(_Reader(_joined(text)).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What is open at the end is told of the last line, and not of one behind it.
        rows = text.rstrip().splitlines() or [""]
        line = min(mark.line + 1, len(rows)) if mark else len(rows)
        is_tab = rows[line - 1].lstrip(" ").startswith("\t")
        said = "tab character" if is_tab else str(error.problem or error.context or error)
        raise YamlError(line, _problem(said)) from error
    except yaml.YAMLError as error:
        raise YamlError(1, str(error).splitlines()[0]) from error


def _joined(text: str) -> str:
    """Return JSON without halves of characters: it may write one beyond U+FFFF as two escapes."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return HALVES.sub(lambda pair: pair[1] + json.loads(f'"{pair[2]}"'), text)


def _code(found: re.Match[str]) -> str:
    return f"U+{ord(found[0]):04X}"


def _problem(said: str) -> str:
    """Return in words of ours what the parser has to say; in its own what is rare."""
    for part, ours in (
        (
            "mapping values are not allowed",
            _t(
                "A text with a colon is put in quotation marks; what belongs together is indented "
                "alike."
            ),
        ),
        ("cannot start any token", _t("This can't begin a text; put it in quotation marks.")),
        ("tab character", _t("Lines are indented by blanks, not by tabs.")),
        ("unexpected end of stream", _t("A quotation mark is opened and not closed.")),
        ("expected <block end>", _t("This line is not indented as the lines above it.")),
        ("did not find expected key", _t("This line is not indented as the lines above it.")),
        ("expected ',' or", _t("A bracket is opened and not closed.")),
        ("expected node content", _t("A bracket is opened and not closed.")),
        ("could not find expected ':'", _t("A colon and a value are expected.")),
    ):
        if part in said:
            return ours
    return _t("This is no YAML: %(why)s") % {"why": said}


class _Reader:
    """Makes values of the parser's events: in one go, and without a tree in between."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=LOADER))
        self._values = 0

    def documents(self) -> Iterator[tuple[Any, int]]:
        """Yield the documents that are not empty."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                first = next(self._events)
                line = _line(first)
                value = self._value(first, 0)
                if value is not None:
                    yield value, line

    def _value(self, event: Any, depth: int) -> Any:
        self._values += 1
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, _t("References (*name) are not read; write out what is meant."))
        if event.tag is not None:
            self._refuse(event, _t("Tags (%(tag)s) are not read.") % {"tag": _cited(event.tag)})
        if self._values > MOST_VALUES:
            self._refuse(event, _t("It holds more than %(n)s values.") % {"n": MOST_VALUES})
        if isinstance(event, yaml.ScalarEvent):
            return _plain(event.value) if event.implicit[0] else event.value
        if depth == DEEPEST:
            self._refuse(event, _t("It is nested deeper than %(n)s levels.") % {"n": DEEPEST})
        if isinstance(event, yaml.SequenceStartEvent):
            found = []
            while not isinstance(each := next(self._events), yaml.SequenceEndEvent):
                found.append(self._value(each, depth + 1))
            return found
        return self._mapping(event, depth)

    def _mapping(self, event: Any, depth: int) -> Lined:
        found = Lined(_line(event))
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.tag is not None:
                self._refuse(key, _t("Before a colon stands a word."))
            name, line = key.value, _line(key)
            if name in found:
                said = _t("“%(key)s” stands there twice, first in line %(line)s.")
                self._refuse(key, said % {"key": _cited(name), "line": found.lines[name]})
            found[name] = self._value(next(self._events), depth + 1)
            found.lines[name] = line
        return found

    def _refuse(self, event: Any, why: str) -> NoReturn:
        raise YamlError(_line(event), why)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _plain(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    return int(text) if NUMBER.fullmatch(text) else text


def _cited(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────
# What can't begin a text without quotation marks, and what can't stand in it.
INDICATORS: Final = tuple("-?:,[]{}#&*!|>'\"%@`")
AMBIGUOUS = re.compile(r": |:$| #|^\.\.\.|^0o")
PLAIN_TAG: Final = "tag:yaml.org,2002:str"
_resolver = Resolver()


def lines(said: Mapping[str, Any]) -> list[str]:
    r"""Return the lines of a mapping of plain values, in its order.

    >>> print("\n".join(lines({"name": "a", "command": "cd /\nls", "pools": {"gpu": 1}, "no": []})))
    name: a
    command: |-
      cd /
      ls
    pools:
      gpu: 1
    'no': []
    """
    return [line for key, value in said.items() for line in _entry(f"{_scalar(key)}:", value)]


def listed(entries: Sequence[list[str]]) -> list[str]:
    """Return the lines of a list of mappings, each given by its lines, with a gap between them."""
    found: list[str] = []
    for entry in entries:
        found += [""] if found else []
        found += [f"  - {entry[0]}", *indented(entry[1:], 4)] if entry else ["  - {}"]
    return found


def indented(some: Sequence[str], by: int = 2) -> list[str]:
    """Return lines further to the right; empty ones stay empty."""
    return [" " * by + line if line else "" for line in some]


def _entry(head: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [head, *indented(lines(value))]
    if isinstance(value, list | tuple) and value:
        return [head, *(f"  {line}" for each in value for line in _entry("-", each))]
    if isinstance(value, str) and "\n" in value and _is_block(value):
        return [f"{head} {_header(value)}", *indented(value.removesuffix("\n").split("\n"))]
    return [f"{head} {_scalar(value)}"]


def _is_block(text: str) -> bool:
    """Return whether a text of several lines can stand as it is: nothing in it is invisible."""
    return not text.isspace() and all(line.isprintable() for line in re.split(r"[\n\t]", text))


def _header(text: str) -> str:
    is_indented = text[0] in " \t\n"
    kept = "" if text.endswith("\n") else "-"
    if text.endswith("\n\n"):
        kept = "+"
    return "|" + ("2" if is_indented else "") + kept


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | dict | tuple):
        return "[]" if isinstance(value, list | tuple) else "{}"
    text = str(value)
    if not text.isprintable() or not text:
        return _quoted(text)
    if (
        not text.startswith((*INDICATORS, " "))
        and not text.endswith(" ")
        and not AMBIGUOUS.search(text)
        and _tag(text) == PLAIN_TAG
    ):
        return text
    return "'" + text.replace("'", "''") + "'"


def _tag(text: str) -> str:
    """Return as what others read a text without quotation marks: in YAML 1.1 “no” is a yes/no."""
    found: str = _resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return found


def _quoted(text: str) -> str:
    """Return a text in double quotation marks, with what can't be seen in it spelled out."""
    told = json.dumps(text, ensure_ascii=False)
    return "".join(
        each
        if each.isprintable()
        else f"\\U{ord(each):08x}"
        if each > "\uffff"
        else f"\\u{ord(each):04x}"
        for each in told
    )

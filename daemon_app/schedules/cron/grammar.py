"""The text of a cron expression: five fields, strictly read, with a hint for each slip.

What a field may hold: `*`, values, lists, ranges, steps (`*/5`, `1-30/5`, `5/10` = from 5 to
the end), names in any case, weekdays 0-7 (0 = 7 = Sunday); in the day of month also `L`, `LW`
and `15W`, in the weekday `5L` and `MON#1`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from daemon_app.schedules.errors import FIELDS, ScheduleError, shown
from daemon_app.schedules.language import AND, MONTHS, WEEKDAYS, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daemon_app.schedules.language import Both

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

WEEKDAY_NAMES: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTH_NAMES: Final = (
    *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
    *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
)
# Help with the input only: the stored text has the English names.
GERMAN_WEEKDAYS: Final = {"SO": 0, "MO": 1, "DI": 2, "MI": 3, "DO": 4, "FR": 5, "SA": 6}
GERMAN_MONTHS: Final = {"MÄR": 3, "MRZ": 3, "MAI": 5, "OKT": 10, "DEZ": 12}

LAST: Final = -1
"""In `nth`, the place of the last such weekday of the month."""

ITEM: Final = re.compile(r"(\*|[^-/#*]+(?:-[^-/#*]+)?)(?:/([0-9]+))?")
NEAREST: Final = re.compile(r"([0-9]+)W", re.IGNORECASE | re.ASCII)
NTH: Final = re.compile(r"([^-/#*]+)#([0-9]+)")
CRON_CHARACTERS: Final = re.compile(r"[0-9A-Za-z*/,#?-]+")
SHELL_CHARACTERS: Final = re.compile(r"[;|&$`<>()'\"\\].*")
YEAR: Final = re.compile(r"\*|\?|[0-9]{4}")
INTERVAL: Final = re.compile(r"(?:[0-9]+[dhms]?)+")

SHORT: Final = 12
"""Longer words resemble no name."""

DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"


@dataclass(frozen=True, slots=True)
class Shape:
    """What one of the five fields may hold."""

    name: str
    low: int
    high: int
    names: Mapping[str, int]
    """Names that may be written, upper case."""
    stored: Mapping[int, str]
    """The name that is kept for a value written as a name."""


SHAPES: Final = (
    Shape("minute", 0, 59, {}, {}),
    Shape("hour", 0, 23, {}, {}),
    Shape("day", 1, 31, {}, {}),
    Shape(
        "month",
        1,
        12,
        {name: number for number, name in enumerate(MONTH_NAMES, 1)} | GERMAN_MONTHS,
        dict(enumerate(MONTH_NAMES, 1)),
    ),
    Shape(
        "weekday",
        0,
        7,
        {name: number for number, name in enumerate(WEEKDAY_NAMES)} | GERMAN_WEEKDAYS,
        dict(enumerate(WEEKDAY_NAMES)),
    ),
)

RANGE_HINTS: Final[dict[str, Both]] = {
    "minute": {
        "de": "Die volle Stunde ist Minute 0.",
        "en": "The full hour is minute 0.",
    },
    "hour": {"de": "Mitternacht ist Stunde 0.", "en": "Midnight is hour 0."},
    "day": {
        "de": "Den letzten Tag des Monats schreiben Sie „L“.",
        "en": "Write “L” for the last day of the month.",
    },
    "month": {
        "de": "1 ist Januar, 12 ist Dezember.",
        "en": "1 is January, 12 is December.",
    },
    "weekday": {
        "de": "0 und 7 sind Sonntag, 1 ist Montag, 6 ist Samstag.",
        "en": "0 and 7 are Sunday, 1 is Monday, 6 is Saturday.",
    },
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field, read.

    star      whether it starts with `*`; decides AND/OR of the days and the rule at
              clock changes
    values    the plain values, ascending; weekdays 0 (Sunday) to 6
    step      the step n when the field is `*/n` or `a/n` alone, else 0
    last      `L`: the last day of the month
    working   `LW`: the last Monday-to-Friday day of the month
    nearest   `15W`: the Monday-to-Friday days nearest to these days
    nth       (weekday, place in the month), LAST for `5L`
    """

    text: str
    star: bool
    values: tuple[int, ...]
    step: int = 0
    last: bool = False
    working: bool = False
    nearest: tuple[int, ...] = ()
    nth: tuple[tuple[int, int], ...] = ()

    @property
    def has_specials(self) -> bool:
        """Whether it holds more than plain values."""
        return self.last or self.working or bool(self.nearest) or bool(self.nth)


@dataclass(frozen=True, slots=True)
class Fields:
    """The five fields of an expression."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def both_days(self) -> bool:
        """Whether day of month AND weekday must match; otherwise one of them is enough."""
        return self.day.star or self.weekday.star

    @property
    def follows_real_time(self) -> bool:
        """Whether clock changes pass it by (a *wildcard* job), not a *fixed-time* job."""
        return self.minute.star or self.hour.star

    @property
    def every_day(self) -> bool:
        """Whether the day of month excludes nothing."""
        return len(self.day.values) == 31

    @property
    def every_weekday(self) -> bool:
        """Whether the weekday excludes nothing."""
        return len(self.weekday.values) == 7

    def __iter__(self) -> Iterator[Field]:
        return iter((self.minute, self.hour, self.day, self.month, self.weekday))


def read(text: str) -> tuple[str, Fields]:
    """Return the normalised text and the fields; raise ScheduleError."""
    stripped = text.strip(" \t\r\n")
    _refuse_strange_characters(stripped)
    if not stripped:
        raise ScheduleError("cron_missing", "schedule", stripped)
    if stripped.startswith("@"):
        macro = stripped.lower()
        if macro not in MACROS:
            raise _no_macro(stripped)
        return macro, _fields(MACROS[macro].split())
    parts = re.split(r"[ \t]+", stripped)
    if len(parts) != len(SHAPES):
        raise _miscounted(stripped, parts)
    fields = _fields(parts)
    return " ".join(field.text for field in fields), fields


def _fields(parts: list[str]) -> Fields:
    return Fields(*(_Reader(shape, part).read() for shape, part in zip(SHAPES, parts, strict=True)))


def _refuse_strange_characters(text: str) -> None:
    """Refuse what nobody sees: no-break blanks, control characters, dashes like a hyphen."""
    for character in text:
        if character in " \t":
            continue
        code = f"U+{ord(character):04X}"
        if character in DASHES:
            raise ScheduleError("cron_dash", "schedule", text, part=character, character=code)
        if not character.isprintable():
            raise ScheduleError("cron_blank", "schedule", text, character=code)


def _no_macro(text: str) -> ScheduleError:
    lowered = text.lower()
    if lowered.startswith("@reboot"):
        return ScheduleError("cron_reboot", "schedule", text)
    if lowered.startswith("@every"):
        return ScheduleError("cron_every", "schedule", text)
    first, _, rest = text.partition(" ")
    if first.lower() in MACROS:
        return ScheduleError("cron_trailing", "schedule", text, rest=shown(rest.strip()))
    return ScheduleError("cron_macro", "schedule", text, known=quoted(list(MACROS), AND))


def _miscounted(text: str, parts: list[str]) -> ScheduleError:
    """Return the error for more or fewer than five fields."""
    if "=" in parts[0]:
        return ScheduleError("cron_variable", "schedule", text, part=shown(parts[0]))
    if len(parts) == 1 and INTERVAL.fullmatch(text):
        return ScheduleError("cron_is_interval", "schedule", text)
    if len(parts) < len(SHAPES):
        return ScheduleError("cron_few_fields", "schedule", text, count=len(parts))
    if len(parts) <= 7 and all(CRON_CHARACTERS.fullmatch(part) for part in parts):
        better = _without_seconds_or_year(parts)
        if better:
            count = len(parts)
            return ScheduleError("cron_many_fields", "schedule", text, count=count, better=better)
    rest = " ".join(parts[5:])
    if ";" in parts[4]:
        rest = parts[4][parts[4].index(";") :] + " " + rest
    return ScheduleError("cron_trailing", "schedule", text, rest=shown(rest))


def _without_seconds_or_year(parts: list[str]) -> str:
    """Return the five fields of a longer expression in another dialect; empty if unclear."""
    candidates = [parts[1:6]]
    if len(parts) == 6 and YEAR.fullmatch(parts[5]):
        candidates.append(parts[:5])
    for candidate in candidates:
        try:
            fields = _fields([part.replace("?", "*") for part in candidate])
        except ScheduleError:
            continue
        return shown(" ".join(field.text for field in fields))
    return ""


class _Reader:
    """Reads one field, item by item."""

    def __init__(self, shape: Shape, text: str) -> None:
        self.shape = shape
        self.text = text
        self.plain: set[int] = set()
        self.step = 0
        self.last = False
        self.working = False
        self.nearest: set[int] = set()
        self.nth: set[tuple[int, int]] = set()

    def read(self) -> Field:
        items = self.text.split(",")
        if "" in items:
            better = ",".join(item for item in items if item) or "*"
            self._refuse("empty_item", self.text, better=shown(better))
        written = [self._special(item) or self._plain(item) for item in items]
        if self.shape.name == "weekday":
            self.plain = {value % 7 for value in self.plain}
        return Field(
            ",".join(written),
            self.text.startswith("*"),
            tuple(sorted(self.plain)),
            self.step if len(items) == 1 else 0,
            self.last,
            self.working,
            tuple(sorted(self.nearest)),
            tuple(sorted(self.nth)),
        )

    # ── the grammar ───────────────────────────────────────────────────────────
    def _special(self, item: str) -> str:
        """Take L, LW, 15W, 5L or MON#1 and return it as stored; empty when it is none."""
        if self.shape.name == "day":
            return self._special_day(item)
        if self.shape.name == "weekday":
            return self._special_weekday(item)
        return ""

    def _special_day(self, item: str) -> str:
        if item in {"L", "l"}:
            self.last = True
            return "L"
        if item in {"LW", "lw", "Lw", "lW"}:
            self.working = True
            return "LW"
        if (match := NEAREST.fullmatch(item)) is not None:
            day, _ = self._value(match[1], item)
            self.nearest.add(day)
            return f"{day}W"
        return ""

    def _special_weekday(self, item: str) -> str:
        if (match := NTH.fullmatch(item)) is not None and not item.endswith(("l", "L")):
            day, written = self._value(match[1], item)
            place = int(match[2][:3])
            if not 1 <= place <= 5:
                self._refuse("nth", item)
            self.nth.add((day % 7, place))
            return f"{written}#{place}"
        if len(item) > 1 and item[-1] in "lL" and not set(item) & set("-/#*"):
            day, written = self._value(item[:-1], item)
            self.nth.add((day % 7, LAST))
            return f"{written}L"
        return ""

    def _plain(self, item: str) -> str:
        """Take `*`, a value or a range, each with or without a step; return it as stored."""
        match = ITEM.fullmatch(item)
        if match is None:
            self._misread(item)
        span, step_text = match.groups()
        step = 1 if step_text is None else self._step(step_text, item)
        if span == "*":
            low, high, written = self.shape.low, self.shape.high, "*"
        elif "-" in span:
            low, high, written = self._range(span, step, item)
        else:
            low, written = self._value(span, item)
            high = low if step_text is None else self.shape.high
        if step_text is not None:
            written = f"{written}/{step}"
            self.step = step if "-" not in span else 0
        self.plain.update(range(low, high + 1, step))
        return written

    def _range(self, span: str, step: int, item: str) -> tuple[int, int, str]:
        first, _, second = span.partition("-")
        low, low_written = self._value(first, item)
        high, high_written = self._value(second, item)
        if high < low:
            better = self._unwrapped((low, first), (high, second), step)
            self._refuse("wrap", item, better=better)
        return low, high, f"{low_written}-{high_written}"

    def _step(self, text: str, item: str) -> int:
        # A step may be wider than the field (`*/100` is the first value alone).
        if len(text) > 3:
            self._refuse("long_number", item, part=shown(text), digits=3, better="")
        if int(text) == 0:
            self._refuse("zero_step", item)
        return int(text)

    def _value(self, text: str, item: str) -> tuple[int, str]:
        """Return a number or a name as its value and as stored."""
        shape = self.shape
        if text.isascii() and text.isdigit():
            if len(text) > 3 or (len(text) == 3 and text[0] == "0"):
                short = text.lstrip("0") or "0"
                better = {"de": "", "en": ""}
                if len(short) <= 2 and shape.low <= int(short) <= shape.high:
                    better = {"de": f": schreiben Sie „{short}“", "en": f": write “{short}”"}
                self._refuse("long_number", item, part=shown(text), digits=2, better=better)
            value = int(text)
            if not shape.low <= value <= shape.high:
                facts = {"low": shape.low, "high": shape.high}
                hint = RANGE_HINTS[shape.name]
                self._refuse("range", item, part=str(value), range_hint=hint, **facts)
            return value, str(value)
        name = _upper(text)
        if name not in shape.names:
            self._misread(item)
        value = shape.names[name]
        return value, shape.stored[value]

    def _unwrapped(self, low: tuple[int, str], high: tuple[int, str], step: int) -> str:
        """Return the backward range a-b as the list that its writer means."""
        (first, first_text), (last, last_text) = low, high
        bottom, top = self.shape.low, self.shape.high
        if self.shape.name == "weekday":
            top = 6
            if first == 7:
                first, first_text = 0, "0"
        if step > 1:
            around = [*range(first, top + 1), *range(bottom, last + 1)]
            return ",".join(str(value) for value in around[::step])
        if first <= last:
            return first_text if first == last else f"{first_text}-{last_text}"
        if self.shape.name == "weekday":
            # Sunday closes the week as 7: `sat-sun` is `sat-7`, `fri-mon` is `fri-7,mon`.
            ending = f"{first_text}-7"
            bottom = 1
            if last == 0:
                return ending
        else:
            ending = first_text if first == top else f"{first_text}-{self._named(top, first_text)}"
        opening = last_text if last == bottom else f"{self._named(bottom, last_text)}-{last_text}"
        return f"{ending},{opening}"

    def _named(self, value: int, like: str) -> str:
        """Return `value` as a name if `like` is one, else as a number."""
        return str(value) if like.isdigit() else self.shape.stored[value]

    # ── what went wrong ───────────────────────────────────────────────────────
    def _refuse(self, code: str, value: str, **facts: str | int | Both) -> NoReturn:
        raise ScheduleError(code, self.shape.name, value, **({"part": shown(value)} | facts))

    def _misread(self, item: str) -> NoReturn:
        """Refuse an item outside the grammar with the hint that fits best."""
        self._refuse_characters(item)
        self._refuse_stars_and_signs(item)
        self._refuse_ranges_and_steps(item)
        self._refuse_specials(item)
        self._refuse_names(item)
        self._refuse("item", item)

    def _refuse_characters(self, item: str) -> None:
        if any(c.isdigit() and not c.isascii() for c in item):
            better = "".join(str(unicodedata.digit(c)) if c.isdigit() else c for c in item)
            self._refuse("foreign_digit", item, better=shown(better))
        if "?" in item:
            self._refuse("question_mark", item)
        if (shell := SHELL_CHARACTERS.search(item)) is not None:
            raise ScheduleError("cron_trailing", "schedule", item, rest=shown(shell[0]))
        if item[0] in "HhRr~" and not item[1:2].isalpha():
            self._refuse("random", item)
        if "~" in item:
            self._refuse("random", item)

    def _refuse_stars_and_signs(self, item: str) -> None:
        if "*" in item and item != "*" and not re.fullmatch(r"\*(/.*)?", item):
            digits = re.sub(r"[^0-9]", "", item)
            better = ["*", f"*/{digits}"] if 0 < len(digits) < 3 else ["*", "*/5"]
            self._refuse("star_mixed", item, better=quoted(better))
        if re.search(r"[0-9]\.[0-9]|^\.[0-9]|[0-9]\.$", item):
            self._refuse("decimal", item)
        if item[0] in "+-":
            self._refuse("sign", item)
        if re.match(r"0[xX]", item):
            self._refuse("hexadecimal", item)

    def _refuse_ranges_and_steps(self, item: str) -> None:
        if item.count("/") > 1:
            better = "/".join(item.split("/")[:2])
            self._refuse("double_step", item, better=shown(better))
        if item.startswith("/"):
            self._refuse("slash_alone", item)
        if item.endswith("/"):
            self._refuse("no_step", item)
        if re.match(r"[lL]-", item) and self.shape.name == "day":
            self._refuse("before_last", item)
        if item.endswith("-") or "-/" in item:
            self._refuse("open_range", item)
        if item.partition("/")[0].count("-") > 1:
            first, second, *rest = item.split("-")
            better = ",".join([f"{first}-{second}", *rest]) if second else f"{first}-{rest[-1]}"
            self._refuse("double_range", item, better=shown(better))

    def _refuse_specials(self, item: str) -> None:
        """Refuse L, W and # at the wrong place; months like JUL do not end here."""
        upper = _upper(item)
        name = self.shape.name
        letter = next((c for c in "#WL" if c in upper), "")
        if name == "weekday" and upper == "L":
            self._refuse("last_weekday_alone", item)
        if name == "day" and re.fullmatch(r"[0-9]+L", upper):
            self._refuse("last_weekday_in_day", item)
        if name == "weekday" and re.search(r"#(?![1-5](\D|$))", item):
            self._refuse("nth", item)
        if re.fullmatch(r"(L|LW|[0-9]+[LW]|[0-9A-Z]+#[0-9]+)", upper) and letter:
            self._refuse("misplaced", item, letter=letter)
        if re.search(r"(^|[0-9-])(L|LW|W)($|[-/])|#", upper) and name in {"day", "weekday"}:
            self._refuse("special_mixed", item, letter=letter)

    def _refuse_names(self, item: str) -> None:
        """Refuse a word, with the name it resembles or the field it belongs to."""
        for word in re.findall(r"[^\W\d_]+", item):
            upper = _upper(word)
            if upper in self.shape.names:
                continue
            for other in SHAPES:
                if upper in other.names:
                    self._refuse("name_elsewhere", item, part=shown(word), other=FIELDS[other.name])
            near = _near_names(self.shape, word)
            if near:
                self._refuse("name", item, part=shown(word), near=quoted(near))


def _upper(text: str) -> str:
    """Return upper case without surprises: `ı` and `ſ` do not become I and S."""
    if text.isascii():
        return text.upper()
    return "MÄR" if text in {"mär", "Mär"} else text


def _near_names(shape: Shape, word: str) -> list[str]:
    """Return the stored names that a word like "Monday", "Dienstag" or "Mnd" may mean."""
    if not shape.names:
        return []
    full = WEEKDAYS if shape.name == "weekday" else MONTHS
    known = {
        name.casefold(): shape.stored[number]
        for language in full.values()
        for number, name in enumerate(language, shape.low)
    }
    known |= {name.casefold(): shape.stored[number] for name, number in shape.names.items()}
    wanted = word[:SHORT].casefold()
    if wanted in known:
        return [known[wanted]]
    near = difflib.get_close_matches(wanted, known, n=2, cutoff=0.6)
    return list(dict.fromkeys(known[name] for name in near))

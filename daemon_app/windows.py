"""Times of the week in which something may, or must not, happen: `mo-fr 22:00-06:00; sa 10-12`.

    >>> from datetime import UTC, datetime
    >>> nights = parse("Mo-Fr 22:00-06:00", "Europe/Berlin")
    >>> nights.describe("de")
    'Montag bis Freitag 22:00–06:00 Uhr'
    >>> nights.contains(datetime(2026, 11, 24, 23, tzinfo=UTC))
    True
    >>> nights.next_open(datetime(2026, 11, 24, 12, tzinfo=UTC)).isoformat()
    '2026-11-24T21:00:00+00:00'

A window goes by the clock on the wall of its zone: it is open while that clock shows a time in it.
In a repeated hour it is open twice, in the night that has no 02:30 a window of 02:00-03:00 stays
closed. A span over midnight belongs to the day on which it begins. Pure: no clock, no settings.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from daemon_app.schedules import zones
from daemon_app.schedules.language import AND, listed, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

LONGEST_TEXT: Final = 200
SHOWN: Final = 40
DAY_MINUTES: Final = 24 * 60
WEEK: Final = 7

# As they are written, Monday first; what is parsed is written again in the language it came in.
WRITTEN: Final = {
    "de": ("mo", "di", "mi", "do", "fr", "sa", "so"),
    "en": ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
}
NAMES: Final = {
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
# Words for a day: (day, language), no language where both use it.
DAYS: Final[dict[str, tuple[int, str]]] = {
    **{name.lower(): (n, "de") for n, name in enumerate(NAMES["de"])},
    **{name.lower(): (n, "en") for n, name in enumerate(NAMES["en"])},
    **{f"{name.lower()}s": (n, "de") for n, name in enumerate(NAMES["de"])},
    **{f"{name.lower()}s": (n, "en") for n, name in enumerate(NAMES["en"])},
    **{word: (n, "de") for n, word in enumerate(WRITTEN["de"])},
    **{word: (n, "en") for n, word in enumerate(WRITTEN["en"])},
    **{word: (n, "en") for word, n in (("tu", 1), ("we", 2), ("th", 3), ("su", 6))},
    **{word: (n, "en") for word, n in (("tues", 1), ("weds", 2), ("thur", 3), ("thurs", 3))},
    "sonnabend": (5, "de"),
    "mo": (0, ""),
    "fr": (4, ""),
    "sa": (5, ""),
}
GROUPS: Final[dict[str, tuple[tuple[int, ...], str]]] = {
    "täglich": ((0, 1, 2, 3, 4, 5, 6), "de"),
    "taeglich": ((0, 1, 2, 3, 4, 5, 6), "de"),
    "daily": ((0, 1, 2, 3, 4, 5, 6), "en"),
    "everyday": ((0, 1, 2, 3, 4, 5, 6), "en"),
    "werktags": ((0, 1, 2, 3, 4), "de"),
    "weekdays": ((0, 1, 2, 3, 4), "en"),
    "wochenende": ((5, 6), "de"),
    "weekend": ((5, 6), "en"),
    "weekends": ((5, 6), "en"),
}
DASHES: Final = re.compile(r"\s*(?:[-–—‒−]|\bbis\b|\bto\b|\buntil\b)\s*")
# What stands between and says nothing.
FILLERS: Final = re.compile(r"\b(?:uhr|und|and|am|on|von|from|every\s+day)\b|&")
SEPARATORS: Final = re.compile(r"[,\s]+")
TIME: Final = re.compile(r"([0-9]{1,2})(?:[:.]([0-9]{2}))?h?")
LOOKS_LIKE_TIME: Final = re.compile(r"[0-9:.]+h?")
HALF_DAY: Final = re.compile(
    r"[0-9]{1,2}(?:[:.][0-9]{2})?(?:am|pm)(?:-.*)?|.*-[0-9]{1,2}(?:[:.][0-9]{2})?(?:am|pm)"
)

EXAMPLE_DE = "Zum Beispiel „22:00-06:00“ oder „mo-fr 22:00-06:00; sa,so 00:00-24:00“."
EXAMPLE_EN = "For example “22:00-06:00” or “mon-fri 22:00-06:00; sat,sun 00:00-24:00”."

# code: language: (message, hint)
TEXTS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "missing": {
        "de": ("Die Zeiten fehlen.", EXAMPLE_DE),
        "en": ("The times are missing.", EXAMPLE_EN),
    },
    "too_long": {
        "de": (
            "Die Zeiten sind zu lang: {length} Zeichen, erlaubt sind {limit}.",
            "Fassen Sie Tage zusammen, zum Beispiel „mo-fr“.",
        ),
        "en": (
            "The times are too long: {length} characters, {limit} are allowed.",
            "Put days together, for example “mon-fri”.",
        ),
    },
    "time": {
        "de": (
            "Die Uhrzeit „{part}“ gibt es nicht.",
            "Uhrzeiten gehen von 00:00 bis 24:00.",
        ),
        "en": ("There is no time of day “{part}”.", "Times go from 00:00 to 24:00."),
    },
    "begins_at_24": {
        "de": (
            "„{part}“ beginnt um 24:00, wenn der Tag vorbei ist.",
            "Schreiben Sie 00:00 und den folgenden Tag.",
        ),
        "en": (
            "“{part}” begins at 24:00, when the day is over.",
            "Write 00:00 and the following day.",
        ),
    },
    "half_day": {
        "de": (
            "„{part}“ ist eine Uhrzeit mit am oder pm.",
            "Schreiben Sie sie mit 24 Stunden, zum Beispiel „22:00-06:00“.",
        ),
        "en": (
            "“{part}” is a time with am or pm.",
            "Write it with 24 hours, for example “22:00-06:00”.",
        ),
    },
    "never": {
        "de": (
            "„{part}“ öffnet nie: Anfang und Ende sind gleich.",
            "Den ganzen Tag schreiben Sie als „00:00-24:00“.",
        ),
        "en": (
            "“{part}” never opens: it ends when it begins.",
            "Write “00:00-24:00” for the whole day.",
        ),
    },
    "one_time": {
        "de": (
            "„{part}“ ist eine Uhrzeit, keine Zeitspanne.",
            "Schreiben Sie von wann bis wann, zum Beispiel „{part}-06:00“.",
        ),
        "en": (
            "“{part}” is one time of day, not a span.",
            "Write from when to when, for example “{part}-06:00”.",
        ),
    },
    "no_times": {
        "de": (
            "Bei „{part}“ fehlt die Uhrzeit.",
            "Für den ganzen Tag schreiben Sie „{part} 00:00-24:00“.",
        ),
        "en": (
            "“{part}” has no times.",
            "Write “{part} 00:00-24:00” for the whole day.",
        ),
    },
    "day": {
        "de": (
            "Den Wochentag „{part}“ gibt es nicht.",
            "Bekannt sind mo, di, mi, do, fr, sa, so.",
        ),
        "en": (
            "There is no weekday “{part}”.",
            "Known are mon, tue, wed, thu, fri, sat, sun.",
        ),
    },
    "day_near": {
        "de": ("Den Wochentag „{part}“ gibt es nicht.", "Meinten Sie „{near}“?"),
        "en": ("There is no weekday “{part}”.", "Did you mean “{near}”?"),
    },
    "syntax": {
        "de": ("„{part}“ ist weder ein Wochentag noch eine Zeitspanne.", EXAMPLE_DE),
        "en": ("“{part}” is neither a weekday nor a span of time.", EXAMPLE_EN),
    },
}

Span = tuple[int, int]
"""Minutes of the day from when to when; the end is beyond DAY_MINUTES on the following day."""


class WindowError(ValueError):
    """A text that says no times of the week.

    code   what is wrong, stable
    value  the part that is, shortened
    """

    def __init__(self, code: str, part: str = "", **facts: str | int) -> None:
        self.code = code
        self.value = _shown(part)
        self.facts = facts
        super().__init__(f"{self.message('en')} {self.hint('en')}")

    def message(self, language: str) -> str:
        """Return what is wrong, as one sentence."""
        return self._say(0, language)

    def hint(self, language: str) -> str:
        """Return the way out, as one sentence."""
        return self._say(1, language)

    def _say(self, which: int, language: str) -> str:
        text = TEXTS[self.code][spoken(language)][which]
        return text.format(**{**self.facts, "part": self.value})


@dataclass(frozen=True, slots=True)
class Windows:
    """Times of the week in a zone. Made by `parse`; immutable, hashable, without a clock.

    text   normalised: parsing it again gives the same
    tz     IANA name of the zone whose clock counts
    days   by weekday, Monday first: the spans that begin on it, in order, none touching another
    """

    text: str
    tz: str
    days: tuple[tuple[Span, ...], ...]

    @property
    def zone(self) -> ZoneInfo:
        """The zone of `tz`."""
        return zones.zone(self.tz)

    @property
    def is_always(self) -> bool:
        """Whether there is no time at which it is closed."""
        return all(_week(self.days))

    def contains(self, instant: datetime) -> bool:
        """Return whether it is open at an aware `instant`."""
        return self._shows(zones.wall(zones.utc(instant), self.zone))

    def next_open(self, instant: datetime) -> datetime:
        """Return the first time from `instant` on at which it is open, in UTC.

        `instant` itself when it is open then.
        """
        found = self._first(instant, wanted=True)
        assert found is not None  # a window with no time in it is refused
        return found

    def next_close(self, instant: datetime) -> datetime | None:
        """Return the first time from `instant` on at which it is closed, in UTC; None for never."""
        return None if self.is_always else self._first(instant, wanted=False)

    def opens_outside(self, others: Windows, after: datetime) -> bool:
        """Return whether there is a time, from `after` on, at which this is open and `others` not.

        Looked for in the week that follows, and in one half a year later where the zones differ.
        """
        starts = [after] if self.tz == others.tz else [after, after + timedelta(weeks=26)]
        return any(self._opens_outside(others, start) for start in starts)

    def describe(self, language: str = "de") -> str:
        """Return the times in words, without full stop: "Montag bis Freitag 22:00–06:00 Uhr"."""
        language = spoken(language)
        told = []
        for days, spans in _grouped(self.days):
            name = _named(days, language)
            if spans == ((0, DAY_MINUTES),):
                told.append(f"{name} {ALL_DAY[language]}")
                continue
            times = [f"{_clock(start)}–{_clock(end)}" for start, end in spans]
            told.append(f"{name} {listed(times, AND, language)}{CLOCK[language]}")
        return ", ".join(told)

    # ── Within ───────────────────────────────────────────────────────────────────────────────────
    def _shows(self, wall: datetime) -> bool:
        minute = wall.hour * 60 + wall.minute
        today, yesterday = self.days[wall.weekday()], self.days[wall.weekday() - 1]
        return any(start <= minute < end for start, end in today) or any(
            minute + DAY_MINUTES < end for _start, end in yesterday
        )

    def _first(self, instant: datetime, *, wanted: bool) -> datetime | None:
        instant = zones.utc(instant)
        if self.contains(instant) is wanted:
            return instant
        # A weekly span may fall into the gap of a clock change, and then once more a year later.
        for week in range(3):
            start = instant + timedelta(days=WEEK * week)
            for turn in self._turns(start, start + timedelta(days=WEEK)):
                if turn > instant and self.contains(turn) is wanted:
                    return turn
        return None

    def _turns(self, after: datetime, until: datetime) -> list[datetime]:
        """Return every instant in (after, until] at which it may open or close."""
        zone = self.zone
        found = {change.at for change in zones.changes(after, until, zone)}
        day = zones.wall(after, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        day -= timedelta(days=1)
        last = zones.wall(until, zone)
        while day <= last:
            for span in self.days[day.weekday()]:
                for minute in span:
                    found.update(zones.instants(day + timedelta(minutes=minute), zone))
            day += timedelta(days=1)
        return sorted(turn for turn in found if after < turn <= until)

    def _opens_outside(self, others: Windows, start: datetime) -> bool:
        end = zones.utc(start) + timedelta(days=WEEK + 1)
        turns = {zones.utc(start), *self._turns(start, end), *others._turns(start, end)}
        return any(self.contains(turn) and not others.contains(turn) for turn in turns)


ALL_DAY: Final = {"de": "ganztägig", "en": "all day"}
CLOCK: Final = {"de": " Uhr", "en": ""}
EVERY_DAY: Final = {"de": "täglich", "en": "every day"}
TO: Final = {"de": " bis ", "en": " to "}


def parse(text: str, tz: str = "Europe/Berlin") -> Windows:
    """Return the times of the week that `text` says, meant in zone `tz`.

    Days come before their times: `mo-fr 08:00-12:00, 13:00-17:00; sa 10:00-12:00`. A part after
    `;` or on a line of its own that names no day means every day. Raises WindowError for whatever
    can't be one, and ScheduleError for a zone that does not exist.
    """
    if len(text) > LONGEST_TEXT:
        raise WindowError("too_long", text, length=len(text), limit=LONGEST_TEXT)
    zones.zone(tz)
    return _read(text, tz)


@functools.lru_cache(maxsize=4096)
def _read(text: str, tz: str) -> Windows:
    """Read the text; values can be shared, and the runner reads each job's often."""
    spans: list[list[Span]] = [[] for _ in range(WEEK)]
    languages: list[str] = []
    for part in re.split(r"[;\n\r]+", text.lower()):
        for days, span in _spans(part, languages):
            for day in days:
                spans[day].append(span)
    if not any(spans):
        raise WindowError("missing")
    week = _whole(spans)
    # "mo-fr" alone is both languages'; a German reader wrote it more often than not.
    language = next((each for each in languages if each), "de")
    written = _written(week, language)
    if len(written) > LONGEST_TEXT:
        raise WindowError("too_long", text, length=len(written), limit=LONGEST_TEXT)
    return Windows(written, tz, week)


def _spans(part: str, languages: list[str]) -> Iterator[tuple[Sequence[int], Span]]:
    """Yield days and times of one part; tells `languages` in which the days are written."""
    days: list[int] = []
    names: list[str] = []
    timed = False
    words = SEPARATORS.split(DASHES.sub("-", FILLERS.sub(" ", part)))
    for word in filter(None, words):
        if LOOKS_LIKE_TIME.fullmatch(word.replace("-", "")) or HALF_DAY.fullmatch(word):
            yield days or range(WEEK), _span(word)
            timed = True
            continue
        if timed:  # other days begin
            days, names, timed = [], [], False
        more, language = _days(word)
        days += more
        names.append(word)
        languages.append(language)
    if days and not timed:
        raise WindowError("no_times", ",".join(names))


def _span(word: str) -> Span:
    if HALF_DAY.fullmatch(word):
        raise WindowError("half_day", word)
    ends = word.split("-")
    if len(ends) == 1:
        _minute(word)
        raise WindowError("one_time", word)
    if len(ends) != 2 or not all(ends):
        raise WindowError("syntax", word)
    start, end = (_minute(each) for each in ends)
    if start == DAY_MINUTES:
        raise WindowError("begins_at_24", word)
    if start == end:
        raise WindowError("never", word)
    return start, end if end > start else end + DAY_MINUTES


def _minute(text: str) -> int:
    """Return the minute of the day that a time of day is."""
    match = TIME.fullmatch(text)
    if match is None:
        raise WindowError("time", text)
    hour, minute = int(match[1]), int(match[2] or 0)
    if minute > 59 or hour * 60 + minute > DAY_MINUTES:
        raise WindowError("time", text)
    return hour * 60 + minute


def _days(word: str) -> tuple[list[int], str]:
    """Return the days that a word means, and the language it is in; "" for either."""
    if word in GROUPS:
        days, language = GROUPS[word]
        return list(days), language
    ends = word.split("-")
    if len(ends) > 2 or not all(ends):
        raise WindowError("syntax", word)
    (first, language), (last, other) = _day(ends[0]), _day(ends[-1])
    length = (last - first) % WEEK + 1
    return [(first + n) % WEEK for n in range(length)], language or other


def _day(word: str) -> tuple[int, str]:
    found = DAYS.get(word.rstrip("."))
    if found is not None:
        return found
    if not word.rstrip(".").isalpha():
        raise WindowError("syntax", word)
    near = difflib.get_close_matches(word, DAYS, n=1, cutoff=0.6)
    if near:
        raise WindowError("day_near", word, near=near[0])
    raise WindowError("day", word)


def _whole(spans: Sequence[Sequence[Span]]) -> tuple[tuple[Span, ...], ...]:
    """Return the spans of each day in order, none touching another, none of a day or longer.

    But for a whole day from 00:00: what lasts longer goes on as a span of the following day.
    """
    week = [_merged(each) for each in spans]
    for day in [*range(WEEK), *range(WEEK)]:  # what goes on may go on once more
        for start, end in week[day]:
            if end > DAY_MINUTES and end - start >= DAY_MINUTES:
                following = (day + 1) % WEEK
                rest = (0, end - DAY_MINUTES)
                kept = [each for each in week[day] if each != (start, end)]
                week[day] = _merged([*kept, (start, DAY_MINUTES)])
                week[following] = _merged([*week[following], rest])
    return tuple(week)


def _merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return spans of a day in order, those that overlap or touch as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def _week(days: Sequence[Sequence[Span]]) -> list[bool]:
    """Return of each minute of a week whether it lies in a span."""
    week = [False] * (WEEK * DAY_MINUTES)
    for day, spans in enumerate(days):
        for start, end in spans:
            for minute in range(start, end):
                week[(day * DAY_MINUTES + minute) % len(week)] = True
    return week


def _grouped(
    days: Sequence[tuple[Span, ...]],
) -> list[tuple[tuple[int, ...], tuple[Span, ...]]]:
    """Return the days that have the same times together, in the order of their first day."""
    groups: dict[tuple[Span, ...], list[int]] = {}
    for day, spans in enumerate(days):
        if spans:
            groups.setdefault(spans, []).append(day)
    return [(tuple(each), spans) for spans, each in groups.items()]


def _stretches(days: Sequence[int]) -> list[tuple[int, int]]:
    """Return days as (first, last) of those that follow each other, over Sunday too."""
    found: list[tuple[int, int]] = []
    for day in days:
        if found and found[-1][1] == day - 1:
            found[-1] = found[-1][0], day
        else:
            found.append((day, day))
    if len(found) > 1 and found[0][0] == 0 and found[-1][1] == WEEK - 1:
        # Saturday to Monday is one weekend and a day, not two things.
        found = [*found[1:-1], (found[-1][0], found[0][1])]
    return found


def _written(days: Sequence[tuple[Span, ...]], language: str) -> str:
    names, parts = WRITTEN[language], []
    for which, spans in _grouped(days):
        times = ", ".join(f"{_clock(start)}-{_clock(end)}" for start, end in spans)
        told = ",".join(
            f"{names[first]}-{names[last]}" if first != last else names[first]
            for first, last in _pairs_apart(which)
        )
        parts.append(times if len(which) == WEEK else f"{told} {times}")
    return "; ".join(parts)


def _pairs_apart(days: Sequence[int]) -> list[tuple[int, int]]:
    """Return the stretches of `days`, two neighbours one by one: "sa,so" and not "sa-so"."""
    apart: list[tuple[int, int]] = []
    for first, last in _stretches(days):
        pair = (last - first) % WEEK == 1
        apart += [(first, first), (last, last)] if pair else [(first, last)]
    return apart


def _named(days: Sequence[int], language: str) -> str:
    if len(days) == WEEK:
        return EVERY_DAY[language]
    names = NAMES[language]
    told = [
        f"{names[first]}{TO[language]}{names[last]}" if first != last else names[first]
        for first, last in _pairs_apart(days)
    ]
    return listed(told, AND, language)


def _clock(minute: int) -> str:
    """Return "06:00"; the end of the day is 24:00, and the next day's times are as they are."""
    minute = minute - DAY_MINUTES if minute > DAY_MINUTES else minute
    return f"{minute // 60:02}:{minute % 60:02}"


def _shown(text: str) -> str:
    """Return a text short and safe to print."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return plain if len(plain) <= SHOWN else f"{plain[: SHOWN - 1]}…"

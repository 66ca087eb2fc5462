"""Every so often: `30s`, `5m`, `1h30m`, `24h`, `7d`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final, Self

from daemon_app.schedules import zones
from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.language import calendar_date, spoken, time_of
from daemon_app.schedules.schedule import KINDS, Missed, Schedule, ScheduleWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST: Final = timedelta(days=3_650)
WARNED: Final = timedelta(days=396)
HOUR: Final = timedelta(hours=1)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

GRAMMAR: Final = re.compile(r"(?:[0-9]{1,9}[dhms])+")
PART: Final = re.compile(r"([0-9]{1,9})([dhms])")

# What people write instead of a unit; lower case, looked up after the text is lowered.
WRITTEN: Final = {
    "d": ("d", "day", "days", "t", "tag", "tage", "tagen"),
    "h": ("h", "hr", "hrs", "hour", "hours", "std", "stunde", "stunden"),
    "m": ("m", "min", "mins", "minute", "minutes", "minuten"),
    "s": ("s", "sec", "secs", "second", "seconds", "sek", "sekunde", "sekunden"),
}
UNIT_OF: Final = {word: unit for unit, words in WRITTEN.items() for word in words}
LOOSE: Final = re.compile(r"([0-9]{1,9})(?:[.,]([0-9]{1,3}))?\s*([a-z]+)\.?\s*")
WEEKS: Final = ("w", "wk", "week", "weeks", "woche", "wochen")

NAMES: Final = {
    "d": {"de": ("jeden Tag", "Tage", "T."), "en": ("every day", "days", "d")},
    "h": {"de": ("jede Stunde", "Stunden", "Std."), "en": ("every hour", "hours", "h")},
    "m": {"de": ("jede Minute", "Minuten", "Min."), "en": ("every minute", "minutes", "min")},
    "s": {"de": ("jede Sekunde", "Sekunden", "Sek."), "en": ("every second", "seconds", "s")},
}
EVERY: Final = {"de": "alle", "en": "every"}

Parts = tuple[tuple[int, str], ...]


@KINDS.register("interval")
@dataclass(frozen=True)
class Interval(Schedule):
    """The grid `anchor + k * period` in UTC.

    It does not drift and does not follow clock changes: real time passes evenly.
    """

    kind: ClassVar[str] = "interval"
    parts: Parts = ()

    @classmethod
    def read(cls, text: str, tz: str) -> Self:
        parts = _parts(text.strip())
        return cls("".join(f"{amount}{unit}" for amount, unit in parts), tz, parts)

    @cached_property
    def period(self) -> timedelta:
        """The time from one due instant to the next."""
        return _length(self.parts)

    def next_due(
        self,
        after: datetime,
        previous: datetime | None = None,  # noqa: ARG002
        anchor: datetime | None = None,
    ) -> datetime | None:
        """Return the first point of the grid later than `after`.

        `anchor` is normally the moment at which the schedule was set, so that the first
        run is one period later. The grid reaches back before it too: an anchor in the
        future (a clock that was wrong once) never silences a job. Without an anchor the
        grid starts at 1970-01-01 00:00 UTC.
        """
        after = zones.utc(after)
        origin = EPOCH if anchor is None else zones.utc(anchor)
        try:
            return after + self.period - (after - origin) % self.period
        except OverflowError:  # the end of the calendar, year 9999
            return None

    def missed(
        self,
        first: datetime,
        until: datetime,
        keep: int = 1,
        anchor: datetime | None = None,
    ) -> Missed:
        """Count by arithmetic."""
        first, until = zones.utc(first), zones.utc(until)
        if first > until:
            return Missed(0, ())
        second = self.next_due(first, None, anchor)
        if second is None or second > until:
            return Missed(1, (first,)[:keep])
        later = (until - second) // self.period + 1
        newest = [second + k * self.period for k in range(max(0, later - keep), later)]
        if keep > later:
            newest.insert(0, first)
        return Missed(1 + later, tuple(newest))

    def between(
        self, start: datetime, end: datetime, most: int = 1000, anchor: datetime | None = None
    ) -> list[datetime]:
        first = self.next_due(zones.utc(start) - timedelta.resolution, None, anchor)
        if first is None or first >= end:
            return []
        count = -((first - zones.utc(end)) // self.period)
        return [first + k * self.period for k in range(min(count, most))]

    def by_hour(
        self, start: datetime, end: datetime, anchor: datetime | None = None
    ) -> dict[int, int]:
        """Count by arithmetic."""
        start, end = zones.utc(start), zones.utc(end)
        first = self.next_due(start - timedelta.resolution, None, anchor)
        if first is None or first >= end:
            return {}
        period, step = self.period, HOUR // timedelta.resolution
        late, each = (first - start) // timedelta.resolution, period // timedelta.resolution
        length = (end - start) // timedelta.resolution
        if each >= step:
            return {at // step: 1 for at in range(late, length, each)}
        if not (step % each or length % step):
            return dict.fromkeys(range(length // step), step // each)
        found, before = {}, 0
        for hour in range(-(-length // step)):
            # The points of the grid before the end of this hour, less those before it.
            until = max(0, -((late - min(length, (hour + 1) * step)) // each))
            if until > before:
                found[hour] = until - before
            before = until
        return found

    def describe(self, language: str = "de") -> str:
        language = spoken(language)
        if len(self.parts) == 1:
            amount, unit = self.parts[0]
            single, several, _ = NAMES[unit][language]
            return single if amount == 1 else f"{EVERY[language]} {amount} {several}"
        told = " ".join(f"{amount} {NAMES[unit][language][2]}" for amount, unit in self.parts)
        return f"{EVERY[language]} {told}"

    def warnings(self, after: datetime, language: str = "de") -> list[ScheduleWarning]:
        """Return the next clock change when the interval looks like a time of day.

        Whole days at the same time of day are what people expect of "24h"; after a
        clock change it is an hour earlier or later.
        """
        after = zones.utc(after)
        if self.period % timedelta(days=1):
            return []
        change = next(zones.clock_changes(after, after + WARNED, self.zone), None)
        return [] if change is None else [_shifted(change, language)]

    def ensure_fires(self, after: datetime) -> None:
        """Accept: an interval always fires."""


def _shifted(change: zones.ClockChange, language: str) -> ScheduleWarning:
    hour = change.shift == timedelta(hours=1)
    minutes = change.shift // timedelta(minutes=1)
    local = (change.at + change.after).replace(tzinfo=None)
    much = {
        "de": "eine Stunde" if hour else f"{minutes} Minuten",
        "en": "an hour" if hour else f"{minutes} minutes",
    }
    direction = {
        "de": "später" if change.is_gap else "früher",
        "en": "later" if change.is_gap else "earlier",
    }
    return ScheduleWarning(
        "clock_shift",
        {
            "de": f"Ab dem {calendar_date(local, 'de')}, {time_of(local)} Uhr, startet der Lauf "
            f"nach der Uhr {much['de']} {direction['de']} – soll die Uhrzeit gleich "
            "bleiben, nehmen Sie einen Cron-Ausdruck.",
            "en": f"From {calendar_date(local, 'en')}, {time_of(local)}, the run starts "
            f"{much['en']} {direction['en']} by the clock – use a cron expression to "
            "keep the time of day.",
        },
        change.at,
        spoken(language),
    )


def _parts(text: str) -> Parts:
    """Return the amounts with their units; raise ScheduleError with what would be right."""
    if not text:
        raise ScheduleError("interval_missing", "schedule", text)
    if not GRAMMAR.fullmatch(text):
        raise _misread(text)
    parts = tuple((int(amount), unit) for amount, unit in PART.findall(text))
    units = [unit for _, unit in parts]
    doubled = [unit for unit in UNITS if units.count(unit) > 1]
    if not any(amount for amount, _ in parts):
        raise ScheduleError("interval_zero", "schedule", text)
    if doubled:
        better = _written(parts)
        raise ScheduleError("interval_twice", "schedule", text, unit=doubled[0], better=better)
    if units != [unit for unit in UNITS if unit in units]:
        raise ScheduleError("interval_order", "schedule", text, better=_written(parts))
    for amount, unit in parts:
        if amount == 0:
            raise ScheduleError("interval_zero_part", "schedule", text, part=f"{amount}{unit}")
    if sum(amount * UNITS[unit] for amount, unit in parts) > LONGEST.total_seconds():
        raise ScheduleError("interval_long", "schedule", text, limit=LONGEST.days)
    return parts


def _misread(text: str) -> ScheduleError:
    """Return the error that helps most with a text outside the grammar."""
    lowered = text.lower()
    if re.fullmatch(r"[0-9]+", text):
        if not text.strip("0"):
            return ScheduleError("interval_zero", "schedule", text)
        return ScheduleError("interval_bare", "schedule", text)
    if re.match(r"[-−–]\s*[0-9]", text):
        return ScheduleError("interval_negative", "schedule", text)
    if text.startswith("@") or "*" in text or len(text.split()) == 5:
        return ScheduleError("interval_is_cron", "schedule", text)
    for opening in ("alle ", "every ", "@every "):
        lowered = lowered.removeprefix(opening)
    better = _meant(lowered)
    if better:
        return ScheduleError("interval_written", "schedule", text, better=better)
    return ScheduleError("interval_syntax", "schedule", text)


def _meant(lowered: str) -> str:
    """Return the grammar's way to say "1 Stunde 30 min" or "1.5h"; empty when unclear."""
    seconds, at = 0.0, 0
    while (match := LOOSE.match(lowered, at)) is not None:
        whole, fraction, word = match.groups()
        factor = 7 * UNITS["d"] if word in WEEKS else UNITS.get(UNIT_OF.get(word, ""), 0)
        if not factor:
            return ""
        seconds += float(f"{whole}.{fraction or 0}") * factor
        at = match.end()
    if at != len(lowered) or not 1 <= seconds <= LONGEST.total_seconds() or seconds % 1:
        return ""
    return _written([(int(seconds), "s")])


def _length(parts: Sequence[tuple[int, str]]) -> timedelta:
    return timedelta(seconds=sum(amount * UNITS[unit] for amount, unit in parts))


def _written(parts: Sequence[tuple[int, str]]) -> str:
    """Return the shortest text of the grammar for the same length of time."""
    seconds = sum(amount * UNITS[unit] for amount, unit in parts)
    written = ""
    for unit, size in UNITS.items():
        amount, seconds = divmod(seconds, size)
        if amount:
            written += f"{amount}{unit}"
    return written

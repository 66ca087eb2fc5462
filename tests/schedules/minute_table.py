"""An oracle that shares nothing with the evaluator: every real minute is looked at.

Expressions are drawn together with the values they stand for, so that the oracle reads no
cron text either.
"""

from __future__ import annotations

import calendar
import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hypothesis.strategies import SearchStrategy

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

# zone: days (UTC) around which its clocks change
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),
    "Africa/Cairo": ("2026-04-23", "2026-10-29"),
    "America/Santiago": ("2026-04-05", "2026-09-06"),
    "Asia/Beirut": ("2026-03-28", "2026-10-24"),
    "America/Havana": ("2026-03-08", "2026-11-01"),
    "Pacific/Chatham": ("2026-04-04", "2026-09-26"),
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),
    "Africa/Casablanca": ("2026-02-15", "2026-03-22"),
}


@dataclass(frozen=True)
class Drawn:
    """A field as text, and what it means."""

    text: str
    values: frozenset[int]
    star: bool


@dataclass(frozen=True)
class Expression:
    """Five drawn fields."""

    minute: Drawn
    hour: Drawn
    day: Drawn
    month: Drawn
    weekday: Drawn

    @property
    def text(self) -> str:
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(field.text for field in fields)

    @property
    def wildcard(self) -> bool:
        return self.minute.star or self.hour.star

    def matches_day(self, day: datetime) -> bool:
        by_day = day.day in self.day.values
        by_weekday = day.isoweekday() % 7 in {value % 7 for value in self.weekday.values}
        either = self.day.star or self.weekday.star
        days = (by_day and by_weekday) if either else (by_day or by_weekday)
        return days and day.month in self.month.values

    def matches(self, time: datetime) -> bool:
        return (
            time.minute in self.minute.values
            and time.hour in self.hour.values
            and self.matches_day(time)
        )


@functools.cache
def table(zone: str, first: str, days: int) -> list[tuple[datetime, datetime]]:
    """Return (instant, wall time) of every real minute of these days, in order."""
    start = datetime.fromisoformat(first).replace(tzinfo=UTC)
    place = ZoneInfo(zone)
    instants = [start + k * MINUTE for k in range(days * 24 * 60)]
    return [(at, at.astimezone(place).replace(tzinfo=None, fold=0)) for at in instants]


@functools.cache
def first_instants(zone: str, first: str, days: int) -> Mapping[datetime, datetime]:
    """Return for every wall minute, also those in a gap, when something planned for it starts."""
    rows = table(zone, first, days)
    starts: dict[datetime, datetime] = {}
    latest = rows[0][1] - MINUTE
    for at, wall in rows:
        missing = latest + MINUTE
        while missing < wall:  # a gap
            starts.setdefault(missing, at)
            missing += MINUTE
        starts.setdefault(wall, at)
        latest = max(latest, wall)
    return starts


def due(expression: Expression, zone: str, first: str, days: int) -> list[datetime]:
    """Return every due instant of these days."""
    if expression.wildcard:
        return [at for at, wall in table(zone, first, days) if expression.matches(wall)]
    starts = first_instants(zone, first, days)
    return sorted({at for wall, at in starts.items() if expression.matches(wall)})


def listed(drawn: Sequence[Drawn]) -> Drawn:
    """Join items to a field: it starts with a star when its first item does."""
    text = ",".join(item.text for item in drawn)
    values = frozenset(value for item in drawn for value in item.values)
    return Drawn(text, values, drawn[0].star)


def item(low: int, high: int, names: Sequence[str] = ()) -> SearchStrategy[Drawn]:
    """Draw one item of a list, with its values."""

    def written(value: int, use_name: bool) -> str:
        return names[value - low] if use_name and value - low < len(names) else str(value)

    def ranged(ends: tuple[int, int], step: int, use_name: bool) -> Drawn:
        a, b = sorted(ends)
        text = f"{written(a, use_name)}-{written(b, use_name)}"
        text += f"/{step}" if step else ""
        return Drawn(text, frozenset(range(a, b + 1, step or 1)), star=False)

    def starred(step: int) -> Drawn:
        text = f"*/{step}" if step else "*"
        return Drawn(text, frozenset(range(low, high + 1, step or 1)), star=True)

    value = st.integers(low, high)
    steps = st.sampled_from([0, 0, 1, 2, 3, 5, 7, 10, 15, 20, 45, 61])
    single = st.builds(
        lambda v, n: Drawn(written(v, n), frozenset({v}), star=False), value, st.booleans()
    )
    opened = st.builds(
        lambda v, s: Drawn(f"{v}/{s}", frozenset(range(v, high + 1, s)), star=False),
        value,
        st.integers(1, 20),
    )
    spans = st.builds(ranged, st.tuples(value, value), steps, st.booleans())
    return st.one_of(single, single, spans, st.builds(starred, steps), opened)


def field(low: int, high: int, names: Sequence[str] = ()) -> SearchStrategy[Drawn]:
    """Draw a field: often a star, else a list of up to three items."""
    star = st.just(Drawn("*", frozenset(range(low, high + 1)), star=True))
    items = st.lists(item(low, high, names), min_size=1, max_size=3)
    return st.one_of(star, items.map(listed))


def night_hours() -> SearchStrategy[Drawn]:
    """Draw an hour field that often names the hours in which clocks change."""
    hour = st.sampled_from([0, 1, 2, 3, 4, 22, 23])
    single = hour.map(lambda value: Drawn(str(value), frozenset({value}), star=False))
    span = st.tuples(st.integers(0, 3), st.integers(1, 4)).map(
        lambda ends: Drawn(
            f"{ends[0]}-{sum(ends)}", frozenset(range(ends[0], sum(ends) + 1)), star=False
        )
    )
    items = st.lists(st.one_of(single, span), min_size=1, max_size=3)
    return st.one_of(items.map(listed), field(0, 23))


def expressions(hours: SearchStrategy[Drawn] | None = None) -> SearchStrategy[Expression]:
    """Draw a legal expression that can fire."""
    return st.builds(
        Expression,
        field(0, 59),
        field(0, 23) if hours is None else hours,
        field(1, 31),
        field(1, 12, MONTHS),
        field(0, 7, WEEKDAYS),
    ).filter(fires)


def fires(expression: Expression) -> bool:
    """Whether the days happen in any of 28 years, which have every kind of year."""
    months = expression.month.values
    return any(
        expression.matches_day(datetime(year, month, day))  # noqa: DTZ001
        for month in months
        for year in range(2026, 2054)
        for day in range(1, calendar.monthrange(year, month)[1] + 1)
    )

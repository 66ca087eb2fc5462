"""Which wall times a cron expression matches, and the instants at which it is due.

The meaning is Debian's. A *wildcard* job (minute or hour starts with `*`) follows real time:
a skipped hour brings nothing, a repeated hour brings both passes. A *fixed-time* job starts
once for times in a gap, at the first instant after it, and only in the first pass of a
repeated hour.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from daemon_app.schedules import zones
from daemon_app.schedules.cron.grammar import LAST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from daemon_app.schedules.cron.grammar import Field, Fields

HORIZON_YEARS: Final = 50
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
LAST_YEAR: Final = 9998
"""The calendar of Python ends a year later."""

NONE: Final = -1


class Matcher:
    """The wall times of an expression. Remembers the days of each shape of a month."""

    __slots__ = (
        "_days",
        "_fields",
        "_first_hour",
        "_first_minute",
        "_hours",
        "_months",
        "_next_hour",
        "_next_minute",
    )

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._hours = frozenset(fields.hour.values)
        self._months = frozenset(fields.month.values)
        self._first_hour = fields.hour.values[0]
        self._first_minute = fields.minute.values[0]
        self._next_minute = _following(fields.minute.values, 60)
        self._next_hour = _following(fields.hour.values, 24)
        self._days: dict[tuple[int, int], tuple[int, ...]] = {}

    def after(self, time: datetime) -> datetime | None:
        """Return the first matching wall time later than `time`; None within the horizon.

        `time` is naive and on a full minute.
        """
        year, month, day = time.year, time.month, time.day
        if month in self._months and day in self.days(year, month):
            hour = time.hour
            if hour in self._hours:
                minute = self._next_minute[time.minute]
                if minute != NONE:
                    return datetime(year, month, day, hour, minute)  # noqa: DTZ001
            hour = self._next_hour[hour]
            if hour != NONE:
                return datetime(year, month, day, hour, self._first_minute)  # noqa: DTZ001
        last_year = min(year + HORIZON_YEARS, LAST_YEAR)
        while year <= last_year:
            if month in self._months:
                for later in self.days(year, month):
                    if later > day:
                        return datetime(  # noqa: DTZ001
                            year, month, later, self._first_hour, self._first_minute
                        )
            day = 0
            month += 1
            if month > 12:
                year, month = year + 1, 1
        return None

    def between(self, first: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the matching wall times from `first` up to, not including, `end`."""
        time = self.after(_full_minute(first) - MINUTE)
        while time is not None and time < end:
            yield time
            time = self.after(time)

    def hours(self, first: datetime, end: datetime) -> Iterator[tuple[datetime, tuple[int, ...]]]:
        """Yield what `between` does by the hour: its start, and the minutes that match in it."""
        minutes = self._fields.minute.values
        # Of the hours at both ends only a part may belong to the span.
        low, high = first.replace(minute=0, second=0, microsecond=0), end - HOUR
        day = low.replace(hour=0)
        while day < end:
            if day.month in self._months and day.day in self.days(day.year, day.month):
                for number in self._fields.hour.values:
                    hour = day.replace(hour=number)
                    if low < hour <= high:
                        yield hour, minutes
                    elif low <= hour < end:
                        each = (hour.replace(minute=minute) for minute in minutes)
                        inside = tuple(time.minute for time in each if first <= time < end)
                        if inside:
                            yield hour, inside
            day += zones.DAY

    def count(self, first: datetime, end: datetime) -> int:
        """Return how many wall times match from `first` up to, not including, `end`."""
        if end <= first:
            return 0
        first, end = _full_minute(first), _full_minute(end)
        fields = self._fields
        whole_day = len(fields.hour.values) * len(fields.minute.values)
        days = 0
        for year, month in _months_back(first, end):
            matching = self.days(year, month) if month in self._months else ()
            low = first.day if (year, month) == (first.year, first.month) else 1
            high = end.day if (year, month) == (end.year, end.month) else 32
            days += bisect_left(matching, high) - bisect_left(matching, low)
        return days * whole_day - self._earlier_that_day(first) + self._earlier_that_day(end)

    def backwards(self, first: datetime, end: datetime) -> Iterator[datetime]:
        """Yield what `count` counts, latest first."""
        for year, month in _months_back(first, end):
            if month not in self._months:
                continue
            for day in reversed(self.days(year, month)):
                if date(year, month, day) > end.date():
                    continue
                for hour in reversed(self._fields.hour.values):
                    for minute in reversed(self._fields.minute.values):
                        time = datetime(year, month, day, hour, minute)  # noqa: DTZ001
                        if time < first:
                            return
                        if time < end:
                            yield time

    def _earlier_that_day(self, time: datetime) -> int:
        """Return how many wall times match on the day of `time` before it."""
        if time.month not in self._months or time.day not in self.days(time.year, time.month):
            return 0
        hours, minutes = self._fields.hour.values, self._fields.minute.values
        this_hour = bisect_left(minutes, time.minute) if time.hour in self._hours else 0
        return bisect_left(hours, time.hour) * len(minutes) + this_hour

    def days(self, year: int, month: int) -> tuple[int, ...]:
        """Return the days of this month that match, ascending."""
        length = 29 if month == 2 and _is_leap(year) else LENGTHS[month - 1]
        shape = length, date(year, month, 1).isoweekday() % 7
        days = self._days.get(shape)
        if days is None:
            days = self._days[shape] = matching_days(self._fields, *shape)
        return days


def matching_days(fields: Fields, length: int, first_weekday: int) -> tuple[int, ...]:
    """Return the matching days of a month with `length` days; 0 is Sunday."""
    by_day = _by_day_of_month(fields.day, length, first_weekday)
    by_weekday = _by_weekday(fields.weekday, length, first_weekday)
    return tuple(sorted(by_day & by_weekday if fields.both_days else by_day | by_weekday))


def _by_day_of_month(field: Field, length: int, first_weekday: int) -> set[int]:
    days = {day for day in field.values if day <= length}
    if field.last:
        days.add(length)
    if field.working:
        days.add(_nearest_working_day(length, length, first_weekday))
    for day in field.nearest:
        if day <= length:
            days.add(_nearest_working_day(day, length, first_weekday))
    return days


def _nearest_working_day(day: int, length: int, first_weekday: int) -> int:
    """Return the Monday-to-Friday day nearest to `day` without leaving the month."""
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:  # Saturday: the Friday before
        return day - 1 if day > 1 else day + 2
    if weekday == 0:  # Sunday: the Monday after
        return day + 1 if day < length else day - 2
    return day


def _by_weekday(field: Field, length: int, first_weekday: int) -> set[int]:
    days = set()
    plain, nth = frozenset(field.values), frozenset(field.nth)
    for day in range(1, length + 1):
        weekday = (first_weekday + day - 1) % 7
        is_last = day + 7 > length
        if (
            weekday in plain
            or (weekday, (day + 6) // 7) in nth
            or (is_last and (weekday, LAST) in nth)
        ):
            days.add(day)
    return days


def due_after(
    matcher: Matcher, place: ZoneInfo, after: datetime, *, follows_real_time: bool
) -> datetime | None:
    """Return the first due instant later than `after`, in UTC; None within the horizon."""
    try:
        if follows_real_time:
            return _wildcard(matcher, place, after)
        return _fixed(matcher, place, after)
    except OverflowError:  # at the ends of the calendar, years 1 and 9999
        return None


def _fixed(matcher: Matcher, place: ZoneInfo, after: datetime) -> datetime | None:
    # Going along the wall clock, first instants never go back: the first one that is
    # later is the answer, also in a gap and in the second pass of a repeated hour.
    time = zones.wall(after, place).replace(second=0, microsecond=0)
    last_year = time.year + HORIZON_YEARS
    while (found := matcher.after(time)) is not None and found.year <= last_year:
        instant = zones.first_instant(found, place)
        if instant > after:
            return instant
        time = found
    return None


def _wildcard(matcher: Matcher, place: ZoneInfo, after: datetime) -> datetime | None:
    time = zones.wall(after, place).replace(second=0, microsecond=0)
    last_year = time.year + HORIZON_YEARS
    second_pass = _second_pass(time, place, after)
    if second_pass is not None:
        first_wall, end_wall, first_offset = second_pass
        found = matcher.after(time)
        if found is not None and found < end_wall:
            return (found - first_offset).replace(tzinfo=UTC)
        time = first_wall - MINUTE
    while (found := matcher.after(time)) is not None and found.year <= last_year:
        for instant in zones.instants(found, place):
            if instant > after:
                return instant
        time = found
    return None


def _second_pass(
    time: datetime, place: ZoneInfo, after: datetime
) -> tuple[datetime, datetime, timedelta] | None:
    """Return the repeated stretch that still lies ahead when `after` is in its first pass.

    As its first wall time, the wall time where it ends, and the offset of the first pass.
    """
    first, second = zones.offsets(time, place)
    if first <= second or zones.offset(after, place) != first:
        return None
    change = zones.change_between(after, after + (first - second), place)
    return (
        (change + second).replace(tzinfo=None),
        (change + first).replace(tzinfo=None),
        first,
    )


def _following(values: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return for each position the first value later than it, or NONE."""
    following: list[int] = []
    for position in range(size):
        later = [value for value in values if value > position]
        following.append(later[0] if later else NONE)
    return tuple(following)


def _full_minute(time: datetime) -> datetime:
    """Return the first full minute that is not earlier than `time`."""
    floor = time.replace(second=0, microsecond=0)
    return floor if floor == time else floor + MINUTE


def _months_back(first: datetime, end: datetime) -> Iterator[tuple[int, int]]:
    """Yield (year, month) from the month of `end` back to the month of `first`."""
    for number in range(end.year * 12 + end.month - 1, first.year * 12 + first.month - 2, -1):
        year, month = divmod(number, 12)
        yield year, month + 1


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)

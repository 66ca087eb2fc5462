"""Local clock time and real time: names of zones, gaps and repeated hours.

A *wall* time is a naive datetime, what a clock on the wall of that zone shows.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, available_timezones

from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.language import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

# Files beside the zones that are no place on earth, or mean another one on each machine.
NO_PLACE: Final = frozenset({"Factory", "localtime", "posixrules"})

SECOND: Final = timedelta(seconds=1)
DAY: Final = timedelta(days=1)


@functools.cache
def names() -> frozenset[str]:
    """Return the IANA names this machine knows. Reads some 600 files, once per process."""
    return frozenset(available_timezones()) - NO_PLACE


@functools.lru_cache(maxsize=1024)
def _near(name: str) -> tuple[str, ...]:
    """Return up to three known names that resemble `name`, also by the city alone."""
    wanted = name.casefold().replace(" ", "_")
    known = {key.casefold(): key for key in sorted(names())}
    if wanted in known:
        return (known[wanted],)
    cities = {key.rpartition("/")[2]: key for key in known}
    by_city = difflib.get_close_matches(wanted.rpartition("/")[2], cities, n=2, cutoff=0.75)
    whole = difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)
    found = dict.fromkeys([*(cities[city] for city in by_city), *whole])
    return tuple(known[key] for key in found)[:3]


def zone(name: str) -> ZoneInfo:
    """Return the zone with this IANA name; raise ScheduleError with the nearest names."""
    if name in names():
        return ZoneInfo(name)
    if not name.strip():
        raise ScheduleError("zone_missing", "timezone", name)
    # A path is never a slip of the pen, and long texts are slow to compare.
    slip = len(name) <= 40 and not name.startswith(("/", ".")) and ".." not in name
    if slip and (near := _near(name)):
        raise ScheduleError("zone_near", "timezone", name, near=quoted(near))
    raise ScheduleError("zone_unknown", "timezone", name)


def utc(moment: datetime) -> datetime:
    """Return an aware `moment` in UTC; raise ValueError for a naive one."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(f"an aware datetime is needed, not {moment!r}")
    return moment.astimezone(UTC)


def wall(moment: datetime, place: ZoneInfo) -> datetime:
    """Return what a clock in `place` shows at `moment`."""
    return moment.astimezone(place).replace(tzinfo=None, fold=0)


def offset(moment: datetime, place: ZoneInfo) -> timedelta:
    """Return the distance from UTC that is in force at an aware `moment`."""
    distance = moment.astimezone(place).utcoffset()
    assert distance is not None
    return distance


def offsets(time: datetime, place: ZoneInfo) -> tuple[timedelta, timedelta]:
    """Return the distances from UTC for the first and second reading of a wall time.

    Equal for an ordinary time. The first is larger for a repeated time, smaller for a
    time that does not exist (PEP 495).
    """
    aware = time.replace(tzinfo=place)
    first, second = aware.utcoffset(), aware.replace(fold=1).utcoffset()
    assert first is not None
    assert second is not None
    return first, second


def instants(time: datetime, place: ZoneInfo) -> tuple[datetime, ...]:
    """Return every instant, in UTC, at which the clock shows `time`: one, two, or none."""
    first, second = offsets(time, place)
    if first == second:
        return ((time - first).replace(tzinfo=UTC),)
    if first > second:
        return (time - first).replace(tzinfo=UTC), (time - second).replace(tzinfo=UTC)
    return ()


def first_instant(time: datetime, place: ZoneInfo) -> datetime:
    """Return when something planned for `time` starts, in UTC.

    The first pass of a repeated time; the first instant after the gap for a time that
    does not exist.
    """
    first, second = offsets(time, place)
    if first < second:
        before, after = time - second, time - first
        return change_between(before.replace(tzinfo=UTC), after.replace(tzinfo=UTC), place)
    return (time - first).replace(tzinfo=UTC)


def next_time(hour: int, minute: int, after: datetime, place: ZoneInfo) -> datetime:
    """Return the first instant after `after` at which a clock in `place` shows that time, in UTC.

    A time that a clock change leaves out is the end of the gap.
    """
    day = wall(after, place).replace(hour=hour, minute=minute, second=0, microsecond=0)
    days = (first_instant(day + timedelta(days=n), place) for n in (0, 1, 2))
    return next(instant for instant in days if instant > after)


def change_between(before: datetime, after: datetime, place: ZoneInfo) -> datetime:
    """Return the first instant of the offset in force at `after`; `before` has another one."""
    new = offset(after, place)
    while after - before > SECOND:
        middle = before + ((after - before) // 2)
        middle = middle.replace(microsecond=0)
        if middle <= before:
            break
        if offset(middle, place) == new:
            after = middle
        else:
            before = middle
    return after


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One change of the clocks: the instant (UTC) and the offsets before and from then on."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether clocks go forward and wall times are missing; else some are repeated."""
        return self.after > self.before

    @property
    def first_wall(self) -> datetime:
        """The first wall time that is missing or repeated."""
        return self._wall(min(self.before, self.after))

    @property
    def end_wall(self) -> datetime:
        """The first wall time that is ordinary again."""
        return self._wall(max(self.before, self.after))

    @property
    def shift(self) -> timedelta:
        """By how much the clocks move, always positive."""
        return abs(self.after - self.before)

    def _wall(self, distance: timedelta) -> datetime:
        return (self.at + distance).replace(tzinfo=None)


def clock_changes(after: datetime, until: datetime, place: ZoneInfo) -> Iterator[ClockChange]:
    """Yield the changes of the clocks in (after, until], in order, for aware moments.

    Looks once a day; changes that cancel each other within a day would be overlooked
    (there is none in the time zone database after 1950).
    """
    after, until = utc(after), utc(until)
    known = offset(after, place)
    while after < until:
        following = min(after + DAY, until)
        found = offset(following, place)
        if found != known:
            yield ClockChange(change_between(after, following, place), known, found)
        after, known = following, found


def changes(after: datetime, until: datetime, place: ZoneInfo) -> Iterator[ClockChange]:
    """Yield what `clock_changes` does, from a memory of whole years: fast for long spans."""
    after, until = utc(after), utc(until)
    for year in range(after.year, until.year + 1):
        for change in _changes_of(year, place):
            if after < change.at <= until:
                yield change


@functools.lru_cache(maxsize=4096)
def _changes_of(year: int, place: ZoneInfo) -> tuple[ClockChange, ...]:
    """Return the changes later than the start of this year (UTC), up to the next one's."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    return tuple(clock_changes(start, start.replace(year=year + 1), place))

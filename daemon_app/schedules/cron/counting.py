"""How many due instants lie in a span, and the newest of them, without going from one to the next.

Between two changes of the clocks the wall clock and real time keep their distance, so that what
is due there can be counted by the calendar: matching days, times what a day brings. Only the
ends of such a stretch need the rules of `matching`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from daemon_app.schedules import zones
from daemon_app.schedules.cron.matching import HOUR, LAST_YEAR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from daemon_app.schedules.cron.matching import Matcher

ECHO: Final = timedelta(days=2)
"""A repeated stretch is over before: the largest change ever was a whole day."""
END: Final = datetime(LAST_YEAR, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A span without a change of the clocks, as wall times from `first` up to `end`.

    offset    the distance of the wall clock from UTC
    gap_at    the instant at which it begins, when times in the gap before it are due then
    """

    first: datetime
    end: datetime
    offset: timedelta
    gap_at: datetime | None = None


def stretches(
    matcher: Matcher, place: ZoneInfo, after: datetime, until: datetime, *, follows_real_time: bool
) -> list[Stretch]:
    """Return the stretches of (after, until], whose wall times are due once each, in order."""
    after, until = zones.utc(after), min(zones.utc(until), END)
    # Wall times are counted up to, not including, an end.
    start, end = after + timedelta.resolution, until + timedelta.resolution
    if start >= end:
        return []
    changes = [*zones.changes(start - ECHO, until, place)]
    found = []
    # Each change opens a stretch; one more is in force before the first of them.
    openings = [None, *changes]
    closings = [change.at for change in changes] + [end]
    for change, closing in zip(openings, closings, strict=True):
        if closing <= start:
            continue
        begin = max(start, change.at) if change else start
        offset = change.after if change else zones.offset(start, place)
        first = (begin + offset).replace(tzinfo=None)
        gap_at = None
        if change and not follows_real_time:
            # The second pass brings nothing; what a gap left out is due at its end, once.
            first = max(first, change.end_wall)
            missing = change.is_gap and change.at >= start
            if missing and matcher.count(change.first_wall, change.end_wall):
                own = matcher.count(change.end_wall, change.end_wall + MINUTE)
                gap_at = None if own else change.at
        found.append(Stretch(first, (closing + offset).replace(tzinfo=None), offset, gap_at))
    return found


def count(matcher: Matcher, spans: list[Stretch]) -> int:
    """Return how many instants are due in these stretches."""
    gaps = sum(span.gap_at is not None for span in spans)
    return gaps + sum(matcher.count(span.first, span.end) for span in spans)


def forwards(matcher: Matcher, spans: list[Stretch]) -> Iterator[datetime]:
    """Yield the due instants of these stretches, in UTC, oldest first."""
    for span in spans:
        if span.gap_at is not None:
            yield span.gap_at
        for time in matcher.between(span.first, span.end):
            yield (time - span.offset).replace(tzinfo=UTC)


def by_hour(matcher: Matcher, spans: list[Stretch], start: datetime) -> dict[int, int]:
    """Return how many instants are due in each hour from `start` (UTC) on; only where any are."""
    found: dict[int, int] = {}
    for span in spans:
        if span.gap_at is not None:
            number = (span.gap_at - start) // HOUR
            found[number] = found.get(number, 0) + 1
        begin = (start + span.offset).replace(tzinfo=None)
        for hour, minutes in matcher.hours(span.first, span.end):
            number, late = divmod(hour - begin, HOUR)
            # Zones differ by half hours too: then an hour of the clock lies in two of ours.
            early = bisect_left(minutes, (HOUR - late) / MINUTE) if late else len(minutes)
            for part, several in ((number, early), (number + 1, len(minutes) - early)):
                if several:
                    found[part] = found.get(part, 0) + several
    return found


def backwards(matcher: Matcher, spans: list[Stretch]) -> Iterator[datetime]:
    """Yield the due instants of these stretches, in UTC, newest first."""
    for span in reversed(spans):
        for time in matcher.backwards(span.first, span.end):
            yield (time - span.offset).replace(tzinfo=UTC)
        if span.gap_at is not None:
            yield span.gap_at

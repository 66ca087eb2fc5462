"""Schedules: from text to a value that knows when it is due.

    >>> from datetime import UTC, datetime
    >>> nightly = parse("cron", "30 3 * * MON-FRI", "Europe/Berlin")
    >>> nightly.describe("de")
    'Montag bis Freitag um 03:30 Uhr'
    >>> nightly.next_due(datetime(2026, 11, 24, 12, tzinfo=UTC)).isoformat()
    '2026-11-25T02:30:00+00:00'

Pure: no clock, no settings, no database. Each kind is one module and one import line here.
"""

from __future__ import annotations

import functools
from typing import Final

from daemon_app.schedules import zones
from daemon_app.schedules.cron import Cron
from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.interval import Interval
from daemon_app.schedules.language import AND, quoted
from daemon_app.schedules.manual import Manual
from daemon_app.schedules.once import Once
from daemon_app.schedules.schedule import KINDS, Missed, Schedule, ScheduleWarning

__all__ = [
    "KINDS",
    "LONGEST_TEXT",
    "Cron",
    "Interval",
    "Manual",
    "Missed",
    "Once",
    "Schedule",
    "ScheduleError",
    "ScheduleWarning",
    "parse",
]

LONGEST_TEXT: Final = 256
LATER: Final = ("chain", "event")


def parse(kind: str, text: str, tz: str = "Europe/Berlin") -> Schedule:
    """Return the schedule of this kind (see KINDS) written as `text`, meant in zone `tz`.

    Raises ScheduleError, and nothing else, for whatever cannot be a schedule: it names
    the field and the value, and says in German and English what would be right.
    """
    if kind in LATER:
        raise ScheduleError("kind_later", "kind", kind, known=quoted(list(KINDS)))
    if kind not in KINDS:
        raise ScheduleError("kind_unknown", "kind", kind, known=quoted(list(KINDS), AND))
    if len(text) > LONGEST_TEXT:
        raise ScheduleError("too_long", "schedule", text, length=len(text), limit=LONGEST_TEXT)
    zones.zone(tz)
    return _read(kind, text, tz)


@functools.lru_cache(maxsize=4096)
def _read(kind: str, text: str, tz: str) -> Schedule:
    """Read the text; immutable values can be shared, and the beat reads each job often."""
    return KINDS[kind].read(text, tz)

"""A single time: `2026-12-24 18:00`, `2026-12-24T18:00+01:00`, `24.12.2026 18:00`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import ClassVar, Final, Self

from daemon_app.schedules import zones
from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.language import calendar_date, long_date, spoken, time_of
from daemon_app.schedules.schedule import KINDS, Schedule, ScheduleWarning

YEARS: Final = (1970, 2199)

DATE: Final = r"(?:([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})|([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4}))"
TIME: Final = r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?: ?Uhr)?"
OFFSET: Final = r"(?: ?(Z|z|[+-][0-9]{2}:?[0-9]{2}))?"
GRAMMAR: Final = re.compile(rf"{DATE}(?:[Tt]|,? +){TIME}{OFFSET}")
ONLY_DATE: Final = re.compile(DATE)
ONLY_TIME: Final = re.compile(TIME)


@KINDS.register("once")
@dataclass(frozen=True)
class Once(Schedule):
    """One instant. Without an offset the time is a wall time of the zone.

    A wall time that does not exist starts at the first instant after the gap, a repeated
    one in its first pass: the same as a fixed-time cron job.
    """

    kind: ClassVar[str] = "once"
    instant: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    written: datetime = datetime(1970, 1, 1)  # noqa: DTZ001  (a wall time)
    has_offset: bool = False

    @classmethod
    def read(cls, text: str, tz: str) -> Self:
        written, offset = _moment(text.strip())
        if offset is None:
            instant = zones.first_instant(written, zones.zone(tz))
        else:
            instant = written.replace(tzinfo=offset).astimezone(UTC)
        return cls(_normal(written, offset), tz, instant, written, offset is not None)

    def next_due(
        self,
        after: datetime,
        previous: datetime | None = None,
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> datetime | None:
        """Return the instant, or None when it has passed or `previous` has reached it."""
        if self.instant <= zones.utc(after):
            return None
        if previous is not None and self.instant <= zones.utc(previous):
            return None
        return self.instant

    def describe(self, language: str = "de") -> str:
        language = spoken(language)
        local = zones.wall(self.instant, self.zone)
        if language == "de":
            return f"einmal am {long_date(local, 'de')} um {time_of(local)} Uhr"
        return f"once on {long_date(local, 'en')} at {time_of(local)}"

    def warnings(self, after: datetime, language: str = "de") -> list[ScheduleWarning]:
        if self.has_offset or self.instant <= zones.utc(after):
            return []
        first, second = zones.offsets(self.written, self.zone)
        if first == second:
            return []
        day = {lang: calendar_date(self.written, lang) for lang in ("de", "en")}
        time = time_of(self.written)
        if first < second:
            starts = time_of(zones.wall(self.instant, self.zone))
            return [
                ScheduleWarning(
                    "gap",
                    {
                        "de": f"Am {day['de']} gibt es {time} Uhr nicht – der Lauf startet um "
                        f"{starts} Uhr.",
                        "en": f"On {day['en']} there is no {time} – the run starts at {starts}.",
                    },
                    self.instant,
                    spoken(language),
                )
            ]
        later = _normal(self.written, timezone(second))
        return [
            ScheduleWarning(
                "repeated",
                {
                    "de": f"Am {day['de']} gibt es {time} Uhr zweimal – der Lauf startet beim "
                    f"ersten Mal; das zweite Mal schreiben Sie „{later}“.",
                    "en": f"On {day['en']} {time} comes twice – the run starts the first time; "
                    f"write “{later}” for the second.",
                },
                self.instant,
                spoken(language),
            )
        ]

    def ensure_fires(self, after: datetime) -> None:
        if self.instant > zones.utc(after):
            return
        local = zones.wall(self.instant, self.zone)
        date = {language: calendar_date(local, language) for language in ("de", "en")}
        raise ScheduleError("once_past", "schedule", self.text, date=date, time=time_of(local))


def _moment(text: str) -> tuple[datetime, timezone | None]:
    """Return the wall time and the offset, if any; raise ScheduleError."""
    match = GRAMMAR.fullmatch(text)
    if match is None:
        raise _misread(text)
    iso, german = match.group(1, 2, 3), match.group(6, 5, 4)
    clock, offset = match.group(7, 8, 9), match[10]
    year, month, day = (int(part) for part in (iso if iso[0] else german))
    hour, minute, second = (int(part or 0) for part in clock)
    if not YEARS[0] <= year <= YEARS[1]:
        raise ScheduleError("once_year", "schedule", text, year=year, low=YEARS[0], high=YEARS[1])
    try:
        date = datetime(year, month, day)  # noqa: DTZ001  (a wall time)
    except ValueError:
        written = f"{day:02}.{month:02}.{year}"
        raise ScheduleError("once_date", "schedule", text, date=written) from None
    if hour > 23 or minute > 59 or second > 59:
        written = ":".join(part for part in clock if part)
        raise ScheduleError("once_time", "schedule", text, time=written)
    wall = date.replace(hour=hour, minute=minute, second=second)
    return wall, None if offset is None else _offset(offset, text)


def _offset(written: str, text: str) -> timezone:
    if written in {"Z", "z"}:
        return UTC
    hours, minutes = int(written[1:3]), int(written[-2:])
    if hours > 14 or minutes > 59:
        raise ScheduleError("once_offset", "schedule", text, offset=written)
    sign = -1 if written[0] == "-" else 1
    return timezone(sign * timedelta(hours=hours, minutes=minutes))


def _misread(text: str) -> ScheduleError:
    if not text:
        return ScheduleError("once_missing", "schedule", text)
    if ONLY_DATE.fullmatch(text):
        return ScheduleError("once_no_time", "schedule", text)
    if ONLY_TIME.fullmatch(text):
        return ScheduleError("once_no_date", "schedule", text)
    return ScheduleError("once_syntax", "schedule", text)


def _normal(wall: datetime, offset: timezone | None) -> str:
    """Return "2026-12-24 18:00", with seconds and offset only where they say something."""
    zone = "" if offset is None else wall.replace(tzinfo=offset).isoformat()[19:]
    return wall.strftime("%Y-%m-%d ") + time_of(wall) + zone

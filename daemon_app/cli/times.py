"""Times as people type them in a terminal, and as they are shown there."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from pathlib import Path

from daemon_app.cli import language, terminal
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

# Kept before Django sets it to the zone of the installation.
ASKED_FOR = os.environ.get("TZ", "")
TIME_OF_DAY = re.compile(r"(?:(\D+?)\s+)?(\d{1,2}:\d{2}(?::\d{2})?)")
WEEK = 7


@dataclass(frozen=True)
class Clock:
    """Instants in words, as of `now`; with their zone where the terminal has another one."""

    now: datetime
    zone: tzinfo
    is_foreign: bool

    @classmethod
    def here(cls, now: datetime) -> "Clock":
        """Return the clock of this installation, whose zone all commands show."""
        from django.utils import timezone

        zone = timezone.get_current_timezone()
        return cls(now, zone, str(zone) != terminals_zone())

    def column(self, title: str) -> str:
        """Return the title of a column of instants."""
        return f"{title} ({self.zone})" if self.is_foreign else title

    def moment(self, at: datetime | None) -> str:
        """Return when, for a column; "–" for never."""
        from daemon_app import formats

        return formats.moment(at, self.now, self.zone, language.current()) if at else "–"

    def told(self, at: datetime) -> str:
        """Return when, for a sentence."""
        return self.column(self.moment(at))

    def ahead(self, at: datetime) -> str:
        """Return when and in how long: "morgen 03:00 (in 21 Std.)"."""
        from daemon_app import formats

        spoken = language.current()
        return f"{self.told(at)} ({formats.relative(at, self.now, spoken, coarse=True)})"


def terminals_zone() -> str:
    """Return the name of the zone that other programs in this terminal show times in."""
    asked = ASKED_FOR.lstrip(":")
    if asked:
        return asked
    found = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    with suppress(OSError):  # where that file is a copy
        found = found or Path("/etc/timezone").read_text(encoding="utf-8").strip()
    return found or "UTC"


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────
def after(text: str, now: datetime) -> datetime:
    """Return the end of a length of time that begins now: 30m, 2h, 1d. Raises Refusal."""
    from daemon_app.schedules.errors import ScheduleError
    from daemon_app.schedules.interval import Interval

    try:
        length: timedelta = Interval.read(text.strip(), "UTC").period
    except ScheduleError as error:
        spoken = language.current()
        raise Refusal(error.message(spoken), error.hint(spoken), code=Code.USAGE) from error
    return now + length


def at(text: str, now: datetime) -> datetime:
    """Return the instant that a text names: 18:00 is the next one, tomorrow 8:00, fri 8:00, a date.

    A time that the clocks leave out is the moment they are set, as in a schedule. Raises Refusal.
    """
    from django.utils import timezone

    from daemon_app.schedules import zones

    place = zones.zone(timezone.get_current_timezone_name())
    text = " ".join(text.split())
    if found := TIME_OF_DAY.fullmatch(text):
        try:
            clock = time.fromisoformat(found[2].zfill(5 if found[2].count(":") == 1 else 8))
        except ValueError as error:
            raise _unread(text) from error
        today = now.astimezone(place).date()
        days = _days((found[1] or "").rstrip(".").casefold(), today)
        if not days:
            raise _unread(text)
        instants = (
            zones.first_instant(datetime.combine(today + timedelta(days=day), clock), place)
            for day in days
        )
        return next((instant for instant in instants if instant > now), now)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise _unread(text) from error
    if not 1970 < instant.year < 9999:
        raise _unread(text)
    return instant if instant.tzinfo else zones.first_instant(instant, place)


def _days(word: str, today: date) -> list[int]:
    """Return the days from today on that a word may mean, the nearest first; [] for none."""
    from daemon_app import formats

    if not word:
        return [0, 1]
    for spoken in ("de", "en"):
        if word == formats.WORDS[spoken]["today"]:
            return [0]
        if word == formats.WORDS[spoken]["tomorrow"]:
            return [1]
        for names in (formats.WEEKDAYS[spoken], formats.SHORT_WEEKDAYS[spoken]):
            known = [name.casefold() for name in names]
            if word in known:
                first = (known.index(word) - today.weekday()) % WEEK
                return [first, first + WEEK]
    return []


def _unread(text: str) -> Refusal:
    return Refusal(
        _("“%(text)s” is no time. For example: 18:00, tomorrow 8:00, or 2026-12-24T18:00")
        % {"text": terminal.shown(text)[:60]},
        code=Code.USAGE,
    )

"""Cron expressions with Debian's meaning, a strict grammar, and words in two languages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import TYPE_CHECKING, ClassVar, Final, Self

from daemon_app.schedules import zones
from daemon_app.schedules.cron import cautions, counting, grammar, matching, words
from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.language import LANGUAGES, OR, listed, month, numbers, ordinal, spoken
from daemon_app.schedules.schedule import KINDS, Missed, Schedule

if TYPE_CHECKING:
    from daemon_app.schedules.language import Both
    from daemon_app.schedules.schedule import ScheduleWarning

REFERENCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""From here on an expression must fire once within the horizon. A fixed day, so that the
same text is always judged alike; the calendar repeats every 28 years, 40 around 2100."""


@KINDS.register("cron")
@dataclass(frozen=True)
class Cron(Schedule):
    """Five fields: minute, hour, day of month, month, weekday; or a macro such as @daily."""

    kind: ClassVar[str] = "cron"
    fields: grammar.Fields
    matcher: matching.Matcher = field(compare=False, repr=False)

    @classmethod
    def read(cls, text: str, tz: str) -> Self:
        normal, fields = grammar.read(text)
        schedule = cls(normal, tz, fields, matching.Matcher(fields))
        schedule.ensure_fires(REFERENCE)
        return schedule

    def next_due(
        self,
        after: datetime,
        previous: datetime | None = None,  # noqa: ARG002
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> datetime | None:
        """Return the first due instant later than `after`; None for none in fifty years.

        On a full minute by the zone's clock, and each instant once, however many times
        of a gap fall onto it.
        """
        return matching.due_after(
            self.matcher,
            self.zone,
            zones.utc(after),
            follows_real_time=self.fields.follows_real_time,
        )

    def missed(
        self,
        first: datetime,
        until: datetime,
        keep: int = 1,
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> Missed:
        """Count by the calendar: years of a minutely job cost no more than a day of it."""
        first, until = zones.utc(first), zones.utc(until)
        if first > until:
            return Missed(0, ())
        spans = self._stretches(first, until)
        newest = islice(chain(counting.backwards(self.matcher, spans), [first]), keep)
        return Missed(1 + counting.count(self.matcher, spans), tuple(newest)[::-1])

    def between(
        self,
        start: datetime,
        end: datetime,
        most: int = 1000,
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> list[datetime]:
        start, end = zones.utc(start), zones.utc(end)
        spans = self._stretches(start - timedelta.resolution, end - timedelta.resolution)
        return list(islice(counting.forwards(self.matcher, spans), most))

    def by_hour(
        self,
        start: datetime,
        end: datetime,
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> dict[int, int]:
        """Count by the calendar: an hour costs the same however often it is due in it."""
        start, end = zones.utc(start), zones.utc(end)
        spans = self._stretches(start - timedelta.resolution, end - timedelta.resolution)
        return counting.by_hour(self.matcher, spans, start)

    def _stretches(self, after: datetime, until: datetime) -> list[counting.Stretch]:
        return counting.stretches(
            self.matcher,
            self.zone,
            after,
            until,
            follows_real_time=self.fields.follows_real_time,
        )

    def describe(self, language: str = "de") -> str:
        return words.describe(self.fields, spoken(language))

    def warnings(self, after: datetime, language: str = "de") -> list[ScheduleWarning]:
        return cautions.warnings(
            self.fields, self.matcher, self.zone, zones.utc(after), spoken(language)
        )

    def ensure_fires(self, after: datetime) -> None:
        if self.next_due(after) is not None:
            return
        if self.matcher.after(zones.wall(after, self.zone)) is not None:
            raise ScheduleError("cron_never_clock", "schedule", self.text, zone=self.tz)
        if self.fields.both_days and not self.fields.every_weekday:
            raise ScheduleError("cron_never_both", "schedule", self.text)
        raise ScheduleError("cron_never", "schedule", self.text, why=_no_such_day(self.fields))


def _no_such_day(fields: grammar.Fields) -> Both:
    """Return the date that no calendar has: "31. Februar"."""
    days = fields.day.values or fields.day.nearest
    months = {
        language: listed([month(number, language) for number in fields.month.values], OR, language)
        for language in LANGUAGES
    }
    ordinals = listed([ordinal(day, "en") for day in days], OR, "en")
    return {
        "de": f"{numbers(days, 'de', '.')} {months['de']}",
        "en": f"{ordinals} of {months['en']}",
    }

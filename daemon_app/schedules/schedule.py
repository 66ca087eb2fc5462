"""What every kind of schedule can be asked, and the table of kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, Self

from daemon_app.registry import Registry
from daemon_app.schedules import zones
from daemon_app.schedules.language import spoken

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from daemon_app.schedules.language import Both


@dataclass(frozen=True, slots=True)
class ScheduleWarning:
    """Something about a schedule that is legal but may surprise.

    code      what it is about, stable: "gap", "repeated", "clock_shift", "day_or",
              "day_and", "uneven", "step_too_wide", "short_months"
    at        the instant it happens, aware and in UTC; None when it holds always
    language  the language of `str()`
    """

    code: str
    sentences: Both = field(hash=False)
    at: datetime | None = None
    language: str = "de"

    def sentence(self, language: str | None = None) -> str:
        """Return the warning as one sentence, by default in the language asked for."""
        return self.sentences[spoken(language or self.language)]

    def __str__(self) -> str:
        return self.sentence()


@dataclass(frozen=True, slots=True)
class Missed:
    """What was due in a span of time.

    count   how many instants, exactly
    newest  the latest of them, aware and in UTC, in ascending order: as many as were asked for
    """

    count: int
    newest: tuple[datetime, ...]


@dataclass(frozen=True)
class Schedule(ABC):
    """When a job is due. Made by `schedules.parse`; immutable, hashable, without a clock.

    kind  the name it is registered under
    text  the schedule's text, normalised: parsing it again gives an equal schedule
    tz    IANA name of the zone in which wall times are meant
    """

    kind: ClassVar[str]
    text: str
    tz: str

    @classmethod
    @abstractmethod
    def read(cls, text: str, tz: str) -> Self:
        """Return the schedule written as `text`; raise ScheduleError when it is none.

        `tz` is known to be a zone.
        """

    @property
    def zone(self) -> ZoneInfo:
        """The zone of `tz`."""
        return zones.zone(self.tz)

    @abstractmethod
    def next_due(
        self, after: datetime, previous: datetime | None = None, anchor: datetime | None = None
    ) -> datetime | None:
        """Return the first due instant strictly later than `after`; None for never.

        Aware, in UTC. `previous` is the last due instant that was handled, `anchor` the
        instant from which an interval counts. All three must be aware; a naive datetime
        is a ValueError.
        """

    def upcoming(
        self,
        after: datetime,
        n: int,
        previous: datetime | None = None,
        anchor: datetime | None = None,
    ) -> list[datetime]:
        """Return the next `n` due instants, fewer when the schedule ends before."""
        found: list[datetime] = []
        while len(found) < n and (due := self.next_due(after, previous, anchor)) is not None:
            found.append(due)
            after = previous = due
        return found

    def missed(
        self,
        first: datetime,
        until: datetime,
        keep: int = 1,
        anchor: datetime | None = None,
    ) -> Missed:
        """Return what was due from `first` up to and including `until`; both must be aware.

        `first` counts as due, whatever the schedule says of it: it is the instant a caller
        was waiting for. Fast however long the span is.
        """
        newest: deque[datetime] = deque(maxlen=keep)
        count = 0
        due: datetime | None = zones.utc(first)
        while due is not None and due <= zones.utc(until):
            newest.append(due)
            count += 1
            due = self.next_due(due, due, anchor)
        return Missed(count, tuple(newest))

    def between(
        self, start: datetime, end: datetime, most: int = 1000, anchor: datetime | None = None
    ) -> list[datetime]:
        """Return what is due from `start` up to, not including, `end`: the first `most` of it."""
        found: list[datetime] = []
        due = self.next_due(zones.utc(start) - timedelta.resolution, None, anchor)
        while due is not None and due < end and len(found) < most:
            found.append(due)
            due = self.next_due(due, due, anchor)
        return found

    def by_hour(
        self, start: datetime, end: datetime, anchor: datetime | None = None
    ) -> dict[int, int]:
        """Return how many instants are due in each hour from `start` up to, not including, `end`.

        Keys are the hours' places (0 for the first one); hours without any are left out.
        """
        due = self.between(start, end, anchor=anchor)
        return dict(Counter((instant - start) // timedelta(hours=1) for instant in due))

    @abstractmethod
    def describe(self, language: str = "de") -> str:
        """Return when it runs in words, without full stop: "täglich um 03:00 Uhr"."""

    @abstractmethod
    def warnings(self, after: datetime, language: str = "de") -> list[ScheduleWarning]:
        """Return what may surprise; clock changes within thirteen months from `after`.

        Each warning speaks both languages; `language` is the one of its `str()`.
        """

    @abstractmethod
    def ensure_fires(self, after: datetime) -> None:
        """Raise ScheduleError when nothing is due after `after` though something should be.

        For forms: a moment that has passed is a fine text for a job that ran then, but
        not for one that is saved now.
        """


KINDS: Final[Registry[type[Schedule]]] = Registry("kind of schedule")

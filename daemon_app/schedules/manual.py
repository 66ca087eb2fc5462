"""Never by itself: the job is started by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from daemon_app.schedules.errors import ScheduleError
from daemon_app.schedules.language import spoken
from daemon_app.schedules.schedule import KINDS, Schedule, ScheduleWarning

if TYPE_CHECKING:
    from datetime import datetime


@KINDS.register("manual")
@dataclass(frozen=True)
class Manual(Schedule):
    """A schedule without a time. Its text is empty."""

    kind: ClassVar[str] = "manual"

    @classmethod
    def read(cls, text: str, tz: str) -> Self:
        if text.strip():
            raise ScheduleError("manual_text", "schedule", text)
        return cls("", tz)

    def next_due(
        self,
        after: datetime,  # noqa: ARG002
        previous: datetime | None = None,  # noqa: ARG002
        anchor: datetime | None = None,  # noqa: ARG002
    ) -> datetime | None:
        """Return None: never by itself."""
        return None

    def describe(self, language: str = "de") -> str:
        return {"de": "nur von Hand", "en": "only by hand"}[spoken(language)]

    def warnings(self, after: datetime, language: str = "de") -> list[ScheduleWarning]:  # noqa: ARG002
        return []

    def ensure_fires(self, after: datetime) -> None:
        """Accept: it is not meant to start by itself."""

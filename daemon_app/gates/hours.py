"""Whether times of the week are open now, and until when: what two gates and their facts go by."""

from datetime import datetime
from typing import Any, NamedTuple

from daemon_app import windows
from daemon_app.gates.conditions import Conditions
from daemon_app.schedules import ScheduleError


class Opening(NamedTuple):
    """Whether it is open, the instant at which that changes (None: never), its words by language.

    `can_be_read` is False for a text or a zone that was one once and is none any more.
    """

    open: bool
    until: datetime | None
    words: dict[str, str]
    can_be_read: bool = True

    def facts(self, text: str) -> dict[str, Any]:
        """Return what a verdict keeps."""
        return {"times": self.words or text, "until": iso(self.until)}


def opening(text: str, zone: str, conditions: Conditions) -> Opening:
    """Return how `text`, meant in `zone`, stands at the moment of `conditions`."""
    key = text, zone, conditions.now
    if key not in conditions.openings:
        conditions.openings[key] = _opening(text, zone, conditions.now)
    found: Opening = conditions.openings[key]
    return found


def _opening(text: str, zone: str, now: datetime) -> Opening:
    try:
        times = windows.parse(text, zone)
    except (windows.WindowError, ScheduleError):
        return Opening(open=False, until=None, words={}, can_be_read=False)
    is_open = times.contains(now)
    until = times.next_close(now) if is_open else times.next_open(now)
    return Opening(is_open, until, {each: times.describe(each) for each in ("de", "en")})


def iso(instant: datetime | None) -> str | None:
    """Return an instant as facts keep it."""
    return None if instant is None else instant.isoformat()

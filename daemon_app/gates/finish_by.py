"""Done by a time of day: a run must begin early enough, as long as its job usually takes."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo


def latest_start(
    needs: Mapping[str, Any], due_at: datetime, expected: timedelta
) -> datetime | None:
    """Return when a run due at `due_at` has to begin to be done by its job's time of day.

    That is the next such time after `due_at`, less how long the run is `expected` to take, and
    never before `due_at`. None when the job does not ask for it.
    """
    text = needs.get("finish_by")
    if not text:
        return None
    zone = ZoneInfo(needs["zone"])
    local = due_at.astimezone(zone)
    end = datetime.combine(local.date(), time.fromisoformat(text), zone)
    if end <= local:
        end = datetime.combine(local.date() + timedelta(days=1), time.fromisoformat(text), zone)
    return max(end.astimezone(due_at.tzinfo) - expected, due_at)

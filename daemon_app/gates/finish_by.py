"""Done by a time of day: when a run must start at the latest."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.schedules import ScheduleError, zones

GRACE = timedelta(seconds=60)


@GATES.register("finish_by")
def finish_by(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Tell by when a run has to start; closed once that has passed and it is to be skipped.

    The latest start is what whoever wrote the run put into its needs as `last_start`, since only
    they knew when it was due and how long it usually takes.
    """
    clock = needs.get("finish_by")
    if not clock:
        return None
    facts = {"finish_by": clock, "until": needs.get("last_start")}
    try:
        latest = datetime.fromisoformat(needs["last_start"])
    except (KeyError, TypeError, ValueError):
        return Verdict("finish_by", True, "gate_finish_by", facts)
    late = conditions.now > latest
    if late and needs.get("action") != "run":
        return Verdict("finish_by", False, "waits_finish_by", facts)
    return Verdict("finish_by", True, "gate_finish_by_late" if late else "gate_finish_by", facts)


def finishes_at(needs: Mapping[str, Any], due_at: datetime) -> datetime | None:
    """Return the first instant after `due_at` at which the clock shows the time to be done by.

    None when nothing is asked for. A time that a clock change leaves out is the end of the gap.
    """
    try:
        hour, minute = map(int, str(needs.get("finish_by") or "").split(":"))
        zone = zones.zone(needs.get("zone") or settings.TIME_ZONE)
        return zones.next_time(hour, minute, due_at, zone)
    except (ValueError, ScheduleError):
        return None


def latest_start(
    needs: Mapping[str, Any], due_at: datetime, expected: timedelta
) -> datetime | None:
    """Return when a run due at `due_at` has to start to be done in time; None for whenever.

    `expected` is how long it takes. A run that takes longer than there is time has to start when
    it is due, which is within GRACE.
    """
    end = finishes_at(needs, due_at)
    return None if end is None else min(max(end - expected, due_at + GRACE), end)

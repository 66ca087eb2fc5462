"""What a schedule would mean, said while it is typed: words, next times, who else runs then."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from daemon_app import forecast, overlaps, schedules
from daemon_app.models import Job
from daemon_app.overlaps import Overlap

HOUR = timedelta(hours=1)
LOOKED_AT = 5  # times at which others may run


@dataclass(frozen=True, slots=True)
class Preview:
    """What a schedule means, from now on.

    text       as it would be stored
    longer     how many seconds a run of the job usually takes, when that is longer than from one
               start to the next
    overlaps   other jobs that run at these times, each once
    """

    text: str
    words: str
    times: Sequence[datetime]
    warnings: Sequence[str]
    longer: float | None = None
    overlaps: Sequence[Overlap] = ()


def preview(  # noqa: PLR0913 - a schedule is three words
    kind: str,
    text: str,
    tz: str,
    *,
    of: Job | None,
    now: datetime,
    language: str,
    most: int = 5,
) -> Preview:
    """Return what a schedule means; `of` is the job that has it, or is to get it.

    Raises ScheduleError for a text that is none.
    """
    plan = schedules.parse(kind, text, tz)
    # An interval counts from the saving, unless it already counts and stays as it is.
    same = of is not None and (of.job_type, of.schedule, of.timezone) == (kind, plan.text, tz)
    times = list(plan.upcoming(now, most, anchor=of.anchor if of is not None and same else now))
    said = [warning.sentence(language) for warning in plan.warnings(now)]
    longer, others = _meetings(times[:LOOKED_AT], of)
    return Preview(plan.text, plan.describe(language), times, said, longer, others)


def _meetings(times: list[datetime], of: Job | None) -> tuple[float | None, Sequence[Overlap]]:
    """Return whether the job would meet itself at these times, and which others it would."""
    if not times:
        return None, ()
    usual = forecast.usual_lengths([of.pk]).get(of.pk, 0) if of else 0
    length = timedelta(seconds=usual)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if gaps and length > min(gaps):
        return usual, ()
    if gaps and max(gaps) < HOUR:
        return None, ()  # it runs beside everything anyway
    others = [plan for plan in forecast.plans() if of is None or plan.id != of.pk]
    return None, overlaps.overlaps(times, length, others)

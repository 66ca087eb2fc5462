"""Which other jobs run when one is planned to: said while its schedule is being typed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon_app import forecast
from daemon_app.forecast import Plan

LOOK_BACK: Final = timedelta(hours=6)  # whatever began earlier is taken to be over
AT_ONCE: Final = timedelta(minutes=1)  # so near, two starts are one moment
OFTEN: Final = 12  # starts in one look; what starts more often runs beside everything anyway
PATTERNS: Final = 300  # schedules that are looked at; most jobs share theirs with others
JOBS: Final = 100  # whose lengths are asked for


@dataclass(frozen=True, slots=True)
class Overlap:
    """Another job that runs at one of the times: from when, and until when it usually does."""

    job_id: int
    name: str
    at: datetime
    until: datetime | None  # None: how long it takes is not known, but they start together


def overlaps(times: Sequence[datetime], length: timedelta, others: Iterable[Plan]) -> list[Overlap]:
    """Return each other job once, at the first of `times` that meets a run of it.

    `length` is how long the job itself usually takes. In the order of the times; a look at a
    bounded number of schedules, so that it costs the same with 10,000 jobs.
    """
    near = _near(times, length, others)
    lengths = forecast.usual_lengths(list({plan.id for _at, _start, plan in near})[:JOBS])
    found: dict[int, Overlap] = {}
    for at, start, plan in near:
        if plan.id in found:
            continue
        usual = timedelta(seconds=lengths.get(plan.id, 0))
        if start < at + length and at < start + usual:
            found[plan.id] = Overlap(plan.id, plan.name, start, start + usual)
        elif abs(start - at) < AT_ONCE:
            found[plan.id] = Overlap(plan.id, plan.name, start, None)
    return sorted(found.values(), key=lambda each: (each.at, each.name))


def _near(
    times: Sequence[datetime], length: timedelta, others: Iterable[Plan]
) -> list[tuple[datetime, datetime, Plan]]:
    """Return the starts of others near each of the times: (time, start, plan)."""
    groups: dict[object, list[Plan]] = {}
    for plan in others:
        key = (plan.pattern, plan.since, plan.until)
        if key in groups or len(groups) < PATTERNS:
            groups.setdefault(key, []).append(plan)
    near: list[tuple[datetime, datetime, Plan]] = []
    for at in times:
        for members in groups.values():
            starts = members[0].starts(at - LOOK_BACK, at + max(length, AT_ONCE), OFTEN + 1)
            if len(starts) <= OFTEN:
                near += [(at, start, plan) for start in starts for plan in members[:JOBS]]
        if len(near) >= JOBS:
            break  # more than anybody reads
    return near

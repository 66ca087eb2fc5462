"""What is going to start: the planned starts of many jobs in a span, and how long they take.

However many jobs there are, and however often they start, the answer is bounded: the first starts
one by one, everything else as numbers by the hour. `* * * * *` in 10,000 jobs would be 100 million
starts a week; jobs that share a schedule are counted together, and an hour costs the same whether
something is due in it once or sixty times.

    >>> from datetime import UTC, datetime
    >>> start = datetime(2026, 11, 23, tzinfo=UTC)
    >>> nightly = Plan(1, "nightly", "cron", "0 3 * * *", "UTC", start)
    >>> often = Plan(2, "watch", "cron", "* * * * *", "UTC", start)
    >>> found = occurrences([nightly, often], start, start + timedelta(days=1))
    >>> [(each.plan.name, each.at.hour) for each in found.starts]
    [('nightly', 3)]
    >>> [(each.plan.name, each.count) for each in found.frequent]
    [('watch', 1440)]
    >>> found.per_hour[2:5]
    [60, 61, 60]
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from statistics import median
from typing import Final, NamedTuple, Self

from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum

from daemon_app.models import Job, Run
from daemon_app.models.job import parsed
from daemon_app.schedules import ScheduleError

HOUR: Final = timedelta(hours=1)
MOST: Final = 1_000  # starts that are told one by one
OFTEN: Final = 24  # starts a day; what starts more often is counted
USUAL_OF: Final = 20
LENGTHS: Final = 20_000  # jobs whose median is remembered
FORECASTS: Final = 12  # spans that are remembered for all jobs

Hours = tuple[tuple[int, int], ...]
"""How many starts in which hour: (its place, how many), ascending, without empty hours."""
Pattern = tuple[str, str, str, datetime | None]
"""Kind, text and zone of a schedule, and its anchor where it counts from one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When a job starts: as much of it as a look ahead needs.

    since, until   the span outside of which it does not start: a pause with an end, a deadline
    is_choosy      whether it waits for conditions: a planned start may come later, or not at all
    """

    id: int
    name: str
    kind: str
    text: str
    zone: str
    anchor: datetime
    since: datetime | None = None
    until: datetime | None = None
    only_when_idle: bool = False
    is_choosy: bool = False

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the plan of a job, also of one that is not stored yet."""
        return cls(
            id=job.pk or 0,
            name=job.name,
            kind=job.job_type,
            text=job.schedule,
            zone=job.timezone,
            anchor=job.anchor,
            since=None if job.is_active else job.paused_until,
            until=job.deadline,
            only_when_idle=job.only_when_idle,
            is_choosy=bool(job.needs()),
        )

    def starts(self, start: datetime, end: datetime, most: int = MOST) -> list[datetime]:
        """Return the first `most` planned starts from `start` up to, not including, `end` (UTC).

        Nothing for a schedule that can't be read.
        """
        start, end = self._clip(start, end)
        if end <= start:
            return []
        try:
            plan = parsed(self.kind, self.text, self.zone)
        except ScheduleError:
            return []
        return plan.between(start, end, most, self.anchor)

    def by_hour(self, start: datetime, end: datetime) -> Hours:
        """Return how many starts are planned in each hour from `start` up to `end`."""
        if self.since is None and self.until is None:
            return _by_hour(self.pattern, start, end)
        first, last = self._clip(start, end)
        if last <= first:
            return ()
        # The hours in which it begins and ends are counted from the instant; the others as usual.
        whole = _by_hour(self.pattern, start, end)
        low, high = (first - start) // HOUR, (last - start) // HOUR
        edges = {
            edge: len(
                self.starts(start + edge * HOUR, min(end, start + (edge + 1) * HOUR), most=3_600)
            )
            for edge in (low, high)
        }
        inside = {at: count for at, count in whole if low < at < high} | edges
        return tuple((at, count) for at, count in sorted(inside.items()) if count)

    @property
    def pattern(self) -> Pattern:
        """What plans have in common that would start at the same instants."""
        anchor = self.anchor if self.kind == Job.Kind.INTERVAL else None
        return self.kind, self.text, self.zone, anchor

    def _clip(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        if self.since is not None:
            start = max(start, self.since)
        if self.until is not None:  # a start at the deadline is in time
            end = min(end, self.until + timedelta.resolution)
        return start, end


class Start(NamedTuple):
    """One planned start."""

    at: datetime
    plan: Plan


@dataclass(frozen=True, slots=True)
class Frequent:
    """A job that starts so often in the span that its starts are counted."""

    plan: Plan
    count: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The planned starts from `start` up to, not including, `end`.

    starts     the first of them one by one, by time; those of frequent jobs are not among them
    told_until up to there `starts` is complete: `end`, or where it would have become too long
    frequent   the jobs that are counted instead, the most frequent first
    per_hour   how many starts each hour from `start` on brings, frequent jobs included
    jobs       how many jobs start at all
    """

    start: datetime
    end: datetime
    starts: Sequence[Start]
    told_until: datetime
    frequent: Sequence[Frequent]
    per_hour: Sequence[int]
    jobs: int
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.per_hour))

    @property
    def is_complete(self) -> bool:
        """Whether every start of a job that is not frequent is among `starts`."""
        return self.told_until >= self.end


def occurrences(
    jobs: Iterable[Job | Plan],
    start: datetime,
    end: datetime,
    most: int = MOST,
    often: int = OFTEN,
) -> Forecast:
    """Return what is planned to start from `start` up to, not including, `end`; both aware.

    Jobs that start more often than `often` times a day, on the whole span's average, are counted;
    of the others, the first `most` starts are told one by one. Whether a job is switched on is for
    the caller to know; deadlines and pauses with an end are respected.
    """
    plans = [each if isinstance(each, Plan) else Plan.of(each) for each in jobs]
    hours = max(0, -((start - end) // HOUR))
    per_hour, listed = [0] * hours, [0] * hours
    days = max((end - start) / timedelta(days=1), 1.0)
    # Most of many jobs share their schedules: each is looked at once.
    groups: dict[object, list[Plan]] = {}
    for plan in plans:
        groups.setdefault((plan.pattern, plan.since, plan.until), []).append(plan)
    frequent: list[Frequent] = []
    few: list[list[Plan]] = []
    starting = 0
    for members in groups.values():
        found = members[0].by_hour(start, end)
        if not found:
            continue
        several, count = len(members), sum(n for _hour, n in found)
        starting += several
        for hour, n in found:
            per_hour[hour] += n * several
        if count > often * days:
            frequent.extend(Frequent(plan, count) for plan in members)
            continue
        few.append(members)
        for hour, n in found:
            listed[hour] += n * several
    frequent.sort(key=lambda each: (-each.count, each.plan.name))
    # The hour in which the list would become too long is told in part, none after it.
    full = next((hour for hour, sums in enumerate(accumulate(listed)) if sums > most), None)
    told_until = end if full is None else min(end, start + (full + 1) * HOUR)
    starts = _first(few, start, told_until, most)
    if full is not None and starts:
        told_until = starts[-1].at
    return Forecast(start, end, starts, told_until, frequent, per_hour, starting)


def _first(
    groups: Iterable[Sequence[Plan]], start: datetime, end: datetime, most: int
) -> list[Start]:
    """Return the first `most` starts of plans by pattern, by time and name."""
    found: list[tuple[datetime, Sequence[Plan]]] = []
    for members in groups:
        found.extend((at, members) for at in members[0].starts(start, end, most))
    found.sort(key=lambda each: each[0])
    starts: list[Start] = []
    at = None
    for instant, members in found:
        # The last instant is told as a whole, as far as there is room for what is told at all.
        if len(starts) >= most and instant != at:
            break
        starts.extend(Start(instant, plan) for plan in members[: 2 * most])
        at = instant
    starts.sort(key=lambda each: (each.at, each.plan.name))
    return starts[:most]


@lru_cache(maxsize=32_768)
def _by_hour(pattern: Pattern, start: datetime, end: datetime) -> Hours:
    kind, text, zone, anchor = pattern
    try:
        return tuple(sorted(parsed(kind, text, zone).by_hour(start, end, anchor).items()))
    except ScheduleError:
        return ()


# ── All jobs ─────────────────────────────────────────────────────────────────────────────────────
class Memory:
    """The plans of all jobs that start by themselves, read again only when one has changed."""

    def __init__(self) -> None:
        self._known: object = None
        self._plans: list[Plan] = []
        self._forecasts: OrderedDict[object, Forecast] = OrderedDict()

    def plans(self) -> list[Plan]:
        """Return the plans of all jobs that are switched on, or will be by themselves."""
        planned = Q(is_active=True, next_due_at__isnull=False)
        known = Job.objects.aggregate(
            all=Count("pk"),
            planned=Count("pk", filter=planned),
            changed=Max("updated_at"),
            versions=Sum("version"),
        )
        if known != self._known:
            paused = Q(is_active=False, paused_until__isnull=False)
            jobs = Job.objects.filter(planned | paused).exclude(job_type=Job.Kind.MANUAL)
            self._plans = [_plan(row) for row in jobs.order_by("pk").values_list(*FIELDS)]
            self._forecasts.clear()
            self._known = known
        return self._plans

    def forecast(self, start: datetime, end: datetime, most: int, often: int) -> Forecast:
        """Return the forecast of all jobs, remembered while no job changes."""
        plans, key = self.plans(), (start, end, most, often)
        found = self._forecasts.pop(key, None) or occurrences(plans, start, end, most, often)
        self._forecasts[key] = found
        if len(self._forecasts) > FORECASTS:
            self._forecasts.popitem(last=False)
        return found


FIELDS: Final = (
    *("pk", "name", "job_type", "schedule", "timezone", "anchor", "is_active", "paused_until"),
    *("deadline", "only_when_idle", "min_vram_mb", "min_disk_mb", "max_load_percent"),
    *("window", "finish_by", "needs_services"),
)


def _plan(row: tuple) -> Plan:  # type: ignore[type-arg]
    pk, name, kind, text, zone, anchor, is_active, paused_until, deadline, idle, *needs = row
    since = None if is_active else paused_until
    choosy = idle or any(needs)
    return Plan(pk, name, kind, text, zone, anchor, since, deadline, idle, choosy)


_memory = Memory()


def planned(start: datetime, end: datetime, most: int = MOST, often: int = OFTEN) -> Forecast:
    """Return what all jobs are planned to start in this span; see `occurrences`.

    Fast when asked again for the same span: ask for whole hours or days, not from this instant on.
    """
    return _memory.forecast(start, end, most, often)


def plans() -> Sequence[Plan]:
    """Return the plans of all jobs that start by themselves, those paused until a time included."""
    return _memory.plans()


# ── How long they take ───────────────────────────────────────────────────────────────────────────
_lengths: OrderedDict[object, float | None] = OrderedDict()


def usual_lengths(job_ids: Iterable[int]) -> dict[int, float]:
    """Return how many seconds a run of each of these jobs usually takes, in two queries.

    The median of those that succeeded among the newest twenty. Jobs without any are left out. Ask
    for the jobs that are shown, some hundreds at most.
    """
    wanted = sorted(set(job_ids))
    newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id")
    jobs = Job.objects.filter(pk__in=wanted).values_list(
        "pk",
        Subquery(newest.values("id")[:1]),
        Subquery(newest.values("queued_at")[:1]),
        Subquery(newest.values("state")[:1]),
        Subquery(newest.values("id")[USUAL_OF - 1 : USUAL_OF]),
    )
    keys, asked, floors = {}, Q(pk__in=[]), Counter[int]()
    for pk, *key, floor in jobs:
        keys[pk] = (pk, *key)
        if keys[pk] not in _lengths and key[0] is not None:
            floors[pk] = floor or 0
            asked |= Q(job_id=pk, id__gte=floor or 0)
    if floors:
        taken: dict[int, list[float]] = {pk: [] for pk in floors}
        ended = Run.objects.filter(asked).order_by("-id")
        for pk, state, began, end in ended.values_list("job", "state", "started_at", "ended_at"):
            if state == Run.State.SUCCEEDED and began and end:
                taken[pk].append((end - began).total_seconds())
        for pk, lengths in taken.items():
            _lengths[keys[pk]] = median(lengths) if lengths else None
    found = {pk: _lengths.get(key) for pk, key in keys.items()}
    while len(_lengths) > LENGTHS:
        _lengths.popitem(last=False)
    return {pk: length for pk, length in found.items() if length is not None}


def forget() -> None:
    """Forget what is remembered of jobs and runs; for tests, whose databases look alike."""
    _lengths.clear()
    _memory.__init__()  # type: ignore[misc]

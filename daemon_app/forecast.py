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
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from operator import itemgetter
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

    def describe(self, language: str = "de") -> str:
        """Return the schedule in words; "" for one that can't be read."""
        try:
            return parsed(self.kind, self.text, self.zone).describe(language)
        except ScheduleError:
            return ""

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
    frequent   the jobs that are counted instead, the most frequent first; as many as are told
    counted    how many jobs are counted instead
    per_hour   how many starts each hour from `start` on brings, frequent jobs included
    """

    start: datetime
    end: datetime
    starts: Sequence[Start]
    told_until: datetime
    frequent: Sequence[Frequent]
    counted: int
    per_hour: Sequence[int]
    listed: int

    @property
    def total(self) -> int:
        """How many starts there are in all."""
        return sum(self.per_hour)

    @property
    def left_off(self) -> int:
        """How many starts of jobs that are not frequent are not among `starts`."""
        return self.listed - len(self.starts)


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
    return by_span(jobs, (start, end), most, often)[0]


def by_span(
    jobs: Iterable[Job | Plan], bounds: Sequence[datetime], most: int = MOST, often: int = OFTEN
) -> list[Forecast]:
    """Return what `occurrences` does for each span between two of these instants, in one go.

    `most` is for each span, `often` for all of them together. Between two bounds lie whole hours.
    """
    start, end = bounds[0], bounds[-1]
    plans = (each if isinstance(each, Plan) else Plan.of(each) for each in jobs)
    hours = max(0, -((start - end) // HOUR))
    listed = [0] * hours
    days = max((end - start) / timedelta(days=1), 1.0)
    # Most of many jobs share their schedules: each is looked at once.
    groups: dict[object, list[Plan]] = {}
    for plan in plans:
        groups.setdefault((plan.pattern, plan.since, plan.until), []).append(plan)
    counted: list[tuple[list[Plan], Hours]] = []
    few: list[tuple[list[Plan], Hours]] = []
    for members in groups.values():
        found = members[0].by_hour(start, end)
        is_frequent = _sum(found, 0, hours) > often * days
        (counted if is_frequent else few).append((members, found))
    for several, found in _together(few):
        for hour, n in found:
            listed[hour] += n * several
    per_hour = [*listed]
    for several, found in _together(counted):
        for hour, n in found:
            per_hour[hour] += n * several
    return [
        _span(few, counted, per_hour, listed, (start, low, high), most)
        for low, high in pairwise(bounds)
    ]


Groups = Sequence[tuple[Sequence[Plan], Hours]]


def _together(groups: Groups) -> Iterable[tuple[int, Hours]]:
    """Return of how many plans the same hours are, and these hours."""
    several: Counter[Hours] = Counter()
    for members, found in groups:
        several[found] += len(members)
    return ((n, found) for found, n in several.items())


@lru_cache(maxsize=4_096)
def _sum(hours: Hours, low: int, high: int) -> int:
    """Return how many starts there are in the hours from the first up to the second."""
    return sum(n for hour, n in hours if low <= hour < high)


def _span(  # noqa: PLR0913, PLR0917 - what is known of all spans
    few: Groups,
    counted: Groups,
    per_hour: Sequence[int],
    listed: Sequence[int],
    bounds: tuple[datetime, datetime, datetime],
    most: int,
) -> Forecast:
    start, begin, end = bounds
    low, high = (begin - start) // HOUR, -((start - end) // HOUR)
    # The hour in which the list would become too long is told in part, none after it.
    sums = enumerate(accumulate(listed[low:high]), low + 1)
    full = next((hour for hour, several in sums if several > most), None)
    last = end if full is None else min(end, start + full * HOUR)
    starts = _first(few, (low, full or high), begin, last, most)
    often = []
    for members, found in counted:
        several = _sum(found, low, high)
        if several:
            often.append((several, members))
    often.sort(key=lambda each: (-each[0], each[1][0].name))
    each_one = (Frequent(plan, several) for several, members in often for plan in members)
    return Forecast(
        begin,
        end,
        starts,
        end if full is None else starts[-1].at,
        list(islice(each_one, most)),
        sum(len(members) for _several, members in often),
        per_hour[low:high],
        sum(listed[low:high]),
    )


def _first(
    groups: Groups, hours: tuple[int, int], start: datetime, end: datetime, most: int
) -> list[Start]:
    """Return the first `most` starts in the hours from the first up to the second, by time."""
    low, high = hours
    found: list[tuple[datetime, Sequence[Plan]]] = []
    for members, when in groups:
        if any(low <= hour < high for hour, _n in when):
            found.extend((at, members) for at in members[0].starts(start, end, most))
    found.sort(key=itemgetter(0))
    starts: list[Start] = []
    at = None
    for instant, members in found:
        if len(starts) >= most and instant != at:
            break
        # Of those at the same instant, the first by name are told.
        starts.extend(Start(instant, plan) for plan in members)
        at = instant
    starts.sort(key=lambda each: (each.at, each.plan.name))
    return starts[:most]


@lru_cache(maxsize=32_768)
def _by_hour(pattern: Pattern, start: datetime, end: datetime) -> Hours:
    kind, text, zone, anchor = pattern
    try:
        return _one(tuple(sorted(parsed(kind, text, zone).by_hour(start, end, anchor).items())))
    except ScheduleError:
        return ()


@lru_cache(maxsize=4_096)
def _one(hours: Hours) -> Hours:
    """Return the same object for the same hours.

    Intervals have patterns of their own, by their anchors, but few different hours: ten thousand of
    them would keep a hundred megabytes for each day on which somebody looks.
    """
    return hours


# ── All jobs ─────────────────────────────────────────────────────────────────────────────────────
class Memory:
    """The plans of all jobs that start by themselves, read again only when one has changed."""

    def __init__(self) -> None:
        # Together, for threads read them side by side: a stamp, and the plans that it is of.
        self._known: tuple[object, list[Plan]] = (None, [])
        self._forecasts: OrderedDict[object, list[Forecast]] = OrderedDict()

    def plans(self) -> list[Plan]:
        """Return the plans of all jobs that are switched on, or will be by themselves."""
        return self._current()[1]

    def by_span(self, bounds: tuple[datetime, ...], most: int, often: int) -> list[Forecast]:
        """Return the forecasts of all jobs, remembered while no job changes."""
        stamp, plans = self._current()
        key = (stamp, bounds, most, often)
        found = self._forecasts.pop(key, None) or by_span(plans, bounds, most, often)
        self._forecasts[key] = found
        if len(self._forecasts) > FORECASTS:
            self._forecasts.popitem(last=False)
        return found

    def _current(self) -> tuple[object, list[Plan]]:
        planned = Q(is_active=True, next_due_at__isnull=False)
        counts = Job.objects.aggregate(
            all=Count("pk"),
            planned=Count("pk", filter=planned),
            changed=Max("updated_at"),
            versions=Sum("version"),
        )
        stamp, known = tuple(counts.values()), self._known
        if stamp != known[0]:
            paused = Q(is_active=False, paused_until__isnull=False)
            jobs = Job.objects.filter(planned | paused).exclude(job_type=Job.Kind.MANUAL)
            plans = [_plan(row) for row in jobs.order_by("pk").values_list(*FIELDS)]
            known = self._known = (stamp, plans)
        return known


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
    return _memory.by_span((start, end), most, often)[0]


def planned_by_span(
    bounds: Sequence[datetime], most: int = MOST, often: int = OFTEN
) -> list[Forecast]:
    """Return what `planned` does for each span between two of these instants; see `by_span`."""
    return _memory.by_span(tuple(bounds), most, often)


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

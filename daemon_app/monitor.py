"""What the checks found, kept: ticks, five minutes, hours; series of them; and where a disk tends.

Single ticks are kept for a day, five minutes for a month, hours for more than a year, as are the
times in which a host was idle. Whatever is
summed up is made of single ticks, in one way, and making it again makes the same: after a downtime
it is simply done later. A time without ticks has no rows.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction

from daemon_app import live
from daemon_app.checks import CHECKS
from daemon_app.gates.conditions import tick
from daemon_app.models import IdleSpan, Node, Snapshot
from daemon_app.models.health import FIVE_MINUTES, HOUR, RAW
from daemon_app.readings import Reading, State

KEPT: Final = {
    RAW: timedelta(hours=24),
    FIVE_MINUTES: timedelta(days=30),
    HOUR: timedelta(days=400),
}
SPANS: Final = (FIVE_MINUTES, HOUR)
# From good to bad: the worst of a span stands for it.
WORSE: Final = (
    *(State.OK, State.SLOW, State.HIGH, State.LOW),
    *(State.UNKNOWN, State.FULL, State.DOWN),
)
PER_DELETE: Final = 200  # rows in one transaction
SURELY_FUTURE: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Tick:
    """One round of the checks; `idle` is None while it is not known."""

    at: datetime
    readings: dict[str, Reading]
    idle: bool | None = None


# ── Keeping ──────────────────────────────────────────────────────────────────────────────────────
def store(host: str, ticks: Sequence[Tick]) -> None:
    """Write ticks in one transaction, and tell the open pages after it; one kept already stays."""
    with transaction.atomic():
        rows = [_row(host, each) for each in ticks]
        Snapshot.objects.bulk_create(rows, ignore_conflicts=True)
        live.changed("health")


def _row(host: str, of: Tick) -> Snapshot:
    readings = of.readings.values()
    return Snapshot(
        host=host,
        at=of.at,
        idle=1.0 if of.idle else 0.0,
        values={each.name: each.value for each in readings if each.value is not None},
        states={each.name: str(each.state) for each in readings},
        readings=[each.as_json() for each in readings],
    )


def roll_up(host: str, now: datetime, most: int = 12) -> int:
    """Sum up what is over and not yet summed up, `most` spans at a time; return how many it were.

    To be called until it returns less than `most`.
    """
    done = 0
    for span in SPANS:
        while done < most and (start := _next_span(host, span, now)):
            _write([_summed_up(host, span, start)])
            done += 1
    return done


def _next_span(host: str, span: int, now: datetime) -> datetime | None:
    """Return the first span that is over, has ticks, and is not summed up; None for none."""
    end = _floor(now, span)
    of_host = Snapshot.objects.filter(host=host, at__lt=end)
    last = of_host.filter(span=span).order_by("-at").values_list("at", flat=True).first()
    ticks = of_host.filter(span=RAW)
    if last is not None:
        ticks = ticks.filter(at__gte=last + timedelta(seconds=span))
    first = ticks.order_by("at").values_list("at", flat=True).first()
    return None if first is None else _floor(first, span)


def _summed_up(host: str, span: int, start: datetime) -> Snapshot:
    """Return the row for the ticks of one span; it has no ticks where there were none."""
    ticks = Snapshot.objects.filter(
        host=host, span=RAW, at__gte=start, at__lt=start + timedelta(seconds=span)
    )
    found = list(ticks.values_list("idle", "values", "states"))
    values: dict[str, list[float]] = {}
    states: dict[str, set[str]] = {}
    for _idle, measured, seen in found:
        for name, value in measured.items():
            values.setdefault(name, []).append(value)
        for name, state in seen.items():
            states.setdefault(name, set()).add(state)
    return Snapshot(
        host=host,
        at=start,
        span=span,
        ticks=len(found),
        idle=statistics.fmean(idle for idle, *_rest in found) if found else 0.0,
        values={
            name: [statistics.fmean(each), min(each), max(each)] for name, each in values.items()
        },
        states={name: worst(each) for name, each in states.items()},
    )


def _write(rows: Iterable[Snapshot]) -> None:
    Snapshot.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["span", "at", "host"],
        update_fields=["ticks", "idle", "values", "states"],
    )


def worst(states: Iterable[str]) -> str:
    """Return the worst of some states."""
    return str(max((State(state) for state in states), key=WORSE.index))


def _floor(instant: datetime, span: int) -> datetime:
    seconds = int(instant.timestamp())
    return datetime.fromtimestamp(seconds - seconds % span, UTC)


def prune(host: str, now: datetime, most: int = PER_DELETE) -> int:
    """Delete up to `most` rows that are kept no longer; return how many it were.

    Not to be called while the clock is doubtful. Ticks stay until they are summed up, those of
    other hosts for as long as five minutes do, in case they come back.
    """
    own = Snapshot.objects.filter(host=host)
    unsummed = [start for span in SPANS if (start := _next_span(host, span, now))]
    gone = [
        own.filter(span=RAW, at__lt=min([now - KEPT[RAW], *unsummed])),
        Snapshot.objects.filter(span=RAW, at__lt=now - KEPT[FIVE_MINUTES]),
        *(Snapshot.objects.filter(span=span, at__lt=now - KEPT[span]) for span in SPANS),
        own.filter(at__gt=now + SURELY_FUTURE),  # by a clock that was wrong
    ]
    done = 0
    for rows in gone:
        keys = list(rows.order_by("at").values_list("pk", flat=True)[: most - done])
        if keys:
            done += Snapshot.objects.filter(pk__in=keys).delete()[0]
    # Spans are written in the order of time: the oldest are the first.
    spans = IdleSpan.objects.order_by("pk").values_list("pk", "ended_at")[: most - done]
    old = [pk for pk, ended_at in spans if ended_at and ended_at < now - KEPT[HOUR]]
    return done + IdleSpan.objects.filter(pk__in=old).delete()[0] if old else done


# ── Series ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Point:
    """What a check found from `at` on: mean, least and most, None where nothing was measured.

    `state` is the worst of that time; None in a gap, in which nobody looked.
    """

    at: datetime
    value: float | None = None
    least: float | None = None
    most: float | None = None
    state: str | None = None


@dataclass(frozen=True)
class Series:
    """One check over a time, one point for each `seconds`; a gap has one point without a state."""

    check: str
    seconds: float
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row, whichever span it has."""

    at: datetime
    ticks: int
    values: dict[str, tuple[float, float, float]]
    states: dict[str, str]


def history(  # noqa: PLR0913 - which, from when, to when, how fine: a question has these parts
    check: str | None,
    since: datetime,
    until: datetime,
    *,
    now: datetime,
    points: int = 360,
    host: str | None = None,
) -> dict[str, Series]:
    """Return the series of a check, or with None of all, from `since` to `until` by their names.

    Of single ticks, five minutes or hours, as fits the length and what is still kept; at most
    `points` points each and one more for each gap, thinned so that the least and the most stay.
    Raises LookupError for an unknown check. `host` is by default the one that spoke last.
    """
    names = list(CHECKS) if check is None else [CHECKS[check].name]
    if host is None:
        node = Node.latest()
        host = node.host if node else ""
    length = max((until - since).total_seconds(), 1.0)
    span = _fitting(length, now - since, points)
    usual = span or tick().total_seconds()
    width = max(length / points, usual)
    samples = _samples(host, span, since, until)
    return {name: Series(name, width, _points(name, samples, width, usual)) for name in names}


def _fitting(length: float, age: timedelta, points: int) -> int:
    """Return the longest span that still gives a third of the points, and is still kept."""
    ticks = tick().total_seconds()
    fine = [span for span in (RAW, *SPANS) if length / (span or ticks) >= points / 3] or [RAW]
    kept = [span for span in (RAW, *SPANS) if age <= KEPT[span]] or [HOUR]
    return max(fine[-1], kept[0])


def _samples(host: str, span: int, since: datetime, until: datetime) -> list[_Sample]:
    """Return the rows of a time; of its end, not yet summed up, what the ticks make."""
    of_host = Snapshot.objects.filter(host=host)
    begin = since if span == RAW else _floor(since, span)  # one that reaches in belongs to it
    rows = of_host.filter(span=span, at__gte=begin, at__lte=until).order_by("at")
    found = [_sample(*row) for row in rows.values_list("at", "ticks", "values", "states")]
    if span == RAW:
        return found
    start = found[-1].at + timedelta(seconds=span) if found else begin
    rest = of_host.filter(span=RAW, at__gte=start, at__lte=until).order_by("at")
    for begun in dict.fromkeys(_floor(at, span) for at in rest.values_list("at", flat=True)):
        row = _summed_up(host, span, begun)
        found.append(_sample(row.at, row.ticks, row.values, row.states))
    return found


def _sample(at: datetime, ticks: int, values: dict[str, Any], states: dict[str, str]) -> _Sample:
    measured = {
        name: (value[0], value[1], value[2]) if isinstance(value, list) else (value, value, value)
        for name, value in values.items()
    }
    return _Sample(at, ticks, measured, states)


def _points(name: str, samples: list[_Sample], width: float, usual: float) -> list[Point]:
    """Return points of `width` seconds; a gap is where more than two samples are missing."""
    points: list[Point] = []
    binned: list[_Sample] = []
    for sample in samples:
        if name not in sample.states:
            continue
        # Ticks come a little early or late.
        if binned and (sample.at - binned[0].at).total_seconds() >= width - usual / 2:
            points.append(_point(name, binned))
            silent = (sample.at - binned[-1].at).total_seconds()
            if silent > 2.5 * usual:
                points.append(Point(binned[-1].at + timedelta(seconds=usual)))
            binned = []
        binned.append(sample)
    if binned:
        points.append(_point(name, binned))
    return points


def _point(name: str, samples: list[_Sample]) -> Point:
    measured = [(each.ticks, each.values[name]) for each in samples if name in each.values]
    state = worst(each.states[name] for each in samples)
    if not measured:
        return Point(samples[0].at, state=state)
    ticks = sum(count for count, _value in measured)
    return Point(
        samples[0].at,
        sum(count * value[0] for count, value in measured) / ticks,
        min(value[1] for _count, value in measured),
        max(value[2] for _count, value in measured),
        state,
    )


# ── Where a disk tends ───────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Window:
    """A stretch of the past by which the future is judged, if there is enough of it."""

    length: timedelta
    span: int
    least: timedelta


WINDOWS: Final = (
    Window(timedelta(hours=1), RAW, timedelta(minutes=20)),
    Window(timedelta(days=7), FIVE_MINUTES, timedelta(days=1)),
)
FEWEST: Final = 20  # samples
STEADY: Final = 0.8  # of what the free space varies, the trend must explain so much (R²)
FORESIGHT: Final = 10  # nobody knows what comes after so many times what was seen
GIGABYTE: Final = 1_000_000_000


def filling(host: str, now: datetime) -> float | None:
    """Return by how many bytes a second the disk fills up; None without a clear trend.

    Of the last hour and of the last week, whichever would fill it sooner.
    """
    rates = [rate for window in WINDOWS if (rate := _rate(host, now, window)) is not None]
    return max(rates, default=None)


def _rate(host: str, now: datetime, window: Window) -> float | None:
    rows = Snapshot.objects.filter(
        host=host,
        span=window.span,
        at__gte=now - window.length,
        at__lte=now,
        values__has_key="disk",
    )
    samples = [
        (at.timestamp(), value[0] if isinstance(value, list) else value)
        for at, value in rows.order_by("at").values_list("at", "values__disk")
    ]
    if len(samples) < FEWEST:
        return None
    seen = samples[-1][0] - samples[0][0]
    loss, steadiness = _trend(samples)
    if seen < window.least.total_seconds() or loss <= 0 or steadiness < STEADY:
        return None
    if samples[-1][1] / loss > FORESIGHT * seen:
        return None
    return loss * GIGABYTE


def _trend(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the loss a second by least squares, and which share of the variation it explains."""
    start = samples[0][0]
    times, values = zip(*((at - start, value) for at, value in samples), strict=True)
    if len(set(values)) == 1:
        return 0.0, 0.0
    slope, _ = statistics.linear_regression(times, values)
    fit = statistics.correlation(times, values) ** 2
    return -slope, fit if math.isfinite(fit) else 0.0

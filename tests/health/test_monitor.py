"""Ticks summed up and thinned out, series of them, and where a disk tends."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from daemon_app import monitor
from daemon_app.models import IdleSpan, Node, Snapshot
from daemon_app.models.health import FIVE_MINUTES, HOUR, RAW
from daemon_app.monitor import GIGABYTE, Tick
from daemon_app.readings import Reading, State

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
HOST = "here"

pytestmark = pytest.mark.django_db


def tick(at: datetime, disk: float | None = 50.0, state: State = State.OK, **more) -> Tick:
    return Tick(at, {"disk": Reading("disk", state, disk)}, **more)


def ticks(start: datetime, count: int, *, every: timedelta = 30 * SECOND, disk=None) -> None:
    """Store ticks; `disk` says what is free from their number."""
    free = disk or (lambda _n: 50.0)
    monitor.store(HOST, [tick(start + n * every, free(n)) for n in range(count)])


def rolled(span: int) -> list[Snapshot]:
    return list(Snapshot.objects.filter(span=span).order_by("at"))


def roll_up(now: datetime) -> int:
    total = 0
    while done := monitor.roll_up(HOST, now):
        total += done
    return total


# ── Keeping ──────────────────────────────────────────────────────────────────────────────────────
def test_a_tick_is_kept_whole() -> None:
    reading = Reading("vram", State.HIGH, 91.0, "vram_high", {"used_mb": 1}, "said", 0.5)
    monitor.store(HOST, [Tick(NOON, {"vram": reading, "x": Reading("x", State.DOWN)}, idle=True)])

    kept = Snapshot.objects.get()
    assert (kept.host, kept.at, kept.span, kept.ticks, kept.idle) == (HOST, NOON, RAW, 1, 1.0)
    assert kept.values == {"vram": 91.0}
    assert kept.states == {"vram": "high", "x": "down"}
    assert kept.read()["vram"] == reading


def test_the_same_tick_twice_is_one() -> None:
    monitor.store(HOST, [tick(NOON)])
    monitor.store(HOST, [tick(NOON, 1.0), tick(NOON + SECOND)])

    assert Snapshot.objects.count() == 2
    assert Snapshot.objects.get(at=NOON).values == {"disk": 50.0}


# ── Summing up ───────────────────────────────────────────────────────────────────────────────────
def test_five_minutes_and_an_hour_are_mean_least_most_and_the_worst() -> None:
    monitor.store(
        HOST,
        [
            tick(NOON, 10.0, idle=True),
            tick(NOON + MINUTE, 20.0, State.LOW, idle=False),
            tick(NOON + 2 * MINUTE, None, State.UNKNOWN, idle=None),
            tick(NOON + 6 * MINUTE, 60.0, idle=True),
        ],
    )

    assert roll_up(NOON + 61 * MINUTE) == 3

    first, second = rolled(FIVE_MINUTES)
    assert (first.at, first.ticks, first.values) == (NOON, 3, {"disk": [15.0, 10.0, 20.0]})
    assert first.states == {"disk": "unknown"}
    assert first.idle == pytest.approx(1 / 3)
    assert (second.at, second.values) == (NOON + 5 * MINUTE, {"disk": [60.0, 60.0, 60.0]})
    (hour,) = rolled(HOUR)
    assert (hour.at, hour.ticks, hour.values) == (NOON, 4, {"disk": [30.0, 10.0, 60.0]})


def test_what_is_not_over_is_not_summed_up_and_doing_it_again_changes_nothing() -> None:
    ticks(NOON, 20)  # ten minutes

    assert roll_up(NOON + 9 * MINUTE) == 1
    assert roll_up(NOON + 9 * MINUTE) == 0
    assert roll_up(NOON + 10 * MINUTE) == 1

    assert [(row.at, row.ticks) for row in rolled(FIVE_MINUTES)] == [
        (NOON, 10),
        (NOON + 5 * MINUTE, 10),
    ]


def test_a_downtime_stays_a_gap_and_what_was_before_it_is_summed_up_after_it() -> None:
    ticks(NOON, 3)
    later = NOON + 9 * DAY
    ticks(later, 20)

    roll_up(later + 10 * MINUTE)

    assert [row.at for row in rolled(FIVE_MINUTES)] == [NOON, later, later + 5 * MINUTE]
    assert [row.at for row in rolled(HOUR)] == [NOON]


def test_rows_by_a_clock_that_was_far_ahead_hold_nothing_up() -> None:
    Snapshot.objects.create(host=HOST, at=NOON + 900 * DAY, span=FIVE_MINUTES)
    ticks(NOON, 10)

    assert roll_up(NOON + 5 * MINUTE) == 1


def test_each_host_is_summed_up_for_itself() -> None:
    ticks(NOON, 10)
    monitor.store("there", [tick(NOON, 7.0)])

    assert roll_up(NOON + 5 * MINUTE) == 1
    assert rolled(FIVE_MINUTES)[0].values == {"disk": [50.0, 50.0, 50.0]}


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (["ok", "slow"], "slow"),
        (["low", "unknown", "ok"], "unknown"),
        (["unknown", "down"], "down"),
        (["full", "low"], "full"),
    ],
)
def test_the_worst_state_stands_for_a_span(states, worst) -> None:
    assert monitor.worst(states) == worst


# ── Retention ────────────────────────────────────────────────────────────────────────────────────
def test_ticks_go_after_a_day_five_minutes_after_a_month_hours_after_more_than_a_year() -> None:
    for span, kept in monitor.KEPT.items():
        for age in (kept - 2 * timedelta(hours=1), kept + 2 * timedelta(hours=1)):
            Snapshot.objects.create(host=HOST, at=NOON - age, span=span)
    roll_up(NOON)

    while monitor.prune(HOST, NOON):
        pass

    for span, kept in monitor.KEPT.items():
        assert all(NOON - row.at < kept for row in rolled(span))
    assert len(rolled(RAW)) == 1


def test_no_tick_goes_before_it_is_summed_up() -> None:
    ticks(NOON - 3 * DAY, 20)

    monitor.prune(HOST, NOON)
    assert len(rolled(RAW)) == 20

    roll_up(NOON)
    while monitor.prune(HOST, NOON):
        pass
    assert [row.ticks for row in rolled(FIVE_MINUTES)] == [10, 10]
    assert rolled(RAW) == []


def test_little_is_deleted_at_a_time_the_oldest_first() -> None:
    ticks(NOON - 3 * DAY, 20)
    roll_up(NOON)

    assert monitor.prune(HOST, NOON, most=6) == 6
    assert rolled(RAW)[0].at == NOON - 3 * DAY + 6 * 30 * SECOND


def test_rows_of_the_future_go_and_those_of_hosts_that_are_gone_too() -> None:
    ticks(NOON + DAY, 2)
    monitor.store("gone", [tick(NOON - 31 * DAY), tick(NOON - 2 * DAY)])

    while monitor.prune(HOST, NOON):
        pass

    assert [row.at for row in rolled(RAW)] == [NOON - 2 * DAY]


def test_the_times_of_idleness_go_after_more_than_a_year_a_few_at_a_time() -> None:
    long_ago = NOON - 401 * DAY
    IdleSpan.objects.bulk_create(
        IdleSpan(host=host, idle=True, began_at=long_ago - DAY, ended_at=long_ago)
        for host in (HOST, "gone", HOST)
    )
    kept = [
        IdleSpan.objects.create(
            host=HOST, idle=False, began_at=long_ago, ended_at=NOON - 399 * DAY
        ),
        IdleSpan.objects.create(host=HOST, idle=True, began_at=NOON - 399 * DAY),
    ]

    assert [monitor.prune(HOST, NOON, most=2) for _ in range(3)] == [2, 1, 0]
    assert list(IdleSpan.objects.order_by("pk")) == kept


# ── What is newest ───────────────────────────────────────────────────────────────────────────────
def test_what_a_clock_wrote_that_was_set_back_since_hides_nothing_newer() -> None:
    monitor.store(HOST, [tick(NOON + 120 * MINUTE, 1.0), tick(NOON - 20 * SECOND, 2.0)])

    newest = Snapshot.objects.newest(NOON, HOST)

    assert newest
    assert newest.values == {"disk": 2.0}
    assert newest.is_fresh(NOON, 30 * SECOND)


def test_a_tick_of_the_future_says_nothing_of_now() -> None:
    assert not Snapshot(at=NOON + 10 * MINUTE).is_fresh(NOON, 30 * SECOND)
    assert Snapshot(at=NOON + SECOND).is_fresh(NOON, 30 * SECOND)
    assert not Snapshot(at=NOON - 90 * SECOND).is_fresh(NOON, 30 * SECOND)


# ── Series ───────────────────────────────────────────────────────────────────────────────────────
def series(since: datetime, until: datetime, now: datetime, **wishes) -> monitor.Series:
    return monitor.history("disk", since, until, now=now, host=HOST, **wishes)["disk"]


def test_an_hour_is_told_tick_by_tick() -> None:
    ticks(NOON, 120, disk=float)
    now = NOON + 60 * MINUTE

    told = series(NOON, now, now)

    assert (told.seconds, len(told.points)) == (settings.TICK_SECONDS, 120)
    assert [point.value for point in told.points] == [float(n) for n in range(120)]
    assert {point.state for point in told.points} == {"ok"}


def test_ticks_that_come_a_little_late_are_no_gap_and_none_is_lost() -> None:
    for number in range(40):
        late = timedelta(milliseconds=(number * 37) % 90)
        monitor.store(HOST, [tick(NOON + number * 30 * SECOND + late, float(number))])

    points = series(NOON, NOON + 20 * MINUTE, NOON + 20 * MINUTE).points

    assert [point.value for point in points] == [float(n) for n in range(40)]


def test_a_gap_is_a_point_without_a_state() -> None:
    ticks(NOON, 4)
    ticks(NOON + 30 * MINUTE, 4)
    now = NOON + 60 * MINUTE

    points = series(NOON, now, now).points

    assert [point.state for point in points] == ["ok"] * 4 + [None] + ["ok"] * 4
    gap = points[4]
    assert (gap.at, gap.value, gap.least, gap.most) == (NOON + 2 * MINUTE, None, None, None)


def test_what_could_not_be_measured_has_a_state_and_no_value() -> None:
    monitor.store(HOST, [tick(NOON, None, State.UNKNOWN)])

    (point,) = series(NOON - MINUTE, NOON + MINUTE, NOON + MINUTE).points
    assert (point.value, point.state) == (None, "unknown")


@pytest.mark.parametrize(
    ("length", "every", "most"),
    [
        (timedelta(hours=1), 30, 121),
        (DAY, 300, 290),
        (7 * DAY, 3600, 170),
        (30 * DAY, 7200, 361),
    ],
)
def test_the_longer_the_time_the_longer_the_spans(length, every, most) -> None:
    rows = []
    for span, kept in monitor.KEPT.items():
        step = timedelta(seconds=span or 30)
        count = min(kept, length) // step
        for n in range(count):
            at = monitor._floor(NOON, span or 30) - (n + 1) * step
            value = float(n)
            rows.append(
                Snapshot(
                    host=HOST,
                    at=at,
                    span=span,
                    ticks=max(span // 30, 1),
                    values={"disk": value if span == RAW else [value, value - 1, value + 1]},
                    states={"disk": "ok"},
                )
            )
    Snapshot.objects.bulk_create(rows)

    told = series(NOON - length, NOON, NOON)

    assert told.seconds == every
    assert most - 3 <= len(told.points) <= most
    assert None not in {point.state for point in told.points}


def test_thinned_points_keep_the_least_the_most_and_the_worst() -> None:
    monitor.store(
        HOST,
        [
            *(tick(NOON + n * 30 * SECOND, 50.0) for n in range(100)),
            tick(NOON + 50 * MINUTE, 1.0, State.LOW),
            tick(NOON + 50.5 * MINUTE, 99.0),
        ],
    )

    points = series(NOON, NOON + 51 * MINUTE, NOON + 51 * MINUTE, points=5).points

    assert len(points) <= 6
    assert {1.0} < {point.least for point in points}
    assert {99.0} < {point.most for point in points}
    assert points[-1].state == "low"
    assert points[0].value == pytest.approx(50.0)


def test_the_time_that_is_not_summed_up_yet_is_told_by_its_ticks() -> None:
    ticks(NOON - DAY + MINUTE, 2)
    roll_up(NOON - 60 * MINUTE)
    ticks(NOON - 2 * MINUTE, 4, disk=float)

    points = series(NOON - DAY, NOON, NOON).points

    assert [point.state for point in points] == ["ok", None, "ok"]
    assert (points[-1].value, points[-1].least, points[-1].most) == (1.5, 0.0, 3.0)


def test_a_short_time_long_ago_is_told_by_what_is_still_kept() -> None:
    Snapshot.objects.create(
        host=HOST,
        at=NOON - 100 * DAY,
        span=HOUR,
        ticks=120,
        values={"disk": [5.0, 1.0, 9.0]},
        states={"disk": "ok"},
    )

    since = NOON - 100 * DAY
    (point,) = series(since, since + timedelta(hours=1), NOON).points
    assert (point.value, point.least, point.most) == (5.0, 1.0, 9.0)


def test_all_checks_are_told_of_the_host_that_spoke_last() -> None:
    Node.objects.create(host=HOST, pid=1, started_at=NOON, seen_at=NOON)
    ticks(NOON, 2)

    told = monitor.history(None, NOON, NOON + MINUTE, now=NOON + MINUTE)

    assert list(told) == ["gpu_service", "ollama", "vram", "disk", "active_users"]
    assert len(told["disk"].points) == 2
    assert told["vram"].points == []


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(LookupError, match="disk"):
        monitor.history("disc", NOON, NOON, now=NOON)


# ── Where a disk tends ───────────────────────────────────────────────────────────────────────────
def test_a_disk_that_fills_steadily_within_the_hour_has_a_rate() -> None:
    ticks(NOON - 60 * MINUTE, 120, disk=lambda n: 50.0 - n / 10)

    rate = monitor.filling(HOST, NOON)

    assert rate == pytest.approx(GIGABYTE / 10 / 30, rel=0.01)


def test_a_disk_that_fills_steadily_for_days_has_a_rate() -> None:
    Snapshot.objects.bulk_create(
        Snapshot(
            host=HOST,
            at=NOON - 6 * DAY + n * 5 * MINUTE,
            span=FIVE_MINUTES,
            values={"disk": [30.0 - n / 288 + (n % 7) / 20, 0.0, 0.0]},
            states={"disk": "ok"},
        )
        for n in range(6 * 288)
    )

    assert monitor.filling(HOST, NOON) == pytest.approx(GIGABYTE / 86_400, rel=0.05)


@pytest.mark.parametrize(
    ("count", "disk"),
    [
        (120, lambda _n: 50.0),  # still
        (120, lambda n: 50.0 + n / 10),  # emptied
        (120, lambda n: 50.0 - (n % 30) / 10),  # filled and emptied in turns
        (30, lambda n: 50.0 - n / 10),  # seen for a quarter of an hour only
        (120, lambda n: 5000.0 - n / 1000),  # it would take for ever
        (120, lambda n: 50.0 - (10.0 if n > 100 else 0.0)),  # one big file
        (0, lambda _n: 50.0),
    ],
)
def test_without_a_clear_trend_nothing_is_foretold(count, disk) -> None:
    ticks(NOON - 60 * MINUTE, count, disk=disk)

    assert monitor.filling(HOST, NOON) is None

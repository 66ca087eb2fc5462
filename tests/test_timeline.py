"""The geometry of the timeline: where bars stand, and that they stay few however many runs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import timeline
from daemon_app.timeline import Axis, Slice

HOUR = 3600.0
DAY = Axis(0, 18 * HOUR, 12 * HOUR)


def ran(begun: float, ended: float, outcome: str = "ok", run: int = 1) -> Slice:
    return Slice(begun * HOUR, ended * HOUR, outcome, run)


# ── The axis ─────────────────────────────────────────────────────────────────────────────────────
def test_the_axis_begins_at_a_whole_step_and_does_not_move_with_every_second() -> None:
    one, two = (
        Axis.around(now, back=12 * HOUR, length=18 * HOUR, step=HOUR)
        for now in (14.1 * HOUR, 14.9 * HOUR)
    )

    assert one.start == two.start == 3 * HOUR
    assert one.end == 21 * HOUR
    assert one.x(one.now) < two.x(two.now)


def test_what_lies_beyond_the_axis_is_at_its_ends() -> None:
    assert DAY.x(-5) == 0
    assert DAY.x(9 * HOUR) == 50
    assert DAY.x(99 * HOUR) == 100


# ── Bars ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_bar_is_as_long_as_the_run_took_but_never_too_short_to_be_seen() -> None:
    long, short = timeline.bars([ran(0, 9), ran(12, 12.0001)], DAY)

    assert (long.x, long.width) == (0, 50)
    assert short.width == timeline.LEAST
    assert short.is_tick


def test_a_run_that_began_before_the_axis_is_shown_from_its_beginning() -> None:
    (bar,) = timeline.bars([ran(-6, 9)], DAY)

    assert (bar.x, bar.width) == (0, 50)


def test_what_is_not_on_the_axis_is_not_drawn() -> None:
    assert timeline.bars([ran(-3, -1), ran(18, 19)], DAY) == []


def test_a_bar_at_the_very_end_is_still_seen() -> None:
    (bar,) = timeline.bars([ran(17.9999, 19)], DAY)

    assert bar.end == pytest.approx(100)
    assert bar.width == timeline.LEAST


def test_ticks_that_would_touch_become_one_bar_which_knows_them_all() -> None:
    (bar,) = timeline.bars([ran(n / 60, n / 60 + 0.01, run=n) for n in range(30)], DAY)

    assert bar.is_many
    assert [each.run for each in bar.slices] == list(range(30))
    assert bar.width == pytest.approx(DAY.x(29.6 / 60 * HOUR), abs=0.3)


def test_ticks_with_room_between_them_stay_apart() -> None:
    drawn = timeline.bars([ran(n / 2, n / 2 + 0.01) for n in range(24)], DAY)

    assert len(drawn) == 24


def test_long_runs_in_a_row_are_bars_of_their_own() -> None:
    assert len(timeline.bars([ran(n, n + 0.999) for n in range(6)], DAY)) == 6


def test_a_failure_among_many_good_runs_is_a_bar_of_its_own_above_them() -> None:
    good = [ran(n / 60, n / 60 + 0.01, run=n + 1) for n in range(60)]
    bad = ran(0.5, 0.51, "fail", 99)

    drawn = timeline.bars([*good, bad], DAY)

    assert [bar.outcome for bar in drawn] == ["ok", "fail"]
    assert [each.run for each in drawn[1].slices] == [99]


def test_what_runs_is_never_part_of_another_bar() -> None:
    drawn = timeline.bars([ran(12 - n / 99, 12, "run", n) for n in range(1, 4)], DAY)

    assert [bar.is_many for bar in drawn] == [False] * 3


@given(
    st.lists(
        st.tuples(
            st.floats(-20, 40), st.floats(0, 30), st.sampled_from(["ok", "fail", "planned", "run"])
        ),
        max_size=200,
    )
)
def test_every_bar_is_on_the_axis_and_each_slice_is_in_one_of_them(
    found: list[tuple[float, float, str]],
) -> None:
    slices = [ran(at, at + length, how, n) for n, (at, length, how) in enumerate(found)]

    drawn = timeline.bars(slices, DAY)

    assert all(bar.x >= 0 and bar.end <= 100.0001 for bar in drawn)
    assert all(bar.width >= timeline.LEAST - 1e-9 for bar in drawn)
    shown = [each.run for bar in drawn for each in bar.slices]
    assert len(shown) == len(set(shown))
    assert all(one.x <= two.x for one, two in pairwise(drawn))


@pytest.mark.parametrize("every", [0.01, 0.05, 0.1, 0.2, 1.0])
def test_a_lane_has_a_bounded_number_of_bars_however_often_a_job_runs(every: float) -> None:
    count = int(18 / every)
    slices = [ran(n * every, n * every + 0.001, run=n) for n in range(count)]

    assert len(timeline.bars(slices, DAY)) <= 100 / (timeline.LEAST + timeline.APART) + 1


# ── What joins and fills ─────────────────────────────────────────────────────────────────────────
def test_a_bridge_leaves_and_reaches_its_bars_with_a_little_room() -> None:
    found = timeline.bridge(3 * HOUR, 9 * HOUR, DAY)

    assert found is not None
    assert found.x == pytest.approx(100 / 6 + timeline.ROOM)
    assert found.end == pytest.approx(50 - timeline.ROOM)


def test_a_pause_too_short_to_be_seen_has_no_bridge() -> None:
    assert timeline.bridge(3 * HOUR, 3 * HOUR + 60, DAY) is None
    assert timeline.bridge(-9 * HOUR, -8 * HOUR, DAY) is None


def test_spans_that_touch_are_one_stretch_and_short_ones_are_seen() -> None:
    spans = [(0, HOUR), (HOUR, 2 * HOUR), (9 * HOUR, 9 * HOUR + 1), (-5 * HOUR, -HOUR)]

    one, two = timeline.stretches(spans, DAY, 0.2)

    assert one.x == 0
    assert one.end == pytest.approx(100 / 9)
    assert (two.x, two.width) == (50, 0.2)


def test_what_is_not_known_is_what_lies_between() -> None:
    known = timeline.stretches([(3 * HOUR, 6 * HOUR), (7 * HOUR, 12 * HOUR)], DAY, 0.2)

    found = timeline.gaps(known, DAY.x(DAY.now))

    assert [(round(each.x), round(each.end)) for each in found] == [(0, 17), (33, 39)]
    assert timeline.gaps([], 50) == [timeline.Stretch(0, 50)]


def test_places_are_short() -> None:
    assert timeline.place(12.5) == "12.5%"
    assert timeline.place(0) == "0%"
    assert timeline.place(100 / 3) == "33.333%"

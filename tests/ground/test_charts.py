"""Charts: scales, times, gaps and paths, without a database and without a page."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import charts
from daemon_app.charts import Frame, Row, Scale

BERLIN = ZoneInfo("Europe/Berlin")
PERCENT = Scale(0, 100)
TICK = 30.0


def rows(*values: float | None, tick: float = TICK, start: float = 0.0) -> list[Row]:
    """Return one row for each value; None is a tick that measured nothing."""
    return [
        Row(start + n * tick, 0, 1, {} if value is None else {"vram": (value, value, value)})
        for n, value in enumerate(values)
    ]


def points_of(path: str) -> list[tuple[int, int]]:
    """Return the corners a path of M and l goes through."""
    found: list[tuple[int, int]] = []
    for letter, x, y in re.findall(r"([Ml])(-?\d+) (-?\d+)", path):
        last = found[-1] if found and letter == "l" else (0, 0)
        found.append((last[0] + int(x), last[1] + int(y)))
    return found


# ── Scales ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, (0, 50, 100)),
        (0, 84, (0, 50, 100)),
        (0, 184, (0, 50, 100, 150, 200)),
        (0, 0.9, (0.0, 0.5, 1.0)),
        (411.2, 418.9, (410, 412, 414, 416, 418, 420)),
        (-3, 3, (-4, -2, 0, 2, 4)),
    ],
)
def test_a_scale_has_round_steps_and_holds_its_values(
    low: float, high: float, ticks: tuple[float, ...]
) -> None:
    found = charts.scale(low, high)

    assert found.ticks == ticks
    assert found.low <= low <= high <= found.high


def test_a_scale_of_people_counts_whole_ones() -> None:
    assert charts.scale(0, 1, whole=True).ticks == (0, 1)
    assert charts.scale(0, 3, whole=True).ticks == (0, 1, 2, 3)


def test_a_value_that_never_changes_has_room_around_it() -> None:
    found = charts.scale(412, 412)

    assert found.low <= 412 < found.high
    assert charts.scale(0, 0).high > 0


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_any_two_values_make_a_scale_of_few_steps(one: float, other: float) -> None:
    low, high = sorted((one, other))

    found = charts.scale(low, high)

    assert 2 <= len(found.ticks) <= 8
    assert found.low < found.high


def test_a_value_beyond_the_scale_stays_in_the_picture() -> None:
    assert PERCENT.y(140) == 0
    assert PERCENT.y(-1) == charts.HEIGHT
    assert PERCENT.y(80) == 200


# ── Time axes ────────────────────────────────────────────────────────────────────────────────────
TENS = ["14:40", "14:50", "15:00", "15:10", "15:20", "15:30"]
SPRING = ["00:00", "01:00", "03:00", "04:00", "05:00", "06:00"]


def clocks(start: datetime, hours: float, most: int = 8) -> list[str]:
    begun = start.timestamp()
    found = charts.instants(begun, begun + hours * 3600, BERLIN, most)
    return [f"{at:%d %H:%M}" for at in found]


def test_a_day_is_divided_by_the_clock_of_who_looks() -> None:
    start = datetime(2026, 11, 23, 14, 32, tzinfo=BERLIN)

    assert clocks(start, 24) == [
        *("23 15:00", "23 18:00", "23 21:00", "24 00:00"),
        *("24 03:00", "24 06:00", "24 09:00", "24 12:00"),
    ]


def test_an_hour_is_divided_by_ten_minutes_and_a_month_by_days() -> None:
    start = datetime(2026, 11, 23, 14, 32, tzinfo=BERLIN)

    assert clocks(start, 1) == [
        f"23 {at}" for at in ["14:40", "14:50", "15:00", "15:10", "15:20", "15:30"]
    ]
    assert all(at.endswith("00:00") for at in clocks(start, 30 * 24))
    assert 4 <= len(clocks(start, 30 * 24)) <= 8
    assert len(clocks(start, 7 * 24)) == 7


def test_the_hour_that_does_not_exist_is_left_out_and_the_rest_stand_on_the_hour() -> None:
    start = datetime(2027, 3, 28, 0, 0, tzinfo=BERLIN)

    assert clocks(start, 5) == [
        f"28 {at}" for at in ["00:00", "01:00", "03:00", "04:00", "05:00", "06:00"]
    ]


def test_the_hour_that_comes_twice_stands_there_twice() -> None:
    start = datetime(2026, 10, 25, 0, 0, tzinfo=BERLIN)

    found = charts.instants(start.timestamp(), start.timestamp() + 5 * 3600, BERLIN)

    assert [f"{at:%H:%M}" for at in found] == ["00:00", "01:00", "02:00", "02:00", "03:00", "04:00"]
    apart = [(b.timestamp() - a.timestamp()) / 3600 for a, b in pairwise(found)]
    assert apart == [1, 1, 1, 1, 1]


def test_the_day_clocks_are_set_is_as_wide_as_it_lasts() -> None:
    start = datetime(2027, 3, 27, 0, 0, tzinfo=BERLIN).timestamp()
    found = charts.instants(start, start + 7 * 86_400, BERLIN)

    apart = [(b.timestamp() - a.timestamp()) / 3600 for a, b in pairwise(found)]

    assert sorted(set(apart)) == [23, 24]


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────
def test_few_rows_stay_as_they_are() -> None:
    few = rows(1, 2, 3)

    assert charts.thin(few, 0, 3600, 240) == few


def test_many_rows_become_few_and_keep_their_extremes() -> None:
    many = rows(*range(2880))

    found = charts.thin(many, 0, 86_400, 240)

    assert len(found) == 240
    assert sum(row.weight for row in found) == 2880
    assert [*found[0].values["vram"]] == [5.5, 0, 11]
    assert found[-1].values["vram"][2] == 2879


def test_a_mean_of_means_knows_how_many_each_stands_for() -> None:
    hour = Row(1800, 3600, 120, {"vram": (10, 0, 20)})
    single = Row(3610, 0, 1, {"vram": (90, 90, 90)})
    rest = rows(*[50] * 8, start=7200)

    found = charts.thin([hour, single, *rest], 0, 7440, 2)

    assert found[0].values["vram"][0] == pytest.approx((120 * 10 + 90) / 121)
    assert found[0].values["vram"][1:] == (0, 90)


# ── Drawings ─────────────────────────────────────────────────────────────────────────────────────
def test_nothing_measured_draws_nothing_but_that() -> None:
    found = charts.draw([], "vram", Frame(0, 3600, PERCENT), 75)

    assert (found.line, found.band, found.area) == ("", "", "")
    assert found.unknown == "M0 1000H1000"


def test_a_single_measurement_is_a_dot() -> None:
    found = charts.draw(rows(50, start=1800), "vram", Frame(0, 3600, PERCENT), 75)

    assert found.line == "M500 500h0"
    assert found.area == ""


def test_a_value_that_never_changes_is_one_stroke() -> None:
    found = charts.draw(rows(*[50] * 121), "vram", Frame(0, 3600, PERCENT), 75)

    assert found.line == "M0 500l1000 0"
    assert found.unknown == ""
    assert found.band == ""


def test_no_line_crosses_a_gap() -> None:
    before, after = rows(10, 20), rows(80, 90, start=1800)

    found = charts.draw([*before, *after], "vram", Frame(0, 3600, PERCENT), 75)

    assert found.line.count("M") == 2
    assert points_of(found.line) == [(0, 900), (8, 800), (500, 200), (508, 100)]
    assert found.unknown == "M8 1000H500M508 1000H1000"


def test_a_tick_that_measured_nothing_parts_the_line() -> None:
    found = charts.draw(rows(10, 20, None, 30), "vram", Frame(0, 90, PERCENT), 75)

    assert found.line == "M0 900l333 -100M1000 700h0"


def test_one_late_tick_is_no_gap() -> None:
    late = [*rows(10, 20), *rows(30, start=90)]

    found = charts.draw(late, "vram", Frame(0, 90, PERCENT), 75)

    assert found.line.count("M") == 1


def test_hours_and_ticks_meet_without_a_gap() -> None:
    hour = Row(1800, 3600, 120, {"vram": (40, 10, 70)})

    found = charts.draw([hour, *rows(40, 40, start=3620)], "vram", Frame(0, 3650, PERCENT), 75)

    assert found.line.count("M") == 1
    assert found.unknown == ""


def test_the_band_goes_from_the_most_to_the_least() -> None:
    wide = [Row(n * 300.0 + 150, 300, 10, {"vram": (50, 40, 60 + n)}) for n in range(2)]

    found = charts.draw(wide, "vram", Frame(0, 600, PERCENT), 75)

    assert points_of(found.band) == [(250, 400), (750, 390), (750, 600), (250, 600)]
    assert found.band.endswith("z")


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=400))
def test_whatever_was_measured_stays_inside_and_whole(values: list[float | None]) -> None:
    found = charts.draw(rows(*values), "vram", Frame(0, 400 * TICK, PERCENT), 75)

    for x, y in points_of(found.line):
        assert 0 <= x <= charts.WIDTH
        assert 0 <= y <= charts.HEIGHT
    assert "." not in found.line + found.band + found.area + found.unknown
    assert found.line.count("M") == sum(
        value is not None and (n == 0 or values[n - 1] is None) for n, value in enumerate(values)
    )


def test_a_month_of_wild_values_is_a_few_kilobytes() -> None:
    wild = rows(*[(n * 37) % 100 for n in range(2880)])
    few = charts.thin(wild, 0, 86_400, 240)

    found = charts.draw(few, "vram", Frame(0, 86_400, PERCENT), 75)

    assert len(points_of(found.line)) <= 241
    assert len(found.line + found.band) < 8000


# ── Shading ──────────────────────────────────────────────────────────────────────────────────────
def test_times_that_touch_are_one_stripe_and_a_moment_can_be_seen() -> None:
    frame = Frame(0, 1000)

    assert charts.stripes([(0, 100), (100, 200), (500, 500)], frame) == (
        "M0 0h200v1000h-200zM500 0h2v1000h-2z"
    )


def test_what_lies_outside_is_not_drawn_and_what_reaches_in_is_cut() -> None:
    frame = Frame(1000, 2000)

    assert charts.stripes([(0, 500), (900, 1100), (1900, 9000), (3000, 4000)], frame, 900, 100) == (
        "M0 900h100v100h-100zM900 900h100v100h-100z"
    )


def test_times_are_taken_as_instants() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()

    assert Frame(noon - 60, noon + 60).x(noon) == 500

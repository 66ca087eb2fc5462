"""What differences between clocks tell: steps, sleep, standstill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app.clock import Watch
from tests.clocks import Fake


def told(watch: Watch) -> list[tuple[str, int]]:
    return [(change.code, round(change.seconds)) for change in watch.look()]


def test_time_that_just_passes_is_nothing_to_tell() -> None:
    clock = Fake()
    watch = Watch(clock)
    for _ in range(100):
        clock.passes(10)

        assert told(watch) == []


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(86_400, "clock_forward"), (3, "clock_forward"), (-3, "clock_back"), (-18_000, "clock_back")],
)
def test_a_clock_that_was_set_is_told_once(seconds: float, code: str) -> None:
    clock = Fake()
    watch = Watch(clock)
    clock.passes(5)
    clock.time += seconds

    assert told(watch) == [(code, seconds)]
    clock.passes(5)
    assert told(watch) == []


def test_sleep_is_no_step_and_no_standstill() -> None:
    clock = Fake()
    watch = Watch(clock)
    clock.time += 7200
    clock.up += 7200
    clock.awake += 4

    assert told(watch) == [("asleep", 7196)]


def test_a_stopped_process_stood_still() -> None:
    clock = Fake()
    watch = Watch(clock)
    clock.passes(120)

    assert told(watch) == [("stalled", 120)]


def test_a_clock_set_during_sleep_is_told_apart_from_it() -> None:
    clock = Fake()
    watch = Watch(clock)
    clock.up += 3600
    clock.time += 3600 - 600

    assert told(watch) == [("asleep", 3600), ("clock_back", -600)]


def test_a_clock_brought_into_step_slowly_is_never_told() -> None:
    clock = Fake()
    watch = Watch(clock)
    for _ in range(2000):
        clock.passes(10)
        clock.time += 0.005

        assert told(watch) == []


def test_a_clock_that_runs_away_is_told_before_it_is_far_off() -> None:
    clock = Fake()
    watch = Watch(clock)
    found = []
    for _ in range(20):
        clock.passes(1)
        clock.time += 0.5
        found += told(watch)

    assert sum(seconds for _code, seconds in found) in range(7, 11)


@given(st.lists(st.floats(-1e9, 1e9).filter(lambda s: abs(s) > 3), max_size=20))
def test_every_step_is_told_with_its_length(steps: list[float]) -> None:
    clock = Fake()
    watch = Watch(clock)
    found = []
    for step in steps:
        clock.passes(1)
        clock.time += step
        found += [change.seconds for change in watch.look()]

    assert found == pytest.approx(steps, abs=0.1)

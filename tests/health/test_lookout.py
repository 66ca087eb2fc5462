"""All checks at once: none waits for another, and nobody for one that hangs."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon_app.checks import Check, Context
from daemon_app.checks.lookout import Lookout
from daemon_app.models import Policy
from daemon_app.readings import Reading, State

CONTEXT = Context(datetime(2026, 11, 24, 12, tzinfo=UTC), Policy(), Path("/nowhere"))
LONG = 60.0  # seconds that no test waits for


class Hanging:
    """A check that hangs until it is let go, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()

    def __call__(self, _context: Context) -> Reading:
        self.calls += 1
        self.go.wait(LONG)
        return Reading("hanging", State.OK, self.calls)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.go.set()


def well(_context: Context) -> Reading:
    return Reading("well", State.OK, 1.0, facts={"a": 1})


def lookout(**looks) -> Lookout:
    seconds = {"hanging": 0.05}
    return Lookout({n: Check(n, look, seconds.get(n, LONG)) for n, look in looks.items()})


def test_one_that_hangs_costs_its_own_reading_and_nobody_waits_for_it(hanging: Hanging) -> None:
    readings = lookout(hanging=hanging, well=well).look(CONTEXT, LONG)

    assert not hanging.go.is_set(), "it still hangs"
    assert list(readings) == ["hanging", "well"]
    assert (readings["well"].state, readings["well"].value) == (State.OK, 1.0)
    reading = readings["hanging"]
    assert (reading.state, reading.code) == (State.UNKNOWN, "check_no_answer")
    assert dict(reading.facts) == {"seconds": 0.1}


def test_while_it_hangs_it_is_not_called_again_and_afterwards_it_is(hanging: Hanging) -> None:
    watch = lookout(hanging=hanging)

    watch.look(CONTEXT, LONG)
    more = [watch.look(CONTEXT, LONG)["hanging"] for _ in range(50)]

    assert hanging.calls == 1
    assert [each.name for each in threading.enumerate()].count("check-hanging") == 1
    assert {reading.code for reading in more} == {"check_hangs"}

    hanging.go.set()
    while watch.look(CONTEXT, LONG)["hanging"].state is not State.OK:
        pass
    assert hanging.calls == 2


def test_a_round_waits_no_longer_than_it_may_whatever_a_check_may(hanging: Hanging) -> None:
    watch = Lookout({"hanging": Check("hanging", hanging, LONG)})

    reading = watch.look(CONTEXT, 0.05)["hanging"]

    assert not hanging.go.is_set()
    assert reading.code == "check_no_answer"


def test_checks_run_at_the_same_time() -> None:
    # Each comes back only when the other has begun.
    together = threading.Barrier(2)

    def meet(name: str) -> Check:
        def look(_context: Context) -> Reading:
            together.wait(20)
            return Reading(name, State.OK)

        return Check(name, look, LONG)

    readings = Lookout({"a": meet("a"), "b": meet("b")}).look(CONTEXT, LONG)

    assert [reading.state for reading in readings.values()] == [State.OK, State.OK]


def test_one_that_raises_is_unknown_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_context: Context) -> Reading:
        raise RuntimeError("no such thing")

    watch = lookout(broken=broken, well=well)
    with caplog.at_level(logging.ERROR):
        readings = [watch.look(CONTEXT, LONG) for _ in range(3)]

    for each in readings:
        assert (each["broken"].state, each["broken"].code) == (State.UNKNOWN, "check_failed")
        assert each["broken"].said == "no such thing"
        assert each["well"].state is State.OK
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "reading",
    [
        Reading("odd", State.OK, float("nan")),
        Reading("odd", State.OK, 1.0, facts={"x": float("inf")}),
        Reading("odd", State.OK, 1.0, facts={"x": object()}),
        Reading("odd", State.OK, 1.0, facts={"x": "y" * 1_000_000}),
        Reading("odd", State.OK, 1.0, facts={"x": "a\0b"}),
        Reading("odd", State.OK, 1.0, facts={"x": "\ud800"}),
        Reading("another", State.OK, 1.0),
        None,
    ],
)
def test_what_can_t_be_kept_is_a_failure_of_that_check(reading) -> None:
    found = lookout(odd=lambda _context: reading, well=well).look(CONTEXT, LONG)

    assert (found["odd"].state, found["odd"].code) == (State.UNKNOWN, "check_failed")
    assert found["well"].state is State.OK


def test_closing_ends_a_round_at_once(hanging: Hanging) -> None:
    watch = Lookout({"hanging": Check("hanging", hanging, LONG)})
    rounds: list[dict[str, Reading]] = []
    thread = threading.Thread(target=lambda: rounds.append(watch.look(CONTEXT, LONG)))
    thread.start()

    watch.close()
    thread.join(20)

    assert rounds == [{}]
    assert not hanging.go.is_set()

"""Who may start now, and why the others wait."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import admission, scheduler
from daemon_app.admission import Candidate, Room
from daemon_app.models import Node, Policy, Pool, Run
from tests.jobs import NOON, job, run

MINUTE = timedelta(minutes=1)
SOON = NOON + MINUTE


def candidate(run_id: int, job_id: int | None = None, limit: int = 1, **pools: int) -> Candidate:
    return Candidate(
        run_id, run_id if job_id is None else job_id, (True, 0, 0, 0.0, run_id), limit, pools
    )


def started(room: Room, *line: Candidate) -> list[int]:
    return [each.run_id for each in admission.admit(room, line)]


# ── The rules ────────────────────────────────────────────────────────────────────────────────────
def test_as_many_start_as_there_are_places() -> None:
    room = Room(2, {})

    assert started(room, *map(candidate, [1, 2, 3])) == [1, 2]
    room.release(1, {})
    assert started(room, candidate(3)) == [3]


def test_a_pool_takes_weights_and_others_pass_a_run_that_waits_for_it() -> None:
    room = Room(9, {"gpu": 2})

    line = [candidate(1, gpu=1), candidate(2, gpu=2), candidate(3)]

    assert started(room, *line) == [1, 3]


def test_smaller_runs_do_not_keep_one_waiting_that_needs_a_whole_pool() -> None:
    room = Room(9, {"gpu": 2})
    room.occupy(7, {"gpu": 1})

    assert started(room, candidate(1, gpu=2), candidate(2, gpu=1)) == []
    room.release(7, {"gpu": 1})
    assert started(room, candidate(1, gpu=2), candidate(2, gpu=1)) == [1]


def test_a_run_that_can_never_start_keeps_nobody_waiting() -> None:
    room = Room(9, {"gpu": 1})

    assert started(room, candidate(1, gpu=2), candidate(2, gpu=1), candidate(3, tape=1)) == [2]


def test_a_job_runs_as_often_at_once_as_it_may() -> None:
    room = Room(9, {})

    line = [candidate(n, job_id=5, limit=2) for n in (1, 2, 3)]

    assert started(room, *line) == [1, 2]


def test_nothing_starts_while_everything_is_held() -> None:
    assert started(Room(9, {}, held="anna"), candidate(1)) == []


needs = st.dictionaries(st.sampled_from(["gpu", "llm", "disk"]), st.integers(1, 4), max_size=3)
rules = st.lists(st.tuples(st.integers(1, 3), needs), min_size=1, max_size=5)  # of each job


@given(
    rules,
    st.lists(st.integers(0, 9), max_size=30),
    st.integers(1, 6),
    st.dictionaries(st.sampled_from(["gpu", "llm"]), st.integers(1, 4)),
)
def test_whatever_waits_no_limit_is_passed_and_nobody_is_left_out_for_nothing(
    jobs: list[tuple[int, dict[str, int]]], wanted: list[int], parallel: int, sizes: dict[str, int]
) -> None:
    room = Room(parallel, sizes)
    line = []
    for n, any_job in enumerate(wanted, 1):
        job_id = any_job % len(jobs)
        limit, pools = jobs[job_id]
        line.append(candidate(n, job_id, limit, **pools))

    chosen = list(admission.admit(room, line))

    taken = Counter[str]()
    for each in chosen:
        taken.update(each.pools)
    assert len(chosen) <= parallel
    assert all(taken[pool] <= sizes.get(pool, 0) for pool in taken)
    for of in {each.job_id for each in chosen}:
        ours = [each for each in chosen if each.job_id == of]
        assert len(ours) <= max(each.limit for each in ours)
    # Who was left out, was so for a reason that still holds.
    reserved: set[str] = set()
    assert all(room.judge(each, reserved) for each in line if each not in chosen)


# ── What people are told ─────────────────────────────────────────────────────────────────────────
pytestmark = pytest.mark.django_db


@pytest.fixture
def _alive() -> None:
    Node.objects.create(host="here", pid=1, started_at=NOON, seen_at=SOON)


def told() -> list[tuple[int, int | None, str]]:
    return [(each.run.pk, each.position, each.code) for each in admission.line(SOON)]


@pytest.mark.usefixtures("_alive")
def test_the_line_tells_each_place_and_reason() -> None:
    Pool(name="gpu", size=1).store(now=NOON, by="anna")
    trains = job("trains", pools={"gpu": 1})
    busy = run(trains, state=Run.State.RUNNING, pools={"gpu": 1})
    other = run(job("other", pools={"gpu": 1}), pools={"gpu": 1})
    free = run(job("free"))
    again = run(trains, pools={"gpu": 1})
    urgent = run(job("urgent"), priority=10)
    later = run(job("later"), attempt=2, not_before=SOON + MINUTE)

    assert told() == [
        (urgent.pk, 1, "waits_starting"),
        (other.pk, 2, "waits_pool"),
        (free.pk, 3, "waits_starting"),
        (again.pk, 4, "waits_overlap"),
        (later.pk, None, "waits_retry"),
    ]
    with translation.override("en"):
        assert str(busy.pk) in admission.line(SOON)[3].sentence
        assert "gpu" in admission.line(SOON)[1].sentence


@pytest.mark.usefixtures("_alive")
def test_what_waits_for_a_place_says_how_many_there_are() -> None:
    Policy(max_parallel=1).store(now=NOON, by="anna")
    run(state=Run.State.RUNNING)
    waits = run()

    found = admission.waiting(waits, SOON)

    assert found is not None
    assert (found.code, found.facts) == ("waits_slots", {"n": 1})


def test_without_a_daemon_the_line_says_what_it_waits_for() -> None:
    waits = run()

    assert told() == [(waits.pk, 1, "waits_daemon")]


@pytest.mark.usefixtures("_alive")
def test_what_is_held_says_by_whom() -> None:
    waits = run()
    scheduler.hold("drain", by="anna", now=NOON)

    found = admission.waiting(waits, SOON)

    assert found is not None
    assert "anna" in found.sentence


def test_a_run_that_runs_waits_for_nothing() -> None:
    assert admission.waiting(run(state=Run.State.RUNNING), SOON) is None


# ── A person's hand ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("moved", "to", "then"),
    [
        (3, "first", [3, 0, 1, 2]),
        (2, "up", [0, 2, 1, 3]),
        (0, "down", [1, 0, 2, 3]),
        (0, "last", [1, 2, 3, 0]),
    ],
)
def test_a_waiting_run_is_given_another_place(moved: int, to: str, then: list[int]) -> None:
    runs = [run(priority=-n) for n in range(4)]

    assert scheduler.move(runs[moved], to, by="anna", now=SOON)

    assert [each.run.pk for each in admission.line(SOON)] == [runs[n].pk for n in then]


def test_moves_one_after_another_end_where_the_hand_left_them() -> None:
    a, b, c, d = (run() for _ in range(4))

    for moved, to in [(d, "first"), (b, "up"), (a, "last"), (c, "first"), (d, "down")]:
        scheduler.move(moved, to, by="anna", now=SOON)
    urgent = run(priority=100)

    assert [each.run.pk for each in admission.line(SOON)] == [
        each.pk for each in (c, b, d, a, urgent)
    ]


def test_who_is_there_already_or_does_not_wait_is_not_moved() -> None:
    first, runs = run(), run(state=Run.State.RUNNING)

    assert not scheduler.move(first, "up", by="anna", now=SOON)
    assert not scheduler.move(runs, "first", by="anna", now=SOON)

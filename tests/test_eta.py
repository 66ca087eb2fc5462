"""How much longer a run will take: by its own progress, else by what is usual for its job."""

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from daemon_app.models import Job, Run
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def ended(of: Job, seconds: float, state: str = Run.State.SUCCEEDED) -> Run:
    return run(of, state=state, started_at=NOON, ended_at=NOON + timedelta(seconds=seconds))


def running(**fields: Any) -> Run:
    return run(state=Run.State.RUNNING, started_at=NOON, **fields)


def test_progress_says_how_much_is_left() -> None:
    assert running(progress=25).eta(NOON + MINUTE, None) == 3 * MINUTE
    assert running(progress=100).eta(NOON + MINUTE, 9 * MINUTE) == timedelta(0)


def test_the_first_steps_tell_less_than_what_is_usual() -> None:
    soon = timedelta(seconds=9)

    assert running(progress=1).eta(NOON + MINUTE, 3 * MINUTE) == 2 * MINUTE
    assert running(progress=1).eta(NOON + MINUTE, None) is None
    assert running(progress=50).eta(NOON + soon, MINUTE) == MINUTE - soon
    assert running(progress=2).eta(NOON + MINUTE, None) == 49 * MINUTE


def test_without_progress_what_is_usual_says_it() -> None:
    assert running().eta(NOON + MINUTE, 3 * MINUTE) == 2 * MINUTE
    assert running(progress=0).eta(NOON + MINUTE, 3 * MINUTE) == 2 * MINUTE


def test_nobody_knows_without_either_or_beyond_what_is_usual() -> None:
    assert running().eta(NOON + MINUTE, None) is None
    assert running().eta(NOON + 3 * MINUTE, 2 * MINUTE) is None


def test_a_run_that_waits_has_ended_or_is_being_stopped_has_none() -> None:
    there = job()

    assert run(there).eta(NOON + MINUTE, 3 * MINUTE) is None
    assert ended(there, 5).eta(NOON, 3 * MINUTE) is None
    assert running(stop_requested_at=NOON).eta(NOON + MINUTE, 3 * MINUTE) is None


def test_usual_is_the_median_of_the_last_twenty_that_succeeded(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    there = job()
    for _n in range(11):
        ended(there, 1000)
    for _n in range(9):
        ended(there, 1)
    for _n in range(11):
        ended(there, 10)
    for _n in range(5):
        ended(there, 5000, state=Run.State.FAILED)
    other, new = job("other"), job("new")
    ended(other, 7)

    assert there.median_duration() == timedelta(seconds=10)
    with django_assert_num_queries(2):
        usual = Job.objects.filter(pk__in=[there.pk, other.pk, new.pk]).usual_durations()
    assert usual == {there.pk: timedelta(seconds=10), other.pk: timedelta(seconds=7)}


def test_a_job_that_did_not_succeed_lately_has_no_usual_duration() -> None:
    there = job()
    assert there.median_duration() is None

    ended(there, 1)
    for _n in range(200):
        ended(there, 5, state=Run.State.FAILED)

    assert there.median_duration() is None

"""Which jobs may be failing is remembered, and never later than what has happened."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from daemon_app import ends, tiles
from daemon_app.ends import Ends
from daemon_app.models import Job, Run
from tests.jobs import NOON, job, run

State = Run.State
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Let no test know of another's runs."""
    known = Ends()
    for name in ("suspects", "kept", "keep"):
        monkeypatch.setattr(ends, name, getattr(known, name))
    return known


def suspects() -> set[int]:
    return set(ends.suspects() or ())


def ended(of: Job, state: str, **fields: Any) -> Run:
    return run(of, state=state, started_at=NOON, ended_at=NOON + timedelta(seconds=3), **fields)


def running(of: Job) -> Run:
    return run(of, state=State.RUNNING, started_at=NOON, fence=1)


def test_jobs_whose_last_end_was_bad_are_suspects() -> None:
    good, bad = job("good"), job("bad")
    ended(bad, State.SUCCEEDED)
    ended(good, State.FAILED)
    ended(bad, State.TIMED_OUT)
    ended(good, State.SUCCEEDED)

    assert suspects() == {bad.pk}


def test_an_end_that_comes_after_a_look_counts_at_the_next() -> None:
    of = job()
    under_way = running(of)
    assert suspects() == set()

    under_way.finish(State.FAILED, now=NOON)
    assert suspects() == {of.pk}

    ended(of, State.SUCCEEDED)
    assert suspects() == set()


def test_a_run_that_outlasts_a_newer_one_says_nothing_of_the_job() -> None:
    of = job()
    older = running(of)
    ended(of, State.SUCCEEDED)
    assert suspects() == set()

    older.finish(State.FAILED, now=NOON)

    assert suspects() == set()


def test_a_run_given_up_is_a_bad_end() -> None:
    of = job()
    lost = running(of)
    assert suspects() == set()

    lost.give_up(now=NOON)

    assert suspects() == {of.pk}


def test_more_ends_at_once_than_are_looked_at_one_by_one_are_all_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "MOST_CHANGED", 3)
    jobs = [job(f"job-{n}") for n in range(5)]
    assert suspects() == set()

    for each in jobs:
        ended(each, State.FAILED)

    assert suspects() == {each.pk for each in jobs}


def test_the_last_runs_of_a_job_are_asked_for_again_once_one_more_came(
    django_assert_max_num_queries: Any,
) -> None:
    of = job()
    ended(of, State.SUCCEEDED)
    first = tiles.latest_runs([of.pk])
    with django_assert_max_num_queries(2):  # the look alone
        assert tiles.latest_runs([of.pk]) == first

    newer = ended(of, State.FAILED)

    assert tiles.latest_runs([of.pk])[of.pk][0] == newer


def test_what_runs_is_never_remembered_as_it_was() -> None:
    of = job()
    under_way = running(of)
    assert tiles.latest_runs([of.pk])[of.pk][0].state == State.RUNNING

    Run.objects.update(phase=Run.Phase.ASKED)
    assert tiles.latest_runs([of.pk])[of.pk][0].phase == Run.Phase.ASKED

    under_way.refresh_from_db()
    under_way.finish(State.SUCCEEDED, now=NOON)

    assert tiles.latest_runs([of.pk])[of.pk][0].state == State.SUCCEEDED


def test_what_runs_stands_where_its_number_is() -> None:
    of = job()
    older = running(of)
    newer = ended(of, State.SUCCEEDED)
    for _ in range(2):
        assert tiles.latest_runs([of.pk])[of.pk] == [newer, older]


def test_what_was_read_before_somebody_saw_more_is_not_kept(own_memory: Ends) -> None:
    of = job()
    old = [ended(of, State.SUCCEEDED)]
    turn = own_memory.kept([of.pk]).turn
    ended(of, State.FAILED)
    own_memory.kept([of.pk])  # another page looks meanwhile

    own_memory.keep({of.pk: old}, turn)

    assert own_memory.kept([of.pk]).ended == {}


def test_of_what_may_be_taken_back_nothing_is_kept(own_memory: Ends) -> None:
    of = job()
    ended(of, State.FAILED)
    with transaction.atomic():
        assert own_memory.suspects() is None
        assert own_memory.kept([of.pk]) == ({}, [], 0)

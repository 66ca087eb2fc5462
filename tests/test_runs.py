"""The one gate for a run's changes: who wins, what stays."""

from datetime import timedelta

import pytest

from daemon_app.models import Run
from daemon_app.models.run import Ending
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

LATER = NOON + timedelta(minutes=5)


def test_of_two_claims_one_wins() -> None:
    waiting = run()
    twin = Run.objects.get(pk=waiting.pk)

    assert waiting.claim(owner="here", now=NOON)
    assert not twin.claim(owner="there", now=NOON)

    twin.refresh_from_db()
    assert (twin.state, twin.owner, twin.fence) == (Run.State.RUNNING, "here", 1)


def test_a_claim_of_many_takes_only_what_still_waits() -> None:
    one, two = run(), run()
    two.request_stop(by="anna", now=NOON)

    claimed = Run.objects.claim([one.pk, two.pk, 999_999], owner="here", now=NOON)

    assert claimed == {one.pk: 1}


def test_a_run_given_up_as_lost_cannot_finish_later() -> None:
    ours = run()
    ours.claim(owner="here", now=NOON)

    assert ours.give_up(now=LATER)

    assert not ours.finish(Run.State.SUCCEEDED, now=LATER, exit_code=0)
    ours.refresh_from_db()
    assert ours.state == Run.State.LOST


def test_an_end_under_an_old_fence_counts_for_nothing() -> None:
    ours = run()
    ours.claim(owner="here", now=NOON)
    stale = Ending(run_id=ours.pk, fence=0, state=Run.State.FAILED, ended_at=LATER)

    assert Run.objects.finish([stale]) == []

    ours.refresh_from_db()
    assert ours.state == Run.State.RUNNING


def test_the_ends_of_many_runs_are_written_together_and_each_only_once() -> None:
    one, two = run(), run()
    Run.objects.claim([one.pk, two.pk], owner="here", now=NOON)
    ends = [
        Ending(run_id=one.pk, fence=1, state=Run.State.SUCCEEDED, ended_at=LATER, exit_code=0),
        Ending(run_id=two.pk, fence=1, state=Run.State.FAILED, ended_at=LATER, exit_code=3),
    ]

    assert Run.objects.finish(ends) == [one.pk, two.pk]
    assert Run.objects.finish(ends) == []

    two.refresh_from_db()
    assert (two.state, two.exit_code) == (Run.State.FAILED, 3)
    assert two.duration(LATER) == LATER - NOON


def test_stopping_a_waiting_run_cancels_it_at_once() -> None:
    waiting = run()

    assert waiting.request_stop(by="anna", now=NOON)

    waiting.refresh_from_db()
    assert waiting.state == Run.State.CANCELLED
    assert "anna" in waiting.reason


def test_stopping_a_running_run_leaves_the_end_to_its_runner() -> None:
    ours = run()
    ours.claim(owner="here", now=NOON)

    assert ours.request_stop(by="anna", now=LATER)

    ours.refresh_from_db()
    assert ours.state == Run.State.RUNNING
    assert ours.is_stopping


def test_stopping_an_ended_run_changes_nothing() -> None:
    ours = run()
    ours.claim(owner="here", now=NOON)
    ours.finish(Run.State.SUCCEEDED, now=LATER, exit_code=0)

    assert not ours.request_stop(by="anna", now=LATER)


def test_a_run_keeps_the_definition_it_was_started_with() -> None:
    backup = job(command="echo old")
    ours = run(backup)

    backup.command = "echo new"
    backup.store(now=LATER, by="anna")

    ours.refresh_from_db()
    assert ours.definition["command"] == "echo old"


def test_a_reason_without_its_facts_is_still_a_sentence() -> None:
    odd = run(reason_code="overlap", reason_facts={})

    assert "overlap" in odd.reason

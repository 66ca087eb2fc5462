"""Pausing a job until a time: when it goes on, what it owes then, and what keeps it off."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_app import forecast, scheduler
from daemon_app.models import Change, Incident, Job, Policy, Run
from daemon_app.tiles import pauses
from tests.jobs import NOON, job, run

HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def hourly(**fields: Any) -> Job:
    return job("hourly", job_type="cron", schedule="0 * * * *", **fields)


def due(of: Job, state: str = "queued") -> list[datetime]:
    return list(of.runs.filter(state=state).order_by("due_at").values_list("due_at", flat=True))


# ── Its end ──────────────────────────────────────────────────────────────────────────────────────
def test_while_it_is_paused_nothing_starts_and_nothing_is_missed() -> None:
    of = hourly()
    of.pause(NOON + 5 * HOUR, now=NOON, by="anna", note="disk")

    for n in range(1, 5):
        scheduler.tick(NOON + n * HOUR)

    of.refresh_from_db()
    assert not of.runs.exists()
    assert (of.is_active, of.next_due_at, of.pause_note) == (False, None, "disk")


def test_what_is_due_at_the_very_end_starts() -> None:
    of = hourly()
    of.pause(NOON + 5 * HOUR, now=NOON, by="anna")

    scheduler.tick(NOON + 5 * HOUR - scheduler.LEAD / 2)

    of.refresh_from_db()
    assert due(of) == [NOON + 5 * HOUR]
    assert (of.is_active, of.next_due_at) == (True, NOON + 6 * HOUR)
    assert (of.paused_until, of.paused_by, of.pause_note) == (None, "", "")


def test_what_was_due_within_the_pause_is_owed_by_nobody() -> None:
    of = hourly(misfire="all")
    of.pause(NOON + 4.5 * HOUR, now=NOON, by="anna")

    scheduler.tick(NOON + 4.5 * HOUR)

    of.refresh_from_db()
    assert not of.runs.exists()
    assert of.next_due_at == NOON + 5 * HOUR


def test_a_daemon_that_was_away_over_the_end_owes_only_what_came_after_it() -> None:
    of = hourly(misfire="all")
    of.pause(NOON + 4.5 * HOUR, now=NOON, by="anna")

    scheduler.tick(NOON + 7.25 * HOUR)

    assert due(of) == [NOON + 5 * HOUR, NOON + 6 * HOUR, NOON + 7 * HOUR]


def test_the_beat_sleeps_until_shortly_before_the_end() -> None:
    hourly().pause(NOON + 3 * HOUR, now=NOON, by="anna")
    sooner = job("sooner", job_type="interval", schedule="2h")
    sooner.pause(NOON + 2.5 * HOUR, now=NOON, by="anna")

    assert scheduler.next_wake(NOON) == NOON + 2.5 * HOUR - scheduler.LEAD
    sooner.set_active(True, now=NOON, by="anna")
    assert scheduler.next_wake(NOON) == NOON + 2 * HOUR - scheduler.LEAD


def test_a_pause_ends_while_everything_is_held_and_starts_nothing() -> None:
    of = hourly()
    of.pause(NOON + HOUR, now=NOON, by="anna")
    scheduler.hold(Policy.Hold.DRAIN, by="anna", now=NOON)

    wake = scheduler.next_wake(NOON)
    scheduler.tick(NOON + HOUR)

    of.refresh_from_db()
    assert wake == NOON + HOUR - scheduler.LEAD
    assert of.is_active
    assert not due(of)


@pytest.mark.parametrize("way", ["schedule", "crash"])
def test_a_schedule_that_can_not_go_on_is_marked_and_holds_up_no_other(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = hourly(), job("whole", job_type="interval", schedule="1h")
    for each in (broken, whole):
        each.pause(NOON + HOUR, now=NOON, by="anna")
    if way == "schedule":
        Job.objects.filter(pk=broken.pk).update(schedule="61 * * * *")
    else:
        real = Job.resume

        def resume(job: Job, *, now: datetime) -> bool:
            if job.pk == broken.pk:
                raise OverflowError("date value out of range")
            return real(job, now=now)

        monkeypatch.setattr(Job, "resume", resume)

    scheduler.tick(NOON + HOUR)
    scheduler.tick(NOON + 1.1 * HOUR)

    broken.refresh_from_db()
    whole.refresh_from_db()
    assert (broken.is_active, broken.paused_until, broken.paused_by) == (False, None, "")
    assert broken.schedule_error
    assert whole.is_active
    assert list(Incident.objects.values_list("code", "job_id")) == [("schedule_broken", broken.pk)]


def test_a_database_that_is_locked_for_a_moment_leaves_no_job_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = hourly()
    of.pause(NOON + 5 * HOUR, now=NOON, by="anna")

    def locked(*_args: object, **_named: object) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Job, "resume", locked)
        with pytest.raises(OperationalError):
            scheduler.tick(NOON + 5 * HOUR)
    scheduler.tick(NOON + 5 * HOUR)

    of.refresh_from_db()
    assert (of.is_active, of.schedule_error) == (True, "")
    assert not Incident.objects.exists()


def test_no_start_is_planned_of_a_job_that_stayed_off_after_its_pause() -> None:
    forecast.forget()
    of = hourly()
    of.pause(NOON + HOUR, now=NOON, by="anna")
    Job.objects.filter(pk=of.pk).update(schedule="61 * * * *")
    assert [plan.id for plan in forecast.plans()] == [of.pk]

    scheduler.tick(NOON + HOUR)

    assert forecast.plans() == []


def test_who_has_decided_otherwise_meanwhile_is_not_overruled() -> None:
    of = hourly()
    of.pause(NOON + HOUR, now=NOON, by="anna")
    seen = Job.objects.get(pk=of.pk)
    of.pause(NOON + 9 * HOUR, now=NOON, by="ben")

    assert not seen.resume(now=NOON + HOUR)

    of.set_active(False, now=NOON, by="ben")
    assert not Job.objects.get(pk=of.pk).resume(now=NOON + 9 * HOUR)
    scheduler.tick(NOON + 10 * HOUR)
    of.refresh_from_db()
    assert not of.is_active


# ── Its beginning ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("until", [NOON, NOON - HOUR, NOON + timedelta(days=367)])
def test_an_end_that_has_passed_or_is_too_far_is_refused(until: datetime) -> None:
    of = hourly()

    with pytest.raises(ValidationError, match="Pause endet"):
        of.pause(until, now=NOON, by="anna")

    of.refresh_from_db()
    assert of.is_active
    assert not Change.objects.filter(kind=Change.Kind.PAUSED).exists()


def test_one_that_is_switched_off_already_gets_an_end_and_a_new_version() -> None:
    of = hourly()
    of.set_active(False, now=NOON, by="anna")
    before = of.version

    of.pause(NOON + HOUR, now=NOON, by="ben", note=" two\n lines\0 ")

    of.refresh_from_db()
    assert (of.version, of.paused_by, of.pause_note) == (before + 1, "ben", "two lines")
    assert scheduler.tick(NOON + HOUR) == 1
    assert due(of) == [NOON + HOUR]


def test_an_occurrence_written_shortly_before_its_time_is_taken_back() -> None:
    of = hourly()
    scheduler.tick(NOON + HOUR - scheduler.LEAD / 2)
    assert due(of) == [NOON + HOUR]

    of.pause(NOON + 3 * HOUR, now=NOON + HOUR - scheduler.LEAD / 3, by="anna")

    assert not due(of)


def test_what_a_daemon_that_was_away_has_missed_before_the_pause_is_recorded() -> None:
    of = hourly()

    of.pause(NOON + 9 * HOUR, now=NOON + 2.5 * HOUR, by="anna")

    assert due(of, "missed") == [NOON + HOUR, NOON + 2 * HOUR]


def test_a_run_that_runs_goes_on() -> None:
    of = hourly()
    busy = run(of, state=Run.State.RUNNING, started_at=NOON)

    of.pause(NOON + HOUR, now=NOON, by="anna")

    busy.refresh_from_db()
    assert busy.state == Run.State.RUNNING
    assert not busy.is_stopping


def test_switched_off_for_good_it_loses_its_end_and_switched_on_too() -> None:
    of = hourly()
    of.pause(NOON + HOUR, now=NOON, by="anna", note="disk")

    assert of.set_active(False, now=NOON, by="ben")
    of.refresh_from_db()
    assert (of.is_active, of.paused_until, of.pause_note) == (False, None, "")
    assert not of.set_active(False, now=NOON, by="ben")

    of.pause(NOON + HOUR, now=NOON, by="anna")
    assert of.set_active(True, now=NOON, by="ben")
    of.refresh_from_db()
    assert (of.paused_until, of.next_due_at) == (None, NOON + HOUR)


def test_an_edit_keeps_the_pause_and_switching_on_ends_it() -> None:
    of = hourly()
    of.pause(NOON + 9 * HOUR, now=NOON, by="anna")

    of.command = "true"
    of.store(now=NOON, by="ben")
    of.refresh_from_db()
    assert (of.is_active, of.paused_until) == (False, NOON + 9 * HOUR)

    of.is_active = True
    of.store(now=NOON, by="ben")
    of.refresh_from_db()
    assert (of.paused_until, of.next_due_at) == (None, NOON + HOUR)


# ── One press away ───────────────────────────────────────────────────────────────────────────────
@given(minutes=st.integers(-1_000_000, 1_000_000))
@settings(max_examples=200, deadline=None)
def test_every_pick_ends_in_the_future_and_mornings_are_mornings(minutes: int) -> None:
    at = NOON + timedelta(minutes=minutes)
    found = {pick.key: timezone.localtime(pick.until) for pick in pauses.picks(at)}

    here = timezone.localtime(at)
    assert all(at < until <= at + timedelta(days=8) for until in found.values())
    assert (found["tomorrow"].hour, found["tomorrow"].minute) == (8, 0)
    assert (found["tomorrow"].date() - here.date()).days == 1
    if "monday" in found:
        assert (found["monday"].weekday(), found["monday"].hour) == (0, 8)
        assert found["monday"].date() > found["tomorrow"].date()
    else:
        assert found["tomorrow"].weekday() == 0

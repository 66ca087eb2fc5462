"""The tick: what becomes a run, when, and what is only recorded."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import translation
from django_q.models import OrmQ

from daemon_app import scheduler
from daemon_app.models import Job, Run
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def states(of: Job) -> list[str]:
    return list(of.runs.order_by("due_at", "id").values_list("state", flat=True))


def due_instants(of: Job, state: str = "queued") -> list[datetime]:
    return list(of.runs.filter(state=state).order_by("due_at").values_list("due_at", flat=True))


def finish_all() -> None:
    """Let whatever waits run and succeed at once."""
    Run.objects.queued().update(state=Run.State.SUCCEEDED)


def test_a_due_job_becomes_one_queued_run_and_moves_on() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")

    scheduler.tick(NOON + HOUR)

    assert due_instants(hourly) == [NOON + HOUR]
    hourly.refresh_from_db()
    assert hourly.next_due_at == NOON + 2 * HOUR


def test_an_occurrence_is_written_shortly_before_its_time_and_not_earlier() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")

    scheduler.tick(NOON + HOUR - 2 * scheduler.LEAD)
    assert states(hourly) == []

    scheduler.tick(NOON + HOUR - scheduler.LEAD / 2)
    assert due_instants(hourly) == [NOON + HOUR]


def test_two_ticks_of_the_same_instant_start_a_job_once() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")

    scheduler.tick(NOON + HOUR)
    scheduler.tick(NOON + HOUR)

    assert states(hourly) == ["queued"]


def test_an_occurrence_somebody_else_has_recorded_is_left_to_them() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")
    run(hourly, trigger="schedule", due_at=NOON + HOUR, state=Run.State.SUCCEEDED)

    scheduler.tick(NOON + HOUR)

    assert states(hourly) == ["succeeded"]
    hourly.refresh_from_db()
    assert hourly.next_due_at == NOON + 2 * HOUR


@pytest.mark.parametrize(
    ("kind", "text", "step"),
    [
        ("cron", "*/5 * * * *", timedelta(minutes=5)),
        ("cron", "0 * * * *", HOUR),
        ("cron", "0 3 * * *", DAY),
        ("interval", "30m", timedelta(minutes=30)),
        ("interval", "24h", DAY),
    ],
)
def test_two_days_of_beats_edits_and_reloads_start_every_job_exactly_as_often_as_expected(
    kind: str, text: str, step: timedelta
) -> None:
    steady = job("steady", job_type=kind, schedule=text)
    expected = int(2 * DAY / step)

    now = NOON
    while now < NOON + 2 * DAY:
        now = min(scheduler.next_wake(now) or NOON + 2 * DAY, now + HOUR, NOON + 2 * DAY)
        scheduler.tick(now)
        finish_all()
        # What made the original never start anything: jobs loaded anew and stored again.
        if now.minute == 0:
            edited = Job.objects.get(pk=steady.pk)
            edited.description = f"edited at {now:%H:%M}"
            edited.store(now=now, by="anna")
    scheduler.tick(NOON + 2 * DAY)

    assert set(states(steady)) <= {"succeeded", "queued"}
    assert len(states(steady)) == expected


def test_after_a_night_off_the_newest_instant_runs_once_and_the_others_are_recorded() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")

    scheduler.tick(NOON + 5 * HOUR + 2 * MINUTE)

    assert states(hourly) == ["missed"] * 4 + ["queued"]
    assert due_instants(hourly) == [NOON + 5 * HOUR]
    assert hourly.runs.get(state="queued").reason_code == "caught_up"


def test_what_is_older_than_its_age_limit_is_recorded_and_not_started() -> None:
    weekly = job("weekly", job_type="interval", schedule="7d")

    scheduler.tick(NOON + 9 * DAY)

    assert states(weekly) == ["missed"]


def test_a_year_of_missed_minutes_is_one_row_that_says_how_many() -> None:
    minutely = job("minutely", job_type="interval", schedule="1m")

    scheduler.tick(NOON + 30 * DAY)

    summary = minutely.runs.get(state="missed")
    assert summary.reason_facts["count"] == 30 * 24 * 60 - 1
    assert summary.reason_facts["first"] == (NOON + MINUTE).isoformat()
    assert summary.reason_facts["last"] == (NOON + 30 * DAY - MINUTE).isoformat()
    assert minutely.runs.filter(state="queued").count() == 1


def test_an_occurrence_that_meets_an_active_run_is_skipped_and_names_it() -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")
    scheduler.tick(NOON + HOUR)
    first = hourly.runs.get()

    scheduler.tick(NOON + 2 * HOUR)

    skipped = hourly.runs.get(state="skipped")
    assert skipped.blocking_run_id == first.pk
    assert str(first.pk) in skipped.reason


@pytest.mark.parametrize(
    ("state", "said"), [("queued", "was still waiting"), ("running", "was still active")]
)
def test_what_was_in_the_way_is_told_as_it_was_then(state: str, said: str) -> None:
    hourly = job("hourly", job_type="cron", schedule="0 * * * *")
    busy = run(hourly, state=state)

    scheduler.tick(NOON + HOUR)
    Run.objects.filter(pk=busy.pk).update(state="succeeded", started_at=NOON + 2 * HOUR)

    with translation.override("en"):
        assert said in hourly.runs.get(state="skipped").reason


def test_a_job_that_may_run_twice_at_once_is_skipped_at_the_third() -> None:
    eager = job("eager", job_type="interval", schedule="1h", overlap="parallel", max_instances=2)

    for hours in (1, 2, 3):
        scheduler.tick(NOON + hours * HOUR)

    assert states(eager) == ["queued", "queued", "skipped"]


def test_one_unreadable_schedule_is_marked_and_holds_up_no_other_job() -> None:
    broken = job("broken", job_type="interval", schedule="1h")
    Job.objects.filter(pk=broken.pk).update(schedule="every full moon")
    healthy = job("healthy", job_type="interval", schedule="1h")

    scheduler.tick(NOON + HOUR)

    assert states(healthy) == ["queued"]
    broken.refresh_from_db()
    assert broken.schedule_error
    assert states(broken) == []


def test_a_job_switched_off_just_before_its_time_does_not_start() -> None:
    hourly = job("hourly", job_type="interval", schedule="1h")
    just_before = NOON + HOUR - scheduler.LEAD / 2
    scheduler.tick(just_before)

    hourly.set_active(False, now=just_before, by="anna")

    assert states(hourly) == []


def test_a_job_edited_just_before_its_time_starts_once_with_the_new_command() -> None:
    hourly = job("hourly", job_type="interval", schedule="1h")
    just_before = NOON + HOUR - scheduler.LEAD / 2
    scheduler.tick(just_before)
    hourly.refresh_from_db()

    hourly.command = "echo new"
    hourly.store(now=just_before, by="anna")
    scheduler.tick(NOON + HOUR)

    assert [r.definition["command"] for r in hourly.runs.all()] == ["echo new"]
    assert due_instants(hourly) == [NOON + HOUR]


def test_a_re_enabled_job_owes_nothing() -> None:
    hourly = job("hourly", job_type="interval", schedule="1h")
    hourly.set_active(False, now=NOON, by="anna")

    hourly.set_active(True, now=NOON + 10 * HOUR + MINUTE, by="anna")
    scheduler.tick(NOON + 10 * HOUR + 2 * MINUTE)

    assert states(hourly) == []
    hourly.refresh_from_db()
    assert hourly.next_due_at == NOON + 11 * HOUR


def test_a_job_that_is_switched_off_has_no_next_run() -> None:
    off = job("off", job_type="interval", schedule="1h", is_active=False)
    on = job("on", job_type="interval", schedule="1h")
    on.set_active(False, now=NOON, by="anna")

    assert off.next_due_at is None
    assert on.next_due_at is None


def test_an_edit_that_leaves_the_schedule_alone_keeps_its_grid() -> None:
    hourly = job("hourly", job_type="interval", schedule="1h")

    hourly.description = "other words"
    hourly.store(now=NOON + 40 * MINUTE, by="anna")

    assert hourly.next_due_at == NOON + HOUR


@pytest.mark.parametrize("how", ["saved", "switched off and on"])
def test_a_job_whose_schedule_can_be_read_again_starts_again(how: str) -> None:
    mended = job("mended", job_type="cron", schedule="0 * * * *")
    Job.objects.update(timezone="Mars/Base")
    scheduler.tick(NOON + HOUR)
    Job.objects.update(timezone="Europe/Berlin")
    mended.refresh_from_db()
    assert mended.schedule_error

    if how == "saved":
        mended.store(now=NOON + 2 * HOUR, by="anna")
    else:
        mended.set_active(False, now=NOON + 2 * HOUR, by="anna")
        mended.set_active(True, now=NOON + 2 * HOUR, by="anna")

    mended.refresh_from_db()
    assert mended.next_due_at == NOON + 3 * HOUR
    assert mended.schedule_error == ""


def test_a_once_job_in_the_past_is_refused_when_it_is_saved() -> None:
    with pytest.raises(ValidationError) as refused:
        job("late", job_type="once", schedule="2026-11-24 12:59")

    assert "schedule" in refused.value.message_dict


def test_a_once_job_runs_once() -> None:
    single = job("single", job_type="once", schedule="2026-11-24 14:00")

    scheduler.tick(datetime(2026, 11, 24, 13, tzinfo=UTC))
    finish_all()
    scheduler.tick(NOON + 3 * DAY)

    assert states(single) == ["succeeded"]


def test_a_start_by_hand_works_for_an_inactive_job_and_leaves_the_schedule_alone() -> None:
    idle = job("idle", job_type="interval", schedule="1h", is_active=False)

    started = scheduler.start(idle, trigger="manual", by="anna", now=NOON)

    assert started.run is not None
    assert started.run.started_by == "anna"
    idle.refresh_from_db()
    assert idle.runs.count() == 1


def test_a_start_by_hand_that_meets_an_active_run_says_which() -> None:
    busy = job("busy")
    first = scheduler.start(busy, trigger="manual", by="anna", now=NOON).run
    assert first is not None

    second = scheduler.start(busy, trigger="manual", by="anna", now=NOON)

    assert second.run is None
    assert second.blocking == first
    assert str(first.pk) in second.reason


def test_the_same_idempotency_key_gives_the_same_run() -> None:
    busy = job("busy")

    first = scheduler.start(busy, trigger="api", by="bot", now=NOON, idempotency_key="k1")
    again = scheduler.start(busy, trigger="api", by="bot", now=NOON, idempotency_key="k1")

    assert first.run == again.run
    assert again.code == "repeated"


def test_a_run_nobody_began_is_sent_again_and_not_at_once() -> None:
    waiting = run()
    OrmQ.objects.all().delete()

    assert scheduler.sweep(NOON + scheduler.RESEND_AFTER / 2) == []
    assert scheduler.sweep(NOON + scheduler.RESEND_AFTER, known={waiting.pk}) == []
    assert scheduler.sweep(NOON + scheduler.RESEND_AFTER) == [(waiting.pk, NOON.timestamp())]
    assert scheduler.sweep(NOON + scheduler.RESEND_AFTER) == []

    assert OrmQ.objects.count() == 1
    waiting.refresh_from_db()
    assert waiting.state == Run.State.QUEUED


def test_a_run_that_ends_just_before_the_next_is_due_is_in_nobodys_way() -> None:
    often = job("often", job_type="interval", schedule="10s")
    due, before = NOON + timedelta(seconds=10), NOON + timedelta(seconds=9.5)
    busy = run(often, state=Run.State.RUNNING)

    assert scheduler.tick(before) == 0
    assert scheduler.next_wake(before) == due
    Run.objects.filter(pk=busy.pk).update(state=Run.State.SUCCEEDED)
    scheduler.tick(due)

    assert due_instants(often) == [due]


def test_a_run_that_is_active_when_the_next_is_due_is_named() -> None:
    often = job("often", job_type="interval", schedule="10s")
    busy = run(often, state=Run.State.RUNNING)

    scheduler.tick(NOON + timedelta(seconds=9.5))
    scheduler.tick(NOON + timedelta(seconds=10))

    skipped = often.runs.get(state=Run.State.SKIPPED)
    assert skipped.blocking_run_id == busy.pk


def test_the_beat_sleeps_until_shortly_before_the_next_instant() -> None:
    job("hourly", job_type="interval", schedule="1h")

    assert scheduler.next_wake(NOON) == NOON + HOUR - scheduler.LEAD


def test_without_any_schedule_the_beat_has_nothing_to_wake_for() -> None:
    job("by hand")

    assert scheduler.next_wake(NOON) is None

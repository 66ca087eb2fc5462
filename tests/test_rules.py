"""Misfire, overlap, hold, deadlines and wrong clocks: what the scheduler makes of each rule."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from daemon_app import admission, scheduler
from daemon_app.models import Incident, Job, Policy, Pool, Run
from daemon_app.models.run import Ending
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86_400))


def hourly(**fields: Any) -> Job:
    return job("hourly", job_type="cron", schedule="0 * * * *", **fields)


def told(of: Job) -> list[tuple[str, int, str]]:
    """State, hour after noon and reason of each run, oldest occurrence first."""
    rows = of.runs.order_by("due_at", "pk")
    return [(each.state, (each.due_at - NOON) // HOUR, each.reason_code) for each in rows]


# ── Misfire ──────────────────────────────────────────────────────────────────────────────────────
def test_what_is_not_to_be_caught_up_is_missed() -> None:
    skips = hourly(misfire="skip")

    scheduler.tick(NOON + 2 * HOUR + 2 * MINUTE)

    assert told(skips) == [("missed", 1, "misfire_skip"), ("missed", 2, "misfire_skip")]


def test_what_is_not_to_be_caught_up_still_starts_when_it_is_on_time() -> None:
    skips = hourly(misfire="skip")

    scheduler.tick(NOON + 2 * HOUR + 30 * SECOND)

    assert told(skips) == [("missed", 1, "misfire_skip"), ("queued", 2, "")]


def test_all_that_was_missed_is_caught_up_in_order() -> None:
    every = hourly(misfire="all")

    scheduler.tick(NOON + 3 * HOUR + 2 * MINUTE)

    assert told(every) == [("queued", n, "caught_up") for n in (1, 2, 3)]


def test_all_is_a_hundred_at_most_and_no_older_than_its_age() -> None:
    every = hourly(misfire="all", misfire_age_seconds=200 * 3600)

    scheduler.tick(NOON + 300 * HOUR)

    assert every.runs.filter(state="queued").count() == scheduler.MOST_CAUGHT_UP
    summary = every.runs.get(state="missed")
    assert summary.reason_facts["count"] == 200
    oldest = every.runs.filter(state="queued").earliest("due_at")
    assert oldest.due_at - summary.due_at == HOUR


def test_a_regular_start_does_not_push_out_what_is_being_caught_up() -> None:
    every = hourly(misfire="all", overlap="queue")
    scheduler.tick(NOON + 3 * HOUR + 2 * MINUTE)

    scheduler.tick(NOON + 4 * HOUR)

    assert [state for state, _, _ in told(every)] == ["queued"] * 4


def test_a_short_delay_is_caught_up_like_a_long_one_and_nothing_pushes_it_out() -> None:
    often = job(job_type="interval", schedule="1s", misfire="all", overlap="queue")

    scheduler.tick(NOON + 3 * SECOND)
    scheduler.tick(NOON + 4 * SECOND)

    assert [each.state for each in often.runs.order_by("due_at")] == ["queued"] * 4


@pytest.mark.parametrize("end", ["switched_off", "rescheduled"])
def test_what_was_owed_when_a_schedule_ends_is_recorded(end: str) -> None:
    owing = hourly()
    now = NOON + 2 * HOUR + MINUTE

    if end == "switched_off":
        owing.set_active(False, now=now, by="anna")
    else:
        owing.schedule = "30 * * * *"
        owing.store(now=now, by="anna")

    assert told(owing) == [("missed", 1, end), ("missed", 2, end)]
    scheduler.tick(now)
    assert len(told(owing)) == 2


def test_a_year_owed_when_a_schedule_ends_is_one_row() -> None:
    owing = hourly()

    owing.set_active(False, now=NOON + 365 * DAY, by="anna")

    summary = owing.runs.get()
    assert summary.reason_code == "misfire_summary"
    assert summary.reason_facts["count"] == 365 * 24


def test_nothing_is_owed_by_a_job_that_was_off_or_is_edited_in_time() -> None:
    off = hourly(is_active=False)
    off.schedule = "30 * * * *"
    off.store(now=NOON + 5 * HOUR, by="anna")
    edited = job("edited", job_type="cron", schedule="0 * * * *")
    edited.command = "true"
    edited.store(now=NOON + MINUTE, by="anna")

    assert not Run.objects.exists()


def test_with_an_age_of_nothing_nothing_is_caught_up() -> None:
    never = hourly(misfire_age_seconds=0)

    scheduler.tick(NOON + 2 * HOUR + 2 * MINUTE)

    assert told(never) == [("missed", 1, "too_old"), ("missed", 2, "too_old")]


def test_many_jobs_caught_up_at_once_are_spread_and_each_has_its_own_place() -> None:
    many = [job(f"job-{n}", job_type="cron", schedule="0 * * * *") for n in range(20)]
    now = NOON + HOUR + 2 * MINUTE

    scheduler.tick(now)

    starts = {each.runs.get().not_before - now for each in many}
    assert len(starts) > 15
    assert timedelta(0) <= min(starts)
    assert max(starts) <= scheduler.SPREAD_EACH * 19


def test_one_job_caught_up_starts_at_once() -> None:
    lonely = hourly()
    now = NOON + HOUR + 2 * MINUTE

    scheduler.tick(now)

    assert lonely.runs.get().not_before == now


# ── Overlap ──────────────────────────────────────────────────────────────────────────────────────
def test_a_start_that_meets_a_run_waits_in_line_and_the_newest_wins() -> None:
    waits = hourly(overlap="queue")
    scheduler.tick(NOON + HOUR)
    Run.objects.update(state=Run.State.RUNNING)

    scheduler.tick(NOON + 2 * HOUR)
    scheduler.tick(NOON + 3 * HOUR)

    assert told(waits) == [("running", 1, ""), ("skipped", 2, "superseded"), ("queued", 3, "")]
    superseded, newest = waits.runs.get(state="skipped"), waits.runs.get(state="queued")
    assert superseded.blocking_run_id == newest.pk
    assert str(newest.pk) in superseded.reason


def test_who_takes_a_place_in_line_takes_the_one_a_person_gave() -> None:
    waits = job(overlap="queue")
    run(waits, state=Run.State.RUNNING)
    other, first = run(), run(waits)
    scheduler.move(first, "first", by="anna", now=NOON)

    started = scheduler.start(waits, trigger="manual", by="anna", now=NOON)

    assert started.run
    assert [each.run.pk for each in admission.line(NOON)] == [started.run.pk, other.pk]


def test_a_start_by_hand_waits_in_line_like_any_other() -> None:
    waits = job(overlap="queue")
    running = run(waits, state=Run.State.RUNNING)

    first = scheduler.start(waits, trigger="manual", by="anna", now=NOON)
    second = scheduler.start(waits, trigger="manual", by="anna", now=NOON)

    assert first.run
    assert second.run
    first.run.refresh_from_db()
    assert (first.run.state, first.run.blocking_run_id) == ("skipped", second.run.pk)
    running.refresh_from_db()
    assert running.stop_requested_at is None


def test_a_waiting_retry_is_not_pushed_out_of_line() -> None:
    waits = job(overlap="queue", max_retries=3)
    retry = run(waits, attempt=2)

    scheduler.start(waits, trigger="manual", by="anna", now=NOON)

    retry.refresh_from_db()
    assert retry.state == Run.State.QUEUED


def test_a_new_start_ends_the_run_it_replaces_and_the_end_says_so() -> None:
    replaces = hourly(overlap="replace")
    scheduler.tick(NOON + HOUR)
    old = replaces.runs.get()
    old.claim(owner="here", now=NOON + HOUR)

    scheduler.tick(NOON + 2 * HOUR)

    new = replaces.runs.latest("pk")
    old.refresh_from_db()
    assert (old.stop_code, old.blocking_run_id, new.state) == ("replaced", new.pk, "queued")
    assert old.finish(Run.State.CANCELLED, now=NOON + 2 * HOUR, reason_code="cancelled")
    assert old.reason_code == "replaced"
    assert str(new.pk) in old.reason


def test_a_person_may_start_a_job_beside_its_running_one() -> None:
    once = job()
    blocking = run(once, state=Run.State.RUNNING)

    refused = scheduler.start(once, trigger="manual", by="anna", now=NOON)
    started = scheduler.start(once, trigger="manual", by="anna", now=NOON, beside=True)

    assert (refused.code, refused.blocking) == ("overlap", blocking)
    assert started.run
    assert started.run.beside


# ── Storms ───────────────────────────────────────────────────────────────────────────────────────
def test_a_full_queue_refuses_visibly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_QUEUED", 2)
    for n in range(3):
        job(f"job-{n}", job_type="cron", schedule="0 * * * *")

    scheduler.tick(NOON + HOUR)
    refused = scheduler.start(job("by-hand"), trigger="manual", by="anna", now=NOON + HOUR)

    assert Run.objects.queued().count() == 2
    assert Run.objects.get(state="skipped").reason_code == "queue_full"
    assert refused.code == "queue_full"


def test_a_refused_start_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_QUEUED", 0)
    replaces = hourly(overlap="replace")
    running = run(replaces, state=Run.State.RUNNING)

    scheduler.tick(NOON + HOUR)

    running.refresh_from_db()
    assert running.stop_requested_at is None
    assert replaces.runs.get(trigger="schedule").reason_code == "queue_full"


def test_an_occurrence_recorded_already_takes_nobodys_place() -> None:
    replaces = hourly(overlap="replace")
    scheduler.tick(NOON + HOUR)
    running = replaces.runs.get()
    running.claim(owner="here", now=NOON + HOUR)
    Job.objects.update(next_due_at=NOON + HOUR)  # as after a clock that was set back

    scheduler.tick(NOON + HOUR)

    running.refresh_from_db()
    assert replaces.runs.get().stop_requested_at is None


def test_one_caught_up_makes_room_for_the_next_like_any_other() -> None:
    waits = hourly(overlap="queue")
    run(waits, state=Run.State.RUNNING)
    scheduler.tick(NOON + HOUR + 2 * MINUTE)

    scheduler.tick(NOON + 2 * HOUR)

    scheduled = [told for told in told(waits) if told[1]]
    assert scheduled == [("skipped", 1, "superseded"), ("queued", 2, "")]


# ── Everything held ──────────────────────────────────────────────────────────────────────────────
def test_while_held_nothing_is_due_nor_claimed_and_a_start_says_why() -> None:
    held, waiting = hourly(), run()
    scheduler.hold("drain", by="anna", now=NOON, note="new disk")

    refused = scheduler.start(held, trigger="manual", by="ben", now=NOON)

    assert scheduler.tick(NOON + HOUR) == 0
    assert scheduler.next_wake(NOON + HOUR) is None
    assert not waiting.claim(owner="here", now=NOON + HOUR)
    assert refused.code == "held"
    assert "anna" in refused.reason


def test_resumed_each_job_follows_its_misfire_rule() -> None:
    held = hourly()
    scheduler.hold("drain", by="anna", now=NOON)
    scheduler.tick(NOON + 2 * HOUR)

    assert scheduler.resume(by="anna", now=NOON + 2 * HOUR + 5 * MINUTE)
    scheduler.tick(NOON + 2 * HOUR + 5 * MINUTE)

    assert told(held) == [("missed", 1, "misfire"), ("queued", 2, "caught_up")]


def test_what_waited_through_a_hold_follows_its_misfire_rule() -> None:
    skips = run(job("skips", misfire="skip"), trigger="schedule")
    scheduler.hold("drain", by="anna", now=NOON)

    scheduler.resume(by="anna", now=NOON + 8 * HOUR)

    skips.refresh_from_db()
    assert (skips.state, skips.reason_code) == ("missed", "misfire_skip")


def test_stopping_everything_asks_what_runs_to_stop_and_leaves_the_line() -> None:
    running, waiting = run(state=Run.State.RUNNING), run()

    scheduler.hold("stop", by="anna", now=NOON)

    running.refresh_from_db()
    waiting.refresh_from_db()
    assert (running.stop_code, running.stop_requested_by) == ("held", "anna")
    assert waiting.state == Run.State.QUEUED


def test_a_hold_is_told_once_and_its_kind_can_be_changed() -> None:
    assert scheduler.hold("drain", by="anna", now=NOON)
    assert not scheduler.hold("drain", by="ben", now=NOON)
    assert scheduler.hold("stop", by="ben", now=NOON + HOUR)
    assert (Policy.current().held_by, Policy.current().held_at) == ("ben", NOON)
    assert scheduler.resume(by="ben", now=NOON)
    assert not scheduler.resume(by="ben", now=NOON)


# ── Deadlines and waits ──────────────────────────────────────────────────────────────────────────
def test_after_its_deadline_a_job_is_due_no_more() -> None:
    ends = hourly(deadline=NOON + 2 * HOUR)

    scheduler.tick(NOON + HOUR)
    scheduler.tick(NOON + 2 * HOUR)
    ends.refresh_from_db()

    assert len(told(ends)) == 2
    assert ends.next_due_at is None


def test_a_wait_that_is_too_long_ends_in_a_skip_that_says_so() -> None:
    impatient = job(max_wait_seconds=60)
    started = scheduler.start(impatient, trigger="manual", by="anna", now=NOON).run

    scheduler.sweep(NOON + 61 * SECOND)

    assert started
    started.refresh_from_db()
    assert (started.state, started.reason_code) == ("skipped", "waited_too_long")
    assert "1\u00a0Min." in started.reason


def test_a_retry_has_begun_in_time() -> None:
    impatient = job(max_wait_seconds=60, max_retries=1)
    tried = scheduler.start(impatient, trigger="manual", by="anna", now=NOON).run
    assert tried
    tried.claim(owner="here", now=NOON)
    ending = Ending(tried.pk, tried.fence, Run.State.FAILED, NOON + SECOND)
    Run.objects.put_back(ending, not_before=NOON + HOUR, code="retry", facts={})

    scheduler.sweep(NOON + 2 * HOUR)

    tried.refresh_from_db()
    assert tried.state == Run.State.QUEUED


def test_a_run_still_waiting_at_the_deadline_is_skipped() -> None:
    ends = hourly(deadline=NOON + HOUR + MINUTE, max_wait_seconds=3600)
    scheduler.tick(NOON + HOUR)

    scheduler.sweep(NOON + HOUR + MINUTE)

    assert told(ends) == [("skipped", 1, "deadline")]


# ── Outages ──────────────────────────────────────────────────────────────────────────────────────
def test_what_waited_through_a_long_outage_follows_the_misfire_rule() -> None:
    fresh = run(job("fresh"), trigger="schedule")
    old = run(job("old", misfire_age_seconds=3600), trigger="schedule")
    skips = run(job("skips", misfire="skip"), trigger="schedule")
    by_hand = run(job("by-hand", misfire="skip"))
    retry = run(job("retry", misfire="skip", max_retries=1), trigger="schedule", attempt=2)

    assert scheduler.expire(NOON + 2 * HOUR, seen_at=NOON) == 2

    for each, state in [(fresh, "queued"), (old, "missed"), (skips, "missed")]:
        each.refresh_from_db()
        assert each.state == state
    assert {by_hand.state, retry.state} == {"queued"}


def test_a_short_restart_gives_nothing_up() -> None:
    run(job("skips", misfire="skip"), trigger="schedule")

    assert scheduler.expire(NOON + 2 * HOUR, seen_at=NOON + 2 * HOUR - 30 * SECOND) == 0


# ── Clocks ───────────────────────────────────────────────────────────────────────────────────────
def test_a_clock_once_far_ahead_does_not_leave_jobs_standing() -> None:
    cron, interval = hourly(), job("interval", job_type="interval", schedule="30m")
    scheduler.tick(NOON + 70 * 365 * DAY)
    back = NOON + HOUR + MINUTE

    assert scheduler.rebase(back) == 2

    cron.refresh_from_db()
    interval.refresh_from_db()
    assert cron.next_due_at == NOON + 2 * HOUR
    assert back < interval.next_due_at <= back + 30 * MINUTE
    assert Incident.objects.get().code == "clock_rebased"
    scheduler.tick(NOON + 2 * HOUR)
    interval.refresh_from_db()
    assert interval.next_due_at <= NOON + 3 * HOUR


def test_a_job_made_while_the_clock_was_ahead_starts_by_the_right_one() -> None:
    born = job("born", job_type="interval", schedule="1h", now=NOON + 9 * 365 * DAY)

    scheduler.rebase(NOON)

    born.refresh_from_db()
    assert born.next_due_at == NOON + HOUR
    assert born.next_after(born.next_due_at) == NOON + 2 * HOUR


def test_what_a_clock_far_ahead_has_put_off_may_start() -> None:
    far = NOON + 55 * 365 * DAY
    by_hand = run(not_before=far)
    retry = run(job("retry"), trigger="schedule", attempt=2, not_before=far)

    scheduler.rebase(NOON)

    for each in (by_hand, retry):
        each.refresh_from_db()
        assert each.not_before == NOON


def test_a_short_step_back_repeats_nothing() -> None:
    steady = hourly()
    scheduler.tick(NOON + 2 * HOUR)

    scheduler.clock_stepped(-2 * 3600, NOON + 5 * MINUTE)
    scheduler.tick(NOON + HOUR)

    assert [hour for _, hour, _ in told(steady)] == [1, 2]
    steady.refresh_from_db()
    assert steady.next_due_at == NOON + 3 * HOUR


def test_a_short_step_back_leaves_a_rare_schedule_alone() -> None:
    weekly = job("weekly", job_type="cron", schedule="0 13 * * 2")
    scheduler.tick(NOON + HOUR)
    weekly.refresh_from_db()
    before = weekly.next_due_at

    scheduler.clock_stepped(-3600, NOON + 30 * MINUTE)

    weekly.refresh_from_db()
    assert weekly.next_due_at == before
    assert [each.code for each in Incident.objects.all()] == ["clock_back"]


def test_a_rare_schedule_is_no_wrong_clock() -> None:
    yearly = job("yearly", job_type="cron", schedule="0 0 1 1 *")
    before = yearly.next_due_at

    assert scheduler.rebase(NOON) == 0
    yearly.refresh_from_db()
    assert yearly.next_due_at == before


# ── What contradicts itself ──────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"overlap": "replace", "max_retries": 1}, "overlap"),
        ({"overlap": "replace", "misfire": "all"}, "overlap"),
        ({"retry_exit_codes": [1]}, "retry_exit_codes"),
        ({"retry_exit_codes": [0], "max_retries": 1}, "retry_exit_codes"),
        ({"retry_exit_codes": "1", "max_retries": 1}, "retry_exit_codes"),
        ({"pools": {"gpu": 3}}, "pools"),
        ({"pools": {"tape": 1}}, "pools"),
        ({"pools": {"gpu": 0}}, "pools"),
        ({"pools": {"gpu": True}}, "pools"),
        ({"pools": ["gpu"]}, "pools"),
        ({"soft_timeout_seconds": 300, "timeout_seconds": 300}, "soft_timeout_seconds"),
        ({"priority": 101}, "priority"),
        ({"deadline": NOON}, "deadline"),
        ({"retry_backoff_seconds": 0}, "retry_backoff_seconds"),
        ({"job_type": "once", "schedule": "2099-01-01 10:00", "deadline": NOON}, "deadline"),
    ],
)
def test_rules_that_contradict_each_other_are_refused_with_the_reason(
    fields: dict[str, Any], named: str
) -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")

    with pytest.raises(ValidationError) as refused:
        job(**fields)

    assert list(refused.value.message_dict) == [named]
    assert not Job.objects.exists()

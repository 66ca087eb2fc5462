"""Why a job or a run is as it is: of now what is read now, of then what was recorded then."""

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import translation

from daemon_app import alarms, doorbell, pidfile, scheduler, skills, why
from daemon_app.models import (
    Attempt,
    Displacement,
    Incident,
    Job,
    Node,
    Policy,
    Pool,
    Run,
    Snapshot,
    Wait,
    reasons,
)
from daemon_app.readings import Reading, State
from daemon_app.why import Explanation
from daemon_app.why.words import LABELS, SENTENCES
from tests.gates.gating import vram
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOON = NOON + 10 * SECOND
CAME = {"signal": "request", "code": "came_back", "facts": {}}


@pytest.fixture(autouse=True)
def _in_berlin_in_english(settings) -> Iterator[None]:
    settings.TIME_ZONE = "Europe/Berlin"
    with translation.override("en"):
        yield


@pytest.fixture
def board() -> Iterator[alarms.Board]:
    board = alarms.Board(doorbell.runtime_dir(django_settings.DATA_DIR))
    yield board
    board.clear(*(alarm.code for alarm in board.read()))


def alive(now: datetime = SOON, **fields) -> Node:
    """Let a daemon have spoken at `now`."""
    wanted = {"pid": 1, "started_at": NOON - HOUR, "seen_at": now, **fields}
    return Node.objects.create(host="here", **wanted)


def daily(name: str = "nightly", **fields) -> Job:
    """Return a job that is due each day at 03:00 in Berlin, made an hour ago."""
    wanted = {"job_type": "cron", "schedule": "0 3 * * *", "now": NOON - HOUR, **fields}
    return job(name, **wanted)


def blocked(found: Explanation) -> list[str]:
    return [rule.name for rule in found.blockers]


def said(found: Explanation) -> str:
    return found.sentence.replace("\u00a0", " ")


# ── What holds for all ───────────────────────────────────────────────────────────────────────────
def test_every_rule_is_told_of_a_job_with_its_reading() -> None:
    found = why.of_job(job(), NOON)

    told = [rule.name for rule in found.rules]
    assert told == [name for name in LABELS if name in told]
    assert set(LABELS) - set(told) == {"time_limit", "limits", "presence", "stop", "forced"}
    assert all(rule.sentence and rule.label for rule in found.rules)


@pytest.mark.parametrize("state", Run.State.values)
def test_every_rule_is_told_of_a_run_whatever_became_of_it(state: str) -> None:
    times: dict[str, Any] = {}
    if state != Run.State.QUEUED:
        times["started_at"] = NOON
    if state not in Run.ACTIVE:
        times["ended_at"] = SOON

    found = why.of_run(run(state=state, **times), SOON)

    expected = set(LABELS)
    if state == Run.State.QUEUED:
        expected -= {"time_limit", "limits", "presence", "stop"}
    assert {rule.name for rule in found.rules} == expected
    assert len(found.rules) == len(expected)
    assert said(found).endswith(".")


@pytest.mark.parametrize("language", ["de", "en"])
def test_it_can_be_said_to_programs_in_either_language(language: str) -> None:
    alive()
    waits = run(needs={"window": "22:00-06:00", "zone": "Europe/Berlin"})
    Wait.objects.create(run=waits, code="waits_window", began_at=NOON, seen_at=SOON)

    with translation.override(language):
        for found in (why.of_run(waits, SOON), why.of_job(waits.job, SOON, at=NOON)):
            told = json.loads(json.dumps(found.as_json()))
            assert told["run"] == waits.pk
            assert [rule["name"] for rule in told["rules"]] == [r.name for r in found.rules]


def test_every_rule_of_ours_that_is_well_has_a_sentence() -> None:
    assert {"supervisors", "cluster", "database", "storage", "clock"} <= SENTENCES.keys()


# ── A job that does not run ──────────────────────────────────────────────────────────────────────
def test_a_job_that_is_not_due_says_when_it_is() -> None:
    alive()

    found = why.of_job(daily(), SOON)

    assert found.state == "scheduled"
    assert said(found) == "Not due yet: the next start is tomorrow 03:00 (every day at 03:00)."
    assert found.next_due_at == datetime(2026, 11, 25, 2, tzinfo=UTC)


def test_a_job_that_is_off_says_so_first_and_when_it_would_start() -> None:
    alive()

    found = why.of_job(daily(is_active=False), SOON)

    assert found.state == "off"
    assert said(found) == "The job is switched off: it starts by hand alone."
    assert "tomorrow 03:00" in found.rule("schedule").sentence
    assert found.rule("schedule").state == "info"


def test_a_job_by_hand_waits_for_a_hand() -> None:
    alive()

    found = why.of_job(job(), SOON)

    assert (found.state, said(found)) == (
        "manual",
        "It has no schedule: it starts by hand alone.",
    )


def test_a_schedule_nobody_can_read_is_the_reason() -> None:
    alive()
    broken = daily()
    Job.objects.filter(pk=broken.pk).update(schedule_error="no such zone.", next_due_at=None)

    found = why.of_job(Job.objects.get(), SOON)

    assert found.state == "broken"
    assert said(found) == "Its schedule can't be read: no such zone."


@pytest.mark.parametrize(("active", "state"), [(True, "broken"), (False, "off")])
def test_a_zone_that_is_gone_is_the_reason_before_any_tick_has_seen_it(
    active: bool, state: str
) -> None:
    alive()
    Job.objects.filter(pk=daily(is_active=active).pk).update(timezone="Europe/Atlantis")

    found = why.of_job(Job.objects.get(), SOON)

    assert found.state == state
    assert "Atlantis" in found.rule("schedule").sentence
    assert "Atlantis" in said(found)


def test_what_was_to_run_once_is_over() -> None:
    alive()
    once = job("once", job_type="once", schedule="2026-11-24 14:00")
    Job.objects.filter(pk=once.pk).update(next_due_at=None)

    found = why.of_job(Job.objects.get(), NOON + 2 * HOUR)

    assert found.state == "over"
    assert "once" in said(found)


def test_a_deadline_that_has_passed_ends_it() -> None:
    alive()
    ended = daily(deadline=NOON + 30 * HOUR)
    Job.objects.filter(pk=ended.pk).update(deadline=NOON - MINUTE, next_due_at=None)

    found = why.of_job(Job.objects.get(), SOON)

    assert (found.state, said(found)) == (
        "over",
        "Its deadline has passed (today 12:59): it starts by its schedule no more.",
    )


def test_the_last_start_is_told_when_it_came_to_nothing() -> None:
    alive()
    nightly = daily()
    three = datetime(2026, 11, 24, 2, tzinfo=UTC)
    run(
        nightly,
        now=three,
        trigger="schedule",
        state="skipped",
        reason_code="overlap",
        reason_facts={"run": 17},
        blocking_run_id=17,
        ended_at=three,
    )

    found = why.of_job(nightly, SOON)

    assert said(found).endswith(
        "The last one was due today 03:00. Skipped: run 17 was still active."
    )
    assert [event.run_id for event in found.history] == [Run.objects.get().pk]


def test_a_condition_that_is_not_met_keeps_nobody_before_something_is_due() -> None:
    alive(idle=False)

    found = why.of_job(daily(only_when_idle=True), SOON)

    assert found.state == "scheduled"
    assert found.rule("idle").state == "info"
    assert found.rule("idle").sentence == (
        "If it were started now: Waits until the machine is idle."
    )
    assert "idle" not in said(found)


@pytest.fixture
def cleanup() -> Job:
    """Return the job of the skill that frees VRAM."""
    skills.install(NOON - HOUR)
    return Job.objects.get(skill="cleanup_vram")


def test_a_skill_says_when_it_runs_and_how_it_went_last(cleanup) -> None:
    alive()
    run(cleanup, trigger="tick", state="succeeded", started_at=NOON, ended_at=NOON + SECOND)

    found = why.of_job(cleanup, SOON)

    assert found.state == "scheduled"
    assert said(found) == (
        "It is not due now: it runs when VRAM is nearly full. "
        "The last one was due today 13:00. Done after 1 s."
    )


def test_a_skill_that_is_due_says_why(cleanup) -> None:
    alive()
    full = Reading("vram", State.HIGH, 95.0)
    Snapshot.objects.create(host="here", at=SOON, readings=[full.as_json()])

    assert "It is due (" in said(why.of_job(cleanup, SOON))


def test_a_skill_for_idle_times_says_who_is_here() -> None:
    skills.install(NOON - HOUR)
    alive(idle=False, idle_reasons=[CAME])

    found = why.of_job(Job.objects.get(skill="validate_configs"), SOON)

    assert "Waits until the machine is idle (somebody came back)" in said(found)


def test_a_skill_that_is_gone_or_off_says_so(cleanup) -> None:
    alive()
    Job.objects.filter(pk=cleanup.pk).update(schedule_error="It is not installed any more.")
    gone = why.of_job(Job.objects.get(pk=cleanup.pk), SOON)
    Job.objects.filter(pk=cleanup.pk).update(schedule_error="")
    Job.objects.filter(pk=cleanup.pk).update(is_active=False)

    assert gone.state == "broken"
    off = why.of_job(Job.objects.get(pk=cleanup.pk), SOON)
    assert (off.state, said(off)) == ("off", "The job is switched off: it starts by hand alone.")


# ── What was due and has not been started ────────────────────────────────────────────────────────
def overdue() -> Job:
    late = daily()
    Job.objects.filter(pk=late.pk).update(next_due_at=datetime(2026, 11, 24, 2, tzinfo=UTC))
    return Job.objects.get(pk=late.pk)


def test_nothing_starts_without_a_daemon() -> None:
    found = why.of_job(overdue(), SOON)

    assert found.state == "overdue"
    assert said(found) == (
        "It was due today 03:00 and has not been started. The daemon is not running."
    )
    assert "bach daemon start" in found.rule("daemon").sentence


def test_a_daemon_that_has_fallen_silent_is_as_good_as_none() -> None:
    alive(NOON - HOUR)

    found = why.of_job(overdue(), SOON)

    assert found.rule("daemon").state == "blocked"
    assert "not running" in said(found)


def test_a_daemon_that_was_killed_a_moment_ago_is_not_called_alive() -> None:
    Node.objects.create(host=socket.gethostname(), pid=1, started_at=NOON, seen_at=SOON - SECOND)

    assert why.of_job(overdue(), SOON).rule("daemon").code == "daemon_gone"
    with pidfile.held(django_settings.DATA_DIR / "daemon.pid"):
        assert why.of_job(Job.objects.get(), SOON).rule("daemon").state == "ok"


def test_what_is_due_this_moment_starts_in_a_moment() -> None:
    alive()
    now = datetime(2026, 11, 24, 2, tzinfo=UTC) + SECOND
    Node.objects.update(seen_at=now)

    assert said(why.of_job(overdue(), now)) == "It was due today 03:00 and starts in a moment."


def test_what_nobody_can_explain_is_called_so() -> None:
    alive(NOON + HOUR)

    for found in (why.of_job(overdue(), SOON), why.of_run(run(), NOON + HOUR)):
        assert "nothing that is known keeps it" in said(found)
        assert "bach daemon doctor" in said(found)


def test_a_clock_that_is_wrong_holds_what_is_due(board) -> None:
    alive()
    board.raise_("clock_behind", now="2020-01-01 00:00", newest="2026-11-24 12:00", minutes=5)

    found = why.of_job(overdue(), SOON)

    assert blocked(found) == ["schedule", "clock"]
    assert "clock seems to be wrong" in said(found)
    assert why.of_run(run(), SOON).rule("clock").state == "info"


# ── Several things at once ───────────────────────────────────────────────────────────────────────
def test_off_held_without_pool_and_without_daemon_the_decisive_one_comes_first() -> None:
    pool = Pool(name="gpu", size=1).store(now=NOON, by="anna")
    poor = daily(pools={"gpu": 1}, is_active=False)
    pool.remove()
    Policy.set_hold("drain", now=NOON, by="anna")

    found = why.of_job(poor, SOON)

    assert blocked(found) == ["enabled", "daemon", "pool", "held"]
    assert said(found) == (
        "The job is switched off: it starts by hand alone. Besides: The daemon is not running. "
        "There is no pool “gpu” any more. Make it again, or take it out of the job. "
        "Everything is held by anna since today 13:00."
    )


def test_a_waiting_run_of_the_same_job_is_kept_by_all_but_the_switch() -> None:
    pool = Pool(name="gpu", size=1).store(now=NOON, by="anna")
    poor = daily(pools={"gpu": 1})
    waits = run(poor, pools={"gpu": 1})
    pool.remove()
    poor.set_active(active=False, now=NOON, by="anna")
    Policy.set_hold("drain", now=NOON, by="anna", note="moving house")

    found = why.of_job(poor, SOON)

    assert (found.state, found.run_id) == ("waiting", waits.pk)
    assert blocked(found) == ["daemon", "pool", "held"]
    assert said(found).startswith("The daemon is not running. Besides: There is no pool “gpu”")
    assert "moving house" in said(found)
    assert found.rule("enabled").state == "info"


def test_more_than_a_sentence_can_hold_is_counted() -> None:
    alive(idle=False)
    Policy(quiet_hours="10:00-20:00").store(now=NOON, by="anna")
    needs = {"idle": True, "vram_mb": 1, "services": ["ollama"], "disk_mb": 1, "zone": "UTC"}

    found = why.of_run(run(needs={**needs, "window": "1-2"}), SOON)
    one_less = why.of_run(run(needs=needs), SOON)

    gated = ["quiet_hours", "idle", "services", "vram", "disk"]
    assert blocked(found) == ["window", *gated]
    assert said(found).endswith("2 more things keep it; they are listed below.")
    assert blocked(one_less) == gated
    assert "disk" in said(one_less)


def test_what_nobody_measures_without_a_daemon_is_no_reason_of_its_own() -> None:
    found = why.of_run(run(needs={"idle": True, "vram_mb": 8000, "load_percent": 1}), SOON)

    assert blocked(found)[0] == "daemon"
    assert {found.rule(name).state for name in ("idle", "vram")} == {"unknown"}


# ── A run that waits ─────────────────────────────────────────────────────────────────────────────
def test_a_run_that_nothing_keeps_starts_in_a_moment() -> None:
    alive()

    found = why.of_run(run(), SOON)

    assert (found.state, blocked(found)) == ("waiting", [])
    assert said(found) == "It was due today 13:00 and starts in a moment."


def test_a_run_waits_for_the_end_of_another_of_its_job() -> None:
    alive()
    busy = run(state=Run.State.RUNNING)

    found = why.of_run(run(busy.job), SOON)

    assert said(found) == f"Waits for the end of run {busy.pk} of the same job."
    assert why.of_job(busy.job, SOON).state == "waiting"


def test_a_run_started_beside_others_does_not_wait_for_them() -> None:
    alive()
    busy = run(state=Run.State.RUNNING)

    found = why.of_run(run(busy.job, beside=True), SOON)

    assert found.rule("overlap").state == "ok"


def test_a_run_waits_for_a_pool_and_says_what_is_free() -> None:
    alive()
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    run(state=Run.State.RUNNING, pools={"gpu": 1})

    found = why.of_run(run(pools={"gpu": 2}), SOON)

    assert said(found) == "Waits for pool “gpu”: needs 2, free are 1 of 2."


def test_a_smaller_run_waits_its_turn_behind_one_that_needs_the_whole_pool() -> None:
    alive()
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    run(state=Run.State.RUNNING, pools={"gpu": 1})
    run(pools={"gpu": 2})

    found = why.of_run(run(pools={"gpu": 1}), SOON)

    assert blocked(found) == ["turn"]
    assert found.rule("turn").facts["n"] == 2


def test_a_run_waits_for_a_place_that_goes_to_those_before_it() -> None:
    alive()
    Policy(max_parallel=1).store(now=NOON, by="anna")
    first = run(priority=5)

    found = why.of_run(run(), SOON)

    assert blocked(found) == ["slots"]
    assert said(found) == "0 of 1 places are taken, the others go to runs before it."
    assert blocked(why.of_run(first, SOON)) == []


def test_a_retry_waits_until_its_time() -> None:
    alive()
    again = run(
        attempt=2,
        not_before=NOON + HOUR,
        reason_code="retry",
        reason_facts={"attempt": 1, "why": "exit 3", "pause": 3600},
    )

    found = why.of_run(again, SOON)

    assert said(found) == "Waits for its next attempt at today 14:00."


def test_a_run_that_was_put_back_before_it_began_is_not_called_caught_up(board) -> None:
    alive()
    board.raise_("disk_full", free_mb=0)

    found = why.of_run(run(not_before=NOON + MINUTE), SOON)

    assert said(found) == "It starts at today 13:01 at the earliest."
    assert found.rule("storage").state == "info"


def test_a_displaced_run_says_who_came_and_when_it_may_go_on() -> None:
    alive()
    made_way = run(
        attempt=2,
        displacements=1,
        not_before=NOON + HOUR,
        reason_code="displaced",
        reason_facts=CAME,
        needs={"idle": True},
    )
    Displacement.objects.create(
        run=made_way, job_id=made_way.job_id, job_name="x", at=NOON, cause=CAME, yielded_seconds=1.5
    )

    found = why.of_run(made_way, SOON)

    assert said(found).startswith(
        "Made way (somebody came back) and goes on at today 14:00 at the earliest."
    )
    assert "displaced" in [event.code for event in found.history]


# ── Conditions ───────────────────────────────────────────────────────────────────────────────────
def test_a_run_waits_for_idleness_with_reason_and_end() -> None:
    alive(idle=False, idle_reasons=[CAME], idle_from=SOON + 2 * MINUTE)

    found = why.of_run(run(needs={"idle": True}), SOON)

    assert said(found) == (
        "Waits until the machine is idle (somebody came back); "
        "if nothing happens, that is at today 13:02."
    )


def test_a_run_waits_for_vram_that_others_have_been_promised() -> None:
    alive()
    Snapshot.objects.create(host="here", at=SOON, readings=[vram(10_000).as_json()])
    run(state=Run.State.RUNNING, started_at=SOON, needs={"vram_mb": 6000})

    found = why.of_run(run(needs={"vram_mb": 8000}), SOON)

    assert blocked(found) == ["vram"]
    assert "6.0 GB are promised" in said(found)


def test_more_vram_than_there_is_comes_before_what_passes_by_itself() -> None:
    alive(idle=False)
    Snapshot.objects.create(host="here", at=SOON, readings=[vram(10_000).as_json()])

    found = why.of_run(run(needs={"vram_mb": 30_000, "idle": True}), SOON)

    assert blocked(found) == ["vram", "idle"]
    assert said(found).startswith("Can't start: it needs 30.0 GB of VRAM")


def test_readings_of_long_ago_are_none() -> None:
    alive(SOON + HOUR)
    reading = Reading("ollama", State.OK, 3.0)
    Snapshot.objects.create(host="here", at=SOON, readings=[reading.as_json()])

    found = why.of_run(run(needs={"services": ["ollama"]}, not_before=SOON), SOON + HOUR)

    assert found.rule("services").code == "waits_service_unknown"
    assert "since today 13:00" in said(found)


def test_what_a_person_starts_all_the_same_waits_for_no_condition() -> None:
    alive(idle=False)
    waits = run(needs={"idle": True})
    scheduler.force(waits, by="anna", now=SOON)

    found = why.of_run(Run.objects.get(pk=waits.pk), SOON)

    assert blocked(found) == []
    assert "anna" in found.rule("idle").sentence
    assert "anna" in found.rule("forced").sentence


def test_quiet_hours_that_came_later_may_swallow_a_window_whole() -> None:
    alive()
    night = daily(window="23:00-05:00")
    Policy(quiet_hours="22:00-06:00").store(now=NOON, by="anna")

    found = why.of_job(night, SOON)

    assert "quiet_hours" in blocked(found)
    assert "Besides: Can't start: its own times lie wholly in the quiet hours" in said(found)


# ── A run that runs ──────────────────────────────────────────────────────────────────────────────
def test_a_running_run_says_why_it_runs_and_what_would_end_it() -> None:
    alive(SOON + MINUTE)
    works = job(
        "works",
        timeout_seconds=3600,
        memory_limit_mb=512,
        only_when_idle=True,
        on_presence="displace",
    )
    verdict = {"gate": "idle", "open": True, "code": "gate_idle", "facts": {}}
    runs = run(
        works,
        state="running",
        trigger="schedule",
        started_at=SOON,
        needs=works.needs(),
        start_readings=[verdict],
    )
    Wait.objects.create(run=runs, code="waits_idle", began_at=NOON, seen_at=SOON)

    found = why.of_job(works, SOON + MINUTE)

    assert (found.state, found.run_id) == ("running", runs.pk)
    assert said(found) == (
        "It runs since today 13:00. It was due today 13:00. "
        "Before that: Waited until the machine was idle."
    )
    assert "today 14:00" in found.rule("time_limit").sentence
    assert "512 MB" in found.rule("limits").sentence
    assert "makes way" in found.rule("presence").sentence
    assert "When it started: The machine is idle" in found.rule("idle").sentence
    assert blocked(found) == []


def test_a_running_run_that_makes_way_just_now_says_so() -> None:
    alive()
    runs = run(state="running", started_at=NOON, reason_code="displacing", reason_facts=CAME)

    assert "Makes way: somebody came back." in said(why.of_run(runs, SOON))


def test_a_running_run_that_is_to_stop_says_who_wants_it() -> None:
    alive()
    runs = run(state="running", started_at=NOON)
    scheduler.stop(runs, by="bernd", now=SOON)

    found = why.of_run(Run.objects.get(pk=runs.pk), SOON)

    assert "is being stopped" in said(found)
    assert "bernd" in found.rule("stop").sentence


def test_a_run_goes_on_without_the_daemon_and_while_all_is_held() -> None:
    Policy.set_hold("drain", now=NOON, by="anna")

    found = why.of_run(run(state="running", started_at=NOON), SOON)

    assert blocked(found) == []
    assert found.rule("daemon").state == found.rule("held").state == "info"
    assert "not there to see whether it still does" in said(found)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("skip", "It will be skipped: it has to begin by today 14:00, and can't before "),
        ("run", "It will start today 14:00 whatever its conditions say: "),
    ],
)
def test_what_has_to_begin_before_it_may_says_what_becomes_of_it(
    action: str, expected: str
) -> None:
    alive()
    needs = {"window": "22:00-06:00", "zone": "Europe/Berlin", "action": action}

    late = why.of_run(run(needs=needs, expires_at=NOON + HOUR), SOON)
    in_time = why.of_run(run(needs=needs, expires_at=NOON + 12 * HOUR), SOON)

    assert said(late).startswith(expected)
    assert "today 22:00" in said(late)
    assert said(in_time).startswith("Waits for its time")


def test_a_job_by_hand_alone_is_not_kept_by_quiet_hours() -> None:
    alive()
    Policy(quiet_hours="20:00-08:00").store(now=NOON, by="anna")

    found = why.of_job(job(window="22:00-06:00"), SOON)

    assert found.rule("quiet_hours").state != "blocked"
    assert "quiet hours" not in said(found)


# ── The past ─────────────────────────────────────────────────────────────────────────────────────
def ended(of: Job | None = None, *, now: datetime = NOON, **fields) -> Run:
    wanted = {"trigger": "schedule", "ended_at": now + HOUR, **fields}
    return run(of, now=now, **wanted)


def test_a_skipped_run_names_the_one_that_was_in_its_way_and_when_that_ran() -> None:
    nightly = daily()
    other = ended(nightly, now=NOON - HOUR, state="succeeded", started_at=NOON - HOUR)
    skipped = ended(
        nightly,
        state="skipped",
        reason_code="overlap",
        blocking_run_id=other.pk,
        ended_at=NOON,
    )

    found = why.of_run(skipped, SOON)

    assert said(found) == f"Due today 13:00. Skipped: run {other.pk} was still active."
    assert found.rule("overlap").state == "blocked"
    assert "it ran from today 12:00 to today 13:00" in found.rule("overlap").sentence


def test_a_run_that_was_skipped_after_a_long_wait_says_for_what_it_waited() -> None:
    skipped = ended(
        state="skipped",
        reason_code="waited_too_long",
        reason_facts={"seconds": 3600},
        needs={"vram_mb": 8000},
    )
    facts = {"threshold": 8000, "value": 3100}
    Wait.objects.create(
        run=skipped, code="waits_vram", facts=facts, began_at=NOON, seen_at=NOON + HOUR
    )

    found = why.of_run(skipped, NOON + 2 * HOUR)

    assert said(found) == (
        "Due today 13:00. Skipped: it could not start within the longest wait of 1 h. "
        "While it stood in line: Waited for VRAM: it needed 8.0 GB, free were 3.1 GB."
    )
    assert found.rule("vram").state == "blocked"
    assert found.rule("vram").sentence.startswith(
        "From today 13:00 to today 14:00: Waited for VRAM"
    )
    assert found.rule("idle").code == "not_asked"


def test_of_a_run_that_waited_very_often_the_newest_times_are_told_and_the_others_counted() -> None:
    skipped = ended(state="skipped", reason_code="cancelled", needs={"load_percent": 50})
    Wait.objects.bulk_create(
        Wait(
            run=skipped,
            code="waits_load",
            facts={"threshold": 50, "value": 60 + n},
            began_at=NOON + n * SECOND,
            seen_at=NOON + n * SECOND,
        )
        for n in range(500)
    )

    found = why.of_run(skipped, NOON + 2 * HOUR)

    told = found.rule("load").sentence
    assert told.startswith("Waits before that: 480. From ")
    assert told.count("From ") == 20
    assert told.endswith("it was 559 %.")
    assert [event.code for event in found.history].count("waits_load") == 20
    (more,) = [event for event in found.history if event.code == "more_waits"]
    assert (more.sentence, more.at) == ("Waits before that: 480.", NOON)


def test_nothing_is_said_of_the_past_that_was_not_recorded() -> None:
    alive(idle=False)
    Policy.set_hold("stop", now=NOON + 2 * HOUR, by="anna")
    Policy.objects.update(quiet_hours="00:00-23:00")
    old = ended(state="missed", reason_code="")

    found = why.of_run(old, NOON + 3 * HOUR)

    assert said(found) == "Due today 13:00. Missed. Why is not recorded."
    told = {rule.name: rule.state for rule in found.rules}
    assert {told[name] for name in ("idle", "held", "quiet_hours", "daemon", "pool")} == {"unknown"}


def test_a_run_that_did_begin_was_kept_by_nothing() -> None:
    done = ended(state="succeeded", started_at=NOON + SECOND, ended_at=NOON + 42 * SECOND)

    found = why.of_run(done, NOON + HOUR)

    assert said(found) == "Due today 13:00. Done after 41 s."
    assert found.rule("pool").code == "no_hindrance"
    assert found.rule("misfire").sentence.replace("\u00a0", " ") == (
        "It began 1 s after it was due."
    )
    assert blocked(found) == []


def test_a_failed_run_says_how_it_failed() -> None:
    failed = ended(state="failed", started_at=NOON, reason_code="exit", reason_facts={"code": 3})

    assert said(why.of_run(failed, NOON + 2 * HOUR)) == (
        "Due today 13:00. Failure after 1 h. The command ended with exit code 3."
    )


def test_what_is_lost_is_not_said_twice() -> None:
    lost = ended(state="lost", started_at=NOON, reason_code="supervisor_gone")

    assert said(why.of_run(lost, NOON + 2 * HOUR)).startswith(
        "Due today 13:00. Lost: the process that watched this run was killed"
    )


def test_a_missed_start_tells_what_happened_to_the_daemon_meanwhile() -> None:
    missed = ended(state="missed", reason_code="misfire")
    Incident.note("asleep", now=NOON + HOUR + SECOND, seconds=3600)
    Incident.note("asleep", now=NOON - HOUR, seconds=60)

    found = why.of_run(missed, NOON + 2 * HOUR)

    assert "This machine slept for 1\u00a0h" in found.history[-1].sentence
    assert len([event for event in found.history if event.code == "asleep"]) == 1
    assert found.rule("misfire").state == "blocked"


def test_attempts_displacements_and_waits_stand_in_their_order() -> None:
    done = ended(state="succeeded", started_at=NOON + 50 * MINUTE, attempt=3, displacements=1)
    Attempt.objects.create(
        run=done,
        number=1,
        fence=1,
        state="failed",
        reason_code="exit",
        reason_facts={"code": 3},
        started_at=NOON + 10 * MINUTE,
        ended_at=NOON + 20 * MINUTE,
    )
    Attempt.objects.create(
        run=done,
        number=2,
        fence=2,
        state=Attempt.DISPLACED,
        started_at=NOON + 30 * MINUTE,
        ended_at=NOON + 40 * MINUTE,
    )
    Displacement.objects.create(
        run=done,
        job_id=done.job_id,
        job_name="x",
        at=NOON + 39 * MINUTE,
        cause=CAME,
        yielded_seconds=2,
    )
    Wait.objects.create(run=done, code="waits_idle", began_at=NOON, seen_at=NOON + 10 * MINUTE)

    found = why.of_run(done, NOON + 2 * HOUR)

    assert [event.code for event in found.history] == [
        "queued",
        "waits_idle",
        "exit",
        "displaced",
        "began",
        "succeeded",
    ]
    assert found.rule("presence").facts == {"n": 1}


def test_a_run_started_against_its_conditions_says_so_for_ever() -> None:
    verdict = {"gate": "idle", "open": False, "code": "waits_idle", "facts": {}}
    done = ended(
        state="succeeded",
        started_at=NOON,
        needs={"idle": True},
        forced_by="anna",
        start_readings=[verdict],
    )

    found = why.of_run(done, NOON + 2 * HOUR)

    assert "by anna" in said(found)
    assert found.rule("idle").state == "info"
    assert "Waits until the machine is idle" in found.rule("idle").sentence


@pytest.mark.parametrize("code", ["gate_waived", "exit"])
def test_that_it_was_the_last_chance_is_told_once(code: str) -> None:
    done = ended(
        state="failed", started_at=NOON, forced_by="job", reason_code=code, reason_facts={"code": 3}
    )

    told = said(why.of_run(done, NOON + 2 * HOUR))

    assert told.count("last chance") == 1
    assert "by job" not in told


def test_one_is_told_as_one() -> None:
    alive()
    done = ended(state="succeeded", started_at=NOON, displacements=1)

    assert why.of_run(done, SOON).rule("presence").sentence == "It made way once."


# ── What became of it then ───────────────────────────────────────────────────────────────────────
THREE = datetime(2026, 11, 24, 2, tzinfo=UTC)


def test_at_three_it_was_skipped() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    ended(
        nightly,
        now=THREE,
        state="skipped",
        reason_code="overlap",
        reason_facts={"run": 17},
        ended_at=THREE,
    )

    found = why.of_job(nightly, NOON, at=THREE)

    assert said(found) == "Due today 03:00. Skipped: run 17 was still active."


def test_between_two_starts_nothing_was_due_and_the_last_one_is_told() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    ended(nightly, now=THREE, state="succeeded", started_at=THREE, ended_at=THREE + MINUTE)

    found = why.of_job(nightly, NOON, at=THREE + 2 * HOUR)

    assert said(found) == (
        "Nothing is recorded as due today 05:00; the last before it was due today 03:00. "
        "Due today 03:00. Done after 1 min."
    )


def test_in_the_middle_of_a_run_it_was_running() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    done = ended(nightly, now=THREE, state="succeeded", started_at=THREE, ended_at=THREE + HOUR)

    found = why.of_job(nightly, NOON, at=THREE + 30 * MINUTE)

    assert said(found).startswith(
        f"It was running today 03:30: run {done.pk} had begun today 03:00."
    )


def test_while_it_waited_it_says_for_what_it_waited_then() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    done = ended(
        nightly, now=THREE, state="succeeded", started_at=THREE + HOUR, ended_at=THREE + 2 * HOUR
    )
    Wait.objects.create(run=done, code="waits_idle", began_at=THREE, seen_at=THREE + 20 * MINUTE)

    idle = why.of_job(nightly, NOON, at=THREE + 10 * MINUTE)
    later = why.of_job(nightly, NOON, at=THREE + 30 * MINUTE)

    assert said(idle).startswith(
        f"It stood in line today 03:10, as run {done.pk}: Waited until the machine was idle."
    )
    assert said(later).startswith(f"It stood in line today 03:30, as run {done.pk}. ")


def test_after_it_made_way_it_stood_in_line() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    done = ended(
        nightly, now=THREE, state="succeeded", started_at=THREE + HOUR, ended_at=THREE + 2 * HOUR
    )
    Attempt.objects.create(
        run=done,
        number=1,
        fence=1,
        state=Attempt.DISPLACED,
        reason_code="displaced",
        reason_facts=CAME,
        started_at=THREE,
        ended_at=THREE + 10 * MINUTE,
    )

    found = why.of_job(nightly, NOON, at=THREE + 30 * MINUTE)

    assert said(found).startswith(
        f"It was paused today 03:30, as run {done.pk}: it had made way today 03:10 "
        "(somebody came back)."
    )
    assert "It was running today 03:05" in said(why.of_job(nightly, NOON, at=THREE + 5 * MINUTE))


def test_of_several_pauses_the_one_of_that_time_is_told() -> None:
    alive()
    nightly = daily(now=NOON - 24 * HOUR)
    paused = run(nightly, now=THREE, trigger="schedule", attempt=3, displacements=2)
    visitor = {"signal": "hand", "code": "sign_hand", "facts": {"who": "anna"}}
    for number, (began, cause) in enumerate(((THREE, CAME), (THREE + HOUR, visitor)), 1):
        Attempt.objects.create(
            run=paused,
            number=number,
            fence=number,
            state=Attempt.DISPLACED,
            reason_code="cancelled",  # as rows of an older version have it
            started_at=began,
            ended_at=began + 10 * MINUTE,
        )
        Displacement.objects.create(
            run=paused, job_id=nightly.pk, job_name="x", at=began + 9 * MINUTE, cause=cause
        )

    first = said(why.of_job(nightly, NOON, at=THREE + 30 * MINUTE))
    second = said(why.of_job(nightly, NOON, at=THREE + 90 * MINUTE))
    between = said(why.of_job(nightly, NOON, at=THREE + 65 * MINUTE))

    assert first.startswith(
        f"It was paused today 03:30, as run {paused.pk}: it had made way today 03:10 "
        "(somebody came back). By now: "
    )
    assert "(anna said to be here)" in second
    assert between.startswith("It was running today 04:05")
    assert "?" not in first + second + between
    assert {each.reason for each in paused.attempts.all()} == {"Made way."}


def test_what_still_runs_is_told_as_it_was_then() -> None:
    alive()
    nightly = daily(now=NOON - 24 * HOUR)
    busy = run(nightly, now=THREE, trigger="schedule", state="running", started_at=THREE + HOUR)
    Wait.objects.create(
        run=busy, code="waits_idle", began_at=THREE, seen_at=THREE + HOUR, facts={"why": "x"}
    )

    then = why.of_job(nightly, NOON, at=THREE)

    assert said(then).startswith(
        f"It stood in line today 03:00, as run {busy.pk}: Waited until the machine was idle (x). "
        "By now: It runs since today 04:00."
    )
    assert said(why.of_job(nightly, NOON, at=THREE + 2 * HOUR)).startswith("It was running")


def test_a_longer_run_is_told_before_a_later_one_that_was_skipped() -> None:
    nightly = daily(now=NOON - 24 * HOUR)
    long = ended(nightly, now=THREE, state="succeeded", started_at=THREE, ended_at=THREE + HOUR)
    ended(
        nightly,
        now=THREE + 10 * MINUTE,
        state="skipped",
        reason_code="overlap",
        reason_facts={"run": long.pk},
        ended_at=THREE + 10 * MINUTE,
    )

    found = why.of_job(nightly, NOON, at=THREE + 20 * MINUTE)

    assert (found.run_id, found.state) == (long.pk, "succeeded")
    assert said(found).startswith("It was running today 03:20")


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("12:35", True),
        ("2026-11-24T12:35", True),
        ("2026-11-24 12:35", True),
        ("2026-11-24T12:35Z", True),
        ("2026-11-24T12:35+01:00", True),
        ("2026-11-24T12:35 01:00", True),
        ("2026-11-24T12:35:00 01:00", False),
        ("12:35:00", False),
        ("2026-11-24T12:35:00+01:00", False),
        ("2026-11-24", False),
    ],
)
def test_a_time_without_seconds_is_the_whole_minute(written: str, whole: bool) -> None:
    assert (why.whole_minute(NOON, written) == NOON + MINUTE - timedelta.resolution) is whole


def test_within_the_minute_somebody_names_a_start_and_a_making_count() -> None:
    young = job("young", now=NOON + 40 * SECOND)
    ended(young, now=NOON + 50 * SECOND, state="succeeded", ended_at=NOON + MINUTE)
    end = NOON + MINUTE - timedelta.resolution

    whole = said(why.of_job(young, NOON + HOUR, at=NOON, end=end))

    assert whole.startswith("Due today 13:00. Done")
    assert "did not exist" in said(why.of_job(young, NOON + HOUR, at=NOON))


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_run_keeps_the_rules_it_was_queued_with_and_says_so(state: str) -> None:
    alive()
    nightly = daily()
    kept = run(nightly, state=state, started_at=NOON if state == "running" else None)
    before = said(why.of_run(kept, SOON))
    nightly.command = "something else"
    nightly.store(now=NOON, by="anna")

    found = why.of_run(Run.objects.get(pk=kept.pk), SOON)

    assert "changed" not in before
    assert "The job has been changed since" in said(found)
    assert "was queued with" in said(why.of_job(nightly, SOON))


def test_what_was_changed_of_a_job_but_not_of_its_rules_is_no_news_to_a_run() -> None:
    alive()
    kept = run(daily())
    kept.job.set_active(active=False, now=NOON, by="anna")
    kept.job.set_active(active=True, now=NOON, by="anna")

    assert "changed since" not in said(why.of_run(Run.objects.get(), SOON))
    nightly = Job.objects.get()
    nightly.only_when_idle = True
    nightly.store(now=NOON, by="anna")
    assert "changed since" in said(why.of_run(Run.objects.get(), SOON))


def test_what_ran_once_by_its_plan_is_done_and_not_missed() -> None:
    alive()
    once = job("once", job_type="once", schedule="2026-11-24 14:00")
    Job.objects.filter(pk=once.pk).update(next_due_at=None)
    ended(once, trigger="schedule", state="succeeded", started_at=NOON)

    found = said(why.of_job(Job.objects.get(), NOON + 2 * HOUR))

    assert found.startswith("It has run once (")
    assert "done. It starts by itself no more." in found


def test_many_missed_starts_in_one_row_answer_for_each_of_them() -> None:
    often = daily(now=NOON - 48 * HOUR)
    facts = {"count": 700, "first": (THREE - 12 * HOUR).isoformat(), "last": THREE.isoformat()}
    ended(
        often,
        now=THREE,
        state="missed",
        reason_code="misfire_summary",
        reason_facts=facts,
        ended_at=NOON,
    )

    found = why.of_job(often, NOON, at=THREE - 6 * HOUR)

    assert said(found) == (
        "Due today 03:00. Missed 700 times from yesterday 15:00 to today 03:00: "
        "nothing was there to start it."
    )
    assert why.of_job(often, NOON, at=THREE - 13 * HOUR).state == "none"


def test_before_anything_was_recorded_it_says_so() -> None:
    nightly = daily(now=NOON - HOUR)

    found = why.of_job(nightly, SOON, at=NOON)
    before = why.of_job(nightly, SOON, at=NOON - 2 * HOUR)

    assert found.state == "none"
    assert said(found).startswith("Nothing is recorded of this job at today 13:00 or before.")
    assert "90 days" in said(found)
    assert {rule.state for rule in found.rules} == {"unknown"}
    assert said(before) == "The job did not exist today 11:00: it was made today 12:00."


def test_the_future_is_not_told_as_if_it_were_known() -> None:
    alive()

    found = why.of_job(daily(), SOON, at=SOON + 24 * HOUR)

    assert said(found).startswith("That time is still to come (tomorrow 13:00). Not due yet")


# ── Trouble ──────────────────────────────────────────────────────────────────────────────────────
def test_a_locked_database_comes_before_all(board) -> None:
    alive()
    Policy.set_hold("drain", now=NOON, by="anna")
    board.raise_("database_locked", seconds=60)

    found = why.of_run(run(), SOON)

    assert blocked(found) == ["database", "held"]
    assert said(found).startswith("The database is locked.")
    assert "End that program" in found.rule("database").sentence


def test_a_cluster_that_is_gone_keeps_nobody(board) -> None:
    alive()
    board.raise_("cluster_silent", seconds=60)

    found = why.of_run(run(), SOON)

    assert blocked(found) == []
    assert found.rule("cluster").state == "info"
    assert "starts them itself" in found.rule("cluster").sentence


def test_a_cluster_that_runs_is_told_with_its_process() -> None:
    alive()

    with pidfile.held(django_settings.DATA_DIR / "cluster.pid"):
        rule = why.of_job(job(), SOON).rule("cluster")

    assert (rule.state, rule.facts["pid"]) == ("ok", os.getpid())


def test_supervisors_that_fail_are_told(board) -> None:
    alive()
    board.raise_("supervisors_failing", error="no more processes")

    assert "no more processes" in why.of_run(run(), SOON).rule("supervisors").sentence


@pytest.mark.parametrize("language", ["de", "en"])
def test_where_an_abbreviation_ends_a_sentence_it_has_one_dot(language: str) -> None:
    with translation.override(language):
        for code, text in reasons.SENTENCES.items():
            told = reasons.sentence(code, dict.fromkeys(reasons.FACT.findall(str(text)), 300))
            assert ".." not in told
    with translation.override("de"):
        assert reasons.sentence("service_timeout", {"seconds": 300}).endswith("5\xa0Min.")


def test_two_dots_that_are_meant_stay() -> None:
    told = reasons.sentence("no_folder", {"path": "/srv/../x"})

    assert "“/srv/../x”" in told

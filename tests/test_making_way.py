"""Conditions for a start, and runs that make way for people: rows, line and runner."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from daemon_app import admission, doorbell, gates, retention, scheduler
from daemon_app.admission import Candidate, Room
from daemon_app.gates.conditions import Conditions
from daemon_app.models import Attempt, Displacement, Node, Policy, Run, Snapshot, Wait
from daemon_app.models.run import Ending
from daemon_app.readings import Reading, State
from daemon_app.runner import Runner, environment, specification
from tests.jobs import NOON, job, run
from tests.service import soon, started

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, MINUTE, HOUR = (timedelta(seconds=n) for n in (1, 60, 3600))
CAUSE = {"signal": "request", "code": "came_back", "facts": {}}


def vram(free_mb: int) -> Reading:
    facts = {"free_mb": free_mb, "total_mb": 24_000, "used_mb": 24_000 - free_mb}
    return Reading("vram", State.OK, 100 - free_mb / 240, facts=facts)


def node(now: datetime, **state: Any) -> Node:
    return Node.objects.create(host="here", pid=1, started_at=now, seen_at=now, **state)


# ── The line ─────────────────────────────────────────────────────────────────────────────────────
def candidate(run_id: int, needs: dict[str, Any], *, forced: bool = False) -> Candidate:
    order = (True, 0, 0, 0.0, run_id)
    return Candidate(run_id, run_id, order, 1, {"gpu": 1}, needs=needs, forced=forced)


def let_in(room: Room, *line: Candidate) -> list[int]:
    return [each.run_id for each in admission.admit(room, line)]


def test_who_waits_for_the_machine_keeps_nobody_from_a_pool() -> None:
    room = Room(4, {"gpu": 1}, conditions=Conditions(NOON, idle=False))

    assert let_in(room, candidate(1, {"idle": True}), candidate(2, {})) == [2]


def test_what_is_forced_starts_whatever_is_true() -> None:
    room = Room(4, {"gpu": 1}, conditions=Conditions(NOON, idle=None))

    assert let_in(room, candidate(1, {"idle": True}, forced=True)) == [1]


def test_what_is_forced_takes_its_vram_all_the_same() -> None:
    free = Conditions(NOON, idle=True, readings={"vram": vram(10_000)}, measured_at=NOON)
    room = Room(4, {"gpu": 4}, conditions=free)
    needs = {"vram_mb": 8000}

    assert let_in(room, candidate(1, needs, forced=True), candidate(2, needs)) == [1]


def test_vram_that_was_promised_is_not_promised_again() -> None:
    free = Conditions(NOON, idle=True, readings={"vram": vram(10_000)}, measured_at=NOON)
    room = Room(4, {"gpu": 4}, conditions=free)
    line = [candidate(1, {"vram_mb": 6000}), candidate(2, {"vram_mb": 6000})]

    assert let_in(room, *line) == [1]
    room.release(1, {"gpu": 1})
    room.of_vram.pop(1)
    assert let_in(room, line[1]) == [2]


@pytest.mark.parametrize(
    ("used", "measured", "left"),
    [(None, 0, 6000), (None, 30, 6000), (None, 60, 0), (2000 << 20, 600, 4000), (8 << 33, 0, 0)],
)
def test_what_a_run_will_still_take_of_vram(used: int | None, measured: int, left: float) -> None:
    seen = NOON + measured * SECOND

    assert admission.still_to_take(6000, used, NOON, seen) == left


def test_the_line_says_which_condition_a_run_waits_for() -> None:
    node(NOON, idle=False, idle_reasons=[CAUSE])
    waits = run(job("idle", only_when_idle=True), needs={"idle": True, "zone": "Europe/Berlin"})

    assert admission.waiting(waits, NOON).code == "waits_idle"
    Node.objects.update(idle=True)
    assert admission.waiting(waits, NOON).code == "waits_starting"


def test_a_reading_of_long_ago_says_nothing() -> None:
    node(NOON, idle=True)
    Snapshot.objects.create(host="here", at=NOON - HOUR, readings=[vram(20_000).as_json()])
    waits = run(job("big", min_vram_mb=1000), needs={"vram_mb": 1000, "zone": "Europe/Berlin"})

    assert admission.waiting(waits, NOON).code.startswith("waits_vram")


# ── The last chance ──────────────────────────────────────────────────────────────────────────────
def overnight(**fields: Any) -> Run:
    """Return a run due at noon that is to be done by 15:00 in Berlin: 14:00 in UTC."""
    of = job("overnight", job_type="cron", schedule="0 13 * * *", finish_by="15:00", **fields)
    scheduler.tick(NOON)
    return of.runs.get()


def test_what_can_not_be_done_in_time_is_skipped() -> None:
    late = overnight(only_when_idle=True, now=NOON - HOUR)

    assert late.expires_at == NOON + 2 * HOUR
    scheduler.sweep(NOON + 2 * HOUR)

    late.refresh_from_db()
    assert (late.state, late.reason_code) == (Run.State.SKIPPED, "finish_by_skip")
    assert "15:00" in late.reason


def test_or_started_all_the_same_and_then_it_makes_way_for_nobody() -> None:
    late = overnight(only_when_idle=True, gate_action="run", now=NOON - HOUR)

    scheduler.sweep(NOON + 2 * HOUR)

    late.refresh_from_db()
    assert (late.state, late.reason_code) == (Run.State.QUEUED, "gate_waived")
    assert late.forced_by
    assert late.expires_at is None


def test_a_job_that_takes_long_has_to_begin_sooner() -> None:
    of = job(
        "overnight",
        now=NOON - HOUR,
        job_type="cron",
        schedule="0 13 * * *",
        finish_by="15:00",
    )
    for hour in range(3):
        before = NOON - (hour + 30) * HOUR
        run(of, now=before, state="succeeded", started_at=before, ended_at=before + 90 * MINUTE)

    scheduler.tick(NOON)

    assert of.runs.get(state="queued").expires_at == NOON + 30 * MINUTE


def test_one_that_takes_longer_than_there_is_time_may_start_when_it_is_due() -> None:
    of = job("long", now=NOON - HOUR, job_type="cron", schedule="0 13 * * *", finish_by="14:30")
    for hour in range(3):
        before = NOON - (hour + 30) * HOUR
        run(of, now=before, state="succeeded", started_at=before, ended_at=before + 90 * MINUTE)

    scheduler.tick(NOON)

    due = of.runs.get(state="queued")
    assert gates.closed(due.needs, Conditions(NOON + SECOND, idle=True)) is None


def test_what_a_person_starts_need_not_be_done_by_any_time() -> None:
    of = job("overnight", finish_by="13:01", job_type="cron", schedule="0 1 * * *")

    by_hand = scheduler.start(of, trigger="manual", by="anna", now=NOON + MINUTE).run

    assert by_hand is not None
    assert (by_hand.expires_at, "finish_by" in by_hand.needs) == (None, False)


def test_a_retry_began_in_time_and_is_not_held_up_by_the_clock_later() -> None:
    late = overnight(max_retries=1, now=NOON - HOUR)
    Run.objects.filter(pk=late.pk).update(state="running", fence=1, started_at=NOON)
    end = Ending(late.pk, 1, "failed", NOON + 3 * HOUR, NOON, exit_code=1)

    assert Run.objects.put_back(end, not_before=NOON + 3 * HOUR, code="retry", facts={})

    late.refresh_from_db()
    assert gates.closed(late.needs, Conditions(NOON + 3 * HOUR, idle=True)) is None


def test_a_run_that_made_way_has_until_the_time_it_is_to_be_done_by() -> None:
    late = overnight(now=NOON - HOUR)
    Run.objects.filter(pk=late.pk).update(state="running", fence=1, started_at=NOON)
    late.refresh_from_db()

    make_way(late, NOON + 110 * MINUTE)
    scheduler.sweep(NOON + 119 * MINUTE)

    late.refresh_from_db()
    assert (late.state, late.expires_at) == ("queued", NOON + 2 * HOUR)
    scheduler.sweep(NOON + 2 * HOUR)
    late.refresh_from_db()
    assert late.reason_code == "finish_by_skip"


def test_and_waits_no_longer_than_its_job_lets_it() -> None:
    of = going(NOON)
    Run.objects.filter(pk=of.pk).update(definition={**of.definition, "max_wait_seconds": 3600})
    of.refresh_from_db()

    make_way(of, NOON + HOUR)

    of.refresh_from_db()
    assert of.expires_at == NOON + 2 * HOUR


def test_what_was_in_line_before_an_outage_has_missed_nothing() -> None:
    of = job("idle", job_type="cron", schedule="0 13 * * *", only_when_idle=True, misfire="skip")
    waits = run(of, trigger="schedule", needs=of.needs())

    assert scheduler.expire(NOON + 3 * HOUR, NOON + HOUR) == 0

    waits.refresh_from_db()
    assert waits.state == "queued"


def test_a_person_may_start_a_waiting_run_all_the_same_once() -> None:
    waits = run(job("idle", only_when_idle=True), needs={"idle": True}, not_before=NOON + HOUR)
    Run.objects.filter(pk=waits.pk).update(expires_at=NOON + MINUTE)

    assert scheduler.force(waits, by="anna", now=NOON)

    waits.refresh_from_db()
    assert (waits.forced_by, waits.not_before, waits.expires_at) == ("anna", NOON, None)
    assert not scheduler.force(waits, by="bea", now=NOON)


def test_what_a_person_starts_does_not_wait_for_the_end_of_quiet_hours() -> None:
    of = job("loud", window="08:00-20:00")

    by_hand = scheduler.start(of, trigger="manual", by="anna", now=NOON).run

    assert by_hand is not None
    assert by_hand.needs == {
        "window": of.window,
        "zone": "Europe/Berlin",
        "in_quiet_hours": True,
    }


# ── Making way ───────────────────────────────────────────────────────────────────────────────────
def going(since: datetime, **fields: Any) -> Run:
    given = {"state": "running", "fence": 1, "started_at": since, "owner": "here", **fields}
    return run(job(f"job-{Run.objects.count()}", on_presence="displace"), now=since, **given)


def make_way(of: Run, at: datetime, **facts: Any) -> datetime | None:
    end = Ending(of.pk, of.fence, "cancelled", at, of.started_at, exit_code=0)
    return Run.objects.displace(end, cause=CAUSE, now=at, **facts)


def test_making_way_is_neither_a_failure_nor_the_end() -> None:
    of = going(NOON)

    assert make_way(of, NOON + HOUR, token="epoch 3") == NOON + HOUR

    of.refresh_from_db()
    assert (of.state, of.displacements, of.progress_token) == ("queued", 1, "epoch 3")
    assert "jemand" in of.reason
    assert of.needs["idle"]
    (slice_,) = Attempt.objects.filter(run=of)
    assert (slice_.state, slice_.started_at) == (Attempt.DISPLACED, NOON)


def test_who_never_gets_a_fair_slice_pauses_longer_each_time_and_a_fair_one_ends_that() -> None:
    of = going(NOON)
    pauses = []
    for number in range(1, 9):
        Run.objects.filter(pk=of.pk).update(state="running", fence=number, started_at=NOON)
        of.refresh_from_db()
        until = make_way(of, NOON + 30 * SECOND)
        assert until is not None
        pauses.append(int((until - NOON - 30 * SECOND) / MINUTE))

    assert pauses == [0, 5, 10, 20, 40, 60, 60, 60]
    Run.objects.filter(pk=of.pk).update(state="running", fence=9, started_at=NOON)
    of.refresh_from_db()
    assert make_way(of, NOON + 2 * MINUTE) == NOON + 2 * MINUTE


def test_who_was_cancelled_meanwhile_is_not_put_back() -> None:
    of = going(NOON)
    of.request_stop(by="anna", now=NOON)

    assert make_way(of, NOON + HOUR) is None


def test_nor_what_has_ended_under_this_fence() -> None:
    of = going(NOON)
    of.finish("succeeded", now=NOON)

    assert make_way(of, NOON + HOUR) is None


# ── The runner ───────────────────────────────────────────────────────────────────────────────────
@dataclass
class Watcher:
    """A sentry that only listens."""

    idle: bool | None = True
    since: datetime | None = None
    idle_from: datetime | None = None
    reasons: list[Any] = field(default_factory=list)
    watched: dict[int, tuple[Path, int, str]] = field(default_factory=dict)
    cause: dict[str, Any] | None = None
    besides: list[bool] = field(default_factory=list)

    @property
    def state(self) -> "Watcher":
        return self

    def watch(
        self, run_id: int, folder: Path, fence: int, how: str, _needs: Any, *, beside: bool
    ) -> None:
        self.besides.append(beside)
        self.watched[run_id] = folder, fence, how

    def release(self, run_id: int) -> None:
        self.watched.pop(run_id, None)

    def cause_of(self, run_id: int) -> dict[str, Any] | None:
        return self.cause if run_id in self.watched else None


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(host="here", runtime=doorbell.runtime_dir(settings.DATA_DIR), max_parallel=4)
    runner._look_at = float("inf")  # the runs of these tests have no supervisor to be seen
    yield runner
    runner.close()


def news(op: str, of: Run, **facts: object) -> bytes:
    return json.dumps({"op": op, "run": of.pk, "fence": of.fence, **facts}).encode()


def adopted(runner: Runner, **fields: Any) -> Run:
    of = started(soon(on_presence="displace", **fields))
    of.claim(owner="here", now=timezone.now())
    runner.sentry = Watcher()
    runner.adopt_one(of)
    return of


def test_a_run_that_made_way_is_back_in_line_and_how_fast_is_kept(runner) -> None:
    of = adopted(runner)
    watcher = runner.sentry
    assert watcher.watched == {of.pk: (of.folder, 1, "displace")}
    watcher.idle = False
    now = time.time()

    runner.turn([news("displaced", of, at=now, cause=CAUSE)])
    of.refresh_from_db()
    assert (of.state, of.reason_code) == ("running", "displacing")
    result = {
        "fence": 1,
        "outcome": "displaced",
        "exit_code": 143,
        "duration": 60.0,
        "started_at": now - 60,
        "ended_at": now + 1,
        "asked_at": now + 0.01,
        "yielded_at": now + 0.5,
        "phase": "term",
        "token": "epoch 3",
    }
    runner.turn([news("ended", of, result=result)])

    of.refresh_from_db()
    assert (of.state, of.displacements, of.progress_token) == ("queued", 1, "epoch 3")
    assert not watcher.watched
    assert of.pk in runner.waiting
    kept = Displacement.objects.get()
    assert (kept.cause, kept.phase, kept.token) == (CAUSE, "term", "epoch 3")
    assert kept.asked_seconds == pytest.approx(0.01, abs=1e-4)
    assert kept.yielded_seconds == pytest.approx(0.5, abs=1e-4)
    assert kept.slice_seconds == pytest.approx(61, abs=0.1)


def test_it_does_not_start_again_by_what_was_known_before_somebody_came(runner) -> None:
    of = adopted(runner)
    runner._learn_conditions()  # idle
    runner.sentry.idle = False
    now = time.time()

    result = {"fence": 1, "outcome": "displaced", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])
    runner.turn([])

    of.refresh_from_db()
    assert (of.state, of.displacements) == ("queued", 1)


def test_only_what_a_person_has_started_by_hand_may_run_beside_them(runner) -> None:
    of = adopted(runner)
    make_way(of, timezone.now())
    Run.objects.filter(pk=of.pk).update(state="running", fence=2)
    of.refresh_from_db()
    runner._let_go(of.pk)

    runner.adopt_one(of)

    assert runner.sentry.besides == [True, False]


def test_what_a_daemon_before_us_heard_is_known_to_the_next(runner) -> None:
    of = adopted(runner)
    Run.objects.filter(pk=of.pk).update(reason_code="displacing", reason_facts={**CAUSE, "at": 9.0})
    now = time.time()

    result = {"fence": 1, "outcome": "displaced", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])

    assert Displacement.objects.get().cause == CAUSE


def test_what_nobody_saw_begin_has_no_time_to_yield(runner) -> None:
    of = adopted(runner)
    now = time.time()

    result = {"fence": 1, "outcome": "displaced", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0, "asked_at": now})])

    kept = Displacement.objects.get()
    assert (kept.asked_seconds, kept.yielded_seconds) == (None, None)
    assert kept.at.timestamp() == pytest.approx(now, abs=1e-3)


def test_an_end_that_comes_before_the_news_of_why_is_told_all_the_same(runner) -> None:
    of = adopted(runner)
    now = time.time()
    runner.sentry.cause = {"signal": "load", "code": "sign_load", "facts": {}, "at": now - 1}

    result = {"fence": 1, "outcome": "displaced", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0, "asked_at": now})])

    kept = Displacement.objects.get()
    assert kept.cause["signal"] == "load"
    assert kept.asked_seconds == pytest.approx(1, abs=1e-3)


def test_a_job_may_rather_be_ended_for_good(runner) -> None:
    of = adopted(runner)
    runner._held[of.pk].rules = {"on_presence": "cancel"}
    runner.turn([news("displaced", of, at=time.time(), cause=CAUSE)])
    now = time.time()

    result = {"fence": 1, "outcome": "stopped", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])

    of.refresh_from_db()
    assert (of.state, of.reason_code) == ("cancelled", "presence")


def test_for_whom_it_was_ended_is_told_also_when_its_end_comes_first(runner) -> None:
    of = adopted(runner)
    runner._held[of.pk].rules = {"on_presence": "cancel"}
    runner.sentry.cause = {**CAUSE, "at": time.time()}
    now = time.time()

    result = {"fence": 1, "outcome": "stopped", "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])

    of.refresh_from_db()
    assert (of.state, of.reason_code) == ("cancelled", "presence")


def test_who_was_asked_and_had_finished_already_is_done_and_no_more(runner) -> None:
    of = adopted(runner)
    now = time.time()
    runner.turn([news("displaced", of, at=now, cause=CAUSE)])

    result = {"fence": 1, "outcome": "exited", "exit_code": 0, "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])

    of.refresh_from_db()
    assert (of.state, of.reason_code) == ("succeeded", "")


def test_who_is_forced_while_it_starts_makes_way_for_nobody(runner) -> None:
    of = adopted(runner)

    runner.turn([news("anew", of, due=time.time())])

    assert not runner.sentry.watched


def test_the_tries_a_run_has_had_do_not_count_how_often_it_made_way(runner) -> None:
    of = adopted(runner, max_retries=1)
    Run.objects.filter(pk=of.pk).update(attempt=1200)
    held = runner._held[of.pk]
    held.attempt, now = 1200, time.time()
    Attempt.objects.bulk_create(
        Attempt(run=of, number=n, fence=-n % 10_000, state="displaced", ended_at=timezone.now())
        for n in range(1, 1200)
    )

    result = {"fence": 1, "outcome": "exited", "exit_code": 1, "started_at": now, "ended_at": now}
    runner.turn([news("ended", of, result={**result, "duration": 1.0})])

    of.refresh_from_db()
    assert of.state == "queued"
    assert of.not_before - timezone.now() < 12 * SECOND


def test_a_sign_that_no_bell_has_told_yet_keeps_a_run_from_starting(runner) -> None:
    node(timezone.now(), idle=True)
    runner.sentry = Watcher(idle=True)
    first = started(soon(only_when_idle=True))
    runner.turn([])
    runner.room.parallel = 0
    runner.expect([(first.pk, time.time())])
    runner.turn([])
    runner.sentry.idle = False
    runner.room.parallel = 4

    runner.turn([])

    first.refresh_from_db()
    assert first.state == "queued"


def aged(runner: Runner, seconds: float) -> None:
    """Let what the runner knows of the machine be so old."""
    known = runner.room.conditions
    assert known is not None
    runner.room.conditions = replace(known, now=known.now - timedelta(seconds=seconds))


def test_a_plain_start_does_not_wait_for_readings(runner) -> None:
    first, second = started(soon()), started(soon(name="second"))
    runner.expect([(first.pk, time.time())])
    runner.turn([])
    aged(runner, 30)
    runner.expect([(second.pk, time.time())])

    with CaptureQueriesContext(connection) as asked:
        runner.turn([b'{"op": "conditions"}'])

    second.refresh_from_db()
    assert second.state == "running"
    assert not [each for each in asked if "daemon_health" in each["sql"]]


def test_new_quiet_hours_hold_for_the_very_next_start(runner) -> None:
    first, second = started(soon()), started(soon(name="second"))
    runner.expect([(first.pk, time.time())])
    runner.turn([])
    Run.objects.filter(pk=second.pk).update(needs={})
    now = timezone.localtime()
    around = f"{now - HOUR:%H:%M}-{now + HOUR:%H:%M}"
    Policy(pk=1, quiet_hours=around).store(now=timezone.now(), by="anna")
    runner.expect([(second.pk, time.time())])

    runner.turn([b'{"op": "rules"}'])

    second.refresh_from_db()
    assert second.state == "queued"


def test_what_is_kept_of_one_wait_has_an_end(runner, monkeypatch) -> None:
    monkeypatch.setattr("daemon_app.runner.MOST_WAITS_KEPT", 3)
    node(timezone.now())
    runner.sentry = Watcher(idle=False, reasons=[CAUSE])
    waits = started(soon(only_when_idle=True))
    runner.expect([(waits.pk, time.time())])
    runner.turn([])

    for idle in (False, None) * 4:
        runner.sentry.idle = idle
        runner._look()

    assert Wait.objects.filter(run=waits).count() == 3


def test_old_runs_go_with_all_that_was_kept_of_them() -> None:
    old, now = going(NOON), NOON + 200 * 24 * HOUR
    make_way(old, NOON + HOUR)
    Displacement.objects.create(run=old, job_id=old.job_id, job_name=old.job_name, at=NOON)
    Wait.objects.create(run=old, code="waits_idle", began_at=NOON, seen_at=NOON)
    Run.objects.filter(pk=old.pk).update(state="succeeded", ended_at=NOON + HOUR)
    run(old.job, now=now, state="succeeded", ended_at=now)

    for _ in range(20):
        retention.step(now)

    assert not Run.objects.filter(pk=old.pk).exists()
    assert not Wait.objects.exists()
    assert not Displacement.objects.exists()


def test_what_is_waited_for_is_kept_while_it_lasts(runner) -> None:
    node(timezone.now())
    runner.sentry = Watcher(idle=False, reasons=[CAUSE])
    waits = started(soon(only_when_idle=True))
    runner.expect([(waits.pk, time.time())])
    runner.turn([])

    runner._look()
    runner._look()

    (wait,) = Wait.objects.filter(run=waits)
    assert wait.code == "waits_idle"
    runner.sentry.idle = None
    runner._look()
    assert [each.code for each in Wait.objects.all()] == ["waits_idle", "waits_idle_unknown"]


def test_a_command_is_told_where_to_go_on() -> None:
    of = started(soon(ask_signal="USR1"))
    of.progress_token = "epoch 3"

    told = environment(of, Path("/run"))

    assert told["BACH_PROGRESS_TOKEN"] == "epoch 3"
    assert told["BACH_STOP"] == str(of.folder / "asked")
    assert specification(of, Path("/run"))["ask_signal"] == "USR1"

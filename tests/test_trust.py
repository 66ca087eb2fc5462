"""Line, retries, losses and holds with the real daemon: what the runner makes of each rule."""

import os
import signal
import socket
from collections.abc import Iterator
from datetime import timedelta

import psutil
import pytest
from django.utils import timezone
from django_q.models import OrmQ

from daemon_app import scheduler, supervisor
from daemon_app.models import Incident, Policy, Pool, Run
from daemon_app.models.run import MOST_FALSE_STARTS
from tests.service import Service, belongs_to, ended, running, soon, started, text, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    service.start()
    yield service
    service.close()


def waits(run: Run, code: str) -> bool:
    from daemon_app import admission

    found = admission.waiting(run, timezone.now())
    return found is not None and found.code == code


# ── The line ─────────────────────────────────────────────────────────────────────────────────────
def test_a_run_waits_for_its_pool_and_starts_when_there_is_room(service, tmp_path) -> None:
    Pool(name="gpu", size=1).store(now=timezone.now(), by="anna")
    gate = tmp_path / "gate"
    first = soon(
        name="first",
        pools={"gpu": 1},
        command=f"echo up; until [ -e {gate} ]; do sleep 0.05; done",
    )
    second = soon(name="second", pools={"gpu": 1}, command="echo mine")
    holder = running(started(first))

    waiting = started(second)
    free = ended(started(soon(name="free")))
    assert waits(waiting, "waits_pool")
    gate.touch()

    assert ended(waiting).state == Run.State.SUCCEEDED
    assert ended(holder).ended_at <= waiting.started_at + timedelta(seconds=1)
    assert free.started_at < waiting.started_at


def test_a_pool_made_larger_lets_a_waiting_run_start(service) -> None:
    pool = Pool(name="gpu", size=1).store(now=timezone.now(), by="anna")
    big = soon(pools={"gpu": 1}, command="echo up; sleep 600")
    running(started(big))
    second = started(soon(name="second", pools={"gpu": 1}, command="echo mine"))
    until(lambda: waits(second, "waits_pool"))

    pool.size = 2
    pool.store(now=timezone.now(), by="anna")

    assert ended(second).state == Run.State.SUCCEEDED


def test_among_waiting_runs_priority_goes_first_and_a_persons_hand_before_it(
    service, tmp_path
) -> None:
    Policy(max_parallel=1).store(now=timezone.now(), by="anna")
    gate = tmp_path / "gate"
    holder = soon(name="holder", command=f"echo up; until [ -e {gate} ]; do sleep 0.05; done")
    running(started(holder))
    plain, urgent, moved = (
        started(soon(name=name, priority=priority, command="true"))
        for name, priority in [("plain", 0), ("urgent", 9), ("moved", -9)]
    )
    until(lambda: not OrmQ.objects.exists(), "that all were handed to the runner")

    scheduler.move(moved, "first", by="anna", now=timezone.now())
    gate.touch()

    starts = {run.job_name: ended(run).started_at for run in (plain, urgent, moved)}
    assert sorted(starts, key=lambda name: str(starts[name])) == ["moved", "urgent", "plain"]


def test_a_dropped_run_never_starts(service) -> None:
    Policy(max_parallel=1).store(now=timezone.now(), by="anna")
    holder = running(started(soon(name="holder", command="echo up; sleep 600")))
    dropped = started(soon(name="dropped", command="echo never"))
    until(lambda: waits(dropped, "waits_slots"))

    scheduler.stop(dropped, by="anna", now=timezone.now())
    scheduler.stop(holder, by="anna", now=timezone.now())
    after = ended(started(soon(name="after")))

    assert after.state == Run.State.SUCCEEDED
    assert ended(dropped).state == Run.State.CANCELLED
    assert not dropped.folder.exists()


def test_a_job_that_waits_in_line_for_itself_never_runs_twice_at_once(service) -> None:
    queues = soon(overlap="queue", command="echo up; sleep 0.5")

    first = running(started(queues))
    second = started(queues)

    assert ended(second).state == Run.State.SUCCEEDED
    first.refresh_from_db()
    assert second.started_at >= first.ended_at - timedelta(milliseconds=50)


def test_a_start_replaces_the_running_one(service) -> None:
    replaces = soon(overlap="replace", command="echo up; sleep ${BACH_PARAM_LONG:-0}")
    replaces.parameters = {"long": "600"}
    old = running(started(replaces.store(now=timezone.now(), by="anna")))
    replaces.parameters = {}
    new = started(replaces.store(now=timezone.now(), by="anna"))

    assert ended(new).state == Run.State.SUCCEEDED
    assert (ended(old).state, old.reason_code) == (Run.State.CANCELLED, "replaced")
    assert not [p for p in psutil.process_iter() if belongs_to(p, old)]


# ── Everything held ──────────────────────────────────────────────────────────────────────────────
def test_held_with_a_stop_what_runs_ends_and_what_waits_starts_after(service) -> None:
    Policy(max_parallel=1).store(now=timezone.now(), by="anna")
    long = running(started(soon(name="long", command="echo up; sleep 600")))
    waiting = started(soon(name="waiting", command="echo later"))
    until(lambda: waits(waiting, "waits_slots"))

    scheduler.hold("stop", by="anna", now=timezone.now())

    assert (ended(long).state, long.reason_code) == (Run.State.CANCELLED, "held")
    assert "anna" in long.reason
    waiting.refresh_from_db()
    assert waiting.state == Run.State.QUEUED
    scheduler.resume(by="anna", now=timezone.now())
    assert ended(waiting).state == Run.State.SUCCEEDED


# ── Attempts ─────────────────────────────────────────────────────────────────────────────────────
def test_a_failed_attempt_is_tried_again_and_each_keeps_its_end_and_output(service) -> None:
    flaky = soon(
        max_retries=2,
        retry_backoff_seconds=1,
        command='echo "try $BACH_ATTEMPT"; [ "$BACH_ATTEMPT" = 3 ]',
    )

    run = ended(started(flaky))

    assert (run.state, run.attempt, run.reason) == (Run.State.SUCCEEDED, 3, "")
    tries = list(run.attempts.all())
    assert [(each.number, each.state, each.exit_code) for each in tries] == [
        (1, "failed", 1),
        (2, "failed", 1),
    ]
    assert [text(each) for each in tries] == ["try 1\n", "try 2\n"]  # type: ignore[arg-type]
    assert text(run) == "try 3\n"
    pause = run.started_at - tries[1].ended_at
    assert timedelta(seconds=1.8) <= pause


def test_the_last_attempt_alone_is_the_end(service) -> None:
    broken = soon(max_retries=1, retry_backoff_seconds=1, command="exit 7")

    run = ended(started(broken))

    assert (run.state, run.exit_code, run.attempt) == (Run.State.FAILED, 7, 2)
    assert run.attempts.count() == 1


def test_only_the_exit_codes_asked_for_are_tried_again(service) -> None:
    picky = soon(max_retries=3, retry_exit_codes=[75], command="exit 1")

    run = ended(started(picky))

    assert (run.state, run.attempt) == (Run.State.FAILED, 1)


def test_a_time_limit_is_tried_again_only_if_asked(service) -> None:
    slow = {"command": "sleep 60", "timeout_seconds": 1, "max_retries": 1, "grace_seconds": 1}
    plain = ended(started(soon(name="plain", **slow)))
    asked = soon(name="asked", retry_on_timeout=True, retry_backoff_seconds=1, **slow)
    again = ended(started(asked))

    assert (plain.state, plain.attempt) == (Run.State.TIMED_OUT, 1)
    assert (again.state, again.attempt) == (Run.State.TIMED_OUT, 2)


def test_a_cancel_is_never_tried_again(service) -> None:
    long = running(started(soon(max_retries=3, command="echo up; sleep 600")))

    scheduler.stop(long, by="anna", now=timezone.now())

    assert (ended(long).state, long.attempt) == (Run.State.CANCELLED, 1)


def test_a_waiting_retry_survives_a_restart_and_can_be_dropped(service) -> None:
    flaky = soon(
        name="flaky", max_retries=1, retry_backoff_seconds=5, command="exit $((2 - BACH_ATTEMPT))"
    )
    dropped = soon(name="dropped", max_retries=1, retry_backoff_seconds=600, command="exit 1")
    run, other = started(flaky), started(dropped)
    until(lambda: Run.objects.queued().filter(attempt=2).count() == 2)

    service.stop(signal.SIGKILL)
    service.start()
    scheduler.stop(other, by="anna", now=timezone.now())

    assert (ended(run).state, run.attempt) == (Run.State.SUCCEEDED, 2)
    assert ended(other).state == Run.State.CANCELLED


# ── Losses ───────────────────────────────────────────────────────────────────────────────────────
def kill_supervisor(run: Run) -> None:
    """Kill the process that watches a run, as the kernel does when memory runs out."""
    found = until(lambda: supervisor.look(run.folder).pid, "a supervisor")
    os.kill(found, signal.SIGKILL)


def test_a_lost_run_is_tried_once_more_if_the_job_says_so(service) -> None:
    safe = soon(on_loss="repeat", command='echo up; [ "$BACH_ATTEMPT" = 2 ] || sleep 600')
    run = running(started(safe))

    kill_supervisor(run)

    assert (ended(run).state, run.attempt) == (Run.State.SUCCEEDED, 2)
    assert run.attempts.get().state == Run.State.LOST


def test_a_run_claimed_and_never_begun_starts_after_all(service) -> None:
    service.stop()
    claimed = started(soon(command="echo once"))
    claimed.claim(owner=socket.gethostname(), now=timezone.now())

    service.start()

    assert (ended(claimed).state, claimed.attempt) == (Run.State.SUCCEEDED, 1)
    assert text(claimed) == "once\n"


def test_a_run_asked_to_stop_or_begun_in_vain_too_often_does_not_go_back_in_line() -> None:
    stopping, unlucky = (soon(name=name) for name in ("stopping", "unlucky"))
    runs = [started(each) for each in (stopping, unlucky)]
    for run in runs:
        run.claim(owner="here", now=timezone.now())
    runs[0].request_stop(by="anna", now=timezone.now())
    returned = 0
    while runs[1].return_to_line():
        returned += 1
        runs[1].claim(owner="here", now=timezone.now())

    assert not runs[0].return_to_line()
    assert returned == MOST_FALSE_STARTS


def test_three_losses_switch_a_job_off_and_say_why(service) -> None:
    poison = soon(command="echo up; sleep 600")

    for _ in range(3):
        run = running(started(poison))
        kill_supervisor(run)
        assert ended(run).state == Run.State.LOST

    until(lambda: Incident.objects.filter(code="poisoned").exists())
    poison.refresh_from_db()
    assert not poison.is_active
    assert Incident.objects.get(code="poisoned").job == poison


# ── What a command tells while it runs ───────────────────────────────────────────────────────────
def test_the_steps_of_an_end_are_seen_while_it_is_brought(service) -> None:
    stubborn = soon(
        command="trap '' TERM; echo up; while :; do sleep 0.1; done",
        stop_command="true",
        grace_seconds=2,
    )
    run = running(started(stubborn))
    seen: list[str] = []

    def over() -> bool:
        run.refresh_from_db()
        if run.phase and run.phase not in seen:
            seen.append(run.phase)
        return not run.is_active

    scheduler.stop(run, by="anna", now=timezone.now())
    until(over, "the end")

    assert seen[:2] == ["asked", "term"]
    assert (run.state, run.phase) == (Run.State.CANCELLED, "")


def test_a_soft_limit_is_told_while_the_run_goes_on(service, tmp_path) -> None:
    gate = tmp_path / "gate"
    slow = soon(
        command=f"echo up; until [ -e {gate} ]; do sleep 0.05; done", soft_timeout_seconds=1
    )
    run = running(started(slow))

    def told() -> bool:
        run.refresh_from_db()
        return run.reason_code == "slow"

    until(told, "the remark")
    assert run.state == Run.State.RUNNING
    gate.touch()
    assert (ended(run).state, run.reason_code) == (Run.State.SUCCEEDED, "slow")


def test_a_command_says_how_far_it_is_and_the_last_word_is_kept(service, tmp_path) -> None:
    gate = tmp_path / "gate"
    telling = soon(
        command=f"""bach progress 40 "Schritt 2"; until [ -e {gate} ]; do sleep 0.05; done
        echo '{{"progress": 80, "label": "Schritt 4"}}'; exit 3"""
    )
    run = started(telling)

    def told() -> bool:
        run.refresh_from_db()
        return run.progress is not None

    until(told, "its first word")
    assert (run.progress, run.progress_label) == (40, "Schritt 2")
    gate.touch()

    ended(run)
    assert (run.state, run.progress, run.progress_label) == (Run.State.FAILED, 80, "Schritt 4")


@pytest.mark.parametrize(("action", "state"), [("warn", "succeeded"), ("stop", "failed")])
def test_a_limit_of_memory_warns_or_stops(service, action, state) -> None:
    hungry = soon(
        command='python -c "import time; kept = bytearray(200 << 20); time.sleep(3)"',
        memory_limit_mb=100,
        limit_sustain_seconds=1,
        limit_action=action,
        max_retries=3,
    )

    run = ended(started(hungry))

    assert (run.state, run.reason_code, run.attempt) == (state, "memory_limit", 1)
    assert "100" in run.reason

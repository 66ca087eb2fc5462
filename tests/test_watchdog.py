"""What the beat looks after: clock, disk, database, queue; with clocks and disks of the test's."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from daemon_app import doorbell, executor, pidfile, watchdog
from daemon_app.alarms import Board
from daemon_app.ballast import MEBIBYTE
from daemon_app.broker import forget_taken, oldest_messages
from daemon_app.models import Incident, Job, Node, Run
from daemon_app.watchdog import Watchdog
from tests.clocks import Fake
from tests.jobs import job, run

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = 3600.0


class Launcher:
    _failure: str | None = None


class Runner:
    """What the watchdog uses of a runner."""

    def __init__(self) -> None:
        self.launcher = Launcher()
        self.pardoned = 0.0

    def pardon(self, seconds: float) -> None:
        self.pardoned += seconds


class Dog(Watchdog):
    """A watchdog with a disk of its own."""

    free = 100_000 * MEBIBYTE

    def __init__(self, clock: Fake) -> None:
        runtime = doorbell.runtime_dir(settings.DATA_DIR)
        self.runner = Runner()
        super().__init__(
            board=Board(runtime, clock.wall),
            data_dir=settings.DATA_DIR,
            runner=self.runner,  # type: ignore[arg-type]
            clock=clock,
        )
        self.ballast.free = lambda: self.free  # type: ignore[method-assign]
        self.ballast.low = lambda: 32 * MEBIBYTE  # type: ignore[method-assign]


@pytest.fixture
def clock() -> Fake:
    return Fake(time=datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp())


@pytest.fixture
def dog(clock: Fake) -> Iterator[Dog]:
    dog = Dog(clock)
    yield dog
    dog.board.clear(*(alarm.code for alarm in dog.board.read()))
    (settings.DATA_DIR / "ballast").unlink(missing_ok=True)


def up(dog: Dog) -> list[str]:
    return [alarm.code for alarm in dog.board.read()]


def told() -> list[tuple[str, Any]]:
    incidents = Incident.objects.order_by("id")
    return [(incident.code, incident.facts.get("seconds")) for incident in incidents]


# ── The clock ────────────────────────────────────────────────────────────────────────────────────
def test_a_clock_that_was_set_is_recorded_and_the_schedule_looked_at(dog: Dog, clock) -> None:
    dog.begin()
    dog.look()
    clock.passes(5)
    clock.time += 86_400

    assert dog.look()
    assert told() == [("clock_forward", 86_400)]
    clock.passes(5)
    assert not dog.look()


def test_after_a_long_step_back_schedules_begin_anew(dog: Dog, clock) -> None:
    dog.begin()
    dog.look()
    hourly = job(now=clock.now(), job_type="interval", schedule="1h")
    clock.passes(1)
    clock.time -= 5 * HOUR

    dog.look()

    hourly.refresh_from_db()
    assert hourly.next_due_at <= clock.now() + timedelta(hours=1)
    assert ("clock_back", 18_000) in told()


def test_after_a_short_step_back_nothing_runs_twice(dog: Dog, clock) -> None:
    dog.begin()
    dog.look()
    hourly = job(now=clock.now(), job_type="interval", schedule="1h")
    due = hourly.next_due_at
    clock.passes(1)
    clock.time -= 2 * HOUR

    dog.look()

    hourly.refresh_from_db()
    assert hourly.next_due_at == due


def test_a_clock_that_runs_away_is_told_once_a_minute(dog: Dog, clock) -> None:
    dog.begin()
    for _ in range(120):
        clock.passes(1)
        clock.time += 2.5
        dog.look()

    assert 2 <= len(told()) <= 3
    assert sum(seconds for _code, seconds in told()) >= 120


def test_sleep_and_standstill_are_told_and_the_schedule_looked_at(dog: Dog, clock) -> None:
    dog.begin()
    clock.time += 2 * HOUR
    clock.up += 2 * HOUR

    assert dog.look()
    clock.passes(120)
    assert dog.look()

    assert told() == [("asleep", 7200), ("stalled", 120)]
    assert dog.runner.pardoned == 120


def test_a_standstill_in_the_middle_of_a_step_is_no_wait_for_the_database(dog: Dog, clock) -> None:
    dog.begin()
    dog.look()
    begun = clock.mono()
    clock.passes(17)
    dog.waited(begun, 17)

    dog.look()

    assert ("stalled", 17) in told()


def test_what_is_too_late_after_a_sleep_does_not_start(dog: Dog, clock) -> None:
    dog.begin()
    picky = job(now=clock.now(), misfire="skip")
    late = run(picky, now=clock.now(), trigger=Run.Trigger.SCHEDULE)
    clock.passes(1)
    clock.time += HOUR
    clock.up += HOUR

    dog.look()

    late.refresh_from_db()
    assert (late.state, late.reason_code) == (Run.State.MISSED, "misfire_skip")


# ── The clock at the start ───────────────────────────────────────────────────────────────────────
def held(dog: Dog) -> bool:
    return dog.holds_schedule


def known_until(seen: datetime) -> None:
    Node.objects.create(host="here", pid=1, started_at=seen, seen_at=seen)


def test_a_clock_before_what_is_recorded_holds_starts_until_it_is_set(dog: Dog, clock) -> None:
    known_until(clock.now() + timedelta(days=2))

    dog.begin()

    assert held(dog)
    assert up(dog) == ["clock_behind"]
    clock.passes(8)
    clock.time += 2 * 86_400
    assert dog.look()
    assert not held(dog)
    assert up(dog) == []
    assert "clock_behind" not in dict(told())


def test_one_that_is_not_set_is_believed_after_five_minutes_and_told(dog: Dog, clock) -> None:
    known_until(clock.now() + timedelta(days=2))
    dog.begin()
    for _ in range(35):
        clock.passes(9)
        dog.look()

    assert not dog.holds_schedule
    assert ("clock_behind", 306) in told()

    again = Dog(clock)
    again.begin()
    assert not again.holds_schedule, "it was waited for once, in vain"


def test_a_clock_of_1970_is_not_believed_even_by_a_new_installation(dog: Dog, clock) -> None:
    clock.time = 86_400.0

    dog.begin()

    assert dog.holds_schedule


def test_a_clock_that_was_far_ahead_once_does_not_stop_jobs_for_years(dog: Dog, clock) -> None:
    daily = job(now=clock.now(), job_type="interval", schedule="24h")
    Job.objects.filter(pk=daily.pk).update(next_due_at=datetime(2099, 1, 1, tzinfo=UTC))
    known_until(clock.now() - timedelta(minutes=1))

    dog.begin()
    dog.look()

    daily.refresh_from_db()
    assert daily.next_due_at <= clock.now() + timedelta(days=1)


# ── The database ─────────────────────────────────────────────────────────────────────────────────
LOCKED = OperationalError("database is locked")


def test_a_short_lock_is_a_delay_and_no_alarm(dog: Dog, clock) -> None:
    since = clock.mono()
    clock.passes(5)
    dog.failed(LOCKED, since)
    dog.written()
    dog.look()

    assert up(dog) == []
    assert told() == []


def test_a_long_lock_is_an_alarm_and_afterwards_an_incident(dog: Dog, clock) -> None:
    since = clock.mono()
    clock.passes(10)
    clock.passes(10.5)
    dog.failed(LOCKED, since)

    assert up(dog) == ["database_locked"]
    assert dog.is_in_trouble

    clock.passes(10)
    dog.written()
    dog.look()
    assert up(dog) == []
    assert dict(told())["database_locked"] == 30


def test_other_trouble_with_the_database_is_told_in_its_own_words(dog: Dog, clock) -> None:
    broken = OperationalError("disk I/O error")
    dog.failed(broken, clock.mono())
    assert up(dog) == []
    clock.passes(6)
    dog.failed(broken, clock.mono())

    (alarm,) = dog.board.read()
    assert (alarm.code, alarm.facts["error"]) == ("database_failing", "disk I/O error")


def test_what_cannot_be_recorded_yet_is_recorded_later(dog: Dog, clock, monkeypatch) -> None:
    clock.passes(20)
    with monkeypatch.context() as patch:

        def locked(*_args: object, **_facts: object) -> None:
            raise LOCKED

        patch.setattr(Incident, "save", locked)
        with pytest.raises(OperationalError):
            dog.look()
    assert told() == []

    dog.look()
    assert told() == [("stalled", 20)]


# ── The disk ─────────────────────────────────────────────────────────────────────────────────────
def test_little_room_is_an_alarm_until_there_is_some(dog: Dog, clock) -> None:
    dog.free = 10 * MEBIBYTE
    dog.look()
    assert [(a.code, a.facts["free_mb"]) for a in dog.board.read()] == [("disk_full", 10)]

    dog.free = 40 * MEBIBYTE
    clock.passes(9)
    dog.look()
    assert up(dog) == ["disk_full"], "not before there is some distance"

    dog.free = 400 * MEBIBYTE
    clock.passes(9)
    dog.look()
    assert up(dog) == []
    dog.look()
    assert told() == [("disk_full", 18)]


def test_a_full_disk_takes_of_the_ballast_and_it_is_put_by_again(dog: Dog, clock) -> None:
    dog.begin()
    assert dog.ballast.size() == 16 * MEBIBYTE
    dog.free = 0

    dog.failed(OperationalError("database or disk is full"), clock.mono())
    dog.failed(OSError(28, "No space left on device"), clock.mono())

    assert dog.ballast.size() == 8 * MEBIBYTE
    assert up(dog) == ["disk_full"]
    assert not dog.is_in_trouble

    dog.free = 4000 * MEBIBYTE
    clock.passes(2)
    dog.look()
    assert dog.ballast.size() == 16 * MEBIBYTE


def test_supervisors_that_do_not_start_are_an_alarm(dog: Dog, clock) -> None:
    dog.runner.launcher._failure = "no memory"
    dog.look()
    assert up(dog) == ["supervisors_failing"]

    dog.runner.launcher._failure = None
    clock.passes(2)
    dog.look()
    assert up(dog) == []


# ── The queue ────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def cluster() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Processes that hold the cluster's pid file."""
    path = settings.DATA_DIR / "cluster.pid"
    code = (
        "import sys,time,pathlib\nfrom daemon_app import pidfile\n"
        "with pidfile.held(pathlib.Path(sys.argv[1])):\n  print('up',flush=True)\n  time.sleep(600)"
    )
    started = []

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert process.stdout.readline() == b"up\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    path.unlink(missing_ok=True)


def waits(clock: Fake) -> None:
    executor.submit([(1, 0.0)], clock.now())


def test_a_queue_that_moves_is_no_alarm(dog: Dog, clock) -> None:
    for _ in range(10):
        forget_taken()
        connection.cursor().execute("DELETE FROM django_q_ormq")
        waits(clock)
        dog.look()
        clock.passes(10)

    assert up(dog) == []


def test_a_silent_cluster_is_ended_even_a_stopped_one(dog: Dog, clock, cluster) -> None:
    process = cluster()
    os.kill(process.pid, signal.SIGSTOP)
    waits(clock)
    steps = 0
    while process.poll() is None and steps < 75:
        dog.look()
        clock.passes(1)
        steps += 1
        time.sleep(0.01)

    assert process.wait(10) == -signal.SIGKILL
    assert watchdog.SILENT_AFTER <= steps <= 60
    assert up(dog) == ["cluster_silent"]
    assert [code for code, _ in told()] == ["cluster_restarted"]

    connection.cursor().execute("DELETE FROM django_q_ormq")
    clock.passes(1)
    dog.look()
    assert up(dog) == []


def test_one_that_hears_is_asked_first_and_its_successor_gets_time(
    dog: Dog, clock, cluster
) -> None:
    first = cluster()
    waits(clock)
    for _ in range(35):
        dog.look()
        clock.passes(1)
    assert first.wait(10) == -signal.SIGTERM

    second = cluster()
    for _ in range(20):
        dog.look()
        clock.passes(1)

    assert second.poll() is None


def test_messages_that_a_dead_cluster_took_are_missed_and_forgotten_by_the_next(
    dog: Dog, clock
) -> None:
    waits(clock)
    far = connection.ops.adapt_datetimefield_value(clock.now() + timedelta(days=3650))
    connection.cursor().execute("UPDATE django_q_ormq SET lock = %s", [far])
    for _ in range(35):
        dog.look()
        clock.passes(1)
    assert up(dog) == ["cluster_silent"]

    forget_taken()

    assert oldest_messages() == []
    clock.passes(1)
    dog.look()
    assert up(dog) == []


def test_a_standstill_of_ours_does_not_make_messages_old(dog: Dog, clock) -> None:
    waits(clock)
    dog.look()
    clock.passes(300)
    dog.look()

    assert up(dog) == []


def test_the_cluster_s_pid_file_is_looked_for_where_it_writes_it() -> None:
    with pidfile.held(settings.DATA_DIR / "cluster.pid"):
        from daemon_app import cluster

        assert cluster.run() == 1, "there is one already"


def test_a_lock_by_another_program_is_the_error_that_is_meant() -> None:
    """The words by which a lock is told from other trouble are SQLite's own."""
    path = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(path, timeout=0)) as one, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            one.execute("BEGIN IMMEDIATE")

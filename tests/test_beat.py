"""The beat's loop in this process: trouble in one part leaves the other going."""

import signal
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from daemon_app import alarms, daemon
from daemon_app.daemon import Beat
from daemon_app.models import Node
from tests.clocks import Fake
from tests.jobs import job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def beat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    # A thread may not install signal handlers; the test stops the loop itself.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda *_, **__: None)
    monkeypatch.setattr(daemon, "AFTER_AN_ERROR", 0.01)
    beat = Beat(data_dir=settings.DATA_DIR, max_parallel=4)
    yield beat
    beat.runner.launcher.close()


def test_a_runner_in_trouble_does_not_hold_up_the_schedule(
    beat: Beat, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = job(now=timezone.now(), job_type="interval", schedule="1s")

    def broken(_messages: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beat.runner, "turn", broken)

    def run() -> None:
        beat.run(lambda: None)
        connections.close_all()

    loop = threading.Thread(target=run)
    loop.start()
    deadline = time.monotonic() + 30
    while not due.runs.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    beat._stopping = True
    loop.join(30)

    assert not loop.is_alive()
    assert due.runs.exists()
    of_the_beat = [alarm for alarm in beat.board.read() if alarm.code in alarms.BEAT]
    assert of_the_beat == [], "an alarm of a daemon that has gone is none"


def test_when_the_clock_is_set_the_schedule_is_looked_at_at_once() -> None:
    clock = Fake(time=timezone.now().timestamp())
    daily = job(now=clock.now(), job_type="interval", schedule="24h")
    beat = Beat(data_dir=settings.DATA_DIR, max_parallel=4, clock=clock)
    try:
        beat.watchdog.begin()
        beat._turn([])
        assert not daily.runs.exists()
        clock.passes(1)
        clock.time += 25 * 3600

        beat._turn([])

        assert daily.runs.exists()
    finally:
        beat._farewell()


def test_while_the_clock_can_not_be_right_nothing_starts_by_itself() -> None:
    clock = Fake(time=timezone.now().timestamp())
    often = job(now=clock.now(), job_type="interval", schedule="30s")
    ahead = clock.now() + timedelta(days=2)
    Node.objects.create(host="here", pid=1, started_at=ahead, seen_at=ahead)
    beat = Beat(data_dir=settings.DATA_DIR, max_parallel=4, clock=clock)
    try:
        beat.watchdog.begin()
        for _ in range(25):
            clock.passes(10)
            beat._turn([])
        assert not often.runs.exists()

        for _ in range(10):
            clock.passes(10)
            beat._turn([])

        assert often.runs.exists()
    finally:
        beat._farewell()

"""How the service ends: by signals to one or all, with commands that go on or are given time."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from daemon_app.models import Run
from tests.service import PATIENCE, UP, ended, running, soon, started, until

pytestmark = pytest.mark.django_db(transaction=True)


class Service:
    """Daemon and cluster in a process group of their own, with settings of the test's."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", UP, str(connection.settings_dict["NAME"])],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "BACH_DATA_DIR": str(settings.DATA_DIR), **environment},
        )
        self.processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.terminate()
            process.wait(PATIENCE * 2)
            process.stdout.close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()
    for run in Run.objects.running():
        for process in psutil.process_iter():
            try:
                if process.environ().get("BACH_RUN_ID") == str(run.pk):
                    process.kill()
            except psutil.Error:
                continue


def seconds_until_gone(process: subprocess.Popen[str]) -> float:
    begun = time.monotonic()
    process.wait(PATIENCE)
    return time.monotonic() - begun


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_stop_ends_us_soon_and_leaves_running_commands(service, whole_group: bool) -> None:
    process = service.start()
    parent = psutil.Process(process.pid)
    mine = [parent, *(p for p in parent.children() if p.name() in {"bach-daemon", "bach-cluster"})]
    long = running(started(soon(command="echo up; sleep 600")))

    if whole_group:
        # What systemd does where nobody tells it not to.
        for each in mine:
            each.terminate()
    else:
        process.terminate()

    assert seconds_until_gone(process) < 15
    assert psutil.wait_procs(mine, timeout=PATIENCE)[1] == []
    long.refresh_from_db()
    assert long.state == Run.State.RUNNING

    service.start()
    long.request_stop(by="anna", now=timezone.now())
    assert ended(long).state == Run.State.CANCELLED


def test_a_drain_lets_commands_end_and_starts_no_others(service) -> None:
    process = service.start(BACH_ON_STOP="drain", BACH_DRAIN_SECONDS="60")
    short = running(started(soon(name="short", command="echo up; sleep 3; echo done")))

    process.terminate()
    time.sleep(0.3)
    late = started(soon(name="late", command="echo late"))

    assert process.wait(PATIENCE) == 0
    short.refresh_from_db()
    late.refresh_from_db()
    assert (short.state, short.exit_code) == (Run.State.SUCCEEDED, 0)
    assert late.state == Run.State.QUEUED


def test_after_a_drain_commands_are_ended_and_it_is_said_why(service) -> None:
    process = service.start(BACH_ON_STOP="drain", BACH_DRAIN_SECONDS="1")
    long = running(started(soon(command="echo up; sleep 600")))

    process.terminate()

    assert process.wait(PATIENCE) == 0
    long.refresh_from_db()
    assert (long.state, long.reason_code) == (Run.State.CANCELLED, "service_stop")


def test_a_second_wish_ends_commands_at_once(service) -> None:
    process = service.start(BACH_ON_STOP="drain", BACH_DRAIN_SECONDS="3600")
    long = running(started(soon(command="echo up; sleep 600")))
    process.terminate()
    time.sleep(1.5)
    long.refresh_from_db()
    assert long.state == Run.State.RUNNING

    process.terminate()

    assert process.wait(PATIENCE) == 0
    long.refresh_from_db()
    assert (long.state, long.reason_code) == (Run.State.CANCELLED, "service_stop")


@pytest.mark.parametrize("name", ["bach-daemon", "bach-cluster"])
def test_a_part_that_is_killed_is_started_again(service, name: str) -> None:
    process = service.start()
    parent = psutil.Process(process.pid)
    (part,) = [p for p in parent.children() if p.name() == name]

    part.kill()

    until(lambda: [p for p in parent.children() if p.name() == name and p.pid != part.pid], name)
    run = ended(started(soon(command="echo hello")))
    assert run.state == Run.State.SUCCEEDED


def test_a_part_that_ends_again_and_again_is_told(service) -> None:
    from daemon_app import alarms, doorbell

    process = service.start()
    parent = psutil.Process(process.pid)
    killed: set[int] = set()
    while len(killed) < 3:
        found = until(
            lambda: [
                p for p in parent.children() if p.name() == "bach-cluster" and p.pid not in killed
            ],
            "its start",
        )
        killed.add(found[0].pid)
        found[0].kill()

    board = alarms.Board(doorbell.runtime_dir(settings.DATA_DIR))
    (alarm,) = until(lambda: [a for a in board.read() if a.code == alarms.PART_FAILS], "the alarm")
    assert (alarm.facts["part"], alarm.facts["times"]) == ("cluster", 3)
    service.close()
    board.clear(alarms.PART_FAILS)  # it tells of a daemon that is gone until the next one starts


def test_a_cluster_stopped_as_a_whole_is_replaced_and_runs_start_meanwhile(
    service, monkeypatch
) -> None:
    process = service.start()
    parent = psutil.Process(process.pid)
    (cluster,) = [p for p in parent.children() if p.name() == "bach-cluster"]
    stopped = [*cluster.children(recursive=True), cluster]
    for each in stopped:
        each.suspend()
    begun = time.monotonic()

    run = started(soon(command="echo hello"))

    def look() -> bool:
        run.refresh_from_db()
        return not run.is_active

    deadline = time.monotonic() + 75
    while not look() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert run.state == Run.State.SUCCEEDED
    _gone, alive = psutil.wait_procs(stopped, timeout=75 - (time.monotonic() - begun))
    assert alive == []
    until(
        lambda: [p for p in parent.children() if p.name() == "bach-cluster" and p != cluster],
        "the new cluster",
    )


# ── systemd ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = f"/tmp/bach-manager-{os.getpid()}"
        listening.bind(address)
        listening.settimeout(PATIENCE)
        yield listening
        Path(address).unlink()


def heard(manager: socket.socket, word: str) -> list[str]:
    """Return what was told until `word` came."""
    said: list[str] = []
    while not said or word not in said[-1]:
        said.append(manager.recv(1000).decode())
    return said


def test_systemd_hears_of_the_start_signs_of_life_and_the_end(service, manager) -> None:
    process = service.start(
        NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="400000", BACH_ON_STOP="leave"
    )

    assert "READY=1" in heard(manager, "READY=1")[-1]
    assert heard(manager, "WATCHDOG=1")
    process.terminate()
    assert heard(manager, "STOPPING=1")


def test_no_sign_of_life_is_given_for_a_beat_that_stands_still(monkeypatch) -> None:
    from daemon_app import systemd
    from daemon_app.cli import up

    told: list[str] = []
    monkeypatch.setattr(systemd, "watchdog_seconds", lambda: 30.0)
    monkeypatch.setattr(systemd, "notify", told.append)
    watch = up.Watch({"daemon"}, lambda: None)

    watch._give_sign()
    monkeypatch.setattr(watch.pulse, "age", lambda: up.HUNG_AFTER + 1)
    watch._give_sign()

    assert told == ["WATCHDOG=1"]

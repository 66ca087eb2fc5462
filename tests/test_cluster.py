"""Our `manage.py qcluster` after what made django-q2's own hang."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from daemon_app import cluster, doorbell, executor

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30.0  # seconds
QCLUSTER = """
import sys, django
django.setup()
from django.db import connections
connections["default"].settings_dict["NAME"] = sys.argv[1]
from django.core.management import call_command
call_command("qcluster")
"""


@pytest.fixture
def runner() -> Iterator[doorbell.Bell]:
    with doorbell.Bell(doorbell.runtime_dir(settings.DATA_DIR), "runner") as bell:
        yield bell


@pytest.fixture
def qcluster(runner) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-c", QCLUSTER, str(connection.settings_dict["NAME"])],
        env={**os.environ, "BACH_DATA_DIR": str(settings.DATA_DIR)},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    guard = psutil.Process(process.pid)
    try:
        assert delivered(runner, 1)
        yield guard
        family = [guard, *guard.children(recursive=True)] if guard.is_running() else []
        process.terminate()
        process.wait(PATIENCE)
        assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    finally:
        process.kill()  # what hangs would fail all tests that follow
        process.wait()


def delivered(runner: doorbell.Bell, number: int) -> bool:
    """Return whether the cluster hands run `number` to the runner in good time."""
    executor.submit([(number, 0.0)], timezone.now())
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(json.loads(message)["runs"] == [[number, 0.0]] for message in runner.wait(1)):
            return True
    return False


def inner(cluster: psutil.Process) -> list[psutil.Process]:
    """Return worker, pusher and monitor."""
    return cluster.children()


def test_the_management_command_is_ours() -> None:
    from django.core.management import get_commands

    assert get_commands()["qcluster"] == "daemon_app"


def test_whichever_idle_process_is_killed_the_next_run_is_delivered(qcluster, runner) -> None:
    for number in range(2, 5):
        before = inner(qcluster)
        before[number - 2].kill()

        assert delivered(runner, number)

        deadline = time.monotonic() + PATIENCE
        while len(inner(qcluster)) < len(before) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(inner(qcluster)) == len(before)


def test_who_is_killed_with_a_result_in_hand_keeps_the_guard_from_nothing() -> None:
    timer = cluster.Timer(-1.0)

    with timer.get_lock():
        guard = threading.Thread(target=lambda: timer.get_lock().__enter__(), daemon=True)
        guard.start()
        guard.join(PATIENCE)
        assert not guard.is_alive()
        timer.value -= 2

    assert timer.value == -3


def test_a_stop_of_the_whole_group_is_clean(qcluster) -> None:
    family = [qcluster, *qcluster.children(recursive=True)]

    os.killpg(qcluster.pid, signal.SIGTERM)

    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []


def test_a_killed_cluster_leaves_nothing_behind(qcluster) -> None:
    family = [qcluster, *qcluster.children(recursive=True)]

    qcluster.kill()

    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []


def test_nothing_of_a_finished_delivery_stays_in_the_queue(qcluster, runner) -> None:
    from django_q.models import OrmQ, Task

    assert delivered(runner, 2)

    deadline = time.monotonic() + PATIENCE
    while OrmQ.objects.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not OrmQ.objects.exists()
    assert not Task.objects.exists()


def test_the_runtime_directory_is_for_us_alone() -> None:
    runtime = doorbell.runtime_dir(settings.DATA_DIR)

    assert runtime.stat().st_mode & 0o777 == 0o700

"""The real daemon in trouble: a locked database, a full disk, a machine that stood still."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from daemon_app import alarms, doorbell, supervisor
from daemon_app.clock import STOOD_STILL
from daemon_app.models import Incident, Run
from daemon_app.watchdog import LOCKED_AFTER
from tests.cli.bach import Bach
from tests.cli.conftest import end_all
from tests.service import Service, ended, running, soon, started, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    service.start()
    yield service
    service.close()


@pytest.fixture
def board() -> alarms.Board:
    return alarms.Board(doorbell.runtime_dir(settings.DATA_DIR))


def codes(board: alarms.Board) -> set[str]:
    return {alarm.code for alarm in board.read()}


def test_a_database_locked_by_another_program_is_seen_and_nothing_is_lost(
    service: Service, board: alarms.Board
) -> None:
    often = soon(job_type="interval", schedule="2s", command="echo hi")
    until(lambda: often.runs.filter(state=Run.State.SUCCEEDED).exists())
    (daemon,) = service.parts("bach-daemon")
    spent = sum(daemon.cpu_times()[:2])

    begun = time.monotonic()
    with closing(connection.cursor()) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        try:
            while not codes(board) and time.monotonic() - begun < 60:
                time.sleep(0.1)
            seen_after = time.monotonic() - begun
            seen, spent = codes(board), sum(daemon.cpu_times()[:2]) - spent
        finally:
            foreign.execute("ROLLBACK")

    assert seen == {"database_locked"}
    assert LOCKED_AFTER <= seen_after < 35
    assert spent / seen_after < 0.2, "it waits, and does not spin"
    until(lambda: not codes(board), "the end of the alarm")
    until(lambda: Incident.objects.filter(code="database_locked").exists())
    assert not Incident.objects.filter(code="stalled").exists()
    until(lambda: often.runs.order_by("-due_at").first().state == Run.State.SUCCEEDED)
    recorded = list(often.runs.order_by("due_at").values_list("due_at", flat=True))
    gaps = {later - at for at, later in pairwise(recorded)}
    assert gaps == {timedelta(seconds=2)}, "every instant has its row"


@pytest.mark.parametrize("everything", [False, True])
def test_after_a_standstill_nobody_is_declared_dead(service: Service, everything: bool) -> None:
    """SIGSTOP of the daemon alone, as of a machine that is suspended, then of all we started."""
    often = soon(name="often", job_type="interval", schedule="2s", command="echo hi")
    long = running(started(soon(name="long", command="echo up; sleep 25; echo done")))
    (daemon,) = service.parts("bach-daemon")
    stopped = [daemon]
    if everything:
        pid = supervisor.look(long.folder).pid
        assert pid is not None
        watching = psutil.Process(pid)
        stopped += [watching, *daemon.children(recursive=True)]
        stopped += watching.children(recursive=True)
    for process in stopped:
        process.suspend()
    time.sleep(STOOD_STILL + 2)

    for process in stopped:
        process.resume()

    until(lambda: Incident.objects.filter(code="stalled").exists(), "the record of it")
    over = timezone.now()
    until(lambda: often.runs.filter(state=Run.State.SUCCEEDED, started_at__gt=over).exists())
    assert ended(long).state == Run.State.SUCCEEDED
    assert not Run.objects.filter(state=Run.State.LOST).exists()
    due = list(often.runs.values_list("due_at", flat=True))
    assert len(due) == len(set(due))


# ── A full disk ──────────────────────────────────────────────────────────────────────────────────
RUN_TEN = """
import django
django.setup()
from django.utils import timezone
from daemon_app import scheduler
from daemon_app.models import Job
for number in range(10):
    job = Job(name=f"job-{number}", job_type="manual", command="echo up; sleep 4; echo done")
    now = timezone.now()
    scheduler.start(job.store(now=now, by="anna"), trigger="manual", by="anna", now=now)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = Path(f"/tmp/bach-disk-{tmp_path.name[-12:]}")
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "bach-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)
    place.rmdir()


def fill(path: Path) -> None:
    with path.open("wb", 0) as rubbish:
        for size in (1024 * 1024, 4096, 1):
            try:
                while True:
                    rubbish.write(b"x" * size)
            except OSError:
                continue


def states(bach: Bach) -> dict[str, int]:
    with closing(sqlite3.connect(bach.data / "bach.sqlite3", timeout=10)) as database:
        return dict(database.execute("SELECT state, count(*) FROM daemon_runs GROUP BY 1"))


def test_on_a_full_disk_runs_end_are_recorded_and_an_alarm_is_up_until_there_is_room(
    small_disk: Path,
) -> None:
    bach = Bach(small_disk / "data", BACH_MAX_PARALLEL="10")
    assert bach("daemon", "start", "--bg").returncode == 0
    try:
        environment = {**bach.environment, "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
        subprocess.run([sys.executable, "-c", RUN_TEN], env=environment, check=True)
        until(lambda: states(bach).get("running") == 10)
        board = alarms.Board(doorbell.runtime_dir(bach.data))

        fill(small_disk / "rubbish")

        until(lambda: codes(board) == {"disk_full"}, "the alarm")
        until(lambda: states(bach) == {"succeeded": 10}, "the end of all runs")
        assert codes(board) == {"disk_full"}
        (small_disk / "rubbish").unlink()
        until(lambda: not codes(board), "the end of the alarm")
        with closing(sqlite3.connect(bach.data / "bach.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        end_all(bach)

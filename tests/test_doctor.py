"""What could keep an installation from working, each with its way out."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone, translation

from daemon_app import alarms, ballast, database, doctor, doorbell, pidfile, processes
from daemon_app.doctor import Finding
from daemon_app.models import Node, Run
from daemon_app.runner import run_token
from tests.jobs import job, run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


def found(check: str) -> list[Finding]:
    return [finding for finding in doctor.examine(timezone.now()) if finding.check == check]


def level(check: str) -> str:
    return found(check)[0].level


def node(**fields) -> None:
    now = timezone.now()
    Node.objects.create(**{"host": "here", "pid": 1, "started_at": now, "seen_at": now, **fields})


def test_all_is_well_where_all_is_well() -> None:
    node()
    with pidfile.held(settings.DATA_DIR / "cluster.pid"):
        findings = doctor.examine(timezone.now())

    assert [f for f in findings if f.level in {"warn", "error"}] == []
    assert doctor.exit_code(findings) == 0
    assert {f.check for f in findings} >= set(doctor.CHECKS) - {"cluster"}


def test_ways_out_can_be_typed_where_make_run_has_put_bach(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(settings, "BASE_DIR", tmp_path)

    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    (local,) = found("daemon")
    monkeypatch.setattr(sys, "prefix", "/usr")
    (installed,) = found("daemon")

    assert local.way_out.endswith(": .venv/bin/bach daemon start --bg")
    assert installed.way_out.endswith(": bach daemon start --bg")


def test_warnings_and_problems_have_exit_codes_of_their_own() -> None:
    warning = Finding("warn", "x", "x", "x")
    problem = Finding("error", "x", "x", "x")

    assert doctor.exit_code([warning]) == 1
    assert doctor.exit_code([problem, warning]) == 2


def test_a_daemon_that_is_away_or_silent_is_told() -> None:
    assert level("daemon") == "warn"

    with pidfile.held(settings.DATA_DIR / "daemon.pid"):
        assert level("daemon") == "error"


def test_a_missing_cluster_is_told() -> None:
    node()

    assert level("cluster") == "warn"


def test_a_run_that_waits_although_there_is_room_is_told() -> None:
    node()
    run(now=timezone.now() - timedelta(minutes=5), not_before=timezone.now() - timedelta(minutes=5))

    assert level("queue") == "warn"


def test_an_alarm_is_a_finding() -> None:
    node()
    board = alarms.Board(doorbell.runtime_dir(settings.DATA_DIR))
    board.raise_("disk_full", free_mb=1)
    try:
        assert level("alarm:disk_full") == "error"
    finally:
        board.clear("disk_full")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_processes_that_an_ended_run_left_are_found() -> None:
    hour_ago = timezone.now() - timedelta(hours=1)
    old = run(job("old"), now=hour_ago, state=Run.State.SUCCEEDED, ended_at=hour_ago)
    kept = run(job("kept", leave_descendants=True), state=Run.State.SUCCEEDED, ended_at=hour_ago)
    busy = run(job("busy"), state=Run.State.RUNNING)
    left = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, **processes.marks(pk, run_token())})
        for pk in (old.pk, kept.pk, busy.pk)
    ]
    try:
        deadline = time.monotonic() + 10
        while len(doctor.marked_processes()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        (finding,) = found("leftovers")
    finally:
        for process in left:
            process.kill()
            process.wait()

    assert finding.level == "warn"
    assert str(left[0].pid) in finding.way_out
    assert str(left[1].pid) not in finding.way_out


def test_files_that_others_may_read_are_told_with_the_command() -> None:
    key = settings.DATA_DIR / "secret.key"
    key.chmod(0o644)
    try:
        (finding,) = found("files")
    finally:
        key.chmod(0o600)

    assert (finding.level, finding.way_out) == ("warn", f"chmod go-rwx {key}")


@pytest.mark.parametrize(("free", "wanted"), [(10, "error"), (500, "warn"), (5000, "ok")])
def test_little_room_is_told_before_there_is_none(monkeypatch, free: int, wanted: str) -> None:
    monkeypatch.setattr(ballast.Ballast, "free", lambda _self: free * ballast.MEBIBYTE)
    monkeypatch.setattr(ballast.Ballast, "low", lambda _self: ballast.LOW)

    assert level("disk") == wanted


def test_a_network_drive_is_told(tmp_path: Path, monkeypatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:40 / {tmp_path} rw shared:1 - nfs4 box:/export rw\n"
        f"3 1 0:41 / {tmp_path}/other rw - tmpfs tmpfs rw\n"
    )

    assert doctor.file_system(tmp_path / "data", str(table)) == "nfs4"
    assert doctor.file_system(Path("/srv"), str(table)) == "ext4"

    monkeypatch.setattr(doctor, "file_system", lambda _folder: "nfs4")
    assert level("filesystem") == "error"


def test_a_clock_behind_what_is_recorded_is_told() -> None:
    node(seen_at=timezone.now() + timedelta(days=1))

    assert level("clock") == "error"


def test_a_machine_without_a_zone_is_told(monkeypatch) -> None:
    monkeypatch.setattr("bachweb.machine.knows_time_zone", lambda: False)

    assert level("zone") == "warn"


def test_a_damaged_database_is_told_and_nothing_else_asked_of_it(monkeypatch) -> None:
    monkeypatch.setattr(database, "examine", lambda *_: database.Trouble("damaged", "page 3"))

    (finding,) = found("database")

    assert finding.level == "error"
    assert "page 3" in finding.text
    assert "mv " in finding.way_out
    assert found("daemon") == []


def test_a_check_that_fails_is_itself_a_finding(monkeypatch) -> None:
    def broken(_now: object) -> list[Finding]:
        raise OSError(5, "Input/output error")

    monkeypatch.setitem(doctor.CHECKS, "disk", broken)

    assert level("disk") == "error"

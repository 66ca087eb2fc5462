"""The real daemon and cluster in processes of their own: from a due job to the end of its run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from daemon_app import output, scheduler
from daemon_app.models import Job, Node, Run
from tests.service import (
    PATIENCE,
    UP,
    Service,
    belongs_to,
    ended,
    running,
    soon,
    started,
    text,
    until,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    service.start()
    yield service
    service.close()


def test_a_started_job_runs_and_its_output_and_end_are_kept(service) -> None:
    hello = soon(command="echo hello; echo trouble >&2")

    run = ended(started(hello))

    assert (run.state, run.exit_code, run.reason) == (Run.State.SUCCEEDED, 0, "")
    assert sorted(text(run).splitlines()) == ["hello", "trouble"]
    assert run.output_lines == 2
    assert run.duration(timezone.now()) > timedelta(0)


def test_a_scheduled_run_starts_by_itself_without_any_reload(service) -> None:
    every_second = soon(job_type="interval", schedule="1s", command="echo tick")

    until(lambda: every_second.runs.filter(state=Run.State.SUCCEEDED).count() >= 2)

    first = every_second.runs.earliest("due_at")
    assert first.trigger == Run.Trigger.SCHEDULE
    assert first.started_at >= first.due_at


def test_a_pause_ends_by_itself_and_what_is_due_then_starts(service) -> None:
    now = timezone.now()
    minutely = soon(job_type="interval", schedule="1m", command="echo back")
    # Due at the very end of the pause, in a few seconds.
    Job.objects.filter(pk=minutely.pk).update(anchor=now - timedelta(seconds=57))
    minutely.refresh_from_db()
    end = minutely.plan.next_due(now, anchor=minutely.anchor)
    assert end
    minutely.pause(end, now=now, by="anna")

    run = ended(until(minutely.runs.first))

    minutely.refresh_from_db()
    assert (run.due_at, run.state) == (end, Run.State.SUCCEEDED)
    assert (minutely.is_active, minutely.paused_until) == (True, None)


def test_a_command_knows_its_run_and_none_of_our_secrets(service) -> None:
    tell = soon(
        command="env",
        environment={"MINE": "a b"},
        parameters={"depth": "3"},
    )

    run = ended(started(tell))

    lines = dict(line.partition("=")[::2] for line in text(run).splitlines())
    assert lines["BACH_RUN_ID"] == str(run.pk)
    assert lines["BACH_JOB"] == "backup"
    assert lines["BACH_PARAM_DEPTH"] == "3"
    assert lines["MINE"] == "a b"
    assert not {"CANARY", "BACH_DATA_DIR", "DJANGO_SETTINGS_MODULE"} & lines.keys()


def test_python_means_the_running_interpreter(service) -> None:
    which = soon(command='python -c "import sys; print(sys.executable)"')

    run = ended(started(which))

    assert Path(text(run).strip()).parent == Path(sys.executable).parent


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"command": "exit 3"}, "exit"),
        ({"command": "no-such-program-here"}, "exit_127"),
        ({"command": "/etc/passwd"}, "exit_126"),
        ({"command": "no-such-program-here", "use_shell": False}, "not_found"),
        ({"command": "/etc/passwd", "use_shell": False}, "not_executable"),
        ({"command": "pwd", "working_directory": "/no/such/folder"}, "no_folder"),
        ({"command": "kill -TERM $$"}, "signal"),
        ({"command": "kill -KILL $$"}, "killed"),
        ({"command": "echo partly; sleep 60", "timeout_seconds": 1}, "timed_out"),
    ],
)
def test_a_command_that_goes_wrong_ends_with_its_reason(service, fields, code) -> None:
    wrong = soon(**fields)

    run = ended(started(wrong))

    assert run.reason_code == code
    assert run.state == (Run.State.TIMED_OUT if code == "timed_out" else Run.State.FAILED)
    assert "%" not in run.reason


def test_output_written_before_a_time_limit_is_kept(service) -> None:
    slow = soon(command="echo partly; sleep 60", timeout_seconds=1)

    run = ended(started(slow))

    assert text(run) == "partly\n"


def test_a_command_that_prints_binary_or_nothing_or_forks_away_is_no_error(service) -> None:
    binary = soon(name="binary", command=r"printf '\000\377\033[31m'")
    silent = soon(name="silent", command="true")
    forking = soon(name="forking", command="setsid sleep 600 >/dev/null 2>&1 & echo away")

    runs = [ended(started(each)) for each in (binary, silent, forking)]

    assert [run.state for run in runs] == [Run.State.SUCCEEDED] * 3
    assert output.read(runs[0].folder, 0).data == b"\x00\xff\x1b[31m"
    assert runs[1].output_bytes == 0
    assert [run.reason_code for run in runs] == ["", "", "left_behind"]
    assert not [p for p in psutil.process_iter() if belongs_to(p, runs[2])]


def test_a_job_may_leave_background_processes_on_purpose(service) -> None:
    leaving = soon(command="setsid sleep 600 >/dev/null 2>&1 & echo on", leave_descendants=True)

    run = ended(started(leaving))

    left = [p for p in psutil.process_iter() if belongs_to(p, run)]
    for process in left:
        process.kill()
    assert len(left) == 1
    assert run.reason == ""


def test_a_run_longer_than_wanted_is_remarked_on_and_goes_well(service) -> None:
    slow = soon(command="sleep 1.2; echo done", timeout_seconds=60, soft_timeout_seconds=1)

    run = ended(started(slow))

    assert (run.state, run.reason_code) == (Run.State.SUCCEEDED, "slow")
    assert "%" not in run.reason


def test_cancelling_ends_the_whole_tree_and_says_who(service) -> None:
    stubborn = soon(
        command="trap '' TERM; sleep 600 & setsid sleep 600 & echo up; wait; sleep 600",
        grace_seconds=0,
    )
    run = running(started(stubborn))

    assert scheduler.stop(run, by="anna", now=timezone.now())

    ended(run)
    assert run.state == Run.State.CANCELLED
    assert "anna" in run.reason
    assert not [p for p in psutil.process_iter() if belongs_to(p, run)]


def test_a_stop_wish_that_no_bell_told_is_heeded_by_the_row(service) -> None:
    long = soon(command="echo up; sleep 600")
    run = running(started(long))

    run.request_stop(by="anna", now=timezone.now())

    assert ended(run).state == Run.State.CANCELLED


def test_deleting_a_job_ends_its_run_and_removes_the_output(service) -> None:
    long = soon(command="echo up; sleep 600")
    run = running(started(long))

    assert scheduler.remove(long, by="anna", now=timezone.now()) == 1

    until(lambda: not run.folder.exists(), "the removal of the folder")
    assert not [p for p in psutil.process_iter() if belongs_to(p, run)]


def test_a_job_deleted_while_no_daemon_was_there_is_stopped_at_the_next_start(service) -> None:
    long = soon(command="echo up; sleep 600")
    run = running(started(long))
    service.stop()
    stray = run.folder.parent / f"{run.pk} (copy)"
    stray.mkdir()

    scheduler.remove(long, by="anna", now=timezone.now())
    service.start()

    until(lambda: not run.folder.exists(), "the removal of the folder")
    assert not [p for p in psutil.process_iter() if belongs_to(p, run)]
    assert stray.exists()


def test_a_run_goes_on_through_a_restart_of_everything(service, tmp_path) -> None:
    gate = tmp_path / "gate"
    long = soon(command=f"echo before; until [ -e {gate} ]; do sleep 0.05; done; echo after")
    run = running(started(long))

    assert service.stop() == 0
    gate.touch()
    service.start()

    assert ended(run).state == Run.State.SUCCEEDED
    assert text(run) == "before\nafter\n"


def test_a_killed_daemon_is_started_again_and_adopts_what_runs(service, tmp_path) -> None:
    gate = tmp_path / "gate"
    long = soon(command=f"echo before; until [ -e {gate} ]; do sleep 0.05; done; echo after")
    run = running(started(long))
    (daemon,) = service.parts("bach-daemon")

    daemon.kill()
    until(lambda: service.parts("bach-daemon"), "the daemon's restart")
    gate.touch()

    assert ended(run).state == Run.State.SUCCEEDED
    assert text(run) == "before\nafter\n"


def test_a_killed_cluster_is_started_again_and_runs_go_on(service) -> None:
    clusters = service.parts("bach-cluster")
    for process in clusters:
        process.kill()

    run = ended(started(soon(command="echo hello")))

    assert run.state == Run.State.SUCCEEDED


def test_a_killed_supervisor_takes_its_command_along_and_the_run_is_lost(service) -> None:
    long = soon(command="echo up; setsid sleep 600")
    run = running(started(long))
    supervisor = psutil.Process(_supervisor_of(run))

    supervisor.kill()

    assert ended(run).state == Run.State.LOST
    assert not [p for p in psutil.process_iter() if belongs_to(p, run)]


def _supervisor_of(run: Run) -> int:
    from daemon_app import supervisor

    pid = supervisor.look(run.folder).pid
    assert pid is not None
    return pid


def test_the_heartbeat_says_who_is_alive_and_a_stop_is_told(service) -> None:
    node = Node.latest()
    assert node is not None
    assert node.is_alive(timezone.now())

    service.stop()

    node.refresh_from_db()
    assert not node.is_alive(timezone.now())


def test_ctrl_c_ends_everything_but_running_commands(service) -> None:
    assert service.process is not None
    before = psutil.Process(service.process.pid).children(recursive=True)

    assert service.stop(signal.SIGINT) == 0

    _gone, alive = psutil.wait_procs(before, timeout=PATIENCE)
    assert alive == []


def test_a_second_daemon_on_the_same_data_is_refused(service) -> None:
    second = subprocess.run(
        [sys.executable, "-c", UP, str(connection.settings_dict["NAME"])],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        env={**os.environ, "BACH_DATA_DIR": str(settings.DATA_DIR)},
        check=False,
    )

    assert second.returncode == 1
    assert str(service.process.pid) in second.stderr

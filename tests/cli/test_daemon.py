"""The daemon from a terminal: real processes, from start to stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import COMMAND, ROOT, Bach, lines
from tests.cli.conftest import end_all

# What the daemon brings along has jobs, too.
SKILLS = ("cleanup_vram", "validate_configs")
JOBS = {
    "greet": "printf 'hello\\n'; printf 'oops\\n' >&2",
    "fail": "echo broken; exit 7",
    "missing": "/no/such/program",
    "killed": "kill -9 $$",
    "slow": "echo begun; sleep 600",
    "steps": "for n in 1 2 3; do echo step $n; while [ ! -e $GO/$n ]; do sleep 0.02; done; done",
    "many": "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done",
    "paint": r"printf '\033[31mred\033[0m \033]0;title\007\033[2Jend\n'",
    "nightly-backup": "true",
}


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Return whether no process has this number; a zombie is one nobody has asked about."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def daemon(service: Bach) -> Bach:
    service.add_jobs(**JOBS)
    return service


def test_a_second_daemon_is_refused_and_the_first_goes_on(daemon: Bach) -> None:
    before = json.loads(daemon("daemon", "status", "--json").stdout)["pid"]

    for arguments in (["daemon", "start"], ["daemon", "start", "--bg"]):
        answer = daemon(*arguments)

        assert answer.returncode == Code.ALREADY_RUNNING
        assert f"läuft schon (Prozess {before})" in answer.stderr
        assert "bach daemon stop" in answer.stderr

    assert json.loads(daemon("daemon", "status", "--json").stdout)["pid"] == before


def test_status_says_what_runs_in_words_and_as_json(daemon: Bach) -> None:
    said, facts = daemon("daemon", "status"), daemon("daemon", "status", "--json")

    found = json.loads(facts.stdout)
    assert (said.returncode, facts.returncode) == (Code.OK, Code.OK)
    assert found["running"] is True
    assert found["stats"]["total_jobs"] == len(JOBS) + len(SKILLS)
    assert found["web"] == []
    assert f"(Prozess {found['pid']})" in said.stdout
    assert f"Jobs: {len(JOBS) + len(SKILLS)}" in said.stdout


def test_jobs_are_listed_in_words_and_as_json(daemon: Bach) -> None:
    said = daemon("daemon", "jobs").stdout
    found = json.loads(daemon("daemon", "jobs", "--json").stdout)

    assert [job["name"] for job in found] == sorted({*JOBS, *SKILLS})
    assert said.splitlines()[0].split()[:3] == ["Nr.", "Job", "Zustand"]
    assert all(name in said for name in JOBS)
    assert "\x1b" not in said


def test_following_gives_the_bytes_of_the_command_and_its_exit_code(daemon: Bach) -> None:
    answer = daemon("daemon", "run", "greet", "--follow")

    assert answer.returncode == 0
    assert answer.stdout == "hello\noops\n"
    assert "Lauf" in answer.stderr
    assert "Fertig" in answer.stderr


@pytest.mark.parametrize(
    ("job", "code"), [("fail", 7), ("missing", 127), ("killed", 128 + signal.SIGKILL)]
)
def test_following_ends_with_the_code_of_the_command(daemon: Bach, job: str, code: int) -> None:
    answer = daemon("daemon", "run", job, "--follow")

    assert answer.returncode == code
    assert "Fehlschlag" in answer.stderr


def test_output_comes_while_the_command_runs(daemon: Bach) -> None:
    go = daemon.data / "go"
    go.mkdir()
    daemon.python(
        "from django.utils import timezone; from daemon_app.models import Job\n"
        "job = Job.objects.get(name='steps')\n"
        f"job.environment = {{'GO': {str(go)!r}}}; job.store(now=timezone.now(), by='anna')"
    )

    with daemon.open("daemon", "run", "steps", "--follow") as process:
        for number, line in enumerate(lines(process), start=1):
            assert line == f"step {number}"
            assert process.poll() is None
            (go / str(number)).touch()

    assert process.returncode == 0


def test_the_output_of_every_attempt_comes_once(daemon: Bach) -> None:
    daemon.python(
        "from django.utils import timezone; from daemon_app.models import Job\n"
        "command = 'echo try $BACH_ATTEMPT; echo done $BACH_ATTEMPT; exit 3'\n"
        "Job.objects.filter(name='stubborn').exists() or Job(\n"
        "    name='stubborn', job_type='manual', command=command,\n"
        "    max_retries=2, retry_backoff_seconds=1,\n"
        ").store(now=timezone.now(), by='anna')"
    )

    answer = daemon("daemon", "run", "stubborn", "--follow")

    assert answer.returncode == 3
    assert answer.stdout == "".join(f"try {n}\ndone {n}\n" for n in (1, 2, 3))
    assert answer.stderr.count("Exit 3") == 3
    daemon.python(
        "from django.utils import timezone as t; from daemon_app.models import Job; "
        "Job.objects.get(name='stubborn').remove(now=t.now(), by='anna')"
    )


def test_a_run_is_found_by_number_by_name_and_whatever_its_case(daemon: Bach) -> None:
    listed = json.loads(daemon("daemon", "jobs", "--json").stdout)
    number = next(job["id"] for job in listed if job["name"] == "greet")

    for name in (str(number), "greet", "GREET", "  greet "):
        answer = daemon("daemon", "run", name, "--follow", "--json")

        assert answer.returncode == 0
        run = json.loads(answer.stdout)
        assert (run["job_name"], run["state"], run["trigger"]) == ("greet", "succeeded", "cli")
        assert run["started_by"]
        assert run["exit_code"] == 0


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("nightly-bakup", "nightly-backup"), ("backup", "nightly-backup"), ("gret", "greet")],
)
def test_a_name_that_comes_near_is_suggested(daemon: Bach, typed: str, meant: str) -> None:
    answer = daemon("daemon", "run", typed)

    assert answer.returncode == Code.NOT_FOUND
    assert f"Den Job „{typed}“ gibt es nicht." in answer.stderr
    assert meant in answer.stderr


@pytest.mark.parametrize("typed", ["999999999", "99999999999999999999", "%", "", "-", "\x1b[2J"])
def test_a_job_that_is_nothing_like_any_is_not_found(daemon: Bach, typed: str) -> None:
    answer = daemon("daemon", "run", "--", typed)

    assert answer.returncode == Code.NOT_FOUND
    assert "bach daemon jobs" in answer.stderr
    assert "\x1b" not in answer.stderr


def test_ctrl_c_ends_the_watching_and_not_the_run(daemon: Bach) -> None:
    with daemon.open("daemon", "run", "slow", "--follow") as process:
        assert next(lines(process)) == "begun"

        process.send_signal(signal.SIGINT)

        _rest, said = process.communicate(timeout=20)
    assert process.returncode == Code.INTERRUPTED
    assert "Traceback" not in said
    assert "geht weiter" in said
    active = json.loads(daemon("daemon", "status", "--json").stdout)["active_runs"]
    assert [run["job_name"] for run in active] == ["slow"]

    again = daemon("daemon", "run", "slow")

    assert again.returncode == Code.ALREADY_RUNNING
    assert f"Lauf {active[0]['id']}" in again.stderr
    assert f"/daemon/runs/{active[0]['id']}/" in again.stderr


def test_a_run_that_is_deleted_while_it_is_followed_says_so(daemon: Bach) -> None:
    daemon.add_jobs(doomed="echo begun; sleep 600")
    with daemon.open("daemon", "run", "doomed", "--follow") as process:
        assert next(lines(process)) == "begun"

        assert daemon("job", "delete", "doomed", "--yes").returncode == Code.OK

        _rest, said = process.communicate(timeout=20)
    assert process.returncode == Code.NOT_FOUND
    assert "gibt es nicht mehr" in said
    assert "Traceback" not in said


def test_changes_of_one_job_at_once_lose_nothing(daemon: Bach) -> None:
    changes = {"description": "both", "priority": "7", "keep-runs": "5"}

    with contextlib.ExitStack() as stack:
        edits = [
            stack.enter_context(daemon.open("job", "edit", "paint", f"--{name}", value))
            for name, value in changes.items()
        ]
        assert [edit.wait(60) for edit in edits] == [Code.OK] * len(changes)

    found = json.loads(daemon("job", "show", "paint", "--json").stdout)
    assert (found["description"], found["priority"], found["keep_runs"]) == ("both", 7, 5)
    assert found["version"] == 1 + len(changes)


def test_a_run_that_goes_on_is_followed_by_its_job_or_its_number(daemon: Bach) -> None:
    go = daemon.data / "go-on"
    daemon.add_jobs(waits=f"echo begun; while [ ! -e {go} ]; do sleep 0.02; done; exit 9")
    number = json.loads(daemon("daemon", "run", "waits", "--json").stdout)["id"]

    with daemon.open("job", "logs", "waits", "-f") as process:
        assert next(lines(process)) == "begun"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
        assert process.returncode == Code.INTERRUPTED
        assert f"Lauf {number} geht weiter" in said

    with daemon.open("daemon", "log", str(number), "-f") as process:
        assert next(lines(process)) == "begun"
        go.touch()
        assert process.wait(30) == 9

    assert daemon("daemon", "log", str(number)).stdout == "begun\n"
    assert daemon("job", "delete", "waits", "--yes").returncode == Code.OK


@pytest.mark.parametrize(
    "command",
    [
        "daemon run many --follow",
        "daemon jobs --json",
        "daemon status",
        "daemon logs 1000",
        "daemon run --help",
    ],
)
def test_a_closed_pipe_is_no_traceback(daemon: Bach, command: str) -> None:
    program = " ".join(f"'{word}'" for word in COMMAND)

    done = subprocess.run(
        ["/bin/bash", "-c", f"{program} {command} | true; echo ${{PIPESTATUS[0]}}"],
        env=daemon.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert int(done.stdout) in {Code.OK, Code.PIPE_CLOSED}


def test_on_a_terminal_colours_stay_and_nothing_else(daemon: Bach) -> None:
    in_a_terminal = (
        "import os, pty, sys; status = pty.spawn(sys.argv[1:]);"
        "sys.exit(os.waitstatus_to_exitcode(status))"
    )

    done = subprocess.run(
        [sys.executable, "-c", in_a_terminal, *COMMAND, "daemon", "run", "paint", "--follow"],
        env={**daemon.environment, "TERM": "xterm"},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )

    assert b"\x1b[31mred\x1b[0m end\r\n" in done.stdout
    assert b"title" not in done.stdout


def test_in_a_pipe_not_a_byte_is_changed(daemon: Bach) -> None:
    answer = daemon("daemon", "run", "paint", "--follow")

    assert answer.stdout == "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jend\n"


def test_the_log_is_shown_and_followed_until_ctrl_c(daemon: Bach) -> None:
    log = daemon.data / "logs" / "daemon.log"

    with daemon.open("daemon", "logs", "1", "--follow") as process:
        assert next(lines(process)) == log.read_text().splitlines()[-1]
        with log.open("a") as file:
            file.write("something new\n")
        assert next(lines(process)) == "something new"

        process.send_signal(signal.SIGINT)

        _rest, said = process.communicate(timeout=20)
    assert process.returncode == Code.INTERRUPTED
    assert "Traceback" not in said


# ── Start and stop ───────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def own(bach: Bach) -> Iterator[Bach]:
    """`bach` whose daemon a test starts and stops itself."""
    yield bach
    end_all(bach)


def test_in_the_background_it_returns_when_it_is_up_and_says_where_the_log_is(own: Bach) -> None:
    started = own("daemon", "start", "--bg")

    assert started.returncode == Code.OK
    assert str(own.data / "logs" / "daemon.log") in started.stdout
    status = own("daemon", "status", "--json")
    assert status.returncode == Code.OK
    pid = json.loads(status.stdout)["pid"]
    assert (own.data / "daemon.pid").read_text().splitlines()[0] == str(pid)

    stopped = own("daemon", "stop")

    assert stopped.returncode == Code.OK
    assert "angehalten" in stopped.stdout
    assert is_gone(pid)
    assert not (own.data / "daemon.pid").exists()
    assert own("daemon", "status").returncode == Code.NOT_RUNNING


def test_in_the_foreground_ctrl_c_ends_it_cleanly(own: Bach) -> None:
    with own.open("daemon", "start") as process:
        assert "Der Daemon läuft" in next(lines(process))

        process.send_signal(signal.SIGINT)

        _rest, said = process.communicate(timeout=60)
    assert process.returncode == Code.OK
    assert "Traceback" not in said
    assert not (own.data / "daemon.pid").exists()


def test_of_two_started_at_once_one_runs(own: Bach) -> None:
    own.migrate()
    with (
        own.open("daemon", "start", "--bg") as one,
        own.open("daemon", "start", "--bg") as other,
    ):
        said = [process.communicate(timeout=60) for process in (one, other)]

    codes = sorted([one.returncode, other.returncode])

    assert codes[0] == Code.OK, said
    assert codes[1] in {Code.FAILED, Code.ALREADY_RUNNING}, said
    assert own("daemon", "status").returncode == Code.OK


def test_after_a_crash_the_pid_file_blocks_nobody(own: Bach) -> None:
    assert own("daemon", "start", "--bg").returncode == Code.OK
    pid = json.loads(own("daemon", "status", "--json").stdout)["pid"]
    parts = psutil.Process(pid).children()
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs(parts, timeout=20)
    assert (own.data / "daemon.pid").exists()

    assert own("daemon", "start", "--bg").returncode == Code.OK

    assert json.loads(own("daemon", "status", "--json").stdout)["pid"] != pid


def test_stop_ends_no_stranger_whose_number_stands_in_the_file(own: Bach) -> None:
    own.migrate()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (own.data / "daemon.pid").write_text(f"{stranger.pid}\n1\nsome-boot\n\n")

        answer = own("daemon", "stop")

        assert answer.returncode == Code.OK
        assert "läuft nicht" in answer.stdout
        assert stranger.poll() is None
        stranger.kill()


def test_stop_says_that_running_commands_go_on_and_they_do(own: Bach) -> None:
    own("daemon", "start", "--bg")
    own.add_jobs(slow="echo $$ > pid; exec sleep 600")
    own.python(
        "from django.utils import timezone; from daemon_app.models import Job\n"
        "job = Job.objects.get(name='slow'); job.working_directory = "
        f"{str(own.data)!r}; job.store(now=timezone.now(), by='anna')"
    )
    assert own("daemon", "run", "slow").returncode == Code.OK
    until((own.data / "pid").exists, "the command runs")
    pid = int((own.data / "pid").read_text())

    stopped = own("daemon", "stop")

    assert "1 Lauf geht weiter" in stopped.stdout
    assert psutil.Process(pid).name() == "sleep"

    assert own("daemon", "start", "--bg").returncode == Code.OK
    active = json.loads(own("daemon", "status", "--json").stdout)["active_runs"]
    assert [run["job_name"] for run in active] == ["slow"]
    psutil.Process(pid).terminate()
    until(
        lambda: not json.loads(own("daemon", "status", "--json").stdout)["active_runs"],
        "its end is recorded",
    )


def test_a_start_that_fails_in_the_background_shows_why(own: Bach) -> None:
    own.data.mkdir(mode=0o700)
    (own.data / "bach.sqlite3").write_bytes(b"\x00nonsense" * 1000)

    answer = own("daemon", "start", "--bg")

    assert answer.returncode == Code.FAILED
    assert "Der Daemon ist nicht gestartet" in answer.stderr
    assert str(own.data / "bach.sqlite3") in answer.stderr

"""The line of waiting runs from a terminal, while neither daemon nor pages are there."""

import json
from typing import Any

import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach

WAITING = """
from datetime import timedelta
from django.utils import timezone
from daemon_app.models import Job, Run
now = timezone.now()
for name in ("one", "two", "three"):
    job = Job(name=name, job_type="manual", command="true").store(now=now, by="anna")
    Run.objects.create(
        job=job, job_name=name, trigger="manual", due_at=now - timedelta(minutes=5),
        state="queued", queued_at=now - timedelta(minutes=2, seconds=2),
        definition=job.definition(),
    )
"""


@pytest.fixture
def line(bach: Bach) -> Bach:
    """`bach` with three runs in line: 1, 2 and 3."""
    bach.migrate()
    bach.python(WAITING)
    return bach


def waiting(bach: Bach) -> list[int]:
    told = json.loads(bach("daemon", "queue", "--json").stdout)
    return [each["run_id"] for each in told["waiting"]]


def facts(answer: Any) -> Any:
    assert answer.returncode == Code.OK, answer
    return json.loads(answer.stdout)


def test_the_line_is_listed_with_reasons(line: Bach) -> None:
    said = line("daemon", "queue")

    assert said.returncode == Code.OK
    rows = [row.split() for row in said.stdout.splitlines()]
    assert [(row[0], row[2]) for row in rows[-3:]] == [("1", "one"), ("2", "two"), ("3", "three")]
    assert {tuple(row[3:5]) for row in rows[-3:]} == {("2", "Min.")}  # for so long, of `queued_at`
    assert "Daemon" in said.stdout  # what they wait for
    assert waiting(line) == [1, 2, 3]


def test_status_says_what_waits_and_what_can_not_start(line: Bach) -> None:
    line.python(
        "from django.utils import timezone\n"
        "from daemon_app.models import Job, Pool\n"
        "now = timezone.now()\n"
        "Pool(name='gpu', size=1).store(now=now, by='anna')\n"
        "Job(name='big', job_type='manual', command='true', pools={'gpu': 1}).store("
        "now=now, by='anna')\n"
        "Pool.objects.get().remove()\n"
    )
    queue = [each.split("  ")[-1] for each in line("daemon", "queue").stdout.splitlines()[-3:]]

    said = line("daemon", "status").stdout

    assert [row.split("  ")[-1].strip() for row in said.splitlines()[-3:]] == queue[::-1]
    (notice,) = json.loads(line("daemon", "status", "--json").stdout)["notices"]
    assert notice["code"] == "impossible"
    assert f"{notice['title']}: {notice['text']}" in said


def test_an_empty_line_is_said_to_be_empty(bach: Bach) -> None:
    bach.migrate()

    said = bach("daemon", "queue")

    assert said.returncode == Code.OK
    assert "0" in said.stdout


def test_a_run_is_moved(line: Bach) -> None:
    moved = line("daemon", "move", "3", "first")

    assert (moved.returncode, moved.stderr) == (Code.OK, "")
    assert "1" in moved.stdout
    assert waiting(line) == [3, 1, 2]
    assert facts(line("daemon", "move", "3", "last", "--json"))["waiting"]["position"] == 3
    assert line("daemon", "move", "3", "last").returncode == Code.OK
    assert waiting(line) == [1, 2, 3]


def test_a_run_is_dropped_or_cancelled_and_can_then_not_be_moved(line: Bach) -> None:
    assert line("daemon", "drop", "1").returncode == Code.OK
    assert facts(line("daemon", "cancel", "2", "--json"))["state"] == "cancelled"

    assert waiting(line) == [3]
    for arguments in (["move", "1", "up"], ["drop", "1"], ["cancel", "2"]):
        answer = line("daemon", *arguments)

        assert answer.returncode == Code.FAILED
        assert answer.stdout == ""


def test_what_runs_is_not_dropped_but_cancelled(line: Bach) -> None:
    line.python(
        "from daemon_app.models import Run; from django.utils import timezone\n"
        "Run.objects.get(pk=1).claim(owner='here', now=timezone.now())"
    )

    refused = line("daemon", "drop", "1")
    asked = line("daemon", "cancel", "1")

    assert refused.returncode == Code.FAILED
    assert "bach daemon cancel 1" in refused.stderr
    assert asked.returncode == Code.OK
    assert "Daemon" in asked.stderr  # it is not there to do it
    found = facts(line("daemon", "cancel", "1", "--json"))
    assert (found["state"], found["is_stopping"]) == ("running", True)


def test_a_run_there_is_not_is_not_found(line: Bach) -> None:
    for arguments in (
        ["move", "99", "up"],
        ["drop", "one"],
        ["cancel", "9" * 30],
        ["cancel", "\x1b[2J"],
        ["drop", ""],
    ):
        answer = line("daemon", *arguments)

        assert answer.returncode == Code.NOT_FOUND
        assert "\x1b" not in answer.stderr


def test_everything_is_held_and_goes_on(line: Bach) -> None:
    held = line("daemon", "hold", "--note", "Kernel")

    assert held.returncode == Code.OK
    assert "bach daemon resume" in held.stdout
    said = line("daemon", "queue")
    assert "Kernel" in said.stdout
    told = facts(line("daemon", "queue", "--json"))
    assert told["held"]["hold"] == "drain"
    assert {each["code"] for each in told["waiting"]} == {"waits_held"}
    assert facts(line("daemon", "hold", "--stop", "--json"))["hold"] == "stop"
    assert facts(line("daemon", "resume", "--json"))["hold"] == ""
    assert line("daemon", "resume").returncode == Code.OK
    assert line("daemon", "hold", "--note", "x" * 201).returncode == Code.USAGE

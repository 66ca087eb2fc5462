"""What a terminal and a shell see: colours, widths, bars, closed pipes, other encodings, codes."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click
import pytest

from daemon_app.cli import bach as root
from daemon_app.cli import terminal
from daemon_app.cli.completion import commands
from daemon_app.cli.outcome import Code
from tests.cli.bach import COMMAND, ROOT, Bach

# What shows something, and needs no daemon for it.
READERS = (
    *("jobs", "jobs --json", "status", "status --json", "queue", "health", "skills", "pools"),
    *("policy", "incidents", "audit", "audit verify", "token list", "why 1", "logs", "doctor"),
)
EMPTY: Mapping[str, str] = {}
WALK = (
    "from daemon_app.cli import run\n"
    "for each in {!r}:\n"
    "    print('=', each, run(['daemon', *each.split()]))"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bach:
    bach = Bach(tmp_path_factory.mktemp("shell") / "data")
    bach.migrate()
    bach.add_jobs(**{"ein Job mit einem sehr sehr langen Namen ä": "true", "kurz": "true"})
    return bach


def on_terminal(
    bach: Bach, *command: str, columns: int = 80, environment: Mapping[str, str] = EMPTY
) -> str:
    """Return what a process writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        command,
        env={**bach.environment, "TERM": "xterm", **environment},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # Linux ends a terminal nobody writes to with an error
            while piece := os.read(ours, 65_536):
                said += piece
        os.close(ours)
        process.wait(60)
    return said.decode(errors="replace").replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_terminal_gets_colours_unless_it_asks_for_none(
    shared: Bach, environment: dict[str, str], is_coloured: bool
) -> None:
    said = on_terminal(shared, *COMMAND, "daemon", "status", environment=environment)

    assert "Daemon" in said
    assert ("\x1b[3" in said) is is_coloured


def test_a_pipe_gets_colours_only_when_it_asks_for_them(shared: Bach) -> None:
    assert "\x1b" not in shared("daemon", "status").stdout
    assert "\x1b[31m" in shared("daemon", "status", FORCE_COLOR="1").stdout


def test_a_narrow_terminal_gets_narrow_tables(shared: Bach) -> None:
    walk = WALK.format(["jobs", "queue", "health", "skills", "token list", "why 1"])

    said = on_terminal(shared, sys.executable, "-c", walk, columns=40)

    tables = [line for line in said.splitlines() if "   " in line.strip()]
    assert tables
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in tables) <= 40
    assert "Traceback" not in said


def test_a_table_that_fits_is_written_as_one_that_is_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    columns = ("Nr.", "Name", "Zustand", "Text")
    rows = [("1", "größe", "✓ gut", "a → b"), ("22", "x", "", "漢字 →")]
    terminal.table(columns, [[each if each != "✓ gut" else (each, "is-ok") for each in rows[0]]])
    terminal.table(columns, rows)
    fitting = capsys.readouterr().out

    for some in (rows[:1], rows):
        cells = [[("", each) for each in row] for row in some]
        terminal._folded([columns, *some], cells, 60)

    assert capsys.readouterr().out == fitting
    assert fitting.splitlines()[2:4] == [
        "Nr.   Name    Zustand   Text",
        "1     größe   ✓ gut     a → b",
    ]


def test_no_terminal_is_too_old_for_any_command(shared: Bach) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK.format(READERS)],
        env={**shared.environment, "PYTHONIOENCODING": "latin-1"},
        cwd=ROOT,
        capture_output=True,
        timeout=100,
        check=True,
    )

    ended = dict(re.findall(r"^= (.*) ([0-9])$", done.stdout.decode("latin-1"), re.MULTILINE))
    assert set(ended) == set(READERS)
    assert {name: code for name, code in ended.items() if code != "0"}.keys() <= {
        *("status", "status --json", "doctor"),
    }
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["daemon", "jobs"], ["daemon", "policy", "--json"]])
def test_whoever_reads_may_go_away(shared: Bach, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *words],
        env=shared.environment,
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writing)

    assert done.returncode == Code.PIPE_CLOSED
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("output", "code"), [(">/dev/full", Code.FAILED), (">&-", Code.OK), ("<&- >&- 2>&-", Code.OK)]
)
def test_a_full_disk_is_told_and_a_closed_output_needs_nobody(
    shared: Bach, output: str, code: Code
) -> None:
    words = ["sh", "-c", f'"$@" {output}', "sh", *COMMAND, "daemon", "jobs"]
    done = subprocess.run(
        words, env=shared.environment, cwd=ROOT, capture_output=True, timeout=60, check=False
    )

    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


def test_long_work_shows_a_bar_on_a_terminal_and_nothing_in_a_pipe(shared: Bach) -> None:
    said = on_terminal(shared, *COMMAND, "daemon", "doctor")

    assert re.search(r"\[#+\] +100%", said)
    assert "%" not in shared("daemon", "doctor").stderr


def test_a_database_that_is_brought_up_to_date_shows_how_far_it_is(tmp_path: Path) -> None:
    bach = Bach(tmp_path / "data")
    bach.python(
        "from django.core.management import call_command\n"
        "call_command('migrate', 'daemon_app', '0003', verbosity=0)"
    )

    said = on_terminal(
        bach,
        sys.executable,
        "-c",
        "from daemon_app.cli import project; project.configure()\n"
        "from daemon_app.cli import up; up.prepare()",
    )

    assert "Datenbank" in said
    assert "100%" in said


def test_what_changes_something_says_so_as_json(shared: Bach) -> None:
    token = json.loads(shared("daemon", "token", "create", "--name", "x", "--json").stdout)
    revoked = json.loads(shared("daemon", "token", "revoke", str(token["id"]), "--json").stdout)
    link = json.loads(shared("daemon", "login", "--json").stdout)
    stopped = json.loads(shared("daemon", "stop", "--json").stdout)

    assert revoked["state"] == "revoked"
    assert "/login/#t=" in link["url"]
    assert stopped == {"stopped": False, "pid": None, "web": False, "running_runs": None}


def test_every_exit_code_stands_in_the_documentation() -> None:
    told = (ROOT / "docs/cli.md").read_text()
    rows = re.findall(r"^\| ([0-9]+) \| \S", told.partition("| exit code |")[2], re.MULTILINE)

    ours = {str(int(code)) for code in Code} - {str(int(Code.TIMED_OUT))}  # a command's own
    assert set(rows) == ours


@pytest.mark.parametrize(
    ("words", "without"),
    [
        *[
            (
                words,
                {
                    "rest_framework",
                    "django_q",
                    "django.contrib.admin",
                    "rich.console",
                    "jsonschema",
                },
            )
            for words in ("jobs", "status", "queue", "policy")
        ],
        ("logs", {"django.db"}),
        ("run 99", {"rest_framework", "django.contrib.admin", "rich.console", "jsonschema"}),
        ("jobs --json", {"django.contrib.admin", "django_q", "jsonschema"}),
    ],
)
def test_a_simple_command_loads_only_what_it_uses(
    shared: Bach, words: str, without: set[str]
) -> None:
    code = (
        "import sys; from daemon_app.cli import run\n"
        f"run(['daemon', *{words.split()!r}])\n"
        f"print(sorted({without!r} & {{name for name in sys.modules}}), file=sys.stderr)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**shared.environment, "LANG": "en_GB.UTF-8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stderr.splitlines()[-1] == "[]"


WITHOUT_JSON = {
    *("up", "gui start", "daemon start", "demo gpu-service", "demo ollama"),
    *("daemon log", "daemon logs", "job logs", "daemon unit", "daemon audit export"),
    *("progress", "completion"),
}


def test_every_other_command_answers_as_json() -> None:
    silent = set()
    for path, command in commands(root, ""):
        is_group = isinstance(command, click.Group) and not command.invoke_without_command
        if not is_group and not any("--json" in each.opts for each in command.params):
            silent.add(path)

    assert silent == WITHOUT_JSON

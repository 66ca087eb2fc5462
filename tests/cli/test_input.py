"""Whatever is typed: a clear message with the way out, an exit code that fits, no traceback."""

import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "Den Befehl 'nonsense' gibt es nicht."),
        (["daemon", "strat"], "Meinten Sie"),
        (["daemon", "session", "start"], "Diese Version startet noch keine Sitzungen."),
        (["daemon"], "Aufruf: bach daemon"),
        (["daemon", "run"], "Es fehlt das Argument"),
        (["daemon", "run", "a", "b"], "Ein Argument zu viel: b"),
        (["daemon", "status", "--jsno"], "--json"),
        (["daemon", "status", "--json=1"], "nimmt keinen Wert"),
        (["daemon", "logs", "0"], "„0“ ist keine ganze Zahl von 1 bis"),
        (["daemon", "logs", "zwanzig"], "„zwanzig“ ist keine ganze Zahl"),
        (["daemon", "logs", "1e3"], "„1e3“ ist keine ganze Zahl"),
        (["daemon", "logs", "٣"], "„٣“ ist keine ganze Zahl"),
        (["daemon", "logs", "9" * 30], "ist keine ganze Zahl"),
        (["daemon", "logs", "--", "-5"], "„-5“ ist keine ganze Zahl"),
        (["daemon", "move", "1", "top"], "ist keines von diesen"),
        (["daemon", "move", "1"], "Es fehlt das Argument"),
        (["daemon", "drop"], "Es fehlt das Argument"),
        (["daemon", "pools", "set", "gpu", "0"], "„0“ ist keine ganze Zahl von 1 bis"),
        (["daemon", "pools", "set", "gpu"], "Es fehlt das Argument"),
        (["daemon", "policy", "--parallel", "viele"], "„viele“ ist keine ganze Zahl"),
        (["daemon", "policy", "--keep-days", "0"], "„0“ ist keine ganze Zahl von 1 bis"),
        (["daemon", "incidents", "seen"], "Es fehlt das Argument"),
        (["up", "--port", "0"], "„0“ ist keine ganze Zahl von 1 bis 65535"),
        (["up", "--port", "65536"], "„65536“ ist keine ganze Zahl"),
        (["up", "--port", "http"], "„http“ ist keine ganze Zahl"),
        (["up", "--port"], "braucht einen Wert"),
        (["up", "--host", "a b"], "„a b“ ist keine Adresse"),
        (["up", "--host", "http://localhost"], "ist keine Adresse"),
        (["up", "--host", "[::1"], "ist keine Adresse"),
        (["up", "--host", ""], "ist keine Adresse"),
        (["daemon", "token", "create"], "Es fehlt die Option '--name'"),
        (["daemon", "token", "create", "--name", " "], "Geben Sie einen Namen"),
        (["daemon", "token", "create", "--name", "x" * 81], "Geben Sie einen Namen"),
        (["daemon", "token", "create", "--name", "a\x1b[2Jb"], "Geben Sie einen Namen"),
        (["daemon", "token", "create", "--name", "a", "--role", "chef"], "ist keines von diesen"),
        (["daemon", "token", "create", "--name", "a", "--days", "-1"], "ist keine ganze Zahl"),
    ],
)
def test_a_wrong_call_is_answered_in_german(bach: Bach, arguments: list[str], told: str) -> None:
    answer = bach(*arguments)

    assert answer.returncode == Code.USAGE
    assert told in answer.stderr
    assert answer.stdout == ""
    assert not bach.data.exists()


def test_an_address_in_brackets_is_one(bach: Bach) -> None:
    answer = bach("up", "--host", "[::1]", "--port", "nein")

    assert "ist keine ganze Zahl" in answer.stderr
    assert "Adresse" not in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["jobs"],
        ["run", "1"],
        ["login"],
        ["queue"],
        ["move", "1", "first"],
        ["drop", "1"],
        ["cancel", "1"],
        ["hold"],
        ["resume"],
        ["pools"],
        ["pools", "set", "gpu", "1"],
        ["pools", "remove", "gpu"],
        ["policy"],
        ["incidents"],
        ["login", "--print"],
        ["token", "list"],
        ["token", "create", "--name", "a"],
        ["token", "revoke", "1"],
    ],
)
def test_before_the_first_start_each_command_says_how_to_begin(
    bach: Bach, arguments: list[str]
) -> None:
    answer = bach("daemon", *arguments)

    assert answer.returncode == Code.NOT_SET_UP
    assert "bach up" in answer.stderr
    assert answer.stdout == ""
    assert not (bach.data / "bach.sqlite3").exists()


def test_a_database_of_an_earlier_version_is_told_apart_from_a_fault(bach: Bach) -> None:
    bach.migrate()
    bach.python(
        "from django.db import connection\n"
        "connection.cursor().execute('ALTER TABLE daemon_jobs RENAME COLUMN schedule TO plan')"
    )

    answer = bach("daemon", "jobs")

    assert answer.returncode == Code.NOT_SET_UP
    assert "bach up" in answer.stderr


def test_a_file_that_is_no_database_is_a_fault_with_its_place(bach: Bach) -> None:
    bach.data.mkdir(mode=0o700)
    (bach.data / "bach.sqlite3").write_bytes(b"\x00nonsense" * 1000)

    answer = bach("daemon", "jobs")

    assert answer.returncode == Code.FAILED
    assert "Die Datenbank antwortet nicht, wie sie soll" in answer.stderr
    assert str(bach.data / "bach.sqlite3") in answer.stderr


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"BACH_PORT": "acht"}, "BACH_PORT"),
        ({"BACH_TLS": "vielleicht"}, "BACH_TLS"),
        ({"BACH_ORIGINS": "example.org"}, "BACH_ORIGINS"),
        ({"BACH_DATA_DIR": "/proc/1/nein"}, "/proc/1/nein"),
        ({"BACH_TICK_SECONDS": "0"}, "BACH_TICK_SECONDS"),
        ({"BACH_TICK_SECONDS": "30s"}, "BACH_TICK_SECONDS"),
        ({"GPU_SERVICE_URL": "localhost:17803"}, "GPU_SERVICE_URL"),
        ({"GPU_SERVICE_URL": "http://localhost:99999"}, "GPU_SERVICE_URL"),
        ({"GPU_SERVICE_URL": "http://localhost:0"}, "GPU_SERVICE_URL"),
        ({"OLLAMA_URL": "ftp://localhost"}, "OLLAMA_URL"),
        ({"OLLAMA_URL": "http://"}, "OLLAMA_URL"),
        ({"OLLAMA_URL": "http://anna:secret@localhost:11434"}, "OLLAMA_URL"),
        ({"OLLAMA_URL": "http://local host"}, "OLLAMA_URL"),
        ({"OLLAMA_URL": "http://[::1"}, "OLLAMA_URL"),
    ],
)
def test_a_setting_that_cannot_be_right_is_named(
    bach: Bach, environment: dict[str, str], told: str
) -> None:
    answer = bach("daemon", "status", **environment)

    assert answer.returncode == Code.FAILED
    assert told in answer.stderr


def test_nothing_listens_for_other_machines_without_encryption(bach: Bach) -> None:
    answer = bach("up", "--host", "0.0.0.0", "--port", "20999")

    assert answer.returncode == Code.FAILED
    assert "BACH_TLS" in answer.stderr


def test_stopping_what_does_not_run_is_no_error(bach: Bach) -> None:
    answer = bach("daemon", "stop")

    assert answer.returncode == Code.OK
    assert answer.stdout == "Der Daemon läuft nicht.\n"


def test_a_log_that_is_not_there_yet_is_explained(bach: Bach) -> None:
    answer = bach("daemon", "logs")

    assert answer.returncode == Code.OK
    assert answer.stdout == ""
    assert "Es gibt noch kein Log" in answer.stderr


def test_without_a_daemon_status_says_so_and_how_to_start_it(bach: Bach) -> None:
    bach.migrate()

    answer = bach("daemon", "status")

    assert answer.returncode == Code.NOT_RUNNING
    assert "Der Daemon läuft nicht." in answer.stdout
    assert "bach daemon start --bg" in answer.stdout


def test_without_a_daemon_nothing_is_started_that_would_run_hours_later(bach: Bach) -> None:
    bach.migrate()
    bach.add_jobs(backup="true")

    answer = bach("daemon", "run", "backup")

    assert answer.returncode == Code.NOT_RUNNING
    assert "bach daemon start" in answer.stderr
    assert bach.python("from daemon_app.models import Run; print(Run.objects.count())") == "0\n"

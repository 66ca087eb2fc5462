"""`bach up` as somebody meets it: the address, the way in, and the end."""

import json
import re
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach, lines
from tests.cli.conftest import end_all
from tests.stack import free_port


@dataclass
class Up:
    """A running `bach up`, what it said, and other terminals that know nothing of its port."""

    bach: Bach
    port: int
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    folder = Path(tempfile.mkdtemp(prefix="bach-cli-", dir="/tmp"))
    up = Up(Bach(folder / "data"), free_port())
    with up.bach.open("up", "--port", str(up.port)) as process:
        up.said = list(islice(lines(process), 3))
        yield up
        end_all(up.bach)
        process.communicate(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_it_says_where_it_is_how_to_sign_in_and_how_to_end_it(up: Up) -> None:
    assert up.said == [
        f"BACH läuft: http://localhost:{up.port}/daemon",
        "Anmelden: bach daemon login",
        "Beenden: Strg+C",
    ]


def test_another_terminal_signs_in_without_knowing_the_port(up: Up) -> None:
    answer = up.bach("daemon", "login", "--print")

    link, _, ticket = answer.stdout.strip().partition("#t=")
    assert answer.stderr == ""
    assert link == f"http://localhost:{up.port}/daemon/login/"
    assert ticket
    with urllib.request.urlopen(link, timeout=20) as page:
        assert page.status == 200


def test_a_browser_is_given_the_link_where_no_other_user_sees_it(up: Up, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
    browser.chmod(0o755)

    answer = up.bach("daemon", "login", DISPLAY=":7", BROWSER=f"{browser} %s")

    assert "Ihr Browser öffnet" in answer.stdout
    page = up.bach.data / "login.html"
    assert (tmp_path / "arguments").read_text().strip() == page.as_uri()
    assert page.stat().st_mode & 0o777 == 0o600
    assert re.search(
        rf'url=http://localhost:{up.port}/daemon/login/#t=[\w-]{{43}}"', page.read_text()
    )
    assert "#t=" not in answer.stdout


def test_a_browser_that_cannot_be_opened_leaves_the_link(up: Up) -> None:
    answer = up.bach(
        *("daemon", "login"), DISPLAY=":7", BROWSER="/no/such/browser %s", PATH="/no/such/folder"
    )

    assert f"http://localhost:{up.port}/daemon/login/#t=" in answer.stdout


def test_over_ssh_no_browser_is_opened(up: Up, tmp_path: Path) -> None:
    answer = up.bach(
        *("daemon", "login"), DISPLAY=":7", SSH_CONNECTION="1 2 3 4", BROWSER="/bin/true %s"
    )

    assert "#t=" in answer.stdout


@pytest.mark.parametrize("command", [["up"], ["gui", "start"]])
def test_the_same_once_more_is_refused_with_the_address(up: Up, command: list[str]) -> None:
    answer = up.bach(*command, "--port", str(up.port))

    assert answer.returncode == Code.ALREADY_RUNNING
    assert f"http://localhost:{up.port}/daemon" in answer.stderr
    assert "bach daemon login" in answer.stderr


def test_status_tells_the_address(up: Up) -> None:
    facts = json.loads(up.bach("daemon", "status", "--json").stdout)

    assert facts["web"] == [f"http://localhost:{up.port}/daemon"]
    assert f"Oberfläche: http://localhost:{up.port}/daemon" in up.bach("daemon", "status").stdout


def test_another_port_beside_a_running_daemon_serves_pages_alone(up: Up) -> None:
    port = free_port()

    with up.bach.open("up", "--port", str(port)) as process:
        said = list(islice(lines(process), 2))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert said[0] == f"BACH läuft: http://localhost:{port}/daemon"
    assert "Der Daemon lief schon" in said[1]
    assert process.returncode == Code.OK
    assert up.bach("daemon", "status").returncode == Code.OK


def test_a_port_that_is_taken_by_a_stranger_is_named(bach: Bach, up: Up) -> None:
    answer = bach("up", "--port", str(up.port))

    assert answer.returncode == Code.FAILED
    assert f"Port {up.port}" in answer.stderr
    assert "--port" in answer.stderr


def test_ctrl_c_ends_everything_cleanly(bach: Bach) -> None:
    with bach.open("up", "--port", str(free_port())) as process:
        said = lines(process)
        assert "BACH läuft" in next(said)

        process.send_signal(signal.SIGINT)

        assert "BACH ist beendet." in list(said)
        _rest, errors = process.communicate(timeout=60)
    assert process.returncode == Code.OK
    assert "Traceback" not in errors
    assert not list(bach.data.glob("*.pid"))


def test_stop_from_another_terminal_ends_the_pages_too(bach: Bach) -> None:
    with bach.open("up", "--port", str(free_port())) as process:
        assert "BACH läuft" in next(lines(process))

        answer = bach("daemon", "stop")

        process.communicate(timeout=60)
    assert answer.returncode == Code.OK
    assert "mit ihm die Oberfläche" in answer.stdout
    assert process.returncode == Code.OK

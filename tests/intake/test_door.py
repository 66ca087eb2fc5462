"""`bach import` from within: what it asks for, reads, refuses and does."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import translation

from daemon_app.cli import run
from daemon_app.cli.outcome import Code
from daemon_app.models import Job, Run
from tests.intake.legacy import add_runs, database

pytestmark = pytest.mark.django_db


class Door:
    """Calls `bach import` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = run(["import", *map(str, arguments)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def facts(self, *arguments: object) -> Any:
        code, said, _error = self(*arguments, "--json")
        assert code == Code.OK
        return json.loads(said)


@pytest.fixture
def door(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Door]:
    """The command; what it sets for its own process is set back."""
    monkeypatch.setenv("HOME", str(tmp_path))
    log = logging.getLogger("daemon_app")
    level, spoken = log.level, translation.get_language()
    yield Door(capsys)
    log.setLevel(level)
    translation.activate(spoken or "de")


def names() -> dict[str, bool]:
    return dict(Job.objects.filter(skill="").values_list("name", "is_active"))


def test_ones_own_crontab_is_asked_for(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/crontab"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    program.write_text("#!/bin/sh\necho '0 3 * * * tar c .'\n")
    program.chmod(0o755)

    found = door.facts("crontab")
    program.write_text("#!/bin/sh\necho no crontab for anna >&2; exit 1\n")
    none, _said, why = door("crontab")
    monkeypatch.setenv("PATH", str(tmp_path))
    missing, _said, _why = door("crontab")

    assert [job["name"] for job in found["jobs"]] == ["tar"]
    assert none == missing == Code.FAILED
    assert "no crontab for anna" in why


def test_an_original_bach_moves_in(door: Door, tmp_path: Path) -> None:
    path = database(
        tmp_path / "bach.db",
        {"name": "a", "job_type": "interval", "schedule": "30m"},
        {"name": "b", "job_type": "chain"},
    )
    add_runs(path, 5)
    before = path.read_bytes()

    _code, dry, _error = door(path)
    assert names() == {}
    done = door.facts(path, "--apply")

    assert ": 2" in dry
    assert done["later"] == {"toolchains": 2}
    assert [(job["name"], job["what"]) for job in done["jobs"]] == [("a", "new"), ("b", "refused")]
    # All of them ended long ago; the newest comes all the same.
    (kept,) = Run.objects.all()
    assert (kept.last_line, kept.folder.is_dir()) == ("run 5", True)
    assert path.read_bytes() == before


def test_without_its_runs_if_so_wished(door: Door, tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"})
    add_runs(path, 5)

    door(path, "--no-runs", "--apply")

    assert names() == {"a": False}
    assert not Run.objects.exists()


@pytest.mark.parametrize("what", ["fifo", "folder", "none", "zero", "ours", "text"])
def test_what_can_not_be_read_is_named(door: Door, tmp_path: Path, what: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("hello")
    path = {
        "folder": tmp_path,
        "zero": Path("/dev/zero"),
        "ours": Path(connection.settings_dict["NAME"]),
    }.get(what, tmp_path / what)

    for arguments in [(path,), ("crontab", path), ("definitions", path)]:
        if what == "text" and arguments[0] == "crontab":
            continue
        code, _said, why = door(*arguments, "--apply")

        assert code == Code.FAILED
        assert path.name in why
    assert names() == {}


def test_timers_of_a_folder_move_in(door: Door, tmp_path: Path) -> None:
    units = tmp_path / ".config/systemd/user"
    units.mkdir(parents=True)
    (units / "backup.timer").write_text("[Timer]\nOnCalendar=Mon..Fri 03:00\n")
    (units / "backup.service").write_text("[Service]\nExecStart=%h/bin/backup\n")

    own = door.facts("timers", "--apply")
    again = door.facts("timers", units)

    assert (own["new"], again["known"]) == (1, 1)
    assert own["jobs"][0]["schedule"] == "0 3 * * MON-FRI"
    assert Job.objects.get().command == f"{tmp_path}/bin/backup"


def test_definitions_move_in(door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\njob_type: manual\ncommand: x\n")
    (tmp_path / "b.yaml").write_text("name: [\n")

    done, _said, _why = door("definitions", tmp_path / "a.yaml", "--apply")
    broken, _said, why = door("definitions", tmp_path / "b.yaml", "--apply")

    assert (done, broken) == (Code.OK, Code.FAILED)
    assert names() == {"a": False}
    assert "b.yaml" in why


def test_a_word_that_is_neither_command_nor_file_is_answered(door: Door) -> None:
    code, _said, why = door("crontabs")

    assert code == Code.FAILED
    assert "crontabs" in why
    assert "bach.db" in door("--help")[1]


def test_a_crontab_that_looks_like_one_of_the_system_is_remarked_on(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "cron").write_text("17 * * * * root cd /\n25 6 * * * root run-parts /etc\n")

    _code, _said, why = door("crontab", tmp_path / "cron")

    assert "--system" in why
    assert "--system" not in door("crontab", tmp_path / "cron", "--system")[2]

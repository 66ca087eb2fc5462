"""`bach export` and `bach apply`: what they say, ask for, refuse and do."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import translation

from daemon_app.cli import run
from daemon_app.cli.outcome import Code
from daemon_app.models import Change, Job, Pool
from tests.jobs import NOON, job

ONE = "name: a\njob_type: manual\ntimezone: Europe/Berlin\ncommand: echo hi\n"


class Door:
    """Calls `bach` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = run([*map(str, arguments)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def facts(self, *arguments: object) -> Any:
        return json.loads(self(*arguments, "--json")[1])


@pytest.fixture
def door(
    db: None, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Door]:
    """The commands; what they set for their own process is set back."""
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("daemon_app")
    level, spoken = log.level, translation.get_language()
    yield Door(capsys)
    log.setLevel(level)
    translation.activate(spoken or "de")


def names() -> list[str]:
    return sorted(Job.objects.values_list("name", flat=True))


# ── Export ───────────────────────────────────────────────────────────────────────────────────────
def test_all_jobs_are_exported_with_pools_and_rules_and_some_by_name(door: Door) -> None:
    Pool(name="gpu", size=1).store(now=NOON, by="anna")
    first = job("a")
    job("b")

    _code, everything, _error = door("export")
    _code, one, _error = door("export", first.pk)
    _code, two, _error = door("export", "b", "a", "b")
    unknown, _said, why = door("export", "c")

    assert everything.startswith("policy:\n")
    assert "pools:\n  gpu:\n    size: 1\n\njobs:\n  - name: a\n" in everything
    assert one == ONE
    assert two.count("name:") == 2
    assert (unknown, "c" in why) == (Code.NOT_FOUND, True)
    assert [each["name"] for each in door.facts("export")["jobs"]] == ["a", "b"]


def test_into_a_file_for_its_owner_alone_with_a_word_on_values(door: Door, tmp_path: Path) -> None:
    job("a", environment={"TOKEN": "secret"})

    _code, said, warned = door("export", "--output", "jobs.yaml")
    _code, _said, silent = door("export", "-o", "without.yaml", "--no-values")

    file = tmp_path / "jobs.yaml"
    assert (said, "--no-values" in warned, silent) == ("", True, "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "TOKEN: secret" in file.read_text()
    assert "TOKEN: null" in (tmp_path / "without.yaml").read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["jobs.yaml", "without.yaml"]


def test_into_a_folder_a_file_for_each_job(door: Door, tmp_path: Path) -> None:
    job("a")
    gone = job("b")

    first = door.facts("export", "--folder", "jobs")
    gone.delete()
    second = door.facts("export", "--folder", "jobs")
    _code, _said, why = door("export", "--folder", "jobs")
    third = door.facts("export", "--folder", "jobs", "--prune")

    assert first["written"] == ["jobs/_rules.yaml", "jobs/a.yaml", "jobs/b.yaml"]
    assert (second["written"], second["left"]) == ([], ["jobs/b.yaml"])
    assert "jobs/b.yaml" in why
    assert third["removed"] == ["jobs/b.yaml"]
    assert (tmp_path / "jobs/a.yaml").read_text() == ONE


def test_what_can_not_be_written_is_named(door: Door, tmp_path: Path) -> None:
    job("a")
    (tmp_path / "file").write_text("x")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/a.yaml").write_text("else: [\n")

    for arguments in (
        ["--folder", "file"],
        ["--output", "jobs"],
        ["--output", "file/x"],
        ["--output", connection.settings_dict["NAME"]],
    ):
        code, said, why = door("export", *arguments)
        assert (code, said) == (Code.FAILED, ""), arguments
        assert Path(arguments[1]).name in why
    assert door("export", "--folder", "x", "--output", "y")[0] == Code.USAGE
    assert door("export", "--prune")[0] == Code.USAGE
    assert door("export", "a", "--folder", "x", "--prune")[0] == Code.USAGE
    for nothing in (["export", "--folder", ""], ["export", "--output", ""], ["apply", ""]):
        assert door(*nothing)[0] == Code.USAGE
    assert (tmp_path / "file").read_text() == "x"


def test_a_file_that_can_not_be_read_is_told_and_gives_way_to_nobody(
    door: Door, tmp_path: Path
) -> None:
    job("a")
    (tmp_path / "other.yaml").write_text("else: [\n")
    assert "~other.yaml" in door("apply", "~other.yaml")[2]

    _code, _said, why = door("export", "--folder", ".")
    (tmp_path / "a.yaml").write_text(f"<<<<<<< HEAD\n{ONE}=======\n{ONE}>>>>>>> theirs\n")
    code, _said, _why = door("export", "--folder", ".")

    assert "other.yaml" in why
    assert code == Code.FAILED
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_rules.yaml",
        "a.yaml",
        "other.yaml",
    ]


# ── Apply ────────────────────────────────────────────────────────────────────────────────────────
def test_first_it_is_told_then_done_and_then_there_is_nothing_to_do(
    door: Door, tmp_path: Path
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text(ONE.replace("name: a", "name: b"))

    would, table, _error = door("apply", "jobs", "b.yaml", "--check")
    assert names() == []
    done = door.facts("apply", "jobs", "b.yaml")
    (tmp_path / "b.yaml").write_text(ONE.replace("name: a", "name: b") + "nice: 3\n")
    changed, shown, _error = door("apply", "jobs", "b.yaml")
    same, _table, _error = door("apply", "jobs", "b.yaml", "--check")

    assert (would, changed, same) == (Code.WOULD_CHANGE, Code.OK, Code.OK)
    assert "+ " in table
    assert (done["applied"], done["new"], names()) == (True, 2, ["a", "b"])
    assert done["moves"][0]["where"] == "jobs/a.yaml:1"
    assert "nice" in shown
    assert {(each.via, each.kind) for each in Change.objects.all()} == {
        ("cli", "created"),
        ("cli", "edited"),
    }


def test_all_faults_of_all_files_are_told_and_nothing_is_done(door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text(ONE + "nise: 1\n")
    (tmp_path / "c.yaml").write_text("name: [\x1b\n")

    code, said, why = door("apply", ".")

    assert (code, said, names()) == (Code.FAILED, "", [])
    assert "b.yaml:5: " in why
    assert "c.yaml:1: " in why
    assert "\x1b" not in why


@pytest.mark.parametrize("what", ["fifo", "none", "ours", "empty", "latin", "long"])
def test_what_can_not_be_read_is_named(
    door: Door, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon_app.cli.moving.LONGEST", 1000)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin").write_bytes(b"name: a\ncommand: \xe4\n")
    (tmp_path / "long").write_text("#" * 1001)
    path = Path(connection.settings_dict["NAME"]) if what == "ours" else tmp_path / what

    for command in (["apply"], ["apply", "--prune", "--yes"]):
        code, said, why = door(*command, path)
        assert (code, said, bool(why)) == (Code.FAILED, "", True)


def test_deleting_wants_a_yes_where_nobody_can_be_asked(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ONE + "---\n" + ONE.replace("name: a", "name: b"))
    job("by-hand")
    door("apply", file)
    file.write_text(ONE)

    _code, kept, _error = door("apply", file)
    would, _said, _error = door("apply", file, "--prune", "--check")
    refused, _said, why = door("apply", file, "--prune")
    assert names() == ["a", "b", "by-hand"]
    gone = Job.objects.get(name="b").pk
    done = door.facts("apply", file, "--prune", "--yes")

    assert "--prune" in kept
    assert (would, refused) == (Code.WOULD_CHANGE, Code.USAGE)
    assert [(move["what"], move["id"]) for move in done["moves"]][1:] == [("extra", gone)]
    assert (done["deleted"], done["others"]) == (1, 1)
    assert "--yes" in why
    assert names() == ["a", "by-hand"]


def test_secrets_are_not_shown(door: Door, tmp_path: Path) -> None:
    job("a", environment={"TOKEN": "s3cret-1"}, parameters={"KEY": "s3cret-2"})
    (tmp_path / "a.yaml").write_text(ONE + "environment: {TOKEN: s3cret-3, NEW: s3cret-4}\n")

    told = door("apply", "a.yaml", "--check", "--json")[1] + door("apply", "a.yaml")[1]

    assert "environment.TOKEN" in told
    assert "parameters.KEY" in told
    assert "s3cret" not in told


def test_a_file_can_be_piped_in(
    door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ONE.encode())))

    assert door("apply", "-")[0] == Code.OK
    assert names() == ["a"]


def test_a_set_has_a_name_of_its_own(door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ONE)

    for wrong in ("A set!", ""):  # also of a variable that is not set
        assert door("apply", "a.yaml", "--set", wrong)[0] == Code.USAGE
    door("apply", "a.yaml", "--set", "web")

    assert Job.objects.get().origin == "+web"

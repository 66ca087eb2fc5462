"""What a command would find, told before it runs: as the shell would, and with nothing executed."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from daemon_app import preflight, shellwords
from daemon_app.preflight import Finding, Wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with programs of each kind; `bin` in it is what PATH leads to."""
    programs = {
        "bin/werkzeug": "#!/bin/sh\necho hi\n",
        "gut.sh": "#!/bin/sh\necho hi\n",
        "env.sh": "#!/usr/bin/env werkzeug\n",
        "fehlt.sh": "#!/usr/bin/env gibt-es-nicht\n",
        "windows.sh": "#!/bin/sh\r\necho hi\r\n",
        "nackt.sh": "echo hi\n",
        "gesperrt.sh": "#!/bin/sh\n",
        "daten.py": "print('hi')\n",
    }
    (tmp_path / "bin").mkdir()
    (tmp_path / "unter").mkdir()
    for name, text in programs.items():
        (tmp_path / name).write_text(text, newline="")
        (tmp_path / name).chmod(0o644 if name in {"gesperrt.sh", "daten.py"} else 0o755)
    os.mkfifo(tmp_path / "röhre", 0o755)
    return tmp_path


def look(folder: Path, command: str = "", **fields: Any) -> list[Finding]:
    """Return what is found of a command that runs in `folder`, without what is built in."""
    environment = {"PATH": f"{folder}/bin", "HOME": str(folder), **fields.pop("environment", {})}
    wanted = Wanted(
        command=command, working_directory=str(folder), environment=environment, **fields
    )
    return [found for found in preflight.look(wanted).findings if found.code != "built_in"]


def codes(folder: Path, command: str = "", **fields: Any) -> list[str]:
    return [f"{found.what}: {found.code}" for found in look(folder, command, **fields)]


def test_a_first_line_that_can_be_no_path_asks_for_what_is_not_there(folder: Path) -> None:
    (folder / "null.sh").write_bytes(b"#!/bin/\0sh\n")
    (folder / "null.sh").chmod(0o755)

    assert codes(folder, "./null.sh") == ["./null.sh: no_interpreter"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("werkzeug --alles", ["werkzeug: found"]),
        ("nirgends", ["nirgends: not_found"]),
        ("echo hi; cd unter; true", []),
        (
            "werkzeug | nirgends && ./gut.sh",
            ["werkzeug: found", "nirgends: not_found", "./gut.sh: found"],
        ),
        ("A=1 B='2 3' werkzeug", ["werkzeug: found"]),
        ("TOOL=werkzeug\n$TOOL x", ["$TOOL: found"]),
        ("ORT=~/unter; $ORT/weg", ["$ORT/weg: no_file"]),
        ("~/gut.sh", ["~/gut.sh: found"]),
        ('"$HOME/gut.sh"', ['"$HOME/gut.sh": found']),
        ("~/env.sh", ["~/env.sh: found"]),
        ("~/fehlt.sh", ["~/fehlt.sh: no_interpreter"]),
        ("./windows.sh", ["./windows.sh: windows_line"]),
        ("./nackt.sh", ["./nackt.sh: found"]),  # the shell takes it for its own
        ("./gesperrt.sh", ["./gesperrt.sh: not_executable"]),
        ("./unter", ["./unter: is_folder"]),
        ("./röhre", ["./röhre: found"]),  # never opened: it would wait for ever
        ("cd unter && ../gut.sh", ["../gut.sh: found"]),
        ("(cd unter; ./gut.sh); ./gut.sh", ["./gut.sh: no_file"]),
        ("cd weg && ./gut.sh", ["cd weg: not_there", "./gut.sh: no_file"]),
        ("cd $UNBEKANNT_VON_WEM; ./gut.sh", ["./gut.sh: open"]),
        ("$NIE_GESETZT/gut.sh", ["$NIE_GESETZT/gut.sh: not_set"]),
        ("$(werkzeug) x", ["$(werkzeug): open", "werkzeug: found"]),
        (
            "werkzeug $(nirgends `weg`)",
            ["werkzeug: found", "nirgends: not_found", "weg: not_found"],
        ),
        ("for f in *; do werkzeug $f; done", ["werkzeug: found"]),
        ("for t in a b; do $t; done", ["$t: open"]),
        (
            "if nirgends; then werkzeug; else weg; fi",
            ["nirgends: not_found", "werkzeug: found", "weg: not_found"],
        ),
        (
            "case $1 in a|b) werkzeug;; *) nirgends;; esac",
            ["werkzeug: found", "nirgends: not_found"],
        ),
        ("f() { werkzeug; }; f", ["werkzeug: found", "f: function"]),
        ("werkzeug <<EOF\nnirgends\nEOF\n", ["werkzeug: found"]),
        ("werkzeug > nirgends 2>&1 # weg", ["werkzeug: found"]),
        ("exec env A=1 werkzeug", ["env: elsewhere", "werkzeug: found"]),
        ("exec werkzeug", ["werkzeug: found"]),
        ("command -v nirgends || werkzeug", ["werkzeug: found"]),
        (". ./env; nirgends", ["nirgends: open"]),
        ("PATH=/nirgends; werkzeug", ["werkzeug: not_found"]),
        ("export PATH=$PATH:$(weg); nirgends", ["weg: open", "nirgends: open"]),
        ("werkzeug 'offen", ["': unclosed"]),
        ('werkzeug "$(weg"', ['": unclosed']),
        ("werkzeug $(weg", ["$(: unclosed"]),
        ("# nur ein Kommentar", []),
        ("/bin/sh weg.sh", ["/bin/sh: found", "/bin/sh weg.sh: no_script"]),
        ("/bin/sh -e gut.sh", ["/bin/sh: found"]),
        ("/bin/sh -c 'weg.sh'", ["/bin/sh: found"]),
        ("\x00", ["\x00: not_found"]),
        ("/" + "x" * 9000, [f"/{'x' * 9000}: no_file"]),
    ],
)
def test_a_line_is_read_as_the_shell_would(folder: Path, command: str, said: list[str]) -> None:
    assert codes(folder, command) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": "werkzeug x"}, ["werkzeug: found"]),
        ({"command": "./nackt.sh"}, ["./nackt.sh: no_first_line"]),
        ({"command": "werkzeug a | b"}, ["werkzeug: found", "|: needs_shell"]),
        ({"command": "werkzeug > x"}, ["werkzeug: found", ">: needs_shell"]),
        ({"command": "werkzeug $HOME/x"}, ["werkzeug: found", "$HOME/x: needs_shell"]),
        ({"command": "werkzeug '$HOME' 'a|b'"}, ["werkzeug: found"]),
        ({"command": "echo"}, ["echo: elsewhere"]),
        ({"command": "werkzeug 'x"}, [": unclosed"]),
        ({"script_path": "gut.sh"}, ["gut.sh: found"]),
        ({"script_path": "nackt.sh"}, ["nackt.sh: no_first_line"]),
        ({"script_path": "daten.py"}, ["daten.py: own_python"]),
        ({"script_path": "weg.py"}, ["weg.py: no_file"]),
        ({"script_path": "gesperrt.sh"}, ["gesperrt.sh: not_executable"]),
    ],
)
def test_without_the_shell_the_system_decides(
    folder: Path, fields: dict[str, str], said: list[str]
) -> None:
    assert codes(folder, use_shell=False, **fields) == said


def test_a_program_outside_of_path_is_told_with_its_place(folder: Path) -> None:
    with translation.override("en"):
        found = look(folder, "ls")[0]

        assert found.code == "elsewhere"
        assert found.sentence == f"A run's PATH does not lead there: write {found.path}."


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("/gibt/es/nicht", "no_folder"),
        ("~niemand-der-so-heißt/x", "no_user"),
        ("/etc/passwd", "no_folder"),
        ("\x00", None),
        ("relativ", None),  # the form itself refuses it
    ],
)
def test_the_folder_is_looked_at(place: str, code: str | None) -> None:
    report = preflight.look(Wanted(command="true", working_directory=place))

    assert [found.code for found in report.findings if found.level == "warn"] == (
        [code] if code else []
    )


def test_a_job_s_parameters_and_environment_count_and_ours_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", str(folder / "gut.sh"))

    assert codes(folder, "$SECRET_KEY") == ["$SECRET_KEY: not_set"]
    assert codes(folder, "$X", environment={"X": "./gut.sh"}) == ["$X: found"]
    assert codes(folder, "$BACH_PARAM_X", parameters={"x": "werkzeug"}) == ["$BACH_PARAM_X: found"]
    assert codes(folder, "$BACH_PROGRESS") == ["$BACH_PROGRESS: open"]


def test_nothing_is_said_of_folders_that_do_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "PATIENCE", 0.0)
    monkeypatch.setattr("threading.Thread.start", lambda _self: None)
    for _ in range(6):  # each of them still waits
        assert codes(folder, "werkzeug") == [": silent"]

    assert codes(folder, "werkzeug") == [": silent"]  # and no seventh thread begins

    for _ in range(6):
        preflight.AT_ONCE.release()


def test_whatever_is_typed_is_read_in_the_end() -> None:
    chance = random.Random(7)
    signs = ["'", '"', "`", "$(", "${", "$((", ")", "}", "|", "&&", ";", "\n", " ", "a", "~"]
    signs += ["case ", "in ", "esac", "<<E", "for ", "f()", "\\", "{ ", "if ", "=", "$X", "#", "é"]
    texts = ["".join(chance.choices(signs, k=40)) for _ in range(400)]
    texts += ["$(" * 9000, "(" * 16_000, "`" * 9000, "<<E\n" * 4000, "f(" * 8000, "'" * 9999]

    for text in texts:
        try:
            script = shellwords.read(text)
        except shellwords.UnclosedError:
            continue
        assert len(script.commands) <= 2 * shellwords.MOST

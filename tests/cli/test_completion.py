"""Completion, asked for by the shells themselves."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import click
import pytest

from daemon_app.cli import bach as root
from daemon_app.cli import completion
from daemon_app.cli.language import gettext
from tests.cli.bach import ROOT, Bach

NAMES = {
    "nacht-backup": "true",
    "nacht lauf": "true",
    "lauf (neu)": "true",
    "a:b": "true",
    "prüfung": "true",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bach]:
    """Data with a few jobs, and `bach` as a program that shells find."""
    folder = tmp_path_factory.mktemp("completion")
    program = folder / "bin" / "bach"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m daemon_app.cli "$@"\n')
    program.chmod(0o700)
    bach = Bach(folder / "data", PYTHONPATH=str(ROOT), LANG="C.UTF-8", HOME=str(folder))
    bach.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    bach.migrate()
    bach.add_jobs(**NAMES)
    yield bach
    shutil.rmtree(folder, ignore_errors=True)


def ask_bash(bach: Bach, *words: str) -> list[str]:
    """Return what Bash offers for the last of `words`, as they stand in the line."""
    code = (
        'source <(bach completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_bach_completion bach; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code, "bash", *words],
        env=bach.environment,
        cwd=bach.data.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["bach", "dae"], ["daemon"]),
        (["bach", "daemon", "sta"], ["start", "status"]),
        (["bach", "daemon", "run", "1", "--fol"], ["--follow"]),
        (["bach", "daemon", "token", "create", "--role", "o"], ["operator"]),
        (["bach", "daemon", "run", "nacht"], ["nacht\\ lauf", "nacht-backup"]),
        (["bach", "daemon", "run", "nacht\\ "], ["nacht\\ lauf"]),
        (["bach", "daemon", "run", '"nacht '], ["nacht lauf"]),
        (["bach", "daemon", "run", "lauf"], ["lauf\\ \\(neu\\)"]),
        (["bach", "daemon", "run", "a", ":"], ["b"]),
        (["bach", "daemon", "token", "create", "--role", "=", "o"], ["operator"]),
        (["bach", "daemon", "run", "prü"], ["prüfung"]),
        (["bach", "daemon", "run", "1"], ["1"]),
        (["bach", "daemon", "why", "--run", ""], []),
        (["bach", "daemon", "run", "$(touch x)"], []),
    ],
)
def test_bash_completes_commands_options_and_jobs(
    shared: Bach, words: list[str], offered: list[str]
) -> None:
    assert ask_bash(shared, *words) == offered
    assert not (shared.data.parent / "x").exists()


def test_fish_completes_with_a_summary(shared: Bach) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")

    done = subprocess.run(
        ["fish", "-N", "-c", "bach completion fish | source; complete -C 'bach daemon run nacht'"],
        env=shared.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        "nacht lauf",
        "nacht-backup",
    ]


def test_zsh_completes_when_tab_is_pressed(shared: Bach) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(shared.environment, TERM="dumb", PS1="> ")
        os.execlp("zsh", "zsh", "-f", "-i")

    try:
        write = b'autoload -Uz compinit; compinit -D; eval "$(bach completion zsh)"; echo rea""dy\r'
        os.write(terminal, write)
        until(terminal, rb"ready")
        os.write(terminal, b"bach daemon run nacht-\t")
        said = until(terminal, rb"nacht-backup")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)

    assert b"error" not in said


def until(terminal: int, wanted: bytes) -> bytes:
    """Return what a terminal shows until `wanted` is there."""
    said, deadline = b"", time.monotonic() + 30
    while not re.search(wanted, said):
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 0.2)[0]:
            with suppress(OSError):
                said += os.read(terminal, 4096)
    return said


def test_nothing_is_said_or_made_where_nothing_is_set_up(tmp_path: Path) -> None:
    bach = Bach(tmp_path / "none", _BACH_COMPLETE="bash_complete", COMP_CWORD="3")

    answer = bach(COMP_WORDS="bach\ndaemon\nrun\n")

    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, "", "")
    assert not (tmp_path / "none").exists()


def test_a_damaged_database_is_silence(tmp_path: Path) -> None:
    (tmp_path / "bach.sqlite3").write_bytes(b"no database at all" * 100)
    bach = Bach(tmp_path, _BACH_COMPLETE="zsh_complete", COMP_CWORD="3")

    answer = bach(COMP_WORDS="bach\ndaemon\nrun\nx")

    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, "", "")


def test_looking_takes_neither_django_nor_a_library_for_tables(shared: Bach) -> None:
    code = (
        "import sys; from daemon_app.cli import run; code = run([])\n"
        "assert not {'django', 'rich', 'bachweb'} & set(sys.modules); sys.exit(code)"
    )
    asked = {"_BACH_COMPLETE": "zsh_complete", "COMP_WORDS": "bach\ndaemon\nrun\nnacht-"}

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**shared.environment, **asked, "COMP_CWORD": "3"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "plain\tnacht-backup\t1\n"


def test_every_job_run_pool_and_token_is_completed() -> None:
    wanted = {gettext(word) for word in ("ID|NAME", "[ID|NAME]", "RUN")}
    completion.prepare(root)
    for path, command in completion.commands(root, ""):
        for parameter in command.params:
            if parameter.metavar in wanted:
                assert parameter._custom_shell_complete, f"{path}: {parameter.name}"


def test_the_columns_that_are_asked_for_are_there(shared: Bach) -> None:
    import sqlite3

    context = click.Context(root)
    answers = [completion._runs, completion._active_runs, completion._pools, completion._tokens]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACH_DATA_DIR", str(shared.data))
        for each in answers:
            assert each(context, root.params[0], "") == []
    address = f"file:{shared.data}/bach.sqlite3?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as database:
        for table, columns in {
            "daemon_jobs": "id, name, description",
            "daemon_runs": "id, job_name, state",
            "daemon_pools": "name, description",
            "daemon_tokens": "id, name, revoked_at",
        }.items():
            database.execute(f"SELECT {columns} FROM {table}")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_scripts_are_such_that_their_shells_can_read_them(bach: Bach, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = bach("completion", shell).stdout

    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")

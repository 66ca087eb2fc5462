"""Help, in both languages: complete, with examples, and there at once."""

import ast
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from daemon_app.cli import bach as root
from daemon_app.cli.clicks import CLICKS_WORDS, click_plurals
from daemon_app.cli.language import preferred
from tests.cli.bach import ROOT, Bach

OFFERED = {
    "bach",
    "bach up",
    "bach import",
    "bach import crontab",
    "bach import timers",
    "bach import definitions",
    "bach import database",
    "bach export",
    "bach apply",
    "bach completion",
    "bach progress",
    "bach demo",
    "bach demo gpu-service",
    "bach demo ollama",
    "bach demo control",
    "bach gui",
    "bach gui start",
    "bach job",
    "bach job add",
    "bach job edit",
    "bach job list",
    "bach job show",
    "bach job pause",
    "bach job resume",
    "bach job on",
    "bach job off",
    "bach job mute",
    "bach job delete",
    "bach job why",
    "bach job next",
    "bach job history",
    "bach job logs",
    "bach daemon",
    "bach daemon start",
    "bach daemon stop",
    "bach daemon status",
    "bach daemon health",
    "bach daemon skills",
    "bach daemon why",
    "bach daemon jobs",
    "bach daemon run",
    "bach daemon log",
    "bach daemon queue",
    "bach daemon move",
    "bach daemon force",
    "bach daemon drop",
    "bach daemon cancel",
    "bach daemon hold",
    "bach daemon resume",
    "bach daemon here",
    "bach daemon away",
    "bach daemon pools",
    "bach daemon pools set",
    "bach daemon pools remove",
    "bach daemon policy",
    "bach daemon incidents",
    "bach daemon incidents seen",
    "bach daemon doctor",
    "bach daemon unit",
    "bach daemon logs",
    "bach daemon login",
    "bach daemon token",
    "bach daemon token create",
    "bach daemon token list",
    "bach daemon token revoke",
    "bach daemon audit",
    "bach daemon audit verify",
    "bach daemon audit export",
}
ENGLISH = re.compile(r"\b(the|and|Usage|Options|Commands|Examples|Show this|required|default)\b")


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")


TREE = dict(commands(root, "bach"))


def test_exactly_the_commands_of_this_version_are_offered() -> None:
    assert set(TREE) == OFFERED


@pytest.mark.parametrize("path", sorted(OFFERED))
def test_help_is_german_with_an_example(bach: Bach, path: str) -> None:
    answer = bach(*path.split()[1:], "--help", LANG="de_DE.UTF-8")

    assert answer.returncode == 0
    assert answer.stderr == ""
    assert answer.stdout.startswith(f"Aufruf: {path} ")
    assert f"Beispiele:\n  {path}" in answer.stdout or "Beispiele:\n  bach" in answer.stdout
    assert not ENGLISH.findall(answer.stdout)
    assert max(map(len, answer.stdout.splitlines())) <= 100
    # Between the first line and the options it says what it is for.
    assert len(answer.stdout.split("\n\n")[1].split()) >= 2


@pytest.mark.parametrize("path", sorted(OFFERED))
def test_help_is_english_where_the_terminal_asks_for_it(bach: Bach, path: str) -> None:
    answer = bach(*path.split()[1:], "--help", LANG="en_GB.UTF-8")

    assert answer.returncode == 0
    assert answer.stdout.startswith(f"Usage: {path} ")
    assert "Examples:" in answer.stdout
    assert max(map(len, answer.stdout.splitlines())) <= 100
    assert not re.search(r"[äöüßÄÖÜ]|\b(und|der|die|das)\b", answer.stdout)


def test_short_forms_of_help_are_understood(bach: Bach) -> None:
    assert bach("-h").stdout == bach("--help").stdout
    assert bach("daemon", "run", "-h").stdout == bach("daemon", "run", "--help").stdout


def test_no_command_shows_help_and_is_a_usage_error(bach: Bach) -> None:
    answer = bach()

    assert answer.returncode == 2
    assert "bach daemon login" in answer.stderr


def test_the_examples_are_commands_that_exist() -> None:
    for path, command in TREE.items():
        for line, _purpose in command.examples:  # type: ignore[attr-defined]
            if not line.startswith("bach "):
                continue
            words = shlex.split(line)
            known = max(
                (name for name in TREE if words[: len(name.split())] == name.split()), key=len
            )
            # What comes after these is another program's.
            mine = itertools.takewhile(lambda word: word not in {"--", "|"}, words)
            rest = [*mine][len(known.split()) :]
            context = TREE[known].make_context(known, list(rest), resilient_parsing=True)
            assert {word for word in rest if word.startswith("-")} <= {
                name for option in TREE[known].get_params(context) for name in option.opts
            }, f"{path}: {line}"
            context.close()


def test_click_still_says_what_the_catalogue_translates() -> None:
    said = {
        node.value
        for path in Path(click.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    plurals = {each for each in click_plurals.__code__.co_consts[1:] if isinstance(each, str)}

    assert {*CLICKS_WORDS} - said == set()
    assert plurals - said == set()


def test_help_and_version_need_no_django() -> None:
    code = (
        "import sys; from daemon_app.cli import run; code = run(sys.argv[1:])\n"
        "assert not {'django', 'rich', 'bachweb'} & set(sys.modules); sys.exit(code)"
    )
    for arguments in (["--help"], ["daemon", "token", "create", "--help"], ["--version"]):
        assert (
            subprocess.run(
                [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, check=False
            ).returncode
            == 0
        )


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "de"),
        ({"LANG": "C"}, "de"),
        ({"LANG": "C.UTF-8"}, "de"),
        ({"LANG": "POSIX"}, "de"),
        ({"LANG": "fr_FR.UTF-8"}, "de"),
        ({"LANG": "de_AT.UTF-8"}, "de"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "en"}, "en"),
        ({"LANG": "enm_GB"}, "de"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "en_GB:de"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "de:en"}, "de"),
    ],
)
def test_german_unless_english_is_asked_for(environment: dict[str, str], language: str) -> None:
    assert preferred(environment) == language

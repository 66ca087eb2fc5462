"""Saying from a terminal that one is here, or away."""

import json
from typing import Any

import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach


@pytest.fixture
def ready(bach: Bach) -> Bach:
    """`bach` that is set up, with nothing running."""
    bach.migrate()
    return bach


def facts(answer: Any) -> Any:
    assert answer.returncode == Code.OK, answer
    return json.loads(answer.stdout)


def test_it_is_said_shown_and_taken_back(ready: Bach) -> None:
    said = ready("daemon", "away", "--for", "2h")

    assert said.returncode == Code.OK
    assert "bach daemon away --clear" in said.stdout
    told = facts(ready("daemon", "here", "--until", "18:00", "--json"))
    assert (told["state"], bool(told["until"]), bool(told["by"])) == ("here", True, True)
    cleared = facts(ready("daemon", "here", "--clear", "--json"))
    assert (cleared["state"], cleared["until"]) == ("", None)
    assert ready("daemon", "away", "--clear").returncode == Code.OK


@pytest.mark.parametrize(
    "options",
    [
        ("--for", "8d"),
        ("--for", "60"),
        ("--for", "0s"),
        ("--until", "2020-01-01T10:00"),
        ("--until", "2999-01-01"),
        ("--until", "25:00"),
        ("--until", "soon"),
        ("--for", "2h", "--until", "18:00"),
        ("--for", "2h", "--clear"),
    ],
)
def test_an_end_that_can_not_be_is_refused_with_the_reason(
    ready: Bach, options: tuple[str, ...]
) -> None:
    answer = ready("daemon", "away", *options)

    assert answer.returncode == Code.USAGE
    assert answer.stderr.strip()

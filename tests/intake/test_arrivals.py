"""Who brings runs is killed: all of it comes or nothing, and each run has its own output."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from daemon_app import arrivals, output, retention
from daemon_app.cli import run as bach
from daemon_app.models import Job, Run
from daemon_app.models.run import folder_of
from tests.intake.legacy import add_runs, change, database
from tests.jobs import NOON, job, run

KILLED = """
import os, signal, sys
from pathlib import Path

import django
from django.conf import settings

settings.DATABASES["default"]["NAME"], runs, file, step = sys.argv[1:]
settings.RUNS_DIR = Path(runs)
django.setup()

from daemon_app import arrivals, cli
from daemon_app.intake import past

note, move, moved = arrivals.note, arrivals._move, []

def die(*_any, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

def note_and_die(*given):
    note(*given)
    die()

def move_some(*given):
    moved.append(move(*given))
    return moved[-1] if len(moved) < 4 else die()

if step == "packed":
    past.store = die
elif step == "noted":
    arrivals.note = note_and_die
elif step == "committed":
    arrivals.settle = die
elif step == "moving":
    arrivals._move = move_some
elif step == "moved":
    arrivals.shutil.rmtree = die
cli.run(["import", file, "--apply", "--yes"])
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of an original BACH: two jobs with ten runs that are not too old to keep."""
    path = database(tmp_path / "bach.db", {"name": "a"}, {"name": "b"})
    add_runs(path, 20, jobs=2)
    change(
        path,
        "UPDATE daemon_runs SET started_at = strftime('%Y-%m-%dT%H:%M:%S', 'now', '-1 day', "
        "'+' || id || ' seconds'), finished_at = NULL",
    )
    return path


def killed_at(step: str, file: Path, settings: Any) -> None:
    """Import in another process, which is killed at a step."""
    database = str(connection.settings_dict["NAME"])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, database, settings.RUNS_DIR, file, step],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def told() -> dict[str, str]:
    """Return {last line of a run's row: what its output says}."""
    return {
        each.last_line: output.read(each.folder, 0).data.decode().strip()
        for each in Run.objects.order_by("id")
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["packed", "noted", "committed", "moving", "moved"])
def test_whoever_is_killed_leaves_all_or_nothing(step: str, old: Path, settings: Any) -> None:
    killed_at(step, old, settings)

    came = step in {"committed", "moving", "moved"}
    assert Job.objects.count() == (2 if came else 0)
    tidier = retention.Tidier()
    while tidier.step(NOON) < retention.QUIET:
        pass
    assert told() == ({f"run {n}": f"run {n}" for n in range(1, 21)} if came else {})
    assert not list(settings.RUNS_DIR.glob(".arriving*"))
    assert len(list(settings.RUNS_DIR.glob("*/*"))) == (20 if came else 0)


@pytest.mark.django_db(transaction=True)
def test_who_comes_again_after_a_kill_gets_all_of_it(old: Path, settings: Any) -> None:
    killed_at("noted", old, settings)

    assert bach(["import", str(old), "--apply", "--json"]) == 0

    assert told() == {f"run {n}": f"run {n}" for n in range(1, 21)}


@pytest.mark.django_db(transaction=True)
def test_a_run_that_got_the_number_of_one_that_never_came_gets_none_of_its_output(
    old: Path, settings: Any
) -> None:
    killed_at("noted", old, settings)
    mine = job("mine")
    others = [run(mine, due_at=NOON - timedelta(days=n)) for n in range(20)]

    assert list(arrivals.settle_what_was_left()) == []

    assert not any(folder_of(other.pk).exists() for other in others)


@pytest.mark.django_db
def test_a_folder_that_stands_in_the_way_is_nobodys_output(old: Path, settings: Any) -> None:
    first = (Run.objects.order_by("-id").values_list("id", flat=True).first() or 0) + 1
    for number in range(first, first + 20):
        folder_of(number).mkdir(parents=True)
        (folder_of(number) / "output.0").write_text("of another")

    bach(["import", str(old), "--apply", "--json"])

    assert told() == {f"run {n}": f"run {n}" for n in range(1, 21)}


@pytest.mark.django_db
def test_nobody_settles_what_somebody_alive_brings(settings: Any) -> None:
    with arrivals.waiting() as mine:
        arrivals.note(mine, [])

        assert list(arrivals.settle_what_was_left()) == []

        assert mine.exists()
    assert not list(settings.RUNS_DIR.iterdir())

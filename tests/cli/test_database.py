"""A database that is gone, damaged, another's or too new: BACH says so and begins nothing anew."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.bach import Bach
from tests.cli.conftest import end_all
from tests.stack import free_port


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an installation that was used and stopped."""
    bach = Bach(tmp_path_factory.mktemp("used") / "data")
    started = bach("daemon", "start", "--bg")
    assert started.returncode == 0, started
    end_all(bach)
    return bach.data


@pytest.fixture
def bach(used: Path, folder: Path) -> Bach:
    shutil.copytree(used, folder / "data", ignore=shutil.ignore_patterns("sock", "*.pid", "*.lock"))
    return Bach(folder / "data", BACH_PORT=str(free_port()))


def file(bach: Bach) -> Path:
    return bach.data / "bach.sqlite3"


def refused(bach: Bach, *command: str) -> str:
    """Return what a start says that must fail and make nothing."""
    answer = bach(*command)
    assert answer.returncode == 1, answer
    assert "Traceback" not in answer.stderr
    return answer.stderr


def gone(bach: Bach) -> None:
    for part in bach.data.glob("bach.sqlite3*"):
        part.unlink()


def flipped(bach: Bach) -> None:
    with file(bach).open("r+b") as raw:
        for page in range(2, file(bach).stat().st_size // 4096, 2):
            raw.seek(page * 4096)
            raw.write(b"\xa5" * 512)


def replaced(bach: Bach) -> None:
    gone(bach)
    with closing(sqlite3.connect(file(bach))) as made:
        made.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY)")


@pytest.mark.parametrize("command", [("up", "--no-open"), ("daemon", "start", "--bg")])
@pytest.mark.parametrize("harm", [gone, flipped, replaced])
def test_a_start_is_refused_with_the_way_out(bach: Bach, harm, command) -> None:
    harm(bach)
    before = file(bach).read_bytes() if file(bach).exists() else None

    said = refused(bach, *command)

    assert str(file(bach)) in said
    assert (file(bach).read_bytes() if file(bach).exists() else None) == before


def test_a_backup_is_offered_and_brings_it_back(bach: Bach) -> None:
    backups = bach.data / "backups"
    backups.mkdir()
    shutil.copy(file(bach), backups / "bach-2026-11-21.sqlite3")
    gone(bach)

    said = refused(bach, "daemon", "start", "--bg")
    assert "bach-2026-11-21.sqlite3" in said

    shutil.copy(backups / "bach-2026-11-21.sqlite3", file(bach))
    started = bach("daemon", "start", "--bg")
    end_all(bach)
    assert started.returncode == 0, started


def test_one_that_is_said_to_be_right_is_used(bach: Bach) -> None:
    replaced(bach)
    said = refused(bach, "daemon", "start", "--bg")
    assert f"rm {bach.data}/installation" in said

    (bach.data / "installation").unlink()
    started = bach("daemon", "start", "--bg")
    end_all(bach)
    assert started.returncode == 0, started


def test_one_of_a_newer_version_is_left_alone(bach: Bach) -> None:
    with closing(sqlite3.connect(file(bach))) as newer:
        newer.execute(
            "INSERT INTO django_migrations (app, name, applied) "
            "VALUES ('daemon_app', '9999_future', '2030-01-01')"
        )
        newer.commit()

    assert "9999_future" in refused(bach, "daemon", "start", "--bg")


def test_a_migration_that_was_killed_half_way_is_finished(bach: Bach) -> None:
    """SQLite undoes the half of a migration that was not committed; the next start does it all."""
    with closing(sqlite3.connect(file(bach), isolation_level=None)) as half:
        half.execute("PRAGMA journal_mode=WAL")
        names = [n for (n,) in half.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for name in names:
            if name.startswith("django_q"):
                half.execute(f"DROP TABLE {name}")
        half.execute("DELETE FROM django_migrations WHERE app = 'django_q'")

    started = bach("daemon", "start", "--bg")
    end_all(bach)

    assert started.returncode == 0, started
    with closing(sqlite3.connect(file(bach))) as whole:
        assert whole.execute("SELECT count(*) FROM django_q_ormq").fetchone() == (0,)


def test_a_fresh_folder_still_starts_by_itself(folder: Path) -> None:
    bach = Bach(folder / "new", BACH_PORT=str(free_port()))

    started = bach("daemon", "start", "--bg")
    end_all(bach)

    assert started.returncode == 0, started
    number = int((bach.data / "installation").read_text())
    with closing(sqlite3.connect(file(bach))) as made:
        assert made.execute("PRAGMA user_version").fetchone() == (number,)

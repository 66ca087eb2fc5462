"""The SQLite file: ours, whole, and its log short."""

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon_app import database
from daemon_app.database import NUMBER_FILE, Checkpointer, Trouble, adopt, examine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path


@pytest.fixture
def file(folder: Path) -> Path:
    """A database with a few pages, adopted."""
    made = make(folder / "bach.sqlite3")
    adopt(made, folder)
    return made


def make(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        made.executemany("INSERT INTO t(text) VALUES (?)", [("x" * 500,)] * 200)
        made.execute("CREATE INDEX i ON t(text)")
        made.commit()
    return path


def trouble(folder: Path) -> str:
    found = examine(folder / "bach.sqlite3", folder)
    return found.code if found else ""


def test_a_folder_in_which_nothing_ever_was_is_no_trouble(folder: Path) -> None:
    assert examine(folder / "bach.sqlite3", folder) is None
    assert not (folder / "bach.sqlite3").exists()


def test_our_own_database_is_no_trouble_and_keeps_its_number(file: Path, folder: Path) -> None:
    number = (folder / NUMBER_FILE).read_text()

    adopt(file, folder)

    assert examine(file, folder) is None
    assert (folder / NUMBER_FILE).read_text() == number


def test_one_from_before_there_were_numbers_is_adopted(folder: Path) -> None:
    made = make(folder / "bach.sqlite3")
    (folder / "runs" / "0").mkdir()

    assert examine(made, folder) is None
    adopt(made, folder)

    assert trouble(folder) == ""
    assert (folder / NUMBER_FILE).is_file()


def test_an_adoption_that_was_killed_half_way_is_finished(file: Path, folder: Path) -> None:
    number = (folder / NUMBER_FILE).read_text()
    (folder / NUMBER_FILE).unlink()

    assert examine(file, folder) is None
    adopt(file, folder)

    assert (folder / NUMBER_FILE).read_text() == number


def test_a_database_that_was_deleted_is_missed(file: Path, folder: Path) -> None:
    for part in folder.glob("bach.sqlite3*"):
        part.unlink()

    assert trouble(folder) == "gone"


def test_it_is_missed_by_its_runs_too(folder: Path) -> None:
    (folder / "runs" / "0").mkdir()

    assert trouble(folder) == "gone"


def test_an_emptied_file_is_no_first_start(file: Path, folder: Path) -> None:
    file.write_bytes(b"")

    assert trouble(folder) == "empty"


def test_something_else_in_its_place_is_told(file: Path, folder: Path) -> None:
    file.write_text("My dear diary")

    assert trouble(folder) == "not_sqlite"


def test_another_installation_s_database_is_told(file: Path, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = make(elsewhere / "bach.sqlite3")
    adopt(other, elsewhere)
    other.replace(file)

    assert trouble(folder) == "other"


def test_one_without_a_number_is_not_believed(file: Path, folder: Path) -> None:
    file.unlink()
    make(file)

    assert trouble(folder) == "unknown"


def test_a_look_does_not_let_go_of_the_locks_of_this_process(file: Path, folder: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as ours:
        ours.execute("INSERT INTO t(text) VALUES ('ours')")

        assert examine(file, folder) is None

        # Believing itself alone, the other would remove the log that we go on writing into.
        write = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM t')"
        subprocess.run([sys.executable, "-c", f"{write}; c.commit(); c.close()", file], check=True)
        assert file.with_name(f"{file.name}-wal").exists()
        assert ours.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("page", range(2, 12, 3))
def test_overwritten_pages_are_found(file: Path, folder: Path, page: int) -> None:
    with file.open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(b"\xa5" * 4096)

    assert trouble(folder) == "damaged"


def test_a_cut_off_file_is_found(file: Path, folder: Path) -> None:
    with file.open("r+b") as raw:
        raw.truncate(file.stat().st_size // 2)

    assert trouble(folder) == "damaged"


def test_a_folder_in_its_place_is_told_too(file: Path, folder: Path) -> None:
    file.unlink()
    file.mkdir()

    found = examine(file, folder)

    assert isinstance(found, Trouble)
    assert found.code == "unreadable"


def test_one_that_somebody_works_with_is_no_trouble(file: Path, folder: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t(text) VALUES ('y')")

        assert examine(file, folder) is None


def test_a_huge_one_is_not_read_as_a_whole(file: Path, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(database, "MOST_CHECKED", 1000)
    with file.open("r+b") as raw:
        raw.seek(4096 * 5)
        raw.write(b"\xa5" * 4096)

    assert examine(file, folder) is None


def test_the_newest_backup_is_offered(folder: Path) -> None:
    import os

    backups = folder / "backups"
    backups.mkdir()
    assert database.newest_backup(folder) is None
    for day in (1, 3, 2):
        (backups / f"{day}.sqlite3").write_bytes(b"x")
        os.utime(backups / f"{day}.sqlite3", (day, day))

    assert database.newest_backup(folder) == backups / "3.sqlite3"


# ── The write-ahead log ──────────────────────────────────────────────────────────────────────────
@pytest.fixture
def writer(file: Path) -> Iterator[sqlite3.Connection]:
    """Somebody who writes and, as the settings have it, never empties the log."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


def write(writer: sqlite3.Connection, megabytes: int) -> None:
    for _ in range(megabytes * 256):
        writer.execute("INSERT INTO t(text) VALUES (hex(randomblob(1900)))")


def log(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return file.with_name(f"{file.name}-wal").stat().st_size
    return 0


def test_the_log_stays_short_although_it_is_written_all_the_time(
    file: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "AGAIN_AFTER", 0.0)
    one = Checkpointer(file)
    longest = 0
    for _ in range(20):
        write(writer, 1)
        longest = max(longest, log(file))
        one.step(quiet=True)

    assert longest < 8 * 1024 * 1024
    assert log(file) == 0
    assert writer.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    one.close()


def test_a_busy_moment_is_waited_out_until_the_log_is_too_long(
    file: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "AGAIN_AFTER", 0.0)
    one = Checkpointer(file)
    write(writer, 1)
    monkeypatch.setattr(database, "TOO_LONG", log(file) + 1)

    assert not one.step(quiet=False)
    write(writer, 1)
    assert one.step(quiet=False)
    one.close()


def test_a_writer_at_work_is_not_waited_for(
    file: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "AGAIN_AFTER", 0.0)
    one = Checkpointer(file)
    write(writer, 2)
    writer.execute("BEGIN IMMEDIATE")

    assert not one.step(quiet=True)

    writer.execute("COMMIT")
    assert one.step(quiet=True)
    one.close()


def test_a_short_log_is_left_alone(file: Path, writer: sqlite3.Connection) -> None:
    one = Checkpointer(file)
    writer.execute("INSERT INTO t(text) VALUES ('y')")

    assert not one.step(quiet=True)
    assert log(file) > 0

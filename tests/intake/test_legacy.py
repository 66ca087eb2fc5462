"""Databases of an original BACH: read without a trace, whatever they are."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from daemon_app import legacy
from daemon_app.legacy import Legacy, LegacyError
from tests.intake.legacy import add_runs, change, database


def read(path: Path, ours: Path | None = None) -> Legacy:
    with legacy.opened(path, ours) as source:
        return source.read()


def code(path: Path, ours: Path | None = None) -> str:
    with pytest.raises(LegacyError) as caught:
        read(path, ours)
    return caught.value.code


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("generation", ["daemon", "scheduler"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_both_generations_are_read_and_nothing_is_left_behind(
    tmp_path: Path, generation: str, journal: str
) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"}, generation=generation, journal=journal)
    add_runs(path, 3, generation=generation)
    before = path.read_bytes()

    found = read(path)

    assert [row.text("name") for row in found.jobs] == ["a"]
    assert found.jobs[0].where == f"{generation}_jobs, 1"
    assert (found.runs, found.others) == (3, {"toolchains": 2})
    assert path.read_bytes() == before
    assert set(contents(tmp_path)) == {"bach.db"}


def test_what_the_other_bach_has_not_put_into_its_file_yet_is_read_too(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", journal="wal")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO daemon_jobs (name, job_type) VALUES ('new', 'manual')")
        writer.commit()

        assert [row.text("name") for row in read(path).jobs] == ["new"]


def test_who_writes_meanwhile_does_not_change_what_is_read(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "old"}, journal="wal")
    with closing(sqlite3.connect(path)) as writer:
        # All of it is in the file: the log is there, and empty.
        writer.execute("UPDATE daemon_jobs SET command = 'x'")
        writer.commit()
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        with legacy.opened(path) as source:
            writer.executemany(
                "INSERT INTO daemon_jobs (name, job_type) VALUES (?, 'manual')",
                [("n" * 2000,)] * 99,
            )
            writer.commit()
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")

            assert [row.text("name") for row in source.read().jobs] == ["old"]


def test_one_whose_program_was_killed_is_read_with_its_log(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", journal="wal")
    die = (
        "import sqlite3, sys, os\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute(\"INSERT INTO daemon_jobs (name, job_type) VALUES ('new', 'manual')\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", die, path], check=False)
    left = contents(tmp_path)
    assert set(left) == {"bach.db", "bach.db-wal", "bach.db-shm"}

    assert [row.text("name") for row in read(path).jobs] == ["new"]

    assert contents(tmp_path) | {"bach.db-shm": b""} == left | {"bach.db-shm": b""}


def test_newest_runs_of_a_million_are_found_in_one_walk(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", *({"name": f"job {n}"} for n in range(40)))
    add_runs(path, 1_000_000, jobs=40)

    begun = time.perf_counter()
    with legacy.opened(path) as source:
        found = source.newest_runs(range(1, 41), 1_000)
        (newest,) = source.runs(found[1][1][:1])
    took = time.perf_counter() - begun

    assert all(len(numbers) == 1_000 and count == 25_000 for count, numbers in found.values())
    assert (
        newest.number == 1_000_000 == max(n for _count, numbers in found.values() for n in numbers)
    )
    assert newest.text("output") == "run 1000000"
    assert took < 20


def test_a_value_beyond_all_bounds_costs_its_row_alone(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "big"}, {"name": "long"}, {"name": "fine"})
    change(path, "UPDATE daemon_jobs SET command = zeroblob(21000000) WHERE name = 'big'")
    change(path, "UPDATE daemon_jobs SET command = ? WHERE name = 'long'", "x" * 10_000_000)

    big, long, fine = read(path).jobs

    assert (big.number, big.fault) == (1, "too_long")
    assert 16_384 < len(long.text("command")) < 100_000
    assert fine.text("name") == "fine"


def test_the_memory_that_jobs_take_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "IN_ALL", 100_000)
    path = database(tmp_path / "bach.db", *({"name": f"job {n}"} for n in range(20)))
    change(path, "ALTER TABLE daemon_jobs ADD COLUMN notes TEXT")
    change(path, "UPDATE daemon_jobs SET command = ?, notes = ?", "x" * 30_000, "y" * 1_000_000)

    found = read(path)

    assert (len(found.jobs), found.has_more) == (5, True)
    assert "notes" not in found.jobs[0].values


@pytest.mark.parametrize("stored", ["x", None, 1.5, b"1"])
def test_a_number_of_a_row_that_is_none_is_damage(tmp_path: Path, stored: object) -> None:
    path = tmp_path / "bach.db"
    change(path, "CREATE TABLE daemon_jobs (rowid, name TEXT)")
    change(path, "INSERT INTO daemon_jobs VALUES (?, 'a')", stored)

    assert code(path) == "damaged"


def test_what_is_no_such_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("SQLite is nice")
    (tmp_path / "empty").touch()
    (tmp_path / "half").write_bytes(b"SQLite format 3\0" + b"\xff" * 3)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    foreign = tmp_path / "foreign"
    change(foreign, "CREATE TABLE recipes (id INTEGER)")

    assert code(tmp_path / "text") == "no_database"
    assert code(tmp_path / "empty") == "empty"
    assert code(tmp_path / "half") in {"no_database", "damaged"}
    assert code(tmp_path / "fifo") == code(tmp_path / "link") == code(tmp_path) == "no_file"
    assert code(Path("/dev/zero")) == "no_file"
    assert code(tmp_path / "none") == code(tmp_path / ("x" * 300)) == "missing"
    assert code(foreign) == "foreign"


def test_our_own_database_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    ours = database(tmp_path / "ours.sqlite3")
    (tmp_path / "soft").symlink_to(ours)
    (tmp_path / "hard").hardlink_to(ours)
    # Whoever opens the file and closes it again, in this process, drops this lock.
    with ours.open("rb+") as holder:
        fcntl.lockf(holder, fcntl.LOCK_EX)

        assert {code(tmp_path / name, ours) for name in ("ours.sqlite3", "soft", "hard")} == {
            "ours"
        }

        look = (
            "import fcntl, sys\nwith open(sys.argv[1], 'rb+') as file:\n"
            "    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
        )
        other = subprocess.run([sys.executable, "-c", look, ours], capture_output=True, check=False)
        assert b"BlockingIOError" in other.stderr

    change(ours, "CREATE TABLE django_migrations (id INTEGER)")
    assert code(ours) == "ours"


def test_a_damaged_one_is_refused_with_the_row(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", *({"name": "n" * 500} for _n in range(200)))
    data = bytearray(path.read_bytes())
    data[-60_000:-20_000] = b"\xa5" * 40_000
    path.write_bytes(data)

    with pytest.raises(LegacyError) as caught:
        read(path)

    assert caught.value.code == "damaged"
    assert "malformed" in caught.value.detail


def test_a_locked_one_is_refused_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "PATIENCE", 0.1)
    path = database(tmp_path / "bach.db", {"name": "a"})
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        assert code(path) == "locked"


def test_one_whose_writer_died_in_the_middle_is_not_mended_by_us(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", *({"name": "n" * 3000} for _n in range(300)))
    die = (
        "import sqlite3, sys, os\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('BEGIN')\n"
        "c.execute(\"UPDATE daemon_jobs SET name = name || 'x'\")\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", die, path], check=True)
    left = contents(tmp_path)
    assert "bach.db-journal" in left

    assert code(path) == "half_written"
    assert contents(tmp_path) == left


def test_tables_that_would_do_something_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "bach.db"
    change(path, "CREATE VIEW daemon_jobs AS SELECT 1 AS id, 'x' AS name")
    assert code(path) == "foreign"

    endless = database(tmp_path / "endless.db", {"name": "a"})
    change(
        endless,
        "ALTER TABLE daemon_jobs ADD COLUMN bomb AS (length(printf('%.900000000c', 'x'))) VIRTUAL",
    )
    assert [row.text("name") for row in read(endless).jobs] == ["a"]


def test_a_question_without_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"})
    add_runs(path, 200_000)
    monkeypatch.setattr(legacy, "WORK", 0.0)

    with pytest.raises(LegacyError) as caught, legacy.opened(path) as source:
        source.newest_runs([1], 10)

    assert caught.value.code == "too_long"

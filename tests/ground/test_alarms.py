"""The alarm board: seen by everybody, written when nothing else can be."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_app import doorbell
from daemon_app.alarms import FILE, SIZE, Board


@pytest.fixture
def runtime() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bach-", dir="/tmp"))
    yield doorbell.runtime_dir(folder)
    shutil.rmtree(folder)


def test_an_alarm_is_seen_by_another_process_until_it_is_cleared(runtime: Path) -> None:
    board, reader = Board(runtime, clock=lambda: 1_700_000_000.0), Board(runtime)

    assert board.raise_("disk_full", free_mb=3)

    (alarm,) = reader.read()
    assert (alarm.code, alarm.facts, alarm.since.timestamp()) == (
        "disk_full",
        {"free_mb": 3},
        1_700_000_000.0,
    )

    assert [a.code for a in board.clear("disk_full", "never_raised")] == ["disk_full"]
    assert reader.read() == []


def test_newer_facts_leave_the_beginning_as_it_was(runtime: Path) -> None:
    now = [100.0]
    board = Board(runtime, clock=lambda: now[0])
    board.raise_("database_locked", seconds=20)
    now[0] = 160.0

    assert not board.raise_("database_locked", seconds=80)

    (alarm,) = board.read()
    assert (alarm.since.timestamp(), alarm.facts) == (100.0, {"seconds": 80})


def test_a_change_rings_the_pages_and_a_repetition_does_not(runtime: Path) -> None:
    board = Board(runtime)
    with doorbell.Bell(runtime, "live-*") as page:
        board.raise_("disk_full", free_mb=3)
        board.raise_("disk_full", free_mb=3)
        board.clear("disk_full")
        board.clear("disk_full")

        assert page.drain() == [b'["alarms"]'] * 2


def test_the_file_keeps_its_size_and_is_ours_alone(runtime: Path) -> None:
    board = Board(runtime)
    for number in range(300):
        board.raise_(f"alarm-{number:03}", what="x" * 1000)

    file = runtime / FILE

    assert file.stat().st_size == SIZE
    assert file.stat().st_mode & 0o777 == 0o600
    assert "alarm-000" in {alarm.code for alarm in Board(runtime).read()}


@pytest.mark.parametrize("junk", [b"", b"\0" * SIZE, b"nonsense", b"00000000 00000005\n[1,2]"])
def test_a_board_full_of_nonsense_is_an_empty_one_and_can_be_written(
    runtime: Path, junk: bytes
) -> None:
    (runtime / FILE).write_bytes(junk)
    board = Board(runtime)

    assert board.read() == []
    board.raise_("disk_full")
    assert [alarm.code for alarm in board.read()] == ["disk_full"]


def test_a_reader_never_sees_half_a_change(runtime: Path) -> None:
    """The board swings between two states of different length while it is read."""
    board = Board(runtime)
    board.raise_("a", text="x" * 150)
    stop = threading.Event()

    def swing() -> None:
        while not stop.is_set():
            board.raise_("b", text="y" * 190)
            board.clear("b")

    writer = threading.Thread(target=swing)
    writer.start()
    try:
        seen = {tuple(alarm.code for alarm in Board(runtime).read()) for _ in range(300)}
    finally:
        stop.set()
        writer.join()

    assert seen <= {("a",), ("a", "b"), ("b", "a")}


def test_what_could_not_be_written_is_written_with_the_next_change(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(runtime)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        board.raise_("disk_full")
        assert [alarm.code for alarm in board.read()] == ["disk_full"]
        assert Board(runtime).read() == []

    board.raise_("database_failing")

    assert {alarm.code for alarm in Board(runtime).read()} == {"disk_full", "database_failing"}


def test_a_writer_that_was_stopped_in_its_turn_holds_up_nobody(runtime: Path) -> None:
    stopped = Board(runtime)
    with stopped._turn():
        assert Board(runtime).raise_("disk_full")

    assert [alarm.code for alarm in Board(runtime).read()] == ["disk_full"]

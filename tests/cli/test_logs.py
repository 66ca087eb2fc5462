"""The end of the log, read from its end, and followed through rotations."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_app.cli import service
from daemon_app.cli.service import added, last_lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "POLL", 0.001)


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def gathered(pieces: Iterator[bytes], wanted: bytes) -> bytes:
    """Return what came until `wanted` was among it."""
    came = b""
    while wanted not in came:
        came += next(pieces)
    return came


@pytest.mark.parametrize("block", [3, 10, 65_536])
@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 1000])
def test_the_last_lines_are_the_last_lines(
    log: Path, monkeypatch: pytest.MonkeyPatch, block: int, count: int
) -> None:
    monkeypatch.setattr(service, "BLOCK", block)
    log.write_bytes(numbered(1, 20))

    assert b"".join(last_lines([log], count)) == numbered(max(1, 21 - count), 20)


def test_a_last_line_that_is_still_being_written_counts(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthr")

    assert last_lines([log], 2) == [b"two\n", b"thr"]


def test_an_empty_log_has_no_lines(log: Path) -> None:
    log.write_bytes(b"")

    assert last_lines([log], 20) == []


def test_what_was_rotated_away_fills_up(log: Path) -> None:
    older = log.with_name("daemon.log.1")
    older.write_bytes(numbered(1, 10))
    log.write_bytes(numbered(11, 12))

    assert b"".join(last_lines([log, older], 5)) == numbered(8, 12)


def test_a_hundred_megabytes_are_not_read_for_twenty_lines(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log.open("wb") as file:
        file.truncate(100_000_000)
        file.seek(0, 2)
        file.write(b"\n" + numbered(1, 100))

    assert b"".join(last_lines([log], 20)) == numbered(81, 100)


def test_following_goes_on_where_the_last_lines_ended(log: Path) -> None:
    log.write_bytes(b"before\n")
    pieces = added(log, 7)

    with log.open("ab") as file:
        file.write(b"after\n")

    assert gathered(pieces, b"after\n") == b"after\n"


def test_a_rotation_loses_no_line(log: Path) -> None:
    log.write_bytes(b"one\n")
    pieces = added(log, 0)
    assert gathered(pieces, b"one\n") == b"one\n"

    with log.open("ab") as file:
        file.write(b"two\n")
    log.rename(log.with_name("daemon.log.1"))
    log.write_bytes(b"three\n")

    assert gathered(pieces, b"three\n") == b"two\nthree\n"


def test_an_emptied_log_is_followed_from_its_beginning(log: Path) -> None:
    log.write_bytes(b"a long line\n")
    pieces = added(log, 0)
    assert gathered(pieces, b"line\n")

    log.write_bytes(b"new\n")

    assert gathered(pieces, b"new\n") == b"new\n"


def test_a_log_that_does_not_exist_yet_is_awaited(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: log.write_bytes(b"first\n"))

    assert gathered(added(log, 0), b"first\n") == b"first\n"

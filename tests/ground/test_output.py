"""The bounded output of a run: what is kept, what is counted, how it is read."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_app import output
from daemon_app.output import STDERR, STDOUT, Piece, Writer
from tests.ground.conftest import files_no_bigger_than

NOON = 1_800_000_000.0


def written(folder: Path, *writes: bytes, chunk: int = 8, tail_chunks: int = 2) -> Writer:
    writer = Writer(str(folder), chunk=chunk, tail_chunks=tail_chunks)
    for data in writes:
        writer.write(data, STDOUT, NOON)
    writer.close()
    return writer


def everything(folder: Path) -> tuple[list[tuple[int, bytes]], int]:
    """Read an output to its end: (offset, bytes) of each kept stretch, and the sum of the gaps."""
    found: list[tuple[int, bytes]] = []
    offset = gaps = 0
    while True:
        piece = output.read(folder, offset, limit=5)
        if not piece.data:
            return found, gaps
        gaps += piece.gap
        found.append((piece.offset, piece.data))
        offset = piece.end


def lines_of(data: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────


def test_little_output_is_kept_whole_in_one_file(tmp_path):
    writer = written(tmp_path, b"hello\n", chunk=1 << 20)

    assert [path.name for path in tmp_path.iterdir()] == ["output.0"]
    assert output.read(tmp_path, 0) == Piece(0, b"hello\n")
    assert (writer.produced, writer.dropped, writer.lines) == (6, 0, 1)


def test_of_much_output_head_and_tail_are_kept_and_the_rest_is_counted(tmp_path):
    data = bytes(range(256)) * 4

    writer = written(tmp_path, data)

    # 8 for the head, two full files and the last one
    assert sorted(path.name for path in tmp_path.glob("output.*[0-9]")) == [
        "output.0",
        "output.1000",
        "output.1008",
        "output.1016",
    ]
    assert writer.dropped == output.dropped(tmp_path) == 1024 - 32
    assert output.size(tmp_path) == 1024
    assert output.read(tmp_path, 0, 100) == Piece(0, data[:8])
    assert output.read(tmp_path, 8, 100) == Piece(1000, data[1000:], gap=992)


def test_the_files_of_an_output_are_for_its_owner_alone(tmp_path):
    written(tmp_path, bytes(64))

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


WRITES = st.lists(
    st.tuples(
        st.binary(max_size=30).map(lambda data: data.replace(b"a", b"\n")),
        st.sampled_from([STDOUT, STDERR]),
        st.floats(0, 3),
    ),
    max_size=30,
)


@settings(deadline=None)  # the disk's pace is not ours
@given(WRITES, st.integers(1, 20), st.integers(0, 3))
def test_whatever_is_written_reads_back_at_its_offset_with_every_gap_counted(
    writes, chunk, tail_chunks
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = Writer(name, chunk=chunk, tail_chunks=tail_chunks)
        now, whole = NOON, b""
        streams: list[int] = []
        for data, stream, pause in writes:
            now += pause
            writer.write(data, stream, now)
            whole += data
            streams += [stream] * len(data)
        writer.close()

        kept, gaps = everything(folder)

        assert output.size(folder) == writer.produced == len(whole)
        assert gaps == writer.dropped == output.dropped(folder)
        assert gaps + sum(len(data) for _, data in kept) == len(whole)
        assert writer.lines == len(lines_of(whole))
        for offset, data in kept:
            assert whole[offset : offset + len(data)] == data
            for at in range(offset, offset + len(data)):
                assert output.line_at(folder, at) == whole.count(b"\n", 0, at) + 1
        if whole:
            assert kept[0][1][:1] == whole[:1]
            assert kept[-1][1][-1:] == whole[-1:]

        spans = output.spans(folder)
        for offset, data in kept:
            for at in range(offset, offset + len(data)):
                stream = [span for span in spans if span[0] <= at][-1][2]
                assert stream == streams[at]

        begin = 0
        for number, line in enumerate(lines_of(whole), start=1):
            assert output.offset_of_line(folder, number) == output.read(folder, begin, 1).offset
            begin += len(line)
        assert output.offset_of_line(folder, len(lines_of(whole)) + 1) == len(whole)


@settings(deadline=None)
@given(st.binary(max_size=200).map(lambda data: data.replace(b"\1", b"\n")), st.integers(1, 9))
def test_the_tail_of_what_is_kept_whole_is_its_last_lines(data, lines):
    with tempfile.TemporaryDirectory() as name:
        written(Path(name), data, chunk=1000)

        offset, found = output.tail(name, lines)

        assert found == b"".join(lines_of(data)[-lines:])
        assert offset == len(data) - len(found)


def test_a_tail_does_not_reach_over_a_gap(tmp_path):
    written(tmp_path, b"1\n2\n3\n4\n" * 10)

    offset, data = output.tail(tmp_path, 1000)

    assert (offset, data) == (56, b"1\n2\n3\n4\n" * 3)


def test_a_tail_is_bounded_even_when_a_line_is_not(tmp_path):
    written(tmp_path, b"x" * 10_000, chunk=1 << 20)

    assert output.tail(tmp_path, 1, limit=100) == (9900, b"x" * 100)


# ── streams and times ────────────────────────────────────────────────────────────────────────────


def test_standard_error_and_the_times_of_lines_are_marked(tmp_path):
    writer = Writer(str(tmp_path))
    writer.write(b"one\n", STDOUT, NOON)
    writer.write(b"oops\n", STDERR, NOON + 0.1)
    writer.write(b"two\n", STDOUT, NOON + 0.2)
    writer.write(b"x" * 200, STDOUT, NOON + 0.9)
    writer.write(b"later\n", STDOUT, NOON + 5)
    writer.close()

    assert output.spans(tmp_path) == [
        (0, NOON, STDOUT),
        (4, NOON + 0.1, STDERR),
        (9, NOON + 0.2, STDOUT),
        (213, NOON + 5, STDOUT),
    ]
    assert output.spans(tmp_path, 5, 10) == [(4, NOON + 0.1, STDERR), (9, NOON + 0.2, STDOUT)]


def test_a_few_bytes_now_and_then_each_have_their_time(tmp_path):
    writer = Writer(str(tmp_path))
    for minute in range(200):
        writer.write(b"tick\n", STDOUT, NOON + 60 * minute)
    writer.close()

    spans = output.spans(tmp_path)
    assert [at for _offset, at, _stream in spans] == [NOON + 60 * minute for minute in range(200)]


def test_times_stay_bounded_however_long_it_drips(tmp_path):
    writer = Writer(str(tmp_path))
    for second in range(30_000):
        writer.write(b".", STDOUT, NOON + 90 * second)
    writer.close()

    index = tmp_path / "output.0.idx"
    assert index.stat().st_size <= (output.MARKS_PER_FILE + 1) * output.MARK.size


def test_marks_stay_bounded_however_often_the_streams_change(tmp_path):
    writer = Writer(str(tmp_path))
    for _ in range(20_000):
        writer.write(b"o", STDOUT, NOON)
        writer.write(b"e", STDERR, NOON)
    writer.close()

    index = tmp_path / "output.0.idx"
    assert index.stat().st_size <= (output.MARKS_PER_FILE + 1) * output.MARK.size
    assert output.size(tmp_path) == 40_000


# ── a sick disk, and strange folders ─────────────────────────────────────────────────────────────


def test_what_a_full_disk_refuses_is_dropped_and_counted_and_later_output_is_kept(tmp_path):
    writer = Writer(str(tmp_path))

    with files_no_bigger_than(4):
        writer.write(b"ab\nd", STDOUT, NOON)
        writer.write(b"lost\nlost\n", STDOUT, NOON)
    writer.write(b"lost too\n", STDOUT, NOON + 0.5)
    writer.write(b"found\n", STDOUT, NOON + 2)
    writer.close()

    assert writer.error == "EFBIG"
    assert (writer.produced, writer.dropped, writer.lines) == (29, 19, 5)
    assert output.read(tmp_path, 0) == Piece(0, b"ab\nd")
    assert output.read(tmp_path, 4) == Piece(23, b"found\n", gap=19)
    assert output.line_at(tmp_path, 23) == 5
    assert writer.ending.endswith(b"lost too\nfound\n")


def test_a_disk_that_is_full_from_the_start_costs_the_output_and_nothing_else(tmp_path):
    writer = Writer(str(tmp_path))

    with files_no_bigger_than(0):
        for second in range(5):
            writer.write(b"hello\n", STDERR, NOON + second)
    writer.close()

    assert (writer.produced, writer.dropped, writer.error) == (30, 30, "EFBIG")
    assert output.read(tmp_path, 0) == Piece(0, b"")
    assert list(tmp_path.iterdir()) == []


def test_room_can_be_given_up_for_something_more_important(tmp_path):
    writer = Writer(str(tmp_path), chunk=8, tail_chunks=2)
    writer.write(bytes(40), STDOUT, NOON)
    before = writer.dropped

    assert writer.give_up_room()

    assert writer.dropped == before + 8
    assert output.dropped(tmp_path) == writer.dropped
    writer.close()


def test_an_output_that_does_not_exist_is_empty(tmp_path):
    missing = tmp_path / "missing"

    assert output.size(missing) == 0
    assert output.read(missing, 10) == Piece(10, b"")
    assert output.tail(missing, 10) == (0, b"")
    assert output.line_at(missing, 0) == 1
    assert output.offset_of_line(missing, 7) == 0
    assert output.spans(missing) == []


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_nothing_but_regular_files_is_ever_opened(tmp_path, what):
    (tmp_path / "secret").write_text("secret")
    run = tmp_path / "run"
    run.mkdir()
    planted = run / "output.0"
    if what == "link":
        planted.symlink_to(tmp_path / "secret")
    elif what == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()

    assert output.read(run, 0) == Piece(0, b"")
    assert output.size(run) == 0


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    written(real, b"secret")
    (tmp_path / "link").symlink_to(real)

    assert output.read(tmp_path / "link", 0) == Piece(0, b"")


def test_where_a_stretch_near_the_end_began_is_told_by_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(str(tmp_path), chunk=100, tail_chunks=20)
    for number in range(100):
        writer.write(b"nine char\n", STDOUT if number % 2 else STDERR, NOON)
    writer.close()
    every = output.spans(tmp_path)
    looked_at: list[int] = []
    marks = output._Folder.marks

    def noted(folder: output._Folder, start: int) -> list[tuple[int, int, float, int]]:
        looked_at.append(start)
        return marks(folder, start)

    monkeypatch.setattr(output._Folder, "marks", noted)

    assert output.spans(tmp_path, 955, 975) == [each for each in every if 950 <= each[0] < 975]
    assert looked_at == [900]

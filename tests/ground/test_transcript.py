"""A log in pieces is the log, from whichever place it is read, and what it shows can be found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import output, transcript
from daemon_app.output import STDERR, STDOUT

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_764_000_000.0


def write(folder: Path, data: bytes, **limits: int) -> output.Writer:
    writer = output.Writer(str(folder), **limits)
    writer.write(data, STDOUT, NOON)
    return writer


def body(piece: transcript.Piece | None) -> dict[str, Any]:
    assert piece is not None
    log: dict[str, Any] = json.loads("{" + piece.body[1:] + "}")["log"]
    return log


def text(log: dict[str, Any]) -> str:
    return "".join(part[1] for part in log["text"])


# ── Pieces ───────────────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode))))
def test_a_log_in_pieces_is_the_log(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    said, at = "", 0

    while at < len(whole):
        end = min(at + 8, len(whole))
        read = output.Piece(at, whole[at:end])
        parts, left = transcript.decode(read, [], final=False)
        if not parts:
            parts, left = transcript.decode(read, [], final=True)
        said += "".join(part for _stream, part, _at in parts)
        at = end - left

    assert said == whole.decode(errors="replace")


@pytest.mark.parametrize("ended", [False, True])
def test_a_character_that_is_not_complete_waits_for_its_rest(tmp_path: Path, ended: bool) -> None:
    write(tmp_path, "5 €".encode()[:-1])

    piece = transcript.piece(tmp_path, 17, 0, 1, ended=ended)
    rest = transcript.piece(tmp_path, 17, 2, 1, ended=ended)

    assert piece is not None
    assert piece.end == 2
    assert (rest is not None) is ended


def test_a_character_may_come_in_two_parts_at_different_times(tmp_path: Path) -> None:
    writer = write(tmp_path, "5 €".encode()[:-1])
    writer.write("€".encode()[-1:] + b" each\n", STDOUT, NOON + 5)

    log = body(transcript.piece(tmp_path, 17, 0, 1, ended=False))

    assert log["text"] == [[1, "5 ", int(NOON)], [1, "€ each\n", int(NOON) + 5]]


def test_each_part_says_its_stream_and_when_it_came(tmp_path: Path) -> None:
    writer = write(tmp_path, b"one\n")
    writer.write(b"two\n", STDERR, NOON + 0.5)
    writer.write(b"three\n", STDOUT, NOON + 70)

    log = body(transcript.piece(tmp_path, 17, 0, 1, ended=False))

    at = int(NOON)
    assert log["text"] == [[1, "one\n", at], [2, "two\n", at], [1, "three\n", at + 70]]


@pytest.mark.parametrize("kind", ["lines", "one long line", "no characters"])
def test_read_backwards_it_is_the_same_log(tmp_path: Path, kind: str) -> None:
    lines = "".join(f"Zeile {number}: Grüße aus Köln 🙂\n" for number in range(9000))
    whole = {
        "lines": lines.encode(),
        "one long line": "ü🙂x".encode() * 40_000,
        "no characters": bytes(range(128, 256)) * 2000,
    }[kind]
    write(tmp_path, whole).close()

    said, end = "", len(whole)
    while end:
        log = body(transcript.piece_before(tmp_path, 17, end))
        assert log["line"] == whole[: log["offset"]].count(b"\n") + 1
        assert log["offset"] < end
        said, end = text(log) + said, log["offset"]

    assert said == whole.decode(errors="replace") or kind == "no characters"
    assert transcript.piece_before(tmp_path, 17, 0) is None


def test_read_backwards_it_goes_on_before_what_was_not_kept(tmp_path: Path) -> None:
    whole = b"".join(b"line %d\n" % number for number in range(1, 4001))
    write(tmp_path, whole, chunk=4096, tail_chunks=2).close()
    tail, _ = output.tail(tmp_path, 10_000)

    log = body(transcript.piece_before(tmp_path, 17, tail))

    assert log["next"] == 4096
    assert log["gap_after"] == tail - 4096
    assert log["line"] == 1


def test_a_line_is_shown_with_what_is_before_it(tmp_path: Path) -> None:
    whole = b"".join(b"line %d\n" % number for number in range(1, 30_001))
    write(tmp_path, whole).close()

    offset, line = transcript.around(tmp_path, 20_000)

    assert whole[offset:].startswith(b"line %d\n" % line)
    assert 18_000 < line < 19_999


@pytest.mark.parametrize("line", [b"\n", b"1\n"])
def test_a_piece_has_no_more_lines_than_a_page_can_take_at_once(
    tmp_path: Path, line: bytes
) -> None:
    whole = line * 100_000
    write(tmp_path, whole).close()

    said, at, number = "", 0, 1
    while piece := transcript.piece(tmp_path, 17, at, number, ended=True):
        log = body(piece)
        assert log["line"] == whole[:at].count(b"\n") + 1
        assert text(log).count("\n") <= transcript.LINES
        said, at, number = said + text(log), piece.end, piece.line
    assert said == whole.decode()

    said, end = "", len(whole)
    while end:
        log = body(transcript.piece_before(tmp_path, 17, end))
        assert log["next"] == end
        assert log["line"] == whole[: log["offset"]].count(b"\n") + 1
        assert text(log).count("\n") <= transcript.LINES
        said, end = text(log) + said, log["offset"]
    assert said == whole.decode()

    offset, first = transcript.around(tmp_path, 50_000)
    assert 50_000 - transcript.LINES < first < 50_000
    assert offset == (first - 1) * len(line)


# ── Search ───────────────────────────────────────────────────────────────────────────────────────
def lines(found: transcript.Found) -> list[int]:
    return [hit.line for hit in found.hits]


def test_words_are_found_in_their_lines_whatever_their_case(tmp_path: Path) -> None:
    write(tmp_path, "ok\nÄRGER eins\nok\nnoch ärger, Ärger\n".encode()).close()

    assert lines(transcript.search(tmp_path, "Ärger")) == [2, 4]
    assert lines(transcript.search(tmp_path, "Ärger", match_case=True)) == [4]
    assert lines(transcript.search(tmp_path, "weg")) == []
    assert lines(transcript.search(tmp_path, "")) == []


def test_what_is_shown_is_found_and_what_is_not_shown_is_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        b"\x1b[31mER\x1b[1mROR\x1b[0m\n"
        b"\x1b]0;ERROR in a title\x07x\n"
        b"10 % ERROR\r20 %\r\n"
        b"first\rERROR at last\r\n"
        b"\x1b]0;never ended ERROR\n",
    ).close()

    found = transcript.search(tmp_path, "error")

    assert lines(found) == [1, 4, 5]
    assert [hit.excerpt for hit in found.hits[:2]] == ["ERROR", "ERROR at last"]


def test_lines_after_what_was_not_kept_are_found_by_their_own_numbers(tmp_path: Path) -> None:
    whole = b"".join(b"line %d\n" % number for number in range(1, 4001))
    write(tmp_path, whole, chunk=4096, tail_chunks=2).close()

    assert lines(transcript.search(tmp_path, "line 3999")) == [3999]
    assert lines(transcript.search(tmp_path, "line 2"))[0] == 2
    assert lines(transcript.search(tmp_path, "line 2000")) == []


def test_more_hits_come_when_asked_to_go_on(tmp_path: Path) -> None:
    write(tmp_path, b"hit\n" * 5000 + b"miss\n").close()

    found, seen = transcript.search(tmp_path, "hit"), []
    while True:
        seen += lines(found)
        assert len(found.hits) <= transcript.MOST_HITS
        if found.next is None:
            break
        found = transcript.search(tmp_path, "hit", start=found.next)

    assert seen == list(range(1, 5001))


def test_words_in_a_line_of_ten_megabytes_are_found_once(tmp_path: Path) -> None:
    edge = transcript.SEARCHED_BYTES - 3  # across the edge of what is looked at at a time
    write(tmp_path, b"x" * edge + b"needle" + b"x" * 5_000_000 + b"needle\nneedle\n").close()

    assert lines(transcript.search(tmp_path, "Needle")) == [1, 2]


def test_ten_thousand_carriage_returns_are_no_trouble(tmp_path: Path) -> None:
    bars = b"".join(b"hit %d%s\r" % (number, b" " * 90) for number in range(10_000))
    write(tmp_path, bars + b"\nhit\n").close()

    assert lines(transcript.search(tmp_path, "hit")) == [1, 2]
    assert lines(transcript.search(tmp_path, "hit 77 ")) == []


def test_lines_that_come_while_one_searches_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write(tmp_path, b"one\ntwo\nthree\nfo")
    reads = output.read

    def read(folder: Path, offset: int, limit: int = 65_536) -> output.Piece:
        piece = reads(folder, offset, limit)
        if piece.data == b"fo":
            writer.write(b"ur, found\n", STDOUT, NOON)
        return piece

    monkeypatch.setattr(output, "read", read)

    assert [hit.line for hit in transcript.search(tmp_path, "found").hits] == [4]

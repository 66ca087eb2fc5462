"""Ranges of a run's output: what is asked for, of the body that would be sent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import output
from daemon_app.api import slices
from daemon_app.models import Run
from tests.api.caller import Caller
from tests.jobs import run

pytestmark = pytest.mark.django_db
TEN = b"0123456789"


def written(*parts: bytes, **bounds: int) -> Run:
    """Return a run with this output."""
    of = run()
    of.folder.mkdir(parents=True)
    writer = output.Writer(str(of.folder), **bounds)
    for part in parts:
        writer.write(part, output.STDOUT, 0.0)
    writer.close()
    return of


def ask(caller: Caller, of: Run, query: str = "", **headers: str) -> Any:
    return caller("GET", f"runs/{of.pk}/log{query}", headers=headers)


@pytest.mark.parametrize(
    ("asked", "sent", "where"),
    [
        ("bytes=0-0", b"0", "0-0"),
        ("bytes=2-4", b"234", "2-4"),
        ("bytes=4-", b"456789", "4-9"),
        ("bytes=4-99", b"456789", "4-9"),
        ("bytes=4-999999999999999999", b"456789", "4-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=-99", TEN, "0-9"),
        ("BYTES = 2-4", b"234", "2-4"),
    ],
)
def test_a_range_is_sent(viewer: Caller, asked: str, sent: bytes, where: str) -> None:
    answer = ask(viewer, written(TEN), Range=asked)

    assert answer.status_code == 206
    assert answer.content == sent
    assert answer.headers["Content-Range"] == f"bytes {where}/10"
    assert answer.headers["Log-Offset"] == where.partition("-")[0]
    assert answer.headers["Log-Next-Offset"] == str(int(where.partition("-")[2]) + 1)
    assert answer.headers["Log-Size"] == "10"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=99-", "bytes=-0"])
def test_a_range_without_a_byte_is_refused_with_what_there_is(viewer: Caller, asked: str) -> None:
    answer = ask(viewer, written(TEN), Range=asked)

    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=0-1,4-5", "bytes=4-2", "bytes=", "bytes=-", "bytes=a-b", "bytes 0-1", "lines=0-1"),
        *("bytes=1", "bytes=²-", "bytes=" + "9" * 5000 + "-", "", "bytes=0x1-"),
    ],
)
def test_what_is_no_single_range_is_answered_with_everything(viewer: Caller, asked: str) -> None:
    answer = ask(viewer, written(TEN), Range=asked)

    assert (answer.status_code, answer.content) == (200, TEN)
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_of_nothing_the_last_bytes_are_nothing(viewer: Caller) -> None:
    assert ask(viewer, run(), Range="bytes=-5").content == b""
    assert ask(viewer, run(), Range="bytes=0-").status_code == 416


def test_a_range_counts_in_what_is_kept(viewer: Caller) -> None:
    there = written(*[b"%04d\n" % n for n in range(100)], chunk=50, tail_chunks=1)
    whole = ask(viewer, there)
    dropped = int(whole.headers["Log-Dropped"])

    answer = ask(viewer, there, Range="bytes=45-54")

    assert answer.content == whole.content[45:55]
    assert answer.headers["Content-Range"] == f"bytes 45-54/{len(whole.content)}"
    assert answer.headers["Log-Offset"] == "45"
    assert answer.headers["Log-Gap"] == str(dropped)
    assert answer.headers["Log-Next-Offset"] == str(55 + dropped)


def test_a_range_of_a_part_counts_in_that_part(viewer: Caller) -> None:
    there = written(b"one\ntwo\nthree\n")

    assert ask(viewer, there, "?offset=4", Range="bytes=0-2").content == b"two"
    assert ask(viewer, there, "?lines=1", Range="bytes=-3").content == b"ee\n"
    assert ask(viewer, there, "?offset=4&limit=3", Range="bytes=3-").status_code == 416


def test_a_range_of_what_has_changed_is_everything(viewer: Caller) -> None:
    there = written(TEN)
    tag = ask(viewer, there).headers["ETag"]

    same = ask(viewer, there, **{"Range": "bytes=5-", "If-Range": tag})
    weak = ask(viewer, there, **{"Range": "bytes=5-", "If-Range": f"W/{tag}"})
    dated = ask(viewer, there, **{"Range": "bytes=5-", "If-Range": "Sun, 22 Nov 2026 10:00:00 GMT"})
    with (there.folder / "output.0").open("ab") as file:
        file.write(b"more")
    grown = ask(viewer, there, **{"Range": "bytes=5-", "If-Range": tag})

    assert (same.status_code, same.content) == (206, b"56789")
    assert (weak.status_code, dated.status_code, grown.status_code) == (200, 200, 200)
    assert grown.content == TEN + b"more"


def test_an_output_that_is_known_is_not_sent_again(viewer: Caller) -> None:
    there = written(TEN)
    tag = ask(viewer, there).headers["ETag"]

    same = ask(viewer, there, **{"If-None-Match": tag})
    with (there.folder / "output.0").open("ab") as file:
        file.write(b"more")
    grown = ask(viewer, there, **{"If-None-Match": tag})

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == tag
    assert (grown.status_code, grown.content) == (200, TEN + b"more")


def test_the_head_of_an_answer_knows_no_ranges(viewer: Caller) -> None:
    answer = viewer("HEAD", f"runs/{written(TEN).pk}/log", headers={"Range": "bytes=0-1"})

    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == "10"


def test_what_is_dropped_while_it_is_read_is_looked_at_anew(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = written(*[b"%04d\n" % n for n in range(40)], chunk=50, tail_chunks=9)
    read, first = output.read, True

    def dropped_meanwhile(*arguments: Any) -> output.Piece:
        nonlocal first
        if first:
            first = False
            (there.folder / "output.50").unlink()
        return read(*arguments)

    monkeypatch.setattr(output, "read", dropped_meanwhile)
    answer = ask(viewer, there)

    assert answer.content == b"".join(b"%04d\n" % n for n in [*range(10), *range(20, 40)])
    assert answer.headers["Log-Gap"] == "50"


@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=5),
    first=st.integers(0, 50),
    count=st.integers(1, 50),
)
def test_what_is_cut_is_what_a_slice_of_all_would_be(
    lengths: list[tuple[int, int]], first: int, count: int
) -> None:
    stretches, end = [], 0
    for gap, length in lengths:
        stretches.append(slices.Stretch(end + gap, length))
        end += gap + length
    bytes_there = [at for each in stretches for at in range(each.offset, each.end)]

    found = slices.cut(stretches, first, first + count - 1)

    cut = [at for each in found for at in range(each.offset, each.end)]
    assert cut == bytes_there[first : first + count]

"""A run's output with streams, times and line numbers, and what is found in it, over REST."""

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon_app import output, transcript
from daemon_app.models import Attempt, Run
from tests.api.caller import Caller
from tests.jobs import NOON, run

pytestmark = pytest.mark.django_db
OUT, ERR = output.STDOUT, output.STDERR
SECOND = 1_764_000_000


def written(of: Run | Attempt, *parts: tuple[int, bytes], **bounds: int) -> None:
    """Give a run, or an attempt, this output; each part a second after the one before."""
    of.folder.mkdir(parents=True, exist_ok=True)
    writer = output.Writer(str(of.folder), **bounds)
    for n, (stream, data) in enumerate(parts):
        writer.write(data, stream, float(SECOND + n))
    writer.close()


def ended(**fields: Any) -> Run:
    return run(state=Run.State.SUCCEEDED, started_at=NOON, ended_at=NOON, **fields)


def text(told: dict[str, Any]) -> str:
    return "".join(part["text"] for part in told["parts"])


def test_the_output_comes_with_streams_times_and_lines(viewer: Caller) -> None:
    of = ended()
    written(of, (OUT, b"one\n"), (ERR, b"two\n"), (OUT, "drei ü\n".encode()))

    answer = viewer("GET", f"runs/{of.pk}/transcript")

    assert answer.status_code == 200, answer.json()
    told = answer.json()
    at = [datetime.fromtimestamp(SECOND + n, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for n in range(3)]
    assert told["parts"] == [
        {"stream": "stdout", "at": at[0], "text": "one\n"},
        {"stream": "stderr", "at": at[1], "text": "two\n"},
        {"stream": "stdout", "at": at[2], "text": "drei ü\n"},
    ]
    assert {name: told[name] for name in ("run_id", "offset", "next_offset", "line", "gap")} == {
        "run_id": of.pk,
        "offset": 0,
        "next_offset": 16,
        "line": 1,
        "gap": 0,
    }
    assert told["is_end"] is True


def test_a_long_output_is_read_on_and_back_and_line_by_line(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, lines in (("LINES", 10), ("FIRST_LINES", 10), ("CONTEXT_LINES", 3)):
        monkeypatch.setattr(transcript, name, lines)
    of = ended()
    written(of, *((OUT, b"line %d\n" % n) for n in range(1, 31)))

    def ask(query: str) -> dict[str, Any]:
        answer = viewer("GET", f"runs/{of.pk}/transcript?{query}")
        assert answer.status_code == 200, answer.json()
        told: dict[str, Any] = answer.json()
        return told

    newest = ask("")
    on = [ask("offset=0")]
    while not on[-1]["is_end"]:
        on.append(ask(f"offset={on[-1]['next_offset']}"))
    back = ask(f"before={newest['offset']}")

    assert newest["line"] == 21
    assert "".join(map(text, on)) == "".join(f"line {n}\n" for n in range(1, 31))
    assert [each["line"] for each in on] == [1, 11, 21]
    assert (back["line"], back["next_offset"]) == (11, newest["offset"])
    assert text(ask("line=7")).startswith("line 7\n")
    assert text(ask("before_line=7")).endswith("line 6\n")
    assert "line 15\n" in text(ask("around=15"))


def test_what_was_not_kept_is_a_gap(viewer: Caller) -> None:
    of = ended()
    written(of, *((OUT, b"line %02d\n" % n) for n in range(50)), chunk=40, tail_chunks=2)

    first = viewer("GET", f"runs/{of.pk}/transcript?offset=0").json()
    second = viewer("GET", f"runs/{of.pk}/transcript?offset={first['next_offset']}").json()

    assert text(first).startswith("line 00\n")
    assert second["gap"] > 0
    assert second["offset"] == first["next_offset"] + second["gap"]
    assert text(second) == f"line {second['line'] - 1:02}\n" + text(second)[8:]
    assert text(second).endswith("line 49\n")


def test_a_run_that_has_not_ended_is_read_on_later(viewer: Caller) -> None:
    of = run(state=Run.State.RUNNING, started_at=NOON)
    silent = viewer("GET", f"runs/{of.pk}/transcript").json()
    written(of, (OUT, b"so far"))

    told = viewer("GET", f"runs/{of.pk}/transcript").json()

    assert (silent["parts"], silent["is_end"]) == ([], False)
    assert (text(told), told["is_end"]) == ("so far", False)


def test_an_earlier_attempt_has_a_transcript_and_is_searched(viewer: Caller) -> None:
    of = ended(attempt=2, fence=2)
    facts = {"started_at": NOON, "ended_at": NOON, "fence": 1, "state": "failed"}
    first = Attempt.objects.create(run=of, number=1, **facts)
    (of.folder / "attempts" / "1").mkdir(parents=True)
    written(of, (OUT, b"second\n"))
    written(first, (OUT, b"first\n"))

    told = viewer("GET", f"runs/{of.pk}/transcript?attempt=1").json()
    hits = viewer("GET", f"runs/{of.pk}/log/search?q=st&attempt=1").json()["hits"]

    assert (text(told), told["is_end"]) == ("first\n", True)
    assert hits == [{"line": 1, "excerpt": "first"}]
    assert viewer("GET", f"runs/{of.pk}/transcript?attempt=3").status_code == 404


def test_lines_are_found_page_by_page(viewer: Caller) -> None:
    of = ended()
    written(of, *((OUT, b"Error %d\nfine\n" % n) for n in range(5)))

    first = viewer("GET", f"runs/{of.pk}/log/search?q=error&limit=2").json()
    second = viewer("GET", first["next"].removeprefix("/api/daemon/")).json()
    third = viewer("GET", second["next"].removeprefix("/api/daemon/")).json()
    strict = viewer("GET", f"runs/{of.pk}/log/search?q=error&case=true").json()

    found = [hit for told in (first, second, third) for hit in told["hits"]]
    assert found == [{"line": 2 * n + 1, "excerpt": f"Error {n}"} for n in range(5)]
    assert third["next"] is None
    assert (strict["hits"], strict["size"]) == ([], output.size(of.folder))


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("log/search", "q"),
        ("log/search?q=", "q"),
        ("log/search?q=%20", "q"),
        ("log/search?q=a%0Ab", "q"),
        ("log/search?q=" + "x" * 201, "q"),
        ("log/search?q=%00", "q"),
        ("log/search?q=a&limit=2001", "limit"),
        ("log/search?q=a&case=1", "case"),
        ("transcript?offset=-1", "offset"),
        ("transcript?line=0", "line"),
        ("transcript?from=3", "from"),
    ],
)
def test_what_can_not_be_meant_is_refused(viewer: Caller, path: str, field: str) -> None:
    of = ended()

    answer = viewer("GET", f"runs/{of.pk}/{path}")

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]


def test_only_one_place_can_be_asked_for(viewer: Caller) -> None:
    of = ended()

    answer = viewer("GET", f"runs/{of.pk}/transcript?line=1&offset=3")

    assert {*answer.json()["error"]["fields"]} == {"line", "offset"}


@pytest.mark.parametrize("place", ["offset", "before", "line", "before_line", "around"])
def test_a_place_far_behind_the_end_holds_nothing_new(viewer: Caller, place: str) -> None:
    of = ended()
    written(of, (OUT, b"one\n"))

    answer = viewer("GET", f"runs/{of.pk}/transcript?{place}={2**63 - 1}")

    assert answer.status_code == 200
    assert text(answer.json()) in {"", "one\n"}


def test_an_output_that_was_tidied_away_is_gone(viewer: Caller) -> None:
    of = ended(output_removed=True, output_bytes=9)

    assert viewer("GET", f"runs/{of.pk}/transcript").status_code == 410
    assert viewer("GET", f"runs/{of.pk}/log/search?q=a").status_code == 410

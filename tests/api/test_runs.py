"""Runs over REST."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from daemon_app import output
from daemon_app.models import Run
from daemon_app.models.run import Ending
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db


def written(of: Run, *parts: bytes, **bounds: int) -> Run:
    """Give a run this output."""
    of.folder.mkdir(parents=True)
    writer = output.Writer(str(of.folder), **bounds)
    for part in parts:
        writer.write(part, output.STDOUT, 0.0)
    writer.close()
    return of


def ids(answer: Any) -> list[int]:
    return [told["id"] for told in answer.json()["runs"]]


def test_runs_come_newest_first_in_pages(viewer: Caller) -> None:
    there = job()
    numbers = [run(there).pk for _n in range(5)][::-1]

    first = viewer("GET", "runs?limit=2")
    second = viewer("GET", first.json()["next"].removeprefix("/api/daemon/"))
    third = viewer("GET", f"runs?before={numbers[3]}")

    assert [ids(first), ids(second), ids(third)] == [numbers[:2], numbers[2:4], numbers[4:]]
    assert third.json()["next"] is None


def test_the_address_of_the_next_page_keeps_the_filters(viewer: Caller) -> None:
    there = job()
    for _n in range(3):
        run(there, state=Run.State.FAILED)

    following = viewer("GET", f"runs?state=failed&job_id={there.pk}&limit=1").json()["next"]

    assert "state=failed" in following
    assert f"job_id={there.pk}" in following
    assert "limit=1" in following


def test_runs_are_found_by_job_state_and_trigger(viewer: Caller) -> None:
    one, other = job("one"), job("other")
    first = run(one, state=Run.State.SUCCEEDED).pk
    second = run(other, state=Run.State.FAILED, trigger=Run.Trigger.SCHEDULE).pk

    assert ids(viewer("GET", f"runs?job_id={one.pk}")) == [first]
    assert ids(viewer("GET", "runs?state=failed")) == [second]
    assert ids(viewer("GET", "runs?trigger=schedule")) == [second]
    assert ids(viewer("GET", "runs?state=failed&trigger=manual")) == []


def test_fifty_runs_come_unless_asked_otherwise_and_never_more_than_200(viewer: Caller) -> None:
    there = job()
    for _n in range(51):
        run(there)

    assert len(ids(viewer("GET", "runs"))) == 50
    assert viewer("GET", "runs?limit=200").status_code == 200
    assert viewer("GET", "runs?limit=201").status_code == 400


def test_a_run_says_how_it_went(viewer: Caller) -> None:
    ended = run(
        state=Run.State.FAILED,
        reason_code="exit",
        reason_facts={"code": 3},
        started_at=NOON,
        ended_at=NOON + timedelta(seconds=2.5),
        exit_code=3,
        cpu_seconds=0.25,
        last_line="no room left",
    )

    told = viewer("GET", f"runs/{ended.pk}").json()

    assert told["state"] == "failed"
    assert told["reason_code"] == "exit"
    assert "3" in told["reason"]
    assert told["duration_seconds"] == 2.5
    assert told["exit_code"] == 3
    assert told["ended_at"] == "2026-11-24T12:00:02.500000Z"
    assert told["definition"]["command"] == "echo hi"


def test_a_run_that_still_runs_has_a_duration_and_one_that_waits_has_none(viewer: Caller) -> None:
    there = job()
    running = run(there, state=Run.State.RUNNING, started_at=timezone.now() - timedelta(hours=1))
    waiting = run(there)

    assert viewer("GET", f"runs/{running.pk}").json()["duration_seconds"] >= 3600
    assert viewer("GET", f"runs/{waiting.pk}").json()["duration_seconds"] is None


def test_what_a_run_used_and_how_far_it_is_are_told(viewer: Caller) -> None:
    now = timezone.now()
    running = run(
        state=Run.State.RUNNING,
        started_at=now - timedelta(minutes=1),
        expires_at=NOON,
        progress=25,
        progress_label="step 2",
        pools={"gpu": 1},
        priority=3,
        read_bytes=1,
        write_bytes=2,
        gpu_seconds=0.5,
        peak_vram_bytes=4,
    )

    told = viewer("GET", f"runs/{running.pk}").json()

    assert (told["progress"], told["progress_label"]) == (25, "step 2")
    assert 170 < told["eta_seconds"] < 200
    assert (told["read_bytes"], told["write_bytes"]) == (1, 2)
    assert (told["gpu_seconds"], told["peak_vram_bytes"]) == (0.5, 4)
    assert (told["pools"], told["priority"], told["attempt"]) == ({"gpu": 1}, 3, 1)
    assert (told["phase"], told["waiting"], told["attempts"]) == ("", None, [])
    assert told["expires_at"] == "2026-11-24T12:00:00Z"
    assert told["not_before"] == "2026-11-24T12:00:00Z"


def test_without_progress_the_rest_is_judged_by_what_is_usual(viewer: Caller) -> None:
    there, now = job(), timezone.now()
    for _n in range(3):
        run(there, state="succeeded", started_at=NOON, ended_at=NOON + timedelta(hours=1))
    for _n in range(2):
        run(there, state="running", started_at=now - timedelta(minutes=10))

    listed = viewer("GET", "runs?state=running").json()["runs"]

    assert [2900 < told["eta_seconds"] < 3001 for told in listed] == [True, True]
    ended = viewer("GET", "runs?state=succeeded").json()["runs"]
    assert {told["eta_seconds"] for told in ended} == {None}


# ── Attempts ─────────────────────────────────────────────────────────────────────────────────────
def tried_again(output_of_first: bytes = b"first try\n") -> Run:
    """Return a run whose first attempt failed and whose second waits."""
    there = run(now=timezone.now() - timedelta(minutes=5))
    there.claim(owner="here", now=timezone.now())
    if output_of_first:
        written(there, output_of_first)
    ending = Ending(
        run_id=there.pk,
        fence=there.fence,
        state=Run.State.FAILED,
        ended_at=timezone.now(),
        reason_code="exit",
        reason_facts={"code": 3},
        exit_code=3,
        output_bytes=len(output_of_first),
    )
    facts = {"attempt": 1, "why": "exit 3", "pause": 10}
    assert Run.objects.put_back(ending, not_before=timezone.now(), code="retry", facts=facts)
    there.refresh_from_db()
    return there


def begin_second(there: Run, wrote: bytes) -> None:
    """Let the second attempt begin and write, as runner and supervisor do."""
    first = there.attempts.get()
    assert there.claim(owner="here", now=timezone.now())
    kept = there.folder / "attempts" / str(first.fence)
    kept.mkdir(parents=True)
    for file in there.folder.glob("output*"):
        file.rename(kept / file.name)
    writer = output.Writer(str(there.folder))
    writer.write(wrote, output.STDOUT, 0.0)
    writer.close()


def test_a_run_tells_of_its_earlier_attempts(viewer: Caller) -> None:
    there = tried_again()

    told = viewer("GET", f"runs/{there.pk}").json()

    assert (told["attempt"], told["state"], told["reason_code"]) == (2, "queued", "retry")
    (first,) = told["attempts"]
    assert (first["number"], first["state"], first["exit_code"]) == (1, "failed", 3)
    assert "3" in first["reason"]
    assert first["started_at"]


def test_the_output_of_each_attempt_can_be_had(viewer: Caller) -> None:
    there = tried_again()

    def log(query: str = "") -> Any:
        return viewer("GET", f"runs/{there.pk}/log{query}")

    assert log().content == log("?attempt=1").content == b"first try\n"
    assert log("?attempt=2").content == b""

    begin_second(there, b"second\n")

    assert log("?attempt=1").content == b"first try\n"
    assert log("?attempt=1&lines=1").headers["Log-Size"] == "10"
    assert log().content == log("?attempt=2").content == b"second\n"
    assert log("?attempt=3").status_code == 404
    assert log("?attempt=0").status_code == 400


def test_an_attempts_output_that_is_gone_is_not_mistaken_for_a_later_ones(viewer: Caller) -> None:
    there = tried_again()
    begin_second(there, b"second\n")
    assert there.finish(Run.State.SUCCEEDED, now=timezone.now(), exit_code=0)
    shutil.rmtree(there.folder / "attempts")

    answer = viewer("GET", f"runs/{there.pk}/log?attempt=1")

    assert answer.status_code == 410
    assert viewer("GET", f"runs/{there.pk}/log?attempt=2").content == b"second\n"


# ── Cancelling ───────────────────────────────────────────────────────────────────────────────────
def test_a_waiting_run_is_cancelled_at_once(operator: Caller) -> None:
    waiting = run()

    answer = operator("POST", f"runs/{waiting.pk}/cancel")

    assert answer.status_code == 202
    assert answer.json()["state"] == "cancelled"
    waiting.refresh_from_db()
    assert waiting.stop_requested_by == "operator"


def test_a_running_run_is_asked_to_stop(operator: Caller) -> None:
    running = run(state=Run.State.RUNNING)

    answer = operator("POST", f"runs/{running.pk}/cancel", {})

    assert answer.status_code == 202
    assert answer.json()["state"] == "running"
    assert answer.json()["is_stopping"] is True


def test_a_run_that_has_ended_can_not_be_cancelled(operator: Caller) -> None:
    ended = run(state=Run.State.SUCCEEDED)

    answer = operator("POST", f"runs/{ended.pk}/cancel")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "ended"


# ── Output ───────────────────────────────────────────────────────────────────────────────────────
def test_the_output_comes_as_the_bytes_it_is(viewer: Caller) -> None:
    raw = b"\x1b[31mrot\x1b[0m \xff\xfe\x00 <script>\r\n"
    there = written(run(), raw)

    answer = viewer("GET", f"runs/{there.pk}/log")

    assert answer.content == raw
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Log-Size"] == answer.headers["Log-Next-Offset"] == str(len(raw))
    assert answer.headers["Log-Offset"] == answer.headers["Log-Dropped"] == "0"


def test_a_part_of_the_output_can_be_had(viewer: Caller) -> None:
    there = written(run(), b"0123456789")

    answer = viewer("GET", f"runs/{there.pk}/log?offset=3&limit=4")

    assert answer.content == b"3456"
    assert answer.headers["Log-Offset"] == "3"
    assert answer.headers["Log-Next-Offset"] == "7"
    assert answer.headers["Log-Size"] == "10"


def test_the_last_lines_of_the_output_can_be_had(viewer: Caller) -> None:
    there = written(run(), b"one\ntwo\nthree\n")

    answer = viewer("GET", f"runs/{there.pk}/log?lines=2")

    assert answer.content == b"two\nthree\n"
    assert answer.headers["Log-Offset"] == "4"


def test_what_was_dropped_is_counted(viewer: Caller) -> None:
    there = written(run(), *[b"%04d\n" % n for n in range(100)], chunk=50, tail_chunks=1)

    answer = viewer("GET", f"runs/{there.pk}/log")

    dropped = int(answer.headers["Log-Dropped"])
    assert dropped > 0
    assert answer.headers["Log-Gap"] == str(dropped)
    assert len(answer.content) + dropped == 500 == int(answer.headers["Log-Size"])
    assert answer.content.startswith(b"0000\n")
    assert answer.content.endswith(b"0099\n")


def test_behind_the_end_there_is_nothing_yet(viewer: Caller) -> None:
    there = written(run(), b"abc")

    answer = viewer("GET", f"runs/{there.pk}/log?offset=3")

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["Log-Next-Offset"] == "3"


def test_a_run_that_has_written_nothing_has_an_empty_output(viewer: Caller) -> None:
    answer = viewer("GET", f"runs/{run().pk}/log")

    assert answer.status_code == 200
    assert answer.content == b""


def test_output_that_was_tidied_away_is_said_to_be_gone(viewer: Caller) -> None:
    answer = viewer("GET", f"runs/{run(output_bytes=17).pk}/log")

    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "tidied_away"


def test_output_that_was_removed_by_the_rules_is_gone_in_every_way_of_asking(
    viewer: Caller,
) -> None:
    there = run(state=Run.State.SUCCEEDED, output_removed=True)

    for query in ("", "?lines=3", "?offset=2", "?attempt=1"):
        answer = viewer("GET", f"runs/{there.pk}/log{query}")

        assert answer.status_code == 410
        assert "aufgeräumt" in answer.json()["error"]["message"]
    assert viewer("GET", f"runs/{there.pk}").json()["output_removed"] is True


def test_a_link_planted_in_place_of_the_output_is_not_followed(
    viewer: Caller, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    there = run()
    there.folder.mkdir(parents=True)
    (there.folder / "output.0").symlink_to(secret)

    assert viewer("GET", f"runs/{there.pk}/log").content == b""


@pytest.mark.parametrize("accept", ["text/plain", "application/json", "*/*", "image/png"])
def test_the_output_comes_whatever_is_asked_for_and_errors_come_as_json(
    viewer: Caller, accept: str
) -> None:
    there = written(run(), b"abc")

    good = viewer("GET", f"runs/{there.pk}/log", headers={"Accept": accept})
    bad = viewer("GET", "runs/999/log", headers={"Accept": accept})

    assert good.content == b"abc"
    assert bad.json()["error"]["code"] == "not_found"

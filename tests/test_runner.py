"""The runner in this process: what it makes of news that real runs seldom bring."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from daemon_app import doorbell
from daemon_app.models import Run
from daemon_app.models.run import RunQuerySet
from daemon_app.runner import NO_ROOM_PAUSE, Runner
from tests.service import soon, started

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(host="here", runtime=doorbell.runtime_dir(settings.DATA_DIR), max_parallel=4)
    runner._look_at = float("inf")  # the runs of these tests have no supervisor to be seen
    yield runner
    runner.close()


def news(op: str, run: Run, **facts: object) -> bytes:
    return json.dumps({"op": op, "run": run.pk, "fence": run.fence, **facts}).encode()


def test_a_run_that_finds_the_disk_full_goes_back_in_line_and_is_tried_later(runner) -> None:
    run = started(soon())
    run.claim(owner="here", now=timezone.now())
    runner.adopt_one(run)
    full = {"fence": 1, "outcome": "not_started", "error": "ENOSPC", "error_what": "folder"}

    before = timezone.now()
    runner.turn([news("ended", run, result=full)])

    run.refresh_from_db()
    assert (run.state, run.attempt, run.pk in runner.waiting) == (Run.State.QUEUED, 1, True)
    assert (run.not_before - before).total_seconds() >= NO_ROOM_PAUSE
    assert runner.running == 0


def test_news_of_an_earlier_fence_and_nonsense_change_nothing(runner, caplog) -> None:
    run = started(soon())
    run.claim(owner="here", now=timezone.now())
    runner.adopt_one(run)
    run.fence = 0

    runner.turn(
        [
            news("ended", run, result={"fence": 0, "outcome": "exited", "exit_code": 0}),
            news("phase", run, phase="kill"),
            news("progress", run, progress="lots"),
            b'{"op": "dance"}',
            b"[]",
            b"\xff",
        ]
    )

    run.refresh_from_db()
    assert (run.state, run.phase, run.progress) == (Run.State.RUNNING, "", None)
    assert len(caplog.messages) == 4


def claimed(runner: Runner, **fields: object) -> Run:
    """Return a run that is ours, and of which nothing is to be seen."""
    run = started(soon(**fields))
    run.claim(owner="here", now=timezone.now())
    runner.adopt_one(run)
    return run


def leave(run: Run, fence: int, **result: object) -> None:
    """Have an attempt's supervisor leave its result."""
    now = time.time()
    run.folder.mkdir(parents=True, exist_ok=True)
    told = {"fence": fence, "ended_at": now, "started_at": now, "duration": 0.1, **result}
    (run.folder / "result.json").write_text(json.dumps(told))


def test_what_was_told_while_nobody_was_there_is_heard_when_a_run_is_adopted(runner) -> None:
    run = started(soon())
    run.claim(owner="here", now=timezone.now())
    run.folder.mkdir(parents=True)
    (run.folder / "phase").write_text("term")
    (run.folder / "progress").write_text('{"progress": 70, "label": "Schritt 7"}')

    runner.adopt_one(run)
    runner.turn([])

    run.refresh_from_db()
    assert (run.phase, run.progress, run.progress_label) == ("term", 70, "Schritt 7")


def test_a_retry_whose_launch_was_lost_starts_after_all(runner) -> None:
    run = claimed(runner, max_retries=1)
    leave(run, 1, outcome="exited", exit_code=1)
    runner._look()
    run.refresh_from_db()
    assert (run.state, run.attempt) == (Run.State.QUEUED, 2)
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now())
    runner._leave_line(run.pk)
    assert Run.objects.claim([run.pk], owner="here", now=timezone.now()) == {run.pk: 2}
    run.refresh_from_db()
    runner.adopt_one(run)

    runner._look()

    run.refresh_from_db()
    assert (run.state, run.attempt, run.fence) == (Run.State.QUEUED, 2, 2)
    assert run.pk in runner.waiting


def test_a_loss_that_can_not_be_written_is_written_later(runner, monkeypatch) -> None:
    run = claimed(runner)
    (run.folder).mkdir(parents=True)
    (run.folder / "lock").write_text('{"run": 1, "fence": 1, "pid": 4194304, "started": 1}\n')
    real = Run.give_up
    monkeypatch.setattr(Run, "give_up", _locked)
    with pytest.raises(OperationalError):
        runner._look()
    assert runner.running == 1
    monkeypatch.setattr(Run, "give_up", real)

    runner._look()

    run.refresh_from_db()
    assert run.state == Run.State.LOST
    assert runner.running == 0


def _locked(*_: object, **__: object) -> bool:
    raise OperationalError("database is locked")


def test_a_line_that_can_not_be_read_anew_is_not_forgotten(runner, monkeypatch) -> None:
    claimed(runner)
    waiting = started(soon(name="waiting"))
    runner._max_parallel = 1
    runner.expect([(waiting.pk, time.time())])
    runner.turn([])
    assert [each.run_id for each in runner._line] == [waiting.pk]
    with monkeypatch.context() as away:
        away.setattr(runner, "_read", _locked)
        away.setattr(runner, "_learn_rules", lambda: None)
        runner._take_in(b'{"op": "rules"}')

    assert waiting.pk in runner.waiting
    assert [pk for _, pk in runner._heap] == [waiting.pk]


def test_a_cancelled_run_of_which_nothing_has_begun_is_cancelled(runner) -> None:
    run = claimed(runner)
    run.request_stop(by="anna", now=timezone.now())

    runner._look()

    run.refresh_from_db()
    assert (run.state, run.reason_code) == (Run.State.CANCELLED, "cancelled")


def test_a_repeated_loss_uses_up_no_retry(runner) -> None:
    run = claimed(runner, max_retries=1, on_loss="repeat")
    runner._lose(run, "supervisor_gone")
    runner._leave_line(run.pk)
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now())
    run.refresh_from_db()
    run.claim(owner="here", now=timezone.now())
    runner._let_go(run.pk)
    runner.adopt_one(run)
    leave(run, 2, outcome="exited", exit_code=1)

    runner._look()

    run.refresh_from_db()
    assert (run.state, run.attempt) == (Run.State.QUEUED, 3)


def test_a_skipped_run_leaves_the_line(runner) -> None:
    claimed(runner)
    runner._max_parallel = 1
    waiting = started(soon(name="waiting"))
    runner.expect([(waiting.pk, time.time())])
    runner.turn([])
    waiting.skip(now=timezone.now(), code="deadline")

    runner._look()

    assert waiting.pk not in runner.waiting
    assert waiting.pk not in [each.run_id for each in runner._line]


def test_progress_is_written_once_a_second_and_cut_to_size(runner) -> None:
    run = started(soon())
    run.claim(owner="here", now=timezone.now())
    runner.adopt_one(run)

    runner.turn([news("progress", run, progress=n, label="x" * 300) for n in (10, 120, -5.4, 41.6)])
    runner.turn([news("progress", run, progress=99, label="later")])

    run.refresh_from_db()
    assert (run.progress, run.progress_label) == (42, "x" * 200)
    assert 0 < runner.patience() <= 1


@pytest.mark.parametrize(
    ("seconds", "displacements", "said"),
    [(600, 0, "long"), (61, 0, ""), (20, 0, "short"), (1, 1, "")],
)
def test_an_end_says_whether_it_took_unusually_long_or_short(
    runner, seconds: int, displacements: int, said: str
) -> None:
    run = usual_run(60.0)
    Run.objects.filter(pk=run.pk).update(attempt=1 + displacements, displacements=displacements)
    run.refresh_from_db()
    runner.adopt_one(run)

    runner.turn([ended_after(run, seconds)])

    run.refresh_from_db()
    assert (run.state, run.unusual) == (Run.State.SUCCEEDED, said)


def test_a_failure_is_never_unusually_short(runner) -> None:
    run = usual_run(60.0)
    runner.adopt_one(run)

    runner.turn([ended_after(run, 1, exit_code=3)])

    run.refresh_from_db()
    assert (run.state, run.unusual) == (Run.State.FAILED, "")


def test_an_end_that_is_written_at_the_second_try_is_counted_once(runner, monkeypatch) -> None:
    run = usual_run(60.0)
    runner.adopt_one(run)
    finish, tries = RunQuerySet.finish, []

    def locked_at_first(*args: Any) -> list[int]:
        tries.append(args)
        if len(tries) < 3:
            raise OperationalError("database is locked")
        return finish(*args)

    monkeypatch.setattr(RunQuerySet, "finish", locked_at_first)
    runner.turn([ended_after(run, 600)])
    for _ in range(2):
        runner._retry_at = 0.0
        runner.turn([])

    run.refresh_from_db()
    assert (run.state, run.unusual, len(tries)) == (Run.State.SUCCEEDED, "long", 3)
    assert list(runner._durations._lengths[run.job_id]).count(600.0) == 1


def usual_run(length: float) -> Run:
    """Return a running run of a job whose runs took `length` seconds so far."""
    run = started(soon())
    now = timezone.now()
    Run.objects.bulk_create(
        Run(
            job=run.job,
            trigger="manual",
            due_at=now,
            not_before=now,
            queued_at=now,
            state=Run.State.SUCCEEDED,
            started_at=now,
            ended_at=now + timedelta(seconds=length),
        )
        for _ in range(12)
    )
    run.claim(owner="here", now=now)
    return run


def ended_after(run: Run, seconds: float, exit_code: int = 0) -> bytes:
    began = time.time() - seconds
    result = {
        "fence": run.fence,
        "outcome": "exited",
        "exit_code": exit_code,
        "started_at": began,
        "ended_at": began + seconds,
    }
    return news("ended", run, result=result)

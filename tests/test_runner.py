"""The runner in this process: what it makes of news that real runs seldom bring."""

import json
from collections.abc import Iterator

import pytest
from django.conf import settings
from django.utils import timezone

from daemon_app import doorbell
from daemon_app.models import Run
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


def test_progress_is_written_once_a_second_and_cut_to_size(runner) -> None:
    run = started(soon())
    run.claim(owner="here", now=timezone.now())
    runner.adopt_one(run)

    runner.turn([news("progress", run, progress=n, label="x" * 300) for n in (10, 120, -5.4, 41.6)])
    runner.turn([news("progress", run, progress=99, label="later")])

    run.refresh_from_db()
    assert (run.progress, run.progress_label) == (42, "x" * 200)
    assert 0 < runner.patience() <= 1

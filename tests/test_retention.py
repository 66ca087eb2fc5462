"""What is kept: by age, number and size, in steps that hold nobody up."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test.utils import CaptureQueriesContext

from daemon_app import retention
from daemon_app.models import Account, Attempt, Incident, Job, Policy, Run, Ticket
from daemon_app.retention import BUSY, FEWEST, FIRST, MOST, QUIET, Pace, Tidier
from tests import jobs
from tests.jobs import NOON

MB = 1 << 20
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _runs_dir(tmp_path: Path, settings: Any) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
    settings.RUNS_DIR.mkdir()


def ended(job: Job, *, ago: timedelta = timedelta(0), mb: int = 0, **fields: Any) -> Run:
    """Return a run that ended so long before NOON, with a folder and so much kept output."""
    facts = {"state": Run.State.SUCCEEDED, "ended_at": NOON - ago, "queued_at": NOON - ago}
    facts |= {"output_bytes": 3 * mb * MB, "dropped_bytes": 2 * mb * MB, "definition": {}}
    run = jobs.run(job, **{**facts, **fields})
    written(run.folder)
    return run


def written(folder: Path) -> None:
    """Make a run's folder."""
    folder.mkdir(parents=True)
    (folder / "output.0").write_text("hi")


def rules(**fields: Any) -> None:
    """Set the policy."""
    Policy(**fields).store(now=NOON, by="anna")


def tidied(tidier: Tidier | None = None, now: datetime = NOON) -> int:
    """Step until nothing is left to do; return how many steps that took."""
    tidier = tidier or Tidier()
    steps = 1
    while tidier.step(now) != QUIET:
        steps += 1
        assert steps < 10_000
    return steps


def kept(*runs: Run) -> list[bool]:
    """Return for each run whether its row is there; row without folder, or the reverse, fails."""
    there = set(Run.objects.values_list("pk", flat=True))
    for run in runs:
        assert (run.pk in there) == run.folder.exists()
    return [run.pk in there for run in runs]


def with_output(*runs: Run) -> list[bool]:
    """Return for each run whether its output is there, and that its row says so."""
    removed = dict(Run.objects.values_list("pk", "output_removed"))
    for run in runs:
        assert removed[run.pk] != run.folder.exists()
    return [not removed[run.pk] for run in runs]


# ── by age and number ────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_runs_go_by_age_with_their_attempts_and_folders() -> None:
    job = jobs.job()
    old, young, newest = (ended(job, ago=days * DAY) for days in (91, 89, 0))
    Attempt.objects.create(run=old, number=1, fence=1, state="failed", ended_at=NOON - 92 * DAY)

    tidied()

    assert kept(old, young, newest) == [False, True, True]
    assert not Attempt.objects.exists()


@pytest.mark.django_db
def test_the_newest_ended_run_of_a_job_stays_however_old_it_is() -> None:
    yearly = jobs.job()
    before, last = ended(yearly, ago=900 * DAY), ended(yearly, ago=500 * DAY)
    waiting = jobs.run(yearly)

    tidied()

    assert kept(before, last) == [False, True]
    assert Run.objects.filter(pk=waiting.pk).exists()


@pytest.mark.django_db
def test_what_waits_or_runs_is_never_removed() -> None:
    rules(keep_days=1, keep_runs=1)
    job = jobs.job()
    states = [Run.State.QUEUED, Run.State.RUNNING]
    active = [ended(job, ago=400 * DAY, state=state, ended_at=None) for state in states]
    done = [ended(job, ago=days * DAY) for days in (3, 2, 0)]

    tidied()

    assert kept(*active, *done) == [True, True, False, False, True]


@pytest.mark.django_db
def test_runs_go_by_number_the_oldest_first() -> None:
    rules(keep_runs=2)
    job, other = jobs.job("one"), jobs.job("two")
    runs = [ended(job) for _ in range(5)]
    active = jobs.run(job)
    few = [ended(other) for _ in range(2)]

    tidied()

    assert kept(*runs) == [False, False, False, True, True]
    assert kept(*few) == [True, True]
    assert Run.objects.filter(pk=active.pk).exists()


@pytest.mark.django_db
def test_a_job_may_keep_more_or_less_than_the_rule_for_all() -> None:
    rules(keep_runs=2, keep_days=30)
    more, less = jobs.job("more", keep_runs=4, keep_days=400), jobs.job("less", keep_runs=1)
    briefly = jobs.job("briefly", keep_days=1)

    runs = {job.name: [ended(job, ago=n * DAY) for n in (99, 3, 2, 0)] for job in (more, less)}
    runs["briefly"] = [ended(briefly, ago=n * DAY) for n in (2, 0)]
    tidied()

    assert kept(*runs["more"]) == [True] * 4
    assert kept(*runs["less"]) == [False, False, False, True]
    assert kept(*runs["briefly"]) == [False, True]


@pytest.mark.django_db
def test_new_rules_hold_for_old_runs() -> None:
    job = jobs.job()
    runs = [ended(job, ago=days * DAY) for days in (40, 20, 0)]
    tidier = Tidier()
    tidied(tidier)
    assert kept(*runs) == [True] * 3

    rules(keep_days=30)
    tidied(tidier)

    assert kept(*runs) == [False, True, True]


@pytest.mark.django_db
def test_a_run_of_a_clock_that_was_wrong_does_not_shield_the_others() -> None:
    job = jobs.job()
    runs = [ended(job, ago=days * DAY) for days in (-30_000, 100, 95, 0)]

    tidied()

    assert kept(*runs) == [True, False, False, True]


@pytest.mark.django_db
def test_the_last_folder_of_a_thousand_takes_theirs_with_it() -> None:
    job = jobs.job()
    old = ended(job, ago=100 * DAY, id=3_001)
    busy = ended(job, ago=100 * DAY, id=5_001)
    jobs.run(job, id=5_002)
    ended(job, id=9_000)

    tidied()

    assert not old.folder.parent.exists()
    assert not busy.folder.exists()
    assert busy.folder.parent.exists()


# ── by size ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_output_goes_by_size_and_the_rows_stay() -> None:
    rules(keep_output_mb=5)
    one, two = jobs.job("one"), jobs.job("two")
    runs = [ended(job, mb=2) for job in (one, two, one, two)]

    tidied()

    assert with_output(*runs) == [False, False, True, True]


@pytest.mark.django_db
def test_a_job_may_have_a_limit_of_its_own() -> None:
    small, other = jobs.job("small", keep_output_mb=3), jobs.job("other")
    runs = [ended(small, mb=2), ended(other, mb=2), ended(small, mb=1), ended(small, mb=2)]

    tidied()

    assert with_output(*runs) == [False, True, True, True]


@pytest.mark.django_db
def test_earlier_attempts_count_and_go_too() -> None:
    rules(keep_output_mb=3)
    job = jobs.job()
    tried = ended(job, mb=0, attempt=2)
    Attempt.objects.create(
        run=tried, number=1, fence=1, state="failed", ended_at=NOON, output_bytes=2 * MB
    )
    last = ended(job, mb=2)
    written(tried.folder / "attempts" / "1")

    tidied()

    assert with_output(tried, last) == [False, True]


@pytest.mark.django_db
def test_a_run_that_is_to_be_tried_again_keeps_what_it_has() -> None:
    rules(keep_output_mb=1)
    job = jobs.job()
    waiting = ended(job, attempt=2, state=Run.State.QUEUED, ended_at=None)
    Attempt.objects.create(
        run=waiting, number=1, fence=1, state="failed", ended_at=NOON, output_bytes=2 * MB
    )
    done, last = ended(job, mb=2), ended(job, mb=2)

    tidied()

    assert with_output(waiting, done, last) == [True, False, False]


@pytest.mark.django_db
def test_what_a_job_left_last_goes_only_when_there_is_no_room_otherwise() -> None:
    rules(keep_output_mb=4)
    rare, chatty = jobs.job("rare"), jobs.job("chatty")
    oldest = ended(rare, ago=80 * DAY, mb=2)
    rest = [ended(chatty, mb=2) for _ in range(3)]

    tidied()

    assert with_output(oldest, *rest) == [True, False, False, True]

    rules(keep_output_mb=3)
    tidied()

    assert with_output(oldest, *rest) == [False, False, False, True]


@pytest.mark.django_db
def test_a_run_without_output_is_not_called_one_whose_output_was_removed() -> None:
    rules(keep_output_mb=1)
    job = jobs.job()
    silent, loud, last = (ended(job, mb=mb) for mb in (0, 2, 1))

    tidied()

    assert with_output(silent, loud, last) == [True, False, True]


# ── other things with an end ─────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_seen_incidents_old_sessions_and_tickets_go() -> None:
    long_ago = NOON - 100 * DAY
    for seen in (None, long_ago, NOON):
        incident = Incident.note("stalled", now=long_ago, seconds=3)
        Incident.objects.filter(pk=incident.pk).update(acknowledged_at=seen)
    Incident.objects.update(at=long_ago)
    for key, expiry in (("old", NOON - DAY), ("new", NOON + DAY)):
        Session.objects.create(session_key=key, session_data="", expire_date=expiry)
    for day in (NOON - DAY, NOON):
        Ticket.issue(Account.owner(), day)

    tidied()

    assert set(Incident.objects.values_list("acknowledged_at", flat=True)) == {None, NOON}
    assert [session.session_key for session in Session.objects.all()] == ["new"]
    assert [ticket.expires_at > NOON for ticket in Ticket.objects.all()] == [True]


# ── in small steps ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_each_step_does_a_little_and_says_when_it_wants_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "TOO_LONG", 60.0)  # a machine in a hurry slows nothing down
    rules(keep_runs=1)
    job = jobs.job()
    rows = [jobs.run(job, state="skipped", definition={}, ended_at=NOON) for _ in range(250)]
    tidier = Tidier()

    waits: list[float] = []
    left: list[int] = []
    while not waits or waits[-1] == BUSY:
        waits.append(tidier.step(NOON))
        left.append(Run.objects.count())

    assert waits[-1] == QUIET
    assert [a - b for a, b in zip([250, *left], left, strict=False) if a != b] == [
        50,
        55,
        60,
        66,
        18,
    ]
    assert list(Run.objects.values_list("pk", flat=True)) == [rows[-1].pk]


def test_a_pace_slows_down_at_once_and_speeds_up_slowly() -> None:
    pace = Pace()

    pace.took(0.001, FIRST)
    faster = pace.size
    pace.took(0.001, 3)
    same = pace.size
    pace.took(0.03, 3)
    halved = pace.size
    for _ in range(20):
        pace.took(0.5, pace.size)
    slowest = pace.size
    for _ in range(100):
        pace.took(0.001, pace.size)

    assert (faster, same, halved, slowest) == (55, 55, 27, FEWEST)
    assert pace.size == MOST


@pytest.mark.django_db
def test_no_step_reads_a_whole_table_of_runs() -> None:
    rules(keep_runs=3, keep_output_mb=1)
    for n in range(3):
        job = jobs.job(f"job {n}", keep_output_mb=1)
        for _ in range(6):
            ended(job, ago=n * 100 * DAY, mb=1, attempt=2)

    with CaptureQueriesContext(
        connection,
    ) as captured:
        tidied()

    asked = [query["sql"] for query in captured if "daemon_runs" in query["sql"]]
    plans = []
    for sql in asked:
        if sql.startswith(("SELECT", "UPDATE", "DELETE")):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}".replace("%", "%%"))
                plans += [(row[3], sql) for row in cursor.fetchall()]
    assert len(plans) > 10
    for plan, sql in plans:
        if plan.startswith("SCAN") and not sql.endswith("DESC LIMIT 1"):
            assert plan.startswith("SCAN daemon_jobs"), (plan, sql)
        # Rows are wide, and a job may have a million: they are counted by an index alone.
        if sql.startswith("SELECT COUNT"):
            assert "USING INDEX daemon_runs_job" not in plan, sql
    walks = [p for p, sql in plans if "output_bytes" in sql and "SEARCH daemon_runs USING" in p]
    assert any("COVERING INDEX daemon_runs_output" in plan for plan in walks)


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)
def test_somebody_elses_transaction_is_not_waited_for() -> None:
    job = jobs.job()
    old = ended(job, ago=100 * DAY)
    ended(job)
    tidier = Tidier()
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    begun = time.monotonic()
    wait = tidier.step(NOON)
    took = time.monotonic() - begun

    assert wait == retention.AFTER_TROUBLE
    assert took < 1
    assert Run.objects.filter(pk=old.pk).exists()
    other.execute("ROLLBACK")
    other.close()
    tidied(tidier)
    assert kept(old) == [False]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        assert cursor.fetchone()[0] == settings.DATABASES["default"]["OPTIONS"]["timeout"] * 1000


@pytest.mark.django_db
def test_a_folder_that_cannot_be_moved_keeps_its_row_and_stops_nobody(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    job = jobs.job()
    stuck = ended(job, ago=200 * DAY, id=3_001)
    old = ended(job, ago=150 * DAY, id=4_001)
    ended(job)
    bucket = stuck.folder.parent
    with TemporaryDirectory(dir=elsewhere) as folder:
        # A folder of another file system can be moved no more than one without permission.
        shutil.move(bucket, Path(folder, "bucket"))
        bucket.symlink_to(Path(folder, "bucket"))
        tidied()

        assert kept(stuck, old) == [True, False]

        bucket.unlink()
    tidied()
    assert kept(stuck) == [False]


@pytest.mark.django_db
def test_a_disk_that_fails_is_tried_again_later() -> None:
    blocked = settings.RUNS_DIR / ".doomed"
    blocked.write_text("in the way")
    tidier = Tidier()

    assert tidier.step(NOON) == retention.AFTER_TROUBLE

    blocked.unlink()
    assert tidier.step(NOON) == QUIET


STEPS = """
import os, sys
import django
from django.conf import settings
from pathlib import Path
from tempfile import TemporaryDirectory
django.setup()
settings.RUNS_DIR = Path(sys.argv[1])
from daemon_app import retention
from tests.jobs import NOON
print("begun", flush=True)
while retention.step(NOON) != retention.QUIET:
    pass
print("done", flush=True)
"""


@pytest.fixture
def _many() -> None:
    job = jobs.job(keep_output_mb=1)
    for n in range(400):
        ended(job, ago=DAY * (n < 250) * 100, mb=1, attempt=2)
        if n % 10 == 0:
            run = Run.objects.latest("pk")
            Attempt.objects.create(run=run, number=1, fence=1, state="failed", ended_at=NOON)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_many")
def test_whenever_it_is_killed_the_next_one_finishes(tmp_path: Path) -> None:
    env = os.environ | {"DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}"}
    rng = random.Random(7)
    connection.close()
    killed = 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", STEPS, str(settings.RUNS_DIR)],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            process.wait(rng.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        done = process.stdout.read() == "done\n"
        process.wait()
        process.stdout.close()
        if done:
            break

    tidied()

    assert killed >= 2
    runs = list(Run.objects.order_by("pk"))
    assert len(runs) == 150
    assert [run.output_removed for run in runs] == [True] * 149 + [False]
    assert [run.folder.exists() for run in runs] == [False] * 149 + [True]
    assert {folder.name for folder in settings.RUNS_DIR.glob("*/*")} == {str(runs[-1].pk)}
    assert Attempt.objects.exclude(run__in=runs).count() == 0

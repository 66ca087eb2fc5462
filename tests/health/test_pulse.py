"""The health tick in its threads: on its grid, kept later if it must be, gone when told so."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from daemon_app import doorbell, journal, monitor, pulse, scheduler, skills
from daemon_app.checks import Check, Context
from daemon_app.demo import GpuService
from daemon_app.doorbell import Bell
from daemon_app.models import Policy, Run, Snapshot
from daemon_app.monitor import Tick
from daemon_app.pulse import Pulse
from daemon_app.readings import Reading, State
from tests.jobs import job
from tests.service import Service, until

HOST = "here"

pytestmark = pytest.mark.django_db(transaction=True)


class Sentry:
    """What stands for the sentry: it takes readings, and knows whether it is idle."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Reading]] = []
        self.state = self
        self.idle = True

    def readings(self, readings: dict[str, Reading]) -> None:
        self.taken.append(readings)


@pytest.fixture
def runtime(tmp_path: Path, settings) -> Path:
    settings.EXPORTS_DIR = tmp_path / "exports"
    runtime = tmp_path / "s"
    runtime.mkdir(mode=0o700)
    return runtime


@pytest.fixture
def take(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pulse]]:
    """Return how a pulse is started; it is closed afterwards."""
    monkeypatch.setattr(pulse, "RETRY", 0.05)
    started: list[Pulse] = []

    def start(*, period: float = 60.0, **more) -> Pulse:
        more.setdefault("checks", {"disk": Check("disk", well, 5.0)})
        beat = Pulse(host=HOST, runtime=runtime, period=period, **more)
        started.append(beat)
        beat.start()
        return beat

    yield start
    for beat in started:
        beat.close()


def well(_context: Context) -> Reading:
    return Reading("disk", State.OK, 50.0, "disk_ok", {"free_mb": 50_000})


def journal_lines() -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in journal.path().read_text().splitlines()]
    except FileNotFoundError:
        return []


# ── The first tick ───────────────────────────────────────────────────────────────────────────────
def test_the_first_tick_is_at_the_start_and_told_everywhere(take, runtime: Path) -> None:
    live = doorbell.runtime_dir(settings.DATA_DIR)
    sentry = Sentry()
    with Bell(runtime, "runner") as runner, Bell(live, "live-health-test") as page:
        take(sentry=sentry)
        snapshot = until(Snapshot.objects.first, "the first tick")
        told = until(runner.drain, "the runner's bell")
        topics = until(page.drain, "the pages' bell")

    assert (snapshot.host, snapshot.values, snapshot.idle) == (HOST, {"disk": 50.0}, 1.0)
    assert json.loads(told[0]) == {"op": "conditions"}
    assert "health" in json.loads(topics[0])
    assert sentry.taken[0]["disk"].value == 50.0
    (line,) = until(journal_lines)
    assert (line["skill"], line["level"]) == ("health_check", "info")
    assert line["data"]["checks"]["disk"] == {"state": "ok", "value": 50.0}


def test_whoever_rings_gets_a_tick_by_the_rules_of_now(take, runtime: Path) -> None:
    seen: list[int] = []

    def note(context: Context) -> Reading:
        seen.append(context.policy.slow_ms)
        return Reading("x", State.OK)

    take(checks={"x": Check("x", note, 5.0)})
    until(lambda: Snapshot.objects.count() == 1)
    Policy(pk=1, slow_ms=77).store(now=timezone.now(), by="anna")

    doorbell.ring(runtime, "pulse", b"nonsense")
    doorbell.ring(runtime, "pulse", b'{"op": "tick"}')

    until(lambda: Snapshot.objects.count() == 2, "the second tick")
    assert seen[-1] == 77


def test_a_tick_shortly_before_a_restart_is_what_the_first_is_compared_with(
    take, monkeypatch
) -> None:
    before = {"disk": Reading("disk", State.LOW, 5.0)}
    monitor.store(HOST, [monitor.Tick(timezone.now() - timedelta(minutes=1), before)])
    compared: list[object] = []

    def note(_readings, previous, *, idle, now) -> None:
        compared.append((previous, idle))

    monkeypatch.setattr(skills, "after_tick", note)
    take()
    until(lambda: compared)

    assert compared == [(before, None)]


def test_changed_rules_are_looked_at_at_once() -> None:
    with Bell(doorbell.runtime_dir(settings.DATA_DIR), "pulse") as bell:
        Policy(pk=1, disk_low_gb=5).store(now=timezone.now(), by="anna")
        assert bell.drain() == [b'{"op": "tick"}']


# ── On the grid ──────────────────────────────────────────────────────────────────────────────────
def test_ticks_go_on_while_a_check_hangs(take) -> None:
    go = threading.Event()

    def hang(_context: Context) -> Reading:
        go.wait(60)
        return Reading("hanging", State.OK)

    hanging = {"hanging": Check("hanging", hang, 60.0), "disk": Check("disk", well, 5.0)}
    beat = take(period=0.2, checks=hanging)
    until(lambda: len(beat.beats) >= 5)
    threads = [t.name for t in threading.enumerate() if t.name == "check-hanging"]

    # Had a tick waited for it, there would be one at most.
    assert not go.is_set()
    assert threads == ["check-hanging"]
    until(lambda: Snapshot.objects.count() >= 5)
    states = Snapshot.objects.values_list("states", flat=True)
    assert all(state == {"hanging": "unknown", "disk": "ok"} for state in states)
    go.set()


def test_each_tick_is_planned_on_the_grid_of_the_first(take, monkeypatch) -> None:
    planned: list[float] = []
    real = Pulse._tick

    def note(self: Pulse, at: float | None, due: float) -> None:
        assert at is not None
        planned.append(at)
        real(self, at, due)

    monkeypatch.setattr(Pulse, "_tick", note)
    take(period=0.05)
    until(lambda: len(planned) >= 10)

    steps = [(at - planned[0]) / 0.05 for at in planned]
    assert steps == pytest.approx([round(step) for step in steps], abs=1e-3)
    assert len({round(step) for step in steps}) == len(steps)


def test_an_error_in_the_sentry_is_one_tick_s_and_no_more(take) -> None:
    sentry = Sentry()

    def stumble(readings: dict[str, Reading]) -> None:
        Sentry.readings(sentry, readings)
        if len(sentry.taken) == 1:
            raise RuntimeError("stumbled")

    sentry.readings = stumble  # type: ignore[method-assign]
    beat = take(period=0.1, sentry=sentry)

    until(lambda: len(beat.beats) >= 3)
    until(Snapshot.objects.count)


# ── The database ─────────────────────────────────────────────────────────────────────────────────
def test_a_locked_database_delays_rows_alone_and_none_is_lost(take, monkeypatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.05)
    path = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        beat = take(period=0.1)
        until(lambda: len(beat.beats) >= 8, "ticks beside the lock")
        other.execute("ROLLBACK")
        taken = len(beat.beats)

    until(lambda: Snapshot.objects.count() >= taken, "the rows of that time")
    rows = list(Snapshot.objects.order_by("at").values_list("at", flat=True))
    assert len(set(rows)) == len(rows)


def test_a_database_that_fails_is_told_once_and_what_waits_is_bounded(
    take, monkeypatch, caplog
) -> None:
    broken = threading.Event()
    broken.set()
    real = monitor.store
    monkeypatch.setattr(pulse, "UNWRITTEN", 5)

    def store(host: str, ticks: list[monitor.Tick]) -> None:
        if broken.is_set():
            raise OperationalError("database or disk is full")
        real(host, ticks)

    monkeypatch.setattr(monitor, "store", store)
    beat = take(period=0.05)
    until(lambda: len(beat.beats) >= 12)
    waiting = len(beat._scribe._unwritten)
    broken.clear()
    until(lambda: Snapshot.objects.count() >= 5)

    assert waiting <= 5
    told = [r for r in caplog.records if "written down later" in r.getMessage()]
    assert len(told) == 1
    assert Snapshot.objects.count() < len(beat.beats) + 1


def test_a_tick_that_the_database_never_takes_keeps_no_other_back(take, monkeypatch) -> None:
    store = monitor.store

    def refuse(host: str, batch: list[Tick]) -> None:
        if any(each.at == refused for each in batch):
            raise DataError("unsupported Unicode escape sequence")
        store(host, batch)

    now = timezone.now()
    refused = now + timedelta(seconds=1)
    monkeypatch.setattr(monitor, "store", refuse)
    beat = take()
    until(Snapshot.objects.first, "the first tick")

    for n in range(3):
        beat._scribe.take(
            Tick(now + timedelta(seconds=n), {"disk": Reading("disk", State.OK, 50.0)})
        )

    until(lambda: Snapshot.objects.count() == 3, "the two others")
    assert not Snapshot.objects.filter(at=refused).exists()


def test_the_journal_is_written_although_the_database_takes_nothing(take, monkeypatch) -> None:
    def store(_host: str, _ticks: list[monitor.Tick]) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(monitor, "store", store)
    take(period=0.1)

    until(lambda: len(journal_lines()) >= 3)
    assert not Snapshot.objects.exists()


def test_history_is_kept_small_in_passing(take, monkeypatch) -> None:
    monkeypatch.setattr(pulse, "TIDY_EVERY", 0.0)
    old = timezone.now() - timedelta(days=3)
    reading = {"disk": Reading("disk", State.OK, 50.0)}
    every = timedelta(seconds=30)
    monitor.store(HOST, [monitor.Tick(old + n * every, reading) for n in range(300)])

    take()

    until(lambda: not Snapshot.objects.of_ticks().filter(at__lt=old + timedelta(days=1)).exists())
    assert sum(Snapshot.objects.filter(span=300).values_list("ticks", flat=True)) == 300


def test_nothing_is_deleted_by_a_doubtful_clock(take, monkeypatch) -> None:
    monkeypatch.setattr(pulse, "TIDY_EVERY", 0.0)
    old = timezone.now() - timedelta(days=3)
    monitor.store(HOST, [monitor.Tick(old, {"disk": Reading("disk", State.OK, 50.0)})])
    beat = take(may_tidy=lambda: False)

    until(lambda: Snapshot.objects.filter(span=3600).exists())
    until(lambda: beat._scribe._tidy_at is None)
    assert Snapshot.objects.of_ticks().filter(at=old).exists()


# ── Skills ───────────────────────────────────────────────────────────────────────────────────────
def test_a_skill_that_is_due_is_started(take, monkeypatch) -> None:
    of_skill = job("look", now=timezone.now())
    why = skills.Due("tick")
    monkeypatch.setattr(skills, "install", lambda _now: [])
    monkeypatch.setattr(skills, "due", lambda *_args: [(of_skill, why)])
    take()

    run = until(Run.objects.first)
    assert (run.job_id, run.trigger, run.started_by) == (of_skill.pk, Run.Trigger.TICK, "")


def test_a_skill_that_can_t_be_started_keeps_no_row_back(take, monkeypatch, caplog) -> None:
    def fail(*_args, **_wishes) -> None:
        raise ValueError("no")

    monkeypatch.setattr(skills, "install", lambda _now: [])
    monkeypatch.setattr(skills, "due", lambda *_args: [(None, None)])
    monkeypatch.setattr(scheduler, "start", fail)
    take(period=0.1)

    until(lambda: Snapshot.objects.count() >= 3)
    assert len([r for r in caplog.records if "a part of the health tick" in r.getMessage()]) == 1


# ── The end ──────────────────────────────────────────────────────────────────────────────────────
def test_closing_does_not_wait_for_a_check_that_hangs(take) -> None:
    go, begun = threading.Event(), threading.Event()

    def hang(_context: Context) -> Reading:
        begun.set()
        go.wait(60)
        return Reading("hanging", State.OK)

    beat = take(checks={"hanging": Check("hanging", hang, 60.0)})
    begun.wait(20)

    beat.close()

    assert not go.is_set()
    assert not beat._thread.is_alive()
    assert not beat._scribe._thread.is_alive()
    assert not (Path(beat._runtime) / "pulse.sock").exists()
    go.set()


def test_the_daemon_takes_ticks_and_stops_although_a_service_hangs() -> None:
    with GpuService() as gpu:
        gpu.mode("hang")
        service = Service(BACH_TICK_SECONDS="30", GPU_SERVICE_URL=gpu.url)
        service.start()
        try:
            until(lambda: gpu.requests, "the first question")
            assert service.stop() == 0
        finally:
            service.close()

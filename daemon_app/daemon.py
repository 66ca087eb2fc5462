"""The beat: one loop that sleeps until something is due or somebody rings."""

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from daemon_app import doorbell, live, scheduler
from daemon_app.models import Node
from daemon_app.models.node import HEARTBEAT
from daemon_app.runner import Runner

log = logging.getLogger(__name__)

SWEEP_EVERY = 10.0  # seconds
LONGEST_SLEEP = 30.0  # seconds: a changed clock is noticed by then
AFTER_AN_ERROR = 1.0  # seconds


class Beat:
    """The daemon of a host: the schedule, the sweep, the heartbeat and the runner in one thread."""

    def __init__(self, *, data_dir: Path, max_parallel: int) -> None:
        self.host = socket.gethostname()
        self.runtime = doorbell.runtime_dir(data_dir)
        self.bell = doorbell.Bell(self.runtime, "beat")
        self.runs = doorbell.Bell(self.runtime, "runner")
        self.runner = Runner(host=self.host, runtime=self.runtime, max_parallel=max_parallel)
        self._stopping = False
        self._tick_at = 0.0
        self._sweep_at = 0.0
        self._heartbeat_at = 0.0

    def run(self, ready: Callable[[], None]) -> int:
        """Beat until SIGTERM or SIGINT; return 0. Running commands go on without us.

        `ready` is called once, when what ran before has been adopted.
        """
        told, wakeup = socket.socketpair()
        told.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._announce()
        self.runner.adopt()
        log.info("the daemon is running on %s (process %s)", self.host, os.getpid())
        ready()
        listening = [self.bell.fileno(), self.runs.fileno(), told.fileno()]
        messages: list[bytes] = []
        while not self._stopping:
            try:
                messages = self._turn(messages)
            except DatabaseError:
                log.exception("the database did not answer; trying again")
                messages = []
                time.sleep(AFTER_AN_ERROR)
                close_old_connections()
            except Exception:
                log.exception("a beat failed; going on")
                messages = []
                time.sleep(AFTER_AN_ERROR)
            if messages:
                continue
            rung, _, _ = select.select(listening, [], [], self._patience())
            if self.bell.fileno() in rung:
                self.bell.drain()
                self._tick_at = 0.0
            if self.runs.fileno() in rung:
                messages = self.runs.drain()
        self._farewell()
        return 0

    def _turn(self, messages: list[bytes]) -> list[bytes]:
        """Do what is due now; return messages for the runner that came in the meantime."""
        self.runner.turn(messages)
        now = time.time()
        if now >= self._tick_at:
            self._tick()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            scheduler.sweep(timezone.now())
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + HEARTBEAT.total_seconds()
            Node.objects.filter(host=self.host).update(seen_at=timezone.now())
        return self.runs.drain()

    def _tick(self) -> None:
        now = timezone.now()
        done = scheduler.tick(now)
        if done >= scheduler.PER_TICK:
            return  # more are due; the runner gets its turn between
        wake = scheduler.next_wake(timezone.now())
        self._tick_at = wake.timestamp() if wake else float("inf")

    def _patience(self) -> float:
        now = time.time()
        wake = min(self._tick_at, self._sweep_at, self._heartbeat_at, self.runner.wake_at())
        return min(max(wake - now, 0.0), LONGEST_SLEEP)

    def _stop(self, _signum: int, _frame: object) -> None:
        self._stopping = True

    def _announce(self) -> None:
        now = timezone.now()
        Node.objects.update_or_create(
            host=self.host,
            defaults={"pid": os.getpid(), "started_at": now, "seen_at": now, "stopped_at": None},
        )
        live.changed("daemon")

    def _farewell(self) -> None:
        self.runner.close()
        Node.objects.filter(host=self.host, pid=os.getpid()).update(
            stopped_at=datetime.now(UTC), seen_at=datetime.now(UTC)
        )
        live.changed("daemon")
        self.bell.close()
        self.runs.close()
        log.info("the daemon has stopped; running commands go on")


def run(ready: Callable[[], None] = lambda: None) -> int:
    """Run this host's daemon until it is told to stop; return its exit code."""
    return Beat(data_dir=settings.DATA_DIR, max_parallel=settings.MAX_PARALLEL).run(ready)

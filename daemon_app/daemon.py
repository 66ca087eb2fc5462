"""The beat: one loop that sleeps until something is due or somebody rings."""

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
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

    def __init__(self, *, data_dir: Path, max_parallel: int | None = None) -> None:
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
            # Each for itself: a runner in trouble must not hold up the schedule.
            self._guarded(partial(self.runner.turn, messages))
            self._guarded(self._beat)
            messages = self.runs.drain()
            if messages:
                continue
            rung, _, _ = select.select(listening, [], [], self._patience())
            if self.bell.fileno() in rung:
                self.bell.drain()
                self._tick_at = 0.0
            if self.runs.fileno() in rung:
                messages = self.runs.drain()
        self._farewell()
        signal.set_wakeup_fd(-1)
        told.close()
        wakeup.close()
        return 0

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except DatabaseError:
            log.exception("the database did not answer; trying again")
            time.sleep(AFTER_AN_ERROR)
            close_old_connections()
        except Exception:
            log.exception("a beat failed; going on")
            time.sleep(AFTER_AN_ERROR)

    def _beat(self) -> None:
        """Write what is due; now and then send again what was lost, and say that we live."""
        if time.time() >= self._tick_at:
            self._tick()
        clock = time.monotonic()
        if clock >= self._sweep_at:
            self._sweep_at = clock + SWEEP_EVERY
            # Nobody has heard of them: the cluster may be deaf, our own runner is not.
            self.runner.expect(scheduler.sweep(timezone.now(), self.runner.waiting))
        if clock >= self._heartbeat_at:
            self._heartbeat_at = clock + HEARTBEAT.total_seconds()
            Node.objects.filter(host=self.host).update(seen_at=timezone.now())

    def _tick(self) -> None:
        now = timezone.now()
        done = scheduler.tick(now)
        if done >= scheduler.PER_TICK:
            return  # more are due; the runner gets its turn between
        wake = scheduler.next_wake(timezone.now())
        self._tick_at = wake.timestamp() if wake else float("inf")

    def _patience(self) -> float:
        clock = time.monotonic()
        waits = [
            self._tick_at - time.time(),
            self._sweep_at - clock,
            self._heartbeat_at - clock,
            self.runner.patience(),
            LONGEST_SLEEP,
        ]
        return max(min(waits), 0.0)

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
    return Beat(data_dir=settings.DATA_DIR).run(ready)

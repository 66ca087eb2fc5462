"""The beat: one loop that sleeps until something is due or somebody rings."""

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, OperationalError, close_old_connections, connection

from daemon_app import doorbell, live, retention, scheduler, witness
from daemon_app.alarms import BEAT, Board
from daemon_app.clock import Clock
from daemon_app.database import Checkpointer
from daemon_app.models import Node
from daemon_app.models.node import HEARTBEAT
from daemon_app.presence import Sentry
from daemon_app.pulse import Pulse
from daemon_app.runner import Runner, run_token
from daemon_app.watchdog import Watchdog

log = logging.getLogger(__name__)

SWEEP_EVERY = 10.0  # seconds
LONGEST_SLEEP = 30.0  # seconds: a changed clock is noticed by then
AFTER_AN_ERROR = 1.0  # seconds
PROBE = 2.0  # seconds between heartbeats while the database takes none
QUIET = 1.0  # seconds without anything to do that a checkpoint may use
# systemd and `bach up` may both tell us to stop, one right after the other: that is one wish.
ONE_WISH = 1.0  # seconds
# Our own wait for a locked database, instead of the pages' 20 s: the beat comes round, is told to
# stop, and sees that it is locked; what it could not write is written later.
BUSY_TIMEOUT = 5.0  # seconds
SLOW = 1.0  # seconds: such a step may have waited for the database, and that is tried out
# A run is asked to make way in some twenty system calls. After each the sentry's thread waits
# for the beat's to let it go on: Python's own 5 ms are too long for that.
SWITCH_INTERVAL = 0.001  # seconds
ENDS_WITHIN = 90.0  # seconds that commands have to end once they are told to


def _nothing() -> None:
    return


class Beat:
    """The daemon of a host: the schedule, the sweep, the heartbeat and the runner in one thread.

    The health tick has threads of its own: see `pulse`.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        max_parallel: int | None = None,
        clock: Clock | None = None,
        alive: Callable[[], None] = _nothing,
    ) -> None:
        self.host = socket.gethostname()
        self.clock = clock or Clock()
        self.runtime = doorbell.runtime_dir(data_dir)
        self.bell = doorbell.Bell(self.runtime, "beat")
        self.runs = doorbell.Bell(self.runtime, "runner")
        self.board = Board(self.runtime)
        self.runner = Runner(host=self.host, runtime=self.runtime, max_parallel=max_parallel)
        self.sentry = Sentry(
            host=self.host, runtime=self.runtime, clock=self.clock, token=run_token()
        )
        self.runner.sentry = self.sentry
        self.watchdog = Watchdog(
            board=self.board, data_dir=data_dir, runner=self.runner, clock=self.clock
        )
        self.pulse = Pulse(
            host=self.host,
            runtime=self.runtime,
            clock=self.clock,
            sentry=self.sentry,
            may_tidy=lambda: self._may_tidy,
        )
        self._checkpointer = (
            Checkpointer(Path(connection.settings_dict["NAME"]))
            if connection.vendor == "sqlite" and settings.ONE_CHECKPOINTER
            else None
        )
        self._alive = alive
        self._stopping = False
        self._wishes: list[float] = []  # when we were told to stop
        self._ending_since: float | None = None  # commands were told to end
        self._tick_at = 0.0
        self._sweep_at = 0.0
        self._heartbeat_at = 0.0
        self._tidy_at = 0.0

    def run(self, ready: Callable[[], None]) -> int:
        """Beat until SIGTERM or SIGINT; return 0. Running commands go on without us, or are ended.

        `ready` is called once, when what ran before has been adopted.
        """
        told, wakeup = socket.socketpair()
        told.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.watchdog.begin()
        # Before we say that we are here: until when the last daemon was is to be read.
        self.sentry.start()
        # What is too late is given up before we say that we are here: it counts from then on.
        self._guarded(self._look_around)
        self._announce()
        self.runner.adopt()
        self.pulse.start()
        log.info("the daemon is running on %s (process %s)", self.host, os.getpid())
        ready()
        listening = [self.bell.fileno(), self.runs.fileno(), told.fileno()]
        messages: list[bytes] = []
        while not self._stopping:
            self._turn(messages)
            messages = self.runs.drain()
            if messages:
                continue
            rung, _, _ = select.select(listening, [], [], self._patience())
            if told.fileno() in rung:
                told.recv(64)
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

    def _turn(self, messages: list[bytes]) -> None:
        # Each for itself: a runner in trouble must not hold up the schedule. The clock first: what
        # a sleep has made too late must not start.
        self._guarded(self._look_around)
        self._guarded(partial(self.runner.turn, messages))
        self._guarded(self._beat)
        if self.clock.mono() >= self._tidy_at and self._may_tidy:
            self._guarded(self._tidy)

    def _guarded(self, step: Callable[[], None]) -> None:
        self._alive()
        begun = self.clock.mono()
        try:
            step()
        except Exception as error:
            if isinstance(error, OperationalError) and self.watchdog.is_in_trouble:
                log.warning("the database still does not answer: %s", error)
            else:
                log.exception("a step of the beat failed; going on")
            self.watchdog.failed(error, begun)
            time.sleep(AFTER_AN_ERROR)
            if isinstance(error, DatabaseError):
                close_old_connections()
        took = self.clock.mono() - begun
        if took > SLOW:
            self.watchdog.waited(begun, took)
            self._heartbeat_at = 0.0

    def _look_around(self) -> None:
        if self.watchdog.look():
            self._tick_at = 0.0
            self.sentry.look()
        if self._wishes:
            self._see_to_the_end()

    def _beat(self) -> None:
        """Write what is due; now and then send again what was lost, and say that we live."""
        may_tick = not self._wishes and not self.watchdog.holds_schedule
        if may_tick and self.clock.wall() >= self._tick_at:
            self._tick()
        clock = self.clock.mono()
        if clock >= self._sweep_at:
            self._sweep_at = clock + SWEEP_EVERY
            self._tick_at = 0.0  # a bell may have been lost
            # Nobody has heard of them: the cluster may be deaf, our own runner is not.
            self.runner.expect(scheduler.sweep(self.clock.now(), self.runner.waiting))
        # What the runner could not write it tries again by itself; whether it is the database's
        # fault is found out here.
        trouble = self.watchdog.is_in_trouble or self.runner.unwritten > 0
        if clock >= self._heartbeat_at or trouble:
            self._heartbeat_at = clock + (PROBE if trouble else HEARTBEAT.total_seconds())
            Node.objects.filter(host=self.host).update(seen_at=self.clock.now())
            self.watchdog.written()
        if self._checkpointer:
            self._checkpointer.step(quiet=self._patience() > QUIET)

    @property
    def _may_tidy(self) -> bool:
        return not self._wishes and self.watchdog.may_tidy

    def _tidy(self) -> None:
        pause = retention.step(self.clock.now())
        self._tidy_at = self.clock.mono() + pause
        if pause >= retention.QUIET:
            witness.note(self.clock.now())

    def _tick(self) -> None:
        now = self.clock.now()
        done = scheduler.tick(now)
        if done >= scheduler.PER_TICK:
            return  # more are due; the runner gets its turn between
        wake = scheduler.next_wake(self.clock.now())
        self._tick_at = wake.timestamp() if wake else float("inf")

    def _patience(self) -> float:
        clock = self.clock.mono()
        waits = [
            self._sweep_at - clock,
            self._heartbeat_at - clock,
            self.watchdog.patience(),
            self.runner.patience(),
            LONGEST_SLEEP,
        ]
        if self._wishes:
            waits.append(AFTER_AN_ERROR)
        elif not self.watchdog.holds_schedule:
            waits.append(self._tick_at - self.clock.wall())
        if self._may_tidy:
            waits.append(self._tidy_at - clock)
        return max(min(waits), 0.0)

    # ── The stop ─────────────────────────────────────────────────────────────────────────────────
    def _stop(self, _signum: int, _frame: object) -> None:
        self._wishes.append(self.clock.mono())
        if settings.ON_STOP == "leave":
            self._stopping = True

    def _see_to_the_end(self) -> None:
        """Start nothing more; give commands their time, then end them, then go in any case.

        A second wish to stop means that their time is over.
        """
        self.runner.draining = True
        now, first = self.clock.mono(), self._wishes[0]
        over = max(now - first - settings.DRAIN_SECONDS, 0.0)
        hurried = any(wish - first > ONE_WISH for wish in self._wishes)
        if not self.runner.running or over > ENDS_WITHIN:
            self._stopping = True
        elif self._ending_since is None and (over or hurried):
            self.runner.stop_all("service_stop")
            self._ending_since = now
        elif self._ending_since is not None and now - self._ending_since > ENDS_WITHIN:
            self._stopping = True

    def _announce(self) -> None:
        now = self.clock.now()
        Node.objects.update_or_create(
            host=self.host,
            defaults={"pid": os.getpid(), "started_at": now, "seen_at": now, "stopped_at": None},
        )
        live.changed("daemon")

    def _farewell(self) -> None:
        self.pulse.close()
        try:
            self.runner.close()
            now = self.clock.now()
            Node.objects.filter(host=self.host, pid=os.getpid()).update(stopped_at=now, seen_at=now)
            live.changed("daemon")
        except DatabaseError:
            log.exception("the stop could not be recorded")
        self.sentry.close()
        self.board.clear(*BEAT)
        if self._checkpointer:
            self._checkpointer.close()
        self.bell.close()
        self.runs.close()
        log.info("the daemon has stopped")


def run(ready: Callable[[], None] = _nothing, alive: Callable[[], None] = _nothing) -> int:
    """Run this host's daemon until it is told to stop; return its exit code.

    `alive` is called with every step of the beat.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    if connection.vendor == "sqlite":
        connection.close()
        connection.settings_dict["OPTIONS"]["timeout"] = BUSY_TIMEOUT
    return Beat(data_dir=settings.DATA_DIR, alive=alive).run(ready)

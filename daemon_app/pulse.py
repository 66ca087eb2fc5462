"""The health tick: every 30 s the checks, on a beat of its own that nothing holds up.

Two threads of the daemon's process. The *pulse* takes the readings and touches no database. The
*scribe* writes them down, tells of them and starts the skills that are due; should the database be
locked or the disk be full, readings wait there in memory.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import DatabaseError, DataError, connections

from daemon_app import doorbell, monitor, scheduler, skills
from daemon_app.checks import CHECKS, Check, Context
from daemon_app.checks.lookout import Lookout
from daemon_app.clock import Clock
from daemon_app.models import Policy, Run, Snapshot
from daemon_app.monitor import Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from daemon_app.presence import Sentry
    from daemon_app.readings import Reading

log = logging.getLogger(__name__)

BELL: Final = "pulse"
MARGIN: Final = 0.1  # of a period, but at most MARGIN_AT_MOST, in which no check is waited for
MARGIN_AT_MOST: Final = 0.5  # seconds
SOON: Final = 2.0  # seconds; who asks for a tick so shortly before one gets that one
REFRESHED_WITHIN: Final = 0.5  # seconds that a tick that was asked for waits for the rules
UNWRITTEN: Final = 240  # ticks kept in memory while the database takes none
PER_WRITE: Final = 20
RETRY: Final = 2.0  # seconds after the database failed
TIDY_EVERY: Final = 0.2  # seconds between two small steps, while there is something to do
TREND_EVERY: Final = 600.0  # seconds
RECENT: Final = timedelta(minutes=10)  # a tick before a restart with which the first is compared
CLOSES_WITHIN: Final = 0.5  # seconds for each thread


@dataclass(frozen=True, slots=True)
class Beat:
    """How a tick went, in seconds: how late it began, how long it took, and its CPU time.

    `late` is None for one that was asked for.
    """

    late: float | None
    took: float
    cpu: float


class Pulse:
    """Takes a tick at once, then one every `period` seconds on a grid of its own.

    `start` and `close` belong to the daemon's main thread. `beats` tells how the last ticks went.
    """

    def __init__(  # noqa: PLR0913 - what it watches with, and for whom
        self,
        *,
        host: str,
        runtime: Path,
        clock: Clock | None = None,
        sentry: Sentry | None = None,
        may_tidy: Callable[[], bool] = lambda: True,
        checks: Mapping[str, Check] = CHECKS,
        period: float | None = None,
    ) -> None:
        self.host = host
        self.clock = clock or Clock()
        self.beats: deque[Beat] = deque(maxlen=2880)
        self._period = period or float(settings.TICK_SECONDS)
        self._runtime = runtime
        self._sentry = sentry
        self._bell = doorbell.Bell(runtime, BELL)
        self._lookout = Lookout(checks)
        self._scribe = Scribe(host=host, runtime=runtime, clock=self.clock, may_tidy=may_tidy)
        self._scribe.idle = self._idle
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=BELL, daemon=True)

    def start(self) -> None:
        """Take the first tick, and go on."""
        self._scribe.start()
        self._thread.start()

    def close(self) -> None:
        """Stop, within a second or so: a check that hangs is left behind."""
        self._closing = True
        self._lookout.close()
        doorbell.ring(self._runtime, BELL)
        if self._thread.is_alive():
            self._thread.join(CLOSES_WITHIN)
        self._scribe.close()
        self._bell.close()

    def _work(self) -> None:
        self._scribe.refresh(REFRESHED_WITHIN)
        due = self.clock.mono()
        while not self._closing:
            left = due - self.clock.mono()
            if left <= 0:
                planned, due = due, next_on_grid(due, self._period, self.clock.mono())
                self._tick(planned, due)
            elif any(map(is_wish, self._bell.wait(left))) and self._has_time(due):
                self._scribe.refresh(REFRESHED_WITHIN)
                self._tick(None, due)

    def _has_time(self, due: float) -> bool:
        return not self._closing and due - self.clock.mono() >= SOON + REFRESHED_WITHIN

    def _tick(self, planned: float | None, due: float) -> None:
        """Take a tick that was planned for then, None for now, and be done before `due`."""
        begun, cpu = self.clock.mono(), time.thread_time()
        context = replace(self._scribe.context, now=self.clock.now())
        try:
            readings = self._lookout.look(context, patience(due - begun, self._period))
            if not readings:
                return
            if self._sentry is not None:
                self._sentry.readings(readings)
            self._scribe.take(Tick(context.now, readings))
        except Exception:
            log.exception("a health tick failed; going on")
        late = None if planned is None else begun - planned
        took = self.clock.mono() - begun
        self.beats.append(Beat(late, took, time.thread_time() - cpu))

    def _idle(self) -> bool | None:
        return None if self._sentry is None else self._sentry.state.idle


def next_on_grid(due: float, period: float, now: float) -> float:
    """Return the first instant of the grid through `due` that is still to come.

    >>> next_on_grid(100.0, 30.0, 100.2), next_on_grid(100.0, 30.0, 190.0)
    (130.0, 220.0)
    """
    return due + period * (max(int((now - due) // period), 0) + 1)


def patience(left: float, period: float) -> float:
    """Return for how many seconds checks are waited for, `left` seconds before the next tick.

    >>> patience(30.0, 30.0), patience(1.0, 1.0)
    (29.5, 0.9)
    """
    return max(left - min(MARGIN * period, MARGIN_AT_MOST), 0.0)


def is_wish(message: bytes) -> bool:
    """Return whether somebody asks for a tick now.

    >>> is_wish(b'{"op": "tick"}'), is_wish(b""), is_wish(b'["tick"]')
    (True, False, False)
    """
    try:
        told: Any = json.loads(message)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("op") == "tick"


class Scribe:
    """Writes down what the pulse has found, in a thread of its own.

    `context` is what the next tick goes by; it is replaced as a whole.
    """

    def __init__(
        self, *, host: str, runtime: Path, clock: Clock, may_tidy: Callable[[], bool]
    ) -> None:
        self.context = Context(clock.now(), Policy(), runtime)
        self.idle: Callable[[], bool | None] = lambda: None
        self._host = host
        self._runtime = runtime
        self._clock = clock
        self._may_tidy = may_tidy
        self._news = threading.Condition()
        self._taken: deque[Tick] = deque(maxlen=UNWRITTEN)  # by the pulse, not yet looked at
        self._asked = self._answered = 0
        self._closing = False
        self._unwritten: deque[Tick] = deque(maxlen=UNWRITTEN)
        self._previous: dict[str, Reading] | None = None
        self._remembers = self._has_skills = False
        self._complaint = ""
        self._retry_at: float | None = None  # None: all is written
        self._tidy_at: float | None = None  # None: until the next tick nothing is to be tidied
        self._trend_at = 0.0
        self._thread = threading.Thread(target=self._work, name="scribe", daemon=True)

    # ── For the pulse ────────────────────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def take(self, tick: Tick) -> None:
        """Have a tick written down; waits for nobody."""
        with self._news:
            self._taken.append(tick)
            self._news.notify_all()

    def refresh(self, within: float) -> None:
        """Have the rules read anew, and wait for that for `within` seconds."""
        with self._news:
            self._asked += 1
            wanted = self._asked
            self._news.notify_all()
            self._news.wait_for(lambda: self._answered >= wanted or self._closing, within)

    def close(self) -> None:
        """Stop when what is being done is done; a database that is locked is not waited for."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        if self._thread.is_alive():
            self._thread.join(CLOSES_WITHIN)

    # ── The thread ───────────────────────────────────────────────────────────────────────────────
    def _work(self) -> None:
        while not self._closing:
            with self._news:
                self._news.wait_for(self._is_wanted, self._patience())
                asked, taken = self._asked, list(self._taken)
                self._taken.clear()
            self._turn(taken)
            with self._news:
                self._answered = asked
                self._news.notify_all()
            if self._tidy_at is None:
                self._let_go()
        self._let_go()

    def _is_wanted(self) -> bool:
        return bool(self._closing or self._taken or self._asked > self._answered)

    def _patience(self) -> float | None:
        waits = [
            at - self._clock.mono() for at in (self._retry_at, self._tidy_at) if at is not None
        ]
        return max(min(waits), 0.0) if waits else None

    def _turn(self, taken: list[Tick]) -> None:
        """Do all that is to be done, each for itself; without the database the rest waits."""
        self._unwritten.extend(replace(tick, idle=self.idle()) for tick in taken)
        steps: list[Callable[[], None]] = [
            self._remember,
            self._read_rules,
            *(partial(self._tell, tick) for tick in taken),
            self._write,
            *(partial(self._see_to_skills, tick) for tick in taken[-1:]),
            partial(self._tidy, at_once=bool(taken)),
        ]
        for step in steps:
            try:
                step()
            except DatabaseError as error:
                if self._retry_at is None:
                    log.warning("what the health tick found is written down later: %s", error)
                self._retry_at = self._clock.mono() + RETRY
                self._tidy_at = None
                self._let_go()
                # The journal is written all the same; what comes after the rows waits for them.
                if step == self._write:
                    return
            except Exception as error:
                # With each tick the same: it is told once.
                if str(error) != self._complaint:
                    log.exception("a part of the health tick failed; going on")
                self._complaint = str(error)

    def _let_go(self) -> None:
        with suppress(DatabaseError):
            connections.close_all()

    def _remember(self) -> None:
        """Know the tick before a restart, so that only changes are told."""
        if not self._remembers:
            now = self._clock.now()
            last = Snapshot.objects.newest(now, self._host)
            if last is not None and now - last.at < RECENT:
                self._previous = last.read()
            self._remembers = True

    def _read_rules(self) -> None:
        self.context = replace(self.context, policy=Policy.current())

    def _tell(self, tick: Tick) -> None:
        previous, self._previous = self._previous, tick.readings
        skills.after_tick(tick.readings, previous, idle=self.idle(), now=tick.at)

    def _write(self) -> None:
        while self._unwritten:
            batch = list(self._unwritten)[:PER_WRITE]
            try:
                monitor.store(self._host, batch)
            except (DataError, ValueError):
                self._write_singly(batch)
            for _ in batch:
                self._unwritten.popleft()
            doorbell.ring(self._runtime, "runner", b'{"op": "conditions"}')
        self._retry_at = None

    def _write_singly(self, batch: list[Tick]) -> None:
        """Write what can be written of a batch; what the database never takes is left out."""
        for tick in batch:
            try:
                monitor.store(self._host, [tick])
            except (DataError, ValueError):
                log.exception("what the tick at %s found can't be written down", tick.at)

    def _see_to_skills(self, tick: Tick) -> None:
        """Start those that are due; before the first time, give each its job."""
        now = self._clock.now()
        if not self._has_skills:
            skills.load()
            skills.install(now)
            self._has_skills = True
        for job, why in skills.due(tick.readings, self.idle(), now):
            log.info("the skill %s is due: %s", job.skill, why.code)
            scheduler.start(job, trigger=Run.Trigger.TICK, by="", now=now)

    def _tidy(self, *, at_once: bool) -> None:
        """Do a little of what keeps the history small: after a tick, and until nothing is left."""
        now, mono = self._clock.now(), self._clock.mono()
        if not at_once and (self._tidy_at is None or mono < self._tidy_at):
            return
        done = monitor.roll_up(self._host, now)
        if not done and self._may_tidy():
            done = monitor.prune(self._host, now)
        if not done and mono >= self._trend_at:
            self._trend_at = mono + TREND_EVERY
            self.context = replace(self.context, filling=monitor.filling(self._host, now))
        self._tidy_at = mono + TIDY_EVERY if done else None

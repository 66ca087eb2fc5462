"""What the beat looks after besides the schedule: clock, disk, database, queue, supervisors.

What is wrong now goes to the alarm board, what happened becomes an incident. Everything here goes
on by itself once its cause is gone; nothing needs a restart.
"""

import logging
import signal
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, OperationalError
from django.utils import timezone

from daemon_app import pidfile, scheduler
from daemon_app.alarms import BEAT, Board
from daemon_app.ballast import MEBIBYTE, Ballast, is_full
from daemon_app.broker import oldest_messages
from daemon_app.clock import STOOD_STILL, Change, Clock, Watch
from daemon_app.models import Incident, Node, Run
from daemon_app.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

LOOK_EVERY = 10.0  # seconds
LOOK_AGAIN = 1.0  # while something is wrong
UNTOLD = 100  # incidents kept while the database takes none
LOCKED_AFTER = 20.0  # seconds; below that it is a delay and nothing more
LONGEST_WAIT = 12.0  # seconds that one step may have waited for the database: a few writes
FAILING_AFTER = 5.0
STEPS_APART = 60.0  # seconds between two incidents about a clock that runs away
BIG_STEP = 60.0  # … which a step of so many seconds need not wait for

# The clock at the start (reliability 1.3).
WRONG_CLOCK = timedelta(hours=3)
HELD_AT_MOST = 300.0  # seconds that starts are held for the time to be set
# Retention deletes by the clock: after a leap of this, or an outage, people get time to see it.
LEAP = 86_400.0  # seconds
DOUBTED_FOR = 3600.0
SURELY_PAST = datetime(2025, 1, 1, tzinfo=UTC)  # this program is younger

# The queue: a message lasts milliseconds there.
SILENT_AFTER = 30.0  # seconds
KILL_AFTER = 5.0  # seconds between asking the cluster to end and ending it
RESTART_APART = 60.0  # seconds


@dataclass
class Trouble:
    """Writes that fail: how, since when on the monotonic clock, and what was said last."""

    code: str
    since: float
    error: str = ""


class Watchdog:
    """Lives in the beat's thread. `look` comes with every turn; most find nothing in microseconds.

    `failed` and `written` are told by the beat what became of its writes.
    """

    def __init__(self, *, board: Board, data_dir: Path, runner: Runner, clock: Clock) -> None:
        self.board = board
        self.clock = clock
        self.ballast = Ballast(data_dir / "ballast")
        self._runner = runner
        self._cluster_file = data_dir / "cluster.pid"
        self._watch = Watch(clock)
        self._untold: deque[Callable[[], object]] = deque(maxlen=UNTOLD)
        self._look_at = 0.0
        self._trouble: Trouble | None = None
        self._slow_since: float | None = None  # the first of steps that waited
        self._waited = 0.0  # seconds since the last look that steps waited
        self._held_since: float | None = None
        self._newest: datetime | None = None  # the newest time recorded before this start
        self._seen_at: datetime | None = None
        self._stepped, self._step_told_at = 0.0, float("-inf")
        self._messages: dict[int, float] = {}  # id in the queue → since when we see it
        self._asked: tuple[pidfile.Holder, float] | None = None
        self._restart_at = 0.0
        self._tidy_from = 0.0  # on the monotonic clock

    # ── What the beat tells and asks ─────────────────────────────────────────────────────────────
    def begin(self) -> None:
        """Judge the clock before anything is recorded by it, and put room by."""
        self.board.clear(*BEAT)
        self._take_ballast()
        node = Node.latest()
        run = Run.objects.order_by("-id").only("queued_at").first()
        self._seen_at = node.seen_at if node else None
        self._newest = max(
            (at for at in (self._seen_at, run and run.queued_at) if at), default=SURELY_PAST
        )
        if self._is_behind() and not self._was_told():
            self._held_since = self.clock.mono()
            log.warning("the clock is before %s; starts are held for it to be set", self._newest)
            self._alarm_clock()
        else:
            self._go_on()

    @property
    def holds_schedule(self) -> bool:
        """Whether nothing may start by itself, because the clock can't be right."""
        return self._held_since is not None

    @property
    def is_in_trouble(self) -> bool:
        """Whether writes failed lately: the beat then tries one more often."""
        return self._trouble is not None

    @property
    def may_tidy(self) -> bool:
        """Whether old runs may go: not by a clock that has just leapt, nor beside a trouble."""
        doubtful = self.holds_schedule or self.clock.mono() < self._tidy_from
        return not doubtful and not self.is_in_trouble

    def patience(self) -> float:
        """Return in how many seconds the next look is wanted."""
        return self._look_at - self.clock.mono()

    def look(self) -> bool:
        """Look at everything that is due; return whether the schedule must be looked at now."""
        changed = self._look_at_clock()
        if self.clock.mono() >= self._look_at:
            self._look_at = self.clock.mono() + LOOK_EVERY
            for check in (self._look_at_disk, self._look_at_supervisors, self._look_at_queue):
                if check():
                    self._look_at = self.clock.mono() + LOOK_AGAIN
        self._tell_what_happened()
        return changed

    def failed(self, error: Exception, since: float) -> None:
        """Hear that a step of the beat, begun at `since` on the monotonic clock, failed."""
        if is_full(error):
            gave = self.ballast.give()
            log.error("the disk is full%s", "; some of the ballast is given up" if gave else "")
            self._alarm_disk()
            self._look_at = 0.0
        elif isinstance(error, DatabaseError):
            locked = "locked" in str(error) or "busy" in str(error)
            code = "database_locked" if locked else "database_failing"
            if self._trouble is None or self._trouble.code != code:
                begun = since if self._slow_since is None else self._slow_since
                self._trouble = Trouble(code, self._trouble.since if self._trouble else begun)
            self._trouble.error = str(error).strip()[:200]
            lasted = self.clock.mono() - self._trouble.since
            if lasted >= (LOCKED_AFTER if locked else FAILING_AFTER):
                self.board.raise_(code, seconds=round(lasted), error=self._trouble.error)

    def waited(self, since: float, seconds: float) -> None:
        """Hear that a step took so long that it may have waited for the database."""
        if self._slow_since is None:
            self._slow_since = since
        # Longer than that it stood still, in the middle of a step.
        self._waited += seconds if seconds <= LONGEST_WAIT else 0.0

    def written(self) -> None:
        """Hear that the database takes writes."""
        self._slow_since = None
        if self._trouble is None:
            return
        lasted = round(self.clock.mono() - self._trouble.since)
        error, self._trouble = self._trouble.error, None
        for alarm in self.board.clear("database_locked", "database_failing"):
            log.warning("%s: over after %s s", alarm.code, lasted)
            self._tell(alarm.code, seconds=lasted, error=error)

    def _tell(self, code: str, level: str = Incident.Level.WARN, **facts: Any) -> None:
        # In the next turn, and again in the one after should the database not take it.
        self._untold.append(
            partial(Incident.note, code, now=self.clock.now(), level=level, **facts)
        )

    def _tell_what_happened(self) -> None:
        while self._untold and self._trouble is None:
            step = self._untold.popleft()
            try:
                step()
            except OperationalError:
                self._untold.appendleft(step)
                raise

    # ── The clock ────────────────────────────────────────────────────────────────────────────────
    def _look_at_clock(self) -> bool:
        changes, waited = self._watch.look(), self._waited
        self._waited = 0.0
        for change in changes:
            if change.code == "stalled" and change.seconds - waited < STOOD_STILL:
                continue  # it waited for the database, and that is told
            if change.code in {"asleep", "stalled"}:
                self._after_a_gap(change)
            else:
                self._stepped += change.seconds
            if change.seconds > LEAP:
                self._tidy_from = self.clock.mono() + DOUBTED_FOR
        self._tell_steps(at_once=any(abs(change.seconds) > BIG_STEP for change in changes))
        released = self.holds_schedule and self._release()
        return bool(changes) or released

    def _after_a_gap(self, change: Change) -> None:
        now, seconds = self.clock.now(), round(change.seconds)
        if change.code == "stalled":
            # Supervisors may have stood still with us, and go on after us.
            self._runner.pardon(change.seconds)
            self._messages.clear()
        log.warning("%s for %s s", change.code, seconds)
        since = now - timedelta(seconds=change.seconds)
        self._untold.append(partial(scheduler.expire, now, since))
        self._tell(change.code, Incident.Level.INFO, seconds=seconds)

    def _tell_steps(self, *, at_once: bool) -> None:
        """Tell that the clock was set; one that runs away is told of once a minute."""
        soon = self.clock.mono() - self._step_told_at < STEPS_APART
        if not self._stepped or (soon and not at_once):
            return
        seconds, self._stepped = self._stepped, 0.0
        self._step_told_at = self.clock.mono()
        log.warning("the clock was set by %.1f s", seconds)
        if abs(seconds) >= 1:
            self._untold.append(partial(scheduler.clock_stepped, seconds, self.clock.now()))

    def _is_behind(self) -> bool:
        now = self.clock.now()
        assert self._newest is not None  # set by `begin`
        return now < SURELY_PAST or self._newest - now > WRONG_CLOCK

    def _was_told(self) -> bool:
        """Return whether this very clock was waited for at an earlier start, in vain."""
        told = Incident.objects.filter(code="clock_behind").order_by("-id").first()
        assert self._newest is not None  # set by `begin`
        return told is not None and told.facts.get("newest") == self._newest.isoformat()

    def _alarm_clock(self) -> None:
        assert self._newest is not None  # set by `begin`
        shown = "%Y-%m-%d %H:%M"
        self.board.raise_(
            "clock_behind",
            now=timezone.localtime(self.clock.now()).strftime(shown),
            newest=timezone.localtime(self._newest).strftime(shown),
            minutes=round(HELD_AT_MOST / 60),
        )

    def _release(self) -> bool:
        assert self._held_since is not None  # the caller asked
        assert self._newest is not None
        held = self.clock.mono() - self._held_since
        behind = self._is_behind()
        if behind and held < HELD_AT_MOST:
            return False
        self._held_since = None
        self.board.clear("clock_behind")
        if behind:
            self._tell("clock_behind", seconds=round(held), newest=self._newest.isoformat())
        self._go_on()
        return True

    def _go_on(self) -> None:
        """Put right what an outage or a wrong clock has left, by a clock that is believed."""
        now = self.clock.now()
        if self._seen_at is not None and (now - self._seen_at).total_seconds() > LEAP:
            self._tidy_from = self.clock.mono() + DOUBTED_FOR
        self._untold.append(partial(scheduler.rebase, now))
        if self._seen_at is not None:
            self._untold.append(partial(scheduler.expire, now, self._seen_at))

    # ── The disk ─────────────────────────────────────────────────────────────────────────────────
    def _look_at_disk(self) -> bool:
        free, low = self.ballast.free(), self.ballast.low()
        if free < low:
            self._alarm_disk()
        # With some distance, or the alarm would come and go.
        if free < low * 3 // 2:
            return True
        for alarm in self.board.clear("disk_full"):
            lasted = round((self.clock.now() - alarm.since).total_seconds())
            self._tell(alarm.code, seconds=max(lasted, 0))
        self._take_ballast()
        return False

    def _alarm_disk(self) -> None:
        self.board.raise_("disk_full", free_mb=self.ballast.free() // MEBIBYTE)

    def _take_ballast(self) -> None:
        try:
            self.ballast.take()
        except OSError as error:
            log.warning("no room could be put by: %s", error)

    # ── The supervisors ──────────────────────────────────────────────────────────────────────────
    def _look_at_supervisors(self) -> bool:
        why = getattr(self._runner.launcher, "_failure", None)
        if why is None:
            self.board.clear("supervisors_failing")
            return False
        self.board.raise_("supervisors_failing", error=why)
        return True

    # ── The queue ────────────────────────────────────────────────────────────────────────────────
    def _look_at_queue(self) -> bool:
        """Have the cluster started anew when it takes nothing from the queue.

        What waits there is started by the sweep meanwhile, which hands it to our own runner.
        """
        now = self.clock.mono()
        # By our own looks: neither a step of the clock nor a standstill makes a message old.
        self._messages = {pk: self._messages.get(pk, now) for pk in oldest_messages()}
        lasted = now - min(self._messages.values(), default=now)
        if lasted < SILENT_AFTER:
            self._asked = None
            self.board.clear("cluster_silent")
            return bool(self._messages)
        self.board.raise_("cluster_silent", seconds=round(lasted))
        self._end_cluster(now, lasted)
        return True

    def _end_cluster(self, now: float, lasted: float) -> None:
        """End the cluster's process; who started it starts it again."""
        process = pidfile.holder(self._cluster_file)
        if process is None:
            return
        if self._asked is None or self._asked[0] != process:
            if now < self._restart_at:
                return
            log.error("the cluster has taken nothing for %.0f s; ending %s", lasted, process.pid)
            self._asked = process, now
            self._restart_at = now + RESTART_APART
            process.signal(signal.SIGTERM)
            self._tell("cluster_restarted", seconds=round(lasted))
        elif now - self._asked[1] >= KILL_AFTER:
            # A stopped process hears nothing else; its children die with it.
            process.signal(signal.SIGKILL)

"""The sentry: sees at once when somebody comes, makes runs give way, and tells when nobody is here.

Three threads of the daemon's process. The *sentry* hears the bell `presence` and asks runs to make
way: from the datagram to the signal it touches no database and waits for nobody. The *lookout*
looks at the signs that take longer, with each health tick. The *clerk* writes down what was seen,
and reads what the database knows: rules, and other hosts.

One sign makes busy; idle is who saw none for `Policy.idle_after_seconds`. A sign that can't be
told makes "unknown", which lets nothing start and disturbs nothing that runs.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from django.conf import settings
from django.db import DatabaseError, DataError, close_old_connections, connections, transaction
from django.db.models import Q

from daemon_app import doorbell, live, supervisor
from daemon_app.clock import Clock, Watch
from daemon_app.models import IdleSpan, Node, Policy, Run
from daemon_app.signs import SIGNS, Looker, Rules, Scene, Sign, marks, rules_of
from daemon_app.signs.requests import seen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from daemon_app.readings import Reading

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 10.0  # seconds between two looks when nobody rings
WATCHFUL: Final = 1.0  # … while runs may have to make way
RULES_EVERY: Final = 10.0  # seconds; a bell may be lost
NOTES_EVERY: Final = 5.0  # seconds between two notes of what is not urgent
AFTER_AN_ERROR: Final = 2.0  # seconds
TIDY_EVERY: Final = 3600.0  # seconds
# A daemon that was idle so short a time ago and comes back finds things as it left them.
RESTARTS_WITHIN: Final = 600.0  # seconds
MISSED_TICKS: Final = 3  # after so many a reading says nothing of now
WITHOUT_TICKS: Final = 1.5  # of a tick: then the lookout looks without one
MOST_REASONS: Final = 10
ELSEWHERE: Final = "elsewhere"  # the sign that other hosts are
SAME: Final = 0.5  # seconds within which two looks at the same activity may differ
CLOSES_WITHIN: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Idleness:
    """Whether this host is idle (None: unknown), since when, and why not, weightiest first.

    `idle_from` is when it becomes idle if nothing happens, None when that can't be said.
    `active_at` is when a person was last seen, `users` how many in the last five minutes.
    """

    idle: bool | None = None
    since: datetime | None = None
    reasons: tuple[Mapping[str, Any], ...] = ()
    idle_from: datetime | None = None
    users: int = 0
    active_at: datetime | None = None

    def is_news(self, before: Self) -> bool:
        """Return whether this says anything else than `before`; a second is nothing."""
        return (self.idle, self.reasons, self.users) != (
            before.idle,
            before.reasons,
            before.users,
        ) or any(
            (mine is None) != (theirs is None)
            or (mine and theirs and abs((mine - theirs).total_seconds()) >= 1)
            for mine, theirs in (
                (self.idle_from, before.idle_from),
                (self.active_at, before.active_at),
            )
        )


@dataclass(slots=True)
class Watched:
    """A run that makes way when somebody comes: "displace", or ends for good: "cancel"."""

    folder: Path
    fence: int
    how: str
    since: float  # on the monotonic clock
    services: frozenset[str] = frozenset()
    needs_idle: bool = False
    # Whether all was quiet while it ran, and nobody has come since: who comes now comes back.
    # Who is there all along, and may have started it, does not.
    is_alone: bool = False
    beside: bool = True
    is_asked: bool = False
    cause: dict[str, Any] | None = None  # for what it was asked, and when that was seen ("at")


@dataclass(slots=True)
class _Sighting:
    """What a slow sign said last, and when it was looked at."""

    sign: Sign | None
    at: float  # on the monotonic clock
    tick: object  # the readings that it saw


@dataclass(frozen=True, slots=True)
class _Note:
    """Something for the clerk to write down."""

    state: Idleness
    is_change: bool  # of idle to busy or back: it becomes a span
    unseen_from: datetime | None = None  # nobody looked since: there the span before ends


@dataclass(slots=True)
class _Memory:
    """What the sentry's own thread remembers from look to look, on the monotonic clock."""

    began: float
    began_with: str = "sign_start"
    lasts: dict[str, float] = field(default_factory=dict)  # last activity, by signal
    became: dict[str, float] = field(default_factory=dict)  # since when a sign is there
    said: dict[str, Sign] = field(default_factory=dict)  # what a sign said when it was last there
    news: list[dict[str, Any]] = field(default_factory=list)  # that the runner could not take
    judged: bool | None = None  # whether idle, when all signs were last looked at
    noted: Idleness = field(default_factory=Idleness)
    noted_at: float = float("-inf")
    # The last activity of people here, by the monotonic clock and as it was written down.
    active: float | None = None
    active_at: datetime | None = None


class Sentry:
    """Watches for people on one host. `start` it before runs are watched; `close` it at the end.

    `state` may be read from any thread: it is replaced as a whole.
    """

    def __init__(
        self,
        *,
        host: str,
        runtime: Path,
        clock: Clock | None = None,
        token: str = "",
        signs: Mapping[str, Looker] | None = None,
    ) -> None:
        self.host = host
        self.runtime = runtime
        self.clock = clock or Clock()
        self.token = token  # marks our runs' processes
        self.state = Idleness()
        self._is_quiet = False  # no sign for long enough; some may not be known
        self.rules = Rules()
        self._signs = dict(signs or {name: make() for name, make in SIGNS.items()})
        self._bell = doorbell.Bell(runtime, marks.BELL)
        self._marks = marks.Reader(runtime)
        self._lock = threading.Lock()  # of what follows
        self._watched: dict[int, Watched] = {}
        self._released: dict[int, frozenset[str]] = {}  # services of runs since the last look
        self._sightings: dict[str, _Sighting] = {}
        self._readings: Mapping[str, Reading] | None = None
        self._readings_at = float("-inf")
        self._elsewhere: dict[str, float] = {}
        self._memory = _Memory(self.clock.mono())
        self._watch = Watch(self.clock)
        self._notes: queue.SimpleQueue[_Note | None] = queue.SimpleQueue()
        self._ticked = threading.Event()
        self._closing = False
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._threads: list[threading.Thread] = []
        # Of our own work, for the lookout alone: the services it used, and the last look's instants
        self._ours: frozenset[str] = frozenset()
        self._worked_at = self.clock.now()
        # Other hosts wait for it; where there are none it need not be so soon.
        several = connections["default"].vendor != "sqlite"
        self._notes_every = WATCHFUL if several else NOTES_EVERY

    # ── For the rest of the daemon ───────────────────────────────────────────────────────────────
    def start(self) -> None:
        """Take up where an earlier daemon left off, and watch from now on. Asks the database."""
        try:
            self._take_up()
        except DatabaseError:
            log.exception("what an earlier daemon saw could not be read")
        for name, work in (
            ("sentry", self._guard),
            ("lookout", self._look_out),
            ("clerk", self._keep_books),
        ):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop watching; the span that lasts ends now."""
        self._closing = True
        self._ticked.set()
        self._notes.put(None)
        self._wake()
        for thread in self._threads:
            thread.join(CLOSES_WITHIN)
        self._bell.close()
        if not any(thread.is_alive() for thread in self._threads):
            self._woken.close()
            self._waker.close()

    def watch(  # noqa: PLR0913 - what it is, and who is there
        self,
        run_id: int,
        folder: Path,
        fence: int,
        how: str,
        needs: Mapping[str, Any] | None = None,
        *,
        beside: bool = True,
    ) -> None:
        """Have a run make way ("displace") or end ("cancel") when somebody comes back.

        At once, if somebody is there and the run needs an idle machine; any other at the next sign
        of somebody. One that a person has started `beside` their own work makes way to who comes
        after the machine was idle. `needs` are the run's own (`Job.needs`).
        """
        asked = needs or {}
        watched = Watched(
            folder,
            fence,
            how,
            self.clock.mono(),
            frozenset(asked.get("services") or ()),
            bool(asked.get("idle")),
            is_alone=self._is_quiet,
            beside=beside,
        )
        with self._lock:
            self._watched[run_id] = watched
        self._wake()
        self._ticked.set()  # the lookout looks more often now

    def release(self, run_id: int) -> None:
        """Let a run be that has ended."""
        with self._lock:
            run = self._watched.pop(run_id, None)
            if run is not None and run.services:
                self._released[run_id] = run.services

    def cause_of(self, run_id: int) -> dict[str, Any] | None:
        """Return for what a run was asked to make way, with "at" (wall time); None if it was not.

        It may have ended before the runner heard of it by the bell.
        """
        with self._lock:
            run = self._watched.get(run_id)
            return run.cause if run else None

    def look(self) -> None:
        """Have the sentry look now: time has done something. Never blocks."""
        self._wake()

    def readings(self, readings: Mapping[str, Reading]) -> None:
        """Take what the health tick has found, by check. Never blocks."""
        with self._lock:
            # A new object each time: by that a sign knows a new tick.
            self._readings, self._readings_at = dict(readings), self.clock.mono()
        self._ticked.set()

    # ── The fast path ────────────────────────────────────────────────────────────────────────────
    def _guard(self) -> None:
        bell, woken = self._bell.fileno(), self._woken.fileno()
        while not self._closing:
            rung, _, _ = select.select([bell, woken], [], [], self._patience())
            if woken in rung:
                with suppress(BlockingIOError):
                    self._woken.recv(4096)
            try:
                if bell in rung:
                    self._hear(self._bell.drain())
                self._consider()
                self._tell_news()
            except Exception:
                log.exception("the sentry stumbled; going on")
                select.select([woken], [], [], AFTER_AN_ERROR)

    def _hear(self, messages: Iterable[bytes]) -> None:
        """Act on what was rung: first make way, then all the rest."""
        for message in messages:
            try:
                told = json.loads(message)
                if told["op"] == "activity":
                    self._hear_activity(told)
                else:  # somebody said to be here, or away: the rules say it
                    self._notes.put(None)
            except (ValueError, KeyError, TypeError):
                log.warning("a message could not be read: %.200r", message)

    def _hear_activity(self, told: dict[str, Any]) -> None:
        who, signal, at = str(told.get("who", "")), str(told["signal"]), float(told["at"])
        if self.rules.hand(self.clock.now()) != "away":
            name = "programs" if signal == marks.PROGRAM else "requests"
            cause = seen(name, who)
            wall = self.clock.wall()
            at = at if wall - 60 < at <= wall else wall
            last = self.clock.mono() - (wall - at)
            # Who makes way may be gone before all signs are looked at, and must not start again.
            told_so = (cause.as_json(),)
            self.state = replace(self.state, idle=False, reasons=told_so, idle_from=None)
            came_to = {pk: run for pk, run in self._watching().items() if _concerns(run, last)}
            self._displace(came_to, cause, at)
        self._marks.hear(who=who, signal=signal, mono=self.clock.mono())

    def _displace(self, runs: Mapping[int, Watched], cause: Sign, at: float) -> None:
        """Ask runs to make way because of what was seen at `at` (wall time)."""
        told = cause.as_json()
        for run_id, run in runs.items():
            run.cause = {**told, "at": at}
            try:
                if run.how == "displace":
                    supervisor.request_stop(run.folder, "displace", run.fence)
                else:
                    supervisor.request_stop(run.folder, "stop", run.fence)
            except OSError:
                log.exception("run %s could not be asked to make way", run_id)
                continue
            run.is_asked = True
            news = {"op": "displaced", "run": run_id, "fence": run.fence, "at": at, "cause": told}
            self._memory.news.append(news)

    def _watching(self) -> dict[int, Watched]:
        """Return the runs that have not been asked yet."""
        with self._lock:
            return {pk: run for pk, run in self._watched.items() if not run.is_asked}

    def _tell_news(self) -> None:
        """Tell the runner what was asked; what finds no room there is told again."""
        news, self._memory.news = self._memory.news, []
        for each in news:
            _reached, missed = doorbell.deliver(self.runtime, "runner", json.dumps(each).encode())
            if missed:
                self._memory.news.append(each)

    def _patience(self) -> float:
        """Return for how many seconds to sleep when nobody rings."""
        if self._memory.news:
            return 0.05
        waits = [WATCHFUL if self._watched else LOOK_EVERY]
        if self.state.idle is False and self.state.idle_from is not None:
            waits.append(self.state.idle_from.timestamp() - self.clock.wall())
        if self.rules.until is not None:
            ends = self.rules.until.timestamp() - self.clock.wall()
            waits.append(ends if ends > 0 else LOOK_EVERY)
        return min(max(min(waits), 0.02), LOOK_EVERY)

    # ── Idle or busy ─────────────────────────────────────────────────────────────────────────────
    def _consider(self) -> None:
        """Look at the signs, decide, and have it written down."""
        wall, mono = self.clock.wall(), self.clock.mono()
        unseen = self._unseen(mono)
        scene = self._scene(wall, mono)
        signs = self._seen(scene)
        there = [sign for sign in signs if sign.busy]
        self._remember(signs, mono)
        for run_id, run in self._watching().items():
            if cause := self._why_now(run, there):
                self._displace({run_id: run}, cause, wall)
        state = self._judged(signs, there, wall, mono)
        for run in self._watching().values():
            run.is_alone = self._is_quiet or (run.is_alone and not there)
        changed = bool(unseen) or state.idle is not self._memory.judged
        self._memory.judged = state.idle
        since = datetime.fromtimestamp(wall, UTC) if changed else self.state.since
        self.state = state = replace(state, since=since)
        unseen_from = _instant(wall - unseen) if unseen else None
        self._note(state, mono, is_change=changed, unseen_from=unseen_from)

    def _unseen(self, mono: float) -> float:
        """Return for how many seconds nobody looked: the machine slept, or this process stopped.

        After a sleep it begins anew. While only the process was stopped, marks and bells have kept
        what happened.
        """
        spans = {change.code: change.seconds for change in self._watch.look()}
        slept = spans.get("asleep", 0.0)
        if slept:
            # Nothing that was seen before says who is there now.
            before = self._memory
            self._memory = _Memory(
                mono,
                began_with="sign_woke",
                news=before.news,
                active=before.active,
                active_at=before.active_at,
            )
            self._marks = marks.Reader(self.runtime)
            with self._lock:
                self._sightings.clear()
                self._readings, self._readings_at = None, float("-inf")
            self._ticked.set()
        return slept + spans.get("stalled", 0.0)

    def _scene(self, wall: float, mono: float) -> Scene:
        with self._lock:
            elsewhere = dict(self._elsewhere)
        now = datetime.fromtimestamp(wall, UTC)
        found = self._marks.look(wall, mono)
        return Scene(now, wall, mono, self.rules, found, elsewhere=elsewhere)

    def _seen(self, scene: Scene) -> list[Sign]:
        """Return what each sign says; those that "away" overrides are left out."""
        away = scene.rules.hand(scene.now) == "away"
        stale = _ticks(MISSED_TICKS)
        found: list[Sign] = []
        for name, looker in self._signs.items():
            sign: Sign | None
            if looker.quick:
                sign = looker.look(scene)
            else:
                with self._lock:
                    sighting = self._sightings.get(name)
                if sighting is None or scene.mono - sighting.at > stale:
                    sign = Sign(name, None, "sign_no_reading")
                else:
                    sign = sighting.sign
            if sign is None or (away and looker.is_person):
                continue
            found.append(sign)
        return found

    def _remember(self, seen: list[Sign], mono: float) -> None:
        """Keep when activity was last seen, by signal."""
        memory = self._memory
        there = {sign.signal for sign in seen if sign.busy}
        for sign in seen:
            last = mono if sign.busy and sign.last is None else sign.last
            if last is not None:
                memory.lasts[sign.signal] = max(last, memory.lasts.get(sign.signal, last))
            if sign.busy:
                memory.became.setdefault(sign.signal, mono)
                memory.said[sign.signal] = sign
        memory.became = {name: at for name, at in memory.became.items() if name in there}

    def _why_now(self, run: Watched, there: list[Sign]) -> Sign | None:
        """Return the sign for which a run has to make way; None when it may go on."""
        for sign in there:
            last = self._memory.became[sign.signal] if sign.last is None else sign.last
            if _concerns(run, last):
                return sign
        return None

    def _judged(self, seen: list[Sign], there: list[Sign], wall: float, mono: float) -> Idleness:
        memory, idle_after = self._memory, self.rules.idle_after
        counted = {sign.signal for sign in seen}
        lasts = {name: at for name, at in memory.lasts.items() if name in counted}
        quiet = mono - max(lasts.values(), default=memory.began)
        rest = max(idle_after - quiet, idle_after - (mono - memory.began))
        self._is_quiet = not there and rest <= 0
        told = Idleness(
            users=sum(sign.users for sign in seen),
            active_at=self._last_active(seen, wall, mono),
        )
        unknown = [sign for sign in seen if sign.busy is None]
        if there:
            # What people did ends by itself; what is still there has no end that we know.
            ends = all(sign.last is not None for sign in there) and not unknown
            return replace(
                told,
                idle=False,
                reasons=tuple(sign.as_json() for sign in (*there, *unknown))[:MOST_REASONS],
                idle_from=_instant(wall + rest) if ends and rest > 0 else None,
            )
        if unknown:
            reasons = tuple(sign.as_json() for sign in unknown)[:MOST_REASONS]
            return replace(told, idle=None, reasons=reasons)
        if rest > 0:
            lately = max(lasts, key=lambda name: lasts[name], default=None)
            sign = Sign("start", False, memory.began_with)
            if lately is not None and idle_after - (mono - lasts[lately]) > 0:
                before = memory.said.get(lately)
                inner = {"code": before.code, "facts": dict(before.facts)} if before else {}
                sign = Sign(lately, False, "sign_lately", inner)
            reasons = (sign.as_json(),)
            return replace(told, idle=False, reasons=reasons, idle_from=_instant(wall + rest))
        return replace(told, idle=True)

    def _last_active(self, seen: list[Sign], wall: float, mono: float) -> datetime | None:
        """Return when people were last seen here. It changes only with new activity.

        Other hosts take each change of it for activity; so what they saw is left out, or two hosts
        would keep each other awake.
        """
        memory = self._memory
        people = {name for name, looker in self._signs.items() if looker.is_person} - {ELSEWHERE}
        lasts = [sign.last for sign in seen if sign.signal in people]
        last = max((each for each in lasts if each is not None), default=None)
        if last is None or (memory.active is not None and last <= memory.active + SAME):
            return memory.active_at
        at = _instant(wall - (mono - last))
        before, is_first = memory.active_at, memory.active is None
        memory.active = last
        # What an earlier daemon wrote down of the same activity is kept as it is.
        if not (is_first and before and abs(at - before) < timedelta(seconds=1)):
            memory.active_at = at
        return memory.active_at

    def _note(
        self, state: Idleness, mono: float, *, is_change: bool, unseen_from: datetime | None
    ) -> None:
        """Have the clerk write down what is new; at once if the machine has become something."""
        memory = self._memory
        if is_change or (
            mono - memory.noted_at >= self._notes_every and state.is_news(memory.noted)
        ):
            memory.noted, memory.noted_at = state, mono
            self._notes.put(_Note(state, is_change, unseen_from))

    # ── Signs that take longer ───────────────────────────────────────────────────────────────────
    def _look_out(self) -> None:
        try:
            while not self._closing:
                self._look_around()
                self._ticked.wait(self._until_next_look())
                self._ticked.clear()
        finally:
            connections.close_all()

    def _until_next_look(self) -> float:
        often = [each.often for each in self._signs.values() if each.often is not None]
        if self._watched and often:
            return min(often)
        return _ticks(WITHOUT_TICKS)

    def _look_around(self) -> None:
        """Look at each sign whose time it is, each for itself."""
        wall, mono = self.clock.wall(), self.clock.mono()
        with self._lock:
            readings = tick = self._readings
            at, watching = self._readings_at, bool(self._watched)
        if mono - at > _ticks(MISSED_TICKS):
            readings = None
        due = [
            name
            for name, looker in self._signs.items()
            if not looker.quick and self._is_due(name, looker, mono, watching=watching)
        ]
        if not due:
            return
        # What is looked at more often than with each tick has nothing to do with our work.
        by_tick = any(self._signs[name].often is None for name in due)
        services, runs = self._our_work() if by_tick else (frozenset(), False)
        scene = Scene(
            datetime.fromtimestamp(wall, UTC),
            wall,
            mono,
            self.rules,
            readings=readings,
            our_services=services,
            runs=runs,
            token=self.token,
        )
        for name in due:
            try:
                sign = self._signs[name].look(scene)
            except Exception:
                log.exception("the sign %s could not be looked at", name)
                sign = Sign(name, None, "sign_failed", {"sign": name})
            with self._lock:
                self._sightings[name] = _Sighting(sign, mono, tick)
        self._wake()

    def _is_due(self, name: str, looker: Looker, mono: float, *, watching: bool) -> bool:
        with self._lock:
            sighting = self._sightings.get(name)
            is_new = sighting is None or sighting.tick is not self._readings
        if sighting is None or is_new:
            return True
        pause = _ticks(WITHOUT_TICKS)
        if watching and looker.often is not None:
            pause = looker.often
        return mono - sighting.at >= pause - 0.1

    def _our_work(self) -> tuple[frozenset[str], bool]:
        """Return the services that runs of ours have used since the last look, and whether any ran.

        What a service did for a run may show only after the run's end.
        """
        now, before = self.clock.now(), self._worked_at
        with self._lock:
            used = set().union(*(run.services for run in self._watched.values()))
            watched = bool(self._watched)
            late = set().union(*(services for services in self._released.values()))
            self._released.clear()
        try:
            rows = Run.objects.filter(
                Q(state=Run.State.RUNNING) | Q(ended_at__gt=before), owner=self.host
            )
            ran = [(state, needs or {}) for state, needs in rows.values_list("state", "needs")]
        except DatabaseError:
            close_old_connections()
            return self._ours | frozenset(used | late), True
        for state, needs in ran:
            (used if state == Run.State.RUNNING else late).update(needs.get("services") or ())
        # Who ran at the last look may have been displaced since.
        self._ours, known, self._worked_at = frozenset(used), self._ours, now
        return known | frozenset(used | late), bool(ran) or watched

    # ── What is written down ─────────────────────────────────────────────────────────────────────
    def _take_up(self) -> None:
        """Close the span that an earlier daemon left open, at its last sign; learn the rules."""
        node = Node.objects.filter(host=self.host).first()
        now = self.clock.now()
        with transaction.atomic():
            for span in IdleSpan.objects.filter(host=self.host, ended_at=None):
                seen_at = node.seen_at if node else now
                IdleSpan.objects.filter(pk=span.pk, ended_at=None).update(
                    ended_at=max(min(seen_at, now), span.began_at)
                )
        self._memory.active_at = node.active_at if node else None
        if node and node.idle and abs((now - node.seen_at).total_seconds()) < RESTARTS_WITHIN:
            self._memory.began = float("-inf")  # it was idle then; the marks say what came since
        self._learn()

    def _keep_books(self) -> None:
        pending: list[_Note] = []
        learned = tidied = float("-inf")
        while True:
            is_asked = False
            with suppress(queue.Empty):
                note = self._notes.get(timeout=self._clerk_patience(pending))
                is_asked = note is None
                pending += [note] if note else []
            mono = self.clock.mono()
            try:
                if is_asked or mono - learned >= (WATCHFUL if self._watched else RULES_EVERY):
                    learned = mono
                    self._learn()
                self._write_what_can_be(pending)
                pending = []
                if mono - tidied >= TIDY_EVERY:
                    tidied = mono
                    self._marks.tidy(self.clock.wall())
                if self._closing:
                    self._end_span()
            except DatabaseError as error:
                log.warning("what was seen of people could not be written: %s", error)
                close_old_connections()
            if self._closing and self._notes.empty():
                connections.close_all()
                return

    def _clerk_patience(self, pending: list[_Note]) -> float:
        if pending:
            return AFTER_AN_ERROR
        return WATCHFUL if self._watched else RULES_EVERY

    def _learn(self) -> None:
        """Read the rules, and when people were last seen elsewhere; wake the sentry for news."""
        policy = Policy.current()
        services = {
            "gpu_service": policy.gpu_service_url or settings.GPU_SERVICE_URL,
            "ollama": policy.ollama_url or settings.OLLAMA_URL,
        }
        rules = rules_of(policy, services)
        others = Node.objects.exclude(host=self.host).exclude(active_at=None)
        seen = {host: at.timestamp() for host, at in others.values_list("host", "active_at") if at}
        with self._lock:
            is_news = rules != self.rules or seen != self._elsewhere
            self.rules, self._elsewhere = rules, seen
        if is_news:
            self._wake()

    def _write_what_can_be(self, notes: list[_Note]) -> None:
        """Write notes; without their reasons if the database does not take what stands there."""
        try:
            self._write(notes)
        except (DataError, ValueError):
            log.exception("reasons not to be idle can't be written down")
            self._write([replace(each, state=replace(each.state, reasons=())) for each in notes])

    def _write(self, notes: list[_Note]) -> None:
        if not notes:
            return
        newest = notes[-1].state
        with transaction.atomic():
            for note in notes:
                if note.is_change:
                    self._span(note.state, note.unseen_from)
            Node.objects.filter(host=self.host).update(
                idle=newest.idle,
                idle_since=newest.since,
                idle_reasons=list(newest.reasons),
                idle_from=newest.idle_from,
                users=newest.users,
                active_at=newest.active_at,
            )
            live.changed("presence")
        if any(note.is_change for note in notes):
            doorbell.ring(self.runtime, "runner", b'{"op": "conditions"}')

    def _span(self, state: Idleness, unseen_from: datetime | None) -> None:
        """Begin a span, unless the one that lasts says the same and has been seen all along."""
        idle, at = state.idle is True, state.since or self.clock.now()
        lasting = IdleSpan.objects.filter(host=self.host, ended_at=None).order_by("-id").first()
        if lasting is not None:
            if lasting.idle == idle and unseen_from is None:
                return
            ended_at = max(unseen_from or at, lasting.began_at)
            IdleSpan.objects.filter(pk=lasting.pk).update(ended_at=ended_at)
        IdleSpan.objects.create(host=self.host, idle=idle, began_at=at, reasons=list(state.reasons))

    def _end_span(self) -> None:
        now = self.clock.now()
        for span in IdleSpan.objects.filter(host=self.host, ended_at=None):
            IdleSpan.objects.filter(pk=span.pk).update(ended_at=max(now, span.began_at))

    def _wake(self) -> None:
        with suppress(OSError):
            os.write(self._waker.fileno(), b".")


def _ticks(count: float) -> float:
    """Return how many seconds so many health ticks take."""
    return count * max(float(settings.TICK_SECONDS), 2.0)


def _concerns(run: Watched, last: float) -> bool:
    """Return whether activity at `last`, on the monotonic clock, makes a run give way."""
    comes = run.is_alone or not run.beside
    return run.needs_idle or (comes and last >= run.since)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

"""The running runs of a host: claim, launch, adopt, stop, and write their ends in batches."""

import bisect
import contextlib
import hashlib
import heapq
import itertools
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import F

from daemon_app import (
    admission,
    cgroups,
    durations,
    gates,
    live,
    processes,
    progress,
    skills,
    supervisor,
)
from daemon_app.admission import Candidate
from daemon_app.gates.conditions import Conditions
from daemon_app.gpu import MeterThread, Usage, run_of
from daemon_app.models import Attempt, Displacement, Incident, Job, Policy, Pool, Run, Wait
from daemon_app.models.run import Ending, folder_of

log = logging.getLogger(__name__)

# A bell may be lost: folders and rows are looked at this often while anything runs.
LOOK_EVERY = 5.0  # seconds
WISHES_EVERY = 1.0  # seconds between looks for stop wishes on the rows of running runs
REMOVED_A_TURN = 20
BEGINS_WITHIN = 20.0  # seconds; a launch that has left no trace by then is lost
PER_CLAIM = 200
NO_RUN = 0  # a number that no run has
MOST_PREPARED = 1000  # launches made ready before their time
# A sleep ends late by up to a millisecond, and after it the processor's caches are cold: the last
# moment before a start is spent awake.
AWAKE = 0.003  # seconds
WARM = 1

# What a command gets from our own environment; everything else of ours stays ours.
ALLOWED = (  # noqa: SIM905 - twenty lines otherwise
    "HOME LANG LANGUAGE LOGNAME SHELL TERM TMPDIR TZ USER XDG_RUNTIME_DIR DISPLAY SSH_AUTH_SOCK "
    "DBUS_SESSION_BUS_ADDRESS CUDA_VISIBLE_DEVICES CUDA_HOME LD_LIBRARY_PATH http_proxy "
    "https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE"
).split()
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# A job that loses so many runs within LOSSES_WITHIN is switched off: something kills them.
MOST_LOSSES = 3
LOSSES_WITHIN = timedelta(hours=24)
LONGEST_PAUSE = 600.0  # seconds between two attempts
JITTER = 0.1
NOTHING = Usage(None, None)
PROGRESS_EVERY = 1.0  # seconds between two looks at what commands say of their progress
MOST_WAITS = 500  # runs from the front of the line of which is kept what they wait for
MOST_WAITS_KEPT = 200  # of one run; the oldest go
CONDITIONS_LAST = 1.0  # seconds
RULES_LAST = 60.0  # seconds that quiet hours are believed not to have changed; a bell may be lost
SEEN_EVERY = 60.0  # seconds between two notes that a run still waits for the same
SOMEBODY = {"signal": "", "code": "came_back", "facts": {}}


@dataclass
class Held:
    """A run of ours that has not ended: under which fence, and since when it is ours."""

    fence: int
    since: float  # on the monotonic clock
    job_id: int = 0
    pools: Mapping[str, int] = field(default_factory=dict)
    attempt: int = 1
    rules: Mapping[str, Any] = field(default_factory=dict)  # of its definition
    used: Usage = NOTHING  # of GPUs, before this daemon watched it
    needs: Mapping[str, Any] = field(default_factory=dict)
    begun_at: datetime | None = None
    by_hand: bool = False
    cause: dict[str, Any] | None = None  # why it was asked to make way, once it was


class Yielding(Protocol):
    """Who asks runs to make way when somebody comes back: `presence.Sentry`."""

    def watch(  # noqa: PLR0913 - what it is, and who is there
        self,
        run_id: int,
        folder: Path,
        fence: int,
        how: str,
        needs: Mapping[str, Any],
        *,
        beside: bool,
    ) -> None:
        """Ask this run to make way ("displace") or to end ("cancel") when somebody comes.

        `beside` says that a person has started it, who may be there all along.
        """

    def release(self, run_id: int) -> None:
        """Let a run be that has ended."""

    def cause_of(self, run_id: int) -> dict[str, Any] | None:
        """Return for what a run was asked to make way, with "at"; None if it was not."""

    @property
    def state(self) -> "Idleness":
        """Whether somebody is here, as of now."""


class Idleness(Protocol):
    """Whether a host is idle (None: unknown), since when, why not, and from when on it will be."""

    @property
    def idle(self) -> bool | None: ...
    @property
    def since(self) -> datetime | None: ...
    @property
    def idle_from(self) -> datetime | None: ...
    @property
    def reasons(self) -> Sequence[Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Prepared:
    """What a supervisor is to be told of a queued run, read before it is due."""

    launch: dict[str, Any]
    attempt: int
    rules: Mapping[str, Any]
    error: str = ""  # why there is none
    yields: bool = False  # it makes way when somebody comes back
    by_hand: bool = False  # started on the pages by somebody who is there


class Runner:
    """Runs the runs of one host. Lives in the daemon's one thread; nothing here blocks for long.

    The caller waits until `runner` rings or `patience()` is over, then calls `turn(messages)`.
    """

    def __init__(self, *, host: str, runtime: Path, max_parallel: int | None = None) -> None:
        self.owner = host
        self.runtime = runtime
        self._max_parallel = max_parallel  # None: the policy's
        self.launcher = supervisor.Launcher(runtime, warm=WARM)
        self.gpus = MeterThread(runtime, partial(run_of, token=run_token()))
        self.room = admission.Room(0, {})
        self.sentry: Yielding | None = None
        self._heap: list[tuple[float, int]] = []  # (earliest start, run id) of those to come
        self._line: list[Candidate] = []  # those whose time has come, in order
        self._waiting: dict[int, Candidate | None] = {}  # all of them; None: not read yet
        self._prepared: dict[int, Prepared] = {}
        self._held: dict[int, Held] = {}  # run id → what runs here
        self._endings: dict[int, Ending] = {}  # ends that are still to be written
        self._over: dict[int, Held] = {}  # … and what was known of those runs
        self._forgotten: set[int] = set()  # runs whose rows are gone, and that still live
        self._doomed: list[Path] = []  # folders to remove when there is time
        self._durations = durations.Memory()
        self._progress: dict[int, tuple[int | None, str]] = {}  # told and not written yet
        self._starts: dict[int, list[dict[str, Any]]] = {}  # gates at the start, to be written
        self._waits: dict[int, tuple[Wait, float]] = {}  # what is kept of waits, and since when
        self._knows_rules = False
        self._knows_conditions = False
        self.draining = False  # nothing is started any more
        # Due instants are wall time; how long we wait between looks is not.
        self._look_at = 0.0
        self._wishes_at = 0.0
        self._gates_at = float("inf")  # when the clock alone opens a gate
        self._retry_at = 0.0
        self._progress_at = 0.0

    # ── One turn ─────────────────────────────────────────────────────────────────────────────────
    def turn(self, messages: Iterable[bytes]) -> None:
        """Take in what was rung, start what is due, write what has ended."""
        for message in messages:
            self._take_in(message)
        self._await_start()
        now = time.time()
        # Starts go before ends: a command waits for its second, an ended one for nothing.
        self._start_due(now)
        self._write_endings()
        self._write_starts()
        self._remove_some()
        self._read_ahead()
        if self._held:
            self.gpus.start()
        else:
            self.gpus.rest()
        clock = time.monotonic()
        if self._progress and clock >= self._progress_at:
            self._progress_at = clock + PROGRESS_EVERY
            self._write_progress()
        if self._held and clock >= self._wishes_at:
            self._wishes_at = clock + WISHES_EVERY
            self._heed_wishes()
        if clock >= self._look_at:
            self._look_at = clock + LOOK_EVERY
            self._look()

    def patience(self) -> float:
        """Return how many seconds the next turn may wait when nobody rings."""
        clock = time.monotonic()
        waits = [60.0]
        if self._heap and not self.draining:
            waits.append(self._heap[0][0] - AWAKE - time.time())
        if self._endings:
            waits.append(self._retry_at - clock)
        if self._held:
            waits += [self._wishes_at - clock, self._look_at - clock]
        if self._line:
            waits.append(self._look_at - clock)
            if not self.draining:
                waits.append(self._gates_at - time.time())
        if self._progress:
            waits.append(self._progress_at - clock)
        if self._doomed or (self._unread and self._has_room):
            waits.append(0.01)
        return max(min(waits), 0.0)

    @property
    def waiting(self) -> Collection[int]:
        """Return the ids of the runs that are in line here, or wait for their time."""
        return self._waiting.keys()

    @property
    def running(self) -> int:
        """How many runs run here."""
        return len(self._held)

    @property
    def unwritten(self) -> int:
        """How many ends the database has not taken yet."""
        return len(self._endings)

    def expect(self, runs: Iterable[tuple[int, float]]) -> None:
        """Take runs, with their earliest starts, into line; twice is no harm."""
        for run_id, due in runs:
            self._expect(run_id, due)

    def pardon(self, seconds: float) -> None:
        """Give launches so much longer to begin: we stood still, and perhaps they did too."""
        for held in self._held.values():
            held.since += seconds

    def close(self) -> None:
        """Let go: what runs goes on without us and is adopted at the next start."""
        self._write_endings()
        self.launcher.close()
        self.gpus.close()

    # What each message of the bell is heard by.
    HEARD: ClassVar[Mapping[str, str]] = {
        "start": "_hear_starts",
        "stop": "_hear_stop",
        "anew": "_hear_change",
        "ended": "_hear_end",
        "forget": "_hear_removal",
        "started": "_hear_nothing",  # the row says so since the claim
        "rules": "_hear_rules",
        "phase": "_note_phase",
        "progress": "_note_progress",
        "usage": "_note_usage",
        "conditions": "_hear_conditions",
        "displaced": "_hear_displacement",
    }

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────
    def _take_in(self, message: bytes) -> None:
        try:
            told = json.loads(message)
            getattr(self, self.HEARD[told["op"]])(told)
        except (ValueError, KeyError, TypeError):
            # Bells are hints; a torn one costs nothing but the next look.
            log.warning("a message could not be read: %.200r", message)
        except DatabaseError:
            # The other messages must not be lost with it; and the rules are read again by a look.
            log.exception("the database did not answer to a message")
            self._knows_rules = False

    def _hear_starts(self, told: dict[str, Any]) -> None:
        self.expect((int(run_id), float(due)) for run_id, due in told["runs"])

    def _hear_change(self, told: dict[str, Any]) -> None:
        """Read a waiting run's row again: somebody lets it start whatever its conditions say."""
        run_id = int(told["run"])
        if run_id in self._held:  # it has started a moment ago: now for somebody who is here
            if self.sentry:
                self.sentry.release(run_id)
            return
        self._leave_line(run_id)
        self._expect(run_id, float(told["due"]))

    def _hear_stop(self, told: dict[str, Any]) -> None:
        self._leave_line(int(told["run"]))
        self._stop(int(told["run"]))

    def _hear_end(self, told: dict[str, Any]) -> None:
        self._ended(int(told["run"]), told["result"])

    def _hear_removal(self, told: dict[str, Any]) -> None:
        for run_id in told["runs"]:
            self._forget(int(run_id))

    def _hear_nothing(self, told: dict[str, Any]) -> None:
        pass

    def _hear_rules(self, _told: dict[str, Any]) -> None:
        self._learn_rules()
        self.room.conditions = None  # quiet hours are among the rules
        self._read_line_anew()

    def _hear_conditions(self, _told: dict[str, Any]) -> None:
        self._knows_conditions = False

    def _expect(self, run_id: int, due: float) -> None:
        if run_id not in self._held:
            self._waiting.setdefault(run_id, None)
            # A known one too: it may be earlier now. Too early, it fails to be claimed and is read.
            heapq.heappush(self._heap, (due, run_id))

    def _leave_line(self, run_id: int) -> None:
        candidate = self._waiting.pop(run_id, None)
        self._prepared.pop(run_id, None)
        if candidate is not None:
            place = bisect.bisect_left(self._line, candidate.order, key=_by_order)
            if place < len(self._line) and self._line[place].run_id == run_id:
                del self._line[place]

    # ── The rules in force ───────────────────────────────────────────────────────────────────────
    def _learn_rules(self) -> None:
        """Read the limit of runs at once, the pools, and whether everything is held."""
        policy = Policy.current()
        self.room.parallel = self._max_parallel or policy.parallel
        self.room.sizes = Pool.sizes()
        self.room.held = (policy.held_by or "?") if policy.is_held else ""
        self._knows_rules = True

    def _learn_conditions(self) -> None:
        """Look at what is true of this host, for the gates."""
        now = _instant(time.time())
        conditions = Conditions.current(now, self.owner)
        if self.sentry:
            # Who is here it knows at once; the row comes later.
            state = self.sentry.state
            conditions = replace(
                conditions,
                idle=state.idle,
                idle_since=state.since,
                idle_from=state.idle_from,
                idle_reasons=tuple(state.reasons),
            )
        for run_id, held in self._held.items():
            if (vram := held.needs.get("vram_mb")) and held.begun_at:
                used = self._used(run_id, held).peak_vram_bytes
                self.room.of_vram[run_id] = admission.still_to_take(
                    vram, used, held.begun_at, conditions.measured_at
                )
        self.room.conditions = conditions
        self._knows_conditions = True
        front = itertools.islice(self._line, MOST_WAITS)
        distinct = {repr(each.needs): each.needs for each in front if not each.forced}
        changes = (gates.next_change(needs, conditions) for needs in distinct.values())
        self._gates_at = min((at.timestamp() for at in changes if at), default=float("inf"))

    def _conditions_are_old(self, now: float) -> bool:
        """Return whether more has happened than gates may overlook."""
        conditions = self.room.conditions
        if conditions is None:
            return True
        age = abs(now - conditions.now.timestamp())
        if not conditions.quiet_hours and not any(each.needs for each in self._line):
            return age > RULES_LAST  # nobody asks: a plain start need not wait for the answer
        return (
            not self._knows_conditions
            or now >= self._gates_at
            or age > CONDITIONS_LAST
            # Who is here the sentry knows before any bell has told.
            or (self.sentry is not None and self.sentry.state.idle is not conditions.idle)
        )

    def _read_line_anew(self) -> None:
        """Put the line into the order its rows have now."""
        ids = [candidate.run_id for candidate in self._line]
        self._line = []
        self._read_ripe(ids, time.time())

    # ── Starting ─────────────────────────────────────────────────────────────────────────────────
    @property
    def _unread(self) -> bool:
        return any(self._waiting.get(pk, self) is None for _, pk in self._heap[:PER_CLAIM])

    def _read_ahead(self) -> None:
        """Make launches ready: what a run is to do is settled when its row is written."""
        if not self._has_room:
            return
        ids = [pk for _, pk in self._heap[:PER_CLAIM] if self._waiting.get(pk, self) is None]
        if ids:
            self._read(ids, now=None)

    @property
    def _has_room(self) -> bool:
        return len(self._prepared) < MOST_PREPARED

    def _read(self, ids: Collection[int], now: float | None) -> None:
        """Read waiting runs; with `now`, put those whose time has come into line."""
        rows = Run.objects.queued().filter(pk__in=ids).annotate(limit=F("job__max_instances"))
        if not self._has_room:
            rows = rows.defer("definition")
        found = {run.pk: run for run in rows}
        for run_id in ids:
            if run_id not in found:  # cancelled, skipped, deleted, or somebody else's
                self._waiting.pop(run_id, None)
                self._prepared.pop(run_id, None)
                continue
            run = found[run_id]
            candidate = Candidate.of(run, run.limit)  # type: ignore[attr-defined]
            self._waiting[run_id] = candidate
            if self._has_room and run_id not in self._prepared:
                self._prepared[run_id] = self._described(run)
            if now is None:
                continue
            if run.not_before.timestamp() > now:
                heapq.heappush(self._heap, (run.not_before.timestamp(), run_id))
            else:
                self._insert(candidate)

    def _insert(self, candidate: Candidate) -> None:
        """Put a candidate into its place in line; one that is there already stays alone."""
        place = bisect.bisect_left(self._line, candidate.order, key=_by_order)
        if self._line[place : place + 1] != [candidate]:
            self._line.insert(place, candidate)

    def _described(self, run: Run) -> Prepared:
        try:
            yields = run.definition.get("on_presence") in YIELDING and not run.forced_by
            launch = specification(run, self.runtime)
            by_hand = _by_hand(run)
            return Prepared(launch, run.attempt, run.definition, yields=yields, by_hand=by_hand)
        except Exception as error:
            log.exception("run %s can't be described", run.pk)
            return Prepared({}, run.attempt, {}, repr(error))

    def _await_start(self) -> None:
        """Wait out the last moment before a due instant, warming up by claiming nothing."""
        if self._heap and not self.room.is_full and not self.draining:
            due = self._heap[0][0]
            if due - AWAKE <= time.time() < due:
                with contextlib.suppress(DatabaseError):
                    Run.objects.claim([NO_RUN], owner=self.owner, now=_instant(due))
                until = time.monotonic() + AWAKE  # a clock set back now is not waited for
                while time.time() < due and time.monotonic() < until:
                    pass

    def _start_due(self, now: float) -> None:
        """Put into line whose time has come, and start as many as there is room for."""
        if self.draining:
            return
        try:
            if not self._knows_rules:
                self._learn_rules()
            self._line_up(now)
            if self._line and not self.room.is_full and self._conditions_are_old(now):
                self._learn_conditions()
            while not self.room.is_full and self._line:
                batch = list(itertools.islice(admission.admit(self.room, self._line), PER_CLAIM))
                if not batch:
                    return
                self._begin(batch)
        except DatabaseError:
            log.exception("runs could not be started; trying again in a second")
            self._retry_line(now + 1)

    def _line_up(self, now: float) -> None:
        ripe: list[int] = []
        while self._heap and self._heap[0][0] <= now:
            _, run_id = heapq.heappop(self._heap)
            if run_id not in self._waiting:
                continue
            candidate = self._waiting[run_id]
            if candidate is None:
                ripe.append(run_id)
            else:
                self._insert(candidate)
        self._read_ripe(ripe, now)

    def _read_ripe(self, ids: Sequence[int], now: float) -> None:
        """Read runs whose time has come, and put them into line; later if the database is away."""
        for start in range(0, len(ids), PER_CLAIM):
            try:
                self._read(ids[start : start + PER_CLAIM], now)
            except DatabaseError:
                for run_id in ids[start:]:
                    self._waiting[run_id] = None
                    heapq.heappush(self._heap, (now + 1, run_id))
                raise

    def _retry_line(self, at: float) -> None:
        """Come back to the line at `at`: the database did not answer."""
        for candidate in self._line:
            heapq.heappush(self._heap, (at, candidate.run_id))
        self._line = []

    def _begin(self, batch: list[Candidate]) -> None:
        """Claim admitted runs and launch those that are ours; the others' room is free again."""
        ids = [candidate.run_id for candidate in batch]
        fences: dict[int, int] = {}
        try:
            with transaction.atomic():
                # Asked for before the claim asks for the pages' bell: the commands go first.
                transaction.on_commit(lambda: self._launch_all(batch, fences))
                fences |= Run.objects.claim(ids, owner=self.owner, now=_instant(time.time()))
                if late := [run_id for run_id in fences if run_id not in self._prepared]:
                    for run in Run.objects.filter(pk__in=late):
                        self._prepared[run.pk] = self._described(run)
        except DatabaseError:
            for candidate in batch:
                if candidate.run_id not in self._held:
                    self.room.release(candidate.job_id, candidate.pools)
                    self.room.of_vram.pop(candidate.run_id, None)
            raise
        for candidate in batch:
            self._leave_line(candidate.run_id)
            if candidate.run_id not in fences:
                # Over, or somebody else's, or everything was held this moment: looked at again.
                self.room.release(candidate.job_id, candidate.pools)
                self.room.of_vram.pop(candidate.run_id, None)
                self._expect(candidate.run_id, time.time() + 1)

    def _launch_all(self, batch: list[Candidate], fences: dict[int, int]) -> None:
        # Held before the first launch: what an error leaves out is given up by a later look.
        ours = [candidate for candidate in batch if candidate.run_id in fences]
        for each in ours:
            prepared = self._prepared[each.run_id]
            self._held[each.run_id] = Held(
                fences[each.run_id],
                time.monotonic(),
                each.job_id,
                each.pools,
                prepared.attempt,
                prepared.rules,
                needs=each.needs,
                begun_at=_instant(time.time()),
                by_hand=prepared.by_hand,
            )
        for each in ours:
            self._launch(each.run_id, fences[each.run_id], self._prepared[each.run_id])
        for each in ours:
            if self._prepared[each.run_id].yields:
                self._watch(each.run_id, fences[each.run_id])
            if self.room.conditions and (each.needs or each.run_id in self._waits):
                said = gates.verdicts(each.needs, self.room.conditions)
                self._starts[each.run_id] = [verdict.as_json() for verdict in said]

    def _watch(self, run_id: int, fence: int) -> None:
        """Have a run make way when somebody comes back, and at once if somebody has meanwhile."""
        held = self._held.get(run_id)
        if held is None or self.sentry is None:
            return
        how = str(held.rules.get("on_presence"))
        self.sentry.watch(run_id, folder_of(run_id), fence, how, held.needs, beside=held.by_hand)

    def _write_starts(self) -> None:
        """Keep what the gates said of runs that were started, and that their wait is over."""
        if not self._starts:
            return
        starts, self._starts = self._starts, {}
        waits = [self._waits.pop(run_id)[0] for run_id in self._waits.keys() & starts]
        with contextlib.suppress(DatabaseError), transaction.atomic():
            for run_id, said in starts.items():
                Run.objects.filter(pk=run_id).update(start_readings=said)
            Wait.objects.filter(pk__in=[wait.pk for wait in waits]).update(
                seen_at=_instant(time.time())
            )

    def _launch(self, run_id: int, fence: int, prepared: Prepared) -> None:
        try:
            if prepared.error:
                raise supervisor.LaunchError(prepared.error)  # noqa: TRY301 - one place says so
            env = prepared.launch["env"] | {"BACH_FENCE": str(fence)}
            self.launcher.launch(prepared.launch | {"fence": fence, "env": env})
        except (OSError, supervisor.LaunchError) as error:
            log.exception("run %s could not be launched", run_id)
            self._end(
                Ending(
                    run_id=run_id,
                    fence=fence,
                    state=Run.State.FAILED,
                    ended_at=_instant(time.time()),
                    reason_code="start_failed",
                    reason_facts={"error": str(error)[:200]},
                )
            )

    # ── Stopping ─────────────────────────────────────────────────────────────────────────────────
    def _stop(self, run_id: int) -> None:
        if held := self._held.get(run_id):
            try:
                supervisor.request_stop(folder_of(run_id), fence=held.fence)
            except OSError:
                # Said again by the row, a second later.
                log.exception("run %s could not be asked to stop", run_id)

    def stop_all(self, code: str) -> None:
        """Ask everything that runs here to stop; `code` is the reason kept on the rows."""
        now = _instant(time.time())
        for run in Run.objects.running().filter(pk__in=list(self._held)):
            run.request_stop(by="", now=now, code=code)
            self._stop(run.pk)

    def _heed_wishes(self) -> None:
        """Stop runs whose row says so, or is gone, although no bell did."""
        try:
            rows = Run.objects.filter(pk__in=list(self._held))
            wishes = dict(rows.values_list("pk", "stop_requested_at"))
        except DatabaseError:
            log.warning("the database did not answer a look for stop wishes")
            return
        for run_id in list(self._held):
            if run_id not in wishes:
                self._forget(run_id)
            elif wishes[run_id] is not None:
                self._stop(run_id)

    # ── Ending ───────────────────────────────────────────────────────────────────────────────────
    def _ended(self, run_id: int, result: dict[str, Any]) -> None:
        held = self._held.get(run_id)
        if not held or held.fence != result["fence"]:
            return
        if result["outcome"] == "displaced" and self._made_way(run_id, held, result):
            return
        self._note_who_ended(run_id, held, result)
        if not (found_no_room(result) and self._waits_for_room(run_id)):
            self._end(ending(run_id, result, held.rules, self._used(run_id, held)))

    # ── Making way for people ────────────────────────────────────────────────────────────────────
    def _hear_displacement(self, told: dict[str, Any]) -> None:
        """Note on the row that a run was asked to make way, by whom it was seen."""
        run_id = int(told["run"])
        held = self._held.get(run_id)
        if held is None or held.fence != told["fence"]:
            return
        held.cause = {**SOMEBODY, **told["cause"], "at": float(told["at"])}
        if held.rules.get("on_presence") == Job.Presence.CANCEL:
            self._end_for_somebody(run_id, held.fence)
            return
        with transaction.atomic():
            ours = Run.objects.running().filter(pk=run_id, fence=held.fence)
            ours.update(reason_code="displacing", reason_facts=held.cause)
            live.changed("runs", f"run:{run_id}")

    def _note_who_ended(self, run_id: int, held: Held, result: dict[str, Any]) -> None:
        """Let the row say for whom a run was ended whose end came before that news."""
        if result["outcome"] != "stopped" or held.rules.get("on_presence") != Job.Presence.CANCEL:
            return
        if held.cause is None and self.sentry and (cause := self.sentry.cause_of(run_id)):
            held.cause = cause
            with contextlib.suppress(DatabaseError):
                self._end_for_somebody(run_id, held.fence)

    def _end_for_somebody(self, run_id: int, fence: int) -> None:
        for run in Run.objects.running().filter(pk=run_id, fence=fence, stop_requested_at=None):
            run.request_stop(by="", now=_instant(time.time()), code="presence")

    def _made_way(self, run_id: int, held: Held, result: dict[str, Any]) -> bool:
        """Put a run that made way back in line; False when it is to end after all."""
        now = _instant(time.time())
        end = ending(run_id, result, held.rules, self._used(run_id, held))
        try:
            cause = held.cause or self._cause_of(run_id)
            token = result.get("token")
            with transaction.atomic():
                not_before = Run.objects.displace(end, cause=cause, now=now, token=token)
                if not_before is not None:
                    self._record_displacement(end, cause, result)
        except DatabaseError:
            log.exception("run %s could not be put back in line; looked at again", run_id)
            return True  # still held
        if not_before is None:
            return False  # somebody has cancelled it meanwhile, or it is gone
        self._let_go(run_id)
        # What was known is of before somebody came; by it this run would start again at once.
        self._knows_conditions = False
        self._expect(run_id, not_before.timestamp())
        return True

    def _cause_of(self, run_id: int) -> dict[str, Any]:
        """Return why a run was asked whose end came before that news.

        What the sentry remembers, else what the row says: a daemon before this one may have heard.
        """
        if self.sentry and (cause := self.sentry.cause_of(run_id)):
            return {**SOMEBODY, **cause}
        noted = Run.objects.filter(pk=run_id, reason_code="displacing").values("reason_facts")
        return next((dict(row["reason_facts"]) for row in noted), dict(SOMEBODY))

    def _record_displacement(
        self, end: Ending, cause: dict[str, Any], result: dict[str, Any]
    ) -> None:
        run = Run.objects.filter(pk=end.run_id).only("job_id", "job_name").first()
        if run is None:
            return
        asked, arrived = result.get("asked_at"), cause.get("at")
        lasted = end.ended_at - end.started_at if end.started_at else None
        Displacement.objects.create(
            run=run,
            job_id=run.job_id,
            job_name=run.job_name,
            host=self.owner,
            at=_instant(arrived or asked or time.time()),
            cause={name: cause[name] for name in SOMEBODY},
            asked_seconds=_since(arrived, asked),
            yielded_seconds=_since(arrived, result.get("yielded_at") or result["ended_at"]),
            phase=result.get("phase") or "",
            slice_seconds=lasted.total_seconds() if lasted else None,
            token=str(result.get("token") or ""),
        )
        live.changed("presence", f"job:{run.job_id}", f"run:{run.pk}")

    def _waits_for_room(self, run_id: int) -> bool:
        """Put a run back in line that found the disk full before anything of it had begun."""
        not_before = _instant(time.time() + NO_ROOM_PAUSE)
        try:
            run = Run.objects.running().filter(pk=run_id).first()
            if run is None or not run.return_to_line(not_before=not_before):
                return False
        except DatabaseError:
            return True  # still held: a later look finds that nothing has begun
        self._let_go(run_id)
        self._expect(run_id, not_before.timestamp())
        return True

    def _end(self, end: Ending) -> None:
        held = self._let_go(end.run_id)
        if held:
            self._over[end.run_id] = held
        self._endings[end.run_id] = end
        self._retry_at = 0.0

    def _let_go(self, run_id: int) -> Held | None:
        """Hold a run no longer; its room is free."""
        held = self._held.pop(run_id, None)
        if held:
            self.room.release(held.job_id, held.pools)
        self.room.of_vram.pop(run_id, None)
        if self.sentry:
            self.sentry.release(run_id)
        self._progress.pop(run_id, None)
        self.gpus.forget(run_id)
        return held

    def _write_endings(self) -> None:
        if not self._endings or time.monotonic() < self._retry_at:
            return
        try:
            put_back = [end for end in self._endings.values() if self._put_back(end)]
            for end in put_back:
                del self._endings[end.run_id]
            lengths = {run_id: self._length(end) for run_id, end in self._endings.items()}
            judged = [
                replace(end, unusual=self._durations.judge(*lengths[run_id]))
                for run_id, end in self._endings.items()
            ]
            Run.objects.finish(judged)
        except DatabaseError:
            # The results are in their folders too: nothing is lost, only late.
            log.exception("%s ends could not be written; trying again", len(self._endings))
            self._retry_at = time.monotonic() + 2
            return
        # Not before they are written: what is tried again is judged again.
        for job_id, seconds in lengths.values():
            self._durations.remember(job_id, seconds)
        for run_id in self._forgotten & self._endings.keys():
            self._remove_folder(run_id)
        self._endings.clear()
        self._over.clear()

    def _length(self, end: Ending) -> tuple[int, float | None]:
        """Return the job of a run that ended, and how many seconds it took to succeed.

        None where that says nothing: of a run that made way only the last piece is measured.
        """
        held = self._over.get(end.run_id)
        if held is None or end.state != Run.State.SUCCEEDED or end.started_at is None:
            return 0, None
        if held.attempt > 1 and Run.objects.filter(pk=end.run_id, displacements__gt=0).exists():
            return 0, None
        return held.job_id, (end.ended_at - end.started_at).total_seconds()

    # ── Another attempt ──────────────────────────────────────────────────────────────────────────
    def _put_back(self, end: Ending) -> bool:
        """Put a run back in line whose job wants another attempt; False when this was the last."""
        held = self._over.get(end.run_id)
        if held is None or not held.rules.get("max_retries"):
            return False  # most: no question to the database for them
        # A loss that was repeated is no failure, nor is making way: they use up no retry.
        no_failures = (Run.State.LOST, Attempt.DISPLACED)
        others = Attempt.objects.filter(run=end.run_id, state__in=no_failures).count()
        if not wants_retry(end, held.rules, held.attempt - others):
            return False
        pause = retry_pause(end.run_id, held.rules, held.attempt - others)
        return self._again(end, held.attempt, pause)

    def _again(self, end: Ending, attempt: int, pause: float) -> bool:
        not_before = max(end.ended_at, _instant(time.time())) + timedelta(seconds=pause)
        facts = {"attempt": attempt, "code": end.reason_code, "facts": end.reason_facts}
        facts |= {"pause": round(pause)}
        back = Run.objects.put_back(end, not_before=not_before, code="retry", facts=facts)
        if back:
            self._expect(end.run_id, not_before.timestamp())
        return back

    # ── What a running command tells ─────────────────────────────────────────────────────────────
    def _note_phase(self, told: dict[str, Any]) -> None:
        held = self._held.get(int(told["run"]))
        if held is None or held.fence != told["fence"]:
            return
        run_id, phase = int(told["run"]), str(told["phase"])
        ours = Run.objects.running().filter(pk=run_id, fence=held.fence)
        changes: dict[str, Any]
        if phase in Run.Phase.values:
            changes = {"phase": phase}
        elif phase == "soft":
            limit = held.rules.get("soft_timeout_seconds")
            changes = {"reason_code": "slow", "reason_facts": {"limit": limit}}
        elif phase in LIMITS:
            changes = {"reason_code": phase, "reason_facts": {"limit": held.rules[LIMITS[phase]]}}
        else:
            return
        with contextlib.suppress(DatabaseError), transaction.atomic():
            ours.update(**changes)
            live.changed("runs", f"run:{run_id}")

    def _note_progress(self, told: dict[str, Any]) -> None:
        run_id = int(told["run"])
        held = self._held.get(run_id)
        if held and int(told.get("fence") or held.fence) == held.fence:
            if "progress" in told or "label" in told:
                percent = told.get("progress")
                percent = None if percent is None else min(max(round(float(percent)), 0), 100)
                self._progress[run_id] = (percent, str(told.get("label") or "")[:200])
            if (token := told.get("token")) is not None:
                # Rare, and what it can't do without. The result says it again.
                with contextlib.suppress(DatabaseError):
                    Run.objects.running().filter(pk=run_id).update(progress_token=str(token))

    def _write_progress(self) -> None:
        """Write what commands have said of their progress; at most once a second."""
        told, self._progress = self._progress, {}
        with contextlib.suppress(DatabaseError), transaction.atomic():
            for run_id, (percent, label) in told.items():
                changes: dict[str, Any] = {"progress_label": label}
                if percent is not None:
                    changes["progress"] = percent
                Run.objects.running().filter(pk=run_id).update(**changes)
            live.changed("runs", *(f"run:{run_id}" for run_id in told))

    def _note_usage(self, told: dict[str, Any]) -> None:
        run_id = int(told["run"])
        if held := self._held.get(run_id):
            used = self._used(run_id, held)
            with contextlib.suppress(DatabaseError), transaction.atomic():
                Run.objects.running().filter(pk=run_id).update(**used._asdict())
                live.changed(f"run:{run_id}")

    def _used(self, run_id: int, held: Held) -> Usage:
        """Return what a run has used of GPUs, under an earlier daemon as well."""
        seconds, peak = self.gpus.usage(run_id)
        before, highest = held.used
        return Usage(
            None if seconds is None and before is None else (seconds or 0.0) + (before or 0.0),
            None if peak is None and highest is None else max(peak or 0, highest or 0),
        )

    # ── What bells did not tell ──────────────────────────────────────────────────────────────────
    def adopt(self) -> None:
        """Take over what ran here before this daemon: watch the living, finish the ended.

        A run whose supervisor is gone is lost; what is left of its processes is ended.
        """
        self._learn_rules()
        cgroups.sweep()
        for run in Run.objects.running():
            # By the folder, too: a host that was given another name is still this host.
            if run.owner == self.owner or run.folder.exists():
                self.adopt_one(run)
        for run_id, not_before in Run.objects.queued().values_list("pk", "not_before"):
            self._expect(run_id, not_before.timestamp())
        self._remove_orphaned_folders()

    def adopt_one(self, run: Run) -> None:
        """Hold a running run that an earlier daemon of this host has started."""
        used = Usage(run.gpu_seconds, run.peak_vram_bytes)
        self._held[run.pk] = Held(
            run.fence, 0.0, run.job_id, run.pools, run.attempt, run.definition, used
        )
        self._held[run.pk].needs = run.needs
        self._held[run.pk].begun_at = run.started_at
        self._held[run.pk].by_hand = _by_hand(run)
        self.room.occupy(run.job_id, run.pools)
        if run.definition.get("on_presence") in YIELDING and not run.forced_by:
            self._watch(run.pk, run.fence)
        # What it told while nobody was there to hear it.
        news: dict[str, Any] = {"run": run.pk, "fence": run.fence}
        with contextlib.suppress(OSError):
            self._note_phase(news | {"phase": (run.folder / "phase").read_text()})
        if found := progress.read(str(run.folder / "progress")):
            told, _at = found
            news["token"] = told.token
            if told.percent is not None or told.label:
                news |= {"progress": told.percent, "label": told.label}
            self._note_progress(news)

    def _look(self) -> None:
        now = time.monotonic()
        if self._line:
            self._learn_rules()
            self._learn_conditions()
        still = set(Run.objects.queued().values_list("pk", flat=True)) if self._waiting else set()
        for run_id in list(self._waiting.keys() - still):
            self._leave_line(run_id)
        lost: list[int] = []
        for run_id, held in list(self._held.items()):
            seen = supervisor.look(folder_of(run_id))
            begun = seen.fence is not None and seen.fence >= held.fence
            if seen.kind == "ended" and seen.result and seen.result["fence"] == held.fence:
                self._ended(run_id, seen.result)
            elif (seen.kind == "gone" and begun) or (
                seen.kind != "running"
                and not begun
                and now - held.since > BEGINS_WITHIN
                and self._never_begins(run_id)
            ):
                lost.append(run_id)
        if lost:
            self._give_up(lost)
        self._write_endings()
        self._record_waits(now)

    def _record_waits(self, clock: float) -> None:
        """Keep what runs at the front of the line wait for: later nobody could say."""
        now = _instant(time.time())
        reserved: set[str] = set()
        waiting: dict[int, admission.Blocked] = {}
        for candidate in itertools.islice(self._line, MOST_WAITS):
            blocked = self.room.judge(candidate, reserved)
            if blocked and (blocked.code not in PLAIN_WAITS or candidate.run_id in self._waits):
                waiting[candidate.run_id] = blocked
        over = [self._waits.pop(pk)[0].pk for pk in self._waits.keys() - waiting.keys()]
        for run_id, blocked in waiting.items():
            wait, seen = self._waits.get(run_id, (None, clock))
            if wait is not None and wait.code == blocked.code:
                if clock - seen >= SEEN_EVERY:
                    over.append(wait.pk)
                    self._waits[run_id] = wait, clock
                continue
            if wait is not None:
                over.append(wait.pk)
            facts = dict(blocked.facts)
            wait = Wait(run_id=run_id, code=blocked.code, facts=facts, began_at=now, seen_at=now)
            with contextlib.suppress(IntegrityError), transaction.atomic():  # it may be gone
                wait.save(force_insert=True)
                self._waits[run_id] = wait, clock
                kept = Wait.objects.filter(run=run_id).order_by("-pk").values_list("pk", flat=True)
                Wait.objects.filter(pk__in=list(kept[MOST_WAITS_KEPT:])).delete()
        if over:
            Wait.objects.filter(pk__in=over).update(seen_at=now)

    def _never_begins(self, run_id: int) -> bool:
        """Make sure that a launch which was lost on its way does not begin later after all."""
        fence = self._held[run_id].fence
        try:
            supervisor.request_stop(folder_of(run_id), "kill", fence)
        except OSError:
            log.warning("run %s can't be kept from beginning; looked at again", run_id)
            return False
        seen = supervisor.look(folder_of(run_id))
        return seen.kind != "running" and (seen.fence or 0) < fence

    def _give_up(self, run_ids: list[int]) -> None:
        cgroups.sweep()
        rows = Run.objects.running().in_bulk(run_ids)
        for run_id in run_ids:
            seen = supervisor.look(folder_of(run_id))
            held = self._held[run_id]
            left = processes.end_marked(run_id, run_token(), seen.session)
            if seen.kind != "gone" or (seen.fence or 0) < held.fence:
                code = "never_begun"
            elif seen.identity and seen.identity.boot != processes.boot_id():
                code = "restarted"
            else:
                code = "supervisor_gone"
            log.error("run %s lost its supervisor (%s); %s processes ended", run_id, code, left)
            self._let_go(run_id)
            try:
                if run_id in rows:
                    self._lose(rows[run_id], code)
            except DatabaseError:
                if run_id not in self._waiting:  # ours still, and looked at again
                    self._held[run_id] = held
                    self.room.occupy(held.job_id, held.pools)
                raise
            if run_id in self._forgotten:
                self._remove_folder(run_id)

    def _lose(self, run: Run, code: str) -> None:
        """Record a loss: tried once more if the job says it may be, else the end of the run.

        A run of which nothing has begun is no loss: it goes back to its place in line.
        """
        now = _instant(time.time())
        if code == "never_begun":
            if run.stop_requested_at:
                cancelled = Run.State.CANCELLED
                Run.objects.finish([Ending(run.pk, run.fence, cancelled, now, None, "cancelled")])
                return
            if run.return_to_line():
                self._expect(run.pk, run.not_before.timestamp())
                return
        lost = Ending(run.pk, run.fence, Run.State.LOST, now, run.started_at, code)
        repeat = run.definition.get("on_loss") == Job.Loss.REPEAT
        before = Attempt.objects.filter(run=run, state=Run.State.LOST).exists()
        if not (repeat and not before and self._again(lost, run.attempt, LOSS_PAUSE)):
            run.give_up(now=now, code=code)
        try:
            self._brake(run.job_id, now)
        except DatabaseError:  # the loss is written; the next one will see
            log.exception("job %s could not be switched off", run.job_id)

    def _brake(self, job_id: int, now: datetime) -> None:
        """Switch a job off that loses one run after another."""
        since = now - LOSSES_WITHIN
        lost = Run.objects.filter(job_id=job_id, state=Run.State.LOST, ended_at__gte=since).count()
        lost += Attempt.objects.filter(
            run__job_id=job_id, state=Run.State.LOST, ended_at__gte=since
        ).count()
        job = Job.objects.filter(pk=job_id).first()
        if job is None or lost < MOST_LOSSES:
            return
        if job.set_active(False, now=now, by="daemon"):
            log.error("job %s was switched off: %s of its runs were lost", job_id, lost)
            Incident.note("poisoned", now=now, level=Incident.Level.ERROR, job=job, n=lost)

    def _forget(self, run_id: int) -> None:
        self._leave_line(run_id)
        self._forgotten.add(run_id)
        if run_id in self._held:
            self._stop(run_id)
        else:
            self._remove_folder(run_id)

    def _remove_folder(self, run_id: int) -> None:
        self._forgotten.discard(run_id)
        self._doomed.append(folder_of(run_id))

    def _remove_some(self) -> None:
        """Remove a few folders: a job with many runs must not hold up a start."""
        for folder in self._doomed[:REMOVED_A_TURN]:
            shutil.rmtree(folder, ignore_errors=True)
            # A supervisor may be about to make its folder beside it.
            if not any(folder_of(pk).parent == folder.parent for pk in self._held):
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()
        del self._doomed[:REMOVED_A_TURN]

    def _remove_orphaned_folders(self) -> None:
        """Remove output whose row was deleted while no runner was there to hear of it.

        What still runs of it is stopped first.
        """
        for bucket in Path(settings.RUNS_DIR).glob("*"):
            if not bucket.name.isdecimal():
                continue
            ids = {int(entry.name) for entry in bucket.iterdir() if entry.name.isdecimal()}
            kept = set(Run.objects.filter(pk__in=ids).values_list("pk", flat=True))
            for run_id in ids - kept - self._held.keys():
                seen = supervisor.look(folder_of(run_id))
                if seen.kind == "running" and seen.fence is not None:
                    self._held[run_id] = Held(seen.fence, 0.0)
                    self.room.occupy(0, {})
                self._forget(run_id)


def specification(run: Run, runtime: Path) -> dict[str, Any]:
    """Return what a supervisor is told of a run: command, environment, limits, where to write.

    The fence is added by the claim.
    """
    wanted = run.definition
    return {
        "run": run.pk,
        "folder": str(run.folder),
        "argv": command_line(wanted),
        "env": environment(run, runtime),
        "cwd": os.path.expanduser(wanted["working_directory"] or "~"),  # noqa: PTH111 - a string is sent
        "timeout": wanted["timeout_seconds"] or None,
        "soft_timeout": wanted["soft_timeout_seconds"],
        "grace": wanted["grace_seconds"],
        "nice": wanted["nice"] or None,
        "ionice": "idle" if wanted["idle_io"] else None,
        "leave_descendants": wanted["leave_descendants"],
        "stop_command": wanted.get("stop_command") or None,
        "ask_signal": wanted.get("ask_signal") or "TERM",
        "cpu_limit": wanted.get("cpu_limit_seconds"),
        "memory_limit": (wanted.get("memory_limit_mb") or 0) * MIB or None,
        "limit_sustain": wanted.get("limit_sustain_seconds"),
        "limit_action": wanted.get("limit_action"),
        "runtime": str(runtime),
    }


def command_line(wanted: dict[str, Any]) -> list[str]:
    """Return the arguments to execute: by the shell, split, or a script with its arguments."""
    if wanted.get("skill"):
        return skills.command_line(wanted["skill"])
    if wanted["script_path"]:
        script = os.path.expanduser(wanted["script_path"])  # noqa: PTH111 - a string is sent
        start = [sys.executable, script] if script.endswith(".py") else [script]
        return [*start, *shlex.split(wanted["arguments"])]
    line = f"{wanted['command']} {wanted['arguments']}".strip()
    if wanted["use_shell"]:
        return ["/bin/sh", "-c", line]
    words = shlex.split(line)
    if words and words[0] in {"python", "python3"}:
        words[0] = sys.executable
    return words


@cache
def inherited() -> dict[str, str]:
    """Return what commands get of our own environment, which does not change while we live."""
    kept = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    # `python` and `bach` mean ours.
    path = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH') or PLAIN_PATH}"  # noqa: PTH120
    return kept | {"PATH": path}


def environment(run: Run, runtime: Path) -> dict[str, str]:
    """Return the command's environment: an allow-list of ours, the job's own, and who it is."""
    parameters = {
        f"BACH_PARAM_{name.upper()}": value for name, value in run.definition["parameters"].items()
    }
    return {
        **inherited(),
        **(skills.environment() if run.definition.get("skill") else {}),
        **run.definition["environment"],
        **parameters,
        **processes.marks(run.pk, run_token()),
        "BACH_JOB": run.job_name,
        "BACH_DUE": run.due_at.astimezone(UTC).isoformat(),
        "BACH_ATTEMPT": str(run.attempt),
        "BACH_PROGRESS": str(run.folder / "progress"),
        "BACH_STOP": str(run.folder / "asked"),
        "BACH_RUNTIME": str(runtime),
        **({"BACH_PROGRESS_TOKEN": run.progress_token} if run.progress_token else {}),
    }


def run_token() -> str:
    """Return what tells this installation's runs from those of another on the same host."""
    return hashlib.sha256(os.fsencode(settings.DATA_DIR)).hexdigest()[:16]


def ending(run_id: int, result: dict[str, Any], rules: Mapping[str, Any], used: Usage) -> Ending:
    """Return what is written of a supervisor's result: the state, and a reason or a remark.

    `rules` are the run's definition, `used` is what it took of GPUs.
    """
    state, code, facts = _verdict(result, rules)
    if not code:
        code, facts = _remark(result, rules)
    return Ending(
        run_id=run_id,
        fence=result["fence"],
        state=state,
        ended_at=_instant(result["ended_at"]),
        started_at=_instant(result["started_at"]) if result.get("started_at") else None,
        reason_code=code,
        reason_facts=facts,
        exit_code=result.get("exit_code"),
        signal=result.get("signal"),
        cpu_seconds=result.get("cpu_seconds"),
        peak_rss_bytes=result.get("peak_rss_bytes"),
        read_bytes=result.get("read_bytes"),
        write_bytes=result.get("write_bytes"),
        gpu_seconds=used.gpu_seconds,
        peak_vram_bytes=used.peak_vram_bytes,
        output_bytes=result.get("output_bytes", 0),
        dropped_bytes=result.get("dropped_bytes", 0),
        output_lines=result.get("lines", 0),
        last_line=(result.get("last_line") or "")[:200],
        progress=result.get("progress"),
        progress_label=result.get("progress_label") or "",
    )


def found_no_room(result: dict[str, Any]) -> bool:
    """Return whether a command was not started because its folder could not be made."""
    return result.get("error_what") == "folder" and result.get("error") in {"ENOSPC", "EDQUOT"}


def wants_retry(end: Ending, rules: Mapping[str, Any], attempt: int) -> bool:
    """Return whether an attempt that ended so is to be followed by another (semantics 4)."""
    if attempt > rules.get("max_retries", 0):
        return False
    if end.state == Run.State.TIMED_OUT:
        return bool(rules.get("retry_on_timeout"))
    if end.state != Run.State.FAILED or end.reason_code in LIMITS:
        return False
    codes = rules.get("retry_exit_codes")
    return not codes or end.exit_code in codes


def retry_pause(run_id: int, rules: Mapping[str, Any], attempt: int) -> float:
    """Return the seconds to wait after attempt `attempt` (from 1): doubled each time, +-10 %.

    The jitter belongs to run and attempt, so that it is the same after a restart.
    """
    doubled = 2.0 ** min(attempt - 1, 20)  # beyond that it is the longest pause anyway
    base = min(rules.get("retry_backoff_seconds", 10) * doubled, LONGEST_PAUSE)
    digest = hashlib.sha256(f"{run_id}/{attempt}".encode()).digest()
    return float(base * (1 - JITTER + 2 * JITTER * digest[0] / 255))


def _by_hand(run: Run) -> bool:
    return run.trigger == Run.Trigger.MANUAL and not run.displacements


def _by_order(candidate: Candidate) -> admission.Order:
    return candidate.order


NOT_STARTED = {
    "ENOENT": "not_found",
    "EACCES": "not_executable",
    "EPERM": "not_executable",
    "ENOEXEC": "bad_interpreter",
    "ELIBBAD": "bad_interpreter",
}
SHELL_CODES = {126, 127}
YIELDING = {Job.Presence.DISPLACE, Job.Presence.CANCEL}
# Waits that are plain to see from the other runs of the time; kept only between others.
PLAIN_WAITS = {"waits_slots", "waits_turn"}
# What a crossed limit is called, and the rule that set it.
LIMITS = {"cpu_limit": "cpu_limit_seconds", "memory_limit": "memory_limit_mb"}
MIB = 1 << 20
NO_ROOM_PAUSE = 5.0  # seconds before a run is tried that found the disk full
LOSS_PAUSE = 1.0  # seconds before a lost run is tried again
SIGKILL = 9


def _verdict(  # noqa: PLR0911 - one for each end
    result: dict[str, Any], rules: Mapping[str, Any]
) -> tuple[str, str, dict[str, Any]]:
    """Return state, reason code and facts of a result."""
    outcome = result["outcome"]
    if outcome == "over_limit":
        code = f"{result['limit']}_limit"
        return Run.State.FAILED, code, {"limit": rules.get(LIMITS[code])}
    if outcome == "timed_out":
        return Run.State.TIMED_OUT, "timed_out", {}
    if outcome in {"stopped", "displaced"}:
        return Run.State.CANCELLED, "cancelled", {}
    if outcome == "not_started":
        error = str(result.get("error") or "")
        path = str(result.get("error_path") or "")
        if result.get("error_what") == "cwd":
            return Run.State.FAILED, "no_folder", {"path": path}
        code = NOT_STARTED.get(error, "start_failed")
        return Run.State.FAILED, code, {"path": path, "error": error}
    if outcome == "signaled":
        number = result["signal"]
        if number == SIGKILL:
            return Run.State.FAILED, "killed", {}
        return Run.State.FAILED, "signal", {"signal": number}
    exit_code = result["exit_code"]
    if exit_code == 0:
        return Run.State.SUCCEEDED, "", {}
    if exit_code in SHELL_CODES:
        return Run.State.FAILED, f"exit_{exit_code}", {}
    return Run.State.FAILED, "exit", {"code": exit_code}


def _remark(result: dict[str, Any], rules: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what has to be said of a run that went well: a reason code, "" for nothing."""
    if result.get("output_error"):
        return "output_cut", {"error": result["output_error"]}
    if result.get("survivors"):
        return "survivors", {"n": result["survivors"]}
    if result.get("left_behind"):
        return "left_behind", {"n": result["left_behind"]}
    if result.get("limit"):
        code = f"{result['limit']}_limit"
        return code, {"limit": rules.get(LIMITS[code])}
    soft_timeout = rules.get("soft_timeout_seconds")
    if soft_timeout and result["duration"] > soft_timeout:
        return "slow", {"limit": round(soft_timeout)}
    return "", {}


def _since(first: float | None, last: float | None) -> float | None:
    """Return the seconds between two instants; None when one of them is not known."""
    return None if first is None or last is None else max(last - first, 0.0)


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

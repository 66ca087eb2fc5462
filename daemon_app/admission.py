"""Who may start now, and why the others wait: gates, slots, pools, overlap, everything held.

The runner asks before it claims, the pages ask to explain; both by the same rules.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import F, QuerySet

from daemon_app import gates
from daemon_app.gates.conditions import Conditions
from daemon_app.models import Node, Policy, Pool, Run, reasons

# By then a command has taken the VRAM it needs, as far as nobody can measure it.
GROWN_AFTER = timedelta(seconds=60)
MIB = 1 << 20

Order = tuple[bool, int, int, float, int]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What has to be known of a waiting run to say whether it may start."""

    run_id: int
    job_id: int
    order: Order
    limit: int  # runs of its job at once
    pools: Mapping[str, int] = field(default_factory=dict)
    beside: bool = False
    needs: Mapping[str, Any] = field(default_factory=dict)
    forced: bool = False  # it starts whatever its conditions say

    @classmethod
    def of(cls, run: Run, limit: int) -> "Candidate":
        """Return the candidate that a queued run is, in a job that runs `limit` times at once."""
        about = (run.pools, run.beside, run.needs, bool(run.forced_by))
        return cls(run.pk, run.job_id, order(run), limit, *about)


def order(run: Run) -> Order:
    """Return what sorts a run into the line: a person's hand, priority, due instant, number."""
    return (
        run.rank is None,
        run.rank or 0,
        -run.priority,
        run.due_at.timestamp(),
        run.pk,
    )


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a run may not start now: a code of `reasons` and its facts."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Room:
    """How much may run, what is taken of it, and what is true of the machine."""

    def __init__(
        self,
        parallel: int,
        sizes: Mapping[str, int],
        *,
        held: str = "",
        conditions: Conditions | None = None,
    ) -> None:
        self.parallel = parallel
        self.sizes = sizes
        self.held = held
        self.taken = 0
        self.of_pool: Counter[str] = Counter()
        self.of_job: Counter[int] = Counter()
        # VRAM in MB that runs were admitted for and have not taken yet, by run.
        self.of_vram: dict[int, float] = {}
        self.conditions = conditions

    @property
    def conditions(self) -> Conditions | None:
        """What gates go by; without it all of them are open."""
        return self._conditions

    @conditions.setter
    def conditions(self, conditions: Conditions | None) -> None:
        self._conditions = conditions
        # Thousands of runs in line ask for the same few things.
        self._said: dict[str, gates.Verdict | None] = {}

    def occupy(self, job_id: int, pools: Mapping[str, int]) -> None:
        """Count a run of `job_id` that takes its weights from `pools`."""
        self.taken += 1
        self.of_job[job_id] += 1
        self.of_pool.update(pools)

    def release(self, job_id: int, pools: Mapping[str, int]) -> None:
        """Count such a run no longer."""
        self.taken -= 1
        self.of_job[job_id] -= 1
        if not self.of_job[job_id]:
            del self.of_job[job_id]
        self.of_pool.subtract(pools)

    def take_in(self, candidate: Candidate) -> None:
        """Count an admitted run, with the VRAM that it is going to take."""
        self.occupy(candidate.job_id, candidate.pools)
        if vram := candidate.needs.get("vram_mb"):
            self.of_vram[candidate.run_id] = vram

    def closed_gate(self, needs: Mapping[str, Any]) -> gates.Verdict | None:
        """Return the first gate that is closed to a run with `needs`; None when all are open."""
        if self._conditions is None:
            return None
        if needs.get("vram_mb"):
            reserved = sum(self.of_vram.values())
            return gates.closed(needs, replace(self._conditions, reserved_vram_mb=reserved))
        key = repr(needs)
        if key not in self._said:
            self._said[key] = gates.closed(needs, self._conditions)
        return self._said[key]

    @property
    def is_full(self) -> bool:
        """Whether nothing can start, whatever it needs."""
        return bool(self.held) or self.taken >= self.parallel

    def judge(self, candidate: Candidate, reserved: set[str]) -> Blocked | None:
        """Return why `candidate` may not start; None when it may.

        `reserved` are pools for which a run further ahead in the line waits. A run that waits for
        room in a pool reserves it, so that smaller ones behind can't keep it waiting for ever.
        """
        if self.held:
            return Blocked("waits_held", {"who": self.held})
        if not candidate.beside and self.of_job[candidate.job_id] >= candidate.limit:
            return Blocked("waits_overlap", {"n": self.of_job[candidate.job_id]})
        # Before the pools: who waits for something else must not keep others from theirs.
        if not candidate.forced and (gate := self.closed_gate(candidate.needs)):
            return Blocked(gate.code, gate.facts)
        if blocked := self._judge_pools(candidate, reserved):
            return blocked
        if self.taken >= self.parallel:
            return Blocked("waits_slots", {"n": self.parallel})
        return None

    def _judge_pools(self, candidate: Candidate, reserved: set[str]) -> Blocked | None:
        ahead = None
        for pool, need in candidate.pools.items():
            if pool not in self.sizes:
                return Blocked("waits_no_pool", {"pool": pool})
            size = self.sizes[pool]
            free = size - self.of_pool[pool]
            if need > size:
                return Blocked("waits_impossible", {"pool": pool, "need": need, "size": size})
            if need > free:
                reserved.add(pool)
                return Blocked(
                    "waits_pool", {"pool": pool, "need": need, "free": max(free, 0), "size": size}
                )
            if pool in reserved:
                ahead = Blocked("waits_turn", {"pool": pool})
        return ahead


def admit(room: Room, line: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield those of `line`, in its order, that may start now; each takes its room at once."""
    reserved: set[str] = set()
    for candidate in line:
        if room.is_full:
            return
        if room.judge(candidate, reserved) is None:
            room.take_in(candidate)
            yield candidate


def still_to_take(
    vram_mb: float, used_bytes: int | None, started_at: datetime, measured_at: datetime | None
) -> float:
    """Return the MB of VRAM that a run was admitted for and that no reading shows as taken yet.

    Where its own use is not measured, a reading of a minute after its start shows all of it.
    """
    if used_bytes is not None:
        return max(vram_mb - used_bytes / MIB, 0.0)
    grown = measured_at is not None and measured_at - started_at >= GROWN_AFTER
    return 0.0 if grown else vram_mb


# ── For people ───────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Waiting:
    """A run in line: its place (1 is next; None while its time has not come) and why it waits."""

    run: Run
    position: int | None
    code: str
    facts: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        """Why it waits, in the current language."""
        return reasons.sentence(self.code, self.facts)


# What people are shown of a waiting run; its definition and output stay where they are.
SHOWN = (
    *("id", "job_id", "job_name", "trigger", "started_by", "state", "priority", "rank", "pools"),
    *("due_at", "not_before", "expires_at", "queued_at", "attempt", "beside", "reason_code"),
    *("reason_facts", "blocking_run_id", "stop_requested_by", "needs", "forced_by"),
    *("displacements", "progress_token"),
)
# `order`, as the database says it
IN_ORDER = (F("rank").asc(nulls_last=True), "-priority", "due_at", "pk")


def line(now: datetime, limit: int | None = None) -> list[Waiting]:
    """Return the waiting runs in the order in which they will start, each with its reason.

    First those whose time has come, then retries and starts caught up, by their time. Occurrences
    that are written shortly before they are due are not in it.
    """
    rows = _ready(now).annotate(job_limit=F("job__max_instances")).only(*SHOWN)[:limit]
    judged = _judged(_each(rows), now)
    shown = [
        Waiting(run, position, blocked.code, blocked.facts)
        for position, (run, blocked) in enumerate(judged, 1)
    ]
    later = (
        Run.objects.queued()
        .filter(not_before__gt=now, due_at__lte=now)
        .order_by("not_before", "pk")
    )
    rest = None if limit is None else limit - len(shown)
    shown += [_later(run) for run in later.only(*SHOWN)[:rest]]
    return shown


def length(now: datetime) -> int:
    """Return how many runs are in line."""
    return Run.objects.queued().filter(due_at__lte=now).count()


def waiting(run: Run, now: datetime) -> Waiting | None:
    """Return a queued run's place in line and why it waits; None when it does not wait."""
    return waiting_among([run], now).get(run.pk)


def waiting_among(runs: Iterable[Run], now: datetime) -> dict[int, Waiting]:
    """Return by number what `waiting` says of each of `runs` that waits."""
    wanted = {run.pk: run for run in runs if run.state == Run.State.QUEUED and run.due_at <= now}
    found = {pk: _later(run) for pk, run in wanted.items() if run.not_before > now}
    if len(found) == len(wanted):
        return found
    light = _ready(now).values_list(
        *("pk", "job_id", "job__max_instances", "pools", "beside", "needs", "forced_by")
    )
    judged = _judged(_each_of(light), now)
    for position, (pk, blocked) in enumerate(judged, 1):
        if pk in wanted:
            found[pk] = Waiting(wanted[pk], position, blocked.code, blocked.facts)
            if len(found) == len(wanted):
                break
    return found


def _ready(now: datetime) -> QuerySet[Run]:
    return Run.objects.queued().filter(not_before__lte=now).order_by(*IN_ORDER)


# Read when they are judged, not before: a run that is claimed in between would wait for itself.
def _each(rows: QuerySet[Run]) -> Iterator[tuple[Run, Candidate]]:
    for run in rows:
        yield run, Candidate.of(run, run.job_limit)  # type: ignore[attr-defined]


def _each_of(rows: QuerySet[Run, Any]) -> Iterator[tuple[int, Candidate]]:
    for row in rows.iterator():
        yield row[0], _candidate(*row)


NOWHERE: Order = (True, 0, 0, 0.0, 0)


def _candidate(  # noqa: PLR0913, PLR0917 - a row
    pk: int,
    job_id: int,
    limit: int,
    pools: Mapping[str, int],
    beside: bool,
    needs: Mapping[str, Any],
    forced_by: str,
) -> Candidate:
    return Candidate(pk, job_id, NOWHERE, limit, pools, beside, needs, bool(forced_by))


def _later(run: Run) -> Waiting:
    code = "waits_retry" if run.attempt > 1 else "waits_spread"
    if run.reason_code == "displaced":
        code = "waits_displaced"
    return Waiting(run, None, code, {**run.reason_facts, "at": run.not_before})


Item = TypeVar("Item")


def _judged(
    line: Iterable[tuple[Item, Candidate]], now: datetime
) -> Iterator[tuple[Item, Blocked]]:
    """Yield each of `line` with why it waits."""
    room, running = current_room(now)
    node = Node.latest()
    silent = node is None or not node.is_alive(now)
    reserved: set[str] = set()
    for item, candidate in line:
        blocked = room.judge(candidate, reserved)
        if blocked is None:
            room.take_in(candidate)
            blocked = Blocked("waits_daemon" if silent else "waits_starting")
        elif blocked.code == "waits_overlap":
            blocked = Blocked(blocked.code, {**blocked.facts, "run": running.get(candidate.job_id)})
        yield item, blocked


def current_room(now: datetime | None = None) -> tuple[Room, dict[int, int]]:
    """Return the room as the database knows it, and the newest running run of each job.

    Without `now` it only counts: gates are left open.
    """
    policy = Policy.current()
    held = (policy.held_by or "?") if policy.is_held else ""
    conditions = Conditions.current(now) if now else None
    room = Room(policy.parallel, Pool.sizes(), held=held, conditions=conditions)
    newest: dict[int, int] = {}
    running = Run.objects.running().order_by("pk")
    asked = ("pk", "job_id", "pools", "needs", "peak_vram_bytes", "started_at")
    for pk, job_id, pools, needs, used, started_at in running.values_list(*asked):
        room.occupy(job_id, pools)
        if conditions and started_at and (vram := needs.get("vram_mb")):
            room.of_vram[pk] = still_to_take(vram, used, started_at, conditions.measured_at)
        newest[job_id] = pk
    return room, newest

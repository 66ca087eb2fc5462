"""Who may start now, and why the others wait: slots, pools, overlap, and everything held.

The runner asks before it claims, the pages ask to explain; both by the same rules.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F

from daemon_app.models import Node, Policy, Pool, Run, reasons

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

    @classmethod
    def of(cls, run: Run, limit: int) -> "Candidate":
        """Return the candidate that a queued run is, in a job that runs `limit` times at once."""
        return cls(run.pk, run.job_id, order(run), limit, run.pools, run.beside)


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
    """How much may run, and what is taken of it."""

    def __init__(self, parallel: int, sizes: Mapping[str, int], *, held: str = "") -> None:
        self.parallel = parallel
        self.sizes = sizes
        self.held = held
        self.taken = 0
        self.of_pool: Counter[str] = Counter()
        self.of_job: Counter[int] = Counter()

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

    @property
    def is_full(self) -> bool:
        """Whether nothing can start, whatever it needs."""
        return bool(self.held) or self.taken >= self.parallel

    def judge(self, candidate: Candidate, reserved: set[str]) -> Blocked | None:  # noqa: PLR0911 - one for each reason
        """Return why `candidate` may not start; None when it may.

        `reserved` are pools for which a run further ahead in the line waits. A run that waits for
        room in a pool reserves it, so that smaller ones behind can't keep it waiting for ever.
        """
        if self.held:
            return Blocked("waits_held", {"who": self.held})
        if not candidate.beside and self.of_job[candidate.job_id] >= candidate.limit:
            return Blocked("waits_overlap", {"n": self.of_job[candidate.job_id]})
        ahead = None
        for pool, need in candidate.pools.items():
            size = self.sizes.get(pool, 0)
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
        if ahead:
            return ahead
        if self.taken >= self.parallel:
            return Blocked("waits_slots", {"n": self.parallel})
        return None


def admit(room: Room, line: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield those of `line`, in its order, that may start now; each takes its room at once."""
    reserved: set[str] = set()
    for candidate in line:
        if room.is_full:
            return
        if room.judge(candidate, reserved) is None:
            room.occupy(candidate.job_id, candidate.pools)
            yield candidate


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


# What the line needs of a run; its definition and output stay where they are.
SHOWN = (
    *("id", "job_id", "job_name", "trigger", "started_by", "state", "priority", "rank", "pools"),
    *("due_at", "not_before", "expires_at", "queued_at", "attempt", "beside", "reason_code"),
    *("reason_facts", "blocking_run_id", "stop_requested_by"),
)


def line(now: datetime, limit: int | None = None) -> list[Waiting]:
    """Return the waiting runs in the order in which they will start, each with its reason.

    First those whose time has come, then retries and starts caught up, by their time. Occurrences
    that are written shortly before they are due are not in it.
    """
    waiting = list(
        Run.objects.queued()
        .filter(due_at__lte=now)
        .annotate(job_limit=F("job__max_instances"))
        .only(*SHOWN)
    )
    ready = sorted((run for run in waiting if run.not_before <= now), key=order)
    later = sorted((run for run in waiting if run.not_before > now), key=lambda r: r.not_before)
    room, running = current_room()
    reserved: set[str] = set()
    node = Node.latest()
    silent = node is None or not node.is_alive(now)
    shown: list[Waiting] = []
    for position, run in enumerate(ready[:limit], 1):
        candidate = Candidate.of(run, run.job_limit)  # type: ignore[attr-defined]
        blocked = room.judge(candidate, reserved)
        if blocked is None:
            room.occupy(candidate.job_id, candidate.pools)
            blocked = Blocked("waits_daemon" if silent else "waits_starting")
        facts = dict(blocked.facts)
        if blocked.code == "waits_overlap":
            facts["run"] = running.get(run.job_id)
        shown.append(Waiting(run, position, blocked.code, facts))
    for run in later[: None if limit is None else max(limit - len(shown), 0)]:
        code = "waits_retry" if run.attempt > 1 else "waits_spread"
        shown.append(Waiting(run, None, code, {**run.reason_facts, "at": run.not_before}))
    return shown


def waiting(run: Run, now: datetime) -> Waiting | None:
    """Return a queued run's place in line and why it waits; None when it does not wait."""
    if run.state != Run.State.QUEUED:
        return None
    return next((found for found in line(now) if found.run.pk == run.pk), None)


def current_room() -> tuple[Room, dict[int, int]]:
    """Return the room as the database knows it, and the newest running run of each job."""
    policy = Policy.current()
    held = (policy.held_by or "?") if policy.is_held else ""
    room = Room(policy.parallel, Pool.sizes(), held=held)
    newest: dict[int, int] = {}
    running = Run.objects.running().order_by("pk").values_list("pk", "job_id", "pools")
    for pk, job_id, pools in running:
        room.occupy(job_id, pools)
        newest[job_id] = pk
    return room, newest

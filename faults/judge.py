"""The judgement: what should have happened, what the ledger says, and what the database claims.

Pure: from facts to counters. What is expected is worked out here, without the product's evaluator.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from faults.ledger import MICROSECOND, End, Ledger, Start, micros

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost", "skipped", "missed"}
NEVER_STARTED = {"skipped", "missed"}
# Ends that a fault aimed at the run itself, at its command or its supervisor, may bring about.
BY_A_FAULT = {"lost", "failed", "cancelled", "timed_out"}
COUNTERS = ("L", "D", "D2", "O", "G", "U", "W", "I", "P", "H")
MOST_FINDINGS = 200
TAKEN_WITHIN = 2 * MICROSECOND  # from the claim to the death of the supervisor that took it


@dataclass
class Plan:
    """A job as the harness made it: a name, the instants it owes, the rules that excuse."""

    name: str
    due: set[int] = field(default_factory=set)
    overlapping: bool = False  # several of its runs may be active at once
    attempts: int = 1  # that its rules allow for one run
    removed: bool = False  # the job was deleted: its rows are gone
    stoppable: bool = False  # its runs may be cancelled, or meet their time limit
    unordered: bool = False  # its starts may come in another order than their instants
    pool: str = ""  # of size one: no two runs of its jobs at once


@dataclass(frozen=True)
class Press:
    """A start that was asked for with an idempotency key, and acknowledged with a run."""

    key: str
    run: int


@dataclass(frozen=True)
class Fault:
    """What was done, when (seconds since the round began), and to which run if it was one's own."""

    kind: str
    after: float
    at: int
    pid: int | None = None
    run: int | None = None


@dataclass
class Facts:
    """All that is known of a round that is over."""

    plans: Sequence[Plan] = ()
    presses: Sequence[Press] = ()
    faults: Sequence[Fault] = ()
    ledger: Ledger = field(default_factory=Ledger)
    # Of daemon_runs: id, job_name, state, trigger, due, started, ended (microseconds or None),
    # attempt, exit_code, reason_code, reason_facts, blocking_run_id, idempotency_key, output_bytes,
    # dropped_bytes.
    rows: Sequence[dict[str, Any]] = ()
    living: Sequence[tuple[int, int]] = ()  # (pid, run) of processes that carry a run's mark
    broken: Sequence[str] = ()  # what integrity and foreign key checks had to say


@dataclass
class Verdict:
    """The counters, and a sentence for each thing that was counted."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    expected: int = 0
    starts: int = 0
    late: list[int] = field(default_factory=list)  # microseconds from due to start
    noticed: list[int] = field(default_factory=list)  # from a supervisor's end to its run's
    states: Counter[str] = field(default_factory=Counter)

    def add(self, counter: str, finding: str) -> None:
        """Count something that must not be."""
        self.counts[counter] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(f"{counter}: {finding}")


_Span = tuple[int, int | None, Start]  # from, until (None: unknown), what


def _begin(span: _Span) -> int:
    return span[0]


def judge(facts: Facts) -> Verdict:
    """Return the counters of a round."""
    return _Judgement(facts).verdict


class _Judgement:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.verdict = Verdict()
        self.plans = {plan.name: plan for plan in facts.plans}
        self.rows = {row["id"]: row for row in facts.rows}
        self.occurrences = {
            (row["job_name"], row["due"]): row for row in facts.rows if row["trigger"] == "schedule"
        }
        self.starts: dict[int, list[Start]] = defaultdict(list)
        for start in facts.ledger.starts:
            self.starts[start.run].append(start)
        self.ends: dict[tuple[int, int], End] = {
            (end.run, end.attempt): end for end in facts.ledger.ends
        }
        # A fault at the zygote, the daemon or all of the service excuses no run: only those that
        # were aimed at the run's own processes do.
        self.hit = {fault.run: fault for fault in facts.faults if fault.run is not None}
        self._lost()
        self._doubled()
        self._explained()
        self._ordered()
        self._tidy()
        self._timely()

    # ── L ────────────────────────────────────────────────────────────────────────────────────────
    def _lost(self) -> None:
        started = {(start.job, start.due) for starts in self.starts.values() for start in starts}
        for plan in self.plans.values():
            if plan.removed:
                continue
            self.verdict.expected += len(plan.due)
            open_due = set()
            for due in plan.due:
                row = self.occurrences.get((plan.name, due))
                if (plan.name, due) in started or (row and self._says_why(row)):
                    continue
                open_due.add(due)
            for due in open_due - self._summed_up(plan, open_due):
                row = self.occurrences.get((plan.name, due))
                state = f"its row says {row['state']} {row['reason_code']}" if row else "no row"
                self.verdict.add("L", f"{plan.name} at {due}: never started, {state}")
        for press in self.facts.presses:
            self.verdict.expected += 1
            row = self.rows.get(press.run)
            if row is None or not (self.starts[press.run] or self._says_why(row)):
                self.verdict.add("L", f"start {press.key}: acknowledged as {press.run}, no start")

    def _says_why(self, row: dict[str, Any]) -> bool:
        """Return whether a row that never started says why."""
        if row["state"] in NEVER_STARTED:
            return bool(row["reason_code"])
        plan = self.plans.get(row["job_name"])
        if row["state"] == "cancelled" and plan and plan.stoppable:
            return True
        if self._found_no_room(row):
            return True
        return row["state"] in BY_A_FAULT and bool(self._hit(row) and row["reason_code"])

    def _found_no_room(self, row: dict[str, Any]) -> bool:
        """Return whether a row says that its command could not begin on the disk that we filled."""
        refused = row["state"] == "failed" and row["reason_facts"].get("error") == "ENOSPC"
        return refused and any(fault.kind == "disk full" for fault in self.facts.faults)

    def _summed_up(self, plan: Plan, open_due: set[int]) -> set[int]:
        """Return the instants that a row covers which stands for many missed ones."""
        covered: set[int] = set()
        mine = sorted(due for name, due in self.occurrences if name == plan.name)
        for place, due in enumerate(mine):
            row = self.occurrences[plan.name, due]
            facts = row["reason_facts"]
            if row["reason_code"] == "misfire_many":
                following = mine[place + 1] if place + 1 < len(mine) else due
                span = {at for at in open_due if due < at < following}
                told = facts["more"]
            elif row["reason_code"] == "misfire_summary":
                first, last = (micros(facts[name]) for name in ("first", "last"))
                span = {at for at in open_due if first <= at <= last}
                # Its own instant has a row, this one.
                told = facts["count"] - len([at for at in mine if first <= at <= last])
            else:
                continue
            covered |= span
            if told != len(span):
                self.verdict.add(
                    "U", f"{plan.name} at {due}: tells of {told} missed, {len(span)} were"
                )
        return covered

    # ── D, D2 ────────────────────────────────────────────────────────────────────────────────────
    def _doubled(self) -> None:
        tries = Counter((s.run, s.attempt) for starts in self.starts.values() for s in starts)
        for (run, attempt), count in tries.items():
            if count > 1:
                self.verdict.add("D", f"run {run}, attempt {attempt}: started {count} times")
        runs: dict[tuple[str, int], set[int]] = defaultdict(set)
        for run, starts in self.starts.items():
            row = self.rows.get(run)
            if row is None or row["trigger"] == "schedule":
                for start in starts:
                    runs[start.job, start.due].add(run)
            self._tried_as_often_as_allowed(run, starts)
        for (job, due), ids in runs.items():
            if len(ids) > 1:
                self.verdict.add("D", f"{job} at {due}: started as {sorted(ids)}")
        keys = Counter(row["idempotency_key"] for row in self.rows.values())
        for key, count in keys.items():
            if key and count > 1:
                self.verdict.add("D", f"key {key}: {count} runs")

    def _tried_as_often_as_allowed(self, run: int, starts: list[Start]) -> None:
        attempts = {start.attempt for start in starts}
        plan = self.plans.get(starts[0].job) if starts else None
        if plan and len(attempts) > plan.attempts:
            self.verdict.add("D2", f"run {run}: {len(attempts)} attempts, {plan.attempts} may")

    # ── U ────────────────────────────────────────────────────────────────────────────────────────
    def _explained(self) -> None:
        for line in self.facts.ledger.torn:
            self.verdict.add("U", f"the ledger has a line that can't be read: {line[:100]!r}")
        for run, starts in self.starts.items():
            plan = self.plans.get(starts[0].job) if starts else None
            if starts and run not in self.rows and not (plan and plan.removed):
                self.verdict.add("U", f"run {run} of {starts[0].job} started and has no row")
        for row in self.rows.values():
            if plan := self.plans.get(row["job_name"]):
                self.verdict.states[row["state"]] += 1
                if problem := self._unexplained(row, plan):
                    told = f"{row['state']} {row['reason_code']}".strip()
                    self.verdict.add("U", f"run {row['id']} of {plan.name} ({told}): {problem}")

    def _unexplained(self, row: dict[str, Any], plan: Plan) -> str:
        """Return what of a row the ledger and the faults do not explain; "" for nothing."""
        starts = self.starts.get(row["id"], [])
        if row["state"] in NEVER_STARTED:
            if starts and row["attempt"] == 1:
                return "the ledger has its start"
            in_its_way = row["reason_code"] in {"overlap", "superseded"}
            unnamed = in_its_way and row["blocking_run_id"] is None
            return "names no run that was in its way" if unnamed else ""
        hit = self._hit(row)
        if row["state"] == "lost":
            if hit is None:
                return "nobody touched its processes"
            self.verdict.noticed.append((row["ended"] or 0) - hit.at)
            return ""
        if row["state"] not in FINAL:
            return ""  # counted as a ghost
        may_differ = bool(hit) or plan.stoppable or self._found_no_room(row)
        return self._ended_otherwise(row, starts, may_differ=may_differ)

    def _ended_otherwise(
        self, row: dict[str, Any], starts: list[Start], *, may_differ: bool
    ) -> str:
        """Return in what the end that a row tells differs from the one the command noted."""
        end = self.ends.get((row["id"], row["attempt"]))
        if end is None:
            if may_differ and (row["state"] != "succeeded" or not starts):
                return ""
            return f"the ledger has no {'end' if starts else 'start'}"
        wanted = "failed" if end.code else "succeeded"
        if row["state"] != wanted or row["exit_code"] != end.code:
            # Hit between its last line and its exit.
            return "" if may_differ else f"the ledger says exit code {end.code}"
        if row["output_bytes"] != end.size and not may_differ:
            return f"it wrote {end.size} bytes, the row says {row['output_bytes']}"
        return ""

    def _hit(self, row: dict[str, Any]) -> Fault | None:
        """Return the fault that was aimed at a run's own processes; None when there was none.

        A launch that a supervisor has taken and not begun dies with it: nobody can say from
        outside which run that was, but it was claimed in the same moment.
        """
        if hit := self.hit.get(row["id"]):
            return hit
        if row["reason_code"] != "never_begun" or row["started"] is None:
            return None
        for fault in self.facts.faults:
            near = abs(fault.at - row["started"]) < TAKEN_WITHIN
            if near and fault.kind.startswith(("kill supervisor", "kill all: supervisor")):
                return fault
        return None

    # ── W ────────────────────────────────────────────────────────────────────────────────────────
    def _ordered(self) -> None:
        spans: dict[str, list[_Span]] = defaultdict(list)
        for run, starts in self.starts.items():
            for start in starts:
                end = self.ends.get((run, start.attempt))
                row = self.rows.get(run)
                until = end.at if end else row["ended"] if row else None
                if end and end.at < start.at:
                    self.verdict.add("W", f"run {run}: its end stands before its start")
                spans[start.job].append((start.at, until, start))
        pools: dict[str, list[_Span]] = defaultdict(list)
        for job, of_job in spans.items():
            if plan := self.plans.get(job):
                self._one_after_another(job, of_job, plan)
                pools[plan.pool] += of_job
        for pool, of_pool in pools.items():
            if pool:
                self._one_at_a_time(f"pool {pool}", of_pool)

    def _one_after_another(self, job: str, spans: list[_Span], plan: Plan) -> None:
        if plan.overlapping:
            return
        self._one_at_a_time(job, spans)
        for (_, _, one), (_, _, other) in pairwise(sorted(spans, key=_begin)):
            if other.due < one.due and not plan.unordered:
                self.verdict.add("W", f"{job}: run {other.run} came after {one.run}")

    def _one_at_a_time(self, what: str, spans: list[_Span]) -> None:
        for (_, until, one), (begun, _, other) in pairwise(sorted(spans, key=_begin)):
            if until is not None and begun < until and one.run != other.run:
                self.verdict.add("W", f"{what}: run {other.run} began before {one.run} ended")

    # ── O, G, I ──────────────────────────────────────────────────────────────────────────────────
    def _tidy(self) -> None:
        for pid, run in self.facts.living:
            row = self.rows.get(run)
            if row is None or row["state"] in FINAL:
                state = row["state"] if row else "no row"
                self.verdict.add("O", f"process {pid} of run {run} ({state}) still lives")
        for row in self.rows.values():
            if row["state"] not in FINAL:
                self.verdict.add("G", f"run {row['id']} of {row['job_name']} is {row['state']}")
        for broken in self.facts.broken:
            self.verdict.add("I", broken)

    # ── T ────────────────────────────────────────────────────────────────────────────────────────
    def _timely(self) -> None:
        for starts in self.starts.values():
            self.verdict.starts += len(starts)
            self.verdict.late += [start.at - start.due for start in starts if start.attempt == 1]


def percentile(values: Iterable[int], share: float) -> float:
    """Return the value, in seconds, that `share` of the values (microseconds) do not exceed."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / MICROSECOND

"""What would become of definitions, and doing it: all of it, or nothing.

Jobs that files define belong to a set, noted behind a plus in `Job.origin`. When no file names one
of them any more it may be pruned; jobs that people made are nobody's to prune.
"""

from __future__ import annotations

import copy
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.utils.translation import gettext as _t

from daemon_app import scheduler
from daemon_app.intake.definitions import (
    FIELDS,
    JOB,
    MOST_FAULTS,
    OF_A_POOL,
    POLICY,
    POOL,
    RULES,
    SECRET,
    Definition,
    DefinitionError,
    Fault,
    default,
    is_on,
)
from daemon_app.intake.drafts import came_from
from daemon_app.intake.plan import OutdatedError
from daemon_app.models import Job, Policy, Pool
from daemon_app.models.change import difference, differing, told_last

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

NEW, CHANGED, SAME, PASSED, EXTRA = "new", "changed", "same", "passed", "extra"
SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,19}")
USUAL_SET: Final = "files"


@dataclass(frozen=True)
class Move:
    """What applying would do with one job, one pool or the rules: {field: [before, after]}.

    `what` is NEW, CHANGED or SAME; PASSED for a new job whose time has passed, which does not come;
    EXTRA for a job of the set that no file names any more. `row` is as it would be, of EXTRA as it
    is. Of variables the changes have the names alone; `values_changed` names those that have
    another value.
    """

    what: str
    kind: str
    row: Job | Pool | Policy
    where: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    values_changed: tuple[str, ...] = ()
    before: Job | Pool | Policy | None = None

    @property
    def name(self) -> str:
        """The name of the job or pool; "" for the rules."""
        return str(getattr(self.row, "name", ""))

    @property
    def is_adopted(self) -> bool:
        """Whether a job that is there belongs to the set from now on."""
        before, row = self.before, self.row
        return isinstance(before, Job) and isinstance(row, Job) and before.origin != row.origin


@dataclass(frozen=True)
class Plan:
    """What would happen, in the order of the files; `others` counts jobs that stay untouched."""

    moves: list[Move]
    others: int = 0

    def of(self, *what: str) -> list[Move]:
        """Return the moves of some kinds."""
        return [move for move in self.moves if move.what in what]

    def would_change(self, *, prune: bool = False) -> bool:
        """Return whether applying it would change anything."""
        return bool(self.of(NEW, CHANGED, *([EXTRA] if prune else [])))


def set_of(job: Job) -> str:
    """Return the set that a job belongs to; "" for none."""
    return job.origin.partition("+")[2]


# ── Plan ─────────────────────────────────────────────────────────────────────────────────────────
def plan(found: Sequence[Definition], *, of_set: str = USUAL_SET, now: datetime) -> Plan:
    """Return what applying these definitions would do; nothing is changed.

    Raises DefinitionError with all that can't be. Jobs of skills are nobody's to define.
    """
    faults = _twice(found)
    # Pools and rules come first: jobs are judged by them. What is written for that is taken back.
    shared, jobs = [], []
    for each in found:
        if each.kind != JOB:
            try:
                shared.append(_of_pool(each) if each.kind == POOL else _of_rules(each))
            except DefinitionError as error:
                faults += error.faults
    with _as_if([move for move in shared if move.what in {NEW, CHANGED}], now):
        planning = _Planning(of_set, {each.name for each in found}, now)
        for each in found:
            if each.kind == JOB:
                try:
                    jobs.append(planning.move(each))
                except DefinitionError as error:
                    faults += error.faults
    if faults:
        raise DefinitionError(faults[:MOST_FAULTS])
    shared.sort(key=lambda move: move.kind != POOL)
    return Plan([*shared, *jobs, *planning.extra()], planning.others())


@contextmanager
def _as_if(moves: Sequence[Move], now: datetime) -> Iterator[None]:
    """Have the pools and rules as they would be, for as long as it takes to judge jobs by them."""
    if not moves:
        yield
        return
    with transaction.atomic():
        for move in moves:
            _store_shared(move, now=now, by="")
        yield
        transaction.set_rollback(True)


def _twice(found: Iterable[Definition]) -> list[Fault]:
    places: dict[tuple[str, str], str] = {}
    faults = []
    for each in found:
        what = (each.kind, each.name)
        if what in places:
            said = _t("“%(name)s” stands in %(where)s, too.")
            told = {"name": each.name or each.kind, "where": places[what]}
            faults.append(Fault(each.where, said % told))
        places.setdefault(what, each.where)
    return faults


class _Planning:
    """Compares what files say of jobs with the jobs there are."""

    def __init__(self, of_set: str, names: Collection[str], now: datetime) -> None:
        self.of_set, self.names, self.now = of_set, names, now
        self.jobs = {job.name: job for job in Job.objects.filter(skill="")}
        self.skills = set(Job.objects.exclude(skill="").values_list("name", flat=True))
        self.named: set[int] = set()

    def move(self, definition: Definition) -> Move:
        """Return what becomes of one job. Raises DefinitionError."""
        if definition.name in self.skills:
            why = _t("“%(name)s” belongs to a skill; files can't define it.")
            raise DefinitionError([Fault(definition.where, why % {"name": definition.name})])
        before = self.jobs.get(definition.name)
        if before is None and definition.formerly not in self.names:
            before = self.jobs.get(definition.formerly)
            before = None if before and before.pk in self.named else before
        said = self._with_values(definition, before)
        if before is None:
            return self._new(definition, said)
        self.named.add(before.pk)
        job = copy.copy(before)
        job.origin = f"{came_from(job.origin)}+{self.of_set}"
        self._fill(job, said)
        if _same(before, job):
            return Move(SAME, JOB, job, definition.where, before=before)
        # Whoever has paused it wants it to go on by itself; the file does not speak of that.
        if job.is_active and before.paused_until:
            job.is_active = False
        self._judge(job, definition)
        changes = {k: v for k, v in difference(before, job).items() if k != "origin"}
        is_active = bool(said.get("is_active", True))
        if is_on(before) != is_active:
            changes["is_active"] = [is_on(before), is_active]
        if job.job_type == Job.Kind.ONCE and any(name in changes for name in Job.WHEN):
            self._judge_time(job, definition)
        what = CHANGED if changes else SAME
        values = tuple(_other_values(before, job))
        return Move(what, JOB, job, definition.where, changes, values, before)

    def _with_values(self, definition: Definition, before: Job | None) -> dict[str, Any]:
        """Return what is said of a job, with the values that the file leaves as they are."""
        said = dict(definition.said)
        faults = []
        for name in SECRET:
            values = said.get(name) or {}
            for key, value in values.items():
                if value is not None:
                    continue
                there = getattr(before, name, {})
                if key not in there:
                    why = _t("“%(name)s” has no value, and there is none here that could stay.")
                    place = definition.place_of(name)
                    faults.append(Fault(place, why % {"name": f"{name}: {key}"}))
                values = values | {key: there.get(key, "")}
            if name in said:
                said[name] = values
        if faults:
            raise DefinitionError(faults)
        return said

    def _new(self, definition: Definition, said: dict[str, Any]) -> Move:
        job = Job(origin=f"+{self.of_set}", anchor=self.now)
        self._fill(job, said)
        try:
            self._judge(job, definition)
        except DefinitionError:
            if job.deadline is None or job.deadline > self.now:
                raise
            # It would start no more, which nobody has to mend; is anything else wrong with it?
            mended = copy.copy(job)
            mended.deadline = None
            self._judge(mended, definition)
            return Move(PASSED, JOB, job, definition.where)
        if job.job_type == Job.Kind.ONCE and job.next_after(self.now) is None:
            return Move(PASSED, JOB, job, definition.where)
        return Move(NEW, JOB, job, definition.where)

    def _fill(self, job: Job, said: Mapping[str, Any]) -> None:
        for name in FIELDS:
            setattr(job, name, said[name] if name in said else default(name))

    def _judge(self, job: Job, definition: Definition) -> None:
        try:
            job.full_clean(exclude=["anchor", "created_at", "updated_at"])
        except ValidationError as error:
            raise _refused(error, definition) from error

    def _judge_time(self, job: Job, definition: Definition) -> None:
        if job.plan.next_due(self.now, anchor=self.now) is None:
            why = _t("This time has passed; choose one that is still to come.")
            raise DefinitionError([Fault(definition.place_of("schedule"), why)])

    def extra(self) -> list[Move]:
        """Return the jobs of the set that no file names."""
        return [
            Move(EXTRA, JOB, job, before=job)
            for name, job in sorted(self.jobs.items())
            if job.pk not in self.named and set_of(job) == self.of_set
        ]

    def others(self) -> int:
        """Return how many jobs no file names that do not belong to the set."""
        unnamed = (job for job in self.jobs.values() if job.pk not in self.named)
        return sum(set_of(job) != self.of_set for job in unnamed)


def _same(before: Job, job: Job) -> bool:
    """Return whether all that files say is as it was, to the letter; then nobody has to judge it.

    A pause is not spoken of.
    """
    names = (name for name in FIELDS if name != "is_active")
    return is_on(before) == job.is_active and all(
        getattr(before, name) == getattr(job, name) for name in names
    )


def _other_values(before: Job, job: Job) -> Iterable[str]:
    for name in SECRET:
        old, new = getattr(before, name), getattr(job, name)
        yield from (f"{name}.{key}" for key in new if key in old and old[key] != new[key])


def _refused(error: ValidationError, definition: Definition) -> DefinitionError:
    """Return what the model refuses, each with the line of its field."""
    return DefinitionError(
        [
            Fault(
                definition.place_of(name),
                " ".join(said) if name == NON_FIELD_ERRORS else f"{name}: {' '.join(said)}",
            )
            for name, said in error.message_dict.items()
        ]
    )


def _of_pool(definition: Definition) -> Move:
    before = Pool.objects.filter(name=definition.name.strip().lower()).first()
    pool = copy.copy(before) if before else Pool()
    for name in OF_A_POOL:
        setattr(pool, name, definition.said.get(name, default(name, Pool)))
    try:
        pool.full_clean(exclude=["updated_at"])
    except ValidationError as error:
        raise _refused(error, definition) from error
    if before is None:
        return Move(NEW, POOL, pool, definition.where)
    changes = differing(before, pool, OF_A_POOL)
    return Move(CHANGED if changes else SAME, POOL, pool, definition.where, changes, (), before)


def _of_rules(definition: Definition) -> Move:
    """Return what becomes of the rules for all jobs; those that are not named stay."""
    before = Policy.current()
    rules = copy.copy(before)
    for name, value in definition.said.items():
        setattr(rules, name, value)
    try:
        rules.full_clean()
    except ValidationError as error:
        raise _refused(error, definition) from error
    changes = differing(before, rules, RULES)
    return Move(CHANGED if changes else SAME, POLICY, rules, definition.where, changes, (), before)


# ── Deed ─────────────────────────────────────────────────────────────────────────────────────────
def carry_out(
    found: Plan,
    *,
    prune: bool = False,
    now: datetime,
    by: str,
    each: Callable[[int], None] = lambda _count: None,
) -> None:
    """Do what a plan says, all or nothing; with `prune` delete what is EXTRA, with its runs.

    `each` is called with 1 for every move. Raises OutdatedError when something of it was changed
    since the plan was made.
    """
    with transaction.atomic(), told_last():
        _compare(found, prune=prune)
        try:
            for move in found.moves:
                if isinstance(move.row, Job):
                    _carry_out(move, move.row, prune=prune, now=now, by=by)
                elif move.what in {NEW, CHANGED}:
                    _store_shared(move, now=now, by=by)
                each(1)
        except ValidationError as error:
            raise OutdatedError(move.name) from error


def _carry_out(move: Move, job: Job, *, prune: bool, now: datetime, by: str) -> None:
    if move.what == EXTRA:
        if prune:
            scheduler.remove(job, now=now, by=by)
        return
    belongs_to = job.origin
    if move.what in {NEW, CHANGED}:
        if isinstance(move.before, Job):
            job.origin = move.before.origin
        job.store(now=now, by=by)
        if job.paused_until and not move.changes.get("is_active", (True, True))[1]:
            job.set_active(False, now=now, by=by)
    if move.is_adopted or job.origin != belongs_to:
        # It changes nothing of what the job does: no version of its own, no row in the audit log.
        Job.objects.filter(pk=job.pk).update(origin=belongs_to)


def _store_shared(move: Move, *, now: datetime, by: str) -> None:
    assert not isinstance(move.row, Job)
    # A copy: what is stored in order to be judged by is taken back.
    copy.copy(move.row).store(now=now, by=by)


def _compare(found: Plan, *, prune: bool) -> None:
    """Raise OutdatedError when a row is not as it was when the plan was made."""
    versions = dict(Job.objects.select_for_update().values_list("pk", "version"))
    names = set(Job.objects.values_list("name", flat=True))
    for move in found.moves:
        before, row = move.before, move.row
        if isinstance(before, Job):
            is_concerned = prune or move.what != EXTRA
            is_outdated = is_concerned and versions.get(before.pk) != before.version
        elif isinstance(before, Policy):
            is_outdated = bool(differing(Policy.current(), before, RULES))
        elif isinstance(row, Pool):
            there = Pool.objects.filter(name=row.name).first()
            is_outdated = (there is None) != (before is None) or bool(
                there and before and differing(there, before, OF_A_POOL)
            )
        else:
            is_outdated = move.what == NEW and move.name in names
        if is_outdated:
            raise OutdatedError(move.name)

"""What would become of drafts, and doing it: all of it, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction

from daemon_app import arrivals, live
from daemon_app.intake import past
from daemon_app.intake.drafts import LONGEST_NAME, Draft, Remark, came_from
from daemon_app.models import Job
from daemon_app.models.change import told_last

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from daemon_app.intake.past import Past
    from daemon_app.models import Run

NEW, KNOWN, REFUSED = "new", "known", "refused"


@dataclass(frozen=True)
class Step:
    """What becomes of one draft: a new job, nothing since it came before, or nothing at all.

    `job` is the job there is, of a known one; of a new one it is filled in once it was made.
    """

    draft: Draft
    what: str
    job: Job | None = None

    @property
    def new_job(self) -> Job:
        """The job that it would be, unsaved and switched off."""
        return _job(self.draft, active=False)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What is to be said of it: why it can't come, else what is different here."""
        if self.draft.refusal:
            return (self.draft.refusal,)
        return self.draft.remarks if self.what == NEW else ()


@dataclass(frozen=True)
class Plan:
    """What would happen, in the order of the source."""

    steps: list[Step] = field(default_factory=list)

    def of(self, what: str) -> list[Step]:
        """Return the steps of one kind: NEW, KNOWN or REFUSED."""
        return [step for step in self.steps if step.what == what]


class OutdatedError(Exception):
    """Jobs were changed between plan and deed; nothing has been done. `name` says of which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def plan(drafts: Iterable[Draft], *, active: bool = False, now: datetime) -> Plan:
    """Return what would become of drafts; nothing is changed.

    A draft whose origin a job already has is left alone, whatever that job has become: people may
    have changed it. All others arrive switched off, unless they are to be `active` as they were.
    """
    jobs = list(Job.objects.all())
    known = {came_from(job.origin): job for job in jobs if came_from(job.origin)}
    by_name = {job.name: job for job in jobs}
    taken = {job.name.casefold() for job in jobs}
    steps = []
    for draft in drafts:
        if draft.refusal:
            steps.append(Step(draft, REFUSED))
        elif draft.origin in known:
            steps.append(Step(draft, KNOWN, known[draft.origin]))
        elif draft.is_by_name and draft.name in by_name:
            steps.append(Step(draft, KNOWN, by_name[draft.name]))
        else:
            step = _new(draft, taken, active=active, now=now)
            steps.append(step)
            if step.what == NEW:
                taken.add(step.draft.name.casefold())
    return Plan(steps)


def _new(draft: Draft, taken: set[str], *, active: bool, now: datetime) -> Step:
    free = _free_name(draft.name, taken)
    if free != draft.name:
        renamed = Remark("renamed", {"name": draft.name})
        draft = replace(draft, name=free, remarks=(*draft.remarks, renamed))
    job = _job(draft, active=active)
    job.anchor = now
    try:
        # The name is free: that was looked after already.
        job.full_clean(exclude=["anchor", "created_at", "updated_at"], validate_unique=False)
        if job.job_type == Job.Kind.ONCE and job.next_after(now) is None:
            return Step(draft.refused("passed"), REFUSED)
    except ValidationError as error:
        return Step(draft.refused("not_ours", message=" ".join(error.messages)), REFUSED)
    return Step(draft, NEW)


def _free_name(name: str, taken: set[str]) -> str:
    free, count = name, 1
    while free.casefold() in taken:  # short: most names are free
        count += 1
        free = f"{name[: LONGEST_NAME - 6]}-{count}"
    return free


def _job(draft: Draft, *, active: bool) -> Job:
    fields: dict[str, Any] = {**draft.fields, "name": draft.name, "origin": draft.origin}
    return Job(**fields, is_active=active and draft.was_active)


def carry_out(
    found: Plan, *, active: bool = False, now: datetime, by: str, before: Past | None = None
) -> list[Job]:
    """Make the new jobs of a plan and return them, with the runs they had `before`: all or none.

    Raises OutdatedError; LegacyError and OSError for runs that can't be read or written.
    """
    new = found.of(NEW)
    with arrivals.waiting() as aside:
        # Reading and writing output takes its time; nobody waits for it.
        packed = [
            past.pack(before, step.draft.past, aside / str(number), now=now)
            if before is not None and step.draft.past
            else None
            for number, step in enumerate(new)
        ]
        made: list[Job] = []
        stored: list[tuple[Run, Path]] = []
        with transaction.atomic(), told_last():
            origins = Job.objects.exclude(origin="").values_list("origin", flat=True)
            known = set(map(came_from, origins))
            for step, runs in zip(new, packed, strict=True):
                if step.draft.origin in known:
                    raise OutdatedError(step.draft.name)
                try:
                    job = _job(step.draft, active=active).store(now=now, by=by)
                except ValidationError as error:
                    raise OutdatedError(step.draft.name) from error
                made.append(job)
                if runs is not None:
                    stored += past.store(job, runs)
            if stored:
                arrivals.note(aside, stored)
                live.changed("runs")
        for _moved in arrivals.settle(aside):
            pass
        if before is not None:
            before.came = sum(len(runs.runs) for runs in packed if runs)
    return made

"""When jobs start: the tick that turns due instants into runs, starts by hand, and the sweep."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils.translation import gettext as _t

from daemon_app import executor, live
from daemon_app.models import Job, Run
from daemon_app.models.run import ON_TIME, adapted
from daemon_app.schedules import ScheduleError

log = logging.getLogger(__name__)

# Occurrences are written this long before their time, so that at the full second only the claim
# and the fork are left to do (docs/adr: own beat). An edit takes them back.
LEAD = timedelta(milliseconds=700)
PER_TICK = 500
# More missed instants than this of one job become one row that says how many.
MISSED_ROWS = 100
MISSED_COUNTED = 100_000
# A queued run that nobody has begun this long after it was due is sent again.
RESEND_AFTER = timedelta(seconds=15)


@dataclass(frozen=True)
class Started:
    """What came of a wish to start a job: the run, or why there is none."""

    run: Run | None
    code: str = ""
    reason: str = ""
    blocking: Run | None = None


# ── By the clock ─────────────────────────────────────────────────────────────────────────────────
def tick(now: datetime) -> int:
    """Write the runs of every occurrence due by now or within LEAD; return of how many jobs.

    One transaction: runs, the jobs' next instants and the queue messages are there together or
    not at all. A job whose schedule can't be evaluated is marked and holds up no other.
    """
    # A look without the write lock: most beats find nothing.
    if not Job.objects.due(now + LEAD).exists():
        return 0
    with transaction.atomic():
        jobs = Job.objects.due(now + LEAD)
        if connection.vendor == "postgresql":
            jobs = jobs.select_for_update(skip_locked=True)
        due = list(jobs[:PER_TICK])
        active = _active_runs(job.pk for job in due)
        due = [job for job in due if not _is_held_back(job, active, now)]
        runs: list[Run] = []
        moves: list[tuple[str | None, int, str | None]] = []
        for job in due:
            try:
                occurrences, following = _occurrences(job, now)
            except ScheduleError as error:
                _mark_broken(job, error)
                continue
            runs.extend(_rows(job, occurrences, active, now))
            moves.append((adapted(following), job.pk, adapted(job.next_due_at)))
        _insert(runs)
        _advance(moves)
        executor.submit(
            ((run.pk, run.due_at.timestamp()) for run in runs if run.state == Run.State.QUEUED),
            now,
        )
        live.changed("runs", "jobs", *(f"job:{job.pk}" for job in due))
    return len(due)


def next_wake(now: datetime) -> datetime | None:
    """Return when the next tick has something to do; None when no job will ever be due."""
    instants = Job.objects.active().order_by("next_due_at").values_list("next_due_at", flat=True)
    wakes = []
    # What a tick has left so near to its time is held back until then.
    if held_back := instants.filter(next_due_at__lte=now + LEAD).first():
        wakes.append(max(held_back, now))
    if later := instants.filter(next_due_at__gt=now + LEAD).first():
        wakes.append(later - LEAD)
    return min(wakes, default=None)


def _is_held_back(job: Job, active: dict[int, "_Active"], now: datetime) -> bool:
    """Return whether to wait for the due instant: until then the run before may have ended."""
    assert job.next_due_at is not None  # the query asked for it
    return job.next_due_at > now and job.pk in active and active[job.pk].count >= job.max_instances


@dataclass(frozen=True)
class _Occurrence:
    due_at: datetime
    state: str
    code: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def _occurrences(job: Job, now: datetime) -> tuple[list[_Occurrence], datetime | None]:
    """Return what is to be recorded of a due job, and its next instant.

    Of several instants in the past only the newest runs (misfire "once"); the older ones, and one
    older than the age limit, are recorded as missed.
    """
    plan, anchor = job.plan, job.anchor
    assert job.next_due_at is not None  # the query asked for it
    missed: list[datetime] = []
    count = 0
    newest = job.next_due_at
    following = plan.next_due(newest, previous=newest, anchor=anchor)
    while following is not None and following <= now and count < MISSED_COUNTED:
        count += 1
        if len(missed) < MISSED_ROWS:
            missed.append(newest)
        newest, following = following, plan.next_due(following, previous=following, anchor=anchor)
    if following is not None and following <= now:
        following = plan.next_due(now, previous=newest, anchor=anchor)

    found = [_Occurrence(at, Run.State.MISSED, "misfire") for at in missed]
    if count > len(missed):
        more = {"more": count - len(missed)}
        found[-1] = _Occurrence(missed[-1], Run.State.MISSED, "misfire_many", more)
    late = now - newest
    if late > timedelta(seconds=job.misfire_age_seconds):
        found.append(_Occurrence(newest, Run.State.MISSED, "too_old"))
    elif late > ON_TIME:
        found.append(_Occurrence(newest, Run.State.QUEUED, "caught_up"))
    else:
        found.append(_Occurrence(newest, Run.State.QUEUED))
    return found, following


def _rows(
    job: Job, occurrences: Iterable[_Occurrence], active: dict[int, "_Active"], now: datetime
) -> Iterable[Run]:
    """Yield the runs of a job's occurrences; one that meets too many active ones is skipped."""
    for occurrence in occurrences:
        state, code, facts = occurrence.state, occurrence.code, occurrence.facts
        busy = active.setdefault(job.pk, _Active())
        blocking = None
        if state == Run.State.QUEUED:
            if busy.count >= job.max_instances:
                state, blocking = Run.State.SKIPPED, busy.newest
                code = "overlap" if blocking else "overlap_unknown"
                facts = {"run": blocking}
            else:
                busy.count += 1
        yield Run(
            job=job,
            job_name=job.name,
            trigger=Run.Trigger.SCHEDULE,
            due_at=occurrence.due_at,
            not_before=occurrence.due_at,
            definition=job.definition(),
            priority=job.priority,
            state=state,
            reason_code=code,
            reason_facts=facts,
            blocking_run_id=blocking,
            queued_at=now,
            submitted_at=now if state == Run.State.QUEUED else None,
            ended_at=None if state == Run.State.QUEUED else now,
        )


@dataclass
class _Active:
    count: int = 0
    newest: int | None = None


def _active_runs(job_ids: Iterable[int]) -> dict[int, _Active]:
    found: dict[int, _Active] = {}
    # By state, not by job nor in the order of ids: that would read the jobs' whole history, 21 ms
    # instead of 0.5 with 100,000 runs behind them. The sum keeps the index by job out of it.
    of_jobs = Run.objects.active().alias(of=F("job_id") + 0).filter(of__in=list(job_ids))
    counts: Counter[int] = Counter()
    for pk, job_id in sorted(of_jobs.order_by().values_list("pk", "job_id")):
        counts[job_id] += 1
        found[job_id] = _Active(counts[job_id], pk)
    return found


def _insert(runs: list[Run]) -> None:
    """Insert runs; an occurrence that somebody else has written is left to them."""
    try:
        with transaction.atomic():
            Run.objects.bulk_create(runs)
    except IntegrityError:
        kept = []
        for run in runs:
            try:
                with transaction.atomic():
                    run.save(force_insert=True)
                kept.append(run)
            except IntegrityError:
                log.info("job %s: %s is recorded already", run.job_id, run.due_at)
        runs[:] = kept


def _advance(moves: list[tuple[str | None, int, str | None]]) -> None:
    # Conditional on the old instant, so that it can't overwrite an edit.
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE daemon_jobs SET next_due_at = %s WHERE id = %s AND next_due_at = %s", moves
        )


def _mark_broken(job: Job, error: ScheduleError) -> None:
    log.error("job %s has a schedule that can't be read: %s", job.pk, error)
    Job.objects.filter(pk=job.pk).update(next_due_at=None, schedule_error=str(error)[:500])


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────
def start(
    job: Job, *, trigger: str, by: str, now: datetime, idempotency_key: str | None = None
) -> Started:
    """Start a job now, paused and inactive ones too; the schedule does not move.

    Returns the run, the earlier run of the same `idempotency_key`, or why none was started.
    """
    with transaction.atomic():
        locked = Job.objects.select_for_update().filter(pk=job.pk).first()
        if locked is None:
            return Started(None, "gone", _t("This job no longer exists."))
        if idempotency_key:
            earlier = Run.objects.filter(idempotency_key=idempotency_key).first()
            if earlier:
                return Started(earlier, "repeated")
        active = Run.objects.active().filter(job=locked).order_by("-id")
        if active.count() >= locked.max_instances:
            blocking = active.first()
            assert blocking is not None  # at least one, by the count
            return Started(None, "overlap", _blocked(blocking), blocking)
        run = Run.objects.create(
            job=locked,
            job_name=locked.name,
            trigger=trigger,
            started_by=by,
            due_at=now,
            definition=locked.definition(),
            priority=locked.priority,
            state=Run.State.QUEUED,
            queued_at=now,
            submitted_at=now,
            idempotency_key=idempotency_key,
        )
        executor.submit([(run.pk, now.timestamp())], now)
        live.changed("runs", f"run:{run.pk}", f"job:{job.pk}")
    return Started(run)


def _blocked(blocking: Run) -> str:
    if blocking.state == Run.State.QUEUED:
        return _t("Not started: run %(n)s is already waiting.") % {"n": blocking.pk}
    return _t("Not started: already running (run %(n)s).") % {"n": blocking.pk}


def stop(run: Run, *, by: str, now: datetime) -> bool:
    """Ask a run to stop; False when it has already ended."""
    asked = run.request_stop(by=by, now=now)
    if asked:
        executor.ask_to_stop(run.pk)
    return asked


def remove(job: Job, *, by: str, now: datetime) -> int:
    """Delete a job with its runs and their output; return how many runs went.

    Active runs are stopped first; the runner ends their processes although the rows are gone.
    """
    with transaction.atomic():
        for run in Run.objects.active().filter(job=job):
            stop(run, by=by, now=now)
        ids = list(Run.objects.filter(job=job).values_list("pk", flat=True))
        count = job.remove()
        executor.forget(ids)
    return count


# ── The sweep ────────────────────────────────────────────────────────────────────────────────────
def sweep(now: datetime) -> int:
    """Send queued runs again whose message was lost; return how many."""
    with transaction.atomic():
        late = list(
            Run.objects.queued()
            .filter(due_at__lte=now, submitted_at__lte=now - RESEND_AFTER)
            .values_list("pk", "due_at")[:PER_TICK]
        )
        if late:
            Run.objects.filter(pk__in=[pk for pk, _ in late]).update(submitted_at=now)
            executor.submit([(pk, due.timestamp()) for pk, due in late], now)
    return len(late)

"""When jobs start: the tick that turns due instants into runs, starts by hand, and the sweep."""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Least
from django.utils.translation import gettext as _t

from daemon_app import admission, executor, live
from daemon_app.gates import finish_by
from daemon_app.models import Change, Incident, Job, Policy, Run, reasons
from daemon_app.models.change import told_last
from daemon_app.models.run import MISSED_ROWS, ON_TIME, adapted, summary
from daemon_app.schedules import ScheduleError

log = logging.getLogger(__name__)

# Occurrences are written this long before their time, so that at the full second only the claim
# and the fork are left to do (docs/adr: own beat). An edit takes them back.
LEAD = timedelta(milliseconds=700)
PER_TICK = 500
# What "catch up all" catches up at most; older ones are missed.
MOST_CAUGHT_UP = 100
# Jobs that are caught up start so long after one another, and all of them within SPREAD.
SPREAD_EACH = timedelta(seconds=2)
SPREAD = timedelta(minutes=5)
# A queued run that nobody has begun this long after it might was not heard of: it is sent again.
RESEND_AFTER = timedelta(seconds=15)
# Beyond this many waiting runs a start is refused, so that a storm can't fill the disk.
MOST_QUEUED = 10_000
# Who forces a run that would otherwise not be done in time: its own job's rule.
LAST_CHANCE = "job"
# A schedule that waits for an instant further ahead than this beyond its rule was written by a
# clock that was wrong.
WRONG_CLOCK = timedelta(hours=3)


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
    not at all. A job whose schedule can't be evaluated is marked and holds up no other. While
    everything is held nothing is written: what was missed is decided on when it goes on.
    """
    _end_pauses(now)
    # A look without the write lock: most beats find nothing.
    if not Job.objects.due(now + LEAD).exists() or Policy.current().is_held:
        return 0
    # Months of missed instants take a while to count; nobody has to wait for the database then.
    jobs = list(Job.objects.due(now + LEAD)[:PER_TICK])
    plans = {job.pk: _plan(job, now) for job in jobs}
    with transaction.atomic():
        unchanged = Job.objects.due(now + LEAD)
        if connection.vendor == "postgresql":
            unchanged = unchanged.select_for_update(skip_locked=True)
        found = unchanged.values_list("pk", "version", "next_due_at")[:PER_TICK]
        versions = {pk: (version, due_at) for pk, version, due_at in found}
        # What was edited meanwhile is the next tick's.
        due = [job for job in jobs if versions.get(job.pk) == (job.version, job.next_due_at)]
        active = _active_runs(job.pk for job in due)
        due = [job for job in due if not _is_held_back(job, active, now)]
        placed = _place(due, plans, active, now)
        _insert([each.run for each in placed])
        _make_room(placed, now)
        _advance([plans[job.pk].move() for job in due if not plans[job.pk].error])
        for job in due:
            if error := plans[job.pk].error:
                _mark_broken(job, error, now)
        _submit((each.run for each in placed), now)
        live.changed("runs", "jobs", *(f"job:{job.pk}" for job in due))
    return len(due)


def _end_pauses(now: datetime) -> None:
    """Switch on the jobs whose pause ends by now or within LEAD."""
    for job in Job.objects.pause_over(now + LEAD)[:PER_TICK]:
        until = job.paused_until
        try:
            job.resume(now=now)
        except ScheduleError as error:
            _give_up_pause(job, until, str(error), now)
        except OperationalError:
            raise  # the database's fault, no job's: the next beat tries again
        except Exception as error:
            # One job's broken schedule never stops another's.
            log.exception("job %s can't be switched on after its pause", job.pk)
            _give_up_pause(job, until, repr(error), now)


def _give_up_pause(job: Job, until: datetime | None, error: str, now: datetime) -> None:
    """Leave a job off whose schedule can't go on; else every beat would try it again."""
    _mark_broken(job, error, now)
    paused = Job.objects.filter(pk=job.pk, is_active=False, paused_until=until)
    paused.update(paused_until=None, paused_by="", pause_note="", version=F("version") + 1)


def next_wake(now: datetime) -> datetime | None:
    """Return when the next tick has something to do; None when no job will ever be due."""
    pauses = Job.objects.pause_over(datetime.max.replace(tzinfo=UTC))
    ends = list(pauses.values_list("paused_until", flat=True)[:1])
    wakes = [end - LEAD for end in ends if end]
    if Policy.current().is_held:
        return min(wakes, default=None)
    instants = Job.objects.active().order_by("next_due_at").values_list("next_due_at", flat=True)
    # What a tick has left so near to its time is held back until then.
    if held_back := instants.filter(next_due_at__lte=now + LEAD).first():
        wakes.append(max(held_back, now))
    if later := instants.filter(next_due_at__gt=now + LEAD).first():
        wakes.append(later - LEAD)
    return min(wakes, default=None)


@dataclass(frozen=True)
class _Occurrence:
    due_at: datetime
    state: str
    code: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Plan:
    """What is to be recorded of a due job, and its next instant; or why that can't be said."""

    job_id: int
    due_at: datetime
    occurrences: list[_Occurrence] = field(default_factory=list)
    following: datetime | None = None
    error: str = ""

    def move(self) -> tuple[str | None, int, str | None]:
        return adapted(self.following), self.job_id, adapted(self.due_at)

    @property
    def is_caught_up(self) -> bool:
        return any(each.code == "caught_up" for each in self.occurrences)


def _plan(job: Job, now: datetime) -> _Plan:
    assert job.next_due_at is not None  # the query asked for it
    plan = _Plan(job.pk, job.next_due_at)
    try:
        plan.occurrences, plan.following = _occurrences(job, now)
    except ScheduleError as error:
        plan.error = str(error)
    except Exception as error:
        # One job's broken schedule never stops another's.
        log.exception("job %s can't be planned", job.pk)
        plan.error = repr(error)
    return plan


def _occurrences(job: Job, now: datetime) -> tuple[list[_Occurrence], datetime | None]:
    """Return what is to be recorded of a due job, and its next instant.

    On time is what starts up to ON_TIME after it was due. Of what is later, the job's misfire rule
    says what is caught up; all else is missed (semantics 3).
    """
    first = job.next_due_at
    assert first is not None  # the query asked for it
    until = max(now, first)  # it is planned up to LEAD ahead
    if job.deadline:
        until = min(until, job.deadline)
    found = job.plan.missed(first, until, MISSED_ROWS + MOST_CAUGHT_UP, anchor=job.anchor)
    newest = list(found.newest)
    following = job.next_after(until)

    chosen = _chosen(job, newest, now)
    # Several at once wait for one another: none of them is on time, and none is in another's way.
    is_late = len(chosen) > 1 or any(now - at > ON_TIME for at in chosen)
    missed = newest[: len(newest) - len(chosen)]
    count = found.count - len(chosen)
    recorded = []
    if count > MISSED_ROWS:
        facts = summary(count, first, missed[-1])
        recorded = [_Occurrence(missed[-1], Run.State.MISSED, "misfire_summary", facts)]
    else:
        recorded = [_Occurrence(at, Run.State.MISSED, _why_missed(job, at, now)) for at in missed]
    code = "caught_up" if is_late else ""
    return [*recorded, *(_Occurrence(at, Run.State.QUEUED, code) for at in chosen)], following


def _chosen(job: Job, instants: Sequence[datetime], now: datetime) -> list[datetime]:
    """Return those of the newest `instants` that are to run, oldest first."""
    if job.misfire == Job.Misfire.SKIP:
        return [at for at in instants[-1:] if now - at <= ON_TIME]
    youngest = now - timedelta(seconds=job.misfire_age_seconds)
    young = [at for at in instants if at >= youngest or now - at <= ON_TIME]
    return young[-MOST_CAUGHT_UP:] if job.misfire == Job.Misfire.ALL else young[-1:]


def _why_missed(job: Job, at: datetime, now: datetime) -> str:
    if job.misfire == Job.Misfire.SKIP:
        return "misfire_skip"
    return "too_old" if now - at > timedelta(seconds=job.misfire_age_seconds) else "misfire"


# ── Overlap: one check for every way of starting ─────────────────────────────────────────────────
@dataclass
class _Active:
    """The active runs of a job: waiting ones, whose place another may take, and the others."""

    runs: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.runs) + len(self.waiting)

    @property
    def newest(self) -> int | None:
        return max([*self.runs, *self.waiting], default=None)


@dataclass
class _Placed:
    """A run to be written, and which runs make room for it."""

    run: Run
    supersedes: list[int] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)


def _admit(job: Job, active: _Active, run: Run) -> _Placed:
    """Decide by the job's overlap rule what becomes of a run that is to be queued."""
    placed = _Placed(run)
    if active.count < job.max_instances or run.beside:
        return placed
    if job.overlap == Job.Overlap.QUEUE:
        placed.supersedes = list(active.waiting)
    elif job.overlap == Job.Overlap.REPLACE:
        placed.supersedes = list(active.waiting)
        placed.replaces = list(active.runs)
    else:
        run.state = Run.State.SKIPPED
        run.blocking_run_id = active.newest
        run.reason_code = "overlap" if active.newest else "overlap_unknown"
        run.reason_facts = {"run": active.newest}
        # Whether the one in its way runs or waits itself will soon be past.
        if Run.objects.queued().filter(pk=active.newest or 0).exists():
            run.reason_facts["waited"] = True
    return placed


def _make_room(placed: Iterable[_Placed], now: datetime) -> None:
    """Take out of line, and stop, what the new runs take the place of."""
    for each in placed:
        # Refused, or recorded by somebody else: it takes nobody's place.
        if not each.run.pk or each.run.state != Run.State.QUEUED:
            continue
        if not (each.supersedes or each.replaces):
            continue
        for run in Run.objects.filter(pk__in=each.supersedes):
            # A place that a person gave is handed on.
            Run.objects.filter(pk=each.run.pk).update(rank=run.rank)
            if run.skip(now=now, code="superseded", blocking=each.run.pk):
                executor.ask_to_stop(run.pk)
        for run in Run.objects.filter(pk__in=each.replaces):
            if run.request_stop(by="", now=now, code="replaced", blocking=each.run.pk):
                executor.ask_to_stop(run.pk)


def _is_held_back(job: Job, active: dict[int, _Active], now: datetime) -> bool:
    """Return whether to wait for the due instant: until then the run before may have ended."""
    assert job.next_due_at is not None  # the query asked for it
    return job.next_due_at > now and job.pk in active and active[job.pk].count >= job.max_instances


def _active_runs(job_ids: Iterable[int]) -> dict[int, _Active]:
    found: dict[int, _Active] = {}
    # By state, not by job nor in the order of ids: that would read the jobs' whole history, 21 ms
    # instead of 0.5 with 100,000 runs behind them. The sum keeps the index by job out of it.
    of_jobs = Run.objects.active().alias(of=F("job_id") + 0).filter(of__in=list(job_ids))
    asked = ("pk", "job_id", "state", "attempt", "reason_code", "job__misfire")
    for pk, job_id, state, attempt, code, misfire in sorted(of_jobs.order_by().values_list(*asked)):
        active = found.setdefault(job_id, _Active())
        # A retry is a run that has begun; and what is caught up "all" keeps its place.
        keeps = attempt > 1 or (code == "caught_up" and misfire == Job.Misfire.ALL)
        if state == Run.State.QUEUED and not keeps:
            active.waiting.append(pk)
        else:
            active.runs.append(pk)
    return found


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────
def _place(
    jobs: Iterable[Job], plans: dict[int, _Plan], active: dict[int, _Active], now: datetime
) -> list[_Placed]:
    """Return the runs to be written of due jobs, each after the overlap rule has spoken."""
    jobs = list(jobs)
    late = sum(plans[job.pk].is_caught_up for job in jobs)
    window = min(SPREAD, SPREAD_EACH * max(late - 1, 0))
    room = MOST_QUEUED - Run.objects.queued().count() if jobs else 0
    placed = []
    for job in jobs:
        plan = plans[job.pk]
        definition = job.definition()
        not_before = now + _offset(job, window) if plan.is_caught_up else None
        busy = active.setdefault(job.pk, _Active())
        for each in plan.occurrences:
            run = _row(job, each.due_at, definition, now, Run.Trigger.SCHEDULE)
            run.state, run.reason_code, run.reason_facts = each.state, each.code, each.facts
            placing = _Placed(run)
            if each.state == Run.State.QUEUED:
                if each.code == "caught_up" and not_before:
                    run.not_before = max(not_before, run.due_at)
                # Those that "catch up all" writes wait for one another, not in each other's way.
                if job.misfire != Job.Misfire.ALL or each.code != "caught_up":
                    placing = _admit(job, busy, run)
                if run.state == Run.State.QUEUED and room <= 0:
                    _refuse(run)
            if run.state == Run.State.QUEUED:
                room -= 1
            else:
                run.submitted_at, run.ended_at = None, now
            placed.append(placing)
    return placed


def _offset(job: Job, window: timedelta) -> timedelta:
    """Return a job's own place in the time over which catching up is spread: always the same."""
    digest = hashlib.sha256(f"{job.pk}".encode()).digest()
    return window * (int.from_bytes(digest[:4], "big") / 2**32)


def _row(
    job: Job, due_at: datetime, definition: dict[str, Any], now: datetime, trigger: str
) -> Run:
    """Return a queued run of `job`, not yet written."""
    limits = [job.deadline] if job.deadline and trigger == Run.Trigger.SCHEDULE else []
    if job.max_wait_seconds:
        limits.append(max(due_at, now) + timedelta(seconds=job.max_wait_seconds))
    needs = job.needs()
    if trigger not in {Run.Trigger.SCHEDULE, Run.Trigger.TICK}:
        # Somebody is there who wants it, whatever the hour.
        needs["in_quiet_hours"] = True
        needs.pop("finish_by", None)
    begin = max(due_at, now)
    if needs.get("finish_by") and (last := finish_by.latest_start(needs, begin, _expected(job))):
        needs["last_start"] = last.isoformat()
        end = finish_by.finishes_at(needs, begin)
        needs["finish_at"] = (end or last).isoformat()
        limits.append(last)
    return Run(
        job=job,
        job_name=job.name,
        trigger=trigger,
        due_at=due_at,
        not_before=due_at,
        expires_at=min(limits, default=None),
        definition=definition,
        priority=job.priority,
        pools=job.pools,
        needs=needs,
        state=Run.State.QUEUED,
        queued_at=now,
        submitted_at=now,
    )


def _expected(job: Job) -> timedelta:
    """Return how long a run of `job` will probably take; no time where nothing is known."""
    return job.median_duration() or timedelta(0)


def _refuse(run: Run) -> None:
    run.state = Run.State.SKIPPED
    run.reason_code, run.reason_facts = "queue_full", {"n": MOST_QUEUED}


def _insert(runs: list[Run]) -> None:
    """Insert runs; an occurrence that somebody else has written is left to them."""
    try:
        with transaction.atomic():
            Run.objects.bulk_create(runs)
    except IntegrityError:
        for run in runs:
            try:
                with transaction.atomic():
                    run.save(force_insert=True)
            except IntegrityError:
                run.pk = None
                log.info("job %s: %s is recorded already", run.job_id, run.due_at)


def _submit(runs: Iterable[Run], now: datetime) -> None:
    queued = (run for run in runs if run.pk and run.state == Run.State.QUEUED)
    executor.submit(((run.pk, run.not_before.timestamp()) for run in queued), now)


def _advance(moves: list[tuple[str | None, int, str | None]]) -> None:
    # Conditional on the old instant, so that it can't overwrite an edit.
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE daemon_jobs SET next_due_at = %s WHERE id = %s AND next_due_at = %s", moves
        )


def _mark_broken(job: Job, error: str, now: datetime) -> None:
    log.error("job %s has a schedule that can't be read: %s", job.pk, error)
    Job.objects.filter(pk=job.pk).update(next_due_at=None, schedule_error=error[:500])
    Incident.note(
        "schedule_broken", now=now, level=Incident.Level.ERROR, job=job, error=error[:200]
    )


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────
def start(  # noqa: PLR0913 - who, how, when and two wishes
    job: Job,
    *,
    trigger: str,
    by: str,
    now: datetime,
    idempotency_key: str | None = None,
    beside: bool = False,
    forced: bool = False,
) -> Started:
    """Start a job now, paused and inactive ones too; the schedule does not move.

    Returns the run, the earlier run of the same `idempotency_key`, or why none was started.
    `beside` starts it although other runs of the job are active, `forced` whatever its conditions
    say, and it makes way for nobody: a person has said so.
    """
    with transaction.atomic():
        locked = Job.objects.select_for_update().filter(pk=job.pk).first()
        if locked is None:
            return Started(None, "gone", _t("This job no longer exists."))
        if idempotency_key:
            earlier = Run.objects.filter(idempotency_key=idempotency_key).first()
            if earlier:
                return Started(earlier, "repeated")
        if refusal := _refusal():
            return refusal
        run = _row(locked, now, locked.definition(), now, trigger)
        run.started_by, run.idempotency_key, run.beside = by, idempotency_key, beside
        run.forced_by = (by or "?") if forced else ""
        active = _active_runs([locked.pk]).get(locked.pk, _Active())
        placed = _admit(locked, active, run)
        if run.state != Run.State.QUEUED:
            blocking = Run.objects.filter(pk=active.newest or 0).first()
            return Started(None, "overlap", _blocked(blocking), blocking)
        run.save(force_insert=True)
        _make_room([placed], now)
        _submit([run], now)
        live.changed("runs", f"run:{run.pk}", f"job:{job.pk}")
        if trigger not in {Run.Trigger.SCHEDULE, Run.Trigger.TICK}:
            wishes = {"beside": True} if beside else {}
            wishes |= {"forced": True} if forced else {}
            _record(run, Change.Kind.STARTED, by=by, now=now, **wishes)
    return Started(run)


def _record(run: Run, kind: Change.Kind, *, by: str, now: datetime, **told: Any) -> None:
    """Write down what somebody asked of a run, in the transaction that does it."""
    told = {"job": run.job_id, **told}
    Change.record(run, kind, told, now=now, by=by, called=run.job_name)


def force(run: Run, *, by: str, now: datetime) -> bool:
    """Let a waiting run start whatever its conditions say, and make way for nobody.

    Places and pools it still waits for, but for no pause. False when it does not wait (any more)
    or was told so before.
    """
    with transaction.atomic():
        forced = (
            Run.objects.queued()
            .filter(pk=run.pk, forced_by="")
            .update(forced_by=by or "?", not_before=Least(F("not_before"), now), expires_at=None)
        )
        if forced:
            executor.tell_anew(run.pk, now.timestamp())
            live.changed("runs", f"run:{run.pk}")
            _record(run, Change.Kind.FORCED, by=by, now=now)
    if forced:
        log.info("run %s is started whatever its conditions say, by %s", run.pk, by)
    return bool(forced)


def _refusal() -> Started | None:
    policy = Policy.current()
    if policy.is_held:
        reason = _t("Not started: everything is held by %(who)s. Resume first.")
        return Started(None, "held", reason % {"who": policy.held_by or "?"})
    if Run.objects.queued().count() >= MOST_QUEUED:
        return Started(None, "queue_full", reasons.sentence("queue_full", {"n": MOST_QUEUED}))
    return None


def _blocked(blocking: Run | None) -> str:
    if blocking is None:
        return reasons.sentence("overlap_unknown", {})
    if blocking.state == Run.State.QUEUED:
        return _t("Not started: run %(n)s is already waiting.") % {"n": blocking.pk}
    return _t("Not started: already running (run %(n)s).") % {"n": blocking.pk}


def stop(run: Run, *, by: str, now: datetime) -> bool:
    """Ask a run to stop; False when it has already ended. A waiting one leaves the line."""
    with transaction.atomic():
        asked = run.request_stop(by=by, now=now)
        if asked:
            executor.ask_to_stop(run.pk)
            _record(run, Change.Kind.CANCELLED, by=by, now=now)
    return asked


def remove(job: Job, *, by: str, now: datetime) -> int:
    """Delete a job with its runs and their output; return how many runs went.

    Active runs are stopped first; the runner ends their processes although the rows are gone.
    """
    with transaction.atomic():
        for run in Run.objects.active_of(job.pk):
            stop(run, by=by, now=now)
        ids = list(Run.objects.filter(job=job).values_list("pk", flat=True))
        count = job.remove(now=now, by=by)
        executor.forget(ids)
    return count


# ── The line ─────────────────────────────────────────────────────────────────────────────────────
def hold(mode: str, *, by: str, now: datetime, note: str = "") -> bool:
    """Hold everything: nothing starts until `resume`; False when it was held so already.

    `mode` "drain" lets running commands go on, "stop" ends them too. What becomes due meanwhile is
    treated as missed when it goes on, by each job's rule.
    """
    if mode not in {Policy.Hold.DRAIN, Policy.Hold.STOP}:
        raise ValueError(f"unknown way to hold {mode!r}; known: drain, stop")
    with transaction.atomic(), told_last():
        changed = Policy.set_hold(mode, now=now, by=by, note=note)
        if mode == Policy.Hold.STOP:
            for run in Run.objects.running():
                if run.request_stop(by=by, now=now, code="held"):
                    executor.ask_to_stop(run.pk)
    return changed


def resume(*, by: str, now: datetime) -> bool:
    """Let everything go on; False when nothing was held."""
    with transaction.atomic(), told_last():
        held_at = Policy.current().held_at
        resumed = Policy.set_hold("", now=now, by=by)
        if held_at is not None:
            expire(now, held_at)  # what waited through it follows its misfire rule as well
    if resumed:
        log.info("resumed by %s", by)
    return resumed


MOVES = ("first", "up", "down", "last")


def move(run: Run, to: str, *, by: str, now: datetime) -> bool:
    """Give a waiting run another place in line: "first", "up", "down" or "last".

    Runs put in their place by hand go before all others. False when the run does not wait (any
    more), or is there already.
    """
    if to not in MOVES:
        raise ValueError(f"unknown place {to!r}; known: {', '.join(MOVES)}")
    with transaction.atomic():
        ready = Run.objects.queued().filter(not_before__lte=now).only(*admission.SHOWN)
        line = [each.pk for each in sorted(ready, key=admission.order)]
        if run.pk not in line:
            return False
        old = line.index(run.pk)
        new = {"first": 0, "up": max(old - 1, 0), "down": old + 1, "last": len(line) - 1}[to]
        new = min(new, len(line) - 1)
        if new == old:
            return False
        line.insert(new, line.pop(old))
        # Only what stands before the moved one, and it, has to be told its place.
        ranked = line[: max(new, old) + 1] if new > old else line[: new + 1]
        Run.objects.queued().exclude(rank=None).update(rank=F("rank") + len(ranked))
        for rank, pk in enumerate(ranked, 1):
            Run.objects.filter(pk=pk).update(rank=rank)
        executor.tell_line()
        live.changed("runs")
        _record(run, Change.Kind.MOVED, by=by, now=now, to=to)
    log.info("run %s moved %s by %s", run.pk, to, by)
    return True


# ── The sweep ────────────────────────────────────────────────────────────────────────────────────
def sweep(now: datetime, known: Collection[int] = ()) -> list[executor.Due]:
    """End waits that took too long, send again what nobody has heard of; return the latter.

    `known` are runs that this host's runner has in line: they wait for room, not for a message.
    """
    _expire(now)
    with transaction.atomic():
        late = [
            (pk, not_before.timestamp())
            for pk, not_before in Run.objects.queued()
            .filter(not_before__lte=now, submitted_at__lte=now - RESEND_AFTER)
            .values_list("pk", "not_before")
            if pk not in known
        ][:PER_TICK]
        if late:
            Run.objects.filter(pk__in=[pk for pk, _ in late]).update(submitted_at=now)
            executor.submit(late, now)
    return late


def _expire(now: datetime) -> None:
    for run in Run.objects.queued().filter(expires_at__lte=now)[:PER_TICK]:
        assert run.expires_at is not None  # the query asked for it
        waited = run.definition.get("max_wait_seconds")
        limit = max(run.due_at, run.queued_at) + timedelta(seconds=waited or 0)
        last_start = run.needs.get("last_start")
        if last_start and run.expires_at >= datetime.fromisoformat(last_start):
            code, facts = "finish_by_skip", {"at": run.needs["finish_by"]}
        elif waited and run.expires_at >= limit:
            code, facts = "waited_too_long", {"seconds": waited}
        else:
            code, facts = "deadline", {}
        if code != "deadline" and run.needs.get("action") == Job.GateAction.RUN:
            _waive(run, now)
        elif run.skip(now=now, code=code, **facts):
            executor.ask_to_stop(run.pk)


def _waive(run: Run, now: datetime) -> None:
    """Let a run start although its conditions are not met: it was its last chance."""
    with transaction.atomic():
        Run.objects.queued().filter(pk=run.pk, expires_at=run.expires_at).update(
            forced_by=LAST_CHANCE,
            expires_at=None,
            reason_code="gate_waived",
            reason_facts={},
            not_before=Least(F("not_before"), now),
        )
        executor.tell_anew(run.pk, now.timestamp())
        live.changed("runs", f"run:{run.pk}")


def expire(now: datetime, seen_at: datetime) -> int:
    """After an outage since `seen_at`: give up occurrences that are too late to begin; how many.

    What became due after it starts when the daemon is back, unless the job's misfire rule says
    otherwise. What was in line before has missed nothing: it waits on. Retries keep their turn.
    """
    if now - seen_at <= ON_TIME:
        return 0
    given_up = 0
    queued = Run.objects.queued().filter(trigger=Run.Trigger.SCHEDULE, attempt=1)
    owed = queued.filter(due_at__lt=now - ON_TIME, not_before__gte=seen_at - ON_TIME)
    for run in owed.select_related("job"):
        age = timedelta(seconds=run.job.misfire_age_seconds)
        skips = run.job.misfire == Job.Misfire.SKIP
        if (skips or now - run.due_at > age) and run.miss(
            now=now, code="misfire_skip" if skips else "too_old"
        ):
            given_up += 1
            executor.ask_to_stop(run.pk)
    return given_up


# ── The clock ────────────────────────────────────────────────────────────────────────────────────
def rebase(now: datetime) -> int:
    """Let schedules begin anew that a wrong clock has left far ahead; return of how many jobs.

    A job waits until the clock has caught up with what it has handled, so that nothing runs twice;
    but one that waits for an instant hours beyond its next would stand still for years if the clock
    once said 2099.
    """
    begun = 0
    for job in Job.objects.active().filter(next_due_at__gt=now + WRONG_CLOCK):
        try:
            expected = job.first_after(now)
        except Exception:
            log.exception("job %s can't be planned", job.pk)
            continue  # the tick says so
        waits = job.next_due_at
        if waits is None or expected is None or waits - expected <= WRONG_CLOCK:
            continue
        if Run.objects.filter(job=job, trigger=Run.Trigger.SCHEDULE, due_at=expected).exists():
            continue  # handled before the clock was set back
        with transaction.atomic():
            begun += Job.objects.filter(pk=job.pk, next_due_at=waits).update(
                next_due_at=expected, anchor=min(job.anchor, now)
            )
            # What was written just before its time, by that clock, is written anew.
            ahead = Run.objects.queued().filter(job=job, due_at__gt=now + WRONG_CLOCK, attempt=1)
            early = ahead.filter(trigger=Run.Trigger.SCHEDULE).select_for_update()
            Run.objects.filter(pk__in=[run.pk for run in early]).delete()
            live.changed("jobs", f"job:{job.pk}")
    with transaction.atomic():
        # What was due by now and put off by that clock may start.
        owed = Run.objects.queued().filter(due_at__lte=now, not_before__gt=now + WRONG_CLOCK)
        put_off = [run.pk for run in owed.select_for_update()]
        Run.objects.filter(pk__in=put_off).update(not_before=now, submitted_at=now)
        executor.submit(((pk, now.timestamp()) for pk in put_off), now)
    if begun:
        Incident.note("clock_rebased", now=now, jobs=begun)
    return begun


def clock_stepped(seconds: float, now: datetime) -> None:
    """Record that the clock was set by `seconds`, and put right what a long step back leaves."""
    code = "clock_forward" if seconds > 0 else "clock_back"
    Incident.note(code, now=now, seconds=round(abs(seconds)))
    if seconds < 0:
        rebase(now)

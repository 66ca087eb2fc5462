"""A2: whatever is done in whatever order, the rows keep their promises.

Hypothesis plays operator, daemon, supervisor and disaster against the real models and movers; after
each step the database is held against what a run and a job may be.
"""

from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daemon_app import executor, scheduler
from daemon_app.models import Job, Policy, Run
from daemon_app.models.run import Ending
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
FINAL = [each for each in Run.State.values if each not in Run.ACTIVE]
ENDS = [Run.State.SUCCEEDED, Run.State.FAILED, Run.State.TIMED_OUT]
PERIODS = (1, 2, 5, 60)


class CrashError(Exception):
    """The daemon dies in the middle of what it does."""


class Machine(RuleBasedStateMachine):
    """Jobs and their runs, and a clock that only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = transaction.atomic()
        self.whole.__enter__()
        self.now = NOON
        self.made = 0
        self.final: dict[int, tuple[Any, ...]] = {}  # run → its row when it had ended
        self.fences: dict[int, int] = {}
        self.owed: dict[int, datetime] = {}  # job → the first instant that must be told of
        self.claims: dict[int, int] = {}  # run → fence under which it runs
        self.pressed: dict[str, int] = {}

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.whole.__exit__(None, None, None)

    def any_job(self, data: st.DataObject) -> Job:
        return Job.objects.get(pk=data.draw(st.sampled_from(sorted(self.owed))))

    def any_run(self, data: st.DataObject, states: list[str]) -> Run | None:
        found = list(Run.objects.filter(state__in=states).order_by("pk"))
        return data.draw(st.sampled_from(found)) if found else None

    # ── The operator ─────────────────────────────────────────────────────────────────────────────
    @initialize()
    def begins_with_a_job(self) -> None:
        self.creates(1, "skip", 1, "once", 0)

    @rule(
        period=st.sampled_from(PERIODS),
        overlap=st.sampled_from(Job.Overlap.values),
        limit=st.integers(1, 3),
        misfire=st.sampled_from(Job.Misfire.values),
        retries=st.integers(0, 2),
    )
    @precondition(lambda self: len(self.owed) < 4)
    def creates(self, period: int, overlap: str, limit: int, misfire: str, retries: int) -> None:
        if overlap == "replace":
            retries, misfire = 0, "once"
        self.made += 1
        made = job(
            f"job {self.made}",
            now=self.now,
            job_type="interval",
            schedule=f"{period}s",
            overlap=overlap,
            max_instances=limit,
            misfire=misfire,
            max_retries=retries,
        )
        self.owed[made.pk] = self.now

    @rule(data=st.data(), period=st.sampled_from(PERIODS))
    def edits(self, data: st.DataObject, period: int) -> None:
        edited = self.any_job(data)
        changes = edited.schedule != f"{period}s" and period != 60
        edited.schedule = f"{period}s" if changes else edited.schedule
        edited.description = f"edited at {self.now}"
        edited.store(now=self.now, by="anna")
        if changes:
            self.owed[edited.pk] = self.now

    @rule(data=st.data(), active=st.booleans())
    def switches(self, data: st.DataObject, active: bool) -> None:
        if self.any_job(data).set_active(active, now=self.now, by="anna"):
            self.owed = dict.fromkeys(self.owed, self.now)

    @rule(data=st.data(), key=st.sampled_from("abc"))
    def presses(self, data: st.DataObject, key: str) -> None:
        wanted = self.any_job(data)
        started = scheduler.start(
            wanted, trigger="api", by="anna", now=self.now, idempotency_key=key
        )
        if started.run is None:
            assert started.reason
            assert started.code in {"overlap", "held"}
        elif started.code == "repeated":
            assert started.run.pk == self.pressed[key]
        else:
            assert key not in self.pressed
            self.pressed[key] = started.run.pk

    @rule(data=st.data())
    def cancels(self, data: st.DataObject) -> None:
        if run := self.any_run(data, list(Run.State.values)):
            was_active = run.is_active
            assert scheduler.stop(run, by="anna", now=self.now) == was_active

    @rule(data=st.data())
    @precondition(lambda self: len(self.owed) > 1)
    def deletes(self, data: st.DataObject) -> None:
        gone = self.any_job(data)
        del self.owed[gone.pk]
        runs = set(gone.runs.values_list("pk", flat=True))
        assert scheduler.remove(gone, by="anna", now=self.now) == len(runs)
        for kept in (self.final, self.fences, self.claims):
            for run in runs & kept.keys():
                del kept[run]
        self.pressed = {key: run for key, run in self.pressed.items() if run not in runs}

    @rule(mode=st.sampled_from(["drain", "stop"]))
    def holds(self, mode: str) -> None:
        scheduler.hold(mode, by="anna", now=self.now)

    @rule()
    def resumes(self) -> None:
        scheduler.resume(by="anna", now=self.now)

    # ── The daemon and its runs ──────────────────────────────────────────────────────────────────
    @rule(seconds=st.sampled_from([0.01, 0.4, 1, 3, 30, 90, 4000]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        scheduler.tick(self.now)
        self.everything_due_is_told_of()

    @rule(seconds=st.sampled_from([0.4, 1, 3, 90]))
    def dies_in_the_middle_of_a_tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        before = self.rows()

        def die(*_args: object) -> None:
            raise CrashError

        with patch.object(executor, "submit", die):
            try:
                with transaction.atomic():
                    scheduler.tick(self.now)
            except CrashError:
                assert self.rows() == before

    @rule()
    def claims_what_may_start(self) -> None:
        ready = Run.objects.queued().filter(not_before__lte=self.now)
        for run_id in list(ready.values_list("pk", flat=True)[:3]):
            self.claims |= Run.objects.claim([run_id], owner="here", now=self.now)
            assert Run.objects.claim([run_id], owner="there", now=self.now) == {}

    @rule(data=st.data(), state=st.sampled_from(ENDS))
    def ends(self, data: st.DataObject, state: str) -> None:
        if run := self.any_run(data, [Run.State.RUNNING]):
            assert run.finish(state, now=self.now, exit_code=int(state != Run.State.SUCCEEDED))

    @rule(data=st.data(), pause=st.sampled_from([0, 1, 40]))
    def fails_and_is_tried_again(self, data: st.DataObject, pause: int) -> None:
        if run := self.any_run(data, [Run.State.RUNNING]):
            ending = Ending(run.pk, run.fence, Run.State.FAILED, self.now, exit_code=1)
            later = self.now + pause * SECOND
            back = Run.objects.put_back(ending, not_before=later, code="retry", facts={})
            assert back == (run.stop_requested_at is None)
            assert not back or not Run.objects.finish([ending])

    @rule(data=st.data())
    def loses(self, data: st.DataObject) -> None:
        if run := self.any_run(data, [Run.State.RUNNING]):
            late = Run.objects.get(pk=run.pk)
            assert run.give_up(now=self.now)
            assert not late.finish(Run.State.SUCCEEDED, now=self.now, exit_code=0)

    @rule()
    def sweeps(self) -> None:
        for run_id, _due in scheduler.sweep(self.now):
            assert Run.objects.queued().filter(pk=run_id).exists()

    # ── What always holds ────────────────────────────────────────────────────────────────────────
    def rows(self) -> list[tuple[Any, ...]]:
        jobs = Job.objects.order_by("pk").values_list("pk", "next_due_at", "version")
        return [*Run.objects.order_by("pk").values_list("pk", "state", "fence"), *jobs]

    @invariant()
    def what_has_ended_never_changes(self) -> None:
        columns = ("state", "reason_code", "ended_at", "exit_code", "fence", "attempt")
        for pk, *row in Run.objects.filter(state__in=FINAL).values_list("pk", *columns):
            assert self.final.setdefault(pk, tuple(row)) == tuple(row)
            assert row[2] is not None, "an end without its time"
        assert self.final.keys() <= set(Run.objects.values_list("pk", flat=True))

    @invariant()
    def fences_only_grow(self) -> None:
        for pk, fence in Run.objects.values_list("pk", "fence"):
            assert fence >= self.fences.get(pk, 0)
            self.fences[pk] = fence

    @invariant()
    def no_job_runs_more_often_at_once_than_it_may(self) -> None:
        # What "catch up all" catches up waits for one another, however much that is.
        for each in Job.objects.exclude(misfire=Job.Misfire.ALL):
            active = list(Run.objects.active().filter(job=each))
            if each.overlap in {Job.Overlap.SKIP, Job.Overlap.PARALLEL}:
                assert len(active) <= each.max_instances
            else:
                waiting = [run for run in active if run.state == Run.State.QUEUED]
                assert len(waiting) <= each.max_instances

    @invariant()
    def what_never_started_says_why(self) -> None:
        unstarted = Run.objects.filter(state__in=[Run.State.SKIPPED, Run.State.MISSED])
        for run in unstarted:
            assert run.reason
            assert run.reason != run.reason_code
            if run.reason_code in {"overlap", "superseded"}:
                assert run.blocking_run_id
                assert Run.objects.filter(pk=run.blocking_run_id, job_id=run.job_id).exists()

    def everything_due_is_told_of(self) -> None:
        """Hold a tick to its word: each instant since a job began has a row, or is in a sum."""
        if Policy.current().is_held:
            return
        for each in Job.objects.active():
            assert each.next_due_at is not None
            held_back = Run.objects.active().filter(job=each).count() >= each.max_instances
            assert each.next_due_at > self.now - (SECOND if held_back else 0 * SECOND)
            told = set(each.runs.values_list("due_at", flat=True))
            spans = [
                tuple(datetime.fromisoformat(run.reason_facts[key]) for key in ("first", "last"))
                for run in each.runs.filter(reason_code="misfire_summary")
            ]
            at = each.plan.next_due(self.owed[each.pk], anchor=each.anchor)
            while at is not None and at <= self.now:
                span = next((span for span in spans if span[0] <= at <= span[1]), None)
                assert span or at in told, f"{each} at {at}"
                at = each.plan.next_due(span[1] if span else at, anchor=each.anchor)


def test_whatever_is_done_the_rows_keep_their_promises() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

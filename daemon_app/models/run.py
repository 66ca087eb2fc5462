"""A run: one occurrence of a job, from due to its end, and the one gate for its changes."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import live
from daemon_app.models import reasons
from daemon_app.models.job import Job

# Beyond this a start is remarked on as late (semantics 3).
ON_TIME = timedelta(seconds=60)
# More missed instants than this of one job become one row: how many, from when to when.
MISSED_ROWS = 100
# A claim may be in vain, because the daemon is killed before it can launch; not again and again.
MOST_FALSE_STARTS = 3
# The progress of a command that has nothing left to do, in per cent.
DONE = 100
# A run that had less than this before it was displaced has had little of it: the next pause grows.
LEAST_SLICE = timedelta(minutes=2)
PAUSES = (0, 0, 5, 10, 20, 40, 60)  # minutes, by how many slices in a row were too short
# What it says sooner makes of a slow beginning an estimate of years.
TELLING, TELLING_AFTER = 2, timedelta(seconds=10)


@dataclass(frozen=True)
class Ending:
    """How a run's supervisor says it ended; what `Run.objects.finish` writes."""

    run_id: int
    fence: int
    state: str
    ended_at: datetime
    started_at: datetime | None = None
    reason_code: str = ""
    reason_facts: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    gpu_seconds: float | None = None
    peak_vram_bytes: int | None = None
    output_bytes: int = 0
    dropped_bytes: int = 0
    output_lines: int = 0
    last_line: str = ""
    progress: int | None = None
    progress_label: str = ""
    unusual: str = ""


# What of an ending is written as it is, to the run or to one of its attempts.
MEASURED = (
    *("exit_code", "signal", "cpu_seconds", "peak_rss_bytes", "read_bytes", "write_bytes"),
    *("gpu_seconds", "peak_vram_bytes", "output_bytes", "dropped_bytes", "output_lines"),
    "last_line",
)


class RunQuerySet(models.QuerySet["Run"]):
    """Runs by what is true of them, and the moves of many at once."""

    def active(self) -> Self:
        """Runs that wait or run."""
        return self.filter(state__in=Run.ACTIVE)

    def active_of(self, job_id: int) -> Self:
        """Runs of a job that wait or run, looked for among what does, not in the job's history."""
        return self.active().alias(of=F("job_id") + 0).filter(of=job_id)

    def queued(self) -> Self:
        """Runs that wait for their start."""
        return self.filter(state=Run.State.QUEUED)

    def running(self) -> Self:
        """Runs whose command is being run."""
        return self.filter(state=Run.State.RUNNING)

    def claim(self, ids: Sequence[int], *, owner: str, now: datetime) -> dict[int, int]:
        """Move queued runs to running for `owner`; return the fences of those that are now ours.

        Any number may try with the same ids: each run goes to one of them, with a new fence.
        """
        if not ids:
            return {}
        marks = ", ".join(["%s"] * len(ids))
        statement = (
            "UPDATE daemon_runs SET state = %s, fence = fence + 1, owner = %s, started_at = %s, "  # noqa: S608 - marks only
            # Why it waited is no remark on a run that runs.
            "reason_code = CASE WHEN reason_code IN ('retry', 'spread', 'displaced', 'displacing') "
            "THEN '' "
            "ELSE reason_code END "
            f"WHERE state = %s AND id IN ({marks}) AND not_before <= %s "
            "AND NOT EXISTS (SELECT 1 FROM daemon_policy WHERE hold <> '') RETURNING id, fence"
        )
        instant = adapted(now)
        values = [Run.State.RUNNING, owner, instant, Run.State.QUEUED, *ids, instant]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, values)
            mine = dict(cursor.fetchall())
            if mine:
                live.changed("runs", *(f"run:{pk}" for pk in mine))
        return mine

    def finish(self, endings: Iterable[Ending]) -> list[int]:
        """Write the ends of running runs in one commit; return the ids that were written.

        An ending counts only while the run is still running under the same fence: whoever was
        given up for dead can't finish later.
        """
        measured = ", ".join(f"{column} = %s" for column in MEASURED)
        statement = (
            "UPDATE daemon_runs SET state = %s, phase = '', ended_at = %s, "  # noqa: S608 - columns
            "started_at = COALESCE(%s, started_at), "
            # A remark from the start (caught up) stays where the end has none of its own, and
            # who asked for a stop may have said why.
            "reason_facts = CASE WHEN %s = '' OR (%s = 'cancelled' AND stop_code <> '') "
            "THEN reason_facts ELSE %s END, "
            "reason_code = CASE WHEN %s = 'cancelled' AND stop_code <> '' THEN stop_code "
            # Asked to make way, it has ended by itself.
            "WHEN %s = '' AND reason_code = 'displacing' THEN '' "
            "WHEN %s = '' THEN reason_code ELSE %s END, "
            "progress_label = CASE WHEN %s IS NULL THEN progress_label ELSE %s END, "
            "progress = COALESCE(%s, progress), unusual = %s, "
            f"{measured} WHERE id = %s AND fence = %s AND state = %s"
        )
        written = []
        with transaction.atomic(), connection.cursor() as cursor:
            for e in endings:
                cursor.execute(
                    statement,
                    [
                        e.state,
                        adapted(e.ended_at),
                        adapted(e.started_at),
                        *(e.reason_code, e.reason_code, json.dumps(e.reason_facts)),
                        *(e.reason_code, e.reason_code, e.reason_code, e.reason_code),
                        *(e.progress, e.progress_label, e.progress, e.unusual),
                        *(getattr(e, column) for column in MEASURED),
                        *(e.run_id, e.fence, Run.State.RUNNING),
                    ],
                )
                if cursor.rowcount:
                    written.append(e.run_id)
            live.changed("runs", *(f"run:{pk}" for pk in written))
        return written

    def record_missed(self, job: Job, until: datetime, code: str, *, most: int) -> int:
        """Record what of a job's schedule was due by `until` and nobody has looked at; how many.

        More than `most` instants become one row. Whoever changes or ends a schedule asks for this
        first, so that no occurrence disappears.
        """
        first = job.next_due_at
        if not job.is_active or first is None or first > until:
            return 0
        found = job.plan.missed(first, until, most, anchor=job.anchor)
        instants, facts = list(found.newest), {}
        if found.count > most:
            instants, code = instants[-1:], "misfire_summary"
            facts = summary(found.count, first, instants[0])
        missed = [
            Run(
                job=job,
                job_name=job.name,
                trigger=Run.Trigger.SCHEDULE,
                due_at=at,
                not_before=at,
                state=Run.State.MISSED,
                reason_code=code,
                reason_facts=facts,
                queued_at=until,
                ended_at=until,
            )
            for at in instants
        ]
        self.bulk_create(missed, ignore_conflicts=True)
        live.changed("runs")
        return found.count

    def put_back(
        self, ending: Ending, *, not_before: datetime, code: str, facts: dict[str, Any]
    ) -> bool:
        """Put a run whose attempt ended badly back in line; False when it is not ours to put back.

        The attempt is kept as a row of its own. A run that was asked to stop is never put back.
        """
        return self._back_in_line(
            ending,
            ending.state,
            not_before=not_before,
            # It did begin in time.
            expires_at=None,
            last_start=None,
            reason_code=code,
            reason_facts=facts,
        )

    def displace(
        self, ending: Ending, *, cause: dict[str, Any], now: datetime, token: str | None = None
    ) -> datetime | None:
        """Put a run that made way for a person back in line; return when it may go on.

        None when it is not ours to put back. No failure and no retry: it keeps what it said to go
        on from, and pauses longer each time that it was given less than its least slice (semantics
        6). `ending.state` is not looked at.
        """
        run = self.running().filter(pk=ending.run_id, fence=ending.fence).first()
        if run is None:
            return None
        started_at = ending.started_at or run.started_at
        had_its_slice = ending.ended_at - started_at >= LEAST_SLICE if started_at else False
        short = 0 if had_its_slice else run.short_slices + 1
        not_before = now + timedelta(minutes=PAUSES[min(short, len(PAUSES) - 1)])
        # It did begin in time; from now on it has until the time it is to be done by, and its
        # longest wait anew.
        finish_at = run.needs.get("finish_at")
        limits = [datetime.fromisoformat(finish_at)] if finish_at else []
        if longest := run.definition.get("max_wait_seconds"):
            limits.append(not_before + timedelta(seconds=longest))
        back = self._back_in_line(
            replace(ending, reason_code="displaced", reason_facts=cause),
            Attempt.DISPLACED,
            not_before=not_before,
            expires_at=min(limits, default=None),
            last_start=finish_at,
            # Also what might run beside people: it would only be in their way again.
            idle=True,
            displacements=F("displacements") + 1,
            short_slices=short,
            progress_token=run.progress_token if token is None else token,
            reason_code="displaced",
            reason_facts=cause,
        )
        return not_before if back else None

    def _back_in_line(
        self,
        ending: Ending,
        state: str,
        *,
        last_start: str | None,
        idle: bool = False,
        **changes: Any,
    ) -> bool:
        with transaction.atomic():
            running = Run.objects.filter(
                pk=ending.run_id, fence=ending.fence, state=Run.State.RUNNING
            ).filter(stop_requested_at=None)
            before = running.values("attempt", "started_at", "needs").first()
            if before is None:
                return False
            needs = {**before["needs"], **({"idle": True} if idle else {})}
            if "last_start" in needs:
                needs["last_start"] = last_start
            if not running.update(
                state=Run.State.QUEUED,
                attempt=F("attempt") + 1,
                needs=needs,
                start_readings=[],
                submitted_at=changes["not_before"],
                started_at=None,
                phase="",
                progress=None,
                progress_label="",
                gpu_seconds=None,
                peak_vram_bytes=None,
                **changes,
            ):
                return False
            Attempt.objects.create(
                run_id=ending.run_id,
                number=before["attempt"],
                fence=ending.fence,
                state=state,
                reason_code=ending.reason_code,
                reason_facts=ending.reason_facts,
                started_at=ending.started_at or before["started_at"],
                ended_at=ending.ended_at,
                **{column: getattr(ending, column) for column in MEASURED},
            )
            live.changed("runs", f"run:{ending.run_id}")
        return True


class Run(models.Model):
    """One occurrence of a job. Its row is the truth; queue, socket and browser are doorbells."""

    class State(models.TextChoices):
        """Where a run is; the final ones never change."""

        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("done")
        FAILED = "failed", _("failure")
        TIMED_OUT = "timed_out", _("time limit")
        CANCELLED = "cancelled", _("cancelled")
        LOST = "lost", _("lost")
        SKIPPED = "skipped", _("skipped")
        MISSED = "missed", _("missed")

    class Trigger(models.TextChoices):
        """Who or what started a run."""

        SCHEDULE = "schedule", _("schedule")
        MANUAL = "manual", _("by hand")
        API = "api", _("API")
        CLI = "cli", _("command line")
        TICK = "tick", _("tick")

    ACTIVE: ClassVar = (State.QUEUED, State.RUNNING)
    UNHAPPY: ClassVar = (State.FAILED, State.TIMED_OUT, State.LOST)

    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="runs", verbose_name=_("job"), db_index=False
    )
    job_name = models.CharField(_("job"), max_length=80)
    trigger = models.CharField(_("trigger"), max_length=10, choices=Trigger.choices)
    started_by = models.CharField(_("started by"), max_length=150, blank=True)
    due_at = models.DateTimeField(_("due"))
    # The earliest start: the due instant, or later for a retry and for a start caught up.
    not_before = models.DateTimeField()
    # Not begun by then, it is skipped: the job's deadline, or the longest wait in line.
    expires_at = models.DateTimeField(null=True)
    definition = models.JSONField(default=dict)
    idempotency_key = models.CharField(max_length=80, null=True, blank=True, unique=True)

    state = models.CharField(_("state"), max_length=10, choices=State.choices)
    reason_code = models.CharField(max_length=40, blank=True)
    reason_facts = models.JSONField(default=dict, blank=True)
    blocking_run_id = models.BigIntegerField(null=True, blank=True)
    priority = models.SmallIntegerField(default=0)
    pools = models.JSONField(default=dict, blank=True)
    # Its place in the line when a person has put it there; such runs go before all others.
    rank = models.PositiveIntegerField(null=True)
    # Started by a person although another run of the job was active.
    beside = models.BooleanField(default=False)

    fence = models.PositiveIntegerField(default=0)
    attempt = models.PositiveSmallIntegerField(default=1)
    owner = models.CharField(max_length=253, blank=True)
    queued_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(_("started"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)
    stop_requested_at = models.DateTimeField(null=True)
    stop_requested_by = models.CharField(max_length=150, blank=True)
    stop_code = models.CharField(max_length=40, blank=True)
    phase = models.CharField(max_length=10, blank=True)

    exit_code = models.IntegerField(_("exit code"), null=True)
    signal = models.SmallIntegerField(_("signal"), null=True)
    cpu_seconds = models.FloatField(_("CPU time"), null=True)
    peak_rss_bytes = models.BigIntegerField(_("peak memory"), null=True)
    read_bytes = models.BigIntegerField(_("read"), null=True)
    write_bytes = models.BigIntegerField(_("written"), null=True)
    gpu_seconds = models.FloatField(_("GPU time"), null=True)
    peak_vram_bytes = models.BigIntegerField(_("peak VRAM"), null=True)
    output_bytes = models.BigIntegerField(_("output"), default=0)
    dropped_bytes = models.BigIntegerField(default=0)
    output_removed = models.BooleanField(default=False)
    output_lines = models.BigIntegerField(default=0)
    last_line = models.CharField(max_length=200, blank=True)

    # What has to be true before it starts: see `Job.needs`. A person may start it all the same.
    needs = models.JSONField(default=dict, blank=True)
    forced_by = models.CharField(max_length=150, blank=True)
    # The gates' readings when it was started: [{"gate", "open", "code", "facts"}, …].
    start_readings = models.JSONField(default=list, blank=True)

    displacements = models.PositiveIntegerField(default=0)
    # Displaced so often in a row without having had its least slice of time.
    short_slices = models.PositiveIntegerField(default=0)
    # What the command asked us to keep for when it goes on.
    progress_token = models.CharField(max_length=4096, blank=True)
    progress = models.PositiveSmallIntegerField(null=True)
    progress_label = models.CharField(max_length=200, blank=True)
    # Whether it took much longer or shorter than runs of its job did by then (`durations`).
    unusual = models.CharField(max_length=5, blank=True)

    objects = RunQuerySet.as_manager()

    class Unusual(models.TextChoices):
        """How the length of a run stands out."""

        LONG = "long", _("unusually long")
        SHORT = "short", _("unusually short")

    class Phase(models.TextChoices):
        """How far the end of a running run has come."""

        ASKED = "asked", _("asked")
        TERM = "term", _("SIGTERM")
        KILL = "kill", _("SIGKILL")

    class Meta:
        db_table = "daemon_runs"
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "due_at"],
                condition=Q(trigger="schedule"),
                name="daemon_runs_occurrence",
            ),
        ]
        indexes = [
            models.Index(fields=["job", "-id"], name="daemon_runs_job"),
            models.Index(
                fields=["state", "not_before"],
                name="daemon_runs_active",
                condition=Q(state__in=["queued", "running"]),
            ),
            models.Index(fields=["state", "-id"], name="daemon_runs_state"),
            models.Index(fields=["queued_at"], name="daemon_runs_queued"),
            # The disk's use by age, answered by the index alone: rows are wide (retention).
            models.Index(
                fields=["id", "job", "output_bytes", "dropped_bytes", "attempt", "output_removed"],
                name="daemon_runs_output",
                condition=Q(output_removed=False) & (Q(output_bytes__gt=0) | Q(attempt__gt=1)),
            ),
        ]

    def __str__(self) -> str:
        return _t("Run %(n)s of %(job)s") % {"n": self.pk, "job": self.job_name}

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row; a new one may start from its due instant on."""
        if self.__dict__.get("not_before") is None:
            self.not_before = self.due_at
        super().save(*args, **kwargs)

    # ── The gate ─────────────────────────────────────────────────────────────────────────────────
    def _move(self, old: str, new: str, **changes: Any) -> bool:
        """Move from `old` to `new` under the fence this object was read with.

        Return whether it was ours to move. The open pages hear of it on commit.
        """
        with transaction.atomic():
            moved = Run.objects.filter(pk=self.pk, state=old, fence=self.fence).update(
                state=new, **changes
            )
            if moved:
                live.changed("runs", f"run:{self.pk}")
        if moved:
            self.state = new
            for field, value in changes.items():
                setattr(self, field, value)
        return bool(moved)

    def claim(self, *, owner: str, now: datetime) -> bool:
        """Take this queued run for `owner`; False when somebody else has it or it is over."""
        if self.pk not in Run.objects.claim([self.pk], owner=owner, now=now):
            return False
        self.refresh_from_db()
        return True

    def finish(self, state: str, *, now: datetime, **facts: Any) -> bool:
        """Write the end of this running run; False when it is no longer ours to write."""
        ending = Ending(run_id=self.pk, fence=self.fence, state=state, ended_at=now, **facts)
        if not Run.objects.finish([ending]):
            return False
        self.refresh_from_db()
        return True

    def give_up(self, *, now: datetime, code: str = "supervisor_gone") -> bool:
        """Call a running run lost: its supervisor is gone and nobody knows how it ended."""
        return self._move(
            self.State.RUNNING,
            self.State.LOST,
            ended_at=now,
            reason_code=code,
            reason_facts={},
        )

    def return_to_line(self, *, not_before: datetime | None = None) -> bool:
        """Take the claim back of a running run of which nothing has begun; its attempt stays.

        With `not_before` for a cause that passes, which then has a say as often as it likes. False
        when it is not ours any more, was asked to stop, or has begun in vain too often.
        """
        if not_before is None and self.fence - self.attempt >= MOST_FALSE_STARTS:
            return False
        moves: dict[str, Any] = {"state": self.State.QUEUED, "started_at": None, "owner": ""}
        moves["reason_code"] = Case(
            When(reason_code="displacing", then=Value("")), default=F("reason_code")
        )
        if not_before is not None:
            moves["not_before"] = not_before
        with transaction.atomic():
            ours = Run.objects.running().filter(pk=self.pk, fence=self.fence)
            back = ours.filter(stop_requested_at=None).update(**moves)
            if back:
                live.changed("runs", f"run:{self.pk}")
        return bool(back)

    def request_stop(
        self, *, by: str, now: datetime, code: str = "", blocking: int | None = None
    ) -> bool:
        """Ask this run to stop; False when it has already ended.

        A queued run is cancelled at once. A running one carries the wish on its row; its runner
        ends the whole process tree and writes the end. `code` says why when it is not a plain
        cancel, `blocking` which run takes its place.
        """
        who: dict[str, Any] = {"stop_requested_by": by, "stop_code": code}
        if blocking:
            who["blocking_run_id"] = blocking
        # Whatever attempt the row is at by now: the wish is about the run.
        with transaction.atomic():
            asked = Run.objects.queued().filter(pk=self.pk).update(
                state=self.State.CANCELLED,
                ended_at=now,
                reason_code=code or "cancelled",
                stop_requested_at=now,
                **who,
            ) or Run.objects.running().filter(pk=self.pk).update(
                stop_requested_at=Coalesce(F("stop_requested_at"), now), **who
            )
            if asked:
                self.refresh_from_db()
                live.changed("runs", f"run:{self.pk}")
        return bool(asked)

    def skip(self, *, now: datetime, code: str, blocking: int | None = None, **facts: Any) -> bool:
        """Record that this queued run is not started after all; False when it is over or runs."""
        return self._move(
            self.State.QUEUED,
            self.State.SKIPPED,
            ended_at=now,
            reason_code=code,
            reason_facts=facts,
            blocking_run_id=blocking,
        )

    def miss(self, *, now: datetime, code: str) -> bool:
        """Record that this queued run comes too late to be started; False when it is over."""
        return self._move(self.State.QUEUED, self.State.MISSED, ended_at=now, reason_code=code)

    # ── Questions ────────────────────────────────────────────────────────────────────────────────
    @property
    def reason(self) -> str:
        """Why this run is as it is, as a sentence in the current language; "" when plain."""
        facts = {"who": self.stop_requested_by or "?", **self.reason_facts}
        if self.blocking_run_id:
            facts.setdefault("run", self.blocking_run_id)
        if self.reason_code == "timed_out":  # lists of runs do without the definition
            facts.setdefault("seconds", self.definition.get("timeout_seconds"))
        return reasons.sentence(self.reason_code, facts)

    @property
    def is_active(self) -> bool:
        """Whether this run waits or runs."""
        return self.state in self.ACTIVE

    @property
    def is_stopping(self) -> bool:
        """Whether this run was asked to stop and has not ended yet."""
        return self.state == self.State.RUNNING and self.stop_requested_at is not None

    def duration(self, now: datetime) -> timedelta | None:
        """Return how long the command has run, or ran; None when it never began."""
        if self.started_at is None:
            return None
        return max((self.ended_at or now) - self.started_at, timedelta(0))

    def eta(self, now: datetime, usual: timedelta | None) -> timedelta | None:
        """Return how much longer this run will take; None when that can't be said.

        Judged by its own progress once that tells enough, else by `usual`: see
        `Job.median_duration`. A run that takes longer than usual already has no time left to tell.
        """
        if self.state != self.State.RUNNING or self.is_stopping:
            return None
        taken = self.duration(now)
        if taken is None:
            return None
        done = self.progress
        if done is not None and done >= TELLING and taken >= TELLING_AFTER:
            return taken * (DONE - done) / done
        return usual - taken if usual is not None and usual > taken else None

    @property
    def folder(self) -> Path:
        """Where this run's output and result are kept; made of its number alone."""
        return folder_of(self.pk)


class Attempt(models.Model):
    """One start of a run that was started again; the last one is the run's own row.

    It failed and was tried again, was lost and repeated, or made way for a person.
    """

    DISPLACED = "displaced"
    STATES: ClassVar = [*Run.State.choices, (DISPLACED, _("made way"))]

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    fence = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=STATES)
    reason_code = models.CharField(max_length=40, blank=True)
    reason_facts = models.JSONField(default=dict, blank=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    exit_code = models.IntegerField(null=True)
    signal = models.SmallIntegerField(null=True)
    cpu_seconds = models.FloatField(null=True)
    peak_rss_bytes = models.BigIntegerField(null=True)
    read_bytes = models.BigIntegerField(null=True)
    write_bytes = models.BigIntegerField(null=True)
    gpu_seconds = models.FloatField(null=True)
    peak_vram_bytes = models.BigIntegerField(null=True)
    output_bytes = models.BigIntegerField(default=0)
    dropped_bytes = models.BigIntegerField(default=0)
    output_lines = models.BigIntegerField(default=0)
    last_line = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "daemon_attempts"
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ["run", "number"]
        constraints = [
            models.UniqueConstraint(fields=["run", "fence"], name="daemon_attempts_fence")
        ]

    def __str__(self) -> str:
        return _t("Attempt %(n)s of run %(run)s") % {"n": self.number, "run": self.run_id}

    @property
    def reason(self) -> str:
        """Why this attempt ended as it did, as a sentence; "" when plain."""
        if self.state == self.DISPLACED and self.reason_code != "displaced":
            return _t("Made way.")  # how it was ended says nothing of why
        return reasons.sentence(self.reason_code, {"who": "?", **self.reason_facts})

    @property
    def folder(self) -> Path:
        """Where this attempt's output is kept; the run's own folder until the next one begins."""
        kept = folder_of(self.run_id) / "attempts" / str(self.fence)
        if kept.exists():
            return kept
        # Of very many only the newest are kept; the run's folder then holds another one's output.
        later = (int(each.name) for each in kept.parent.glob("*") if each.name.isdecimal())
        return kept if any(fence > self.fence for fence in later) else folder_of(self.run_id)


class Wait(models.Model):
    """A time in which a run waited, and for what; written while it waited, never made up later."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="waits")
    code = models.CharField(max_length=40)
    facts = models.JSONField(default=dict, blank=True)
    began_at = models.DateTimeField()
    # When it was last seen to be so.
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "daemon_waits"
        verbose_name = _("wait")
        verbose_name_plural = _("waits")
        ordering = ["run", "id"]

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """What it waited for, in the current language."""
        return reasons.sentence(self.code, self.facts)


def summary(count: int, first: datetime, last: datetime) -> dict[str, Any]:
    """Return the facts of a row that stands for `count` missed instants."""
    return {"count": count, "first": first.isoformat(), "last": last.isoformat()}


def folder_of(run_id: int) -> Path:
    """Return the folder of a run's output and result."""
    return Path(settings.RUNS_DIR) / str(run_id // 1000) / str(run_id)


def adapted(instant: datetime | None) -> str | None:
    """Return an aware instant as this database wants it in a statement of our own."""
    return connection.ops.adapt_datetimefield_value(instant and instant.astimezone(UTC))

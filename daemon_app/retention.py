"""What is kept of the past: rows and output go by age, number and size, in small steps.

The beat calls `step` again and again; each call does a little and says when it wants the next.
Nobody waits long for the database: a transaction that took too long makes the next ones smaller,
and folders are removed outside of them. A folder first moves to `.doomed` beside the others, then
the row changes, then the folder is deleted: whenever we are killed, the next round finds what is
left, in `.doomed` or by the row.
"""

import logging
import os
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Sum

from daemon_app import arrivals, live
from daemon_app.models import Attempt, Incident, Job, Policy, Run, Ticket
from daemon_app.models.run import folder_of

log = logging.getLogger(__name__)

BUSY: Final = 0.2  # seconds between steps while there is work
QUIET: Final = 600.0  # seconds until the next round when nothing is left to do
AFTER_TROUBLE: Final = 5.0  # seconds after the database was busy or failed
PATIENCE: Final = 0.1  # seconds to wait for somebody else's transaction; the beat waits with us
TOO_LONG: Final = 0.01  # seconds for a transaction or a look; the next ones get smaller
FEWEST, FIRST, MOST = 10, 50, 200  # rows in one of them
RUNS_A_STEP: Final = 2_000  # looked at, not changed
REMOVING: Final = 0.01  # seconds for deleting folders in one step
MEGABYTE: Final = 1 << 20

Steps = Generator[float, None, None]

# The condition of the index `daemon_runs_output`, word for word.
WITH_OUTPUT: Final = Q(output_removed=False) & (Q(output_bytes__gt=0) | Q(attempt__gt=1))
KEPT: Final = F("output_bytes") - F("dropped_bytes")


def step(now: datetime) -> float:
    """Do a little of what is to be done; return seconds until the next call is wanted.

    A call before that is welcome, for example when the rules have changed. Never raises for a
    database or a disk that is busy or failing.
    """
    return _tidier.step(now)


class Pace:
    """How many rows one transaction or look may concern, judged by how long the last ones took."""

    def __init__(self) -> None:
        self.size = FIRST
        self.seconds = 0.0  # that the last one took

    def took(self, seconds: float, rows: int) -> None:
        """Learn from the last one: smaller at once, larger slowly."""
        self.seconds = seconds
        if seconds > TOO_LONG:
            self.size = max(FEWEST, self.size // 2)
        elif rows >= self.size:
            self.size = min(MOST, self.size + self.size // 10)


class Kept(NamedTuple):
    """The output of one run that is still there."""

    run: int
    job: int
    size: int  # bytes, earlier attempts included


@dataclass
class Excess:
    """Bytes by which the kept output is over its limits, in all and job by job."""

    total: int
    jobs: dict[int, int]

    @property
    def is_any(self) -> bool:
        """Whether output is to be removed."""
        return self.total > 0 or any(size > 0 for size in self.jobs.values())

    def concerns(self, kept: Kept) -> bool:
        """Return whether removing this one helps."""
        return self.total > 0 or self.jobs.get(kept.job, 0) > 0

    def shrink(self, kept: Kept) -> None:
        """Count one as removed."""
        self.total -= kept.size
        if kept.job in self.jobs:
            self.jobs[kept.job] -= kept.size


class Tidier:
    """One round after the other through everything that is kept."""

    def __init__(self) -> None:
        self.pace = Pace()  # of transactions
        self._reading = Pace()  # of looks at jobs
        self._now = datetime.min.replace(tzinfo=UTC)  # set by each step
        self._round: Steps | None = None
        self._buckets: set[Path] = set()  # folders of folders that may be empty now

    def step(self, now: datetime) -> float:
        """See the function of this name."""
        self._now = now
        if self._round is None:
            self._round = self._steps()
        try:
            return next(self._round)
        except StopIteration:
            self._round = None
            return QUIET
        except (DatabaseError, OSError) as error:
            self._round = None
            log.warning("old runs could not be removed, trying again: %s", error)
            return AFTER_TROUBLE
        except BaseException:
            self._round = None
            raise

    def _steps(self) -> Steps:
        policy = Policy.current()
        yield from self._bury()  # what a kill left
        yield from self._settle()
        yield from self._remove_expired(policy)
        yield from self._thin_out(policy)
        yield from self._save_room(policy)

    # ── What has a date of its own ───────────────────────────────────────────────────────────────
    def _remove_expired(self, policy: Policy) -> Steps:
        cutoff = _days_before(self._now, policy.keep_days)
        gone: list[QuerySet[Any]] = [
            Session.objects.filter(expire_date__lt=self._now),
            Ticket.objects.filter(expires_at__lt=self._now),
            Incident.objects.filter(at__lt=cutoff, acknowledged_at__lt=cutoff),
        ]
        for rows in gone:
            while keys := list(rows.values_list("pk", flat=True)[: self.pace.size]):
                with self._writing(len(keys)):
                    rows.filter(pk__in=keys).delete()
                yield BUSY

    # ── Runs, by age and number ──────────────────────────────────────────────────────────────────
    def _thin_out(self, policy: Policy) -> Steps:
        # Counted at once by an index; of one job it would be done by reading its rows.
        active = dict(Run.objects.active().order_by().values_list("job").annotate(n=Count("pk")))
        last = 0
        while True:
            begun = time.perf_counter()
            jobs = _jobs_after(last, self._reading.size)
            self._reading.took(time.perf_counter() - begun, len(jobs))
            if not jobs:
                break
            for pk, keep_days, keep_runs, runs, oldest in jobs:
                cutoff = _days_before(self._now, keep_days or policy.keep_days)
                surplus = (runs or 0) - active.get(pk, 0) - (keep_runs or policy.keep_runs)
                # A clock that was wrong once makes an oldest run of the future: look closer.
                if surplus > 0 or (oldest and not cutoff <= oldest <= self._now):
                    yield from self._thin_out_job(pk, cutoff, surplus)
            last = jobs[-1][0]
            yield BUSY

    def _thin_out_job(self, job: int, cutoff: datetime, surplus: int) -> Steps:
        """Remove what ended before `cutoff`, and the `surplus` oldest; never the newest."""
        of_job = Run.objects.filter(job=job)
        newest = _final(of_job).order_by("-pk").values_list("pk", flat=True).first()
        removed = False
        while newest is not None:
            oldest = _final(of_job).filter(pk__lt=newest).order_by("pk")
            rows = list(oldest.values_list("pk", "ended_at", "queued_at")[: self.pace.size])
            gone = [
                pk
                for place, (pk, ended, queued) in enumerate(rows)
                if place < surplus or (ended or queued) < cutoff
            ]
            gone = self._doom(gone)
            if not gone:
                break
            with self._writing(len(gone)):
                _delete(gone)
            surplus -= len(gone)
            removed = True
            yield BUSY
            yield from self._bury()
        if removed:
            live.changed("runs", f"job:{job}")

    # ── Output, by size ──────────────────────────────────────────────────────────────────────────
    def _save_room(self, policy: Policy) -> Steps:
        limits = dict(Job.objects.exclude(keep_output_mb=None).values_list("pk", "keep_output_mb"))
        sizes: dict[int, int] = {}
        yield from self._measure(sizes)
        excess = Excess(
            sum(sizes.values()) - policy.keep_output_mb * MEGABYTE,
            {
                job: sizes.get(job, 0) - limit * MEGABYTE
                for job, limit in limits.items()
                if limit is not None
            },
        )
        yield from self._remove_output(excess, spare_newest=True)
        # What a job left last is worth most; it goes only when there is no room for all of them.
        excess.jobs.clear()
        yield from self._remove_output(excess, spare_newest=False)

    def _measure(self, sizes: dict[int, int]) -> Steps:
        """Add up what is kept by job, one stretch of runs after the other."""
        first = _first_with_output(0)
        while first is not None:
            end = first + RUNS_A_STEP
            runs = Run.objects.filter(WITH_OUTPUT, pk__gte=first, pk__lt=end)
            attempts = Attempt.objects.filter(
                run_id__gte=first, run_id__lt=end, run__output_removed=False
            )
            for job, size in [
                *runs.order_by().values_list("job").annotate(size=Sum(KEPT)),
                *attempts.order_by().values_list("run__job").annotate(size=Sum(KEPT)),
            ]:
                sizes[job] = sizes.get(job, 0) + size
            first = _first_with_output(end)
            if first is not None:
                yield BUSY

    def _remove_output(self, excess: Excess, *, spare_newest: bool) -> Steps:
        """Remove output, oldest first, until no limit is exceeded; the rows stay and say so."""
        start = 0
        while excess.is_any and (found := _with_output(start)):
            # What is no help now will be none later: an excess only shrinks.
            helpful = [kept for kept in found if excess.concerns(kept)]
            looked_at = helpful[: self.pace.size]
            start = (looked_at if len(helpful) > len(looked_at) else found)[-1].run + 1
            removable = _removable([kept.run for kept in looked_at], spare_newest=spare_newest)
            chosen = []
            for kept in looked_at:
                if kept.run in removable and excess.concerns(kept):
                    excess.shrink(kept)
                    chosen.append(kept.run)
            gone = self._doom(chosen)
            if gone:
                with self._writing(len(gone)):
                    Run.objects.filter(pk__in=gone).update(output_removed=True)
                    live.changed("runs", *(f"run:{pk}" for pk in gone))
            yield BUSY
            yield from self._bury()

    # ── Folders ──────────────────────────────────────────────────────────────────────────────────
    def _doom(self, run_ids: Sequence[int]) -> list[int]:
        """Move the runs' folders out of sight; return the runs that have none there any more."""
        gone = []
        for run_id in run_ids:
            folder = folder_of(run_id)
            try:
                # Named by the time, too: what cannot be deleted must not be in the way later.
                folder.rename(_doomed() / f"{run_id}.{time.time_ns()}")
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning("the folder of run %s could not be removed: %s", run_id, error)
                continue
            self._buckets.add(folder.parent)
            gone.append(run_id)
        return gone

    def _bury(self) -> Steps:
        """Delete what is doomed, a few folders at a time."""
        begun = time.monotonic()
        for entry in list(os.scandir(_doomed())):
            shutil.rmtree(entry.path, ignore_errors=True)
            if time.monotonic() - begun > REMOVING:
                yield BUSY
                begun = time.monotonic()
        if self._buckets:
            newest = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            for bucket in self._buckets:
                low = int(bucket.name) * 1000
                in_use = Run.objects.active().filter(pk__gte=low, pk__lt=low + 1000)
                # A supervisor may be about to make its folder there.
                if newest >= low + 1000 and not in_use.exists():
                    with suppress(OSError):
                        bucket.rmdir()
            self._buckets.clear()

    def _settle(self) -> Steps:
        """Give runs that moved in the output that waits for them since a kill."""
        begun = time.monotonic()
        for run_id in arrivals.settle_what_was_left():
            live.changed(f"run:{run_id}")
            if time.monotonic() - begun > REMOVING:
                yield BUSY
                begun = time.monotonic()

    # ── The database ─────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def _writing(self, rows: int) -> Iterator[None]:
        """Write `rows` rows in one transaction, and learn from how long that took."""
        with _impatient():
            with transaction.atomic():
                begun = time.perf_counter()  # SQLite's write lock is ours from here on
                yield
            self.pace.took(time.perf_counter() - begun, rows)


_tidier = Tidier()


def _final(runs: QuerySet[Run]) -> QuerySet[Run]:
    return runs.exclude(state__in=Run.ACTIVE)


def _days_before(now: datetime, days: int) -> datetime:
    return now - timedelta(days=days)


def _jobs_after(
    last: int, most: int
) -> list[tuple[int, int | None, int | None, int | None, datetime | None]]:
    """Return the next jobs: number, keep_days, keep_runs, how many runs, the oldest's creation."""
    runs = Run.objects.filter(job=OuterRef("pk"))
    return list(
        Job.objects.filter(pk__gt=last)
        .order_by("pk")
        .values_list(
            "pk",
            "keep_days",
            "keep_runs",
            Subquery(runs.order_by().values("job").annotate(n=Count("pk")).values("n")),
            Subquery(_final(runs).order_by("pk").values("queued_at")[:1]),
        )[:most]
    )


def _first_with_output(start: int) -> int | None:
    kept = Run.objects.filter(WITH_OUTPUT, pk__gte=start)
    return kept.order_by("pk").values_list("pk", flat=True).first()


def _with_output(start: int) -> list[Kept]:
    """Return the runs from `start` on that have output, oldest first."""
    kept = Run.objects.filter(WITH_OUTPUT, pk__gte=start).order_by("pk")
    rows = list(kept.values_list("pk", "job", KEPT, "attempt")[:RUNS_A_STEP])
    tried_again = [pk for pk, _job, _size, attempt in rows if attempt > 1]
    attempts = Attempt.objects.filter(run__in=tried_again).order_by()
    earlier = dict(attempts.values_list("run").annotate(size=Sum(KEPT)))
    return [Kept(pk, job, size + earlier.get(pk, 0)) for pk, job, size, _attempt in rows]


def _removable(run_ids: Sequence[int], *, spare_newest: bool) -> set[int]:
    """Return those that are final, without the newest final run of a job where it is to stay."""
    runs = _final(Run.objects.filter(pk__in=run_ids))
    if spare_newest:
        newer = _final(Run.objects.filter(job=OuterRef("job"), pk__gt=OuterRef("pk")))
        runs = runs.filter(Exists(newer))
    return set(runs.values_list("pk", flat=True))


def _delete(run_ids: Sequence[int]) -> None:
    """Delete rows and all that belongs to them, without reading them as `QuerySet.delete` does."""
    marks = ", ".join(["%s"] * len(run_ids))
    with connection.cursor() as cursor:
        for table in ("daemon_attempts", "daemon_waits", "daemon_displacements"):
            cursor.execute(f"DELETE FROM {table} WHERE run_id IN ({marks})", run_ids)  # noqa: S608 - marks only
        cursor.execute(f"DELETE FROM daemon_runs WHERE id IN ({marks})", run_ids)  # noqa: S608 - marks only


@contextmanager
def _impatient() -> Iterator[None]:
    """Have SQLite give up soon when somebody else writes: whoever calls us has better to do."""
    if connection.vendor != "sqlite":
        yield
        return
    usual = connection.settings_dict["OPTIONS"].get("timeout", 5.0)
    _busy_timeout(PATIENCE)
    try:
        yield
    finally:
        _busy_timeout(usual)


def _busy_timeout(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


def _doomed() -> Path:
    """Return the folder for folders that are to be deleted; make it if missing."""
    folder = Path(settings.RUNS_DIR) / ".doomed"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder

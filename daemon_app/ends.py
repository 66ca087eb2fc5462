"""Which jobs may be failing, and how their last runs went, kept so that a page need not ask anew.

    ends.suspects()     # the bad last ends of jobs, by job id; None: any job's may be one
    ends.kept(job_ids), ends.keep(found, turn)   # the last runs of jobs while none of them changes

With ten thousand jobs the question which of them fail costs a tenth of a second, and open pages ask
it several times a second. But only a run that was active, or is newer than all that were seen, can
have ended since: what ended never changes. So each look asks for those alone, and judges their jobs
anew. Inside a transaction nothing is kept: what it shows may yet be taken back.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from django.db import connection
from django.db.models import OuterRef, Q, Subquery

from daemon_app.models import Job, Run

# Seconds: what nobody told (old runs that were tidied away) is seen after so long.
SUSPECTS_LAST, KEPT_FOR = 600.0, 20.0
MOST_KEPT = 200  # jobs whose last runs are kept
MOST_CHANGED = 2_000  # more at once are not worth looking at one by one

JUDGED = (Run.State.SUCCEEDED, *Run.UNHAPPY)


@dataclass
class End:
    """The last end of a job, which was a bad one: the run, when it ended, how the one before did.

    Here a run that was cancelled counts as an end, too: `state` may be that.
    """

    run: int
    state: str
    ended_at: datetime | None
    before: str | None
    # Runs that ended badly one after the other, the newest first; None until somebody wants them.
    row: list[int] | None = None


class Kept(NamedTuple):
    """What is known of the last runs of jobs: those that ended, the ids of those that have not.

    `turn` goes with what is asked for besides, to `keep`.
    """

    ended: dict[int, list[Run]]
    active: list[int]
    turn: int


class Ends:
    """What one process knows of the ends of runs."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._database = ""
        self._newest = -1  # run id
        self._active: dict[int, int] = {}  # run id → job id
        self._turn = 0  # how often a look has found something
        self._suspects: dict[int, End] | None = None
        self._suspected_at = 0.0
        self._kept: dict[int, tuple[float, list[Run]]] = {}

    def suspects(self) -> Mapping[int, End] | None:
        """Return the jobs of which the newest end was a bad one; None when that is not known.

        A job may have been deleted meanwhile.
        """
        if connection.in_atomic_block:
            return None
        with self._lock:
            self._look()
            if self._suspects is None or time.monotonic() > self._suspected_at + SUSPECTS_LAST:
                # Whatever ends meanwhile was active at the look.
                self._suspects, self._suspected_at = bad_ends(), time.monotonic()
            return self._suspects

    def kept(self, job_ids: Iterable[int]) -> Kept:
        """Return what is known of the last runs of these jobs."""
        if connection.in_atomic_block:
            return Kept({}, [], 0)
        with self._lock:
            self._look()
            young = time.monotonic() - KEPT_FOR
            found = ((pk, self._kept.get(pk)) for pk in job_ids)
            ended = {pk: known[1] for pk, known in found if known and known[0] > young}
            active = [run for run, job in self._active.items() if job in ended]
            return Kept(ended, active, self._turn)

    def keep(self, found: Mapping[int, list[Run]], turn: int) -> None:
        """Remember the last runs of jobs, which were asked for after `kept` told this turn."""
        if connection.in_atomic_block:
            return
        now = time.monotonic()
        with self._lock:
            # Somebody has seen something newer meanwhile.
            if turn != self._turn:
                return
            for pk, runs in found.items():
                self._kept.pop(pk, None)
                # What is newer was in no look; whether it has ended nobody would tell.
                if all(run.pk <= self._newest for run in runs):
                    self._kept[pk] = now, [run for run in runs if not run.is_active]
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]

    def _look(self) -> None:
        """Judge those jobs anew of which runs may have ended since the last look."""
        database = str(connection.settings_dict["NAME"])
        # The newest first: what begins between the two questions is newer, and seen next time.
        newest = Run.objects.order_by("-id").values_list("id", flat=True).first() or 0
        active = dict(Run.objects.active().order_by().values_list("id", "job_id"))
        if newest < self._newest or database != self._database:
            self._suspects, self._kept, changed = None, {}, set()
        else:
            changed = {job for pk, job in self._active.items() if pk not in active}
            if newest > self._newest >= 0:
                later = Run.objects.filter(pk__gt=self._newest).order_by()
                changed |= set(later.values_list("job_id", flat=True)[:MOST_CHANGED])
        if len(changed) >= MOST_CHANGED:
            self._suspects, self._kept = None, {}
        elif changed and self._suspects is not None:
            # A new one: whoever was given the last one still reads it.
            left = {pk: end for pk, end in self._suspects.items() if pk not in changed}
            self._suspects = left | bad_ends(changed)
        for pk in changed:
            self._kept.pop(pk, None)
        self._turn += bool(changed)
        self._newest, self._active, self._database = newest, active, database


def bad_ends(jobs: set[int] | None = None) -> dict[int, End]:
    """Return those of these jobs (None: of all) whose newest run that was judged ended badly."""
    newest = Run.objects.filter(job=OuterRef("pk"), state__in=JUDGED).order_by("-id")
    every = (*JUDGED, Run.State.CANCELLED)
    ended = Run.objects.filter(job=OuterRef("pk"), state__in=every).order_by("-id")
    of = Job.objects.order_by().annotate(last_end=Subquery(newest.values("state")[:1]))
    wanted = Q() if jobs is None else Q(pk__in=jobs)
    found = of.filter(wanted, last_end__in=Run.UNHAPPY).values_list(
        "pk",
        Subquery(ended.values("id")[:1]),
        Subquery(ended.values("state")[:1]),
        Subquery(ended.values("ended_at")[:1]),
        Subquery(ended.values("state")[1:2]),
    )
    return {pk: End(*rest) for pk, *rest in found}


_known = Ends()
suspects, kept, keep = _known.suspects, _known.kept, _known.keep

"""How long runs of a job usually take, learned from its history, and which of them stand out."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from daemon_app.models import Run

OF: Final = 50  # the newest runs that succeeded
LOOKED_AT: Final = 100  # … among so many of all
LEAST: Final = 10  # fewer say nothing
JOBS: Final = 2_000  # remembered at once
# Of a run that made way only the last piece is measured.
ASKED: Final = ("state", "started_at", "ended_at", "displacements")
# Beyond so many times the usual deviation, twice (or half) the median, and so many seconds.
DEVIATIONS: Final = 5.0
TIMES: Final = 2.0
SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Usual:
    """How long runs usually take, in seconds: beyond these bounds one stands out."""

    median: float
    short: float  # 0 where none is too short
    long: float

    @classmethod
    def of(cls, lengths: Sequence[float]) -> "Usual | None":
        """Return what is usual by these lengths; None when they are too few to say.

        The deviation is the median of absolute deviations: one outlier does not move it.
        """
        if len(lengths) < LEAST:
            return None
        middle = median(lengths)
        spread = DEVIATIONS * 1.4826 * median(abs(length - middle) for length in lengths)
        long = max(middle + spread, middle * TIMES, middle + SECONDS)
        short = min(middle - spread, middle / TIMES, middle - SECONDS)
        return cls(middle, max(short, 0.0), long)

    def judge(self, seconds: float) -> str:
        """Return "long" or "short" for a length that stands out, "" for any other."""
        if seconds > self.long:
            return Run.Unusual.LONG
        return Run.Unusual.SHORT if seconds < self.short else ""


def usual(job_id: int) -> Usual | None:
    """Return how long runs of a job usually take; None while too few have succeeded."""
    return Usual.of(lengths(job_id))


def lengths(job_id: int) -> list[float]:
    """Return how many seconds the newest runs of a job that succeeded took, newest first."""
    newest = Run.objects.filter(job=job_id).order_by("-id")[:LOOKED_AT]
    found = (
        (ended - started).total_seconds()
        for state, started, ended, displaced in newest.values_list(*ASKED)
        if state == Run.State.SUCCEEDED and started and ended and not displaced
    )
    return list(found)[:OF]


class Memory:
    """The lengths of the last runs of many jobs, so that an end needs no look at the history."""

    def __init__(self) -> None:
        self._lengths: OrderedDict[int, deque[float]] = OrderedDict()

    def judge(self, job_id: int, seconds: float | None) -> str:
        """Return how a run that has succeeded after `seconds` stands out; "" for None."""
        if seconds is None:
            return ""
        told = Usual.of(self._known(job_id))
        return told.judge(seconds) if told else ""

    def remember(self, job_id: int, seconds: float | None) -> None:
        """Take the length of a run that has succeeded into account from now on."""
        if seconds is not None and job_id in self._lengths:
            self._lengths[job_id].append(seconds)

    def _known(self, job_id: int) -> deque[float]:
        known = self._lengths.pop(job_id, None)
        if known is None:
            known = deque(reversed(lengths(job_id)), OF)
        self._lengths[job_id] = known
        if len(self._lengths) > JOBS:
            self._lengths.popitem(last=False)
        return known

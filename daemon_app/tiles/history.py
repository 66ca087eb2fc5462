"""How long the last runs of a job took and how much memory: numbers, and bars that lead to them.

Everything is read from one look at the newest rows of the job, whatever its history.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from statistics import median
from typing import NamedTuple

from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import durations, formats
from daemon_app.durations import Usual
from daemon_app.models import Job, Run
from daemon_app.tiles.marks import state_mark
from daemon_app.tiles.regions import current_language
from daemon_app.tiles.strip import OUTCOMES

SHOWN = 50  # bars
JUDGED = 30  # runs that a rate of success is made of
MOST_NAMED = 3  # unusual runs that are told one by one
SLOT = 100 / SHOWN  # per cent of the width
# Round ends of an axis: of seconds, and of bytes within one thousand.
SECONDS = (
    *(0.1, 0.2, 0.5, 1, 2, 4, 6, 10, 20, 30, 60, 120, 240, 360, 600, 1200, 1800, 3600),
    *(7200, 14_400, 21_600, 43_200, 86_400),
)
PARTS = (1, 2, 4, 6, 10, 20, 40, 60, 100, 200, 400, 600, 1000)


class Past(NamedTuple):
    """What is asked of a run; the rest of its row, which is wide, stays in the database."""

    pk: int
    state: str
    started_at: datetime | None
    ended_at: datetime | None
    peak_rss_bytes: int | None
    unusual: str
    displacements: int

    def seconds(self, now: datetime | None = None) -> float | None:
        """Return how long it took, or takes by `now`; None when it has not begun or not ended."""
        end = self.ended_at or now
        if self.started_at is None or end is None:
            return None
        return max((end - self.started_at).total_seconds(), 0.0)


@dataclass(frozen=True)
class Column:
    """One run in a chart: where its bar stands, in per cent, and what it says."""

    pk: int
    outcome: str
    words: str
    x: str
    y: str
    height: str
    middle: str
    hit: str
    is_cut: bool = False  # taller than the chart
    unusual: str = ""


@dataclass(frozen=True)
class Chart:
    """Bars of runs, oldest first, with what is written beside them."""

    columns: list[Column]
    top: str
    half: str
    label: str
    line: str = ""  # where the usual length lies, in per cent from the top


@dataclass(frozen=True)
class Record:
    """How a job has been doing."""

    runs: list[Past]  # those that began, newest first
    success: int | None = None  # per cent
    judged: int = 0
    lengths: list[float] = field(default_factory=list)  # of those that succeeded, newest first
    usual: Usual | None = None

    @property
    def median(self) -> float | None:
        """Half of the runs that succeeded took less, in seconds."""
        return median(self.lengths) if self.lengths else None

    @property
    def p95(self) -> float | None:
        """All but one in twenty took less; None while there are too few to say."""
        if len(self.lengths) < durations.LEAST:
            return None
        return sorted(self.lengths)[ceil(0.95 * len(self.lengths)) - 1]

    @property
    def longest(self) -> float | None:
        """The longest run that ended, in seconds."""
        ended = (seconds for run in self.runs[:SHOWN] if (seconds := run.seconds()) is not None)
        return max(ended, default=None)


def record_of(job: Job) -> Record:
    """Return how the newest runs of a job went; one query, bounded whatever its history."""
    newest = Run.objects.filter(job=job).order_by("-id").values_list(*Past._fields)
    runs = [Past(*row) for row in newest[: durations.LOOKED_AT]]
    ended = [run for run in runs if run.state in (Run.State.SUCCEEDED, *Run.UNHAPPY)][:JUDGED]
    good = sum(run.state == Run.State.SUCCEEDED for run in ended)
    whole = [
        length
        for run in runs
        if run.state == Run.State.SUCCEEDED and not run.displacements
        if (length := run.seconds()) is not None
    ][: durations.OF]
    return Record(
        [run for run in runs if run.started_at],
        round(100 * good / len(ended)) if ended else None,
        len(ended),
        whole,
        Usual.of(whole),
    )


@dataclass(frozen=True)
class Standout:
    """A run whose length stands out, in words; `is_running` while it still may end."""

    run: Past
    words: str
    is_running: bool = False


def standouts(record: Record, now: datetime) -> list[Standout]:
    """Return the runs among those shown that took unusually long or short, newest first."""
    language, found = current_language(), []
    about = record.usual.median if record.usual else record.median
    usual = formats.duration(about, language, exact=True) if about is not None else "–"
    for run in record.runs[:SHOWN]:
        seconds = run.seconds(now)
        if seconds is None:
            continue
        told = {"n": run.pk, "span": formats.duration(seconds, language, exact=True)}
        told["usual"] = usual
        if run.state == Run.State.RUNNING:
            if record.usual and record.usual.judge(seconds) == Run.Unusual.LONG:
                told["span"] = formats.duration(seconds, language)
                words = _t("has been running for %(span)s, unusually long: usual is %(usual)s")
                found.append(Standout(run, words % told, is_running=True))
        elif run.unusual == Run.Unusual.LONG:
            words = _t("took %(span)s, unusually long: usual is %(usual)s")
            found.append(Standout(run, words % told))
        elif run.unusual == Run.Unusual.SHORT:
            words = _t("took only %(span)s, unusually short: usual is %(usual)s")
            found.append(Standout(run, words % told))
    return found


# ── Bars ─────────────────────────────────────────────────────────────────────────────────────────
def lengths_chart(record: Record, now: datetime) -> Chart | None:
    """Return the durations of the last runs as bars; None while there are none."""
    runs = record.runs[:SHOWN]
    values = [run.seconds(now) for run in runs]
    language = current_language()
    known = [value for value in values if value is not None]
    if not known:
        return None
    end = _end_of_lengths(known)
    said = _t("Duration of the last %(n)s runs") if len(runs) > 1 else _t("Duration of the run")
    parts = [said % {"n": len(runs)}]
    if record.median is not None:
        told = formats.duration(record.median, language, exact=True)
        parts.append(_t("median %(span)s") % {"span": told})
    parts.append(
        _t("longest %(span)s") % {"span": formats.duration(max(known), language, exact=True)}
    )
    if odd := len(standouts(record, now)):
        parts.append(ngettext("%(n)s unusual", "%(n)s unusual", odd) % {"n": odd})
    middle = record.median
    return Chart(
        _columns(runs, values, end, lambda value: formats.duration(value, language, exact=True)),
        _tick(end, language),
        _tick(end / 2, language),
        ", ".join(parts),
        _percent(100 * (1 - middle / end)) if middle is not None and middle <= end else "",
    )


def memory_chart(record: Record) -> Chart | None:
    """Return the most memory of each of the last runs as bars; None where none was measured."""
    runs = record.runs[:SHOWN]
    values = [None if run.peak_rss_bytes is None else float(run.peak_rss_bytes) for run in runs]
    known = [value for value in values if value]
    if not known:
        return None
    language = current_language()

    def words(value: float) -> str:
        return formats.size(round(value), language)

    end = _end_of_bytes(max(known))
    parts = [
        _t("Memory of the last %(n)s runs at their peak") % {"n": len(runs)},
        _t("most %(size)s") % {"size": words(max(known))},
    ]
    top, half = (words(value).replace(",0", "").replace(".0", "") for value in (end, end / 2))
    return Chart(_columns(runs, values, end, words), top, half, ", ".join(parts))


def _columns(
    runs: Sequence[Past],
    values: Sequence[float | None],
    end: float,
    words: Callable[[float], str],
) -> list[Column]:
    """Return the bars oldest first, the newest at the right edge however few there are."""
    drawn = []
    run_word, unmeasured = _t("Run %(n)s"), _t("not measured")
    states = {state: state_mark(state).word for state in {run.state for run in runs}}
    for place, (run, value) in enumerate(zip(runs, values, strict=True)):
        left = 100 - (place + 1) * SLOT
        height = 0.0 if value is None else max(100 * min(value / end, 1), 1.5)
        said = [run_word % {"n": run.pk}, states[run.state]]
        said += [words(value)] if value is not None else [unmeasured]
        said += [str(Run.Unusual(run.unusual).label)] if run.unusual else []
        drawn.append(
            Column(
                run.pk,
                OUTCOMES.get(Run.State(run.state), "quiet"),
                ", ".join(said),
                x=_percent(left + SLOT * 0.14),
                y=_percent(100 - height),
                height=_percent(height),
                middle=_percent(left + SLOT / 2),
                hit=_percent(left),
                is_cut=value is not None and value > end,
                unusual=run.unusual,
            )
        )
    return drawn[::-1]


def _end_of_lengths(known: Sequence[float]) -> float:
    """Return a round number of seconds for the top.

    One run far beyond the others is cut off there, so that it does not flatten them.
    """
    ordered = sorted(known)
    tall = ordered[ceil(0.9 * len(ordered)) - 1] * 2
    wanted = min(ordered[-1], tall) if tall > 0 else ordered[-1]
    for end in SECONDS:
        if wanted <= end:
            return end
    return ceil(wanted / 86_400) * 86_400


def _end_of_bytes(most: float) -> float:
    unit = 1.0
    while most / unit > PARTS[-1]:
        unit *= 1000
    return unit * next(part for part in PARTS if most / unit <= part)


def _tick(seconds: float, language: str) -> str:
    return formats.duration(seconds, language, exact=True).replace(",0", "").replace(".0", "")


def _percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"

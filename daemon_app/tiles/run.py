"""One run: state, progress, attempts, and the times it made way."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from daemon_app import output
from daemon_app.models import (
    Attempt,
    Run,
    reasons,
)
from daemon_app.tiles.marks import Mark, run_mark, state_mark, way_out, why, why_tried
from daemon_app.tiles.regions import Context, Viewer, number_in, region
from daemon_app.tiles.rows import now_of
from daemon_app.tiles.stop import steps
from daemon_app.tiles.strip import OUTCOMES


@region("run-head", topics=("run:{arg}",))
def run_head(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return a run's state, progress, attempts, times and end."""
    number = number_in(arg)
    run = Run.objects.select_related("job").filter(pk=number).first() if number else None
    if run is None:
        return None
    length = run.duration(now)
    took = length.total_seconds() if length and run.ended_at else None
    usual = run.job.median_duration() if run.state == Run.State.RUNNING else None
    seconds = usual.total_seconds() if usual else None
    tries = list(run.attempts.order_by("number"))
    shown = _tries(run, tries, now)
    mark = run_mark(run)
    return {
        "run": run,
        "mark": mark,
        "seconds": took,
        "late": run.started_at
        and run.started_at - run.due_at > timedelta(seconds=60)
        and run.trigger == Run.Trigger.SCHEDULE,
        "limit": run.definition.get("timeout_seconds"),
        "why": why(run),
        "way_out": way_out(run),
        "current": now_of(run, seconds, run.definition.get("max_retries"), now),
        "why_last": "" if run.is_active else why_tried(run),
        "tries": shown,
        "previous": shown[-1] if shown else None,
        "ended": _end(run, mark, shown, took),
        "stop_steps": steps(run),
        "errors": None if run.is_active or run.output_removed else _errors(run, mark),
        "axis": _axis(run, tries, now),
        "was_displaced": any(each.state == Attempt.DISPLACED for each in tries),
        "paused_at": tries[-1].ended_at
        if run.state == Run.State.QUEUED and tries and tries[-1].state == Attempt.DISPLACED
        else None,
        # Those that made room for it; its number is newer than theirs.
        "made_room": list(
            Run.objects.filter(job=run.job_id, blocking_run_id=run.pk, pk__lt=run.pk)
            .filter(pk__gte=run.pk - LOOKED_BACK)
            .values_list("pk", flat=True)[:5]
        ),
    }


LOOKED_BACK = 5000  # runs
ERRORS = 5  # lines that a failed run wrote last to its standard error


@dataclass(frozen=True)
class End:
    """How an output ended: with a pause, or for good."""

    mark: Mark
    seconds: float | None
    exit_code: int | None = None
    signal: int | None = None
    pause: "Pause | None" = None


@dataclass(frozen=True)
class Errors:
    """The last lines of standard error, and the number of the first one in the whole output."""

    lines: Sequence[str]
    first: int


def log_ends(run: Run, number: int, now: datetime) -> Context:
    """Return what stands above and below the output of an earlier attempt: as in `run_head`."""
    shown = _tries(run, list(run.attempts.order_by("number")), now)
    place = next((n for n, each in enumerate(shown) if each.attempt.number == number), None)
    if place is None:
        return {}
    this = shown[place]
    attempt = this.attempt
    end = End(this.mark, this.seconds, attempt.exit_code, attempt.signal, this.pause)
    return {"previous": shown[place - 1] if place else None, "ended": end}


def _end(run: Run, mark: Mark, tries: "Sequence[Try]", took: float | None) -> End | None:
    if not run.is_active:
        return End(mark, took, run.exit_code, run.signal)
    waits = run.state == Run.State.QUEUED and tries and tries[-1].pause
    return End(mark, None, pause=tries[-1].pause) if waits else None


def _errors(run: Run, mark: Mark) -> Errors | None:
    """Return what a run that did not end well wrote last to its standard error."""
    if mark.tone != "is-fail" or not run.started_at:
        return None
    spans = output.spans(run.folder)
    told = [start for start, _at, stream in spans if stream == output.STDERR]
    if not told:
        return None
    ends = {one[0]: two[0] for one, two in pairwise(spans)}
    data = b""
    for start in told[-MOST_PIECES:]:
        end = ends.get(start, output.size(run.folder))
        start = max(start, end - PIECE)  # noqa: PLW2901 - the end of it is wanted
        data += output.read(run.folder, start, end - start).data
    lines = [line for text in data.decode(errors="replace").split("\n") if (line := _shown(text))]
    if not lines:
        return None
    first = output.line_at(run.folder, told[0])
    return Errors([line[: output.LAST_LINE] for line in lines[-ERRORS:]], first)


def _shown(line: str) -> str:
    """Return a line fit to be shown, as far to the right as it stood: it may be of a traceback."""
    said = output.shown(line)
    return " " * min(len(line) - len(line.lstrip(" ")), 40) + said if said else ""


MOST_PIECES, PIECE = 50, 4096  # of standard error that are looked at; bytes of each


@dataclass(frozen=True)
class Try:
    """An earlier attempt of a run as its page shows it."""

    attempt: Attempt
    mark: Mark
    why: str
    pause: "Pause | None" = None  # that followed, where it made way

    @property
    def seconds(self) -> float | None:
        """How long it took; None when it never began."""
        began = self.attempt.started_at
        return (self.attempt.ended_at - began).total_seconds() if began else None


@dataclass(frozen=True)
class Pause:
    """A time in which a run had made way: from when, for whom, and until when."""

    began_at: datetime
    ended_at: datetime | None  # None: it lasts
    why: str
    resumed: bool = False  # or else it ended, if it did

    @property
    def lasted(self) -> float:
        """How many seconds it lasted; 0 while it lasts."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else 0.0


@dataclass(frozen=True)
class Piece:
    """A part of a run's time axis, in per cent of it: a slice that ran, or a pause."""

    x: str
    width: str
    end: str
    outcome: str  # as in `OUTCOMES`, or "pause"


def _tries(run: Run, tries: Sequence[Attempt], now: datetime) -> list[Try]:
    """Return the earlier attempts, those that made way with the pause that followed."""
    began = [each.started_at for each in tries[1:]] + [run.started_at]
    made_way = {each.at: each for each in run.displaced.order_by("at")}
    found = []
    for attempt, next_began in zip(tries, began, strict=False):  # no tries: none of its own
        pause, told = None, why_tried(attempt)
        if attempt.state == Attempt.DISPLACED:
            until = next_began or (None if run.is_active else run.ended_at)
            # The newest sign of somebody before the end of this attempt is the one it made way to.
            signs = [at for at in made_way if at <= attempt.ended_at]
            row = made_way.pop(signs[-1]) if signs else None
            why = _cause(row.cause if row else attempt.reason_facts, now)
            pause, told = Pause(attempt.ended_at, until, why, next_began is not None), ""
        found.append(Try(attempt, state_mark(attempt.state), told, pause))
    return found


def _cause(cause: Any, now: datetime) -> str:
    """Return whose return it was, without full stop: "Diese Seiten werden benutzt: anna"."""
    code, facts = str(cause.get("code") or ""), cause.get("facts") or {}
    return reasons.sentence(code or "came_back", facts, now).rstrip(".")


def _axis(run: Run, tries: Sequence[Attempt], now: datetime) -> list[Piece]:
    """Return a displaced run's slices and pauses on one axis, from its first start to its end."""
    spans = [(each.started_at, each.ended_at, each.state) for each in tries]
    if run.started_at:
        spans.append((run.started_at, run.ended_at or now, run.state))
    known = [(start, end, state) for start, end, state in spans if start]
    if not known or all(state != Attempt.DISPLACED for _start, _end, state in known):
        return []
    first, last = known[0][0], now if run.is_active else known[-1][1]
    whole = max((last - first).total_seconds(), 0.001)
    pieces: list[Piece] = []
    for place, (start, end, state) in enumerate(known):
        outcome = "ok" if state == Attempt.DISPLACED else OUTCOMES.get(Run.State(state), "quiet")
        pieces.append(_piece(first, whole, start, end, outcome))
        until = known[place + 1][0] if place + 1 < len(known) else last
        if until > end:
            pieces.append(_piece(first, whole, end, until, "pause"))
    return pieces


def _piece(first: datetime, whole: float, start: datetime, end: datetime, outcome: str) -> Piece:
    x = 100 * (start - first).total_seconds() / whole
    width = max(100 * (end - start).total_seconds() / whole, 0.4)  # a short one is seen too
    x = min(x, 100 - width)
    return Piece(f"{x:.2f}%", f"{width:.2f}%", f"{x + width:.2f}%", outcome)

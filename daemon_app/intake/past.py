"""The runs that jobs had before they moved in: rows of ours, with their output.

The output is first written aside; once the rows are committed it moves to where their numbers
belong (`daemon_app.arrivals`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from daemon_app import output
from daemon_app.models import Job, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from daemon_app.legacy import Database, Row

BATCH: Final = 200
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)  # no clock that was right said less
STATES: Final = {
    **dict.fromkeys(("success", "succeeded", "ok", "completed", "done", "0"), Run.State.SUCCEEDED),
    **dict.fromkeys(("failed", "failure", "error", "fail", "exception"), Run.State.FAILED),
    **dict.fromkeys(("timeout", "timed_out"), Run.State.TIMED_OUT),
    **dict.fromkeys(("cancelled", "canceled", "stopped", "killed", "aborted"), Run.State.CANCELLED),
    **dict.fromkeys(("running", "started", "pending"), Run.State.LOST),
    **dict.fromkeys(("skipped",), Run.State.SKIPPED),
}
BY_HAND: Final = {"manual", "api", "cli", "user", "gui"}


@dataclass
class Past:
    """Where the runs of drafts can be read, and what of them is worth the way.

    What ended before `since` would be tidied away at once; of each job the newest comes all the
    same. `room` are the bytes that all their output together may take; the newest of each job has
    it first. `told` hears how many have been read, `came` counts those that came.
    """

    source: Database
    zone: str
    since: datetime = EARLIEST
    room: int = 10_000_000_000
    told: Callable[[int], None] = lambda _n: None
    came: int = 0


@dataclass
class Packed:
    """Runs of one job, unsaved, oldest first, each with the folder in which its output waits."""

    runs: list[tuple[Run, Path | None]] = field(default_factory=list)


def pack(past: Past, numbers: Iterable[int], aside: Path, *, now: datetime) -> Packed:
    """Read runs and write their output into folders below `aside`. Raises LegacyError, OSError."""
    aside.mkdir(mode=0o700)
    packed = Packed()
    zone = ZoneInfo(past.zone)
    taken: set[datetime] = set()
    newest_first = sorted(numbers, reverse=True)
    for start in range(0, len(newest_first), BATCH):
        some = newest_first[start : start + BATCH]
        for row in past.source.runs(some):
            run = _run(row, zone, now)
            if run is None:
                continue
            if packed.runs and (run.ended_at or now) < past.since:
                continue
            while run.due_at in taken:  # of a schedule's instants there is one run each
                run.due_at -= timedelta(microseconds=1)
            taken.add(run.due_at)
            run.not_before = run.due_at
            folder = _stored(row, run, aside / str(row.number), past.room)
            past.room -= run.output_bytes - run.dropped_bytes if folder else 0
            packed.runs.append((run, folder))
        past.told(len(some))
    packed.runs.reverse()
    return packed


def _run(row: Row, zone: ZoneInfo, now: datetime) -> Run | None:
    """Return a row as a run of ours; None when nobody can say when it ran."""
    begun = _instant(row.text("started_at", "start_time", "started", "created_at"), zone, now)
    if begun is None:
        return None
    took = row.number_in("duration_seconds") or row.number_in("duration") or 0
    said = row.text("finished_at", "ended_at", "end_time", "completed_at")
    ended = _instant(said, zone, now)
    if ended is not None and ended < begun:
        ended = _instant(said, zone, now, fold=1)  # it began before the clocks were put back
    if ended is None or ended < begun:
        ended = min(begun + timedelta(seconds=min(max(took, 0), 365 * 86_400)), now)
    exit_code = row.number_in("exit_code")
    if exit_code is None:
        exit_code = row.number_in("return_code")
    otherwise = Run.State.SUCCEEDED if exit_code == 0 else Run.State.FAILED
    state = STATES.get(row.text("status", "result", "state").strip().lower(), otherwise)
    code, facts = _reason(state, exit_code)
    by_hand = row.text("triggered_by", "trigger_type", "trigger").strip().lower() in BY_HAND
    return Run(
        trigger=Run.Trigger.MANUAL if by_hand else Run.Trigger.SCHEDULE,
        due_at=begun,
        state=state,
        reason_code=code,
        reason_facts=facts,
        queued_at=begun,
        submitted_at=begun,
        started_at=None if state == Run.State.SKIPPED else begun,
        ended_at=ended,
        exit_code=None if exit_code is None else max(-(2**31), min(int(exit_code), 2**31 - 1)),
    )


def _reason(state: str, exit_code: float | None) -> tuple[str, dict[str, Any]]:
    if state == Run.State.SUCCEEDED:
        return "", {}
    if state == Run.State.FAILED and exit_code:
        return "exit", {"code": int(exit_code)}
    return ("moved_in_lost" if state == Run.State.LOST else "moved_in"), {}


def _instant(text: str, zone: ZoneInfo, now: datetime, *, fold: int = 0) -> datetime | None:
    """Return what a stored time means, in UTC: without a zone it is the machine's."""
    try:
        read = datetime.fromisoformat(text.strip())
        aware = read if read.tzinfo else read.replace(tzinfo=zone, fold=fold)
        found = aware.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if EARLIEST <= found <= now else None


def _stored(row: Row, run: Run, folder: Path, room: int) -> Path | None:
    """Write what a run said into `folder` and measure it; None when it said nothing.

    What does not fit into `room` bytes is not kept, and the run says that it is gone.
    """
    said = (
        (output.STDOUT, row.text("output", "stdout", "last_output")),
        (output.STDERR, row.text("error", "stderr", "error_message", "error_output")),
    )
    if not any(text for _stream, text in said):
        return None
    assert run.ended_at
    if sum(len(text) for _stream, text in said) > room:
        run.output_removed = True
        return None
    folder.mkdir(mode=0o700)
    writer = output.Writer(str(folder))
    for stream, text in said:
        data = text.encode(errors="replace")
        if data:
            ending = b"" if data.endswith(b"\n") else b"\n"
            writer.write(data + ending, stream, run.ended_at.timestamp())
    writer.close()
    if writer.error:
        raise OSError(writer.error)
    run.output_bytes, run.dropped_bytes = writer.produced, writer.dropped
    run.output_lines = writer.lines
    run.last_line = output.last_line(writer.ending)
    return folder


def store(job: Job, packed: Packed) -> list[tuple[Run, Path]]:
    """Write the rows of a job's runs; return which run has its output where."""
    for run, _folder in packed.runs:
        run.job, run.job_name, run.definition = job, job.name, job.definition()
        if job.job_type == Job.Kind.MANUAL:
            run.trigger = Run.Trigger.MANUAL
    made = Run.objects.bulk_create([run for run, _folder in packed.runs], batch_size=BATCH)
    folders = [folder for _run, folder in packed.runs]
    return [(run, folder) for run, folder in zip(made, folders, strict=True) if folder]

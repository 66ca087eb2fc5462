"""The ledger: what really ran, written by the commands themselves where no fault reaches."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

MICROSECOND = 1_000_000


@dataclass(frozen=True)
class Start:
    """A command began."""

    run: int
    job: str
    due: int  # microseconds since the epoch, as all instants here
    attempt: int
    pid: int
    at: int


@dataclass(frozen=True)
class End:
    """A command came to its end by itself."""

    run: int
    attempt: int
    pid: int
    at: int
    code: int
    size: int  # bytes that it has written to its stdout


@dataclass
class Ledger:
    """All lines of a round. `torn` are those that can't be read; there must be none."""

    starts: list[Start] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)


def read(path: Path) -> Ledger:
    """Return what the commands have noted so far."""
    ledger = Ledger()
    for line in path.read_text().splitlines():
        try:
            run, job, due, attempt, pid, at, what, *rest = line.split(" ")
            who = int(run), int(attempt), int(pid), int(at) // 1000
            if what == "start" and not rest:
                ledger.starts.append(Start(who[0], job, micros(due), *who[1:]))
            elif what == "end":
                code, size = rest
                ledger.ends.append(End(*who, int(code), int(size)))
            else:
                ledger.torn.append(line)
        except ValueError:
            ledger.torn.append(line)
    return ledger


def micros(text: str) -> int:
    """Return an instant, written in ISO 8601 with its zone, in microseconds since the epoch."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    whole = instant.replace(microsecond=0)
    return round(whole.timestamp()) * MICROSECOND + instant.microsecond

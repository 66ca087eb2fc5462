"""The database of an original BACH, read without changing a byte of it.

Its tables have had several names and columns over time; what is there is taken, what is not is
left out. Nothing in it is trusted: it may be damaged, somebody else's, locked, or written to harm.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOBS: Final = ("daemon_jobs", "scheduler_jobs")
RUNS: Final = ("daemon_runs", "scheduler_runs")
# What an original BACH keeps besides; it is counted.
OTHERS: Final = {
    "toolchains": ("toolchains",),
    "profiles": ("session_profiles", "daemon_profiles"),
    "prompts": ("prompt_templates", "prompts"),
}
MOST_JOBS: Final = 10_000
LONGEST: Final = 20_000_000  # bytes of one value
PATIENCE: Final = 5.0  # seconds to wait for who writes there
WORK: Final = 60.0  # seconds that one question may take
BUSY: Final = ("locked", "busy")


class LegacyError(Exception):
    """The file can't be read as a BACH database; `code` says why, `detail` what SQLite says."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Row:
    """One row: its table, its number there, and what is stored in its columns."""

    table: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Where it stands, for messages."""
        return f"{self.table}, {self.number}"

    def text(self, *names: str) -> str:
        """Return the first of these columns that has something in it, as text; "" for none."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if value is not None and str(value).strip():
                return str(value)
        return ""

    def number_in(self, name: str) -> float | None:
        """Return a column as a number; None when it is none."""
        value = self.values.get(name)
        try:
            found = float(value)  # type: ignore[arg-type] # whatever is stored
        except (TypeError, ValueError):
            return None
        return found if abs(found) < 1e15 else None

    def is_true(self, name: str, *, otherwise: bool) -> bool:
        """Return a column as yes or no; `otherwise` where it says neither."""
        value = str(self.values.get(name, "")).strip().lower()
        if value in {"1", "1.0", "true", "yes", "on"}:
            return True
        return False if value in {"0", "0.0", "false", "no", "off"} else otherwise


@dataclass(frozen=True)
class Legacy:
    """What a BACH database holds: its jobs, and how much of what else."""

    jobs: list[Row]
    runs: int = 0
    others: dict[str, int] = field(default_factory=dict)
    has_more: bool = False  # more jobs than are taken


def read(path: Path) -> Legacy:
    """Return what the database at `path` holds. Raises LegacyError."""
    with _opened(path) as database:
        tables = _tables(database)
        jobs = next((name for name in JOBS if name in tables), None)
        if jobs is None:
            ours = "daemon_policy" in tables or "django_migrations" in tables
            raise LegacyError("ours" if ours else "foreign", ", ".join(sorted(tables)[:8]))
        if "django_migrations" in tables:
            raise LegacyError("ours")
        rows = list(_rows(database, jobs, MOST_JOBS + 1))
        runs = next((name for name in RUNS if name in tables), None)
        others = {
            kind: sum(_count(database, name) for name in names if name in tables)
            for kind, names in OTHERS.items()
        }
        return Legacy(
            rows[:MOST_JOBS],
            runs=_count(database, runs) if runs else 0,
            others={kind: count for kind, count in others.items() if count},
            has_more=len(rows) > MOST_JOBS,
        )


def runs_of(path: Path, job_id: int, most: int) -> list[Row]:
    """Return the newest runs of a job, newest first, at most `most`. Raises LegacyError."""
    with _opened(path) as database:
        tables = _tables(database)
        name = next((name for name in RUNS if name in tables), None)
        if name is None:
            return []
        return list(_rows(database, name, most, job_id=job_id))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database for reading alone, and stop a question that takes too long."""
    # Not opened here: closing a file drops the locks that SQLite holds on it in this process.
    try:
        size = path.stat().st_size
    except OSError as error:
        raise LegacyError("missing", error.strerror or "") from error
    if not path.is_file() or not size:
        raise LegacyError("empty" if path.is_file() else "no_database")
    try:
        uri = f"file:{quote(str(path.resolve()))}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as database:
            database.row_factory = sqlite3.Row
            database.text_factory = lambda stored: stored.decode("utf-8", "replace")
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            database.execute("PRAGMA query_only = 1")
            database.execute("PRAGMA trusted_schema = 0")
            until = time.monotonic() + WORK
            database.set_progress_handler(lambda: time.monotonic() > until, 100_000)
            yield database
    except sqlite3.Error as error:
        told = str(error)
        if any(word in told for word in BUSY):
            raise LegacyError("locked", told) from error
        if "interrupted" in told:
            raise LegacyError("too_long", told) from error
        raise LegacyError("no_database" if "not a database" in told else "damaged", told) from error


def _tables(database: sqlite3.Connection) -> set[str]:
    # No views: they could ask whatever they like.
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(row[0]) for row in found}


def _count(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])  # noqa: S608 - a name of ours


def _rows(
    database: sqlite3.Connection, table: str, most: int, job_id: int | None = None
) -> Iterator[Row]:
    where, values = ("WHERE job_id = ? ", [job_id]) if job_id is not None else ("", [])
    order = "rowid DESC" if job_id is not None else "rowid"
    question = f'SELECT rowid AS rowid_, * FROM "{table}" {where}ORDER BY {order} LIMIT ?'  # noqa: S608 - a name of ours
    for row in database.execute(question, [*values, most]):
        stored = {key: row[key] for key in row.keys() if key != "rowid_"}  # noqa: SIM118 - of sqlite3
        yield Row(table, int(row["rowid_"]), stored)

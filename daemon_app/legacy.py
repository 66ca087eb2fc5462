"""The database of an original BACH, read without changing a byte of it.

Its tables have had several names and columns over time; what is there is taken, what is not is
left out. Nothing in it is trusted: it may be damaged, somebody else's, locked, or written to harm.
"""

from __future__ import annotations

import sqlite3
import stat
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

JOBS: Final = ("daemon_jobs", "scheduler_jobs")
RUNS: Final = ("daemon_runs", "scheduler_runs")
# What an original BACH keeps besides; it is counted.
OTHERS: Final = {
    "toolchains": ("toolchains",),
    "recurring": ("recurring_tasks",),
    "profiles": ("session_profiles", "daemon_profiles"),
    "prompts": ("prompt_templates", "prompts"),
}
MOST_JOBS: Final = 10_000
MOST_COLUMNS: Final = 100
CUT: Final = 20_000  # characters of a job's value that are looked at; it may have fewer
SHORT: Final = 2_000  # … of one that is never long
IN_ALL: Final = 100_000_000  # … of all jobs together
# The columns of a job that mean something here.
SHORT_COLUMNS: Final = {
    *("id", "name", "profile_name", "job_type", "type", "schedule", "cron_expression", "interval"),
    *("script_path", "is_active", "timeout_seconds", "retry_on_fail", "max_retries", "created_at"),
}
LONG_COLUMNS: Final = {"description", "command", "arguments", "parameters"}
LONGEST: Final = 20_000_000  # bytes of one value; SQLite reads none that is longer
PATIENCE: Final = 5.0  # seconds to wait for who writes there
WORK: Final = 120.0  # seconds that all questions together may take
BUSY: Final = ("locked", "busy")
IS_WAL: Final = 2  # at byte 18 of the file


class LegacyError(Exception):
    """The file can't be read as a BACH database; `code` says why, `detail` what SQLite says."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Row:
    """One row: its table, its number there, and what is stored in its columns.

    `fault` is "too_long" for a row of which some value is longer than LONGEST; it has no values.
    """

    table: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def where(self) -> str:
        """Where it stands, for messages."""
        return f"{self.table}, {self.number}"

    @property
    def number_of_job(self) -> int:
        """The number its runs know a job by."""
        found = self.values.get("id")
        return found if isinstance(found, int) else self.number

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


class Database:
    """An open database of an original BACH; `opened` makes one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # No views and no virtual tables: they could ask and do whatever they like.
        found = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 LIMIT 10000"
        )
        tables = {str(row[0]) for row in found}
        jobs = next((name for name in JOBS if name in tables), None)
        if "django_migrations" in tables:
            raise LegacyError("ours")
        if jobs is None:
            raise LegacyError("foreign", ", ".join(sorted(tables)[:8]))
        self._jobs = jobs
        self._runs = next((name for name in RUNS if name in tables), None)
        self._tables = tables

    def read(self) -> Legacy:
        """Return what it holds. Raises LegacyError."""
        numbers = self._connection.execute(
            f'SELECT rowid FROM "{self._jobs}" ORDER BY rowid LIMIT ?',  # noqa: S608 - a name of ours
            [MOST_JOBS + 1],
        )
        found = [_number(row[0], self._jobs) for row in numbers]
        jobs: list[Row] = []
        size = 0
        for row in self._rows(self._jobs, found[:MOST_JOBS], SHORT_COLUMNS | LONG_COLUMNS):
            jobs.append(_short(row))
            size += sum(len(v) for v in jobs[-1].values.values() if isinstance(v, str | bytes))
            if size > IN_ALL:
                break
        others = {
            kind: sum(self._count(name) for name in names if name in self._tables)
            for kind, names in OTHERS.items()
        }
        return Legacy(
            jobs,
            runs=self._count(self._runs) if self._runs else 0,
            others={kind: count for kind, count in others.items() if count},
            has_more=len(found) > len(jobs),
        )

    def newest_runs(self, jobs: Iterable[int], most: int) -> dict[int, tuple[int, list[int]]]:
        """Return {job: (how many runs it has, numbers of the newest, newest first)}.

        Of each job at most `most`. One walk through the table: it has no index that is sure.
        """
        if self._runs is None or "job_id" not in self._columns(self._runs):
            return {}
        counts = dict.fromkeys(jobs, 0)
        newest: dict[int, list[int]] = {job: [] for job in counts}
        walk = self._connection.execute(
            f'SELECT rowid, job_id FROM "{self._runs}" ORDER BY rowid DESC'  # noqa: S608 - a name of ours
        )
        for number, job in walk:
            if job in counts:
                counts[job] += 1
                if counts[job] <= most:
                    newest[job].append(_number(number, self._runs))
        return {job: (count, newest[job]) for job, count in counts.items() if count}

    def runs(self, numbers: Iterable[int]) -> Iterator[Row]:
        """Yield these runs. Raises LegacyError."""
        if self._runs is not None:
            yield from self._rows(self._runs, numbers)

    def _columns(self, table: str) -> list[str]:
        # Generated ones are not among them: they may ask for any amount of work.
        found = self._connection.execute("SELECT name FROM pragma_table_info(?)", [table])
        return [str(row[0]) for row in found][:MOST_COLUMNS]

    def _count(self, table: str) -> int:
        found = self._connection.execute(f'SELECT COUNT(*) FROM "{table}"')  # noqa: S608 - a name of ours
        return int(found.fetchone()[0])

    def _rows(
        self, table: str, numbers: Iterable[int], wanted: set[str] | None = None
    ) -> Iterator[Row]:
        """Yield rows one by one, so that one that can't be read is known."""
        names = [name for name in self._columns(table) if wanted is None or name in wanted]
        columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
        question = f'SELECT {columns} FROM "{table}" WHERE rowid = ?'  # noqa: S608 - its own columns
        for number in numbers:
            try:
                row = self._connection.execute(question, [number]).fetchone()
            except sqlite3.DataError:
                yield Row(table, number, fault="too_long")
                continue
            except sqlite3.DatabaseError as error:
                raise _as_legacy(error, f"{table}, {number}") from error
            if row is not None:
                yield Row(table, number, dict(zip(names, row, strict=True)))


@contextmanager
def opened(path: Path, ours: Path | None = None) -> Iterator[Database]:
    """Open the database at `path` for reading alone; `ours` is what we work with ourselves.

    Raises LegacyError, also for what goes wrong while it is open.
    """
    # Ours is not even opened: closing a file drops the locks that SQLite holds on it here.
    try:
        found = path.stat()
        own = ours.stat() if ours is not None and ours.exists() else None
    except (OSError, ValueError) as error:
        raise LegacyError("missing", getattr(error, "strerror", "") or "") from error
    if own is not None and (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino):
        raise LegacyError("ours")
    if not stat.S_ISREG(found.st_mode):
        raise LegacyError("no_file")
    if not found.st_size:
        raise LegacyError("empty")
    try:
        connecting = _connect(path)
    except OSError as error:
        raise LegacyError("denied", error.strerror or "") from error
    except sqlite3.Error as error:
        raise _as_legacy(error) from error
    try:
        with closing(connecting) as connection:
            until = time.monotonic() + WORK
            connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
            connection.text_factory = lambda stored: stored.decode("utf-8", "replace")
            connection.execute("PRAGMA query_only = 1")
            connection.execute("PRAGMA trusted_schema = 0")
            # All questions see the same moment.
            connection.execute("BEGIN")
            yield Database(connection)
    except sqlite3.Error as error:
        raise _as_legacy(error) from error


def _connect(path: Path) -> sqlite3.Connection:
    """Open without writing anything, not even beside it."""
    whole = path.resolve()
    with whole.open("rb") as file:
        header = file.read(20)
    if not header.startswith(b"SQLite format 3\0"):
        raise LegacyError("no_database")
    # A file that was closed in good order has no log; SQLite would make one to read it. With a log
    # that is empty somebody may be about to write: then what SQLite keeps beside it is there, too.
    log, index = (whole.with_name(f"{whole.name}-{end}") for end in ("wal", "shm"))
    is_used = log.exists() and (index.exists() or log.stat().st_size > 0)
    is_alone = header[18] == IS_WAL and not is_used
    uri = f"file:{quote(str(whole))}?mode=ro" + ("&immutable=1" if is_alone else "")
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def _as_legacy(error: sqlite3.Error, where: str = "") -> LegacyError:
    """Return what a fault of SQLite means for who wants to import."""
    told = str(error)
    if any(word in told for word in BUSY):
        return LegacyError("locked", told)
    if "interrupted" in told:
        return LegacyError("too_long", told)
    # It would have to be rolled back, and that is writing.
    if "readonly" in told or "unable to open" in told:
        return LegacyError("half_written", told)
    if "not a database" in told:
        return LegacyError("no_database", told)
    return LegacyError("damaged", f"{where}: {told}" if where else told)


def _number(stored: Any, table: str) -> int:
    """Return the number of a row; a column may have taken its name, and hold anything."""
    if not isinstance(stored, int):
        raise LegacyError("damaged", f"{table}: rowid {stored!r:.40}")
    return stored


def _short(row: Row) -> Row:
    """Return a row without what would fill the memory; it is still longer than any job may be."""
    kept = {
        name: value[: CUT if name in LONG_COLUMNS else SHORT]
        if isinstance(value, str | bytes)
        else value
        for name, value in row.values.items()
    }
    return replace(row, values=kept)

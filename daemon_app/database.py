"""The SQLite file: whether it is ours and whole, and who empties its write-ahead log.

    trouble = examine(file, folder)      # before anything is opened or made; None: all is well
    adopt(file, folder)                  # after it was brought up to date

The installation has a number, kept in the data folder and in the database's header. A database
that is gone, or another one, is so told from a first start: a daemon never begins with nothing
where there was something.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBER_FILE = "installation"
BACKUPS = "backups/*.sqlite3"
# Reading all of a larger one would keep everybody waiting; its first pages must do.
MOST_CHECKED = 512 * 1024 * 1024  # bytes
PATIENCE = 20.0  # seconds that somebody else may have it locked

# A checkpoint and a commit that meet may damage the file; mended in these and later ones.
MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def has_wal_bug(version: tuple[int, int, int]) -> bool:
    """Return whether SQLite of this version has the WAL-reset bug.

    >>> has_wal_bug((3, 40, 1)), has_wal_bug((3, 44, 6)), has_wal_bug((3, 50, 6))
    (True, False, True)
    >>> has_wal_bug((3, 51, 3)), has_wal_bug((3, 52, 0)), has_wal_bug((3, 6, 23))
    (False, False, False)
    """
    if not (3, 7) <= version < MENDED[0]:
        return False
    return not any(version[:2] == mended[:2] and version >= mended for mended in MENDED)


# ── Is it ours, is it whole? ─────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Trouble:
    """Why the database can't be used.

    Codes: "gone", "empty", "not_sqlite", "damaged", "other", "unknown", "unreadable".
    """

    code: str
    detail: str = ""


def examine(file: Path, folder: Path) -> Trouble | None:
    """Return why the database in `file` must not be used with the data in `folder`; else None.

    Nothing is changed. A folder in which nothing ever was is no trouble. Only SQLite opens the
    file: closing it ourselves would let go of every lock that this process has on it.
    """
    number = _number_in(folder)
    used = number is not None or _has_runs(folder)
    try:
        # SQLite makes an empty file before its first write.
        if not file.exists() or file.stat().st_size == 0:
            gone = "empty" if file.exists() else "gone"
            return Trouble(gone) if used else None
        return _judged(file, number)
    except OSError as error:
        return Trouble("unreadable", error.strerror or "")


def _judged(file: Path, number: int | None) -> Trouble | None:
    try:
        with _opened(file) as database:
            damage = _damage(database, file.stat().st_size)
            found = int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.OperationalError as error:
        # Locked: somebody works with it, and it answers them.
        locked = "locked" in str(error) or "busy" in str(error)
        return None if locked else Trouble("unreadable", str(error))
    except sqlite3.DatabaseError as error:
        foreign = error.sqlite_errorcode == sqlite3.SQLITE_NOTADB
        return Trouble("not_sqlite") if foreign else Trouble("damaged", str(error))
    if damage:
        return Trouble("damaged", damage)
    if number is None or found == number:
        return None
    return Trouble("other" if found else "unknown")


def adopt(file: Path, folder: Path) -> None:
    """Give the installation its number, unless it has one."""
    if _number_in(folder) is not None:
        return
    with _opened(file) as database:
        # Whoever comes second finds the number of the first.
        database.execute("BEGIN IMMEDIATE")
        number = int(database.execute("PRAGMA user_version").fetchone()[0])
        if not number:
            number = secrets.randbelow(2**31 - 1) + 1
            database.execute(f"PRAGMA user_version = {number}")
        database.execute("COMMIT")
    draft = folder / f"{NUMBER_FILE}.{os.getpid()}"
    draft.write_text(f"{number}\n")
    draft.replace(folder / NUMBER_FILE)


# What SQLite says of a database that is being brought up to date, or that somebody else writes to.
NOT_READY = ("no such table", "no such column", "is locked", "is busy", "unable to open database")


def is_not_ready(error: BaseException | None) -> bool:
    """Return whether `error` says that the database can't be used yet, or not at this moment.

    Any other fault of it, a full disk for one, does not pass by waiting.
    """
    cause = error.__cause__ if error is not None and error.__cause__ is not None else error
    return isinstance(cause, sqlite3.OperationalError) and any(
        words in str(cause) for words in NOT_READY
    )


def newest_backup(folder: Path) -> Path | None:
    """Return the backup that was made last; None when there is none."""
    found = [(path.stat().st_mtime, path) for path in folder.glob(BACKUPS) if path.is_file()]
    return max(found)[1] if found else None


@contextlib.contextmanager
def _opened(file: Path, patience: float = PATIENCE) -> Iterator[sqlite3.Connection]:
    """Open what is there; nothing is made."""
    database = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=patience, isolation_level=None
    )
    try:
        # A look must not become the checkpoint that only one may make.
        database.execute("PRAGMA wal_autocheckpoint=0")
        yield database
    finally:
        database.close()


def _damage(database: sqlite3.Connection, size: int) -> str:
    if size > MOST_CHECKED:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return ""
    said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if said == "ok" else said


def _number_in(folder: Path) -> int | None:
    try:
        return int((folder / NUMBER_FILE).read_text())
    except (OSError, ValueError):
        return None


def _has_runs(folder: Path) -> bool:
    try:
        return any((folder / "runs").iterdir())
    except OSError:
        return False


# ── The write-ahead log ──────────────────────────────────────────────────────────────────────────
WORTH_IT = 1024 * 1024  # bytes of log that are moved into the file in a quiet moment
TOO_LONG = 16 * 1024 * 1024  # … and in any
AGAIN_AFTER = 1.0  # seconds after a try while somebody read or wrote


class Checkpointer:
    """The one who moves the log into the database where SQLite has the WAL-reset bug.

    It does so with TRUNCATE, which keeps all writers out meanwhile: nothing can meet. All others
    have `wal_autocheckpoint=0`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._log = file.with_name(f"{file.name}-wal")
        self._database: sqlite3.Connection | None = None
        self._next = 0.0

    def step(self, *, quiet: bool) -> bool:
        """Empty the log if it is worth it; return whether that was done. Waits for nobody."""
        size = self._size()
        if size < (WORTH_IT if quiet else TOO_LONG) or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + AGAIN_AFTER
        if self._database is None:
            self._database = sqlite3.connect(self._file, timeout=0, isolation_level=None)
            self._database.execute("PRAGMA wal_autocheckpoint=0")
            self._database.execute("PRAGMA synchronous=FULL")
        try:
            busy, *_rest = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            return False
        return not busy

    def close(self) -> None:
        """Let go of the database."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

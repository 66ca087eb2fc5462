"""Output of runs that move in: it waits beside the runs until their rows are there.

Whoever brings it holds a lock on the folder in which it waits, and notes there, before the rows are
committed, which run each piece belongs to. If that is cut short, `settle_what_was_left` does what
remains: output goes to the row it belongs to, or nowhere. No row ever has another's.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from daemon_app.models import Run
from daemon_app.models.run import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

NOTE: Final = "places.json"
PIECE: Final = 500  # runs asked for at once


@contextmanager
def waiting() -> Iterator[Path]:
    """Give a folder on the disk of the runs, which is gone afterwards; settle what others left."""
    for _moved in settle_what_was_left():
        pass
    folder, lock = _own_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        _leave()


def note(folder: Path, stored: Iterable[tuple[Run, Path]]) -> None:
    """Write down what belongs to which run, in the transaction that makes the runs."""
    places = [[run.pk, str(where.relative_to(folder)), _mark(run)] for run, where in stored]
    # Whole or not at all: who reads it may come after a kill in the middle.
    unfinished = folder / f"{NOTE}.new"
    with unfinished.open("w") as file:
        json.dump(places, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / NOTE)


def settle(folder: Path) -> Iterator[int]:
    """Move what waits in `folder` to the runs that are there; yield their numbers."""
    try:
        places = json.loads((folder / NOTE).read_bytes())
    except (FileNotFoundError, ValueError):
        return  # cut short before anything was committed
    for start in range(0, len(places), PIECE):
        some = places[start : start + PIECE]
        runs = Run.objects.in_bulk([number for number, _where, _said in some])
        for number, where, said in some:
            # A number may meanwhile be that of another run, if the one it was meant for never came.
            if number in runs and _mark(runs[number]) == said and _move(folder / where, number):
                yield number


def settle_what_was_left() -> Iterator[int]:
    """Do what remains of those who were killed; yield the numbers of runs that got their output."""
    with suppress(FileNotFoundError):
        for folder in sorted(_place().iterdir()):
            lock = _lock(folder)
            if lock is None:
                continue  # whoever brings it is at work
            try:
                yield from settle(folder)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError as error:  # the next time may be better
                log.warning("what waits in %s can't be settled: %s", folder, error)
            finally:
                os.close(lock)
        _leave()


def _place() -> Path:
    return Path(settings.RUNS_DIR) / ".arriving"


def _leave() -> None:
    with suppress(OSError):  # somebody else is still there
        _place().rmdir()


def _own_folder() -> tuple[Path, int]:
    """Return a new folder, and a descriptor that holds its lock."""
    while True:
        _place().mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # somebody has tidied the place just now
            folder = Path(tempfile.mkdtemp(dir=_place()))
            # Between making and locking it, somebody may have taken it for left.
            if (lock := _lock(folder)) is not None:
                if folder.exists():
                    return folder, lock
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder; None when another has it."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _mark(run: Run) -> list[Any]:
    """Return what tells a run that moved in from others that may get its number."""
    return [run.job_name, run.due_at.isoformat(), run.output_bytes, run.output_lines]


def _move(folder: Path, number: int) -> bool:
    place = folder_of(number)
    if not folder.exists():
        return False  # it was moved before the kill
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            place.rename(folder.with_name(f"{number}.other"))  # of a run that is not there any more
        folder.rename(place)
    except OSError:
        return False  # the row says then that its output is gone
    return True

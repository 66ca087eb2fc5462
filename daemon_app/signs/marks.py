"""Marks: one small file for each web session or program that was active, touched with its activity.

The web process touches them, which takes microseconds and needs no database; the daemon reads
them. A restart of either loses nothing. Each mark says who it was, its time stamp says when.
"""

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from daemon_app import doorbell
from daemon_app.signs.stamps import Stamps

log = logging.getLogger(__name__)

FOLDER: Final = "here"
BELL: Final = "presence"
REQUEST, PROGRAM = "request", "program"
RING_EVERY: Final = 0.5  # seconds at least between two rings of one process
# Sessions and programs beyond this share one mark: nobody fills the disk with names.
MOST: Final = 1000
KEPT: Final = 86_400.0  # seconds
SOON: Final = 5.0  # seconds
LONGEST: Final = 4096  # bytes that are read of a mark


class Mark(NamedTuple):
    """Somebody's activity: who, by which signal, and when last, on the monotonic clock."""

    who: str
    signal: str
    last: float


class Notebook:
    """Notes activity for the daemon; what a web process has one of. Never raises."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._runtime = ""
        self._rung_at = float("-inf")
        self._complained = False

    def note(self, key: str, *, who: str, signal: str, at: float, before: str = "") -> None:
        """Mark the activity of `who`; `key` tells sessions and programs apart.

        `at` is when it arrived, in wall time. The daemon is rung unless it was a moment ago.
        `before` is the key that the same visitor had until now: they are counted once.
        """
        try:
            if not self._runtime:
                self._runtime = os.fspath(doorbell.runtime_dir(self._data_dir))
            if self._touch(key, who, signal) and before:
                Path(self._path(before, signal)).unlink(missing_ok=True)
        except (OSError, doorbell.DoorbellError) as error:
            # Whoever asks gets their page all the same.
            if not self._complained:
                log.warning("activity can't be marked: %s", error)
            self._complained = True
        now = time.monotonic()
        if self._runtime and now - self._rung_at >= RING_EVERY:
            told = {"op": "activity", "at": at, "who": who, "signal": signal}
            # Nobody reached: the next one tries again.
            if doorbell.ring(self._runtime, BELL, json.dumps(told).encode()):
                self._rung_at = now

    def _touch(self, key: str, who: str, signal: str) -> bool:
        """Touch a mark; return whether it is a new one."""
        path = self._path(key, signal)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._make(path, who, signal)
            return True
        return False

    def _path(self, key: str, signal: str) -> str:
        digest = hashlib.sha256(f"{signal} {key}".encode()).hexdigest()[:16]
        return f"{self._runtime}/{FOLDER}/{digest}"

    def _make(self, path: str, who: str, signal: str) -> None:
        mark = Path(path)
        mark.parent.mkdir(mode=0o700, exist_ok=True)
        if sum(1 for _each in mark.parent.iterdir()) >= MOST:
            mark, who = mark.parent / signal, ""
        aside = mark.with_name(f"{mark.name}.{os.getpid()}-{time.monotonic_ns()}~")
        aside.touch(mode=0o600)
        aside.write_text(json.dumps({"who": who[:150], "signal": signal}))
        aside.rename(mark)


class Reader:
    """Reads the marks, from one look to the next."""

    def __init__(self, runtime: Path) -> None:
        self.folder = runtime / FOLDER
        self._stamps = Stamps()
        self._owners: dict[str, tuple[str, str]] = {}  # who and signal, by name of the mark
        self._heard: dict[tuple[str, str], float] = {}

    def hear(self, *, who: str, signal: str, mono: float) -> None:
        """Take in activity that was rung: its mark may not have been written."""
        self._heard[who, signal] = mono

    def look(self, wall: float, mono: float) -> tuple[Mark, ...]:
        """Return all marks, one for each session or program."""
        stamps = self._all()
        lasts = self._stamps.look(stamps, wall, mono)
        self._owners = {name: self._owners.get(name) or self._owner(name) for name in lasts}
        marks = [Mark(*self._owners[name], last) for name, last in lasts.items()]
        marked = {(mark.who, mark.signal) for mark in marks}
        # What was rung shows in a mark a moment later; where it does not, marks can't be written.
        newest = max((mark.last for mark in marks), default=float("-inf"))
        self._heard = {
            key: last
            for key, last in self._heard.items()
            if mono - last < (SOON if newest >= last - SOON else KEPT)
        }
        unmarked = {key: last for key, last in self._heard.items() if key not in marked}
        return (*marks, *(Mark(*key, last) for key, last in unmarked.items()))

    def tidy(self, wall: float) -> int:
        """Remove marks older than a day, and what a killed process left; return how many."""
        gone = 0
        for name, stamp in self._all(all_of_them=True).items():
            if wall - stamp > KEPT:
                with suppress(OSError):
                    (self.folder / name).unlink()
                    gone += 1
        return gone

    def _all(self, *, all_of_them: bool = False) -> dict[str, float]:
        found = {}
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if all_of_them or not entry.name.endswith("~"):
                    with suppress(OSError):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_mtime
        return found

    def _owner(self, name: str) -> tuple[str, str]:
        told: object = None
        with suppress(OSError, ValueError), (self.folder / name).open("rb") as opened:
            told = json.loads(opened.read(LONGEST))
        if not isinstance(told, dict):
            return "", REQUEST
        return str(told.get("who", ""))[:150], str(told.get("signal", REQUEST))


def names(marks: list[Mark]) -> str:
    """Return who these marks are of, the latest first, at most three; "" for nobody by name."""
    latest = sorted(marks, key=lambda mark: -mark.last)
    shown = list(dict.fromkeys(mark.who for mark in latest if mark.who))
    return ", ".join(shown[:3]) + (" …" if len(shown) > 3 else "")

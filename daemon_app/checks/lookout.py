"""All checks at once, each in a thread of its own: nobody waits for one that hangs."""

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Final

from daemon_app.checks import CHECKS, Check, Context
from daemon_app.fetch import shortened
from daemon_app.readings import Reading, State

log = logging.getLogger(__name__)

LARGEST: Final = 262_144  # bytes of a reading; it goes into a row, and to pages
NUL: Final = "\\u0000"  # as JSON writes it; PostgreSQL takes none


class Lookout:
    """Takes readings, again and again.

    A check that has not come back is not started a second time: its threads don't pile up.
    """

    def __init__(self, checks: Mapping[str, Check] = CHECKS) -> None:
        self._checks = checks
        self._news = threading.Condition()
        self._out: dict[str, _Look] = {}  # the newest look of each check
        self._closed = False

    def look(self, context: Context, within: float) -> dict[str, Reading]:
        """Return each check's reading, in the order of the checks, after `within` s at the latest.

        One that still hangs from before is not waited for. {} when `close` came first.
        """
        begun = time.monotonic()
        looks = [self._begin(check, context) for check in self._checks.values()]
        with self._news:
            while not self._closed:
                left = [look.left(begun, within) for look in looks]
                if not any(seconds > 0 for seconds in left):
                    break
                self._news.wait(min(seconds for seconds in left if seconds > 0))
            if self._closed:
                return {}
            return {look.check.name: look.read(begun, within) for look in looks}

    def close(self) -> None:
        """Have a `look` that waits come back at once."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _begin(self, check: Check, context: Context) -> "_Look":
        last = self._out.get(check.name)
        if last is not None and last.reading is None:
            return last
        told = last is not None and last.failed
        look = self._out[check.name] = _Look(check, self._news, told=told)
        look.start(context)
        return look


class _Look:
    """One call of a check. `told`: that it raises an error has been logged."""

    def __init__(self, check: Check, news: threading.Condition, *, told: bool) -> None:
        self.check = check
        self.reading: Reading | None = None  # None until it has come back
        self.failed = False
        self._told = told
        self._news = news
        self._begun = time.monotonic()

    def start(self, context: Context) -> None:
        """Call the check; where no thread is to be had, that is the reading."""
        thread = threading.Thread(
            target=self._run, args=(context,), name=f"check-{self.check.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self.reading = self._failed(error)

    def left(self, begun: float, within: float) -> float:
        """Return for how many more seconds a round that began at `begun` is to wait for it."""
        if self.reading is not None or self._begun < begun:
            return 0.0
        return begun + min(self.check.seconds, within) - time.monotonic()

    def read(self, begun: float, within: float) -> Reading:
        """Return the reading, or that there is none, as seen by a round that began at `begun`."""
        name, out = self.check.name, time.monotonic() - self._begun
        if self.reading is not None and self._begun >= begun:
            return self.reading
        if self._begun < begun:
            return Reading(name, State.UNKNOWN, None, "check_hangs", {"seconds": round(out)})
        facts = {"seconds": round(min(self.check.seconds, within), 1)}
        return Reading(name, State.UNKNOWN, None, "check_no_answer", facts, seconds=out)

    def _run(self, context: Context) -> None:
        begun = time.monotonic()
        try:
            reading = self.check.look(context)
            # What can't be kept must not stop all the others from being kept.
            text = json.dumps(reading.as_json(), allow_nan=False, ensure_ascii=False)
            size = len(text.encode())  # half a surrogate pair raises
            if size > LARGEST or reading.name != self.check.name or NUL in text:
                raise ValueError(f"{size} bytes of {reading.name}")  # noqa: TRY301 - as any other
        except Exception as error:
            if not self._told:
                log.exception("the check %r failed", self.check.name)
            reading = self._failed(error)
        if reading.seconds is None:
            took = time.monotonic() - begun
            reading = Reading.of({**reading.as_json(), "seconds": took})
        with self._news:
            self.reading = reading
            self._news.notify_all()

    def _failed(self, error: Exception) -> Reading:
        self.failed = True
        said = shortened(str(error))
        facts = {"error": type(error).__name__}
        return Reading(self.check.name, State.UNKNOWN, None, "check_failed", facts, said)

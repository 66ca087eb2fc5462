"""A sentry at its post, with its bells, a runner's bell to hear it, and marks of people."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from daemon_app import doorbell
from daemon_app.presence import Sentry
from daemon_app.readings import Reading
from daemon_app.signs import SIGNS, Looker, Scene, marks
from tests.clocks import Fake
from tests.service import until

QUICK = ("hand", "requests", "programs", "elsewhere")


class Looks:
    """Counts how often the sentry has looked."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = True
    often: ClassVar[float | None] = None

    def __init__(self) -> None:
        self.begun = 0

    def look(self, _scene: Scene) -> None:
        self.begun += 1


class Post:
    """A sentry at its post, on clocks that the test sets, with the quick signs alone by default."""

    def __init__(self, folder: Path, clock: Fake) -> None:
        self.folder = folder
        self.runtime = doorbell.runtime_dir(folder)
        self.clock = clock
        self.runner = doorbell.Bell(self.runtime, "runner")
        self.notebook = marks.Notebook(folder)
        self.sentry: Sentry | None = None
        self.looks = Looks()
        self.heard: list[dict[str, Any]] = []

    def sentry_with(self, *names: str, **signs: Looker) -> Sentry:
        """Put up a sentry that knows the quick signs, those of these names and these; start it."""
        known = {name: SIGNS[name]() for name in (*QUICK, *names)} | signs
        known["looks"] = self.looks
        self.sentry = Sentry(host="here", runtime=self.runtime, clock=self.clock, signs=known)
        self.sentry.start()
        return self.sentry

    def relieve(self) -> None:
        """End the sentry's watch."""
        if self.sentry:
            self.sentry.close()
            self.sentry = None

    def ticks(self, readings: Mapping[str, Reading]) -> None:
        """Hand the sentry what a tick has found, and wait until it has looked at it."""
        assert self.sentry
        sentry = self.sentry
        sentry.readings(readings)
        until(
            lambda: all(
                (seen := sentry._sightings.get(name)) and seen.tick is sentry._readings
                for name, looker in sentry._signs.items()
                if not looker.quick
            ),
            "a look at the tick",
        )

    def look(self) -> None:
        """Have the sentry look again."""
        doorbell.ring(self.runtime, "presence", b'{"op": "look"}')

    def passes(self, seconds: float) -> None:
        """Let time pass, and have the sentry look."""
        self.clock.passes(seconds)
        self.look()

    def activity(self, who: str = "anna", signal: str = "request", **told: Any) -> None:
        """Ring as the web process does."""
        message = {"op": "activity", "at": self.clock.wall(), "who": who, "signal": signal, **told}
        doorbell.ring(self.runtime, "presence", json.dumps(message).encode())

    def mark(self, who: str = "anna", signal: str = "request", *, age: float = 0.0) -> Path:
        """Leave a mark as the web process does, so many seconds ago by the test's clock."""
        folder = self.runtime / marks.FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        mark = folder / f"{signal}-{who}"
        mark.write_text(json.dumps({"who": who, "signal": signal}))
        stamp = self.clock.wall() - age
        os.utime(mark, (stamp, stamp))
        return mark

    def news(self, op: str) -> dict[str, Any]:
        """Wait for this news at the runner's bell."""

        def heard() -> dict[str, Any] | None:
            self.heard += [json.loads(payload) for payload in self.runner.wait(0.02)]
            return next((news for news in self.heard if news["op"] == op), None)

        news: dict[str, Any] = until(heard, op)
        return news

    def becomes(self, idle: bool | None) -> Any:
        """Wait until the sentry says so; return what it says, by a look begun after this call."""
        begun = self.looks.begun

        def said() -> Any:
            assert self.sentry
            self.look()
            # The look after that one has begun: what was seen since this call counts.
            if self.looks.begun < begun + 2:
                return None
            state = self.sentry.state
            return (state,) if state.idle is idle else None

        return until(said, f"idle {idle}")[0]

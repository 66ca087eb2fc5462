"""What time it is, by three clocks, and what their differences tell: steps, sleep, standstill."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

# It goes on while the machine sleeps. macOS has no such name: its plain one does that there, and
# Python's own `time.monotonic` does not.
BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# Where a request's scope (ASGI) says when it arrived, in seconds since 1970.
ARRIVED = "bach.arrived"

STEP = 2.0  # seconds that wall time may differ from what has passed
SLEPT = 2.0
STOOD_STILL = 15.0
# Time servers let a clock run faster or slower by up to 0.05 %; that is no step.
SLEW = 0.001


class Clock:
    """The clocks of this machine, in seconds; a test has its own."""

    def wall(self) -> float:
        """Return what people call the time, since 1970; it may be set."""
        return time.time()

    def mono(self) -> float:
        """Return seconds that only grow, without those the machine slept."""
        return time.monotonic()

    def boot(self) -> float:
        """Return seconds that only grow, with those the machine slept."""
        return time.clock_gettime(BOOTTIME)

    def now(self) -> datetime:
        """Return the time as an instant."""
        return datetime.fromtimestamp(self.wall(), UTC)


@dataclass(frozen=True)
class Change:
    """Something that happened to time between two looks, and by how many seconds.

    Codes: "clock_forward", "clock_back" (seconds are then negative), "asleep", "stalled".
    """

    code: str
    seconds: float


class Watch:
    """Compares the clocks at each look with the look before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mono, self._boot = clock.mono(), clock.boot()
        self._offset = clock.wall() - self._boot

    def look(self) -> list[Change]:
        """Return what has happened since the last look; looks are to be less than 15 s apart."""
        wall, mono, boot = self._clock.wall(), self._clock.mono(), self._clock.boot()
        passed, awake = boot - self._boot, mono - self._mono
        self._mono, self._boot = mono, boot
        changes = []
        if passed - awake > SLEPT:
            changes.append(Change("asleep", passed - awake))
        if awake > STOOD_STILL:
            changes.append(Change("stalled", awake))
        step = wall - boot - self._offset
        if abs(step) > STEP:
            changes.append(Change("clock_forward" if step > 0 else "clock_back", step))
            self._offset = wall - boot
        else:
            slewed = max(passed, 0.0) * SLEW
            self._offset += min(max(step, -slewed), slewed)
        return changes

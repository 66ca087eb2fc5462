"""Clocks that a test sets."""

from dataclasses import dataclass

from daemon_app.clock import Clock


@dataclass
class Fake(Clock):
    """Clocks that are set by the test."""

    time: float = 1_800_000_000.0
    awake: float = 1000.0
    up: float = 2000.0

    def wall(self) -> float:
        return self.time

    def mono(self) -> float:
        return self.awake

    def boot(self) -> float:
        return self.up

    def passes(self, seconds: float) -> None:
        self.time += seconds
        self.awake += seconds
        self.up += seconds

    def sleeps(self, seconds: float) -> None:
        """Let time pass that the machine sleeps."""
        self.time += seconds
        self.up += seconds

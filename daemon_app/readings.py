"""What a check or a gate says: a state, a number, and the code of the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """What is true of the thing looked at (semantics 5)."""

    OK = "ok"
    SLOW = "slow"  # a service answers, but late
    DOWN = "down"  # nothing listens there
    HIGH = "high"  # VRAM beyond its threshold
    LOW = "low"  # little disk left
    FULL = "full"
    UNKNOWN = "unknown"  # no answer in time, or one that makes no sense


class Level(StrEnum):
    """How bad that is: what decides on colour and log level."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


LEVELS = {
    State.OK: Level.OK,
    State.SLOW: Level.WARN,
    State.DOWN: Level.BAD,
    State.HIGH: Level.WARN,
    State.LOW: Level.WARN,
    State.FULL: Level.BAD,
    State.UNKNOWN: Level.UNKNOWN,
}


def storable(text: str) -> str:
    r"""Return a foreign text without what can't be kept: NUL, and halves of surrogate pairs.

    PostgreSQL takes neither, and no page with the latter can be sent.

    >>> storable("a\0b\ud800c d")
    'abc d'
    """
    return text.replace("\0", "").encode(errors="ignore").decode()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one check found. `code` and `facts` make a sentence of `models.reasons`.

    `value` is in the check's unit, None when nothing was measured. `said` is what a service
    answered that it should not have, shortened: for administrators alone. `seconds` is how long
    the check took.
    """

    name: str
    state: State
    value: float | None = None
    code: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    seconds: float | None = None

    @property
    def level(self) -> Level:
        """How bad the state is."""
        return LEVELS[self.state]

    def as_json(self) -> dict[str, Any]:
        """Return what `of` reads back."""
        return {
            "name": self.name,
            "state": str(self.state),
            "value": self.value,
            "code": self.code,
            "facts": dict(self.facts),
            "said": self.said,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Return the reading that `as_json` gave."""
        return cls(**{**stored, "state": State(stored["state"])})

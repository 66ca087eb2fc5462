"""Moments that signs look at."""

from datetime import UTC, datetime
from typing import Any

from daemon_app.readings import Reading, State
from daemon_app.signs import Rules, Scene

WALL = 1_800_000_000.0


def scene(mono: float = 1000.0, **facts: Any) -> Scene:
    """Return a moment at `mono` seconds of the monotonic clock, and as much later by the wall's."""
    wall = facts.pop("wall", WALL + mono)
    rules = facts.pop("rules", Rules())
    return Scene(datetime.fromtimestamp(wall, UTC), wall, mono, rules, **facts)


def ticked(**states: tuple[State, dict[str, Any]]) -> dict[str, Reading]:
    """Return a tick's readings: check=(state, facts)."""
    return {name: Reading(name, state, facts=facts) for name, (state, facts) in states.items()}

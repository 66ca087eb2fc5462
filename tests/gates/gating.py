"""Conditions for tests of gates, in a line."""

from datetime import datetime, timedelta
from typing import Any

from daemon_app import gates
from daemon_app.gates import Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.readings import Reading, State
from tests.jobs import NOON


def conditions(*readings: Reading, now: datetime = NOON, **fields: Any) -> Conditions:
    """Return conditions at `now` with these readings; by default nothing else is known."""
    by_name = {reading.name: reading for reading in readings}
    return Conditions(now=now, readings=by_name, measured_at=now - timedelta(seconds=90), **fields)


def vram(*free: int, total: int = 24_000, models: tuple[str, ...] = ()) -> Reading:
    """Return a reading of GPUs with so many MB free."""
    facts: dict[str, Any] = {
        "free_mb": sum(free),
        "total_mb": total * len(free),
        "devices": [
            {"name": f"GPU {n}", "free_mb": mb, "total_mb": total} for n, mb in enumerate(free)
        ],
        "models": [{"model": name, "vram_mb": 1000 * n} for n, name in enumerate(models, 1)],
    }
    return Reading("vram", State.OK, 50.0, facts=facts)


def judged(name: str, needs: dict[str, Any], at: Conditions) -> Verdict:
    """Return what the gate `name` says; it must say something."""
    verdict = gates.GATES[name](needs, at)
    assert verdict is not None
    return verdict

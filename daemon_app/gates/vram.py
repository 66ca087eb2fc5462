"""Enough free VRAM on one GPU, after what runs that have just started will still take."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.gates.hours import iso
from daemon_app.models.health import most_of_a_gpu
from daemon_app.readings import State

# Models that are named as what holds the VRAM, the largest first.
MOST_NAMED = 3


@GATES.register("vram")
def vram(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge the free VRAM in MB, of the GPU that has most of it where several are told."""
    asked = needs.get("vram_mb")
    if not asked:
        return None
    facts: dict[str, Any] = {"threshold": asked, "unit": "MB"}
    reading = conditions.readings.get("vram")
    free = most_of_a_gpu(reading.facts, "free_mb") if reading else None
    if reading is None or free is None or reading.state is State.UNKNOWN:
        facts["since"] = iso(conditions.measured_at)
        if reading is not None and reading.code:
            facts |= {"code": reading.code, "facts": dict(reading.facts)}
        return Verdict("vram", False, "waits_vram_unknown", facts)
    total = most_of_a_gpu(reading.facts, "total_mb")
    left = max(free - conditions.reserved_vram_mb, 0.0)
    facts |= {"value": round(left), "free_mb": round(free)}
    if total is not None:
        facts["total_mb"] = round(total)
        if asked > total:
            return Verdict("vram", False, "waits_vram_impossible", facts)
    if asked <= left:
        return Verdict("vram", True, "gate_vram", facts)
    if asked > free and (held_by := _models(reading.facts)):
        facts["held_by"] = held_by
    if reserved := round(conditions.reserved_vram_mb):
        facts["reserved_mb"] = reserved
        return Verdict("vram", False, "waits_vram_reserved", facts)
    return Verdict("vram", False, "waits_vram", facts)


def _models(facts: Mapping[str, Any]) -> list[str]:
    models = [each for each in facts.get("models") or [] if isinstance(each, Mapping)]
    models.sort(key=lambda each: -float(each.get("vram_mb") or 0))
    return [str(each.get("model")) for each in models[:MOST_NAMED] if each.get("model")]

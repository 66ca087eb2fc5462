"""Enough free disk."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.gates.hours import iso

MB = 1_000_000


@GATES.register("disk")
def disk(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge the free disk in MB, where the exports lie."""
    asked = needs.get("disk_mb")
    if not asked:
        return None
    facts: dict[str, Any] = {"threshold": asked, "unit": "MB"}
    reading = conditions.readings.get("disk")
    free = reading.facts.get("free_bytes") if reading else None
    if reading is None or not isinstance(free, int | float):
        facts["since"] = iso(conditions.measured_at)
        return Verdict("disk", False, "waits_disk_unknown", facts)
    facts |= {"value": int(free // MB), "path": reading.facts.get("path")}
    enough = free >= asked * MB
    return Verdict("disk", enough, "gate_disk" if enough else "waits_disk", facts)

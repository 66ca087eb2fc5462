"""Not while the machine is busy: the load of all processors over the last minute."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions


@GATES.register("load")
def load(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge the load in per cent, our own runs' too."""
    asked = needs.get("load_percent")
    if not asked:
        return None
    facts: dict[str, Any] = {"threshold": asked, "unit": "%"}
    if conditions.load_percent is None:
        return Verdict("load", False, "waits_load_unknown", facts)
    facts["value"] = round(conditions.load_percent)
    low = conditions.load_percent <= asked
    return Verdict("load", low, "gate_load" if low else "waits_load", facts)

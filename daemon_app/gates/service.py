"""Services that must answer before a run starts; slow ones do answer."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.gates.hours import iso
from daemon_app.readings import State

ANSWERS = (State.OK, State.SLOW)


@GATES.register("services")
def services(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge whether each service answers; the first that does not is the one that is told."""
    asked = needs.get("services")
    if not asked:
        return None
    facts: dict[str, Any] = {"services": list(asked), "unit": "ms"}
    for name in asked:
        reading = conditions.readings.get(name)
        if reading is not None and reading.state in ANSWERS:
            facts.setdefault("value", reading.value)
            continue
        state = reading.state if reading else State.UNKNOWN
        facts |= {"service": name, "state": str(state), "value": None}
        if reading is not None and reading.code:
            facts |= {"code": reading.code, "facts": dict(reading.facts)}
        if reading is None:
            facts["since"] = iso(conditions.measured_at)
        code = "waits_service_unknown" if state is State.UNKNOWN else "waits_service_down"
        return Verdict("services", False, code, facts)
    return Verdict("services", True, "gate_services", facts)

"""Only when idle: nobody is here, no model is in use, and that for long enough."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions


@GATES.register("idle")
def idle(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge idleness; not known counts as busy."""
    if not needs.get("idle"):
        return None
    if conditions.idle:
        return Verdict("idle", True, "gate_idle", {"since": _iso(conditions.idle_since)})
    if conditions.idle is None:
        return Verdict("idle", False, "waits_idle_unknown")
    facts: dict[str, Any] = {"until": _iso(conditions.idle_from)}
    if conditions.idle_reasons:
        first = conditions.idle_reasons[0]
        facts |= {"code": first["code"], "facts": first["facts"]}
    return Verdict("idle", False, "waits_idle", facts)


def _iso(instant: Any) -> str | None:
    return None if instant is None else instant.isoformat()

"""Only when idle: nobody is here, no model is in use, and that for long enough."""

from collections.abc import Mapping
from typing import Any

from daemon_app.gates import GATES, Verdict
from daemon_app.gates.conditions import Conditions
from daemon_app.gates.hours import iso


@GATES.register("idle")
def idle(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge idleness; not known counts as busy.

    `since` is the instant from which it is as it is; `until` that at which it becomes idle if
    nothing happens; `code` and `facts` are the weightiest sign of somebody.
    """
    if not needs.get("idle"):
        return None
    facts: dict[str, Any] = {"since": iso(conditions.idle_since)}
    if conditions.idle:
        return Verdict("idle", True, "gate_idle", facts)
    if conditions.idle_reasons:
        first = conditions.idle_reasons[0]
        facts |= {"code": first.get("code", ""), "facts": first.get("facts") or {}}
    if conditions.idle is None:
        return Verdict("idle", False, "waits_idle_unknown", facts)
    idle_from = conditions.idle_from
    if idle_from is not None and idle_from > conditions.now:
        facts["until"] = iso(idle_from)
    return Verdict("idle", False, "waits_idle", facts)

"""Only at these times: the job's own window, in the job's zone."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from daemon_app.gates import GATES, Verdict, hours
from daemon_app.gates.conditions import Conditions


@GATES.register("window")
def window(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge the time of day."""
    text = needs.get("window")
    if not text:
        return None
    found = hours.opening(text, needs.get("zone") or settings.TIME_ZONE, conditions)
    if not found.can_be_read:
        return Verdict("window", False, "waits_window_unknown", {"times": text})
    code = "gate_window" if found.open else "waits_window"
    return Verdict("window", found.open, code, found.facts(text))

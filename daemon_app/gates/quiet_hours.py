"""Quiet hours: times in which nothing starts by itself, unless its job may, or a person says so."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from daemon_app.gates import GATES, Verdict, hours
from daemon_app.gates.conditions import Conditions


@GATES.register("quiet_hours")
def quiet_hours(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Judge the quiet hours of the whole installation, for runs that need nothing else too.

    Hours that can't be read any more keep nobody quiet.
    """
    text = conditions.quiet_hours
    if not text:
        return None
    found = hours.opening(text, settings.TIME_ZONE, conditions)
    if not found.can_be_read:
        return None
    facts = found.facts(text)
    if not found.open:
        return Verdict("quiet_hours", True, "gate_quiet_hours", facts)
    if needs.get("in_quiet_hours"):
        return Verdict("quiet_hours", True, "gate_in_quiet_hours", facts)
    return Verdict("quiet_hours", False, "waits_quiet_hours", facts)

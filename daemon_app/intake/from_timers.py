"""Drafts from a folder of systemd units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daemon_app import timers
from daemon_app.intake.drafts import Draft, Remark, named, origin
from daemon_app.models.job import RESERVED_VARIABLES, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST: Final = 1_000


def drafts(units: Mapping[str, str], *, me: str, zone: str) -> list[Draft]:
    """Return a draft for each timer among `units`, texts by file name: "backup.timer"."""
    found = []
    for name in sorted(units)[:MOST]:
        if name.endswith(".timer"):
            found.append(_draft(name, units, me, zone))
    return named(found)


def _draft(name: str, units: Mapping[str, str], me: str, zone: str) -> Draft:
    stem = name.removesuffix(".timer")
    draft = Draft(stem, origin("timer", name), name)
    try:
        when = timers.timer(units[name])
        unit = when.unit or f"{stem}.service"
        if unit not in units:
            return draft.refused("service_missing", unit=unit)
        what = timers.service(units[unit])
    except timers.UnreadableError as error:
        return draft.refused(error.code, text=error.text)
    if what.user and what.user != me:
        return draft.refused("other_user", user=what.user, me=me)
    kept = {
        key: value
        for key, value in what.environment.items()
        if VARIABLE.fullmatch(key) and not RESERVED_VARIABLES.fullmatch(key)
    }
    remarks = [Remark("random")] if when.is_random else []
    if dropped := sorted(what.environment.keys() - kept.keys()):
        remarks.append(Remark("variable", {"names": ", ".join(dropped)}))
    if when.is_persistent:
        remarks.append(Remark("persistent"))
    if when.timezone and when.timezone != zone:
        remarks.append(Remark("zone", {"zone": when.timezone}))
    fields: dict[str, Any] = {
        "description": (when.description or what.description)[:500],
        "job_type": when.kind,
        "schedule": when.schedule,
        "timezone": when.timezone or zone,
        "command": "\n".join(("set -e", *what.commands)) if what.commands[1:] else what.commands[0],
        "working_directory": "" if what.folder == "~" else what.folder,
        "environment": kept,
        "timeout_seconds": what.timeout_seconds or 0,
        "misfire": "once" if when.is_persistent else "skip",
    }
    return Draft(draft.name, draft.origin, name, fields, tuple(remarks))

"""Drafts from timers of systemd."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from daemon_app import timers
from daemon_app.intake import files
from daemon_app.intake.drafts import Draft, Remark, named, origin
from daemon_app.models.job import RESERVED_VARIABLES, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MOST: Final = 1_000
MOST_FILES: Final = 10_000


# What is otherwise for all of them, said once.
NOTES: Final = ("timer_stays",)


@dataclass(frozen=True)
class Units:
    """The timers and services of a machine or of one user: texts by file name.

    `manager` is the user that starts them where they name none, `home` that user's folder, and
    `folder` where they start where they name none.
    """

    texts: Mapping[str, str]
    manager: str
    home: str
    folder: str = ""
    enabled: frozenset[str] = frozenset()


def units_in(folders: Iterable[Path]) -> tuple[dict[str, str], frozenset[str]]:
    """Return the units of folders, texts by file name, and the names of those switched on.

    What stands in an earlier folder hides what a later one has under the same name, as for systemd;
    what is added in NAME.d/*.conf follows the unit's own text.
    """
    texts: dict[str, str] = {}
    added: dict[str, dict[str, str]] = {}
    enabled: set[str] = set()
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir())[:MOST_FILES]:
            name = path.name
            if name.endswith(".wants"):
                enabled.update(each.name for each in path.glob("*.timer"))
            elif name.endswith((".timer.d", ".service.d")):
                for more in sorted(path.glob("*.conf")):
                    added.setdefault(name[:-2], {}).setdefault(more.name, _text(more))
            elif name.endswith((".timer", ".service")):
                texts.setdefault(name, _text(path))
    for name, parts in added.items():
        if texts.get(name):
            texts[name] = "\n".join([texts[name], *(parts[part] for part in sorted(parts))])
    # A link to /dev/null hides a unit wholly.
    return {name: text for name, text in texts.items() if text}, frozenset(enabled)


def _text(path: Path) -> str:
    try:
        return files.text(path, timers.LONGEST)
    except files.FileError:
        return ""


def drafts(units: Units, *, me: str, zone: str) -> list[Draft]:
    """Return a draft for each timer; jobs run as `me`."""
    timers_found = sorted(name for name in units.texts if name.endswith(".timer"))
    return named(_draft(name, units, me, zone) for name in timers_found[:MOST])


def _draft(name: str, units: Units, me: str, zone: str) -> Draft:
    stem = name.removesuffix(".timer")
    is_on = name in units.enabled
    draft = Draft(stem, origin("timer", units.manager, name), name, was_active=is_on)
    if stem.endswith("@"):
        return draft.refused("timer_template")
    try:
        when = timers.timer(units.texts[name])
        unit = when.unit or f"{stem}.service"
        if unit not in units.texts:
            return draft.refused("service_missing", unit=unit[:100])
        bare = unit.rpartition(".")[0]
        known = {"h": units.home, "u": units.manager, "n": unit, "N": bare, "p": bare}
        what = timers.service(units.texts[unit], known)
    except timers.UnreadableError as error:
        return draft.refused(error.code, text=error.text)
    user = what.user or units.manager
    if user != me:
        return draft.refused("other_user", user=user[:80], me=me)
    fields, remarks = _fields(when, what, zone)
    fields["working_directory"] = fields["working_directory"] or units.folder
    if not is_on:
        remarks.append(Remark("was_off"))
    return replace(draft, fields=fields, remarks=tuple(remarks))


def _fields(
    when: timers.Timer, what: timers.Service, zone: str
) -> tuple[dict[str, Any], list[Remark]]:
    kept = {
        key: value
        for key, value in what.environment.items()
        if VARIABLE.fullmatch(key) and not RESERVED_VARIABLES.fullmatch(key)
    }
    remarks = []
    if when.is_random:
        remarks.append(Remark("random"))
    if when.is_after_end:
        remarks.append(Remark("after_end"))
    if dropped := sorted(what.environment.keys() - kept.keys()):
        remarks.append(Remark("variable", {"names": ", ".join(dropped)[:200]}))
    if what.left_out:
        remarks.append(Remark("left_out", {"names": ", ".join(what.left_out)[:200]}))
    if when.is_persistent:
        remarks.append(Remark("persistent"))
    if when.timezone and when.timezone != zone:
        remarks.append(Remark("zone", {"zone": when.timezone}))
    commands = ("set -e", *what.commands) if what.commands[1:] else what.commands
    return {
        "description": (when.description or what.description)[:500],
        "job_type": when.kind,
        "schedule": when.schedule,
        "timezone": when.timezone or zone,
        "command": "\n".join(commands),
        "working_directory": "" if what.folder == "~" else what.folder,
        "environment": kept,
        "timeout_seconds": what.timeout_seconds or 0,
        "nice": what.nice,
        "misfire": "once" if when.is_persistent else "skip",
    }, remarks

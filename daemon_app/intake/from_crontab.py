"""Drafts from a crontab."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _t

from daemon_app import crontab
from daemon_app.intake.drafts import Draft, Remark, name_of, named, origin, told_apart
from daemon_app.models.job import RESERVED_VARIABLES, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

# What cron itself takes from the environment, and no command sees as such.
OF_CRON: Final = {
    "MAILTO",
    "MAILFROM",
    "CRON_TZ",
    "CONTENT_TYPE",
    "CONTENT_TRANSFER_ENCODING",
    "RANDOM_DELAY",
}
OWN: Final = {"LOGNAME", "USER"}  # cron sets them; nobody else can
SHELLS: Final = {"/bin/sh", "sh", ""}
END: Final = "END_OF_INPUT"
LIMITS: Final = {
    "file_long": crontab.LONGEST,
    "too_long": crontab.LONGEST_LINE,
    "too_many": crontab.MOST,
    "variables": crontab.MOST_VARIABLES,
}
# What is otherwise for all of them, said once.
NOTES: Final = ("cron_overlap", "cron_mail", "cron_stays")


def drafts(files: Mapping[str, str], *, me: str, zone: str, system: bool = False) -> list[Draft]:
    """Return a draft for each entry of crontabs, and a refused one for each line cron won't take.

    `files` are texts by name ("" for the only one), `me` is the user that jobs run as, `zone` what
    times are meant in unless CRON_TZ says other.
    """
    found = []
    for name, text in files.items():
        read = crontab.read(text, system=system)
        of_file = [(entry.line, _draft(entry, me, zone)) for entry in read.entries]
        for fault in read.faults:
            refused = Draft(fault.text[:40] or "?", "", "")
            limit = LIMITS.get(fault.code)
            of_file.append((fault.line, refused.refused(fault.code, limit=limit)))
        for line, draft in sorted(of_file, key=lambda each: each[0]):
            where = f"{name}:{line}" if name else _t("line %(n)s") % {"n": line}
            found.append(replace(draft, where=where))
    return named(told_apart(found))


def _draft(entry: crontab.Entry, me: str, zone: str) -> Draft:
    environment = dict(entry.environment)
    there = environment.get("CRON_TZ", zone) or zone
    command, remarks = _command(entry, environment)
    kept, dropped = _variables(environment)
    if mail := environment.get("MAILTO"):
        remarks.append(Remark("mail", {"to": mail[:200]}))
    if environment.get("RANDOM_DELAY", "0") != "0":
        remarks.append(Remark("random"))
    if there != zone:
        remarks.append(Remark("zone", {"zone": there}))
    if dropped:
        remarks.append(Remark("variable", {"names": ", ".join(dropped)}))
    fields: dict[str, Any] = {
        "description": entry.comment[:500],
        "job_type": "cron",
        "schedule": entry.schedule,
        "timezone": there,
        "command": command,
        "use_shell": True,
        "environment": kept,
        "timeout_seconds": 0,  # cron knows none
        "misfire": "skip",  # … and never catches up
    }
    if home := environment.get("HOME"):
        fields["working_directory"] = home
    draft = Draft(
        name_of(entry.command),
        origin("crontab", entry.user, entry.schedule, entry.command, entry.stdin),
        "",
        fields,
        tuple(remarks),
    )
    if entry.schedule == crontab.REBOOT:
        return draft.refused("reboot")
    if entry.user and entry.user.partition(":")[0] != me:
        return draft.refused("other_user", user=entry.user, me=me)
    return draft


def _command(entry: crontab.Entry, environment: Mapping[str, str]) -> tuple[str, list[Remark]]:
    """Return the command as our shell runs it: with what it reads, and by the shell it was for."""
    command, remarks = entry.command, []
    if (shell := environment.get("SHELL", "")) not in SHELLS:
        command = f"exec {shlex.quote(shell)} -c {shlex.quote(command)}"
        remarks.append(Remark("shell", {"shell": shell}))
    if entry.stdin:
        end = END
        while end in entry.stdin.split("\n"):
            end += "_"
        if command.endswith("\\"):  # it would join the next line
            command = f"/bin/sh -c {shlex.quote(command)}"
        command = f"{{ {command}\n}} <<'{end}'\n{entry.stdin}{end}"
        remarks.append(Remark("stdin"))
    return command, remarks


def _variables(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return what a job may set of these variables, and the names of the others."""
    kept, dropped = {}, []
    for name, value in environment.items():
        if name in OF_CRON or name == "SHELL":
            continue
        fits = VARIABLE.fullmatch(name) and not RESERVED_VARIABLES.fullmatch(name)
        if fits and name not in OWN:
            kept[name] = value
        else:
            dropped.append(name)
    return kept, dropped

"""Drafts from the database of an original BACH."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from daemon_app.intake import files
from daemon_app.intake.drafts import Draft, Remark, named, origin, told_apart
from daemon_app.models.job import MAX_COMMAND, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from daemon_app.legacy import Legacy, Row

KINDS: Final = {"interval": "interval", "cron": "cron", "manual": "manual", "once": "once"}
LATER: Final = {"chain", "event"}
USUAL_LIMIT: Final = 300  # seconds; what the original took when none was given
LONGEST_FILE: Final = 1_000_000  # bytes
# Below hub/_services of a BACH.
BESIDE: Final = {
    "recurring": "recurring/config.json",
    "profiles": "daemon/profiles/*.json",
    "prompts": "prompt_generator/templates/*.json",
}
RUNS_OF_A_JOB: Final = 1_000
MOST_RUNS: Final = 20_000  # of all jobs together
# What is otherwise for all of them, said once.
NOTES: Final = ("bach_zone", "bach_keep")
LONGEST: Final = {"command": MAX_COMMAND, "script_path": 1024, "arguments": 4096}


def drafts(
    read: Legacy, runs: Mapping[int, tuple[int, Sequence[int]]], *, zone: str
) -> list[Draft]:
    """Return a draft for each job of the database, in its order; times are meant in `zone`.

    `runs` says of each job how many runs it has and which are its newest.
    """
    share = MOST_RUNS // max(1, len(runs))
    found = []
    for row in read.jobs:
        draft = _draft(row, zone)
        count, newest = runs.get(row.number_of_job, (0, ()))
        if count and not draft.refusal:
            past = tuple(newest[: max(1, share)])
            whole = len(past) == count
            remark = Remark("history" if whole else "history_cut", {"n": count, "kept": len(past)})
            draft = replace(draft, past=past, remarks=(*draft.remarks, remark))
        found.append(draft)
    return named(told_apart(found))


def _draft(row: Row, zone: str) -> Draft:
    name = row.text("name").strip() or f"job-{row.number}"
    # The tables were renamed once, and so may be the job.
    of = origin("bach", row.number_of_job, row.text("created_at") or name)
    draft = Draft(name[:200], of, row.where)
    if refusal := _refusal(row):
        code, facts = refusal
        return draft.refused(code, **facts)
    fields, remarks = _fields(row, zone)
    was_active = row.is_true("is_active", otherwise=True)
    if not was_active:
        remarks.append(Remark("was_off"))
    return replace(draft, fields=fields, remarks=tuple(remarks), was_active=was_active)


def _refusal(row: Row) -> tuple[str, dict[str, Any]] | None:
    """Return why a row can't come, and the facts; None when nothing speaks against it."""
    kind = row.text("job_type", "type").strip().lower()
    if row.fault:
        return "too_long", {"limit": LONGEST["command"]}
    if kind in LATER:
        return kind, {}
    if kind not in KINDS:
        return "kind", {"kind": kind[:40] or "?"}
    texts = {field: row.text(field).strip() for field in LONGEST}
    for field, text in texts.items():
        if len(text) > LONGEST[field]:
            return "too_long", {"limit": LONGEST[field]}
        if "\0" in text:
            return "nul", {}
    return None if texts["command"] or texts["script_path"] else ("no_command", {})


def _fields(row: Row, zone: str) -> tuple[dict[str, Any], list[Remark]]:
    remarks: list[Remark] = []
    kind = row.text("job_type", "type").strip().lower()
    schedule = row.text("schedule", "cron_expression", "interval").strip()
    if kind == "interval" and re.fullmatch(r"\d{1,9}(?:\.0)?", schedule):
        remarks.append(Remark("minutes", {"text": schedule}))
        schedule = f"{int(float(schedule))}m"
    parameters, left_out = _parameters(row.text("parameters"))
    if left_out:
        remarks.append(Remark("parameters", {"names": ", ".join(left_out)[:200]}))
    if profile := row.text("profile_name").strip():
        remarks.append(Remark("profile", {"name": profile[:80]}))
    limit = row.number_in("timeout_seconds")
    if not limit or limit < 1:
        limit = USUAL_LIMIT
        remarks.append(Remark("timeout", {"seconds": limit}))
    retries = row.number_in("max_retries") or 0
    if not row.is_true("retry_on_fail", otherwise=retries > 0):
        retries = 0
    description = " ".join(row.text("description").split())
    if len(description) > 500:
        remarks.append(Remark("cut", {"n": 500}))
    return {
        "description": description[:500],
        "job_type": KINDS[kind],
        "schedule": "" if kind == "manual" else schedule,
        "timezone": zone,
        **{field: row.text(field).strip() for field in LONGEST},
        "parameters": parameters,
        "timeout_seconds": min(int(limit), 30 * 86_400),
        "max_retries": max(0, min(int(retries), 100)),
    }, remarks


def _parameters(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the parameters that a job may have, as text, and the names of the others."""
    try:
        read = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return {}, ["?"]
    if not isinstance(read, dict):
        return {}, ["?"] if read else []
    kept, left_out = {}, []
    for name, value in read.items():
        plain = isinstance(value, str | int | float | bool)
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        if VARIABLE.fullmatch(name) and plain and "\0" not in shown and "\n" not in shown:
            kept[name] = shown
        elif value is not None:
            left_out.append(name)
    return kept, left_out


def others_beside(database: Path) -> dict[str, int]:
    """Return how much of what a BACH keeps in files lies around its database, by kind."""
    found: dict[str, int] = {}
    for folder in (database.parent, database.parent.parent, database.parent.parent / "system"):
        services = folder / "hub" / "_services"
        for kind, pattern in BESIDE.items():
            if kind not in found and (
                count := sum(_entries(file) for file in services.glob(pattern))
            ):
                found[kind] = count
    return found


def _entries(file: Path) -> int:
    """Return how many entries a file holds: those of its one list, or itself."""
    try:
        told = json.loads(files.text(file, LONGEST_FILE))
    except (files.FileError, ValueError, RecursionError):
        return 0
    lists = (
        [value for value in told.values() if isinstance(value, list | dict)]
        if isinstance(told, dict)
        else [told]
    )
    return len(lists[0]) if len(lists) == 1 and file.name == "config.json" else 1

"""Drafts from the database of an original BACH."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from daemon_app.intake.drafts import Draft, Remark, named, origin
from daemon_app.models.job import MAX_COMMAND, VARIABLE

if TYPE_CHECKING:
    from daemon_app.legacy import Legacy, Row

KINDS: Final = {"interval": "interval", "cron": "cron", "manual": "manual", "once": "once"}
LATER: Final = {"chain", "event"}
USUAL_LIMIT: Final = 300  # seconds; what the original took when none was given
LONGEST: Final = {"command": MAX_COMMAND, "script_path": 1024, "arguments": 4096}


def drafts(read: Legacy, *, zone: str) -> list[Draft]:
    """Return a draft for each job of the database, in its order; times are meant in `zone`."""
    return named(_draft(row, zone) for row in read.jobs)


def _draft(row: Row, zone: str) -> Draft:
    name = row.text("name").strip() or f"job-{row.number}"
    draft = Draft(name[:200], origin("bach", row.table, row.number), row.where)
    kind = row.text("job_type", "type").strip().lower()
    if kind in LATER:
        return draft.refused(kind)
    if kind not in KINDS:
        return draft.refused("kind", kind=kind[:40] or "?")
    texts = {field: row.text(field).strip() for field in LONGEST}
    for field, text in texts.items():
        if len(text) > LONGEST[field]:
            return draft.refused("too_long", limit=LONGEST[field])
        if "\0" in text:
            return draft.refused("nul")
    if not texts["command"] and not texts["script_path"]:
        return draft.refused("no_command")
    remarks: list[Remark] = []
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
    if not limit or limit < 0:
        limit = USUAL_LIMIT
        remarks.append(Remark("timeout", {"seconds": limit}))
    retries = row.number_in("max_retries") or 0
    if not row.is_true("retry_on_fail", otherwise=retries > 0):
        retries = 0
    was_active = row.is_true("is_active", otherwise=True)
    if not was_active:
        remarks.append(Remark("was_off"))
    description = " ".join(row.text("description").split())
    if len(description) > 500:
        remarks.append(Remark("cut", {"n": 500}))
    fields: dict[str, Any] = {
        "description": description[:500],
        "job_type": KINDS[kind],
        "schedule": "" if kind == "manual" else schedule,
        "timezone": zone,
        **texts,
        "parameters": parameters,
        "timeout_seconds": min(int(limit), 30 * 86_400),
        "max_retries": max(0, min(int(retries), 100)),
    }
    return Draft(draft.name, draft.origin, row.where, fields, tuple(remarks), was_active=was_active)


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

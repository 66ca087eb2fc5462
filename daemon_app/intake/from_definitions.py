"""Drafts from what `bach export` writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon_app.intake import definitions
from daemon_app.intake.drafts import Draft, Remark, origin

if TYPE_CHECKING:
    from collections.abc import Mapping


def drafts(files: Mapping[str, str]) -> list[Draft]:
    """Return a draft for each job that files define. Raises DefinitionError.

    A job whose name is there already is left alone; `bach apply` changes those.
    """
    found = []
    for name, text in files.items():
        for each in definitions.read(text, name):
            fields = {key: value for key, value in each.said.items() if key != "name"}
            was_active = bool(fields.pop("is_active", True))
            remarks = () if was_active else (Remark("was_off"),)
            found.append(
                Draft(
                    each.name,
                    origin("definition", each.name),
                    each.where,
                    fields,
                    remarks,
                    was_active=was_active,
                    is_by_name=True,
                )
            )
    return found

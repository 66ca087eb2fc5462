"""The end of the audit log, noted now and then in the journal: outside of the database it is of.

Whoever cuts rows off, or writes all of them anew, has to know of these notes as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from daemon_app import journal
from daemon_app.models import change

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

SKILL: Final = "audit"
MARK: Final = f'"skill": "{SKILL}"'.encode()

_noted: str = ""  # the digest that this process has noted last


def note(now: datetime) -> None:
    """Note which row is the newest and its digest, if that is news."""
    global _noted  # noqa: PLW0603 - one journal
    newest = change.newest()
    if newest is None or newest.digest == _noted:
        return
    facts = {"row": newest.pk, "digest": newest.digest}
    if journal.write(SKILL, journal.INFO, "the newest row of the audit log", facts, now=now):
        _noted = newest.digest


def noted() -> dict[int, str]:
    """Return {row: its digest} of what was noted and is still in the journal."""
    newest = journal.path()
    files = [newest, *(newest.with_name(f"{newest.name}.{n}") for n in range(1, journal.FILES))]
    found: dict[int, str] = {}
    for file in reversed(files):
        for said in _said(file):
            row, digest = said.get("row"), said.get("digest")
            if isinstance(row, int) and isinstance(digest, str):
                found[row] = digest
    return found


def _said(file: Path) -> Iterator[dict[str, Any]]:
    """Yield what our lines in a file of the journal say; others write there, too."""
    try:
        with file.open("rb") as lines:
            for line in lines:
                if MARK not in line:
                    continue
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                data = said.get("data") if isinstance(said, dict) else None
                if isinstance(data, dict) and said.get("skill") == SKILL:
                    yield data
    except OSError:
        return

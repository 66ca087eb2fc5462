"""How many people have been here lately, by the marks that the web processes leave."""

from datetime import datetime
from pathlib import Path
from typing import Final

from daemon_app.checks import Context, check
from daemon_app.readings import Reading, State

RECENT: Final = 300.0  # seconds


@check("active_users", seconds=2.0)
def active_users(context: Context) -> Reading:
    """Count the marks that were touched in the last five minutes: one for each session."""
    try:
        marks = list((context.runtime / "here").iterdir())
    except FileNotFoundError:
        marks = []  # nobody has ever been here
    except OSError as error:
        wrong = {"error": error.strerror or ""}
        return Reading("active_users", State.UNKNOWN, None, "users_failed", wrong)
    count = sum(_is_recent(mark, context.now) for mark in marks)
    code = {0: "users_none", 1: "users_one"}.get(count, "users_many")
    return Reading("active_users", State.OK, count, code, {"count": count, "seconds": RECENT})


def _is_recent(mark: Path, now: datetime) -> bool:
    try:
        touched = mark.lstat().st_mtime
    except OSError:
        return False  # it has just gone
    # Either way: a clock that was set does not make people leave.
    return abs(now.timestamp() - touched) < RECENT

"""How much room is left where the exports lie, and when it will be used up."""

import shutil
from pathlib import Path
from typing import Any, Final

from daemon_app.ballast import LOW, LOW_SHARE
from daemon_app.checks import Context, check
from daemon_app.readings import Reading, State

MEGABYTE: Final = 1_000_000
GIGABYTE: Final = 1_000_000_000
# Less than a hundredth of a disk counts as full, but of a large one no more than this.
FULL: Final = GIGABYTE


@check("disk", seconds=5.0)
def disk(context: Context) -> Reading:
    """Measure; the value is what is free in GB.

    Facts: free_bytes, free_mb, used_bytes, total_bytes, path, full_in_seconds (None without a
    clear trend).
    """
    folder = _existing(context.exports)
    try:
        total, used, free = shutil.disk_usage(folder)
    except OSError as error:
        wrong = {"path": str(folder), "error": error.strerror or ""}
        return Reading("disk", State.UNKNOWN, None, "disk_failed", wrong)
    full_in = round(free / context.filling) if context.filling else None
    facts: dict[str, Any] = {
        "free_bytes": free,
        "free_mb": free // MEGABYTE,
        # With what is free less than the whole, where some is kept for the system.
        "used_bytes": used,
        "total_bytes": total,
        "path": str(folder),
        "full_in_seconds": full_in,
    }
    state, code = State.OK, "disk_ok" if full_in is None else "disk_filling"
    if free < full_below(total):
        state, code = State.FULL, "disk_full"
    elif free < context.policy.disk_low_gb * GIGABYTE:
        state, code = State.LOW, "disk_low" if full_in is None else "disk_low_filling"
        facts["limit_gb"] = context.policy.disk_low_gb
    return Reading("disk", state, round(free / GIGABYTE, 3), code, facts)


def full_below(total: int) -> int:
    """Return with how many free bytes a disk of `total` counts as full."""
    return max(min(total // 100, FULL), min(LOW, total // LOW_SHARE))


def _existing(folder: Path) -> Path:
    """Return `folder`, or the nearest above it that is there."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)

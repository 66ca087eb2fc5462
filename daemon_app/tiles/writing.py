"""What commands have written, as text for people."""

import re

from daemon_app import output
from daemon_app.models.run import folder_of

# Terminal escapes (CSI, OSC, others), and what has no shape of its own.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
REPORT = '{"progress":'
UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def last_line_of(run_id: int) -> str:
    """Return what a run wrote last; "" for nothing, or where its file is gone."""
    try:
        _offset, written = output.tail(folder_of(run_id), 3)
    except (OSError, ValueError):
        return ""
    return plain(written)


def plain(written: bytes) -> str:
    """Return the last line with something in it, without escapes, at most 200 characters."""
    lines = (line.strip() for line in reversed(readable(written).split("\n")))
    # A report of progress is shown as that.
    return next((line[:200] for line in lines if line and not line.startswith(REPORT)), "")


def readable(written: bytes) -> str:
    """Return output as text without escapes; a carriage return overwrites what stood before it."""
    text = ESCAPES.sub("", written.decode(errors="replace")).replace("\r\n", "\n")
    return "\n".join(
        UNSHOWN.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n")
    )

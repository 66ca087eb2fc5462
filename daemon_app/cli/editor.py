"""A text in somebody's editor, until it is taken or they give up; nothing written is lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

from daemon_app.cli import project, terminal
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

EDITORS = ("editor", "nano", "vim", "vi")
COMMENT, REASON = "#", "#!"  # begin the lines that say nothing, and those that say what is wrong

T = TypeVar("T")


class UnfitError(Exception):
    """A text that can't be taken, and why; with `is_final` no other text could be."""

    def __init__(self, *reasons: str, is_final: bool = False) -> None:
        super().__init__(*reasons)
        self.reasons, self.is_final = reasons, is_final


def ask(name: str, text: str, take: Callable[[str], T]) -> T | None:
    """Let somebody change `text` until `take` takes it; return what that returns.

    None when they change nothing. What `take` refuses (UnfitError) comes back with the reasons.
    Raises Refusal when they give up, and says where their text is.
    """
    editor = _editor()
    folder = Path(tempfile.mkdtemp(prefix="bach-edit-"))  # nobody else may look into it
    file = folder / f"{name.replace('/', '-') or 'job'}.yaml"
    shown, refused = text, UnfitError()
    try:
        while True:
            file.write_text(shown)
            code = _run(editor, file)
            written = file.read_text(errors="replace")
            if code:
                refused = UnfitError(_("The editor ended with %(code)s.") % {"code": code})
            elif not content(written) or written == shown:
                if not refused.reasons:
                    file.unlink()
                    terminal.note(_("Nothing has been changed."))
                    return None
            else:
                try:
                    taken = take(written)
                except UnfitError as error:
                    refused = error
                    # Without a person the same editor would do the same again.
                    if sys.stdin.isatty() and not error.is_final:
                        shown = _with_reasons(written, error.reasons)
                        continue
                else:
                    file.unlink()
                    return taken
            raise _given_up(refused, file, text)
    finally:
        with suppress(OSError):  # what somebody wrote stays there
            folder.rmdir()


def content(text: str) -> str:
    """Return the lines of a text that say something."""
    said = (line for line in text.splitlines() if not line.lstrip().startswith(COMMENT))
    return "\n".join(line for line in said if line.strip())


def _with_reasons(text: str, reasons: tuple[str, ...]) -> str:
    """Return a text with the reasons why it was refused above it, in place of earlier ones."""
    own = [line for line in text.splitlines() if not line.startswith(REASON)]
    told = [_("Not saved:"), *(f"  {' '.join(each.split())}" for each in reasons)]
    return "\n".join([*(f"{REASON} {line}" for line in told), *own, ""])


def _given_up(why: UnfitError, file: Path, text: str) -> Refusal:
    """Return what is said when nothing was taken; the file goes when nobody wrote into it."""
    reasons = [terminal.shown(each) for each in why.reasons]
    if file.read_text(errors="replace") == text:
        file.unlink()
    else:
        reasons.append(_("Your text is kept: %(file)s") % {"file": file})
    return Refusal(
        _("Nothing has been changed."),
        "\n".join(reasons),
        code=Code.NOT_FOUND if why.is_final else Code.FAILED,
    )


def _editor() -> str:
    """Return the command line of the editor. Raises Refusal where there is none to ask."""
    for name in ("VISUAL", "EDITOR"):
        if os.environ.get(name, "").strip():
            return os.environ[name]
    if sys.stdin.isatty():
        for name in EDITORS:
            if shutil.which(name):
                return name
    raise Refusal(
        _("There is no editor here: say with options what the job is to be."),
        _("All options: %(bach)s job edit --help") % {"bach": project.program()},
        code=Code.USAGE,
    )


def _run(editor: str, file: Path) -> int:
    """Let somebody edit a file; return the exit code of the editor. Ctrl+C there is not for us."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        """Do nothing. The editor gets its usual way back; an ignored signal it would inherit."""

    before = signal.signal(signal.SIGINT, leave)
    try:
        # As git does: the variable is a line for the shell.
        return subprocess.run(
            ["/bin/sh", "-c", f'{editor} "$@"', editor, str(file)], check=False
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)

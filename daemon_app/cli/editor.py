"""A text in somebody's editor, until it is taken or they give up; nothing written is lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from daemon_app.cli import project, terminal
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

EDITORS = ("editor", "nano", "vim", "vi")
LONGEST_NAME = 40  # characters of a file's name, of which each may have four bytes
COMMENT, REASON = "#", "#!"  # begin the lines that say nothing, and those that say what is wrong

LINE = re.compile(r"\w+ (\d{1,7}):")

T = TypeVar("T")


@dataclass(frozen=True)
class Reason:
    """Why a text can't be taken, and the line that is meant; None for no single one."""

    said: str
    line: int | None = None

    @classmethod
    def of(cls, said: str) -> "Reason":
        """Return a reason whose words begin with the line: "Zeile 3: …"."""
        found = LINE.match(said)
        return cls(said, int(found[1]) if found else None)


class UnfitError(Exception):
    """A text that can't be taken, and why; with `is_final` no other text could be."""

    def __init__(self, *reasons: Reason, is_final: bool = False) -> None:
        super().__init__(*(each.said for each in reasons))
        self.reasons, self.is_final = reasons, is_final


def ask(name: str, text: str, take: Callable[[str], T]) -> T | None:
    """Let somebody change `text` until `take` takes it; return what that returns.

    None when they change nothing. What `take` refuses (UnfitError) comes back with the reasons.
    Raises Refusal when they give up, and says where their text is.
    """
    editor = _editor()
    folder = Path(tempfile.mkdtemp(prefix="bach-edit-"))  # nobody else may look into it
    file = folder / f"{name.replace('/', '-')[:LONGEST_NAME] or 'job'}.yaml"
    shown, refused = text, UnfitError()
    try:
        while True:
            file.write_text(shown, encoding="utf-8")
            code = _run(editor, file)
            written = _written(file)
            if written is None:
                refused = UnfitError(Reason(_("Your text is no UTF-8.")))
            elif code:
                refused = UnfitError(Reason(_("The editor ended with %(code)s.") % {"code": code}))
            elif not content(written) or written == shown:
                if not refused.reasons:
                    file.unlink(missing_ok=True)
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
                    file.unlink(missing_ok=True)
                    return taken
            raise _given_up(refused, file, text)
    finally:
        with suppress(OSError):  # what somebody wrote stays there
            folder.rmdir()


def _written(file: Path) -> str | None:
    """Return what is in a file, "" when it is gone; None when it is no text."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return None


def content(text: str) -> str:
    """Return the lines of a text that say something."""
    said = (line for line in text.splitlines() if not line.lstrip().startswith(COMMENT))
    return "\n".join(line for line in said if line.strip())


def _with_reasons(text: str, reasons: Sequence[Reason]) -> str:
    """Return a text with each reason above the line that is meant, in place of earlier ones."""
    lines = [f"{REASON} {_('Not saved:')}", *(_remark(each) for each in reasons if not each.line)]
    for number, line in enumerate(text.splitlines(), start=1):
        lines += [_remark(each) for each in reasons if each.line == number]
        if not line.startswith(REASON):
            lines.append(line)
    return "\n".join([*lines, ""])


def _remark(reason: Reason) -> str:
    return f"{REASON}   {' '.join(LINE.sub('', reason.said).split())}"


def _given_up(why: UnfitError, file: Path, text: str) -> Refusal:
    """Return what is said when nothing was taken; the file goes when nobody wrote into it."""
    reasons = [terminal.shown(each.said) for each in why.reasons]
    if _written(file) in {"", text}:
        file.unlink(missing_ok=True)
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

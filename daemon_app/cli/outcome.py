"""How a command ends: the exit codes, and a refusal that says the way out."""

from enum import IntEnum
from typing import IO, Any

import click

from daemon_app.cli.language import gettext as _


class Code(IntEnum):
    """What the shell gets; `docs/cli.md` explains each."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_FOUND = 4
    ALREADY_RUNNING = 5
    NOT_SET_UP = 6
    HELD = 7
    WOULD_CHANGE = 8
    TIMED_OUT = 124  # as timeout(1) has it
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class Refusal(click.ClickException):
    """A command that can't do what it was asked: why, what to do about it, and the exit code."""

    def __init__(self, why: str, way_out: str = "", *, code: Code = Code.FAILED) -> None:
        super().__init__(why)
        self.way_out = way_out
        self.code = code

    def show(self, file: IO[Any] | None = None) -> None:
        """Write both to standard error."""
        click.echo(_("Error: {message}").format(message=self.message), file=file, err=True)
        if self.way_out:
            click.echo(self.way_out, file=file, err=True)

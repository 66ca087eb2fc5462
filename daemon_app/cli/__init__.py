"""`bach`: everything about the daemon that a terminal can do.

The commands' modules import Django when they run, not when they are read: `bach --help` answers
at once. Exit codes stand in `outcome.Code`.
"""

import contextlib
import errno
import os
import sys
from typing import NoReturn

import click

from daemon_app.cli import (
    access,
    audit,
    clicks,
    completion,
    definitions,
    demo,
    doctor,
    health,
    incidents,
    job,
    jobs,
    moving,
    original,
    output,
    presence,
    progress,
    queue,
    rules,
    service,
    start,
    why,
)
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

clicks.translate_click()


@click.group(
    cls=clicks.Group,
    help=_("BACH runs commands on a schedule and shows what became of them."),
    examples=(
        ("bach up", _("start everything")),
        ("bach daemon login", _("sign in to the web pages")),
        ("bach daemon jobs", _("what there is to run")),
        ("bach daemon run 1 --follow", _("run job 1 now, and watch")),
    ),
    epilog=_("More about a command: bach COMMAND --help"),
    context_settings={"help_option_names": ["-h", "--help"]},
    later=original.LATER,
)
@click.version_option(package_name="bach-daemon", prog_name="bach", message="%(prog)s %(version)s")
def bach() -> None:
    """Hold all commands."""


@click.group(
    cls=clicks.Group,
    help=_("The daemon: it starts jobs when they are due."),
    examples=(
        ("bach daemon start --bg", ""),
        ("bach daemon status", ""),
        ("bach daemon run nightly-backup --follow", ""),
    ),
    later=original.LATER_OF_DAEMON,
)
def daemon() -> None:
    """Hold the commands about the daemon."""


for command in (
    service.start,
    service.stop,
    service.status,
    health.health,
    health.skills,
    why.why,
    jobs.jobs,
    jobs.run,
    output.of_run,
    queue.queue,
    queue.move,
    queue.force,
    queue.drop,
    queue.cancel,
    queue.hold,
    queue.resume,
    presence.here,
    presence.away,
    rules.pools,
    rules.policy,
    incidents.incidents,
    service.logs,
    doctor.doctor,
    doctor.unit,
    access.login,
    access.token,
    audit.audit,
):
    daemon.add_command(command)
for part in (
    start.up,
    start.gui,
    daemon,
    job.job,
    moving.import_,
    definitions.export,
    definitions.apply,
    progress.progress,
    demo.demo,
    completion.completion,
):
    bach.add_command(part)


def main() -> NoReturn:
    """Run the command that the arguments name, and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command; return its exit code. What went wrong has been said by then."""
    _open_streams()
    if completion.is_asked():
        completion.prepare(bach)
    try:
        code = bach.main(original.with_topic(arguments), prog_name="bach", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return Code.INTERRUPTED
    except BrokenPipeError:
        _write_no_more()  # `| head` has seen enough
        return Code.PIPE_CLOSED
    except (click.ClickException, OSError, UnicodeEncodeError) as error:
        refusal = _refusal(error, arguments)
        refusal.show()
        return getattr(refusal, "code", refusal.exit_code)
    except SystemExit as ended:
        # Click's own answer to a closed pipe is 1; 0 ends what completes words in a shell.
        return Code.PIPE_CLOSED if ended.code else Code.OK
    return code if isinstance(code, int) else Code.OK


def _open_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # somebody closed it: `>&-`
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show "→" shows "?"; it is no reason to fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


def _write_no_more() -> None:
    """Let standard output go nowhere: Python flushes it at its end, and would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refusal(error: Exception, arguments: list[str]) -> click.ClickException:
    """Return what is said of an error that nobody here can help; raise it if it is ours."""
    if isinstance(error, click.ClickException):
        return error
    # Paths may be any bytes; what is kept, or looked for in the database, is text.
    is_half = any("\udc80" <= letter <= "\udcff" for letter in "".join(arguments))
    if isinstance(error, UnicodeEncodeError) and is_half:
        return Refusal(_("What you typed is no text in UTF-8."), code=Code.USAGE)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        _write_no_more()
        return Refusal(_("It can't be written: there is no room left."), str(error.filename or ""))
    raise error

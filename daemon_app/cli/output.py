"""`bach daemon log` and `bach job logs`: what a run has written, and what it goes on writing."""

from typing import TYPE_CHECKING

import click

from daemon_app.cli import jobs, project, queue, terminal
from daemon_app.cli.clicks import Command, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from daemon_app.models import Run

FOLLOW = click.option(
    "-f", "--follow", is_flag=True, help=_("Go on until its end; the exit code is the command's.")
)
LINES = click.option(
    "-n",
    "--lines",
    type=WholeNumber(0, 1_000_000, 100),
    help=_("Only so many of the last lines; everything that is kept unless given."),
)
ATTEMPT = click.option(
    "--attempt", type=WholeNumber(1, 10_000, 1), help=_("Of this attempt; else of the last one.")
)


@click.command(
    cls=Command,
    name="log",
    help=_(
        "Show what a run has written, byte for byte unless it is on a terminal.\n\n"
        "With --follow it goes on until the run ends, and the exit code is the command's. Ctrl+C "
        "ends the watching, not the run."
    ),
    examples=(
        ("bach daemon log 17", ""),
        ("bach daemon log 17 -f", ""),
        ("bach daemon log 17 --attempt 1 | grep -i error", ""),
    ),
    short_help=_("Show what a run has written."),
)
@click.argument("run", metavar=_("RUN"))
@FOLLOW
@LINES
@ATTEMPT
def of_run(run: str, *, follow: bool, lines: int | None, attempt: int | None) -> int:
    """Show the output of a run."""
    with project.database(queue=False):
        return _show(queue.find(run), follow=follow, lines=lines, attempt=attempt)


@click.command(
    cls=Command,
    name="logs",
    help=_(
        "Show what the newest run of a job has written.\n\n"
        "With --follow it goes on until that run ends, and the exit code is the command's. Ctrl+C "
        "ends the watching, not the run. Earlier runs: bach job history, bach daemon log RUN."
    ),
    examples=(
        ("bach job logs nightly-backup", ""),
        ("bach job logs nightly-backup -f", ""),
        ("bach job logs 3 -n 20", ""),
    ),
    short_help=_("Show what a job's newest run has written."),
)
@jobs.JOB
@FOLLOW
@LINES
def of_job(job: str, *, follow: bool, lines: int | None) -> int:
    """Show the output of a job's newest run that began; of one that waits, if it is followed."""
    with project.database(queue=False):
        from daemon_app.models import Run

        found = jobs.find(job)
        runs = Run.objects.filter(job=found).order_by("-id")
        newest = runs.exclude(started_at=None).first()
        active = Run.objects.active_of(found.pk).order_by("-id").first()
        run = active if follow and active else newest
        if run is None:
            raise Refusal(
                _("%(job)s has not run yet.") % {"job": terminal.shown(found.name)},
                _("Start it: %(bach)s daemon run %(n)s")
                % {"bach": project.program(), "n": found.pk},
                code=Code.NOT_FOUND,
            )
        return _show(run, follow=follow, lines=lines, attempt=None)


def _show(run: "Run", *, follow: bool, lines: int | None, attempt: int | None) -> int:
    """Write the output of a run; return what the shell gets."""
    from daemon_app import output

    if attempt is not None and attempt != run.attempt:
        if follow:
            raise Refusal(_("What has ended can't be followed: leave --attempt."), code=Code.USAGE)
        earlier = run.attempts.filter(number=attempt).first()
        if earlier is None:
            raise Refusal(
                _("Run %(n)s has no attempt %(attempt)s.") % {"n": run.pk, "attempt": attempt},
                code=Code.NOT_FOUND,
            )
        return _written(run, earlier.folder, lines)
    if follow:
        start = 0 if lines is None else output.tail(run.folder, lines)[0]
        return jobs.followed(run, as_json=False, offset=start)
    return _written(run, run.folder, lines)


def _written(run: "Run", folder: "Path", lines: int | None) -> int:
    from daemon_app import output

    start = 0 if lines is None else output.tail(folder, lines)[0]
    with terminal.output() as write:
        end = jobs.copied(folder, start, write)
    if run.output_removed:
        terminal.note(_("The output of run %(n)s has been tidied away.") % {"n": run.pk})
    elif not end:
        terminal.note(_("Run %(n)s has written nothing.") % {"n": run.pk})
    return Code.OK

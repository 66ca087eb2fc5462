"""`bach progress`: what a job's command says of itself."""

import os

import click

from daemon_app import progress as reports
from daemon_app.cli import clicks
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal


@click.command(
    cls=clicks.Command,
    # What looks like an option may be a label, or a number below zero.
    context_settings={"ignore_unknown_options": True},
    help=_("Say from inside of a job's command how far it has come."),
    examples=(
        ("bach progress 40", _("40 per cent are done")),
        (_('bach progress 40 "step 2"'), _("… and what comes now")),
    ),
)
@click.argument("percent", metavar="PERCENT")
@click.argument("label", metavar="[LABEL]", nargs=-1)
def progress(percent: str, label: tuple[str, ...]) -> None:
    """Report it, or say why not."""
    said = reports.from_words([percent, *label])
    if said is None:
        raise Refusal(
            _("“{percent}” is not a number from 0 to 100.").format(percent=percent),
            _('Like this: bach progress 40 "step 2"'),
            code=Code.USAGE,
        )
    try:
        reports.report(said, os.environ)
    except reports.NotInRunError as error:
        raise Refusal(
            _("This was not started by the daemon, so there is no run to report for."),
            _(
                "Put “bach progress” into the command of a job, and start that:"
                " bach daemon run JOB --follow"
            ),
            code=Code.USAGE,
        ) from error
    except OSError as error:
        raise Refusal(
            _("Cannot write {path}: {reason}.").format(
                path=os.environ[reports.FILE], reason=error.strerror
            ),
        ) from error

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
        (_('bach progress --token "page 17"'), _("where to go on after making room")),
    ),
)
@click.argument("percent", metavar="PERCENT", required=False)
@click.argument("label", metavar="[LABEL]", nargs=-1)
@click.option(
    reports.OPTION,
    metavar=_("TEXT"),
    help=_("what the command finds in BACH_PROGRESS_TOKEN when it begins again"),
)
@click.pass_context
def progress(
    context: click.Context, percent: str | None, label: tuple[str, ...], token: str | None
) -> None:
    """Report it, or say why not."""
    if percent is None and token is None:
        raise click.MissingParameter(ctx=context, param=context.command.params[0])
    words = [] if percent is None else [percent, *label]
    try:
        said = reports.from_words(words, token)
    except reports.TokenError as error:
        raise Refusal(_why_no_token(error), code=Code.USAGE) from error
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


def _why_no_token(error: reports.TokenError) -> str:
    if error.size is None:
        return _("A token must be text in UTF-8.")
    return _("A token may have up to {most} bytes; this one has {size}.").format(
        most=reports.LONGEST_TOKEN, size=error.size
    )

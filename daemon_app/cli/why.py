"""`bach daemon why`: one plain sentence, then every rule with its reading."""

import contextlib
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

import click

from daemon_app.cli import jobs, project, queue, terminal
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import gettext_noop, pgettext
from daemon_app.cli.outcome import Code
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from daemon_app.why import Explanation

STATES = {
    "ok": (gettext_noop("fulfilled"), "is-ok"),
    "blocked": (gettext_noop("keeps it"), "is-fail"),
    "info": ("", ""),
    "unknown": (gettext_noop("unknown"), ""),
}


@click.command(
    cls=Command,
    help=_(
        "Say why a job runs, or does not: one sentence, then every rule with its reading.\n\n"
        "With --run it is about one run, by its number. With --at it is about what was due then: "
        "what was recorded, never guessed."
    ),
    examples=(
        ("bach daemon why nightly-backup", ""),
        ("bach daemon why nightly-backup --at 03:00", _("what became of it at three")),
        ("bach daemon why 3 --at 2026-11-22T03:00", ""),
        ("bach daemon why --run 17", ""),
    ),
    short_help=_("Say why a job runs, or does not."),
)
@click.argument("job", metavar=_("[ID|NAME]"), required=False)
@click.option("--run", "run", metavar=_("RUN"), help=_("Of this run instead of a job."))
@click.option("--at", metavar=_("TIME"), help=_("What became of the job then: 03:00, or a date."))
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
@click.pass_context
def why(
    context: click.Context, job: str | None, *, run: str | None, at: str | None, as_json: bool
) -> int:
    """Explain a job or a run."""
    if (job is None) == (run is None):
        raise click.UsageError(_("Give a job, or a run with --run."), context)
    if run is not None and at is not None:
        raise click.UsageError(_("--at is about a job; a run tells all of itself."), context)
    with project.database():
        from django.utils import timezone

        from daemon_app import why as explaining

        now = timezone.now()
        if run is not None:
            found = explaining.of_run(queue.find(run), now)
        else:
            assert job is not None  # said above
            then = None if at is None else _instant(at, now)
            end = explaining.whole_minute(then, at) if then and at else None
            found = explaining.of_job(jobs.find(job), now, at=then, end=end)
        if as_json:
            from daemon_app.api.why import told

            terminal.say_json(told(found))
        else:
            _say(found, now)
    return Code.OK


def _instant(written: str, now: datetime) -> datetime:
    """Return what somebody meant: an ISO time, with the machine's zone unless it has its own.

    A time of day alone is its last one. Raises BadParameter.
    """
    from django.utils import timezone

    zone, text = timezone.get_current_timezone(), written.strip()
    at: datetime | None = None
    with contextlib.suppress(ValueError):
        of_day = time.fromisoformat(text)
        at = datetime.combine(now.astimezone(zone).date(), of_day)
        if at.replace(tzinfo=zone) > now:
            at -= timedelta(days=1)
    with contextlib.suppress(ValueError):
        at = at or datetime.fromisoformat(text)
    if at is None or not 1970 < at.year < 9999:
        raise click.BadParameter(
            _("“%(text)s” is no time. For example: 03:00, or 2026-11-22T03:00")
            % {"text": terminal.shown(written)},
            param_hint="--at",
        )
    return at if at.tzinfo else at.replace(tzinfo=zone)


def _say(found: "Explanation", now: datetime) -> None:

    terminal.say(terminal.shown(found.sentence))
    terminal.say()
    rows = []
    for rule in found.rules:
        word, tone = STATES[rule.state]
        rows.append(
            (rule.label, (terminal.marked(_(word), tone) if word else "·", tone), rule.sentence)
        )
    terminal.table(
        (pgettext("column", "Rule"), pgettext("column", "State"), pgettext("column", "Reading")),
        rows,
    )
    if found.history:
        clock = Clock.here(now)
        terminal.say()
        terminal.table(
            (clock.column(pgettext("column", "When")), pgettext("column", "Recorded")),
            [(clock.moment(event.at), event.sentence) for event in found.history],
        )

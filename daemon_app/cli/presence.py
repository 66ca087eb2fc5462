"""`bach daemon here` and `away`: say that you are here, or away, for a time."""

from collections.abc import Callable
from typing import Any

import click

from daemon_app.cli import project, terminal, times
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.times import Clock

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))


def _options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that both commands have."""
    for option in (
        JSON,
        click.option("--clear", is_flag=True, help=_("Take back what was said.")),
        click.option(
            "--until",
            metavar=_("TIME"),
            help=_("Until then: 18:00, 2026-12-24T18:00; at most 7 days from now."),
        ),
        click.option(
            "--for", "length", metavar=_("LENGTH"), help=_("For so long: 30m, 2h, 1d; else 8h.")
        ),
    ):
        command = option(command)
    return command


@click.command(
    cls=Command,
    help=_(
        "Say that you are here: the machine counts as busy until the end of that.\n\n"
        "Jobs that need it idle wait, and those that make way for people do so at once."
    ),
    examples=(
        ("bach daemon here", ""),
        ("bach daemon here --for 2h", ""),
        ("bach daemon here --clear", ""),
    ),
    short_help=_("Say that you are here."),
)
@_options
def here(*, length: str | None, until: str | None, clear: bool, as_json: bool) -> int:
    """Make the machine busy."""
    return _say("here", length, until, clear=clear, as_json=as_json)


@click.command(
    cls=Command,
    help=_(
        "Say that you are away: people's requests, programs and logins count for nothing until "
        "the end of that.\n\nModels at work and the load of others go on counting."
    ),
    examples=(
        ("bach daemon away --until 18:00", ""),
        ("bach daemon away --for 30m", ""),
        ("bach daemon away --clear", ""),
    ),
    short_help=_("Say that you are away."),
)
@_options
def away(*, length: str | None, until: str | None, clear: bool, as_json: bool) -> int:
    """Let the machine be idle."""
    return _say("away", length, until, clear=clear, as_json=as_json)


def _say(
    presence: str, length: str | None, until: str | None, *, clear: bool, as_json: bool
) -> int:
    with project.database():
        from django.core.exceptions import ValidationError
        from django.utils import timezone

        from daemon_app.api import glance
        from daemon_app.models import Policy

        now = timezone.now()
        if sum(map(bool, (length, until, clear))) > 1:
            raise Refusal(
                _("Give one of --for, --until and --clear, not several."), code=Code.USAGE
            )
        end = times.after(length, now) if length else times.at(until, now) if until else None
        said = "" if clear else presence
        try:
            changed = Policy.set_presence(said, now=now, by=project.user()[:150], until=end)
        except ValidationError as error:
            raise Refusal(" ".join(error.messages), code=Code.USAGE) from error
        policy = Policy.current()
        if as_json:
            terminal.say_json(glance.presence_told(policy, now, known=True))
            return Code.OK
        if clear:
            terminal.say(
                _("What is seen counts again.") if changed else _("Nothing had been said.")
            )
            return Code.OK
        facts: dict[str, Any] = {
            "when": Clock.here(now).told(policy.presence_until or now),
            "bach": project.program(),
            "word": presence,
        }
        words = {
            "here": _("You are here until: %(when)s."),
            "away": _("You are away until: %(when)s."),
        }
        terminal.say(words[presence] % facts)
        terminal.say(_("Take it back: %(bach)s daemon %(word)s --clear") % facts)
    return Code.OK

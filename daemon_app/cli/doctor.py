"""`bach daemon doctor` and `bach daemon unit`: what could be wrong, and how to run as a service."""

import os
import shutil
import sys
from pathlib import Path

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _

TONES = {"ok": "is-ok", "info": "is-quiet", "warn": "is-warn", "error": "is-fail"}


@click.command(
    cls=Command,
    help=_(
        "Look for what could keep BACH from working, and say what can be done about it.\n\n"
        "Ends with 0 when all is well, with 1 when there are warnings, with 2 when there are "
        "problems."
    ),
    examples=(
        ("bach daemon doctor", ""),
        ("bach daemon doctor --json", ""),
    ),
    short_help=_("Look for what could be wrong, and say what to do."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def doctor(as_json: bool) -> int:
    """Show the findings of all checks."""
    project.configure()
    from django.utils import timezone

    from daemon_app import doctor as practice

    with terminal.progress(_("Checks"), len(practice.CHECKS), is_long=not as_json) as told:
        found = practice.examine(timezone.now(), told)
    code = practice.exit_code(found)
    if as_json:
        terminal.say_json({"ok": code == 0, "findings": [finding.__dict__ for finding in found]})
        return code
    for finding in found:
        mark = {"ok": "✓", "info": "·", "warn": "!", "error": "✗"}[finding.level]
        text = terminal.shown(f"{mark} {finding.title}: {finding.text}")
        terminal.say(text, tone=TONES[finding.level])
        for line in finding.way_out.splitlines():
            terminal.say(f"    {terminal.shown(line)}")
    return code


@click.command(
    cls=Command,
    help=_(
        "Print a systemd unit that runs BACH as a service of yours.\n\n"
        "What BACH_ variables are set now is written into it."
    ),
    examples=(
        (
            "bach daemon unit > ~/.config/systemd/user/bach.service",
            _("then: systemctl --user enable --now bach"),
        ),
    ),
    short_help=_("Print a systemd unit."),
)
def unit() -> int:
    """Print the unit."""
    project.configure()
    from django.conf import settings

    from daemon_app import systemd

    called = Path(sys.argv[0])
    program = str(called.absolute()) if called.name == "bach" else shutil.which("bach") or "bach"
    kept = {name: value for name, value in os.environ.items() if name.startswith("BACH_")}
    if url := os.environ.get("DATABASE_URL"):
        kept["DATABASE_URL"] = url
    kept["BACH_DATA_DIR"] = str(settings.DATA_DIR)
    drains = settings.ON_STOP == "drain"
    terminal.say(
        systemd.unit(
            file="~/.config/systemd/user/bach.service",
            command=[program, "up", "--no-open"],
            environment=kept,
            drain_seconds=settings.DRAIN_SECONDS if drains else None,
            why=_("What still runs after the drain is ended, too.")
            if drains
            else _("Running commands go on when BACH is stopped, and are found again."),
        ).rstrip()
    )
    return 0

"""`bach daemon login` and `bach daemon token`: who may use the pages and the REST interface."""

import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import language, project, terminal
from daemon_app.cli.clicks import Command, Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import gettext_noop, pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from daemon_app.models import Token

ROLES = ("viewer", "operator", "admin")  # daemon_app.models.access.Role, without Django
DAYS = 90
LONGEST_NAME = 80


@click.command(
    cls=Command,
    help=_(
        "Sign in without a password: opens a link that works once, for five minutes.\n\n"
        "Whoever may read the data folder is its owner, and so may sign in. On a machine without "
        "a screen the link is printed: open it where your browser is."
    ),
    examples=(
        ("bach daemon login", ""),
        ("bach daemon login --print", ""),
        ("bach daemon login --json", ""),
    ),
    short_help=_("Sign in to the web pages."),
)
@click.option("--print", "only_print", is_flag=True, help=_("Print the link, and nothing else."))
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def login(only_print: bool, as_json: bool) -> int:
    """Make a one-time link, and open or print it."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Account, Ticket
        from daemon_app.models.access import TICKET_LIFE

        servers = project.web_servers()
        pages = servers[0].address if servers else f"{project.origin()}/daemon"
        now = timezone.now()
        ticket = Ticket.issue(Account.owner(), now)
        link = f"{pages}/login/#t={ticket}"
    if as_json:
        terminal.say_json({"url": link, "expires_at": now + TICKET_LIFE, "web": bool(servers)})
        return Code.OK
    if not servers:
        terminal.note(
            _("The web pages are not running as far as can be seen. Start them: %(bach)s up")
            % {"bach": project.program()}
        )
    if only_print:
        terminal.say(link)
    elif servers and project.has_display() and _opened(link):
        terminal.say(_("Your browser opens the pages and signs you in."))
        terminal.say(
            _("If it does not: %(bach)s daemon login --print") % {"bach": project.program()}
        )
    else:
        terminal.say(_("Open this link within five minutes; it works once:"))
        terminal.say(link)
    return Code.OK


def _opened(link: str) -> bool:
    """Open `link` in a browser, by way of a file that only its owner can read.

    A browser's command line is for every user of the machine to see, and whoever is first to use
    the link is signed in.
    """
    import html
    import webbrowser

    from django.conf import settings

    page = Path(settings.DATA_DIR) / "login.html"
    page.unlink(missing_ok=True)
    target = html.escape(link)
    descriptor = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={target}">'
            f'<title>BACH</title><p><a href="{target}">BACH</a></p>\n'
        )
    try:
        return webbrowser.open(page.as_uri())
    except webbrowser.Error:
        return False


# ── Tokens ───────────────────────────────────────────────────────────────────────────────────────
@click.group(
    cls=Group,
    help=_(
        "Tokens for programs that use the REST interface.\n\n"
        "A program sends its token with each request, in the header “Authorization”."
    ),
    examples=(
        ("bach daemon token create --name monitoring", ""),
        (
            "curl -H 'Authorization: Bearer bach_…' http://localhost:8000/api/daemon/jobs",
            _("what a program does with it"),
        ),
    ),
    short_help=_("Tokens for programs that use the REST interface."),
)
def token() -> None:
    """Hold the commands about tokens."""


@token.command(
    help=_(
        "Make a token. It is shown this once: only its fingerprint is kept.\n\n"
        "viewer sees jobs, runs and output; operator also starts and stops them; admin also "
        "changes what is executed."
    ),
    examples=(
        ("bach daemon token create --name monitoring", ""),
        ("bach daemon token create --name deploy --role operator --days 30", ""),
    ),
    short_help=_("Make a token; it is shown once."),
)
@click.option("--name", required=True, metavar=_("TEXT"), help=_("What it is for."))
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="viewer",
    show_default=True,
    help=_("What it may do."),
)
@click.option(
    "--days",
    type=WholeNumber(0, 3650, DAYS),
    default=DAYS,
    show_default=True,
    help=_("For how many days it is valid; 0 for ever."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def create(name: str, role: str, days: int, as_json: bool) -> int:
    """Make a token and show it."""
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or terminal.shown(name) != name:
        raise click.BadParameter(
            _("Give a name of 1 to %(n)s characters, for example “monitoring”.")
            % {"n": LONGEST_NAME},
            param_hint="--name",
        )
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Account, Token

        now = timezone.now()
        life = timedelta(days=days) if days else None
        made, text = Token.issue(Account.owner(), name=name, role=role, now=now, life=life)
        if as_json:
            terminal.say_json({**_as_json(made, now), "token": text})
        else:
            terminal.say(text)
            terminal.note(_("Keep it safe: it can't be shown again."))
    return Code.OK


@token.command(
    "list",
    help=_("List all tokens; their secrets are not kept."),
    examples=(
        ("bach daemon token list", ""),
        ("bach daemon token list --json", ""),
    ),
    short_help=_("List all tokens."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def list_(as_json: bool) -> int:
    """Show every token."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import formats
        from daemon_app.models import Token

        now, zone, spoken = timezone.now(), timezone.get_current_timezone(), language.current()
        found = list(Token.objects.order_by("pk"))
        if as_json:
            terminal.say_json([_as_json(token, now) for token in found])
            return Code.OK
        if not found:
            terminal.say(
                _("No tokens yet. Make one: %(bach)s daemon token create --name monitoring")
                % {"bach": project.program()}
            )
            return Code.OK
        rows = []
        for one in found:
            word, tone = _STATES[_state(one, now)]
            rows.append(
                (
                    str(one.pk),
                    one.name,
                    one.role,
                    (terminal.marked(_(word), tone), tone),
                    formats.day(one.created_at, zone, spoken),
                    formats.day(one.expires_at, zone, spoken) if one.expires_at else _("never"),
                    formats.relative(one.last_used_at, now, spoken)
                    if one.last_used_at
                    else _("never"),
                )
            )
        terminal.table(
            (
                pgettext("column", "ID"),
                pgettext("column", "Name"),
                pgettext("column", "Role"),
                pgettext("column", "State"),
                pgettext("column", "Created"),
                pgettext("column", "Expires"),
                pgettext("column", "Last used"),
            ),
            rows,
        )
    return Code.OK


@token.command(
    help=_("Revoke a token: what uses it is refused from now on."),
    examples=(
        ("bach daemon token revoke 3", ""),
        ("bach daemon token revoke 3 --json", ""),
    ),
    short_help=_("Revoke a token."),
)
@click.argument("number", metavar=_("ID"))
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def revoke(number: str, as_json: bool) -> int:
    """End a token's validity."""
    # Somebody may paste the token itself.
    written = re.fullmatch(r"(?:bach_)?([0-9]{1,18})(?:_.*)?", number.strip())
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Token

        found = Token.objects.filter(pk=int(written[1])).first() if written else None
        if found is None:
            raise Refusal(
                _("There is no such token."),
                _("All tokens: %(bach)s daemon token list") % {"bach": project.program()},
                code=Code.NOT_FOUND,
            )
        now = timezone.now()
        revoked = found.revoke(now)
        if as_json:
            found.refresh_from_db()
            terminal.say_json(_as_json(found, now))
            return Code.OK
        name = {"name": found.name, "id": found.pk}
        terminal.say(
            _("Token %(id)s (%(name)s) is revoked.") % name
            if revoked
            else _("Token %(id)s (%(name)s) was revoked already.") % name
        )
    return Code.OK


_STATES = {
    "valid": (gettext_noop("valid"), "is-ok"),
    "expired": (gettext_noop("expired"), ""),
    "revoked": (gettext_noop("revoked"), ""),
}


def _state(token: "Token", now: datetime) -> str:
    if token.revoked_at:
        return "revoked"
    return "expired" if token.expires_at and token.expires_at <= now else "valid"


def _as_json(token: "Token", now: datetime) -> dict[str, Any]:
    return {
        "id": token.pk,
        "name": token.name,
        "role": token.role,
        "state": _state(token, now),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }

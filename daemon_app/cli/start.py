"""`bach up` and `bach gui start`: start what people look at, here, until Ctrl+C."""

import contextlib
import ipaddress
import os
import re
import subprocess
import sys

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Command, Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext
from daemon_app.cli.outcome import Code, Refusal

HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")


class Host(click.ParamType):  # type: ignore[type-arg] # takes arguments since Click 8.5 only
    """An address or a name to listen at."""

    name = "host"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002
        """Return how help names such a value."""
        return _("ADDRESS")

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the address without brackets; fail with an example."""
        text = str(value).strip()
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(text))
        if not HOST_NAME.fullmatch(text):
            self.fail(
                _("“%(text)s” is no address of a machine; a right one is 127.0.0.1.")
                % {"text": value},
                param,
                ctx,
            )
        return text


HOST_OPTION = click.option(
    "--host", type=Host(), help=_("Listen at this address of the machine; 127.0.0.1 if not given.")
)
PORT_OPTION = click.option(
    "--port", type=WholeNumber(1, 65535, 8010), help=_("Listen at this port; 8000 if not given.")
)


@click.command(
    cls=Command,
    help=_(
        "Start everything: web pages, daemon and queue.\n\n"
        "Runs until Ctrl+C. Commands that are running then go on, and are found again at the "
        "next start."
    ),
    examples=(
        ("bach up", ""),
        ("bach up --port 8010", ""),
        ("bach up --no-open", _("do not open a browser")),
    ),
    short_help=_("Start everything, until Ctrl+C."),
)
@HOST_OPTION
@PORT_OPTION
@click.option("--no-open", is_flag=True, help=_("Do not open a browser."))
def up(host: str | None, port: int | None, no_open: bool) -> int:
    """Start web, daemon and cluster; with a daemon running already, the web server alone."""
    listen_at(host, port)
    project.configure()
    from daemon_app import pidfile

    parts = {"web", "daemon", "cluster"}
    running = pidfile.holder(project.daemon_file())
    if running:
        parts = {"web"}
    code = serve(parts, opens_browser=not no_open)
    if not running and code == Code.OK:
        say_what_goes_on()
    return code


@click.group(
    cls=Group,
    help=_("The web pages alone."),
    examples=(("bach gui start", ""),),
)
def gui() -> None:
    """Hold the commands about the web pages."""


@gui.command(
    help=_(
        "Start the web pages alone.\n\n"
        "For a daemon that runs in the background, or on its own. Runs until Ctrl+C."
    ),
    examples=(
        ("bach gui start", ""),
        ("bach gui start --port 8010", ""),
    ),
    short_help=_("Start the web pages alone, until Ctrl+C."),
)
@HOST_OPTION
@PORT_OPTION
def start(host: str | None, port: int | None) -> int:
    """Start the web server."""
    listen_at(host, port)
    project.configure()
    return serve({"web"}, opens_browser=False)


def listen_at(host: str | None, port: int | None) -> None:
    """Hand the options to the settings, which are read once, from the environment."""
    if host is not None:
        os.environ["BACH_HOST"] = host
    if port is not None:
        os.environ["BACH_PORT"] = str(port)


def serve(parts: set[str], *, opens_browser: bool) -> int:
    """Run `parts`, the web server among them, until Ctrl+C; return the exit code.

    Raises Refusal when it may not or can't.
    """
    from django.conf import settings

    from daemon_app import pidfile
    from daemon_app.cli import up as services

    check_exposure()
    address = project.origin()
    daemon = pidfile.holder(project.daemon_file())

    def welcome() -> None:
        terminal.say(_("BACH is running: %(address)s/daemon") % {"address": address})
        if "daemon" not in parts:
            if daemon:
                terminal.say(
                    _("The daemon was running already (process %(pid)s); this is the web server.")
                    % {"pid": daemon.pid}
                )
            else:
                terminal.say(
                    _("No job starts without the daemon. Start it: %(bach)s daemon start")
                    % {"bach": project.program()}
                )
        sys.stdout.flush()
        if terminal.is_terminal():
            # In a process of its own: this one forks, and keeps no connection to the database.
            asked = []
            if not opens_browser:
                asked = ["--print"]
                terminal.say(_("Open this link within five minutes; it works once:"))
                sys.stdout.flush()
            login = [sys.executable, "-m", "daemon_app.cli", "daemon", "login", *asked]
            subprocess.run(login, check=False)
        else:
            # A link that signs in must not end up in a service's log.
            terminal.say(_("Sign in: %(bach)s daemon login") % {"bach": project.program()})
        terminal.say(_("End: Ctrl+C"))
        sys.stdout.flush()

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(pidfile.held(project.web_file(settings.PORT), f"{address}/daemon"))
        except pidfile.Taken as taken:
            raise Refusal(
                _("The web pages are running already: %(address)s/daemon") % {"address": address},
                _("Sign in: %(bach)s daemon login") % {"bach": project.program()},
                code=Code.ALREADY_RUNNING,
            ) from taken
        return services.run(parts, ready=welcome)


def check_exposure() -> None:
    """Refuse to be reached from other machines without what that takes."""
    from django.conf import settings

    from daemon_app import guard
    from daemon_app.cli import up as services

    def why(*, has_password: bool) -> str | None:
        return guard.refusal(
            settings.HOST,
            tls=settings.TLS,
            trusted_proxies=settings.TRUSTED_PROXIES,
            has_password=has_password,
        )

    if why(has_password=False) is None:
        return
    from daemon_app.models import Account

    try:
        services.prepare()
    except services.UnfitError as error:
        why_not, _line, way_out = str(error).partition("\n")
        raise Refusal(why_not, way_out) from error
    accounts = Account.objects.filter(is_active=True).exclude(password="")
    refusal = why(has_password=any(account.has_usable_password() for account in accounts))
    if refusal:
        raise Refusal(refusal)


def say_what_goes_on() -> None:
    """Tell at the end which commands are still running."""
    from daemon_app.models import Run

    with project.database():
        count = Run.objects.running().count()
    terminal.say(_("BACH has ended."))
    if count:
        terminal.say(runs_go_on(count))


def runs_go_on(count: int) -> str:
    """Return what becomes of `count` running runs while no daemon is there."""
    return ngettext(
        "%(n)s run goes on; its end is recorded when the daemon is running again.",
        "%(n)s runs go on; their ends are recorded when the daemon is running again.",
        count,
    ) % {"n": count}

"""The installation a command works on: settings, database, addresses, and how it is called."""

import contextlib
import ipaddress
import logging
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from daemon_app.cli import language
from daemon_app.cli.language import gettext as _
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from datetime import datetime

    from daemon_app.models import Node
    from daemon_app.pidfile import Holder


def program() -> str:
    """Return how this program can be called again from here: "bach", or with its path."""
    called = Path(sys.argv[0])
    if called.name != "bach":
        return "bach"
    if shutil.which("bach") == str(called.absolute()):
        return "bach"
    with contextlib.suppress(ValueError):
        return str(called.absolute().relative_to(Path.cwd()))
    return str(called)


def user() -> str:
    """Return the name of whoever calls, as the operating system knows it."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def configure() -> None:
    """Set up all of Django, and let it speak our language; done again it does nothing.

    Raises Refusal for settings that can't be right.
    """
    import django

    with _settings_said():
        django.setup()
    _speak()


def configure_models(*, queue: bool) -> None:
    """Set up what works with the database, and with the queue if asked: half of `configure`.

    No page, admin or REST interface is there then. Nothing happens where Django is set up.
    """
    from django.apps import apps
    from django.conf import settings

    if not apps.ready:
        with _settings_said():
            logging.basicConfig(format="{asctime} {levelname} {name}: {message}", style="{")
            apps.populate([*settings.APPS_OF_COMMANDS, *(["django_q"] if queue else [])])
    _speak()


def configure_settings() -> None:
    """Read the settings alone, for a command that needs neither database nor models.

    What Django says itself stays English: its catalogues need its applications.
    """
    from django.conf import settings

    with _settings_said():
        _folder = settings.DATA_DIR


@contextlib.contextmanager
def _settings_said() -> Iterator[None]:
    """Say what is wrong with settings as a Refusal."""
    from django.core.exceptions import ImproperlyConfigured

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bachweb.settings")
    try:
        yield
    except ImproperlyConfigured as error:
        raise Refusal(str(error)) from error
    except OSError as error:
        raise Refusal(
            _("%(path)s can't be used: %(error)s")
            % {"path": error.filename, "error": error.strerror},
            _("Choose another folder for the data in BACH_DATA_DIR, or mend its rights."),
        ) from error


def _speak() -> None:
    from django.utils import translation

    translation.activate(language.current())


@contextlib.contextmanager
def database(*, queue: bool = True) -> Iterator[None]:
    """Work with the database; say what to do when it is not there yet, or too old.

    Without `queue` nothing can be started or asked to stop, and it takes less time. Raises
    Refusal.
    """
    configure_models(queue=queue)
    from django.db import DatabaseError, IntegrityError, connection

    # A command says itself what it did; the log is for what goes on by itself.
    logging.getLogger("daemon_app").setLevel(logging.WARNING)

    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite" and "memory" not in name and not Path(name).is_file():
        raise _not_set_up()
    from daemon_app.models.change import Asker, Via, asked_by

    try:
        with asked_by(Asker(via=Via.CLI, who=user)):
            yield
    except IntegrityError:
        raise  # a mistake of ours, no fault of the database
    except DatabaseError as error:
        said = str(error).strip()
        if re.search(r"no such (table|column)|does not exist|has no column", said):
            raise _not_set_up() from error
        raise Refusal(
            _("The database does not answer as it should: %(error)s") % {"error": said},
            _("If it lasts, look at the disk and at the rights of %(path)s") % {"path": name},
        ) from error


def _not_set_up() -> Refusal:
    return Refusal(
        _("Nothing has been set up yet, or by an earlier version only."),
        _("Start BACH first: %(bach)s up") % {"bach": program()},
        code=Code.NOT_SET_UP,
    )


# ── Who runs ─────────────────────────────────────────────────────────────────────────────────────
def daemon_file() -> Path:
    """Return the pid file of the daemon."""
    from django.conf import settings

    return Path(settings.DATA_DIR) / "daemon.pid"


def is_running(process: "Holder | None", node: "Node | None", now: "datetime") -> bool:
    """Return whether a daemon works on this database: here, or on another machine."""
    return process is not None or (node is not None and node.is_alive(now))


def web_file(port: int) -> Path:
    """Return the pid file of the web server on `port`."""
    from django.conf import settings

    return Path(settings.DATA_DIR) / f"web-{port}.pid"


def web_servers() -> list["Holder"]:
    """Return the running web servers of this data folder, the one on the set port first."""
    from django.conf import settings

    from daemon_app import pidfile

    files = sorted(Path(settings.DATA_DIR).glob("web-*.pid"))
    files.sort(key=lambda file: file != web_file(settings.PORT))
    return [found for file in files if (found := pidfile.holder(file))]


def origin() -> str:
    """Return scheme, host and port under which a browser on this machine finds the pages."""
    from django.conf import settings

    if settings.TLS:
        outside = next((o for o in settings.EXTRA_ORIGINS if o.startswith("https://")), None)
        return outside or f"https://localhost:{settings.PORT}"
    host = (
        "localhost" if is_loopback(settings.HOST) or is_anywhere(settings.HOST) else settings.HOST
    )
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}" if settings.PORT == 80 else f"http://{host}:{settings.PORT}"


def has_display() -> bool:
    """Return whether a browser opened from here would appear before whoever types."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform == "darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_anywhere(host: str) -> bool:
    """Return whether `host` means every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

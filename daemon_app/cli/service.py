"""`bach daemon start`, `stop`, `status`, `logs`: the daemon itself."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from daemon_app.cli import health, language, project, terminal
from daemon_app.cli.clicks import Command, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.start import runs_go_on, say_what_goes_on
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from daemon_app.models import Node
    from daemon_app.pidfile import Holder

# The parts get 20 s to end before they are killed (up.py).
STOP_PATIENCE = 30.0  # seconds
SHOWN_RUNS = 5
POLL = 0.2  # seconds between looks at a log that is followed
BLOCK = 65_536  # bytes


@click.command(
    cls=Command,
    help=_(
        "Start the daemon: it starts jobs when they are due.\n\n"
        "Runs until Ctrl+C. With --bg it goes on in the background, and this command returns as "
        "soon as it is running. It needs no web server."
    ),
    examples=(
        ("bach daemon start", ""),
        ("bach daemon start --bg", ""),
    ),
    short_help=_("Start the daemon, until Ctrl+C."),
)
@click.option("--bg", "background", is_flag=True, help=_("Go on in the background."))
def start(background: bool) -> int:
    """Start daemon and cluster."""
    project.configure()
    from django.conf import settings

    from daemon_app import pidfile
    from daemon_app.cli import up as services

    running = pidfile.holder(project.daemon_file())
    if running:
        raise Refusal(
            _("The daemon is running already (process %(pid)s).") % {"pid": running.pid},
            _("Stop it first: %(bach)s daemon stop") % {"bach": project.program()},
            code=Code.ALREADY_RUNNING,
        )

    def started() -> None:
        found = pidfile.holder(project.daemon_file())
        terminal.say(
            _("The daemon is running (process %(pid)s).") % {"pid": found.pid if found else "?"}
        )
        terminal.say(_("Log: %(path)s") % {"path": near(settings.LOGS_DIR / "daemon.log")})
        if background:
            terminal.say(_("Stop: %(bach)s daemon stop") % {"bach": project.program()})
        else:
            terminal.say(_("End: Ctrl+C"))
        sys.stdout.flush()

    code = services.run({"daemon", "cluster"}, background=background, ready=started)
    if background and code:
        path = settings.LOGS_DIR / "up.log"
        said = b"".join(last_lines([path], 5)).decode(errors="replace")
        raise Refusal(
            _("The daemon did not start. Its last words, in %(path)s:") % {"path": near(path)},
            terminal.Cleaner(colour=False).feed(said.encode()).rstrip(),
        )
    if not background and code == Code.OK:
        say_what_goes_on()
    return code


@click.command(
    cls=Command,
    help=_(
        "Stop the daemon, and what was started with it.\n\n"
        "Commands that are running go on; what became of them is recorded when the daemon is "
        "running again. With BACH_ON_STOP=drain they get BACH_DRAIN_SECONDS and are then ended. "
        "Nothing to stop is no error."
    ),
    examples=(
        ("bach daemon stop", ""),
        ("bach daemon stop --json", ""),
    ),
    short_help=_("Stop the daemon; running commands go on."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def stop(as_json: bool) -> int:
    """Ask the daemon to end, and wait until it has."""
    project.configure_models(queue=False)
    from daemon_app import pidfile

    running = pidfile.holder(project.daemon_file())
    if running is None:
        if as_json:
            terminal.say_json({"stopped": False, "pid": None, "web": False, "running_runs": None})
        else:
            terminal.say(_("The daemon is not running."))
        return Code.OK
    # `bach up` is one process for all: with the daemon its web server ends.
    pages = any(server.pid == running.pid for server in project.web_servers())
    try:
        running.signal(signal.SIGTERM)
    except PermissionError as error:
        raise Refusal(
            _("The daemon belongs to another user (process %(pid)s).") % {"pid": running.pid},
            _("Stop it as that user, or as root."),
        ) from error
    if not running.wait(1.0):
        terminal.note(_("The daemon is ending (process %(pid)s) …") % {"pid": running.pid})
        if not running.wait(stop_patience()):
            raise Refusal(
                _("The daemon does not end (process %(pid)s).") % {"pid": running.pid},
                _("As a last resort, kill -9 %(pid)s ends it; running commands go on then too.")
                % {"pid": running.pid},
            )
    from daemon_app.models import Run

    with project.database(queue=False):
        count = Run.objects.running().count()
    if as_json:
        told = {"stopped": True, "pid": running.pid, "web": pages, "running_runs": count}
        terminal.say_json(told)
        return Code.OK
    terminal.say(
        _("The daemon has stopped, and the web pages with it.")
        if pages
        else _("The daemon has stopped.")
    )
    if count:
        terminal.say(runs_go_on(count))
    return Code.OK


def stop_patience() -> float:
    """Return within how many seconds a daemon that was asked to stop has to be gone."""
    from django.conf import settings

    from daemon_app.cli import up as services

    drains = settings.ON_STOP == "drain"
    return STOP_PATIENCE + (settings.DRAIN_SECONDS + services.ENDING if drains else 0)


# ── status ───────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Say whether the daemon is running, what it does and what comes next.\n\n"
        "Ends with 0 when it is running, with 3 when it is not."
    ),
    examples=(
        ("bach daemon status", ""),
        ("bach daemon status --json", ""),
    ),
    short_help=_("Say whether the daemon is running, and what it does."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def status(as_json: bool) -> int:
    """Show the state of the daemon."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import pidfile
        from daemon_app.models import Node

        now = timezone.now()
        process, node = pidfile.holder(project.daemon_file()), Node.latest()
        running = project.is_running(process, node, now)
        (_say_status_as_json if as_json else _say_status)(process, node, now, running)
    return Code.OK if running else Code.NOT_RUNNING


def _say_status(
    process: "Holder | None", node: "Node | None", now: datetime, running: bool
) -> None:

    from daemon_app import admission, formats, gauges, notices, tiles
    from daemon_app.api import glance
    from daemon_app.models import Job, Run

    clock, spoken = Clock.here(now), language.current()
    _say_running(process, node, now, running)
    servers = project.web_servers()
    terminal.say(
        _("Web pages: %(address)s") % {"address": servers[0].address}
        if servers
        else _("The web pages are not running. Start them: %(bach)s gui start")
        % {"bach": project.program()}
    )

    # Whether it runs has just been said.
    known = {"daemon_away", "daemon_silent"}
    for notice in [found for found in notices.current(now) if found.code not in known]:
        tone = {notices.ERROR: "is-fail", notices.WARN: "is-warn"}.get(notice.level, "is-quiet")
        said = f"{notice.title}: {notice.text}" if notice.text else notice.title
        terminal.say(terminal.shown(said), tone=tone)

    if running:
        told, last = gauges.host(now), glance.newest(now)
        health.say_idle(glance.idle_told(told, now, known=True), now)
        checks = glance.health_told(last, now, known=True, admin=True)
        terminal.say(_("Checks: %(list)s") % {"list": health.in_short(checks)})
    facts = glance.counts_told(now)
    terminal.say(
        _("Jobs: %(all)s, %(active)s of them active. Today: %(runs)s runs, %(failed)s failed.")
        % {
            "all": facts["total_jobs"],
            "active": facts["active_jobs"],
            "runs": facts["runs_today"],
            "failed": facts["failed_today"],
        }
    )
    upcoming = _next_job() if running else None
    if upcoming is not None and upcoming.next_due_at is not None:
        terminal.say(
            _("Next: %(job)s, %(when)s (%(distance)s)")
            % {
                "job": terminal.shown(upcoming.name),
                "when": clock.told(upcoming.next_due_at),
                "distance": formats.relative(upcoming.next_due_at, now, spoken),
            }
        )
    elif running and Job.objects.exists():
        terminal.say(_("No job is going to start by itself."))

    active = Run.objects.active().filter(due_at__lte=now)
    runs = [*active.order_by("-id"), *_ended()[:SHOWN_RUNS]]
    if runs:
        terminal.say()
        rows = []
        waiting = admission.waiting_among(runs, now)
        for run in runs:
            mark, length = tiles.run_mark(run), run.duration(now)
            at = run.started_at or run.due_at
            rows.append(
                (
                    str(run.pk),
                    run.job_name,
                    (terminal.marked(mark.word, mark.tone), mark.tone),
                    clock.moment(at),
                    formats.duration(length.total_seconds(), spoken, exact=run.ended_at is not None)
                    if length is not None
                    else "",
                    waiting[run.pk].sentence if run.pk in waiting else tiles.why(run),
                )
            )
        terminal.table(
            (
                pgettext("column", "Run"),
                pgettext("column", "Job"),
                pgettext("column", "State"),
                clock.column(pgettext("column", "Start")),
                pgettext("column", "Duration"),
                pgettext("column", "Reason"),
            ),
            rows,
        )


def _say_running(
    process: "Holder | None", node: "Node | None", now: datetime, running: bool
) -> None:

    from daemon_app import formats

    spoken = language.current()
    if not running:
        terminal.say(_("The daemon is not running."), tone="is-fail")
        terminal.say(_("Start it: %(bach)s daemon start --bg") % {"bach": project.program()})
    elif process is None and node is not None:
        terminal.say(_("The daemon is running on %(host)s.") % {"host": node.host}, tone="is-ok")
    elif process is not None and (node is None or not node.is_alive(now)):
        seen = formats.relative(node.seen_at, now, spoken) if node else _("never")
        terminal.say(
            _("The daemon is there (process %(pid)s), but does not answer. Last sign: %(when)s")
            % {"pid": process.pid, "when": seen},
            tone="is-warn",
        )
        terminal.say(_("What it says: %(bach)s daemon logs") % {"bach": project.program()})
    elif process is not None and node is not None:
        terminal.say(
            _("The daemon has been running since %(when)s (process %(pid)s).")
            % {"when": Clock.here(now).told(node.started_at), "pid": process.pid},
            tone="is-ok",
        )


def _say_status_as_json(
    process: "Holder | None", node: "Node | None", now: datetime, running: bool
) -> None:
    from daemon_app import notices
    from daemon_app.api.glance import status_at
    from daemon_app.cli.jobs import run_as_json
    from daemon_app.models import Run

    upcoming = _next_job()
    active = Run.objects.active().filter(due_at__lte=now).order_by("-id")
    terminal.say_json(
        {
            **status_at(now, known=True, admin=True),
            "running": running,
            "pid": process.pid if process else None,
            "seen_at": node.seen_at if node else None,
            "web": [server.address for server in project.web_servers()],
            "next": {
                "job_id": upcoming.pk,
                "job_name": upcoming.name,
                "due_at": upcoming.next_due_at,
            }
            if upcoming
            else None,
            "notices": [notice.__dict__ for notice in notices.current(now)],
            "active_runs": [run_as_json(run, now) for run in active],
            "last_runs": [run_as_json(run, now) for run in _ended()[:SHOWN_RUNS]],
        }
    )


def _next_job() -> Any:
    from daemon_app.models import Job

    planned = Job.objects.active().filter(next_due_at__isnull=False)
    return planned.order_by("next_due_at", "id").first()


def _ended() -> Any:
    from daemon_app.models import Run

    return Run.objects.exclude(state__in=Run.ACTIVE).order_by("-id")


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_("Show the last lines of the daemon's log."),
    examples=(
        ("bach daemon logs", _("the last 20 lines")),
        ("bach daemon logs 200", ""),
        ("bach daemon logs -f", _("and what is added, until Ctrl+C")),
    ),
    short_help=_("Show the last lines of the daemon's log."),
)
@click.argument("lines", metavar="[N]", type=WholeNumber(1, 1_000_000, 20), default=20)
@click.option("-f", "--follow", is_flag=True, help=_("Go on with what is added, until Ctrl+C."))
def logs(lines: int, follow: bool) -> int:
    """Show the end of the log, and follow it."""
    project.configure_settings()
    from django.conf import settings

    path = Path(settings.LOGS_DIR) / "daemon.log"
    if not path.exists():
        terminal.note(
            _("There is no log yet: %(path)s is written once the daemon runs (%(bach)s up).")
            % {"path": near(path), "bach": project.program()}
        )
        if not follow:
            return Code.OK
    # Where one ends the other begins, whatever is written meanwhile.
    end = path.stat().st_size if path.exists() else 0
    with terminal.output() as write:
        for line in last_lines([path, path.with_name("daemon.log.1")], lines, end):
            write(line)
        if follow:
            for data in added(path, end):
                write(data)
    return Code.OK


def last_lines(newest_first: list[Path], count: int, end: int | None = None) -> list[bytes]:
    """Return the last `count` lines of a log and its older parts, without reading it all.

    `end` is where the newest one ends for us.
    """
    found: list[bytes] = []
    for path in newest_first:
        wanted = count - len(found)
        if wanted <= 0 or not path.exists():
            break
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END) if end is None else end
            data = b""
            while position and data.count(b"\n") <= wanted:
                step = min(BLOCK, position)
                position -= step
                file.seek(position)
                data = file.read(step) + data
        found = data.splitlines(keepends=True)[-wanted:] + found
        end = None
    return found


def added(path: Path, start: int) -> Iterator[bytes]:
    """Yield what is added to a log after its first `start` bytes, through rotations, for ever."""
    while True:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            time.sleep(POLL)
            continue
        with file:
            file.seek(start)
            start, moved = 0, False
            while not moved:
                # Looked at before reading: whoever moved it away had written all of it by then.
                moved = not _is_still(path, file)
                if file.tell() > os.fstat(file.fileno()).st_size:
                    file.seek(0)  # somebody emptied it
                while data := file.read(BLOCK):
                    yield data
                if not moved:
                    time.sleep(POLL)


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return True  # in the middle of a rotation


def near(path: Path) -> str:
    """Return `path` as it is called from here, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

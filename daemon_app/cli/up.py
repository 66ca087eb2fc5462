"""Start and watch web, daemon and cluster, forked from one parent that has everything loaded."""

import contextlib
import gc
import io
import logging
import logging.handlers
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate
from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import alarms, database, doorbell, pidfile, processes, systemd
from daemon_app.cli import terminal
from daemon_app.cli.spared import spared

log = logging.getLogger(__name__)

LOG_BYTES = 5 * 1024 * 1024
LOG_FILES = 3
STOP_PATIENCE = 20.0  # seconds a part has to stop before it is killed
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a part that ended is started again
SOUND_AFTER = 60.0  # seconds a part has to live for its pause to begin anew
MANY_DEATHS = 3  # before that, of a part: an alarm
ENDING = 90.0  # seconds that running commands have to end after their drain (daemon.py)
# A beat that waits for a locked database takes 20 s for each of a few steps.
HUNG_AFTER = 90.0  # seconds without a sign of life


class UnfitError(Exception):
    """The database can't be used; the message says why and what to do, in the reader's language."""


def prepare() -> None:
    """Bring the database up to date; nothing happens when it is.

    Raises UnfitError when it is gone, damaged, another's or newer than this program: a daemon that
    began anew instead would look as if all jobs had been lost.
    """
    folder = Path(settings.DATA_DIR)
    ours = connections["default"].vendor == "sqlite"
    file = Path(str(connections["default"].settings_dict["NAME"]))
    if ours and (trouble := database.examine(file, folder)):
        raise UnfitError(_way_out(trouble, file, folder))
    _refuse_newer(file)
    _migrate()
    if ours:
        database.adopt(file, folder)
    for part in folder.glob("bach.sqlite3*"):
        part.chmod(0o600)


def _migrate() -> None:
    """Bring the tables up to date, and show how far it is: with much data it takes its time."""
    executor = MigrationExecutor(connections["default"])
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    # A database that is only being made is ready at once.
    is_long = bool(steps) and bool(executor.loader.applied_migrations)
    with terminal.progress(_t("Updating the database"), len(steps), is_long=is_long) as told:

        class Told(Migrate):
            """Tells of each step that is done."""

            def migration_progress_callback(self, action: str, *_which: object) -> None:
                if action == "apply_success":
                    told(1)

        call_command(Told(), interactive=False, verbosity=0)


def _way_out(trouble: database.Trouble, file: Path, folder: Path) -> str:
    from daemon_app import doctor  # dear, and rarely needed

    return doctor.what_to_do(trouble, file, folder)


def _refuse_newer(file: Path) -> None:
    loader = MigrationLoader(connections["default"])
    applied = {name for app, name in loader.applied_migrations if app == "daemon_app"}
    known = {name for app, name in loader.disk_migrations if app == "daemon_app"}
    if unknown := sorted(applied - known):
        raise UnfitError(
            _t(
                "The database %(file)s was used by a newer version of BACH (%(step)s). This one "
                "would damage it. Install that version again, or put back a backup from before."
            )
            % {"file": file, "step": unknown[-1]}
        )


def run(
    parts: set[str], *, background: bool = False, ready: Callable[[], None] | None = None
) -> int:
    """Run `parts` ("web", "daemon", "cluster") until SIGTERM or Ctrl+C; return an exit code.

    `ready` is called once, when all parts answer. With `background` the caller returns as soon
    as they do, and the parts go on without a terminal.
    """
    if background:
        return _detached(parts, ready)
    return _supervised(parts, ready or (lambda: None))


def _supervised(parts: set[str], ready: Callable[[], None]) -> int:
    refusal = _port_refusal() if "web" in parts else None
    if refusal:
        print(refusal, file=sys.stderr)  # noqa: T201 - this is a command's output
        return 1
    with contextlib.ExitStack() as stack:
        if "daemon" in parts:
            address = f"http://{settings.HOST}:{settings.PORT}" if "web" in parts else ""
            try:
                stack.enter_context(pidfile.held(settings.DATA_DIR / "daemon.pid", address))
            except pidfile.Taken as taken:
                print(  # noqa: T201
                    _t("The daemon is already running (process %(pid)s).")
                    % {"pid": taken.pid or "?"},
                    file=sys.stderr,
                )
                return 1
        prepared = _aside(prepare)
        _load(parts)
        if not prepared():
            try:
                prepare()  # once more, here, for its error
            except UnfitError as unfit:
                print(unfit, file=sys.stderr)  # noqa: T201
                return 1
        _rehearse(parts)
        gc.collect()
        gc.freeze()
        return Watch(parts, ready).run()


def _aside(work: Callable[[], None]) -> Callable[[], bool]:
    """Do `work` in a process of its own; what is returned waits for it and says how it went.

    It has the other core meanwhile, and what it loads does not stay with us.
    """
    connections.close_all()
    us, pid = os.getpid(), os.fork()
    if pid == 0:
        code = 1
        try:
            processes.die_with_parent(us)
            work()
            code = 0
        finally:
            os._exit(code)
    return lambda: os.waitpid(pid, 0)[1] == 0


def _load(parts: set[str]) -> None:
    """Import what the parts need, once, so that they share the memory."""
    import daemon_app.cluster
    import daemon_app.daemon

    if "web" in parts:
        with spared():
            from django.urls import get_resolver
            from twisted.internet import asyncioreactor  # noqa: F401

            import bachweb.asgi  # noqa: F401
            import daemon_app.web  # noqa: F401

            get_resolver().url_patterns  # noqa: B018 - imports every view


def _rehearse(parts: set[str]) -> None:
    """Do once what every part begins with: what that builds is then shared. Nothing is written."""
    from daemon_app import scheduler
    from daemon_app.models import Run

    scheduler.next_wake(timezone.now())
    Run.objects.running().first()
    if "web" in parts:
        pages = BaseHandler()
        pages.load_middleware()
        with transaction.atomic():
            pages.get_response(
                WSGIRequest(
                    {
                        "REQUEST_METHOD": "GET",
                        "PATH_INFO": settings.LOGIN_URL,
                        "HTTP_HOST": f"localhost:{settings.PORT}",
                        "SERVER_NAME": "localhost",
                        "SERVER_PORT": str(settings.PORT),
                        "wsgi.input": io.BytesIO(),
                    }
                )
            )
            transaction.set_rollback(True)
    connections.close_all()


class Part:
    """One watched process."""

    def __init__(self, name: str, body: Callable[[Callable[[], None]], int]) -> None:
        self.name = name
        self.body = body
        self.pid = 0
        self.started = 0.0
        self.pause = FIRST_PAUSE
        self.start_at = 0.0
        self.deaths = 0  # one soon after the other
        self.rung: int | None = None

    def age(self) -> float:
        """Return for how many seconds it has been there, or was."""
        return time.monotonic() - self.started

    def start(self) -> None:
        """Fork the part; its end of a pipe tells when it is ready, and when it is gone."""
        rung, ring = os.pipe()
        self.started = time.monotonic()
        us, self.pid = os.getpid(), os.fork()
        if self.pid == 0:
            os.close(rung)
            _become(self.name, us)
            code = 1
            try:
                code = self.body(lambda: _write_quietly(ring, b"ready"))
            except KeyboardInterrupt:
                code = 0
            except BaseException:
                logging.getLogger(__name__).exception("%s failed", self.name)
            finally:
                logging.shutdown()
                os._exit(code)
        os.close(ring)
        self.rung = rung


class Pulse:
    """A sign of life that a part gives and its parent sees, through shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.beat()

    def beat(self) -> None:
        """Say that we live."""
        struct.pack_into("@d", self._memory, 0, time.monotonic())

    def age(self) -> float:
        """Return how many seconds ago that was."""
        (last,) = struct.unpack_from("@d", self._memory, 0)
        return time.monotonic() - float(last)


class Watch:
    """The parent: starts the parts, starts them again when they end, stops them in order.

    systemd hears of it, where it asks: when all answer, that the beat lives, and when we end.
    """

    def __init__(self, parts: set[str], ready: Callable[[], None]) -> None:
        self.pulse = Pulse()
        bodies: dict[str, Callable[[Callable[[], None]], int]]
        bodies = {"daemon": partial(_daemon, self.pulse.beat), "cluster": _cluster, "web": _web}
        self.parts = [Part(name, body) for name, body in bodies.items() if name in parts]
        self.ready = ready
        self.board = alarms.Board(doorbell.runtime_dir(Path(settings.DATA_DIR)))
        self._awaited = {part.name for part in self.parts}
        self._wishes = 0  # how often we were told to stop
        owed = systemd.watchdog_seconds()
        self._sign_every = owed / 2 if owed else None

    def run(self) -> int:
        """Watch until told to stop; return 0 after a clean stop."""
        told, wakeup = socket.socketpair()
        told.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        if any(part.name == "daemon" for part in self.parts):
            self.board.clear(alarms.PART_FAILS)
        for part in self.parts:
            part.start()
        while not self._wishes:
            self._wait(told)
            self._start_due()
            self._give_sign()
        systemd.notify("STOPPING=1")
        return self._stop_all()

    def _stop(self, _signum: int, _frame: object) -> None:
        self._wishes += 1

    def _wait(self, told: socket.socket) -> None:
        pipes = {part.rung: part for part in self.parts if part.rung is not None}
        pending = [part.start_at - time.monotonic() for part in self.parts if part.pid == 0]
        # When one that ended often has lived long enough, that is told, too.
        pending += [SOUND_AFTER - part.age() for part in self.parts if part.pid and part.deaths]
        if self._sign_every:
            pending.append(self._sign_every)
        patience = max(min(pending), 0) if pending else None
        readable, _writable, _failed = select.select([told.fileno(), *pipes], [], [], patience)
        if told.fileno() in readable:
            with contextlib.suppress(BlockingIOError):
                told.recv(64)
        for descriptor in readable:
            if descriptor in pipes:
                self._hear(pipes[descriptor])

    def _give_sign(self) -> None:
        beats = any(part.name == "daemon" for part in self.parts)
        if self._sign_every and (not beats or self.pulse.age() < HUNG_AFTER):
            systemd.notify("WATCHDOG=1")
        for part in self.parts:
            if part.pid and part.deaths and part.age() >= SOUND_AFTER:
                part.deaths = 0
                self._tell_deaths()

    def _hear(self, part: Part) -> None:
        assert part.rung is not None
        if os.read(part.rung, 16):
            if self._awaited == {part.name}:
                names = ", ".join(each.name for each in self.parts)
                systemd.notify(f"READY=1\nSTATUS={names}")
                self.ready()
            self._awaited.discard(part.name)
            return
        os.close(part.rung)
        part.rung = None
        _pid, status = os.waitpid(part.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        part.pid = 0
        if part.age() > SOUND_AFTER:
            part.pause, part.deaths = FIRST_PAUSE, 0
        part.deaths += 1
        part.start_at = time.monotonic() + part.pause
        if not self._wishes:
            log.error("%s ended (code %s); starting it again", part.name, code)
            self._tell_deaths(part, code)
        part.pause = min(part.pause * 2, LONGEST_PAUSE)

    def _tell_deaths(self, part: Part | None = None, code: int | None = None) -> None:
        """Raise an alarm for a part that ends again and again; clear it when none does."""
        if part and part.deaths >= MANY_DEATHS:
            self.board.raise_(
                alarms.PART_FAILS,
                part=part.name,
                times=part.deaths,
                exit_code=code,
                pause=round(part.pause),
                log=settings.LOGS_DIR / f"{part.name}.log",
            )
        elif not any(each.deaths >= MANY_DEATHS for each in self.parts):
            self.board.clear(alarms.PART_FAILS)

    def _start_due(self) -> None:
        for part in self.parts:
            if part.pid == 0 and not self._wishes and time.monotonic() >= part.start_at:
                part.start()

    def _stop_all(self) -> int:
        """Ask all parts to stop, and wait for each.

        While running commands are given their time, the pages and the queue are still there.
        """
        clean = True
        drains = settings.ON_STOP == "drain"
        first = [part for part in self.parts if part.name == "daemon"] if drains else []
        rest = [part for part in reversed(self.parts) if part not in first]
        for parts in (first, rest):
            patience = STOP_PATIENCE
            if parts is first:
                patience += settings.DRAIN_SECONDS + ENDING
            for part in parts:
                if part.pid:
                    os.kill(part.pid, signal.SIGTERM)
            for part in parts:
                if part.pid:
                    clean &= self._ended_within(part, patience)
        return 0 if clean else 1

    def _ended_within(self, part: Part, seconds: float) -> bool:
        """Return whether a part ends by itself; a second wish to stop is passed on to it."""
        deadline, wishes = time.monotonic() + seconds, self._wishes
        while time.monotonic() < deadline:
            done, _status = os.waitpid(part.pid, os.WNOHANG)
            if done:
                return True
            if self._wishes > wishes:
                wishes = self._wishes
                os.kill(part.pid, signal.SIGTERM)
            time.sleep(0.02)
        os.kill(part.pid, signal.SIGKILL)
        os.waitpid(part.pid, 0)
        return False


# ── The parts ────────────────────────────────────────────────────────────────────────────────────


def _daemon(alive: Callable[[], None], ready: Callable[[], None]) -> int:
    from daemon_app import daemon

    return daemon.run(ready, alive)


def _cluster(ready: Callable[[], None]) -> int:
    from daemon_app import cluster

    return cluster.run(ready)


def _web(ready: Callable[[], None]) -> int:
    from bachweb.asgi import application
    from daemon_app import web

    web.serve(application, endpoint=_endpoint(settings.HOST, settings.PORT), ready=ready)
    return 0


def _endpoint(host: str, port: int) -> str:
    interface = host.replace(":", r"\:")
    return f"tcp:port={port}:interface={interface}"


def _port_refusal() -> str | None:
    """Return why the server can't listen where it should, in one sentence; None when it can."""
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, settings.PORT))
        except OSError as error:
            return _t(
                "Port %(port)s of %(host)s can't be used (%(error)s). Is another server running "
                "there? Stop it, or choose another port: bach up --port 8010"
            ) % {"port": settings.PORT, "host": settings.HOST, "error": error.strerror}
    return None


# ── Child processes ──────────────────────────────────────────────────────────────────────────────
def _become(name: str, parent: int) -> None:
    """Make the forked process a part of its own: session, name, signals, log file."""
    # Ctrl+C reaches the parent alone; it stops the parts in order.
    os.setsid()
    processes.rename(f"bach-{name}")
    signal.set_wakeup_fd(-1)
    # First of all: our parent's handlers would swallow the news of its death.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    processes.die_with_parent(parent, signal.SIGTERM)
    handler = logging.handlers.RotatingFileHandler(
        settings.LOGS_DIR / f"{name}.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES
    )
    handler.setFormatter(logging.Formatter("{asctime} {levelname} {name}: {message}", style="{"))
    root = logging.getLogger()
    for console in root.handlers:
        console.setLevel(logging.WARNING)
    root.addHandler(handler)
    logging.getLogger("daemon_app").setLevel(logging.INFO)


def _write_quietly(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, data)


def _detached(parts: set[str], ready: Callable[[], None] | None) -> int:
    rung, ring = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ring)
        answer = os.read(rung, 16)
        os.close(rung)
        if answer:
            if ready:
                ready()
            return 0
        _pid, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) or 1
    os.close(rung)
    os.setsid()
    _redirect(settings.LOGS_DIR / "up.log")
    code = 1
    try:
        code = _supervised(parts, lambda: _write_quietly(ring, b"ready"))
    except BaseException:
        log.exception("the start failed")
    finally:
        os._exit(code)


def _redirect(target: Path) -> None:
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device, not a file of ours
        os.dup2(nothing.fileno(), 0)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)

"""Start and watch web, daemon and cluster, forked from one parent that has everything loaded."""

import contextlib
import gc
import logging
import logging.handlers
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.utils.translation import gettext as _t

from daemon_app import pidfile, processes

log = logging.getLogger(__name__)

LOG_BYTES = 5 * 1024 * 1024
LOG_FILES = 3
STOP_PATIENCE = 20.0  # seconds a part has to stop before it is killed
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a part that ended is started again
SOUND_AFTER = 60.0  # seconds a part has to live for its pause to begin anew


def prepare() -> None:
    """Bring the database up to date; nothing happens when it is."""
    call_command("migrate", interactive=False, verbosity=0)
    for file in Path(settings.DATA_DIR).glob("bach.sqlite3*"):
        file.chmod(0o600)


def run(parts: set[str], *, background: bool = False, ready: Callable[[], None] | None = None) -> int:
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
                    _t("The daemon is already running (process %(pid)s).") % {"pid": taken.pid or "?"},
                    file=sys.stderr,
                )
                return 1
        prepare()
        _load(parts)
        return Watch(parts, ready).run()


def _load(parts: set[str]) -> None:
    """Import what the parts need, once, so that they share the memory."""
    import daemon_app.cluster
    import daemon_app.daemon  # noqa: F401

    if "web" in parts:
        import autobahn.twisted.websocket  # noqa: F401
        import twisted.web.http  # noqa: F401
        from django.urls import get_resolver

        import bachweb.asgi  # noqa: F401

        get_resolver().url_patterns  # noqa: B018 - imports every view
    connections.close_all()
    gc.collect()
    gc.freeze()


class Part:
    """One watched process."""

    def __init__(self, name: str, body: Callable[[Callable[[], None]], int]) -> None:
        self.name = name
        self.body = body
        self.pid = 0
        self.started = 0.0
        self.pause = FIRST_PAUSE
        self.start_at = 0.0
        self.rung: int | None = None

    def start(self) -> None:
        """Fork the part; its end of a pipe tells when it is ready, and when it is gone."""
        rung, ring = os.pipe()
        self.started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(rung)
            _become(self.name)
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


class Watch:
    """The parent: starts the parts, starts them again when they end, stops them in order."""

    def __init__(self, parts: set[str], ready: Callable[[], None]) -> None:
        bodies = {"daemon": _daemon, "cluster": _cluster, "web": _web}
        self.parts = [Part(name, body) for name, body in bodies.items() if name in parts]
        self.ready = ready
        self._awaited = {part.name for part in self.parts}
        self._stopping = False

    def run(self) -> int:
        """Watch until told to stop; return 0 after a clean stop."""
        told, wakeup = socket.socketpair()
        told.setblocking(False)  # noqa: FBT003 - the socket's own signature
        wakeup.setblocking(False)  # noqa: FBT003
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        for part in self.parts:
            part.start()
        while not self._stopping:
            self._wait(told)
            self._start_due()
        return self._stop_all()

    def _stop(self, _signum: int, _frame: object) -> None:
        self._stopping = True

    def _wait(self, told: socket.socket) -> None:
        pipes = {part.rung: part for part in self.parts if part.rung is not None}
        pending = [part.start_at for part in self.parts if part.pid == 0]
        patience = max(min(pending) - time.monotonic(), 0) if pending else None
        ready, _, _ = select.select([told, *pipes], [], [], patience)
        if told in ready:
            with contextlib.suppress(BlockingIOError):
                told.recv(64)
        for descriptor in ready:
            if descriptor in pipes:
                self._hear(pipes[descriptor])

    def _hear(self, part: Part) -> None:
        assert part.rung is not None
        if os.read(part.rung, 16):
            self._awaited.discard(part.name)
            if not self._awaited:
                self.ready()
                self.ready = lambda: None
            return
        os.close(part.rung)
        part.rung = None
        _pid, status = os.waitpid(part.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        part.pid = 0
        if time.monotonic() - part.started > SOUND_AFTER:
            part.pause = FIRST_PAUSE
        part.start_at = time.monotonic() + part.pause
        part.pause = min(part.pause * 2, LONGEST_PAUSE)
        if not self._stopping:
            log.error("%s ended (code %s); starting it again", part.name, code)

    def _start_due(self) -> None:
        for part in self.parts:
            if part.pid == 0 and not self._stopping and time.monotonic() >= part.start_at:
                part.start()

    def _stop_all(self) -> int:
        """Stop web first, so that nobody starts what nobody would run; the daemon last."""
        clean = True
        for part in reversed(self.parts):
            if part.pid == 0:
                continue
            os.kill(part.pid, signal.SIGTERM)
        for part in reversed(self.parts):
            if part.pid:
                clean &= _ended_within(part.pid, STOP_PATIENCE)
        return 0 if clean else 1


def _ended_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, _status = os.waitpid(pid, os.WNOHANG)
        if done:
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


# ── The parts ────────────────────────────────────────────────────────────────────────────────────
def _daemon(ready: Callable[[], None]) -> int:
    from daemon_app import daemon

    return daemon.run(ready)


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
def _become(name: str) -> None:
    """Make the forked process a part of its own: session, name, signals, log file."""
    # Ctrl+C reaches the parent alone; it stops the parts in order.
    os.setsid()
    processes.rename(f"bach-{name}")
    processes.die_with_parent(signal.SIGTERM)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    handler = logging.handlers.RotatingFileHandler(
        settings.LOGS_DIR / f"{name}.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES
    )
    handler.setFormatter(
        logging.Formatter("{asctime} {levelname} {name}: {message}", style="{")
    )
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

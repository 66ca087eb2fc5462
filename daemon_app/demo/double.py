"""An HTTP server on this machine that plays a service, and can be steered while it runs.

`POST /demo/<what>` with a JSON object steers it; that is also heard at a second port, the next
one up, which stays open while the first is closed by `down`. `GET /demo` tells how things stand.
"""

from __future__ import annotations

import inspect
import json
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final

from daemon_app.demo.modes import MODES, Answer, Mode
from daemon_app.registry import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

ADDRESS: Final = "127.0.0.1"
LONGEST_BODY: Final = 65_536  # bytes
PATIENCE: Final = 5.0  # seconds for threads to end
LOOK: Final = 1.0  # seconds between looks whether a caller has hung up
POLL: Final = 0.05  # seconds until a server notices that it is to stop
REMEMBERED: Final = 1000  # requests
MIB: Final = 1 << 20


class WishError(ValueError):
    """A double was told what it can't do; the message says what it can. `code` names the reason."""

    code = "unknown"
    status = 400


class UnknownModelError(WishError):
    """No such model."""

    code = "no_model"
    status = 404


class ConflictError(WishError):
    """Not now: a model is in use, or does not fit."""

    status = 409

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class PortTakenError(OSError):
    """Nobody may listen at this `port`, or somebody does; `errno` says which."""

    def __init__(self, port: int, error: OSError) -> None:
        super().__init__(error.errno, f"port {port} of {ADDRESS}: {error.strerror}")
        self.port = port


class Double(ABC):
    """A service that only pretends. Starts with the `with` block and ends with it.

    `port` 0 takes any free one. What is called from Python and what is sent to `/demo/…` is the
    same: `service.load("sdxl", vram_mb=6000)` and `POST /demo/load {"model": "sdxl", …}`.
    """

    default_port: ClassVar[int]
    setting: ClassVar[str]  # where the daemon reads the service's address

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.control_port = 0
        # (method, path, body) of what was asked, newest last; steering is not in it
        self.requests: deque[tuple[str, str, Any]] = deque(maxlen=REMEMBERED)
        self.told: Callable[[str], None] | None = None  # hears a line about each change
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stopped = threading.Event()
        self._mode = Mode()
        self._turn = 0  # counts changes of mode
        self._server: _Server | None = None
        self._reserved: socket.socket | None = None
        self._control: _Server | None = None
        self._timer: threading.Timer | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a final slash."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def control_url(self) -> str:
        """Where it can be steered even while it is down."""
        return f"http://{ADDRESS}:{self.control_port}"

    # ── Its life ─────────────────────────────────────────────────────────────────────────────────
    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen at both ports, or raise PortTakenError."""
        is_chosen = self.port != 0
        listening = _bound(self.port)
        self.port = listening.getsockname()[1]
        try:
            control = _bound(self.port + 1 if is_chosen else 0)
        except PortTakenError:
            listening.close()
            raise
        self.control_port = control.getsockname()[1]
        self._control = _Server(self, control)
        self._server = _Server(self, listening)

    def close(self) -> None:
        """Stop listening, and end every answer that is still being given."""
        with self._lock:
            self._be(Mode())
            self._stopped.set()
            server, self._server = self._server, None
            control, self._control = self._control, None
            reserved, self._reserved = self._reserved, None
        for each in (server, control):
            if each is not None:
                each.end()
        if reserved is not None:
            reserved.close()

    # ── Steering ─────────────────────────────────────────────────────────────────────────────────
    def mode(self, name: str, **wishes: Any) -> None:
        """Answer this way from now on; see `modes`. Raises WishError for what there is not."""
        try:
            MODES[name]
            wanted = Mode(name=name, **_checked(wishes))
        except (UnknownNameError, TypeError) as error:
            raise WishError(str(error)) from error
        with self._lock:
            self._be(wanted)
        if name == "down":
            self._go_down()
        else:
            self._come_up()

    def control(self, what: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Do what `POST /demo/<what>` asks for; return the state after it."""
        if what in MODES:
            self.mode(what, **facts)
        elif what in self.actions():
            action = self.actions()[what]
            try:
                action(**facts)
            except TypeError as error:
                known = ", ".join(inspect.signature(action).parameters)
                raise WishError(f"{what} takes {known}, and numbers where they are due") from error
        else:
            known = ", ".join([*self.actions(), *MODES])
            raise WishError(f"unknown {what!r}; known: {known}")
        if self.told:
            self.told(f"{what} {json.dumps(dict(facts), ensure_ascii=False)}")
        return self.state()

    @abstractmethod
    def actions(self) -> dict[str, Callable[..., None]]:
        """Return by name what this double can be told to do, beside the modes."""

    @abstractmethod
    def forget(self) -> None:
        """Lose what a service loses that is stopped and started again."""

    def state(self) -> dict[str, Any]:
        """Return how things stand, for people and tests."""
        with self._lock:
            return {"mode": self._mode.name, "port": self.port, "url": self.url}

    # ── Answering ────────────────────────────────────────────────────────────────────────────────
    @abstractmethod
    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Return what the real service would say."""

    def wait(self, seconds: float, turn: int) -> bool:
        """Return True after so many seconds, False once `turn` is over."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._turn != turn, seconds)

    def pause(self, seconds: float) -> bool:
        """Return True after so many seconds of work, False when the service stopped in it."""
        return not self._stopped.wait(seconds)

    def after(self, seconds: float, end: Callable[[], None]) -> None:
        """Do `end` after so many seconds of work, or when the service stops."""

        def work() -> None:
            self.pause(seconds)
            end()

        threading.Thread(target=work, name="double-work", daemon=True).start()

    def current_mode(self, path: str) -> tuple[Mode, int]:
        """Return how to answer at `path`, and the number of this turn."""
        with self._lock:
            applies = path.startswith(self._mode.path)
            return self._mode if applies else Mode(), self._turn

    # ── Being down ───────────────────────────────────────────────────────────────────────────────
    def _be(self, mode: Mode) -> None:
        """Change the mode; every answer of the mode before ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._mode = mode
        self._turn += 1
        self._changed.notify_all()

    def _go_down(self) -> None:
        with self._lock:
            server, self._server = self._server, None
            seconds, turn = self._mode.seconds, self._turn
            self._stopped.set()
        if server is not None:
            server.end()
            # Bound, but not listening: refused to callers, and kept from everybody else.
            self._reserved = _bound(self.port, listens=False)
            self.forget()
        if seconds:
            timer = threading.Timer(seconds, self._end_down, [turn])
            timer.daemon = True
            with self._lock:
                if self._turn == turn:
                    self._timer = timer
                    timer.start()

    def _end_down(self, turn: int) -> None:
        with self._lock:
            is_over = self._turn != turn
        if not is_over:
            self.mode("ok")

    def _come_up(self) -> None:
        with self._lock:
            reserved, self._reserved = self._reserved, None
            if reserved is not None:
                self._stopped = threading.Event()
                reserved.listen(128)
                self._server = _Server(self, reserved)


def _bound(port: int, *, listens: bool = True) -> socket.socket:
    """Return a socket at this port of loopback."""
    bound = socket.socket()
    # A service that ended a moment ago leaves connections behind that would keep its port.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((ADDRESS, port))
        if listens:
            bound.listen(128)
    except OSError as error:
        bound.close()
        raise PortTakenError(port, error) from error
    return bound


def _checked(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the wishes as what a mode takes; raise WishError for a value of another type."""
    sound: dict[str, Any] = {}
    for name, value in wishes.items():
        kind = KINDS.get(name)
        if kind is None:
            raise WishError(f"unknown {name!r}; known: {', '.join(KINDS)}")
        if kind in {float, int} and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise WishError(f"{name!r} is a number")
        if kind in {float, int} and not 0 <= value <= MOST:
            raise WishError(f"{name!r} is a number from 0 to {MOST}")
        if kind in {str, bool} and not isinstance(value, kind):
            raise WishError(f"{name!r} is a {kind.__name__}")
        sound[name] = kind(value)
    return sound


MOST: Final = 100_000_000
KINDS: Final[dict[str, type]] = {
    "path": str,
    "seconds": float,
    "headers": bool,
    "length": bool,
    "megabytes": int,
    "depth": int,
    "status": int,
    "to": str,
}


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────
class _Server(ThreadingHTTPServer):
    """Serves a double at one socket, in threads of its own, until `end`."""

    daemon_threads = True

    def __init__(self, double: Double, listening: socket.socket) -> None:
        super().__init__((ADDRESS, 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.double = double
        self._open: dict[threading.Thread, socket.socket] = {}
        self._guard = threading.Lock()
        self._serving = threading.Thread(
            target=self.serve_forever, args=[POLL], name="double", daemon=True
        )
        self._serving.start()

    def end(self) -> None:
        """Stop listening and drop whoever is being served."""
        self.shutdown()
        self._serving.join(PATIENCE)
        self.server_close()
        with self._guard:
            left = {**self._open}
        left.pop(threading.current_thread(), None)  # who asked for this still gets an answer
        for connection in left.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join(PATIENCE)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection; remember it for `end`."""
        with self._guard:
            self._open[threading.current_thread()] = request
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                del self._open[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up in the middle of an answer is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds for a request to arrive, and for a part of the answer to be taken

    def do_GET(self) -> None:
        """Answer."""
        self._answer({})

    def do_POST(self) -> None:
        """Read the body, then answer."""
        body = self._body()
        if isinstance(body, dict):
            self._answer(body)
        else:
            self._write(Mode(), _error(400, "the body must be a JSON object", "body"), -1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Stay quiet."""

    def _body(self) -> Any:
        try:
            length = int(self.headers.get("Content-Length") or 0)
            return json.loads(self.rfile.read(length) or b"{}") if length <= LONGEST_BODY else None
        except ValueError:
            return None

    def _answer(self, body: dict[str, Any]) -> None:
        double, path = self.server.double, self.path.partition("?")[0]
        if path == "/demo" or path.startswith("/demo/"):
            self._write(Mode(), self._steer(path.removeprefix("/demo").strip("/"), body), -1)
            return
        double.requests.append((self.command, path, body))
        mode, turn = double.current_mode(path)
        try:
            answer = double.answer(self.command, path, body)
        except WishError as error:
            answer = _error(error.status, str(error), error.code)
        self._write(mode, answer, turn)

    def _steer(self, what: str, body: dict[str, Any]) -> Answer:
        # No web page that somebody has open may steer what runs on this machine.
        if "Origin" in self.headers or "Sec-Fetch-Site" in self.headers:
            return _error(403, "not for web pages", "page")
        try:
            if self.command == "GET":
                return Answer(200, self.server.double.state())
            return Answer(200, self.server.double.control(what, body))
        except WishError as error:
            return _error(error.status, str(error), error.code)

    def _write(self, mode: Mode, answer: Answer, turn: int) -> None:
        """Send the answer in this mode, until the mode changes or the caller hangs up."""

        def wait(seconds: float | None) -> bool:
            return self._wait(seconds, turn)

        self.close_connection = True
        with closing(MODES[mode.name](mode, answer, self.path, wait)) as parts, suppress(OSError):
            for part in parts:
                self.wfile.write(part)
        if isinstance(answer.body, Generator):
            answer.body.close()  # ends a call whose caller has gone

    def _wait(self, seconds: float | None, turn: int) -> bool:
        until = float("inf") if seconds is None else time.monotonic() + seconds
        while True:
            left = max(until - time.monotonic(), 0.0)
            if not self.server.double.wait(min(left, LOOK), turn) or self._has_hung_up():
                return False
            if left <= LOOK:
                return True

    def _has_hung_up(self) -> bool:
        try:
            self.connection.setblocking(False)
            waiting: bytes = self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(self.timeout)
        return waiting == b""


def _error(status: int, message: str, code: str) -> Answer:
    return Answer(status, {"success": False, "error": message, "code": code})

"""Ask a service for JSON over HTTP, bounded whatever it answers.

    answer = fetch.get("http://localhost:11434/api/tags", seconds=3)
    if answer.kind is Kind.OK:
        models = answer.json

Time is bounded for all of it together: name, connection, TLS, a header or a body that comes byte by
byte. So is memory: not more is ever received than MOST and some room for headers. Answers are taken
as they are: a redirect, an encoding or an error is said and not followed. Neither proxies nor
passwords of the environment are used.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.connectionpool import HTTPConnectionPool

MOST: Final = 1 << 20  # bytes of a body
AROUND: Final = 1 << 18  # bytes of headers and of the seams between chunks
MOST_VALUES: Final = 50_000  # lists, objects and what is in them: small in text, large in memory
SAID: Final = 200  # characters
HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "bach-daemon",
}


class Kind(StrEnum):
    """What became of a question."""

    OK = "ok"
    DOWN = "down"  # nothing listens there, or there is no way to it
    TIMEOUT = "timeout"
    NONSENSE = "nonsense"  # something else than a good answer in JSON


class Why(StrEnum):
    """Why there is no good answer; "" when there is one."""

    NOTHING = ""
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    NO_NAME = "no_name"
    TLS = "tls"
    BROKE_OFF = "broke_off"  # or what came was no HTTP
    REDIRECT = "redirect"
    STATUS = "status"
    ENCODED = "encoded"
    TOO_BIG = "too_big"
    NOT_JSON = "not_json"
    BAD_URL = "bad_url"


KINDS: Final = {
    Why.NOTHING: Kind.OK,
    Why.REFUSED: Kind.DOWN,
    Why.UNREACHABLE: Kind.DOWN,
    Why.TIMEOUT: Kind.TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered.

    `json` is the answer when `kind` is OK, else None. `said` is the beginning of what it said, or
    the error: at most SAID printable characters. `status` is None where there was none in HTTP.
    """

    kind: Kind
    why: Why
    status: int | None
    json: Any
    said: str
    seconds: float


def get(url: str, *, seconds: float) -> Answer:
    """Return what `url` answers within `seconds`; raises nothing."""
    return _fetch("GET", url, None, seconds)


def post(url: str, body: Mapping[str, Any], *, seconds: float) -> Answer:
    """Send `body` as JSON and return the answer; one without a body is OK with `json` None."""
    return _fetch("POST", url, body, seconds)


def shortened(text: str | bytes) -> str:
    """Return what can be shown of what a service said: one line, printable, at most SAID long."""
    if isinstance(text, bytes):
        text = text[: 4 * SAID].decode(errors="replace")
    words = " ".join(text[: 4 * SAID].split())
    return "".join(letter for letter in words if letter.isprintable())[:SAID]


def _fetch(method: str, url: str, body: Mapping[str, Any] | None, seconds: float) -> Answer:
    begun = time.monotonic()
    bounds = _Bounds(begun + seconds)
    status, found = None, None
    adapter = _Adapter(bounds)
    try:
        # Sent by the adapter: a session reads the environment, and decodes redirects that it is
        # told not to follow.
        request = _prepared(method, url, body)
        with adapter.send(request, stream=True, timeout=max(seconds, 0.001)) as response:
            status = response.status_code
            found = _read(response, bounds, may_be_empty=body is not None)
    except _RefusalError as refusal:
        bounds.note(refusal.why, str(refusal))
    except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
        # Where it broke off that was noted; whatever is wrapped around it does not matter.
        bounds.note(Why.TIMEOUT if bounds.left() <= 0 else Why.BROKE_OFF, str(error))
    finally:
        adapter.close()
    kind = KINDS.get(bounds.why, Kind.NONSENSE)
    return Answer(kind, bounds.why, status, found, bounds.said, time.monotonic() - begun)


class _RefusalError(Exception):
    """An answer, or an address, that is not taken; the message is what it said."""

    def __init__(self, why: Why, said: str | bytes) -> None:
        super().__init__(shortened(said))
        self.why = why


def _prepared(method: str, url: str, body: Mapping[str, Any] | None) -> requests.PreparedRequest:
    try:
        request = requests.Request(method, url, HEADERS, json=body).prepare()
    except ValueError as error:  # what requests raises about an address is one
        # Its words repeat the address, in which a password may stand.
        raise _RefusalError(Why.BAD_URL, "") from error
    if not (request.url or "").startswith(("http://", "https://")):
        raise _RefusalError(Why.BAD_URL, "only http:// and https:// can be asked")
    return request


def _read(response: requests.Response, bounds: _Bounds, *, may_be_empty: bool) -> Any:
    """Return the JSON of an answer; raises _RefusalError for none, and OSError where it ends."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if response.is_redirect:
        said = f"{response.status_code} → {response.headers['location']}"
        raise _RefusalError(Why.REDIRECT, said)
    if encoding not in {"", "identity"}:
        raise _RefusalError(Why.ENCODED, f"content-encoding: {encoding}")
    if not 200 <= response.status_code < 300:
        bounds.note(Why.STATUS, response.reason or "")
        # What it says of its trouble is worth no more than a look.
        raise _RefusalError(Why.STATUS, response.raw.read(4 * SAID, decode_content=False))
    body = response.raw.read(MOST + 1, decode_content=False)
    if len(body) > MOST:
        raise _RefusalError(Why.TOO_BIG, body)
    if response.raw.length_remaining:
        raise _RefusalError(Why.BROKE_OFF, body)
    if not body and may_be_empty:
        return None
    bounds.said = shortened(body)
    try:
        return _parsed(body)
    except (ValueError, RecursionError) as error:
        raise _RefusalError(Why.NOT_JSON, body) from error


def _parsed(body: bytes) -> Any:
    """Return the JSON in `body`; raises ValueError or RecursionError for none, or too much."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise ValueError("too many values")
    return json.loads(body, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# ── The bounds ───────────────────────────────────────────────────────────────────────────────────
@dataclass
class _Bounds:
    """Until when, and how many bytes; and what went wrong, noted where it is known best."""

    deadline: float  # on the monotonic clock
    room: int = MOST + AROUND
    why: Why = Why.NOTHING
    said: str = ""

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()

    def note(self, why: Why, said: str) -> None:
        """Keep what went wrong first, and the last that was said of it."""
        first = self.why in {Why.NOTHING, why}
        self.why = self.why or why
        if said and (first or not self.said):
            self.said = shortened(said)

    def before_reading(self) -> float:
        """Return for how long may be read; raises OSError when time or room are used up."""
        left = self.left()
        if self.room < 0:
            self.note(Why.TOO_BIG, "")
            raise OSError("too much was sent")
        if left <= 0:
            self.note(Why.TIMEOUT, "")
            raise TimeoutError("timed out")
        return left


class _Socket(socket.socket):
    """A socket on which each read gets only the time that is left for all of them."""

    bounds: _Bounds

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.bounds.before_reading())
        count = super().recv_into(*args)
        self.bounds.room -= count
        return count


class _TLSSocket(ssl.SSLSocket):
    """The same, encrypted."""

    bounds: _Bounds

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.bounds.before_reading())
        count = super().recv_into(*args)
        self.bounds.room -= count
        return count


class _Connection(HTTPConnection):
    """A connection that keeps to its bounds."""

    def __init__(self, *args: Any, bounds: _Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds

    def _new_conn(self) -> socket.socket:
        return _connected(self._dns_host, self.port, self._bounds)


class _TLSConnection(HTTPSConnection):
    """The same, encrypted."""

    def __init__(self, *args: Any, bounds: _Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds

    def _new_conn(self) -> socket.socket:
        return _connected(self._dns_host, self.port, self._bounds)

    def connect(self) -> None:
        try:
            super().connect()  # OpenSSL bounds the whole handshake by the socket's time-out
        except ssl.SSLError as error:
            self._bounds.note(Why.TLS, str(error.reason or error))
            raise
        cast("_TLSSocket", self.sock).bounds = self._bounds


class _Adapter(HTTPAdapter):
    """Sends one request over connections that keep to `bounds`."""

    def __init__(self, bounds: _Bounds) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._bounds = bounds

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if host["scheme"] == "https":
            # Besides the usual authorities those that this machine trusts.
            context = ssl.create_default_context()
            context.sslsocket_class = _TLSSocket
            pool["ssl_context"] = context
        return host, pool

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> HTTPConnectionPool:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        plain = pool.scheme == "http"
        pool.ConnectionCls = partial(_Connection if plain else _TLSConnection, bounds=self._bounds)
        return cast("HTTPConnectionPool", pool)


def _connected(host: str, port: int, bounds: _Bounds) -> socket.socket:
    """Return a socket connected to the first address that takes it; raises OSError."""
    try:
        addresses = _addresses(host, port, bounds.left())
    except socket.gaierror as error:
        bounds.note(Why.NO_NAME, error.strerror or "")
        raise
    failed: OSError = OSError("no address")
    for place, (family, kind, protocol, _name, address) in enumerate(addresses):
        # One that swallows everything leaves some time to the next.
        patience = bounds.left() / (len(addresses) - place)
        if patience <= 0:
            break
        each = _Socket(family, kind, protocol)
        each.bounds = bounds
        try:
            each.settimeout(patience)
            each.connect(address)
        except OSError as error:
            each.close()
            # That one of its addresses refuses says more than that another can't be reached.
            failed = failed if isinstance(failed, ConnectionRefusedError) else error
        else:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.settimeout(max(bounds.left(), 0.001))
            return each
    if bounds.left() <= 0 or isinstance(failed, TimeoutError):
        bounds.note(Why.TIMEOUT, "")
    else:
        refused = isinstance(failed, ConnectionRefusedError)
        why = Why.REFUSED if refused else Why.UNREACHABLE
        bounds.note(why, failed.strerror or str(failed))
    raise failed


# ── Names ────────────────────────────────────────────────────────────────────────────────────────
Address = tuple[Any, Any, int, str, Any]


@dataclass
class _Lookup:
    """A name that is being looked up, or was."""

    done: threading.Event = field(default_factory=threading.Event)
    found: list[Address] = field(default_factory=list)
    failed: OSError | None = None

    def run(self, host: str, port: int) -> None:
        """Ask the system, for as long as it takes."""
        try:
            self.found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            self.failed = error
        except UnicodeError as error:
            self.failed = socket.gaierror(socket.EAI_NONAME, str(error))
        finally:
            with _lock:
                _lookups.pop((host, port), None)
            self.done.set()


_lookups: dict[tuple[str, int], _Lookup] = {}
_lock = threading.Lock()


def _addresses(host: str, port: int, seconds: float) -> list[Address]:
    """Return the addresses of a name; raises OSError, TimeoutError after `seconds`.

    The system's own look-up can't be broken off. It goes on in a thread, and whoever asks for the
    same name meanwhile waits for that one.
    """
    try:
        numeric = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except OSError:
        pass
    with _lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = _Lookup()
            threading.Thread(
                target=lookup.run, args=(host, port), name="lookup", daemon=True
            ).start()
    if not lookup.done.wait(max(seconds, 0.0)):
        raise TimeoutError(f"looking up {host} takes too long")
    if lookup.failed is not None:
        raise lookup.failed
    return lookup.found

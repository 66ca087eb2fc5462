"""The outermost guard: who may talk to this server at all, and what every answer carries.

It stands before Django, the static files, REST and the websocket, so that none of them can be
reached under a foreign name or from a foreign page (semantics 10). Browsers do not stop a page of
another site, or of another port on this machine, from sending us requests, and "localhost" is no
wall: a foreign name may be made to point at us. So each request must name us exactly, and each
one that could change something must come from our own pages or carry an API token.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.translation import gettext as _

from daemon_app.clock import ARRIVED

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
INTERFACE = "/api/"
METHODS = SAFE | {"POST", "PUT", "PATCH", "DELETE"}
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# What only a proxy may say. The last is a header by which Daphne lets a client choose where the
# site begins.
FORWARDED = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-forwarded-server",
    b"x-real-ip",
    b"daphne-root-path",
)

# No `require-trusted-types-for 'script'`: htmx and Django's admin write HTML by innerHTML, which
# it forbids (measured in Chromium), and a default policy that lets all HTML pass would be a wall
# of paper. Without 'unsafe-inline' markup that slips in can't run anything.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# On every answer, errors and static files included; whatever was set below is replaced.
FIXED: Headers = [
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer": with it browsers send "Origin: null" even to our own forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    (b"server", b"web"),
]
# Where nothing else was said.
NO_STORE = (b"cache-control", b"no-store")
TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")


class Refusal(NamedTuple):
    """Why a request is not let in: a status, a code, and a text for people in two languages."""

    status: int
    code: str
    german: str
    english: str


class Guard:
    """An ASGI application that lets only proper requests through to `app`."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.origins = frozenset(settings.ORIGINS)
        self.proxies = [ip_network(proxy) for proxy in settings.TRUSTED_PROXIES]
        fixed = [*FIXED, TRANSPORT_SECURITY] if settings.TLS else FIXED
        self.fixed = [(name, value) for name, value in fixed]
        self.replaced = frozenset(name for name, _value in fixed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge one connection, then hand it on or turn it away."""
        # How fast somebody's return is answered is measured from here.
        scope[ARRIVED] = time.time()
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, self._dressed(send))
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            msg = f"unknown kind of connection {scope['type']!r}"
            raise ValueError(msg)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = self._without_hearsay(scope)
        refusal = self._judge(scope) or _judge_length(scope)
        body = b""
        if refusal is None:
            body, refusal = await _read(receive)
        if refusal is None:
            await self.app(scope, _replay(body, receive), send)
        else:
            log.info("refused %s %r: %s", scope["method"], scope["path"], refusal.english)
            await _answer(refusal, scope["path"], send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = self._without_hearsay(scope)
        refusal = self._judge(scope)
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            log.info("refused a websocket at %r: %s", scope["path"], refusal.english)
            await receive()
            # Before it was accepted: the server answers the handshake with 403.
            await send({"type": "websocket.close", "code": 4403})

    # ── The rules ────────────────────────────────────────────────────────────────────────────────
    def _judge(self, scope: Scope) -> Refusal | None:
        """Return why this request is refused, None when it may pass."""
        headers: Headers = scope["headers"]
        method = scope.get("method", "GET")
        if method not in METHODS:
            return Refusal(
                405,
                "method_not_allowed",
                f"Methode {method} gibt es hier nicht.",
                f"No method {method}.",
            )
        path = scope.get("raw_path") or scope["path"].encode()
        if not path.startswith(b"/") or "\0" in scope["path"] or "\\" in scope["path"]:
            return Refusal(
                400,
                "bad_request",
                "Die Adresse muss mit / beginnen und darf weder NUL noch \\ enthalten.",
                "The address must begin with / and hold neither NUL nor \\.",
            )
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not hosts[0]:
            return Refusal(
                400,
                "bad_request",
                "Die Anfrage muss genau einen Host nennen.",
                "The request must name exactly one host.",
            )
        scheme = _SCHEMES.get(scope.get("scheme", ""), "http")
        own = _plain(f"{scheme}://{hosts[0]}")
        if own not in self.origins or (settings.TLS and scheme != "https"):
            return self._wrong_host(own)
        return self._judge_source(scope, own)

    def _judge_source(self, scope: Scope, own: str) -> Refusal | None:
        """Return why a request to our address `own` may not come from where it comes from."""
        headers: Headers = scope["headers"]
        origins = _values(headers, b"origin")
        if len(origins) > 1 or (origins and _plain(origins[0]) != own):
            return _foreign(own)
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE
        if not origins and changes and not _has_token(headers):
            return Refusal(
                403,
                "foreign_origin",
                f"Der Anfrage fehlt die Herkunft (Origin: {own}). Programme melden sich mit einem "
                "API-Token an (Authorization: Bearer …; bach daemon token).",
                f"The request lacks its origin (Origin: {own}). Programs sign in with an API "
                "token (Authorization: Bearer …; bach daemon token).",
            )
        sites = _values(headers, b"sec-fetch-site")
        if not sites or sites in (["same-origin"], ["none"]):
            return None
        # A link on another page may lead to the sign-in page, which shows and changes nothing.
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"] == settings.LOGIN_URL
            and _values(headers, b"sec-fetch-mode") == ["navigate"]
            and _values(headers, b"sec-fetch-dest") == ["document"]
        ):
            return None
        return _foreign(own)

    def _wrong_host(self, own: str) -> Refusal:
        known = "\n".join(f"  {origin}/daemon/" for origin in sorted(self.origins))
        shown = "".join(letter for letter in own[:200] if letter.isprintable())
        return Refusal(
            421,
            "wrong_host",
            f"Unter der Adresse {shown} ist dieser Server nicht zu erreichen.\n"
            f"Erlaubt sind:\n{known}\n"
            "Soll diese Adresse auch gelten, den Server mit ihr in der Umgebungsvariable "
            "BACH_ORIGINS starten, zum Beispiel BACH_ORIGINS=https://bach.example",
            f"This server is not to be reached at {shown}.\n"
            f"Allowed are:\n{known}\n"
            "To allow this address too, start the server with it in the environment variable "
            "BACH_ORIGINS, for example BACH_ORIGINS=https://bach.example",
        )

    # ── What is believed ─────────────────────────────────────────────────────────────────────────
    def _without_hearsay(self, scope: Scope) -> Scope:
        """Return the scope without what nobody but a trusted proxy may say.

        The client's address, the scheme and where the site begins are the connection's own unless
        the peer is one of the trusted proxies. Nothing below ever sees a forwarded header.
        """
        headers: Headers = scope["headers"]
        dropped: tuple[bytes, ...] = FORWARDED
        if _has_token(headers):
            # A token stands alone: nobody acts by the cookie of a browser that also has one.
            dropped = (*FORWARDED, b"cookie")
        kept = [(name, value) for name, value in headers if name not in dropped]
        if any(name in FORWARDED for name, _value in headers):
            # That somebody else may be behind the peer is all that is known below.
            kept.append((b"via", b"proxy"))
        scope = {**scope, "root_path": "", "headers": kept}
        if scope["type"] == "websocket" and "scheme" not in scope:
            # Daphne does not say. A server that speaks TLS itself speaks nothing else.
            scope["scheme"] = "wss" if settings.TLS and not self.proxies else "ws"
        if self._is_proxy(scope.get("client")):
            said = ",".join(_values(headers, b"x-forwarded-proto")).split(",")[-1].strip()
            if said in {"http", "https"}:
                secure = said == "https"
                plain, safe = ("http", "https") if scope["type"] == "http" else ("ws", "wss")
                scope["scheme"] = safe if secure else plain
            scope["client"] = self._client(headers, scope["client"])
        return scope

    def _client(self, headers: Headers, peer: Any) -> Any:
        """Return the address before our own proxies: the last one that is not of them."""
        chain = ",".join(_values(headers, b"x-forwarded-for")).split(",")
        for said in reversed([entry.strip() for entry in chain]):
            try:
                ip_address(said)
            except ValueError:
                break
            if not self._is_proxy([said, 0]):
                return [said, 0]
        return peer

    def _is_proxy(self, peer: Any) -> bool:
        if not peer or not self.proxies:
            return False
        try:
            address = ip_address(peer[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self.proxies)

    # ── What every answer carries ────────────────────────────────────────────────────────────────
    def _dressed(self, send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name.lower(), value) for name, value in message.get("headers", [])]
                headers = [
                    (name, value)
                    for name, value in given
                    if name not in self.replaced
                    and not name.startswith(b"access-control-")
                    and name != b"x-powered-by"
                ]
                if not any(name == b"cache-control" for name, _value in headers):
                    headers.append(NO_STORE)
                message = {**message, "headers": headers + self.fixed}
            await send(message)

        return dressed


_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def _plain(origin: str) -> str:
    """Return an origin in lower case and without its scheme's own port."""
    origin = origin.lower()
    return origin.removesuffix(DEFAULT_PORTS.get(origin.partition(":")[0], ""))


def _values(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def _has_token(headers: Headers) -> bool:
    return any(value.lower().startswith("bearer ") for value in _values(headers, b"authorization"))


def _foreign(own: str) -> Refusal:
    return Refusal(
        403,
        "foreign_origin",
        "Diese Anfrage kam von einer anderen Seite und wurde nicht ausgeführt.\n"
        "Wollten Sie die Seite öffnen, klicken Sie in die Adresszeile und drücken Sie die "
        f"Eingabetaste, oder beginnen Sie hier: {own}/daemon/",
        "This request came from another page and was not carried out.\n"
        "If you meant to open this page, click into the address bar and press Enter, or start "
        f"here: {own}/daemon/",
    )


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────────
def _too_large() -> Refusal:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024
    return Refusal(
        413,
        "too_large",
        f"Die Anfrage ist größer als {limit} KiB.",
        f"The request is larger than {limit} KiB.",
    )


def _judge_length(scope: Scope) -> Refusal | None:
    lengths = _values(scope["headers"], b"content-length")
    if any(not length.isascii() or not length.isdigit() for length in lengths):
        return Refusal(
            400,
            "bad_request",
            "Die Länge der Anfrage ist keine Zahl.",
            "The length is no number.",
        )
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if any(len(length) > 18 or int(length) > limit for length in lengths):
        return _too_large()
    return None


async def _read(receive: Receive) -> tuple[bytes, Refusal | None]:
    """Return the whole body, or why it is refused; a sender may hide or belie its length."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            broken = "Die Anfrage brach ab.", "The request broke off."
            return b"", Refusal(400, "bad_request", *broken)
        part = message.get("body", b"")
        size += len(part)
        if size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return b"", _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts), None


def _replay(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


async def _answer(refusal: Refusal, path: str, send: Send) -> None:
    """Say why: to programs in the shape of the interface's errors, to people in both languages."""
    if path.startswith(INTERFACE):
        error = {"code": refusal.code, "message": refusal.german, "fields": {}}
        text = json.dumps({"error": error}, ensure_ascii=False).encode()
        kind = b"application/json"
    else:
        text = f"{refusal.german}\n\n{refusal.english}\n".encode()
        kind = b"text/plain; charset=utf-8"
    headers = [(b"content-type", kind), (b"content-length", str(len(text)).encode())]
    if refusal.status == 405:
        headers.append((b"allow", ", ".join(sorted(METHODS)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


# ── Before the server starts ─────────────────────────────────────────────────────────────────────
def refusal(
    host: str, *, tls: bool, trusted_proxies: Iterable[str], has_password: bool
) -> str | None:
    """Return why a server must not start listening at `host`; None when it may.

    Whoever can be reached from other machines needs TLS, its own or that of a named proxy, and a
    password: one-time links are for the owner of the data folder only.
    """
    proxied = bool(list(trusted_proxies))
    if not is_loopback(host) and not tls and not proxied:
        return _(
            "Not started: at %(host)s other machines can reach this server, and without TLS "
            "everybody on the way can read along. Set BACH_TLS=1 (with a certificate) or name "
            "your proxy in BACH_TRUSTED_PROXIES, or stay at 127.0.0.1."
        ) % {"host": host}
    if (not is_loopback(host) or proxied) and not has_password:
        return _(
            "Not started: other machines can reach this server, and no account has a password "
            "yet. Start it at 127.0.0.1, sign in with “bach daemon login” and set a password."
        )
    return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens at `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

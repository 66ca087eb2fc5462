"""The guard alone, around an application that answers everything."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from pytest_django import Settings

from daemon_app import guard
from daemon_app.guard import Guard, Headers, Message, Receive, Scope, Send

HOST = b"127.0.0.1:8000"
OWN = b"http://127.0.0.1:8000"


class Application:
    """Remembers what came through."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            self.bodies.append((await receive())["body"])
            headers = [(b"Server", b"Careless/1.2"), (b"Access-Control-Allow-Origin", b"*")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"in"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})


class Asked:
    """One connection to a guarded application, and what became of it."""

    def __init__(
        self,
        *,
        kind: str = "http",
        method: str = "GET",
        path: str = "/daemon/",
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Iterable[bytes] = (b"",),
        peer: str = "127.0.0.1",
        scheme: str | None = None,
        host: Iterable[bytes] = (HOST,),
    ) -> None:
        self.application = Application()
        self.sent: list[Message] = []
        parts = list(body)
        self.incoming: list[Message] = [
            {"type": "http.request", "body": part, "more_body": n < len(parts)}
            for n, part in enumerate(parts, start=1)
        ]
        if kind == "websocket":
            self.incoming = [{"type": "websocket.connect"}]
        all_headers: Headers = [(b"host", name) for name in host]
        all_headers += headers
        scope: dict[str, Any] = {
            "type": kind,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "/elsewhere",
            "headers": all_headers,
            "client": [peer, 4711],
        }
        if kind == "http":
            scope |= {"method": method, "scheme": scheme or "http"}
        elif scheme:
            scope["scheme"] = scheme
        asyncio.run(Guard(self.application)(scope, self.receive, self.send))

    async def receive(self) -> Message:
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def came_in(self) -> bool:
        return bool(self.application.scopes)

    @property
    def scope(self) -> Scope:
        (scope,) = self.application.scopes
        return scope

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.sent[0]["headers"] if key == name]


@pytest.fixture(autouse=True)
def _address(settings: Settings) -> None:
    settings.ORIGINS = frozenset({"http://127.0.0.1:8000", "http://localhost:8000"})
    settings.TRUSTED_PROXIES = []
    settings.TLS = False


# ── Host ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("host", [b"127.0.0.1:8000", b"localhost:8000", b"LocalHost:8000"])
def test_our_own_names_come_in(host: bytes) -> None:
    assert Asked(host=[host]).came_in


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8000",
        b"127.0.0.1.nip.io:8000",
        b"0.0.0.0:8000",
        b"localhost.:8000",
        b"localhost",
        b"localhost:3000",
        b"localhost:8000 ",
        b"user@localhost:8000",
        b"localhost:8000,evil.example",
        b"[::1]:8000",
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_any_other_name_is_turned_away_wherever_it_leads(host: bytes, kind: str) -> None:
    asked = Asked(kind=kind, host=[host], headers=[(b"origin", b"http://" + host)])

    assert not asked.came_in
    if kind == "http":
        assert asked.status == 421
        assert "BACH_ORIGINS" in asked.text
        assert "nicht zu erreichen" in asked.text
        assert "not to be reached" in asked.text
    else:
        assert asked.sent == [{"type": "websocket.close", "code": 4403}]


@pytest.mark.parametrize("hosts", [[], [b""], [HOST, HOST], [HOST, b"evil.example"]])
def test_no_host_and_two_hosts_are_no_proper_request(hosts: list[bytes]) -> None:
    asked = Asked(host=hosts)

    assert asked.status == 400
    assert not asked.came_in


@pytest.mark.parametrize(
    "path", ["http://evil.example/daemon/", "*", "", "/a\0b", "/\\evil.example"]
)
def test_an_address_that_is_no_path_is_no_proper_request(path: str) -> None:
    assert Asked(path=path).status == 400


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", "BREW"])
def test_methods_nobody_needs_are_refused(method: str) -> None:
    assert Asked(method=method).status == 405


# ── Origin ───────────────────────────────────────────────────────────────────────────────────────
FOREIGN = [
    b"null",
    b"http://evil.example",
    b"http://127.0.0.1:3000",
    b"http://localhost:8000",  # ours, but not the name this request used
    b"https://127.0.0.1:8000",
    b"http://127.0.0.1",
    b"http://127.0.0.1:80000",
    b"http://127.0.0.1:8000.evil.example",
    b"http://evil.example#http://127.0.0.1:8000",
    b"",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_foreign_origin_is_refused_for_every_method(origin: bytes, method: str) -> None:
    asked = Asked(method=method, headers=[(b"origin", origin)])

    assert asked.status == 403
    assert not asked.came_in


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_opens_no_websocket(origin: bytes) -> None:
    asked = Asked(kind="websocket", headers=[(b"origin", origin)])

    assert not asked.came_in


def test_our_own_origin_may_change_things_and_open_a_websocket() -> None:
    assert Asked(method="POST", headers=[(b"origin", OWN)]).came_in
    assert Asked(kind="websocket", headers=[(b"origin", OWN)]).came_in


def test_two_origins_are_none() -> None:
    assert Asked(headers=[(b"origin", OWN), (b"origin", OWN)]).status == 403


def test_without_an_origin_one_may_read_and_a_token_may_do_more() -> None:
    token = (b"authorization", b"Bearer bach_1_00")

    assert Asked().came_in
    assert Asked(method="POST").status == 403
    assert not Asked(kind="websocket").came_in
    assert Asked(method="POST", headers=[token]).came_in
    assert Asked(kind="websocket", headers=[token]).came_in
    assert Asked(method="POST", headers=[(b"authorization", b"Basic YTpi")]).status == 403


def test_whoever_has_a_token_has_no_cookie() -> None:
    headers = [(b"cookie", b"bach_8000=x"), (b"authorization", b"bearer bach_1_00")]

    asked = Asked(method="POST", headers=headers)

    assert b"cookie" not in dict(asked.scope["headers"])


# ── Sec-Fetch-Site ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("site", [b"same-origin", b"none"])
def test_what_our_pages_and_the_address_bar_ask_for_comes_in(site: bytes) -> None:
    assert Asked(headers=[(b"sec-fetch-site", site)]).came_in


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"", b"strange", b"Same-Origin"])
@pytest.mark.parametrize("mode", [b"navigate", b"cors", b"no-cors", b"websocket"])
@pytest.mark.parametrize("path", ["/daemon/", "/api/daemon/jobs", "/static/daemon/css/base.css"])
def test_what_other_pages_ask_for_does_not(site: bytes, mode: bytes, path: str) -> None:
    headers = [
        (b"sec-fetch-site", site),
        (b"sec-fetch-mode", mode),
        (b"sec-fetch-dest", b"document"),
    ]

    asked = Asked(path=path, headers=headers)

    assert asked.status == 403
    assert "Adresszeile" in asked.text


def test_a_link_on_another_page_may_lead_to_the_sign_in_and_do_nothing_else_there() -> None:
    def ask(**changed: Any) -> Asked:
        sent = {"site": b"cross-site", "mode": b"navigate", "dest": b"document"}
        sent |= {name: changed.pop(name) for name in sent if name in changed}
        headers = [(f"sec-fetch-{name}".encode(), value) for name, value in sent.items()]
        return Asked(**{"path": "/daemon/login/", "headers": headers} | changed)

    assert ask().came_in
    assert ask(site=b"same-site").came_in
    assert ask(method="POST").status == 403
    assert ask(method="HEAD").status == 403
    assert ask(mode=b"cors").status == 403
    assert ask(mode=b"no-cors").status == 403
    assert ask(dest=b"iframe").status == 403
    assert ask(dest=b"image").status == 403
    assert ask(path="/daemon/login/../").status == 403
    assert ask(path="/daemon/Login/").status == 403


# ── What is believed ─────────────────────────────────────────────────────────────────────────────
HEARSAY = [
    (b"x-forwarded-for", b"9.9.9.9"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"forwarded", b"for=9.9.9.9;host=evil.example;proto=https"),
    (b"x-real-ip", b"9.9.9.9"),
    (b"daphne-root-path", b"/admin"),
]


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_forwarded_headers_of_strangers_are_dropped_unread(kind: str) -> None:
    asked = Asked(kind=kind, headers=[(b"origin", OWN), *HEARSAY])

    assert asked.scope["client"] == ["127.0.0.1", 4711]
    assert asked.scope["scheme"] in {"http", "ws"}
    assert asked.scope["root_path"] == ""
    assert asked.scope["headers"] == [(b"host", HOST), (b"origin", OWN), (b"via", b"proxy")]


def test_a_trusted_proxy_says_who_asks_and_how(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    settings.ORIGINS = frozenset({"https://bach.example"})
    settings.TLS = True
    chain = (b"x-forwarded-for", b"1.1.1.1, 9.9.9.9, 10.0.0.7")
    secure = (b"x-forwarded-proto", b"https")

    asked = Asked(peer="10.0.0.1", host=[b"bach.example"], headers=[chain, secure])

    # The last one that isn't ours: what stands before it is the client's own invention.
    assert asked.scope["client"] == ["9.9.9.9", 0]
    assert asked.scope["scheme"] == "https"
    assert Asked(peer="10.0.0.1", host=[b"bach.example"], headers=[chain]).status == 421
    assert Asked(peer="9.9.9.9", host=[b"bach.example"], headers=[chain, secure]).status == 421


def test_with_tls_nothing_else_is_spoken_and_browsers_are_told(settings: Settings) -> None:
    settings.ORIGINS = frozenset({"https://bach.example"})
    settings.TLS = True
    own = (b"origin", b"https://bach.example")

    secure = Asked(host=[b"bach.example"], scheme="https")

    assert secure.came_in
    assert secure.header(b"strict-transport-security")
    assert Asked(host=[b"bach.example:443"], scheme="https").came_in
    assert Asked(host=[b"bach.example"], scheme="http").status == 421
    # Daphne does not say which scheme a websocket has.
    assert Asked(kind="websocket", host=[b"bach.example"], headers=[own]).came_in


# ── Bodies and answers ───────────────────────────────────────────────────────────────────────────
def test_a_body_comes_through_whole_and_a_large_one_not_at_all(settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    own = (b"origin", OWN)

    fits = Asked(method="POST", headers=[own], body=[b"a" * 600, b"b" * 400])
    hidden = Asked(method="POST", headers=[own], body=[b"a" * 600, b"b" * 401])
    announced = Asked(method="POST", headers=[own, (b"content-length", b"1001")])
    absurd = Asked(method="POST", headers=[own, (b"content-length", b"9" * 5000)])
    signed = Asked(method="POST", headers=[own, (b"content-length", b"-1")])

    assert fits.application.bodies == [b"a" * 600 + b"b" * 400]
    assert [asked.status for asked in (hidden, announced, absurd, signed)] == [413, 413, 413, 400]
    assert not hidden.came_in


@pytest.mark.parametrize("host", [[HOST], [b"evil.example"], []])
def test_every_answer_carries_the_headers_and_none_of_the_careless_ones(host: list[bytes]) -> None:
    asked = Asked(host=host)

    policy = asked.header(b"content-security-policy")[0].decode()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for name, value in guard.FIXED:
        assert asked.header(name) == [value]
    assert asked.header(b"cache-control") == [b"no-store"]
    assert not [name for name, _ in asked.sent[0]["headers"] if name.startswith(b"access-control")]


def test_lifespan_passes_and_what_is_unknown_does_not() -> None:
    assert Asked(kind="lifespan").came_in
    with pytest.raises(ValueError, match="webtransport"):
        Asked(kind="webtransport")


# ── Before the start ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    assert guard.refusal(host, tls=False, trusted_proxies=[], has_password=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "bach.example", ""])
def test_whoever_can_be_reached_from_outside_needs_tls_and_a_password(host: str) -> None:
    def refused(*, tls: bool = False, proxies: tuple[str, ...] = (), has_password: bool) -> str:
        return (
            guard.refusal(host, tls=tls, trusted_proxies=proxies, has_password=has_password) or ""
        )

    assert "BACH_TLS" in refused(has_password=True)
    assert "bach daemon login" in refused(tls=True, has_password=False)
    assert "bach daemon login" in refused(proxies=("127.0.0.1",), has_password=False)
    assert not refused(tls=True, has_password=True)
    assert not refused(proxies=("127.0.0.1",), has_password=True)


def test_a_proxy_before_loopback_needs_a_password_too() -> None:
    said = guard.refusal("127.0.0.1", tls=False, trusted_proxies=["127.0.0.1"], has_password=False)

    assert said is not None

"""One question over HTTP: bounded in time and memory whatever the other side does."""

import gzip
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from daemon_app import fetch
from daemon_app.fetch import Kind, Why
from tests.health.hostile import Line, certificate, http, saying, serving

SOON = 0.6  # seconds given to who never finishes
GIGABYTE = 1_000_000_000


def test_a_good_answer_is_its_json() -> None:
    with serving(saying(http(b'{"status": "ok", "n": [1, 2.5, null]}'))) as server:
        answer = fetch.get(f"{server.url}/api/health", seconds=20)

    assert (answer.kind, answer.why, answer.status) == (Kind.OK, "", 200)
    assert answer.json == {"status": "ok", "n": [1, 2.5, None]}
    assert answer.said == '{"status": "ok", "n": [1, 2.5, null]}'


def test_what_is_asked_says_plainly_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    asked: list[bytes] = []

    def note(line: Line) -> None:
        asked.append(line.request())
        line.say(http(b"{}", "Set-Cookie: a=b"))

    with serving(note) as server:
        fetch.get(f"{server.url}/api/health?a=1", seconds=20)
        fetch.get(server.url, seconds=20)

    first = asked[0].decode().lower()
    assert first.startswith("get /api/health?a=1 http/1.1\r\n")
    assert "accept-encoding: identity\r\n" in first
    assert first.count("accept-encoding") == 1
    assert not any(word in asked[1].lower() for word in (b"cookie", b"authorization", b"proxy"))


def test_a_body_is_sent_as_json_and_an_empty_answer_will_do() -> None:
    asked: list[bytes] = []

    def note(line: Line) -> None:
        received = line.request()
        head, _, body = received.partition(b"\r\n\r\n")
        while len(body) < 18:
            body += line.connection.recv(100)
        asked.append(head + b"|" + body)
        line.say(http(b"", status="200 OK"))

    with serving(note) as server:
        answer = fetch.post(f"{server.url}/api/sdxl/unload", {"model": "sdxl-1"}, seconds=20)

    assert asked[0].endswith(b'|{"model": "sdxl-1"}')
    assert b"application/json" in asked[0]
    assert (answer.kind, answer.json) == (Kind.OK, None)


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────
def hang(line: Line) -> None:
    line.hang()


def hang_after_headers(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    line.hang()


def drip_in_the_headers(line: Line) -> None:
    line.request()
    line.drip(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 60_000, 0.05)


def drip_in_the_body(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    line.drip(b" " * 60_000, 0.05)


def drip_in_the_chunks(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    line.drip(b"1\r\n \r\n" * 60_000, 0.05)


def continue_for_ever(line: Line) -> None:
    line.request()
    while not line.over.wait(0.01):
        line.say(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        hang,
        hang_after_headers,
        drip_in_the_headers,
        drip_in_the_body,
        drip_in_the_chunks,
        continue_for_ever,
    ],
)
def test_who_never_finishes_gets_no_more_than_its_time(answer) -> None:
    with serving(answer) as server:
        # It comes back while the other side still talks: nothing else ends the question.
        got = fetch.get(server.url, seconds=SOON)
        assert not server.over.is_set()

    assert (got.kind, got.why, got.json) == (Kind.TIMEOUT, Why.TIMEOUT, None)


def test_a_handshake_that_drips_gets_no_more_than_its_time() -> None:
    def drip(line: Line) -> None:
        line.connection.recv(1000)
        line.drip(b"\x16\x03\x03\x40\x00" + b"\x00" * 16_000, 0.05)

    with serving(drip) as server:
        got = fetch.get(f"https://127.0.0.1:{server.port}", seconds=SOON)

    assert got.kind in {Kind.TIMEOUT, Kind.NONSENSE}
    assert got.json is None


def test_a_name_that_is_not_found_out_gets_no_more_than_its_time(monkeypatch) -> None:
    found_out, lookups = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host, port, *args, **options):
        if host == "slow.example" and not options.get("flags"):
            lookups.append(host)
            found_out.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    first = fetch.get("http://slow.example/", seconds=0.1)
    second = fetch.get("http://slow.example/", seconds=0.1)

    assert (first.kind, second.kind) == (Kind.TIMEOUT, Kind.TIMEOUT)
    assert lookups == ["slow.example"], "the second waits for the first, no thread is added"
    found_out.set()


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────
def endless_body(line: Line) -> None:
    line.request()
    line.say(f"HTTP/1.1 200 OK\r\nContent-Length: {GIGABYTE}\r\n\r\n[".encode())
    line.flood(b"1," * 50_000, GIGABYTE)


def endless_chunk_line(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    line.flood(b"x" * 100_000, GIGABYTE)


def endless_trailer(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
    line.flood(b"X-Trailer: " + b"x" * 10_000 + b"\r\n", GIGABYTE)


def endless_headers(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\n")
    line.flood(b"X: " + b"x" * 10_000 + b"\r\n", GIGABYTE)


def bombed_redirect(line: Line) -> None:
    line.request()
    bomb = gzip.compress(b"0" * 100_000_000, 9)
    head = "Location: /", "Content-Encoding: gzip"
    line.say(http(bomb, *head, status="302 Found"))


@pytest.mark.parametrize(
    ("answer", "whys"),
    [
        (endless_body, {Why.TOO_BIG}),
        (endless_chunk_line, {Why.TOO_BIG, Why.BROKE_OFF}),
        (endless_trailer, {Why.TOO_BIG, Why.BROKE_OFF, Why.NOTHING}),
        (endless_headers, {Why.TOO_BIG, Why.BROKE_OFF}),
        (bombed_redirect, {Why.REDIRECT}),
    ],
)
def test_not_more_is_received_than_there_is_room_for(answer, whys, monkeypatch) -> None:
    received = []
    before = fetch._Socket.recv_into

    def counted(self, *args):
        received.append(before(self, *args))
        return received[-1]

    monkeypatch.setattr(fetch._Socket, "recv_into", counted)
    with serving(answer) as server:
        got = fetch.get(server.url, seconds=30)

    assert got.why in whys
    assert sum(received) < 2 * (fetch.MOST + fetch.AROUND)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_million_levels_are_refused_and_no_crash(opening) -> None:
    with serving(saying(http(opening * 100_000))) as server:
        got = fetch.get(server.url, seconds=20)
    assert (got.kind, got.why) == (Kind.NONSENSE, Why.NOT_JSON)

    with serving(saying(http(b"[" * 1_000_000 + b"]" * 1_000_000))) as server:
        got = fetch.get(server.url, seconds=20)
    assert (got.kind, got.why) == (Kind.NONSENSE, Why.TOO_BIG)


def test_many_small_values_are_refused_before_they_take_memory() -> None:
    import tracemalloc

    body = b"[" + b'{"":0},' * 149_000 + b"0]"
    with serving(saying(http(body))) as server:
        fetch.get(server.url, seconds=20)  # what is loaded once is loaded
        tracemalloc.start()
        got = fetch.get(server.url, seconds=20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert (got.kind, got.why) == (Kind.NONSENSE, Why.NOT_JSON)
    assert peak < 8_000_000


# ── Nonsense ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("data", "why", "said"),
    [
        (http(b"<html>oh \x1b[31mno</html>"), Why.NOT_JSON, "<html>oh [31mno</html>"),
        (http(b""), Why.NOT_JSON, ""),
        (http(b'{"free_mb": NaN}'), Why.NOT_JSON, '{"free_mb": NaN}'),
        (http(b"\xff\xfe\x00"), Why.NOT_JSON, None),
        (http(b"1" * 5000), Why.NOT_JSON, "1" * 200),
        (http(gzip.compress(b"{}"), "Content-Encoding: gzip"), Why.ENCODED, None),
        (http(b"{}", "Content-Encoding: br"), Why.ENCODED, None),
        (http(b"", "Location: /again", status="302 Found"), Why.REDIRECT, "302 → /again"),
        (http(b"boom", status="500 Internal Server Error"), Why.STATUS, "boom"),
        (http(b"", status="429 Too Many Requests"), Why.STATUS, "Too Many Requests"),
        (http(b"{}", status="418 I'm a teapot"), Why.STATUS, "{}"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Why.BROKE_OFF, None),
        (b"", Why.BROKE_OFF, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", Why.BROKE_OFF, None),
    ],
)
def test_nonsense_is_told_by_what_it_is(data, why, said) -> None:
    with serving(saying(data)) as server:
        got = fetch.get(server.url, seconds=20)

    assert (got.kind, got.why, got.json) == (Kind.NONSENSE, why, None)
    assert len(got.said) <= fetch.SAID
    assert got.said.isprintable()
    if said is not None:
        assert got.said == said


def test_a_redirect_is_not_followed() -> None:
    with serving(saying(http(b"", "Location: /", status="307 Temporary Redirect"))) as server:
        got = fetch.get(server.url, seconds=20)
        assert server.connections == 1

    assert got.why is Why.REDIRECT


# ── Nobody there ─────────────────────────────────────────────────────────────────────────────────
def test_where_nothing_listens_it_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    got = fetch.get(f"http://localhost:{port}/", seconds=20)

    assert (got.kind, got.why, got.status) == (Kind.DOWN, Why.REFUSED, None)


def test_a_name_that_nobody_has_is_not_known_to_be_down() -> None:
    got = fetch.get("http://no-such-host.invalid/", seconds=20)

    assert (got.kind, got.why) == (Kind.NONSENSE, Why.NO_NAME)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:11434", "ftp://localhost/", "file:///etc/passwd", "http://", "http://[::1"],
)
def test_what_is_no_address_is_said_to_be_none(url) -> None:
    got = fetch.get(url, seconds=20)

    assert (got.kind, got.why) == (Kind.NONSENSE, Why.BAD_URL)


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def encrypted(tmp_path: Path):
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def wrap(plain: socket.socket) -> socket.socket:
        return context.wrap_socket(plain, server_side=True)

    return cert, wrap


def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted) -> None:
    _cert, wrap = encrypted
    with serving(saying(http(b"{}")), wrap) as server:
        got = fetch.get(f"https://localhost:{server.port}/", seconds=20)

    assert (got.kind, got.why) == (Kind.NONSENSE, Why.TLS)


def test_over_tls_the_bounds_are_the_same(encrypted, monkeypatch) -> None:
    cert, wrap = encrypted
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))  # as if this machine trusted it
    with serving(saying(http(b'{"a": 1}')), wrap) as server:
        good = fetch.get(f"https://localhost:{server.port}/", seconds=20)
    with serving(drip_in_the_body, wrap) as server:
        slow = fetch.get(f"https://localhost:{server.port}/", seconds=SOON)
    with serving(endless_body, wrap) as server:
        large = fetch.get(f"https://localhost:{server.port}/", seconds=30)

    assert (good.kind, good.json) == (Kind.OK, {"a": 1})
    assert slow.kind is Kind.TIMEOUT
    assert large.why is Why.TOO_BIG


def test_plain_http_where_tls_is_expected_is_an_error_of_tls() -> None:
    with serving(lambda line: line.say(http(b"{}"))) as server:
        got = fetch.get(f"https://127.0.0.1:{server.port}/", seconds=20)

    assert (got.kind, got.why) == (Kind.NONSENSE, Why.TLS)


def test_an_answer_can_be_kept() -> None:
    got = fetch.get("http://no-such-host.invalid/", seconds=20)

    assert json.loads(json.dumps(got.said)) == got.said
    assert 0 <= got.seconds < time.monotonic()

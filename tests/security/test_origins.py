"""Rows 1 to 4: nobody acts, reads or listens from a foreign page, name or port."""

import itertools
from collections.abc import Iterator

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.security.routes import ADMIN, PUBLIC, TABLE, path_of
from tests.security.site import CHANGES, PATIENCE, Person, Site, form, json_body

JOB = {"name": "foreign", "job_type": "manual", "command": "true"}
BOUNDARY = "x0x"
MULTIPART = "".join(
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    for name, value in JOB.items()
)
BODIES = {
    "application/x-www-form-urlencoded": form(JOB),
    "text/plain": json_body(**JOB),
    f"multipart/form-data; boundary={BOUNDARY}": f"{MULTIPART}--{BOUNDARY}--\r\n".encode(),
    "application/json": json_body(**JOB),
}
UNSAFE = [
    (method, path_of(route))
    for route, entry in TABLE.items()
    for method in CHANGES
    if method in entry
]


@pytest.fixture(scope="module")
def admin(site: Site) -> Person:
    return site.person("admin")


# ── Row 1: changes ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "other port"])
def test_no_change_comes_from_elsewhere_whatever_it_looks_like(
    site: Site, admin: Person, origin: str | None
) -> None:
    if origin == "other port":
        origin = "http://127.0.0.1:3000"
    before = site.dump()

    for (method, path), (kind, body) in itertools.product(UNSAFE, BODIES.items()):
        # Even with a session and its form token.
        answer = site.ask(method, path, by=admin, origin=origin, kind=kind, body=body)
        assert answer.status in {403, 415}, (method, path, kind, answer)

    assert site.dump() == before


def test_no_change_comes_without_the_forms_token(site: Site, admin: Person) -> None:
    forged = Person(**vars(admin) | {"csrf": "0" * 32})
    before = site.dump()

    for method, path in UNSAFE:
        if path in {"/daemon/login/", "/daemon/login/language/"}:
            continue  # their visitor has no session a token could belong to
        kind = "application/json" if path.startswith("/api/") else "text/plain"
        answer = site.ask(method, path, by=forged, kind=kind, body=b"{}")
        assert answer.status == 403, (method, path, answer)

    assert site.dump() == before


@pytest.mark.parametrize("kind", [kind for kind in BODIES if kind != "application/json"])
def test_the_interface_takes_json_and_nothing_that_a_form_can_send(
    site: Site, admin: Person, kind: str
) -> None:
    before = site.dump()

    for method, path in UNSAFE:
        if path.startswith("/api/") and "nowhere" not in path:
            answer = site.ask(method, path, by=admin, kind=kind, body=BODIES[kind])
            assert answer.status == 415, (method, path, answer)

    assert site.dump() == before


def test_a_token_needs_neither_origin_nor_cookie_and_cookies_beside_it_count_for_nothing(
    site: Site, admin: Person
) -> None:
    viewer = site.person("viewer")
    body = json_body(name=f"by-token {admin.name}", job_type="manual", command="true")

    def create(token: str, by: Person | None = None) -> int:
        bearer = [("Authorization", f"Bearer {token}")]
        return site.ask(
            "POST",
            "/api/daemon/jobs",
            by=by,
            headers=bearer,
            origin=None,
            kind="application/json",
            body=body,
        ).status

    assert create(viewer.token, by=admin) == 403
    assert create("bach_1_0", by=admin) == 401
    assert create(admin.token, by=viewer) == 201


# ── Row 2: reading from elsewhere ────────────────────────────────────────────────────────────────
PLACES = [
    "/daemon/",
    "/daemon/runs/",
    "/static/daemon/css/base.css",
    "/api/daemon/status",
    "/admin/",
]


@pytest.mark.parametrize("path", [*PLACES, "/nowhere", "/daemon/login/"])
def test_no_other_page_or_port_reads_anything(site: Site, admin: Person, path: str) -> None:
    for fetched in ("cross-site", "same-site", "Cross-Site", "none, same-origin", "x"):
        for mode, dest in (("cors", "empty"), ("no-cors", "image"), ("navigate", "iframe")):
            headers = [
                ("Sec-Fetch-Site", fetched),
                ("Sec-Fetch-Mode", mode),
                ("Sec-Fetch-Dest", dest),
            ]
            answer = site.ask("GET", path, by=admin, headers=headers)
            assert answer.status == 403, (headers, answer)
            assert "Adresszeile" in answer.text
    for fetched in ("same-origin", "none"):
        assert site.get(path, admin, ("Sec-Fetch-Site", fetched)).status in {200, 404}


def test_a_link_elsewhere_may_open_the_sign_in_and_no_other_page(site: Site, admin: Person) -> None:
    link = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ]

    assert site.get("/daemon/login/", None, *link).status == 200
    assert site.get("/daemon/", admin, *link).status == 403


def test_nobody_is_told_that_he_may_ask_from_elsewhere(site: Site, admin: Person) -> None:
    preflight = [
        ("Origin", "http://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization, content-type"),
    ]

    for path in (*PLACES, "/api/daemon/jobs"):
        # That no answer carries Access-Control-Allow-* is judged on every answer.
        assert site.ask("OPTIONS", path, headers=preflight).status == 403
        assert site.get(path, admin, ("Origin", "null")).status == 403


# ── Row 3: other names for us ────────────────────────────────────────────────────────────────────
def foreign_hosts(port: int) -> list[str]:
    return [
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.nip.io:{port}",
        f"0.0.0.0:{port}",
        f"localhost.:{port}",
        f"127.0.0.1.:{port}",
        f"2130706433:{port}",
        f"127.1:{port}",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1:{port}@evil.example",
        f"127.0.0.1:{port}, evil.example",
        f"evil.example\t127.0.0.1:{port}",
        "",
    ]


UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
]


@pytest.mark.parametrize("path", [*PLACES, "/daemon/login/", "/nowhere"])
def test_under_another_name_there_is_nothing(site: Site, admin: Person, path: str) -> None:
    for host in foreign_hosts(site.port):
        answer = site.ask("GET", path, by=admin, host=host)
        assert answer.status in {400, 421}, (host, answer)
        assert "BACH" not in answer.text or "BACH_ORIGINS" in answer.text


def test_under_another_name_there_is_no_websocket_either(site: Site, admin: Person) -> None:
    for host, origin in itertools.product(
        foreign_hosts(site.port), [site.origin, "http://evil.example"]
    ):
        request = [*UPGRADE, ("Origin", origin), ("Cookie", f"{site.cookie}={admin.session}")]
        lines = ["GET /ws/daemon/ HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in request]
        answer = site.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        assert answer.status in {400, 403}, (host, origin, answer)


def test_two_names_or_a_whole_address_are_no_proper_request(site: Site) -> None:
    own, evil = f"Host: {site.host}\r\n", "Host: evil.example\r\n"

    def first_line(line: str, *more: str) -> int:
        text = f"{line}\r\n{''.join(more)}Connection: close\r\n\r\n"
        return site.send(text.encode()).status

    assert first_line("GET /daemon/ HTTP/1.1", own, evil) in {400, 421}
    assert first_line("GET /daemon/ HTTP/1.1", evil, own) in {400, 421}
    assert first_line("GET /daemon/ HTTP/1.1", own, own) in {400, 421}
    assert first_line("GET /daemon/ HTTP/1.1") in {400, 421}
    assert first_line("GET http://evil.example/daemon/ HTTP/1.1", own) == 400
    assert first_line(f"GET {site.origin}/daemon/ HTTP/1.1", evil) == 400
    assert first_line(f"GET {site.origin}/daemon/ HTTP/1.1", own) == 400
    assert first_line("OPTIONS * HTTP/1.1", own) == 400


# ── Row 4: websockets of foreign pages ───────────────────────────────────────────────────────────
def foreign_origins(port: int) -> Iterator[str]:
    yield from ("null", "http://evil.example", f"http://evil.example:{port}", "file://")
    yield from ("http://127.0.0.1:3000", "http://localhost:3000", "http://127.0.0.1")
    yield from (f"https://127.0.0.1:{port}", f"http://localhost:{port}", f"ws://127.0.0.1:{port}")
    yield from (f"http://127.0.0.1:{port}.evil.example", f"http://127.0.0.1:{port}0")


def test_a_foreign_page_opens_no_websocket_with_somebodys_session(
    site: Site, admin: Person
) -> None:
    for origin in foreign_origins(site.port):
        with pytest.raises(InvalidStatus) as refused:
            site.socket(session=admin.session, origin=origin)
        assert refused.value.response.status_code in {400, 403}, origin
        assert "content-security-policy" in refused.value.response.headers


def test_our_page_opens_one_for_somebody_signed_in_alone(site: Site, admin: Person) -> None:
    with site.socket(session=admin.session, origin=site.origin) as ours:
        ours.ping().wait(PATIENCE)
    with (
        site.socket(session="nobodys", origin=site.origin) as nobodys,
        pytest.raises(ConnectionClosed) as closed,
    ):
        nobodys.recv(PATIENCE)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4401


def test_without_an_origin_a_token_is_needed_and_cookies_do_not_count(
    site: Site, admin: Person
) -> None:
    with pytest.raises(InvalidStatus):
        site.socket(session=admin.session)
    with site.socket(token=admin.token) as programs:
        programs.ping().wait(PATIENCE)
    with (
        site.socket(session=admin.session, token="bach_1_0") as mixed,
        pytest.raises(ConnectionClosed) as closed,
    ):
        mixed.recv(PATIENCE)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 4401


def test_the_only_websocket_is_the_live_one(site: Site, admin: Person) -> None:
    for path in (
        "/",
        "/ws/",
        "/ws/daemon",
        "/ws/daemon/x",
        "/ws/Daemon/",
        "/daemon/",
        "/ws//daemon/",
    ):
        with pytest.raises(InvalidStatus):
            connect(
                f"ws://{site.host}{path}",
                origin=websockets.Origin(site.origin),
                additional_headers={"Cookie": f"{site.cookie}={admin.session}"},
                proxy=None,
            )


def test_the_table_has_unsafe_routes_to_try() -> None:
    assert len(UNSAFE) > 40
    assert any(path.startswith("/api/") for _method, path in UNSAFE)
    assert {"admin/", "admin/daemon_app/job/add/"} <= set(ADMIN)
    assert PUBLIC in TABLE["daemon/login/"].values()

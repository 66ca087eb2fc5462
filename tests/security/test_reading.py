"""Rows 10, 16, 23, 24 and 25: what may be read, how, and that reading changes nothing."""

import re
from pathlib import Path

import pytest

from tests.security.routes import METHODS, TABLE, Samples, address
from tests.security.site import CHANGES, Answer, Person, Site, json_body

CANARY = "canary-3f9c"


@pytest.fixture(scope="module")
def admin(site: Site) -> Person:
    return site.person("admin")


# ── Row 10: tokens ───────────────────────────────────────────────────────────────────────────────
def test_the_database_holds_nothing_anybody_could_sign_in_with(site: Site) -> None:
    person = site.person("admin", "drei gelbe Boote")
    ticket = site.tell(f"ticket({person.pk})")

    dumped = site.dump()

    assert person.name in dumped
    for secret in (person.token, person.token.rpartition("_")[2], ticket, "drei gelbe Boote"):
        assert secret not in dumped


def test_a_token_made_in_the_admin_is_shown_once_and_stored_nowhere(
    site: Site, admin: Person
) -> None:
    fields = {"name": "from the admin", "account": str(admin.pk), "role": "viewer", "days": "30"}

    answer = site.post("/admin/daemon_app/token/add/", admin, **fields)
    (token,) = set(re.findall(r"bach_\d+_[0-9a-f]{64}", answer.text))
    listed = site.get("/admin/daemon_app/token/", admin)

    assert answer.status == 200
    assert token not in site.dump()
    assert token not in listed.text
    assert site.get("/api/daemon/jobs", None, ("Authorization", f"Bearer {token}")).status == 200


def test_a_token_in_the_address_or_elsewhere_counts_for_nothing(site: Site, admin: Person) -> None:
    for name in ("token", "access_token", "api_key", "key", "Authorization", "bearer"):
        for path in ("/api/daemon/jobs", "/daemon/"):
            assert site.get(f"{path}?{name}={admin.token}").status in {302, 401}
            assert site.get(f"{path}?{name}=Bearer%20{admin.token}").status in {302, 401}
    for header in (
        ("X-API-Key", admin.token),
        ("Authorization", admin.token),
        ("Authorization", f"Token {admin.token}"),
        ("Authorization", f"Basic {admin.token}"),
        ("Cookie", f"token={admin.token}"),
        ("Cookie", f"{site.cookie}={admin.token}"),
    ):
        assert site.get("/api/daemon/jobs", None, header).status == 401


def test_a_token_is_for_the_interface_and_opens_no_page(site: Site, admin: Person) -> None:
    bearer = ("Authorization", f"Bearer {admin.token}")

    for path in ("/daemon/", "/daemon/jobs/new/", "/admin/"):
        assert site.get(path, None, bearer).leads_to_sign_in
        # The cookie beside it is not looked at.
        assert site.get(path, admin, bearer).leads_to_sign_in


# ── Row 16: paths ────────────────────────────────────────────────────────────────────────────────
NUMBERS = [
    "..",
    "../",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f..%2fsecret.key",
    "..%5c..%5csecret.key",
    "1/../../../secret.key",
    "-1",
    "+1",
    "0",
    "1.0",
    "1e3",
    "0x1",
    "%31%00",
    "%F0%9D%9F%8F",
    "%D9%A1",
    "1%0a",
    "9223372036854775807",
    "9223372036854775808",
    "9" * 40,
    "9" * 5000,
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:24])
def test_no_number_of_a_run_or_job_leads_out_of_its_folder(
    site: Site, admin: Person, number: str
) -> None:
    key = (site.web.data_dir / "secret.key").read_text()

    for path in (
        f"/daemon/runs/{number}/",
        f"/daemon/runs/{number}/output/",
        f"/daemon/jobs/{number}/",
        f"/api/daemon/runs/{number}",
        f"/api/daemon/runs/{number}/log",
        f"/api/daemon/jobs/{number}",
        f"/static/{number}",
        f"/static/daemon/{number}",
    ):
        answer = site.get(path, admin)
        assert answer.status in {301, 302, 400, 404}, (path, answer)
        assert key not in answer.text
    # Django's admin reads numbers as Python does, and shows the run of that number.
    assert key not in site.get(f"/admin/daemon_app/run/{number}/change/", admin).text


@pytest.mark.parametrize("planted", ["output.0", "output.idx", "result.json", "folder"])
def test_a_planted_link_is_not_followed(
    site: Site, admin: Person, planted: str, tmp_path: Path
) -> None:
    run = site.tell(f"finished('linked {planted} {admin.name}')")
    folder = site.web.folder(run)
    target = tmp_path / "target"
    if planted == "folder":
        folder.rmdir()
        target.mkdir()
        (target / "output.0").write_text(CANARY)
        folder.symlink_to(target)
    else:
        target.write_text(CANARY)
        (folder / planted).symlink_to(target)

    for path in (
        f"/daemon/runs/{run}/",
        f"/daemon/runs/{run}/output/",
        f"/daemon/runs/{run}/output/?download",
        f"/api/daemon/runs/{run}/log",
        f"/api/daemon/runs/{run}",
    ):
        answer = site.get(path, admin)
        assert CANARY not in answer.text, path


# ── Row 23: what is claimed about where a request comes from ─────────────────────────────────────
CLAIMS = [
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Real-IP", "127.0.0.1"),
    ("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-User", "owner"),
    ("Remote-User", "owner"),
    ("X-Remote-User", "owner"),
    ("X-Original-URL", "/daemon/login/"),
    ("X-Rewrite-URL", "/daemon/login/"),
    ("Daphne-Root-Path", "/daemon"),
    ("X-Script-Name", "/daemon"),
    ("REMOTE_ADDR", "127.0.0.1"),
    ("REMOTE_USER", "owner"),
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0])
def test_no_claim_opens_anything(site: Site, claim: tuple[str, str]) -> None:
    for path in ("/daemon/", "/admin/"):
        answer = site.get(path, None, claim)
        assert answer.leads_to_sign_in
        assert answer.location.startswith(f"/daemon/login/?next=%2F{path.strip('/')}")
    assert site.get("/api/daemon/jobs", None, claim).status == 401


@pytest.mark.parametrize("claim", CLAIMS[:5], ids=lambda claim: claim[0])
def test_behind_a_proxy_nobody_told_us_of_nothing_is_public(
    site: Site, claim: tuple[str, str]
) -> None:
    assert site.get("/api/daemon/status").status == 200
    assert site.get("/api/daemon/status", None, claim).status == 401


def test_the_public_state_holds_nothing_of_jobs(site: Site) -> None:
    site.tell(f"finished('{CANARY}')")

    assert CANARY not in site.get("/api/daemon/status").text


# ── Row 24: headers ──────────────────────────────────────────────────────────────────────────────
def test_every_kind_of_answer_carries_the_headers(site: Site, admin: Person) -> None:
    """That they are there is judged on every answer; here is one of each kind."""

    def status(answer: Answer) -> int:
        return answer.status

    assert status(site.get("/daemon/", admin)) == 200
    assert status(site.get("/static/daemon/css/base.css")) == 200
    assert status(site.get("/static/nothing.css")) == 404
    assert status(site.get("/nothing/", admin)) == 404
    assert status(site.get("/daemon")) in {301, 302}
    assert (
        status(site.get("/daemon/", None, ("If-Modified-Since", "x"), ("Range", "bytes=x"))) == 302
    )
    assert status(site.post("/daemon/", admin)) == 405
    assert status(site.ask("TRACE", "/daemon/")) == 405
    assert status(site.get("/daemon/?x=%ff%00", admin)) in {200, 400}
    assert status(site.get("/daemon/\xff".encode().decode("latin-1"))) == 400
    assert status(site.get("/daemon/", None, ("Bad Header", "x"))) == 400


def test_a_body_over_the_limit_is_refused_announced_or_not(site: Site, admin: Person) -> None:
    body = json_body(name="x" * 300_000)
    head = (
        f"POST /api/daemon/jobs HTTP/1.1\r\nHost: {site.host}\r\nOrigin: {site.origin}\r\n"
        f"Cookie: {site.cookie}={admin.session}\r\nX-CSRFToken: {admin.csrf}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )

    announced = site.ask("POST", "/api/daemon/jobs", by=admin, kind="application/json", body=body)
    hidden = site.send(head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    assert announced.status == hidden.status == 413


# ── Row 25: looking changes nothing ──────────────────────────────────────────────────────────────
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_looking_at_everything_twice_changes_nothing(
    site: Site, samples: Samples, method: str
) -> None:
    admin = site.person("admin")
    links = ["?q=x", "?page=2", "?_method=DELETE&action=delete&delete=1&active=0&start=1&ticket=x"]
    before = site.dump()

    for _round in range(2):
        for route in TABLE:
            site.ask(method, address(route, method, samples), by=admin)
        for path in ("/daemon/", "/daemon/jobs/", "/daemon/runs/", "/daemon/password/"):
            for link in links:
                site.ask(method, path + link, by=admin)

    assert site.dump() == before


def test_the_methods_are_divided_into_looking_and_changing() -> None:
    assert set(METHODS) == {"GET", "HEAD", "OPTIONS", *CHANGES}

"""Rows 5 to 9: signing in, staying signed in, and losing it everywhere at once."""

import contextlib
import json
import random
import re

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.security.routes import INTERFACE, PUBLIC, TABLE, path_of
from tests.security.site import PATIENCE, Answer, Person, Site, form

PASSWORD = "drei gelbe Boote"


@pytest.fixture(autouse=True)
def _nobody_has_guessed(site: Site) -> None:
    site.tell("access.Throttle.objects.all().delete()[0]")


def cookie_of(site: Site, answer: Answer) -> tuple[str, str]:
    """Return a set cookie's value and its attributes."""
    found = answer.header("set-cookie") or ""
    value, _, attributes = found.removeprefix(f"{site.cookie}=").partition(";")
    return value, attributes


def signed_in(site: Site, session: str) -> bool:
    answer = site.get("/daemon/password/", None, ("Cookie", f"{site.cookie}={session}"))
    assert answer.status == 200 or answer.leads_to_sign_in
    return answer.status == 200


def by_ticket(site: Site, ticket: str, **more: str) -> Answer:
    return site.post("/daemon/login/", None, ticket=ticket, **more)


def by_password(site: Site, name: str, password: str, *headers: tuple[str, str]) -> Answer:
    body = form({"username": name, "password": password})
    return site.ask("POST", "/daemon/login/", headers=headers, body=body)


def served(socket: ClientConnection) -> None:
    """Return when a page is shown something: it was let in with the rights it has now."""
    socket.send(json.dumps({"t": "hello", "language": "de", "regions": {"daemon": None}}))
    socket.recv(PATIENCE)


def ended(socket: ClientConnection) -> int:
    """Return the code a socket is closed with, within a bell's time: the look-around takes 30 s."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            socket.recv(10)
    assert socket.close_code
    return socket.close_code


# ── Row 7: a fresh installation ──────────────────────────────────────────────────────────────────
def test_a_fresh_installation_lets_nobody_in_and_has_no_set_up(site: Site) -> None:
    for route, entry in TABLE.items():
        if PUBLIC in entry.values():
            continue
        answer = site.get(path_of(route))
        assert answer.status == 401 if route in INTERFACE else answer.leads_to_sign_in, route
    for path in (
        "/setup",
        "/setup/",
        "/daemon/setup/",
        "/install/",
        "/daemon/register/",
        "/signup/",
    ):
        assert site.get(path).status == 404
        assert site.post(path).status in {403, 404}


@pytest.mark.django_db
def test_there_is_no_account_until_the_command_line_makes_one() -> None:
    from daemon_app.models import Account

    assert not Account.objects.exists()
    owner = Account.owner()

    assert owner.can("manage")
    assert not owner.has_usable_password()
    assert not any(owner.check_password(guess) for guess in ("", "!", "owner", owner.password))


@pytest.mark.parametrize("name", ["admin", "root", "owner", "bach", "daemon", "test", "user"])
def test_common_logins_open_nothing(site: Site, name: str) -> None:
    site.tell("Account.owner().pk")

    for password in ("admin", "bach", name, "password"):
        answer = by_password(site, name, password)
        assert answer.status == 403
        assert answer.header("set-cookie") is None


# ── The one-time link ────────────────────────────────────────────────────────────────────────────
def test_a_ticket_signs_in_once(site: Site) -> None:
    person = site.person("operator")
    ticket = site.tell(f"ticket({person.pk})")

    first = by_ticket(site, ticket, next="/daemon/runs/?state=active")
    second = by_ticket(site, ticket)

    assert (first.status, first.location) == (303, "/daemon/runs/?state=active")
    assert signed_in(site, cookie_of(site, first)[0])
    assert second.status == 403
    assert "bach daemon login" in second.text
    assert second.header("set-cookie") is None


def test_a_pasted_link_counts_as_its_ticket_and_an_old_or_false_one_does_not(site: Site) -> None:
    person = site.person("viewer")
    fresh = site.tell(f"ticket({person.pk})")
    old = site.tell(f"ticket({person.pk}, timezone.now() - timedelta(minutes=5, seconds=1))")

    assert by_ticket(site, f" {site.origin}/daemon/login/#t={fresh} ").status == 303
    for wrong in (old, "", "x", fresh[:-1], "#t=", "\0", "ä" * 100):
        assert by_ticket(site, wrong).status == 403


def test_a_ticket_of_a_closed_account_opens_nothing(site: Site) -> None:
    person = site.person("admin")
    ticket = site.tell(f"ticket({person.pk})")
    site.tell(f"change({person.pk}, is_active=False)")

    assert by_ticket(site, ticket).status == 403


def test_a_ticket_in_the_address_or_a_header_does_nothing(site: Site) -> None:
    person = site.person("viewer")
    ticket = site.tell(f"ticket({person.pk})")

    for path in (f"/daemon/login/?ticket={ticket}", f"/daemon/login/?t={ticket}"):
        assert site.get(path).header("set-cookie") is None
    assert by_ticket(site, ticket).status == 303


@pytest.mark.parametrize(
    "address",
    [
        "http://evil.example/",
        "//evil.example/",
        "///evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        " //evil.example",
        "/\t/evil.example",
        "\x00/daemon/",
        "evil.example",
        "/daemon/login/?next=//evil.example",
        "%2F%2Fevil.example",
    ],
)
def test_the_way_on_leads_to_our_own_pages(site: Site, address: str) -> None:
    person = site.person("viewer")

    shown = site.get("/daemon/login/?" + form({"next": address}).decode())
    signed = by_ticket(site, site.tell(f"ticket({person.pk})"), next=address)

    assert (signed.status, signed.location) == (303, "/daemon/")
    assert re.findall(r'name="next" value="([^"]*)"', shown.text)[0] == "/daemon/"
    acted = site.ask("POST", "/daemon/jobs/999/toggle/", by=person, body=form({"next": address}))
    assert "evil" not in acted.location


# ── Row 8: guessing ──────────────────────────────────────────────────────────────────────────────
def test_a_password_signs_in_and_says_no_more_than_wrong(site: Site) -> None:
    person = site.person("operator", PASSWORD)

    right = by_password(site, person.name, PASSWORD)
    wrong = by_password(site, person.name, "x")
    unknown = by_password(site, person.name + "x", PASSWORD)

    assert right.status == 303
    assert wrong.status == unknown.status == 403
    timeless = [re.sub(r'data-now="[^"]*"', "", answer.text) for answer in (wrong, unknown)]
    assert timeless[0].replace(person.name, "") == timeless[1].replace(person.name + "x", "")


@pytest.mark.parametrize("forwarded", [False, True])
def test_guesses_are_few_whoever_they_claim_to_come_from(site: Site, forwarded: bool) -> None:
    person = site.person("admin", PASSWORD)

    def guess(n: int) -> int:
        claims = [
            ("X-Forwarded-For", f"9.9.9.{n}"),
            ("X-Real-IP", f"9.9.9.{n}"),
            ("Forwarded", f"for=9.9.9.{n}"),
        ]
        return by_password(site, person.name, f"guess {n}", *(claims if forwarded else [])).status

    statuses = [guess(n) for n in range(30)]
    right_too_late = by_password(site, person.name, PASSWORD)

    assert statuses == [403] * 5 + [429] * 25
    assert right_too_late.status == 429
    assert int(right_too_late.header("retry-after") or 0) > 0
    assert "bach daemon login" in right_too_late.text
    # The link is not shut with it.
    assert by_ticket(site, site.tell(f"ticket({person.pk})")).status == 303


def test_guesses_at_many_names_from_one_address_are_few_too(site: Site) -> None:
    statuses = [by_password(site, f"somebody-{n}", "x").status for n in range(20)]

    assert statuses == [403] * 5 + [429] * 15


# ── Row 9: sessions ──────────────────────────────────────────────────────────────────────────────
def test_the_cookie_is_for_this_server_alone_and_new_at_each_sign_in(site: Site) -> None:
    person = site.person("viewer")
    planted = "0123456789abcdefghijklmnopqrstuv"
    body = form({"ticket": site.tell(f"ticket({person.pk})")})

    answer = site.ask(
        "POST", "/daemon/login/", headers=[("Cookie", f"{site.cookie}={planted}")], body=body
    )
    value, attributes = cookie_of(site, answer)

    assert value != planted
    assert not signed_in(site, planted)
    assert signed_in(site, value)
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {
        part.strip() for part in attributes.split(";")
    }
    assert "Domain" not in attributes


def test_signing_in_again_ends_the_session_before(site: Site) -> None:
    person = site.person("viewer")
    body = form({"ticket": site.tell(f"ticket({person.pk})")})

    answer = site.ask("POST", "/daemon/login/", by=person, body=body)

    assert answer.status == 303
    assert not signed_in(site, person.session)


def test_a_visitor_leaves_nothing_in_the_database(site: Site) -> None:
    before = site.dump()

    for path in ("/daemon/login/", "/daemon/", "/", "/nowhere", "/api/daemon/jobs"):
        assert site.get(path).header("set-cookie") is None

    assert site.dump() == before


def test_signing_out_ends_the_session_and_its_open_pages(site: Site) -> None:
    person = site.person("viewer")
    elsewhere = site.again(person)

    with (
        site.socket(session=person.session, origin=site.origin) as page,
        site.socket(session=elsewhere.session, origin=site.origin) as other,
    ):
        answer = site.post("/daemon/logout/", person)
        assert answer.location == "/daemon/login/"
        assert ended(page) == 4401
        other.ping().wait(PATIENCE)

    assert not signed_in(site, person.session)
    assert signed_in(site, elsewhere.session)
    assert site.post("/daemon/logout/", person).leads_to_sign_in


@pytest.mark.parametrize(
    ("signed_in_ago", "seen_ago", "lasts"),
    [(11.9, 1.9, True), (12.1, 0.1, False), (2.5, 2.1, False), (0, 0, True)],
)
def test_a_session_lasts_twelve_hours_and_two_unused(
    site: Site, signed_in_ago: float, seen_ago: float, lasts: bool
) -> None:
    person = site.person("viewer")
    now = site.tell("int(timezone.now().timestamp())")
    stamps = {
        "signed_in_at": int(now - signed_in_ago * 3600),
        "seen_at": int(now - seen_ago * 3600),
    }
    site.tell(f"stored({person.session!r}, **{stamps})")

    if not lasts:
        with site.socket(session=person.session, origin=site.origin) as page:
            assert ended(page) == 4401
    assert signed_in(site, person.session) == lasts


def test_an_open_page_alone_keeps_nobody_signed_in(site: Site) -> None:
    person = site.person("viewer")
    seen = site.tell("int(timezone.now().timestamp()) - 1800")
    site.tell(f"stored({person.session!r}, seen_at={seen})")

    site.get("/daemon/", person, ("X-Unattended", "live"))
    unattended = site.tell(f"SessionStore({person.session!r})['seen_at']")
    site.get("/daemon/", person)
    attended = site.tell(f"SessionStore({person.session!r})['seen_at']")

    assert unattended == seen
    assert attended > seen


def test_a_session_without_its_times_is_none(site: Site) -> None:
    person = site.person("admin")
    site.tell(f"stored({person.session!r}, signed_in_at='yesterday')")

    assert not signed_in(site, person.session)


def test_a_request_of_a_page_whose_session_ended_leads_to_the_sign_in(site: Site) -> None:
    shown = f"{site.origin}/daemon/jobs/?q=x"

    htmx = site.get("/daemon/", None, ("HX-Request", "true"), ("HX-Current-URL", shown))
    fetched = site.get(
        "/daemon/", None, ("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Site", "same-origin")
    )
    sent = site.post("/daemon/jobs/1/start/", None, next="/daemon/jobs/1/")

    assert htmx.status == 401
    assert htmx.header("hx-redirect") == "/daemon/login/?next=%2Fdaemon%2Fjobs%2F%3Fq%3Dx"
    assert fetched.status == 401
    assert sent.location == "/daemon/login/?next=%2Fdaemon%2Fjobs%2F1%2F"


# ── A new password ───────────────────────────────────────────────────────────────────────────────
def choose(site: Site, person: Person, new: str = "vier rote Segel!", **more: str) -> Answer:
    return site.post("/daemon/password/", person, new_password1=new, new_password2=new, **more)


def test_a_new_password_ends_every_other_session_and_its_pages(site: Site) -> None:
    person = site.person("admin", PASSWORD)
    elsewhere = site.again(person)

    with site.socket(session=elsewhere.session, origin=site.origin) as page:
        answer = choose(site, person, old_password=PASSWORD)
        assert ended(page) == 4401

    fresh, _attributes = cookie_of(site, answer)
    assert answer.status == 303
    assert signed_in(site, fresh)
    assert not signed_in(site, person.session)
    assert not signed_in(site, elsewhere.session)
    assert by_password(site, person.name, PASSWORD).status == 403


def test_a_password_is_not_changed_without_the_old_one(site: Site) -> None:
    person = site.person("admin", PASSWORD)

    assert choose(site, person).status == 422
    assert choose(site, person, old_password="x").status == 422
    # What was typed wrong four times more is not tried any more.
    assert [choose(site, person, old_password="x").status for _n in range(6)][-1] == 429
    assert site.tell(f"account({person.pk}).check_password({PASSWORD!r})")


def test_who_came_by_the_link_may_have_forgotten_the_old_one(site: Site) -> None:
    person = site.person("admin", PASSWORD)
    came = by_ticket(site, site.tell(f"ticket({person.pk})"))
    session, _attributes = cookie_of(site, came)
    shown = site.get("/daemon/password/", None, ("Cookie", f"{site.cookie}={session}"))
    csrf = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', shown.text)[0]
    back = Person(**vars(person) | {"session": session, "csrf": csrf})

    assert "old_password" not in shown.text
    assert choose(site, back, new="x").status == 422
    assert choose(site, back, new="password123").status == 422
    assert choose(site, back).status == 303


# ── Row 6: rights that were lost ─────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "change", ["role='viewer'", "is_active=False", "password='neun graue Gänse'"]
)
def test_an_open_page_loses_its_rights_when_its_account_does(site: Site, change: str) -> None:
    person = site.person("admin")

    with site.socket(session=person.session, origin=site.origin) as page:
        served(page)
        site.tell(f"change({person.pk}, {change})")
        assert ended(page) in {4401, 4403}

    assert site.get("/daemon/jobs/new/", person).status != 200


def test_a_revoked_token_ends_with_its_next_word(site: Site) -> None:
    person = site.person("operator")
    bearer = ("Authorization", f"Bearer {person.token}")
    assert site.get("/api/daemon/jobs", None, bearer).status == 200

    with site.socket(token=person.token) as program:
        served(program)
        site.tell(f"Token.objects.get(account={person.pk}).revoke(timezone.now())")
        assert ended(program) == 4401

    assert site.get("/api/daemon/jobs", None, bearer).status == 401


@pytest.mark.parametrize("way", ["page", "administration", "command line"])
def test_a_token_revoked_by_any_way_ends_what_is_open(site: Site, way: str) -> None:
    chef, person = site.person("admin"), site.person("operator")
    token = person.token.split("_")[1]

    with site.socket(token=person.token) as program:
        served(program)
        if way == "page":
            assert site.post(f"/daemon/tokens/{token}/revoke/", chef).status == 303
        elif way == "administration":
            chosen = {"action": "revoke", "_selected_action": token}
            assert site.post("/admin/daemon_app/token/", chef, **chosen).status == 302
        else:
            assert site.tell(f"command('daemon', 'token', 'revoke', '{token}')") == 0
        assert ended(program) == 4401


def test_a_role_taken_in_the_administration_ends_open_pages(site: Site) -> None:
    chef, person = site.person("admin"), site.person("operator")

    with site.socket(session=person.session, origin=site.origin) as page:
        served(page)
        fields = {"username": person.name, "role": "viewer", "is_active": "on"}
        answer = site.post(f"/admin/daemon_app/account/{person.pk}/change/", chef, **fields)
        assert answer.status == 302
        assert ended(page) == 4403


def test_a_token_whose_time_is_over_ends_what_is_open(site: Site) -> None:
    person = site.person("viewer")
    # Nobody rings for this: it is the clock alone.
    site.tell(
        f"Token.objects.filter(account={person.pk})"
        ".update(expires_at=timezone.now() + timedelta(seconds=1.5))"
    )

    with site.socket(token=person.token) as program:
        assert ended(program) == 4401

    bearer = ("Authorization", f"Bearer {person.token}")
    assert site.get("/api/daemon/jobs", None, bearer).status == 401


# ── Row 5: what a page may say ───────────────────────────────────────────────────────────────────
def test_nothing_said_on_a_socket_changes_anything(site: Site) -> None:
    person = site.person("admin")
    job = site.tell(f"job('unmoved {person.name}').pk")
    dice = random.Random(5)
    commands = [
        {"t": verb, "job": job, "run": 1, "id": job}
        for verb in ("start", "run", "delete", "cancel", "toggle", "save", "shell", "eval")
    ]
    hostile: list[str | bytes] = [json.dumps(command) for command in commands]
    hostile += [
        "",
        "{}",
        "[]",
        "null",
        "1",
        '{"t":1}',
        '{"t":null}',
        "[" * 5000,
        '"\\ud800"',
        "\0" * 99,
    ]
    hostile += [
        json.dumps({"t": "log", "run": value, "from": None})
        for value in (-1, 10**30, "../1", 1.5, True)
    ]
    hostile += [
        json.dumps({"t": "show", "regions": {name: None}})
        for name in ("x:../..", "run-head:-1", "\0", "nav")
    ]
    hostile += [
        json.dumps({"t": "hello", "regions": "x" * 5000}),
        b"\xff\xfe",
        dice.randbytes(4000),
    ]
    hostile += [dice.randbytes(dice.randrange(1, 300)) for _n in range(20)]
    before = site.dump()

    for said in hostile:
        with site.socket(session=person.session, origin=site.origin) as page:
            page.send(said)
            with contextlib.suppress(ConnectionClosed):
                page.ping().wait(0.2)

    assert site.dump() == before
    assert site.get("/daemon/", person).status == 200

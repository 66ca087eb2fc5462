"""The page about the REST interface: what it tells is what the interface does."""

import html
import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app.api.examples import operations
from daemon_app.api.schema import description
from daemon_app.api.throttle import Writes
from daemon_app.models import Account, Token
from tests.api.caller import Caller
from tests.pages.test_pages import text_of

ADDRESS = "/daemon/api/"
LINE = re.compile(r'<code class="whole">(curl .*?)</code>', re.DOTALL)
# What an example can't know: which things there are, and what time it is.
UNKNOWN = {"until", "deadline", "since", "day", "pools", "run_id"}


@pytest.fixture(autouse=True)
def forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writes, "buckets", {})


@pytest.fixture
def program(db: None) -> Caller:
    account = Account.objects.create(username="program", role="admin")
    life = timedelta(days=400)
    _token, text = Token.issue(account, name="x", role="admin", now=timezone.now(), life=life)
    return Caller(Authorization=f"Bearer {text}")


def lines_of(page: Any) -> list[str]:
    return [html.unescape(line) for line in LINE.findall(page.content.decode())]


def test_it_tells_of_each_request_with_the_role_it_needs(viewer: Client) -> None:
    page = viewer.get(ADDRESS)
    text = html.unescape(text_of(page))

    assert page.status_code == 200
    for operation in operations(description()):
        assert f'id="{operation["operationId"]}"' in page.content.decode()
        assert operation["summary"] in text
    assert "Betrachter" in text
    assert "Bediener" in text
    assert "Administrator" in text


def test_each_line_to_copy_is_a_request_that_is_understood(viewer: Client, program: Caller) -> None:
    # What deletes comes last: the others are about what is there.
    lines = sorted(lines_of(viewer.get(ADDRESS)), key=lambda line: "-X DELETE" in line)

    assert len(lines) >= len([*operations(description())])
    for line in lines:
        method, path, headers, body = request_of(line)
        answer = program(method, path, body, headers=headers)
        slips = answer.json()["error"]["fields"] if answer.status_code == 400 else {}
        assert answer.status_code not in {401, 403, 405, 406, 415}, (line, answer.content)
        assert answer.status_code < 500, (line, answer.content)
        assert answer.status_code != 400 or {*slips} <= UNKNOWN, (line, answer.content)
        assert answer.status_code != 400 or slips, (line, answer.content)


def request_of(line: str) -> tuple[str, str, dict[str, str], str | None]:
    """Return method, path, headers and body of a line for a shell."""
    curl, *words = shlex.split(line)
    method, path, body = "", "", None
    headers: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-d":
            body = words.pop(0)
            json.loads(body)
        elif word == "-H":
            name, _colon, value = words.pop(0).partition(": ")
            headers |= {name: value} if value else {}
        else:
            path = word.removeprefix("$API/")
    assert curl == "curl"
    return method or ("POST" if body else "GET"), path, headers, body


def test_each_reference_leads_to_something_on_the_page(viewer: Client) -> None:
    shown = viewer.get(ADDRESS).content.decode()
    ids = re.findall(r'\bid="([^"]+)"', shown)

    assert len(ids) == len({*ids})
    assert {*re.findall(r'href="#([^"]+)"', shown)} <= {*ids}


def test_it_names_what_can_go_wrong_by_code(viewer: Client) -> None:
    text = text_of(viewer.get(ADDRESS))

    for code in ("invalid", "invalid_token", "forbidden", "not_found", "overlap", "tidied_away"):
        assert code in text


def test_settings_and_tokens_lead_there(admin: Client, viewer: Client) -> None:
    for page in (admin.get("/daemon/tokens/"), viewer.get("/daemon/settings/")):
        assert f'href="{ADDRESS}"' in page.content.decode()


def test_tokens_are_offered_to_whoever_may_make_them(admin: Client, viewer: Client) -> None:
    main = re.compile(r"<main.*</main>", re.DOTALL)

    assert 'href="/daemon/tokens/"' in main.findall(admin.get(ADDRESS).content.decode())[0]
    assert 'href="/daemon/tokens/"' not in main.findall(viewer.get(ADDRESS).content.decode())[0]


def test_the_description_for_programs_is_one_click_away(viewer: Client) -> None:
    shown = viewer.get(ADDRESS).content.decode()

    assert 'href="/api/daemon/openapi.json"' in shown
    assert viewer.get("/api/daemon/openapi.json", headers={"Host": "localhost"}).status_code == 200

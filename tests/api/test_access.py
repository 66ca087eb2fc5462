"""Who may do what, for every endpoint, method and way to be somebody."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app.api import urls
from daemon_app.models import Account, Incident, Job, Node, Policy, Pool, Run, Token
from daemon_app.models.access import RIGHTS
from tests.api.caller import Caller, Maker
from tests.jobs import NOON, job, run

ROLES = ("viewer", "operator", "admin")
# Every operation there is: method, path, right.
OPERATIONS = (
    ("GET", "jobs", "view"),
    ("POST", "jobs", "edit"),
    ("GET", "jobs/{job}", "view"),
    ("PATCH", "jobs/{job}", "edit"),
    ("DELETE", "jobs/{job}", "edit"),
    ("PUT", "jobs/{job}/toggle", "operate"),
    ("POST", "jobs/{job}/pause", "operate"),
    ("POST", "jobs/{job}/run", "operate"),
    ("GET", "jobs/{job}/why", "view"),
    ("GET", "jobs/overview", "view"),
    ("GET", "jobs/{job}/figures", "view"),
    ("POST", "jobs/check", "edit"),
    ("POST", "jobs/{job}/copy", "edit"),
    ("POST", "jobs/{job}/check", "edit"),
    ("GET", "jobs/{job}/mute", "view"),
    ("PUT", "jobs/{job}/mute", "operate"),
    ("DELETE", "jobs/{job}/mute", "operate"),
    ("GET", "jobs/{job}/upcoming", "view"),
    ("GET", "jobs/{job}/changes", "view"),
    ("GET", "changes", "view"),
    ("GET", "schedules/preview", "view"),
    ("GET", "calendar", "view"),
    ("GET", "starters", "view"),
    ("POST", "starters/begin", "edit"),
    ("GET", "find", "view"),
    ("GET", "export", "view"),
    ("GET", "audit", "manage"),
    ("GET", "audit/export", "manage"),
    ("GET", "audit/verify", "manage"),
    ("GET", "tokens", "manage"),
    ("POST", "tokens", "manage"),
    ("GET", "tokens/{token}", "manage"),
    ("POST", "tokens/{token}/revoke", "manage"),
    ("GET", "runs", "view"),
    ("GET", "runs/{run}", "view"),
    ("GET", "runs/{run}/log", "view"),
    ("GET", "runs/{run}/log/search", "view"),
    ("GET", "runs/{run}/transcript", "view"),
    ("POST", "runs/{ended}/again", "operate"),
    ("POST", "runs/{run}/cancel", "operate"),
    ("POST", "runs/{run}/force", "operate"),
    ("POST", "runs/{run}/move", "operate"),
    ("GET", "runs/{run}/why", "view"),
    ("GET", "queue", "view"),
    ("POST", "hold", "operate"),
    ("POST", "resume", "operate"),
    ("POST", "start", "operate"),
    ("POST", "stop", "operate"),
    ("GET", "policy", "view"),
    ("PUT", "policy", "edit"),
    ("PATCH", "policy", "edit"),
    ("GET", "pools", "view"),
    ("POST", "pools", "edit"),
    ("GET", "pools/{pool}", "view"),
    ("PUT", "pools/{pool}", "edit"),
    ("PATCH", "pools/{pool}", "edit"),
    ("DELETE", "pools/{pool}", "edit"),
    ("POST", "activity", "operate"),
    ("GET", "presence", "view"),
    ("PUT", "presence", "operate"),
    ("GET", "incidents", "view"),
    ("POST", "incidents/{incident}/acknowledge", "operate"),
    ("DELETE", "incidents/{incident}/acknowledge", "operate"),
    ("GET", "health", "view"),
    ("GET", "health/history", "view"),
    ("GET", "idle/history", "view"),
    ("GET", "displacements", "view"),
    ("GET", "skills", "view"),
    ("GET", "status", "view"),
    ("GET", "openapi.json", "view"),
)
CHANGES = [(method, path) for method, path, _right in OPERATIONS if method != "GET"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def address() -> Callable[[str], str]:
    there = job()
    waiting = run(job("other"))
    Pool(name="gpu").store(now=NOON, by="anna")
    told = Incident.note("stalled", now=NOON, seconds=40)
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now, seen_at=now)
    owner = Account.objects.create(username="somebody", role="viewer")
    token, _text = Token.issue(owner, name="theirs", role="viewer", now=now, life=None)
    numbers = {
        "job": there.pk,
        "run": waiting.pk,
        "ended": run(there, state=Run.State.SUCCEEDED).pk,
        "incident": told.pk,
        "token": token.pk,
    }
    return lambda path: path.format(pool="gpu", **numbers)


@pytest.mark.parametrize(("method", "path", "right"), OPERATIONS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("way", ["with_token", "with_session"])
def test_a_role_may_do_what_its_rights_say_and_nothing_else(
    request: pytest.FixtureRequest,
    address: Callable[[str], str],
    way: str,
    role: str,
    method: str,
    path: str,
    right: str,
) -> None:
    caller = request.getfixturevalue(way)(role)

    answer = caller(method, address(path))

    if role in RIGHTS[right]:
        assert answer.status_code in {200, 201, 202, 204} or answer.json()["error"]["fields"]
    else:
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "forbidden"


@pytest.mark.parametrize(("method", "path", "right"), OPERATIONS)
def test_nobody_is_asked_to_sign_in(
    settings: Any,
    anonymous: Caller,
    address: Callable[[str], str],
    method: str,
    path: str,
    right: str,
) -> None:
    settings.PUBLIC_STATUS = False

    answer = anonymous(method, address(path))

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"] == "not_signed_in"
    assert Job.objects.count() == 2


def test_every_method_of_every_endpoint_stands_in_the_table_above() -> None:
    named = [p for p in urls.urlpatterns if p.name]

    found = {
        (method, str(pattern.pattern), right)
        for pattern in named
        for method, right in getattr(pattern.callback, "cls").rights.items()  # noqa: B009
    }

    wanted = {
        (m, re.sub(r"{\w+}", "<int:pk>", path.replace("{pool}", "<slug:name>")), right)
        for m, path, right in OPERATIONS
    }
    assert found == wanted


def test_no_endpoint_has_a_method_that_its_rights_leave_out() -> None:
    for pattern in urls.urlpatterns:
        view = getattr(pattern.callback, "cls")  # noqa: B009
        methods = {name.upper() for name in view.http_method_names if hasattr(view, name)}

        assert methods - {"OPTIONS"} == set(view.rights), view


def test_a_method_without_a_right_is_denied_to_everybody(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon_app.api.jobs.Jobs.rights", {})

    answer = admin("GET", "jobs")

    assert answer.status_code == 403


def test_a_token_can_do_no_more_than_its_account(with_token: Maker) -> None:
    caller = with_token("admin")
    token = Token.objects.get()
    token.account.role = "viewer"
    token.account.save()

    answer = caller("POST", "jobs", {"name": "x"})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "spoiled",
    [
        "bach",
        "bach_1_",
        "bach_1_" + "0" * 64,
        "bach_x_y",
        "bach_99999999999999999999_y",
        "bach_²_y",
        "",
        "ü" * 200,
    ],
)
def test_a_false_token_is_refused_even_beside_a_valid_session(
    with_session: Maker, spoiled: str
) -> None:
    caller = with_session("admin")

    answer = caller("GET", "jobs", headers={"Authorization": f"Bearer {spoiled}"})

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_token"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_an_expired_or_revoked_token_or_one_of_a_closed_account_is_refused(
    with_token: Maker,
) -> None:
    now = timezone.now()
    expired = with_token("viewer", now=now - timedelta(days=2))
    revoked = with_token("operator")
    Token.objects.filter(role="operator").update(revoked_at=now)
    closed = with_token("admin")
    Token.objects.get(role="admin").account.__class__.objects.filter(role="admin").update(
        is_active=False
    )

    codes = [caller("GET", "jobs").status_code for caller in (expired, revoked, closed)]

    assert codes == [401, 401, 401]


def test_a_token_in_the_address_counts_for_nothing(with_token: Maker, anonymous: Caller) -> None:
    caller = with_token("admin")
    text = caller.headers["Authorization"].removeprefix("Bearer ")

    for name in ("token", "access_token", "Authorization"):
        assert anonymous("GET", f"jobs?{name}={text}").status_code == 401


def test_the_use_of_a_token_is_noted_at_most_once_a_minute(
    viewer: Caller, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    viewer("GET", "jobs")
    first = Token.objects.get().last_used_at
    assert first
    with django_assert_num_queries(2):  # the token and the jobs, no writing
        viewer("GET", "jobs")
    again = Token.objects.get().last_used_at
    Token.objects.update(last_used_at=first - timedelta(seconds=61))
    viewer("GET", "jobs")

    assert again == first
    later = Token.objects.get().last_used_at
    assert later
    assert later > first


# ── From a browser ───────────────────────────────────────────────────────────────────────────────
FOREIGN = (
    "",
    "null",
    "http://evil.example",
    "http://localhost",
    "http://localhost:3000",
    f"https://localhost:{settings.PORT}",
    f"http://127.0.0.1:{settings.PORT}",
)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_session_changes_nothing_from_a_foreign_origin(
    with_session: Maker, address: Callable[[str], str], method: str, path: str
) -> None:
    caller, where = with_session("admin"), address(path)

    for origin in FOREIGN:
        answer = caller(method, where, {}, headers={"Origin": origin})

        assert answer.status_code == 403, origin
        assert answer.json()["error"]["code"] == "foreign_origin"
    assert Job.objects.filter(is_active=True).count() == 2
    assert Run.objects.count() == 2


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("token", ["", "b" * 32])
def test_a_session_changes_nothing_without_the_csrf_token(
    with_session: Maker, address: Callable[[str], str], method: str, path: str, token: str
) -> None:
    caller = with_session("admin")

    answer = caller(method, address(path), {}, headers={"X-CSRFToken": token})

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "csrf"


NOT_JSON = (
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain;application/json",
    "application/xml",
)


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("way", ["with_token", "with_session"])
def test_only_json_is_accepted(
    request: pytest.FixtureRequest,
    address: Callable[[str], str],
    way: str,
    method: str,
    path: str,
) -> None:
    caller, where = request.getfixturevalue(way)("admin"), address(path)

    for content_type in NOT_JSON:
        for body in ("", '{"name": "a", "command": "id"}'):
            answer = caller(method, where, body, content_type=content_type)

            assert answer.status_code == 415, (content_type, body)
    assert Job.objects.count() == 2


def test_a_token_needs_neither_origin_nor_csrf_token(
    admin: Caller, address: Callable[[str], str]
) -> None:
    answer = admin("POST", address("jobs/{job}/run"))

    assert answer.status_code == 202


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_whatever_is_sent_is_no_fault_of_ours(
    admin: Caller, address: Callable[[str], str], method: str, path: str
) -> None:
    odd: tuple[Any, ...] = (None, True, 1.5, 2**63, "x" * 300, [[]], {"": {}})
    where = address(path)
    names = ("name", "size", "mode", "note", "to", "beside", "max_parallel")

    for body in [*odd, *(dict.fromkeys(names, value) for value in odd)]:
        answer = admin(method, where, body)

        assert answer.status_code < 500, (method, path, body)
        if answer.status_code == 400:
            assert answer.json()["error"]["message"], body


def test_no_answer_allows_other_origins(with_session: Maker) -> None:
    answer = with_session("admin")("OPTIONS", "jobs", headers={"Origin": "http://evil.example"})

    assert answer.status_code == 204
    assert answer.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_looking_changes_nothing(admin: Caller, address: Callable[[str], str]) -> None:
    stored = (Job, Run, Pool, Policy, Incident)
    before = [list(model.objects.values()) for model in stored]
    asked = {"schedules/preview": "?schedule=@daily", "runs/{run}/log/search": "?q=x"}

    for method, path, _right in OPERATIONS:
        if method == "GET":
            where = address(path) + asked.get(path, "")
            for safe in ("GET", "HEAD", "OPTIONS"):
                assert admin(safe, where).status_code in {200, 204}, (safe, where)

    assert [list(model.objects.values()) for model in stored] == before

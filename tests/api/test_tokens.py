"""Tokens over REST."""

from datetime import timedelta

import pytest
from django.utils import timezone

from daemon_app.models import Change, Token
from tests.api.caller import Caller, Maker

pytestmark = pytest.mark.django_db


def test_a_token_is_made_shown_once_and_opens_what_its_role_may(admin: Caller) -> None:
    made = admin("POST", "tokens", {"name": " ci\x07 bot ", "role": "operator", "days": 0})

    # The one that asks ends tomorrow.
    assert made.status_code == 400
    made = admin("POST", "tokens", {"name": " ci\x07 bot ", "role": "operator"})

    assert made.status_code == 201, made.json()
    assert made["Cache-Control"] == "no-store"
    told = made.json()
    assert told["token"].startswith(f"bach_{told['id']}_")
    assert (told["name"], told["role"], told["account"]) == ("ci bot", "operator", "admin")
    assert (told["is_live"], told["last_used_at"]) == (True, None)
    assert made["Location"] == f"/api/daemon/tokens/{told['id']}"
    shown = admin("GET", f"tokens/{told['id']}")
    assert "token" not in shown.json()
    assert told["token"].rpartition("_")[2] not in shown.content.decode()
    caller = Caller(Authorization=f"Bearer {told['token']}")
    assert caller("GET", "jobs").status_code == 200
    assert caller("GET", "tokens").status_code == 403


def test_a_revoked_token_opens_nothing_and_stays_revoked(admin: Caller) -> None:
    made = admin("POST", "tokens", {"name": "ci"}).json()
    caller = Caller(Authorization=f"Bearer {made['token']}")
    assert caller("GET", "jobs").status_code == 200

    first = admin("POST", f"tokens/{made['id']}/revoke")
    again = admin("POST", f"tokens/{made['id']}/revoke")

    assert first.status_code == again.status_code == 200
    assert first.json()["is_live"] is False
    assert first.json()["revoked_at"] == again.json()["revoked_at"] is not None
    assert caller("GET", "jobs").status_code == 401
    assert Change.objects.filter(kind="revoked").count() == 1


def test_tokens_are_listed_newest_first_those_alive_or_the_others(
    admin: Caller, with_token: Maker
) -> None:
    first = Token.objects.get().pk
    ended, live = (admin("POST", "tokens", {"name": name}).json()["id"] for name in ("a", "b"))
    Token.objects.filter(pk=ended).update(expires_at=timezone.now() - timedelta(seconds=1))
    with_token("viewer")
    other = Token.objects.latest("pk")
    other.account.is_active = False
    other.account.save()

    def ids(query: str = "") -> list[int]:
        return [told["id"] for told in admin("GET", f"tokens{query}").json()["tokens"]]

    assert ids() == [other.pk, live, ended, first]
    assert ids("?is_live=true") == [live, first]
    assert ids("?is_live=false") == [other.pk, ended]
    assert ids(f"?limit=1&before={live}") == [ended]
    following = admin("GET", "tokens?limit=3").json()["next"]
    assert following.endswith(f"before={ended}")


def test_a_token_made_with_a_token_ends_with_it_at_the_latest(with_token: Maker) -> None:
    short = with_token("admin", life=timedelta(days=2, hours=1))

    usual = short("POST", "tokens", {"name": "usual"})
    longer = short("POST", "tokens", {"name": "longer", "days": 3})
    endless = short("POST", "tokens", {"name": "endless", "days": 0})

    own = Token.objects.get(name="test").expires_at
    assert usual.status_code == 201
    assert abs(Token.objects.get(name="usual").expires_at - own) < timedelta(seconds=1)
    for refused in (longer, endless):
        assert refused.status_code == 400
        assert [*refused.json()["error"]["fields"]] == ["days"]
    assert Token.objects.count() == 2


def test_people_and_endless_tokens_may_make_endless_ones(
    with_session: Maker, with_token: Maker
) -> None:
    person = with_session("admin")

    assert person("POST", "tokens", {"name": "a", "days": 0}).json()["expires_at"] is None
    assert person("POST", "tokens", {"name": "b"}).json()["expires_at"] is not None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": " \x00 "}, "name"),
        ({"name": "\x07"}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": 3}, "name"),
        ({"name": "a", "role": "root"}, "role"),
        ({"name": "a", "days": -1}, "days"),
        ({"name": "a", "days": 3651}, "days"),
        ({"name": "a", "days": 2**80}, "days"),
        ({"name": "a", "days": "30"}, "days"),
        ({"name": "a", "account": "anna"}, "account"),
    ],
)
def test_what_can_be_no_token_is_refused(admin: Caller, body: object, field: str) -> None:
    answer = admin("POST", "tokens", body)

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]
    assert Token.objects.count() == 1


def test_only_administrators_have_to_do_with_tokens(operator: Caller) -> None:
    number = Token.objects.get().pk

    assert operator("GET", "tokens").status_code == 403
    assert operator("POST", "tokens", {"name": "a"}).status_code == 403
    assert operator("POST", f"tokens/{number}/revoke").status_code == 403
    assert Token.objects.get().revoked_at is None


def test_a_name_is_measured_as_it_was_sent(admin: Caller) -> None:
    answer = admin("POST", "tokens", {"name": "\x01" * 80 + "x"})

    assert answer.status_code == 400
    assert "name" in answer.json()["error"]["fields"]

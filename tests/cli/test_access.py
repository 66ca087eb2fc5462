"""Signing in, and tokens: what is printed, what is kept, and who could read it."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone, translation

from daemon_app import cli
from daemon_app.cli import language
from daemon_app.cli.outcome import Code
from daemon_app.models import Account, Ticket, Token

LINK = re.compile(r"http://localhost:(\d+)/daemon/login/#t=([\w-]{43})")


class Answer:
    """What a command printed, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Answer]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    db: None,
) -> Iterator[Run]:
    """`bach …` in this process, on the test's own database, in German."""
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for kept in (language.current, language._catalogue):
        kept.cache_clear()

    def called(*arguments: str) -> Answer:
        code = cli.run([*arguments])
        return Answer(code, *capsys.readouterr())

    with translation.override("de"):
        yield called
    for kept in (language.current, language._catalogue):
        kept.cache_clear()


# ── login ────────────────────────────────────────────────────────────────────────────────────────
def test_the_link_signs_its_owner_in_once(run: Run) -> None:
    answer = run("daemon", "login", "--print")

    found = LINK.fullmatch(answer.out.strip())
    assert answer.code == Code.OK
    assert found is not None
    account = Ticket.redeem(found[2], timezone.now())
    assert account is not None
    assert account.can("manage")
    assert Ticket.redeem(found[2], timezone.now()) is None


def test_the_link_ends_after_five_minutes(run: Run) -> None:
    found = LINK.search(run("daemon", "login", "--print").out)

    assert found is not None
    assert Ticket.redeem(found[2], timezone.now() + timedelta(minutes=5)) is None


def test_only_the_link_goes_to_standard_output(run: Run) -> None:
    answer = run("daemon", "login", "--print")

    assert LINK.fullmatch(answer.out.removesuffix("\n"))
    assert "Oberfläche nicht" in answer.err


def test_without_a_screen_the_link_is_printed_with_what_to_do(run: Run) -> None:
    answer = run("daemon", "login")

    assert "Öffnen Sie diesen Link" in answer.out
    assert LINK.search(answer.out)


# ── token ────────────────────────────────────────────────────────────────────────────────────────
def test_a_token_is_shown_once_and_kept_as_a_fingerprint(run: Run) -> None:
    answer = run("daemon", "token", "create", "--name", "monitoring")

    text = answer.out.strip()
    found = Token.find(text, timezone.now())
    assert answer.code == Code.OK
    assert found is not None
    assert (found.name, found.role) == ("monitoring", "viewer")
    assert "nicht noch einmal" in answer.err
    secret = text.split("_")[2]
    assert secret not in run("daemon", "token", "list").out
    assert secret not in run("daemon", "token", "list", "--json").out


def test_role_and_days_are_as_asked_for(run: Run) -> None:
    answer = run(
        *("daemon", "token", "create", "--name", "deploy"),
        *("--role", "operator", "--days", "7", "--json"),
    )

    facts = json.loads(answer.out)
    token = Token.objects.get(pk=facts["id"])
    assert token.role == facts["role"] == "operator"
    assert token.expires_at is not None
    assert token.expires_at - token.created_at == timedelta(days=7)
    assert Token.find(facts["token"], timezone.now()) == token


def test_zero_days_are_for_ever(run: Run) -> None:
    run("daemon", "token", "create", "--name", "ever", "--days", "0")

    assert Token.objects.get().expires_at is None
    assert "nie" in run("daemon", "token", "list").out


def test_the_list_tells_valid_expired_and_revoked_apart(run: Run) -> None:
    now = timezone.now()
    owner = Account.owner()
    for name, life in (("good", timedelta(days=1)), ("old", -timedelta(days=1))):
        Token.issue(owner, name=name, role="viewer", now=now, life=life)
    withdrawn, _text = Token.issue(owner, name="gone", role="viewer", now=now, life=None)
    run("daemon", "token", "revoke", str(withdrawn.pk))

    said = run("daemon", "token", "list").out
    facts = json.loads(run("daemon", "token", "list", "--json").out)

    states = {each["name"]: each["state"] for each in facts}
    assert states == {"good": "valid", "old": "expired", "gone": "revoked"}
    for name, word in (("good", "gültig"), ("old", "abgelaufen"), ("gone", "widerrufen")):
        assert re.search(rf"{name}.*{word}", said)


def test_an_empty_list_says_how_to_make_the_first(run: Run) -> None:
    assert "bach daemon token create" in run("daemon", "token", "list").out


@pytest.mark.parametrize("written", ["{id}", "bach_{id}", "bach_{id}_0123abcd", " {id} "])
def test_a_token_is_revoked_by_its_number_or_its_text(run: Run, written: str) -> None:
    text = run("daemon", "token", "create", "--name", "leaked").out.strip()
    token = Token.objects.get()

    answer = run("daemon", "token", "revoke", written.format(id=token.pk))

    assert answer.code == Code.OK
    assert Token.find(text, timezone.now()) is None
    again = run("daemon", "token", "revoke", str(token.pk))
    assert again.code == Code.OK
    assert "war schon widerrufen" in again.out


@pytest.mark.parametrize("written", ["99", "monitoring", "", "-", "9" * 30, "٣", "bach_"])
def test_a_token_that_is_not_there_is_not_found(run: Run, written: str) -> None:
    answer = run("daemon", "token", "revoke", "--", written)

    assert answer.code == Code.NOT_FOUND
    assert "bach daemon token list" in answer.err

"""Callers of the interface, one for each way to be somebody."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from daemon_app.api.throttle import Limit
from daemon_app.models import Account, Token
from daemon_app.models.access import Role
from tests.api.caller import ORIGIN, Caller, Maker


def account(role: str) -> Account:
    return Account.objects.create(username=role, role=role)


@pytest.fixture(autouse=True)
def forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked for anything yet: numbers of tokens come again in each test."""
    monkeypatch.setattr(Limit, "buckets", {})


@pytest.fixture(autouse=True)
def own_folders(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
    settings.EXPORTS_DIR = tmp_path / "exports"


@pytest.fixture
def anonymous(db: None) -> Caller:
    return Caller()


@pytest.fixture
def with_token(db: None) -> Maker:
    """Return a maker of callers with a token of a role."""

    def make(role: str, **token: Any) -> Caller:
        owner = token.pop("account", None) or account(role)
        wanted = {"name": "test", "now": timezone.now(), "life": timedelta(days=1), **token}
        _token, text = Token.issue(owner, role=role, **wanted)
        return Caller(Authorization=f"Bearer {text}")

    return make


@pytest.fixture
def with_session(db: None) -> Maker:
    """Return a maker of callers who signed in on our pages and act from one of them."""

    def make(role: str) -> Caller:
        caller = Caller()
        caller.client.force_login(account(role))
        session = caller.client.session
        session["_csrftoken"] = "a" * 32
        session.save()
        caller.headers |= {"Origin": ORIGIN, "X-CSRFToken": "a" * 32}
        return caller

    return make


@pytest.fixture
def admin(with_token: Maker) -> Caller:
    return with_token(Role.ADMIN)


@pytest.fixture
def operator(with_token: Maker) -> Caller:
    return with_token(Role.OPERATOR)


@pytest.fixture
def viewer(with_token: Maker) -> Caller:
    return with_token(Role.VIEWER)

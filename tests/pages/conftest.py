"""Somebody of each role, signed in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from daemon_app.models import Account
from daemon_app.models.access import Role

Maker = Callable[[str], Client]


@pytest.fixture(autouse=True)
def own_folders(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "runs"


@pytest.fixture
def signed_in(db: None) -> Maker:
    """Return a maker of browsers in which an account of a role is signed in."""

    def make(role: str) -> Client:
        client = Client(raise_request_exception=True)
        client.force_login(Account.objects.create(username=f"the {role}", role=role))
        return client

    return make


@pytest.fixture
def admin(signed_in: Maker) -> Client:
    return signed_in(Role.ADMIN)


@pytest.fixture
def operator(signed_in: Maker) -> Client:
    return signed_in(Role.OPERATOR)


@pytest.fixture
def viewer(signed_in: Maker) -> Client:
    return signed_in(Role.VIEWER)

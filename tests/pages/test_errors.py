"""What went wrong, in the same design and in either language, with the way out."""

import re
import sqlite3

import pytest
from django.conf import settings as configured
from django.db import OperationalError, connection
from django.test import AsyncClient, Client, RequestFactory
from django.utils import translation

from daemon_app import database
from daemon_app.views import errors
from tests.pages.test_pages import text_of


@pytest.fixture
def without_jobs(db: None) -> None:
    """A database that lacks a table, as before it was brought up to date."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE daemon_jobs RENAME TO elsewhere")


def test_a_server_whose_database_is_not_ready_says_so_and_looks_again(
    admin: Client, without_jobs: None
) -> None:
    admin.raise_request_exception = False

    answer = admin.get("/daemon/jobs/")

    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert "Der Server ist noch nicht bereit" in text_of(answer)
    page = answer.content.decode()
    assert "daemon/js/wait" in page
    assert '<noscript><meta http-equiv="refresh"' in page


async def test_that_is_also_known_where_views_run_beside_the_event_loop(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = sqlite3.OperationalError("database is locked")
    monkeypatch.setattr("daemon_app.views.access.Account.objects.with_password", _raises(locked))
    async_client.raise_request_exception = False

    answer = await async_client.get("/daemon/login/")

    assert answer.status_code == 503


def _raises(error: Exception) -> object:
    def ask() -> None:
        raise error

    return ask


def test_what_was_sent_is_not_sent_again_by_itself(rf: RequestFactory) -> None:
    page = errors.not_ready(rf.post("/daemon/jobs/1/start/")).content.decode()

    assert "wait.js" not in page
    assert "refresh" not in page
    assert 'href="/daemon/"' in page


def test_a_program_is_told_in_its_own_way(admin: Client, without_jobs: None) -> None:
    answer = admin.get("/api/daemon/jobs")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "not_ready"


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ("no such table: daemon_jobs", True),
        ("database is locked", True),
        ("unable to open database file", True),
        ("database or disk is full", False),
        ("disk I/O error", False),
    ],
)
def test_only_what_passes_by_waiting_asks_to_wait(words: str, passes: bool) -> None:
    error = OperationalError(words)
    error.__cause__ = sqlite3.OperationalError(words)

    assert database.is_not_ready(error) is passes


@pytest.mark.parametrize("language", ["de", "en"])
def test_each_error_page_names_the_way_out(rf: RequestFactory, language: str) -> None:
    with translation.override(language):
        request = rf.get("/daemon/")
        pages = {
            400: errors.bad_request(request),
            403: errors.forbidden(request),
            404: errors.not_found(request),
            405: errors.wrong_method(request),
            429: errors.too_many_requests(request, 30),
            500: errors.server_error(request),
            503: errors.not_ready(request),
        }

        for status, answer in pages.items():
            page = answer.content.decode()
            assert answer.status_code == status
            assert f'<html lang="{language}"' in page
            assert re.search(r'<div class="actions">\s*<a class="button', page), status
            assert len(re.findall(r"<h1>", page)) == 1


def test_an_error_page_speaks_the_language_of_the_browser(client: Client) -> None:
    client.cookies[configured.LANGUAGE_COOKIE_NAME] = "en"

    assert "There is nothing to see here" in text_of(client.get("/daemon/login/language/"))

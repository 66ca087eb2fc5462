"""Whatever goes wrong below /api/, and whoever finds it: programs are told in one shape."""

import json

import pytest
from django.test import RequestFactory

from daemon_app.views import errors
from tests.security.site import Answer, Site


def error(answer: Answer) -> str:
    """Return the code of an error, checked for its shape."""
    assert answer.header("content-type") == "application/json", answer
    told = json.loads(answer.body)["error"]
    assert set(told) == {"code", "message", "fields"}
    assert told["message"]
    assert isinstance(told["fields"], dict)
    code: str = told["code"]
    return code


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ("GET /api/daemon/jobs HTTP/1.1\r\nHost: evil.example", 421, "wrong_host"),
        ("GET /api/daemon/jobs HTTP/1.1\r\nHost: {host}\r\nHost: {host}", 400, "bad_request"),
        (
            "GET /api/daemon/jobs HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example",
            403,
            "foreign_origin",
        ),
        (
            "GET /api/daemon/jobs HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: cross-site",
            403,
            "foreign_origin",
        ),
        (
            "POST /api/daemon/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0",
            403,
            "foreign_origin",
        ),
        ("TRACE /api/daemon/jobs HTTP/1.1\r\nHost: {host}", 405, "method_not_allowed"),
        ("BREW /api/daemon/jobs HTTP/1.1\r\nHost: {host}", 405, "method_not_allowed"),
        ("GET /api/daemon/%00 HTTP/1.1\r\nHost: {host}", 400, "bad_request"),
        ("GET /api/daemon/jobs HTTP/1.1\r\nHost: {host}", 401, "not_signed_in"),
        ("GET /api/daemon/nowhere HTTP/1.1\r\nHost: {host}", 401, "not_signed_in"),
        ("GET /api/ HTTP/1.1\r\nHost: {host}", 404, "not_found"),
        ("GET /api/other/jobs HTTP/1.1\r\nHost: {host}", 404, "not_found"),
    ],
)
def test_what_is_refused_is_told_to_programs_in_one_shape(
    site: Site, lines: str, status: int, code: str
) -> None:
    answer = site.send(f"{lines.format(host=site.host)}\r\nConnection: close\r\n\r\n".encode())

    assert (answer.status, error(answer)) == (status, code)
    if status == 405:
        assert "GET" in (answer.header("allow") or "")


def test_so_is_a_body_that_is_too_large(site: Site) -> None:
    token = ("Authorization", "Bearer x")
    answer = site.ask("POST", "/api/daemon/jobs", headers=[token], body=b" " * (257 * 1024))

    assert (answer.status, error(answer)) == (413, "too_large")


def test_people_are_told_in_plain_words(site: Site) -> None:
    answer = site.ask("GET", "/daemon/", host="evil.example")

    assert answer.status == 421
    assert answer.header("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (errors.bad_request, 400, "bad_request"),
        (errors.forbidden, 403, "forbidden"),
        (errors.not_found, 404, "not_found"),
        (errors.server_error, 500, "failed"),
        (errors.not_ready, 503, "not_ready"),
    ],
)
def test_what_goes_wrong_before_the_interface_is_told_so_too(
    answer: object, status: int, code: str
) -> None:
    request = RequestFactory().get("/api/daemon/jobs")
    page = RequestFactory().get("/daemon/jobs/")
    assert callable(answer)

    told, shown = answer(request), answer(page)

    assert (told.status_code, shown.status_code) == (status, status)
    assert json.loads(told.content)["error"]["code"] == code
    assert shown["Content-Type"].startswith("text/html")

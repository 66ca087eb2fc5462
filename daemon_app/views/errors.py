"""Pages for what went wrong. None of them needs the database or a session."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

Asked = ParamSpec("Asked")


def _answer(status: int, template: str, **context: object) -> HttpResponse:
    # Without the request: no context processor may ask the database for the account.
    return HttpResponse(render_to_string(template, context), status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that the request could not be understood (400)."""
    return _answer(400, "400.html")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that this account may not do that (403)."""
    return _answer(403, "403.html")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say that a form was not sent from a page of this visit (403)."""
    return _answer(403, "403_csrf.html")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that there is nothing at this address (404)."""
    return _answer(404, "404.html")


def wrong_method(request: HttpRequest) -> HttpResponse:
    """Say that this address does something, and shows nothing (405)."""
    response = _answer(405, "405.html")
    response["Allow"] = "POST"
    return response


View = Callable[Concatenate[HttpRequest, Asked], HttpResponse]


def only_post(view: View[Asked]) -> View[Asked]:
    """Let a view be asked by a form alone; whoever comes by an address gets our own page."""

    @wraps(view)
    def posted(request: HttpRequest, /, *args: Asked.args, **kwargs: Asked.kwargs) -> HttpResponse:
        if request.method != "POST":
            return wrong_method(request)
        return view(request, *args, **kwargs)

    return posted


def too_many_requests(request: HttpRequest, seconds: int) -> HttpResponse:
    """Say that somebody must wait `seconds` before trying again (429)."""
    response = _answer(429, "429.html", seconds=seconds)
    response["Retry-After"] = str(seconds)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Say that we failed (500)."""
    return _answer(500, "500.html")

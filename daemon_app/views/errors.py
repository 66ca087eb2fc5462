"""Pages for what went wrong. None of them needs the database or a session.

Programs get the same in the shape of the interface's errors, whoever found that it went wrong.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _t

from daemon_app import database
from daemon_app.guard import INTERFACE

Asked = ParamSpec("Asked")


def _answer(status: int, template: str, **context: object) -> HttpResponse:
    # Without the request: no context processor may ask the database for the account.
    return HttpResponse(render_to_string(template, context), status=status)


def _told(status: int, code: str, message: str) -> JsonResponse:
    error = {"code": code, "message": message, "fields": {}}
    return JsonResponse({"error": error}, status=status)


def _is_program(request: HttpRequest) -> bool:
    return request.path.startswith(INTERFACE)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that the request could not be understood (400)."""
    if _is_program(request):
        return _told(400, "bad_request", _t("This request can't be understood."))
    return _answer(400, "400.html")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that this account may not do that (403)."""
    if _is_program(request):
        return _told(403, "forbidden", _t("You may not do this."))
    return _answer(403, "403.html")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say that a form was not sent from a page of this visit (403)."""
    return _answer(403, "403_csrf.html")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that there is nothing at this address (404)."""
    if _is_program(request):
        return _told(404, "not_found", _t("There is nothing at this address."))
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
    """Say that we failed (500), or that the database is not ready yet (503)."""
    # Called while the failure is being handled.
    if database.is_not_ready(sys.exception()):
        return not_ready(request)
    if _is_program(request):
        words = _t("Something went wrong here. The log of the web server says what.")
        return _told(500, "failed", words)
    return _answer(500, "500.html")


# So many seconds a program does well to wait.
SOON = 5


def not_ready(request: HttpRequest) -> HttpResponse:
    """Say that the server is starting (503); what was only looked at loads itself again."""
    response: HttpResponse
    if _is_program(request):
        words = _t("The server is not ready yet. Try again in a few seconds.")
        response = _told(503, "not_ready", words)
    else:
        response = _answer(503, "503.html", waits=request.method in {"GET", "HEAD"})
    response["Retry-After"] = str(SOON)
    return response

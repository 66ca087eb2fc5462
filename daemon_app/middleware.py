"""Between the guard and the views: the language, who is here, how long a sign-in lasts.

The headers every answer carries are the guard's (daemon_app.guard).
"""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils import timezone, translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from daemon_app.clock import ARRIVED
from daemon_app.models import access, change
from daemon_app.signs.marks import REQUEST, Notebook

# Sent by our pages with what they fetch by themselves: an open page alone keeps nobody signed in.
UNATTENDED = "X-Unattended"


# What browsers load with a page by themselves.
PARTS = frozenset({"audio", "font", "image", "manifest", "script", "style", "track", "video"})

notebook = Notebook(settings.DATA_DIR)


class Language:
    """Answer in the language this browser has chosen; in German where it has chosen none.

    What the browser prefers by itself does not count: everybody finds the words that stand in the
    handbook until they ask for others.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, and leave no language behind for whoever is answered next."""
        chosen = request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, "")
        known = chosen if chosen in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
        with translation.override(known):
            response = self.get_response(request)
        response.headers.setdefault("Content-Language", known)
        return response


class Presence:
    """Note that a person is here: by a request with a sign-in, or by opening a page without one.

    What a page loads or asks by itself is no sign of anybody, nor is a program with a token. Stands
    before whatever may wait for the database: runs make way before the page is made.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Note who asks, and answer."""
        if not is_unattended(request):
            visitor = f"{request.META.get('REMOTE_ADDR')} {request.headers.get('User-Agent')}"
            if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
                key, who = str(request.session.session_key), request.user.get_username()
                at = arrived(request)
                notebook.note(key, who=who, signal=REQUEST, at=at, before=visitor)
            elif request.headers.get("Sec-Fetch-Mode") == "navigate":
                notebook.note(visitor, who="", signal=REQUEST, at=arrived(request))
        return self.get_response(request)


def is_unattended(request: HttpRequest) -> bool:
    """Return whether no person made this request: a program did, or a page by itself."""
    return (
        request.method in {"HEAD", "OPTIONS"}
        or UNATTENDED in request.headers
        or "Authorization" in request.headers
        or request.headers.get("Sec-Fetch-Dest") in PARTS
    )


def arrived(request: object) -> float:
    """Return when a request reached this process, in seconds since 1970."""
    at: float = getattr(request, "scope", {}).get(ARRIVED) or time.time()
    return at


class Asking:
    """Let the audit log know who asks, from where, and by which way."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return self.get_response(request)
        ways = {"api": change.Via.API, "admin": change.Via.ADMIN}
        asker = change.Asker(
            via=ways.get(request.path.split("/")[1], change.Via.PAGE),
            # Later: a token in the header is looked at by the interface itself.
            who=lambda: str(request.user.get_username()),
            address=str(request.META.get("REMOTE_ADDR", "")),
            token=lambda: getattr(getattr(request, "auth", None), "pk", None),
        )
        with change.asked_by(asker):
            return self.get_response(request)


class SessionLimits:
    """End a sign-in after 12 hours in all or 2 hours unused."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request, as nobody when the session is over."""
        # Without a cookie there is nothing to look up.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.user.is_authenticated:
            now = timezone.now()
            if access.is_over(request.session, now):
                logout(request)
            elif UNATTENDED not in request.headers:
                access.used(request.session, now)
        return self.get_response(request)


class SignInRequired(LoginRequiredMiddleware):
    """Every view wants somebody signed in, unless it says otherwise (`login_not_required`).

    Stands before the check of form tokens: a form sent after the session's end leads to the
    sign-in, not to "form expired".
    """

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        """Lead to the sign-in, and from there back to the page."""
        if request.headers.get("HX-Request") == "true":
            shown = urlsplit(request.headers.get("HX-Current-URL", ""))
            response = _gone()
            # htmx leaves the page for it, whatever the status.
            response["HX-Redirect"] = sign_in_address(
                f"{shown.path}?{shown.query}" if shown.query else shown.path
            )
            return response
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return _gone()
        if request.method in {"GET", "HEAD"}:
            return HttpResponseRedirect(sign_in_address(request.get_full_path()))
        # What was sent is lost; our forms say which page they were sent from.
        return HttpResponseRedirect(sign_in_address(request.POST.get("next", "")))


def sign_in_address(path: str) -> str:
    """Return the address of the sign-in page that leads back to `path` of ours."""
    return (
        f"{settings.LOGIN_URL}?{urlencode({'next': path})}" if is_ours(path) else settings.LOGIN_URL
    )


def is_ours(path: str) -> bool:
    """Return whether `path` is a path of this site, and nothing that leads elsewhere."""
    return path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None)


def _gone() -> HttpResponse:
    return HttpResponse(
        _("Your sign-in has ended. Please sign in again."),
        status=401,
        content_type="text/plain; charset=utf-8",
    )

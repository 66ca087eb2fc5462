"""Sign in by one-time link or password, sign out, choose a password or a language."""

import math
from datetime import datetime, timedelta
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from daemon_app import middleware
from daemon_app.models import Account, Ticket, access
from daemon_app.permissions import requires
from daemon_app.views.errors import only_post
from daemon_app.views.page import back, page, see_other

# So long after a one-time link nobody is asked for the old password: the link is the way back in
# for those who forgot it.
FRESH = timedelta(minutes=15)
BACKEND = "django.contrib.auth.backends.ModelBackend"


# Exempt from the form token: somebody not signed in has no session to keep it in, and making one
# would let every visitor write to the database. What the token is for, the guard does: a POST
# comes with exactly our origin or it does not come through.
@csrf_exempt
@login_not_required
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Show how to sign in; take a one-time ticket, or a name with a password."""
    if request.method != "POST":
        return _sign_in_page(request)
    now = timezone.now()
    if "ticket" in request.POST:
        return _by_ticket(request, now)
    return _by_password(request, now)


def _by_ticket(request: HttpRequest, now: datetime) -> HttpResponse:
    # Whoever pastes the whole link means the ticket in it.
    secret = request.POST["ticket"].strip().rpartition("#t=")[2]
    account = Ticket.redeem(secret, now)
    if account is None:
        return _sign_in_page(request, wrong="ticket", status=403)
    is_first = account.last_login is None
    _begin(request, account)
    request.session[access.BY_TICKET] = True
    if is_first and not account.has_usable_password():
        messages.info(
            request,
            _(
                "Welcome. If you like, set a password under “Password”; a new link from the "
                "terminal always lets you in."
            ),
        )
    return see_other(_destination(request))


def _by_password(request: HttpRequest, now: datetime) -> HttpResponse:
    username = request.POST.get("username", "").strip()
    if not username or not request.POST.get("password"):
        return _sign_in_page(request, wrong="password", status=422)
    who, where = access.account_subject(username), access.address_subject(_address(request))
    if free_at := access.Throttle.take([who, where], now):
        return _wait(
            _sign_in_page(request, wrong="often", status=429, wait=free_at - now), free_at - now
        )
    account = authenticate(request, username=username, password=request.POST.get("password", ""))
    if account is None:
        return _sign_in_page(request, wrong="password", status=403)
    access.Throttle.forgive(account=who, address=where, now=now)
    _begin(request, account)
    return see_other(_destination(request))


def _begin(request: HttpRequest, account: Account) -> None:
    # Django keeps the key of a session of the same account; whoever had learnt it would keep it.
    request.session.flush()
    login(request, account, backend=BACKEND)


def _sign_in_page(
    request: HttpRequest,
    *,
    wrong: str = "",
    status: int = 200,
    wait: timedelta | None = None,
) -> HttpResponse:
    signed_in = request.user.is_authenticated
    context = {
        "now": timezone.now(),
        "next": _destination(request),
        "wrong": wrong,
        "seconds": _seconds(wait) if wait else 0,
        "username": request.POST.get("username", "")[:150],
        "signed_in": signed_in,
        "ended": not signed_in and not wrong and settings.SESSION_COOKIE_NAME in request.COOKIES,
        "with_password": Account.objects.with_password().exists(),
        "minutes": int(access.TICKET_LIFE.total_seconds() // 60),
    }
    return render(request, "daemon/access/sign_in.html", context, status=status)


def _destination(request: HttpRequest) -> str:
    """Return the path of ours that the sign-in leads to."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    entry = middleware.is_ours(wanted) and not wanted.startswith(settings.LOGIN_URL)
    return wanted if entry else settings.LOGIN_REDIRECT_URL


# Exempt from the form token as signing in is: the choice stands on that page as well.
@csrf_exempt
@login_not_required
@only_post
def language(request: HttpRequest) -> HttpResponse:
    """Let this browser have our pages in the language it asks for, and go back to the page."""
    response = see_other(back(request, settings.LOGIN_REDIRECT_URL))
    chosen = request.POST.get("language", "")
    if chosen in dict(settings.LANGUAGES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            chosen,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.TLS,
            httponly=True,
            # It opens nothing; and whoever comes by a link of another page wants to read it too.
            samesite="Lax",
        )
    return response


@require_POST
@requires("view")
def sign_out(request: HttpRequest) -> HttpResponse:
    """End this session, here and on its open pages."""
    logout(request)
    return see_other(settings.LOGIN_URL)


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@requires("view")
def password(request: HttpRequest) -> HttpResponse:
    """Set or change one's own password; every other session of the account ends with it."""
    now = timezone.now()
    account = cast("Account", request.user)
    has_one = account.has_usable_password()
    asks_old = has_one and not access.came_by_ticket(request.session, now, FRESH)
    form_class = PasswordChangeForm if asks_old else SetPasswordForm
    form = form_class(account, request.POST or None)
    if request.method != "POST":
        return _password_page(request, form, now, has_one=has_one)
    who, where = access.account_subject(account.username), access.address_subject(_address(request))
    if asks_old and (free_at := access.Throttle.take([who, where], now)):
        form.add_error(None, _too_often(free_at - now))
        return _wait(_password_page(request, form, now, has_one=has_one, status=429), free_at - now)
    is_valid = form.is_valid()
    if asks_old and "old_password" not in form.errors:
        access.Throttle.forgive(account=who, address=where, now=now)
    if not is_valid:
        return _password_page(request, form, now, has_one=has_one, status=422)
    form.save()
    update_session_auth_hash(request, account)
    messages.success(
        request, _("Password saved. All other places where you were signed in are signed out.")
    )
    return see_other(settings.LOGIN_REDIRECT_URL)


def _password_page(
    request: HttpRequest,
    form: "SetPasswordForm[Account]",
    now: datetime,
    *,
    has_one: bool,
    status: int = 200,
) -> HttpResponse:
    context = {"form": form, "has_one": has_one}
    return page(
        request, "daemon/access/password.html", context, section="password", now=now, status=status
    )


def _address(request: HttpRequest) -> str:
    """Return the peer's address; behind a trusted proxy the guard has put the client's there."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _seconds(wait: timedelta) -> int:
    return max(1, math.ceil(wait.total_seconds()))


def _wait(response: HttpResponse, wait: timedelta) -> HttpResponse:
    response["Retry-After"] = str(_seconds(wait))
    return response


def _too_often(wait: timedelta) -> str:
    return _("Too many wrong attempts. Please wait %(n)s seconds.") % {"n": _seconds(wait)}

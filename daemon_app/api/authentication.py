"""Who asks: a program with a token, or a person with the session of our own pages."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _t
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from daemon_app.api.errors import Problem
from daemon_app.models import Account, Token

# A busy script must not write to the database with each of its reads.
USE_NOTED_EVERY = timedelta(minutes=1)


class BearerToken(BaseAuthentication):
    """`Authorization: Bearer bach_<id>_<secret>`. With such a header cookies count for nothing."""

    def authenticate(self, request: Request) -> tuple[Account, Token] | None:
        """Return the token's account and the token; None without a Bearer header."""
        scheme, _blank, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        now = timezone.now()
        token = Token.find(text.strip(), now)
        if token is None:
            raise AuthenticationFailed
        stale = now - USE_NOTED_EVERY
        if token.last_used_at is None or token.last_used_at <= stale:
            Token.objects.filter(
                Q(last_used_at=None) | Q(last_used_at__lte=stale), pk=token.pk
            ).update(last_used_at=now)
        return token.account, token

    def authenticate_header(self, request: Request) -> str:
        """Return what a 401 asks for."""
        return 'Bearer realm="BACH"'


class SameOriginSession(BaseAuthentication):
    """The cookie of our own pages; a change also wants their CSRF token and their exact origin."""

    def authenticate(self, request: Request) -> tuple[Account, None] | None:
        """Return the account signed in; None when nobody is."""
        page = request._request  # noqa: SLF001 - DRF's own user would ask us in turn
        account = getattr(page, "user", None)
        if not isinstance(account, Account) or not account.is_active:
            return None
        if request.method not in SAFE_METHODS:
            _require_our_origin(page)
            _require_csrf_token(page)
        return account, None


def _require_our_origin(request: HttpRequest) -> None:
    origin = request.headers.get("Origin", "")
    if origin not in settings.ORIGINS or urlsplit(origin).netloc != request.get_host().lower():
        raise Problem(
            403, "foreign_origin", _t("This request does not come from a page of this server.")
        )


def _require_csrf_token(request: HttpRequest) -> None:
    check = CSRFCheck(lambda _request: HttpResponse())
    check.process_request(request)
    if check.process_view(request, _never_called, (), {}):
        raise Problem(403, "csrf", _t("The page is out of date. Please reload it and try again."))


def _never_called(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError  # the check only looks whether a view is exempt

"""Who looks, by a session or by an API token: asked anew as long as something stays open."""

from importlib import import_module

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from daemon_app.models import Account, Token
from daemon_app.models.access import Role, is_over
from daemon_app.tiles import Viewer


def viewer_by_session(key: str) -> Viewer | None:
    """Return who is signed in by the session `key`; None when nobody is (any more).

    Nothing is written: a page that stays open is no sign of a person.
    """
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    number, proof = session.get(SESSION_KEY), session.get(HASH_SESSION_KEY, "")
    if number is None or is_over(session, timezone.now()):
        return None
    if session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return None
    account = Account.objects.filter(pk=number, is_active=True).first()
    if account is None:
        return None
    proofs = [account.get_session_auth_hash(), *account.get_session_auth_fallback_hash()]
    if not any(constant_time_compare(proof, each) for each in proofs):
        return None
    return Viewer(account.role, settings.LANGUAGE_CODE, account.pk, account.username)


def viewer_by_token(text: str) -> Viewer | None:
    """Return who looks with this API token: its account, with the lesser of the two roles."""
    token = Token.find(text, timezone.now())
    if token is None:
        return None
    role = min(token.role, token.account.role, key=Role.values.index)
    return Viewer(role, settings.LANGUAGE_CODE, token.account.pk, token.account.username)


def life_left(text: str) -> float | None:
    """Return for how many seconds more this API token is valid; None for one without an end."""
    now = timezone.now()
    token = Token.find(text, now)
    if token is None:
        return 0
    return (token.expires_at - now).total_seconds() if token.expires_at else None

"""Who may do what: accounts with a role, API tokens, one-time sign-in tickets (semantics 10)."""

import hashlib
import secrets
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX, make_password
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db import models, transaction
from django.db.models.functions import Greatest
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from daemon_app import live
from daemon_app.models.change import NEVER_TOLD, Change, differing

TICKET_LIFE = timedelta(minutes=5)
# After this many failures in a row each further guess waits: 30 s, 1 min, 2 min, … 15 min.
FREE_GUESSES = 5
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=15)
# Failures older than this are forgotten.
MEMORY = timedelta(minutes=15)


class Role(models.TextChoices):
    """What somebody may do; each role includes the ones before it."""

    VIEWER = "viewer", _("Viewer")
    OPERATOR = "operator", _("Operator")
    ADMIN = "admin", _("Administrator")


# Right → the roles that have it. "view": see jobs, runs and output; "operate": start and stop
# existing jobs; "edit": change what is executed; "manage": accounts and tokens.
RIGHTS: dict[str, frozenset[str]] = {
    "view": frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN}),
    "operate": frozenset({Role.OPERATOR, Role.ADMIN}),
    "edit": frozenset({Role.ADMIN}),
    "manage": frozenset({Role.ADMIN}),
}


# What the audit log tells of accounts and tokens.
TOLD = ("username", "role", "is_active")
TOKEN_TOLD = ("role", "expires_at")


def digest(secret: str) -> str:
    """Return the SHA-256 of a random secret in hex: all that is ever stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


class AccountManager(BaseUserManager["Account"]):
    """Accounts, and how they are made."""

    def create_user(
        self, username: str, password: str | None = None, *, role: str = Role.VIEWER, **facts: Any
    ) -> "Account":
        """Return a new account; without `password` only a one-time link lets it in."""
        account = self.model(username=self.model.normalize_username(username), role=role, **facts)
        account.password = make_password(password)
        account.save(using=self._db)
        return account

    def create_superuser(self, username: str, password: str | None = None) -> "Account":
        """Return a new administrator, for `manage.py createsuperuser`."""
        return self.create_user(username, password, role=Role.ADMIN)

    def with_password(self) -> models.QuerySet["Account"]:
        """Accounts that can sign in with a password."""
        usable = self.filter(is_active=True).exclude(password="")
        return usable.exclude(password__startswith=UNUSABLE_PASSWORD_PREFIX)


class Account(AbstractBaseUser):
    """A person who signs in. Without a usable password only the one-time link lets them in.

    The role alone says what they may do; Django's permissions and groups are not used.
    """

    username = models.CharField(
        _("user name"),
        max_length=150,
        unique=True,
        validators=[UnicodeUsernameValidator()],
        error_messages={"unique": _("There is already an account with this name.")},
    )
    role = models.CharField(
        _("role"), max_length=10, choices=Role.choices, default=Role.VIEWER, db_index=True
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Switched off, nobody can sign in with it.")
    )
    date_joined = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    objects = AccountManager()

    USERNAME_FIELD = "username"

    class Meta:
        db_table = "daemon_accounts"
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ("username",)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the account; its open pages look again what it may see."""
        if kwargs.get("update_fields") == ["last_login"]:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            before = Account.objects.select_for_update().filter(pk=self.pk or 0).first()
            # A password that is only hashed anew, at a sign-in, is the same password.
            is_same = (
                kwargs.get("update_fields") == ["password"]
                and getattr(self, "_password", None) is None
            )
            super().save(*args, **kwargs)
            self.ring()
            self._record(before, is_same=is_same)

    def _record(self, before: "Account | None", *, is_same: bool) -> None:
        """Write down what the saving has changed; of a password only that it was."""
        changes = differing(before, self, TOLD)
        if before is None:
            Change.record(self, Change.Kind.CREATED, changes, called=self.username)
            return
        if before.password != self.password and not is_same:
            changes[NEVER_TOLD] = [before.has_usable_password(), self.has_usable_password()]
        if changes:
            Change.record(self, Change.Kind.EDITED, changes, called=self.username)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete the account with its tokens; its open pages end."""
        with transaction.atomic():
            self.ring()
            gone = Account(pk=self.pk)
            deleted = super().delete(*args, **kwargs)
            Change.record(gone, Change.Kind.DELETED, called=self.username)
        return deleted

    def ring(self) -> None:
        """Tell the open pages of this account that its rights may have changed."""
        live.changed(f"account:{self.pk}")

    def can(self, right: str) -> bool:
        """Return whether this account has `right`; an inactive one has none."""
        return self.is_active and self.role in RIGHTS[right]

    @property
    def is_staff(self) -> bool:
        """Whether Django's admin is open to this account."""
        return self.can("manage")

    def has_perm(self, perm: str, obj: object = None) -> bool:  # noqa: ARG002 - Django's question
        """Return whether this account has one of Django's permissions: administrators have all."""
        return self.can("manage")

    def has_module_perms(self, app_label: str) -> bool:  # noqa: ARG002 - Django's question
        """Return whether this account may see an application in Django's admin."""
        return self.can("manage")

    @classmethod
    def owner(cls) -> "Account":
        """Return the account of whoever owns the data folder, made on first use.

        It administers and has no password until one is set. Demoted or switched off, it comes
        back: who owns the folder can change every row of it anyway, and this is the way back in.
        """
        account, _made = cls.objects.get_or_create(
            username="owner", defaults={"role": Role.ADMIN, "password": make_password(None)}
        )
        if not account.can("manage"):
            account.role, account.is_active = Role.ADMIN, True
            account.save(update_fields=["role", "is_active"])
        return account


class Ticket(models.Model):
    """A one-time sign-in link: valid once, for five minutes, stored as a hash."""

    digest = models.CharField(max_length=64, unique=True)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="tickets")
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "daemon_tickets"

    def __str__(self) -> str:
        return f"ticket for {self.account}"

    @classmethod
    def issue(cls, account: Account, now: datetime) -> str:
        """Return the secret of a new ticket for `account`; expired ones are cleared away."""
        secret = secrets.token_urlsafe(32)
        with transaction.atomic():
            cls.objects.filter(expires_at__lte=now).delete()
            cls.objects.create(digest=digest(secret), account=account, expires_at=now + TICKET_LIFE)
            Change.record(account, Change.Kind.LINK, now=now, called=account.username)
        return secret

    @classmethod
    def redeem(cls, secret: str, now: datetime) -> Account | None:
        """Return the account a ticket signs in, and use it up; None when it is not valid.

        Of two redeemers one wins: the row's deletion decides.
        """
        ticket = (
            cls.objects.filter(digest=digest(secret), expires_at__gt=now)
            .select_related("account")
            .first()
        )
        if ticket is None or not cls.objects.filter(pk=ticket.pk).delete()[0]:
            return None
        return ticket.account if ticket.account.is_active else None


class Token(models.Model):
    """An API token `bach_<id>_<secret>`; the secret is shown once and kept as a hash."""

    name = models.CharField(_("name"), max_length=80)
    digest = models.CharField(max_length=64, editable=False)
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="tokens", verbose_name=_("account")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField(_("created"))
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True, editable=False)

    class Meta:
        db_table = "daemon_tokens"
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    def __str__(self) -> str:
        return f"{self.name} (bach_{self.pk}_…)"

    def can(self, right: str) -> bool:
        """Return whether this token has `right`: never more than its account has."""
        return self.role in RIGHTS[right] and self.account.can(right)

    def is_live(self, now: datetime) -> bool:
        """Return whether this token still opens anything."""
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not expired and self.account.is_active

    def revoke(self, now: datetime) -> bool:
        """End this token for good; False when it already was."""
        with transaction.atomic():
            ended = Token.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=now)
            if ended:
                self.revoked_at = now
                self.account.ring()
                Change.record(self, Change.Kind.REVOKED, now=now)
        return bool(ended)

    @classmethod
    def issue(
        cls, account: Account, *, name: str, role: str, now: datetime, life: timedelta | None
    ) -> tuple[Self, str]:
        """Return a new token and its full text, which can't be had again."""
        secret = secrets.token_hex(32)
        with transaction.atomic():
            token = cls.objects.create(
                name=name,
                digest=digest(secret),
                account=account,
                role=role,
                created_at=now,
                expires_at=now + life if life else None,
            )
            told = {**differing(None, token, TOKEN_TOLD), "account": [None, account.username]}
            Change.record(token, Change.Kind.CREATED, told, now=now)
        return token, f"bach_{token.pk}_{secret}"

    @classmethod
    def find(cls, text: str, now: datetime) -> Self | None:
        """Return the live token with this full text; None for any other text."""
        prefix, _sep, rest = text.partition("_")
        number, _sep, secret = rest.partition("_")
        if prefix != "bach" or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        token = (
            cls.objects.filter(pk=int(number), revoked_at=None)
            .exclude(expires_at__lte=now)
            .select_related("account")
            .first()
        )
        if token is None or not secrets.compare_digest(token.digest, digest(secret)):
            return None
        return token if token.account.is_active else None


class Throttle(models.Model):
    """How often somebody guessed a password wrongly: by name, and by address.

    In the database, for any number of web processes share it. What was typed as a name may be a
    password, so only a keyed hash is kept. Loopback is counted like any other address. One-time
    tickets are not throttled: 256 bits can't be guessed, and nobody shall be able to shut the
    owner out.
    """

    subject = models.CharField(max_length=64, unique=True)
    failures = models.PositiveIntegerField()
    free_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "daemon_throttles"

    def __str__(self) -> str:
        return f"{self.failures} failures, free at {self.free_at}"

    @classmethod
    def take(cls, subjects: Iterable[str], now: datetime) -> datetime | None:
        """Count one guess against each subject; None when it may be tried.

        Otherwise return the instant from which it may; nothing is counted then. It is counted
        before it is tried, so that a thousand guesses at once are no more than a thousand in turn.
        """
        keys = sorted(cls._key(subject) for subject in subjects)
        with transaction.atomic():
            cls.objects.filter(free_at__lte=now - MEMORY).delete()
            rows = {row.subject: row for row in cls._locked(keys)}
            waits = [row.free_at for row in rows.values() if row.free_at > now]
            if waits:
                return max(waits)
            for key in keys:
                failures = (rows[key].failures if key in rows else 0) + 1
                wait = timedelta(0)
                if failures >= FREE_GUESSES:
                    doublings = min(failures - FREE_GUESSES, 10)
                    wait = min(FIRST_WAIT * 2**doublings, LONGEST_WAIT)
                cls.objects.update_or_create(
                    subject=key, defaults={"failures": failures, "free_at": now + wait}
                )
        return None

    @classmethod
    def forgive(cls, *, account: str, address: str, now: datetime) -> None:
        """Take back the guess that was right: wholly for the account, once for the address.

        Else whoever has one account could clear the way for guesses at another.
        """
        with transaction.atomic():
            cls.objects.filter(subject=cls._key(account)).delete()
            cls.objects.filter(subject=cls._key(address)).update(
                failures=Greatest(models.F("failures"), 1) - 1, free_at=now
            )

    @classmethod
    def _locked(cls, keys: list[str]) -> models.QuerySet[Self]:
        return cls.objects.select_for_update().filter(subject__in=keys).order_by("subject")

    @staticmethod
    def _key(subject: str) -> str:
        return salted_hmac("daemon_app.throttle", subject, algorithm="sha256").hexdigest()


def account_subject(username: str) -> str:
    """Return what guesses at one account are counted under."""
    return f"account:{Account.normalize_username(username).casefold()}"


def address_subject(address: str) -> str:
    """Return what guesses from one address are counted under: an IPv6 network counts as one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"address:{address}"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return f"address:{parsed.ipv4_mapped}"
        return f"address:{int(parsed) >> 64:x}"
    return f"address:{parsed}"


# ── Sessions: 12 hours in all, 2 hours unused ────────────────────────────────────────────────────
SIGNED_IN_AT, SEEN_AT, BY_TICKET = "signed_in_at", "seen_at", "by_ticket"
# The time of use is written this seldom: not every request shall write to the database.
SEEN_STEP = timedelta(minutes=1)


@receiver(user_logged_in)
def begin(request: HttpRequest, user: Account, **_more: Any) -> None:
    """Note in a fresh session when somebody signed in."""
    request.session[SIGNED_IN_AT] = request.session[SEEN_AT] = int(timezone.now().timestamp())
    request.session.pop(BY_TICKET, None)
    how = "link" if "ticket" in request.POST else "password"
    Change.record(user, Change.Kind.SIGNED_IN, by=user.username, called=user.username, how=how)


@receiver(user_logged_out)
def end(request: HttpRequest, user: Account | None, **_more: Any) -> None:
    """Let the open pages of somebody who signed out look again."""
    if user is None:
        return
    user.ring()
    if not is_over(request.session, timezone.now()):
        Change.record(user, Change.Kind.SIGNED_OUT, by=user.username, called=user.username)


def is_over(session: MutableMapping[str, Any], now: datetime) -> bool:
    """Return whether a session of somebody signed in has lived too long or lain unused."""
    signed_in, seen = session.get(SIGNED_IN_AT), session.get(SEEN_AT)
    if not isinstance(signed_in, int) or not isinstance(seen, int):
        return True
    lived = now - datetime.fromtimestamp(signed_in, UTC)
    unused = now - datetime.fromtimestamp(seen, UTC)
    whole, idle = settings.SESSION_COOKIE_AGE, settings.SESSION_IDLE_AGE
    return lived.total_seconds() >= whole or unused.total_seconds() >= idle


def used(session: MutableMapping[str, Any], now: datetime) -> None:
    """Note that a session was used."""
    if now - datetime.fromtimestamp(session[SEEN_AT], UTC) >= SEEN_STEP:
        session[SEEN_AT] = int(now.timestamp())


def came_by_ticket(session: MutableMapping[str, Any], now: datetime, within: timedelta) -> bool:
    """Return whether somebody signed in by a one-time link not longer than `within` ago."""
    signed_in = session.get(SIGNED_IN_AT)
    return (
        bool(session.get(BY_TICKET))
        and isinstance(signed_in, int)
        and now - datetime.fromtimestamp(signed_in, UTC) <= within
    )

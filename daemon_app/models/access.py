"""Who may do what: accounts with a role, API tokens, one-time sign-in tickets (semantics 10)."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Self

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _

TICKET_LIFE = timedelta(minutes=5)


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


def digest(secret: str) -> str:
    """Return the SHA-256 of a random secret in hex: all that is ever stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Account(AbstractUser):
    """A person who signs in. Without a usable password only the one-time link lets them in."""

    role = models.CharField(
        _("role"), max_length=10, choices=Role.choices, default=Role.VIEWER, db_index=True
    )

    class Meta:
        db_table = "daemon_accounts"
        verbose_name = _("account")
        verbose_name_plural = _("accounts")

    def can(self, right: str) -> bool:
        """Return whether this account has `right`; an inactive one has none."""
        return self.is_active and self.role in RIGHTS[right]

    @classmethod
    def owner(cls) -> Self:
        """Return the account of whoever owns the data folder, made on first use.

        It administers and has no password until one is set.
        """
        account, made = cls.objects.get_or_create(
            username="owner",
            defaults={"role": Role.ADMIN, "is_staff": True, "is_superuser": True},
        )
        if made:
            account.set_unusable_password()
            account.save(update_fields=["password"])
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
        cls.objects.filter(expires_at__lte=now).delete()
        cls.objects.create(digest=digest(secret), account=account, expires_at=now + TICKET_LIFE)
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

    @classmethod
    def issue(  # noqa: PLR0913 - each is a fact of the token
        cls, account: Account, *, name: str, role: str, now: datetime, life: timedelta | None
    ) -> tuple[Self, str]:
        """Return a new token and its full text, which can't be had again."""
        secret = secrets.token_hex(32)
        token = cls.objects.create(
            name=name,
            digest=digest(secret),
            account=account,
            role=role,
            created_at=now,
            expires_at=now + life if life else None,
        )
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

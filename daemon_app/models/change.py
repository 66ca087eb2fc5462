"""The audit log: who has asked for what, when, by which way, and from what to what.

Rows are only ever added, in the transaction of what they tell, and each carries the digest of the
one before.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from asgiref.sync import sync_to_async
from django.db import connection, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from daemon_app.models.job import Job

# What changes with every run or every change, and says nothing by itself.
NOT_TOLD = {
    *("id", "version", "created_at", "updated_at", "updated_by", "anchor", "next_due_at"),
    *("schedule_error", "is_active", "paused_until", "paused_by", "pause_note"),
    *("muted_until", "muted_by", "seen_failure"),
}
# Of these, only the names are kept: values may be passwords.
SECRET = ("environment", "parameters")
# Of this, nothing is kept but that it was changed: [had one, has one].
NEVER_TOLD = "password"
# PostgreSQL lets one transaction at a time hold the lock of this number; SQLite has one writer.
LOCK = 0x6261_6368_6175
PER_PIECE = 2000


class Via(models.TextChoices):
    """By which way somebody asked."""

    PAGE = "page", _("page")
    API = "api", _("REST interface")
    CLI = "cli", _("command line")
    ADMIN = "admin", _("administration")
    DAEMON = "daemon", _("by itself")


@dataclass(frozen=True)
class Asker:
    """Who asks for what is done now: by which way, from where, and with which token."""

    via: str = Via.DAEMON
    who: Callable[[], str] = str
    address: str = ""
    token: Callable[[], int | None] = lambda: None


NOBODY = Asker()
_asker: ContextVar[Asker] = ContextVar("daemon_app.asker", default=NOBODY)
_kept_back: ContextVar[list[Change] | None] = ContextVar("daemon_app.kept_back", default=None)


@contextmanager
def asked_by(asker: Asker) -> Iterator[None]:
    """Write `asker` beside what is recorded meanwhile."""
    before = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(before)


@contextmanager
def told_last() -> Iterator[None]:
    """Add what is recorded meanwhile to the log at the end, if all goes well.

    For transactions that record something before they are done with other rows: who holds the end
    of the log while waiting for a row blocks whoever holds that row and waits for the log.
    """
    rows: list[Change] = []
    before = _kept_back.set(rows)
    try:
        yield
    finally:
        _kept_back.reset(before)
    Change.append(rows)


class ChangeQuerySet(models.QuerySet["Change"]):
    """Rows of the audit log. None is changed or deleted; the database refuses it as well."""

    def of_jobs(self, pk: int | None = None) -> Self:
        """What was changed of all jobs, or of one."""
        found = self.filter(subject=Change.Subject.JOB)
        return found if pk is None else found.filter(subject_id=pk)

    def chosen(self, wanted: Mapping[str, Any]) -> Self:
        """Those that `wanted` asks for: subject, kind, via, by, name, since, until; all optional.

        `name` is part of what it is about, the rest as it stands in the rows; the times are
        instants.
        """
        exact = {key: wanted[key] for key in ("subject", "kind", "via", "by") if wanted.get(key)}
        found = self.filter(**exact)
        if wanted.get("name"):
            found = found.filter(name__icontains=wanted["name"])
        if wanted.get("since"):
            found = found.filter(at__gte=wanted["since"])
        if wanted.get("until"):
            found = found.filter(at__lt=wanted["until"])
        return found

    def update(self, **_values: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnlyError

    def delete(self) -> NoReturn:
        """Refuse."""
        raise AppendOnlyError


class AppendOnlyError(TypeError):
    """Somebody tried to change or delete what is only ever added to."""

    def __init__(self) -> None:
        super().__init__("rows of the audit log are only ever added")


class Change(models.Model):
    """One row of the audit log. Nothing is ever changed here; rows outlive what they tell of."""

    class Subject(models.TextChoices):
        """What was changed."""

        JOB = "job", _("job")
        RUN = "run", _("run")
        POOL = "pool", _("pool")
        POLICY = "policy", _("rules for all jobs")
        HOLD = "hold", pgettext_lazy("subject", "holding everything")
        PRESENCE = "presence", pgettext_lazy("subject", "presence")
        INCIDENT = "incident", _("incident")
        ACCOUNT = "account", _("account")
        TOKEN = "token", _("token")

    class Kind(models.TextChoices):
        """What was done."""

        CREATED = "created", _("created")
        EDITED = "edited", _("edited")
        SWITCHED_ON = "on", _("switched on")
        SWITCHED_OFF = "off", _("switched off")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed after its pause")
        DELETED = "deleted", _("deleted")
        MUTED = "muted", _("failures not told any more")
        UNMUTED = "unmuted", _("failures told again")
        STARTED = "started", _("started")
        CANCELLED = "cancelled", _("cancelled")
        FORCED = "forced", _("let start whatever its conditions say")
        MOVED = "moved", _("moved in the line")
        HELD = "held", _("everything held")
        RELEASED = "released", _("let everything go on")
        SAID = "said", _("said to be here or away")
        SEEN = "seen", _("marked as seen")
        UNSEEN = "unseen", _("marked as not seen")
        LINK = "link", _("one-time link made")
        SIGNED_IN = "signed_in", _("signed in")
        SIGNED_OUT = "signed_out", _("signed out")
        REVOKED = "revoked", _("revoked")

    at = models.DateTimeField(_("when"))
    # "" is the program itself, for example at the end of a pause.
    by = models.CharField(_("by"), max_length=150, blank=True)
    via = models.CharField(_("way"), max_length=10, choices=Via.choices, blank=True)
    address = models.CharField(_("address"), max_length=45, blank=True)
    # The number of the API token it was asked with.
    token_id = models.BigIntegerField(null=True)
    kind = models.CharField(_("what"), max_length=12, choices=Kind.choices)
    subject = models.CharField(
        _("subject"), max_length=10, choices=Subject.choices, default=Subject.JOB
    )
    subject_id = models.BigIntegerField(null=True)
    name = models.CharField(_("name"), max_length=150, blank=True)
    version = models.PositiveIntegerField(default=0)  # of a job, after it
    # {field: [before, after]}; of secrets {field: [names before, names after]}; for a pause "until"
    # and "note".
    fields = models.JSONField(default=dict, blank=True)
    # Of the row before, "" for the first; unique, so that the chain can't fork.
    previous = models.CharField(max_length=64, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)

    objects = ChangeQuerySet.as_manager()

    class Meta:
        db_table = "daemon_changes"
        verbose_name = _("entry of the audit log")
        verbose_name_plural = _("audit log")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject", "subject_id", "-id"], name="daemon_changes_subject"),
            models.Index(fields=["by", "-id"], name="daemon_changes_by"),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.get_subject_display()}: {self.get_kind_display()}"

    def save(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - there is one way alone
        """Add this to the end of the log. Raises AppendOnlyError for a row that is there."""
        if not self._state.adding:
            raise AppendOnlyError
        Change.append([self])

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise AppendOnlyError

    @classmethod
    def append(cls, rows: Iterable[Change]) -> None:
        """Add rows to the end of the log, one after another, in this transaction."""
        with transaction.atomic():
            last = ""
            for number, row in enumerate(rows):
                last = last if number else _last_digest()
                row.previous = last
                row.digest = last = digest_of(row.told(), last)
                super(Change, row).save(force_insert=True)

    def told(self) -> dict[str, Any]:
        """Return what the digest is of, as the export says it."""
        return {
            "at": self.at.astimezone(UTC).isoformat(timespec="microseconds"),
            "by": self.by,
            "via": self.via,
            "address": self.address,
            "token": self.token_id,
            "kind": self.kind,
            "subject": self.subject,
            "subject_id": self.subject_id,
            "name": self.name,
            "version": self.version,
            "fields": self.fields,
        }

    @classmethod
    def record(  # noqa: PLR0913 - of what, what, when, who and two words on it
        cls,
        of: models.Model,
        kind: str,
        fields: Mapping[str, Any] | None = None,
        *,
        now: datetime | None = None,
        by: str | None = None,
        about: str | None = None,
        called: str | None = None,
        **more: Any,
    ) -> None:
        """Write down what was done with `of`, in the transaction that does it.

        `by` is whoever asks right now, unless given. On PostgreSQL every other writer waits from
        here to the end of the transaction: where it is not near, use `told_last`.
        """
        asker = _asker.get()
        subject = str(of._meta.model_name) if about is None else about  # noqa: SLF001 - its kind
        name = getattr(of, "name", "") if called is None else called
        row = cls(
            at=now or timezone.now(),
            by=(asker.who() if by is None else by)[:150],
            via=asker.via,
            address=asker.address[:45],
            token_id=asker.token(),
            kind=kind,
            subject=subject,
            subject_id=of.pk,
            name=name[:150],
            version=getattr(of, "version", 0),
            fields=json.loads(json.dumps({**(fields or {}), **more})),
        )
        kept_back = _kept_back.get()
        if kept_back is None:
            row.save()
        else:
            kept_back.append(row)


def difference(before: Job, after: Job) -> dict[str, list[Any]]:
    """Return {field: [before, after]} of what differs, as JSON; of secrets the names alone."""
    names = [field.attname for field in after._meta.concrete_fields]  # noqa: SLF001 - its fields
    return differing(before, after, [name for name in names if name not in NOT_TOLD])


def differing(
    before: models.Model | None, after: models.Model, names: Iterable[str]
) -> dict[str, list[Any]]:
    """Return {field: [before, after]} of those of `names` that differ, as JSON."""
    found = {}
    for name in names:
        old, new = getattr(before, name, None), getattr(after, name)
        if old == new or (before is None and new in ("", None)):
            continue
        if name in SECRET:
            old, new = sorted(old or ()), sorted(new)
        found[name] = [_plain(old), _plain(new)]
    return found


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


# ── The chain ────────────────────────────────────────────────────────────────────────────────────
def _last_digest() -> str:
    """Return the digest of the newest row, to which nobody else can add before we commit."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    newest = Change.objects.order_by("-id").values_list("digest", flat=True).first()
    return newest or ""


def digest_of(told: dict[str, Any], previous: str) -> str:
    """Return the SHA-256, in hex, of a row that follows the one with the digest `previous`.

    >>> digest_of({"kind": "created"}, "")[:12]
    'c173439c3162'
    """
    text = json.dumps([previous, told], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Verified:
    """What looking at the whole chain has found.

    `broken` is the number of the first row at which it is broken, `fault` how: "changed" when the
    row itself is not as it was written, "gap" when rows before it are missing or were put there,
    "other" when another one was noted elsewhere under its number, "cut" when one was noted that is
    not there.
    """

    rows: int = 0
    last: int | None = None
    head: str = ""
    at: datetime | None = None
    broken: int | None = None
    fault: str = ""
    knows_head: bool = False


def verify(
    head: str = "",
    each: Callable[[int], None] = lambda _rows: None,
    noted: Mapping[int, str] = MappingProxyType({}),
) -> Verified:
    """Look at every row from the first on, in constant memory; stop at the first that is broken.

    `head` is a digest that was noted earlier: whether a row has it tells `knows_head`. `noted` says
    of rows which digest was noted elsewhere. `each` is called with the number of rows looked at,
    now and then.
    """
    rows, last, digest, at, known = 0, None, "", None, not head
    for row in Change.objects.order_by("id").iterator(chunk_size=PER_PIECE):
        fault = ""
        if row.previous != digest:
            fault = "gap"
        elif digest_of(row.told(), row.previous) != row.digest:
            fault = "changed"
        elif noted.get(row.pk, row.digest) != row.digest:
            fault = "other"
        if fault:
            return Verified(rows, last, digest, at, row.pk, fault, known)
        rows, last, digest, at = rows + 1, row.pk, row.digest, row.at
        known = known or digest == head
        if rows % PER_PIECE == 0:
            each(rows)
    if cut := [number for number in noted if number > (last or 0)]:
        return Verified(rows, last, digest, at, min(cut), "cut", known)
    return Verified(rows, last, digest, at, knows_head=known)


def newest() -> Change | None:
    """Return the newest row, whose digest stands for all before; None when there is none."""
    return Change.objects.order_by("-id").first()


def line(row: Change) -> str:
    """Return a row as a line of JSON, with its number and the digests of the chain."""
    told = {"id": row.pk, **row.told(), "previous": row.previous, "digest": row.digest}
    return json.dumps(told, ensure_ascii=False) + "\n"


def lines(rows: ChangeQuerySet) -> Iterator[str]:
    """Yield rows as lines of JSON, the oldest first, in constant memory."""
    return map(line, rows.order_by("id").iterator(chunk_size=PER_PIECE))


async def pieces(rows: ChangeQuerySet) -> AsyncIterator[str]:
    """Yield rows as lines of JSON, the oldest first, so many at a time."""
    last: int | None = 0
    while last is not None:
        text, last = await sync_to_async(_piece)(rows, last)
        yield text


def _piece(rows: ChangeQuerySet, after: int) -> tuple[str, int | None]:
    """Return the lines after row `after`, and after which to go on; None when that was all."""
    found = list(rows.filter(pk__gt=after).order_by("id")[:PER_PIECE])
    return "".join(map(line, found)), found[-1].pk if len(found) == PER_PIECE else None

"""What people have changed of jobs: when, who, and from what to what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from datetime import datetime

    from daemon_app.models.job import Job

# What changes with every run or every change, and says nothing by itself.
NOT_TOLD = {
    *("id", "version", "created_at", "updated_at", "updated_by", "anchor", "next_due_at"),
    *("schedule_error", "is_active", "paused_until", "paused_by", "pause_note"),
    *("muted_until", "muted_by", "seen_failure"),
}
# Of these, only the names are kept: values may be passwords.
SECRET = ("environment", "parameters")


class Change(models.Model):
    """One change of a job. Nothing is ever changed here; rows outlive their job."""

    class Kind(models.TextChoices):
        """What was done."""

        CREATED = "created", _("created")
        EDITED = "edited", _("edited")
        SWITCHED_ON = "on", _("switched on")
        SWITCHED_OFF = "off", _("switched off")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed after its pause")
        DELETED = "deleted", _("deleted")

    at = models.DateTimeField(_("when"))
    # "" is the program itself, for example at the end of a pause.
    by = models.CharField(_("by"), max_length=150, blank=True)
    kind = models.CharField(_("what"), max_length=10, choices=Kind.choices)
    job_id = models.BigIntegerField()
    job_name = models.CharField(_("job"), max_length=80)
    version = models.PositiveIntegerField()  # of the job, after it
    # {field: [before, after]}; of secrets {field: [names before, names after]}; for a pause "until"
    # and "note".
    fields = models.JSONField(default=dict, blank=True)

    class Meta:
        db_table = "daemon_changes"
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        ordering = ["-id"]
        indexes = [models.Index(fields=["job_id", "-id"], name="daemon_changes_job")]

    def __str__(self) -> str:
        return f"{self.job_name}: {self.get_kind_display()}"

    @classmethod
    def record(cls, job: Job, kind: str, *, now: datetime, by: str, **fields: Any) -> None:
        """Write down a change of `job`, in the transaction that makes it."""
        cls.objects.create(
            at=now,
            by=by,
            kind=kind,
            job_id=job.pk,
            job_name=job.name,
            version=job.version,
            fields=fields,
        )


def difference(before: Job, after: Job) -> dict[str, list[Any]]:
    """Return {field: [before, after]} of what differs, as JSON; of secrets the names alone."""
    found = {}
    for field in after._meta.concrete_fields:  # noqa: SLF001 - its fields
        name = field.attname
        if name in NOT_TOLD:
            continue
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if name in SECRET:
            old, new = sorted(old), sorted(new)
        found[name] = [_plain(old), _plain(new)]
    return found


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value

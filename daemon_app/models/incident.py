"""What happened to the daemon itself and needs, or needed, a person."""

from datetime import datetime
from typing import Any, Final, Self

from django.db import models, transaction
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import live
from daemon_app.models import reasons
from daemon_app.models.change import Change
from daemon_app.models.job import Job

SENTENCES: Final = {
    "clock_forward": _("The clock was set forward by %(seconds)s s."),
    "clock_back": _("The clock was set back by %(seconds)s s."),
    "clock_rebased": _(
        "The clock had once been far ahead: the schedules of %(jobs)s jobs begin anew at this time."
    ),
    "clock_behind": _(
        "At the start the clock was before times already recorded; starts were held for "
        "%(seconds)s s. Is the clock right?"
    ),
    "asleep": _("This machine slept for %(seconds)s s; what was missed is caught up by its rules."),
    "stalled": _("The daemon stood still for %(seconds)s s."),
    "poisoned": _(
        "“%(job)s” was switched off: %(n)s of its runs were lost within 24 hours. What kills them?"
    ),
    "schedule_broken": _("The schedule of “%(job)s” can no longer be read: %(error)s"),
    "impossible": _(
        "“%(job)s” can never start: it needs %(need)s of pool “%(pool)s”, which has %(size)s."
    ),
    "database_locked": _("The database was locked by another program for %(seconds)s s."),
    "database_failing": _("The database did not answer for %(seconds)s s: %(error)s"),
    "disk_full": _(
        "The disk was full for %(seconds)s s; what was to be written was written later."
    ),
    "cluster_restarted": _(
        "The cluster did not take runs from its queue for %(seconds)s s and was restarted."
    ),
    "queue_full": _("%(n)s starts were refused: the queue was full."),
    # ── Health: what got bad and lasts; the second of each pair takes its place when it is over ──
    "health_gpu_service_down": _("The GPU service does not answer since %(since)s."),
    "health_gpu_service_was_down": _("The GPU service did not answer for %(seconds)s s."),
    "health_ollama_down": _("Ollama does not answer since %(since)s."),
    "health_ollama_was_down": _("Ollama did not answer for %(seconds)s s."),
    "health_disk_low": _("Little room is left on the disk: %(free)s GB."),
    "health_disk_full": _("The disk is full: %(free)s GB are left."),
    "health_disk_was_low": _("There was too little room on the disk for %(seconds)s s."),
    "health_bad": _("The check “%(check)s” finds something wrong since %(since)s."),
    "health_was_bad": _("The check “%(check)s” found something wrong for %(seconds)s s."),
    "configs_bad": _("“%(job)s” found %(n)s problems, %(new)s of them new. The first: %(first)s"),
    "skill_broken": _("The skill “%(name)s” (%(source)s) can't be loaded: %(error)s"),
}


class IncidentQuerySet(models.QuerySet["Incident"]):
    """Incidents by what is true of them."""

    def unseen(self) -> Self:
        """Incidents that nobody has acknowledged."""
        return self.filter(acknowledged_at=None)


class Incident(models.Model):
    """One thing that happened to the daemon; stays until somebody has seen it."""

    class Level(models.TextChoices):
        """How bad it is."""

        INFO = "info", _("note")
        WARN = "warn", _("warning")
        ERROR = "error", _("error")

    at = models.DateTimeField(_("when"), db_index=True)
    level = models.CharField(max_length=5, choices=Level.choices, default=Level.WARN)
    code = models.CharField(max_length=40)
    facts = models.JSONField(default=dict, blank=True)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, null=True, related_name="incidents")
    run_id = models.BigIntegerField(null=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        db_table = "daemon_incidents"
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        code = str(self.code)
        if code not in SENTENCES:
            return code
        try:
            return reasons.filled(str(SENTENCES[code]), self.facts)
        except (KeyError, TypeError):
            return _t("%(code)s (no details kept)") % {"code": code}

    @classmethod
    def note(
        cls,
        code: str,
        *,
        now: datetime,
        level: str = Level.WARN,
        job: Job | None = None,
        run_id: int | None = None,
        **facts: Any,
    ) -> "Incident":
        """Record what happened. The same unseen thing of the same job is told once, and updated."""
        facts |= {"job": job.name} if job else {}
        with transaction.atomic():
            told = cls.objects.unseen().filter(code=code, job=job).first() if job else None
            incident = told or cls(code=code, level=level, job=job)
            incident.at, incident.facts, incident.run_id = now, facts, run_id
            incident.save()
            live.changed("incidents")
        return incident

    @classmethod
    def rewrite(
        cls,
        pk: int | None,
        code: str,
        *,
        now: datetime,
        level: str | None = None,
        even_seen: bool = False,
        **facts: Any,
    ) -> bool:
        """Let an incident say how it went on; False when it is gone or, mostly, seen already."""
        changes: dict[str, Any] = {"at": now, "code": code, "facts": facts}
        if level is not None:
            changes["level"] = level
        with transaction.atomic():
            ours = cls.objects.all() if even_seen else cls.objects.unseen()
            moved = ours.filter(pk=pk or 0).update(**changes)
            if moved:
                live.changed("incidents")
        return bool(moved)

    def acknowledge(self, *, by: str, now: datetime) -> bool:
        """Mark this as seen; False when somebody already did."""
        with transaction.atomic():
            moved = Incident.objects.filter(pk=self.pk, acknowledged_at=None).update(
                acknowledged_at=now, acknowledged_by=by
            )
            if moved:
                live.changed("incidents")
                Change.record(self, Change.Kind.SEEN, now=now, by=by, called=self.code)
        return bool(moved)

    def bring_back(self) -> bool:
        """Mark this as not seen after all; False when it was not."""
        with transaction.atomic():
            seen = Incident.objects.filter(pk=self.pk, acknowledged_at__isnull=False)
            moved = seen.update(acknowledged_at=None, acknowledged_by="")
            if moved:
                live.changed("incidents")
                Change.record(self, Change.Kind.UNSEEN, called=self.code)
        return bool(moved)

"""Who was here and when the machine was idle, and which runs made way for people."""

from datetime import timedelta
from typing import Any

from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app.models.run import Run


class IdleSpan(models.Model):
    """A time in which a host was idle, or was not, with the reasons it began with."""

    host = models.CharField(_("host"), max_length=253)
    idle = models.BooleanField(_("idle"))
    began_at = models.DateTimeField(_("from"))
    # None while it lasts; what a daemon that was killed left open is closed at its last sign.
    ended_at = models.DateTimeField(_("to"), null=True)
    # [{"signal", "code", "facts"}, …]: why it was not idle, when it became so.
    reasons = models.JSONField(default=list)

    class Meta:
        db_table = "daemon_idle_spans"
        verbose_name = _("idle span")
        verbose_name_plural = _("idle spans")
        ordering = ["-began_at", "-id"]
        indexes = [models.Index(fields=["host", "-began_at"], name="daemon_idle_spans_host")]

    def __str__(self) -> str:
        return f"{self.host} {'idle' if self.idle else 'busy'} {self.began_at:%Y-%m-%d %H:%M}"


class Displacement(models.Model):
    """One time that a run was stopped because somebody came back, and how long that took."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="displaced")
    job_id = models.BigIntegerField(db_index=True)
    job_name = models.CharField(max_length=80)
    host = models.CharField(max_length=253, blank=True)
    # When the sign of somebody's return arrived: for a request, at the web process.
    at = models.DateTimeField(_("when"), db_index=True)
    # What it was: {"signal", "code", "facts"}.
    cause = models.JSONField(default=dict)
    # From its arrival to the first signal to the command, and to the end of its last process.
    asked_seconds = models.FloatField(null=True)
    yielded_seconds = models.FloatField(null=True)
    phase = models.CharField(max_length=10, choices=Run.Phase.choices, blank=True)
    # How long the run had run by then, and what it said to go on from.
    slice_seconds = models.FloatField(null=True)
    token = models.CharField(max_length=4096, blank=True)

    class Meta:
        db_table = "daemon_displacements"
        verbose_name = _("displacement")
        verbose_name_plural = _("displacements")
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return _t("Run %(n)s of %(job)s") % {"n": self.run_id, "job": self.job_name}

    @property
    def lasted(self) -> timedelta | None:
        """How long the run had run when it was asked to make way."""
        return None if self.slice_seconds is None else timedelta(seconds=self.slice_seconds)


def yield_times(**about: Any) -> dict[str, Any]:
    """Return how fast runs have made way lately: count, and p50/p95/p99 of both times.

    `about` filters displacements, for example `job_id=3`. Of the newest 1,000; seconds, None where
    nothing was measured.
    """
    newest = Displacement.objects.filter(**about).order_by("-id")[:1000]
    pairs = list(newest.values_list("asked_seconds", "yielded_seconds"))
    told: dict[str, Any] = {"count": Displacement.objects.filter(**about).count()}
    for place, name in enumerate(("asked", "yielded")):
        values = sorted(value for pair in pairs if (value := pair[place]) is not None)
        for percent in (50, 95, 99):
            at = min(len(values) * percent // 100, len(values) - 1)
            told[f"{name}_p{percent}"] = values[at] if values else None
    return told

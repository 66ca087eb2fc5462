"""The daemon of a host, by its heartbeat."""

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.utils.translation import gettext_lazy as _

HEARTBEAT = timedelta(seconds=15)
SILENT_AFTER = timedelta(seconds=45)


class Node(models.Model):
    """One host's daemon: since when it runs and when it last spoke."""

    host = models.CharField(_("host"), max_length=253, unique=True)
    pid = models.PositiveIntegerField(_("process"))
    started_at = models.DateTimeField(_("running since"))
    seen_at = models.DateTimeField(_("last sign of life"))
    stopped_at = models.DateTimeField(_("stopped"), null=True, blank=True)
    # The last sign of a person that this host has seen; other hosts read it here.
    active_at = models.DateTimeField(_("last activity"), null=True, blank=True)
    # None: not known yet, which counts as busy.
    idle = models.BooleanField(_("idle"), null=True)
    idle_since = models.DateTimeField(_("idle or busy since"), null=True, blank=True)
    # Why it is not idle: [{"signal", "code", "facts"}, …], the weightiest first.
    idle_reasons = models.JSONField(default=list, blank=True)
    # When it becomes idle if nothing happens; None when that can't be said.
    idle_from = models.DateTimeField(null=True, blank=True)
    users = models.PositiveIntegerField(_("active users"), default=0)

    class Meta:
        db_table = "daemon_nodes"
        verbose_name = _("host")
        verbose_name_plural = _("hosts")

    def __str__(self) -> str:
        return self.host

    @classmethod
    def latest(cls) -> Self | None:
        """Return the daemon that spoke last; None when none ever ran."""
        return cls.objects.order_by("-seen_at").first()

    def is_alive(self, now: datetime) -> bool:
        """Return whether this daemon has neither stopped nor fallen silent."""
        return self.stopped_at is None and now - self.seen_at < SILENT_AFTER

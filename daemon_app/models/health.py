"""What the health tick found, and what it comes to over five minutes and over an hour."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from daemon_app.readings import Reading

RAW, FIVE_MINUTES, HOUR = 0, 300, 3600
# Between two clocks, or two readings of one, so much is no future.
AHEAD = timedelta(seconds=2)


class SnapshotQuerySet(models.QuerySet["Snapshot"]):
    """Snapshots by what they cover."""

    def of_ticks(self) -> Self:
        """Snapshots of single ticks."""
        return self.filter(span=RAW)

    def newest(self, now: datetime, host: str | None = None) -> "Snapshot | None":
        """Return the last tick's, of `host` or of any; None before the first.

        What was written by a clock that ran ahead of `now`, and was set back since, is left out.
        """
        found = self.of_ticks().filter(at__lte=now + AHEAD)
        if host is not None:
            found = found.filter(host=host)
        return found.order_by("-at").first()


class Snapshot(models.Model):
    """One tick of a host (`span` 0), or the ticks of `span` seconds from `at` on in one row.

    `values` are by check: a number in the check's unit for a tick, [mean, least, most] for a
    longer span; a check that measured nothing is not in it. `states` are by check too, the worst
    of the span.
    """

    host = models.CharField(_("host"), max_length=253)
    at = models.DateTimeField(_("when"))
    span = models.PositiveIntegerField(default=RAW)
    ticks = models.PositiveIntegerField(default=1)
    # The share of the ticks at which the machine was idle, from 0 to 1.
    idle = models.FloatField(default=0.0)
    values = models.JSONField(default=dict)
    states = models.JSONField(default=dict)
    # Of a single tick: each check's reading in full, as `Reading.as_json` gives it.
    readings = models.JSONField(default=list)

    objects = SnapshotQuerySet.as_manager()

    class Meta:
        db_table = "daemon_health"
        verbose_name = _("health snapshot")
        verbose_name_plural = _("health snapshots")
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(fields=["span", "at", "host"], name="daemon_health_once")
        ]

    def __str__(self) -> str:
        return f"{self.host} {self.at:%Y-%m-%d %H:%M:%S}"

    def read(self) -> dict[str, Reading]:
        """Return this tick's readings by the name of their check, in the order of the checks."""
        return {each["name"]: Reading.of(each) for each in self.readings}

    def is_fresh(self, now: datetime, tick: timedelta) -> bool:
        """Return whether this is of one of the last three ticks; older ones say nothing of now."""
        return -AHEAD <= now - self.at < 3 * tick


def most_of_a_gpu(facts: Mapping[str, Any], name: str) -> float | None:
    """Return the largest `name` ("free_mb", "total_mb") that a reading's GPUs tell, each by itself.

    What is told of the whole machine where no single one is; None where nothing is, or nonsense.
    """
    devices = [each for each in facts.get("devices") or [] if isinstance(each, Mapping)]
    values = [each.get(name) for each in devices or [facts]]
    return max((each for each in values if isinstance(each, int | float)), default=None)

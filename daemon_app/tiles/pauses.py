"""Until when a job may be paused, one press away, and what a pause says."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import formats
from daemon_app.models import Job
from daemon_app.schedules import zones
from daemon_app.tiles.regions import current_language

MORNING = time(8)
MONDAY = 0
WEEK = 7


@dataclass(frozen=True)
class Pick:
    """An end of a pause that many people want."""

    key: str
    label: str
    until: datetime


def picks(now: datetime) -> list[Pick]:
    """Return for how long a job may be paused, the shortest first.

    Mornings are those of the clocks here; on the day before a Monday that is said once.
    """
    today = timezone.localtime(now).date()
    tomorrow = today + timedelta(days=1)
    monday = today + timedelta(days=(MONDAY - today.weekday() - 1) % WEEK + 1)
    place = zones.zone(timezone.get_current_timezone_name())

    def morning(of: date) -> datetime:
        return zones.first_instant(datetime.combine(of, MORNING), place)

    found = [
        Pick("hour", _t("For an hour"), now + timedelta(hours=1)),
        Pick("tomorrow", _t("Until tomorrow 08:00"), morning(tomorrow)),
    ]
    if monday != tomorrow:
        found.append(Pick("monday", _t("Until Monday 08:00"), morning(monday)))
    return found


def until_words(job: Job, now: datetime) -> str:
    """Return when the pause of a job ends: "morgen 08:00"; "" for one without end."""
    if job.paused_until is None:
        return ""
    here = timezone.get_current_timezone()
    return formats.moment(job.paused_until, now, here, current_language())

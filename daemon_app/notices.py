"""What a person should know now: alarms, what stands still, what can't work, what happened.

One list for pages, API and command line; each notice says what to do about it.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from bachweb import machine
from daemon_app import alarms, doorbell, pidfile
from daemon_app.models import Incident, Job, Node, Policy, Pool, reasons

ERROR, WARN, INFO = "error", "warn", "info"
WEIGHT: Final = {ERROR: 0, WARN: 1, INFO: 2}
MOST_INCIDENTS = 20
MOST_NAMED = 8  # jobs, in one notice
# Told as it is now, and not once more as what happened.
STANDING = {"schedule_broken", "impossible"}


@dataclass(frozen=True)
class Notice:
    """One thing to know: how bad it is, what it is, and what can be done about it."""

    level: str  # "error", "warn" or "info"
    title: str
    text: str
    code: str
    since: datetime | None = None
    job_id: int | None = None
    incident_id: int | None = None  # what can be marked as seen
    jobs: tuple[tuple[int, str], ...] = ()  # the first of several, by number and name, as in `text`
    advice: str = ""  # `text` without those names, for who shows them as links


SENTENCES: Final = {
    "disk_full": (
        ERROR,
        _("The disk is full"),
        _(
            "Only %(free_mb)s MB are free in %(path)s. What runs goes on, its end is written into "
            "a reserve, but output may be cut. Delete what is not needed; everything else then "
            "happens by itself."
        ),
    ),
    "database_locked": (
        ERROR,
        _("The database is locked"),
        _(
            "Another program keeps %(path)s locked, so that nothing can be started or recorded. "
            "What runs goes on, and nothing is lost. End that program; everything else then "
            "happens by itself."
        ),
    ),
    "database_failing": (
        ERROR,
        _("The database does not answer as it should"),
        _("“%(error)s”. Look at it with: %(bach)s daemon doctor"),
    ),
    "cluster_silent": (
        WARN,
        _("The queue stands still"),
        _(
            "The cluster has not taken runs from its queue for %(seconds)s s. The daemon starts "
            "them itself meanwhile, and has the cluster started again."
        ),
    ),
    "clock_behind": (
        WARN,
        _("The clock seems to be wrong"),
        _(
            "It shows %(now)s, but %(newest)s is recorded already. Nothing starts by itself for "
            "up to %(minutes)s minutes, in case the clock is about to be set. Is it right?"
        ),
    ),
    "supervisors_failing": (
        ERROR,
        _("No command can be started"),
        _(
            "What is to start them fails itself: “%(error)s”. "
            "Look at it with: %(bach)s daemon doctor"
        ),
    ),
    "part_fails": (
        ERROR,
        _("A part of BACH ends again and again"),
        _(
            "“%(part)s” has ended %(times)s times, just after its start (code %(exit_code)s). It "
            "is started again every %(pause)s s. Its last words are in %(log)s."
        ),
    ),
}


def current(now: datetime) -> list[Notice]:
    """Return all there is to know, the worst first, then the newest.

    Never raises for a database in trouble: that is the first thing to be told.
    """
    found = []
    try:
        node = Node.latest()
        found += [*_of_the_daemon(node, now), *_of_the_rules(), *_of_jobs(), *_incidents()]
    except DatabaseError as error:
        node = None
        found.append(_of_alarm("database_failing", None, {"error": str(error)[:200]}))
    process = pidfile.holder(Path(settings.DATA_DIR) / "daemon.pid")
    # What a beat put up and then died is no news of now.
    alive = process is not None or node is None or node.is_alive(now)
    known = {notice.code for notice in found}
    for alarm in alarms.Board(doorbell.runtime_dir(settings.DATA_DIR)).read():
        if alarm.code not in known and (alive or alarm.code not in alarms.BEAT):
            found.append(_of_alarm(alarm.code, alarm.since, alarm.facts))
    return sorted(found, key=_order)


def _bach() -> str:
    return machine.program(Path(settings.BASE_DIR))


def _order(notice: Notice) -> tuple[int, float]:
    return WEIGHT.get(notice.level, 1), -notice.since.timestamp() if notice.since else 0.0


def _of_alarm(code: str, since: datetime | None, facts: dict[str, Any]) -> Notice:
    level, title, text = SENTENCES.get(code, (WARN, code, ""))
    try:
        said = reasons.filled(str(text), {"path": settings.DATA_DIR, "bach": _bach(), **facts})
    except (KeyError, TypeError):
        said = str(text)
    return Notice(level, str(title), said, code, since)


def _of_the_daemon(node: Node | None, now: datetime) -> list[Notice]:
    if node is None or node.is_alive(now):
        return []
    process = pidfile.holder(Path(settings.DATA_DIR) / "daemon.pid")
    if process is None:
        text = _t(
            "No job starts without it. What was running goes on. "
            "Start it: %(bach)s daemon start --bg"
        ) % {"bach": _bach()}
        level = INFO if node.stopped_at else ERROR
        return [Notice(level, _t("The daemon is not running"), text, "daemon_away", node.seen_at)]
    text = _t(
        "It is there (process %(pid)s) but has given no sign of life. What it says: "
        "%(bach)s daemon logs. If it lasts: %(bach)s daemon stop, "
        "then %(bach)s daemon start --bg"
    ) % {"pid": process.pid, "bach": _bach()}
    return [Notice(ERROR, _t("The daemon does not answer"), text, "daemon_silent", node.seen_at)]


def _of_the_rules() -> list[Notice]:
    policy = Policy.current()
    if not policy.is_held:
        return []
    who = policy.held_by or "?"
    if policy.hold == Policy.Hold.STOP:
        title = _t("Everything is stopped by %(who)s") % {"who": who}
    else:
        title = _t("New starts are held by %(who)s") % {"who": who}
    text = policy.hold_note or _t("Runs wait in line and start when somebody resumes.")
    return [Notice(INFO, title, text, "held", policy.held_at)]


def _of_jobs() -> list[Notice]:
    """Return what can't work: schedules nobody can read, and needs that no pool can meet."""
    found = []
    active = Job.objects.active().order_by("pk")
    broken = list(active.filter(schedule_error__gt=""))  # an index knows
    for job in broken:
        title = _t("“%(job)s” does not start by itself") % {"job": job.name}
        text = _t("Its schedule can't be read: %(error)s Edit it.") % {"error": job.schedule_fault}
        found.append(Notice(WARN, title, text, "schedule_broken", job.updated_at, job_id=job.pk))
    needs: dict[str, list[Job]] = {}
    sizes = Pool.sizes()
    needing = active.exclude(pools={})
    # Thousands of jobs may need pools, and all be able to start: few needs are different.
    told = needing.filter(schedule_error="").order_by().values_list("pools", flat=True)
    wants = [*told.distinct(), *(job.pools for job in broken)]
    if all(need <= sizes.get(pool, 0) for pools in wants for pool, need in pools.items()):
        return found
    for job in needing.only("name", "pools"):
        for pool, need in job.pools.items():
            if need > sizes.get(pool, 0):
                needs.setdefault(pool, []).append(job)
                break
    return found + [_of_pool(pool, sizes.get(pool), jobs) for pool, jobs in needs.items()]


def _of_pool(pool: str, size: int | None, jobs: list[Job]) -> Notice:
    """Return what a pool that is gone (None) or too small means for the jobs that need it."""
    told = {"pool": pool, "size": size, "n": len(jobs)}
    if len(jobs) == 1:
        (job,) = jobs
        title = _t("“%(job)s” can't start") % {"job": job.name}
        text = _t("There is no pool “%(pool)s” any more. Make it again, or take it out of the job.")
        if size is not None:
            text = _t(
                "It needs %(need)s of pool “%(pool)s”, which has only %(size)s. Make the pool "
                "larger, or let the job need less."
            )
        text %= {**told, "need": job.pools[pool]}
        return Notice(ERROR, title, text, "impossible", job_id=job.pk)
    if size is None:
        title = _t("Pool “%(pool)s” is missing: %(n)s jobs can't start") % told
        advice = _t("Make it again, or take it out of the jobs.")
    else:
        title = _t("Pool “%(pool)s” is too small: %(n)s jobs can't start") % told
        advice = _t("It has only %(size)s. Make it larger, or let the jobs need less.") % told
    names = tuple((job.pk, job.name) for job in jobs[:MOST_NAMED])
    more = ", …" if len(jobs) > MOST_NAMED else ""
    text = f"{advice} ({', '.join(name for _pk, name in names)}{more})"
    return Notice(ERROR, title, text, "impossible", jobs=names, advice=advice)


def _incidents() -> list[Notice]:
    unseen = Incident.objects.unseen().exclude(code__in=STANDING)
    return [
        Notice(
            incident.level,
            str(incident),
            "",
            incident.code,
            incident.at,
            job_id=incident.job_id,
            incident_id=incident.pk,
        )
        for incident in unseen[:MOST_INCIDENTS]
    ]

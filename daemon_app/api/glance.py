"""How the daemon and its machine are, as JSON: what REST interface and command line both tell.

No framework of the REST interface is loaded for it: `bach daemon status` must answer at once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.utils import timezone

from daemon_app import gauges
from daemon_app.gates.conditions import speaks_of_now, tick
from daemon_app.models import Displacement, Job, Node, Policy, Run, Snapshot, reasons
from daemon_app.models.presence import yield_times
from daemon_app.readings import Reading, State

HISTORY = timedelta(hours=1)
PERCENTILES = ("p50", "p95", "p99")
# What each value is measured in, in the order in which checks are told.
UNITS = {check.name: check.unit for check in gauges.CHECKS.values()}


def status_at(now: datetime, *, known: bool, admin: bool) -> dict[str, Any]:
    """Return the state of the daemon and its

    `known` is whoever has signed in: to others nothing is told of jobs and people. What services
    said that made no sense is for administrators.
    """
    node, policy = gauges.host(now), Policy.current()
    newest = Snapshot.objects.newest(now, node.host) if node else None
    running = node is not None and node.is_alive(now)
    return {
        "running": running,
        "host": node.host if node else None,
        "since": iso(node.started_at) if node and running else None,
        "hold": policy.hold,
        "queue_length": Run.objects.queued().filter(due_at__lte=now).count(),
        "stats": counts_told(now),
        **idle_told(node, now, known=known),
        "users": node.users if node and running else 0,
        "presence": presence_told(policy, now, known=known),
        "health": health_told(newest, now, known=known, admin=admin),
        "skills": skills_told(newest, known=known),
        "health_history": last_hour_told(node.host if node else "", now),
        "displacements": displacements_told(now),
    }


def counts_told(now: datetime) -> dict[str, int]:
    """Return how many jobs there are, and how many runs today."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    today = Run.objects.filter(queued_at__gte=midnight).exclude(
        state__in=[Run.State.SKIPPED, Run.State.MISSED]
    )
    jobs = Job.objects.aggregate(
        total_jobs=Count("pk"), active_jobs=Count("pk", filter=Q(is_active=True))
    )
    runs = today.aggregate(
        runs_today=Count("pk"), failed_today=Count("pk", filter=Q(state__in=Run.UNHAPPY))
    )
    return jobs | runs


def idle_told(node: Node | None, now: datetime, *, known: bool) -> dict[str, Any]:
    """Return whether the machine is idle and why not.

    A daemon that is away or stands still knows nothing. Not `known` is who has not signed in: no
    names then.
    """
    last = Snapshot.objects.newest(now, node.host) if node else None
    if node is None or not speaks_of_now(node, last, now):
        return {"idle": None, "idle_since": None, "idle_from": None, "idle_reasons": []}
    told = [signal_told(each) for each in node.idle_reasons]
    if not known:
        told = [{name: each[name] for name in ("signal", "code")} for each in told]
    return {
        "idle": node.idle,
        "idle_since": iso(node.idle_since),
        "idle_from": iso(node.idle_from),
        "idle_reasons": told,
    }


def presence_told(policy: Policy, now: datetime, *, known: bool) -> dict[str, Any]:
    """Return what somebody said of being here, as long as it holds."""
    said = policy.said_at(now)
    told: dict[str, Any] = {
        "state": said,
        "until": iso(policy.presence_until) if said else None,
        "at": iso(policy.presence_at) if said else None,
    }
    return told | {"by": policy.presence_by if said else ""} if known else told


def newest(now: datetime) -> Snapshot | None:
    """Return the last tick of the host that is told of; None before the first."""
    node = gauges.host(now)
    return Snapshot.objects.newest(now, node.host) if node else None


def health_told(
    last: Snapshot | None, now: datetime, *, known: bool, admin: bool
) -> dict[str, dict[str, Any]]:
    """Return each check's newest reading; one too old to say anything of now is unknown."""
    found = last.read() if last else {}
    age = (now - last.at).total_seconds() if last else None
    fresh = last is not None and last.is_fresh(now, tick())
    told = {}
    for name in [*UNITS, *(name for name in found if name not in UNITS)]:
        reading = found.get(name)
        if reading is None or not fresh:
            code = "health_never" if reading is None else "health_stale"
            reading = Reading(name, State.UNKNOWN, None, code, {"seconds": round(age or 0)})
        one: dict[str, Any] = {
            "state": str(reading.state),
            "level": str(reading.level),
            "value": reading.value,
            "unit": UNITS.get(name, ""),
            "sentence": reasons.sentence(reading.code, reading.facts),
            "age_seconds": None if age is None or name not in found else round(max(age, 0), 1),
        }
        if known:
            one["facts"] = dict(reading.facts)
        if admin:
            one["said"] = reading.said
        told[name] = one
    return told


def last_hour_told(host: str, now: datetime) -> dict[str, Any]:
    """Return what the ticks of the last 60 minutes measured."""
    ticks = Snapshot.objects.of_ticks().filter(host=host, at__gt=now - HISTORY).order_by("at")
    rows = list(ticks.values_list("at", "idle", "values", "states"))
    names = [*UNITS, *sorted({name for row in rows for name in row[3]} - {*UNITS})]
    return {
        "at": [iso(at) for at, _idle, _values, _states in rows],
        "idle": [idle >= 1 for _at, idle, _values, _states in rows],
        "checks": {
            name: {
                "unit": UNITS.get(name, ""),
                "values": [values.get(name) for _at, _idle, values, _states in rows],
                "states": [states.get(name) for _at, _idle, _values, states in rows],
            }
            for name in names
        },
    }


def displacements_told(now: datetime, **about: Any) -> dict[str, Any]:
    """Return how often runs made way and how fast; `about` filters, for example `job_id=3`."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    measured = yield_times(**about)
    return {
        "today": Displacement.objects.filter(at__gte=midnight, **about).count(),
        "total": measured["count"],
        "asked_seconds": {place: measured[f"asked_{place}"] for place in PERCENTILES},
        "yielded_seconds": {place: measured[f"yielded_{place}"] for place in PERCENTILES},
    }


def skills_told(last: Snapshot | None, *, known: bool) -> list[dict[str, Any]]:
    """Return what the daemon does of itself, each with its newest run.

    Part of each tick is what has no runs: its last run is the tick `last`.
    """
    # What skills work with need not be loaded where nobody asks for them.
    from daemon_app import skills  # noqa: PLC0415

    told = []
    for each in skills.overview():
        job: Job | None = each["job"]
        run: Run | None = each["run"]
        one: dict[str, Any] = {
            "name": each["name"],
            "title": each["title"],
            "enabled": job is None or job.is_active,
            "last_run": None,
            "next_due_at": iso(job.next_due_at if job and job.is_active else None),
        }
        if known:
            one["job_id"] = job.pk if job else None
        if run:
            one["last_run"] = _last_run(run, known=known)
        elif last and skills.SKILLS[each["name"]].in_tick:
            one["last_run"] = {"state": Run.State.SUCCEEDED, "at": iso(last.at)}
            if known:
                one["last_run"] |= {"id": None, "summary": ""}
        told.append(one)
    return told


def _last_run(run: Run, *, known: bool) -> dict[str, Any]:
    at = run.ended_at or run.started_at or run.queued_at
    told: dict[str, Any] = {"state": run.state, "at": iso(at)}
    if known:
        told |= {"id": run.pk, "summary": run.progress_label if run.is_active else run.last_line}
    return told


def signal_told(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sign of somebody, {"signal", "code", "facts"}, with its sentence."""
    told = reason_told(str(seen.get("code", "")), seen.get("facts") or {})
    return {"signal": seen.get("signal", ""), **told}


def reason_told(code: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reason as JSON."""
    return {"code": code, "sentence": reasons.sentence(code, facts), "facts": dict(facts)}


def iso(instant: datetime | None) -> str | None:
    """Return an instant as everywhere here, in UTC; None for none."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"

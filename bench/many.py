"""A database as it is after two months of much work: `many.fill(now, jobs, runs)`.

Written by plain SQL, with the runs' indexes made afterwards: a million runs take a minute.
"""

import json
import random
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

DAYS = 60
VERBS = [
    "backup",
    "check",
    "sync",
    "clean",
    "index",
    "train",
    "render",
    "export",
    "import",
    "rotate",
    "report",
    "scan",
]
THINGS = [
    "nextcloud",
    "postgres",
    "photos",
    "mails",
    "wiki",
    "invoices",
    "models",
    "logs",
    "thumbnails",
    "certificates",
    "cache",
    "Übersicht",
    "datasets",
    "checkpoints",
    "music",
    "git",
    "registry",
    "website",
    "sensors",
    "prices",
]
PLACES = ["werkstatt", "büro", "nas", "keller", "cloud", "gpu1", "gpu2", "archiv", "labor"]
SAID = (
    "sent 1,284,113 bytes  received 42 bytes  total size is 98,120,331",
    "done",
    "fertig: 118 Dateien geprüft",
    "step 4800/5000 loss 0.0213",
    "",
)
CRONS = ("0 3 * * *", "30 2 * * *", "15 4 * * MON-FRI", "45 1 * * *", "10 5 * * *", "20 22 * * *")
SUCCEEDED, FAILED, RUNNING, QUEUED = "succeeded", "failed", "running", "queued"
OTHER_ENDS = ("failed", "timed_out", "lost", "cancelled", "skipped", "missed")
OTHER_WEIGHTS = (20, 4, 1, 5, 8, 4)
RUN_FIELDS = (
    *("id", "job_id", "job_name", "trigger", "started_by", "due_at", "not_before", "queued_at"),
    *("submitted_at", "started_at", "ended_at", "definition", "state", "reason_code"),
    *("reason_facts", "exit_code", "cpu_seconds", "peak_rss_bytes", "output_bytes"),
    *("output_lines", "last_line", "attempt", "fence", "displacements", "owner", "priority"),
)
# What a run has in every other column.
RUN_REST = {
    **dict.fromkeys(("stop_requested_by", "phase", "stop_code", "forced_by"), ""),
    **dict.fromkeys(("progress_label", "progress_token", "unusual"), ""),
    **dict.fromkeys(("dropped_bytes", "beside", "output_removed", "short_slices"), 0),
    **dict.fromkeys(("pools", "needs"), "{}"),
    "start_readings": "[]",
}


def fill(now: datetime, jobs: int, runs: int) -> None:
    """Write jobs, runs with what belongs to them, and what was measured meanwhile."""
    from django.db import connection, transaction

    from daemon_app.models import Node, Policy, Pool

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=OFF")
    chance = random.Random(7)
    host = socket.gethostname()
    Policy.current()
    for name, size in (("gpu", 1), ("disk", 2), ("network", 4)):
        Pool(name=name, size=size).store(now=now, by="bench")
    Node.objects.create(
        host=host, pid=1, started_at=now - timedelta(days=9), seen_at=now, idle=True, idle_since=now
    )
    with transaction.atomic():
        _jobs(now, jobs, chance)
    with transaction.atomic():
        _runs(now, runs, chance, host)
    with transaction.atomic():
        _measured(now, chance, host)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _jobs(now: datetime, jobs: int, chance: random.Random) -> None:
    from daemon_app.models import Change, Job

    anchor = now - timedelta(days=DAYS)
    made = []
    for n in range(jobs):
        kind, schedule = _plan(n)
        name = f"{chance.choice(VERBS)}-{chance.choice(THINGS)}-{chance.choice(PLACES)}-{n}"
        job = Job(
            name=name.replace("Ü", "U").replace("ü", "u"),
            description="Nachts, damit tagsüber niemand wartet." if n % 3 == 0 else "",
            job_type=kind,
            schedule=schedule,
            timezone="Europe/Berlin",
            command=f"/srv/jobs/{chance.choice(VERBS)}.sh --into /srv/archive/{n} --quiet",
            timeout_seconds=3600,
            pools={"gpu": 1} if n % 40 == 7 else {"disk": 1} if n % 10 == 3 else {},
            environment={"RESTIC_REPOSITORY": "/srv/restic", "LANG": "C.UTF-8"},
            only_when_idle=n % 20 == 4,
            on_presence="displace" if n % 20 == 4 else "continue",
            max_retries=n % 3,
            anchor=anchor,
            created_at=anchor,
            updated_at=anchor,
            updated_by="anna",
        )
        if n % 25 == 9:
            job.is_active = False
            job.paused_until = now + timedelta(days=2) if n % 50 == 9 else None
            job.paused_by = "anna" if job.paused_until else ""
        elif kind != "manual":
            job.next_due_at = job.plan.next_due(now, anchor=anchor)
        made.append(job)
    Job.objects.bulk_create(made, batch_size=300)
    Change.append(
        (
            Change(
                at=anchor + timedelta(days=n),
                by="anna",
                kind="created" if n == 0 else "edited",
                subject_id=job.pk,
                name=job.name,
                version=n + 1,
                fields={"schedule": ["0 1 * * *", job.schedule]} if n else {},
            )
            for job in Job.objects.all()
            for n in range(3)
        ),
    )


def _plan(n: int) -> tuple[str, str]:
    """Return kind and schedule of the n-th job: a few often, the most daily."""
    if n % 1000 == 0:
        return "interval", "5m"
    if n % 100 == 1:
        return "cron", f"{n % 60} * * * *"
    if n % 30 == 2:
        return "manual", ""
    return "cron", CRONS[n % len(CRONS)]


def _instants(runs: int, now: datetime, chance: random.Random) -> list[tuple[float, int, int]]:
    """Return (seconds since 1970, job id, 1 for a start by hand) of the newest `runs`, in order."""
    from daemon_app.models import Job

    ids = list(Job.objects.order_by("id").values_list("id", flat=True))
    end = now.timestamp() - 600
    begin = end - DAYS * 86_400
    found: list[tuple[float, int, int]] = []
    for n, pk in enumerate(ids):
        kind, schedule = _plan(n)
        if kind == "manual":
            continue
        pace = 300 if kind == "interval" else 3600 if schedule.endswith("* * * *") else 86_400
        first = begin + (n * 7919) % pace
        found += [(at, pk, 0) for at in _steps(first, end, pace)]
    missing = max(runs - len(found), len(ids))
    found += [(chance.uniform(begin, end), chance.choice(ids), 1) for _ in range(missing)]
    found.sort()
    return found[-runs:]


def _steps(first: float, end: float, pace: int) -> Iterator[float]:
    at = first
    while at < end:
        yield at
        at += pace


def _runs(now: datetime, runs: int, chance: random.Random, host: str) -> None:
    from django.db import connection

    from daemon_app.models import Job

    jobs = {job.pk: (job, json.dumps(job.definition())) for job in Job.objects.all()}
    rest = list(RUN_REST.items())
    names = ", ".join(f'"{name}"' for name in (*RUN_FIELDS, *dict(rest)))
    marks = ", ".join(["%s"] * len(RUN_FIELDS) + [repr(value) for _name, value in rest])
    statement = f"INSERT INTO daemon_runs ({names}) VALUES ({marks})"
    kept = _without_indexes("daemon_runs")
    rows: list[tuple[Any, ...]] = []
    displaced: list[tuple[int, int]] = []
    with connection.cursor() as cursor:
        for number, (at, pk, by_hand) in enumerate(_instants(runs, now, chance), 1):
            job, definition = jobs[pk]
            row = _ended(number, job, definition, at, by_hand, now, chance, host)
            if row[23]:
                displaced.append((number, pk))
            rows.append(row)
            if len(rows) == 20_000:
                cursor.executemany(statement, rows)
                rows = []
        cursor.executemany(statement, rows + _active(runs, jobs, now, host))
        for sql in kept:
            cursor.execute(sql)
    _belongings(displaced, now, host)


def _ended(  # noqa: PLR0913, PLR0917 - the facts of a row
    number: int,
    job: Any,
    definition: str,
    at: float,
    by_hand: int,
    now: datetime,
    chance: random.Random,
    host: str,
) -> tuple[Any, ...]:
    state = SUCCEEDED
    if job.pk % 80 == 5 and at > now.timestamp() - 12 * 86_400:
        state = FAILED  # it fails again and again
    elif chance.random() < 0.06:
        state = chance.choices(OTHER_ENDS, OTHER_WEIGHTS)[0]
    began = state not in {"skipped", "missed"}
    length = (5 + job.pk % 600) * chance.uniform(0.8, 1.3)
    start = at + chance.uniform(0.01, 0.3)
    due = _text(at)
    displaced = int(began and job.only_when_idle and number % 5 == 0)
    return (
        *(number, job.pk, job.name, "manual" if by_hand else "schedule"),
        *("anna" if by_hand else "", due, due, due, due),
        *(_text(start) if began else None, _text(start + length if began else at), definition),
        *(state, "exit_code" if state == FAILED else "overlap" if state == "skipped" else ""),
        *('{"code": 1}' if state == FAILED else "{}", int(state == FAILED) if began else None),
        *(length / 9 if began else None, 40_000_000 + job.pk * 1000 if began else None),
        *(2_000 if began else 0, 40 if began else 0, chance.choice(SAID) if began else ""),
        *(1 + displaced, 1 + displaced, displaced, host, 0),
    )


def _active(runs: int, jobs: dict[int, Any], now: datetime, host: str) -> list[tuple[Any, ...]]:
    """Return rows that run and rows that wait."""
    rows: list[tuple[Any, ...]] = []
    for n, pk in enumerate(sorted(jobs)[3::150]):
        job, definition = jobs[pk]
        state, due = (RUNNING if n < 4 else QUEUED), _text(now.timestamp() - 300 + n)
        start = due if state == RUNNING else None
        rows.append(
            (
                *(runs + 1 + n, job.pk, job.name, "manual", "anna", due, due, due, due, start),
                *(None, definition, state, "", "{}", None, None, None, 0, 0, "", 1, 1, 0, host, 0),
            )
        )
    return rows


def _belongings(displaced: list[tuple[int, int]], now: datetime, host: str) -> None:
    from daemon_app.models import Attempt, Displacement, Incident
    from daemon_app.models.run import Wait

    cause = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
    at = now - timedelta(days=DAYS)
    pace = timedelta(days=DAYS) / max(len(displaced), 1)
    times = {pk: at + pace * n for n, (pk, _job) in enumerate(displaced)}
    Attempt.objects.bulk_create(
        (
            Attempt(
                run_id=pk,
                number=1,
                fence=1,
                state=Attempt.DISPLACED,
                reason_code="displaced",
                reason_facts=cause,
                started_at=times[pk] - timedelta(minutes=4),
                ended_at=times[pk],
            )
            for pk, _job in displaced
        ),
        batch_size=1000,
    )
    Displacement.objects.bulk_create(
        (
            Displacement(
                run_id=pk,
                job_id=job,
                job_name="job",
                host=host,
                at=times[pk],
                cause=cause,
                asked_seconds=0.004,
                yielded_seconds=0.3,
                slice_seconds=240,
            )
            for pk, job in displaced
        ),
        batch_size=1000,
    )
    Wait.objects.bulk_create(
        (
            Wait(run_id=pk, code="waits_idle", began_at=times[pk], seen_at=times[pk] + pace)
            for pk, _job in displaced
        ),
        batch_size=1000,
    )
    Incident.objects.bulk_create(
        Incident(
            at=now - timedelta(hours=n),
            level="warn",
            code="clock_jump",
            facts={"seconds": n},
            acknowledged_at=None if n % 10 == 0 else now,
        )
        for n in range(1000)
    )


def _measured(now: datetime, chance: random.Random, host: str) -> None:
    from daemon_app.models import IdleSpan, Snapshot
    from daemon_app.readings import Reading, State

    rows = []
    for span, days in ((0, 1), (300, 30), (3600, DAYS)):
        pace = span or 30
        end = int(now.timestamp()) // pace * pace
        for at in range(end - days * 86_400, end, pace):
            disk, gpu = 412.0 + chance.random(), 40 + 30 * chance.random()
            values: dict[str, Any] = {"gpu_service": gpu, "ollama": 90.0, "vram": 47.0}
            values |= {"disk": disk, "active_users": chance.randrange(3)}
            readings = [
                Reading(name, State.OK, value, facts={"free_mb": 6000, "total_mb": 24_000})
                for name, value in values.items()
            ]
            rows.append(
                Snapshot(
                    host=host,
                    at=datetime.fromtimestamp(at, UTC),
                    span=span,
                    ticks=max(span // 30, 1),
                    idle=chance.random(),
                    values={k: [v, v, v] for k, v in values.items()} if span else values,
                    states=dict.fromkeys(values, "ok"),
                    readings=[] if span else [reading.as_json() for reading in readings],
                )
            )
    Snapshot.objects.bulk_create(rows, batch_size=500)
    signs = [{"signal": "requests", "code": "sign_requests", "facts": {"who": "anna, ben"}}]
    begin, length = now - timedelta(days=DAYS), timedelta(minutes=36)
    count = timedelta(days=DAYS) // length
    IdleSpan.objects.bulk_create(
        IdleSpan(
            host=host,
            idle=n % 2 == 1,
            began_at=begin + length * n,
            ended_at=begin + length * (n + 1) if n + 1 < count else None,
            reasons=[] if n % 2 else signs,
        )
        for n in range(count)
    )


def _without_indexes(table: str) -> list[str]:
    """Drop a table's indexes; return the statements that make them again."""
    from django.db import connection

    found = "SELECT name, sql FROM sqlite_master WHERE tbl_name = %s AND type = 'index'"
    with connection.cursor() as cursor:
        cursor.execute(f"{found} AND sql IS NOT NULL", [table])
        rows = cursor.fetchall()
        for name, _sql in rows:
            cursor.execute(f'DROP INDEX "{name}"')
    return [sql for _name, sql in rows]


def _text(seconds: float) -> str:
    """Return an instant as the database keeps it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

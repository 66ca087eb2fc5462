"""Health, idleness, displacement and skills over REST."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app import skills
from daemon_app.models import Displacement, IdleSpan, Job, Node, Policy, Run, Snapshot
from daemon_app.readings import Reading, State
from tests.api.caller import Caller
from tests.jobs import job, run

pytestmark = pytest.mark.django_db
CHECKS = ["gpu_service", "ollama", "vram", "disk", "active_users"]


@pytest.fixture(autouse=True)
def on_this_machine_alone(settings: Any) -> None:
    settings.HOST = "127.0.0.1"
    settings.PUBLIC_STATUS = True


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def node(now: datetime, **fields: Any) -> Node:
    return Node.objects.create(
        host="hal", pid=1, started_at=now - timedelta(hours=1), seen_at=now, **fields
    )


def tick(at: datetime, *readings: Reading, idle: float = 0.0) -> Snapshot:
    """Return a stored tick of host hal; without readings everything is well."""
    found = readings or tuple(Reading(name, State.OK, 10.0, "") for name in CHECKS)
    return Snapshot.objects.create(
        host="hal",
        at=at,
        idle=idle,
        values={each.name: each.value for each in found if each.value is not None},
        states={each.name: str(each.state) for each in found},
        readings=[each.as_json() for each in found],
    )


def made_way(of: Run, at: datetime, asked: float, yielded: float) -> Displacement:
    return Displacement.objects.create(
        run=of,
        job_id=of.job_id,
        job_name=of.job_name,
        host="hal",
        at=at,
        cause={"signal": "request", "code": "came_back", "facts": {}},
        asked_seconds=asked,
        yielded_seconds=yielded,
        phase="term",
        slice_seconds=40.0,
        token="page 17",
    )


# ── Now ──────────────────────────────────────────────────────────────────────────────────────────
def test_the_newest_readings_are_told_each_with_its_unit_and_age(
    viewer: Caller, now: datetime
) -> None:
    node(now)
    tick(now - timedelta(seconds=50))
    tick(now - timedelta(seconds=20), Reading("vram", State.HIGH, 92.5, "", {"free_mb": 900}))

    told = viewer("GET", "health").json()

    vram = told["health"]["vram"]
    assert told["host"] == "hal"
    assert (vram["state"], vram["level"], vram["value"], vram["unit"]) == (
        "high",
        "warn",
        92.5,
        "%",
    )
    assert vram["facts"] == {"free_mb": 900}
    assert 20 <= vram["age_seconds"] < 40
    assert list(told["health"]) == CHECKS


def test_what_was_not_measured_or_too_long_ago_is_unknown(viewer: Caller, now: datetime) -> None:
    never = viewer("GET", "health").json()["health"]
    node(now)
    tick(now - timedelta(minutes=10))

    told = viewer("GET", "health").json()["health"]

    assert {each["state"] for each in never.values()} == {"unknown"}
    assert {each["age_seconds"] for each in never.values()} == {None}
    assert {each["state"] for each in told.values()} == {"unknown"}
    assert {each["value"] for each in told.values()} == {None}
    assert 600 <= told["disk"]["age_seconds"] < 620
    assert all(each["sentence"] for each in told.values())


def test_what_a_service_said_that_made_no_sense_is_for_administrators(
    viewer: Caller, admin: Caller, anonymous: Caller, now: datetime
) -> None:
    node(now)
    tick(now, Reading("ollama", State.UNKNOWN, None, "", {"status": 200}, said="<h1>Hello"))

    seen = {who: who("GET", "status").json()["health"]["ollama"] for who in (viewer, admin)}
    by_anybody = anonymous("GET", "status").json()["health"]["ollama"]

    assert seen[admin]["said"] == "<h1>Hello"
    assert "said" not in seen[viewer]
    assert seen[viewer]["facts"] == {"status": 200}
    assert {"said", "facts"} & set(by_anybody) == set()
    assert by_anybody["state"] == "unknown"


def test_the_state_says_whether_the_machine_is_idle_and_why_not(
    viewer: Caller, anonymous: Caller, now: datetime
) -> None:
    reasons = [{"signal": "request", "code": "came_back", "facts": {"who": "anna"}}]
    since, from_ = now - timedelta(minutes=5), now + timedelta(minutes=2)
    node(now, idle=False, idle_since=since, idle_from=from_, idle_reasons=reasons, users=2)

    told = viewer("GET", "status").json()

    assert (told["idle"], told["users"]) == (False, 2)
    assert datetime.fromisoformat(told["idle_since"]) == since
    assert datetime.fromisoformat(told["idle_from"]) == from_
    (reason,) = told["idle_reasons"]
    assert (reason["signal"], reason["code"]) == ("request", "came_back")
    assert reason["sentence"]
    assert "anna" not in anonymous("GET", "status").content.decode()


def test_of_a_daemon_that_is_away_nobody_knows_whether_it_is_idle(
    viewer: Caller, now: datetime
) -> None:
    there = node(now, idle=True, idle_since=now)
    Node.objects.filter(pk=there.pk).update(seen_at=now - timedelta(minutes=5))

    told = viewer("GET", "status").json()

    assert (told["idle"], told["idle_since"], told["idle_reasons"]) == (None, None, [])


def test_what_somebody_said_of_being_here_holds_until_its_end(
    viewer: Caller, anonymous: Caller, now: datetime
) -> None:
    Policy.objects.create(
        pk=1,
        presence="away",
        presence_until=now + timedelta(hours=1),
        presence_at=now,
        presence_by="anna",
    )
    said = viewer("GET", "status").json()["presence"]
    to_anybody = anonymous("GET", "status").json()["presence"]
    Policy.objects.update(presence_until=now - timedelta(seconds=1))

    over = viewer("GET", "status").json()["presence"]

    assert (said["state"], said["by"]) == ("away", "anna")
    assert set(to_anybody) == {"state", "until", "at"}
    assert (over["state"], over["until"]) == ("", None)


# ── Before ───────────────────────────────────────────────────────────────────────────────────────
def test_the_last_hour_stands_in_columns_as_long_as_each_other(
    viewer: Caller, now: datetime
) -> None:
    node(now)
    tick(now - timedelta(minutes=61))
    tick(now - timedelta(minutes=2), Reading("vram", State.OK, 40.0, ""), idle=1.0)
    tick(now - timedelta(minutes=1))

    told = viewer("GET", "status").json()["health_history"]

    assert len(told["at"]) == 2
    assert told["idle"] == [True, False]
    assert told["checks"]["vram"]["values"] == [40.0, 10.0]
    assert told["checks"]["disk"]["values"] == [None, 10.0]
    assert told["checks"]["disk"]["states"] == [None, "ok"]


def test_the_history_of_a_check_has_its_gaps(viewer: Caller, now: datetime) -> None:
    node(now)
    for minutes in (50, 49, 48, 20, 19):
        tick(now - timedelta(minutes=minutes), Reading("vram", State.OK, float(minutes), ""))

    told = viewer("GET", "health/history?check=vram&range=1h").json()

    assert set(told["checks"]) == {"vram"}
    points = told["checks"]["vram"]["points"]
    assert [p["value"] for p in points if p["state"]] == [50, 49, 48, 20, 19]
    assert any(p["state"] is None for p in points)
    until, since = (datetime.fromisoformat(told[name]) for name in ("until", "since"))
    assert until - since == timedelta(hours=1)


def test_few_points_keep_the_least_and_the_most(viewer: Caller, now: datetime) -> None:
    node(now)
    for n in range(60):
        tick(now - timedelta(seconds=30 * n), Reading("vram", State.OK, float(n), ""))

    told = viewer("GET", "health/history?check=vram&points=5").json()["checks"]["vram"]

    assert len(told["points"]) <= 6
    assert min(p["least"] for p in told["points"]) == 0
    assert max(p["most"] for p in told["points"]) == 59


def test_all_checks_have_a_history_even_an_empty_one(viewer: Caller) -> None:
    told = viewer("GET", "health/history?range=30d").json()

    assert list(told["checks"]) == CHECKS
    assert all(each["points"] == [] for each in told["checks"].values())


def test_a_time_of_its_own_is_given_with_its_zone(viewer: Caller, now: datetime) -> None:
    node(now)
    tick(now - timedelta(hours=2))
    tick(now)
    since = (now - timedelta(hours=3)).astimezone(UTC).isoformat()
    until = (now - timedelta(hours=1)).astimezone(UTC).isoformat()

    # The + of the zone arrives as a blank, as from a shell.
    told = viewer("GET", f"health/history?check=disk&since={since}&until={until}")

    assert told.status_code == 200
    assert len(told.json()["checks"]["disk"]["points"]) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("check=vrm", "check"),
        ("check=", "check"),
        ("range=2h", "range"),
        ("range=1H", "range"),
        ("range=", "range"),
        ("points=1", "points"),
        ("points=1001", "points"),
        ("points=x", "points"),
        ("since=yesterday", "since"),
        ("since=2026-11-22T03:00:00", "since"),
        ("since=2026-11-22", "since"),
        ("since=2999-01-01T00:00:00Z", "since"),
        ("since=0001-01-01T00:00:00Z", "since"),
        ("until=0001-01-01T00:00:00Z", "until"),
        ("until=9999-12-31T23:59:59Z", "until"),
        ("since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("range=1h&until=2026-01-01T00:00:00Z", "range"),
        ("range=1h&since=2026-01-01T00:00:00Z", "range"),
        ("hours=3", "hours"),
    ],
)
def test_a_history_that_can_not_be_is_refused_with_the_reason(
    viewer: Caller, query: str, field: str
) -> None:
    answer = viewer("GET", f"health/history?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][field][0]


def test_an_unknown_check_is_refused_with_those_there_are(viewer: Caller) -> None:
    said = viewer("GET", "health/history?check=gpu").json()["error"]["fields"]["check"][0]

    assert all(name in said for name in CHECKS)


def test_idle_and_busy_times_are_told_newest_first(viewer: Caller, now: datetime) -> None:
    hour = timedelta(hours=1)
    reasons = [{"signal": "request", "code": "came_back", "facts": {}}]
    for idle, began, ended, why in (
        (True, now - 50 * hour, now - 40 * hour, []),
        (False, now - 5 * hour, now - 3 * hour, reasons),
        (True, now - 3 * hour, None, []),
    ):
        IdleSpan.objects.create(host="hal", idle=idle, began_at=began, ended_at=ended, reasons=why)
    long_ago = (now - 60 * hour).astimezone(UTC).isoformat().replace("+00:00", "Z")

    told = viewer("GET", "idle/history").json()["spans"]

    assert [(span["idle"], span["ended_at"] is None) for span in told] == [
        (True, True),
        (False, False),
    ]
    assert told[1]["reasons"][0]["sentence"]
    assert len(viewer("GET", f"idle/history?since={long_ago}").json()["spans"]) == 3
    assert len(viewer("GET", f"idle/history?since={long_ago}&limit=1").json()["spans"]) == 1
    assert viewer("GET", "idle/history?since=x").status_code == 400


# ── Who made way ─────────────────────────────────────────────────────────────────────────────────
def test_who_made_way_is_told_with_how_fast(viewer: Caller, now: datetime) -> None:
    index, other = run(job("index")), run(job("other"))
    made_way(other, now - timedelta(days=3), 0.5, 9.0)
    for n in range(1, 4):
        made_way(index, now, n / 100, float(n))

    told = viewer("GET", "displacements").json()

    assert [each["job_name"] for each in told["displacements"]] == ["index"] * 3 + ["other"]
    assert told["times"]["total"] == 4
    assert told["times"]["today"] == 3
    first = told["displacements"][0]
    assert (first["run_id"], first["asked_seconds"], first["phase"]) == (index.pk, 0.03, "term")
    assert first["cause"]["sentence"]
    assert "page 17" not in viewer("GET", "displacements").content.decode()


def test_displacements_of_one_job_come_in_pages(viewer: Caller, now: datetime) -> None:
    index = run(job("index"))
    made_way(run(job("other")), now, 9.0, 9.0)
    for n in range(3):
        made_way(index, now, n / 100, 1.0)

    path = f"displacements?job_id={index.job_id}&limit=2"
    first = viewer("GET", path).json()
    second = viewer("GET", first["next"].removeprefix("/api/daemon/")).json()

    assert first["times"]["asked_seconds"]["p99"] == 0.02
    assert [len(page["displacements"]) for page in (first, second)] == [2, 1]
    assert second["next"] is None


def test_how_often_and_how_fast_runs_make_way_is_part_of_the_state(
    viewer: Caller, now: datetime
) -> None:
    none = viewer("GET", "status").json()["displacements"]
    made_way(run(), now, 0.04, 1.5)

    told = viewer("GET", "status").json()["displacements"]

    assert (none["total"], none["asked_seconds"]["p99"]) == (0, None)
    assert (told["today"], told["total"]) == (1, 1)
    assert told["asked_seconds"] == {"p50": 0.04, "p95": 0.04, "p99": 0.04}
    assert told["yielded_seconds"]["p50"] == 1.5


# ── Skills ───────────────────────────────────────────────────────────────────────────────────────
def test_skills_are_told_with_their_last_runs(
    viewer: Caller, anonymous: Caller, now: datetime
) -> None:
    node(now)
    tick(now)
    skills.install(now)
    there = Job.objects.get(skill="validate_configs")
    done = run(there, state=Run.State.SUCCEEDED, ended_at=now, last_line="2 faults in /etc/x")
    Job.objects.filter(skill="cleanup_vram").update(is_active=False)

    told = {each["name"]: each for each in viewer("GET", "skills").json()["skills"]}

    assert told["validate_configs"]["job_id"] == there.pk
    assert told["validate_configs"]["last_run"]["id"] == done.pk
    assert told["validate_configs"]["last_run"]["summary"] == "2 faults in /etc/x"
    assert (told["cleanup_vram"]["enabled"], told["cleanup_vram"]["last_run"]) == (False, None)
    # It is part of each tick, and has no runs.
    assert told["health_check"]["job_id"] is None
    assert datetime.fromisoformat(told["health_check"]["last_run"]["at"]) == now
    assert viewer("GET", "status").json()["skills"] == [*told.values()]
    to_anybody = anonymous("GET", "status")
    assert [each["name"] for each in to_anybody.json()["skills"]] == [*told]
    assert "/etc/x" not in to_anybody.content.decode()


def test_the_job_of_a_skill_is_switched_off_and_not_deleted(admin: Caller, now: datetime) -> None:
    skills.install(now)
    there = Job.objects.get(skill="cleanup_vram")

    deleted = admin("DELETE", f"jobs/{there.pk}")
    rewritten = admin("PATCH", f"jobs/{there.pk}", {"command": "true"})

    assert (deleted.status_code, deleted.json()["error"]["code"]) == (409, "of_a_skill")
    assert "command" in rewritten.json()["error"]["fields"]
    assert admin("PUT", f"jobs/{there.pk}/toggle", {"is_active": False}).status_code == 200
    assert Job.objects.filter(pk=there.pk).exists()


# ── Cheap ────────────────────────────────────────────────────────────────────────────────────────
def test_a_busy_machine_asks_the_database_no_more_for_its_state(
    viewer: Caller, now: datetime, django_assert_max_num_queries: Any
) -> None:
    node(now, idle=True)
    for n in range(120):
        tick(now - timedelta(seconds=30 * n))
    for n in range(20):
        made_way(run(now=now), now, n / 100, 1.0)

    with django_assert_max_num_queries(40):
        assert viewer("GET", "status").status_code == 200

"""Jobs over REST."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app.models import Job, Pool, Run
from tests.api.caller import Caller, Maker
from tests.jobs import NOON, job, run

SEED = {
    "name": "mein-job",
    "job_type": "interval",
    "schedule": "1h",
    "command": "python tools/mein_script.py",
}
DAY = timedelta(days=1)
pytestmark = pytest.mark.django_db


def test_the_seeds_example_works_as_it_stands(admin: Caller) -> None:
    before = timezone.now()

    answer = admin("POST", "jobs", SEED)

    assert answer.status_code == 201
    stored = Job.objects.get()
    assert answer.headers["Location"] == f"/api/daemon/jobs/{stored.pk}"
    told = answer.json()
    assert {name: told[name] for name in SEED} == SEED
    assert told["id"] == stored.pk
    assert told["is_active"] is True
    assert told["timeout_seconds"] == 300
    assert told["updated_by"] == "admin"
    assert told["next_due_at"].endswith("Z")
    assert stored.next_due_at
    assert stored.next_due_at - before >= timedelta(hours=1)


def test_a_job_can_be_read_as_it_was_written(admin: Caller, viewer: Caller) -> None:
    wanted = SEED | {
        "name": "nightly (a)",
        "description": "Über Nacht",
        "job_type": "cron",
        "schedule": "30 3 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "is_active": False,
        "environment": {"LANG": "C", "EMPTY": ""},
        "parameters": {"depth": "3"},
        "working_directory": "/srv",
        "nice": 10,
        "idle_io": True,
        "soft_timeout_seconds": 60,
        "overlap": "parallel",
        "max_instances": 3,
    }

    number = admin("POST", "jobs", wanted).json()["id"]
    told = admin("GET", f"jobs/{number}").json()

    assert {name: told[name] for name in wanted} == wanted
    assert told["schedule_text"] == "Montag bis Freitag um 03:30 Uhr"


def test_who_may_not_edit_sees_of_variables_the_names_alone(
    admin: Caller, operator: Caller, viewer: Caller
) -> None:
    values = {"environment": {"TOKEN": "hunter2"}, "parameters": {"key": "hunter3"}}
    number = admin("POST", "jobs", SEED | values).json()["id"]
    started = run(Job.objects.get())
    asked: list[tuple[Caller, str, str, Any]] = [
        *(
            (who, "GET", path, None)
            for who in (viewer, operator)
            for path in (f"jobs/{number}", "jobs", f"runs/{started.pk}", "runs")
        ),
        (operator, "PUT", f"jobs/{number}/toggle", {"is_active": False}),
        (operator, "POST", f"jobs/{number}/pause", {"until": f"{timezone.now() + DAY:%FT%TZ}"}),
    ]

    for who, method, path, body in asked:
        answer = who(method, path, body)
        assert answer.status_code < 300, path
        assert "hunter" not in answer.content.decode(), path
    assert viewer("GET", f"jobs/{number}").json()["environment"] == {"TOKEN": "***"}
    assert admin("GET", "jobs").json()["jobs"][0]["environment"] == values["environment"]
    assert admin("GET", f"runs/{started.pk}").json()["definition"]["parameters"] == {
        "key": "hunter3"
    }


def test_every_rule_of_a_job_can_be_written_and_read(admin: Caller, viewer: Caller) -> None:
    Pool(name="gpu", size=4).store(now=NOON, by="anna")
    wanted = SEED | {
        "overlap": "queue",
        "misfire": "all",
        "misfire_age_seconds": 3600,
        "deadline": "2099-12-24T17:00:00Z",
        "max_wait_seconds": 600,
        "max_retries": 3,
        "retry_backoff_seconds": 30,
        "retry_exit_codes": [1, 75],
        "retry_on_timeout": True,
        "on_loss": "repeat",
        "pools": {"gpu": 2},
        "priority": -5,
        "stop_command": "pkill -INT worker",
        "cpu_limit_seconds": 3600,
        "memory_limit_mb": 2048,
        "limit_sustain_seconds": 30,
        "limit_action": "warn",
        "keep_days": 7,
        "keep_runs": 100,
        "keep_output_mb": 50,
    }

    number = admin("POST", "jobs", wanted).json()["id"]
    told = viewer("GET", f"jobs/{number}").json()

    assert {name: told[name] for name in wanted} == wanted
    cleared = admin("PATCH", f"jobs/{number}", {"deadline": None, "max_wait_seconds": None})
    assert (cleared.json()["deadline"], cleared.json()["max_wait_seconds"]) == (None, None)


def test_a_deadline_may_be_given_in_any_zone(admin: Caller) -> None:
    answer = admin("POST", "jobs", SEED | {"deadline": "2099-12-24T18:00:00+01:00"})

    assert answer.json()["deadline"] == "2099-12-24T17:00:00Z"


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"overlap": "replace", "max_retries": 2}, "overlap"),
        ({"overlap": "replace", "misfire": "all"}, "overlap"),
        ({"retry_exit_codes": [1]}, "retry_exit_codes"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
    ],
)
def test_rules_that_contradict_each_other_are_refused_with_the_reason(
    admin: Caller, rules: dict[str, Any], field: str
) -> None:
    answer = admin("POST", "jobs", SEED | rules)

    assert answer.status_code == 400
    assert len(answer.json()["error"]["fields"][field][0]) > 40
    assert not Job.objects.exists()


def test_a_change_touches_only_what_is_given(admin: Caller) -> None:
    there = job(job_type="interval", schedule="1h", description="stays")

    answer = admin("PATCH", f"jobs/{there.pk}", {"schedule": "2h"})

    assert answer.status_code == 200
    there.refresh_from_db()
    assert (there.schedule, there.description, there.version) == ("2h", "stays", 2)
    assert answer.json()["version"] == 2
    assert there.updated_by == "admin"


def test_a_refused_change_changes_nothing(admin: Caller) -> None:
    there = job()

    answer = admin("PATCH", f"jobs/{there.pk}", {"description": "new", "nice": 99})

    assert answer.status_code == 400
    there.refresh_from_db()
    assert (there.description, there.version) == ("", 1)


def test_a_deleted_job_is_gone_with_its_runs(admin: Caller) -> None:
    there = job()
    run(there)

    answer = admin("DELETE", f"jobs/{there.pk}")

    assert answer.status_code == 204
    assert not answer.content
    assert not Job.objects.exists()
    assert not Run.objects.exists()
    assert admin("GET", f"jobs/{there.pk}").status_code == 404


@pytest.mark.parametrize(
    ("before", "body", "after"),
    [
        (True, None, False),
        (False, None, True),
        (True, {}, False),
        (True, {"is_active": False}, False),
        (True, {"is_active": True}, True),
        (False, {"is_active": True}, True),
    ],
)
def test_a_job_is_switched_to_what_is_said_or_to_the_other_state(
    admin: Caller, before: bool, body: Any, after: bool
) -> None:
    there = job(job_type="interval", schedule="1h", is_active=before)

    answer = admin("PUT", f"jobs/{there.pk}/toggle", body)

    assert answer.status_code == 200
    assert answer.json()["is_active"] is after
    assert (answer.json()["next_due_at"] is not None) is after
    there.refresh_from_db()
    assert there.is_active is after


# ── Pausing ──────────────────────────────────────────────────────────────────────────────────────
def test_a_job_is_paused_until_an_instant_and_says_so(operator: Caller) -> None:
    there = job(job_type="interval", schedule="1h")
    until = (timezone.now() + timedelta(hours=3)).replace(microsecond=0)

    answer = operator(
        "POST", f"jobs/{there.pk}/pause", {"until": until.isoformat(), "note": "disk"}
    )

    assert answer.status_code == 200
    told = answer.json()
    assert (told["is_active"], told["next_due_at"]) == (False, None)
    assert (told["paused_by"], told["pause_note"]) == ("operator", "disk")
    there.refresh_from_db()
    assert there.paused_until == until


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"until": None},
        {"until": "tomorrow"},
        {"until": "2026-12-24T08:00:00"},
        {"until": "2001-01-01T00:00:00Z"},
        {"until": "9999-01-01T00:00:00Z"},
        {"until": "2026-12-24T08:00:00Z", "not": "known"},
        {"until": "2026-12-24T08:00:00Z", "note": 7},
    ],
)
def test_a_pause_without_an_end_that_can_be_is_refused(operator: Caller, body: Any) -> None:
    there = job(job_type="interval", schedule="1h")

    answer = operator("POST", f"jobs/{there.pk}/pause", body)

    assert answer.status_code in {400, 415}
    there.refresh_from_db()
    assert there.is_active


def test_a_pause_is_not_set_like_a_field(admin: Caller) -> None:
    there = job()

    answer = admin("PATCH", f"jobs/{there.pk}", {"paused_until": "2026-12-24T08:00:00Z"})

    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["paused_until"]


# ── Running ──────────────────────────────────────────────────────────────────────────────────────
def test_a_job_is_run(operator: Caller) -> None:
    there = job(is_active=False)

    answer = operator("POST", f"jobs/{there.pk}/run")

    assert answer.status_code == 202
    started = Run.objects.get()
    assert answer.headers["Location"] == f"/api/daemon/runs/{started.pk}"
    assert (started.trigger, started.started_by) == ("api", "operator")
    assert answer.json()["state"] == "queued"


def test_a_person_on_a_page_runs_by_hand(with_session: Maker) -> None:
    there = job()

    answer = with_session("operator")("POST", f"jobs/{there.pk}/run", {})

    assert answer.status_code == 202
    assert Run.objects.get().trigger == "manual"


def test_a_job_that_runs_already_is_not_started_and_the_run_in_its_way_is_named(
    operator: Caller,
) -> None:
    there = job()
    active = run(there, state=Run.State.RUNNING)

    answer = operator("POST", f"jobs/{there.pk}/run")

    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "overlap"
    assert str(active.pk) in error["message"]
    assert error["blocking_run"]["id"] == active.pk
    assert Run.objects.count() == 1


def test_the_same_key_starts_one_run(operator: Caller) -> None:
    there = job()

    first = operator("POST", f"jobs/{there.pk}/run", headers={"Idempotency-Key": "deploy-17"})
    again = operator("POST", f"jobs/{there.pk}/run", headers={"Idempotency-Key": "deploy-17"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert Run.objects.count() == 1


def test_a_key_used_for_another_job_is_refused(operator: Caller) -> None:
    one, other = job("one"), job("other")
    operator("POST", f"jobs/{one.pk}/run", headers={"Idempotency-Key": "k"})

    answer = operator("POST", f"jobs/{other.pk}/run", headers={"Idempotency-Key": "k"})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "key_used"
    assert Run.objects.count() == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 81, "ü", "a\tb"])
def test_a_key_that_is_none_is_refused(operator: Caller, key: str) -> None:
    answer = operator("POST", f"jobs/{job().pk}/run", headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]["fields"]


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────
def test_jobs_come_in_pages(viewer: Caller) -> None:
    numbers = [job(f"job {n}").pk for n in range(5)]

    first = viewer("GET", "jobs?limit=2").json()
    second = viewer("GET", first["next"].removeprefix("/api/daemon/")).json()
    third = viewer("GET", second["next"].removeprefix("/api/daemon/")).json()

    assert [[j["id"] for j in page["jobs"]] for page in (first, second, third)] == [
        numbers[:2],
        numbers[2:4],
        numbers[4:],
    ]
    assert third["next"] is None


def test_jobs_are_found_by_name_and_by_being_active(viewer: Caller) -> None:
    job("on")
    job("off", is_active=False)

    def names(query: str) -> list[str]:
        return [j["name"] for j in viewer("GET", f"jobs?{query}").json()["jobs"]]

    assert names("name=on") == ["on"]
    assert names("name=o") == []
    assert names("is_active=false") == ["off"]
    assert names("is_active=true") == ["on"]


def test_a_longer_list_asks_the_database_no_more(
    viewer: Caller, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    now = timezone.now()
    for n in range(3):
        run(job(f"job {n}"), now=now)
    viewer("GET", "jobs")  # notes the use of the token
    with django_assert_num_queries(2):
        assert len(viewer("GET", "jobs").json()["jobs"]) == 3
    with django_assert_num_queries(9):  # why the waiting ones wait is asked once for all
        assert len(viewer("GET", "runs").json()["runs"]) == 3

    for n in range(27):
        run(job(f"more {n}"), now=now)

    with django_assert_num_queries(2):
        assert len(viewer("GET", "jobs").json()["jobs"]) == 30
    with django_assert_num_queries(9):
        assert len(viewer("GET", "runs").json()["runs"]) == 30

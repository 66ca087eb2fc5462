"""Why a job or a run is as it is, over REST."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from daemon_app.models import Node, Policy, Run
from tests.api.caller import Caller
from tests.jobs import job, run

pytestmark = pytest.mark.django_db


@pytest.fixture
def now() -> datetime:
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now, seen_at=now)
    return now


def test_a_job_is_explained_by_one_sentence_and_every_rule(viewer: Caller, now: datetime) -> None:
    there = job(now=now, job_type="interval", schedule="1h")

    told = viewer("GET", f"jobs/{there.pk}/why").json()

    assert (told["state"], told["job_id"], told["run_id"]) == ("scheduled", there.pk, None)
    assert told["sentence"]
    assert told["next_due_at"].endswith("Z")
    rules = {rule["name"]: rule for rule in told["rules"]}
    assert {"enabled", "schedule", "overlap", "pool", "idle", "vram", "daemon"} <= set(rules)
    assert rules["enabled"]["state"] == "ok"
    assert all(rule["sentence"] and rule["label"] and rule["code"] for rule in told["rules"])


def test_a_waiting_run_names_what_keeps_it(viewer: Caller, now: datetime) -> None:
    waiting = run(now=now, needs={"idle": True, "zone": "UTC"})
    Node.objects.update(idle=False, idle_since=now)
    Policy.set_hold("drain", now=now, by="anna")

    for path in (f"runs/{waiting.pk}/why", f"jobs/{waiting.job_id}/why"):
        told = viewer("GET", path).json()

        assert (told["state"], told["run_id"]) == ("waiting", waiting.pk)
        assert "anna" in told["sentence"]
        blocked = {rule["name"] for rule in told["rules"] if rule["state"] == "blocked"}
        assert {"held", "idle"} <= blocked


def test_an_occurrence_of_the_past_is_told_as_it_was_recorded(
    viewer: Caller, now: datetime
) -> None:
    there = job(now=now - timedelta(days=2))
    three = now - timedelta(hours=9)
    skipped = run(
        there,
        now=three,
        state=Run.State.SKIPPED,
        trigger=Run.Trigger.SCHEDULE,
        ended_at=three,
        reason_code="overlap",
        blocking_run_id=17,
    )
    at = three.astimezone(UTC).isoformat()

    told = viewer("GET", f"jobs/{there.pk}/why?at={at}").json()

    assert (told["state"], told["run_id"]) == ("skipped", skipped.pk)
    assert "17" in told["sentence"]
    assert any(event["run_id"] == skipped.pk for event in told["history"]) or told["history"]


def test_a_time_without_seconds_is_the_whole_minute(viewer: Caller) -> None:
    made = timezone.now().replace(second=40, microsecond=0) - timedelta(minutes=5)
    there = job(now=made)
    minute = made.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    begun = run(there, now=made, state="succeeded", started_at=made, ended_at=made)

    whole = viewer("GET", f"jobs/{there.pk}/why?at={minute}Z").json()
    instant = viewer("GET", f"jobs/{there.pk}/why?at={minute}:00Z").json()

    assert (whole["state"], whole["run_id"]) == ("succeeded", begun.pk)
    assert instant["state"] == "none"


def test_of_a_time_of_which_nothing_is_recorded_it_says_so(viewer: Caller, now: datetime) -> None:
    there = job(now=now)

    told = viewer("GET", f"jobs/{there.pk}/why?at=2020-01-01T00:00:00Z").json()

    assert told["state"] == "none"
    assert {rule["state"] for rule in told["rules"]} == {"unknown"}


@pytest.mark.parametrize(
    "at",
    ["now", "03:00", "2026-11-22", "2026-11-22T03:00:00", "", "0001-01-01T00:00:00Z", "9999-01-01"],
)
def test_a_time_that_can_not_be_is_refused(viewer: Caller, at: str) -> None:
    answer = viewer("GET", f"jobs/{job().pk}/why?at={at}")

    assert answer.status_code == 400
    assert answer.json()["error"]["fields"]["at"]


def test_only_a_job_is_asked_about_a_time(viewer: Caller) -> None:
    there = run()

    assert viewer("GET", f"runs/{there.pk}/why?at=2026-11-22T03:00:00Z").status_code == 400
    assert viewer("GET", "runs/99999/why").status_code == 404
    assert viewer("GET", "jobs/99999/why").status_code == 404


@pytest.mark.parametrize("state", Run.State.values)
@pytest.mark.parametrize("path", ["runs/{run}/why", "jobs/{job}/why", "jobs/{job}/why?at={at}"])
def test_a_run_in_any_state_can_be_explained(
    viewer: Caller, now: datetime, state: str, path: str
) -> None:
    started = now - timedelta(minutes=5) if state not in {"queued", "skipped", "missed"} else None
    there = run(
        now=now - timedelta(minutes=6),
        state=state,
        started_at=started,
        ended_at=None if state in Run.ACTIVE else now,
    )
    at = (now - timedelta(minutes=3)).astimezone(UTC).isoformat()

    answer = viewer("GET", path.format(run=there.pk, job=there.job_id, at=at))

    assert answer.status_code == 200
    assert answer.json()["sentence"]

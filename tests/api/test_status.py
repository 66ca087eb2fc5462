"""The state of the daemon over REST, and who may see it without signing in."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app.models import Incident, Node, Policy, Run
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
# What is told to whoever asks from this machine.
OPEN_TO_ALL = {
    *("running", "host", "since", "hold", "queue_length", "level", "stats"),
    *("idle", "idle_since", "idle_from", "idle_reasons", "users", "presence"),
    *("health", "health_history", "skills", "displacements"),
}


@pytest.fixture(autouse=True)
def on_this_machine_alone(settings: Any) -> None:
    settings.HOST = "127.0.0.1"
    settings.PUBLIC_STATUS = True


def test_a_daemon_that_speaks_is_running(viewer: Caller) -> None:
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now - timedelta(hours=1), seen_at=now)

    told = viewer("GET", "status").json()

    assert (told["running"], told["host"]) == (True, "hal")
    assert told["since"].endswith("Z")


def test_a_daemon_that_fell_silent_or_never_was_is_not_running(viewer: Caller) -> None:
    assert viewer("GET", "status").json()["running"] is False

    long_ago = timezone.now() - timedelta(hours=1)
    Node.objects.create(host="hal", pid=1, started_at=long_ago, seen_at=long_ago)

    told = viewer("GET", "status").json()
    assert (told["running"], told["since"]) == (False, None)


def test_the_day_is_counted(viewer: Caller) -> None:
    now = timezone.now()
    there = job()
    job("off", is_active=False)
    for state in ("succeeded", "failed", "timed_out", "lost", "cancelled", "skipped", "missed"):
        run(there, now=now, state=state)
    run(there, now=now - timedelta(days=2), state=Run.State.FAILED)

    stats = viewer("GET", "status").json()["stats"]

    assert stats == {"total_jobs": 2, "active_jobs": 1, "runs_today": 5, "failed_today": 3}


def test_the_last_runs_are_told(viewer: Caller) -> None:
    there = job()
    numbers = [run(there).pk for _n in range(12)]

    told = viewer("GET", "status").json()

    assert [r["id"] for r in told["last_runs"]] == numbers[:1:-1]


def test_only_what_is_measured_is_told(viewer: Caller) -> None:
    assert set(viewer("GET", "status").json()) == {*OPEN_TO_ALL, "notices", "last_runs"}


def test_anybody_on_this_machine_sees_the_state_but_nothing_of_the_jobs(anonymous: Caller) -> None:
    secret = job("secret-plan")
    run(secret)
    Incident.note("poisoned", now=NOON, job=secret, n=3)

    answer = anonymous("GET", "status")

    assert answer.status_code == 200
    assert set(answer.json()) == OPEN_TO_ALL
    assert "secret-plan" not in answer.content.decode()


def test_what_is_held_what_waits_and_what_needs_a_person_is_told(viewer: Caller) -> None:
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now, seen_at=now)
    there = job("backup")
    run(there, now=now)
    quiet = viewer("GET", "status").json()
    Incident.note("poisoned", now=now, job=there, n=3)
    Policy.set_hold("drain", now=now, by="anna")

    told = viewer("GET", "status").json()

    assert (quiet["hold"], quiet["queue_length"]) == ("", 1)
    assert told["hold"] == "drain"
    assert told["level"] in {"warn", "error"}
    found = {notice["code"]: notice for notice in told["notices"]}
    assert found["poisoned"]["job_id"] == there.pk
    assert "backup" in found["poisoned"]["text"] + found["poisoned"]["title"]


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Foo", "X-Real-IP", "Via"],
)
def test_behind_a_proxy_the_state_is_not_public(anonymous: Caller, header: str) -> None:
    assert anonymous("GET", "status", headers={header: "x"}).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_a_server_that_others_reach_tells_its_state_to_nobody_unknown(
    settings: Any, anonymous: Caller, host: str
) -> None:
    settings.HOST = host

    assert anonymous("GET", "status").status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_has_several_names(settings: Any, anonymous: Caller, host: str) -> None:
    settings.HOST = host

    assert anonymous("GET", "status").status_code == 200


def test_the_public_state_can_be_switched_off(settings: Any, anonymous: Caller) -> None:
    settings.PUBLIC_STATUS = False

    assert anonymous("GET", "status").status_code == 401


def test_a_false_token_is_refused_even_where_the_state_is_public(anonymous: Caller) -> None:
    answer = anonymous("GET", "status", headers={"Authorization": "Bearer bach_1_x"})

    assert answer.status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_unknown_can_do_more_than_look(anonymous: Caller, method: str) -> None:
    assert anonymous(method, "status", {}).status_code == 401

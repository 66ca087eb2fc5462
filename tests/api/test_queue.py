"""The line of waiting runs over REST: to see, to reorder, to hold."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app import scheduler
from daemon_app.models import Node, Policy, Pool, Run
from tests import jobs
from tests.api.caller import Caller
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


def run(*of: Any, **fields: Any) -> Run:
    """Return a queued run that is due."""
    return jobs.run(*of, now=timezone.now() - timedelta(minutes=1), **fields)


@pytest.fixture
def alive() -> None:
    """A daemon is there."""
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now, seen_at=now)


def line(caller: Caller) -> list[int]:
    return [waiting["run_id"] for waiting in caller("GET", "queue").json()["waiting"]]


def test_the_line_is_told_in_the_order_of_start_with_reasons(viewer: Caller, alive: None) -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    run(job("busy"), state=Run.State.RUNNING, started_at=NOON, pools={"gpu": 2})
    plain = run(job("plain"))
    urgent = run(job("urgent"), priority=5, pools={"gpu": 1})

    told = viewer("GET", "queue").json()

    assert (told["running"], told["length"]) == (1, 2)
    assert told["parallel"] == Policy.current().parallel
    assert told["held"] == {"hold": "", "held_at": None, "held_by": "", "hold_note": ""}
    first, second = told["waiting"]
    assert (first["run_id"], first["position"], first["code"]) == (urgent.pk, 1, "waits_pool")
    assert first["job_name"] == "urgent"
    assert first["pools"] == {"gpu": 1}
    assert "gpu" in first["sentence"]
    assert (second["run_id"], second["position"]) == (plain.pk, 2)


def test_the_line_can_be_cut_and_still_says_how_long_it_is(viewer: Caller) -> None:
    there = job()
    for _n in range(3):
        run(there)

    told = viewer("GET", "queue?limit=2").json()

    assert (len(told["waiting"]), told["length"]) == (2, 3)
    assert viewer("GET", "queue?limit=0").status_code == 400


def test_a_longer_line_asks_the_database_no_more(
    viewer: Caller, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    run(job("first"))
    viewer("GET", "queue")  # notes the use of the token
    with django_assert_num_queries(12):
        viewer("GET", "queue")

    for n in range(20):
        run(job(f"job {n}"))

    with django_assert_num_queries(12):
        assert len(line(viewer)) == 21


# ── One run's place ──────────────────────────────────────────────────────────────────────────────
def test_a_waiting_run_is_moved(operator: Caller) -> None:
    there = job()
    one, two, three = (run(there).pk for _n in range(3))

    answer = operator("POST", f"runs/{three}/move", {"to": "first"})

    assert answer.status_code == 200
    assert answer.json()["waiting"]["position"] == 1
    assert line(operator) == [three, one, two]
    operator("POST", f"runs/{three}/move", {"to": "down"})
    assert line(operator) == [one, three, two]
    operator("POST", f"runs/{one}/move", {"to": "last"})
    assert line(operator) == [three, two, one]
    operator("POST", f"runs/{one}/move", {"to": "up"})
    assert line(operator) == [three, one, two]


def test_the_first_may_be_put_first(operator: Caller) -> None:
    waiting = run()

    answer = operator("POST", f"runs/{waiting.pk}/move", {"to": "first"})

    assert answer.status_code == 200
    assert answer.json()["waiting"]["position"] == 1


@pytest.mark.parametrize("state", [Run.State.RUNNING, Run.State.SUCCEEDED, Run.State.CANCELLED])
def test_what_does_not_wait_is_not_moved(operator: Caller, state: str) -> None:
    answer = operator("POST", f"runs/{run(state=state).pk}/move", {"to": "first"})

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_waiting"


def test_a_retry_that_pauses_has_no_place_to_move_to(operator: Caller) -> None:
    later = timezone.now() + timedelta(hours=1)
    pausing = run(not_before=later, attempt=2, reason_code="retry")

    answer = operator("POST", f"runs/{pausing.pk}/move", {"to": "first"})
    told = operator("GET", f"runs/{pausing.pk}").json()["waiting"]

    assert answer.status_code == 409
    assert (told["position"], told["code"]) == (None, "waits_retry")


@pytest.mark.parametrize("body", [None, {}, {"to": "top"}, {"to": 1}, {"to": "up", "by": 2}, []])
def test_a_place_that_is_none_is_refused(operator: Caller, body: object) -> None:
    answer = operator("POST", f"runs/{run().pk}/move", body)

    assert answer.status_code == 400


def test_cancelling_drops_a_run_from_the_line(operator: Caller) -> None:
    there = job()
    one, two = run(there).pk, run(there).pk

    assert operator("POST", f"runs/{one}/cancel").json()["state"] == "cancelled"

    assert line(operator) == [two]


# ── Everything ───────────────────────────────────────────────────────────────────────────────────
def test_everything_is_held_and_goes_on(operator: Caller) -> None:
    there = job()
    waiting = run(there)

    held = operator("POST", "hold", {"mode": "drain", "note": "Kernel update"})
    told = operator("GET", f"runs/{waiting.pk}").json()["waiting"]
    refused = operator("POST", f"jobs/{there.pk}/run", {"beside": True})
    resumed = operator("POST", "resume")

    assert held.status_code == 200
    assert held.json()["hold"] == "drain"
    assert (held.json()["held_by"], held.json()["hold_note"]) == ("operator", "Kernel update")
    assert held.json()["held_at"].endswith("Z")
    assert told["code"] == "waits_held"
    assert "operator" in told["sentence"]
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "held"
    assert "operator" in refused.json()["error"]["message"]
    assert refused.json()["error"]["blocking_run"] is None
    assert resumed.json() == {"hold": "", "held_at": None, "held_by": "", "hold_note": ""}
    assert operator("POST", "resume").status_code == 200


def test_without_a_word_a_hold_lets_what_runs_go_on(operator: Caller) -> None:
    running = run(state=Run.State.RUNNING, started_at=NOON)

    assert operator("POST", "hold").json()["hold"] == "drain"

    running.refresh_from_db()
    assert running.stop_requested_at is None


def test_a_hold_may_end_what_runs(operator: Caller) -> None:
    running = run(state=Run.State.RUNNING, started_at=NOON)

    assert operator("POST", "hold", {"mode": "stop"}).json()["hold"] == "stop"

    running.refresh_from_db()
    assert running.stop_requested_by == "operator"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": ""}, "mode"),
        ({"mode": "pause"}, "mode"),
        ({"mode": None}, "mode"),
        ({"note": 5}, "note"),
        ({"note": "x" * 201}, "note"),
        ({"until": "tomorrow"}, "until"),
    ],
)
def test_a_hold_that_can_not_be_meant_is_refused(
    operator: Caller, body: object, field: str
) -> None:
    answer = operator("POST", "hold", body)

    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]
    assert not Policy.current().is_held


# ── Beside ───────────────────────────────────────────────────────────────────────────────────────
def test_a_person_may_start_a_job_beside_its_running_run(operator: Caller) -> None:
    there = job()
    run(there, state=Run.State.RUNNING, started_at=NOON)

    refused = operator("POST", f"jobs/{there.pk}/run", {"beside": False})
    started = operator("POST", f"jobs/{there.pk}/run", {"beside": True})

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "overlap")
    assert started.status_code == 202
    assert started.json()["beside"] is True


@pytest.mark.parametrize("body", [{"beside": 1}, {"beside": None}, {"besides": True}])
def test_what_beside_means_is_not_guessed(operator: Caller, body: object) -> None:
    answer = operator("POST", f"jobs/{job().pk}/run", body)

    assert answer.status_code == 400
    assert not Run.objects.exists()


def test_a_full_queue_is_told(operator: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "MOST_QUEUED", 1)
    run(job("first"))

    answer = operator("POST", f"jobs/{job('second').pk}/run")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "queue_full"

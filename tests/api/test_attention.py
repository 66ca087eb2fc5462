"""Known failures, incidents that come back, runs again, and the search: over REST."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app.models import Change, Incident, Job, Run
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db


# ── Known failures ───────────────────────────────────────────────────────────────────────────────
def test_failures_are_muted_for_a_while_and_told_again(operator: Caller) -> None:
    of = job()
    until = (timezone.now() + timedelta(days=2)).replace(microsecond=0)

    muted = operator("PUT", f"jobs/{of.pk}/mute", {"until": until.isoformat()})
    shown = operator("GET", f"jobs/{of.pk}/mute")
    again = operator("DELETE", f"jobs/{of.pk}/mute")

    assert muted.status_code == 200, muted.json()
    assert muted.json() == shown.json()
    assert shown.json()["muted_by"] == "operator"
    assert Job.objects.get().muted_until is None
    assert again.json() == {
        "job_id": of.pk,
        "muted_until": None,
        "muted_by": "",
        "seen_run_id": None,
    }
    kinds = Change.objects.of_jobs(of.pk).order_by("id").values_list("kind", flat=True)
    assert [*kinds] == ["created", "muted", "unmuted"]


def test_a_failure_that_was_seen_is_known_up_to_its_run(operator: Caller) -> None:
    of = job()
    failed = run(of, state=Run.State.FAILED, ended_at=NOON)

    answer = operator("PUT", f"jobs/{of.pk}/mute", {"run_id": failed.pk})

    assert answer.json()["seen_run_id"] == Job.objects.get().seen_failure == failed.pk


def test_telling_again_what_is_told_is_no_change(operator: Caller) -> None:
    of = job()

    assert operator("DELETE", f"jobs/{of.pk}/mute").status_code == 200
    assert not Change.objects.filter(kind="unmuted").exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "until"),
        ({"until": "2020-01-01T00:00:00Z"}, "until"),
        ({"until": "2099-01-01T00:00:00Z"}, "until"),
        ({"until": None}, "until"),
        ({"until": "2026-12-01"}, "until"),
        ({"run_id": 99}, "run_id"),
        ({"run_id": 2**80}, "run_id"),
        ({"run_id": -1}, "run_id"),
        ({"run_id": "1"}, "run_id"),
        ({"for": "day"}, "for"),
    ],
)
def test_what_mutes_nothing_is_refused(operator: Caller, body: object, field: str) -> None:
    of = job("a")

    answer = operator("PUT", f"jobs/{of.pk}/mute", body)

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]
    assert Job.objects.get().muted_until is None


def test_a_run_of_another_job_is_nothing_that_was_seen_of_this_one(operator: Caller) -> None:
    of, other = job("a"), run(job("b"), state=Run.State.FAILED)

    assert operator("PUT", f"jobs/{of.pk}/mute", {"run_id": other.pk}).status_code == 400


def test_viewers_mute_nothing(viewer: Caller) -> None:
    of = job()

    assert viewer("GET", f"jobs/{of.pk}/mute").status_code == 200
    assert viewer("PUT", f"jobs/{of.pk}/mute", {"run_id": 1}).status_code == 403
    assert viewer("DELETE", f"jobs/{of.pk}/mute").status_code == 403


# ── Incidents ────────────────────────────────────────────────────────────────────────────────────
def test_an_incident_that_was_marked_by_mistake_comes_back(operator: Caller) -> None:
    incident = Incident.objects.create(at=NOON, code="stalled", facts={"seconds": 3})
    operator("POST", f"incidents/{incident.pk}/acknowledge")

    back = operator("DELETE", f"incidents/{incident.pk}/acknowledge")
    again = operator("DELETE", f"incidents/{incident.pk}/acknowledge")

    assert back.status_code == again.status_code == 200
    assert (back.json()["acknowledged_at"], back.json()["acknowledged_by"]) == (None, "")
    assert Change.objects.filter(kind="unseen").count() == 1
    assert operator("DELETE", "incidents/99/acknowledge").status_code == 404


# ── Again ────────────────────────────────────────────────────────────────────────────────────────
def test_the_job_of_a_run_runs_again_as_it_is_today(operator: Caller) -> None:
    first = run(job(), state=Run.State.FAILED)
    Job.objects.update(command="echo mended")

    answer = operator("POST", f"runs/{first.pk}/again", headers={"Idempotency-Key": "k1"})
    twice = operator("POST", f"runs/{first.pk}/again", headers={"Idempotency-Key": "k1"})
    beside = operator("POST", f"runs/{first.pk}/again")

    assert answer.status_code == 202, answer.json()
    made = Run.objects.get(pk=answer.json()["id"])
    assert (made.job_id, made.definition["command"]) == (first.job_id, "echo mended")
    assert answer["Location"] == f"/api/daemon/runs/{made.pk}"
    assert (twice.status_code, twice.json()["id"]) == (200, made.pk)
    assert beside.status_code == 409
    assert beside.json()["error"]["blocking_run"]["id"] == made.pk
    assert operator("POST", "runs/999/again").status_code == 404


# ── Search ───────────────────────────────────────────────────────────────────────────────────────
def found(caller: Caller, query: str) -> tuple[list[str], list[int]]:
    answer = caller("GET", f"find{query}")
    assert answer.status_code == 200, answer.json()
    told: dict[str, Any] = answer.json()
    return [each["name"] for each in told["jobs"]], [each["id"] for each in told["runs"]]


def test_jobs_and_runs_are_found_as_by_the_search_of_the_pages(viewer: Caller) -> None:
    job("report")
    nightly = job("nightly backup")
    old, new = (run(nightly, state=Run.State.SUCCEEDED).pk for _n in range(2))

    assert found(viewer, "?q=back") == (["nightly backup"], [new, old])
    assert found(viewer, "?q=BACKUP%20night") == (["nightly backup"], [new, old])
    assert found(viewer, f"?q=%23{old}") == ([], [old])
    assert found(viewer, "?q=nothing") == ([], [])
    assert found(viewer, "?q=") == found(viewer, "") == (["nightly backup", "report"], [new, old])


def test_values_that_may_be_secret_are_found_by_nobody_who_may_not_edit(
    viewer: Caller, admin: Caller
) -> None:
    job("a", environment={"KEY": "s3cret"})

    assert "s3cret" in admin("GET", "find?q=a").content.decode()
    assert "s3cret" not in viewer("GET", "find?q=a").content.decode()


def test_a_search_asks_the_database_as_often_however_much_there_is(
    viewer: Caller, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(12):
        run(job(f"job-{n}"), now=timezone.now())

    with django_assert_max_num_queries(14):
        assert len(found(viewer, "?q=job")[0]) == 8

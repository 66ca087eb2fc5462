"""How jobs are doing, over REST."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app.models import Job, Pool, Run
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
State = Run.State


def ended(of: Job, state: str, seconds: float = 30, **facts: Any) -> Run:
    began = timezone.now() - timedelta(hours=1)
    at = {"started_at": began, "ended_at": began + timedelta(seconds=seconds)}
    return run(of, now=began, state=state, **at, **facts)


def states(answer: Any) -> dict[str, str]:
    assert answer.status_code == 200, answer.json()
    return {told["name"]: told["state"] for told in answer.json()["jobs"]}


def test_each_job_says_how_it_is_doing(viewer: Caller) -> None:
    now = timezone.now()
    run(job("running"), state=State.RUNNING, started_at=now, now=now)
    run(job("waiting"), now=now)
    ended(job("failing"), State.FAILED)
    fine = job("fine")
    ended(fine, State.SUCCEEDED)
    run(fine, state=State.SKIPPED, now=now)
    ended(job("off", job_type="interval", schedule="5m", is_active=False), State.SUCCEEDED)
    job("planned", job_type="interval", schedule="5m", now=now)
    job("never")
    Job.objects.filter(pk=job("broken").pk).update(schedule_error="?")

    answer = viewer("GET", "jobs/overview")

    assert states(answer) == {
        "running": "running",
        "waiting": "waiting",
        "failing": "failed",
        "fine": "succeeded",
        "off": "paused",
        "planned": "planned",
        "never": "never",
        "broken": "broken",
    }
    assert [*states(viewer("GET", "jobs/overview?state=failed"))] == ["failing"]


def test_a_job_at_a_glance_tells_its_last_runs(viewer: Caller) -> None:
    of = job()
    first = ended(of, State.SUCCEEDED, 40)
    ended(of, State.FAILED)
    last = ended(of, State.SUCCEEDED, 20)
    active = run(of, now=timezone.now())

    (told,) = viewer("GET", "jobs/overview").json()["jobs"]

    assert told["runs"] == ["succeeded", "failed", "succeeded"]
    assert told["success_percent"] == 67
    assert (told["last_run"]["id"], told["last_run"]["duration_seconds"]) == (last.pk, 20.0)
    assert told["active_run_id"] == active.pk
    assert first.pk != last.pk


def test_the_table_comes_in_pages_sorted_as_the_list_is(viewer: Caller) -> None:
    for name in ("b", "c", "a"):
        job(name)

    first = viewer("GET", "jobs/overview?sort=name&limit=2")
    second = viewer("GET", first.json()["next"].removeprefix("/api/daemon/"))

    assert [[*states(first)], [*states(second)]] == [["a", "b"], ["c"]]
    assert viewer("GET", "jobs/overview?limit=201").status_code == 400


def test_it_asks_the_database_as_often_however_many_jobs_there_are(
    viewer: Caller, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(20):
        of = job(f"job-{n}")
        ended(of, State.FAILED)
        run(of, now=timezone.now())

    with django_assert_max_num_queries(8):
        assert len(states(viewer("GET", "jobs/overview"))) == 20


def test_one_job_in_numbers(viewer: Caller) -> None:
    of = job()
    for n in range(1, 7):
        ended(of, State.SUCCEEDED, n * 10, peak_rss_bytes=n * 1000)
    long = ended(of, State.SUCCEEDED, 900, unusual="long")
    ended(of, State.FAILED, 5)

    told = viewer("GET", f"jobs/{of.pk}/figures").json()

    assert (told["success_percent"], told["judged"]) == (88, 8)
    assert (told["median_seconds"], told["longest_seconds"]) == (40.0, 900.0)
    assert told["peak_rss_bytes"] == 6000
    assert [each["id"] for each in told["unusual"]] == [long.pk]
    assert viewer("GET", "jobs/999/figures").status_code == 404


def test_a_job_without_runs_has_no_figures(viewer: Caller) -> None:
    told = viewer("GET", f"jobs/{job().pk}/figures").json()

    assert (told["success_percent"], told["median_seconds"], told["judged"]) == (None, None, 0)


def test_a_pool_gets_another_name_and_the_jobs_that_need_the_old_one_are_named(
    admin: Caller,
) -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    Pool(name="disk", size=2).store(now=NOON, by="anna")
    of = job("a", pools={"gpu": 1})

    moved = admin("PATCH", "pools/gpu", {"name": "gpu0"})
    taken = admin("PATCH", "pools/gpu0", {"name": "disk"})

    assert moved.status_code == 200, moved.json()
    assert (moved.json()["name"], moved.json()["size"]) == ("gpu0", 2)
    assert moved.json()["impossible_jobs"] == [{"id": of.pk, "name": "a", "need": 1}]
    assert admin("GET", "pools/gpu").status_code == 404
    assert admin("GET", "pools/gpu0").status_code == 200
    assert taken.status_code == 400
    assert [*taken.json()["error"]["fields"]] == ["name"]

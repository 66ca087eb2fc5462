"""Lists over REST are chosen, sorted and cut as on the pages."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app.api import paging
from daemon_app.models import Job, Run
from daemon_app.tiles import runs as table
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
State = Run.State


def names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [told["name"] for told in answer.json()["jobs"]]


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.json()
    return [told["id"] for told in answer.json()["runs"]]


def pages(caller: Caller, path: str, kind: str) -> list[list[Any]]:
    """Return the numbers on each page of a list, following `next` to the end."""
    found = []
    while path:
        answer = caller("GET", path)
        assert answer.status_code == 200, answer.json()
        found.append([told["id"] for told in answer.json()[kind]])
        path = (answer.json()["next"] or "").removeprefix("/api/daemon/")
    return found


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
def test_jobs_are_found_by_words_kind_and_state(viewer: Caller) -> None:
    run(job("running"), state=State.RUNNING, started_at=NOON)
    run(job("waiting", description="Nightly"), now=timezone.now())
    run(job("failing"), state=State.FAILED, ended_at=NOON)
    fine = job("fine")
    run(fine, state=State.FAILED, ended_at=NOON)
    run(fine, state=State.SUCCEEDED, ended_at=NOON)
    job("off", job_type="interval", schedule="5m", is_active=False)

    assert names(viewer("GET", "jobs?state=running")) == ["running"]
    assert names(viewer("GET", "jobs?state=waiting")) == ["waiting"]
    assert names(viewer("GET", "jobs?state=failed")) == ["failing"]
    assert names(viewer("GET", "jobs?state=paused")) == ["off"]
    assert names(viewer("GET", "jobs?q=nightl")) == ["waiting"]
    assert names(viewer("GET", "jobs?q=ing&state=failed")) == ["failing"]
    assert names(viewer("GET", "jobs?job_type=interval")) == ["off"]


@pytest.mark.parametrize(
    ("sort", "wanted"),
    [
        ("id", ["b", "a", "d", "c"]),
        ("-id", ["c", "d", "a", "b"]),
        ("name", ["a", "b", "c", "d"]),
        ("-name", ["d", "c", "b", "a"]),
        # Those that nothing starts come last either way.
        ("next_due_at", ["c", "a", "b", "d"]),
        ("-next_due_at", ["a", "c", "b", "d"]),
        # Those alike stand in the order in which they were made.
        ("-priority", ["d", "b", "a", "c"]),
    ],
)
def test_jobs_are_sorted_and_every_page_goes_on_where_the_last_one_ended(
    viewer: Caller, sort: str, wanted: list[str]
) -> None:
    now = timezone.now()
    job("b")
    job("a", job_type="interval", schedule="2h", now=now)
    job("d", priority=7)
    job("c", job_type="interval", schedule="1h", now=now)
    by_name = dict(Job.objects.values_list("name", "pk"))

    whole = viewer("GET", f"jobs?sort={sort}")
    cut = pages(viewer, f"jobs?sort={sort}&limit=1", "jobs")

    assert names(whole) == wanted
    assert whole.json()["next"] is None
    assert cut == [[by_name[name]] for name in wanted]


def test_a_job_that_is_deleted_meanwhile_moves_no_row_of_a_sorted_list(viewer: Caller) -> None:
    for name in "abcd":
        job(name)

    first = viewer("GET", "jobs?sort=name&limit=2").json()
    Job.objects.filter(name__in=["a", "b"]).delete()
    second = viewer("GET", first["next"].removeprefix("/api/daemon/"))

    assert names(second) == ["c", "d"]


@pytest.mark.parametrize(
    "query",
    [
        "cursor=x",
        "cursor=%00",
        "cursor=" + "A" * 4000,
        "cursor=eyJhIjoxfQ",
        "cursor=W10",
        "cursor=" + paging._cursor("name", "a", 1),
        "cursor=" + paging._cursor("id", True, 1),
        "cursor=" + paging._cursor("id", 2**70, 1),
        "cursor=" + paging._cursor("id", 1, 2**70),
        "cursor=" + paging._cursor("id", [1], 1),
        "cursor=" + paging._cursor("id", {"at": "x"}, 1),
        "sort=-priority&cursor=" + paging._cursor("-priority", "x", 1),
        "sort=priority&cursor=" + paging._cursor("priority", None, 1),
        "sort=next_due_at&cursor=" + paging._cursor("next_due_at", 5, 1),
        "sort=next_due_at&cursor=" + paging._cursor("next_due_at", NOON.replace(tzinfo=None), 1),
        "sort=name&cursor=" + paging._cursor("name", NOON, 1),
    ],
)
def test_a_place_that_is_none_is_refused(viewer: Caller, query: str) -> None:
    answer = viewer("GET", f"jobs?{query}")

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == ["cursor"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("jobs?state=runing", "state"),
        ("jobs?job_type=chain", "job_type"),
        ("jobs?sort=command", "sort"),
        ("jobs?sort=name&after=3", "after"),
        ("jobs?q=" + "x" * 81, "q"),
        ("jobs?q=%00", "q"),
        ("runs?q=" + "x" * 81, "q"),
        ("runs?state=bad", "state"),
        ("runs?since=yesterday", "since"),
        ("runs?since=2026-11-22T03:00:00", "since"),
        ("runs?since=2026-11-22T03:00:00Z&until=2026-11-22T03:00:00Z", "since"),
    ],
)
def test_what_can_not_be_meant_is_refused_beside_its_name(
    viewer: Caller, path: str, field: str
) -> None:
    answer = viewer("GET", path)

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────
def test_runs_are_found_by_groups_of_states(viewer: Caller) -> None:
    of = job()
    waits, works = run(of).pk, run(of, state=State.RUNNING, started_at=NOON).pk
    good = run(of, state=State.SUCCEEDED, unusual="long").pk
    bad = [run(of, state=state).pk for state in Run.UNHAPPY]

    assert ids(viewer("GET", "runs?state=active")) == [works, waits]
    assert ids(viewer("GET", "runs?state=unhappy")) == bad[::-1]
    assert ids(viewer("GET", "runs?state=unusual")) == [good]


def test_runs_are_found_by_words_and_number(viewer: Caller) -> None:
    first = run(job("backup"), last_line="3 GB written").pk
    second = run(job("report"), started_by="anna").pk

    assert ids(viewer("GET", "runs?q=BACK")) == [first]
    assert ids(viewer("GET", "runs?q=gb%20written")) == [first]
    assert ids(viewer("GET", "runs?q=anna")) == [second]
    assert ids(viewer("GET", f"runs?q=%23{second}")) == [second]
    assert ids(viewer("GET", "runs?q=nothing")) == []


def test_runs_are_found_by_the_time_they_were_put_in_line(viewer: Caller) -> None:
    of = job()
    hours = [run(of, now=NOON + timedelta(hours=n)).pk for n in range(5)]

    def found(**times: int) -> list[int]:
        asked = (f"{name}={(NOON + timedelta(hours=n)).isoformat()}" for name, n in times.items())
        return ids(viewer("GET", "runs?" + "&".join(asked).replace("+", "%2B")))

    assert found(since=3) == hours[:2:-1]
    assert found(until=2) == hours[1::-1]
    assert found(since=1, until=3) == hours[2:0:-1]
    assert found(since=9) == []
    assert found(until=-1) == []


def test_a_search_goes_on_page_by_page_though_a_page_may_be_empty(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "LOOKED_AT", 3)
    of = job()
    old = run(of, last_line="wanted", now=NOON - timedelta(days=1)).pk
    for _n in range(7):
        run(of)

    found = pages(viewer, "runs?q=wanted&limit=5", "runs")
    since = pages(viewer, f"runs?q=wanted&since={NOON:%Y-%m-%dT%H:%M:%SZ}", "runs")

    assert found == [[], [], [old]]
    assert since[-1] == []
    assert len(since) == 3


def test_a_list_asks_the_database_as_often_however_long_it_is(
    viewer: Caller, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(20):
        run(job(f"job-{n}"), state=State.FAILED, ended_at=NOON)

    with django_assert_max_num_queries(12):
        assert len(names(viewer("GET", "jobs?state=failed&sort=-name&q=job"))) == 20
    with django_assert_max_num_queries(12):
        assert len(ids(viewer("GET", "runs?state=unhappy&q=job"))) == 20
    Run.objects.update(state=State.RUNNING, started_at=NOON, ended_at=None)
    for n in range(20):
        run(Job.objects.get(name=f"job-{n}"), now=timezone.now())
    with django_assert_max_num_queries(12):
        assert len(ids(viewer("GET", "runs?state=active"))) == 40

"""What is going to start, over REST."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from daemon_app import forecast
from daemon_app.api import calendar
from daemon_app.models import Job, Run
from tests.api.caller import Caller
from tests.jobs import job, run

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def forgotten() -> None:
    forecast.forget()


def at(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def starts(told: dict[str, Any]) -> list[tuple[str, datetime]]:
    return [(each["job_name"], datetime.fromisoformat(each["at"])) for each in told["starts"]]


def test_planned_starts_are_listed_and_frequent_ones_counted(viewer: Caller) -> None:
    nightly = job("nightly", job_type="cron", schedule="0 3 * * *", timezone="UTC")
    job("often", job_type="cron", schedule="* * * * *", timezone="UTC", only_when_idle=True)
    job("off", job_type="cron", schedule="0 3 * * *", is_active=False)
    ended = timezone.now()
    run(nightly, state=Run.State.SUCCEEDED, started_at=ended - HOUR, ended_at=ended)
    begin = (timezone.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)

    answer = viewer("GET", f"calendar?since={at(begin)}&until={at(begin + 24 * HOUR)}")

    told = answer.json()
    assert answer.status_code == 200, told
    assert starts(told) == [("nightly", begin + 3 * HOUR)]
    assert told["starts"][0] | {"at": ""} == {
        "at": "",
        "job_id": nightly.pk,
        "job_name": "nightly",
        "usual_seconds": 3600.0,
        "waits": False,
    }
    assert [(each["job_name"], each["count"]) for each in told["frequent"]] == [("often", 1440)]
    assert told["frequent_jobs"] == 1
    assert [hour["count"] for hour in told["hours"]] == [60, 60, 60, 61, *[60] * 20]
    assert told["total"] == 1441
    assert told["next"] is None


def test_without_a_time_it_is_the_week_to_come_from_now_on(viewer: Caller) -> None:
    job("hourly", job_type="cron", schedule="0 */3 * * *", timezone="UTC")
    now = timezone.now()

    told = viewer("GET", "calendar").json()

    assert all(instant >= now for _name, instant in starts(told))
    assert len(told["starts"]) == 56
    assert datetime.fromisoformat(told["since"]) <= now
    assert datetime.fromisoformat(told["until"]) >= now + timedelta(days=7)
    assert told["rooms"]


def test_many_starts_come_in_pages_and_none_is_missing_or_told_twice(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar, "LOOKED_AT", 7)
    for n in range(5):
        job(f"job-{n}", job_type="cron", schedule="0 */4 * * *", timezone="UTC")
    begin = (timezone.now() + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[tuple[str, datetime]] = []

    path = f"calendar?since={at(begin)}&until={at(begin + 12 * HOUR)}&limit=2"
    while path:
        answer = viewer("GET", path)
        assert answer.status_code == 200, answer.json()
        found += starts(answer.json())
        path = (answer.json()["next"] or "").removeprefix("/api/daemon/")

    assert found == [(f"job-{n}", begin + hours * HOUR) for hours in (0, 4, 8) for n in range(5)]


def test_what_starts_while_pages_are_read_hides_no_other(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        job(f"job-{n}", job_type="cron", schedule=f"{10 * n} 3 * * *", timezone="UTC")
    first = viewer("GET", "calendar?limit=2").json()
    (_name, begun), (_next, last) = starts(first)

    monkeypatch.setattr(timezone, "now", lambda: begun + timedelta(seconds=1))
    second = viewer("GET", first["next"].removeprefix("/api/daemon/")).json()

    assert starts(second)[0][1] > last
    assert starts(second)[0][1] - last < 24 * HOUR
    assert len({name for name, _at in [*starts(first), *starts(second)]}) == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-11-22", "since"),
        ("since=9000-01-01T00:00:00Z", "since"),
        ("until=2020-01-01T00:00:00Z", "until"),
        ("until=9998-01-01T00:00:00Z", "until"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=2026-11-24T03:00:00~1", "cursor"),
        ("cursor=2026-11-24T03:00:00Z~x", "cursor"),
        ("day=2026-11-22", "day"),
    ],
)
def test_a_time_that_can_not_be_planned_is_refused(viewer: Caller, query: str, field: str) -> None:
    answer = viewer("GET", f"calendar?{query}")

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]


def test_a_past_beginning_counts_as_now(viewer: Caller) -> None:
    told = viewer("GET", "calendar?since=2020-01-01T00:00:00Z").json()

    assert datetime.fromisoformat(told["since"]) > timezone.now() - HOUR


def test_it_costs_the_same_with_many_jobs(
    viewer: Caller, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for n in range(30):
        job(f"job-{n}", job_type="cron", schedule=f"{n} 3 * * *")

    with django_assert_max_num_queries(6):
        assert len(viewer("GET", "calendar").json()["starts"]) == 200


# ── One job ──────────────────────────────────────────────────────────────────────────────────────
def test_the_next_times_of_a_job(viewer: Caller) -> None:
    of = job("a", job_type="cron", schedule="0 3 * * *", timezone="UTC", now=timezone.now())
    since = datetime(2099, 1, 1, tzinfo=UTC)

    told = viewer("GET", f"jobs/{of.pk}/upcoming?limit=3").json()
    later = timezone.now() + timedelta(days=100)
    then = viewer("GET", f"jobs/{of.pk}/upcoming?limit=1&since={at(later)}").json()
    far = viewer("GET", f"jobs/{of.pk}/upcoming?since={at(since)}")

    times = [datetime.fromisoformat(each) for each in told["times"]]
    assert times[0] == of.next_due_at
    assert [b - a for a, b in pairwise(times)] == [24 * HOUR] * 2
    assert datetime.fromisoformat(then["times"][0]) - later <= 24 * HOUR
    assert far.status_code == 400


def test_a_pause_and_a_deadline_hold_for_the_next_times(viewer: Caller) -> None:
    now = timezone.now()
    cron: dict[str, Any] = {"job_type": "cron", "schedule": "0 * * * *", "timezone": "UTC"}
    paused, ending = job("paused", now=now, **cron), job("ending", now=now, **cron)
    off, manual = job("off", is_active=False, **cron), job("manual")
    paused.pause(now + 30 * HOUR, now=now, by="anna")
    ending.deadline = now + 3 * HOUR
    ending.store(now=now, by="anna")

    def told(of: Job) -> dict[str, Any]:
        found: dict[str, Any] = viewer("GET", f"jobs/{of.pk}/upcoming").json()
        return found

    assert datetime.fromisoformat(told(paused)["times"][0]) >= now + 30 * HOUR
    assert told(paused)["is_active"] is False
    assert len(told(ending)["times"]) == 3
    assert told(off)["times"] == told(manual)["times"] == []

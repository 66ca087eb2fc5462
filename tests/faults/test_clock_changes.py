"""T3: the beat lives through both nights on which Berlin's clocks change, with every cron class."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon_app import scheduler
from daemon_app.models import Job, Run
from tests.jobs import job

pytestmark = pytest.mark.django_db

CASES = Path(__file__).parents[1] / "schedules" / "cron_cases.json"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
# From well before the change to well after it, in UTC.
NIGHTS = {
    "spring": (datetime(2026, 3, 28, 22, 55, tzinfo=UTC), datetime(2026, 3, 29, 6, tzinfo=UTC)),
    "autumn": (datetime(2026, 10, 24, 21, 55, tzinfo=UTC), datetime(2026, 10, 25, 7, tzinfo=UTC)),
}


def cases_of(night: str) -> Iterator[tuple[str, list[datetime]]]:
    """Yield (expression, what is due in the night) of the published cases that tell of it.

    A case tells the first five instants after its start; what lies behind them is not judged.
    """
    begin, end = NIGHTS[night]
    for case in json.loads(CASES.read_text(encoding="utf-8")):
        after = datetime.fromisoformat(case["after"])
        due = [datetime.fromisoformat(each) for each in case["next"]]
        if case["tz"] == "Europe/Berlin" and begin - DAY < after < end and due[-1] > begin:
            yield case["expr"], [at for at in due if at > after]


def live_through(begin: datetime, end: datetime) -> None:
    """Beat as the daemon does, and at uneven times between; what is due runs at once."""
    now = begin
    while now < end:
        wake = scheduler.next_wake(now) or end
        now = min(max(wake, now + timedelta(milliseconds=1)), now + 7 * MINUTE, end)
        scheduler.tick(now)
        Run.objects.queued().update(state=Run.State.SUCCEEDED)


def started(of: Job) -> list[datetime]:
    return list(
        of.runs.filter(state="succeeded").order_by("due_at").values_list("due_at", flat=True)
    )


@pytest.mark.parametrize("night", NIGHTS)
def test_each_published_case_of_the_night_starts_when_debian_would(night: str) -> None:
    begin, end = NIGHTS[night]
    told: dict[str, set[datetime]] = {}
    known_until: dict[str, datetime] = {}
    for expression, due in cases_of(night):
        told.setdefault(expression, set()).update(due)
        known_until[expression] = max(known_until.get(expression, begin), due[-1])
    assert len(told) >= 15
    jobs = {
        expression: job(f"job {n}", job_type="cron", schedule=expression, now=begin)
        for n, expression in enumerate(told)
    }

    live_through(begin, end)

    for expression, instants in told.items():
        last = min(known_until[expression], end)
        of_case = [at for at in started(jobs[expression]) if min(instants) <= at <= last]
        assert of_case == sorted(at for at in instants if begin < at <= last), expression


@pytest.mark.parametrize("night", NIGHTS)
def test_an_interval_does_not_notice_the_night(night: str) -> None:
    begin, end = NIGHTS[night]
    steady = job("steady", job_type="interval", schedule="20m", now=begin)

    live_through(begin, end)

    due: list[datetime] = []
    while (at := begin + 20 * MINUTE * (len(due) + 1)) <= end:
        due.append(at)
    assert started(steady) == due


def test_the_hour_that_comes_twice_starts_wildcards_twice_and_fixed_times_once() -> None:
    begin, end = NIGHTS["autumn"]
    wildcard = job("wildcard", job_type="cron", schedule="30 * * * *", now=begin)
    fixed = job("fixed", job_type="cron", schedule="30 2 * * *", now=begin)

    live_through(begin, end)

    passes = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    assert set(passes) <= set(started(wildcard))
    assert started(fixed) == passes[:1]


def test_the_hour_that_is_missing_starts_fixed_times_once_at_its_end() -> None:
    begin, end = NIGHTS["spring"]
    many = job("many", job_type="cron", schedule="0-59/10 2 * * *", now=begin)
    wildcard = job("wildcard", job_type="cron", schedule="*/10 2 * * *", now=begin)

    live_through(begin, end)

    assert started(many) == [datetime(2026, 3, 29, 1, tzinfo=UTC)]
    assert started(wildcard) == []


def test_a_night_that_was_slept_through_is_caught_up_once() -> None:
    begin, end = NIGHTS["spring"]
    nightly = job("nightly", job_type="cron", schedule="30 2 * * *", now=begin)

    scheduler.tick(end)

    rows: list[Any] = list(nightly.runs.values_list("due_at", "state", "reason_code"))
    assert rows == [(datetime(2026, 3, 29, 1, tzinfo=UTC), "queued", "caught_up")]

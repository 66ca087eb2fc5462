"""Looking ahead over many jobs: bounded, and right about deadlines, pauses and clocks."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon_app import forecast
from daemon_app.forecast import Plan
from daemon_app.models import Job, Run
from daemon_app.schedules import parse
from tests.jobs import NOON, job, run

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def plan(text: str, kind: str = "cron", zone: str = "Europe/Berlin", **fields: Any) -> Plan:
    return Plan(1, "backup", kind, text, zone, NOON, **fields)


# ── One schedule ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("start", ["2026-03-28 11:13:07", "2026-10-24 12:00", "2026-04-04 00:30"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("cron", "*/5 * * * *"), ("cron", "30 2 * * *"), ("cron", "15,45 1-3 * * *")),
        *(("cron", "0 0 1 * *"), ("interval", "7m"), ("interval", "1h30m"), ("interval", "1h")),
        *(("interval", "30s"), ("once", "2026-03-29 02:30"), ("manual", "")),
    ],
)
def test_what_is_due_in_a_span_is_what_one_comes_by_from_instant_to_instant(
    kind: str, text: str, start: str, zone: str
) -> None:
    schedule = parse(kind, text, zone)
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    end = begin + timedelta(hours=30, minutes=20)

    one_by_one, due = [], schedule.next_due(begin - timedelta.resolution, None, NOON)
    while due is not None and due < end:
        one_by_one.append(due)
        due = schedule.next_due(due, due, NOON)

    assert schedule.between(begin, end, 10_000, NOON) == one_by_one
    assert schedule.between(begin, end, 3, NOON) == one_by_one[:3]
    by_hour = Counter((instant - begin) // HOUR for instant in one_by_one)
    assert schedule.by_hour(begin, end, NOON) == by_hour


# ── Many jobs ────────────────────────────────────────────────────────────────────────────────────
def test_rare_starts_are_told_by_time_and_frequent_ones_counted() -> None:
    jobs = [plan("0 3 * * *"), plan("* * * * *"), plan("30 1 * * *")]

    found = forecast.occurrences(jobs, NOON, NOON + DAY)

    assert [each.at.astimezone(BERLIN).hour for each in found.starts] == [1, 3]
    assert [(each.plan.text, each.count) for each in found.frequent] == [("* * * * *", 1440)]
    assert found.total == 1442
    assert len(found.per_hour) == 24


def test_ten_thousand_jobs_each_minute_are_counted_and_none_is_listed() -> None:
    jobs = [Plan(n, f"job {n}", "cron", "* * * * *", "UTC", NOON) for n in range(10_000)]

    found = forecast.occurrences(jobs, NOON, NOON + 7 * DAY, most=50)

    assert found.total == 100_800_000
    assert (found.starts, found.counted, len(found.frequent)) == ([], 10_000, 50)


def test_a_list_that_would_be_too_long_says_up_to_when_it_is_complete() -> None:
    jobs = [Plan(n, f"job {n}", "cron", f"{n} * * * *", "UTC", NOON) for n in range(60)]

    found = forecast.occurrences(jobs, NOON, NOON + DAY, most=90)

    assert [each.at for each in found.starts] == [
        NOON + n * timedelta(minutes=1) for n in range(90)
    ]
    assert found.told_until == NOON + timedelta(minutes=89)
    assert found.left_off == 24 * 60 - 90


def test_each_span_is_told_for_itself() -> None:
    jobs = [plan("0 3 * * *"), plan("0 5 * * *"), plan("*/10 * * * *")]

    days = forecast.by_span(jobs, [NOON, NOON + DAY, NOON + 2 * DAY], most=1)

    assert [[each.at.day for each in day.starts] for day in days] == [[25], [26]]
    assert [(day.left_off, day.total, day.frequent[0].count) for day in days] == [(1, 146, 144)] * 2


def test_of_jobs_due_at_the_same_instant_the_first_by_name_are_told() -> None:
    jobs = [Plan(n, f"job {9 - n}", "cron", "0 3 * * *", "UTC", NOON) for n in range(9)]

    found = forecast.occurrences(jobs, NOON, NOON + DAY, most=2)

    assert [each.plan.name for each in found.starts] == ["job 1", "job 2"]


def test_a_start_at_the_deadline_is_in_time_and_none_comes_later() -> None:
    three = datetime(2026, 11, 26, 2, tzinfo=UTC)

    found = forecast.occurrences([plan("0 3 * * *", until=three)], NOON, NOON + 5 * DAY)

    assert [each.at for each in found.starts] == [three - DAY, three]
    assert found.total == 2


def test_a_pause_with_an_end_counts_from_its_end() -> None:
    end = NOON + timedelta(hours=2, minutes=30)

    found = forecast.occurrences([plan("*/10 * * * *", since=end)], NOON, NOON + 4 * HOUR, often=99)

    assert found.starts[0].at == end
    assert found.per_hour == [0, 0, 3, 6]


def test_a_schedule_that_cannot_be_read_starts_nothing() -> None:
    found = forecast.occurrences([plan("61 * * * *")], NOON, NOON + DAY)

    assert (found.total, found.starts) == (0, [])


def test_a_span_without_jobs_is_empty() -> None:
    found = forecast.occurrences([], NOON, NOON + DAY)

    assert (found.total, found.starts, found.per_hour) == (0, [], [0] * 24)


# ── All jobs of the database ─────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_all_jobs_that_start_by_themselves_are_looked_at() -> None:
    job("nightly", job_type="cron", schedule="0 3 * * *")
    job("by hand")
    job("off", job_type="cron", schedule="0 4 * * *", is_active=False)
    paused = job("paused", job_type="cron", schedule="0 5 * * *")
    paused.pause(NOON + timedelta(days=2), now=NOON, by="anna")

    found = forecast.planned(NOON, NOON + 3 * DAY)

    named = [(each.plan.name, each.at.day) for each in found.starts]
    assert named == [("nightly", 25), ("nightly", 26), ("nightly", 27), ("paused", 27)]


@pytest.mark.django_db
def test_a_job_that_changes_is_seen_at_once(django_assert_num_queries: Any) -> None:
    nightly = job("nightly", job_type="cron", schedule="0 3 * * *")
    assert forecast.planned(NOON, NOON + DAY).total == 1
    with django_assert_num_queries(1):
        forecast.planned(NOON, NOON + DAY)

    nightly.schedule = "0 */6 * * *"
    nightly.store(now=NOON + HOUR, by="anna")

    assert forecast.planned(NOON, NOON + DAY).total == 4
    nightly.remove(now=NOON, by="anna")
    assert forecast.planned(NOON, NOON + DAY).total == 0


@pytest.mark.django_db
def test_a_single_time_that_has_passed_is_not_planned() -> None:
    once = job("once", job_type="once", schedule="2026-11-24 18:00")
    assert forecast.planned(NOON, NOON + DAY).total == 1

    Job.objects.filter(pk=once.pk).update(next_due_at=None)

    assert forecast.planned(NOON, NOON + DAY).total == 0


# ── How long they take ───────────────────────────────────────────────────────────────────────────
def ended(of: Job, seconds: float, state: str = Run.State.SUCCEEDED) -> Run:
    end = NOON + timedelta(seconds=seconds)
    return run(of, state=state, started_at=NOON, ended_at=end)


@pytest.mark.django_db
def test_a_usual_length_is_the_median_of_what_succeeded_lately(
    django_assert_num_queries: Any,
) -> None:
    one, other, never = job("one"), job("other"), job("never")
    for seconds in (999, *([10] * 9), *([30] * 11)):  # the first one is too long ago
        ended(one, seconds)
    ended(other, 5)
    ended(other, 700, Run.State.TIMED_OUT)

    with django_assert_num_queries(2):
        assert forecast.usual_lengths([one.pk, other.pk, never.pk]) == {one.pk: 30, other.pk: 5}
    with django_assert_num_queries(1):
        forecast.usual_lengths([one.pk, other.pk, never.pk])


@pytest.mark.django_db
def test_a_run_that_ends_changes_what_is_usual() -> None:
    of = job("backup")
    ended(of, 10)
    latest = run(of, state=Run.State.RUNNING, started_at=NOON)
    assert forecast.usual_lengths([of.pk]) == {of.pk: 10}

    Run.objects.filter(pk=latest.pk).update(
        state=Run.State.SUCCEEDED, ended_at=NOON + timedelta(seconds=20)
    )

    assert forecast.usual_lengths([of.pk]) == {of.pk: 15}


def test_ten_thousand_intervals_keep_few_hours() -> None:
    plans = [
        Plan(n, f"job {n}", "interval", "7m", "UTC", NOON - timedelta(seconds=n, microseconds=n))
        for n in range(600)
    ]

    kept = {id(plan.by_hour(NOON, NOON + 7 * DAY)) for plan in plans}

    assert len(kept) <= 8

"""Known answers: the published cases, and cases of our own made from the rules."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daemon_app.schedules import parse

CASES = json.loads(Path(__file__).with_name("cron_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['expr']}, {case['tz']}")
def test_every_published_case_holds(case: Any) -> None:
    schedule = parse("cron", case["expr"], case["tz"])

    due = schedule.upcoming(datetime.fromisoformat(case["after"]), 5)

    assert due == [datetime.fromisoformat(moment) for moment in case["next"]]
    assert {moment.tzinfo for moment in due} == {UTC}


def test_all_cases_are_there() -> None:
    assert len(CASES) == 273


# expression, zone, after, the next due instants as wall times with offset
OURS = [
    # lists, ranges, steps, names
    ("*/60 * * * *", "UTC", "2026-01-01T00:30Z", "2026-01-01T01:00Z 2026-01-01T02:00Z"),
    ("*/61 * * * *", "UTC", "2026-01-01T00:30Z", "2026-01-01T01:00Z 2026-01-01T02:00Z"),
    ("*/100 * * * *", "UTC", "2026-01-01T00:30Z", "2026-01-01T01:00Z 2026-01-01T02:00Z"),
    ("1-1 * * * *", "UTC", "2026-01-01T00:30Z", "2026-01-01T01:01Z 2026-01-01T02:01Z"),
    ("20-20/7 * * * *", "UTC", "2026-01-01T00:30Z", "2026-01-01T01:20Z 2026-01-01T02:20Z"),
    ("5,* * * * *", "UTC", "2026-01-01T00:05Z", "2026-01-01T00:06Z 2026-01-01T00:07Z"),
    ("50/5 23 * * *", "UTC", "2026-01-01T00:00Z", "2026-01-01T23:50Z 2026-01-01T23:55Z"),
    ("0 0 * * 6/1", "UTC", "2026-01-01T00:00Z", "2026-01-03T00:00Z 2026-01-04T00:00Z"),
    ("0 0 * * So", "UTC", "2026-01-01T00:00Z", "2026-01-04T00:00Z 2026-01-11T00:00Z"),
    ("0 0 1 Mär,Okt *", "UTC", "2026-01-01T00:00Z", "2026-03-01T00:00Z 2026-10-01T00:00Z"),
    # day of month and weekday
    ("0 0 1 * 0", "UTC", "2026-02-20T00:00Z", "2026-02-22T00:00Z 2026-03-01T00:00Z"),
    ("0 0 31 2 1", "UTC", "2026-01-01T00:00Z", "2026-02-02T00:00Z 2026-02-09T00:00Z"),
    ("0 0 29 2 */7", "UTC", "2026-01-01T00:00Z", "2032-02-29T00:00Z 2060-02-29T00:00Z"),
    ("0 0 29 2 */7", "UTC", "2088-03-01T00:00Z", "2128-02-29T00:00Z 2156-02-29T00:00Z"),
    # the extended day fields
    ("0 0 L * *", "UTC", "2028-02-01T00:00Z", "2028-02-29T00:00Z 2028-03-31T00:00Z"),
    ("0 0 1W * *", "UTC", "2026-07-15T00:00Z", "2026-08-03T00:00Z 2026-09-01T00:00Z"),
    ("0 0 31W * *", "UTC", "2026-05-01T00:00Z", "2026-05-29T00:00Z 2026-07-31T00:00Z"),
    ("0 0 15W * *", "UTC", "2026-08-01T00:00Z", "2026-08-14T00:00Z 2026-09-15T00:00Z"),
    ("0 0 15W * *", "UTC", "2026-11-01T00:00Z", "2026-11-16T00:00Z 2026-12-15T00:00Z"),
    ("0 0 lw * *", "UTC", "2026-01-15T00:00Z", "2026-01-30T00:00Z 2026-02-27T00:00Z"),
    ("0 0 * * fril", "UTC", "2026-01-01T00:00Z", "2026-01-30T00:00Z 2026-02-27T00:00Z"),
    ("0 0 * * 7#5", "UTC", "2026-01-01T00:00Z", "2026-03-29T00:00Z 2026-05-31T00:00Z"),
    ("0 0 * * 1#1,3", "UTC", "2026-06-01T00:00Z", "2026-06-03T00:00Z 2026-06-10T00:00Z"),
    # the night the clocks go forward
    (
        *("15,45 2 * * *", "Europe/Berlin", "2027-03-28T00:00+01:00"),
        "2027-03-28T03:00+02:00 2027-03-29T02:15+02:00",
    ),
    (
        *("*/30 2,3 * * *", "Europe/Berlin", "2027-03-28T00:00+01:00"),
        "2027-03-28T03:00+02:00 2027-03-28T03:30+02:00",
    ),
    (
        *("30 1-3 * * *", "Europe/Berlin", "2027-03-28T01:30+01:00"),
        "2027-03-28T03:00+02:00 2027-03-28T03:30+02:00",
    ),
    (
        *("10 2 * * *", "Australia/Lord_Howe", "2026-10-04T01:00+10:30"),
        "2026-10-04T02:30+11:00 2026-10-05T02:10+11:00",
    ),
    (
        *("10 0 * * 5", "Africa/Cairo", "2026-04-23T12:00+02:00"),
        "2026-04-24T01:00+03:00 2026-05-01T00:10+03:00",
    ),
    (
        *("@daily", "America/Santiago", "2026-09-05T12:00-04:00"),
        "2026-09-06T01:00-03:00 2026-09-07T00:00-03:00",
    ),
    # the night they go back
    (
        *("*/30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+02:00"),
        "2026-10-25T02:30+02:00 2026-10-25T02:00+01:00 2026-10-25T02:30+01:00",
    ),
    (
        *("0,30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+02:00"),
        "2026-10-25T02:30+02:00 2026-10-26T02:00+01:00",
    ),
    (
        *("0,30 1,2 * * *", "Europe/Berlin", "2026-10-25T02:30:30+01:00"),
        "2026-10-26T01:00+01:00",
    ),
    (
        *("45 * * * *", "Australia/Lord_Howe", "2026-04-05T01:45+11:00"),
        "2026-04-05T01:45+10:30 2026-04-05T02:45+10:30",
    ),
    (
        *("30 23 * * *", "America/Santiago", "2026-04-04T23:29-03:00"),
        "2026-04-04T23:30-03:00 2026-04-05T23:30-04:00",
    ),
    (
        *("0 * * * *", "Africa/Cairo", "2026-10-29T22:30+03:00"),
        "2026-10-29T23:00+03:00 2026-10-29T23:00+02:00 2026-10-30T00:00+02:00",
    ),
]


@pytest.mark.parametrize(("text", "zone", "after", "expected"), OURS)
def test_the_rules_in_cases_of_our_own(text: str, zone: str, after: str, expected: str) -> None:
    moments = [datetime.fromisoformat(moment) for moment in expected.split()]

    due = parse("cron", text, zone).upcoming(datetime.fromisoformat(after), len(moments))

    assert due == moments


@pytest.mark.parametrize(
    ("macro", "text"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@ANNUALLY", "0 0 1 1 *"),
    ],
)
def test_a_macro_means_its_five_fields(macro: str, text: str) -> None:
    after = datetime(2026, 3, 28, tzinfo=UTC)

    assert parse("cron", macro).upcoming(after, 40) == parse("cron", text).upcoming(after, 40)
    assert parse("cron", macro).text == macro.lower()

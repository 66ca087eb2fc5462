"""A single time, and a job that is only started by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon_app.schedules import Once, ScheduleError, parse

EVENING = datetime(2026, 12, 24, 17, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-12-24 18:00", "2026-12-24 18:00"),
        ("2026-12-24T18:00", "2026-12-24 18:00"),
        ("2026-12-24T18:00:00", "2026-12-24 18:00"),
        (" 2026-12-24  18:00 ", "2026-12-24 18:00"),
        ("24.12.2026 18:00", "2026-12-24 18:00"),
        ("24.12.2026, 18:00 Uhr", "2026-12-24 18:00"),
        ("2026-12-24 18:00+01:00", "2026-12-24 18:00+01:00"),
        ("2026-12-24 18:00 +0100", "2026-12-24 18:00+01:00"),
        ("2026-12-24T17:00Z", "2026-12-24 17:00+00:00"),
        ("2026-12-24T22:45:00+05:45", "2026-12-24 22:45+05:45"),
        ("2026-12-24T13:30:00-03:30", "2026-12-24 13:30-03:30"),
    ],
)
def test_a_time_is_read_in_the_zone_or_with_its_offset(text: str, kept: str) -> None:
    schedule = parse("once", text)

    assert isinstance(schedule, Once)
    assert schedule.instant == EVENING
    assert schedule.text == kept
    assert parse("once", kept) == schedule


def test_it_is_due_once_and_then_never() -> None:
    schedule = parse("once", "2026-12-24 18:00")

    assert schedule.next_due(EVENING - SECOND) == EVENING
    assert schedule.next_due(EVENING) is None
    assert schedule.next_due(EVENING - SECOND, previous=EVENING) is None
    assert schedule.upcoming(EVENING - SECOND, 5) == [EVENING]


def test_it_is_told_in_the_zone() -> None:
    schedule = parse("once", "2026-12-24T18:00:05Z")

    assert schedule.describe("de") == "einmal am Donnerstag, 24.12.2026 um 19:00:05 Uhr"
    assert schedule.describe("en") == "once on Thursday, 24 December 2026 at 19:00:05"


def test_a_time_that_does_not_exist_starts_after_the_gap() -> None:
    due = parse("once", "2027-03-28 02:30").next_due(EVENING)

    assert due == datetime.fromisoformat("2027-03-28T03:00+02:00")


def test_a_time_that_comes_twice_starts_the_first_time() -> None:
    due = parse("once", "2027-10-31 02:30").next_due(EVENING)

    assert due == datetime.fromisoformat("2027-10-31T02:30+02:00")


def test_a_moment_that_has_passed_can_be_refused_by_a_form() -> None:
    schedule = parse("once", "2026-12-24 18:00")

    schedule.ensure_fires(EVENING - SECOND)
    with pytest.raises(ScheduleError) as caught:
        schedule.ensure_fires(EVENING)

    assert caught.value.code == "once_past"
    assert caught.value.message("de") == (
        "Dieser Zeitpunkt ist vorbei: 24.12.2026 um 18:00 Uhr – der Job startet nie."
    )


REFUSED = [
    ("", "once_missing", "„2026-12-24 18:00“"),
    ("2026-12-24", "once_no_time", "„2026-12-24 18:00“"),
    ("24.12.2026", "once_no_time", "„24.12.2026 18:00“"),
    ("18:00", "once_no_date", "„2026-12-24 18:00“"),
    ("tomorrow", "once_syntax", "„24.12.2026 18:00“"),
    ("24/12/2026 18:00", "once_syntax", "„24.12.2026 18:00“"),
    ("2026-12-24 18:00:00.5", "once_syntax", "„24.12.2026 18:00“"),
    ("２026-12-24 18:00", "once_syntax", "„24.12.2026 18:00“"),
    ("2027-02-29 18:00", "once_date", "„2026-12-24 18:00“"),
    ("31.04.2027 18:00", "once_date", "„2026-12-24 18:00“"),
    ("2026-13-01 18:00", "once_date", "„2026-12-24 18:00“"),
    ("2026-12-24 24:00", "once_time", "00:00 des folgenden Tages"),
    ("2026-12-24 18:60", "once_time", "23:59"),
    ("2026-12-24 18:00+15:00", "once_offset", "„+01:00“"),
    ("0000-01-01 00:00", "once_year", "1970 bis 2199"),
    ("9999-12-31 23:59", "once_year", "1970 bis 2199"),
]


@pytest.mark.parametrize(("text", "code", "german"), REFUSED)
def test_a_slip_is_refused_with_the_way_out(text: str, code: str, german: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("once", text)

    assert (caught.value.code, caught.value.field) == (code, "schedule")
    assert german in caught.value.hint("de")


def test_by_hand_is_never_due_and_has_no_text() -> None:
    schedule = parse("manual", "  ")

    assert schedule.text == ""
    assert schedule.next_due(EVENING) is None
    assert schedule.upcoming(EVENING, 3) == []
    assert (schedule.describe("de"), schedule.describe("en")) == ("nur von Hand", "only by hand")
    schedule.ensure_fires(EVENING)


def test_by_hand_refuses_a_text_that_would_be_forgotten() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("manual", "5m")

    assert caught.value.code == "manual_text"

"""Every so often: an even grid that starts at its anchor."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_app.schedules import Interval, ScheduleError, parse

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUIET = settings(derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize(
    ("text", "period", "german", "english"),
    [
        ("30s", timedelta(seconds=30), "alle 30 Sekunden", "every 30 seconds"),
        ("1s", timedelta(seconds=1), "jede Sekunde", "every second"),
        ("5m", timedelta(minutes=5), "alle 5 Minuten", "every 5 minutes"),
        ("30m", timedelta(minutes=30), "alle 30 Minuten", "every 30 minutes"),
        ("1h", timedelta(hours=1), "jede Stunde", "every hour"),
        ("1h30m", timedelta(minutes=90), "alle 1 Std. 30 Min.", "every 1 h 30 min"),
        ("7h", timedelta(hours=7), "alle 7 Stunden", "every 7 hours"),
        ("24h", timedelta(days=1), "alle 24 Stunden", "every 24 hours"),
        ("7d", timedelta(days=7), "alle 7 Tage", "every 7 days"),
        ("1d2h3m4s", timedelta(1, 7384), "alle 1 T. 2 Std. 3 Min. 4 Sek.", None),
        ("90m", timedelta(minutes=90), "alle 90 Minuten", "every 90 minutes"),
        ("3650d", timedelta(days=3650), "alle 3650 Tage", "every 3650 days"),
    ],
)
def test_an_interval_is_read_and_told(
    text: str, period: timedelta, german: str, english: str | None
) -> None:
    schedule = parse("interval", f" {text}\n")

    assert isinstance(schedule, Interval)
    assert (schedule.kind, schedule.text, schedule.period) == ("interval", text, period)
    assert schedule.describe("de") == german
    assert english is None or schedule.describe("en") == english
    assert parse("interval", schedule.text) == schedule


REFUSED = [
    ("", "interval_missing", "„1h30m“"),
    ("60", "interval_bare", "meinten Sie 60m?"),
    ("1440", "interval_bare", "meinten Sie 1440m?"),
    ("0", "interval_zero", "„1s“"),
    ("0s", "interval_zero", "„1s“"),
    ("0h0m", "interval_zero", "„1s“"),
    ("0h30m", "interval_zero_part", "„0h“"),
    ("30m1h", "interval_order", "„1h30m“"),
    ("1h1h", "interval_twice", "„2h“"),
    ("1h30m1h", "interval_twice", "„2h30m“"),
    ("1h 30m", "interval_written", "„1h30m“"),
    ("5 m", "interval_written", "„5m“"),
    ("5M", "interval_written", "„5m“"),
    ("5min", "interval_written", "„5m“"),
    ("1 Stunde 30 Minuten", "interval_written", "„1h30m“"),
    ("1,5h", "interval_written", "„1h30m“"),
    ("1.5 hours", "interval_written", "„1h30m“"),
    ("2 Wochen", "interval_written", "„14d“"),
    ("alle 5 Minuten", "interval_written", "„5m“"),
    ("-5m", "interval_negative", "„5m“"),
    ("3651d", "interval_long", "Cron-Ausdruck"),
    ("999999999d", "interval_long", "Cron-Ausdruck"),
    ("*/5 * * * *", "interval_is_cron", "„cron“"),
    ("@daily", "interval_is_cron", "„cron“"),
    ("soon", "interval_syntax", "„30s“"),
    ("0.5s", "interval_syntax", "„30s“"),
    ("٥m", "interval_syntax", "„30s“"),
    ("5m;", "interval_syntax", "„30s“"),
    ("9" * 250 + "m", "interval_syntax", "„30s“"),
]


@pytest.mark.parametrize(("text", "code", "german"), REFUSED)
def test_a_slip_is_refused_with_the_way_out(text: str, code: str, german: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("interval", text)

    assert (caught.value.code, caught.value.field) == (code, "schedule")
    assert german.lower() in caught.value.hint("de").lower()


def test_the_first_run_is_one_period_after_the_anchor() -> None:
    schedule = parse("interval", "30m")

    assert schedule.next_due(NOON, anchor=NOON) == NOON + timedelta(minutes=30)
    assert schedule.next_due(NOON - timedelta(microseconds=1), anchor=NOON) == NOON


def test_without_an_anchor_the_grid_starts_in_1970() -> None:
    due = parse("interval", "7h").next_due(NOON)

    assert due is not None
    assert due.timestamp() % timedelta(hours=7).total_seconds() == 0


def test_an_anchor_in_the_future_does_not_silence_a_job() -> None:
    wrong_clock = datetime(2099, 1, 1, 0, 7, tzinfo=UTC)

    due = parse("interval", "30m").next_due(NOON, anchor=wrong_clock)

    assert due == NOON + timedelta(minutes=7)


@given(
    st.integers(1, 400 * 24 * 3600),
    st.integers(-(10**9), 10**9),
    st.integers(-(10**9), 10**9),
    st.integers(0, 999_999),
)
@settings(QUIET, max_examples=300)
def test_the_grid_never_drifts(seconds: int, start: int, now: int, microsecond: int) -> None:
    anchor = NOON + timedelta(seconds=start, microseconds=microsecond)
    after = NOON + timedelta(seconds=now)
    period = timedelta(seconds=seconds)

    due = parse("interval", f"{seconds}s").upcoming(after, 20, anchor=anchor)

    assert after < due[0] <= after + period
    assert due == [due[0] + k * period for k in range(20)]
    assert (due[0] - anchor) % period == timedelta(0)


def test_clock_changes_and_other_zones_do_not_move_it() -> None:
    night = datetime(2027, 3, 28, 0, tzinfo=UTC)
    schedule = parse("interval", "1h", "Europe/Berlin")
    elsewhere = night.astimezone(timezone(timedelta(hours=5, minutes=45)))

    due = schedule.upcoming(elsewhere, 4, anchor=night)

    assert due == [night + timedelta(hours=k) for k in range(1, 5)]
    assert {moment.tzinfo for moment in due} == {UTC}


def test_at_the_end_of_the_calendar_nothing_is_due() -> None:
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)

    assert parse("interval", "24h").next_due(last) is None
    assert parse("cron", "0 3 1 1 *", "Asia/Tokyo").next_due(last) is None

"""What a long sleep missed: counted at once, and the same as going from one to the next."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_app.schedules import Missed, Schedule, parse, zones
from tests.schedules.minute_table import CHANGES, DAY, Expression, expressions, night_hours
from tests.schedules.test_cron_cases import CASES, OURS

QUIET = settings(derandomize=True, database=None, deadline=None)
START = datetime(2026, 1, 1, 7, 13, 20, 250_000, tzinfo=UTC)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def stepped(
    schedule: Schedule, first: datetime, until: datetime, keep: int, anchor: datetime | None = None
) -> Missed:
    """Go from one due instant to the next."""
    due = [first] if first <= until else []
    while due and (following := schedule.next_due(due[-1], due[-1], anchor)) is not None:
        if following > until:
            break
        due.append(following)
    return Missed(len(due), tuple(due[len(due) - min(keep, len(due)) :]))


@given(st.data(), expressions(night_hours()), st.integers(0, 3 * 86_400), st.integers(0, 60))
@settings(QUIET, max_examples=250)
def test_the_nights_of_clock_changes_are_counted_as_they_are_stepped(
    data: st.DataObject, expression: Expression, seconds: int, keep: int
) -> None:
    zone, days = data.draw(st.sampled_from(sorted(CHANGES.items())))
    change = datetime.fromisoformat(data.draw(st.sampled_from(days))).replace(tzinfo=UTC)
    schedule = parse("cron", expression.text, zone)
    first = schedule.next_due(change - DAY + timedelta(seconds=seconds))
    assert first is not None
    length = st.timedeltas(timedelta(0), timedelta(days=4))
    until = first + data.draw(length, label="length")

    assert schedule.missed(first, until, keep) == stepped(schedule, first, until, keep)


@given(
    expressions(),
    st.sampled_from(["UTC", "Pacific/Apia", "Asia/Kathmandu", "Europe/Dublin", *CHANGES]),
    st.datetimes(datetime(1971, 1, 1), datetime(2060, 1, 1)),  # noqa: DTZ001
    st.integers(0, 40),
    st.integers(0, 3),
    st.booleans(),
)
@settings(QUIET, max_examples=250)
def test_months_in_any_year_are_counted_as_they_are_stepped(
    expression: Expression, zone: str, after: datetime, hops: int, keep: int, at_due: bool
) -> None:
    schedule = parse("cron", expression.text, zone)
    first = schedule.next_due(after.replace(tzinfo=UTC))
    assert first is not None
    ahead = schedule.upcoming(first, hops * 40)
    until = ahead[-1] if ahead else first
    until += timedelta(0) if at_due else timedelta(microseconds=-1)

    assert schedule.missed(first, until, keep) == stepped(schedule, first, until, keep)


@given(
    st.one_of(st.integers(1, 100), st.integers(1, 10**8)),
    st.none() | st.just(START) | st.just(START + timedelta(days=4000)),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
    st.floats(-2, 300),
    st.integers(0, 400),
)
@settings(QUIET, max_examples=200)
def test_an_interval_is_counted_as_it_is_stepped(
    seconds: int, anchor: datetime | None, after: datetime, periods: float, keep: int
) -> None:
    schedule = parse("interval", f"{seconds}s")
    first = schedule.next_due(after.replace(tzinfo=UTC), None, anchor)
    assert first is not None
    until = first + periods * timedelta(seconds=seconds)

    found = schedule.missed(first, until, keep, anchor)

    assert found == stepped(schedule, first, until, keep, anchor)


def test_every_published_case_is_counted() -> None:
    cases = [(case["expr"], case["tz"], case["next"]) for case in CASES]
    cases += [(text, zone, expected.split()) for text, zone, _after, expected in OURS]
    for text, zone, expected in cases:
        moments = [datetime.fromisoformat(moment).astimezone(UTC) for moment in expected]
        if not moments:
            continue

        missed = parse("cron", text, zone).missed(moments[0], moments[-1], 3)

        assert missed == Missed(len(moments), tuple(moments[-3:])), text


@pytest.mark.parametrize(
    ("text", "first", "until", "count"),
    [
        # The clocks go forward: what is written for the missing hour is due once, after it.
        ("*/20 2 * * *", "2027-03-27T02:00+01:00", "2027-03-28T23:00+02:00", 3),
        ("0,20 2 * * *", "2027-03-27T02:00+01:00", "2027-03-28T23:00+02:00", 3),
        ("0,20 2,3 * * *", "2027-03-27T02:00+01:00", "2027-03-28T23:00+02:00", 6),
        # They go back: a fixed time is due in the first pass only.
        ("*/20 2 * * *", "2027-10-31T02:00+02:00", "2027-10-31T02:30+01:00", 5),
        ("0,20 2 * * *", "2027-10-31T02:00+02:00", "2027-10-31T02:30+01:00", 2),
    ],
)
def test_a_clock_change_in_numbers(text: str, first: str, until: str, count: int) -> None:
    schedule = parse("cron", text, "Europe/Berlin")

    missed = schedule.missed(datetime.fromisoformat(first), datetime.fromisoformat(until))

    assert missed.count == count


def test_a_span_that_begins_in_the_second_pass_holds_no_fixed_time_of_it() -> None:
    schedule = parse("cron", "0,20,40 2 * * *", "Europe/Berlin")
    first = datetime.fromisoformat("2027-10-31T02:10+01:00")

    missed = schedule.missed(first, first + timedelta(hours=3), 9)

    assert missed == Missed(1, (first,))


@pytest.mark.parametrize(
    ("kind", "text"),
    [("cron", "* * * * *"), ("interval", "1s"), ("once", "2026-11-22 13:00"), ("manual", "")],
)
def test_the_first_counts_and_an_end_before_it_leaves_nothing(kind: str, text: str) -> None:
    schedule = parse(kind, text)

    assert schedule.missed(NOON, NOON, 5) == Missed(1, (NOON,))
    assert schedule.missed(NOON, NOON, 0) == Missed(1, ())
    assert schedule.missed(NOON, NOON - timedelta(microseconds=1)) == Missed(0, ())


@pytest.mark.parametrize(("kind", "text"), [("once", "2026-11-22 13:00"), ("manual", "")])
def test_what_is_due_once_was_missed_once(kind: str, text: str) -> None:
    schedule = parse(kind, text, "Europe/Berlin")

    assert schedule.missed(NOON, NOON + timedelta(days=4000), 100) == Missed(1, (NOON,))


@pytest.mark.parametrize(("kind", "text"), [("cron", "* * * * *"), ("interval", "5m")])
def test_a_naive_time_is_a_mistake_of_the_caller(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="aware"):
        parse(kind, text).missed(NOON.replace(tzinfo=None), NOON)


@pytest.mark.parametrize(
    ("days", "limit"), [(60, 0.02), (3_650, 0.05), (29_220, 0.1)], ids="{} days".format
)
@pytest.mark.parametrize(
    ("kind", "text"),
    [("cron", "* * * * *"), ("cron", "0-59 * * * *"), ("cron", "1 1 L * *"), ("interval", "1s")],
)
def test_a_long_span_costs_little(kind: str, text: str, days: int, limit: float) -> None:
    schedule = parse(kind, text, "Europe/Berlin")
    first = schedule.next_due(NOON)
    assert first is not None
    best = float("inf")

    for _ in range(3):
        zones._changes_of.cache_clear()  # the first look of a process, not a later one
        begun = time.process_time()
        schedule.missed(first, first + timedelta(days=days), 100)
        best = min(best, time.process_time() - begun)

    assert best < limit


def test_eighty_years_of_minutes_are_exact() -> None:
    schedule = parse("cron", "* * * * *", "Europe/Berlin")
    until = NOON + timedelta(days=29_220)

    missed = schedule.missed(NOON, until, 2)

    assert missed == Missed(29_220 * 1440 + 1, (until - timedelta(minutes=1), until))

"""The evaluator against two others: every minute looked at, and cronsim where it is right."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from daemon_app.schedules import Schedule, parse, zones
from tests.schedules import minute_table
from tests.schedules.minute_table import CHANGES, DAY, Expression, expressions, night_hours

QUIET = settings(derandomize=True, database=None, deadline=None)
START = datetime(2026, 1, 1, tzinfo=UTC)

# Clocks change by whole hours, on a full hour, and not at midnight.
PLAIN_ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Europe/Dublin"),
    *("America/St_Johns", "Africa/Casablanca", "Asia/Kathmandu", "Antarctica/Troll"),
)
# cronsim 2.8 loses minutes after a half-hour change, and answers with midnights in a gap.
ODD_ZONES = (
    *("Australia/Lord_Howe", "Pacific/Chatham", "Africa/Cairo", "America/Santiago"),
    *("America/Havana", "Asia/Beirut"),
)
EQUAL_RANGE_WITH_STEP = re.compile(r"\b(\w+)-\1/")


@given(st.data(), expressions(night_hours()), st.integers(0, 3 * 24 * 60 * 60 - 1))
@settings(QUIET, max_examples=150)
def test_the_nights_of_clock_changes_agree_with_a_look_at_every_minute(
    data: st.DataObject, expression: Expression, seconds: int
) -> None:
    zone, changes = data.draw(st.sampled_from(sorted(CHANGES.items())))
    change = datetime.fromisoformat(data.draw(st.sampled_from(changes))).replace(tzinfo=UTC)
    first = (change - 2 * DAY).date().isoformat()
    after = change - DAY + timedelta(seconds=seconds)
    end = change + 3 * DAY
    expected = [at for at in minute_table.due(expression, zone, first, 5) if at > after]

    schedule = parse("cron", expression.text, zone)
    found = [at for at in schedule.upcoming(after, len(expected) + 1) if at < end]

    assert found == expected


def in_second_pass(moment: datetime, zone: str) -> bool:
    return moment.astimezone(ZoneInfo(zone)).fold == 1


@given(
    expressions(),
    st.sampled_from(PLAIN_ZONES + ODD_ZONES),
    st.integers(0, 2 * 365 * 24 * 60 * 60),
)
@settings(QUIET, max_examples=350)
def test_agrees_with_cronsim_but_for_its_four_known_defects(
    expression: Expression, zone: str, seconds: int
) -> None:
    after = START + timedelta(seconds=seconds)
    assume(expression.wildcard or not in_second_pass(after, zone))
    assume(not EQUAL_RANGE_WITH_STEP.search(expression.text))
    found = parse("cron", expression.text, zone).upcoming(after, 4)
    if zone in ODD_ZONES:
        start = after - timedelta(hours=2)
        assume(not any(zones.clock_changes(start, found[-1] + DAY, ZoneInfo(zone))))

    theirs = CronSim(expression.text, after.astimezone(ZoneInfo(zone)))

    assert found == [next(theirs).astimezone(UTC) for _ in found]


def expected_specials(day: datetime, text: str) -> bool:
    """Return whether a date matches an extended day field, by asking the calendar."""
    following = day + DAY
    is_last = following.month != day.month
    if text == "L":
        return is_last
    if text == "LW":
        rest = [day + k * DAY for k in range(1, 4)]
        workdays = [d for d in rest if d.month == day.month and d.isoweekday() < 6]
        return day.isoweekday() < 6 and not workdays
    weekday, _, place = text.partition("#")
    if place:
        return day.isoweekday() % 7 == int(weekday) % 7 and (day.day + 6) // 7 == int(place)
    return day.isoweekday() % 7 == int(text[:-1]) % 7 and (day + 7 * DAY).month != day.month


def nearest_weekdays(year: int, month: int, number: int) -> datetime | None:
    """Return the day that 15W means, by walking outwards within the month."""
    try:
        day = datetime(year, month, number)  # noqa: DTZ001
    except ValueError:
        return None
    for distance in (0, -1, 1, -2, 2):
        other = day + distance * DAY
        if other.month == month and other.isoweekday() < 6:
            return other
    return None


def dates(schedule: Schedule, count: int) -> list[date]:
    return [at.date() for at in schedule.upcoming(START, count)]


def test_last_days_and_places_in_the_month_agree_with_the_calendar() -> None:
    days = [START.replace(tzinfo=None) + k * DAY for k in range(1, 1500)]
    weekdays = [f"{weekday}L" for weekday in range(8)]
    weekdays += [f"{weekday}#{place}" for weekday in range(8) for place in range(1, 6)]
    texts = ["0 0 L * *", "0 0 LW * *", *(f"0 0 * * {text}" for text in weekdays)]

    for text in texts:
        special = text.split()[2] if text.split()[2] != "*" else text.split()[4]
        expected = [day.date() for day in days if expected_specials(day, special)]

        assert dates(parse("cron", text, "UTC"), len(expected)) == expected, text


def test_nearest_weekdays_agree_with_a_walk_outwards() -> None:
    for number in range(1, 32):
        months = [(year, month) for year in range(2026, 2032) for month in range(1, 13)]
        days = [nearest_weekdays(year, month, number) for year, month in months]
        # Strictly later than the first of January, midnight.
        expected = [day.date() for day in days if day and day > START.replace(tzinfo=None)]

        assert dates(parse("cron", f"0 0 {number}W * *", "UTC"), len(expected)) == expected, number

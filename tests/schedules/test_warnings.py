"""Warnings: only what really happens to this schedule, with its date."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon_app.schedules import ScheduleWarning, parse

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def warned(kind: str, text: str, zone: str = "Europe/Berlin") -> list[ScheduleWarning]:
    return parse(kind, text, zone).warnings(NOW)


def codes(text: str, zone: str = "Europe/Berlin") -> list[str]:
    return [warning.code for warning in warned("cron", text, zone)]


def sentences(text: str, language: str, zone: str = "Europe/Berlin") -> list[str]:
    return [warning.sentence(language) for warning in warned("cron", text, zone)]


def test_a_fixed_time_is_told_what_both_nights_bring() -> None:
    assert sentences("30 2 * * *", "de") == [
        "Am 28.03.2027 gibt es 02:30 Uhr nicht – der Lauf startet um 03:00 Uhr.",
        "Am 31.10.2027 gibt es 02:30 Uhr zweimal – der Lauf startet nur beim ersten Mal.",
    ]
    assert sentences("30 2 * * *", "en") == [
        "On 28 March 2027 there is no 02:30 – the run starts at 03:00.",
        "On 31 October 2027 02:30 comes twice – the run starts only the first time.",
    ]


def test_a_wildcard_is_told_what_both_nights_bring() -> None:
    assert sentences("30 */2 * * *", "de") == [
        "Am 28.03.2027 gibt es 02:30 Uhr nicht – dieser Lauf entfällt.",
        "Am 31.10.2027 gibt es 02:30 Uhr zweimal – der Lauf startet beide Male.",
    ]


def test_many_times_in_a_gap_become_one_run() -> None:
    few, many, due_anyway = (
        sentences(text, "de")[0] for text in ("0,30 2 * * *", "0-59 2 * * *", "0 2,3 * * *")
    )

    assert few == (
        "Am 28.03.2027 gibt es 02:00 und 02:30 Uhr nicht – dafür startet ein Lauf um 03:00 Uhr."
    )
    assert many == (
        "Am 28.03.2027 gibt es 02:00 bis 02:59 Uhr nicht – dafür startet ein Lauf um 03:00 Uhr."
    )
    assert due_anyway == (
        "Am 28.03.2027 gibt es 02:00 Uhr nicht – es bleibt bei dem einen Lauf um 03:00 Uhr."
    )


@pytest.mark.parametrize(
    "text",
    [
        "0 4 * * *",  # another hour
        "30 2 * * 1",  # clocks change on Sundays
        "30 2 1-24 * *",  # and late in the month
        "*/5 * * * *",  # real time passes evenly
        "15 * * * *",
    ],
)
def test_a_schedule_that_no_clock_change_touches_is_not_warned(text: str) -> None:
    assert codes(text) == []
    assert codes("30 2 * * *", "UTC") == []
    assert codes("30 2 * * *", "Asia/Kathmandu") == []


def test_half_an_hour_breaks_the_rhythm_of_an_hourly_job() -> None:
    assert codes("0 * * * *", "Australia/Lord_Howe") == ["gap"]
    assert codes("45 * * * *", "Australia/Lord_Howe") == ["repeated"]
    assert codes("*/30 * * * *", "Australia/Lord_Howe") == []


def test_a_gap_at_midnight_has_the_date_that_it_opens() -> None:
    (warning,) = warned("cron", "0 0 * * *", "Africa/Cairo")

    assert warning.sentence("de") == (
        "Am 30.04.2027 gibt es 00:00 Uhr nicht – der Lauf startet um 01:00 Uhr."
    )
    assert warning.at == datetime(2027, 4, 29, 22, tzinfo=UTC)


def test_each_warning_of_a_gap_names_an_instant_that_is_due() -> None:
    schedule = parse("cron", "15 2 * * *")

    gap, repeated = schedule.warnings(NOW)

    assert gap.at is not None
    assert schedule.next_due(gap.at - timedelta(seconds=1)) == gap.at
    assert repeated.at is not None
    assert repeated.at == datetime(2027, 10, 31, 0, tzinfo=UTC)


def test_warnings_look_thirteen_months_ahead_and_not_back() -> None:
    schedule = parse("cron", "30 2 * * *")

    after_spring = schedule.warnings(datetime(2027, 3, 28, 2, tzinfo=UTC))

    assert [warning.code for warning in after_spring] == ["repeated", "gap"]
    assert "26.03.2028" in str(after_spring[1])


def test_one_of_two_day_fields_is_told_to_be_enough() -> None:
    (warning,) = warned("cron", "0 9 1-7 * 1")

    assert warning.code == "day_or"
    assert "jeden 1.–7. oder jeden Montag" in warning.sentence("de")
    assert "„1#1“" in warning.sentence("de")
    assert "on the 1st–7th or every Monday" in warning.sentence("en")
    assert warning.at is None


def test_two_day_fields_that_must_both_match_are_told_to() -> None:
    assert codes("0 9 */100,1-7 * 1") == ["day_and"]
    assert "nur, wenn beides zutrifft" in sentences("0 9 */100,1-7 * 1", "de")[0]
    assert "both match" in sentences("0 9 */100,1-7 * 1", "en")[0]


def test_a_day_field_that_does_nothing_is_told() -> None:
    assert codes("0 9 1-31 * 1") == codes("0 9 13 * 0-6") == codes("0 9 5,* * 1") == ["day_or"]
    assert codes("0 9 * * 1") == codes("0 9 13 * *") == codes("0 9 */1 * 1") == []


@pytest.mark.parametrize(
    ("text", "german"),
    [
        ("*/7 * * * *", "Nicht immer 7 Minuten Abstand: „*/7“ beginnt jede Stunde von vorn"),
        ("*/25 * * * *", "Nicht immer 25 Minuten Abstand"),
        ("0 */5 * * *", "Nicht immer 5 Stunden Abstand: „*/5“ beginnt jeden Tag von vorn"),
        ("0 9 */2 * *", "Nicht immer 2 Tage Abstand: „*/2“ beginnt jeden Monat von vorn"),
        ("0 9 1 */5 *", "Nicht immer 5 Monate Abstand: „*/5“ beginnt jedes Jahr von vorn"),
        ("0 9 * * */2", "Nicht immer 2 Tage Abstand: „*/2“ beginnt jede Woche von vorn"),
        ("5/25 * * * *", "Nicht immer 25 Minuten Abstand"),
    ],
)
def test_a_step_that_does_not_fit_its_field_is_uneven(text: str, german: str) -> None:
    assert codes(text, "UTC") == ["uneven"]
    assert german in sentences(text, "de", "UTC")[0]


@pytest.mark.parametrize(
    "text", ["*/5 * * * *", "5/20 * * * *", "0 */6 * * *", "0 9 1 */3 *", "10-50/7 * * * *"]
)
def test_a_step_that_fits_or_a_chosen_range_is_not_warned(text: str) -> None:
    assert codes(text, "UTC") == []


def test_a_step_wider_than_its_field_does_not_mean_what_it_says() -> None:
    assert codes("*/90 * * * *") == ["step_too_wide"]
    assert "nur zur Minute 0 jeder Stunde" in sentences("*/90 * * * *", "de")[0]
    assert codes("0 */36 * * *", "UTC") == ["step_too_wide"]


def test_months_without_the_day_are_told_to_be_skipped() -> None:
    assert codes("0 9 31 * *") == codes("0 9 29 2 *") == codes("0 9 30,31 * *") == ["short_months"]
    assert codes("0 9 28 * *") == codes("0 9 30 4,6 *") == codes("0 9 15,31 * *") == []


def test_an_interval_of_whole_days_moves_by_the_clock() -> None:
    (warning,) = warned("interval", "24h")

    assert warning.code == "clock_shift"
    assert warning.at == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert "Ab dem 28.03.2027" in warning.sentence("de")
    assert "eine Stunde später" in warning.sentence("de")
    assert "an hour later" in warning.sentence("en")
    assert warned("interval", "7h") == warned("interval", "30m") == []
    assert warned("interval", "24h", "UTC") == []


def test_a_single_time_in_a_gap_or_a_repeated_hour_is_warned() -> None:
    (gap,) = warned("once", "2027-03-28 02:30")
    (repeated,) = warned("once", "2027-10-31 02:30")

    assert str(gap) == "Am 28.03.2027 gibt es 02:30 Uhr nicht – der Lauf startet um 03:00 Uhr."
    assert "„2027-10-31 02:30+01:00“" in str(repeated)
    assert warned("once", "2027-10-31 02:30+01:00") == []
    assert warned("once", "2027-10-31 12:00") == warned("manual", "") == []


def test_a_warning_speaks_the_language_that_was_asked_for() -> None:
    schedule = parse("cron", "30 2 * * *")

    assert str(schedule.warnings(NOW, "en")[0]).startswith("On 28 March 2027")
    assert str(schedule.warnings(NOW, "de-CH")[0]).startswith("Am 28.03.2027")

"""What a cron expression may say, and how the refusal of everything else helps."""

import pytest

from daemon_app.schedules import ScheduleError, parse


def refusal(text: str, zone: str = "Europe/Berlin") -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        parse("cron", text, zone)
    return caught.value


# text, code, field, a part of the German hint, a part of the English hint
REFUSED = [
    # backward ranges get the list that was meant
    ("0 22-2 * * *", "wrap", "hour", "„22-23,0-2“", "“22-23,0-2”"),
    ("0 22-0 * * *", "wrap", "hour", "„22-23,0“", "“22-23,0”"),
    ("0 23-1 * * *", "wrap", "hour", "„23,0-1“", "“23,0-1”"),
    ("0 22-2/2 * * *", "wrap", "hour", "„22,0,2“", "“22,0,2”"),
    ("50-10 * * * *", "wrap", "minute", "„50-59,0-10“", "“50-59,0-10”"),
    ("0 0 28-5 * *", "wrap", "day", "„28-31,1-5“", "“28-31,1-5”"),
    ("0 0 1 11-2 *", "wrap", "month", "„11-12,1-2“", "“11-12,1-2”"),
    ("0 0 1 nov-feb *", "wrap", "month", "„nov-DEC,JAN-feb“", "“nov-DEC,JAN-feb”"),
    ("0 0 * * 5-1", "wrap", "weekday", "„5-7,1“", "“5-7,1”"),
    ("0 0 * * 6-3", "wrap", "weekday", "„6-7,1-3“", "“6-7,1-3”"),
    ("0 0 * * 7-2", "wrap", "weekday", "„0-2“", "“0-2”"),
    ("0 0 * * fri-mon", "wrap", "weekday", "„fri-7,mon“", "“fri-7,mon”"),
    ("0 0 * * fri-tue", "wrap", "weekday", "„fri-7,MON-tue“", "“fri-7,MON-tue”"),
    ("0 0 * * sat-sun", "wrap", "weekday", "„sat-7“", "“sat-7”"),
    # values outside their field
    ("60 * * * *", "range", "minute", "Minute 0", "minute 0"),
    ("100 * * * *", "range", "minute", "Minute 0", "minute 0"),
    ("5-60 * * * *", "range", "minute", "Minute 0", "minute 0"),
    ("* 24 * * *", "range", "hour", "Stunde 0", "hour 0"),
    ("0 0 0 * *", "range", "day", "„L“", "“L”"),
    ("0 0 32 * *", "range", "day", "„L“", "“L”"),
    ("0 0 0W * *", "range", "day", "„L“", "“L”"),
    ("0 0 32W * *", "range", "day", "„L“", "“L”"),
    ("0 0 1 0 *", "range", "month", "1 ist Januar", "1 is January"),
    ("0 0 1 13 *", "range", "month", "1 ist Januar", "1 is January"),
    ("0 0 * * 8", "range", "weekday", "0 und 7 sind Sonntag", "0 and 7 are Sunday"),
    ("0 0 * * 8L", "range", "weekday", "0 und 7 sind Sonntag", "0 and 7 are Sunday"),
    # steps
    ("*/0 * * * *", "zero_step", "minute", "„*/5“", "“*/5”"),
    ("1-9/00 * * * *", "zero_step", "minute", "„*/5“", "“*/5”"),
    ("*/5/2 * * * *", "double_step", "minute", "„*/5“", "“*/5”"),
    ("*/ * * * *", "no_step", "minute", "„*/5“", "“*/5”"),
    ("/5 * * * *", "slash_alone", "minute", "„*/5“", "“*/5”"),
    ("*/1000 * * * *", "long_number", "minute", "höchstens 3", "At most 3"),
    # items
    ("1,,2 * * * *", "empty_item", "minute", "„1,2“", "“1,2”"),
    (",1 * * * *", "empty_item", "minute", "„1“", "“1”"),
    ("1, * * * *", "empty_item", "minute", "„1“", "“1”"),
    (", * * * *", "empty_item", "minute", "„*“", "“*”"),
    ("1-5-9 * * * *", "double_range", "minute", "„1-5,9“", "“1-5,9”"),
    ("1--5 * * * *", "double_range", "minute", "„1-5“", "“1-5”"),
    ("1- * * * *", "open_range", "minute", "„1-5“", "“1-5”"),
    ("*5 * * * *", "star_mixed", "minute", "„*/5“", "“*/5”"),
    ("5* * * * *", "star_mixed", "minute", "„*/5“", "“*/5”"),
    ("** * * * *", "star_mixed", "minute", "„*“", "“*”"),
    ("1-* * * * *", "star_mixed", "minute", "„*“", "“*”"),
    # numbers that are none
    ("5.0 * * * *", "decimal", "minute", "ganze Zahlen", "whole numbers"),
    ("+5 * * * *", "sign", "minute", "ohne Vorzeichen", "without a sign"),
    ("-5 * * * *", "sign", "minute", "ohne Vorzeichen", "without a sign"),
    ("0x5 * * * *", "hexadecimal", "minute", "„5“", "“5”"),
    ("٥ * * * *", "foreign_digit", "minute", "„5“", "“5”"),
    ("０ * * * *", "foreign_digit", "minute", "„0“", "“0”"),
    ("*/１５ * * * *", "foreign_digit", "minute", "„*/15“", "“*/15”"),
    ("007 * * * *", "long_number", "minute", "„7“", "“7”"),
    ("0 0 * * 007", "long_number", "weekday", "„7“", "“7”"),
    # dialects
    ("? * * * *", "question_mark", "minute", "„*“", "“*”"),
    ("0 0 ? * 1", "question_mark", "day", "„*“", "“*”"),
    ("H * * * *", "random", "minute", "feste Zahl", "fixed number"),
    ("H/15 * * * *", "random", "minute", "feste Zahl", "fixed number"),
    ("R * * * *", "random", "minute", "feste Zahl", "fixed number"),
    ("0~30 * * * *", "random", "minute", "feste Zahl", "fixed number"),
    ("@reboot", "cron_reboot", "schedule", "Ereignisse", "Events"),
    ("@every 5m", "cron_every", "schedule", "„interval“", "“interval”"),
    ("@fortnightly", "cron_macro", "schedule", "„@daily“", "“@daily”"),
    ("5m", "cron_is_interval", "schedule", "„interval“", "“interval”"),
    ("CRON_TZ=UTC 0 3 * * *", "cron_variable", "schedule", "eigenes Feld", "own field"),
    # places in the month
    ("0 0 * * mon#0", "nth", "weekday", "„MON#1“", "“MON#1”"),
    ("0 0 * * mon#6", "nth", "weekday", "„MON#1“", "“MON#1”"),
    ("0 0 * * mon#", "nth", "weekday", "„MON#1“", "“MON#1”"),
    ("0 0 * * 1#12345", "nth", "weekday", "„MON#1“", "“MON#1”"),
    ("0 0 5L * *", "last_weekday_in_day", "day", "„L“", "“L”"),
    ("0 0 * * L", "last_weekday_alone", "weekday", "„5L“", "“5L”"),
    ("0 0 L-3 * *", "before_last", "day", "„LW“", "“LW”"),
    ("15W * * * *", "misplaced", "minute", "Feld ‚Tag‘", "field ‘day of month’"),
    ("0 0 * * 15W", "misplaced", "weekday", "Feld ‚Tag‘", "field ‘day of month’"),
    ("0 0 1#1 * *", "misplaced", "day", "„MON#1“", "“MON#1”"),
    ("0 0 L/2 * *", "special_mixed", "day", "mit Kommas", "with commas"),
    ("0 0 1W-5 * *", "special_mixed", "day", "mit Kommas", "with commas"),
    ("0 0 * * 1-5#2", "special_mixed", "weekday", "mit Kommas", "with commas"),
    ("0 0 * * 5L/2", "special_mixed", "weekday", "mit Kommas", "with commas"),
    # names
    ("0 0 * * monday", "name", "weekday", "„MON“", "“MON”"),
    ("0 0 * * Dienstag", "name", "weekday", "„TUE“", "“TUE”"),
    ("0 0 1 JULI *", "name", "month", "„JUL“", "“JUL”"),
    ("0 0 * * frı", "name", "weekday", "„FRI“", "“FRI”"),
    ("0 0 mon * *", "name_elsewhere", "day", "Minute, Stunde", "Minute, hour"),
    ("0 0 * * jan", "name_elsewhere", "weekday", "Minute, Stunde", "Minute, hour"),
    ("x * * * *", "item", "minute", "„1-5“", "“1-5”"),
    # the whole line
    ("", "cron_missing", "schedule", "„30 3 * * MON-FRI“", "“30 3 * * MON-FRI”"),
    (" \t ", "cron_missing", "schedule", "„30 3 * * MON-FRI“", "“30 3 * * MON-FRI”"),
    ("0 3 * *", "cron_few_fields", "schedule", "Wochentag", "weekday"),
    ("0 0 3 * * *", "cron_many_fields", "schedule", "„0 3 * * *“", "“0 3 * * *”"),
    ("0 0 3 ? * MON", "cron_many_fields", "schedule", "„0 3 * * MON“", "“0 3 * * MON”"),
    ("0 3 * * * 2027", "cron_many_fields", "schedule", "„0 3 * * *“", "“0 3 * * *”"),
    ("0 3 * * * ; rm", "cron_trailing", "schedule", "der Befehl", "the command"),
    ("0 3 * * *; rm", "cron_trailing", "schedule", "der Befehl", "the command"),
    ("0 3 * * *;rm", "cron_trailing", "schedule", "der Befehl", "the command"),
    ("0 3 * * * /bin/true", "cron_trailing", "schedule", "der Befehl", "the command"),
    ("@daily ; rm", "cron_trailing", "schedule", "der Befehl", "the command"),
    ("0\u00a03 * * *", "cron_blank", "schedule", "gewöhnlichen Leerzeichen", "ordinary blanks"),
    ("0 3 * * *\x00", "cron_blank", "schedule", "gewöhnlichen Leerzeichen", "ordinary blanks"),
    ("0 3\n* * *", "cron_blank", "schedule", "gewöhnlichen Leerzeichen", "ordinary blanks"),
    ("\ud800 3 * * *", "cron_blank", "schedule", "gewöhnlichen Leerzeichen", "ordinary blanks"),
    ("0 3–5 * * *", "cron_dash", "schedule", "„-“", "“-”"),
    ("0," * 127 + "0 * * * *", "too_long", "schedule", "mehrere Jobs", "several jobs"),
    # never
    ("0 0 31 2 *", "cron_never", "schedule", "„L“", "“L”"),
    ("0 0 30 2 *", "cron_never", "schedule", "„L“", "“L”"),
    ("0 0 30W 2 *", "cron_never", "schedule", "„L“", "“L”"),
    ("0 0 31 4,6,9,11 *", "cron_never", "schedule", "„L“", "“L”"),
    ("0 0 30 2 */2", "cron_never_both", "schedule", "„*“", "“*”"),
    ("*/30 2 * 3 7L", "cron_never_clock", "schedule", "‚Minute‘", "‘minute’"),
]


@pytest.mark.parametrize(("text", "code", "field", "german", "english"), REFUSED)
def test_a_slip_is_refused_with_the_way_out(
    text: str, code: str, field: str, german: str, english: str
) -> None:
    error = refusal(text)

    assert (error.code, error.field) == (code, field)
    assert german in error.hint("de")
    assert english in error.hint("en")


@pytest.mark.parametrize(
    ("text", "german", "english"),
    [
        (
            "61 * * * *",
            "Das Feld ‚Minute‘ geht nur von 0 bis 59 – hier steht 61.",
            "The field ‘minute’ only goes from 0 to 59 – here stands 61.",
        ),
        (
            "0 22-2 * * *",
            "Im Feld ‚Stunde‘ läuft der Bereich „22-2“ rückwärts.",
            "The range “22-2” in the field ‘hour’ runs backwards.",
        ),
        (
            "0 0 31 2 *",
            "Dieser Zeitplan trifft nie zu (31. Februar).",
            "This schedule never fires (31st of February).",
        ),
        (
            "0\u00a03 * * *",
            "Im Cron-Ausdruck steht ein unsichtbares Zeichen (U+00A0).",
            "There is an invisible character (U+00A0) in the cron expression.",
        ),
        (
            "0 3 * * * ; rm -rf /",
            "Nach den fünf Feldern steht noch „; rm -rf /“.",
            "After the five fields there is still “; rm -rf /”.",
        ),
    ],
)
def test_a_refusal_is_a_sentence_in_both_languages(text: str, german: str, english: str) -> None:
    error = refusal(text)

    assert error.message("de") == german
    assert error.message("en") == error.message("fr") == english
    assert str(error) == f"{english} {error.hint('en')}"


# text, what is kept of it
ACCEPTED = [
    ("* * * * *", "* * * * *"),
    ("*/60 * * * *", "*/60 * * * *"),
    ("*/61 * * * *", "*/61 * * * *"),
    ("*/100 * * * *", "*/100 * * * *"),
    ("*/100,1 * * * *", "*/100,1 * * * *"),
    ("1-1 * * * *", "1-1 * * * *"),
    ("20-20/7 * * * *", "20-20/7 * * * *"),
    ("5,* * * * *", "5,* * * * *"),
    ("5/10 * * * *", "5/10 * * * *"),
    ("05,09 03 * * *", "5,9 3 * * *"),
    ("\t0  6 \t *\t*  *  ", "0 6 * * *"),
    ("0 3 * * *\n", "0 3 * * *"),
    ("0 0 * jan-Mar SUN,mOn", "0 0 * JAN-MAR SUN,MON"),
    ("0 0 * * mo-fr", "0 0 * * MON-FRI"),
    ("0 0 1 mai,Okt,DEZ *", "0 0 1 MAY,OCT,DEC *"),
    ("0 0 1 jul *", "0 0 1 JUL *"),
    ("0 0 * * wed", "0 0 * * WED"),
    ("0 0 l * *", "0 0 L * *"),
    ("0 0 lw,15w,1 * *", "0 0 LW,15W,1 * *"),
    ("0 0 * * 5l,mon#1,0#2,7#5", "0 0 * * 5L,MON#1,0#2,7#5"),
    ("0 0 * * sat-7", "0 0 * * SAT-7"),
    ("0 0 31 2 1", "0 0 31 2 1"),
    ("0 0 30 2 1", "0 0 30 2 1"),
    ("0 0 29 2 *", "0 0 29 2 *"),
    ("0 0 29W 2 *", "0 0 29W 2 *"),
    ("@Daily", "@daily"),
]


@pytest.mark.parametrize(("text", "kept"), ACCEPTED)
def test_what_is_accepted_is_kept_in_one_spelling(text: str, kept: str) -> None:
    schedule = parse("cron", text)

    assert schedule.text == kept
    assert parse("cron", kept) == schedule
    assert hash(parse("cron", kept)) == hash(schedule)


def test_what_a_hint_offers_instead_is_accepted() -> None:
    helped = 0
    for text, _, field, *_ in REFUSED:
        error = refusal(text)
        better = error.facts.get("better")
        if field == "schedule" or not isinstance(better, str) or not better:
            continue

        parse("cron", text.replace(str(error.facts["part"]), better, 1))

        helped += 1
    assert helped > 20


def test_an_expression_may_fire_in_one_zone_and_never_in_another() -> None:
    in_the_gap = "*/30 2 * 3 7L"

    assert refusal(in_the_gap, "Europe/Berlin").code == "cron_never_clock"
    assert "Europe/Berlin" in refusal(in_the_gap, "Europe/Berlin").message("de")
    assert parse("cron", in_the_gap, "UTC").describe("en")
    assert parse("cron", "0,30 2 * 3 7L", "Europe/Berlin").describe("en")

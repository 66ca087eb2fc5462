"""What holds for every schedule, and for every text that is none."""

import copy
import pickle
import string
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon_app.schedules import KINDS, ScheduleError, parse
from daemon_app.schedules.errors import TEXTS
from tests.schedules import test_cron_grammar, test_interval, test_once
from tests.schedules.minute_table import CHANGES, expressions

QUIET = settings(derandomize=True, database=None, deadline=None)
START = datetime(2026, 1, 1, tzinfo=UTC)

ZONES = st.sampled_from(["UTC", *CHANGES])
INTERVALS = st.integers(1, 10**7).map(lambda seconds: ("interval", f"{seconds}s"))
CRONS = expressions().map(lambda expression: ("cron", expression.text))
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)
ONCES = MOMENTS.map(lambda moment: ("once", moment.strftime("%Y-%m-%d %H:%M")))
TEXTS_OF_KINDS = st.one_of(INTERVALS, CRONS, ONCES)


@given(TEXTS_OF_KINDS, ZONES, MOMENTS, st.floats(0, 10**7))
@settings(QUIET, max_examples=150)
def test_due_is_strictly_later_in_utc_and_never_goes_back(
    kind_and_text: tuple[str, str], zone: str, after: datetime, seconds: float
) -> None:
    schedule = parse(*kind_and_text, zone)
    later = after + timedelta(seconds=seconds)

    due, due_later = schedule.next_due(after, None, START), schedule.next_due(later, None, START)

    if due is not None:
        assert due > after
        assert due.tzinfo is UTC
        assert schedule.next_due(due - timedelta(microseconds=1), None, START) == due
        assert due_later is None or due_later >= due
        assert due <= later or due == due_later


@given(TEXTS_OF_KINDS, ZONES, MOMENTS)
@settings(QUIET, max_examples=100)
def test_upcoming_is_next_due_again_and_again(
    kind_and_text: tuple[str, str], zone: str, after: datetime
) -> None:
    schedule = parse(*kind_and_text, zone)
    expected: list[datetime] = []
    moment = after
    while len(expected) < 6 and (due := schedule.next_due(moment, None, START)) is not None:
        expected.append(due)
        moment = due

    assert schedule.upcoming(after, 6, None, START) == expected
    assert schedule.upcoming(after, 0, None, START) == []


@given(TEXTS_OF_KINDS, ZONES, MOMENTS)
@settings(QUIET, max_examples=150)
def test_every_schedule_has_words_warnings_and_one_spelling(
    kind_and_text: tuple[str, str], zone: str, after: datetime
) -> None:
    schedule = parse(*kind_and_text, zone)

    again = parse(schedule.kind, schedule.text, schedule.tz)

    assert again == schedule
    for language in ("de", "en"):
        told = [schedule.describe(language)]
        told += [warning.sentence(language) for warning in schedule.warnings(after)]
        for sentence in told:
            assert sentence.strip() == sentence != ""
            assert not set(sentence) & set("{}")
            assert "  " not in sentence


def test_asked_with_the_time_of_another_zone_it_answers_alike() -> None:
    schedule = parse("cron", "30 2 * * *")
    after = datetime(2026, 10, 24, 23, tzinfo=UTC)

    assert schedule.next_due(after) == schedule.next_due(after.astimezone(ZoneInfo("Asia/Tokyo")))


@pytest.mark.parametrize(("kind", "text"), [("cron", "* * * * *"), ("interval", "5m")])
def test_a_naive_time_is_a_mistake_of_the_caller(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="aware"):
        parse(kind, text).next_due(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_schedule_is_a_value() -> None:
    schedule = parse("cron", "30 3 * * 1-5")
    other = parse("cron", "30 3 * * 1-5", "UTC")

    twin = pickle.loads(pickle.dumps(schedule))

    assert {schedule, copy.deepcopy(schedule), twin} == {schedule}
    assert other != schedule
    assert twin.upcoming(START, 3) == schedule.upcoming(START, 3)
    with pytest.raises(AttributeError):
        schedule.text = "* * * * *"  # type: ignore[misc]


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
NEARLY_CRON = st.text("0123456789*/,-LWlw#@?~ \tMONJAN.;+xµ٥", max_size=30)
FIVE_NEARLY = st.lists(
    st.text("0123456789*/,-LW#?SUNjan", min_size=1, max_size=8), min_size=4, max_size=7
).map(" ".join)
NEARLY_INTERVAL = st.text("0123456789dhms ,.-Stundemiw", max_size=16)
NEARLY_ONCE = st.text("0123456789-:.TZ+ Uhr", max_size=24)
HOSTILE = st.one_of(ANY_TEXT, NEARLY_CRON, FIVE_NEARLY, NEARLY_INTERVAL, NEARLY_ONCE)


def error_of(kind: str, text: str, zone: str) -> ScheduleError | None:
    """Return the refusal, or None; whatever else is raised fails the test."""
    try:
        parse(kind, text, zone)
    except ScheduleError as error:
        return error
    return None


@given(st.sampled_from([*KINDS, "chain", "event"]), HOSTILE)
@example("cron", "9" * 5000)
@example("interval", "9" * 200 + "m")
@example("once", "9" * 250)
@example("cron", "\x00")
@example("cron", "\ud800 * * * *")
@example("manual", "\udfff")
@example("cron", "{} {field} {0} %s *")
@settings(QUIET, max_examples=800)
def test_no_text_raises_anything_but_an_error_that_helps(kind: str, text: str) -> None:
    refused = error_of(kind, text, "Europe/Berlin")

    if refused is None:
        schedule = parse(kind, text)
        assert parse(kind, schedule.text) == schedule
        assert schedule.describe("de")
        schedule.next_due(START)
        return
    for language in ("de", "en"):
        for sentence in (refused.message(language), refused.hint(language)):
            assert sentence.strip()
            assert sentence.isprintable()
            sentence.encode()
    refused.value.encode()
    assert len(refused.value) < 320


@given(ANY_TEXT, st.one_of(ANY_TEXT, st.text(string.printable, max_size=20)))
@settings(QUIET, max_examples=150)
def test_no_kind_and_no_zone_raises_anything_else(kind: str, zone: str) -> None:
    by_kind = error_of(kind, "0 3 * * *", "UTC")
    by_zone = error_of("cron", "0 3 * * *", zone)

    for refused, argument in ((by_kind, "kind"), (by_zone, "tz")):
        if refused is not None:
            str(refused).encode()
            assert refused.argument == argument


@pytest.mark.parametrize("kind", ["chain", "event"])
def test_chains_and_events_are_not_available_yet(kind: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(kind, "nightly")

    error = caught.value
    assert (error.field, error.argument, error.value) == ("kind", "kind", kind)
    assert error.message("de") == f"Zeitpläne der Art „{kind}“ gibt es noch nicht."
    assert error.message("en") == f"Schedules of the kind “{kind}” are not available yet."
    assert "„interval“" in error.hint("de")


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("weekly", "")

    assert all(f"“{kind}”" in caught.value.hint("en") for kind in KINDS)
    assert set(KINDS) == {"interval", "cron", "once", "manual"}


def test_an_error_says_the_same_after_a_journey_between_processes() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("cron", "61 * * * *")

    twin = pickle.loads(pickle.dumps(caught.value))

    assert str(twin) == str(caught.value)
    assert twin.message("de") == caught.value.message("de")
    assert (twin.field, twin.value, twin.argument) == ("minute", "61", "text")


def test_every_error_speaks_both_languages_with_the_same_facts() -> None:
    for code, languages in TEXTS.items():
        facts = {
            language: {name for text in texts for _, name, *_ in string.Formatter().parse(text)}
            for language, texts in languages.items()
        }
        assert set(facts) == {"de", "en"}, code
        ours = {language: names - {None, "field"} for language, names in facts.items()}
        assert ours["de"] == ours["en"], code


def test_every_error_in_the_table_is_tried_by_a_test() -> None:
    tried = {code for _, code, *_ in test_cron_grammar.REFUSED}
    tried |= {code for _, code, _ in test_interval.REFUSED}
    tried |= {code for _, code, _ in test_once.REFUSED}
    elsewhere = {"kind_unknown", "kind_later", "zone_missing", "zone_near", "zone_unknown"}

    assert set(TEXTS) == tried | elsewhere | {"manual_text", "once_past"}

"""Times of the week: what people write, when it opens and closes, and nights of clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon_app import windows
from daemon_app.schedules import ScheduleError
from daemon_app.windows import WindowError, Windows, parse

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


def berlin(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN)


# ── What people write ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("22:00-06:00", "22:00-06:00"),
        ("mo-fr 22:00-06:00, sa,so 00:00-24:00", "mo-fr 22:00-06:00; sa,so 00:00-24:00"),
        ("Mon – Fri 22 to 6; weekend 0-24", "mon-fri 22:00-06:00; sat,sun 00:00-24:00"),
        ("täglich von 22 Uhr bis 6 Uhr", "22:00-06:00"),
        ("Mo 8-12, 13-17", "mo 08:00-12:00, 13:00-17:00"),
        ("mo 8-12\nso 22:00-00:00", "mo 08:00-12:00; so 22:00-24:00"),
        ("sa-mo 10.00-11.30", "sa-mo 10:00-11:30"),
        ("tue,thu 1-2", "tue,thu 01:00-02:00"),
        ("werktags 9-17 und samstags 9-12", "mo-fr 09:00-17:00; sa 09:00-12:00"),
        ("22-23, 22:30-24:00", "22:00-24:00"),
        ("mo 00:00-24:00, mo 22:00-06:00", "mo 00:00-24:00; di 00:00-06:00"),
        ("mo 10:00-23:00, mo 22:00-11:00", "mo 10:00-24:00; di 00:00-11:00"),
    ],
)
def test_a_text_is_kept_in_one_way_of_writing_and_its_own_language(written: str, text: str) -> None:
    assert parse(written).text == text


@pytest.mark.parametrize(
    ("written", "german", "english"),
    [
        ("mo-fr 22:00-06:00", "Montag bis Freitag 22:00–06:00 Uhr", "Monday to Friday 22:00–06:00"),
        (
            "8-12, 13-17",
            "täglich 08:00–12:00 und 13:00–17:00 Uhr",
            "every day 08:00–12:00 and 13:00–17:00",
        ),
        ("sa,so 0-24", "Samstag und Sonntag ganztägig", "Saturday and Sunday all day"),
    ],
)
def test_it_is_said_in_words(written: str, german: str, english: str) -> None:
    assert parse(written).describe("de") == german
    assert parse(written).describe("en") == english


@pytest.mark.parametrize(
    ("written", "code", "hint"),
    [
        ("", "missing", "22:00-06:00"),
        (" ; ", "missing", "22:00-06:00"),
        ("25:00-26:00", "time", "24:00"),
        ("12:60-13:00", "time", "24:00"),
        ("24:01-06:00", "time", "24:00"),
        ("24:00-06:00", "begins_at_24", "00:00"),
        ("22:00-22:00", "never", "00:00-24:00"),
        ("24:00-24:00", "begins_at_24", "00:00"),
        ("22:00", "one_time", "22:00-06:00"),
        ("mo-fr", "no_times", "mo-fr 00:00-24:00"),
        ("mo 1-2; di", "no_times", "di 00:00-24:00"),
        ("montga 1-2", "day_near", "montag"),
        ("xyz 1-2", "day", "mo"),
        ("10pm-6am", "half_day", "22:00"),
        ("22:00-06:00-07:00", "syntax", "mo-fr"),
        ("mo- 1", "syntax", "mo-fr"),
        ("* * * * *", "syntax", "mo-fr"),
        ("mo 1-2" * 40, "too_long", "mo-fr"),
        (",".join(f"{n}-{n}:30" for n in range(24)), "too_long", "mo-fr"),
    ],
)
def test_what_says_no_times_is_refused_with_the_way_out(written: str, code: str, hint: str) -> None:
    with pytest.raises(WindowError) as caught:
        parse(written)

    assert caught.value.code == code
    assert hint in caught.value.hint("de")
    assert caught.value.message("en") in str(caught.value)
    assert caught.value.hint("en")


def test_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ScheduleError):
        parse("1-2", "Europe/Atlantis")


def test_every_error_speaks_both_languages() -> None:
    assert all(texts.keys() == {"de", "en"} for texts in windows.TEXTS.values())


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{2,3}[-, ]{1,2}[0-9:.]{1,5}-[0-9:]{1,5}"))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except WindowError:
        return
    assert parse(found.text) == found


# ── When it is open ──────────────────────────────────────────────────────────────────────────────
def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    friday = parse("fr 22:00-06:00")

    assert friday.contains(berlin(2026, 11, 28, 5, 59))  # Saturday morning
    assert not friday.contains(berlin(2026, 11, 28, 6))
    assert not friday.contains(berlin(2026, 11, 27, 5))


def test_it_goes_over_from_sunday_to_monday() -> None:
    assert parse("so 22:00-02:00").contains(berlin(2026, 11, 30, 1, 30))


def test_it_says_when_it_opens_and_closes_next() -> None:
    nights = parse("mo-fr 22:00-06:00")
    saturday = berlin(2026, 11, 28, 12)

    opens = nights.next_open(saturday)

    assert opens == berlin(2026, 11, 30, 22)
    assert opens.tzinfo is UTC
    assert nights.next_close(opens) == berlin(2026, 12, 1, 6)
    assert nights.next_open(opens) == opens
    assert nights.next_close(saturday) == saturday


def test_one_that_is_always_open_never_closes() -> None:
    always = parse("mo-so 0-12, 12-24")

    assert always.is_always
    assert always.next_close(berlin(2026, 11, 28, 12)) is None


def test_in_the_night_without_half_past_two_it_stays_closed() -> None:
    window = parse("02:00-03:00")

    assert window.next_open(berlin(2027, 3, 27, 12)) == berlin(2027, 3, 29, 2)


def test_one_that_ends_in_the_missing_hour_closes_when_the_clocks_change() -> None:
    assert parse("22:00-02:30").next_close(berlin(2027, 3, 28, 1)) == datetime(
        2027, 3, 28, 1, tzinfo=UTC
    )


def test_in_a_repeated_hour_it_is_open_twice() -> None:
    window = parse("02:00-02:30")
    first = berlin(2026, 10, 25, 2)

    closes = window.next_close(first)

    assert closes == first.astimezone(UTC) + 30 * MINUTE
    assert window.next_open(closes) == datetime(2026, 10, 25, 1, tzinfo=UTC)


def test_a_weekly_window_in_the_gap_waits_for_the_week_after() -> None:
    assert parse("so 02:00-03:00").next_open(berlin(2027, 3, 22)) == berlin(2027, 4, 4, 2)


def test_a_naive_instant_is_no_instant() -> None:
    with pytest.raises(ValueError, match="aware"):
        parse("1-2").contains(datetime(2026, 11, 24, 12))  # noqa: DTZ001 - that is the point


ZONES = ["Europe/Berlin", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
minutes = st.integers(0, 24 * 60 - 1)
spans = st.tuples(st.sets(st.integers(0, 6), min_size=1), minutes, st.integers(1, 24 * 60 - 1))


@st.composite
def texts(draw: st.DrawFn) -> str:
    parts = []
    for days, start, length in draw(st.lists(spans, min_size=1, max_size=3)):
        names = ",".join(windows.WRITTEN["en"][day] for day in sorted(days))
        end = (start + length) % 1440
        parts.append(f"{names} {start // 60}:{start % 60:02}-{end // 60}:{end % 60:02}")
    return "; ".join(parts)


# Around clock changes of these zones, and anywhere.
starts = st.sampled_from(
    [
        datetime(2026, 10, 24, 20, tzinfo=UTC),
        datetime(2027, 3, 27, 20, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2027, 3, 14, tzinfo=UTC),
        datetime(2026, 10, 3, 10, tzinfo=UTC),
        datetime(2027, 4, 3, 10, tzinfo=UTC),
    ]
) | st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def shows(window: Windows, instant: datetime) -> bool:
    """Say by the minutes of the week alone whether the clock on the wall lies in a span."""
    wall = instant.astimezone(ZoneInfo(window.tz))
    at = wall.weekday() * 1440 + wall.hour * 60 + wall.minute
    return any(
        (at - day * 1440 - start) % (7 * 1440) < end - start
        for day, spans in enumerate(window.days)
        for start, end in spans
    )


@settings(max_examples=60, deadline=None)
@given(texts(), st.sampled_from(ZONES), starts)
def test_a_walk_by_the_minute_finds_the_same(text: str, tz: str, start: datetime) -> None:
    window = parse(text, tz)
    start = start.replace(second=0, microsecond=0)
    walk = [start + n * MINUTE for n in range(36 * 60)]

    opens = next((each for each in walk if shows(window, each)), None)
    closes = next((each for each in walk if not shows(window, each)), None)

    assert all(window.contains(each) == shows(window, each) for each in walk[::7])
    found = window.next_open(start)
    assert found == opens if opens else found > walk[-1]
    ends = window.next_close(start)
    assert ends == closes if closes else (ends is None or ends > walk[-1])


@settings(max_examples=60, deadline=None)
@given(texts())
def test_the_kept_text_means_the_same(text: str) -> None:
    window = parse(text)

    again = parse(window.text)

    assert again == window
    assert windows._week(again.days) == windows._week(_read_apart(text))


def _read_apart(text: str) -> list[list[tuple[int, int]]]:
    """Return the spans of a text as they are written, none merged."""
    week: list[list[tuple[int, int]]] = [[] for _ in range(7)]
    for part in text.split("; "):
        names, _, times = part.partition(" ")
        (h1, m1), (h2, m2) = (map(int, each.split(":")) for each in times.split("-"))
        start, end = h1 * 60 + m1, h2 * 60 + m2
        for name in names.split(","):
            day = windows.WRITTEN["en"].index(name)
            week[day].append((start, end if end > start else end + 1440))
    return week


@settings(max_examples=20, deadline=None)
@given(texts(), texts(), starts)
def test_one_lies_outside_another_where_a_walk_finds_a_minute(
    one: str, other: str, start: datetime
) -> None:
    first, second = parse(one), parse(other)
    start = start.replace(second=0, microsecond=0)
    walk = (start + n * MINUTE for n in range(8 * 1440))

    expected = any(shows(first, each) and not shows(second, each) for each in walk)

    assert first.opens_outside(second, start) == expected

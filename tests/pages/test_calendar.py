"""The calendar: what is planned, in which hour, and where there is room."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import tiles
from daemon_app.tiles import calendar
from tests.jobs import NOON, job, run

BERLIN = timezone.get_default_timezone()
TODAY = date(2026, 11, 24)
HOUR = timedelta(hours=1)


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&nbsp;", " ").split())


@pytest.fixture
def shown(settings: Any) -> Callable[..., str]:
    """Return what the region of the week, or of a day, says at an instant."""
    settings.TIME_ZONE = "Europe/Berlin"

    def render(query: str = "", *, now: datetime = NOON, region: str = "calendar") -> str:
        html = tiles.render(region, query, tiles.Viewer("viewer", "en"), now)
        assert html is not None
        return html

    return render


def nightly(name: str = "nightly", schedule: str = "0 3 * * *", **fields: Any) -> Any:
    return job(name, job_type="cron", schedule=schedule, **fields)


# ── The address ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("query", "week", "day", "hour"),
    [
        ("", TODAY, None, None),
        ("from=2026-12-01", date(2026, 12, 1), None, None),
        ("from=2020-01-01", TODAY, None, None),
        ("from=9999-12-31", TODAY + timedelta(days=364), None, None),
        ("from=tomorrow&hour=24", TODAY, None, None),
        ("day=2026-11-26&hour=7", TODAY, date(2026, 11, 26), 7),
        ("day=2026-11-26&hour=²&at=99:99", TODAY, date(2026, 11, 26), None),
        ("day=2026-11-26&hour=0019999", TODAY, date(2026, 11, 26), None),
        ("day=2026-11-26" + "&x=1" * 40, TODAY, date(2026, 11, 26), None),
    ],
)
def test_nonsense_in_the_address_counts_as_nothing(
    query: str, week: date, day: date | None, hour: int | None
) -> None:
    found = tiles.Shown.read(query, TODAY)

    assert (found.week, found.day, found.hour) == (week, day, hour)


@pytest.mark.parametrize(
    "query", ["", "?from=2027-01-01", "?day=2027-01-01", "?day=x&at=7&hour=-1"]
)
def test_every_address_leads_to_a_page(viewer: Client, query: str) -> None:
    nightly(now=timezone.now())

    assert viewer.get(f"/daemon/calendar/{query}").status_code == 200


def test_nobody_pages_into_the_past_or_beyond_a_year(viewer: Client) -> None:
    first = viewer.get("/daemon/calendar/").content.decode()
    last = viewer.get("/daemon/calendar/?from=9999-01-01").content.decode()

    assert 'rel="prev"' not in first
    assert 'rel="next"' in first
    assert 'rel="prev"' in last
    assert 'rel="next"' not in last


# ── The week ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_without_a_plan_the_calendar_says_what_will_stand_here(shown: Callable[..., str]) -> None:
    job("by hand")

    assert "Nothing is planned yet" in shown()


@pytest.mark.django_db
def test_the_week_tells_each_start_with_its_usual_length_and_what_it_waits_for(
    shown: Callable[..., str],
) -> None:
    of = nightly(only_when_idle=True)
    for _ in range(3):
        run(of, state="succeeded", started_at=NOON, ended_at=NOON + timedelta(minutes=25))

    page = shown()

    assert page.count('id="start-') == 6
    assert text(page).count("03:00 only when idle ≈ 25 min nightly") == 6


@pytest.mark.django_db
def test_what_has_started_today_is_not_planned_any_more(shown: Callable[..., str]) -> None:
    nightly(schedule="0 3,18 * * *")

    first_day = shown().split('class="day"')[1]

    assert ">03:00<" not in first_day
    assert ">18:00<" in first_day


@pytest.mark.django_db
def test_frequent_jobs_are_counted_and_not_listed(shown: Callable[..., str]) -> None:
    nightly("watch", "*/5 * * * *")

    page = shown()

    assert 'id="start-' not in page
    assert "watch every 5 minutes" in text(page)
    assert "only frequent jobs" in page
    assert "12 starts" in page


@pytest.mark.django_db
def test_a_full_day_says_how_many_more_there_are(shown: Callable[..., str]) -> None:
    for n in range(14):
        nightly(f"job {n:02}", f"{n} 3 * * *")

    page = shown()

    assert page.count('id="start-') == 60
    assert text(page).count("4 more") == 6


@pytest.mark.django_db
def test_the_heatmap_names_where_there_is_room_and_where_there_is_none(
    shown: Callable[..., str],
) -> None:
    nightly("often", "*/30 0-8,12-23 * * *")
    nightly("one more", "15 3 * * FRI")

    said = text(shown())

    assert "Room: tomorrow 09:00–12:00 · Thu 09:00–12:00 · Fri 09:00–12:00" in said
    assert "Busiest: Fri 03:00–04:00 (3 starts)" in said


@pytest.mark.django_db
def test_an_hour_that_the_clocks_leave_out_is_no_cell_and_one_that_comes_twice_is_one(
    shown: Callable[..., str],
) -> None:
    nightly("watch", "*/10 * * * *")

    spring = shown("from=2027-03-28", now=datetime(2027, 3, 20, tzinfo=UTC))
    autumn = shown("from=2026-10-25", now=datetime(2026, 10, 20, tzinfo=UTC))

    assert spring.count(' gap"') == 1
    assert "02:00–03:00 · 12 starts" in text(autumn)


def test_where_every_hour_is_alike_there_is_no_better_time() -> None:
    assert calendar.room([(NOON + n * HOUR, 4) for n in range(48)]) == []
    assert calendar.room([(NOON + n * HOUR, 400 + n % 9) for n in range(48)]) == []
    assert calendar.room([]) == []


def test_a_time_with_room_is_two_hours_long_if_there_is_one() -> None:
    counts = [5, 0, 5, 1, 1, 1, 5]

    found = calendar.room([(NOON + n * HOUR, count) for n, count in enumerate(counts)])

    assert found[0] == (NOON + HOUR, NOON + 2 * HOUR, 0)
    assert found[1] == (NOON + 3 * HOUR, NOON + 6 * HOUR, 1)


# ── One day ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_a_day_can_be_walked_through_page_by_page_however_full(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar, "PER_PAGE", 4)
    for n in range(10):
        nightly(f"job {n}", f"{n // 2} {3 + n // 5} * * *")
    query, seen = "day=2026-11-25", []

    for _ in range(9):
        page = shown(query, region="calendar-day")
        seen += re.findall(r">(job \d)<", page)
        further = re.search(r'rel="next" href="\?([^"]+)"', page)
        if not further:
            break
        query = further[1].replace("&amp;", "&")

    assert seen == [f"job {n}" for n in range(10)]


@pytest.mark.django_db
def test_a_minute_that_fills_more_than_a_page_says_how_many_more(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar, "PER_PAGE", 4)
    for n in range(10):
        nightly(f"job {n}")
    nightly("later", "0 5 * * *")

    page = shown("day=2026-11-25", region="calendar-day")

    assert page.count('id="start-') == 4
    assert "and 6 more in the same minute" in text(page)
    assert "at=03%3A01" in page


@pytest.mark.django_db
def test_one_hour_of_a_day_is_shown_alone(shown: Callable[..., str]) -> None:
    nightly()
    nightly("later", "30 17 * * *")

    page = shown("day=2026-11-25&hour=17", region="calendar-day")

    assert page.count('id="start-') == 1
    assert ">later<" in page
    assert "Planned starts from 17:00" in text(page)


# ── Many jobs ────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
@pytest.mark.parametrize("count", [3, 40])
def test_a_week_costs_the_same_few_questions_however_many_jobs_there_are(
    shown: Callable[..., str], django_assert_max_num_queries: Any, count: int
) -> None:
    for n in range(count):
        of = nightly(f"job {n}", f"{n} 3 * * *")
        run(of, state="succeeded", started_at=NOON, ended_at=NOON + HOUR)

    with django_assert_max_num_queries(5):
        shown()

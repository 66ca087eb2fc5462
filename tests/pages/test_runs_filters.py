"""The history: what chooses runs stands in the address, and costs the same however long it is."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import tiles
from daemon_app.models import Run
from daemon_app.tiles import runs
from tests.jobs import NOON, job, run

HOUR = timedelta(hours=1)


def listed(query: str, now: datetime = NOON) -> list[int]:
    """Return the numbers of the runs the table shows."""
    html = tiles.render("runs-table", query, tiles.Viewer("viewer", "en"), now)
    assert html is not None
    return [int(number) for number in re.findall(r'id="run-row-(\d+)"', html)]


def ended(pk: int, ago: timedelta, **fields: Any) -> Run:
    at = NOON - ago
    times = {"due_at": at, "queued_at": at, "started_at": at, "ended_at": at + HOUR}
    return run(pk=pk, **{"state": "succeeded", **times, **fields})


@pytest.fixture
def week(db: None) -> None:
    """A run each day, the newest with the highest number; noon in Berlin is at eleven."""
    for days in range(9, -1, -1):
        ended(10 - days, timedelta(days=days))


@pytest.mark.usefixtures("week")
@pytest.mark.parametrize(
    ("time", "numbers"),
    [
        ("today", [10]),
        ("yesterday", [9]),
        ("7d", [10, 9, 8, 7, 6, 5, 4]),
        ("30d", [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("2026-11-20", [6]),
        ("2020-01-01", []),
        ("2030-01-01", []),
        ("9999-12-31", [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("whenever", [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_a_span_of_time_shows_what_was_put_in_line_in_it(time: str, numbers: list[int]) -> None:
    assert listed(f"time={time}") == numbers


@pytest.mark.django_db
def test_runs_are_found_by_job_by_what_they_said_last_by_person_and_by_number() -> None:
    backup = job("nacht-backup")
    one = run(backup, last_line="12 Dateien gesichert")
    other = run(job("bericht"), started_by="Anna")

    assert listed("q=BACKUP") == [one.pk]
    assert listed("q=dateien") == [one.pk]
    assert listed("q=anna") == [other.pk]
    assert listed(f"q=%23{one.pk}") == [one.pk]
    assert listed("q=nobody") == []


@pytest.mark.django_db
def test_unusual_runs_say_so_and_can_be_asked_for() -> None:
    ended(1, 2 * HOUR)
    ended(2, HOUR, unusual="long")

    html = tiles.render("runs-table", "state=unusual", tiles.Viewer("viewer", "en"), NOON)

    assert listed("state=unusual") == [2]
    assert "unusually long" in str(html)


@pytest.mark.usefixtures("week")
def test_a_search_looks_among_the_newest_and_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "LOOKED_AT", 4)
    query, pages = "trigger=manual&until=10", []

    for _ in range(4):
        html = tiles.render("runs-table", query, tiles.Viewer("viewer", "en"), NOON)
        pages.append(listed(query))
        further = re.search(r'class="older">.*href="\?([^"]+)"', str(html))
        if not further:
            break
        query = further[1].replace("&amp;", "&")

    assert pages == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]


@pytest.mark.usefixtures("week")
def test_a_search_without_a_hit_offers_to_look_among_older_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "LOOKED_AT", 4)

    html = str(tiles.render("runs-table", "q=nothing", tiles.Viewer("viewer", "en"), NOON))

    assert "No run fits this filter." in html
    assert "Look among older ones" in html


@pytest.mark.usefixtures("week")
@pytest.mark.parametrize(("time", "numbers"), [("2026-11-20", [6]), ("7d", [10, 9, 8, 7])])
def test_a_search_in_a_span_of_time_begins_at_its_end_and_ends_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch, time: str, numbers: list[int]
) -> None:
    monkeypatch.setattr(runs, "LOOKED_AT", 4)

    html = str(tiles.render("runs-table", f"q=job&time={time}", tiles.Viewer("viewer", "en"), NOON))

    assert listed(f"q=job&time={time}") == numbers
    # Of seven days three more are further back; of one day nothing is.
    assert ("Look among older ones" in html) == (time == "7d")


@pytest.mark.usefixtures("week")
def test_news_of_a_search_are_looked_for_among_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LOOKED_AT", 4)

    def count(query: str) -> int:
        context = runs.runs_news(tiles.Viewer("viewer", "en"), query, NOON) or {}
        return int(context["count"])

    assert count("until=1") == 9
    assert count("q=job&until=1") == 4
    assert count("q=job&until=8") == 2


def test_the_filter_stands_in_the_address_and_in_the_form(viewer: Client) -> None:
    of = job("nacht-backup", now=timezone.now())
    address = f"/daemon/runs/?state=unhappy&job={of.pk}&trigger=manual&time=7d&q=disk"

    page = viewer.get(address).content.decode()

    assert 'name="state" value="unhappy"' in page
    assert f'value="{of.pk}" selected' in page
    assert 'value="manual" selected' in page
    assert 'value="7d" selected' in page
    assert 'value="disk"' in page
    assert re.search(r'href="\?state=succeeded&amp;job=\d+&amp;trigger=manual&amp;time=7d', page)


def test_a_day_of_any_address_can_be_left_and_taken_again(viewer: Client) -> None:
    page = viewer.get("/daemon/runs/?time=2026-01-31").content.decode()

    assert 'value="2026-01-31" selected>' in page


def test_too_many_jobs_to_choose_from_are_not_listed(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon_app.views.runs.MOST_OFFERED", 2)
    numbers = [job(f"job {n}", now=timezone.now()).pk for n in range(3)]

    assert 'name="job"' not in viewer.get("/daemon/runs/").content.decode()
    chosen = viewer.get(f"/daemon/runs/?job={numbers[0]}").content.decode()
    assert f'<option value="{numbers[0]}" selected>job 0</option>' in chosen
    assert "job 1" not in chosen

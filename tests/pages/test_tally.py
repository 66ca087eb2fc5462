"""What the tab of a page tells, and what a page has missed while it was away."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from daemon_app import tiles
from daemon_app.models import Job, Run
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db

ENGLISH = tiles.Viewer(role="viewer", language="en")
MINUTE = timedelta(minutes=1)


def tally(now=NOON) -> str:
    return tiles.render("tally", None, ENGLISH, now) or ""


def told(now=NOON) -> list[tuple[str, str, str]]:
    """Return the news as (name, title, text)."""
    pattern = r'<a id="news-([^"]+)" href="[^"]+" title="([^"]*)" data-text="([^"]*)">'
    return [(name, title, text.strip()) for name, title, text in re.findall(pattern, tally(now))]


def ended(of: Job, state: str, now=NOON, **fields: Any) -> Run:
    facts = {"started_at": now - MINUTE, "ended_at": now, **fields}
    return run(of, now=now - MINUTE, state=state, **facts)


def test_the_tab_counts_what_needs_a_person_and_what_runs() -> None:
    ended(job("bad"), "failed")
    ended(job("good"), "succeeded")
    run(job("busy"), state="running", started_at=NOON)

    assert 'data-needs="1" data-running="1"' in tally()


def test_a_failure_is_news_for_ten_minutes_and_says_why() -> None:
    failure = ended(job("backup"), "failed", exit_code=3, last_line='no "disk" <here>')

    [(name, title, text)] = told()
    later = told(NOON + 11 * MINUTE)

    assert (name, title) == (f"bad-{failure.pk}", "backup: Failure")
    assert text.endswith("no &quot;disk&quot; &lt;here&gt;")
    assert later == []


def test_a_job_that_works_again_is_news_once_however_often_it_succeeds() -> None:
    backup = job("backup")
    failure = ended(backup, "failed", now=NOON - timedelta(days=1))
    ended(backup, "succeeded", now=NOON - MINUTE)
    first = told()
    ended(backup, "succeeded")

    assert [name for name, _, _ in first] == [f"good-{failure.pk}"]
    assert [name for name, _, _ in told()] == [f"good-{failure.pk}"]
    assert first[0][1] == "backup works again"


def test_a_job_that_has_worked_again_for_long_is_no_news() -> None:
    backup = job("backup")
    ended(backup, "failed", now=NOON - timedelta(days=6))
    ended(backup, "succeeded", now=NOON - timedelta(days=5))
    ended(backup, "succeeded", now=NOON - MINUTE)

    assert told() == []


def test_a_job_that_never_failed_is_no_news() -> None:
    ended(job("backup"), "succeeded")
    ended(job("by hand"), "cancelled")

    assert told() == []


def test_a_muted_job_tells_nothing() -> None:
    backup = job("backup")
    ended(backup, "failed")
    backup.mute(NOON + MINUTE, by="anna")

    muted = told()

    assert muted == []
    assert [title for _, title, _ in told(NOON + 2 * MINUTE)] == ["backup: Failure"]


def test_a_page_that_is_back_is_told_what_ended_and_how(viewer: Client) -> None:
    now = timezone.now()
    for state in ("succeeded", "failed", "timed_out"):
        ended(job(state), state, now=now - 2 * MINUTE)
    ended(job("before"), "failed", now=now - timedelta(hours=1))

    since = (now - 10 * MINUTE).isoformat()
    said = viewer.get(reverse("meanwhile"), {"since": since}).content.decode()

    words = " ".join(re.sub(r"<[^>]+>", "", said).split())
    assert words == "Wieder verbunden – in der Zwischenzeit 3 Läufe, 2 Fehlschläge"


@pytest.mark.parametrize("since", ["", "yesterday", "2026-13-45T00:00Z", "2026-11-24T12:00:00"])
def test_a_time_that_is_none_says_only_that_the_page_is_back(viewer: Client, since: str) -> None:
    ended(job("before"), "failed", now=timezone.now() - MINUTE)

    said = viewer.get(reverse("meanwhile"), {"since": since}).content.decode()

    assert " ".join(re.sub(r"<[^>]+>", "", said).split()) == "Wieder verbunden"


def test_what_is_told_costs_the_same_for_many_jobs(django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        ended(job(f"job {number}"), "failed")

    with django_assert_max_num_queries(16):
        tally()

"""The calendar in a real browser: every view, and the hours walked by arrow keys."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.stack import Stack

TOP = Path(__file__).resolve().parent.parent.parent
STORE = """
import sys, django
django.setup()
from django.utils import timezone
from daemon_app.models import Job

now = timezone.now()
for name, schedule, idle in (
    ("geplant-nachts", "0 3 * * *", False),
    ("ein-langer-name-der-in-keiner-spalte-platz-hat", "30 3 * * *", True),
    ("geplant-haeufig", "*/5 * * * *", False),
    ("geplant-werktags", "15 8-17 * * 1-5", False),
):
    Job.objects.filter(name=name).delete()
    if sys.argv[1] == "store":
        Job(
            name=name, job_type="cron", schedule=schedule, command="true", only_when_idle=idle
        ).store(now=now, by="anna")
"""


@pytest.fixture
def planner(page: Page, stack: Stack, signed_in: Callable[[Page], Page]) -> Iterator[Page]:
    """The calendar of some jobs, one of them frequent; they are gone after the test."""

    def write(what: str) -> None:
        env = {**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
        subprocess.run([sys.executable, "-c", STORE, what], env=env, cwd=TOP, check=True)

    write("store")
    signed_in(page).goto("/daemon/calendar/")
    yield page
    write("remove")


def test_the_calendar_is_sound_in_every_view(
    planner: Page,
    unsound: Callable[[Page, str], list[str]],
) -> None:
    day = planner.locator(".day h3 a").nth(2).get_attribute("href")
    found = []
    for name, address in (
        ("calendar", "/daemon/calendar/"),
        ("calendar-day", f"/daemon/calendar/{day}"),
        ("runs-time", "/daemon/runs/?time=7d"),
    ):
        planner.goto(address)
        found += unsound(planner, name)

    assert found == []


def test_arrow_keys_walk_the_hours_and_enter_opens_one(planner: Page) -> None:
    planner.set_viewport_size({"width": 1440, "height": 900})
    cell = planner.locator("[data-grid] tbody tr").nth(1).locator("td").nth(2).locator("a")

    cell.focus()
    planner.keyboard.press("ArrowRight")
    planner.keyboard.press("ArrowDown")

    expect(planner.locator("[data-grid] a[tabindex='0']")).to_have_count(1)
    there = planner.locator("[data-grid] tbody tr").nth(2).locator("td").nth(3).locator("a")
    expect(there).to_be_focused()
    planner.keyboard.press("Enter")
    planner.wait_for_url(re.compile(r"day=.*&hour=3"))
    expect(planner.get_by_role("heading", name="Geplante Starts ab 03:00 Uhr")).to_be_visible()
    expect(planner.locator(".starts-table")).to_contain_text("geplant-nachts")


def test_on_a_phone_the_keys_follow_the_picture(planner: Page) -> None:
    planner.set_viewport_size({"width": 390, "height": 844})
    cell = planner.locator("[data-grid] tbody tr").nth(1).locator("td").nth(2).locator("a")

    cell.focus()
    planner.keyboard.press("ArrowDown")
    planner.keyboard.press("ArrowRight")

    there = planner.locator("[data-grid] tbody tr").nth(2).locator("td").nth(3).locator("a")
    expect(there).to_be_focused()

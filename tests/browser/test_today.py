"""The timeline of the overview in a real browser: keys, signs beside bars, other views, phones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.stack import Stack

LIVE = 20_000  # ms; two cores, a browser and everything else beside it
TOP = Path(__file__).resolve().parent.parent.parent
STORE = """
import sys, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from daemon_app import live
from daemon_app.models import Job, Run

now = timezone.now()

def job(name):
    known = Job.objects.filter(name=name).first()
    fields = {"job_type": "manual", "command": "true", "timezone": "Europe/Berlin"}
    return known or Job(name=name, **fields).store(now=now, by="anna")

def ran(name, hours, minutes, state="succeeded"):
    of, at = job(name), now - timedelta(hours=hours)
    return Run.objects.create(
        job=of, job_name=name, trigger="manual", definition=of.definition(), due_at=at,
        queued_at=at, submitted_at=at, started_at=at, ended_at=at + timedelta(minutes=minutes),
        state=state,
    )

if sys.argv[1] == "day":
    for hours in (9, 6, 3):
        ran("aa-bilder-verschlagworten-aus-dem-ganzen-archiv", hours, 50)
    for hours in (8, 2):
        ran("ab-bericht", hours, 4, "failed")
    for n in range(9):
        ran(f"ac-weiterer-{n}", 5, 9)
else:
    ran("aa-bilder-verschlagworten-aus-dem-ganzen-archiv", 0.4, 5)
live.changed("runs")
"""


def store(stack: Stack, what: str) -> None:
    subprocess.run(
        [sys.executable, "-c", STORE, what],
        env={**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"},
        cwd=TOP,
        check=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def day(shared_stack: Stack) -> Stack:
    """A day on which something happened."""
    store(shared_stack, "day")
    return shared_stack


@pytest.fixture
def owner(page: Page, signed_in: Callable[[Page], Page], day: Stack) -> Page:
    return signed_in(page)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))


def lane(page: Page) -> str:
    script = "document.activeElement.closest('.bars')?.getAttribute('aria-label') ?? ''"
    return str(page.evaluate(script))


def test_arrow_keys_go_from_bar_to_bar_and_tab_stops_once(owner: Page) -> None:
    owner.goto("/daemon/")
    expect(owner.locator("#today .bar[tabindex='0']")).to_have_count(1)

    owner.locator("#today .bar[tabindex='0']").focus()
    while owner.evaluate("!!document.activeElement.closest('.lane').previousElementSibling"):
        before = lane(owner)
        owner.keyboard.press("ArrowUp")
        if lane(owner) == before:
            break
    assert lane(owner) == "ab-bericht"  # what has failed stands on top
    owner.keyboard.press("Home")
    first = focused(owner)
    owner.keyboard.press("ArrowRight")

    assert first.startswith("Fehlschlag")
    assert focused(owner) != first
    expect(owner.locator(".bar-tip")).to_be_visible()
    expect(owner.locator(".bar-tip")).to_have_text(f"ab-bericht{focused(owner)}")
    expect(owner.locator("#today .bar[tabindex='0']")).to_have_count(1)
    owner.keyboard.press("Escape")
    expect(owner.locator(".bar-tip")).to_be_hidden()
    owner.keyboard.press("Enter")
    owner.wait_for_url("**/daemon/runs/*/")


def test_another_view_changes_the_card_and_the_address_and_nothing_else(owner: Page) -> None:
    owner.goto("/daemon/")
    owner.evaluate("window.table = document.querySelector('[data-region^=running]')")

    owner.locator("#today-week").click()
    expect(owner.locator("#today-title")).to_have_text("Woche")
    expect(owner.locator("#today-week")).to_be_focused()
    owner.locator("#today-table").click()
    expect(owner.locator("#today table tbody tr").first).to_be_visible()

    assert owner.url.endswith("/daemon/?range=week&day=table")
    assert owner.evaluate("window.table === document.querySelector('[data-region^=running]')")
    owner.locator("nav.segments a[href*='state=failed']").click()  # the view stays
    owner.wait_for_url("**/daemon/?*state=failed*")
    expect(owner.locator("#today-title")).to_have_text("Woche")
    expect(owner.locator("#today table")).to_be_visible()


def test_of_two_views_the_one_asked_for_last_is_shown(owner: Page) -> None:
    owner.goto("/daemon/")
    late: list[Route] = []
    owner.route("**/daemon/?range=6h", lambda route: late.append(route))  # noqa: PLW0108 - it is marked

    with owner.expect_request("**/daemon/?range=6h"):
        owner.locator("#today-6h").click()
    owner.locator("#today-week").click()
    expect(owner.locator("#today-title")).to_have_text("Woche")
    for route in late:
        route.fulfill(
            content_type="text/html",
            body='<div id="today"><section id="today-range=6h"><h2>6</h2></section></div>',
        )
    owner.evaluate("fetch('/daemon/?range=week').then((answer) => answer.text())")

    expect(owner.locator("#today-title")).to_have_text("Woche")
    assert owner.url.endswith("?range=week")


def test_a_new_bar_comes_in_while_another_one_is_in_use(owner: Page, day: Stack) -> None:
    owner.goto("/daemon/?lanes=all")
    owner.locator("#today-6h").click()  # a view that was not there when the page was opened
    expect(owner.locator("html[data-live=on]")).to_have_count(1)
    expect(owner.locator("#today-title")).to_have_text("Sechs Stunden")
    bars = owner.locator("#today .bar")
    count = bars.count()
    bars.first.focus()
    name = focused(owner)

    store(day, "more")

    expect(bars).to_have_count(count + 1, timeout=LIVE)
    assert focused(owner) == name
    expect(owner.locator("#today .bar[tabindex='0']")).to_have_count(1)


def test_a_phone_begins_at_now_and_names_stay_in_view(owner: Page) -> None:
    owner.set_viewport_size({"width": 390, "height": 844})
    owner.goto("/daemon/")
    now = owner.locator("#today .now-sign rect").bounding_box()

    assert now
    assert 200 < now["x"] < 390
    name = owner.locator("#today .lane-name").nth(1).bounding_box()
    assert name
    assert 0 <= name["x"] < 40


def test_without_script_bars_are_links_and_the_table_is_there(
    owner: Page, context: BrowserContext, new_context: Callable[..., BrowserContext], day: Stack
) -> None:
    owner.goto("/daemon/")
    other = new_context(base_url=day.url, java_script_enabled=False)
    other.add_cookies(context.cookies())  # type: ignore[arg-type]
    page = other.new_page()
    page.goto("/daemon/")

    page.locator("#today-lanes").click()
    page.locator("#today-table").click()
    expect(page.locator("#today table tbody tr")).not_to_have_count(0)
    assert "lanes=all" in page.url
    page.locator("#today .bar.fail").first.click()

    page.wait_for_url("**/daemon/runs/*/")


def test_the_card_is_sound_in_every_view(
    owner: Page,
    unsound: Callable[[Page, str], list[str]],
) -> None:
    owner.goto("/daemon/?lanes=all&day=table")

    assert unsound(owner, "today") == []

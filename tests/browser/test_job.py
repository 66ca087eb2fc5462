"""A job in the browser: the menu of its row, its pause, its bars; also without script."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_pages import make_job
from tests.stack import Stack


@pytest.fixture
def author(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def test_a_row_has_a_menu_that_the_keyboard_opens_walks_and_leaves(
    author: Page, axe: Callable[[Page], list[str]]
) -> None:
    make_job(author, "mit-menue", "true")
    author.goto("/daemon/jobs/?q=mit-menue")
    more = author.get_by_role("link", name="mit-menue: weitere Aktionen")

    more.press("Enter")
    menu = author.locator("#row-menu")
    expect(menu.get_by_role("button", name="Starten")).to_be_focused()
    author.keyboard.press("ArrowDown")
    expect(menu.get_by_role("button", name="Für eine Stunde")).to_be_focused()
    assert not axe(author)
    author.keyboard.press("Escape")

    expect(menu).to_be_hidden()
    expect(more).to_be_focused()


def test_a_menu_that_the_pointer_closed_is_opened_by_the_keyboard(author: Page) -> None:
    make_job(author, "zu-und-auf", "true")
    author.goto("/daemon/jobs/?q=zu-und-auf")
    more = author.get_by_role("link", name="zu-und-auf: weitere Aktionen")
    menu = author.locator("#row-menu")
    more.click()
    expect(menu).to_be_visible()
    more.click()
    expect(menu).to_be_hidden()

    more.press("Enter")

    expect(menu).to_be_visible()


def test_a_pause_from_the_menu_is_shown_in_the_row_and_taken_back_by_the_toast(
    author: Page,
) -> None:
    make_job(author, "kurz-weg", "true")
    author.goto("/daemon/jobs/?q=kurz-weg")
    row = author.get_by_role("row").filter(has_text="kurz-weg")

    author.get_by_role("link", name="kurz-weg: weitere Aktionen").click()
    author.locator("#row-menu").get_by_role("button", name="Bis morgen 08:00").click()
    expect(row.get_by_text("Pausiert")).to_be_visible()
    expect(row.locator(".c-next")).to_have_text(re.compile(r"^bis .*08:00$"))
    author.get_by_role("status").get_by_role("button", name="Rückgängig").click()

    expect(row.get_by_text("Pausiert")).to_have_count(0)


def test_columns_go_and_come_and_are_kept(author: Page) -> None:
    make_job(author, "mit-spalten", "true")
    author.goto("/daemon/jobs/?q=mit-spalten")

    author.locator(".columns-menu > summary").click()
    with author.expect_response("**/jobs/columns/"):
        author.get_by_label("Zeitplan").uncheck()
    expect(author.get_by_role("columnheader", name="Zeitplan")).to_be_hidden()
    author.reload()

    expect(author.get_by_role("columnheader", name="Letzte 30 Läufe")).to_be_visible()
    expect(author.get_by_role("columnheader", name="Zeitplan")).to_be_hidden()


def test_bars_are_walked_by_arrow_keys_and_lead_to_their_runs(
    author: Page,
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
) -> None:
    run = make_job(author, "mit-balken", "true", start=True)
    expect(author.get_by_text("Fertig").first).to_be_visible()
    author.get_by_role("button", name="Erneut starten").click()
    author.wait_for_url(lambda url: url != run)
    expect(author.get_by_text("Fertig").first).to_be_visible()
    author.locator("main a[href^='/daemon/jobs/']").first.click()
    bars = author.locator("#bars-lengths a")
    expect(bars).to_have_count(2)

    bars.last.focus()
    author.keyboard.press("ArrowLeft")
    expect(bars.first).to_be_focused()
    for view in in_all_views(author):
        assert overflow(author) == 0, view
    assert not axe(author)
    bars.first.press("Enter")

    author.wait_for_url(run)


def test_without_script_the_menu_is_a_page_and_a_pause_has_a_note(
    browser: Browser, stack: Stack, author: Page
) -> None:
    make_job(author, "schlicht", "true")
    plain = browser.new_context(base_url=stack.url, locale="de-DE", java_script_enabled=False)
    plain.add_cookies(author.context.cookies())  # type: ignore[arg-type]
    page = plain.new_page()
    page.goto("/daemon/jobs/?q=schlicht")

    page.get_by_role("link", name="schlicht: weitere Aktionen").click()
    day = (timezone.now() + timedelta(days=9)).date()
    page.get_by_label("Oder bis").fill(f"{day}T08:00")
    page.get_by_label("Notiz").fill("Platte wird getauscht")
    page.get_by_role("button", name="Bis dahin pausieren").click()

    expect(page.get_by_text("Pausiert von owner: „Platte wird getauscht“")).to_be_visible()
    plain.close()

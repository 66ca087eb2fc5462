"""Palette, keys, and what a browser keeps for itself."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test import RequestFactory
from playwright.sync_api import Locator, Page, Route, expect

from daemon_app.views import errors
from tests.browser.conftest import Complaints
from tests.browser.test_pages import make_job


@pytest.fixture
def author(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def palette(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Suche und Befehle")


def chosen(page: Page) -> Locator:
    """The option that Enter would take: the one the field points at."""
    named = page.get_by_role("combobox").get_attribute("aria-activedescendant")
    return page.locator(f"#{named}[role=option][aria-selected=true]")


def test_the_palette_finds_jobs_and_runs_and_leads_there(author: Page) -> None:
    run = make_job(author, "palette-findet", "true", start=True)
    number = re.findall(r"\d+", run)[-1]
    author.goto("/daemon/system/")
    ask = author.get_by_role("combobox")

    author.keyboard.press("Control+k")
    expect(ask).to_be_focused()
    ask.fill("findet pal")
    expect(author.get_by_role("group", name="Jobs").get_by_role("option")).to_have_count(1)
    expect(chosen(author)).to_contain_text("palette-findet")
    ask.press("Enter")

    author.wait_for_url("**/daemon/jobs/*/")  # and the scripts of that page
    expect(author.get_by_role("heading", name="palette-findet")).to_be_visible()
    author.keyboard.press("Control+k")
    ask.fill(number)
    expect(chosen(author)).to_contain_text(f"Lauf {number} von palette-findet")
    ask.press("Enter")
    author.wait_for_url(run)


def test_the_palette_knows_the_pages_and_what_can_be_done_on_this_one(author: Page) -> None:
    job = make_job(author, "palette-tut", "true")
    ask = author.get_by_role("combobox")

    author.keyboard.press("Control+k")
    here = author.get_by_role("group", name="Auf dieser Seite").get_by_role("option")
    expect(here.filter(has_text="Starten")).to_have_count(1)
    ask.fill("einst")
    expect(chosen(author)).to_have_text("Einstellungen")
    ask.press("Enter")

    author.wait_for_url("**/daemon/settings/")
    author.keyboard.press("Control+k")
    ask.fill("palette-tut")
    start = author.get_by_role("option", name="palette-tut starten")
    start.click()
    expect(author.locator("[data-toast]")).to_contain_text("palette-tut gestartet")
    assert author.url.endswith("/settings/")

    author.keyboard.press("Control+k")
    ask.fill("tok")
    expect(chosen(author)).to_have_text("Token")
    ask.press("Enter")
    author.wait_for_url("**/daemon/tokens/")
    author.goto(job)
    expect(author.locator("[id^=run-row-]")).to_have_count(1)


HOLD_FETCHES = """() => {
  const real = window.fetch;
  window.held = [];
  window.fetch = (address, options = {}) => new Promise((done, fail) => {
    options.signal?.addEventListener('abort', () => fail(options.signal.reason));
    window.held.push(() => real(address).then(done));
  });
}"""


def test_a_late_answer_of_the_palette_does_not_push_away_what_is_chosen(author: Page) -> None:
    make_job(author, "palette-spaet", "true", start=True)
    author.clock.install()
    author.goto("/daemon/system/")
    author.evaluate(HOLD_FETCHES)
    ask = author.get_by_role("combobox")

    author.keyboard.press("Control+k")
    ask.fill("einst")
    author.evaluate("window.held[0]()")  # the latest runs, which nobody asks for any more

    expect(chosen(author)).to_have_text("Einstellungen")
    ask.press("Enter")
    author.wait_for_url("**/daemon/settings/")


def test_the_palette_is_operable_and_gives_the_focus_back(
    author: Page,
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
    screenshot: Callable[..., Path],
) -> None:
    author.goto("/daemon/jobs/")
    opener = author.locator(".topbar [data-theme-switch]")
    opener.focus()
    found = []

    for view in in_all_views(author):
        author.keyboard.press("Control+k")
        expect(author.get_by_role("option").first).to_be_visible()
        screenshot(author, f"palette-{view}")
        found += [f"palette {view}: {one}" for one in axe(author)]
        found += [f"palette {view}: moves sideways"] if overflow(author) else []
        author.keyboard.press("ArrowDown")
        expect(chosen(author)).to_have_count(1)
        author.keyboard.press("Escape")
        author.keyboard.press("?")
        expect(author.get_by_role("dialog", name="Tasten")).to_be_visible()
        screenshot(author, f"keys-{view}")
        found += [f"keys {view}: {one}" for one in axe(author)]
        author.keyboard.press("Escape")
        if view.startswith("desktop"):
            expect(opener).to_be_focused()

    assert found == []


def test_on_a_phone_the_magnifying_glass_opens_it(author: Page) -> None:
    author.set_viewport_size({"width": 390, "height": 844})
    author.goto("/daemon/")

    author.locator(".topbar").get_by_role("link", name="Suchen").click()
    author.get_by_role("combobox").fill("gibtesnicht")

    expect(palette(author)).to_contain_text("Kein Treffer für „gibtesnicht“.")
    author.get_by_role("option", name="auflisten").click()
    author.wait_for_url("**/daemon/jobs/?q=gibtesnicht")


def test_what_the_server_does_not_answer_is_said(author: Page, complaints: Complaints) -> None:
    complaints.tolerate("status of 503")
    author.goto("/daemon/")
    author.route("**/daemon/find/**", lambda route: route.fulfill(status=503, body=""))

    author.keyboard.press("Control+k")

    expect(palette(author)).to_contain_text("Der Server antwortet nicht")
    author.get_by_role("combobox").fill("system")
    expect(chosen(author)).to_have_text("System")


def test_keys_lead_from_page_to_page(author: Page) -> None:
    author.goto("/daemon/")

    for keys, address in (("gj", "jobs/"), ("gl", "runs/"), ("gs", "system/"), ("gu", "")):
        for key in keys:
            author.keyboard.press(key)
        author.wait_for_url(f"**/daemon/{address}")

    author.keyboard.press("n")
    author.wait_for_url("**/daemon/jobs/new/")


def test_keys_go_through_the_rows_and_do_what_the_row_offers(author: Page) -> None:
    make_job(author, "zeile-a", "true")
    make_job(author, "zeile-b", "true")
    author.goto("/daemon/jobs/?q=zeile-")
    first = author.get_by_role("link", name="zeile-a", exact=True)

    author.keyboard.press("j")
    expect(first).to_be_focused()
    author.keyboard.press("ArrowDown")
    expect(author.get_by_role("link", name="zeile-b", exact=True)).to_be_focused()
    author.keyboard.press("k")
    author.keyboard.press("p")
    expect(author.locator("tr", has=first)).to_contain_text("Pausiert")
    author.keyboard.press("r")
    expect(author.locator("[data-toast]").last).to_contain_text("zeile-a gestartet")
    author.keyboard.press("Enter")
    author.wait_for_url("**/daemon/jobs/*/")
    expect(author.get_by_role("heading", name="zeile-a")).to_be_visible()
    author.keyboard.press("e")
    author.wait_for_url("**/edit/")


def test_marked_jobs_are_paused_together(author: Page) -> None:
    make_job(author, "auswahl-a", "true")
    make_job(author, "auswahl-b", "true")
    author.goto("/daemon/jobs/?q=auswahl-")

    for key in "jxjx":
        author.keyboard.press(key)
    expect(author.get_by_text("2 Jobs ausgewählt.")).to_be_visible()
    author.keyboard.press("p")

    expect(author.locator("tr", has_text="Pausiert")).to_have_count(2)
    expect(author.get_by_text("ausgewählt.")).to_be_hidden()


def test_keys_are_no_keys_in_fields_and_can_be_switched_off(author: Page) -> None:
    author.goto("/daemon/runs/")
    author.keyboard.press("/")
    expect(author.locator("#content input[type=search]")).to_be_focused()
    author.goto("/daemon/settings/")
    author.keyboard.press("/")
    field = author.locator(".topbar input[type=search]")
    expect(field).to_be_focused()
    author.keyboard.type("ngj?")
    expect(field).to_have_value("ngj?")
    assert author.url.endswith("/settings/")

    author.get_by_label("Tasten aus einem Buchstaben").uncheck()
    author.get_by_role("heading", name="Dieser Browser").click()
    author.keyboard.press("?")
    author.keyboard.press("Control+k")

    expect(palette(author)).to_be_visible()
    expect(author.get_by_role("dialog", name="Tasten")).to_be_hidden()
    author.reload()
    expect(author.get_by_label("Tasten aus einem Buchstaben")).not_to_be_checked()


def test_a_browser_has_its_own_theme_and_language(
    author: Page, axe: Callable[[Page], list[str]], screenshot: Callable[..., Path]
) -> None:
    author.goto("/daemon/settings/")

    author.get_by_role("radio", name="dunkel").check()
    expect(author.locator("html")).to_have_attribute("data-theme", "dark")
    author.get_by_role("button", name="English").last.click()

    expect(author.get_by_role("heading", name="This browser")).to_be_visible()
    expect(author.locator("html")).to_have_attribute("lang", "en")
    expect(author.get_by_role("radio", name="dark")).to_be_checked()
    expect(author.locator(".topbar time")).to_contain_text(re.compile(r"^[A-Z][a-z]{2}, \d"))
    screenshot(author, "settings-english", full_page=True)
    assert axe(author) == []


def test_a_page_that_had_to_wait_loads_itself_once_the_server_is_ready(
    author: Page, complaints: Complaints, axe: Callable[[Page], list[str]]
) -> None:
    complaints.tolerate("status of 503")
    not_ready = errors.not_ready(RequestFactory().get("/daemon/system/")).content.decode()
    asked = []

    def answer(route: Route) -> None:
        asked.append(route.request.resource_type)
        if len(asked) < 2:
            route.fulfill(status=503, content_type="text/html", body=not_ready)
        else:
            route.continue_()

    author.route("**/daemon/system/", answer)
    author.goto("/daemon/system/")
    expect(author.get_by_role("heading", name="noch nicht bereit")).to_be_visible()
    assert axe(author) == []

    expect(author.get_by_role("navigation", name="Hauptnavigation")).to_be_visible(timeout=20_000)
    assert asked[:2] == ["document", "fetch"]


def test_the_search_form_does_without_script(
    new_context: Callable[..., object], author: Page, stack: object
) -> None:
    author.goto("/daemon/")
    context = new_context(
        base_url=author.url.partition("/daemon")[0],
        java_script_enabled=False,
        storage_state=author.context.storage_state(),
    )
    page: Page = context.new_page()  # type: ignore[attr-defined]

    page.goto("/daemon/")
    page.get_by_role("searchbox", name="Jobs suchen").fill("gibtesnicht")
    page.keyboard.press("Enter")

    page.wait_for_url("**/daemon/jobs/?q=gibtesnicht")
    expect(page.locator("[data-palette]").first).to_be_hidden()

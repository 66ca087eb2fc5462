"""Every page in every view, and the manners of the form: preview, draft, quick picks, theme."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Complaints

NEW = "/daemon/jobs/new/"


def make_job(page: Page, name: str, command: str, *, start: bool = False) -> str:
    """Create a job started by hand and return the address one lands at: its page, or its run."""
    page.goto(NEW)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Befehl", exact=True).fill(command)
    page.get_by_text("Von Hand", exact=True).click()
    page.get_by_role(
        "button", name="Anlegen und gleich starten" if start else "Job anlegen"
    ).click()
    page.wait_for_url(re.compile(r"/(jobs|runs)/\d+/$"))
    return page.url


@pytest.fixture
def author(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def test_every_page_is_sound_in_every_view(
    author: Page,
    complaints: Complaints,
    unsound: Callable[[Page, str], list[str]],
) -> None:
    complaints.tolerate("status of 404")
    colours = r"printf '\033[31mrot\033[0m \033[1;44mblau\033[0m\n'; echo fehler >&2; exit 3"
    run = make_job(author, "ein-langer-name-der-auf-keinem-telefon-platz-hat", colours, start=True)
    expect(author.get_by_text("Fehlschlag").first).to_be_visible(timeout=20_000)
    job = make_job(author, "seiten", "true")
    pages = {
        "overview": "/daemon/",
        "jobs": "/daemon/jobs/",
        "nothing-found": "/daemon/jobs/?q=gibtesnicht",
        "job": job,
        "new": NEW,
        "edit": f"{job}edit/",
        "delete": f"{job}delete/",
        "runs": "/daemon/runs/",
        "run": run,
        "missing": "/daemon/jobs/4711/",
    }

    found = []
    for name, address in pages.items():
        author.goto(address)
        found += unsound(author, name)

    assert found == []


def test_the_preview_follows_the_typing_and_leaves_the_field_alone(author: Page) -> None:
    author.goto(NEW)
    schedule = author.get_by_role("textbox", name="Zeitplan")
    author.evaluate("window.before = document.getElementById('id_schedule')")

    schedule.press_sequentially("30 3 * * MON-FRI", delay=15)
    expect(author.locator("#preview")).to_contain_text("Montag bis Freitag um 03:30 Uhr")
    schedule.press("Backspace")
    schedule.press("Backspace")

    expect(author.locator("#preview .remark")).to_be_visible()
    expect(schedule).to_be_focused()
    expect(schedule).to_have_value("30 3 * * MON-F")
    assert author.evaluate("window.before === document.getElementById('id_schedule')")


def test_each_kind_of_schedule_keeps_what_was_typed_for_it(author: Page) -> None:
    author.goto(NEW)
    schedule = author.get_by_role("textbox", name="Zeitplan")
    schedule.fill("0 4 * * *")

    author.get_by_text("Alle …", exact=True).click()
    expect(schedule).to_have_value("")
    schedule.fill("90m")
    author.get_by_text("Von Hand", exact=True).click()
    expect(schedule).to_be_hidden()
    expect(author.locator("#preview")).to_contain_text("nie von selbst")
    author.get_by_role("group", name="Wann startet er?").get_by_text("Zeitplan").click()

    expect(schedule).to_have_value("0 4 * * *")
    expect(author.locator("#preview")).to_contain_text("04:00")


def test_a_quick_pick_fills_in_and_enter_saves(author: Page) -> None:
    author.goto(NEW)
    author.get_by_label("Befehl", exact=True).fill("true")
    author.get_by_role("button", name="werktags 08:00").click()
    expect(author.locator("#preview")).to_contain_text("Montag bis Freitag um 08:00 Uhr")

    author.get_by_label("Name", exact=True).fill("mit-der-eingabetaste")
    author.keyboard.press("Enter")

    author.wait_for_url(re.compile(r"/jobs/\d+/$"))
    expect(author.get_by_text("Montag bis Freitag um 08:00 Uhr").first).to_be_visible()


def test_a_draft_survives_a_reload_and_goes_when_it_is_saved(author: Page) -> None:
    author.goto(NEW)
    author.get_by_label("Name", exact=True).fill("entwurf")
    author.get_by_label("Befehl", exact=True).fill("echo 'Zeile 1'\necho 'Zeile 2'")
    author.get_by_text("Von Hand", exact=True).click()

    author.reload()

    expect(author.get_by_text("Entwurf", exact=False).last).to_be_visible()
    expect(author.get_by_label("Name", exact=True)).to_have_value("entwurf")
    expect(author.get_by_label("Befehl", exact=True)).to_have_value(
        "echo 'Zeile 1'\necho 'Zeile 2'"
    )
    author.get_by_role("button", name="Job anlegen").click()
    author.wait_for_url(re.compile(r"/jobs/\d+/$"))
    author.goto(NEW)
    expect(author.get_by_label("Name", exact=True)).to_have_value("")


def test_a_draft_replaces_no_change_that_was_made_since(
    author: Page, complaints: Complaints
) -> None:
    complaints.tolerate("422")
    address = make_job(author, "zwei-haende", "true")
    author.goto(f"{address}edit/")
    author.get_by_label("Befehl", exact=True).fill("echo alt")
    author.goto(address)
    author.locator("#pause > summary").click()
    author.get_by_role("button", name="Bis auf Weiteres").click()
    expect(author.get_by_role("status").get_by_text("bis auf Weiteres pausiert")).to_be_visible()

    author.goto(f"{address}edit/")
    expect(author.get_by_label("Befehl", exact=True)).to_have_value("echo alt")
    author.get_by_role("button", name="Speichern", exact=True).click()

    expect(author.get_by_text("Es wurde nichts gespeichert", exact=False).first).to_be_visible()


def test_a_discarded_draft_is_gone(author: Page) -> None:
    author.goto(NEW)
    author.get_by_label("Name", exact=True).fill("verworfen")
    author.reload()

    author.get_by_role("button", name="Verwerfen").click()

    expect(author.get_by_label("Name", exact=True)).to_have_value("")
    author.reload()
    expect(author.get_by_label("Name", exact=True)).to_have_value("")


def test_a_button_acts_without_leaving_the_page_and_the_page_shows_it(author: Page) -> None:
    address = make_job(author, "bleibt-hier", "true")
    expect(author.locator("html")).to_have_attribute("data-live", "on")
    author.evaluate("window.stayed = true")

    author.locator("#pause > summary").click()
    author.get_by_role("button", name="Bis auf Weiteres").click()

    expect(author.get_by_role("status").get_by_text("bis auf Weiteres pausiert")).to_be_visible()
    expect(author.get_by_role("button", name="Fortsetzen")).to_be_visible()
    assert author.evaluate("window.stayed")
    assert author.url == address


def test_where_no_server_answers_a_button_says_so_and_the_page_stays(
    author: Page, complaints: Complaints
) -> None:
    complaints.tolerate("ERR_CONNECTION_REFUSED")
    address = make_job(author, "unerreichbar", "true")
    author.route("**/start/", lambda route: route.abort("connectionrefused"))

    author.get_by_role("button", name="Starten").click()

    expect(author.locator(".toast.is-warn")).to_contain_text("Der Server antwortet nicht")
    expect(author.get_by_role("heading", name="unerreichbar")).to_be_visible()
    assert author.url == address


def test_a_job_that_is_deleted_elsewhere_leaves_word(author: Page, context: BrowserContext) -> None:
    run = make_job(author, "bald-weg", "echo da", start=True)
    expect(author.get_by_text("Fertig").first).to_be_visible(timeout=20_000)
    author.get_by_role("link", name="Zum Job").click()
    expect(author.locator("html[data-live=on]")).to_have_count(1)
    watcher = context.new_page()
    watcher.goto(run)
    expect(watcher.locator("html[data-live=on]")).to_have_count(1)

    other = context.new_page()
    other.goto(f"{author.url}delete/")
    other.get_by_role("button", name="Löschen").click()

    expect(author.get_by_role("heading", name="Dieser Job wurde gelöscht")).to_be_visible()
    expect(author.get_by_text("Was er tut")).to_have_count(0)
    expect(watcher.get_by_role("heading", name="Dieser Lauf wurde gelöscht")).to_be_visible()


def test_the_theme_is_kept_and_set_before_anything_is_drawn(author: Page) -> None:
    author.goto("/daemon/")
    switch = author.locator("button[data-theme-switch]").first
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = author.evaluate(ground)

    switch.click()  # light
    switch.click()  # dark

    expect(switch).to_have_attribute("aria-label", "Darstellung: dunkel")
    dark = author.evaluate(ground)
    assert dark != light
    author.reload(wait_until="commit")
    author.wait_for_function("document.body")
    assert author.evaluate(ground) == dark

"""The first five minutes of somebody who has just installed it, and the form that helps them."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Complaints
from tests.stack import Stack

START = 30_000  # ms; two cores, a browser and everything else beside it
NEW = "/daemon/jobs/new/"


@pytest.fixture
def author(context: BrowserContext, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(context.new_page())


def test_the_first_five_minutes(
    fresh_stack: Stack, context: BrowserContext, axe: Callable[[Page], list[str]]
) -> None:
    page = context.new_page()
    page.goto(fresh_stack.login_link())
    page.wait_for_url("**/daemon/")

    # The empty overview teaches what a job is, and offers three.
    expect(page.get_by_text("Ein Job ist ein Befehl, der nach Plan")).to_be_visible()
    assert axe(page) == []
    page.get_by_role("button", name="Alle drei anlegen, ausgeschaltet").click()

    # They appear without a reload, and none of them starts.
    expect(page.get_by_text("Angelegt und ausgeschaltet")).to_be_visible()
    table = page.locator("[data-region^='jobs-table']")
    expect(table.get_by_text("Pausiert", exact=True).first).to_be_visible()
    for name in ("backup-daily", "token-check", "cleanup"):
        expect(table.get_by_role("link", name=name, exact=True)).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    assert axe(page) == []
    page.set_viewport_size({"width": 1440, "height": 900})

    # One is looked at, tried by hand, and turns green.
    table.get_by_role("link", name="token-check", exact=True).click()
    page.get_by_role("button", name="Starten").first.click()
    ended = page.locator("[data-region^='job-runs']").get_by_text("Fertig", exact=True)
    expect(ended.first).to_be_visible(timeout=START)

    # Then it is switched on.
    page.get_by_role("link", name="Bearbeiten").first.click()
    expect(page.locator("#check")).to_contain_text("das Python des Daemons")
    expect(page.locator("#preview")).to_contain_text("Alle 30 Minuten")
    page.get_by_label("Aktiv", exact=True).check()
    page.get_by_role("button", name="Speichern", exact=True).click()
    expect(page.locator("[data-region^='job-next']").get_by_role("listitem").first).to_be_visible()

    # A job of one's own begins with a template.
    page.get_by_role("link", name="Neuer Job").first.click()
    page.locator("#gallery > summary").click()
    page.get_by_role("link", name=re.compile("^Nach Updates sehen")).click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("updates-check")
    expect(page.get_by_text("Lassen Sie die Zeile stehen")).to_be_visible()
    page.get_by_label("Befehl", exact=True).fill("echo alles neu")
    page.get_by_role("button", name="Anlegen und gleich starten").click()
    expect(page.locator("[data-log-lines]")).to_contain_text("alles neu", timeout=START)
    expect(page.locator("[data-region^='run-head']")).to_contain_text("Fertig", timeout=START)


def test_the_command_is_looked_at_while_it_is_typed_and_nothing_is_disturbed(
    author: Page, axe: Callable[[Page], list[str]]
) -> None:
    author.goto(NEW)
    command = author.get_by_label("Befehl", exact=True)
    command.press_sequentially("gibt-es-nicht | sh", delay=10)

    found = author.locator("#check")
    expect(found).to_contain_text("Liegt in keinem Ordner von PATH")
    expect(command).to_be_focused()
    expect(command).to_have_value("gibt-es-nicht | sh")
    expect(author.locator("#preview")).to_contain_text("erscheinen die nächsten fünf")

    author.locator("#fold-what > summary").click()
    author.get_by_label("Arbeitsordner").fill("/gibt/es/auch/nicht")
    expect(found).to_contain_text("keinen Ordner /gibt/es/auch/nicht")
    author.get_by_label("Arbeitsordner").fill("")
    command.fill("sh -c 'true'")
    expect(found).to_contain_text("Alles da")
    assert axe(author) == []


def test_the_line_of_the_rules_follows_what_is_typed(author: Page) -> None:
    author.goto(NEW)
    line = author.locator("#rules-line")
    expect(line).to_contain_text("Höchstens 5 Min.")

    author.locator("#rules > summary").focus()
    author.keyboard.press("Enter")
    author.keyboard.press("Tab")
    expect(author.locator("#id_timeout_seconds")).to_be_focused()
    author.keyboard.type("2h")
    expect(line).to_contain_text("Höchstens 2 Std.")


def test_a_template_keeps_a_draft_of_its_own(author: Page) -> None:
    author.goto(NEW)
    author.get_by_label("Name", exact=True).fill("angefangen")
    author.get_by_label("Befehl", exact=True).fill("gibt-es-nirgends")
    author.locator("#gallery > summary").click()
    author.get_by_role("link", name=re.compile("^Logs rotieren")).click()
    expect(author.get_by_label("Name", exact=True)).to_have_value("log-rotation")
    author.get_by_label("Befehl", exact=True).fill("logrotate meine.conf")
    author.locator("#gallery > summary").click()
    author.get_by_role("link", name="Leer beginnen").click()

    expect(author.get_by_label("Name", exact=True)).to_have_value("angefangen")
    expect(author.locator("#check")).to_contain_text("gibt-es-nirgends")
    author.goto(f"{NEW}?starter=log-rotation")
    expect(author.get_by_label("Befehl", exact=True)).to_have_value("logrotate meine.conf")


def test_what_is_wrong_in_a_fold_is_led_to(author: Page, complaints: Complaints) -> None:
    complaints.tolerate("422")
    author.goto(NEW)
    author.get_by_label("Name", exact=True).fill("falsch")
    author.get_by_label("Befehl", exact=True).fill("true")
    author.get_by_text("Von Hand", exact=True).click()
    author.locator("#rules > summary").click()
    author.get_by_role("textbox", name="Zeitlimit").fill("bald")
    author.get_by_role("button", name="Job anlegen").click()

    author.locator(".error-summary").get_by_role("link", name="Zeitlimit").click()

    expect(author.get_by_role("textbox", name="Zeitlimit")).to_be_focused()
    expect(author.locator("#rules")).to_have_attribute("open", "")
    expect(author.locator("#conditions")).not_to_have_attribute("open", "")

    # What is being mended is no longer called wrong.
    wrong = author.locator("#rules .error")
    expect(wrong).to_have_count(1)
    author.get_by_role("textbox", name="Zeitlimit").fill("5m")
    expect(wrong).to_have_count(0)
    expect(author.locator("[aria-invalid]")).to_have_count(0)

"""Conditions, their reasons and the way round them, as people see and use them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import Complaints
from tests.browser.test_pages import NEW
from tests.stack import Stack

START = 30_000  # ms


@pytest.fixture
def owner(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def section(page: Page) -> Locator:
    return page.locator("#conditions")


def opened(page: Page) -> Page:
    """Open the conditions of the form that the page shows."""
    page.get_by_role("heading", name="Bedingungen").click()
    expect(page.get_by_label("Nur im Leerlauf")).to_be_visible()
    return page


def make(page: Page, name: str) -> None:
    """Make and start a job for idle times: somebody is here, so it waits."""
    page.goto(NEW)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Befehl", exact=True).fill("echo endlich; sleep 60")
    page.get_by_text("Von Hand", exact=True).click()
    opened(page).get_by_label("Nur im Leerlauf").check()
    page.get_by_role("button", name="Anlegen und gleich starten").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))


def test_the_section_is_one_line_that_says_what_was_asked_for(owner: Page) -> None:
    owner.goto(NEW)
    expect(section(owner)).not_to_have_attribute("open", "")
    expect(owner.locator("#conditions-line")).to_have_text(
        "keine – er startet, sobald er fällig ist"
    )

    opened(owner).get_by_label("Nur im Leerlauf").check()
    owner.get_by_label("VRAM mindestens").fill("8 GB")
    owner.get_by_label("Nur zu diesen Zeiten").fill("22-6")
    owner.get_by_label("Ollama", exact=True).check()

    line = owner.locator("#conditions-line")
    expect(line).to_contain_text("Nur im Leerlauf · macht Platz · mind. 8\u00a0GB VRAM")
    expect(line).to_contain_text("Ollama antwortet · täglich 22:00–06:00 Uhr")
    expect(owner.get_by_label("Nur zu diesen Zeiten")).to_have_value("22-6")


def test_a_job_for_idle_times_makes_way_once_that_is_ticked(owner: Page) -> None:
    owner.goto(NEW)
    opened(owner)
    stays, yields = (owner.get_by_label(name) for name in ("läuft weiter", "macht Platz und"))
    expect(stays).to_be_checked()

    owner.get_by_label("Nur im Leerlauf").check()
    expect(yields).to_be_checked()
    owner.get_by_label("Nur im Leerlauf").uncheck()
    expect(stays).to_be_checked()

    owner.get_by_label("wird beendet").check()
    owner.get_by_label("Nur im Leerlauf").check()
    expect(owner.get_by_label("wird beendet")).to_be_checked()


def test_times_are_told_while_they_are_typed_and_refused_with_the_way_out(
    owner: Page, complaints: Complaints
) -> None:
    complaints.tolerate("422")
    owner.goto(NEW)
    times = opened(owner).get_by_label("Nur zu diesen Zeiten")

    times.press_sequentially("werktags 22-6", delay=20)
    said = owner.locator("#opening")
    expect(said).to_contain_text("Montag bis Freitag 22:00–06:00 Uhr, ")
    expect(said).to_contain_text(re.compile("öffnet|jetzt offen bis"))
    expect(times).to_be_focused()
    times.fill("22-22")
    expect(said).to_contain_text("öffnet nie")
    expect(said).to_have_class(re.compile("is-fail"))

    owner.get_by_label("Name", exact=True).fill("nie")
    owner.get_by_label("Befehl", exact=True).fill("true")
    owner.get_by_text("Von Hand", exact=True).click()
    owner.get_by_role("button", name="Job anlegen").click()
    expect(section(owner)).to_have_attribute("open", "")
    owner.get_by_role("link", name="Nur zu diesen Zeiten").click()
    expect(owner.get_by_label("Nur zu diesen Zeiten")).to_be_focused()


def test_what_was_typed_there_survives_a_reload(owner: Page) -> None:
    owner.goto(NEW)
    opened(owner).get_by_label("Ollama", exact=True).check()
    owner.get_by_label("Nur zu diesen Zeiten").fill("22-6")
    expect(owner.locator("#conditions-line")).to_contain_text("täglich 22:00")

    owner.reload()

    expect(owner.get_by_text("Ihr Entwurf")).to_be_visible()
    expect(section(owner)).to_have_attribute("open", "")
    expect(owner.get_by_label("Ollama", exact=True)).to_be_checked()
    expect(owner.get_by_label("GPU-Dienst", exact=True)).not_to_be_checked()
    expect(owner.locator("#conditions-line")).to_contain_text("Ollama antwortet · täglich 22:00")


def test_without_script_conditions_are_set_as_well(
    browser: Browser, stack: Stack, owner: Page
) -> None:
    cookies = owner.context.cookies()
    plain: BrowserContext = browser.new_context(
        base_url=stack.url, locale="de-DE", java_script_enabled=False
    )
    plain.add_cookies(cookies)  # type: ignore[arg-type]
    page = plain.new_page()
    page.goto(NEW)
    page.get_by_label("Name", exact=True).fill("nachts-ohne-skript")
    page.get_by_label("Befehl", exact=True).fill("true")
    page.get_by_text("Von Hand", exact=True).click()
    opened(page).get_by_label("Nur im Leerlauf").check()

    page.get_by_role("button", name="Job anlegen").click()

    expect(page.get_by_text("Nur im Leerlauf · macht Platz")).to_be_visible()
    plain.close()


def test_a_run_waits_says_why_and_is_started_all_the_same(owner: Page) -> None:
    make(owner, "traeumer")
    expect(owner.get_by_role("heading", name="Warum wartet er?")).to_be_visible()
    expect(owner.locator(".why-card .sentence")).to_contain_text("Wartet", timeout=START)
    owner.get_by_text(re.compile(r"Alle \d+ Regeln")).click()
    expect(owner.locator(".rules-list li", has_text="Nicht angehalten")).to_contain_text("erfüllt")

    owner.get_by_role("link", name=re.compile("in der Warteschlange$")).click()
    force = owner.get_by_role("button", name=re.compile(r"^traeumer, Lauf \d+: trotzdem starten$"))
    force.focus()
    owner.keyboard.press("Enter")

    expect(owner.get_by_role("status").get_by_text("startet trotzdem")).to_be_visible()
    expect(owner.locator(".line .name", has_text="traeumer")).to_have_count(0, timeout=START)
    owner.goto("/daemon/jobs/")
    owner.get_by_role("link", name="traeumer", exact=True).click()
    expect(owner.get_by_role("button", name="Jetzt trotzdem starten")).to_be_visible()
    expect(owner.get_by_role("heading", name="Warum läuft er?")).to_be_visible(timeout=START)
    owner.get_by_role("button", name="Abbrechen").click()
    expect(owner.get_by_role("heading", name="Warum läuft er nicht?")).to_be_visible(timeout=START)


def test_settings_are_kept_and_refused_in_place(owner: Page, complaints: Complaints) -> None:
    complaints.tolerate("422")
    owner.goto("/daemon/settings/")
    owner.get_by_label("Adresse von Ollama").fill("ollama:11434")
    save = owner.locator("#health").get_by_role("button", name="Speichern")
    save.click()
    expect(owner.get_by_text("beginnt mit http://")).to_be_visible()

    owner.get_by_label("Adresse von Ollama").fill("")
    owner.locator("#quiet-hours").get_by_label("Zeiten").fill("3-4")
    save.click()

    expect(owner.get_by_role("status").get_by_text("gespeichert")).to_be_visible()
    expect(owner.get_by_text(re.compile("Täglich 03:00–04:00 Uhr, "))).to_be_visible()
    owner.locator("#quiet-hours").get_by_label("Zeiten").fill("")
    save.click()
    expect(owner.get_by_role("status").get_by_text("gespeichert")).to_be_visible()


def test_every_view_of_them_is_accessible_and_fits(
    owner: Page,
    axe: Callable[[Page], list[str]],
    overflow: Callable[[Page], int],
    in_all_views: Callable[[Page], Iterator[str]],
    screenshot: Callable[..., Path],
) -> None:
    make(owner, "ausdauer-mit-einem-langen-namen-der-nicht-bricht")
    run = owner.url
    owner.get_by_role("link", name="Zum Job").click()
    owner.wait_for_url(re.compile(r"/jobs/\d+/$"))
    pages = {
        "why-run": run,
        "why-job": owner.url,
        "form": f"{owner.url}edit/",
        "settings": "/daemon/settings/",
        "queue": "/daemon/queue/",
    }
    for name, address in pages.items():
        owner.goto(address)
        owner.evaluate("for (const d of document.querySelectorAll('main details')) d.open = true")
        for view in in_all_views(owner):
            screenshot(owner, f"conditions-{name}-{view}", full_page=True)
            assert axe(owner) == [], (name, view)
            assert overflow(owner) == 0, (name, view)
        owner.set_viewport_size({"width": 320, "height": 720})
        assert overflow(owner) == 0, name

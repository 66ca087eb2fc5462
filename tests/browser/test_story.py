"""The whole story, as a person lives it: from the sign-in link to a backup that runs by itself."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Complaints
from tests.stack import Stack

START = 30_000  # ms; two cores, a browser and everything else beside it

# Writes a line, waits to be let go, backs a folder up: "as it is written" can be seen so.
BACKUP = (
    "echo 'Sichere Bücher …'; until [ -e {gate} ]; do sleep 0.1; done; "
    "tar -czvf {archive} -C {source} . && printf '\\033[32mfertig\\033[0m\\n'"
)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Return a folder with something worth a backup."""
    source = tmp_path / "bücher"
    source.mkdir()
    (source / "faust.txt").write_text("Habe nun, ach!")
    return source


def test_from_the_sign_in_link_to_a_green_run_and_the_next_by_itself(
    fresh_stack: Stack,
    context: BrowserContext,
    complaints: Complaints,
    tmp_path: Path,
    shelf: Path,
    axe: Callable[[Page], list[str]],
) -> None:
    # Ctrl+C in the middle of the story: the sockets of open pages end with the server.
    complaints.tolerate(r"WebSocket connection to .* failed|ERR_CONNECTION_REFUSED")
    gate, archive = tmp_path / "gate", tmp_path / "bücher.tar.gz"
    page = context.new_page()

    # Signing in with the one-time link.
    page.goto(fresh_stack.login_link())
    page.wait_for_url("**/daemon/")
    assert "#" not in page.url
    onlooker = context.new_page()
    onlooker.goto("/daemon/")
    expect(onlooker.get_by_text("Noch kein eigener Job")).to_be_visible()

    # A new job: words and five times appear while typing.
    page.get_by_role("link", name="Neuer Job").first.click()
    page.get_by_label("Name").fill("bücher-sichern")
    page.get_by_label("Befehl", exact=True).fill(
        BACKUP.format(gate=gate, archive=archive, source=shelf)
    )
    page.get_by_label("Zeitzone").fill("Europe/Berlin")
    schedule = page.get_by_role("textbox", name="Zeitplan")
    schedule.press_sequentially("30 2 * * *", delay=20)
    preview = page.locator("#preview")
    expect(preview).to_contain_text("02:30 Uhr")
    expect(preview).to_contain_text("Europe/Berlin")
    expect(preview.locator("time")).to_have_count(10)  # five times, each with its distance
    expect(preview).to_contain_text(re.compile(r"\d\d\.03\.\d{4}.*02:30 Uhr nicht"))
    expect(schedule).to_be_focused()
    expect(schedule).to_have_value("30 2 * * *")
    assert axe(page) == []
    page.get_by_role("button", name="Job anlegen").click()

    # It is on every open page without a reload.
    expect(page.get_by_role("heading", name="bücher-sichern")).to_be_visible()
    expect(onlooker.get_by_role("link", name="bücher-sichern").first).to_be_visible()

    # Start, and read the output line by line as it is written.
    page.get_by_role("button", name="Starten").first.click()
    expect(onlooker.get_by_text("Läuft", exact=True).first).to_be_visible(timeout=START)
    onlooker.locator("#running").get_by_role("link", name="bücher-sichern", exact=True).click()
    log = onlooker.locator("[data-log-lines]")
    expect(log).to_contain_text("Sichere Bücher …", timeout=START)
    expect(log).not_to_contain_text("faust.txt")
    gate.touch()
    expect(log).to_contain_text("faust.txt", timeout=START)
    expect(log.locator(".ansi-fg-2")).to_have_text("fertig")

    # It turns green, everywhere.
    expect(onlooker.locator("[data-region^='run-head']")).to_contain_text("Fertig", timeout=START)
    expect(page.get_by_text("Fertig", exact=True).first).to_be_visible(timeout=START)
    assert archive.stat().st_size > 0

    # A reload finds everything again.
    onlooker.reload()
    expect(log).to_contain_text("fertig")
    expect(log.locator(".log-line")).to_have_count(4)
    assert axe(onlooker) == []

    # Now every few seconds, and the next run starts by itself.
    page.get_by_role("link", name="Bearbeiten").first.click()
    page.get_by_text("Alle …").click()
    page.get_by_role("textbox", name="Zeitplan").fill("2s")
    expect(page.locator("#preview")).to_contain_text("alle 2 Sekunden", ignore_case=True)
    page.get_by_role("button", name="Speichern", exact=True).click()
    runs = page.locator("[data-region^='job-runs']")
    expect(runs.get_by_text("nach Plan").first).to_be_visible(timeout=START)

    # Ctrl+C ends it, starting again continues.
    assert fresh_stack.stop(signal.SIGINT) == 0
    before = len(fresh_stack.runs())
    fresh_stack.start()
    page.goto("/daemon/runs/")
    expect(page.get_by_role("link", name="bücher-sichern").first).to_be_visible()
    assert fresh_stack.wait_for(lambda: len(fresh_stack.runs()) > before)


def test_a_schedule_that_cannot_be_says_why_and_nothing_typed_is_lost(
    context: BrowserContext, complaints: Complaints, signed_in: Callable[[Page], Page]
) -> None:
    complaints.tolerate("422")  # the browser's own remark on a form that is not right
    page = signed_in(context.new_page())
    page.goto("/daemon/jobs/new/")
    page.get_by_label("Name").fill("unmöglich")
    page.get_by_label("Befehl", exact=True).fill("echo 'bleibt stehen'")
    page.get_by_role("textbox", name="Zeitplan").fill("61 * * * *")
    expect(page.locator("#preview")).to_contain_text("nur von 0 bis 59")

    page.get_by_role("button", name="Job anlegen").click()

    summary = page.locator(".error-summary")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("hier steht 61")
    expect(page.get_by_label("Name")).to_have_value("unmöglich")
    expect(page.get_by_label("Befehl", exact=True)).to_have_value("echo 'bleibt stehen'")


def test_the_form_works_without_javascript(
    stack: Stack, new_context: Callable[..., BrowserContext], signed_in: Callable[[Page], Page]
) -> None:
    signed_in(new_context(base_url=stack.url).new_page())
    plain = new_context(base_url=stack.url, java_script_enabled=False)
    page = signed_in(plain.new_page())
    page.goto("/daemon/jobs/new/")
    page.get_by_label("Name").fill("ohne-skript")
    page.get_by_label("Befehl", exact=True).fill("echo hallo")
    page.get_by_role("textbox", name="Zeitplan").fill("0 3 * * *")

    page.get_by_role("button", name="Vorschau").click()
    expect(page.locator("#preview")).to_contain_text("03:00 Uhr")
    page.get_by_role("button", name="Anlegen und gleich starten").click()

    expect(page.locator("h1")).to_contain_text("ohne-skript", timeout=60_000)

"""A real page while its server goes, comes back, refuses, or no longer knows who looks."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Complaints
from tests.browser.test_pages import make_job
from tests.stack import Stack


@pytest.fixture
def author(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def connected(page: Page) -> None:
    expect(page.locator("html[data-live=on]")).to_have_count(1, timeout=20_000)


def test_a_page_lives_through_a_restart_of_the_server_and_says_what_it_missed(
    page: Page, fresh_stack: Stack, signed_in: Callable[[Page], Page],
    complaints: Complaints, tmp_path: Path,
) -> None:  # fmt: skip
    complaints.tolerate("ERR_CONNECTION_REFUSED|WebSocket connection|status of 50")
    signed_in(page)
    gate = tmp_path / "gate"
    page.clock.install()
    make_job(page, "scheitert", f"until [ -e {gate} ]; do sleep 0.1; done; exit 3", start=True)
    connected(page)
    expect(page).to_have_title(re.compile("^● Läuft · scheitert"), timeout=20_000)
    page.evaluate("window.stayed = true")
    page.get_by_role("heading", name="scheitert").evaluate(
        "(heading) => getSelection().selectAllChildren(heading)"
    )

    fresh_stack.stop()
    page.clock.run_for(12_000)
    bar = page.locator("#connection")
    expect(bar).to_contain_text("Keine Verbindung seit")
    assert page.title().startswith("○ Läuft · ")
    gate.touch()
    fresh_stack.start()
    assert fresh_stack.wait_for(lambda: fresh_stack.runs()[0]["state"] == "failed")
    for _ in range(100):
        page.clock.run_for(1_000)
        if not bar.is_visible():
            break

    connected(page)
    expect(page.locator("#toasts")).to_contain_text(
        "Wieder verbunden – in der Zwischenzeit ein Lauf, ein Fehlschlag"
    )
    expect(page.get_by_text("Fehlschlag").first).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\(1\) Fehlschlag · scheitert"))
    assert page.evaluate("window.stayed")
    assert "scheitert" in page.evaluate("String(getSelection())")


def test_who_is_signed_out_meanwhile_comes_back_to_the_same_place(
    author: Page, context: BrowserContext, stack: Stack, complaints: Complaints
) -> None:
    complaints.tolerate("status of 401")
    make_job(author, "anmeldung", "echo eins; echo zwei; echo drei", start=True)
    expect(author.get_by_text("Fertig").first).to_be_visible(timeout=20_000)
    connected(author)
    author.locator("#L2 a").click()
    place = author.url
    assert place.endswith("#L2")

    # The session of this browser alone is over; the others of the same product go on.
    kept = [each for each in context.cookies() if not each["name"].startswith("bach_")]
    context.clear_cookies()
    if kept:
        context.add_cookies(kept)  # type: ignore[arg-type]
    author.get_by_role("button", name="Erneut starten").click()

    bar = author.locator("#connection")
    expect(bar).to_contain_text("Anmeldung abgelaufen")
    assert author.url == place
    bar.get_by_role("link", name="Neu anmelden").click()
    author.wait_for_url(re.compile("/login/"))
    assert author.url.endswith(f"?next={quote(place.removeprefix(stack.url), safe='')}")


def test_an_action_says_that_it_is_being_sent_until_its_answer_is_there(author: Page) -> None:
    make_job(author, "unterwegs", "true")
    connected(author)
    waiting: list[Route] = []
    author.route("**/start/", lambda route: waiting.append(route))  # noqa: PLW0108 - it is marked
    start = author.get_by_role("button", name="Starten").first

    start.click()
    holder = author.locator("[data-sending='wird gesendet …']")
    expect(holder).to_have_count(1)
    expect(start).to_have_attribute("aria-busy", "true")
    # What is shown anew meanwhile does not say otherwise.
    author.evaluate("""async () => {
      const live = document.querySelector('script[src*="/live"]').src;
      const source = await (await fetch(live)).text();
      const { morph } = await import(new URL(/from '(.*morph[^']*)'/.exec(source)[1], live));
      const head = document.querySelector('[data-region^="job-head"]');
      const again = head.cloneNode(true);
      for (const name of ['data-sending', 'aria-busy', 'data-live-keep']) {
        for (const each of again.querySelectorAll(`[${name}]`)) each.removeAttribute(name);
      }
      morph(head, again);
    }""")
    expect(start).to_have_attribute("aria-busy", "true")
    start.click()
    waiting[0].continue_()

    expect(author.locator("#toasts")).to_contain_text("unterwegs")
    expect(author.locator("[data-sending]")).to_have_count(0)
    assert len(waiting) == 1


def test_an_action_that_is_refused_says_why_and_the_page_stays(
    author: Page, complaints: Complaints
) -> None:
    complaints.tolerate("status of 403")
    address = make_job(author, "verweigert", "true")
    author.evaluate("document.querySelector('meta[name=csrf-token]').content = 'x'")
    author.evaluate(
        "document.querySelectorAll('input[name=csrfmiddlewaretoken]').forEach((f) => f.value = 'x')"
    )

    author.get_by_role("button", name="Starten").first.click()

    toast = author.locator(".toast.is-warn")
    expect(toast).to_contain_text("Nicht ausgeführt: ")
    expect(toast).to_contain_text("abgelaufen")
    assert author.url == address
    expect(author.get_by_role("button", name="Starten").first).not_to_have_attribute(
        "aria-busy", "true"
    )

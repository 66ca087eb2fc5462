"""The audit log and the tokens: sound in every view, also with what is long and what is hostile."""

from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.browser.test_pages import make_job

LONG = "/opt/programme/mit/sehr/langem/pfad/" + "und-ohne-jede-luecke-" * 12
HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_audit_log_and_the_tokens_are_sound_in_every_view(
    page: Page,
    signed_in: Callable[[Page], Page],
    complaints: Complaints,
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
    screenshot: Callable[..., Path],
) -> None:
    complaints.tolerate("status of 422")
    author = signed_in(page)
    name = "protokolliert-unter-einem-namen-der-auf-keinem-telefon-platz-hat"
    job = make_job(author, name, "true")
    author.goto(f"{job}edit/")
    author.get_by_label("Befehl", exact=True).fill(f"{LONG} '{HOSTILE}'")
    author.get_by_role("button", name="Speichern").first.click()
    author.wait_for_url(job)
    author.goto("/daemon/tokens/")
    author.get_by_label("Name").fill(f"{HOSTILE} {'x' * 40}")
    author.get_by_role("button", name="Token erzeugen").click()
    expect(author.locator(".issued")).to_be_visible()

    found = []
    for name, address in {
        "token-issued": "",
        "tokens": "/daemon/tokens/",
        "audit": "/daemon/audit/",
        "audit-of-jobs": "/daemon/audit/?subject=job&kind=edited&since=2026-01-01",
        "audit-none": "/daemon/audit/?name=gibtesnicht",
    }.items():
        if address:
            author.goto(address)
        for view in in_all_views(author):
            screenshot(author, f"{name}-{view}")
            found += [f"{name} {view}: {one}" for one in axe(author)]
            found += [f"{name} {view}: moves sideways"] if overflow(author) else []
        author.set_viewport_size({"width": 320, "height": 640})
        found += [f"{name} at 320: moves sideways"] if overflow(author) else []
    author.goto("/daemon/audit/")

    assert found == []
    assert author.locator("img[src=x]").count() == 0
    expect(author.get_by_text(HOSTILE).first).to_be_visible()

"""The audit log and the tokens: sound in every view, also with what is long and what is hostile."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.browser.test_pages import make_job

LONG = "/opt/programme/mit/sehr/langem/pfad/" + "und-ohne-jede-luecke-" * 12
HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_audit_log_and_the_tokens_are_sound_in_every_view(
    page: Page,
    signed_in: Callable[[Page], Page],
    complaints: Complaints,
    unsound: Callable[[Page, str], list[str]],
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
        found += unsound(author, name)
    author.goto("/daemon/audit/")

    assert found == []
    assert author.locator("img[src=x]").count() == 0
    expect(author.get_by_text(HOSTILE).first).to_be_visible()

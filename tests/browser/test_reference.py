"""The page about the REST interface: sound in every view, closed and open."""

from collections.abc import Callable

from playwright.sync_api import Page, expect


def test_the_reference_is_sound_in_every_view(
    page: Page,
    signed_in: Callable[[Page], Page],
    unsound: Callable[[Page, str], list[str]],
) -> None:
    reader = signed_in(page)
    reader.goto("/daemon/api/")
    for request in reader.locator("details.operation").all()[:6]:
        request.locator("summary").click()

    assert unsound(reader, "reference") == []


def test_a_link_to_a_request_opens_it_and_its_line_is_taken_whole(
    page: Page, signed_in: Callable[[Page], Page]
) -> None:
    reader = signed_in(page)
    reader.goto("/daemon/api/#run_job")
    told = reader.locator("#run_job")
    expect(told).to_be_visible()

    told.locator(".whole").first.click()

    taken = reader.evaluate("getSelection().toString()")
    assert taken.startswith('curl -H "$AUTH"')
    assert "$API/jobs/2/run" in taken

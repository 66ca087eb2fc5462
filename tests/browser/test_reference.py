"""The page about the REST interface: sound in every view, closed and open."""

from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Page, expect


def test_the_reference_is_sound_in_every_view(
    page: Page,
    signed_in: Callable[[Page], Page],
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
    screenshot: Callable[..., Path],
) -> None:
    reader = signed_in(page)
    reader.goto("/daemon/api/")
    for request in reader.locator("details.operation").all()[:6]:
        request.locator("summary").click()

    found = []
    for view in in_all_views(reader):
        screenshot(reader, f"reference-{view}")
        found += [f"{view}: {one}" for one in axe(reader)]
        found += [f"{view}: moves sideways"] if overflow(reader) else []
    reader.set_viewport_size({"width": 320, "height": 640})
    found += ["at 320: moves sideways"] if overflow(reader) else []

    assert found == []


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

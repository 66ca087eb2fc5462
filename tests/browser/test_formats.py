"""The browser writes times in the same words as the server."""

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

CASES = json.loads((Path(__file__).parent.parent / "pages/formats.json").read_text())
WRITE = """async (cases) => {
    const script = document.querySelector('script[src*="daemon/js/time"]').src;
    const time = await import(script);
    const calls = {
        relative: (c) => time.relative(new Date(c.at), new Date(c.now), c.language),
        coarse: (c) => time.relative(new Date(c.at), new Date(c.now), c.language, true),
        left: (c) => time.left(new Date(c.at), new Date(c.now), c.language),
        estimate: (c) => time.left(new Date(c.at), new Date(c.now), c.language, true),
        duration: (c) => time.duration(c.seconds, c.language),
        exact: (c) => time.duration(c.seconds, c.language, true),
        moment: (c) => time.moment(new Date(c.at), new Date(c.now), c.zone, c.language),
        short_moment: (c) => time.shortMoment(new Date(c.at), new Date(c.now), c.zone, c.language),
        day_heading: (c) => time.dayHeading(new Date(c.at), new Date(c.now), c.zone, c.language),
        date_and_clock: (c) => time.dateAndClock(new Date(c.at), c.zone, c.language),
        day: (c) => time.day(new Date(c.at), c.zone, c.language),
        number: (c) => time.number(c.value, c.language),
    };
    return cases.map((c) => calls[c.call](c));
}"""


def test_the_browser_writes_times_as_the_server_does(
    page: Page, signed_in: Callable[[Page], Page]
) -> None:
    signed_in(page).goto("/daemon/")

    written = page.evaluate(WRITE, CASES)

    wrong = [
        (case, says) for case, says in zip(CASES, written, strict=True) if says != case["says"]
    ]
    assert wrong == []

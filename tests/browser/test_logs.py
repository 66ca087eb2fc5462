"""A log of any size in a real page: a link into its middle, search, the way back to its end."""

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.stack import Stack

# Lines enough that neither the page nor one answer holds them, and not all are kept.
WRITES = (
    "import sys; sys.stdout.writelines("
    "f'\\x1b[3{n % 8}mline {n}\\x1b[0m: {chr(8364) * 9} of what is written here, and on\\n'"
    " for n in range(1, 300_001))"
)
RUN = """
import sys, django
django.setup()
from django.utils import timezone
from daemon_app import scheduler
from daemon_app.models import Job, Run
now = timezone.now()
job = Job(name=sys.argv[1], job_type="manual", command=sys.argv[2]).store(now=now, by="test")
print(scheduler.start(job, trigger=Run.Trigger.CLI, by="test", now=now).run.pk)
"""
NUMBERS = "[...document.querySelectorAll('.log-line[id]')].map((row) => Number(row.id.slice(1)))"
# The colours as they come out, against the ground of the log and against each fill.
CONTRAST = """() => {
  const box = document.querySelector('.log-lines');
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const paint = canvas.getContext('2d', { willReadFrequently: true });
  const light = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const of = (name, property, value, read) => {
    const span = document.createElement('span');
    span.className = `ansi-${name}-rgb`;
    span.style.setProperty(property, value);
    box.append(span);
    const found = light(getComputedStyle(span)[read]);
    span.remove();
    return found;
  };
  const steps = ['00', '33', '66', '99', 'cc', 'ff'];
  const all = steps.flatMap((r) => steps.flatMap((g) => steps.map((b) => `#${r}${g}${b}`)));
  const texts = all.map((colour) => of('fg', '--fg', colour, 'color'));
  const fills = all.map((colour) => of('bg', '--bg', colour, 'backgroundColor'));
  const ground = light(getComputedStyle(box).backgroundColor);
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const worst = (text, grounds) => Math.min(...grounds.map((ground) => ratio(text, ground)));
  const least = (grounds) => Math.min(...texts.map((text) => worst(text, grounds)));
  return [least([ground]), least(fills), new Set(texts.map((text) => text.toFixed(4))).size];
}"""


@pytest.fixture(scope="module")
def said() -> dict[Stack, str]:
    """The numbers of the runs that have much to say, one for each product."""
    return {}


@pytest.fixture
def run(stack: Stack, said: dict[Stack, str]) -> str:
    if stack not in said:
        said[stack] = start(stack, "much to say", f'{sys.executable} -c "{WRITES}"')
    return said[stack]


def start(stack: Stack, name: str, command: str) -> str:
    """Return the number of a run of `command`."""
    made = subprocess.run(
        [sys.executable, "-c", RUN, name, command],
        env={**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def test_a_log_of_any_size_is_read_found_in_and_linked_to(
    page: Page, run: str, signed_in: Callable[[Page], Page]
) -> None:
    signed_in(page)
    page.goto(f"/daemon/runs/{run}/")
    box = page.locator("[data-log-lines]")
    expect(page.locator(".log-end")).to_contain_text("Exit 0", timeout=30_000)
    expect(page.locator("[data-log-info]")).to_have_text("300.000 Zeilen")

    # A link into its middle.
    page.goto(f"/daemon/runs/{run}/#L250000-L250002")
    page.reload()
    expect(page.locator(".is-picked")).to_have_count(3)
    expect(page.locator("#L250001")).to_be_in_viewport()

    # What it says somewhere else is found, and what was not kept is said.
    field = page.locator("#log input[type=search]")
    field.fill("LINE 1234:")
    expect(page.locator("[data-log-hits]")).to_have_text("1 von 1")
    expect(page.locator("#L1234.is-hit")).to_be_in_viewport()
    field.fill(":100000")
    field.press("Enter")
    expect(page.locator(".log-gap")).to_be_in_viewport()
    expect(page.locator(".log-gap")).to_contain_text("wurden nicht aufgehoben")

    # From the beginning down and up again; then to the end.
    field.fill("")
    box.focus()
    page.keyboard.press("Home")
    expect(page.locator("#L1")).to_be_in_viewport()
    for _ in range(12):
        last = page.locator(".log-line").last.get_attribute("id")
        box.evaluate("(box) => { box.scrollTop = box.scrollHeight; }")
        expect(page.locator(".log-line").last).not_to_have_id(last or "")
    numbers = page.evaluate(NUMBERS)
    assert all(one < two for one, two in pairwise(numbers))
    assert len(numbers) <= 10_000
    page.keyboard.press("End")
    expect(page.locator("#L300000")).to_be_in_viewport(timeout=30_000)
    expect(page.locator(".log-end")).to_have_count(1)

    page.locator("[data-log-times]").click()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d", page.locator("#L300000").get_attribute("data-time") or ""
    )


def test_a_log_of_short_lines_is_read_upwards_without_a_leap(
    page: Page, stack: Stack, signed_in: Callable[[Page], Page]
) -> None:
    signed_in(page)
    page.goto(f"/daemon/runs/{start(stack, 'short lines', 'seq 100000')}/")
    expect(page.locator(".log-end")).to_contain_text("Exit 0", timeout=30_000)
    first = min(page.evaluate(NUMBERS))

    page.locator("[data-log-lines]").evaluate("(box) => { box.scrollTop = 0; }")

    expect(page.locator(f"#L{first - 1}")).to_have_count(1)
    expect(page.locator(f"#L{first}")).to_be_in_viewport()


def test_a_page_holds_few_of_the_elements_that_colours_make(
    page: Page, stack: Stack, signed_in: Callable[[Page], Page]
) -> None:
    signed_in(page)
    # A few bytes make an element and one character to see; a page begins with a megabyte.
    writes = "import sys; sys.stdout.write('\\x1b[1mx\\x1b[31my' * 100_000)"
    number = start(stack, "colours", f'{sys.executable} -c "{writes}"')
    page.goto(f"/daemon/runs/{number}/")
    expect(page.locator(".log-end")).to_contain_text("Exit 0", timeout=30_000)

    assert page.evaluate("document.querySelectorAll('.log-line *').length") < 50_000


def test_every_colour_can_be_read_in_both_themes(
    page: Page, run: str, signed_in: Callable[[Page], Page]
) -> None:
    signed_in(page)
    page.goto(f"/daemon/runs/{run}/")

    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        on_ground, on_fill, shades = page.evaluate(CONTRAST)
        assert on_ground >= 4.5
        assert on_fill >= 4.5
        assert shades > 100

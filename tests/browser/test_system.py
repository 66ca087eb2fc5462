"""The system page and the tiles in a real browser: crosshair, tables, and tiles that move."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.stack import Stack

LIVE = 20_000  # ms; two cores, a browser and everything else beside it
TOP = Path(__file__).resolve().parent.parent.parent
STORE = """
import sys, django
django.setup()
from datetime import timedelta
from django.utils import timezone
from daemon_app import live
from daemon_app.models import Node, Snapshot
from daemon_app.readings import Reading, State

host = Node.latest().host
now = timezone.now() + timedelta(seconds=float(sys.argv[1]))
free = float(sys.argv[2])
facts = {"free_mb": free, "used_mb": 24_000 - free, "total_mb": 24_000, "models": []}
percent = 100 * (1 - free / 24_000)
state = State.OK if percent <= 80 else State.HIGH
code = {State.OK: "vram_ok", State.HIGH: "vram_high"}[state]
readings = [
    Reading("gpu_service", State.OK, 64.0, "service_ok", {"ms": 64, "url": "http://here:1"}),
    Reading("vram", state, percent, code, {**facts, "limit": 80}),
    Reading("disk", State.OK, 412.0, "disk_ok", {"free_bytes": 412 * 10**9, "free_mb": 412_000}),
    Reading("active_users", State.OK, 1, "users_one", {"count": 1, "seconds": 300}),
]
for n in range(int(sys.argv[3])):
    Snapshot.objects.create(
        host=host,
        at=now - timedelta(seconds=30 * n),
        values={each.name: each.value + n % 7 for each in readings},
        states={each.name: str(each.state) for each in readings},
        readings=[each.as_json() for each in readings],
    )
live.changed("health")
"""


@pytest.fixture
def owner(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


@pytest.fixture
def store(stack: Stack) -> Callable[..., None]:
    """`store(ahead, free_mb, count)` stores ticks up to `ahead` seconds from now, and rings.

    The daemon's own come too seldom to be in the way; of the future none is believed.
    """
    assert stack.wait_for(lambda: "host" in stack.bach("daemon", "status", "--json"))

    def write(ahead: float, free_mb: float, count: int = 1) -> None:
        subprocess.run(
            [sys.executable, "-c", STORE, str(ahead), str(free_mb), str(count)],
            env={**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"},
            cwd=TOP,
            check=True,
            timeout=60,
        )

    return write


def test_a_tile_changes_when_something_new_is_measured(
    owner: Page, store: Callable[..., None]
) -> None:
    store(-1, 6_200)
    owner.goto("/daemon/")
    expect(owner.locator("html[data-live=on]")).to_have_count(1)
    expect(owner.locator("#tile-vram .value")).to_contain_text("6,2\u00a0GB", timeout=LIVE)
    owner.evaluate("window.tile = document.getElementById('tile-vram')")
    owner.locator("#tile-vram").focus()

    store(0, 2_200)

    expect(owner.locator("#tile-vram .value")).to_contain_text("2,2\u00a0GB", timeout=LIVE)
    expect(owner.locator("#tile-vram .chip.is-warn")).to_be_visible()
    expect(owner.locator("#tile-vram")).to_be_focused()
    assert owner.evaluate("window.tile === document.getElementById('tile-vram')")

    owner.locator("#tile-vram").click()
    owner.wait_for_url("**/daemon/system/?range=1h#vram")


def test_arrow_keys_move_one_line_through_all_charts(
    owner: Page, store: Callable[..., None]
) -> None:
    store(-10, 6_200, 40)
    owner.goto("/daemon/system/?range=1h")
    charts, said = owner.locator("[data-crosshair]"), owner.locator("[data-crosshair-said]")
    expect(said).to_have_attribute("role", "status")
    charts.focus()

    owner.keyboard.press("Home")  # the oldest are ours, the newest may be the daemon's own
    expect(said).not_to_be_empty()
    first = owner.locator("#cross-vram").get_attribute("x1")
    owner.keyboard.press("ArrowRight")
    expect(owner.locator("#cross-vram")).not_to_have_attribute("x1", first or "")

    assert owner.locator(".cross[visibility=visible]").count() == 5
    places = owner.locator(".cross").evaluate_all("all => all.map((e) => e.getAttribute('x1'))")
    assert len(set(places)) == 1
    expect(said).to_contain_text(re.compile(r"\d\d:\d\d, .*VRAM \d\d\u00a0%"))
    expect(owner.locator("#cross-word-disk")).to_contain_text("GB")
    owner.keyboard.press("Tab")
    expect(owner.locator(".cross[visibility=visible]")).to_have_count(0)


def test_the_pointer_shows_the_nearest_time_and_new_ticks_leave_it_there(
    owner: Page, store: Callable[..., None]
) -> None:
    store(-10, 6_200, 40)
    owner.goto("/daemon/system/?range=1h")
    expect(owner.locator("html[data-live=on]")).to_have_count(1)
    box = owner.locator("#vram .graph").bounding_box()
    assert box

    owner.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
    expect(owner.locator("#cross-vram")).to_have_attribute("visibility", "visible")
    times = owner.locator("section.charts").get_attribute("data-times")
    store(15, 9_000)

    expect(owner.locator("section.charts")).not_to_have_attribute(
        "data-times", times or "", timeout=LIVE
    )
    expect(owner.locator("#cross-vram")).to_have_attribute("visibility", "visible")
    owner.mouse.move(2, 2)
    expect(owner.locator("#cross-vram")).to_have_attribute("visibility", "hidden")


@pytest.mark.parametrize("script", [True, False])
def test_a_chart_becomes_a_table_and_a_chart_again(
    owner: Page,
    context: BrowserContext,
    new_context: Callable[..., BrowserContext],
    stack: Stack,
    store: Callable[..., None],
    script: bool,
) -> None:
    store(-10, 6_200, 10)
    owner.goto("/daemon/")
    other = new_context(base_url=stack.url, java_script_enabled=script)
    other.add_cookies(context.cookies())  # type: ignore[arg-type]
    page = other.new_page()
    page.goto("/daemon/system/?range=1h")
    expect(page.locator("#vram .line")).to_have_count(1)

    page.locator("#vram .as-table a").click()
    expect(page.locator("#vram table tbody tr")).not_to_have_count(0)
    expect(page.locator("#disk table")).to_have_count(0)
    page.locator("nav.segments a").nth(2).click()
    expect(page.locator("#vram table")).to_have_count(1)
    page.locator("#vram .as-table a").click()

    expect(page.locator("#vram table")).to_have_count(0)
    assert "range=7d" in page.url


def test_the_page_is_sound_in_every_view(
    owner: Page,
    store: Callable[..., None],
    unsound: Callable[[Page, str], list[str]],
) -> None:
    store(-10, 6_200, 100)
    pages = {
        "overview-tiles": "/daemon/",
        "system": "/daemon/system/",
        "system-hour": "/daemon/system/?range=1h",
        "system-table": "/daemon/system/?range=30d&table=vram&table=ollama",
    }

    found = []
    for name, address in pages.items():
        owner.goto(address)
        found += unsound(owner, name)

    assert found == []

"""The line, holds, retries and progress, as people see and use them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Complaints
from tests.browser.test_pages import NEW
from tests.stack import Stack

START = 30_000  # ms

# Until the test lets it go.
GATED = "echo da; until [ -e {gate} ]; do sleep 0.1; done"


@pytest.fixture
def owner(page: Page, signed_in: Callable[[Page], Page]) -> Page:
    return signed_in(page)


def make(page: Page, name: str, command: str, **rules: str) -> None:
    """Create a job that starts by hand, by its form, and start it."""
    page.goto(NEW)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Befehl", exact=True).fill(command)
    page.get_by_text("Von Hand", exact=True).click()
    for label, value in rules.items():
        field = page.locator(f"[name={label}]")
        for fold in page.locator("details", has=field).all():  # the outer one comes first
            if fold.get_attribute("open") is None:
                fold.locator("> summary").click()
        field.fill(value)
    page.get_by_role("button", name="Anlegen und gleich starten").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))


def live(page: Page) -> None:
    expect(page.locator("html")).to_have_attribute("data-live", "on")


def in_line(page: Page) -> Locator:
    return page.locator(".line .name")


def one_place(page: Page) -> None:
    """Let only one run at once, by the settings."""
    page.goto("/daemon/settings/")
    page.get_by_label("Höchstens", exact=True).fill("1")
    rules = page.get_by_role("region", name="Gleichzeitig")
    rules.get_by_role("button", name="Speichern").click()
    expect(page.get_by_role("status").get_by_text("gespeichert")).to_be_visible()


def test_the_line_is_reordered_by_keyboard_and_goes_on_in_that_order(
    fresh_stack: Stack, owner: Page, tmp_path: Path, axe: Callable[[Page], list[str]]
) -> None:
    gate, order = tmp_path / "gate", tmp_path / "order"
    one_place(owner)
    make(owner, "erster", GATED.format(gate=gate))
    expect(owner.locator("[data-log-lines]")).to_contain_text("da", timeout=START)
    for name in ("b", "c", "d"):
        make(owner, name, f"echo {name} >> {order}")
    expect(owner.get_by_role("heading", name="Warum wartet er?")).to_be_visible()
    expect(owner.get_by_text("Wartet auf einen freien Platz").first).to_be_visible()

    owner.get_by_role("link", name=re.compile("in der Warteschlange")).click()
    live(owner)
    expect(in_line(owner)).to_have_text(["b", "c", "d"])
    assert axe(owner) == []
    up = owner.get_by_role("button", name=re.compile("^d, .*: hoch$"))
    up.focus()
    owner.keyboard.press("Enter")
    expect(in_line(owner)).to_have_text(["b", "d", "c"])
    expect(up).to_be_focused()
    owner.keyboard.press("Space")
    expect(in_line(owner)).to_have_text(["d", "b", "c"])
    expect(up).to_be_focused()
    expect(up).to_have_attribute("aria-disabled", "true")
    owner.get_by_role("button", name=re.compile("^b, .*: verwerfen$")).click()
    expect(in_line(owner)).to_have_text(["d", "c"])

    gate.touch()
    expect(owner.get_by_text("Niemand wartet")).to_be_visible(timeout=START)
    assert fresh_stack.wait_for(lambda: order.exists() and order.read_text() == "d\nc\n")


def test_everything_is_held_and_goes_on_again(fresh_stack: Stack, owner: Page) -> None:
    make(owner, "dauernd", "while :; do sleep 0.2; done")
    expect(owner.get_by_text("Läuft", exact=True).first).to_be_visible(timeout=START)
    owner.goto("/daemon/")
    live(owner)

    owner.get_by_role("link", name="Alles anhalten").click()
    owner.get_by_label("Auch beenden").check()
    owner.get_by_label("Warum").fill("Wartung bis 16:00 Uhr")
    owner.get_by_role("button", name="Alles anhalten").click()

    expect(owner.get_by_role("heading", name="Alles angehalten")).to_be_visible()
    expect(owner.locator("#situation")).to_contain_text("„Wartung bis 16:00 Uhr“")
    expect(owner.locator("#running")).not_to_contain_text("Läuft dauernd", timeout=START)
    assert fresh_stack.wait_for(lambda: fresh_stack.runs()[0]["state"] == "cancelled")

    live(owner)
    owner.get_by_role("button", name="Fortsetzen").click()
    expect(owner.get_by_role("heading", name="Alles angehalten")).to_be_hidden()
    expect(owner.get_by_role("link", name="Alles anhalten")).to_be_visible()


def test_a_run_is_tried_again_and_its_page_follows(
    owner: Page, tmp_path: Path, axe: Callable[[Page], list[str]]
) -> None:
    once = tmp_path / "once"
    command = (
        f"if [ -e {once} ]; then echo zweiter Versuch; exit 0; fi; "
        f"touch {once}; echo erster Versuch >&2; exit 75"
    )

    make(owner, "wacklig", command, max_retries="2", retry_backoff_seconds="2s")

    tries = owner.locator(".tries > li")
    expect(tries.first).to_contain_text("Exit 75", timeout=START)
    expect(owner.locator("[data-log-lines]")).to_have_text(
        re.compile(r"^Versuch 1: Fehlschlag\s*Ausgabe davor\s*1?zweiter Versuch"), timeout=START
    )
    expect(owner.locator("[data-log-lines]")).not_to_contain_text("erster Versuch")
    expect(owner.locator(".tries")).to_contain_text(re.compile("Versuch 2.*Fertig", re.DOTALL))
    owner.get_by_role("link", name="Versuch 1: Log").click()
    expect(owner.locator(".log-line.is-stderr")).to_contain_text("erster Versuch")
    expect(owner.locator(".log-end")).to_be_visible()
    assert axe(owner) == []


def test_progress_is_shown_as_it_is_reported(owner: Page, tmp_path: Path) -> None:
    gate, further = tmp_path / "gate", tmp_path / "further"
    command = (
        'bach progress 40 "Schritt 2"; '
        f"until [ -e {further} ]; do sleep 0.1; done; bach progress 90 Gleich; "
        + GATED.format(gate=gate)
    )
    make(owner, "fortschritt", command)
    bar = owner.get_by_role("progressbar")

    expect(bar).to_have_attribute("value", "40", timeout=START)
    expect(owner.locator(".progress-card")).to_contain_text("Schritt 2 · 40\u00a0%")
    further.touch()
    expect(bar).to_have_attribute("value", "90", timeout=START)
    expect(owner.locator(".progress-card")).to_contain_text("Gleich · 90")
    gate.touch()
    expect(bar).to_have_count(0, timeout=START)


def test_what_contradicts_itself_is_said_where_it_is(owner: Page, complaints: Complaints) -> None:
    complaints.tolerate("422")
    owner.goto(NEW)
    owner.get_by_label("Name", exact=True).fill("widerspruch")
    owner.get_by_label("Befehl", exact=True).fill("true")
    owner.get_by_text("Von Hand", exact=True).click()
    owner.locator("#rules > summary").click()
    owner.get_by_label("Wiederholungen", exact=True).fill("3")
    owner.get_by_label("Wenn er noch läuft").select_option("replace")
    owner.locator("#fold-limits > summary").click()
    owner.get_by_label("Speicher").fill("0")

    owner.get_by_role("button", name="Job anlegen").click()

    summary = owner.locator(".error-summary")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("widersprechen sich")
    expect(owner.locator("#fold-limits")).to_have_attribute("open", "")
    expect(owner.locator("#fold-keeping")).not_to_have_attribute("open", "")
    summary.get_by_role("link", name="Speicher").click()
    expect(owner.locator("#id_memory_limit_mb")).to_be_focused()


def test_a_form_that_comes_back_is_looked_at_where_it_is_wrong(
    owner: Page, complaints: Complaints
) -> None:
    complaints.tolerate("422")
    owner.goto("/daemon/settings/")

    owner.get_by_role("button", name="Pool anlegen").click()

    wrong = owner.locator("#pools [aria-invalid]")
    expect(wrong).to_be_focused()
    expect(wrong).to_be_in_viewport()


def test_how_many_at_once_is_asked_only_where_it_matters(owner: Page) -> None:
    owner.goto(NEW)
    owner.locator("#rules > summary").click()
    several = owner.get_by_label("Höchstens gleichzeitig")
    expect(several).to_be_hidden()

    owner.get_by_label("Wenn er noch läuft").select_option("parallel")

    expect(several).to_be_visible()
    expect(several).to_have_value("2")


def test_a_start_that_meets_a_running_run_may_be_made_beside_it(
    owner: Page, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    make(owner, "doppelt", GATED.format(gate=gate))
    expect(owner.locator("[data-log-lines]")).to_contain_text("da", timeout=START)
    owner.get_by_role("link", name="Zum Job").click()
    live(owner)

    owner.get_by_role("button", name="Starten").click()
    owner.get_by_role("button", name="Trotzdem starten").click()

    expect(owner.locator("[data-region^=job-runs]").get_by_text("Läuft", exact=True)).to_have_count(
        2, timeout=START
    )
    gate.touch()
    expect(owner.locator("[data-region^=job-runs]").get_by_text("Läuft", exact=True)).to_have_count(
        0, timeout=START
    )


def test_the_new_pages_are_sound_in_every_view(
    owner: Page,
    unsound: Callable[[Page, str], list[str]],
) -> None:
    owner.goto("/daemon/settings/")
    owner.get_by_label("Name", exact=True).fill("gpu")
    owner.get_by_label("Wofür er steht").fill("Eine RTX 4090 mit 24 GB, ganz unten im Regal")
    owner.get_by_role("button", name="Pool anlegen").click()
    expect(owner.locator(".pool-list")).to_contain_text("gpu")
    pool = owner.get_by_role("link", name="Pool gpu: bearbeiten").get_attribute("href")
    pages = {
        "queue": "/daemon/queue/",
        "settings": "/daemon/settings/",
        "hold": "/daemon/hold/",
        "pool": pool,
        "pool-delete": f"{pool}delete/",
    }

    found = []
    for name, address in pages.items():
        owner.goto(str(address))
        found += unsound(owner, name)

    assert found == []


def test_a_failure_and_a_hold_are_seen_in_every_view(
    fresh_stack: Stack,
    owner: Page,
    axe: Callable[[Page], list[str]],
    overflow: Callable[[Page], int],
    in_all_views: Callable[[Page], Iterator[str]],
    screenshot: Callable[..., Path],
) -> None:
    make(owner, "krank", "exit 3")
    expect(owner.get_by_text("Fehlschlag").first).to_be_visible(timeout=START)
    one_place(owner)
    make(owner, "lang", "sleep 300")
    make(owner, "wartet", "echo da")

    owner.goto("/daemon/hold/")
    owner.get_by_label("Warum").fill("Wartung")
    owner.get_by_role("button", name="Alles anhalten").click()
    live(owner)

    expect(owner.get_by_text("krank ist fehlgeschlagen.")).to_be_visible()
    expect(owner.get_by_role("link", name="Auch beenden")).to_be_visible()
    for view in in_all_views(owner):
        expect(owner.locator(".held-sign a")).to_be_visible()
        assert axe(owner) == [], view
        assert overflow(owner) == 0, view
        screenshot(owner, f"held-{view}")

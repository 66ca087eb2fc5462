"""The real stack and a real Chromium, with the guards that hold on every page.

A test fails on any console message, page error or broken policy of its pages, and on any request
that leaves the origin; `complaints.tolerate(pattern)` names what one test expects.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Cookie, Page, Request, WebSocket

from tests.browser import chromium
from tests.stack import Stack

if TYPE_CHECKING:
    from playwright._impl._api_structures import SetCookieParam

# Without the background flags Chromium looks for its maker's servers, which is noise at best;
# the resolver rule proves that a page needs nothing from outside.
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
SCREENSHOTS = Path("test-results/screenshots")
SESSIONS: WeakKeyDictionary[Stack, list[Cookie]] = WeakKeyDictionary()


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    path = chromium.find()
    if not path:
        pytest.fail(chromium.MISSING, pytrace=False)
    return {**browser_type_launch_args, "executable_path": path, "args": ARGS}


@pytest.fixture(scope="session")
def base_url() -> None:
    """No address for all: each context has its product's (and the plug-in's own one warns)."""


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, object]) -> dict[str, object]:
    width, height = SIZES["desktop"]
    return {
        **browser_context_args,
        "locale": "de-DE",
        "timezone_id": "Europe/Berlin",
        "viewport": {"width": width, "height": height},
        "reduced_motion": "reduce",
    }


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    """One running product for all tests that only look at it or add to it."""
    yield from running_stack()


@pytest.fixture
def fresh_stack() -> Iterator[Stack]:
    """A running product with nothing in it, which the test may stop, break and start again."""
    yield from running_stack()


def running_stack() -> Iterator[Stack]:
    stack = Stack()
    # What a test stores is then the newest that was measured.
    stack.env["BACH_TICK_SECONDS"] = "600"
    try:
        stack.start()
        yield stack
        print(stack.log())  # pytest shows it when the test has failed
    finally:
        stack.close()


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Stack:
    """The product that the test's pages talk to: its own when it asks for `fresh_stack`."""
    name = "fresh_stack" if "fresh_stack" in request.fixturenames else "shared_stack"
    found: Stack = request.getfixturevalue(name)
    return found


class Complaints(list[str]):
    """What the pages of a test said or did that no page of ours may."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.host = urlsplit(origin).netloc
        self.patterns: list[str] = []

    def tolerate(self, pattern: str) -> None:
        """Take messages that match `pattern` as part of this test's story."""
        self.patterns.append(pattern)

    def watch(self, page: Page) -> None:
        """Listen to all that `page` says and asks for; a broken policy is a console message."""
        page.on("pageerror", lambda error: self.append(f"error: {error.stack or error}"))
        page.on("console", lambda message: self.append(f"{message.type}: {message.text}"))
        page.on("crash", lambda _: self.append("the page crashed"))
        page.on("request", self.judge)
        page.on("websocket", self.judge)

    def judge(self, request: Request | WebSocket) -> None:
        """Complain when `request` goes to another origin."""
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.netloc != self.host:
            self.append(f"left the origin: {request.url}")

    def serious(self) -> list[str]:
        """Return what was not named as expected."""
        return [text for text in self if not any(re.search(p, text) for p in self.patterns)]


@pytest.fixture
def complaints(stack: Stack) -> Complaints:
    """What the test's pages complained about; `.tolerate(pattern)` names what is expected."""
    return Complaints(stack.url)


@pytest.fixture
def context(
    new_context: Callable[..., BrowserContext], stack: Stack, complaints: Complaints
) -> Iterator[BrowserContext]:
    context = new_context(base_url=stack.url)
    context.on("page", complaints.watch)
    yield context
    assert not complaints.serious()


@pytest.fixture
def signed_in(stack: Stack) -> Callable[[Page], Page]:
    """`signed_in(page)` signs the page's browser in as the owner and returns the page.

    The first one follows a real one-time link; later ones of the same product get its cookies.
    """

    def sign_in(page: Page) -> Page:
        if not (cookies := SESSIONS.get(stack)):
            page.goto(stack.login_link())
            page.wait_for_url(lambda url: "/login" not in url)
            SESSIONS[stack] = page.context.cookies()
        else:
            page.context.add_cookies(cast("list[SetCookieParam]", cookies))
        return page

    return sign_in


@pytest.fixture
def axe() -> Callable[[Page], list[str]]:
    """`axe(page)` returns what breaks WCAG 2.2 AA on the page: one line for each finding."""

    def check(page: Page) -> list[str]:
        options = {"runOnly": {"type": "tag", "values": AXE_RULES}}
        found = Axe().run(page, options=options).response["violations"]
        return [
            f"{rule['id']}: {node['failureSummary']} {node['html'][:200]}"
            for rule in found
            for node in rule["nodes"]
        ]

    return check


@pytest.fixture
def in_all_views() -> Callable[[Page], Iterator[str]]:
    """`for view in in_all_views(page)`: desktop and phone, light and dark, named like `phone-dark`.

    The page's own choice of theme must be "as the system".
    """

    def views(page: Page) -> Iterator[str]:
        for size, (width, height) in SIZES.items():
            for theme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=theme)
                yield f"{size}-{theme}"

    return views


@pytest.fixture
def screenshot() -> Callable[..., Path]:
    """`screenshot(page, name)` writes a picture for people to look at and returns its path."""

    def shoot(page: Page, name: str, *, full_page: bool = False) -> Path:
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=full_page)
        return path

    return shoot


@pytest.fixture
def overflow() -> Callable[[Page], int]:
    """`overflow(page)` returns how many pixels the page can be moved sideways; 0 is right."""

    def measure(page: Page) -> int:
        moved: int = page.evaluate(
            """() => {
                const root = document.scrollingElement;
                root.scrollLeft = 10000;
                const moved = root.scrollLeft;
                root.scrollLeft = 0;
                return moved;
            }"""
        )
        return moved

    return measure


@pytest.fixture
def unsound(
    axe: Callable[[Page], list[str]],
    in_all_views: Callable[[Page], Iterator[str]],
    overflow: Callable[[Page], int],
    screenshot: Callable[..., Path],
) -> Callable[[Page, str], list[str]]:
    """`unsound(page, name)` returns what is wrong with the open page, in all views, narrow, large.

    Leaves pictures under that name, and the page with large text.
    """

    def look(page: Page, name: str) -> list[str]:
        found = []
        for view in in_all_views(page):
            screenshot(page, f"{name}-{view}")
            found += [f"{name} {view}: {one}" for one in axe(page)]
            found += [f"{name} {view}: moves sideways"] if overflow(page) else []
        page.set_viewport_size({"width": 320, "height": 640})
        found += [f"{name} at 320: moves sideways"] if overflow(page) else []
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        page.set_viewport_size({"width": 640, "height": 900})
        found += [f"{name} with large text: moves sideways"] if overflow(page) else []
        return found

    return look

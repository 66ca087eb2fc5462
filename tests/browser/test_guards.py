"""The guards of `conftest.py` see what they are there for."""

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import Complaints

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src *"
PAGE = b"""<!doctype html><html lang="de"><title>x</title>
<p style="color:red">inline style</p>
<img src="http://elsewhere.example/pixel.png" alt="">
<a href="/"></a>
<script src="/talk.js"></script></html>"""
SCRIPT = b"console.log('hello'); setTimeout(() => { throw new Error('oops'); });"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        is_script = self.path == "/talk.js"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(SCRIPT if is_script else PAGE)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def careless_site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def careless_page(
    careless_site: str, new_context: Callable[..., BrowserContext]
) -> tuple[Page, Complaints]:
    complaints = Complaints(careless_site)
    page = new_context().new_page()
    complaints.watch(page)
    with page.expect_event("pageerror"):
        page.goto(careless_site)
    return page, complaints


@pytest.mark.parametrize(
    "complaint",
    [
        "log: hello",
        "oops",
        "inline style",
        "left the origin: http://elsewhere.example/pixel.png",
    ],
)
def test_what_a_page_may_not_do_is_noticed(
    careless_page: tuple[Page, Complaints], complaint: str
) -> None:
    _, complaints = careless_page

    assert any(complaint in text for text in complaints.serious()), complaints


def test_what_a_test_names_is_not_held_against_the_page(
    careless_page: tuple[Page, Complaints],
) -> None:
    _, complaints = careless_page

    complaints.tolerate("^log: hello$")

    assert "log: hello" not in complaints.serious()
    assert complaints.serious()


def test_a_link_without_a_name_breaks_accessibility(
    careless_page: tuple[Page, Complaints], axe: Callable[[Page], list[str]]
) -> None:
    page, _ = careless_page

    assert any(finding.startswith("link-name") for finding in axe(page))

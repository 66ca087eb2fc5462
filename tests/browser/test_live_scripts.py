"""morph.js, log.js and live.js in a real browser, on a small page whose socket the test holds."""

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from playwright.sync_api import BrowserContext, Page, WebSocketRoute, expect

from daemon_app.guard import CONTENT_POLICY
from tests.browser.conftest import Complaints

STATIC = Path(__file__).parent.parent.parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Site(http.server.ThreadingHTTPServer):
    """Serves our static files and whatever page a test puts at `body`, under our policy."""

    body = ""
    missed = '<div class="toast" data-toast><span>Wieder verbunden – 3 Läufe</span></div>'
    status = 200
    asked: list[dict[str, str]]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.asked = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        status, kind, content = 404, "text/plain", b""
        if path.startswith("/static/") and (file := STATIC / path[8:]).is_file():
            status, kind, content = 200, TYPES[file.suffix], file.read_bytes()
        elif path.startswith("/daemon/icons"):
            status, kind = 200, "image/svg+xml"
            content = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        elif path == "/daemon/meanwhile/":
            status, kind = 200, "text/html; charset=utf-8"
            content = self.server.missed.encode()
            self.server.asked.append({"since": self.path.partition("=")[2]})
        elif path == "/":
            status, kind = self.server.status, "text/html; charset=utf-8"
            content = self.server.body.encode()
            self.server.asked.append(dict(self.headers))
        elif path == "/favicon.ico":
            status = 204
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", CONTENT_POLICY)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


class Server:
    """The other end of the page's sockets."""

    def __init__(self, page: Page) -> None:
        self.said: list[dict[str, Any]] = []
        self.sockets: list[WebSocketRoute] = []
        self.refuses = False
        self.seq = 0
        page.route_web_socket(re.compile("/ws/daemon/$"), self.opened)

    def opened(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        self.seq = 0
        if self.refuses:
            socket.close()
        socket.on_message(lambda text: self.said.append(json.loads(text)))

    def send(self, **frame: object) -> None:
        self.seq += 1
        head = {"seq": self.seq, "time": "2026-11-24T13:31:05.120Z"}
        self.sockets[-1].send(json.dumps(head | frame))

    def asks(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["t"] == kind]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield site
    site.shutdown()
    site.server_close()


@pytest.fixture
def complaints(site: Site) -> Complaints:
    site.status = 200
    site.asked = []
    return Complaints(site.origin)


@pytest.fixture
def context(
    new_context: Callable[..., BrowserContext], site: Site, complaints: Complaints
) -> Iterator[BrowserContext]:
    context = new_context(base_url=site.origin)
    context.on("page", complaints.watch)
    yield context
    assert not complaints.serious()


def document(content: str, script: str = "live") -> str:
    styles = "".join(
        f'<link rel="stylesheet" href="/static/daemon/css/{name}.css">'
        for name in ("tokens", "base", "components", "log", "live")
    )
    return (
        f'<!doctype html><html lang="de" data-now="2026-11-24T13:31:00.000Z" '
        f'data-zone="Asia/Kathmandu"><title>x</title>'
        f'<meta charset="utf-8">{styles}'
        f'<script type="module" src="/static/daemon/js/{script}.js"></script>'
        f'<body><span class="live" data-live-status></span>'
        f"{render_to_string('daemon/connection.html')}{content}"
        f'<div id="toasts"></div></body></html>'
    )


# ── morph.js ─────────────────────────────────────────────────────────────────────────────────────
PREPARE = """
async () => {
  const { morph } = await import('/static/daemon/js/morph.js');
  const element = (html) => {
    const holder = document.createElement('template');
    holder.innerHTML = html;
    return holder.content.firstElementChild;
  };
  const put = (html) => { document.body.replaceChildren(element(html)); };
  const work = (html) => {
    const added = [];
    morph(document.body.firstElementChild, element(html), (node) => added.push(node.id));
    return added;
  };
  const moved = async (change) => {
    const found = { added: 0, removed: 0 };
    const watcher = new MutationObserver((records) => records.forEach((record) => {
      found.added += record.addedNodes.length;
      found.removed += record.removedNodes.length;
    }));
    watcher.observe(document.body, { childList: true, subtree: true });
    change();
    await new Promise((done) => setTimeout(done));
    watcher.disconnect();
    return found;
  };
  const rows = (n) => `<table><tbody>${[...Array(200).keys()].map((i) => `<tr id="r${i}">
    <td><button>Start ${i}</button></td><td>since ${n + i} s</td><td>name ${i}</td><td>
    <details${i % 2 ? ' open' : ''}><summary>more</summary>text ${n}</details></td></tr>`).join('')}
    </tbody></table>`;
  Object.assign(window, { element, morph, put, work, moved, rows });
}
"""


@pytest.fixture
def morphing(context: BrowserContext, site: Site) -> Page:
    site.body = '<!doctype html><html lang="de"><title>x</title><body></body></html>'
    page = context.new_page()
    page.goto("/")
    page.evaluate(PREPARE)
    return page


def test_focus_selection_and_open_details_survive_forty_updates(morphing: Page) -> None:
    morphing.evaluate("put(rows(0))")
    morphing.evaluate("""() => {
      document.querySelector('#r7 button').focus();
      document.querySelector('#r8 details').open = true;
      document.querySelector('#r9 details').open = false;
      getSelection().selectAllChildren(document.querySelector('#r150 td:nth-child(3)'));
      window.kept = document.querySelector('#r150');
    }""")

    moved = morphing.evaluate("moved(() => { for (let n = 1; n <= 40; n += 1) work(rows(n)); })")

    assert moved == {"added": 0, "removed": 0}
    assert morphing.evaluate("document.activeElement.textContent") == "Start 7"
    assert morphing.evaluate("String(getSelection())") == "name 150"
    assert morphing.evaluate("document.querySelector('#r8 details').open")
    assert not morphing.evaluate("document.querySelector('#r9 details').open")
    assert morphing.evaluate("document.querySelector('#r150') === kept")
    assert morphing.locator("#r199 td:nth-child(2)").text_content() == "since 239 s"


def test_a_field_in_use_is_left_alone_and_one_not_in_use_is_not(morphing: Page) -> None:
    form = """<form><input id="a" value="{0}"><input id="b" value="{0}"><input id="c" value="{0}">
      <textarea id="d">{0}</textarea><textarea id="e">{0}</textarea>
      <input type="checkbox" id="f"><input type="checkbox" id="g">
      <select id="h"><option>{0}</option><option>y</option></select></form>"""
    morphing.evaluate("put", form.format("old"))
    morphing.fill("#b", "typed")
    morphing.fill("#d", "typed")
    morphing.check("#f")
    morphing.select_option("#h", "y")
    morphing.focus("#a")

    morphing.evaluate("work", form.format("new").replace('id="g"', 'id="g" checked'))
    left = morphing.evaluate(
        "[...document.forms[0]].map((f) => f.type === 'checkbox' ? f.checked : f.value)"
    )
    morphing.focus("#c")
    morphing.evaluate("work", form.format("newer"))

    assert left == ["old", "typed", "new", "typed", "new", True, True, "y"]
    # Nobody had typed into the first one: now that it is left, it follows.
    assert morphing.input_value("#a") == "newer"


@pytest.mark.parametrize(
    ("old", "new", "most"),
    [
        ("abcdefgh", "bcdefgh", {"added": 0, "removed": 1}),
        ("abcdefgh", "xabcdefgh", {"added": 1, "removed": 0}),
        ("abcdefgh", "habcdefg", {"added": 1, "removed": 1}),
        ("abcdefgh", "bcdefgha", {"added": 1, "removed": 1}),
        ("abcdefgh", "acdbefgh", {"added": 1, "removed": 1}),
    ],
)
def test_no_more_nodes_are_moved_than_need_be(
    morphing: Page, old: str, new: str, most: dict[str, int]
) -> None:
    def rows(names: str) -> str:
        return "<ul>" + "".join(f'<li id="{name}">{name}</li>' for name in names) + "</ul>"

    morphing.evaluate("put", rows(old))

    moved = morphing.evaluate("(html) => moved(() => work(html))", rows(new))

    assert moved == most
    assert morphing.evaluate("document.body.textContent") == new


def test_what_is_new_is_told_and_focus_moves_along(morphing: Page) -> None:
    morphing.evaluate(
        "put", '<ul><li id="a">a</li><li id="b"><input id="i" value="text"></li></ul>'
    )
    morphing.focus("#i")
    morphing.evaluate("document.activeElement.setSelectionRange(1, 3)")

    added = morphing.evaluate(
        "work",
        '<ul><li id="b"><input id="i" value="text"></li><li id="c">c</li><li id="a">a</li></ul>',
    )

    assert added == ["c"]
    assert morphing.evaluate(
        "[document.activeElement.id, document.activeElement.selectionStart]"
    ) == ["i", 1]


def test_whatever_the_page_was_it_becomes_what_the_server_says(morphing: Page) -> None:
    differing = morphing.evaluate("""() => {
      let seed = 20261124;
      const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % n; };
      const tree = (depth) => {
        const ids = new Set();
        const nodes = [];
        for (let i = random(7); i > 0; i -= 1) {
          const id = random(3) ? `n${depth}${random(9)}` : '';
          if (id && ids.has(id)) continue;
          ids.add(id);
          const tag = ['p', 'div', 'span'][random(3)];
          const data = random(2) ? ` class="c${random(4)}"` : '';
          const start = `<${tag}${id ? ` id="${id}"` : ''}${data}>`;
          const whole = `${start}${depth ? tree(depth - 1) : random(9)}</${tag}>`;
          nodes.push(random(5) ? whole : [' text ', '<!-- note -->', '7'][random(3)]);
        }
        return nodes.join('');
      };
      const wrong = [];
      for (let i = 0; i < 1000; i += 1) {
        const [a, b] = [`<main>${tree(2)}</main>`, `<main>${tree(2)}</main>`];
        const from = element(a);
        const to = element(b);
        morph(from, to);
        from.normalize();
        const wanted = element(b);
        wanted.normalize();
        if (!from.isEqualNode(wanted)) wrong.push([a, b, from.outerHTML]);
      }
      return wrong.slice(0, 1);
    }""")

    assert differing == []


def test_what_belongs_to_scripts_is_kept(morphing: Page) -> None:
    morphing.evaluate(
        "put",
        '<div><p id="a" data-live-keep="class hidden">1</p><p id="b" data-live-skip>1</p></div>',
    )
    morphing.evaluate("document.querySelector('#a').className = 'open'")

    morphing.evaluate(
        "work",
        '<div><p id="a" data-live-keep="class hidden" class="shut">2</p>'
        '<p id="b" data-live-skip>2</p></div>',
    )

    assert morphing.evaluate("document.body.firstChild.outerHTML") == (
        '<div><p id="a" data-live-keep="class hidden" class="open">2</p>'
        '<p id="b" data-live-skip="">1</p></div>'
    )


# ── log.js ───────────────────────────────────────────────────────────────────────────────────────
class Log:
    """A page with the log of run 17, and the server that sends it."""

    def __init__(self, page: Page, server: Server, *, running: bool, tail: str) -> None:
        self.page, self.server, self.offset = page, server, 0
        self.lines = page.locator(".log-line > span")
        self.section = f"""<section id="log" class="card log" role="log" data-log-run="17"
          data-running="{"true" if running else "false"}" data-text-url="/text"
          {render_to_string("daemon/log_words.html")}><span data-log-info></span>
          <button hidden data-log-follow aria-pressed="false">Folgen</button>
          <button hidden data-log-wrap aria-pressed="false">Umbruch</button>
          <div class="log-lines" data-log-lines tabindex="0"><pre>{tail}</pre></div></section>"""

    @property
    def asked(self) -> int:
        """The number of what the page asked last."""
        number: int = self.server.asks("log")[-1]["id"]
        return number

    def write(self, text: str, *, stream: int = 1, line: int = 1, gap: int = 0) -> None:
        self.offset += gap
        end = self.offset + len(text.encode())
        self.server.send(
            asked=self.asked,
            log={
                "run": 17, "offset": self.offset, "next": end, "line": line, "gap": gap,
                "text": [[stream, text]],
            }
        )  # fmt: skip
        self.offset = end

    def end(self) -> None:
        end = {"run": 17, "offset": self.offset, "next": self.offset, "end": True}
        self.server.send(asked=self.asked, log=end)

    def shows(self, *lines: str) -> None:
        expect(self.lines).to_have_text([re.compile(f"^{re.escape(line)}$") for line in lines])


@pytest.fixture
def open_log(context: BrowserContext, site: Site) -> Callable[..., Log]:
    def open_it(
        *, running: bool = True, address: str = "/", tail: str = "old", width: int = 1440
    ) -> Log:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 800})
        server = Server(page)
        log = Log(page, server, running=running, tail=tail)
        site.body = document(log.section, "log")
        page.goto(address)
        while not server.asks("log"):
            page.wait_for_timeout(10)
        return log

    return open_it


def test_lines_are_shown_as_they_come(open_log: Callable[..., Log]) -> None:
    log = open_log()

    log.write("one\ntw")
    log.shows("one", "tw")
    log.write("o\r\n\nlast")
    log.shows("one", "two", "", "last")

    assert [(ask["run"], ask["from"]) for ask in log.server.asks("log")] == [(17, None)]
    assert log.page.locator("#L4 a").get_attribute("href") == "#L4"
    expect(log.page.locator("[data-log-info]")).to_have_text("4 Zeilen")


def test_colours_go_on_from_piece_to_piece(open_log: Callable[..., Log]) -> None:
    log = open_log()

    for part in (
        "\x1b[1;3",
        "1mred",
        " still\nnext\x1b",
        "[0m plain \x1b[38;5;196mx\x1b[48;2;0;0;230my\x1b[m\n",
    ):
        log.write(part)
    log.shows("red still", "next plain xy")

    spans = log.page.locator(".log-line > span > span")
    assert [(s.get_attribute("class"), s.text_content()) for s in spans.all()] == [
        ("ansi-bold ansi-fg-1", "red still"),
        ("ansi-bold ansi-fg-1", "next"),
        ("ansi-fg-9 ansi-fg-rgb", "x"),
        ("ansi-fg-9 ansi-fg-rgb ansi-bg-4 ansi-bg-rgb", "y"),
    ]
    assert spans.nth(3).evaluate(
        "(span) => [span.style.getPropertyValue('--fg'), span.style.getPropertyValue('--bg')]"
    ) == ["#ff0000", "#0000e6"]


HOSTILE = {
    "<script>alert(1)</script><img src=x onerror=alert(1)>": None,
    "</span></div><style>*{display:none}</style>": None,
    "&lt;b&gt; &amp; \" '": None,
    "a\x1b]0;new title\x07b": "ab",
    "a\x1b]8;;http://evil.example/\x1b\\link\x1b]8;;\x1b\\b": "alinkb",
    "a\x1b]52;c;ZXZpbA==\x07b": "ab",
    "a\x1b[2J\x1b[Hb\x1b[10;10Hc\x1b[?25l\x1b[?1049h": "abc",
    "a\x1bPq#0;2;0;0;0\x1b\\b\x1b_x\x1b\\\x1b^x\x1b\\c": "abc",
    "a\x1b(Bb\x1b=c\x1bcd\x1b7": "abcd",
    "a\x1b[8mhidden\x1b[0m": "ahidden",
    "\x1b[31;1;999;38;5;999;48;2;1mx\x1b[m": "x",
    "a\u009b31mb": "a‹U+009B›31mb",
    "a\x00b\x07c\x08d\x7fe\x0b\x0c": "a␀b␇c␈d␡e␋␌",
    "user\u202ecod.exe\u2066x\u2069": "user‹U+202E›cod.exe‹U+2066›x‹U+2069›",
    "a\u200bb\u2028c\ufeff": "a‹U+200B›b‹U+2028›c‹U+FEFF›",
    "a\x1b]0;a title without an end": "a␛]0;a title without an end",
    "\x1b\x1b\x1b[": "␛␛␛[",
    "javascript:alert(1) http://evil.example/": None,
    "\ttab \ufffd ü €": None,
    "50%\r100%": "100%",
    "a long one\rshort\r": "short",
}


def test_what_is_hostile_is_shown_as_text(open_log: Callable[..., Log]) -> None:
    log = open_log()

    for text in HOSTILE:
        # In halves, for an escape may arrive in two pieces.
        log.write(text[: len(text) // 2])
        log.write(f"{text[len(text) // 2 :]}\n")

    log.shows(*[shown or text for text, shown in HOSTILE.items()])
    assert log.page.title() == "x"
    assert log.page.locator("#log :is(script, img, style, a[href^=http])").count() == 0


def test_an_escape_without_end_hides_nothing(open_log: Callable[..., Log]) -> None:
    log = open_log()

    log.write("before \x1b]0;" + "x" * 5000)
    log.write(" after")
    log.end()

    expect(log.lines).to_have_text(re.compile(r"^before ␛\]0;x{5000} after$"))


def test_a_progress_bar_is_one_line(open_log: Callable[..., Log]) -> None:
    log = open_log()

    for percent in range(101):
        log.write(f"\r\x1b[32m{percent} %\x1b[0m")
    log.write("\ndone\n")

    log.shows("100 %", "done")


def test_a_very_long_line_goes_on_in_further_rows(open_log: Callable[..., Log]) -> None:
    log = open_log()

    for _ in range(3):
        log.write("x" * 50_000)
    log.write("\nnext\n")

    expect(log.lines).to_have_count(4)
    assert log.page.locator("#L2").text_content() == "2next"
    assert max(len(text) for text in log.lines.all_text_contents()) == 50_000


def test_stderr_gaps_and_the_end_are_marked(open_log: Callable[..., Log]) -> None:
    log = open_log()

    log.write("out\n")
    log.write("err\n", stream=2)
    log.write("cut off\n", gap=4711, line=900)
    log.end()

    expect(log.page.locator(".is-stderr")).to_have_text("2 Fehlerausgabeerr")
    expect(log.page.locator(".log-gap")).to_contain_text("4.711")
    expect(log.page.locator("#L900 > span")).to_have_text("cut off")
    expect(log.page.locator(".log-end")).to_have_count(1)


def test_a_run_without_output_says_so(open_log: Callable[..., Log]) -> None:
    log = open_log()

    log.end()

    expect(log.page.locator(".log-empty")).to_have_count(1)
    expect(log.page.locator("pre")).to_have_count(0)


def test_a_log_that_is_complete_is_not_replaced_by_its_plain_tail(
    open_log: Callable[..., Log],
) -> None:
    log = open_log()
    log.write("whole\n")
    log.end()
    expect(log.page.locator(".log-end")).to_have_count(1)

    log.page.evaluate("""() => document.dispatchEvent(new CustomEvent('daemon:page', {
      detail: new DOMParser().parseFromString(
        '<div id="log"><div data-log-lines><pre>tail</pre></div></div>', 'text/html'),
    }))""")

    log.shows("whole")


def test_ten_thousand_lines_stay_and_the_oldest_go(open_log: Callable[..., Log]) -> None:
    log = open_log()

    for start in range(1, 12_001, 1000):
        log.write("".join(f"line {number}\n" for number in range(start, start + 1000)))
    expect(log.page.locator("#L12000")).to_have_count(1)

    count = log.lines.count()
    first = log.page.locator(".log-line").first.get_attribute("id")
    assert 9_800 <= count <= 10_000
    assert first == f"L{12_001 - count}"
    expect(log.page.locator(".log-note")).to_contain_text(f"{12_000 - count:,}".replace(",", "."))
    expect(log.page.locator(".log-note a")).to_have_attribute("href", "/text")


def test_a_log_that_is_over_opens_at_its_end_in_however_many_pieces(
    open_log: Callable[..., Log],
) -> None:
    log = open_log(running=False)
    box = log.page.locator(".log-lines")

    for start in range(999_001, 1_000_001, 100):
        text = "".join(f"line {number}\n" for number in range(start, start + 100))
        log.write(text, line=start)
        expect(log.page.locator(f"#L{start + 99}")).to_have_count(1)
        log.page.evaluate("() => new Promise((seen) => requestAnimationFrame(seen))")
    log.end()

    expect(log.page.locator("#L1000000")).to_be_in_viewport()
    expect(log.page.locator(".log-end")).to_be_in_viewport()
    # A long number does not run into its line.
    assert log.page.locator("#L1000000 > a").evaluate(
        "(link) => link.scrollWidth <= link.clientWidth"
    )
    box.evaluate("(box) => { box.scrollTop = 0; }")
    log.page.wait_for_timeout(50)
    assert box.evaluate("(box) => box.scrollTop") == 0


def test_following_ends_by_scrolling_up_and_begins_by_going_down(
    open_log: Callable[..., Log],
) -> None:
    log = open_log()
    box, follow = log.page.locator(".log-lines"), log.page.locator("[data-log-follow]")
    log.write("".join(f"line {number}\n" for number in range(1, 301)))
    bottom = "(box) => box.scrollHeight - box.scrollTop - box.clientHeight < 24"
    while not box.evaluate(bottom):
        log.page.wait_for_timeout(10)
    assert follow.get_attribute("aria-pressed") == "true"

    box.hover()
    log.page.mouse.wheel(0, -600)
    expect(follow).to_have_attribute("aria-pressed", "false")
    where = box.evaluate("(box) => box.scrollTop")
    log.write("".join(f"more {number}\n" for number in range(47)))

    chip = log.page.locator(".log-new")
    expect(chip).to_have_text("47 neue Zeilen ↓")
    assert abs(box.evaluate("(box) => box.scrollTop") - where) < 10  # half a line
    chip.click()
    expect(follow).to_have_attribute("aria-pressed", "true")
    expect(chip).to_be_hidden()
    assert box.evaluate(bottom)


def test_a_long_tail_that_gives_way_to_the_log_does_not_end_following(
    open_log: Callable[..., Log],
) -> None:
    log = open_log(tail="tail\n" * 500)
    box, follow = log.page.locator(".log-lines"), log.page.locator("[data-log-follow]")
    while box.evaluate("(box) => box.scrollTop") < 5000:
        log.page.wait_for_timeout(10)
    log.page.wait_for_timeout(50)  # the page has noticed

    # More comes in after the first lines were scrolled to and before the page notices that.
    log.page.evaluate("""() => {
      new MutationObserver((_, observer) => {
        observer.disconnect();
        requestAnimationFrame(() => {
          const box = document.querySelector('.log-lines');
          box.append(Object.assign(document.createElement('div'), { id: 'more' }));
          box.lastChild.style.height = '9000px';
        });
      }).observe(document.querySelector('.log-lines'), { childList: true });
    }""")
    log.write("".join(f"line {number}\n" for number in range(1, 101)))
    expect(log.page.locator("#more")).to_have_count(1)
    log.page.wait_for_timeout(50)

    expect(follow).to_have_attribute("aria-pressed", "true")


def test_long_lines_are_wrapped_where_there_is_little_room(open_log: Callable[..., Log]) -> None:
    phone = open_log(width=390)
    expect(phone.page.locator("[data-log-wrap]")).to_have_attribute("aria-pressed", "true")

    desk = open_log()
    expect(desk.page.locator("[data-log-wrap]")).to_have_attribute("aria-pressed", "false")


def test_lines_are_picked_by_click_and_by_address(open_log: Callable[..., Log]) -> None:
    log = open_log(running=False, address="/#L150-L152")
    log.write("".join(f"line {number}\n" for number in range(1, 301)))
    log.end()
    picked = log.page.locator(".is-picked > span")

    expect(picked).to_have_text(["line 150", "line 151", "line 152"])
    expect(log.page.locator("#L150")).to_be_in_viewport()
    log.page.locator("#L149 a").click()
    expect(picked).to_have_text(["line 149"])
    log.page.locator("#L147 a").click(modifiers=["Shift"])
    expect(picked).to_have_text(["line 147", "line 148", "line 149"])
    assert log.page.evaluate("location.hash") == "#L147-L149"


def test_wrapping_is_remembered(open_log: Callable[..., Log]) -> None:
    log = open_log()

    log.page.locator("[data-log-wrap]").click()
    expect(log.page.locator("#log")).to_have_class(re.compile("wraps"))
    log.page.reload()

    expect(log.page.locator("#log")).to_have_class(re.compile("wraps"))


def test_after_a_break_the_log_goes_on_where_it_was(open_log: Callable[..., Log]) -> None:
    log = open_log()
    log.write("one\ntw")
    log.shows("one", "tw")

    log.server.sockets[-1].close(code=1012)
    while len(log.server.asks("log")) < 2:
        log.page.wait_for_timeout(10)

    assert log.server.asks("log")[-1]["from"] == 6
    # What answers an earlier question does not count, though it would fit.
    late = {"run": 17, "offset": 6, "next": 9, "line": 2, "gap": 0, "text": [[1, "late"]]}
    log.server.send(asked=log.asked - 1, log=late)
    log.write("o\nthree\n")
    log.shows("one", "two", "three")


# ── live.js ──────────────────────────────────────────────────────────────────────────────────────
REGIONS = '<p id="a" data-region="a">old a</p><p id="b-7" data-region="b:7">old b</p>'


@pytest.fixture
def live(context: BrowserContext, site: Site) -> tuple[Page, Server]:
    page = context.new_page()
    server = Server(page)
    site.body = document(REGIONS)
    page.clock.install(time="2026-11-24T13:30:00Z")
    page.goto("/")
    while not server.asks("hello"):
        page.wait_for_timeout(10)
    return page, server


def state(page: Page) -> str | None:
    found: str | None = page.evaluate("document.documentElement.dataset.live ?? null")
    return found


def test_the_page_says_what_it_shows_and_shows_what_it_is_told(live: tuple[Page, Server]) -> None:
    page, server = live

    server.send(ops=[["morph", "a", '<p id="a" data-region="a">new a</p>', "d1"], ["gone", "b:7"]])
    expect(page.locator("#a")).to_have_text("new a")
    expect(page.locator("#b-7")).to_have_count(0)

    assert server.asks("hello") == [
        {"t": "hello", "language": "de", "regions": {"a": None, "b:7": None}}
    ]
    assert state(page) == "on"
    expect(page.locator("[data-live-status]")).to_have_text("Live")


def test_the_clock_of_the_server_is_passed_on(live: tuple[Page, Server]) -> None:
    page, server = live
    page.evaluate(
        "document.addEventListener('daemon:clock', (event) => { window.clock = event.detail; })"
    )

    server.send()

    while page.evaluate("window.clock") != "2026-11-24T13:31:05.120Z":
        page.wait_for_timeout(10)


def test_what_was_read_is_acknowledged(live: tuple[Page, Server]) -> None:
    page, server = live

    for _ in range(20):
        server.send()
    page.clock.fast_forward(500)
    while not server.asks("seen"):
        page.wait_for_timeout(10)

    assert server.asks("seen")[-1] == {"t": "seen", "seq": 20}


@pytest.mark.parametrize("broken", [{"seq": 9}, {"seq": 2}])
def test_a_missing_frame_makes_the_page_begin_anew(
    live: tuple[Page, Server], broken: dict[str, int]
) -> None:
    page, server = live

    server.sockets[-1].send(json.dumps(broken | {"time": "2026-11-24T13:31:05.120Z"}))
    while len(server.asks("hello")) < 2:
        page.wait_for_timeout(10)

    expect(page.locator("#a")).to_have_text("old a")


def test_a_frame_that_is_none_makes_the_page_begin_anew(live: tuple[Page, Server]) -> None:
    page, server = live

    server.sockets[-1].send("{not json")
    while len(server.asks("hello")) < 2:
        page.wait_for_timeout(10)


def test_after_a_break_the_page_says_what_it_has(live: tuple[Page, Server]) -> None:
    page, server = live
    server.send(ops=[["morph", "a", '<p id="a" data-region="a">new a</p>', "d1"]])
    expect(page.locator("#a")).to_have_text("new a")

    server.sockets[-1].close(code=1012)
    while len(server.asks("hello")) < 2:
        page.clock.run_for(100)

    assert server.asks("hello")[-1]["regions"] == {"a": "d1", "b:7": None}


def test_a_break_is_told_after_three_and_ten_seconds_and_its_end_at_once(
    live: tuple[Page, Server], site: Site, complaints: Complaints
) -> None:
    page, server = live
    complaints.tolerate("status of 503")
    chip, bar = page.locator("[data-live-status]"), page.locator("#connection")
    server.send()
    expect(chip).to_have_text("Live")

    site.status = 503
    server.refuses = True
    server.sockets[-1].close(code=1012)
    page.clock.run_for(2_000)
    assert state(page) is None
    page.clock.run_for(2_000)
    expect(chip).to_have_text("Verbinde neu …")
    expect(bar).to_be_hidden()
    page.clock.run_for(8_000)
    expect(bar).to_be_visible()
    # The server's clock, in the zone of the page.
    expect(bar).to_contain_text("Keine Verbindung seit 19:16 Uhr")
    assert state(page) == "stale"

    site.status = 200
    server.refuses = False
    asked = len(server.asks("hello"))
    bar.get_by_role("button").click()
    while len(server.asks("hello")) == asked:
        page.wait_for_timeout(10)
    server.send()
    expect(bar).to_be_hidden()
    expect(chip).to_have_text("Live")
    expect(page.locator("#toasts")).to_contain_text("Wieder verbunden – 3 Läufe")
    # What it missed is counted from the last time it heard something.
    assert site.asked[-1] == {"since": "2026-11-24T13:31:05.120Z"}


def test_a_silent_socket_is_not_trusted(live: tuple[Page, Server]) -> None:
    page, server = live
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")

    page.clock.run_for(37_000)
    while len(server.sockets) < 2:
        page.clock.run_for(500)

    assert state(page) != "on"


def test_where_sockets_are_refused_the_page_is_fetched_instead(
    live: tuple[Page, Server], site: Site
) -> None:
    page, server = live
    site.body = document(REGIONS.replace("old a", "fetched a"))
    server.refuses = True

    server.sockets[-1].close(code=1012)
    page.clock.run_for(12_000)

    expect(page.locator("#a")).to_have_text("fetched a")
    expect(page.locator("[data-live-status]")).to_have_text("Abruf alle 10 s")
    assert state(page) == "fetching"
    # An open page alone keeps nobody signed in.
    assert site.asked[-1]["X-Unattended"] == "live"


def test_a_server_that_answers_a_fetch_is_asked_for_a_socket_at_once(
    live: tuple[Page, Server], site: Site, complaints: Complaints
) -> None:
    page, server = live
    complaints.tolerate("status of 503")
    server.send()
    site.status = 503
    server.refuses = True
    server.sockets[-1].close(code=1012)
    page.clock.run_for(60_000)

    site.status = 200
    server.refuses = False
    asked = len(server.asks("hello"))
    page.clock.run_for(11_000)
    while len(server.asks("hello")) == asked:
        page.wait_for_timeout(10)
    server.send()

    expect(page.locator("[data-live-status]")).to_have_text("Live")


def test_a_fetch_finds_out_that_the_session_is_over(
    live: tuple[Page, Server], site: Site, complaints: Complaints
) -> None:
    page, server = live
    complaints.tolerate("status of 401")
    site.status = 401
    server.refuses = True

    server.sockets[-1].close(code=1012)
    page.clock.run_for(12_000)

    expect(page.locator("#connection").get_by_role("link", name="Neu anmelden")).to_be_visible()


@pytest.mark.parametrize(("code", "button"), [(4401, "Neu anmelden"), (4403, "Seite neu laden")])
def test_who_may_look_no_more_is_told_and_nothing_is_tried_again(
    live: tuple[Page, Server], code: int, button: str
) -> None:
    page, server = live
    server.send()

    server.sockets[-1].close(code=code)
    link = page.locator("#connection").get_by_role("link", name=button)
    expect(link).to_be_visible()
    page.clock.run_for(60_000)

    assert len(server.sockets) == 1
    assert state(page) == "stale"
    if code == 4401:
        assert link.get_attribute("href") == "/daemon/login/?next=%2F"


@pytest.mark.parametrize("language", ["de", "en"])
def test_tiles_say_how_old_they_are_and_clocks_stand_still(
    context: BrowserContext, site: Site, complaints: Complaints, language: str
) -> None:
    complaints.tolerate("status of 503")
    page = context.new_page()
    server = Server(page)
    site.body = document(
        '<ul><li class="tile"><span class="cause">zwei Gründe</span></li></ul>'
        '<time id="t" data-show="relative" datetime="2026-11-24T13:36:00Z">x</time>'
    ).replace('lang="de"', f'lang="{language}"')
    page.clock.install(time="2026-11-24T13:30:00Z")
    page.goto("/")
    while not server.asks("hello"):
        page.wait_for_timeout(10)
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")

    site.status = 503
    server.refuses = True
    server.sockets[-1].close(code=1012)
    page.clock.run_for(12_000)
    before = page.locator("#t").text_content()
    page.clock.run_for(60_000)

    said = page.locator(".cause").evaluate("(e) => getComputedStyle(e, '::before').content")
    assert said == '"Stand 19:16 · "'
    assert state(page) == "stale"
    assert page.locator("#t").text_content() == before != "x"


def test_a_machine_that_slept_asks_at_once_and_is_told_what_it_missed(
    live: tuple[Page, Server], site: Site
) -> None:
    page, server = live
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")

    # The clock on the wall jumps; the one that counts what the machine did does not.
    page.evaluate("""() => {
      const [now, began] = [Date.now.bind(Date), performance.now()];
      const jump = 8 * 3_600_000;
      Date.now = () => now() + jump;
    }""")
    while len(server.asks("hello")) < 2:
        page.clock.run_for(200)
    server.send()

    expect(page.locator("#toasts")).to_contain_text("Wieder verbunden – 3 Läufe")
    assert site.asked[-1] == {"since": "2026-11-24T13:31:05.120Z"}


def test_who_comes_back_to_a_machine_that_slept_is_told_what_was_missed(
    live: tuple[Page, Server], site: Site
) -> None:
    page, server = live
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")

    page.evaluate("""() => {
      const [now, jump] = [Date.now.bind(Date), 8 * 3_600_000];
      Date.now = () => now() + jump;
      dispatchEvent(new Event('focus'));  // before the next look at the clocks
    }""")
    while len(server.asks("hello")) < 2:
        page.wait_for_timeout(10)
    server.send()

    expect(page.locator("#toasts")).to_contain_text("Wieder verbunden – 3 Läufe")
    assert site.asked[-1] == {"since": "2026-11-24T13:31:05.120Z"}


def test_a_page_that_was_fetched_before_it_had_a_socket_is_told_what_it_missed(
    live: tuple[Page, Server], site: Site, complaints: Complaints
) -> None:
    page, server = live
    complaints.tolerate("status of 503")
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")
    site.status = 503
    server.refuses = True
    server.sockets[-1].close(code=1012)
    page.clock.run_for(60_000)

    site.body = document(REGIONS).replace("13:31:00.000Z", "15:00:00.000Z")
    site.status = 200
    server.refuses = False
    asked = len(server.asks("hello"))
    while len(server.asks("hello")) == asked:
        page.clock.run_for(1_000)
    server.send()

    expect(page.locator("#toasts")).to_contain_text("Wieder verbunden – 3 Läufe")
    assert site.asked[-1] == {"since": "2026-11-24T13:31:05.120Z"}


def test_however_often_it_was_fetched_what_it_missed_is_counted_from_the_break(
    live: tuple[Page, Server], site: Site
) -> None:
    page, server = live
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")
    site.body = document(REGIONS).replace("13:31:00.000Z", "15:00:00.000Z")
    server.refuses = True
    server.sockets[-1].close(code=1012)
    while sum("X-Unattended" in asked for asked in site.asked) < 3:
        page.clock.run_for(1_000)
    expect(page.locator("[data-live-status]")).to_have_text("Abruf alle 10 s")

    server.refuses = False
    asked = len(server.asks("hello"))
    while len(server.asks("hello")) == asked:
        page.clock.run_for(1_000)
    server.send()

    expect(page.locator("#toasts")).to_contain_text("Wieder verbunden – 3 Läufe")
    assert site.asked[-1] == {"since": "2026-11-24T13:31:05.120Z"}


def test_the_longer_nobody_answers_the_more_seldom_it_is_tried(
    live: tuple[Page, Server], site: Site, complaints: Complaints
) -> None:
    page, server = live
    complaints.tolerate("status of 503")
    site.status = 503
    server.refuses = True
    page.evaluate("Math.random = () => 1")
    server.sockets[-1].close(code=1012)

    for _ in range(40):
        page.clock.run_for(1_000)
        page.wait_for_timeout(5)

    # After 0.5, 1, 2, 4, 8 and 16 seconds.
    assert 5 <= len(server.sockets) - 1 <= 7


def test_forty_updates_lose_nothing_of_what_a_person_does(live: tuple[Page, Server]) -> None:
    page, server = live

    def table(n: int) -> str:
        rows = "".join(
            f'<tr id="r{i}"><td><button>Start {i}</button></td><td>seit {n + i} s</td>'
            f"<td>name {i}</td><td><details><summary>mehr</summary>{n}</details></td></tr>"
            for i in range(200)
        )
        return (
            '<div id="a" data-region="a"><input id="q" value="x">'
            '<div id="box" data-live-keep="style">'
            f"<table><tbody>{rows}</tbody></table></div></div>"
        )

    page.evaluate("(html) => { document.querySelector('#a').outerHTML = html; }", table(0))
    server.send()
    expect(page.locator("[data-live-status]")).to_have_text("Live")
    page.locator("#q").fill("getippt und nicht gesendet")
    page.evaluate("""() => {
      document.querySelector('#box').style.cssText = 'height: 200px; overflow: auto';
      document.querySelector('#box').scrollTop = 777;
      document.querySelector('#r8 details').open = true;
      document.querySelector('#q').setSelectionRange(3, 9);
      scrollTo(0, 40);
      const edge = document.querySelector('#box').getBoundingClientRect();
      const row = document.elementFromPoint(edge.left + 30, edge.top + 40).closest('tr');
      window.place = () => [row.id, Math.round(row.getBoundingClientRect().top)];
      window.before = place();
      window.changes = { childList: 0, characterData: 0, attributes: 0 };
      new MutationObserver((records) => records.forEach((r) => { changes[r.type] += 1; })).observe(
        document.querySelector('#a'),
        { childList: true, characterData: true, attributes: true, subtree: true },
      );
    }""")

    for n in range(1, 41):
        server.send(ops=[["morph", "a", table(n), f"d{n}"]])
    expect(page.locator("#r199 td:nth-child(2)")).to_have_text("seit 239 s")

    kept = page.evaluate("""() => ({
      value: document.activeElement.value,
      caret: [document.activeElement.selectionStart, document.activeElement.selectionEnd],
      open: document.querySelectorAll('#a details[open]').length,
      moved: String(before) !== String(place()),
      changes,
    })""")
    assert kept == {
        "value": "getippt und nicht gesendet",
        "caret": [3, 9],
        "open": 1,
        "moved": False,
        # What differs, and nothing else: two texts in each row, each time.
        "changes": {"childList": 0, "characterData": 40 * 200 * 2, "attributes": 0},
    }


def test_rows_under_a_moving_pointer_keep_their_places(live: tuple[Page, Server]) -> None:
    page, server = live

    def rows(*names: str) -> str:
        inside = "".join(f'<li id="{name}">{name} {len(names)}</li>' for name in names)
        return f'<div id="a" data-region="a"><ul data-live-steady>{inside}</ul></div>'

    page.evaluate(
        "(html) => { document.querySelector('#a').outerHTML = html; }", rows("one", "two", "three")
    )
    page.locator("#two").hover()

    server.send(ops=[["morph", "a", rows("two", "three"), "d1"]])
    expect(page.locator("#three")).to_have_text("three 2")
    held = page.locator("#a li").all_text_contents()
    page.clock.run_for(3_000)

    assert held == ["one 3", "two 2", "three 2"]
    expect(page.locator("#a li")).to_have_text(["two 2", "three 2"])


def test_what_lies_within_rows_that_wait_to_move_stays_new(live: tuple[Page, Server]) -> None:
    page, server = live

    def line(text: str) -> str:
        return f'<p id="b-7" data-region="b:7">{text}</p>'

    def rows(text: str, *names: str) -> str:
        inside = "".join(
            f'<li id="{name}">{name} {line(text) if name == "two" else ""}</li>' for name in names
        )
        return f'<div id="a" data-region="a"><ul data-live-steady>{inside}</ul></div>'

    page.evaluate(
        "(html) => { document.querySelector('#b-7').remove();"
        " document.querySelector('#a').outerHTML = html; }",
        rows("first line", "one", "two"),
    )
    page.locator("#two").hover()

    server.send(ops=[["morph", "a", rows("second line", "two"), "d1"]])
    server.send(ops=[["morph", "b:7", line("third line"), "d2"]])
    expect(page.locator("#b-7")).to_have_text("third line")
    page.clock.run_for(3_000)

    expect(page.locator("#one")).to_have_count(0)
    expect(page.locator("#b-7")).to_have_text("third line")


def test_what_comes_back_to_the_page_is_not_taken_for_what_it_was(
    live: tuple[Page, Server],
) -> None:
    page, server = live
    inner = '<p id="b-7" data-region="b:7">{}</p>'
    outer = '<div id="a" data-region="a">{}</div>'
    page.evaluate(
        "(html) => { document.querySelector('#b-7').remove();"
        " document.querySelector('#a').outerHTML = html; }",
        outer.format(inner.format("old")),
    )
    server.send(ops=[["morph", "b:7", inner.format("new"), "d7"]])

    server.send(ops=[["morph", "a", outer.format(""), "d1"]])
    expect(page.locator("#b-7")).to_have_count(0)
    server.send(ops=[["morph", "a", outer.format(inner.format("another run of it")), "d2"]])
    expect(page.locator("#b-7")).to_have_count(1)
    while not server.asks("show") or "b:7" not in server.asks("show")[-1]["regions"]:
        page.wait_for_timeout(10)

    assert server.asks("show")[-1]["regions"] == {"a": "d2", "b:7": None}


# ── title.js and notify.js ───────────────────────────────────────────────────────────────────────
NOTED = """
  window.notes = [];
  window.Notification = class {
    static permission = window.permission ?? 'granted';
    static async requestPermission() { this.permission = 'granted'; return 'granted'; }
    constructor(title, { body, tag }) { window.notes.push([title, body, tag]); }
    close() {}
  };
"""


def tally(news: dict[str, str] | None = None, *, needs: int = 0, running: int = 0) -> str:
    inside = "".join(
        f'<a id="news-{key}" href="/daemon/runs/1/" title="{title}" data-text="why"></a>'
        for key, title in (news or {}).items()
    )
    return (
        f'<div id="tally" data-region="tally" hidden data-needs="{needs}" '
        f'data-running="{running}" data-many="{{n}} Meldungen">{inside}</div>'
    )


def tab(page: Page, content: str) -> Server:
    """Open a page that shows `content`, with all scripts of a page's tab."""
    server = Server(page)
    head = "".join(
        f'<script type="module" src="/static/daemon/js/{name}.js"></script>'
        for name in ("title", "notify")
    )
    page.context.add_init_script(NOTED)
    page.route("/", lambda route: route.fulfill(
        body=document(content).replace("</html>", f"{head}</html>"), content_type="text/html"
    ))  # fmt: skip
    page.goto("/")
    while not server.asks("hello"):
        page.wait_for_timeout(10)
    server.send()
    expect(page.locator("html[data-live=on]")).to_have_count(1)
    return server


def test_the_title_and_the_icon_of_the_tab_say_how_things_are(context: BrowserContext) -> None:
    page = context.new_page()
    run = '<p id="head" data-region="head" data-tab-word="{}">x</p>'
    server = tab(page, tally() + run.format("● läuft"))
    expect(page).to_have_title("● läuft · x")

    server.send(ops=[["morph", "tally", tally(running=1), "d1"]])
    expect(page.locator("html[data-tab=running]")).to_have_count(1)
    server.send(ops=[["morph", "tally", tally(needs=2), "d2"]])
    server.send(ops=[["morph", "head", run.format("Fehlschlag"), "d3"]])

    expect(page).to_have_title("(2) Fehlschlag · x")
    assert page.locator("html").get_attribute("data-tab") == "needs"


def test_without_a_connection_the_icon_is_hollow(
    context: BrowserContext, complaints: Complaints
) -> None:
    complaints.tolerate("status of 503")
    page = context.new_page()
    page.clock.install(time="2026-11-24T13:30:00Z")
    head = '<p id="head" data-region="head" data-tab-word="● läuft">x</p>'
    server = tab(page, tally(needs=1) + head)
    server.refuses = True
    page.route("/", lambda route: route.fulfill(status=503))

    server.sockets[-1].close(code=1012)
    page.clock.run_for(4_000)

    expect(page.locator("html[data-tab=away]")).to_have_count(1)
    expect(page).to_have_title("(1) ○ läuft · x")


def notes(page: Page, wanted: int) -> list[list[str]]:
    page.wait_for_function("(n) => window.notes.length >= n", arg=wanted)
    found: list[list[str]] = page.evaluate("window.notes")
    return found


def test_what_is_asked_for_is_told_once_by_one_of_the_open_pages(context: BrowserContext) -> None:
    pages = [context.new_page(), context.new_page()]
    servers = [tab(page, tally({"bad-1": "seen already"})) for page in pages]
    for page in pages:
        page.evaluate("localStorage.setItem('daemon.notify', 'on')")
        page.reload()
    for page, server in zip(pages, servers, strict=True):
        while len(server.asks("hello")) < 2:
            page.wait_for_timeout(10)

    news = tally({"bad-1": "seen already", "bad-2": "backup: Fehlschlag"})
    for server in servers:
        server.send(ops=[["morph", "tally", news, "d1"]])
    for page in pages:
        expect(page.locator("#news-bad-2")).to_have_count(1)
    after = tally({"good-2": "backup gelingt wieder"})
    for server in servers:
        server.send(ops=[["morph", "tally", after, "d2"]])
    for page in pages:
        expect(page.locator("#news-good-2")).to_have_count(1)

    told = sorted(note for page in pages for note in notes(page, 0))
    assert told == [
        ["backup gelingt wieder", "why", "news-good-2"],
        ["backup: Fehlschlag", "why", "news-bad-2"],
    ]


def test_nobody_is_told_who_did_not_ask(context: BrowserContext) -> None:
    page = context.new_page()
    server = tab(page, tally())

    server.send(ops=[["morph", "tally", tally({"bad-1": "backup"}), "d1"]])
    expect(page.locator("#news-bad-1")).to_have_count(1)

    assert page.evaluate("localStorage.getItem('daemon.told')") is None
    assert notes(page, 0) == []


def test_many_things_at_once_are_one_message(context: BrowserContext) -> None:
    page = context.new_page()
    switch = '<label><input type="checkbox" data-notify>An</label>'
    server = tab(page, tally() + switch)
    page.get_by_label("An").check()
    page.wait_for_function("localStorage.getItem('daemon.notify') === 'on'")

    news = {f"bad-{n}": f"job {n}" for n in range(5)}
    server.send(ops=[["morph", "tally", tally(news), "d1"]])

    [[title, text, _]] = notes(page, 1)
    assert title == "5 Meldungen"
    assert text.split("\n") == [f"job {n}" for n in range(5)]


def test_a_browser_that_refuses_turns_the_switch_off(context: BrowserContext) -> None:
    page = context.new_page()
    page.add_init_script("window.permission = 'denied'")
    said = '<p data-notify-said data-denied="Der Browser erlaubt es nicht"></p>'
    tab(page, f"{tally()}<label><input type=checkbox data-notify>An</label>{said}")

    expect(page.get_by_label("An")).to_be_disabled()
    expect(page.get_by_text("Der Browser erlaubt es nicht")).to_be_visible()

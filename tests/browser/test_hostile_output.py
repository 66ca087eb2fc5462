"""Row 15: what a command writes is text, whatever it looks like."""

import re
import secrets
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.stack import Stack

# Each tries something of its own; `pwned` is what any of them would set.
MARKUP = [
    "<script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    "<svg onload='window.pwned = 1'><animate onbegin='window.pwned = 1'></svg>",
    "</pre></section></main><h1 id='intruder'><a href='http://evil.example'>Sign in</a></h1>",
    "<template><script>window.pwned = 1</script></template>",
    "<iframe srcdoc='<script>parent.pwned = 1</script>'></iframe>",
    "<form action='http://evil.example'><button>Go</button></form>",
    "<base href='http://evil.example/'><meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<link rel=stylesheet href='http://evil.example/x.css'><style>*{display:none}</style>",
    "<a href='javascript:pwned = 1' hx-get='/daemon/' hx-trigger='load' hx-on:load='pwned=1'>x</a>",
    "{{ 7*7 }} {% load daemon %} ${7*7} <%= 7*7 %>",
    "&lt;script&gt;window.pwned = 1&lt;/script&gt; &#60;script&#62;",
]
ESCAPES = [
    "\x1b]0;pwned title\x07 title",
    "\x1b]8;;http://evil.example\x1b\\click here\x1b]8;;\x1b\\ link",
    "\x1b]52;c;cHduZWQ=\x07 clipboard",
    "\x1b[2J\x1b[H\x1b[1A\x1b[2K cleared",
    "\x1bP+q544e\x1b\\ device string",
    "\x1b[8mhidden\x1b[0m shown",
    "\x1b[31;1mred\x1b[0m \x1b[38;2;1;2;3mtrue\x1b[0m \x1b[999999999999mhuge",
    "\x9b31m eight-bit \x9d0;title\x9c",
    "\x1b[31m\x1b]0;never ended",
    "user\u202egnp.exe\u202c \u2066isolated\u2069 \u200bzero\u200fwidth\ufeff",
    "nul\x00bel\x07backspace\x08\x08vt\x0bff\x0c del\x7f",
    "first\rsecond",
    "\u2028line\u2029separators\x85",
]
END = "── the end of the corpus ──"
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


@pytest.fixture
def run(stack: Stack) -> str:
    """The number of a run that writes all of it."""
    corpus = stack.data_dir / "corpus"
    # The long line first: a page begins with the last 256 KiB.
    lines = [b"x" * 1_000_000 + b"<script>pwned=1</script>"]
    lines += [b"\xff\xfe\xc3\x28 \xed\xa0\x80 invalid"]
    lines += [line.encode() for line in (*MARKUP, *ESCAPES, END)]
    corpus.write_bytes(b"\n".join([*lines, b""]))
    name = f"hostile {secrets.token_hex(4)}"
    env = {**stack.env, "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
    made = subprocess.run(
        [sys.executable, "-c", RUN, name, f"cat {corpus}; cat {corpus} >&2"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def test_hostile_output_is_shown_as_text_and_does_nothing(
    page: Page, stack: Stack, run: str, signed_in: Callable[[Page], Page]
) -> None:
    page.add_init_script(
        "window.broken = [];"
        "addEventListener('securitypolicyviolation', (e) => broken.push(e.violatedDirective))"
    )
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    signed_in(page)

    page.goto(f"/daemon/runs/{run}/")
    log = page.locator("#log")
    expect(log).to_contain_text(END, timeout=30_000)

    title = page.title()
    assert "hostile" in title
    assert "pwned" not in title
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("window.broken") == []
    lines = log.locator("[data-log-lines]")
    for element in ("script", "img", "iframe", "form", "style", "link", "base", "meta", "template"):
        assert lines.locator(element).count() == 0, element
    assert page.locator("#intruder").count() == 0
    assert page.locator("a[href*='evil'], a[href^='javascript']").count() == 0
    assert lines.locator("[onerror], [onload], [hx-get]").count() == 0
    # Of all that an escape says, a colour is the most that gets into the page.
    styles = [each.get_attribute("style") or "" for each in lines.locator("[style]").all()]
    assert all(re.fullmatch(r"(--[fb]g: #[0-9a-f]{6}; ?)+", style) for style in styles)
    text = lines.inner_text()
    # Markup can be read, word for word; escapes that act, and letters that deceive, are gone.
    assert MARKUP[0] in text
    assert not set(text) & set("\x00\x07\x08\x0b\x0c\x1b\x7f\x9b\x9d\u202e\u2066\u200b\u200f\ufeff")
    assert "hidden" in text
    assert "second" in text
    assert "http://evil.example\x1b" not in text


def test_hostile_output_is_text_without_script_too(
    new_context: Callable[..., BrowserContext],
    page: Page,
    stack: Stack,
    run: str,
    signed_in: Callable[[Page], Page],
) -> None:
    signed_in(page)
    page.goto(f"/daemon/runs/{run}/")
    expect(page.locator("#log")).to_contain_text(END, timeout=30_000)
    plain = new_context(base_url=stack.url, java_script_enabled=False).new_page()
    plain.context.add_cookies(page.context.cookies())  # type: ignore[arg-type]

    plain.goto(f"/daemon/runs/{run}/")

    lines = plain.locator("[data-log-lines]")
    assert END in lines.inner_text()
    assert MARKUP[0] in lines.inner_text() or "script" in lines.inner_text()
    assert plain.locator("#intruder, [data-log-lines] :not(pre)").count() == 0
    assert not set(lines.inner_text()) & set("\x07\x08\x1b\x9b\u202e\u2066")


@pytest.mark.parametrize("address", ["output/", "output/?download=1"])
def test_the_raw_output_is_a_text_and_no_page(
    page: Page, stack: Stack, run: str, signed_in: Callable[[Page], Page], address: str
) -> None:
    signed_in(page)
    page.goto(f"/daemon/runs/{run}/")
    expect(page.locator("#log")).to_contain_text(END, timeout=30_000)

    answer = page.request.get(
        f"{stack.url}/daemon/runs/{run}/{address}", headers={"Sec-Fetch-Site": "same-origin"}
    )

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment" if "download" in address else "inline")
    assert MARKUP[0].encode() in answer.body()

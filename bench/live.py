"""Measure how long a line and a change take from where they happen to an open page.

python bench/live.py [--rounds 3] [--short]

On the real product (`bach up`), all on one machine with one clock: a command stamps each line it
writes, a viewer takes the time when it has the frame. The viewers are Python clients on the same
cores. `--short` prints `name<TAB>value` and leaves out the crowds and the browser.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.async_api import async_playwright
from websockets import Origin
from websockets.asyncio.client import connect

from tests.browser import chromium
from tests.stack import Stack

# Writes `lines` lines, each with the instant of its writing, `pause` seconds apart.
COMMAND = """{python} -c "
import os, time
begun = time.monotonic()
for n in range({lines}):
    wait = begun + 1 + n * {pause} - time.monotonic()
    if wait > 0: time.sleep(wait)
    os.write(1, b'%d %s\\n' % (time.time_ns(), b'x' * 60))
" """
STAMP = re.compile(r"(\d{19}) x{60}")
QUIET, BUSY = 0.2, 0.0005  # seconds between two lines
# Called in the page with each new line of the log, before it is painted.
WATCH = """() => {
  window.delays = [];
  const box = document.querySelector('[data-log-lines]');
  new MutationObserver((records) => {
    const now = performance.timeOrigin + performance.now();
    for (const record of records) for (const node of record.addedNodes) {
      const stamp = /(\\d{19}) x{60}$/.exec(node.textContent ?? '');
      if (stamp) window.delays.push(now - Number(stamp[1]) / 1e6);
    }
  }).observe(box, { childList: true, subtree: true });
}"""


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--short", action="store_true")
    options = asked.parse_args()
    stack = Stack()
    os.environ.update(stack.env)
    stack.start()
    try:
        Bench(stack, options.rounds, short=options.short).run()
    finally:
        stack.close()


class Bench:
    """The product, and viewers of it."""

    def __init__(self, stack: Stack, rounds: int, *, short: bool) -> None:
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"
        django.setup()
        self.stack, self.rounds, self.short = stack, rounds, short
        self.started = 0

    def run(self) -> None:
        """Measure one thing after another, each in several rounds, and print its row."""
        rows = [
            ("change of a job to the page, ms", self.changes),
            ("line to 1 viewer, 5 lines/s, ms", lambda: self.lines(1, QUIET, 50)),
            ("line to 1 viewer, 2,000 lines/s, ms", lambda: self.lines(1, BUSY, 6000)),
            ("line to 10 viewers, 2,000 lines/s, ms", lambda: self.lines(10, BUSY, 6000)),
        ]
        if not self.short:
            rows += [
                ("line to 100 viewers, 2,000 lines/s, ms", lambda: self.lines(100, BUSY, 6000)),
                ("line into the DOM of Chromium, 5 lines/s, ms", lambda: self.browser(QUIET, 50)),
                (
                    "line into the DOM of Chromium, 500 lines/s, ms",
                    lambda: self.browser(0.002, 2000),
                ),
            ]
            print(f"{'p50 / p95 / p99, medians of the rounds':50}  {'web, CPU s':>10}")
        for name, measure in rows:
            before = self.web_cpu()
            rounds = [percentiles(measure()) for _ in range(self.rounds)]
            cpu = (self.web_cpu() - before) / self.rounds
            value = " / ".join(
                f"{statistics.median(each):.1f}" for each in zip(*rounds, strict=True)
            )
            print(
                f"{name} p50/p95/p99\t{value}"
                if self.short
                else f"{name:50}  {cpu:10.2f}  {value}",
                flush=True,
            )

    # ── Measures ─────────────────────────────────────────────────────────────────────────────────
    def lines(self, viewers: int, pause: float, lines: int) -> list[float]:
        """Return the delay of each line at each viewer, in ms."""
        run = self.start(COMMAND.format(python=sys.executable, lines=lines, pause=pause))
        keys = [self.sign_in(f"viewer {n // 9}") for n in range(0, viewers, 9)]
        return asyncio.run(self._watch_all(run, [keys[n // 9] for n in range(viewers)], lines))

    async def _watch_all(self, run: int, keys: Sequence[str], lines: int) -> list[float]:
        found = await asyncio.gather(*(self._watch(run, key, lines) for key in keys))
        return [delay for delays in found for delay in delays]

    async def _watch(self, run: int, key: str, lines: int) -> list[float]:
        delays: list[float] = []
        unseen = 0
        async with self.socket(key) as socket:
            await socket.send(json.dumps({"t": "log", "run": run, "from": 0, "id": 1}))
            while True:
                text = str(await socket.recv())
                now = time.time_ns()
                # Not parsed: a hundred clients that do would be measured instead of the server.
                delays += [(now - int(stamp)) / 1e6 for stamp in STAMP.findall(text)]
                unseen += len(text)
                if unseen > 200_000:
                    unseen = 0
                    await socket.send(json.dumps({"t": "seen", "seq": json.loads(text)["seq"]}))
                if '"end":true' in text:
                    # A line cut by two frames is not counted.
                    assert lines * 0.98 <= len(delays) <= lines, (len(delays), lines)
                    return delays

    def changes(self) -> list[float]:
        """Return how long each of 40 changes of a job takes to a page that shows it, in ms."""
        return asyncio.run(self._changes(self.sign_in("viewer 0")))

    async def _changes(self, key: str) -> list[float]:
        from daemon_app import live
        from daemon_app.models import Job

        job = await asyncio.to_thread(self.job, "true")
        delays = []
        region = f"job-head:{job}"
        async with self.socket(key) as socket:

            async def shown() -> None:
                while not any(
                    op[1] == region for op in json.loads(await socket.recv()).get("ops", [])
                ):
                    pass

            def rename(text: str) -> None:
                Job.objects.filter(pk=job).update(name=text)
                live.changed(f"job:{job}")

            await socket.send(json.dumps({"t": "hello", "regions": {region: None}}))
            await shown()
            for n in range(40):
                await asyncio.sleep(0.3)
                begun = time.time_ns()
                await asyncio.to_thread(rename, f"bench change {job} {n}")
                await shown()
                delays.append((time.time_ns() - begun) / 1e6)
        return delays

    def browser(self, pause: float, lines: int) -> list[float]:
        """Return the delay of each line until it stands in the page of a real browser, in ms."""
        return asyncio.run(self._browser(pause, lines, self.sign_in("viewer 0")))

    async def _browser(self, pause: float, lines: int, key: str) -> list[float]:
        async with async_playwright() as playwright:
            args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            path = chromium.find()
            browser = await playwright.chromium.launch(executable_path=path, args=args)
            context = await browser.new_context(base_url=self.stack.url)
            await context.add_cookies(
                [{"name": f"bach_{self.stack.port}", "value": key, "url": self.stack.url}]
            )
            page = await context.new_page()
            command = COMMAND.format(python=sys.executable, lines=lines, pause=pause)
            run = await asyncio.to_thread(self.start, command)
            await page.goto(f"/daemon/runs/{run}/")
            await page.evaluate(WATCH)
            await page.locator(".log-end").wait_for(timeout=60_000)
            found: list[float] = await page.evaluate("window.delays")
            await browser.close()
        return found

    # ── The product ──────────────────────────────────────────────────────────────────────────────
    def socket(self, key: str) -> connect:
        """Open a socket as a page of this session does."""
        return connect(
            f"ws://127.0.0.1:{self.stack.port}/ws/daemon/",
            origin=Origin(self.stack.url),
            additional_headers={"Cookie": f"bach_{self.stack.port}={key}"},
            max_size=None,
            compression=None,
            proxy=None,
        )

    def sign_in(self, name: str) -> str:
        """Return the key of a new session."""
        from django.conf import settings
        from django.test import Client

        from daemon_app.models import Account

        known = Account.objects.filter(username=name).first()
        client = Client()
        client.force_login(known or Account.objects.create_user(name, role="admin"))
        return client.cookies[settings.SESSION_COOKIE_NAME].value

    def job(self, command: str) -> int:
        """Return the number of a new job."""
        from daemon_app.models import Job

        self.started += 1
        made = Job(name=f"bench {self.started}", job_type="manual", command=command)
        return made.store(now=datetime.now(UTC), by="bench").pk

    def start(self, command: str) -> int:
        """Start a command and return the number of its run."""
        from daemon_app import scheduler
        from daemon_app.models import Job

        job = Job.objects.get(pk=self.job(command))
        run = scheduler.start(job, trigger="manual", by="bench", now=datetime.now(UTC)).run
        assert run is not None
        return run.pk

    def web_cpu(self) -> float:
        """Return the CPU seconds that the web process has used."""
        ticks = 0.0
        for process in self.stack.processes():
            if "web" in process.name():
                times = process.cpu_times()
                ticks += times.user + times.system
        return ticks


def percentiles(delays: Iterable[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    ordered = sorted(delays)
    return tuple(ordered[min(len(ordered) - 1, int(len(ordered) * p))] for p in (0.5, 0.95, 0.99))  # type: ignore[return-value]


if __name__ == "__main__":
    main()

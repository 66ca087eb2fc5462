"""Measure how long a line and a change take from where they happen to an open page.

python bench/live.py [--rounds 3] [--short] [--only crowd|stalled|still]

On the real product (`bach up`), all on one machine with one clock: a command stamps each line it
writes, a viewer takes the time when it has the frame. The viewers are Python clients on the same
cores. `--short` prints `name<TAB>value` and leaves out the crowds and the browser.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
from playwright.async_api import Page, Playwright, async_playwright
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
CROWD, CROWD_LINES, CROWD_CHANGES = 1000, 30, 5  # sockets, and what each of them gets
STALLED = 50  # of them read nothing
JOBS, CHANGES, SECONDS = 200, 40, 4  # on the overview: jobs, and changes within so many seconds
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

# What holds the page up, and what a person has in hand, while it changes.
LONG_TASKS = """() => {
  window.tasks = [];
  window.updates = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.tasks.push(task.duration);
  }).observe({ type: 'longtask' });
  document.addEventListener('daemon:shown', () => { window.updates += 1; });
  window.focused = document.querySelector('main button, main a');
  window.focused.focus();
  getSelection().selectAllChildren(document.querySelector('h1'));
  window.selected = String(getSelection());
}"""


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--short", action="store_true")
    asked.add_argument("--only", default="", help="one of: crowd, stalled, still")
    options = asked.parse_args()
    stack = Stack()
    stack.env["BACH_LIVE_SOCKETS"] = str(CROWD + 200)
    os.environ.update(stack.env)
    stack.start()
    try:
        bench = Bench(stack, options.rounds, short=options.short)
        if options.only:
            getattr(bench, options.only)()
        else:
            bench.run()
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
                ("line to 100 viewers, 5 lines/s, ms", lambda: self.lines(100, QUIET, 50)),
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

        if not self.short:
            self.crowd()
            self.stalled()
            self.still()

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

    def crowd(self) -> None:
        """Print what 1,000 sockets get of one log and one job: each of them all of it, in order."""
        keys = [self.sign_in(f"crowd {n}") for n in range(CROWD // 9 + 1)]
        before = self.web_cpu()
        lines, changes = asyncio.run(self._crowd(keys))
        memory = self.web().memory_info().rss / 2**20
        for name, delays in (("line", lines), ("change", changes)):
            value = " / ".join(f"{each:.0f}" for each in percentiles(delays))
            print(f"{f'{name} to each of {CROWD:,} sockets, in order, none lost, ms':61}  {value}")
        print(f"    CPU {self.web_cpu() - before:.1f} s, memory of the web process {memory:.0f} MB")

    async def _crowd(self, keys: Sequence[str]) -> tuple[list[float], list[float]]:
        job = await asyncio.to_thread(self.job, "true")
        # The crowd comes before the first line.
        gate = self.stack.data_dir / "gate"
        command = COMMAND.format(python=sys.executable, lines=CROWD_LINES, pause=0.4)
        wait = f"until [ -e {gate} ]; do sleep 0.1; done;"
        run = await asyncio.to_thread(self.start, f"{wait} {command}")

        def rename() -> None:
            from daemon_app import live
            from daemon_app.models import Job

            Job.objects.filter(pk=job).update(name=f"changed at {time.time_ns()}")
            live.changed(f"job:{job}")

        async def change() -> None:
            for each in visitors:
                await each.here.wait()
            took = time.monotonic() - begun
            print(f"{CROWD:,} sockets are there after {took:.0f} s", flush=True)
            gate.touch()
            for _ in range(CROWD_CHANGES):
                await asyncio.to_thread(rename)
                await asyncio.sleep(2)

        begun = time.monotonic()
        visitors = [Visitor(self.socket(keys[n // 9]), run, job) for n in range(CROWD)]
        async with asyncio.TaskGroup() as group:
            group.create_task(change())
            for visitor in visitors:
                group.create_task(visitor.watch())
                await asyncio.sleep(0.01)
        lines = [delay for each in visitors for delay in each.lines]
        changes = [delay for each in visitors for delay in each.changes]
        assert len(lines) == CROWD * CROWD_LINES, len(lines)
        # Those that come while one is on its way are seen as one.
        assert len({each.last_change for each in visitors}) == 1
        return lines, changes

    def stalled(self) -> None:
        """Print by how much 50 pages that read nothing let the web process grow."""
        keys = [self.sign_in(f"stalled {n}") for n in range(STALLED // 9 + 1)]
        sizes = asyncio.run(self._stalled(keys))
        grown = ", ".join(f"{megabytes} MB: {size / 2**20:+.1f}" for megabytes, size in sizes)
        print(f"web process grown with {STALLED} stalled pages, MB, after  {grown}")

    async def _stalled(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        line = "x" * 9_999
        steps = (5, 20, 60)  # megabytes written
        command = f"sleep 20; yes {line} | head -n {steps[-1] * 100} | pv -qL 4M"
        command = command if shutil.which("pv") else command.rpartition("|")[0]
        run = await asyncio.to_thread(self.start, command)
        web = self.web()
        sizes: list[tuple[int, int]] = []
        async with AsyncExitStack() as stack:
            for n in range(STALLED):
                socket = await stack.enter_async_context(self.socket(keys[n // 9]))
                await socket.send(json.dumps({"t": "log", "run": run, "from": 0, "id": 1}))
                socket.transport.pause_reading()
                stack.callback(socket.transport.abort)
            reader = await stack.enter_async_context(self.socket(keys[-1]))
            await reader.send(json.dumps({"t": "log", "run": run, "from": 0, "id": 1}))
            before = web.memory_info().rss
            unseen, ended = 0, False
            while not ended:
                text = str(await reader.recv())
                unseen += len(text)
                frame = json.loads(text)
                log = frame.get("log", {})
                ended = bool(log.get("end"))
                if unseen > 100_000:
                    unseen = 0
                    await asyncio.sleep(0.1)
                    await reader.send(json.dumps({"t": "seen", "seq": frame["seq"]}))
                step = steps[min(len(sizes), len(steps) - 1)]
                if len(sizes) < len(steps) and (log.get("next", 0) >= step * 990_000 or ended):
                    sizes.append((step, web.memory_info().rss - before))
        return sizes

    def still(self) -> None:
        """Print whether 40 changes in 4 s hold the overview of 200 jobs up in a browser."""
        found = asyncio.run(self._still(self.sign_in("viewer 0")))
        name = f"{CHANGES} changes in {SECONDS} s, a page of {JOBS} jobs: long tasks"
        print(f"{name:61}  {found}")

    async def _still(self, key: str) -> str:
        from daemon_app import live
        from daemon_app.models import Job

        jobs = [await asyncio.to_thread(self.job, "true") for _ in range(JOBS)]

        def change(n: int) -> None:
            for job in jobs[n::CHANGES]:
                Job.objects.filter(pk=job).update(name=f"changed {n} {job}")
            live.changed("jobs", "runs")

        async with async_playwright() as playwright:
            page = await self._page(playwright, key)
            await page.goto("/daemon/jobs/")
            await page.locator("html[data-live=on]").wait_for()
            await page.wait_for_timeout(3000)
            await page.evaluate(LONG_TASKS)
            begun = time.monotonic()
            for n in range(CHANGES):
                await asyncio.to_thread(change, n)
                pause = begun + (n + 1) * SECONDS / CHANGES - time.monotonic()
                await asyncio.sleep(max(0, pause))
            await page.wait_for_timeout(1000)
            tasks, updates, kept = await page.evaluate(
                "[window.tasks, window.updates, document.activeElement === window.focused"
                " && String(getSelection()) === window.selected]"
            )
            await page.context.browser.close()  # type: ignore[union-attr]
        longest = f", the longest {max(tasks):.0f} ms" if tasks else ""
        return f"{len(tasks)}{longest}; {updates} updates, focus and selection kept: {kept}"

    def browser(self, pause: float, lines: int) -> list[float]:
        """Return the delay of each line until it stands in the page of a real browser, in ms."""
        return asyncio.run(self._browser(pause, lines, self.sign_in("viewer 0")))

    async def _browser(self, pause: float, lines: int, key: str) -> list[float]:
        async with async_playwright() as playwright:
            page = await self._page(playwright, key)
            command = COMMAND.format(python=sys.executable, lines=lines, pause=pause)
            run = await asyncio.to_thread(self.start, command)
            await page.goto(f"/daemon/runs/{run}/")
            await page.evaluate(WATCH)
            await page.locator(".log-end").wait_for(timeout=60_000)
            found: list[float] = await page.evaluate("window.delays")
            await page.context.browser.close()  # type: ignore[union-attr]
        return found

    async def _page(self, playwright: Playwright, key: str) -> Page:
        """Return a page of a new browser in which this session is signed in."""
        args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = await playwright.chromium.launch(executable_path=chromium.find(), args=args)
        context = await browser.new_context(base_url=self.stack.url)
        await context.add_cookies(
            [{"name": f"bach_{self.stack.port}", "value": key, "url": self.stack.url}]
        )
        return await context.new_page()

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
        made = Job(
            name=f"bench {self.started}", job_type="manual", command=command, timeout_seconds=3600
        )
        return made.store(now=datetime.now(UTC), by="bench").pk

    def start(self, command: str) -> int:
        """Start a command and return the number of its run."""
        from daemon_app import scheduler
        from daemon_app.models import Job

        job = Job.objects.get(pk=self.job(command))
        run = scheduler.start(job, trigger="manual", by="bench", now=datetime.now(UTC)).run
        assert run is not None
        return run.pk

    def web(self) -> psutil.Process:
        """Return the web process."""
        return next(each for each in self.stack.processes() if "web" in each.name())

    def web_cpu(self) -> float:
        """Return the CPU seconds that the web process has used."""
        times = self.web().cpu_times()
        return float(times.user + times.system)


class Visitor:
    """One of many sockets: it fails when a frame or a byte is missing, double or out of order."""

    def __init__(self, socket: connect, run: int, job: int) -> None:
        self.socket, self.run, self.job = socket, run, job
        self.seq = self.offset = 0
        self.here = asyncio.Event()
        self.lines: list[float] = []  # how long each took, in ms
        self.changes: list[float] = []
        self.last_change = ""

    async def watch(self) -> None:
        """Take in all there is until the log is complete."""
        regions = {f"job-head:{self.job}": None}
        async with self.socket as socket:
            await socket.send(json.dumps({"t": "hello", "regions": regions}))
            await socket.send(json.dumps({"t": "log", "run": self.run, "from": 0, "id": 1}))
            while not self.take(json.loads(await socket.recv()), time.time_ns()):
                pass

    def take(self, frame: dict[str, Any], now: int) -> bool:
        """Judge a frame; return whether it is the log's last."""
        self.seq += 1
        self.here.set()
        assert frame["seq"] == self.seq
        for op in frame.get("ops", []):
            stamps = re.findall(r"changed at (\d{19})", op[2])[:1]
            self.changes += [(now - int(stamp)) / 1e6 for stamp in stamps]
            self.last_change = stamps[0] if stamps else self.last_change
        log = frame.get("log")
        if not log:
            return False
        assert log["offset"] == self.offset
        self.offset = log["next"]
        text = "".join(part[1] for part in log.get("text", []))
        self.lines += [(now - int(stamp)) / 1e6 for stamp in STAMP.findall(text)]
        return bool(log.get("end"))


def percentiles(delays: Iterable[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    ordered = sorted(delays)
    return tuple(ordered[min(len(ordered) - 1, int(len(ordered) * p))] for p in (0.5, 0.95, 0.99))  # type: ignore[return-value]


if __name__ == "__main__":
    main()

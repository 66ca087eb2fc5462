"""Measure how fast runs make way for a person, and what noticing a person costs a request.

python bench/displacement.py [--rounds 100] [--pairs 1000] [--only ways,storm,cost] [--short]

On the real product (`bach up`). A round starts two jobs that make way, a shell's and a Python
program's as skills are, and sends one page request of somebody who is signed in. The clock starts
before the first byte of the request leaves, so connection, server and middleware are in every
figure. `storm`: the same while 10,000 jobs are due at once. `cost`: the same page, in turns from
two servers of the same installation, one of them without the middleware.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shlex
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.beat import STORM, fill
from tests.stack import BACH, Stack, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 60.0  # seconds
# A run is asked to make way for whoever came in the second before it was watched.
SETTLED = 1.2  # seconds from one request to the next start
WATCHED = 0.3  # seconds from a command's first word until it is watched for sure
PAGE = "/daemon/password/"  # small, and asks the database no more than who is signed in

SHELL = """exec bash -c 'trap "echo \\$EPOCHREALTIME >> {folder}/$BACH_RUN_ID.term; exit 0" TERM
echo >> {folder}/$BACH_RUN_ID.ready; while :; do sleep 600 & wait; done'"""
PYTHON = """
import os, signal, sys, time
mine = sys.argv[1] + "/" + os.environ["BACH_RUN_ID"]
def note(what):
    with open(mine + what, "a") as file:
        file.write(f"{time.time()}\\n")
terms = []
def term(*_):
    note(".term")
    terms.append(1)
signal.signal(signal.SIGTERM, term)
note(".ready")
while not os.path.exists(os.environ["BACH_STOP"]):
    time.sleep(0.005)
note(".asked")
while not terms:  # the file comes first
    time.sleep(0.005)
"""
WITHOUT = """
from bachweb.settings import *
BEFORE = MIDDLEWARE
MIDDLEWARE = [name for name in BEFORE if "presence" not in name.lower()]
assert len(MIDDLEWARE) == len(BEFORE) - 1, BEFORE
"""


def main() -> None:
    asked = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    asked.add_argument("--rounds", type=int, default=100)
    asked.add_argument("--pairs", type=int, default=1000)
    asked.add_argument("--only", default="ways,storm,cost")
    asked.add_argument("--short", action="store_true", help="as name, tab and value")
    options = asked.parse_args()
    if not options.short:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; p50 / p95 / p99 / max")
    stack = Stack()
    # The storm shall wait for places, not be over before anything is measured.
    stack.env |= {"BACH_MAX_PARALLEL": "8", "BACH_API_WRITES": "0"}
    os.environ.update({name: value for name, value in stack.env.items() if name[:4] == "BACH"})
    os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"
    stack.start()
    try:
        bench = Bench(stack, short=options.short)
        if "ways" in options.only:
            bench.ways("", options.rounds)
        if "storm" in options.only:
            bench.storm(options.rounds)
        if "cost" in options.only:
            bench.cost(options.pairs)
    finally:
        stack.close()
    if not options.short:
        sys.exit("\n".join(bench.missed) or None)


class Bench:
    """The product, somebody who is signed in, and two jobs that make way."""

    def __init__(self, stack: Stack, *, short: bool) -> None:
        import django

        django.setup()
        from django.conf import settings
        from django.test import Client

        from daemon_app.models import Account, Job, Policy

        self.stack, self.short = stack, short
        self.missed: list[str] = []
        self.folder = stack.data_dir / "stamps"
        self.folder.mkdir()
        now = datetime.now(UTC)
        # Only the request counts here, not what else goes on on this machine.
        policy = Policy.current()
        policy.idle_after_seconds, policy.foreign_load_percent = 1, None
        policy.watch_logins = policy.watch_gpu = False
        policy.store(now=now, by="bench")
        client = Client()
        client.force_login(Account.objects.create_user("anna", role="viewer"))
        self.cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.web = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE)
        python = f"exec {shlex.join([sys.executable, '-c', PYTHON, str(self.folder)])}"
        commands = {"shell": SHELL.format(folder=self.folder), "Python": python}
        self.jobs = [
            Job(
                name=name,
                job_type="manual",
                command=command,
                on_presence="displace",
                priority=100,
                overlap="parallel",
                max_instances=10,
            ).store(now=now, by="bench")
            for name, command in commands.items()
        ]

    # ── Making way ───────────────────────────────────────────────────────────────────────────────
    def ways(self, when: str, rounds: int, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Measure rounds, as long as `goes_on`, and print a row for each stretch of the way."""
        found: dict[str, list[float]] = {}
        for number in range(rounds):
            if not goes_on():
                break
            for name, seconds in self.round(alone=number % 3 == 0).items():
                found.setdefault(name, []).append(seconds * 1000)
        for name, delays in found.items():
            goal = "p99 < 100" if "signal" in name else ""
            self.tell(f"{when}{name}, ms", percentiles(delays), goal)
            if goal and quantile(delays, 0.99) >= 100:
                self.missed.append(f"missed: {when}{name}: {goal} ms")

    def round(self, *, alone: bool) -> dict[str, float]:
        """Return by stretch how many seconds one person's return took.

        `alone` measures a request after the same pause, with nothing to displace, as well.
        """
        from daemon_app import scheduler
        from daemon_app.models import Run

        found = {}
        time.sleep(SETTLED)
        if alone:
            sent = time.time()
            self.ask(self.web, self.cookie)
            found["request that finds nothing to displace: answered"] = time.time() - sent
            time.sleep(SETTLED)
        runs = []
        for job in self.jobs:
            begun = scheduler.start(job, trigger="manual", by="bench", now=datetime.now(UTC))
            assert begun.run, begun.reason
            runs.append(begun.run)
        for run in runs:
            self.stamp(run.pk, "ready")
        time.sleep(WATCHED)
        sent = time.time()
        self.ask(self.web, self.cookie)
        found["request that finds two runs to displace: answered"] = time.time() - sent
        for job, run in zip(self.jobs, runs, strict=True):
            found[f"request → SIGTERM in the {job.name} command"] = (
                self.stamp(run.pk, "term") - sent
            )
            if job.name == "Python":
                key = "request → BACH_STOP seen by it (looks every 5 ms)"
                found[key] = self.stamp(run.pk, "asked") - sent
            asked, ended, in_daemon = self.displaced(run.pk)
            found[f"request → signal sent to the {job.name} job"] = asked - sent
            found[f"    of that, from the web process on ({job.name})"] = in_daemon
            found[f"request → last process of the {job.name} job gone"] = ended - sent
        for run in runs:  # back in line, or running again by now
            scheduler.stop(run, by="bench", now=datetime.now(UTC))
        pks = [run.pk for run in runs]
        self.until(lambda: not Run.objects.active().filter(pk__in=pks).exists())
        return found

    def storm(self, rounds: int) -> None:
        """Measure while 10,000 jobs have become due in the same second."""
        from daemon_app.models import Run

        due = (datetime.now(UTC) + timedelta(seconds=8)).replace(microsecond=0)
        fill(STORM, due)
        time.sleep(max((due - datetime.now(UTC)).total_seconds(), 0))
        self.until(lambda: Run.objects.filter(due_at=due).exists())
        self.ways(f"{STORM} due: ", rounds, Run.objects.queued().exists)

    # ── What a request pays ──────────────────────────────────────────────────────────────────────
    def cost(self, pairs: int) -> None:
        """Measure the same request at a server with the middleware and at one without, in turns."""
        with self.another_server() as (port, cookie):
            other = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            took: dict[str, list[float]] = {"with": [], "without": []}
            for number in range(pairs + 50):
                turns = [("with", self.web, self.cookie), ("without", other, cookie)]
                for name, server, session in turns if number % 2 else reversed(turns):
                    begun = time.perf_counter()
                    self.ask(server, session)
                    if number >= 50:  # both are warm
                        took[name].append((time.perf_counter() - begun) * 1000)
        for name, values in took.items():
            self.tell(f"request {name} the middleware, ms", percentiles(values))
        more = [a - b for a, b in zip(took["with"], took["without"], strict=True)]
        ratio = statistics.median(took["with"]) / statistics.median(took["without"])
        added = statistics.median(more)
        self.tell(
            "    added per request, median of pairs", f"{added:.3f} ms, x{ratio:.3f}", "< 2 ms"
        )
        if added >= 2:
            self.missed.append("missed: a request is delayed by < 2 ms")

    @contextmanager
    def another_server(self) -> Iterator[tuple[int, str]]:
        """Run a second web server without the middleware; yield its port and a session there."""
        from django.contrib.sessions.models import Session

        settings = self.stack.data_dir / "without.py"
        settings.write_text(WITHOUT)
        port = free_port()
        environment = {
            **self.stack.env,
            "BACH_PORT": str(port),
            "DJANGO_SETTINGS_MODULE": "without",
            "PYTHONPATH": str(settings.parent),
        }
        with (self.stack.data_dir / "without.log").open("wb") as log:
            process = subprocess.Popen(
                [BACH, "gui", "start"], env=environment, stdout=log, stderr=log
            )
        try:
            self.until(lambda: self.is_there(port, process))
            assert Session.objects.filter(pk=self.cookie).exists()
            yield port, self.cookie
        finally:
            process.terminate()
            process.wait(PATIENCE)

    def is_there(self, port: int, process: subprocess.Popen[bytes]) -> bool:
        log = self.stack.data_dir / "without.log"
        assert process.poll() is None, log.read_text()
        try:
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            server.request("GET", "/daemon/login/")
            return server.getresponse().status == 200
        except OSError:
            return False

    def ask(self, server: http.client.HTTPConnection, session: str) -> None:
        """Ask for a page as somebody who is signed in."""
        server.request("GET", PAGE, headers={"Cookie": f"bach_{server.port}={session}"})
        answer = server.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    # ── Odds and ends ────────────────────────────────────────────────────────────────────────────
    def stamp(self, run: int, what: str) -> float:
        """Return when a run's command noted that, the first time, waiting for it."""
        file = self.folder / f"{run}.{what}"
        line = self.until(lambda: file.exists() and "\n" in (text := file.read_text()) and text)
        return float(line.splitlines()[0] or 0)

    def displaced(self, run: int) -> tuple[float, float, float]:
        """Return when a run was asked to make way, when it had, and how long asking took."""
        from daemon_app.models import Displacement

        # The first: back in line it may begin anew at once, and have to make way again.
        row = self.until(lambda: Displacement.objects.filter(run=run).order_by("id").first())
        arrived = row.at.timestamp()
        return arrived + row.asked_seconds, arrived + row.yielded_seconds, row.asked_seconds

    def until(self, answer: Callable[[], Any]) -> Any:
        """Return the first true answer."""
        deadline = time.monotonic() + PATIENCE
        while not (found := answer()):
            assert time.monotonic() < deadline, self.stack.log()
            time.sleep(0.01)
        return found

    def tell(self, name: str, value: str, goal: str = "") -> None:
        line = f"{name}\t{value}" if self.short else f"{name:66}  {value:36}  {goal}"
        print(line.rstrip(), flush=True)


def percentiles(values: list[float]) -> str:
    """Return p50, p95, p99 and the maximum."""
    told = " / ".join(f"{quantile(values, share):.1f}" for share in (0.5, 0.95, 0.99, 1.0))
    return f"{told} (n={len(values)})"


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


if __name__ == "__main__":
    main()

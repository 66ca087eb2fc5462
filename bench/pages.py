"""What pages and answers cost: `python -m bench.pages`, lines of name, tab, value.

10,000 jobs and 1,000,000 runs of two months. Told is the server's time in milliseconds (p50 / p95)
for every page, every live region by itself and every address of the REST interface that shows
something, with the least processor time (where others work on the machine, that says more) and the
number of queries; then what the first view weighs. The database is written once into `--data` and
used again by later calls.
"""

import argparse
import gzip
import html
import logging
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.test import Client

    from daemon_app import tiles

JOBS, RUNS = 10_000, 1_000_000
PAGE_GOAL, REGION_GOAL = 100.0, 20.0  # ms
VIEW_GOAL = 150_000  # bytes
REGION = re.compile(r'data-region="([^"]+)"')


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--data", type=Path, default=Path("/tmp/bach-bench-pages"))
    asked.add_argument("--jobs", type=int, default=JOBS)
    asked.add_argument("--runs", type=int, default=RUNS)
    asked.add_argument("--rounds", type=int, default=20)
    asked.add_argument("--only", default="", help="a regular expression: what to measure")
    asked.add_argument("--slow", action="store_true", help="only what misses its goal")
    asked.add_argument("--sql", action="store_true", help="the slowest query of each, too")
    options = asked.parse_args()
    set_up(options.data, options.jobs, options.runs)
    for name, value, missed in measured(options.rounds, options.only, told_sql=options.sql):
        if missed or not options.slow:
            print(f"{name}\t{value}{'  OVER' if missed else ''}", flush=True)


def set_up(folder: Path, jobs: int, runs: int) -> None:
    """Point Django at the database in `folder`, which is written if it isn't there."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["BACH_DATA_DIR"] = str(folder)
    os.environ.setdefault("BACH_TIME_ZONE", "Europe/Berlin")
    os.environ["DJANGO_SETTINGS_MODULE"] = "bachweb.settings"
    os.environ.pop("DATABASE_URL", None)
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from bench import many
    from daemon_app.models import Job, Node

    call_command("migrate", verbosity=0)
    now = timezone.now()
    if not Job.objects.filter(skill="").exists():
        begun = time.perf_counter()
        many.fill(now, jobs, runs)
        print(f"{jobs} jobs and {runs} runs written\t{time.perf_counter() - begun:.0f} s")
    # It lives as long as we look.
    Node.objects.update(seen_at=now + timedelta(minutes=30))
    logging.getLogger("django.request").setLevel(logging.CRITICAL)


def measured(rounds: int, only: str, *, told_sql: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield (name, figures, whether they miss the goal)."""
    from daemon_app import tiles
    from daemon_app.models import Account
    from tests import addresses

    reader = browser()
    account = Account.objects.get(username="bench")
    viewer = tiles.Viewer("admin", "de", account.pk, "bench")
    regions: dict[str, str] = {}
    for name, address in addresses.shown(samples()):
        kind = "api" if name.startswith("api/") else "page"
        answer = reader.get(address)
        if kind == "page" and "html" in answer["Content-Type"]:
            for found in REGION.findall(_text_of(answer)):
                key = html.unescape(found)
                regions.setdefault(f"{key.partition(':')[0]} on {name}", key)
        if not re.search(only, f"{kind} {name}"):
            continue
        told = f"{kind} {name} {answer.status_code if answer.status_code != 200 else ''}".strip()
        yield _figures(told, partial(reader.get, address), rounds, PAGE_GOAL, told_sql)
    for name, region in _different(regions):
        if not re.search(only, f"region {name}"):
            continue
        of, colon, arg = region.partition(":")
        draw = partial(_drawn, of, arg if colon else None, viewer)
        yield _figures(f"region {name}", draw, rounds, REGION_GOAL, told_sql)
    yield from _commands(only, rounds)
    yield from _first_view(reader, only)


def _text_of(answer: Any) -> str:
    packed = answer.get("Content-Encoding") == "gzip"
    return (gzip.decompress(answer.content) if packed else answer.content).decode()


def _drawn(name: str, arg: str | None, viewer: "tiles.Viewer") -> str | None:
    from django.utils import timezone

    from daemon_app import tiles

    return tiles.render(name, arg, viewer, timezone.now())


def _different(regions: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each region once, by the first page it was found on; with another argument again."""
    seen = set()
    for name, region in regions.items():
        if region not in seen:
            seen.add(region)
            yield name, region


def browser() -> "Client":
    """Return a client in which an administrator is signed in."""
    from django.conf import settings
    from django.test import Client

    from daemon_app.models import Account

    settings.ALLOWED_HOSTS = ["testserver"]
    account, _made = Account.objects.get_or_create(username="bench", role="admin")
    reader = Client(headers={"Accept-Encoding": "gzip, br"})
    reader.force_login(account)
    return reader


def samples() -> dict[str, Any]:
    """Return what is asked for: a job with many runs, its newest run, and so on."""
    from django.utils import timezone

    from daemon_app import icons
    from daemon_app.models import Account, Attempt, Job, Pool, Run, Token

    account = Account.objects.get(username="bench")
    token = account.tokens.first()
    if token is None:
        token, _text = Token.issue(
            account, name="bench", role="viewer", now=timezone.now(), life=None
        )
    job = Job.objects.get(name__endswith="-1000")  # every five minutes
    return {
        "job": job.pk,
        "name": job.name,
        "run": Run.objects.filter(job=job).order_by("-id")[0].pk,
        "attempted": Attempt.objects.order_by("-id")[0].run_id,
        "pool": Pool.objects.get(name="gpu").pk,
        "token": token.pk,
        "icons": icons.fingerprint(),
    }


def _figures(
    name: str, ask: Callable[[], Any], rounds: int, goal: float, told_sql: bool
) -> tuple[str, str, bool]:
    from django.db import connection

    with _noting() as queries:
        ask()
    count = len(queries)
    slowest = max(queries, default=(0.0, ""))
    wall, cpu = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.process_time()
        ask()
        wall.append((time.perf_counter() - begun) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    connection.queries_log.clear()
    wall.sort()
    p95 = wall[min(len(wall) - 1, int(len(wall) * 0.95))]
    value = f"{statistics.median(wall):7.1f} / {p95:7.1f} ms, least CPU {min(cpu):.1f}"
    value += f", {count} queries"
    if told_sql:
        value += (
            f"\n      {slowest[0]:.1f} ms of {sum(t for t, _ in queries):.1f}: {slowest[1][:1500]}"
        )
    return name, value, p95 > goal


@contextmanager
def _noting() -> Iterator[list[tuple[float, str]]]:
    """Note each query with its time in milliseconds, rows fetched at once included."""
    from django.db import connection

    noted: list[tuple[float, str]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            noted.append(((time.perf_counter() - begun) * 1000, f"{sql} -- {params}"))

    with connection.execute_wrapper(note):
        yield noted


def _commands(only: str, rounds: int) -> Iterator[tuple[str, str, bool]]:
    bach = Path(sys.executable).with_name("bach")
    for words in (["--version"], ["daemon", "status"], ["daemon", "jobs"], ["daemon", "runs"]):
        name = f"command bach {' '.join(words)}"
        if not re.search(only, name):
            continue
        took = []
        for _ in range(max(3, rounds // 4)):
            begun = time.perf_counter()
            subprocess.run([bach, *words], capture_output=True, check=False)
            took.append((time.perf_counter() - begun) * 1000)
        yield name, f"{statistics.median(took):7.1f} / {max(took):7.1f} ms", False


def _first_view(reader: "Client", only: str) -> Iterator[tuple[str, str, bool]]:
    """Yield what the overview and all it loads weigh, as served and as gzip makes it."""
    if not re.search(only, "first view"):
        return
    page = reader.get("/daemon/")
    text = _text_of(page)
    sizes = {"HTML": (len(page.content), len(text.encode()))}
    for address in re.findall(r'(?:src|href)="(/static/[^"]+|/daemon/icons[^"#]+)', text):
        found = reader.get(address)
        body = b"".join(found) if found.streaming else found.content
        found.close()
        packed = found.get("Content-Encoding") == "gzip"
        sizes[address] = (len(body), len(gzip.decompress(body) if packed else body))
    for name, (small, whole) in sorted(sizes.items(), key=lambda each: -each[1][0])[:8]:
        yield f"    first view: {name}", f"{small} of {whole} bytes", False
    small, whole = (sum(each) for each in zip(*sizes.values(), strict=True))
    name = "first view: all without what scripts import, bodies"
    yield name, f"{small} of {whole} bytes", small > VIEW_GOAL


if __name__ == "__main__":
    main()

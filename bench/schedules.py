"""How long schedules take: `python -m bench.schedules`. Times in µs, median and worst of repeats.

The goal is 150 µs for a typical `next_due`. Steady state: each call starts where the last
one ended, as the daemon does.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from daemon_app import schedules
from daemon_app.schedules import ScheduleError, parse, zones

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 11, 22, 12, 34, 56, tzinfo=UTC)
ANCHOR = datetime(2026, 11, 1, 7, 13, tzinfo=UTC)
GOAL = 150.0
REPEATS = 15
CALLS = 100

SCHEDULES = (
    ("cron", "* * * * *"),
    ("cron", "*/5 * * * *"),
    ("cron", "0 * * * *"),
    ("cron", "0 3 * * *"),
    ("cron", "30 2 * * *"),
    ("cron", "30 3 * * MON-FRI"),
    ("cron", "0 0 1 * *"),
    ("cron", "0 0 LW * *"),
    ("cron", "0 0 13 * 5"),
    ("cron", "0 0 29 2 *"),
    ("cron", "0 0 29 2 */7"),
    ("interval", "30m"),
    ("interval", "24h"),
    ("once", "2027-03-28 02:30"),
)
# What a long downtime missed, counted; in ms.
MISSED = (("cron", "* * * * *"), ("cron", "30 2 * * *"), ("interval", "1s"))
SPANS = (60, 3_650, 29_220)  # days
NEVER = ("0 0 31 2 *", "0 0 30 2 */2", "0 0 31 4,6,9,11 *", "* 2 * 3 7L")


def microseconds(call: Callable[[], object], calls: int = CALLS) -> tuple[float, float]:
    """Return the median and the worst of the means of several rounds."""
    means = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        means.append((time.perf_counter() - begin) / calls * 1e6)
    return statistics.median(means), max(means)


def fresh(kind: str, text: str) -> schedules.Schedule:
    """Read the text without the memory of earlier readings."""
    return schedules.KINDS[kind].read(text, "Europe/Berlin")


def refused(text: str) -> None:
    try:
        fresh("cron", text)
    except ScheduleError:
        return
    raise AssertionError(f"{text} fires")


def main() -> None:
    parse("cron", "* * * * *")  # reads the names of the zones, once per process
    header = ("parse", "next_due", "worst", "50 ahead", "describe", "warnings")
    print(f"{'schedule':28}" + "".join(f"{name:>10}" for name in header))
    slowest = 0.0
    for kind, text in SCHEDULES:
        schedule = fresh(kind, text)
        moment = START

        def step(schedule: schedules.Schedule = schedule) -> None:
            nonlocal moment
            moment = schedule.next_due(moment, None, ANCHOR) or START

        reading, _ = microseconds(partial(fresh, kind, text))
        due, worst = microseconds(step)
        ahead, _ = microseconds(partial(schedule.upcoming, START, 50, None, ANCHOR), 5)
        words, _ = microseconds(partial(schedule.describe, "de"))
        warnings, _ = microseconds(partial(schedule.warnings, START), 5)
        slowest = max(slowest, due)
        figures = (reading, due, worst, ahead, words, warnings)
        print(f"{kind + ' ' + text:28}" + "".join(f"{figure:10.1f}" for figure in figures))
    print(f"\nslowest next_due {slowest:.1f} µs, goal {GOAL:.0f} µs")
    known, _ = microseconds(partial(parse, "cron", "0 3 * * *"))
    print(f"parse of a text read before {known:.1f} µs")
    for kind, text in MISSED:
        for days in SPANS:
            zones._changes_of.cache_clear()  # noqa: SLF001 - the first look of a process is dear
            until = START + timedelta(days=days)
            begin = time.perf_counter()
            fresh(kind, text).missed(START, until, 100)
            first = (time.perf_counter() - begin) * 1000
            again, _ = microseconds(partial(fresh(kind, text).missed, START, until, 100), 3)
            span = f"{kind} {text} in {days} days"
            print(f"missed: {span:36} {first:8.2f} ms, then {again / 1000:8.2f} ms")
    for text in NEVER:
        found, worst = microseconds(partial(refused, text), 5)
        print(f"never fires: {text:20} found in {found:8.1f} µs, worst {worst:8.1f}")


if __name__ == "__main__":
    main()

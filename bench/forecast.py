"""How long a look ahead takes: `python -m bench.forecast`. Times in ms, for 10,000 jobs and a week.

The goal is 100 ms for a page, with everything it asks. Three ways for jobs to be many: each night
at a minute of its own, each minute (100 million starts a week), and each so often since an instant
of its own. `cold` knows nothing, `again` has the schedules counted and the jobs changed.
"""

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.__main__ import django

MONDAY = datetime(2026, 11, 22, 23, tzinfo=UTC)
WEEK = timedelta(days=7)
JOBS = 10_000
GOAL = 100.0
ROUNDS = 7


def mixed(n: int) -> tuple[str, str]:
    chance = random.Random(n)  # the same jobs each time
    minute, hour = chance.randrange(60), chance.randrange(24)
    return chance.choices(
        (
            ("cron", f"{minute} {hour} * * *"),
            ("cron", f"{minute} {hour} * * {chance.randrange(7)}"),
            ("cron", f"{minute} * * * *"),
            ("cron", "*/5 * * * *"),
            ("interval", chance.choice(("15m", "1h", "6h", "24h", "7m"))),
        ),
        (50, 20, 15, 5, 10),
    )[0]


KINDS: dict[str, Callable[[int], tuple[str, str]]] = {
    "mixed": mixed,
    "each night, at minutes of their own": lambda n: ("cron", f"{n % 60} {n // 60 % 24} * * *"),
    "each minute": lambda _n: ("cron", "* * * * *"),
    "each hour, listed": lambda n: ("cron", f"{n % 60} * * * *"),
    "every second, since their own instants": lambda _n: ("interval", "1s"),
    "every 7 minutes, since their own instants": lambda _n: ("interval", "7m"),
    "every 6 hours, since their own instants": lambda _n: ("interval", "6h"),
    "each once": lambda n: ("once", f"2026-11-{23 + n % 7} {n // 60 % 24:02}:{n % 60:02}"),
}


def main() -> None:
    django()
    from daemon_app import forecast

    print(f"{JOBS} jobs: {'':36}{'cold':>8}{'again':>8}{'hour':>8}{'starts':>14}{'told':>7}")
    for name, schedule in KINDS.items():
        plans = [
            forecast.Plan(
                n,
                f"job {n}",
                *schedule(n),
                "Europe/Berlin",
                MONDAY - timedelta(seconds=n * 7.3),
            )
            for n in range(JOBS)
        ]
        forecast._by_hour.cache_clear()  # noqa: SLF001
        begun = time.perf_counter()
        found = forecast.occurrences(plans, MONDAY, MONDAY + WEEK)
        cold = (time.perf_counter() - begun) * 1000
        again, hour = [], []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            forecast.occurrences(plans, MONDAY, MONDAY + WEEK)
            again.append((time.perf_counter() - begun) * 1000)
            begun = time.perf_counter()
            forecast.occurrences(plans, MONDAY, MONDAY + timedelta(hours=1))
            hour.append((time.perf_counter() - begun) * 1000)
        times = (cold, statistics.median(again), statistics.median(hour))
        told = "".join(f"{each:8.1f}" for each in times)
        print(f"{name:49}{told}{found.total:14,}{len(found.starts):7}")


if __name__ == "__main__":
    main()

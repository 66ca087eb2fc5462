"""Many schedulers and many claimers on one database: `contenders.py DATABASE UNTIL OUT`.

Forks eight of each. A scheduler ticks through the same seconds as all others; a claimer takes what
it can get until nothing is left. Each writes what it has done to a file of its own.
"""

import json
import os
import random
import sys
import time
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

from django.db import connections  # noqa: E402 - Django is set up above

from daemon_app import scheduler  # noqa: E402
from daemon_app.models import Run  # noqa: E402

EACH = 8
SECOND = timedelta(seconds=1)


def schedule(until: datetime, seconds: int) -> dict[str, Any]:
    """Tick through the seconds up to `until`."""
    for second in range(seconds, -1, -1):
        scheduler.tick(until - second * SECOND)
    return {}


def claim(until: datetime, name: str) -> dict[str, Any]:
    """Claim what is queued, a few at a time, until nothing came for a while."""
    mine: list[tuple[int, int]] = []
    took: list[float] = []
    chance = random.Random(name)
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 3:
        ids = list(Run.objects.queued().values_list("pk", flat=True)[:20])
        chance.shuffle(ids)
        begun = time.monotonic()
        won = Run.objects.claim(ids[:5], owner=name, now=until)
        if ids:
            took.append(time.monotonic() - begun)
        if won:
            mine += won.items()
            idle_since = time.monotonic()
    return {"mine": mine, "took": took}


def main() -> None:
    """Fork everybody, and wait for all."""
    database, told, seconds, out = sys.argv[1:5]
    until = datetime.fromisoformat(told)
    connections["default"].settings_dict["NAME"] = database
    children = []
    for number in range(2 * EACH):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        try:
            name = f"claimer-{number}"
            did = schedule(until, int(seconds)) if number < EACH else claim(until, name)
        except BaseException:  # noqa: BLE001 - told to the test, which fails
            did = {"error": traceback.format_exc()}
        Path(out, f"{number}.json").write_text(json.dumps(did))
        os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()

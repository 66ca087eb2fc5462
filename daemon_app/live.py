"""Ring the open pages: say which topics changed, once the change is committed."""

import json
from collections.abc import Iterable

from django.conf import settings
from django.db import transaction

from daemon_app import doorbell

# One datagram holds a few kilobytes at least on every system; a long list goes in several.
TOPICS_PER_BELL = 100


def changed(*topics: str) -> None:
    """Ring every web process on this host with `topics` after the current commit.

    Topics: "runs", "run:<id>", "jobs", "job:<id>", "log:<run id>", "daemon",
    "policy", "incidents", "alarms", "account:<id>", "presence",
    "health".
    A bell may be lost or doubled; rows and files say what is true.
    """
    transaction.on_commit(lambda: _ring(dict.fromkeys(topics)), robust=True)


def _ring(topics: Iterable[str]) -> None:
    listed = list(topics)
    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    for start in range(0, len(listed), TOPICS_PER_BELL):
        payload = json.dumps(listed[start : start + TOPICS_PER_BELL]).encode()
        doorbell.ring(runtime, "live-*", payload)

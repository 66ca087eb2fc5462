"""Health ticks for tests, in a line."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from daemon_app.models import Node, Snapshot
from daemon_app.readings import Reading, State
from tests.jobs import NOON

HOST = "werkstatt"
VRAM = {"used_mb": 17_800, "free_mb": 6_200, "total_mb": 24_000, "percent": 74.2}
DISK = {"free_bytes": 412 * 10**9, "total_bytes": 1870 * 10**9, "full_in_seconds": 19 * 86_400}
MODELS = [{"model": "llama3.1:8b", "vram_mb": 6100}]
WELL = (
    Reading("gpu_service", State.OK, 64.2, "service_ok", {"ms": 64, "url": "http://here:17803"}),
    Reading("ollama", State.OK, 184.0, "service_ok", {"ms": 184, "models": MODELS}),
    Reading("vram", State.OK, 74.2, "vram_ok", {**VRAM, "models": MODELS}),
    Reading("disk", State.OK, 412.0, "disk_filling", {**DISK, "free_mb": 412_000}),
    Reading("active_users", State.OK, 2, "users_many", {"count": 2, "seconds": 300}),
)


def node(*, now: datetime = NOON, **fields: Any) -> Node:
    """Return a daemon that is alive at `now`."""
    wanted = {"pid": 1, "started_at": now - timedelta(days=12), "seen_at": now, **fields}
    return Node.objects.create(host=HOST, **wanted)


def tick(at: datetime = NOON, *readings: Reading) -> Snapshot:
    """Return one tick; what `readings` does not say is as in `WELL`."""
    found = {each.name: each for each in (*WELL, *readings)}.values()
    return Snapshot.objects.create(
        host=HOST,
        at=at,
        values={each.name: each.value for each in found if each.value is not None},
        states={each.name: str(each.state) for each in found},
        readings=[each.as_json() for each in found],
    )


def ticks(ats: Iterable[datetime], **values: float) -> None:
    """Store ticks that measured `values` and nothing else."""
    Snapshot.objects.bulk_create(
        Snapshot(host=HOST, at=at, values=values, states=dict.fromkeys(values, "ok")) for at in ats
    )

"""What is true of a host at a moment, as far as a start depends on it."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings

from daemon_app.models import Node, Policy, Snapshot
from daemon_app.readings import Reading


@dataclass(frozen=True)
class Conditions:
    """Readings, idleness and time, looked at once for a whole line of runs.

    `idle` is None while it is not known, which counts as busy. `readings` are the newest tick's by
    check, empty when the last tick is too long ago to say anything of now. `reserved_vram_mb` is
    what runs that were admitted will still take. `load_percent` is of all processors together,
    over the last minute; None where it can't be read, or is another machine's.
    """

    now: datetime
    idle: bool | None = None
    idle_since: datetime | None = None
    idle_from: datetime | None = None
    idle_reasons: tuple[Mapping[str, Any], ...] = ()
    readings: Mapping[str, Reading] = field(default_factory=dict)
    measured_at: datetime | None = None
    reserved_vram_mb: float = 0.0
    quiet_hours: str = ""
    load_percent: float | None = None
    # What `hours.opening` has worked out: thousands of runs in line ask for the same times.
    openings: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def current(cls, now: datetime, host: str | None = None) -> Self:
        """Return what the database knows of `host`; None means the one that spoke last."""
        node = Node.objects.filter(host=host).first() if host else Node.latest()
        newest = Snapshot.objects.newest(now, node.host) if node else None
        fresh = newest is not None and newest.is_fresh(now, tick())
        known = speaks_of_now(node, newest, now)
        return cls(
            now=now,
            idle=node.idle if node and known else None,
            idle_since=node.idle_since if node else None,
            idle_from=node.idle_from if node and known else None,
            idle_reasons=tuple(node.idle_reasons) if node and known else silence(newest, now),
            readings=newest.read() if newest and fresh else {},
            measured_at=newest.at if newest else None,
            quiet_hours=Policy.current().quiet_hours,
            load_percent=load() if node is None or node.host == socket.gethostname() else None,
        )


def speaks_of_now(node: Node | None, newest: Snapshot | None, now: datetime) -> bool:
    """Return whether what `node` last said of its host holds now.

    It must not have fallen silent, and its `newest` tick must be fresh: a daemon that stands still
    is known by whichever shows first. One that has not measured yet has only just started.
    """
    if node is None or not node.is_alive(now):
        return False
    return newest is None or newest.is_fresh(now, tick())


def silence(newest: Snapshot | None, now: datetime) -> tuple[Mapping[str, Any], ...]:
    """Return, as a sign, why nothing is known of now: since the `newest` tick nobody looked."""
    if newest is None:
        return ()
    facts = {"seconds": max(round((now - newest.at).total_seconds()), 0)}
    return ({"signal": "tick", "code": "health_stale", "facts": facts},)


def load() -> float | None:
    """Return the load of this machine in per cent of its processors; None when it doesn't say."""
    try:
        average, _five, _fifteen = os.getloadavg()
    except OSError:
        return None
    return 100 * average / (os.cpu_count() or 1)


def tick() -> timedelta:
    """Return the time between two health ticks."""
    return timedelta(seconds=settings.TICK_SECONDS)

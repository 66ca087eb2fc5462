"""The machine: gauges, their history, who was here, and what made way."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlencode

from django.conf import settings
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from daemon_app import gauges, idleness, pidfile
from daemon_app.models import (
    Displacement,
    IdleSpan,
    Node,
    Policy,
    Run,
    Snapshot,
)
from daemon_app.models.presence import yield_times
from daemon_app.retention import KEPT, WITH_OUTPUT
from daemon_app.tiles.regions import Context, Viewer, current_language, region


@region("gauges", topics=("health", "daemon", "policy", "presence"))
def five_gauges(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the five tiles: how each thing is that the health tick looks at."""
    return {"tiles": gauges.tiles(now, current_language())}


@dataclass(frozen=True)
class View:
    """What the system page shows: how far back, and of which checks the numbers as a table."""

    range: gauges.Range
    tables: tuple[str, ...] = ()

    @classmethod
    def read(cls, query: str | None) -> Self:
        """Return the view a query string asks for; nonsense in it counts as nothing."""
        asked = parse_qs((query or "")[:500], max_num_fields=10)
        key = asked.get("range", [""])[-1]
        tables = [name for name in gauges.CHECKS if name in asked.get("table", [])]
        return cls(gauges.RANGES.get(key, gauges.RANGES[gauges.DEFAULT_RANGE]), tuple(tables))

    def query(self, *, range: str | None = None, table: str | None = None) -> str:  # noqa: A002
        """Return the query string of this view, with another range, or with one table more or less.

        It begins with "?", so that it is an address even when it asks for nothing.
        """
        tables = set(self.tables) ^ {table} if table else set(self.tables)
        pairs = [("range", range or self.range.key)]
        pairs += [("table", name) for name in gauges.CHECKS if name in tables]
        return "?" + urlencode(pairs)


@region("charts", topics=("health", "policy", "presence"))
def all_charts(viewer: Viewer, arg: str | None, now: datetime) -> Context:
    """Return the five charts on one axis of time; `arg` is the query string of the view."""
    view = View.read(arg)
    drawn = gauges.drawn(view.range, view.tables, now, current_language())
    return {
        "view": view,
        "drawn": drawn,
        "tables": {name: view.query(table=name) for name in gauges.CHECKS},
        "may_read_answers": viewer.may_manage,
    }


MOST_SPANS, MOST_DISPLACEMENTS = 12, 8
SUM_TAKES, SUM_LASTS = 0.02, 60.0  # seconds


@dataclass(frozen=True)
class Span:
    """A time in which the machine was idle, or was not, and why."""

    idle: bool
    began_at: datetime
    ended_at: datetime | None
    reasons: Sequence[str]

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None while it does."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else None


@region("idle-log", topics=("health", "daemon", "presence"))
def idle_log(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return when the machine was idle and when not, the newest first, and today's sum."""
    node = gauges.host(now)
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    today = gauges.idle_times(node, midnight, now) if node else []
    seen_until = gauges.last_sign(node, now) if node else now
    begun = midnight.timestamp()
    of_host = IdleSpan.objects.filter(host=node.host if node else "")
    found = list(of_host[: MOST_SPANS + 1])
    return {
        "spans": [
            Span(
                each.idle,
                each.began_at,
                each.ended_at or (max(seen_until, each.began_at) if seen_until < now else None),
                idleness.sentences(each.reasons),
            )
            for each in found[:MOST_SPANS]
        ],
        "more": len(found) > MOST_SPANS,
        "idle_today": sum(ended - max(began, begun) for began, ended in today),
        "idle_after": Policy.current().idle_after_seconds,
    }


@region("displacements", topics=("runs", "health"))
def displacements(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return which runs made way for people, for what, and how fast they did."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    newest = list(Displacement.objects.all()[:MOST_DISPLACEMENTS])
    return {
        "times": yield_times(),
        "today": Displacement.objects.filter(at__gte=midnight).count(),
        "rows": [(each, idleness.sentence(each.cause)) for each in newest],
    }


@region("machine", topics=("daemon", "health"))
def machine(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return who watches this machine, which program that is, and what its logs take."""
    node = gauges.host(now)
    newest = Snapshot.objects.newest(now, node.host) if node else None
    readings = newest.read() if newest else {}
    data = Path(settings.DATA_DIR)
    cluster = pidfile.holder(data / "cluster.pid")
    return {
        "node": node,
        "others": Node.objects.exclude(pk=node.pk).order_by("host") if node else [],
        "alive": node is not None and node.is_alive(now),
        "cluster": cluster,
        "newest": newest,
        "tick": settings.TICK_SECONDS,
        "forecast": gauges.forecast(readings["disk"].facts, current_language())
        if "disk" in readings
        else "",
        "version": version("bach-daemon"),
        "output_bytes": _output_bytes(),
        "output_limit": Policy.current().keep_output_mb * 1_000_000,
        "log_bytes": _size_of(Path(settings.LOGS_DIR)),
        "database_bytes": sum(
            part.stat().st_size for part in data.glob("bach.sqlite3*") if part.is_file()
        ),
    }


class _Sum(NamedTuple):
    """How much output was kept, and when that was found out."""

    of: str
    at: float
    size: int


_last_sum = _Sum("", 0.0, 0)


def _output_bytes() -> int:
    """Return how much output is kept; a sum over a long history is used again for a while."""
    global _last_sum  # noqa: PLW0603 - one per process is its meaning
    began, database = time.monotonic(), str(connection.settings_dict["NAME"])
    if _last_sum.of == database and began - _last_sum.at < SUM_LASTS:
        return _last_sum.size
    kept = Run.objects.filter(WITH_OUTPUT).aggregate(kept=Sum(KEPT))["kept"] or 0
    if time.monotonic() - began > SUM_TAKES:
        _last_sum = _Sum(database, began, kept)
    return int(kept)


def _size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder take; a file may go meanwhile."""
    found = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            found += path.stat().st_size
    return found

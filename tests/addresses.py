"""Every address that shows something, from the table of routes, and what each is asked for."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.security.routes import INTERFACE, PAGES, path_of

# The query strings worth asking; a route that isn't here is asked without one.
WEEK = "job_type=cron&schedule=0+3+*+*+*&timezone=Europe/Berlin"
ASKED: dict[str, tuple[str, ...]] = {
    "daemon/": ("", "range=6h", "range=week"),
    "daemon/jobs/": ("", "state=failed", "state=waiting", "state=paused", "q=backup", "page=2"),
    "daemon/jobs/preview/": (WEEK,),
    "daemon/jobs/rules/": (WEEK,),
    "daemon/jobs/conditions/": ("only_when_idle=on&window=22:00-06:00",),
    "daemon/runs/": ("", "state=unhappy", "state=missed", "job={job}", "trigger=manual", "page=2"),
    "daemon/runs/<int:pk>/log/search/": ("q=done",),
    "daemon/calendar/": ("", "day=2026-11-24"),
    "daemon/audit/": ("", "subject=job&via=page&since=2026-01-01"),
    "daemon/find/": ("q=job", "q=backup", "q=1"),
    "daemon/meanwhile/": ("since=2026-11-22T03:00:00Z",),
    "daemon/system/": ("", "range=7d", "range=30d"),
    "api/daemon/jobs": (
        *("limit=100", "limit=100&is_active=false", "name={name}"),
        *("state=failed&sort=-next_due_at", "state=waiting&q=job"),
    ),
    "api/daemon/jobs/overview": ("", "state=failed&sort=-name&limit=100"),
    "api/daemon/schedules/preview": ("schedule=0+3+*+*+*",),
    "api/daemon/find": ("", "q=job", "q=1"),
    "api/daemon/audit": ("", "subject=job&since=2026-01-01T00:00:00Z"),
    "api/daemon/runs/<int:pk>/log/search": ("q=done",),
    "api/daemon/jobs/<int:pk>/why": ("", "at=2026-11-20T03:00:00Z"),
    "api/daemon/runs": (
        *("", "limit=100", "job_id={job}", "state=failed", "state=unhappy"),
        "q=job&since=2026-01-01T00:00:00Z",
    ),
    "api/daemon/incidents": ("", "unseen=true"),
    "api/daemon/health/history": ("", "range=7d"),
    "api/daemon/displacements": ("", "job_id={job}"),
}
# They lead elsewhere, or nowhere.
NOT_SHOWN = frozenset({"", "daemon/settings/pools/new/", "api/daemon/"})


def shown(samples: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, address) of all that shows something; the name is the route and the query.

    `samples`: what stands in routes: "job", "run", "pool" and "token" are numbers, "attempted" is
    that of a run with an earlier attempt, "name" a job's name, "icons" the sprite's fingerprint.
    """
    for route, methods in (PAGES | INTERFACE).items():
        if "GET" not in methods or route in NOT_SHOWN:
            continue
        kind = next((each for each in ("run", "pool", "token") if f"/{each}s/" in route), "job")
        number = samples["attempted" if "attempts/" in route else kind]
        fixed = {"name": "gpu", "fingerprint": samples["icons"], "number": 1}
        path = path_of(route, pk=number, **fixed)
        for query in ASKED.get(route, ("",)):
            asked = query.format_map(samples)
            yield (f"{route}?{query}" if query else route), f"{path}?{asked}" if asked else path

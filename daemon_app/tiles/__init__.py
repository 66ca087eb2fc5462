"""Live regions: the parts of pages that change by themselves, each one function and one template.

A region is rendered for a role and a language, never for a request: the page shows it at first
load, the hub of the web process renders the same again whenever one of its topics rings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon_app.tiles.calendar import Shown
    from daemon_app.tiles.machine import View
    from daemon_app.tiles.marks import Mark, run_mark, signal_name, way_out, why
    from daemon_app.tiles.regions import REGIONS, Viewer, current_language, region, render, topics
    from daemon_app.tiles.rows import Filter, Now, Tab, job_mark
    from daemon_app.tiles.run import log_ends
    from daemon_app.tiles.runs import times
    from daemon_app.tiles.strip import STEP, STRIP, Bar, bars, latest_runs, newest_runs, strip_label
    from daemon_app.tiles.today import Asked
    from daemon_app.tiles.writing import plain, readable

# Imported for their regions, which they register.
WITH_REGIONS = (
    *("explained", "frame", "job", "jobs", "line", "machine"),
    *("overview", "run", "runs", "tally", "today", "used"),
)
HOMES = {
    "calendar": ("Shown",),
    "machine": ("View",),
    "marks": ("Mark", "run_mark", "signal_name", "way_out", "why"),
    "regions": ("REGIONS", "Viewer", "current_language", "region", "render", "topics"),
    "rows": ("Filter", "Now", "Tab", "job_mark"),
    "run": ("log_ends",),
    "runs": ("times",),
    "strip": ("STEP", "STRIP", "Bar", "bars", "latest_runs", "newest_runs", "strip_label"),
    "today": ("Asked",),
    "writing": ("plain", "readable"),
}
# What the command line asks for: a table of jobs needs no region.
WITHOUT_REGIONS = {
    *("Mark", "current_language", "job_mark", "latest_runs", "newest_runs"),
    *("run_mark", "signal_name", "way_out", "why"),
}

__all__ = [
    "REGIONS",
    "STEP",
    "STRIP",
    "Asked",
    "Bar",
    "Filter",
    "Mark",
    "Now",
    "Shown",
    "Tab",
    "View",
    "Viewer",
    "bars",
    "current_language",
    "job_mark",
    "latest_runs",
    "log_ends",
    "newest_runs",
    "plain",
    "readable",
    "region",
    "render",
    "run_mark",
    "signal_name",
    "strip_label",
    "times",
    "topics",
    "way_out",
    "why",
]


def __getattr__(name: str) -> Any:
    """Return what one of the modules here has; what shows regions finds all of them loaded."""
    home = next((module for module, names in HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in WITHOUT_REGIONS:
        for module in WITH_REGIONS:
            import_module(f"{__name__}.{module}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found

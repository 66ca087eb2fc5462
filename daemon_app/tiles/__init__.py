"""Live regions: the parts of pages that change by themselves, each one function and one template.

A region is rendered for a role and a language, never for a request: the page shows it at first
load, the hub of the web process renders the same again whenever one of its topics rings.
"""

from daemon_app.tiles import (
    explained,
    frame,
    job,
    jobs,
    line,
    machine,
    overview,
    run,
    runs,
    tally,
    today,
    used,
)
from daemon_app.tiles.calendar import Shown
from daemon_app.tiles.machine import View
from daemon_app.tiles.marks import Mark, run_mark, signal_name, way_out, why
from daemon_app.tiles.regions import REGIONS, Viewer, current_language, region, render, topics
from daemon_app.tiles.rows import Filter, Now, Tab, job_mark
from daemon_app.tiles.run import log_ends
from daemon_app.tiles.runs import times
from daemon_app.tiles.strip import STEP, STRIP, Bar, bars, latest_runs, strip_label
from daemon_app.tiles.today import Asked
from daemon_app.tiles.writing import plain, readable

# Imported for their regions, which they register.
WITH_REGIONS = (explained, frame, job, jobs, line, machine, overview, run, runs, tally, today, used)

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

"""The table of runs."""

from datetime import datetime

from django.db.models import QuerySet

from daemon_app.models import (
    Run,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import Filter, pager, run_rows, upcoming_jobs

RUNS_PER_PAGE = 50


def filtered_runs(wanted: Filter) -> QuerySet[Run]:
    """Return the runs a filter shows, newest first."""
    runs = Run.objects.all()
    groups = {"unhappy": Run.UNHAPPY, "active": Run.ACTIVE}
    if wanted.state in groups:
        runs = runs.filter(state__in=groups[wanted.state])
    elif wanted.state in Run.State.values:
        runs = runs.filter(state=wanted.state)
    if wanted.job:
        runs = runs.filter(job_id=wanted.job)
    if wanted.trigger in Run.Trigger.values:
        runs = runs.filter(trigger=wanted.trigger)
    return runs.order_by("-id")


@region("runs-table", topics=("runs",))
def runs_table(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return one page of runs up to the newest one the page knew; later ones announce themselves.

    `arg` is the query string of the filter.
    """
    wanted = Filter.read(arg)
    runs = filtered_runs(wanted)
    if wanted.until:
        runs = runs.filter(pk__lte=wanted.until)
    # Counting a long history costs more than showing it: one more row tells if there is a page.
    start = (wanted.page - 1) * RUNS_PER_PAGE
    found = list(runs[start : start + RUNS_PER_PAGE + 1])
    pages = wanted.page + (len(found) > RUNS_PER_PAGE)
    return {
        "filter": wanted,
        "rows": run_rows(found[:RUNS_PER_PAGE], now, headings=True),
        "any": bool(found) or Run.objects.exists(),
        "next": upcoming_jobs().first() if not found and not wanted.is_narrow else None,
        **pager(wanted, wanted.page, pages),
    }


@region("runs-news", topics=("runs",))
def runs_news(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return how many runs came since the page was opened: they announce themselves."""
    wanted = Filter.read(arg)
    count = filtered_runs(wanted).filter(pk__gt=wanted.until or 0)[:100].count()
    return {"count": count, "query": wanted.query(until=None)}

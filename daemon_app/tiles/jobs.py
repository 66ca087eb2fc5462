"""The table of jobs."""

import re
from dataclasses import replace
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _t

from daemon_app.ends import bad_ends, suspects
from daemon_app.models import (
    Job,
    Run,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import Filter, Tab, job_row, pager, rules, waiting_runs
from daemon_app.tiles.strip import latest_runs

JOBS_PER_PAGE, JOBS_IN_BRIEF = 50, 25
STATES = ("running", "failed", "waiting", "paused")
# The columns a browser may leave out, and those that are there unless it has chosen others.
COLUMNS_COOKIE = "daemon_columns"
JOB_COLUMNS = ("strip", "plan", "next", "last", "success")
USUAL_COLUMNS = ("strip", "plan", "next")


def columns_in(kept: str) -> list[str]:
    """Return the columns that a cookie names; the usual ones where there is none."""
    if not kept:
        return [*USUAL_COLUMNS]
    wanted = kept.split(".")
    return [name for name in JOB_COLUMNS if name in wanted]


@region("jobs-table", topics=("jobs", "runs", "policy"))
def jobs_table(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return one page of the jobs; `arg` is the query string of the filter."""
    wanted = Filter.read(arg)
    most = JOBS_IN_BRIEF if wanted.brief else JOBS_PER_PAGE
    wanted = replace(wanted, brief=False)  # the page knows that of itself
    by_state = in_states(found(wanted.q), now)
    state = wanted.state if wanted.state in by_state else ""
    # One by one: together they read all jobs for what a few indexes know.
    counts = {key or "all": jobs.count() for key, jobs in by_state.items()}
    labels = {
        "": _t("All"),
        "running": _t("Running"),
        "failed": _t("Failed"),
        "waiting": _t("Waiting"),
        "paused": _t("Paused"),
    }
    total = counts[state or "all"]
    pages = max(1, -(-total // most))
    page = min(wanted.page, pages)
    start = (page - 1) * most
    shown = list(by_state[state].order_by("name")[start : start + most])
    history = latest_runs([job.pk for job in shown])
    return {
        "filter": wanted,
        "held": rules(now).is_held,
        "rows": [job_row(job, history[job.pk], now) for job in shown],
        "tabs": [
            Tab(label, counts[key or "all"], wanted.query(state=key), key == state)
            for key, label in labels.items()
            if counts[key or "all"] or key in {"", state}
        ],
        "any": counts["all"] > 0 or (bool(wanted.q) and Job.objects.exists()),
        # The jobs of skills come with the program; the first of one's own is still to be made.
        "own": wanted.is_narrow or Job.objects.filter(skill="").exists(),
        "total": total,
        "suggestion": _similar_name(wanted.q) if wanted.q and not total else None,
        **pager(wanted, page, pages),
    }


def found(words: str) -> QuerySet[Job]:
    """Return the jobs that have `words` in their name or description; all for none."""
    jobs = Job.objects.all()
    if not words:
        return jobs
    return jobs.filter(Q(name__icontains=words) | Q(description__icontains=words))


def in_states(jobs: QuerySet[Job], now: datetime) -> dict[str, QuerySet[Job]]:
    """Return those of `jobs` that are in each of STATES; all of them for ""."""
    running_ids = set(Run.objects.running().values_list("job_id", flat=True))
    waiting_ids = set(waiting_runs(now).values_list("job_id", flat=True)) - running_ids
    failing = suspects()
    return {
        "": jobs,
        "running": jobs.filter(pk__in=running_ids),
        "failed": jobs.filter(pk__in=bad_ends() if failing is None else failing),
        "waiting": jobs.filter(pk__in=waiting_ids),
        "paused": jobs.filter(is_active=False),
    }


def _similar_name(wanted: str) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - only after a search without a hit

    names = list(Job.objects.values_list("name", flat=True)[:2000])
    # A whole name, or one word of it: "bakcup" means "nacht-backup".
    meant = {word: word for name in names for word in re.split(r"[\W_]+", name.lower()) if word}
    meant |= {name.lower(): name for name in names}
    close = get_close_matches(wanted.lower(), meant, n=1, cutoff=0.6)
    return meant[close[0]] if close else None

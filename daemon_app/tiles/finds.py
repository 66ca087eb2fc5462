"""What the palette finds among jobs and runs, for whoever types a few letters or a number."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import formats
from daemon_app.models import Job, Run
from daemon_app.tiles.marks import Mark, run_mark
from daemon_app.tiles.regions import Viewer, current_language, number_in
from daemon_app.tiles.rows import MAX_SEARCH, job_mark
from daemon_app.tiles.strip import latest_runs

JOBS, RUNS = 8, 4
MOST_JUDGED = 100
# Jobs of so many latest runs count as recent.
RECENT_RUNS = 300
# "17", "#17", "Lauf 17": whoever types a number means the run.
NUMBER = re.compile(r"(?:#|\w{1,12} #?)?(\d{1,18})")

Found = dict[str, Any]


def found(text: str, viewer: Viewer, now: datetime) -> dict[str, list[Found]]:
    """Return {"jobs": […], "runs": […]} for what was typed; the recent ones for nothing.

    Each has `href`, `label`, `about`, `state`, `tone` and `sign`; a job that `viewer` may start
    has `start`, the address that starts it, and `verb`, the words for it.
    """
    jobs, runs = looked_up(text)
    history = latest_runs([job.pk for job in jobs])
    return {
        "jobs": [_of_job(job, job_mark(job, history[job.pk], now), viewer) for job in jobs],
        "runs": [_of_run(run, now) for run in runs],
    }


def looked_up(text: str) -> tuple[Sequence[Job], Sequence[Run]]:
    """Return the jobs and runs for what was typed; the recent ones for nothing."""
    text = " ".join(text.replace("\0", "").split())[:MAX_SEARCH]
    recent = _recent_jobs()
    number = NUMBER.fullmatch(text)
    jobs = _jobs(text, recent)
    runs: list[Run] = []
    if number and (pk := number_in(number[1])):
        runs = list(Run.objects.filter(pk=pk))
    elif not text:
        runs = list(Run.objects.order_by("-id")[:RUNS])
    elif jobs:
        runs = list(Run.objects.filter(job=jobs[0]).order_by("-id")[:2])
    return jobs, runs


def _recent_jobs() -> list[int]:
    """Return the jobs that ran last, the latest first."""
    return list(
        dict.fromkeys(Run.objects.order_by("-id").values_list("job_id", flat=True)[:RECENT_RUNS])
    )


def _jobs(text: str, recent: list[int]) -> Sequence[Job]:
    """Return the jobs whose name holds each word; exact and beginning ones first, then recent."""
    place = {pk: n for n, pk in enumerate(recent)}
    if not text:
        known = Job.objects.in_bulk(recent[:JOBS])
        shown = [known[pk] for pk in recent[:JOBS] if pk in known]
        more = JOBS - len(shown)
        return (
            shown + list(Job.objects.exclude(pk__in=recent).order_by("-pk")[:more])
            if more
            else shown
        )
    jobs: QuerySet[Job] = Job.objects.all()
    for word in text.split():
        jobs = jobs.filter(name__icontains=word)
    fit = Case(
        When(name__iexact=text, then=Value(0)),
        When(name__istartswith=text, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    # Of very many that fit equally well, the recent ones must not be missing.
    recently = jobs.filter(pk__in=recent[:MOST_JUDGED])
    candidates = {job.pk: job for job in [*jobs.order_by(fit, "name")[:MOST_JUDGED], *recently]}
    wanted = text.casefold()

    def rank(job: Job) -> tuple[int, int, str]:
        name = job.name.casefold()
        begins = 1 if name.startswith(wanted) else 2
        return (0 if name == wanted else begins, place.get(job.pk, RECENT_RUNS), name)

    return sorted(candidates.values(), key=rank)[:JOBS]


def _of_job(job: Job, mark: Mark, viewer: Viewer) -> Found:
    address = reverse("job", args=[job.pk])
    shown = {"href": address, "label": job.name, "about": job.describe(), **_of_mark(mark)}
    if viewer.may_operate:
        shown["start"] = reverse("job-start", args=[job.pk])
        shown["verb"] = _t("Start %(job)s") % {"job": job.name}
    return shown


def _of_run(run: Run, now: datetime) -> Found:
    began = run.started_at or run.due_at
    here, language = timezone.get_current_timezone(), current_language()
    return {
        "href": reverse("run", args=[run.pk]),
        "label": _t("Run %(n)s of %(job)s") % {"n": run.pk, "job": run.job_name},
        "about": formats.moment(began, now, here, language),
        **_of_mark(run_mark(run)),
    }


def _of_mark(mark: Mark) -> Found:
    return {"state": mark.word, "tone": mark.tone, "sign": mark.sign}

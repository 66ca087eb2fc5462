"""Pausing a job until a time, its other actions on one page, and what has been changed of jobs."""

from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _t
from django.views.decorators.http import require_safe

from daemon_app import tiles
from daemon_app.models import Change, Job, Run
from daemon_app.permissions import requires
from daemon_app.schedules import zones
from daemon_app.tiles.changes import change_rows
from daemon_app.tiles.pauses import picks, until_words
from daemon_app.tiles.regions import number_in
from daemon_app.tiles.rows import job_row
from daemon_app.views.errors import only_post
from daemon_app.views.page import done, page, undoable, viewer_of

CHANGES_PER_PAGE = 50
MUTED_FOR = {"day": timedelta(days=1), "week": timedelta(weeks=1)}


@only_post
@requires("operate")
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    """Pause a job: `for` one of the picks, or `until` a time here, with a `note` why."""
    found, now = get_object_or_404(Job, pk=pk), timezone.now()
    until = _end_of(request, now)
    before = (found.is_active, found.paused_until, found.pause_note)
    if until is None:
        messages.error(request, _t("Say until when: a day and a time that are still to come."))
        return done(request, reverse("job", args=[pk]))
    try:
        note = request.POST.get("note", request.GET.get("note", ""))
        found.pause(until, now=now, by=request.user.get_username(), note=note)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return done(request, reverse("job", args=[pk]))
    said = _t("%(job)s: paused until %(at)s") % {
        "job": found.name,
        "at": until_words(found, now),
    }
    messages.success(request, undoable(said, *way_back(pk, *before)))
    return done(request, reverse("job", args=[pk]))


def way_back(
    pk: int, was_active: bool, paused_until: datetime | None, note: str
) -> tuple[str, str, str]:
    """Return address, name and value of the button that makes a job's schedule what it was."""
    if was_active or paused_until is None:
        return reverse("job-toggle", args=[pk]), "active", "1" if was_active else "0"
    address = reverse("job-pause", args=[pk])
    if note:
        address += f"?{urlencode({'note': note})}"
    return address, "until", paused_until.isoformat()


def _end_of(request: HttpRequest, now: datetime) -> datetime | None:
    """Return the end of the pause that was asked for; None when none can be read."""
    if wanted := request.POST.get("for"):
        return next((pick.until for pick in picks(now) if pick.key == wanted), None)
    try:
        until = parse_datetime(request.POST.get("until", "").strip())
        if until is not None and timezone.is_naive(until):
            # A time that the clocks leave out is the moment they are set, as in a schedule.
            until = zones.first_instant(until, zones.zone(timezone.get_current_timezone_name()))
    except (ValueError, OverflowError):
        return None
    return until


@require_safe
@requires("view")
def actions(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what can be done with a job: a menu for scripts, else a page."""
    found, now = get_object_or_404(Job, pk=pk), timezone.now()
    runs = tiles.latest_runs([pk]).get(pk, [])
    context = {
        "job": found,
        "row": job_row(found, runs, now),
        "picks": picks(now),
        "now": now,
        "viewer": viewer_of(request),
    }
    if request.headers.get("X-Answer") == "menu":
        response = render(request, "daemon/job_menu.html", context)
        response["Cache-Control"] = "no-store"
        return response
    return page(request, "daemon/job_menu_page.html", context, section="jobs", now=now)


@require_safe
@requires("view")
def changes(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """List what people have changed of one job, or of all, deleted ones too; newest first."""
    job = get_object_or_404(Job, pk=pk) if pk else None
    found = Change.objects.of_jobs(pk)
    now, before = timezone.now(), number_in(request.GET.get("before"))
    if before:
        found = found.filter(pk__lt=before)
    rows = list(found[: CHANGES_PER_PAGE + 1])
    shown = rows[:CHANGES_PER_PAGE]
    there = Job.objects.filter(pk__in={change.subject_id for change in shown}).values_list("pk")
    context = {
        "job": job,
        "rows": change_rows(shown, now),
        "there": {pk for (pk,) in there},
        "is_first": before is None,
        "before": shown[-1].pk if len(rows) > CHANGES_PER_PAGE else None,
    }
    return page(request, "daemon/changes.html", context, section="jobs", now=now)


# ── Failures that are known ──────────────────────────────────────────────────────────────────────
@only_post
@requires("operate")
def mute(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell of a job's failures no more: `for` a day or a week, or those up to run `seen`.

    Without either they are told again.
    """
    found, now = get_object_or_404(Job, pk=pk), timezone.now()
    by, name = request.user.get_username(), {"job": found.name}
    wanted, seen = request.POST.get("for", ""), number_in(request.POST.get("seen"))
    again = (reverse("job-mute", args=[pk]), "for", "")
    if wanted in MUTED_FOR:
        found.mute(now + MUTED_FOR[wanted], by=by)
        said = _t("Failures of %(job)s are not told for a day.")
        if wanted == "week":
            said = _t("Failures of %(job)s are not told for a week.")
        messages.success(request, undoable(said % name, *again))
    elif seen:
        # Of one that is still to come nobody has seen anything.
        get_object_or_404(Run, pk=seen, job=found)
        found.see_failure(seen)
        said = _t("Seen. %(job)s is told again when another run fails.")
        messages.success(request, undoable(said % name, *again))
    else:
        found.mute(None, by=by)
        messages.success(request, _t("Failures of %(job)s are told again.") % name)
    return done(request, reverse("job", args=[pk]))

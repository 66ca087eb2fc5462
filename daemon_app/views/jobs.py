"""Jobs: the list, one job, and what can be done with them."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from daemon_app import scheduler, tiles
from daemon_app.models import Job, Run
from daemon_app.permissions import requires
from daemon_app.schedules import ScheduleError
from daemon_app.views.errors import only_post
from daemon_app.views.page import done, page, see_other, tell, undoable
from daemon_app.views.pause import way_back


@require_safe
@requires("view")
def jobs(request: HttpRequest) -> HttpResponse:
    """List the jobs: filter, search and page stand in the address."""
    shown = tiles.Filter.read(request.META["QUERY_STRING"])
    return page(
        request,
        "daemon/jobs.html",
        {"filter": shown.query(page=shown.page), "search": shown.q, "state": shown.state},
        section="jobs",
        now=timezone.now(),
    )


@require_safe
@requires("view")
def job(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one job."""
    found = get_object_or_404(Job, pk=pk)
    return page(request, "daemon/job.html", {"job": found}, section="jobs", now=timezone.now())


# ── Actions ──────────────────────────────────────────────────────────────────────────────────────
@only_post
@requires("operate")
def start(request: HttpRequest, pk: int) -> HttpResponse:
    """Start a job now; as the person says, `beside` an active run of it, or `forced`.

    A forced run waits for no condition, and makes way for nobody.
    """
    found = get_object_or_404(Job, pk=pk)
    started = scheduler.start(
        found,
        trigger=Run.Trigger.MANUAL,
        by=request.user.get_username(),
        now=timezone.now(),
        beside=request.POST.get("beside") == "1",
        forced=request.POST.get("forced") == "1",
    )
    tell(request, started, found.name)
    return done(request, reverse("job", args=[pk]))


@only_post
@requires("operate")
def toggle(request: HttpRequest, pk: int) -> HttpResponse:
    """Switch a job's schedule on or off, as the button said when it was pressed."""
    found = get_object_or_404(Job, pk=pk)
    active = request.POST.get("active", "0" if found.is_active else "1") == "1"
    before = (found.is_active, found.paused_until, found.pause_note)
    try:
        found.set_active(active, now=timezone.now(), by=request.user.get_username())
    except ScheduleError as error:
        language = tiles.current_language()
        said = f"{error.message(language)} {error.hint(language)}"
        messages.error(request, said)
        return done(request, reverse("job", args=[pk]))
    said = (
        _t("%(job)s starts by its schedule again.")
        if active
        else _t("%(job)s is paused until further notice.")
    )
    back = way_back(pk, *before)
    messages.success(request, undoable(said % {"job": found.name}, *back))
    return done(request, reverse("job", args=[pk]))


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, naming what goes with it, then delete a job."""
    found = get_object_or_404(Job, pk=pk)
    if found.skill and not found.schedule_error:
        messages.info(
            request,
            _t("The job of a skill can't be deleted. Switch it off, and it does not run."),
        )
        return see_other(reverse("job", args=[pk]))
    if request.method == "POST":
        by, now = request.user.get_username(), timezone.now()
        name, runs = found.name, scheduler.remove(found, by=by, now=now)
        said = _t("%(job)s has been deleted.")
        if runs:
            said = ngettext(
                "%(job)s and its run have been deleted.",
                "%(job)s and its %(n)s runs have been deleted.",
                runs,
            )
        messages.success(request, said % {"job": name, "n": runs})
        return see_other(reverse("jobs"))
    context = {
        "job": found,
        "runs": Run.objects.filter(job=found).count(),
        "active": Run.objects.active_of(found.pk).count(),
    }
    return page(request, "daemon/job_delete.html", context, section="jobs", now=timezone.now())

"""Jobs: the list, one job, the form with its preview, and what can be done with them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.forms import RadioSelect
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from daemon_app import scheduler, schedules, terms, tiles
from daemon_app.forms import JobForm
from daemon_app.models import Job, Policy, Run
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


# ── The form ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Pick:
    """A schedule that many people want, one press away."""

    key: str
    label: str
    kind: str
    schedule: str


def picks() -> list[Pick]:
    """Return the quick picks in the current language."""
    return [
        Pick("hourly", _t("hourly"), "cron", "0 * * * *"),
        Pick("daily", _t("daily at 03:00"), "cron", "0 3 * * *"),
        Pick("workdays", _t("workdays at 08:00"), "cron", "0 8 * * MON-FRI"),
        Pick("mondays", _t("on Mondays"), "cron", "0 8 * * MON"),
    ]


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def new(request: HttpRequest) -> HttpResponse:
    """Create a job."""
    return _edit(request, Job())


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a job."""
    return _edit(request, get_object_or_404(Job, pk=pk))


def _edit(request: HttpRequest, subject: Job) -> HttpResponse:
    now = timezone.now()
    is_new = subject.pk is None
    if request.method != "POST":
        return _form_page(request, JobForm(instance=subject), subject, now)
    if "preview" in request.POST or "pick" in request.POST:
        # Without script: show what the schedule says, keep what was typed, save nothing.
        said = _with_pick(request.POST)
        form = JobForm(said, instance=subject)
        kept = JobForm(instance=subject, initial={**form.initial, **said.dict()})
        kept.initial.update({name: name in said for name in form.boxes()})
        for name in ("pools", "needs_services"):
            kept.initial[name] = form[name].value()
        kept.initial.setdefault("on_presence", "")
        return _form_page(request, kept, subject, now, asked=said, told=form)
    form = JobForm(request.POST, instance=subject)
    by = request.user.get_username()
    stored = form.store(now=now, by=by) if form.is_valid() else None
    if stored is None:
        return _form_page(request, form, subject, now, asked=request.POST, status=422)
    if "start" in request.POST:
        started = scheduler.start(stored, trigger=Run.Trigger.MANUAL, by=by, now=timezone.now())
        if started.run:
            messages.success(request, _t("%(job)s has been created and started.") % {"job": stored})
            return see_other(reverse("run", args=[started.run.pk]))
        messages.warning(request, started.reason)
    elif is_new:
        messages.success(request, _t("%(job)s has been created.") % {"job": stored})
    else:
        messages.success(request, _t("%(job)s has been saved.") % {"job": stored})
    return see_other(reverse("job", args=[stored.pk]))


def _with_pick(posted: QueryDict) -> QueryDict:
    said = posted.copy()
    for pick in picks():
        if said.get("pick") == pick.key:
            said["job_type"], said["schedule"] = pick.kind, pick.schedule
    return said


def _form_page(  # noqa: PLR0913 - the facts of one page
    request: HttpRequest,
    form: JobForm,
    subject: Job,
    now: datetime,
    *,
    asked: QueryDict | None = None,
    told: JobForm | None = None,
    status: int = 200,
) -> HttpResponse:
    told = told or form
    kind, text, tz = (
        (asked.get("job_type", ""), asked.get("schedule", ""), asked.get("timezone", ""))
        if asked is not None
        else (subject.job_type, subject.schedule, subject.timezone)
    )
    name = ""
    if subject.pk:
        name = Job.objects.values_list("name", flat=True).get(pk=subject.pk)
    context = {
        "form": form,
        "job": subject if subject.pk else None,
        "job_name": name,
        "picks": picks(),
        "folds": form.open_folds(),
        "errors": _listed(form) if form.is_bound else [],
        "preview": None
        if subject.skill
        else preview_of(kind, text, tz, subject if subject.pk else None, now),
        "zones": form.zones(),
        "conditions": told.conditions(),
        "opening": told.opening(now),
        "quiet_hours": quiet_hours(),
    }
    return page(request, "daemon/job_form.html", context, section="jobs", now=now, status=status)


def _listed(form: JobForm) -> list[dict[str, str]]:
    """Return every fault with the field it stands at, in the order of the form."""
    faults = [{"id": "", "label": "", "text": str(text)} for text in form.non_field_errors()]
    for name in form.fields:
        for text in form.errors.get(name, []):
            bound = form[name]
            radio = isinstance(bound.field.widget, RadioSelect)
            target = f"{bound.auto_id}_0" if radio else bound.auto_id
            faults.append({"id": target, "label": str(bound.label), "text": str(text)})
    return faults


# ── The preview ──────────────────────────────────────────────────────────────────────────────────
@require_safe
@requires("edit")
def preview(request: HttpRequest) -> HttpResponse:
    """Return what a schedule means while it is being typed: words, next times, warnings."""
    asked = request.GET
    number = asked.get("job", "")
    subject = None
    if number.isascii() and number.isdigit() and len(number) <= 18:
        subject = Job.objects.filter(pk=int(number)).first()
    found = preview_of(
        asked.get("job_type", ""),
        asked.get("schedule", ""),
        asked.get("timezone", ""),
        subject,
        timezone.now(),
    )
    response = render(request, "daemon/preview.html", {"preview": found, "now": timezone.now()})
    response["Cache-Control"] = "no-store"
    return response


def preview_of(kind: str, text: str, tz: str, subject: Job | None, now: datetime) -> dict[str, Any]:
    """Return the preview of a schedule; with `message` and `hint` instead when it is none."""
    language = tiles.current_language()
    tz = tz.strip() or settings.TIME_ZONE
    if kind == Job.Kind.MANUAL:
        text = ""
    elif not text.strip():
        return {"kind": kind, "empty": True, "tz": tz}
    try:
        plan = schedules.parse(kind, text, tz)
        # An interval counts from the saving, unless it already counts and stays as it is.
        same = subject is not None and (subject.job_type, subject.schedule, subject.timezone) == (
            kind,
            plan.text,
            tz,
        )
        anchor = subject.anchor if subject is not None and same else now
        return {
            "kind": kind,
            "tz": tz,
            "words": plan.describe(language),
            "times": list(plan.upcoming(now, 5, anchor=anchor)),
            "warnings": [warning.sentence(language) for warning in plan.warnings(now)],
        }
    except ScheduleError as error:
        return {
            "kind": kind,
            "tz": tz,
            "message": error.message(language),
            "hint": error.hint(language),
        }


@require_safe
@requires("edit")
def conditions(request: HttpRequest) -> HttpResponse:
    """Return what conditions mean while they are being typed: one line, and when it is open."""
    form, now = JobForm(request.GET), timezone.now()
    context: dict[str, Any] = {
        "conditions": form.conditions(),
        "opening": form.opening(now),
        "errors": form.errors.get("window", []),
    }
    response = render(request, "daemon/conditions_said.html", context)
    response["Cache-Control"] = "no-store"
    return response


def quiet_hours() -> str:
    """Return the quiet hours of the installation in words; "" for none."""
    hours = Policy.current().quiet_hours
    return terms.times(hours, settings.TIME_ZONE, tiles.current_language()) if hours else ""


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

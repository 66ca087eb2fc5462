"""The form of a job, and what it says while somebody types."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.forms import RadioSelect
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.views.decorators.http import require_http_methods, require_safe

from daemon_app import (
    formats,
    overlaps,
    preflight,
    previews,
    scheduler,
    schedules,
    starters,
    terms,
    tiles,
)
from daemon_app.forms import JobForm
from daemon_app.models import Job, Policy, Run
from daemon_app.models.job import MAX_COMMAND, RESERVED_VARIABLES
from daemon_app.permissions import requires
from daemon_app.schedules import ScheduleError
from daemon_app.starters import Starter
from daemon_app.views.errors import only_post
from daemon_app.views.page import done, page, see_other

SHOWN = 5  # times of the preview, and those that are looked at for overlaps
TOLD = 3  # overlaps in words; the others are counted
# The fields that say what is run, and how much of each is looked at.
COMMAND = {
    "command": MAX_COMMAND,
    "script_path": 1024,
    "arguments": 4096,
    "working_directory": 1024,
}
SETTING = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")


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
    """Create a job; `?starter=` or `?copy=` in the address fills the form in."""
    given = starters.named(request.GET.get("starter", "")) or _copied(request.GET.get("copy", ""))
    return _edit(request, Job(), given)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("edit")
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a job."""
    return _edit(request, get_object_or_404(Job, pk=pk))


@only_post
@requires("edit")
def begin(request: HttpRequest) -> HttpResponse:
    """Create the jobs of the first minute that are not there yet, switched off."""
    made = starters.begin(now=timezone.now(), by=request.user.get_username())
    if made:
        said = _t("Created, and switched off: %(jobs)s. Look at each, then switch it on.")
        messages.success(request, said % {"jobs": ", ".join(map(str, made))})
    else:
        messages.info(request, _t("These jobs are all there already."))
    return done(request, reverse("jobs"))


@dataclass(frozen=True)
class Copy:
    """Another job to begin with; it is switched off, as two that do the same seldom are meant."""

    of: Job

    @property
    def key(self) -> str:
        """What tells its draft from others."""
        return f"copy-{self.of.pk}"

    def job(self) -> Job:
        """Return the copy, not stored, under a name that is free."""
        values = {name: getattr(self.of, name) for name in JobForm.Meta.fields}
        name = starters.free_name(self.of.name[:74])
        return Job(**values | {"name": name, "is_active": False})

    @property
    def fields(self) -> dict[str, Any]:
        """What was chosen in it."""
        return {"on_presence": self.of.on_presence}


def _copied(number: str) -> Copy | None:
    """Return the job of this number to begin with; None for none, or that of a skill."""
    found = tiles.regions.number_in(number)
    of = Job.objects.filter(pk=found, skill="").first() if found else None
    return Copy(of) if of else None


def _edit(
    request: HttpRequest, subject: Job, starter: Starter | Copy | None = None
) -> HttpResponse:
    now = timezone.now()
    is_new = subject.pk is None
    if request.method != "POST":
        form = _filled_in(starter) if starter else JobForm(instance=subject)
        return _form_page(request, form, subject, now, starter=starter)
    if "preview" in request.POST or "pick" in request.POST:
        # Without script: show what the schedule says, keep what was typed, save nothing.
        said = _with_pick(request.POST)
        form = JobForm(said, instance=subject)
        kept = JobForm(instance=subject, initial={**form.initial, **said.dict()})
        kept.initial.update({name: name in said for name in form.boxes()})
        for name in ("pools", "needs_services"):
            kept.initial[name] = form[name].value()
        kept.initial.setdefault("on_presence", "")
        return _form_page(request, kept, subject, now, asked=said, told=form, starter=starter)
    form = JobForm(request.POST, instance=subject)
    by = request.user.get_username()
    stored = form.store(now=now, by=by) if form.is_valid() else None
    if stored is None:
        asked = request.POST
        return _form_page(request, form, subject, now, asked=asked, starter=starter, status=422)
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


def _filled_in(starter: Starter | Copy) -> JobForm:
    first = starter.job()
    chosen = {name: starter.fields[name] for name in ("on_presence",) if name in starter.fields}
    return JobForm(instance=first, initial=chosen)


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
    starter: Starter | Copy | None = None,
    status: int = 200,
) -> HttpResponse:
    told = told or form
    shown = form.instance  # the subject, or what a starter says
    stored = subject if subject.pk else None
    kind, text, tz = (
        (asked.get("job_type", ""), asked.get("schedule", ""), asked.get("timezone", ""))
        if asked is not None
        else (shown.job_type, shown.schedule, shown.timezone)
    )
    name = ""
    if stored:
        name = Job.objects.values_list("name", flat=True).get(pk=stored.pk)
    # What is typed into each kind of form is kept apart.
    draft = f"job-{stored.pk}" if stored else f"job-new-{starter.key}" if starter else "job-new"
    context = {
        "form": form,
        "job": stored,
        "job_name": name,
        "picks": picks(),
        # What a starter says stands in the lines of the folds; what somebody has said is in view.
        "folds": form.open_folds() if asked is not None or stored else set(),
        "errors": _listed(form) if form.is_bound else [],
        "preview": None if subject.skill else preview_of(kind, text, tz, stored, now),
        "report": None
        if subject.skill
        else preflight.look(_wanted(asked) if asked is not None else _wanted_by(shown)),
        "zones": zone_options(),
        "conditions": told.conditions(),
        "opening": told.opening(now),
        "rules": told.rules(),
        "quiet_hours": quiet_hours(),
        "starter": starter if isinstance(starter, Starter) else None,
        "draft": draft,
        "starters": starters.STARTERS,
    }
    return page(request, "daemon/job_form.html", context, section="jobs", now=now, status=status)


@cache
def zone_options() -> SafeString:
    """Return the suggestions for the time zone; there are hundreds, and always the same."""
    return format_html_join("", '<option value="{}">', ((zone,) for zone in JobForm.zones()))


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


# ── What the form says while somebody types ──────────────────────────────────────────────────────
@only_post
@requires("edit")
def check(request: HttpRequest) -> HttpResponse:
    """Return what a command will find: its user, folder and programs; nothing is executed.

    By POST, as a command and its environment belong into no address.
    """
    report = preflight.look(_wanted(request.POST))
    return _fragment(request, "daemon/check_command.html", report=report)


def _wanted(said: QueryDict) -> preflight.Wanted:
    texts = {name: said.get(name, "")[:most] for name, most in COMMAND.items()}
    return preflight.Wanted(
        **texts,
        use_shell="use_shell" in said,
        environment={
            name: value
            for name, value in _settings_in(said.get("environment", "")).items()
            if not RESERVED_VARIABLES.fullmatch(name)
        },
        parameters=_settings_in(said.get("parameters", "")),
    )


def _wanted_by(job: Job) -> preflight.Wanted:
    texts = {name: getattr(job, name) for name in COMMAND}
    return preflight.Wanted(
        **texts,
        use_shell=job.use_shell,
        environment=job.environment,
        parameters=job.parameters,
    )


def _settings_in(text: str) -> dict[str, str]:
    """Return what lines of NAME=value say, as far as they do."""
    lines = text[:32_768].splitlines()[:100]
    return {found[1]: found[2] for line in lines if (found := SETTING.fullmatch(line))}


@require_safe
@requires("edit")
def preview(request: HttpRequest) -> HttpResponse:
    """Return what a schedule means: words, next times, overlaps, warnings."""
    asked = request.GET
    number = tiles.regions.number_in(asked.get("job"))
    found = preview_of(
        asked.get("job_type", ""),
        asked.get("schedule", ""),
        asked.get("timezone", ""),
        Job.objects.filter(pk=number).first() if number else None,
        timezone.now(),
    )
    return _fragment(request, "daemon/preview.html", preview=found)


def preview_of(kind: str, text: str, tz: str, subject: Job | None, now: datetime) -> dict[str, Any]:
    """Return the preview of a schedule; with `message` and `hint` instead when it is none."""
    language = tiles.current_language()
    tz = tz.strip() or settings.TIME_ZONE
    if kind == Job.Kind.MANUAL:
        text = ""
    elif not text.strip():
        return {"kind": kind, "empty": True, "tz": tz}
    try:
        found = previews.preview(kind, text, tz, of=subject, now=now, language=language, most=SHOWN)
    except ScheduleError as error:
        return {
            "kind": kind,
            "tz": tz,
            "message": error.message(language),
            "hint": error.hint(language),
        }
    return {
        "kind": kind,
        "tz": tz,
        "words": found.words,
        "times": found.times,
        "warnings": found.warnings,
        "longer": formats.duration(found.longer, language) if found.longer else "",
        "overlaps": [(each, _span(each, found.times[0], tz)) for each in found.overlaps[:TOLD]],
        "more": max(0, len(found.overlaps) - TOLD),
    }


def _span(met: overlaps.Overlap, first: datetime, tz: str) -> str:
    """Return from when until when another job runs, with the day where it is another one."""
    zone = schedules.zones.zone(tz)
    began, language = met.at.astimezone(zone), tiles.current_language()
    words = f"{began:%H:%M}"
    if met.until is not None and met.until - met.at >= timedelta(minutes=1):
        words = f"{words}–{met.until.astimezone(zone):%H:%M}"
    if began.date() == first.astimezone(zone).date():
        return words
    return f"{formats.day(met.at, zone, language)} {words}"


@require_safe
@requires("edit")
def conditions(request: HttpRequest) -> HttpResponse:
    """Return what conditions mean: one line, and when it is open."""
    form, now = JobForm(request.GET), timezone.now()
    return _fragment(
        request,
        "daemon/conditions_said.html",
        conditions=form.conditions(),
        opening=form.opening(now),
        errors=form.errors.get("window", []),
    )


@require_safe
@requires("edit")
def rules(request: HttpRequest) -> HttpResponse:
    """Return the rules in one line."""
    return _fragment(request, "daemon/rules_line.html", rules=JobForm(request.GET).rules())


def quiet_hours() -> str:
    """Return the quiet hours of the installation in words; "" for none."""
    hours = Policy.current().quiet_hours
    return terms.times(hours, settings.TIME_ZONE, tiles.current_language()) if hours else ""


def _fragment(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    response = render(request, template, context | {"now": timezone.now()})
    response["Cache-Control"] = "no-store"
    return response

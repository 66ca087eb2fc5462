"""The line of waiting runs, "hold everything", and what a person has taken note of."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.views.decorators.http import require_http_methods, require_safe

from daemon_app import scheduler
from daemon_app.models import Incident, Policy, Run
from daemon_app.permissions import requires
from daemon_app.views.errors import only_post
from daemon_app.views.page import back, done, page, see_other, undoable


@require_safe
@requires("view")
def queue(request: HttpRequest) -> HttpResponse:
    """Show the line in the order of start, with reasons, and what is taken."""
    return page(request, "daemon/queue.html", section="queue", now=timezone.now())


@only_post
@requires("operate")
def move(request: HttpRequest, pk: int) -> HttpResponse:
    """Move a waiting run to another place in line."""
    found = get_object_or_404(Run, pk=pk)
    to = request.POST.get("to", "")
    said = {
        "first": _t("%(job)s starts next."),
        "up": _t("%(job)s has moved up."),
        "down": _t("%(job)s has moved down."),
        "last": _t("%(job)s starts last."),
    }.get(to)
    name = {"job": found.job_name}
    if said is None:
        messages.error(request, _t("There is no such place in line."))
    elif scheduler.move(found, to, by=request.user.get_username(), now=timezone.now()):
        words, opposite = said % name, {"up": "down", "down": "up"}.get(to)
        if opposite:
            words = undoable(words, reverse("run-move", args=[pk]), "to", opposite)
        messages.success(request, words)
    elif Run.objects.queued().filter(pk=pk).exists():
        messages.info(request, _t("%(job)s stands there already.") % name)
    else:
        messages.info(request, _t("%(job)s does not wait any more.") % name)
    return done(request, reverse("queue"))


# ── Hold everything ──────────────────────────────────────────────────────────────────────────────
@require_http_methods(["GET", "HEAD", "POST"])
@requires("operate")
def hold(request: HttpRequest) -> HttpResponse:
    """Ask how, then hold everything: no new starts, or what runs is ended as well."""
    now, by = timezone.now(), request.user.get_username()
    mode = request.POST.get("mode", "")
    note = " ".join(request.POST.get("note", "").replace("\0", "").split())
    missing = request.method == "POST" and mode not in HOLDS
    too_long = len(note) > LONGEST_NOTE
    if request.method == "POST" and not (missing or too_long):
        if scheduler.hold(mode, by=by, now=now, note=note):
            words = HOLDS[mode]()
            # What was ended stays ended.
            if mode == Policy.Hold.DRAIN:
                words = undoable(words, reverse("resume"), "next", reverse("overview"))
            messages.success(request, words)
        else:
            messages.info(request, _t("Everything was held already."))
        return see_other(back(request, reverse("overview")))
    if request.method != "POST":
        mode = request.GET.get("mode") or Policy.Hold.DRAIN.value
    context = {
        "running": Run.objects.running().count(),
        "missing": missing,
        "mode": mode,
        "note": note,
        "too_long": too_long,
        "longest": LONGEST_NOTE,
    }
    status = 422 if missing or too_long else 200
    return page(request, "daemon/hold.html", context, section="overview", now=now, status=status)


LONGEST_NOTE = 200
HOLDS = {
    Policy.Hold.DRAIN.value: lambda: _t("Held: what runs goes on, nothing new starts."),
    Policy.Hold.STOP.value: lambda: _t("Held: what runs is being ended, nothing new starts."),
}


@only_post
@requires("operate")
def resume(request: HttpRequest) -> HttpResponse:
    """Let things start again."""
    if scheduler.resume(by=request.user.get_username(), now=timezone.now()):
        messages.success(request, _t("Things start again."))
    else:
        messages.info(request, _t("Nothing was held."))
    return done(request, reverse("overview"))


# ── Notices ──────────────────────────────────────────────────────────────────────────────────────
@only_post
@requires("operate")
def seen(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark what happened as seen; or, with `seen` 0, as not seen after all."""
    found = get_object_or_404(Incident, pk=pk)
    if request.POST.get("seen") == "0":
        found.bring_back()
    elif found.acknowledge(by=request.user.get_username(), now=timezone.now()):
        address = reverse("incident-seen", args=[pk])
        messages.success(request, undoable(_t("The notice is gone."), address, "seen", "0"))
    else:
        messages.info(request, _t("Somebody has seen this already."))
    return done(request, reverse("overview"))

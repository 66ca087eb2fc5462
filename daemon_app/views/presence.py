"""What a person says for a time: "I am here", "I am away"."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from daemon_app import formats, tiles
from daemon_app.models import Policy
from daemon_app.permissions import requires
from daemon_app.views.page import done, page, undoable

# How long, in minutes; "" is until tomorrow morning.
LENGTHS = (
    ("60", _("for one hour")),
    ("240", _("for four hours")),
    ("480", _("for eight hours")),
    ("", _("until tomorrow, 08:00")),
    ("2880", _("for two days")),
    ("10080", _("for a week")),
)
MORNING = 8  # o'clock


@require_http_methods(["GET", "HEAD", "POST"])
@requires("operate")
def presence(request: HttpRequest) -> HttpResponse:
    """Ask for how long somebody is away or here; then say so, or take it back."""
    now = timezone.now()
    said = (request.POST if request.method == "POST" else request.GET).get("presence", "away")
    minutes = request.POST.get("minutes", "480")
    wrong = ""
    if request.method == "POST":
        wrong = _say(request, said, minutes, now)
        if not wrong:
            return done(request, reverse("overview"))
    context = {"said": said, "lengths": LENGTHS, "minutes": minutes, "wrong": wrong}
    status = 422 if wrong else 200
    return page(request, "daemon/away.html", context, section="overview", now=now, status=status)


def _say(request: HttpRequest, said: str, minutes: str, now: datetime) -> str:
    """Say it and leave a message; return what is wrong with it, "" for nothing."""
    if said not in Policy.Presence.values:
        return _t("Choose one of the two.")
    if minutes not in dict(LENGTHS) and not (minutes.isascii() and minutes.isdigit()):
        return _t("Choose for how long.")
    until, before = None, Policy.current().presence
    if said:
        until = now + timedelta(minutes=int(minutes[:9])) if minutes else _morning(now)
    try:
        changed = Policy.set_presence(said, now=now, by=request.user.get_username(), until=until)
    except ValidationError as error:
        return " ".join(error.messages)
    if not said:
        messages.success(request, _t("What is seen counts again."))
    elif not changed or until is None:
        messages.info(request, _t("That was said already."))
    else:
        zone = timezone.get_current_timezone()
        facts = {"when": formats.moment(until, now, zone, tiles.current_language())}
        words = {
            Policy.Presence.HERE: _t("You are here until: %(when)s."),
            Policy.Presence.AWAY: _t("You are away until: %(when)s."),
        }
        told = words[Policy.Presence(said)] % facts
        if not before:
            told = undoable(told, reverse("presence"), "presence", "")
        messages.success(request, told)
    return ""


def _morning(now: datetime) -> datetime:
    """Return the next day's morning, where the machine is."""
    local = timezone.localtime(now) + timedelta(days=1)
    return local.replace(hour=MORNING, minute=0, second=0, microsecond=0)

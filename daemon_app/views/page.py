"""What all pages share: the frame, who looks at it, and where an action leads."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _t

from daemon_app import gates, tiles
from daemon_app.gates.conditions import Conditions
from daemon_app.models import Run, reasons
from daemon_app.scheduler import Started

if TYPE_CHECKING:
    from daemon_app.models import Account


def viewer_of(request: HttpRequest) -> tiles.Viewer:
    """Return who looks at a page, as live regions want to know it."""
    account = cast("Account", request.user)
    return tiles.Viewer(
        role=account.role,
        language=tiles.current_language(),
        user_id=account.pk,
        username=account.get_username(),
    )


def page(  # noqa: PLR0913 - the facts of one page
    request: HttpRequest,
    template: str,
    context: dict[str, Any] | None = None,
    *,
    section: str,
    now: datetime,
    status: int = 200,
) -> HttpResponse:
    """Return a page in the frame with side bar and head; `section` is marked as the current one."""
    frame = {"viewer": viewer_of(request), "section": section, "now": now}
    response = render(request, template, frame | (context or {}), status=status)
    # What is shown depends on who looks and when; nobody keeps it.
    response["Cache-Control"] = "no-store"
    return response


def done(request: HttpRequest, otherwise: str) -> HttpResponse:
    """Return the answer to an action whose message has been left.

    A script that asked for it gets the messages alone: the page stays, its live regions change.
    Everybody else goes back to the page they came from, or to `otherwise`.
    """
    if request.headers.get("X-Answer") == "toast":
        return render(request, "daemon/toasts.html", {"messages": messages.get_messages(request)})
    return see_other(back(request, otherwise))


def tell(request: HttpRequest, started: Started, name: str) -> None:
    """Leave the message of a start: that it worked or why not, and the way to the log.

    Where another run of the job is in the way, a person may start it beside that one.
    """
    shown = started.run or started.blocking
    words = _t("%(job)s has been started") % {"job": name} if started.run else started.reason
    if started.run and (why := _waits_for(started.run)):
        words = format_html(
            '{} · <button class="link" type="submit" form="act" formaction="{}">{}</button>',
            _t("%(job)s stands in line. %(why)s") % {"job": name, "why": why},
            reverse("run-force", args=[started.run.pk]),
            _t("Start all the same"),
        )
    elif shown:
        address = reverse("run", args=[shown.pk])
        words = format_html('{} · <a href="{}#log">{}</a>', words, address, _t("See the log"))
    if started.code == "overlap" and started.blocking:
        words = format_html(
            '{} · <button class="link" type="submit" form="act" formaction="{}" name="beside"'
            ' value="1">{}</button>',
            words,
            reverse("job-start", args=[started.blocking.job_id]),
            _t("Start it anyway"),
        )
    messages.add_message(request, messages.SUCCESS if started.run else messages.WARNING, words)


def undoable(words: str, address: str, name: str, value: str) -> str:
    """Return a message with the button that takes back what it tells of."""
    return format_html(
        '{} · <button class="link" type="submit" form="act" formaction="{}" name="{}" value="{}">'
        "{}</button>",
        words,
        address,
        name,
        value,
        _t("Undo"),
    )


def _waits_for(run: Run) -> str:
    """Return for which condition a run that was started just now waits; "" for none."""
    if run.forced_by or run.state != Run.State.QUEUED:
        return ""
    now = timezone.now()
    closed = gates.closed(run.needs, Conditions.current(now))
    return reasons.sentence(closed.code, closed.facts, now) if closed else ""


def see_other(address: str) -> HttpResponse:
    """Return a redirect after which a reload repeats nothing."""
    response = HttpResponseRedirect(address)
    response.status_code = 303
    return response


def back(request: HttpRequest, otherwise: str) -> str:
    """Return the address a form names in `next` when it is one of ours, else `otherwise`."""
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if ours and wanted.startswith("/daemon/") else otherwise

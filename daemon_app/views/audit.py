"""The audit log, for administrators: to look at, and as a file."""

from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_safe

from daemon_app.models import Change, change
from daemon_app.models.change import ChangeQuerySet, Via, newest
from daemon_app.permissions import requires
from daemon_app.tiles.changes import change_rows
from daemon_app.tiles.regions import number_in
from daemon_app.views.page import page

PER_PAGE = 50
FILTERS = ("subject", "kind", "via", "by", "name", "since", "until")
LONGEST = 150
# Whose number tells people something.
NUMBERED = (Change.Subject.RUN, Change.Subject.TOKEN, Change.Subject.INCIDENT)


@require_safe
@requires("manage")
def audit(request: HttpRequest) -> HttpResponse:
    """List what was asked for, newest first; the address says what of it."""
    wanted = _wanted(request)
    now, before = timezone.now(), number_in(request.GET.get("before"))
    found = _chosen(wanted)
    if before:
        found = found.filter(pk__lt=before)
    rows = list(found[: PER_PAGE + 1])
    shown = rows[:PER_PAGE]
    context = {
        "wanted": wanted,
        "query": urlencode(wanted),
        "subjects": Change.Subject.choices,
        "kinds": Change.Kind.choices,
        "ways": Via.choices,
        "rows": change_rows(shown, now),
        "numbered": NUMBERED,
        "is_first": before is None,
        "before": shown[-1].pk if len(rows) > PER_PAGE else None,
        "head": newest(),
    }
    return page(request, "daemon/audit.html", context, section="settings", now=now)


@require_safe
@requires("manage")
def export(request: HttpRequest) -> HttpResponseBase:
    """Return what the address asks for as lines of JSON, the oldest first."""
    response = StreamingHttpResponse(
        change.pieces(_chosen(_wanted(request))), content_type="application/x-ndjson; charset=utf-8"
    )
    response["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def _wanted(request: HttpRequest) -> dict[str, str]:
    given = {name: request.GET.get(name, "").replace("\0", "").strip() for name in FILTERS}
    return {name: text[:LONGEST] for name, text in given.items() if text}


def _chosen(wanted: dict[str, str]) -> ChangeQuerySet:
    """Return the rows that a filter of the page asks for; days are those of this machine."""
    asked: dict[str, Any] = dict(wanted)
    asked["since"] = _beginning_of(wanted.get("since", ""), 0)
    asked["until"] = _beginning_of(wanted.get("until", ""), 1)
    return Change.objects.chosen(asked)


def _beginning_of(day: str, later: int) -> datetime | None:
    """Return when a day begins, or the one after so many days; None when that is no day."""
    try:
        read = parse_date(day)
        if read is None:
            return None
        return timezone.make_aware(datetime.combine(read + timedelta(days=later), time()))
    except (ValueError, OverflowError):
        return None

"""The calendar: what is planned to start, a week or a day at a time."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from daemon_app import formats, tiles
from daemon_app.permissions import requires
from daemon_app.tiles import calendar as shown_days
from daemon_app.views.page import page


@require_safe
@requires("view")
def calendar(request: HttpRequest) -> HttpResponse:
    """Show the week from a day on, or one day; both stand in the address."""
    now, language = timezone.now(), tiles.current_language()
    today = timezone.localdate(now)
    shown = tiles.Shown.read(request.META["QUERY_STRING"], today)
    if shown.day:
        days, first, last = 1, shown.day, shown.day
        query = shown.query(day=shown.day, hour=shown.hour, at=shown.since)
    else:
        days, first, last = shown_days.DAYS, shown.week, shown.week + timedelta(days=6)
        query = shown.query()
    furthest = today + timedelta(days=shown_days.AHEAD)

    def address(offset: int) -> str | None:
        """Return the query of the days before or after; None where there are none."""
        to = first + timedelta(days=offset)
        if not today - timedelta(days=days) < to <= furthest or first == today > to:
            return None
        to = max(to, today)
        return shown.query(day=to) if shown.day else shown.query(week=to)

    context = {
        "shown": shown,
        "query": query,
        "dates": formats.day_long(first, language)
        if shown.day
        else formats.days(first, last, language),
        "earlier": address(-days),
        "later": address(days),
        "is_first": first == today,
        "today": shown.query(day=today) if shown.day else shown.query(week=today),
        "week": shown.query(week=shown.day) if shown.day else "",
    }
    return page(request, "daemon/calendar.html", context, section="calendar", now=now)

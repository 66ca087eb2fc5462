"""The system page: what the health tick measured, when the machine was idle, and who watches."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from daemon_app import gauges, tiles
from daemon_app.permissions import requires
from daemon_app.views.page import page


@require_safe
@requires("view")
def system(request: HttpRequest) -> HttpResponse:
    """Show the five charts on one axis of time, the log of idleness, and the machine."""
    view = tiles.View.read(request.META["QUERY_STRING"])
    ranges = [(each, view.query(range=each.key)) for each in gauges.RANGES.values()]
    context = {"view": view, "ranges": ranges, "query": view.query().removeprefix("?")}
    return page(request, "daemon/system.html", context, section="system", now=timezone.now())

"""The overview, and the sprite of icons every page refers to."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from daemon_app import icons, tiles
from daemon_app.permissions import requires
from daemon_app.views.page import page


@require_safe
@requires("view")
def overview(request: HttpRequest) -> HttpResponse:
    """Show how things stand: one sentence, what needs a person, the day, what runs, the jobs."""
    shown = tiles.Filter.read(request.META["QUERY_STRING"])
    jobs = tiles.Filter(state=shown.state, page=shown.page, brief=True)
    return page(
        request,
        "daemon/overview.html",
        {
            "filter": jobs.query(page=jobs.page),
            "day": tiles.Asked.read(request.META["QUERY_STRING"]).query(),
        },
        section="overview",
        now=timezone.now(),
    )


@require_safe
@login_not_required
def sprite(request: HttpRequest, fingerprint: str) -> HttpResponse:
    """Return the icons; the address changes with them, so browsers may keep them for ever."""
    if fingerprint != icons.fingerprint():
        raise Http404
    return HttpResponse(
        icons.sprite(),
        content_type="image/svg+xml",
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )

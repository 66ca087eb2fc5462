"""Which columns the table of jobs shows, in this browser."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from daemon_app.permissions import requires
from daemon_app.tiles.jobs import COLUMNS_COOKIE, JOB_COLUMNS
from daemon_app.views.errors import only_post
from daemon_app.views.page import back, see_other

A_YEAR = 366 * 86_400


@only_post
@requires("view")
def choose(request: HttpRequest) -> HttpResponse:
    """Keep which columns are shown: those named, in a cookie."""
    wanted = set(request.POST.getlist("column"))
    kept = ".".join(name for name in JOB_COLUMNS if name in wanted) or "none"
    response = HttpResponse(status=204)
    if request.headers.get("X-Answer") != "none":
        response = see_other(back(request, reverse("jobs")))
    response.set_cookie(
        COLUMNS_COOKIE,
        kept,
        max_age=A_YEAR,
        path="/daemon/",
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    return response

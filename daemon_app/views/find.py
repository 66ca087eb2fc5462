"""What the palette asks while somebody types."""

from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from daemon_app.permissions import requires
from daemon_app.tiles import finds
from daemon_app.views.page import viewer_of


@require_safe
@requires("view")
def find(request: HttpRequest) -> JsonResponse:
    """Return jobs and runs for `q` as JSON, a dozen at most (see daemon_app.tiles.finds)."""
    answer = JsonResponse(finds.found(request.GET.get("q", ""), viewer_of(request), timezone.now()))
    answer["Cache-Control"] = "no-store"
    return answer

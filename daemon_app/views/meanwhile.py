"""What happened while a page had no connection: the toast it shows when it is back."""

from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from daemon_app.models import Run
from daemon_app.permissions import requires

MOST = 1000  # runs looked at
LONGEST = timedelta(days=7)
ENDED = (Run.State.SUCCEEDED, Run.State.CANCELLED, *Run.UNHAPPY)


@require_safe
@requires("view")
def meanwhile(request: HttpRequest) -> HttpResponse:
    """Return a toast that says how many runs ended since `since`, and how many of them badly."""
    now = timezone.now()
    ended, failed = counted(since(request.GET.get("since", ""), now))
    response = render(
        request,
        "daemon/meanwhile.html",
        {"ended": ended, "failed": failed, "many": ended >= MOST},
    )
    response["Cache-Control"] = "no-store"
    return response


def since(text: str, now: datetime) -> datetime:
    """Return the time a page says it heard last; `now` where it says nothing of use."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        return now
    return max(found, now - LONGEST)


def counted(begin: datetime) -> tuple[int, int]:
    """Return how many of the newest runs have ended since `begin`, and how many of them badly."""
    ends = Run.objects.order_by("-id").values_list("state", "ended_at")[:MOST]
    states = [state for state, at in ends if at is not None and at >= begin and state in ENDED]
    return len(states), sum(state in Run.UNHAPPY for state in states)

"""One decorator for pages: which right a view wants (semantics 10). Deny by default."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]


def requires(right: str) -> Callable[[View[P]], View[P]]:
    """Let only accounts with `right` into a view; others get 403.

    The right is kept on the view as `.right`, for the test that walks every route.
    """

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            can = getattr(request.user, "can", None)
            if can is None or not can(right):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        guarded.right = right  # type: ignore[attr-defined]
        return guarded

    return decorate

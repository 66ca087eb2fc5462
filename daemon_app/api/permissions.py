"""Who may do what: each endpoint names the right of each of its methods; the rest is denied."""

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from daemon_app.api.errors import Problem
from daemon_app.models import Account, Token

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise
    from rest_framework.views import APIView  # which imports this module, by the settings

NEEDED: dict[str, "_StrPromise | str"] = {
    "view": _("This access may not look at jobs and runs."),
    "operate": _("Starting and stopping needs the role operator or administrator."),
    "edit": _("Changing jobs and rules needs the role administrator."),
    "manage": _("Managing accounts and tokens needs the role administrator."),
}


class ByRole(BasePermission):
    """Grants a method of a view to whoever has the right in the view's `rights`."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return whether the request may go on; False without anybody signed in (401).

        Raises Problem (403) for somebody whose role does not suffice.
        """
        who = request.auth or request.user
        if not isinstance(who, Account | Token):
            is_public = getattr(view, "is_public", None)
            return is_public is not None and bool(is_public(request))
        method = request.method or ""
        if method not in view.allowed_methods:
            raise MethodNotAllowed(method)
        right = right_of(view, method)
        if right is None or not who.can(right):
            raise Problem(403, "forbidden", str(NEEDED[right or "edit"]))
        return True


def right_of(view: "APIView", method: str) -> str | None:
    """Return the right that `method` of this view needs; None when nobody may."""
    rights: dict[str, str] = getattr(view, "rights", {})
    if method == "OPTIONS":
        return "view"
    return rights.get("GET" if method == "HEAD" else method)

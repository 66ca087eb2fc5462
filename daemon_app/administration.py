"""The site Django's admin runs on: our sign-in, administrators alone, our models and no others."""

from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from daemon_app import middleware
from daemon_app.models import Account


class Administration(admin.AdminSite):
    """Not in daemon_app.admin, which registers models on it and so must be imported after it.

    The queue's models stay out: a row of its schedules is code that will be run, and loading a
    stored result executes what was pickled into it (semantics 10).
    """

    site_header = site_title = _("Administration")
    index_title = _("Everything that is stored")
    site_url = settings.LOGIN_REDIRECT_URL
    enable_nav_sidebar = False

    def register(
        self,
        model_or_iterable: type[models.Model] | Iterable[type[models.Model]],
        admin_class: Any = None,
        **options: Any,
    ) -> None:
        """Register models of ours; those of other applications are left out."""
        given = [model_or_iterable] if isinstance(model_or_iterable, type) else model_or_iterable
        ours = [model for model in given if model.__module__.startswith("daemon_app.")]
        super().register(ours, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Return whether whoever asks administers."""
        return isinstance(request.user, Account) and request.user.can("manage")

    def admin_view(  # type: ignore[override]
        self, view: Callable[..., HttpResponseBase], cacheable: bool = False
    ) -> Callable[..., HttpResponseBase]:
        """Wrap a view: whoever is signed in and does not administer gets 403, not a sign-in."""
        inner = super().admin_view(view, cacheable)

        def judged(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.user.is_authenticated and not self.has_permission(request):
                raise PermissionDenied
            return inner(request, *args, **kwargs)

        judged.right = "manage"  # type: ignore[attr-defined]
        return judged

    @method_decorator([login_not_required, require_safe])
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the one sign-in there is."""
        address = middleware.sign_in_address(request.GET.get("next", ""))
        return HttpResponseRedirect(address)

    @method_decorator(require_POST)
    def logout(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """End the session."""
        logout(request)
        return HttpResponseRedirect(settings.LOGIN_URL, status=303)

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Lead to the one page where passwords are chosen."""
        return redirect("password")

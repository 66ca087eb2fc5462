"""Addresses of the whole site."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="/daemon/")),
    path("daemon/", include("daemon_app.urls")),
    path("api/daemon/", include("daemon_app.api.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "daemon_app.views.errors.bad_request"
handler403 = "daemon_app.views.errors.forbidden"
handler404 = "daemon_app.views.errors.not_found"
handler500 = "daemon_app.views.errors.server_error"

"""How Django knows this application."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DaemonConfig(AppConfig):
    """The daemon's one Django application."""

    name = "daemon_app"
    verbose_name = _("Daemon")
    default_auto_field = "django.db.models.BigAutoField"

"""Django's admin, as this project has it; apart, for commands do without it."""

from django.contrib.admin.apps import AdminConfig


class AdministrationConfig(AdminConfig):
    """Django's admin with our rules and models alone."""

    default_site = "daemon_app.administration.Administration"

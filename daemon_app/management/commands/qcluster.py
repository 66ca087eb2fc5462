"""`manage.py qcluster`: the hardened cluster in place of django-q2's own command."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from daemon_app import cluster


class Command(BaseCommand):
    """Execute queued runs until stopped."""

    help = "Execute queued runs until SIGTERM or Ctrl+C."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Run the cluster and end with its exit code."""
        sys.exit(cluster.run())

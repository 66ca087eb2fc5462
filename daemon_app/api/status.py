"""How the daemon and its machine are, as far as it is measured."""

from ipaddress import ip_address
from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import notices
from daemon_app.api import glance, serializers
from daemon_app.api.endpoint import Endpoint, may
from daemon_app.api.schema import answers
from daemon_app.models import Account, Run

LAST_RUNS = 10
# With a token, a session, or neither.
OPEN: Any = [{"token": []}, {"session": []}, {}]
PROXY_HEADERS = ("forwarded", "x-real-ip", "via")


class ReadStatus(Endpoint):
    """The daemon at a glance."""

    rights: ClassVar = {"GET": "view"}

    def is_public(self, request: Request) -> bool:
        """Return whether anybody may look: only where nobody but this machine can ask."""
        return (
            request.method in {"GET", "HEAD"}
            and settings.PUBLIC_STATUS
            and is_loopback(settings.HOST)
            and not any(is_of_a_proxy(name) for name in request.headers)
        )

    @extend_schema(
        operation_id="read_status",
        summary="Read the daemon's state",
        tags=["daemon"],
        auth=OPEN,
        responses=answers({200: serializers.Status}),
    )
    def get(self, request: Request) -> Response:
        """Return whether the daemon runs, what needs a person, counts, and the last runs.

        Where the server listens on loopback alone it answers without a token too, then without
        data of jobs.
        """
        found = notices.current(self.now)
        known = isinstance(request.user, Account)
        status = glance.status_at(self.now, known=known, admin=may(request, "edit"))
        status["level"] = found[0].level if found else ""
        if known:
            status["notices"] = serializers.Notice(found, many=True).data
            last = list(Run.objects.order_by("-id")[:LAST_RUNS])
            context = {"now": self.now}
            status["last_runs"] = serializers.RunSerializer(last, many=True, context=context).data
        return Response(status)


def is_loopback(host: str) -> bool:
    """Return whether a server bound to `host` is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_of_a_proxy(header: str) -> bool:
    """Return whether only a proxy would send this header: somebody else may be behind it."""
    name = header.lower()
    return name in PROXY_HEADERS or name.startswith("x-forwarded")

"""How the daemon and its machine are, as far as it is measured."""

from datetime import datetime
from ipaddress import ip_address
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import Count, Q
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import admission, gauges, notices
from daemon_app.api import machine, serializers
from daemon_app.api.endpoint import Endpoint, may
from daemon_app.api.fields import Instant
from daemon_app.api.schema import answers
from daemon_app.models import Account, Job, Policy, Run, Snapshot

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
        status = status_at(self.now, known=known, admin=may(request, "edit"))
        status["level"] = found[0].level if found else ""
        if known:
            status["notices"] = serializers.Notice(found, many=True).data
            last = list(Run.objects.order_by("-id")[:LAST_RUNS])
            context = {"now": self.now, "line": admission.waiting_among(last, self.now)}
            status["last_runs"] = serializers.RunSerializer(last, many=True, context=context).data
        return Response(status)


def status_at(now: datetime, *, known: bool, admin: bool) -> dict[str, Any]:
    """Return the state of the daemon and its machine.

    `known` is whoever has signed in: to others nothing is told of jobs and people. What services
    said that made no sense is for administrators.
    """
    node, policy = gauges.host(now), Policy.current()
    newest = Snapshot.objects.newest(now, node.host) if node else None
    running = node is not None and node.is_alive(now)
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    today = Run.objects.filter(queued_at__gte=midnight).exclude(
        state__in=[Run.State.SKIPPED, Run.State.MISSED]
    )
    return {
        "running": running,
        "host": node.host if node else None,
        "since": Instant().to_representation(node.started_at) if node and running else None,
        "hold": policy.hold,
        "queue_length": Run.objects.queued().filter(due_at__lte=now).count(),
        "stats": Job.objects.aggregate(
            total_jobs=Count("pk"), active_jobs=Count("pk", filter=Q(is_active=True))
        )
        | today.aggregate(
            runs_today=Count("pk"),
            failed_today=Count("pk", filter=Q(state__in=Run.UNHAPPY)),
        ),
        **machine.idle_told(node, now, known=known),
        "users": node.users if node and running else 0,
        "presence": machine.presence_told(policy, now, known=known),
        "health": machine.health_told(newest, now, known=known, admin=admin),
        "skills": machine.skills_told(newest, known=known),
        "health_history": machine.last_hour_told(node.host if node else "", now),
        "displacements": machine.displacements_told(now),
    }


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

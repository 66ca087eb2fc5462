"""What happened to the daemon itself, and that somebody has seen it."""

from typing import ClassVar

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api import paging, serializers
from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.api.serializers import IncidentSerializer
from daemon_app.models import Incident


class Incidents(Endpoint):
    """All incidents."""

    rights: ClassVar = {"GET": "view"}
    query_class = serializers.IncidentsQuery

    @extend_schema(
        operation_id="list_incidents",
        summary="List incidents",
        tags=["incidents"],
        parameters=[serializers.IncidentsQuery],
        responses=answers({200: serializers.Incidents}),
    )
    def get(self, request: Request) -> Response:
        """Return incidents, newest first."""
        incidents = Incident.objects.all()
        if "unseen" in self.query:
            incidents = incidents.filter(acknowledged_at__isnull=self.query["unseen"])
        shown, there = paging.newest_first(request, incidents, self.query)
        return Response(
            {
                "incidents": IncidentSerializer(shown, many=True).data,
                "next": there,
            }
        )


class Acknowledge(Endpoint):
    """Marking an incident as seen."""

    rights: ClassVar = {"POST": "operate", "DELETE": "operate"}

    @extend_schema(
        operation_id="acknowledge_incident",
        summary="Mark an incident as seen",
        tags=["incidents"],
        request=None,
        responses=answers({200: IncidentSerializer}, 404, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Mark an incident as seen; who was first stays on record."""
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        incident = get_object_or_404(Incident, pk=pk)
        incident.acknowledge(by=asking(request), now=self.now)
        incident.refresh_from_db()
        return Response(IncidentSerializer(incident).data)

    @extend_schema(
        operation_id="bring_back_incident",
        summary="Mark an incident as not seen after all",
        tags=["incidents"],
        request=None,
        responses=answers({200: IncidentSerializer}, 404, changes=True),
    )
    def delete(self, request: Request, pk: int) -> Response:
        """Let an incident be told again; one that nobody has seen stays as it is."""
        incident = get_object_or_404(Incident, pk=pk)
        incident.bring_back()
        incident.refresh_from_db()
        return Response(IncidentSerializer(incident).data)

"""How the machine is and was: readings, idleness, who made way, and the daemon's own actions."""

from datetime import timedelta
from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api import glance, machine, paging
from daemon_app.api.endpoint import Endpoint, may
from daemon_app.api.schema import answers
from daemon_app.models import Displacement


class ReadHealth(Endpoint):
    """The newest readings."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="read_health",
        summary="Read the newest readings",
        tags=["health"],
        responses=answers({200: machine.Newest}),
    )
    def get(self, request: Request) -> Response:
        """Return what each check found at the last tick."""
        newest = glance.newest(self.now)
        admin = may(request, "edit")
        return Response(
            {
                "host": newest.host if newest else None,
                "at": glance.iso(newest.at if newest else None),
                "health": glance.health_told(newest, self.now, known=True, admin=admin),
            }
        )


class ReadHistory(Endpoint):
    """What was measured."""

    rights: ClassVar = {"GET": "view"}
    query_class = machine.HistoryQuery

    @extend_schema(
        operation_id="read_health_history",
        summary="Read what was measured",
        tags=["health"],
        parameters=[machine.HistoryQuery],
        responses=answers({200: machine.History}),
    )
    def get(self, request: Request) -> Response:
        """Return mean, least and most of each check over a time; null where nothing was measured.

        The last hour unless `range`, or `since` and `until`, say otherwise.
        """
        return Response(machine.history_told(self.query, self.now))


class IdleHistory(Endpoint):
    """When the machine was idle."""

    rights: ClassVar = {"GET": "view"}
    query_class = machine.IdleQuery

    @extend_schema(
        operation_id="read_idle_history",
        summary="Read when the machine was idle",
        tags=["health"],
        parameters=[machine.IdleQuery],
        responses=answers({200: machine.IdleSpans}),
    )
    def get(self, request: Request) -> Response:
        """Return the times in which it was idle or busy, newest first, each with its reasons."""
        limit = self.query.get("limit", 200)
        since = self.query.get("since", self.now - timedelta(days=1))
        return Response(machine.idle_spans_told(since, limit))


class Displacements(Endpoint):
    """Who made way."""

    rights: ClassVar = {"GET": "view"}
    query_class = machine.DisplacementsQuery

    @extend_schema(
        operation_id="list_displacements",
        summary="List runs that made way",
        tags=["health"],
        parameters=[machine.DisplacementsQuery],
        responses=answers({200: machine.Displacements}),
    )
    def get(self, request: Request) -> Response:
        """Return when runs made way for somebody, newest first, and how fast they do."""
        about = {name: self.query[name] for name in ("job_id",) if name in self.query}
        found = Displacement.objects.filter(**about)
        shown, there = paging.newest_first(request, found, self.query)
        return Response(
            {
                "times": glance.displacements_told(self.now, **about),
                "displacements": machine.MadeWay(shown, many=True).data,
                "next": there,
            }
        )


class ListSkills(Endpoint):
    """What the daemon does of itself."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="list_skills",
        summary="List skills",
        tags=["health"],
        responses=answers({200: machine.Skills}),
    )
    def get(self, request: Request) -> Response:
        """Return the skills, each with its newest run."""
        newest = glance.newest(self.now)
        return Response({"skills": glance.skills_told(newest, known=True)})

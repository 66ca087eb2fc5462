"""The line of runs that wait, and everything held or let go on."""

from typing import ClassVar

from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import admission, scheduler
from daemon_app.api import serializers
from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.models import Policy, Run

LONGEST_NOTE = 200


class ReadQueue(Endpoint):
    """The line."""

    rights: ClassVar = {"GET": "view"}
    query_class = serializers.QueueQuery

    @extend_schema(
        operation_id="read_queue",
        summary="Read the line of waiting runs",
        tags=["queue"],
        parameters=[serializers.QueueQuery],
        responses=answers({200: serializers.Queue}),
    )
    def get(self, request: Request) -> Response:
        """Return the runs that wait, in the order of their start, each with its reason."""
        policy = Policy.current()
        told = serializers.Queue(
            {
                "held": policy,
                "parallel": policy.parallel,
                "running": Run.objects.running().count(),
                "length": admission.length(self.now),
                "waiting": admission.line(self.now, self.query.get("limit", 200)),
            }
        )
        return Response(told.data)


class HoldAll(Endpoint):
    """Holding everything."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="hold",
        summary="Hold everything",
        tags=["queue"],
        request=serializers.HoldAll,
        examples=[
            OpenApiExample("Update", {"mode": "drain", "note": "Kernel update"}, request_only=True)
        ],
        responses=answers({200: serializers.Hold}, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Let nothing start until somebody resumes; `stop` also ends what runs.

        What becomes due meanwhile is treated as missed, by the rule of its job.
        """
        values, wrong = serializers.HoldAll().read(request.data)
        note = values.get("note", "")
        if len(note) > LONGEST_NOTE:
            wrong["note"] = [_t("At most %(n)s characters.") % {"n": LONGEST_NOTE}]
        if wrong:
            raise refused(wrong)
        mode = values.get("mode", Policy.Hold.DRAIN)
        scheduler.hold(mode, by=asking(request), now=self.now, note=note)
        return Response(serializers.Hold(Policy.current()).data)


class Resume(Endpoint):
    """Letting everything go on."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="resume",
        summary="Let everything go on",
        tags=["queue"],
        request=None,
        responses=answers({200: serializers.Hold}, changes=True),
    )
    def post(self, request: Request) -> Response:
        """End a hold; without one nothing changes."""
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        scheduler.resume(by=asking(request), now=self.now)
        return Response(serializers.Hold(Policy.current()).data)

"""Start and stop of the original BACH: whether jobs start, not whether a process lives."""

from typing import ClassVar

from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import gauges, scheduler
from daemon_app.api.endpoint import Endpoint, asking
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.models import Policy


class Switched(serializers.Serializer[object]):
    """What became of a start or a stop."""

    status = serializers.ChoiceField(
        choices=["starting", "already_running", "stopped", "not_running"],
        help_text="already_running, not_running: nothing has changed.",
    )
    message = serializers.CharField(help_text="The same for people.")


def _answer(status: str, message: str) -> Response:
    return Response(Switched({"status": status, "message": message}).data)


def _nothing_sent(request: Request) -> None:
    """Refuse a body with anything in it."""
    _values, wrong = Strict().read(request.data)
    if wrong:
        raise refused(wrong)


class Start(Endpoint):
    """Letting jobs start."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="start_daemon",
        summary="Let jobs start again",
        tags=["daemon"],
        request=None,
        responses=answers(
            {
                200: OpenApiResponse(
                    Switched,
                    "Jobs start; what was held goes on.",
                    [
                        OpenApiExample(
                            "Started",
                            {"status": "starting", "message": "Alles geht weiter."},
                        )
                    ],
                )
            },
            409,
            changes=True,
        ),
    )
    def post(self, request: Request) -> Response:
        """End a hold, as `resume` does.

        The daemon's process belongs to whoever runs the machine: where there is none, nothing
        changes, and the answer says how to start it.
        """
        _nothing_sent(request)
        node = gauges.host(self.now)
        if node is None or not node.is_alive(self.now):
            raise Problem(
                409,
                "daemon_away",
                _t("The daemon is not running. Start it on its machine: %(command)s")
                % {"command": "bach daemon start --bg"},
            )
        if not scheduler.resume(by=asking(request), now=self.now):
            return _answer("already_running", _t("The daemon is running already."))
        return _answer("starting", _t("Everything goes on."))


class Stop(Endpoint):
    """Letting no job start."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="stop_daemon",
        summary="Let no job start",
        tags=["daemon"],
        request=None,
        responses=answers(
            {
                200: OpenApiResponse(
                    Switched,
                    "Nothing starts; what runs goes on to its end.",
                    [
                        OpenApiExample(
                            "Stopped",
                            {
                                "status": "stopped",
                                "message": "Alles ist angehalten: Kein Lauf startet.",
                            },
                        )
                    ],
                )
            },
            changes=True,
        ),
    )
    def post(self, request: Request) -> Response:
        """Hold everything, as `hold` does; the daemon's process stays, and goes on looking."""
        _nothing_sent(request)
        if Policy.current().hold:
            return _answer("not_running", _t("Everything was held already."))
        scheduler.hold(Policy.Hold.DRAIN, by=asking(request), now=self.now)
        return _answer("stopped", _t("Everything is held: no run starts."))

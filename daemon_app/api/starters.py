"""Jobs to begin with: what many machines need, to be adjusted and switched on."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import starters
from daemon_app.api.endpoint import Endpoint, asking, may
from daemon_app.api.errors import refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.api.serializers import JobSerializer


class Starter(serializers.Serializer[Any]):
    """A job to begin with."""

    key = serializers.CharField(help_text="For programs; does not change.")
    title = serializers.CharField()
    about = serializers.CharField(help_text="What it does.")
    adjust = serializers.CharField(help_text="What is one's own affair in it.")
    schedule_text = serializers.CharField(help_text="When it runs, in words.")
    is_first = serializers.BooleanField(help_text="Whether it is among those made together.")
    job = serializers.DictField(
        help_text="What to send to create it, under a name that is free; adjust it first."
    )


class Starters(serializers.Serializer[Any]):
    """All of them."""

    starters = Starter(many=True)


class Begun(serializers.Serializer[Any]):
    """The jobs that were created, switched off."""

    jobs = JobSerializer(many=True, help_text="None: they were there already.")


class ListStarters(Endpoint):
    """All jobs to begin with."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="list_starters",
        summary="List jobs to begin with",
        tags=["jobs"],
        responses=answers({200: Starters}),
    )
    def get(self, request: Request) -> Response:
        """Return jobs to begin with; each says in its first lines what is to be adjusted."""
        return Response({"starters": [_told(each) for each in starters.STARTERS]})


class Begin(Endpoint):
    """The jobs of the first minute."""

    rights: ClassVar = {"POST": "edit"}

    @extend_schema(
        operation_id="create_starters",
        summary="Create the jobs of the first minute",
        tags=["jobs"],
        request=None,
        responses=answers({200: Begun}, changes=True),
    )
    def post(self, request: Request) -> Response:
        """Create those that are not there yet, switched off: look at each, then switch it on."""
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        made = starters.begin(now=self.now, by=asking(request))
        rights = {"may_edit": may(request, "edit")}
        return Response({"jobs": JobSerializer(made, many=True, context=rights).data})


def _told(starter: starters.Starter) -> dict[str, Any]:
    job = starter.job()
    fields = ("name", "description", *starter.fields)
    return {
        "key": starter.key,
        "title": str(starter.title),
        "about": str(starter.about),
        "adjust": str(starter.adjust),
        "schedule_text": starter.plan,
        "is_first": starter in starters.FIRST,
        "job": {name: getattr(job, name) for name in fields},
    }

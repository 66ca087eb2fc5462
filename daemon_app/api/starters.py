"""Jobs to begin with: what many machines need, and copies of others."""

from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _t
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import starters
from daemon_app.api.endpoint import Endpoint, asking, may
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Strict, Text
from daemon_app.api.schema import answers
from daemon_app.api.serializers import JobSerializer
from daemon_app.models import Job

# Of a name to which a number may be added.
LONGEST_BEGINNING = 74


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


class CopyOf(Strict):
    """What the copy is called."""

    name = Text(required=False, max_length=80, help_text="One that is free unless given.")


class CopyJob(Endpoint):
    """A job as the beginning of another one."""

    rights: ClassVar = {"POST": "edit"}

    @extend_schema(
        operation_id="copy_job",
        summary="Copy a job",
        tags=["jobs"],
        request=CopyOf,
        examples=[OpenApiExample("Another name", {"name": "backup-photos"}, request_only=True)],
        responses=answers({201: JobSerializer}, 404, 409, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Create a job like this one, switched off: two that do the same seldom are meant."""
        values, wrong = CopyOf().read(request.data)
        if wrong:
            raise refused(wrong)
        of = get_object_or_404(Job, pk=pk)
        if of.skill:
            raise Problem(409, "of_a_skill", _t("The job of a skill can't be copied."))
        fields = JobSerializer().fields.items()
        same = {name: getattr(of, name) for name, field in fields if not field.read_only}
        name = values.get("name") or starters.free_name(of.name[:LONGEST_BEGINNING])
        copy = Job(**same | {"name": name, "is_active": False})
        copy.store(now=self.now, by=asking(request))
        return Response(
            JobSerializer(copy, context={"may_edit": may(request, "edit")}).data,
            status=201,
            headers={"Location": reverse("api:job", args=[copy.pk])},
        )


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

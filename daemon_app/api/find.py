"""Jobs and runs by a few letters or a number, as the search of the pages finds them."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api.endpoint import Endpoint, may
from daemon_app.api.fields import Strict, Text
from daemon_app.api.schema import answers
from daemon_app.api.serializers import JobSerializer, RunSerializer
from daemon_app.tiles import finds


class FindQuery(Strict):
    """What is looked for."""

    q = Text(
        required=False,
        allow_blank=True,
        help_text="Parts of a job's name, or the number of a run; the latest ones unless given.",
    )


class Found(serializers.Serializer[Any]):
    """What was found, the best first: at most 8 jobs and 4 runs."""

    jobs = JobSerializer(many=True)
    runs = RunSerializer(many=True)


class Find(Endpoint):
    """The search of the pages."""

    rights: ClassVar = {"GET": "view"}
    query_class = FindQuery

    @extend_schema(
        operation_id="find",
        summary="Find jobs and runs",
        tags=["jobs", "runs"],
        parameters=[FindQuery],
        responses=answers({200: Found}),
    )
    def get(self, request: Request) -> Response:
        """Return the few jobs and runs that are most likely meant.

        For a complete list ask for jobs or runs with `q`.
        """
        jobs, runs = finds.looked_up(self.query.get("q", ""))
        rights = {"may_edit": may(request, "edit")}
        return Response(
            {
                "jobs": JobSerializer(jobs, many=True, context=rights).data,
                "runs": RunSerializer(runs, many=True, context={"now": self.now}).data,
            }
        )

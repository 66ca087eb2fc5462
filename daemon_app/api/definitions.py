"""All jobs as a file: the YAML that `bach apply` reads."""

from typing import ClassVar

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.request import Request

from daemon_app.api.endpoint import Endpoint, may
from daemon_app.api.errors import Problem
from daemon_app.api.fields import LARGEST, Count, FlagWord, Strict
from daemon_app.api.plain import PlainText
from daemon_app.api.schema import answers
from daemon_app.models import Job

EXAMPLE = """\
name: nightly-backup
job_type: cron
schedule: 30 3 * * MON-FRI
timezone: Europe/Berlin
command: |
  set -e
  tar -czf /srv/backup.tgz ~/
"""


class Wanted(Strict):
    """What is written."""

    job_id = Count(required=False, min_value=1, max_value=LARGEST, help_text="This job alone.")
    values = FlagWord(
        required=False,
        help_text=(
            "Whether values of variables stand in it, for whoever may edit; without they are null, "
            "and stay as they are where the file is applied."
        ),
    )


class Export(Endpoint):
    """Jobs, pools and rules as one YAML document."""

    rights: ClassVar = {"GET": "view"}
    query_class = Wanted
    content_negotiation_class = PlainText

    @extend_schema(
        operation_id="export_definitions",
        summary="Export jobs as YAML",
        tags=["jobs"],
        parameters=[Wanted],
        responses=answers(
            {
                (200, "application/yaml"): OpenApiResponse(
                    OpenApiTypes.STR,
                    "A file that bach apply reads.",
                    [OpenApiExample("One job", EXAMPLE)],
                )
            },
            404,
            409,
        ),
    )
    def get(self, request: Request) -> HttpResponse:
        """Return all jobs with the pools and the rules for all jobs, or one job alone.

        What has its default is not written, and the order is always the same: a comparison of two
        exports shows what has changed. Jobs of skills are not among them.
        """
        from daemon_app.intake import definitions  # noqa: PLC0415 - the server begins without YAML

        values = self.query.get("values", True) and may(request, "edit")
        name = "jobs"
        if "job_id" in self.query:
            job = get_object_or_404(Job, pk=self.query["job_id"])
            if job.skill:
                why = _t("“%(name)s” belongs to a skill; files can't define it.")
                raise Problem(409, "of_a_skill", why % {"name": job.name})
            said, name = definitions.as_mapping(job, values=values), f"job-{job.pk}"
        else:
            said = definitions.of_all(Job.objects.filter(skill=""), values=values)
        return HttpResponse(
            definitions.as_text(said),
            content_type="application/yaml; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="{name}.yaml"',
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )

"""The audit log, and what of it was changed of jobs."""

import json
import re
from collections.abc import Mapping
from threading import Lock
from typing import Any, ClassVar

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import witness
from daemon_app.api import paging
from daemon_app.api.endpoint import Endpoint
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Choice, Count, Instant, InstantWord, Strict, Text
from daemon_app.api.plain import PlainText
from daemon_app.api.schema import answers
from daemon_app.models import Change, Job, change
from daemon_app.models.change import ChangeQuerySet, Via

DIGEST = re.compile(r"[0-9a-f]{64}")
# What is told of a change to whoever may look at jobs: not from where it was asked.
OF_JOBS = ("id", "at", "by", "via", "kind", "name", "version", "fields")


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class JobChange(serializers.Serializer[Any]):
    """One change of a job."""

    id = serializers.IntegerField()
    at = Instant()
    by = serializers.CharField(help_text="Who asked for it; empty: the program itself.")
    via = serializers.ChoiceField(
        choices=Via.choices, allow_blank=True, help_text="By which way; empty: not recorded."
    )
    kind = serializers.ChoiceField(choices=Change.Kind.choices, help_text="What was done.")
    job_id = serializers.IntegerField(help_text="The job may have been deleted since.")
    name = serializers.CharField()
    version = serializers.IntegerField(help_text="Of the job, after it.")
    fields = serializers.DictField(  # type: ignore[assignment] # the row calls it so
        help_text="field → [before, after], of environment and parameters the names alone; for a "
        "pause or a mute: until and note."
    )


class JobChanges(serializers.Serializer[Any]):
    """A page of changes of jobs, newest first."""

    changes = JobChange(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class ChangesQuery(Strict):
    """Which changes."""

    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only changes with a lower id.")


class Chosen(Strict):
    """Which rows of the audit log."""

    subject = Choice(choices=Change.Subject.choices, required=False, help_text="What it is about.")
    subject_id = Count(min_value=1, required=False, help_text="The number of what it is about.")
    kind = Choice(choices=Change.Kind.choices, required=False, help_text="What was done.")
    via = Choice(choices=Via.choices, required=False, help_text="By which way.")
    by = Text(required=False, allow_blank=True, help_text="Who asked for it, exactly.")
    name = Text(required=False, allow_blank=True, help_text="Part of the name of what it is about.")
    token = Count(min_value=1, required=False, help_text="The number of the token it came with.")
    since = InstantWord(required=False, help_text="Not earlier than this.")
    until = InstantWord(required=False, help_text="Earlier than this.")


class AuditQuery(Chosen):
    """Which rows of the audit log, and which page of them."""

    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only rows with a lower id.")


class Entry(serializers.Serializer[Any]):
    """One row of the audit log, as it is exported."""

    id = serializers.IntegerField()
    at = serializers.DateTimeField(help_text="As the digest covers it, in UTC.")
    by = serializers.CharField(help_text="Empty: the program itself.")
    via = serializers.ChoiceField(choices=Via.choices, allow_blank=True)
    address = serializers.CharField(help_text="Where it was asked from; empty: on the machine.")
    token = serializers.IntegerField(allow_null=True, help_text="The token it was asked with.")
    kind = serializers.ChoiceField(choices=Change.Kind.choices)
    subject = serializers.ChoiceField(choices=Change.Subject.choices)
    subject_id = serializers.IntegerField(allow_null=True)
    name = serializers.CharField()
    version = serializers.IntegerField(help_text="Of a job, after it; else 0.")
    fields = serializers.DictField(  # type: ignore[assignment] # the row calls it so
        help_text="field → [before, after]; secrets are never in it."
    )
    previous = serializers.CharField(help_text="The digest of the row before; empty for the first.")
    digest = serializers.CharField(help_text="SHA-256 over this row and the one before, in hex.")


class Entries(serializers.Serializer[Any]):
    """A page of the audit log, newest first."""

    entries = Entry(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class VerifyQuery(Strict):
    """What to look for."""

    head = Text(required=False, help_text="A digest noted earlier: is its row still there?")


class Verified(serializers.Serializer[Any]):
    """What looking at the whole chain has found."""

    sound = serializers.BooleanField(
        help_text="Whether every row is as it was written, and a given head is there."
    )
    rows = serializers.IntegerField(help_text="How many rows are sound, from the first on.")
    last = serializers.IntegerField(allow_null=True, help_text="The last sound row; null: none.")
    at = Instant(allow_null=True, help_text="When that was written.")
    head = serializers.CharField(help_text="Its digest: keep it elsewhere. Empty: no row.")
    broken = serializers.IntegerField(
        allow_null=True, help_text="The first row that is not sound; null: all are."
    )
    fault = serializers.CharField(
        help_text="changed: that row was; gap: rows before it are missing, or were put there; "
        "other: the journal knows another one; cut: the journal knows it, and it is missing."
    )
    knows_head = serializers.BooleanField(
        allow_null=True, help_text="Whether a row has the digest given; null: none was."
    )


# ── Changes of jobs ──────────────────────────────────────────────────────────────────────────────
class Changes(Endpoint):
    """What was changed of all jobs."""

    rights: ClassVar = {"GET": "view"}
    query_class = ChangesQuery

    @extend_schema(
        operation_id="list_changes",
        summary="List changes of jobs",
        tags=["jobs", "audit"],
        parameters=[ChangesQuery],
        responses=answers({200: JobChanges}),
    )
    def get(self, request: Request) -> Response:
        """Return what was changed of jobs, deleted ones too, newest first."""
        return Response(_changes(request, Change.objects.of_jobs(), self.query))


class ChangesOfJob(Endpoint):
    """What was changed of one job."""

    rights: ClassVar = {"GET": "view"}
    query_class = ChangesQuery

    @extend_schema(
        operation_id="list_changes_of_job",
        summary="List changes of a job",
        tags=["jobs", "audit"],
        parameters=[ChangesQuery],
        responses=answers({200: JobChanges}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return what was changed of a job, newest first."""
        job = get_object_or_404(Job.objects.only("pk"), pk=pk)
        return Response(_changes(request, Change.objects.of_jobs(job.pk), self.query))


def _changes(request: Request, rows: ChangeQuerySet, query: Mapping[str, Any]) -> dict[str, Any]:
    shown, there = paging.newest_first(request, rows, query)
    told = [
        {name: getattr(row, name) for name in OF_JOBS} | {"job_id": row.subject_id} for row in shown
    ]
    return {"changes": JobChange(told, many=True).data, "next": there}


# ── The whole log ────────────────────────────────────────────────────────────────────────────────
class Audit(Endpoint):
    """The audit log."""

    rights: ClassVar = {"GET": "manage"}
    query_class = AuditQuery

    @extend_schema(
        operation_id="list_audit_log",
        summary="Read the audit log",
        tags=["audit"],
        parameters=[AuditQuery],
        responses=answers({200: Entries}),
    )
    def get(self, request: Request) -> Response:
        """Return who has asked for what, newest first."""
        shown, there = paging.newest_first(request, _chosen(self.query), self.query)
        rows = [json.loads(change.line(row)) for row in shown]
        return Response({"entries": rows, "next": there})


class ExportAudit(Endpoint):
    """The audit log as a file."""

    rights: ClassVar = {"GET": "manage"}
    query_class = Chosen
    content_negotiation_class = PlainText

    @extend_schema(
        operation_id="export_audit_log",
        summary="Export the audit log",
        tags=["audit"],
        parameters=[Chosen],
        responses=answers(
            {
                (200, "application/x-ndjson"): OpenApiResponse(
                    OpenApiTypes.STR,
                    "One row a line, as in the list.",
                    [OpenApiExample("One row", json.dumps({"id": 41, "by": "anna"}) + "\n")],
                )
            }
        ),
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """Return the rows as lines of JSON, the oldest first, however many there are."""
        return StreamingHttpResponse(
            change.pieces(_chosen(self.query)),
            content_type="application/x-ndjson; charset=utf-8",
            headers={
                "Content-Disposition": 'attachment; filename="audit.jsonl"',
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
            },
        )


def _chosen(query: Mapping[str, Any]) -> ChangeQuerySet:
    rows = Change.objects.chosen(query)
    for asked, column in (("subject_id", "subject_id"), ("token", "token_id")):
        if asked in query:
            rows = rows.filter(**{column: query[asked]})
    return rows


class VerifyAudit(Endpoint):
    """Whether the audit log is as it was written."""

    rights: ClassVar = {"GET": "manage"}
    query_class = VerifyQuery
    # It reads every row; several at once would only be slower together.
    turn: ClassVar[Lock] = Lock()

    @extend_schema(
        operation_id="verify_audit_log",
        summary="Verify the audit log",
        tags=["audit"],
        parameters=[VerifyQuery],
        examples=[
            OpenApiExample(
                "Nobody has touched it",
                {
                    "sound": True,
                    "rows": 1204,
                    "last": 1204,
                    "at": "2026-11-22T14:03:07.120934Z",
                    "head": "9f1c" * 16,
                    "broken": None,
                    "fault": "",
                    "knows_head": None,
                },
                response_only=True,
                status_codes=["200"],
            )
        ],
        responses=answers({200: Verified}, 409),
    )
    def get(self, request: Request) -> Response:
        """Look at every row from the first on, and say which is the first that is not sound.

        That takes some seconds for each 100,000 rows; meanwhile others who ask are refused (409).
        """
        head = self.query.get("head")
        if head is not None and not DIGEST.fullmatch(head):
            # One that was left out by a slip would seem to be found.
            raise refused({"head": [_t("Give the digest of a row: 64 digits and letters a to f.")]})
        if not self.turn.acquire(blocking=False):
            raise Problem(409, "being_verified", _t("The audit log is being verified right now."))
        try:
            found = change.verify(head or "", noted=witness.noted())
        finally:
            self.turn.release()
        told = {
            "sound": found.broken is None and found.knows_head,
            "rows": found.rows,
            "last": found.last,
            "at": found.at,
            "head": found.head,
            "broken": found.broken,
            "fault": found.fault,
            "knows_head": found.knows_head if head else None,
        }
        return Response(Verified(told).data)

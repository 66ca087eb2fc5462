"""Runs: list, read, output, cancel, start all the same, move in line."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import output, scheduler
from daemon_app.api import serializers
from daemon_app.api.endpoint import Endpoint, asking, following, may
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Strict
from daemon_app.api.schema import answers
from daemon_app.api.serializers import LARGEST_PIECE, OneRun, RunSerializer
from daemon_app.models import Attempt, Run

STEP = 1024 * 1024


class Runs(Endpoint):
    """All runs."""

    rights: ClassVar = {"GET": "view"}
    query_class = serializers.RunsQuery

    @extend_schema(
        operation_id="list_runs",
        summary="List runs",
        tags=["runs"],
        parameters=[serializers.RunsQuery],
        responses=answers({200: serializers.Runs}),
    )
    def get(self, request: Request) -> Response:
        """Return runs, newest first."""
        limit = self.query.get("limit", 50)
        runs = Run.objects.order_by("-id")
        for name in ("job_id", "state", "trigger"):
            if name in self.query:
                runs = runs.filter(**{name: self.query[name]})
        if "before" in self.query:
            runs = runs.filter(pk__lt=self.query["before"])
        page = list(runs[: limit + 1])
        shown = page[:limit]
        return Response(
            {
                "runs": RunSerializer(shown, many=True, context={"now": self.now}).data,
                "count": len(shown),
                "next": following(request, before=shown[-1].pk) if len(page) > limit else None,
            }
        )


class ReadRun(Endpoint):
    """One run."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(
        operation_id="read_run",
        summary="Read a run",
        tags=["runs"],
        responses=answers({200: OneRun}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return a run, with what was to be executed."""
        run = get_object_or_404(Run, pk=pk)
        rights = {f"may_{right}": may(request, right) for right in ("operate", "edit")}
        context = {"now": self.now, **rights}
        return Response(OneRun(run, context=context).data)


class CancelRun(Endpoint):
    """Ending a run early."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="cancel_run",
        summary="Cancel a run",
        tags=["runs"],
        request=None,
        responses=answers(
            {202: OpenApiResponse(RunSerializer, "It was asked to stop; one that waited is over.")},
            404,
            409,
            changes=True,
        ),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Cancel a run: all its processes get SIGTERM and, after the grace, SIGKILL."""
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        run = get_object_or_404(Run, pk=pk)
        if not scheduler.stop(run, by=asking(request), now=self.now):
            raise Problem(409, "ended", _t("This run has already ended."))
        run.refresh_from_db()
        return Response(RunSerializer(run, context={"now": self.now}).data, status=202)


class ForceRun(Endpoint):
    """Starting a waiting run all the same."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="force_run",
        summary="Start a waiting run whatever its conditions say",
        tags=["runs", "queue"],
        request=None,
        responses=answers({202: RunSerializer}, 404, 409, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Let a run start although its conditions are not met; it makes way for nobody.

        It still waits for a place and for its pools. Asked again nothing changes.
        """
        _values, wrong = Strict().read(request.data)
        if wrong:
            raise refused(wrong)
        run = get_object_or_404(Run, pk=pk)
        forced = scheduler.force(run, by=asking(request), now=self.now)
        run.refresh_from_db()
        # Whoever asks twice, or has seen it start meanwhile, got what they wanted.
        if not forced and not (run.is_active and run.forced_by):
            raise Problem(409, "not_waiting", _t("This run does not wait in line."))
        return Response(RunSerializer(run, context={"now": self.now}).data, status=202)


class MoveRun(Endpoint):
    """A waiting run's place in line."""

    rights: ClassVar = {"POST": "operate"}

    @extend_schema(
        operation_id="move_run",
        summary="Move a waiting run in line",
        tags=["runs", "queue"],
        request=serializers.MoveTo,
        examples=[OpenApiExample("To the front", {"to": "first"}, request_only=True)],
        responses=answers({200: RunSerializer}, 404, 409, changes=True),
    )
    def post(self, request: Request, pk: int) -> Response:
        """Give a waiting run another place; it goes before those that nobody has moved."""
        values, wrong = serializers.MoveTo().read(request.data)
        if not values and not wrong:
            wrong["to"] = [_t("Give one of: %(words)s.") % {"words": ", ".join(scheduler.MOVES)}]
        if wrong:
            raise refused(wrong)
        run = get_object_or_404(Run, pk=pk)
        moved = scheduler.move(run, values["to"], by=asking(request), now=self.now)
        run.refresh_from_db()
        told = RunSerializer(run, context={"now": self.now}).data
        # One that waits for its time has no place yet; one that was there already is no mistake.
        if not moved and not (told["waiting"] and told["waiting"]["position"]):
            raise Problem(409, "not_waiting", _t("This run does not wait in line."))
        return Response(told)


class _JSONForErrors(BaseContentNegotiation):
    """Takes any Accept header: the output is plain text, and errors are JSON."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


def _header(name: str, meaning: str) -> OpenApiParameter:
    return OpenApiParameter(
        name, OpenApiTypes.INT, OpenApiParameter.HEADER, description=meaning, response=[200]
    )


class ReadLog(Endpoint):
    """What a run wrote."""

    rights: ClassVar = {"GET": "view"}
    query_class = serializers.LogQuery
    content_negotiation_class = _JSONForErrors

    @extend_schema(
        operation_id="read_log",
        summary="Read a run's output",
        tags=["runs"],
        parameters=[
            serializers.LogQuery,
            _header("Log-Offset", "Where in the output the body begins."),
            _header("Log-Next-Offset", "Where to go on from."),
            _header("Log-Size", "How many bytes the run has written so far, kept or not."),
            _header("Log-Dropped", "How many of them were not kept."),
            _header("Log-Gap", "How many of the dropped bytes lie within the part asked for."),
        ],
        responses=answers({(200, "text/plain"): OpenApiTypes.STR}, 404, 410),
    )
    def get(self, request: Request, pk: int) -> HttpResponse:
        """Return the bytes both streams wrote, in order, as they are; while the run writes too."""
        run = get_object_or_404(Run, pk=pk)
        query = self.query
        if "lines" in query and "offset" in query:
            raise refused({"lines": [_t("Give either lines or offset, not both.")]})
        folder, size, dropped = output_of(run, query.get("attempt"))
        limit = query.get("limit", LARGEST_PIECE)
        if "lines" in query:
            start, data = output.tail(folder, query["lines"], limit)
            end, gap = start + len(data), 0
        else:
            start, end, gap, data = _kept(folder, query.get("offset", 0), limit)
        return HttpResponse(
            data,
            content_type="text/plain; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="run-{run.pk}.log"',
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                "Log-Offset": start,
                "Log-Next-Offset": end,
                "Log-Size": size,
                "Log-Dropped": dropped,
                "Log-Gap": gap,
            },
        )


def output_of(run: Run, number: int | None) -> tuple[Path, int, int]:
    """Return where the output of one attempt is, how long it was and how much was not kept.

    Raises Problem (404) for an attempt there was not, (410) when its output is gone.
    """
    of: Run | Attempt = run
    folder = run.folder
    if number is not None and number != run.attempt:
        of = get_object_or_404(run.attempts, number=number)
        folder = of.folder
        # Until the next attempt begins it lies in the run's own folder, and not later.
        stays = run.is_active and number == run.attempt - 1 and of.output_bytes
        if folder == run.folder and not stays:
            folder = folder / "attempts" / str(of.fence)
    elif number is not None and run.state == Run.State.QUEUED:
        return folder / "attempts", 0, 0  # it has not begun, and written nothing
    kept = output.size(folder)
    if run.output_removed or (of.output_bytes > of.dropped_bytes and not kept):
        raise Problem(410, "tidied_away", _t("The output of this run has been tidied away."))
    # What found no room behind the last file is known to the row alone, at the end.
    return folder, of.output_bytes or kept, of.dropped_bytes or output.dropped(folder)


def _kept(folder: Path, offset: int, limit: int) -> tuple[int, int, int, bytes]:
    """Return what is kept of the output from `offset` on: (start, end, bytes left out, bytes)."""
    parts: list[bytes] = []
    start: int | None = None
    gap, end, room = 0, offset, limit
    while room:
        piece = output.read(folder, end, min(room, STEP))
        if not piece.data:
            break
        start = piece.offset if start is None else start
        gap += piece.gap
        end = piece.end
        room -= len(piece.data)
        parts.append(piece.data)
    return (offset if start is None else start), end, gap, b"".join(parts)

"""Runs: list, read, output, cancel, start all the same, move in line."""

from pathlib import Path
from typing import ClassVar

from django.db.models import Max, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import output, scheduler
from daemon_app.api import preconditions, serializers, slices, streams
from daemon_app.api.endpoint import Endpoint, asking, following, may
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Strict
from daemon_app.api.plain import PlainText
from daemon_app.api.schema import answers
from daemon_app.api.serializers import LARGEST_PIECE, OneRun, RunSerializer, searched
from daemon_app.models import Attempt, Run
from daemon_app.tiles import Filter
from daemon_app.tiles import runs as tiles_of_runs

YES = {"1", "true"}
# So often a picture of the output is taken whose middle is dropped before it is read.
TRIES = 5


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
        runs, lowest = self._chosen()
        page = list(runs[: limit + 1])
        shown = page[:limit]
        before = shown[-1].pk if len(page) > limit else lowest
        return Response(
            {
                "runs": RunSerializer(shown, many=True, context={"now": self.now}).data,
                "count": len(shown),
                "next": following(request, before=before) if before else None,
            }
        )

    def _chosen(self) -> tuple[QuerySet[Run], int | None]:
        """Return the runs that are asked for, and below which number to look further.

        What no index answers is looked for among so many of the newest at a time; None: these
        were all.
        """
        query = self.query
        since, until, before = (query.get(name) for name in ("since", "until", "before"))
        if since and until and since >= until:
            raise refused({"since": [_t("The beginning must lie before the end.")]})
        words = searched(query)
        wanted = Filter(state=query.get("state", ""), trigger=query.get("trigger", ""), q=words)
        lowest = 0
        if tiles_of_runs.is_searched(wanted):
            newest = before - 1 if before else Run.objects.aggregate(last=Max("pk"))["last"] or 0
            if until and (after := tiles_of_runs.first_since(until)):
                newest = min(newest, after - 1)
            lowest = max(0, newest - tiles_of_runs.LOOKED_AT + 1)
        span = (since, until) if since or until else None
        runs = tiles_of_runs.filtered_runs(wanted, self.now, lowest, span)
        if "job_id" in query:
            runs = runs.filter(job_id=query["job_id"])
        if before:
            runs = runs.filter(pk__lt=before)
        first = (tiles_of_runs.first_since(since) if since and lowest > 1 else None) or 1
        return runs, lowest if lowest > first else None


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


def _header(name: str, meaning: str) -> OpenApiParameter:
    return OpenApiParameter(
        name, OpenApiTypes.INT, OpenApiParameter.HEADER, description=meaning, response=[200]
    )


class ReadLog(Endpoint):
    """What a run wrote."""

    rights: ClassVar = {"GET": "view"}
    query_class = serializers.LogQuery
    content_negotiation_class = PlainText

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
        responses=answers(
            {
                (200, "text/plain"): OpenApiTypes.STR,
                (206, "text/plain"): OpenApiResponse(OpenApiTypes.STR, "The range asked for."),
            },
            404,
            410,
            416,
            503,
        ),
    )
    def get(self, request: Request, pk: int) -> HttpResponse:
        """Return the bytes both streams wrote, in order, as they are; while the run writes too.

        With “follow” the answer goes on until the run ends.
        """
        run = get_object_or_404(Run, pk=pk)
        query = self.query
        if "lines" in query and "offset" in query:
            raise refused({"lines": [_t("Give either lines or offset, not both.")]})
        attempt = query.get("attempt")
        folder, size, dropped = output_of(run, attempt)
        follows = query.get("follow") in YES and request.method == "GET"
        if follows and "limit" in query:
            raise refused({"limit": [_t("An output that is followed has no limit.")]})
        begin = query.get("offset", 0)
        if "lines" in query:
            begin = output.tail(folder, query["lines"], query.get("limit", LARGEST_PIECE))[0]
        if follows and streams.follow(request, run, begin, attempt):
            answer = HttpResponse(headers={"Log-Offset": begin, "X-Accel-Buffering": "no"})
        else:
            answer = _piece(request, folder, begin, query.get("limit", LARGEST_PIECE))
            if "Log-Offset" in answer:
                answer["Log-Size"], answer["Log-Dropped"] = size, dropped
        if answer.status_code != 304:
            answer["Content-Type"] = "text/plain; charset=utf-8"
            answer["Content-Disposition"] = f'attachment; filename="run-{run.pk}.log"'
            answer["X-Content-Type-Options"] = "nosniff"
        answer["Cache-Control"] = "no-store"
        return answer


def _piece(request: Request, folder: Path, begin: int, limit: int) -> HttpResponse:
    """Return what is kept from `begin` on, or the range of it that was asked for."""
    for _again in range(TRIES):
        mark, kept = output.kept(folder)
        stretches = slices.within(kept, begin, limit)
        tag = preconditions.digest(mark, stretches)
        answer = HttpResponse(headers={"ETag": f'"{tag}"', "Accept-Ranges": "bytes"})
        if unchanged := preconditions.unchanged(request, tag, answer):
            return unchanged
        total = slices.size(stretches)
        wanted = _range(request, tag, total)
        if wanted is not None:
            first, last = wanted
            stretches = slices.cut(stretches, first, last)
            begin = stretches[0].offset
            answer.status_code = 206
            answer["Content-Range"] = f"bytes {first}-{last}/{total}"
        data = slices.read(folder, stretches)
        if data is not None:
            answer.content = data
            start = stretches[0].offset if stretches else begin
            answer["Log-Offset"] = start
            answer["Log-Next-Offset"] = stretches[-1].end if stretches else begin
            answer["Log-Gap"] = slices.gap(stretches, begin)
            return answer
    # It is written faster than it can be read.
    message = _t("The output changes too fast to be read. Try again in a few seconds.")
    raise Problem(503, "not_ready", message, headers={"Retry-After": "1"})


def _range(request: Request, tag: str, total: int) -> tuple[int, int] | None:
    """Return the range of a body of `total` bytes that is to be sent; None for all of it."""
    header = request.headers.get("Range")
    if header is None or request.method != "GET" or not preconditions.is_still(request, tag):
        return None
    try:
        return slices.asked(header, total)
    except slices.UnsatisfiableError:
        message = _t("There is no byte in this range; the body has %(n)s bytes.") % {"n": total}
        where = {"Content-Range": f"bytes */{total}", "Accept-Ranges": "bytes"}
        raise Problem(416, "range_not_satisfiable", message, headers=where) from None


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

"""Runs: the history, one run with its log, its output as a file, and what can be done with it."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.views.decorators.http import require_safe

from daemon_app import output, scheduler, tiles, transcript
from daemon_app.models import Attempt, Job, Run
from daemon_app.models.run import folder_of
from daemon_app.permissions import requires
from daemon_app.views.errors import only_post
from daemon_app.views.page import done, page, see_other, tell

# What the page shows of a log before any script runs.
TAIL_LINES, MOST_FOUND = 500, 200
PIECE = 256 * 1024
MOST_OFFERED = 200  # jobs in a list to choose from


@require_safe
@requires("view")
def runs(request: HttpRequest) -> HttpResponse:
    """List the runs: what is shown of them stands in the address."""
    now = timezone.now()
    shown = tiles.Filter.read(request.META["QUERY_STRING"])
    newest = Run.objects.order_by("-id").values_list("id", flat=True).first() or 0
    # Later runs announce themselves instead of pushing the rows away from under the pointer.
    held = replace(shown, until=min(shown.until or newest, newest) or None)
    jobs = Job.objects.order_by("name").values_list("pk", "name")[: MOST_OFFERED + 1]
    chosen = Job.objects.filter(pk=shown.job).values_list("pk", "name") if shown.job else []
    context = {
        "shown": shown,
        "filter": held.query(page=held.page, below=held.below),
        "states": _states(shown),
        "times": tiles.times(shown, now),
        "triggers": Run.Trigger.choices,
        "job": next(iter(chosen), None),
        # Among more nobody finds one in a list; the search does.
        "jobs": chosen if len(jobs) > MOST_OFFERED else jobs,
    }
    return page(request, "daemon/runs.html", context, section="runs", now=now)


def _states(shown: tiles.Filter) -> list[tiles.Tab]:
    labels = [
        ("", _t("All")),
        ("active", _t("Active")),
        ("succeeded", _t("Done")),
        ("unhappy", _t("Failed")),
        ("cancelled", _t("Cancelled")),
        ("skipped", _t("Skipped")),
        ("missed", _t("Missed")),
        ("unusual", _t("Unusual")),
    ]
    return [
        tiles.Tab(label, None, shown.query(state=key, until=None), key == shown.state)
        for key, label in labels
    ]


@require_safe
@requires("view")
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one run and its log; `attempt` asks for the log of an earlier try."""
    found = get_object_or_404(Run.objects.select_related("job"), pk=pk)
    folder, earlier = _folder_of(request, found)
    offset, written = _tail(folder)
    now = timezone.now()
    # Without script; with it the page asks for the hits by itself.
    find = request.GET.get("find", "")[: transcript.LONGEST_SEARCH]
    context = {
        **(tiles.log_ends(found, earlier.number, now) if earlier else {}),
        "find": find,
        "found": transcript.search(folder, find, most=MOST_FOUND) if find else None,
        "run": found,
        "earlier": earlier,
        "log": {
            "size": output.size(folder),
            "shown_from": offset,
            "text": tiles.readable(written),
        },
    }
    return page(request, "daemon/run.html", context, section="runs", now=now)


def _attempt(run: Run, number: str) -> Attempt:
    """Return an earlier attempt by its number; raises Http404 when there is none."""
    if not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise Http404
    return get_object_or_404(Attempt, run=run, number=int(number))


def _tail(folder: Path) -> tuple[int, bytes]:
    try:
        return output.tail(folder, TAIL_LINES)
    except OSError:
        return 0, b""


# ── The log in pieces ────────────────────────────────────────────────────────────────────────────
PLACES = ("from", "before", "line", "before_line", "around")


@require_safe
@requires("view")
def log(request: HttpRequest, pk: int) -> HttpResponse:
    """Return a piece of a run's log, as the websocket sends it.

    One of these says which: the byte it begins at (`from`) or ends at (`before`), the line it
    begins at (`line`) or ends before (`before_line`), or one that it shows with what is before it
    (`around`). Without any it is the beginning of the newest lines. When nothing is left, it has
    no text, and `end` if nothing more will come.
    """
    found = get_object_or_404(Run, pk=pk)
    return _piece(request, pk, folder_of(pk), ended=not found.is_active)


@require_safe
@requires("view")
def attempt_log(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Return a piece of what an earlier attempt has written; see `log`."""
    attempt = _attempt(get_object_or_404(Run, pk=pk), str(number))
    return _piece(request, pk, attempt.folder, ended=True)


def _piece(request: HttpRequest, pk: int, folder: Path, *, ended: bool) -> HttpResponse:
    given = {name: _bound(request, name) for name in PLACES if request.GET.get(name)}
    if len(given) > 1 or -1 in given.values():
        return _bad_bound()
    place, number = next(iter(given.items()), ("from", None))
    place = "offset" if place == "from" else place
    offset, piece = transcript.at_place(folder, pk, place, number, ended=ended)
    if piece is None:
        is_end = ended and not place.startswith("before")
        offset = 0 if place.startswith("before") else offset
        return _no_store({"log": {"run": pk, "offset": offset, "next": offset, "end": is_end}})
    response = HttpResponse("{" + piece.body[1:] + "}", content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


@require_safe
@requires("view")
def log_search(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the numbers of the lines that show `q`, from the byte `from` on; `case` minds case.

    `next` is the byte to go on from, None when all was looked at, which is up to the byte `end`.
    """
    folder, _ = _folder_of(request, get_object_or_404(Run, pk=pk))
    start = _bound(request, "from")
    if start == -1:
        return _bad_bound()
    size = output.size(folder)
    found = transcript.search(
        folder, request.GET.get("q", ""), match_case="case" in request.GET, start=start or 0
    )
    lines = [hit.line for hit in found.hits]
    return _no_store({"lines": lines, "next": found.next, "end": size})


def _no_store(answer: dict[str, Any]) -> HttpResponse:
    response = JsonResponse(answer)
    response["Cache-Control"] = "no-store"
    return response


def _folder_of(request: HttpRequest, run: Run) -> tuple[Path, Attempt | None]:
    """Return where the output is that a request means, and of which earlier attempt it is."""
    number = request.GET.get("attempt", "")
    earlier = _attempt(run, number) if number and number != str(run.attempt) else None
    return (earlier.folder if earlier else folder_of(run.pk)), earlier


# ── The output as a file ─────────────────────────────────────────────────────────────────────────
@require_safe
@requires("view")
def output_text(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Return what a run has written, raw; `from` and `to` choose bytes, `download` saves a file.

    `attempt` asks for what an earlier try has written.
    """
    found = get_object_or_404(Run, pk=pk)
    start, end = _bound(request, "from"), _bound(request, "to")
    if start == -1 or end == -1:
        return _bad_bound()
    folder, earlier = _folder_of(request, found)
    response = StreamingHttpResponse(
        _pieces(folder, start or 0, end), content_type="text/plain; charset=utf-8"
    )
    if "download" in request.GET:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", found.job_name).strip("-.") or "job"
        which = f"-{earlier.number}" if earlier else ""
        response["Content-Disposition"] = f'attachment; filename="{name}-{pk}{which}.log"'
    else:
        response["Content-Disposition"] = "inline"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    return response


def _bad_bound() -> HttpResponse:
    return HttpResponseBadRequest(
        _t("“from” and “to” are byte offsets: whole numbers from 0 on."),
        content_type="text/plain; charset=utf-8",
    )


def _bound(request: HttpRequest, name: str) -> int | None:
    """Return a byte offset of the address; None when it is not there, -1 when it is none."""
    text = request.GET.get(name, "")
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


async def _pieces(folder: Path, start: int, end: int | None) -> AsyncIterator[bytes]:
    """Yield the kept bytes from `start` to before `end`; a gap is marked by a line of its own."""
    read = sync_to_async(output.read, thread_sensitive=False)
    offset = start
    while end is None or offset < end:
        limit = PIECE if end is None else min(PIECE, end - offset)
        piece = await read(folder, offset, limit)
        if not piece.data or (end is not None and piece.offset >= end):
            return
        if piece.gap:
            yield f"\n──── {piece.gap} bytes ────\n".encode()
        data = piece.data if end is None else piece.data[: end - piece.offset]
        yield data
        offset = piece.offset + len(piece.data)


# ── Actions ──────────────────────────────────────────────────────────────────────────────────────
@only_post
@requires("operate")
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a run to stop; one that waits is taken out of the line."""
    found = get_object_or_404(Run, pk=pk)
    if scheduler.stop(found, by=request.user.get_username(), now=timezone.now()):
        said = _t("%(job)s is being cancelled.")
        if found.state == Run.State.CANCELLED:
            said = _t("%(job)s has been taken out of the line.")
        messages.success(request, said % {"job": found.job_name})
    else:
        messages.info(request, _t("%(job)s had already ended.") % {"job": found.job_name})
    return done(request, reverse("run", args=[pk]))


@only_post
@requires("operate")
def force(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a waiting run start whatever its conditions say; it makes way for nobody then."""
    found = get_object_or_404(Run, pk=pk)
    name = {"job": found.job_name}
    if scheduler.force(found, by=request.user.get_username(), now=timezone.now()):
        messages.success(
            request,
            _t("%(job)s starts whatever its conditions say, and makes way for nobody.") % name,
        )
    elif Run.objects.queued().filter(pk=pk).exists():
        messages.info(request, _t("%(job)s has been told so already; it starts next.") % name)
    else:
        messages.info(request, _t("%(job)s does not wait any more.") % name)
    return done(request, reverse("run", args=[pk]))


@only_post
@requires("operate")
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Start the job of this run once more and go to the new run."""
    found = get_object_or_404(Run.objects.select_related("job"), pk=pk)
    started = scheduler.start(
        found.job, trigger=Run.Trigger.MANUAL, by=request.user.get_username(), now=timezone.now()
    )
    tell(request, started, found.job_name)
    return see_other(reverse("run", args=[started.run.pk if started.run else pk]))

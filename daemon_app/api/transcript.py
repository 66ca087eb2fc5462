"""A run's output line by line: with streams and times, and what is found in it."""

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import output, transcript
from daemon_app.api.endpoint import Endpoint, following
from daemon_app.api.errors import refused
from daemon_app.api.fields import Count, FlagWord, Instant, Strict, Text
from daemon_app.api.glance import iso
from daemon_app.api.runs import output_of
from daemon_app.api.schema import answers
from daemon_app.models import Run

STREAMS = {output.STDOUT: "stdout", output.STDERR: "stderr"}
HITS, MOST_HITS = 200, transcript.MOST_HITS
ATTEMPTS = 65_535
OF_ATTEMPT = "Of this attempt; of the newest unless given."


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class PieceQuery(Strict):
    """Which piece; only one of the places, and the newest lines without any."""

    offset = Count(required=False, help_text="It begins at this byte.")
    before = Count(required=False, help_text="It ends at this byte.")
    line = Count(min_value=1, required=False, help_text="It begins with this line; 1 is the first.")
    before_line = Count(min_value=1, required=False, help_text="It ends before this line.")
    around = Count(min_value=1, required=False, help_text="It shows this line, and some before it.")
    attempt = Count(min_value=1, max_value=ATTEMPTS, required=False, help_text=OF_ATTEMPT)


class Part(serializers.Serializer[Any]):
    """What one stream wrote in one second."""

    stream = serializers.ChoiceField(choices=sorted(STREAMS.values()))
    at = Instant(allow_null=True, help_text="To the second; null: not recorded.")
    text = serializers.CharField(help_text="As it was written, colours and all.")


class Piece(serializers.Serializer[Any]):
    """A piece of the output, cut between two characters."""

    run_id = serializers.IntegerField()
    offset = serializers.IntegerField(help_text="The byte at which it begins.")
    next_offset = serializers.IntegerField(help_text="The byte at which the next one begins.")
    line = serializers.IntegerField(help_text="The number of the line that holds its first byte.")
    gap = serializers.IntegerField(help_text="So many bytes before it were not kept.")
    gap_after = serializers.IntegerField(help_text="And so many behind it, if it ends at a place.")
    parts = Part(many=True)
    is_end = serializers.BooleanField(help_text="Whether nothing more will ever come.")


class SearchQuery(Strict):
    """What to look for, and where."""

    q = Text(max_length=transcript.LONGEST_SEARCH, help_text="Words, on one line.")
    case = FlagWord(required=False, help_text="Whether capitals count; false unless given.")
    offset = Count(required=False, help_text="From this byte on; 0 unless given.")
    limit = Count(
        min_value=1, max_value=MOST_HITS, required=False, help_text=f"{HITS} unless given."
    )
    attempt = Count(min_value=1, max_value=ATTEMPTS, required=False, help_text=OF_ATTEMPT)


class Hit(serializers.Serializer[Any]):
    """A line in which it was found."""

    line = serializers.IntegerField(help_text="Its number; 1 is the first.")
    excerpt = serializers.CharField(help_text="What stands around it, without colours.")


class Hits(serializers.Serializer[Any]):
    """What was found, and where to go on."""

    hits = Hit(many=True)
    size = serializers.IntegerField(help_text="So many bytes were written when it was looked at.")
    next = serializers.CharField(
        allow_null=True,
        help_text="Where to go on: there may be more, though this page may hold less than the "
        "limit, or nothing. null: all was looked at.",
    )


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
class ReadTranscript(Endpoint):
    """What a run wrote, with streams and times."""

    rights: ClassVar = {"GET": "view"}
    query_class = PieceQuery

    @extend_schema(
        operation_id="read_transcript",
        summary="Read a run's output with streams, times and line numbers",
        tags=["runs"],
        parameters=[PieceQuery],
        responses=answers({200: Piece}, 404, 410),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return a piece of the output, up to some thousand lines, while the run writes too.

        To read on, ask with `offset` from `next_offset`; to read back, with `before`.
        """
        run = get_object_or_404(Run, pk=pk)
        given = [name for name in transcript.PLACES if name in self.query]
        if len(given) > 1:
            said = _t("Give only one of: %(words)s.") % {"words": ", ".join(transcript.PLACES)}
            raise refused({name: [said] for name in given})
        folder, _size, _dropped = output_of(run, self.query.get("attempt"))
        ended = not run.is_active or self.query.get("attempt", run.attempt) < run.attempt
        place = given[0] if given else "offset"
        number = self.query.get(place)
        offset, found = transcript.at_place(folder, pk, place, number, ended=ended)
        # Encoded once for the sockets of all pages; nothing has none.
        told = json.loads(f"{{{found.body[1:]}}}")["log"] if found else {}
        offset = told.get("offset", offset)
        end = told.get("next", offset)
        parts = [
            {"stream": STREAMS[stream], "at": _instant(at), "text": text}
            for stream, text, at in told.get("text", ())
        ]
        return Response(
            {
                "run_id": pk,
                "offset": offset,
                "next_offset": end,
                "line": told["line"] if told else output.line_at(folder, offset),
                "gap": told.get("gap", 0),
                "gap_after": told.get("gap_after", 0),
                "parts": parts,
                "is_end": ended and end >= output.size(folder),
            }
        )


def _instant(at: int) -> Any:
    return iso(datetime.fromtimestamp(at, UTC)) if at else None


class SearchLog(Endpoint):
    """What is found in what a run wrote."""

    rights: ClassVar = {"GET": "view"}
    query_class = SearchQuery

    @extend_schema(
        operation_id="search_log",
        summary="Search a run's output",
        tags=["runs"],
        parameters=[SearchQuery],
        responses=answers({200: Hits}, 404, 410),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return the lines that show some words; one look takes half a second at most."""
        words = self.query.get("q", "")
        if not words.strip():
            raise refused({"q": [_t("Say what to look for.")]})
        if len(words) > transcript.LONGEST_SEARCH or "\n" in words:
            facts = {"n": transcript.LONGEST_SEARCH}
            raise refused({"q": [_t("At most %(n)s characters, on one line.") % facts]})
        run = get_object_or_404(Run, pk=pk)
        folder, _size, _dropped = output_of(run, self.query.get("attempt"))
        size = output.size(folder)
        found = transcript.search(
            folder,
            words,
            match_case=self.query.get("case", False),
            start=self.query.get("offset", 0),
            most=self.query.get("limit", HITS),
        )
        return Response(
            {
                "hits": [{"line": hit.line, "excerpt": hit.excerpt} for hit in found.hits],
                "size": size,
                "next": None if found.next is None else following(request, offset=found.next),
            }
        )

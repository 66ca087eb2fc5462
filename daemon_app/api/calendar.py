"""What is going to start: the calendar, and the next times of one job."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _t
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app import forecast
from daemon_app.api.endpoint import Endpoint, following
from daemon_app.api.errors import Fields, refused
from daemon_app.api.fields import Count, Instant, InstantWord, Strict, Text
from daemon_app.api.glance import iso
from daemon_app.api.schema import answers
from daemon_app.forecast import HOUR, Forecast, Plan, Start
from daemon_app.models import Job
from daemon_app.tiles.calendar import AHEAD, room

WEEK, LONGEST = timedelta(days=7), timedelta(days=31)
FURTHEST = timedelta(days=AHEAD + 1)
STARTS, MOST_STARTS = 200, 500
LOOKED_AT = 5_000  # starts that are listed of a time, before it has to be asked for anew
MOST_FREQUENT = 50
TIMES, MOST_TIMES = 10, 100


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class CalendarQuery(Strict):
    """Which time, and how many starts of it."""

    since = InstantWord(required=False, help_text="Whole hours from this on; now unless given.")
    until = InstantWord(
        required=False, help_text="Up to this; 7 days after since unless given, at most 31."
    )
    limit = Count(
        min_value=1, max_value=MOST_STARTS, required=False, help_text=f"{STARTS} unless given."
    )
    cursor = Text(required=False, help_text="The place in the list that next names.")


class PlannedStart(serializers.Serializer[Any]):
    """One planned start."""

    at = Instant()
    job_id = serializers.IntegerField()
    job_name = serializers.CharField()
    usual_seconds = serializers.FloatField(
        allow_null=True, help_text="How long a run of it usually takes; null: unknown."
    )
    waits = serializers.BooleanField(
        help_text="Whether it waits for conditions: it may start later, or not at all."
    )


class FrequentJob(serializers.Serializer[Any]):
    """A job that starts more than 24 times a day: its starts are counted, not listed."""

    job_id = serializers.IntegerField()
    job_name = serializers.CharField()
    count = serializers.IntegerField(help_text="How often it starts in this time.")


class BusyHour(serializers.Serializer[Any]):
    """How much an hour brings."""

    at = Instant()
    count = serializers.IntegerField(help_text="Starts, frequent jobs included.")


class Room(serializers.Serializer[Any]):
    """A time with few starts."""

    since = Instant()
    until = Instant()
    most = serializers.IntegerField(help_text="At most so many starts in an hour of it.")


class Calendar(serializers.Serializer[Any]):
    """What is planned to start in a time."""

    since = Instant(help_text="The hour in which it begins.")
    until = Instant()
    total = serializers.IntegerField(help_text="All starts, of whole hours.")
    starts = PlannedStart(many=True, help_text="By time, without those of frequent jobs.")
    next = serializers.CharField(
        allow_null=True, help_text="Where the next starts are; null: these are all."
    )
    frequent = FrequentJob(many=True, help_text="The most frequent first.")
    frequent_jobs = serializers.IntegerField(help_text="How many jobs are counted so in all.")
    hours = BusyHour(many=True)
    rooms = Room(many=True, help_text="The longest times with the fewest starts.")


class UpcomingQuery(Strict):
    """How many times, and from when on."""

    since = InstantWord(required=False, help_text="After this; now unless given.")
    limit = Count(
        min_value=1, max_value=MOST_TIMES, required=False, help_text=f"{TIMES} unless given."
    )


class Upcoming(serializers.Serializer[Any]):
    """When a job is due next."""

    job_id = serializers.IntegerField()
    times = serializers.ListField(
        child=Instant(), help_text="As its schedule, its pause and its deadline have it."
    )
    is_active = serializers.BooleanField(
        help_text="false: its schedule is off; times are those after its pause, if that ends."
    )


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
class ReadCalendar(Endpoint):
    """What is going to start."""

    rights: ClassVar = {"GET": "view"}
    query_class = CalendarQuery

    @extend_schema(
        operation_id="read_calendar",
        summary="Read what is planned to start",
        tags=["jobs"],
        parameters=[CalendarQuery],
        responses=answers({200: Calendar}),
    )
    def get(self, request: Request) -> Response:
        """Return the planned starts of all jobs: one by one, and counted by the hour.

        Of jobs that start more than 24 times a day the starts are counted only.
        """
        since, until = self._time()
        # Whole hours are remembered for whoever asks next; the first has a list of its own.
        begin = _hour(since)
        end = begin - (begin - until) // HOUR * HOUR
        bounds = [begin, *([begin + HOUR] if end > begin + HOUR else []), end]
        spans = forecast.planned_by_span(bounds, LOOKED_AT)
        starts, cut = _listed(spans, since)
        skip = self._passed(starts)
        upto = skip + self.query.get("limit", STARTS)
        shown = starts[skip:upto]
        usual = forecast.usual_lengths(start.plan.id for start in shown)
        hours = [(begin + n * HOUR, count) for n, count in enumerate(_per_hour(spans))]
        counts = Counter[Plan]()
        for span in spans:
            counts.update({each.plan: each.count for each in span.frequent})
        frequent = sorted(counts, key=lambda plan: (-counts[plan], plan.name))
        return Response(
            {
                "since": iso(begin),
                "until": iso(end),
                "total": sum(count for _at, count in hours),
                "starts": [
                    {
                        "at": iso(start.at),
                        "job_id": start.plan.id,
                        "job_name": start.plan.name,
                        "usual_seconds": usual.get(start.plan.id),
                        "waits": start.plan.is_choosy,
                    }
                    for start in shown
                ],
                "next": self._next(request, (since, until), starts, upto, cut),
                "frequent": [
                    {"job_id": plan.id, "job_name": plan.name, "count": counts[plan]}
                    for plan in frequent[:MOST_FREQUENT]
                ],
                "frequent_jobs": max(len(frequent), *(span.counted for span in spans)),
                "hours": [{"at": iso(at), "count": count} for at, count in hours],
                "rooms": [
                    {"since": iso(begins), "until": iso(ends), "most": most}
                    for begins, ends, most in room(hours)
                ],
            }
        )

    def _time(self) -> tuple[datetime, datetime]:
        """Return from when to when is asked for; the past counts as now. Raises Problem."""
        since = max(self.query.get("since", self.now), self.now)
        until = self.query.get("until", since + WEEK)
        wrong: Fields = {}
        if since > self.now + FURTHEST:
            wrong["since"] = [_t("At most a year ahead.")]
        elif until <= since:
            wrong["until"] = [_t("The end must lie after the beginning, and in the future.")]
        elif until - since > LONGEST:
            wrong["until"] = [_t("At most %(n)s days at once.") % {"n": LONGEST.days}]
        if wrong:
            raise refused(wrong)
        return since, until

    def _passed(self, starts: Sequence[Start]) -> int:
        """Return how many starts lie before the place that is asked for. Raises Problem."""
        if "cursor" not in self.query:
            return 0
        at, _tilde, number = self.query["cursor"].partition("~")
        try:
            last, told = InstantWord().to_internal_value(at), Count().to_internal_value(number)
        except serializers.ValidationError:
            said = _t("This is no place in this list. Begin at the first page, without “cursor”.")
            raise refused({"cursor": [said]}) from None
        low, high = (side(starts, last, key=_at) for side in (bisect_left, bisect_right))
        return min(low + told, high)

    def _next(
        self,
        request: Request,
        span: tuple[datetime, datetime],
        starts: Sequence[Start],
        upto: int,
        cut: datetime | None,
    ) -> str | None:
        """Return where the starts behind the first `upto` are; None when there are none.

        What has started meanwhile is gone from the list: the place is a time, not a number.
        """
        since, until = map(iso, span)
        if upto < len(starts):
            last = starts[upto - 1].at
            place = f"{iso(last)}~{upto - bisect_left(starts, last, key=_at)}"
            return following(request, since=str(since), until=str(until), cursor=place)
        if cut is None:
            return None
        query = {"since": iso(cut), "until": until}
        if "limit" in self.query:
            query["limit"] = self.query["limit"]
        return f"{request.path}?{urlencode(query)}"


def _at(start: Start) -> datetime:
    return start.at


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _listed(spans: Sequence[Forecast], since: datetime) -> tuple[list[Start], datetime | None]:
    """Return the starts from `since` on, as far as no list was cut, and from when on they are not.

    None: all are there.
    """
    starts: list[Start] = []
    for span in spans:
        starts += [start for start in span.starts if start.at >= since]
        if span.left_off:
            last = span.told_until
            whole = [start for start in starts if start.at < last]
            # So many at one instant are told in part: there is a time after it.
            return (whole, last) if whole else (starts, last + timedelta(seconds=1))
    return starts, None


def _per_hour(spans: Sequence[Forecast]) -> list[int]:
    return [count for span in spans for count in span.per_hour]


class UpcomingOfJob(Endpoint):
    """When a job is due next."""

    rights: ClassVar = {"GET": "view"}
    query_class = UpcomingQuery

    @extend_schema(
        operation_id="list_upcoming",
        summary="List the next times of a job",
        tags=["jobs"],
        parameters=[UpcomingQuery],
        responses=answers({200: Upcoming}, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        """Return when a job is due next; none when it starts by hand alone, or no more."""
        job = get_object_or_404(Job, pk=pk)
        since = max(self.query.get("since", self.now), self.now)
        if since > self.now + FURTHEST:
            raise refused({"since": [_t("At most a year ahead.")]})
        return Response(
            {
                "job_id": job.pk,
                "is_active": job.is_active,
                "times": [iso(at) for at in _times(job, since, self.query.get("limit", TIMES))],
            }
        )


def _times(job: Job, since: datetime, most: int) -> list[datetime]:
    if job.schedule_error or not (job.is_active or job.paused_until):
        return []
    if not job.is_active and job.paused_until:
        # What is due at the very end of a pause is not part of it.
        since = max(since, job.paused_until - timedelta.resolution)
    times = job.upcoming(since, most)
    return [at for at in times if job.deadline is None or at <= job.deadline]

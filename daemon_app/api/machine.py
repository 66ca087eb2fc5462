"""How the machine is, as JSON: readings, idleness, who made way, skills, and why a run waits."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.db.models import Q
from django.utils.translation import gettext as _t
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from daemon_app import gauges, monitor
from daemon_app.api.errors import Fields, refused
from daemon_app.api.fields import Choice, Count, Instant, InstantWord, Strict
from daemon_app.api.glance import UNITS, iso, reason_told, signal_told
from daemon_app.checks import CHECKS
from daemon_app.models import (
    Displacement,
    IdleSpan,
    Wait,
)

RANGES = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
MOST_POINTS = 1000
LONGEST = timedelta(days=400)


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
class Reason(serializers.Serializer[Any]):
    """Something that is so: for programs and for people."""

    code = serializers.CharField(help_text="For programs; does not change.")
    sentence = serializers.CharField(required=False, help_text="For people; not for strangers.")
    facts = serializers.DictField(required=False, help_text="The numbers it goes by.")


class IdleReason(Reason):
    """Why the machine is not idle."""

    signal = serializers.CharField(help_text="What saw it.")


class Presence(serializers.Serializer[Any]):
    """What somebody has said of being here."""

    state = serializers.CharField(
        help_text="here, away, or empty: nobody has said, and what is seen counts."
    )
    until = Instant(allow_null=True)
    at = Instant(allow_null=True)
    by = serializers.CharField(required=False, help_text="Not without signing in.")


class Health(serializers.Serializer[Any]):
    """What one check found at the last tick."""

    state = serializers.CharField(help_text="ok, slow, down, high, low, full or unknown.")
    level = serializers.CharField(help_text="How bad that is: ok, warn, bad or unknown.")
    value = serializers.FloatField(allow_null=True, help_text="null: nothing was measured.")
    unit = serializers.CharField(help_text="Of the value: ms, %, GB, or empty for a number.")
    sentence = serializers.CharField()
    age_seconds = serializers.FloatField(allow_null=True, help_text="null: never looked at.")
    facts = serializers.DictField(required=False, help_text="Not without signing in.")
    said = serializers.CharField(
        required=False, help_text="What made no sense of an answer, shortened. For administrators."
    )


class Waited(Reason):
    """A time in which a run waited, and for what."""

    began_at = Instant()
    seen_at = Instant(help_text="When it was last seen to be so.")


class Verdict(Reason):
    """What a condition for a start said."""

    gate = serializers.CharField()
    open = serializers.BooleanField(help_text="Whether it let the run start.")


class MadeWay(serializers.ModelSerializer[Displacement]):
    """One time that a run made way because somebody came back."""

    at = Instant(read_only=True, help_text="When the sign of somebody's return arrived.")
    run_id = serializers.IntegerField(read_only=True)
    cause = serializers.SerializerMethodField(help_text="What the sign was.")

    class Meta:
        model = Displacement
        fields = (
            "id",
            "run_id",
            "job_id",
            "job_name",
            "host",
            "at",
            "cause",
            "asked_seconds",
            "yielded_seconds",
            "phase",
            "slice_seconds",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "asked_seconds": {"help_text": "From the sign to the first signal to the command."},
            "yielded_seconds": {"help_text": "From the sign to the end of its last process."},
            "phase": {"help_text": "How far it had to go: asked, term or kill."},
            "slice_seconds": {"help_text": "How long it had run."},
        }

    @extend_schema_field(IdleReason)
    def get_cause(self, displacement: Displacement) -> dict[str, Any]:
        return signal_told(displacement.cause)


class Spread(serializers.Serializer[Any]):
    """Half, 95 and 99 of 100 were at most this; null: nothing was measured."""

    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)


class YieldTimes(serializers.Serializer[Any]):
    """How often runs made way, and how fast the newest 1,000 did."""

    today = serializers.IntegerField(help_text="Since midnight.")
    total = serializers.IntegerField()
    asked_seconds = Spread(help_text="From the sign to the first signal.")
    yielded_seconds = Spread(help_text="From the sign to the end of the last process.")


class LastRun(serializers.Serializer[Any]):
    """A skill's newest run."""

    id = serializers.IntegerField(
        required=False, allow_null=True, help_text="null: it was part of a tick."
    )
    state = serializers.CharField(help_text="As of any run.")
    at = Instant(help_text="When it ended; else when it began, or got in line.")
    summary = serializers.CharField(required=False, help_text="What it said; not for strangers.")


class Skill(serializers.Serializer[Any]):
    """Something the daemon does of itself."""

    name = serializers.CharField()
    title = serializers.CharField()
    enabled = serializers.BooleanField()
    job_id = serializers.IntegerField(
        required=False, allow_null=True, help_text="null: it is part of each tick."
    )
    last_run = LastRun(allow_null=True)
    next_due_at = Instant(allow_null=True, help_text="null: not by the clock.")


class Column(serializers.Serializer[Any]):
    """What one check found at each of the instants; null where it measured nothing."""

    unit = serializers.CharField()
    values = serializers.ListField(child=serializers.FloatField(allow_null=True))
    states = serializers.ListField(child=serializers.CharField(allow_null=True))


class LastHour(serializers.Serializer[Any]):
    """The ticks of the last 60 minutes, oldest first, column by column."""

    at = serializers.ListField(child=Instant())
    idle = serializers.ListField(child=serializers.BooleanField())
    checks = serializers.DictField(child=Column())


class Newest(serializers.Serializer[Any]):
    """The newest readings."""

    host = serializers.CharField(allow_null=True)
    at = Instant(allow_null=True, help_text="When they were taken; null: never.")
    health = serializers.DictField(child=Health(), help_text="By check.")


class HistoryQuery(Strict):
    """Which readings, from when to when, and how many."""

    check = serializers.CharField(required=False, help_text="All checks unless given.")
    range = Choice(
        choices=[*RANGES], required=False, help_text="The time up to now; 1h unless given."
    )
    since = InstantWord(required=False, help_text="Instead of a range: from this instant on.")
    until = InstantWord(required=False, help_text="Up to this instant; now unless given.")
    points = Count(
        min_value=2, max_value=MOST_POINTS, required=False, help_text="At most so many; 300."
    )


class Point(serializers.Serializer[Any]):
    """What a check found from an instant on; null where nothing was measured."""

    at = Instant()
    value = serializers.FloatField(allow_null=True, help_text="The mean.")
    least = serializers.FloatField(allow_null=True)
    most = serializers.FloatField(allow_null=True)
    state = serializers.CharField(
        allow_null=True, help_text="The worst of that time; null: nobody looked, a gap begins."
    )


class Course(serializers.Serializer[Any]):
    """One check over a time."""

    unit = serializers.CharField()
    seconds = serializers.FloatField(help_text="The time that a point stands for.")
    points = Point(many=True)


class History(serializers.Serializer[Any]):
    """What was measured, oldest first."""

    host = serializers.CharField(allow_null=True)
    since = Instant()
    until = Instant()
    checks = serializers.DictField(child=Course())


class IdleQuery(Strict):
    """Which times."""

    since = InstantWord(required=False, help_text="What ended before is left out; a day ago.")
    limit = Count(min_value=1, max_value=1000, required=False, help_text="200 unless given.")


class IdleTime(serializers.ModelSerializer[IdleSpan]):
    """A time in which a host was idle, or was not."""

    began_at = Instant(read_only=True)
    ended_at = Instant(read_only=True, allow_null=True, help_text="null: it lasts.")
    reasons = serializers.SerializerMethodField(help_text="Why it was not idle, when it began.")

    class Meta:
        model = IdleSpan
        fields = ("host", "idle", "began_at", "ended_at", "reasons")
        read_only_fields = fields

    @extend_schema_field(IdleReason(many=True))
    def get_reasons(self, span: IdleSpan) -> list[dict[str, Any]]:
        return [signal_told(each) for each in span.reasons]


class IdleSpans(serializers.Serializer[Any]):
    """When the machine was idle and when not, newest first."""

    spans = IdleTime(many=True)


class DisplacementsQuery(Strict):
    """Which of them."""

    job_id = Count(required=False)
    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only those with a lower id.")


class Displacements(serializers.Serializer[Any]):
    """Who made way, newest first."""

    times = YieldTimes()
    displacements = MadeWay(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class Skills(serializers.Serializer[Any]):
    """What the daemon does of itself."""

    skills = Skill(many=True)


# ── What is told ─────────────────────────────────────────────────────────────────────────────────
def verdicts_told(verdicts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what gates said, as kept on a run, with their sentences."""
    return [
        {"gate": each["gate"], "open": each["open"], **reason_told(each["code"], each["facts"])}
        for each in verdicts
    ]


def wait_told(wait: Wait) -> dict[str, Any]:
    """Return a time in which a run waited as JSON."""
    times = {"began_at": iso(wait.began_at), "seen_at": iso(wait.seen_at)}
    return reason_told(wait.code, wait.facts) | times


def history_told(query: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what a history query asks for. Raises Problem for times that can't be meant."""
    wrong: Fields = {}
    until = query.get("until", now)
    since = query.get("since", now - RANGES[query.get("range", "1h")])
    if "range" in query and ("since" in query or "until" in query):
        wrong["range"] = [_t("Give either a range or since and until, not both.")]
    elif "until" in query and "since" not in query:
        wrong["until"] = [_t("Give since as well.")]
    elif since >= until:
        wrong["since"] = [_t("The beginning must lie before the end.")]
    elif until - since > LONGEST:
        wrong["since"] = [_t("At most %(n)s days at once.") % {"n": LONGEST.days}]
    if wrong:
        raise refused(wrong)
    node = gauges.host(now)
    host = node.host if node else ""
    try:
        found = monitor.history(
            query.get("check"), since, until, now=now, points=query.get("points", 300), host=host
        )
    except LookupError as error:
        known = ", ".join(CHECKS)
        raise refused({"check": [_t("Give one of: %(words)s.") % {"words": known}]}) from error
    return {
        "host": host or None,
        "since": iso(since),
        "until": iso(until),
        "checks": {name: _course(series) for name, series in found.items()},
    }


def _course(series: "monitor.Series") -> dict[str, Any]:
    points = [
        {
            "at": iso(point.at),
            "value": point.value,
            "least": point.least,
            "most": point.most,
            "state": point.state,
        }
        for point in series.points
    ]
    return {"unit": UNITS.get(series.check, ""), "seconds": series.seconds, "points": points}


def idle_spans_told(since: datetime, limit: int) -> dict[str, Any]:
    """Return when the machine was idle or busy from `since` on, the newest `limit` times."""
    spans = IdleSpan.objects.filter(Q(ended_at=None) | Q(ended_at__gt=since))
    return {"spans": IdleTime(spans[:limit], many=True).data}

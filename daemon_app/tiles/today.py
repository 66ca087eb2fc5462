"""The day as a timeline: who used the machine, what ran and runs, and what is planned.

Each job is a lane. However many jobs and runs there are, a few lanes of bounded length are read.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlencode

from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import charts, formats, gauges, idleness, timeline
from daemon_app.models import Attempt, IdleSpan, Job, Run
from daemon_app.tiles.lanes import Drawing, Lane, Told
from daemon_app.tiles.regions import Context, Viewer, current_language, region
from daemon_app.tiles.rows import Filter, upcoming_jobs
from daemon_app.timeline import Axis, place

LANES, MOST_LANES = 6, 24
MOST_SPANS = 500
MOST_ROWS = 200  # of the table
LOOKED_AT = 300  # newest runs, to see whose they are
DUE = 100  # more jobs that start on the axis are chosen from by name
REMEMBERED_FOR = 15.0  # seconds
SOON = timedelta(hours=1)
# What has run for less does not come to the top: it would jump there and back.
SETTLED = timedelta(seconds=30)


# ── What is asked for ────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Range:
    """A length of the axis: how far back it reaches, and how it is cut.

    The axis begins at a whole `step`; now moves on it by `tick`, so that what has not changed looks
    the same.
    """

    key: str
    label: str | Promise
    title: str | Promise
    back: timedelta
    length: timedelta
    step: timedelta
    tick: timedelta

    def axis(self, now: datetime) -> Axis:
        """Return the axis around `now`."""
        tick = self.tick.total_seconds()
        return Axis.around(
            now.timestamp() // tick * tick,
            back=self.back.total_seconds(),
            length=self.length.total_seconds(),
            step=self.step.total_seconds(),
        )


RANGES = {
    each.key: each
    for each in (
        Range(
            *("6h", _("6 h"), _("Six hours"), timedelta(hours=4), timedelta(hours=6)),
            *(timedelta(minutes=20), timedelta(seconds=20)),
        ),
        Range(
            *("today", _("Today"), _("Today"), timedelta(hours=12), timedelta(hours=18)),
            *(timedelta(hours=1), timedelta(minutes=1)),
        ),
        Range(
            *("week", _("Week"), _("Week"), timedelta(days=5), timedelta(days=7)),
            *(timedelta(hours=6), timedelta(minutes=10)),
        ),
    )
}
DEFAULT = "today"


@dataclass(frozen=True)
class Asked:
    """What the card is to show, as it stands in the address; `rest` belongs to others there."""

    range: Range = RANGES[DEFAULT]
    all: bool = False
    table: bool = False
    rest: str = ""

    @classmethod
    def read(cls, query: str | None) -> Self:
        """Return what a query string asks for; nonsense in it counts as nothing."""
        asked = parse_qs((query or "")[:600], max_num_fields=20)
        jobs = Filter.read(query)
        page = jobs.page if jobs.page > 1 else None
        return cls(
            range=RANGES.get(asked.get("range", [""])[-1], RANGES[DEFAULT]),
            all=asked.get("lanes", [""])[-1] == "all",
            table=asked.get("day", [""])[-1] == "table",
            rest=Filter(state=jobs.state).query(page=page),
        )

    def query(self, **changes: object) -> str:
        """Return the query string of this view with `changes`; "" for the usual one."""
        words = {"range": self.range.key, "all": self.all, "table": self.table} | changes
        pairs = [
            ("range", words["range"] if words["range"] != DEFAULT else ""),
            ("lanes", "all" if words["all"] else ""),
            ("day", "table" if words["table"] else ""),
        ]
        return "&".join(filter(None, [urlencode([p for p in pairs if p[1]]), self.rest]))


# ── The region ───────────────────────────────────────────────────────────────────────────────────
@region("today", topics=("runs", "jobs", "presence", "health", "daemon"))
def today(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the timeline; `arg` is the query string of what it is to show."""
    asked = Asked.read(arg)
    axis, language = asked.range.axis(now), current_language()
    first, active = _first_run(datetime.fromtimestamp(axis.start, UTC)), _active(now)
    found, failed = _candidates(axis, now, first, active)
    shown = sorted(found.values())[: MOST_LANES if asked.all else LANES]
    drawing = Drawing(axis, now, first, active, failed)
    lanes = drawing.lanes([job_id for *_rank, job_id in shown])
    use = _use(axis, now)
    kinds = {bar.outcome for lane in lanes for bar in lane.bars}
    kinds |= {bridge.kind for lane in lanes for bridge in lane.bridges}
    return {
        "asked": asked,
        "length": round(axis.end - axis.start),
        "start": datetime.fromtimestamp(axis.start, UTC),
        "ranges": [(each, asked.query(range=each.key)) for each in RANGES.values()],
        "lanes": lanes,
        "use": use,
        "hours": _hours(axis, now, language),
        "at": place(axis.x(axis.now)),
        "clock": f"{timezone.localtime(now):%H:%M}",
        "legend": [(kind, word) for kind, word in LEGEND.items() if kind in kinds],
        "busy_known": bool(use.busy),
        "more": 0 if asked.all else max(0, len(found) - LANES),
        "is_cut": asked.all and len(found) > MOST_LANES,
        "fewer": asked.all and len(found) > LANES,
        "more_query": asked.query(all=not asked.all),
        "table_query": asked.query(table=not asked.table),
        "rows": _rows(lanes) if asked.table else [],
        "summary": _summary(lanes, axis, now, language),
        "jobs": bool(found) or Job.objects.exists(),
        "next": None if lanes else upcoming_jobs().first(),
    }


LEGEND = {
    "ok": _("done"),
    "run": _("running"),
    "held": _("made way"),
    "fail": _("failed"),
    "warn": _("missed"),
    "quiet": _("cancelled"),
    "wait": _("waiting"),
    "planned": _("planned"),
}


# ── Which jobs ───────────────────────────────────────────────────────────────────────────────────
Rank = tuple[int, str, int]  # how near to the top, name, job


def _candidates(
    axis: Axis, now: datetime, first: int, active: Sequence[Run]
) -> tuple[dict[int, Rank], list[int]]:
    """Return the jobs that have something to show, by id, and failures behind very many runs.

    The smallest rank comes first: on top what runs or has made way, then what has failed, then what
    is due soon. Each question is answered by an index, and a few more than there are lanes are
    enough. `first` is the first run of the axis.
    """
    found: dict[int, Rank] = {}
    for run in active:
        if run.state == Run.State.RUNNING:
            on_top = run.started_at is not None and run.started_at <= now - SETTLED
        else:
            on_top = run.reason_code == "displaced"
        _take(found, 0 if on_top else 2, run.job_name, run.job_id)
    drawn = Q(started_at__isnull=False) | Q(state=Run.State.MISSED)
    newest = Run.objects.filter(drawn, pk__gte=first).order_by("-id")
    ran = list(newest.values_list("job_id", "job_name", "state")[:LOOKED_AT])
    for job_id, name, state in ran:
        _take(found, 1 if state in Run.UNHAPPY else 3, name, job_id)
    failed = list(_failed(first)) if len(ran) == LOOKED_AT else []
    for _pk, job_id, name in failed:
        _take(found, 1, name, job_id)
    end, soon = datetime.fromtimestamp(axis.end, UTC), now + SOON
    due = Job.objects.active().filter(next_due_at__lt=end).order_by("next_due_at")
    starting = list(due.values_list("pk", "name", "next_due_at")[:DUE])
    if len(starting) == DUE:
        starting = _due_by_name(end, int(now.timestamp() // REMEMBERED_FOR))
    for job_id, name, at in starting:
        _take(found, 2 if at and at <= soon else 3, name, job_id)
    return found, [pk for pk, _job_id, _name in failed]


@lru_cache(maxsize=8)
def _due_by_name(end: datetime, time: int) -> list[tuple[int, str, datetime | None]]:
    """Return the first jobs by name of very many that are due before `end`, and of those due soon.

    By name, not by time, and looked for a few times a minute: of jobs that start all the time those
    that are shown would change with each look.
    """
    soon = datetime.fromtimestamp(time * REMEMBERED_FOR, UTC) + SOON
    due = Job.objects.active().order_by("name").values_list("pk", "name", "next_due_at")
    found: list[tuple[int, str, datetime | None]] = []
    for until in (soon, end):
        found += due.filter(next_due_at__lt=until)[: MOST_LANES + 1]
    return found


def _failed(first: int) -> Iterable[tuple[int, int, str]]:
    """Return the newest failures from run `first` on: run, job and its name."""
    failed = Q(pk__in=[])
    for state in Run.UNHAPPY:
        newest = Run.objects.filter(state=state, pk__gte=first).order_by("-id")
        failed |= Q(pk__in=newest.values("pk")[:MOST_LANES])
    return Run.objects.filter(failed).values_list("pk", "job_id", "job_name")


def _active(now: datetime) -> list[Run]:
    """Return what runs, newest first, and what has waited for longest in line."""
    of = Run.objects.only(*SHOWN)
    waiting = of.queued().filter(due_at__lte=now).order_by("not_before", "id")
    return [*of.running().order_by("-id"), *waiting[: 4 * MOST_LANES]]


SHOWN = (
    *("job_id", "job_name", "state", "due_at", "not_before", "started_at", "ended_at", "progress"),
    *("stop_requested_at", "phase", "reason_code"),
)


def _take(found: dict[int, Rank], rank: int, name: str, job_id: int) -> None:
    new = (rank, name.casefold(), job_id)
    found[job_id] = min(new, found.get(job_id, new))


def _first_run(start: datetime) -> int:
    """Return the id of the first run that was put in line after `start`."""
    after = Run.objects.filter(queued_at__gte=start).order_by("queued_at").values_list("pk")
    return (after.first() or (1 << 62,))[0]


# ── Use of the machine ───────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Use:
    """Where on the axis the machine was in use, idle, or nobody knows; and the same in words."""

    busy: list[tuple[str, str]] = field(default_factory=list)
    idle: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[datetime, datetime | None, str]] = field(default_factory=list)


def _use(axis: Axis, now: datetime) -> Use:
    """Return who used the machine; what was not seen is left open."""
    until = axis.x(axis.now)
    node = gauges.host(now)
    if node is None:
        return Use(unknown=_places(timeline.gaps([], until)))
    seen = min(gauges.last_sign(node, now).timestamp(), axis.now)
    start = datetime.fromtimestamp(axis.start, UTC)
    spans = IdleSpan.objects.filter(host=node.host).exclude(ended_at__lt=start)
    found = list(spans.order_by("-began_at")[:MOST_SPANS])
    times = [
        (each.idle, each.began_at.timestamp(), min((each.ended_at or now).timestamp(), seen))
        for each in found
    ]
    busy = [(a, b) for idle, a, b in times if not idle and b > a]
    known = [(a, b) for _idle, a, b in times if b > a]
    in_use = timeline.stretches(busy, axis, 0.2)
    watched = timeline.stretches(known, axis, 0.01)
    return Use(
        busy=_places(in_use),
        idle=_places(watched),
        unknown=_places(timeline.gaps(watched, until)),
        told=[
            (each.began_at, each.ended_at, " ".join(idleness.sentences(each.reasons)[:2]))
            for each in found
            if not each.idle
        ],
    )


def _places(found: Iterable[timeline.Stretch]) -> list[tuple[str, str]]:
    return [(place(each.x), place(each.width)) for each in found]


# ── Axis, table, sentence ────────────────────────────────────────────────────────────────────────
class Hour(NamedTuple):
    """A line of the axis and its word, which gives way to the sign of now."""

    x: str
    text: str


def _hours(axis: Axis, now: datetime, language: str) -> list[Hour]:
    """Return the round times of the axis, by the clock of who looks."""
    zone = timezone.get_current_timezone()
    here = axis.x(axis.now)
    found = []
    for at in charts.instants(axis.start, axis.end, zone, most=9):
        text = f"{at:%H:%M}"
        if axis.end - axis.start > 2 * 86_400:
            text = formats.short_moment(at, now, zone, language).removesuffix(" 00:00")
            if at.date() == now.astimezone(zone).date():
                text = formats.WORDS[language]["today"]
        x = axis.x(at.timestamp())
        fits = abs(x - here) > 5.5 and 2 < x < 98
        found.append(Hour(place(x), text if fits else ""))
    return found


def _rows(lanes: Sequence[Lane]) -> list[tuple[Lane, Told]]:
    """Return what the bars say, by time; at most so many."""
    found = [(lane, told) for lane in lanes for told in lane.told]
    return sorted(found, key=lambda each: each[1].bar.slices[0].begun)[-MOST_ROWS:]


def _summary(lanes: Sequence[Lane], axis: Axis, now: datetime, language: str) -> str:
    """Return the drawing in one sentence, for those who don't see it."""
    zone = timezone.get_current_timezone()
    start, end = (
        formats.moment(datetime.fromtimestamp(at, UTC), now, zone, language)
        for at in (axis.start, axis.end)
    )
    slices = sorted(each for lane in lanes for bar in lane.bars for each in bar.slices)
    # A run that was tried again, or made way, is what its last slice is.
    last = {each.run or -number: each for number, each in enumerate(slices, 1)}
    ends = Counter(each.outcome for each in last.values() if each.state != Attempt.DISPLACED)
    counts = {kind: ends[kind] for kind in ("ok", "fail", "run", "planned")}
    return _t(
        "Timeline from %(start)s to %(end)s: %(ok)s done, %(fail)s failed, %(run)s running, "
        "%(planned)s planned. Arrow keys go from bar to bar."
    ) % {"start": start, "end": end, **counts}

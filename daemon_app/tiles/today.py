"""The day as a timeline: who used the machine, what ran and runs, and what is planned.

Each job is a lane. However many jobs and runs there are, a few lanes of bounded length are read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Self
from urllib.parse import parse_qs, urlencode

from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from daemon_app import charts, forecast, formats, gauges, idleness, timeline
from daemon_app.models import Attempt, IdleSpan, Job, Run
from daemon_app.tiles.marks import Mark, state_mark
from daemon_app.tiles.regions import Context, Viewer, current_language, region
from daemon_app.tiles.rows import Filter, job_mark, upcoming_jobs
from daemon_app.tiles.strip import OUTCOMES
from daemon_app.timeline import Axis, Bar, Slice, place

LANES, MOST_LANES = 6, 24
# Of a job so many of its newest runs are drawn one by one; those before them as one stretch.
MOST_RUNS = 240
BEFORE = 5  # runs that may have begun before the axis does
MOST_PLANNED = 100  # starts of one job
MOST_SPANS = 500
MOST_ROWS = 200  # of the table
LOOKED_AT = 300  # newest runs, to see whose they are
DUE = 100  # more jobs that start on the axis are chosen from by name
REMEMBERED_FOR = 15.0  # seconds
MANY = "many"  # what a slice says that stands for more than is told one by one
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
    found = _candidates(axis, now, first, active)
    count = MOST_LANES if asked.all else LANES
    lanes = _Drawing(axis, now, first, active).lanes(
        [job_id for *_rank, job_id in sorted(found.values())[:count]]
    )
    use = _use(axis, now)
    kinds = {bar.outcome for lane in lanes for bar in lane.bars}
    kinds |= {bridge.kind for lane in lanes for bridge in lane.bridges}
    return {
        "asked": asked,
        "axis": axis,
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
        "is_empty": not any(lane.bars for lane in lanes),
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


def _candidates(axis: Axis, now: datetime, first: int, active: Sequence[Run]) -> dict[int, Rank]:
    """Return the jobs that have something to show, by id; the smallest come first.

    On top what runs or has made way, then what has failed, then what is due soon. Each question is
    answered by an index, and a few more than there are lanes are enough. `first` is the first run
    of the axis.
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
    if len(ran) == LOOKED_AT:  # there may be failures before them
        ran += _failed(first)
    for job_id, name, state in ran:
        _take(found, 1 if state in Run.UNHAPPY else 3, name, job_id)
    end, soon = datetime.fromtimestamp(axis.end, UTC), now + SOON
    due = Job.objects.active().filter(next_due_at__lt=end).order_by("next_due_at")
    starting = list(due.values_list("pk", "name", "next_due_at")[:DUE])
    if len(starting) == DUE:
        starting = _due_by_name(end, int(now.timestamp() // REMEMBERED_FOR))
    for job_id, name, at in starting:
        _take(found, 2 if at and at <= soon else 3, name, job_id)
    return found


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


def _failed(first: int) -> Iterable[tuple[int, str, str]]:
    """Return whose the newest failures are, with their states, from run `first` on."""
    failed = Q(pk__in=[])
    for state in Run.UNHAPPY:
        newest = Run.objects.filter(state=state, pk__gte=first).order_by("-id")
        failed |= Q(pk__in=newest.values("pk")[:MOST_LANES])
    return Run.objects.filter(failed).values_list("job_id", "job_name", "state")


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


# ── Lanes ────────────────────────────────────────────────────────────────────────────────────────
class Bridge(NamedTuple):
    """The pause of a run that made way, or (quiet) the time a run has been waiting by now."""

    x: str
    end: str
    kind: str


class Rest(NamedTuple):
    """How long a running run will still take."""

    x: str
    width: str


@dataclass(frozen=True)
class Lane:
    """One job: its state, its bars from left to right, and what joins them."""

    job: Job
    mark: Mark
    bars: list[Bar] = field(default_factory=list)
    bridges: list[Bridge] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    told: list["Told"] = field(default_factory=list)
    drawn: str = ""


@dataclass(frozen=True)
class Told:
    """What a bar is, in words."""

    bar: Bar
    href: str
    word: str
    when: str
    length: str = ""
    run: int = 0

    @property
    def label(self) -> str:
        """The whole of it: "Fertig, 03:00–03:25 (25 Min.), Lauf 17"."""
        parts = [f"{self.word}, {self.when}"]
        if self.length:
            parts[0] += f" ({self.length})"
        if self.run:
            parts.append(_t("Run %(n)s") % {"n": self.run})
        return ", ".join(parts)


# What is asked of each run of a lane.
ROW = ("pk", "job_id", "state", "attempt", "due_at", "started_at", "ended_at")
Row = tuple[int, int, str, int, datetime, datetime | None, datetime | None]


class _Drawing:
    """How the lanes of one rendering are drawn."""

    def __init__(self, axis: Axis, now: datetime, first: int, active: Sequence[Run]) -> None:
        self.axis, self.now, self.first, self.active = axis, now, first, active
        self.language = current_language()
        self.zone = timezone.get_current_timezone()

    def lanes(self, job_ids: Sequence[int]) -> list[Lane]:
        """Return the lanes of these jobs, in this order."""
        if not job_ids:
            return []
        jobs = Job.objects.in_bulk(job_ids)
        rows, earlier = self._read(job_ids)
        tries = self._attempts([row[0] for row in rows if row[3] > 1])
        usual = forecast.usual_lengths(job_ids)
        active = {run.job_id: run for run in self.active[::-1]}  # what runs before what waits
        of_job: dict[int, list[Row]] = {}
        for row in rows:
            of_job.setdefault(row[1], []).append(row)
        return [
            self._lane(
                jobs[pk], of_job.get(pk, []), tries, earlier.get(pk), usual.get(pk), active.get(pk)
            )
            for pk in job_ids
            if pk in jobs
        ]

    def _read(self, job_ids: Sequence[int]) -> tuple[list[Row], dict[int, tuple[float, float]]]:
        """Return the runs of the lanes, newest first, and what of each is too much to be read."""
        first = self.first
        of_job = Run.objects.filter(job=OuterRef("pk")).order_by("-id")
        in_view = Run.objects.filter(job=OuterRef("pk"), pk__gte=first).exclude(started_at=None)
        floors = Job.objects.filter(pk__in=job_ids).values_list(
            "pk",
            Subquery(of_job.values("pk")[MOST_RUNS - 1 : MOST_RUNS]),
            Subquery(of_job.values("pk")[BEFORE - 1 : BEFORE]),
            Subquery(in_view.order_by("id").values("started_at")[:1]),
        )
        wanted, oldest = Q(pk__in=[]), {}
        for pk, floor, near, began in floors:
            low = min(max(floor or 0, first), near or 0)
            wanted |= Q(job_id=pk, pk__gte=low)
            if floor and floor > first and began:
                oldest[pk] = began
        rows: list[Row] = list(Run.objects.filter(wanted).order_by("-id").values_list(*ROW))
        known: dict[int, float] = {}
        for row in rows:
            if row[5]:
                known[row[1]] = min(row[5].timestamp(), known.get(row[1], row[5].timestamp()))
        return rows, {
            pk: (began.timestamp(), known[pk])
            for pk, began in oldest.items()
            if pk in known and began.timestamp() < known[pk]
        }

    def _attempts(self, run_ids: Sequence[int]) -> dict[int, list[Attempt]]:
        found: dict[int, list[Attempt]] = {}
        if run_ids:
            which = Attempt.objects.filter(run_id__in=run_ids[:MOST_RUNS]).order_by("run", "number")
            for each in which.only("run_id", "number", "state", "started_at", "ended_at"):
                found.setdefault(each.run_id, []).append(each)
        return found

    def _lane(  # noqa: PLR0913, PLR0917 - all that one lane is made of
        self,
        job: Job,
        rows: Sequence[Row],
        tries: dict[int, list[Attempt]],
        earlier: tuple[float, float] | None,
        usual: float | None,
        active: Run | None,
    ) -> Lane:
        slices, bridges = [], []
        for row in rows:
            new, between = self._of_run(row, tries.get(row[0], []))
            slices += new
            bridges += between
        ended = next((Run(state=row[2], due_at=row[4]) for row in rows if row[6]), None)
        mark = job_mark(job, [run for run in (active, ended) if run], self.now)
        if earlier:
            slices.append(Slice(earlier[0], earlier[1], "ok", state=MANY))
        bars = timeline.bars([*slices, *self._planned(job, usual, active)], self.axis)
        rests = [rest] if active and (rest := self._rest(active, usual)) else []
        told = [self._tell(job, bar) for bar in bars]
        return Lane(job, mark, bars, bridges, rests, told, self._draw(job, bars, told))

    # ── One run ──────────────────────────────────────────────────────────────────────────────────
    def _of_run(self, row: Row, tries: Sequence[Attempt]) -> tuple[list[Slice], list[Bridge]]:
        """Return the times in which a run ran, and the pauses in which it made way."""
        pk, _job, state, _attempt, due_at, started_at, ended_at = row
        slices, bridges = [], []
        began = [each.started_at for each in tries[1:]] + [started_at]
        for attempt, next_began in zip(tries, began, strict=False):
            displaced = attempt.state == Attempt.DISPLACED
            outcome = "ok" if displaced else OUTCOMES.get(Run.State(attempt.state), "quiet")
            if attempt.started_at:
                times = (attempt.started_at.timestamp(), attempt.ended_at.timestamp())
                slices.append(Slice(*times, outcome, pk, attempt.state))
            if displaced:
                until = next_began or ended_at or self.now
                bridges += self._bridge(attempt.ended_at, until, "held")
        if started_at and state == Run.State.RUNNING:
            begun = min(started_at.timestamp(), self.axis.now)
            slices.append(Slice(begun, self.axis.now, "run", pk, state))
        elif started_at:
            begun, ended = started_at.timestamp(), (ended_at or self.now).timestamp()
            outcome = OUTCOMES.get(Run.State(state), "quiet")
            slices.append(Slice(begun, ended, outcome, pk, state))
        elif state == Run.State.MISSED:
            slices.append(Slice(due_at.timestamp(), due_at.timestamp(), "warn", pk, state))
        elif state == Run.State.QUEUED and due_at <= self.now and not tries:
            bridges += self._bridge(due_at, self.now, "wait")
        return slices, bridges

    def _bridge(self, begun: datetime, ended: datetime, kind: str) -> list[Bridge]:
        until = min(ended.timestamp(), self.axis.now)
        found = timeline.bridge(begun.timestamp(), until, self.axis)
        return [Bridge(place(found.x), place(found.end), kind)] if found else []

    def _rest(self, run: Run, usual: float | None) -> Rest | None:
        left = run.eta(self.now, None if usual is None else timedelta(seconds=usual))
        if left is None:
            return None
        x = self.axis.x(self.axis.now)
        end = self.axis.x(self.axis.now + left.total_seconds())
        return Rest(place(x), place(end - x)) if end - x > timeline.LEAST else None

    def _planned(self, job: Job, usual: float | None, active: Run | None) -> list[Slice]:
        """Return the planned starts; of a job that starts all the time one stretch."""
        if not job.is_active and not job.paused_until:
            return []
        end = datetime.fromtimestamp(self.axis.end, UTC)
        plan = forecast.Plan.of(job)
        starts = plan.starts(self.now, end, MOST_PLANNED + 1)
        if active and not active.started_at and active.due_at in starts:
            starts.remove(active.due_at)
        length = usual or 0.0
        if len(starts) > MOST_PLANNED:
            return [Slice(starts[0].timestamp(), self.axis.end, "planned", state=MANY)]
        return [Slice(at.timestamp(), at.timestamp() + length, "planned") for at in starts]

    # ── Words ────────────────────────────────────────────────────────────────────────────────────
    def _tell(self, job: Job, bar: Bar) -> Told:
        first = bar.slices[0]
        until = max(each.ended for each in bar.slices)
        when, length = self._span(first.begun, until), ""
        if bar.outcome == "planned":
            many = _is_many(bar)
            word = _t("planned again and again") if many else _t("planned")
            when = _t("from %(when)s on") if many else "%(when)s"
            when %= {"when": self._clock(first.begun)}
            if first.ended > first.begun and not many:
                length = _t("usually %(span)s") % {"span": self._lasting(first.ended - first.begun)}
            href = reverse("job", args=[job.pk])
            return Told(bar, href, _capital(word), when, length)
        if _is_many(bar):
            runs = reverse("runs") + f"?job={job.pk}"
            if bar.outcome == "fail":
                runs += "&state=unhappy"
            return Told(bar, runs, self._counted(bar), when)
        if bar.outcome == "run":
            word, when = _t("Running"), _t("since %(when)s") % {"when": self._clock(first.begun)}
        else:
            word = state_mark(first.state).word
            if first.state == Run.State.MISSED:
                when = self._clock(first.begun)
            else:
                length = self._lasting(first.ended - first.begun)
        return Told(bar, reverse("run", args=[first.run]), word, when, length, first.run)

    def _counted(self, bar: Bar) -> str:
        count = len(bar.slices)
        if any(each.state == MANY for each in bar.slices):
            return _t("Many runs")
        if bar.outcome == "fail":
            return ngettext("%(n)s failure", "%(n)s failures", count) % {"n": count}
        return ngettext("%(n)s run", "%(n)s runs", count) % {"n": count}

    def _lasting(self, seconds: float) -> str:
        return formats.duration(seconds, self.language, exact=True)

    def _clock(self, at: float) -> str:
        """Return when: "03:25", "gestern 18:00", "Mi 03:00"."""
        there = datetime.fromtimestamp(at, UTC)
        if there.astimezone(self.zone).date() == self.now.astimezone(self.zone).date():
            return f"{there.astimezone(self.zone):%H:%M}"
        return formats.moment(there, self.now, self.zone, self.language)

    def _span(self, begun: float, ended: float) -> str:
        """Return from when to when: "03:00–03:25", "gestern 23:50–00:10"."""
        one = datetime.fromtimestamp(begun, UTC).astimezone(self.zone)
        two = datetime.fromtimestamp(ended, UTC).astimezone(self.zone)
        if (one.date(), one.hour, one.minute) == (two.date(), two.hour, two.minute):
            return self._clock(begun)
        if two - one < timedelta(hours=20):
            return f"{self._clock(begun)}–{two:%H:%M}"
        return f"{self._clock(begun)} – {self._clock(ended)}"

    # ── The drawing ──────────────────────────────────────────────────────────────────────────────
    def _draw(self, job: Job, bars: Sequence[Bar], told: Sequence[Told]) -> SafeString:
        """Return the bars as links; markup of hundreds of them is too much for a template."""
        return format_html_join(
            "",
            '<a id="bar-{}-{}" class="bar {}{}" href="{}" aria-label="{}"'
            ' data-live-keep="tabindex"><rect x="{}" width="{}" y="9" height="12" rx="{}"/></a>',
            (
                (
                    job.pk,
                    round(bar.slices[0].begun),
                    bar.outcome,
                    (" many" if _is_many(bar) else "") + (" tick" if bar.is_tick else ""),
                    one.href,
                    one.label,
                    place(bar.x),
                    place(bar.width),
                    "1.5" if bar.is_tick else "3",
                )
                for bar, one in zip(bars, told, strict=True)
            ),
        )


def _is_many(bar: Bar) -> bool:
    """Whether a bar stands for more than one run."""
    return bar.is_many or bar.slices[0].state == MANY


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


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
        fits = abs(x - here) > 5.6 and 2 < x < 98
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
    counts = {"ok": 0, "fail": 0, "run": 0, "planned": 0}
    for lane in lanes:
        for bar in lane.bars:
            counts[bar.outcome] = counts.get(bar.outcome, 0) + len(bar.slices)
    return _t(
        "Timeline from %(start)s to %(end)s: %(ok)s done, %(fail)s failed, %(run)s running, "
        "%(planned)s planned. Arrow keys go from bar to bar."
    ) % {"start": start, "end": end, **counts}

"""The lanes of the timeline: the runs of a job as bars with words, and what is planned of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import forecast, formats, timeline
from daemon_app.models import Attempt, Job, Run
from daemon_app.tiles.marks import Mark, state_mark
from daemon_app.tiles.regions import current_language
from daemon_app.tiles.rows import job_mark
from daemon_app.tiles.strip import OUTCOMES
from daemon_app.timeline import Axis, Bar, Slice, place

# Of a job so many of its newest runs are drawn one by one; those before them as one stretch.
MOST_RUNS = 240
BEFORE = 5  # runs that may have begun before the axis does
MOST_PLANNED = 100  # starts of one job
MANY = "many"  # what a slice says that stands for more than is told one by one


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


class Drawing:
    """How the lanes of one rendering are drawn.

    `first` is the first run that was put in line on the axis; `active` is what runs and waits;
    `also` are runs that are drawn even where a job has too many to be read.
    """

    def __init__(
        self, axis: Axis, now: datetime, first: int, active: Sequence[Run], also: Sequence[int]
    ) -> None:
        self.axis, self.now, self.first, self.active, self.also = axis, now, first, active, also
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
        wanted, oldest = Q(pk__in=[]), dict[int, tuple[int, datetime]]()
        for pk, floor, near, began in floors:
            low = min(max(floor or 0, first), near or 0)
            wanted |= Q(job_id=pk, pk__gte=low)
            if floor and floor > first and began:
                oldest[pk] = (floor, began)
        # What was put in line before the axis begins, and has waited or run since then.
        extra = [run.pk for run in self.active if run.job_id in job_ids]
        wanted |= Q(pk__in=[*extra, *self.also], job_id__in=job_ids)
        rows: list[Row] = list(Run.objects.filter(wanted).order_by("-id").values_list(*ROW))
        reached = {
            row[1]: row[5].timestamp()
            for row in rows
            if row[5] and row[1] in oldest and row[0] >= oldest[row[1]][0]
        }
        return rows, {pk: (oldest[pk][1].timestamp(), until) for pk, until in reached.items()}

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
            # Now is where the axis has it: a run that has just begun may seem to begin after it.
            slices.append(Slice(started_at.timestamp(), self.axis.now, "run", pk, state))
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
            word = state_mark(bar.slices[-1].state).word
            if first.state == Run.State.MISSED:
                when = self._clock(first.begun)
            elif len(bar.slices) == 1:
                length = self._lasting(first.ended - first.begun)
        return Told(bar, reverse("run", args=[first.run]), word, when, length, first.run)

    def _counted(self, bar: Bar) -> str:
        count = bar.count
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
            '<a id="bar-{}-{}-{}" class="bar {}{}" href="{}" aria-label="{}"'
            ' data-live-keep="tabindex"><rect x="{}" width="{}" y="9" height="12" rx="{}"/></a>',
            (
                (
                    job.pk,
                    bar.slices[0].run,
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

"""What a run used over its time: processor, memory, and how full the GPU was meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import charts, formats, gauges, usage
from daemon_app.models import Run
from daemon_app.models.health import FIVE_MINUTES
from daemon_app.models.run import folder_of
from daemon_app.tiles.regions import Context, Viewer, current_language, number_in, region

POINTS = 300  # of a chart's
LATE = 3.0  # samples without one are a gap


@dataclass(frozen=True)
class Chart:
    """One drawing with its words; `ticks` are (place, text) beside it."""

    name: str
    title: str
    icon: str
    drawing: charts.Drawing
    grid: str
    ticks: Sequence[tuple[str, str]]
    present: str
    summary: str
    note: str = ""


@region("run-usage", topics=("run:{arg}", "health"))
def run_usage(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the charts of a run's latest attempt; none of a run that was short, or is too old."""
    number = number_in(arg)
    run = Run.objects.filter(pk=number).first() if number else None
    if run is None:
        return None
    began, ended = run.started_at, run.ended_at or now
    return used(folder_of(run.pk), began, ended, now) if began else {"charts": []}


def used(folder: Path, began: datetime, ended: datetime, now: datetime) -> Context:
    """Return what was used by what wrote into `folder` between two times."""
    samples = usage.read(folder)
    if len(samples) < 2:
        return {"charts": []}
    start, end = began.timestamp(), max(ended.timestamp(), samples[-1].at)
    rows = _rows(samples, start)
    longest = LATE * max(row.length for row in rows)
    thinned = charts.thin(rows, start, end, POINTS)
    language = current_language()
    shown = [
        _processor(thinned, charts.Frame(start, end), longest),
        _memory(thinned, samples, charts.Frame(start, end), longest, language),
    ]
    if gpu := _gpu(began, datetime.fromtimestamp(end, UTC), now):
        shown.append(gpu)
    zone = timezone.get_current_timezone()
    frame = charts.Frame(start, end)
    style, most, room = ("%H:%M", 5, 220) if end - start > 300 else ("%H:%M:%S", 2, 340)
    edges = [(0, began, "start"), (charts.WIDTH, datetime.fromtimestamp(end, UTC), "end")]
    between = [
        (frame.x(at.timestamp()), at, "middle")
        for at in charts.instants(start, end, zone, most=most)
        if room < frame.x(at.timestamp()) < charts.WIDTH - room  # on a telephone, too
    ]
    return {
        "charts": shown,
        "instants": [
            (_place(x), at.astimezone(zone).strftime(style), anchor)
            for x, at, anchor in [*edges, *between]
        ],
        "most_processes": max(each.processes for each in samples),
    }


def _rows(samples: Sequence[usage.Sample], start: float) -> list[charts.Row]:
    """Return a row for the time before each sample: per cent of a processor, and bytes."""
    rows = []
    at, cpu = start, 0.0
    for each in samples:
        length = max(each.at - at, 0.001)
        # A child that nobody has waited for yet was counted alive and is now unknown.
        share = max(0.0, 100 * (each.cpu - cpu) / length)
        resident = float(each.resident)
        values = {"cpu": (share,) * 3, "memory": (resident,) * 3}
        rows.append(charts.Row(at + length / 2, length, 1, values))
        at, cpu = each.at, each.cpu
    return rows


def _processor(rows: Sequence[charts.Row], frame: charts.Frame, longest: float) -> Chart:
    means = [row.values["cpu"][0] for row in rows]
    most = max(row.values["cpu"][2] for row in rows)
    scale = charts.scale(0, max(100.0, most), parts=2)
    mean = sum(m * row.weight for m, row in zip(means, rows, strict=True)) / sum(
        row.weight for row in rows
    )
    said = {"mean": gauges.percent(mean), "most": gauges.percent(most)}
    return Chart(
        "cpu",
        _t("Processor"),
        "cpu",
        charts.draw(rows, "cpu", charts.Frame(frame.start, frame.end, scale), longest),
        _grid(scale),
        [(_height(scale, tick), gauges.percent(tick)) for tick in scale.ticks],
        _t("%(mean)s on average") % said,
        _t("Processor: %(mean)s of one core on average, %(most)s at most.") % said,
        _t("at most %(most)s; 100 %% is one core") % said,
    )


def _memory(
    rows: Sequence[charts.Row],
    samples: Sequence[usage.Sample],
    frame: charts.Frame,
    longest: float,
    language: str,
) -> Chart:
    most = max(each.resident for each in samples)
    scale = charts.scale(0, max(most, 1) / _unit(most), parts=2)
    in_bytes = charts.Scale(0, scale.high * _unit(most))
    said = {
        "most": formats.size(most, language),
        "last": formats.size(samples[-1].resident, language),
    }
    return Chart(
        "memory",
        _t("Memory"),
        "memory-stick",
        charts.draw(rows, "memory", charts.Frame(frame.start, frame.end, in_bytes), longest),
        _grid(scale),
        [
            (_height(scale, tick), formats.size(round(tick * _unit(most)), language))
            for tick in scale.ticks
        ],
        _t("at most %(most)s") % said,
        _t("Memory: %(most)s at most, %(last)s at last.") % said,
        _t("at last %(last)s") % said,
    )


def _gpu(began: datetime, ended: datetime, now: datetime) -> Chart | None:
    """Return how full the GPU's memory was, whoever used it; None where nobody measured that."""
    node = gauges.host(now)
    if node is None:
        return None
    coarsest = FIVE_MINUTES if (ended - began).total_seconds() > 86_400 else 0
    known = gauges.past(node.host, began, ended, coarsest).rows
    known = [row for row in known if "vram" in row.values]
    if len(known) < 2:
        return None
    scale = charts.Scale(0, 100, (0, 50, 100))
    frame = charts.Frame(began.timestamp(), ended.timestamp(), scale)
    rows = charts.thin(known, frame.start, frame.end, POINTS)
    longest = LATE * max(two.at - one.at for one, two in pairwise(known))
    most = {"most": gauges.percent(max(row.values["vram"][2] for row in known))}
    return Chart(
        "gpu",
        _t("GPU memory"),
        "gpu",
        charts.draw(rows, "vram", frame, longest),
        _grid(scale),
        [(_height(scale, tick), gauges.percent(tick)) for tick in scale.ticks],
        _t("at most %(most)s") % most,
        _t("Memory of the GPU, of all who used it: %(most)s full at most.") % most,
        _t("of the whole machine"),
    )


def _unit(most: int) -> int:
    """Return the unit in which round numbers look round, of those that sizes are written in."""
    return (1, 1000, 1_000_000, 1_000_000_000)[min(3, (len(str(most)) - 1) // 3)]


def _grid(scale: charts.Scale) -> str:
    return "".join(f"M0 {scale.y(tick)}H{charts.WIDTH}" for tick in scale.ticks)


def _height(scale: charts.Scale, tick: float) -> str:
    return f"{scale.y(tick) * 100 / charts.HEIGHT:g}%"


def _place(x: int) -> str:
    return f"{x * 100 / charts.WIDTH:g}%"

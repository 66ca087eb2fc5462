"""The geometry of charts: measurements become the paths of an SVG, in whole numbers.

Times are seconds since 1970. A drawing fills a box of `WIDTH` by `HEIGHT`, whatever its size on the
screen; what stands for nothing measured is left open, never bridged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from itertools import chain
from math import ceil, floor, log10
from operator import mul
from typing import NamedTuple

WIDTH, HEIGHT = 1000, 1000

Value = tuple[float, float, float]  # mean, least, most


class Row(NamedTuple):
    """What was measured at one time: `at` is the middle of the `length` seconds it stands for.

    `weight` is how many measurements it sums up. What was not measured is not in `values`.
    """

    at: float
    length: float
    weight: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Scale:
    """Which values a chart spans, with round ones to write beside it."""

    low: float
    high: float
    ticks: tuple[float, ...] = ()
    decimals: int = 0

    def y(self, value: float) -> int:
        """Return where `value` lies, counted from the top; beyond the ends it is at the end."""
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT * (1 - min(1.0, max(0.0, share))))


@dataclass(frozen=True, slots=True)
class Frame:
    """What a drawing shows: from when to when, and on which scale."""

    start: float
    end: float
    scale: Scale = field(default_factory=lambda: Scale(0, 1))

    def x(self, at: float) -> int:
        """Return where an instant lies; beyond the ends it is at the end."""
        share = (at - self.start) / (self.end - self.start)
        return round(WIDTH * min(1.0, max(0.0, share)))


@dataclass(frozen=True, slots=True)
class Drawing:
    """Paths: the line of the means, the band from least to most, the area below the line.

    `unknown` runs along the bottom where nothing was measured.
    """

    line: str = ""
    band: str = ""
    area: str = ""
    unknown: str = ""


# ── Scales ───────────────────────────────────────────────────────────────────────────────────────
def scale(low: float, high: float, *, parts: int = 4, whole: bool = False) -> Scale:
    """Return a scale of about `parts` round steps that holds `low` and `high`.

    `whole` asks for steps of at least 1. Equal ends get room around them.
    """
    if high - low < 1e-9:
        room = max(abs(high) * 0.1, 1.0)
        low, high = (low, high + room) if low >= 0 else (low - room, high + room)
    rough = (high - low) / parts
    unit = 10.0 ** floor(log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough * 0.999)
    if whole:
        step = max(1.0, float(ceil(step)))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    decimals = max(0, -floor(log10(step) + 1e-9))
    ticks = tuple(round(n * step, decimals + 1) for n in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks, decimals)


# Steps of a time axis: minutes below a day, days from then on.
MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720)
DAYS = (1, 2, 5, 7, 14)


def instants(start: float, end: float, zone: tzinfo, most: int = 8) -> list[datetime]:
    """Return round times between `start` and `end` by the clocks of `zone`, at most `most`.

    They are as far apart on those clocks; on a day that clocks are set the axis has a wider or a
    narrower place, and an hour that does not exist is left out.
    """
    length = (end - start) / 60
    minutes = next((n for n in MINUTES if length / n <= most), 0)
    first = datetime.fromtimestamp(start, zone).date() - timedelta(days=1)
    last = datetime.fromtimestamp(end, zone).date()
    if minutes:
        each_day = [time(n // 60, n % 60) for n in range(0, 24 * 60, minutes)]
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    else:
        step = next((n for n in DAYS if length / 1440 / n <= most), DAYS[-1])
        each_day = [time()]
        # Counted from a fixed day, so that the axis does not jump from one view to the next.
        ahead = -(first - date(1970, 1, 5)).days % step
        days = [first + timedelta(days=n) for n in range(ahead, (last - first).days + 1, step)]
    found = {}
    for day in days:
        for clock in each_day:
            for fold in (0, 1):
                there = datetime.combine(day, clock, zone).replace(fold=fold)
                at = there.timestamp()
                back = datetime.fromtimestamp(at, zone)
                if start <= at <= end and back.replace(tzinfo=None, fold=0) == datetime.combine(
                    day, clock
                ):
                    found[at] = back
    return [found[at] for at in sorted(found)]


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────
def thin(rows: Sequence[Row], start: float, end: float, most: int) -> list[Row]:
    """Return at most `most` + 1 rows that say the same: means of means, least of least."""
    if len(rows) <= most:
        return [*rows]
    width = (end - start) / most
    together: dict[int, list[Row]] = {}
    for row in rows:
        together.setdefault(int((row.at - start) // width), []).append(row)
    return [_sum(together[place]) for place in sorted(together)]


def _sum(rows: Sequence[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    values = {}
    for name in dict.fromkeys(chain.from_iterable(row.values for row in rows)):
        each = [(row.weight, *row.values[name]) for row in rows if name in row.values]
        weights, means, least, most = zip(*each, strict=True)
        mean = sum(map(mul, weights, means)) / sum(weights)
        values[name] = (mean, min(least), max(most))
    first, last = rows[0], rows[-1]
    begun, ended = first.at - first.length / 2, last.at + last.length / 2
    return Row(
        sum(row.at for row in rows) / len(rows),
        ended - begun,
        sum(row.weight for row in rows),
        values,
    )


def segments(
    rows: Iterable[Row], name: str, longest: float
) -> list[list[tuple[float, Value, float]]]:
    """Return the stretches in which `name` was measured, each as (at, value, length).

    Two rows more than `longest` seconds apart, or a row without it between them, part two
    stretches; rows that stand for a long time may be that much further apart.
    """
    found: list[list[tuple[float, Value, float]]] = []
    open_until: float | None = None
    for at, length, _, values in rows:
        value = values.get(name)
        if value is None:
            open_until = None
            continue
        if open_until is None or at - length / 2 > open_until:
            found.append([])
        found[-1].append((at, value, length))
        open_until = at + length / 2 + longest
    return found


# ── Paths ────────────────────────────────────────────────────────────────────────────────────────
def draw(rows: Sequence[Row], name: str, frame: Frame, longest: float) -> Drawing:
    """Return how the values of `name` look; see `segments` for `longest`."""
    lines, bands, areas = [], [], []
    known: list[tuple[int, int]] = []
    for segment in segments(rows, name, longest):
        xs = [frame.x(at) for at, _, _ in segment]
        means = [frame.scale.y(value[0]) for _, value, _ in segment]
        line = _path(zip(xs, means, strict=True))
        lines.append(line if "l" in line else f"{line}h0")  # one point is a dot
        areas.append(f"{line}V{HEIGHT}H{xs[0]}z" if len(xs) > 1 else "")
        least = [frame.scale.y(value[1]) for _, value, _ in segment]
        most = [frame.scale.y(value[2]) for _, value, _ in segment]
        if least != most:
            there = [*zip(xs, most, strict=True)]
            back = [*zip(xs, least, strict=True)][::-1]
            bands.append(_path([*there, *back]) + "z")
        known.append((_before(segment, frame, longest), _after(segment, frame, longest)))
    return Drawing("".join(lines), "".join(bands), "".join(areas), _unknown(known))


def _before(segment: Sequence[tuple[float, Value, float]], frame: Frame, longest: float) -> int:
    at, _, length = segment[0]
    return 0 if at - length / 2 - longest <= frame.start else frame.x(at)


def _after(segment: Sequence[tuple[float, Value, float]], frame: Frame, longest: float) -> int:
    at, _, length = segment[-1]
    return WIDTH if at + length / 2 + longest >= frame.end else frame.x(at)


def _path(points: Iterable[tuple[int, int]]) -> str:
    """Return a path through `points`; each but the first is told by its distance, which is short.

    Points on one straight line are one stroke: a constant value costs a few bytes.
    """
    parts: list[str] = []
    corners: list[tuple[int, int]] = []
    for point in points:
        if len(corners) > 1 and _straight(corners[-2], corners[-1], point):
            corners[-1] = point
        else:
            corners.append(point)
    x, y = corners[0]
    parts.append(f"M{x} {y}")
    for next_x, next_y in corners[1:]:
        parts.append(f"l{next_x - x} {next_y - y}")
        x, y = next_x, next_y
    return "".join(parts)


def _straight(one: tuple[int, int], two: tuple[int, int], three: tuple[int, int]) -> bool:
    """Whether the way from `one` by `two` to `three` goes on, level, in one direction."""
    return one[1] == two[1] == three[1] and (two[0] - one[0]) * (three[0] - two[0]) >= 0


def _unknown(known: Sequence[tuple[int, int]]) -> str:
    parts, reached = [], 0
    for begun, ended in known:
        if begun > reached:
            parts.append(f"M{reached} {HEIGHT}H{begun}")
        reached = max(reached, ended)
    if reached < WIDTH:
        parts.append(f"M{reached} {HEIGHT}H{WIDTH}")
    return "".join(parts)


def stripes(
    times: Iterable[tuple[float, float]], frame: Frame, top: int = 0, height: int = HEIGHT
) -> str:
    """Return what shades these times, as one path; what touches or overlaps is one stripe.

    However short, each is wide enough to be seen.
    """
    merged: list[list[int]] = []
    for begun, ended in sorted(times):
        if ended < frame.start or begun > frame.end:
            continue
        left, right = frame.x(begun), frame.x(ended)
        right = max(right, left + 2)
        if merged and left <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], right)
        else:
            merged.append([left, right])
    return "".join(f"M{a} {top}h{b - a}v{height}h{a - b}z" for a, b in merged)

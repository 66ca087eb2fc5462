"""The geometry of the timeline: what ran, what runs and what is planned, as bars along one axis.

Times are seconds since 1970, places are per cent of the axis, so that a drawing fills whatever
width it gets. However many runs there are, the bars are bounded: short ones that would touch on
the screen become one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

# In per cent of an axis that is some thousand pixels wide.
LEAST = 0.33  # what is shorter could not be seen, or hit
NARROW = 0.7  # up to here a bar is a tick, which may become one with its neighbours
APART = 0.3  # ticks that are less apart do
ROOM = 0.4  # between a bar and the bridge that leaves it


class Slice(NamedTuple):
    """A time in which a run ran, or is planned to; `run` is 0 for a planned one.

    `outcome` is how it is coloured: "ok", "fail", "run", "warn", "quiet" or "planned".
    """

    begun: float
    ended: float
    outcome: str
    run: int = 0
    state: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """The span a timeline shows, and where now is on it."""

    start: float
    end: float
    now: float

    @classmethod
    def around(cls, now: float, *, back: float, length: float, step: float) -> Self:
        """Return the axis that reaches at most `back` behind now; it begins at a whole `step`.

        So bars stay where they are while now moves on.
        """
        start = ceil((now - back) / step) * step
        return cls(start, start + length, now)

    def x(self, at: float) -> float:
        """Return where an instant lies, 0 to 100; beyond the ends it is at the end."""
        share = (at - self.start) / (self.end - self.start)
        return 100 * min(1.0, max(0.0, share))

    def shows(self, begun: float, ended: float) -> bool:
        """Whether any of a span is on the axis."""
        return ended >= self.start and begun < self.end


@dataclass(slots=True)
class Bar:
    """What is drawn of one slice, or of several short ones that would touch."""

    x: float
    width: float
    outcome: str
    slices: list[Slice]

    @property
    def end(self) -> float:
        return self.x + self.width

    @property
    def count(self) -> int:
        """Return for how many runs it stands; several slices may be of one."""
        known = {each.run for each in self.slices if each.run}
        return len(known) + sum(not each.run for each in self.slices)

    @property
    def is_many(self) -> bool:
        """Whether it stands for more than one run."""
        return self.count > 1

    @property
    def is_tick(self) -> bool:
        """Whether it is as short as can be seen."""
        return self.width <= LEAST


class Stretch(NamedTuple):
    """A part of the axis."""

    x: float
    width: float

    @property
    def end(self) -> float:
        return self.x + self.width


def bars(slices: Iterable[Slice], axis: Axis) -> list[Bar]:
    """Return the bars of a lane from left to right.

    Ticks of one outcome that are next to each other become one bar; what runs never does. A failure
    is drawn after, and so above, what lies in the same place.
    """
    drawn: list[Bar] = []
    last: dict[str, Bar] = {}
    for each in sorted(slices):
        if not axis.shows(each.begun, each.ended):
            continue
        x = axis.x(each.begun)
        width = max(axis.x(each.ended) - x, LEAST)
        x = min(x, 100 - width)
        before = last.get(each.outcome)
        if each.outcome == "run" or width > NARROW:
            before = None
        if before is not None and x - before.end < APART:
            before.width = max(before.width, x + width - before.x)
            before.slices.append(each)
            continue
        drawn.append(Bar(x, width, each.outcome, [each]))
        if width <= NARROW and each.outcome != "run":
            last[each.outcome] = drawn[-1]
        else:
            last.pop(each.outcome, None)
    return sorted(drawn, key=lambda bar: (bar.x, bar.outcome == "fail"))


def bridge(begun: float, ended: float, axis: Axis) -> Stretch | None:
    """Return what joins two slices of a run that made way between them; None without room."""
    if not axis.shows(begun, ended):
        return None
    x, end = axis.x(begun) + ROOM, axis.x(ended) - ROOM
    return Stretch(x, end - x) if end - x > 0 else None


def stretches(spans: Iterable[tuple[float, float]], axis: Axis, least: float) -> list[Stretch]:
    """Return spans on the axis; what touches or overlaps is one, and none is under `least` wide."""
    found: list[Stretch] = []
    for begun, ended in sorted(spans):
        if not axis.shows(begun, ended):
            continue
        x = min(axis.x(begun), 100 - least)
        width = max(axis.x(ended) - x, least)
        if found and x <= found[-1].end:
            first = found.pop()
            x, width = first.x, max(first.end, x + width) - first.x
        found.append(Stretch(x, width))
    return found


def gaps(known: Sequence[Stretch], until: float) -> list[Stretch]:
    """Return what lies between the stretches, from 0 up to `until`."""
    found, reached = [], 0.0
    for each in known:
        if each.x - reached > LEAST:
            found.append(Stretch(reached, each.x - reached))
        reached = max(reached, each.end)
    if until - reached > LEAST:
        found.append(Stretch(reached, until - reached))
    return found


def place(share: float) -> str:
    """Return a part of the axis as SVG wants it: "12.5%"."""
    return f"{share:.3f}".rstrip("0").rstrip(".") + "%"

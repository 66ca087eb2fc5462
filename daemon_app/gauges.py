"""How the machine is, ready to be drawn: five tiles with their last hour, and charts of its past.

What was not measured is said to be unknown; no number stands for it.
"""

import json
import math
import socket
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Self

from django.conf import settings
from django.db.models import TextField
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import charts, formats
from daemon_app.gates.conditions import speaks_of_now
from daemon_app.models import Attempt, IdleSpan, Node, Policy, Run, Snapshot, reasons
from daemon_app.models.health import FIVE_MINUTES, HOUR, RAW
from daemon_app.readings import LEVELS, Level, Reading, State

LAST_HOUR = timedelta(minutes=60)
SPARKS = 60  # points of a tile's line
POINTS = 240  # of a chart's
LATE = 2.5  # ticks without one are a gap
MOST_RUNS = 2000  # whose times are shaded


@dataclass(frozen=True)
class Check:
    """How one check is shown: its name, its icon, and what its numbers are."""

    name: str
    title: str | Promise
    icon: str
    unit: str  # "ms", "%", "GB", "" for a count
    quantity: str | Promise  # what the number is of


CHECKS = {
    check.name: check
    for check in (
        Check("gpu_service", _("GPU service"), "gpu", "ms", _("response")),
        Check("ollama", _("Ollama"), "message-square", "ms", _("response")),
        Check("vram", _("VRAM"), "memory-stick", "%", _("in use")),
        Check("disk", _("Disk"), "hard-drive", "GB", _("free")),
        Check("active_users", _("Active users"), "users", "", _("at the moment")),
    )
}


def host(now: datetime) -> Node | None:
    """Return the daemon of this machine; without one, one that is alive, else the last one.

    Always the same while nothing changes: tiles must not show two machines in turn.
    """
    nodes = list(Node.objects.order_by("host"))
    own = socket.gethostname()
    for wanted in (
        lambda node: node.host == own and node.is_alive(now),
        lambda node: node.is_alive(now),
        lambda node: node.host == own,
    ):
        if found := next(filter(wanted, nodes), None):
            return found
    return max(nodes, key=lambda node: node.seen_at, default=None)


@dataclass(frozen=True)
class Here:
    """What all tiles and charts of one rendering go by; `readings` are empty when none is fresh."""

    now: datetime
    language: str
    node: Node | None
    newest: Snapshot | None
    readings: Mapping[str, Reading]
    policy: Policy

    @classmethod
    def at(cls, now: datetime, language: str) -> Self:
        """Return what is known now."""
        node = host(now)
        newest = Snapshot.objects.newest(now, node.host) if node else None
        tick = timedelta(seconds=settings.TICK_SECONDS)
        fresh = newest is not None and newest.is_fresh(now, tick)
        readings = newest.read() if newest and fresh else {}
        return cls(now, language, node, newest, readings, Policy.current())

    @property
    def idle(self) -> bool | None:
        """Whether the machine is idle; None when that is not known."""
        known = speaks_of_now(self.node, self.newest, self.now)
        return self.node.idle if self.node and known else None


# ── Tiles ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Tile:
    """One check as the overview shows it: state, number, one line of cause, the last hour.

    `number` is empty when nothing is known; `silent_since` is then when it last was.
    """

    check: Check
    word: str
    sign: str
    tone: str
    is_calm: bool
    number: str = ""
    quantity: str = ""
    cause: str = ""
    silent_since: datetime | None = None
    never: bool = False
    active_at: datetime | None = None
    idle_from: datetime | None = None
    spark: charts.Drawing = field(default_factory=charts.Drawing)
    threshold: int | None = None


SIGNS = {
    Level.OK: ("check", "is-ok", True),
    Level.WARN: ("triangle-alert", "is-warn", False),
    Level.BAD: ("x", "is-fail", False),
    Level.UNKNOWN: ("circle-question-mark", "is-quiet", False),
}
WORDS: dict[str, dict[State, str | Promise]] = {
    "service": {
        State.OK: _("Ready"),
        State.SLOW: _("Slow"),
        State.DOWN: _("Not reachable"),
    },
    "room": {
        State.OK: _("Normal"),
        State.HIGH: _("Getting scarce"),
        State.LOW: _("Getting scarce"),
        State.FULL: _("Full"),
    },
}
UNKNOWN = _("Unknown")


def tiles(now: datetime, language: str) -> list[Tile]:
    """Return the five tiles, in their order."""
    here = Here.at(now, language)
    rows = past(here.node.host, now - LAST_HOUR, now, RAW).rows if here.node else []
    return [_tile(check, rows, here) for check in CHECKS.values()]


def _tile(check: Check, rows: Sequence[charts.Row], here: Here) -> Tile:
    reading = here.readings.get(check.name)
    state = reading.state if reading else State.UNKNOWN
    level = LEVELS[state]
    mark = (str(_words(check).get(state, UNKNOWN)), *SIGNS[level])
    limit = threshold(check.name, here.policy) if level in {Level.WARN, Level.BAD} else None
    end = _until(here.now, LAST_HOUR, SPARKS)
    frame = _frame(check, rows, (end - LAST_HOUR, end), limit)
    thinned = charts.thin(rows, frame.start, frame.end, SPARKS)
    looks: dict[str, Any] = {
        "spark": charts.draw(thinned, check.name, frame, _longest(frame, SPARKS)),
        "threshold": None if limit is None else frame.scale.y(limit),
    }
    if reading is None or (state == State.UNKNOWN and not reading.code):
        seen = [row.at for row in rows if check.name in row.values]
        last = here.newest.at if here.newest and check.name in here.newest.values else None
        last = datetime.fromtimestamp(seen[-1], UTC) if seen else last
        return Tile(check, *mark, **looks, silent_since=last, never=last is None)
    if check.name == "active_users":
        return _users(check, reading, looks, here)
    number, quantity, cause = _told(check, reading, here.language)
    if state == State.DOWN and _is_absent(check, reading, rows, here):
        mark = (_t("Not set up"), "unplug", "is-quiet", True)
        looks["threshold"], cause = None, _address(reading.facts)
    return Tile(check, *mark, number, quantity, cause, **looks)


def _is_absent(check: Check, reading: Reading, rows: Sequence[charts.Row], here: Here) -> bool:
    """Return whether a service was never here: nobody has named its address, and it never answered.

    That is no trouble, and looks like none.
    """
    ours = {"gpu_service": here.policy.gpu_service_url, "ollama": here.policy.ollama_url}
    if ours.get(check.name, "another's") or check.name in settings.SERVICES_NAMED:
        return False
    if reading.code != "service_refused" or here.node is None:
        return False
    if any(check.name in row.values for row in rows):
        return False
    hours = Snapshot.objects.filter(host=here.node.host, span=HOUR)
    return not hours.filter(values__has_key=check.name).exists()


def _words(check: Check) -> Mapping[State, str | Promise]:
    return WORDS["service" if check.unit == "ms" else "room"]


def _users(check: Check, reading: Reading, looks: dict[str, Any], here: Here) -> Tile:
    """Return the tile of the active users: it says whether the machine is idle."""
    idle, node = here.idle, here.node
    mark = {
        True: (_t("Idle"), "leaf", "is-quiet", True),
        False: (_t("Busy"), "users", "is-held", False),
        None: (str(UNKNOWN), "circle-question-mark", "is-quiet", False),
    }[idle]
    if reading.value is None or node is None:
        return Tile(check, *mark, cause=reasons.sentence(reading.code, reading.facts), **looks)
    cause = ""
    if idle is False and node.idle_reasons and not reading.value:
        first = node.idle_reasons[0]
        cause = reasons.sentence(str(first.get("code", "")), first.get("facts") or {})
    return Tile(
        check,
        *mark,
        number=measured(check.unit, reading.value, here.language),
        quantity=str(check.quantity),
        cause=cause,
        active_at=None if cause else node.active_at,
        idle_from=node.idle_from if idle is False else None,
        **looks,
    )


def _told(check: Check, reading: Reading, language: str) -> tuple[str, str, str]:
    """Return a reading as number, what it is of, and one line of cause."""
    facts, value = reading.facts, reading.value
    said = reasons.sentence(reading.code, facts)
    trouble = said if reading.level != Level.OK else ""
    number = "" if value is None else measured(check.unit, value, language)
    quantity = str(check.quantity)
    if check.name == "vram":
        number, quantity, cause = _vram(facts, number, quantity, language)
        return number, quantity, cause or trouble or said
    if check.name == "disk":
        parts = [_share(facts), forecast(facts, language)]
        return number, quantity, " · ".join(filter(None, parts)) or trouble or said
    if check.unit == "ms":
        return number, quantity, trouble or _models(facts) or _address(facts)
    return number, quantity, trouble


def _vram(
    facts: Mapping[str, Any], number: str, quantity: str, language: str
) -> tuple[str, str, str]:
    """Return free memory instead of the used share where it is known, and who uses it."""
    free, total = _amount(facts, "free_mb"), _amount(facts, "total_mb")
    if free is None or not total:
        return number, quantity, ""
    used, whole = (_megabytes(part, language) for part in (total - free, total))
    number, _, unit = used.rpartition(formats.NBSP)
    if whole.endswith(unit):  # said once
        used = number
    size, _, unit = whole.rpartition(formats.NBSP)
    if size.endswith((",0", ".0")):
        whole = f"{size[:-2]}{formats.NBSP}{unit}"
    models = facts.get("models")
    parts = [_t("%(used)s of %(total)s") % {"used": used, "total": whole}]
    listed = models if isinstance(models, list) else []
    names = [str(each.get("model") or "") for each in listed if isinstance(each, Mapping)]
    parts += filter(None, names)
    return _megabytes(free, language), _t("free"), " · ".join(parts[:4])


def _models(facts: Mapping[str, Any]) -> str:
    """Return which models a service has loaded; nothing when it did not say."""
    models = facts.get("models")
    if not isinstance(models, list):
        return ""
    names = [
        str(each.get("model") or each.get("name") or "") if isinstance(each, Mapping) else str(each)
        for each in models
    ]
    names = [name for name in names if name]
    return " · ".join(names[:3]) if names else _t("no model loaded")


def _address(facts: Mapping[str, Any]) -> str:
    """Return where a service was asked, as people write it: "localhost:17803"."""
    return str(facts.get("url") or "").partition("://")[2]


def _share(facts: Mapping[str, Any]) -> str:
    """Return how much of a disk is used, as `df` counts: of what users may have, rounded up."""
    free, total = _amount(facts, "free_bytes"), _amount(facts, "total_bytes")
    if free is None or not total:
        return ""
    used = _amount(facts, "used_bytes")
    used = max(total - free, 0.0) if used is None else used
    return _t("%(n)s in use") % {"n": percent(math.ceil(100 * used / ((used + free) or 1)))}


def forecast(facts: Mapping[str, Any], language: str) -> str:
    """Return when the disk is full if it goes on so: "full in ≈ 19 days"; else nothing."""
    seconds = _amount(facts, "full_in_seconds")
    if seconds is None:
        return ""
    return _t("full in ≈ %(span)s") % {"span": formats.span(seconds, language)}


def _amount(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(0.0, float(value))


def percent(value: float) -> str:
    """Return "91 %"."""
    return f"{round(value)}{formats.NBSP}%"


def measured(unit: str, value: float, language: str) -> str:
    """Return a number of a check with its unit: "184 ms", "91 %", "6,2 GB", "3"."""
    if unit == "ms":
        if value >= 10_000:
            return formats.duration(value / 1000, language)
        return f"{formats.number(round(value), language)}{formats.NBSP}ms"
    if unit == "%":
        return percent(value)
    if unit == "GB":
        return _megabytes(value * 1000, language)
    return formats.number(round(value), language)


def _megabytes(count: float, language: str) -> str:
    """Return an amount of memory or disk as sentences tell it: "50 MB", "6,2 GB"."""
    if round(count) < 1000:
        return f"{round(count)}{formats.NBSP}MB"
    return formats.size(round(count * 1_000_000), language)


def threshold(name: str, policy: Policy) -> float | None:
    """Return from where on a check warns, in its unit; None where it has no such number."""
    return {
        "gpu_service": policy.slow_ms,
        "ollama": policy.slow_ms,
        "vram": policy.vram_high_percent,
        "disk": policy.disk_low_gb,
    }.get(name)


# ── The past ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Past:
    """What a host's checks measured, oldest first, and in which states they were."""

    rows: list[charts.Row]
    states: list[Mapping[str, str]]


def past(host: str, since: datetime, until: datetime, coarsest: int) -> Past:
    """Return the rows of a time: of `coarsest` span, and of what is not yet summed up finer ones.

    Each time is taken once. Every span is kept for as long as any chart of it looks back.
    """
    wanted = Snapshot.objects.filter(host=host, at__lte=until).order_by("at")
    found: list[tuple[Any, ...]] = []
    for span in (each for each in (HOUR, FIVE_MINUTES, RAW) if each <= coarsest):
        edge = found[-1][1] + timedelta(seconds=found[-1][0]) if found else since
        rows = wanted.filter(span=span, at__gte=edge)
        # As text: most of it has been read before, see below.
        texts = (Cast(name, TextField()) for name in ("values", "states"))
        found += [(span, *row) for row in rows.values_list("at", "ticks", *texts)]
    rows_of = [
        charts.Row(at.timestamp() + span / 2, float(span), ticks, _values(values))
        for span, at, ticks, values, _states in found
    ]
    return Past(rows_of, [_states(row[4]) for row in found])


@lru_cache(256)
def _states(stored: str) -> Mapping[str, str]:
    """Return states by check; the same few come again and again."""
    read: dict[str, str] = json.loads(stored)
    return MappingProxyType(read)


@lru_cache(4096)
def _values(stored: str) -> Mapping[str, charts.Value]:
    """Return values by check as mean, least and most; those of a day and more are remembered."""
    found = {}
    for name, value in json.loads(stored).items():
        if isinstance(value, int | float):
            found[name] = (float(value), float(value), float(value))
        elif isinstance(value, list) and len(value) == 3:
            found[name] = (float(value[0]), float(value[1]), float(value[2]))
    return MappingProxyType(found)


def _until(now: datetime, length: timedelta, parts: int) -> datetime:
    """Return the end of a drawing: the next whole one of its `parts`, at or after `now`.

    So it looks the same until something new has been measured, and its parts stay where they are.
    """
    part = length.total_seconds() / parts
    return datetime.fromtimestamp(math.ceil(now.timestamp() / part) * part, UTC)


def _longest(frame: charts.Frame, points: int) -> float:
    """Return from how many seconds without a measurement on a line is parted."""
    return max(LATE * settings.TICK_SECONDS, (frame.end - frame.start) / points)


def _frame(
    check: Check,
    rows: Iterable[charts.Row],
    times: tuple[datetime, datetime],
    limit: float | None = None,
) -> charts.Frame:
    """Return the frame of a check's drawing. `limit` is to be in it even if no value is near."""
    begun, ended = (at.timestamp() for at in times)
    if check.unit == "%":
        whole = charts.Scale(0, 100, (0, 25, 50, 75, 100))
        return charts.Frame(begun, ended, whole)
    each = [row.values[check.name] for row in rows if check.name in row.values]
    most = max((value[2] for value in each), default=0.0)
    least = min((value[1] for value in each), default=0.0)
    if check.unit == "GB":
        # A free disk is a large number that hardly moves: what moves is shown, noise is not.
        room = max(most * 0.02, 1.0)
        if most - least < room:
            middle = (most + least) / 2
            least, most = middle - room / 2, middle + room / 2
        least, most = min(least, most if limit is None else limit), max(most, limit or 0)
        return charts.Frame(begun, ended, charts.scale(max(0.0, least), most))
    most = max(most, limit or 0.0, 3.0 if not check.unit else 10.0)
    return charts.Frame(begun, ended, charts.scale(0, most, whole=not check.unit))


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Range:
    """How far back the charts of the system page look."""

    key: str
    label: str | Promise
    spoken: str | Promise
    length: timedelta
    coarsest: int
    step: timedelta  # of a table


RANGES = {
    one.key: one
    for one in (
        Range("1h", _("1 h"), _("the last hour"), timedelta(hours=1), RAW, timedelta(minutes=1)),
        Range("24h", _("24 h"), _("the last 24 hours"), timedelta(days=1), RAW, timedelta(hours=1)),
        Range(
            *("7d", _("7 d"), _("the last 7 days")),
            *(timedelta(days=7), FIVE_MINUTES, timedelta(hours=6)),
        ),
        Range(
            *("30d", _("30 d"), _("the last 30 days")),
            *(timedelta(days=30), HOUR, timedelta(days=1)),
        ),
    )
}
DEFAULT_RANGE = "24h"


@dataclass(frozen=True)
class Label:
    """A word beside an axis, and where it stands on it: "12.5%"."""

    place: str
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class TableRow:
    """What a check measured in one step of a table; None where it measured nothing."""

    at: datetime
    mean: str | None
    least: str | None
    most: str | None


@dataclass(frozen=True)
class Chart:
    """One check over the range: its drawing, its axis, and the same in words and numbers."""

    check: Check
    drawing: charts.Drawing
    labels: list[Label]
    grid: str
    limit: Label | None
    limit_line: str
    trouble: Mapping[str, str]  # shading by tone
    summary: str
    now: str
    quantity: str
    cause: str
    said: str
    series: str
    is_empty: bool
    table: list[TableRow] | None = None


@dataclass(frozen=True)
class Charts:
    """All charts of a range, on one axis of time."""

    range: Range
    charts: list[Chart]
    start: datetime
    end: datetime
    instants: list[Label]
    idle: str
    runs: str
    times: str
    runs_cut: bool
    is_empty: bool
    shows_band: bool


def drawn(chosen: Range, tables: Iterable[str], now: datetime, language: str) -> Charts:
    """Return the charts of a range; `tables` names the checks whose numbers are wanted too."""
    here, wanted = Here.at(now, language), set(tables)
    end = _until(now, chosen.length, POINTS)
    start = end - chosen.length
    known = past(here.node.host, start, now, chosen.coarsest) if here.node else Past([], [])
    frame = charts.Frame(start.timestamp(), end.timestamp())
    thinned = charts.thin(known.rows, frame.start, frame.end, POINTS)
    runs, cut = run_times(start)
    shown = [
        replace(
            _chart(check, chosen, known, thinned, (start, end), here),
            table=_table(check, chosen, known.rows, here) if check.name in wanted else None,
        )
        for check in CHECKS.values()
    ]
    idle = idle_times(here.node, start, now) if here.node else []
    return Charts(
        range=chosen,
        charts=shown,
        start=start,
        end=end,
        instants=_instants(frame, now, language),
        idle=charts.stripes(idle, frame),
        runs=charts.stripes([(a, b or now.timestamp()) for a, b in runs], frame, 965, 35),
        times=",".join(str(round(row.at - frame.start)) for row in thinned),
        runs_cut=cut,
        is_empty=all(chart.is_empty for chart in shown),
        shows_band=any(chart.drawing.band for chart in shown),
    )


def _chart(  # noqa: PLR0913, PLR0917 - all that one chart is made of
    check: Check,
    chosen: Range,
    known: Past,
    thinned: Sequence[charts.Row],
    times: tuple[datetime, datetime],
    here: Here,
) -> Chart:
    limit = threshold(check.name, here.policy)
    frame = _frame(check, thinned, times)
    longest = _longest(frame, POINTS)
    each = [(row.weight, row.values[check.name]) for row in thinned if check.name in row.values]
    reading, language = here.readings.get(check.name), here.language
    number, quantity, cause = _told(check, reading, language) if reading else ("", "", "")
    inside = limit is not None and frame.scale.low <= limit <= frame.scale.high
    return Chart(
        check=check,
        drawing=charts.draw(thinned, check.name, frame, longest),
        labels=[
            Label(
                _place(frame.scale.y(tick), charts.HEIGHT),
                _axis(check.unit, tick, frame.scale, language),
            )
            for tick in frame.scale.ticks
        ],
        grid="".join(f"M0 {frame.scale.y(tick)}H{charts.WIDTH}" for tick in frame.scale.ticks),
        limit_line="" if limit is None else f"M0 {frame.scale.y(limit)}H{charts.WIDTH}",
        limit=Label(
            _place(frame.scale.y(limit), charts.HEIGHT),
            measured(check.unit, limit, language),
            "below" if frame.scale.y(limit) < charts.HEIGHT * 0.15 else "above",
        )
        if inside and limit is not None and each
        else None,
        trouble=_trouble(check.name, known, frame, longest),
        summary=_summary(check, chosen, each, language),
        now=number,
        quantity=quantity,
        cause=cause,
        said=reading.said if reading else "",
        series=_series(check, thinned),
        is_empty=not each,
    )


def _place(at: int, length: int) -> str:
    return f"{at * 100 / length:g}%"


def _axis(unit: str, value: float, scale: charts.Scale, language: str) -> str:
    """Return a round value beside an axis; the topmost one says the unit of all."""
    decimals = scale.decimals if unit != "%" else 0
    written = f"{value:.{decimals}f}" if decimals else formats.number(round(value), language)
    if decimals and language == "de":
        written = written.replace(".", ",")
    return f"{written}{formats.NBSP}{unit}" if unit and value == scale.high else written


def _summary(
    check: Check, chosen: Range, each: Sequence[tuple[int, charts.Value]], language: str
) -> str:
    """Return a chart in one sentence, for those who don't see it."""
    facts: dict[str, Any] = {"what": check.title, "when": chosen.spoken}
    if not each:
        return _t("%(what)s, %(when)s: nothing was measured.") % facts
    weight = sum(n for n, _ in each)
    facts["mean"] = measured(check.unit, sum(n * v[0] for n, v in each) / weight, language)
    facts["least"] = measured(check.unit, min(v[1] for _, v in each), language)
    facts["most"] = measured(check.unit, max(v[2] for _, v in each), language)
    return _t("%(what)s, %(when)s: %(mean)s on average, from %(least)s to %(most)s.") % facts


def _series(check: Check, rows: Iterable[charts.Row]) -> str:
    """Return the values for the script, "84,85/40/420,,90": mean, mean/least/most, or nothing."""
    digits = {"ms": 0, "%": 1, "GB": 2, "": 1}[check.unit]

    def short(value: float) -> str:
        return f"{round(value, digits):g}" if digits else str(round(value))

    found = []
    for row in rows:
        value = row.values.get(check.name)
        if value is None:
            found.append("")
        elif short(value[1]) == short(value[2]):
            found.append(short(value[0]))
        else:
            found.append("/".join(map(short, value)))
    return ",".join(found)


TONES = {Level.WARN: "is-warn", Level.BAD: "is-fail", Level.UNKNOWN: "is-quiet"}
TONES_OF = {str(state): TONES.get(level) for state, level in LEVELS.items()}


def _trouble(name: str, known: Past, frame: charts.Frame, longest: float) -> dict[str, str]:
    """Return the times in which a check was not well, as shading by tone."""
    times: dict[str, list[tuple[float, float]]] = {}
    for place, (row, states) in enumerate(zip(known.rows, known.states, strict=True)):
        state = states.get(name)
        if state is None or state not in TONES_OF:
            continue
        tone = TONES_OF[state]
        if tone is None:
            continue
        # A tick stands until the next one.
        begun = row.at - row.length / 2
        ended = row.at + row.length / 2
        if place + 1 < len(known.rows) and not row.length:
            ended = min(known.rows[place + 1].at, begun + longest)
        times.setdefault(tone, []).append((begun, ended))
    return {tone: charts.stripes(each, frame) for tone, each in times.items()}


def _instants(frame: charts.Frame, now: datetime, language: str) -> list[Label]:
    """Return the words of the time axis, by the clock of who looks."""
    zone = timezone.get_current_timezone()
    found = []
    for at in charts.instants(frame.start, frame.end, zone):
        midnight = (at.hour, at.minute) == (0, 0)
        text = f"{at:%H:%M}"
        if midnight:
            # Weekdays tell the days of a week apart, not those of a month.
            seen_from = now if frame.end - frame.start < 8 * 86_400 else at - timedelta(days=8)
            text = formats.short_moment(at, seen_from, zone, language).removesuffix(" 00:00")
            if at.date() == now.astimezone(zone).date():
                text = formats.WORDS[language]["today"]
        x = frame.x(at.timestamp())
        anchor = "start" if x < 30 else "end" if x > 970 else "middle"
        found.append(Label(_place(x, charts.WIDTH), text, anchor))
    return found


def _table(check: Check, chosen: Range, rows: Sequence[charts.Row], here: Here) -> list[TableRow]:
    """Return a check's numbers, the newest first, in steps that begin by the clock."""
    step, now, language = chosen.step, here.now, here.language
    zone = timezone.get_current_timezone()
    begin = now.astimezone(zone).replace(second=0, microsecond=0)
    if step >= timedelta(hours=1):
        hours = int(step.total_seconds() // 3600)
        begin = begin.replace(minute=0, hour=0 if hours >= 24 else begin.hour - begin.hour % hours)
    ats = [row.at for row in rows]
    found = []
    ended = now.timestamp() + 1  # what is measured right now belongs to it
    while ended > (now - chosen.length).timestamp():
        begun = begin.timestamp()
        first, last = bisect_left(ats, begun), bisect_left(ats, ended)
        each = [
            (row.weight, row.values[check.name])
            for row in rows[first:last]
            if check.name in row.values
        ]
        numbers: list[str | None] = [None, None, None]
        if each:
            weight = sum(n for n, _ in each)
            whole = (
                sum(n * v[0] for n, v in each) / weight,
                min(v[1] for _, v in each),
                max(v[2] for _, v in each),
            )
            numbers = [measured(check.unit, value, language) for value in whole]
        found.append(TableRow(begin.astimezone(UTC), *numbers))
        # By the clock, not by seconds: an hour that comes twice is one step, a missing one none.
        ended = begun
        while begin.timestamp() >= ended:
            begin = (begin.replace(tzinfo=None) - step).replace(tzinfo=zone)
    return found


# ── Shading ──────────────────────────────────────────────────────────────────────────────────────
def last_sign(node: Node, now: datetime) -> datetime:
    """Return until when the daemon of a host has seen what it says: `now` while it speaks."""
    newest = Snapshot.objects.newest(now, node.host)
    if speaks_of_now(node, newest, now):
        return now
    return min(node.seen_at, newest.at if newest else now, now)


def idle_times(node: Node, since: datetime, now: datetime) -> list[tuple[float, float]]:
    """Return when the host of `node` was idle, in seconds since 1970, as far as it was seen."""
    until = last_sign(node, now)
    spans = IdleSpan.objects.filter(host=node.host, idle=True, began_at__lte=until)
    spans = spans.exclude(ended_at__lt=since).order_by("-began_at")[:MOST_RUNS]
    return [
        (began.timestamp(), (ended or until).timestamp())
        for began, ended in spans.values_list("began_at", "ended_at")
    ]


def run_times(since: datetime) -> tuple[list[tuple[float, float | None]], bool]:
    """Return when the newest runs ran, None for those that still do, and if older ones are left.

    A run that made way has run several times.
    """
    rows: list[tuple[str | None, str | None]] = []
    # As text: so many instants are read several times as fast so.
    texts = [Cast(name, TextField()) for name in ("started_at", "ended_at")]
    for newest in (Run.objects, Attempt.objects):
        rows += newest.order_by("-id").values_list(*texts)[:MOST_RUNS]
    times = [
        (_seconds(began), _seconds(ended) if ended else None) for began, ended in rows if began
    ]
    start = since.timestamp()
    found = [(began, ended) for began, ended in times if ended is None or ended >= start]
    oldest = min((began for began, _ended in times), default=start)
    return found, len(rows) >= MOST_RUNS and oldest > start


def _seconds(text: str) -> float:
    """Return an instant as a database writes it, in UTC, in seconds since 1970."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

"""The calendar: what is planned to start in a week, or on a day of it, and where there is room."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import groupby, pairwise
from math import ceil, sqrt
from typing import Self
from urllib.parse import parse_qs, urlencode

from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import forecast, formats
from daemon_app.forecast import Forecast, Plan, Start
from daemon_app.tiles.regions import Context, Viewer, current_language, region
from daemon_app.tiles.rows import rules

DAYS = 7
AHEAD = 364  # days; further ahead nobody plans by the hour
PER_DAY = 10  # starts that a week shows of each day
LOOKED_AT = 250  # of today, what has started is among them
PER_PAGE = 200  # starts that a day shows at once
FREQUENT = 8
LEVELS = 5
MOST_OF_A_DAY = 1_000  # starts that are looked at for a page
EVERY_MINUTE = 24 * 60 * 60  # nothing starts more often a day
ROOM = 3  # times with room that are named
ENOUGH = timedelta(hours=2)
HOUR = forecast.HOUR
HOUR_NUMBER = re.compile(r"[01]?[0-9]|2[0-3]")


# ── What the address asks for ────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Shown:
    """What the calendar shows: the week from a day on; or one day, of it one hour, or from a time.

    Days are those of the current time zone, and none lies in the past.
    """

    week: date
    day: date | None = None
    hour: int | None = None
    since: time | None = None

    @classmethod
    def read(cls, query: str | None, today: date) -> Self:
        """Return what a query string asks for; nonsense in it counts as nothing."""
        asked = parse_qs((query or "")[:200])
        words = {name: asked.get(name, [""])[-1] for name in ("from", "day", "hour", "at")}
        hour = words["hour"]
        since = None
        with suppress(ValueError):
            since = time.fromisoformat(words["at"]).replace(tzinfo=None)
        return cls(
            _day(words["from"], today) or today,
            _day(words["day"], today),
            int(hour) if HOUR_NUMBER.fullmatch(hour) else None,
            since,
        )

    def query(
        self,
        *,
        week: date | None = None,
        day: date | None = None,
        hour: int | None = None,
        at: time | None = None,
    ) -> str:
        """Return the query string of a week, or of a day of it, of an hour, or from a time on."""
        words = {
            "from": None if day else (week or self.week).isoformat(),
            "day": day.isoformat() if day else None,
            "hour": hour,
            "at": f"{at:%H:%M}" if at else None,
        }
        return urlencode({name: word for name, word in words.items() if word is not None})


def _day(text: str, today: date) -> date | None:
    """Return a day of the coming year; None for anything else. The past counts as today."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return min(max(found, today), today + timedelta(days=AHEAD))


def midnight(day: date, here: tzinfo) -> datetime:
    """Return the instant at which a day begins, in UTC: distances are real time there."""
    return datetime.combine(day, time(), here).astimezone(UTC)


# ── Pieces ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Entry:
    """One planned start as a list shows it, or several of the same job from then on."""

    at: datetime
    plan: Plan
    usual: float | None  # seconds
    words: str = ""
    times: int = 1  # that day


@dataclass(frozen=True)
class Cell:
    """One hour of the heatmap. `state`: "past", "now", "gap" where the clocks leave it out."""

    hour: int
    count: int
    level: int  # 0 for none, up to LEVELS
    query: str
    words: str
    state: str = ""

    @property
    def short(self) -> str:
        """How many, in the room of a cell: "12", "1,7k"."""
        return shortened(self.count, current_language())


@dataclass(frozen=True)
class Day:
    """One day of the week; `more` starts of it are not among `entries`."""

    at: datetime
    name: str  # "Heute", "Mi"
    number: str  # "25."
    cells: Sequence[Cell]
    total: int
    entries: Sequence[Entry]
    more: int
    query: str


@dataclass(frozen=True)
class Often:
    """A job that starts too often to be listed."""

    plan: Plan
    words: str
    count: int


def shortened(count: int, language: str) -> str:
    """Return a number in at most four characters: "840", "1,7k", "60k", "6M".

    >>> [shortened(n, "en") for n in (0, 999, 1_700, 60_000, 999_999, 6_000_000)]
    ['0', '999', '1.7k', '60k', '1M', '6M']
    """
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size * 0.9995:
            value = count / size
            written = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            written = written.removesuffix(".0")
            return (written.replace(".", ",") if language == "de" else written) + unit
    return str(count)


def level(count: int, lowest: int, highest: int) -> int:
    """Return how strongly an hour is drawn: 0 without starts, else from 1 to LEVELS.

    Where each hour has its frequent jobs, the strength is what comes on top of the quietest hour.
    The square root lets a few be seen beside many.

    >>> [level(n, 0, 100) for n in (0, 1, 10, 50, 100)]
    [0, 1, 2, 4, 5]
    >>> [level(n, 16, 20) for n in (16, 17, 20)]
    [1, 3, 5]
    >>> [level(n, 32_600, 32_610) for n in (32_600, 32_610)]
    [1, 1]
    """
    if not count or lowest == highest:
        return min(count, 2)
    # A difference that is small beside the numbers is none to be seen.
    above = sqrt((count - lowest) / max(highest - lowest, highest / 10))
    return 1 + round((LEVELS - 1) * above) if lowest else ceil(LEVELS * above)


# ── The week ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Hour:
    """One hour by the clock: its day, when it begins, and how many starts it brings."""

    day: date
    begins: datetime
    count: int


@region("calendar", topics=("jobs", "policy"))
def week(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the week that the query string `arg` asks for: a heatmap, and the starts of each day.

    What has started today is not planned any more.
    """
    here, language = timezone.get_current_timezone(), current_language()
    today = now.astimezone(here).date()
    shown = Shown.read(arg, today)
    dates = [shown.week + timedelta(days=n) for n in range(DAYS)]
    bounds = [midnight(each, here) for each in (*dates, dates[-1] + timedelta(days=1))]
    spans = forecast.planned_by_span(_cut(bounds, now), LOOKED_AT)
    clock = _by_clock(spans, here)
    ahead = [hour for hour in clock.values() if hour.begins + HOUR > now]
    lowest = min((hour.count for hour in ahead), default=0)
    highest = max((hour.count for hour in ahead), default=0)
    coming = [
        [span for span in spans if span.end > now and begin <= span.start < end]
        for begin, end in pairwise(bounds)
    ]
    told = [
        [start for span in several for start in span.starts if start.at >= now]
        for several in coming
    ]
    left_off = [sum(span.left_off for span in several) for several in coming]
    first = [
        _first_starts(starts, is_whole=not more)
        for starts, more in zip(told, left_off, strict=True)
    ]
    usual = forecast.usual_lengths(start.plan.id for starts in first for start, _times in starts)
    often, counted = _often(span for several in coming for span in several)
    return {
        "shown": shown,
        "days": [
            Day(
                at=bounds[place],
                name=_name(day, today, language),
                number=f"{day.day}." if language == "de" else str(day.day),
                cells=[
                    _cell(shown, day, number, clock.get((day, number)), (lowest, highest), now)
                    for number in range(24)
                ],
                total=sum(hour.count for hour in ahead if hour.day == day),
                entries=[
                    Entry(
                        start.at,
                        start.plan,
                        about(usual.get(start.plan.id), coarse=True),
                        times=times,
                    )
                    for start, times in first[place]
                ],
                more=left_off[place]
                + len(told[place])
                - sum(times for _start, times in first[place]),
                query=shown.query(day=day),
            )
            for place, day in enumerate(dates)
        ],
        "hours": range(24),
        "total": sum(hour.count for hour in ahead),
        "often": often[:FREQUENT],
        "often_more": max(0, counted - FREQUENT),
        "any": highest > 0 or bool(forecast.plans()),
        "held": rules(now).is_held,
        "levels": range(LEVELS + 1),
        **_remarks(ahead, now, here, language),
    }


def _cut(bounds: Sequence[datetime], now: datetime) -> list[datetime]:
    """Return the bounds of days, with those of the hour we are in among them.

    What has started in it may fill its list; the hours after it then have one of their own.
    """
    if not bounds[0] <= now < bounds[1]:
        return [*bounds]
    this = bounds[0] + (now - bounds[0]) // HOUR * HOUR
    return sorted({*bounds, this, min(this + HOUR, bounds[1])})


def _by_clock(spans: Iterable[Forecast], here: tzinfo) -> dict[tuple[date, int], Hour]:
    """Return the hours by day and number; one that comes twice is one, one left out is missing."""
    found: dict[tuple[date, int], Hour] = {}
    for span in spans:
        for place, count in enumerate(span.per_hour):
            begins = span.start + place * HOUR
            local = begins.astimezone(here)
            known = found.get((local.date(), local.hour), Hour(local.date(), begins, 0))
            found[local.date(), local.hour] = replace(known, count=known.count + count)
    return found


def _cell(  # noqa: PLR0913, PLR0917 - the facts of one cell
    shown: Shown, day: date, number: int, hour: Hour | None, bounds: tuple[int, int], now: datetime
) -> Cell:
    if hour is None:
        return Cell(number, 0, 0, "", _t("This hour is left out: the clocks go forward."), "gap")
    if hour.begins + HOUR <= now:
        return Cell(number, 0, 0, "", _t("over"), "past")
    said = ngettext("%(n)s start", "%(n)s starts", hour.count)
    count = formats.number(hour.count, current_language())
    return Cell(
        number,
        hour.count,
        level(hour.count, *bounds),
        shown.query(day=day, hour=number),
        f"{number:02}:00–{(number + 1) % 24:02}:00 · {said % {'n': count}}",
        "now" if hour.begins <= now else "",
    )


def _first_starts(told: Sequence[Start], *, is_whole: bool) -> list[tuple[Start, int]]:
    """Return the starts that a day shows first, each job once and how often where that is known."""
    if not is_whole:
        return [(start, 1) for start in told[:PER_DAY]]
    times = Counter(start.plan for start in told)
    first = {start.plan: start for start in reversed(told)}
    kept = sorted(first.values(), key=lambda start: (start.at, start.plan.name))
    return [(start, times[start.plan]) for start in kept[:PER_DAY]]


def about(seconds: float | None, *, coarse: bool = False) -> float | None:
    """Return a usual length without the precision it does not have: whole minutes from one on.

    `coarse` gives whole hours from one on, for a narrow column.
    """
    if seconds is None or seconds < 60:
        return seconds
    unit = 3600 if coarse and seconds >= 3600 else 60
    return round(seconds / unit) * unit


def _often(spans: Iterable[Forecast]) -> tuple[list[Often], int]:
    """Return the jobs that start too often to be listed, with the most first, and how many."""
    counts: Counter[Plan] = Counter()
    most = 0
    for span in spans:
        most = max(most, span.counted)
        for each in span.frequent[:LOOKED_AT]:
            counts[each.plan] += each.count
    first = sorted(counts, key=lambda plan: (-counts[plan], plan.name))[:FREQUENT]
    language = current_language()
    found = [Often(plan, plan.describe(language), counts[plan]) for plan in first]
    return found, max(most, len(counts))


def _remarks(ahead: Sequence[Hour], now: datetime, here: tzinfo, language: str) -> Context:
    """Return when there is room, and when the most starts, in words."""
    fullest = max(ahead, key=lambda hour: hour.count, default=None)
    rooms = room([(hour.begins, hour.count) for hour in ahead])
    return {
        "rooms": [stretch(begin, end, now, here, language) for begin, end, _n in rooms],
        "room_count": max((count for _begin, _end, count in rooms), default=0),
        "fullest": stretch(fullest.begins, fullest.begins + HOUR, now, here, language)
        if fullest and rooms
        else "",
        "fullest_count": fullest.count if fullest else 0,
    }


def room(hours: Sequence[tuple[datetime, int]]) -> list[tuple[datetime, datetime, int]]:
    """Return the longest times with the fewest starts an hour: begin, end, and at most how many.

    None where every hour is about alike. A time of two hours at least is looked for, if need be
    among hours that are not the emptiest.
    """
    counts = [count for _begins, count in hours]
    highest = max(counts, default=0)
    if highest - min(counts, default=0) < max(1, highest / 10):
        return []
    found: list[tuple[datetime, datetime, int]] = []
    for most in sorted(set(counts)):
        found = []
        for fits, several in groupby(range(len(hours)), key=lambda n: hours[n][1] <= most):
            places = list(several)
            if fits:
                after = places[-1] + 1
                end = hours[after][0] if after < len(hours) else hours[-1][0] + HOUR
                found.append((hours[places[0]][0], end, max(hours[n][1] for n in places)))
        if any(end - begin >= ENOUGH for begin, end, _most in found):
            break
    longest = sorted(found, key=lambda each: (each[0] - each[1], each[0]))[:ROOM]
    return sorted(longest)


def stretch(begin: datetime, end: datetime, now: datetime, here: tzinfo, language: str) -> str:
    """Return from when to when, in words: "heute 15:00–18:00", "So 22:00 – Mo 03:00"."""
    said = formats.moment(begin, now, here, language)
    last = end.astimezone(here)
    if (end - timedelta.resolution).astimezone(here).date() == begin.astimezone(here).date():
        return f"{said}–{'24:00' if last.hour == last.minute == 0 else f'{last:%H:%M}'}"
    return f"{said} – {formats.moment(end, now, here, language)}"


def _name(day: date, today: date, language: str) -> str:
    """Return the short name of a day: "Heute", "Morgen", "Mi"."""
    word = {0: "today", 1: "tomorrow"}.get((day - today).days)
    if word:
        return formats.WORDS[language][word].capitalize()
    return formats.SHORT_WEEKDAYS[language][day.weekday()]


# ── One day ──────────────────────────────────────────────────────────────────────────────────────
@region("calendar-day", topics=("jobs", "policy"))
def one_day(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the planned starts of one day, or of one hour of it, by the query string `arg`.

    Those of today, when it names no day.
    """
    here, language = timezone.get_current_timezone(), current_language()
    today = now.astimezone(here).date()
    shown = Shown.read(arg, today)
    day = shown.day or today
    shown = replace(shown, day=day)
    begin, end = midnight(day, here), midnight(day + timedelta(days=1), here)
    spans = forecast.planned_by_span(_cut([begin, end], now), LOOKED_AT)
    clock = _by_clock(spans, here)
    ahead = [hour for hour in clock.values() if hour.begins + HOUR > now]
    lowest = min((hour.count for hour in ahead), default=0)
    highest = max((hour.count for hour in ahead), default=0)
    first, last = begin, end
    if shown.hour is not None:
        hour = clock.get((day, shown.hour))
        first = hour.begins if hour else end
        last = _end_of(first, here) if hour else end
    page = _page(first, last, shown, now, here)
    usual = forecast.usual_lengths(start.plan.id for start in page.starts)
    often = page.found.frequent
    return {
        "shown": shown,
        "cells": [
            _cell(shown, day, number, clock.get((day, number)), (lowest, highest), now)
            for number in range(24)
        ],
        "hours": range(24),
        "entries": [
            Entry(
                start.at,
                start.plan,
                about(usual.get(start.plan.id)),
                start.plan.describe(language),
            )
            for start in page.starts
        ],
        "beside": page.beside,
        "further": shown.query(day=day, hour=shown.hour, at=page.further) if page.further else None,
        "whole_day": shown.query(day=day),
        "total": page.total,
        "often": [
            Often(each.plan, each.plan.describe(language), each.count) for each in often[:FREQUENT]
        ],
        "often_more": max(0, page.found.counted - FREQUENT),
        "held": rules(now).is_held,
        "any": highest > 0 or bool(forecast.plans()),
        "levels": range(LEVELS + 1),
    }


def _end_of(begins: datetime, here: tzinfo) -> datetime:
    """Return when the hour by the clock is over that begins then; one that comes twice is long."""
    local = begins.astimezone(here)
    end = begins + HOUR
    while end.astimezone(here).hour == local.hour:
        end += HOUR
    return end


@dataclass(frozen=True)
class Page:
    """A part of a long list.

    beside    how many more start in the minute of the last one, where one minute fills a page
    further   the time from which the next page is to be asked for
    """

    starts: Sequence[Start]
    found: Forecast
    total: int
    beside: int = 0
    further: time | None = None


def _page(first: datetime, last: datetime, shown: Shown, now: datetime, here: tzinfo) -> Page:
    """Return the starts from `first` up to `last` that fit a page, from the time asked for on."""
    whole = forecast.planned(first, last, MOST_OF_A_DAY)
    found = whole
    if shown.since and shown.day:
        begin = datetime.combine(shown.day, shown.since, here)
        begin = max(first, min(last, begin.astimezone(UTC)))
        found = forecast.planned(begin, last, MOST_OF_A_DAY)
    starts = [start for start in found.starts if start.at >= now]
    passed = len(found.starts) - len(starts)
    total = found.listed - passed
    if len(starts) <= PER_PAGE and not found.left_off:
        return Page(starts, whole, total)
    cut = starts[PER_PAGE].at if len(starts) > PER_PAGE else found.told_until
    minute = cut.replace(second=0, microsecond=0)
    fit = [start for start in starts[:PER_PAGE] if start.at < minute]
    if fit:
        return Page(fit, whole, total, further=minute.astimezone(here).time())
    # One minute fills more than a page: the rest of it is told as a number.
    after = minute + timedelta(minutes=1)
    here_too = forecast.occurrences(forecast.plans(), minute, after, PER_PAGE, EVERY_MINUTE)
    further = after.astimezone(here).time() if after < last else None
    return Page(here_too.starts, whole, total, here_too.left_off, further)

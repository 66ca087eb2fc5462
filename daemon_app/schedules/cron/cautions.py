"""What is legal in a cron expression and may still surprise."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from daemon_app.schedules import zones
from daemon_app.schedules.cron.words import (
    days_restrict_each_other,
    either_day,
    either_weekday,
    restricts_day,
)
from daemon_app.schedules.language import (
    LANGUAGES,
    OR,
    at_times,
    calendar_date,
    time_of,
)
from daemon_app.schedules.schedule import ScheduleWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from zoneinfo import ZoneInfo

    from daemon_app.schedules.cron.grammar import Field, Fields
    from daemon_app.schedules.cron.matching import Matcher
    from daemon_app.schedules.language import Both

AHEAD: Final = timedelta(days=396)
"""Thirteen months: the same night next year is still told."""

TOLD_TIMES: Final = 4

# field: (unit in the plural, when the counting starts again), per language
CYCLES: Final = {
    "minute": {
        "de": ("Minuten", "jede Stunde", "nur zur Minute 0 jeder Stunde"),
        "en": ("minutes", "every hour", "only at minute 0 of each hour"),
    },
    "hour": {
        "de": ("Stunden", "jeden Tag", "nur in der Stunde 0"),
        "en": ("hours", "every day", "only in hour 0"),
    },
    "day": {
        "de": ("Tage", "jeden Monat", "nur am 1. des Monats"),
        "en": ("days", "every month", "only on the 1st of the month"),
    },
    "month": {
        "de": ("Monate", "jedes Jahr", "nur im Januar"),
        "en": ("months", "every year", "only in January"),
    },
    "weekday": {
        "de": ("Tage", "jede Woche", "nur am Sonntag"),
        "en": ("days", "every week", "only on Sunday"),
    },
}
SIZES: Final = {"minute": 60, "hour": 24, "day": 31, "month": 12, "weekday": 7}


def warnings(
    fields: Fields, matcher: Matcher, place: ZoneInfo, after: datetime, language: str
) -> list[ScheduleWarning]:
    """Return the warnings: days, steps, then clock changes by date."""
    found: list[tuple[str, Both, datetime | None]] = []
    found.extend((code, both, None) for code, both in _days(fields))
    found.extend((code, both, None) for code, both in _steps(fields))
    found.extend(_clock(fields, matcher, place, after))
    return [ScheduleWarning(code, both, at, language) for code, both, at in found]


# ── days ──────────────────────────────────────────────────────────────────────
def _days(fields: Fields) -> Iterator[tuple[str, Both]]:
    if days_restrict_each_other(fields):
        yield _and(fields) if fields.both_days else _or(fields)
    elif not fields.both_days:
        # One of two alternatives is every day: the other one does nothing.
        yield (
            "day_or",
            {
                "de": "Läuft an jedem Tag: Tag oder Wochentag genügt, und eines davon trifft "
                "immer zu.",
                "en": "Runs on every day: day of month or weekday is enough, and one of them "
                "always matches.",
            },
        )
    elif _skips_short_months(fields):
        yield (
            "short_months",
            {
                "de": "Monate ohne diesen Tag werden übersprungen – den letzten Tag des Monats "
                "schreiben Sie „L“.",
                "en": "Months without this day are skipped – write “L” for the last day of "
                "the month.",
            },
        )


def _or(fields: Fields) -> tuple[str, Both]:
    both = {
        language: f"{either_day(fields.day, language)} {OR[language]} "
        f"{either_weekday(fields.weekday, language)}"
        for language in LANGUAGES
    }
    meant = _nth_meant(fields)
    de = f" Für beides zugleich schreiben Sie den Wochentag als „{meant}“." if meant else ""
    en = f" For both at once write the weekday as “{meant}”." if meant else ""
    return "day_or", {
        "de": f"Läuft {both['de']}: Eines von beiden genügt.{de}",
        "en": f"Runs {both['en']}: either one is enough.{en}",
    }


def _and(fields: Fields) -> tuple[str, Both]:
    both = {
        language: (either_day(fields.day, language), either_weekday(fields.weekday, language))
        for language in LANGUAGES
    }
    return "day_and", {
        "de": f"Läuft nur, wenn beides zutrifft ({both['de'][0]} und {both['de'][1]}), weil eines "
        "der beiden Tagesfelder mit „*“ beginnt.",
        "en": f"Runs only when both match ({both['en'][0]} and {both['en'][1]}), because one of "
        "the two day fields starts with “*”.",
    }


def _nth_meant(fields: Fields) -> str:
    """Return "1#1" for `1-7 … 1`, which people write for the first Monday; else empty."""
    days = fields.day.values
    week, rest = divmod(days[0] - 1, 7) if days else (0, 1)
    is_week = rest == 0 and days == tuple(range(days[0], days[0] + 7))
    alone = len(fields.weekday.values) == 1 and not fields.weekday.has_specials
    if fields.day.has_specials or not is_week or not alone or week > 3:
        return ""
    return f"{fields.weekday.text}#{week + 1}" if fields.weekday.text.isalnum() else ""


def _skips_short_months(fields: Fields) -> bool:
    days = fields.day
    if not restricts_day(fields) or days.has_specials or days.star or days.values[0] < 29:
        return False
    lengths = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return any(days.values[0] > lengths[month - 1] for month in fields.month.values) or (
        2 in fields.month.values
    )


# ── steps ─────────────────────────────────────────────────────────────────────
def _steps(fields: Fields) -> Iterator[tuple[str, Both]]:
    for name, field in zip(CYCLES, fields, strict=True):
        if field.step < 2 or field.step == SIZES[name]:
            continue
        if len(field.values) == 1 and field.star:
            yield _too_wide(name, field)
        elif len(field.values) > 1 and _is_uneven(name, field):
            yield _uneven(name, field)


def _is_uneven(name: str, field: Field) -> bool:
    """Whether the distance from the last value to the first one of the next round differs.

    Months have different lengths, so a step over their days always starts anew.
    """
    if name == "day":
        return True
    return field.values[0] + SIZES[name] - field.values[-1] != field.step


def _too_wide(name: str, field: Field) -> tuple[str, Both]:
    de, en = CYCLES[name]["de"], CYCLES[name]["en"]
    return "step_too_wide", {
        "de": f"„{field.text}“ heißt nicht „alle {field.step} {de[0]}“: {de[2]}. Für einen festen "
        "Abstand wählen Sie die Art „Alle …“ („interval“).",
        "en": f"“{field.text}” does not mean “every {field.step} {en[0]}”: {en[2]}. Choose the "
        "kind “Every …” (“interval”) for a fixed distance.",
    }


def _uneven(name: str, field: Field) -> tuple[str, Both]:
    de, en = CYCLES[name]["de"], CYCLES[name]["en"]
    return "uneven", {
        "de": f"Nicht immer {field.step} {de[0]} Abstand: „{field.text}“ beginnt {de[1]} von "
        "vorn. Für einen gleichmäßigen Abstand wählen Sie die Art „Alle …“ („interval“).",
        "en": f"Not always {field.step} {en[0]} apart: “{field.text}” starts again {en[1]}. "
        "Choose the kind “Every …” (“interval”) for an even distance.",
    }


# ── clock changes ─────────────────────────────────────────────────────────────
def _clock(
    fields: Fields, matcher: Matcher, place: ZoneInfo, after: datetime
) -> Iterator[tuple[str, Both, datetime | None]]:
    for change in zones.clock_changes(after, after + AHEAD, place):
        times = list(matcher.between(change.first_wall, change.end_wall))
        if not times:
            continue
        if fields.follows_real_time and _keeps_its_rhythm(fields, change):
            continue
        if change.is_gap:
            both = _missing(fields, matcher, change, times)
            yield "gap", both, change.at
        else:
            first = (change.first_wall - change.before).replace(tzinfo=UTC)
            yield "repeated", _repeated(fields, times), first


def _keeps_its_rhythm(fields: Fields, change: zones.ClockChange) -> bool:
    """Whether real time passes evenly through the change: nobody notices `*/5 * * * *`."""
    shift = change.shift // timedelta(minutes=1)
    moved = {(minute + shift) % 60 for minute in fields.minute.values}
    return len(fields.hour.values) == 24 and moved == set(fields.minute.values)


def _missing(
    fields: Fields, matcher: Matcher, change: zones.ClockChange, times: Sequence[datetime]
) -> Both:
    day = times[0].date()
    one = len(times) == 1
    end = time_of(change.end_wall)
    is_due_anyway = next(matcher.between(change.end_wall, _minute_after(change.end_wall)), None)
    if fields.follows_real_time:
        de = "dieser Lauf entfällt" if one else "diese Läufe entfallen"
        en = "this run does not take place" if one else "these runs do not take place"
    elif is_due_anyway is not None:
        de = f"es bleibt bei dem einen Lauf um {end} Uhr"
        en = f"there is just the one run at {end}"
    elif one:
        de, en = f"der Lauf startet um {end} Uhr", f"the run starts at {end}"
    else:
        de, en = f"dafür startet ein Lauf um {end} Uhr", f"one run starts at {end} instead"
    return {
        "de": f"Am {calendar_date(day, 'de')} gibt es {_told(times, 'de')} nicht – {de}.",
        "en": f"On {calendar_date(day, 'en')} there is no {_told(times, 'en')} – {en}.",
    }


def _repeated(fields: Fields, times: Sequence[datetime]) -> Both:
    day = times[0].date()
    one = len(times) == 1
    if fields.follows_real_time:
        de = "der Lauf startet beide Male" if one else "die Läufe starten beide Male"
        en = "the run starts both times" if one else "the runs start both times"
    else:
        de = "der Lauf startet" if one else "die Läufe starten"
        de += " nur beim ersten Mal"
        en = "the run starts" if one else "the runs start"
        en += " only the first time"
    comes = "comes" if one else "come"
    return {
        "de": f"Am {calendar_date(day, 'de')} gibt es {_told(times, 'de')} zweimal – {de}.",
        "en": f"On {calendar_date(day, 'en')} {_told(times, 'en')} {comes} twice – {en}.",
    }


def _minute_after(time: datetime) -> datetime:
    return time + timedelta(minutes=1)


def _told(times: Sequence[datetime], language: str) -> str:
    """Return a few times one by one, many as the stretch from the first to the last."""
    texts = [time_of(time) for time in itertools.islice(times, TOLD_TIMES + 1)]
    if len(texts) <= TOLD_TIMES:
        return at_times(texts, language)
    to = {"de": "bis", "en": "to"}[language]
    return at_times([f"{texts[0]} {to} {time_of(times[-1])}"], language)

"""A cron expression in words: "Montag bis Freitag um 03:30 Uhr".

Two halves, days and times. Common patterns are said as people say them; whatever is left is
listed completely. Different sets of times never have the same words.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from daemon_app.schedules.cron.grammar import LAST
from daemon_app.schedules.language import (
    AND,
    OR,
    SHORTEST_RUN,
    at_times,
    clock,
    listed,
    month,
    numbers,
    ordinal,
    runs,
    weekday,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon_app.schedules.cron.grammar import Field, Fields

FEW_TIMES: Final = 3
MORE_TIMES: Final = 6
SEVERAL: Final = 4

PLACES: Final = {
    "de": {1: "ersten", 2: "zweiten", 3: "dritten", 4: "vierten", 5: "fünften", LAST: "letzten"},
    "en": {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"},
}


def describe(fields: Fields, language: str) -> str:
    """Return when it runs, in words; `language` is "de" or "en"."""
    days = _days(fields, language)
    times = _times(fields.minute.values, fields.hour.values, language)
    if not days:
        if not times.startswith(("um ", "at ")):
            return times
        days = {"de": "täglich", "en": "every day"}[language]
    return f"{days} {times}"


# ── times of day ──────────────────────────────────────────────────────────────
def _times(minutes: Sequence[int], hours: Sequence[int], language: str) -> str:
    if len(hours) == 24:
        return _every_hour(minutes, language)
    if len(minutes) * len(hours) <= FEW_TIMES:
        return _at(minutes, hours, language)
    pattern = _in_steps(minutes, hours, language)
    if pattern:
        return pattern
    if len(minutes) * len(hours) <= MORE_TIMES:
        return _at(minutes, hours, language)
    within = _minutes(minutes, language)
    if language == "de":
        noun = "der Stunde" if len(hours) == 1 else "den Stunden"
        return f"in {noun} {numbers(hours, 'de')}, jeweils {within}"
    noun = "hour" if len(hours) == 1 else "hours"
    return f"in {noun} {numbers(hours, 'en')}, each time {within}"


def _every_hour(minutes: Sequence[int], language: str) -> str:
    if len(minutes) == 60:
        return {"de": "jede Minute", "en": "every minute"}[language]
    first, step = minutes[0], _even_step(minutes, 60)
    if step and first == 0:
        return {"de": f"alle {step} Minuten", "en": f"every {step} minutes"}[language]
    if step and len(minutes) >= SHORTEST_RUN:
        return {
            "de": f"alle {step} Minuten ab Minute {first}",
            "en": f"every {step} minutes from minute {first}",
        }[language]
    if tuple(minutes) == (0,):
        return {"de": "stündlich zur vollen Stunde", "en": "hourly on the hour"}[language]
    told = _minutes(minutes, language)
    if told.startswith(("zu", "at")):
        return {"de": f"stündlich {told}", "en": f"hourly {told}"}[language]
    return {"de": f"in jeder Stunde {told}", "en": f"in every hour {told}"}[language]


def _at(minutes: Sequence[int], hours: Sequence[int], language: str) -> str:
    texts = [clock(hour, minute) for hour in hours for minute in minutes]
    return {"de": "um ", "en": "at "}[language] + at_times(texts, language)


def _in_steps(minutes: Sequence[int], hours: Sequence[int], language: str) -> str:
    """Return the words for an even rhythm over the day or a part of it; empty if there is none."""
    start, end = clock(hours[0], minutes[0]), clock(hours[-1], minutes[-1])
    stretch = {"de": f"von {start} bis {end} Uhr", "en": f"from {start} to {end}"}[language]
    if len(runs(hours)) > 1:
        return _hours_in_steps(minutes, hours, stretch, language) if len(minutes) == 1 else ""
    step = _even_step(minutes, 60)
    if step:
        every = {"de": f"alle {step} Minuten", "en": f"every {step} minutes"}[language]
    elif len(minutes) == 60:
        every = {"de": "jede Minute", "en": "every minute"}[language]
    elif len(minutes) == 1:
        every = {"de": "stündlich", "en": "hourly"}[language]
    else:
        return ""
    return f"{every} {stretch}"


def _hours_in_steps(
    minutes: Sequence[int], hours: Sequence[int], stretch: str, language: str
) -> str:
    """Return "alle 2 Stunden" with what is needed to know which; empty for uneven hours."""
    step = _step(hours)
    if not step:
        return ""
    every = {"de": f"alle {step} Stunden", "en": f"every {step} hours"}[language]
    if not _even_step(hours, 24):
        return f"{every} {stretch}"
    if hours[0] == 0:
        return every if minutes[0] == 0 else f"{every} {_minutes(minutes, language)}"
    start = clock(hours[0], minutes[0])
    return every + {"de": f" ab {start} Uhr", "en": f" from {start}"}[language]


def _minutes(minutes: Sequence[int], language: str) -> str:
    """Return the minutes of an hour: "zu den Minuten 0, 25 und 50"."""
    if len(minutes) == 60:
        return {"de": "jede Minute", "en": "every minute"}[language]
    first, last = minutes[0], minutes[-1]
    step = _step(minutes)
    if step == 1 and len(minutes) >= SEVERAL:
        return {
            "de": f"jede Minute von Minute {first} bis {last}",
            "en": f"every minute from minute {first} to {last}",
        }[language]
    if step and len(minutes) >= SEVERAL:
        return {
            "de": f"alle {step} Minuten von Minute {first} bis {last}",
            "en": f"every {step} minutes from minute {first} to {last}",
        }[language]
    if len(minutes) == 1:
        return {"de": f"zur Minute {first}", "en": f"at minute {first}"}[language]
    told = numbers(minutes, language)
    return {"de": f"zu den Minuten {told}", "en": f"at minutes {told}"}[language]


def _step(values: Sequence[int]) -> int:
    """Return the distance of at least three evenly spaced values, else 0."""
    if len(values) < SHORTEST_RUN:
        return 0
    step = values[1] - values[0]
    even = all(b - a == step for a, b in itertools.pairwise(values))
    return step if even else 0


def _even_step(values: Sequence[int], cycle: int) -> int:
    """Return the distance of values evenly spaced also from one cycle to the next, else 0."""
    if len(values) < 2 or cycle % len(values):
        return 0
    step = cycle // len(values)
    if step == 1:
        return 0
    return step if list(values) == list(range(values[0], cycle, step)) else 0


# ── days ──────────────────────────────────────────────────────────────────────
def _days(fields: Fields, language: str) -> str:
    """Return the days; empty when every day of the year matches."""
    months = _months(fields.month.values, language)
    if days_restrict_each_other(fields):
        start = f"{months} " if months else ""
        if fields.both_days:
            day = _days_of_month(fields, language, named=True)
            return f"{start}{day}, {_only_on(fields.weekday, language)},"
        day = either_day(fields.day, language)
        return f"{start}{day} {OR[language]} {_weekdays(fields.weekday, '', language)}"
    if restricts_day(fields):
        return _days_of_month(fields, language, named=False)
    if restricts_weekday(fields):
        return _weekdays(fields.weekday, months, language)
    if not months:
        return ""
    return months + {"de": " täglich", "en": " every day"}[language]


def restricts_day(fields: Fields) -> bool:
    """Whether the day of month excludes any day at all, given how the fields combine."""
    return not fields.every_day and (fields.both_days or not fields.every_weekday)


def restricts_weekday(fields: Fields) -> bool:
    """Whether the weekday excludes any day at all, given how the fields combine."""
    return not fields.every_weekday and (fields.both_days or not fields.every_day)


def days_restrict_each_other(fields: Fields) -> bool:
    """Whether both day fields say something, so that AND or OR matters."""
    return restricts_day(fields) and restricts_weekday(fields)


def _months(values: Sequence[int], language: str) -> str:
    """Return "im Januar und Juli" / "in January and July"; empty for all months."""
    if len(values) == 12:
        return ""
    names = [month(value, language) for value in values]
    if len(runs(values)) == 1 and len(values) >= SHORTEST_RUN:
        return {
            "de": f"von {names[0]} bis {names[-1]}",
            "en": f"from {names[0]} to {names[-1]}",
        }[language]
    return {"de": "im ", "en": "in "}[language] + listed(names, AND, language)


def _days_of_month(fields: Fields, language: str, *, named: bool) -> str:
    """Return "am 1. und 15. jedes Monats"; `named` when the months are said elsewhere."""
    day, months = fields.day, fields.month.values
    pieces = _day_pieces(day, language)
    told = listed(pieces, AND, language)
    all_months = len(months) == 12
    if all_months or named:
        if language == "de":
            return told + (" jedes Monats" if day.values else " des Monats")
        return told + (" of every month" if day.values and not named else " of the month")
    names = [month(value, language) for value in months]
    if len(months) == 1 and day.values and not day.has_specials:
        return {"de": f"{told} {names[0]}", "en": f"{told} of {names[0]}"}[language]
    return f"{told} {_months(months, language)}"


def _day_pieces(day: Field, language: str) -> list[str]:
    pieces = [_plain_days(day.values, language)] if day.values else []
    if day.nearest:
        told = listed([ordinal(value, language) for value in day.nearest], AND, language)
        pieces.append(
            {
                "de": f"am nächstgelegenen Werktag (Mo–Fr) zum {told}",
                "en": f"on the weekday (Mon–Fri) nearest to the {told}",
            }[language]
        )
    if day.working:
        pieces.append(
            {"de": "am letzten Werktag (Mo–Fr)", "en": "on the last weekday (Mon–Fri)"}[language]
        )
    if day.last:
        pieces.append({"de": "am letzten Tag", "en": "on the last day"}[language])
    return pieces


def _plain_days(values: Sequence[int], language: str) -> str:
    first, last = ordinal(values[0], language), ordinal(values[-1], language)
    step = _step(values)
    if step == 1:
        return {"de": f"vom {first} bis {last}", "en": f"from the {first} to the {last}"}[language]
    if step and len(values) >= SEVERAL:
        nth = ordinal(step, language)
        return {
            "de": f"jeden {nth} Tag vom {first} bis {last}",
            "en": f"every {nth} day from the {first} to the {last}",
        }[language]
    if language == "de":
        return f"am {numbers(values, 'de', '.')}"
    return f"on the {_ordinals(values)}"


def _ordinals(values: Sequence[int]) -> str:
    told: list[str] = []
    for first, last in runs(values):
        if last - first + 1 >= SHORTEST_RUN:
            told.append(f"{ordinal(first, 'en')}–{ordinal(last, 'en')}")
        else:
            told.extend(ordinal(value, "en") for value in range(first, last + 1))
    return listed(told, AND, "en")


def either_day(day: Field, language: str) -> str:
    """Return the days of the month as one of two alternatives: "jeden 1.–7."."""
    pieces = _day_pieces(day, language)
    if day.values:
        step = _step(day.values)
        if not (step > 1 and len(day.values) >= SEVERAL):
            pieces[0] = {
                "de": f"jeden {numbers(day.values, 'de', '.')}",
                "en": f"on the {_ordinals(day.values)}",
            }[language]
            if not day.has_specials:
                return pieces[0]
    month_of = {"de": " des Monats", "en": " of the month"}[language]
    return listed(pieces, AND, language) + month_of


def either_weekday(field: Field, language: str) -> str:
    """Return the weekdays as one of two alternatives: "jeden Montag"."""
    return _weekdays(field, "", language)


def _from_monday(values: Sequence[int]) -> list[int]:
    return sorted(values, key=lambda value: (value + 6) % 7)


def _weekdays(field: Field, months: str, language: str) -> str:
    """Return "Montag bis Freitag" or "jeden zweiten Montag im Monat", with the months."""
    ordered = _from_monday(field.values)
    positions = [(value + 6) % 7 for value in ordered]
    every = {"de": "jeden ", "en": "every "}[language]
    pieces: list[str] = []
    if ordered:
        names = [weekday(value, language) for value in ordered]
        if len(ordered) >= SHORTEST_RUN and len(runs(positions)) == 1:
            to = {"de": "bis", "en": "to"}[language]
            pieces.append(f"{names[0]} {to} {names[-1]}")
        else:
            pieces.append(every + listed(names, AND, language))
    opening = {"de": "jeden", "en": "on the"}[language]
    pieces.extend(f"{opening} {named}" for named in _nth(field, language))
    told = listed(pieces, AND, language)
    if field.nth:
        told += {"de": " im Monat", "en": " of the month"}[language]
    return f"{told} {months}" if months else told


def _nth(field: Field, language: str) -> list[str]:
    """Return "zweiten Montag" for each weekday that has a place in the month."""
    ordered = sorted(field.nth, key=lambda nth: (nth[1] == LAST, nth[1], (nth[0] + 6) % 7))
    return [f"{PLACES[language][place]} {weekday(day, language)}" for day, place in ordered]


def _only_on(field: Field, language: str) -> str:
    """Return "aber nur an einem Montag oder Freitag"."""
    names = [weekday(value, language) for value in _from_monday(field.values)]
    pieces: list[str] = []
    if names:
        article = {"de": "an einem ", "en": "on a "}[language]
        pieces.append(article + listed(names, OR, language))
    article = {"de": "am ", "en": "on the "}[language]
    pieces.extend(article + named for named in _nth(field, language))
    told = listed(pieces, OR, language)
    if field.nth:
        told += {"de": " im Monat", "en": " of the month"}[language]
    return {"de": f"aber nur {told}", "en": f"but only {told}"}[language]

"""Words of the two languages a schedule speaks: names, lists, dates and times.

No gettext on this floor: the sentences also go to the command line and to logs, and a
schedule's words are built from parts that a message catalogue could not put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

LANGUAGES: Final = ("de", "en")

Both = dict[str, str]
"""One text in each language, keyed "de" and "en"."""

WEEKDAYS: Final = {
    "de": ("Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"),
    "en": ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
}
MONTHS: Final = {
    "de": (
        *("Januar", "Februar", "März", "April", "Mai", "Juni"),
        *("Juli", "August", "September", "Oktober", "November", "Dezember"),
    ),
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
}
AND: Final = {"de": "und", "en": "and"}
OR: Final = {"de": "oder", "en": "or"}

SHORTEST_RUN = 3
"""From this length on, neighbours are told as "1–3" instead of one by one."""


def spoken(language: str) -> str:
    """Return "de" or "en" for any language tag ("de-AT", "en-us"); English when unknown."""
    code = language.lower().replace("_", "-").partition("-")[0]
    return code if code in LANGUAGES else "en"


def listed(items: Sequence[str], word: Both, language: str) -> str:
    """Return "a, b und c"; `word` joins the last two.

    >>> listed(["a", "b", "c"], AND, "en")
    'a, b and c'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word[language]} {items[-1]}"


def quoted(items: Sequence[str], word: Both = OR) -> Both:
    """Return the items in quotation marks, joined in both languages: „a“ oder „b“."""
    return {
        "de": listed([f"„{item}“" for item in items], word, "de"),
        "en": listed([f"“{item}”" for item in items], word, "en"),
    }


def ordinal(number: int, language: str) -> str:
    """Return "1." or "1st"."""
    if language == "de":
        return f"{number}."
    if number % 100 in {11, 12, 13}:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def weekday(number: int, language: str) -> str:
    """Return the weekday's name; 0 is Sunday."""
    return WEEKDAYS[language][number]


def month(number: int, language: str) -> str:
    """Return the month's name; 1 is January."""
    return MONTHS[language][number - 1]


def runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending values as (first, last) of each unbroken stretch.

    >>> runs([1, 2, 3, 7])
    [(1, 3), (7, 7)]
    """
    stretches: list[tuple[int, int]] = []
    for value in values:
        if stretches and value == stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], value)
        else:
            stretches.append((value, value))
    return stretches


def numbers(values: Sequence[int], language: str, suffix: str = "") -> str:
    """Return ascending numbers as "0, 5–9 und 40", each with `suffix`."""
    told: list[str] = []
    for first, last in runs(values):
        if last - first + 1 >= SHORTEST_RUN:
            told.append(f"{first}{suffix}–{last}{suffix}")
        else:
            told.extend(f"{value}{suffix}" for value in range(first, last + 1))
    return listed(told, AND, language)


def clock(hour: int, minute: int, second: int = 0) -> str:
    """Return "03:30", with seconds only where there are any."""
    return f"{hour:02}:{minute:02}" + (f":{second:02}" if second else "")


def time_of(local: datetime) -> str:
    """Return a local time's clock reading, "03:30"."""
    return clock(local.hour, local.minute, local.second)


def at_times(texts: Sequence[str], language: str) -> str:
    """Return "02:00 und 02:30 Uhr" / "02:00 and 02:30"."""
    return listed(texts, AND, language) + (" Uhr" if language == "de" else "")


def calendar_date(day: date, language: str) -> str:
    """Return "28.03.2027" / "28 March 2027"."""
    if language == "de":
        return f"{day.day:02}.{day.month:02}.{day.year}"
    return f"{day.day} {month(day.month, 'en')} {day.year}"


def long_date(day: date, language: str) -> str:
    """Return the date with its weekday."""
    return f"{weekday(day.isoweekday() % 7, language)}, {calendar_date(day, language)}"

"""A cron expression in words: natural where people have words for it, never ambiguous."""

import random
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from daemon_app.schedules import Cron, ScheduleError, parse
from daemon_app.schedules.cron.matching import matching_days

WORDS = [
    # times
    ("* * * * *", "jede Minute", "every minute"),
    ("*/5 * * * *", "alle 5 Minuten", "every 5 minutes"),
    ("0,30 * * * *", "alle 30 Minuten", "every 30 minutes"),
    ("5/10 * * * *", "alle 10 Minuten ab Minute 5", "every 10 minutes from minute 5"),
    ("0 * * * *", "stündlich zur vollen Stunde", "hourly on the hour"),
    ("15 * * * *", "stündlich zur Minute 15", "hourly at minute 15"),
    (
        "*/25 * * * *",
        "stündlich zu den Minuten 0, 25 und 50",
        "hourly at minutes 0, 25 and 50",
    ),
    (
        "*/7 * * * *",
        "in jeder Stunde alle 7 Minuten von Minute 0 bis 56",
        "in every hour every 7 minutes from minute 0 to 56",
    ),
    ("0 3 * * *", "täglich um 03:00 Uhr", "every day at 03:00"),
    ("0 6,12,18 * * *", "täglich um 06:00, 12:00 und 18:00 Uhr", None),
    ("0 */2 * * *", "alle 2 Stunden", "every 2 hours"),
    ("15 */6 * * *", "alle 6 Stunden zur Minute 15", "every 6 hours at minute 15"),
    ("0 1/2 * * *", "alle 2 Stunden ab 01:00 Uhr", "every 2 hours from 01:00"),
    ("0 8-18/2 * * *", "alle 2 Stunden von 08:00 bis 18:00 Uhr", None),
    ("0 8-17 * * *", "stündlich von 08:00 bis 17:00 Uhr", "hourly from 08:00 to 17:00"),
    ("* 2 * * *", "jede Minute von 02:00 bis 02:59 Uhr", None),
    (
        "2,17,33 1,5,9 * * *",
        "in den Stunden 1, 5 und 9, jeweils zu den Minuten 2, 17 und 33",
        "in hours 1, 5 and 9, each time at minutes 2, 17 and 33",
    ),
    # weekdays
    ("30 3 * * 1-5", "Montag bis Freitag um 03:30 Uhr", "Monday to Friday at 03:30"),
    ("0 8 * * mon", "jeden Montag um 08:00 Uhr", "every Monday at 08:00"),
    (
        "0 9 * * mo,mi,fr",
        "jeden Montag, Mittwoch und Freitag um 09:00 Uhr",
        "every Monday, Wednesday and Friday at 09:00",
    ),
    ("0 9 * * 0,6", "jeden Samstag und Sonntag um 09:00 Uhr", "every Saturday and Sunday at 09:00"),
    ("0 9 * * 0-7", "täglich um 09:00 Uhr", "every day at 09:00"),
    (
        "*/5 8-17 * * 1-5",
        "Montag bis Freitag alle 5 Minuten von 08:00 bis 17:55 Uhr",
        "Monday to Friday every 5 minutes from 08:00 to 17:55",
    ),
    (
        "0 0 * * 1#2",
        "jeden zweiten Montag im Monat um 00:00 Uhr",
        "on the second Monday of the month at 00:00",
    ),
    (
        "0 0 * * 5L",
        "jeden letzten Freitag im Monat um 00:00 Uhr",
        "on the last Friday of the month at 00:00",
    ),
    # days of the month
    (
        "0 0 1 * *",
        "am 1. jedes Monats um 00:00 Uhr",
        "on the 1st of every month at 00:00",
    ),
    ("0 0 1,15 * *", "am 1. und 15. jedes Monats um 00:00 Uhr", None),
    ("0 0 1-7 * *", "vom 1. bis 7. jedes Monats um 00:00 Uhr", None),
    ("0 0 */2 * *", "jeden 2. Tag vom 1. bis 31. jedes Monats um 00:00 Uhr", None),
    (
        "0 0 L * *",
        "am letzten Tag des Monats um 00:00 Uhr",
        "on the last day of the month at 00:00",
    ),
    (
        "0 0 LW * *",
        "am letzten Werktag (Mo–Fr) des Monats um 00:00 Uhr",
        "on the last weekday (Mon–Fri) of the month at 00:00",
    ),
    (
        "0 0 15W * *",
        "am nächstgelegenen Werktag (Mo–Fr) zum 15. des Monats um 00:00 Uhr",
        "on the weekday (Mon–Fri) nearest to the 15th of the month at 00:00",
    ),
    # months
    ("@yearly", "am 1. Januar um 00:00 Uhr", "on the 1st of January at 00:00"),
    ("0 0 1 1,7 *", "am 1. im Januar und Juli um 00:00 Uhr", None),
    ("0 0 * 2 *", "im Februar täglich um 00:00 Uhr", "in February every day at 00:00"),
    ("0 0 * 6-8 1", "jeden Montag von Juni bis August um 00:00 Uhr", None),
    # both day fields
    (
        "0 0 13 * 5",
        "jeden 13. oder jeden Freitag um 00:00 Uhr",
        "on the 13th or every Friday at 00:00",
    ),
    (
        "0 0 1-7 * 1",
        "jeden 1.–7. oder jeden Montag um 00:00 Uhr",
        "on the 1st–7th or every Monday at 00:00",
    ),
    (
        "0 0 */100,1-7 * 1",
        "vom 1. bis 7. jedes Monats, aber nur an einem Montag, um 00:00 Uhr",
        "from the 1st to the 7th of the month, but only on a Monday, at 00:00",
    ),
    ("0 0 31 2 1", "im Februar jeden 31. oder jeden Montag um 00:00 Uhr", None),
    ("0 0 1-31 * 1", "täglich um 00:00 Uhr", "every day at 00:00"),
    ("0 0 */1 * 1", "jeden Montag um 00:00 Uhr", "every Monday at 00:00"),
]


@pytest.mark.parametrize(("text", "german", "english"), WORDS)
def test_an_expression_in_words(text: str, german: str, english: str | None) -> None:
    schedule = parse("cron", text)

    assert schedule.describe("de") == german
    assert english is None or schedule.describe("en") == english


def drawn_field(rng: random.Random, low: int, high: int, specials: str = "") -> str:
    """Draw a field that is a star, a value, a range, a list, a step or something special."""
    value = rng.randint(low, high)
    other = rng.randint(value, high)
    choices = [
        *("*", "*", "*"),
        str(value),
        f"{value}-{other}",
        f"*/{rng.choice([2, 3, 5, 7, 15, 20, 60])}",
        f"{value}/{rng.randint(1, 12)}",
        f"{value}-{other}/{rng.randint(1, 9)}",
        ",".join(str(rng.randint(low, high)) for _ in range(rng.randint(2, 5))),
        ",".join(str(rng.randint(low, min(high, low + 6))) for _ in range(rng.randint(2, 5))),
        *specials.split(),
    ]
    return rng.choice(choices)


def meaning(schedule: Cron) -> object:
    """Return everything that decides when it matches, however it was written."""
    fields = schedule.fields
    shapes = [(length, first) for length in (28, 29, 30, 31) for first in range(7)]
    days = tuple(matching_days(fields, *shape) for shape in shapes)
    return fields.minute.values, fields.hour.values, fields.month.values, days


def test_the_same_words_always_mean_the_same_times() -> None:
    rng = random.Random(20261122)
    meanings: dict[str, dict[str, set[object]]] = {"de": defaultdict(set), "en": defaultdict(set)}
    texts: dict[str, list[str]] = defaultdict(list)
    for _ in range(1500):
        text = " ".join(
            (
                drawn_field(rng, 0, 59),
                drawn_field(rng, 0, 23),
                drawn_field(rng, 1, 31, "L LW 15W 1W,L 1,15,L"),
                drawn_field(rng, 1, 12) if rng.random() < 0.4 else "*",
                drawn_field(rng, 0, 7, "1#1 5L 1#1,2#3 5,1L"),
            )
        )
        try:
            schedule = parse("cron", text)
        except ScheduleError:
            continue
        assert isinstance(schedule, Cron)
        for language, found in meanings.items():
            words = schedule.describe(language)
            found[words].add(meaning(schedule))
            texts[words].append(text)

    double = [texts[w] for found in meanings.values() for w, m in found.items() if len(m) > 1]
    assert double == []
    assert len(meanings["de"]) == len(meanings["en"]) > 1000


def test_a_language_tag_of_the_browser_is_understood() -> None:
    schedule = parse("cron", "0 3 * * *")

    assert schedule.describe() == schedule.describe("de") == schedule.describe("de-AT")
    assert schedule.describe("en-us") == schedule.describe("en_GB") == schedule.describe("fr")
    assert schedule.next_due(datetime(2026, 1, 1, tzinfo=UTC))

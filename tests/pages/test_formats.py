"""How times and numbers are written; `formats.json` holds the browser to the same words."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daemon_app import formats

CASES = json.loads(Path(__file__).with_name("formats.json").read_text())


def written(case: dict[str, Any]) -> str:
    at = datetime.fromisoformat(case.get("at", "2026-11-24T13:32:07Z"))
    now = datetime.fromisoformat(case.get("now", "2026-11-24T13:32:07Z"))
    zone = ZoneInfo(case.get("zone", "Europe/Berlin"))
    language = case["language"]
    return {
        "relative": lambda: formats.relative(at, now, language),
        "coarse": lambda: formats.relative(at, now, language, coarse=True),
        "left": lambda: formats.left(at, now, language),
        "estimate": lambda: formats.left(at, now, language, guess=True),
        "duration": lambda: formats.duration(case["seconds"], language),
        "exact": lambda: formats.duration(case["seconds"], language, exact=True),
        "moment": lambda: formats.moment(at, now, zone, language),
        "short_moment": lambda: formats.short_moment(at, now, zone, language),
        "day_heading": lambda: formats.day_heading(at, now, zone, language),
        "date_and_clock": lambda: formats.date_and_clock(at, zone, language),
        "day": lambda: formats.day(at, zone, language),
        "number": lambda: formats.number(case["value"], language),
    }[case["call"]]()


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['call']}-{case['says']}-{case['language']}"
)
def test_times_and_numbers_are_written_as_the_table_says(case: dict[str, Any]) -> None:
    assert written(case) == case["says"]


@pytest.mark.parametrize(
    ("count", "german"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1,0 kB"),
        (1280, "1,3 kB"),
        (99_949, "99,9 kB"),
        (412_000, "412 kB"),
        (999_600, "1,0 MB"),
        (17_800_000_000, "17,8 GB"),
        (5_000_000_000_000_000, "5.000 TB"),
    ],
)
def test_sizes_have_decimal_units_and_never_break(count: int, german: str) -> None:
    assert formats.size(count, "de") == german.replace(" ", formats.NBSP)


def test_an_instant_in_full_names_its_zone() -> None:
    at = datetime.fromisoformat("2026-11-24T13:32:07Z")

    assert formats.stamp(at, ZoneInfo("Europe/Berlin"), "de") == (
        "Di., 24. Nov. 2026, 14:32:07 Uhr (Europe/Berlin)"
    )

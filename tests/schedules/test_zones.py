"""Zones are names of places, and wall times become instants."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon_app.schedules import ScheduleError, parse, zones


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Europa/Berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("posix/Europe/Berlin", "Europe/Berlin"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("cron", "0 3 * * *", name)

    error = caught.value
    assert (error.code, error.field, error.argument) == ("zone_near", "timezone", "tz")
    assert f"„{near}“" in error.hint("de")
    assert f"“{near}”" in error.hint("en")
    assert error.message("de") == f"Die Zeitzone „{name}“ gibt es nicht."


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin", "./UTC"),
        *("localtime", "Factory", "Europe/../UTC", "x" * 5000, "\x00", "\ud800", "Europe/Berlin "),
    ],
)
def test_what_is_no_name_of_a_zone_is_refused(name: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("interval", "5m", name)

    assert caught.value.field == "timezone"


def test_a_missing_zone_is_refused() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("manual", "", " ")

    assert caught.value.code == "zone_missing"


def test_a_zone_whose_name_is_a_path_gets_no_suggestion() -> None:
    with pytest.raises(ScheduleError) as caught:
        parse("manual", "", "../UTC")

    assert caught.value.code == "zone_unknown"


@pytest.mark.parametrize(
    ("zone", "gap_opens", "gap_ends"),
    [
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T03:00+02:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:00", "2026-10-04T02:30+11:00"),
        ("Africa/Cairo", "2026-04-24T00:00", "2026-04-24T01:00+03:00"),
        ("America/Santiago", "2026-09-06T00:00", "2026-09-06T01:00-03:00"),
        ("Antarctica/Troll", "2026-03-29T01:00", "2026-03-29T03:00+02:00"),
    ],
)
def test_a_change_of_the_clocks_is_found_to_the_second(
    zone: str, gap_opens: str, gap_ends: str
) -> None:
    end = datetime.fromisoformat(gap_ends)
    opens = datetime.fromisoformat(gap_opens)
    place = ZoneInfo(zone)

    (change,) = zones.clock_changes(end - timedelta(days=20), end + timedelta(days=20), place)

    assert change.at == end
    assert change.is_gap
    assert (change.first_wall, change.end_wall) == (opens, end.replace(tzinfo=None))
    assert zones.instants(opens, place) == ()
    assert zones.first_instant(opens, place) == end
    assert zones.first_instant(opens + change.shift - timedelta(seconds=1), place) == end
    assert len(zones.instants(opens - timedelta(seconds=1), place)) == 1


def test_a_repeated_wall_time_has_two_instants() -> None:
    place = ZoneInfo("Europe/Berlin")
    wall = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001

    first, second = zones.instants(wall, place)

    assert second - first == timedelta(hours=1)
    assert zones.first_instant(wall, place) == first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_zone_without_changes_has_none() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    year = timedelta(days=365)

    assert list(zones.clock_changes(start, start + year, ZoneInfo("Asia/Kathmandu"))) == []
    assert len(list(zones.clock_changes(start, start + year, ZoneInfo("Europe/Berlin")))) == 2

"""Each tick has its line in the journal; what gets bad and lasts is an incident, told once."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from daemon_app import journal
from daemon_app.models import Incident
from daemon_app.readings import Reading, State
from daemon_app.skills.health_check import Watch
from tests.jobs import NOON

pytestmark = pytest.mark.django_db
TICK = timedelta(seconds=30)
UP = Reading("gpu_service", State.OK, 12.0, "service_ok", {"ms": 12})
DOWN = Reading("gpu_service", State.DOWN, None, "service_refused", {"url": "http://localhost:1"})
ODD = Reading("gpu_service", State.UNKNOWN, None, "service_odd")


@pytest.fixture(autouse=True)
def _own_journal(settings, tmp_path):
    settings.EXPORTS_DIR = tmp_path
    settings.LANGUAGE_CODE = "en"


class Ticks:
    """Ticks, one after the other."""

    def __init__(self, previous: Reading | None = None) -> None:
        self.watch = Watch()
        self.now = NOON
        self.previous = {previous.name: previous} if previous else None

    def see(self, *readings: Reading) -> dict[str, Any]:
        """Take a tick for each reading; return the last line of the journal."""
        for reading in readings:
            self.now += TICK
            seen, previous = {reading.name: reading}, self.previous
            self.previous = seen
            self.watch.after_tick(seen, previous, True, self.now)
        return lines()[-1]


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(journal.path()).read_text().splitlines()]


def sentence() -> str:
    return str(Incident.objects.get()).replace("\N{NO-BREAK SPACE}", " ")


def told() -> list[str]:
    return [each.code for each in Incident.objects.order_by("id")]


# ── The journal ──────────────────────────────────────────────────────────────────────────────────
def test_each_tick_has_a_line_with_every_check():
    ticks = Ticks()

    line = ticks.see(UP, UP)

    assert len(lines()) == 2
    assert (line["skill"], line["level"], line["message"]) == (
        "health_check",
        "info",
        "All is well.",
    )
    assert line["data"] == {
        "idle": True,
        "checks": {"gpu_service": {"state": "ok", "value": 12.0}},
        "changes": [],
    }


def test_a_change_for_the_worse_is_a_warning_and_an_error_when_it_lasts():
    ticks = Ticks()

    assert ticks.see(UP, DOWN)["level"] == "warn"
    assert lines()[-1]["message"] == ("GPU service: down (Nothing listens at http://localhost:1).")
    assert ticks.see(DOWN)["level"] == "error"
    assert lines()[-1]["message"] == "GPU service: down."


def test_the_end_says_how_long_it_was():
    ticks = Ticks()

    line = ticks.see(UP, *[DOWN] * 6, UP)

    assert line["level"] == "info"
    assert line["message"] == "GPU service is well again after 3\N{NO-BREAK SPACE}min."
    assert line["data"]["changes"] == [
        {"check": "gpu_service", "from": "down", "to": "ok", "after_seconds": 180}
    ]


def test_what_has_never_been_well_is_told_once():
    ticks = Ticks()

    levels = [ticks.see(DOWN)["level"] for _ in range(3)]

    assert levels == ["warn", "info", "info"]
    assert told() == []


# ── Incidents ────────────────────────────────────────────────────────────────────────────────────
def test_one_bad_tick_is_no_incident():
    Ticks().see(UP, DOWN, UP, DOWN, UP, ODD, ODD)

    assert told() == []


def test_two_bad_ticks_are_one_incident_that_ends_when_it_is_over():
    ticks = Ticks()

    ticks.see(UP, DOWN, DOWN, DOWN)
    assert told() == ["health_gpu_service_down"]
    assert Incident.objects.get().level == "error"

    ticks.see(UP)
    assert told() == ["health_gpu_service_down"]

    ticks.see(UP)
    assert sentence() == "The GPU service did not answer for 1 min 30 s."


def test_what_flaps_is_one_incident():
    ticks = Ticks()

    ticks.see(UP, *[DOWN, DOWN, UP, UP] * 5)

    assert told() == ["health_gpu_service_was_down"]
    assert Incident.objects.get().facts["times"] == 5


def test_what_was_seen_by_a_person_and_comes_again_is_told_again():
    ticks = Ticks()
    ticks.see(UP, DOWN, DOWN)
    Incident.objects.get().acknowledge(by="anna", now=ticks.now)

    ticks.see(UP, UP, DOWN, DOWN)

    assert told() == ["health_gpu_service_was_down", "health_gpu_service_down"]


def test_hours_later_it_is_another_one():
    ticks = Ticks()
    ticks.see(UP, DOWN, DOWN, UP, UP)
    ticks.now += timedelta(hours=2)

    ticks.see(DOWN, DOWN)

    assert told() == ["health_gpu_service_was_down", "health_gpu_service_down"]


def test_a_restart_of_the_daemon_tells_nothing_anew_and_finds_the_end():
    Ticks().see(UP, DOWN, DOWN)

    after = Ticks(previous=DOWN)
    after.now = NOON + timedelta(minutes=10)
    assert after.see(DOWN, DOWN)["level"] == "error"
    assert told() == ["health_gpu_service_down"]

    after.see(UP, UP)

    assert sentence() == "The GPU service did not answer for 10 min."


def test_an_outage_that_was_over_before_the_daemon_came_back_is_over():
    Ticks().see(UP, DOWN, DOWN)

    after = Ticks()
    after.now = NOON + timedelta(minutes=10)
    after.see(UP, UP)

    assert told() == ["health_gpu_service_was_down"]


def test_little_room_on_the_disk_is_an_incident_and_high_vram_is_none():
    disk = {state: Reading("disk", state, 4.2, "") for state in State}
    vram = {state: Reading("vram", state, 91.0, "") for state in State}

    Ticks().see(disk[State.OK], disk[State.LOW], disk[State.LOW])
    Ticks().see(vram[State.OK], vram[State.HIGH], vram[State.HIGH])

    assert [str(each) for each in Incident.objects.all()] == [
        "Little room is left on the disk: 4.2 GB."
    ]


def test_what_gets_worse_is_told_by_the_same_incident_unless_it_was_seen():
    low, full, ok = (Reading("disk", s, 4.2, "") for s in (State.LOW, State.FULL, State.OK))
    ticks = Ticks()
    ticks.see(ok, low, low, full, full)
    assert told() == ["health_disk_full"]
    assert Incident.objects.get().level == "error"

    Incident.objects.get().acknowledge(by="anna", now=ticks.now)
    ticks.see(low, low)
    assert told() == ["health_disk_full", "health_disk_low"]

    ticks.see(ok, ok)
    assert told() == ["health_disk_full", "health_disk_was_low"]


def test_while_the_database_is_away_the_journal_is_written_and_the_rest_comes_later(monkeypatch):
    ticks = Ticks()
    ticks.see(UP, DOWN)

    def fail(*_args, **_facts):
        raise OperationalError("database is locked")

    with monkeypatch.context() as away:
        away.setattr(Incident, "note", fail)
        for _again in range(2):
            with pytest.raises(OperationalError):
                ticks.see(DOWN)
    assert [line["level"] for line in lines()] == ["info", "warn", "error", "error"]
    assert told() == []

    ticks.see(DOWN)

    assert told() == ["health_gpu_service_down"]
    assert Incident.objects.get().facts["since"] == (NOON + 2 * TICK).isoformat()

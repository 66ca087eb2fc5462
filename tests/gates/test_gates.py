"""What each gate says of what it is asked, and what it says when it does not know."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import translation

from daemon_app import gates
from daemon_app.gates import finish_by
from daemon_app.models import reasons
from daemon_app.readings import Reading, State
from tests.gates.gating import conditions, judged, vram
from tests.jobs import NOON

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SOMEBODY = {"signal": "request", "code": "cancelled", "facts": {"who": "anna"}}


def said(verdict: gates.Verdict, language: str = "en") -> str:
    with translation.override(language):
        return reasons.sentence(verdict.code, verdict.facts, NOON).replace("\u00a0", " ")


# ── What holds for all ───────────────────────────────────────────────────────────────────────────
ASKED: dict[str, Any] = {
    "idle": True,
    "vram_mb": 8000,
    "services": ["ollama"],
    "disk_mb": 5000,
    "load_percent": 50,
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_not_known_keeps_a_run_waiting_and_says_so(name: str) -> None:
    verdict = gates.closed({name: ASKED[name]}, conditions())

    assert verdict is not None
    assert verdict.code.endswith("_unknown")
    assert "not" in said(verdict)


def test_a_run_that_asks_for_nothing_waits_for_nothing() -> None:
    assert gates.closed({}, conditions()) is None
    assert gates.verdicts({}, conditions()) == []
    assert gates.next_change({}, conditions()) is None


def test_every_gate_that_is_asked_gives_its_reading_open_or_not() -> None:
    needs = {**ASKED, "window": "22:00-06:00", "zone": "Europe/Berlin", "finish_by": "06:00"}

    told = gates.verdicts(needs, conditions(quiet_hours="22:00-06:00"))

    assert [each.gate for each in told] == list(gates.GATES)
    assert [each.gate for each in told if each.open] == ["quiet_hours", "finish_by"]


def test_every_code_of_a_gate_has_a_sentence() -> None:
    assert {code for code in reasons.FULLER if code not in reasons.SENTENCES} == set()


# ── Idle ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_busy_machine_says_who_and_when_it_is_idle() -> None:
    at = conditions(idle=False, idle_reasons=(SOMEBODY,), idle_from=NOON + 2 * MINUTE)

    verdict = judged("idle", {"idle": True}, at)

    assert said(verdict) == (
        "Waits until the machine is idle (Cancelled by anna); "
        "if nothing happens, that is at today 13:02."
    )
    assert gates.next_change({"idle": True}, at) == NOON + 2 * MINUTE


def test_a_busy_machine_without_an_end_says_why_alone() -> None:
    at = conditions(idle=False, idle_reasons=(SOMEBODY,))

    assert said(judged("idle", {"idle": True}, at)) == (
        "Waits until the machine is idle (Cancelled by anna)."
    )
    assert said(judged("idle", {"idle": True}, conditions(idle=False))) == (
        "Waits until the machine is idle."
    )
    assert gates.next_change({"idle": True}, at) is None


def test_an_idle_machine_lets_it_start_and_says_since_when() -> None:
    verdict = judged("idle", {"idle": True}, conditions(idle=True, idle_since=NOON - HOUR))

    assert verdict.open
    assert said(verdict) == "The machine is idle since today 12:00."


# ── VRAM ─────────────────────────────────────────────────────────────────────────────────────────
def test_vram_is_judged_by_the_gpu_that_has_most() -> None:
    at = conditions(vram(6000, 9000))

    assert judged("vram", {"vram_mb": 9000}, at).open
    assert not judged("vram", {"vram_mb": 9001}, at).open  # 15 GB in all are no use to it


def test_what_has_just_started_counts_although_nothing_shows_it_yet() -> None:
    at = conditions(vram(9000), reserved_vram_mb=3000)

    verdict = judged("vram", {"vram_mb": 8000}, at)

    assert not verdict.open
    assert said(verdict) == (
        "Waits for VRAM: it needs 8.0 GB; free are 9.0 GB, and 3.0 GB are promised to runs that "
        "have just started."
    )


def test_what_is_free_and_what_is_promised_are_told_apart_where_both_are_too_little() -> None:
    at = conditions(vram(8100, models=("big",)), reserved_vram_mb=12_000)

    verdict = judged("vram", {"vram_mb": 14_000}, at)

    assert said(verdict) == (
        "Waits for VRAM: it needs 14.0 GB; free are 8.1 GB, and 12.0 GB are promised to runs that "
        "have just started. Loaded: big."
    )


def test_it_names_what_holds_the_vram_the_largest_first() -> None:
    at = conditions(vram(3100, models=("tiny", "flux", "llama3", "big")))

    verdict = judged("vram", {"vram_mb": 8000}, at)

    assert said(verdict) == (
        "Waits for VRAM: it needs 8.0 GB, free are 3.1 GB. Loaded: big, llama3, flux."
    )
    assert (verdict.facts["value"], verdict.facts["threshold"]) == (3100, 8000)


def test_more_than_the_gpu_has_is_said_to_be_impossible() -> None:
    verdict = judged("vram", {"vram_mb": 30_000}, conditions(vram(20_000, 20_000)))

    assert verdict.code == "waits_vram_impossible"
    assert "24.0 GB" in said(verdict)


def test_a_machine_without_devices_is_judged_as_a_whole() -> None:
    whole = Reading("vram", State.OK, 50.0, facts={"free_mb": 500, "total_mb": 24_000})

    verdict = judged("vram", {"vram_mb": 800}, conditions(whole))

    assert said(verdict) == "Waits for VRAM: it needs 800 MB, free are 500 MB."


@pytest.mark.parametrize(
    "facts", [{}, {"free_mb": None}, {"free_mb": "much"}, {"devices": ["?"], "free_mb": None}]
)
def test_a_reading_that_makes_no_sense_is_not_known(facts: dict[str, Any]) -> None:
    verdict = judged("vram", {"vram_mb": 1}, conditions(Reading("vram", State.OK, facts=facts)))

    assert verdict.code == "waits_vram_unknown"


# ── Services ─────────────────────────────────────────────────────────────────────────────────────
def test_slow_services_do_answer() -> None:
    at = conditions(Reading("ollama", State.SLOW, 1500.0), Reading("gpu_service", State.OK, 3.0))

    verdict = judged("services", {"services": ["ollama", "gpu_service"]}, at)

    assert verdict.open
    assert said(verdict) == "What it needs answers: Ollama, GPU service."
    assert verdict.facts["value"] == 1500.0


@pytest.mark.parametrize("state", [State.DOWN, State.UNKNOWN])
def test_a_service_that_does_not_answer_is_named_with_its_state(state: State) -> None:
    at = conditions(Reading("ollama", State.OK, 3.0), Reading("gpu_service", state))

    verdict = judged("services", {"services": ["ollama", "gpu_service"]}, at)

    assert not verdict.open
    assert (verdict.facts["service"], verdict.facts["state"]) == ("gpu_service", str(state))
    assert "GPU service" in said(verdict)


# ── Disk and load ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("free", "is_open"), [(5_000_000_000, True), (4_999_999_999, False)])
def test_free_disk_is_counted_in_decimal_megabytes(free: int, is_open: bool) -> None:
    reading = Reading("disk", State.OK, 5.0, facts={"free_bytes": free, "path": "/exports"})

    assert judged("disk", {"disk_mb": 5000}, conditions(reading)).open is is_open


@pytest.mark.parametrize(("load", "is_open"), [(50.0, True), (50.5, False)])
def test_a_busy_machine_is_left_alone(load: float, is_open: bool) -> None:
    verdict = judged("load", {"load_percent": 50}, conditions(load_percent=load))

    assert verdict.open is is_open
    assert "%" in said(verdict)


# ── Times ────────────────────────────────────────────────────────────────────────────────────────
NIGHTS = {"window": "mo-fr 22:00-06:00", "zone": "Europe/Berlin"}
TEN = datetime(2026, 11, 24, 21, tzinfo=UTC)  # in Berlin in the evening


def test_a_window_says_when_it_opens_in_the_readers_language() -> None:
    verdict = judged("window", NIGHTS, conditions())

    assert said(verdict, "en") == (
        "Waits for its time (Monday to Friday 22:00–06:00): again from today 22:00."
    )
    assert verdict.facts["times"]["de"] == "Montag bis Freitag 22:00–06:00 Uhr"
    assert gates.next_change(NIGHTS, conditions()) == TEN
    assert judged("window", NIGHTS, conditions(now=TEN)).open


def test_a_window_goes_by_the_zone_of_its_job() -> None:
    needs = {"window": "21:00-22:00", "zone": "UTC"}

    assert judged("window", needs, conditions(now=TEN)).open


def test_a_window_nobody_can_read_any_more_stays_closed() -> None:
    verdict = judged("window", {"window": "25:00-26:00"}, conditions())

    assert verdict.code == "waits_window_unknown"
    assert "25:00" in said(verdict)


def test_quiet_hours_hold_what_asks_for_nothing_too() -> None:
    at = conditions(now=TEN, quiet_hours="22:00-06:00")

    verdict = gates.closed({}, at)

    assert verdict is not None
    assert verdict.code == "waits_quiet_hours"
    assert gates.next_change({}, at) == datetime(2026, 11, 25, 5, tzinfo=UTC)
    assert gates.closed({"in_quiet_hours": True}, at) is None
    assert gates.closed({}, replace(at, now=NOON)) is None


def test_what_changes_first_by_the_clock_is_told() -> None:
    at = conditions(
        now=TEN - HOUR, quiet_hours="20:00-23:00", idle=False, idle_from=TEN - 59 * MINUTE
    )

    assert gates.next_change({**NIGHTS, "idle": True}, at) == TEN - 59 * MINUTE
    assert gates.next_change(NIGHTS, at) == TEN


def test_times_are_worked_out_once_for_a_whole_line() -> None:
    at = conditions(quiet_hours="22:00-06:00")

    for _ in range(3):
        gates.verdicts(NIGHTS, replace(at, reserved_vram_mb=1.0))

    assert len(at.openings) == 2


# ── Done by ──────────────────────────────────────────────────────────────────────────────────────
BY_SIX = {"finish_by": "06:00", "zone": "Europe/Berlin"}
SIX = datetime(2026, 11, 25, 5, tzinfo=UTC)


def test_the_latest_start_leaves_the_time_it_takes() -> None:
    assert finish_by.latest_start(BY_SIX, TEN, 2 * HOUR) == SIX - 2 * HOUR


def test_what_takes_longer_than_there_is_has_a_moment_to_start_when_it_is_due() -> None:
    assert finish_by.latest_start(BY_SIX, TEN, 12 * HOUR) == TEN + finish_by.GRACE


def test_a_run_due_at_the_very_time_has_a_day() -> None:
    assert finish_by.latest_start(BY_SIX, SIX, timedelta(0)) == SIX + 24 * HOUR


def test_a_time_that_a_clock_change_leaves_out_is_the_end_of_the_gap() -> None:
    needs = {"finish_by": "02:30", "zone": "Europe/Berlin"}
    midnight = datetime(2027, 3, 27, 23, tzinfo=UTC)

    assert finish_by.latest_start(needs, midnight, timedelta(0)) == midnight + 2 * HOUR


@pytest.mark.parametrize("needs", [{}, {"finish_by": "25:00"}, {"finish_by": "soon"}])
def test_whoever_asks_for_no_time_may_start_whenever(needs: dict[str, Any]) -> None:
    assert finish_by.latest_start(needs, TEN, HOUR) is None


def test_it_closes_only_when_it_is_too_late_and_the_run_is_to_be_skipped() -> None:
    needs = {**BY_SIX, "last_start": SIX.isoformat()}

    assert judged("finish_by", needs, conditions(now=SIX)).open
    assert not judged("finish_by", needs, conditions(now=SIX + MINUTE)).open
    assert judged("finish_by", {**needs, "action": "run"}, conditions(now=SIX + MINUTE)).open
    assert judged("finish_by", BY_SIX, conditions(now=SIX + MINUTE)).open


# ── Sentences ────────────────────────────────────────────────────────────────────────────────────
def test_facts_are_written_as_people_write_them() -> None:
    text = "%(at)s, %(long)s s, %(big)s MB, %(small)s MB, %(names)s, %(plain)s"
    facts = {
        "at": "2026-11-23T21:00:00+00:00",
        "long": 5400,
        "big": 12_400,
        "small": 512,
        "names": ["a", "b"],
        "plain": "2026-11-23",
    }

    with translation.override("de"):
        said = reasons.filled(text, facts, NOON).replace("\u00a0", " ")

    assert said == "gestern 22:00, 1 Std. 30 Min., 12,4 GB, 512 MB, a, b, 2026-11-23"

"""`bach daemon doctor` and `bach daemon unit` in a terminal."""

import json

from tests.cli.bach import Bach


def test_before_the_first_start_it_says_what_to_do_and_makes_nothing(bach: Bach) -> None:
    answer = bach("daemon", "doctor")

    assert answer.returncode == 1
    assert "bach up" in answer.stdout
    assert not (bach.data / "bach.sqlite3").exists()


def test_with_a_running_daemon_all_is_well_in_json_too(service: Bach) -> None:
    answer = service("daemon", "doctor", "--json")

    told = json.loads(answer.stdout)
    bad = [f for f in told["findings"] if f["level"] in {"warn", "error"} and f["check"] != "zone"]
    assert bad == []
    assert {"daemon", "cluster", "database", "sqlite", "disk", "clock"} <= {
        f["check"] for f in told["findings"]
    }


def test_the_status_tells_alarms(service: Bach) -> None:
    from daemon_app import alarms, doorbell

    board = alarms.Board(doorbell.runtime_dir(service.data))
    board.raise_("part_fails", part="web", times=3, exit_code=1, pause=2, log="web.log")
    try:
        plain = service("daemon", "status")
        told = json.loads(service("daemon", "status", "--json").stdout)
    finally:
        board.clear("part_fails")

    assert "web.log" in plain.stdout
    assert [notice["code"] for notice in told["notices"]] == ["part_fails"]


def test_a_unit_for_systemd_holds_what_is_set(bach: Bach) -> None:
    bach.environment["BACH_ON_STOP"] = "drain"
    bach.environment["BACH_DRAIN_SECONDS"] = "30"

    text = bach("daemon", "unit").stdout

    assert f"Environment=BACH_DATA_DIR={bach.data}\n" in text
    assert "Type=notify\n" in text
    assert "KillMode=mixed\n" in text
    assert "TimeoutStopSec=180\n" in text

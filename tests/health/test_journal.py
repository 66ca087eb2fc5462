"""The journal for other programs: whole lines, of one shape, in files that stay small."""

import json
import logging
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.utils import timezone

from daemon_app import journal

NOON = datetime(2026, 11, 24, 11, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, settings) -> Path:
    settings.EXPORTS_DIR = tmp_path / "exports"
    return tmp_path / "exports" / "experience" / "daemon_log.jsonl"


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_a_line_has_exactly_these_names_and_a_time_with_its_zone(file: Path) -> None:
    with timezone.override("Europe/Berlin"):
        journal.write("health_check", "warn", "Ollama: down.", {"a": [1, None]}, now=NOON)

    (line,) = lines(file)
    assert line == {
        "timestamp": "2026-11-24T12:00:00.000+01:00",
        "level": "warn",
        "skill": "health_check",
        "message": "Ollama: down.",
        "data": {"a": [1, None]},
    }
    assert list(line) == ["timestamp", "level", "skill", "message", "data"]


def test_only_the_owner_may_read_it(file: Path) -> None:
    journal.write("a", "info", "b", now=NOON)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_level_that_is_none_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="known: info, warn, error"):
        journal.write("a", "warning", "b", now=NOON)


@pytest.mark.parametrize(
    "data",
    [
        {"x": float("nan")},
        {"x": "\ud800"},
        {"x": "line\nbreak\x00\u2028"},
        {"x": "y" * 1_000_000},
        {"x": NOON},
    ],
)
def test_whatever_the_data_a_line_is_one_line_of_json(file: Path, data) -> None:
    journal.write("a", "info", "before", now=NOON)
    assert journal.write("a", "info", "this\none", data, now=NOON)
    journal.write("a", "info", "after", now=NOON)

    assert [line["message"] for line in lines(file)] == ["before", "this\none", "after"]
    assert file.stat().st_size < 2 * journal.LONGEST


def test_data_in_a_circle_is_left_out(file: Path) -> None:
    circle: dict[str, object] = {}
    circle["me"] = circle

    assert journal.write("a", "info", "b", circle, now=NOON)
    assert list(lines(file)[0]["data"]) == ["left_out"]  # type: ignore[call-overload]


def test_files_are_turned_over_by_size_and_only_so_many_kept(file: Path, monkeypatch) -> None:
    monkeypatch.setattr(journal, "LARGEST", 1000)
    for number in range(200):
        journal.write("a", "info", str(number), now=NOON)

    names = sorted(each.name for each in file.parent.iterdir())
    assert names == ["daemon_log.jsonl", *(f"daemon_log.jsonl.{n}" for n in range(1, 5))]
    kept = []
    for name in [*reversed(names[1:]), names[0]]:
        found = file.with_name(name)
        assert found.stat().st_size < 1200
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        kept += [int(str(line["message"])) for line in lines(found)]
    assert kept == list(range(kept[0], 200)), "nothing between is missing"


WRITER = """
import os, sys
from datetime import datetime, UTC
import django
django.setup()
from django.conf import settings
from pathlib import Path
settings.EXPORTS_DIR = Path(sys.argv[1])
from daemon_app import journal
journal.LARGEST = 20_000
journal.FILES = 1000
for n in range(300):
    assert journal.write(sys.argv[2], "info", str(n), {"x": "y" * (n % 90)}, now=datetime.now(UTC))
"""


def test_several_processes_lose_no_line_and_tear_none(file: Path) -> None:
    folder = str(file.parent.parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, folder, name], env={**os.environ})
        for name in ("one", "two", "three")
    ]
    assert [writer.wait(100) for writer in writers] == [0, 0, 0]

    found: dict[str, list[int]] = {}
    for each in file.parent.iterdir():
        for line in lines(each):
            found.setdefault(str(line["skill"]), []).append(int(str(line["message"])))
    assert {name: sorted(numbers) for name, numbers in found.items()} == {
        name: list(range(300)) for name in ("one", "two", "three")
    }


def test_a_full_disk_raises_nothing_and_is_told_once(file: Path, monkeypatch, caplog) -> None:
    journal.write("a", "info", "before", now=NOON)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:10])

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        told = [journal.write("a", "info", "lost", now=NOON) for _ in range(5)]
    assert journal.write("a", "info", "after", now=NOON)

    assert told == [False] * 5
    assert len([r for r in caplog.records if "daemon_log" in r.getMessage()]) == 1
    assert [line["message"] for line in lines(file)] == ["before", "after"]


def test_what_another_left_unfinished_spoils_no_line(file: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(b'{"timestamp": "2026-')
    journal.write("a", "info", "b", now=NOON)

    assert json.loads(file.read_bytes().splitlines()[1])["message"] == "b"


def test_a_link_in_its_place_is_not_followed(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").touch()
    file.symlink_to(tmp_path / "elsewhere")

    assert not journal.write("a", "info", "b", now=NOON)
    assert (tmp_path / "elsewhere").read_bytes() == b""

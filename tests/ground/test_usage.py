"""What a run uses over time is written down: little, bounded, and for runs that last."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from daemon_app import supervisor, usage
from daemon_app.usage import MOST, SAMPLE, Recorder, Sample
from tests.ground.conftest import Site, files_no_bigger_than, until

if TYPE_CHECKING:
    from pathlib import Path

NOON = 1_764_000_000.0
MIB = 1 << 20


def test_what_was_noted_reads_back_in_order(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path))

    recorder.note(NOON, 0.5, 3 * MIB, 2)
    recorder.note(NOON + 1, 1.5, 4 * MIB, 1)

    assert usage.read(tmp_path) == [
        Sample(NOON, 0.5, 3 * MIB, 2),
        Sample(NOON + 1, 1.5, 4 * MIB, 1),
    ]


def test_however_long_a_run_lasts_there_are_few_samples_and_none_of_its_peaks_is_lost(
    tmp_path: Path,
) -> None:
    recorder = Recorder(str(tmp_path))
    at = NOON
    for number in range(20 * MOST):
        at += recorder.every
        recorder.note(at, number, 900 * MIB if number == 77 else MIB, 1)

    found = usage.read(tmp_path)

    assert MOST // 2 <= len(found) <= MOST
    assert (tmp_path / usage.NAME).stat().st_size <= MOST * SAMPLE.size
    assert max(each.resident for each in found) == 900 * MIB
    assert found[-1].at == at
    times = [each.at for each in found]
    assert times == sorted(times)


def test_a_full_disk_costs_the_samples_and_nothing_else(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path))

    with files_no_bigger_than(SAMPLE.size + SAMPLE.size // 2):
        for number in range(3):
            recorder.note(NOON + number, 0.0, MIB, 1)
    recorder.note(NOON + 9, 0.0, MIB, 1)

    assert usage.read(tmp_path) == [Sample(NOON, 0.0, MIB, 1)]


@pytest.mark.parametrize("there", ["nothing", "a link", "a folder"])
def test_a_folder_without_samples_has_none(tmp_path: Path, there: str) -> None:
    if there == "a link":
        Recorder(str(tmp_path)).note(NOON, 0.0, MIB, 1)
        (tmp_path / usage.NAME).rename(tmp_path / "elsewhere")
        (tmp_path / usage.NAME).symlink_to(tmp_path / "elsewhere")
    elif there == "a folder":
        (tmp_path / usage.NAME).mkdir()

    assert usage.read(tmp_path) == []


def test_a_run_that_lasts_leaves_what_it_used(site: Site) -> None:
    run = site.launch("dd if=/dev/zero of=/dev/null bs=1M & sleep 60")

    found = until(lambda: usage.read(site.of(run)))
    supervisor.request_stop(site.of(run), "kill")
    site.news("ended", run)

    assert found[0].processes >= 2
    assert found[0].resident > MIB
    assert found[0].cpu > 0


def test_a_short_run_writes_no_sample(site: Site) -> None:
    run = site.launch("sleep 0.4")
    site.news("ended", run)

    assert not (site.of(run) / usage.NAME).exists()


def test_on_a_busy_machine_samples_come_as_often(tmp_path: Path) -> None:
    def look() -> list[Any]:
        time.sleep(0.2)  # others have the processor meanwhile
        return []

    run = SimpleNamespace(
        started=-60.0,
        usage=Recorder(str(tmp_path)),
        due=cast("dict[Any, float]", {}),
        _measure_tree=look,
        _cpu_of=lambda _tree: 0.0,
    )
    measure = supervisor._Run._measure
    measure(cast("Any", run), time.monotonic())

    assert len(usage.read(tmp_path)) == 1
    assert run.due[measure] - time.monotonic() < 100  # not a thousand times as long as it took

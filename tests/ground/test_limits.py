"""What a whole tree may use, what is told when it uses more, and what is recorded of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from daemon_app import processes, supervisor
from tests.ground.conftest import TOKEN, Site, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

MB = 1 << 20
# What each writes, a process of it does; Python, as a shell would hardly use any memory
SPIN = f"{sys.executable} -c 'while True: pass'"
SPIN_A_WHILE = (
    f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.06: pass' >/dev/null"
)
HOLD = (
    f"{sys.executable} -c 'import time; data = bytearray(b\"x\" * ({{}} << 20)); time.sleep(1000)'"
)


def phases(site: Site) -> list[str]:
    return [news["phase"] for news in site.heard if news["op"] == "phase"]


def test_who_uses_too_much_processor_time_is_stopped(site: Site):
    result = site.run(f"{SPIN} & {SPIN} & wait", cpu_limit=0.4, limit_action="stop")

    assert (result["outcome"], result["limit"], result["signal"]) == ("over_limit", "cpu", 15)
    assert 0.4 <= result["cpu_seconds"] < 3
    assert result["survivors"] == 0
    assert phases(site) == ["cpu_limit", "term"]
    assert (site.of(1) / "phase").read_text() == "term"
    assert processes.find_marked(1, TOKEN) == []


@pytest.mark.parametrize("who", ["reaped by the command", "reaped by us"])
def test_processor_time_of_ended_children_counts(site: Site, who):
    start = SPIN_A_WHILE if who == "reaped by the command" else f"(setsid {SPIN_A_WHILE} &)"

    result = site.run(
        f"while :; do {start}; sleep 0.05; done", cpu_limit=0.4, limit_action="stop", timeout=60
    )

    assert (result["outcome"], result["limit"]) == ("over_limit", "cpu")
    assert result["cpu_seconds"] >= 0.4


def test_a_limit_may_only_warn(site: Site):
    run = site.launch(
        f"timeout 0.5 {SPIN}; while [ ! -e go ]; do sleep 0.01; done; exit 4",
        cpu_limit=0.1,
        limit_action="warn",
    )

    site.news("phase", run, phase="cpu_limit")
    (site.folder / "go").touch()
    result = site.ended(run)

    assert (result["outcome"], result["exit_code"], result["limit"]) == ("exited", 4, "cpu")
    assert phases(site) == ["cpu_limit"]
    assert not (site.of(run) / "phase").exists()


def test_who_occupies_too_much_memory_is_stopped_however_it_is_spread(site: Site):
    hold = HOLD.format(40)

    result = site.run(
        f"{hold} & {hold} & {hold} & wait", memory_limit=100 * MB, limit_action="stop"
    )

    assert (result["outcome"], result["limit"]) == ("over_limit", "memory")
    assert result["peak_rss_bytes"] > 100 * MB
    assert phases(site) == ["memory_limit", "term"]


def test_memory_that_is_shared_counts_once(site: Site):
    share = (
        "import os, time; data = bytearray(b'x' * (60 << 20))\n"
        "for _ in range(5):\n if not os.fork(): time.sleep(1000)\n"
        "open('ready', 'w').write('\\n')\n"
        "while not os.path.exists('go'): time.sleep(0.01)"
    )
    run = site.launch(
        [sys.executable, "-c", share],
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        memory_limit=150 * MB,
        limit_action="stop",
    )
    site.wrote("ready")
    pid = supervisor.look(site.of(run)).pid
    assert pid is not None
    tree = until(lambda: len(found := processes.descendants(pid)) == 6 and found)
    assert sum(each.resident for each in tree) > 300 * MB
    assert processes.occupied(tree) < 150 * MB
    looked = time.monotonic() + 1.2 * supervisor.LOOK_SECONDS

    until(lambda: time.monotonic() > looked)
    (site.folder / "go").touch()

    assert site.ended(run)["outcome"] == "exited"


def test_peaks_that_do_not_last_are_let_pass(site: Site):
    peaks = (
        "import time\n"
        "for _ in range(3): data = b'x' * (80 << 20); time.sleep(0.4); del data; time.sleep(0.6)"
    )

    result = site.run(
        [sys.executable, "-c", peaks], memory_limit=50 * MB, limit_sustain=1.5, limit_action="stop"
    )

    assert (result["outcome"], result["limit"]) == ("exited", None)
    assert result["peak_rss_bytes"] > 80 * MB


def test_a_peak_that_lasts_is_not(site: Site):
    result = site.run(HOLD.format(80), memory_limit=50 * MB, limit_sustain=0.4, limit_action="stop")

    assert (result["outcome"], result["limit"]) == ("over_limit", "memory")
    assert result["duration"] >= 0.4


def test_both_limits_are_told_and_the_first_is_recorded(site: Site):
    spin = "import time; data = b'x' * (60 << 20)\nwhile time.process_time() < 1: pass"

    result = site.run([sys.executable, "-c", spin], cpu_limit=0.5, memory_limit=40 * MB)

    assert sorted(phases(site)) == ["cpu_limit", "memory_limit"]
    assert (result["outcome"], result["limit"]) == ("exited", phases(site)[0].split("_")[0])


def test_a_limit_uses_the_whole_ladder(site: Site):
    result = site.run(
        f"trap '' TERM; trap > /dev/null; {SPIN} & while :; do :; done",
        cpu_limit=0.2,
        limit_action="stop",
        stop_command="echo >> asked",
    )

    assert (result["outcome"], result["signal"]) == ("over_limit", 9)
    assert phases(site) == ["cpu_limit", "asked", "term", "kill"]
    assert site.wrote("asked")


def test_a_limit_that_is_not_reached_costs_next_to_nothing(site: Site):
    run = site.launch("exec sleep 3", cpu_limit=1000, memory_limit=1000 * MB)
    site.news("started", run)
    pid = supervisor.look(site.of(run)).pid
    assert pid is not None

    def used() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = used()
    site.ended(run)

    assert used() - before <= 3  # hundredths of a second, in three seconds


# ── what is recorded ─────────────────────────────────────────────────────────────────────────────


def test_what_the_tree_read_and_wrote_is_recorded(site: Site):
    size = 8 * MB

    result = site.run(f"(dd if=/dev/zero of=big bs=1M count={size // MB} conv=fsync; true) 2>&1")

    if not result["write_bytes"]:
        pytest.skip("the temporary folder is no disk")
    assert size <= result["write_bytes"] < 2 * size
    assert result["read_bytes"] < size


def test_what_lives_on_is_counted_as_far_as_it_has_come(site: Site):
    (site.folder / "spin.py").write_text(
        "import time\nwhile time.process_time() < 0.3: pass\n"
        "open('done', 'w').write('\\n'); time.sleep(1000)"
    )

    result = site.run(
        f"{sys.executable} spin.py >/dev/null 2>&1 & while [ ! -s done ]; do sleep 0.01; done",
        leave_descendants=True,
    )

    assert result["left_running"] == 1
    assert result["cpu_seconds"] >= 0.29
    assert result["read_bytes"] is not None
    assert processes.end_marked(1, TOKEN) == 1

"""A pid file names one living process for certain, and one process at a time holds it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_app import pidfile
from daemon_app.pidfile import Holder

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys
from pathlib import Path
from daemon_app import pidfile
try:
    with pidfile.held(Path(sys.argv[1]), "http://here", patience=0.5):
        if "fork" in sys.argv and os.fork() == 0:
            sys.stdin.readline()
            os._exit(0)
        print("held", flush=True)
        sys.stdin.readline()
except pidfile.Taken as taken:
    print("taken", taken.pid, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.pid"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that never held anything."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def start_holder(path: Path, *words: str) -> subprocess.Popen[str]:
    """Start a process that tries to hold `path` until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    """Let a holder end by itself."""
    process.communicate("\n", timeout=20)


def kill(process: subprocess.Popen[str]) -> None:
    """End a holder before it can tidy up."""
    process.kill()
    process.communicate()


def test_a_holder_is_found_with_its_address_and_gone_at_its_end(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"

    found = pidfile.holder(path)

    assert found is not None
    assert (found.pid, found.address) == (process.pid, "http://here")
    assert path.read_text().splitlines()[0] == str(process.pid)

    end(process)
    assert pidfile.holder(path) is None
    assert not path.exists()


def test_nobody_else_can_read_it(path: Path) -> None:
    with pidfile.held(path):
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert modes == {"daemon.pid": 0o600, "daemon.lock": 0o600}


def test_what_a_killed_process_left_behind_holds_nothing(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"
    kill(process)
    assert path.exists()

    assert pidfile.holder(path) is None

    with pidfile.held(path) as mine:
        assert mine.pid == os.getpid()


def test_a_zombie_holds_nothing(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert pidfile.holder(path) is None

    process.communicate()


def test_a_number_that_was_given_to_another_process_is_recognised(
    path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    former = Holder.myself()
    path.write_text(str(Holder(sleeper.pid, former.started, former.boot)))

    assert pidfile.holder(path) is None
    assert not Holder(sleeper.pid, former.started, former.boot).signal(signal.SIGKILL)
    assert sleeper.poll() is None

    with pidfile.held(path):
        found = pidfile.holder(path)
        assert found is not None
        assert found.pid == os.getpid()


def test_a_process_of_an_earlier_boot_is_not_taken_for_this_one(path: Path) -> None:
    mine = Holder.myself()
    path.write_text(f"{mine.pid}\n{mine.started}\nanother-boot\n\n")

    assert pidfile.holder(path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "0\n",
        "-1\n",
        "1",
        f"{os.getpid()}\n",
        "٣\n",
        "12 34\n",
        "99999999999999999999\n0\n",
        "4194305\n1\n",
        "\0" * 100,
        "x" * 10_000,
    ],
)
def test_nonsense_in_the_file_means_nobody_and_blocks_nobody(path: Path, text: str) -> None:
    path.write_text(text)

    assert pidfile.holder(path) is None
    with pidfile.held(path):
        assert pidfile.holder(path) is not None


def test_bytes_that_are_no_text_mean_nobody(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80")

    assert pidfile.holder(path) is None


def test_a_second_process_is_told_who_holds_it(path: Path) -> None:
    first = start_holder(path)
    assert said(first) == "held"

    second = start_holder(path)

    assert said(second) == f"taken {first.pid}"
    end(second)
    found = pidfile.holder(path)
    assert found is not None
    assert found.pid == first.pid
    end(first)


def test_of_many_that_start_at_once_one_holds_it(path: Path) -> None:
    processes = [start_holder(path) for _ in range(6)]

    answers = [said(process) for process in processes]

    holder = processes[answers.index("held")]
    assert sorted(answers) == ["held"] + 5 * [f"taken {holder.pid}"]
    for process in processes:
        end(process)


def test_one_process_cannot_hold_it_twice(path: Path) -> None:
    with (
        pidfile.held(path) as mine,
        pytest.raises(pidfile.Taken) as taken,
        pidfile.held(path),
    ):
        pass

    assert taken.value.pid == mine.pid


def test_removing_the_file_by_hand_lets_no_second_one_in(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"
    path.unlink()

    found = pidfile.holder(path)

    assert found is not None
    assert found.pid == process.pid
    with pytest.raises(pidfile.Taken), pidfile.held(path):
        pass
    end(process)


def test_removing_the_lock_by_hand_lets_no_second_one_in(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"
    path.with_suffix(".lock").unlink()

    with pytest.raises(pidfile.Taken) as taken, pidfile.held(path):
        pass

    assert taken.value.pid == process.pid
    end(process)


def test_what_a_killed_holder_forked_keeps_it_until_its_own_end(path: Path) -> None:
    process = start_holder(path, "fork")
    assert said(process) == "held"
    process.kill()
    process.wait()

    with pytest.raises(pidfile.Taken) as taken, pidfile.held(path, patience=0.2):
        pass
    assert taken.value.pid is None

    # Their pipe ends, and with it the child that still reads from it.
    process.communicate()
    with pidfile.held(path, patience=20):
        pass


def test_a_fork_that_leaves_the_block_ends_nothing_of_its_parents(path: Path) -> None:
    def leave() -> None:
        with pidfile.held(path):
            child = os.fork()
            if child == 0:
                raise SystemExit(0)
            os.waitpid(child, 0)
            found = pidfile.holder(path)
            os._exit(0 if found and found.pid == os.getpid() else 1)

    process = multiprocessing.get_context("fork").Process(target=leave)
    process.start()
    process.join()

    assert process.exitcode == 0


def test_the_file_of_a_successor_is_not_removed(path: Path) -> None:
    successor = Holder(1, "2", "3")

    with pidfile.held(path):
        path.write_text(str(successor))

    assert path.read_text() == str(successor)


def test_a_signal_reaches_the_very_process_and_its_end_can_be_awaited(path: Path) -> None:
    process = start_holder(path)
    assert said(process) == "held"
    found = pidfile.holder(path)
    assert found is not None
    assert not found.wait(0.0)

    assert found.signal(signal.SIGTERM)

    assert found.wait(20)
    assert not found.signal(signal.SIGTERM)
    process.communicate()


# ── Where there is no /proc ──────────────────────────────────────────────────────────────────────
@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: `ps` says when a process started, nothing says which boot this is."""
    monkeypatch.setattr(pidfile, "LINUX", False)
    monkeypatch.setattr(pidfile, "boot_id", lambda: None)
    monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.mark.usefixtures("without_proc")
def test_without_proc_the_start_tells_processes_apart(
    path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    with pidfile.held(path):
        found = pidfile.holder(path)
        assert found is not None
        assert found.pid == os.getpid()

    recycled = Holder(sleeper.pid, "Thu Jan 1 00:00:00 1970", "")
    assert not recycled.is_alive()
    assert not recycled.signal(signal.SIGKILL)
    assert sleeper.poll() is None


@pytest.mark.usefixtures("without_proc")
def test_without_proc_a_zombie_counts_as_gone_too(sleeper: subprocess.Popen[bytes]) -> None:
    found = Holder(sleeper.pid, pidfile._start_of(sleeper.pid) or "", "")
    assert found.is_alive()

    assert found.signal(signal.SIGKILL)

    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not found.is_alive()


def test_the_words_of_ps_do_not_depend_on_zone_or_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = pidfile._start_by_ps(os.getpid())
    monkeypatch.setenv("TZ", "Pacific/Apia")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    time.tzset()

    try:
        assert pidfile._start_by_ps(os.getpid()) == before
    finally:
        monkeypatch.undo()
        time.tzset()

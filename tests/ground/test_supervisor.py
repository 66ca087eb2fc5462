"""One run under its supervisor: how it starts, what it sees, how it ends, what is told of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon_app import output, supervisor
from daemon_app.output import STDERR, STDOUT
from tests.ground.conftest import DEADLINE, Site, disk, files_no_bigger_than, until

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_command_that_succeeds_leaves_a_whole_result(site: Site):
    result = site.run("echo hello; echo trouble >&2")

    assert result["outcome"] == "exited"
    assert (result["exit_code"], result["signal"], result["error"]) == (0, None, None)
    assert result["started_at"] <= result["ended_at"]
    assert result["duration"] > 0
    assert result["cpu_seconds"] > 0
    assert (result["output_bytes"], result["dropped_bytes"], result["lines"]) == (14, 0, 2)
    assert (result["survivors"], result["left_behind"], result["remarks"]) == (0, 0, [])
    assert json.loads((site.of(1) / "result.json").read_text()) == result


@pytest.mark.parametrize(
    ("command", "outcome", "exit_code", "signal"),
    [
        ("exit 3", "exited", 3, None),
        ("kill -SEGV $$", "signaled", None, 11),
        ("kill -KILL $$", "signaled", None, 9),
        ("exit 137", "exited", 137, None),  # what a shell says of a killed child is its own exit
        ("exec >&- 2>&-; exit 4", "exited", 4, None),
        ("trap '' PIPE; exec >&-; echo lost; exit 5", "exited", 5, None),
        ("cat", "exited", 0, None),  # standard input is empty, not a terminal that hangs
        ("", "exited", 0, None),
    ],
)
def test_each_way_to_end_is_told_apart(site: Site, command, outcome, exit_code, signal):
    result = site.run(command)

    assert (result["outcome"], result["exit_code"], result["signal"]) == (
        outcome,
        exit_code,
        signal,
    )
    assert result["survivors"] == 0


@pytest.mark.parametrize(
    ("argv", "more", "error", "what"),
    [
        (["does-not-exist"], {}, "ENOENT", "command"),
        (["/etc/passwd"], {}, "EACCES", "command"),
        (["true"], {"cwd": "/does/not/exist"}, "ENOENT", "cwd"),
        (["true"], {"cwd": "/etc/passwd"}, "ENOTDIR", "cwd"),
        (["true", "\0"], {}, "EINVAL", "command"),
        (["true"], {"env": {"A=B": "c"}}, "EINVAL", "command"),
    ],
)
def test_a_command_that_cannot_start_says_why_and_where(site: Site, argv, more, error, what):
    result = site.run(argv, **more)

    assert result["outcome"] == "not_started"
    assert (result["error"], result["error_what"]) == (error, what)
    assert (result["exit_code"], result["signal"], result["started_at"]) == (None, None, None)
    if what == "cwd":
        assert result["error_path"] == more["cwd"]
    assert supervisor.look(site.of(1)).kind == "ended"


def test_a_folder_that_cannot_be_made_is_told_by_bell(site: Site):
    (site.folder / "runs").write_text("in the way")

    result = site.run("true")

    assert (result["outcome"], result["error"]) == ("not_started", "ENOTDIR")
    assert (result["error_what"], result["error_path"]) == ("folder", str(site.of(1)))


def test_a_disk_too_full_for_the_lock_starts_nothing_and_can_be_tried_again(site: Site):
    before = site.launcher
    with files_no_bigger_than(0):
        site.launcher = supervisor.Launcher(site.runtime)
    result = site.run("touch made")
    site.launcher.close()
    site.launcher = before

    assert (result["outcome"], result["error"]) == ("not_started", "EFBIG")
    assert not (site.folder / "made").exists()
    assert supervisor.look(site.of(1)).kind == "absent"
    site.heard.clear()
    site.launch("touch made", run=1)
    assert site.ended(1)["outcome"] == "exited"


def test_memory_and_cpu_are_those_of_the_whole_tree(site: Site):
    eat = "data = b'x' * 80_000_000; sum(range(3_000_000))"

    result = site.run(f"'{sys.executable}' -c \"{eat}\"; true")

    assert result["peak_rss_bytes"] > 80_000_000
    assert result["cpu_seconds"] > 0.02


# ── what the command sees ────────────────────────────────────────────────────────────────────────


def test_the_command_sees_its_environment_and_nothing_else(site: Site, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "canary")
    spec = site.spec(["/usr/bin/env"], env={"NAME": "ü\n=x"})

    site.launcher.launch(spec)
    site.ended(1)

    seen = site.output().decode()
    assert seen == "".join(f"{name}={value}\n" for name, value in spec["env"].items())


@linux
def test_nothing_of_ours_is_open_in_the_command_nor_shown_by_the_supervisor(site: Site):
    with (site.folder / "open").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        launcher = supervisor.Launcher(site.runtime)
    with launcher:
        site.launcher, before = launcher, site.launcher
        before.close()
        run = site.launch(
            "ls /proc/$$/fd; while [ ! -s runs/1/output.0 ]; do sleep 0.01; done;"
            " ls -l /proc/$PPID/fd; cat /proc/$PPID/environ; echo end"
        )
        site.ended(run)

    *seen, last = site.output().decode().splitlines()
    assert seen[:3] == ["0", "1", "2"]
    assert not seen[3].isdecimal()
    assert last == "end"
    files = {line.rpartition("/")[2] for line in seen if str(site.folder) in line}
    assert files == {"lock", "output.0", "zygote.log"}


def test_the_files_of_a_run_are_ours_alone_and_those_of_the_command_as_usual(site: Site):
    site.run("umask; echo trouble >&2; touch made")

    assert site.output().startswith(b"0022\n")
    assert stat.S_IMODE(site.of(1).stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in site.of(1).iterdir()} == {0o600}
    assert stat.S_IMODE((site.folder / "made").stat().st_mode) == 0o644


def test_a_run_may_have_a_umask_of_its_own(site: Site):
    site.run("umask", umask=0o027)

    assert site.output() == b"0027\n"


@linux
def test_signals_reach_the_command_as_in_any_shell(site: Site):
    site.run(["cat", "/proc/self/status"])

    status = dict(line.split(":\t", 1) for line in site.output().decode().splitlines())
    # Signals 32 and 33 are the C library's own: what a program inherits of them nobody can change.
    usual = ~(1 << 31 | 1 << 32)
    assert {int(status[name], 16) & usual for name in ("SigBlk", "SigIgn", "SigCgt")} == {0}


@pytest.mark.skipif(not shutil.which("ionice"), reason="ionice is not here")
def test_a_run_may_be_nicer_to_others(site: Site):
    result = site.run("nice; ionice", nice=7, ionice="best-effort:6")

    assert site.output() == b"7\nbest-effort: prio 6\n"
    assert result["remarks"] == []


# ── output ───────────────────────────────────────────────────────────────────────────────────────


def test_both_streams_are_kept_in_order_of_arrival_and_told_apart(site: Site):
    gate = "while [ ! -e $HERE/go-%d ]; do sleep 0.01; done;"
    run = site.launch(f"echo one; {gate % 1} echo two >&2; {gate % 2} echo three")

    for number, size in ((1, 4), (2, 8)):
        until(partial(lambda wanted: output.size(site.of(run)) == wanted, size))
        (site.folder / f"go-{number}").touch()
    site.ended(run)

    assert site.output() == b"one\ntwo\nthree\n"
    spans = output.spans(site.of(run))
    assert [(offset, stream) for offset, _, stream in spans] == [
        (0, STDOUT),
        (4, STDERR),
        (8, STDOUT),
    ]


def test_any_bytes_are_stored_as_they_are(site: Site):
    data = random.Random(7).randbytes(300_000) + b"\0\xff\xed\xa0\x80\r\n" + b"x" * 10_000_000
    (site.folder / "data").write_bytes(data)

    result = site.run("cat data", tail_chunks=20)

    assert (result["output_bytes"], result["dropped_bytes"]) == (len(data), 0)
    assert hashlib.sha256(site.output()).digest() == hashlib.sha256(data).digest()
    assert result["lines"] == data.count(b"\n") + 1


@linux
def test_a_flood_is_bounded_on_disk_and_in_memory_and_what_is_lost_is_counted(site: Site):
    lines = 4_000_000

    result = site.run(f"seq {lines}")

    whole = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
    assert (result["output_bytes"], result["lines"]) == (len(whole), lines)
    kept = len(site.output())
    assert 10 << 20 <= kept <= 11 << 20
    assert result["dropped_bytes"] == len(whole) - kept
    folder = site.of(1)
    head = output.read(folder, 0, 2 << 20).data
    assert head == whole[: 1 << 20]
    rest = output.read(folder, len(head), 20 << 20)
    assert rest.gap == result["dropped_bytes"]
    assert rest.data == whole[rest.offset :]
    assert output.line_at(folder, rest.offset) == whole.count(b"\n", 0, rest.offset) + 1
    assert output.line_at(folder, len(whole) - 1) == lines
    pid = supervisor.look(folder).pid
    status = Path(f"/proc/{pid}/status").read_text()
    high_water = int(status.partition("VmHWM:")[2].split()[0])
    assert high_water < 30_000  # KB


FLOOD = 150_000_000  # bytes
PATTERN = b"0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def expected(pattern: bytes, start: int, length: int) -> bytes:
    """Return a part of an endless repetition."""
    skip = start % len(pattern)
    return (pattern * ((skip + length) // len(pattern) + 1))[skip : skip + length]


@linux
@pytest.mark.parametrize("ends", ["with line ends", "without any"])
def test_head_and_tail_of_a_big_flood_are_exact_and_the_supervisor_stays_small(site: Site, ends):
    pattern = PATTERN + b"\n" if ends == "with line ends" else PATTERN
    only = "" if ends == "with line ends" else "| tr -d '\\n'"

    result = site.run(f"yes {PATTERN.decode()} 2>/dev/null {only} | head -c {FLOOD}")

    folder = site.of(1)
    head = output.read(folder, 0, 2 << 20).data
    tail = output.read(folder, len(head), 20 << 20)
    assert (result["outcome"], result["output_bytes"]) == ("exited", FLOOD)
    assert result["dropped_bytes"] == tail.gap == FLOOD - len(head) - len(tail.data)
    assert (len(head), tail.end) == (1 << 20, FLOOD)
    assert 9 << 20 <= len(tail.data) <= 10 << 20
    assert head == expected(pattern, 0, len(head))
    assert tail.data == expected(pattern, tail.offset, len(tail.data))
    pid = supervisor.look(folder).pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 30_000  # KB


@pytest.mark.parametrize(
    ("printed", "last"),
    [
        (r"one\ntwo\n\n  \n", "two"),
        (r"\033[31mred\033[0m\n\033[2J", "red"),
        (r"10%%\r50%%\r100%%", "100%"),
        (r"\033]0;title\007shown \033]8;;http://x\033\\link\033]8;;\033\\\n", "shown link"),
        (r"a\tb\000c\177\342\200\256d\n", "a bcd"),
        (r"\377bad\n", "�bad"),
        (r"\033[1m\n\007\n", ""),
        ("", ""),
    ],
)
def test_the_last_line_is_fit_to_be_shown(site: Site, printed, last):
    result = site.run(f"printf '{printed}'")

    assert result["last_line"] == last


def test_a_long_last_line_is_cut(site: Site):
    result = site.run("printf '%0999d' 1")

    assert result["last_line"] == "0" * 200 or len(result["last_line"]) == 200


def test_pages_are_rung_for_the_first_bytes_and_after_the_last(site: Site):
    gate = "while [ ! -e $HERE/go ]; do sleep 0.01; done;"
    run = site.launch(f"echo one; {gate} echo two")
    topics = json.dumps([f"log:{run}"]).encode()

    assert topics in site.live.wait(DEADLINE)
    site.live.drain()
    (site.folder / "go").touch()
    site.ended(run)

    assert site.live.wait(DEADLINE)[-1] == topics


def test_a_flood_rings_no_more_often_than_pages_can_use(site: Site):
    heard: list[bytes] = []
    run = site.launch("seq 1500000")

    def heard_to_the_end() -> bool:
        heard.extend(site.live.drain())
        return supervisor.look(site.of(run)).kind == "ended"

    until(heard_to_the_end)
    result = site.ended(run)

    assert 1 <= len(heard) <= result["duration"] / supervisor.BELL_SECONDS + 10


def test_a_full_disk_costs_output_and_not_the_run(site: Site):
    site.launcher.close()
    with files_no_bigger_than(100_000):
        site.launcher = supervisor.Launcher(site.runtime)

    result = site.run("seq 100000; echo still here")

    assert (result["outcome"], result["exit_code"]) == ("exited", 0)
    assert result["output_error"] == "EFBIG"
    assert result["dropped_bytes"] > 0
    assert result["output_bytes"] - result["dropped_bytes"] == len(site.output()) > 0
    assert result["last_line"] == "still here"


@pytest.fixture
def small_disk(site: Site) -> Iterator[Path]:
    """Put the runs on a disk of three megabytes, two of them taken."""
    runs = site.folder / "runs"
    with disk(runs, "size=3m"):
        (runs / "ballast").write_bytes(b"x" * (2 << 20))
        yield runs


@linux
def test_a_disk_that_was_full_is_written_to_again_once_there_is_room(site: Site, small_disk):
    pattern = PATTERN + b"\n"
    run = site.launch(
        f"yes {PATTERN.decode()} 2>/dev/null | head -c 4000000; echo >> full;"
        f" while [ ! -e room ]; do sleep 0.01; done; while [ ! -e seen ]; do"
        f" echo {PATTERN.decode()}; sleep 0.02; done; exit 7"
    )
    site.wrote("full")
    assert supervisor.look(site.of(run)).kind == "running"
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(b"x" * (1 << 20))
    (small_disk / "more").unlink()

    (small_disk / "ballast").unlink()
    (site.folder / "room").touch()
    until(lambda: len(output.read(site.of(run), 4_000_000).data) > 200)
    (site.folder / "seen").touch()
    result = site.ended(run)

    assert (result["outcome"], result["exit_code"]) == ("exited", 7)
    assert (result["output_error"], result["remarks"]) == ("ENOSPC", [])
    assert result["last_line"] == PATTERN.decode()
    # 4,000,000 is no multiple of the pattern's length: what comes later begins anew.
    kept, at = 0, 0
    while (piece := output.read(site.of(run), at, 1 << 16)).data:
        for offset, byte in enumerate(piece.data, piece.offset):
            begin = 0 if offset < 4_000_000 else 4_000_000
            assert byte == pattern[(offset - begin) % len(pattern)]
        kept, at = kept + len(piece.data), piece.end
    assert kept > 500_000
    assert result["output_bytes"] == at
    assert result["dropped_bytes"] == at - kept > 2_000_000
    assert output.dropped(site.of(run)) == result["dropped_bytes"]


# ── launching ────────────────────────────────────────────────────────────────────────────────────


def test_a_launch_that_lacks_something_is_refused(site: Site):
    with pytest.raises(supervisor.LaunchError, match="argv, folder"):
        site.launcher.launch({"run": 1, "fence": 1, "env": {}, "runtime": ""})


def test_the_same_launch_twice_starts_once_and_its_end_is_told_again(site: Site):
    spec = site.spec("echo started >> ledger")
    site.launcher.launch(spec)
    site.ended(1)
    site.heard.clear()

    site.launcher.launch(spec)

    assert site.ended(1)["exit_code"] == 0
    assert site.wrote("ledger") == ["started"]


def test_a_launch_while_the_run_is_running_starts_nothing(site: Site):
    spec = site.spec("echo started >> ledger; while [ ! -e $HERE/go ]; do sleep 0.01; done")
    site.launcher.launch(spec)
    site.wrote("ledger")

    site.launcher.launch(spec)
    site.launcher.launch({**spec, "fence": 2})
    other = site.run("true")  # and the launcher goes on
    (site.folder / "go").touch()

    assert other["outcome"] == site.ended(1)["outcome"] == "exited"
    assert site.wrote("ledger") == ["started"]


def test_a_higher_fence_starts_afresh_and_a_lower_one_never(site: Site):
    site.run("echo first; echo trouble >&2")
    site.heard.clear()

    site.launch("echo second", run=1, fence=2)
    second = site.ended(1)
    site.launch("echo never", run=1, fence=1)
    site.run("true")

    assert second["fence"] == 2
    assert site.output(1) == b"second\n"
    assert output.spans(site.of(1))[0][2] == STDOUT
    assert supervisor.look(site.of(1)).result == second


def test_a_launch_too_big_for_a_message_arrives_all_the_same(site: Site):
    site.run(["/bin/sh", "-c", 'printf %s "$BIG" | wc -c'], env={"BIG": "x" * 120_000})

    assert site.output().strip() == b"120000"
    assert not list(site.runtime.glob("launch-*"))


def test_more_launches_than_the_socket_holds_all_run(site: Site):
    filler = {f"FILLER_{number}": "x" * 2000 for number in range(15)}

    runs = [site.launch("exit 7", env=filler) for _ in range(300)]

    until(lambda: all(supervisor.look(site.of(run)).kind == "ended" for run in runs))
    results = [supervisor.look(site.of(run)).result for run in runs]
    assert {result and result["exit_code"] for result in results} == {7}


def test_runs_that_last_run_side_by_side(site: Site):
    runs = [site.launch("echo >> here; while [ ! -e go ]; do sleep 0.05; done") for _ in range(20)]

    site.wrote("here", lines=20)
    assert {supervisor.look(site.of(run)).kind for run in runs} == {"running"}
    (site.folder / "go").touch()

    assert {site.ended(run)["exit_code"] for run in runs} == {0}


def test_a_supervisor_is_used_again_and_remembers_nothing(site: Site):
    seen: dict[int | None, int] = {}
    while max(seen.values(), default=0) < 2:
        run = site.launch("echo out; echo err >&2; exit 1")
        first = site.ended(run)
        pid = supervisor.look(site.of(run)).pid
        seen[pid] = seen.get(pid, 0) + 1

    run = site.launch("true")
    second = site.ended(run)

    assert (first["output_bytes"], first["exit_code"]) == (8, 1)
    assert (second["output_bytes"], second["exit_code"]) == (0, 0)
    assert (second["lines"], second["last_line"], second["remarks"]) == (0, "", [])


# ── looking and stopping ─────────────────────────────────────────────────────────────────────────


def test_a_run_can_be_seen_at_every_stage(site: Site):
    folder = site.folder / "runs" / "1"
    assert supervisor.look(folder).kind == "absent"

    run = site.launch("while [ ! -e go ]; do sleep 0.01; done; exit 5")
    started = site.news("started", run)
    running = supervisor.look(folder)
    (site.folder / "go").touch()
    site.ended(run)
    ended = supervisor.look(folder)

    assert (running.kind, running.fence, running.result) == ("running", 1, None)
    assert running.command == started["pid"]
    assert running.started_at == started["at"]
    assert running.identity is not None
    assert running.identity.is_alive()
    assert ended.kind == "ended"
    assert ended.result is not None
    assert ended.result["exit_code"] == 5


def test_stopping_asks_by_sigterm_and_lets_the_command_finish(site: Site):
    run = site.launch("trap 'echo bye; exit 9' TERM; echo >> ready; while :; do sleep 0.01; done")
    site.wrote("ready")

    assert supervisor.request_stop(site.of(run))
    result = site.ended(run)

    assert (result["outcome"], result["exit_code"]) == ("stopped", 9)
    assert b"bye\n" in site.output()
    assert site.news("phase", run)["phase"] == "term"
    assert (site.of(run) / "phase").read_text() == "term"


def test_who_ignores_sigterm_is_killed_after_the_grace(site: Site):
    run = site.launch("trap '' TERM; echo >> ready; while :; do sleep 0.01; done")
    site.wrote("ready")

    assert supervisor.request_stop(site.of(run))
    result = site.ended(run)

    assert (result["outcome"], result["signal"]) == ("stopped", 9)
    assert [news["phase"] for news in site.heard if news["op"] == "phase"] == ["term", "kill"]


def test_a_kill_does_not_ask_not_even_after_asking(site: Site):
    run = site.launch("trap '' TERM; echo >> ready; while :; do sleep 0.01; done", grace=1000)
    site.wrote("ready")
    supervisor.request_stop(site.of(run))
    site.news("phase", run, phase="term")

    assert supervisor.request_stop(site.of(run), "kill")

    assert site.ended(run)["signal"] == 9


def test_the_time_limit_counts_from_the_start_and_keeps_what_was_written(site: Site):
    result = site.run("echo begun; exec sleep 1000", timeout=0.2)

    assert (result["outcome"], result["signal"], result["exit_code"]) == ("timed_out", 15, None)
    assert result["duration"] >= 0.2
    assert site.output() == b"begun\n"


def test_a_soft_limit_only_warns(site: Site):
    run = site.launch("while [ ! -e go ]; do sleep 0.01; done", soft_timeout=0.05, timeout=1000)

    warning = site.news("phase", run)
    (site.folder / "go").touch()

    assert warning["phase"] == "soft"
    assert site.ended(run)["outcome"] == "exited"


def test_a_stop_command_is_tried_before_sigterm(site: Site):
    run = site.launch(
        "trap 'echo >> termed' TERM; echo >> ready; while [ ! -e go ]; do sleep 0.01; done; exit 6",
        stop_command='echo "stopping $BACH_COMMAND_PID in $PWD" >&2; touch go',
        grace=1000,
    )
    site.wrote("ready")

    supervisor.request_stop(site.of(run))
    result = site.ended(run)

    assert (result["outcome"], result["exit_code"]) == ("stopped", 6)
    assert not (site.folder / "termed").exists()
    assert site.news("phase", run)["phase"] == "asked"
    assert site.output().startswith(b"stopping ")
    assert site.output().endswith(f" in {site.folder}\n".encode())


def test_a_stop_command_that_fails_is_followed_by_sigterm_at_once(site: Site):
    run = site.launch("echo >> ready; exec sleep 1000", stop_command="exit 3", grace=1000)
    site.wrote("ready")

    supervisor.request_stop(site.of(run))
    result = site.ended(run)

    assert (result["outcome"], result["signal"]) == ("stopped", 15)
    assert result["remarks"] == ["stop_command: exit 3"]


def test_a_stop_command_that_ends_without_effect_is_followed_by_sigterm_soon(site: Site):
    run = site.launch(
        "echo >> ready; exec sleep 1000", stop_command="echo >> asked", grace=1000, timeout=0.1
    )
    site.wrote("ready")

    result = site.ended(run)  # long before the grace is over

    assert site.wrote("asked")
    assert (result["outcome"], result["signal"], result["remarks"]) == ("timed_out", 15, [])
    assert result["duration"] >= supervisor.HEED_SECONDS


def test_a_stop_command_that_never_ends_has_one_grace(site: Site):
    run = site.launch(
        "trap '' TERM; echo >> ready; while :; do sleep 0.01; done",
        stop_command="trap '' TERM; echo >> asked; while :; do sleep 0.01; done",
        grace=0.5,
    )
    site.wrote("ready")

    supervisor.request_stop(site.of(run))
    result = site.ended(run)

    assert site.wrote("asked")
    assert (result["outcome"], result["signal"]) == ("stopped", 9)
    assert result["duration"] >= 2 * 0.5


def test_a_stop_that_comes_before_the_start_is_heeded(site: Site):
    assert supervisor.request_stop(site.of(1))

    result = site.run("touch never")

    assert (result["outcome"], result["started_at"]) == ("stopped", None)
    assert not (site.folder / "never").exists()


def test_what_has_ended_cannot_be_stopped(site: Site):
    site.run("true")

    assert not supervisor.request_stop(site.of(1))
    assert not (site.of(1) / "stop").exists()

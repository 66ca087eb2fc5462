"""A run that begins anew: what earlier attempts left is kept aside, and fences hold."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import pytest

from daemon_app import output, supervisor
from tests.ground.conftest import Site, disk, until


def aside(site: Site, fence: int):
    return site.of(1) / "attempts" / str(fence)


def test_what_an_earlier_attempt_left_is_moved_aside(site: Site):
    first = site.run("echo first; echo trouble >&2; exit 1")
    site.heard.clear()

    site.launch("echo second", run=1, fence=2)
    second = site.ended(1)

    assert output.read(site.of(1), 0).data == b"second\n"
    assert output.read(aside(site, 1), 0).data == b"first\ntrouble\n"
    assert [stream for _, _, stream in output.spans(aside(site, 1))] == [1, 2]
    assert supervisor.look(aside(site, 1)).result == first
    assert supervisor.look(site.of(1)).result == second
    assert {path.name for path in site.of(1).iterdir()} == {"attempts", "output.0", "result.json"}
    assert (site.of(1) / "attempts").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the supervisor's death is the command's")
def test_an_attempt_whose_supervisor_died_is_moved_aside_and_known_as_gone(site: Site):
    run = site.launch("echo begun; exec sleep 1000")
    site.news("started", run)
    until(lambda: site.output(run) == b"begun\n")
    seen = supervisor.look(site.of(run))
    assert seen.identity is not None
    seen.identity.signal(signal.SIGKILL)
    until(lambda: supervisor.look(site.of(run)).kind == "gone")

    site.launch("echo second", run=run, fence=2)
    site.ended(run)

    assert output.read(aside(site, 1), 0).data == b"begun\n"
    gone = supervisor.look(aside(site, 1))
    assert (gone.kind, gone.pid, gone.fence) == ("gone", seen.pid, 1)
    assert site.output(run) == b"second\n"


@pytest.mark.parametrize(
    "moved",
    [
        [],
        ["output.0"],
        ["result.json"],
        ["output.0.idx", "result.json"],
        ["output.0", "output.0.idx", "result.json"],
    ],
)
def test_a_move_that_was_cut_short_is_finished_by_the_next_attempt(site: Site, moved):
    site.run("echo first; echo trouble >&2")
    # … a second attempt was killed while it moved the files
    aside(site, 1).mkdir(parents=True)
    for name in moved:
        (site.of(1) / name).rename(aside(site, 1) / name)
    (site.of(1) / "lock").touch()
    site.heard.clear()

    site.launch("echo third", run=1, fence=3)
    site.ended(1)

    assert output.read(aside(site, 1), 0).data == b"first\ntrouble\n"
    assert json.loads((aside(site, 1) / "result.json").read_text())["fence"] == 1
    assert site.output(1) == b"third\n"


def test_a_fence_that_was_put_aside_never_starts_again(site: Site):
    site.run("echo first >> ledger")
    aside(site, 1).mkdir(parents=True)
    (site.of(1) / "result.json").rename(aside(site, 1) / "result.json")

    site.launch("echo again >> ledger", run=1, fence=1)
    site.run("true")
    until(lambda: not (site.of(1) / "lock").exists())

    assert site.wrote("ledger") == ["first"]


@pytest.mark.parametrize("how", ["stop", "displace"])
def test_a_wish_that_comes_while_the_new_attempt_makes_room_is_heard(site: Site, how):
    site.run("exit 1")
    ends = set()

    for fence in range(2, 32):
        over = threading.Event()

        def wish(fence: int = fence, over: threading.Event = over) -> None:
            while not over.is_set():
                supervisor.request_stop(site.of(1), how, fence)

        wishing = threading.Thread(target=wish)
        site.heard.clear()
        site.launch("exec sleep 1000", run=1, fence=fence)
        wishing.start()
        ends.add(site.ended(1)["outcome"])
        over.set()
        wishing.join()

    assert ends == {"stopped" if how == "stop" else "displaced"}


def test_only_the_newest_attempts_are_kept(site: Site):
    for fence in range(1, 25):
        site.launch(f"echo {fence}", run=1, fence=fence)
        site.news("ended", 1, fence=fence)

    kept = sorted(int(path.name) for path in (site.of(1) / "attempts").iterdir())
    assert kept == list(range(4, 24))
    assert output.read(aside(site, 23), 0).data == b"23\n"


def test_a_wish_for_a_later_attempt_waits_for_it(site: Site):
    site.run("true")
    site.heard.clear()

    assert not supervisor.request_stop(site.of(1))
    assert not supervisor.request_stop(site.of(1), fence=1)
    assert supervisor.request_stop(site.of(1), fence=2)
    site.launch("touch never", run=1, fence=2)
    result = site.ended(1)

    assert (result["fence"], result["outcome"]) == (2, "stopped")
    assert not (site.folder / "never").exists()


def test_a_wish_for_an_earlier_attempt_stops_no_later_one(site: Site):
    site.run("true")
    (site.of(1) / "stop").write_text("stop")
    site.heard.clear()

    site.launch("echo >> begun; while [ ! -e go ]; do sleep 0.01; done", run=1, fence=2)
    site.wrote("begun")
    (site.of(1) / "stop").write_text("kill 1")
    seen = supervisor.look(site.of(1))
    assert seen.identity is not None
    seen.identity.signal(signal.SIGUSR1)
    (site.folder / "go").touch()

    assert site.ended(1)["outcome"] == "exited"


def test_a_disk_too_full_for_another_folder_forgets_the_earlier_attempt(site: Site):
    with disk(site.folder / "runs", "nr_inodes=6"):
        site.run("echo first; echo trouble >&2")
        site.heard.clear()

        site.launch("echo second", run=1, fence=2)
        result = site.ended(1)

        assert (result["fence"], result["outcome"]) == (2, "exited")
        assert result["remarks"] == ["attempts: ENOSPC"]
        assert site.output(1) == b"second\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_can_be_moved_nothing_starts(site: Site):
    site.run("true")
    site.heard.clear()
    site.of(1).chmod(0o500)

    site.launch("touch never", run=1, fence=2)

    assert site.ended(1)["outcome"] == "not_started"
    site.of(1).chmod(0o700)

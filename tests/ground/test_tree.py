"""Whatever a command starts, and however it hides: at the end of the run nothing of it lives."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon_app import processes, supervisor
from daemon_app.processes import Identity
from tests.ground.conftest import TOKEN, Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = {
    # Each writes its process id into `pids` when it lives.
    "live": "echo $$ >> pids; exec sleep 1000",
    "deaf": "trap '' TERM INT HUP QUIT; echo $$ >> pids; while :; do sleep 1000; done",
    "stopped": "echo $$ >> pids; kill -STOP $$",
    "hydra": "trap 'setsid ./live &' TERM; echo $$ >> pids; while :; do sleep 1000; done",
    "alias": "echo ') Z 1 1 1 1' > /proc/$$/comm; echo $$ >> pids; while :; do sleep 1000; done",
    "bracket": "echo $$ >> pids; exec './b) Z 1 (' 1000",
    "fork": "./live & exit",
    "link": "echo >> links; setsid ./link &",
}
ANIMALS = {
    "background child": "./live &",
    "background child that holds no output": "./live >/dev/null 2>&1 &",
    "own session": "setsid ./live &",
    "own session without output": "setsid ./live >/dev/null 2>&1 </dev/null &",
    "double fork": "(setsid ./fork &);",
    "nohup": "nohup ./live >/dev/null 2>&1 &",
    "ignores every signal it may": "./deaf &",
    "ignores them in a session of its own": "setsid ./deaf &",
    "gave itself a misleading name": "setsid ./alias &",
    "has a misleading name": "./bracket &",
    "stopped": "./stopped &",
    "threw its environment away": "env -i /usr/bin/setsid ./live >/dev/null 2>&1 &",
    "starts another when told to go": "./hydra &",
}
WAIT = "while [ $(wc -l < pids) -lt {} ]; do sleep 0.01; done"


@pytest.fixture
def zoo(site: Site) -> Iterator[Site]:
    (site.folder / "pids").touch()
    for name, script in SCRIPTS.items():
        (site.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (site.folder / name).chmod(0o755)
    (site.folder / "b) Z 1 (").symlink_to("/bin/sleep")
    yield site
    left = living(site)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def living(site: Site) -> list[int]:
    pids = (site.folder / "pids").read_text().split()
    return [int(pid) for pid in pids if Identity.of(int(pid)).is_alive()]


@pytest.mark.parametrize("animal", ANIMALS)
def test_what_outlives_its_command_is_ended(zoo: Site, animal):
    result = zoo.run(f"{ANIMALS[animal]} {WAIT.format(1)}; exit 3")

    assert (result["outcome"], result["exit_code"]) == ("exited", 3)
    assert result["survivors"] == 0
    assert result["left_behind"] >= 1
    assert living(zoo) == []


@pytest.mark.parametrize("animal", ANIMALS)
def test_a_stop_ends_the_whole_tree(zoo: Site, animal):
    run = zoo.launch(f"{ANIMALS[animal]} wait; sleep 1000")
    zoo.wrote("pids")

    assert supervisor.request_stop(zoo.of(run))
    result = zoo.ended(run)

    assert (result["outcome"], result["survivors"]) == ("stopped", 0)
    assert living(zoo) == []


def test_who_is_stopped_is_woken_to_hear_that_it_is_to_end(zoo: Site):
    run = zoo.launch(
        "sh -c \"trap 'echo bye >> said; exit' TERM;"
        ' echo \\$\\$ >> pids; kill -STOP \\$\\$" & wait',
        grace=1000,
    )
    pid = int(zoo.wrote("pids")[0])
    until(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text())

    supervisor.request_stop(zoo.of(run))

    assert zoo.ended(run)["outcome"] == "stopped"
    assert zoo.wrote("said") == ["bye"]


@pytest.mark.parametrize("way", ["kill", "time-out"])
def test_a_zoo_of_all_kinds_is_ended_at_once(zoo: Site, way):
    zoo_of_all = " ".join(ANIMALS.values())
    run = zoo.launch(f"{zoo_of_all} wait", timeout=1.0 if way == "time-out" else None)
    if way == "kill":
        zoo.wrote("pids", lines=len(ANIMALS))
        supervisor.request_stop(zoo.of(run), "kill")

    result = zoo.ended(run)

    assert result["outcome"] == ("stopped" if way == "kill" else "timed_out")
    assert result["survivors"] == 0
    assert living(zoo) == []
    assert processes.find_marked(run, TOKEN) == []


@pytest.mark.parametrize("way", ["stop", "time-out", "itself"])
def test_two_thousand_children_are_ended(zoo: Site, way):
    os.mkfifo(zoo.folder / "block")
    many = "(read x < block)" if way == "stop" else "(trap '' TERM; read x < block)"
    run = zoo.launch(
        f"i=0; while [ $i -lt 2000 ]; do {many} & i=$((i+1)); done;"
        f" setsid sleep 1000 & echo >> ready; {'exit 3' if way == 'itself' else 'wait'}",
        timeout=1.5 if way == "time-out" else None,
    )
    zoo.wrote("ready")

    if way == "stop":
        supervisor.request_stop(zoo.of(run))
    result = zoo.ended(run)

    outcomes = {"time-out": "timed_out", "itself": "exited"}
    assert (result["outcome"], result["survivors"]) == (outcomes.get(way, "stopped"), 0)
    assert processes.find_marked(run, TOKEN) == []


@pytest.mark.parametrize("how", ["stop", "kill", "time-out", "itself"])
def test_a_chain_that_respawns_faster_than_one_can_look_is_ended(zoo: Site, how):
    run = zoo.launch(
        "trap '' TERM; ./link & " + ("sleep 1000" if how != "itself" else "sleep 0.1"),
        timeout=0.3 if how == "time-out" else None,
    )
    zoo.wrote("links", lines=10)

    if how in ("stop", "kill"):
        supervisor.request_stop(zoo.of(run), how)
    result = zoo.ended(run)

    assert result["survivors"] == 0
    assert processes.find_marked(run, TOKEN) == []


def test_descendants_that_still_write_get_a_while_to_finish(zoo: Site):
    result = zoo.run(
        "(while [ ! -e go ]; do sleep 0.01; done; echo late) & (sleep 0.2; touch go) >&- 2>&- &",
        linger=1000,
    )

    assert zoo.output() == b"late\n"
    assert (result["outcome"], result["left_behind"], result["survivors"]) == ("exited", 0, 0)


@pytest.mark.parametrize(
    "animal", ["own session without output", "background child", "double fork", "stopped"]
)
def test_descendants_are_left_alone_if_that_is_wanted(zoo: Site, animal):
    result = zoo.run(f"{ANIMALS[animal]} {WAIT.format(1)}", leave_descendants=True)

    left = living(zoo)
    assert (result["outcome"], result["left_running"], result["left_behind"]) == ("exited", 1, 0)
    assert len(left) == 1
    # … and go on when the supervisor's place is taken by others
    assert zoo.run("true")["exit_code"] == 0
    assert living(zoo) == left
    os.kill(left[0], signal.SIGKILL)
    until(lambda: living(zoo) == [])


def test_what_is_written_after_the_end_is_nobodys_and_holds_nobody_up(zoo: Site):
    result = zoo.run(
        "trap '' PIPE; (trap '' PIPE; while [ ! -e go ]; do sleep 0.01; done;"
        " echo late; echo >> written) & echo early",
        leave_descendants=True,
    )
    (zoo.folder / "go").touch()
    zoo.wrote("written")

    assert result["outcome"] == "exited"
    assert result["left_running"] >= 1  # itself, and a sleep
    assert zoo.output() == b"early\n"
    assert zoo.run("true")["outcome"] == "exited"


def test_leaving_descendants_alone_does_not_protect_them_from_a_stop(zoo: Site):
    run = zoo.launch(f"{ANIMALS['own session']} wait", leave_descendants=True)
    zoo.wrote("pids")

    supervisor.request_stop(zoo.of(run))
    result = zoo.ended(run)

    assert (result["outcome"], result["survivors"], result["left_running"]) == ("stopped", 0, 0)
    assert living(zoo) == []


@pytest.mark.skipif(sys.platform != "linux", reason="zombies are looked up in /proc")
def test_orphans_are_reaped_while_the_run_goes_on(zoo: Site):
    run = zoo.launch(
        "i=0; while [ $i -lt 50 ]; do (sleep 0 &); i=$((i+1)); done; echo >> ready;"
        " while [ ! -e go ]; do sleep 0.01; done"
    )
    zoo.wrote("ready")
    pid = supervisor.look(zoo.of(run)).pid
    assert pid is not None

    until(lambda: [each.state for each in processes.children(pid)].count("Z") == 0)

    (zoo.folder / "go").touch()
    assert zoo.ended(run)["left_behind"] == 0
    assert Path(f"/proc/{pid}").exists()

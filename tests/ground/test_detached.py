"""Whoever of ours dies: runs go on, or are known to be gone, and nothing is left of those."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon_app import processes, supervisor
from daemon_app.processes import Identity
from tests.ground.conftest import TOKEN, Site, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

ROOT = Path(__file__).parents[2]
# A daemon that launches what it is told, and then sits there.
DAEMON = """
import json, sys, time
from daemon_app.supervisor import Launcher
launcher = Launcher(sys.argv[1])
for line in sys.stdin:
    launcher.launch(json.loads(line))
    print(launcher.zygote, flush=True)
"""
UNTIL_GO = "echo begun; echo >> ready; while [ ! -e go ]; do sleep 0.01; done; echo done"


def idle(site: Site) -> list[Identity]:
    return [Identity.of(each.pid) for each in processes.children(site.launcher.zygote)]


@pytest.fixture
def daemon(site: Site):
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(site.runtime)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def launch_by(daemon: subprocess.Popen[str], site: Site, command: str) -> tuple[int, int]:
    """Launch by that daemon; return the run and the zygote's process id."""
    assert daemon.stdin is not None
    assert daemon.stdout is not None
    spec = site.spec(command)
    daemon.stdin.write(json.dumps(spec) + "\n")
    daemon.stdin.flush()
    return spec["run"], int(daemon.stdout.readline())


@pytest.mark.parametrize("victims", ["daemon", "zygote", "both"])
def test_a_run_goes_on_when_daemon_or_zygote_are_killed(site: Site, daemon, victims):
    run, zygote = launch_by(daemon, site, UNTIL_GO)
    site.wrote("ready")
    watched = Identity.of(zygote)

    if victims != "zygote":
        daemon.kill()
        daemon.wait()
    if victims != "daemon":
        watched.signal(signal.SIGKILL)
    until(lambda: not watched.is_alive())  # it goes with the daemon

    assert supervisor.look(site.of(run)).kind == "running"
    (site.folder / "go").touch()
    result = site.ended(run)

    assert (result["outcome"], result["exit_code"]) == ("exited", 0)
    assert site.output(run) == b"begun\ndone\n"


def test_an_adopted_run_can_be_stopped(site: Site, daemon):
    run, _ = launch_by(daemon, site, UNTIL_GO)
    site.wrote("ready")
    daemon.kill()
    daemon.wait()

    assert supervisor.request_stop(site.of(run))

    assert site.ended(run)["outcome"] == "stopped"


def test_idle_supervisors_go_with_the_daemon(site: Site):
    site.run("true")
    before = idle(site)

    site.launcher.close()

    until(lambda: not any(each.is_alive() for each in before))
    site.launcher = supervisor.Launcher(site.runtime)


def test_a_dead_zygote_is_replaced_and_no_launch_is_lost(site: Site):
    zygote = site.launcher.zygote

    runs = [site.launch("exit 7") for _ in range(20)]
    os.kill(zygote, signal.SIGKILL)
    runs += [site.launch("exit 7") for _ in range(20)]

    assert {site.ended(run)["exit_code"] for run in runs} == {7}
    assert site.launcher.zygote != zygote


def test_a_zygote_that_never_lives_is_reported_in_its_own_words(site: Site, monkeypatch):
    monkeypatch.setattr(supervisor, "ZYGOTE", "raise SystemExit('no, thanks')")
    monkeypatch.setattr(supervisor, "EARLY_DEATHS", 1)

    def refused() -> str | None:
        try:
            launcher.launch(site.spec("true"))
        except supervisor.LaunchError as error:
            return str(error)
        return None

    with supervisor.Launcher(site.runtime) as launcher:
        assert "no, thanks" in until(refused)


def test_signals_of_the_terminal_do_not_reach_a_run(site: Site):
    run = site.launch(UNTIL_GO)
    site.wrote("ready")
    seen = supervisor.look(site.of(run))
    assert seen.pid is not None
    assert seen.identity is not None

    assert len({os.getsid(0), os.getsid(seen.pid), os.getsid(site.launcher.zygote)}) == 3
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        seen.identity.signal(number)
        os.kill(site.launcher.zygote, number)
    (site.folder / "go").touch()

    assert site.ended(run)["outcome"] == "exited"
    assert site.run("true")["exit_code"] == 0


def test_sigterm_to_a_supervisor_stops_its_run_in_good_order(site: Site):
    run = site.launch(UNTIL_GO)
    site.wrote("ready")
    seen = supervisor.look(site.of(run))
    assert seen.identity is not None

    seen.identity.signal(signal.SIGTERM)

    result = site.ended(run)
    assert (result["outcome"], result["survivors"]) == ("stopped", 0)


LEFTOVERS = (
    "setsid sh -c 'echo $$ >> pids; exec sleep 1000' >/dev/null 2>&1 &"
    " env -i sh -c 'echo $$ >> pids; exec sleep 1000' >/dev/null 2>&1 &"
    " echo $$ >> pids; sleep 1000"
)


def test_a_killed_supervisor_takes_its_command_along_and_the_zygote_ends_the_rest(site: Site):
    run = site.launch(LEFTOVERS)
    pids = [Identity.of(int(pid)) for pid in site.wrote("pids", lines=3)]
    site.news("started", run)
    seen = supervisor.look(site.of(run))
    assert seen.identity is not None

    seen.identity.signal(signal.SIGKILL)

    until(lambda: not any(each.is_alive() for each in pids))
    gone = supervisor.look(site.of(run))
    assert (gone.kind, gone.result, gone.fence) == ("gone", None, 1)
    assert not supervisor.request_stop(site.of(run))
    assert site.run("true")["exit_code"] == 0


# A zygote whose one orphan dies between the list of children and the look at each of them.
ORPHAN_DIES = """
import os, signal, subprocess, sys
from daemon_app import processes, supervisor
processes.adopt_orphans()
zygote = supervisor._Zygote(os.pipe()[0], 0)
with subprocess.Popen(
    ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True
) as parent:
    child = processes.Identity.of(int(parent.stdout.readline()))
    look = processes.children

    def late(pid):
        listed = look(pid)
        parent.kill()
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        processes.children = look
        return [each for each in look(pid) if each.pid in {one.pid for one in listed}]

    processes.children = late
    zygote._end_orphans()
    print("alive" if child.is_alive() else "ended", flush=True)
    child.signal(signal.SIGKILL)
"""


def test_an_orphan_that_dies_while_one_looks_leaves_nobody_behind():
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN_DIES], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "ended\n", done.stderr


def test_without_a_zygote_the_rest_is_found_by_its_marks_and_its_session(site: Site):
    run = site.launch(LEFTOVERS)
    pids = [Identity.of(int(pid)) for pid in site.wrote("pids", lines=3)]
    site.news("started", run)
    seen = supervisor.look(site.of(run))
    assert seen.identity is not None

    os.kill(site.launcher.zygote, signal.SIGSTOP)
    seen.identity.signal(signal.SIGKILL)
    until(lambda: supervisor.look(site.of(run)).kind == "gone")
    until(lambda: [each.is_alive() for each in pids].count(True) == 2)  # all but the command
    found = processes.end_marked(run, TOKEN, supervisor.look(site.of(run)).session)

    until(lambda: not any(each.is_alive() for each in pids))
    assert found >= 2
    os.kill(site.launcher.zygote, signal.SIGKILL)


def test_a_killed_idle_supervisor_is_replaced(site: Site):
    site.run("true")
    for each in idle(site):
        each.signal(signal.SIGKILL)

    assert site.run("true")["exit_code"] == 0
    until(lambda: len(idle(site)) >= 2)


def test_what_a_machine_left_when_it_went_down_is_gone_not_running(site: Site):
    run = site.launch(UNTIL_GO)
    site.wrote("ready")
    folder = site.of(run)
    seen = supervisor.look(folder)
    lock = (folder / "lock").read_bytes()
    (site.folder / "go").touch()
    site.ended(run)
    (folder / "result.json").unlink()
    (folder / "lock").write_bytes(lock)  # as when the power had gone before

    assert supervisor.look(folder).kind == "gone"
    assert (seen.kind, seen.pid) == ("running", supervisor.look(folder).pid)


def test_a_result_counts_even_if_its_supervisor_was_killed_before_it_had_its_name(site: Site):
    result = site.run("exit 7")
    (site.of(1) / "result.json").rename(site.of(1) / "lock")

    until(lambda: supervisor.look(site.of(1)).kind == "ended")
    assert supervisor.look(site.of(1)).result == result


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fence": '])
def test_a_torn_result_counts_as_none(site: Site, content):
    site.run("true")
    (site.of(1) / "result.json").write_text(content)

    assert supervisor.look(site.of(1)).result is None

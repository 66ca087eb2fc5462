"""Each run in a cgroup of its own, where one is ours to divide; and how that is found out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon_app import cgroups, processes, supervisor
from daemon_app.processes import Identity
from tests.ground.conftest import TOKEN, Site, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux's")

HIDDEN = "env -i setsid sh -c 'echo $$ >> pids; exec sleep 1000' >/dev/null 2>&1 &"


# ── what is ours ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder that looks like a cgroup which root owns."""
    made = tmp_path / "unit"
    made.mkdir()
    for name in ("cgroup.kill", "cgroup.procs"):
        (made / name).touch()
    return made


@pytest.fixture
def marks(monkeypatch) -> dict[tuple[str, str], bytes]:
    found: dict[tuple[str, str], bytes] = {}

    def getxattr(path: str, name: str) -> bytes:
        if (path, name) not in found:
            raise OSError
        return found[path, name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return found


@pytest.mark.parametrize("name", ["user.delegate", "trusted.delegate"])
def test_a_cgroup_that_systemd_marked_is_ours(folder, marks, name):
    assert not cgroups.is_ours(str(folder))

    marks[str(folder), name] = b"1"

    assert cgroups.is_ours(str(folder))


def test_a_subgroup_of_a_marked_one_is_ours(folder, marks):
    marks[str(folder.parent), "user.delegate"] = b"1"

    assert cgroups.is_ours(str(folder))


def test_what_belongs_to_the_services_user_is_ours_and_a_users_own_session_is_not(
    folder, marks, monkeypatch
):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    os.chown(folder, 4711, -1) if os.getuid() == 0 else pytest.skip("only root gives things away")
    session = folder.parent / "user@4711.service"
    folder.rename(session)

    assert not cgroups.is_ours(str(session))

    session.rename(folder)
    assert cgroups.is_ours(str(folder))


def test_where_the_kernel_is_too_old_or_it_is_the_root_nothing_is_ours(folder, marks):
    marks[str(folder), "user.delegate"] = b"1"
    (folder / "cgroup.kill").unlink()

    assert not cgroups.is_ours(str(folder))


def test_our_cgroup_is_found_by_its_mount(monkeypatch):
    own = next(
        (
            line[3:]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line[1:3] == "::"
        ),
        None,
    )
    if own is None:
        pytest.skip("no cgroup v2 here")

    found = cgroups._below_mount(own)

    if found is None:
        pytest.skip("the file system of cgroup v2 is not mounted")
    pids = Path(found, "cgroup.procs").read_text().split()
    assert str(os.getpid()) in pids


def test_where_nothing_is_delegated_a_run_makes_no_cgroup_and_no_remark(site: Site):
    if cgroups.delegated():
        pytest.skip("a cgroup is delegated to this very process")

    assert site.run("true")["remarks"] == []
    assert cgroups.sweep() == 0


@pytest.mark.parametrize("trouble", ["nowhere", "no cgroup"])
def test_a_cgroup_that_cannot_be_used_is_a_remark_and_no_reason_not_to_run(site: Site, trouble):
    parent = site.folder / "cgroup"
    if trouble == "no cgroup":
        parent.mkdir()

    result = site.run("exit 3", cgroup=str(parent))

    assert (result["outcome"], result["exit_code"]) == ("exited", 3)
    assert result["remarks"] == ["cgroup: ENOENT"]
    assert result["cpu_seconds"] > 0


# ── a real one ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def parent() -> Iterator[str]:
    """Make a real cgroup, where this machine lets us."""
    try:
        top = cgroups.delegated() or cgroups._below_mount("/")
        made = tempfile.mkdtemp(prefix="bach-test-", dir=top or "/does/not/exist")
    except OSError:
        pytest.skip("no cgroup may be made here")
    if not Path(made, "cgroup.kill").exists():
        Path(made).rmdir()
        pytest.skip("this kernel is older than cgroup.kill")
    yield made
    until(lambda: cgroups._remove(made))


@pytest.fixture
def divided(parent: str, site: Site) -> Iterator[Site]:
    original = site.spec
    site.spec = lambda command, **more: original(command, **{"cgroup": parent, **more})  # type: ignore[method-assign]
    yield site
    # Supervisors were in there; they go with the launcher, and then the fixture's cgroup can.
    site.launcher.close()


def own(parent: str) -> list[Path]:
    return list(Path(parent).glob(f"{cgroups.PREFIX}*"))


def test_a_command_is_in_a_cgroup_of_its_own_from_its_first_instant(divided: Site, parent):
    result = divided.run("cat /proc/self/cgroup; sh -c 'cat /proc/self/cgroup'")

    lines = [line for line in divided.output().decode().splitlines() if line.startswith("0::")]
    assert len(lines) == 2
    assert all(f"/{cgroups.PREFIX}{divided.runs}-" in line for line in lines)
    assert result["remarks"] == []
    assert result["cpu_seconds"] > 0
    until(lambda: own(parent) == [])


def test_processor_time_is_known_even_of_children_that_nobody_waits_for(divided: Site):
    spin = (
        "import os, signal, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if not os.fork():\n while time.process_time() < 0.3: pass\n os._exit(0)\n"
        "try: os.wait()\nexcept ChildProcessError: pass"
    )

    assert divided.run([sys.executable, "-c", spin])["cpu_seconds"] >= 0.3


def test_a_stop_ends_who_is_in_it(divided: Site, parent):
    run = divided.launch(f"{HIDDEN} trap '' TERM; while :; do sleep 1; done")
    pid = Identity.of(int(divided.wrote("pids")[0]))

    supervisor.request_stop(divided.of(run), "kill")
    result = divided.ended(run)

    assert (result["outcome"], result["survivors"]) == ("stopped", 0)
    assert not pid.is_alive()
    until(lambda: own(parent) == [])


def test_what_outlives_its_command_is_ended(divided: Site, parent):
    result = divided.run(f"{HIDDEN} while [ ! -s pids ]; do sleep 0.01; done")

    assert (result["survivors"], result["left_behind"]) == (0, 1)
    until(lambda: own(parent) == [])


def test_who_is_to_live_on_does_so_in_the_supervisors_own(divided: Site, parent):
    result = divided.run(
        f"{HIDDEN} while [ ! -s pids ]; do sleep 0.01; done", leave_descendants=True
    )
    pid = int(divided.wrote("pids")[0])

    until(lambda: own(parent) == [])
    assert result["left_running"] == 1
    assert Path(f"/proc/{pid}/cgroup").read_text().strip().endswith(Path(parent).name)
    assert cgroups.sweep(parent) == 0
    assert Identity.of(pid).is_alive()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Identity.of(pid).is_alive())


def test_what_a_dead_supervisor_left_is_swept_and_nothing_else(divided: Site, parent):
    run = divided.launch(f"{HIDDEN} sleep 1000")
    other = divided.launch("echo >> here; sleep 1000")
    pid = Identity.of(int(divided.wrote("pids")[0]))
    divided.wrote("here")
    os.kill(divided.launcher.zygote, signal.SIGSTOP)  # it would end the rest by itself
    seen = until(lambda: (found := supervisor.look(divided.of(run))).pid and found)
    seen.identity.signal(signal.SIGKILL)
    until(lambda: supervisor.look(divided.of(run)).kind == "gone")
    assert pid.is_alive()

    assert cgroups.sweep(parent) == 1

    until(lambda: not pid.is_alive())
    assert len(own(parent)) == 1
    assert supervisor.look(divided.of(other)).kind == "running"
    os.kill(divided.launcher.zygote, signal.SIGCONT)
    supervisor.request_stop(divided.of(other), "kill")
    divided.ended(other)


def test_a_cgroup_that_the_command_divides_further_goes_as_well(divided: Site, parent):
    run = divided.launch(
        f"for own in {parent}/{cgroups.PREFIX}*; do"
        " mkdir $own/inner && echo $$ > $own/inner/cgroup.procs || exit 9; done;"
        f" {HIDDEN} while [ ! -s pids ]; do sleep 0.01; done"
    )
    result = divided.ended(run)

    assert (result["exit_code"], result["survivors"], result["left_behind"]) == (0, 0, 1)
    assert processes.find_marked(run, TOKEN) == []
    until(lambda: own(parent) == [])


def test_the_last_rung_is_the_kernels_own_for_whoever_is_in_it(divided: Site, parent):
    run = divided.launch("echo >> ready; exec sleep 1000")
    divided.wrote("ready")
    with subprocess.Popen(["/bin/sleep", "1000"]) as stranger:  # of no parent that we know
        (own(parent)[0] / "cgroup.procs").write_text(str(stranger.pid))

        supervisor.request_stop(divided.of(run), "kill")
        try:
            assert stranger.wait(30) == -signal.SIGKILL
        finally:
            stranger.kill()
    assert divided.ended(run)["survivors"] == 0

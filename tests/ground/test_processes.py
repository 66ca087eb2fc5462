"""Process trees: who belongs to them, how they start, how they are found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from daemon_app import processes
from daemon_app.processes import Identity, StartError, Tripwire
from tests.ground.conftest import TOKEN, until

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
RUN = 4_000_000 + os.getpid()  # of nobody else


@contextmanager
def sleeping(*prefix: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sleep` in a session of its own."""
    with subprocess.Popen(
        [*prefix, "/bin/sleep", "1000"], env={"PATH": os.defpath, **env}, start_new_session=True
    ) as process:
        try:
            if sys.platform == "linux":
                # An exec in progress has no environment to show for a moment.
                environment = Path(f"/proc/{process.pid}/environ")
                until(lambda: os.defpath.encode() in environment.read_bytes())
            yield process
        finally:
            process.kill()


def start(argv: list[str], **more: object) -> int:
    with Path(os.devnull).open("r+b", buffering=0) as null:
        options: dict[str, object] = {
            "cwd": None,
            **dict.fromkeys(("stdin", "stdout", "stderr"), null.fileno()),
            **more,
        }
        return processes.start(argv, {"PATH": os.defpath}, **options)  # type: ignore[arg-type]


# ── identity ─────────────────────────────────────────────────────────────────────────────────────


def test_a_process_is_known_again_until_it_is_dead():
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    identity = Identity.of(child)

    assert identity.is_alive()
    assert identity.signal(signal.SIGKILL)

    until(lambda: not identity.is_alive())  # already as a zombie
    os.waitpid(child, 0)
    assert not identity.is_alive()
    assert not identity.signal(signal.SIGKILL)


@linux
def test_a_later_process_of_the_same_number_is_somebody_else():
    me = Identity.of(os.getpid())
    assert me.is_alive()

    assert not Identity(me.pid, (me.started or 0) + 1, me.boot).is_alive()
    assert not Identity(me.pid, (me.started or 0) + 1, me.boot).signal(signal.SIGKILL)


@linux
def test_nobody_survives_a_boot():
    me = Identity.of(os.getpid())

    assert not Identity(me.pid, me.started, "another boot").is_alive()


# ── trees ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["children files", "everybody", "ps"])
def test_descendants_are_found_parents_first(way, monkeypatch):
    if way == "children files" and not processes._has_children_files():
        pytest.skip("this kernel has no /proc/<pid>/task/<tid>/children")
    monkeypatch.setattr(processes, "_has_children_files", lambda: way == "children files")
    if way == "ps":
        monkeypatch.setattr(processes, "_everybody", processes._everybody_by_ps)
    script = "sleep 1000 & (sleep 1000; true) & echo ready; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()

        tree = until(lambda: len(found := processes.descendants(shell.pid)) == 3 and found)

        assert [each.parent for each in tree].count(shell.pid) == 2
        seen = {shell.pid}
        for each in tree:
            assert each.parent in seen
            seen.add(each.pid)
        processes.kill_tree(shell.pid, freeze=True)
    assert processes.descendants(shell.pid) == []


# ── starting ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["by fork", pytest.param("by tripwire", marks=linux)], scope="module")
def wire(request: pytest.FixtureRequest) -> Tripwire | None:
    return None if request.param == "by fork" else Tripwire()


def test_a_command_starts_in_a_session_of_its_own(wire):
    pid = start(["sleep", "1000"], tripwire=wire)

    assert os.getsid(pid) == pid

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_command_gets_folder_and_mask_and_they_stay_ours(tmp_path, wire):
    ours = os.umask(0o022)
    os.umask(ours)
    here = Path.cwd()

    pid = start(["mkdir", "made"], cwd=str(tmp_path), umask=0o027, tripwire=wire)

    assert os.waitpid(pid, 0) == (pid, 0)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750
    assert os.umask(ours) == ours
    assert Path.cwd() == here


@linux
def test_a_command_has_nothing_of_ours_open(wire):
    reading, writing = os.pipe()
    given = {fd for fd in range(1024) if is_inheritable(fd)}

    pid = start(["ls", "/proc/self/fd"], stdout=writing, tripwire=wire)

    assert os.waitpid(pid, 0) == (pid, 0)
    seen = set(map(int, os.read(reading, 4096).split()))
    assert len(seen - {0, 1, 2} - given) == 1  # the listing's own
    os.close(reading)
    os.close(writing)


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # not open
        return False


@linux
@pytest.mark.parametrize("tripwire", ["None", "processes.Tripwire()"])
def test_a_command_dies_with_who_started_it(tripwire):
    starter = f"""
import os, signal
from daemon_app import processes
null = os.open(os.devnull, os.O_RDWR)
streams = dict.fromkeys(("stdin", "stdout", "stderr"), null)
wire = {tripwire}
for command in (["true"], ["sleep", "1000"]):
    pid = processes.start(command, dict(os.environ), cwd=None, tripwire=wire, **streams)
print(pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        command = Identity.of(int(process.stdout.readline()))
        assert command.is_alive()

        process.kill()

    until(lambda: not command.is_alive())


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "plain").write_text("echo hello\n")
    (tmp_path / "no-magic").write_text("echo hello\n")
    (tmp_path / "no-magic").chmod(0o755)
    (tmp_path / "no-interpreter").write_text("#!/does/not/exist -x\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "cwd", "expected"),
    [
        (["does-not-exist"], None, ("ENOENT", "command", "does-not-exist")),
        (["{}/does-not-exist"], None, ("ENOENT", "command", "{}/does-not-exist")),
        (["./does-not-exist"], "{}", ("ENOENT", "command", "./does-not-exist")),
        (["{}/plain"], None, ("EACCES", "command", "{}/plain")),
        (["{}/folder"], None, ("EACCES", "command", "{}/folder")),
        (["{}/plain/x"], None, ("ENOTDIR", "command", "{}/plain/x")),
        (["{}/no-magic"], None, ("ENOEXEC", "command", "{}/no-magic")),
        (["{}/no-interpreter"], None, ("ENOENT", "interpreter", "/does/not/exist")),
        (["true"], "{}/missing", ("ENOENT", "cwd", "{}/missing")),
        (["true"], "{}/plain", ("ENOTDIR", "cwd", "{}/plain")),
        (["true", "x" * 10_000_000], None, ("E2BIG", "command", "/bin/true")),
        (["true", "\0"], None, ("EINVAL", "command", "true")),
        ([], None, ("EINVAL", "command", None)),
    ],
)
def test_what_cannot_be_started_is_named_exactly(made, wire, argv, cwd, expected):
    here = str(made)
    before = psutil.Process().children()

    with pytest.raises(StartError) as caught:
        start(
            [each.replace("{}", here) for each in argv],
            cwd=cwd and cwd.replace("{}", here),
            tripwire=wire,
        )

    error = caught.value
    path = expected[2] and expected[2].replace("{}", here)
    assert (error.name, error.what) == expected[:2]
    assert error.path == path or (path == "/bin/true" and str(error.path).endswith("/true"))
    assert psutil.Process().children() == before


def test_a_priority_that_is_not_granted_is_a_remark_and_no_reason_not_to_run(wire):
    remarks: list[str] = []

    pid = start(["true"], ionice="no-such-class", remark=remarks.append, tripwire=wire)

    assert os.waitpid(pid, 0) == (pid, 0)
    assert len(remarks) == 1
    assert remarks[0].startswith("ionice: E")


# ── finding again ────────────────────────────────────────────────────────────────────────────────


@linux
def test_marked_processes_are_found_whoever_their_parent_is_and_ended():
    with sleeping(**processes.marks(RUN, TOKEN)) as one, sleeping(**processes.marks(RUN, TOKEN)):
        found = processes.find_marked(RUN, TOKEN)

        assert one.pid in {each.pid for each in found}
        assert len(found) == 2
        assert processes.end_marked(RUN, TOKEN) == 2
        assert one.wait() == -signal.SIGKILL
    assert processes.find_marked(RUN, TOKEN) == []


@linux
def test_the_same_run_of_another_installation_is_left_alone():
    with sleeping(**processes.marks(RUN, "another")) as other:
        assert processes.find_marked(RUN, TOKEN) == []
        assert processes.end_marked(RUN, TOKEN) == 0
        assert other.poll() is None


@linux
def test_a_process_without_its_environment_is_found_by_its_session():
    script = "env -i sleep 1000 & echo $!"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as shell:
        session = Identity.of(shell.pid)
        assert shell.stdout is not None
        left = int(shell.stdout.readline())
    orphan = Identity.of(left)

    assert [each.pid for each in processes.find_marked(RUN, TOKEN, session)] == [left]
    assert processes.end_marked(RUN, TOKEN, session) == 1

    until(lambda: not orphan.is_alive())


@linux
def test_a_later_session_of_the_same_number_is_left_alone():
    with sleeping() as later:
        now = Identity.of(later.pid)
        session = Identity(now.pid, (now.started or 0) - 1, now.boot)

        assert processes.find_marked(RUN, TOKEN, session) == []
        assert processes.end_marked(RUN, TOKEN, session) == 0

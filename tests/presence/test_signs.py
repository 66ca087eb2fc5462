"""What each sign makes of what there is to see."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from daemon_app.models import reasons
from daemon_app.readings import State
from daemon_app.signs import SIGNS, Rules, Sign
from daemon_app.signs.load import Load
from daemon_app.signs.logins import Desktop, Logins, ask_logind
from daemon_app.signs.marks import FOLDER, KEPT, MOST, REQUEST, Mark, Notebook, Reader
from daemon_app.signs.models import Models
from daemon_app.signs.stamps import Stamps
from tests.presence.scenes import WALL, scene, ticked
from tests.service import until

OK, DOWN, UNKNOWN = State.OK, State.DOWN, State.UNKNOWN
linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")


def test_every_sign_has_a_sentence_for_all_that_it_says() -> None:
    folder = Path(sys.modules["daemon_app.signs"].__file__ or "").parent
    said = set(re.findall(r'"(sign_[a-z_]+)"', "".join(f.read_text() for f in folder.glob("*.py"))))
    said |= {"sign_requests", "sign_programs", "sign_gpu_service", "sign_ollama"}
    said |= {"sign_gpu_service_unknown", "sign_ollama_unknown"}

    assert said <= reasons.SENTENCES.keys()
    assert list(SIGNS)[:2] == ["hand", "requests"]


# ── Time stamps ──────────────────────────────────────────────────────────────────────────────────
def test_a_stamp_s_age_is_believed_once_and_then_only_whether_it_changed() -> None:
    stamps = Stamps()

    assert stamps.look({"a": WALL - 30}, WALL, 500) == {"a": 470}
    assert stamps.look({"a": WALL - 30}, WALL + 9000, 510) == {"a": 470}, "the clock was set"
    assert stamps.look({"a": WALL - 20}, WALL, 520)["a"] == pytest.approx(510, abs=10)
    assert stamps.look({"a": WALL + 999}, WALL, 530) == {"a": 530}, "of a clock that ran ahead"
    assert stamps.look({"a": WALL + 999}, WALL, 540) == {"a": 530}
    assert stamps.look({}, WALL, 550) == {}


# ── Marks ────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "sock"
    folder.mkdir(mode=0o700)
    return folder


def test_marks_are_read_as_they_were_left(tmp_path: Path, runtime: Path) -> None:
    notebook, reader = Notebook(tmp_path), Reader(runtime)
    now = WALL

    for _again in range(3):
        notebook.note("session", who="anna", signal="request", at=now)
    notebook.note("other", who="ben", signal="program", at=now)

    marks = reader.look(now, 100)
    assert sorted(mark[:2] for mark in marks) == [("anna", "request"), ("ben", "program")]
    assert len(list((runtime / "here").iterdir())) == 2
    for file in (runtime / "here").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert "session" not in file.name + file.read_text()


def test_a_mark_that_is_touched_again_was_used_since_the_last_look(
    tmp_path: Path, runtime: Path
) -> None:
    notebook, reader = Notebook(tmp_path), Reader(runtime)
    notebook.note("session", who="anna", signal="request", at=WALL)
    (mark,) = (runtime / "here").iterdir()
    os.utime(mark, (WALL, WALL))
    assert reader.look(WALL + 60, 100) == (Mark("anna", "request", 40),)

    notebook.note("session", who="anna", signal="request", at=WALL)

    (seen,) = reader.look(WALL + 70, 110)
    assert 100 <= seen.last <= 110


def test_torn_and_foreign_marks_count_as_somebody(runtime: Path) -> None:
    (runtime / "here").mkdir()
    (runtime / "here" / "torn").write_text('{"who": "an')
    (runtime / "here" / "list").write_text("[]")
    (runtime / "here" / "half~").write_text("")
    (runtime / "here" / "nowhere").symlink_to("/nonexistent")

    found = Reader(runtime).look(WALL, 100)

    assert {mark[:2] for mark in found} == {("", "request")}


def test_marks_older_than_a_day_are_removed(tmp_path: Path, runtime: Path) -> None:
    notebook, reader = Notebook(tmp_path), Reader(runtime)
    notebook.note("old", who="anna", signal="request", at=WALL)
    (old,) = (runtime / "here").iterdir()
    notebook.note("new", who="ben", signal="request", at=WALL)
    now = old.stat().st_mtime + KEPT
    os.utime(old, (now - KEPT - 1, now - KEPT - 1))

    assert reader.tidy(now) == 1
    assert not old.exists()


def test_names_without_end_share_one_mark(tmp_path: Path, runtime: Path) -> None:
    (runtime / "here").mkdir()
    for number in range(MOST):
        (runtime / "here" / str(number)).touch()
    notebook = Notebook(tmp_path)

    for number in range(5):
        notebook.note(f"more {number}", who=f"{number}", signal="program", at=WALL)

    assert len(list((runtime / "here").iterdir())) == MOST + 1


def test_a_folder_that_can_not_be_written_fails_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sock").write_text("in the way")
    notebook = Notebook(tmp_path)

    for _again in range(3):
        notebook.note("session", who="anna", signal="request", at=WALL)

    assert len(caplog.messages) == 1


def test_a_visitor_whose_mark_became_another_is_not_counted_any_longer(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.hear(who="", signal=REQUEST, mono=100.0)
    (tmp_path / FOLDER).mkdir()
    mark = tmp_path / FOLDER / "anna"
    mark.write_text(json.dumps({"who": "anna", "signal": REQUEST}))
    os.utime(mark, (1000.0, 1000.0))
    reader.look(1000.0, 100.0)

    os.utime(mark, (1010.0, 1010.0))

    assert [each.who for each in reader.look(1010.0, 110.0)] == ["anna"]


def test_where_marks_can_not_be_written_what_was_rung_counts(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.hear(who="anna", signal=REQUEST, mono=100.0)

    assert [each.who for each in reader.look(1000.0, 300.0)] == ["anna"]


def test_who_has_not_signed_in_is_somebody_all_the_same() -> None:
    visited = SIGNS["requests"]().look(scene(1000, marks=(Mark("", "request", 990),)))

    assert visited == Sign("requests", True, "sign_visitor", {}, 990, 1)


def test_requests_count_for_the_time_after_which_a_machine_is_idle() -> None:
    requests = SIGNS["requests"]()
    marks = (
        Mark("anna", "request", 900),
        Mark("ben", "request", 950),
        Mark("", "request", 960),
        Mark("cron", "program", 999),
    )

    busy = requests.look(scene(1000, marks=marks))
    quiet = requests.look(scene(1100, marks=marks))

    assert busy == Sign("requests", True, "sign_requests", {"who": "ben, anna"}, 960, 3)
    assert quiet is not None
    assert (quiet.busy, quiet.last, quiet.users) == (False, 960, 3)


# ── Models ───────────────────────────────────────────────────────────────────────────────────────
def vram(*in_use: int, source: str = "service") -> tuple[State, dict[str, Any]]:
    models = [{"backend": "t2i", "model": f"m{n}", "in_use": n} for n in in_use]
    return OK, {"source": source, "models": models}


def ps(**expires: str | None) -> tuple[State, dict[str, Any]]:
    return OK, {"models": [{"model": name, "expires_at": at} for name, at in expires.items()]}


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(WALL + seconds, UTC).isoformat()


def test_a_model_of_the_gpu_service_in_use_makes_busy() -> None:
    nothing: tuple[State, dict[str, Any]] = (DOWN, {})
    used = ticked(gpu_service=(OK, {}), vram=vram(0, 2), ollama=nothing)
    unused = ticked(gpu_service=(OK, {}), vram=vram(0, 0), ollama=nothing)

    assert Models().look(scene(readings=used)) == Sign(
        "models", True, "sign_gpu_service", {"model": "m2"}
    )
    assert Models().look(scene(readings=unused)).busy is False


@pytest.mark.parametrize(
    ("readings", "busy"),
    [
        ({"gpu_service": (DOWN, {}), "vram": (UNKNOWN, {}), "ollama": (DOWN, {})}, False),
        ({"gpu_service": (DOWN, {}), "vram": vram(source="nvml"), "ollama": (DOWN, {})}, False),
        ({"gpu_service": (OK, {}), "vram": vram(source="nvml"), "ollama": (DOWN, {})}, None),
        ({"gpu_service": (UNKNOWN, {}), "vram": (UNKNOWN, {}), "ollama": (DOWN, {})}, None),
        ({"gpu_service": (DOWN, {}), "vram": (UNKNOWN, {}), "ollama": (UNKNOWN, {})}, None),
        ({"gpu_service": (DOWN, {}), "vram": (OK, {}), "ollama": (OK, {"models": None})}, None),
        ({"gpu_service": (OK, {}), "vram": vram(0), "ollama": ps()}, False),
        ({}, False),
    ],
)
def test_a_service_that_is_down_is_not_in_use_and_one_that_does_not_say_is_unknown(
    readings: dict[str, Any], busy: bool | None
) -> None:
    assert Models().look(scene(readings=ticked(**readings))).busy is busy


def test_without_a_tick_nothing_is_known_of_models() -> None:
    assert Models().look(scene(readings=None)).busy is None


def test_a_call_to_ollama_shows_by_the_time_at_which_its_model_expires() -> None:
    models = Models()

    def look(mono: float, **expires: str | None) -> bool | None:
        return models.look(scene(mono, readings=ticked(ollama=ps(**expires)))).busy

    assert look(1000, llama=iso(1300)) is False, "loaded before we looked"
    assert look(1030, llama=iso(1300)) is False
    assert look(1060, llama=iso(1345)) is True, "a call has ended"
    assert look(1090, llama=iso(1345)) is False
    assert look(1120, llama=iso(1345), qwen=iso(1420)) is True, "another one was loaded"
    assert look(1350, llama=iso(1345)) is False, "just being unloaded"
    assert look(1380, llama=iso(1345)) is True, "past its time and still there: it works"
    assert look(1410) is False


def test_the_same_tick_looked_at_twice_tells_nothing_new() -> None:
    models = Models()
    models.look(scene(1000, readings=ticked(ollama=ps(llama=iso(1300)))))
    tick = ticked(ollama=ps(llama=iso(1310)))

    assert models.look(scene(1030, readings=tick)).busy is True
    assert models.look(scene(1031, readings=tick)).busy is False


def test_what_a_run_of_ours_needs_works_for_us() -> None:
    used = ticked(gpu_service=(OK, {}), vram=vram(1), ollama=(UNKNOWN, {}))
    both = frozenset({"gpu_service", "ollama"})

    assert Models().look(scene(readings=used, our_services=both)).busy is False
    assert Models().look(scene(readings=used, our_services=frozenset({"ollama"}))).busy is True
    assert Models().look(scene(readings=used, our_services=frozenset({"gpu_service"}))).busy is None


# ── Logins ───────────────────────────────────────────────────────────────────────────────────────
class Machine:
    """Sessions as logind notes them, and terminals."""

    def __init__(self, folder: Path) -> None:
        self.sessions = folder / "sessions"
        self.devices = folder / "dev"
        for each in (self.sessions, self.devices / "pts"):
            each.mkdir(parents=True)
        self.desktops: Mapping[str, Desktop] | None = {}
        self.asked: list[Sequence[str]] = []

    def session(self, number: str, **told: str) -> None:
        told = {"UID": "1000", "USER": "anna", "CLASS": "user", "STATE": "active"} | told
        lines = [f"{name}={value}" for name, value in told.items()]
        (self.sessions / number).write_text("# private\n" + "\n".join(lines) + "\n")

    def typed(self, terminal: str, at: float) -> None:
        (self.devices / terminal).touch()
        os.utime(self.devices / terminal, (WALL + at, WALL))

    def ask(self, sessions: Sequence[str]) -> Mapping[str, Desktop] | None:
        self.asked.append(sessions)
        return self.desktops

    def logins(self) -> Logins:
        return Logins(self.sessions, self.devices, self.ask)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_who_types_at_a_terminal_is_here(machine: Machine) -> None:
    machine.session("3", TYPE="tty", TTY="pts/0")
    machine.session("4", TYPE="tty", TTY="tty2", USER="ben")
    machine.typed("pts/0", 950)
    machine.typed("tty2", 400)
    logins = machine.logins()

    seen = logins.look(scene(1000))

    assert seen == Sign("logins", True, "sign_logins", {"who": "anna"}, 950, 1)
    quiet = logins.look(scene(1071))
    assert quiet is not None
    assert (quiet.busy, quiet.last) == (False, 950)
    assert machine.asked == []


def test_who_works_at_a_desktop_is_here_until_it_says_otherwise(machine: Machine) -> None:
    machine.session("2", TYPE="wayland", TTY="tty2")
    machine.desktops = {"2": Desktop(None)}
    logins = machine.logins()

    used = logins.look(scene(1000))
    machine.desktops = {"2": Desktop(1010.0)}
    left = logins.look(scene(1100))
    gone = logins.look(scene(1131))
    machine.desktops = None
    silent = logins.look(scene(1140))

    assert used == Sign("logins", True, "sign_logins", {"who": "anna"}, 1000, 1)
    assert left is not None
    assert gone is not None
    assert silent is not None
    assert (left.busy, left.last) == (True, 1010)
    assert gone.busy is False
    assert (silent.busy, silent.code) == (None, "sign_logins_unknown")


LOGINCTL = """#!/bin/sh
echo "$@" > "$(dirname "$0")/asked"
printf 'Id=2\\nIdleHint=no\\nIdleSinceHintMonotonic=0\\nLockedHint=no\\n\\n'
printf 'Id=c3\\nIdleHint=yes\\nIdleSinceHintMonotonic=1500000\\nLockedHint=no\\n\\n'
printf 'Id=4\\nIdleHint=no\\nIdleSinceHintMonotonic=0\\nLockedHint=yes\\n'
"""


def test_logind_is_asked_for_all_desktops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "loginctl"
    program.write_text(LOGINCTL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    answers = ask_logind(["2", "c3", "4"])

    assert answers == {"2": Desktop(None), "c3": Desktop(1.5), "4": Desktop(0.0)}
    assert (tmp_path / "asked").read_text() == (
        "show-session --property=Id --property=IdleHint --property=LockedHint "
        "--property=IdleSinceHintMonotonic -- 2 c3 4\n"
    )
    program.write_text("#!/bin/sh\nexit 1\n")
    assert ask_logind(["2"]) is None
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert ask_logind(["2"]) is None


def test_greeters_ended_sessions_and_services_are_nobody(machine: Machine) -> None:
    machine.session("c1", CLASS="greeter", TYPE="wayland")
    machine.session("5", CLASS="manager", TYPE="unspecified")
    machine.session("6", STATE="closing", TYPE="tty", TTY="pts/1")
    machine.session("7", TYPE="unspecified")  # cron, scp
    machine.typed("pts/1", 999)

    seen = machine.logins().look(scene(1000))

    assert seen is not None
    assert (seen.busy, seen.users) == (False, 0)


def test_without_logind_or_when_nobody_wants_it_there_is_no_such_sign(machine: Machine) -> None:
    machine.session("3", TYPE="tty", TTY="pts/0")

    assert Logins(machine.sessions / "none").look(scene()) is None
    assert machine.logins().look(scene(rules=Rules(watch_logins=False))) is None


@linux
def test_a_session_of_sshd_is_known_by_the_terminals_below_it(machine: Machine) -> None:
    code = "import pty; pty.spawn(['sh', '-c', 'tty > {out}; sleep 60'])"
    out = machine.sessions.parent / "tty"
    leader = subprocess.Popen(
        [sys.executable, "-c", code.format(out=out)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        terminal = until(lambda: out.exists() and out.read_text().strip()).removeprefix("/dev/")
        machine.session("8", TYPE="tty", LEADER=str(leader.pid))
        machine.typed(terminal, 990)

        seen = machine.logins().look(scene(1000))
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()

    assert seen is not None
    assert (seen.busy, seen.last) == (True, 990)


# ── Load ─────────────────────────────────────────────────────────────────────────────────────────
HOG = "while True: pass"
# A service of ours that has a hog below it, two generations down, as a run has.
OURS = """
import subprocess, sys
from daemon_app import processes
processes.rename("bach-test")
hog = subprocess.Popen(["sh", "-c", f"{sys.executable} -c 'while True: pass' & wait"])
print("up", flush=True)
hog.wait()
"""


@pytest.fixture
def hogs() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        for child in psutil.Process(each.pid).children(recursive=True):
            child.kill()
        each.kill()
        each.wait()
        if each.stdout:
            each.stdout.close()


def start(hogs: list[subprocess.Popen[str]], code: str, **options: Any) -> subprocess.Popen[str]:
    hogs.append(subprocess.Popen([sys.executable, "-c", code], text=True, **options))
    return hogs[-1]


def used(pid: int) -> float:
    """Return the processor time of a process and all below it."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in family)


class Measured:
    """Two looks at the real processors: how much of them others took between."""

    def __init__(self, limit: int = 1) -> None:
        self.load, self.rules = Load(), Rules(foreign_load=limit)
        self.load.look(scene(0, rules=self.rules))

    def spent(self, pid: int, token: str = "") -> tuple[Sign, float]:
        """Return what is said once `pid` has taken a second more, and the seconds of others."""
        assert self.load._before
        before, begun = used(pid), self.load._before.busy
        until(lambda: used(pid) > before + 1.0)
        # Of an interval as long as the processors have worked: only its share depends on it.
        sign = self.load.look(scene(100, rules=self.rules, token=token))
        assert sign is not None
        now = self.load._before
        busy = now.busy - begun
        return sign, busy - sum(now.spent.values())


@linux
def test_load_of_others_counts(hogs: list[subprocess.Popen[str]]) -> None:
    hog = start(hogs, HOG)
    measured = Measured()

    sign, others = measured.spent(hog.pid)

    assert others >= 0.9
    assert sign.facts["percent"] >= 0


@linux
def test_load_of_our_own_runs_is_left_out(hogs: list[subprocess.Popen[str]]) -> None:
    ours = start(hogs, OURS, stdout=subprocess.PIPE)
    assert ours.stdout
    assert ours.stdout.readline() == "up\n"
    until(lambda: used(ours.pid) > 0.2)
    measured = Measured()
    before = measured.load._before
    assert before

    measured.spent(ours.pid)

    now = measured.load._before
    assert now
    key = next(task.key for task in now.tasks.values() if task.pid == ours.pid)
    assert now.spent[key] >= 0.9


def proc(folder: Path, busy: int, *tasks: tuple[int, str, int, int]) -> Path:
    """Write a /proc: jiffies of all processors, and processes (pid, name, parent, jiffies)."""
    (folder / "stat").write_text(f"cpu {busy} 0 0 999 0 0 0 0 0 0\n")
    for child in folder.iterdir():
        if child.is_dir():
            (child / "stat").unlink(missing_ok=True)
    for pid, name, parent, spent in tasks:
        (folder / str(pid)).mkdir(exist_ok=True)
        fields = ["S", parent, 0, 0, 0, 0, 0, 0, 0, 0, 0, spent, 0, 0, 0, 20, 0, 1, 0, pid, 0, 0]
        text = f"{pid} ({name}) {' '.join(map(str, fields))}\n"
        (folder / str(pid) / "stat").write_text(text)
    return folder


@pytest.fixture
def one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def test_the_share_of_others_is_what_ours_did_not_take(tmp_path: Path, one_processor: None) -> None:
    per_second = os.sysconf("SC_CLK_TCK")
    load = Load(proc(tmp_path, 0, (10, "bach-zygote", 1, 0), (11, "sh", 10, 0), (20, "vim", 1, 0)))
    rules = Rules(foreign_load=50)

    first = load.look(scene(0, rules=rules))
    proc(
        tmp_path,
        10 * per_second,
        (10, "bach-zygote", 1, 0),
        (11, "sh", 10, 4 * per_second),
        (20, "vim) (x", 1, 6 * per_second),
    )
    second = load.look(scene(10, rules=rules))

    assert first is not None
    assert first.busy is False
    assert second == Sign("load", True, "sign_load", {"percent": 60, "limit": 50, "who": "vim) (x"})


def test_a_run_that_ends_is_no_load_of_others(tmp_path: Path, one_processor: None) -> None:
    second = os.sysconf("SC_CLK_TCK")
    rules = Rules(foreign_load=50)
    tree = ((30, "bach-supervisor", 1, 0), (31, "sh", 30, 100 * second))
    load = Load(proc(tmp_path, 0, *tree))
    load.look(scene(0, rules=rules))
    proc(tmp_path, 10 * second, tree[0], (31, "sh", 30, 110 * second))
    load.look(scene(10, rules=rules))

    proc(tmp_path, 20 * second)

    seen = load.look(scene(20, rules=rules))
    assert seen is not None
    assert (seen.busy, seen.facts["percent"]) == (False, 0)


def test_what_outlived_its_run_is_known_by_its_mark(tmp_path: Path, one_processor: None) -> None:
    second = os.sysconf("SC_CLK_TCK")
    load = Load(
        proc(tmp_path, 0, (40, "left", 1, 0)), owner_of=lambda pid, _token: pid == 40 or None
    )
    rules = Rules(foreign_load=50)
    load.look(scene(0, rules=rules))
    proc(tmp_path, 10 * second, (40, "left", 1, 10 * second))

    seen = load.look(scene(10, rules=rules))

    assert seen is not None
    assert seen.busy is False


def test_load_that_nobody_wants_to_know_of_is_no_sign(tmp_path: Path) -> None:
    assert Load().look(scene(rules=Rules(foreign_load=None))) is None
    assert Load(tmp_path / "none").look(scene()) is None


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────
def test_here_ends_when_it_said_and_away_is_no_sign() -> None:
    end = datetime.fromtimestamp(WALL + 1000, UTC)
    here = Rules(said="here", until=end, by="anna")

    seen = SIGNS["hand"]().look(scene(999, rules=here))

    assert seen == Sign("hand", True, "sign_hand", {"who": "anna", "until": end.isoformat()})
    assert SIGNS["hand"]().look(scene(1000, rules=here)) is None
    assert SIGNS["hand"]().look(scene(999, rules=Rules(said="away", until=end))) is None
    assert here.hand(end - timedelta(seconds=1)) == "here"

"""What runs use of GPUs, asked of a small NVML of our own that answers from a file."""

import ctypes
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon_app import processes, supervisor
from daemon_app.doorbell import Bell
from daemon_app.gpu import (
    LIBRARY,
    REST,
    RETRY,
    RETRY_ABSENT,
    STALE,
    Memory,
    Meter,
    MeterThread,
    NoMemoryError,
    Usage,
    memories,
    run_of,
)
from tests.service import Service, ended, running, soon, started
from tests.service import until as until_true

FAKE = Path(__file__).parent / "nvml" / "fake.c"
ONE, TWO = "0000:01:00.0", "0000:02:00.0"
MB = 1 << 20
GB = 1 << 30
OWNERS = {100: 1, 101: 1, 200: 2}  # pid: run

# <nvml.h>
UNINITIALIZED, NOT_SUPPORTED, DRIVER_NOT_LOADED = 1, 3, 9
GPU_IS_LOST, RESET_REQUIRED, UNKNOWN = 15, 16, 999

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GPUs are measured on Linux only")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("NO C COMPILER: nothing of the GPU measuring is tested here")
    library = tmp_path_factory.mktemp("nvml") / LIBRARY
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{LIBRARY}"]
    subprocess.run([compiler, *flags, "-o", library, FAKE], check=True)
    # Whoever asks for this name in this process gets what is loaded already.
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return library


class Machine:
    """A machine with GPUs: its PCI bus in a folder, its NVML in a file."""

    def __init__(self, folder: Path) -> None:
        self.pci_devices = folder / "devices"
        self.pci_devices.mkdir()
        self.file = folder / "nvml"
        self.gpus: list[str] = []
        self._read = 0  # characters of the log of calls
        self.answer()

    def plug_in(self, address: str, *, status: str = "active", control: str = "on") -> None:
        """Put a GPU of NVIDIA's on the bus."""
        device = self.pci_devices / address
        (device / "power").mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text("0x030200\n")
        (device / "power" / "control").write_text(f"{control}\n")
        self.put(address, status)
        self.gpus.append(address)
        self.answer()

    def put(self, address: str, status: str) -> None:
        """Wake a GPU, or put it to sleep."""
        (self.pci_devices / address / "power" / "runtime_status").write_text(f"{status}\n")

    def answer(self, *lines: str) -> None:
        """Have NVML answer this from now on; whole at any moment."""
        text = "".join(f"{line}\n" for line in [*(f"gpu {gpu}" for gpu in self.gpus), *lines])
        aside = self.file.with_suffix(".new")
        aside.write_text(text)
        aside.rename(self.file)

    def calls(self) -> list[str]:
        """Return the calls since the last look."""
        log = self.file.with_suffix(".calls")
        if not log.exists():
            return []
        whole = log.read_text()
        new = whole[self._read : whole.rfind("\n") + 1]
        self._read += len(new)
        return [line.strip() for line in new.splitlines()]

    def meter(self) -> Meter:
        return Meter(OWNERS.get, pci_devices=self.pci_devices)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Path) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setenv("FAKE_NVML", str(machine.file))
    return machine


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    runtime = tmp_path / "s"
    runtime.mkdir(mode=0o700)
    with Bell(runtime, "runner") as bell:
        yield bell


@pytest.fixture
def thread(machine: Machine, bell: Bell) -> Iterator[MeterThread]:
    """Yield a measuring thread that asks this machine, not yet started."""
    runtime = Path(bell.path).parent
    thread = MeterThread(runtime, OWNERS.get, period=0.01, pci_devices=machine.pci_devices)
    yield thread
    thread.close(patience=20)


def until(answer: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not answer():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ── what is measured ─────────────────────────────────────────────────────────────────────────────
def test_seconds_add_up_and_the_most_memory_stays(machine: Machine) -> None:
    machine.plug_in(ONE)
    meter = machine.meter()

    machine.answer(f"process {ONE} compute 100 {300 * MB}", f"busy {ONE} 100 1000 90")
    meter.sample(10.0)  # what was before the first look is not ours to count
    machine.answer(
        f"process {ONE} compute 100 {500 * MB}",
        f"process {ONE} compute 101 {200 * MB}",
        f"busy {ONE} 100 2000 50",
        f"busy {ONE} 101 2000 10",
    )
    meter.sample(11.0)
    machine.answer(f"process {ONE} compute 100 {100 * MB}", f"busy {ONE} 100 3000 100")
    meter.sample(13.0)
    meter.sample(14.0)  # nothing newer: not busy since

    seconds, peak = meter.usage(1)
    assert seconds == pytest.approx(0.6 + 2.0)
    assert peak == 700 * MB


def test_several_gpus_and_runs_are_kept_apart(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    meter = machine.meter()
    meter.sample(10.0)

    machine.answer(
        f"process {ONE} compute 100 {1 * MB}",
        f"process {TWO} compute 100 {2 * MB}",
        f"process {TWO} compute 200 {4 * MB}",
        f"process {TWO} compute 999 {8 * MB}",
        f"busy {ONE} 100 1000 50",
        f"busy {TWO} 100 1000 25",
        f"busy {TWO} 200 1000 75",
        f"busy {TWO} 999 1000 75",
    )
    meter.sample(11.0)

    assert meter.usage(1) == Usage(0.75, 3 * MB)
    assert meter.usage(2) == Usage(0.75, 4 * MB)
    assert meter.known() == [1, 2]


def test_a_run_that_uses_no_gpu_has_no_figures_and_one_that_ended_is_forgotten(
    machine: Machine,
) -> None:
    machine.plug_in(ONE)
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter = machine.meter()
    meter.sample(10.0)
    meter.sample(11.0)

    assert meter.usage(2) == Usage(None, None)
    assert meter.usage(1) == Usage(0.0, MB)
    meter.forget(1)
    assert meter.usage(1) == Usage(None, None)


def test_who_computes_and_draws_is_counted_once(machine: Machine) -> None:
    machine.plug_in(ONE)
    lines = [f"process {ONE} {kind} 100 {5 * MB}" for kind in ("compute", "graphics")]
    machine.answer(*lines, f"process {ONE} graphics 101 {MB}")
    meter = machine.meter()

    meter.sample(10.0)

    assert meter.usage(1).peak_vram_bytes == 6 * MB


def test_several_samples_of_one_process_are_averaged(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter = machine.meter()
    meter.sample(10.0)

    busy = [f"busy {ONE} 100 {at} {percent}" for at, percent in ((1, 20), (2, 60), (3, 250))]
    machine.answer(f"process {ONE} compute 100 {MB}", *busy)
    meter.sample(11.0)

    assert meter.usage(1).gpu_seconds == pytest.approx(0.6)


def test_one_sample_does_not_speak_for_a_long_pause(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter = machine.meter()
    meter.sample(10.0)

    machine.answer(f"process {ONE} compute 100 {MB}", f"busy {ONE} 100 1 100")
    meter.sample(3610.0)

    assert meter.usage(1).gpu_seconds == STALE


def test_memory_that_nvml_does_not_tell_is_unknown(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.answer(f"process {ONE} compute 100 -1", f"process {ONE} graphics 200 -1")
    meter = machine.meter()

    meter.sample(10.0)

    assert meter.usage(1) == Usage(0.0, None)
    machine.answer(f"process {ONE} compute 100 -1", f"process {ONE} compute 101 {MB}")
    meter.sample(11.0)
    assert meter.usage(1) == Usage(0.0, MB)


def test_a_gpu_that_tells_no_utilisation_is_asked_once(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.answer(
        f"process {ONE} compute 100 {MB}", f"error nvmlDeviceGetProcessUtilization {NOT_SUPPORTED}"
    )
    meter = machine.meter()

    for second in range(5):
        meter.sample(10.0 + second)

    assert meter.usage(1) == Usage(None, MB)
    assert machine.calls().count(f"nvmlDeviceGetProcessUtilization {ONE}") == 1


def test_a_gpu_that_lists_no_processes_is_no_trouble(machine: Machine, caplog) -> None:
    machine.plug_in(ONE)
    functions = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
    machine.answer(*(f"error {name} {NOT_SUPPORTED}" for name in functions))
    meter = machine.meter()

    meter.sample(10.0)
    meter.sample(11.0)

    assert meter.known() == []
    assert caplog.messages == []


def test_where_the_bus_is_hidden_every_gpu_is_asked(machine: Machine) -> None:
    machine.gpus = [ONE, TWO]
    machine.answer(f"process {TWO} compute 200 {MB}")
    meter = machine.meter()

    meter.sample(10.0)

    assert meter.usage(2).peak_vram_bytes == MB


# ── sleeping GPUs ────────────────────────────────────────────────────────────────────────────────
def test_while_every_gpu_sleeps_nvml_is_not_even_opened(machine: Machine) -> None:
    machine.plug_in(ONE, status="suspended", control="auto")
    machine.plug_in(TWO, status="suspending", control="auto")
    meter = machine.meter()

    for second in range(100):
        meter.sample(10.0 + second)

    assert machine.calls() == []


def test_one_that_sleeps_is_left_alone_beside_one_that_works(machine: Machine) -> None:
    machine.plug_in(ONE, status="suspended", control="auto")
    machine.plug_in(TWO)
    meter = machine.meter()

    meter.sample(10.0)

    calls = machine.calls()
    assert "nvmlInit" in calls
    assert not [call for call in calls if ONE in call]


def test_one_that_nobody_uses_is_left_alone_so_that_it_can_fall_asleep(machine: Machine) -> None:
    machine.plug_in(ONE, control="auto")
    meter = machine.meter()
    meter.sample(10.0)
    assert f"nvmlDeviceGetHandle {ONE}" in machine.calls()

    for second in range(1, int(REST)):
        meter.sample(10.0 + second)
    resting = machine.calls()
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter.sample(10.0 + REST)
    meter.sample(11.0 + REST)
    woken = machine.calls()

    assert [call for call in resting if ONE in call] == []
    assert len([call for call in woken if "Utilization" in call]) == 2
    assert meter.usage(1).peak_vram_bytes == MB


def test_when_it_falls_asleep_nvml_is_let_go_of(machine: Machine) -> None:
    machine.plug_in(ONE, control="auto")
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter = machine.meter()
    meter.sample(10.0)
    machine.calls()

    machine.put(ONE, "suspended")
    meter.sample(11.0)
    meter.sample(12.0)

    assert machine.calls() == ["nvmlShutdown"]
    machine.put(ONE, "active")
    meter.sample(13.0)
    assert machine.calls()[0] == "nvmlInit"


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("code", [GPU_IS_LOST, RESET_REQUIRED, UNKNOWN, UNINITIALIZED])
def test_a_driver_reset_is_said_once_and_got_over(machine: Machine, caplog, code: int) -> None:
    machine.plug_in(ONE)
    meter = machine.meter()
    machine.answer(f"process {ONE} compute 100 {MB}")
    meter.sample(10.0)
    machine.calls()

    machine.answer(f"error nvmlDeviceGetComputeRunningProcesses {code}")
    for second in range(1, 130):
        meter.sample(10.0 + second)
    calls = machine.calls()
    machine.answer(f"process {ONE} compute 100 {9 * MB}")
    for second in range(200, 202):
        meter.sample(10.0 + second)

    assert len(caplog.records) == 1
    assert "GPU use is not measured for now" in caplog.text
    assert calls.count(f"nvmlDeviceGetComputeRunningProcesses {ONE}") == 1 + int(129 // RETRY)
    assert calls.count("nvmlShutdown") >= 1
    assert meter.usage(1).peak_vram_bytes == 9 * MB


def test_one_gpu_that_vanished_does_not_hide_the_other(machine: Machine, caplog) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    meter = machine.meter()
    machine.answer(
        f"process {TWO} compute 200 {MB}", f"error nvmlDeviceGetHandle {GPU_IS_LOST} {ONE}"
    )

    for second in range(30):
        meter.sample(10.0 + second)

    calls = machine.calls()
    assert calls.count(f"nvmlDeviceGetHandle {ONE}") == 1
    assert calls.count(f"nvmlDeviceGetProcessUtilization {TWO}") == 30
    assert meter.usage(2).peak_vram_bytes == MB
    assert len(caplog.records) == 1


def test_a_driver_that_is_not_loaded_is_tried_again_rarely(machine: Machine, caplog) -> None:
    machine.plug_in(ONE)
    machine.answer(f"error nvmlInit {DRIVER_NOT_LOADED}")
    meter = machine.meter()

    for second in range(int(3 * RETRY)):
        meter.sample(10.0 + second)

    assert machine.calls() == ["nvmlInit"] * 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


WITHOUT = """
import logging, sys, os
logging.basicConfig(level=logging.INFO, format="%(message)s")
from daemon_app.gpu import Meter, RETRY_ABSENT
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
meter = Meter(lambda pid: None)
before = resident()
for second in range(int(2 * RETRY_ABSENT)):
    meter.sample(float(second))
grown = resident() - before
assert "pynvml" not in sys.modules
assert grown < 500_000, grown
"""


def test_without_nvml_nothing_is_imported_and_nothing_grows() -> None:
    try:
        subprocess.run(
            [sys.executable, "-c", f"import ctypes; ctypes.CDLL('{LIBRARY}')"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError:
        pass
    else:
        pytest.skip("this machine has NVIDIA's library")

    told = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )

    assert (told.returncode, told.stderr.count("GPU use is not measured")) == (0, 1), told.stderr
    assert RETRY_ABSENT > RETRY


# ── the thread ───────────────────────────────────────────────────────────────────────────────────
def test_the_runner_is_rung_with_what_a_run_uses(
    machine: Machine, bell: Bell, thread: MeterThread
) -> None:
    machine.plug_in(ONE)
    machine.answer(f"process {ONE} compute 100 {7 * MB}")
    thread.start()
    thread.start()
    first = json.loads(bell.wait(20)[0])
    for _ in range(3):
        until(lambda: f"nvmlDeviceGetProcessUtilization {ONE}" in machine.calls())
    more = bell.drain()
    machine.answer(f"process {ONE} compute 100 {9 * MB}")
    until(lambda: thread.usage(1).peak_vram_bytes == 9 * MB)
    thread.tell(1)
    asked = json.loads(bell.wait(20)[-1])
    thread.close()

    assert first == {"op": "usage", "run": 1, "gpu_seconds": 0.0, "peak_vram_bytes": 7 * MB}
    assert more == []  # not within five seconds
    assert asked["peak_vram_bytes"] == 9 * MB
    assert not thread.is_measuring
    assert machine.calls()[-1] == "nvmlShutdown"


def test_while_nothing_runs_nothing_is_asked_and_the_thread_goes(
    machine: Machine, thread: MeterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon_app.gpu.LINGER", 0.3)
    machine.plug_in(ONE)
    threads = threading.active_count()
    assert threading.active_count() == threads
    thread.start()
    until(lambda: bool(machine.calls()))

    thread.rest()
    thread.rest()
    until(lambda: not thread.is_measuring)

    assert machine.calls()[-1] == "nvmlShutdown"
    assert threading.active_count() == threads
    thread.start()
    until(lambda: "nvmlInit" in machine.calls())
    thread.close()
    thread.start()
    assert not thread.is_measuring


def test_an_nvml_that_hangs_holds_nobody_up(machine: Machine, thread: MeterThread) -> None:
    machine.plug_in(ONE)
    machine.answer(f"hang nvmlDeviceGetComputeRunningProcesses {ONE}")
    thread.start()
    until(lambda: any("RunningProcesses" in call for call in machine.calls()))

    begun = time.monotonic()
    thread.start()
    thread.usage(1)
    thread.rest()
    thread.close(patience=0.1)
    took = time.monotonic() - begun
    hangs = thread.is_measuring
    machine.answer()

    assert took < 1
    assert hangs
    until(lambda: not thread.is_measuring)


# ── how much memory there is ─────────────────────────────────────────────────────────────────────
def test_each_gpu_tells_its_memory_and_is_let_go_of(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    machine.answer(f"memory {ONE} {24 * GB} {6 * GB} RTX 4090", f"memory {TWO} {8 * GB} 0 T4")

    found = memories(machine.pci_devices)

    assert found == [Memory("RTX 4090", 18_432, 24_576), Memory("T4", 8192, 8192)]
    assert machine.calls()[-1] == "nvmlShutdown"


def test_a_gpu_that_is_lost_is_left_out_and_none_left_is_said(machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    machine.answer(f"error nvmlDeviceGetMemoryInfo {GPU_IS_LOST} {ONE}")
    assert len(memories(machine.pci_devices)) == 1

    machine.answer(f"error nvmlDeviceGetMemoryInfo {RESET_REQUIRED}")

    with pytest.raises(NoMemoryError) as none_left:
        memories(machine.pci_devices)
    assert none_left.value.code == "failed"
    assert machine.calls()[-1] == "nvmlShutdown"


def test_gpus_that_sleep_are_not_woken_for_their_memory(machine: Machine) -> None:
    machine.plug_in(ONE, status="suspended", control="auto")

    with pytest.raises(NoMemoryError) as asleep:
        memories(machine.pci_devices)

    assert asleep.value.code == "asleep"
    assert machine.calls() == []


# ── whose process it is ──────────────────────────────────────────────────────────────────────────
def test_a_process_belongs_to_the_run_in_its_marks_or_in_those_of_its_parents() -> None:
    marks = processes.marks(4711, "ours")
    command = ["sh", "-c", "env -i sh -c 'echo $$; sleep 60; :' & wait"]
    shell = subprocess.Popen(command, env=os.environ | marks, stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    child = int(shell.stdout.readline())

    try:
        assert run_of(shell.pid, "ours") == 4711
        assert run_of(child, "ours") == 4711
        assert run_of(child, "theirs") is None
        assert run_of(os.getpid(), "ours") is None
    finally:
        for process in processes.descendants(shell.pid):
            os.kill(process.pid, 9)
        shell.kill()
        shell.communicate()
    assert run_of(child, "ours") is None


@pytest.mark.django_db(transaction=True)
def test_a_run_keeps_what_it_has_used(machine: Machine, library: Path, tmp_path: Path) -> None:
    machine.gpus.append(ONE)
    machine.answer()
    gate = tmp_path / "gate"
    service = Service(LD_LIBRARY_PATH=str(library.parent), FAKE_NVML=str(machine.file))
    service.start()
    try:
        command = f"echo up; until [ -e {gate} ]; do sleep 0.1; done"
        run = running(started(soon(command=command)))
        pid = until_true(lambda: supervisor.look(run.folder).command, "the command's number")

        def computes() -> bool:
            now = time.time_ns() // 1000
            machine.answer(
                f"process {ONE} compute {pid} {300 * MB}",
                f"busy {ONE} {pid} {now} 50",
            )
            run.refresh_from_db()
            return bool(run.gpu_seconds)

        until_true(computes, "that a figure is shown while it runs")
        gate.touch()
        ended(run)
    finally:
        service.close()

    assert run.peak_vram_bytes == 300 * MB
    assert (run.gpu_seconds or 0) > 0.3

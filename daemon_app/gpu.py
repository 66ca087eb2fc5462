"""What runs use of NVIDIA GPUs: seconds of computing and the most memory, where NVML answers.

Measuring must cost a machine without such a GPU nothing, never wake one that sleeps nor keep one
awake, and never hold up the daemon: a thread of its own asks, once a second while something runs.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from daemon_app import doorbell, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)

LIBRARY: Final = "libnvidia-ml.so.1"
PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"  # vendor; the class of VGA and 3D controllers begins so
MEBIBYTE: Final = 1 << 20
DEEPEST: Final = 100  # generations from a process up to the command it descends from

PERIOD: Final = 1.0  # seconds between samples
STALE: Final = 5.0  # seconds for which one sample of the utilisation speaks at most
TOLD_EVERY: Final = 5.0  # seconds between two bells about the same run
LINGER: Final = 10.0  # seconds that NVML is kept open for the next run: opening it is dear
# A GPU may fall asleep when nothing uses it, but not while it is asked every second.
REST: Final = 15.0  # seconds
RETRY: Final = 60.0  # seconds after NVML or a GPU failed
RETRY_ABSENT: Final = 600.0  # seconds after there was no NVML
LISTED_FOR: Final = 60.0  # seconds until the PCI bus is read again


class Usage(NamedTuple):
    """What a run has used so far; None for what could not be measured, or where it used no GPU."""

    gpu_seconds: float | None
    peak_vram_bytes: int | None


@dataclass
class _Device:
    """A GPU that has been asked."""

    handle: Any
    looked_at: float | None = None  # on the monotonic clock
    newest: int = 0  # NVML's time stamp of the newest utilisation seen, in µs
    tells_utilisation: bool = True


class Meter:
    """Adds up the GPU use of runs, sample by sample.

    `owner_of` names the run to which a process belongs, None for anybody else's: see `run_of`.
    `sample` belongs to one thread; the rest may be asked from any.
    """

    def __init__(
        self, owner_of: Callable[[int], int | None], *, pci_devices: Path = PCI_DEVICES
    ) -> None:
        self._owner_of = owner_of
        self._pci_devices = pci_devices
        self._nvml: Any = None  # the module, while it is initialised
        self._devices: dict[str | int, _Device] = {}  # by PCI address, or by number
        self._not_before: dict[str | int, float] = {}  # devices that rest or have failed
        self._retry_at = 0.0
        self._listed: list[str] = []  # PCI addresses
        self._listed_until = 0.0
        self._complained = False
        self._is_absent = False  # the library, which was said once
        self._lock = threading.Lock()
        self._seconds: dict[int, float] = {}
        self._peaks: dict[int, int] = {}

    def usage(self, run_id: int) -> Usage:
        """Return what a run has used up to the last sample."""
        with self._lock:
            return Usage(self._seconds.get(run_id), self._peaks.get(run_id))

    def forget(self, run_id: int) -> None:
        """Drop what is known of a run that has ended."""
        with self._lock:
            self._seconds.pop(run_id, None)
            self._peaks.pop(run_id, None)

    def known(self) -> list[int]:
        """Return the runs that have used a GPU and are not forgotten."""
        with self._lock:
            return sorted(self._seconds.keys() | self._peaks.keys())

    def sample(self, mono: float) -> None:
        """Ask each GPU that is awake; `mono` is the monotonic clock. Raises nothing of NVML's."""
        if mono < self._retry_at:
            return
        present = self._present(mono)
        awake = [each for each in present if mono >= self._not_before.get(each, 0.0)]
        awake = [each for each in awake if not self._asleep(each)]
        if present and not awake:
            self.release()
            return
        try:
            self._open()
        except (OSError, ImportError):
            self._retry_at = mono + RETRY_ABSENT
            if not self._is_absent:
                log.info("GPU use is not measured: there is no NVIDIA library here")
            self._is_absent = True
            return
        except Exception as error:  # noqa: BLE001 - its class is known once it is imported
            self._failed(error)
            self._retry_at = mono + RETRY
            return
        try:
            addresses: Iterable[str | int] = awake or range(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            self._failed(error)
            self._retry_at = mono + RETRY
            self.release()
            return
        self._sample_all(addresses, mono)

    def release(self) -> None:
        """Let go of NVML: an open handle may keep a GPU awake."""
        if self._nvml is not None:
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = None
        self._devices.clear()

    # ── Which GPUs may be asked ──────────────────────────────────────────────────────────────────
    def _present(self, mono: float) -> list[str]:
        """Return the PCI addresses of NVIDIA's GPUs; none where the bus is hidden (WSL)."""
        if mono >= self._listed_until:
            self._listed_until = mono + LISTED_FOR
            self._listed = _plugged_in(self._pci_devices)
        return self._listed

    def _asleep(self, address: str) -> bool:
        return _sleeps(self._pci_devices / address)

    def _may_sleep(self, address: str | int) -> bool:
        return _read(self._pci_devices / str(address) / "power" / "control") == "auto"

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────
    def _open(self) -> None:
        """Initialise NVML; GPUs are not touched by that."""
        if self._nvml is None:
            ctypes.CDLL(LIBRARY)  # before the bindings, which take 5 MB
            nvml = importlib.import_module("pynvml")
            nvml.nvmlInit()
            self._nvml = nvml

    def _sample_all(self, addresses: Iterable[str | int], mono: float) -> None:
        memory: dict[int, int] = {}
        failed = answered = 0
        for address in addresses:
            try:
                self._look(address, mono, memory)
                answered += 1
            except self._nvml.NVMLError as error:
                failed += 1
                self._failed(error)
                self._devices.pop(address, None)
                self._not_before[address] = mono + RETRY
        if answered and not failed:
            self._complained = False
        if failed and not answered:  # a driver that was reset wants to be initialised anew
            self._retry_at = mono + RETRY
            self.release()
        with self._lock:
            for run_id, used in memory.items():
                self._peaks[run_id] = max(used, self._peaks.get(run_id, 0))

    def _look(self, address: str | int, mono: float, memory: dict[int, int]) -> None:
        """Ask one GPU: add to `memory` what runs have of it, and to their seconds."""
        device = self._device(address)
        users = self._users(device.handle)
        if not users and self._may_sleep(address):
            self._not_before[address] = mono + REST
            del self._devices[address]
            return
        busy = self._utilisation(device)
        owners = {pid: self._owner_of(pid) for pid in users.keys() | busy.keys()}
        ours = {pid: owner for pid, owner in owners.items() if owner is not None}
        seconds = 0.0 if device.looked_at is None else min(mono - device.looked_at, STALE)
        device.looked_at = mono
        for pid, owner in ours.items():
            used = users.get(pid)
            if used is not None:
                memory[owner] = memory.get(owner, 0) + used
        if device.tells_utilisation:
            with self._lock:
                for pid, owner in ours.items():
                    spent = busy.get(pid, 0.0) * seconds
                    self._seconds[owner] = self._seconds.get(owner, 0.0) + spent

    def _device(self, address: str | int) -> _Device:
        """Return a GPU to be asked; raises NVML's error when it can't be found."""
        device = self._devices.get(address)
        if device is None:
            by_address = isinstance(address, str)
            find = "nvmlDeviceGetHandleByPciBusId" if by_address else "nvmlDeviceGetHandleByIndex"
            device = self._devices[address] = _Device(getattr(self._nvml, find)(address))
        return device

    def _users(self, handle: Any) -> dict[int, int | None]:
        """Return the processes on a GPU and their bytes of its memory, None where unknown."""
        users: dict[int, int | None] = {}
        for ask in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            try:
                listed = ask(handle)
            except self._nvml.NVMLError as error:
                if not self._is_no_answer(error):
                    raise
                continue
            for each in listed:
                # Who computes and draws is in both lists, with the same memory.
                known = users.get(each.pid)
                told = each.usedGpuMemory
                users[each.pid] = known if told is None else max(told, known or 0)
        return users

    def _utilisation(self, device: _Device) -> dict[int, float]:
        """Return by process which share of the GPU's processors it kept busy, from 0 to 1."""
        if not device.tells_utilisation:
            return {}
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(device.handle, device.newest)
        except self._nvml.NVMLError as error:
            if not self._is_no_answer(error):
                raise
            supported = error.value not in {
                self._nvml.NVML_ERROR_NOT_SUPPORTED,
                self._nvml.NVML_ERROR_NO_PERMISSION,
                self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            }
            device.tells_utilisation = supported
            return {}
        shares: dict[int, list[int]] = {}
        for each in samples:
            if each.timeStamp > device.newest and each.pid:
                shares.setdefault(each.pid, []).append(min(each.smUtil, 100))
        device.newest = max([device.newest, *(each.timeStamp for each in samples)])
        return {pid: sum(values) / len(values) / 100 for pid, values in shares.items()}

    def _is_no_answer(self, error: Any) -> bool:
        """Return whether an error only says that there is nothing to tell, now or ever."""
        nvml = self._nvml
        return error.value in {
            nvml.NVML_SUCCESS,  # the bindings raise this for "no samples"
            nvml.NVML_ERROR_NOT_FOUND,
            nvml.NVML_ERROR_NO_DATA,
            nvml.NVML_ERROR_INSUFFICIENT_SIZE,  # one more process began between two calls
            nvml.NVML_ERROR_NOT_SUPPORTED,
            nvml.NVML_ERROR_NO_PERMISSION,
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        }

    def _failed(self, error: Exception) -> None:
        """Say so once, until all GPUs have answered again."""
        if not self._complained:
            log.warning("GPU use is not measured for now: %s", error)
        self._complained = True


class MeterThread:
    """Measures beside the daemon, and rings the runner with what runs have used.

    `start` when something runs, `rest` when nothing does, `close` at the end. The bell says
    `{"op": "usage", "run": …, "gpu_seconds": …, "peak_vram_bytes": …}`.
    """

    def __init__(
        self,
        runtime: Path,
        owner_of: Callable[[int], int | None],
        *,
        period: float = PERIOD,
        pci_devices: Path = PCI_DEVICES,
    ) -> None:
        self.meter = Meter(owner_of, pci_devices=pci_devices)
        self._runtime = runtime
        self._period = period
        self._told: dict[int, tuple[float, Usage]] = {}
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted_until = 0.0
        self._closed = False

    @property
    def is_measuring(self) -> bool:
        """Whether the thread lives; it ends some seconds after `rest`."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Measure from now on. Costs nothing while this is already so."""
        with self._condition:
            self._wanted_until = float("inf")
            if not self._closed and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="gpu", daemon=True)
                self._thread.start()

    def rest(self) -> None:
        """Nothing runs any more: stop asking at once, and let go of NVML soon."""
        with self._condition:
            if self._wanted_until == float("inf"):
                self._wanted_until = time.monotonic() + LINGER

    def close(self, patience: float = 1.0) -> None:
        """Stop for good, waiting up to `patience` seconds for an NVML that hangs."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(patience)

    def usage(self, run_id: int) -> Usage:
        """Return what a run has used up to the last sample, for example when it ends."""
        return self.meter.usage(run_id)

    def forget(self, run_id: int) -> None:
        """Drop what is known of a run that has ended."""
        self.meter.forget(run_id)

    def tell(self, run_id: int) -> None:
        """Ring the runner with what a run has used, now."""
        usage = self.meter.usage(run_id)
        self._told[run_id] = time.monotonic(), usage
        message = {"op": "usage", "run": run_id, **usage._asdict()}
        doorbell.ring(self._runtime, "runner", json.dumps(message).encode())

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed, self._period)
                now = time.monotonic()
                ends = self._closed or now >= self._wanted_until
                resting = self._wanted_until < float("inf")
            if ends:
                self.meter.release()  # may hang, so nobody waits for it
                with self._condition:
                    if self._closed or now >= self._wanted_until:
                        self._thread = None
                        return
            elif not resting:
                self.meter.sample(now)
                self._tell_news(now)

    def _tell_news(self, now: float) -> None:
        known = self.meter.known()
        for run_id in known:
            told_at, told = self._told.get(run_id, (float("-inf"), None))
            if now - told_at >= TOLD_EVERY and self.meter.usage(run_id) != told:
                self.tell(run_id)
        for run_id in self._told.keys() - set(known):
            del self._told[run_id]


class Memory(NamedTuple):
    """How much memory a GPU has, and how much of it is free, in MiB."""

    name: str
    free_mb: float
    total_mb: float


class NoMemoryError(Exception):
    """The memory of GPUs is not known; `code` says why: "absent", "asleep" or "failed"."""

    def __init__(self, code: str, said: str = "") -> None:
        super().__init__(said)
        self.code = code


def memories(pci_devices: Path = PCI_DEVICES) -> list[Memory]:
    """Return the memory of each GPU that is awake; raises NoMemoryError when none can be asked.

    NVML is let go of at once: looked at now and then, a GPU may fall asleep between.
    """
    present = _plugged_in(pci_devices)
    awake = [address for address in present if not _sleeps(pci_devices / address)]
    if present and not awake:
        raise NoMemoryError("asleep")
    try:
        ctypes.CDLL(LIBRARY)  # before the bindings, which take 5 MB
        nvml = importlib.import_module("pynvml")
    except (OSError, ImportError) as error:
        raise NoMemoryError("absent") from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NoMemoryError("failed", str(error)) from error
    try:
        return _asked(nvml, awake)
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _asked(nvml: Any, addresses: list[str]) -> list[Memory]:
    """Ask the GPUs at `addresses`, or all where the bus is hidden; one that is lost is left out."""
    found, failed = [], None
    try:
        devices: Iterable[str | int] = addresses or range(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        raise NoMemoryError("failed", str(error)) from error
    for device in devices:
        by_address = isinstance(device, str)
        find = "nvmlDeviceGetHandleByPciBusId" if by_address else "nvmlDeviceGetHandleByIndex"
        try:
            handle = getattr(nvml, find)(device)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            name = str(nvml.nvmlDeviceGetName(handle))
        except nvml.NVMLError as error:
            failed = error
        else:
            found.append(Memory(name, memory.free / MEBIBYTE, memory.total / MEBIBYTE))
    if not found:
        raise NoMemoryError("failed" if failed else "absent", str(failed or ""))
    return found


def _plugged_in(pci_devices: Path) -> list[str]:
    """Return the PCI addresses of NVIDIA's GPUs."""
    return [
        device.name
        for device in sorted(pci_devices.glob("*"))
        if _read(device / "vendor") == NVIDIA and _read(device / "class").startswith(DISPLAY)
    ]


def _sleeps(device: Path) -> bool:
    """Return whether a device of the bus is suspended: a question would wake it."""
    return _read(device / "power" / "runtime_status") in {"suspended", "suspending"}


def run_of(pid: int, token: str) -> int | None:
    """Return the run of this installation (`token`) to which a process belongs; None for none.

    By the marks in its environment, or in that of whoever started it.
    """
    for _ in range(DEEPEST):
        marks = _marks(pid)
        if marks.get(processes.TOKEN_MARK) == token:
            run = marks.get(processes.RUN_MARK, "")
            return int(run) if run.isdecimal() else None
        found = processes.living([pid])
        if not found or found[0].parent <= 1:
            return None
        pid = found[0].parent
    return None


def _marks(pid: int) -> dict[str, str]:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (line.decode(errors="replace").partition("=") for line in environment.split(b"\0"))
    wanted = {processes.RUN_MARK, processes.TOKEN_MARK}
    return {name: value for name, _equals, value in pairs if name in wanted}


def _read(file: Path) -> str:
    """Return what a small file says; "" when it is not there."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""

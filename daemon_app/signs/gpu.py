"""Programs that compute or draw on the GPU and are no runs of ours.

Who only holds memory there does nothing. A model server's own processes work for whoever calls it:
for us while a run of ours that needs that service runs, else for somebody else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

import psutil

from daemon_app.gpu import PCI_DEVICES, RETRY, Meter, run_of
from daemon_app.signs import SIGNS, Scene, Sign

BUSY_FROM: Final = 0.05  # of a GPU's processors: a desktop that only stands there takes less
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
ANCESTORS: Final = 5  # generations from a worker up to the server that listens


@dataclass(frozen=True, slots=True)
class Use:
    """A process on a GPU, and the share of its processors it kept busy; None if not told."""

    pid: int
    share: float | None


class Onlooker(Meter):
    """Looks who uses the GPUs, by the rules of measuring: one that sleeps is not woken."""

    def __init__(self, pci_devices: Path = PCI_DEVICES) -> None:
        super().__init__(lambda _pid: None, pci_devices=pci_devices)
        self._found: list[Use] = []
        self._newest: dict[str | int, int] = {}  # NVML's time stamp of the newest seen, by GPU
        self._now = 0.0
        self._failed_at = float("-inf")

    def uses(self, mono: float) -> list[Use] | None:
        """Return who uses GPUs that are awake; None when one did not answer lately."""
        self._found, self._now = [], mono
        self.sample(mono)
        # Asked seldom: an open handle might keep a GPU awake until the next time.
        self.release()
        is_silent = not self._found and mono - self._failed_at <= RETRY
        return None if is_silent else self._found

    def _failed(self, error: Exception) -> None:
        self._failed_at = self._now
        super()._failed(error)

    def _look(self, address: str | int, mono: float, memory: dict[int, int]) -> None:
        del mono, memory
        device = self._device(address)
        device.newest = max(device.newest, self._newest.get(address, 0))
        users = self._users(device.handle)
        shares = self._utilisation(device)
        self._newest[address] = device.newest
        for pid in sorted(users.keys() | shares.keys()):
            told = shares.get(pid, 0.0) if device.tells_utilisation else None
            self._found.append(Use(pid, told))


@SIGNS.register("gpu")
class Gpu:
    """Programs of others at work on a GPU."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = False
    often: ClassVar[float | None] = None

    def __init__(
        self,
        onlooker: Onlooker | None = None,
        owner_of: Callable[[int, str], int | None] = run_of,
    ) -> None:
        self._onlooker = onlooker or Onlooker()
        self._owner_of = owner_of

    def look(self, scene: Scene) -> Sign | None:
        """Return whether somebody else computes there; None where there is no GPU to ask.

        Where NVML does not tell who computes, everybody who is there counts, as long as no run of
        ours is at work: it might be that.
        """
        if not scene.rules.watch_gpu:
            return None
        uses = self._onlooker.uses(scene.mono)
        if uses is None:
            # What a run of ours does to a GPU is no sign of anybody.
            return None if scene.runs else Sign("gpu", None, "sign_gpu_unknown")
        for use in sorted(uses, key=lambda use: -(use.share or 0.0)):
            if use.share is None and scene.runs:
                continue
            if use.share is not None and use.share < BUSY_FROM:
                break
            if not self._is_ours(use.pid, scene):
                share = None if use.share is None else round(use.share * 100)
                facts = {"who": _name(use.pid), "percent": share}
                return Sign("gpu", True, "sign_gpu" if share else "sign_gpu_there", facts)
        return Sign("gpu", False)

    def _is_ours(self, pid: int, scene: Scene) -> bool:
        """Return whether a process is a run's, or a server's that works for one."""
        if self._owner_of(pid, scene.token) is not None:
            return True
        if not psutil.pid_exists(pid):
            return scene.runs  # seen from within a container: nobody knows whose it is
        if not scene.our_services:
            return False
        service = _server(pid, scene.rules.services)
        return service in scene.our_services or (
            service is None and "gpu_service" in scene.our_services
        )


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return str(pid)


def _server(pid: int, services: Mapping[str, str]) -> str | None:
    """Return the model service that a process belongs to; None for none, or where it is hidden."""
    ports = {
        split.port: service
        for service, url in services.items()
        if (split := urlsplit(url)).hostname in LOCAL
    }
    try:
        process = psutil.Process(pid)
        family = [process, *process.parents()[:ANCESTORS]]
    except psutil.Error:
        return None
    for each in family:
        try:
            if each.name().startswith("ollama"):
                return "ollama"
            for connection in each.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports:
                    return ports[connection.laddr.port]
        except psutil.Error:
            continue
    return None

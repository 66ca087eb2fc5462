"""What a run used over time: a file of samples in its folder, bounded however long the run is.

`Recorder` belongs to the supervisor; `read` is for everybody else, at any time. The samples begin a
second apart. When there are `MOST`, each two become one, and the next ones come half as often: the
file says the same of a minute as of a month, at most as exactly as a page can draw it.
"""

# Supervisors are many and small: no pathlib, and dear modules only where they are needed.

from __future__ import annotations

import os
import stat
import struct

from daemon_app import output

TYPE_CHECKING = False  # `typing` costs a supervisor more memory than all of this module
if TYPE_CHECKING:
    from pathlib import Path

NAME = "usage"  # in the run's folder
MOST = 512
EVERY = 1.0  # seconds between the first samples

# epoch time, processor seconds since the start, resident bytes, processes
SAMPLE = struct.Struct("<ddQI")


class Sample:
    """What a run's processes had used at `at` (epoch), and how much memory they held.

    `cpu` is in seconds since the start. `resident` and `processes` are the most of the time since
    the sample before.
    """

    __slots__ = ("at", "cpu", "processes", "resident")

    def __init__(self, at: float, cpu: float, resident: int, processes: int) -> None:
        self.at = at
        self.cpu = cpu
        self.resident = resident
        self.processes = processes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sample):
            return NotImplemented
        return self.facts == other.facts

    def __hash__(self) -> int:
        return hash(self.facts)

    def __repr__(self) -> str:
        return f"Sample{self.facts}"

    @property
    def facts(self) -> tuple[float, float, int, int]:
        """Its values, in the order of the file."""
        return (self.at, self.cpu, self.resident, self.processes)


class Recorder:
    """Writes samples. Never raises for a sick disk: then there are no more of them."""

    __slots__ = ("_count", "_folder", "_is_broken", "every")

    def __init__(self, folder: str) -> None:
        self.every = EVERY  # seconds until the next sample is wanted
        self._folder = folder
        self._count = 0
        self._is_broken = False

    def note(self, at: float, cpu: float, resident: int, processes: int) -> None:
        """Add a sample."""
        if self._is_broken:
            return
        path = f"{self._folder}/{NAME}"
        sample = SAMPLE.pack(at, cpu, resident, processes)
        try:
            file = os.open(path, output.WRITE_FLAGS, mode=0o600)
            try:
                # What follows half a sample could not be read.
                self._is_broken = os.write(file, sample) < len(sample)
            finally:
                os.close(file)
            self._count += 1
            if self._count >= MOST:
                self._thin(path)
        except OSError:
            self._is_broken = True

    def _thin(self, path: str) -> None:
        found = read(self._folder)
        thinner = [_together(one, two) for one, two in zip(found[::2], found[1::2], strict=False)]
        output.write_whole(path, b"".join(SAMPLE.pack(*each.facts) for each in thinner))
        self._count = len(thinner)
        self.every *= 2


def _together(one: Sample, two: Sample) -> Sample:
    most = max(one.resident, two.resident)
    return Sample(two.at, two.cpu, most, max(one.processes, two.processes))


def read(folder: Path | str) -> list[Sample]:
    """Return the samples of the run in `folder`, in order; none when it was short, or is too old.

    Follows no symbolic link and opens nothing but a regular file.
    """
    try:
        file = os.open(f"{os.fspath(folder)}/{NAME}", output.READ_FLAGS)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return []
        stored = os.pread(file, 2 * MOST * SAMPLE.size, 0)
    except OSError:
        return []
    finally:
        os.close(file)
    whole = len(stored) - len(stored) % SAMPLE.size
    return [Sample(*each) for each in SAMPLE.iter_unpack(stored[:whole])]

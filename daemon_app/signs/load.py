"""Load that is not ours: what the processors do, without our services and what they started."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from daemon_app.gpu import run_of
from daemon_app.signs import SIGNS, Scene, Sign

PROC: Final = Path("/proc")
TICKS: Final = os.sysconf("SC_CLK_TCK")
# How our services call themselves; all that runs descends from one of them.
OURS: Final = "bach-"
SHORTEST: Final = 1.0  # seconds between two looks; jiffies say nothing of less
WORTH_A_LOOK: Final = 0.02  # of all processors: whose a process is that lost its parents


@dataclass(frozen=True, slots=True)
class Task:
    """A process: what it and its ended children have used of processors, in seconds."""

    pid: int
    name: str
    parent: int
    started: int  # clock ticks since boot
    cpu: float

    @property
    def key(self) -> tuple[int, int]:
        """What no later process has."""
        return self.pid, self.started


@dataclass(frozen=True, slots=True)
class Look:
    """What all of them have used up to a moment."""

    at: float  # on the monotonic clock
    busy: float  # seconds of all processors
    tasks: dict[int, Task]
    # By the topmost process that is ours: what its whole tree has used, and in the last interval.
    trees: dict[tuple[int, int], float]
    spent: dict[tuple[int, int], float]


@SIGNS.register("load")
class Load:
    """The share of all processors that others take, on average since the last look."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = False
    often: ClassVar[float | None] = None

    def __init__(
        self, proc: Path = PROC, owner_of: Callable[[int, str], int | None] = run_of
    ) -> None:
        self._proc = proc
        self._owner_of = owner_of
        self._before: Look | None = None
        self._said: Sign | None = None

    def look(self, scene: Scene) -> Sign | None:
        """Return whether others take more than the rules allow; None where it can't be seen."""
        limit = scene.rules.foreign_load
        if limit is None or not (self._proc / "stat").exists():
            self._before = None
            return None
        before = self._before
        if before is not None and scene.mono - before.at < SHORTEST:
            return self._said
        tasks = {task.pid: task for task in self._tasks()}
        ours = _trees(tasks)
        now = self._before = self._summed(scene.mono, tasks, ours, before)
        if before is None:
            self._said = Sign("load", False)  # nothing is known of the time before
            return self._said
        passed = (now.at - before.at) * (os.cpu_count() or 1)
        spent = {
            pid: task.cpu - known.cpu
            for pid, task in tasks.items()
            if pid not in ours
            and (known := before.tasks.get(pid))
            and known.key == task.key
            and task.cpu > known.cpu
        }
        # A tree that ended took what it had used with it; until then it went on as before.
        ended = sum(before.spent[key] for key in before.trees.keys() - now.trees.keys())
        of_ours = sum(now.spent.values()) + ended + self._orphaned(spent, passed, scene.token)
        share = min(max(now.busy - before.busy - of_ours, 0.0) / passed, 1.0)
        if share * 100 < limit:
            self._said = Sign("load", False, facts={"percent": round(share * 100)})
            return self._said
        busiest = max(spent, key=lambda pid: spent[pid], default=None)
        who = tasks[busiest].name if busiest is not None else "?"
        facts = {"percent": round(share * 100), "limit": limit, "who": who}
        self._said = Sign("load", True, "sign_load", facts)
        return self._said

    def _orphaned(self, spent: dict[int, float], passed: float, token: str) -> float:
        """Return what processes of ours spent that outlived their run; take them out of `spent`."""
        total = 0.0
        for pid, seconds in list(spent.items()):
            if seconds > WORTH_A_LOOK * passed and self._owner_of(pid, token) is not None:
                total += spent.pop(pid)
        return total

    def _summed(
        self, mono: float, tasks: dict[int, Task], ours: dict[int, int], before: Look | None
    ) -> Look:
        trees: dict[tuple[int, int], float] = {}
        for pid, root in ours.items():
            key = tasks[root].key
            trees[key] = trees.get(key, 0.0) + tasks[pid].cpu
        known = before.trees if before else trees
        spent = {key: max(used - known.get(key, 0.0), 0.0) for key, used in trees.items()}
        return Look(mono, self._busy(), tasks, trees, spent)

    def _busy(self) -> float:
        """Return the seconds that all processors together have worked."""
        fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq = (int(each) for each in fields[:7])
        return (user + nice + system + irq + softirq) / TICKS

    def _tasks(self) -> Iterable[Task]:
        for entry in os.scandir(self._proc):
            if entry.name.isdecimal():
                with suppress(OSError, ValueError, IndexError):
                    yield _task(entry.name, Path(entry.path, "stat").read_bytes())


def _task(pid: str, line: bytes) -> Task:
    # The name in brackets may itself hold brackets: everything counts from the last.
    end = line.rfind(b")")
    name = line[line.find(b"(") + 1 : end].decode(errors="replace")
    fields = line[end + 2 :].split()
    cpu = sum(int(each) for each in fields[11:15]) / TICKS
    return Task(int(pid), name, int(fields[1]), int(fields[19]), cpu)


def _trees(tasks: dict[int, Task]) -> dict[int, int]:
    """Return the processes that are ours, each with the topmost of its ancestors that is."""
    roots: dict[int, int] = {}

    def root_of(pid: int) -> int:
        if pid in roots:
            return roots[pid]
        task = tasks.get(pid)
        if task is None:
            return 0
        roots[pid] = 0  # a ring of parents, read while they changed, ends here
        found = root_of(task.parent) or (pid if task.name.startswith(OURS) else 0)
        roots[pid] = found
        return found

    return {pid: root for pid in tasks if (root := root_of(pid))}

"""A place of their own for real supervisors: folder, bells, launcher, and ways to wait."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon_app import doorbell, processes, supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 30.0  # seconds after which a condition will not come true any more
TOKEN = f"ground-tests-{os.getpid()}"  # so that two test sessions leave each other alone


def until(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "the condition has not come true"
        select.poll().poll(2)


@contextmanager
def files_no_bigger_than(size: int) -> Iterator[None]:
    """Have the kernel refuse bytes beyond `size` in any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """Put a disk of its own at `folder`, a tmpfs with these options; skip where none can be had."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if (
        sys.platform != "linux"
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root can mount a small disk")
    try:
        yield
    finally:
        # A supervisor that has just told of its end may have a file open for another moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Site:
    """A folder with bells, where runs are launched and waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = doorbell.runtime_dir(folder)
        self.bell = doorbell.Bell(self.runtime, "runner")
        self.live = doorbell.Bell(self.runtime, "live-*")
        self.launcher = supervisor.Launcher(self.runtime)
        self.heard: list[dict[str, Any]] = []
        self.runs = 0

    def close(self) -> None:
        self.launcher.close()
        self.bell.close()
        self.live.close()
        for run in range(1, self.runs + 1):
            processes.end_marked(run, TOKEN)
        shutil.rmtree(self.folder)

    def spec(self, command: str | list[str], **more: Any) -> dict[str, Any]:
        """Describe the next run; a str is a line for the shell."""
        self.runs += 1
        run = more.pop("run", self.runs)
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        env = {"PATH": os.defpath, "HERE": str(self.folder), "LC_ALL": "C.UTF-8"}
        return {
            "run": run,
            "fence": 1,
            "folder": str(self.of(run)),
            "runtime": str(self.runtime),
            "argv": argv,
            "cwd": str(self.folder),
            "grace": 0.3,
            "linger": 0.1,
            **more,
            "env": env | processes.marks(run, TOKEN) | more.get("env", {}),
        }

    def of(self, run: int) -> Path:
        return self.folder / "runs" / str(run)

    def launch(self, command: str | list[str], **more: Any) -> int:
        """Launch a run; return its number."""
        spec = self.spec(command, **more)
        self.launcher.launch(spec)
        run: int = spec["run"]
        return run

    def news(self, op: str, run: int, **details: Any) -> dict[str, Any]:
        """Wait for this news of this run."""

        def heard() -> dict[str, Any] | None:
            self.heard += [json.loads(payload) for payload in self.bell.wait(0.05)]
            wanted = {"op": op, "run": run, **details}
            return next((news for news in self.heard if wanted.items() <= news.items()), None)

        news: dict[str, Any] = until(heard)
        return news

    def ended(self, run: int) -> dict[str, Any]:
        """Wait for the end of a run; return its result."""
        result: dict[str, Any] = self.news("ended", run)["result"]
        return result

    def run(self, command: str | list[str], **more: Any) -> dict[str, Any]:
        """Run a command to its end; return the result."""
        return self.ended(self.launch(command, **more))

    def output(self, run: int | None = None) -> bytes:
        """What a run (the latest) has written, as far as it is kept."""
        files = self.of(run or self.runs).glob("output.*")
        kept = sorted((int(file.suffix[1:]), file) for file in files if file.suffix != ".idx")
        return b"".join(file.read_bytes() for _, file in kept)

    def wrote(self, name: str, lines: int = 1) -> list[str]:
        """Wait until a file in the folder has so many whole lines; return them."""
        path = self.folder / name

        def found() -> list[str] | None:
            text = path.read_text() if path.exists() else ""
            return text.splitlines() if text.count("\n") >= lines else None

        written: list[str] = until(found)
        return written


@pytest.fixture
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="bach-"))
    here = Site(folder)
    yield here
    here.close()

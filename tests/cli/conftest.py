"""What the tests of the command line share."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.bach import Bach
from tests.stack import free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: the addresses of Unix sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="bach-cli-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def bach(folder: Path) -> Bach:
    """`bach` on a machine where nothing has been set up yet."""
    return Bach(folder / "data")


@pytest.fixture(scope="module")
def service() -> Iterator[Bach]:
    """`bach` with a daemon in the background, shared by the tests of a module."""
    path = Path(tempfile.mkdtemp(prefix="bach-cli-", dir="/tmp"))
    bach = Bach(path / "data", BACH_PORT=str(free_port()))
    started = bach("daemon", "start", "--bg")
    assert started.returncode == 0, started
    yield bach
    end_all(bach)
    shutil.rmtree(path, ignore_errors=True)


def end_all(bach: Bach) -> None:
    """End the daemon, and kill what goes on after it."""
    bach("daemon", "stop")
    for process in psutil.process_iter():
        try:
            if process.environ().get("BACH_DATA_DIR") == str(bach.data) or any(
                str(bach.data) in part for part in process.cmdline()
            ):
                for each in [process, *process.children(recursive=True)]:
                    each.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue

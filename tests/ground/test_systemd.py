"""What systemd is told, over a real socket of either kind."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_app import systemd


@pytest.fixture(params=["file", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The listening end of a service manager."""
    address = f"/tmp/bach-notify-{os.getpid()}"
    if request.param == "abstract":
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        try:
            listening.bind(address)
        except OSError:
            pytest.skip("no abstract sockets here")
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@"))
        yield listening
    if address.startswith("/"):
        Path(address).unlink()


def test_the_manager_hears_what_is_told(manager: socket.socket) -> None:
    assert systemd.notify("READY=1\nSTATUS=läuft")

    assert manager.recv(100).decode() == "READY=1\nSTATUS=läuft"


def test_a_manager_that_does_not_listen_holds_up_nobody_for_long(manager: socket.socket) -> None:
    begun = time.monotonic()
    while systemd.notify("WATCHDOG=1"):
        assert time.monotonic() - begun < 30

    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("address", ["", "no/path", "/no/such/socket"])
def test_without_a_manager_nothing_is_told_and_nothing_fails(address: str, monkeypatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    assert not systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", None, 30.0), ("30000000", "1", None), ("", None, None), ("x", None, None)],
)
def test_signs_of_life_are_owed_by_the_process_that_is_meant(
    usec: str, pid: str | None, seconds: float | None, monkeypatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))

    assert systemd.watchdog_seconds() == seconds


def unit(**changes) -> str:
    wanted = {
        "file": "bach.service",
        "command": ["/opt/a b/bin/bach", "up"],
        "environment": {"BACH_DATA_DIR": "/srv/50%/data"},
        "drain_seconds": None,
        "why": "commands go on",
        **changes,
    }
    return systemd.unit(**wanted)


def test_a_unit_leaves_running_commands_alone() -> None:
    text = unit()

    assert 'ExecStart="/opt/a b/bin/bach" up\n' in text
    assert "Environment=BACH_DATA_DIR=/srv/50%%/data\n" in text
    assert "KillMode=process\n" in text


def test_a_unit_gives_a_drain_its_time() -> None:
    text = unit(drain_seconds=600)

    assert "KillMode=mixed\n" in text
    assert "TimeoutStopSec=750\n" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "bach.service"
    file.write_text(unit(command=["/bin/true"]))

    answer = subprocess.run(
        ["systemd-analyze", "verify", file], capture_output=True, text=True, check=False
    )

    assert "bach.service" not in answer.stderr

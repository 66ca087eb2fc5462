"""Waking other processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon_app.doorbell import Bell, DoorbellError, deliver, ring, runtime_dir


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime_dir(tmp_path_factory.mktemp("d"))


def test_whoever_is_called_by_name_hears_what_was_said_oldest_first(runtime):
    with Bell(runtime, "runner") as bell:
        ring(runtime, "runner", b"one")
        ring(runtime, "runner", b"two")

        assert bell.wait(timeout=5) == [b"one", b"two"]
        assert bell.drain() == []


def test_a_star_reaches_every_bell_that_begins_so_and_no_other(runtime):
    with (
        Bell(runtime, "live-1") as one,
        Bell(runtime, "live-2") as two,
        Bell(runtime, "x") as other,
    ):
        reached = ring(runtime, "live-*", b"news")

        assert reached == 2
        assert one.drain() == two.drain() == [b"news"]
        assert other.drain() == []


def test_a_bell_with_a_star_is_called_after_its_process(runtime):
    with Bell(runtime, "live-*") as bell:
        assert bell.path.endswith(f"/live-{os.getpid()}.sock")
        assert ring(runtime, "live-*") == 1


@pytest.mark.parametrize("name", ["runner", "live-*"])
def test_ringing_where_nobody_listens_reaches_nobody_and_harms_nobody(runtime, tmp_path, name):
    assert ring(runtime, name, b"hello?") == 0
    assert ring(tmp_path / "missing", name, b"hello?") == 0


def test_who_has_rung_leaves_no_socket_open_at_the_end(runtime):
    rung = f"from daemon_app import doorbell; doorbell.ring({str(runtime)!r}, 'daemon')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", rung], capture_output=True, text=True, check=True
    )

    assert done.stderr == ""


def test_a_payload_that_is_too_big_for_a_datagram_is_not_delivered(runtime):
    with Bell(runtime, "runner"):
        assert ring(runtime, "runner", bytes(50 << 20)) == 0


def test_a_full_bell_is_not_waited_for(runtime):
    with Bell(runtime, "runner") as bell:
        heard = 0
        while ring(runtime, "runner", b"again"):
            heard += 1

        assert deliver(runtime, "runner", b"again") == (0, 1)
        assert bell.drain() == [b"again"] * heard


def test_a_patient_ring_waits_until_there_is_room(runtime):
    with Bell(runtime, "runner") as bell:
        while ring(runtime, "runner", b"again"):
            pass
        outcome: list[tuple[int, int]] = []

        def insist() -> None:
            outcome.append(deliver(runtime, "runner", b"at last", patience=60))

        thread = threading.Thread(target=insist)
        thread.start()
        heard: list[bytes] = []
        while b"at last" not in heard:
            heard += bell.wait(5)
        thread.join()

        assert outcome == [(1, 0)]


def test_the_socket_of_a_dead_process_is_removed_on_the_way(runtime):
    dead = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(dead, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(runtime / f"live-{dead}.sock"))

    assert ring(runtime, "live-*") == 0

    assert list(runtime.iterdir()) == []


def test_the_newest_bell_of_a_name_is_heard_and_survives_the_end_of_the_older(runtime):
    older = Bell(runtime, "runner")
    newer = Bell(runtime, "runner")

    older.close()

    assert ring(runtime, "runner", b"you") == 1
    assert newer.drain() == [b"you"]
    newer.close()
    assert list(runtime.iterdir()) == []


def test_waiting_ends_without_a_ring_when_the_time_is_over(runtime):
    with Bell(runtime, "runner") as bell:
        assert bell.wait(timeout=0) == []


def test_the_sockets_lie_in_the_data_folder_closed_to_others(tmp_path_factory):
    data = tmp_path_factory.mktemp("d")

    place = runtime_dir(data)

    assert place == data / "sock"
    assert place.stat().st_mode & 0o777 == 0o700
    assert runtime_dir(data) == place
    with Bell(place, "runner") as bell:
        assert Path(bell.path).stat().st_mode & 0o777 == 0o600


def test_a_data_folder_too_deep_for_sockets_gets_a_place_elsewhere(tmp_path, monkeypatch):
    deep = tmp_path.joinpath(*["deep" * 10] * 4)
    deep.mkdir(parents=True)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    place = runtime_dir(deep)

    try:
        assert runtime_dir(deep) == place
        assert place.stat().st_mode & 0o777 == 0o700
        with Bell(place, "live-*"):
            assert ring(place, "live-*") == 1
    finally:
        place.rmdir()


def test_a_runtime_directory_that_others_may_enter_is_refused(tmp_path_factory):
    data = tmp_path_factory.mktemp("d")
    runtime_dir(data).chmod(0o755)

    with pytest.raises(DoorbellError, match="chmod 700"):
        runtime_dir(data)
    with pytest.raises(DoorbellError, match="chmod 700"):
        Bell(data / "sock", "runner")


def test_a_runtime_directory_of_somebody_else_is_refused(tmp_path_factory, monkeypatch):
    data = tmp_path_factory.mktemp("d")
    runtime_dir(data)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(DoorbellError, match="belongs to user"):
        runtime_dir(data)


def test_a_runtime_directory_that_is_a_link_is_refused(tmp_path_factory):
    data = tmp_path_factory.mktemp("d")
    (data / "elsewhere").mkdir(mode=0o700)
    (data / "sock").symlink_to(data / "elsewhere")

    with pytest.raises(DoorbellError, match="not a directory"):
        runtime_dir(data)


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path_factory):
    data = tmp_path_factory.mktemp("d") / "file"
    data.write_text("")

    with pytest.raises(DoorbellError, match="cannot make the directory"):
        runtime_dir(data)

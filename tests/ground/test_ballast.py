"""Room put by for a full disk; on a real small disk where the tests may mount one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_app import ballast
from daemon_app.ballast import MEBIBYTE, Ballast


class Disk(Ballast):
    """A ballast on a disk with so much room as the test says."""

    room = 0

    def free(self) -> int:
        return self.room - self.size()


@pytest.mark.parametrize(("room", "size"), [(10_000, 16), (200, 16), (60, 5), (10, 0)])
def test_it_takes_what_there_is_plenty_of(tmp_path: Path, room: int, size: int) -> None:
    disk = Disk(tmp_path / "ballast")
    disk.room = room * MEBIBYTE

    disk.take()

    assert disk.size() // MEBIBYTE == size
    before = disk.size()
    disk.take()
    assert disk.size() == before


def test_it_is_given_up_bit_by_bit_and_taken_anew(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "ballast")
    disk.room = 1000 * MEBIBYTE
    disk.take()

    sizes = []
    while disk.give():
        sizes.append(disk.size() // MEBIBYTE)

    assert sizes == [12, 8, 4, 0]
    assert not disk.give()
    disk.take()
    assert disk.size() == 16 * MEBIBYTE


def test_it_is_for_us_alone(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "ballast")
    disk.room = 1000 * MEBIBYTE
    disk.take()

    assert (tmp_path / "ballast").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "bach-test", place],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(path: Path) -> None:
    with path.open("wb", 0) as rubbish:
        while True:
            rubbish.write(b"\xff" * MEBIBYTE)


def test_on_a_full_disk_a_slice_makes_room_for_what_matters(small_disk: Path) -> None:
    store = Ballast(small_disk / "ballast")
    assert store.take() >= ballast.SMALLEST
    assert store.free() > store.low()
    with pytest.raises(OSError) as full:
        fill(small_disk / "rubbish")
    assert ballast.is_full(full.value)
    assert store.free() < store.low()

    assert store.give()

    (small_disk / "state").write_bytes(os.urandom(100_000))
    (small_disk / "rubbish").unlink()
    assert store.take() >= ballast.SMALLEST

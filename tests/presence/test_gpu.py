"""Other programs on the GPU, asked of a small NVML of our own that answers from a file."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemon_app.signs import Rules, Sign
from daemon_app.signs.gpu import Gpu, Onlooker
from tests.presence.scenes import scene
from tests.test_gpu import ONE, TWO, UNKNOWN, Machine, library, machine  # noqa: F401 - fixtures

MB = 1 << 20
OLLAMA = frozenset({"ollama"})

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="GPUs are looked at on Linux only")


@pytest.fixture
def stranger() -> Iterator[int]:
    """Yield the number of a process that is nobody's run."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def gpu(of: Machine, **owners: int) -> Gpu:
    """Return the sign on a machine; `owners`: run by "p<pid>"."""
    return Gpu(Onlooker(of.pci_devices), lambda pid, _token: owners.get(f"p{pid}"))


def computes(pid: int, percent: int, at: int = 1000, address: str = ONE) -> tuple[str, str]:
    return f"process {address} compute {pid} {MB}", f"busy {address} {pid} {at} {percent}"


def test_a_stranger_who_computes_counts_and_one_who_only_holds_memory_does_not(
    machine: Machine,  # noqa: F811
    stranger: int,
) -> None:
    machine.plug_in(ONE)
    sign = gpu(machine)

    machine.answer(*computes(stranger, 60))
    busy = sign.look(scene(1000))
    machine.answer(*computes(stranger, 60))
    same = sign.look(scene(1030))
    machine.answer(*computes(stranger, 1, at=2000))
    still = sign.look(scene(1060))

    assert busy == Sign("gpu", True, "sign_gpu", {"who": "sleep", "percent": 60})
    assert same is not None
    assert same.busy is False, "the same measurement as before says nothing new"
    assert still is not None
    assert still.busy is False


def test_our_own_runs_do_not_count(machine: Machine, stranger: int) -> None:  # noqa: F811
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    ours = os.getpid()
    sign = gpu(machine, **{f"p{ours}": 7})

    machine.answer(*computes(ours, 90), *computes(stranger, 2, address=TWO))
    alone = sign.look(scene(1000, runs=True))
    machine.answer(*computes(ours, 90, at=2000), *computes(stranger, 30, at=2000, address=TWO))
    together = sign.look(scene(1030, runs=True))

    assert alone is not None
    assert alone.busy is False
    assert together is not None
    assert together.facts == {"who": "sleep", "percent": 30}


def test_a_model_server_s_own_process_works_for_the_run_that_needs_it(
    machine: Machine,  # noqa: F811
) -> None:
    machine.plug_in(ONE)
    code = "from daemon_app import processes; processes.rename('ollama'); print(1, flush=True)"
    server = subprocess.Popen(
        [sys.executable, "-c", f"{code}; import time; time.sleep(600)"], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout
        server.stdout.readline()
        sign = gpu(machine)
        machine.answer(*computes(server.pid, 80))
        for_us = sign.look(scene(1000, our_services=OLLAMA, runs=True))
        machine.answer(*computes(server.pid, 80, at=2000))
        for_others = sign.look(scene(1030))
    finally:
        server.kill()
        server.communicate()

    assert for_us is not None
    assert for_us.busy is False
    assert for_others is not None
    assert for_others.facts == {"who": "ollama", "percent": 80}


def test_a_gpu_that_sleeps_is_not_woken(machine: Machine) -> None:  # noqa: F811
    machine.plug_in(ONE, status="suspended", control="auto")

    seen = gpu(machine).look(scene())

    assert seen is not None
    assert seen.busy is False
    assert machine.calls() == []


def test_a_gpu_that_does_not_answer_is_unknown_unless_a_run_of_ours_may_be_why(
    machine: Machine,  # noqa: F811
) -> None:
    machine.plug_in(ONE)
    machine.answer(f"error nvmlInit {UNKNOWN}")
    sign = gpu(machine)

    alone = sign.look(scene(1000))
    meanwhile = sign.look(scene(1030))

    assert alone is not None
    assert (alone.busy, alone.code) == (None, "sign_gpu_unknown")
    assert meanwhile is not None
    assert meanwhile.busy is None
    assert gpu(machine).look(scene(1000, runs=True)) is None


def test_nobody_looks_at_gpus_unless_it_is_wanted(machine: Machine) -> None:  # noqa: F811
    machine.plug_in(ONE)

    assert gpu(machine).look(scene(rules=Rules(watch_gpu=False))) is None
    assert machine.calls() == []

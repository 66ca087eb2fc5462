"""A child that is to end with its parent ends however early the parent does."""

import os
import select
import signal
import sys

import pytest

from daemon_app import processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells of a parent's death")

PATIENCE = 30.0  # seconds


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_whose_parent_has_ended_already_ends_too(number: int) -> None:
    living, held = os.pipe()  # held open by the grandchild alone
    gone, going = os.pipe()  # held open by its parent alone
    parent = os.fork()
    if parent == 0:
        us = os.getpid()
        if os.fork() == 0:
            os.close(going)
            select.select([gone], [], [], PATIENCE)  # until our parent is no more
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            processes.die_with_parent(us, number)
            signal.pause()
        os._exit(0)
    os.close(held)
    os.close(going)
    os.waitpid(parent, 0)

    ended, _, _ = select.select([living], [], [], PATIENCE)

    assert ended
    os.close(living)
    os.close(gone)

"""django-q2's cluster without the three ways in which 1.11 hangs or leaves processes behind.

- A worker killed while it waited held the queue's read lock for ever (9 of 24 kills): the locks
  remember their holder, and the sentinel frees those of the dead.
- SIGTERM to the whole group stopped main for ever (39 of 40): handlers only set a flag, and the
  sentinel and its children leave that signal to main.
- A killed sentinel or main left the rest running unsupervised: every process dies with its parent.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import django_q.cluster as stock
from django import db
from django_q.conf import Conf
from django_q.queues import Queue
from django_q.worker import worker

from daemon_app import processes
from daemon_app.broker import wake

log = logging.getLogger(__name__)

DRAIN = 15.0  # seconds a stop waits for tasks; they last milliseconds


class MarkedLock:
    """A lock between processes that knows which process holds it."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._holder = multiprocessing.RawValue("i", 0)

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        """Take the lock and note who has it."""
        taken: bool = self._lock.acquire(*args, **kwargs)
        if taken:
            self._holder.value = os.getpid()
        return taken

    def release(self) -> None:
        """Give the lock back."""
        self._holder.value = 0
        self._lock.release()

    def free_if_held_by(self, pid: int | None) -> bool:
        """Release the lock for a dead process; return whether it had it."""
        if pid is None or self._holder.value != pid:
            return False
        self.release()
        return True

    def __enter__(self) -> "MarkedLock":
        self.acquire()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


class MarkedQueue(Queue):  # type: ignore[misc]  # django-q2 has no types
    """A queue whose locks can be freed when their holder has died."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rlock = MarkedLock(self._rlock)
        self._wlock = MarkedLock(self._wlock)

    def heal(self, pid: int | None) -> bool:
        """Free what a dead process held; return whether it held anything."""
        freed = [lock.free_if_held_by(pid) for lock in (self._rlock, self._wlock)]
        return any(freed)


class Sentinel(stock.Sentinel):  # type: ignore[misc]
    """The guard: replaces dead processes, frees their locks, leaves SIGTERM to main."""

    def start(self) -> None:
        """Guard until told to stop."""
        processes.die_with_parent()
        _leave_signals_to_main()
        super().start()

    def spawn_process(self, target: Callable[..., None], *args: Any) -> Any:
        """Return a new child that dies with the sentinel."""
        child = stock.get_mp_context().Process(target=_in_child, args=(target, *args), daemon=True)
        if target is worker:
            child.timer = args[2]
            self.pool.append(child)
        child.start()
        return child

    def reincarnate(self, process: Any) -> None:
        """Replace a dead or overdue child; what it held is free again."""
        if process.is_alive():
            # It may still be handing over its last result.
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join(5)
        if self.task_queue.heal(process.pid) | self.result_queue.heal(process.pid):
            log.warning("process %s died holding a lock of the queue; freed", process.pid)
        super().reincarnate(process)

    def stop(self) -> None:
        """Stop the children in order; the pusher is woken, it may be asleep on its bell."""
        self.event_out.set()
        wake()
        super().stop()


class Cluster(stock.Cluster):  # type: ignore[misc]
    """The cluster's main process: starts the sentinel, waits, stops it, tells how it went."""

    def run(self, ready: Callable[[], None]) -> int:
        """Run until SIGTERM or SIGINT; return 0 after a clean stop, 1 when the sentinel died."""
        bell, rung = socket.socketpair()
        bell.setblocking(False)  # noqa: FBT003 - the socket's own signature
        rung.setblocking(False)  # noqa: FBT003
        signal.set_wakeup_fd(bell.fileno(), warn_on_full_buffer=False)
        self.start()
        ready()
        while True:
            events = connection.wait([self.sentinel.sentinel, rung])
            if self.sentinel.sentinel in events:
                log.error("the cluster's sentinel died; ending, so that it is started again")
                return 1
            told = rung.recv(64)
            if {signal.SIGTERM, signal.SIGINT} & set(told):
                break
        self.stop_event.set()
        self.sentinel.join(DRAIN)
        if self.sentinel.is_alive():
            self.sentinel.kill()
            return 2
        return 0

    def sig_handler(self, signum: int, frame: object) -> None:
        """Do nothing here: the wake-up descriptor has told `run`."""


def run(ready: Callable[[], None] = lambda: None) -> int:
    """Run this host's cluster until it is told to stop; return its exit code."""
    stock.Sentinel = Sentinel
    stock.Queue = MarkedQueue
    # Children are forked: an open database connection must not go with them.
    db.connections.close_all()
    logging.getLogger("django-q").setLevel(Conf.LOG_LEVEL)
    return Cluster().run(ready)


def _in_child(target: Callable[..., None], *args: Any) -> None:
    processes.die_with_parent()
    _leave_signals_to_main()
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
    target(*args)


def _leave_signals_to_main() -> None:
    # A handler, not SIG_IGN: what is ignored stays ignored in programs started from here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _noop)


def _noop(_signum: int, _frame: object) -> None:
    return

"""django-q2's cluster without the four ways in which 1.11 hangs or leaves processes behind.

- A worker killed while it waited held the queue's read lock for ever (9 of 24 kills): the locks
  remember their holder, and the sentinel frees those of the dead.
- A worker killed while it handed over its result held the lock of its own timer, for which the
  sentinel then waited for ever: there is no such lock.
- SIGTERM to the whole group stopped django-q2's main process for ever (39 of 40), waiting for its
  sentinel: there is one process for both, its handlers do nothing, and its children leave that
  signal to it.
- A killed sentinel left the rest running unsupervised: every process dies with its parent.
"""

import contextlib
import logging
import multiprocessing
import os
import select
import signal
import socket
import uuid
from collections.abc import Callable
from typing import Any, NoReturn, Self

import django_q.cluster as stock
from django import db
from django.conf import settings
from django_q.conf import Conf
from django_q.queues import Queue
from django_q.worker import worker

from daemon_app import pidfile, processes
from daemon_app.broker import forget_taken, wake

log = logging.getLogger(__name__)

DRAIN = 15  # seconds a stop waits for tasks; they last milliseconds
STOPPING = {signal.SIGTERM, signal.SIGINT}


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

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


class Counter:
    """What is in a queue, by two numbers: one that only grows by puts, one only by gets."""

    def __init__(self) -> None:
        self._put = multiprocessing.RawValue("L", 0)
        self._got = multiprocessing.RawValue("L", 0)

    def increment(self, n: int) -> None:
        """Count one put (1) or one get (-1); each is done by one process alone."""
        counted = self._put if n > 0 else self._got
        counted.value += 1

    @property
    def value(self) -> int:
        """How many have been put and not been got."""
        return max(int(self._put.value) - int(self._got.value), 0)


class MarkedQueue(Queue):
    """A queue whose locks can be freed when their holder has died.

    django-q2's counts what is in it under one lock more: whoever was killed while counting stopped
    all others for ever. Ours counts without one.
    """

    size: "Counter"

    _rlock: Any
    _wlock: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rlock = MarkedLock(self._rlock)
        self._wlock = MarkedLock(self._wlock)
        self.size = Counter()

    def heal(self, pid: int | None) -> bool:
        """Free what a dead process held; return whether it held anything."""
        freed = [lock.free_if_held_by(pid) for lock in (self._rlock, self._wlock)]
        return any(freed)


class Timer:
    """How long a worker may still work, in seconds; -1 while it is idle, -2 when it is used up.

    Has what django-q2 uses of a value with a lock. Without one a change may be lost to another at
    the same moment; a worker that works too long is then ended a look of the sentinel's later.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = multiprocessing.RawValue("f", seconds)

    @property
    def value(self) -> float:
        """The time left."""
        return float(self._seconds.value)

    @value.setter
    def value(self, seconds: float) -> None:
        self._seconds.value = seconds

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        """Return what is entered where there was a lock."""
        return contextlib.nullcontext()


class StopSign:
    """What the sentinel waits for: a signal to stop. Has what it uses of an event.

    django-q2 sets an event from a signal handler, which waits for ever when the signal arrives
    inside that event's own lock.
    """

    def __init__(self) -> None:
        self._told, self._wakeup = socket.socketpair()
        self._told.setblocking(False)
        self._wakeup.setblocking(False)
        self._set = False
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)

    def is_set(self) -> bool:
        """Return whether the signal has come, as far as `wait` has seen."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait for the signal; return whether it has come."""
        select.select([self._told], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            self._set |= not STOPPING.isdisjoint(self._told.recv(64))
        return self._set


class StartSign:
    """What the sentinel sets when all of its processes run. Has what it uses of an event."""

    def __init__(self, ready: Callable[[], None]) -> None:
        self._ready = ready
        self._set = False

    def is_set(self) -> bool:
        """Return whether all processes run."""
        return self._set

    def set(self) -> None:
        """Pass it on."""
        self._set = True
        self._ready()


class Sentinel(stock.Sentinel):
    """The guard: starts pusher, worker and monitor, replaces dead ones, frees their locks."""

    def start(self) -> None:
        """Guard until told to stop."""
        _leave_signals_alone()
        super().start()

    def spawn_process(self, target: Callable[..., None], *args: Any) -> Any:
        """Return a new child that dies with the sentinel."""
        if target is worker:
            tasks, results, timer, *rest = args
            args = (tasks, results, Timer(timer.value), *rest)
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
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(DRAIN)
        self.event_out.set()
        wake()
        super().stop()
        signal.alarm(0)


def run(ready: Callable[[], None] = lambda: None) -> int:
    """Run this host's cluster until SIGTERM or SIGINT; return 0 after a clean stop.

    `ready` is called once, when all of its processes run. Returns 1 when another one runs here.
    """
    stock.Queue = MarkedQueue
    logging.getLogger("django-q").setLevel(Conf.LOG_LEVEL)
    try:
        # By this file the daemon finds a cluster that has fallen silent.
        with pidfile.held(settings.DATA_DIR / "cluster.pid"):
            try:
                forget_taken()
            except db.DatabaseError:
                log.exception("messages of an earlier cluster stay in the queue")
            # Children are forked: an open database connection must not go with them.
            db.connections.close_all()
            Sentinel(StopSign(), StartSign(ready), uuid.uuid4())
    except pidfile.Taken as taken:
        log.error("a cluster is running already: %s", taken)  # noqa: TRY400 - an expected answer
        return 1
    return 0


def _in_child(target: Callable[..., None], *args: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # multiprocessing has started us
    processes.die_with_parent(parent.pid or 0)
    _leave_signals_alone()
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
    target(*args)


def _leave_signals_alone() -> None:
    # A handler, not SIG_IGN: what is ignored stays ignored in programs started from here.
    for number in STOPPING:
        signal.signal(number, _noop)


def _noop(_signum: int, _frame: object) -> None:
    return


def _give_up(_signum: int, _frame: object) -> NoReturn:
    """End at once after a stop that hangs; the children die with us."""
    os._exit(2)

"""Hand due runs to the cluster, and from a cluster's worker to the host's runner.

A queue message is a wake-up: it carries run ids and may be lost, doubled or replayed. Who runs a
run is decided by the claim of its row alone.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TypeVar

from django.conf import settings
from django.db import transaction
from django_q.conf import Conf
from django_q.humanhash import uuid
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from daemon_app import doorbell
from daemon_app.broker import wake

# 1,000 messages of one run each take 558 ms to write, 20 of 50 runs each take 5 ms.
RUNS_PER_MESSAGE = 50
# Far below the 64 KiB that a bell takes.
RUNS_PER_DATAGRAM = 2000
# The kernel queues ten datagrams; a busy runner takes a moment to make room for more, and what is
# lost here waits for the sweep.
PATIENCE = 5.0  # seconds

T = TypeVar("T")
Due = tuple[int, float]  # run id, due instant in seconds since the epoch


def submit(runs: Iterable[Due], now: datetime) -> None:
    """Put runs into the queue within the caller's transaction; the cluster is woken on commit."""
    rows = [
        OrmQ(key=Conf.CLUSTER_NAME, lock=now, payload=_message(batch, now))
        for batch in _batches(runs, RUNS_PER_MESSAGE)
    ]
    if rows:
        OrmQ.objects.using(Conf.ORM).bulk_create(rows)
        transaction.on_commit(wake, using=Conf.ORM, robust=True)


def dispatch(runs: list[Due]) -> None:
    """Tell this host's runner that `runs` may start. The task a cluster worker executes.

    No answer is awaited: a runner that is away finds the rows when it comes back.
    """
    _ring_runner({"op": "start", "runs": runs}, PATIENCE)


def ask_to_stop(run_id: int) -> None:
    """Tell this host's runner, after the commit, that a run is to stop; its row says so too."""
    transaction.on_commit(lambda: _ring_runner({"op": "stop", "run": run_id}), robust=True)


def forget(run_ids: list[int]) -> None:
    """Tell this host's runner, after the commit, that these runs' rows are gone.

    It ends what still runs of them and removes their folders.
    """
    for batch in _batches(run_ids, RUNS_PER_DATAGRAM):
        message = {"op": "forget", "runs": batch}
        transaction.on_commit(
            lambda message=message: _ring_runner(message, PATIENCE),  # type: ignore[misc]
            robust=True,
        )


def tell_line() -> None:
    """Tell this host's runner, after the commit, that the line was put into another order."""
    transaction.on_commit(lambda: _ring_runner({"op": "rules"}), robust=True)


def tell_anew(run_id: int, due: float) -> None:
    """Tell this host's runner, after the commit, that a waiting run's row is to be read again."""
    message = {"op": "anew", "run": run_id, "due": due}
    transaction.on_commit(lambda: _ring_runner(message), robust=True)


def _ring_runner(message: dict[str, object], patience: float = 0.0) -> None:
    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    doorbell.deliver(runtime, "runner", json.dumps(message).encode(), patience)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _message(batch: list[Due], now: datetime) -> str:
    # What django_q.tasks.async_task writes, without its look-ups for every message. The format
    # is internal to django-q2: the version is pinned and tests/test_executor.py holds it.
    name, tag = uuid()
    payload: str = SignedPackage.dumps(
        {
            "id": tag,
            "name": name,
            "func": "daemon_app.executor.dispatch",
            "args": (batch,),
            "kwargs": {},
            "ack_failure": True,
            "started": now,
        }
    )
    return payload

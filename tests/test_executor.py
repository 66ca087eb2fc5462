"""What our queue messages look like to django-q2: its format is internal, so this holds it."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from daemon_app import doorbell, executor
from daemon_app.broker import WakingBroker
from daemon_app.models import Run
from tests.jobs import NOON, run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def runtime(settings) -> Path:
    return doorbell.runtime_dir(settings.DATA_DIR)


def test_a_message_of_ours_has_what_django_q_writes_itself() -> None:
    executor.submit([(1, 0.0)], timezone.now())
    async_task("daemon_app.executor.dispatch", [(1, 0.0)])

    ours, theirs = (SignedPackage.loads(row.payload) for row in OrmQ.objects.order_by("id"))

    assert ours.keys() == theirs.keys()
    assert ours["func"] == theirs["func"]
    assert ours["args"] == theirs["args"]


def test_many_runs_travel_in_few_messages() -> None:
    executor.submit([(n, 0.0) for n in range(120)], timezone.now())

    assert OrmQ.objects.count() == 3


def test_the_cluster_is_woken_after_the_commit(runtime) -> None:
    with doorbell.Bell(runtime, "queue-*") as bell:
        executor.submit([(1, 0.0)], timezone.now())

        assert bell.wait(5)


def test_of_two_brokers_each_message_reaches_one_and_in_order() -> None:
    executor.submit([(n, 0.0) for n in range(500)], timezone.now())

    with closing(WakingBroker("bach")) as one, closing(WakingBroker("bach")) as two:
        first, second = one.dequeue() or [], two.dequeue() or []

    ids = [pk for pk, _payload in first + second]
    assert ids == sorted(set(ids))
    assert len(ids) == 10


def test_the_settings_name_our_broker() -> None:
    assert isinstance(get_broker(), WakingBroker)


def test_dispatch_tells_the_runner_and_waits_for_nobody(runtime) -> None:
    executor.dispatch([(7, 1.5)])  # nobody listens: no error

    with doorbell.Bell(runtime, "runner") as runner:
        executor.dispatch([(7, 1.5)])
        (message,) = runner.wait(5)

    assert json.loads(message) == {"op": "start", "runs": [[7, 1.5]]}


def test_dispatch_waits_for_room_at_a_busy_runner(runtime) -> None:
    with doorbell.Bell(runtime, "runner") as runner:
        while doorbell.ring(runtime, "runner", b"full"):
            pass

        with ThreadPoolExecutor() as elsewhere:
            told = elsewhere.submit(executor.dispatch, [(7, 1.5)])
            heard: list[bytes] = []
            while not told.done():
                heard += runner.wait(0.1)
            heard += runner.drain()

    assert json.loads(heard[-1]) == {"op": "start", "runs": [[7, 1.5]]}


def test_the_runner_hears_of_every_run_of_a_deleted_job(runtime) -> None:
    with doorbell.Bell(runtime, "runner") as runner:
        executor.forget([*range(15_000)])
        told = [json.loads(message) for message in runner.drain()]

    assert {message["op"] for message in told} == {"forget"}
    assert [pk for message in told for pk in message["runs"]] == [*range(15_000)]


def test_a_bell_that_can_not_be_rung_undoes_nothing_and_is_no_failure(runtime) -> None:
    waiting = run()

    runtime.chmod(0o755)
    try:
        claimed = Run.objects.claim([waiting.pk], owner="here", now=NOON)
        executor.submit([(waiting.pk, 0.0)], NOON)
        executor.ask_to_stop(waiting.pk)
        executor.forget([waiting.pk])
    finally:
        runtime.chmod(0o700)

    assert claimed == {waiting.pk: 1}
    assert OrmQ.objects.count() == 1

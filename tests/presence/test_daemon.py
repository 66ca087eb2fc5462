"""The real daemon: an idle machine works, makes way for a request, and goes on."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.utils import timezone

from daemon_app import scheduler
from daemon_app.models import Displacement, IdleSpan, Job, Node, Policy, Run
from daemon_app.signs.marks import Notebook
from tests.service import Service, ended, running, soon, started, until
from tests.stack import free_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def service() -> Iterator[Service]:
    """Yield a daemon whose services are down and whose ticks are short."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    Policy(
        pk=1,
        idle_after_seconds=4,  # the sign may be heard late
        foreign_load_percent=None,  # whatever else this machine does
        watch_logins=False,
        watch_gpu=False,
    ).store(now=timezone.now(), by="anna")
    service = Service(BACH_TICK_SECONDS="1", GPU_SERVICE_URL=nowhere, OLLAMA_URL=nowhere)
    service.start()
    yield service
    service.close()


def test_an_idle_machine_works_until_somebody_comes_and_again_when_they_have_gone(
    service: Service,
) -> None:
    works = soon(
        command="trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done",
        only_when_idle=True,
        on_presence=Job.Presence.DISPLACE,
    )
    run = running(started(works))
    until(lambda: Node.objects.get().idle, "writing down that nobody is here")

    Notebook(settings.DATA_DIR).note(
        "session", who="anna", signal="request", at=timezone.now().timestamp()
    )

    made_way = until(lambda: Displacement.objects.filter(run=run).first(), "making way")
    assert made_way.cause["code"] == "sign_requests"
    assert made_way.cause["facts"] == {"who": "anna"}
    assert 0 <= made_way.asked_seconds <= made_way.yielded_seconds
    running(run)
    assert Run.objects.get(pk=run.pk).displacements == 1
    spans = IdleSpan.objects.order_by("id").values_list("idle", flat=True)
    until(lambda: list(spans.all())[-3:] == [True, False, True], "writing down who was here when")
    scheduler.stop(run, by="anna", now=timezone.now())  # it would outlive the daemon
    ended(run)
    service.stop()
    assert not IdleSpan.objects.filter(ended_at=None).exists()

"""However much there is, a page asks the database as often: never once more for each row."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from daemon_app import icons, tiles
from daemon_app.models import (
    Account,
    Attempt,
    Change,
    Displacement,
    IdleSpan,
    Incident,
    Job,
    Node,
    Pool,
    Run,
    Snapshot,
    Token,
)
from daemon_app.models.run import Wait
from tests import addresses
from tests.jobs import job, run

State = Run.State
FEW, MANY = 8, 48
# A list that is cut off asks for its length; what is shown only where there is much of it, too.
# A query for each row would be dozens.
SLACK = 6
REGION = re.compile(r'data-region="([^"]+)"')


def fill(first: int, last: int) -> None:
    """Make jobs `first` … `last`, in every state, each with runs in every state and more."""
    now = timezone.now()
    ended = (State.SUCCEEDED, State.SUCCEEDED, State.SKIPPED, State.MISSED, State.CANCELLED)
    for n in range(first, last):
        kind: dict[str, Any] = {"job_type": "cron", "schedule": f"{n % 60} 3 * * *"}
        each = job(
            f"job-{n}",
            now=now,
            pools={"gpu": 1} if n % 3 == 0 else {},
            only_when_idle=n % 4 == 1,
            on_presence="displace" if n % 4 == 1 else "continue",
            description="Daily.",
            **(kind if n % 4 else {}),
        )
        Pool(name=f"pool-{n}", size=2).store(now=now, by="anna")
        if n % 5 == 4:
            each.set_active(False, now=now, by="anna")
        states = [*ended, *([State.FAILED] * 2 if n % 2 else [State.TIMED_OUT, State.SUCCEEDED])]
        for back, state in enumerate(reversed(states), 1):
            _ended(each, state, now - timedelta(hours=back))
        active = {0: State.RUNNING, 1: State.QUEUED, 2: State.QUEUED}.get(n % 6)
        if active:
            began = {"started_at": now - timedelta(minutes=1)} if active == State.RUNNING else {}
            run(each, state=active, due_at=now - timedelta(minutes=1), priority=n % 3, **began)
        owner = Account.objects.create(username=f"person-{n}")
        Token.issue(owner, name="script", role="viewer", now=now, life=None)
        Incident.objects.create(at=now, code="clock_jump", facts={"seconds": n})
        Incident.objects.create(
            at=now, code="schedule_broken", job=each, facts={"job": each.name, "error": "?"}
        )
        IdleSpan.objects.create(
            host="werkstatt",
            idle=n % 2 == 0,
            began_at=now - timedelta(minutes=n + 1),
            ended_at=now - timedelta(minutes=n),
        )
        Snapshot.objects.create(
            host="werkstatt", at=now - timedelta(seconds=30 * n), values={"disk": 400.0}
        )
        Change.objects.create(
            at=now, by="anna", kind="edited", subject_id=1, name="job-0", version=n + 2, fields={}
        )


def _ended(of: Job, state: str, at: Any) -> None:
    found = run(
        of,
        state=state,
        trigger=Run.Trigger.SCHEDULE,
        due_at=at,
        now=at,
        started_at=at,
        ended_at=at + timedelta(seconds=30),
        attempt=2,
        fence=2,
    )
    about: dict[str, Any] = {"run": found, "started_at": at, "ended_at": at}
    Attempt.objects.create(number=1, fence=1, state=Attempt.DISPLACED, **about)
    Wait.objects.create(run=found, code="waits_idle", began_at=at, seen_at=at)
    Displacement.objects.create(run=found, job_id=of.pk, job_name=of.name, host="werkstatt", at=at)


@pytest.fixture
def grown(db: None) -> Callable[[], None]:
    """A product with a little of everything; call it to make that much more."""
    now = timezone.now()
    Node.objects.create(host="werkstatt", pid=1, started_at=now, seen_at=now + timedelta(minutes=9))
    Pool(name="gpu", size=2).store(now=now, by="anna")
    fill(0, FEW)
    return lambda: fill(FEW, MANY)


def samples() -> dict[str, Any]:
    """What is asked for: a job with many runs, one of these, and so on."""
    first = Job.objects.get(name="job-1")
    oldest = first.runs.order_by("id")[0].pk
    pool = Pool.objects.get(name="gpu")
    found = {"job": first.pk, "name": first.name, "run": oldest, "attempted": oldest}
    token = Token.objects.order_by("id")[0].pk
    return found | {"pool": pool.pk, "token": token, "icons": icons.fingerprint()}


def queries(ask: Callable[[], Any]) -> list[str]:
    """Return the queries of a second look: what is kept was found out by the first."""
    ask()
    with CaptureQueriesContext(connection) as asked:
        ask()
    return [query["sql"] for query in asked.captured_queries]


def more(before: list[str], after: list[str]) -> list[str]:
    """Return by what the second look grew, in short, when that is more than it may be."""
    if len(after) <= len(before) + SLACK:
        return []
    return [f"{len(before)} → {len(after)} queries", *sorted({sql[:300] for sql in after})]


def test_an_answer_asks_no_more_of_a_big_database_than_of_a_small_one(
    grown: Callable[[], None], admin: Client
) -> None:
    asked = list(addresses.shown(samples()))
    before = {name: queries(partial(admin.get, at)) for name, at in asked}
    grown()
    after = {name: queries(partial(admin.get, at)) for name, at in asked}

    answers = {name: admin.get(address).status_code for name, address in asked}
    assert {name: status for name, status in answers.items() if status != 200} == {}
    assert {name: found for name in before if (found := more(before[name], after[name]))} == {}


def test_a_region_asks_no_more_of_a_big_database_than_of_a_small_one(
    grown: Callable[[], None], admin: Client
) -> None:
    pages = [admin.get(address) for _name, address in addresses.shown(samples())]
    regions = {
        html.unescape(found)
        for page in pages
        if "html" in page["Content-Type"]
        for found in REGION.findall(page.content.decode())
    }
    viewer = tiles.Viewer("admin", "de", 1, "anna")

    def draw(region: str) -> str | None:
        name, colon, arg = region.partition(":")
        return tiles.render(name, arg if colon else None, viewer, timezone.now())

    before = {region: queries(partial(draw, region)) for region in regions}
    grown()
    after = {region: queries(partial(draw, region)) for region in regions}

    assert len({region.partition(":")[0] for region in regions}) >= 20
    assert {each: found for each in before if (found := more(before[each], after[each]))} == {}

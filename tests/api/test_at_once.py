"""What several send at the same moment: nothing is lost, and nothing is done twice.

Each asks in a thread with a connection of its own, and all begin together.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from daemon_app.models import Account, Change, Job, Policy, Pool, Run, Token
from tests.api.caller import Caller
from tests.jobs import job

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 8


@pytest.fixture
def callers() -> list[Caller]:
    """So many programs of one administrator, each with a token of its own."""
    account = Account.objects.create(username="root", role="admin")
    life = timedelta(days=1)
    return [
        Caller(Authorization=f"Bearer {text}")
        for n in range(MANY)
        for _token, text in [
            Token.issue(account, name=f"{n}", role="admin", now=timezone.now(), life=life)
        ]
    ]


def together(callers: list[Caller], ask: Callable[[Caller, int], Any]) -> list[Any]:
    """Return what each is answered when all ask at once."""
    barrier = Barrier(len(callers))

    def one(caller: Caller, number: int) -> Any:
        try:
            barrier.wait(30)
            return ask(caller, number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(callers)) as pool:
        return [*pool.map(one, callers, range(len(callers)))]


def statuses(answers: list[Any]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


# ── Lost updates ─────────────────────────────────────────────────────────────────────────────────
def test_changes_of_different_fields_of_a_job_are_all_kept(callers: list[Caller]) -> None:
    there = job()
    fields: list[tuple[str, Any]] = [
        *(("nice", 5), ("description", "x"), ("priority", 7), ("grace_seconds", 9)),
        *(("keep_days", 4), ("timeout_seconds", 77), ("idle_io", True), ("stop_command", "true")),
    ]

    answers = together(
        callers, lambda caller, n: caller("PATCH", f"jobs/{there.pk}", dict([fields[n]]))
    )

    assert statuses(answers) == {200: MANY}
    there.refresh_from_db()
    assert {name: getattr(there, name) for name, _value in fields} == dict(fields)
    assert there.version == 1 + MANY
    assert sorted(answer.json()["version"] for answer in answers) == [*range(2, 2 + MANY)]


def test_changes_of_different_rules_are_all_kept(callers: list[Caller]) -> None:
    rules: list[tuple[str, Any]] = [
        *(("keep_days", 5), ("keep_runs", 6), ("keep_output_mb", 7), ("slow_ms", 8)),
        *(("disk_low_gb", 9), ("watch_gpu", False), ("max_parallel", 11), ("watch_logins", False)),
    ]

    answers = together(callers, lambda caller, n: caller("PATCH", "policy", dict([rules[n]])))

    assert statuses(answers) == {200: MANY}
    policy = Policy.current()
    assert {name: getattr(policy, name) for name, _value in rules} == dict(rules)


def test_of_those_who_have_seen_the_same_one_changes_it(callers: list[Caller]) -> None:
    there = job()
    seen = {"If-Match": callers[0]("GET", f"jobs/{there.pk}").headers["ETag"]}

    answers = together(
        callers,
        lambda caller, n: caller("PATCH", f"jobs/{there.pk}", {"nice": n + 1}, headers=seen),
    )

    assert statuses(answers) == {200: 1, 412: MANY - 1}
    (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
    there.refresh_from_db()
    assert (there.nice, there.version) == (winner["nice"], 2)
    lost = [answer.json()["error"] for answer in answers if answer.status_code == 412]
    assert {error["version"] for error in lost} == {"2"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PATCH", "policy", {"keep_days": 5}), ("PATCH", "pools/gpu", {"description": "x"})],
)
def test_so_it_is_with_rules_and_pools(
    callers: list[Caller], method: str, path: str, body: dict[str, Any]
) -> None:
    Pool(name="gpu", size=1).store(now=timezone.now(), by="anna")
    seen = {"If-Match": callers[0]("GET", path).headers["ETag"]}

    answers = together(callers, lambda caller, _n: caller(method, path, body, headers=seen))

    assert statuses(answers) == {200: 1, 412: MANY - 1}


def test_switching_to_the_other_state_is_done_as_often_as_asked(callers: list[Caller]) -> None:
    there = job(job_type="interval", schedule="1h")

    answers = together(callers, lambda caller, _n: caller("PUT", f"jobs/{there.pk}/toggle"))

    assert statuses(answers) == {200: MANY}
    there.refresh_from_db()
    assert there.is_active  # an even number of times
    assert there.version == 1 + MANY


def test_a_pool_is_made_once(callers: list[Caller]) -> None:
    only_new = {"If-None-Match": "*"}

    answers = together(
        callers, lambda caller, n: caller("PUT", "pools/gpu", {"size": n + 1}, headers=only_new)
    )

    assert statuses(answers) == {201: 1, 412: MANY - 1}
    (winner,) = [answer.json() for answer in answers if answer.status_code == 201]
    assert Pool.objects.get().size == winner["size"]


def test_a_job_is_deleted_once_and_only_as_it_was_seen(callers: list[Caller]) -> None:
    there = job()
    seen = {"If-Match": callers[0]("GET", f"jobs/{there.pk}").headers["ETag"]}

    def ask(caller: Caller, n: int) -> Any:
        if n == 0:
            return caller("PATCH", f"jobs/{there.pk}", {"nice": 1}, headers=seen)
        return caller("DELETE", f"jobs/{there.pk}", headers=seen)

    changed, *deleted = together(callers, ask)

    if changed.status_code == 200:
        assert statuses(deleted) == {412: MANY - 1}
        assert Job.objects.filter(pk=there.pk, nice=1).exists()
    else:
        assert changed.status_code == 404
        assert statuses(deleted) == {204: 1, 404: MANY - 2}


# ── Idempotency ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("overlap", ["skip", "parallel", "queue", "replace"])
def test_the_same_key_sent_at_once_starts_one_run(callers: list[Caller], overlap: str) -> None:
    there = job(overlap=overlap, max_instances=9 if overlap == "parallel" else 1)

    answers = together(
        callers,
        lambda caller, _n: caller(
            "POST", f"jobs/{there.pk}/run", headers={"Idempotency-Key": "deploy-17"}
        ),
    )

    assert statuses(answers) == {202: 1, 200: MANY - 1}
    (started,) = Run.objects.all()
    assert {answer.json()["id"] for answer in answers} == {started.pk}
    assert Change.objects.filter(kind=Change.Kind.STARTED).count() == 1


def test_different_keys_start_a_run_each(callers: list[Caller]) -> None:
    there = job(overlap="parallel", max_instances=MANY)

    answers = together(
        callers,
        lambda caller, n: caller(
            "POST", f"jobs/{there.pk}/run", headers={"Idempotency-Key": f"deploy-{n}"}
        ),
    )

    assert statuses(answers) == {202: MANY}
    assert len({answer.json()["id"] for answer in answers}) == MANY


def test_a_key_used_for_two_jobs_at_once_starts_one_of_them(callers: list[Caller]) -> None:
    jobs = [job("one"), job("other")]

    answers = together(
        callers,
        lambda caller, n: caller(
            "POST", f"jobs/{jobs[n % 2].pk}/run", headers={"Idempotency-Key": "deploy-17"}
        ),
    )

    assert statuses(answers) == {202: 1, 200: MANY // 2 - 1, 409: MANY // 2}
    assert Run.objects.count() == 1
    refused = [answer.json()["error"]["code"] for answer in answers if answer.status_code == 409]
    # Where jobs are locked one by one, the second row of the key is refused by the database.
    assert set(refused) <= {"key_used", "conflict"}

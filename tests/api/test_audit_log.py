"""The audit log, and the changes of jobs, over REST."""

import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from pytest_django import DjangoAssertNumQueries

from daemon_app.api.audit import VerifyAudit
from daemon_app.models import Change, Job, change
from tests.api.caller import Caller, Maker
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


def fill(rows: int) -> list[int]:
    """Write rows of the log, and return their numbers, newest first."""
    there = job()
    for n in range(rows):
        Change.record(
            there,
            Change.Kind.EDITED,
            {"schedule": [f"{n}h", f"{n + 1}h"]},
            now=NOON + timedelta(minutes=n),
            by=f"user-{n}",
        )
    return list(Change.objects.order_by("-id").values_list("id", flat=True)[:rows])


def entries(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.json()
    return [told["id"] for told in answer.json()["entries"]]


def written(answer: Any) -> list[dict[str, Any]]:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer])

    return [json.loads(line) for line in async_to_sync(read)().splitlines()]


def test_the_log_comes_newest_first_in_pages(admin: Caller) -> None:
    numbers = fill(5)

    first = admin("GET", "audit?limit=2&kind=edited")
    second = admin("GET", first.json()["next"].removeprefix("/api/daemon/"))

    assert entries(first) == numbers[:2]
    assert entries(second) == numbers[2:4]
    assert "kind=edited" in second.json()["next"]


def test_the_log_is_chosen_from_as_on_the_page(admin: Caller) -> None:
    numbers = fill(4)
    since = (NOON + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    until = (NOON + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")

    assert entries(admin("GET", "audit?by=user-2")) == [numbers[1]]
    assert entries(admin("GET", f"audit?since={since}&until={until}")) == numbers[1:3]
    assert entries(admin("GET", "audit?name=BACK&kind=edited")) == numbers
    assert entries(admin("GET", f"audit?subject_id={Job.objects.get().pk}&kind=edited")) == numbers
    assert entries(admin("GET", "audit?subject=pool")) == []
    assert entries(admin("GET", "audit?kind=edited&token=99")) == []


def test_what_a_program_does_is_found_by_its_token(admin: Caller) -> None:
    admin("POST", "jobs", {"name": "mine", "job_type": "manual", "command": "true"})
    token = Change.objects.get(kind="created", subject="job").token_id

    (row,) = admin("GET", f"audit?token={token}").json()["entries"]

    assert (row["name"], row["via"], row["by"], row["token"]) == ("mine", "api", "admin", token)


def test_the_export_has_every_row_as_the_list_has_it(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "PER_PIECE", 2)
    numbers = fill(5)

    answer = admin("GET", "audit/export?kind=edited", headers={"Accept": "text/plain"})
    rows = written(answer)

    assert answer["Content-Type"].startswith("application/x-ndjson")
    assert "audit.jsonl" in answer["Content-Disposition"]
    assert [row["id"] for row in rows] == numbers[::-1]
    assert rows[::-1] == admin("GET", "audit?kind=edited").json()["entries"]


def test_a_sound_log_is_said_to_be_sound_with_its_head(admin: Caller) -> None:
    fill(3)
    last = Change.objects.order_by("-id")[0]
    known = Change.objects.order_by("id")[1].digest

    told = admin("GET", "audit/verify").json()
    knowing = admin("GET", f"audit/verify?head={known}").json()
    missing = admin("GET", "audit/verify?head=" + "0" * 64).json()

    assert told["sound"] is True
    assert told["rows"] == Change.objects.count()
    assert (told["last"], told["head"], told["knows_head"]) == (last.pk, last.digest, None)
    assert (knowing["sound"], knowing["knows_head"]) == (True, True)
    assert (missing["sound"], missing["knows_head"]) == (False, False)


def test_a_row_that_was_changed_is_named(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = fill(3)
    # The database itself refuses to change a row; so another digest is expected of it.
    honest = change.digest_of

    def other(told: dict[str, Any], previous: str) -> str:
        return "x" if told["by"] == "user-1" else honest(told, previous)

    monkeypatch.setattr(change, "digest_of", other)

    told = admin("GET", "audit/verify").json()

    assert (told["sound"], told["broken"], told["fault"]) == (False, numbers[1], "changed")
    assert told["last"] == numbers[2]


def test_one_look_at_the_whole_log_at_a_time(admin: Caller) -> None:
    with VerifyAudit.turn:
        busy = admin("GET", "audit/verify")

    assert busy.status_code == 409
    assert busy.json()["error"]["code"] == "being_verified"
    assert admin("GET", "audit/verify").status_code == 200


@pytest.mark.parametrize("path", ["audit", "audit/export", "audit/verify"])
def test_only_administrators_read_the_log(operator: Caller, path: str) -> None:
    assert operator("GET", path).status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("subject=jobs", "subject"),
        ("kind=change", "kind"),
        ("via=cli2", "via"),
        ("since=2026-01-01", "since"),
        ("by=%00", "by"),
        ("subject_id=0", "subject_id"),
        ("limit=0", "limit"),
        ("user=anna", "user"),
    ],
)
def test_a_filter_that_can_not_be_meant_is_refused(admin: Caller, query: str, field: str) -> None:
    for path in ("audit", "audit/export"):
        answer = admin("GET", f"{path}?{query}")

        assert answer.status_code == 400
        assert [*answer.json()["error"]["fields"]] == [field]


# ── Changes of jobs ──────────────────────────────────────────────────────────────────────────────
def test_everybody_reads_what_was_changed_of_jobs_but_not_from_where(
    admin: Caller, with_token: Maker
) -> None:
    wanted = {"name": "a", "job_type": "manual", "command": "true", "environment": {"KEY": "s3"}}
    number = admin("POST", "jobs", wanted).json()["id"]
    admin("POST", "jobs", {**wanted, "name": "b"})
    admin("PATCH", f"jobs/{number}", {"environment": {"KEY": "other"}, "priority": 5})
    viewer = with_token("viewer")

    changes = viewer("GET", f"jobs/{number}/changes").json()["changes"]
    everything = viewer("GET", "changes?limit=2")

    assert [told["kind"] for told in changes] == ["edited", "created"]
    assert changes[0]["fields"] == {"priority": [0, 5], "environment": [["KEY"], ["KEY"]]}
    assert {told["job_id"] for told in changes} == {number}
    assert not {"address", "token", "digest"} & changes[0].keys()
    assert [told["name"] for told in everything.json()["changes"]] == ["a", "b"]
    assert "before=" in everything.json()["next"]
    assert "s3" not in json.dumps(changes)


def test_what_was_changed_of_a_job_outlives_it_in_the_list_of_all(admin: Caller) -> None:
    number = admin("POST", "jobs", {"name": "a", "job_type": "manual", "command": "true"}).json()[
        "id"
    ]
    admin("DELETE", f"jobs/{number}")

    kinds = [told["kind"] for told in admin("GET", "changes").json()["changes"]]

    assert kinds == ["deleted", "created"]
    assert admin("GET", f"jobs/{number}/changes").status_code == 404


def test_a_long_log_asks_no_more_of_the_database(
    admin: Caller, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    fill(30)

    for path in ("audit", "changes"):
        with django_assert_max_num_queries(4):
            assert admin("GET", f"{path}?limit=25").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("head", ["", "9f1c", "0" * 63 + "g"])
def test_a_head_that_is_no_digest_is_refused_and_does_not_seem_to_be_found(
    admin: Caller, head: str
) -> None:
    answer = admin("GET", f"audit/verify?head={head}")

    assert answer.status_code == 400
    assert "head" in answer.json()["error"]["fields"]

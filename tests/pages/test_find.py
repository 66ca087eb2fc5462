"""What the palette is told: few, the right ones first, and nothing one may not do."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from daemon_app.models import Job
from tests.jobs import NOON, job, run

Found = dict[str, list[dict[str, Any]]]


def found(client: Client, text: str = "") -> Found:
    answer = client.get("/daemon/find/", {"q": text})
    assert answer.status_code == 200
    told: Found = answer.json()
    return told


def names(client: Client, text: str = "") -> list[str]:
    return [each["label"] for each in found(client, text)["jobs"]]


def test_a_name_that_begins_so_stands_before_one_that_holds_it(viewer: Client) -> None:
    for name in ("nacht-backup", "backup-daily", "backup", "tagesbericht"):
        job(name)

    assert names(viewer, "BACKUP") == ["backup", "backup-daily", "nacht-backup"]
    assert names(viewer, "daily back") == ["backup-daily"]


def test_among_equals_the_one_that_ran_last_comes_first(viewer: Client) -> None:
    first, second = job("backup-a"), job("backup-b")
    run(first)
    run(second)

    assert names(viewer, "backup") == ["backup-b", "backup-a"]
    assert names(viewer) == ["backup-b", "backup-a"]


@pytest.mark.parametrize("spelling", ["{}", "#{}", "Lauf {}", "run #{}"])
def test_a_number_is_a_run(viewer: Client, spelling: str) -> None:
    wanted = run(job("backup"), state="succeeded", started_at=NOON, ended_at=NOON)

    told = found(viewer, spelling.format(wanted.pk))["runs"]

    assert [each["href"] for each in told] == [f"/daemon/runs/{wanted.pk}/"]
    assert told[0]["label"] == f"Lauf {wanted.pk} von backup"
    assert told[0]["state"] == "Fertig"


def test_only_who_may_start_a_job_is_told_how(viewer: Client, operator: Client) -> None:
    of = job("backup")

    assert "start" not in found(viewer, "backup")["jobs"][0]
    told = found(operator, "backup")["jobs"][0]
    assert told["start"] == f"/daemon/jobs/{of.pk}/start/"
    assert told["verb"] == "backup starten"


def test_ten_thousand_jobs_cost_no_more_than_a_dozen_rows(viewer: Client) -> None:
    rest = [
        Job(
            name=f"job-{n}",
            job_type="manual",
            command="true",
            anchor=NOON,
            created_at=NOON,
            updated_at=NOON,
        )
        for n in range(10_000)
    ]
    Job.objects.bulk_create(rest, batch_size=500)
    run(Job.objects.get(name="job-9876"))

    with CaptureQueriesContext(connection) as asked:
        told = found(viewer, "job")

    assert len(told["jobs"]) == 8
    assert told["jobs"][0]["label"] == "job-9876"
    assert len(asked) <= 8


@pytest.mark.parametrize("text", ["\0", "%", "_", "'", "x" * 5000, "9" * 400, "#", "😀 ß İ", "  "])
def test_whatever_is_typed_is_answered(viewer: Client, text: str) -> None:
    job("backup")

    assert set(found(viewer, text)) == {"jobs", "runs"}

"""What people change of jobs is written down, whichever way; values of secrets never are."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.forms import CheckboxInput
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from daemon_app import scheduler
from daemon_app.models import Account, Change, Job
from daemon_app.models.access import Role
from daemon_app.tiles.changes import ChangeRow, change_rows
from tests.jobs import NOON, job
from tests.pages.test_job_form import GOOD

HOUR = timedelta(hours=1)
SECRET = "hunter2-never-kept"
pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(Account.objects.create(username="anna", role=Role.ADMIN))
    return client


def newest(of: Job | None = None) -> Change:
    found = Change.objects.of_jobs(of.pk if of else None)
    change = found.first()
    assert change
    return change


def told(change: Change) -> ChangeRow:
    with translation.override("en"):
        return change_rows([change], NOON)[0]


def words(change: Change) -> list[str]:
    return [
        each.remark or f"{each.label}: {each.before} → {each.after}"
        for each in told(change).differences
    ]


# ── Every way ────────────────────────────────────────────────────────────────────────────────────
def test_a_new_job_an_edit_and_its_end_are_three_rows_that_outlive_it() -> None:
    of = job("backup", job_type="cron", schedule="0 3 * * *")
    of.schedule, of.timeout_seconds = "30 2 * * *", 3600
    of.store(now=NOON + HOUR, by="ben")
    number = of.pk
    scheduler.remove(of, by="clara", now=NOON + 2 * HOUR)

    rows = list(Change.objects.of_jobs(number).order_by("id"))

    assert [(row.kind, row.by, row.at, row.name) for row in rows] == [
        ("created", "anna", NOON, "backup"),
        ("edited", "ben", NOON + HOUR, "backup"),
        ("deleted", "clara", NOON + 2 * HOUR, "backup"),
    ]
    assert rows[1].fields == {
        "schedule": ["0 3 * * *", "30 2 * * *"],
        "timeout_seconds": [300, 3600],
    }
    assert rows[1].version == 2


def test_storing_what_was_there_is_no_change() -> None:
    of = job()

    Job.objects.get(pk=of.pk).store(now=NOON, by="ben")

    assert Change.objects.of_jobs(of.pk).count() == 1


def test_what_is_refused_is_no_change() -> None:
    of = job()
    of.command = ""

    with pytest.raises(Exception, match="command"):
        of.store(now=NOON, by="ben")

    assert Change.objects.of_jobs(of.pk).count() == 1


def test_by_the_form(admin: Client) -> None:
    of = job("backup", job_type="cron", schedule="30 3 * * MON-FRI")
    sent = {**GOOD, "name": "backup", "command": "echo new"}

    answer = admin.post(f"/daemon/jobs/{of.pk}/edit/", sent)

    assert answer.status_code == 303
    assert (newest(of).kind, newest(of).by) == ("edited", "anna")
    assert newest(of).fields == {"command": ["echo hi", "echo new"]}


def test_by_the_interface(admin: Client) -> None:
    from django.conf import settings

    of = job("backup")
    host = f"localhost:{settings.PORT}"
    client = Client()
    client.force_login(Account.objects.get(username="anna"))

    answer = client.patch(
        f"/api/daemon/jobs/{of.pk}",
        json.dumps({"priority": 7}),
        content_type="application/json",
        headers={"Host": host, "Origin": f"http://{host}"},
    )

    assert answer.status_code == 200, answer.content
    assert (newest(of).by, newest(of).fields) == ("anna", {"priority": [0, 7]})


def test_by_the_administration(admin: Client) -> None:
    of = job("backup")
    address = f"/admin/daemon_app/job/{of.pk}/change/"
    sent = _fields_in(admin.get(address))

    answer = admin.post(address, sent | {"description": "nightly"})

    assert answer.status_code == 302
    assert (newest(of).by, newest(of).fields) == ("anna", {"description": ["", "nightly"]})


def _fields_in(page: Any) -> dict[str, str]:
    """Return what the form of the administration would send as it stands."""
    form = page.context["adminform"].form
    sent = {}
    for bound in form:
        value = bound.field.widget.format_value(bound.value())
        if isinstance(bound.field.widget, CheckboxInput):
            if bound.value():
                sent[bound.html_name] = "on"
        elif isinstance(value, list):
            sent[bound.html_name] = value[0]
        elif value is not None:
            sent[bound.html_name] = str(value)
    return sent


def test_switching_pausing_and_going_on_are_told_with_who_did_it() -> None:
    of = job("hourly", job_type="cron", schedule="0 * * * *")
    of.set_active(False, now=NOON, by="ben")
    of.set_active(True, now=NOON, by="ben")
    of.pause(NOON + HOUR, now=NOON, by="clara", note="disk")
    of.set_active(False, now=NOON, by="ben")
    of.pause(NOON + HOUR, now=NOON, by="clara", note="disk")
    scheduler.tick(NOON + HOUR)

    rows = Change.objects.of_jobs(of.pk).order_by("id")[1:]

    assert [(row.kind, row.by) for row in rows] == [
        ("off", "ben"),
        ("on", "ben"),
        ("paused", "clara"),
        ("off", "ben"),
        ("paused", "clara"),
        ("resumed", ""),
    ]
    assert rows[2].fields == {"until": (NOON + HOUR).isoformat(), "note": "disk"}
    assert told(rows[5]).by == "by itself"


def test_switched_with_an_edit_it_is_one_row() -> None:
    of = job()
    of.is_active, of.priority = False, 3

    of.store(now=NOON, by="ben")

    assert newest(of).fields == {"priority": [0, 3], "is_active": [True, False]}
    assert words(newest(of)) == ["Priority: 0 → 3", "Active: yes → no"]


def test_what_the_program_does_to_a_failing_job_is_told() -> None:
    of = job("hourly", job_type="cron", schedule="0 * * * *")

    of.set_active(False, now=NOON, by="daemon")

    assert (newest(of).kind, newest(of).by) == ("off", "daemon")


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("field", ["environment", "parameters"])
def test_values_of_secrets_are_never_kept(field: str) -> None:
    fields: dict[str, Any] = {field: {"TOKEN": SECRET, "HOST": "a"}}
    of = job(**fields)
    setattr(of, field, {"TOKEN": f"{SECRET}-2", "PORT": "1"})
    of.store(now=NOON, by="ben")
    setattr(of, field, {"TOKEN": f"{SECRET}-3", "PORT": "1"})
    of.store(now=NOON, by="ben")
    scheduler.remove(of, by="ben", now=NOON)

    kept = json.dumps(list(Change.objects.values("fields")))
    first, second = Change.objects.filter(kind="edited").order_by("id")

    assert SECRET not in kept
    assert first.fields == {field: [["HOST", "TOKEN"], ["PORT", "TOKEN"]]}
    assert words(second) == ["a value of PORT, TOKEN was changed"]


# ── In words ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"job_type": "cron", "schedule": "0 3 * * *"},
            [
                "Kind of schedule: By hand → Schedule",
                "Schedule:  → 0 3 * * * (every day at 03:00)",
            ],
        ),
        ({"timeout_seconds": 0}, ["Time limit: 5\u00a0min → none"]),
        ({"memory_limit_mb": 2000}, ["Memory at most:  → 2,000\u00a0MB"]),
        ({"max_load_percent": 40}, ["Load of the machine at most:  → 40\u00a0%"]),
        ({"overlap": "queue"}, ["On overlap: skip → wait in line"]),
        ({"idle_io": True}, ["Disk access only when nobody else wants it: no → yes"]),
        ({"needs_services": ["ollama"]}, ["Services that must answer:  → ollama"]),
        ({"command": "x" * 5000}, ["Command: echo hi → " + "x" * 600]),
    ],
)
def test_a_difference_says_both_values_as_people_write_them(
    changed: dict[str, Any], said: list[str]
) -> None:
    of = job()
    for name, value in changed.items():
        setattr(of, name, value)

    of.store(now=NOON, by="ben")

    assert words(newest(of)) == said


def test_a_row_of_another_version_of_the_program_is_told_as_well_as_can_be() -> None:
    of = job()
    Change.record(of, "edited", now=NOON, by="x", gone=[1, 2], schedule=["?", None], odd="no pair")
    Change.record(of, "paused", now=NOON, by="x", until="some day")

    assert words(Change.objects.all()[1]) == ["Gone: 1 → 2", "Schedule: ? → "]
    assert told(newest()).about == ""


def test_changes_of_all_jobs_are_listed_those_of_deleted_ones_too(admin: Client) -> None:
    gone, there = job("gone"), job("there")
    scheduler.remove(gone, by="ben", now=timezone.now())

    html = admin.get("/daemon/jobs/changes/").content.decode()
    of_one = admin.get(f"/daemon/jobs/{there.pk}/changes/").content.decode()

    assert '<b class="name">gone</b>' in html
    assert f'<a class="name" href="/daemon/jobs/{there.pk}/">there</a>' in html
    assert "gone" not in of_one
    assert admin.get("/daemon/jobs/999/changes/").status_code == 404


def test_older_changes_are_a_page_away_and_many_cost_no_more_queries(
    admin: Client, django_assert_max_num_queries: Any
) -> None:
    of = job()
    with CaptureQueriesContext(connection) as alone:
        admin.get(f"/daemon/jobs/{of.pk}/changes/")
    for n in range(120):
        Change.record(of, "edited", now=NOON, by=f"user-{n}", priority=[n, n + 1])

    with django_assert_max_num_queries(len(alone)):
        first = admin.get(f"/daemon/jobs/{of.pk}/changes/").content.decode()

    before = first.rpartition("?before=")[2].partition('"')[0]
    second = admin.get(f"/daemon/jobs/{of.pk}/changes/?before={before}").content.decode()
    assert "user-119" in first
    assert "user-69" not in first
    assert "user-69" in second
    assert "user-70" not in second

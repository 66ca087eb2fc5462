"""Buttons: what they do, to whom they belong, and where they lead."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app.models import Job, Run
from daemon_app.models.access import Role
from tests.jobs import job, run
from tests.pages.test_pages import ended, text_of

ACTIONS = [
    ("/daemon/jobs/1/start/", "operate"),
    ("/daemon/jobs/1/toggle/", "operate"),
    ("/daemon/runs/1/cancel/", "operate"),
    ("/daemon/runs/1/again/", "operate"),
    ("/daemon/jobs/1/delete/", "edit"),
]


@pytest.fixture
def backup(db: None) -> Job:
    return job("nacht-backup", pk=1)


@pytest.mark.parametrize(("address", "right"), ACTIONS)
@pytest.mark.parametrize("role", Role.values)
def test_an_action_belongs_to_those_who_have_the_right(
    backup: Job, signed_in: Any, role: str, address: str, right: str
) -> None:
    ended(backup, pk=1)
    client = signed_in(role)

    answer = client.post(address)

    allowed = role == Role.ADMIN or (role == Role.OPERATOR and right == "operate")
    assert answer.status_code == (303 if allowed else 403)


@pytest.mark.parametrize(("address", "_right"), ACTIONS[:4])
def test_nothing_is_changed_by_looking(
    backup: Job, admin: Client, address: str, _right: str
) -> None:
    assert admin.get(address).status_code == 405


def test_an_action_without_the_token_of_this_visit_is_refused(backup: Job) -> None:
    from daemon_app.models import Account

    client = Client(enforce_csrf_checks=True)
    client.force_login(Account.objects.create(username="o", role=Role.OPERATOR))

    answer = client.post("/daemon/jobs/1/start/")

    assert answer.status_code == 403
    assert "Dieses Formular ist abgelaufen" in text_of(answer)
    assert not Run.objects.exists()


def test_start_makes_a_run_of_whoever_pressed_and_goes_back(backup: Job, operator: Client) -> None:
    answer = operator.post("/daemon/jobs/1/start/", {"next": "/daemon/jobs/?state=failed"})

    started = Run.objects.get()
    assert answer["Location"] == "/daemon/jobs/?state=failed"
    assert (started.trigger, started.started_by) == ("manual", "the operator")
    assert "nacht-backup gestartet · Log ansehen" in text_of(operator.get("/daemon/"))


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/admin/",
    ],
)
def test_an_action_leads_nowhere_else(backup: Job, operator: Client, elsewhere: str) -> None:
    answer = operator.post("/daemon/jobs/1/start/", {"next": elsewhere})

    assert answer["Location"] == "/daemon/jobs/1/"


def test_a_start_that_meets_a_running_run_says_which(backup: Job, operator: Client) -> None:
    now = timezone.now()
    busy = run(backup, state=Run.State.RUNNING, due_at=now, started_at=now)

    answer = operator.post("/daemon/jobs/1/start/", headers={"X-Answer": "toast"})

    assert f"läuft bereits (Lauf {busy.pk})" in text_of(answer)
    assert f'href="/daemon/runs/{busy.pk}/#log"' in answer.content.decode()
    assert 'formaction="/daemon/jobs/1/start/" name="beside" value="1"' in answer.content.decode()
    assert "Trotzdem starten" in text_of(answer)
    assert Run.objects.count() == 1


def test_a_person_may_start_a_job_beside_its_running_run(backup: Job, operator: Client) -> None:
    now = timezone.now()
    run(backup, state=Run.State.RUNNING, due_at=now, started_at=now)

    answer = operator.post("/daemon/jobs/1/start/", {"beside": "1"}, headers={"X-Answer": "toast"})

    assert "gestartet" in text_of(answer)
    assert Run.objects.get(beside=True).state == Run.State.QUEUED


def test_a_script_gets_the_message_alone_and_only_once(backup: Job, operator: Client) -> None:
    answer = operator.post("/daemon/jobs/1/start/", headers={"X-Answer": "toast"})

    assert answer.status_code == 200
    assert "<html" not in answer.content.decode()
    assert "gestartet" in text_of(answer)
    assert "gestartet · Log" not in text_of(operator.get("/daemon/"))


def test_a_job_is_paused_and_starts_again_as_the_button_said(backup: Job, operator: Client) -> None:
    for said, active in (("0", False), ("0", False), ("1", True)):
        operator.post("/daemon/jobs/1/toggle/", {"active": said})

        backup.refresh_from_db()
        assert backup.is_active is active


def test_a_waiting_run_is_taken_out_of_the_line(backup: Job, operator: Client) -> None:
    waiting = run(backup, pk=1)

    operator.post("/daemon/runs/1/cancel/")

    waiting.refresh_from_db()
    assert waiting.state == Run.State.CANCELLED
    assert waiting.stop_requested_by == "the operator"


def test_cancelling_what_has_ended_changes_nothing_and_says_so(
    backup: Job, operator: Client
) -> None:
    over = ended(backup, pk=1)

    answer = operator.post("/daemon/runs/1/cancel/", headers={"X-Answer": "toast"})

    over.refresh_from_db()
    assert over.state == Run.State.SUCCEEDED
    assert "war schon zu Ende" in text_of(answer) or "bereits" in text_of(answer)


def test_starting_again_leads_to_the_new_run(backup: Job, operator: Client) -> None:
    ended(backup, Run.State.FAILED, pk=1)

    answer = operator.post("/daemon/runs/1/again/")

    newest = Run.objects.order_by("-id").first()
    assert newest
    assert answer["Location"] == f"/daemon/runs/{newest.pk}/"


def test_deleting_asks_with_the_number_of_runs_and_then_does_it(backup: Job, admin: Client) -> None:
    for _ in range(3):
        ended(backup)

    asked = text_of(admin.get("/daemon/jobs/1/delete/"))
    answer = admin.post("/daemon/jobs/1/delete/")

    assert "Job „nacht-backup“ mit 3 Läufen und Logs löschen?" in asked
    assert answer["Location"] == "/daemon/jobs/"
    assert "nacht-backup und 3 Läufe wurden gelöscht." in text_of(admin.get("/daemon/jobs/"))
    assert not Job.objects.exists()
    assert not Run.objects.exists()


def test_a_job_that_never_ran_is_deleted_without_a_word_about_runs(
    backup: Job, admin: Client
) -> None:
    Run.objects.all().delete()

    admin.post("/daemon/jobs/1/delete/")

    assert "nacht-backup wurde gelöscht." in text_of(admin.get("/daemon/jobs/"))

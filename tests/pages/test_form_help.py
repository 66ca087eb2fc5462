"""What the form of a job says while somebody types, and the jobs it offers to begin with."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone, translation

from daemon_app import forecast, preflight, starters
from daemon_app.models import Job, Run
from tests.jobs import job, run
from tests.pages.test_job_form import GOOD, preview, value_of
from tests.pages.test_pages import text_of

ZONE = "Europe/Berlin"


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    forecast.forget()


def check(client: Client, **said: Any) -> str:
    answer = client.post("/daemon/jobs/check/", said)
    assert answer.status_code == 200
    return text_of(answer)


# ── The command ──────────────────────────────────────────────────────────────────────────────────
def test_what_a_command_will_find_is_told_while_it_is_typed(admin: Client) -> None:
    said = check(admin, command="sh -c true | gibt-es-nirgends", use_shell="on")

    assert "Ein Hinweis Läuft als" in said
    assert "gibt-es-nirgends Liegt in keinem Ordner von PATH." in said
    assert re.search(r" sh /\S+/sh", said)


def test_folder_and_environment_of_the_form_count(admin: Client) -> None:
    nowhere = check(admin, command="true", use_shell="on", working_directory="/gibt/es/nicht")
    elsewhere = check(admin, command="sh", use_shell="on", environment="X=1\nPATH=/leer\nkaputt")

    assert "Zurzeit gibt es keinen Ordner /gibt/es/nicht; ein Lauf könnte nicht" in nowhere
    assert "Der PATH eines Laufs führt nicht dorthin" in elsewhere


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "Ausgeführt wird dabei nichts"),
        ({"command": "  \n "}, "Ausgeführt wird dabei nichts"),
        ({"command": "echo 'offen", "use_shell": "on"}, "ist offen geblieben"),
        ({"command": "a | b"}, "Das versteht nur die Shell"),
        ({"command": "$(" * 9000, "use_shell": "on"}, "offen geblieben"),
        ({"command": "<b>x</b>", "use_shell": "on"}, "nennt kein Programm"),
        ({"command": "true", "working_directory": "\x00"}, "true"),
        ({"command": "true", "working_directory": "~\x00x"}, "Hier heißt niemand"),
        ({"script_path": "~\x00x/y.sh"}, "Zurzeit gibt es keine Datei"),
        ({"command": "true", "environment": "=\n=x\n" * 999, "parameters": "\x00"}, "true"),
        ({"script_path": "x" * 9000}, "Zurzeit gibt es keine Datei"),
    ],
)
def test_nonsense_is_answered_too(admin: Client, said: dict[str, str], told: str) -> None:
    assert told in check(admin, **said)


def test_a_command_is_in_no_address_and_only_for_those_who_edit(
    admin: Client, operator: Client
) -> None:
    assert admin.get("/daemon/jobs/check/").status_code == 405
    assert operator.post("/daemon/jobs/check/", {"command": "true"}).status_code == 403
    assert operator.post("/daemon/jobs/begin/").status_code == 403
    assert not Job.objects.exists()


def test_a_warning_keeps_nobody_from_saving(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", GOOD | {"command": "gibt-es-nirgends"})

    stored = Job.objects.get()
    page = text_of(admin.get(f"/daemon/jobs/{stored.pk}/edit/"))
    assert "gibt-es-nirgends Liegt in keinem Ordner von PATH." in page


# ── The rules ────────────────────────────────────────────────────────────────────────────────────
def test_the_rules_stand_in_one_line(admin: Client) -> None:
    usual = text_of(admin.get("/daemon/jobs/rules/", {}))
    said = {
        "timeout_seconds": "0",
        "overlap": "parallel",
        "max_instances": "3",
        "max_retries": "2",
        "misfire": "all",
    }
    other = text_of(admin.get("/daemon/jobs/rules/", said))
    nonsense = text_of(
        admin.get("/daemon/jobs/rules/", {"timeout_seconds": "bald", "overlap": "x"})
    )

    once = "immer nur ein Lauf, der nächste Start wird übersprungen"
    assert usual == nonsense == f"Höchstens 5 Min. · {once}"
    assert other == "Ohne Zeitlimit · bis zu 3 zugleich · 2 Wiederholungen · alles wird nachgeholt"


def test_rules_that_differ_are_in_view(admin: Client) -> None:
    plain, special = job("schlicht"), job("eigen", timeout_seconds=7200)

    closed = admin.get(f"/daemon/jobs/{plain.pk}/edit/").content.decode()
    opened = admin.get(f"/daemon/jobs/{special.pk}/edit/").content.decode()

    assert '<details class="more whole" id="rules"><summary>' in closed
    assert '<details class="more whole" id="rules" open><summary>' in opened


# ── Other jobs at the same times ─────────────────────────────────────────────────────────────────
def took(what: Job, minutes: int) -> None:
    began = timezone.now() - timedelta(days=1)
    ended = began + timedelta(minutes=minutes)
    run(what, state=Run.State.SUCCEEDED, started_at=began, ended_at=ended)


def test_the_preview_says_which_jobs_run_at_the_same_time(admin: Client) -> None:
    night = job("nacht-backup", job_type="cron", schedule="0 3 * * *", now=timezone.now())
    took(night, 25)
    job("abends", job_type="cron", schedule="0 20 * * *", now=timezone.now())
    job("sofort", job_type="cron", schedule="10 3 * * *", now=timezone.now())

    at = {"job_type": "cron", "timezone": ZONE}
    within = preview(admin, schedule="10 3 * * *", **at)
    after = preview(admin, schedule="30 3 * * *", **at)
    itself = preview(admin, schedule="0 3 * * *", job=str(night.pk), **at)

    assert "Überschneidet sich mit nacht-backup (03:00–03:25)" in within
    assert "Startet zusammen mit sofort (03:10)" in within
    assert "abends" not in within
    assert "Überschneidet" not in after
    assert "nacht-backup" not in itself
    assert "Startet zusammen" not in itself


def test_a_day_other_than_the_first_is_named(admin: Client) -> None:
    job("sonntags", job_type="cron", schedule="0 3 * * SUN", now=timezone.now())
    job("montags", job_type="cron", schedule="0 3 * * MON", now=timezone.now())

    said = preview(admin, job_type="cron", schedule="0 3 * * SUN,MON", timezone=ZONE)

    assert re.search(r"Startet zusammen mit \w+tags \(03:00\)", said)
    assert re.search(
        r"Startet zusammen mit \w+tags \((So|Mo)\., \d\d\. \w+\.? 20\d\d 03:00\)", said
    )


def test_many_overlaps_are_counted(admin: Client) -> None:
    for n in range(6):
        job(f"job-{n}", job_type="cron", schedule="0 3 * * *", now=timezone.now())

    said = preview(admin, job_type="cron", schedule="0 3 * * *", timezone=ZONE)

    assert said.count("Startet zusammen mit") == 3
    assert "und 3 weiteren Jobs" in said


def test_a_job_that_takes_longer_than_its_interval_is_told(admin: Client) -> None:
    slow = job("langsam", job_type="interval", schedule="1h", now=timezone.now())
    took(slow, 25)

    asked = {"job_type": "interval", "timezone": ZONE, "job": str(slow.pk)}

    assert "dauert gewöhnlich 25 Min., länger als" in preview(admin, schedule="20m", **asked)
    assert "gewöhnlich" not in preview(admin, schedule="30m", **asked)


# ── Jobs to begin with ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("starter", starters.STARTERS, ids=lambda each: each.key)
def test_each_starter_fills_the_form_in_and_can_be_saved(
    admin: Client, starter: starters.Starter
) -> None:
    page = admin.get(f"/daemon/jobs/new/?starter={starter.key}").content.decode()
    sent = {
        name: value_of(page, name)
        for name in ("name", "command", "description", "schedule", "timezone", "timeout_seconds")
    }
    kind = re.search(r'name="job_type" value="(\w+)"[^>]*checked', page)
    assert kind
    admin.post(
        f"/daemon/jobs/new/?starter={starter.key}",
        {k: re.sub("&#x27;|&quot;|&gt;|&lt;|&amp;", _plain, v) for k, v in sent.items()}
        | {"job_type": kind[1], "use_shell": "on", "max_retries": value_of(page, "max_retries")},
    )

    made = Job.objects.get()
    with translation.override("de"):
        assert made.name == starter.key
        assert made.command == starter.job().command.strip()
        assert made.description == str(starter.about)
        assert (made.job_type, made.schedule) == (kind[1], starter.fields["schedule"])
    said = preflight.look(preflight.Wanted(command=made.command))
    assert {f.code for f in said.findings}.isdisjoint({"unclosed", "of_bash", "source", "not_set"})


def _plain(found: re.Match[str]) -> str:
    return {"&#x27;": "'", "&quot;": '"', "&gt;": ">", "&lt;": "<", "&amp;": "&"}[found[0]]


def test_a_starter_nobody_knows_leaves_the_form_empty(admin: Client) -> None:
    page = admin.get("/daemon/jobs/new/?starter=../etc/passwd").content.decode()

    assert value_of(page, "name") == ""
    assert 'data-draft="job-new"' in page


def test_a_starter_has_a_draft_and_a_free_name_of_its_own(admin: Client) -> None:
    job("cleanup")
    page = admin.get("/daemon/jobs/new/?starter=cleanup").content.decode()

    assert value_of(page, "name") == "cleanup-2"
    assert 'data-draft="job-new-cleanup"' in page


def test_three_jobs_are_created_at_once_and_switched_off(admin: Client) -> None:
    empty = text_of(admin.get("/daemon/"))
    admin.post("/daemon/jobs/begin/")
    again = admin.post("/daemon/jobs/begin/", follow=True)

    assert "Tägliche Sicherung" in empty
    assert "Alle drei anlegen, ausgeschaltet" in empty
    made = {each.name: each for each in Job.objects.all()}
    assert set(made) == {"backup-daily", "token-check", "cleanup"}
    assert not any(each.is_active or each.next_due_at for each in made.values())
    assert (made["backup-daily"].schedule, made["cleanup"].schedule) == ("24h", "0 4 * * *")
    assert "Diese Jobs gibt es schon alle." in text_of(again)
    assert "Alle drei anlegen" not in text_of(again)


def test_who_may_not_create_jobs_is_told_who_may(viewer: Client) -> None:
    page = viewer.get("/daemon/jobs/")

    assert "Tägliche Sicherung" not in text_of(page)
    assert "Administrator" in text_of(page)


def test_a_job_is_duplicated_switched_off_and_under_a_name_that_is_free(admin: Client) -> None:
    first = job("nacht", command="echo 'a & b'", timeout_seconds=7200, only_when_idle=True)

    page = admin.get(f"/daemon/jobs/new/?copy={first.pk}").content.decode()
    nothing = admin.get("/daemon/jobs/new/?copy=99999999999999999999").content.decode()

    assert value_of(page, "name") == "nacht-2"
    assert value_of(page, "timeout_seconds") == "2h"
    assert re.search(r'name="only_when_idle"[^>]*checked', page)
    assert not re.search(r'name="is_active"[^>]*checked', page)
    assert f'data-draft="job-new-copy-{first.pk}"' in page
    assert value_of(nothing, "name") == ""


def test_without_script_the_preview_looks_at_the_command_too(admin: Client) -> None:
    typed = {k: v for k, v in GOOD.items() if k != "save"}

    shown = admin.post("/daemon/jobs/new/", typed | {"command": "gibt-es-nirgends", "preview": "1"})

    assert "gibt-es-nirgends Liegt in keinem Ordner von PATH." in text_of(shown)
    assert "Höchstens 5 Min. ·" in text_of(shown)
    assert not Job.objects.exists()

""" "Why?" on the pages: the sentence, the rules, what was recorded, and how a run made way."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import tiles
from daemon_app.models import Displacement, Job, Node, Run
from daemon_app.models.run import Attempt, Wait
from tests.jobs import NOON, job, run
from tests.pages.test_pages import text_of

ANNA = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
GERMAN = tiles.Viewer(role="operator", language="de")


def alive(**idle: Any) -> None:
    now = timezone.now()
    Node.objects.create(host="werkbank", pid=1, started_at=now, seen_at=now, **idle)


def made_way(of: Run, number: int, began: Any, ended: Any, cause: Any = ANNA) -> None:
    Attempt.objects.create(
        run=of, number=number, fence=number, state=Attempt.DISPLACED, reason_code="displaced",
        reason_facts=cause, started_at=began, ended_at=ended,
    )  # fmt: skip
    Displacement.objects.create(
        run=of, job_id=of.job_id, job_name=of.job_name, at=ended - timedelta(seconds=1),
        cause=cause, asked_seconds=0.01, yielded_seconds=0.8, slice_seconds=60,
    )  # fmt: skip


def rules_of(page: str) -> list[tuple[str, str, str]]:
    """Return of each rule shown: the word of its state, what it is about, what it says."""
    item = (
        r'<span class="state">[\s\S]*?<span class="word">([^<]*)[\s\S]*?'
        r'class="which">([^<]*)</span><span class="said">([^<]*)'
    )
    return re.findall(item, page)


# ── The panel ────────────────────────────────────────────────────────────────────────────────────
def test_a_waiting_run_says_why_then_every_rule_then_what_was_recorded(viewer: Client) -> None:
    alive(idle=False, idle_reasons=[ANNA])
    waits = run(job("lora", only_when_idle=True), needs={"idle": True}, now=timezone.now())
    Wait.objects.create(
        run=waits, code="waits_held", facts={"who": "ben"},
        began_at=waits.due_at - MINUTE, seen_at=waits.due_at,
    )  # fmt: skip

    page = viewer.get(f"/daemon/runs/{waits.pk}/").content.decode()

    said = text_of(viewer.get(f"/daemon/runs/{waits.pk}/"))
    assert "Warum wartet er? Platz 1 in der Warteschlange" in said
    assert "Wartet auf den Leerlauf (Diese Seiten werden benutzt: anna)." in said
    rules = rules_of(page)
    assert rules[0][:2] == ("hält auf", "Leerlauf") or rules[1][:2] == ("hält auf", "Leerlauf")
    assert ("erfüllt", "Nicht angehalten", "Nichts ist angehalten.") in rules
    assert "Was aufgezeichnet wurde" in said
    assert "Wartet: Alles ist angehalten von ben." in said


def test_a_run_that_ended_tells_what_was_recorded_and_guesses_nothing(viewer: Client) -> None:
    skipped = run(
        job("lora"), state=Run.State.SKIPPED, ended_at=NOON + HOUR,
        reason_code="finish_by_skip", reason_facts={"at": "06:00"},
    )  # fmt: skip

    page = viewer.get(f"/daemon/runs/{skipped.pk}/").content.decode()

    said = text_of(viewer.get(f"/daemon/runs/{skipped.pk}/"))
    assert "Warum? wie damals aufgezeichnet" in said
    assert "Übersprungen: Bis 06:00 Uhr wäre er nicht mehr fertig geworden." in said
    words = {about: word for word, about, _said in rules_of(page)}
    assert words["Fertig bis"] == "hielt auf"
    unknown = next(about for word, about, _said in rules_of(page) if word == "unbekannt")
    assert {"Leerlauf", "Freies VRAM"} <= set(unknown.split(", "))


def test_a_job_says_why_it_is_not_running(viewer: Client) -> None:
    alive()
    of = job("nacht-backup", job_type="cron", schedule="0 3 * * *", now=timezone.now())

    said = text_of(viewer.get(f"/daemon/jobs/{of.pk}/"))

    assert "Warum läuft er nicht?" in said
    assert "Noch nicht fällig: Der nächste Start ist" in said


def test_a_job_whose_run_waits_leads_to_it(viewer: Client) -> None:
    waits = run(job("lora"), now=timezone.now())

    page = viewer.get(f"/daemon/jobs/{waits.job_id}/").content.decode()

    assert "Warum wartet er?" in page
    assert f'href="/daemon/runs/{waits.pk}/">Lauf {waits.pk}' in page


def test_the_line_leads_to_the_reasons(viewer: Client) -> None:
    waits = run(job("lora"), now=timezone.now())

    page = viewer.get("/daemon/queue/").content.decode()

    assert f'href="/daemon/runs/{waits.pk}/#why"' in page
    assert 'id="why"' in viewer.get(f"/daemon/runs/{waits.pk}/").content.decode()


@pytest.mark.parametrize("name", ["run-why", "job-why"])
@pytest.mark.parametrize("arg", ["999", "", "x", None])
def test_of_what_is_not_there_nothing_is_said(db: None, name: str, arg: str | None) -> None:
    assert tiles.render(name, arg, GERMAN, NOON) is None


def test_it_is_told_anew_when_people_come_or_go_or_something_is_measured() -> None:
    for name in ("run-why", "job-why", "queue"):
        assert {"presence", "health", "policy", "daemon", "runs"} <= tiles.topics(name, "7")


# ── Making way ───────────────────────────────────────────────────────────────────────────────────
def test_a_run_that_made_way_shows_its_slices_and_the_pause_between(viewer: Client) -> None:
    began = timezone.now() - 6 * HOUR
    of = run(
        job("lora"), state=Run.State.RUNNING, started_at=began + 5 * HOUR, now=began,
        attempt=2, displacements=1,
    )  # fmt: skip
    made_way(of, 1, began, began + HOUR)

    page = viewer.get(f"/daemon/runs/{of.pk}/").content.decode()

    said = text_of(viewer.get(f"/daemon/runs/{of.pk}/"))
    assert "Abschnitte und Pausen 1-mal verdrängt" in said
    assert re.search(
        r"Abschnitt 1 Verdrängt .*\d\d:\d\d angehalten: Diese Seiten werden benutzt: anna – "
        r"\d\d:\d\d fortgesetzt \(4 Std\.\) .*Abschnitt 2 Läuft",
        said,
    )
    assert "Versuch" not in said.partition("Abschnitte")[2].partition("Warum")[0]
    assert len(re.findall(r'<rect class="(?:ok|run)"', page)) == 2
    assert page.count('<line class="pause"') == 1


def test_a_run_that_waits_to_go_on_is_paused_and_says_since_when(viewer: Client) -> None:
    now = timezone.now()
    of = run(
        job("lora"), attempt=2, displacements=1, reason_code="displaced", reason_facts=ANNA,
        now=now - 2 * HOUR,
    )  # fmt: skip
    made_way(of, 1, now - 2 * HOUR, now - HOUR)

    said = text_of(viewer.get(f"/daemon/runs/{of.pk}/"))

    assert "Angehalten angehalten seit 1 Std." in said
    assert "Machte Platz: Diese Seiten werden benutzt: anna." in said
    assert "Abschnitt 2" not in said
    assert "lora Lauf" in text_of(viewer.get("/daemon/queue/"))
    assert "1-mal verdrängt" in text_of(viewer.get("/daemon/queue/"))


def test_a_pause_after_short_slices_says_when_it_goes_on(operator: Client) -> None:
    now = timezone.now()
    of = run(
        job("lora"), attempt=3, displacements=2, reason_code="displaced", reason_facts=ANNA,
        now=now - HOUR, not_before=now + HOUR,
    )  # fmt: skip

    page = operator.get("/daemon/queue/")

    assert re.search(r"Machte Platz \(.*anna\); weiter geht es frühestens", text_of(page))
    assert text_of(page).count("weiter geht es frühestens") == 1
    said = text_of(operator.get(f"/daemon/runs/{of.pk}/"))
    assert "geht es weiter, sobald" not in said
    assert said.count("weiter geht es frühestens") >= 2, "the banner says what the panel says"
    assert f"/daemon/runs/{of.pk}/force/" in page.content.decode()


def test_an_earlier_pause_stays_resumed_while_the_run_waits_again(viewer: Client) -> None:
    now = timezone.now()
    of = run(
        job("lora"), attempt=3, displacements=2, reason_code="displaced", reason_facts=ANNA,
        now=now - 6 * HOUR,
    )  # fmt: skip
    made_way(of, 1, now - 6 * HOUR, now - 5 * HOUR)
    made_way(of, 2, now - 3 * HOUR, now - HOUR)

    said = text_of(viewer.get(f"/daemon/runs/{of.pk}/"))

    assert len(re.findall(r"\d\d:\d\d angehalten: Diese Seiten werden benutzt: anna", said)) >= 2
    assert len(re.findall(r"\d\d:\d\d fortgesetzt \(2 Std\.\)", said)) == 1


def test_while_it_makes_way_it_says_so(viewer: Client) -> None:
    of = run(
        job("lora"), state=Run.State.RUNNING, started_at=timezone.now(), phase=Run.Phase.ASKED,
        reason_code="displacing", reason_facts=ANNA, now=timezone.now(),
    )  # fmt: skip

    for page in (f"/daemon/runs/{of.pk}/", f"/daemon/jobs/{of.job_id}/", "/daemon/jobs/"):
        assert "Hält an …" in text_of(viewer.get(page))


def test_a_failed_attempt_and_a_slice_stand_in_one_list(viewer: Client) -> None:
    began = timezone.now() - 6 * HOUR
    of = run(
        job("lora"), state=Run.State.SUCCEEDED, started_at=began + 5 * HOUR,
        ended_at=began + 6 * HOUR, now=began, attempt=3, displacements=1, exit_code=0,
    )  # fmt: skip
    made_way(of, 1, began, began + HOUR, {})
    Attempt.objects.create(
        run=of, number=2, fence=2, state="failed", exit_code=3,
        started_at=began + 2 * HOUR, ended_at=began + 3 * HOUR,
    )  # fmt: skip

    said = text_of(viewer.get(f"/daemon/runs/{of.pk}/"))

    assert "angehalten: jemand kam zurück – " in said
    assert "Abschnitt 2 Fehlschlag Exit 3" in said
    assert "Fertig Versuch 2" in said  # going on after a pause is no try of its own


def test_a_job_counts_how_often_it_made_way_and_how_fast(viewer: Client) -> None:
    of = run(job("lora"), state=Run.State.SUCCEEDED, started_at=NOON, ended_at=NOON + 9 * HOUR)
    for hours in (1, 3, 5):
        made_way(of, hours, NOON + hours * HOUR, NOON + (hours + 1) * HOUR)

    said = text_of(viewer.get(f"/daemon/jobs/{of.job_id}/"))

    assert re.search(r"Verdrängt 3-mal weg nach 0,8\s?s \(Median\)", said)


def test_a_run_of_the_daemon_itself_says_so(viewer: Client) -> None:
    of = run(job("prüfung"), trigger=Run.Trigger.TICK, state=Run.State.RUNNING, started_at=NOON)

    assert "vom Daemon gestartet" in text_of(viewer.get(f"/daemon/runs/{of.pk}/"))


def test_the_conditions_of_a_job_stand_on_its_page(viewer: Client) -> None:
    of = job("lora", only_when_idle=True, on_presence="cancel", max_load_percent=40)

    said = text_of(viewer.get(f"/daemon/jobs/{of.pk}/"))

    assert Job.objects.count() == 1
    assert "Bedingungen Nur im Leerlauf · endet, wenn jemand kommt · Last höchstens 40 %" in said

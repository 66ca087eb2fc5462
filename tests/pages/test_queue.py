"""The line, "hold everything", what needs a person, and how far a run is."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app.models import Incident, Job, Node, Policy, Pool, Run
from daemon_app.models.access import Role
from tests.jobs import job, run
from tests.pages.test_pages import ended, text_of


@pytest.fixture(autouse=True)
def alive(db: None) -> Node:
    now = timezone.now()
    return Node.objects.create(host="werkstatt", pid=1, started_at=now, seen_at=now)


def waiting(name: str, **fields: Any) -> Run:
    """Return a run that waits since a while, of a job of its own."""
    due = timezone.now() - timedelta(minutes=2)
    return run(job(name), due_at=due, **fields)


def running(of: Job, **fields: Any) -> Run:
    began = timezone.now() - timedelta(minutes=1)
    return run(of, state=Run.State.RUNNING, due_at=began, started_at=began, **fields)


def line(client: Client) -> list[str]:
    """Return the names in line, in the order of the page."""
    page = client.get("/daemon/queue/").content.decode()
    return re.findall(r'<li id="line-\d+"[\s\S]*?class="name"[^>]*>([^<]+)<', page)


# ── The line ─────────────────────────────────────────────────────────────────────────────────────
def test_the_line_says_who_is_next_and_why_each_waits(viewer: Client) -> None:
    now = timezone.now()
    Pool(name="gpu", size=1).store(now=now, by="anna")
    running(job("lora", pools={"gpu": 1}), pools={"gpu": 1})
    waiting("bench", pools={"gpu": 1})
    waiting("eilig", priority=50)

    said = text_of(viewer.get("/daemon/queue/"))

    assert line(viewer) == ["eilig", "bench"]
    assert "1 von 4 Plätzen belegt" in said
    assert "gpu 1 von 1 belegt" in said
    assert "Wartet auf den Pool „gpu“: braucht 1, frei sind 0 von 1." in said
    assert "Priorität 50" in said


def test_an_empty_line_says_what_would_stand_there(viewer: Client) -> None:
    assert "Niemand wartet" in text_of(viewer.get("/daemon/queue/"))


def test_an_operator_reorders_the_line(operator: Client) -> None:
    runs = [waiting(name) for name in ("a", "b", "c")]

    def move(of: Run, to: str) -> str:
        answer = operator.post(
            f"/daemon/runs/{of.pk}/move/", {"to": to}, headers={"X-Answer": "toast"}
        )
        return text_of(answer)

    assert "c startet als Nächstes." in move(runs[2], "first")
    assert line(operator) == ["c", "a", "b"]
    assert "b rückt vor." in move(runs[1], "up")
    assert line(operator) == ["c", "b", "a"]
    assert "c rückt zurück." in move(runs[2], "down")
    assert line(operator) == ["b", "c", "a"]
    assert "a steht schon dort." in move(runs[0], "down")
    assert "Diesen Platz gibt es nicht." in move(runs[0], "\x00")


def test_what_has_begun_meanwhile_is_not_moved(operator: Client) -> None:
    begun = running(job("läuft"))

    answer = operator.post(f"/daemon/runs/{begun.pk}/move/", {"to": "first"}, follow=True)

    assert "läuft wartet nicht mehr." in text_of(answer)


def test_a_viewer_sees_the_line_without_buttons(viewer: Client) -> None:
    waiting("bench")

    page = viewer.get("/daemon/queue/").content.decode()

    assert set(re.findall(r'formaction="([^"]+)"', page)) == {
        "/daemon/login/language/",
        "/daemon/logout/",
    }


OPERATED = ["/daemon/runs/1/move/", "/daemon/hold/", "/daemon/resume/", "/daemon/incidents/1/seen/"]
EDITED = [
    "/daemon/settings/rules/",
    "/daemon/settings/pools/new/",
    "/daemon/settings/pools/1/",
    "/daemon/settings/pools/1/delete/",
]


@pytest.mark.parametrize("address", [*OPERATED, *EDITED])
@pytest.mark.parametrize("role", Role.values)
def test_each_action_belongs_to_its_roles(signed_in: Any, role: str, address: str) -> None:
    now = timezone.now()
    waiting("bench", pk=1)
    Incident.objects.create(pk=1, at=now, code="stalled", facts={"seconds": 9})
    Pool(pk=1, name="gpu", size=1).store(now=now, by="anna")

    answer = signed_in(role).post(address, {"mode": "drain", "to": "up"})

    allowed = role == Role.ADMIN or (role == Role.OPERATOR and address in OPERATED)
    assert (answer.status_code == 403) is not allowed
    assert answer.status_code in {303, 403, 422}


def test_a_waiting_run_tells_its_gates(viewer: Client) -> None:
    Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")
    first = waiting("bench", pools={"gpu": 2})
    running(job("lora"), pools={"gpu": 1})

    said = text_of(viewer.get(f"/daemon/runs/{first.pk}/"))

    assert "Warum wartet er? Platz 1 in der Warteschlange" in said
    assert "erfüllt Nicht angehalten Nichts ist angehalten." in said
    assert "erfüllt Freier Platz Einer von 4 Plätzen ist belegt." in said
    assert "hält auf Platz in seinen Pools Wartet auf den Pool „gpu“: braucht 2" in said


def test_a_run_that_does_not_wait_has_no_such_question(viewer: Client) -> None:
    over = ended(job("fertig"))

    assert "Warum wartet er?" not in text_of(viewer.get(f"/daemon/runs/{over.pk}/"))


# ── Hold everything ──────────────────────────────────────────────────────────────────────────────
def test_holding_asks_names_what_it_does_and_says_who_did_it(operator: Client) -> None:
    job("da")
    busy = running(job("läuft"))

    asked = text_of(operator.get("/daemon/hold/"))
    answer = operator.post("/daemon/hold/", {"mode": "drain", "note": " Wartung \x00 "})
    overview = text_of(operator.get("/daemon/"))

    assert "Was geschieht mit dem Lauf, der unterwegs ist?" in asked
    assert "Ein Lauf wird um sein Ende gebeten" in asked
    assert answer["Location"] == "/daemon/"
    who = r"Alles angehalten Von the operator heute \d\d:\d\d , bis auf Weiteres\. „Wartung“"
    assert re.search(who, overview)
    assert "Fortsetzen" in overview
    busy.refresh_from_db()
    assert busy.stop_requested_at is None


def test_holding_may_end_what_runs_and_that_is_said(operator: Client) -> None:
    busy = running(job("läuft"))

    operator.post("/daemon/hold/", {"mode": "stop"})

    busy.refresh_from_db()
    assert busy.is_stopping
    said = text_of(operator.get(f"/daemon/runs/{busy.pk}/"))
    assert "Mit allem anderen angehalten von the operator." in said


def test_ending_what_runs_as_well_keeps_the_note(operator: Client) -> None:
    operator.post("/daemon/hold/", {"mode": "drain", "note": "Wartung"})
    operator.post("/daemon/hold/", {"mode": "stop", "note": ""})

    policy = Policy.current()
    assert (policy.hold, policy.hold_note) == (Policy.Hold.STOP, "Wartung")


def test_a_note_that_is_too_long_is_refused_and_kept_in_its_field(operator: Client) -> None:
    answer = operator.post("/daemon/hold/", {"mode": "drain", "note": "x" * 201})

    assert answer.status_code == 422
    assert "höchstens 200 Zeichen" in text_of(answer)
    assert "x" * 201 in answer.content.decode()
    assert not Policy.current().is_held


def test_without_a_choice_nothing_is_held(operator: Client) -> None:
    answer = operator.post("/daemon/hold/", {"mode": "sofort"})

    assert answer.status_code == 422
    assert "Wählen Sie eines von beiden." in text_of(answer)
    assert not Policy.current().is_held


def test_resuming_lets_things_start_again(operator: Client) -> None:
    job("da")
    operator.post("/daemon/hold/", {"mode": "drain"})

    answer = operator.post("/daemon/resume/", headers={"X-Answer": "toast"})

    assert "Es geht weiter." in text_of(answer)
    assert "Alles anhalten" in text_of(operator.get("/daemon/"))


def test_a_start_while_everything_is_held_says_so(operator: Client) -> None:
    of = job("da")
    operator.post("/daemon/hold/", {"mode": "drain"})

    answer = operator.post(f"/daemon/jobs/{of.pk}/start/", headers={"X-Answer": "toast"})

    assert "Nicht gestartet: Alles ist angehalten von the operator." in text_of(answer)
    assert "Trotzdem" not in text_of(answer)


# ── What needs a person ──────────────────────────────────────────────────────────────────────────
def test_three_notices_are_in_view_and_the_rest_behind_a_fold(viewer: Client) -> None:
    now = timezone.now()
    for code in ("stalled", "asleep", "clock_back", "clock_forward", "database_locked"):
        Incident.note(code, now=now, seconds=61)

    page = viewer.get("/daemon/").content.decode()

    assert "2 weitere Hinweise" in text_of(viewer.get("/daemon/"))
    assert page.partition('id="more-notices"')[0].count('class="notice ') == 3
    assert page.count('class="notice ') == 5
    assert "Verstanden" not in page


def test_what_is_understood_goes_for_everybody(operator: Client, viewer: Client) -> None:
    told = Incident.note("stalled", now=timezone.now(), seconds=5400)
    assert "Der Daemon stand 1 Std. 30 Min. still." in text_of(viewer.get("/daemon/"))

    operator.post(f"/daemon/incidents/{told.pk}/seen/")

    told.refresh_from_db()
    assert told.acknowledged_by == "the operator"
    assert "stand 1 Std. 30 Min. still" not in text_of(viewer.get("/daemon/"))
    again = operator.post(f"/daemon/incidents/{told.pk}/seen/", headers={"X-Answer": "toast"})
    assert "schon jemand" in text_of(again)


def test_an_error_stands_before_jobs_that_fail_and_these_before_the_rest(admin: Client) -> None:
    now = timezone.now()
    Incident.note("asleep", now=now, level="info", seconds=600)
    sick = job("krank")
    for _ in range(2):
        ended(sick, Run.State.FAILED)
    pool = Pool(name="gpu", size=1).store(now=now, by="anna")
    job("zu-gross", pools={"gpu": 1})
    pool.remove()

    said = text_of(admin.get("/daemon/"))

    places = [said.index(word) for word in ("„zu-gross“ kann nicht", "krank ist 2-mal", "schlief")]
    assert places == sorted(places)


def test_a_job_that_can_never_start_says_so_on_its_page(admin: Client) -> None:
    pool = Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")
    of = job("gross", pools={"gpu": 2})
    pool.size = 1
    pool.store(now=timezone.now(), by="anna")

    said = text_of(admin.get(f"/daemon/jobs/{of.pk}/"))
    pool.remove()
    gone = text_of(admin.get(f"/daemon/jobs/{of.pk}/"))

    assert "Er kann nie starten: Er braucht 2 vom Pool „gpu“, der nur 1 hat." in said
    assert "Er kann nie starten: Den Pool „gpu“ gibt es nicht mehr." in gone


def test_a_job_that_was_switched_off_says_why(operator: Client) -> None:
    of = job("gift", is_active=False)
    Incident.note("poisoned", now=timezone.now(), job=of, n=3)

    said = text_of(operator.get(f"/daemon/jobs/{of.pk}/"))

    assert "„gift“ wurde abgeschaltet: 3 seiner Läufe gingen binnen 24 Stunden verloren" in said


# ── How far a run is ─────────────────────────────────────────────────────────────────────────────
def test_what_a_command_reports_is_shown_as_progress(viewer: Client) -> None:
    busy = running(job("lora"), progress=40, progress_label="Schritt 2 <von> 5")

    for address in ("/daemon/", f"/daemon/runs/{busy.pk}/"):
        page = viewer.get(address)

        assert '<progress class="meter" max="100" value="40"' in page.content.decode()
        assert "Schritt 2 &lt;von&gt; 5 · 40 % · noch etwa 1" in text_of(page)


def test_without_reports_the_past_tells_how_much_longer(viewer: Client) -> None:
    of = job("täglich")
    for _ in range(3):
        began = timezone.now() - timedelta(hours=1)
        run(
            of,
            state="succeeded",
            due_at=began,
            started_at=began,
            ended_at=began + timedelta(minutes=5),
        )
    busy = running(of)

    for address in ("/daemon/", f"/daemon/runs/{busy.pk}/"):
        page = viewer.get(address)

        assert "noch ≈ 3 Min." in text_of(page) or "noch ≈ 4 Min." in text_of(page)
        assert re.search(r'<progress class="meter is-guess" max="100" value="\d', str(page.content))


@pytest.mark.parametrize(
    ("phase", "said"),
    [("", "gebeten"), ("asked", "gebeten"), ("term", "TERM"), ("kill", "KILL")],
)
def test_the_end_of_a_run_is_shown_step_by_step(viewer: Client, phase: str, said: str) -> None:
    running(job("zäh"), phase=phase, stop_requested_at=timezone.now(), stop_requested_by="anna")

    assert f"Hält an: {said}" in text_of(viewer.get("/daemon/"))


def test_what_is_ended_at_its_time_limit_is_shown_so_without_a_request(viewer: Client) -> None:
    running(job("zäh"), phase="term")

    assert "Hält an: TERM" in text_of(viewer.get("/daemon/"))


def test_a_second_attempt_is_counted(viewer: Client) -> None:
    of = job("wacklig", max_retries=3)
    running(of, attempt=2)

    assert "Versuch 2 von 4" in text_of(viewer.get("/daemon/"))


# ── What is held, and what waits for its time ────────────────────────────────────────────────────
def test_while_everything_is_held_no_start_is_promised(operator: Client) -> None:
    now = timezone.now()
    of = job("bald", job_type="interval", schedule="1h", now=now)
    before = text_of(operator.get("/daemon/"))
    Policy.set_hold(Policy.Hold.DRAIN, now=now, by="anna")

    said = text_of(operator.get("/daemon/"))
    page = text_of(operator.get(f"/daemon/jobs/{of.pk}/"))

    assert "nach dem Fortsetzen" not in before
    assert said.count("nach dem Fortsetzen") == 2
    assert not re.search(r"in (59|1) (Min|Std)", said)
    assert "nach dem Fortsetzen" in page
    assert not re.search(r"in (59|1) (Min|Std)", page)


@pytest.mark.parametrize("address", ["/daemon/jobs/", "/daemon/settings/", "/daemon/runs/"])
def test_every_page_says_that_everything_is_held(viewer: Client, address: str) -> None:
    sign = 'class="chip is-held"'
    before = viewer.get(address).content.decode()
    Policy.set_hold(Policy.Hold.DRAIN, now=timezone.now(), by="anna")

    assert sign not in before
    assert sign in viewer.get(address).content.decode()


def test_what_still_runs_may_be_ended_as_well(operator: Client) -> None:
    of = running(job("lang"))
    Policy.set_hold(Policy.Hold.DRAIN, now=timezone.now(), by="anna")

    offered = operator.get("/daemon/").content.decode()
    asked = operator.get("/daemon/hold/?mode=stop").content.decode()
    Run.objects.filter(pk=of.pk).update(state=Run.State.SUCCEEDED)

    assert 'href="/daemon/hold/?mode=stop"' in offered
    assert 'value="stop" checked' in asked
    assert 'href="/daemon/hold/?mode=stop"' not in operator.get("/daemon/").content.decode()


def test_a_retry_says_in_one_sentence_when_it_comes(viewer: Client) -> None:
    later = timezone.now() + timedelta(seconds=90)
    again = waiting("zweite", attempt=2, not_before=later)
    caught = waiting("spaet", not_before=later, reason_code="spread")

    said = text_of(viewer.get("/daemon/queue/")) + text_of(viewer.get("/daemon/"))
    page = text_of(viewer.get(f"/daemon/runs/{again.pk}/"))

    assert re.search(r"Neuer Versuch in (1 Min|90 s|89 s)", said)
    assert "Wartet auf den nächsten Versuch" not in said + page
    assert re.search(r"Wird in .{1,12} nachgeholt, damit nicht alles auf einmal startet", said)
    assert caught.not_before == later


def test_more_in_use_than_there_is_now_is_said(viewer: Client) -> None:
    Pool(name="gpu", size=1).store(now=timezone.now(), by="anna")
    running(job("alt", pools={"gpu": 1}), pools={"gpu": 2})

    page = viewer.get("/daemon/queue/")

    assert "2 belegt, nur noch 1 erlaubt" in text_of(page)
    assert 'class="gauge over"' in page.content.decode()


def test_taking_a_run_out_of_the_line_says_so(operator: Client) -> None:
    operator.post(f"/daemon/runs/{waiting('weg').pk}/cancel/")

    assert "weg wurde aus der Warteschlange genommen" in text_of(operator.get("/daemon/queue/"))


def test_priority_and_a_place_given_by_hand_are_both_shown(viewer: Client) -> None:
    waiting("eilig", priority=50, rank=1)

    said = text_of(viewer.get("/daemon/queue/"))

    assert "von Hand gereiht" in said
    assert "Priorität 50" in said


def test_the_address_of_a_button_is_no_blank_page(operator: Client) -> None:
    answer = operator.get(f"/daemon/runs/{waiting('da').pk}/move/")

    assert answer.status_code == 405
    assert answer["Allow"] == "POST"
    assert "gehört zu einem Knopf" in text_of(answer)


def test_a_run_whose_pool_is_gone_says_so_at_its_gate(viewer: Client) -> None:
    pool = Pool(name="gpu", size=1).store(now=timezone.now(), by="anna")
    of = waiting("ohne", pools={"gpu": 1})
    pool.remove()

    said = text_of(viewer.get(f"/daemon/runs/{of.pk}/"))

    assert "Den Pool „gpu“ gibt es nicht mehr." in said

"""The sentence at the top: who has the right of way, in every variant, with its one action."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import tiles
from daemon_app.models import Node, Policy, Run
from tests.jobs import NOON, job, run
from tests.readings import HOST, node

ENGLISH = tiles.Viewer(role="operator", language="en")
ONLOOKER = tiles.Viewer(role="viewer", language="en")
ANNA = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
MODEL = {"signal": "ollama", "code": "sign_ollama", "facts": {"model": "llama3.1:8b"}}


def said(viewer: tiles.Viewer = ENGLISH) -> str:
    html = tiles.render("situation", None, viewer, NOON) or ""
    text = re.sub(r"<[^>]+>", " ", re.sub(r"</?time[^>]*>", "", html))
    return " ".join(text.replace("&nbsp;", " ").replace("\u00a0", " ").split())


def yielding(state: str = Run.State.RUNNING, **fields: Any) -> Run:
    """Return a run that makes way for people."""
    of = job(f"lora-{Run.objects.count()}", only_when_idle=True, on_presence="displace")
    return run(of, state=state, needs=of.needs(), **fields)


def test_an_idle_machine_is_free_for_jobs_and_says_what_would_stop(db: None) -> None:
    active = NOON - timedelta(hours=2, minutes=21)
    node(idle=True, idle_since=active + timedelta(minutes=2), active_at=active)
    yielding(started_at=NOON)
    yielding(started_at=NOON)
    run(job("fest"), state=Run.State.RUNNING, started_at=NOON)

    assert said() == (
        "Idle – jobs may use the GPU Nobody has been active for 2 h 21 min. "
        "If somebody comes back, 2 running jobs stop within 10 seconds. I am here Hold everything"
    )


def test_an_idle_machine_without_such_runs_says_what_is_under_way(db: None) -> None:
    node(idle=True, idle_since=NOON - timedelta(minutes=3))
    run(job("fest"), state=Run.State.RUNNING, started_at=NOON)

    assert "Nobody has been active for 3 min. One run is under way." in said()
    assert "comes back" not in said()


def test_a_run_that_somebody_started_all_the_same_is_not_said_to_stop(db: None) -> None:
    node(idle=True, idle_since=NOON)
    yielding(started_at=NOON, forced_by="anna")

    assert "comes back" not in said()


def test_people_go_first_and_what_waits_for_them_is_counted(db: None) -> None:
    until = NOON + timedelta(seconds=100)
    node(idle=False, users=4, idle_reasons=[ANNA], idle_from=until)
    yielding(Run.State.QUEUED)
    yielding(Run.State.QUEUED)

    assert said() == (
        "4 people are active – GPU jobs wait 2 runs wait until the machine is idle. "
        "It is idle in 1 min if nothing happens. I am away … Hold everything"
    )


def test_what_is_in_use_without_people_is_named(db: None) -> None:
    node(idle=False, idle_reasons=[MODEL])

    assert said().startswith(
        "The machine is in use – GPU jobs wait Ollama is in use: llama3.1:8b. None is in line"
    )


def test_what_works_beside_people_is_named_too(db: None) -> None:
    node(idle=False, users=1, idle_reasons=[ANNA, MODEL])

    assert said().startswith(
        "One person is active – GPU jobs wait Ollama is in use: llama3.1:8b. None is in line"
    )


def test_soon_idle_counts_down(db: None) -> None:
    active = NOON - timedelta(minutes=2)
    node(idle=False, idle_from=NOON + timedelta(seconds=40), active_at=active)

    assert said().startswith("Idle in 40 s The last activity was 2 min ago.")


def test_while_runs_make_way_it_says_so(db: None) -> None:
    node(idle=False, users=1, idle_reasons=[ANNA])
    yielding(started_at=NOON, reason_code="displacing", reason_facts=ANNA)
    yielding(started_at=NOON, reason_code="displacing", reason_facts=ANNA)

    assert said().startswith(
        "Somebody is active – stopping 2 runs … These pages are in use: anna. "
        "What was stopped goes on by itself when the machine is idle again."
    )


def test_runs_make_way_for_what_they_were_asked_for_also_when_that_is_gone(db: None) -> None:
    node(idle=False, idle_reasons=[ANNA])
    yielding(started_at=NOON, reason_code="displacing", reason_facts={**MODEL, "at": 1.0})
    assert "stopping one run … Ollama is in use: llama3.1:8b. What was stopped" in said()

    Node.objects.update(idle=True, idle_reasons=[])

    assert said().startswith(
        "Idle – one run is still stopping … The cause: "
        "Ollama is in use: llama3.1:8b. What was stopped goes on"
    )


def test_unknown_is_said_where_a_job_heeds_it(db: None) -> None:
    node(idle=None)
    assert "not known" not in said()

    yielding(Run.State.QUEUED)

    assert said().startswith(
        "It is not known who is here – GPU jobs wait to be safe One run waits until"
    )


@pytest.mark.parametrize(
    ("presence", "idle", "words"),
    [
        ("here", False, "Somebody is here – jobs that need an idle machine wait anna has said"),
        ("away", True, "Idle – jobs may use the GPU anna has said “I am away” ("),
    ],
)
def test_what_a_person_has_said_holds_until_its_end(
    db: None, presence: str, idle: bool, words: str
) -> None:
    node(idle=idle)
    until = NOON + timedelta(hours=1)
    Policy.objects.create(
        pk=1, presence=presence, presence_until=until, presence_at=NOON, presence_by="anna"
    )

    assert words in said()
    assert f"until today {timezone.localtime(until):%H:%M}." in said()
    assert "Take it back" in said()
    Policy.objects.update(presence_until=NOON)
    assert "anna" not in said()


def test_a_hold_and_a_dead_scheduler_go_before_idleness(db: None) -> None:
    of = node(idle=True, idle_since=NOON)
    Policy.objects.create(pk=1, hold="stop", held_by="anna", held_at=NOON)
    assert said().startswith("Everything is stopped")

    Node.objects.filter(pk=of.pk).update(seen_at=NOON - timedelta(minutes=3))

    assert said().startswith("The scheduler does not answer")
    assert "Idle" not in said()


def test_who_may_only_look_is_offered_no_action(db: None) -> None:
    node(idle=True, idle_since=NOON)
    job()

    assert "I am here" in said()
    assert "I am here" not in said(ONLOOKER)
    assert "Hold" not in said(ONLOOKER)


def test_the_buttons_lead_to_what_they_say(operator: Client) -> None:
    now = timezone.now()
    node(now=now, idle=True, idle_since=now)

    page = operator.get("/daemon/").content.decode()
    assert 'formaction="/daemon/presence/" name="presence" value="here"' in page
    answer = operator.post("/daemon/presence/", {"presence": "here"})

    assert answer.status_code == 303
    assert Policy.current().said_at(timezone.now()) == "here"
    assert 'name="presence" value=""' in operator.get("/daemon/").content.decode()
    Node.objects.filter(host=HOST).update(idle=False, users=1)
    Policy.objects.update(presence="")
    assert 'href="/daemon/presence/?presence=away"' in operator.get("/daemon/").content.decode()

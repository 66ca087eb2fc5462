"""What a schedule or a job would mean, over REST; and jobs to begin with."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app import forecast, starters
from daemon_app.models import Change, Job, Pool, Run
from tests.api.caller import Caller
from tests.jobs import job

pytestmark = pytest.mark.django_db
GOOD = {"name": "a", "job_type": "cron", "schedule": "0 3 * * *", "command": "true"}


@pytest.fixture(autouse=True)
def forgotten() -> None:
    forecast.forget()


def instants(told: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(each) for each in told]


# ── A schedule ───────────────────────────────────────────────────────────────────────────────────
def test_a_schedule_is_told_in_words_and_times(viewer: Caller) -> None:
    answer = viewer(
        "GET", "schedules/preview?schedule=30+3+*+*+mon-FRI&timezone=Europe/Berlin&times=7"
    )

    told = answer.json()
    assert answer.status_code == 200, told
    assert told["sentence"] == "Montag bis Freitag um 03:30 Uhr"
    assert (told["job_type"], told["timezone"]) == ("cron", "Europe/Berlin")
    times = instants(told["times"])
    assert len(times) == 7
    assert times == sorted(times)
    assert times[0] > timezone.now()


def test_who_else_runs_at_these_times_is_told(viewer: Caller) -> None:
    other = job("other", job_type="cron", schedule="0 3 * * *", timezone="UTC")

    told = viewer("GET", "schedules/preview?schedule=0+3+*+*+*&timezone=UTC").json()
    own = viewer(
        "GET", f"schedules/preview?schedule=0+3+*+*+*&timezone=UTC&job_id={other.pk}"
    ).json()

    (met,) = told["overlaps"]
    assert (met["job_id"], met["name"], met["until"]) == (other.pk, "other", None)
    assert met["at"] == told["times"][0]
    assert own["overlaps"] == []


def test_an_interval_that_a_job_has_goes_on_and_a_new_one_begins_now(viewer: Caller) -> None:
    now = timezone.now()
    of = job("a", job_type="interval", schedule="1h", now=now - timedelta(minutes=50))
    query = f"schedules/preview?job_type=interval&schedule=1h&timezone={of.timezone}"

    going_on = instants(viewer("GET", f"{query}&job_id={of.pk}").json()["times"])
    anew = instants(viewer("GET", query).json()["times"])

    assert going_on[0] == of.next_due_at
    assert anew[0] - now >= timedelta(hours=1)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("schedule=61+*+*+*+*", "schedule"),
        ("schedule=0+0+30+2+*", "schedule"),
        ("schedule=", "schedule"),
        ("job_type=interval&schedule=60", "schedule"),
        ("schedule=0+3+*+*+*&timezone=Mars/Base", "timezone"),
        ("schedule=" + "1," * 400 + "+*+*+*+*", "schedule"),
        ("schedule=0+3+*+*+*&timezone=" + "x" * 65, "timezone"),
        ("job_type=chain", "job_type"),
        ("schedule=%00", "schedule"),
        ("times=0", "times"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_the_way_out(
    viewer: Caller, query: str, field: str
) -> None:
    answer = viewer("GET", f"schedules/preview?{query}")

    assert answer.status_code == 400
    assert [*answer.json()["error"]["fields"]] == [field]


def test_a_schedule_for_a_job_that_is_not_there(viewer: Caller) -> None:
    assert viewer("GET", "schedules/preview?schedule=0+3+*+*+*&job_id=99").status_code == 404


# ── A job ────────────────────────────────────────────────────────────────────────────────────────
def test_a_good_job_is_told_and_not_stored(admin: Caller) -> None:
    wanted = GOOD | {"command": "cd /nowhere-at-all && true", "only_when_idle": True}

    answer = admin("POST", "jobs/check", wanted)

    told = answer.json()
    assert answer.status_code == 200, told
    assert (told["valid"], told["fields"]) == (True, {})
    assert told["schedule"]["sentence"] == "täglich um 03:00 Uhr"
    assert len(told["schedule"]["times"]) == 5
    assert told["command"]["shell"] == "/bin/sh"
    assert next(found["level"] for found in told["command"]["findings"] if found["what"]) == "warn"
    assert told["conditions"] == ["nur im Leerlauf", "macht Platz"]
    assert told["rules"]
    assert not Job.objects.exists()
    assert not Change.objects.exclude(subject__in=["token", "account"]).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "60 * * * *"},
        {"job_type": "once", "schedule": "2020-01-01 10:00"},
        {"command": ""},
        {"name": ""},
        {"name": "taken"},
        {"environment": {"A": 1}},
        {"environment": []},
        {"pools": {"gpu": 9}},
        {"timeout_seconds": "5"},
        {"shedule": "1h"},
        {"id": 3},
        {"finish_by": "25:00"},
        {"command": "x" * 20_000},
        {"command": "'"} | {"use_shell": False},
        {"name": "b/", "schedule": "x", "priority": 101},
    ],
)
def test_what_is_wrong_is_told_as_storing_would_and_with_every_field(
    admin: Caller, wrong: dict[str, Any]
) -> None:
    job("taken")
    Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")

    checked = admin("POST", "jobs/check", GOOD | wrong)
    stored = admin("POST", "jobs", GOOD | wrong)

    assert checked.status_code == 200
    assert stored.status_code == 400
    assert checked.json()["valid"] is False
    assert checked.json()["fields"] == stored.json()["error"]["fields"]
    assert (checked.json()["schedule"] is None) == bool(
        {"job_type", "schedule", "timezone"} & {*checked.json()["fields"]}
    )


def test_a_change_is_checked_against_the_job_it_is_of(admin: Caller) -> None:
    there = job("a", job_type="cron", schedule="0 3 * * *", timeout_seconds=60)
    before = Job.objects.values().get(pk=there.pk)

    good = admin("POST", f"jobs/{there.pk}/check", {"schedule": "0 4 * * *"}).json()
    bad = admin("POST", f"jobs/{there.pk}/check", {"soft_timeout_seconds": 60}).json()
    same = admin("POST", f"jobs/{there.pk}/check", {"name": "a"}).json()

    assert good["schedule"]["sentence"] == "täglich um 04:00 Uhr"
    assert [*bad["fields"]] == ["soft_timeout_seconds"]
    assert same["valid"] is True
    assert Job.objects.values().get(pk=there.pk) == before


def test_an_instant_that_has_passed_is_no_fault_of_another_change(admin: Caller) -> None:
    now = timezone.now()
    at = (now + timedelta(days=1)).strftime("%Y-%m-%d %H:%M")
    there = job("a", job_type="once", schedule=at, now=now)
    Job.objects.filter(pk=there.pk).update(schedule="2020-01-01 10:00", is_active=False)

    other = admin("POST", f"jobs/{there.pk}/check", {"priority": 3}).json()
    on = admin("POST", f"jobs/{there.pk}/check", {"is_active": True}).json()

    assert other["valid"] is True
    assert [*on["fields"]] == ["schedule"]


def test_only_who_may_edit_jobs_may_check_them(operator: Caller) -> None:
    there = job("a")

    assert operator("POST", "jobs/check", GOOD).status_code == 403
    assert operator("POST", f"jobs/{there.pk}/check", {}).status_code == 403


# ── Jobs to begin with ───────────────────────────────────────────────────────────────────────────
def test_each_starter_can_be_sent_as_it_stands(admin: Caller) -> None:
    told = admin("GET", "starters").json()["starters"]

    assert [each["key"] for each in told] == [each.key for each in starters.STARTERS]
    for each in told:
        made = admin("POST", "jobs", each["job"] | {"is_active": False})
        assert made.status_code == 201, made.json()
        assert made.json()["schedule_text"] == each["schedule_text"]
    again = admin("GET", "starters").json()["starters"]
    assert {each["job"]["name"] for each in again} == {f"{each['key']}-2" for each in again}


def test_those_of_the_first_minute_are_made_once_and_switched_off(admin: Caller) -> None:
    job("cleanup")

    made = admin("POST", "starters/begin").json()["jobs"]
    again = admin("POST", "starters/begin").json()["jobs"]

    assert [each["name"] for each in made] == ["backup-daily", "token-check"]
    assert {each["is_active"] for each in made} == {False}
    assert again == []
    assert Run.objects.count() == 0


def test_a_job_is_copied_with_all_its_rules_and_switched_off(admin: Caller) -> None:
    Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")
    of = job(
        "backup",
        job_type="cron",
        schedule="0 3 * * *",
        environment={"KEY": "value"},
        pools={"gpu": 1},
        max_retries=2,
        retry_exit_codes=[75],
        only_when_idle=True,
        on_presence="cancel",
    )

    copied = admin("POST", f"jobs/{of.pk}/copy")
    named = admin("POST", f"jobs/{of.pk}/copy", {"name": "other"})
    taken = admin("POST", f"jobs/{of.pk}/copy", {"name": "other"})

    assert copied.status_code == 201, copied.json()
    told, whole = copied.json(), admin("GET", f"jobs/{of.pk}").json()
    own = {"id", "name", "is_active", "version", "next_due_at", "next_run"}
    own |= {name for name in told if name.startswith(("created_", "updated_"))}
    assert {name for name in told if told[name] != whole[name]} <= own
    assert (told["name"], told["is_active"]) == ("backup-2", False)
    assert copied["Location"] == f"/api/daemon/jobs/{told['id']}"
    assert named.json()["name"] == "other"
    assert [*taken.json()["error"]["fields"]] == ["name"]
    assert admin("POST", "jobs/999/copy").status_code == 404


def test_the_job_of_a_skill_is_not_copied(admin: Caller) -> None:
    of = job("a")
    Job.objects.filter(pk=of.pk).update(skill="validate_configs")

    answer = admin("POST", f"jobs/{of.pk}/copy")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "of_a_skill"

"""Conditions of jobs, what a run waited for, and starting it all the same, over REST."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app.models import Job, Run, Wait
from tests.api.caller import Caller
from tests.api.test_health import made_way
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
GOOD = {"name": "a", "job_type": "manual", "command": "true"}
CONDITIONS = {
    "only_when_idle": True,
    "on_presence": "displace",
    "ask_signal": "USR1",
    "min_vram_mb": 8000,
    "needs_services": ["ollama"],
    "min_disk_mb": 5000,
    "max_load_percent": 80,
    "window": "22:00-06:00",
    "in_quiet_hours": True,
    "finish_by": "06:00",
    "gate_action": "run",
}


@pytest.fixture
def now() -> datetime:
    return timezone.now()


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
def test_conditions_are_set_read_and_kept_on_each_run(admin: Caller) -> None:
    created = admin("POST", "jobs", GOOD | CONDITIONS)

    assert created.status_code == 201, created.json()
    told = created.json()
    assert {name: told[name] for name in CONDITIONS} == CONDITIONS
    assert told["skill"] == ""
    started = admin("POST", f"jobs/{told['id']}/run").json()
    assert started["needs"]["idle"] is True
    assert started["needs"]["vram_mb"] == 8000


def test_conditions_are_none_unless_given(admin: Caller) -> None:
    told = admin("POST", "jobs", GOOD).json()

    nothing: dict[str, Any] = {
        **dict.fromkeys(("only_when_idle", "in_quiet_hours"), False),
        **dict.fromkeys(("min_vram_mb", "min_disk_mb", "max_load_percent"), None),
        **dict.fromkeys(("window", "finish_by"), ""),
        "needs_services": [],
        "on_presence": "continue",
        "ask_signal": "TERM",
        "gate_action": "skip",
    }
    assert {name: told[name] for name in nothing} == nothing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("only_when_idle", "yes"),
        ("on_presence", "displaced"),
        ("on_presence", None),
        ("ask_signal", "SIGTERM"),
        ("ask_signal", "KILL"),
        ("min_vram_mb", 0),
        ("min_vram_mb", -1),
        ("min_vram_mb", "8000"),
        ("min_vram_mb", 10**30),
        ("needs_services", "ollama"),
        ("needs_services", None),
        ("needs_services", ["olama"]),
        ("needs_services", [1]),
        ("needs_services", [["ollama"]]),
        ("needs_services", {"ollama": True}),
        ("min_disk_mb", 0),
        ("min_disk_mb", -5),
        ("max_load_percent", 0),
        ("max_load_percent", 101),
        ("max_load_percent", 0.5),
        ("window", "22:00"),
        ("window", "25:00-06:00"),
        ("window", "06:00-06:00"),
        ("window", "xx 22:00-06:00"),
        ("window", "never"),
        ("window", 22),
        ("window", "x" * 201),
        ("in_quiet_hours", 1),
        ("finish_by", "24:30"),
        ("finish_by", "6"),
        ("finish_by", "06:00:00"),
        ("finish_by", 600),
        ("gate_action", "wait"),
        ("skill", "cleanup_vram"),
        ("only_if_idle", True),
    ],
)
def test_a_condition_that_can_not_be_is_refused_beside_its_field(
    admin: Caller, field: str, value: object
) -> None:
    answer = admin("POST", "jobs", GOOD | {field: value})

    assert answer.status_code == 400
    assert all(answer.json()["error"]["fields"][field])
    assert not Job.objects.exists()


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────
def test_rules_for_health_are_set_and_read(admin: Caller) -> None:
    wanted = {
        "gpu_service_url": "http://gpu.local:17803",
        "ollama_url": "https://ollama.local",
        "slow_ms": 500,
        "vram_high_percent": 90,
        "vram_target_percent": 50,
        "disk_low_gb": 0,
        "idle_after_seconds": 300,
        "foreign_load_percent": None,
        "watch_logins": False,
        "watch_gpu": False,
        "quiet_hours": "22:00-06:00",
    }

    changed = admin("PATCH", "policy", wanted)

    assert changed.status_code == 200, changed.json()
    told = admin("GET", "policy").json()
    assert {name: told[name] for name in wanted} == wanted
    assert admin("PUT", "policy", {}).json()["foreign_load_percent"] == 90


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu_service_url", "localhost:17803"),
        ("gpu_service_url", "ftp://localhost"),
        ("gpu_service_url", "http://localhost:70000"),
        ("gpu_service_url", "http://localhost:0"),
        ("gpu_service_url", "http://"),
        ("gpu_service_url", "http://a b"),
        ("gpu_service_url", 17803),
        ("gpu_service_url", None),
        ("ollama_url", "http://" + "x" * 500),
        ("ollama_url", "javascript:alert(1)"),
        ("ollama_url", "file:///etc/passwd"),
        ("slow_ms", 0),
        ("slow_ms", -1),
        ("slow_ms", 60_001),
        ("vram_high_percent", 0),
        ("vram_high_percent", 101),
        ("vram_target_percent", -1),
        ("disk_low_gb", -1),
        ("disk_low_gb", "10"),
        ("idle_after_seconds", 0),
        ("idle_after_seconds", 86_401),
        ("foreign_load_percent", 0),
        ("foreign_load_percent", 101),
        ("watch_logins", 1),
        ("watch_gpu", None),
        ("quiet_hours", "22:00"),
        ("quiet_hours", "sometimes"),
        ("config_folders", "/etc"),
        ("config_folders", [1]),
        ("config_folders", ["relative"]),
        ("config_folders", None),
        ("presence", "here"),
        ("idle_after", 60),
    ],
)
def test_a_rule_for_health_that_can_not_be_is_refused_beside_its_field(
    admin: Caller, field: str, value: object
) -> None:
    answer = admin("PATCH", "policy", {field: value})

    assert answer.status_code == 400, answer.json()
    assert all(answer.json()["error"]["fields"][field])


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_tells_what_it_waited_for_and_what_its_conditions_said(
    viewer: Caller, operator: Caller, now: datetime
) -> None:
    there = run(
        state=Run.State.RUNNING,
        started_at=now,
        start_readings=[{"gate": "idle", "open": True, "code": "gate_idle", "facts": {}}],
        displacements=1,
        progress_token="page 17",
    )
    Wait.objects.create(
        run=there, code="waits_idle", began_at=now - timedelta(minutes=9), seen_at=now
    )
    made_way(there, now, 0.03, 1.5)

    told = viewer("GET", f"runs/{there.pk}").json()

    (wait,) = told["waits"]
    assert wait["code"] == "waits_idle"
    assert wait["sentence"]
    assert datetime.fromisoformat(wait["seen_at"]) == now
    (reading,) = told["start_readings"]
    assert (reading["gate"], reading["open"]) == ("idle", True)
    assert reading["sentence"]
    assert [each["yielded_seconds"] for each in told["displaced"]] == [1.5]
    assert told["displacements"] == 1
    assert told["progress_token"] is None
    assert operator("GET", f"runs/{there.pk}").json()["progress_token"] == "page 17"


def test_a_waiting_run_is_started_all_the_same(operator: Caller, now: datetime) -> None:
    waiting = run(needs={"idle": True, "zone": "UTC"}, not_before=now + timedelta(hours=1))

    answer = operator("POST", f"runs/{waiting.pk}/force")

    assert answer.status_code == 202
    assert answer.json()["forced_by"] == "operator"
    waiting.refresh_from_db()
    assert waiting.not_before <= timezone.now()
    assert operator("POST", f"runs/{waiting.pk}/force").status_code == 202


@pytest.mark.parametrize("state", ["running", "succeeded", "skipped"])
def test_a_run_that_does_not_wait_can_not_be_forced(operator: Caller, state: str) -> None:
    there = run(state=state, started_at=NOON)

    answer = operator("POST", f"runs/{there.pk}/force")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_waiting"


def test_forcing_takes_no_fields_and_needs_a_run(operator: Caller) -> None:
    waiting = run()

    assert operator("POST", f"runs/{waiting.pk}/force", {"now": True}).status_code == 400
    assert operator("POST", "runs/99999/force").status_code == 404
    waiting.refresh_from_db()
    assert waiting.forced_by == ""


def test_a_job_is_started_whatever_its_conditions_say(operator: Caller) -> None:
    there = job(only_when_idle=True)

    plain = operator("POST", f"jobs/{there.pk}/run", {"force": False}).json()
    Run.objects.all().delete()
    forced = operator("POST", f"jobs/{there.pk}/run", {"force": True}).json()

    assert (plain["forced_by"], forced["forced_by"]) == ("", "operator")
    assert operator("POST", f"jobs/{there.pk}/run", {"force": 1}).status_code == 400


def test_work_for_the_idle_machine_makes_way_unless_told_otherwise(admin: Caller) -> None:
    idle = {**GOOD, "only_when_idle": True}

    plain = admin("POST", "jobs", idle).json()
    stays = admin("POST", "jobs", {**idle, "name": "b", "on_presence": "continue"}).json()

    assert (plain["on_presence"], stays["on_presence"]) == ("displace", "continue")

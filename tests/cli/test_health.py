"""Health, skills, and why, from a terminal."""

import json
from typing import Any

import pytest

from daemon_app.cli.health import bars
from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach

TICKS = """
from datetime import timedelta
from django.utils import timezone
from daemon_app.models import Node, Snapshot
from daemon_app.readings import Reading, State
now = timezone.now()
Node.objects.create(
    host="hal", pid=1, started_at=now, seen_at=now, idle=False, idle_since=now,
    idle_reasons=[{"signal": "request", "code": "came_back", "facts": {}}],
)
for n in range(20):
    found = [
        Reading("ollama", State.OK, 12.0),
        Reading("vram", State.HIGH, 91.0, "vram_high", {"percent": 91, "limit": 80}),
        Reading("gpu_service", State.UNKNOWN, None, said="\\x1b[31mnonsense"),
    ]
    Snapshot.objects.create(
        host="hal", at=now - timedelta(seconds=30 * n),
        values={each.name: each.value for each in found if each.value is not None},
        states={each.name: str(each.state) for each in found},
        readings=[each.as_json() for each in found],
    )
"""


@pytest.fixture
def ready(bach: Bach) -> Bach:
    """`bach` that is set up, with nothing running."""
    bach.migrate()
    return bach


def facts(answer: Any) -> Any:
    assert answer.returncode == Code.OK, answer
    return json.loads(answer.stdout)


def test_health_shows_each_check_with_its_course(ready: Bach) -> None:
    ready.python(TICKS)

    said = ready("daemon", "health")

    assert said.returncode == Code.OK
    lines = {line.split("  ")[0]: line for line in said.stdout.splitlines()}
    assert "91" in lines["VRAM"]
    assert "▇" in lines["VRAM"]
    assert "12" in lines["Ollama"]
    assert "\x1b" not in said.stdout


def test_health_for_programs_has_all_that_was_measured(ready: Bach) -> None:
    ready.python(TICKS)

    told = facts(ready("daemon", "health", "--history", "24h", "--json"))
    plain = facts(ready("daemon", "health", "--json"))

    assert told["health"]["vram"]["state"] == "high"
    assert told["health"]["gpu_service"]["said"] == "\x1b[31mnonsense"
    assert told["idle"] is False
    assert told["history"]["checks"]["ollama"]["points"][0]["value"] == 12.0
    assert "history" not in plain


def test_health_before_the_first_tick_is_unknown(ready: Bach) -> None:
    said = ready("daemon", "health")

    assert said.returncode == Code.OK
    assert {each["state"] for each in facts(ready("daemon", "health", "--json"))["health"].values()}
    assert ready("daemon", "health", "--history", "2h").returncode == Code.USAGE


def test_the_state_of_the_daemon_says_how_the_machine_is(ready: Bach) -> None:
    ready.python(TICKS)

    said = ready("daemon", "status")
    told = facts_of_status(ready)

    assert said.returncode == Code.OK
    assert "Ollama ✓ 12" in said.stdout
    assert told["health"]["ollama"]["value"] == 12.0
    assert told["idle"] is False


def facts_of_status(bach: Bach) -> Any:
    return json.loads(bach("daemon", "status", "--json").stdout)


def test_bars_leave_gaps_open() -> None:
    assert bars([0.0, 50.0, None, 100.0], most=100) == "▁▅ █"
    assert bars([1.0, 2.0]) == "▅█"
    assert bars([0.0, 0.0]) == "▁▁"
    assert bars([None, None]) == "  "
    assert bars([]) == ""


def test_skills_are_listed_with_what_became_of_them(ready: Bach) -> None:
    ready.python(
        "from django.utils import timezone\n"
        "from daemon_app import skills; skills.install(timezone.now())"
    )

    told = facts(ready("daemon", "skills", "--json"))
    said = ready("daemon", "skills")

    assert {"health_check", "validate_configs", "cleanup_vram"} == {each["name"] for each in told}
    assert said.returncode == Code.OK
    assert all(each["name"] in said.stdout for each in told)


# ── Why ──────────────────────────────────────────────────────────────────────────────────────────
def test_a_job_says_why_it_does_not_run(ready: Bach) -> None:
    ready.add_jobs(backup="true")
    ready.python(
        "from daemon_app.models import Job; Job.objects.update(is_active=False, job_type='cron',"
        " schedule='0 3 * * *')"
    )

    said = ready("daemon", "why", "backup")
    told = facts(ready("daemon", "why", "1", "--json"))

    assert said.returncode == Code.OK
    assert said.stdout.splitlines()[0] == told["sentence"]
    assert told["state"] == "off"
    rules = {rule["name"]: rule for rule in told["rules"]}
    assert rules["enabled"]["state"] == "blocked"
    assert rules["enabled"]["sentence"] in said.stdout


def test_the_past_is_what_was_recorded(ready: Bach) -> None:
    ready.add_jobs(backup="true")

    told = facts(ready("daemon", "why", "backup", "--at", "2020-01-01T03:00", "--json"))
    by_clock = ready("daemon", "why", "backup", "--at", "03:00")

    assert told["state"] == "none"
    assert by_clock.returncode == Code.OK


def test_a_run_is_asked_for_by_its_number(ready: Bach) -> None:
    ready.add_jobs(backup="true")
    ready.python(
        "from django.utils import timezone; from daemon_app import scheduler\n"
        "from daemon_app.models import Job\n"
        "scheduler.start(Job.objects.get(), trigger='cli', by='anna', now=timezone.now())"
    )

    told = facts(ready("daemon", "why", "--run", "1", "--json"))

    assert (told["state"], told["run_id"]) == ("waiting", 1)
    assert ready("daemon", "why", "--run", "9").returncode == Code.NOT_FOUND


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("backup", "--run", "1"),
        ("--run", "1", "--at", "03:00"),
        ("backup", "--at", "yesterday"),
        ("backup", "--at", "25:00"),
        ("backup", "--at", "2026-02-30"),
        ("backup", "--at", "0001-01-01"),
        ("backup", "--at", ""),
    ],
)
def test_a_question_that_can_not_be_is_refused(ready: Bach, arguments: tuple[str, ...]) -> None:
    ready.add_jobs(backup="true")

    assert ready("daemon", "why", *arguments).returncode == Code.USAGE


def test_why_of_a_job_that_is_not_there_names_those_that_are_near(ready: Bach) -> None:
    ready.add_jobs(backup="true")

    answer = ready("daemon", "why", "bakup")

    assert answer.returncode == Code.NOT_FOUND
    assert "backup" in answer.stderr


# ── All the same ─────────────────────────────────────────────────────────────────────────────────
def test_a_waiting_run_is_started_all_the_same(ready: Bach) -> None:
    ready.add_jobs(backup="true")
    ready.python(
        "from django.utils import timezone; from daemon_app import scheduler\n"
        "from daemon_app.models import Job\n"
        "Job.objects.update(only_when_idle=True)\n"
        "scheduler.start(Job.objects.get(), trigger='cli', by='anna', now=timezone.now())"
    )

    told = facts(ready("daemon", "force", "1", "--json"))

    assert told["forced_by"]
    assert ready("daemon", "force", "1").returncode == Code.OK
    assert ready("daemon", "force", "9").returncode == Code.NOT_FOUND
    ready("daemon", "drop", "1")
    assert ready("daemon", "force", "1").returncode == Code.FAILED


def test_a_job_is_run_whatever_its_conditions_say(service: Bach) -> None:
    service.add_jobs(fussy="echo done")
    # A window that is never open just now.
    service.python(
        "from datetime import timedelta; from django.utils import timezone\n"
        "from daemon_app.models import Job\n"
        "hour = (timezone.localtime() + timedelta(hours=6)).hour\n"
        "Job.objects.filter(name='fussy').update(window=f'{hour:02}:00-{hour:02}:30')"
    )

    waits = service("daemon", "run", "fussy")
    service("daemon", "drop", "1")
    ran = service("daemon", "run", "fussy", "--force", "--follow", "--json")

    assert waits.returncode == Code.OK
    assert ":30" in waits.stderr  # which times it waits for
    told = facts(ran)
    assert (told["state"], bool(told["forced_by"])) == ("succeeded", True)
    assert told["needs"]["window"]


# ── Rules ────────────────────────────────────────────────────────────────────────────────────────
def test_the_rules_for_health_are_shown_and_changed(ready: Bach) -> None:
    changed = facts(
        ready(
            *("daemon", "policy", "--quiet-hours", "22:00-06:00", "--idle-after-seconds", "300"),
            *("--foreign-load-percent", "0", "--no-watch-gpu", "--config-folder", "/etc"),
            *("--ollama-url", "http://ollama.local:11434", "--json"),
        )
    )

    assert changed["quiet_hours"] == "22:00-06:00"
    assert (changed["idle_after_seconds"], changed["foreign_load_percent"]) == (300, None)
    assert (changed["watch_gpu"], changed["watch_logins"]) == (False, True)
    assert changed["config_folders"] == ["/etc"]
    assert "http://ollama.local:11434" in ready("daemon", "policy").stdout
    again = facts(ready("daemon", "policy", "--ollama-url", "", "--no-config-folders", "--json"))
    assert (again["ollama_url"], again["config_folders"]) == ("", [])
    assert again["quiet_hours"] == "22:00-06:00"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ollama-url", "localhost:11434"),
        ("--gpu-service-url", "http://localhost:99999"),
        ("--quiet-hours", "sometimes"),
        ("--slow-ms", "-1"),
        ("--vram-high-percent", "101"),
        ("--idle-after-seconds", "0"),
        ("--config-folder", "relative"),
    ],
)
def test_a_rule_that_can_not_be_is_refused_with_the_reason(
    ready: Bach, arguments: tuple[str, ...]
) -> None:
    answer = ready("daemon", "policy", *arguments)

    assert answer.returncode == Code.USAGE
    assert answer.stderr

"""Models are unloaded, unused longest first, until the target is reached; none that is in use."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from daemon_app import checks, skills
from daemon_app.models import Job, Policy, Run, Snapshot
from daemon_app.readings import Reading, State
from daemon_app.skills import Failure, Stopped
from daemon_app.skills.cleanup_vram import CleanupVram
from tests.jobs import NOON, run
from tests.skills.doing import context, done, process

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("ollama")]


def asked(double) -> list[str]:
    """Return the models whose unloading was asked for, in order."""
    return [body["model"] for method, _path, body in double.requests if method == "POST" and body]


# ── What it does ─────────────────────────────────────────────────────────────────────────────────
def test_the_model_that_was_unused_longest_goes_first_and_it_stops_at_the_target(service):
    service.load("new", vram_mb=6000, unused=60)
    service.load("oldest", vram_mb=5000, unused=900)
    service.load("old", vram_mb=7000, backend="text", unused=600)

    result = done("cleanup_vram", vram_target_percent=60)

    assert asked(service) == ["oldest", "old"]
    assert [model["model"] for model in service.state()["loaded_models"]] == ["new"]
    assert result.data["freed_mb"] == 12_000
    assert result.summary == "12000 MB freed: 90 % → 30 %."
    assert result.level == "info"


def test_one_model_is_enough_where_it_reaches_the_target(service):
    service.load("big", vram_mb=9000, unused=900)
    service.load("next", vram_mb=8000, unused=600)

    done("cleanup_vram", vram_target_percent=60)

    assert asked(service) == ["big"]


def test_what_is_in_use_or_was_just_used_stays(service, capsys):
    service.load("busy", vram_mb=9000, in_use=1, unused=900)
    service.load("fresh", vram_mb=8000, unused=2)

    result = done("cleanup_vram", vram_target_percent=10)

    assert asked(service) == []
    assert result.level == "warn"
    assert result.summary == "Nothing could be freed: 85 % are used."
    said = capsys.readouterr().out
    assert "diffusers/busy stays: it is in use." in said
    assert "diffusers/fresh stays: it was used just now." in said


def test_it_says_what_it_frees(service, capsys):
    service.load("sdxl", vram_mb=9000, unused=900)
    service.load("flux", vram_mb=9000, in_use=1)

    done("cleanup_vram")

    said = capsys.readouterr().out
    assert "18000 of 20000 MB are used (90 %); the target is 60 %." in said
    assert "diffusers/sdxl unloaded: 9000 MB (45 % used now)" in said


def test_whatever_a_model_is_called_it_is_one_line_of_output(service, capsys):
    service.load('a\n{"progress": 100}', vram_mb=18_000, unused=900)

    result = done("cleanup_vram")

    assert result.data["unloaded"] == ['diffusers/a {"progress": 100}']
    assert not any(line.startswith("{") for line in capsys.readouterr().out.splitlines())


def test_an_error_with_one_model_does_not_stop_the_others(service, capsys, monkeypatch):
    service.load("stubborn", vram_mb=9000, unused=900)
    service.load("other", vram_mb=9000, unused=600)
    unload = service._unload

    def refuse(backend, body):
        if body["model"] == "stubborn":
            service.use("stubborn")  # somebody was quicker
        return unload(backend, body)

    monkeypatch.setattr(service, "_unload", refuse)

    result = done("cleanup_vram", vram_target_percent=10)

    assert result.data["failed"] == ["diffusers/stubborn"]
    assert result.data["unloaded"] == ["diffusers/other"]
    assert result.level == "warn"
    said = capsys.readouterr().out
    assert "diffusers/stubborn was not unloaded: Answers with error 409." in said
    assert "stubborn is in use" not in said, "what a service says is for administrators"


def test_models_of_ollama_are_asked_to_go_at_once(service, ollama):
    service.load("busy", vram_mb=18_000, in_use=1)
    ollama.load("llama3.2", unused=200)

    result = done("cleanup_vram")

    assert ("POST", "/api/generate") in [call[:2] for call in ollama.requests]
    assert ollama.state()["models"] == []
    assert result.data["unloaded"] == ["ollama/llama3.2:latest"]
    assert result.summary.endswith("The target of 60 % was not reached.")


def test_a_model_of_ollama_in_its_first_call_stays(service, ollama):
    service.load("busy", vram_mb=18_000, in_use=1)
    ollama.load("llama3.2", in_use=1)

    done("cleanup_vram")

    assert asked(ollama) == []


def test_how_long_ollama_has_not_used_a_model_is_known_from_the_ticks(service, ollama):
    service.load("busy", vram_mb=18_000, in_use=1)
    ollama.load("llama3.2", unused=10, keep_alive=60)  # seems unused for four minutes
    ollama.load("qwen2.5:14b", unused=300, keep_alive=86_400)  # and this, to be used tomorrow
    looks = checks.Context(now=timezone.now(), policy=Policy(), runtime=Path("/"))
    seen = checks.CHECKS["ollama"].look(looks)
    for row in seen.facts["models"]:
        if row["model"] == "llama3.2:latest":
            row["expires_at"] = "2026-01-01T00:00:00Z"  # it has been used since
    minute = timezone.now() - timedelta(seconds=60)
    Snapshot.objects.create(host="here", at=minute, readings=[seen.as_json()])

    done("cleanup_vram", vram_target_percent=10)

    assert asked(ollama) == ["qwen2.5:14b"]


def test_a_model_of_which_nobody_knows_the_last_use_stays(service, ollama, capsys):
    service.load("busy", vram_mb=18_000, in_use=1)
    ollama.load("llama3.2", unused=300, keep_alive=86_400)

    done("cleanup_vram")

    assert asked(ollama) == []
    assert "it is not known when it was used last" in capsys.readouterr().out


def test_nothing_is_done_below_the_target(service):
    service.load("small", vram_mb=2000, unused=900)

    result = done("cleanup_vram")

    assert asked(service) == []
    assert result.summary == "Nothing to free: 10 % are used."


@pytest.mark.parametrize("mode", ["down", "garbage", "error", "wrong"])
def test_without_a_reading_nothing_is_unloaded(service, mode):
    service.load("old", vram_mb=19_000, unused=900)
    service.mode(mode)

    with pytest.raises(Failure, match="not known how much VRAM"):
        done("cleanup_vram")

    assert asked(service) == []


def test_between_two_models_it_makes_way(service):
    service.load("old", vram_mb=9000, unused=900)
    service.load("other", vram_mb=9000, unused=600)
    told = context("cleanup_vram", vram_target_percent=0)
    unload = service._unload

    def and_stop(backend, body):
        told.stop_event.set()
        return unload(backend, body)

    service._unload = and_stop

    with pytest.raises(Stopped):
        CleanupVram().run(told)

    assert asked(service) == ["old"]


@pytest.mark.django_db(transaction=True)
def test_it_frees_as_a_process_of_its_own(service, ollama):
    service.load("sdxl", vram_mb=18_000, unused=900)

    with process("cleanup_vram", GPU_SERVICE_URL=service.url, OLLAMA_URL=ollama.url) as running:
        said, _ = running.communicate(timeout=60)

    assert running.returncode == 0, said
    assert asked(service) == ["sdxl"]


# ── When it is due ───────────────────────────────────────────────────────────────────────────────
def high(percent: float = 90.0) -> dict[str, Reading]:
    return {"vram": Reading("vram", State.HIGH, percent, "vram_high")}


def due(readings: dict[str, Reading], now: datetime = NOON) -> list[str]:
    return [job.skill for job, _why in skills.due(readings, False, now)]


@pytest.fixture
def job():
    skills.install(NOON)
    return Job.objects.get(skill="cleanup_vram")


def ended(job: Job, *, ago: float, **fields) -> Run:
    at = NOON - timedelta(seconds=ago)
    return run(job, now=at, **{"state": Run.State.SUCCEEDED, "ended_at": at, **fields})


def test_it_is_due_when_vram_is_high_whether_idle_or_not(job):
    [(found, why)] = skills.due(high(), False, NOON)

    assert found == job
    assert str(why) == "90 % of the VRAM are used, more than 80 %."


@pytest.mark.parametrize(
    "readings",
    [{}, high(80.0), {"vram": Reading("vram", State.UNKNOWN, None)}],
)
def test_it_is_not_due_when_vram_is_not_known_to_be_high(job, readings):
    assert due(readings) == []


@pytest.mark.parametrize(("unused", "expected"), [(2, []), (31, ["cleanup_vram"])])
def test_it_waits_until_something_may_go_rather_than_run_in_vain(job, unused, expected):
    used_at = (NOON - timedelta(seconds=unused)).timestamp()
    fresh = {"backend": "image", "model": "fresh", "vram_mb": 9000, "in_use": 0}
    busy = {**fresh, "model": "busy", "in_use": 1, "last_used": 0.0}
    models = [{**fresh, "last_used": used_at}, busy]
    readings = {"vram": Reading("vram", State.HIGH, 90.0, facts={"models": models})}

    assert due(readings) == expected


def test_it_is_not_due_while_it_waits_or_runs(job):
    run(job)

    assert due(high()) == []


def test_after_a_run_that_freed_nothing_it_rests_longer_each_time(job, settings, service):
    service.load("busy", vram_mb=18_000, in_use=1)
    done("cleanup_vram")
    ended(job, ago=299)
    assert due(high()) == []
    assert due(high(), NOON + timedelta(seconds=2)) == ["cleanup_vram"]

    done("cleanup_vram")

    assert due(high(), NOON + timedelta(seconds=290)) == []
    assert due(high(), NOON + timedelta(seconds=302)) == ["cleanup_vram"]


def test_after_a_run_that_freed_something_the_next_tick_decides(job, service):
    service.load("busy", vram_mb=12_000, in_use=1)
    service.load("old", vram_mb=6000, unused=600)
    done("cleanup_vram")
    ended(job, ago=5)

    assert due(high()) == ["cleanup_vram"]


def test_after_failures_it_rests(job):
    ended(job, ago=600, state=Run.State.FAILED, exit_code=70)
    ended(job, ago=400, state=Run.State.FAILED, exit_code=70)

    assert due(high()) == []
    assert due(high(), NOON + timedelta(seconds=201)) == ["cleanup_vram"]


def test_switched_off_it_is_never_due(job):
    job.set_active(False, now=NOON, by="anna")

    assert due(high()) == []


def test_held_with_everything_else_it_is_not_due(job):
    Policy.set_hold(Policy.Hold.DRAIN, now=NOON, by="anna")

    assert due(high()) == []

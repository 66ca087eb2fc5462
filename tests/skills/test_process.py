"""A skill's run is a process like any other: output, exit code, time limit, stop."""

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest
from django.utils import timezone

from daemon_app import journal, scheduler, skills, supervisor
from daemon_app.models import Job, Policy, Run
from daemon_app.skills import plugins
from tests.jobs import NOON
from tests.service import Service, belongs_to, ended, running, started, text, until
from tests.skills.doing import process
from tests.skills.test_plugins import install

pytestmark = pytest.mark.django_db(transaction=True)

ODD = """
import time
from daemon_app.skills import Failure, Result, Skill

class Odd(Skill):
    name = "odd"
    title = "Odd"

    def run(self, context):
        context.say("begun")
        {does}
"""
PATIENT = "context.stop_event.wait(60); context.make_way(); return Result('not stopped')"
DEAF = "[time.sleep(0.01) for _ in range(6000)]"


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Installs a skill that does what it is told."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield lambda does: install(tmp_path, ODD.format(does=does), odd="Odd")
    plugins.unload()
    sys.modules.pop("bach_odd", None)


@pytest.fixture
def daemon():
    daemon = Service()
    yield daemon
    daemon.close()


@pytest.fixture
def busy(service, monkeypatch):
    """A GPU service that is freeing memory: `cleanup_vram` waits for it."""
    say = service._vram
    monkeypatch.setattr(service, "_vram", lambda: {**say(), "eviction_in_progress": True})
    Policy.objects.create(pk=1, gpu_service_url=service.url)
    skills.install(NOON)
    return Job.objects.get(skill="cleanup_vram")


def lines() -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(journal.path()).read_text().splitlines()]


def last_line() -> dict[str, str]:
    return lines()[-1]


@pytest.mark.parametrize(
    ("does", "code", "said", "level"),
    [
        ("return Result('Done.', data={'n': 1})", 0, "Done.", "info"),
        ("return Result('Careful.', 'warn')", 0, "Careful.", "warn"),
        ("return Result('3 found.', 'error')", 1, "3 found.", "error"),
        ("raise Failure('The sea is rough.')", 70, "The sea is rough.", "error"),
        ("return 1 / 0", 70, "It failed: ZeroDivisionError: division by zero", "error"),
    ],
)
def test_the_exit_code_and_the_journal_say_how_it_ended(odd, does, code, said, level):
    odd(does)

    with process("odd", BACH_LANGUAGE="en") as begun:
        output, _ = begun.communicate(timeout=60)

    assert begun.returncode == code
    assert output.startswith("begun\n")
    assert "Traceback" not in output
    assert said.rpartition(": ")[2] in output.splitlines()[-1]
    line = last_line()
    assert (line["skill"], line["level"]) == ("odd", level)
    assert line["message"] == output.splitlines()[-1]


def test_an_error_is_told_with_its_place(odd):
    odd("return 1 / 0")

    with process("odd") as begun:
        output, _ = begun.communicate(timeout=60)

    assert "bach_odd.py:11: run: return 1 / 0" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_told_to_stop_it_makes_way(odd, number):
    odd(PATIENT)

    with process("odd") as begun:
        assert begun.stdout.readline() == "begun\n"
        begun.send_signal(number)
        begun.communicate(timeout=60)

    assert begun.returncode == 75
    assert last_line()["level"] == "info"


def test_told_twice_it_is_broken_off_where_it_is(odd):
    odd(DEAF)

    with process("odd") as begun:
        assert begun.stdout.readline() == "begun\n"
        begun.send_signal(signal.SIGTERM)
        with pytest.raises(Exception, match="timed out"):
            begun.wait(0.5)
        begun.send_signal(signal.SIGTERM)
        begun.communicate(timeout=60)

    assert begun.returncode == 75


def test_modules_in_the_working_folder_are_not_taken_for_ours(tmp_path):
    for name in ("json.py", "yaml.py", "daemon_app.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")

    with process("health_check", folder=str(tmp_path)) as begun:
        output, _ = begun.communicate(timeout=60)

    assert begun.returncode == 0, output


# ── As a run ─────────────────────────────────────────────────────────────────────────────────────
def test_a_skill_started_by_hand_has_a_run_with_output_and_end(daemon, tmp_path):
    (tmp_path / "a.json").write_text("{")
    Policy.objects.create(pk=1, config_folders=[str(tmp_path)])
    skills.install(NOON)
    daemon.start()

    run = ended(started(Job.objects.get(skill="validate_configs"), forced=True))

    assert (run.state, run.exit_code) == (Run.State.FAILED, 1), text(run)
    assert f"{tmp_path}/a.json:1:2: " in text(run)
    assert run.started_at < run.ended_at


def test_a_skill_is_stopped_like_any_run(daemon, busy):
    daemon.start()
    run = started(busy)
    until(lambda: process_of(run), "the start of the skill")
    until(lambda: heeds(process_of(run), signal.SIGTERM), "its heeding of signals")

    scheduler.stop(run, by="anna", now=timezone.now())

    assert ended(run).state == Run.State.CANCELLED
    assert (run.exit_code, run.signal) == (75, None)


def test_a_skill_has_a_time_limit_like_any_run(daemon, busy):
    Job.objects.filter(pk=busy.pk).update(timeout_seconds=2)
    daemon.start()

    run = ended(started(busy))

    assert run.state == Run.State.TIMED_OUT


def process_of(run: Run) -> psutil.Process | None:
    """Return the process of a skill's run once it is there."""
    for each in psutil.process_iter(["cmdline"]):
        if "daemon_app.skills" in (each.info["cmdline"] or []) and belongs_to(each, run):
            return each
    return None


def heeds(process: psutil.Process | None, number: int) -> bool:
    """Return whether a process has taken a signal into its own hands."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


def test_a_skill_that_makes_way_goes_back_in_line_with_what_it_goes_on_from(daemon, tmp_path):
    for n in range(1500):
        (tmp_path / f"{n:04}.yaml").write_text("a: 1\n" * 300)
    Policy.objects.create(pk=1, config_folders=[str(tmp_path)])
    skills.install(NOON)
    daemon.start()
    run = running(started(Job.objects.get(skill="validate_configs"), forced=True))

    supervisor.request_stop(run.folder, how="displace", fence=run.fence)

    def is_back() -> bool:
        run.refresh_from_db()
        return run.displacements == 1

    until(is_back, "its way back into line")
    assert run.state != Run.State.FAILED
    assert run.progress_token.startswith(str(tmp_path))


# ── By the tick ──────────────────────────────────────────────────────────────────────────────────
def test_when_vram_is_nearly_full_the_tick_frees_it(service):
    service.load("old", vram_mb=12_000, unused=900)
    service.load("busy", vram_mb=6000, in_use=1)
    Policy.objects.create(pk=1, gpu_service_url=service.url)
    daemon = Service(BACH_TICK_SECONDS="1")
    try:
        daemon.start()
        until(lambda: len(service.state()["loaded_models"]) == 1, "the freeing of VRAM")
        run = ended(until(lambda: Run.objects.filter(job__skill="cleanup_vram").first()))
    finally:
        daemon.close()

    assert run.state == Run.State.SUCCEEDED, text(run)
    assert run.trigger == Run.Trigger.TICK
    assert "12000 MB" in run.last_line


def test_when_nobody_is_here_the_tick_checks_the_configuration(service, ollama):
    Policy.objects.create(
        pk=1,
        gpu_service_url=service.url,
        ollama_url=ollama.url,
        idle_after_seconds=2,
        foreign_load_percent=None,
        watch_logins=False,
        watch_gpu=False,
    )
    daemon = Service(BACH_TICK_SECONDS="1")
    try:
        daemon.start()
        run = ended(until(lambda: Run.objects.filter(job__skill="validate_configs").first()))
    finally:
        daemon.close()

    assert run.state == Run.State.SUCCEEDED, text(run)
    assert {line["skill"] for line in lines()} >= {"health_check", "validate_configs"}

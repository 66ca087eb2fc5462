"""All that is configured is checked: our own rows, and the files of the folders that are named."""

import json
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from daemon_app import scheduler, skills
from daemon_app.models import Incident, Job, Policy, Pool, Run
from daemon_app.skills import Result, Stopped, validate_configs
from tests.jobs import NOON, job, run
from tests.skills.doing import context, done, process

pytestmark = pytest.mark.django_db


def problems(result: Result) -> list[str]:
    """Return what was found, as `where: reason`."""
    return [f"{each['path']}: {each['reason']}" for each in result.data["problems"]]


def broken(**fields) -> Job:
    """Return a job whose stored row has become wrong."""
    found = job("nightly")
    Job.objects.filter(pk=found.pk).update(**fields)
    return found


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────
def test_where_all_is_well_it_says_how_much_it_has_looked_at():
    skills.install(NOON)
    job("nightly", job_type="cron", schedule="0 3 * * *")

    result = done("validate_configs")

    assert result == Result(
        "All is well: 3 jobs and 0 files checked.",
        "info",
        {"jobs": 3, "files": 0, "count": 0, "new": 0, "problems": []},
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"job_type": "cron", "schedule": "61 * * * *"}, "schedule: The field ‘minute’ only goes"),
        ({"timezone": "Mars/Olympus"}, "time zone: "),
        ({"pools": {"gpu": 1}}, "pools: There is no pool “gpu”."),
        ({"needs_services": ["gpt"]}, "services that must answer: "),
        ({"working_directory": "/nowhere/at/all"}, "The working folder “/nowhere/at/all” does not"),
        ({"command": "", "script_path": "/nowhere/a.sh"}, "The script “/nowhere/a.sh” does not ex"),
        ({"command": "if true; then"}, "command: the shell can't read it ("),
        ({"stop_command": "kill ("}, "stop command: the shell can't read it ("),
        (
            {"command": "frobnicate -x", "use_shell": False},
            "The program “frobnicate” was not found",
        ),
        (
            {"environment": {"BACH_DATA_DIR": "/"}},
            "environment: “BACH_DATA_DIR” belongs to the dae",
        ),
        ({"finish_by": "25:00"}, "done by: "),
        ({"schedule_error": "Nobody can read this."}, "Nobody can read this."),
    ],
)
def test_a_job_that_has_become_wrong_is_found(fields, told):
    broken(**fields)

    result = done("validate_configs")

    assert result.level == "error"
    assert any(each.startswith(f"Job “nightly”: {told}") for each in problems(result)), result


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "make all; echo $((1 + 2)) | sort && (cd / && ls)"},
        {"command": "python -V", "use_shell": False},
        {"command": "sh -c true", "use_shell": False},
        {"working_directory": "~"},
        {"needs_services": ["gpu_service", "ollama"]},
    ],
)
def test_a_sound_job_is_not_complained_about(fields):
    broken(**fields)

    assert problems(done("validate_configs")) == []


def test_a_script_that_may_not_be_executed_is_found(tmp_path):
    script = tmp_path / "backup.sh"
    script.write_text("echo hi\n")
    broken(command="", script_path=str(script))

    assert problems(done("validate_configs")) == [
        f"Job “nightly”: The script “{script}” may not be executed."
    ]


def test_what_is_wrong_with_a_job_that_is_switched_off_is_only_a_warning():
    broken(working_directory="/nowhere/at/all", is_active=False)

    assert done("validate_configs").level == "warn"


def test_rules_and_pools_that_have_become_wrong_are_found():
    Policy.objects.create(pk=1, slow_ms=0)
    Pool.objects.create(name="gpu", size=0, updated_at=NOON)

    found = problems(done("validate_configs"))

    assert [each.partition(": ")[0] for each in found] == ["Settings", "Pool “gpu”"]


# ── Files ────────────────────────────────────────────────────────────────────────────────────────
def test_every_file_at_and_below_the_folders_is_checked(tmp_path, capsys):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "deep" / "b.YAML").write_text("a: 1\na: 2\n")
    (tmp_path / "deep" / "er" / "c.toml").write_text("a =\n")
    (tmp_path / "notes.txt").write_text("{")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "d.json").write_text("{")

    result = done("validate_configs", config_folders=[str(tmp_path)])

    assert result.summary == "2 problems in 0 jobs and 3 files."
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/deep/b.YAML:2:1: “a” is given twice (first in line 1); one of them is lost.",
        f"{tmp_path}/deep/er/c.toml:1:4: This is no TOML: Invalid value.",
    ]


def test_links_in_a_circle_and_out_of_the_folders_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text("{")
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "out").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "b.json").symlink_to(tmp_path / "out" / "a.json")

    result = done("validate_configs", config_folders=[str(tmp_path / "in")])

    assert problems(result) == [
        f"{tmp_path}/in/b.json: This is no JSON: Expecting property name enclosed in double quotes."
    ]


def test_a_folder_that_is_not_there_and_a_file_that_can_not_be_read_are_told(tmp_path):
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")

    result = done("validate_configs", config_folders=[str(tmp_path), "/nowhere/at/all"])

    assert problems(result) == [
        "/nowhere/at/all: This folder does not exist.",
        f"{tmp_path}/gone.json: It can't be read: No such file or directory.",
    ]


def test_names_that_are_no_text_are_told_all_the_same(tmp_path, capsys):
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))).write_text("{")
    (tmp_path / "two\nlines.json").write_text("{")

    result = done("validate_configs", config_folders=[str(tmp_path)])

    assert {each["path"] for each in result.data["problems"]} == {
        f"{tmp_path}/\\xff.json",
        f"{tmp_path}/two\\nlines.json",
    }
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert Incident.objects.get().facts["n"] == 2


def test_not_more_than_so_many_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(validate_configs, "MOST_FILES", 3)
    for n in range(5):
        (tmp_path / f"{n}.json").write_text("{}")

    result = done("validate_configs", config_folders=[str(tmp_path)])

    assert result.level == "warn"
    assert problems(result) == [f"{tmp_path}: There are more files; only the first 3 are checked."]


# ── What a person is told ────────────────────────────────────────────────────────────────────────
def test_a_person_is_told_of_new_problems_once(tmp_path):
    skills.install(NOON)
    (tmp_path / "a.json").write_text("{")
    folders = [str(tmp_path)]
    done("validate_configs", config_folders=folders)
    [told] = Incident.objects.all()
    assert str(told).startswith(
        f"“validate_configs” found 1 problems, 1 of them new. The first: {tmp_path}/a.json:1:2: "
    )
    told.acknowledge(by="anna", now=NOON)

    (tmp_path / "a.json").write_text("\n\n{")  # it has moved, and is the same
    done("validate_configs", config_folders=folders)
    assert not Incident.objects.unseen().exists()

    (tmp_path / "b.json").write_text("{")
    done("validate_configs", config_folders=folders)
    assert Incident.objects.unseen().get().facts["new"] == 1


# ── Making way ───────────────────────────────────────────────────────────────────────────────────
def test_it_goes_on_where_the_slice_before_has_left_off(tmp_path, monkeypatch, capsys):
    for n in range(4):
        (tmp_path / f"{n}.json").write_text("{")
    monkeypatch.setenv("BACH_RUN_ID", "7")
    monkeypatch.setenv("BACH_PROGRESS", str(tmp_path / "progress"))
    first = context("validate_configs", config_folders=[str(tmp_path)])

    def until_the_second(text: str) -> None:
        print(text)
        if "1.json" in text:
            first.stop_event.set()

    monkeypatch.setattr(first, "say", until_the_second)
    with pytest.raises(Stopped):
        validate_configs.ValidateConfigs().run(first)
    told = [line for line in capsys.readouterr().out.splitlines() if "token" in line]
    token = json.loads(told[-1])["token"]
    assert token == str(tmp_path / "1.json")

    monkeypatch.setenv("BACH_PROGRESS_TOKEN", token)
    result = done("validate_configs", config_folders=[str(tmp_path)])

    said = capsys.readouterr().out
    assert "0.json:" not in said
    assert "2.json:" in said
    assert result.summary == "4 problems in 0 jobs and 4 files."


@pytest.mark.django_db(transaction=True)
def test_asked_to_stop_it_ends_between_two_files(tmp_path):
    for n in range(1500):
        (tmp_path / f"{n:04}.yaml").write_text("a: 1\n" * 300)
    Policy.objects.create(pk=1, config_folders=[str(tmp_path)])

    with process("validate_configs") as running:
        assert running.stdout is not None
        assert "0000.yaml" in running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        said = running.stdout.read()  # not `communicate`: it would begin in the middle of a letter

    assert running.returncode == 75, said[-500:]
    assert "1499.yaml" not in said


# ── When it is due ───────────────────────────────────────────────────────────────────────────────
DAY = timedelta(hours=24)


def due(idle: bool | None, now=NOON) -> list[str]:
    return [found.skill for found, _why in skills.due({}, idle, now)]


@pytest.fixture
def checks():
    skills.install(NOON)
    return Job.objects.get(skill="validate_configs")


def ended(of: Job, ago: timedelta, **fields) -> Run:
    at = NOON - ago
    return run(of, now=at, **{"state": Run.State.SUCCEEDED, "ended_at": at, **fields})


def test_it_is_due_when_idle_and_not_done_yet(checks):
    [(found, why)] = skills.due({}, True, NOON)

    assert found == checks
    assert str(why) == "The machine is idle, and this has not been done for a day."


@pytest.mark.parametrize("idle", [False, None])
def test_it_is_not_due_while_somebody_may_be_here(checks, idle):
    assert due(idle) == []


@pytest.mark.parametrize(
    "fields", [{}, {"state": Run.State.FAILED, "exit_code": 1}], ids=["well", "found problems"]
)
def test_once_done_it_is_due_again_a_day_later(checks, fields):
    ended(checks, timedelta(0), **fields)

    assert due(True, NOON + DAY - timedelta(seconds=1)) == []
    assert due(True, NOON + DAY) == ["validate_configs"]


def test_what_did_not_come_to_its_end_is_tried_again_with_growing_pauses(checks):
    ended(checks, timedelta(hours=30))
    ended(checks, timedelta(minutes=40), state=Run.State.FAILED, exit_code=70)
    ended(checks, timedelta(minutes=19), state=Run.State.TIMED_OUT)

    assert due(True) == []
    assert due(True, NOON + timedelta(minutes=1)) == ["validate_configs"]


def test_displaced_and_back_in_line_it_is_not_started_once_more(checks):
    run(checks, displacements=1)

    assert due(True) == []


def test_paused_it_is_not_due(checks):
    checks.pause(NOON + DAY, now=NOON, by="anna")
    assert due(True) == []

    scheduler.tick(NOON + DAY)

    assert due(True, NOON + DAY) == ["validate_configs"]

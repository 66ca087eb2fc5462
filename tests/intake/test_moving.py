"""What becomes of drafts: all of it or nothing, once, and with the runs they had."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import intake, legacy, output
from daemon_app.intake import from_crontab, from_definitions, from_legacy, past
from daemon_app.intake.drafts import Draft, fit_name, name_of, named, origin
from daemon_app.intake.past import Past
from daemon_app.intake.plan import OutdatedError
from daemon_app.models import Job, Run
from daemon_app.models.job import NAME
from daemon_app.runner import command_line
from tests.intake.legacy import add_runs, change, database
from tests.jobs import NOON, job

BERLIN = "Europe/Berlin"


def of_crontab(text: str, *, me: str = "anna", system: bool = False) -> list[Draft]:
    return from_crontab.drafts({"": text}, me=me, zone=BERLIN, system=system)


def moved(drafts: list[Draft], **wanted: Any) -> list[Job]:
    plan = intake.plan(drafts, now=NOON, **wanted)
    return intake.carry_out(plan, now=NOON, by="anna", **wanted)


@contextmanager
def of_database(path: Path) -> Iterator[tuple[list[Draft], Past]]:
    with legacy.opened(path) as source:
        found = source.read()
        runs = source.newest_runs([row.number_of_job for row in found.jobs], 1_000)
        yield from_legacy.drafts(found, runs, zone=BERLIN), Past(source, BERLIN)


# ── Crontabs ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_a_crontab_comes_switched_off_and_once() -> None:
    text = "CRON_TZ=Asia/Tokyo\nPATH=/opt/bin\n# Backup\n30 3 * * 1-5 cd /srv && tar c .\n"

    (made,) = moved(of_crontab(text))
    again = intake.plan(of_crontab(f"\n{text}"), now=NOON)

    assert (made.name, made.description, made.is_active) == ("tar", "Backup", False)
    assert (made.schedule, made.timezone) == ("30 3 * * 1-5", "Asia/Tokyo")
    assert (made.environment, made.timeout_seconds) == ({"PATH": "/opt/bin"}, 0)
    assert (made.overlap, made.misfire) == ("skip", "skip")
    assert [step.what for step in again.steps] == ["known"]
    assert again.steps[0].job == made


@pytest.mark.django_db
def test_jobs_that_have_come_stay_what_people_have_made_of_them() -> None:
    (made,) = moved(of_crontab("@daily tar c .\n"))
    made.name, made.command = "archive", "tar cz ."
    made.store(now=NOON, by="anna")

    assert moved(of_crontab("@daily tar c .\n")) == []
    assert Job.objects.get().name == "archive"


@pytest.mark.django_db
def test_with_active_they_start_by_their_schedule() -> None:
    (made,) = moved(of_crontab("0 3 * * * tar c .\n"), active=True)

    assert made.next_due_at == datetime(2026, 11, 25, 2, tzinfo=UTC)


@pytest.mark.django_db
def test_the_same_line_twice_comes_twice_and_names_stay_apart() -> None:
    job("tar")
    text = "0 3 * * * tar c .\n" * 2

    made = moved(of_crontab(text))

    assert [each.name for each in made] == ["tar-2", "tar-2-2"]
    assert moved(of_crontab(text)) == []


@pytest.mark.django_db
def test_what_can_not_come_says_why() -> None:
    text = "@reboot x\n0 22-2 * * * x\n0 0 30 2 * x\n* * * * *\nHOME=here\n@daily x\n"
    steps = intake.plan(of_crontab(text), now=NOON).steps

    assert {step.what for step in steps} == {"refused"}
    codes = [step.draft.refusal.code for step in steps]
    assert codes == ["reboot", "not_ours", "not_ours", "no_command", "not_ours"]
    assert all(str(step.remarks[0]) for step in steps)
    assert [step.draft.where[-1] for step in steps] == ["1", "2", "3", "4", "6"]


@pytest.mark.django_db
def test_of_a_crontab_of_the_system_only_our_own_comes() -> None:
    drafts = of_crontab("@daily root a\n@daily anna b\n", system=True)

    assert [draft.refusal and draft.refusal.code for draft in drafts] == ["other_user", None]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("0 3 * * * cat%one%two\\%", "one\ntwo%\n"),
        ("0 3 * * * cat%END_OF_INPUT%$HOME `id` \\x", "END_OF_INPUT\n$HOME `id` \\x\n"),
        ("0 3 * * * echo 5\\%", "5%\n"),
        ('SHELL=/bin/bash\n0 3 * * * cat <<<"$((1 + 1)) it\'s"', "2 it's\n"),
        ("SHELL=/bin/bash\n0 3 * * * cat%[[ 1 ]]", "[[ 1 ]]\n"),
        ("0 3 * * * cat # all of it%yes", "yes\n"),
        ("0 3 * * * cat; echo \\\\%yes", "yes\n\\\n"),
    ],
)
def test_a_command_writes_what_it_wrote_for_cron(line: str, written: str) -> None:
    (made,) = moved(of_crontab(line))

    done = subprocess.run(
        command_line(made.definition()), capture_output=True, text=True, check=False
    )

    assert done.stdout == written


# ── Names ────────────────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.text(max_size=100), max_size=5))
def test_every_name_becomes_one_that_a_job_may_have(names: list[str]) -> None:
    found = named(Draft(name, origin("x", n), "") for n, name in enumerate(names))

    assert all(NAME.fullmatch(draft.name) and len(draft.name) <= 80 for draft in found)
    assert len({draft.name.casefold() for draft in found}) == len(names)


@given(st.text(max_size=100))
def test_every_command_has_a_name(command: str) -> None:
    assert NAME.fullmatch(fit_name(name_of(command)))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/restic backup ~/", "restic"),
        ("sudo nice -n 10 python3 -u /srv/tools/clean_up.py --all", "clean_up.py"),
        ("test -x /usr/sbin/anacron || run-parts /etc/cron.daily", "run-parts"),
        ("[ -d /run ] && A=1 flock -n /tmp/lock", "lock"),
    ],
)
def test_a_job_is_named_by_what_its_command_is_about(command: str, name: str) -> None:
    assert name_of(command) == name


# ── An original BACH ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
@pytest.mark.parametrize("generation", ["daemon", "scheduler"])
def test_jobs_of_an_original_bach_come_with_their_runs(tmp_path: Path, generation: str) -> None:
    path = database(
        tmp_path / "bach.db",
        {"name": "token-check", "job_type": "interval", "schedule": "30", "parameters": '{"A": 1}'},
        {"name": "cleanup", "job_type": "cron", "schedule": "0 4 * * *", "is_active": 0},
        {"name": "once", "job_type": "once", "schedule": "2026-12-24T18:00"},
        generation=generation,
    )
    add_runs(path, 30, generation=generation)

    with of_database(path) as (drafts, before):
        plan = intake.plan(drafts, active=True, now=NOON)
        made = intake.carry_out(plan, active=True, now=NOON, by="anna", before=before)

    token, cleanup, once = made
    assert (token.schedule, token.parameters, token.is_active) == ("30m", {"A": "1"}, True)
    assert (cleanup.is_active, once.schedule) == (False, "2026-12-24 18:00")
    runs = list(token.runs.order_by("id"))
    assert len(runs) == before.came == 30
    first, tenth = runs[0], runs[9]
    assert first.started_at == datetime(2023, 11, 14, 21, 14, 20, tzinfo=UTC)
    assert (first.state, first.duration(NOON)) == ("succeeded", timedelta(seconds=2))
    assert (tenth.state, tenth.last_line) == ("failed", "run 10")
    assert output.read(tenth.folder, 0).data == b"run 10\n"
    assert tenth.output_bytes == 7
    assert tenth.reason
    assert not list((Path(settings.RUNS_DIR)).glob(".arriving*"))


@pytest.mark.django_db
def test_runs_that_make_no_sense_stay_and_odd_ones_are_put_right(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "a", "job_type": "interval", "schedule": "1h"})
    for started, result, text in (
        ("2026-11-01T10:00:00", "success", "a"),
        ("2026-11-01T10:00:00", "success", "a"),  # the same instant again
        ("2026-10-25T02:30:00", "timeout", ""),  # an hour that is there twice
        ("2026-11-02 10:00:00+00:00", "running", "\x1b[31mred\x1b[0m"),
        ("soon", "success", "lost"),
        ("0001-01-01T00:00:00", "success", "lost"),
        ("9999-01-01T00:00:00", "success", "lost"),
    ):
        change(
            path,
            "INSERT INTO daemon_runs (job_id, started_at, result, output) VALUES (1, ?, ?, ?)",
            *(started, result, text),
        )

    with of_database(path) as (drafts, before):
        intake.carry_out(intake.plan(drafts, now=NOON), now=NOON, by="anna", before=before)

    runs = list(Run.objects.order_by("id"))
    assert [run.state for run in runs] == ["succeeded", "succeeded", "timed_out", "lost"]
    assert runs[1].due_at - runs[0].due_at == timedelta(microseconds=1)
    assert runs[2].started_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert runs[3].last_line == "red"
    assert runs[3].reason


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("begun", "ended", "took", "at"),
    [
        # The clocks were put back meanwhile.
        ("2026-10-25T02:50:00", "2026-10-25T02:10:00", 60, "2026-10-25T01:10:00Z"),
        # It says that it has not ended yet.
        ("2026-11-24T09:00:00", "2027-11-24T09:00:00", 9e9, NOON.isoformat()),
        ("2026-11-24T09:00:00", "2026-11-24T08:00:00", 90, "2026-11-24T08:01:30Z"),
    ],
)
def test_when_a_run_ended_is_never_before_it_began_and_never_to_come(
    tmp_path: Path, begun: str, ended: str, took: float, at: str
) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"})
    change(
        path,
        "INSERT INTO daemon_runs (job_id, started_at, finished_at, duration_seconds) "
        "VALUES (1, ?, ?, ?)",
        *(begun, ended, took),
    )

    with of_database(path) as (drafts, before):
        intake.carry_out(intake.plan(drafts, now=NOON), now=NOON, by="anna", before=before)

    assert Run.objects.get().ended_at == datetime.fromisoformat(at)


@pytest.mark.django_db
def test_output_beyond_what_there_is_room_for_stays_the_oldest_first(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"})
    add_runs(path, 30)

    with of_database(path) as (drafts, before):
        before.room = 50
        intake.carry_out(intake.plan(drafts, now=NOON), now=NOON, by="anna", before=before)

    runs = list(Run.objects.order_by("id"))
    assert [run.output_removed for run in runs] == [True] * 23 + [False] * 7
    assert [run.folder.exists() for run in runs] == [False] * 23 + [True] * 7
    assert [run.output_bytes for run in runs[:23]] == [0] * 23


@pytest.mark.django_db
def test_what_would_be_tidied_away_stays_but_the_newest(tmp_path: Path) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"})
    add_runs(path, 20)

    with of_database(path) as (drafts, before):
        before.since = NOON
        intake.carry_out(intake.plan(drafts, now=NOON), now=NOON, by="anna", before=before)

    assert [run.last_line for run in Run.objects.all()] == ["run 20"]


@pytest.mark.django_db
@pytest.mark.parametrize("at", ["store", "rows"])
def test_what_breaks_off_leaves_nothing(tmp_path: Path, at: str) -> None:
    path = database(tmp_path / "bach.db", {"name": "a"}, {"name": "b"})
    add_runs(path, 20, jobs=2)
    before_it = set(Path(settings.RUNS_DIR).rglob("*"))

    with of_database(path) as (drafts, before):
        plan = intake.plan(drafts, now=NOON)
        broken: Any
        patched: Any
        if at == "store":
            job("b")
            broken = pytest.raises(OutdatedError)
            patched = patch.object(past, "BATCH", past.BATCH)
        else:
            broken = pytest.raises(OSError, match="no room")
            patched = patch.object(past, "store", side_effect=OSError("no room"))
        with broken, patched:
            intake.carry_out(plan, now=NOON, by="anna", before=before)

    assert not Job.objects.filter(name="a").exists()
    assert not Run.objects.exists()
    assert set(Path(settings.RUNS_DIR).rglob("*")) == before_it


@pytest.mark.django_db
def test_jobs_that_are_not_for_us_yet_or_at_all_say_so(tmp_path: Path) -> None:
    path = database(
        tmp_path / "bach.db",
        {"name": "chain", "job_type": "chain", "command": "3"},
        {"name": "event", "job_type": "event"},
        {"name": "odd", "job_type": "<b>"},
        {"name": "nothing", "command": " "},
        {"name": "huge", "command": "x" * 10_000_000},
        {"name": "nul", "command": "a\0b"},
        {"name": "over", "job_type": "once", "schedule": "2020-01-01T00:00"},
        {"name": "never", "job_type": "cron", "schedule": "0 0 30 2 *"},
        {"name": "<img src=x onerror=alert(1)>", "command": "echo '<script>'"},
        {"name": "\x1b[2J\u202e", "parameters": "[" * 100_000},
    )

    with of_database(path) as (drafts, _before):
        steps = intake.plan(drafts, now=NOON).steps

    codes = [step.draft.refusal.code for step in steps if step.draft.refusal]
    assert codes == [
        *("chain", "event", "kind", "no_command", "too_long", "nul", "passed", "not_ours")
    ]
    assert [step.draft.name for step in steps if step.what == "new"] == [
        "img src-x onerror-alert(1)",
        "2J",
    ]


@pytest.mark.django_db
def test_a_job_that_was_renamed_there_is_known_and_one_of_another_database_is_not(
    tmp_path: Path,
) -> None:
    one = database(tmp_path / "one.db", {"name": "a"}, generation="scheduler")
    two = database(tmp_path / "two.db", {"name": "b", "created_at": "2026-02-02T02:02:02"})
    with of_database(one) as (drafts, _before):
        moved(drafts)
    change(one, "UPDATE scheduler_jobs SET name = 'renamed'")
    change(one, "ALTER TABLE scheduler_jobs RENAME TO daemon_jobs")

    with of_database(one) as (drafts, _before):
        assert [step.what for step in intake.plan(drafts, now=NOON).steps] == ["known"]
    with of_database(two) as (drafts, _before):
        assert [step.what for step in intake.plan(drafts, now=NOON).steps] == ["new"]


def test_what_lies_around_a_bach_is_counted(tmp_path: Path) -> None:
    services = tmp_path / "system/hub/_services"
    for name, text in (
        ("recurring/config.json", '{"tasks": {"self-check": {}, "backup": {}}}'),
        ("daemon/profiles/ati.json", "{}"),
        ("daemon/profiles/broken.json", "{"),
    ):
        (services / name).parent.mkdir(parents=True, exist_ok=True)
        (services / name).write_text(text)
    (services / "daemon/profiles/fifo.json").symlink_to("/dev/zero")

    found = from_legacy.others_beside(tmp_path / "system/data/bach.db")

    assert found == {"recurring": 2, "profiles": 1}


# ── Definitions of ours ──────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_definitions_come_once_and_leave_a_job_of_their_name_alone() -> None:
    text = (
        "jobs:\n  - {name: a, job_type: cron, schedule: 0 3 * * *, command: x}\n"
        "  - {name: b, job_type: manual, command: y, is_active: false}\n"
    )
    job("b", command="mine")

    (made,) = moved(from_definitions.drafts({"jobs.yaml": text}), active=True)
    again = intake.plan(from_definitions.drafts({"jobs.yaml": text}), now=NOON)

    assert (made.name, made.is_active) == ("a", True)
    assert Job.objects.get(name="b").command == "mine"
    assert [step.what for step in again.steps] == ["known", "known"]

"""Jobs become what files say: all or nothing, once, and nobody else's job is touched."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from daemon_app import intake
from daemon_app.intake import (
    applying,
    definitions,
    file_schema,
    folder,
    from_crontab,
    from_definitions,
)
from daemon_app.intake.applying import Plan, set_of
from daemon_app.intake.definitions import DefinitionError
from daemon_app.intake.folder import TakenError
from daemon_app.intake.plan import OutdatedError
from daemon_app.models import Change, Job, Policy, Pool, Run
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
FAR = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def planned(text: str, now: datetime = LATER, **wanted: Any) -> Plan:
    return applying.plan(definitions.read_all(text, "a.yaml"), now=now, **wanted)


def applied(text: str, *, prune: bool = False, **wanted: Any) -> Plan:
    plan = planned(text, **wanted)
    applying.carry_out(plan, prune=prune, now=LATER, by="anna")
    return plan


def told(plan: Plan) -> dict[str, str]:
    return {move.name or move.kind: move.what for move in plan.moves}


def exported() -> str:
    return definitions.as_text(definitions.of_all(Job.objects.filter(skill="")))


# ── Round trip ───────────────────────────────────────────────────────────────────────────────────
LINE = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20)
FIELDS = st.fixed_dictionaries(
    {"command": st.lists(LINE, min_size=1, max_size=3).map(lambda lines: "x\n" + "\n".join(lines))},
    optional={
        "description": LINE,
        "is_active": st.booleans(),
        "arguments": st.sampled_from(["", "-a 'b c'", "yes"]),
        "environment": st.dictionaries(st.sampled_from(["A", "no", "B_1"]), LINE, max_size=2),
        "nice": st.integers(0, 19),
        "timeout_seconds": st.integers(0, 1000),
        "deadline": st.integers(1, 9999).map(lambda hours: FAR + timedelta(hours=hours)),
        "overlap": st.sampled_from(["skip", "queue", "parallel"]),
        "pools": st.sampled_from([{}, {"gpu": 1}, {"gpu": 2}]),
        "needs_services": st.sampled_from([[], ["ollama"], ["gpu_service", "ollama"]]),
        "window": st.sampled_from(["", "22:00-06:00"]),
        "keep_days": st.none() | st.integers(1, 900),
    },
)
WHEN = st.sampled_from(
    [("cron", "30 3 * * MON-FRI"), ("interval", "90m"), ("cron", "*/5 * * * *"), ("manual", "")]
)


@bounded(max_examples=15, deadline=None)
@given(st.lists(st.tuples(FIELDS, WHEN, st.sampled_from(["Asia/Tokyo", "UTC"])), max_size=3))
def test_what_was_exported_makes_the_same_jobs_elsewhere(
    wanted: list[tuple[dict[str, Any], tuple[str, str], str]],
) -> None:
    Job.objects.all().delete()
    Pool.objects.all().delete()
    Pool(name="gpu", size=3, description="both: cards").store(now=NOON, by="anna")
    for number, (fields, (kind, schedule), zone) in enumerate(wanted):
        assume(kind != "manual" or "deadline" not in fields)
        job(f"Jöb {number}: a", job_type=kind, schedule=schedule, timezone=zone, **fields)
    before = exported()

    assert not planned(before).would_change()
    Job.objects.all().delete()
    Pool.objects.all().delete()
    applied(before)

    assert exported() == before
    assert not planned(before).would_change()


editor = Draft202012Validator(file_schema.schema())


def test_an_editor_takes_what_is_exported_and_not_what_is_refused() -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    job("a", max_retries=1, retry_exit_codes=[1], keep_days=3, deadline=None)
    job("b", environment={"A": "1"}, pools={"gpu": 1}, needs_services=["ollama"])

    Draft202012Validator.check_schema(editor.schema)
    editor.validate(yaml.safe_load(exported()))
    editor.validate(definitions.as_mapping(Job.objects.get(name="b"), values=False))
    wrongs: tuple[dict[str, Any], ...] = (
        {"name": "a", "comand": "x"},
        {"name": "a", "nice": 20},
        {"name": "a", "overlap": "never"},
        {"name": "a", "environment": {"A": []}},
        {"jops": []},
        {"jobs": [{"command": "x"}]},
        {"pools": {"gpu": 0}},
        {},
    )
    for wrong in wrongs:
        assert not editor.is_valid(wrong), wrong


def test_the_examples_of_the_manual_are_jobs() -> None:
    manual = Path(__file__).parents[2] / "docs/definitions.md"
    examples = re.findall(r"```yaml\n(.*?)```", manual.read_text(), re.DOTALL)

    assert len(examples) == 2
    for example in examples:
        assert set(told(planned(example)).values()) <= {"new", "changed"}
        editor.validate(yaml.safe_load(example))


# ── Plan and deed ────────────────────────────────────────────────────────────────────────────────
def test_a_change_is_told_by_field_and_done_once() -> None:
    there = job("a", environment={"TOKEN": "old", "GONE": "1"}, command="x\ny")
    text = (
        "name: a\njob_type: manual\ntimezone: Europe/Berlin\ncommand: |\n  x\n  z\nnice: 3\n"
        "environment: {TOKEN: new}\n"
    )

    plan = planned(text)
    assert Job.objects.get().nice == 0
    applied(text)

    (move,) = plan.moves
    assert move.where == "a.yaml:1"
    assert move.changes == {
        "command": ["x\ny", "x\nz"],
        "nice": [0, 3],
        "environment": [["GONE", "TOKEN"], ["TOKEN"]],
    }
    assert move.values_changed == ("environment.TOKEN",)
    there.refresh_from_db()
    assert (there.command, there.nice, there.version) == ("x\nz", 3, 2)
    change = Change.objects.of_jobs(there.pk).first()
    assert change
    assert (change.by, {*change.fields}) == ("anna", {"command", "nice", "environment"})
    assert not planned(text).would_change()
    assert Change.objects.of_jobs(there.pk).count() == 2


def test_what_a_file_does_not_name_gets_its_default() -> None:
    job("a", nice=5, description="old")

    applied("name: a\njob_type: manual\ncommand: echo hi\n")

    assert (Job.objects.get().nice, Job.objects.get().description) == (0, "")


def test_all_or_nothing_and_each_fault_has_its_line() -> None:
    job("a")
    text = (
        "pools: {gpu: 1}\njobs:\n"
        "- {name: a, job_type: manual, command: changed}\n"
        "- name: b\n  schedule: every day\n  command: x\n"
        "- name: c\n  job_type: manual\n  command: x\n  pools: {cpu: 1}\n"
        "- {name: a, job_type: manual, command: y}\n"
    )

    with pytest.raises(DefinitionError) as refused:
        planned(text)

    places = [fault.where for fault in refused.value.faults]
    assert places == ["a.yaml:11", "a.yaml:5", "a.yaml:10"]
    assert (Job.objects.get().command, Pool.objects.count()) == ("echo hi", 0)


def test_nothing_is_done_when_something_was_changed_meanwhile() -> None:
    there = job("b")
    plan = planned(
        "jobs:\n- {name: a, job_type: manual, command: x}\n- {name: b, command: y, "
        "job_type: manual}\n"
    )
    there.command = "z"
    there.store(now=LATER, by="berta")

    with pytest.raises(OutdatedError) as refused:
        applying.carry_out(plan, now=LATER, by="anna")

    assert refused.value.name == "b"
    assert [each.command for each in Job.objects.all()] == ["z"]


def test_a_job_that_came_meanwhile_is_not_written_over() -> None:
    plan = planned("name: a\njob_type: manual\ncommand: x\n")
    job("a", command="mine")

    with pytest.raises(OutdatedError):
        applying.carry_out(plan, now=LATER, by="anna")

    assert Job.objects.get().command == "mine"


def test_what_fails_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(
        "jobs:\n" + "".join(f"- {{name: {name}, job_type: manual, command: x}}\n" for name in "abc")
    )
    store = Job.store

    def failing(self: Job, **wanted: Any) -> Job:
        if self.name == "c":
            raise OSError("the machine is gone")
        return store(self, **wanted)

    monkeypatch.setattr(Job, "store", failing)
    with pytest.raises(OSError, match="gone"):
        applying.carry_out(plan, now=LATER, by="anna")

    assert not Job.objects.exists()
    assert not Change.objects.exists()


# ── Sets ─────────────────────────────────────────────────────────────────────────────────────────
def test_only_jobs_of_the_set_are_ever_deleted() -> None:
    job("by-hand")
    job("taken-in")
    of_files = "jobs:\n" + "".join(
        f"- {{name: {name}, job_type: manual, command: echo hi}}\n" for name in ("a", "taken-in")
    )
    applied(of_files)
    applied("name: web\njob_type: manual\ncommand: x\n", of_set="web")
    one = "name: a\njob_type: manual\ncommand: echo hi\n"
    run(Job.objects.get(name="taken-in"), state=Run.State.SUCCEEDED)

    kept = applied(one)
    assert Job.objects.count() == 4
    pruned = applied(one, prune=True)

    assert told(kept) == told(pruned) == {"a": "same", "taken-in": "extra"}
    assert (kept.would_change(), kept.would_change(prune=True), kept.others) == (False, True, 2)
    assert {each.name: set_of(each) for each in Job.objects.all()} == {
        "a": "files",
        "by-hand": "",
        "web": "web",
    }
    assert not Run.objects.exists()


def test_a_job_that_moved_in_is_known_again_when_files_define_it() -> None:
    drafts = from_crontab.drafts({"": "0 3 * * * tar c .\n"}, me="anna", zone="Europe/Berlin")
    intake.carry_out(intake.plan(drafts, now=NOON), now=NOON, by="anna")
    version = Job.objects.get().version

    applied(exported())

    assert set_of(Job.objects.get()) == "files"
    assert Job.objects.get().version == version
    assert [step.what for step in intake.plan(drafts, now=LATER).steps] == ["known"]


# ── What becomes of single jobs ──────────────────────────────────────────────────────────────────
def test_a_pause_goes_on_unless_the_file_switches_the_job_off() -> None:
    text = "name: a\nschedule: 0 3 * * *\ntimezone: Europe/Berlin\ncommand: echo hi\n"
    there = job("a", job_type="cron", schedule="0 3 * * *")
    there.pause(NOON + timedelta(days=1), now=NOON, by="berta")

    assert "is_active" not in exported()
    assert not applied(text).would_change()
    edited = applied(text + "nice: 1\n")
    there.refresh_from_db()
    assert ([*edited.moves[0].changes], there.nice) == (["nice"], 1)
    assert there.paused_until == NOON + timedelta(days=1)

    off = applied(text + "nice: 1\nis_active: false\n")
    ended = Job.objects.get()
    assert off.moves[0].changes == {"is_active": [True, False]}
    assert (ended.is_active, ended.paused_until) == (False, None)
    on = applied(text + "nice: 1\n")
    assert on.moves[0].changes == {"is_active": [False, True]}
    assert Job.objects.get().is_active


def test_values_that_a_file_leaves_out_stay() -> None:
    there = job("a", environment={"TOKEN": "secret", "OLD": "1"})
    text = "name: a\njob_type: manual\ncommand: echo hi\nenvironment: {TOKEN: null, NEW: x}\n"

    applied(text)

    there.refresh_from_db()
    assert there.environment == {"TOKEN": "secret", "NEW": "x"}
    with pytest.raises(DefinitionError) as refused:
        planned(text.replace("name: a", "name: b"))
    (fault,) = refused.value.faults
    assert (fault.where, "TOKEN" in fault.why) == ("a.yaml:4", True)


def test_a_job_with_a_new_name_keeps_its_runs() -> None:
    there = job("old")
    run(there)
    text = "name: new\nformerly: old\njob_type: manual\ntimezone: Europe/Berlin\ncommand: echo hi\n"

    plan = applied(text)

    assert plan.moves[0].changes == {"name": ["old", "new"]}
    assert Run.objects.get().job == Job.objects.get(name="new")
    assert told(applied(text)) == {"new": "same"}
    job("old")
    assert told(applied(text)) == {"new": "same"}
    both = f"jobs:\n- {{name: old, job_type: manual, command: x}}\n---\n{text}".replace("new", "n2")
    assert told(planned(both)) == {"old": "changed", "n2": "new", "new": "extra"}


def test_a_time_that_has_passed_stops_nobody() -> None:
    text = (
        "jobs:\n- {name: a, job_type: once, schedule: '2020-01-01 12:00', command: x}\n"
        "- {name: b, schedule: 0 3 * * *, deadline: 2020-01-01T00:00:00Z, command: x}\n"
        "- {name: c, job_type: manual, command: x}\n"
    )

    assert told(applied(text)) == {"a": "passed", "b": "passed", "c": "new"}

    assert Job.objects.get().name == "c"


def test_a_job_that_was_once_is_as_it_is_and_not_moved_to_the_past() -> None:
    job("a", job_type="once", schedule="2026-11-24 18:00", now=NOON)
    text = exported()

    after = NOON + timedelta(days=30)
    assert not planned(text, now=after).would_change()
    with pytest.raises(DefinitionError) as refused:
        planned(text.replace("18:00", "17:00"), now=after)
    (fault,) = refused.value.faults
    number = int(fault.where.rpartition(":")[2])
    assert "schedule: " in text.splitlines()[number - 1]


def test_jobs_of_skills_are_left_alone() -> None:
    Job.objects.create(
        name="tidy", skill="tidy", anchor=NOON, created_at=NOON, updated_at=NOON, job_type="manual"
    )

    with pytest.raises(DefinitionError):
        planned("name: tidy\njob_type: manual\ncommand: x\n")
    assert planned("name: a\njob_type: manual\ncommand: x\n").others == 0
    assert "tidy" not in exported()


# ── Pools and rules ──────────────────────────────────────────────────────────────────────────────
def test_jobs_are_judged_by_the_pools_and_rules_of_the_same_files() -> None:
    text = (
        "jobs:\n- {name: a, job_type: manual, command: x, pools: {gpu: 2}}\n---\n"
        "pools: {gpu: {size: 2, description: cards}}\npolicy: {keep_days: 7}\n"
    )

    plan = planned(text)
    assert (Pool.objects.count(), Policy.current().keep_days, Change.objects.count()) == (0, 90, 0)
    applying.carry_out(plan, now=LATER, by="anna")

    assert told(plan) == {"gpu": "new", "policy": "changed", "a": "new"}
    assert Pool.objects.get().description == "cards"
    assert Policy.current().keep_days == 7
    assert told(planned(text)) == {"gpu": "same", "policy": "same", "a": "same"}


def test_rules_and_pools_that_are_not_named_stay() -> None:
    rules = Policy.current()
    rules.keep_runs = 77
    rules.store(now=NOON, by="anna")
    Pool(name="gpu", size=3).store(now=NOON, by="anna")

    applied("policy: {keep_days: 7}\njobs: []\n", prune=True)

    assert (Policy.current().keep_runs, Policy.current().keep_days) == (77, 7)
    assert Pool.objects.get().size == 3


def test_faults_of_pools_and_rules_have_their_line() -> None:
    with pytest.raises(DefinitionError) as refused:
        planned("pools:\n  GPU!: 1\n  cpu: 0\npolicy:\n  keep_days: 0\njobs: []\n")

    assert [fault.where for fault in refused.value.faults] == ["a.yaml:2", "a.yaml:3", "a.yaml:5"]


# ── Folders ──────────────────────────────────────────────────────────────────────────────────────
def arranged(where: Path, *jobs: Job) -> folder.Arrangement:
    found = folder.arrange(where, [definitions.as_mapping(each) for each in jobs], "", 10**6)
    for path, text in found.texts.items():
        folder.write(path, text)
    return found


def test_a_file_that_says_the_same_keeps_its_comments(tmp_path: Path) -> None:
    first, second = job("a"), job("b: (x)")
    arranged(tmp_path, first, second)
    commented = "# why\n" + (tmp_path / "a.yaml").read_text() + "timeout_seconds: 300 # usual\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "a.yaml").rename(tmp_path / "mine/hand.yml")
    (tmp_path / "mine/hand.yml").write_text(commented)

    again = arranged(tmp_path, first, second)
    first.nice = 3
    changed = arranged(tmp_path, first)

    assert (again.texts, again.left) == ({}, [])
    assert [*changed.texts] == [tmp_path / "mine/hand.yml"]
    assert changed.left == [tmp_path / "b-(x).yaml"]
    assert "nice: 3" in (tmp_path / "mine/hand.yml").read_text()
    assert (tmp_path / "b-(x).yaml").stat().st_mode & 0o777 == 0o600


def test_names_that_would_be_the_same_file_get_two(tmp_path: Path) -> None:
    found = arranged(tmp_path, job("a b"), job("A-b"), job("ä" * 80))

    assert sorted(path.name for path in found.texts) == [
        "A-b-2.yaml",
        "a-b.yaml",
        f"{'ä' * 60}.yaml",
    ]


def test_a_folder_or_a_link_in_the_place_of_a_file_stays_one(tmp_path: Path) -> None:
    elsewhere, (first, second) = tmp_path / "elsewhere", (job("a"), job("b"))
    elsewhere.write_text("timezone: UTC\nname: a\nschedule: 1d\ncommand: other\n")
    (tmp_path / "jobs/b.yaml").mkdir(parents=True)
    (tmp_path / "jobs/a.yaml").symlink_to(elsewhere)

    found = arranged(tmp_path / "jobs", first, second)

    assert sorted(path.name for path in found.texts) == ["a.yaml", "b-2.yaml"]
    assert (tmp_path / "jobs/a.yaml").is_symlink()
    assert elsewhere.read_text() == definitions.written([first])


def test_a_file_that_says_more_is_not_written_over(tmp_path: Path) -> None:
    first, second = job("a"), job("b")
    (tmp_path / "all.yaml").write_text(definitions.written([first, second]))
    (tmp_path / "broken.yaml").write_text("name: [")

    assert arranged(tmp_path, first, second).same == [tmp_path / "all.yaml"]
    first.nice = 3
    with pytest.raises(TakenError):
        arranged(tmp_path, first, second)

    assert "nice" not in (tmp_path / "all.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.yaml", "broken.yaml"]


def test_what_is_hidden_in_a_folder_is_left_alone(tmp_path: Path) -> None:
    for name in (".git/x.yaml", "b/c.YML", "a.yaml", ".a.yaml", "readme.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")

    assert folder.inside(tmp_path) == [tmp_path / "a.yaml", tmp_path / "b/c.YML"]


def test_jobs_of_files_move_in_too() -> None:
    job("there")
    text = definitions.written([job("a", nice=3), Job.objects.get(name="there")])
    Job.objects.get(name="a").delete()

    drafts = from_definitions.drafts({"a.yaml": text})
    intake.carry_out(intake.plan(drafts, now=LATER), now=LATER, by="anna")

    came = Job.objects.get(name="a")
    assert (came.nice, came.is_active, set_of(came)) == (3, False, "")

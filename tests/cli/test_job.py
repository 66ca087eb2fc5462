"""`bach job` from within: by options and in an editor, looking at jobs, switching them."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone, translation

from daemon_app import output
from daemon_app.cli import fields, job, run, times
from daemon_app.cli.outcome import Code
from daemon_app.forms import JobForm
from daemon_app.models import Change, Job, Pool, Run
from daemon_app.tiles import jobs as tile
from tests.jobs import job as job_of
from tests.jobs import run as run_of

pytestmark = pytest.mark.django_db

# For each field of the form: what is typed, and what is stored then.
TYPED: dict[str, tuple[list[str], Any]] = {
    "name": (["every-field"], "every-field"),
    "description": (["all of it"], "all of it"),
    "command": (["echo 1 | wc"], "echo 1 | wc"),
    "use_shell": ([], True),
    "script_path": ([""], ""),
    "arguments": (["--all 'two words'"], "--all 'two words'"),
    "working_directory": (["/srv"], "/srv"),
    "environment": (["A=1", "B=x = y "], {"A": "1", "B": "x = y "}),
    "parameters": (["size=big"], {"size": "big"}),
    "job_type": (["cron"], "cron"),
    "schedule": (["30 3 * * mon-fri"], "30 3 * * MON-FRI"),
    "timezone": (["Europe/Lisbon"], "Europe/Lisbon"),
    "timeout_seconds": (["1h30m"], 5400),
    "soft_timeout_seconds": (["20m"], 1200),
    "overlap": (["parallel"], "parallel"),
    "max_instances": (["3"], 3),
    "misfire": (["all"], "all"),
    "misfire_age_seconds": (["2d"], 172_800),
    "max_retries": (["2"], 2),
    "retry_backoff_seconds": (["30s"], 30),
    "retry_exit_codes": (["75, 1"], [1, 75]),
    "retry_on_timeout": ([], True),
    "on_loss": (["repeat"], "repeat"),
    "pools": (["gpu=2"], {"gpu": 2}),
    "priority": (["-5"], -5),
    "deadline": (["2097-12-24 18:00"], datetime(2097, 12, 24, 18, tzinfo=UTC)),
    "max_wait_seconds": (["4h"], 14_400),
    "grace_seconds": (["15s"], 15),
    "stop_command": (["echo stop"], "echo stop"),
    "leave_descendants": ([], True),
    "cpu_limit_seconds": (["10m"], 600),
    "memory_limit_mb": (["800"], 800),
    "limit_sustain_seconds": (["5s"], 5),
    "limit_action": (["warn"], "warn"),
    "nice": (["10"], 10),
    "idle_io": ([], True),
    "keep_days": (["30"], 30),
    "keep_runs": (["50"], 50),
    "keep_output_mb": (["100"], 100),
    "only_when_idle": ([], True),
    "on_presence": (["cancel"], "cancel"),
    "ask_signal": (["USR1"], "USR1"),
    "min_vram_mb": (["8 GB"], 8000),
    "needs_services": (["ollama", "gpu_service"], ["gpu_service", "ollama"]),
    "min_disk_mb": (["5 MB"], 5),
    "max_load_percent": (["80"], 80),
    "window": (["22:00-06:00"], "22:00-06:00"),
    "in_quiet_hours": ([], True),
    "finish_by": (["6:00"], "06:00"),
    "gate_action": (["run"], "run"),
    "is_active": ([], True),
}


class Door:
    """Calls `bach job` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        code = run(["job", *map(str, arguments)])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def facts(self, command: str, *arguments: object) -> Any:
        code, said, error = self(command, "--json", *arguments)
        assert code == Code.OK, error
        return json.loads(said)


@pytest.fixture
def own_process() -> Iterator[None]:
    """Set back what a command sets for its own process."""
    log = logging.getLogger("daemon_app")
    level, spoken = log.level, translation.get_language()
    yield
    log.setLevel(level)
    translation.activate(spoken or "de")


@pytest.fixture
def bach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_process: None
) -> Door:
    """The command, where no editor is set."""
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    return Door(capsys)


@pytest.fixture(autouse=True)
def _runs_dir(tmp_path: Path, settings: Any) -> None:
    settings.RUNS_DIR = tmp_path / "runs"  # a run of another test may have left its output


def stored(name: str) -> Job:
    return Job.objects.get(name=name)


def values(of: Job) -> dict[str, Any]:
    return {name: getattr(of, name) for name in JobForm.Meta.fields}


# ── By options ───────────────────────────────────────────────────────────────────────────────────
def test_every_field_of_the_form_is_an_option_that_reaches_the_job(bach: Door) -> None:
    Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")
    given: list[str] = []
    for name, (texts, _value) in TYPED.items():
        option = fields.option_of(name)
        if name != "name":
            given += [f"{option}={text}" for text in texts] or [option]

    code, _said, error = bach("add", "every-field", *given)

    assert code == Code.OK, error
    assert values(stored("every-field")) == {name: value for name, (_t, value) in TYPED.items()}
    assert set(TYPED) == set(JobForm.Meta.fields)


@pytest.mark.parametrize(
    ("typed", "kind", "text"),
    [
        ("30 3 * * *", "cron", "30 3 * * *"),
        ("@daily", "cron", "@daily"),
        ("24h", "interval", "24h"),
        ("2097-12-24 18:00", "once", "2097-12-24 18:00"),
        ("", "manual", ""),
    ],
)
def test_a_schedule_says_itself_of_which_kind_it_is(
    bach: Door, typed: str, kind: str, text: str
) -> None:
    assert bach.facts("add", "new", "--schedule", typed, "--", "true")["job_type"] == kind
    assert bach.facts("add", "other", "--", "true")["job_type"] == "manual"
    assert bach.facts("edit", "other", "--schedule", typed)["job_type"] == kind
    assert stored("new").schedule == stored("other").schedule == text


def test_a_date_that_can_not_be_is_refused_as_a_date(bach: Door) -> None:
    for typed in ("9999-12-31 23:59", "31.2.2097 12:00"):
        _code, _said, error = bach("add", "new", "--schedule", typed, "--", "true")
        assert "--schedule: " in error
        assert "24h" not in error


def test_words_after_two_dashes_come_to_the_command_as_they_were(bach: Door) -> None:
    bach("add", "many", "--", "printf", "%s\\n", "two words", "--json", "$HOME")
    bach("add", "line", "--", "echo a | wc -c")

    assert stored("many").command == "printf '%s\\n' 'two words' --json '$HOME'"
    assert stored("line").command == "echo a | wc -c"
    assert bach("add", "both", "--command", "a", "--", "b")[0] == Code.USAGE


def test_what_is_not_typed_stays_to_the_bit(bach: Door) -> None:
    exact = datetime(2097, 1, 1, 12, 0, 7, 89, tzinfo=UTC)
    before = job_of(
        "exact",
        job_type="interval",
        schedule="1h",
        deadline=exact,
        min_disk_mb=1234,
        environment={"A": " b ", "C": ""},
        max_instances=1,
        on_presence="displace",
    )

    code, _said, error = bach("edit", "exact", "--description", "another")

    assert (code, error) == (Code.OK, "")
    after = stored("exact")
    assert values(after) == values(before) | {"description": "another"}
    assert (after.anchor, after.next_due_at) == (before.anchor, before.next_due_at)


def test_saying_what_is_so_already_changes_nothing(bach: Door) -> None:
    job_of("same", priority=4)

    assert bach.facts("edit", "same", "--priority", "4", "--no-idle-io")["version"] == 1
    assert bach("edit", "same", "--name", "other")[0] == Code.OK
    job_of("same")
    assert bach("add", "same")[0] == Code.USAGE
    assert bach("add", "same", "--", "true")[0] == Code.USAGE
    assert bach("edit", "other", "--name", "same")[0] == Code.USAGE


def test_variables_are_set_one_by_one_taken_away_and_emptied(bach: Door) -> None:
    job_of("vars", environment={"A": "1", "B": "2"})

    bach("edit", "vars", "--environment", "A=3", "--environment", "B-", "--environment", "C=a=b")
    assert stored("vars").environment == {"A": "3", "C": "a=b"}

    bach("edit", "vars", "--environment", "")
    assert stored("vars").environment == {}

    for wrong in ("A", "A=x\ny"):
        assert bach("edit", "vars", "--environment", wrong)[0] == Code.USAGE


def test_work_for_idle_times_makes_way_unless_it_is_told_otherwise(bach: Door) -> None:
    bach("add", "quiet", "--only-when-idle", "--", "true")
    assert stored("quiet").on_presence == "displace"

    bach("edit", "quiet", "--no-only-when-idle")
    assert stored("quiet").on_presence == "continue"

    bach("edit", "quiet", "--only-when-idle", "--on-presence", "cancel")
    assert stored("quiet").on_presence == "cancel"


def test_all_that_is_wrong_is_said_at_once_beside_its_option(bach: Door) -> None:
    before = job_of("kept")

    code, said, error = bach(
        *("edit", "kept", "--timeout", "77", "--schedule", "0 4 * *", "--pools", "gpu=1"),
        *("--name", "  ", "--nice", "99"),
    )

    assert (code, said) == (Code.USAGE, "")
    for option in ("--timeout:", "--schedule:", "--pools:", "--name:", "--nice:"):
        assert option in error
    assert values(stored("kept")) == values(before)


def test_arguments_far_too_long_are_refused_without_being_taken_apart(
    bach: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    monkeypatch.setattr("shlex.split", lambda text: lengths.append(len(text)))

    code, _said, error = bach("add", "new", "--command", "true", "--arguments", "x" * 20_000)

    assert code == Code.USAGE
    assert "--arguments: " in error
    assert sum(lengths) == 0


def test_words_that_are_no_text_are_refused_wherever_they_stand(bach: Door) -> None:
    kept = job_of("kept")
    half = b"\xff".decode(errors="surrogateescape")

    for words in (
        ["add", half],
        ["add", "new", "--", "echo", half],
        ["edit", "kept", "--environment", f"A={half}"],
        ["pause", "kept", "--note", half],
        ["list", "--search", half],
    ):
        code, said, error = bach(*words)
        assert (code, said) == (Code.USAGE, ""), words
        assert error
    assert [*Job.objects.all()] == [kept]
    assert stored("kept").version == kept.version


def test_of_a_skill_only_that_can_be_changed_which_is_not_the_skills(bach: Door) -> None:
    job_of("validate_configs")
    Job.objects.filter(name="validate_configs").update(skill="validate_configs", command="")

    assert bach("edit", "validate_configs", "--command", "true")[0] == Code.USAGE
    assert bach("edit", "validate_configs", "--priority", "5")[0] == Code.OK
    assert stored("validate_configs").priority == 5
    assert bach("show", "validate_configs", "--yaml")[0] == Code.FAILED
    assert "validate_configs" in bach("show", "validate_configs")[1]


def test_a_dry_run_shows_sentence_and_five_times_and_changes_nothing(bach: Door) -> None:
    before, changes = job_of("kept"), Change.objects.count()

    new = bach.facts("add", "new", "--schedule", "0 3 * * *", "--dry-run", "--", "true")
    edited = bach.facts("edit", "kept", "--schedule", "24h", "--dry-run")
    _code, said, _error = bach("edit", "kept", "--schedule", "24h", "--dry-run")

    assert (new["id"], new["dry_run"], len(new["upcoming"])) == (None, True, 5)
    assert new["upcoming"] == sorted(new["upcoming"])
    assert edited["changes"]["schedule"] == ["", "24h"]
    assert said.count("\n  ") == 5
    assert stored("kept").version == before.version
    assert [each.name for each in Job.objects.all()] == ["kept"]
    assert Change.objects.count() == changes


def test_a_change_is_recorded_with_who_made_it_and_how(bach: Door) -> None:
    bach("add", "new", "--", "true")
    bach("edit", "new", "--timeout", "2h")

    newest = Change.objects.of_jobs(stored("new").pk)
    assert [each.kind for each in newest] == ["edited", "created"]
    assert {each.via for each in newest} == {"cli"}
    assert newest[0].fields == {"timeout_seconds": [300, 7200]}


# ── In an editor ─────────────────────────────────────────────────────────────────────────────────
class Terminal:
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


Editor = Callable[..., None]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """Set an editor that does one of these things each time it opens: lines of shell, "$1"."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def write(*steps: str) -> None:
        script, count = tmp_path / "editor.sh", tmp_path / "count"
        cases = "\n".join(f"{number}) {step};;" for number, step in enumerate(steps))
        script.write_text(
            f"n=$(cat {count} 2>/dev/null || echo 0); echo $((n + 1)) > {count}\n"
            f'cp "$1" {tmp_path}/seen-$n\ncase $n in\n{cases}\nesac\n'
        )
        monkeypatch.setenv("EDITOR", f"sh {script}")

    return write


def left(tmp_path: Path) -> list[str]:
    """Return what was written and not stored, of all texts that are still there."""
    return [file.read_text() for file in tmp_path.glob("bach-edit-*/*")]


def test_a_job_is_edited_as_text(bach: Door, editor: Editor, tmp_path: Path) -> None:
    before = job_of("old", environment={"A": "1"}, description="short")
    editor("sed -i 's/^name: old/name: new/; s/^description: .*/timeout_seconds: 60/' \"$1\"")

    code, _said, error = bach("edit", "old")

    assert code == Code.OK, error
    after = stored("new")
    changed = {"name": "new", "description": "", "timeout_seconds": 60}
    assert values(after) == values(before) | changed
    assert after.pk == before.pk
    assert left(tmp_path) == []


def test_the_text_tells_all_that_could_be_said(bach: Door, editor: Editor, tmp_path: Path) -> None:
    job_of("kept")
    editor('ls -ld "$(dirname "$1")" > ' + str(tmp_path / "mode"))

    code, _said, _error = bach("edit", "kept")

    shown = (tmp_path / "seen-0").read_text()
    names = {line.lstrip("# ").partition(":")[0] for line in shown.splitlines()}
    assert code == Code.OK
    assert names >= {*JobForm.Meta.fields} - {"schedule"}
    assert (tmp_path / "mode").read_text().startswith("drwx------")
    assert stored("kept").version == 1
    assert left(tmp_path) == []


def test_a_new_job_is_written_in_the_editor_too(bach: Door, editor: Editor) -> None:
    editor("printf 'command: |\\n  one\\n  two\\n' >> \"$1\"")

    assert bach.facts("add", "new")["command"] == "one\ntwo"


@pytest.mark.parametrize("name", ["\N{PARTY POPPER}" * 80, "x" * 400])
def test_a_name_may_be_longer_than_that_of_a_file(bach: Door, editor: Editor, name: str) -> None:
    editor("sed -i 's/^name: .*/name: new/; $a command: one' \"$1\"")

    assert bach.facts("add", name)["name"] == "new"


def test_what_is_refused_comes_back_with_the_reason_above_its_line(
    bach: Door, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    job_of("kept", job_type="cron", schedule="30 3 * * *")
    editor(
        "sed -i 's/30 3/99 3/' \"$1\"",
        "sed -i 's/99 3/98 3/; s/^job_type/job_typ/' \"$1\"",
        "sed -i 's/98 3/40 3/; s/^job_typ:/job_type:/' \"$1\"",
    )

    code, _said, error = bach("edit", "kept")

    assert code == Code.OK, error
    assert stored("kept").schedule == "40 3 * * *"
    second, third = ((tmp_path / f"seen-{n}").read_text().splitlines() for n in (1, 2))
    assert second[second.index("schedule: 99 3 * * *") - 1].startswith("#!   schedule:")
    above = third.index("job_typ: cron") - 1
    assert "job_typ" in third[above]
    assert len([line for line in third if line.startswith("#!")]) == 2  # the earlier ones are gone


def test_who_gives_up_keeps_the_text(bach: Door, editor: Editor, tmp_path: Path) -> None:
    job_of("kept", job_type="cron", schedule="30 3 * * *")

    for step in ("sed -i 's/30 3/99 3/' \"$1\"", "echo '# mine' >> \"$1\"; exit 3"):
        (tmp_path / "count").unlink(missing_ok=True)
        editor(step)
        code, _said, error = bach("edit", "kept")
        assert code == Code.FAILED
        assert str(tmp_path) in error

    first, second = sorted(left(tmp_path), key=len, reverse=True)
    assert "99 3 * * *" in first + second
    assert "# mine" in first + second
    assert stored("kept").version == 1


def test_a_change_of_somebody_else_is_not_overwritten_unseen(
    bach: Door, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    mine = job_of("kept")
    from daemon_app.cli import editor as editing

    run_editor = editing._run

    def meanwhile(command: str, file: Path) -> int:
        if not (tmp_path / "count").exists():
            other = Job.objects.get(pk=mine.pk)
            other.priority = 7
            other.store(now=timezone.now(), by="berta")
        return run_editor(command, file)

    monkeypatch.setattr(editing, "_run", meanwhile)
    editor("echo 'description: mine' >> \"$1\"", "echo '# again' >> \"$1\"")

    code, _said, error = bach("edit", "kept")

    assert code == Code.OK, error
    assert "berta" in (tmp_path / "seen-1").read_text()
    after = stored("kept")
    assert (after.description, after.priority) == ("mine", 0)


def test_a_job_deleted_meanwhile_is_not_made_again(
    bach: Door, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    gone = job_of("gone")
    from daemon_app.cli import editor as editing

    run_editor = editing._run

    def meanwhile(command: str, file: Path) -> int:
        Job.objects.filter(pk=gone.pk).delete()
        return run_editor(command, file)

    monkeypatch.setattr(editing, "_run", meanwhile)
    editor("echo 'description: mine' >> \"$1\"")

    code, _said, _error = bach("edit", "gone")

    assert code == Code.NOT_FOUND
    assert not Job.objects.exists()
    assert "description: mine" in left(tmp_path)[0]


def test_an_edited_job_stays_paused_and_keeps_values_that_are_left_out(
    bach: Door, editor: Editor
) -> None:
    paused = job_of("paused", job_type="cron", schedule="30 3 * * *", environment={"KEY": "s3cret"})
    now = timezone.now()
    paused.pause(now + timedelta(days=1), now=now, by="anna", note="why")
    editor('sed -i "s/  KEY: .*/  KEY:/" "$1"; echo \'description: new\' >> "$1"')

    assert bach("edit", "paused")[0] == Code.OK

    after = stored("paused")
    assert (after.is_active, after.paused_until, after.pause_note) == (
        False,
        paused.paused_until,
        "why",
    )
    assert (after.description, after.environment) == ("new", {"KEY": "s3cret"})


@pytest.mark.parametrize("step", ['rm "$1"', ': > "$1"', "true"])
def test_a_text_that_is_gone_empty_or_untouched_changes_nothing(
    bach: Door, editor: Editor, tmp_path: Path, step: str
) -> None:
    job_of("kept", priority=4)
    editor(step)

    assert bach("edit", "kept")[0] == Code.OK
    assert (stored("kept").priority, stored("kept").version) == (4, 1)
    assert left(tmp_path) == []


def test_what_is_no_text_is_refused_and_kept(bach: Door, editor: Editor, tmp_path: Path) -> None:
    job_of("kept")
    editor("printf 'description: \\377\\n' >> \"$1\"")

    assert bach("edit", "kept")[0] == Code.FAILED
    (kept,) = tmp_path.glob("bach-edit-*/*")
    assert kept.read_bytes().endswith(b"description: \xff\n")
    assert stored("kept").version == 1


def test_an_interrupt_in_the_editor_is_the_editors_business(bach: Door, editor: Editor) -> None:
    job_of("kept")
    editor(f"kill -INT {os.getpid()}; echo 'description: new' >> \"$1\"")

    assert bach("edit", "kept")[0] == Code.OK
    assert stored("kept").description == "new"


def test_without_an_editor_and_a_terminal_options_are_asked_for(bach: Door) -> None:
    job_of("kept")

    code, _said, error = bach("edit", "kept")

    assert code == Code.USAGE
    assert "bach job edit --help" in error


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def several() -> dict[str, Job]:
    """Jobs of several kinds and states."""
    Pool(name="gpu", size=2).store(now=timezone.now(), by="anna")
    now = timezone.now()
    found = {
        "alpha": job_of("alpha", now=now, job_type="interval", schedule="2h", pools={"gpu": 1}),
        "beta": job_of("beta", now=now, job_type="interval", schedule="1h", description="Backup"),
        "gamma": job_of("gamma", now=now),
        "delta": job_of("delta", now=now, job_type="interval", schedule="30m", is_active=False),
    }
    run_of(found["gamma"], now=now, state=Run.State.RUNNING, started_at=now)
    ended = {"started_at": now, "ended_at": now, "exit_code": 3}
    run_of(found["beta"], now=now, state=Run.State.FAILED, **ended)
    return found


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), "alpha beta delta gamma"),
        (("--reverse",), "gamma delta beta alpha"),
        (("--sort", "next"), "beta alpha delta gamma"),
        (("--sort", "last"), "beta gamma alpha delta"),
        (("--sort", "id"), "alpha beta gamma delta"),
        (("--state", "running"), "gamma"),
        (("--state", "failed"), "beta"),
        (("--state", "paused"), "delta"),
        (("--state", "waiting"), ""),
        (("--kind", "interval", "--sort", "next"), "beta alpha delta"),
        (("--search", "backup"), "beta"),
        (("--pool", "gpu"), "alpha"),
        (("--search", "no such"), ""),
    ],
)
def test_jobs_are_chosen_and_sorted(
    bach: Door, several: dict[str, Job], options: tuple[str, ...], names: str
) -> None:
    assert [each["name"] for each in bach.facts("list", *options)] == names.split()

    code, said, _error = bach("list", *options, "--ids")
    assert code == Code.OK
    assert said.split() == [str(several[name].pk) for name in names.split()]
    assert bach.facts("list", *options, "--ids") == [several[name].pk for name in names.split()]


def test_what_can_be_chosen_is_what_there_is() -> None:
    assert job.STATES == tile.STATES
    assert {*job.KINDS} == {*Job.Kind.values}


def test_a_job_is_shown_without_the_values_of_its_variables(bach: Door) -> None:
    job_of("secret", environment={"KEY": "hunter2"}, command="echo one\necho two")

    _code, said, _error = bach("show", "secret")
    _code, facts, _error = bach("show", "secret", "--json")
    _code, text, _error = bach("show", "secret", "--yaml")

    assert "KEY" in said
    assert "echo two" in said
    assert "hunter2" not in said + facts
    assert "hunter2" in text


def test_the_next_starts_of_all_jobs_or_one(bach: Door, several: dict[str, Job]) -> None:
    found = bach.facts("next", "5")

    assert [each["job_name"] for each in found] == ["beta", "alpha", "beta", "beta", "alpha"]
    assert [each["at"] for each in found] == sorted(each["at"] for each in found)
    assert len(bach.facts("next", "30", "--job", "alpha")) == 30
    assert bach.facts("next", "--job", "delta") == []

    now = timezone.now()
    several["delta"].pause(now + timedelta(days=40), now=now, by="anna")
    first = bach.facts("next", "1", "--job", several["delta"].pk)[0]
    assert datetime.fromisoformat(first["at"]) >= now + timedelta(days=40)


def test_the_history_of_a_job_is_its_runs_or_its_changes(bach: Door) -> None:
    of = job_of("busy")
    for state in (Run.State.SUCCEEDED, Run.State.FAILED, Run.State.SUCCEEDED):
        run_of(of, state=state, started_at=of.created_at, ended_at=of.created_at)
    bach("edit", "busy", "--priority", "3")

    assert [each["state"] for each in bach.facts("history", "busy", "2")] == ["succeeded", "failed"]
    assert len(bach.facts("history", "busy", "--state", "succeeded")) == 2
    changes = bach.facts("history", "busy", "--changes")
    assert [each["kind"] for each in changes] == ["edited", "created"]
    assert changes[0]["fields"] == {"priority": [0, 3]}
    assert bach("history", "busy")[1].count("\n") == 4
    assert "0 → 3" in bach("history", "busy", "--changes")[1]
    assert bach("history", "busy", "--state", "good")[0] == Code.USAGE


def test_why_and_unknown_jobs_are_answered_as_elsewhere(bach: Door) -> None:
    job_of("nightly-backup")

    assert bach.facts("why", "nightly-backup")["sentence"]
    for command in ("show", "edit", "pause", "on", "off", "mute", "delete", "history", "logs"):
        code, _said, error = bach(command, "nightly-bakup")
        assert code == Code.NOT_FOUND
        assert "nightly-backup" in error


# ── Switching ────────────────────────────────────────────────────────────────────────────────────
def test_a_job_is_paused_resumed_and_switched(bach: Door) -> None:
    job_of("daily", job_type="cron", schedule="0 3 * * *")
    now = timezone.now()

    told = bach.facts("pause", "daily", "--for", "2h", "--note", "disk")
    until = datetime.fromisoformat(told["paused_until"])
    assert timedelta(hours=2) <= until - now < timedelta(hours=2, minutes=5)
    assert (told["is_active"], told["pause_note"]) == (False, "disk")

    assert bach.facts("resume", "daily")["is_active"] is True
    assert bach.facts("off", "daily")["is_active"] is False
    assert bach("off", "daily")[0] == Code.OK  # what is so already is no error
    assert bach.facts("on", "daily")["next_due_at"] is not None
    assert (
        timezone.localtime(
            datetime.fromisoformat(bach.facts("pause", "daily")["paused_until"])
        ).hour
        == 8
    )

    for wrong in (("--for", "2h", "--until", "18:00"), ("--until", "soon"), ("--for", "900d")):
        assert bach("pause", "daily", *wrong)[0] == Code.USAGE


def test_failures_are_told_no_more_and_again(bach: Door) -> None:
    job_of("noisy")

    assert bach.facts("mute", "noisy", "--for", "7d")["muted_until"]
    assert stored("noisy").muted_until
    assert bach.facts("mute", "noisy", "--off")["muted_until"] is None
    assert stored("noisy").muted_until is None
    assert bach("mute", "noisy", "--until", "2020-01-01T10:00")[0] == Code.USAGE
    assert bach("mute", "noisy", "--off", "--for", "1d")[0] == Code.USAGE


def test_a_job_goes_with_its_runs_only_when_that_is_meant(
    bach: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = job_of("old")
    run_of(of, state=Run.State.SUCCEEDED)

    assert bach("delete", "old")[0] == Code.USAGE  # nobody can be asked

    class Says(Terminal):
        word = "n\n"

        def readline(self) -> str:
            return self.word

    monkeypatch.setattr(sys, "stdin", Says())
    assert bach("delete", "old")[0] == Code.FAILED
    assert Job.objects.filter(pk=of.pk).exists()

    Says.word = "j\n"
    code, _said, asked = bach("delete", "old")
    assert code == Code.OK
    assert "old" in asked
    assert not Job.objects.filter(pk=of.pk).exists()

    job_of("other")
    assert bach.facts("delete", "other", "--yes")["runs"] == 0


# ── Output ───────────────────────────────────────────────────────────────────────────────────────
def written(folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    writer = output.Writer(str(folder))
    writer.write(data, 1, 0.0)
    writer.close()


def test_what_a_jobs_newest_run_has_written_is_shown_byte_for_byte(
    capfdbinary: pytest.CaptureFixture[bytes], own_process: None
) -> None:
    of = job_of("chatty")
    assert run(["job", "logs", "chatty"]) == Code.NOT_FOUND
    for text in (b"earlier\n", b"one\n\x1b[31mtwo\xff\nthree\n"):
        ended = run_of(of, state=Run.State.SUCCEEDED, started_at=of.created_at)
        written(ended.folder, text)
    run_of(of, state=Run.State.SKIPPED)  # it never began
    capfdbinary.readouterr()

    assert run(["job", "logs", "chatty"]) == Code.OK
    assert capfdbinary.readouterr().out == b"one\n\x1b[31mtwo\xff\nthree\n"
    assert run(["job", "logs", "chatty", "-n", "1"]) == Code.OK
    assert capfdbinary.readouterr().out == b"three\n"
    assert run(["daemon", "log", str(ended.pk)]) == Code.OK
    assert capfdbinary.readouterr().out.endswith(b"three\n")
    assert run(["daemon", "log", str(ended.pk), "--attempt", "2"]) == Code.NOT_FOUND
    assert run(["daemon", "log", "999999"]) == Code.NOT_FOUND


def test_following_a_run_that_has_ended_gives_its_result(bach: Door) -> None:
    of = job_of("ended")
    failed = run_of(
        of, state=Run.State.FAILED, started_at=of.created_at, ended_at=of.created_at, exit_code=7
    )
    written(failed.folder, b"broken\n")

    assert bach("logs", "ended", "-f")[0] == 7


# ── Times ────────────────────────────────────────────────────────────────────────────────────────
# A Tuesday, 13:00 in Berlin.
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "day", "hour"),
    [
        ("18:00", 24, 18),
        ("9:30", 25, 9),
        ("heute 14:00", 24, 14),
        ("tomorrow 8:00", 25, 8),
        ("Morgen 08:00", 25, 8),
        ("mo 8:00", 30, 8),
        ("Di. 8:00", 31, 8),
        ("tuesday 14:00", 24, 14),
        ("2026-11-26T08:00", 26, 8),
        ("2026-11-26 08:00", 26, 8),
    ],
)
def test_a_time_is_the_next_one_that_somebody_may_mean(text: str, day: int, hour: int) -> None:
    with timezone.override("Europe/Berlin"):
        found = timezone.localtime(times.at(text, NOON))

    assert (found.date() - NOON.date()).days + NOON.day == day
    assert found.hour == hour


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Tokyo"])
def test_times_have_their_zone_beside_them_where_the_terminals_is_another(
    bach: Door, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    job_of("daily", job_type="cron", schedule="0 3 * * *")
    monkeypatch.setattr(times, "ASKED_FOR", zone)
    with timezone.override("Europe/Berlin"):
        told = [bach(*words)[1] for words in (("list",), ("show", "daily"), ("next",))]

    assert all(("Europe/Berlin" in said) == (zone != "Europe/Berlin") for said in told)

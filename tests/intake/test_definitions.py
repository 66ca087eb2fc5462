"""Jobs as text: written in one way alone, read with their lines, refused with the reason."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from daemon_app.intake import definitions, plain_yaml
from daemon_app.intake.definitions import DefinitionError
from daemon_app.intake.plain_yaml import YamlError
from daemon_app.models import Job
from tests.jobs import job

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Where quotation marks, blocks and their headers matter.
AWKWARD = st.text(st.sampled_from(" \n\t:#-'\"|>&*!%@`~?[]{},=<0123.noyes\\é"), max_size=24)
SCALARS = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | TEXT | AWKWARD
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT | AWKWARD, SCALARS)


# ── Plain YAML ───────────────────────────────────────────────────────────────────────────────────
@bounded(max_examples=300, deadline=None)
@given(st.dictionaries(TEXT | AWKWARD, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was(said: dict[str, Any]) -> None:
    text = "\n".join(plain_yaml.lines(said)) + "\n"

    ((read, line),) = plain_yaml.documents(text)

    assert (read, line) == (said, 1)
    assert yaml.safe_load(text) == said, "others read it otherwise"


@bounded(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(AWKWARD, VALUES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_so_is_a_list_of_mappings(said: list[dict[str, Any]]) -> None:
    lines = ["jobs:", *plain_yaml.listed([plain_yaml.lines(each) for each in said])]

    text = "\n".join(lines) + "\n"
    assert yaml.safe_load(text) == {"jobs": said}
    assert plain_yaml.documents(text)[0][0] == {"jobs": said}


@bounded(max_examples=200, deadline=None)
@given(
    st.dictionaries(TEXT | AWKWARD, VALUES, min_size=1, max_size=4),
    st.sampled_from([None, 2, "\t"]),
)
def test_json_of_other_programs_is_read_as_it_was(said: dict[str, Any], indent: Any) -> None:
    text = json.dumps(said, indent=indent)  # rare characters as two halves

    assert [read for read, _line in plain_yaml.documents(text)] == [said]


def test_nothing_in_a_text_is_invisible() -> None:
    (line,) = plain_yaml.lines({"command": "ls \u202e\x1b[2J\xa0\U000e0001"})

    assert line == r'command: "ls \u202e\u001b[2J\u00a0\U000e0001"'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [", 2),
        ("a: 1\nb: c: d", 2),
        ("a:\n\tb: 1", 2),
        ("a: &x 1\nb: *x", 2),
        ("a: 1\nb: 2\na: 3", 3),
        ("a: !!python/object/apply:os.system [ls]", 1),
        ("a:\n  - !!binary aGk=", 2),
        ("a: 1\n\nb: \x07", 3),
        ('a: 1\nb: "x', 2),
        ("? [a]\n: 1", 1),
        ("<<: {a: 1}\n<<: 2", 2),
        ("[" * 100_000, 1),
        ("%FOO\n---\na: 1", 1),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(YamlError) as refused:
        plain_yaml.documents(text)

    assert refused.value.line == line
    assert refused.value.why


def test_references_that_multiply_are_not_followed() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )

    with pytest.raises(YamlError) as refused:
        plain_yaml.documents(bomb)

    assert refused.value.line == 2


def test_more_values_than_anybody_needs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_yaml, "MOST_VALUES", 100)

    assert plain_yaml.documents(f"[{'x,' * 90}]")
    with pytest.raises(YamlError):
        plain_yaml.documents(f"[{'x,' * 110}]")


def test_words_mean_what_they_say() -> None:
    ((said, _line),) = plain_yaml.documents("a: no\nb: 22:00\nc: 010\nd: 2026-11-22\ne: 0x1F\nf:")

    assert said == {
        "a": "no",
        "b": "22:00",
        "c": "010",
        "d": "2026-11-22",
        "e": "0x1F",
        "f": None,
    }


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
def faults(text: str) -> list[tuple[str, str]]:
    with pytest.raises(DefinitionError) as refused:
        definitions.read_all(text, "a.yaml")
    return [(fault.where, fault.why) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("text", "where", "word"),
    [
        ("name: a\ncomand: x\n", "a.yaml:2", "command"),
        ("name: a\ntimeout_seconds: 5m\n", "a.yaml:2", "5m"),
        ("name: a\nuse_shell: yes\n", "a.yaml:2", "yes"),
        ("name: a\nenvironment: x\n", "a.yaml:2", "environment"),
        ("name: a\nneeds_services: ollama\n", "a.yaml:2", "needs_services"),
        ("name: a\ncommand: [ls]\n", "a.yaml:2", "command"),
        ("name: a\ncommand: null\n", "a.yaml:2", "null"),
        ("name: a\ndeadline: tomorrow\n", "a.yaml:2", "tomorrow"),
        ("name: a\ndeadline: 2026-13-01T00:00:00Z\n", "a.yaml:2", "2026-13"),
        ("name: a\nid: 3\n", "a.yaml:2", "id"),
        ("name: a\norigin: x\n", "a.yaml:2", "origin"),
        ("name: a\nskill: x\n", "a.yaml:2", "skill"),
        ("\ncommand: x\n", "a.yaml:2", ""),
        ("name: '  '\ncommand: x\n", "a.yaml:1", ""),
        ("jobs: 3\n", "a.yaml:1", "jobs"),
        ("jobs:\n  - x\n", "a.yaml:1", "name"),
        ("jobs: []\njops: []\n", "a.yaml:2", "jobs"),
        ("pools: 3\njobs: []\n", "a.yaml:1", "pools"),
        ("pools:\n  gpu:\n    seize: 1\njobs: []\n", "a.yaml:3", "size"),
        ("policy:\n  hold: stop\njobs: []\n", "a.yaml:2", "hold"),
        ("defaults:\n  name: a\njobs: []\n", "a.yaml:2", ""),
        ("just a text", "a.yaml:1", "name"),
        ("- 1\n", "a.yaml:1", "name"),
    ],
)
def test_what_no_job_can_be_is_refused_with_its_line(text: str, where: str, word: str) -> None:
    ((place, why),) = faults(text)

    assert place == where
    assert word in why


def test_all_that_is_wrong_is_told_at_once() -> None:
    text = "jobs:\n  - name: a\n    nise: 1\n    idle_io: 3\n  - command: x\n"

    assert [place for place, _why in faults(text)] == ["a.yaml:3", "a.yaml:4", "a.yaml:5"]


def test_a_file_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "LONGEST", 100)

    assert faults("# " + "x" * 100)[0][0] == "a.yaml"


@pytest.mark.parametrize(
    "said",
    [
        *({name: "x" * 2_000_000} for name in ("name", "arguments", "job_type", "schedule")),
        {"environment": {"A": "x" * 2_000_000}},
        {"pools": {"x" * 2_000_000: 1}},
        {"retry_exit_codes": [1] * 200_000},
        {"x" * 1000: 1},
    ],
)
def test_what_is_too_big_is_answered_at_once_and_in_short(said: dict[str, Any]) -> None:
    ((_where, why),) = faults(json.dumps({"name": "a", **said}))

    assert len(why) < 700


def test_numbers_are_text_where_text_is_wanted() -> None:
    (said,) = definitions.read(
        "name: 2026\nenvironment: {PORT: 8080, DEBUG: true, KEEP: }\npools: {gpu: 1}\n"
    )

    assert said.name == "2026"
    assert said.said["environment"] == {"PORT": "8080", "DEBUG": "true", "KEEP": None}
    assert said.said["pools"] == {"gpu": 1}


def test_several_documents_and_defaults_of_a_file() -> None:
    text = (
        "name: a\n---\n"
        "defaults: {timezone: Asia/Tokyo, nice: 5}\n"
        "pools: {gpu: 2}\n"
        "jobs:\n- name: b\n- {name: c, nice: 0}\n---\n# nothing\n"
    )

    found = definitions.read_all(text, "x")

    assert [(each.kind, each.name, each.line) for each in found] == [
        ("job", "a", 1),
        ("pool", "gpu", 4),
        ("job", "b", 6),
        ("job", "c", 7),
    ]
    assert [each.said.get("nice") for each in found if each.kind == "job"] == [None, 5, 0]


def test_a_deadline_without_a_zone_is_meant_in_that_of_the_job() -> None:
    (said,) = definitions.read("name: a\ntimezone: Asia/Tokyo\ndeadline: 2030-01-01 09:00\n")

    assert said.said["deadline"] == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.django_db
def test_a_job_is_written_as_people_would_write_it() -> None:
    shown = job(
        "nacht",
        job_type="cron",
        schedule="30 3 * * MON-FRI",
        command='set -e\n\tcp "a: b" .\n\necho',
        environment={"B": "no", "A": "1"},
        description="sichert: alles",
    )

    assert definitions.written([shown]) == (
        "name: nacht\n"
        "description: 'sichert: alles'\n"
        "job_type: cron\n"
        "schedule: 30 3 * * MON-FRI\n"
        "timezone: Europe/Berlin\n"
        "command: |\n"
        "  set -e\n"
        '  \tcp "a: b" .\n'
        "\n"
        "  echo\n"
        "environment:\n"
        "  A: '1'\n"
        "  B: 'no'\n"
    )
    assert "  A: null\n  B: null\n" in definitions.written([shown], values=False)


@pytest.mark.django_db
def test_several_jobs_are_a_list_and_json_is_read_as_well() -> None:
    shown = [job("b"), job("a")]

    text = definitions.written(shown)

    assert text.startswith("jobs:\n  - name: b\n")
    assert "\n\n  - name: a\n" in text
    told = json.dumps(definitions.of_all(shown))
    assert [each.name for each in definitions.read(told)] == ["a", "b"]


def test_every_field_of_the_form_is_written() -> None:
    left_out = {
        *("id", "anchor", "next_due_at", "schedule_error", "paused_until", "paused_by"),
        *("pause_note", "muted_until", "muted_by", "seen_failure", "origin", "skill", "version"),
        *("created_at", "updated_at", "updated_by"),
    }

    names = {each.name for each in Job._meta.concrete_fields}
    assert names - left_out == set(definitions.FIELDS)

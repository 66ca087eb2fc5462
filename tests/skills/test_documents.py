"""What is wrong in JSON, YAML and TOML files, and where."""

import os
import socket
from pathlib import Path

import pytest

from daemon_app.skills import documents
from daemon_app.skills.documents import LARGEST, Examiner


def said(folder: Path, name: str, text: str | bytes) -> list[str]:
    """Return what is told of a file, without its folder."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [fault.at(name) for fault in Examiner().examine(file)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a": [1, 2.5, null, true, "ä"]}'),
        ("tabs.json", '{\n\t"a":1,\n\t"b":\t[1]\n}\n'),
        ("mark.json", b"\xef\xbb\xbf{}"),
        ("wide.json", '{"a": "ä"}'.encode("utf-16")),
        ("a.yaml", "a: 1\nb: [x, y]\n---\nc: 2001-01-01\n"),
        ("empty.yml", ""),
        ("tags.yaml", "secret: !vault abc\nref: !Ref {x: 1}\nlist: !seq [1]\n"),
        ("merge.yaml", "a: &a {x: 1}\nb:\n  <<: *a\n  y: 2\n"),
        ("a.toml", '[a]\nb = 1\n["c.d"]\ne = 1979-05-27\n'),
        ("far.json", '{"$schema": "https://example.com/x.json", "a": 1}'),
    ],
)
def test_a_sound_file_has_no_faults(tmp_path, name, text):
    assert said(tmp_path, name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '{"a": [1,\n2\n', "a.json:3:1: This is no JSON: Expecting ',' delimiter."),
        ("e.json", "", "e.json:1:1: This is no JSON: Expecting value."),
        ("n.json", '{"a":\n NaN}', "n.json:2:2: “NaN” is no JSON."),
        ("c.json", "{} // x", "c.json:1:4: This is no JSON: Extra data."),
        (
            "d.json",
            '{"a": 1,\n\t"b": 2,\n\t"a": 3}',
            "d.json:3:2: “a” is given twice (first in line 1); one of them is lost.",
        ),
        (
            "d.yaml",
            "a:\n  b: 1\n  c: 2\n  b: 3\n",
            "d.yaml:4:3: “b” is given twice (first in line 2); one of them is lost.",
        ),
        ("month.yaml", "a: 1\nb: 2024-13-45\n", "month.yaml:2:4: This is no YAML: month must be"),
        ("tab.yaml", "a:\n\tb: 1\n", "tab.yaml:2:1: This is no YAML: while scanning for the next"),
        ("u.yaml", "a: 1\nb: *nope\n", "u.yaml:2:4: This is no YAML: found undefined alias"),
        ("z.yaml", "a: 1\nb: \x01\n", "z.yaml:2:4: This is no YAML: the character U+0001 may not"),
        ("l.yaml", b"a: 1\nb: \xe4\n", "l.yaml:2:4: This is no text in UTF-8."),
        ("k.toml", "a = 1\na = 2\n", "k.toml:2:6: This is no TOML: Cannot overwrite a value."),
        ("v.toml", "[t]\nx =\n", "v.toml:2:4: This is no TOML: Invalid value."),
        ("deep.json", "[" * 100_000, "deep.json: Nested too deeply to be read."),
        ("deep.yaml", "[" * 100_000, "deep.yaml: Nested too deeply to be read."),
        ("self.yaml", "a: &a\n  b: *a\n", "self.yaml:1:1: Its aliases stand for more than"),
        ("big.json", b"[" + b"1," * (LARGEST // 2) + b"1]", "big.json: Not looked into: it is lar"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path, name, text, told):
    [fault] = said(tmp_path, name, text)

    assert fault.startswith(told)


def test_all_documents_of_a_file_are_read_up_to_the_fault(tmp_path):
    told = said(tmp_path, "a.yaml", "a: 1\na: 2\n---\nb: 1\n---\nc: [1,\n")

    assert [line.split(": ")[0] for line in told] == ["a.yaml:2:1", "a.yaml:7:1"]


def test_a_few_lines_of_aliases_can_not_fill_the_memory(tmp_path):
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]" for n in range(1, 10))]

    [fault] = said(tmp_path, "bomb.yaml", "\n".join(lines))

    assert "stand for more than" in fault


def test_a_large_file_without_aliases_is_not_taken_for_one_with(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MOST_VALUES", 100)

    assert said(tmp_path, "large.yaml", "- {a: 1, b: 2}\n" * 200) == []


def test_a_process_survives_what_is_nested_as_deeply_as_is_allowed(tmp_path):
    flow = "[" * 990 + "]" * 990
    block = "\n".join(f"{' ' * n}a:" for n in range(400))

    assert said(tmp_path, "flow.yaml", flow) == ["flow.yaml: Nested too deeply to be read."]
    assert said(tmp_path, "block.yaml", block) == []
    assert said(tmp_path, "dashes.yaml", "- " * 5000) == [
        "dashes.yaml: Nested too deeply to be read."
    ]


def test_nothing_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.json")

    assert [fault.text for fault in Examiner().examine(tmp_path / "a.json")] == [
        "This is no regular file."
    ]


def test_a_file_full_of_faults_is_told_in_part(tmp_path):
    told = said(tmp_path, "a.yaml", "".join(f"k{n}: 1\nk{n}: 2\n" for n in range(50)))

    assert len(told) == 21
    assert told[-1] == "a.yaml: … and more; the rest is left out."


# ── Schemas ──────────────────────────────────────────────────────────────────────────────────────
SCHEMA = """{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["name"],
  "properties": {
    "name": {"type": "string"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "mode": {"enum": ["fast", "slow"]},
    "sub": {"type": "object", "properties": {"x": {}}, "additionalProperties": false}
  }
}"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.schema.json").write_text(SCHEMA)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("app.json", '{\n "name": "x",\n "port": 0}', "app.json:3:2: port: It must be 1 or more."),
        ("app.json", '{\n "port": 1\n}', "app.json:1:1: “name” is missing."),
        ("app.yaml", "name: x\nsub:\n  y: 1\n", "app.yaml:3:3: sub: “y” is not known here."),
        ("app.yml", "name: 3\n", "app.yml:1:1: name: It must be text."),
        ("app.toml", 'name = "x"\nmode = "odd"\n', "app.toml:2:1: mode: It must be one of fast, s"),
        (
            "other.json",
            '{\n"$schema": "./app.schema.json",\n"name": 1}',
            "other.json:3:1: name: It must be text.",
        ),
        (
            "line.yaml",
            "# yaml-language-server: $schema=app.schema.json\nname: 1\n",
            "line.yaml:2:1: name: It must be text.",
        ),
        (
            "table.toml",
            '"$schema" = "app.schema.json"\nname = "x"\n\n[sub]\ny = 1\n',
            "table.toml:5:1: sub: “y” is not known here.",
        ),
        ("lost.json", '{"$schema": "no.json"}', "lost.json:1:2: The schema “no.json” does not ex"),
        (
            "own.schema.json",
            '{"$schema": "http://json-schema.org/draft-07/schema#",\n "required": 3}',
            "own.schema.json:2:2: required: It must be a list.",
        ),
    ],
)
def test_a_file_is_checked_by_its_schema(folder, name, text, told):
    [fault] = said(folder, name, text)

    assert fault.startswith(told)


def test_what_fits_its_schema_has_no_faults(folder):
    text = '{"$schema": "app.schema.json", "name": "x", "port": 80, "sub": {"x": [1]}}'

    assert said(folder, "app.json", text) == []


def test_values_are_not_repeated_for_they_may_be_secret(folder):
    told = said(folder, "app.json", '{"name": "x", "port": "hunter2", "mode": "hunter2"}')

    assert len(told) == 2
    assert "hunter2" not in "".join(told)


def test_a_schema_that_is_none_is_the_fault_of_the_schema(tmp_path):
    (tmp_path / "a.schema.json").write_text('{"type": 3}')

    [fault] = said(tmp_path, "a.json", "{}")

    assert fault.startswith("a.json:1:1: a.schema.json is no JSON Schema: ")


def test_a_schema_finds_others_beside_it_and_never_on_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("the network was asked"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    (tmp_path / "port.json").write_text('{"type": "integer"}')
    (tmp_path / "a.schema.json").write_text('{"properties": {"p": {"$ref": "port.json"}}}')
    (tmp_path / "b.schema.json").write_text('{"$ref": "https://example.com/schema.json"}')

    assert said(tmp_path, "a.json", '{"p": "x"}') == ["a.json:1:2: p: It must be a whole number."]
    assert said(tmp_path, "b.json", "{}") == [
        (
            "b.json: The schema b.schema.json refers to “https://example.com/schema.json”, "
            "which is no file here."
        )
    ]

"""What a command says of its progress, by lines and by the tool, and what is told of it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import doorbell, progress, supervisor
from daemon_app.progress import Listener, Progress
from tests.ground.conftest import Site, files_no_bigger_than, until

ROOT = Path(__file__).parents[2]
GATE = "while [ ! -e $HERE/go-{} ]; do sleep 0.01; done;"


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"progress": 40, "label": "step 2"}', Progress(40, "step 2")),
        ('{"progress":0}', Progress(0)),
        ('{"progress": 99.9}\r', Progress(99)),
        ('{"progress": -3}', Progress(0)),
        ('{"progress": 250}', Progress(100)),
        ('{"progress": 1' + "0" * 400 + "}", Progress(100)),
        ('{"progress": 7, "label": 3, "more": [1]}', Progress(7)),
        ('{"progress": 7, "label": "a", "token": "b"}', Progress(7, "a", "b")),
        ('{"token": "b", "progress": 7}', Progress(7, "", "b")),
        ('{"token":"\\u00fc \\ud83c\\udfbb\\n"}', Progress(None, "", "ü 🎻\n")),
        ('{"token": ""}', Progress(None, "", "")),
        ('{"progress": "much", "token": "b"}', Progress(None, "", "b")),
        ('{"progress": 7, "token": 8}', Progress(7)),
        ('{"progress": 7, "token": "\\u0000"}', Progress(7)),
        ('{"progress": 7, "token": "' + "x" * 4097 + '"}', Progress(7)),
        ('{"token": "' + "ü" * 2048 + '"}', Progress(None, "", "ü" * 2048)),
        ('{"token": "' + "ü" * 2049 + '"}', None),
        ('{"token": "\\ud800"}', None),
        ('{"token": null}', None),
        ('{"label": "a", "token": "b"}', None),
        ('{"progress": 7, "label": "a\\n\\u001b[31mb\\u0000\\ud800c"}', Progress(7, "a bc")),
        ('{"progress": NaN}', None),
        ('{"progress": 1e999}', None),
        ('{"progress": -Infinity}', None),
        ('{"progress": true}', None),
        ('{"progress": "40"}', None),
        ('{"progress": 40', None),
        ('{"progress":' + "[" * 3000, None),
        ('{"progress": 4, "label": "' + "x" * progress.LONGEST_LINE + '"}', None),
        (' {"progress": 40}', None),
        ('so: {"progress": 40}', None),
        ('{"Progress": 40}', None),
    ],
)
def test_a_line_reports_or_is_just_a_line(line, expected):
    assert Listener().hear(f"{line}\n".encode()) == expected


def test_a_label_is_cut():
    found = progress.parse(json.dumps({"progress": 1, "label": "x" * 999}).encode())

    assert found == Progress(1, "x" * 200)


def test_the_last_report_counts_and_junk_behind_it_does_not():
    listener = Listener()

    found = listener.hear(b'one\n{"progress": 1}\n{"progress": 2}\n{"progress": x}\nend\n')

    assert found == Progress(2)
    assert listener.hear(b"nothing\n") is None


@pytest.mark.parametrize(
    "lines",
    [
        ['{"token": "a"}', *['{"progress": 5}'] * 2000],
        ['{"progress": 4, "token": "a"}', '{"progress": 5}', '{"token": 1}'],
        ['{"progress": 5}', '{"token": "b"}', '{"token": "a"}'],
        ['{"progress": 5, "token": "b"}', '{"token": "a"}'],
        ['{"token": "a"}', '{"progress": 5}', '{"level": "info", "token": "x"}', 'x{"token": "y"}'],
        ['{"progress": 5}', *[f'{{"token": "{each}"}}' for each in range(2000)], '{"token": "a"}'],
    ],
)
def test_the_last_of_progress_and_token_count_wherever_they_stand(lines):
    assert Listener().hear("\n".join([*lines, ""]).encode()) == Progress(5, "", "a")


def test_a_last_line_needs_no_end():
    listener = Listener()

    assert listener.hear(b'text\n{"progress": 100}') is None
    assert listener.end() == Progress(100)
    assert listener.end() is None


LINES = st.sampled_from(
    [
        b'{"progress": 1}',
        b'{"progress": 2, "label": "two"}',
        b'{"progress": bad}',
        b'{"token": "a"}',
        b'{"progress": 5, "token": "b"}',
        b'{"token": 5}',
        b'x{"progress": 3}',
        b'{"prog',
        b"",
        b"text",
        b'{"progress": 4, "label": "' + b"y" * 40_000 + b'"}',
        b"z" * 40_000,
    ]
)


@given(lines=st.lists(LINES, max_size=7), ended=st.booleans(), seed=st.integers(0, 99))
def test_however_the_bytes_arrive_the_same_is_heard(lines, ended, seed):
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    said = [
        progress.parse(line)
        for line in lines
        if len(line) <= progress.LONGEST_LINE and line.startswith(progress.SIGNS)
    ]
    percents = [each.percent for each in said if each and each.percent is not None]
    tokens = [each.token for each in said if each and each.token is not None]
    cuts = random.Random(seed)
    listener = Listener()
    heard: list[Progress | None] = []

    while data:
        size = cuts.choice([1, 2, 5, 13, 700, 4096, 65536])
        heard.append(listener.hear(data[:size]))
        data = data[size:]
    heard.append(listener.end())

    # The last of each
    assert [each.percent for each in heard if each and each.percent is not None][-1:] == percents[
        -1:
    ]
    assert [each.token for each in heard if each and each.token is not None][-1:] == tokens[-1:]


# ── through a run ────────────────────────────────────────────────────────────────────────────────


def test_a_line_is_told_at_once_and_stands_in_the_result(site: Site):
    run = site.launch(
        f"printf '{{\"progress\": 4'; {GATE.format(1)} printf '0}}\\n' >&1; {GATE.format(2)}"
        ' echo \'{"progress": 80.5, "label": "Schritt 2"}\' >&2; exit 3'
    )
    (site.folder / "go-1").touch()

    first = site.news("progress", run)
    (site.folder / "go-2").touch()
    result = site.ended(run)

    assert first == {"op": "progress", "run": run, "fence": 1, "progress": 40, "label": ""}
    assert (result["progress"], result["progress_label"]) == (80, "Schritt 2")
    assert site.news("progress", run, progress=80)["label"] == "Schritt 2"
    assert site.output().count(b"progress") == 2


def test_a_run_that_says_nothing_has_no_progress(site: Site):
    result = site.run("echo hello")

    assert (result["progress"], result["progress_label"]) == (None, "")


def test_a_last_line_without_an_end_counts(site: Site):
    result = site.run("printf '{\"progress\": 70}'")

    assert result["progress"] == site.news("progress", 1)["progress"] == 70


def test_of_many_reports_a_few_are_told_and_always_the_last(site: Site):
    reports = 'print("{\\"progress\\": %d}" % (n // 2000), flush=not n % 100)'
    result = site.run([sys.executable, "-c", f"for n in range(200_001): {reports}"])

    told = [news["progress"] for news in site.heard if news["op"] == "progress"]
    assert told[-1] == result["progress"] == 100
    assert len(told) <= result["duration"] / supervisor.PROGRESS_SECONDS + 2
    assert all(earlier <= later for earlier, later in pairwise(told))


def test_what_a_line_said_is_kept_for_who_was_away(site: Site):
    run = site.launch(
        f"echo '{{\"progress\": 10}}'; {GATE.format(1)}"
        f' echo \'{{"progress": 20, "label": "two"}}\'; {GATE.format(2)}'
    )
    path = str(site.of(run) / "progress")

    def kept() -> Progress | None:
        found = progress.read(path)
        return found[0] if found else None

    until(lambda: kept() == Progress(10))
    (site.folder / "go-1").touch()
    until(lambda: kept() == Progress(20, "two"))
    (site.folder / "go-2").touch()

    assert site.ended(run)["progress"] == 20
    assert not list(site.of(run).glob("*~*"))


def test_what_was_kept_is_not_taken_for_what_the_tool_said(site: Site):
    path = site.of(1) / "progress"
    run = site.launch(
        f"echo '{{\"progress\": 10}}'; {GATE.format(1)} echo '{{\"progress\": 20}}'",
        env=tool_env(site, 1),
    )
    until(path.exists)
    until(lambda: not list(site.of(run).glob("*~*")))
    (site.folder / "go-1").touch()

    assert site.ended(run)["progress"] == 20


def test_what_the_tool_said_after_a_line_is_not_overwritten(site: Site):
    path = str(site.of(1) / "progress")
    run = site.launch(
        f"echo '{{\"progress\": 10}}'; echo '{{\"progress\": 20}}'; eval $TOOL 40;"
        f" {GATE.format(1)}",
        env=tool_env(site, 1),
    )
    site.news("progress", run, progress=40)
    time.sleep(1.5 * supervisor.KEEP_SECONDS)  # what should not happen has no sign

    found = progress.read(path)
    (site.folder / "go-1").touch()

    assert found
    assert found[0] == Progress(40)
    assert site.ended(run)["progress"] == 40


def test_news_that_find_no_room_are_told_later(site: Site):
    filled = 0
    while doorbell.ring(site.runtime, "runner", b'{"op": "filler", "run": 0}'):
        filled += 1
    run = site.launch(
        f"sleep 0.1; echo '{{\"progress\": 40}}'; {GATE.format(1)}", soft_timeout=0.01
    )
    until(lambda: b"progress" in site.output(run))

    assert site.news("progress", run)["progress"] == 40
    assert site.news("phase", run)["phase"] == "soft"
    assert filled
    (site.folder / "go-1").touch()
    assert site.ended(run)["progress"] == 40


# ── the tool ─────────────────────────────────────────────────────────────────────────────────────

TOOL = [sys.executable, "-c", "from daemon_app.bach import main; main()", "progress"]


def tool_env(site: Site, run: int) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "BACH_PROGRESS": str(site.of(run) / "progress"),
        "BACH_RUNTIME": str(site.runtime),
        "BACH_FENCE": "1",
        "TOOL": f"{sys.executable} -c 'from daemon_app.bach import main; main()' progress",
    }


def test_the_tool_writes_and_rings_and_the_result_has_the_last_of_both(site: Site):
    run = site.launch(
        f"echo '{{\"progress\": 10}}'; eval $TOOL 40 Schritt 2; {GATE.format(1)}",
        env=tool_env(site, 1),
    )

    news = site.news("progress", run, progress=40)
    (site.folder / "go-1").touch()
    result = site.ended(run)

    assert news == {"op": "progress", "run": run, "fence": 1, "progress": 40, "label": "Schritt 2"}
    assert (result["progress"], result["progress_label"]) == (40, "Schritt 2")
    assert not list(site.of(run).glob("*~*"))


def test_a_line_after_the_tool_counts(site: Site):
    result = site.run("eval $TOOL 40; sleep 0.02; echo '{\"progress\": 50}'", env=tool_env(site, 1))

    assert result["progress"] == 50


@pytest.mark.parametrize(
    "sabotage",
    [
        "mkfifo $BACH_PROGRESS",
        "mkdir $BACH_PROGRESS",
        "ln -s /etc/passwd $BACH_PROGRESS",
        "echo nonsense >$BACH_PROGRESS",
        "head -c 9999999 /dev/zero >$BACH_PROGRESS",
    ],
)
def test_whatever_a_command_makes_of_its_file_the_run_ends_well(site: Site, sabotage):
    result = site.run(f"{sabotage}; echo '{{\"progress\": 10}}'", env=tool_env(site, 1))

    assert (result["outcome"], result["exit_code"], result["progress"]) == ("exited", 0, 10)


def use_tool(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOOL, *words],
        env={"PATH": os.defpath, "LANG": "en_US.UTF-8", **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_outside_of_a_run_the_tool_says_the_way_out(tmp_path):
    said = use_tool("40", "step 2")

    assert said.returncode == 2
    assert "not started by the daemon" in said.stderr
    assert "bach daemon run" in said.stderr


@pytest.mark.parametrize(
    "words",
    [
        *([], ["much"], ["nan"], ["250"], ["-1"], ["inf"], ["40x", "label"], ["--help"]),
        *(["--token"], ["40", "--token"], ["much", "--token", "page 17"]),
    ],
)
def test_nonsense_reports_nothing(tmp_path, words):
    path = tmp_path / "progress"

    said = use_tool(*words, BACH_RUN_ID="1", BACH_PROGRESS=str(path))

    assert said.returncode == (0 if words == ["--help"] else 2)
    hint = "'--token' requires" if words[-1:] == ["--token"] else "bach progress"
    assert hint in said.stdout + said.stderr
    assert not path.exists()


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (b"x" * 5000, "A token may have up to 4096 bytes; this one has 5000."),
        ("ü".encode() * 2049, "A token may have up to 4096 bytes; this one has 4098."),
        (b"\xff", "A token must be text in UTF-8."),
    ],
)
def test_what_can_be_no_token_is_refused_with_the_reason(tmp_path, token, said):
    path = tmp_path / "progress"
    refused = subprocess.run(
        [*TOOL, "40", "--token", token],
        env={
            "PATH": os.defpath,
            "LANG": "en_US.UTF-8",
            "BACH_RUN_ID": "1",
            "BACH_PROGRESS": str(path),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 2
    assert said in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--token", "Seite 17 ü\n🎻"], ["--token=Seite 17 ü\n🎻"]])
def test_a_token_is_written_as_it_stands(tmp_path, words):
    path = tmp_path / "progress"

    said = use_tool(*words, BACH_RUN_ID="1", BACH_PROGRESS=str(path))

    assert said.returncode == 0
    assert (found := progress.read(str(path)))
    assert found[0] == Progress(None, "", "Seite 17 ü\n🎻")


def test_the_long_way_understands_a_token_just_so(tmp_path):
    path = tmp_path / "progress"
    said = subprocess.run(
        [sys.executable, "-m", "daemon_app.cli", "progress", "40", "two words", "--token", "a b"],
        env={"PATH": os.defpath, "BACH_RUN_ID": "1", "BACH_PROGRESS": str(path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (said.returncode, said.stderr) == (0, "")
    assert (found := progress.read(str(path)))
    assert found[0] == Progress(40, "two words", "a b")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    said = use_tool("40", BACH_RUN_ID="1", BACH_PROGRESS=str(tmp_path / "gone" / "progress"))

    assert said.returncode == 1
    assert f"{tmp_path}/gone/progress" in said.stderr


def test_a_full_disk_leaves_what_was_said_before(tmp_path):
    path = tmp_path / "progress"
    env = {"BACH_RUN_ID": "1", "BACH_PROGRESS": str(path)}
    assert use_tool("40", **env).returncode == 0

    with files_no_bigger_than(0):
        said = partial(use_tool, "50", **env)()

    assert said.returncode == 1
    assert progress.read(str(path)) is not None
    assert json.loads(path.read_text()) == {"progress": 40, "label": ""}


def test_the_tool_loads_next_to_nothing(tmp_path):
    script = "from daemon_app.bach import main; main()"
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            script,
            "progress",
            "40",
            "label",
            "--token",
            "t",
        ],
        env={"BACH_RUN_ID": "1", "BACH_PROGRESS": str(tmp_path / "progress")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "daemon_app.progress" in loaded
    dear = ("django", "click", "gettext", "asyncio", "subprocess", "typing", "pathlib", "ctypes")
    ours = {name for name in loaded if name.startswith("daemon_app.")}
    assert not loaded.intersection(dear)
    assert ours == {f"daemon_app.{name}" for name in ("bach", "progress", "doorbell", "output")}

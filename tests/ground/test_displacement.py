"""A run that makes room for somebody: how it is asked, what it may do then, what is told of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daemon_app import output, processes, progress, supervisor
from daemon_app.processes import Identity
from tests.ground.conftest import TOKEN, Site, until
from tests.ground.test_progress import tool_env

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

LOOP = "while :; do sleep 0.01; done"
DEAF = f"trap '' TERM; echo >> ready; {LOOP}"
# Hears USR1, saves, and ends; what else happens to it, it notes as well.
SAVER = """
import os, signal, sys, time
def save(number, frame):
    print("saved", number, flush=True)
    sys.exit(int(sys.argv[1]))
signal.signal(getattr(signal, sys.argv[2]), save)
with open("ready", "a") as file:  # an exit while it is closed by itself would be swallowed
    file.write("\\n")
while True:
    time.sleep(1000)
"""


def saver(exit_code: int = 0, name: str = "SIGUSR1") -> list[str]:
    return [sys.executable, "-c", SAVER, str(exit_code), name]


def displace(site: Site, run: int, fence: int | None = 1) -> bool:
    return supervisor.request_stop(site.of(run), "displace", fence)


def phases(site: Site) -> list[str]:
    return [news["phase"] for news in site.heard if news["op"] == "phase"]


@pytest.fixture
def clean(site: Site) -> Iterator[Site]:
    """See that nothing of any run is left."""
    yield site
    left = {run: processes.find_marked(run, TOKEN) for run in range(1, site.runs + 1)}
    assert not any(left.values())


# ── the ladder ───────────────────────────────────────────────────────────────────────────────────


def test_who_heeds_sigterm_makes_room_at_once_and_is_displaced(clean: Site):
    run = clean.launch(f"trap 'echo bye; exit 0' TERM; echo >> ready; {LOOP}", yield_seconds=1000)
    clean.wrote("ready")

    assert displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["exit_code"], result["phase"]) == ("displaced", 0, "asked")
    assert b"bye\n" in clean.output()  # and what a shell says of its `sleep`
    assert phases(clean) == ["asked"]
    assert (clean.of(run) / "phase").read_text() == "asked"


def test_who_ignores_it_all_climbs_down_every_rung_and_nothing_survives(clean: Site):
    run = clean.launch(f'setsid sh -c "{DEAF}" & {DEAF}', yield_seconds=0.2)
    clean.wrote("ready", lines=2)

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["signal"], result["survivors"]) == ("displaced", 9, 0)
    assert (result["phase"], phases(clean)) == ("kill", ["asked", "term", "kill"])
    told = [news["at"] for news in clean.heard if news["op"] == "phase"]
    assert told[0] == result["asked_at"]
    assert told[1] - told[0] >= 0.19
    assert told[2] - told[1] >= 0.19
    assert result["started_at"] <= told[0] < told[2] <= result["yielded_at"]


def test_the_command_sees_each_signal_in_turn(clean: Site):
    run = clean.launch(
        f"trap 'echo usr1' USR1; trap 'echo term' TERM; echo >> ready; {LOOP}",
        ask_signal="USR1",
        yield_seconds=0.2,
    )
    clean.wrote("ready")

    displace(clean, run)

    assert clean.ended(run)["outcome"] == "displaced"
    said = [line for line in clean.output().splitlines() if line != b"Terminated"]
    assert said == [b"usr1", b"term"]


def test_what_was_stopped_is_woken_to_hear_that_it_is_asked(clean: Site):
    run = clean.launch(saver(), ask_signal="USR1", yield_seconds=1000)
    clean.wrote("ready")
    command = clean.news("started", run)["pid"]
    os.kill(command, signal.SIGSTOP)
    if sys.platform == "linux":
        until(lambda: "State:\tT" in Path(f"/proc/{command}/status").read_text())

    displace(clean, run)

    assert clean.ended(run)["outcome"] == "displaced"
    assert clean.output() == b"saved 10\n"


@pytest.mark.parametrize("name", ["USR1", "USR2", "HUP", "INT"])
def test_who_is_asked_by_another_signal_saves_and_goes(clean: Site, name):
    run = clean.launch(saver(3, f"SIG{name}"), ask_signal=name, yield_seconds=1000)
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["exit_code"], result["phase"]) == ("displaced", 3, "asked")
    assert clean.output() == b"saved %d\n" % getattr(signal, f"SIG{name}")


@linux
@pytest.mark.parametrize("name", ["USR1", "HUP"])
def test_neither_shell_nor_helper_dies_of_a_signal_that_they_do_not_listen_for(clean: Site, name):
    program = f"'{sys.executable}' -c '{SAVER}' 0 SIG{name}"
    run = clean.launch(
        f"cd .; {program} | while read line; do echo helped $line; done; echo shell lives",
        ask_signal=name,
        yield_seconds=1000,
    )
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    number = getattr(signal, f"SIG{name}")
    assert (result["outcome"], result["exit_code"]) == ("displaced", 0)
    assert clean.output() == b"helped saved %d\nshell lives\n" % number


@linux
@pytest.mark.parametrize(("name", "phase", "number"), [("INT", "asked", 2), ("USR1", "term", 15)])
def test_where_nobody_listens_only_a_signal_that_means_an_end_is_sent(
    clean: Site, name, phase, number
):
    run = clean.launch("echo >> ready; exec sleep 1000", ask_signal=name, yield_seconds=0.2)
    clean.wrote("ready")
    until(lambda: b"sleep" in Path(f"/proc/{pid(clean, run)}/cmdline").read_bytes())

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["phase"], result["signal"]) == ("displaced", phase, number)


def pid(site: Site, run: int) -> int:
    found: int = until(lambda: supervisor.look(site.of(run)).command)
    return found


def test_an_unknown_signal_is_remarked_and_sigterm_sent(clean: Site):
    run = clean.launch("echo >> ready; exec sleep 1000", ask_signal="KILL", yield_seconds=1000)
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["signal"], result["remarks"]) == (15, ["ask_signal: KILL"])


def test_a_program_may_look_for_the_file_instead(clean: Site):
    asked = clean.of(1) / "asked"
    run = clean.launch(
        "echo >> ready; while [ ! -e $BACH_STOP ]; do sleep 0.01; done; cat $BACH_STOP; exit 4",
        env={"BACH_STOP": str(asked)},
        ask_signal="USR1",
        yield_seconds=1000,
    )
    clean.wrote("ready")
    assert not asked.exists()

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["exit_code"]) == ("displaced", 4)
    assert clean.output().startswith(b"displaced: ")
    assert clean.output().count(b"\n") == 1


def test_the_file_is_there_when_the_signal_comes(clean: Site):
    run = clean.launch(
        f"trap 'cat $BACH_STOP; exit' TERM; echo >> ready; {LOOP}",
        env={"BACH_STOP": str(clean.of(1) / "asked")},
        yield_seconds=1000,
    )
    clean.wrote("ready")

    displace(clean, run)
    clean.ended(run)

    assert b"displaced: " in clean.output()


def test_a_place_that_is_taken_costs_the_file_and_not_the_signal(clean: Site):
    run = clean.launch("mkdir runs/1/asked; echo >> ready; exec sleep 1000", yield_seconds=1000)
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["signal"]) == ("displaced", 15)
    assert result["remarks"] == ["asked: EISDIR"]


@pytest.mark.parametrize("exit_code", [0, 3])
def test_the_stop_command_asks_too_and_its_end_hurries_nobody(clean: Site, exit_code):
    run = clean.launch(
        f"trap 'echo termed' TERM; echo >> ready; {LOOP}",
        stop_command=f"echo $BACH_COMMAND_PID > stopped; exit {exit_code}",
        ask_signal="USR1",
        grace=0,
        yield_seconds=0.3,
    )
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert clean.wrote("stopped") == [str(result["command"])]
    assert clean.output().count(b"termed\n") == 1
    assert (result["outcome"], result["phase"]) == ("displaced", "kill")
    told = {news["phase"]: news["at"] for news in clean.heard if news["op"] == "phase"}
    assert told["term"] - told["asked"] >= 0.29
    assert result["remarks"] == ([f"stop_command: exit {exit_code}"] if exit_code else [])


def test_the_stop_command_is_not_asked_itself(clean: Site):
    run = clean.launch(
        "trap '' TERM; echo >> ready; while [ ! -e go ]; do sleep 0.01; done",
        stop_command="sleep 0.1; touch go",
        yield_seconds=1000,
    )
    clean.wrote("ready")

    displace(clean, run)

    assert clean.ended(run)["phase"] == "asked"


def test_two_thousand_who_ignore_it_are_gone_in_the_end(clean: Site):
    os.mkfifo(clean.folder / "block")
    run = clean.launch(
        "trap '' TERM; i=0; while [ $i -lt 500 ]; do (read x < block) & i=$((i+1)); done;"
        " echo >> ready; wait",
        yield_seconds=0.1,
    )
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["survivors"], result["phase"]) == ("displaced", 0, "kill")


# ── what becomes of it ───────────────────────────────────────────────────────────────────────────


def test_who_has_finished_all_the_same_need_not_run_again(clean: Site):
    run = clean.launch(
        'trap \'echo "{\\"progress\\": 100}"; exit 0\' TERM; echo >> ready; ' + LOOP,
        yield_seconds=1000,
    )
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["exit_code"], result["progress"]) == ("exited", 0, 100)
    assert (result["phase"], result["asked_at"] is not None) == ("asked", True)


@pytest.mark.parametrize(("percent", "exit_code"), [(99, 0), (100, 1)])
def test_who_has_not_quite_finished_is_displaced(clean: Site, percent, exit_code):
    run = clean.launch(
        f'trap \'echo "{{\\"progress\\": {percent}}}"; exit {exit_code}\' TERM;'
        f" echo >> ready; {LOOP}",
        yield_seconds=1000,
    )
    clean.wrote("ready")

    displace(clean, run)

    assert clean.ended(run)["outcome"] == "displaced"


def test_who_had_ended_before_was_not_displaced(clean: Site):
    run = clean.launch(
        "(trap '' TERM; echo >> ready; while :; do sleep 0.01; done) & exit 0",
        linger=1000,
        yield_seconds=0.1,
    )
    clean.wrote("ready")
    until(lambda: not Identity.of(pid(clean, run)).is_alive())

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["exit_code"], result["survivors"]) == ("exited", 0, 0)
    assert (result["asked_at"], result["phase"]) == (None, None)
    assert result["left_behind"] >= 1


def test_a_run_whose_end_has_come_cannot_be_displaced(clean: Site):
    clean.run("true")

    assert not displace(clean, 1)
    assert not (clean.of(1) / "displace").exists()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("phase", ["asked", "term"])
def test_a_stop_wins_over_a_displacement_and_has_its_own_grace(clean: Site, how, phase):
    run = clean.launch(
        f"trap 'echo term >> said' TERM; trap 'echo usr1 >> said' USR1; echo >> ready; {LOOP}",
        ask_signal="USR1",
        grace=0.4,
        yield_seconds=1000 if phase == "asked" else 0.2,
    )
    clean.wrote("ready")
    displace(clean, run)
    clean.wrote("said", lines=1 if phase == "asked" else 2)
    asked = clean.news("phase", run, phase=phase)["at"]

    assert supervisor.request_stop(clean.of(run), how, 1)
    result = clean.ended(run)

    assert (result["outcome"], result["signal"], result["phase"]) == ("stopped", 9, "kill")
    told = {news["phase"]: news["at"] for news in clean.heard if news["op"] == "phase"}
    if how == "stop":
        assert clean.wrote("said") == ["usr1", "term"]
        assert told["kill"] - max(asked, told["term"]) >= 0.39
    elif phase == "asked":
        assert "term" not in told


def test_a_displacement_changes_nothing_of_a_stop(clean: Site):
    run = clean.launch(DEAF, grace=0.5, yield_seconds=0.0)
    clean.wrote("ready")
    supervisor.request_stop(clean.of(run), "stop", 1)
    clean.news("phase", run, phase="term")

    assert displace(clean, run)
    result = clean.ended(run)

    assert result["outcome"] == "stopped"
    assert phases(clean) == ["term", "kill"]
    assert not (clean.of(run) / "asked").exists()


@pytest.mark.parametrize("order", [("stop", "displace"), ("displace", "stop")])
def test_of_two_wishes_before_the_start_the_stop_counts(clean: Site, order):
    for how in order:
        assert supervisor.request_stop(clean.of(1), how, 1)

    result = clean.run("touch never")

    assert (result["outcome"], result["started_at"]) == ("stopped", None)


def test_a_stop_that_comes_when_the_command_has_just_yielded_still_counts(clean: Site):
    run = clean.launch(
        f"(trap '' TERM; echo >> ready; {LOOP}) & trap 'exit 0' TERM; echo >> ready; {LOOP}",
        grace=0.1,
        yield_seconds=1000,
    )
    clean.wrote("ready", lines=2)
    displace(clean, run)
    until(lambda: not Identity.of(pid(clean, run)).is_alive())

    supervisor.request_stop(clean.of(run), "stop", 1)

    assert clean.ended(run)["outcome"] == "stopped"


def test_a_time_limit_that_passes_meanwhile_makes_no_time_out(clean: Site):
    run = clean.launch(DEAF, timeout=0.3, yield_seconds=0.4)
    clean.wrote("ready")

    displace(clean, run)
    result = clean.ended(run)

    assert (result["outcome"], result["phase"]) == ("displaced", "kill")
    assert result["duration"] > 0.3


def test_who_is_timed_out_already_is_not_displaced(clean: Site):
    run = clean.launch(DEAF, timeout=0.1, grace=0.5, yield_seconds=0.0)
    clean.news("phase", run, phase="term")

    displace(clean, run)

    assert clean.ended(run)["outcome"] == "timed_out"


def test_a_displacement_before_the_start_starts_nothing(clean: Site):
    assert displace(clean, 1)

    result = clean.run("touch never")

    assert (result["outcome"], result["started_at"], result["error"]) == ("displaced", None, None)
    assert (result["asked_at"], result["yielded_at"], result["phase"]) == (None, None, None)
    assert not (clean.folder / "never").exists()


@pytest.mark.parametrize("begun", [True, False])
def test_who_is_to_be_cancelled_then_is_stopped_instead(clean: Site, begun):
    spec = clean.spec(
        f"trap 'exit 3' TERM; echo >> ready; {LOOP}", on_presence="cancel", stop_command="true"
    )
    if begun:
        clean.launcher.launch(spec)
        clean.wrote("ready")

    displace(clean, 1)
    if not begun:
        clean.launcher.launch(spec)
    result = clean.ended(1)

    assert (result["outcome"], result["exit_code"]) == ("stopped", 3 if begun else None)
    assert not (clean.of(1) / "asked").exists()


def test_the_next_attempt_is_free_of_it(clean: Site):
    run = clean.launch("echo >> ready; exec sleep 1000", yield_seconds=1000)
    clean.wrote("ready")
    displace(clean, run)
    clean.ended(run)
    clean.heard.clear()

    clean.launch("ls runs/1", run=run, fence=2)
    result = clean.ended(run)

    assert (result["outcome"], result["asked_at"]) == ("exited", None)
    left = set(clean.output(run).decode().split())
    assert left.isdisjoint({"asked", "displace", "phase"})
    assert (clean.of(run) / "attempts" / "1" / "asked").exists()


def test_a_wish_for_the_next_attempt_waits_for_it(clean: Site):
    clean.run("true")
    clean.heard.clear()

    assert displace(clean, 1, fence=2)
    clean.launch("touch never", run=1, fence=2)

    assert clean.ended(1)["outcome"] == "displaced"


def test_a_displaced_run_ends_so_though_the_daemon_was_killed_meanwhile(clean: Site):
    run = clean.launch(f'echo \'{{"token": "page 17"}}\'; {DEAF}', yield_seconds=0.4)
    clean.wrote("ready")
    displace(clean, run)
    clean.news("phase", run, phase="asked")
    clean.launcher.close()

    seen = until(lambda: supervisor.look(clean.of(run)).result)
    clean.launcher = supervisor.Launcher(clean.runtime)

    assert (seen["outcome"], seen["phase"], seen["token"]) == ("displaced", "kill", "page 17")


# ── what it takes along ──────────────────────────────────────────────────────────────────────────


def test_a_token_is_told_kept_and_stands_in_the_result(site: Site):
    token = "Seite 17: „Übung“ 🎻\nzweite Zeile"
    line = progress.Progress(40, "Schritt", token).facts
    (site.folder / "line").write_text(f"{json.dumps(line)}\n")
    run = site.launch("cat line; while [ ! -e go ]; do sleep 0.01; done")

    told = site.news("progress", run)
    kept = until(lambda: progress.read(str(site.of(run) / "progress")))
    (site.folder / "go").touch()
    result = site.ended(run)

    assert (told["progress"], told["label"], told["token"]) == (40, "Schritt", token)
    assert until(lambda: progress.read(str(site.of(run) / "progress")))[0].token == token
    assert kept[0].percent == 40
    assert result["token"] == token


def test_token_and_progress_do_not_undo_each_other(site: Site):
    gate = "while [ ! -e go-{} ]; do sleep 0.01; done;"
    run = site.launch(
        f"""echo '{{"progress": 10, "label": "one"}}'; {gate.format(1)}
        echo '{{"token": "a"}}'; {gate.format(2)} echo '{{"progress": 20}}'""",
    )

    first = site.news("progress", run)
    (site.folder / "go-1").touch()
    second = site.news("progress", run, token="a")
    (site.folder / "go-2").touch()
    third = site.news("progress", run, progress=20)
    result = site.ended(run)

    assert "token" not in first
    assert (second["progress"], second["label"]) == (10, "one")
    assert "token" not in third
    assert (result["progress"], result["token"]) == (20, "a")


def test_the_tool_tells_a_token_alone_and_with_progress(site: Site):
    run = site.launch(
        "eval $TOOL 40 half; eval $TOOL --token '\"Seite 18 ü\"'; while [ ! -e go-1 ]; do"
        " sleep 0.01; done; eval $TOOL 50 more --token=b; while [ ! -e go-2 ]; do sleep 0.01; done",
        env=tool_env(site, 1),
    )
    alone = site.news("progress", run, token="Seite 18 ü")
    kept = progress.read(str(site.of(run) / "progress"))
    (site.folder / "go-1").touch()
    both = site.news("progress", run, token="b")
    (site.folder / "go-2").touch()
    result = site.ended(run)

    assert alone == {"op": "progress", "run": run, "fence": 1, "token": "Seite 18 ü"}
    assert kept
    assert kept[0] == progress.Progress(40, "half", "Seite 18 ü")
    assert (both["progress"], both["label"]) == (50, "more")
    assert (result["progress"], result["progress_label"], result["token"]) == (50, "more", "b")


def test_many_who_tell_at_once_lose_no_token(site: Site):
    result = site.run(
        "eval $TOOL --token saved; for n in 1 2 3 4 5 6; do eval $TOOL $n & done; wait",
        env=tool_env(site, 1),
    )

    assert result["token"] == "saved"
    assert result["progress"] in range(1, 7)


def test_an_empty_token_takes_the_earlier_one_back(site: Site):
    result = site.run("""echo '{"token": "a"}'; sleep 0.05; echo '{"token": ""}'""")

    assert result["token"] == ""


def test_a_run_without_a_token_has_none(site: Site):
    assert site.run("echo '{\"progress\": 5}'")["token"] is None


def test_the_longest_token_survives_a_supervisor_that_is_killed_at_the_very_end(site: Site):
    token = "\x01" * progress.LONGEST_TOKEN  # six bytes each in JSON
    (site.folder / "line").write_text(f"{json.dumps({'token': token})}\n")
    result = site.run("cat line")
    (site.of(1) / "result.json").rename(site.of(1) / "lock")

    # … which lets go of it a moment after it has told of the end
    seen = until(lambda: (found := supervisor.look(site.of(1))).kind == "ended" and found)

    assert result["token"] == token
    assert seen.result == result


def test_after_a_displacement_the_output_goes_on_from_its_token(site: Site):
    work = (
        'n=${BACH_PROGRESS_TOKEN:-0}; trap "exit 0" TERM; while [ $n -lt 1000 ]; do n=$((n+1));'
        ' echo $n; echo "{\\"token\\": \\"$n\\"}"; echo >> ready; sleep 0.01; done'
    )
    run = site.launch(work, yield_seconds=1000)
    site.wrote("ready", lines=3)
    displace(site, run)
    first: dict[str, Any] = site.ended(run)
    site.heard.clear()
    (site.folder / "ready").unlink()

    site.launch(work, run=run, fence=2, env={"BACH_PROGRESS_TOKEN": first["token"]})
    site.wrote("ready")
    displace(site, run, fence=2)
    site.ended(run)

    begun = output.read(site.of(run), 0).data.split(b"\n", 1)[0]
    assert int(begun) == int(first["token"]) + 1

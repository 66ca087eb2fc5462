"""The page of a run: its log from any line on and what is found in it, its end, what it used."""

import html
import os
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import output, tiles
from daemon_app.models import Attempt, Job, Run
from daemon_app.models.access import Role
from daemon_app.usage import Recorder
from tests.jobs import job, run

State = Run.State


def ended(of: Job | None = None, state: str = State.SUCCEEDED, **fields: Any) -> Run:
    began = timezone.now() - timedelta(minutes=60)
    times = {"due_at": began, "started_at": began, "ended_at": began + timedelta(seconds=41)}
    found = run(of or job(), state=state, **{**times, **fields})
    found.folder.mkdir(parents=True)
    return found


def writes(of: Run, *parts: tuple[bytes, int], **limits: int) -> None:
    writer = output.Writer(str(of.folder), **limits)
    for number, (data, stream) in enumerate(parts):
        writer.write(data, stream, 1_764_000_000.0 + number)
    writer.close()


def region(name: str, of: Run, role: str = Role.VIEWER) -> str:
    viewer = tiles.Viewer(role=role, language="de")
    found = tiles.render(name, str(of.pk), viewer, timezone.now())
    assert found is not None
    return html.unescape(found).replace("\xa0", " ")


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


LINES = b"".join(b"line %d\n" % number for number in range(1, 20_001))


# ── The log in pieces ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("place", "first", "last"),
    [
        ("from=0", 1, None),
        ("line=5000", 5000, None),
        ("before_line=5000", None, 4999),
        ("before=7", 1, 1),
        ("", 10_001, None),
    ],
)
def test_a_log_is_read_from_any_place(
    viewer: Client, place: str, first: int | None, last: int | None
) -> None:
    of = ended()
    writes(of, (LINES, output.STDOUT))

    log = viewer.get(f"/daemon/runs/{of.pk}/log/?{place}").json()["log"]

    lines = "".join(part[1] for part in log["text"]).splitlines()
    assert log["line"] == int(lines[0].removeprefix("line "))
    if first:
        assert log["line"] == first
    if last:
        assert lines[-1] == f"line {last}"


def test_around_a_line_is_what_was_before_it(viewer: Client) -> None:
    of = ended()
    writes(of, (LINES, output.STDOUT))

    log = viewer.get(f"/daemon/runs/{of.pk}/log/?around=9000").json()["log"]

    said = "".join(part[1] for part in log["text"])
    assert log["line"] < 9000
    assert "\nline 9000\n" in said


def test_at_the_end_a_log_says_whether_more_will_come(viewer: Client) -> None:
    over, running = ended(), ended(job("other"), State.RUNNING, ended_at=None)
    writes(over, (b"x\n", output.STDOUT))
    writes(running, (b"x\n", output.STDOUT))

    for of, is_end in ((over, True), (running, False)):
        log = viewer.get(f"/daemon/runs/{of.pk}/log/?from=2").json()["log"]
        assert (log["next"], log["end"]) == (2, is_end)


@pytest.mark.parametrize("place", ["from=x", "line=-1", "from=1&line=2", "before=" + "9" * 30])
def test_a_place_that_is_none_is_refused(viewer: Client, place: str) -> None:
    of = ended()

    assert viewer.get(f"/daemon/runs/{of.pk}/log/?{place}").status_code == 400


def test_lines_are_found_by_what_they_show(viewer: Client) -> None:
    of = ended()
    writes(of, (b"\x1b[31mFeh\x1b[1mler\x1b[0m\nok\nFEHLER\n", output.STDOUT))
    address = f"/daemon/runs/{of.pk}/log/search/"

    assert viewer.get(f"{address}?q=fehler").json() == {"lines": [1, 3], "next": None, "end": 30}
    assert viewer.get(f"{address}?q=Fehler&case=1").json()["lines"] == [1]
    assert viewer.get(f"{address}?q=").json()["lines"] == []
    assert viewer.get(f"{address}?q=x&from=y").status_code == 400


def test_without_script_the_page_itself_tells_what_was_found(viewer: Client) -> None:
    of = ended()
    writes(of, (b"ok\n<b>Fehler</b> hier\n", output.STDOUT))

    page = viewer.get(f"/daemon/runs/{of.pk}/?find=fehler").content.decode()

    assert '<li value="2"><a href="#L2">&lt;b&gt;Fehler&lt;/b&gt; hier</a></li>' in page
    assert "Eine Zeile zeigt „fehler“" in page


# ── How it ended ─────────────────────────────────────────────────────────────────────────────────
def test_below_the_log_stands_how_the_run_ended(db: None) -> None:
    of = ended(exit_code=0)

    markup = region("run-head", of)

    assert "data-log-outcome" in markup
    assert "Fertig nach 41 s · Exit 0" in words(markup)


def test_a_failed_run_shows_its_last_errors_and_leads_to_the_first(db: None) -> None:
    of = ended(state=State.FAILED, exit_code=1, reason_code="exit", reason_facts={"code": 1})
    errors = b"".join(b"  error %d\n" % number for number in range(1, 9))
    writes(of, (b"one\ntwo\n", output.STDOUT), (errors, output.STDERR), (b"x\n", output.STDOUT))

    markup = region("run-head", of)

    assert 'href="#L3"' in markup
    shown = re.search(r"<pre[^>]*>(.*?)</pre>", markup, re.DOTALL)
    assert shown
    assert shown[1].split("\n")[:-1] == [f"  error {number}" for number in range(4, 9)]


def test_a_run_that_ended_well_shows_no_errors(db: None) -> None:
    of = ended(exit_code=0)
    writes(of, (b"a warning\n", output.STDERR))

    assert "last-errors" not in region("run-head", of)


def test_above_and_below_the_log_of_a_slice_stand_its_pauses(viewer: Client) -> None:
    of = ended(attempt=3, fence=3)
    began = of.started_at or timezone.now()
    for number, minutes in ((1, 30), (2, 20)):
        at = began - timedelta(minutes=minutes)
        Attempt.objects.create(
            run=of,
            number=number,
            fence=number,
            state=Attempt.DISPLACED,
            started_at=at,
            ended_at=at + timedelta(minutes=4),
        )

    newest = region("run-head", of)
    page = viewer.get(f"/daemon/runs/{of.pk}/?attempt=2").content.decode()

    before = re.search(r"data-log-before>.*?</p>", newest, re.DOTALL)
    assert before
    assert "fortgesetzt (16 Min.)" in words(before[0])
    assert 'href="?attempt=2#log"' in before[0]
    section = page[page.index('<section id="log"') :]
    assert 'href="?attempt=1#log"' in section
    assert 'data-log-outcome class="is-held"' in section


# ── How far a stop has come ──────────────────────────────────────────────────────────────────────
def stopping(phase: str, **definition: Any) -> Run:
    now = timezone.now()
    of = ended(job(**definition), State.RUNNING, ended_at=None, phase=phase, stop_requested_at=now)
    (of.folder / "phase").write_text(phase)
    os.utime(of.folder / "phase", (now.timestamp() - 4, now.timestamp() - 4))
    return of


def test_the_steps_of_a_stop_say_where_it_is_and_when_the_next_is_due(db: None) -> None:
    of = stopping("term", grace_seconds=30)

    markup = region("run-head", of)

    names = re.findall(r'<li class="(done|now|next)"', markup)
    assert names == ["done", "now", "next", "next"]
    assert "Zum Ende aufgefordert nächster Schritt in 2" in words(markup)
    assert 'data-usual="30.000"' in markup


def test_a_stop_command_is_a_step_of_its_own(db: None) -> None:
    of = stopping("kill", stop_command="true")

    names = re.findall(r'<li class="(done|now|next)"', region("run-head", of))

    assert names == ["done", "done", "done", "now", "next"]


def test_a_run_that_nobody_stops_has_no_such_steps(db: None) -> None:
    of = ended(state=State.RUNNING, ended_at=None)

    assert "steps" not in region("run-head", of)


# ── What it used ─────────────────────────────────────────────────────────────────────────────────
def test_what_a_run_used_is_drawn(db: None) -> None:
    of = ended()
    began = of.started_at.timestamp() if of.started_at else 0.0
    recorder = Recorder(str(of.folder))
    for second in range(2, 41):
        recorder.note(began + second, second / 2, second * 10_000_000, 3)

    markup = region("run-usage", of)

    said = words(markup)
    assert "50 % im Mittel" in said
    assert "höchstens 400 MB" in said
    assert "bis zu 3 Prozesse" in said
    assert markup.count('class="line"') == 2
    assert "style=" not in markup


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_a_run_without_samples_has_nothing_drawn(db: None, state: str) -> None:
    of = ended(state=state, **({"started_at": None} if state == State.QUEUED else {}))

    markup = region("run-usage", of)

    assert "hidden" in markup
    assert "<svg" not in markup


@pytest.mark.parametrize(
    ("began", "seconds"), [((12, 22, 0), 13_200), ((12, 0, 20), 250), ((9, 57, 0), 1500)]
)
def test_the_times_below_what_a_run_used_do_not_touch_on_a_telephone(
    db: None, began: tuple[int, int, int], seconds: int
) -> None:
    start = datetime(2025, 11, 20, *began, tzinfo=UTC)
    of = ended(started_at=start, ended_at=start + timedelta(seconds=seconds))
    recorder = Recorder(str(of.folder))
    for step in range(1, 11):
        recorder.note(start.timestamp() + seconds * step / 10, step, 1, 1)

    markup = region("run-usage", of)
    found = re.findall(r'<text x="([\d.]+)%" y="14" text-anchor="(\w+)">([\d:]+)<', markup)

    width = 265 / 100  # pixels of such an axis for one per cent; a character has about six
    before = {"start": 0.0, "middle": 0.5, "end": 1.0}
    spans = sorted(
        (float(x) * width - before[anchor] * 6.2 * len(text), 6.2 * len(text))
        for x, anchor, text in found
    )
    assert len(spans) >= 2
    assert all(x + length <= after for (x, length), (after, _) in pairwise(spans))


def test_an_attempt_that_is_not_kept_shows_no_other_ones_output(viewer: Client) -> None:
    of = ended(attempt=3, fence=3)
    writes(of, (b"of the third\n", output.STDOUT))
    (of.folder / "attempts" / "2").mkdir(parents=True)
    at = timezone.now()
    Attempt.objects.create(run=of, number=1, fence=1, state=State.FAILED, ended_at=at)

    log = viewer.get(f"/daemon/runs/{of.pk}/attempts/1/log/").json()["log"]

    assert "text" not in log
    assert log["end"]

"""The timeline of the overview: which jobs have a lane, what their bars say, and what it costs."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from daemon_app import forecast, tiles
from daemon_app.models import Attempt, IdleSpan, Job, Run
from daemon_app.tiles.today import _due_by_name
from tests.jobs import NOON, job, run
from tests.readings import HOST, node, tick

ENGLISH = tiles.Viewer(role="operator", language="en")
LANE = re.compile(r'<li class="lane" id="lane-(\d+)">(.*?)</svg></li>', re.DOTALL)
BAR = re.compile(r'<a id="([^"]+)" class="bar ([^"]+)" href="([^"]+)" aria-label="([^"]+)"')
State = Run.State


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    forecast.forget()
    yield
    forecast.forget()


def hours(count: float) -> datetime:
    """Return the instant so many hours from noon."""
    return NOON + timedelta(hours=count)


def ran(of: Job, at: float, minutes: float = 6, state: str = State.SUCCEEDED, **more: Any) -> Run:
    begun = hours(at)
    ended = None if state == State.RUNNING else begun + timedelta(minutes=minutes)
    return run(of, now=begun, state=state, started_at=begun, ended_at=ended, **more)


def html_of(query: str | None = None, now: datetime = NOON) -> str:
    with timezone.override("Europe/Berlin"):
        return tiles.render("today", query, ENGLISH, now) or ""


def lanes(query: str | None = None, now: datetime = NOON) -> list[str]:
    """Return the names of the jobs that have a lane, from top to bottom."""
    names = dict(Job.objects.values_list("pk", "name"))
    return [names[int(pk)] for pk, _inside in LANE.findall(html_of(query, now))]


def bars(query: str | None = None, now: datetime = NOON) -> list[tuple[str, str]]:
    """Return the bars of all lanes: how each is coloured, and what it says."""
    found = BAR.findall(html_of(query, now))
    return [(kind, unescape(label).replace("\u00a0", " ")) for _id, kind, _href, label in found]


# ── Bars ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_run_is_a_bar_that_says_how_it_ended_and_leads_to_it(db: None) -> None:
    done = ran(job("backup"), -2, 25)

    found = BAR.findall(html_of())

    assert [(kind, href, label) for _id, kind, href, label in found] == [
        ("ok", f"/daemon/runs/{done.pk}/", f"Done, 11:00–11:25 (25\u00a0min), Run {done.pk}")
    ]


def test_a_failure_is_told_apart_by_word_and_colour(db: None) -> None:
    of = job("backup")
    ran(of, -3, state=State.FAILED)
    ran(of, -2, state=State.CANCELLED)

    assert [(kind, label.partition(",")[0]) for kind, label in bars()] == [
        ("fail", "Failure"),
        ("quiet", "Cancelled"),
    ]


def test_a_missed_start_is_a_tick_where_it_was_due(db: None) -> None:
    of = job("backup")
    missed = run(of, now=hours(-4), state=State.MISSED, ended_at=hours(-1))

    assert bars() == [("warn tick", f"Missed, 09:00, Run {missed.pk}")]


def test_what_runs_reaches_to_now_and_its_rest_by_what_is_usual_beyond(db: None) -> None:
    of = job("backup")
    for n in range(3):
        ran(of, -11 + n, 60)
    ran(of, -0.5, state=State.RUNNING)

    html = html_of()

    (label,) = (label for kind, label in bars() if kind == "run")
    assert label.startswith("Running, since 12:30")
    at = re.search(r'class="now" x1="([\d.]+)%"', html)
    rest = re.search(r'class="rest" x="([\d.]+)%" width="([\d.]+)%"', html)
    assert at
    assert rest
    assert rest[1] == at[1]
    assert float(rest[2]) == pytest.approx(100 * 0.5 / 18, abs=0.01)


def test_a_run_that_made_way_is_one_run_in_slices_with_a_bridge_between(db: None) -> None:
    of = job("training", only_when_idle=True, on_presence="displace")
    going = ran(of, -1, state=State.RUNNING, attempt=2, displacements=1, needs=of.needs())
    Attempt.objects.create(
        run=going,
        number=1,
        fence=1,
        state=Attempt.DISPLACED,
        started_at=hours(-6),
        ended_at=hours(-4),
    )

    html = html_of()

    assert [kind for kind, _label in bars()] == ["ok", "run"]
    bridge = re.search(r'class="bridge held" x1="([\d.]+)%" x2="([\d.]+)%"', html)
    assert bridge
    slices = re.findall(
        r'<rect x="([\d.]+)%" width="([\d.]+)%" y="9" height="12" rx="3"/></a>', html
    )
    (first_x, first_width), (second_x, _) = slices
    assert float(first_x) + float(first_width) < float(bridge[1])
    assert float(bridge[2]) < float(second_x)


def test_the_bridge_of_a_run_that_still_waits_reaches_to_now(db: None) -> None:
    of = job("training")
    waiting = run(of, now=hours(-6), attempt=2, displacements=1, reason_code="displaced")
    Attempt.objects.create(
        run=waiting,
        number=1,
        fence=1,
        state=Attempt.DISPLACED,
        started_at=hours(-6),
        ended_at=hours(-4),
    )

    bridge = re.search(r'class="bridge held" x1="[\d.]+%" x2="([\d.]+)%"', html_of())

    assert bridge
    assert float(bridge[1]) == pytest.approx(100 * 12 / 18, abs=0.5)
    assert 'class="bridge wait"' not in html_of()


def test_a_run_that_has_been_on_its_way_since_before_the_axis_is_drawn(db: None) -> None:
    of = job("training")
    ran(of, -20, state=State.RUNNING)
    for n in range(8):
        run(of, now=hours(-8 + n), state=State.SKIPPED, ended_at=hours(-8 + n))

    assert [kind for kind, _label in bars()] == ["run"]


def made_way(of: Run, *times: tuple[float, float]) -> None:
    """Let a run have run from hour to hour, and made way after each of them."""
    for number, (begun, ended) in enumerate(times, 1):
        Attempt.objects.create(
            run=of,
            number=number,
            fence=number,
            state=Attempt.DISPLACED,
            started_at=hours(begun),
            ended_at=hours(ended),
        )


def test_slices_of_one_run_that_became_one_bar_are_still_one_run(db: None) -> None:
    of = job("training")
    done = ran(of, -2, 3, attempt=3, displacements=2)
    made_way(done, (-2.2, -2.15), (-2.1, -2.05))

    assert bars("range=week") == [("ok", f"Done, 10:48–11:03, Run {done.pk}")]
    assert f'href="/daemon/runs/{done.pk}/"' in html_of("range=week")


def test_the_sentence_counts_runs_not_their_slices(db: None) -> None:
    going = ran(job("training"), -1, state=State.RUNNING, attempt=3, displacements=2)
    made_way(going, (-9, -8), (-6, -4))
    waiting = run(job("rest"), now=hours(-6), attempt=2, displacements=1, reason_code="displaced")
    made_way(waiting, (-6, -4))

    assert "0 done, 0 failed, 1 running" in html_of()


def test_what_has_just_begun_says_when_however_coarse_the_axis(db: None) -> None:
    ran(job("training"), 9 / 60, state=State.RUNNING)

    (said,) = bars("range=week", now=hours(9.5 / 60))

    assert said[1].startswith("Running, since 13:09")


def test_what_waits_in_line_is_dotted_since_it_was_due(db: None) -> None:
    run(job("backup"), now=hours(-1))

    assert 'class="bridge wait"' in html_of()


# ── What is planned ──────────────────────────────────────────────────────────────────────────────
def test_a_planned_start_is_as_long_as_runs_usually_take(db: None) -> None:
    of = job("report", job_type="cron", schedule="0 15 * * *")
    for day in range(1, 4):
        ran(of, 2 - 24 * day, 90)

    (found,) = (label for kind, label in bars() if kind.startswith("planned"))

    assert found == "Planned, 15:00 (usually 1 h 30 min)"


def test_a_job_that_has_never_run_is_planned_as_a_tick(db: None) -> None:
    job("report", job_type="cron", schedule="0 15 * * *")

    assert bars() == [("planned tick", "Planned, 15:00")]


def test_a_job_that_is_switched_off_is_not_planned(db: None) -> None:
    of = job("report", job_type="cron", schedule="0 15 * * *")
    of.set_active(False, now=NOON, by="anna")

    assert lanes() == []


def test_a_paused_job_is_planned_from_the_end_of_its_pause_on(db: None) -> None:
    of = job("report", job_type="interval", schedule="2h")
    ran(of, -1)
    of.pause(hours(3), now=NOON, by="anna")

    planned = [label for kind, label in bars() if kind.startswith("planned")]

    assert planned
    assert all(label >= "Planned, 16:00" for label in planned)


# ── Often ────────────────────────────────────────────────────────────────────────────────────────
def test_a_job_that_runs_every_minute_is_a_stretch_and_its_failures_stay_visible(db: None) -> None:
    of = job("watch", job_type="interval", schedule="60s")
    Run.objects.bulk_create(
        Run(
            job=of,
            job_name=of.name,
            trigger="manual",
            definition={},
            due_at=at,
            not_before=at,
            queued_at=at,
            started_at=at,
            ended_at=at + timedelta(seconds=5),
            state=State.FAILED if n in {100, 600} else State.SUCCEEDED,
        )
        for n, at in ((n, NOON - timedelta(minutes=n)) for n in range(719, 0, -1))
    )

    with CaptureQueriesContext(connection) as asked:
        found = bars()

    assert len(asked) < 40
    kinds = [kind for kind, _label in found]
    assert len(found) < 8
    assert kinds.count("fail tick") == 2
    assert any(label.startswith("Many runs, 01:0") for _kind, label in found)
    assert ("planned many", "Planned again and again, from 13:00 on") in found


def test_the_stretch_of_a_frequent_job_leads_to_its_runs(db: None) -> None:
    of = job("watch")
    for n in range(5):
        ran(of, -1 + n / 60, 0.1)

    ((_id, kind, href, label),) = BAR.findall(html_of())

    assert kind == "ok many"
    assert unescape(href) == f"/daemon/runs/?job={of.pk}"
    assert label == "5 runs, 12:00–12:04"


def test_the_questions_asked_do_not_grow_with_jobs_and_runs(db: None) -> None:
    def fill(first: int, last: int) -> None:
        for n in range(first, last):
            of = job(f"job {n}", job_type="interval", schedule="30m")
            ran(of, -2)
            ran(of, -1, state=State.FAILED if n % 3 else State.SUCCEEDED)

    fill(0, 8)
    with CaptureQueriesContext(connection) as few:
        html_of("lanes=all")
    fill(8, 40)
    forecast.forget()
    with CaptureQueriesContext(connection) as many:
        html_of("lanes=all")

    assert len(many) <= len(few)


# ── Lanes ────────────────────────────────────────────────────────────────────────────────────────
def test_what_runs_and_what_has_failed_comes_first_and_six_jobs_have_a_lane(db: None) -> None:
    for name in "abcdefg":
        ran(job(name), -3)
    ran(job("y failed"), -2, state=State.TIMED_OUT)
    ran(job("z running"), -1, state=State.RUNNING)
    job("x soon", job_type="interval", schedule="10m")

    assert lanes() == ["z running", "y failed", "x soon", "a", "b", "c"]
    assert "4 more" in html_of()
    assert lanes("lanes=all") == ["z running", "y failed", "x soon", *"abcdefg"]


def test_of_very_many_jobs_the_same_ones_are_shown_whoever_is_due_next(db: None) -> None:
    for n in range(120):
        job(f"job {n:03}", job_type="interval", schedule="10m")
    _due_by_name.cache_clear()
    shown = lanes()

    Job.objects.filter(name__startswith="job 00").update(next_due_at=hours(0.4))

    assert shown == lanes() == [f"job 00{n}" for n in range(6)]
    _due_by_name.cache_clear()


def test_a_run_that_has_just_begun_does_not_jump_to_the_top(db: None) -> None:
    ran(job("a"), -3)
    ran(job("z", job_type="interval", schedule="10m"), -1 / 3600, state=State.RUNNING)
    ran(job("b", job_type="interval", schedule="10m"), -3)

    assert lanes() == ["b", "z", "a"]


def test_a_lane_says_how_its_job_is_doing(db: None) -> None:
    ran(job("backup"), -2, state=State.FAILED)

    ((_pk, inside),) = LANE.findall(html_of())

    assert '<span class="tone is-fail">' in inside
    assert '<span class="sr-only">Failure</span>' in inside


def test_a_name_is_text_wherever_it_stands(db: None) -> None:
    of = job("a-b")
    ran(of, -1)
    Job.objects.filter(pk=of.pk).update(name='<b>"&')

    assert "<b>" not in re.sub(r"</?b>\d", "", html_of("day=table"))
    assert "&lt;b&gt;&quot;&amp;" in html_of()


# ── Use of the machine ───────────────────────────────────────────────────────────────────────────
def test_the_strip_shows_when_somebody_was_here_and_what_nobody_saw(db: None) -> None:
    node()
    tick()
    sign = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
    for idle, begun, ended in ((True, -9, -6), (False, -6, -3), (True, -3, None)):
        IdleSpan.objects.create(
            host=HOST,
            idle=idle,
            began_at=hours(begun),
            ended_at=hours(ended) if ended else None,
            reasons=[] if idle else [sign],
        )

    html = html_of("day=table")

    busy = re.search(r'class="busy" x="([\d.]+)%" width="([\d.]+)%"', html)
    assert busy
    assert (float(busy[1]), float(busy[2])) == pytest.approx((100 / 3, 100 / 6), abs=0.01)
    assert re.search(r'class="unknown" x="0%" width="16.667%"', html)
    assert html.count('class="busy-band"') == 1
    assert "somebody active" in html


def test_without_a_daemon_nothing_is_known_of_people(db: None) -> None:
    html = html_of()

    assert re.search(r'class="unknown" x="0%" width="66.667%"', html)
    assert 'class="busy"' not in html


# ── The axis ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("query", "first", "length"),
    [(None, "2026-11-24T00:00", 18), ("range=6h", "2026-11-24T08:00", 6),
     ("range=week", "2026-11-19T12:00", 168), ("range=nonsense", "2026-11-24T00:00", 18)],
)  # fmt: skip
def test_the_axis_reaches_back_and_ahead(
    db: None, query: str | None, first: str, length: int
) -> None:
    html = html_of(query)

    assert f'data-start="{first}:00.000Z" data-length="{length * 3600}"' in html


def test_the_hours_are_those_of_who_looks_and_give_way_to_now(db: None) -> None:
    html = html_of()

    assert re.findall(r'class="hour" x="[\d.]+%">([^<]+)<', html) == [
        "02:00", "04:00", "06:00", "08:00", "10:00", "12:00", "14:00", "16:00", "18:00",
    ]  # fmt: skip
    assert "<text>13:00</text>" in html


def test_what_has_not_changed_looks_the_same_a_few_seconds_later(db: None) -> None:
    node()
    tick()
    ran(job("backup"), -1, state=State.RUNNING)

    assert html_of(now=NOON) == html_of(now=NOON + timedelta(seconds=20))


# ── Empty, table, addresses ──────────────────────────────────────────────────────────────────────
def test_without_jobs_it_says_what_will_be_here(db: None) -> None:
    html = html_of()

    assert "Each job gets a line here" in html
    assert 'class="today-foot"' not in html


def test_a_day_without_runs_says_so_and_what_comes_next(db: None) -> None:
    job("backup", job_type="cron", schedule="0 3 1 * *")

    text = re.sub(r"<[^>]+>", "", html_of())

    assert "Nothing has run today." in text
    assert "Up next: backup, 1 Dec, 03:00." in text


def test_the_table_says_what_the_bars_say(db: None) -> None:
    done = ran(job("backup"), -2, 25)

    html = html_of("day=table")

    cells = re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)
    text = [re.sub(r"<[^>]+>", "", cell) for cell in cells]
    assert text == ["backup", "Done", "11:00–11:25", "25\u00a0min", str(done.pk)]
    assert "<table" not in html_of()


@pytest.mark.parametrize(
    ("query", "again"),
    [
        ("", ""),
        ("range=today", ""),
        ("range=6h&lanes=all&day=table", "range=6h&lanes=all&day=table"),
        ("state=failed&page=2&range=week", "range=week&state=failed&page=2"),
        ("range=%00&lanes=some&day=x&junk=1", ""),
        ("range=" + "6h" * 1000, ""),
    ],
)
def test_an_address_is_read_and_written_again(query: str, again: str) -> None:
    assert tiles.Asked.read(query).query() == again


def test_the_overview_shows_the_range_of_its_address(admin: Client) -> None:
    page = admin.get("/daemon/?range=6h").content.decode()

    assert 'data-region="today:range=6h"' in page
    assert page.index('id="today"') < page.index('data-region="running"')

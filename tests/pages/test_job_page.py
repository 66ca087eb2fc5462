"""The page of a job: how it does in numbers and bars, its times, command, pause and menu."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone, translation

from daemon_app import scheduler, tiles
from daemon_app.models import Displacement, Job, Run
from daemon_app.tiles import history
from daemon_app.tiles.jobs import columns_in
from tests.jobs import NOON, job, run
from tests.pages.test_pages import text_of

ENGLISH = tiles.Viewer(role="operator", language="en")
READER = tiles.Viewer(role="viewer", language="en")
HOUR = timedelta(hours=1)
SPACE = "\u00a0"


def ended(of: Job, seconds: float, state: str = "succeeded", **fields: Any) -> Run:
    ended_at = fields.pop("ended_at", NOON)
    return run(
        of,
        state=state,
        started_at=ended_at - timedelta(seconds=seconds),
        ended_at=ended_at,
        **fields,
    )


def said(name: str, of: Job, now: Any = NOON, viewer: tiles.Viewer = ENGLISH) -> str:
    """Return what a region says, without markup."""
    html = tiles.render(name, str(of.pk), viewer, now) or ""
    text = re.sub(r"<(title|summary)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("&nbsp;", SPACE).split())


# ── Facts ────────────────────────────────────────────────────────────────────────────────────────
def test_a_job_that_never_ran_says_so_and_shows_no_bars(db: None) -> None:
    of = job()

    html = tiles.render("job-facts", str(of.pk), ENGLISH, NOON) or ""

    assert "This job has not run yet." in html
    assert '<svg class="bars"' not in html


def test_success_and_lengths_are_told_of_what_really_ended(db: None) -> None:
    of = job()
    for n in range(20):
        ended(of, 60 + n)
    ended(of, 5, "failed")
    for _ in range(5):
        run(of, state="skipped", ended_at=NOON)
    run(of, state="running", started_at=NOON)

    text = said("job-facts", of)

    assert "Success 95 %" in text
    assert "of the last 21 that ended" in text
    assert "Usual duration 1 min 9 s median" in text
    assert "95 of 100 within 1 min 18 s" in text
    assert "Longest 1 min 19 s" in text


def test_how_often_it_made_way_is_told(db: None) -> None:
    of = job()
    busy = run(of)
    for n in (1, 2, 6):
        Displacement.objects.create(
            run=busy, job_id=of.pk, job_name=of.name, at=NOON, yielded_seconds=n
        )

    assert "Made way 3 times gone after 2.0" in said("job-facts", of)


def test_what_stood_out_is_told_in_words_and_at_its_bar(db: None) -> None:
    of = job()
    for _ in range(12):
        ended(of, 60)
    odd = ended(of, 600, unusual="long")
    short = ended(of, 2, unusual="short")

    text, html = said("job-facts", of), tiles.render("job-facts", str(of.pk), ENGLISH, NOON) or ""

    assert f"Run {odd.pk} took 10 min, unusually long: usual is 1 min" in text
    assert f"Run {short.pk} took only 2.0 s, unusually short" in text
    assert html.count('<circle class="odd"') == 2
    assert f'aria-label="Run {odd.pk}, Done, 10{SPACE}min, unusually long"' in html


def test_one_that_runs_unusually_long_by_now_is_told_at_once(db: None) -> None:
    of = job()
    for _ in range(12):
        ended(of, 60)
    busy = run(of, state="running", started_at=NOON)

    soon, later = said("job-facts", of, NOON + HOUR / 60), said("job-facts", of, NOON + HOUR)

    assert "has been running" not in soon
    assert f"Run {busy.pk} has been running for 1 h, unusually long" in later


# ── Bars ─────────────────────────────────────────────────────────────────────────────────────────
def chart_of(of: Job, now: Any = NOON) -> history.Chart:
    with translation.override("en"):
        chart = history.lengths_chart(history.record_of(of), now)
    assert chart
    return chart


def test_each_bar_leads_to_its_run_the_newest_at_the_right(db: None) -> None:
    of = job()
    runs = [ended(of, 30 * n) for n in (1, 2, 4)]

    chart = chart_of(of)
    html = tiles.render("job-facts", str(of.pk), ENGLISH, NOON) or ""

    assert [column.pk for column in chart.columns] == [each.pk for each in runs]
    assert chart.columns[-1].hit == "98%"
    assert [column.height for column in chart.columns] == ["25%", "50%", "100%"]
    assert (chart.top, chart.half) == (f"2{SPACE}min", f"1{SPACE}min")
    for each in runs:
        assert f'href="/daemon/runs/{each.pk}/"' in html


def test_of_many_runs_fifty_are_drawn_and_none_leaves_the_chart(db: None) -> None:
    of = job()
    for n in range(70):
        ended(of, 10 + n % 7)
    ended(of, 90_000)

    chart = chart_of(of)

    assert len(chart.columns) == history.SHOWN
    assert chart.columns[-1].is_cut
    assert sum(column.is_cut for column in chart.columns) == 1
    for column in chart.columns:
        x, y, height = (float(value.rstrip("%")) for value in (column.x, column.y, column.height))
        assert 0 <= x <= 100
        assert abs(y + height - 100) < 0.02


def test_memory_is_drawn_where_it_was_measured(db: None) -> None:
    of = job()
    ended(of, 1)
    ended(of, 1, peak_rss_bytes=180_000_000)

    with translation.override("en"):
        chart = history.memory_chart(history.record_of(of))

    assert chart
    assert (chart.top, chart.half) == (f"200{SPACE}MB", f"100{SPACE}MB")
    assert [column.height for column in chart.columns] == ["0%", "90%"]
    assert "not measured" in chart.columns[0].words


def test_only_one_of_all_bars_is_a_stop_of_the_tabulator(db: None) -> None:
    of = job()
    for _ in range(5):
        ended(of, 9)

    html = tiles.render("job-facts", str(of.pk), ENGLISH, NOON) or ""
    bars = re.findall(r'<a id="lengths-\d+"[^>]*>', html)

    assert ['tabindex="-1"' in bar for bar in bars] == [True] * 4 + [False]


def test_a_long_history_costs_no_more(db: None, django_assert_max_num_queries: Any) -> None:
    of = job()
    one = ended(of, 0)
    Run.objects.bulk_create(
        Run(job=of, state=one.state, started_at=NOON, ended_at=NOON, due_at=NOON, not_before=NOON,
            queued_at=NOON)
        for _ in range(1500)
    )  # fmt: skip

    with django_assert_max_num_queries(4):
        html = tiles.render("job-facts", str(of.pk), ENGLISH, NOON) or ""

    assert "more than 1,000 runs" in html


# ── Times ────────────────────────────────────────────────────────────────────────────────────────
def test_the_next_twenty_times_are_told_and_what_may_surprise(db: None) -> None:
    of = job(job_type="cron", schedule="30 2 * * *", now=NOON)
    spring = NOON.replace(year=2027, month=3, day=26)

    html = tiles.render("job-next", str(of.pk), ENGLISH, spring) or ""

    assert html.count('<li id="time-') == 20
    assert "2:30" in html
    assert html.count("clocks are set") == 1
    assert "28.03.2027" in html or "28 March 2027" in html or "28 Mar" in html


def test_a_deadline_ends_the_times_and_a_pause_begins_them_later(db: None) -> None:
    of = job(job_type="cron", schedule="0 * * * *", deadline=NOON + 3 * HOUR)

    assert (
        len(re.findall("<li id=", tiles.render("job-next", str(of.pk), ENGLISH, NOON) or "")) == 3
    )
    of.pause(NOON + 2 * HOUR, now=NOON, by="anna")
    html = tiles.render("job-next", str(of.pk), ENGLISH, NOON) or ""
    assert len(re.findall("<li id=", html)) == 2
    assert "Paused until" in html
    of.set_active(False, now=NOON, by="anna")
    assert "Paused: nothing starts by itself." in said("job-next", of)


def test_a_schedule_that_can_not_be_read_has_no_times(db: None) -> None:
    of = job(job_type="cron", schedule="0 * * * *")
    Job.objects.filter(pk=of.pk).update(schedule="61 * * * *")

    assert "No further time lies ahead." in said("job-next", of)


# ── What exactly runs ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("fields", "runs"),
    [
        ({"command": "echo 'a b' | wc"}, "/bin/sh -c 'echo '\"'\"'a b'\"'\"' | wc'"),
        ({"command": "ls 'a b'", "use_shell": False}, "ls 'a b'"),
        ({"command": "", "script_path": "/srv/x.sh", "arguments": "-v"}, "/srv/x.sh -v"),
    ],
)
def test_the_command_is_told_as_it_is_executed(db: None, fields: dict[str, Any], runs: str) -> None:
    from html import unescape

    of = job(**fields)

    assert runs in unescape(tiles.render("job-command", str(of.pk), ENGLISH, NOON) or "")


def test_of_variables_only_the_names_are_told(db: None) -> None:
    of = job(environment={"TOKEN": "hunter2"}, parameters={"day": "secret"}, memory_limit_mb=2000)

    text = said("job-command", of)

    assert "Variables of the job TOKEN , BACH_PARAM_DAY" in text
    assert "hunter2" not in text
    assert "secret" not in text
    assert "2,000 MB" in text


# ── Pausing ──────────────────────────────────────────────────────────────────────────────────────
def test_a_pause_can_be_taken_back(operator: Client) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())

    answer = operator.post(
        f"/daemon/jobs/{of.pk}/pause/",
        {"for": "tomorrow", "note": "Platte"},
        headers={"X-Answer": "toast"},
    )
    of.refresh_from_db()

    assert (of.is_active, of.paused_by, of.pause_note) == (False, "the operator", "Platte")
    assert "pausiert bis morgen 08:00 · Rückgängig" in text_of(answer)
    assert f'formaction="/daemon/jobs/{of.pk}/toggle/" name="active" value="1"' in str(
        answer.content
    )


def test_what_was_paused_before_is_paused_so_again(operator: Client) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())
    until = timezone.now() + timedelta(days=3)
    of.pause(until, now=timezone.now(), by="anna", note="Platte & mehr")

    answer = operator.post(
        f"/daemon/jobs/{of.pk}/toggle/", {"active": "1"}, headers={"X-Answer": "toast"}
    )
    back = re.search(r'formaction="([^"]+)" name="until" value="([^"]+)"', answer.content.decode())
    assert back
    operator.post(back[1].replace("&amp;", "&"), {"until": back[2]})

    of.refresh_from_db()
    assert (of.paused_until, of.pause_note) == (until, "Platte & mehr")


def test_a_time_is_meant_by_the_clocks_here(operator: Client) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())
    there = timezone.localtime(timezone.now() + timedelta(days=2)).replace(second=0, microsecond=0)

    operator.post(f"/daemon/jobs/{of.pk}/pause/", {"until": f"{there:%Y-%m-%dT%H:%M}"})

    of.refresh_from_db()
    assert of.paused_until == there


def test_a_pause_until_a_time_that_the_clocks_leave_out_ends_when_they_are_set(
    operator: Client, settings: Any
) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    of = job(job_type="interval", schedule="1h", now=timezone.now())
    days = (timezone.localdate() + timedelta(days=n) for n in range(1, 366))
    spring = next(day for day in days if day.month == 3 and day.day > 24 and day.weekday() == 6)

    operator.post(f"/daemon/jobs/{of.pk}/pause/", {"until": f"{spring}T02:30"})

    of.refresh_from_db()
    assert of.paused_until
    assert f"{timezone.localtime(of.paused_until):%F %H:%M}" == f"{spring} 03:00"


@pytest.mark.parametrize(
    "sent", [{}, {"for": "ever"}, {"until": "soon"}, {"until": "2001-01-01T00:00"},
             {"until": "2026-02-30T08:00"}, {"until": "9999-12-31T23:59"}, {"until": ""},
             {"until": "0001-01-01T00:00"}],
)  # fmt: skip
def test_an_end_that_can_not_be_is_said_and_changes_nothing(
    operator: Client, sent: dict[str, str]
) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())

    answer = operator.post(f"/daemon/jobs/{of.pk}/pause/", sent, headers={"X-Answer": "toast"})

    of.refresh_from_db()
    assert of.is_active
    assert "is-fail" in answer.content.decode()


def test_a_viewer_is_offered_nothing_to_press(viewer: Client) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())

    for address in (f"/daemon/jobs/{of.pk}/", f"/daemon/jobs/{of.pk}/actions/"):
        page = viewer.get(address).content.decode()
        assert 'name="for"' not in page
        assert f"/daemon/jobs/{of.pk}/start/" not in page
        assert f"/daemon/jobs/{of.pk}/toggle/" not in page


# ── The menu of a row, and columns ───────────────────────────────────────────────────────────────
def test_the_menu_is_a_fragment_for_scripts_and_a_page_for_others(admin: Client) -> None:
    of = job(job_type="interval", schedule="1h", now=timezone.now())

    menu = admin.get(f"/daemon/jobs/{of.pk}/actions/", headers={"X-Answer": "menu"})
    page = admin.get(f"/daemon/jobs/{of.pk}/actions/")

    assert "<html" not in menu.content.decode()
    assert 'type="datetime-local"' in page.content.decode()
    for answer in (menu, page):
        for words in ("Starten", "Für eine Stunde", "Bis auf Weiteres", "Bearbeiten", "Löschen"):
            assert words in text_of(answer)


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        ("", ["strip", "plan", "next"]),
        ("none", []),
        ("next.strip", ["strip", "next"]),
        ("last.<script>", ["last"]),
    ],
)
def test_a_cookie_says_which_columns_are_shown(kept: str, shown: list[str]) -> None:
    assert columns_in(kept) == shown


def test_the_choice_of_columns_is_kept_by_the_browser(viewer: Client) -> None:
    job()
    answer = viewer.post("/daemon/jobs/columns/", {"column": ["last", "next", "nonsense"]})

    page = viewer.get("/daemon/jobs/").content.decode()

    assert answer["Location"] == "/daemon/jobs/"
    assert 'data-columns="next last "' in page
    assert re.search(r'value="last" checked', page)
    assert not re.search(r'value="strip" checked', page)


# ── Failures that are known ──────────────────────────────────────────────────────────────────────
def notices(now: Any = NOON) -> str:
    return tiles.render("notices", None, ENGLISH, now) or ""


def test_what_was_seen_is_told_again_when_another_run_fails(db: None) -> None:
    of = job("sick")
    first = ended(of, 1, "failed")

    assert "sick" in notices()
    of.see_failure(first.pk)
    assert "sick" not in notices()
    ended(of, 1, "failed")
    assert "sick" in notices()


def test_what_is_muted_is_told_again_when_its_time_is_over(db: None) -> None:
    of = job("sick")
    ended(of, 1, "failed")

    of.mute(NOON + HOUR, by="anna")
    ended(of, 1, "failed")

    assert "sick" not in notices()
    assert "sick" in notices(NOON + HOUR)
    of.mute(None, by="anna")
    assert "sick" in notices()


def test_muting_one_job_hides_no_other(db: None) -> None:
    for name in ("one", "other"):
        ended(job(name), 1, "failed")

    Job.objects.get(name="one").mute(NOON + HOUR, by="anna")

    assert ">other<" in notices()
    assert ">one<" not in notices()


@pytest.mark.parametrize("wish", [{"for": "day"}, {"for": "week"}, {"seen": "newest"}])
def test_a_notice_is_muted_and_that_is_taken_back(operator: Client, wish: dict[str, str]) -> None:
    of, now = job("krank", now=timezone.now()), timezone.now()
    failed = ended(of, 1, "failed", ended_at=now)
    sent = {name: str(failed.pk) if value == "newest" else value for name, value in wish.items()}
    address = f"/daemon/jobs/{of.pk}/mute/"

    answer = operator.post(address, sent, headers={"X-Answer": "toast"})

    assert "krank" not in notices(timezone.now())
    assert "Rückgängig" in text_of(answer)
    assert f'formaction="{address}" name="for" value=""' in answer.content.decode()
    if "for" in wish:
        assert "Wieder melden" in text_of(operator.get(f"/daemon/jobs/{of.pk}/"))
    operator.post(address, {"for": ""})
    assert "krank" in notices(timezone.now())


def test_nobody_has_seen_a_failure_that_is_still_to_come(operator: Client) -> None:
    of, other = job("krank", now=timezone.now()), run(job("anders"))
    failed = ended(of, 1, "failed", ended_at=timezone.now())

    for number in (failed.pk + 99, other.pk, 10**17):
        answer = operator.post(f"/daemon/jobs/{of.pk}/mute/", {"seen": str(number)})
        assert answer.status_code == 404

    assert "krank" in notices(timezone.now())


def test_a_notice_offers_its_log_a_start_and_silence_to_who_may(db: None) -> None:
    of = job("sick")
    failed = ended(of, 1, "failed")

    assert f'name="seen" value="{failed.pk}"' in notices()
    assert "mute" not in (tiles.render("notices", None, READER, NOON) or "")


def test_a_job_that_is_gone_is_no_accident(operator: Client) -> None:
    of = job(now=timezone.now())
    number = of.pk
    scheduler.remove(of, by="x", now=timezone.now())

    for address in ("pause", "mute"):
        assert operator.post(f"/daemon/jobs/{number}/{address}/").status_code == 404
    assert operator.get(f"/daemon/jobs/{number}/actions/").status_code == 404

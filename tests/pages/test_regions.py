"""Live regions: rendered for a role and a language, the same on the page and by the hub."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone, translation

from daemon_app import tiles
from daemon_app.models import Incident, Job, Node, Run
from tests.jobs import NOON, job, run

GERMAN = tiles.Viewer(role="operator", language="de")
ENGLISH = tiles.Viewer(role="operator", language="en")


def test_every_region_is_one_element_that_carries_its_name(db: None) -> None:
    of = job("nacht-backup", job_type="cron", schedule="0 3 * * *")
    busy = run(of, state=Run.State.RUNNING, started_at=NOON)
    args: dict[str, str | None] = {
        "job-": str(of.pk),
        "run-": str(busy.pk),
        "last-line": str(busy.pk),
        "nav": "jobs",
        "runs-": None,
    }

    for name in tiles.REGIONS:
        arg = next((args[prefix] for prefix in args if name.startswith(prefix)), None)
        html = tiles.render(name, arg, GERMAN, NOON)

        key = name if arg is None else f"{name}:{arg}"
        assert html is not None, name
        assert re.match(rf'<\w+ id="{key.replace(":", "-")}" data-region="{key}"', html), html[:90]
        opened = re.match(r"<(\w+)", html)
        assert opened
        assert html.endswith(f"</{opened[1]}>")


def test_the_page_shows_a_region_as_the_hub_renders_it(admin: Client) -> None:
    job("nacht-backup")
    page = admin.get("/daemon/").content.decode()
    now = re.search(r'data-now="([^"]+)"', page)
    assert now

    for name in ("notices", "next", "situation"):
        html = tiles.render(name, None, tiles.Viewer(role="admin", language="de"), _instant(now[1]))
        assert html
        assert html in page


def test_a_region_speaks_the_language_of_who_looks(db: None) -> None:
    assert "Läuft gerade" in (tiles.render("running", None, GERMAN, NOON) or "")
    assert "Running now" in (tiles.render("running", None, ENGLISH, NOON) or "")


@pytest.mark.parametrize(
    ("name", "arg"),
    [
        ("unknown", None),
        ("job-head", None),
        ("job-head", "4711"),
        ("job-head", "x"),
        ("run-head", "99999999999999999999"),
        ("run-head", "-1"),
        ("last-line", "../../etc"),
    ],
)
def test_what_is_gone_or_never_was_renders_to_nothing(db: None, name: str, arg: str | None) -> None:
    assert tiles.render(name, arg, GERMAN, NOON) is None


def test_topics_name_what_concerns_a_region() -> None:
    assert tiles.topics("run-head", "17") == {"run:17"}
    assert tiles.topics("last-line", "17") == {"log:17", "run:17"}
    assert tiles.topics("running", None) == {"runs", "policy"}
    assert tiles.topics("unknown", "x") == frozenset()


def test_nothing_of_the_account_goes_into_a_region_shared_by_a_role(db: None) -> None:
    of = job("geteilt")
    busy = run(of, state=Run.State.RUNNING, started_at=NOON)
    one, other = (
        tiles.Viewer(role="admin", language="de", user_id=n, username=f"user-{n}") for n in (1, 2)
    )

    for name, arg in [("running", None), ("job-head", str(of.pk)), ("run-head", str(busy.pk))]:
        assert tiles.render(name, arg, one, NOON) == tiles.render(name, arg, other, NOON)


def test_the_last_line_shows_what_a_terminal_would(db: None) -> None:
    written = b"one\n\x1b]0;title\x07\x1b[32mtwo\x1b[0m 10 %\rtwo 99 %\n\n \n"

    assert tiles.plain(written) == "two 99 %"
    assert tiles.plain(b"") == ""
    assert tiles.plain(b"\xff" * 400 + b"x")[-1] == "\ufffd"


def test_the_strip_draws_failures_tall_and_says_all_in_words(db: None) -> None:
    of = job("streifen")
    for seconds, state in ((1, "succeeded"), (100, "succeeded"), (1, "failed")):
        run(of, state=state, started_at=NOON, ended_at=NOON + timedelta(seconds=seconds))

    with translation.override("de"):
        drawn = tiles.bars(tiles.latest_runs([of.pk])[of.pk], NOON)
        label = tiles.strip_label(drawn)

    assert [bar.outcome for bar in drawn] == ["ok", "ok", "fail"]
    assert drawn[0].height < drawn[1].height < drawn[2].height
    assert label == "Letzte 3 Läufe: 2 fertig, 1 Fehlschlag"


def test_only_the_last_thirty_runs_of_a_job_are_read(
    db: None, django_assert_num_queries: Any
) -> None:
    many, few = job("viele"), job("wenige")
    for _ in range(35):
        run(many, state="succeeded")
    newest = run(few, state="failed")

    with django_assert_num_queries(2):
        found = tiles.latest_runs([many.pk, few.pk])

    assert len(found[many.pk]) == 30
    assert found[many.pk][0].pk == found[many.pk][29].pk + 29
    assert found[few.pk] == [newest]


def test_new_runs_announce_themselves_instead_of_moving_the_list(db: None) -> None:
    of = job("liste")
    known = run(of, state="succeeded")
    new = run(of, state="succeeded")
    arg = f"until={known.pk}"

    table = tiles.render("runs-table", arg, GERMAN, NOON)
    news = tiles.render("runs-news", arg, GERMAN, NOON)

    assert table
    assert f"run-row-{known.pk}" in table
    assert f"run-row-{new.pk}" not in table
    assert news
    assert "1 neuer Lauf" in news


def _instant(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)


def failures(name: str, *states: str) -> Job:
    """Return a job whose runs ended so, oldest first."""
    of = job(name)
    for state in states:
        run(of, state=state, started_at=NOON, ended_at=NOON)
    return of


def told(now: datetime = NOON) -> list[tuple[str, int]]:
    """Return the jobs that are said to fail one by one, and how often in a row."""
    context = tiles.overview.notices(GERMAN, None, now) or {}
    found = [hint.failing for hint in context["hints"] if hint.failing]
    return [(notice.job.name, notice.in_a_row) for notice in found]


def test_who_failed_and_has_not_succeeded_since_is_named(db: None) -> None:
    failures("repeated", "failed", "timed_out", "lost", *["skipped"] * 40)
    failures("mended", "failed", "failed", "succeeded")
    failures("stopped", "failed", "failed", "cancelled")
    failures("once", "succeeded", "failed")

    assert told() == [("once", 1), ("repeated", 3)]


def test_what_failed_once_stands_until_it_succeeds_is_paused_or_a_week_is_over(db: None) -> None:
    of = failures("einmal", "lost")
    later = NOON + timedelta(days=8)

    before, long_after = told(), told(later)
    of.set_active(False, now=NOON, by="anna")
    paused = told()
    of.set_active(True, now=NOON, by="anna")
    run(of, state="succeeded", started_at=NOON, ended_at=NOON)

    assert (before, long_after, paused, told()) == ([("einmal", 1)], [], [], [])


def test_what_the_check_of_files_found_is_told_once(db: None) -> None:
    of = failures("validate_configs", "failed")
    Incident.note("configs_bad", now=NOON, job=of, n=2, new=2, first="a.json:1:2")

    failed = tiles.overview.notices(GERMAN, None, NOON) or {}
    run(of, state="succeeded", started_at=NOON, ended_at=NOON)
    succeeded = tiles.overview.notices(GERMAN, None, NOON) or {}

    assert [bool(each.failing) for each in failed["hints"]] == [True]
    assert [each.hint.code for each in succeeded["hints"]] == ["configs_bad"]


def test_more_jobs_than_fit_are_one_notice_with_their_logs(db: None) -> None:
    for n in range(10):
        failures(f"job-{n}", "failed")

    html = tiles.render("notices", None, GERMAN, NOON) or ""

    assert html.count('<section class="notice') == 1
    assert "10 Jobs sind fehlgeschlagen:" in html
    assert html.count("#log") == 8
    assert "?state=failed" in html


def test_while_a_job_stands_failed_the_overview_has_no_green_tick(db: None) -> None:
    now = timezone.now()
    Node.objects.create(host="here", pid=1, started_at=now, seen_at=now)
    of = job("krank")
    run(of, state="failed", started_at=now, ended_at=now)

    failed = tiles.render("situation", None, GERMAN, now) or ""
    run(of, state="succeeded", started_at=now, ended_at=now)
    mended = tiles.render("situation", None, GERMAN, now) or ""

    assert "is-ok" not in failed
    assert "ein Job ist fehlgeschlagen" in failed
    assert "is-ok" in mended


def test_a_page_number_beyond_all_counting_is_an_empty_page(viewer: Client) -> None:
    run()

    assert viewer.get("/daemon/runs/?page=999999999999999999").status_code == 200

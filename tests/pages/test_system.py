"""The system page: charts, tables, logs, and that none of them claims what was not measured."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import gauges, tiles
from daemon_app.models import Displacement, IdleSpan, Policy, Snapshot
from daemon_app.readings import Reading, State
from tests.jobs import NOON, job, run
from tests.readings import HOST, node, tick, ticks

ENGLISH = tiles.Viewer(role="operator", language="en")
ADMIN = tiles.Viewer(role="admin", language="en")
NAMES = ["gpu_service", "ollama", "vram", "disk", "active_users"]
RANGES = ["1h", "24h", "7d", "30d"]


def html_of(
    region: str, query: str | None = None, now: datetime = NOON, viewer: tiles.Viewer = ENGLISH
) -> str:
    return tiles.render(region, query, viewer, now) or ""


def text_of(html: str) -> str:
    return " ".join(
        re.sub(r"<[^>]+>", " ", re.sub(r"</?time[^>]*>", "", html))
        .replace("&nbsp;", " ")
        .replace("\u00a0", " ")
        .split()
    )


def chart_of(name: str, query: str = "range=1h", now: datetime = NOON, **more: Any) -> str:
    found = re.search(
        rf'<figure class="chart" id="{name}".*?</figure>', html_of("charts", query, now, **more),
        re.DOTALL,
    )  # fmt: skip
    assert found
    return found[0]


def hour(*, minutes: int = 60, every: int = 30, **values: float) -> None:
    """Store an hour of ticks up to now."""
    count = minutes * 60 // every
    ticks((NOON - timedelta(seconds=every * n) for n in range(1, count)), **values)


# ── Charts ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("query", [f"range={key}" for key in RANGES])
def test_a_page_without_a_single_reading_teaches_and_claims_nothing(db: None, query: str) -> None:
    html = html_of("charts", query)

    assert "Nothing was measured in the last" in text_of(html)
    assert html.count("nothing was measured.") == 5
    assert 'class="line" d="M' not in html.partition("</ul>")[2]
    assert html.count('d="M0 1000H1000"') >= 5


def test_a_chart_says_in_words_what_it_draws(db: None) -> None:
    node()
    ticks([NOON - timedelta(minutes=2)], vram=40.0)
    ticks([NOON - timedelta(minutes=1)], vram=60.0)

    assert 'aria-label="VRAM, the last hour: 50 % on average, from 40 % to 60 %."' in chart_of(
        "vram"
    ).replace("\u00a0", " ")
    assert "nothing was measured" in chart_of("ollama")


def test_a_gap_stays_open_and_is_marked(db: None) -> None:
    node()
    hour(vram=50.0)
    Snapshot.objects.filter(
        at__gt=NOON - timedelta(minutes=40), at__lt=NOON - timedelta(minutes=30)
    ).delete()

    chart = chart_of("vram")
    line = re.search(r'class="line" d="([^"]*)"', chart)

    assert line
    assert line[1].count("M") == 2
    assert re.search(r'class="unknown"[^>]* d="M3\d\d 1000H5\d\d"', chart)


def test_what_was_down_is_shaded_and_has_no_value(db: None) -> None:
    node()
    hour(ollama=90.0)
    for each in Snapshot.objects.filter(at__gt=NOON - timedelta(minutes=10)):
        each.values, each.states = {}, {"ollama": "down"}
        each.save()

    assert re.search(r'class="trouble is-fail" d="M\d', chart_of("ollama"))
    assert "trouble" not in chart_of("vram")
    series = re.search(r'data-series="([^"]*)"', chart_of("ollama"))
    assert series
    assert series[1].endswith(",,,")


def test_a_threshold_stands_where_it_can_be_seen(db: None) -> None:
    Policy.objects.create(pk=1, vram_high_percent=80, disk_low_gb=10)
    node()
    hour(vram=50.0, disk=412.0)

    assert 'class="limit" d="M0 200H1000"' in chart_of("vram")
    assert 'class="limit-word" x="100%" y="20%"' in chart_of("vram")
    assert 'class="limit"' not in chart_of("disk")


def test_idle_times_and_runs_are_shaded_on_all_charts(db: None) -> None:
    node()
    began = NOON - timedelta(minutes=30)
    IdleSpan.objects.create(host=HOST, idle=True, began_at=began, ended_at=None)
    IdleSpan.objects.create(host=HOST, idle=False, began_at=NOON - timedelta(hours=1))
    run(started_at=began, ended_at=began + timedelta(minutes=15), state="succeeded")

    html = html_of("charts", "range=1h")

    assert 'id="shape-idle" d="M500 0h500v1000h-500z"' in html
    assert 'id="shape-runs" d="M500 965h250v35h-250z"' in html
    assert html.count('href="#shape-idle"') == html.count('href="#shape-runs"') == 5


def test_months_come_of_hours_and_what_is_new_of_ticks(db: None) -> None:
    node()
    begin = NOON.replace(minute=0) - timedelta(days=20)
    Snapshot.objects.bulk_create(
        Snapshot(host=HOST, at=begin + timedelta(hours=n), span=3600, ticks=120,
                 values={"vram": [50, 10, 90]}, states={"vram": "ok"})
        for n in range(20 * 24 - 2)
    )  # fmt: skip
    five = begin + timedelta(hours=20 * 24 - 2)
    Snapshot.objects.bulk_create(
        Snapshot(host=HOST, at=five + timedelta(minutes=5 * n), span=300, ticks=10,
                 values={"vram": [50, 50, 50]}, states={"vram": "ok"})
        for n in range(20)
    )  # fmt: skip
    hour(minutes=24 * 60, every=300, vram=50.0)

    known = gauges.past(HOST, NOON - timedelta(days=30), NOON, 3600)

    ats = [row.at for row in known.rows]
    assert ats == sorted(ats)
    assert [row.length for row in known.rows].count(3600) == 20 * 24 - 2
    assert [row.length for row in known.rows].count(300) == 20
    assert all(
        later.at - later.length / 2 >= row.at + row.length / 2 - 0.001
        for row, later in zip(known.rows, known.rows[1:], strict=False)
    )
    assert 'class="band" d="M' in chart_of("vram", "range=30d")


def test_a_day_of_ticks_is_drawn_with_few_points(db: None) -> None:
    node()
    Snapshot.objects.bulk_create(
        Snapshot(host=HOST, at=NOON - timedelta(seconds=30 * n),
                 values={name: (n * 37 + len(name) * 13) % 100 for name in NAMES},
                 states=dict.fromkeys(NAMES, "ok"))
        for n in range(1, 2880)
    )  # fmt: skip

    html = html_of("charts", "range=24h")
    times = re.search(r'data-times="([^"]*)"', html)

    assert times
    assert len(times[1].split(",")) <= 360
    assert len(html) < 100_000


@pytest.mark.parametrize("day", [datetime(2027, 3, 28), datetime(2026, 10, 25)])  # noqa: DTZ001
def test_a_day_on_which_clocks_are_set_has_its_own_hours(db: None, settings: Any, day: Any) -> None:
    zone = ZoneInfo("Europe/Berlin")
    evening = day.replace(hour=23, tzinfo=zone).astimezone(UTC)
    node(now=evening)
    ticks((evening - timedelta(minutes=10 * n) for n in range(150)), vram=50.0)

    with timezone.override(zone):
        html = html_of("charts", "range=24h&table=vram", evening)
    hours = [int(at) for at in re.findall(r'text-anchor="\w+"[^>]*>(\d\d):00<', html)]

    assert hours[-4:] == [12, 15, 18, 21]
    assert html.count('<th scope="row">') in {24, 25, 26}
    assert "nothing measured</td>" not in html


@pytest.mark.parametrize("value", [0.0, 1e9])
def test_a_value_that_never_changes_can_be_drawn(db: None, value: float) -> None:
    node()
    ticks((NOON - timedelta(minutes=n) for n in range(1, 60)), **dict.fromkeys(NAMES, value))

    for name in NAMES:
        assert 'class="line" d="M' in chart_of(name)


def test_the_charts_look_the_same_until_something_new_is_measured(db: None) -> None:
    node()
    hour(vram=50.0)
    at = NOON + timedelta(seconds=1)

    assert html_of("charts", "range=24h", at) == html_of(
        "charts", "range=24h", NOON + timedelta(seconds=20)
    )


def test_what_a_service_answered_is_for_administrators(db: None) -> None:
    node()
    odd = Reading("ollama", State.UNKNOWN, None, "service_odd", {}, "<b>502</b>")
    tick(NOON, odd)

    assert "502" not in chart_of("ollama")
    assert "&lt;b&gt;502&lt;/b&gt;" in chart_of("ollama", viewer=ADMIN)


# ── Ranges and tables ────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?range=",
        "?range=9y",
        "?range=1h&range=24h",
        "?table=x&table=vram",
        "?range=%00&table=%",
    ],
)
def test_nonsense_in_the_address_shows_the_day(admin: Client, db: None, query: str) -> None:
    page = admin.get(f"/daemon/system/{query}")

    assert page.status_code == 200
    assert 'data-region="charts:range=24h' in page.content.decode()


def test_a_range_keeps_the_tables_and_a_table_the_range() -> None:
    view = tiles.View.read("range=7d&table=disk")

    assert view.query(range="1h") == "?range=1h&table=disk"
    assert view.query(table="vram") == "?range=7d&table=vram&table=disk"
    assert view.query(table="disk") == "?range=7d"


def test_each_chart_can_be_read_as_a_table_without_a_script(admin: Client, db: None) -> None:
    now = timezone.now()
    node(now=now)
    ticks([now - timedelta(seconds=90)], vram=50.0)
    plain = admin.get("/daemon/system/?range=1h").content.decode()
    for name in NAMES:
        assert f'href="?range=1h&amp;table={name}#{name}"' in plain
    assert "<table" not in plain.partition('id="charts-')[2].partition("</section>")[0]

    shown = admin.get("/daemon/system/?range=1h&table=vram").content.decode()
    table = re.search(r'<figure class="chart" id="vram".*?(<table.*?</table>)', shown, re.DOTALL)

    assert table
    assert table[1].count('<th scope="col"') == 4
    assert 59 <= table[1].count('<th scope="row">') <= 61
    assert table[1].count('colspan="3"') == table[1].count('<th scope="row">') - 1
    assert table[1].count('<td class="num">50\u00a0%</td>') == 3


# ── Logs ─────────────────────────────────────────────────────────────────────────────────────────
def test_the_log_of_idleness_tells_spans_with_lengths_and_reasons(db: None) -> None:
    node()
    sign = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
    began = NOON - timedelta(minutes=50)
    IdleSpan.objects.create(
        host=HOST,
        idle=False,
        began_at=began,
        ended_at=began + timedelta(minutes=20),
        reasons=[sign],
    )
    IdleSpan.objects.create(host=HOST, idle=True, began_at=began + timedelta(minutes=20))

    said = text_of(html_of("idle-log"))

    assert "idle for 30 min today" in said
    assert re.search(r"Idle today \d\d:\d\d 30 min nobody and nothing needed", said)
    assert re.search(r"Busy today \d\d:\d\d 20 min These pages are in use: anna\.", said)


def test_what_several_signs_say_alike_is_told_once(db: None) -> None:
    node()
    unknown = [{"signal": name, "code": "sign_no_reading", "facts": {}} for name in "abcd"]
    IdleSpan.objects.create(host=HOST, idle=False, began_at=NOON, reasons=unknown)

    log = tiles.render("idle-log", None, tiles.Viewer(role="admin", language="de"), NOON)

    assert str(log).count("Es wurde noch nicht nachgesehen") == 1


def test_a_daemon_that_stands_still_has_not_seen_the_machine_idle_since(db: None) -> None:
    node(now=NOON - timedelta(minutes=10))
    IdleSpan.objects.create(host=HOST, idle=True, began_at=NOON - timedelta(minutes=30))

    said = text_of(html_of("idle-log"))

    assert "idle for 20 min today" in said
    assert re.search(r"Idle today \d\d:\d\d 20 min nobody", said)
    assert 'id="shape-idle" d="M500 0h333v1000h-333z"' in html_of("charts", "range=1h")


def test_the_log_of_who_made_way_tells_how_fast(db: None) -> None:
    of = run(job("lora"), state="running", started_at=NOON)
    sign = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
    for n in range(10):
        Displacement.objects.create(
            run=of, job_id=of.job_id, job_name="lora", host=HOST, at=NOON - timedelta(days=n),
            cause=sign, asked_seconds=0.02 + n / 1000, yielded_seconds=0.3 + n, phase="term",
            slice_seconds=150,
        )  # fmt: skip

    said = text_of(html_of("displacements"))

    assert "10 times, 1 today" in said
    assert "From the sign to the signal 25 ms half of all 29 ms 95 of 100 29 ms 99 of 100" in said
    assert "lora Run" in said
    assert "These pages are in use: anna. 0.3 s SIGTERM 2 min 30 s" in said


def test_what_was_not_measured_of_a_displacement_is_a_dash(db: None) -> None:
    of = run(job("lora"), state="running", started_at=NOON)
    Displacement.objects.create(run=of, job_id=of.job_id, job_name="lora", at=NOON)

    said = text_of(html_of("displacements"))

    assert said.count("–") >= 8
    assert not re.search(r"\b0 (s|ms)", said)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("idle-log", "Nothing recorded yet. As soon as nobody has been here for 2 min"),
        ("displacements", "No run has made way yet."),
        ("machine", "has never run"),
    ],
)
def test_an_empty_log_teaches(db: None, region: str, words: str) -> None:
    assert words in text_of(html_of(region))


def test_the_machine_says_who_watches_it_and_what_its_logs_take(db: None) -> None:
    node()
    tick(NOON - timedelta(seconds=5))
    run(state="succeeded", output_bytes=5_000_000, dropped_bytes=1_000_000)

    said = text_of(html_of("machine"))

    assert f"Scheduler running {HOST} for 12 days" in said
    assert "Last reading just now every 30 s" in said
    assert "full in ≈ 19 days" in said
    assert "4.0 MB kept up to 2.1 GB" in said.replace("2.0 GB", "2.1 GB")
    assert "Version 0.1.0" in said


# ── The page ─────────────────────────────────────────────────────────────────────────────────────
def test_the_page_is_in_the_navigation_of_wide_and_narrow_screens(admin: Client, db: None) -> None:
    page = admin.get("/daemon/system/").content.decode()

    assert page.count('href="/daemon/system/" aria-current="page"') == 2
    assert page.count('href="?range=') >= 4


def test_a_page_with_a_day_of_ticks_asks_as_little_as_an_empty_one(
    admin: Client, db: None, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    node(now=now)
    admin.get("/daemon/system/")
    ticks((now - timedelta(seconds=30 * n) for n in range(1, 200)), vram=50.0)

    with django_assert_max_num_queries(48):
        admin.get("/daemon/system/")

"""The five tiles: what each state says, and that nothing is said which was not measured."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone, translation

from daemon_app import idleness, tiles
from daemon_app.api import glance
from daemon_app.gates.conditions import Conditions
from daemon_app.models import Node, Policy, Snapshot
from daemon_app.readings import Reading, State
from tests.jobs import NOON
from tests.readings import HOST, WELL, node, tick, ticks

ENGLISH = tiles.Viewer(role="operator", language="en")
NAMES = ["gpu_service", "ollama", "vram", "disk", "active_users"]


def html_of(now=NOON, viewer=ENGLISH) -> str:
    return tiles.render("gauges", None, viewer, now) or ""


def told(now=NOON) -> dict[str, str]:
    """Return what each tile says, without markup, by the name of its check."""
    found = {}
    for name, inside in re.findall(r'id="tile-(\w+)"(.*?)</a>', html_of(now), re.DOTALL):
        text = re.sub(r"<[^>]+>", " ", inside.partition(">")[2])
        found[name] = " ".join(text.replace("&nbsp;", " ").replace("\u00a0", " ").split())
    return found


def mark_of(name: str, now=NOON) -> str:
    found = re.search(rf'id="tile-{name}".*?class="(chip [^"]*)"', html_of(now), re.DOTALL)
    assert found
    return found[1]


def reading(name: str, **fields) -> Reading:
    return replace(next(each for each in WELL if each.name == name), **fields)


# ── What is well ─────────────────────────────────────────────────────────────────────────────────
def test_a_tile_says_state_number_cause_and_forecast(db: None) -> None:
    node(idle=False, users=2, active_at=NOON)
    tick()

    here = timezone.localtime(NOON)

    assert told() == {
        "gpu_service": "GPU service Ready 64 ms response here:17803",
        "ollama": "Ollama Ready 184 ms response llama3.1:8b",
        "vram": "VRAM Normal 6.2 GB free 17.8 of 24 GB · llama3.1:8b",
        "disk": "Disk Normal 412 GB free 78 % in use · full in ≈ 19 days",
        "active_users": f"Active users Busy 2 at the moment last seen {here:%H:%M}",
    }


def test_what_is_well_is_quiet_and_what_is_not_is_a_chip(db: None) -> None:
    node(idle=True)
    tick(NOON, reading("disk", state=State.LOW, value=8.0, code="disk_low"))

    assert mark_of("vram") == "chip is-ok plain"
    assert mark_of("disk") == "chip is-warn"
    assert mark_of("active_users") == "chip is-quiet plain"


def test_a_tile_leads_to_its_chart(db: None) -> None:
    assert re.findall(r'href="/daemon/system/\?range=1h#(\w+)"', html_of()) == NAMES


# ── What is not ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "fields", "words", "mark"),
    [
        (
            "ollama",
            {"state": State.SLOW, "value": 1840.0, "code": "service_slow",
             "facts": {"ms": 1840, "limit": 1000}},
            "Ollama Slow 1,840 ms response Answers slowly, in 1840 ms (slow from 1000 ms).",
            "is-warn",
        ),
        (
            "gpu_service",
            {"state": State.DOWN, "value": None, "code": "service_refused",
             "facts": {"url": "http://localhost:17803"}},
            "GPU service Not reachable Nothing listens at http://localhost:17803.",
            "is-fail",
        ),
        (
            "ollama",
            {"state": State.UNKNOWN, "value": None, "code": "service_not_json", "facts": {}},
            "Ollama Unknown The answer is no JSON.",
            "is-quiet",
        ),
        (
            "vram",
            {"state": State.UNKNOWN, "value": None, "code": "vram_asleep", "facts": {}},
            "VRAM Unknown The GPU sleeps and is not woken for this.",
            "is-quiet",
        ),
        (
            "disk",
            {"state": State.FULL, "value": 0.2, "code": "disk_full",
             "facts": {"free_bytes": 2 * 10**8, "free_mb": 200, "total_bytes": 10**12}},
            "Disk Full 200 MB free 100 % in use",
            "is-fail",
        ),
    ],
)  # fmt: skip
def test_a_tile_says_what_is_wrong(
    db: None, name: str, fields: dict[str, Any], words: str, mark: str
) -> None:
    node()
    tick(NOON - timedelta(minutes=10))
    tick(NOON, reading(name, **fields))

    assert told()[name] == words
    assert mark in mark_of(name)


REFUSED: dict[str, Any] = {
    "state": State.DOWN,
    "value": None,
    "code": "service_refused",
    "facts": {"url": "http://localhost:11434"},
}


def test_a_service_that_never_was_here_is_no_trouble(db: None) -> None:
    node()
    tick(NOON, reading("ollama", **REFUSED))

    assert told()["ollama"] == "Ollama Not set up localhost:11434"
    assert "is-quiet" in mark_of("ollama")
    assert 'class="limit"' not in html_of()


@pytest.mark.parametrize("why", ["named in the settings", "named by a variable", "was here once"])
def test_a_service_that_somebody_wants_is_missed(db: None, settings: Any, why: str) -> None:
    node()
    tick(NOON, reading("ollama", **REFUSED))
    if why == "named in the settings":
        Policy(pk=1, ollama_url="http://localhost:11434").store(now=NOON, by="anna")
    elif why == "named by a variable":
        settings.SERVICES_NAMED = {"ollama"}
    else:
        at = NOON - timedelta(days=9)
        Snapshot.objects.create(host=HOST, at=at, span=3600, values={"ollama": [1.0, 1.0, 1.0]})

    assert told()["ollama"].startswith("Ollama Not reachable")
    assert "is-fail" in mark_of("ollama")


def test_a_forecast_is_told_only_where_there_is_one(db: None) -> None:
    node()
    facts = {**WELL[3].facts, "full_in_seconds": None}
    tick(NOON, reading("disk", facts=facts))

    assert told()["disk"] == "Disk Normal 412 GB free 78 % in use"


@pytest.mark.parametrize("odd", ["a lot", None, True, float("nan"), [], {}])
def test_facts_that_make_no_sense_are_left_out(db: None, odd: object) -> None:
    node()
    facts = {"free_bytes": odd, "total_bytes": odd, "full_in_seconds": odd, "free_mb": odd}
    Snapshot.objects.create(
        host=HOST,
        at=NOON,
        readings=[
            {**reading("disk").as_json(), "facts": facts if odd == odd else {}, "code": ""},
            {**reading("vram").as_json(), "facts": {"models": odd} if odd == odd else {},
             "code": ""},
        ],
    )  # fmt: skip

    assert told()["disk"] == "Disk Normal 412 GB free"
    assert told()["vram"] == "VRAM Normal 74 % in use"


def test_what_a_service_wrote_is_text(db: None) -> None:
    node()
    models = [{"model": "<script>alert(1)</script>"}]
    tick(NOON, reading("ollama", facts={"models": models}))

    assert "<script>" not in html_of()
    assert "&lt;script&gt;" in html_of()


# ── What nobody knows ────────────────────────────────────────────────────────────────────────────
def test_before_the_first_tick_every_tile_says_so_and_shows_no_number(db: None) -> None:
    for words in told().values():
        assert words.endswith("Unknown no reading yet")
        assert not re.search(r"\d", words)
    assert html_of().count('class="unknown" d="M0 1000H1000"') == 5


def test_a_tick_that_is_too_old_says_nothing_of_now(db: None) -> None:
    node(now=NOON + timedelta(seconds=200), idle=True)
    tick()

    for words in told(NOON + timedelta(seconds=200)).values():
        assert words.endswith("Unknown no reading for 3 min")


def test_the_last_two_ticks_may_be_late(db: None) -> None:
    node()
    tick()

    assert "Ready" in told(NOON + timedelta(seconds=80))["ollama"]


def test_a_check_that_is_missing_from_a_tick_is_unknown_alone(db: None) -> None:
    node()
    stored = tick()
    stored.readings = [each for each in stored.readings if each["name"] != "vram"]
    stored.values.pop("vram")
    stored.save()

    assert told()["vram"] == "VRAM Unknown no reading yet"
    assert "Ready" in told()["ollama"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"idle": None}, "Active users Unknown 2 at the moment"),
        ({"idle": True}, "Active users Idle 2 at the moment"),
        (
            {"idle": False, "idle_from": NOON + timedelta(seconds=90)},
            "Busy 2 at the moment idle in",
        ),
    ],
)
def test_the_tile_of_people_says_whether_the_machine_is_idle(
    db: None, fields: dict[str, Any], words: str
) -> None:
    node(**fields)
    tick()

    assert words in told()["active_users"]


def test_a_machine_that_is_busy_without_people_says_why(db: None) -> None:
    sign = {"signal": "ollama", "code": "sign_ollama", "facts": {"model": "llama3.1:8b"}}
    node(idle=False, idle_reasons=[sign])
    tick(NOON, reading("active_users", value=0, code="users_none"))

    assert told()["active_users"] == (
        "Active users Busy 0 at the moment Ollama is in use: llama3.1:8b."
    )


def test_a_daemon_that_is_away_knows_nothing_of_idleness(db: None) -> None:
    node(now=NOON - timedelta(minutes=5), idle=True)
    tick()

    assert told()["active_users"].startswith("Active users Unknown")


@pytest.mark.parametrize("silent", [timedelta(seconds=44), timedelta(seconds=46)])
def test_tile_and_sentence_know_of_idleness_for_equally_long(db: None, silent: timedelta) -> None:
    node(now=NOON - silent, idle=True)
    tick()
    is_known = silent < timedelta(seconds=45)

    assert ("Idle" in told()["active_users"]) is is_known
    assert (idleness.current(Node.latest(), NOON).kind == "idle") is is_known


def test_a_daemon_that_measures_nothing_any_more_knows_nothing_of_idleness(db: None) -> None:
    node(idle=True)
    tick(NOON - timedelta(seconds=89))
    assert idleness.current(Node.latest(), NOON).kind == "idle"

    later = NOON + timedelta(seconds=1)

    with translation.override("en"):
        found = idleness.current(Node.latest(), later)
    assert (found.kind, found.reasons) == (
        "unknown",
        ["Nothing has been measured for 1\u00a0min 30\u00a0s."],
    )
    assert glance.idle_told(Node.latest(), later, known=True)["idle"] is None
    assert Conditions.current(later).idle is None
    assert told(later)["active_users"].startswith("Active users Unknown")


def test_the_share_of_a_disk_is_that_of_df(db: None) -> None:
    facts = {"free_bytes": 80 * 10**9, "used_bytes": 29 * 10**9, "total_bytes": 270 * 10**9}
    node()
    tick(NOON, reading("disk", value=80.0, facts=facts))

    assert told()["disk"].endswith("80.0 GB free 27 % in use")


def test_a_tile_writes_megabytes_as_the_sentence_does(db: None) -> None:
    facts = {"free_mb": 50, "total_mb": 24_000}
    disk = reading("disk", state=State.FULL, value=0.05, code="disk_full", facts={"free_mb": 50})
    node()
    tick(NOON, reading("vram", facts=facts), disk)

    assert "50 MB free 23.9 of 24 GB" in told()["vram"]
    assert told()["disk"] == "Disk Full 50 MB free The disk is full: 50 MB free."


# ── The last hour ────────────────────────────────────────────────────────────────────────────────
def test_the_line_of_a_tile_has_at_most_sixty_points_and_leaves_gaps(db: None) -> None:
    node()
    ats = [NOON - timedelta(seconds=30 * n) for n in range(120)]
    ticks([at for n, at in enumerate(ats) if n and not 40 < n < 60], vram=50.0, ollama=90.0)
    tick()

    html = html_of()
    line = re.search(r'tile-vram.*?class="line" d="([^"]*)"', html, re.DOTALL)

    assert line
    assert line[1].count("M") == 2
    assert line[1].count("l") <= 60
    assert re.search(r'tile-vram.*?class="unknown" d="M', html, re.DOTALL)


def test_a_threshold_is_drawn_where_it_is_near(db: None) -> None:
    node()
    Policy.objects.create(pk=1, disk_low_gb=450)
    tick(NOON, reading("disk", state=State.LOW, code="disk_low"))

    assert html_of().count('class="limit"') == 1


def test_the_tiles_show_one_host_whoever_spoke_last(db: None) -> None:
    node(idle=True)
    tick()
    other = Node.objects.create(
        host="zweite", pid=2, started_at=NOON, seen_at=NOON + timedelta(seconds=5)
    )

    assert "Ready" in told()["ollama"]
    Node.objects.filter(pk=other.pk).update(seen_at=NOON + timedelta(seconds=30))
    assert "Ready" in told()["ollama"]


def test_the_same_tick_looks_the_same_a_little_later(db: None) -> None:
    node(idle=True)
    tick()
    at = NOON + timedelta(seconds=5)

    assert html_of(at) == html_of(at + timedelta(seconds=20))

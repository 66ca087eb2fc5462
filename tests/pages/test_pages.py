"""Every page: who may see it, what it says, and how little it asks the database."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import AsyncClient, Client
from django.utils import timezone

from daemon_app import tiles
from daemon_app.models import Account, Attempt, Job, Node, Run
from daemon_app.models.access import Role
from daemon_app.models.run import folder_of
from tests.jobs import job, run

State = Run.State
TEMPLATES = sorted((Path(__file__).parent.parent.parent / "templates").rglob("*.html"))
READING = [
    *("/daemon/", "/daemon/jobs/", "/daemon/runs/", "/daemon/jobs/1/", "/daemon/runs/1/"),
    *("/daemon/queue/", "/daemon/calendar/", "/daemon/settings/", "/daemon/system/"),
]
EDITING = ["/daemon/jobs/new/", "/daemon/jobs/1/edit/", "/daemon/jobs/1/delete/"]


def text_of(response: Any) -> str:
    """Return what stands on a page, without markup and with plain blanks."""
    page = re.sub(r"<(script|style)[\s\S]*?</\1>|<[^>]+>", " ", response.content.decode())
    return " ".join(page.replace("&nbsp;", " ").replace("&quot;", '"').split())


def ended(of: Job, state: str = State.SUCCEEDED, *, minutes: int = 60, **fields: Any) -> Run:
    began = timezone.now() - timedelta(minutes=minutes)
    return run(
        of,
        state=state,
        due_at=began,
        started_at=began,
        ended_at=began + timedelta(seconds=30),
        **fields,
    )


@pytest.fixture
def history(db: None) -> Run:
    """A job with a run, both with the number 1."""
    return ended(job("nacht-backup", job_type="cron", schedule="0 3 * * *", pk=1), pk=1)


@pytest.fixture
def alive(db: None) -> Node:
    now = timezone.now()
    return Node.objects.create(host="werkstatt", pid=1, started_at=now, seen_at=now)


# ── Who sees what ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("address", READING)
@pytest.mark.parametrize("role", Role.values)
def test_every_role_reads_every_page(history: Run, signed_in: Any, role: str, address: str) -> None:
    assert signed_in(role).get(address).status_code == 200


@pytest.mark.parametrize("address", EDITING)
@pytest.mark.parametrize("role", Role.values)
def test_only_administrators_see_what_changes_jobs(
    history: Run, signed_in: Any, role: str, address: str
) -> None:
    answer = signed_in(role).get(address)

    assert answer.status_code == (200 if role == Role.ADMIN else 403)


@pytest.mark.parametrize("address", [*READING, *EDITING, "/daemon/runs/1/output/"])
def test_nobody_sees_anything_without_signing_in(history: Run, address: str) -> None:
    answer = Client().get(address)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/daemon/login/?next=")


def test_a_viewer_is_offered_nothing_that_is_refused(history: Run, viewer: Client) -> None:
    for address in READING:
        page = viewer.get(address).content.decode()

        offered = set(re.findall(r'formaction="([^"]+)"', page))
        assert offered == {"/daemon/login/language/", "/daemon/logout/"}
        assert not re.search(r'href="[^"]*/(new|edit|delete)/"', page)
        assert 'href="/admin/"' not in page


def test_an_operator_starts_and_stops_but_does_not_edit(history: Run, operator: Client) -> None:
    page = operator.get("/daemon/jobs/1/").content.decode()

    assert 'formaction="/daemon/jobs/1/start/"' in page
    assert "/edit/" not in page


@pytest.mark.parametrize(
    "address",
    [
        "/daemon/jobs/4711/",
        "/daemon/jobs/99999999999999999999999/",
        "/daemon/runs/4711/",
        "/daemon/runs/99999999999999999999999/output/",
        "/daemon/nothing/",
        "/daemon/icons.0000.svg",
    ],
)
def test_what_does_not_exist_is_said_to_be_missing(admin: Client, address: str) -> None:
    answer = admin.get(address)

    assert answer.status_code == 404
    assert "Hier ist nichts" in text_of(answer)


# ── Overview ─────────────────────────────────────────────────────────────────────────────────────
def test_an_empty_product_teaches_what_a_job_is(alive: Node, admin: Client) -> None:
    said = text_of(admin.get("/daemon/"))

    assert "Noch keine Jobs" in said
    assert "Ein Job ist ein Befehl, der nach Plan, im Leerlauf oder von Hand läuft." in said
    assert "Ersten Job anlegen" in said


def test_a_silent_scheduler_is_said_with_its_consequence_and_the_way_out(
    alive: Node, admin: Client
) -> None:
    Node.objects.update(seen_at=timezone.now() - timedelta(minutes=3))

    said = text_of(admin.get("/daemon/"))

    assert "Planer antwortet nicht Zurzeit startet kein Job. Letztes Lebenszeichen vor 3" in said
    assert "bach up" in said


def test_a_scheduler_that_never_ran_is_not_called_alive(admin: Client, db: None) -> None:
    assert "Planer läuft nicht" in text_of(admin.get("/daemon/"))


def test_the_overview_says_what_runs_what_waits_and_what_comes(alive: Node, admin: Client) -> None:
    now = timezone.now()
    lora, bench = job("lora"), job("bench")
    job("bald", job_type="interval", schedule="1h", now=now)
    busy = run(lora, state=State.RUNNING, due_at=now, started_at=now, started_by="anna")
    run(bench, due_at=now - timedelta(minutes=2))

    said = text_of(admin.get("/daemon/"))

    assert "Ein Lauf ist unterwegs" in said
    assert f"Läuft lora Lauf {busy.pk} · von anna gestartet" in said
    assert "Wartet bench" in said
    assert "bald in 1 Std." in said.replace("in 59 Min.", "in 1 Std.")


def test_a_prepared_occurrence_does_not_wait_before_its_time(alive: Node, admin: Client) -> None:
    run(job("gleich"), due_at=timezone.now() + timedelta(seconds=30))

    said = text_of(admin.get("/daemon/"))

    assert "gerade läuft nichts" in said
    assert "Wartet gleich" not in said


def test_a_job_that_fails_again_and_again_is_brought_to_notice(alive: Node, admin: Client) -> None:
    sick, well, once = job("krank"), job("gesund"), job("einmal")
    for _ in range(2):
        ended(sick, State.FAILED, exit_code=1, reason_code="exit", reason_facts={"code": 1})
    ended(well, State.FAILED)
    ended(well)
    ended(once, State.FAILED)

    said = text_of(admin.get("/daemon/"))

    assert "krank ist 2-mal in Folge fehlgeschlagen. Der Befehl endete mit Exit 1." in said
    assert "gesund ist" not in said
    assert "einmal ist fehlgeschlagen." in said


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────
def test_jobs_are_found_by_name_and_a_slip_is_forgiven(admin: Client, history: Run) -> None:
    job("tagesbericht")

    found = text_of(admin.get("/daemon/jobs/?q=BACK"))
    missed = text_of(admin.get("/daemon/jobs/?q=nacht-bakup"))
    in_part = text_of(admin.get("/daemon/jobs/?q=bakcup"))

    assert "nacht-backup" in found
    assert "tagesbericht" not in found
    assert "Kein Treffer für „nacht-bakup“. Meinten Sie nacht-backup ?" in missed
    assert "Kein Treffer für „bakcup“. Meinten Sie backup ?" in in_part


def test_the_states_of_jobs_are_counted_and_filter_the_list(admin: Client, db: None) -> None:
    now = timezone.now()
    run(job("laeuft"), state=State.RUNNING, due_at=now, started_at=now)
    ended(job("kaputt"), State.TIMED_OUT)
    job("ruht", is_active=False)

    everything = text_of(admin.get("/daemon/jobs/"))
    failed = text_of(admin.get("/daemon/jobs/?state=failed"))

    assert "Alle 3 Läuft 1 Fehlgeschlagen 1 Pausiert 1" in everything
    assert "kaputt" in failed
    assert "ruht" not in failed


@pytest.mark.parametrize(
    "query",
    [
        "state=%00&q=%00%00&page=0&job=x&trigger=%F0%9F%92%A9",
        "page=-1",
        "page=99999999999999999999999",
        "page=٣",
        "until=99999999999999999999&job=-5",
        "q=" + "x" * 5000,
        "q=%25_%27%22%3Cscript%3E",
        "=&&;;%",
        "state=running&state=failed",
    ],
)
@pytest.mark.parametrize("address", ["/daemon/", "/daemon/jobs/", "/daemon/runs/"])
def test_no_address_breaks_a_list(admin: Client, history: Run, address: str, query: str) -> None:
    answer = admin.get(f"{address}?{query}")

    assert answer.status_code == 200
    assert b"<script>" not in answer.content.replace(b'<script src="', b"")


def test_runs_are_filtered_by_state_job_and_trigger(admin: Client, history: Run) -> None:
    other = ended(job("anderer"), State.FAILED, trigger=Run.Trigger.API)

    everything = text_of(admin.get("/daemon/runs/"))
    failed = text_of(admin.get("/daemon/runs/?state=unhappy"))
    of_job = text_of(admin.get(f"/daemon/runs/?job={other.job_id}"))
    by_api = text_of(admin.get("/daemon/runs/?trigger=api"))

    assert "Heute" in everything or "Gestern" in everything
    assert f"Lauf {other.pk}" in everything
    assert "Lauf 1 " in everything
    for said in (failed, of_job, by_api):
        assert f"Lauf {other.pk}" in said
        assert "Lauf 1 " not in said


def test_long_lists_have_pages_that_keep_the_filter(admin: Client, history: Run) -> None:
    of = history.job
    for _ in range(60):
        ended(of)

    first = admin.get("/daemon/runs/?state=succeeded").content.decode()
    later = re.search(r'rel="next" href="\?([^"]+)"', first)
    assert later
    second = text_of(admin.get("/daemon/runs/?" + later[1].replace("&amp;", "&")))

    assert "state=succeeded" in later[1]
    assert "Seite 2" in second
    assert "Lauf 1 " in second


# ── One run ──────────────────────────────────────────────────────────────────────────────────────
def write_output(of: Run, data: bytes) -> None:
    folder = folder_of(of.pk)
    folder.mkdir(parents=True)
    (folder / "output.0").write_bytes(data)


def test_output_is_text_whatever_was_written(admin: Client, history: Run) -> None:
    write_output(
        history,
        b"\x1b[31m<b>rot</b>\x1b[0m \xff\xfe\x00\n<script>alert(1)</script>\n10 %\r99 %\r\n",
    )

    page = admin.get("/daemon/runs/1/").content.decode()

    assert "&lt;b&gt;rot&lt;/b&gt; \ufffd\ufffd\n&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert "\n99 %" in page
    assert "10 %" not in page


def test_a_failed_run_says_why_and_what_to_check(admin: Client, db: None) -> None:
    failed = ended(
        job("fehlt"), State.FAILED, exit_code=127, reason_code="exit_127", reason_facts={}
    )

    said = text_of(admin.get(f"/daemon/runs/{failed.pk}/"))

    assert "Fehlschlag" in said
    assert "Exit 127" in said
    assert "Stimmt der Name" in said
    assert "Keine Ausgabe. Der Befehl hat nichts geschrieben." in said


def test_a_run_ended_by_a_signal_names_it(admin: Client, db: None) -> None:
    killed = ended(job("weg"), State.FAILED, signal=15)

    assert "SIGTERM (15)" in text_of(admin.get(f"/daemon/runs/{killed.pk}/"))


async def output_of(client: AsyncClient, query: str = "") -> tuple[Any, bytes]:
    answer: Any = await client.get(f"/daemon/runs/1/output/{query}")
    if not answer.streaming:
        return answer, answer.content
    return answer, b"".join([piece async for piece in answer.streaming_content])


@pytest.fixture
def reader(history: Run) -> AsyncClient:
    write_output(history, b"eins\nzwei\n\xff<b>\n")
    client = AsyncClient()
    client.force_login(Account.objects.create(username="reader", role=Role.VIEWER))
    return client


@pytest.mark.django_db(transaction=True)
async def test_output_is_read_raw_in_whole_and_in_part(reader: AsyncClient) -> None:
    answer, whole = await output_of(reader)
    _, part = await output_of(reader, "?from=5&to=9")
    _, beyond = await output_of(reader, "?from=500")

    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert whole == b"eins\nzwei\n\xff<b>\n"
    assert part == b"zwei"
    assert beyond == b""


@pytest.mark.django_db(transaction=True)
async def test_output_is_saved_under_a_name_that_tells_the_run(reader: AsyncClient) -> None:
    answer, _ = await output_of(reader, "?download=1")

    assert answer["Content-Disposition"] == 'attachment; filename="nacht-backup-1.log"'


@pytest.mark.parametrize("query", ["?from=x", "?to=-1", "?from=1e3", "?from=" + "9" * 30])
@pytest.mark.django_db(transaction=True)
async def test_a_wrong_offset_is_refused_in_words(reader: AsyncClient, query: str) -> None:
    answer, said = await output_of(reader, query)

    assert answer.status_code == 400
    assert "ganze Zahlen ab 0" in said.decode()


def tried(of: Job, *, attempts: int, **fields: Any) -> Run:
    """Return a run whose earlier attempts failed, each with a line of output."""
    now = timezone.now()
    found = ended(of, attempt=attempts, fence=attempts, **fields)
    for number in range(1, attempts):
        attempt = Attempt.objects.create(
            run=found,
            number=number,
            fence=number,
            state=State.FAILED,
            reason_code="exit",
            reason_facts={"code": 75},
            exit_code=75,
            started_at=now - timedelta(seconds=9),
            ended_at=now,
        )
        kept = folder_of(found.pk) / "attempts" / str(number)
        kept.mkdir(parents=True)
        (kept / "output.0").write_bytes(f"Versuch {number} <b>\n".encode())
        assert attempt.folder == kept
    (folder_of(found.pk) / "output.0").write_bytes(b"zuletzt\n")
    return found


def test_each_attempt_has_its_end_and_its_log(admin: Client, db: None) -> None:
    of = tried(job("wacklig"), attempts=3)

    said = text_of(admin.get(f"/daemon/runs/{of.pk}/"))
    first = admin.get(f"/daemon/runs/{of.pk}/?attempt=1").content.decode()
    raw = admin.get(f"/daemon/runs/{of.pk}/attempts/1/log/").json()
    rest = admin.get(f"/daemon/runs/{of.pk}/attempts/1/log/?from={raw['log']['next']}").json()

    assert "Versuch 1 Fehlschlag Exit 75" in said
    assert "Versuch 2 Fehlschlag Exit 75" in said
    assert "Versuch 3 Fertig" in said
    assert "zuletzt" in said
    assert "Versuch 1 &lt;b&gt;" in first
    assert "zuletzt\n" not in first
    assert [part[:2] for part in raw["log"]["text"]] == [[1, "Versuch 1 <b>\n"]]
    assert rest["log"]["end"] is True


@pytest.mark.parametrize("number", ["9", "0", "-1", "x", "9" * 30, "%00", "٣"])
def test_an_attempt_that_never_was_is_missing(admin: Client, db: None, number: str) -> None:
    of = tried(job("wacklig"), attempts=2)

    assert admin.get(f"/daemon/runs/{of.pk}/?attempt={number}").status_code == 404


def test_output_that_was_removed_is_said_and_not_offered(admin: Client, history: Run) -> None:
    Run.objects.update(output_removed=True, output_bytes=5_000_000)

    page = admin.get("/daemon/runs/1/")

    assert "Ausgabe entfernt (Aufbewahrung)" in text_of(page)
    assert "/daemon/runs/1/output/" not in page.content.decode().partition('id="log"')[2].replace(
        'data-text-url="/daemon/runs/1/output/"', ""
    )


def test_what_is_not_known_of_a_run_is_not_shown(admin: Client, history: Run) -> None:
    bare = text_of(admin.get("/daemon/runs/1/"))
    Run.objects.update(
        cpu_seconds=2.5,
        peak_rss_bytes=17_800_000,
        read_bytes=1_000_000,
        write_bytes=None,
        gpu_seconds=90.0,
        peak_vram_bytes=6_200_000_000,
    )

    full = text_of(admin.get("/daemon/runs/1/"))

    for word in ("Rechenzeit", "GPU-Zeit", "VRAM-Spitze", "Gelesen und geschrieben"):
        assert word not in bare
        assert word in full
    assert "1,0 MB · 0 B" in full
    assert "6,2 GB" in full


def test_runs_that_made_room_are_linked_both_ways(admin: Client, db: None) -> None:
    of = job("ersetzt")
    old = ended(of, State.CANCELLED, reason_code="replaced")
    new = ended(of)
    Run.objects.filter(pk=old.pk).update(blocking_run_id=new.pk)

    before = admin.get(f"/daemon/runs/{old.pk}/")
    after = admin.get(f"/daemon/runs/{new.pk}/")

    assert f"Beendet, um Lauf {new.pk} Platz zu machen." in text_of(before)
    assert f'href="/daemon/runs/{new.pk}/"' in before.content.decode()
    assert f"Machte diesem Lauf Platz: Lauf {old.pk}" in text_of(after)


def test_a_long_gap_is_one_row_that_can_be_read(admin: Client, db: None) -> None:
    facts = {
        "count": 1280,
        "first": "2026-11-22T02:00:00+00:00",
        "last": "2026-11-24T01:30:00+00:00",
    }
    gap = run(job("lücke"), state=State.MISSED, reason_code="misfire_summary", reason_facts=facts)

    for address in ("/daemon/runs/", f"/daemon/runs/{gap.pk}/"):
        assert (
            "1.280-mal verpasst, von So., 22. Nov. 2026, 02:00 bis Di., 24. Nov. 2026, 01:30"
            in text_of(admin.get(address))
        )


@pytest.mark.parametrize("facts", [{}, {"count": "x", "first": 1}, {"first": "bald", "last": ""}])
def test_a_gap_with_odd_facts_is_no_accident(admin: Client, db: None, facts: Any) -> None:
    run(job("lücke"), state=State.MISSED, reason_code="misfire_summary", reason_facts=facts)

    assert admin.get("/daemon/runs/").status_code == 200


# ── Cost ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)  # inside a transaction each region asks for itself
@pytest.mark.parametrize(
    ("address", "most"),
    [("/daemon/", 88), ("/daemon/jobs/", 38), ("/daemon/runs/", 28), ("/daemon/jobs/1/", 64)],
)
def test_a_page_asks_the_database_no_more_when_there_is_more_to_show(
    admin: Client,
    history: Run,
    alive: Node,
    django_assert_max_num_queries: Any,
    address: str,
    most: int,
) -> None:
    now = timezone.now()
    admin.get(address)  # the session is written once

    def grow(tag: str) -> None:
        for n in range(8):
            of = job(f"{tag}-{n}", job_type="interval", schedule="1h", now=now)
            for _ in range(4):
                ended(of, State.FAILED if n < 5 else State.SUCCEEDED)
                ended(history.job)
            run(of, state=State.RUNNING, due_at=now, started_at=now)
            run(of, due_at=now)

    # Sections that had nothing to show ask once each: they have something from the first on.
    grow("few")
    with django_assert_max_num_queries(most) as few:
        admin.get(address)
    grow("more")
    with django_assert_max_num_queries(most) as many:
        admin.get(address)

    # One more: jobs that are remembered from before are looked after apart from new ones.
    assert len(many) <= len(few) + 1


# ── What holds for all ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_carries_style_script_handler_or_foreign_address(path: Path) -> None:
    source = path.read_text()

    assert not re.search(r"\sstyle=|\son\w+=|javascript:|https?://|<style", source)
    assert not re.search(r"<script(?![^>]*\ssrc=)", source)


def test_pages_refer_only_to_what_this_server_has(admin: Client, history: Run) -> None:
    for address in [*READING, *EDITING]:
        page = admin.get(address).content.decode()

        for found in re.findall(r'(?:src|href|action|formaction)="([^"]*)"', page):
            assert found == "" or found.startswith(("/", "?", "#")), found


def test_the_sprite_is_kept_by_browsers_and_needs_no_sign_in(admin: Client) -> None:
    address = re.search(r'href="(/daemon/icons\.\w+\.svg)#', admin.get("/daemon/").content.decode())
    assert address

    answer = Client().get(address[1])

    assert answer["Content-Type"] == "image/svg+xml"
    assert "immutable" in answer["Cache-Control"]
    assert b'id="play"' in answer.content


def test_an_error_of_ours_is_said_without_database_or_session(rf: Any) -> None:
    from daemon_app.views import errors

    for status, answer in {
        400: errors.bad_request(rf.get("/")),
        403: errors.csrf_failure(rf.get("/")),
        404: errors.not_found(rf.get("/")),
        429: errors.too_many_requests(rf.get("/"), 90),
        500: errors.server_error(rf.get("/")),
    }.items():
        assert answer.status_code == status
        assert "<h1>" in answer.content.decode()


def test_the_last_attempt_has_its_reason_once_it_has_ended(admin: Client, db: None) -> None:
    of = ended(job("zweimal"), State.FAILED, attempt=2, exit_code=4)
    Attempt.objects.create(
        run=of, number=1, fence=1, state=State.FAILED, exit_code=3, ended_at=timezone.now()
    )

    said = text_of(admin.get(f"/daemon/runs/{of.pk}/"))

    assert re.search(r"Versuch 1 .{0,20}Exit 3", said)
    assert re.search(r"Versuch 2 Fehlschlag Exit 4", said)


def test_a_limit_that_was_crossed_has_a_way_out(admin: Client, db: None) -> None:
    of = ended(job("hungrig"), State.FAILED, reason_code="memory_limit", reason_facts={"limit": 9})

    assert "Erhöhen Sie die Grenze des Jobs" in text_of(admin.get(f"/daemon/runs/{of.pk}/"))


@pytest.mark.parametrize(
    ("zone", "same"),
    [("Etc/UTC", True), ("UCT", True), ("Africa/Abidjan", True), ("Asia/Tokyo", False)],
)
def test_a_zone_is_named_only_where_its_clocks_differ(
    admin: Client, settings: Any, zone: str, same: bool
) -> None:
    settings.TIME_ZONE = "UTC"
    of = job("nachts", job_type="cron", schedule="0 3 * * *", timezone=zone)

    with timezone.override("UTC"):
        said = tiles.render("job-head", str(of.pk), tiles.Viewer("viewer", "de"), timezone.now())

    assert (f"({zone})" not in (said or "")) is same


def test_what_is_started_by_hand_is_never_missed(admin: Client, db: None) -> None:
    said = "<dt>Wenn verpasst</dt>"
    by_hand = admin.get(f"/daemon/jobs/{job('hand').pk}/").content.decode()
    planned = job("plan", job_type="cron", schedule="0 3 * * *")

    assert said not in by_hand
    assert said in admin.get(f"/daemon/jobs/{planned.pk}/").content.decode()

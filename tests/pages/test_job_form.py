"""The form of a job: what it takes, what it refuses and how, and what it shows meanwhile."""

import re
from typing import Any

import pytest
from django.test import Client

from daemon_app.forms import spoken_span
from daemon_app.models import Job, Pool, Run
from tests.jobs import NOON, job
from tests.pages.test_pages import text_of

GOOD = {
    "name": "nacht-backup",
    "command": "tar -czf ~/backup.tar.gz -C ~ Dokumente",
    "use_shell": "on",
    "job_type": "cron",
    "schedule": "30 3 * * MON-FRI",
    "timezone": "Europe/Berlin",
    "timeout_seconds": "5m",
    "grace_seconds": "10s",
    "overlap": "skip",
    "max_instances": "1",
    "nice": "0",
    "is_active": "on",
    "save": "1",
}


def value_of(page: str, name: str) -> str:
    """Return what stands in a control of the form."""
    area = re.search(rf'<textarea name="{name}"[^>]*>\n?([\s\S]*?)</textarea>', page)
    if area:
        return area[1]
    control = re.search(rf'<input[^>]*name="{name}"[^>]*>', page)
    assert control, name
    value = re.search(r'value="([^"]*)"', control[0])
    return value[1] if value else ""


def test_a_good_form_makes_a_job_that_is_due(admin: Client) -> None:
    answer = admin.post("/daemon/jobs/new/", GOOD)

    made = Job.objects.get()
    assert answer.status_code == 303
    assert answer["Location"] == f"/daemon/jobs/{made.pk}/"
    assert made.next_due_at is not None
    assert made.updated_by == "the admin"
    assert "nacht-backup wurde angelegt." in text_of(admin.get(f"/daemon/jobs/{made.pk}/"))


def test_create_and_start_leads_to_the_first_run(admin: Client) -> None:
    answer = admin.post("/daemon/jobs/new/", GOOD | {"start": "1"})

    first = Run.objects.get()
    assert answer["Location"] == f"/daemon/runs/{first.pk}/"
    assert first.started_by == "the admin"


def test_the_least_that_makes_a_job_is_name_and_command(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", {"name": "kurz", "command": "date", "job_type": "manual"})

    made = Job.objects.get()
    assert (made.timeout_seconds, made.grace_seconds, made.overlap) == (300, 10, "skip")
    assert made.use_shell is False
    assert made.is_active is False


BAD = [
    ("name", "", "braucht einen Namen"),
    ("name", "   ", "braucht einen Namen"),
    ("name", "x" * 81, "80"),
    ("name", "../../etc", "Ein Name beginnt mit"),
    ("name", "<script>", "Ein Name beginnt mit"),
    ("name", "a\x00b", "NUL|Null"),
    ("name", "vorhanden", "gibt es schon"),
    ("description", "x" * 501, "500"),
    ("command", "", "tar -czf"),
    ("command", "   \n ", "tar -czf"),
    ("command", "x" * 20_000, "Skript"),
    ("command", "echo \x00", "NUL|Null"),
    ("script_path", "/srv/x.py", "nicht beides"),
    ("script_path", "x" * 2000, "1024"),
    ("arguments", "x" * 5000, "4096"),
    ("arguments", "'offen", "Anführungszeichen"),
    ("working_directory", "relativ/pfad", "ganzen Pfad"),
    ("working_directory", "/" + "x" * 2000, "1024"),
    ("environment", "OHNE_GLEICH", "In Zeile 1 fehlt"),
    ("environment", "A=1\nA=2", "zweimal"),
    ("environment", "1A=2", "„1A“"),
    ("environment", "BACH_RUN_ID=1", "„BACH_RUN_ID“"),
    ("environment", "\n".join(f"V{n}=x" for n in range(200)), "100"),
    ("parameters", "so nicht", "In Zeile 1 fehlt"),
    ("job_type", "", "."),
    ("job_type", "mondphase", "."),
    ("schedule", "", "."),
    ("schedule", "61 * * * *", "0 bis 59 – hier steht 61"),
    ("schedule", "0 0 31 2 *", "trifft nie zu"),
    ("schedule", "* * *", "."),
    ("schedule", "; rm -rf /", "."),
    ("schedule", "x" * 300, "256"),
    ("schedule", "٥ * * * *", "."),
    ("timezone", "Europe/Atlantis", "Zeitzone"),
    ("timezone", "x" * 100, "64"),
    ("timeout_seconds", "300", "keine Einheit. Meinten Sie 300s oder 300m"),
    ("timeout_seconds", "bald", "keine Dauer"),
    ("timeout_seconds", "-5m", "keine Dauer"),
    ("timeout_seconds", "9999999d", "keine Dauer|zu lang"),
    ("timeout_seconds", "31d", "zu lang"),
    ("timeout_seconds", "٣m", "keine Dauer"),
    ("soft_timeout_seconds", "6m", "vor dem Zeitlimit"),
    ("grace_seconds", "2h", "zu lang"),
    ("overlap", "vielleicht", "keine gültige Auswahl"),
    ("misfire", "\x00", "keine gültige Auswahl"),
    ("misfire_age_seconds", "gestern", "keine Dauer"),
    ("misfire_age_seconds", "1000d", "zu lang"),
    ("max_retries", "-1", "."),
    ("max_retries", "1e2", "ganze Zahl"),
    ("max_retries", "101", "100"),
    ("retry_backoff_seconds", "0", "zu kurz"),
    ("retry_backoff_seconds", "2h", "zu lang"),
    ("retry_exit_codes", "eins", "„eins“ ist kein Exit-Code"),
    ("retry_exit_codes", "0", "1 bis 255"),
    ("retry_exit_codes", "1, 256", "1 bis 255"),
    ("retry_exit_codes", "٣", "kein Exit-Code"),
    ("retry_exit_codes", "75", "mindestens eine"),
    ("on_loss", "weinen", "keine gültige Auswahl"),
    ("pools", "gpu=viel", "„gpu“: „viel“ ist keine ganze Zahl ab 0"),
    ("pools", "gpu=-1", "keine ganze Zahl ab 0"),
    ("pools", "gpu=5", "höchstens|nur|könnte nie starten"),
    ("pools", "mond=1", "keinen Pool „mond“"),
    ("priority", "101", "100"),
    ("priority", "-101", "-100"),
    ("priority", "hoch", "ganze Zahl"),
    ("deadline", "übermorgen", "kein Tag mit Uhrzeit"),
    ("deadline", "2026-13-41T00:00", "kein Tag mit Uhrzeit"),
    ("deadline", "9999-12-31T23:59", "kein Tag mit Uhrzeit"),
    ("deadline", "2020-01-01T00:00", "vor dem ersten Start"),
    ("max_wait_seconds", "0", "zu kurz"),
    ("max_wait_seconds", "ewig", "keine Dauer"),
    ("stop_command", "x" * 5000, "4096"),
    ("cpu_limit_seconds", "0", "zu kurz"),
    ("cpu_limit_seconds", "5", "keine Einheit"),
    ("memory_limit_mb", "0", "."),
    ("memory_limit_mb", "viel", "ganze Zahl"),
    ("memory_limit_mb", "9" * 40, "."),
    ("limit_sustain_seconds", "2h", "zu lang"),
    ("limit_action", "schimpfen", "keine gültige Auswahl"),
    ("keep_days", "0", "."),
    ("keep_days", "immer", "ganze Zahl"),
    ("keep_runs", "-3", "."),
    ("keep_output_mb", "1,5", "ganze Zahl"),
    ("max_instances", "0", "."),
    ("max_instances", "-1", "."),
    ("max_instances", "viele", "ganze Zahl"),
    ("max_instances", "9" * 30, "."),
    ("nice", "20", "19"),
    ("nice", "1.5", "ganze Zahl"),
]


@pytest.mark.parametrize(
    ("field", "value", "said"), BAD, ids=[f"{field}-{value[:12]!r}" for field, value, _ in BAD]
)
def test_a_bad_value_is_refused_beside_its_field_and_nothing_is_lost(
    admin: Client, field: str, value: str, said: str
) -> None:
    job("vorhanden")
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    sent = GOOD | {"description": "bleibt da", field: value}
    if field == "max_instances":  # out of sight with any other rule
        sent["overlap"] = "parallel"

    answer = admin.post("/daemon/jobs/new/", sent)

    page = answer.content.decode()
    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', page)
    assert answer.status_code == 422
    assert beside, text_of(answer)[:600]
    assert re.search(said, beside[1]), beside[1]
    assert 'class="error-summary"' in page
    assert Job.objects.count() == 1
    if field not in {"description", "command"}:
        assert value_of(page, "description") == "bleibt da"
        assert value_of(page, "command") == GOOD["command"]


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({"overlap": "replace", "max_retries": "3"}, "overlap", "widersprechen sich"),
        ({"overlap": "replace", "misfire": "all"}, "overlap", "widersprechen sich"),
        ({"retry_exit_codes": "1"}, "retry_exit_codes", "keine Wiederholung"),
        ({"soft_timeout_seconds": "10m"}, "soft_timeout_seconds", "vor dem Zeitlimit"),
    ],
)
def test_what_contradicts_itself_is_said_beside_the_field_and_at_the_top(
    admin: Client, sent: dict[str, str], field: str, said: str
) -> None:
    page = admin.post("/daemon/jobs/new/", GOOD | sent).content.decode()

    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', page)
    assert beside
    assert said in beside[1]
    assert f'<a href="#id_{field}">' in page
    assert not Job.objects.exists()


def test_every_rule_can_be_said_and_comes_back(admin: Client) -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    rules = {
        "overlap": "parallel",
        "max_instances": "3",
        "misfire": "all",
        "misfire_age_seconds": "2d",
        "max_retries": "4",
        "retry_backoff_seconds": "30s",
        "retry_exit_codes": "75; 1",
        "retry_on_timeout": "on",
        "on_loss": "repeat",
        "pools-gpu": "2",
        "priority": "-5",
        "deadline": "2099-12-24T18:00",
        "max_wait_seconds": "1h30m",
        "soft_timeout_seconds": "4m",
        "stop_command": "/srv/stop",
        "cpu_limit_seconds": "10m",
        "memory_limit_mb": "512",
        "limit_sustain_seconds": "5s",
        "limit_action": "warn",
        "keep_days": "7",
        "keep_runs": "100",
        "keep_output_mb": "50",
    }

    answer = admin.post("/daemon/jobs/new/", GOOD | rules)

    assert answer.status_code == 303, text_of(answer)[:900]
    made = Job.objects.get()
    assert (made.overlap, made.max_instances, made.misfire) == ("parallel", 3, "all")
    assert (made.misfire_age_seconds, made.max_wait_seconds) == (2 * 86_400, 5400)
    assert (made.max_retries, made.retry_backoff_seconds) == (4, 30)
    assert (made.retry_exit_codes, made.retry_on_timeout, made.on_loss) == ([1, 75], True, "repeat")
    assert (made.pools, made.priority) == ({"gpu": 2}, -5)
    assert made.deadline
    assert made.deadline.isoformat() == "2099-12-24T17:00:00+00:00"  # meant in its own zone
    assert (made.cpu_limit_seconds, made.memory_limit_mb, made.limit_action) == (600, 512, "warn")
    assert (made.keep_days, made.keep_runs, made.keep_output_mb) == (7, 100, 50)

    page = admin.get(f"/daemon/jobs/{made.pk}/edit/").content.decode()
    assert value_of(page, "deadline") == "2099-12-24T18:00"
    assert value_of(page, "retry_exit_codes") == "1, 75"
    assert value_of(page, "pools-gpu") == "2"
    assert value_of(page, "max_wait_seconds") == "1h30m"
    assert page.count('<details class="more" open') == 5  # what differs is in view


def test_pools_are_asked_for_by_name_and_one_that_is_gone_is_said(admin: Client) -> None:
    gpu = Pool(name="gpu", size=2, description="eine Karte").store(now=NOON, by="anna")
    there = job("lora", pools={"gpu": 1})
    before = text_of(admin.get(f"/daemon/jobs/{there.pk}/edit/"))

    gpu.remove()
    after = text_of(admin.get(f"/daemon/jobs/{there.pk}/edit/"))

    assert "gpu eine Karte von 2" in before
    assert "gpu gibt es nicht mehr" in after
    assert "Noch keine Pools" in text_of(admin.get("/daemon/jobs/new/"))


def test_what_is_not_parallel_has_one_instance_whatever_stood_there(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", GOOD | {"overlap": "queue", "max_instances": "viele"})

    assert Job.objects.get().max_instances == 1


def test_parallel_means_two_unless_it_says_more(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", GOOD | {"overlap": "parallel", "max_instances": ""})

    assert Job.objects.get().max_instances == 2


def test_all_faults_are_listed_at_once_with_links(admin: Client) -> None:
    answer = admin.post(
        "/daemon/jobs/new/", GOOD | {"name": "", "schedule": "61 * * * *", "timeout_seconds": "5"}
    )

    page = answer.content.decode()
    assert "3 Angaben fehlen oder stimmen nicht" in page
    for target in ("id_name", "id_schedule", "id_timeout_seconds"):
        assert f'<a href="#{target}">' in page
        assert f'id="{target}"' in page


def test_a_fault_in_a_fold_opens_it(admin: Client) -> None:
    page = admin.post("/daemon/jobs/new/", GOOD | {"nice": "99"}).content.decode()

    assert '<details class="more" open id="fold-line"><summary>' in page
    assert page.count('class="more" open') == 1


@pytest.mark.parametrize("zone", ["Mars/Olympus", "x" * 100, ""])
def test_what_is_out_of_sight_is_not_asked_to_be_corrected(admin: Client, zone: str) -> None:
    hidden = {"job_type": "manual", "timezone": zone, "schedule": "x" * 300}

    answer = admin.post("/daemon/jobs/new/", GOOD | hidden)

    assert answer.status_code == 303, text_of(answer)[:600]
    made = Job.objects.get()
    assert (made.schedule, made.timezone) == ("", Job().timezone)


def test_no_browser_cuts_off_what_is_too_long(admin: Client) -> None:
    form = admin.get("/daemon/jobs/new/").content.decode().partition("data-job-form")[2]

    assert "maxlength" not in form.partition("</form>")[0]


def test_after_a_new_sign_in_the_form_with_its_draft_comes_back(admin: Client) -> None:
    page = admin.get("/daemon/jobs/new/").content.decode()
    admin.logout()

    answer = admin.post("/daemon/jobs/new/", GOOD | {"next": value_of(page, "next")})

    assert answer["Location"] == "/daemon/login/?next=%2Fdaemon%2Fjobs%2Fnew%2F"


@pytest.mark.parametrize("noise", [b"\xff\xfe", b"name=%FF%FE&job_type=cron", b"=&=&" * 50])
def test_what_is_no_form_at_all_is_no_accident(admin: Client, noise: bytes) -> None:
    answer = admin.post(
        "/daemon/jobs/new/", noise, content_type="application/x-www-form-urlencoded"
    )

    assert answer.status_code == 422


# ── Editing ──────────────────────────────────────────────────────────────────────────────────────
def test_an_edit_shows_what_is_there_and_keeps_what_was_not_touched(admin: Client) -> None:
    there = job(
        "alt",
        job_type="interval",
        schedule="1h30m",
        environment={"LANG": "de_DE.UTF-8"},
        timeout_seconds=5400,
        description="Ümläut",
    )

    page = admin.get(f"/daemon/jobs/{there.pk}/edit/").content.decode()
    sent = {
        name: value_of(page, name)
        for name in ("name", "command", "environment", "schedule", "timeout_seconds", "version")
    }
    admin.post(
        f"/daemon/jobs/{there.pk}/edit/",
        sent | {"job_type": "interval", "description": "neu", "is_active": "on", "use_shell": "on"},
    )

    assert sent["environment"] == "LANG=de_DE.UTF-8"
    assert sent["timeout_seconds"] == "1h30m"
    there.refresh_from_db()
    assert there.description == "neu"
    assert there.environment == {"LANG": "de_DE.UTF-8"}
    assert (there.schedule, there.timeout_seconds) == ("1h30m", 5400)


def test_two_who_edit_at_once_do_not_overwrite_each_other_unseen(admin: Client) -> None:
    there = job("geteilt")
    seen = str(there.version)
    there.description = "von Bea"
    there.store(now=there.updated_at, by="bea")

    refused = admin.post(
        f"/daemon/jobs/{there.pk}/edit/", GOOD | {"name": "geteilt", "version": seen}
    )
    page = refused.content.decode()
    again = admin.post(
        f"/daemon/jobs/{there.pk}/edit/",
        GOOD | {"name": "geteilt", "version": value_of(page, "version")},
    )

    assert refused.status_code == 422
    assert "bea hat diesen Job geändert" in page
    assert "stimmt nicht" not in page
    assert again.status_code == 303


# ── The preview ──────────────────────────────────────────────────────────────────────────────────
def preview(client: Client, **asked: str) -> str:
    answer = client.get("/daemon/jobs/preview/", asked)
    assert answer.status_code == 200
    return text_of(answer)


def test_the_preview_says_the_schedule_in_words_with_five_times(admin: Client) -> None:
    said = preview(admin, job_type="cron", schedule="30 3 * * MON-FRI", timezone="Asia/Tokyo")

    assert "Montag bis Freitag um 03:30 Uhr Zeiten in Asia/Tokyo" in said
    assert said.count(" 03:30 in ") == 5


def test_the_preview_warns_of_clock_changes_in_the_job_s_zone(admin: Client) -> None:
    said = preview(admin, job_type="cron", schedule="30 2 * * *", timezone="Europe/Berlin")

    assert "gibt es 02:30 Uhr nicht" in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"job_type": "cron", "schedule": "0 0 31 2 *"}, "trifft nie zu"),
        ({"job_type": "interval", "schedule": "60"}, "Meinten Sie 60m?"),
        ({"job_type": "interval", "schedule": "90m"}, "90 Minuten|1 Stunde|1,5|eineinhalb"),
        ({"job_type": "manual", "schedule": "von vorhin"}, "Er startet nie von selbst"),
        ({"job_type": "once", "schedule": "gestern"}, "kein Zeitpunkt"),
        ({"job_type": "cron", "schedule": ""}, "erscheinen die nächsten fünf"),
        ({}, "."),
        ({"job_type": "mondphase", "schedule": "x"}, "gibt es nicht"),
        ({"job_type": "cron", "schedule": "* * * * *", "timezone": "Nirgendwo"}, "Zeitzone"),
        ({"job_type": "cron", "schedule": "\x00", "timezone": "\x00/../etc"}, "."),
        ({"job_type": "cron", "schedule": "x" * 9000, "job": "9" * 40}, "zu lang"),
    ],
)
def test_the_preview_answers_whatever_is_being_typed(
    admin: Client, asked: dict[str, str], said: str
) -> None:
    assert re.search(said, preview(admin, **asked))


def test_the_preview_of_a_time_that_has_passed_says_so(admin: Client) -> None:
    said = preview(admin, job_type="once", schedule="2020-01-01 10:00", timezone="Europe/Berlin")

    assert "Einmal am Mittwoch, 01.01.2020 um 10:00 Uhr" in said
    assert "Dieser Zeitpunkt ist vorbei" in said


def test_the_preview_of_an_interval_counts_as_the_job_does(admin: Client) -> None:
    there = job("takt", job_type="interval", schedule="7d")
    plan = there.plan.describe("de")

    said = preview(
        admin, job_type="interval", schedule="7d", timezone="Europe/Berlin", job=str(there.pk)
    )

    assert plan.lower() in said.lower()
    assert f"{there.anchor:%d}" in said


def test_without_script_quick_picks_and_preview_keep_what_was_typed(admin: Client) -> None:
    typed = {k: v for k, v in GOOD.items() if k not in {"save", "use_shell"}}
    picked = admin.post("/daemon/jobs/new/", typed | {"pick": "workdays"}).content.decode()
    shown = admin.post("/daemon/jobs/new/", typed | {"preview": "1"}).content.decode()

    assert value_of(picked, "schedule") == "0 8 * * MON-FRI"
    assert value_of(picked, "command") == GOOD["command"]
    assert "Montag bis Freitag um 08:00 Uhr" in picked
    assert "Montag bis Freitag um 03:30 Uhr" in shown
    assert not re.search(r'name="use_shell"[^>]*checked', shown)
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0"), (45, "45s"), (300, "5m"), (5400, "1h30m"), (90_061, "1d1h1m1s")],
)
def test_lengths_of_time_are_written_as_they_are_read(seconds: int, written: str) -> None:
    from daemon_app.forms import SpanField

    assert spoken_span(seconds) == written
    assert SpanField(highest=100_000).clean(written) == seconds


def test_a_viewer_gets_no_preview(viewer: Client) -> None:
    answer: Any = viewer.get("/daemon/jobs/preview/", {"job_type": "cron", "schedule": "* * * * *"})

    assert answer.status_code == 403


def test_each_pool_that_is_wrong_is_named_and_no_other_is_marked(admin: Client) -> None:
    for name in ("account", "disk", "gpu"):
        Pool(name=name, size=2).store(now=NOON, by="anna")

    typed = {"pools-account": "viel", "pools-disk": "1", "pools-gpu": "-3"}
    page = admin.post("/daemon/jobs/new/", GOOD | typed).content.decode()
    much = admin.post("/daemon/jobs/new/", GOOD | {"pools-disk": "1", "pools-gpu": "3"})

    marked = r'name="pools-(\w+)"[^>]*aria-invalid'
    assert re.findall(marked, page) == ["account", "gpu"]
    assert "„account“: „viel“ ist keine ganze Zahl ab 0." in page
    assert "„gpu“: „-3“ ist keine ganze Zahl ab 0." in page
    assert re.findall(marked, much.content.decode()) == ["gpu"]


def test_a_warning_after_the_time_limit_says_that_as_people_do(admin: Client) -> None:
    answer = admin.post("/daemon/jobs/new/", GOOD | {"soft_timeout_seconds": "2h"})

    assert "vor dem Zeitlimit von 5 Min. kommen" in text_of(answer)

"""What must be so before a job starts: its form, the settings, and starting all the same."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from daemon_app import skills, terms
from daemon_app.models import Job, Node, Policy, Run
from daemon_app.models.access import Role
from tests.jobs import NOON, job, run
from tests.pages.conftest import Maker
from tests.pages.test_job_form import GOOD, value_of
from tests.pages.test_pages import text_of

NIGHTS = "mo-fr 22:00-06:00"
ASKED = {
    "only_when_idle": "on",
    "min_vram_mb": "8 GB",
    "needs_services": ["ollama"],
    "window": "Mo-Fr 22-6",
    "finish_by": "6:00",
    "gate_action": "run",
}


def somebody_is_here() -> None:
    now = timezone.now()
    reasons = [{"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}]
    Node.objects.create(
        host="werkbank", pid=1, started_at=now, seen_at=now, idle=False, idle_reasons=reasons
    )


# ── The form of a job ────────────────────────────────────────────────────────────────────────────
def test_a_job_keeps_the_conditions_that_were_asked_for(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", GOOD | ASKED)

    made = Job.objects.get()
    assert made.needs() == {
        "idle": True,
        "vram_mb": 8000,
        "services": ["ollama"],
        "window": "mo-fr 22:00-06:00",
        "finish_by": "06:00",
        "action": "run",
        "zone": "Europe/Berlin",
    }


def test_a_job_for_idle_times_makes_way_unless_somebody_says_otherwise(admin: Client) -> None:
    admin.post("/daemon/jobs/new/", GOOD | {"only_when_idle": "on"})
    stays = GOOD | {"name": "b", "only_when_idle": "on", "on_presence": "continue"}
    admin.post("/daemon/jobs/new/", stays)
    admin.post("/daemon/jobs/new/", GOOD | {"name": "c"})

    how = dict(Job.objects.values_list("name", "on_presence"))
    assert how == {"nacht-backup": "displace", "b": "continue", "c": "continue"}


BAD = [
    ("min_vram_mb", "8", "keine Einheit. Meinten Sie 8 MB oder 8 GB"),
    ("min_vram_mb", "viel", "keine Größe"),
    ("min_vram_mb", "-8 GB", "keine Größe"),
    ("min_vram_mb", "8 GiB", "keine Größe"),
    ("min_vram_mb", "1.280 MB", "keine Größe"),
    ("min_vram_mb", "0 GB", "zu wenig"),
    ("min_vram_mb", "99999 TB", "zu viel; höchstens 10000 GB"),
    ("min_vram_mb", "٣ GB", "keine Größe"),
    ("min_disk_mb", "20", "keine Einheit"),
    ("max_load_percent", "0", "von 1 bis 100"),
    ("max_load_percent", "101", "von 1 bis 100"),
    ("max_load_percent", "-1", "von 1 bis 100"),
    ("needs_services", "mars", "keine gültige Auswahl"),
    ("window", "nachts", "."),
    ("window", "22:00-22:00", "öffnet nie"),
    ("window", "25:00-26:00", "Uhrzeit"),
    ("window", "x" * 300, "200"),
    ("finish_by", "25:00", "von 00:00 bis 23:59"),
    ("finish_by", "bald", "Uhrzeit"),
    ("gate_action", "run", "muss wissen, wann"),
    ("gate_action", "hoffen", "keine gültige Auswahl"),
    ("on_presence", "weinen", "keine gültige Auswahl"),
    ("ask_signal", "KILL", "keine gültige Auswahl"),
]


@pytest.mark.parametrize(("field", "value", "said"), BAD)
def test_a_condition_that_cannot_be_is_refused_beside_its_field(
    admin: Client, field: str, value: str, said: str
) -> None:
    answer = admin.post("/daemon/jobs/new/", GOOD | {field: value})

    page = answer.content.decode()
    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', page)
    assert answer.status_code == 422
    assert beside
    assert re.search(said, beside[1].replace("\u00a0", " ")), beside[1]
    assert '<details class="more whole" id="conditions" open>' in page
    assert not Job.objects.exists()


def test_times_wholly_in_the_quiet_hours_are_refused_with_the_way_out(admin: Client) -> None:
    Policy(pk=1, quiet_hours="22:00-07:00").store(now=NOON, by="anna")

    answer = admin.post("/daemon/jobs/new/", GOOD | {"window": "01:00-03:00"})

    assert "liegen ganz in den Ruhezeiten (täglich 22:00–07:00 Uhr)" in text_of(answer)
    allowed = GOOD | {"window": "01:00-03:00", "in_quiet_hours": "on"}
    assert admin.post("/daemon/jobs/new/", allowed).status_code == 303


def test_the_section_is_one_line_until_it_is_used(admin: Client) -> None:
    fresh = admin.get("/daemon/jobs/new/").content.decode()
    assert '<details class="more whole" id="conditions"><summary>' in fresh
    assert "keine – er startet, sobald er fällig ist" in fresh

    used = job("lora", only_when_idle=True, on_presence="displace", min_vram_mb=8500, window=NIGHTS)
    page = admin.get(f"/daemon/jobs/{used.pk}/edit/")

    assert '<details class="more whole" id="conditions" open>' in page.content.decode()
    assert (
        "Nur im Leerlauf · macht Platz · mind. 8,5 GB VRAM · Montag bis Freitag 22:00–06:00 Uhr"
        in text_of(page)
    )
    assert value_of(page.content.decode(), "min_vram_mb") == "8,5 GB"


def test_conditions_are_told_while_they_are_typed(admin: Client) -> None:
    asked = {"window": "22-6", "min_vram_mb": "8 GB", "timezone": "Europe/Berlin"}

    page = admin.get("/daemon/jobs/conditions/", asked).content.decode()

    assert re.search(r'id="opening"[\s\S]*Täglich 22:00–06:00 Uhr, (öffnet|jetzt offen bis) ', page)
    assert 'id="conditions-line" class="about" hx-swap-oob="true"' in page
    assert "Mind. 8\u00a0GB VRAM · täglich 22:00–06:00 Uhr" in page


@pytest.mark.parametrize("window", ["nachts", "22:00-22:00", "\0", "<script>", "x" * 3000])
def test_times_that_are_none_are_told_and_never_an_accident(admin: Client, window: str) -> None:
    answer = admin.get("/daemon/jobs/conditions/", {"window": window, "timezone": "Mars/Phobos"})

    assert answer.status_code == 200
    assert "<script>" not in answer.content.decode()


def test_without_script_the_preview_button_tells_them_and_keeps_what_was_typed(
    admin: Client,
) -> None:
    typed = {key: value for key, value in (GOOD | ASKED).items() if key != "save"}
    page = admin.post("/daemon/jobs/new/", typed | {"preview": "1"}).content.decode()

    assert "Ollama antwortet" in page
    assert "Montag bis Freitag 22:00–06:00 Uhr" in page
    assert re.search(r'name="needs_services" value="ollama"[^>]*checked', page)
    assert re.search(r'name="only_when_idle"[^>]*checked', page)
    assert not Job.objects.exists()


def test_every_condition_has_its_words(db: None) -> None:
    needs = {
        "idle": True,
        "vram_mb": 300,
        "services": ["gpu_service", "ollama"],
        "disk_mb": 20_000,
        "load_percent": 50,
        "window": "kaputt",
        "in_quiet_hours": True,
        "finish_by": "06:00",
    }

    told = [each.replace("\u00a0", " ") for each in terms.of(needs, "cancel", "de")]

    assert told == [
        "nur im Leerlauf",
        "endet, wenn jemand kommt",
        "mind. 300 MB VRAM",
        "GPU-Dienst und Ollama antworten",
        "mind. 20 GB Plattenplatz",
        "Last höchstens 50 %",
        "kaputt",
        "auch in den Ruhezeiten",
        "fertig bis 06:00",
    ]
    assert terms.of({}, "continue", "de") == []


# ── Skills ───────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def skill(db: None) -> Job:
    skills.install(NOON)
    return Job.objects.get(skill="validate_configs")


def test_the_job_of_a_skill_carries_a_mark_and_can_not_be_deleted(
    admin: Client, skill: Job
) -> None:
    assert "validate_configs Skill" in text_of(admin.get("/daemon/jobs/"))
    page = admin.get(f"/daemon/jobs/{skill.pk}/")
    assert "validate_configs Skill" in text_of(page)
    assert f"/daemon/jobs/{skill.pk}/delete/" not in page.content.decode()

    for send in (admin.get, admin.post):
        assert send(f"/daemon/jobs/{skill.pk}/delete/").status_code == 303
    assert "lässt sich nicht löschen" in text_of(admin.get(f"/daemon/jobs/{skill.pk}/"))
    assert Job.objects.filter(pk=skill.pk).exists()


def test_of_a_skill_only_that_can_be_changed_which_is_not_its_own(
    admin: Client, skill: Job
) -> None:
    address = f"/daemon/jobs/{skill.pk}/edit/"
    page = admin.get(address).content.decode()
    shown = set(re.findall(r'<(?:input|select|textarea)[^>]*name="(\w+)"', page))
    assert not shown & {"name", "command", "job_type", "schedule", "overlap", "stop_command"}
    assert {"description", "is_active", "timeout_seconds", "only_when_idle", "keep_days"} <= shown

    sent = {"description": "anders", "timeout_seconds": "20m", "command": "rm -rf /", "name": "x"}
    assert admin.post(address, sent | {"save": "1"}).status_code == 303

    skill.refresh_from_db()
    assert (skill.description, skill.timeout_seconds) == ("anders", 1200)
    assert (skill.name, skill.command, skill.is_active) == ("validate_configs", "", False)


def test_where_only_skills_have_jobs_the_first_of_ones_own_is_offered(
    admin: Client, skill: Job
) -> None:
    said = text_of(admin.get("/daemon/jobs/"))
    assert "Noch kein eigener Job" in said
    assert "validate_configs Skill" in said

    job("nacht-backup")
    assert "Noch kein" not in text_of(admin.get("/daemon/jobs/"))


# ── Starting all the same ────────────────────────────────────────────────────────────────────────
def test_a_job_for_idle_times_is_started_when_it_fits_or_all_the_same(operator: Client) -> None:
    somebody_is_here()
    of = job("lora", only_when_idle=True)
    said = text_of(operator.get(f"/daemon/jobs/{of.pk}/"))
    assert "Starten, wenn es passt Jetzt trotzdem starten" in said

    operator.post(f"/daemon/jobs/{of.pk}/start/")
    waiting = Run.objects.get()
    told = text_of(operator.get("/daemon/"))
    assert "lora steht in der Warteschlange. Wartet auf den Leerlauf" in told
    assert waiting.forced_by == ""

    waiting.delete()
    operator.post(f"/daemon/jobs/{of.pk}/start/", {"forced": "1"})
    assert Run.objects.get().forced_by == "the operator"


def test_a_job_without_conditions_has_one_button_to_start_it(operator: Client) -> None:
    said = text_of(operator.get(f"/daemon/jobs/{job('einfach').pk}/"))

    assert "trotzdem" not in said
    assert "Starten Pausieren" in said


def test_a_run_that_waits_for_a_condition_is_told_to_start_all_the_same(operator: Client) -> None:
    somebody_is_here()
    waits = run(job("lora", only_when_idle=True), needs={"idle": True}, now=timezone.now())
    address = f"/daemon/runs/{waits.pk}/force/"
    for page in ("/daemon/queue/", f"/daemon/runs/{waits.pk}/"):
        assert f'formaction="{address}"' in operator.get(page).content.decode()

    assert operator.post(address).status_code == 303

    waits.refresh_from_db()
    assert waits.forced_by == "the operator"
    assert "lora startet trotzdem" in text_of(operator.get("/daemon/queue/"))
    assert f'formaction="{address}"' not in operator.get("/daemon/queue/").content.decode()
    operator.post(address)
    assert "startet ohnehin" in text_of(operator.get("/daemon/queue/"))


def test_a_run_that_waits_for_something_else_can_not_be_forced_by_a_button(
    operator: Client,
) -> None:
    of = job("lang")
    run(of, state=Run.State.RUNNING, started_at=timezone.now())
    waits = run(of, now=timezone.now() - timedelta(minutes=1))

    page = operator.get("/daemon/queue/").content.decode()

    assert f"/daemon/runs/{waits.pk}/force/" not in page


def test_what_has_ended_does_not_start_all_the_same(operator: Client) -> None:
    over = run(job("fertig"), state=Run.State.SUCCEEDED, started_at=NOON, ended_at=NOON)

    operator.post(f"/daemon/runs/{over.pk}/force/")

    assert "wartet nicht mehr" in text_of(operator.get("/daemon/"))


def test_who_only_looks_starts_nothing(signed_in: Maker) -> None:
    waits = run(job("lora", only_when_idle=True), needs={"idle": True}, now=timezone.now())
    viewer = signed_in(Role.VIEWER)

    assert viewer.post(f"/daemon/runs/{waits.pk}/force/").status_code == 403
    assert "trotzdem starten" not in text_of(viewer.get(f"/daemon/runs/{waits.pk}/")).lower()


# ── Settings ─────────────────────────────────────────────────────────────────────────────────────
WATCHED: dict[str, Any] = {
    "gpu_service_url": "",
    "ollama_url": "http://kiste:11434/",
    "slow_ms": "800",
    "vram_high_percent": "85",
    "vram_target_percent": "50",
    "disk_low_gb": "20",
    "idle_after_seconds": "5m",
    "foreign_load_percent": "",
    "watch_logins": "on",
    "quiet_hours": "22-7",
    "config_folders": "/etc\n\n /srv/fehlt \n/etc",
}


def test_an_administrator_says_what_is_looked_at(admin: Client) -> None:
    answer = admin.post("/daemon/settings/watch/", WATCHED)

    rules = Policy.current()
    assert answer.status_code == 303
    assert (rules.ollama_url, rules.slow_ms) == ("http://kiste:11434", 800)
    assert (rules.idle_after_seconds, rules.foreign_load_percent) == (300, None)
    assert (rules.watch_logins, rules.watch_gpu) == (True, False)
    assert (rules.quiet_hours, rules.config_folders) == ("22:00-07:00", ["/etc", "/srv/fehlt"])
    said = text_of(admin.get("/daemon/settings/"))
    assert "Die Einstellungen wurden gespeichert." in said
    assert "Diesen Ordner gibt es nicht, oder er darf nicht betreten werden: /srv/fehlt." in said
    assert re.search("Täglich 22:00–07:00 Uhr, (nächste|jetzt bis) ", said)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("gpu_service_url", "localhost:17803", "beginnt mit http"),
        ("gpu_service_url", "http://a:99999", "1 bis 65535"),
        ("ollama_url", "http://anna:geheim@a", "weder Benutzer noch Passwort"),
        ("ollama_url", "http://", "nennt keinen Rechner"),
        ("ollama_url", "http://a/?x=1", "„\\?“"),
        ("slow_ms", "0", "von 1 bis 60.000"),
        ("slow_ms", "-5", "von 1 bis 60.000"),
        ("vram_high_percent", "101", "von 1 bis 100"),
        ("vram_target_percent", "85", "unter 85"),
        ("vram_target_percent", "-1", "von 0 bis 100"),
        ("disk_low_gb", "-1", "von 0 bis"),
        ("idle_after_seconds", "", "Hier muss etwas stehen"),
        ("idle_after_seconds", "0", "mindestens"),
        ("idle_after_seconds", "2d", "zu lang"),
        ("foreign_load_percent", "0", "von 1 bis 100"),
        ("quiet_hours", "00:00-24:00", "enden nie"),
        ("quiet_hours", "nachts", "."),
        ("config_folders", "etc", "ganzen Pfad"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_beside_its_field(
    admin: Client, field: str, value: str, said: str
) -> None:
    answer = admin.post("/daemon/settings/watch/", WATCHED | {field: value})

    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', answer.content.decode())
    assert answer.status_code == 422
    assert beside
    assert re.search(said, beside[1]), beside[1]
    assert not Policy.objects.exists()


def test_settings_that_somebody_else_changed_meanwhile_are_not_overwritten(admin: Client) -> None:
    page = admin.get("/daemon/settings/").content.decode()
    seen = value_of(page, "version")
    Policy(pk=1, slow_ms=500).store(now=NOON, by="ben")

    answer = admin.post("/daemon/settings/watch/", WATCHED | {"version": seen})

    assert answer.status_code == 422
    assert "ben hat die Einstellungen geändert" in text_of(answer)
    assert Policy.current().slow_ms == 500


def test_others_read_what_is_looked_at(operator: Client) -> None:
    Policy(pk=1, quiet_hours="22-7", foreign_load_percent=None).store(now=NOON, by="anna")

    said = text_of(operator.get("/daemon/settings/"))

    assert "Leerlauf nach 2 Min." in said
    assert "Last anderer Programme zählt ab wird nicht beachtet" in said
    assert operator.post("/daemon/settings/watch/", WATCHED).status_code == 403

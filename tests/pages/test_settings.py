"""Settings: what holds for all jobs, and the pools."""

import re
from datetime import timedelta

import pytest
from django.test import Client

from daemon_app.models import Policy, Pool
from tests.jobs import NOON, job
from tests.pages.test_pages import text_of

RULES = {"max_parallel": "3", "keep_days": "30", "keep_runs": "500", "keep_output_mb": "1000"}


def test_an_administrator_changes_the_rules(admin: Client) -> None:
    answer = admin.post("/daemon/settings/rules/", RULES)

    policy = Policy.current()
    assert answer["Location"] == "/daemon/settings/"
    assert (policy.parallel, policy.keep_days, policy.updated_by) == (3, 30, "the admin")
    said = text_of(admin.get("/daemon/settings/"))
    assert "Die Einstellungen wurden gespeichert." in said
    assert "Geändert heute" in said


def test_without_a_number_as_many_run_at_once_as_the_installation_says(admin: Client) -> None:
    admin.post("/daemon/settings/rules/", RULES | {"max_parallel": ""})

    assert Policy.current().max_parallel is None
    assert Policy.current().parallel == 4


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_parallel", "0", "Eine Zahl von 1 bis 1.000."),
        ("max_parallel", "1001", "Eine Zahl von 1 bis 1.000."),
        ("max_parallel", "viele", "ganze Zahl"),
        ("keep_days", "", "Hier muss etwas stehen"),
        ("keep_days", "0", "1"),
        ("keep_days", "99999", "von 1 bis 36.500"),
        ("keep_runs", "-1", "Eine Zahl von 1 bis 1.000.000."),
        ("keep_runs", "1e3", "ganze Zahl"),
        ("keep_output_mb", "9" * 30, "von 1 bis 10.000.000"),
        ("keep_output_mb", "\x00", "."),
    ],
)
def test_a_rule_that_cannot_be_is_refused_beside_its_field(
    admin: Client, field: str, value: str, said: str
) -> None:
    answer = admin.post("/daemon/settings/rules/", RULES | {field: value})

    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', answer.content.decode())
    assert answer.status_code == 422
    assert beside
    assert re.search(said, beside[1]), beside[1]
    assert not Policy.objects.exists()


def test_others_read_the_rules_and_change_nothing(operator: Client) -> None:
    page = operator.get("/daemon/settings/")

    said = text_of(page)
    assert "Läufe gleichzeitig 4" in said
    assert "Läufe behalten 90 Tage" in said
    assert "Je Job höchstens 10.000 Läufe" in said
    rules = page.content.decode().partition('class="columns"')[2].partition('id="browser"')[0]
    assert "<input" not in rules


def test_a_pool_is_added_changed_and_deleted(admin: Client) -> None:
    admin.post("/daemon/settings/pools/new/", {"name": "GPU", "size": "2", "description": "Karten"})
    pool = Pool.objects.get()
    of = job("lora", pools={"gpu": 1})
    assert "gpu 2 Karten 1 Job braucht ihn" in text_of(admin.get("/daemon/settings/"))

    admin.post(f"/daemon/settings/pools/{pool.pk}/", {"name": "gpu", "size": "4"})
    pool.refresh_from_db()
    asked = text_of(admin.get(f"/daemon/settings/pools/{pool.pk}/delete/"))
    answer = admin.post(f"/daemon/settings/pools/{pool.pk}/delete/")

    assert pool.size == 4
    assert "Ein Job braucht ihn und kann nicht mehr starten, bis er geändert ist: lora" in asked
    assert answer["Location"] == "/daemon/settings/#pools"
    assert not Pool.objects.exists()
    assert "gibt es nicht mehr" in text_of(admin.get(f"/daemon/jobs/{of.pk}/"))


@pytest.mark.parametrize(
    ("sent", "field", "said"),
    [
        ({"name": ""}, "name", "braucht einen Namen"),
        ({"name": "1gpu"}, "name", "beginnt mit einem Buchstaben"),
        ({"name": "a b"}, "name", "beginnt mit einem Buchstaben"),
        ({"name": "x" * 41}, "name", "40"),
        ({"name": "DISK"}, "name", "gibt es schon"),
        ({"size": "0"}, "size", "Eine Zahl von 1 bis 10.000."),
        ({"size": "viele"}, "size", "ganze Zahl"),
        ({"description": "x" * 300}, "description", "200"),
    ],
)
@pytest.mark.parametrize("address", ["new", "1"])
def test_a_pool_that_cannot_be_is_refused_beside_its_field(
    admin: Client, sent: dict[str, str], field: str, said: str, address: str
) -> None:
    Pool(pk=1, name="gpu", size=1).store(now=NOON, by="anna")
    Pool(name="disk", size=1).store(now=NOON, by="anna")

    answer = admin.post(
        f"/daemon/settings/pools/{address}/", {"name": "neu", "size": "1", "description": ""} | sent
    )

    beside = re.search(rf'id="id_{field}-error-1">([\s\S]*?)</p>', answer.content.decode())
    assert answer.status_code == 422
    assert beside, text_of(answer)[:500]
    assert re.search(said, beside[1]), beside[1]
    assert Pool.sizes() == {"gpu": 1, "disk": 1}


def version(page: str) -> str:
    """Return the state of the settings, or of a pool, that a form was opened with."""
    found = re.search(r'name="version"(?: value="([^"]*)")?', page)
    assert found
    return found[1] or ""


def test_settings_somebody_changed_meanwhile_are_not_overwritten_in_silence(admin: Client) -> None:
    opened = version(admin.get("/daemon/settings/").content.decode())
    Policy(pk=1, keep_days=7).store(now=NOON, by="anna")

    answer = admin.post("/daemon/settings/rules/", RULES | {"version": opened})
    kept = Policy.current().keep_days
    again = {"version": version(answer.content.decode())}
    admin.post("/daemon/settings/rules/", RULES | again)

    assert answer.status_code == 422
    assert "anna hat die Einstellungen geändert, während Sie" in text_of(answer)
    assert kept == 7
    assert Policy.current().keep_days == 30


def test_a_pool_somebody_changed_meanwhile_is_not_overwritten_in_silence(admin: Client) -> None:
    pool = Pool(name="gpu", size=1).store(now=NOON, by="anna")
    address = f"/daemon/settings/pools/{pool.pk}/"
    opened = version(admin.get(address).content.decode())
    Pool.objects.get().store(now=NOON + timedelta(seconds=1), by="berta")

    sent = {"name": "gpu", "size": "5"}
    answer = admin.post(address, sent | {"version": opened})
    kept = Pool.sizes()
    admin.post(address, sent | {"version": version(answer.content.decode())})

    assert answer.status_code == 422
    assert "berta hat diesen Pool geändert, während Sie" in text_of(answer)
    assert kept == {"gpu": 1}
    assert Pool.sizes() == {"gpu": 5}


def test_a_pool_made_too_small_or_deleted_names_the_jobs_that_wait_for_it(admin: Client) -> None:
    pool = Pool(name="gpu", size=4).store(now=NOON, by="anna")
    job("lora", pools={"gpu": 3})
    job("klein", pools={"gpu": 1})

    admin.post(f"/daemon/settings/pools/{pool.pk}/", {"name": "gpu", "size": "2"})
    small = text_of(admin.get("/daemon/settings/"))
    later = text_of(admin.get("/daemon/settings/"))
    admin.post(f"/daemon/settings/pools/{pool.pk}/delete/")
    gone = text_of(admin.get("/daemon/settings/"))

    assert "Dieser Job kann nicht mehr starten, er braucht mehr von „gpu“: lora." in small
    assert "zu klein für lora" in later
    assert "nicht mehr starten" not in later
    assert "sie brauchen mehr von „gpu“: klein, lora." in gone

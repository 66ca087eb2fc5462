"""Accounts, tickets, throttling and the admin's forms, by their rules alone."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client

from daemon_app.models import Account, Incident, Job, Policy, Pool, Run, Ticket, Token
from daemon_app.models.access import RIGHTS, Role, Throttle, account_subject, address_subject
from tests.jobs import job, run

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


# ── Throttle ─────────────────────────────────────────────────────────────────────────────────────
def guesses(seconds: float, every: float, *subjects: str) -> int:
    """Return how many of the guesses in a span of time are tried."""
    count = int(seconds / every)
    return sum(Throttle.take(subjects, NOON + n * every * SECOND) is None for n in range(count))


def test_of_a_thousand_guesses_in_a_row_five_are_tried() -> None:
    assert guesses(10, 0.01, "account:anna", "address:1") == 5


def test_a_patient_guesser_gets_fewer_and_fewer() -> None:
    first_hour = guesses(3600, 10, "account:anna")
    next_day = sum(
        Throttle.take(["account:anna"], NOON + timedelta(hours=1) + n * MINUTE) is None
        for n in range(24 * 60)
    )

    assert first_hour < 15
    assert next_day < 24 * 5


def test_a_refused_guess_is_not_counted_and_says_when_to_come_back() -> None:
    for _n in range(5):
        assert Throttle.take(["account:anna"], NOON) is None

    waits = {Throttle.take(["account:anna"], NOON + n * SECOND) for n in range(30)}

    assert waits == {NOON + 30 * SECOND}
    assert Throttle.take(["account:anna"], NOON + 30 * SECOND) is None
    assert Throttle.take(["account:anna"], NOON + 30 * SECOND) == NOON + 90 * SECOND


def test_failures_are_forgotten_after_a_quarter_of_an_hour_and_leave_no_row() -> None:
    for _n in range(4):
        Throttle.take(["account:anna"], NOON)

    Throttle.take(["account:bert"], NOON + 15 * MINUTE)

    assert Throttle.objects.count() == 1
    assert guesses(1, 0.1, "account:anna") == 5


def test_a_right_guess_clears_the_account_and_takes_one_from_the_address() -> None:
    who, where = "account:anna", "address:1"
    for _n in range(4):
        Throttle.take([who, where], NOON)

    Throttle.take([who, where], NOON)
    Throttle.forgive(account=who, address=where, now=NOON)

    assert Throttle.take([who], NOON) is None
    # The address had four failures before; whoever owns one account can't clear them.
    assert Throttle.take([where], NOON) is None
    assert Throttle.take([where], NOON) == NOON + 30 * SECOND


def test_what_was_typed_as_a_name_is_not_kept_and_spelling_does_not_make_it_another() -> None:
    Throttle.take([account_subject("Geheimnis")], NOON)

    assert "eheimnis" not in Throttle.objects.get().subject
    assert account_subject("ANNA") == account_subject("anna") == account_subject("ａｎｎａ")
    assert address_subject("::ffff:9.9.9.9") == address_subject("9.9.9.9")
    assert address_subject("2001:db8::1") == address_subject("2001:db8::2")
    assert address_subject("2001:db8::1") != address_subject("2001:db8:0:1::1")


@pytest.mark.django_db(transaction=True)
def test_guesses_at_once_are_no_more_than_guesses_in_turn() -> None:
    def guess(_n: int) -> bool:
        try:
            return Throttle.take(["account:anna", "address:1"], NOON) is None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(guess, range(40))) == 5


# ── Tickets, accounts, tokens ────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)
def test_of_two_who_hand_in_a_ticket_one_is_signed_in() -> None:
    secret = Ticket.issue(Account.owner(), NOON)

    def redeem(_n: int) -> bool:
        try:
            return Ticket.redeem(secret, NOON) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(redeem, range(8))) == 1


def test_a_ticket_lasts_five_minutes() -> None:
    owner = Account.owner()

    assert Ticket.redeem(Ticket.issue(owner, NOON), NOON + 5 * MINUTE - SECOND) == owner
    assert Ticket.redeem(Ticket.issue(owner, NOON), NOON + 5 * MINUTE) is None


def test_the_owner_comes_back_administering_whatever_was_done_to_the_account() -> None:
    Account.owner()
    Account.objects.update(role="viewer", is_active=False)

    assert Account.owner().can("manage")
    assert Account.objects.count() == 1


def test_the_role_alone_says_what_somebody_may_do() -> None:
    for role in Role.values:
        account = Account.objects.create_user(role, role=role)
        rights = {right for right in RIGHTS if account.can(right)}
        assert rights == {right for right, roles in RIGHTS.items() if role in roles}
        assert account.is_staff == account.has_perm("x") == (role == "admin")
        account.is_active = False
        assert not any(account.can(right) for right in RIGHTS)


def test_accounts_with_a_password_are_those_that_can_use_it() -> None:
    Account.owner()
    Account.objects.create_user("off", "drei gelbe Boote", is_active=False)
    assert not Account.objects.with_password().exists()

    anna = Account.objects.create_user("anna", "drei gelbe Boote")

    assert list(Account.objects.with_password()) == [anna]


def test_a_token_lives_until_it_ends_or_is_revoked() -> None:
    token, text = Token.issue(
        Account.owner(), name="x", role="viewer", now=NOON, life=timedelta(days=1)
    )

    assert Token.find(text, NOON + timedelta(hours=23)) == token
    assert Token.find(text, NOON + timedelta(days=1)) is None
    assert token.is_live(NOON)
    assert token.revoke(NOON)
    assert not token.revoke(NOON)
    assert not token.is_live(NOON)
    assert Token.find(text, NOON) is None


# ── The admin ────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(Account.objects.create_user("chef", role="admin"))
    return client


def fields_of(**changed: object) -> dict[str, object]:
    return {
        "name": "backup",
        "job_type": "interval",
        "schedule": "5m",
        "timezone": "Europe/Berlin",
        "command": "true",
        "use_shell": "on",
        "environment": "{}",
        "parameters": "{}",
        "timeout_seconds": "300",
        "grace_seconds": "10",
        "overlap": "skip",
        "max_instances": "1",
        "misfire": "once",
        "misfire_age_seconds": "86400",
        "max_retries": "0",
        "retry_backoff_seconds": "10",
        "retry_exit_codes": "[]",
        "on_loss": "report",
        "pools": "{}",
        "priority": "0",
        "limit_sustain_seconds": "10",
        "limit_action": "stop",
        "nice": "0",
        "is_active": "on",
    } | changed


def test_a_job_saved_in_the_admin_goes_through_its_own_gate(admin: Client) -> None:
    made = admin.post("/admin/daemon_app/job/add/", fields_of())
    stored = Job.objects.get()
    changed = admin.post(f"/admin/daemon_app/job/{stored.pk}/change/", fields_of(schedule="10m"))

    assert made.status_code == changed.status_code == 302
    assert stored.next_due_at == stored.anchor + 5 * MINUTE
    again = Job.objects.get()
    assert (again.version, again.updated_by) == (2, "chef")
    assert again.anchor > stored.anchor
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"schedule": "5"}, "schedule"),
        ({"schedule": "30 2 31 2 *", "job_type": "cron"}, "schedule"),
        # Refused only when it is stored.
        ({"schedule": "2020-01-01 12:00", "job_type": "once"}, "schedule"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"command": ""}, "command"),
        ({"name": ""}, "name"),
        ({"environment": "{"}, "environment"),
        ({"environment": '{"BACH_X": "1"}'}, "environment"),
        ({"timeout_seconds": "-1"}, "timeout_seconds"),
        ({"nice": "99"}, "nice"),
        ({"job_type": "chain"}, "job_type"),
        ({"overlap": "replace", "max_retries": "2"}, "overlap"),
        ({"retry_exit_codes": "[0]"}, "retry_exit_codes"),
        ({"pools": '{"gpu": 1}'}, "pools"),
    ],
)
def test_what_a_job_refuses_stands_beside_the_field_and_nothing_typed_is_lost(
    admin: Client, changed: dict[str, object], field: str
) -> None:
    answer = admin.post("/admin/daemon_app/job/add/", fields_of(description="typed", **changed))

    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert 'value="typed"' in answer.content.decode()
    assert not Job.objects.exists()


def test_a_pool_saved_in_the_admin_goes_through_its_own_gate(admin: Client) -> None:
    url = "/admin/daemon_app/pool/add/"

    refused = admin.post(url, {"name": "4 gpus", "size": "1"})
    made = admin.post(url, {"name": "GPU", "size": "2"})

    assert "name" in refused.context["adminform"].form.errors
    assert made.status_code == 302
    stored = Pool.objects.get()
    assert (stored.name, stored.size, stored.updated_by) == ("gpu", 2, "chef")


def test_what_happened_and_what_holds_for_all_is_looked_at_and_not_touched(admin: Client) -> None:
    told = Incident.note("stalled", now=NOON, seconds=40)
    Policy.current().store(now=NOON, by="anna")

    for model, pk in (("incident", told.pk), ("policy", 1)):
        assert admin.get(f"/admin/daemon_app/{model}/").status_code == 200
        assert admin.get(f"/admin/daemon_app/{model}/{pk}/change/").status_code == 200
        assert admin.post(f"/admin/daemon_app/{model}/{pk}/change/", {}).status_code == 403
        assert admin.get(f"/admin/daemon_app/{model}/add/").status_code == 403


def test_runs_are_looked_at_and_not_touched(admin: Client) -> None:
    made = run(job())
    before = Run.objects.values().get()

    looked = admin.get(f"/admin/daemon_app/run/{made.pk}/change/")
    changed = admin.post(f"/admin/daemon_app/run/{made.pk}/change/", {"state": "succeeded"})
    deleted = admin.post(f"/admin/daemon_app/run/{made.pk}/delete/", {"post": "yes"})
    many = admin.post(
        "/admin/daemon_app/run/", {"action": "delete_selected", "_selected_action": made.pk}
    )

    assert looked.status_code == 200
    assert "<select" not in looked.content.decode()
    assert (changed.status_code, deleted.status_code) == (403, 403)
    assert many.status_code in {200, 302, 403}
    assert Run.objects.values().get() == before


def test_an_account_is_made_with_a_password_or_without_and_never_shown_it(admin: Client) -> None:
    url = "/admin/daemon_app/account/add/"
    fields = {"username": "anna", "role": "operator", "is_active": "on"}

    weak = admin.post(url, fields | {"new_password": "anna"})
    made = admin.post(url, fields | {"new_password": "drei gelbe Boote"})
    admin.post(url, fields | {"username": "bert"})

    assert "new_password" in weak.context["adminform"].form.errors
    assert made.status_code == 302
    anna = Account.objects.get(username="anna")
    assert anna.check_password("drei gelbe Boote")
    assert not Account.objects.get(username="bert").has_usable_password()
    shown = admin.get(f"/admin/daemon_app/account/{anna.pk}/change/").content.decode()
    assert anna.password not in shown
    assert "drei gelbe Boote" not in shown


def test_tokens_are_revoked_in_the_admin_and_stay_known(admin: Client) -> None:
    token, text = Token.issue(Account.owner(), name="x", role="viewer", now=NOON, life=None)

    answer = admin.post(
        "/admin/daemon_app/token/", {"action": "revoke", "_selected_action": token.pk}
    )

    assert answer.status_code == 302
    assert Token.find(text, NOON) is None
    assert Token.objects.filter(pk=token.pk).exists()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_the_admin_is_closed_to_others_and_says_so(client: Client, role: str) -> None:
    client.force_login(Account.objects.create_user("anna", role=role))

    assert client.get("/admin/").status_code == 403
    assert client.get("/admin/daemon_app/job/").status_code == 403


def test_the_admin_speaks_german_and_leads_back(admin: Client) -> None:
    page = admin.get("/admin/").content.decode()

    assert "Zurück zur Übersicht" in page
    assert "Verwaltung" in page

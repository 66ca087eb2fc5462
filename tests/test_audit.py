"""The audit log: what is told of whom, what never is, and that nobody can change it unseen."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from daemon_app import cli, journal, scheduler, witness
from daemon_app.cli import language
from daemon_app.cli.outcome import Code
from daemon_app.models import Account, Change, Incident, Policy, Pool, Run, Ticket, Token, change
from daemon_app.models.access import Role
from daemon_app.models.change import AppendOnlyError, Asker, Via, asked_by, told_last
from tests.jobs import NOON, job, run

PASSWORD = "drei gelbe Boote"
guard = import_module("daemon_app.migrations.0005_moving_in")
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EXPORTS_DIR", tmp_path)
    monkeypatch.setattr(witness, "_noted", "")


@pytest.fixture
def chef() -> Account:
    return Account.objects.create_user("chef", PASSWORD, role=Role.ADMIN)


@pytest.fixture
def admin(chef: Account) -> Client:
    client = Client()
    client.force_login(chef)
    return client


@pytest.fixture
def bach(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`bach …` in this process, on the test's own database, in English."""
    monkeypatch.setenv("LANGUAGE", "en")
    for kept in (language.current, language._catalogue):
        kept.cache_clear()

    def called(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.run([*arguments]), *capsys.readouterr()

    with translation.override("en"):
        yield called
    for kept in (language.current, language._catalogue):
        kept.cache_clear()


def told(subject: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return who did what with which name, the oldest first."""
    rows = Change.objects.filter(subject=subject).order_by("id")
    return [(row.by, row.kind, row.name, row.fields) for row in rows]


# ── What is told ─────────────────────────────────────────────────────────────────────────────────
def test_what_somebody_asks_of_a_run_is_told_and_a_start_by_schedule_is_not() -> None:
    of = job("backup", job_type="cron", schedule="0 3 * * *")
    before = Change.objects.count()
    scheduler.tick(NOON + timedelta(days=1))
    assert Run.objects.filter(job=of).exists()
    assert Change.objects.count() == before
    Run.objects.all().delete()

    by_hand = scheduler.start(of, trigger="manual", by="anna", now=NOON).run
    assert by_hand
    scheduler.force(by_hand, by="ben", now=NOON)
    scheduler.stop(by_hand, by="clara", now=NOON)
    scheduler.start(of, trigger="tick", by="", now=NOON)

    about = {"job": of.pk}
    assert told("run") == [
        ("anna", "started", "backup", about),
        ("ben", "forced", "backup", about),
        ("clara", "cancelled", "backup", about),
    ]


def test_a_run_moved_in_the_line_and_one_that_ended_before() -> None:
    first, second = run(), run()
    scheduler.move(second, "first", by="anna", now=NOON)
    first.request_stop(by="anna", now=NOON)
    scheduler.stop(first, by="ben", now=NOON)

    assert told("run") == [
        ("anna", "moved", second.job_name, {"job": second.job_id, "to": "first"})
    ]


def test_rules_pools_holds_presence_and_incidents_are_told() -> None:
    rules = Policy.current()
    rules.keep_days = 30
    rules.store(now=NOON, by="anna")
    Policy.current().store(now=NOON, by="anna")
    Pool(name="gpu", size=1).store(now=NOON, by="anna")
    gpu = Pool.objects.get()
    gpu.size = 2
    gpu.store(now=NOON, by="ben")
    with asked_by(Asker(who=lambda: "clara")):
        gpu.remove()
    scheduler.hold("drain", by="anna", now=NOON, note="update")
    scheduler.hold("drain", by="anna", now=NOON)
    scheduler.resume(by="ben", now=NOON)
    Policy.set_presence("here", now=NOON, by="anna", until=NOON + timedelta(hours=1))
    Incident.note("stalled", now=NOON, seconds=9).acknowledge(by="anna", now=NOON)

    assert told("policy") == [("anna", "edited", "", {"keep_days": [90, 30]})]
    assert [row[:3] for row in told("pool")] == [
        ("anna", "created", "gpu"),
        ("ben", "edited", "gpu"),
        ("clara", "deleted", "gpu"),
    ]
    assert told("pool")[1][3] == {"size": [1, 2]}
    assert told("hold") == [
        ("anna", "held", "", {"hold": ["", "drain"], "hold_note": ["", "update"]}),
        ("ben", "released", "", {"hold": ["drain", ""], "hold_note": ["update", ""]}),
    ]
    assert told("presence")[0][3]["presence"] == ["", "here"]
    assert told("incident") == [("anna", "seen", "stalled", {})]


def test_sign_ins_roles_passwords_links_and_tokens_are_told_and_no_secret_of_them() -> None:
    anna = Account.objects.create_user("anna", PASSWORD, role=Role.VIEWER)
    client = Client()
    client.post("/daemon/login/", {"username": "anna", "password": PASSWORD})
    client.post("/daemon/logout/")
    link = Ticket.issue(anna, timezone.now())
    Client().post("/daemon/login/", {"ticket": link})
    with asked_by(Asker(via=Via.ADMIN, who=lambda: "chef")):
        anna.role = Role.OPERATOR
        anna.set_password("vier rote Segel")
        anna.save()
        token, text = Token.issue(anna, name="x", role="viewer", now=NOON, life=None)
        token.revoke(NOON)
        token.revoke(NOON)
        anna.is_active = False
        anna.save()
        anna.delete()

    assert [(by, kind) for by, kind, _name, _fields in told("account")] == [
        ("", "created"),
        ("anna", "signed_in"),
        ("anna", "signed_out"),
        ("", "link"),
        ("anna", "signed_in"),
        ("chef", "edited"),
        ("chef", "edited"),
        ("chef", "deleted"),
    ]
    fields = [row[3] for row in told("account")]
    assert [fields[1], fields[4]] == [{"how": "password"}, {"how": "link"}]
    assert fields[5] == {"role": ["viewer", "operator"], "password": [True, True]}
    assert [row[1] for row in told("token")] == ["created", "revoked"]
    kept = "".join(change.lines(Change.objects.all()))
    for secret in (PASSWORD, "vier rote Segel", link, text.rpartition("_")[2], token.digest):
        assert secret not in kept
    assert "pbkdf2" not in kept
    assert "argon2" not in kept


def test_a_password_hashed_anew_is_no_change() -> None:
    anna = Account.objects.create_user("anna", PASSWORD)
    anna.password = "pbkdf2_sha256$1$a$" + anna.password.rpartition("$")[2]
    before = Change.objects.count()
    anna.save(update_fields=["password"])
    anna.save(update_fields=["last_login"])

    assert Change.objects.count() == before


def test_by_which_way_from_where_and_with_which_token(
    admin: Client, chef: Account, bach: Callable[..., Any]
) -> None:
    of = job()
    token, text = Token.issue(chef, name="x", role="admin", now=timezone.now(), life=None)
    admin.post(f"/daemon/jobs/{of.pk}/toggle/", {"active": "0"}, REMOTE_ADDR="192.0.2.7")
    Client().put(
        f"/api/daemon/jobs/{of.pk}/toggle",
        '{"is_active": true}',
        content_type="application/json",
        headers={"Authorization": f"Bearer {text}"},
    )
    assert bach("daemon", "hold")[0] == Code.OK
    page, api = Change.objects.of_jobs(of.pk).order_by("id")[1:]

    assert (page.by, page.via, page.address) == ("chef", "page", "192.0.2.7")
    assert (api.by, api.via, api.token_id, api.kind) == ("chef", "api", token.pk, "on")
    assert Change.objects.get(subject="hold").via == "cli"
    assert Change.objects.of_jobs(of.pk).earliest("id").via == "daemon"


def test_what_is_undone_is_not_told() -> None:
    before = Change.objects.count()
    with transaction.atomic():
        Pool(name="gpu").store(now=NOON, by="anna")
        transaction.set_rollback(True)

    assert Change.objects.count() == before
    assert change.verify().broken is None


def test_what_is_told_last_is_told_after_everything_else_or_not_at_all() -> None:
    running = run(state=Run.State.RUNNING)
    before = Change.objects.count()
    with CaptureQueriesContext(connection) as asked:
        scheduler.hold("stop", by="anna", now=NOON)
    written = [q["sql"] for q in asked if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    with suppress(ValueError), transaction.atomic(), told_last():
        Pool(name="gpu").store(now=NOON, by="anna")
        raise ValueError
    with transaction.atomic(), told_last():
        for name in ("one", "two"):
            Pool(name=name).store(now=NOON, by="anna")
        assert Change.objects.count() == before + 1

    running.refresh_from_db()
    assert running.stop_code == "held"
    assert "daemon_changes" in written[-1]
    assert not any("daemon_changes" in sql for sql in written[:-1])
    assert [row[2] for row in told("pool")] == ["one", "two"]
    assert change.verify().broken is None


# ── Only ever added ──────────────────────────────────────────────────────────────────────────────
def fill(count: int = 5) -> list[int]:
    of = job()
    for n in range(count - 1):
        Change.record(of, "edited", now=NOON, by=f"user-{n}", priority=[n, n + 1])
    return list(Change.objects.order_by("id").values_list("pk", flat=True))


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def unlocked() -> None:
    """Whoever may write to the database's file can take its triggers away."""
    execute(*guard.GONE[connection.vendor])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE daemon_changes SET by = 'nobody'",
        "DELETE FROM daemon_changes",
        "INSERT OR REPLACE INTO daemon_changes SELECT * FROM daemon_changes",
    ],
)
def test_the_database_refuses_to_change_or_delete_a_row(statement: str) -> None:
    fill()
    if connection.vendor != "sqlite" and "REPLACE" in statement:
        pytest.skip("only SQLite knows it")

    with pytest.raises(DatabaseError), transaction.atomic():
        execute(statement)

    assert change.verify() == change.verify(change.newest().digest)


def test_the_model_refuses_too() -> None:
    fill()
    row = change.newest()
    for attempt in (
        row.save,
        row.delete,
        Change.objects.all().delete,
        lambda: Change.objects.update(by="nobody"),
    ):
        with pytest.raises(AppendOnlyError):
            attempt()


def test_a_chain_can_not_fork() -> None:
    fill()
    first, second = Change.objects.order_by("id")[:2]
    copy = {f.attname: getattr(second, f.attname) for f in Change._meta.concrete_fields}
    del copy["id"]

    with pytest.raises(DatabaseError), transaction.atomic():
        Change.objects.bulk_create([Change(**copy | {"previous": first.digest})])


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE daemon_changes SET by = 'nobody' WHERE id = {third}",
        "UPDATE daemon_changes SET fields = '{{\"priority\": [1, 7]}}' WHERE id = {third}",
        "UPDATE daemon_changes SET at = '2026-11-24 12:00:00.000001' WHERE id = {third}",
        "UPDATE daemon_changes SET digest = 'x' || substr(digest, 2) WHERE id = {third}",
        "UPDATE daemon_changes SET subject_id = subject_id + 1 WHERE id = {third}",
    ],
)
@pytest.mark.usefixtures("unlocked")
def test_a_changed_row_is_named(tampering: str) -> None:
    third = fill()[2]
    execute(tampering.format(third=third))

    found = change.verify()

    assert (found.broken, found.fault, found.rows) == (third, "changed", 2)


@pytest.mark.usefixtures("unlocked")
def test_after_a_deleted_an_exchanged_or_an_added_row_the_next_is_named() -> None:
    ids = fill()
    execute(f"DELETE FROM daemon_changes WHERE id = {ids[2]}")
    assert (change.verify().broken, change.verify().fault) == (ids[3], "gap")


@pytest.mark.usefixtures("unlocked")
def test_without_its_first_row_the_second_is_named() -> None:
    ids = fill()
    execute(f"DELETE FROM daemon_changes WHERE id = {ids[0]}")
    assert (change.verify().broken, change.verify().fault) == (ids[1], "gap")


@pytest.mark.usefixtures("unlocked")
def test_rows_in_another_order_are_seen() -> None:
    ids = fill()
    execute(
        f"UPDATE daemon_changes SET id = -1 WHERE id = {ids[2]}",
        f"UPDATE daemon_changes SET id = {ids[2]} WHERE id = {ids[3]}",
        f"UPDATE daemon_changes SET id = {ids[3]} WHERE id = -1",
    )
    assert (change.verify().broken, change.verify().fault) == (ids[2], "gap")


@pytest.mark.usefixtures("unlocked")
def test_a_row_put_between_two_others_is_seen_though_its_own_digest_is_right() -> None:
    ids = fill()
    second = Change.objects.get(pk=ids[1])
    execute(f"UPDATE daemon_changes SET id = id + 1000 WHERE id > {ids[1]}")
    added = {**second.told(), "by": "nobody"}
    execute(
        "INSERT INTO daemon_changes SELECT * FROM daemon_changes WHERE 1 = 0",
        "CREATE TEMP TABLE one AS SELECT * FROM daemon_changes WHERE id = " + str(ids[1]),
        f"UPDATE one SET id = {ids[1] + 1}, by = 'nobody', previous = '{second.digest}', "
        f"digest = '{change.digest_of(added, second.digest)}'",
        f"DELETE FROM daemon_changes WHERE id = {ids[2] + 1000}",
        "INSERT INTO daemon_changes SELECT * FROM one",
        "DROP TABLE one",
    )
    assert (change.verify().broken, change.verify().fault) == (ids[3] + 1000, "gap")


@pytest.mark.usefixtures("unlocked")
def test_what_is_cut_off_at_the_end_only_a_digest_kept_elsewhere_shows(
    bach: Callable[..., Any],
) -> None:
    ids = fill()
    code, kept, _err = bach("daemon", "audit", "export", "--digest")
    head = kept.split()[-1]
    assert bach("daemon", "audit", "verify", "--head", head)[0] == code == Code.OK
    execute(f"DELETE FROM daemon_changes WHERE id >= {ids[3]}")
    Change.record(job("another"), "edited", now=NOON, by="anna")

    assert bach("daemon", "audit", "verify")[0] == Code.OK
    code, _out, err = bach("daemon", "audit", "verify", "--head", head)
    assert code == Code.FAILED
    assert "the end was cut off" in err


@pytest.mark.usefixtures("unlocked")
@pytest.mark.parametrize("done", ["cut", "rewritten"])
def test_what_the_daemon_has_noted_in_the_journal_shows_it_too(
    bach: Callable[..., Any], done: str
) -> None:
    ids = fill(3)
    witness.note(NOON)
    Pool(name="gpu").store(now=NOON, by="anna")
    with journal.path().open("a") as file:
        for line in (
            '{"skill": "audit"',
            '{"skill": "audit", "data": [1]}',
            '{"skill": "else", "data": {"row": 9, "digest": "x", "in": {"skill": "audit"}}}',
        ):
            file.write(f"{line}\n")
    witness.note(NOON)
    witness.note(NOON)
    row = change.newest()
    assert list(witness.noted()) == [ids[-1], row.pk]
    assert bach("daemon", "audit", "verify")[0] == Code.OK

    if done == "cut":
        execute(f"DELETE FROM daemon_changes WHERE id = {row.pk}")
    else:
        fresh = change.digest_of({**row.told(), "by": "nobody"}, row.previous)
        execute(f"UPDATE daemon_changes SET by = 'nobody', digest = '{fresh}' WHERE id = {row.pk}")
        assert change.verify().broken is None
    code, _out, err = bach("daemon", "audit", "verify")
    _code, told_json, _err = bach("daemon", "audit", "verify", "--json")

    assert code == Code.FAILED
    said = {"cut": "the end was cut off", "rewritten": "it was rewritten"}
    assert said[done] in err
    assert json.loads(told_json)["broken"] == row.pk
    assert json.loads(told_json)["noted"] == 2


def test_the_triggers_are_there_after_all_migrations() -> None:
    found = connection.introspection.table_names()
    assert "daemon_changes" in found
    if connection.vendor != "sqlite":
        pytest.skip("asked of SQLite's own table")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        names = [name for (name,) in cursor.fetchall() if name.startswith("daemon_changes")]
    assert names == [f"daemon_changes_{name}" for name in ("no_delete", "no_replace", "no_update")]


@pytest.mark.django_db(transaction=True)
def test_changes_from_before_the_log_get_their_places_in_the_chain() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate([("daemon_app", "0004_dashboard")])
    try:
        old = executor.loader.project_state([("daemon_app", "0004_dashboard")]).apps
        earlier = old.get_model("daemon_app", "Change")
        for n in range(3):
            earlier.objects.create(
                at=NOON, by="ä", kind="edited", job_id=7, job_name="x", version=n, fields={"b": [n]}
            )
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())

    assert (change.verify().rows, change.verify().broken) == (3, None)
    assert [row.version for row in Change.objects.of_jobs(7).order_by("id")] == [0, 1, 2]


@pytest.mark.django_db(transaction=True)
def test_many_writers_make_one_chain() -> None:
    of = job()

    def write(n: int) -> None:
        try:
            for _n in range(5):
                Change.record(of, "edited", now=NOON, by=f"user-{n}")
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))

    found = change.verify()
    assert (found.rows, found.broken) == (31, None)


def test_looking_at_all_rows_holds_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    of = job()
    about = {"at": NOON, "by": "anna", "kind": "edited", "subject": "job", "subject_id": of.pk}
    Change.append(Change(**about, fields={"n": n}) for n in range(40))
    monkeypatch.setattr(change, "PER_PIECE", 10)
    seen: list[int] = []

    found = change.verify(each=seen.append)

    assert (found.rows, found.broken, seen) == (41, None, [10, 20, 30, 40])


# ── On the command line ──────────────────────────────────────────────────────────────────────────
def test_the_command_lists_chooses_and_exports(bach: Callable[..., Any]) -> None:
    fill()
    Pool(name="gpu").store(now=timezone.now(), by="ben")

    _code, table, _err = bach("daemon", "audit", "--by", "user-1")
    _code, chosen, _err = bach("daemon", "audit", "--subject", "pool", "--json")
    _code, exported, _err = bach("daemon", "audit", "export")
    _code, old, _err = bach("daemon", "audit", "export", "--until", "2026-11-24", "--by", "user-0")
    _code, none, _err = bach("daemon", "audit", "--since", "2999-01-01")

    assert "Priority: 1 → 2" in table
    assert "user-0" not in table
    assert [row["name"] for row in json.loads(chosen)] == ["gpu"]
    rows = [json.loads(line) for line in exported.splitlines()]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert [row["previous"] for row in rows] == ["", *[row["digest"] for row in rows[:-1]]]
    assert len(rows) == Change.objects.count()
    assert len(old.splitlines()) == 1
    assert "nothing like that" in none


def test_the_command_verifies_and_names_the_first_broken_row(bach: Callable[..., Any]) -> None:
    ids = fill()
    code, out, err = bach("daemon", "audit", "verify")
    assert (code, out.splitlines()[0]) == (Code.OK, "5 rows, all as they were written.")
    assert out.split()[-1] == change.newest().digest
    assert "Keep this line elsewhere" in err
    execute(*guard.GONE[connection.vendor])
    execute(f"UPDATE daemon_changes SET by = 'nobody' WHERE id IN ({ids[1]}, {ids[3]})")

    code, _out, err = bach("daemon", "audit", "verify")
    _code, told_json, _err = bach("daemon", "audit", "verify", "--json")

    assert code == Code.FAILED
    assert f"Row {ids[1]} is not as it was written." in err
    assert json.loads(told_json)["broken"] == ids[1]
    assert bach("daemon", "audit", "verify", "--head", "x")[0] == Code.USAGE


# ── On the pages ─────────────────────────────────────────────────────────────────────────────────
def test_the_page_shows_chooses_and_pages(admin: Client) -> None:
    of = job()
    for n in range(60):
        Change.record(of, "edited", now=NOON, by=f"user-{n}", priority=[n, n + 1])

    first = admin.get("/daemon/audit/").content.decode()
    before = first.rpartition("before=")[2].partition('"')[0]
    second = admin.get(f"/daemon/audit/?before={before}").content.decode()
    one = admin.get("/daemon/audit/?by=user-7&subject=job&name=BACK").content.decode()
    none = admin.get("/daemon/audit/?subject=nothing&since=x&until=99999-1-1").content.decode()

    assert "user-59" in first
    assert "user-3 " not in first
    assert "user-3 " in second
    assert "user-7 " in one
    assert "user-8 " not in one
    assert '<ol class="changes">' not in none
    assert change.newest().digest in first


def written(response: Any) -> bytes:
    """Return what a server of ours would send of it."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response])

    return async_to_sync(read)()


def test_the_page_exports_what_it_shows(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(8)
    monkeypatch.setattr(change, "PER_PIECE", 3)

    whole = admin.get("/daemon/audit/export/")
    some = admin.get("/daemon/audit/export/?by=user-1")

    rows = [json.loads(line) for line in written(whole).splitlines()]
    assert [row["id"] for row in rows] == [*Change.objects.order_by("id").values_list(flat=True)]
    assert len(written(some).splitlines()) == 1
    assert "audit.jsonl" in whole["Content-Disposition"]


def test_a_token_is_made_on_its_page_shown_once_and_revoked(admin: Client) -> None:
    made = admin.post("/daemon/tokens/", {"name": " ci\x07 bot ", "role": "operator", "days": 30})
    token = Token.objects.get()
    text = made.content.decode().partition('issued">')[2].partition("<")[0]

    assert (made.status_code, made["Cache-Control"]) == (200, "no-store")
    assert (token.name, token.role, token.account.username) == ("ci bot", "operator", "chef")
    assert token.expires_at - token.created_at == timedelta(days=30)
    assert Token.find(text, timezone.now()) == token
    assert text not in admin.get("/daemon/tokens/").content.decode()
    answer = admin.post(f"/daemon/tokens/{token.pk}/revoke/")
    assert answer.status_code == 303
    assert Token.find(text, timezone.now()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "\x07"},
        {"name": "x" * 81},
        {"role": "owner"},
        {"days": "-1"},
        {"days": "9999"},
        {"days": "x"},
    ],
)
def test_a_token_that_can_not_be_is_not_made(admin: Client, wrong: dict[str, str]) -> None:
    answer = admin.post("/daemon/tokens/", {"name": "x", "role": "viewer", "days": "1", **wrong})

    assert answer.status_code == 422
    assert not Token.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_the_log_and_the_tokens_are_for_administrators(client: Client, role: str) -> None:
    client.force_login(Account.objects.create_user("anna", role=role))

    for path in ("/daemon/audit/", "/daemon/audit/export/", "/daemon/tokens/"):
        assert client.get(path).status_code == 403
    assert "/daemon/audit/" not in client.get("/daemon/settings/").content.decode()

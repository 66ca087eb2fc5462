"""Whatever somebody changes, by whichever way, stands in the audit log: all ways there are.

The list of ways comes from the URL resolver and from the tree of commands; one that is new fails
until it is said here what the log tells of it, or why nothing.
"""

import json
import logging
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from django.test import Client
from django.utils import timezone, translation

from daemon_app import cli, scheduler
from daemon_app.cli import project
from daemon_app.models import Account, Change, Incident, Job, Node, Policy, Pool, Run, Ticket, Token
from daemon_app.models.access import Role
from tests.intake.legacy import database
from tests.jobs import job, run
from tests.security.routes import NOBODY, TABLE, path_of

PASSWORD = "drei gelbe Boote"
SECRET = "hunter2-and-no-word-of-it"
TOMORROW = (timezone.now() + timedelta(days=1)).isoformat()
pytestmark = pytest.mark.django_db

FORM = {
    "name": "nightly",
    "command": "true",
    "use_shell": "on",
    "job_type": "manual",
    "schedule": "",
    "timezone": "Europe/Berlin",
    "timeout_seconds": "5m",
    "grace_seconds": "10s",
    "overlap": "skip",
    "max_instances": "1",
    "nice": "0",
    "is_active": "on",
    "misfire": "once",
    "max_retries": "0",
    "retry_delay_seconds": "1m",
    "environment": f"PASSWORD={SECRET}",
}
BODY = {
    "name": "nightly",
    "job_type": "manual",
    "command": "true",
    "environment": {"PASSWORD": SECRET},
}

# (route, method): (what is sent, subject, kind) as the log tells it.
TOLD: dict[tuple[str, str], tuple[Any, str, str]] = {
    # ── Pages ────────────────────────────────────────────────────────────────────────────────────
    ("daemon/jobs/new/", "POST"): (FORM, "job", "created"),
    ("daemon/jobs/begin/", "POST"): ({}, "job", "created"),
    ("daemon/jobs/<int:pk>/edit/", "POST"): (FORM | {"version": "1"}, "job", "edited"),
    ("daemon/jobs/<int:pk>/start/", "POST"): ({}, "run", "started"),
    ("daemon/jobs/<int:pk>/toggle/", "POST"): ({"active": "0"}, "job", "off"),
    ("daemon/jobs/<int:pk>/pause/", "POST"): ({"for": "tomorrow"}, "job", "paused"),
    ("daemon/jobs/<int:pk>/mute/", "POST"): ({"for": "day"}, "job", "muted"),
    ("daemon/jobs/<int:pk>/delete/", "POST"): ({}, "job", "deleted"),
    ("daemon/runs/<int:pk>/cancel/", "POST"): ({}, "run", "cancelled"),
    ("daemon/runs/<int:pk>/force/", "POST"): ({}, "run", "forced"),
    ("daemon/runs/<int:pk>/again/", "POST"): ({}, "run", "started"),
    ("daemon/runs/<int:pk>/move/", "POST"): ({"to": "last"}, "run", "moved"),
    ("daemon/hold/", "POST"): ({"mode": "drain"}, "hold", "held"),
    ("daemon/resume/", "POST"): ({}, "hold", "released"),
    ("daemon/presence/", "POST"): ({"presence": "here", "minutes": "60"}, "presence", "said"),
    ("daemon/incidents/<int:pk>/seen/", "POST"): ({}, "incident", "seen"),
    ("daemon/settings/rules/", "POST"): (
        {"max_parallel": "3", "keep_days": "30", "keep_runs": "500", "keep_output_mb": "1000"},
        *("policy", "edited"),
    ),
    ("daemon/settings/watch/", "POST"): ({"slow_ms": "801"}, "policy", "edited"),
    ("daemon/settings/pools/new/", "POST"): ({"name": "disk", "size": "1"}, "pool", "created"),
    ("daemon/settings/pools/<int:pk>/", "POST"): ({"name": "gpu", "size": "3"}, "pool", "edited"),
    ("daemon/settings/pools/<int:pk>/delete/", "POST"): ({}, "pool", "deleted"),
    ("daemon/tokens/", "POST"): (
        {"name": "ci", "role": "viewer", "days": "1"},
        *("token", "created"),
    ),
    ("daemon/tokens/<int:pk>/revoke/", "POST"): ({}, "token", "revoked"),
    ("daemon/login/", "POST"): (
        {"username": "chef", "password": PASSWORD},
        *("account", "signed_in"),
    ),
    ("daemon/logout/", "POST"): ({}, "account", "signed_out"),
    ("daemon/password/", "POST"): (
        {"old_password": PASSWORD, "new_password1": SECRET, "new_password2": SECRET},
        *("account", "edited"),
    ),
    # ── REST ─────────────────────────────────────────────────────────────────────────────────────
    ("api/daemon/jobs", "POST"): (BODY, "job", "created"),
    ("api/daemon/starters/begin", "POST"): ({}, "job", "created"),
    ("api/daemon/jobs/<int:pk>", "PATCH"): ({"environment": {"A": SECRET}}, "job", "edited"),
    ("api/daemon/jobs/<int:pk>", "DELETE"): (None, "job", "deleted"),
    ("api/daemon/jobs/<int:pk>/copy", "POST"): ({}, "job", "created"),
    ("api/daemon/jobs/<int:pk>/toggle", "PUT"): ({"is_active": False}, "job", "off"),
    ("api/daemon/jobs/<int:pk>/pause", "POST"): ({"until": TOMORROW}, "job", "paused"),
    ("api/daemon/jobs/<int:pk>/mute", "PUT"): ({"until": TOMORROW}, "job", "muted"),
    ("api/daemon/jobs/<int:pk>/mute", "DELETE"): (None, "job", "unmuted"),
    ("api/daemon/jobs/<int:pk>/run", "POST"): ({}, "run", "started"),
    ("api/daemon/runs/<int:pk>/again", "POST"): ({}, "run", "started"),
    ("api/daemon/runs/<int:pk>/cancel", "POST"): ({}, "run", "cancelled"),
    ("api/daemon/runs/<int:pk>/force", "POST"): ({}, "run", "forced"),
    ("api/daemon/runs/<int:pk>/move", "POST"): ({"to": "last"}, "run", "moved"),
    ("api/daemon/hold", "POST"): ({"mode": "drain"}, "hold", "held"),
    ("api/daemon/resume", "POST"): ({}, "hold", "released"),
    ("api/daemon/stop", "POST"): ({}, "hold", "held"),
    ("api/daemon/start", "POST"): ({}, "hold", "released"),
    ("api/daemon/presence", "PUT"): ({"state": "here"}, "presence", "said"),
    ("api/daemon/policy", "PUT"): ({"keep_days": 30}, "policy", "edited"),
    ("api/daemon/policy", "PATCH"): ({"keep_days": 30}, "policy", "edited"),
    ("api/daemon/pools", "POST"): ({"name": "disk"}, "pool", "created"),
    ("api/daemon/pools/<slug:name>", "PUT"): ({"size": 3}, "pool", "edited"),
    ("api/daemon/pools/<slug:name>", "PATCH"): ({"size": 3}, "pool", "edited"),
    ("api/daemon/pools/<slug:name>", "DELETE"): (None, "pool", "deleted"),
    ("api/daemon/incidents/<int:pk>/acknowledge", "POST"): (None, "incident", "seen"),
    ("api/daemon/incidents/<int:pk>/acknowledge", "DELETE"): (None, "incident", "unseen"),
    ("api/daemon/tokens", "POST"): ({"name": "ci", "role": "viewer"}, "token", "created"),
    ("api/daemon/tokens/<int:pk>/revoke", "POST"): (None, "token", "revoked"),
    # ── Django's administration ──────────────────────────────────────────────────────────────────
    ("admin/daemon_app/job/add/", "POST"): ({}, "job", "created"),
    ("admin/daemon_app/job/<path:object_id>/change/", "POST"): (
        {"description": "new"},
        *("job", "edited"),
    ),
    ("admin/daemon_app/pool/add/", "POST"): ({"name": "disk", "size": 1}, "pool", "created"),
    ("admin/daemon_app/pool/<path:object_id>/change/", "POST"): ({"size": 3}, "pool", "edited"),
    ("admin/daemon_app/account/add/", "POST"): (
        {"username": "ben", "role": "viewer", "is_active": "on", "new_password": SECRET},
        *("account", "created"),
    ),
    ("admin/daemon_app/account/<path:object_id>/change/", "POST"): (
        {"role": "operator", "new_password": SECRET},
        *("account", "edited"),
    ),
    ("admin/daemon_app/token/", "POST"): ({"action": "revoke"}, "token", "revoked"),
    ("admin/daemon_app/token/add/", "POST"): (
        {"name": "ci", "role": "viewer", "days": "1"},
        *("token", "created"),
    ),
    ("admin/logout/", "POST"): ({}, "account", "signed_out"),
}
LOOKS = "it only looks"
# (route, method): why nothing is told.
NOT_TOLD = {
    ("daemon/jobs/check/", "POST"): LOOKS,
    ("daemon/jobs/columns/", "POST"): "which columns somebody sees is kept with the session",
    ("daemon/login/language/", "POST"): "a cookie of the browser",
    ("api/daemon/jobs/check", "POST"): LOOKS,
    ("api/daemon/jobs/<int:pk>/check", "POST"): LOOKS,
    ("api/daemon/activity", "POST"): "a sign of life, a hundred times a day, kept for minutes",
}


# The command: (what is said after it, subject, kind) as the log tells it.
COMMANDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "daemon run": (("backup",), "run", "started"),
    "daemon move": (("{run}", "last"), "run", "moved"),
    "daemon force": (("{run}",), "run", "forced"),
    "daemon drop": (("{run}",), "run", "cancelled"),
    "daemon cancel": (("{run}",), "run", "cancelled"),
    "daemon hold": ((), "hold", "held"),
    "daemon resume": ((), "hold", "released"),
    "daemon here": ((), "presence", "said"),
    "daemon away": ((), "presence", "said"),
    "daemon pools set": (("gpu", "3"), "pool", "edited"),
    "daemon pools remove": (("gpu",), "pool", "deleted"),
    "daemon policy": (("--parallel", "3"), "policy", "edited"),
    "daemon incidents seen": (("{incident}",), "incident", "seen"),
    "daemon login": (("--print",), "account", "link"),
    "daemon token create": (("--name", "ci"), "token", "created"),
    "daemon token revoke": (("{token}",), "token", "revoked"),
    "job add": (("nightly", "--command", "true", "--environment", f"A={SECRET}"), "job", "created"),
    "job edit": (("backup", "--environment", f"A={SECRET}"), "job", "edited"),
    "job on": (("backup",), "job", "on"),
    "job off": (("backup",), "job", "off"),
    "job pause": (("backup",), "job", "paused"),
    "job resume": (("backup",), "job", "on"),
    "job mute": (("backup",), "job", "muted"),
    "job delete": (("backup", "--yes"), "job", "deleted"),
    "import crontab": (("{crontab}", "--apply", "--yes"), "job", "created"),
    "import timers": (("{folder}", "--apply", "--yes"), "job", "created"),
    "import definitions": (("{yaml}", "--apply", "--yes"), "job", "created"),
    "import database": (("{bach}", "--apply", "--yes"), "job", "created"),
    "apply": (("{yaml}", "--yes"), "job", "created"),
}
# They ask, or concern processes and no rows.
QUIET_COMMANDS = {
    *("up", "gui start", "daemon start", "daemon stop", "daemon status", "daemon health"),
    *("daemon skills", "daemon why", "daemon jobs", "daemon log", "daemon queue", "daemon logs"),
    *("daemon doctor", "daemon unit", "daemon token list", "daemon audit verify", "export"),
    *("daemon audit export", "job list", "job show", "job why", "job next", "job history"),
    *("job logs", "progress", "completion", "demo gpu-service", "demo ollama", "demo control"),
}


def commands(of: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every command that does something itself."""
    parts = of.commands if isinstance(of, click.Group) else {}
    for name, part in parts.items():
        yield from commands(part, (*path, name))
    if not parts or " ".join(path) == "daemon policy":
        yield " ".join(path)


def test_every_way_to_change_something_is_listed() -> None:
    ways = {
        (route, method)
        for route, entry in TABLE.items()
        for method, right in entry.items()
        if method not in {"GET", "HEAD"} and right != NOBODY
    }
    # They answer any method as they answer GET, and nothing is done.
    ways -= {way for way in ways if way[0] in {"", "api/daemon/"}}
    ways -= {
        way for way in ways if way[0].startswith("admin/") and (way[1] != "POST" or way not in TOLD)
    }

    assert ways == TOLD.keys() | NOT_TOLD.keys()
    models = {
        route.split("/")[2] for route, _method in TOLD if route.startswith("admin/daemon_app")
    }
    assert models == {"job", "pool", "account", "token"}


@pytest.fixture
def chef() -> Account:
    return Account.objects.create_user("chef", PASSWORD, role=Role.ADMIN)


@pytest.fixture
def admin(chef: Account) -> Client:
    client = Client()
    client.force_login(chef)
    return client


@pytest.fixture(autouse=True)
def own_folders(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "runs"
    settings.EXPORTS_DIR = tmp_path / "exports"
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick


@pytest.fixture
def there(chef: Account) -> dict[str, int]:
    """One of each kind: kind → number."""
    now = timezone.now()
    of = job("backup", now=now)
    Pool(name="gpu", size=2).store(now=now, by="")
    account = Account.objects.create_user("anna", PASSWORD, role=Role.VIEWER)
    token, _text = Token.issue(account, name="x", role="viewer", now=now, life=None)
    waits = run(of, now=now, needs={"idle": True})
    run(now=now)
    return {
        "job": of.pk,
        "run": waits.pk,
        "pool": Pool.objects.get().pk,
        "account": account.pk,
        "token": token.pk,
        "incident": Incident.note("stalled", now=now, seconds=9).pk,
    }


def prepare(route: str, method: str, there: dict[str, int]) -> None:
    """Bring about what has to be so for a way to change anything."""
    now = timezone.now()
    if "resume" in route or route.endswith("/start"):
        scheduler.hold("drain", by="", now=now)
        Node.objects.create(host=socket.gethostname(), pid=1, started_at=now, seen_at=now)
    elif "again" in route or route in {
        "daemon/jobs/<int:pk>/start/",
        "api/daemon/jobs/<int:pk>/run",
    }:
        Run.objects.update(state=Run.State.SUCCEEDED, ended_at=now)
    elif "delete" in route or method == "DELETE":
        Run.objects.all().delete()
        Incident.objects.get().acknowledge(by="", now=now)
        Job.objects.get(pk=there["job"]).mute(now + timedelta(days=1), by="")
    elif "starters" in route or "begin" in route:
        Job.objects.all().delete()


def fields_of(admin: Client, address: str) -> dict[str, Any]:
    """Return what a browser would send of a form of Django's administration."""
    form = admin.get(address).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    return {
        name: json.dumps(value) if isinstance(value, dict | list) else value
        for name, value in values.items()
        if value is not None and value is not False
    }


def send(admin: Client, route: str, method: str, body: Any, there: dict[str, int]) -> Any:
    kinds = [kind for kind in there if f"/{kind}/" in route or f"/{kind}s/" in route]
    number = there["run"] if "/runs/" in route else there[(kinds or ["job"])[0]]
    address = path_of(route, pk=number, name="gpu")
    if route.startswith("api/"):
        chef = Account.objects.get(username="chef")
        mine, text = Token.issue(chef, name="", role="admin", now=timezone.now(), life=None)
        there["mine"] = mine.pk
        sent, kind = (b"", "") if body is None else (json.dumps(body), "application/json")
        named = {"Authorization": f"Bearer {text}"}
        return Client().generic(method, address, sent, content_type=kind, headers=named)
    if route.endswith("token/") and route.startswith("admin/"):
        body = body | {"_selected_action": there["token"]}
    elif route.startswith("admin/daemon_app"):
        body = fields_of(admin, address) | body
        if "job/add" in route:
            body |= {"name": "nightly", "command": "true", "job_type": "manual"}
        if "token/add" in route:
            body |= {"account": there["account"]}
    elif "watch" in route:
        form = admin.get("/daemon/settings/").context["watch_form"]
        body = {name: form[name].value() or "" for name in form.fields} | body
    if route == "daemon/login/":
        admin = Client()
    return admin.post(address, body)


@pytest.mark.parametrize("way", TOLD, ids=" ".join)
def test_what_is_done_by_this_way_is_told(
    way: tuple[str, str], admin: Client, there: dict[str, int]
) -> None:
    (route, method), (body, subject, kind) = way, TOLD[way]
    prepare(route, method, there)
    last = Change.objects.latest("id").pk

    answer = send(admin, route, method, body, there)

    told = [
        row
        for row in Change.objects.filter(pk__gt=last).order_by("id")
        if (row.subject, row.subject_id) != ("token", there.get("mine"))
    ]
    assert answer.status_code < 400, answer.content.decode()[:2000]
    assert [(row.subject, row.kind) for row in told] == [(subject, kind)] * len(told)
    assert told
    via = {"api": "api", "admin": "admin"}.get(route.split("/")[0], "page")
    said = {(row.by, row.via, row.address, row.token_id) for row in told}
    assert said == {("chef", via, "127.0.0.1", there.get("mine"))}
    assert not any(SECRET in line for row in told for line in (json.dumps(row.told()), row.name))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """What can be imported, by the word that stands for it."""
    (tmp_path / "cron").write_text(f"A={SECRET}\n0 3 * * * x\n")
    (tmp_path / "units").mkdir()
    (tmp_path / "units/x.timer").write_text("[Timer]\nOnCalendar=03:00\n")
    (tmp_path / "units/x.service").write_text(f"[Service]\nEnvironment=A={SECRET}\nExecStart=/x\n")
    (tmp_path / "x.yaml").write_text("name: nightly\njob_type: manual\ncommand: x\n")
    database(tmp_path / "bach.db", {"name": "x", "parameters": json.dumps({"A": SECRET})})
    names = {"crontab": "cron", "folder": "units", "yaml": "x.yaml", "bach": "bach.db"}
    return {word: tmp_path / name for word, name in names.items()}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("_as_before")
def test_what_is_done_by_this_command_is_told(
    command: str,
    there: dict[str, int],
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, subject, kind = COMMANDS[command]
    now = timezone.now()
    if command == "daemon resume":
        scheduler.hold("drain", by="", now=now)
    elif command == "daemon away":
        Policy.set_presence("here", now=now, by="")
    elif command in {"job on", "job resume"}:
        of = Job.objects.get(pk=there["job"])
        of.set_active(False, now=now, by="")
    elif command in {"daemon run", "job delete"}:
        Run.objects.all().delete()
        Node.objects.create(host="elsewhere", pid=1, started_at=now, seen_at=now)
    last = Change.objects.latest("id").pk

    said = [word.format(**there, **files) for word in words]
    code = cli.run([*command.split(), *said])

    told = [
        row
        for row in Change.objects.filter(pk__gt=last).order_by("id")
        # The account of whoever owns the machine is made when it is needed.
        if (row.subject, row.kind) != ("account", "created")
    ]
    assert (code, [(row.subject, row.kind) for row in told]) == (0, [(subject, kind)]), (
        capsys.readouterr()
    )
    assert (told[0].by, told[0].via) == (project.user(), "cli")
    assert SECRET not in json.dumps(told[0].told())


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Set back what a command sets for its own process."""
    log = logging.getLogger("daemon_app")
    level, spoken = log.level, translation.get_language()
    yield
    log.setLevel(level)
    translation.activate(spoken or "de")


@pytest.mark.parametrize("way", NOT_TOLD, ids=" ".join)
def test_what_is_not_told_changes_nothing_that_would_be(
    way: tuple[str, str], admin: Client, there: dict[str, int]
) -> None:
    route, method = way
    kept: tuple[Any, ...] = (Job, Run, Pool, Policy, Account, Incident, Ticket)
    before = [list(model.objects.order_by("pk").values()) for model in kept]

    send(admin, route, method, FORM if route.startswith("daemon/") else {}, there)

    assert [list(model.objects.order_by("pk").values()) for model in kept] == before

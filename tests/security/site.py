"""A real web server spoken to over raw sockets, and people who are signed in to it.

Test clients hide headers; here every byte is ours. What must hold of every answer is judged on
every answer, whatever the test was about.
"""

import json
import re
import socket
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlencode

import websockets
from websockets.sync.client import ClientConnection, connect

from daemon_app import guard
from tests.live.web import Web

PATIENCE = 30.0  # seconds; only a test that fails waits so long
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
PEOPLE = """
import secrets
from django.contrib.auth import login
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from daemon_app.models import Attempt, Incident, Policy, Pool, Ticket
from daemon_app.models import access

def begin(account):
    request = HttpRequest()
    request.session = SessionStore()
    login(request, account, backend="django.contrib.auth.backends.ModelBackend")
    request.session["_csrftoken"] = secrets.token_hex(16)
    request.session.save()
    return {"session": request.session.session_key, "csrf": request.session["_csrftoken"]}

def person(role, password):
    name = role + secrets.token_hex(6)
    account = Account.objects.create_user(name, password, role=role)
    token = Token.issue(account, name=name, role=role, now=timezone.now(), life=timedelta(days=1))
    return {"pk": account.pk, "name": name, "role": role, "token": token[1]} | begin(account)

def account(pk):
    return Account.objects.get(pk=pk)

def change(pk, **fields):
    account = Account.objects.get(pk=pk)
    password = fields.pop("password", None)
    if password:
        account.set_password(password)
    for name, value in fields.items():
        setattr(account, name, value)
    account.save()

def stored(key, **changes):
    session = SessionStore(key)
    session.update(changes)
    session.save()

def command(*arguments):
    import contextlib, io
    from daemon_app import cli
    with contextlib.redirect_stdout(io.StringIO()):
        return int(cli.run([*arguments]))

def ticket(pk, now=None):
    return Ticket.issue(account(pk), now or timezone.now())

def tried_before(pk):
    attempt = Attempt.objects.create(
        run_id=pk, number=1, fence=1, state="failed", ended_at=timezone.now()
    )
    return attempt.pk

def pool(name):
    return Pool(name=name).store(now=timezone.now(), by="anna").pk

def finished(name):
    pk = running(name)
    finish(pk)
    return pk
"""

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Person:
    """Somebody with an account, a session and a token."""

    pk: int
    name: str
    role: str
    session: str
    csrf: str
    token: str


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def header(self, wanted: str) -> str | None:
        values = [value for name, value in self.headers if name.lower() == wanted.lower()]
        assert len(values) < 2, f"{wanted} twice: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def location(self) -> str:
        return self.header("location") or ""

    @property
    def leads_to_sign_in(self) -> bool:
        return self.status == 302 and self.location.startswith("/daemon/login/")


class Site:
    """The web process alone, with a folder of its own."""

    def __init__(self) -> None:
        self.web = Web()
        self.port = self.web.port
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"
        self.cookie = f"bach_{self.port}"
        self.run_there(PEOPLE)

    def close(self) -> None:
        self.web.close()

    # ── The data ─────────────────────────────────────────────────────────────────────────────────
    def tell(self, expression: str) -> Any:
        """Return what `expression` is in a process of ours beside the server."""
        return self.web.tell(expression)

    def run_there(self, code: str) -> None:
        """Run statements in that process."""
        self.tell(f"exec({code!r}, globals())")

    def person(self, role: str = "admin", password: str | None = None) -> Person:
        return Person(**self.tell(f"person({role!r}, {password!r})"))

    def again(self, person: Person) -> Person:
        """Return the same person in another browser."""
        return Person(**vars(person) | self.tell(f"begin(account({person.pk}))"))

    def dump(self) -> str:
        """Return everything in the database, as text."""
        address = f"file:{self.web.data_dir}/bach.sqlite3?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as database:
            return "\n".join(database.iterdump())

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────
    def send(self, data: bytes, method: str = "GET") -> Answer:
        """Send bytes and return the answer, which every rule about answers holds for."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(data)
            response = HTTPResponse(connection, method=method)
            response.begin()
            answer = Answer(response.status, response.getheaders(), response.read())
        judge(answer)
        return answer

    def ask(
        self,
        method: str,
        path: str,
        *,
        by: Person | None = None,
        headers: Headers = (),
        host: str | None = None,
        origin: str | None = "own",
        body: bytes = b"",
        kind: str = "application/x-www-form-urlencoded",
    ) -> Answer:
        """Send one request as our own pages do; `origin=None` leaves that header out."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host if host is None else host}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if by is not None:
            lines += [f"Cookie: {self.cookie}={by.session}"]
        if method in CHANGES:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
            lines += [f"X-CSRFToken: {by.csrf}"] if by is not None else []
            if origin is not None:
                lines += [f"Origin: {self.origin if origin == 'own' else origin}"]
        lines += ["Connection: close"]
        return self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body, method)

    def get(self, path: str, by: Person | None = None, *headers: tuple[str, str]) -> Answer:
        return self.ask("GET", path, by=by, headers=headers)

    def post(self, path: str, by: Person | None = None, **fields: str) -> Answer:
        return self.ask("POST", path, by=by, body=form(fields))

    def socket(
        self,
        *,
        session: str | None = None,
        token: str | None = None,
        origin: str | None = None,
    ) -> ClientConnection:
        """Open a websocket, as a page of `origin`. Raises what websockets raises."""
        headers = []
        if session is not None:
            headers.append(("Cookie", f"{self.cookie}={session}"))
        if token is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        return connect(
            f"ws://{self.host}/ws/daemon/",
            origin=None if origin is None else websockets.Origin(origin),
            additional_headers=headers,
            open_timeout=PATIENCE,
            proxy=None,
        )


def form(fields: Mapping[str, str]) -> bytes:
    """Return fields as a form sends them."""
    return urlencode(fields).encode()


def json_body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def judge(answer: Answer) -> None:
    """Fail for an answer that lacks what each one carries, or says what none may."""
    if answer == Answer(400, [], b""):
        return  # Twisted's only word to what is no HTTP
    for name, value in guard.FIXED:
        assert answer.header(name.decode()) == value.decode(), (answer, name)
    allowed = [name for name, _value in answer.headers if name.lower().startswith("access-control")]
    assert not allowed, answer
    assert not re.search(r"\d", answer.header("server") or ""), answer
    assert answer.header("x-powered-by") is None
    assert answer.status != 500, answer.body[:2000]
    assert answer.header("cache-control"), answer

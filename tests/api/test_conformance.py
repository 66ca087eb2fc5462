"""Requests nobody thought of, made from the description and sent to a real server by each role.

There is no daemon behind it: nothing that is started here is ever executed. What is created would
execute `true` all the same.
"""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
)

from daemon_app.api.schema import description
from daemon_app.models.access import RIGHTS, Role
from tests.security.routes import INTERFACE, PUBLIC
from tests.security.site import Person, Site

Request = Case[Any]
PATIENCE = 30.0  # seconds; only a test that fails waits so long
EACH = 3  # requests to an operation that are well formed, and as many that are not
ANOTHER_SEED = 20
THERE = 8  # of each kind, so many things to ask for
ALWAYS = st.just(True)
COMMANDS = ("command", "stop_command", "script_path")
# They answer with what is wrong.
CHECKS = {"POST /api/daemon/jobs/check", "POST /api/daemon/jobs/{id}/check"}
# What the bytes of an address are refused for before the interface sees them, in plain text.
NO_ADDRESS = re.compile(r"%00|%5C", re.IGNORECASE)
# What anybody leaves behind: when a token was last used.
TRACES = {"daemon_tokens": r"last_used_at"}
# Beside it, what operators may change: whether a job runs and not what it runs; of the rules, who
# is here and whether everything is held.
OPERATED = TRACES | {
    "daemon_jobs": r"is_active|paused_\w+|pause_note|muted_\w+|seen_failure|next_due_at|anchor"
    r"|schedule_error|version|updated_\w+",
    "daemon_policy": r"presence\w*|held_\w+|hold\w*",
}
DEFINED = ("daemon_jobs", "daemon_pools", "daemon_policy", "daemon_accounts", "daemon_tokens")

THINGS = """
def things(count):
    now = timezone.now()
    owner = account(person("viewer", None)["pk"])
    Policy.current().store(now=now, by="anna")
    for n in range(count):
        pool(f"pool{n}")
        Incident.note("stalled", now=now, seconds=40)
        finished(f"looked at {n}")
        Token.issue(owner, name=f"token{n}", role="viewer", now=now, life=timedelta(days=1))
"""


def operations() -> dict[str, Any]:
    """Return the operations of the description by method and address."""
    found = schemathesis.openapi.from_dict(description()).get_all_operations()
    return {each.ok().label: each.ok() for each in found}


def right_of(label: str) -> str:
    """Return the right that an operation needs, by the one table of all routes."""
    method, path = label.split()
    rights = {re.sub(r"<[^>]+>", "{}", route): rights for route, rights in INTERFACE.items()}
    return rights[re.sub(r"{[^}]+}", "{}", path.lstrip("/"))][method]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    try:
        site.run_there(THINGS)
        site.tell(f"things({THERE})")
        yield site
        told = site.web.log_file.read_text()
        assert " ERROR " not in told, told[-5000:]
        assert "Traceback" not in told, told[-5000:]
    finally:
        site.close()


Send = Callable[[Request], Response]


@pytest.fixture
def send(site: Site) -> Iterator[Callable[[Person | None], Send]]:
    """Return a maker of senders, one for each person."""
    with requests.Session() as session:
        session.trust_env = False

        def sender(person: Person | None) -> Send:
            headers = {"Authorization": f"Bearer {person.token}"} if person else {}

            def send(case: Request) -> Response:
                return case.call(site.origin, session, headers, timeout=PATIENCE)

            return send

        yield sender


def each_case(
    operation: Any,
    judge: Callable[[Request], None],
    *,
    most: int,
    mode: GenerationMode = GenerationMode.POSITIVE,
    known: st.SearchStrategy[bool] = ALWAYS,
) -> None:
    """Let `judge` see requests to an operation, the same ones each time.

    `known`: whether they are about something that is there.
    """

    @seed(ANOTHER_SEED)
    @settings(
        max_examples=most,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(case=operation.as_strategy(mode), number=st.integers(1, THERE), is_known=known)
    def look(case: Request, number: int, is_known: bool) -> None:
        if is_known:
            ask_for_what_is_there(case, number)
        make_harmless(case)
        judge(case)

    try:
        look()
    except Unsatisfiable:
        assert mode == GenerationMode.NEGATIVE, operation.label  # nothing there can be wrong


def ask_for_what_is_there(case: Request, number: int) -> None:
    if case.meta is None or case.meta.is_negative_at(ParameterLocation.PATH):
        return
    for name in case.path_parameters or {}:
        case.path_parameters[name] = f"pool{number - 1}" if name == "name" else number


def make_harmless(case: Request) -> None:
    """Let what it creates execute nothing else than `true`."""
    if isinstance(case.body, dict):
        for name in COMMANDS:
            if isinstance(case.body.get(name), str) and case.body[name]:
                case.body[name] = "true"


def state(site: Site, but: dict[str, str], tables: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the database holds, by table; without the columns `but` names."""
    address = f"file:{site.web.data_dir}/bach.sqlite3?mode=ro"
    found = {}
    with closing(sqlite3.connect(address, uri=True)) as database:
        database.row_factory = sqlite3.Row
        names = [
            row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        for name in tables or names:
            spared = re.compile(but.get(name, "$^"))
            found[name] = [
                {key: value for key, value in dict(row).items() if not spared.fullmatch(key)}
                for row in database.execute(f'SELECT * FROM "{name}"')
            ]
    return found


@pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.value)
def test_every_answer_is_as_described(
    site: Site, send: Callable[[Person | None], Send], mode: GenerationMode
) -> None:
    ask = send(site.person(Role.ADMIN))
    failures: list[str] = []

    def judge(case: Request) -> None:
        answer = ask(case)
        spared = [positive_data_acceptance, ignored_auth]
        places = (ParameterLocation.BODY, ParameterLocation.QUERY, ParameterLocation.PATH)
        is_wrong = case.meta and any(case.meta.is_negative_at(place) for place in places)
        # A header that nobody reads can't be wrong; to be told what is wrong is no refusal.
        # What is no longer as it was seen is said before what is wrong with a change of it.
        if not is_wrong or case.operation.label in CHECKS or answer.status_code == 412:
            spared.append(negative_data_rejection)
        if answer.status_code == 400 and NO_ADDRESS.search(answer.request.url or ""):
            spared.append(content_type_conformance)
        if "yaml" in answer.headers.get("content-type", [""])[0]:
            spared.append(response_schema_conformance)  # it is described as text, and read as data
        try:
            case.validate_response(answer, excluded_checks=spared)
        except FailureGroup as failure:
            failures.append(str(failure))

    for operation in operations().values():
        each_case(operation, judge, most=EACH, mode=mode, known=st.booleans())

    assert not failures, "\n".join(failures)


def test_nobody_and_viewers_change_nothing_whatever_they_send(
    site: Site, send: Callable[[Person | None], Send]
) -> None:
    viewer = site.person(Role.VIEWER)
    before = state(site, TRACES)

    for label, operation in operations().items():
        for who in (None, viewer):
            each_case(operation, refusal(send(who), label, who), most=2)

    assert state(site, TRACES) == before


def test_operators_change_no_definition_whatever_they_send(
    site: Site, send: Callable[[Person | None], Send]
) -> None:
    operator = site.person(Role.OPERATOR)
    before = state(site, OPERATED, DEFINED)

    for label, operation in operations().items():
        if not label.startswith("GET "):
            each_case(operation, refusal(send(operator), label, operator), most=3)

    assert state(site, OPERATED, DEFINED) == before


def refusal(ask: Send, label: str, who: Person | None) -> Callable[[Request], None]:
    """Return what sends a request, and fails unless it is refused to whoever may not."""
    right = right_of(label)

    def judge(case: Request) -> None:
        answer = ask(case)
        why = (label, who and who.role, answer.status_code, answer.text[:300])
        if NO_ADDRESS.search(answer.request.url or ""):
            assert answer.status_code == 400, why
        elif right == PUBLIC:
            assert answer.status_code in {200, 304}, why
        elif who is None:
            # To change something a page would have to say where it comes from.
            assert answer.status_code in {401, 403}, why
        elif who.role not in RIGHTS[right]:
            assert answer.status_code == 403, why
        else:
            assert answer.status_code not in {401, 403}, why
            assert answer.status_code < 500, why

    return judge

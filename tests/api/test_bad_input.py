"""Whatever is sent: an answer that helps, in one shape, and never a server error."""

import json
import logging
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import exceptions

from daemon_app.api import errors
from daemon_app.models import Job, Node, Policy
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

GOOD = {"name": "a", "job_type": "interval", "schedule": "1h", "command": "true"}
pytestmark = pytest.mark.django_db


def refusal(answer: Any, status: int = 400) -> Any:
    """Return the error of an answer, checked for its shape."""
    assert answer.status_code == status, answer.content[:500]
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["error"]
    assert {"code", "message", "fields"} <= set(error)
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 81),
        ("name", "<b>"),
        ("name", "a\x00b"),
        ("name", "-rf"),
        ("name", None),
        ("name", 5),
        ("name", ["a"]),
        ("description", "x" * 501),
        ("description", "a\x00b"),
        ("description", {}),
        ("job_type", "intervall"),
        ("job_type", "chain"),
        ("job_type", ""),
        ("job_type", None),
        ("job_type", 1),
        ("job_type", []),
        ("schedule", ""),
        ("schedule", "60"),
        ("schedule", 60),
        ("schedule", "1 hour ago"),
        ("schedule", "0s"),
        ("schedule", "-5m"),
        ("schedule", "9" * 300 + "d"),
        ("schedule", "x" * 100_000),
        ("schedule", "1h\x00"),
        ("schedule", None),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "x" * 65),
        ("timezone", "a\x00"),
        ("timezone", 1),
        ("is_active", "yes"),
        ("is_active", 1),
        ("is_active", None),
        ("command", ""),
        ("command", "a\x00b"),
        ("command", "x" * 16_385),
        ("command", ["tar"]),
        ("use_shell", "false"),
        ("script_path", "also.py"),
        ("script_path", "x\x00"),
        ("script_path", "x" * 1025),
        ("arguments", "'open"),
        ("arguments", "x" * 4097),
        ("arguments", []),
        ("working_directory", "relative"),
        ("working_directory", "/a\x00"),
        ("working_directory", "/" + "x" * 1024),
        ("environment", []),
        ("environment", None),
        ("environment", "A=b"),
        ("environment", {"A": 1}),
        ("environment", {"A": None}),
        ("environment", {"A": {"B": []}}),
        ("environment", {"A": "x\x00"}),
        ("environment", {"1A": "x"}),
        ("environment", {"": "x"}),
        ("environment", {"BACH_RUN_ID": "1"}),
        ("environment", {"SECRET_KEY": "1"}),
        ("environment", {"A": "x" * 40_000}),
        ("environment", {f"V{n}": "" for n in range(101)}),
        ("parameters", [1]),
        ("parameters", {"a b": "x"}),
        ("parameters", {"a": 1.5}),
        ("nice", -1),
        ("nice", 20),
        ("nice", 1.0),
        ("nice", "5"),
        ("nice", True),
        ("nice", None),
        ("nice", 10**400),
        ("idle_io", 0),
        ("timeout_seconds", -1),
        ("timeout_seconds", 10**30),
        ("timeout_seconds", "300"),
        ("timeout_seconds", None),
        ("soft_timeout_seconds", 300),
        ("soft_timeout_seconds", -1),
        ("soft_timeout_seconds", 2**63),
        ("grace_seconds", 3601),
        ("grace_seconds", [10]),
        ("leave_descendants", "no"),
        ("overlap", "queue!"),
        ("overlap", 3),
        ("max_instances", 0),
        ("max_instances", 1001),
        ("max_instances", {}),
        ("misfire", "twice"),
        ("misfire_age_seconds", -1),
        ("deadline", "tomorrow"),
        ("deadline", "2099-12-24"),
        ("deadline", "2099-12-24T18:00:00"),
        ("deadline", "2099-02-30T18:00:00Z"),
        ("deadline", "9999-12-31T23:59:59Z"),
        ("deadline", "9999-12-31T23:59:59-14:00"),
        ("deadline", "0001-01-01T00:00:00+14:00"),
        ("deadline", 4_102_444_800),
        ("deadline", ""),
        ("max_wait_seconds", 0),
        ("max_retries", 101),
        ("max_retries", -1),
        ("max_retries", "3"),
        ("retry_backoff_seconds", 0),
        ("retry_exit_codes", "1"),
        ("retry_exit_codes", [0]),
        ("retry_exit_codes", [256]),
        ("retry_exit_codes", ["1"]),
        ("retry_exit_codes", [True]),
        ("retry_exit_codes", [[]]),
        ("retry_exit_codes", {"1": 1}),
        ("retry_exit_codes", None),
        ("retry_on_timeout", "yes"),
        ("on_loss", "retry"),
        ("pools", "gpu"),
        ("pools", {"gpu": 1}),
        ("pools", {"gpu": None}),
        ("pools", {"": 1}),
        ("priority", 101),
        ("priority", 1.5),
        ("stop_command", ["kill"]),
        ("stop_command", "a\x00b"),
        ("cpu_limit_seconds", 0),
        ("memory_limit_mb", -1),
        ("memory_limit_mb", 10**30),
        ("limit_sustain_seconds", 3601),
        ("limit_action", "kill"),
        ("keep_days", 0),
        ("keep_days", 36_501),
        ("keep_runs", 0),
        ("keep_output_mb", -1),
        ("id", 7),
        ("version", 7),
        ("next_due_at", "2027-01-01T00:00:00Z"),
        ("activ", True),
        ("", ""),
        ("__class__", "x"),
        ("pk", 1),
    ],
)
def test_a_bad_value_is_refused_beside_its_field(admin: Caller, field: str, value: Any) -> None:
    extra = {"overlap": "parallel"} if field == "max_instances" else {}

    error = refusal(admin("POST", "jobs", GOOD | extra | {field: value}))

    assert field in error["fields"], error
    assert all(error["fields"][field])
    assert error["code"] == "invalid"
    assert not Job.objects.exists()


def test_everything_wrong_is_said_at_once(admin: Caller) -> None:
    error = refusal(
        admin("POST", "jobs", {"name": 5, "schedule": "never", "nice": 99, "comand": "x"})
    )

    assert set(error["fields"]) == {"name", "schedule", "nice", "comand", "command"}


@pytest.mark.parametrize(
    ("sent", "near"),
    [("comand", "command"), ("activ", "is_active"), ("shedule", "schedule"), ("env", None)],
)
def test_an_unknown_field_is_refused_with_the_nearest_one(
    admin: Caller, sent: str, near: str | None
) -> None:
    messages = refusal(admin("POST", "jobs", GOOD | {sent: 1}))["fields"][sent]

    assert near is None or f"„{near}“" in messages[0]


def test_a_name_in_use_is_refused(admin: Caller) -> None:
    job("taken")

    assert "name" in refusal(admin("POST", "jobs", GOOD | {"name": "taken"}))["fields"]


def test_many_unknown_fields_do_not_make_a_long_answer(admin: Caller) -> None:
    error = refusal(admin("POST", "jobs", {f"{n:06}" * 10: 1 for n in range(3000)}))

    assert len(json.dumps(error)) < 10_000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed"),
        (b"{'a': 1}", "malformed"),
        (b'{"a": 1,}', "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b'{"nice": NaN}', "malformed"),
        (b'{"nice": -Infinity}', "malformed"),
        (b'{"nice": ' + b"9" * 5000 + b"}", "malformed"),
        (b'{"name": "\\ud800"}', "malformed"),
        (b'{"\\udfff": 1}', "malformed"),
        (b'{"name": "a", "name": "b"}', "duplicate_name"),
        (b'{"environment": {"A": "1", "B": "2", "A": "1"}}', "duplicate_name"),
        (b'{"a\\u0062": 1, "ab": 2}', "duplicate_name"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "duplicate_name"),
        (b"[" * 100_000, "too_deep"),
        (b"[" * 33 + b"]" * 33, "too_deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "too_deep"),
        (b"[]", "no_object"),
        (b"[{}]", "no_object"),
        (b"1e999", "no_object"),
        (b"null", "no_object"),
        (b'"text"', "no_object"),
        (b"true", "no_object"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(admin: Caller, body: Any, code: str) -> None:
    assert refusal(admin("POST", "jobs", body))["code"] == code


def test_32_levels_are_not_too_deep(admin: Caller) -> None:
    deep: dict[str, Any] = {"a": 1}
    for _level in range(30):
        deep = {"a": deep}

    assert refusal(admin("POST", "jobs", {"environment": deep}))["code"] == "invalid"


def test_a_query_of_very_many_parameters_is_refused(viewer: Caller) -> None:
    assert refusal(viewer("GET", "runs?" + "&".join(["limit=1"] * 500)))["code"] == "bad_request"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json; charset=utf-8"}, 201),
        ({"Content-Type": 'Application/JSON; Charset="UTF-8"'}, 201),
        ({"Content-Type": "application/json; charset=latin-1"}, 415),
        ({"Content-Type": "application/json; charset=utf-16"}, 415),
        ({"Content-Type": "application/jsonp"}, 415),
        ({"Content-Encoding": "identity"}, 201),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Encoding": "br"}, 415),
    ],
)
def test_only_plain_utf_8_is_read(admin: Caller, headers: dict[str, str], status: int) -> None:
    answer = admin("POST", "jobs", GOOD, headers=headers)

    assert answer.status_code == 201 or refusal(answer, 415)["code"] == "unsupported_media_type"
    assert answer.status_code == status


def test_a_body_beyond_256_kib_is_refused(admin: Caller) -> None:
    padding = b" " * (256 * 1024)

    assert refusal(admin("POST", "jobs", b"{}" + padding), 413)["code"] == "too_large"
    assert refusal(admin("POST", "jobs", b"{}" + padding[2:]))["code"] == "invalid"


def test_a_body_of_unknown_length_is_refused(admin: Caller) -> None:
    answer = admin("POST", f"jobs/{job().pk}/run", headers={"Transfer-Encoding": "chunked"})

    assert refusal(answer, 411)["code"] == "length_required"


@pytest.mark.parametrize(
    "query",
    [
        "runs?limit=0",
        "runs?limit=201",
        "runs?limit=x",
        "runs?limit=-1",
        "runs?limit=1.5",
        "runs?limit=",
        "runs?limit=%00",
        "runs?limit=²",
        "runs?limit=" + "9" * 5000,
        "runs?job_id=x",
        "runs?job_id=9223372036854775808",
        "runs?job_id=%ff",
        "runs?state=done",
        "runs?state=",
        "runs?trigger=cron",
        "runs?before=0",
        "runs?job=3",
        "runs?limit=1&limit=2",
        "runs?state=failed&state=lost",
        "runs?format=xml",
        "jobs?is_active=1",
        "jobs?limit=1001",
        "jobs?after=x",
        "jobs?%00=x",
        "status?x=1",
        "health?check=vram",
        "health/history?check=%00",
        "health/history?points=" + "9" * 5000,
        "health/history?since=%ff",
        "idle/history?limit=0",
        "idle/history?until=2026-01-01T00:00:00Z",
        "displacements?job_id=x",
        "displacements?limit=201",
        "skills?name=x",
        "runs/{run}/why?at=2026-01-01T00:00:00Z",
        "openapi.json?lang=fr",
        "runs/{run}/log?offset=-1",
        "runs/{run}/log?limit=0",
        "runs/{run}/log?lines=0",
        "runs/{run}/log?lines=5&offset=1",
        "runs/{run}?x",
    ],
)
def test_a_query_that_can_not_be_right_is_refused(viewer: Caller, query: str) -> None:
    error = refusal(viewer("GET", query.format(run=run().pk)))

    assert error["fields"]


@pytest.mark.parametrize("number", ["0", "9223372036854775807", "9223372036854775808", "9" * 5000])
@pytest.mark.parametrize(
    "path",
    [
        *("jobs/{}", "jobs/{}/toggle", "jobs/{}/run", "jobs/{}/why"),
        *("runs/{}", "runs/{}/log", "runs/{}/cancel", "runs/{}/force", "runs/{}/why"),
    ],
)
def test_a_number_that_nothing_has_is_not_found(admin: Caller, path: str, number: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        answer = admin(method, path.format(number), {} if method != "GET" else None)

        assert refusal(answer, answer.status_code)["code"] in {"not_found", "method_not_allowed"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "jobs"),
        ("DELETE", "runs"),
        ("POST", "status"),
        ("GET", "jobs/1/run"),
        ("TRACE", "jobs"),
    ],
)
def test_a_method_that_is_not_there_is_refused_with_those_that_are(
    admin: Caller, method: str, path: str
) -> None:
    answer = admin(method, path)

    assert refusal(answer, 405)["code"] == "method_not_allowed"
    assert "Allow" in answer.headers


def test_only_json_is_to_be_had(viewer: Caller) -> None:
    assert refusal(viewer("GET", "jobs", headers={"Accept": "text/html"}), 406)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"is_active": "no"}, "toggle"),
        ({"is_active": None}, "toggle"),
        ({"active": True}, "toggle"),
        ([], "toggle"),
        ({"x": 1}, "run"),
        ([1], "run"),
    ],
)
def test_what_an_action_does_not_know_is_refused(admin: Caller, body: Any, path: str) -> None:
    there = job()

    refusal(admin("PUT" if path == "toggle" else "POST", f"jobs/{there.pk}/{path}", body))

    there.refresh_from_db()
    assert there.is_active


# ── Anything at all ──────────────────────────────────────────────────────────────────────────────
FIELDS = sorted(
    {f.name for f in Job._meta.fields} | {"schedule_text", "zzz"},
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.sampled_from(
        ["1h", "* * * * *", "0 0 31 2 *", "2026-12-24 18:00", "cron", "once", "UTC", "\0", "\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
quietly = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@quietly
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), VALUES, max_size=6))
def test_no_body_makes_a_server_error(admin: Caller, body: Any) -> None:
    there = Job.objects.filter(name="there").first() or job("there")

    for method, path in (("POST", "jobs"), ("PATCH", f"jobs/{there.pk}")):
        answer = admin(method, path, json.dumps(GOOD | body))

        assert answer.status_code in {200, 201} or refusal(answer)


@quietly
@given(
    kind=st.sampled_from(["interval", "cron", "once", "manual"]),
    schedule=st.text(alphabet="0123456789 */,-LW#?dhmsTZ:.MONJAN@", max_size=40) | st.text(),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]) | st.text(max_size=10),
)
def test_no_schedule_makes_a_server_error(
    admin: Caller, kind: str, schedule: str, zone: str
) -> None:
    Job.objects.all().delete()

    answer = admin(
        "POST",
        "jobs",
        json.dumps(GOOD | {"job_type": kind, "schedule": schedule, "timezone": zone}),
    )

    assert answer.status_code == 201 or refusal(answer)


@quietly
@given(st.binary(max_size=60))
def test_no_bytes_make_a_server_error(admin: Caller, body: Any) -> None:
    answer = admin("POST", "jobs", body)

    # Without bytes there is no body, and so no field.
    assert refusal(answer)


RULES = sorted({f.name for f in Policy._meta.fields} | {"parallel", "zzz"})


@quietly
@given(st.dictionaries(st.sampled_from(RULES) | st.text(max_size=8), VALUES, max_size=6))
def test_no_rules_make_a_server_error(admin: Caller, body: Any) -> None:
    for method in ("PATCH", "PUT"):
        answer = admin(method, "policy", json.dumps(body))

        assert answer.status_code == 200 or refusal(answer)


@quietly
@given(
    st.dictionaries(
        st.sampled_from(["check", "range", "since", "until", "points"]),
        st.sampled_from(
            [
                *("vram", "1h", "7d", "0", "2", "1000", "now", "2026-11-22T03:00:00+01:00"),
                *("0001-01-01T00:00:00Z", "9998-12-31T23:59:59-14:00", "2026-11-22T03:00:00Z"),
            ]
        )
        | st.text(max_size=25),
        max_size=4,
    )
)
def test_no_question_about_the_past_makes_a_server_error(viewer: Caller, query: Any) -> None:
    Node.objects.get_or_create(host="hal", pid=1, started_at=NOON, seen_at=NOON)

    answer = viewer("GET", f"health/history?{urlencode(query)}")

    assert answer.status_code == 200 or refusal(answer)


# ── The one shape ────────────────────────────────────────────────────────────────────────────────
def test_a_fault_of_ours_is_logged_and_said_in_the_same_shape(
    viewer: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("daemon_app.api.runs.Runs.get", broken)

    with caplog.at_level(logging.ERROR):
        answer = viewer("GET", "runs")

    error = refusal(answer, 500)
    assert error["code"] == "failed"
    assert "ZeroDivisionError" not in answer.content.decode()
    assert "ZeroDivisionError" in caplog.text


def test_too_many_requests_are_told_when_to_come_back() -> None:
    answer = errors.handle(exceptions.Throttled(wait=7), {})

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert answer.data["error"]["code"] == "too_many"

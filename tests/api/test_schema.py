"""The description of the interface."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from jsonschema import Draft202012Validator

from daemon_app.api.examples import ANSWERS, REFUSALS, SHAPES, operations
from daemon_app.api.schema import SEED_JOB, description
from tests.api.caller import Caller


def test_the_description_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    call_command(
        "spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "api.yaml")
    )


def test_it_names_every_address_and_its_rules() -> None:
    told = description()

    assert told["openapi"].startswith("3.1")
    assert {path.removeprefix("/api/daemon/") for path in told["paths"]} == {
        "jobs",
        "jobs/{id}",
        "jobs/{id}/toggle",
        "jobs/{id}/pause",
        "jobs/{id}/run",
        "jobs/overview",
        "jobs/{id}/figures",
        "jobs/check",
        "jobs/{id}/copy",
        "jobs/{id}/check",
        "jobs/{id}/mute",
        "jobs/{id}/upcoming",
        "jobs/{id}/changes",
        "changes",
        "schedules/preview",
        "calendar",
        "starters",
        "starters/begin",
        "export",
        "find",
        "audit",
        "audit/export",
        "audit/verify",
        "tokens",
        "tokens/{id}",
        "tokens/{id}/revoke",
        "runs/{id}/log/search",
        "runs/{id}/transcript",
        "runs/{id}/again",
        "jobs/{id}/why",
        "runs",
        "runs/{id}",
        "runs/{id}/log",
        "runs/{id}/cancel",
        "runs/{id}/force",
        "runs/{id}/move",
        "runs/{id}/why",
        "queue",
        "hold",
        "resume",
        "start",
        "stop",
        "policy",
        "pools",
        "pools/{name}",
        "incidents",
        "incidents/{id}/acknowledge",
        "health",
        "health/history",
        "idle/history",
        "displacements",
        "skills",
        "activity",
        "presence",
        "status",
    }
    assert set(told["components"]["securitySchemes"]) == {"token", "session"}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403"} <= set(operation["responses"]), (method, path)
            if method != "get":
                assert "415" in operation["responses"], (method, path)


def examples_of(content: dict[str, Any]) -> list[Any]:
    """Return the examples of a body."""
    if "example" in content:
        return [content["example"]]
    return [each["value"] for each in content.get("examples", {}).values()]


def bodies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (operation, "request" or status, body) for each body that is sent either way."""
    for operation in operations(description()):
        name = operation["operationId"]
        sent = operation.get("requestBody", {}).get("content", {})
        yield from ((name, "request", content) for content in sent.values())
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                yield name, status, content


def is_valid(value: Any, schema: dict[str, Any]) -> list[str]:
    """Return what is wrong with a value of the description."""
    whole = {**schema, "components": description()["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    found = Draft202012Validator(whole, format_checker=checker).iter_errors(value)
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in found]


def test_each_request_answer_and_error_has_an_example_of_its_shape() -> None:
    for name, what, content in bodies():
        examples = examples_of(content)

        assert examples, (name, what)
        for example in examples:
            assert is_valid(example, content["schema"]) == [], (name, what)


def test_what_can_be_asked_has_an_example_too() -> None:
    for operation in operations(description()):
        for parameter in operation.get("parameters", []):
            where = (operation["operationId"], parameter["name"])

            assert "example" in parameter, where
            assert is_valid(parameter["example"], parameter["schema"]) == [], where


def test_no_example_is_of_a_shape_that_is_gone() -> None:
    shapes = description()["components"]["schemas"]
    known = {name.removeprefix("Patched").removesuffix("Request") for name in shapes}
    names = {operation["operationId"] for operation in operations(description())}

    assert {*SHAPES} <= known
    for name, fields in SHAPES.items():
        told = {*shapes.get(name, shapes.get(f"{name}Request"))["properties"]}
        assert {*fields} <= told, name
    assert {name for name, _status in {*ANSWERS, *REFUSALS}} <= names


def test_examples_of_errors_speak_german_as_the_server_does() -> None:
    gone = {
        name: examples_of(content)[0]["error"] for name, what, content in bodies() if what == "404"
    }

    assert gone["read_job"]["code"] == "not_found"
    assert gone["read_job"]["message"].startswith("Unter dieser Adresse")
    assert settings.LANGUAGE_CODE == "de"


@pytest.mark.django_db
def test_jobs_are_created_by_their_examples_as_they_stand(admin: Caller) -> None:
    asked = description()["paths"]["/api/daemon/jobs"]["post"]["requestBody"]["content"]

    for body in examples_of(asked["application/json"]):
        assert admin("POST", "jobs", body).status_code == 201


def test_its_examples_are_true() -> None:
    examples = description()["paths"]["/api/daemon/jobs"]["post"]["requestBody"]["content"][
        "application/json"
    ]["examples"]

    assert SEED_JOB in [example["value"] for example in examples.values()]


@pytest.mark.django_db
def test_it_is_served_as_json(viewer: Caller) -> None:
    answer = viewer("GET", "openapi.json")

    assert answer.status_code == 200
    assert answer.json() == description()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["", "job", "jobs/", "jobs/1/", "jobs/x", "jobs/-1", "jobs//run", "runs/1/logs", "JOBS"]
)
def test_every_other_address_is_answered_in_json(viewer: Caller, path: str) -> None:
    answer = viewer("GET", path)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.django_db
def test_an_unknown_address_tells_nothing_to_strangers() -> None:
    answer = Client().get("/api/daemon/anything", headers={"Host": "localhost"})

    assert answer.status_code == 401

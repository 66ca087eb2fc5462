"""The description of the interface."""

from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

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
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403"} <= set(operation["responses"]), (method, path)
            if method != "get":
                assert "415" in operation["responses"], (method, path)


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

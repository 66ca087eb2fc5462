"""The rules for all jobs and the pools over REST."""

from typing import Any

import pytest

from daemon_app.models import Policy, Pool, Run
from tests.api.caller import Caller
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db


def pool(name: str = "gpu", size: int = 1) -> Pool:
    return Pool(name=name, size=size).store(now=NOON, by="anna")


# ── Policy ───────────────────────────────────────────────────────────────────────────────────────
def test_the_rules_have_defaults(viewer: Caller, settings: Any) -> None:
    settings.MAX_PARALLEL = 4

    assert viewer("GET", "policy").json() == {
        "max_parallel": None,
        "parallel": 4,
        "keep_days": 90,
        "keep_runs": 10_000,
        "keep_output_mb": 2048,
        "gpu_service_url": "",
        "ollama_url": "",
        "slow_ms": 1000,
        "vram_high_percent": 80,
        "vram_target_percent": 60,
        "disk_low_gb": 10,
        "idle_after_seconds": 120,
        "foreign_load_percent": 90,
        "watch_logins": True,
        "watch_gpu": True,
        "quiet_hours": "",
        "config_folders": [],
        "updated_at": None,
        "updated_by": "",
    }


def test_a_change_of_the_rules_touches_only_what_is_given(admin: Caller) -> None:
    admin("PATCH", "policy", {"keep_days": 30})

    told = admin("PATCH", "policy", {"max_parallel": 8}).json()

    assert (told["max_parallel"], told["parallel"], told["keep_days"]) == (8, 8, 30)
    assert told["updated_by"] == "admin"
    assert told["updated_at"].endswith("Z")


def test_replaced_rules_have_defaults_for_what_is_left_out(admin: Caller) -> None:
    admin("PATCH", "policy", {"keep_days": 30, "max_parallel": 8})
    Policy.set_hold("drain", now=NOON, by="anna")

    told = admin("PUT", "policy", {"keep_runs": 50}).json()

    assert (told["max_parallel"], told["keep_days"], told["keep_runs"]) == (None, 90, 50)
    assert Policy.current().hold == "drain"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_parallel", 0),
        ("max_parallel", 1001),
        ("max_parallel", "4"),
        ("max_parallel", True),
        ("keep_days", 0),
        ("keep_days", None),
        ("keep_days", 10**30),
        ("keep_runs", 0),
        ("keep_runs", -1),
        ("keep_output_mb", 0),
        ("keep_output_mb", 1.5),
        ("parallel", 3),
        ("hold", "drain"),
        ("updated_by", "me"),
        ("keep_day", 3),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_rules_that_can_not_be_are_refused(
    admin: Caller, method: str, field: str, value: object
) -> None:
    answer = admin(method, "policy", {field: value, "keep_days": 20} | {field: value})

    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]
    assert Policy.current().keep_days == 90


# ── Pools ────────────────────────────────────────────────────────────────────────────────────────
def test_a_pool_is_created_listed_changed_and_deleted(admin: Caller) -> None:
    created = admin("POST", "pools", {"name": "gpu", "size": 2, "description": "Both cards"})

    assert created.status_code == 201
    assert created.headers["Location"] == "/api/daemon/pools/gpu"
    assert created.json()["impossible_jobs"] == []
    listed = admin("GET", "pools").json()["pools"]
    assert [(p["name"], p["size"], p["taken"]) for p in listed] == [("gpu", 2, 0)]
    assert admin("PATCH", "pools/gpu", {"size": 3}).json()["size"] == 3
    assert admin("GET", "pools/gpu").json()["description"] == "Both cards"
    assert admin("PUT", "pools/gpu", {}).json()["size"] == 1
    assert admin("GET", "pools/gpu").json()["description"] == ""
    assert admin("DELETE", "pools/gpu").json() == {"name": "gpu", "impossible_jobs": []}
    assert admin("GET", "pools/gpu").status_code == 404
    assert admin("DELETE", "pools/gpu").status_code == 404


def test_a_pool_can_be_put_where_there_was_none(admin: Caller) -> None:
    answer = admin("PUT", "pools/disk", {"size": 4})

    assert answer.status_code == 201
    assert Pool.sizes() == {"disk": 4}


def test_what_runs_take_of_a_pool_is_told(viewer: Caller) -> None:
    pool("gpu", 4)
    run(state=Run.State.RUNNING, started_at=NOON, pools={"gpu": 3})
    run(pools={"gpu": 1})

    assert viewer("GET", "pools/gpu").json()["taken"] == 3
    assert viewer("GET", "pools").json()["pools"][0]["taken"] == 3


def test_a_pool_made_smaller_names_the_jobs_that_can_not_start(admin: Caller) -> None:
    pool("gpu", 4)
    big = job("big", pools={"gpu": 4})
    job("small", pools={"gpu": 1})

    shrunk = admin("PATCH", "pools/gpu", {"size": 2})

    assert shrunk.status_code == 200
    assert shrunk.json()["impossible_jobs"] == [{"id": big.pk, "name": "big", "need": 4}]
    gone = admin("DELETE", "pools/gpu")
    assert [each["name"] for each in gone.json()["impossible_jobs"]] == ["big", "small"]


def test_a_name_that_is_given_away_is_refused_in_the_words_of_the_form(admin: Caller) -> None:
    pool("gpu")
    job = {"name": "nightly", "job_type": "manual", "command": "true"}
    assert admin("POST", "jobs", job).status_code == 201

    for path, body, said in (
        ("pools", {"name": "GPU"}, "Einen Pool mit diesem Namen gibt es schon."),
        ("jobs", job, "Einen Job mit diesem Namen gibt es schon. Wählen Sie einen anderen."),
    ):
        answer = admin("POST", path, body, headers={"Accept-Language": "de"})

        assert answer.json()["error"]["fields"] == {"name": [said]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "gpu"}, "name"),
        ({"name": "Ä"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"name": 5}, "name"),
        ({}, "name"),
        ({"name": "a", "size": 0}, "size"),
        ({"name": "a", "size": "2"}, "size"),
        ({"name": "a", "size": 10_001}, "size"),
        ({"name": "a", "size": None}, "size"),
        ({"name": "a", "description": "x" * 201}, "description"),
        ({"name": "a", "taken": 1}, "taken"),
        ({"name": "a", "seize": 1}, "seize"),
    ],
)
def test_a_pool_that_can_not_be_is_refused(admin: Caller, body: object, field: str) -> None:
    pool("gpu")

    answer = admin("POST", "pools", body)

    assert answer.status_code == 400
    assert field in answer.json()["error"]["fields"]
    assert Pool.sizes() == {"gpu": 1}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gpu", {"name": "other"}),
        ("gpu", {"size": -1}),
        ("4gpu", {"size": 1}),
        ("GPU", {"size": 1}),
    ],
)
def test_a_pool_put_wrongly_is_refused(admin: Caller, name: str, body: object) -> None:
    pool("gpu", 2)

    answer = admin("PUT", f"pools/{name}", body)

    assert answer.status_code in {200, 400}
    assert set(Pool.sizes()) == {"gpu"}


def test_a_job_that_needs_more_than_there_is_is_refused_beside_the_field(admin: Caller) -> None:
    pool("gpu", 1)

    for pools in ({"gpu": 2}, {"npu": 1}, {"gpu": 0}, {"gpu": "1"}, ["gpu"], None):
        answer = admin("POST", "jobs", {"name": "a", "command": "true", "pools": pools})

        assert answer.status_code == 400, pools
        assert "pools" in answer.json()["error"]["fields"]


def test_a_pool_can_not_be_called_by_a_blank(admin: Caller) -> None:
    pool("gpu")

    for method, path in (("POST", "pools"), ("PATCH", "pools/gpu")):
        answer = admin(method, path, {"name": " "})
        assert answer.status_code == 400
        assert [*answer.json()["error"]["fields"]] == ["name"]

    assert [each.name for each in Pool.objects.all()] == ["gpu"]


@pytest.mark.parametrize("name", ["GPU", "1gpu", "-gpu", "gpu" * 30])
def test_no_pool_is_put_at_an_address_it_could_not_keep(admin: Caller, name: str) -> None:
    answer = admin("PUT", f"pools/{name}", {"size": 1})

    assert answer.status_code == 400
    assert "name" in answer.json()["error"]["fields"]
    assert admin("GET", "pools").json() == {"pools": []}

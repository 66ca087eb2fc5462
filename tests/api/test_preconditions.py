"""Nothing is sent again that is known, and nothing is changed that is no longer as it was seen."""

import gzip
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app.api.schema import description
from daemon_app.models import Job, Policy, Pool
from tests.api.caller import Caller, Maker
from tests.jobs import NOON, job, run

pytestmark = pytest.mark.django_db
SOON = (timezone.now() + timedelta(days=9)).isoformat()


def pool(name: str = "gpu", size: int = 1) -> Pool:
    return Pool(name=name, size=size).store(now=timezone.now(), by="anna")


def tag(answer: Any) -> str:
    """Return an answer's ETag, which is a strong one."""
    found: str = answer.headers["ETag"]
    assert found.startswith('"')
    return found


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "path",
    [
        *("jobs/{job}", "jobs", "runs/{run}", "runs", "policy", "pools", "pools/gpu", "incidents"),
        *("openapi.json", "skills", "queue"),
    ],
)
def test_what_is_known_is_not_sent_again(viewer: Caller, path: str) -> None:
    pool()
    ended = run(state="succeeded", started_at=NOON, ended_at=NOON)
    path = path.format(job=ended.job_id, run=ended.pk)
    known = tag(viewer("GET", path))

    for header in (known, f"W/{known}", "*", f'"other", {known}'):
        answer = viewer("GET", path, headers={"If-None-Match": header})

        assert (answer.status_code, answer.content) == (304, b""), header
        assert answer.headers["ETag"] == known
        assert "Content-Type" not in answer.headers
    assert viewer("HEAD", path, headers={"If-None-Match": known}).status_code == 304
    assert viewer("GET", path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_what_changes_by_itself_is_sent_again_but_may_be_changed(admin: Caller) -> None:
    there = job(job_type="interval", schedule="1h")
    known = tag(admin("GET", f"jobs/{there.pk}"))
    Job.objects.filter(pk=there.pk).update(next_due_at=NOON)

    looked = admin("GET", f"jobs/{there.pk}", headers={"If-None-Match": known})
    changed = admin("PATCH", f"jobs/{there.pk}", {"nice": 1}, headers={"If-Match": known})

    assert looked.status_code == 200
    assert tag(looked) != known
    assert changed.status_code == 200


def test_each_role_has_tags_of_its_own_for_what_it_may_see(admin: Caller, viewer: Caller) -> None:
    there = job(environment={"KEY": "secret"})
    seen, shown = (tag(caller("GET", f"jobs/{there.pk}")) for caller in (viewer, admin))

    assert seen != shown
    answer = viewer("GET", f"jobs/{there.pk}", headers={"If-None-Match": shown})
    assert (answer.status_code, tag(answer)) == (200, seen)


def test_a_compressed_answer_has_a_strong_tag_of_its_own(admin: Caller) -> None:
    there = job()
    plain = admin("GET", f"jobs/{there.pk}")

    small = admin("GET", f"jobs/{there.pk}", headers={"Accept-Encoding": "gzip"})
    again = admin("GET", f"jobs/{there.pk}", headers={"Accept-Encoding": "gzip"})

    assert small.headers["Content-Encoding"] == "gzip"
    assert small.content == again.content
    assert gzip.decompress(small.content) == plain.content
    assert tag(small) == tag(again) != tag(plain)
    for known in (tag(small), tag(plain)):
        looked = admin("GET", f"jobs/{there.pk}", headers={"If-None-Match": known})
        assert looked.status_code == 304
    changed = admin("PATCH", f"jobs/{there.pk}", {"nice": 1}, headers={"If-Match": tag(small)})
    assert changed.status_code == 200


# ── Changing ─────────────────────────────────────────────────────────────────────────────────────
# What changes one thing, and how to look at it.
CHANGES = [
    ("PATCH", "jobs/{job}", {"nice": 3}, "jobs/{job}"),
    ("DELETE", "jobs/{job}", None, "jobs/{job}"),
    ("PUT", "jobs/{job}/toggle", {"is_active": False}, "jobs/{job}"),
    ("POST", "jobs/{job}/pause", {"until": SOON}, "jobs/{job}"),
    ("PATCH", "policy", {"keep_days": 30}, "policy"),
    ("PUT", "policy", {"keep_days": 30}, "policy"),
    ("PATCH", "pools/gpu", {"size": 2}, "pools/gpu"),
    ("PUT", "pools/gpu", {"size": 2}, "pools/gpu"),
    ("DELETE", "pools/gpu", None, "pools/gpu"),
]


@pytest.mark.parametrize(("method", "path", "body", "at"), CHANGES)
def test_what_was_changed_meanwhile_stays_as_it_is(
    admin: Caller, method: str, path: str, body: Any, at: str
) -> None:
    there = job(job_type="interval", schedule="1h").pk
    pool()
    path, at = path.format(job=there), at.format(job=there)
    seen = tag(admin("GET", at))
    other = {"jobs": {"description": "x"}, "policy": {"slow_ms": 5}, "pools": {"size": 3}}
    assert admin("PATCH", at, other[at.partition("/")[0]]).status_code == 200
    before = admin("GET", at).json()

    for header in (seen, f"W/{seen}", '"0", "x"'):
        answer = admin(method, path, body, headers={"If-Match": header})

        assert answer.status_code == 412
        error = answer.json()["error"]
        assert error["code"] == "changed_meanwhile"
        assert error["version"] == tag(admin("GET", at)).strip('"').partition("-")[0]
    assert admin("GET", at).json() == before

    known = admin("GET", at).headers["ETag"]
    assert admin(method, path, body, headers={"If-Match": known}).status_code in {200, 204}


@pytest.mark.parametrize(("method", "path", "body", "at"), CHANGES)
def test_a_change_tells_the_tag_with_which_to_go_on(
    admin: Caller, method: str, path: str, body: Any, at: str
) -> None:
    there = job(job_type="interval", schedule="1h").pk
    pool()
    path, at = path.format(job=there), at.format(job=there)

    answer = admin(method, path, body, headers={"If-Match": "*"})

    assert answer.status_code in {200, 204}
    if method != "DELETE":
        known = admin("GET", at, headers={"If-None-Match": tag(answer)})
        assert known.status_code == 304
        assert answer.headers.get("Content-Location", f"/api/daemon/{at}") == f"/api/daemon/{at}"


def test_a_new_pool_has_its_tag_at_once_and_a_new_job_its_version(admin: Caller) -> None:
    made = admin("POST", "pools", {"name": "gpu", "size": 1})
    known = admin("GET", "pools/gpu", headers={"If-None-Match": tag(made)})
    new = admin("POST", "jobs", {"name": "a", "job_type": "manual", "command": "true"}).json()
    path, seen = f"jobs/{new['id']}", {"If-Match": f'"{new["version"]}"'}

    assert known.status_code == 304
    assert admin("PATCH", path, {"nice": 1}, headers=seen).status_code == 200
    assert admin("PATCH", path, {"nice": 2}, headers=seen).status_code == 412


def test_the_version_in_the_body_is_a_condition_too(admin: Caller) -> None:
    there = job()

    def change(version: int) -> int:
        headers = {"If-Match": f'"{version}"'}
        return int(admin("PATCH", f"jobs/{there.pk}", {"nice": 1}, headers=headers).status_code)

    assert change(there.version) == 200
    assert change(there.version) == 412
    assert change(there.version + 1) == 200


def test_a_condition_holds_for_pages_of_ours_too(with_session: Maker) -> None:
    there = job()
    caller = with_session("admin")
    seen = tag(caller("GET", f"jobs/{there.pk}"))
    caller("PATCH", f"jobs/{there.pk}", {"nice": 1})

    assert (
        caller("PATCH", f"jobs/{there.pk}", {"nice": 2}, headers={"If-Match": seen}).status_code
        == 412
    )


def test_a_pool_is_made_only_if_there_is_none(admin: Caller) -> None:
    only_new = {"If-None-Match": "*"}

    assert admin("PUT", "pools/gpu", {"size": 2}, headers=only_new).status_code == 201
    refused = admin("PUT", "pools/gpu", {"size": 9}, headers=only_new)
    assert refused.status_code == 412
    assert Pool.objects.get().size == 2
    missing = admin("PUT", "pools/other", {"size": 2}, headers={"If-Match": "*"})
    assert missing.status_code == 412
    assert missing.json()["error"]["version"] is None
    assert not Pool.objects.filter(name="other").exists()


def test_a_pool_made_anew_is_another_one(admin: Caller) -> None:
    pool()
    seen = tag(admin("GET", "pools/gpu"))
    admin("DELETE", "pools/gpu")
    pool()

    refused = admin("PATCH", "pools/gpu", {"size": 5}, headers={"If-Match": seen})

    assert refused.status_code == 412


def test_a_hold_does_not_change_the_rules(admin: Caller) -> None:
    admin("PATCH", "policy", {"keep_days": 30})
    seen = tag(admin("GET", "policy"))
    Policy.set_hold("drain", now=NOON, by="anna")

    assert admin("PATCH", "policy", {"slow_ms": 5}, headers={"If-Match": seen}).status_code == 200


def test_without_a_condition_the_last_one_wins_as_before(admin: Caller) -> None:
    there = job()

    assert admin("PATCH", f"jobs/{there.pk}", {"nice": 1}).status_code == 200
    assert admin("PATCH", f"jobs/{there.pk}", {"nice": 2}).status_code == 200


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "jobs"), ("POST", "jobs/{}/run"), ("POST", "hold"), ("POST", "resume")],
)
def test_a_condition_that_nobody_heeds_is_refused(
    admin: Caller, method: str, path: str, name: str
) -> None:
    answer = admin(method, path.format(job().pk), {}, headers={name: '"1"'})

    assert answer.status_code == 400
    assert name in answer.json()["error"]["fields"]


@pytest.mark.parametrize("header", ["1", "W/1", '"1" "2"', '"1', ",", "", '"1",', "* , *", "w/"])
def test_what_is_no_tag_is_refused(admin: Caller, header: str) -> None:
    there = job()

    for method, name in (
        ("PATCH", "If-Match"),
        ("PATCH", "If-None-Match"),
        ("GET", "If-None-Match"),
    ):
        body = {"nice": 1} if method == "PATCH" else None
        answer = admin(method, f"jobs/{there.pk}", body, headers={name: header})

        assert answer.status_code == 400, (method, name)
        assert name in answer.json()["error"]["fields"]
    there.refresh_from_db()
    assert there.nice == 0


def test_that_there_is_nothing_is_said_whatever_the_conditions(admin: Caller) -> None:
    for method in ("GET", "PUT", "DELETE"):
        body: Any = {} if method == "PUT" else None
        answer = admin(method, "nowhere", body, headers={"If-Match": "*"})

        assert answer.status_code == 404


def test_the_description_tells_which_changes_heed_conditions() -> None:
    paths = description()["paths"]

    def asked(path: str, method: str) -> set[str]:
        parameters = paths[f"/api/daemon/{path}"][method].get("parameters", [])
        return {each["name"] for each in parameters if each["in"] == "header"}

    both = {"If-Match", "If-None-Match"}
    for path, method in (("jobs/{id}", "patch"), ("jobs/{id}/toggle", "put"), ("policy", "put")):
        assert both <= asked(path, method)
        assert "412" in paths[f"/api/daemon/{path}"][method]["responses"]
    assert not both & asked("jobs", "post")
    assert "412" not in paths["/api/daemon/jobs"]["post"]["responses"]
    assert asked("jobs/{id}", "get") == {"If-None-Match"}
    assert asked("runs/{id}/log", "get") == {"If-None-Match", "Range", "If-Range"}

"""A token that asks too much is told to wait; others go on, and so does looking."""

from typing import Any

import pytest

from daemon_app.api import throttle
from tests.api.caller import Caller, Maker
from tests.jobs import job

pytestmark = pytest.mark.django_db


class Clock:
    """Time that goes on when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    settings.API_WRITES_PER_MINUTE = 3
    clock = Clock()
    monkeypatch.setattr(throttle, "time", clock)
    return clock


def codes(caller: Caller, method: str, path: str, times: int) -> list[int]:
    return [caller(method, path).status_code for _n in range(times)]


def test_a_token_that_changes_too_much_is_told_when_to_come_back(
    operator: Caller, clock: Clock
) -> None:
    path = f"jobs/{job(job_type='interval', schedule='1h').pk}/toggle"

    assert codes(operator, "PUT", path, 3) == [200, 200, 200]
    refused = operator("PUT", path)

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "too_many"
    assert refused.headers["Retry-After"] == "20"
    clock.now += 19
    assert operator("PUT", path).status_code == 429
    clock.now += 1
    assert codes(operator, "PUT", path, 2) == [200, 429]
    clock.now += 3600
    assert codes(operator, "PUT", path, 4) == [200, 200, 200, 429]


def test_looking_and_other_tokens_go_on(operator: Caller, with_token: Maker, clock: Clock) -> None:
    path = f"jobs/{job(job_type='interval', schedule='1h').pk}/toggle"
    codes(operator, "PUT", path, 4)

    assert set(codes(operator, "GET", "jobs", 10)) == {200}
    assert with_token("admin")("PUT", path).status_code == 200


def test_what_is_forbidden_costs_nothing(viewer: Caller, clock: Clock) -> None:
    assert set(codes(viewer, "POST", "jobs", 10)) == {403}


def test_the_limit_can_be_switched_off(operator: Caller, clock: Clock, settings: Any) -> None:
    settings.API_WRITES_PER_MINUTE = 0
    path = f"jobs/{job(job_type='interval', schedule='1h').pk}/toggle"

    assert set(codes(operator, "PUT", path, 10)) == {200}


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def few_looks(settings: Any, clock: Clock) -> Clock:
    settings.API_READS_PER_MINUTE = 4
    return clock


def test_a_token_that_looks_too_often_is_told_when_to_come_back(
    viewer: Caller, with_token: Maker, few_looks: Clock
) -> None:
    assert codes(viewer, "GET", "jobs", 4) == [200] * 4
    refused = viewer("GET", "jobs")

    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "too_many"
    assert refused.headers["Retry-After"] == "15"
    assert codes(viewer, "HEAD", "jobs", 1) == [429]
    assert codes(with_token("admin"), "GET", "jobs", 1) == [200]
    few_looks.now += 15
    assert codes(viewer, "GET", "jobs", 2) == [200, 429]


def test_changes_and_looks_are_counted_apart(operator: Caller, few_looks: Clock) -> None:
    path = f"jobs/{job(job_type='interval', schedule='1h').pk}/toggle"
    codes(operator, "GET", "jobs", 5)

    assert codes(operator, "PUT", path, 4) == [200, 200, 200, 429]


def test_strangers_share_what_they_may_look_at(
    anonymous: Caller, viewer: Caller, few_looks: Clock
) -> None:
    assert codes(anonymous, "GET", "status", 5) == [200, 200, 200, 200, 429]
    assert codes(viewer, "GET", "status", 1) == [200]


def test_what_is_left_is_told_with_each_answer(operator: Caller, few_looks: Clock) -> None:
    path = f"jobs/{job(job_type='interval', schedule='1h').pk}/toggle"

    looked, missed, changed = operator("GET", "jobs"), operator("GET", "x"), operator("PUT", path)

    assert looked.headers["RateLimit-Policy"] == '"reads";q=4;w=60'
    assert looked.headers["RateLimit"] == '"reads";r=3;t=15'
    assert missed.headers["RateLimit"] == '"reads";r=2;t=30'
    assert changed.headers["RateLimit-Policy"] == '"changes";q=3;w=60'
    assert changed.headers["RateLimit"] == '"changes";r=2;t=20'
    codes(operator, "GET", "jobs", 2)
    assert operator("GET", "jobs").headers["RateLimit"] == '"reads";r=0;t=60'


def test_without_a_limit_nothing_is_told(operator: Caller, settings: Any) -> None:
    settings.API_READS_PER_MINUTE = 0

    assert "RateLimit" not in operator("GET", "jobs").headers

"""A token that changes too much is told to wait; others and looking go on."""

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

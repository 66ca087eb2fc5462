"""Who is here, over REST."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from daemon_app.models import Node, Policy
from tests.api.caller import Caller

pytestmark = pytest.mark.django_db


def test_it_is_said_read_and_taken_back(operator: Caller) -> None:
    said = operator("PUT", "presence", {"state": "away", "minutes": 120})
    told = operator("GET", "presence").json()
    back = operator("PUT", "presence", {"state": ""})

    assert said.status_code == 200
    assert told["presence"]["state"] == "away"
    assert told["presence"]["by"] == "operator"
    assert told["presence"]["until"] > told["presence"]["at"]
    assert back.json()["presence"] == {"state": "", "until": None, "at": None, "by": ""}


def test_what_the_daemon_sees_is_told(viewer: Caller) -> None:
    now = timezone.now()
    reason = {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}}
    Node.objects.create(
        host="here",
        pid=1,
        started_at=now,
        seen_at=now,
        idle=False,
        idle_since=now,
        idle_reasons=[reason],
        users=2,
        active_at=now,
    )

    told = viewer("GET", "presence").json()

    assert (told["idle"], told["users"], told["host"]) == (False, 2, "here")
    assert "anna" in told["idle_reasons"][0]["sentence"]


def test_an_end_that_has_passed_is_none(operator: Caller) -> None:
    now = timezone.now()
    Policy.set_presence(
        "here", now=now - timedelta(hours=2), by="a", until=now - timedelta(hours=1)
    )

    assert operator("GET", "presence").json()["presence"]["state"] == ""
    assert Policy.current().said_at(now) == ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "state"),
        ({"state": "asleep"}, "state"),
        ({"state": "here", "minutes": 0}, "minutes"),
        ({"state": "here", "minutes": 10_081}, "minutes"),
        ({"state": "here", "minutes": 1.5}, "minutes"),
        ({"state": "here", "until": "2020-01-01T00:00:00Z"}, "until"),
        ({"state": "here", "until": "2999-01-01T00:00:00Z"}, "until"),
        ({"state": "here", "until": "18:00"}, "until"),
        ({"state": "here", "until": "2999-01-01T00:00:00Z", "minutes": 5}, "minutes"),
        ({"state": "here", "for": "2h"}, "for"),
    ],
)
def test_what_can_not_be_is_refused_with_the_reason(
    operator: Caller, body: dict[str, Any], field: str
) -> None:
    answer = operator("PUT", "presence", body)

    assert answer.status_code == 400
    assert answer.json()["error"]["fields"][field]
    assert Policy.current().presence == ""


def test_the_same_said_again_is_no_news() -> None:
    now = timezone.now()
    end = now + timedelta(hours=1)

    assert Policy.set_presence("here", now=now, by="anna", until=end)
    assert not Policy.set_presence("here", now=now, by="ben", until=end)
    assert Policy.set_presence("here", now=now, by="ben", until=end + timedelta(hours=1))
    assert Policy.set_presence("", now=now, by="ben")
    assert not Policy.set_presence("", now=now, by="ben")
    assert Policy.current().presence_by == ""


def test_a_program_may_tell_more_often_than_it_may_change_things(
    operator: Caller, settings: Any
) -> None:
    settings.API_WRITES_PER_MINUTE = 3

    told = {operator("POST", "activity").status_code for _again in range(10)}
    said = [operator("PUT", "presence", {"state": ""}).status_code for _again in range(4)]

    assert told == {204}
    assert said == [200, 200, 200, 429]


def test_a_state_there_is_not_is_refused_with_those_there_are(operator: Any) -> None:
    answer = operator("PUT", "presence", {"state": 7})

    assert answer.status_code == 400
    assert ", here" not in answer.content.decode()
    assert "here, away" in answer.content.decode()

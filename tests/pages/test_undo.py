"""What can be taken back has a button for it in the message that tells of it."""

import re

from django.test import Client

from daemon_app.models import Incident, Policy
from tests.jobs import NOON
from tests.pages.test_queue import line, waiting

BUTTON = re.compile(r'formaction="([^"]+)" name="(\w+)" value="([^"]*)">Rückgängig</button>')


def taken_back(client: Client, address: str, **sent: str) -> str:
    """Do something, then press the button in its message; return what is said of that."""
    headers = {"X-Answer": "toast"}
    answer = client.post(address, sent, headers=headers, follow=True)
    found = BUTTON.search(answer.content.decode())
    assert found, answer.content.decode()
    again = client.post(found[1], {found[2]: found[3]}, headers=headers)
    assert again.status_code == 200
    return again.content.decode()


def test_a_notice_that_was_put_away_comes_back(operator: Client) -> None:
    notice = Incident.note("clock_rebased", now=NOON, jobs=2)

    taken_back(operator, f"/daemon/incidents/{notice.pk}/seen/")

    notice.refresh_from_db()
    assert (notice.acknowledged_at, notice.acknowledged_by) == (None, "")


def test_a_run_that_was_moved_up_goes_down_again(operator: Client) -> None:
    waiting("a")
    second = waiting("b")

    taken_back(operator, f"/daemon/runs/{second.pk}/move/", to="up")

    assert line(operator) == ["a", "b"]


def test_what_was_held_goes_on(operator: Client) -> None:
    said = taken_back(operator, "/daemon/hold/", mode="drain", next="/daemon/")

    assert not Policy.current().is_held
    assert "Es geht weiter" in said


def test_who_said_to_be_away_has_said_nothing(operator: Client) -> None:
    taken_back(operator, "/daemon/presence/", presence="away", minutes="60")

    assert Policy.current().presence == ""

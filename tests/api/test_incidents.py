"""What happened to the daemon, over REST."""

import pytest

from daemon_app.models import Incident
from tests.api.caller import Caller
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


def test_incidents_are_told_newest_first_with_a_sentence(viewer: Caller) -> None:
    there = job("backup")
    Incident.note("stalled", now=NOON, seconds=40)
    Incident.note("poisoned", now=NOON, level="error", job=there, run_id=7, n=3)

    newest, older = viewer("GET", "incidents").json()["incidents"]

    assert (newest["code"], newest["level"]) == ("poisoned", "error")
    assert (newest["job_id"], newest["run_id"]) == (there.pk, 7)
    assert "backup" in newest["message"]
    assert newest["facts"]["n"] == 3
    assert newest["at"].endswith("Z")
    assert older["job_id"] is None


def test_who_marked_an_incident_first_stays_on_record(operator: Caller, admin: Caller) -> None:
    told = Incident.note("stalled", now=NOON, seconds=40)

    first = operator("POST", f"incidents/{told.pk}/acknowledge")
    second = admin("POST", f"incidents/{told.pk}/acknowledge", {})

    assert first.status_code == second.status_code == 200
    assert second.json() == first.json()
    assert first.json()["acknowledged_by"] == "operator"
    assert first.json()["acknowledged_at"]
    assert admin("POST", "incidents/999/acknowledge").status_code == 404


def test_incidents_are_found_by_being_seen_and_come_in_pages(operator: Caller) -> None:
    numbers = [Incident.note("stalled", now=NOON, seconds=n).pk for n in range(4)][::-1]
    operator("POST", f"incidents/{numbers[0]}/acknowledge")

    def ids(query: str) -> list[int]:
        return [i["id"] for i in operator("GET", f"incidents?{query}").json()["incidents"]]

    assert ids("unseen=true") == numbers[1:]
    assert ids("unseen=false") == numbers[:1]
    page = operator("GET", "incidents?unseen=true&limit=2").json()
    assert [i["id"] for i in page["incidents"]] == numbers[1:3]
    assert ids(page["next"].partition("?")[2]) == numbers[3:]
    assert operator("GET", "incidents?seen=true").status_code == 400

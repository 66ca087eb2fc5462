"""Rules, pools and incidents from a terminal."""

import json
from typing import Any

import pytest

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach


@pytest.fixture
def ready(bach: Bach) -> Bach:
    """`bach` that is set up, with nothing running."""
    bach.migrate()
    return bach


def facts(answer: Any) -> Any:
    assert answer.returncode == Code.OK, answer
    return json.loads(answer.stdout)


def test_the_rules_are_shown_and_changed(ready: Bach) -> None:
    assert ready("daemon", "policy").returncode == Code.OK

    changed = facts(ready("daemon", "policy", "--parallel", "8", "--keep-days", "30", "--json"))

    assert (changed["max_parallel"], changed["parallel"], changed["keep_days"]) == (8, 8, 30)
    assert changed["updated_by"]
    again = facts(ready("daemon", "policy", "--parallel", "0", "--json"))
    assert (again["max_parallel"], again["keep_days"]) == (None, 30)


def test_a_folder_to_check_that_is_not_there_is_remarked_on(ready: Bach) -> None:
    answer = ready("daemon", "policy", "--config-folder", "/nonexist", "--json")

    assert facts(answer)["config_folders"] == ["/nonexist"]
    assert "/nonexist" in answer.stderr
    assert not ready("daemon", "policy", "--no-config-folders").stderr


def test_pools_are_set_listed_and_removed(ready: Bach) -> None:
    assert "bach daemon pools set" in ready("daemon", "pools").stdout
    assert ready("daemon", "pools", "set", "gpu", "2", "--description", "Cards").returncode == 0
    assert facts(ready("daemon", "pools", "set", "GPU", "3", "--json"))["size"] == 3

    (listed,) = facts(ready("daemon", "pools", "--json"))
    said = ready("daemon", "pools")

    assert (listed["name"], listed["size"], listed["taken"]) == ("gpu", 3, 0)
    assert listed["description"] == "Cards"
    assert said.stdout.splitlines()[1].split() == ["gpu", "3", "0", "Cards"]
    assert ready("daemon", "pools", "remove", "gpu").returncode == Code.OK
    assert facts(ready("daemon", "pools", "--json")) == []
    assert ready("daemon", "pools", "remove", "gpu").returncode == Code.NOT_FOUND


def test_jobs_that_a_smaller_pool_leaves_out_are_named(ready: Bach) -> None:
    ready("daemon", "pools", "set", "gpu", "2")
    ready.python(
        "from django.utils import timezone; from daemon_app.models import Job\n"
        "job = Job(name='render', job_type='manual', command='true', pools={'gpu': 2})\n"
        "job.store(now=timezone.now(), by='anna')"
    )

    smaller = ready("daemon", "pools", "set", "gpu", "1")
    gone = facts(ready("daemon", "pools", "remove", "gpu", "--json"))

    assert smaller.returncode == Code.OK
    assert "render" in smaller.stderr
    assert [each["name"] for each in gone["impossible_jobs"]] == ["render"]


def test_a_pool_that_can_not_be_is_refused(ready: Bach) -> None:
    answer = ready("daemon", "pools", "set", "4 gpus", "1")

    assert answer.returncode == Code.USAGE
    assert "gpu" in answer.stderr


def test_incidents_are_listed_until_somebody_has_seen_them(ready: Bach) -> None:
    assert ready("daemon", "incidents").returncode == Code.OK
    ready.python(
        "from django.utils import timezone; from daemon_app.models import Incident\n"
        "for n in (41, 42, 43): Incident.note('stalled', now=timezone.now(), seconds=n)"
    )

    said = ready("daemon", "incidents").stdout
    assert all(seconds in said for seconds in ("41", "42", "43"))
    (seen,) = facts(ready("daemon", "incidents", "seen", "2", "--json"))
    assert seen["acknowledged_by"]
    listed = facts(ready("daemon", "incidents", "--json"))
    assert [each["id"] for each in listed] == [3, 1]
    assert len(facts(ready("daemon", "incidents", "--all", "--json"))) == 3
    for number in ("9", "x", "9" * 30):
        answer = ready("daemon", "incidents", "seen", "1", number)
        assert answer.returncode == Code.NOT_FOUND
    assert ready("daemon", "incidents", "seen", "all").returncode == Code.OK
    assert facts(ready("daemon", "incidents", "--json")) == []

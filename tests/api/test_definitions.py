"""Jobs as a file over REST."""

from typing import Any

import pytest

from daemon_app.intake import definitions
from daemon_app.models import Job, Pool
from tests.api.caller import Caller
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


def test_all_jobs_are_a_file_that_can_be_applied(admin: Caller) -> None:
    Pool(name="gpu", size=2).store(now=NOON, by="anna")
    job("ä", command="a\nb", environment={"TOKEN": "secret"})

    answer = admin("GET", "export", headers={"Accept": "text/html"})

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/yaml; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert 'attachment; filename="jobs.yaml"' in answer["Content-Disposition"]
    text = answer.content.decode()
    assert text == definitions.as_text(definitions.of_all(Job.objects.all()))
    assert [each.kind for each in definitions.read_all(text)] == ["pool", "policy", "job"]
    assert "TOKEN: secret" in text


def test_values_are_for_those_who_may_edit_and_want_them(admin: Caller, operator: Caller) -> None:
    job("a", environment={"TOKEN": "secret"}, parameters={"KEY": "secret"})

    for caller, path in ((operator, "export"), (operator, "export?values=true"),
                         (admin, "export?values=false")):  # fmt: skip
        text = caller("GET", path).content.decode()
        assert "secret" not in text
        assert "TOKEN: null" in text


def test_one_job_alone(viewer: Caller) -> None:
    job("a")
    only = job("b")

    text = viewer("GET", f"export?job_id={only.pk}").content.decode()

    assert text == definitions.written([only])


def test_what_is_not_there_or_no_files_business(viewer: Caller) -> None:
    of_skill = Job.objects.create(
        name="tidy", skill="tidy", anchor=NOON, created_at=NOON, updated_at=NOON, job_type="manual"
    )

    assert viewer("GET", "export?job_id=77").json()["error"]["code"] == "not_found"
    assert viewer("GET", f"export?job_id={of_skill.pk}").json()["error"]["code"] == "of_a_skill"
    assert "job_id" in viewer("GET", "export?job_id=x").json()["error"]["fields"]
    assert "tidy" not in viewer("GET", "export").content.decode()


def test_as_many_queries_for_many_jobs(viewer: Caller, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        job(f"job-{number}", timezone="Asia/Tokyo")

    with django_assert_max_num_queries(12):
        viewer("GET", "export")

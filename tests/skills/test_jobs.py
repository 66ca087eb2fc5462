"""Each skill has a job, of which people may change what is theirs to decide."""

import pytest
from django.core.exceptions import ValidationError
from django.utils import translation

from daemon_app import skills
from daemon_app.models import Job
from daemon_app.skills import SKILLS
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


@pytest.fixture
def made() -> Job:
    skills.install(NOON)
    return Job.objects.get(skill="validate_configs")


def test_each_skill_gets_a_job_once():
    first = skills.install(NOON)
    again = skills.install(NOON)

    assert [each.name for each in first] == ["validate_configs", "cleanup_vram"]
    assert again == []
    assert Job.objects.count() == 2


def test_the_job_says_when_the_skill_runs_and_by_which_conditions(made):
    assert (made.job_type, made.command, made.next_due_at) == ("manual", "", None)
    assert made.describe() == "once a day, when idle"
    assert made.needs()["idle"] is True
    assert made.on_presence == Job.Presence.DISPLACE
    assert made.definition()["skill"] == "validate_configs"


def test_what_people_have_changed_stays(made):
    made.timeout_seconds, made.only_when_idle, made.description = 60, False, "Ours"
    made.store(now=NOON, by="anna")
    made.set_active(False, now=NOON, by="anna")

    skills.install(NOON)

    made.refresh_from_db()
    assert (made.timeout_seconds, made.only_when_idle) == (60, False)
    assert (made.description, made.is_active) == ("Ours", False)


def test_its_description_follows_the_language_of_the_installation(made, settings):
    settings.LANGUAGE_CODE = "en"

    skills.install(NOON)

    made.refresh_from_db()
    with translation.override("en"):
        assert made.description == str(SKILLS["validate_configs"].description)


def test_a_name_that_a_person_has_taken_is_left_to_them():
    job("cleanup_vram")

    skills.install(NOON)

    assert Job.objects.get(skill="cleanup_vram").name == "cleanup_vram (2)"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"command": "rm -r /"},
        {"script_path": "/bin/true"},
        {"job_type": "cron", "schedule": "* * * * *"},
        {"environment": {"PATH": "/tmp"}},
        {"working_directory": "/tmp"},
        {"stop_command": "true"},
    ],
)
def test_what_is_the_skills_can_not_be_changed(made, change):
    for field, value in change.items():
        setattr(made, field, value)

    with pytest.raises(ValidationError) as refused:
        made.store(now=NOON, by="anna")

    assert refused.value.message_dict.keys() == change.keys()


def test_it_can_not_be_deleted_for_it_would_come_again(made):
    with pytest.raises(ValidationError, match="Switch it off"):
        made.remove(now=NOON, by="anna")

    assert Job.objects.filter(pk=made.pk).exists()


def test_the_overview_tells_of_every_skill(made):
    told = {each["name"]: each for each in skills.overview()}

    assert list(told) == ["health_check", "validate_configs", "cleanup_vram"]
    assert told["validate_configs"]["job"] == made
    assert told["health_check"]["job"] is None

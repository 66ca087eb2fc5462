"""The jobs of skills: a row each, made at the daemon's start, and which of them are due."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import translation

from daemon_app.models import Incident, Job, Policy, Run
from daemon_app.models.job import SKILL_GONE
from daemon_app.readings import Reading
from daemon_app.skills import plugins
from daemon_app.skills.skill import SKILLS, Due, Situation, Skill

log = logging.getLogger(__name__)


def install(now: datetime) -> list[Job]:
    """Give each skill its job, and return the new ones; what people have changed stays.

    A job whose skill is gone is marked, and may be deleted; should the skill come back, so does it.
    """
    made = []
    with transaction.atomic():
        for broken in plugins.load():
            _report(broken, now)
        jobs = {job.skill: job for job in Job.objects.exclude(skill="")}
        for name, skill in SKILLS.items():
            if skill.in_tick:
                continue
            if name not in jobs:
                made.append(_make(skill, now))
            else:
                _update(jobs[name], skill)
        for name in jobs.keys() - SKILLS.keys():
            error = SKILL_GONE % {"name": name}
            Job.objects.filter(pk=jobs[name].pk).update(schedule_error=error)
    return made


def _report(broken: plugins.Broken, now: datetime) -> None:
    """Have a person told of a plug-in that can't be loaded, once."""
    facts: dict[str, Any] = {
        "name": broken.name,
        "source": broken.source,
        "error": broken.error[:300],
    }
    if not Incident.objects.unseen().filter(code="skill_broken", facts=facts).exists():
        Incident.note("skill_broken", now=now, **facts)


def _make(skill: type[Skill], now: datetime) -> Job:
    # A person's job may have the name.
    names = (skill.name, *(f"{skill.name} ({n})" for n in range(2, 1000)))
    name = next(name for name in names if not Job.objects.filter(name=name).exists())
    job = Job(
        name=name,
        skill=skill.name,
        description=_description(skill, settings.LANGUAGE_CODE),
        job_type=Job.Kind.MANUAL,
        only_when_idle=skill.only_when_idle,
        on_presence=skill.on_presence,
        in_quiet_hours=skill.in_quiet_hours,
        timeout_seconds=skill.timeout_seconds,
    )
    return job.store(now=now, by="")


def _update(job: Job, skill: type[Skill]) -> None:
    """Let a stored job say what its skill says now, unless a person has put it otherwise."""
    known = {_description(skill, code) for code, _name in settings.LANGUAGES} | {""}
    wanted = {"schedule_error": ""}
    if job.description in known or not job.updated_by:
        wanted["description"] = _description(skill, settings.LANGUAGE_CODE)
    if any(getattr(job, field) != value for field, value in wanted.items()):
        Job.objects.filter(pk=job.pk).update(**wanted)


def _description(skill: type[Skill], language: str) -> str:
    with translation.override(language):
        return str(skill.description or skill.title)[:500]


def due(readings: Mapping[str, Reading], idle: bool | None, now: datetime) -> list[tuple[Job, Due]]:
    """Return the jobs of the skills that are to run now, each with the reason.

    None while everything is held. A job that is switched off, or has a run that waits or runs, is
    not among them. A skill that can't decide is told in the log, and hinders no other.
    """
    policy = Policy.current()
    if policy.is_held:
        return []
    active = Job.objects.active().exclude(skill="")
    jobs = {job.skill: job for job in active}
    busy = set(Run.objects.active().filter(job__in=jobs.values()).values_list("job_id", flat=True))
    found = []
    for name, skill in SKILLS.items():
        job = jobs.get(name)
        if job is None or job.pk in busy:
            continue
        try:
            why = skill().is_due(Situation(job, now, idle, readings, policy))
        except Exception:
            log.exception("the skill %r could not say whether it is due", name)
            continue
        if why is not None:
            found.append((job, why))
    return found


def overview() -> list[dict[str, Any]]:
    """Return each skill with what became of it: name, title, description, job and newest run.

    `job` and `run` are rows, None where there are none.
    """
    jobs = {job.skill: job for job in Job.objects.exclude(skill="")}
    told = []
    for name, skill in SKILLS.items():
        job = jobs.get(name)
        runs = Run.objects.filter(job=job).defer("definition").order_by("-id")
        told.append(
            {
                "name": name,
                "title": str(skill.title),
                "description": str(skill.description),
                "job": job,
                "run": runs.first() if job else None,
            }
        )
    return told

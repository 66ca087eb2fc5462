"""Why a job or a run does what it does: one sentence, and every rule."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import admission
from daemon_app import why as explain
from daemon_app.models import (
    Run,
)
from daemon_app.tiles.job import job_of
from daemon_app.tiles.line import is_at_gate
from daemon_app.tiles.marks import Mark
from daemon_app.tiles.regions import Context, Viewer, number_in, region

RULE_SIGNS = {
    explain.BLOCKED: ("hourglass", "is-warn"),
    explain.INFO: ("info", "is-quiet"),
    explain.OK: ("check", "is-ok"),
    explain.UNKNOWN: ("circle-question-mark", "is-quiet"),
}


@dataclass(frozen=True)
class Reading:
    """Rules that say the same, as a page shows them: which they are, and what they say."""

    state: str
    labels: tuple[str, ...]
    sentence: str
    is_past: bool = False

    @property
    def mark(self) -> Mark:
        """Its state as sign and word."""
        words = {
            explain.BLOCKED: _t("held it up") if self.is_past else _t("holds it up"),
            explain.INFO: _t("note"),
            explain.OK: _t("met"),
            explain.UNKNOWN: _t("unknown"),
        }
        sign, tone = RULE_SIGNS[self.state]
        return Mark(words[self.state], sign, tone, calm=True)


def readings(rules: Iterable[explain.Rule], *, past: bool = False) -> list[Reading]:
    """Return all rules, those that hold it up first; several that say the same are one."""
    together: dict[tuple[str, str], list[str]] = {}
    for rule in rules:
        together.setdefault((rule.state, rule.sentence), []).append(rule.label)
    found = [Reading(state, tuple(names), said, past) for (state, said), names in together.items()]
    return sorted(found, key=lambda reading: list(RULE_SIGNS).index(reading.state))


def _why(found: explain.Explanation) -> Context:
    past = found.state in Run.State.values and found.state not in Run.ACTIVE
    told = readings(found.rules, past=past)
    counts = Counter(rule.state for rule in found.rules)
    blocked, met, unknown = (counts[s] for s in (explain.BLOCKED, explain.OK, explain.UNKNOWN))
    keeps = ngettext("%(n)s holds it up", "%(n)s hold it up", blocked)
    if past:
        keeps = ngettext("%(n)s held it up", "%(n)s held it up", blocked)
    shown = (
        (keeps, blocked),
        (ngettext("%(n)s met", "%(n)s met", met), met),
        (ngettext("%(n)s not known", "%(n)s not known", unknown), unknown),
    )
    return {
        "explanation": found,
        "blocking": [each for each in told if each.state == explain.BLOCKED],
        "others": [each for each in told if each.state != explain.BLOCKED],
        "count": len(found.rules),
        "summary": ", ".join(said % {"n": number} for said, number in shown if number),
    }


WHY_TOPICS = ("runs", "jobs", "policy", "daemon", "presence", "health", "alarms")


@region("run-why", topics=("run:{arg}", *WHY_TOPICS))
def run_why(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return why a run waits, runs or ended so: one sentence, every rule, and what was recorded."""
    number = number_in(arg)
    run = Run.objects.select_related("job").filter(pk=number).first() if number else None
    if run is None:
        return None
    waiting = admission.waiting(run, now) if run.due_at <= now else None
    return {
        "run": run,
        "waiting": waiting,
        "may_force": waiting is not None and is_at_gate(waiting),
        **_why(explain.of_run(run, now)),
    }


@region("job-why", topics=("job:{arg}", *WHY_TOPICS))
def job_why(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return why a job runs or does not: one sentence, every rule, and what was recorded."""
    job = job_of(arg)
    return {"job": job, **_why(explain.of_job(job, now))} if job else None

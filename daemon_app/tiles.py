"""Live regions: the parts of pages that change by themselves, each one function and one template.

A region is rendered for a role and a language, never for a request: the page shows it at first
load, the hub of the web process renders the same again whenever one of its topics rings.
"""

from __future__ import annotations

import re
import signal as signals
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import takewhile
from math import sqrt
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from django.conf import settings
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.fields.json import KT
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.html import format_html
from django.utils.translation import gettext as _t
from django.utils.translation import ngettext

from daemon_app import admission, formats, gates, gauges, idleness, output, pidfile
from daemon_app import notices as hints
from daemon_app import why as explain
from daemon_app.gates.conditions import Conditions
from daemon_app.models import (
    Attempt,
    Displacement,
    IdleSpan,
    Job,
    Node,
    Policy,
    Pool,
    Run,
    Snapshot,
    reasons,
)
from daemon_app.models.access import RIGHTS, Role
from daemon_app.models.presence import yield_times
from daemon_app.models.run import folder_of
from daemon_app.registry import Registry

# Terminal escapes (CSI, OSC, others), and what has no shape of its own.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
REPORT = '{"progress":'
UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

JOBS_PER_PAGE = 50
RUNS_PER_PAGE = 50
MOST_RUNNING, MOST_WAITING = 20, 10
MOST_IN_LINE = 200
MOST_NOTICES = 3
MOST_NAMED = 8  # jobs that fail, in one notice
REMEMBERED_FOR = timedelta(days=7)
STRIP = 30
MAX_SEARCH = 80
MOST_PAGES = 1_000_000  # an offset beyond what a database counts is an error


@dataclass(frozen=True)
class Viewer:
    """Who looks: all a region may know of them."""

    role: str
    language: str
    user_id: int | None = None
    username: str = ""

    def may(self, right: str) -> bool:
        """Return whether somebody of this role has `right`."""
        return self.role in RIGHTS[right]

    @property
    def role_label(self) -> str:
        return str(Role(self.role).label)

    @property
    def may_operate(self) -> bool:
        return self.may("operate")

    @property
    def may_edit(self) -> bool:
        return self.may("edit")

    @property
    def may_manage(self) -> bool:
        return self.may("manage")


Context = dict[str, Any]
Build = Callable[[Viewer, str | None, datetime], Context | None]


@dataclass(frozen=True)
class Region:
    """A part of a page: which topics concern it and how its facts are gathered."""

    topics: frozenset[str]
    build: Build


REGIONS: Registry[Region] = Registry("region")


def region(name: str, topics: Iterable[str]) -> Callable[[Build], Build]:
    """Register a function as the region `name`; "{arg}" in a topic stands for its argument."""

    def file(build: Build) -> Build:
        REGIONS.register(name)(Region(frozenset(topics), build))
        return build

    return file


def topics(name: str, arg: str | None) -> frozenset[str]:
    """Return the topics that concern a region; none for a region that does not exist."""
    if name not in REGIONS:
        return frozenset()
    return frozenset(topic.replace("{arg}", arg or "") for topic in REGIONS[name].topics)


def render(name: str, arg: str | None, viewer: Viewer, now: datetime) -> str | None:
    """Return the HTML of a region, one element; None when it does not exist (any more)."""
    if name not in REGIONS or not viewer.may("view"):
        return None
    with translation.override(viewer.language):
        context = REGIONS[name].build(viewer, arg, now)
        if context is None:
            return None
        key, ident = (name, name) if arg is None else (f"{name}:{arg}", f"{name}-{arg}")
        attributes = format_html('id="{}" data-region="{}"', ident, key)
        return render_to_string(
            f"daemon/regions/{name}.html",
            {**context, "viewer": viewer, "now": now, "region": attributes, "arg": arg},
        ).strip()


# ── Marks: a state as word, sign and tone ────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Mark:
    """A state as people see it: the word, its icon, its colour; a calm one needs no fill."""

    word: str
    sign: str
    tone: str
    calm: bool = False


SIGNS = {
    Run.State.QUEUED: ("clock", "is-quiet", False),
    Run.State.RUNNING: ("play", "is-run", False),
    Run.State.SUCCEEDED: ("check", "is-ok", True),
    Run.State.FAILED: ("x", "is-fail", False),
    Run.State.TIMED_OUT: ("timer", "is-fail", False),
    Run.State.CANCELLED: ("ban", "is-quiet", False),
    Run.State.LOST: ("unplug", "is-fail", False),
    Run.State.SKIPPED: ("skip-forward", "is-quiet", True),
    Run.State.MISSED: ("clock-alert", "is-warn", False),
}


def run_mark(run: Run) -> Mark:
    """Return how a run's state is shown; one that is being stopped says how far that has come."""
    if run.state == Run.State.RUNNING and run.reason_code == "displacing" and not run.is_stopping:
        return Mark(_t("Making way …"), "hand", "is-held")
    if run.state == Run.State.QUEUED and run.reason_code == "displaced":
        return Mark(_t("Paused for people"), "pause", "is-held")
    if run.state == Run.State.RUNNING and (run.is_stopping or run.phase):
        words: dict[str, str] = {
            "": _t("Stopping: asked"),
            Run.Phase.ASKED: _t("Stopping: asked"),
            Run.Phase.TERM: _t("Stopping: TERM"),
            Run.Phase.KILL: _t("Stopping: KILL"),
        }
        return Mark(words.get(run.phase, _t("Stopping")), "hand", "is-warn")
    return state_mark(run.state)


def state_mark(state: str) -> Mark:
    """Return how a state is shown, of a run or of one of its attempts."""
    if state == Attempt.DISPLACED:
        return Mark(_t("Made way"), "pause", "is-held")
    known = Run.State(state)
    sign, tone, calm = SIGNS[known]
    word = str(known.label)
    return Mark(word[:1].upper() + word[1:], sign, tone, calm)


# ── Bars: the last thirty runs ───────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Bar:
    """One run in the strip: where it stands, how tall it is, how it ended."""

    outcome: str
    x: float
    y: float
    height: float
    state: str


OUTCOMES = {
    Run.State.SUCCEEDED: "ok",
    Run.State.RUNNING: "run",
    Run.State.FAILED: "fail",
    Run.State.TIMED_OUT: "fail",
    Run.State.LOST: "fail",
    Run.State.MISSED: "warn",
}
STEP, BOTTOM, TALLEST = 152 / STRIP, 24.0, 18.0


def bars(runs: Sequence[Run], now: datetime) -> list[Bar]:
    """Return the bars of at most thirty runs, given newest first, drawn oldest first.

    The height is the square root of the duration, so that one long run does not flatten the rest.
    Failures stand at full height: they must be seen.
    """
    shown = [run for run in runs if run.state != Run.State.QUEUED][:STRIP]
    seconds = [_seconds(run, now) for run in shown]
    longest = max(seconds, default=0) or 1
    drawn = []
    for place, (run, length) in enumerate(zip(shown, seconds, strict=True)):
        outcome = OUTCOMES.get(Run.State(run.state), "quiet")
        height = 4 + (TALLEST - 5) * sqrt(length / longest)
        if outcome == "fail":
            height = TALLEST
        elif run.started_at is None:
            height = 4
        drawn.append(
            Bar(
                outcome=outcome,
                x=round((STRIP - 1 - place) * STEP, 2),
                y=round(BOTTOM - height, 1),
                height=round(height, 1),
                state=run.state,
            )
        )
    return drawn[::-1]


def strip_label(drawn: Sequence[Bar]) -> str:
    """Return the strip in words: "Letzte 17 Läufe: 13 fertig, 4 Fehlschlag"."""
    if not drawn:
        return _t("No runs yet")
    counts: dict[str, int] = defaultdict(int)
    for bar in drawn:
        counts[bar.state] += 1
    parts = [f"{counts[state]} {state.label}" for state in Run.State if counts.get(state)]
    head = ngettext("Last run", "Last %(n)s runs", len(drawn)) % {"n": len(drawn)}
    return f"{head}: {', '.join(parts)}"


def usual_seconds(runs: Iterable[Run]) -> float | None:
    """Return the median duration of the runs that succeeded; None with fewer than three."""
    lengths = [
        (run.ended_at - run.started_at).total_seconds()
        for run in runs
        if run.state == Run.State.SUCCEEDED and run.started_at and run.ended_at
    ]
    return statistics.median(lengths) if len(lengths) >= 3 else None


def _seconds(run: Run, now: datetime) -> float:
    length = run.duration(now)
    return length.total_seconds() if length else 0.0


# What is asked of a run of the past thirty; the rest stays in the database.
REMEMBERED = (
    "job_id",
    "state",
    "due_at",
    "started_at",
    "ended_at",
    "stop_requested_at",
    "stop_requested_by",
    "phase",
    "reason_code",
    "reason_facts",
    "exit_code",
    "signal",
    "last_line",
)


def latest_runs(job_ids: Sequence[int]) -> dict[int, list[Run]]:
    """Return the last thirty runs of each job, newest first, in two queries.

    The thirtieth newest id of each job comes from the index alone; a window function would read
    the whole history of every job shown.
    """
    if not job_ids:
        return {}
    newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id").values("id")
    floors = Job.objects.filter(pk__in=job_ids).values_list(
        "pk", Subquery(newest[STRIP - 1 : STRIP])
    )
    wanted = Q(pk__in=[])
    for pk, floor in floors:
        wanted |= Q(job_id=pk) if floor is None else Q(job_id=pk, id__gte=floor)
    found: dict[int, list[Run]] = defaultdict(list)
    for run in Run.objects.filter(wanted).only(*REMEMBERED).order_by("-id"):
        found[run.job_id].append(run)
    return found


# ── Frame: navigation and the daemon's sign of life ──────────────────────────────────────────────
@region("nav", topics=("jobs", "runs"))
def nav(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the numbers beside the navigation; `arg` is the section the page belongs to."""
    return {
        "section": arg,
        "jobs": Job.objects.count(),
        "running": Run.objects.running().count(),
        "waiting": _waiting(now).count(),
    }


@region("daemon", topics=("daemon",))
def daemon(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return since when the scheduler runs, or that it does not."""
    node = Node.latest()
    return {"node": node, "alive": node is not None and node.is_alive(now)}


@region("held", topics=("policy",))
def held(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held: said at the head of every page."""
    return {"policy": Policy.current()}


# ── Overview ─────────────────────────────────────────────────────────────────────────────────────
@region("situation", topics=("daemon", "runs", "jobs", "policy", "health", "presence"))
def situation(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what one sentence says: who has the right of way, is somebody scheduling, what runs.

    It speaks of idleness where that is known or where a job heeds it.
    """
    node, policy = gauges.host(now), Policy.current()
    running_count, waiting_count = _running().count(), _waiting(now).count()
    return {
        "node": node,
        "alive": node is not None and node.is_alive(now),
        "idleness": idleness.current(node, now),
        "said": idleness.said(policy, now),
        "policy": policy,
        "running": running_count,
        "waiting": waiting_count,
        "next": _upcoming_jobs()[:1].first(),
        "jobs": Job.objects.filter(skill="").exists(),
        "active": Job.objects.active().exists(),
        "failing": 0 if waiting_count or running_count else _failing_jobs(now).count(),
    }


@dataclass(frozen=True)
class Notice:
    """A job that needs a person: its newest run ended badly, and none succeeded since."""

    job: Job
    run: Run | None = None
    in_a_row: int = 0

    @property
    def cause(self) -> str:
        """Why the last run failed; what it wrote last, where it says nothing else."""
        assert self.run is not None
        return " ".join(filter(None, [why(self.run), self.run.last_line]))

    @property
    def in_a_row_text(self) -> str:
        """How often, as far as thirty runs tell."""
        return f"{STRIP}+" if self.in_a_row >= STRIP else str(self.in_a_row)


# What the head of the page says already, or the notice of a failing job says better.
SAID_ELSEWHERE = {"held", "daemon_away", "daemon_silent"}
TONES = {"error": "is-fail", "warn": "is-warn", "info": "is-quiet"}


@dataclass(frozen=True)
class Hint:
    """One thing a person should know: an alarm, what can't work, what happened, or who fails."""

    key: str
    tone: str
    hint: hints.Notice | None = None
    failing: Notice | None = None
    many: list[Notice] = field(default_factory=list)  # more jobs than are told one by one
    count: int = 0  # of them, with those that are not named

    @property
    def is_calm(self) -> bool:
        """Whether it tells what happened, and holds nothing up."""
        return bool(self.hint and self.hint.incident_id and self.hint.level != hints.ERROR)


@region("notices", topics=("runs", "jobs", "alarms", "incidents", "policy", "daemon"))
def notices(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what needs a person: three in view, the worst first, the others behind a fold.

    Jobs that fail come after what keeps the daemon itself from working; many of them are one.
    """
    failing = _failing_jobs(now).order_by("-last_end_id")
    jobs = list(failing[: MOST_NAMED + 1])
    failed = {("configs_bad", job.pk) for job in jobs}  # the job that fails says what it found
    told = [
        hint
        for hint in hints.current(now)
        if hint.code not in SAID_ELSEWHERE and (hint.code, hint.job_id) not in failed
    ]
    bad = [hint for hint in told if hint.level == hints.ERROR]
    mild = [hint for hint in told if hint.level != hints.ERROR]
    sick = [each for each in map(_failing, jobs[:MOST_NAMED]) if each.run]
    if len(sick) > MOST_NOTICES:
        count = len(jobs) if len(jobs) <= MOST_NAMED else failing.count()
        of_jobs = [Hint("jobs", "is-fail", many=sick, count=count)]
    else:
        of_jobs = [Hint(f"job-{each.job.pk}", "is-fail", failing=each) for each in sick]
    shown = [*map(_hint, bad), *of_jobs, *map(_hint, mild)]
    return {"hints": shown[:MOST_NOTICES], "others": shown[MOST_NOTICES:]}


def _failing_jobs(now: datetime) -> Any:
    """Return the jobs that a person should look at, by the end of their newest run.

    One bad end counts for a week, several in a row until one succeeds. A job that was switched off
    has been looked at.
    """
    ends = _judged_runs().filter(job=OuterRef("pk"))
    jobs = Job.objects.active().annotate(
        last_end=Subquery(ends.values("state")[:1]),
        last_ended_at=Subquery(ends.values("ended_at")[:1]),
        end_before=Subquery(ends.values("state")[1:2]),
        last_end_id=Subquery(ends.values("id")[:1]),
    )
    standing = Q(end_before__in=Run.UNHAPPY) | Q(last_ended_at__gte=now - REMEMBERED_FOR)
    return jobs.filter(standing, last_end__in=Run.UNHAPPY)


def _hint(hint: hints.Notice) -> Hint:
    key = f"incident-{hint.incident_id}" if hint.incident_id else hint.code
    key += f"-{hint.job_id}" if hint.job_id else ""
    key += f"-{hint.jobs[0][0]}" if hint.jobs else ""
    return Hint(key, TONES.get(hint.level, "is-warn"), hint=hint)


def _failing(job: Job) -> Notice:
    """Return how often a job has failed since its last success; what never ran does not count."""
    ends = list(_judged_runs().filter(job=job).defer("definition")[:STRIP])
    failed = list(takewhile(lambda run: run.state in Run.UNHAPPY, ends))
    # A success may have come since we asked which jobs fail.
    return Notice(job, run=failed[0] if failed else None, in_a_row=len(failed))


def _judged_runs() -> QuerySet[Run]:
    states = (Run.State.SUCCEEDED, Run.State.CANCELLED, *Run.UNHAPPY)
    return Run.objects.filter(state__in=states).order_by("-id")


@dataclass(frozen=True)
class Now:
    """A running run as the overview shows it."""

    run: Run
    mark: Mark
    usual: float | None  # seconds, by its job's past runs
    ready_at: datetime | None
    attempts: int  # that it may make in all

    @property
    def is_measured(self) -> bool:
        """Whether the command itself has said how far it is."""
        return self.run.progress is not None


def _now(run: Run, usual: float | None, retries: object, now: datetime) -> Now:
    left = run.eta(now, None if usual is None else timedelta(seconds=usual))
    ready_at = None if left is None else now + left
    return Now(run, run_mark(run), usual, ready_at, int(str(retries or 0)) + 1)


@region("running", topics=("runs", "policy"))
def running(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return what runs, how far it is, and what waits, with place and reason."""
    retries = KT("definition__max_retries")
    shown = list(_running().defer("definition").annotate(retries=retries)[:MOST_RUNNING])
    waiting_count = _waiting(now).count()
    waiting = admission.line(now, MOST_WAITING) if waiting_count else []
    history = latest_runs(sorted({run.job_id for run in shown}))
    return {
        "runs": [_now(run, usual_seconds(history[run.job_id]), run.retries, now) for run in shown],
        "waiting": [(each, run_mark(each.run)) for each in waiting],
        "running_count": len(shown) if len(shown) < MOST_RUNNING else _running().count(),
        "waiting_count": waiting_count,
        "last": None
        if shown or waiting
        else Run.objects.filter(ended_at__isnull=False, started_at__isnull=False)
        .defer("definition")
        .order_by("-id")
        .first(),
    }


@region("last-line", topics=("log:{arg}", "run:{arg}"))
def last_line(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the line a running command wrote last; read from its file, without the database."""
    number = _number(arg)
    if number is None:
        return None
    return {"line": _last_line(number)}


def _last_line(run_id: int) -> str:
    try:
        _offset, written = output.tail(folder_of(run_id), 3)
    except (OSError, ValueError):
        return ""
    return plain(written)


def plain(written: bytes) -> str:
    """Return the last line with something in it, without escapes, at most 200 characters."""
    lines = (line.strip() for line in reversed(readable(written).split("\n")))
    # A report of progress is shown as that.
    return next((line[:200] for line in lines if line and not line.startswith(REPORT)), "")


def readable(written: bytes) -> str:
    """Return output as text without escapes; a carriage return overwrites what stood before it."""
    text = ESCAPES.sub("", written.decode(errors="replace")).replace("\r\n", "\n")
    return "\n".join(
        UNSHOWN.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n")
    )


@region("next", topics=("jobs", "runs", "policy"))
def next_runs(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the jobs that start next."""
    return {"jobs": list(_upcoming_jobs()[:6]), "held": Policy.current().is_held}


def _upcoming_jobs() -> QuerySet[Job]:
    return Job.objects.active().filter(next_due_at__isnull=False).order_by("next_due_at", "id")


def _running() -> QuerySet[Run]:
    return Run.objects.running().order_by("-id")


def _waiting(now: datetime) -> QuerySet[Run]:
    # Occurrences are prepared a moment before they are due; those do not wait yet.
    return Run.objects.queued().filter(due_at__lte=now).order_by("-priority", "due_at", "id")


# ── The line ─────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Taken:
    """How much of something limited is in use."""

    name: str
    used: int
    size: int
    description: str = ""

    @property
    def is_over(self) -> bool:
        """Whether more is in use than there may be: it was made smaller meanwhile."""
        return self.used > self.size

    @property
    def share(self) -> str:
        """How much of it is in use, as SVG wants it: "50%"; a pool made smaller is full."""
        return f"{min(100, round(100 * self.used / self.size))}%"


@region("queue", topics=("runs", "jobs", "policy", "daemon", "presence", "health"))
def queue(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the line in the order of start, and how much of slots and pools is taken."""
    waiting = admission.line(now, MOST_IN_LINE)
    count = len(waiting) if len(waiting) < MOST_IN_LINE else _waiting(now).count()
    places = [each.position for each in waiting if each.position]
    return {
        **_capacity(),
        "waiting": waiting,
        "at_gate": {each.run.pk for each in waiting if is_at_gate(each)},
        "count": count,
        "last_place": max(places, default=0),
        "next": _upcoming_jobs().first() if not waiting else None,
    }


def _capacity() -> Context:
    room, _newest = admission.current_room()
    told = dict(Pool.objects.values_list("name", "description"))
    return {
        "policy": Policy.current(),
        "slots": Taken("", room.taken, room.parallel),
        "pools": [
            Taken(name, room.of_pool[name], size, told.get(name, ""))
            for name, size in sorted(room.sizes.items())
        ],
    }


# Waits for conditions, of which a person may say: start all the same.
AT_GATE = re.compile(rf"waits_(?:service|displaced|{'|'.join(gates.GATES)})(?:_|$)")


def is_at_gate(waiting: admission.Waiting) -> bool:
    """Return whether a run waits for a condition, and has not been told to start all the same."""
    return not waiting.run.forced_by and AT_GATE.match(waiting.code) is not None


# ── Why ──────────────────────────────────────────────────────────────────────────────────────────
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
    number = _number(arg)
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
    job = _job(arg)
    return {"job": job, **_why(explain.of_job(job, now))} if job else None


# ── Rules for all jobs ───────────────────────────────────────────────────────────────────────────
@region("hold", topics=("policy", "runs"))
def hold(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held, by whom and since when."""
    return {"policy": Policy.current(), "running": _running().count()}


# ── The table of jobs ────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class JobRow:
    """A job as a table shows it."""

    job: Job
    mark: Mark
    bars: list[Bar]
    active: Run | None


@dataclass(frozen=True)
class Filter:
    """What a list shows, as it stands in the address."""

    state: str = ""
    job: int | None = None
    trigger: str = ""
    q: str = ""
    page: int = 1
    until: int | None = None

    @classmethod
    def read(cls, text: str | None) -> Filter:
        """Return the filter that a query string says; what makes no sense is left out."""
        if text and len(text) > 600:
            text = ""
        found = {key: values[-1] for key, values in parse_qs(text or "").items()}
        return cls(
            state=found.get("state", ""),
            job=_number(found.get("job")),
            trigger=found.get("trigger", ""),
            q=" ".join(found.get("q", "").replace("\0", "").split())[:MAX_SEARCH],
            page=min(_number(found.get("page")) or 1, MOST_PAGES),
            until=_number(found.get("until")),
        )

    def query(self, **changes: object) -> str:
        """Return the query string of this filter with `changes`; a new filter begins on page 1."""
        words = {
            "state": self.state,
            "job": self.job,
            "trigger": self.trigger,
            "q": self.q,
            "page": self.page if self.page > 1 else None,
            "until": self.until,
        }
        if "page" not in changes:
            words["page"] = None
        return urlencode({key: value for key, value in (words | changes).items() if value})

    @property
    def is_narrow(self) -> bool:
        """Whether anything is left out by choice."""
        return bool(self.state or self.job or self.trigger or self.q)


@dataclass(frozen=True)
class Tab:
    """One choice of a filter."""

    label: str
    count: int | None
    query: str
    current: bool


@region("jobs-table", topics=("jobs", "runs", "policy"))
def jobs_table(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return one page of the jobs; `arg` is the query string of the filter."""
    wanted = Filter.read(arg)
    jobs = Job.objects.all()
    if wanted.q:
        jobs = jobs.filter(Q(name__icontains=wanted.q) | Q(description__icontains=wanted.q))
    running_ids = set(Run.objects.running().values_list("job_id", flat=True))
    waiting_ids = set(_waiting(now).values_list("job_id", flat=True)) - running_ids
    by_state = {
        "": jobs,
        "running": jobs.filter(pk__in=running_ids),
        "failed": _with_last_end(jobs).filter(last_end__in=Run.UNHAPPY),
        "waiting": jobs.filter(pk__in=waiting_ids),
        "paused": jobs.filter(is_active=False),
    }
    state = wanted.state if wanted.state in by_state else ""
    counts = jobs.aggregate(
        all=Count("pk"),
        running=Count("pk", filter=Q(pk__in=running_ids)),
        waiting=Count("pk", filter=Q(pk__in=waiting_ids)),
        paused=Count("pk", filter=Q(is_active=False)),
    )
    counts["failed"] = by_state["failed"].count()
    labels = {
        "": _t("All"),
        "running": _t("Running"),
        "failed": _t("Failed"),
        "waiting": _t("Waiting"),
        "paused": _t("Paused"),
    }
    total = counts[state or "all"]
    pages = max(1, -(-total // JOBS_PER_PAGE))
    page = min(wanted.page, pages)
    start = (page - 1) * JOBS_PER_PAGE
    shown = list(by_state[state].order_by("name")[start : start + JOBS_PER_PAGE])
    history = latest_runs([job.pk for job in shown])
    return {
        "filter": wanted,
        "held": Policy.current().is_held,
        "rows": [_job_row(job, history[job.pk], now) for job in shown],
        "tabs": [
            Tab(label, counts[key or "all"], wanted.query(state=key), key == state)
            for key, label in labels.items()
            if counts[key or "all"] or key in {"", state}
        ],
        "any": counts["all"] > 0 or (bool(wanted.q) and Job.objects.exists()),
        # The jobs of skills come with the program; the first of one's own is still to be made.
        "own": wanted.is_narrow or Job.objects.filter(skill="").exists(),
        "total": total,
        "suggestion": _similar_name(wanted.q) if wanted.q and not total else None,
        **_pager(wanted, page, pages),
    }


def _job_row(job: Job, runs: Sequence[Run], now: datetime) -> JobRow:
    active = next((run for run in runs if run.is_active and run.due_at <= now), None)
    return JobRow(job, job_mark(job, runs, now), bars(runs, now), active)


def job_mark(job: Job, runs: Sequence[Run], now: datetime) -> Mark:
    """Return how a job is doing: what it does now, else why it rests, else how it ended last."""
    active = [run for run in runs if run.is_active and run.due_at <= now]
    for state in (Run.State.RUNNING, Run.State.QUEUED):
        for run in active:
            if run.state == state:
                return run_mark(run)
    if not job.is_active:
        return Mark(_t("Paused"), "pause", "is-quiet")
    if job.schedule_error:
        return Mark(_t("Broken"), "triangle-alert", "is-warn")
    # A skipped occurrence says nothing about how the job does.
    ended = next(
        (run for run in runs if not run.is_active and run.state != Run.State.SKIPPED), None
    )
    if ended is not None:
        return run_mark(ended)
    if job.next_due_at:
        return Mark(_t("Planned"), "clock", "is-quiet", calm=True)
    return Mark(_t("Never run"), "clock", "is-quiet", calm=True)


def _with_last_end(jobs: QuerySet[Job]) -> Any:
    """Return `jobs` with the state and id of the last run that really ended, as columns."""
    ended = Run.objects.filter(
        job=OuterRef("pk"), state__in=(Run.State.SUCCEEDED, *Run.UNHAPPY)
    ).order_by("-id")
    return jobs.annotate(
        last_end=Subquery(ended.values("state")[:1]), last_end_id=Subquery(ended.values("id")[:1])
    )


def _similar_name(wanted: str) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - only after a search without a hit

    names = list(Job.objects.values_list("name", flat=True)[:2000])
    # A whole name, or one word of it: "bakcup" means "nacht-backup".
    meant = {word: word for name in names for word in re.split(r"[\W_]+", name.lower()) if word}
    meant |= {name.lower(): name for name in names}
    close = get_close_matches(wanted.lower(), meant, n=1, cutoff=0.6)
    return meant[close[0]] if close else None


def _pager(wanted: Filter, page: int, pages: int) -> Context:
    return {
        "page": page,
        "pages": pages,
        "earlier": wanted.query(page=page - 1) if page > 1 else None,
        "later": wanted.query(page=page + 1) if page < pages else None,
    }


# ── The table of runs ────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class RunRow:
    """A run as a table shows it."""

    run: Run
    mark: Mark
    heading: str | None
    seconds: float | None
    why: str


def filtered_runs(wanted: Filter) -> QuerySet[Run]:
    """Return the runs a filter shows, newest first."""
    runs = Run.objects.all()
    groups = {"unhappy": Run.UNHAPPY, "active": Run.ACTIVE}
    if wanted.state in groups:
        runs = runs.filter(state__in=groups[wanted.state])
    elif wanted.state in Run.State.values:
        runs = runs.filter(state=wanted.state)
    if wanted.job:
        runs = runs.filter(job_id=wanted.job)
    if wanted.trigger in Run.Trigger.values:
        runs = runs.filter(trigger=wanted.trigger)
    return runs.order_by("-id")


@region("runs-table", topics=("runs",))
def runs_table(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return one page of runs up to the newest one the page knew; later ones announce themselves.

    `arg` is the query string of the filter.
    """
    wanted = Filter.read(arg)
    runs = filtered_runs(wanted)
    if wanted.until:
        runs = runs.filter(pk__lte=wanted.until)
    # Counting a long history costs more than showing it: one more row tells if there is a page.
    start = (wanted.page - 1) * RUNS_PER_PAGE
    found = list(runs[start : start + RUNS_PER_PAGE + 1])
    pages = wanted.page + (len(found) > RUNS_PER_PAGE)
    return {
        "filter": wanted,
        "rows": _run_rows(found[:RUNS_PER_PAGE], now, headings=True),
        "any": bool(found) or Run.objects.exists(),
        "next": _upcoming_jobs().first() if not found and not wanted.is_narrow else None,
        **_pager(wanted, wanted.page, pages),
    }


@region("runs-news", topics=("runs",))
def runs_news(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return how many runs came since the page was opened: they announce themselves."""
    wanted = Filter.read(arg)
    count = filtered_runs(wanted).filter(pk__gt=wanted.until or 0)[:100].count()
    return {"count": count, "query": wanted.query(until=None)}


def _run_rows(runs: Iterable[Run], now: datetime, *, headings: bool = False) -> list[RunRow]:
    here, language = timezone.get_current_timezone(), current_language()
    rows, last = [], ""
    for run in runs:
        heading = formats.day_heading(run.started_at or run.due_at, now, here, language)
        length = run.duration(now)
        rows.append(
            RunRow(
                run,
                run_mark(run),
                heading if headings and heading != last else None,
                length.total_seconds() if length and run.ended_at else None,
                why(run),
            )
        )
        last = heading
    return rows


# ── The machine ──────────────────────────────────────────────────────────────────────────────────
@region("gauges", topics=("health", "daemon", "policy", "presence"))
def five_gauges(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the five tiles: how each thing is that the health tick looks at."""
    return {"tiles": gauges.tiles(now, current_language())}


@dataclass(frozen=True)
class View:
    """What the system page shows: how far back, and of which checks the numbers as a table."""

    range: gauges.Range
    tables: tuple[str, ...] = ()

    @classmethod
    def read(cls, query: str | None) -> View:
        """Return the view a query string asks for; nonsense in it counts as nothing."""
        asked = parse_qs((query or "")[:500], max_num_fields=10)
        key = asked.get("range", [""])[-1]
        tables = [name for name in gauges.CHECKS if name in asked.get("table", [])]
        return cls(gauges.RANGES.get(key, gauges.RANGES[gauges.DEFAULT_RANGE]), tuple(tables))

    def query(self, *, range: str | None = None, table: str | None = None) -> str:  # noqa: A002
        """Return the query string of this view, with another range, or with one table more or less.

        It begins with "?", so that it is an address even when it asks for nothing.
        """
        tables = set(self.tables) ^ {table} if table else set(self.tables)
        pairs = [("range", range or self.range.key)]
        pairs += [("table", name) for name in gauges.CHECKS if name in tables]
        return "?" + urlencode(pairs)


@region("charts", topics=("health", "policy", "presence"))
def all_charts(viewer: Viewer, arg: str | None, now: datetime) -> Context:
    """Return the five charts on one axis of time; `arg` is the query string of the view."""
    view = View.read(arg)
    drawn = gauges.drawn(view.range, view.tables, now, current_language())
    return {
        "view": view,
        "drawn": drawn,
        "tables": {name: view.query(table=name) for name in gauges.CHECKS},
        "may_read_answers": viewer.may_manage,
    }


MOST_SPANS, MOST_DISPLACEMENTS = 12, 8


@dataclass(frozen=True)
class Span:
    """A time in which the machine was idle, or was not, and why."""

    idle: bool
    began_at: datetime
    ended_at: datetime | None
    reasons: Sequence[str]

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None while it does."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else None


@region("idle-log", topics=("health", "daemon", "presence"))
def idle_log(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return when the machine was idle and when not, the newest first, and today's sum."""
    node = gauges.host(now)
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    today = gauges.idle_times(node, midnight, now) if node else []
    seen_until = gauges.last_sign(node, now) if node else now
    begun = midnight.timestamp()
    of_host = IdleSpan.objects.filter(host=node.host if node else "")
    found = list(of_host[: MOST_SPANS + 1])
    return {
        "spans": [
            Span(
                each.idle,
                each.began_at,
                each.ended_at or (max(seen_until, each.began_at) if seen_until < now else None),
                idleness.sentences(each.reasons),
            )
            for each in found[:MOST_SPANS]
        ],
        "more": len(found) > MOST_SPANS,
        "idle_today": sum(ended - max(began, begun) for began, ended in today),
        "idle_after": Policy.current().idle_after_seconds,
    }


@region("displacements", topics=("runs", "health"))
def displacements(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return which runs made way for people, for what, and how fast they did."""
    midnight = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    newest = list(Displacement.objects.all()[:MOST_DISPLACEMENTS])
    return {
        "times": yield_times(),
        "today": Displacement.objects.filter(at__gte=midnight).count(),
        "rows": [(each, idleness.sentence(each.cause)) for each in newest],
    }


@region("machine", topics=("daemon", "health"))
def machine(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return who watches this machine, which program that is, and what its logs take."""
    node = gauges.host(now)
    newest = Snapshot.objects.newest(now, node.host) if node else None
    readings = newest.read() if newest else {}
    data = Path(settings.DATA_DIR)
    cluster = pidfile.holder(data / "cluster.pid")
    outputs = Run.objects.filter(output_removed=False).aggregate(
        kept=Sum(F("output_bytes") - F("dropped_bytes"))
    )
    return {
        "node": node,
        "others": Node.objects.exclude(pk=node.pk).order_by("host") if node else [],
        "alive": node is not None and node.is_alive(now),
        "cluster": cluster,
        "newest": newest,
        "tick": settings.TICK_SECONDS,
        "forecast": gauges.forecast(readings["disk"].facts, current_language())
        if "disk" in readings
        else "",
        "version": version("bach-daemon"),
        "output_bytes": outputs["kept"] or 0,
        "output_limit": Policy.current().keep_output_mb * 1_000_000,
        "log_bytes": _size_of(Path(settings.LOGS_DIR)),
        "database_bytes": sum(
            part.stat().st_size for part in data.glob("bach.sqlite3*") if part.is_file()
        ),
    }


def _size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder take; a file may go meanwhile."""
    found = 0
    for path in folder.glob("*"):
        with suppress(OSError):
            found += path.stat().st_size
    return found


# ── One job ──────────────────────────────────────────────────────────────────────────────────────
@region("job-head", topics=("job:{arg}", "runs", "policy", "incidents", "presence", "health"))
def job_head(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return a job's state and its next times; None when it was deleted."""
    job = _job(arg)
    if job is None:
        return None
    runs = latest_runs([job.pk]).get(job.pk, [])
    return {
        "job": job,
        "row": _job_row(job, runs, now),
        "has_choice": has_choice(job, now),
        "troubles": _troubles(job),
        "held": Policy.current().is_held,
    }


def has_choice(job: Job, now: datetime) -> bool:
    """Return whether a start now differs from one "all the same", which makes way for nobody."""
    if job.only_when_idle or job.on_presence != Job.Presence.CONTINUE:
        return True
    return gates.closed(job.needs(), Conditions.current(now)) is not None


@dataclass(frozen=True)
class Trouble:
    """Why a job can't start, or was switched off, and what to do about it."""

    tone: str
    words: str
    incident_id: int | None = None


def _troubles(job: Job) -> list[Trouble]:
    sizes = Pool.sizes()
    found = []
    for pool, need in sorted(job.pools.items()):
        size = sizes.get(pool)
        if size is None:
            words = _t("It can never start: there is no pool “%(pool)s” any more.")
        elif need > size:
            words = _t("It can never start: it needs %(need)s of pool “%(pool)s”, which has %(n)s.")
        else:
            continue
        found.append(Trouble("is-fail", words % {"pool": pool, "need": need, "n": size}))
    # The same is said of the pools as they are now, not as they were.
    incidents = job.incidents.filter(acknowledged_at=None).exclude(code="impossible")
    found += [
        Trouble("is-warn", str(incident), incident.pk)
        for incident in incidents.order_by("-at", "-id")[:3]
    ]
    return found


@region("job-facts", topics=("job:{arg}", "runs"))
def job_facts(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return how a job has been doing: the last thirty runs in numbers and bars."""
    job = _job(arg)
    if job is None:
        return None
    runs = latest_runs([job.pk]).get(job.pk, [])
    judged = [run for run in runs if run.state in (Run.State.SUCCEEDED, *Run.UNHAPPY)]
    good = sum(run.state == Run.State.SUCCEEDED for run in judged)
    lengths = [_seconds(run, now) for run in runs if run.started_at and run.ended_at]
    usual = job.median_duration()
    return {
        "job": job,
        "bars": bars(runs, now),
        "success": round(100 * good / len(judged)) if judged else None,
        "judged": len(judged),
        "median": usual.total_seconds() if usual else None,
        "longest": max(lengths, default=None),
        "total": Run.objects.filter(job=job).count(),
        "made_way": yield_times(job_id=job.pk),
    }


@region("job-next", topics=("job:{arg}", "runs", "policy"))
def job_next(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the next five times of a job."""
    job = _job(arg)
    if job is None:
        return None
    times = job.upcoming(now) if job.is_active else []
    return {"job": job, "times": times, "held": Policy.current().is_held}


@region("job-runs", topics=("job:{arg}", "runs"))
def job_runs(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return the newest runs of a job."""
    job = _job(arg)
    if job is None:
        return None
    found = list(Run.objects.filter(job=job).order_by("-id")[:16])
    return {"job": job, "rows": _run_rows(found[:15], now), "more": len(found) > 15}


def _job(arg: str | None) -> Job | None:
    number = _number(arg)
    return Job.objects.filter(pk=number).first() if number else None


# ── One run ──────────────────────────────────────────────────────────────────────────────────────
@region("run-head", topics=("run:{arg}",))
def run_head(viewer: Viewer, arg: str | None, now: datetime) -> Context | None:  # noqa: ARG001
    """Return a run's state, progress, attempts, times and end."""
    number = _number(arg)
    run = Run.objects.select_related("job").filter(pk=number).first() if number else None
    if run is None:
        return None
    length = run.duration(now)
    usual = run.job.median_duration() if run.state == Run.State.RUNNING else None
    seconds = usual.total_seconds() if usual else None
    tries = list(run.attempts.order_by("number"))
    return {
        "run": run,
        "mark": run_mark(run),
        "seconds": length.total_seconds() if length and run.ended_at else None,
        "late": run.started_at
        and run.started_at - run.due_at > timedelta(seconds=60)
        and run.trigger == Run.Trigger.SCHEDULE,
        "limit": run.definition.get("timeout_seconds"),
        "why": why(run),
        "way_out": way_out(run),
        "current": _now(run, seconds, run.definition.get("max_retries"), now),
        "why_last": "" if run.is_active else why_tried(run),
        "tries": _tries(run, tries, now),
        "axis": _axis(run, tries, now),
        "was_displaced": any(each.state == Attempt.DISPLACED for each in tries),
        "paused_at": tries[-1].ended_at
        if run.state == Run.State.QUEUED and tries and tries[-1].state == Attempt.DISPLACED
        else None,
        # Those that made room for it; its number is newer than theirs.
        "made_room": list(
            Run.objects.filter(job=run.job_id, blocking_run_id=run.pk, pk__lt=run.pk)
            .filter(pk__gte=run.pk - LOOKED_BACK)
            .values_list("pk", flat=True)[:5]
        ),
    }


LOOKED_BACK = 5000  # runs


@dataclass(frozen=True)
class Try:
    """An earlier attempt of a run as its page shows it."""

    attempt: Attempt
    mark: Mark
    why: str
    pause: Pause | None = None  # that followed, where it made way

    @property
    def seconds(self) -> float | None:
        """How long it took; None when it never began."""
        began = self.attempt.started_at
        return (self.attempt.ended_at - began).total_seconds() if began else None


@dataclass(frozen=True)
class Pause:
    """A time in which a run had made way: from when, for whom, and until when."""

    began_at: datetime
    ended_at: datetime | None  # None: it lasts
    why: str
    resumed: bool = False  # or else it ended, if it did

    @property
    def lasted(self) -> float:
        """How many seconds it lasted; 0 while it lasts."""
        return (self.ended_at - self.began_at).total_seconds() if self.ended_at else 0.0


@dataclass(frozen=True)
class Piece:
    """A part of a run's time axis, in per cent of it: a slice that ran, or a pause."""

    x: str
    width: str
    end: str
    outcome: str  # as in `OUTCOMES`, or "pause"


def _tries(run: Run, tries: Sequence[Attempt], now: datetime) -> list[Try]:
    """Return the earlier attempts, those that made way with the pause that followed."""
    began = [each.started_at for each in tries[1:]] + [run.started_at]
    made_way = {each.at: each for each in run.displaced.order_by("at")}
    found = []
    for attempt, next_began in zip(tries, began, strict=False):  # no tries: none of its own
        pause, told = None, why_tried(attempt)
        if attempt.state == Attempt.DISPLACED:
            until = next_began or (None if run.is_active else run.ended_at)
            # The newest sign of somebody before the end of this attempt is the one it made way to.
            signs = [at for at in made_way if at <= attempt.ended_at]
            row = made_way.pop(signs[-1]) if signs else None
            why = _cause(row.cause if row else attempt.reason_facts, now)
            pause, told = Pause(attempt.ended_at, until, why, next_began is not None), ""
        found.append(Try(attempt, state_mark(attempt.state), told, pause))
    return found


def _cause(cause: Any, now: datetime) -> str:
    """Return whose return it was, without full stop: "Diese Seiten werden benutzt: anna"."""
    code, facts = str(cause.get("code") or ""), cause.get("facts") or {}
    return reasons.sentence(code or "came_back", facts, now).rstrip(".")


def _axis(run: Run, tries: Sequence[Attempt], now: datetime) -> list[Piece]:
    """Return a displaced run's slices and pauses on one axis, from its first start to its end."""
    spans = [(each.started_at, each.ended_at, each.state) for each in tries]
    if run.started_at:
        spans.append((run.started_at, run.ended_at or now, run.state))
    known = [(start, end, state) for start, end, state in spans if start]
    if not known or all(state != Attempt.DISPLACED for _start, _end, state in known):
        return []
    first, last = known[0][0], now if run.is_active else known[-1][1]
    whole = max((last - first).total_seconds(), 0.001)
    pieces: list[Piece] = []
    for place, (start, end, state) in enumerate(known):
        outcome = "ok" if state == Attempt.DISPLACED else OUTCOMES.get(Run.State(state), "quiet")
        pieces.append(_piece(first, whole, start, end, outcome))
        until = known[place + 1][0] if place + 1 < len(known) else last
        if until > end:
            pieces.append(_piece(first, whole, end, until, "pause"))
    return pieces


def _piece(first: datetime, whole: float, start: datetime, end: datetime, outcome: str) -> Piece:
    x = 100 * (start - first).total_seconds() / whole
    width = max(100 * (end - start).total_seconds() / whole, 0.4)  # a short one is seen too
    x = min(x, 100 - width)
    return Piece(f"{x:.2f}%", f"{width:.2f}%", f"{x + width:.2f}%", outcome)


def why_tried(attempt: Attempt | Run) -> str:
    """Return why an attempt ended as it did, in a few words."""
    if attempt.signal and not attempt.reason_code:
        return _t("ended by signal %(signal)s") % {"signal": signal_name(attempt.signal)}
    if attempt.exit_code and attempt.reason_code in {"", "exit"}:
        return _t("exit code %(n)s") % {"n": attempt.exit_code}
    return attempt.reason


def why(run: Run) -> str:
    """Return the reason of a run's state in a few words; empty when there is nothing to say."""
    if run.is_stopping:
        who = run.stop_requested_by or "?"
        if run.stop_code:  # said by what stops it
            facts = {"run": run.blocking_run_id or "?", "who": who}
            return reasons.sentence(run.stop_code, facts)
        return _t("asked to stop by %(who)s") % {"who": who}
    if run.reason:
        return _missed(run) or _paused(run) or run.reason
    if run.signal:
        return _t("ended by signal %(signal)s") % {"signal": signal_name(run.signal)}
    if run.exit_code:
        return _t("exit code %(n)s") % {"n": run.exit_code}
    return ""


def _paused(run: Run) -> str:
    """Return when a run that made way goes on at the earliest; nothing of any other."""
    if run.reason_code != "displaced" or run.state != Run.State.QUEUED:
        return ""
    facts = {**run.reason_facts, "at": run.not_before}
    return reasons.sentence("waits_displaced", facts) if run.not_before > timezone.now() else ""


def _missed(run: Run) -> str:
    """Return how often a job was missed, with instants as people write them; else nothing."""
    facts, here, language = run.reason_facts, timezone.get_current_timezone(), current_language()
    if run.reason_code != "misfire_summary":
        return ""
    try:
        first, last = (datetime.fromisoformat(facts[key]) for key in ("first", "last"))
        spoken = {
            "count": formats.number(int(facts["count"]), language),
            "first": f"{formats.day(first, here, language)}, {first.astimezone(here):%H:%M}",
            "last": f"{formats.day(last, here, language)}, {last.astimezone(here):%H:%M}",
        }
    except (KeyError, TypeError, ValueError):
        return ""
    return reasons.sentence("misfire_summary", spoken)


def way_out(run: Run) -> str:
    """Return what to do about an unhappy end whose reason does not say it; else nothing."""
    if run.state == Run.State.TIMED_OUT:
        return _t("Raise the job's time limit, or find out in the output what took so long.")
    if run.reason_code in {"cpu_limit", "memory_limit"}:
        return _t("Raise the job's limit, or find out in the output what needed so much.")
    if run.state == Run.State.LOST:
        return _t("Check what the command has done, then start it again.")
    return ""


def signal_name(number: int) -> str:
    """Return "SIGTERM (15)"; the bare number for one this system does not know."""
    try:
        return f"{signals.Signals(number).name} ({number})"
    except ValueError:
        return str(number)


def current_language() -> str:
    """Return "de" or "en", whichever is active."""
    return "en" if (translation.get_language() or "de").startswith("en") else "de"


def _number(text: str | None) -> int | None:
    """Return a positive whole number that fits a primary key; None for anything else."""
    if text and text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0:
        return int(text)
    return None

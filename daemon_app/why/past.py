"""What was recorded of a run: while it waited, when it began, how it ended.

Everything here comes from rows that were written at the time. Where there is none, that is said.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from django.db.models import Q

from daemon_app import gates
from daemon_app.models import (
    Attempt,
    Displacement,
    Incident,
    Job,
    Policy,
    Run,
    Wait,
    reasons,
)
from daemon_app.models.run import ON_TIME
from daemon_app.scheduler import LAST_CHANCE
from daemon_app.why.answers import BLOCKED, INFO, OK, UNKNOWN, Event, Explanation, Rule
from daemon_app.why.words import LABELS, because, joined, say

# Occurrences of a job that are told as its history.
SHOWN = 10
# Times that a run waited, of all and for one thing: the newest.
WAITS_SHOWN = 20
# Of an occurrence that was missed: what happened to the daemon so long after it explains it.
AFTERWARDS = timedelta(minutes=5)
# That a run still waits for the same is noted about once a minute.
UNTIL_SEEN = timedelta(seconds=90)
# Which rule a recorded reason is about.
ABOUT: Final = {
    "misfire": "misfire",
    "misfire_many": "misfire",
    "misfire_summary": "misfire",
    "misfire_skip": "misfire",
    "too_old": "misfire",
    "caught_up": "misfire",
    "switched_off": "enabled",
    "rescheduled": "schedule",
    "deadline": "deadline",
    "overlap": "overlap",
    "overlap_unknown": "overlap",
    "superseded": "overlap",
    "replaced": "overlap",
    "held": "held",
    "queue_full": "turn",
    "waited_too_long": "longest_wait",
    "finish_by_skip": "finish_by",
    "gate_waived": "forced",
    "presence": "presence",
    "displaced": "presence",
    "displacing": "presence",
    "timed_out": "time_limit",
    "cpu_limit": "limits",
    "memory_limit": "limits",
    "cancelled": "stop",
    "service_stop": "daemon",
    "supervisor_gone": "supervisors",
    "never_begun": "daemon",
    # What a run waited for (the gates by their own names).
    "waits_held": "held",
    "waits_overlap": "overlap",
    "waits_pool": "pool",
    "waits_no_pool": "pool",
    "waits_impossible": "pool",
    "waits_turn": "turn",
    "waits_slots": "slots",
    "waits_retry": "later",
    "waits_spread": "later",
    "waits_displaced": "later",
    "waits_daemon": "daemon",
    "waits_service_down": "services",
    "waits_service_unknown": "services",
}


ENDINGS: Final = {"time_limit", "limits", "presence", "stop"}
# Rules without which nothing begins.
STARTS: Final = set(LABELS) - ENDINGS - {"misfire", "priority", "cluster", "chain", "storage"}
ASKED: Final = {"vram": "vram_mb", "disk": "disk_mb", "load": "load_percent"}


def of_ended_run(run: Run, now: datetime) -> Explanation:
    """Explain a run that has ended."""
    told = say(now, "was_due", at=run.due_at, why=outcome(run, now))
    if run.started_at is None and (last := run.waits.last()):
        told = joined(told, say(now, "last_waited", why=_then(last, now)))
    # Of its last chance its reason has told already.
    if run.reason_code != "gate_waived" and (code := forced_code(run)):
        told = joined(told, say(now, code, who=run.forced_by))
    return Explanation(
        run.state, told, recorded(run, now), tuple(events(run, now)), run.job_id, run.pk
    )


def _then(wait: Wait, now: datetime) -> str:
    """Return what a run waited for, as of the past and without full stop."""
    return reasons.past(wait.code, wait.facts, now).rstrip(".")


def recorded(run: Run, now: datetime) -> tuple[Rule, ...]:
    """Return every rule of a run, by what was recorded of it until now."""
    return tuple(Record(run, now).rules(LABELS))


def is_plain(run: Run) -> bool:
    """Return whether an ended run had one start, if any, and that in time."""
    begun = run.started_at
    return not run.attempts.exists() and (begun is None or begun - run.due_at < ON_TIME)


def of_nothing(job: Job, now: datetime, at: datetime, end: datetime) -> Explanation:
    """Say that nothing is recorded of `job` from `at` to `end` or before."""
    if end < job.created_at:
        told = say(now, "not_made_yet", at=at, made=job.created_at)
    else:
        days = job.keep_days or Policy.current().keep_days
        told = say(now, "nothing_before", at=at, days=days)
    rules = tuple(
        Rule(name, UNKNOWN, "not_recorded", say(now, "not_recorded"))
        for name in LABELS
        if name not in ENDINGS | {"forced"}
    )
    return Explanation("none", told, rules, (), job.pk, next_due_at=job.next_due_at)


def outcome(run: Run, now: datetime) -> str:
    """Return how a run stands or ended, without full stop: "Failure after 41 s. Exit code 3"."""
    why = because(now, run.reason_code, facts_of(run))
    label = str(run.get_state_display())
    label, lasted = label[:1].upper() + label[1:], run.duration(now)
    if run.ended_at is None or lasted is None:
        if why:
            return why  # it says what became of it
        if run.state not in {Run.State.SKIPPED, Run.State.MISSED}:
            return label
        return joined(f"{label}.", say(now, "unknown_reason").rstrip("."))
    if why.startswith(label):
        return why
    if run.state == Run.State.SUCCEEDED:
        told = say(now, "state_done", seconds=lasted.total_seconds())
    else:
        told = say(now, "state_ended", state=label, seconds=lasted.total_seconds())
    return reasons.one_dot(f"{told}. {why}") if why else told


def facts_of(run: Run) -> dict[str, Any]:
    """Return the facts of a run's reason, with those that stand in columns of their own."""
    facts = {"who": run.stop_requested_by or "?", **run.reason_facts}
    if run.blocking_run_id:
        facts.setdefault("run", run.blocking_run_id)
    if run.reason_code == "timed_out":
        facts.setdefault("seconds", run.definition.get("timeout_seconds"))
    return facts


def edited(run: Run, job: Job, now: datetime) -> str:
    """Return that a run keeps older rules than its job has by now; "" when it has the same."""
    if run.definition.get("version") in {None, job.version} or _keeps(run, job):
        return ""
    return say(now, "edited" if run.state == Run.State.QUEUED else "edited_running")


def _keeps(run: Run, job: Job) -> bool:
    """Return whether a run has what its job has by now, whatever else of the job was changed."""
    kept, wanted = dict(run.definition), job.definition()
    # What whoever queued the run, or displaced it, has written into its needs themselves.
    own = {"in_quiet_hours", "last_start", "finish_at", "zone"}
    if run.trigger not in {Run.Trigger.SCHEDULE, Run.Trigger.TICK}:
        own.add("finish_by")
    if run.displacements:
        own.add("idle")
    needs, asked = dict(run.needs), job.needs()
    for name in own:
        needs.pop(name, None)
        asked.pop(name, None)
    kept["version"] = wanted["version"]
    same = (kept, run.pools, needs) == (wanted, job.pools, asked)
    return same and run.priority == job.priority


def trigger(run: Run, now: datetime) -> Rule:
    """Return what a run was due by: its schedule, a person, the tick."""
    if run.trigger == Run.Trigger.SCHEDULE:
        code = "due_soon" if run.due_at > now else "due"
        return Rule("schedule", OK, code, say(now, code, at=run.due_at), {"at": run.due_at})
    facts = {"who": run.started_by, "at": run.due_at, "how": run.get_trigger_display()}
    code = "started_by" if run.started_by else "started_how"
    return Rule("schedule", OK, code, say(now, code, **facts), facts)


def priority(run: Run, now: datetime) -> Rule:
    """Return what a run's priority is, or was, and whether a person has put it in its place."""
    code, facts = "priority" if run.rank is None else "rank", {"n": run.priority}
    return Rule("priority", INFO, code, say(now, code, **facts), facts)


def forced_code(run: Run) -> str:
    """Return by which sentence a run was started against its conditions; "" for not at all."""
    if not run.forced_by:
        return ""
    last = run.reason_code == "gate_waived" or run.forced_by == LAST_CHANCE
    return "forced_last" if last else "forced"


def forced(run: Run, now: datetime) -> Rule:
    """Return whether the run was, or is to be, started whatever its conditions say."""
    if code := forced_code(run):
        facts = {"who": run.forced_by}
        return Rule("forced", INFO, code, say(now, code, **facts), facts)
    return Rule("forced", OK, "not_forced", say(now, "not_forced"))


# ── Rules, by what was recorded ──────────────────────────────────────────────────────────────────
@dataclass
class Record:
    """What was kept of a run."""

    run: Run
    now: datetime

    @cached_property
    def started(self) -> bool:
        """Whether it ever began."""
        return self.run.started_at is not None

    @cached_property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.run.state not in Run.ACTIVE

    @cached_property
    def waits(self) -> dict[str, list[Wait]]:
        """What it waited for, by the rule that is about it."""
        found: dict[str, list[Wait]] = {}
        for wait in self.run.waits.order_by("id"):
            found.setdefault(_about(wait.code), []).append(wait)
        return found

    @cached_property
    def at_start(self) -> dict[str, Mapping[str, Any]]:
        """What each gate said when it began."""
        return {str(each.get("gate")): each for each in self.run.start_readings}

    def rules(self, names: Iterable[str]) -> Iterator[Rule]:
        """Yield each of these rules.

        A rule of which nothing was kept did not keep a run that did begin; more is not known.
        """
        for name in names:
            found = self._by_reason(name) or self._by_columns(name) or self._by_readings(name)
            if found is not None:
                yield found
            elif self.started and name in STARTS:
                yield Rule(name, OK, "no_hindrance", say(self.now, "no_hindrance"))
            else:
                yield Rule(name, UNKNOWN, "not_recorded", say(self.now, "not_recorded"))

    @property
    def _state(self) -> str:
        """The state of what kept it: from starting at all, or for a while."""
        return BLOCKED if self.ended and not self.started else INFO

    def _by_reason(self, name: str) -> Rule | None:
        run = self.run
        if not self.ended or not run.reason_code or _about(run.reason_code) != name:
            return None
        facts = facts_of(run)
        told = reasons.sentence(run.reason_code, facts, self.now)
        if name == "overlap" and run.blocking_run_id:
            told = joined(told, self._blocking())
        return Rule(name, self._state, run.reason_code, told, facts)

    def _blocking(self) -> str:
        """Return when the run that was in its way ran, as far as that is still recorded."""
        other = Run.objects.filter(pk=self.run.blocking_run_id or 0).first()
        if self.run.reason_code != "overlap" or other is None or other.started_at is None:
            return ""
        facts = {"run": other.pk, "began": other.started_at, "ended": other.ended_at}
        if self.run.reason_facts.get("waited"):
            return say(self.now, "blocking_waited", **facts)
        return say(self.now, "blocking_ran" if other.ended_at else "blocking_runs", **facts)

    def _by_columns(self, name: str) -> Rule | None:
        known = {"schedule": trigger, "forced": forced, "priority": priority, "stop": stop}
        if name in known:
            return known[name](self.run, self.now)
        if name == "presence" and self.ended:
            facts = {"n": self.run.displacements}
            code = "presence_past" if self.run.displacements else "never_made_way"
            return Rule(name, INFO, code, say(self.now, code, **facts), facts)
        return self._delay() if name == "misfire" else None

    def _delay(self) -> Rule | None:
        """Return how late it began; None when it never did, or only with a later attempt."""
        run, now = self.run, self.now
        if run.reason_code == "caught_up":
            told = reasons.sentence(run.reason_code, run.reason_facts, now)
            return Rule("misfire", INFO, run.reason_code, told, run.reason_facts)
        if run.started_at is None or run.attempt > 1:
            return None
        facts = {"seconds": max((run.started_at - run.due_at).total_seconds(), 0.0)}
        return Rule("misfire", OK, "began_after", say(now, "began_after", **facts), facts)

    def _by_readings(self, name: str) -> Rule | None:
        waits, verdict = self.waits.get(name, []), self.at_start.get(name)
        if waits:
            last = waits[-1]
            more = len(waits) - WAITS_SHOWN
            told = [say(self.now, "more_waits", n=more)] if more > 0 else []
            told += [_waited(wait, self.now) for wait in waits[-WAITS_SHOWN:]]
            if verdict is not None:
                told.append(self._at_start(name, verdict).sentence)
            facts = {**last.facts, "began_at": last.began_at, "seen_at": last.seen_at}
            return Rule(name, self._state, last.code, " ".join(told), facts)
        if verdict is not None:
            return self._at_start(name, verdict)
        # Quiet hours concern whoever does not ask to be left out of them.
        asks = name == "quiet_hours" or bool(self.run.needs.get(ASKED.get(name, name)))
        if name in gates.GATES and self.run.needs and not asks:
            return Rule(name, OK, "not_asked", say(self.now, "not_asked"))
        return None

    def _at_start(self, name: str, verdict: Mapping[str, Any]) -> Rule:
        facts, code = verdict.get("facts") or {}, str(verdict.get("code"))
        state = OK if verdict.get("open") else INFO  # it began all the same
        told = say(self.now, "at_start", why=because(self.now, code, facts))
        return Rule(name, state, code, told, facts)


def stop(run: Run, now: datetime) -> Rule:
    """Return whether somebody has asked the run to stop."""
    if run.stop_requested_at is None:
        return Rule("stop", OK, "no_stop", say(now, "no_stop"))
    facts = {"who": run.stop_requested_by, "at": run.stop_requested_at}
    code = "stop" if run.stop_requested_by else "stop_us"
    return Rule("stop", INFO, code, say(now, code, **facts), facts)


def _about(code: str) -> str:
    """Return the rule that a recorded code is about; "" when it is about none."""
    if found := ABOUT.get(code):
        return found
    kind, _line, rest = code.partition("_")
    names = (name for name in gates.GATES if rest == name or rest.startswith(f"{name}_"))
    return next(names, "") if kind in {"waits", "gate"} else ""


def _waited(wait: Wait, now: datetime) -> str:
    return say(now, "waited", began=wait.began_at, seen=wait.seen_at, why=_then(wait, now))


# ── Then ─────────────────────────────────────────────────────────────────────────────────────────
def occurrence(job: Job, at: datetime) -> Run | None:
    """Return the run of what was due at `at`, or else last before it; None when there is none."""
    runs = Run.objects.filter(job=job)
    # A row may stand for many instants that were missed: from its first to its own.
    many = runs.filter(due_at__gte=at, reason_code="misfire_summary").order_by("due_at")[:SHOWN]
    within = next((each for each in many if _first_of(each, at) <= at), None)
    last = within or runs.filter(due_at__lte=at).order_by("-due_at", "-id").first()
    if last is None or at - last.due_at < ON_TIME or last.ended_at is None or last.ended_at > at:
        return last
    # One that was due earlier may have lasted until then.
    lasted = runs.filter(due_at__lte=at).exclude(ended_at__lte=at).order_by("-due_at", "-id")
    return lasted.first() or last


def _first_of(run: Run, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(run.reason_facts["first"])
    except (KeyError, TypeError, ValueError):
        return otherwise + timedelta.resolution


def state_at(run: Run, at: datetime, now: datetime, end: datetime | None = None) -> str:
    """Return what was recorded of a run at `at`, between its due time and its end, if anything.

    With `end` whatever was so at some time until then counts.
    """
    end = end or at
    if run.ended_at is not None and run.ended_at <= at:
        return say(now, "nothing_at", at=at, due=run.due_at)
    tries = list(run.attempts.order_by("number"))
    spans = [(each.started_at, each.ended_at) for each in tries]
    for began, ended in [*spans, (run.started_at, run.ended_at or now)]:
        if began and began <= end and at <= ended:
            return say(now, "was_running", at=at, run=run.pk, began=began)
    before = next((each for each in reversed(tries) if each.ended_at <= end), None)
    last = run.waits.filter(began_at__lte=end).order_by("-id").first()
    waited = last if last is not None and at <= last.seen_at + UNTIL_SEEN else None
    code, facts = "was_waiting", {"at": at, "run": run.pk}
    if before is not None and before.state == before.DISPLACED:
        why = why_displaced(before, now)
        code = "was_paused" if why else "was_paused_somehow"
        told = say(now, code, **facts, since=before.ended_at, why=why)
        if waited is None or waited.code == "waits_displaced":
            return told
        return joined(told, reasons.past(waited.code, waited.facts, now))
    if waited is not None:
        code, facts["why"] = "was_waiting_for", _then(waited, now)
    elif before is not None:
        code, facts["n"] = "was_waiting_after", before.number
        facts["why"] = (before.reason or before.get_state_display()).rstrip(".")
    return say(now, code, **facts)


def why_displaced(attempt: Attempt, now: datetime) -> str:
    """Return for whom a slice made way, without full stop; "" when that was not recorded."""
    cause = attempt.reason_facts if attempt.reason_code == "displaced" else {}
    if not cause.get("code"):
        # Of a slice whose row says something else: the displacement that fell into it.
        made_way = Displacement.objects.filter(run=attempt.run_id, at__lte=attempt.ended_at)
        if attempt.started_at:
            made_way = made_way.filter(at__gte=attempt.started_at)
        newest = made_way.order_by("-at").first()
        cause = newest.cause if newest else {}
    return because(now, str(cause.get("code") or ""), cause.get("facts") or {})


# ── History ──────────────────────────────────────────────────────────────────────────────────────
def latest(job: Job, now: datetime) -> list[Run]:
    """Return the newest runs of a job that were due by `now`, those due last first.

    The newest by number, which an index knows, are the newest by time or near to them.
    """
    newest = Run.objects.filter(job=job, due_at__lte=now).order_by("-id")[: 5 * SHOWN]
    return sorted(newest, key=lambda run: (run.due_at, run.pk), reverse=True)


def occurrences(job: Job, now: datetime) -> Iterator[Event]:
    """Yield a job's newest occurrences, the newest first."""
    for run in latest(job, now)[:SHOWN]:
        told = say(now, "was_due", at=run.due_at, why=outcome(run, now))
        code = run.reason_code or run.state
        yield Event(run.due_at, code, told, run.ended_at, run.pk, facts_of(run))


def events(run: Run, now: datetime) -> list[Event]:
    """Return what was recorded of a run, in the order in which it happened."""
    how = run.get_trigger_display()
    found = [Event(run.queued_at, "queued", say(now, "queued", how=how), run_id=run.pk)]
    found += _waits(run, now)
    made_way = list(run.displaced.all())
    for attempt in run.attempts.all():
        # Of one that made way its displacement says more.
        if attempt.state == attempt.DISPLACED and made_way:
            continue
        why = (attempt.reason or attempt.get_state_display()).rstrip(".")
        told = say(now, "attempt", n=attempt.number, why=why)
        began = attempt.started_at or attempt.ended_at
        code = attempt.reason_code or attempt.state
        found.append(Event(began, code, told, attempt.ended_at, run.pk, attempt.reason_facts))
    for each in made_way:
        cause = each.cause.get("facts") or {}
        why = because(now, str(each.cause.get("code") or ""), cause)
        why = why or reasons.sentence("came_back", {}, now)
        facts = {"seconds": each.yielded_seconds, "slice_seconds": each.slice_seconds}
        code = "made_way" if each.yielded_seconds is None else "made_way_in"
        told = say(now, code, why=why, **facts)
        found.append(Event(each.at, "displaced", told, None, run.pk, {**each.cause, **facts}))
    if run.started_at:
        found.append(Event(run.started_at, "began", say(now, "began"), run.ended_at, run.pk))
    if run.ended_at:
        told = say(now, "ended", why=outcome(run, now))
        code = run.reason_code or run.state
        found.append(Event(run.ended_at, code, told, None, run.pk, facts_of(run)))
    if run.state == Run.State.MISSED:
        found += _meanwhile(run)
    return sorted(found, key=lambda event: event.at)


def _waits(run: Run, now: datetime) -> Iterator[Event]:
    """Yield what a run waited for: the newest, and before them how many there were."""
    newest = list(run.waits.order_by("-id")[:WAITS_SHOWN])
    if len(newest) == WAITS_SHOWN and (more := run.waits.count() - WAITS_SHOWN) > 0:
        first = run.waits.order_by("id")[0]
        told = say(now, "more_waits", n=more)
        yield Event(first.began_at, "more_waits", told, newest[-1].began_at, run.pk, {"n": more})
    for wait in reversed(newest):
        lasts = run.state == Run.State.QUEUED and wait is newest[0]
        told = (reasons.sentence if lasts else reasons.past)(wait.code, wait.facts, now)
        yield Event(wait.began_at, wait.code, told, wait.seen_at, run.pk, wait.facts)


def _meanwhile(run: Run) -> Iterator[Event]:
    """Yield what happened to the daemon while nothing was there to start an occurrence."""
    until = (run.ended_at or run.queued_at) + AFTERWARDS
    happened = Incident.objects.filter(at__gte=run.due_at, at__lte=until).order_by("at")
    for incident in happened.filter(Q(job=None) | Q(job=run.job_id))[:SHOWN]:
        yield Event(incident.at, incident.code, str(incident), None, None, incident.facts)

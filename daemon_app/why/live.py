"""What keeps a job or a waiting run just now, and what would end a running one."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from daemon_app import admission, gates, notices, pidfile, skills, windows
from daemon_app.broker import oldest_messages
from daemon_app.gates.conditions import Conditions
from daemon_app.models import Job, Node, Policy, Run, reasons
from daemon_app.models.job import fault_of
from daemon_app.models.run import ON_TIME
from daemon_app.schedules import ScheduleError
from daemon_app.why.answers import BLOCKED, IMPOSSIBLE, INFO, OK, UNKNOWN, Explanation, Rule
from daemon_app.why.past import (
    ENDINGS,
    Record,
    edited,
    events,
    facts_of,
    forced,
    forced_code,
    latest,
    occurrences,
    outcome,
    priority,
    stop,
    trigger,
)
from daemon_app.why.words import LABELS, bach, because, joined, say

MOST_BESIDES = 3
# What holds a start of whatever job; a job that is not due yet is told of these.
OF_ALL: Final = ("database", "daemon", "held", "clock", "supervisors")
# Conditions that go by what the daemon measures.
MEASURED: Final = {"idle", "services", "vram", "disk"}
OF_POOLS: Final = {"waits_no_pool", "waits_impossible", "waits_pool"}


@dataclass
class Scene:
    """A job, or a run of it, and all that is looked at to explain it, each looked at once."""

    job: Job
    run: Run | None
    now: datetime

    @cached_property
    def policy(self) -> Policy:
        """The rules for all jobs."""
        return Policy.current()

    @cached_property
    def node(self) -> Node | None:
        """The daemon that spoke last."""
        return Node.latest()

    @cached_property
    def notices(self) -> dict[str, notices.Notice]:
        """What a person is told just now, by code."""
        return {notice.code: notice for notice in reversed(notices.current(self.now))}

    @cached_property
    def room(self) -> tuple[admission.Room, dict[int, int]]:
        """What is taken, and the newest running run of each job."""
        return admission.current_room(self.now)

    @cached_property
    def waiting(self) -> admission.Waiting | None:
        """What the line says of the run."""
        return admission.waiting(self.run, self.now) if self.run else None

    @cached_property
    def daemon(self) -> Rule:
        """Whether the daemon is there."""
        return _daemon(self)

    @property
    def is_alone(self) -> bool:
        """Whether no daemon looks after anything."""
        return self.daemon.state == BLOCKED

    @cached_property
    def conditions(self) -> Conditions:
        """What is true of the machine."""
        room, _running = self.room
        return room.conditions or Conditions.current(self.now)

    @cached_property
    def needs(self) -> dict[str, Any]:
        """What the run needs, or one that were started."""
        needs: dict[str, Any] = self.run.needs if self.run else self.job.needs()
        if self.run:
            return needs
        return {**needs, "in_quiet_hours": True} if self.job.is_by_hand_alone else needs

    @cached_property
    def verdicts(self) -> dict[str, gates.Verdict]:
        """What the gates say just now, by name."""
        room, _running = self.room
        reserved = sum(
            mb for pk, mb in room.of_vram.items() if self.run is None or pk != self.run.pk
        )
        conditions = replace(self.conditions, reserved_vram_mb=reserved)
        return {each.gate: each for each in gates.verdicts(self.needs, conditions)}

    def say(self, code: str, **facts: Any) -> str:
        """Return a sentence of ours."""
        return say(self.now, code, **facts)

    def rule(self, name: str, state: str, code: str, **facts: Any) -> Rule:
        """Return a rule with a sentence of ours."""
        return Rule(name, state, code, self.say(code, **facts), facts)

    def reason(self, name: str, state: str, code: str, facts: Mapping[str, Any]) -> Rule:
        """Return a rule with a sentence of `reasons`."""
        return Rule(name, state, code, reasons.sentence(code, facts, self.now), facts)


def of_quiet_job(scene: Scene) -> Explanation:
    """Explain a job of which nothing waits or runs."""
    job, now = scene.job, scene.now
    schedule = _schedule(scene)
    rules = (
        _enabled(scene),
        _held(scene),
        schedule,
        _deadline(scene),
        _misfire(scene),
        scene.rule("later", OK, "no_pause"),
        scene.rule("overlap", OK, "no_overlap"),
        _pool(scene),
        scene.rule("turn", INFO, "turn_none"),
        _slots(scene),
        scene.rule("priority", INFO, "priority", n=job.priority),
        *_gates(scene),
        _longest_wait(scene),
        *_system(scene),
    )
    state = _state_of(job, schedule)
    last = next(iter(latest(job, now)), None)
    found = Explanation(state, "", rules, tuple(occurrences(job, now)), job.pk)
    blockers = [
        rule
        for rule in found.blockers
        if rule.name in {"enabled", *OF_ALL} or rule.code in IMPOSSIBLE or rule is schedule
    ]
    others = [rule for rule in blockers if rule is not schedule]
    if state == "overdue" and job.next_due_at:
        told = joined(schedule.sentence, _sentence(scene, others))
        if not others:
            told = _soon(scene, job.next_due_at, job.next_due_at, rules)
    else:
        told = _sentence(scene, [schedule, *others] if state in FIRST else blockers)
    if job.skill and state == "scheduled":
        shut = (rule.sentence for rule in rules if rule.name in gates.GATES and rule.state == INFO)
        told = joined(told, next(shut, ""))
    if last is not None and (job.skill or last.state in UNHAPPY):
        told = joined(told, scene.say("last_time", at=last.due_at, why=outcome(last, now)))
    return replace(found, sentence=told, next_due_at=job.next_due_at)


# Ends that are told with the next start.
UNHAPPY: Final = {*Run.UNHAPPY, Run.State.SKIPPED, Run.State.MISSED}
# States of a job of which its schedule is the first thing to say.
FIRST: Final = {"scheduled", "manual", "over"}


def _state_of(job: Job, schedule: Rule) -> str:
    if not job.is_active:
        return "off"
    same = {"broken", "manual", "overdue"}
    if schedule.code in same:
        return schedule.code
    return "scheduled" if schedule.code in {"next", "skill", "skill_due"} else "over"


def of_waiting_run(scene: Scene) -> Explanation:
    """Explain a run that stands in line."""
    run, now = scene.run, scene.now
    assert run is not None
    rules = (
        _enabled(scene),
        _held(scene),
        _schedule(scene),
        _deadline(scene),
        _misfire(scene),
        _later(scene),
        _overlap(scene),
        _pool(scene),
        _turn(scene),
        _slots(scene),
        priority(run, now),
        *_gates(scene),
        _longest_wait(scene),
        *_system(scene),
        forced(run, now),
    )
    history = tuple(events(run, now))
    found = Explanation("waiting", "", rules, history, run.job_id, run.pk, scene.job.next_due_at)
    told = _sentence(scene, found.blockers) or _soon(scene, run.due_at, run.not_before, rules)
    told = joined(_too_late(scene), told, edited(run, scene.job, now))
    return replace(found, sentence=told)


def _too_late(scene: Scene) -> str:
    """Return what becomes of a run whose last chance comes before it may start; "" for others."""
    run = scene.run
    assert run is not None
    until = run.expires_at
    if until is None or run.forced_by:
        return ""
    opens = [run.not_before]
    for name in ("window", "quiet_hours"):
        verdict = scene.verdicts.get(name)
        if verdict is not None and not verdict.open:
            with suppress(KeyError, TypeError, ValueError):
                opens.append(datetime.fromisoformat(str(verdict.facts["until"])))
    if max(opens) < until:
        return ""
    runs = run.needs.get("action") == Job.GateAction.RUN and until != scene.job.deadline
    code = "will_be_waived" if runs else "will_be_skipped"
    return scene.say(code, at=until, opens=max(opens))


def of_running_run(scene: Scene) -> Explanation:
    """Explain a run whose command runs: why it does, and what would end it."""
    run, now = scene.run, scene.now
    assert run is not None
    seen = [_enabled(scene), _held(scene), _schedule(scene)]
    seen += [*Record(run, now).rules(_of_the_run()), *_system(scene), *_endings(scene)]
    # Whatever would keep it from starting: it has started.
    rules = tuple(replace(each, state=INFO) if each.state == BLOCKED else each for each in seen)
    told = scene.say("stopping" if run.is_stopping else "running", at=run.started_at)
    told = joined(told, scene.say("unseen") if scene.is_alone else "", trigger(run, now).sentence)
    if run.reason_code and run.reason_code != "gate_waived":  # it makes way, takes long, came late
        told = joined(told, reasons.sentence(run.reason_code, facts_of(run), now))
    last = run.waits.filter(began_at__lte=run.started_at or now).last()
    if last is not None:
        why = reasons.past(last.code, last.facts, now).rstrip(".")
        told = joined(told, scene.say("waited_for", why=why))
    if code := forced_code(run):
        told = joined(told, scene.say(code, who=run.forced_by))
    told = joined(told, edited(run, scene.job, now))
    history = tuple(events(run, now))
    return Explanation("running", told, rules, history, run.job_id, run.pk, scene.job.next_due_at)


def _soon(scene: Scene, due_at: datetime, since: datetime, rules: Sequence[Rule]) -> str:
    """Return what is said where nothing keeps it: it starts now, or nobody knows why not."""
    if scene.now - since <= ON_TIME:
        return scene.say("starting", at=due_at)
    perhaps = [rule.brief for rule in rules if rule.name in {"cluster", "storage"} and rule.brief]
    return joined(scene.say("puzzling", at=due_at, bach=bach("doctor")), *perhaps)


def _sentence(scene: Scene, blockers: Sequence[Rule]) -> str:
    """Return the first one's sentence, and those of the next as well; "" for none."""
    told = [rule.brief or rule.sentence for rule in blockers]
    if len(told) < 2:
        return "".join(told)
    # What is left is counted, unless it is no longer than the count.
    more = told[1:] if len(told) == MOST_BESIDES + 2 else told[1 : 1 + MOST_BESIDES]
    if left := len(told) - 1 - len(more):
        more.append(scene.say("more_besides", n=left))
    return joined(told[0], scene.say("besides", more=" ".join(more)))


# ── Rules, each with its reading of now ──────────────────────────────────────────────────────────
def _enabled(scene: Scene) -> Rule:
    job = scene.job
    if job.is_active:
        return scene.rule("enabled", OK, "enabled")
    if scene.run is not None:
        waits = scene.run.state == Run.State.QUEUED
        return scene.rule("enabled", INFO, "disabled_waiting" if waits else "disabled_running")
    if job.paused_until:
        pause = {"at": job.paused_until, "who": job.paused_by or "?", "note": job.pause_note}
        code = "paused_note" if job.pause_note else "paused"
        return scene.rule("enabled", BLOCKED, code, **pause)
    facts = {"at": job.updated_at, "who": job.updated_by}
    brief = scene.say("disabled")
    told = joined(brief, scene.say("changed", **facts)) if job.updated_by else brief
    return Rule("enabled", BLOCKED, "disabled", told, facts, brief)


def _held(scene: Scene) -> Rule:
    policy = scene.policy
    if not policy.is_held:
        return scene.rule("held", OK, "not_held")
    facts = {"who": policy.held_by or "?", "since": policy.held_at, "note": policy.hold_note}
    return scene.rule("held", BLOCKED, "held_note" if policy.hold_note else "held", **facts)


def _schedule(scene: Scene) -> Rule:
    if scene.run is not None:
        return trigger(scene.run, scene.now)
    code, facts = _due_by_skill(scene) if scene.job.skill else _due(scene.job, scene.now)
    # Of a job that is off it is no more than good to know, unless it can't be read.
    blocks = scene.job.is_active or code == "broken"
    return scene.rule("schedule", BLOCKED if blocks else INFO, code, **facts)


def _due(job: Job, now: datetime) -> tuple[str, dict[str, Any]]:
    """Return by which sentence a job is due, or why it is not."""
    error = job.schedule_fault
    try:
        # Asked in any case: it may have become unreadable since a tick last looked at it.
        planned = job.next_after(now)
        due = job.next_due_at if job.is_active else planned
    except ScheduleError as broken:
        error, due = fault_of(broken), None
    facts = {"at": due, "plan": job.describe()}
    if error:
        code, facts = "broken", {"error": error}
    elif job.job_type == Job.Kind.MANUAL:
        code, facts = "manual", {}
    elif due is None and job.deadline and job.deadline <= now:
        code, facts = "past_deadline", {"at": job.deadline}
    elif due is None:
        code = _over(job)
    elif not job.is_active:  # nothing is due; what stands in its plan is still good to know
        code = "planned"
    else:
        code = "overdue" if due <= now else "next"
    return code, facts


def _over(job: Job) -> str:
    """Return by which sentence a job has no start left."""
    if job.job_type != Job.Kind.ONCE:
        return "never"
    by_plan = Run.objects.filter(job=job, trigger=Run.Trigger.SCHEDULE).order_by("-due_at").first()
    ran = by_plan is not None and by_plan.state == Run.State.SUCCEEDED
    return "once_ran" if ran else "once_done"


def _due_by_skill(scene: Scene) -> tuple[str, dict[str, Any]]:
    """Return the same of a job that a skill starts by its own rules."""
    job, now = scene.job, scene.now
    if job.schedule_error:
        return "broken", {"error": job.schedule_fault}
    skills.load()
    at = scene.conditions
    for each, why in skills.due(at.readings, at.idle, now):
        if each.pk == job.pk:
            return "skill_due", {"why": because(now, why.code, why.facts)}
    return "skill", {"plan": job.describe()}


def _deadline(scene: Scene) -> Rule:
    run, job = scene.run, scene.job
    if run is not None and run.expires_at is not None:
        code = "expires_run" if run.needs.get("action") == Job.GateAction.RUN else "expires"
        if job.deadline == run.expires_at:
            code = "expires"  # a deadline is never waived
        return scene.rule("deadline", INFO, code, at=run.expires_at)
    if job.deadline is None:
        return scene.rule("deadline", OK, "no_deadline")
    if run is None and job.deadline <= scene.now:
        return scene.rule("deadline", INFO, "past_deadline", at=job.deadline)
    return scene.rule("deadline", INFO, "deadline", at=job.deadline)


def _misfire(scene: Scene) -> Rule:
    run, job = scene.run, scene.job
    if run is not None and run.reason_code == "caught_up":
        return scene.reason("misfire", INFO, run.reason_code, run.reason_facts)
    code = "misfire_none" if job.misfire == Job.Misfire.SKIP else f"misfire_{job.misfire}"
    return scene.rule("misfire", INFO, code, seconds=job.misfire_age_seconds)


def _later(scene: Scene) -> Rule:
    waits = scene.waiting
    if waits is None or waits.position is not None:
        return scene.rule("later", OK, "no_pause")
    run = waits.run
    # Put back without an attempt: the disk was full, or the clock was far ahead once.
    if run.attempt == 1 and run.reason_code not in {"caught_up", "spread"}:
        return scene.rule("later", BLOCKED, "not_before", at=run.not_before)
    return scene.reason("later", BLOCKED, waits.code, waits.facts)


def _overlap(scene: Scene) -> Rule:
    run, job, waits = scene.run, scene.job, scene.waiting
    assert run is not None
    room, running = scene.room
    active = room.of_job[job.pk]
    facts = {"n": active, "limit": job.max_instances, "run": running.get(job.pk)}
    if waits is not None and waits.code == "waits_overlap" and active < job.max_instances:
        return scene.reason("overlap", BLOCKED, waits.code, {**facts, **waits.facts})
    if not active:
        return scene.rule("overlap", OK, "no_overlap")
    if run.beside:
        return scene.rule("overlap", OK, "beside", **facts)
    if active < job.max_instances:
        return scene.rule("overlap", OK, "overlap_room", **facts)
    if job.max_instances == 1:
        return scene.reason("overlap", BLOCKED, "waits_overlap", facts)
    return scene.rule("overlap", BLOCKED, "overlap_active", **facts)


def _pool(scene: Scene) -> Rule:
    waits = scene.waiting
    if waits is not None and waits.code in OF_POOLS:
        return scene.reason("pool", BLOCKED, waits.code, waits.facts)
    room, _running = scene.room
    pools = scene.run.pools if scene.run else scene.job.pools
    if not pools:
        return scene.rule("pool", OK, "no_pool")
    for pool, need in pools.items():
        if lacking := _lacking(room, pool, need):
            if scene.run is None and lacking.code not in IMPOSSIBLE:
                return _if_now(scene, "pool", lacking.code, lacking.facts)
            return scene.reason("pool", BLOCKED, lacking.code, lacking.facts)
    told = ", ".join(f"{pool} {need}/{room.sizes[pool]}" for pool, need in pools.items())
    return scene.rule("pool", OK, "pool_free", pools=told)


def _lacking(room: admission.Room, pool: str, need: int) -> admission.Blocked | None:
    """Return what a pool lacks for a run that needs so much of it."""
    size = room.sizes.get(pool)
    if size is None:
        return admission.Blocked("waits_no_pool", {"pool": pool})
    free = max(size - room.of_pool[pool], 0)
    facts = {"pool": pool, "need": need, "free": free, "size": size}
    if need > size:
        return admission.Blocked("waits_impossible", facts)
    return admission.Blocked("waits_pool", facts) if need > free else None


def _turn(scene: Scene) -> Rule:
    waits = scene.waiting
    if waits is None or waits.position is None:
        return scene.rule("turn", INFO, "turn_none")
    if waits.code == "waits_turn":
        return scene.reason("turn", BLOCKED, waits.code, {**waits.facts, "n": waits.position})
    if waits.position == 1:
        return scene.rule("turn", OK, "turn_first", n=1)
    return scene.rule("turn", INFO, "turn", n=waits.position)


def _slots(scene: Scene) -> Rule:
    room, _running = scene.room
    waits, facts = scene.waiting, {"taken": room.taken, "n": room.parallel}
    if room.taken >= room.parallel and scene.run is not None:
        return scene.reason("slots", BLOCKED, "waits_slots", facts)
    if waits is not None and waits.code == "waits_slots":
        return scene.rule("slots", BLOCKED, "slots_ahead", **facts)
    return scene.rule("slots", OK if room.taken < room.parallel else INFO, "slots", **facts)


def _gates(scene: Scene) -> Iterator[Rule]:
    run = scene.run
    for name in gates.GATES:
        verdict = scene.verdicts.get(name)
        if verdict is None:
            code = "no_quiet_hours" if name == "quiet_hours" else "not_asked"
            yield scene.rule(name, OK, code)
        elif run is not None and (code := forced_code(run)):
            waived = "waived" if code == "forced" else "waived_last"
            yield scene.rule(name, INFO, waived, who=run.forced_by)
        elif name == "quiet_hours" and _never_both(scene):
            yield scene.rule(name, BLOCKED, "never_both", **verdict.facts)
        elif verdict.open:
            yield scene.reason(name, OK, verdict.code, verdict.facts)
        elif name in MEASURED and verdict.code.endswith("_unknown") and scene.is_alone:
            # Without a daemon nobody looks: that it is not known is no reason of its own.
            yield scene.reason(name, UNKNOWN, verdict.code, verdict.facts)
        elif run is not None or verdict.code in IMPOSSIBLE:
            yield scene.reason(name, BLOCKED, verdict.code, verdict.facts)
        else:
            yield _if_now(scene, name, verdict.code, verdict.facts)


def _never_both(scene: Scene) -> bool:
    """Return whether its own times lie wholly in the quiet hours, which may be younger than it."""
    needs = scene.needs
    if not needs.get("window") or needs.get("in_quiet_hours"):
        return False
    try:
        own = windows.parse(needs["window"], needs.get("zone") or settings.TIME_ZONE)
        quiet = windows.parse(scene.policy.quiet_hours, settings.TIME_ZONE)
    except (windows.WindowError, ScheduleError):
        return False
    return not own.opens_outside(quiet, scene.now)


def _if_now(scene: Scene, name: str, code: str, facts: Mapping[str, Any]) -> Rule:
    """Return what would keep a run if one were started now: nobody waits for it yet."""
    why = because(scene.now, code, facts)
    return Rule(name, INFO, code, scene.say("if_now", why=why), facts)


def _longest_wait(scene: Scene) -> Rule:
    run = scene.run
    kept = run.definition.get("max_wait_seconds") if run else scene.job.max_wait_seconds
    if not kept:
        return scene.rule("longest_wait", OK, "no_longest_wait")
    return scene.rule("longest_wait", INFO, "longest_wait", seconds=kept)


def _of_the_run() -> Iterator[str]:
    """Yield the rules of a running run that go by what was recorded when it began."""
    done = {"enabled", "held", "schedule", *SYSTEM, *ENDINGS}
    yield from (name for name in LABELS if name not in done)


# What holds for the whole installation.
SYSTEM: Final = ("chain", "daemon", "supervisors", "cluster", "database", "storage", "clock")


def _system(scene: Scene) -> Iterator[Rule]:
    yield scene.rule("chain", OK, "no_chain")
    yield scene.daemon
    yield _alarm(scene, "supervisors", BLOCKED, "supervisors_failing")
    yield _cluster(scene)
    yield _alarm(scene, "database", BLOCKED, "database_locked", "database_failing")
    yield _alarm(scene, "storage", INFO, "disk_full")
    # The clock holds what is due; what waits in line already may start.
    state = INFO if scene.run else BLOCKED
    yield _alarm(scene, "clock", state, "clock_behind")


def _daemon(scene: Scene) -> Rule:
    node = scene.node
    process = pidfile.holder(Path(settings.DATA_DIR) / "daemon.pid")
    start = bach("start --bg")
    if node is None:
        brief = scene.say("daemon_gone_brief")
        told = scene.say("daemon_never", bach=start)
        return Rule("daemon", BLOCKED, "daemon_never", told, brief=brief)
    facts: dict[str, Any] = {"host": node.host, "at": node.seen_at}
    for code in ("daemon_away", "daemon_silent"):
        if notice := scene.notices.get(code):
            brief = f"{notice.title}."
            return Rule("daemon", BLOCKED, code, f"{brief} {notice.text}", facts, brief)
    # It ended less than a heartbeat ago, and nobody has remarked on it yet.
    if process is None and node.host == socket.gethostname():
        brief = scene.say("daemon_gone_brief")
        told = scene.say("daemon_gone", bach=start)
        return Rule("daemon", BLOCKED, "daemon_gone", told, facts, brief)
    return scene.rule("daemon", OK, "daemon", **facts)


def _cluster(scene: Scene) -> Rule:
    if "cluster_silent" in scene.notices and not scene.is_alone:
        return _alarm(scene, "cluster", INFO, "cluster_silent")
    process = pidfile.holder(Path(settings.DATA_DIR) / "cluster.pid")
    if process is None:
        return scene.rule("cluster", INFO, "cluster_gone_too" if scene.is_alone else "cluster_gone")
    waiting = len(oldest_messages())
    told = scene.say("cluster", pid=process.pid)
    if waiting:
        told = joined(told, scene.say("cluster_waits", n=waiting))
    return Rule("cluster", OK, "cluster", told, {"pid": process.pid, "messages": waiting})


def _alarm(scene: Scene, name: str, state: str, *codes: str) -> Rule:
    for code in codes:
        if notice := scene.notices.get(code):
            brief = f"{notice.title}."
            facts = {"since": notice.since}
            return Rule(name, state, code, f"{brief} {notice.text}", facts, brief)
    return scene.rule(name, OK, name)


def _endings(scene: Scene) -> Iterator[Rule]:
    """Yield what would end a run that runs."""
    run = scene.run
    assert run is not None
    kept = run.definition
    limit = kept.get("timeout_seconds")
    if limit and run.started_at:
        at = run.started_at + timedelta(seconds=limit)
        yield scene.rule("time_limit", INFO, "ends_at", at=at, seconds=limit)
    else:
        yield scene.rule("time_limit", OK, "no_time_limit")
    limits = [
        scene.say(code, n=kept[name])
        for code, name in (("limit_cpu", "cpu_limit_seconds"), ("limit_memory", "memory_limit_mb"))
        if kept.get(name)
    ]
    if limits:
        stops = kept.get("limit_action") != Job.LimitAction.WARN
        code = "limits_stop" if stops else "limits_warn"
        yield scene.rule("limits", INFO, code, limits=", ".join(limits))
    else:
        yield scene.rule("limits", OK, "no_limits")
    how = kept.get("on_presence") or Job.Presence.CONTINUE
    forced = run.forced_by and how != Job.Presence.CONTINUE
    yield scene.rule("presence", INFO, "presence_forced" if forced else f"presence_{how}")
    yield stop(run, scene.now)

"""The words of an explanation: what each rule is called, and each sentence it may say."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from bachweb import machine
from daemon_app.models import reasons

# Every rule, in the order in which they are told.
LABELS: Final = {
    "enabled": _("Switched on"),
    "held": _("Not held"),
    "schedule": _("Due"),
    "deadline": _("Before its deadline"),
    "misfire": _("When missed"),
    "later": _("No pause"),
    "overlap": _("No other run of it"),
    "pool": _("Room in its pools"),
    "turn": _("Its turn in line"),
    "slots": _("A free place"),
    "priority": _("Priority"),
    "window": _("Its times"),
    "quiet_hours": _("No quiet hours"),
    "idle": _("Machine idle"),
    "services": _("Services answer"),
    "vram": _("Free VRAM"),
    "disk": _("Free disk"),
    "load": _("Load"),
    "finish_by": _("To be done by"),
    "longest_wait": _("Longest wait"),
    "chain": _("Chain"),
    "daemon": _("Daemon alive"),
    "supervisors": _("Commands can be started"),
    "cluster": _("Cluster alive"),
    "database": _("Database takes writes"),
    "storage": _("Disk takes writes"),
    "clock": _("Clock is right"),
    # Of runs that run, or ran.
    "forced": _("Started all the same"),
    "time_limit": _("Time limit"),
    "limits": _("CPU time and memory"),
    "presence": _("When somebody comes back"),
    "stop": _("Asked to stop"),
}

SENTENCES: Final = {
    # ── Rules ────────────────────────────────────────────────────────────────────────────────────
    "enabled": _("The job is switched on."),
    "disabled": _("The job is switched off: it starts by hand alone."),
    "changed": _("It was last changed %(at)s by %(who)s."),
    "paused": _("The job is paused until %(at)s, by %(who)s."),
    "paused_note": _("The job is paused until %(at)s, by %(who)s (“%(note)s”)."),
    "disabled_waiting": _("The job is switched off by now; a run in line starts all the same."),
    "disabled_running": _("The job is switched off by now; this run goes on."),
    "not_held": _("Nothing is held."),
    "held": _("Everything is held by %(who)s since %(since)s."),
    "held_note": _("Everything is held by %(who)s since %(since)s (“%(note)s”)."),
    "next": _("Not due yet: the next start is %(at)s (%(plan)s)."),
    "planned": _("Switched on, it would start %(at)s (%(plan)s)."),
    "manual": _("It has no schedule: it starts by hand alone."),
    "skill": _("It is not due now: it runs %(plan)s."),
    "skill_due": _("It is due (%(why)s) and starts with the next look at the machine."),
    "broken": _("Its schedule can't be read: %(error)s"),
    "once_done": _("It was to start once (%(plan)s), and that time has passed."),
    "once_ran": _("It has run once (%(plan)s): done. It starts by itself no more."),
    "never": _("Its schedule names no further time (%(plan)s)."),
    "past_deadline": _("Its deadline has passed (%(at)s): it starts by its schedule no more."),
    "due": _("It was due %(at)s."),
    "due_soon": _("It is due %(at)s, in a moment."),
    "overdue": _("It was due %(at)s and has not been started."),
    "started_by": _("%(who)s started it %(at)s (%(how)s)."),
    "started_how": _("It was started %(at)s (%(how)s)."),
    "no_deadline": _("It has no deadline."),
    "deadline": _("Starts by its schedule end %(at)s."),
    "expires": _("It is skipped if it has not begun by %(at)s."),
    "expires_run": _("If it has not begun by %(at)s, it starts whatever its conditions say."),
    "will_be_skipped": _(
        "It will be skipped: it has to begin by %(at)s, and can't before %(opens)s."
    ),
    "will_be_waived": _(
        "It will start %(at)s whatever its conditions say: it has to begin by then, and they are "
        "not met before %(opens)s."
    ),
    "misfire_once": _("If starts are missed, the newest is caught up, at most %(seconds)s s late."),
    "misfire_all": _("If starts are missed, all are caught up, at most %(seconds)s s late."),
    "misfire_none": _("If starts are missed, they are not caught up."),
    "no_pause": _("It need not wait for any pause."),
    "not_before": _("It starts at %(at)s at the earliest."),
    "no_overlap": _("No other run of it is active."),
    "overlap_room": _("%(n)s of its runs are active, %(limit)s may be."),
    "overlap_active": _("%(n)s of its runs are active, no more may be: run %(run)s."),
    "beside": _("Others of its runs are active, but it was started to run beside them."),
    "no_pool": _("It needs no pool."),
    "pool_free": _("Its pools have room: %(pools)s."),
    "turn_first": _("It is first in line."),
    "turn": _("It is number %(n)s in line."),
    "turn_none": _("It stands in no line."),
    "slots": _("%(taken)s of %(n)s places are taken."),
    "slots_ahead": _("%(taken)s of %(n)s places are taken, the others go to runs before it."),
    "priority": _("Its priority is %(n)s."),
    "rank": _("Its priority is %(n)s; a person has given it its place in line."),
    "not_asked": _("It does not depend on this."),
    "no_quiet_hours": _("There are no quiet hours."),
    "never_both": _(
        "Can't start: its own times lie wholly in the quiet hours (%(times)s). Change one of them, "
        "or let the job run in quiet hours too."
    ),
    "waived": _("Does not count any more: it starts whatever its conditions say (%(who)s)."),
    "waived_last": _("Does not count any more."),
    "if_now": _("If it were started now: %(why)s."),
    "no_longest_wait": _("It may wait as long as it takes."),
    "longest_wait": _("It may wait in line for at most %(seconds)s s."),
    "no_chain": _("It is not part of a chain."),
    "daemon": _("The daemon runs on %(host)s; its last sign of life came %(at)s."),
    "daemon_gone": _("The daemon is not running. Start it: %(bach)s"),
    "daemon_never": _("No daemon has ever run here. Start it: %(bach)s"),
    "daemon_gone_brief": _("The daemon is not running."),
    "supervisors": _("Nothing is known to hinder it."),
    "cluster": _("The cluster runs (process %(pid)s)."),
    "cluster_gone": _("The cluster is not running; the daemon starts runs by itself meanwhile."),
    "cluster_gone_too": _("The cluster is not running either."),
    "cluster_waits": _("%(n)s messages stand in its queue."),
    "database": _("It answers."),
    "storage": _("There is room."),
    "clock": _("Nothing is known to be wrong with it."),
    # ── A run that runs ──────────────────────────────────────────────────────────────────────────
    "at_start": _("When it started: %(why)s."),
    "forced": _("It was started whatever its conditions said, by %(who)s."),
    "forced_last": _("It was started whatever its conditions said: it was its last chance."),
    "not_forced": _("Nobody had to start it against its conditions."),
    "ends_at": _("It is stopped %(at)s, after %(seconds)s s."),
    "no_time_limit": _("It may run for as long as it likes."),
    "limits_stop": _("It is stopped beyond its limits: %(limits)s."),
    "limits_warn": _("It is remarked on beyond its limits: %(limits)s."),
    "limit_cpu": _("CPU time %(n)s s"),
    "limit_memory": _("memory %(n)s MB"),
    "no_limits": _("CPU time and memory have no limits."),
    "presence_continue": _("If somebody comes back, it goes on."),
    "presence_displace": _("If somebody comes back, it makes way and goes back in line."),
    "presence_cancel": _("If somebody comes back, it is ended."),
    "presence_forced": _("If somebody comes back, it goes on: it was started all the same."),
    "edited": _(
        "The job has been changed since it came into line; this run keeps the rules and the "
        "command it was queued with. To start with the new ones, cancel it and start the job anew."
    ),
    "edited_running": _(
        "The job has been changed since this run came into line; it keeps the rules and the "
        "command it was queued with. The new ones hold from the next start on."
    ),
    "no_stop": _("Nobody has asked it to stop."),
    "stop": _("%(who)s asked it to stop %(at)s."),
    "stop_us": _("It was asked to stop %(at)s."),
    "began_after": _("It began %(seconds)s s after it was due."),
    # ── Of the past ──────────────────────────────────────────────────────────────────────────────
    "not_recorded": _("Nothing was recorded of this."),
    "no_hindrance": _("Did not keep it from starting; no reading was kept."),
    "waited": _("From %(began)s to %(seen)s: %(why)s."),
    "more_waits": _("Waits before that: %(n)s."),
    "unknown_reason": _("Why is not recorded."),
    "blocking_ran": _("Run %(run)s was still active: it ran from %(began)s to %(ended)s."),
    "blocking_waited": _("Run %(run)s stood in line then; it began %(began)s."),
    "blocking_runs": _("Run %(run)s was still active; it runs since %(began)s."),
    "presence_past": _("It made way %(n)s times."),
    "never_made_way": _("It never had to make way."),
    # ── The one sentence ─────────────────────────────────────────────────────────────────────────
    "besides": _("Besides: %(more)s"),
    "more_besides": _("%(n)s more things keep it; they are listed below."),
    "starting": _("It was due %(at)s and starts in a moment."),
    "puzzling": _(
        "It was due %(at)s and has not begun; nothing that is known keeps it. Look with: %(bach)s"
    ),
    "running": _("It runs since %(at)s."),
    "stopping": _("It runs since %(at)s, but is being stopped."),
    "unseen": _("The daemon is not there to see whether it still does."),
    "waited_for": _("Before that: %(why)s."),
    "last_waited": _("While it stood in line: %(why)s."),
    "last_time": _("The last one was due %(at)s. %(why)s."),
    "was_due": _("Due %(at)s. %(why)s."),
    "state_done": _("Done after %(seconds)s s"),
    "state_ended": _("%(state)s after %(seconds)s s"),
    "nothing_at": _("Nothing is recorded as due %(at)s; the last before it was due %(due)s."),
    "nothing_before": _(
        "Nothing is recorded of this job at %(at)s or before. Ended runs are kept for %(days)s "
        "days at most."
    ),
    "not_made_yet": _("The job did not exist %(at)s: it was made %(made)s."),
    "to_come": _("That time is still to come (%(at)s)."),
    "was_running": _("It was running %(at)s: run %(run)s had begun %(began)s."),
    "was_waiting": _("It stood in line %(at)s, as run %(run)s."),
    "was_waiting_for": _("It stood in line %(at)s, as run %(run)s: %(why)s."),
    "was_paused": _("It was paused %(at)s, as run %(run)s: it had made way %(since)s (%(why)s)."),
    "was_paused_somehow": _("It was paused %(at)s, as run %(run)s: it had made way %(since)s."),
    "by_now": _("By now: %(why)s."),
    "was_waiting_after": _(
        "It stood in line %(at)s, as run %(run)s, after attempt %(n)s (%(why)s)."
    ),
    # ── History ──────────────────────────────────────────────────────────────────────────────────
    "queued": _("Came into line (%(how)s)."),
    "began": _("Began."),
    "attempt": _("Attempt %(n)s: %(why)s."),
    "made_way": _("Made way: %(why)s."),
    "made_way_in": _("Made way within %(seconds)s s: %(why)s."),
    "ended": _("%(why)s."),
}


# Said instead where this fact is one.
ONE: Final = {
    "cluster_waits": ("n", _("One message stands in its queue.")),
    "presence_past": ("n", _("It made way once.")),
    "overlap_room": ("n", _("One of its runs is active, %(limit)s may be.")),
    "slots": ("taken", _("One of %(n)s places is taken.")),
}


def say(now: datetime, code: str, **facts: Any) -> str:
    """Return a sentence of ours in the current language, with instants as seen from `now`."""
    name, one = ONE.get(code, ("", None))
    text = one if one is not None and facts.get(name) == 1 else SENTENCES[code]
    return reasons.filled(str(text), facts, now)


def because(now: datetime, code: str, facts: Any) -> str:
    """Return a sentence of `reasons` without its full stop, to stand within one of ours."""
    return reasons.sentence(code, facts, now).rstrip(".")


def joined(*sentences: str) -> str:
    """Return the sentences that are not empty, one after another."""
    return " ".join(filter(None, sentences))


def bach(command: str) -> str:
    """Return how the daemon is told `command` here."""
    return f"{machine.program(Path(settings.BASE_DIR))} daemon {command}"

"""A run as people see it: its state as word, sign and tone, and why it is so."""

import signal as signals
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _t

from daemon_app import formats
from daemon_app.models import (
    Attempt,
    Run,
    reasons,
)
from daemon_app.tiles.regions import current_language


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

"""Why a run is as it is: a code and facts on the row, a sentence when somebody reads it.

The row keeps no finished text, so that each reader gets their own language.
"""

import re
from collections.abc import Mapping
from typing import Final

from django.utils.translation import get_language
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import formats

SENTENCES: Final = {
    "misfire": _("Missed: nothing was there to start it."),
    "misfire_many": _("Missed: nothing was there to start it; %(more)s more times after this."),
    "too_old": _("Missed: nothing was there to start it, and it is too late to catch up."),
    "caught_up": _("Caught up: it could not start in time."),
    "misfire_summary": _(
        "Missed %(count)s times from %(first)s to %(last)s: nothing was there to start it."
    ),
    "switched_off": _("Missed: the job was switched off before it could start."),
    "rescheduled": _("Missed: the job was given another schedule before it could start."),
    "misfire_skip": _("Missed: it could not start in time, and this job is not caught up."),
    "spread": _("Waits its turn to be caught up, so that not everything starts at once."),
    "retry": _("Attempt %(attempt)s failed (%(why)s); tried again after a pause of %(pause)s s."),
    "superseded": _("Skipped: run %(run)s came after it and took its place in line."),
    "replaced": _("Ended to make room for run %(run)s."),
    "held": _("Stopped with everything else by %(who)s."),
    "service_stop": _("Ended because the daemon was stopped."),
    "waited_too_long": _("Skipped: it could not start within the longest wait of %(seconds)s s."),
    "deadline": _("Skipped: it could not start before the job's deadline."),
    "queue_full": _("Refused: %(n)s runs are waiting already."),
    "waits_starting": _("Starts in a moment."),
    "waits_daemon": _("Waits for the daemon, which is not running."),
    "waits_slots": _("Waits for a free place: %(n)s runs may run at once."),
    "waits_turn": _("Waits its turn: a run before it needs pool “%(pool)s”."),
    "waits_pool": _("Waits for pool “%(pool)s”: needs %(need)s, free are %(free)s of %(size)s."),
    "waits_impossible": _(
        "Can't start: it needs %(need)s of pool “%(pool)s”, which has only %(size)s."
    ),
    "waits_no_pool": _(
        "There is no pool “%(pool)s” any more. Make it again, or take it out of the job."
    ),
    "waits_overlap": _("Waits for the end of run %(run)s of the same job."),
    "waits_held": _("Waits: everything is held by %(who)s."),
    "waits_retry": _("Waits for its next attempt."),
    "waits_spread": _("Waits its turn to be caught up, so that not everything starts at once."),
    # ── Checks ───────────────────────────────────────────────────────────────────────────────────
    "health_never": _("Nothing has been measured yet."),
    "health_stale": _("Nothing has been measured for %(seconds)s s."),
    # ── Conditions: open ones begin with gate_, closed ones with waits_ ──────────────────────────
    "gate_idle": _("The machine is idle."),
    "waits_idle": _("Waits until the machine is idle."),
    "waits_idle_unknown": _("Waits: it is not known whether the machine is idle."),
    "waits_displaced": _("Made way (%(why)s) and goes on after a pause."),
    "displacing": _("Makes way: %(why)s."),
    "displaced": _("Made way: %(why)s. It goes on when the machine is idle."),
    "came_back": _("somebody came back"),
    "presence": _("Ended because somebody came back."),
    "gate_waived": _("Started although its conditions were not met: it was its last chance."),
    "finish_by_skip": _("Skipped: it could no longer be done by %(at)s."),
    "cpu_limit": _("It used more CPU time than the %(limit)s s it may."),
    "memory_limit": _("It used more memory than the %(limit)s MB it may."),
    "overlap": _("Skipped: run %(run)s was still active."),
    "overlap_unknown": _("Skipped: the run before it was still active."),
    "cancelled": _("Cancelled by %(who)s."),
    "supervisor_gone": _(
        "Lost: the process that watched this run was killed, so nobody saw how it ended."
    ),
    "restarted": _("Lost: the machine was restarted while this run was active."),
    "never_begun": _("Lost: the daemon ended before the command could begin."),
    "slow": _("It took longer than the %(limit)s s after which you wanted to know."),
    "left_behind": _(
        "The command ended and left %(n)s background processes behind; they were ended. A job may "
        "be allowed to leave them."
    ),
    "survivors": _(
        "%(n)s processes of this run could not be ended; they may belong to another user."
    ),
    "output_cut": _("A part of the output could not be written (%(error)s). Is the disk full?"),
    "exit": _("The command ended with exit code %(code)s."),
    "exit_126": _(
        "Exit code 126: the shell found the command but may not execute it. "
        "Is the file executable (chmod +x)?"
    ),
    "exit_127": _(
        "Exit code 127: the shell did not find the command. "
        "Is the name right, is the program installed, is the path complete?"
    ),
    "signal": _("The command was ended by signal %(signal)s."),
    "killed": _(
        "The command was killed (SIGKILL), possibly because memory ran out or by somebody else."
    ),
    "timed_out": _("Stopped after the time limit of %(seconds)s s."),
    "not_found": _("“%(path)s” was not found. Is the name right, is the program installed?"),
    "not_executable": _("“%(path)s” may not be executed. Is the file executable (chmod +x)?"),
    "bad_interpreter": _("“%(path)s” is no program this machine can run. Is the first line right?"),
    "no_folder": _("The working folder “%(path)s” does not exist or may not be entered."),
    "start_failed": _("The command could not be started: %(error)s."),
}


def sentence(code: str, facts: Mapping[str, object]) -> str:
    """Return the reason in the reader's language; "" for no code, the code when it is unknown."""
    if not code:
        return ""
    inner = facts.get("facts")
    if isinstance(inner, Mapping):  # a reason within the reason
        facts = {**facts, "why": sentence(str(facts.get("code")), inner).rstrip(".")}
    text = SENTENCES.get(code)
    if text is None:
        return code
    try:
        return filled(str(text), facts)
    except (KeyError, TypeError):
        return _t("%(code)s (no details kept)") % {"code": code}


# A number of seconds in a sentence.
LENGTH = re.compile(r"%\((\w+)\)s s\b")


def filled(text: str, facts: Mapping[str, object]) -> str:
    """Return `text` with its facts; where it counts seconds it says "1 Std. 30 Min." instead.

    Raises KeyError for a fact that is not there.
    """
    language = "en" if (get_language() or "de").startswith("en") else "de"
    lengths = {
        name: formats.duration(value, language)
        for name in LENGTH.findall(text)
        if isinstance(value := facts[name], int | float)
    }
    return LENGTH.sub(lambda m: f"%({m[1]})s" if m[1] in lengths else m[0], text) % {
        **facts,
        **lengths,
    }

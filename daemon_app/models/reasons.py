"""Why a run is as it is: a code and facts on the row, a sentence when somebody reads it.

The row keeps no finished text, so that each reader gets their own language.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from django.utils import timezone
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
    "gate_window": _("It may run at this time (%(times)s)."),
    "waits_window": _("Waits for its time (%(times)s): again from %(until)s."),
    "waits_window_unknown": _("Waits: its times “%(times)s” can't be read any more. Edit the job."),
    "gate_quiet_hours": _("These are no quiet hours (%(times)s)."),
    "gate_in_quiet_hours": _("It may run in quiet hours too (%(times)s)."),
    "waits_quiet_hours": _("Waits for the end of the quiet hours (%(times)s) at %(until)s."),
    "gate_services": _("What it needs answers: %(services)s."),
    "waits_service_down": _("Waits for %(service)s: no answer from there."),
    "waits_service_unknown": _("Waits for %(service)s: it is not known whether it answers."),
    "gate_vram": _("Enough VRAM is free: %(value)s MB, it needs %(threshold)s MB."),
    "waits_vram": _("Waits for VRAM: it needs %(threshold)s MB, free are %(value)s MB."),
    "waits_vram_reserved": _(
        "Waits for VRAM: it needs %(threshold)s MB; free are %(free_mb)s MB, and "
        "%(reserved_mb)s MB are promised to runs that have just started."
    ),
    "waits_vram_unknown": _("Waits: it is not known how much VRAM is free."),
    "waits_vram_impossible": _(
        "Can't start: it needs %(threshold)s MB of VRAM, the GPU has only %(total_mb)s MB."
    ),
    "gate_disk": _("Enough disk is free: %(value)s MB, it needs %(threshold)s MB."),
    "waits_disk": _("Waits for free disk: it needs %(threshold)s MB, free are %(value)s MB."),
    "waits_disk_unknown": _("Waits: it is not known how much disk is free."),
    "gate_load": _("The load of the machine is %(value)s %%, at most %(threshold)s %%."),
    "waits_load": _(
        "Waits for the load of the machine to fall to %(threshold)s %%; it is %(value)s %%."
    ),
    "waits_load_unknown": _("Waits: the load of the machine is not known."),
    "gate_finish_by": _("To be done by %(finish_by)s."),
    "gate_finish_by_late": _(
        "It can no longer be done by %(finish_by)s, and is to start all the same."
    ),
    "waits_finish_by": _("Does not start any more: it could no longer be done by %(finish_by)s."),
    "waits_displaced": _("Made way (%(why)s) and goes on after a pause."),
    "displacing": _("Makes way: %(why)s."),
    "displaced": _("Made way: %(why)s. It goes on when the machine is idle."),
    "came_back": _("somebody came back"),
    "presence": _("Ended because somebody came back."),
    "gate_waived": _("Started although its conditions were not met: it was its last chance."),
    "finish_by_skip": _("Skipped: it could no longer be done by %(at)s."),
    # ── What a check found ───────────────────────────────────────────────────────────────────────
    "service_ok": _("Answers in %(ms)s ms."),
    "service_slow": _("Answers slowly, in %(ms)s ms (slow from %(limit)s ms)."),
    "service_refused": _("Nothing listens at %(url)s."),
    "service_unreachable": _("There is no way to %(url)s."),
    "service_timeout": _("No answer within %(seconds)s s."),
    "service_no_name": _("The name in %(url)s is not known."),
    "service_tls": _("%(url)s can't show a certificate that is trusted here."),
    "service_broke_off": _("The answer broke off, or was no HTTP."),
    "service_redirect": _("Answers with a redirect (%(status)s), which is not followed."),
    "service_status": _("Answers with error %(status)s."),
    "service_encoded": _("Answers in an encoding that was not asked for."),
    "service_too_big": _("The answer is too large."),
    "service_not_json": _("The answer is no JSON."),
    "service_bad_url": _("“%(url)s” is no address that can be asked."),
    "service_odd": _("The answer makes no sense."),
    "service_ill": _("Says of itself that it is not well."),
    "check_no_answer": _("No answer within %(seconds)s s."),
    "check_hangs": _("No answer for %(seconds)s s; it is asked again once it has come back."),
    "check_failed": _("The check failed (%(error)s)."),
    "vram_ok": _("%(used_mb)s MB of %(total_mb)s MB in use."),
    "vram_high": _("%(used_mb)s MB of %(total_mb)s MB in use, more than %(limit)s %%."),
    "vram_asleep": _("The GPU sleeps and is not woken for this."),
    "vram_failed": _("The driver of the GPU does not answer."),
    "vram_none": _("The GPU service is down, and there is no NVIDIA library here."),
    "disk_ok": _("%(free_mb)s MB free."),
    "disk_filling": _("%(free_mb)s MB free; at this rate full in %(full_in_seconds)s s."),
    "disk_low": _("Only %(free_mb)s MB free."),
    "disk_low_filling": _("Only %(free_mb)s MB free; at this rate full in %(full_in_seconds)s s."),
    "disk_full": _("The disk is full: %(free_mb)s MB free."),
    "disk_failed": _("%(path)s can't be looked at (%(error)s)."),
    "users_none": _("Nobody was here in the last %(seconds)s s."),
    "users_one": _("One person was here in the last %(seconds)s s."),
    "users_many": _("%(count)s people were here in the last %(seconds)s s."),
    "users_failed": _("Who is here can't be looked at (%(error)s)."),
    # ── Signs of presence ────────────────────────────────────────────────────────────────────────
    "sign_hand": _("%(who)s said to be here."),
    "sign_requests": _("These pages are in use: %(who)s."),
    "sign_visitor": _("Somebody has opened these pages without signing in."),
    "sign_programs": _("Other programs are in use: %(who)s."),
    "sign_logins": _("Somebody is at this machine: %(who)s."),
    "sign_logins_unknown": _("It is not known whether somebody is at this machine."),
    "sign_elsewhere": _("Somebody is active at %(host)s."),
    "sign_gpu_service": _("A model of the GPU service is in use: %(model)s."),
    "sign_gpu_service_unknown": _("It is not known whether the GPU service is in use."),
    "sign_ollama": _("Ollama is in use: %(model)s."),
    "sign_ollama_unknown": _("It is not known whether Ollama is in use."),
    "sign_gpu": _("%(who)s computes on the GPU (%(percent)s %%)."),
    "sign_gpu_there": _("%(who)s uses the GPU."),
    "sign_gpu_unknown": _("It is not known who uses the GPU."),
    "sign_load": _("Others take %(percent)s %% of the processors, above all %(who)s."),
    "sign_lately": _("Until a moment ago: %(why)s."),
    "sign_start": _("The daemon has only just started."),
    "sign_woke": _("The machine has only just woken up."),
    "sign_no_reading": _("Nothing has been looked at yet."),
    "sign_failed": _("The sign “%(sign)s” could not be looked at."),
    # ── Why a skill was started ──────────────────────────────────────────────────────────────────
    "due_daily": _("The machine is idle, and this has not been done for a day."),
    "due_vram": _("%(percent)s %% of the VRAM are used, more than %(limit)s %%."),
    "cpu_limit": _("It used more CPU time than the %(limit)s s it may."),
    "memory_limit": _("It used more memory than the %(limit)s MB it may."),
    "overlap": _("Skipped: run %(run)s was still active."),
    "overlap_waited": _("Skipped: run %(run)s was still waiting."),
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
    "moved_in": _("It ended so where it ran before it moved in; more is not known."),
    "moved_in_lost": _("Where it ran before it moved in, nobody wrote down how it ended."),
}


# Said in place of the plain sentence where more is known: the first all of whose facts are there.
FULLER: Final = {
    "gate_idle": (_("The machine is idle since %(since)s."),),
    "waits_idle": (
        _("Waits until the machine is idle (%(why)s); if nothing happens, that is at %(until)s."),
        _("Waits until the machine is idle (%(why)s)."),
        _("Waits until the machine is idle; if nothing happens, that is at %(until)s."),
    ),
    "waits_idle_unknown": (_("Waits: it is not known whether the machine is idle (%(why)s)."),),
    "gate_window": (_("It may run at this time (%(times)s), until %(until)s."),),
    "gate_quiet_hours": (_("Quiet hours (%(times)s) begin at %(until)s."),),
    "waits_service_down": (_("Waits for %(service)s: no answer from there (%(why)s)."),),
    "waits_service_unknown": (
        _("Waits for %(service)s: it is not known whether it answers (%(why)s)."),
        _("Waits for %(service)s: nothing has been measured since %(since)s."),
    ),
    "waits_vram": (
        _("Waits for VRAM: it needs %(threshold)s MB, free are %(value)s MB. Loaded: %(held_by)s."),
    ),
    "waits_vram_reserved": (
        _(
            "Waits for VRAM: it needs %(threshold)s MB; free are %(free_mb)s MB, and "
            "%(reserved_mb)s MB are promised to runs that have just started. Loaded: %(held_by)s."
        ),
    ),
    "waits_vram_unknown": (
        _("Waits: it is not known how much VRAM is free (%(why)s)."),
        _("Waits: how much VRAM is free has not been measured since %(since)s."),
    ),
    "waits_disk_unknown": (
        _("Waits: how much disk is free has not been measured since %(since)s."),
    ),
    "waits_retry": (_("Waits for its next attempt at %(at)s."),),
    "waits_spread": (
        _("Waits its turn to be caught up, at %(at)s, so that not everything starts at once."),
    ),
    "waits_displaced": (_("Made way (%(why)s) and goes on at %(at)s at the earliest."),),
    "gate_finish_by": (_("To be done by %(finish_by)s; for that it has to start by %(until)s."),),
}

# What a run waited for, once it waits no more: the first all of whose facts are there.
PAST: Final = {
    "waits_starting": (_("Was about to start."),),
    "waits_daemon": (_("Waited for the daemon, which was not running."),),
    "waits_slots": (_("Waited for a free place: %(n)s runs might run at once."),),
    "waits_turn": (_("Waited its turn: a run before it needed pool “%(pool)s”."),),
    "waits_pool": (
        _("Waited for pool “%(pool)s”: needed %(need)s, free were %(free)s of %(size)s."),
    ),
    "waits_impossible": (
        _("Could not start: it needed %(need)s of pool “%(pool)s”, which had only %(size)s."),
    ),
    "waits_no_pool": (_("Could not start: there was no pool “%(pool)s” any more."),),
    "waits_overlap": (_("Waited for the end of run %(run)s of the same job."),),
    "waits_held": (_("Waited: everything was held by %(who)s."),),
    "waits_retry": (_("Waited for its next attempt."),),
    "waits_spread": (_("Waited its turn to be caught up."),),
    "waits_idle": (
        _("Waited until the machine was idle (%(why)s)."),
        _("Waited until the machine was idle."),
    ),
    "waits_idle_unknown": (
        _("Waited: it was not known whether the machine was idle (%(why)s)."),
        _("Waited: it was not known whether the machine was idle."),
    ),
    "waits_window": (_("Waited for its time (%(times)s)."),),
    "waits_quiet_hours": (_("Waited for the end of the quiet hours (%(times)s)."),),
    "waits_service_down": (
        _("Waited for %(service)s: no answer came from there (%(why)s)."),
        _("Waited for %(service)s: no answer came from there."),
    ),
    "waits_service_unknown": (_("Waited for %(service)s: it was not known whether it answered."),),
    "waits_vram": (_("Waited for VRAM: it needed %(threshold)s MB, free were %(value)s MB."),),
    "waits_vram_reserved": (
        _(
            "Waited for VRAM: it needed %(threshold)s MB; of the %(free_mb)s MB that were free, "
            "%(reserved_mb)s MB were promised to runs that had just started."
        ),
    ),
    "waits_vram_unknown": (_("Waited: it was not known how much VRAM was free."),),
    "waits_vram_impossible": (
        _("Could not start: it needed %(threshold)s MB of VRAM, the GPU had only %(total_mb)s MB."),
    ),
    "waits_disk": (_("Waited for free disk: it needed %(threshold)s MB, free were %(value)s MB."),),
    "waits_disk_unknown": (_("Waited: it was not known how much disk was free."),),
    "waits_load": (
        _("Waited for the load of the machine to fall to %(threshold)s %%; it was %(value)s %%."),
    ),
    "waits_load_unknown": (_("Waited: the load of the machine was not known."),),
    "waits_finish_by": (_("Did not start any more: it could not be done by %(finish_by)s."),),
    "waits_displaced": (_("Had made way (%(why)s) and paused."),),
}

# How facts that name a check are read out.
NAMES: Final = {"gpu_service": _("GPU service"), "ollama": "Ollama"}
NAMED: Final = ("service", "services")


def sentence(code: str, facts: Mapping[str, object], now: datetime | None = None) -> str:
    """Return the reason in the reader's language; "" for no code, the code when it is unknown."""
    if not code:
        return ""
    facts = _with_inner(facts, now)
    if code == "overlap" and facts.get("waited"):
        code = "overlap_waited"
    if code not in SENTENCES:
        return code
    if told := _first_filled(FULLER.get(code, ()), facts, now):
        return told
    with suppress(KeyError, TypeError):
        return filled(str(SENTENCES[code]), facts, now)
    return _t("%(code)s (no details kept)") % {"code": code}


def past(code: str, facts: Mapping[str, object], now: datetime | None = None) -> str:
    """Return the same of a time that is over: what a run waited for then."""
    told = _first_filled(PAST.get(code, ()), _with_inner(facts, now), now)
    return told or sentence(code, facts, now)


def _with_inner(facts: Mapping[str, object], now: datetime | None) -> Mapping[str, object]:
    """Return facts with the sentence of a reason within the reason."""
    inner = facts.get("facts")
    if not isinstance(inner, Mapping) or not facts.get("code"):
        return facts
    return {**facts, "why": sentence(str(facts.get("code")), inner, now).rstrip(".")}


def _first_filled(
    texts: Iterable[object], facts: Mapping[str, object], now: datetime | None
) -> str:
    """Return the first text all of whose facts are there; "" for none."""
    known = {name: value for name, value in facts.items() if value is not None}
    for text in texts:
        with suppress(KeyError, TypeError):
            return filled(str(text), known, now)
    return ""


FACT = re.compile(r"%\((\w+)\)s")
MOMENT = 10  # seconds
# A number of seconds, or of megabytes, in a sentence.
LENGTH = re.compile(r"%\((\w+)\)s s\b")
SIZE = re.compile(r"%\((\w+)\)s MB\b")
SECOND_DOT = re.compile(r"(?<=\w[.?!])\.(?![\w./])")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d[\d:.]*(?:Z|[+-]\d\d:\d\d)")


def filled(text: str, facts: Mapping[str, object], now: datetime | None = None) -> str:
    """Return `text` with its facts, as people write them.

    Seconds become "1 Std. 30 Min.", thousands of MB GB, instants "heute 22:00" as seen from `now`,
    which is this moment when none is given. Raises KeyError for a fact that is not there.
    """
    language = "en" if (get_language() or "de").startswith("en") else "de"
    now = now or timezone.now()
    told = {name: _told(name, facts[name], now, language) for name in FACT.findall(text)}
    for pattern, written in ((LENGTH, _length), (SIZE, _size)):
        for name in pattern.findall(text):
            if (measure := written(facts[name], language)) is not None:
                told[name] = measure
                # The unit is part of it; elsewhere in the text the name stands alone.
                text = re.sub(rf"%\({name}\)s (?:s|MB)\b", f"%({name})s", text)
    return one_dot(text % told)


def one_dot(text: str) -> str:
    """Return `text` without a full stop after an abbreviation's dot or a question that ends it.

    >>> one_dot("Zuletzt vor 5 Min.. Nichts von ../x, 1..5 oder ...")
    'Zuletzt vor 5 Min. Nichts von ../x, 1..5 oder ...'
    >>> one_dot("Stimmt der Pfad?.")
    'Stimmt der Pfad?'
    """
    return SECOND_DOT.sub("", text)


def _told(name: str, value: object, now: datetime, language: str) -> object:
    if isinstance(value, str) and INSTANT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return formats.moment(value, now, timezone.get_current_timezone(), language)
    if isinstance(value, Mapping) and language in value:  # said in both languages already
        return value[language]
    if isinstance(value, list | tuple):
        return ", ".join(str(_told(name, each, now, language)) for each in value)
    return NAMES.get(value, value) if name in NAMED and isinstance(value, str) else value


def _length(value: object, language: str) -> str | None:
    if not isinstance(value, int | float):
        return None
    # A moment that was measured is told to the tenth: "0,8 s", not "0 s".
    measured = isinstance(value, float) and not value.is_integer() and value < MOMENT
    return formats.duration(value, language, exact=measured)


def _size(value: object, language: str) -> str | None:
    """Return thousands of MB as GB; None for what is read best as it is."""
    if not isinstance(value, int | float) or value < 1000:
        return None
    return formats.size(round(value * 1_000_000), language)

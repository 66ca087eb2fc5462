"""What is said of jobs that move in: why one can't come, and what is different here."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

REMARKS: Final = {
    # ── It comes, and something is different here ────────────────────────────────────────────────
    "renamed": _("There it is called “%(name)s”."),
    "mail": _("There its output was mailed to %(to)s."),
    "zone": _("Its times are meant in %(zone)s."),
    "stdin": _("What cron gave it to read stands in the command."),
    "shell": _("It is run by %(shell)s, as there."),
    "variable": _("%(names)s can't be set for a job, and is left out."),
    "minutes": _("“%(text)s” without a unit means minutes."),
    "random": _("The random delay of the timer is left out."),
    "after_end": _("It counts from one start to the next, not from the end of the last run."),
    "left_out": _("Its service says more, which is left out: %(names)s."),
    "persistent": _("What is missed is caught up once, as the timer did."),
    "timeout": _("No time limit was given; it gets %(seconds)s s."),
    "history": _("Its runs come too, up to %(n)s."),
    "history_cut": _("Of its %(n)s runs at most the newest %(kept)s come."),
    "was_off": _("It was switched off there."),
    "parameters": _("Of its parameters only texts and numbers can come; left out: %(names)s."),
    "profile": _("The profile “%(name)s” comes with sessions, which are not there yet."),
    "cut": _("The description was cut to %(n)s characters."),
    # ── Of all that comes from there ─────────────────────────────────────────────────────────────
    "cron_overlap": _(
        "Cron starts a command again while it still runs. Here such a start is skipped, unless you "
        "choose otherwise in the job."
    ),
    "cron_mail": _(
        "Cron mails what a command says. Here that is kept with each run, and nobody gets mail."
    ),
    "cron_stays": _(
        "Entries of a crontab are only read. Take one out before you switch its job on: crontab -e"
    ),
    "timer_stays": _(
        "Timers are only read. Switch one off before you switch its job on: "
        "systemctl --user disable --now NAME.timer; those of the machine as root, without --user"
    ),
    "bach_keep": _(
        "Runs that ended more than %(days)s days ago stay where they are: here they would be "
        "tidied away."
    ),
    "bach_zone": _("Times without a zone are meant in %(zone)s."),
    # ── It can't come ────────────────────────────────────────────────────────────────────────────
    "reboot": _(
        "It starts when the machine does; there is no such schedule here. Let a systemd unit start "
        "it."
    ),
    "other_user": _(
        "It runs as %(user)s, jobs here run as %(me)s. Import it with a BACH of %(user)s, or let "
        "the command use sudo."
    ),
    "not_ours": "%(message)s",  # in the words of who refused it
    "chain": _("It is a chain; those come with a later version."),
    "event": _("It waits for an event; those come with a later version."),
    "kind": _("“%(kind)s” is no kind of schedule that is known here."),
    "no_command": _("It has neither a command nor a script."),
    "passed": _("Its time has passed."),
    "file_long": _("The file is longer than %(limit)s characters."),
    "variables": _("More than %(limit)s variables are set; what follows is not looked at."),
    "too_long": _("It is longer than %(limit)s characters."),
    "nul": _("There is a NUL character in it."),
    "too_many": _("There are more than %(limit)s lines; what follows is not looked at."),
    "no_entry": _("Cron would not take this line: five fields and a command are expected."),
    "no_user": _("In a crontab of the system a user stands before the command."),
    "nickname": _(
        "Cron knows no such short form; it knows @hourly, @daily, @weekly, @monthly and @yearly."
    ),
    "unit_odd": _("This can't be read as a unit of systemd: %(text)s"),
    "timer_several": _("The timer has more than one schedule; a job has one."),
    "timer_boot": _("The timer starts with the machine; there is no such schedule here."),
    "timer_none": _("There is no [Timer] in it."),
    "service_missing": _("Its service %(unit)s was not found beside it."),
    "service_empty": _("Its service runs nothing (no ExecStart)."),
    "service_privileged": _("Its service asks for more rights than a job has: %(text)s"),
    "service_specifier": _("Only systemd can fill in the placeholders: %(text)s"),
    "service_environment_file": _(
        "Its service reads variables from a file; put them into the job."
    ),
    "service_condition": _("Its service starts only under a condition (ExecCondition)."),
    "timer_template": _("It is a template, of which no instance is known."),
    "span_odd": _("This is no length of time that is understood: %(text)s"),
    "calendar_odd": _("This calendar can't be said by a cron expression: %(text)s"),
    "calendar_year": _("It is meant for certain years: %(text)s"),
    "calendar_both": _(
        "It wants day of month and day of week both to fit; cron takes either: %(text)s"
    ),
    "calendar_seconds": _("It is meant to the second: %(text)s"),
}

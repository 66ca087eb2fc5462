"""`bach daemon queue` and what changes the line: move, force, drop, cancel, hold, resume."""

from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import language, project, terminal
from daemon_app.cli.clicks import Command, is_number
from daemon_app.cli.jobs import run_as_json
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.spared import serializers
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from daemon_app.admission import Waiting
    from daemon_app.models import Policy, Run

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
RUN = click.argument("number", metavar=_("RUN"))
SHOWN = 200
LONGEST_NOTE = 200


@click.command(
    cls=Command,
    help=_(
        "List the runs that wait, in the order of their start, each with what it waits for.\n\n"
        "Says first when everything is held."
    ),
    examples=(
        ("bach daemon queue", ""),
        ("bach daemon queue --json", ""),
    ),
    short_help=_("List the runs that wait, and why."),
)
@JSON
def queue(as_json: bool) -> int:
    """Show the line."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import admission, formats
        from daemon_app.models import Policy, Run

        now, policy = timezone.now(), Policy.current()
        line, running = admission.line(now), Run.objects.running().count()
        if as_json:
            facts: dict[str, Any] = {
                "held": policy,
                "parallel": policy.parallel,
                "running": running,
            }
            terminal.say_json(
                serializers().Queue({**facts, "length": len(line), "waiting": line}).data
            )
            return Code.OK
        if policy.is_held:
            _say_held(policy)
        terminal.say(
            _("Running: %(running)s of at most %(parallel)s. Waiting: %(waiting)s.")
            % {"running": running, "parallel": policy.parallel, "waiting": len(line)}
        )
        if not line:
            return Code.OK
        terminal.say()
        spoken = language.current()
        terminal.table(
            (
                pgettext("column", "Place"),
                pgettext("column", "Run"),
                pgettext("column", "Job"),
                pgettext("column", "Waiting since"),
                pgettext("column", "Reason"),
            ),
            [
                (
                    str(waiting.position or "–"),
                    str(waiting.run.pk),
                    waiting.run.job_name,
                    formats.duration((now - waiting.run.queued_at).total_seconds(), spoken),
                    waiting.sentence,
                )
                for waiting in line[:SHOWN]
            ],
        )
        if len(line) > SHOWN:
            terminal.note(_("… and %(n)s more.") % {"n": len(line) - SHOWN})
    return Code.OK


# ── One run ──────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Give a waiting run another place in line.\n\n"
        "Runs that somebody has moved go before all others; no run that waits for a pool is "
        "started before there is room for it."
    ),
    examples=(
        ("bach daemon move 17 first", ""),
        ("bach daemon move 17 down", ""),
    ),
    short_help=_("Give a waiting run another place in line."),
)
@RUN
@click.argument("to", type=click.Choice(["first", "up", "down", "last"]))
@JSON
def move(number: str, to: str, as_json: bool) -> int:
    """Reorder the line."""
    with project.database():
        from django.utils import timezone

        from daemon_app import admission, scheduler

        now, run = timezone.now(), find(number)
        moved = scheduler.move(run, to, by=project.user()[:150], now=now)
        place: Waiting | None = admission.waiting(run, now)
        if place is None or place.position is None:
            raise Refusal(
                place.sentence if place else _("Run %(n)s does not wait.") % {"n": run.pk},
                _("What waits: %(bach)s daemon queue") % {"bach": project.program()},
            )
        run.refresh_from_db()
        if as_json:
            terminal.say_json(run_as_json(run, now))
        else:
            said = (
                _("Run %(n)s is now at place %(place)s.")
                if moved
                else _("Run %(n)s is at place %(place)s already.")
            )
            terminal.say(said % {"n": run.pk, "place": place.position})
    return Code.OK


@click.command(
    cls=Command,
    help=_(
        "Start a waiting run all the same, whatever its conditions say; it makes way for nobody."
        "\n\nIt still waits for a place and for its pools."
    ),
    examples=(("bach daemon force 17", ""),),
    short_help=_("Start a waiting run whatever its conditions say."),
)
@RUN
@JSON
def force(number: str, as_json: bool) -> int:
    """Waive the conditions of a run."""
    with project.database():
        from django.utils import timezone

        from daemon_app import scheduler

        now, run = timezone.now(), find(number)
        forced = scheduler.force(run, by=project.user()[:150], now=now)
        run.refresh_from_db()
        # Whoever asks twice, or has seen it start meanwhile, got what they wanted.
        if not forced and not (run.is_active and run.forced_by):
            raise Refusal(
                _("Run %(n)s does not wait.") % {"n": run.pk},
                _("What waits: %(bach)s daemon queue") % {"bach": project.program()},
            )
        if as_json:
            terminal.say_json(run_as_json(run, now))
        else:
            terminal.say(_("Run %(n)s starts whatever its conditions say.") % {"n": run.pk})
    return Code.OK


@click.command(
    cls=Command,
    help=_("Take a waiting run out of the line; it is recorded as cancelled."),
    examples=(("bach daemon drop 17", ""),),
    short_help=_("Take a waiting run out of the line."),
)
@RUN
@JSON
def drop(number: str, as_json: bool) -> int:
    """Cancel a run that waits, and no other."""
    with project.database():
        from django.utils import timezone

        from daemon_app import scheduler

        now, run = timezone.now(), find(number)
        if run.state == run.State.RUNNING:
            raise Refusal(
                _("Run %(n)s does not wait, it is running.") % {"n": run.pk},
                _("End it: %(bach)s daemon cancel %(n)s")
                % {"bach": project.program(), "n": run.pk},
            )
        if not scheduler.stop(run, by=project.user()[:150], now=now):
            raise _ended(run)
        run.refresh_from_db()
        if as_json:
            terminal.say_json(run_as_json(run, now))
        else:
            terminal.say(_("Run %(n)s is out of the line.") % {"n": run.pk})
    return Code.OK


@click.command(
    cls=Command,
    help=_(
        "Cancel a run, waiting or running.\n\n"
        "All processes of one that runs get SIGTERM and, after the job's grace, SIGKILL. This "
        "command does not wait for that."
    ),
    examples=(
        ("bach daemon cancel 17", ""),
        ("bach daemon cancel 17 --json", ""),
    ),
    short_help=_("Cancel a run, waiting or running."),
)
@RUN
@JSON
def cancel(number: str, as_json: bool) -> int:
    """Ask a run to stop."""
    with project.database():
        from django.utils import timezone

        from daemon_app import pidfile, scheduler
        from daemon_app.models import Node

        now, run = timezone.now(), find(number)
        if not scheduler.stop(run, by=project.user()[:150], now=now):
            raise _ended(run)
        run.refresh_from_db()
        if as_json:
            terminal.say_json(run_as_json(run, now))
            return Code.OK
        if not run.is_active:
            terminal.say(_("Run %(n)s is cancelled.") % {"n": run.pk})
            return Code.OK
        terminal.say(_("Run %(n)s is asked to stop.") % {"n": run.pk})
        if not project.is_running(pidfile.holder(project.daemon_file()), Node.latest(), now):
            terminal.note(_("The daemon is not running; it will stop the run when it is."))
    return Code.OK


def find(number: str) -> "Run":
    """Return the run with this number. Raises Refusal when there is none."""
    from daemon_app.models import Run

    if is_number(number):
        found = Run.objects.filter(pk=int(number)).first()
        if found:
            return found
    raise Refusal(
        _("There is no run “%(number)s”.") % {"number": terminal.shown(number)},
        _("What waits: %(bach)s daemon queue") % {"bach": project.program()},
        code=Code.NOT_FOUND,
    )


def _ended(run: "Run") -> Refusal:
    return Refusal(_("Run %(n)s has already ended.") % {"n": run.pk})


# ── Everything ───────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Hold everything: no run starts until “bach daemon resume”.\n\n"
        "What runs goes on to its end; with --stop it is ended. What becomes due meanwhile is "
        "treated as missed, by the rule of its job."
    ),
    examples=(
        (_('bach daemon hold --note "Kernel update"'), ""),
        ("bach daemon hold --stop", ""),
    ),
    short_help=_("Hold everything: no run starts."),
)
@click.option("--stop", is_flag=True, help=_("End what runs, too."))
@click.option("--note", default="", metavar=_("TEXT"), help=_("Why, for the others."))
@JSON
def hold(stop: bool, note: str, as_json: bool) -> int:
    """Let nothing start any more."""
    with project.database():
        from django.utils import timezone

        from daemon_app import scheduler
        from daemon_app.models import Policy, Run

        mode = Policy.Hold.STOP if stop else Policy.Hold.DRAIN
        if len(note) > LONGEST_NOTE:
            raise Refusal(_("At most %(n)s characters.") % {"n": LONGEST_NOTE}, code=Code.USAGE)
        running = Run.objects.running().count()
        changed = scheduler.hold(mode, by=project.user()[:150], now=timezone.now(), note=note)
        if as_json:
            terminal.say_json(_hold_as_json(Policy.current()))
            return Code.OK
        if not changed:
            terminal.say(_("Everything was held already."))
            return Code.OK
        terminal.say(_("Everything is held: no run starts."))
        if running and stop:
            said = ngettext("%(n)s run is being ended.", "%(n)s runs are being ended.", running)
            terminal.say(said % {"n": running})
        elif running:
            said = ngettext(
                "%(n)s run goes on to its end.", "%(n)s runs go on to their end.", running
            )
            terminal.say(said % {"n": running})
        terminal.say(_("Let it go on: %(bach)s daemon resume") % {"bach": project.program()})
    return Code.OK


@click.command(
    cls=Command,
    help=_("Let everything go on that was held. Nothing held is no error."),
    examples=(("bach daemon resume", ""),),
    short_help=_("Let everything go on that was held."),
)
@JSON
def resume(as_json: bool) -> int:
    """End a hold."""
    with project.database():
        from django.utils import timezone

        from daemon_app import scheduler
        from daemon_app.models import Policy

        resumed = scheduler.resume(by=project.user()[:150], now=timezone.now())
        if as_json:
            terminal.say_json(_hold_as_json(Policy.current()))
        else:
            terminal.say(_("Everything goes on.") if resumed else _("Nothing was held."))
    return Code.OK


def _say_held(policy: "Policy") -> None:
    from django.utils import timezone

    since = Clock.here(timezone.now()).told(policy.held_at) if policy.held_at else "?"
    facts = {"who": terminal.shown(policy.held_by), "when": since}
    terminal.say(_("Everything is held by %(who)s, since %(when)s.") % facts, tone="is-warn")
    if policy.hold_note:
        terminal.say(terminal.shown(policy.hold_note))
    terminal.say(_("Let it go on: %(bach)s daemon resume") % {"bach": project.program()})


def _hold_as_json(policy: "Policy") -> dict[str, Any]:
    return {**serializers().Hold(policy).data}

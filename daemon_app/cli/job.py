"""`bach job …`: all that can be done with one job, by its number or name."""

import copy
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import editing, jobs, language, output, project, terminal, times
from daemon_app.cli import why as explaining
from daemon_app.cli.clicks import Command, Group, WholeNumber
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

    from daemon_app.models import Job, Run

STATES = ("running", "failed", "waiting", "paused")  # those of the page (tiles.jobs.STATES)
KINDS = ("cron", "interval", "once", "manual")
ORDERS = ("name", "next", "last", "id")
LOOK_AHEAD = (timedelta(days=1), timedelta(days=7), timedelta(days=32), timedelta(days=366))
MOST = 1_000
MUTED_FOR = timedelta(days=1)

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
UNTIL = click.option(
    "--until", metavar=_("TIME"), help=_("Until then: 18:00, tomorrow 8:00, 2026-12-24T18:00.")
)
FOR = click.option("--for", "length", metavar=_("LENGTH"), help=_("For so long: 30m, 2h, 1d."))


@click.group(
    cls=Group,
    help=_("One job: create it, change it, look at it, switch it on and off."),
    examples=(
        ("bach job add nightly-backup --schedule '30 3 * * *' -- tar -czf /srv/home.tgz /home", ""),
        ("bach job edit nightly-backup", _("in your editor")),
        ("bach job pause nightly-backup --until 'tomorrow 8:00'", ""),
        ("bach job why nightly-backup", ""),
        ("bach job logs nightly-backup -f", ""),
    ),
    epilog=_("Start one now: bach daemon run ID|NAME"),
)
def job() -> None:
    """Hold the commands about one job."""


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    name="list",
    help=_("List jobs: all, or those that the options choose."),
    examples=(
        ("bach job list --state failed", ""),
        ("bach job list --search backup --sort next", ""),
        ("for job in $(bach job list --kind interval --ids); do bach job pause $job; done", ""),
    ),
    short_help=_("List jobs."),
)
@click.option(
    "--state",
    type=click.Choice(STATES),
    metavar="|".join(STATES),
    help=_("Only those that run, failed last, wait in line, or are switched off."),
)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    metavar="|".join(KINDS),
    help=_("Only those with such a schedule."),
)
@click.option(
    "--search", default="", metavar=_("TEXT"), help=_("Only with this in name or description.")
)
@click.option("--pool", metavar=_("NAME"), help=_("Only those that need this pool."))
@click.option(
    "--sort",
    type=click.Choice(ORDERS),
    default="name",
    metavar="|".join(ORDERS),
    help=_("By name, next or last start, or number."),
)
@click.option("--reverse", is_flag=True, help=_("The other way round."))
@click.option("--ids", is_flag=True, help=_("Write their numbers alone, one a line."))
@JSON
def list_(*, ids: bool, as_json: bool, **wanted: Any) -> int:
    """Show the jobs that were asked for."""
    with project.database(queue=False):
        chosen = _chosen(**wanted)
        found = list(chosen if as_json else chosen.only(*jobs.SHOWN))
        if ids and as_json:
            terminal.say_json([each.pk for each in found])
        elif ids:
            for each in found:
                terminal.say(str(each.pk))
        elif found or as_json:
            jobs.say_list(found, as_json=as_json)
        else:
            terminal.note(_("No such job."))
    return Code.OK


def _chosen(  # noqa: PLR0913 - a choice for each option
    *, state: str | None, kind: str | None, search: str, pool: str | None, sort: str, reverse: bool
) -> "QuerySet[Job]":
    from django.db.models import F, OuterRef, Subquery
    from django.utils import timezone

    from daemon_app.models import Run
    from daemon_app.tiles.jobs import found, in_states

    chosen = in_states(found(search.strip()), timezone.now())[state or ""]
    if kind:
        chosen = chosen.filter(job_type=kind, skill="")
    if pool is not None:
        chosen = chosen.filter(pools__has_key=pool)
    if sort == "last":
        newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id")
        chosen = chosen.annotate(last=Subquery(newest.values("queued_at")[:1]))
        # The newest first: that is what is looked for.
        order = F("last").asc(nulls_first=True) if reverse else F("last").desc(nulls_last=True)
    else:
        column = F({"next": "next_due_at", "id": "pk"}.get(sort, sort))
        order = column.desc(nulls_first=True) if reverse else column.asc(nulls_last=True)
    return chosen.order_by(order, "name")


@click.command(
    cls=Command,
    help=_(
        "Show a job: what it runs, when, by which rules, and how it has been doing.\n\n"
        "With --yaml it is written as bach apply reads it, with --json as the REST interface has "
        "it. Values of its environment and parameters stand in the YAML alone."
    ),
    examples=(
        ("bach job show nightly-backup", ""),
        ("bach job show 3 --yaml > nightly-backup.yaml", ""),
        ("bach job show 3 --json | jq .next_due_at", ""),
    ),
    short_help=_("Show a job."),
)
@jobs.JOB
@click.option("--yaml", "as_yaml", is_flag=True, help=_("Write YAML, as bach apply reads it."))
@JSON
def show(job: str, *, as_yaml: bool, as_json: bool) -> int:
    """Show one job."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import tiles
        from daemon_app.intake import definitions

        found, now = jobs.find(job), timezone.now()
        runs = tiles.latest_runs([found.pk]).get(found.pk, [])
        if as_yaml:
            if found.skill:
                raise Refusal(_("The job of a skill is nobody's to define."))
            terminal.say(definitions.written([found]).rstrip("\n"))
        elif as_json:
            terminal.say_json(jobs.job_as_json(found, _whole(runs[:1]), {"now": now}))
        else:
            for label, value in _facts(found, runs, Clock.here(now)):
                for number, line in enumerate(value.splitlines() or [""]):
                    terminal.say(f"{'' if number else label + ':':<20} {terminal.shown(line)}")
    return Code.OK


def _facts(job: "Job", runs: "list[Run]", clock: Clock) -> list[tuple[str, str]]:
    """Return what there is to say of a job: (label, value), without what is empty."""
    from daemon_app import formats, terms, tiles
    from daemon_app.tiles.history import record_of

    spoken, mark = language.current(), tiles.job_mark(job, runs, clock.now)
    record = record_of(job)
    ran = next((run for run in runs if run.started_at), None)
    told = [
        (_("Job"), _("%(job)s (job %(n)s)") % {"job": job.name, "n": job.pk}),
        (_("Description"), job.description),
        (_("State"), terminal.marked(mark.word, mark.tone)),
        (_("Paused"), _paused(job, clock)),
        (_("Schedule"), job.describe()),
        (_("Time zone"), "" if job.timezone == str(clock.zone) else job.timezone),
        (_("Next run"), clock.ahead(job.next_due_at) if job.is_active and job.next_due_at else ""),
        (_("Fault"), job.schedule_fault),
        (_("Command"), job.command),
        (_("Script"), f"{job.script_path} {job.arguments}".strip()),
        (_("Working folder"), job.working_directory),
        (_("Environment"), ", ".join(job.environment)),
        (_("Parameters"), ", ".join(job.parameters)),
        (_("Conditions"), " · ".join(terms.of(job.needs(), job.on_presence, spoken))),
        (_("Rules"), " · ".join(terms.rules(job, spoken))),
        (
            pgettext("column", "Last run"),
            clock.told(ran.started_at) if ran and ran.started_at else "",
        ),
    ]
    if record.success is not None:
        told.append((_("Successful"), f"{record.success} %"))
    if record.median is not None:
        told.append((_("Usually takes"), formats.duration(record.median, spoken, exact=True)))
    if job.muted_until and job.muted_until > clock.now:
        told.append(
            (_("Failures"), _("not told until %(when)s") % {"when": clock.told(job.muted_until)})
        )
    told.append((_("Page"), f"{project.origin()}/daemon/jobs/{job.pk}/"))
    return [(label, value) for label, value in told if value]


def _paused(job: "Job", clock: Clock) -> str:
    if job.is_active:
        return ""
    if job.paused_until is None:
        return _("until further notice")
    said = _("until %(when)s, by %(who)s") % {
        "when": clock.told(job.paused_until),
        "who": job.paused_by or "–",
    }
    return f"{said} – {job.pause_note}" if job.pause_note else said


def _whole(runs: "list[Run]") -> "list[Run]":
    """Return these runs with all their columns; what tables show of them holds a few."""
    from daemon_app.models import Run

    found = Run.objects.in_bulk([run.pk for run in runs])
    return [found[run.pk] for run in runs if run.pk in found]


@click.command(
    cls=Command,
    name="next",
    help=_("Show what starts next, of all jobs or of one."),
    examples=(
        ("bach job next", _("the next ten starts")),
        ("bach job next 50 --json", ""),
        ("bach job next --job nightly-backup", ""),
    ),
    short_help=_("Show what starts next."),
)
@click.argument("count", metavar="[N]", type=WholeNumber(1, MOST, 10), default=10)
@click.option("--job", metavar=_("ID|NAME"), help=_("Of this job alone."))
@JSON
def next_(count: int, *, job: str | None, as_json: bool) -> int:
    """Show the coming starts."""
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app import forecast
        from daemon_app.forecast import Plan

        now = timezone.now()
        of = jobs.find(job) if job else None
        plans = forecast.plans() if of is None else [Plan.of(of)] if _starts(of) else []
        found = _next(plans, count, now)
        if as_json:
            terminal.say_json(
                [{"at": at, "job_id": plan.id, "job_name": plan.name} for at, plan in found]
            )
            return Code.OK
        if not found:
            terminal.note(_("Nothing starts by itself."))
            return Code.OK
        clock, spoken = Clock.here(now), language.current()
        from daemon_app import formats

        terminal.table(
            (
                clock.column(pgettext("column", "When")),
                pgettext("column", "In"),
                pgettext("column", "ID"),
                pgettext("column", "Job"),
                pgettext("column", "Remark"),
            ),
            [
                (
                    clock.moment(at),
                    formats.relative(at, now, spoken, coarse=True),
                    str(plan.id),
                    plan.name,
                    _("when its conditions are met") if plan.is_choosy else "",
                )
                for at, plan in found
            ],
        )
    return Code.OK


def _starts(job: "Job") -> bool:
    """Return whether a job starts by itself, now or when its pause is over."""
    return not job.skill and (
        job.next_due_at is not None if job.is_active else job.paused_until is not None
    )


def _next(plans: Any, count: int, now: "datetime") -> "list[Any]":
    """Return the first `count` planned starts of these plans: (instant, plan)."""
    found: list[Any] = []
    for length in LOOK_AHEAD:
        # A span that brings enough of the frequent ones is short, and cheap to look at.
        found = sorted(
            ((at, plan) for plan in plans for at in plan.starts(now, now + length, count)),
            key=lambda each: (each[0], each[1].name),
        )[:count]
        if len(found) == count:
            break
    return found


@click.command(
    cls=Command,
    help=_(
        "Show the newest runs of a job, or what was changed of it and by whom (--changes).\n\n"
        "What a run has written: bach daemon log RUN."
    ),
    examples=(
        ("bach job history nightly-backup", _("the newest twenty runs")),
        ("bach job history nightly-backup 100 --state failed", ""),
        ("bach job history nightly-backup --changes", ""),
    ),
    short_help=_("Show a job's newest runs, or its changes."),
)
@jobs.JOB
@click.argument("count", metavar="[N]", type=WholeNumber(1, MOST, 20), default=20)
@click.option("--state", metavar=_("STATE"), help=_("Only runs in this state, as JSON names it."))
@click.option("--changes", is_flag=True, help=_("What was changed of the job instead."))
@JSON
def history(job: str, count: int, *, state: str | None, changes: bool, as_json: bool) -> int:
    """Show what became of a job."""
    if changes and state:
        raise Refusal(_("Give --state or --changes, not both."), code=Code.USAGE)
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.models import Run

        found, now = jobs.find(job), timezone.now()
        if changes:
            _say_changes(found, count, as_json=as_json)
            return Code.OK
        runs = Run.objects.filter(job=found).order_by("-id")
        if state:
            if state not in Run.State.values:
                known = ", ".join(Run.State.values)
                raise Refusal(
                    _("There is no state “%(state)s”.") % {"state": terminal.shown(state)[:40]},
                    _("Known: %(known)s") % {"known": known},
                    code=Code.USAGE,
                )
            runs = runs.filter(state=state)
        newest = list(runs[:count])
        if as_json:
            from daemon_app.api.serializers import RunSerializer

            told = RunSerializer(newest, many=True, context={"now": now}).data
            terminal.say_json([{**each} for each in told])
        elif newest:
            _say_runs(newest, Clock.here(now))
        elif state:
            terminal.note(_("There is no such run."))
        else:
            said = _("%(job)s has not run yet.")
            terminal.note(said % {"job": terminal.shown(found.name)})
    return Code.OK


def _say_runs(runs: "list[Run]", clock: Clock) -> None:
    from daemon_app import formats, tiles

    rows = []
    for run in runs:
        mark, length = tiles.run_mark(run), run.duration(clock.now)
        spoken = language.current()
        rows.append(
            (
                str(run.pk),
                (terminal.marked(mark.word, mark.tone), mark.tone),
                clock.moment(run.started_at or run.due_at),
                formats.duration(length.total_seconds(), spoken, exact=bool(run.ended_at))
                if length is not None
                else "–",
                tiles.why(run),
            )
        )
    terminal.table(
        (
            pgettext("column", "Run"),
            pgettext("column", "State"),
            clock.column(pgettext("column", "Start")),
            pgettext("column", "Duration"),
            pgettext("column", "Reason"),
        ),
        rows,
    )


def _say_changes(job: "Job", count: int, *, as_json: bool) -> None:
    from django.utils import timezone

    from daemon_app.models import Change
    from daemon_app.tiles.changes import change_rows

    now = timezone.now()
    changes = list(Change.objects.of_jobs(job.pk)[:count])
    if as_json:
        terminal.say_json(
            [
                {
                    "at": each.at,
                    "by": each.by,
                    "via": each.via,
                    "kind": each.kind,
                    "fields": each.fields,
                }
                for each in changes
            ]
        )
        return
    clock, rows = Clock.here(now), []
    for row in change_rows(changes, now):
        told = [row.about] if row.about else []
        told += [
            f"{each.label}: " + (each.remark or f"{each.before or '–'} → {each.after or '–'}")
            for each in row.differences
        ]
        rows.append((clock.moment(row.change.at), row.by, row.mark.word, "; ".join(told)))
    terminal.table(
        (
            clock.column(pgettext("column", "When")),
            pgettext("column", "Who"),
            pgettext("column", "What"),
            pgettext("column", "Details"),
        ),
        rows,
    )


# ── Switching ────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Switch a job's schedule off for a while; then it goes on by itself, and catches up "
        "nothing. By hand it still starts.\n\n"
        "Without an end it is until tomorrow 8:00. For good: bach job off."
    ),
    examples=(
        ("bach job pause nightly-backup --for 2h", ""),
        (_('bach job pause 3 --until "mon 8:00" --note "disk is being replaced"'), ""),
    ),
    short_help=_("Pause a job for a while."),
)
@jobs.JOB
@FOR
@UNTIL
@click.option("--note", default="", metavar=_("TEXT"), help=_("Why, for the others."))
@JSON
def pause(job: str, *, length: str | None, until: str | None, note: str, as_json: bool) -> int:
    """Switch a job off for a while."""
    with project.database(queue=False):
        from django.core.exceptions import ValidationError
        from django.utils import timezone

        now, found = timezone.now(), jobs.find(job)
        end = _end(length, until, now) or times.at("tomorrow 8:00", now)
        try:
            found.pause(end, now=now, by=project.user()[:150], note=note)
        except ValidationError as error:
            raise Refusal(" ".join(error.messages), code=Code.USAGE) from error
        said = _("%(job)s is paused until %(when)s.") % {
            "job": found.name,
            "when": Clock.here(now).ahead(end),
        }
        return _told(found, said, as_json=as_json)


def _end(length: str | None, until: str | None, now: "datetime") -> "datetime | None":
    """Return the end that was asked for; None for none. Raises Refusal."""
    if length and until:
        raise Refusal(_("Give --for or --until, not both."), code=Code.USAGE)
    if length:
        return times.after(length, now)
    return times.at(until, now) if until else None


@click.command(
    cls=Command,
    help=_("End a job's pause: it starts by its schedule again, and catches up nothing."),
    examples=(("bach job resume nightly-backup", ""),),
    short_help=_("End a job's pause."),
)
@jobs.JOB
@JSON
def resume(job: str, *, as_json: bool) -> int:
    """Switch a paused job on."""
    return _switch(job, active=True, as_json=as_json)


@click.command(
    cls=Command,
    help=_("Switch a job's schedule on: it starts by itself again, and catches up nothing."),
    examples=(("bach job on nightly-backup", ""),),
    short_help=_("Switch a job on."),
)
@jobs.JOB
@JSON
def on(job: str, *, as_json: bool) -> int:
    """Switch a job on."""
    return _switch(job, active=True, as_json=as_json)


@click.command(
    cls=Command,
    help=_(
        "Switch a job's schedule off until further notice. What runs goes on, and by hand it "
        "still starts."
    ),
    examples=(("bach job off nightly-backup", ""),),
    short_help=_("Switch a job off."),
)
@jobs.JOB
@JSON
def off(job: str, *, as_json: bool) -> int:
    """Switch a job off."""
    return _switch(job, active=False, as_json=as_json)


def _switch(wanted: str, *, active: bool, as_json: bool) -> int:
    with project.database(queue=False):
        from django.utils import timezone

        from daemon_app.schedules import ScheduleError

        now, found = timezone.now(), jobs.find(wanted)
        try:
            moved = found.set_active(active, now=now, by=project.user()[:150])
        except ScheduleError as error:
            spoken = language.current()
            raise Refusal(error.message(spoken), error.hint(spoken)) from error
        words = {"job": found.name}
        if not moved:
            said = (
                _("%(job)s was switched on already.")
                if active
                else _("%(job)s was switched off already.")
            )
        elif not active:
            said = _("%(job)s is switched off.")
        else:
            said = _("%(job)s starts by its schedule again.")
            if found.next_due_at:
                words["when"] = Clock.here(now).ahead(found.next_due_at)
                said = _("%(job)s starts by its schedule again: %(when)s.")
        return _told(found, said % words, as_json=as_json)


@click.command(
    cls=Command,
    help=_(
        "Tell of a job's failures no more for a while: it goes on, and its runs are recorded as "
        "usual.\n\nWithout an end it is for a day. With --off they are told again."
    ),
    examples=(
        ("bach job mute nightly-backup", ""),
        ("bach job mute nightly-backup --for 7d", ""),
        ("bach job mute nightly-backup --off", ""),
    ),
    short_help=_("Tell of a job's failures no more for a while."),
)
@jobs.JOB
@FOR
@UNTIL
@click.option("--off", "ends", is_flag=True, help=_("Tell of them again."))
@JSON
def mute(job: str, *, length: str | None, until: str | None, ends: bool, as_json: bool) -> int:
    """Tell of failures no more, or again."""
    with project.database(queue=False):
        from django.utils import timezone

        now, found = timezone.now(), jobs.find(job)
        if ends and (length or until):
            raise Refusal(_("--off ends it now: it takes no end."), code=Code.USAGE)
        end = None if ends else _end(length, until, now) or now + MUTED_FOR
        if end and not now < end <= now + timedelta(days=366):
            raise Refusal(_("Give an end in the future, within a year."), code=Code.USAGE)
        found.mute(end, by=project.user()[:150])
        if end is None:
            said = _("Failures of %(job)s are told again.") % {"job": found.name}
        else:
            said = _("Failures of %(job)s are not told until %(when)s.") % {
                "job": found.name,
                "when": Clock.here(now).told(end),
            }
        return _told(found, said, as_json=as_json, muted_until=found.muted_until)


def _told(job: "Job", said: str, *, as_json: bool, **more: Any) -> int:
    """Say what was done, or write the job as it is now."""
    from django.utils import timezone

    if as_json:
        told = jobs.job_as_json(job, [], {"now": timezone.now()})
        del told["last_run"]
        terminal.say_json(told | more)
    else:
        terminal.say(terminal.shown(said))
    return Code.OK


@click.command(
    cls=Command,
    help=_(
        "Delete a job with its runs and their output; what still runs of it is stopped.\n\n"
        "It asks first; --yes answers that. Where nobody can be asked, --yes is needed."
    ),
    examples=(
        ("bach job delete old-report", ""),
        ("bach job delete 7 --yes", ""),
    ),
    short_help=_("Delete a job and its runs."),
)
@jobs.JOB
@click.option("--yes", is_flag=True, help=_("Do not ask."))
@JSON
def delete(job: str, *, yes: bool, as_json: bool) -> int:
    """Delete a job."""
    with project.database():
        from django.core.exceptions import ValidationError
        from django.utils import timezone

        from daemon_app import scheduler
        from daemon_app.models import Run

        found = jobs.find(job)
        name, number = found.name, found.pk
        if not yes:
            _confirm(name, Run.objects.filter(job=found).count())
        try:
            runs = scheduler.remove(found, by=project.user()[:150], now=timezone.now())
        except ValidationError as error:
            raise Refusal(" ".join(error.messages)) from error
        if as_json:
            terminal.say_json({"id": number, "name": name, "runs": runs})
            return Code.OK
        said = _("%(job)s has been deleted.")
        if runs:
            said = ngettext(
                "%(job)s and its run have been deleted.",
                "%(job)s and its %(n)s runs have been deleted.",
                runs,
            )
        terminal.say(terminal.shown(said % {"job": name, "n": runs}))
    return Code.OK


def _confirm(name: str, runs: int) -> None:
    """Ask whether a job may go. Raises Refusal when it may not, or nobody can be asked."""
    if not sys.stdin.isatty():
        raise Refusal(
            _("Nothing has been deleted: nobody here can be asked."),
            _("To delete without being asked: --yes"),
            code=Code.USAGE,
        )
    asked = ngettext(
        "Delete %(job)s and its %(n)s run? [y/N] ",
        "Delete %(job)s and its %(n)s runs? [y/N] ",
        runs,
    )
    terminal.note(terminal.shown(asked % {"job": name, "n": runs}))
    if sys.stdin.readline().strip().casefold() not in {"y", "yes", "j", "ja"}:
        raise Refusal(_("Nothing has been deleted."))


def _called_here(command: click.Command, examples: Any, name: str | None = None) -> click.Command:
    """Return a command of another group with examples as they are written in this one."""
    here: Any = copy.copy(command)
    here.examples, here.name = examples, name or command.name
    return here  # type: ignore[no-any-return]


COMMANDS: tuple[Callable[..., Any] | click.Command, ...] = (
    editing.add,
    editing.edit,
    list_,
    show,
    pause,
    resume,
    on,
    off,
    mute,
    delete,
    _called_here(
        explaining.why,
        (
            ("bach job why nightly-backup", ""),
            ("bach job why nightly-backup --at 03:00", _("what became of it at three")),
            ("bach job why --run 17", ""),
        ),
    ),
    next_,
    history,
    output.of_job,
)
for each in COMMANDS:
    job.add_command(each)  # type: ignore[arg-type]

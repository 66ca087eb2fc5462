"""`bach daemon jobs` and `bach daemon run`: what there is to run, and running it by hand."""

import difflib
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import language, project, terminal
from daemon_app.cli.clicks import Command, is_number
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.spared import serializers
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from daemon_app.models import Job, Run
    from daemon_app.scheduler import Started

PORTION = 200
TOLD_BY = 10  # runs by which it is told how a job is doing, where the newest does not say it
# Of a job, for a line of a table.
SHOWN = (
    *("name", "job_type", "schedule", "timezone", "next_due_at", "schedule_error"),
    *("is_active", "skill"),
)
SHORTEST_PART = 3  # letters of a name that are enough to guess it
WAIT = 0.5  # seconds between looks when no bell rings
JOB = click.argument("job", metavar=_("ID|NAME"))
REMARK_AFTER = 3.0  # seconds a run waits before we say why
NOT_STARTED = {"ENOENT": 127, "EACCES": 126, "ENOEXEC": 126}  # as a shell has it


@click.command(
    cls=Command,
    help=_("List all jobs: when they start, and how they are doing."),
    examples=(
        ("bach daemon jobs", ""),
        ("bach daemon jobs --json", ""),
    ),
    short_help=_("List all jobs."),
)
@click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
def jobs(as_json: bool) -> int:
    """Show every job."""
    with project.database(queue=False):
        from daemon_app.models import Job

        every = Job.objects.order_by("name")
        found = list(every if as_json else every.only(*SHOWN))
        if found or as_json:
            say_list(found, as_json=as_json)
        else:
            address = f"{project.origin()}/daemon/jobs/new/"
            terminal.say(_("No jobs yet. Create the first: %(address)s") % {"address": address})
    return Code.OK


def say_list(found: "list[Job]", *, as_json: bool) -> None:
    """Write these jobs as a table, or as JSON."""
    from django.utils import timezone

    from daemon_app import formats, tiles
    from daemon_app.models import Run

    now = timezone.now()
    latest = {pk: [run] for pk, run in tiles.newest_runs([job.pk for job in found]).items()}
    if as_json:
        newest = [runs[0].pk for runs in latest.values()]
        for start in range(0, len(newest), PORTION):
            whole = Run.objects.in_bulk(newest[start : start + PORTION])
            latest |= {run.job_id: [run] for run in whole.values()}
        terminal.say_json(jobs_as_json(found, latest, now))
        return
    # Few jobs need more to be told by.
    busy = set(Run.objects.active().order_by().values_list("job_id", flat=True))
    unclear = [job for job in found if job.pk in busy or not is_clear(latest.get(job.pk, []))]
    for some in batched(unclear):
        latest |= tiles.latest_runs([job.pk for job in some], TOLD_BY)
    clock, spoken = Clock.here(now), language.current()
    rows = []
    for job in found:
        runs = latest.get(job.pk, [])
        mark = tiles.job_mark(job, runs, now)
        last = next((run for run in runs if run.started_at), None)
        rows.append(
            (
                str(job.pk),
                job.name,
                (terminal.marked(mark.word, mark.tone), mark.tone),
                job.describe(),
                clock.moment(job.next_due_at if job.is_active else None),
                formats.relative(last.started_at, now, spoken) if last and last.started_at else "–",
            )
        )
    terminal.table(
        (
            pgettext("column", "ID"),
            pgettext("column", "Job"),
            pgettext("column", "State"),
            pgettext("column", "Schedule"),
            clock.column(pgettext("column", "Next run")),
            pgettext("column", "Last run"),
        ),
        rows,
    )


@click.command(
    cls=Command,
    help=_(
        "Start a job now, by its number or name; its schedule stays as it is.\n\n"
        "With --follow the output is shown as it is written, and the exit code is the command's: "
        "124 for the time limit, 130 for a cancelled run, 128 + n for signal n. Ctrl+C ends the "
        "watching, not the run.\n\n"
        "With --beside it starts although another run of the job is active, with --force although "
        "its conditions are not met."
    ),
    examples=(
        ("bach daemon run 3", ""),
        ("bach daemon run 3 --beside", ""),
        ("bach daemon run 3 --force", ""),
        ("bach daemon run nightly-backup --follow", ""),
        ("bach daemon run nightly-backup --follow --json", ""),
    ),
    short_help=_("Start a job now."),
)
@JOB
@click.option("-f", "--follow", is_flag=True, help=_("Show the output, and wait for the end."))
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help=_("Write the run as JSON, for programs; with --follow at its end, instead of its output."),
)
@click.option("--beside", is_flag=True, help=_("Start it beside an active run of the job."))
@click.option("--force", is_flag=True, help=_("Start it whatever its conditions say."))
def run(job: str, *, follow: bool, as_json: bool, beside: bool, force: bool) -> int:
    """Start a job by hand."""
    with project.database():
        from django.utils import timezone

        from daemon_app import pidfile, scheduler
        from daemon_app.models import Node, Run

        found = find(job)
        now = timezone.now()
        # A run that waited for a daemon could start hours later, to everybody's surprise.
        if not project.is_running(pidfile.holder(project.daemon_file()), Node.latest(), now):
            raise Refusal(
                _("Not started: the daemon is not running, so nobody would run it."),
                _("Start it: %(bach)s daemon start --bg") % {"bach": project.program()},
                code=Code.NOT_RUNNING,
            )
        started = scheduler.start(
            found,
            trigger=Run.Trigger.CLI,
            by=project.user()[:150],
            now=now,
            beside=beside,
            forced=force,
        )
        if started.run is None:
            raise _not_started(started, found)
        if not follow:
            if as_json:
                terminal.say_json(run_as_json(started.run, now))
            else:
                terminal.say(_started(started.run))
                terminal.say(f"{project.origin()}/daemon/runs/{started.run.pk}/")
                if keeps := _what_keeps(started.run):
                    terminal.note(keeps)
            return Code.OK
        if not as_json:
            terminal.note(_started(started.run))
        return followed(started.run, as_json=as_json)


def batched(jobs: "list[Job]") -> "Iterator[list[Job]]":
    """Yield the jobs in portions: the question for their runs has a part for each."""
    for start in range(0, len(jobs), PORTION):
        yield jobs[start : start + PORTION]


def is_clear(runs: "list[Run]") -> bool:
    """Return whether no older run could say more of a job: these tell its last start and end."""
    ended = (run.state != run.State.SKIPPED for run in runs if not run.is_active)
    return not runs or (any(run.started_at for run in runs) and any(ended))


def find(wanted: str) -> "Job":
    """Return the job with this number or name. Raises Refusal with the names that come near."""
    from daemon_app.models import Job

    wanted = " ".join(wanted.split())
    if is_number(wanted):
        by_number = Job.objects.filter(pk=int(wanted)).first()
        if by_number:
            return by_number
    by_name = Job.objects.filter(name=wanted).first()
    if by_name:
        return by_name
    names = list(Job.objects.values_list("name", flat=True)[:10_000])
    alike = [name for name in names if name.casefold() == wanted.casefold()]
    if len(alike) == 1:
        return Job.objects.get(name=alike[0])
    lower = {name.casefold(): name for name in names}
    near = [lower[key] for key in difflib.get_close_matches(wanted.casefold(), lower, n=3)]
    if len(wanted) >= SHORTEST_PART:
        near += [name for key, name in lower.items() if wanted.casefold() in key]
    raise Refusal(
        _("There is no job “%(name)s”.") % {"name": terminal.shown(wanted)},
        _("Did you mean: %(names)s?") % {"names": ", ".join([*dict.fromkeys(near)][:3])}
        if near
        else _("All jobs: %(bach)s daemon jobs") % {"bach": project.program()},
        code=Code.NOT_FOUND,
    )


def _not_started(started: "Started", job: "Job") -> Refusal:
    bach = {"bach": project.program()}
    if started.code == "held":
        way_out = _("Let it go on: %(bach)s daemon resume") % bach
        return Refusal(started.reason, way_out, code=Code.HELD)
    if started.code != "overlap":
        return Refusal(started.reason)
    ways = []
    if started.blocking:
        address = f"{project.origin()}/daemon/runs/{started.blocking.pk}/"
        ways.append(_("Wait for its end, or cancel it: %(address)s") % {"address": address})
    ways.append(_("Or start it beside: %(bach)s daemon run %(n)s --beside") % {**bach, "n": job.pk})
    return Refusal(started.reason, "\n".join(ways), code=Code.ALREADY_RUNNING)


def _started(run: "Run") -> str:
    return _("%(job)s has started (run %(n)s).") % {"job": run.job_name, "n": run.pk}


def _what_keeps(run: "Run") -> str:
    """Return what a run waits for, unless it is about to start; "" for nothing."""
    from django.utils import timezone

    from daemon_app import admission

    place = admission.waiting(run, timezone.now())
    # It may have started while we looked, and then nothing is in its way but itself.
    if place is None or place.code == "waits_starting" or place.facts.get("run") == run.pk:
        return ""
    return place.sentence


# ── Following ────────────────────────────────────────────────────────────────────────────────────
def followed(run: "Run", *, as_json: bool, offset: int = 0) -> int:
    """Show the output of `run` from `offset` on until its end; return its command's exit code."""
    from django.core.exceptions import ObjectDoesNotExist
    from django.utils import timezone

    try:
        if as_json:
            watch(run, lambda _data: None, offset)
        else:
            with terminal.output() as write:
                watch(run, write, offset)
    except KeyboardInterrupt:
        terminal.note("")
        terminal.note(
            _("Run %(n)s goes on: %(address)s")
            % {"n": run.pk, "address": f"{project.origin()}/daemon/runs/{run.pk}/"}
        )
        terminal.note(
            _("Watch it again: %(bach)s daemon log %(n)s -f")
            % {"bach": project.program(), "n": run.pk}
        )
        return Code.INTERRUPTED
    except ObjectDoesNotExist:
        raise Refusal(
            _("Run %(n)s is gone: it was deleted with its job, or tidied away.") % {"n": run.pk},
            code=Code.NOT_FOUND,
        ) from None
    if as_json:
        terminal.say_json(run_as_json(run, timezone.now()))
    else:
        _say_end(run)
    return exit_code(run)


def watch(run: "Run", write: Callable[[bytes], None], offset: int = 0) -> None:
    """Hand the output of `run` to `write` as it comes, attempt by attempt, until it has ended.

    It begins at `offset` of the present attempt.

    The run is as in the database then.
    """
    from django.conf import settings

    from daemon_app import doorbell

    attempt, begun, remarked = run.attempt, time.monotonic(), False
    with doorbell.Bell(doorbell.runtime_dir(settings.DATA_DIR), "live-*") as bell:
        while True:
            run.refresh_from_db()
            # Read after the row: what a run has written by its end is all there is.
            ended = not run.is_active
            while attempt < run.attempt:
                earlier = run.attempts.get(number=attempt)
                copied(earlier.folder, offset, write)
                attempt, offset = attempt + 1, 0
                waits = attempt == run.attempt and run.state == run.State.QUEUED
                terminal.note(run.reason if waits else earlier.reason)
                remarked = True
            if ended or _is_its_own(run):
                offset = copied(run.folder, offset, write)
            if ended:
                return
            if (
                not remarked
                and run.state == run.State.QUEUED
                and time.monotonic() - begun > REMARK_AFTER
            ):
                remarked = True
                said = _what_keeps(run) or run.reason
                terminal.note(said or _("Run %(n)s is waiting …") % {"n": run.pk})
            _wait(bell, run)


def _wait(bell: Any, run: "Run") -> None:
    """Wait until something about `run` rings; half a second at most, for bells may be lost."""
    deadline = time.monotonic() + WAIT
    topics = (f'"log:{run.pk}"'.encode(), f'"run:{run.pk}"'.encode())
    while (left := deadline - time.monotonic()) > 0:
        if any(topic in rung for rung in bell.wait(left) for topic in topics):
            return


def _is_its_own(run: "Run") -> bool:
    """Return whether the run's folder holds the output of this attempt, and not of the last one."""
    earlier = run.attempts.filter(number=run.attempt - 1).first()
    # The last file that is put aside when an attempt begins.
    return earlier is None or (run.folder / "attempts" / str(earlier.fence) / "lock").exists()


def copied(folder: Path, offset: int, write: Callable[[bytes], None]) -> int:
    """Hand what is kept of an output from `offset` on to `write`; return where it ends."""
    from daemon_app import formats, output

    while True:
        piece = output.read(folder, offset)
        if piece.gap:
            terminal.note(
                _("… %(size)s left out: too much output to keep …")
                % {"size": formats.size(piece.gap, language.current())}
            )
        if not piece.data:
            return piece.end
        write(piece.data)
        offset = piece.end


def _say_end(run: "Run") -> None:
    from django.utils import timezone

    from daemon_app import formats, tiles

    length = run.duration(timezone.now())
    mark, why, way_out = tiles.run_mark(run), tiles.why(run), tiles.way_out(run)
    said = f"{terminal.marked(mark.word, mark.tone)}"
    if length is not None:
        said += f" · {formats.duration(length.total_seconds(), language.current(), exact=True)}"
    if why:
        said += f" · {terminal.shown(why)}"
    terminal.note(said)
    if way_out:
        terminal.note(way_out)


def exit_code(run: "Run") -> int:
    """Return what a shell would have got from the command of an ended run."""
    fixed = {
        run.State.SUCCEEDED: Code.OK,
        run.State.TIMED_OUT: Code.TIMED_OUT,
        run.State.CANCELLED: Code.INTERRUPTED,
    }
    if run.state in fixed:
        return fixed[run.State(run.state)]
    if run.signal:
        return 128 + run.signal
    if run.exit_code:
        return run.exit_code & 0xFF or Code.FAILED
    said = f"{run.reason_code} {run.reason}".upper()
    return next((code for name, code in NOT_STARTED.items() if name in said), Code.FAILED)


# ── JSON, as the REST interface has it ───────────────────────────────────────────────────────────
def jobs_as_json(
    found: "list[Job]", latest: "dict[int, list[Run]]", now: datetime
) -> list[dict[str, Any]]:
    """Return the facts of jobs for programs, each with its newest run."""
    shapes = serializers()
    # For each object a serializer would build all its fields anew: 3 ms.
    told, last = shapes.JobSerializer(), shapes.RunSerializer(context={"now": now})
    return [
        {
            **told.to_representation(job),
            "last_run": last.to_representation(runs[0]) if (runs := latest.get(job.pk)) else None,
        }
        for job in found
    ]


def job_as_json(job: "Job", runs: "list[Run]", shared: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a job for programs, with its newest run; `shared` holds `now`."""
    return jobs_as_json([job], {job.pk: runs}, shared["now"])[0]


def run_as_json(run: "Run", now: datetime) -> dict[str, Any]:
    """Return the facts of a run for programs; its output is not among them."""
    return {**serializers().RunSerializer(run, context={"now": now}).data}

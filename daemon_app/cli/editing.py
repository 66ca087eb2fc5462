"""`bach job add` and `bach job edit`: a job by options, or as text in an editor."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import editor, jobs, language, project, terminal
from daemon_app.cli import fields as of_fields
from daemon_app.cli.editor import Reason, UnfitError
from daemon_app.cli.fields import OfFields
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code, Refusal
from daemon_app.cli.times import Clock

if TYPE_CHECKING:
    from datetime import datetime

    from daemon_app.models import Job
    from daemon_app.previews import Preview

NEXT_TIMES = 5
TOLD = 3  # overlaps in words

JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))
DRY_RUN = click.option(
    "--dry-run",
    is_flag=True,
    help=_("Change nothing: show what it would mean, and the next five times."),
)


@click.command(
    cls=OfFields,
    without=("name",),
    help=_(
        "Create a job. It takes effect at once.\n\n"
        "What it runs stands after --, or in --command as one line for the shell. --schedule "
        "takes what the pages take: 30 3 * * mon-fri, 24h, 2026-12-24 18:00. Without one the job "
        "is started by hand alone. With nothing but a name an editor opens."
    ),
    examples=(
        ("bach job add nightly-backup --schedule '30 3 * * *' -- tar -czf /srv/home.tgz /home", ""),
        ("bach job add report --schedule 24h --command 'make report | mail anna' --timeout 2h", ""),
        ("bach job add cleanup --schedule 6h --only-when-idle --dry-run -- ./cleanup", ""),
        ("bach job add nightly-backup", _("write it in your editor")),
    ),
    short_help=_("Create a job."),
)
@click.argument("name", metavar=_("NAME"))
@click.argument("words", metavar=_("[-- COMMAND…]"), nargs=-1, type=click.UNPROCESSED)
@DRY_RUN
@JSON
def add(name: str, words: tuple[str, ...], *, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Create a job."""
    typed = of_fields.given(given)
    with project.database(queue=False):
        from daemon_app.models import Job

        if words:
            if "command" in typed:
                raise Refusal(
                    _("Give the command after -- or as --command, not both."), code=Code.USAGE
                )
            # One word is a line for the shell, as with ssh; several are quoted as they came.
            typed["command"] = words[0] if len(words) == 1 else shlex.join(words)
        if typed:
            return _say(_by_options(None, typed | {"name": name}, dry_run=dry_run), as_json=as_json)
        if Job.objects.filter(name=" ".join(name.split())).exists():
            raise Refusal(
                _("There is a job with this name already."),
                _("Change it: %(bach)s job edit NAME") % {"bach": project.program()},
                code=Code.USAGE,
            )
        saved = Draft(Job(name=name, job_type=Job.Kind.MANUAL), dry_run=dry_run).edit()
        return _say(saved, as_json=as_json) if saved else Code.OK


@click.command(
    cls=OfFields,
    help=_(
        "Change a job. Only what is named changes; it takes effect at once.\n\n"
        "Without options the job opens as YAML in your editor (VISUAL or EDITOR). What can't be "
        "saved comes back with the reasons; a text that stays as it is changes nothing."
    ),
    examples=(
        ("bach job edit nightly-backup", _("in your editor")),
        ("bach job edit nightly-backup --schedule '0 4 * * *' --timeout 2h", ""),
        ("bach job edit 3 --environment LANG=C --environment TZ- --max-retries 2", ""),
        ("bach job edit 3 --schedule '0 4 * * *' --dry-run", ""),
    ),
    short_help=_("Change a job."),
)
@click.argument("job", metavar=_("ID|NAME"))
@DRY_RUN
@JSON
def edit(job: str, *, dry_run: bool, as_json: bool, **given: Any) -> int:
    """Change a job."""
    typed = of_fields.given(given)
    with project.database(queue=False):
        found = jobs.find(job)
        if typed:
            return _say(_by_options(found.pk, typed, dry_run=dry_run), as_json=as_json)
        saved = Draft(found, dry_run=dry_run).edit()
        return _say(saved, as_json=as_json) if saved else Code.OK


# ── Saving ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Saved:
    """A job as it was stored, or would be: what of it changed, and what its schedule means.

    `changes` are {field: [before, after]}.
    """

    job: "Job"
    is_new: bool
    is_dry: bool
    changes: Mapping[str, Any] = field(default_factory=dict)
    preview: "Preview | None" = None


def _by_options(pk: int | None, typed: Mapping[str, Any], *, dry_run: bool) -> Saved:
    """Store what was typed. Raises Refusal with all that is wrong, each beside its option."""
    from django.core.exceptions import ValidationError

    from daemon_app.models import Job

    with _undone(dry_run) as now:
        job = Job.objects.select_for_update().get(pk=pk) if pk else Job()
        form = of_fields.filled(job, typed)
        try:
            return _store(form.instance, now, is_dry=dry_run)
        except ValidationError as error:
            lines = of_fields.faults(error.message_dict)
            raise Refusal(lines[0], "\n".join(lines[1:]), code=Code.USAGE) from error


@contextmanager
def _undone(is_dry: bool) -> "Iterator[datetime]":
    """Give the time; all that is done then is done at once, or taken back when `is_dry`."""
    from django.db import transaction
    from django.utils import timezone

    with transaction.atomic():
        yield timezone.now()
        if is_dry:
            transaction.set_rollback(True)


def _store(job: "Job", now: "datetime", *, is_dry: bool) -> Saved:
    from daemon_app import previews
    from daemon_app.models import Job
    from daemon_app.models.change import difference
    from daemon_app.schedules import ScheduleError

    before = Job.objects.filter(pk=job.pk).first() if job.pk else None
    changes: dict[str, Any] = {}
    # Saying what is so already is no change: nobody else's version counts up by it.
    if before is None or not _is_same(before, job):
        job.store(now=now, by=project.user()[:150])
    if before is not None:
        changes = difference(before, job)
        if before.is_active != job.is_active:
            changes["is_active"] = [before.is_active, job.is_active]
    meant = None
    if job.job_type != Job.Kind.MANUAL and not job.skill:
        with suppress(ScheduleError):
            meant = previews.preview(
                *(job.job_type, job.schedule, job.timezone),
                of=job,
                now=now,
                language=language.current(),
                most=NEXT_TIMES,
            )
    return Saved(job, before is None, is_dry, changes, meant)


def _is_same(before: "Job", job: "Job") -> bool:
    from daemon_app.intake import definitions

    same = (getattr(before, name) == getattr(job, name) for name in definitions.FIELDS)
    return all(same) and not before.schedule_error


# ── In an editor ─────────────────────────────────────────────────────────────────────────────────
class Draft:
    """A job as a text that somebody changes, stored when it can be."""

    def __init__(self, job: "Job", *, dry_run: bool) -> None:
        self.job, self.dry_run = job, dry_run
        self._seen = job.version

    def edit(self) -> Saved | None:
        """Let somebody change it in an editor; None when nothing is to change. Raises Refusal."""
        return editor.ask(self.job.name, self.text(), self.store)

    def text(self) -> str:
        """Return the job as YAML, with what else could be said of it as comments."""
        from daemon_app.forms import JobForm
        from daemon_app.intake import definitions

        said = definitions.written([self.job]).rstrip("\n")
        named = {line.partition(":")[0] for line in said.splitlines()}
        others = []
        for name in definitions.FIELDS:
            if name not in named:
                label = str(JobForm.base_fields[name].label).rstrip("?:")
                others.append(f"# {f'{name}: {_default_of(name)}':<32} # {label}".rstrip())
        head = (
            _("What is not named here has its default; a line that begins with # says nothing."),
            _("Leave the text as it is, or empty it, to change nothing."),
        )
        below = _("What else may be said, with its default:")
        return "\n".join([*(f"# {line}" for line in head), said, f"# {below}", *others, ""])

    def store(self, text: str) -> Saved:
        """Store the job that a text says. Raises UnfitError."""
        from django.core.exceptions import ValidationError

        from daemon_app.intake import definitions
        from daemon_app.intake.definitions import DefinitionError
        from daemon_app.models import Job

        try:
            found = definitions.read_all(text)
        except DefinitionError as error:
            raise UnfitError(*(Reason.of(str(fault)) for fault in error.faults)) from error
        if len(found) != 1 or found[0].kind != definitions.JOB:
            raise UnfitError(Reason(_("Here is room for one job. For several: bach apply")))
        with _undone(self.dry_run) as now:
            job = Job()
            if self.job.pk:
                job = Job.objects.select_for_update().filter(pk=self.job.pk).first() or job
                self._check(job)
            try:
                _take(job, found[0].said)
                return _store(job, now, is_dry=self.dry_run)
            except ValidationError as error:
                raise UnfitError(
                    *(
                        Reason(f"{name}: {' '.join(said)}", found[0].lines.get(name))
                        for name, said in error.message_dict.items()
                    )
                ) from error

    def _check(self, job: "Job") -> None:
        """Refuse what was written over somebody else's change, once. Raises UnfitError."""
        if not job.pk:
            raise UnfitError(Reason(_("The job has been deleted meanwhile.")), is_final=True)
        if job.version != self._seen:
            self._seen = job.version
            said = _(
                "%(who)s changed this job while you were editing. Nothing has been saved; "
                "saving again replaces those changes."
            )
            raise UnfitError(Reason(said % {"who": job.updated_by or _("Somebody")}))


def _take(job: "Job", said: Mapping[str, Any]) -> None:
    """Let a job be what a text says; what it does not name is as in a new one.

    A value that is left out stays as it is, and so does a pause, of which a text does not speak.
    """
    from daemon_app.intake import definitions

    stored = {name: getattr(job, name) for name in definitions.SECRET}
    is_paused = job.paused_until is not None
    for name in definitions.FIELDS:
        value = said.get(name, definitions.default(name))
        if name in stored:
            kept = stored[name]
            value = {key: kept.get(key, "") if v is None else v for key, v in value.items()}
        setattr(job, name, value)
    if is_paused and job.is_active:
        job.is_active = False


def _default_of(name: str) -> str:
    """Return the default of a field as YAML; "" for none."""
    from daemon_app.intake import definitions

    default = definitions.default(name)
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in (None, "") else str(default)


# ── What is said of it ───────────────────────────────────────────────────────────────────────────
def _say(saved: Saved, *, as_json: bool) -> int:
    from django.utils import timezone

    now, job = timezone.now(), saved.job
    if as_json:
        told = jobs.job_as_json(job, [], {"now": now})
        del told["last_run"]
        if saved.is_dry:
            times = saved.preview.times if saved.preview else []
            told |= {
                "id": None if saved.is_new else job.pk,
                "dry_run": True,
                "changes": saved.changes,
                "upcoming": _ahead(saved) if times else [],
                "warnings": [*saved.preview.warnings] if saved.preview else [],
            }
        terminal.say_json(told)
        return Code.OK
    words = {"job": terminal.shown(job.name), "n": job.pk}
    if saved.is_dry:
        terminal.say(f"{words['job']}: {terminal.shown(job.describe())}")
    elif saved.is_new:
        terminal.say(_("%(job)s has been created (job %(n)s).") % words)
    elif saved.changes:
        terminal.say(_("%(job)s has been saved.") % words)
    else:
        terminal.say(_("%(job)s stays as it is.") % words)
    say_changes(saved.changes, now)
    _say_times(saved, Clock.here(now))
    _say_remarks(saved)
    if saved.is_dry:
        terminal.note(_("Nothing has been changed: this was a dry run."))
    return Code.OK


def say_changes(changes: Mapping[str, Any], now: "datetime") -> None:
    """Write what changed of a job: each field before and after; nothing for nothing."""
    from daemon_app.models import Change
    from daemon_app.tiles.changes import change_rows

    if not changes:
        return
    change = Change(kind=Change.Kind.EDITED, subject=Change.Subject.JOB, fields=dict(changes))
    (row,) = change_rows([change], now)
    terminal.table(
        (pgettext("column", "Field"), pgettext("column", "Before"), pgettext("column", "After")),
        [
            (each.label, each.before or "–", each.remark or each.after or "–")
            for each in row.differences
        ],
    )


def _ahead(saved: Saved) -> "list[datetime]":
    """Return the next times at which the job would start, up to its deadline."""
    job = saved.job
    times = saved.preview.times if saved.preview and job.is_active else ()
    return [at for at in times if job.deadline is None or at <= job.deadline]


def _say_times(saved: Saved, clock: Clock) -> None:
    times = _ahead(saved)
    if not saved.is_dry:
        if not saved.is_new and not {
            "schedule",
            "job_type",
            "timezone",
            "is_active",
            "deadline",
        } & {*saved.changes}:
            return
        if times:
            said = _("%(schedule)s, for the first time %(when)s.")
            terminal.say(
                said
                % {"schedule": terminal.shown(saved.job.describe()), "when": clock.ahead(times[0])}
            )
        elif saved.is_new:
            terminal.say(terminal.shown(saved.job.describe()))
    elif times:
        terminal.say(_("The next times:"))
        for at in times:
            terminal.say(f"  {clock.ahead(at)}")
    elif not saved.job.is_active:
        terminal.say(_("It is switched off, and does not start by itself."))


def _say_remarks(saved: Saved) -> None:
    """Write what may surprise of the schedule and of the command."""
    from daemon_app import formats, preflight

    if saved.preview:
        told = [*saved.preview.warnings]
        if saved.preview.longer:
            span = formats.duration(saved.preview.longer, language.current())
            said = _("A run usually takes %(span)s: longer than from one start to the next.")
            told.append(said % {"span": span})
        if met := saved.preview.overlaps[:TOLD]:
            names = ", ".join(each.name for each in met)
            told.append(_("At these times run also: %(names)s.") % {"names": names})
        for each in told:
            terminal.note(f"! {terminal.shown(each)}")
    job = saved.job
    if job.skill:
        return
    wanted = preflight.Wanted(
        **{each.name: getattr(job, each.name) for each in fields(preflight.Wanted)}
    )
    for finding in preflight.look(wanted).findings:
        if finding.level == "warn":
            said = f"{finding.what}: {finding.sentence}" if finding.what else finding.sentence
            terminal.note(f"! {terminal.shown(said)}")

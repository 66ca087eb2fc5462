"""`bach import`: jobs that another program knew move in."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Group
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from datetime import datetime

    from daemon_app.intake import Draft, Plan
    from daemon_app.intake.definitions import DefinitionError
    from daemon_app.intake.past import Past
    from daemon_app.intake.plan import OutdatedError

PATIENCE = 20.0  # seconds for `crontab -l`
LONGEST = 13_000_000  # bytes of a file
MOST_FAULTS = 20  # told at once
MANY_RUNS = 1_000  # from here on it is worth to show how far it is
SYSTEM_CRONTAB = Path("/etc/crontab")
SYSTEM_CRON = Path("/etc/cron.d")
USER_UNITS = (".config/systemd/user", ".local/share/systemd/user")
# In the order in which systemd looks; what stands in an earlier one counts.
SYSTEM_UNITS = (
    Path("/etc/systemd/system"),
    Path("/run/systemd/system"),
    Path("/usr/local/lib/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
MARKS = {"new": ("+", "is-ok"), "known": ("=", ""), "refused": ("✗", "is-fail")}


class _ImportGroup(Group):
    """A first word that is none of its commands is a file: `bach import bach.db`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            return "database", self.commands["database"], args
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if not self.commands[name].hidden]


@click.group(
    "import",
    cls=_ImportGroup,
    help=_(
        "Let jobs move in that another program knew: bach import FILE for the database of an "
        "original BACH (bach.db), or one of the commands below.\n\n"
        "First it only shows what would come, what would be different here, and why something "
        "can't. With --apply it comes: all of it or nothing, and switched off unless you say "
        "--active. What has come before is left alone."
    ),
    examples=(
        ("bach import crontab", _("your own crontab")),
        ("bach import crontab --apply", ""),
        ("bach import ~/bach/system/data/bach.db", _("an original BACH")),
        ("bach import timers", _("timers of systemd")),
        ("bach import definitions jobs.yaml", _("what bach export wrote")),
    ),
    short_help=_("Let jobs move in that another program knew."),
)
def import_() -> None:
    """Hold the commands that read something."""


def _options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--apply", "is_applied", is_flag=True, help=_("Do it.")),
            click.option(
                "--active", is_flag=True, help=_("Switched on, as far as they were there.")
            ),
            click.option("--yes", is_flag=True, help=_("Do not ask.")),
            click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs.")),
        )
    ):
        command = option(command)
    return command


# ── Where it comes from ──────────────────────────────────────────────────────────────────────────
@import_.command(
    "crontab",
    help=_(
        "Let the entries of a crontab move in: your own, a file, or with - what is piped in.\n\n"
        "In crontabs of the system a user stands before each command (--system). Without a file "
        "that is /etc/crontab and /etc/cron.d."
    ),
    examples=(
        ("bach import crontab", _("your own")),
        ("bach import crontab backup.cron --apply --active", ""),
        ("ssh server crontab -l | bach import crontab -", ""),
        ("bach import crontab --system", ""),
    ),
    short_help=_("Let the entries of a crontab move in."),
)
@click.argument("file", metavar=_("[FILE]"), required=False)
@click.option("--system", is_flag=True, help=_("A user stands before each command."))
@_options
def crontab(file: str | None, system: bool, **asked: Any) -> int:
    """Plan for a crontab."""
    with project.database():
        from django.conf import settings

        from daemon_app import crontab as reader
        from daemon_app.intake import from_crontab

        files = _crontabs(file, system=system)
        is_of_system = file is not None and Path(file).resolve().parent in {
            SYSTEM_CRONTAB.parent,
            SYSTEM_CRON,
        }
        drafts = from_crontab.drafts(
            files, me=project.user(), zone=settings.TIME_ZONE, system=system or is_of_system
        )
        if not (system or is_of_system) and any(map(reader.looks_like_system, files.values())):
            terminal.note(
                _("A user seems to stand before each command; if so, add --system to read it so.")
            )
        return _carry_on(drafts, from_crontab.NOTES, **asked)


def _crontabs(file: str | None, *, system: bool) -> dict[str, str]:
    """Return the texts that were asked for, by name; "" where there is but one."""
    from daemon_app.intake import files

    if file == "-":
        data = sys.stdin.buffer.read(LONGEST + 1)
        if len(data) > LONGEST:
            raise unreadable(files.FileError("too_big", str(LONGEST)), "-")
        return {"": files.decoded(data)}
    if file is not None:
        return {"": text_of(file)}
    if not system:
        return {"": _own_crontab()}
    found = [SYSTEM_CRONTAB] if SYSTEM_CRONTAB.exists() else []
    with contextlib.suppress(OSError):
        # As cron does: names with other characters are left by package managers and editors.
        named = [each for each in SYSTEM_CRON.iterdir() if set(each.name).isdisjoint(".~#,")]
        found += sorted(named)
    return {str(path): text_of(str(path)) for path in found}


def _own_crontab() -> str:
    from daemon_app.intake import files

    try:
        done = subprocess.run(
            ["crontab", "-l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError as error:
        raise Refusal(
            _("There is no cron here (the program “crontab” was not found)."),
            _("Name a file: %(bach)s import crontab FILE") % {"bach": project.program()},
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal(_("“crontab -l” does not answer: %(error)s") % {"error": error}) from error
    if done.returncode:
        said = terminal.shown(files.decoded(done.stderr).strip())
        raise Refusal(
            _("“crontab -l” shows nothing: %(error)s") % {"error": said or done.returncode},
            _("Name a file: %(bach)s import crontab FILE") % {"bach": project.program()},
        )
    return files.decoded(done.stdout)


@import_.command(
    "timers",
    help=_(
        "Let timers of systemd move in, with the services they start: your own, those of a "
        "folder, or with --system those of the machine.\n\n"
        "What can't be said by a schedule is not guessed: it stays, and you are told why."
    ),
    examples=(
        ("bach import timers", _("your own")),
        ("bach import timers ./units --apply", ""),
        ("bach import timers --system", ""),
    ),
    short_help=_("Let timers of systemd move in."),
)
@click.argument("folder", metavar=_("[FOLDER]"), required=False)
@click.option("--system", is_flag=True, help=_("Timers of the machine, which start as root."))
@_options
def timers(folder: str | None, system: bool, **asked: Any) -> int:
    """Plan for timers of systemd."""
    with project.database():
        from django.conf import settings

        from daemon_app.intake import from_timers

        where = place(folder) if folder else None
        if where is not None and not where.is_dir():
            raise Refusal(_("%(path)s is no folder.") % {"path": terminal.shown(str(where))})
        system = system or (where is not None and where.resolve() in SYSTEM_UNITS)
        of_user = [Path.home() / each for each in USER_UNITS]
        folders = [where] if where else [*SYSTEM_UNITS] if system else of_user
        try:
            texts, enabled = from_timers.units_in(folders)
        except OSError as error:
            raise Refusal(
                _("%(path)s can't be read: %(error)s")
                % {"path": error.filename, "error": error.strerror}
            ) from error
        me = project.user()
        units = from_timers.Units(
            texts,
            manager="root" if system else me,
            home="/root" if system else str(Path.home()),
            folder="/" if system else "",
            enabled=enabled,
        )
        drafts = from_timers.drafts(units, me=me, zone=settings.TIME_ZONE)
        return _carry_on(drafts, from_timers.NOTES, **asked)


@import_.command(
    "definitions",
    help=_(
        "Let jobs move in that bach export wrote, for example on another machine.\n\n"
        "A job whose name is there already is left alone; bach apply changes those."
    ),
    examples=(("bach import definitions jobs.yaml --apply", ""),),
    short_help=_("Let jobs move in that bach export wrote."),
)
@click.argument("files", metavar=_("FILE…"), nargs=-1, required=True)
@_options
def definitions(files: tuple[str, ...], **asked: Any) -> int:
    """Plan for files of ours."""
    with project.database():
        from daemon_app.intake import from_definitions
        from daemon_app.intake.definitions import DefinitionError

        texts = {name: text_of(name, is_utf8=True) for name in files}
        try:
            drafts = from_definitions.drafts(texts)
        except DefinitionError as error:
            raise faulty(error) from error
        return _carry_on(drafts, (), **asked)


@import_.command(
    "database",
    hidden=True,
    help=_(
        "Let the jobs of an original BACH move in, with their newest runs and what those said.\n\n"
        "FILE is its database, bach.db. It is only read. Chains and jobs that wait for events, "
        "tool chains, recurring tasks, profiles and prompts do not come yet; they are counted."
    ),
    examples=(("bach import ~/bach/system/data/bach.db", ""),),
)
@click.argument("file", metavar=_("FILE"))
@click.option("--no-runs", is_flag=True, help=_("Without the runs they had."))
@_options
def database(file: str, no_runs: bool, **asked: Any) -> int:
    """Plan for the database of an original BACH."""
    with project.database():
        from django.conf import settings
        from django.utils import timezone

        from daemon_app import legacy
        from daemon_app.intake import from_legacy
        from daemon_app.intake.past import Past
        from daemon_app.models import Policy

        path = place(file)
        zone = settings.TIME_ZONE
        try:
            with legacy.opened(path, own_database()) as source:
                found = source.read()
                jobs = [row.number_of_job for row in found.jobs]
                runs = {} if no_runs else source.newest_runs(jobs, from_legacy.RUNS_OF_A_JOB)
                drafts = from_legacy.drafts(found, runs, zone=zone)
                later = from_legacy.others_beside(path.resolve()) | found.others
                rules = Policy.current()
                since = timezone.now() - timedelta(days=rules.keep_days)
                free = shutil.disk_usage(settings.DATA_DIR).free
                room = min(rules.keep_output_mb << 20, free // 2)
                return _carry_on(
                    drafts,
                    from_legacy.NOTES,
                    later=later,
                    has_more=found.has_more,
                    before=Past(source, zone, since, room),
                    **asked,
                )
        except legacy.LegacyError as error:
            raise unreadable(error, file) from error


def own_database() -> Path | None:
    """Return the file we work with ourselves; None when it is none."""
    from django.db import connection

    name = str(connection.settings_dict["NAME"])
    return Path(name) if connection.vendor == "sqlite" and ":" not in name else None


def place(path: str) -> Path:
    """Return the path that somebody has typed, from home where it begins so: --output=~/x."""
    return Path(path).expanduser() if path.startswith("~/") else Path(path)


def text_of(file: str, *, is_utf8: bool = False) -> str:
    """Return what stands in a file that somebody has named. Raises Refusal."""
    from daemon_app.intake import files

    try:
        return files.text(place(file), LONGEST, own_database(), is_utf8=is_utf8)
    except files.FileError as error:
        raise unreadable(error, file) from error


def faulty(error: "DefinitionError") -> Refusal:
    """Return what is wrong in files of definitions: each with its line."""
    told = [terminal.shown(str(fault)) for fault in error.faults[:MOST_FAULTS]]
    if more := len(error.faults) - len(told):
        told.append(_("… and %(n)s more.") % {"n": more})
    return Refusal("\n".join(told), _("Nothing has been changed."))


def outdated(error: "OutdatedError") -> Refusal:
    """Return what is said when something is not as it was when the plan was made."""
    return Refusal(
        _("“%(name)s” has come or changed meanwhile; nothing has been done.")
        % {"name": terminal.shown(error.name)},
        _("Do it again."),
    )


def unreadable(error: Any, file: str) -> Refusal:
    """Return why a file can't be read, and what to do."""
    why = {
        "missing": _("%(file)s is not there."),
        "denied": _("%(file)s may not be read: %(detail)s"),
        "no_file": _("%(file)s is no file."),
        "too_big": _("%(file)s is longer than %(detail)s bytes."),
        "not_utf8": _("%(file)s is no text in UTF-8 (line %(detail)s)."),
        "ours": _("%(file)s is a database of this BACH; its jobs are here already."),
        "empty": _("%(file)s is empty."),
        "no_database": _("%(file)s is no database of SQLite."),
        "foreign": _("%(file)s is no database of a BACH; it holds: %(detail)s"),
        "locked": _("Another program is writing to %(file)s, and keeps it locked."),
        "half_written": _("Whoever wrote to %(file)s last was interrupted: %(detail)s"),
        "damaged": _("%(file)s is damaged: %(detail)s"),
        "too_long": _("%(file)s takes too long to read."),
    }[error.code]
    ways = {
        "no_database": _("If it is a crontab: bach import crontab FILE"),
        "locked": _("Stop the other BACH first, or import a copy of the file."),
        "half_written": _("Start and stop the other BACH once; it puts that right. Then again."),
        "damaged": _("Nothing has been changed. sqlite3 FILE .recover may save what is left."),
    }
    shown = {"file": terminal.shown(file), "detail": terminal.shown(error.detail) or "–"}
    return Refusal(why % shown, ways.get(error.code, ""))


# ── What becomes of it ───────────────────────────────────────────────────────────────────────────
def _carry_on(  # noqa: PLR0913 - what was asked for, and what is known of the source
    drafts: "list[Draft]",
    notes: Iterable[str],
    *,
    is_applied: bool,
    active: bool,
    yes: bool,
    as_json: bool,
    later: Mapping[str, int] | None = None,
    has_more: bool = False,
    before: "Past | None" = None,
) -> int:
    """Show what would become of drafts; do it, if that was asked for."""
    from django.utils import timezone

    from daemon_app import intake
    from daemon_app.intake.words import REMARKS
    from daemon_app.models import Policy

    now = timezone.now()
    plan = intake.plan(drafts, active=active, now=now)
    facts = {"zone": timezone.get_current_timezone_name(), "days": Policy.current().keep_days}
    said = [str(REMARKS[note]) % facts for note in notes] if drafts else []
    told = _Told(plan, said, later or {}, has_more=has_more)
    new = plan.of("new")
    if not as_json:
        told.show()
    if not is_applied or not new:
        if as_json:
            terminal.say_json(told.as_json(is_applied=is_applied))
        elif new:
            terminal.say(
                _("Nothing has been changed yet. To let them come, repeat it with --apply.")
            )
        return Code.OK
    if not yes and not as_json and terminal.is_terminal() and sys.stdin.isatty():
        question = ngettext("Let %(n)s job come?", "Let %(n)s jobs come?", len(new))
        if not click.confirm(question % {"n": len(new)}, default=False, err=True):
            return Code.FAILED
    _apply(plan, active=active, now=now, before=before)
    if as_json:
        terminal.say_json(told.as_json(is_applied=True))
        return Code.OK
    switched_on = sum(active and step.draft.was_active for step in new)
    terminal.say(
        ngettext("%(n)s job has come.", "%(n)s jobs have come.", len(new)) % {"n": len(new)}
    )
    if before is not None and before.came:
        terminal.say(
            ngettext("%(n)s run came with them.", "%(n)s runs came with them.", before.came)
            % {"n": before.came}
        )
    if switched_on < len(new):
        off = len(new) - switched_on
        terminal.say(
            ngettext(
                "%(n)s of them is switched off; look at it, then switch it on: %(address)s",
                "%(n)s of them are switched off; look at them, then switch them on: %(address)s",
                off,
            )
            % {"n": off, "address": f"{project.origin()}/daemon/"}
        )
    return Code.OK


def _apply(plan: "Plan", *, active: bool, now: "datetime", before: "Past | None") -> None:
    from daemon_app import intake
    from daemon_app.intake.plan import OutdatedError

    runs = sum(len(step.draft.past) for step in plan.of("new"))
    is_long = before is not None and runs >= MANY_RUNS
    with terminal.progress(_("Runs"), runs, is_long=is_long) as told:
        if before is not None:
            before.told = told
        try:
            intake.carry_out(plan, active=active, now=now, by=project.user()[:150], before=before)
        except OutdatedError as error:
            raise outdated(error) from error
        except OSError as error:
            raise Refusal(
                _("The output of earlier runs can't be written (%(error)s); nothing has been done.")
                % {"error": error},
            ) from error


class _Told:
    """What is said of a plan, to people and to programs."""

    def __init__(
        self, plan: "Plan", notes: list[str], later: Mapping[str, int], *, has_more: bool
    ) -> None:
        self.plan, self.notes, self.later, self.has_more = plan, notes, later, has_more

    def show(self) -> None:
        """Write the table, and what holds for all of it."""
        if self.plan.steps:
            words = {
                "new": pgettext("import", "new"),
                "known": pgettext("import", "there already"),
                "refused": pgettext("import", "can't come"),
            }
            rows = []
            for step in self.plan.steps:
                sign, tone = MARKS[step.what]
                rows.append(
                    (
                        (f"{sign} {words[step.what]}", tone),
                        step.job.name if step.job else step.draft.name,
                        step.draft.where,
                        step.new_job.describe() if step.what == "new" else "–",
                        " ".join(map(str, step.remarks)),
                    )
                )
            terminal.table(
                (
                    pgettext("column", "What"),
                    pgettext("column", "Job"),
                    pgettext("column", "Where"),
                    pgettext("column", "Schedule"),
                    pgettext("column", "Remarks"),
                ),
                rows,
            )
            terminal.say()
        counts = {what: len(self.plan.of(what)) for what in ("new", "known", "refused")}
        terminal.say(_("New: %(new)s. There already: %(known)s. Can't come: %(refused)s.") % counts)
        for line in [*self.notes, *self._of_later()]:
            terminal.say(line)

    def _of_later(self) -> list[str]:
        names = {
            "toolchains": _("tool chains"),
            "recurring": _("recurring tasks"),
            "profiles": _("profiles of sessions"),
            "prompts": _("prompts"),
        }
        said = []
        if self.has_more:
            said.append(_("There are more jobs than are read at once."))
        if self.later:
            found = ", ".join(f"{names[kind]}: {count}" for kind, count in self.later.items())
            said.append(_("Not read yet, for a later version: %(found)s.") % {"found": found})
        return said

    def as_json(self, *, is_applied: bool) -> dict[str, Any]:
        """Return the same for programs."""
        from daemon_app.models import Job

        origins = [step.draft.origin for step in self.plan.of("new")] if is_applied else []
        made = {job.origin: job.pk for job in Job.objects.exclude(origin="") if origins}
        return {
            "applied": is_applied,
            "new": len(self.plan.of("new")),
            "known": len(self.plan.of("known")),
            "refused": len(self.plan.of("refused")),
            "jobs": [
                {
                    "what": step.what,
                    "name": step.job.name if step.job else step.draft.name,
                    "where": step.draft.where,
                    "id": step.job.pk if step.job else made.get(step.draft.origin),
                    "job_type": step.draft.fields.get("job_type"),
                    "schedule": step.draft.fields.get("schedule"),
                    "runs": len(step.draft.past),
                    "remarks": [
                        {"code": remark.code, "text": str(remark)} for remark in step.remarks
                    ],
                }
                for step in self.plan.steps
            ],
            "notes": self.notes,
            "later": dict(self.later),
        }

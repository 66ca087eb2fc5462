"""`bach export` and `bach apply`: jobs as files that can live in git."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import jobs as named
from daemon_app.cli import moving, project, terminal
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import ngettext, pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from daemon_app.intake.applying import Move, Plan
    from daemon_app.intake.definitions import Definition, Fault
    from daemon_app.intake.folder import Arrangement
    from daemon_app.models import Job

MANY = 200  # from here on it is worth to show how far it is
LONGEST_VALUE = 120
MARKS = {
    "new": ("+", "is-ok"),
    "changed": ("~", "is-warn"),
    "passed": ("·", ""),
    "extra": ("−", "is-fail"),
    "stays": ("·", ""),
}
STDIN = "-"
JSON = click.option("--json", "as_json", is_flag=True, help=_("Write JSON, for programs."))


# ── Out ──────────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Write jobs as YAML, to be read, kept in git and applied again: all of them with the pools "
        "and the rules for all jobs, or those you name.\n\n"
        "Only what differs from the default is written, always in the same order. In a folder each "
        "job has its file; one that says the same already is left as it is, comments and all."
    ),
    examples=(
        ("bach export > jobs.yaml", ""),
        ("bach export nightly-backup", _("one job")),
        ("bach export --folder jobs", _("a file for each job")),
        ("bach export --folder jobs --no-values", _("passwords stay here")),
        ("bach export --schema > bach.schema.json", _("for editors that check and complete")),
    ),
    short_help=_("Write jobs as YAML, for git."),
)
@click.argument("jobs", metavar=_("[JOB]…"), nargs=-1)
@click.option("--output", "-o", "file", metavar=_("FILE"), help=_("Into this file."))
@click.option("--folder", metavar=_("FOLDER"), help=_("Into this folder, a file for each job."))
@click.option(
    "--no-values",
    is_flag=True,
    help=_("Without the values of variables; where it is applied they stay as they are."),
)
@click.option(
    "--prune", is_flag=True, help=_("Remove files from the folder whose job is not here any more.")
)
@click.option(
    "--schema", is_flag=True, help=_("Write what such a file may hold, as JSON Schema for editors.")
)
@JSON
def export(  # noqa: PLR0913 - what may be asked for
    jobs: tuple[str, ...],
    *,
    file: str | None,
    folder: str | None,
    no_values: bool,
    prune: bool,
    schema: bool,
    as_json: bool,
) -> int:
    """Write what there is."""
    if schema:
        return _write_schema()
    if "" in {file, folder}:
        raise click.UsageError(_("The name of a file or folder is empty."))
    if file and folder:
        raise click.UsageError(_("Give either a file or a folder, not both."))
    if prune and (not folder or jobs):
        raise click.UsageError(_("--prune is for a folder that holds all jobs."))
    with project.database():
        from daemon_app.intake import definitions
        from daemon_app.models import Job

        chosen = _chosen(jobs) if jobs else list(Job.objects.filter(skill="").order_by("name"))
        if jobs:
            told = [definitions.as_mapping(job, values=not no_values) for job in chosen]
            said = told[0] if len(told) == 1 else {"jobs": told}
        else:
            said = definitions.of_all(chosen, values=not no_values)
        if folder:
            _fill(moving.place(folder), said, prune=prune, as_json=as_json)
        elif file and file != STDIN:
            _save(moving.place(file), _text_of(said, as_json=as_json))
        else:
            click.echo(_text_of(said, as_json=as_json), nl=False)
        if not no_values and (file or folder):
            _warn_of_values(chosen)
    return Code.OK


def _write_schema() -> int:
    project.configure()
    from daemon_app.intake.file_schema import schema

    terminal.say_json(schema())
    return Code.OK


def _chosen(names: Iterable[str]) -> "list[Job]":
    found = list({job.pk: job for job in map(named.find, names)}.values())
    for job in found:
        if job.skill:
            raise Refusal(
                _("“%(name)s” belongs to a skill; files can't define it.")
                % {"name": terminal.shown(job.name)}
            )
    return found


def _text_of(said: Mapping[str, Any], *, as_json: bool) -> str:
    if as_json:
        return f"{terminal.as_json(said)}\n"
    from daemon_app.intake import definitions

    return definitions.as_text(said)


def _save(path: Path, text: str) -> None:
    from daemon_app.intake import folder

    own = moving.own_database()
    if own is not None and path.exists() and own.exists() and path.samefile(own):
        raise Refusal(_("%(file)s is the database of this BACH.") % {"file": path})
    if path.exists() and not path.is_file():
        raise Refusal(_("%(file)s is no file.") % {"file": terminal.shown(str(path))})
    try:
        folder.write(path, text)
    except OSError as error:
        raise _not_written(error, path) from error


def _not_written(error: OSError, path: Path) -> Refusal:
    return Refusal(
        _("%(path)s can't be written: %(error)s")
        % {
            "path": terminal.shown(str(error.filename or path)),
            "error": error.strerror or error,
        }
    )


def _fill(where: Path, said: Mapping[str, Any], *, prune: bool, as_json: bool) -> None:
    """Write jobs and what holds for all into a folder, and tell of it."""
    from daemon_app.intake import definitions, folder

    jobs = said.get("jobs", [said])
    shared = {key: value for key, value in said.items() if key in {"policy", "pools"} and value}
    text = definitions.as_text(shared) if "jobs" in said and shared else ""
    if where.exists() and not where.is_dir():
        raise Refusal(_("%(path)s is no folder.") % {"path": terminal.shown(str(where))})
    is_whole = "policy" in said
    try:
        found = folder.arrange(where, jobs, text, moving.LONGEST)
        where.mkdir(parents=True, exist_ok=True)
        with _bar(len(found.texts)) as step:
            for path, content in found.texts.items():
                folder.write(path, content)
                step(1)
        for path in found.left if prune else ():
            path.unlink()
    except folder.TakenError as error:
        raise Refusal(
            _("%(file)s says something else as well, and is not written over.")
            % {"file": terminal.shown(error.file)},
            _("Nothing has been written. Give each job a file of its own, or take another folder."),
        ) from error
    except OSError as error:
        raise _not_written(error, where) from error
    _tell_of(found, prune=prune, is_whole=is_whole, as_json=as_json)


def _tell_of(found: "Arrangement", *, prune: bool, is_whole: bool, as_json: bool) -> None:
    left = found.left if is_whole else []
    if as_json:
        paths = {
            "written": found.texts,
            "same": found.same,
            "removed": left if prune else [],
            "left": [] if prune else left,
            "unread": found.unread,
        }
        terminal.say_json({key: sorted(map(str, value)) for key, value in paths.items()})
        return
    if found.unread:
        terminal.note(
            _("These files can't be read as jobs, and stay as they are: %(files)s")
            % {"files": _named(found.unread)}
        )
    facts = {"written": len(found.texts), "same": len(found.same)}
    terminal.say(_("Files written: %(written)s. As they were: %(same)s.") % facts)
    if not left:
        return
    names = _named(left)
    if prune:
        terminal.say(_("Removed, for their jobs are gone: %(files)s") % {"files": names})
    else:
        terminal.note(
            _("The jobs of these files are not here; --prune removes them: %(files)s")
            % {"files": names}
        )


def _named(paths: "list[Path]") -> str:
    names = (terminal.shown(str(path)) for path in paths[:5])
    return ", ".join(names) + (" …" if paths[5:] else "")


def _warn_of_values(jobs: "list[Job]") -> None:
    count = sum(bool(job.environment or job.parameters) for job in jobs)
    if count:
        terminal.note(
            ngettext(
                "The values of the variables of %(n)s job stand in it; --no-values leaves them "
                "out.",
                "The values of the variables of %(n)s jobs stand in it; --no-values leaves them "
                "out.",
                count,
            )
            % {"n": count}
        )


def _bar(steps: int) -> "AbstractContextManager[Callable[[int], None]]":
    """Show how far long work is; give what tells of a step."""
    return terminal.progress(_("Jobs"), steps, is_long=steps >= MANY)


# ── In ───────────────────────────────────────────────────────────────────────────────────────────
@click.command(
    cls=Command,
    help=_(
        "Make the jobs here as files say: those of a folder, files you name, or - for what is "
        "piped in. First it shows what that would change, field by field; then it asks, and does "
        "all of it or nothing. Done again it changes nothing.\n\n"
        "What a file does not name of a job gets its default; jobs that no file names stay. Only "
        "with --prune are those deleted that came from files of this set and stand in none any "
        "more. Files from elsewhere are a set of their own, named by --set."
    ),
    examples=(
        ("bach apply jobs", _("a folder, for example from git")),
        ("bach apply nightly-backup.yaml --yes", ""),
        (
            "bach apply jobs --check",
            _("only look; the exit code is 8 if it would change something"),
        ),
        ("bach apply jobs --prune", _("delete what the files do not name any more")),
        ("ssh server bach export | bach apply -", ""),
    ),
    short_help=_("Make the jobs as files say."),
)
@click.argument("paths", metavar=_("FOLDER|FILE…"), nargs=-1, required=True)
@click.option("--check", is_flag=True, help=_("Change nothing; 8 if it would."))
@click.option(
    "--prune", is_flag=True, help=_("Delete jobs of this set that no file names any more.")
)
@click.option("--yes", is_flag=True, help=_("Do not ask."))
@click.option(
    "--set", "of_set", metavar=_("NAME"), help=_("The set that these files are; usually “files”.")
)
@JSON
def apply(  # noqa: PLR0913 - what may be asked for
    paths: tuple[str, ...],
    *,
    check: bool,
    prune: bool,
    yes: bool,
    of_set: str | None,
    as_json: bool,
) -> int:
    """Plan, show, ask, do."""
    with project.database():
        from django.utils import timezone

        from daemon_app.intake import applying
        from daemon_app.intake.definitions import DefinitionError

        of_set = applying.USUAL_SET if of_set is None else of_set
        if not applying.SET_NAME.fullmatch(of_set):
            raise click.UsageError(
                _("A set is named by up to 20 of a-z, 0-9, - and _, for example “web”.")
            )
        found = _read(paths)
        now = timezone.now()
        try:
            plan = applying.plan(found, of_set=of_set, now=now)
        except DefinitionError as error:
            raise moving.faulty(error) from error
        told = _Told(plan, prune=prune)
        would_change = plan.would_change(prune=prune)
        if not as_json:
            told.show()
        if check:
            if as_json:
                terminal.say_json(told.as_json(is_applied=False))
            return Code.WOULD_CHANGE if would_change else Code.OK
        gone = len(plan.of(applying.EXTRA)) if prune else 0
        if would_change and not yes and not _is_wanted(plan, gone, as_json=as_json):
            return Code.FAILED
        if would_change or any(move.is_adopted for move in plan.moves):
            _carry_out(plan, prune=prune)
        if as_json:
            terminal.say_json(told.as_json(is_applied=True))
        elif would_change:
            terminal.say(_("Done."))
    return Code.OK


def _read(paths: Iterable[str]) -> "list[Definition]":
    """Return what files define. Raises Refusal with all that is wrong in them."""
    from daemon_app.intake import definitions

    found: list[Definition] = []
    faults: list[Fault] = []
    texts = _texts(paths)
    with _bar(len(texts)) as step:
        for name, text in texts.items():
            try:
                found += definitions.read_all(text, name)
            except definitions.DefinitionError as error:
                faults += error.faults
            step(1)
    if faults:
        raise moving.faulty(definitions.DefinitionError(faults))
    if not found:
        raise Refusal(
            _("No job is defined there."),
            _("A job is defined by a file like this: %(bach)s export JOB")
            % {"bach": project.program()},
        )
    return found


def _texts(paths: Iterable[str]) -> dict[str, str]:
    """Return the texts of all files, by name."""
    from daemon_app.intake import files, folder

    found: dict[str, str] = {}
    most = moving.LONGEST
    for path in paths:
        if not path:  # a variable that is not set; it does not mean this folder
            raise click.UsageError(_("The name of a file or folder is empty."))
        if path == STDIN:
            try:
                found[STDIN] = files.whole(sys.stdin.buffer.read(most + 1), most)
            except files.FileError as error:
                raise moving.unreadable(error, path) from error
        elif moving.place(path).is_dir():
            try:
                inside = folder.inside(moving.place(path))
            except OSError as error:
                raise Refusal(
                    _("%(path)s can't be read: %(error)s")
                    % {"path": terminal.shown(path), "error": error.strerror}
                ) from error
            for each in inside:
                found[str(each)] = moving.text_of(str(each), is_utf8=True)
        else:
            found[path] = moving.text_of(path, is_utf8=True)
    return found


def _is_wanted(plan: "Plan", gone: int, *, as_json: bool) -> bool:
    """Return whether somebody says yes; where nobody can be asked only what is gone wants a yes."""
    if as_json or not (terminal.is_terminal() and sys.stdin.isatty()):
        if gone:
            raise Refusal(
                _("Jobs would be deleted with their runs; say --yes if that is meant."),
                _("Nothing has been changed."),
                code=Code.USAGE,
            )
        return True
    count = len(plan.of("new", "changed")) + gone
    question = ngettext("Make %(n)s change?", "Make %(n)s changes?", count) % {"n": count}
    return click.confirm(question, default=False, err=True)


def _carry_out(plan: "Plan", *, prune: bool) -> None:
    from django.utils import timezone

    from daemon_app.intake import applying
    from daemon_app.intake.plan import OutdatedError

    try:
        with _bar(len(plan.moves)) as step:
            applying.carry_out(
                plan, prune=prune, now=timezone.now(), by=project.user()[:150], each=step
            )
    except OutdatedError as error:
        raise moving.outdated(error) from error


class _Told:
    """What is said of a plan, to people and to programs."""

    def __init__(self, plan: "Plan", *, prune: bool) -> None:
        self.plan, self.prune = plan, prune
        # Before it is done: then they are gone.
        self.runs = _runs_of(plan.of("extra")) if prune else {}
        self.ids = {move.name: move.row.pk for move in plan.of("extra")}

    def show(self) -> None:
        """Write the table, and what it amounts to."""
        rows = [row for move in self.plan.moves for row in self._rows(move)]
        if rows:
            terminal.table(
                (
                    pgettext("column", "What"),
                    pgettext("column", "Job"),
                    pgettext("column", "Field"),
                    pgettext("column", "Before"),
                    pgettext("column", "After"),
                ),
                rows,
            )
            terminal.say()
        extra = len(self.plan.of("extra"))
        counts = {
            "new": len(self.plan.of("new")),
            "changed": len(self.plan.of("changed")),
            "same": len(self.plan.of("same")),
            "gone": extra if self.prune else 0,
        }
        said = _("New: %(new)s. Changed: %(changed)s. As they are: %(same)s. Deleted: %(gone)s.")
        terminal.say(said % counts)
        if self.plan.others:
            terminal.say(
                ngettext(
                    "%(n)s other job does not belong to these files, and stays.",
                    "%(n)s other jobs do not belong to these files, and stay.",
                    self.plan.others,
                )
                % {"n": self.plan.others}
            )

    def _rows(self, move: "Move") -> Iterator[tuple[str | tuple[str, str], ...]]:
        words = {
            "new": pgettext("apply", "new"),
            "changed": pgettext("apply", "changed"),
            "passed": pgettext("apply", "over"),
            "extra": pgettext("apply", "deleted"),
            "stays": pgettext("apply", "not named"),
        }
        if move.what == "same":
            return
        what = "stays" if move.what == "extra" and not self.prune else move.what
        sign, tone = MARKS[what]
        first = (f"{sign} {words[what]}", tone)
        name = {"pool": _("Pool %(name)s"), "policy": _("Rules for all jobs")}.get(move.kind)
        name = name % {"name": move.name} if name else move.name
        if what == "changed":
            for field, before, after in _differences(move):
                yield first, name, field, before, after
                first, name = ("", ""), ""
            return
        told = {
            "new": self._of_new(move),
            "passed": _("Its time has passed; it does not come."),
            "extra": self._of_gone(move),
            "stays": _("It stays; --prune deletes it."),
        }
        yield first, name, "", "", told[what]

    def _of_new(self, move: "Move") -> str:
        from daemon_app.models import Job, Pool

        if isinstance(move.row, Job):
            off = "" if move.row.is_active else " " + _("(switched off)")
            return move.row.describe() + off
        return str(move.row.size) if isinstance(move.row, Pool) else ""

    def _of_gone(self, move: "Move") -> str:
        count = self.runs.get(move.row.pk, 0)
        return ngettext("with %(n)s run", "with %(n)s runs", count) % {"n": count}

    def _id_of(self, move: "Move") -> int | None:
        if move.kind == "policy":
            return None
        return self.ids.get(move.name) if move.what == "extra" else move.row.pk

    def as_json(self, *, is_applied: bool) -> dict[str, Any]:
        """Return the same for programs."""
        plan = self.plan
        told = [
            {
                "what": move.what,
                "kind": move.kind,
                "name": move.name,
                "where": move.where,
                "id": self._id_of(move),
                "changes": {**move.changes},
                "other_values": [*move.values_changed],
            }
            for move in plan.moves
        ]
        return {
            "applied": is_applied,
            "would_change": plan.would_change(prune=self.prune),
            **{what: len(plan.of(what)) for what in ("new", "changed", "same", "passed")},
            "deleted": len(plan.of("extra")) if self.prune else 0,
            "not_named": 0 if self.prune else len(plan.of("extra")),
            "others": plan.others,
            "moves": told,
        }


def _runs_of(moves: "list[Move]") -> dict[int | None, int]:
    from django.db.models import Count

    from daemon_app.models import Run

    found: dict[int | None, int] = {}
    ids = [move.row.pk for move in moves]
    for start in range(0, len(ids), MANY):
        of_some = Run.objects.filter(job_id__in=ids[start : start + MANY]).order_by()
        found |= dict(of_some.values_list("job_id").annotate(Count("pk")))
    return found


def _differences(move: "Move") -> Iterator[tuple[str, str, str]]:
    """Yield (field, before, after); of a text of several lines those that differ."""
    for name, (before, after) in move.changes.items():
        if name in {"environment", "parameters"}:
            yield from _of_names(name, before, after, move.values_changed)
        elif isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
            yield from _of_lines(name, before, after)
        else:
            yield name, _value(before), _value(after)


def _of_names(
    name: str, before: list[str], after: list[str], other: Iterable[str]
) -> Iterator[tuple[str, str, str]]:
    """Yield what becomes of variables; their values are nobody's to see here."""
    for each in sorted({*before, *after}):
        field = f"{name}.{each}"
        if each not in before:
            yield field, "–", "•••"
        elif each not in after:
            yield field, "•••", "–"
        elif field in other:
            yield field, "•••", _("another value")


def _of_lines(name: str, before: str, after: str) -> Iterator[tuple[str, str, str]]:
    old, new = before.split("\n"), after.split("\n")
    for what, i, j, k, m in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            continue
        for step in range(max(j - i, m - k)):
            gone = old[i + step] if i + step < j else None
            come = new[k + step] if k + step < m else None
            number = (k if come is not None else i) + step + 1
            yield f"{name}:{number}", _value(gone), _value(come)


def _value(value: Any) -> str:
    """Return a value as a file would say it, short."""
    if value is None or value in ("", [], {}):
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        text = ", ".join(f"{name}: {each}" for name, each in value.items())
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"

"""Check what is configured: our own jobs and rules, and the files in the folders that are named."""

import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import progress
from daemon_app.models import Incident, Job, Policy, Pool
from daemon_app.skills import plugins
from daemon_app.skills.faults import SUFFIXES, Fault
from daemon_app.skills.skill import (
    ERROR,
    INFO,
    WARN,
    Context,
    Due,
    Result,
    Situation,
    Skill,
    Stopped,
    registered,
)

EVERY: Final = timedelta(hours=24)
PAUSE: Final = timedelta(minutes=10)  # after a run that did not come to its end
LONGEST_PAUSE: Final = timedelta(hours=6)
MOST_FILES: Final = 2000
MOST_FOLDERS: Final = 20_000  # looked into
MOST_PROBLEMS: Final = 1000  # told
MOST_NOTED: Final = 100  # in the journal
TELL_EVERY: Final = 1.0  # seconds
FOR_THE_SHELL: Final = 5.0  # seconds
# What belongs to programs and is not configured by anybody.
PASSED_OVER: Final = {
    *(".git", ".hg", ".svn", ".tox", ".venv", "venv", "node_modules", "__pycache__"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong, in a file or in what is ours."""

    where: str
    fault: Fault

    def __str__(self) -> str:
        return self.fault.at(self.where)

    @property
    def key(self) -> str:
        """What it is known by from one day to the next, wherever in the file it has moved."""
        return hashlib.sha256(f"{self.where}\n{self.fault.text}".encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """Return what `of` reads back."""
        fault = self.fault
        place = {"line": fault.line, "column": fault.column}
        return {"path": self.where, **place, "reason": fault.text, "grave": fault.is_grave}

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Problem":
        """Return the problem that `as_json` gave."""
        fault = Fault(told["line"], told["column"], told["reason"], told["grave"])
        return cls(told["path"], fault)


@registered
class ValidateConfigs(Skill):
    """Checks jobs, schedules, pools, rules and skills, and JSON, YAML and TOML files."""

    name = "validate_configs"
    title = _("Check the configuration")
    description = _(
        "Checks every job and rule, and all JSON, YAML and TOML files in the folders of the "
        "settings; tells each problem with file and line."
    )
    only_when_idle = True
    on_presence = Job.Presence.DISPLACE
    timeout_seconds = 900

    def is_due(self, situation: Situation) -> Due | None:
        """Say so when the machine is idle and the last check is a day ago."""
        if not situation.idle:
            return None
        last = situation.last_done
        if last is not None and situation.now - last < EVERY:
            return None
        if not situation.has_rested(PAUSE, LONGEST_PAUSE):
            return None
        return Due("due_daily")

    def run(self, context: Context) -> Result:
        """Check everything; "error" when something is wrong that keeps a thing from working."""
        work = _Work(context)
        with work.kept_when_stopped():
            work.check_ours()
            work.check_files()
        return work.result()


@dataclass
class _Work:
    """One check of everything: what was looked at, and what was found."""

    context: Context
    problems: list[Problem] = field(default_factory=list)
    jobs: int = 0
    files: int = 0
    _after: str = ""  # the last file that is done
    _before: str = ""  # up to this file the slice before has done it
    _told_at: float = 0.0

    def __post_init__(self) -> None:
        """Go on where a slice of the same run has left off."""
        if not self.context.progress_token:
            return
        left = self.context.kept().get("left") or {}
        if left.get("after") == self.context.progress_token and left.get("run") == _run_id():
            self._before = left["after"]
            self.files = left["files"]
            for told in left["problems"]:
                self.problems.append(Problem.of(told))
            self.context.say(_t("Goes on after %(file)s.") % {"file": self._before})

    # ── Ours ─────────────────────────────────────────────────────────────────────────────────────
    def check_ours(self) -> None:
        """Look at the rules, the pools, the jobs and the skills."""
        if self._before:
            self.jobs = Job.objects.count()
            return
        for where, row in [
            (_t("Settings"), Policy.current()),
            *((_t("Pool “%(name)s”") % {"name": pool.name}, pool) for pool in Pool.objects.all()),
        ]:
            for text in _refused(row):
                self.found(where, Fault(0, 0, text))
        for broken in plugins.load():
            where = _t("Skill “%(name)s”") % {"name": broken.name}
            self.found(where, Fault(0, 0, f"{broken.source}: {broken.error}"))
        for job in Job.objects.order_by("name").iterator():
            self.context.make_way()
            self.jobs += 1
            where = _t("Job “%(name)s”") % {"name": job.name}
            for text in _wrong_with(job):
                self.found(where, Fault(0, 0, text, is_grave=job.is_active))

    # ── Files ────────────────────────────────────────────────────────────────────────────────────
    def check_files(self) -> None:
        """Look at all files of the folders that are named."""
        # Readers and schemas take as long to load as Django; a list of skills needs neither.
        from daemon_app.skills.documents import Examiner  # noqa: PLC0415

        files = sorted((_shown(file), file) for file in self._files())
        examiner = Examiner()
        for number, (name, file) in enumerate(files, 1):
            self.context.make_way()
            if self._before and name <= self._before:
                continue
            for fault in examiner.examine(file):
                self.found(name, fault)
            self.files += 1
            self._after = name
            self._tell_progress(number, len(files))

    def _files(self) -> set[Path]:
        named = self.context.policy.config_folders
        folders = [Path(os.path.expanduser(each)) for each in named]  # noqa: PTH111 - "~nobody" stays
        for folder in folders:
            if not folder.is_dir():
                self.found(_shown(folder), Fault(0, 0, _t("This folder does not exist.")))
        found: set[Path] = set()
        for file in _Walk([each.resolve() for each in folders if each.is_dir()], self).files():
            if len(found) == MOST_FILES:
                text = _t("There are more files; only the first %(n)s are checked.")
                fault = Fault(0, 0, text % {"n": MOST_FILES}, is_grave=False)
                self.found(", ".join(named), fault)
                break
            found.add(file)
        return found

    def _tell_progress(self, number: int, total: int) -> None:
        if (clock := time.monotonic()) >= self._told_at:
            self._told_at = clock + TELL_EVERY
            label = _t("%(n)s of %(total)s files") % {"n": number, "total": total}
            self.context.progress(100 * number // (total + 1), label)

    # ── Telling ──────────────────────────────────────────────────────────────────────────────────
    def found(self, where: str, fault: Fault) -> None:
        """Note a problem, and say it, unless that was done already."""
        problem = Problem(where, fault)
        if problem in self.problems:
            return
        self.problems.append(problem)
        if len(self.problems) <= MOST_PROBLEMS:
            self.context.say(str(problem))

    def kept_when_stopped(self) -> "_KeptWhenStopped":
        """Return what, around the work, keeps its state for the next slice."""
        return _KeptWhenStopped(self)

    def leave(self) -> None:
        """Keep how far it has come, for when it goes on."""
        after = self._after or self._before
        if not after:
            return
        told = [problem.as_json() for problem in self.problems[:MOST_PROBLEMS]]
        left = {"run": _run_id(), "after": after, "files": self.files, "problems": told}
        self.context.keep({**self.context.kept(), "left": left})
        self.context.progress(0, token=after)

    def result(self) -> Result:
        """Return what was found, and have a person told of what was not there the day before."""
        keys = {problem.key for problem in self.problems}
        new = [p for p in self.problems if p.key not in set(self.context.kept().get("known", []))]
        self.context.keep({"known": sorted(keys)[:MOST_PROBLEMS]})
        if new:
            Incident.note(
                "configs_bad",
                now=self.context.now,
                job=Job.objects.filter(skill=self.context.name).first(),
                run_id=_run_id(),
                n=len(self.problems),
                new=len(new),
                first=str(new[0])[:300],
            )
        level = INFO
        if self.problems:
            level = ERROR if any(problem.fault.is_grave for problem in self.problems) else WARN
        return Result(self._summary(), level, self._data(len(new)))

    def _summary(self) -> str:
        about = {"jobs": self.jobs, "files": self.files, "n": len(self.problems)}
        if not self.problems:
            return _t("All is well: %(jobs)s jobs and %(files)s files checked.") % about
        if len(self.problems) == 1:
            return _t("1 problem in %(jobs)s jobs and %(files)s files.") % about
        return _t("%(n)s problems in %(jobs)s jobs and %(files)s files.") % about

    def _data(self, new: int) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "files": self.files,
            "count": len(self.problems),
            "new": new,
            "problems": [problem.as_json() for problem in self.problems[:MOST_NOTED]],
        }


def _shown(path: Path) -> str:
    """Return a path as text that can be written anywhere: names are bytes, and any but two."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _KeptWhenStopped:
    """Keeps the state of the work when it is left before its end, for whatever reason."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        # Told to stop, once or twice; a failure begins anew.
        if kind is not None and (issubclass(kind, Stopped) or not issubclass(kind, Exception)):
            self._work.leave()


def _run_id() -> int | None:
    number = os.environ.get(progress.RUN, "")
    return int(number) if number.isdigit() else None


class _Walk:
    """The files at and below some folders, each once; what links lead out to is left out."""

    def __init__(self, roots: list[Path], work: _Work) -> None:
        self._roots = roots
        self._work = work
        self._seen: set[tuple[int, int]] = set()  # folders, by device and inode

    def files(self) -> Iterator[Path]:
        """Yield them folder by folder, each folder's in order."""
        todo = [*reversed(self._roots)]
        while todo:
            self._work.context.make_way()
            folder = todo.pop()
            try:
                found = folder.stat()
                if (found.st_dev, found.st_ino) in self._seen or len(self._seen) >= MOST_FOLDERS:
                    continue
                self._seen.add((found.st_dev, found.st_ino))
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                said = _t("It can't be read: %(error)s.") % {"error": error.strerror or error}
                self._work.found(_shown(folder), Fault(0, 0, said))
                continue
            todo += [Path(e.path) for e in reversed(entries) if self._leads_on(e)]
            for entry in entries:
                if Path(entry.name).suffix.lower() in SUFFIXES and self._is_file(entry):
                    yield Path(entry.path)

    def _leads_on(self, entry: os.DirEntry[str]) -> bool:
        with suppress(OSError):
            return entry.name not in PASSED_OVER and entry.is_dir() and self._is_within(entry)
        return False

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        # A link to nothing, or in a circle, is told like a file that can't be read.
        with suppress(OSError):
            return entry.is_symlink() or entry.is_file()
        return True

    def _is_within(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        target = Path(entry.path).resolve()
        return any(target.is_relative_to(root) for root in self._roots)


# ── What is ours ─────────────────────────────────────────────────────────────────────────────────
def _refused(row: models.Model, exclude: tuple[str, ...] = ()) -> list[str]:
    """Return why a stored row would be refused today, each with the field's name."""
    try:
        row.full_clean(
            exclude={"anchor", "created_at", "updated_at", *exclude},
            validate_unique=False,
            validate_constraints=False,
        )
    except ValidationError as error:
        said = []
        for name, messages in error.message_dict.items():
            label = "" if name == NON_FIELD_ERRORS else f"{_label(row, name)}: "
            said += [f"{label}{message}" for message in messages]
        return said
    return []


def _label(row: models.Model, name: str) -> str:
    """Return what people call a field."""
    return str(getattr(row._meta.get_field(name), "verbose_name", name))  # noqa: SLF001 - Django's way


def _wrong_with(job: Job) -> Iterator[str]:
    """Yield what is wrong with a stored job: by its rules, and on this machine."""
    if job.schedule_error:
        yield job.schedule_fault
    if job.skill:
        yield from _refused(job)
        return
    stored = {name: getattr(job, name) for name in ("command", "script_path", "arguments")}
    yield from _refused(job)
    for name, value in stored.items():
        setattr(job, name, value)
    for check in (_folder, _script, _program, _syntax):
        yield from check(job)


def _folder(job: Job) -> Iterator[str]:
    folder = os.path.expanduser(job.working_directory)  # noqa: PTH111 - a string is kept
    if folder and not Path(folder).is_dir():
        yield _t("The working folder “%(path)s” does not exist.") % {"path": folder}
    elif folder and not os.access(folder, os.X_OK):
        yield _t("The working folder “%(path)s” may not be entered.") % {"path": folder}


def _script(job: Job) -> Iterator[str]:
    if not job.script_path:
        return
    script = Path(os.path.expanduser(job.script_path))  # noqa: PTH111 - "~nobody" stays
    if not script.is_absolute():
        script = Path(os.path.expanduser(job.working_directory or "~")) / script  # noqa: PTH111
    needed = os.R_OK if script.suffix == ".py" else os.X_OK
    if not script.is_file():
        yield _t("The script “%(path)s” does not exist.") % {"path": script}
    elif not os.access(script, needed):
        yield _t("The script “%(path)s” may not be executed.") % {"path": script}


def _program(job: Job) -> Iterator[str]:
    """Look for the program of an argument list; what a shell finds is the shell's business."""
    if job.script_path or job.use_shell:
        return
    with suppress(ValueError):  # said by the job's own rules
        words = shlex.split(job.command)
        path = os.path.expanduser(job.working_directory or "~")  # noqa: PTH111 - a string is wanted
        program = os.path.join(path, words[0]) if words and "/" in words[0] else "".join(words[:1])  # noqa: PTH118
        if words and words[0] not in {"python", "python3"} and not shutil.which(program):
            yield _t("The program “%(name)s” was not found.") % {"name": words[0]}


def _syntax(job: Job) -> Iterator[str]:
    """Have the shell read its lines, without executing anything."""
    lines = {"stop_command": job.stop_command}
    if job.use_shell and not job.script_path:
        lines["command"] = f"{job.command} {job.arguments}".strip()
    for name, line in lines.items():
        if not line or "\0" in line:
            continue
        try:
            read = subprocess.run(
                ["/bin/sh", "-n", "-c", line],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=FOR_THE_SHELL,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if read.returncode:
            said = " ".join(read.stderr.decode(errors="replace").split())[:200]
            label = _label(job, name)
            yield f"{label}: " + _t("the shell can't read it (%(said)s).") % {"said": said}

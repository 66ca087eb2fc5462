"""Jobs as text that can live in git: written as YAML, and read from it.

    # nacht-backup.yaml
    name: nacht-backup
    job_type: cron
    schedule: 30 3 * * MON-FRI
    command: |
      restic backup ~/

A document is one job, or it has `jobs`, a list of them, and beside it `pools`, `policy` and
`defaults`. What is not named of a job has its default: the file says all there is to say of it, so
that applying it twice changes nothing. What comes of it is decided in `applying`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import models
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _t

from daemon_app.intake import plain_yaml
from daemon_app.intake.plain_yaml import Lined, YamlError
from daemon_app.models import Job, Policy, Pool
from daemon_app.models.policy import KEPT, WATCHED
from daemon_app.schedules import ScheduleError, zones

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LONGEST: Final = 13_000_000  # characters of one file
MOST: Final = 10_000  # jobs of one file
MOST_FAULTS: Final = 100
LONGEST_WHY: Final = 600  # characters: values are cited in it
# More than any field takes; what the model would look at for minutes.
LONGEST_TEXT: Final = 40_000
MOST_ENTRIES: Final = 1_000
# What is said of a job: all that its form sets, in the order in which it is written.
FIELDS: Final = (
    *("name", "description", "job_type", "schedule", "timezone", "is_active"),
    *("command", "use_shell", "script_path", "arguments", "working_directory", "environment"),
    *("parameters", "nice", "idle_io", "timeout_seconds", "soft_timeout_seconds", "grace_seconds"),
    *("stop_command", "leave_descendants", "overlap", "max_instances", "misfire"),
    *("misfire_age_seconds", "deadline", "max_wait_seconds", "max_retries"),
    *("retry_backoff_seconds", "retry_exit_codes", "retry_on_timeout", "on_loss", "pools"),
    *("priority", "only_when_idle", "on_presence", "ask_signal", "min_vram_mb", "needs_services"),
    *("min_disk_mb", "max_load_percent", "window", "in_quiet_hours", "finish_by", "gate_action"),
    *("cpu_limit_seconds", "memory_limit_mb", "limit_sustain_seconds", "limit_action"),
    *("keep_days", "keep_runs", "keep_output_mb"),
)
ALWAYS: Final = ("name", "job_type", "schedule", "timezone")
# The name it had, under which it is found once more.
FORMERLY: Final = "formerly"
# Their values may be passwords: files can leave them out, and then they stay as they are.
SECRET: Final = ("environment", "parameters")
OF_A_POOL: Final = ("name", "size", "description")
RULES: Final = ("max_parallel", *KEPT, *WATCHED)
PARTS: Final = ("jobs", "pools", "policy", "defaults")
JOB, POOL, POLICY = "job", "pool", "policy"
MODELS: Final[dict[str, type[models.Model]]] = {JOB: Job, POOL: Pool, POLICY: Policy}


@dataclass(frozen=True)
class Fault:
    """Something that can't be: in which file and line, and why, in the reader's language."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class DefinitionError(Exception):
    """Files that can't be applied, with all that is wrong in them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(Fault(each.where, each.why[:LONGEST_WHY]) for each in faults)
        super().__init__("\n".join(map(str, self.faults)))


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────
def as_mapping(job: Job, *, values: bool = True) -> dict[str, Any]:
    """Return what a file says of a job: what differs from the default, and what names it.

    Without `values` those of its variables are None, which means that they stay as they are. A
    pause is no part of it: the job is switched on, and goes on by itself.
    """
    said: dict[str, Any] = {}
    for name in FIELDS:
        value: Any = is_on(job) if name == "is_active" else getattr(job, name)
        if name in ALWAYS or value != default(name):
            said[name] = _in_zone(value, job) if isinstance(value, datetime) else value
        if isinstance(said.get(name), dict):  # the database keeps no order of its own everywhere
            hidden = name in SECRET and not values
            said[name] = {key: None if hidden else value[key] for key in sorted(value)}
    if job.job_type == Job.Kind.MANUAL and not job.schedule:
        del said["schedule"]
    return said


def is_on(job: Job) -> bool:
    """Return whether a job is switched on, or will be at the end of its pause."""
    return bool(job.is_active or job.paused_until)


def _in_zone(instant: datetime, job: Job) -> str:
    try:
        return instant.astimezone(zones.zone(job.timezone)).isoformat()
    except ScheduleError:
        return instant.isoformat()


def of_all(jobs: Iterable[Job], *, values: bool = True) -> dict[str, Any]:
    """Return what a file says of jobs, by name, of all pools and of the rules for all jobs."""
    pools = {
        pool.name: {"size": pool.size}
        | ({"description": pool.description} if pool.description else {})
        for pool in Pool.objects.all()
    }
    rules = Policy.current()
    return {
        "policy": {name: getattr(rules, name) for name in RULES},
        "pools": pools,
        "jobs": [as_mapping(job, values=values) for job in sorted(jobs, key=_by_name)],
    }


def _by_name(job: Job) -> tuple[str, str]:
    return job.name.casefold(), job.name  # each database sorts otherwise


def written(jobs: Iterable[Job], *, values: bool = True) -> str:
    """Return jobs as one YAML document: one as itself, several as a list under `jobs`."""
    found = [as_mapping(job, values=values) for job in jobs]
    return as_text(found[0] if len(found) == 1 else {"jobs": found})


def as_text(said: Mapping[str, Any]) -> str:
    """Return what `as_mapping` or `of_all` gave as YAML."""
    if "name" in said:
        return "\n".join(_job_lines(said)) + "\n"
    parts = [plain_yaml.lines({part: said[part]}) for part in ("policy", "pools") if said.get(part)]
    if "jobs" in said:
        jobs = [_job_lines(job) for job in said["jobs"]]
        parts.append(["jobs:", *plain_yaml.listed(jobs)] if jobs else ["jobs: []"])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _job_lines(said: Mapping[str, Any]) -> list[str]:
    command = said.get("command", "")
    if "\n" in command:
        said = {**said, "command": f"{command}\n"}  # "|" alone, as people write it
    return plain_yaml.lines(said)


def default(name: str, model: type[models.Model] = Job) -> Any:
    """Return what a field has where nothing is said of it."""
    found = model._meta.get_field(name)  # noqa: SLF001 - its fields
    assert isinstance(found, models.Field)
    return found.get_default()


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True)
class Definition:
    """What a file says of one job, pool or of the rules, and where it says so.

    The values have the right types, and are not yet judged.
    """

    said: dict[str, Any]
    file: str = ""
    line: int = 1
    lines: Mapping[str, int] = field(default_factory=dict)
    formerly: str = ""
    kind: str = JOB

    @property
    def name(self) -> str:
        """The name of the job or pool."""
        return str(self.said.get("name", ""))

    @property
    def where(self) -> str:
        """The file and the line in which it begins."""
        return _place(self.file, self.line)

    def place_of(self, name: str) -> str:
        """Return the file and the line in which a field stands; else those of the whole."""
        return _place(self.file, self.lines.get(name, self.line))


def _place(file: str, line: int) -> str:
    return f"{file}:{line}" if file else _t("Line %(line)s") % {"line": line}


def whole(definition: Definition) -> dict[str, Any]:
    """Return all fields of a job as a file means them, those it does not name included."""
    said = definition.said
    return {name: said[name] if name in said else default(name) for name in FIELDS}


def read(text: str, where: str = "") -> list[Definition]:
    """Return the jobs that a file of this name defines. Raises DefinitionError."""
    return [each for each in read_all(text, where) if each.kind == JOB]


def read_all(text: str, where: str = "") -> list[Definition]:
    """Return all that a file of this name defines. Raises DefinitionError with all its faults."""
    if len(text) > LONGEST:
        why = _t("It is longer than %(n)s characters.") % {"n": LONGEST}
        raise DefinitionError([Fault(where, why)])
    try:
        documents = plain_yaml.documents(text)
    except YamlError as error:
        raise DefinitionError([Fault(_place(where, error.line), error.why)]) from error
    reading = _Reading(where)
    found = [each for said, line in documents for each in reading.document(said, line)]
    if sum(each.kind == JOB for each in found) > MOST:
        reading.refuse(1, _t("It holds more than %(n)s jobs.") % {"n": MOST})
    if reading.faults:
        raise DefinitionError(reading.faults[:MOST_FAULTS])
    return found


class _Reading:
    """Reads the documents of one file, and collects what is wrong in them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []

    def refuse(self, line: int, why: str) -> None:
        """Note what is wrong in a line."""
        self.faults.append(Fault(_place(self.file, line), why))

    def document(self, said: object, line: int) -> Iterator[Definition]:
        """Yield what a document defines."""
        if isinstance(said, list):
            yield from self._jobs(said, line, {})
        elif not isinstance(said, Lined):
            self.refuse(line, _t("A job is written as “name: …”, a line for each field."))
        elif "name" in said or not any(name in said for name in PARTS):
            yield from self._job(said, {})
        else:
            yield from self._parts(said)

    def _parts(self, said: Lined) -> Iterator[Definition]:
        for name in said:
            if name not in PARTS:
                self._unknown(said.lines[name], name, PARTS)
        defaults = self._mapping(said, "defaults")
        if "name" in defaults:
            self.refuse(defaults.lines["name"], _t("Each job has a name of its own."))
        pools = self._mapping(said, "pools")
        if len(pools) > MOST_ENTRIES:
            self.refuse(said.lines["pools"], _too_much(pools))
            return
        for name, value in pools.items():
            size = value if isinstance(value, Lined) else Lined(pools.lines[name])
            if not isinstance(value, Lined):
                size["size"] = value
            pool = {
                "name": name[:LONGEST_TEXT],
                **self._checked(size, POOL, ("size", "description")),
            }
            lines = size.lines | {"name": pools.lines[name]}
            yield Definition(pool, self.file, pools.lines[name], lines, kind=POOL)
        if "policy" in said:
            rules = self._mapping(said, "policy")
            values = self._checked(rules, POLICY, RULES)
            yield Definition(values, self.file, said.lines["policy"], rules.lines, kind=POLICY)
        jobs = said.get("jobs")
        if isinstance(jobs, list):
            yield from self._jobs(jobs, said.lines["jobs"], defaults)
        elif jobs is not None:
            self.refuse(said.lines["jobs"], _t("Below “jobs:” each job begins with “- name: …”."))

    def _mapping(self, said: Lined, name: str) -> Lined:
        found = said.get(name)
        if found is None or isinstance(found, Lined):
            return Lined(said.line) if found is None else found
        self.refuse(said.lines[name], _wrong_type(name, dict, found))
        return Lined(said.line)

    def _jobs(self, found: list[Any], line: int, defaults: dict[str, Any]) -> Iterator[Definition]:
        for each in found:
            if isinstance(each, Lined):
                line = each.line
                yield from self._job(each, defaults)
            else:
                self.refuse(line, _t("A job is written as “name: …”, a line for each field."))

    def _job(self, said: Lined, defaults: dict[str, Any]) -> Iterator[Definition]:
        whole = Lined(said.line)
        whole.update({**defaults, **said})
        whole.lines = {**getattr(defaults, "lines", {}), **said.lines}
        formerly = whole.pop(FORMERLY, "") or ""
        faults = len(self.faults)
        values = self._checked(whole, JOB, FIELDS)
        values["name"] = name = " ".join(str(values.get("name", "")).split())
        if not name and len(self.faults) == faults:
            self.refuse(said.line, _t("A name is missing."))
        if "\n" in values.get("command", ""):
            values["command"] = values["command"].strip()
        if isinstance(deadline := values.get("deadline"), str):
            values["deadline"] = self._instant(deadline, whole, values)
        former = " ".join(str(formerly).split())
        yield Definition(values, self.file, said.line, whole.lines, former)

    def _instant(self, text: str, said: Lined, values: dict[str, Any]) -> datetime | None:
        """Return an instant; without a zone it is meant in the job's."""
        try:
            found = parse_datetime(text)
            if found is not None and found.tzinfo is None:
                zone = values.get("timezone") or settings.TIME_ZONE
                found = found.replace(tzinfo=zones.zone(str(zone)))
        except ScheduleError:
            return None  # said at the zone
        except (ValueError, OverflowError):
            found = None
        if found is None:
            why = _t("Give an instant with its zone, for example %(at)s (here: “%(text)s”).")
            example = {"at": "2026-12-24T18:00:00+01:00", "text": text[:80]}
            self.refuse(said.lines["deadline"], why % example)
        return found

    def _checked(self, said: Lined, kind: str, known: Sequence[str]) -> dict[str, Any]:
        """Return those values that have the right types; note what is wrong with the others."""
        found = {}
        for name, value in said.items():
            line = said.lines.get(name, said.line)
            if name not in known:
                self._unknown(line, name, known)
                continue
            field_ = MODELS[kind]._meta.get_field(name)  # noqa: SLF001 - its fields
            assert isinstance(field_, models.Field)
            wanted = _type_of(field_)
            value = _taken(value, wanted, is_text_of=name in SECRET)  # noqa: PLW2901 - as meant
            if not (value is None and field_.null) and type(value) is not wanted:
                self.refuse(line, _wrong_type(name, wanted, value))
                continue
            if why := _too_much(value):
                self.refuse(line, f"{name}: {why}")
                continue
            found[name] = value
        return found

    def _unknown(self, line: int, name: str, known: Sequence[str]) -> None:
        close = get_close_matches(name, known, n=1)
        why = _t("There is no field “%(name)s” here.") % {"name": name[:80]}
        if close:
            why += " " + _t("Did you mean “%(name)s”?") % {"name": close[0]}
        self.refuse(line, why)


def _type_of(found: models.Field[Any, Any]) -> type:
    if isinstance(found, models.BooleanField):
        return bool
    if isinstance(found, models.IntegerField):
        return int
    if isinstance(found, models.JSONField):
        return type(found.get_default())
    return str


def _taken(value: Any, wanted: type, *, is_text_of: bool) -> Any:
    """Return a value as it is meant: a number is text where text is wanted, and so on."""
    if wanted is str and type(value) is int:
        return str(value)
    if wanted is dict and isinstance(value, Lined):
        return {
            name: str(each).lower() if is_text_of and isinstance(each, int) else each
            for name, each in value.items()
        }
    return value


def _too_much(value: object) -> str:
    """Return why a value is more than anybody looks at; "" when it is not."""
    if isinstance(value, list | dict):
        if len(value) > MOST_ENTRIES:
            return _t("At most %(n)s entries.") % {"n": MOST_ENTRIES}
        texts = [*value, *value.values()] if isinstance(value, dict) else value
    else:
        texts = [value]
    if any(isinstance(each, str) and len(each) > LONGEST_TEXT for each in texts):
        return _t("It is longer than %(n)s characters.") % {"n": LONGEST_TEXT}
    return ""


def _wrong_type(name: str, wanted: type, value: object) -> str:
    kinds: dict[type, Callable[[], str]] = {
        bool: lambda: _t("“%(name)s” is true or false, not “%(value)s”."),
        int: lambda: _t("“%(name)s” is a whole number, not “%(value)s”."),
        str: lambda: _t("“%(name)s” is a text; put it in quotation marks (here: %(value)s)."),
        list: lambda: _t("“%(name)s” is a list, each entry in a line with “- ” (here: %(value)s)."),
        dict: lambda: _t("“%(name)s” has names with values below it (here: %(value)s)."),
    }
    text = str(value).lower() if isinstance(value, bool) else str(value)
    shown = "null" if value is None else " ".join(text.split())[:60]
    return kinds[wanted]() % {"name": name, "value": shown}

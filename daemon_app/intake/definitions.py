"""Jobs as text that can live in git: written as YAML, and applied from it.

    # nacht-backup.yaml
    name: nacht-backup
    job_type: cron
    schedule: 30 3 * * MON-FRI
    command: |
      restic backup ~/

One file holds one job, or `jobs:` with a list. What is not named has its default: the file says
all there is to say of a job, so that applying it twice changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import yaml
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.translation import gettext as _t

from daemon_app import scheduler
from daemon_app.models import Job
from daemon_app.models.change import difference
from daemon_app.schedules import ScheduleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

LONGEST: Final = 2_000_000  # characters of one file
MOST: Final = 10_000  # jobs
DEEPEST: Final = 8  # levels of a document
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


class DefinitionError(Exception):
    """A file that can't be applied: which, where in it, and why, in the reader's language."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────
class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as people do, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - theirs
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_mapping(job: Job) -> dict[str, Any]:
    """Return what a file says of a job: what differs from the default, and what names it."""
    said = {}
    for name in FIELDS:
        value = getattr(job, name)
        if name in ALWAYS or value != _default(name):
            said[name] = value.isoformat() if hasattr(value, "isoformat") else value
    if job.job_type == Job.Kind.MANUAL:
        said.pop("schedule", None)
    return said


def written(jobs: Iterable[Job]) -> str:
    """Return jobs as one YAML document: one as itself, several as a list under `jobs`."""
    found = [as_mapping(job) for job in jobs]
    told: Any = found[0] if len(found) == 1 else {"jobs": found}
    return yaml.dump(told, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _default(name: str) -> Any:
    found = Job._meta.get_field(name)  # noqa: SLF001 - its fields
    assert isinstance(found, models.Field)
    return found.get_default()


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────
class _Loader(yaml.SafeLoader):
    """Reads plain data alone: no aliases (they can blow up), no key twice, no dates of its own."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse an alias."""
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=_t("aliases are not read"), problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse a key that is there twice."""
        seen = set()
        for key, _value in node.value:
            if key.value in seen:
                problem = _t("“%(key)s” is there twice") % {"key": key.value}
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# As in YAML 1.2: "22:00" is text and not 1320, "yes" is text and not true, a date is text.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


@dataclass(frozen=True)
class Definition:
    """What a file says of one job, and where it says so."""

    where: str
    said: dict[str, Any]

    @property
    def name(self) -> str:
        """The job's name."""
        return str(self.said["name"])


def read(text: str, where: str) -> list[Definition]:
    """Return what a file says, `where` being its name. Raises DefinitionError."""
    if len(text) > LONGEST:
        raise DefinitionError(where, _t("It is longer than %(n)s characters.") % {"n": LONGEST})
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}, {mark.line + 1}:{mark.column + 1}" if mark else where
        raise DefinitionError(place, str(error.problem or error)) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DefinitionError(where, str(error) or type(error).__name__) from error
    if isinstance(document, dict) and isinstance(document.get("jobs"), list):
        found = document["jobs"]
        places = [f"{where}, jobs[{n}]" for n in range(len(found))]
    else:
        found, places = [document], [where]
    if len(found) > MOST:
        raise DefinitionError(where, _t("It holds more than %(n)s jobs.") % {"n": MOST})
    return [
        Definition(place, _checked(each, place)) for each, place in zip(found, places, strict=True)
    ]


def _checked(said: object, where: str) -> dict[str, Any]:
    """Return the mapping of one job whose values have the right types. Raises DefinitionError."""
    if not isinstance(said, dict):
        raise DefinitionError(where, _t("A job is written as “name: …”, a line for each field."))
    for name, value in said.items():
        if name not in FIELDS:
            close = get_close_matches(str(name), FIELDS, n=1)
            meant = " " + _t("Did you mean “%(name)s”?") % {"name": close[0]} if close else ""
            raise DefinitionError(
                where, _t("“%(name)s” is no field of a job.") % {"name": name} + meant
            )
        if not _fits(name, value):
            wanted = _t("The value of “%(name)s” has the wrong type: %(value)s")
            raise DefinitionError(where, wanted % {"name": name, "value": repr(value)[:80]})
    if not str(said.get("name") or "").strip():
        raise DefinitionError(where, _t("A name is missing."))
    return dict(said)


def _fits(name: str, value: object) -> bool:
    found = Job._meta.get_field(name)  # noqa: SLF001 - its fields
    if value is None:
        return bool(found.null)
    if isinstance(found, models.BooleanField):
        return isinstance(value, bool)
    if isinstance(found, models.IntegerField):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(found, models.JSONField):
        return isinstance(value, type(found.get_default()))
    return isinstance(value, str)


# ── Plan and deed ────────────────────────────────────────────────────────────────────────────────
NEW, CHANGED, SAME, EXTRA = "new", "changed", "same", "extra"


@dataclass(frozen=True)
class Move:
    """What applying would do with one job: {field: [before, after]} of a changed one.

    `job` is as it would be; of one that no file names, as it is.
    """

    what: str
    job: Job
    where: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def plan(found: Iterable[Definition], *, now: datetime) -> list[Move]:
    """Return what applying these definitions would do; nothing is changed.

    Raises DefinitionError for the first that can't be, or a name that is there twice. Jobs of
    skills are nobody's to define; they are left out.
    """
    jobs = {job.name: job for job in Job.objects.filter(skill="")}
    moves: list[Move] = []
    places: dict[str, str] = {}
    for each in found:
        if each.name in places:
            twice = _t("“%(name)s” stands in %(where)s, too.")
            raise DefinitionError(
                each.where, twice % {"name": each.name, "where": places[each.name]}
            )
        places[each.name] = each.where
        moves.append(_move(each, jobs.get(each.name), now))
    extra = [Move(EXTRA, job) for name, job in sorted(jobs.items()) if name not in places]
    return moves + extra


def _move(definition: Definition, before: Job | None, now: datetime) -> Move:
    job = Job(pk=before.pk if before else None)
    if before is not None:
        for kept in before._meta.concrete_fields:  # noqa: SLF001 - what files do not say stays
            if kept.attname not in FIELDS:
                setattr(job, kept.attname, getattr(before, kept.attname))
    for name in FIELDS:
        setattr(job, name, definition.said.get(name, _default(name)))
    if before is None:
        job.anchor = now
    try:
        job.full_clean(exclude=["anchor", "created_at", "updated_at"])
    except ValidationError as error:
        told = " ".join(f"{name}: {' '.join(said)}" for name, said in error.message_dict.items())
        raise DefinitionError(definition.where, told) from error
    if before is None:
        return Move(NEW, job, definition.where)
    changes: dict[str, Any] = difference(before, job)
    if before.is_active != job.is_active:
        changes["is_active"] = [before.is_active, job.is_active]
    return Move(CHANGED if changes else SAME, job, definition.where, changes)


def apply(moves: Iterable[Move], *, prune: bool = False, now: datetime, by: str) -> int:
    """Do what a plan says, all or nothing; return how many jobs it touched.

    With `prune` jobs that no definition names are deleted, with their runs. Raises DefinitionError
    when a job was changed since the plan was made.
    """
    touched = 0
    with transaction.atomic():
        for move in moves:
            job = move.job
            if move.what in {CHANGED, EXTRA}:
                version = Job.objects.filter(pk=job.pk).values_list("version", flat=True).first()
                if version != job.version:
                    said = _t("“%(name)s” was changed meanwhile; nothing has been done.")
                    raise DefinitionError(move.where, said % {"name": job.name})
            if move.what in {NEW, CHANGED}:
                try:
                    job.store(now=now, by=by)
                except (ValidationError, ScheduleError) as error:
                    raise DefinitionError(move.where, str(error)) from error
                touched += 1
            elif move.what == EXTRA and prune:
                scheduler.remove(job, now=now, by=by)
                touched += 1
    return touched

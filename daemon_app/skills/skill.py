"""What a skill is: when it is due, what it does, and what it is given for that."""

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from django.conf import settings
from django.utils.functional import Promise

from daemon_app import progress
from daemon_app.models import Job, Policy, Run, reasons
from daemon_app.readings import Reading
from daemon_app.registry import Registry

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
INFO, WARN, ERROR = "info", "warn", "error"
# How the process of a skill ends. The two in the middle are those of sysexits.h.
DONE, FOUND, NO_SUCH_SKILL, BROKEN, STOPPED = 0, 1, 64, 70, 75
# So many ended runs tell whether a skill is to rest.
LATELY = 20


@dataclass(frozen=True, slots=True)
class Due:
    """Why a skill is to run now: `code` and `facts` make its sentence (`models.reasons`)."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return reasons.sentence(self.code, self.facts)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: a sentence, how bad it is, and what the journal keeps of it.

    "error" means: the work was done, and what it found needs a person.
    """

    summary: str
    level: str = INFO  # "info", "warn" or "error"
    data: Mapping[str, Any] = field(default_factory=dict)


class Stopped(Exception):  # noqa: N818 - an expected end
    """The skill has made way before its end."""


class Failure(Exception):  # noqa: N818 - read as a sentence
    """The skill can't do its work; the message is the sentence that says why."""


class Journal(Protocol):
    """Writes one line for a skill."""

    def __call__(self, level: str, message: str, data: Mapping[str, Any]) -> object: ...


@dataclass(frozen=True)
class Situation:
    """What a skill decides by whether it is due."""

    job: Job
    now: datetime
    idle: bool | None  # None: not known, which counts as busy
    readings: Mapping[str, Reading]
    policy: Policy

    @cached_property
    def runs(self) -> list[Run]:
        """The ended runs, the newest first, without their definitions."""
        ended = Run.objects.filter(job=self.job).exclude(state__in=Run.ACTIVE)
        return list(ended.order_by("-id").defer("definition")[:LATELY])

    @property
    def last_done(self) -> datetime | None:
        """When the newest run ended that came to its end; None when none of the newest did."""
        return next((run.ended_at for run in self.runs if is_done(run)), None)

    def has_rested(self, pause: timedelta, most: timedelta) -> bool:
        """Return whether it may be tried again: after `pause`, doubled with each run in vain."""
        in_vain = next((n for n, run in enumerate(self.runs) if is_done(run)), len(self.runs))
        if not in_vain:
            return True
        last = self.runs[0].ended_at or self.now
        return self.now - last >= min(pause * 2.0 ** (in_vain - 1), most)


def is_done(run: Run) -> bool:
    """Return whether a skill's ended run has done its work, whatever it has found."""
    return run.state == Run.State.SUCCEEDED or run.exit_code == FOUND


class Context:
    """What a skill is given for one run.

    `stop_event` is set when it is to make way; `progress_token` is what the slice before told with
    `progress`, "" at a first start.
    """

    def __init__(
        self,
        name: str,
        *,
        now: datetime,
        policy: Policy,
        stop_event: threading.Event,
        journal: Journal,
    ) -> None:
        self.name = name
        self.now = now
        self.policy = policy
        self.stop_event = stop_event
        self.journal = journal
        self.progress_token = os.environ.get("BACH_PROGRESS_TOKEN", "")

    def say(self, text: str) -> None:
        """Write a line of output."""
        print(text, flush=True)  # noqa: T201 - the output of the run

    def make_way(self) -> None:
        """Raise Stopped when it is time; to be called wherever the work may be left."""
        if self.stop_event.is_set():
            raise Stopped

    def progress(self, percent: float, label: str = "", token: str = "") -> None:
        """Tell how far it has come, and what the next slice is to begin with."""
        if progress.FILE in os.environ:
            told: dict[str, Any] = {"progress": percent, "label": label}
            self.say(json.dumps(told | ({"token": token} if token else {})))

    def kept(self) -> dict[str, Any]:
        """Return what an earlier run kept; {} when there is nothing that can be read."""
        return kept(self.name)

    def keep(self, what: Mapping[str, Any]) -> None:
        """Keep `what` for later runs, in place of what was kept before."""
        file = _memory(self.name)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(what), encoding="utf-8")
        new.replace(file)


def kept(name: str) -> dict[str, Any]:
    """Return what the skill `name` has kept between its runs; {} when nothing can be read."""
    try:
        found = json.loads(_memory(name).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _memory(name: str) -> Path:
    return Path(settings.DATA_DIR) / "skills" / f"{name}.json"


class Skill:
    """An action of the daemon's own. Subclasses say when it is due, and do it."""

    name: ClassVar[str]
    title: ClassVar[str | Promise]
    description: ClassVar[str | Promise] = ""
    # What its job has at first; people may change it there.
    only_when_idle: ClassVar[bool] = False
    on_presence: ClassVar[Job.Presence] = Job.Presence.CONTINUE
    in_quiet_hours: ClassVar[bool] = False
    timeout_seconds: ClassVar[int] = 300
    # Whether it is part of each tick, and has neither a job nor runs.
    in_tick: ClassVar[bool] = False

    def is_due(self, situation: Situation) -> Due | None:  # noqa: ARG002 - for those who need it
        """Return why it is to run now; None when it is not. Asked at every tick: be quick."""
        return None

    def run(self, context: Context) -> Result:
        """Do it. Runs in a process of its own.

        Raises Stopped by `context.make_way()`; any other exception is a failure.
        """
        raise NotImplementedError


SKILLS: Registry[type[Skill]] = Registry("skill")


def registered(skill: type[Skill]) -> type[Skill]:
    """File a skill under its name; a class decorator. Raises ValueError for a bad or taken name."""
    if not NAME.fullmatch(skill.name):
        raise ValueError(f"a skill is named with a-z, 0-9 and _, up to 40: not {skill.name!r}")
    return SKILLS.register(skill.name)(skill)

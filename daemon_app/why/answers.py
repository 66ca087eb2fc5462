"""What an explanation consists of: its sentence, its rules, and what was recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from daemon_app import gates
from daemon_app.why.words import LABELS

OK, BLOCKED, INFO, UNKNOWN = "ok", "blocked", "info", "unknown"
# The decisive rule comes first. What needs a person stands before what passes by itself.
DECISIVE: Final = (
    *("enabled", "schedule", "deadline", "database", "daemon", "impossible", "held", "supervisors"),
    *("clock", "later", "overlap", *gates.GATES, "pool", "turn", "slots"),
)
IMPOSSIBLE: Final = {
    "waits_no_pool",
    "waits_impossible",
    "waits_vram_impossible",
    "waits_window_unknown",
    "never_both",
}


@dataclass(frozen=True)
class Rule:
    """One rule and its reading: "ok", "blocked", "info" (says something, keeps nobody), "unknown".

    `code` says the same for programs. `brief` is the sentence without its way out.
    """

    name: str
    state: str
    code: str
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    brief: str = ""

    @property
    def label(self) -> str:
        """What the rule is about, in the current language."""
        return str(LABELS[self.name])

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        told = {"name": self.name, "label": self.label, "state": self.state, "code": self.code}
        return {**told, "sentence": self.sentence, "facts": _plain(self.facts)}


@dataclass(frozen=True)
class Event:
    """Something that was recorded: when it began and, as far as it lasted, when it was over."""

    at: datetime
    code: str
    sentence: str
    until: datetime | None = None
    run_id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "at": self.at.isoformat(),
            "until": self.until and self.until.isoformat(),
            "code": self.code,
            "sentence": self.sentence,
            "run": self.run_id,
            "facts": _plain(self.facts),
        }


@dataclass(frozen=True)
class Explanation:
    """Why something is as it is. `state` is one of:

    "off", "broken", "over" (nothing will be due), "manual", "scheduled" (not due yet), "overdue",
    "waiting", "running", a final state of a run, "none" (nothing recorded).
    """

    state: str
    sentence: str
    rules: tuple[Rule, ...]
    history: tuple[Event, ...]
    job_id: int
    run_id: int | None = None
    next_due_at: datetime | None = None

    def rule(self, name: str) -> Rule:
        """Return the rule of that name; KeyError when it has nothing to do with it."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise KeyError(name)

    @property
    def blockers(self) -> list[Rule]:
        """The rules that keep it, the decisive one first."""
        return sorted((rule for rule in self.rules if rule.state == BLOCKED), key=_weight)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "state": self.state,
            "sentence": self.sentence,
            "job": self.job_id,
            "run": self.run_id,
            "next_due_at": self.next_due_at and self.next_due_at.isoformat(),
            "rules": [rule.as_json() for rule in self.rules],
            "history": [event.as_json() for event in self.history],
        }


def _weight(rule: Rule) -> int:
    name = "impossible" if rule.code in IMPOSSIBLE else rule.name
    return DECISIVE.index(name) if name in DECISIVE else len(DECISIVE)


def _plain(value: Any) -> Any:
    """Return facts as JSON takes them."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)

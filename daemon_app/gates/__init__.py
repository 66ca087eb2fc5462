"""Conditions that a due run waits for: idle, VRAM, a service, a time of day, …

A gate is one file here and one line below. It reads what a job asks for (`Job.needs`) and what is
true now (`Conditions`), and says whether it is open, with the numbers it went by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon_app.gates.conditions import Conditions
from daemon_app.registry import Registry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says: `code` and `facts` make its sentence (`models.reasons`)."""

    gate: str
    open: bool
    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it on a run."""
        return {"gate": self.gate, "open": self.open, "code": self.code, "facts": dict(self.facts)}


# Given what a job needs, never empty, and what is true: a verdict, None where it does not ask.
Gate = Callable[[Mapping[str, Any], Conditions], Verdict | None]
GATES: Registry[Gate] = Registry("gate")


def verdicts(needs: Mapping[str, Any], conditions: Conditions) -> list[Verdict]:
    """Return what each gate that `needs` names says, open ones too, in the order of the gates."""
    said = (gate(needs, conditions) for gate in GATES.values())
    return [verdict for verdict in said if verdict is not None]


def closed(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Return the first gate that is closed; None when a run may start for all of them."""
    for gate in GATES.values():
        verdict = gate(needs, conditions)
        if verdict is not None and not verdict.open:
            return verdict
    return None


# One line each; their order is the order in which they are told.
from daemon_app.gates import idle  # noqa: E402, F401

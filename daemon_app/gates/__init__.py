"""Conditions that a due run waits for: idle, VRAM, a service, a time of day, …

A gate is one file here and one line below. It reads what a job asks for (`Job.needs`) and what is
true now (`Conditions`), and says whether it is open, with the numbers it went by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
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


# Given what a run needs, which may be nothing, and what is true: a verdict, None where it does not
# concern the run. Asked for each run in line, thousands at a time: a gate reads no database.
Gate = Callable[[Mapping[str, Any], Conditions], Verdict | None]
GATES: Registry[Gate] = Registry("gate")


def verdicts(needs: Mapping[str, Any], conditions: Conditions) -> list[Verdict]:
    """Return what each gate that concerns the run says, open ones too, in the order of the gates.

    Also for a run that needs nothing: quiet hours concern it all the same.
    """
    said = (gate(needs, conditions) for gate in GATES.values())
    return [verdict for verdict in said if verdict is not None]


def closed(needs: Mapping[str, Any], conditions: Conditions) -> Verdict | None:
    """Return the first gate that is closed; None when a run may start for all of them."""
    if not needs and not conditions.quiet_hours:
        return None
    for gate in GATES.values():
        verdict = gate(needs, conditions)
        if verdict is not None and not verdict.open:
            return verdict
    return None


def next_change(needs: Mapping[str, Any], conditions: Conditions) -> datetime | None:
    """Return when the clock alone may open a gate that is closed now; None for not at all.

    The first of them: a window opens, quiet hours end, the machine becomes idle if nothing happens.
    Readings, and people, change when they change.
    """
    if not needs and not conditions.quiet_hours:
        return None
    shut = (each for each in verdicts(needs, conditions) if not each.open)
    told = (each.facts.get("until") for each in shut if each.gate in BY_THE_CLOCK)
    instants = (datetime.fromisoformat(until) for until in told if until)
    return min((each for each in instants if each > conditions.now), default=None)


BY_THE_CLOCK = ("window", "quiet_hours", "idle")

# One line each; their order is the order in which they are told: what lasts longest first.
from daemon_app.gates import window  # noqa: E402, F401, I001 - the order is meant
from daemon_app.gates import quiet_hours  # noqa: E402, F401
from daemon_app.gates import idle  # noqa: E402, F401
from daemon_app.gates import service  # noqa: E402, F401
from daemon_app.gates import vram  # noqa: E402, F401
from daemon_app.gates import disk  # noqa: E402, F401
from daemon_app.gates import load  # noqa: E402, F401
from daemon_app.gates import finish_by  # noqa: E402, F401

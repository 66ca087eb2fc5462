"""The line of waiting runs, and how much of what is limited is taken."""

import re
from dataclasses import dataclass
from datetime import datetime

from daemon_app import admission, gates
from daemon_app.models import (
    Policy,
    Pool,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import upcoming_jobs, waiting_runs

MOST_IN_LINE = 200


@dataclass(frozen=True)
class Taken:
    """How much of something limited is in use."""

    name: str
    used: int
    size: int
    description: str = ""

    @property
    def is_over(self) -> bool:
        """Whether more is in use than there may be: it was made smaller meanwhile."""
        return self.used > self.size

    @property
    def share(self) -> str:
        """How much of it is in use, as SVG wants it: "50%"; a pool made smaller is full."""
        return f"{min(100, round(100 * self.used / self.size))}%"


@region("queue", topics=("runs", "jobs", "policy", "daemon", "presence", "health"))
def queue(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the line in the order of start, and how much of slots and pools is taken."""
    waiting = admission.line(now, MOST_IN_LINE)
    count = len(waiting) if len(waiting) < MOST_IN_LINE else waiting_runs(now).count()
    places = [each.position for each in waiting if each.position]
    return {
        **_capacity(),
        "waiting": waiting,
        "at_gate": {each.run.pk for each in waiting if is_at_gate(each)},
        "count": count,
        "last_place": max(places, default=0),
        "next": upcoming_jobs().first() if not waiting else None,
    }


def _capacity() -> Context:
    room, _newest = admission.current_room()
    told = dict(Pool.objects.values_list("name", "description"))
    return {
        "policy": Policy.current(),
        "slots": Taken("", room.taken, room.parallel),
        "pools": [
            Taken(name, room.of_pool[name], size, told.get(name, ""))
            for name, size in sorted(room.sizes.items())
        ],
    }


# Waits for conditions, of which a person may say: start all the same.
AT_GATE = re.compile(rf"waits_(?:service|displaced|{'|'.join(gates.GATES)})(?:_|$)")


def is_at_gate(waiting: admission.Waiting) -> bool:
    """Return whether a run waits for a condition, and has not been told to start all the same."""
    return not waiting.run.forced_by and AT_GATE.match(waiting.code) is not None

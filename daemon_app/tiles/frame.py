"""What stands on every page: the navigation, the daemon's sign of life, and whether all is held."""

from datetime import datetime

from daemon_app.models import (
    Job,
    Node,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import active_counts, rules


@region("nav", topics=("jobs", "runs"))
def nav(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the numbers beside the navigation; `arg` is the section the page belongs to."""
    running, waiting = active_counts(now)
    return {
        "section": arg,
        "jobs": Job.objects.count(),
        "running": running,
        "waiting": waiting,
    }


@region("daemon", topics=("daemon",))
def daemon(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return since when the scheduler runs, or that it does not."""
    node = Node.latest()
    return {"node": node, "alive": node is not None and node.is_alive(now)}


@region("held", topics=("policy",))
def held(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held: said at the head of every page."""
    return {"policy": rules(now)}


@region("hold", topics=("policy", "runs"))
def hold(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held, by whom and since when."""
    return {"policy": rules(now), "running": active_counts(now)[0]}

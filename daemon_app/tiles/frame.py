"""What stands on every page: the navigation, the daemon's sign of life, and whether all is held."""

from datetime import datetime

from daemon_app.models import (
    Job,
    Node,
    Policy,
    Run,
)
from daemon_app.tiles.regions import Context, Viewer, region
from daemon_app.tiles.rows import running_runs, waiting_runs


@region("nav", topics=("jobs", "runs"))
def nav(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return the numbers beside the navigation; `arg` is the section the page belongs to."""
    return {
        "section": arg,
        "jobs": Job.objects.count(),
        "running": Run.objects.running().count(),
        "waiting": waiting_runs(now).count(),
    }


@region("daemon", topics=("daemon",))
def daemon(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return since when the scheduler runs, or that it does not."""
    node = Node.latest()
    return {"node": node, "alive": node is not None and node.is_alive(now)}


@region("held", topics=("policy",))
def held(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held: said at the head of every page."""
    return {"policy": Policy.current()}


@region("hold", topics=("policy", "runs"))
def hold(viewer: Viewer, arg: str | None, now: datetime) -> Context:  # noqa: ARG001
    """Return whether everything is held, by whom and since when."""
    return {"policy": Policy.current(), "running": running_runs().count()}

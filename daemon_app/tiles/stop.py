"""How far the end of a run has come that somebody, or a rule, has asked for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.utils.translation import gettext as _t

from daemon_app import supervisor
from daemon_app.models import Run


@dataclass(frozen=True)
class Step:
    """One rung on the way to the end: over, under way, or still to come.

    `began_at` and `until` are known of the one under way: if nothing ends before, the next is due.
    """

    name: str
    hint: str
    stage: str  # "done", "now" or "next"
    began_at: datetime | None = None
    until: datetime | None = None

    @property
    def seconds(self) -> float:
        """How long this step may take; 0 where that is not known."""
        if self.began_at is None or self.until is None:
            return 0.0
        return (self.until - self.began_at).total_seconds()


def steps(run: Run) -> list[Step]:
    """Return the steps of a run's end, first to last; none when nobody wants it to end."""
    if run.state != Run.State.RUNNING or not (run.is_stopping or run.phase):
        return []
    displacing = run.reason_code == "displacing" and not run.is_stopping
    names = [("", _t("Requested"), "")]
    if displacing:
        names.append((Run.Phase.ASKED, _t("Asked for room"), _t("it may save what it has")))
    elif run.definition.get("stop_command"):
        names.append((Run.Phase.ASKED, _t("Stop command"), _t("its own way to end")))
    names += [
        (Run.Phase.TERM, _t("Told to end"), "SIGTERM"),
        (Run.Phase.KILL, _t("Forced to end"), "SIGKILL"),
    ]
    keys = [key for key, _name, _hint in names]
    here = keys.index(run.phase) if run.phase in keys else 0
    began_at = _began_at(run.folder) if run.phase else run.stop_requested_at
    until = None
    if began_at and run.phase in {Run.Phase.ASKED, Run.Phase.TERM}:
        grace = run.definition.get("grace_seconds")
        if grace is None:
            grace = supervisor.GRACE_SECONDS
        patience = supervisor.DISPLACE_SECONDS if displacing else float(grace)
        until = began_at + timedelta(seconds=patience)
    found = []
    for place, (_key, name, hint) in enumerate(names):
        if place == here:
            found.append(Step(name, hint, "now", began_at, until))
        else:
            found.append(Step(name, hint, "done" if place < here else "next"))
    return [*found, Step(_t("Ended"), "", "next")]


def _began_at(folder: Path) -> datetime | None:
    """Return when the step under way began: the supervisor writes it down at that moment."""
    try:
        return datetime.fromtimestamp((folder / "phase").stat().st_mtime, UTC)
    except OSError:
        return None

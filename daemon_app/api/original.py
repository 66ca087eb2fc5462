"""What the original BACH called things: its fields beside ours, and what it had that we have not.

Programs written for it read on. Nothing of ours is named otherwise for it; `docs/compatibility.md`
is the table for people.
"""

from typing import Any, Final

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from daemon_app.api.fields import Choice, Instant
from daemon_app.models import Job, Run
from daemon_app.models.job import LATER_KINDS

# What comes with later versions, by its address.
LATER: Final = {
    "chains": _("This version has no chains yet."),
    "events": _("This version has no jobs that wait for events yet."),
    "recurring": _("This version has no recurring tasks yet."),
    "session": _("This version starts no sessions yet."),
    "prompts": _("This version has no prompts yet."),
    "backup": _("This version makes no backups yet."),
}
# How a run ended; of what it knew no word for, ours stands.
RESULTS: Final = {
    Run.State.SUCCEEDED: "success",
    Run.State.FAILED: "failed",
    Run.State.TIMED_OUT: "timeout",
    Run.State.CANCELLED: "cancelled",
}
JOB_FIELDS: Final = ("next_run", "retry_on_fail")
RUN_FIELDS: Final = ("name", "result", "finished_at", "triggered_by", "output", "error")


class JobType(Choice):
    """When a job runs. A kind that comes later is known as that by the job itself."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, str) and data in LATER_KINDS:
            return data
        return super().to_internal_value(data)


class JobNames(serializers.Serializer[Job]):
    """A job's fields by their names there."""

    next_run = Instant(
        source="next_due_at",
        read_only=True,
        allow_null=True,
        help_text="next_due_at, as the original names it.",
    )
    retry_on_fail = serializers.SerializerMethodField(
        help_text="Whether max_retries is more than 0, as the original names it."
    )

    def get_retry_on_fail(self, job: Job) -> bool:
        return job.max_retries > 0


class RunNames(serializers.Serializer[Run]):
    """A run's fields by their names there."""

    name = serializers.CharField(
        source="job_name", read_only=True, help_text="job_name, as the original names it."
    )
    result = serializers.SerializerMethodField(
        help_text="state in the original's words: success, failed, timeout, cancelled, else as it "
        "is; null: it has not ended."
    )
    finished_at = Instant(
        source="ended_at",
        read_only=True,
        allow_null=True,
        help_text="ended_at, as the original names it.",
    )
    triggered_by = serializers.SerializerMethodField(
        help_text="trigger in the original's words: schedule or manual."
    )
    output = serializers.CharField(
        source="last_line", read_only=True, help_text="The last line; all of it: …/log."
    )
    error = serializers.SerializerMethodField(
        help_text="reason of a run that ended badly; null: it did not."
    )

    def get_result(self, run: Run) -> str | None:
        return None if run.is_active else RESULTS.get(Run.State(run.state), run.state)

    def get_triggered_by(self, run: Run) -> str:
        by_itself = run.trigger in {Run.Trigger.SCHEDULE, Run.Trigger.TICK}
        return "schedule" if by_itself else "manual"

    def get_error(self, run: Run) -> str | None:
        return None if run.is_active or run.state == Run.State.SUCCEEDED else run.reason


def not_yet(address: str) -> str:
    """Return what to say of an address the original had, below ours; "" when it had none such."""
    return str(LATER.get(address.strip("/").partition("/")[0], ""))

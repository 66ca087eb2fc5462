"""How jobs and runs are written as JSON, and how what a client sends is read.

Reading checks types alone; what a job may be is said by its model, for form, API, admin and
command line alike.
"""

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from daemon_app.api.errors import Fields, Problem, by_field, refused
from daemon_app.models import Job, Run

MOST_UNKNOWN_NAMED = 20
SHOWN_CHARACTERS = 60
LARGEST = 2**63 - 1
# More than is kept of any run's output.
LARGEST_PIECE = 16 * 1024 * 1024


# ── Fields ───────────────────────────────────────────────────────────────────────────────────────
class Spoken(serializers.Field[Any, Any, Any, Any]):
    """A field whose messages are filled in as all our texts are, by % and names."""

    def fail(self, key: str, **facts: Any) -> NoReturn:
        raise serializers.ValidationError(str(self.error_messages[key]) % facts, code=key)


class Text(Spoken, serializers.CharField):
    """Text, and nothing that could be taken for it."""

    default_error_messages: ClassVar = {
        "null": _('Give text, not null; an empty text is written as "".'),
        "type": _("Give text in quotation marks."),
        "nul": _("A NUL character can't be part of this."),
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("type")
        if "\0" in data:
            self.fail("nul")
        return data


class Choice(Spoken, serializers.ChoiceField):
    """One of a few words."""

    default_error_messages: ClassVar = {
        "null": _("Give one of: %(words)s."),
        "unknown": _("Give one of: %(words)s."),
        "near": _("Give one of: %(words)s. Did you mean “%(near)s”?"),
    }

    def fail(self, key: str, **facts: Any) -> NoReturn:
        super().fail(key, words=", ".join(map(str, self.choices)), **facts)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("unknown")
        if data not in self.choices:
            near = nearest(data, self.choices)
            self.fail("near", near=near) if near else self.fail("unknown")
        return data


class Flag(Spoken, serializers.BooleanField):
    """true or false, not the many words for them."""

    default_error_messages: ClassVar = {
        "null": _("Give true or false."),
        "type": _("Give true or false."),
    }

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("type")
        return data


class Whole(Spoken, serializers.IntegerField):
    """A whole number; true is none, and neither is 3.0 or "3"."""

    default_error_messages: ClassVar = {
        "null": _("Give a whole number."),
        "type": _("Give a whole number, without quotation marks."),
    }

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("type")
        return int(data)


class Variables(Spoken, serializers.DictField):
    """Names with their texts. The model judges names and texts."""

    child = serializers.CharField()
    default_error_messages: ClassVar = {
        "null": _('Give an object, for example {"LANG": "C"}; an empty one is written as {}.'),
        "type": _('Give an object, for example {"LANG": "C"}.'),
    }

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Instant(serializers.DateTimeField):
    """An instant in UTC, ISO 8601."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=UTC, **options)


class Count(Spoken, serializers.IntegerField):
    """A whole number in a query string, within its bounds."""

    default_error_messages: ClassVar = {
        "range": _("Give a whole number from %(low)s to %(high)s."),
    }

    def to_internal_value(self, data: Any) -> int:
        low, high = int(self.min_value or 0), int(self.max_value or LARGEST)
        if not (data.isascii() and data.isdigit() and len(data) < 20 and low <= int(data) <= high):
            self.fail("range", low=low, high=high)
        return int(data)


class FlagWord(Spoken, serializers.BooleanField):
    """true or false in a query string."""

    default_error_messages: ClassVar = {"type": _("Give true or false.")}

    def to_internal_value(self, data: Any) -> bool:
        if data not in {"true", "false"}:
            self.fail("type")
        return bool(data == "true")


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────
class Strict(serializers.Serializer[Any]):
    """Reads an object, and refuses every name it does not know."""

    def read(self, data: Any, *, kind: str = "field") -> tuple[dict[str, Any], Fields]:
        """Return the values that have the right type, and what is wrong with the others.

        The fields' own validators are for the description (OpenAPI); they are not run here.
        """
        if not isinstance(data, Mapping):
            raise Problem(400, "no_object", _t("Send a JSON object: {…}."))
        values: dict[str, Any] = {}
        wrong: Fields = {}
        for name, field in self.fields.items():
            if name not in data or field.read_only:
                continue
            try:
                is_null, value = field.validate_empty_values(data[name])
                values[name] = value if is_null else field.to_internal_value(value)
            except serializers.ValidationError as error:
                wrong[name] = [str(message) for message in error.detail]
        return values, wrong | self._unknown(data, kind)

    def _unknown(self, data: Mapping[str, Any], kind: str) -> Fields:
        writable = [name for name, field in self.fields.items() if not field.read_only]
        unknown = [name for name in data if name not in writable]
        found: Fields = {}
        for name in unknown[:MOST_UNKNOWN_NAMED]:
            near = nearest(name, writable)
            if name in self.fields:
                message = _t("This field is set by the daemon.")
            elif kind == "parameter":
                message = _t("There is no such parameter.")
            else:
                message = _t("There is no such field.")
            if near and name not in self.fields:
                message += " " + _t("Did you mean “%(name)s”?") % {"name": near}
            found[name[:SHOWN_CHARACTERS]] = [message]
        return found


def nearest(word: str, known: Iterable[object]) -> str | None:
    """Return the one of the known words that somebody may have meant; None for none like it."""
    found = difflib.get_close_matches(word[:SHOWN_CHARACTERS], [str(k) for k in known], n=1)
    return found[0] if found else None


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
class JobSerializer(serializers.ModelSerializer[Job], Strict):
    """A job."""

    serializer_choice_field = Choice
    serializer_field_mapping: ClassVar[dict[Any, Any]] = {
        models.BigAutoField: serializers.IntegerField,
        models.BooleanField: Flag,
        models.CharField: Text,
        models.DateTimeField: Instant,
        models.PositiveIntegerField: Whole,
        models.SmallIntegerField: Whole,
        models.TextField: Text,
    }

    schedule_text = serializers.CharField(
        source="describe", read_only=True, help_text="The schedule as a sentence."
    )
    environment = Variables(required=False, help_text="Variables of the command: name → text.")
    parameters = Variables(
        required=False, help_text="The command sees each as BACH_PARAM_<NAME>: name → text."
    )

    class Meta:
        model = Job
        fields = (
            "id",
            "name",
            "description",
            "job_type",
            "schedule",
            "schedule_text",
            "timezone",
            "is_active",
            "next_due_at",
            "schedule_error",
            "command",
            "use_shell",
            "script_path",
            "arguments",
            "working_directory",
            "environment",
            "parameters",
            "nice",
            "idle_io",
            "timeout_seconds",
            "soft_timeout_seconds",
            "grace_seconds",
            "leave_descendants",
            "overlap",
            "max_instances",
            "version",
            "created_at",
            "updated_at",
            "updated_by",
        )
        extra_kwargs: ClassVar = {
            "name": {"help_text": "Unique. Letters, digits, blanks and - _ . : + @ ( )."},
            "schedule": {
                "help_text": "interval: 30s, 5m, 1h30m, 24h, 7d. cron: five fields. "
                "once: 2026-12-24 18:00. manual: empty."
            },
            "timezone": {"help_text": "IANA zone; the machine's unless given."},
            "next_due_at": {"help_text": "null: not by itself."},
            "schedule_error": {"help_text": "Why the stored schedule can't be read; else empty."},
            "command": {"help_text": "A line for the shell, or with use_shell false a command."},
            "script_path": {"help_text": "Instead of a command: a script to run."},
            "nice": {"help_text": "0 to 19; higher gives way to others."},
            "timeout_seconds": {"help_text": "Per attempt; 0: none."},
            "soft_timeout_seconds": {"help_text": "After this a warning; null: none."},
            "grace_seconds": {"help_text": "Between SIGTERM and SIGKILL."},
            "max_instances": {"help_text": "With overlap parallel: this many at once."},
            "version": {"help_text": "Counts the changes."},
        }

    def to_representation(self, instance: Job) -> dict[str, Any]:
        told: dict[str, Any] = super().to_representation(instance)
        if not instance.is_active:
            # The row still holds the instant it would have had.
            told["next_due_at"] = None
        return told

    def write(self, job: Job, data: Any, *, now: datetime, by: str) -> Job:
        """Apply what a client sent to a new or existing job, and store it.

        Raises Problem with all that is wrong at once, in type or by the job's own rules.
        """
        values, wrong = self.read(data)
        for name, value in values.items():
            setattr(job, name, value)
        try:
            if not wrong:
                return job.store(now=now, by=by)
            job.full_clean(exclude=["anchor", "created_at", "updated_at"])
        except ValidationError as error:
            wrong = by_field(error) | wrong
        raise refused(wrong)


class JobsQuery(Strict):
    """Which jobs."""

    name = serializers.CharField(required=False, help_text="The job with exactly this name.")
    is_active = FlagWord(required=False, help_text="Only those that start by themselves, or not.")
    limit = Count(min_value=1, max_value=1000, required=False, help_text="1000 unless given.")
    after = Count(min_value=0, required=False, help_text="Only jobs with a higher id.")


class Toggle(Strict):
    """What to switch a job's schedule to; the other way round when nothing is said."""

    is_active = Flag(required=False)


class Jobs(serializers.Serializer[Any]):
    """A page of jobs by id."""

    jobs = JobSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────
class RunSerializer(serializers.ModelSerializer[Run]):
    """A run. The context holds `now`, for the duration of what still runs."""

    serializer_field_mapping: ClassVar[dict[Any, Any]] = {
        **serializers.ModelSerializer.serializer_field_mapping,
        models.DateTimeField: Instant,
    }

    job_id = serializers.IntegerField(read_only=True)
    reason = serializers.CharField(
        read_only=True, help_text="Why it is as it is, as a sentence; empty when plain."
    )
    is_stopping = serializers.BooleanField(
        read_only=True, help_text="Whether it was asked to stop and has not ended yet."
    )
    duration_seconds = serializers.SerializerMethodField(
        help_text="How long the command has run, or ran; null: it never began."
    )

    class Meta:
        model = Run
        fields: tuple[str, ...] = (
            "id",
            "job_id",
            "job_name",
            "trigger",
            "started_by",
            "state",
            "reason_code",
            "reason",
            "blocking_run_id",
            "is_stopping",
            "due_at",
            "queued_at",
            "started_at",
            "ended_at",
            "duration_seconds",
            "attempt",
            "exit_code",
            "signal",
            "cpu_seconds",
            "peak_rss_bytes",
            "output_bytes",
            "dropped_bytes",
            "output_lines",
            "last_line",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "signal": {"help_text": "The signal that ended the command, apart from the exit code."},
            "output_bytes": {"help_text": "What the command wrote, kept or not; known at the end."},
            "dropped_bytes": {"help_text": "How much of it was not kept."},
        }

    def get_duration_seconds(self, run: Run) -> float | None:
        duration = run.duration(self.context["now"])
        return None if duration is None else duration.total_seconds()


class OneRun(RunSerializer):
    """A run with what was to be executed."""

    definition = serializers.DictField(
        read_only=True, help_text="What was to be executed, whatever the job has become since."
    )

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "definition")
        read_only_fields = fields


class RunsQuery(Strict):
    """Which runs."""

    job_id = Count(required=False)
    state = Choice(choices=Run.State.choices, required=False)
    trigger = Choice(choices=Run.Trigger.choices, required=False)
    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only runs with a lower id.")


class Runs(serializers.Serializer[Any]):
    """A page of runs, newest first."""

    runs = RunSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


class LogQuery(Strict):
    """Which part of the output."""

    offset = Count(required=False, help_text="From this byte on; 0 unless given.")
    limit = Count(
        min_value=1, max_value=LARGEST_PIECE, required=False, help_text="At most this many bytes."
    )
    lines = Count(
        min_value=1, max_value=100_000, required=False, help_text="Instead: the last lines."
    )


# ── State of the daemon ──────────────────────────────────────────────────────────────────────────
class Stats(serializers.Serializer[Any]):
    """Counts."""

    total_jobs = serializers.IntegerField()
    active_jobs = serializers.IntegerField(help_text="Those that start by themselves.")
    runs_today = serializers.IntegerField(help_text="Since midnight, without skipped and missed.")
    failed_today = serializers.IntegerField(help_text="Of these: failed, timed out or lost.")


class Status(serializers.Serializer[Any]):
    """How the daemon is."""

    running = serializers.BooleanField(help_text="Whether the daemon has spoken lately.")
    host = serializers.CharField(allow_null=True)
    since = Instant(allow_null=True, help_text="Since when it runs; null while it does not.")
    stats = Stats()
    last_runs = RunSerializer(many=True, required=False, help_text="Not without signing in.")

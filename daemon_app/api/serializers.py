"""How jobs and runs are written as JSON, and how what a client sends is read.

Reading checks types alone; what a job may be is said by its model, for form, API, admin and
command line alike.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _t
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from daemon_app import admission
from daemon_app.api import machine, original
from daemon_app.api.errors import Fields, by_field, refused
from daemon_app.api.fields import (
    CheckNames,
    Choice,
    Count,
    ExitCodes,
    Flag,
    FlagWord,
    Folders,
    Instant,
    InstantWord,
    Strict,
    Text,
    Variables,
    Weights,
    Whole,
)
from daemon_app.models import Attempt, Incident, Job, Policy, Pool, Run
from daemon_app.models.change import SECRET
from daemon_app.models.policy import WATCHED

# Instead of a value that may be a password, for whoever may not edit jobs.
HIDDEN = "***"
# More than is kept of any run's output.
LARGEST_PIECE = 16 * 1024 * 1024
LONGEST_SEARCH = 80
# What jobs can be listed by.
SORTED_BY = ("id", "name", "next_due_at", "created_at", "updated_at", "priority")


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
class JobSerializer(original.JobNames, serializers.ModelSerializer[Job], Strict):
    """A job."""

    serializer_choice_field = Choice
    serializer_field_mapping: ClassVar[dict[Any, Any]] = {
        models.BigAutoField: serializers.IntegerField,
        models.BooleanField: Flag,
        models.CharField: Text,
        models.DateTimeField: Instant,
        models.PositiveIntegerField: Whole,
        models.PositiveSmallIntegerField: Whole,
        models.SmallIntegerField: Whole,
        models.TextField: Text,
    }

    schedule_text = serializers.CharField(
        source="describe", read_only=True, help_text="The schedule as a sentence."
    )
    schedule_error = serializers.CharField(
        source="schedule_fault",
        read_only=True,
        help_text="Why the stored schedule can't be read; else empty.",
    )
    environment = Variables(
        required=False,
        help_text="Variables of the command: name → text; only the names, unless you may edit.",
    )
    parameters = Variables(
        required=False,
        help_text=(
            "The command sees each as BACH_PARAM_<NAME>: name → text; only the names, as above."
        ),
    )
    retry_exit_codes = ExitCodes(
        required=False, help_text="Retry only after these; empty: after every failure."
    )
    pools = Weights(required=False, help_text="What a run takes of each pool: name → weight.")
    needs_services = CheckNames(
        required=False, help_text="Checks that must be ok: gpu_service, ollama."
    )
    job_type = original.JobType(choices=Job.Kind.choices, required=False)

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
            "paused_until",
            "paused_by",
            "pause_note",
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
            "stop_command",
            "leave_descendants",
            "overlap",
            "max_instances",
            "misfire",
            "misfire_age_seconds",
            "deadline",
            "max_wait_seconds",
            "max_retries",
            "retry_backoff_seconds",
            "retry_exit_codes",
            "retry_on_timeout",
            "on_loss",
            "pools",
            "priority",
            "only_when_idle",
            "on_presence",
            "ask_signal",
            "min_vram_mb",
            "needs_services",
            "min_disk_mb",
            "max_load_percent",
            "window",
            "in_quiet_hours",
            "finish_by",
            "gate_action",
            "skill",
            "cpu_limit_seconds",
            "memory_limit_mb",
            "limit_sustain_seconds",
            "limit_action",
            "keep_days",
            "keep_runs",
            "keep_output_mb",
            "version",
            "created_at",
            "updated_at",
            "updated_by",
            *original.JOB_FIELDS,
        )
        extra_kwargs: ClassVar = {
            "name": {"help_text": "Unique. Letters, digits, blanks and - _ . : + @ ( )."},
            "schedule": {
                "help_text": "interval: 30s, 5m, 1h30m, 24h, 7d. cron: five fields. "
                "once: 2026-12-24 18:00. manual: empty."
            },
            "timezone": {"help_text": "IANA zone; the machine's unless given."},
            "paused_until": {
                "help_text": "While it is inactive: when it goes on by itself; null: never."
            },
            "paused_by": {"help_text": "Who paused it; empty: it is not paused."},
            "pause_note": {"help_text": "Why it is paused, as somebody wrote."},
            "next_due_at": {"help_text": "null: not by itself."},
            "command": {"help_text": "A line for the shell, or with use_shell false a command."},
            "script_path": {"help_text": "Instead of a command: a script to run."},
            "nice": {"help_text": "0 to 19; higher gives way to others."},
            "timeout_seconds": {"help_text": "Per attempt; 0: none."},
            "soft_timeout_seconds": {"help_text": "After this a warning; null: none."},
            "grace_seconds": {"help_text": "Between SIGTERM and SIGKILL."},
            "stop_command": {
                "help_text": "Tried first when a run is to end; then SIGTERM, then SIGKILL."
            },
            "max_instances": {"help_text": "With overlap parallel: this many at once."},
            "misfire": {
                "help_text": "What becomes of occurrences missed while nothing could start them."
            },
            "misfire_age_seconds": {"help_text": "What is older than this is not caught up."},
            "deadline": {"help_text": "Nothing starts after this instant; null: no end."},
            "max_wait_seconds": {
                "help_text": "A run that waits longer is skipped; null: it waits on."
            },
            "max_retries": {
                "help_text": "Further attempts of the same run; a cancel never retries."
            },
            "retry_backoff_seconds": {
                "help_text": "Before the first retry; each further pause is twice as long."
            },
            "on_loss": {"help_text": "What happens when nobody knows how a run ended."},
            "priority": {"help_text": "-100 to 100; higher goes first."},
            "only_when_idle": {"help_text": "Starts only while nobody is here; unknown is busy."},
            "on_presence": {
                "help_text": "What becomes of a run when somebody comes back. Unless given, "
                "displace when only_when_idle is switched on."
            },
            "ask_signal": {"help_text": "How a run is asked to make way; TERM and KILL follow."},
            "min_vram_mb": {"help_text": "Free VRAM to start with; null: any."},
            "min_disk_mb": {"help_text": "Free disk to start with; null: any."},
            "max_load_percent": {"help_text": "Of all cores, to start with; null: any."},
            "window": {"help_text": "Starts only then: 22:00-06:00, or mo-fr 22:00-06:00, …"},
            "in_quiet_hours": {"help_text": "Starts in the quiet hours of the rules, too."},
            "finish_by": {"help_text": "HH:MM. By then it should be done; empty: whenever."},
            "gate_action": {"help_text": "What happens when the conditions are not met in time."},
            "skill": {"help_text": "What it runs of the program itself; empty: a command."},
            "cpu_limit_seconds": {"help_text": "CPU time of the whole process tree; null: none."},
            "memory_limit_mb": {"help_text": "Memory of the whole process tree; null: none."},
            "limit_sustain_seconds": {"help_text": "How long a limit may be exceeded."},
            "keep_days": {"help_text": "null: as the rules for all jobs say."},
            "keep_runs": {"help_text": "null: as the rules for all jobs say."},
            "keep_output_mb": {"help_text": "null: as the rules for all jobs say."},
            "version": {"help_text": "Counts the changes."},
        }

    def to_representation(self, instance: Job) -> dict[str, Any]:
        told: dict[str, Any] = super().to_representation(instance)
        if not instance.is_active:
            # The row still holds the instant it would have had.
            told |= dict.fromkeys(("next_due_at", "next_run"))
        return told if self.context.get("may_edit") else told | hidden(told)

    def write(self, job: Job, data: Any, *, now: datetime, by: str) -> Job:
        """Apply what a client sent to a new or existing job, and store it.

        Raises Problem with all that is wrong at once, in type or by the job's own rules.
        """
        wrong = self._fill(job, data)
        try:
            if not wrong:
                return job.store(now=now, by=by)
            job.full_clean(exclude=["anchor", "created_at", "updated_at"])
        except ValidationError as error:
            wrong = by_field(error) | wrong
        raise refused(wrong)

    def faults(self, job: Job, data: Any, *, now: datetime) -> Fields:
        """Apply what a client sent to a job that is not stored; return what is wrong with it."""
        wrong = self._fill(job, data)
        try:
            job.examine(now=now)
        except ValidationError as error:
            return by_field(error) | wrong
        return wrong

    def _fill(self, job: Job, data: Any) -> Fields:
        """Set what a client sent, and return what is wrong in type."""
        values, wrong = self.read(data)
        if values.get("only_when_idle") and not job.only_when_idle:
            # Work for the idle machine makes way, unless it is told otherwise.
            values.setdefault("on_presence", Job.Presence.DISPLACE)
        for name, value in values.items():
            setattr(job, name, value)
        return wrong


def hidden(told: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what may hold passwords of a job or a definition, with the names alone."""
    return {name: dict.fromkeys(told.get(name) or (), HIDDEN) for name in SECRET}


class JobsQuery(Strict):
    """Which jobs."""

    name = serializers.CharField(
        required=False, allow_blank=True, help_text="The job with exactly this name."
    )
    is_active = FlagWord(required=False, help_text="Only those that start by themselves, or not.")
    state = Choice(
        choices=("running", "failed", "waiting", "paused"),
        required=False,
        help_text="Only those that run, whose last run ended badly, that wait in line, or that are "
        "switched off.",
    )
    job_type = Choice(choices=Job.Kind.choices, required=False)
    q = Text(
        required=False,
        allow_blank=True,
        max_length=LONGEST_SEARCH,
        help_text="Only those with this in their name or description.",
    )
    sort = Choice(
        choices=[f"{down}{name}" for name in SORTED_BY for down in ("", "-")],
        required=False,
        help_text="By this field, - before it for the other way round; id unless given.",
    )
    limit = Count(min_value=1, max_value=1000, required=False, help_text="200 unless given.")
    after = Count(
        min_value=0, required=False, help_text="Only jobs with a higher id; not together with sort."
    )
    cursor = Text(required=False, help_text="The place in a sorted list that next names.")


def searched(query: Mapping[str, Any]) -> str:
    """Return the words of a search in a list; "" for none. Raises Problem for too many."""
    words = " ".join(query.get("q", "").split())
    if len(words) > LONGEST_SEARCH:
        raise refused({"q": [_t("At most %(n)s characters.") % {"n": LONGEST_SEARCH}]})
    return words


class Toggle(Strict):
    """What to switch a job's schedule to; the other way round when nothing is said."""

    is_active = Flag(required=False)


class Pause(Strict):
    """Until when a job's schedule is off, and why."""

    until = Instant(help_text="In the future, within a year.")
    note = Text(required=False, allow_blank=True, max_length=200, help_text="Why, for people.")


class CreatedJob(JobSerializer):
    """A job that has just been created."""

    status = serializers.SerializerMethodField(help_text="created, as the original says it.")

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "status")  # type: ignore[assignment] # more

    def get_status(self, job: Job) -> Literal["created"]:
        return "created"


class Jobs(serializers.Serializer[Any]):
    """A page of jobs by id."""

    jobs = JobSerializer(many=True)
    count = serializers.IntegerField(help_text="How many are on this page.")
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────
class WaitingSerializer(serializers.Serializer[admission.Waiting]):
    """A place in the line of runs that wait for their start."""

    position = serializers.IntegerField(
        allow_null=True, help_text="1 is the next; null: its time has not come."
    )
    code = serializers.CharField(help_text="For programs; does not change.")
    sentence = serializers.CharField(help_text="Why it waits, for people.")


class RunSerializer(original.RunNames, serializers.ModelSerializer[Run]):
    """A run. The context holds `now`, and keeps what is asked at once for all runs of a list."""

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
    eta_seconds = serializers.SerializerMethodField(
        help_text="How much longer it will take, by its progress or what is usual; null: unknown."
    )
    waiting = serializers.SerializerMethodField(
        help_text="Its place in line and why it waits; null: it does not wait."
    )
    pools = Weights(read_only=True, help_text="What it takes of each pool.")
    needs = serializers.DictField(
        read_only=True,
        help_text="What has to be true before it starts: idle, vram_mb, services, window, …",
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
            "phase",
            "reason_code",
            "reason",
            "blocking_run_id",
            "waiting",
            "is_stopping",
            "stop_requested_at",
            "stop_requested_by",
            "due_at",
            "not_before",
            "expires_at",
            "queued_at",
            "started_at",
            "ended_at",
            "duration_seconds",
            "eta_seconds",
            "progress",
            "progress_label",
            "attempt",
            "priority",
            "pools",
            "needs",
            "forced_by",
            "beside",
            "displacements",
            "exit_code",
            "signal",
            "cpu_seconds",
            "peak_rss_bytes",
            "read_bytes",
            "write_bytes",
            "gpu_seconds",
            "peak_vram_bytes",
            "output_bytes",
            "dropped_bytes",
            "output_removed",
            "output_lines",
            "last_line",
            *original.RUN_FIELDS,
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "phase": {"help_text": "How far a stop has come; empty: nobody asked for one."},
            "not_before": {"help_text": "The earliest start: later than due for a retry."},
            "expires_at": {"help_text": "Not begun by then, it is skipped; null: it waits on."},
            "attempt": {"help_text": "Which attempt this is; 1 is the first."},
            "forced_by": {"help_text": "Who let it start whatever it needs; empty: nobody."},
            "beside": {"help_text": "Started by a person although another run was active."},
            "displacements": {"help_text": "How often it has made way for somebody."},
            "progress": {"help_text": "Per cent, as the command says; null: it says nothing."},
            "signal": {"help_text": "The signal that ended the command, apart from the exit code."},
            "read_bytes": {"help_text": "Read from disk by the whole process tree."},
            "write_bytes": {"help_text": "Written to disk by the whole process tree."},
            "gpu_seconds": {"help_text": "null: not measured here."},
            "peak_vram_bytes": {"help_text": "null: not measured here."},
            "output_bytes": {"help_text": "What the command wrote, kept or not; known at the end."},
            "dropped_bytes": {"help_text": "How much of it was not kept."},
            "output_removed": {"help_text": "Whether its output has been tidied away."},
        }

    def get_duration_seconds(self, run: Run) -> float | None:
        duration = run.duration(self.context["now"])
        return None if duration is None else duration.total_seconds()

    def get_eta_seconds(self, run: Run) -> float | None:
        if run.state != Run.State.RUNNING:
            return None
        left = run.eta(self.context["now"], None if run.progress else self._usual(run))
        return None if left is None else round(left.total_seconds(), 1)

    def _usual(self, run: Run) -> timedelta | None:
        shared: Any = self.context
        if "usual" not in shared:
            jobs = {each.job_id for each in self._told(run) if each.state == Run.State.RUNNING}
            shared["usual"] = Job.objects.filter(pk__in=jobs).usual_durations()
        usual: timedelta | None = shared["usual"].get(run.job_id)
        return usual

    @extend_schema_field(WaitingSerializer(allow_null=True))
    def get_waiting(self, run: Run) -> dict[str, Any] | None:
        if run.state != Run.State.QUEUED:
            return None
        shared: Any = self.context
        if "line" not in shared:
            shared["line"] = admission.waiting_among(self._told(run), shared["now"])
        waiting = shared["line"].get(run.pk)
        return None if waiting is None else {**WaitingSerializer(waiting).data}

    def _told(self, run: Run) -> list[Run]:
        """Return all runs that are told together with this one, and itself."""
        among: Any = self.parent
        return [*among.instance] if among else [run]


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """An earlier attempt of a run that was tried again."""

    serializer_field_mapping = RunSerializer.serializer_field_mapping

    reason = serializers.CharField(read_only=True, help_text="Why it ended so, as a sentence.")

    class Meta:
        model = Attempt
        fields = (
            "number",
            "state",
            "reason_code",
            "reason",
            "started_at",
            "ended_at",
            "exit_code",
            "signal",
            "cpu_seconds",
            "peak_rss_bytes",
            "read_bytes",
            "write_bytes",
            "gpu_seconds",
            "peak_vram_bytes",
            "output_bytes",
            "dropped_bytes",
            "output_lines",
            "last_line",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {"number": {"help_text": "Its output: …/log?attempt=<number>."}}


class OneRun(RunSerializer):
    """A run with what was to be executed, and the attempts before this one."""

    definition = serializers.SerializerMethodField(
        help_text="What was to be executed, whatever the job has become since."
    )
    attempts = AttemptSerializer(
        many=True, read_only=True, help_text="Earlier ones; the last is the run itself."
    )
    waits = serializers.SerializerMethodField(
        help_text="What it waited for, recorded while it waited; oldest first."
    )
    start_readings = serializers.SerializerMethodField(
        help_text="What its conditions said when it was started."
    )
    displaced = machine.MadeWay(
        many=True, read_only=True, help_text="When it made way; newest first."
    )
    progress_token = serializers.SerializerMethodField(
        help_text="What the command goes on from; null: not for your role."
    )

    class Meta(RunSerializer.Meta):
        fields = (
            *RunSerializer.Meta.fields,
            "definition",
            "attempts",
            "waits",
            "start_readings",
            "displaced",
            "progress_token",
        )
        read_only_fields = fields

    @extend_schema_field(machine.Waited(many=True))
    def get_waits(self, run: Run) -> list[dict[str, Any]]:
        return [machine.wait_told(wait) for wait in run.waits.all()]

    @extend_schema_field(machine.Verdict(many=True))
    def get_start_readings(self, run: Run) -> list[dict[str, Any]]:
        return machine.verdicts_told(run.start_readings)

    def get_definition(self, run: Run) -> dict[str, Any]:
        told: dict[str, Any] = run.definition
        return told if self.context["may_edit"] else told | hidden(told)

    def get_progress_token(self, run: Run) -> str | None:
        return run.progress_token if self.context["may_operate"] else None


class StartedRun(RunSerializer):
    """A run that was just asked for."""

    status = serializers.SerializerMethodField(help_text="started, as the original says it.")

    class Meta(RunSerializer.Meta):
        fields = (*RunSerializer.Meta.fields, "status")
        read_only_fields = fields

    def get_status(self, run: Run) -> Literal["started"]:
        return "started"


class StartRun(Strict):
    """How to start a job by hand."""

    beside = Flag(required=False, help_text="Start it although another run of the job is active.")
    force = Flag(required=False, help_text="Start it although its conditions are not met.")


class MoveTo(Strict):
    """Where a waiting run goes in the line."""

    to = Choice(choices=("first", "up", "down", "last"))


class RunsQuery(Strict):
    """Which runs."""

    job_id = Count(required=False)
    state = Choice(
        choices=[*Run.State.values, "active", "unhappy", "unusual"],
        required=False,
        help_text="One of the states; active: queued or running; unhappy: failed, timed_out or "
        "lost; unusual: much longer or shorter than the others of its job.",
    )
    trigger = Choice(choices=Run.Trigger.choices, required=False)
    since = InstantWord(required=False, help_text="Put in line at this instant or later.")
    until = InstantWord(required=False, help_text="Put in line before this instant.")
    q = Text(
        required=False,
        allow_blank=True,
        max_length=LONGEST_SEARCH,
        help_text="Only those with this in the job's name, the last line, or who started them; or "
        "with this number.",
    )
    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only runs with a lower id.")


class Runs(serializers.Serializer[Any]):
    """A page of runs, newest first."""

    runs = RunSerializer(many=True)
    count = serializers.IntegerField(help_text="How many are on this page.")
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
    follow = Choice(
        choices=("1", "true", "0", "false"),
        required=False,
        help_text="Whether the answer goes on with what the run writes, until it ends.",
    )
    attempt = Count(
        min_value=1,
        max_value=65_535,
        required=False,
        help_text="Of this attempt; of the newest unless given.",
    )


# ── The line and the rules for all jobs ──────────────────────────────────────────────────────────
class InLine(WaitingSerializer):
    """A run that waits, with its place and why."""

    run_id = serializers.IntegerField(source="run.pk")
    job_id = serializers.IntegerField(source="run.job_id")
    job_name = serializers.CharField(source="run.job_name")
    trigger = serializers.ChoiceField(choices=Run.Trigger.choices, source="run.trigger")
    started_by = serializers.CharField(source="run.started_by")
    due_at = Instant(source="run.due_at")
    not_before = Instant(source="run.not_before")
    expires_at = Instant(source="run.expires_at", allow_null=True)
    attempt = serializers.IntegerField(source="run.attempt")
    priority = serializers.IntegerField(source="run.priority")
    pools = Weights(source="run.pools")
    needs = serializers.DictField(source="run.needs")
    forced_by = serializers.CharField(source="run.forced_by")
    displacements = serializers.IntegerField(source="run.displacements")


class Hold(serializers.ModelSerializer[Policy]):
    """Whether everything is held."""

    hold = serializers.CharField(
        read_only=True, help_text="Empty: no. drain: nothing starts. stop: what ran was ended, too."
    )
    held_at = Instant(read_only=True, allow_null=True)

    class Meta:
        model = Policy
        fields = ("hold", "held_at", "held_by", "hold_note")
        read_only_fields = fields


class HoldAll(Strict):
    """How to hold everything."""

    mode = Choice(
        choices=[choice for choice in Policy.Hold.choices if choice[0]],
        required=False,
        help_text="drain (unless given): what runs goes on. stop: it is ended.",
    )
    note = Text(
        max_length=200,
        required=False,
        allow_blank=True,
        help_text="Why, for the others; at most 200 characters.",
    )


class Queue(serializers.Serializer[Any]):
    """The line of runs that wait for their start."""

    held = Hold()
    parallel = serializers.IntegerField(help_text="How many may run at once.")
    running = serializers.IntegerField(help_text="How many do.")
    length = serializers.IntegerField(help_text="How many wait; the list may be cut.")
    waiting = InLine(many=True)


class QueueQuery(Strict):
    """How much of the line."""

    limit = Count(min_value=1, max_value=1000, required=False, help_text="200 unless given.")


class PolicySerializer(serializers.ModelSerializer[Policy], Strict):
    """The rules for all jobs."""

    serializer_field_mapping = JobSerializer.serializer_field_mapping

    parallel = serializers.IntegerField(
        read_only=True, help_text="What holds: max_parallel, or the installation's default."
    )
    config_folders = Folders(
        required=False, help_text="Folders whose JSON, YAML and TOML files are checked."
    )

    class Meta:
        model = Policy
        fields = (
            "max_parallel",
            "parallel",
            "keep_days",
            "keep_runs",
            "keep_output_mb",
            *WATCHED,
            "updated_at",
            "updated_by",
        )
        extra_kwargs: ClassVar = {
            "max_parallel": {"help_text": "Runs at once; null: the installation's default."},
            "keep_days": {"help_text": "Older runs are removed with their output."},
            "keep_runs": {"help_text": "Of each job."},
            "keep_output_mb": {"help_text": "In all; the oldest output goes first."},
            "gpu_service_url": {"help_text": "Empty: the installation's default."},
            "ollama_url": {"help_text": "Empty: the installation's default."},
            "slow_ms": {"help_text": "A service that takes longer is slow."},
            "vram_high_percent": {"help_text": "VRAM is high from this on."},
            "vram_target_percent": {"help_text": "Models are unloaded until no more is used."},
            "disk_low_gb": {"help_text": "Less free disk than this is low."},
            "idle_after_seconds": {"help_text": "So long without a sign of anybody is idle."},
            "foreign_load_percent": {
                "help_text": "So much load that is not ours is a sign of somebody; null: none is."
            },
            "watch_logins": {"help_text": "People at this machine are a sign of somebody."},
            "watch_gpu": {"help_text": "Other programs on the GPU are a sign of somebody."},
            "quiet_hours": {"help_text": "22:00-06:00, or mo-fr 22:00-06:00, …; empty: none."},
            "updated_at": {"help_text": "null: never changed."},
        }


class NeedOfPool(serializers.Serializer[Any]):
    """A job that can't start any more: it needs more of the pool than there is."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    need = serializers.IntegerField(help_text="What it needs of this pool.")


class PoolSerializer(serializers.ModelSerializer[Pool], Strict):
    """Something of which there is only so much. The context holds what is taken: name → weight."""

    serializer_field_mapping = JobSerializer.serializer_field_mapping

    taken = serializers.SerializerMethodField(help_text="What running runs take of it.")

    class Meta:
        model = Pool
        fields = ("name", "size", "description", "taken", "updated_at", "updated_by")
        extra_kwargs: ClassVar = {
            "name": {"help_text": "Unique; a letter, then a-z, 0-9, - and _."},
        }

    def get_taken(self, pool: Pool) -> int:
        return int(self.context["taken"].get(pool.name, 0))


class PoolChange(PoolSerializer):
    """A pool without its name, which stands in the address."""

    class Meta(PoolSerializer.Meta):
        fields = ("size", "description")  # type: ignore[assignment] # fewer


class OnePool(PoolSerializer):
    """A pool, and which jobs are too big for it."""

    impossible_jobs = NeedOfPool(many=True, read_only=True)

    class Meta(PoolSerializer.Meta):
        fields = (*PoolSerializer.Meta.fields, "impossible_jobs")  # type: ignore[assignment] # more


class Pools(serializers.Serializer[Any]):
    """All pools."""

    pools = PoolSerializer(many=True)


class GonePool(serializers.Serializer[Any]):
    """What becomes of a pool that was deleted."""

    name = serializers.CharField()
    impossible_jobs = NeedOfPool(many=True, help_text="Jobs that can't start without it.")


# ── Incidents ────────────────────────────────────────────────────────────────────────────────────
class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """Something that happened to the daemon itself."""

    serializer_field_mapping = RunSerializer.serializer_field_mapping

    message = serializers.CharField(source="__str__", read_only=True, help_text="For people.")
    job_id = serializers.IntegerField(read_only=True, allow_null=True)
    facts = serializers.DictField(read_only=True)

    class Meta:
        model = Incident
        fields = (
            "id",
            "at",
            "level",
            "code",
            "message",
            "facts",
            "job_id",
            "run_id",
            "acknowledged_at",
            "acknowledged_by",
        )
        read_only_fields = fields
        extra_kwargs: ClassVar = {
            "acknowledged_at": {"help_text": "null: nobody has marked it as seen yet."}
        }


class IncidentsQuery(Strict):
    """Which incidents."""

    unseen = FlagWord(required=False, help_text="Only those nobody has marked as seen, or not.")
    limit = Count(min_value=1, max_value=200, required=False, help_text="50 unless given.")
    before = Count(min_value=1, required=False, help_text="Only incidents with a lower id.")


class Incidents(serializers.Serializer[Any]):
    """A page of incidents, newest first."""

    incidents = IncidentSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="Where the next page is; null: none.")


# ── State of the daemon ──────────────────────────────────────────────────────────────────────────
class Stats(serializers.Serializer[Any]):
    """Counts."""

    total_jobs = serializers.IntegerField()
    active_jobs = serializers.IntegerField(help_text="Those that start by themselves.")
    runs_today = serializers.IntegerField(help_text="Since midnight, without skipped and missed.")
    failed_today = serializers.IntegerField(help_text="Of these: failed, timed out or lost.")


class Notice(serializers.Serializer[Any]):
    """What a person should know now."""

    level = serializers.CharField(help_text="error, warn or info.")
    code = serializers.CharField(help_text="For programs; does not change.")
    title = serializers.CharField()
    text = serializers.CharField(help_text="What it means, and what to do about it.")
    since = Instant(allow_null=True)
    job_id = serializers.IntegerField(allow_null=True)
    incident_id = serializers.IntegerField(
        allow_null=True, help_text="What can be marked as seen; null: it goes when it is over."
    )


class Status(serializers.Serializer[Any]):
    """How the daemon is."""

    running = serializers.BooleanField(help_text="Whether the daemon has spoken lately.")
    host = serializers.CharField(allow_null=True)
    since = Instant(allow_null=True, help_text="Since when it runs; null while it does not.")
    hold = serializers.CharField(help_text="Empty: nothing is held. Else how: drain or stop.")
    queue_length = serializers.IntegerField(help_text="Runs that wait for their start.")
    level = serializers.CharField(help_text="Of the worst notice; empty: there is none.")
    idle = serializers.BooleanField(
        allow_null=True, help_text="null: not known, which counts as busy."
    )
    idle_since = Instant(allow_null=True, help_text="Since when it is so.")
    idle_from = Instant(
        allow_null=True, help_text="When it becomes idle if nothing happens; null: unknown."
    )
    idle_reasons = machine.IdleReason(many=True, help_text="Why not, the weightiest first.")
    users = serializers.IntegerField(help_text="How many people are active.")
    presence = machine.Presence()
    health = serializers.DictField(child=machine.Health(), help_text="By check.")
    skills = machine.Skill(many=True)
    health_history = machine.LastHour()
    displacements = machine.YieldTimes()
    stats = Stats()
    notices = Notice(many=True, required=False, help_text="Not without signing in.")
    last_runs = RunSerializer(many=True, required=False, help_text="Not without signing in.")

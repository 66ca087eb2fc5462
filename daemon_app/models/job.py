"""A job: what is to be done, when, and by which rules (semantics 2 to 4)."""

import json
import re
import shlex
import shutil
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache, reduce
from operator import or_
from pathlib import Path
from statistics import median
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import formats, timezone
from django.utils.translation import get_language, gettext_noop
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import doorbell, live, schedules
from daemon_app import formats as spans
from daemon_app.models import policy
from daemon_app.models.change import Change, difference
from daemon_app.models.health import Snapshot, most_of_a_gpu
from daemon_app.models.policy import Policy, Pool, read_times
from daemon_app.schedules import Schedule, ScheduleError, zones

NAME = re.compile(r"[^\W_](?:[\w .:+@()-]*[\w)])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a job may not set: names that are ours.
RESERVED_VARIABLES = re.compile(r"BACH_.*|DJANGO_.*|SECRET_KEY|DATABASE_URL|REDIS_URL")
# A time of day by which something is to be done.
CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
MAX_COMMAND = 16_384
HALF_OR_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")
MAX_EXIT_CODE = 255
DAY = 86_400
LONGEST_PAUSE = timedelta(days=366)
LONGEST_NOTE = 200
PAUSE = ("paused_until", "paused_by", "pause_note")
# Kinds of jobs that an original BACH knows, and that come with later versions.
LATER_KINDS = ("chain", "event")
# When the skills that come with the program run; others have their own rules.
SKILLS_RUN = {
    "validate_configs": _("once a day, when idle"),
    "cleanup_vram": _("when VRAM is nearly full"),
}
# What nobody changes of a skill's job.
OF_THE_SKILL = (
    *("name", "job_type", "schedule", "command", "use_shell", "script_path", "arguments"),
    *("working_directory", "environment", "parameters", "stop_command", "overlap", "skill"),
)
# How long a job usually takes is said by so many of its newest runs.
USUAL_OF = 20
# Of a schedule, so many times are looked at to see whether any of them can be kept.
DUE_LOOKED_AT = 60
LATELY = 200


@lru_cache(maxsize=20_000)
def parsed(kind: str, text: str, tz: str) -> Schedule:
    """Return the schedule these three say, kept: 10,000 jobs are looked at each beat."""
    return schedules.parse(kind, text, tz)


def local_zone() -> str:
    """Return the zone new jobs get: the machine's."""
    return settings.TIME_ZONE


def _size_of_disk() -> float | None:
    """Return how many MB the disk of the exports has; None where nobody can say."""
    newest = Snapshot.objects.of_ticks().order_by("-at").first()
    reading = newest.read().get("disk") if newest else None
    if reading and isinstance(total := reading.facts.get("total_bytes"), int):
        return total / 1_000_000
    folder = Path(settings.EXPORTS_DIR)
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    with suppress(OSError):
        return shutil.disk_usage(there).total / 1_000_000
    return None


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs by what is true of them."""

    def active(self) -> Self:
        """Jobs that start by their schedule."""
        return self.filter(is_active=True)

    def due(self, until: datetime) -> Self:
        """Active jobs with an occurrence at or before `until`, the most overdue first."""
        return self.active().filter(next_due_at__lte=until).order_by("next_due_at", "id")

    def pause_over(self, until: datetime) -> Self:
        """Jobs whose pause ends at or before `until`."""
        return self.filter(is_active=False, paused_until__lte=until).order_by("paused_until", "id")

    def too_big(self, pool: str, size: int) -> list["Job"]:
        """Return the jobs that need more than `size` of a pool, by name."""
        needing = self.filter(pools__has_key=pool).order_by("name")
        return [job for job in needing if job.pools[pool] > size]

    def usual_durations(self) -> dict[int, timedelta]:
        """Return `Job.median_duration` of each of these jobs that has one, in two queries.

        Ask for the jobs that are shown, some hundreds at most.
        """
        from daemon_app.models.run import Run  # noqa: PLC0415 - the two know each other

        newest = Run.objects.filter(job=OuterRef("pk")).order_by("-id").values("id")
        floors = self.values_list("pk", Subquery(newest[LATELY - 1 : LATELY]))
        wanted = [Q(job=pk, pk__gte=floor or 0) for pk, floor in floors]
        if not wanted:
            return {}
        ended = Run.objects.filter(reduce(or_, wanted)).order_by("-id")
        taken: dict[int, list[float]] = {}
        for pk, state, began, end in ended.values_list("job", "state", "started_at", "ended_at"):
            if state == Run.State.SUCCEEDED and began and end:
                taken.setdefault(pk, []).append((end - began).total_seconds())
        return {pk: timedelta(seconds=median(spent[:USUAL_OF])) for pk, spent in taken.items()}


# What is written down of the job of a skill that is not there.
SKILL_GONE = gettext_noop("The skill “%(name)s” is not installed any more, or can't be loaded.")


class Job(models.Model):
    """A command with its schedule and rules."""

    class Kind(models.TextChoices):
        """When a job runs; chains and events come with their own pages."""

        INTERVAL = "interval", _("Every …")
        CRON = "cron", _("Schedule")
        ONCE = "once", _("Once")
        MANUAL = "manual", _("By hand")

    class Overlap(models.TextChoices):
        """What happens when a start meets an active run of the same job."""

        SKIP = "skip", _("skip")
        QUEUE = "queue", _("wait in line")
        REPLACE = "replace", _("replace the running one")
        PARALLEL = "parallel", _("run at the same time")

    class Misfire(models.TextChoices):
        """What happens with occurrences missed while nothing could start them."""

        ONCE = "once", _("catch up once")
        SKIP = "skip", _("do not catch up")
        ALL = "all", _("catch up all")

    class Loss(models.TextChoices):
        """What happens when a run is lost."""

        REPORT = "report", _("report")
        REPEAT = "repeat", _("repeat once")

    class Presence(models.TextChoices):
        """What becomes of a run when a person comes back."""

        CONTINUE = "continue", _("goes on")
        DISPLACE = "displace", _("makes way and goes back in line")
        CANCEL = "cancel", _("is ended")

    class GateAction(models.TextChoices):
        """What becomes of a run whose conditions are not met in time."""

        SKIP = "skip", _("skip it")
        RUN = "run", _("start it anyway")

    class LimitAction(models.TextChoices):
        """What happens when a run goes beyond its limits of CPU time or memory."""

        WARN = "warn", _("warn")
        STOP = "stop", _("stop the run")

    name = models.CharField(_("name"), max_length=80, unique=True)
    description = models.CharField(_("description"), max_length=500, blank=True)

    job_type = models.CharField(
        _("kind of schedule"), max_length=10, choices=Kind.choices, default=Kind.CRON
    )
    schedule = models.CharField(_("schedule"), max_length=256, blank=True)
    timezone = models.CharField(_("time zone"), max_length=64, default=local_zone, blank=True)
    anchor = models.DateTimeField(editable=False)
    next_due_at = models.DateTimeField(_("next run"), null=True, editable=False)
    schedule_error = models.CharField(max_length=500, blank=True, editable=False)
    is_active = models.BooleanField(_("active"), default=True)
    # While it is switched off: when it is switched on again by itself.
    paused_until = models.DateTimeField(_("paused until"), null=True, blank=True, editable=False)
    paused_by = models.CharField(max_length=150, blank=True, editable=False)
    pause_note = models.CharField(max_length=200, blank=True, editable=False)
    # Its failures are told no more until then, or until a run newer than the one seen fails.
    muted_until = models.DateTimeField(null=True, blank=True, editable=False)
    muted_by = models.CharField(max_length=150, blank=True, editable=False)
    seen_failure = models.BigIntegerField(null=True, blank=True, editable=False)

    command = models.TextField(_("command"), blank=True)
    use_shell = models.BooleanField(_("run by the shell"), default=True)
    script_path = models.CharField(_("script"), max_length=1024, blank=True)
    arguments = models.CharField(_("arguments"), max_length=4096, blank=True)
    working_directory = models.CharField(_("working folder"), max_length=1024, blank=True)
    environment = models.JSONField(_("environment"), default=dict, blank=True)
    parameters = models.JSONField(_("parameters"), default=dict, blank=True)
    nice = models.SmallIntegerField(
        _("niceness"), default=0, validators=[MinValueValidator(0), MaxValueValidator(19)]
    )
    idle_io = models.BooleanField(_("disk access only when nobody else wants it"), default=False)

    timeout_seconds = models.PositiveIntegerField(
        _("time limit"), default=300, validators=[MaxValueValidator(30 * DAY)]
    )
    soft_timeout_seconds = models.PositiveIntegerField(
        _("warn after"), null=True, blank=True, validators=[MaxValueValidator(30 * DAY)]
    )
    grace_seconds = models.PositiveIntegerField(
        _("grace"), default=10, validators=[MaxValueValidator(3600)]
    )
    stop_command = models.CharField(
        _("stop command"),
        max_length=4096,
        blank=True,
        help_text=_("Tried first when the run is to end; then SIGTERM, then SIGKILL."),
    )
    leave_descendants = models.BooleanField(_("let background processes live on"), default=False)

    overlap = models.CharField(
        _("on overlap"), max_length=10, choices=Overlap.choices, default=Overlap.SKIP
    )
    max_instances = models.PositiveIntegerField(
        _("at most at once"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
    )
    misfire = models.CharField(
        _("when missed"), max_length=10, choices=Misfire.choices, default=Misfire.ONCE
    )
    misfire_age_seconds = models.PositiveIntegerField(
        _("catch up at most this late"), default=DAY, validators=[MaxValueValidator(366 * DAY)]
    )
    deadline = models.DateTimeField(_("no start after"), null=True, blank=True)
    max_wait_seconds = models.PositiveIntegerField(
        _("wait in line at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(366 * DAY)],
    )
    max_retries = models.PositiveSmallIntegerField(
        _("retries"), default=0, validators=[MaxValueValidator(100)]
    )
    retry_backoff_seconds = models.PositiveIntegerField(
        _("first pause before a retry"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
    )
    retry_exit_codes = models.JSONField(_("retry only for exit codes"), default=list, blank=True)
    retry_on_timeout = models.BooleanField(_("retry after the time limit too"), default=False)
    on_loss = models.CharField(
        _("when lost"), max_length=10, choices=Loss.choices, default=Loss.REPORT
    )
    pools = models.JSONField(_("pools"), default=dict, blank=True)
    priority = models.SmallIntegerField(
        _("priority"), default=0, validators=[MinValueValidator(-100), MaxValueValidator(100)]
    )

    # ── Conditions for a start (semantics 6) ─────────────────────────────────────────────────────
    only_when_idle = models.BooleanField(_("only when idle"), default=False)
    on_presence = models.CharField(
        _("when somebody comes back"),
        max_length=10,
        choices=Presence.choices,
        default=Presence.CONTINUE,
        help_text=_(
            "A job that makes way without being for idle times starts at any time, and makes way "
            "to people all the same."
        ),
    )
    ask_signal = models.CharField(
        _("asked to make way by"),
        max_length=10,
        choices=[(name, f"SIG{name}") for name in ("TERM", "INT", "HUP", "USR1", "USR2")],
        default="TERM",
    )
    min_vram_mb = models.PositiveIntegerField(
        _("free VRAM at least"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
    )
    needs_services = models.JSONField(_("services that must answer"), default=list, blank=True)
    min_disk_mb = models.PositiveIntegerField(
        _("free disk at least"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000_000)],
    )
    max_load_percent = models.PositiveIntegerField(
        _("load of the machine at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
    )
    window = models.CharField(_("only at these times"), max_length=200, blank=True)
    in_quiet_hours = models.BooleanField(_("in quiet hours too"), default=False)
    finish_by = models.CharField(_("done by"), max_length=5, blank=True)
    gate_action = models.CharField(
        _("when the conditions are not met in time"),
        max_length=10,
        choices=GateAction.choices,
        default=GateAction.SKIP,
    )
    # Where it came from when it moved in (`intake`): the same each time it is read.
    origin = models.CharField(max_length=60, blank=True, editable=False, db_index=True)
    # The skill this job runs instead of a command; such jobs come with the program.
    skill = models.CharField(max_length=40, blank=True, editable=False, db_index=True)

    cpu_limit_seconds = models.PositiveIntegerField(
        _("CPU time at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(30 * DAY)],
    )
    memory_limit_mb = models.PositiveIntegerField(
        _("memory at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
    )
    limit_sustain_seconds = models.PositiveIntegerField(
        _("for longer than"), default=10, validators=[MaxValueValidator(3600)]
    )
    limit_action = models.CharField(
        _("beyond a limit"), max_length=10, choices=LimitAction.choices, default=LimitAction.STOP
    )

    keep_days = models.PositiveIntegerField(
        _("keep runs for"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36_500)],
    )
    keep_runs = models.PositiveIntegerField(
        _("keep at most"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
    )
    keep_output_mb = models.PositiveIntegerField(
        _("keep output up to"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(10_000_000)],
    )

    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(_("created"), editable=False)
    updated_at = models.DateTimeField(_("changed"), editable=False)
    updated_by = models.CharField(max_length=150, blank=True, editable=False)

    objects = JobQuerySet.as_manager()

    # The fields that say when; a change of one starts the schedule anew.
    WHEN = ("job_type", "schedule", "timezone")

    class Meta:
        db_table = "daemon_jobs"
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["name"]
        indexes = [
            # Whether a job can't work is asked by every page: without reading all jobs.
            models.Index(fields=["schedule_error", "is_active", "pools"], name="daemon_jobs_wants"),
            # So is whether any heeds idleness.
            models.Index(
                fields=["is_active", "only_when_idle", "on_presence"], name="daemon_jobs_heeding"
            ),
            models.Index(
                fields=["next_due_at"], name="daemon_jobs_due", condition=Q(is_active=True)
            ),
            models.Index(
                fields=["paused_until"],
                name="daemon_jobs_paused",
                condition=Q(is_active=False, paused_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    # ── Rules shared by form, API, admin and command line ────────────────────────────────────────
    def clean_fields(self, exclude: Collection[str] | None = None) -> None:
        """Check each field by itself; a kind that comes later is refused as that."""
        try:
            super().clean_fields(exclude)
        except ValidationError as error:
            if "job_type" in error.error_dict and self.job_type in LATER_KINDS:
                message = _t(
                    "This version has no jobs of the kind “%(kind)s” yet. Give one of: %(words)s."
                )
                facts = {"kind": self.job_type, "words": ", ".join(self.Kind.values)}
                error.error_dict["job_type"] = [ValidationError(message % facts)]
            raise

    def clean(self) -> None:
        """Refuse what can't be right; each message names the way out.

        Raises ValidationError with messages by field.
        """
        errors: dict[str, list[str]] = {}
        for field, check in (
            ("name", self._check_name),
            ("schedule", self._check_schedule),
            ("command", self._check_command),
            ("working_directory", self._check_working_directory),
            ("environment", lambda: _check_variables(self.environment)),
            ("parameters", lambda: _check_variables(self.parameters, reserved=None)),
            ("soft_timeout_seconds", self._check_soft_timeout),
            ("max_instances", self._check_instances),
            ("overlap", self._check_overlap),
            ("retry_exit_codes", self._check_exit_codes),
            ("pools", self._check_pools),
            ("deadline", self._check_deadline),
            ("min_vram_mb", self._check_vram),
            ("min_disk_mb", self._check_disk),
            ("needs_services", self._check_services),
            ("window", self._check_window),
            ("finish_by", self._check_finish_by),
            ("finish_by", self._check_times_meet),
            ("gate_action", self._check_gate_action),
        ):
            try:
                check()
            except ValidationError as error:
                if hasattr(error, "error_dict"):
                    for name, messages in error.message_dict.items():
                        errors.setdefault(name, []).extend(messages)
                else:
                    errors.setdefault(field, []).extend(error.messages)
        if errors:
            raise ValidationError(errors)

    def _check_name(self) -> None:
        given = str(self.name)
        self.name = " ".join(given.split())
        if given and not NAME.fullmatch(self.name):
            raise ValidationError(
                _t(
                    "A name begins with a letter or digit and holds letters, digits, blanks and "
                    "- _ . : + @ ( ) only, for example “nightly-backup”."
                )
            )

    def _check_schedule(self) -> None:
        self.timezone = (self.timezone or "").strip() or settings.TIME_ZONE
        if self.job_type not in self.Kind.values:
            return  # the field's own check has said so
        try:
            plan = schedules.parse(self.job_type, self.schedule, self.timezone)
        except ScheduleError as error:
            language = _language()
            message = " ".join(filter(None, [error.message(language), error.hint(language)]))
            field = "timezone" if error.field == "timezone" else "schedule"
            raise ValidationError({field: [message]}) from error
        self.schedule = plan.text

    def _check_command(self) -> None:
        for field in ("command", "script_path", "arguments", "working_directory"):
            if "\0" in getattr(self, field):
                raise ValidationError({field: [_t("A NUL character can't be part of this.")]})
        self.command = self.command.replace("\r\n", "\n").strip()
        self.script_path = self.script_path.strip()
        if self.skill:
            self._check_skill()
            return
        if not self.command and not self.script_path:
            raise ValidationError(_t("Say what is to be run, for example: tar -czf … or python …"))
        if self.command and self.script_path:
            raise ValidationError(
                {"script_path": [_t("Give either a command or a script, not both.")]}
            )
        if len(self.command) > MAX_COMMAND:
            raise ValidationError(
                _t("A command has at most %(n)s characters; put it into a script.")
                % {"n": MAX_COMMAND}
            )
        for field in ("arguments",) if self.use_shell else ("command", "arguments"):
            if len(getattr(self, field)) > MAX_COMMAND:
                continue  # too long for the field, which is said already; it would take seconds
            try:
                shlex.split(getattr(self, field))
            except ValueError as error:
                raise ValidationError(
                    {field: [_t("A quotation mark is opened and not closed.")]}
                ) from error

    def _check_skill(self) -> None:
        """Refuse a change of what is the skill's: what it is called, what it runs, and when."""
        stored = Job.objects.filter(pk=self.pk).values(*OF_THE_SKILL).first()
        if changed := [
            name for name in OF_THE_SKILL if stored and stored[name] != getattr(self, name)
        ]:
            said = _t("This job belongs to the skill “%(skill)s”, which decides on this.")
            raise ValidationError({name: said % {"skill": self.skill} for name in changed})

    def _check_working_directory(self) -> None:
        folder = self.working_directory.strip()
        self.working_directory = folder
        if folder and not folder.startswith(("/", "~")):
            raise ValidationError(
                _t("Give the whole path, beginning with / or ~ (here: “%(path)s”).")
                % {"path": folder}
            )

    def _check_soft_timeout(self) -> None:
        soft = self.soft_timeout_seconds
        if soft and self.timeout_seconds and soft >= self.timeout_seconds:
            raise ValidationError(
                _t("The warning must come before the time limit of %(span)s.")
                % {"span": spans.duration(self.timeout_seconds, _language())}
            )

    def _check_instances(self) -> None:
        if self.overlap != self.Overlap.PARALLEL:
            self.max_instances = 1

    def _check_overlap(self) -> None:
        if self.overlap != self.Overlap.REPLACE:
            return
        if self.max_retries:
            raise ValidationError(
                _t(
                    "“Replace the running one” and retries contradict each other: a waiting retry "
                    "would be replaced by the next start. Choose “wait in line”, or no retries."
                )
            )
        if self.misfire == self.Misfire.ALL:
            raise ValidationError(
                _t(
                    "“Replace the running one” and “catch up all” contradict each other: each run "
                    "caught up would end the one before. Choose “wait in line”, or “catch up once”."
                )
            )

    def _check_exit_codes(self) -> None:
        codes = self.retry_exit_codes
        if not isinstance(codes, list) or not all(
            isinstance(code, int) and not isinstance(code, bool) and 1 <= code <= MAX_EXIT_CODE
            for code in codes
        ):
            raise ValidationError(_t("Exit codes are numbers from 1 to 255, for example: 1, 75."))
        self.retry_exit_codes = sorted(set(codes))
        if codes and not self.max_retries:
            raise ValidationError(
                _t("Exit codes say when to retry, but there are no retries. Allow at least one.")
            )

    def _check_pools(self) -> None:
        if not isinstance(self.pools, dict):
            raise ValidationError(_t("Give one pool per line, for example: gpu=1"))
        sizes = Pool.sizes() if self.pools else {}
        wrong = []
        for name, weight in self.pools.items():
            told = {"weight": weight, "pool": name, "size": sizes.get(name)}
            if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
                wrong.append(_t("The weight in pool “%(pool)s” is a number from 1.") % told)
            elif name not in sizes:
                told["known"] = ", ".join(sorted(sizes)) or _t("none yet")
                wrong.append(_t("There is no pool “%(pool)s”. Known pools: %(known)s.") % told)
            elif weight > sizes[name]:
                said = _t(
                    "This could never start: it needs %(weight)s of pool “%(pool)s”, which has "
                    "only %(size)s."
                )
                wrong.append(said % told)
        if wrong:
            raise ValidationError(wrong)

    def _check_deadline(self) -> None:
        """Refuse a deadline before the first start; `store` checks again with its own `now`."""
        if self.deadline is None:
            return
        if self.job_type == self.Kind.MANUAL:
            raise ValidationError(
                _t("A deadline is for starts by a schedule; this job is started by hand alone.")
            )
        now = timezone.now()
        try:
            first = self.plan.next_due(now, anchor=self.__dict__.get("anchor") or now)
        except ScheduleError:
            return  # said at the schedule
        unchanged = self.pk and Job.objects.filter(pk=self.pk, deadline=self.deadline).exists()
        if first is not None and first > self.deadline and not unchanged:
            raise ValidationError(
                _t(
                    "The deadline lies before the first start (%(first)s); this job would never "
                    "run. Choose a later one."
                )
                % {"first": formats.localize(first.astimezone(self.plan.zone))}
            )

    def _check_vram(self) -> None:
        """Refuse more VRAM than the largest GPU has, as far as that has ever been measured."""
        if not self.min_vram_mb:
            return
        newest = Snapshot.objects.of_ticks().order_by("-at").first()
        reading = newest.read().get("vram") if newest else None
        total = most_of_a_gpu(reading.facts, "total_mb") if reading else None
        if total and self.min_vram_mb > total:
            raise ValidationError(
                _t(
                    "This could never start: it needs %(need)s MB of VRAM, and the GPU has only "
                    "%(total)s MB. Give at most that."
                )
                % {"need": self.min_vram_mb, "total": round(total)}
            )

    def _check_disk(self) -> None:
        """Refuse more room than the disk of the exports has, empty."""
        total = _size_of_disk() if self.min_disk_mb else None
        if self.min_disk_mb and total and self.min_disk_mb > total:
            raise ValidationError(
                _t(
                    "This could never start: it needs %(need)s MB of disk, and the disk has only "
                    "%(total)s MB. Give at most that."
                )
                % {"need": self.min_disk_mb, "total": round(total)}
            )

    def _check_services(self) -> None:
        services = self.needs_services
        known = ", ".join(policy.SERVICES)
        if not isinstance(services, list):
            raise ValidationError(
                _t("Give a list of services. Known: %(known)s.") % {"known": known}
            )
        for service in services:
            if service not in policy.SERVICES:
                raise ValidationError(
                    _t("There is no service “%(service)s”. Known: %(known)s.")
                    % {"service": str(service)[:40], "known": known}
                )
        self.needs_services = [each for each in policy.SERVICES if each in services]

    def _check_window(self) -> None:
        """Refuse times that can't be read, and those at which nothing is allowed to start."""
        self.window = (self.window or "").strip()
        if not self.window:
            return
        try:
            times = read_times(self.window, self.timezone)
        except ScheduleError:
            return  # said at the time zone
        self.window = times.text
        hours = Policy.current().quiet_hours
        if not hours or self.in_quiet_hours or self.is_by_hand_alone:
            return
        try:
            quiet = read_times(hours, settings.TIME_ZONE)
        except (ValidationError, ScheduleError):
            return  # they keep nobody quiet
        if not times.opens_outside(quiet, timezone.now()):
            raise ValidationError(
                _t(
                    "These times lie wholly in the quiet hours (%(hours)s), so the job would never "
                    "start. Choose other times, or let it run in quiet hours too."
                )
                % {"hours": quiet.describe(_language())}
            )

    def _check_finish_by(self) -> None:
        text = (self.finish_by or "").strip()
        match = CLOCK.fullmatch(text)
        if text and match is None:
            raise ValidationError(
                _t("Give a time of day from 00:00 to 23:59, for example 06:00 (here: “%(text)s”).")
                % {"text": text}
            )
        self.finish_by = f"{int(match[1]):02}:{match[2]}" if match else ""

    def _check_times_meet(self) -> None:
        """Refuse times at which no start would be done in time, whenever it is due."""
        if not self.window or not CLOCK.fullmatch(self.finish_by):
            return
        if self.gate_action == self.GateAction.RUN or self.job_type == self.Kind.MANUAL:
            return
        now = timezone.now()
        hour, minute = map(int, self.finish_by.split(":"))
        try:
            times, zone = read_times(self.window, self.timezone), self.plan.zone
            anchor = self.__dict__.get("anchor") or now
            due = first = self.plan.next_due(now, anchor=anchor)
            for _again in range(DUE_LOOKED_AT):
                if due is None:
                    break
                end = zones.next_time(hour, minute, due, zone)
                if times.next_open(due) < end:
                    return
                # What is due before that end is too late as well.
                due = self.plan.next_due(end - timedelta.resolution, previous=due, anchor=anchor)
        except (ValidationError, ScheduleError):
            return  # said at the times, the schedule or the zone
        if first is None:
            return
        about = {"due": f"{first.astimezone(zone):%H:%M}", "end": self.finish_by}
        opens = times.next_open(first).astimezone(zone)
        raise ValidationError(
            _t(
                "This could never start: due %(due)s, it is to be done by %(end)s, and may not "
                "start before %(opens)s. Change one of these times."
            )
            % (about | {"opens": f"{opens:%H:%M}"})
        )

    def _check_gate_action(self) -> None:
        if self.gate_action == self.GateAction.RUN and not (
            self.max_wait_seconds or self.finish_by
        ):
            raise ValidationError(
                _t(
                    "“Start it anyway” needs to know when: say how long it waits in line at most, "
                    "or by what time it is to be done. Or choose “skip it”."
                )
            )

    # ── The schedule ─────────────────────────────────────────────────────────────────────────────
    @property
    def plan(self) -> Schedule:
        """The schedule as a value. Raises ScheduleError when the stored text is no longer one."""
        return parsed(self.job_type, self.schedule, self.timezone)

    def describe(self) -> str:
        """Return the schedule as a sentence in the current language, for example “täglich …”."""
        if self.skill:
            return str(SKILLS_RUN.get(self.skill, _("when the skill is due")))
        try:
            return self.plan.describe(_language())
        except ScheduleError as error:
            return error.message(_language())

    @property
    def schedule_fault(self) -> str:
        """Why the stored schedule can't be read, in the current language; "" when it can.

        What was written down when it was found is English; it is told where nothing newer is known.
        """
        if not self.schedule_error:
            return ""
        if self.skill:
            gone = {"name": self.skill}
            if self.schedule_error == SKILL_GONE % gone:
                return _t(SKILL_GONE) % gone
            return self.schedule_error
        try:
            self.next_after(timezone.now())
        except ScheduleError as error:
            return fault_of(error)
        return self.schedule_error

    def upcoming(self, now: datetime, n: int = 5) -> list[datetime]:
        """Return the next `n` due instants (UTC) an active job would have; fewer when it ends."""
        try:
            return list(self.plan.upcoming(now, n, anchor=self.anchor))
        except ScheduleError:
            return []

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first due instant strictly after `instant`; None when the job starts no more.

        Raises ScheduleError when the stored schedule is broken.
        """
        return self._within(
            self.plan.next_due(instant, previous=self.next_due_at, anchor=self.anchor)
        )

    def first_after(self, instant: datetime) -> datetime | None:
        """Return what `next_after` would, had this job never run; for a clock that was wrong."""
        return self._within(self.plan.next_due(instant, anchor=min(self.anchor, instant)))

    def _within(self, due: datetime | None) -> datetime | None:
        """Return `due`, or None when it lies beyond the deadline."""
        return None if due and self.deadline and due > self.deadline else due

    def median_duration(self) -> timedelta | None:
        """Return how long the last 20 runs that succeeded took; None when none did lately.

        Only the newest 200 runs are looked at: a job that never succeeds costs no more than others.
        """
        return Job.objects.filter(pk=self.pk).usual_durations().get(self.pk)

    # ── Every legal change ───────────────────────────────────────────────────────────────────────
    def store(self, *, now: datetime, by: str) -> Self:
        """Write a new or edited job; it takes effect at once.

        Checks everything first (raises ValidationError). A changed schedule, a re-enabled job
        and a new one owe nothing: they are due from `now` on.
        """
        self.full_clean(exclude=["anchor", "created_at", "updated_at"])
        with transaction.atomic():
            before = Job.objects.select_for_update().filter(pk=self.pk).first() if self.pk else None
            self.updated_at, self.updated_by = now, by
            if before is None:
                self.created_at = self.anchor = now
                self._start_schedule(now)
            else:
                self.version = before.version + 1
                if self.max_instances != before.max_instances:
                    policy.ring()  # what waits for the end of another may start
                self.next_due_at = before.next_due_at
                withdrawn = self._withdraw(now)
                if any(getattr(before, f) != getattr(self, f) for f in self.WHEN):
                    before.settle(now, "rescheduled")
                    self.anchor = now
                    self._start_schedule(now)
                elif self.is_active and (before.schedule_error or not before.is_active):
                    self._start_schedule(now)
                elif withdrawn:
                    self.next_due_at = self._within(withdrawn[0])
                elif before.deadline != self.deadline and self.is_active:
                    self.next_due_at = self.next_after(now)
            if not self.is_active:
                if before is not None:
                    before.settle(now, "switched_off")
                self.next_due_at = None
            else:
                self.paused_until, self.paused_by, self.pause_note = None, "", ""
            self.schedule_error = ""
            self.save()
            self._record(before, now=now, by=by)
            self.ring()
        return self

    def examine(self, *, now: datetime) -> None:
        """Refuse what `store` would refuse (ValidationError); nothing is written."""
        self.full_clean(exclude=["anchor", "created_at", "updated_at"])
        before = Job.objects.filter(pk=self.pk).first() if self.pk else None
        if before is None or any(getattr(before, f) != getattr(self, f) for f in self.WHEN):
            self.anchor = now
        elif not self.is_active or (before.is_active and not before.schedule_error):
            return
        self._start_schedule(now)

    def _record(self, before: "Job | None", *, now: datetime, by: str) -> None:
        """Write down what the storing has changed; nothing where nothing has."""
        if before is None:
            Change.record(self, Change.Kind.CREATED, now=now, by=by)
            return
        changes = difference(before, self)
        if before.is_active != self.is_active:
            changes["is_active"] = [before.is_active, self.is_active]
        if changes:
            Change.record(self, Change.Kind.EDITED, changes, now=now, by=by)

    def _start_schedule(self, now: datetime) -> None:
        """Let the schedule begin at `now`: nothing is owed, a pause is over."""
        self.next_due_at = None
        self.next_due_at = self.next_after(now)
        if self.next_due_at is None and self.job_type == self.Kind.ONCE:
            raise ValidationError(
                {"schedule": [_t("This time has passed; choose one that is still to come.")]}
            )

    def set_active(self, active: bool, *, now: datetime, by: str) -> bool:
        """Switch the schedule on, or off until further notice; return False when it was so before.

        Switched on again it owes nothing of the time it was off.
        """
        if not active and self._end_of_pause_is_dropped(now=now, by=by):
            return True
        return self._switch(active, now=now, by=by, owes_from=now)

    def _end_of_pause_is_dropped(self, *, now: datetime, by: str) -> bool:
        with transaction.atomic():
            paused = Job.objects.filter(pk=self.pk, is_active=False, paused_until__isnull=False)
            dropped = paused.update(
                paused_until=None,
                paused_by="",
                pause_note="",
                updated_at=now,
                updated_by=by,
                version=F("version") + 1,
            )
            if dropped:
                self.refresh_from_db()
                Change.record(self, Change.Kind.SWITCHED_OFF, now=now, by=by)
                self.ring()
        return bool(dropped)

    def pause(self, until: datetime, *, now: datetime, by: str, note: str = "") -> None:
        """Switch the schedule off until `until`, when it goes on by itself.

        One that is switched off already gets this end. Raises ValidationError for an end that has
        passed, or is more than a year away.
        """
        if not now < until <= now + LONGEST_PAUSE:
            raise ValidationError(
                _t("A pause ends in the future, within a year. For longer, switch the job off.")
            )
        note = " ".join(note.replace("\0", "").split())[:LONGEST_NOTE]
        with transaction.atomic():
            moved = self._switch(False, now=now, by=by, owes_from=now, is_told=False)
            Job.objects.filter(pk=self.pk).update(
                paused_until=until,
                paused_by=by,
                pause_note=note,
                updated_at=now,
                updated_by=by,
                version=F("version") + (0 if moved else 1),
            )
            self.refresh_from_db()
            told = {"until": until.isoformat(), "note": note}
            Change.record(self, Change.Kind.PAUSED, told, now=now, by=by)
            self.ring()

    def resume(self, *, now: datetime) -> bool:
        """Switch on a job whose pause is over; False when somebody has decided otherwise.

        What is due from the end of the pause on is owed; nothing of the pause itself.
        """
        with transaction.atomic():
            job = Job.objects.select_for_update().filter(pk=self.pk, is_active=False).first()
            if job is None or job.paused_until is None or job.paused_until != self.paused_until:
                return False
            # An occurrence at the very end of the pause is not part of it.
            owes_from = job.paused_until - timedelta(microseconds=1)
            return self._switch(True, now=now, by="", owes_from=owes_from)

    def _switch(
        self, active: bool, *, now: datetime, by: str, owes_from: datetime, is_told: bool = True
    ) -> bool:
        with transaction.atomic():
            before = Job.objects.select_for_update().filter(pk=self.pk, is_active=True).first()
            if before is not None and not active:
                before.settle(now, "switched_off")
            moved = Job.objects.filter(pk=self.pk, is_active=not active).update(
                is_active=active, updated_at=now, updated_by=by, version=F("version") + 1
            )
            if moved:
                self.refresh_from_db()
                was_paused = self.paused_until is not None
                self.paused_until, self.paused_by, self.pause_note = None, "", ""
                self.next_due_at = self.next_after(owes_from) if active else None
                if active:
                    self.schedule_error = ""
                self.save(update_fields=[*PAUSE, "next_due_at", "schedule_error"])
                if not active:
                    self._withdraw(now)
                if is_told:
                    ended = was_paused and not by
                    on = Change.Kind.RESUMED if ended else Change.Kind.SWITCHED_ON
                    kind = on if active else Change.Kind.SWITCHED_OFF
                    Change.record(self, kind, now=now, by=by)
                self.ring()
        return bool(moved)

    def mute(self, until: datetime | None, *, by: str) -> None:
        """Tell of its failures no more until `until`; None tells of them again."""
        with transaction.atomic():
            Job.objects.filter(pk=self.pk).update(
                muted_until=until, muted_by=by if until else "", seen_failure=None
            )
            self.refresh_from_db(fields=["muted_until", "muted_by", "seen_failure"])
            live.changed("jobs", f"job:{self.pk}")
            if until:
                Change.record(self, Change.Kind.MUTED, by=by, until=until.isoformat())
            else:
                Change.record(self, Change.Kind.UNMUTED, by=by)

    def see_failure(self, run_id: int | None) -> None:
        """Tell of its failures no more up to that of run `run_id`; None tells of them again."""
        with transaction.atomic():
            Job.objects.filter(pk=self.pk).update(seen_failure=run_id)
            self.seen_failure = run_id
            live.changed("jobs", f"job:{self.pk}")
            if run_id:
                Change.record(self, Change.Kind.MUTED, run=run_id)
            else:
                Change.record(self, Change.Kind.UNMUTED)

    def settle(self, now: datetime, code: str) -> None:
        """Record what was due by `now` and not looked at yet as missed, before the schedule ends.

        The daemon may have been away; what was due then is not forgotten with the schedule.
        """
        from daemon_app.models.run import MISSED_ROWS, Run  # noqa: PLC0415 - the two know each other

        with suppress(ScheduleError):
            Run.objects.record_missed(self, now, code, most=MISSED_ROWS)

    def remove(self, *, now: datetime, by: str) -> int:
        """Delete the job and its runs' rows; return how many runs went with it.

        The caller has ended the active ones; the folders of output go with the next tidying. Raises
        ValidationError for the job of a skill that is installed: it would come again.
        """
        from daemon_app.models.run import Run  # noqa: PLC0415 - the two know each other

        if self.skill and not self.schedule_error:
            raise ValidationError(
                _t("The job of a skill can't be deleted. Switch it off, and it does not run.")
            )
        with transaction.atomic():
            runs = Run.objects.filter(job=self).count()
            self.ring()
            gone = Job(pk=self.pk, name=self.name, version=self.version)
            self.delete()
            Change.record(gone, Change.Kind.DELETED, now=now, by=by)
        return runs

    def _withdraw(self, now: datetime) -> list[datetime]:
        """Take back occurrences prepared shortly before their time; return their instants."""
        from daemon_app.models.run import Run  # noqa: PLC0415 - the two know each other

        prepared = Run.objects.filter(
            job=self, state=Run.State.QUEUED, trigger=Run.Trigger.SCHEDULE, due_at__gt=now
        )
        instants = [run.due_at for run in prepared.order_by("due_at").select_for_update()]
        if instants:
            prepared.delete()
        return instants

    def ring(self) -> None:
        """Tell the beat and the open pages, after the commit."""
        live.changed("jobs", f"job:{self.pk}")
        transaction.on_commit(
            lambda: doorbell.ring(doorbell.runtime_dir(settings.DATA_DIR), "beat"), robust=True
        )

    @property
    def is_by_hand_alone(self) -> bool:
        """Whether only people start it: they are there, so that quiet hours do not concern it."""
        return self.job_type == self.Kind.MANUAL and not self.skill

    # ── What is run ──────────────────────────────────────────────────────────────────────────────
    def definition(self) -> dict[str, Any]:
        """Return the snapshot a run keeps: what was to be executed, whatever the job becomes."""
        return {
            "version": self.version,
            "command": self.command,
            "use_shell": self.use_shell,
            "script_path": self.script_path,
            "arguments": self.arguments,
            "working_directory": self.working_directory,
            "environment": self.environment,
            "parameters": self.parameters,
            "nice": self.nice,
            "idle_io": self.idle_io,
            "timeout_seconds": self.timeout_seconds,
            "soft_timeout_seconds": self.soft_timeout_seconds,
            "grace_seconds": self.grace_seconds,
            "stop_command": self.stop_command,
            "max_wait_seconds": self.max_wait_seconds,
            "cpu_limit_seconds": self.cpu_limit_seconds,
            "memory_limit_mb": self.memory_limit_mb,
            "limit_sustain_seconds": self.limit_sustain_seconds,
            "limit_action": self.limit_action,
            "max_retries": self.max_retries,
            "retry_backoff_seconds": self.retry_backoff_seconds,
            "retry_exit_codes": self.retry_exit_codes,
            "retry_on_timeout": self.retry_on_timeout,
            "on_loss": self.on_loss,
            "leave_descendants": self.leave_descendants,
            "timezone": self.timezone,
            "on_presence": self.on_presence,
            "ask_signal": self.ask_signal,
            "skill": self.skill,
        }

    def needs(self) -> dict[str, Any]:
        """Return what has to be true before a run of this job starts: only what is asked for.

        Keys: idle, vram_mb, services, disk_mb, load_percent, window, in_quiet_hours, finish_by,
        action (what happens when `finish_by` or the longest wait is near), zone.
        """
        asked: dict[str, Any] = {
            "idle": self.only_when_idle,
            "vram_mb": self.min_vram_mb,
            "services": self.needs_services,
            "disk_mb": self.min_disk_mb,
            "load_percent": self.max_load_percent,
            "window": self.window,
            "in_quiet_hours": self.in_quiet_hours,
            "finish_by": self.finish_by,
        }
        asked = {name: value for name, value in asked.items() if value}
        if self.gate_action != self.GateAction.SKIP:
            asked["action"] = self.gate_action
        return asked | {"zone": self.timezone} if asked else {}


def _check_variables(value: object, reserved: re.Pattern[str] | None = RESERVED_VARIABLES) -> None:
    """Refuse names and values that can't be environment variables of a command."""
    if not isinstance(value, dict):
        raise ValidationError(_t("Give one NAME=value per line."))
    if len(value) > 100 or len(json.dumps(value)) > 32_768:
        raise ValidationError(_t("At most 100 entries of 32 KiB in all."))
    for name, content in value.items():
        if not isinstance(name, str) or not VARIABLE.fullmatch(name):
            raise ValidationError(
                _t("“%(name)s” is no name: letters, digits and _ only, not beginning with a digit.")
                % {"name": name}
            )
        if reserved and reserved.fullmatch(name):
            raise ValidationError(
                _t("“%(name)s” belongs to the daemon itself; choose another name.") % {"name": name}
            )
        # Half a character (a byte that is no UTF-8, typed in a terminal) nobody could read out.
        if not isinstance(content, str) or HALF_OR_NO_CHARACTER.search(content):
            raise ValidationError(_t("The value of “%(name)s” must be text.") % {"name": name})
        if len(content.splitlines()) > 1:
            raise ValidationError(_t("The value of “%(name)s” must be one line.") % {"name": name})


def fault_of(error: ScheduleError) -> str:
    """Return what is wrong with a schedule and the way out, in the current language."""
    return f"{error.message(_language())} {error.hint(_language())}"


def _language() -> str:
    return "en" if (get_language() or "de").startswith("en") else "de"

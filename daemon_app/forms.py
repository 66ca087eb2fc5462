"""Forms. The rules stand on the models; here is how people write them down."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import IntegrityError
from django.utils.translation import get_language
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import formats, terms
from daemon_app.models import Job, Policy, Pool, reasons
from daemon_app.models.job import OF_THE_SKILL
from daemon_app.models.policy import SERVICES, WATCHED

UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
DAY = 86_400
YEARS = range(1970, 9999)
SPAN = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)


def spoken_span(seconds: int) -> str:
    """Return seconds as people write them: 300 → "5m", 5400 → "1h30m", 0 → "0"."""
    parts = []
    for unit, length in UNITS.items():
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"


class SpanField(forms.Field):
    """A length of time, written like an interval: "90s", "5m", "1h30m"; cleaned to seconds."""

    def __init__(self, *, highest: int, lowest: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.highest = highest
        self.lowest = lowest

    def prepare_value(self, value: Any) -> Any:
        return spoken_span(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> int | None:
        text = "".join(str(value or "").lower().split())
        if not text:
            return None
        if text == "0":
            seconds = 0
        elif text.isascii() and text.isdigit():
            raise ValidationError(
                _t("“%(value)s” has no unit. Did you mean %(value)ss or %(value)sm?")
                % {"value": text[:20]}
            )
        elif found := SPAN.fullmatch(text):
            counts = [int(count or 0) for count in found.groups()]
            seconds = sum(map(int.__mul__, counts, UNITS.values()))
        else:
            raise ValidationError(
                _t("“%(value)s” is not a length of time. Write for example 90s, 5m or 1h30m.")
                % {"value": text[:40]}
            )
        if seconds > self.highest:
            raise ValidationError(
                _t("That is too long; at most %(limit)s.") % {"limit": spoken_span(self.highest)}
            )
        if seconds < self.lowest:
            raise ValidationError(
                _t("That is too short; at least %(limit)s.") % {"limit": spoken_span(self.lowest)}
            )
        return seconds


SIZES = {"mb": 1, "gb": 1000, "tb": 1_000_000}
AMOUNT = re.compile(r"([0-9]{1,9})(?:[.,]([0-9]{1,2}))?([kmgt]i?b?)?", re.ASCII)


class SizeField(forms.Field):
    """An amount of memory, written "800 MB" or "8 GB"; cleaned to whole megabytes."""

    def __init__(self, *, highest: int, **options: Any) -> None:
        super().__init__(**options)
        self.highest = highest

    def prepare_value(self, value: Any) -> Any:
        return terms.amount(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> int | None:
        text = "".join(str(value or "").lower().split())
        if not text:
            return None
        found = AMOUNT.fullmatch(text)
        unit = (found[3] or "") if found else ""
        unit = unit if unit.endswith("b") else f"{unit}b"
        if found is None or (found[3] and unit not in SIZES):
            raise ValidationError(
                _t("“%(value)s” is no amount. Write for example 800 MB or 8 GB.")
                % {"value": str(value).strip()[:40]}
            )
        if not found[3]:
            raise ValidationError(
                _t("“%(value)s” has no unit. Did you mean %(value)s MB or %(value)s GB?")
                % {"value": str(value).strip()[:20]}
            )
        hundredths = int(found[1] + (found[2] or "").ljust(2, "0"))
        mb = hundredths * SIZES[unit] // 100
        if mb < 1:
            raise ValidationError(_t("That is too little; leave it empty to ask for nothing."))
        if mb > self.highest:
            raise ValidationError(
                _t("That is too much; at most %(limit)s.") % {"limit": terms.amount(self.highest)}
            )
        return mb


class VariablesField(forms.CharField):
    """NAME=value, one per line; cleaned to a dict."""

    widget = forms.Textarea

    def __init__(self, **options: Any) -> None:
        super().__init__(strip=False, **options)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name}={content}" for name, content in value.items())
        return value

    def clean(self, value: Any) -> dict[str, str]:
        text = super().clean(value)
        found: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            name, equals, content = line.partition("=")
            name = name.strip()
            if not equals:
                raise ValidationError(
                    _t("Line %(n)s has no “=”. Write NAME=value, for example LANG=de_DE.UTF-8.")
                    % {"n": number}
                )
            if name in found:
                raise ValidationError(
                    _t("“%(name)s” stands there twice; leave one.") % {"name": name[:80]}
                )
            found[name] = content
        return found


class LinesField(forms.CharField):
    """One entry per line; cleaned to a list without empty ones."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [
            stripped for each in super().clean(value).splitlines() if (stripped := each.strip())
        ]


class CodesField(forms.CharField):
    """Exit codes, written "1, 75"; cleaned to a list of numbers."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        words = re.split(r"[\s,;]+", super().clean(value).strip(" ,;"))
        codes = []
        for word in filter(None, words):
            if not (word.isascii() and word.isdigit() and len(word) <= 3):
                raise ValidationError(
                    _t("“%(value)s” is no exit code. Write numbers from 1 to 255: 1, 75.")
                    % {"value": word[:20]}
                )
            codes.append(int(word))
        return codes


class MomentField(forms.Field):
    """A day and a time of day in a zone that the form knows; cleaned to a naive datetime."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"})

    def prepare_value(self, value: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M") if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> datetime | None:
        text = str(value or "").strip()
        if not text:
            return None
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            at = None
        if at is None or at.tzinfo is not None or not text.isascii() or at.year not in YEARS:
            raise ValidationError(
                _t("“%(value)s” is no day with a time. Write for example 2026-12-24 18:00.")
                % {"value": text[:40]}
            )
        return at


class PoolsWidget(forms.Textarea):
    """What is typed for each pool as `pools-<name>`; lines of name=weight count as well."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:  # noqa: ARG002
        prefix = f"{name}-"
        typed = {key.removeprefix(prefix): data[key] for key in data if key.startswith(prefix)}
        for line in str(data.get(name, "")).splitlines():
            pool, _equals, weight = line.partition("=")
            if pool.strip():
                typed[pool.strip()] = weight
        return typed or None

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return self.value_from_datadict(data, files, name) is None


@dataclass(frozen=True)
class PoolRow:
    """One pool in the form of a job: how much there is, and how much a run needs."""

    name: str
    size: int | None  # None: it is gone
    description: str
    weight: object
    is_wrong: bool = False


class PoolsField(forms.Field):
    """How much a job needs of each pool; cleaned to a dict without the ones it does not need."""

    widget = PoolsWidget

    def clean(self, value: Any) -> dict[str, int]:
        needs, wrong = {}, []
        for pool, typed in (value or {}).items():
            text = str(typed).strip()
            if not text:
                continue
            if not is_weight(text):
                said = _t("“%(pool)s”: “%(value)s” is no whole number from 0.")
                wrong.append(said % {"value": text[:20], "pool": pool[:40]})
            elif int(text):
                needs[pool] = int(text)
        if wrong:
            raise ValidationError(wrong)
        return needs


def is_weight(text: str) -> bool:
    """Return whether this is a whole number from 0."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def zone_named(name: str) -> ZoneInfo:
    """Return the zone of this name; UTC where there is none, which is said at its own field."""
    return ZoneInfo(name if name in available_timezones() else "UTC")


if TYPE_CHECKING:  # Django's form classes take no parameters at run time
    from django.http import QueryDict

    _JobModelForm = forms.ModelForm[Job]
    _PolicyModelForm = forms.ModelForm[Policy]
    _PoolModelForm = forms.ModelForm[Pool]
else:
    _JobModelForm = _PolicyModelForm = _PoolModelForm = forms.ModelForm


class JobForm(_JobModelForm):
    """Everything a person decides about a job."""

    use_required_attribute = False

    timeout_seconds = SpanField(
        label=_("Time limit"),
        required=False,
        highest=30 * DAY,
        help_text=_("After this the command is stopped: 90s, 5m, 2h. 0 means no limit."),
    )
    soft_timeout_seconds = SpanField(
        label=_("Warn after"),
        required=False,
        highest=30 * DAY,
        lowest=1,
        help_text=_("A run that takes longer is remarked on, and goes on."),
    )
    grace_seconds = SpanField(
        label=_("Time to finish"),
        required=False,
        highest=3600,
        help_text=_("Between the request to stop and the end by force."),
    )
    misfire_age_seconds = SpanField(
        label=_("Catch up for at most"),
        required=False,
        highest=366 * DAY,
        help_text=_("What is older is recorded as missed."),
    )
    retry_backoff_seconds = SpanField(
        label=_("First pause"),
        required=False,
        highest=3600,
        lowest=1,
        help_text=_("Doubles with each attempt, up to 10 minutes."),
    )
    retry_exit_codes = CodesField(
        label=_("Only for exit codes"),
        required=False,
        help_text=_("Empty means any failure. For example: 1, 75."),
    )
    deadline = MomentField(
        label=_("No start after"),
        required=False,
        help_text=_(
            "In the job's time zone. What its schedule has not begun by then is skipped; "
            "a start by hand is not."
        ),
    )
    max_wait_seconds = SpanField(
        label=_("Wait at most"),
        required=False,
        highest=366 * DAY,
        lowest=1,
        help_text=_("A run that waits longer is skipped."),
    )
    pools = PoolsField(label=_("Pools"), required=False)
    cpu_limit_seconds = SpanField(
        label=_("CPU time"),
        required=False,
        highest=30 * DAY,
        lowest=1,
        help_text=_("Of all its processes together."),
    )
    limit_sustain_seconds = SpanField(
        label=_("For longer than"),
        required=False,
        highest=3600,
        help_text=_("A short peak is forgiven."),
    )
    on_presence = forms.ChoiceField(
        label=_("When somebody comes back"),
        choices=Job.Presence.choices,
        required=False,
        widget=forms.RadioSelect,
    )
    min_vram_mb = SizeField(
        label=_("VRAM at least"),
        required=False,
        highest=10_000_000,
        help_text=_("Free on one GPU."),
    )
    min_disk_mb = SizeField(
        label=_("Disk at least"),
        required=False,
        highest=1_000_000_000,
        help_text=_("Free where the exports lie."),
    )
    needs_services = forms.MultipleChoiceField(
        label=_("Services that must answer"),
        choices=[(name, reasons.NAMES[name]) for name in SERVICES],
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    finish_by = forms.CharField(
        label=_("Done by"),
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}),
        help_text=_(
            "In the job's time zone. It starts early enough, by how long it usually takes."
        ),
    )
    environment = VariablesField(
        label=_("Environment"),
        required=False,
        help_text=_("One NAME=value per line."),
    )
    parameters = VariablesField(
        label=_("Parameters"),
        required=False,
        help_text=_("One name=value per line; the command sees BACH_PARAM_NAME."),
    )
    timezone = forms.CharField(
        label=_("Time zone"),
        required=False,
        max_length=64,
        help_text=_("The times of the schedule are meant there."),
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Job
        fields = (
            "name",
            "description",
            "command",
            "use_shell",
            "script_path",
            "arguments",
            "working_directory",
            "environment",
            "parameters",
            "job_type",
            "schedule",
            "timezone",
            "timeout_seconds",
            "soft_timeout_seconds",
            "overlap",
            "max_instances",
            "misfire",
            "misfire_age_seconds",
            "max_retries",
            "retry_backoff_seconds",
            "retry_exit_codes",
            "retry_on_timeout",
            "on_loss",
            "pools",
            "priority",
            "deadline",
            "max_wait_seconds",
            "grace_seconds",
            "stop_command",
            "leave_descendants",
            "cpu_limit_seconds",
            "memory_limit_mb",
            "limit_sustain_seconds",
            "limit_action",
            "nice",
            "idle_io",
            "keep_days",
            "keep_runs",
            "keep_output_mb",
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
            "is_active",
        )
        labels: ClassVar = {
            "name": _("Name"),
            "description": _("Description"),
            "command": _("Command"),
            "use_shell": _("Run by the shell"),
            "script_path": _("Script"),
            "arguments": _("Arguments"),
            "working_directory": _("Working folder"),
            "job_type": _("When does it start?"),
            "schedule": _("Schedule"),
            "overlap": _("If it is still running"),
            "max_instances": _("At most at once"),
            "misfire": _("If a start was missed"),
            "max_retries": _("Retries"),
            "retry_on_timeout": _("After the time limit too"),
            "on_loss": _("If a run is lost"),
            "priority": _("Priority"),
            "stop_command": _("Stop command"),
            "memory_limit_mb": _("Memory"),
            "limit_action": _("Beyond a limit"),
            "keep_days": _("Keep for"),
            "keep_runs": _("Keep at most"),
            "keep_output_mb": _("Keep output up to"),
            "nice": _("Courtesy"),
            "idle_io": _("Disk access only when nobody else wants it"),
            "leave_descendants": _("Let background processes live on"),
            "is_active": _("Active"),
            "only_when_idle": _("Only when idle"),
            "ask_signal": _("Asked by"),
            "max_load_percent": _("Load at most"),
            "window": _("Only at these times"),
            "in_quiet_hours": _("In quiet hours too"),
            "gate_action": _("If it does not fit in time"),
        }
        help_texts: ClassVar = {
            "name": _("Short and telling, for example nightly-backup."),
            "command": _("As in a terminal. Several lines are one script."),
            "use_shell": _("Needed for pipes, wildcards and variables (| * $ &&)."),
            "script_path": _("Instead of a command: a file to be executed."),
            "arguments": _("Handed to the script."),
            "working_directory": _("Empty means your home folder."),
            "max_retries": _("How often a failed run is tried again; 0 means never."),
            "misfire": _("Because the computer was off, asleep, or the daemon stopped."),
            "retry_on_timeout": _("Otherwise a run that took too long is not tried again."),
            "on_loss": _("Lost: nobody saw how it ended, for example after a power cut."),
            "priority": _("-100 to 100; higher goes first in line."),
            "stop_command": _("Tried first when a run is to end; then SIGTERM, then SIGKILL."),
            "memory_limit_mb": _("Of all its processes together."),
            "keep_days": _("Empty: as in the settings."),
            "keep_runs": _("Empty: as in the settings."),
            "keep_output_mb": _("Empty: as in the settings."),
            "nice": _("0 is usual, 19 leaves the processor to all others first."),
            "leave_descendants": _("Otherwise what the command left behind is ended with it."),
            "is_active": _("Starts by its schedule. By hand it starts in any case."),
            "only_when_idle": _("Nobody is here, no model is in use, and that for a while."),
            "ask_signal": _(
                "The signal that asks the command to make way. What has not ended 5 seconds later "
                "gets SIGTERM, and after 5 more SIGKILL."
            ),
            "max_load_percent": _("Of all processors, own jobs too."),
            "gate_action": _("“Wait at most” under “Place in line” counts as well."),
        }
        widgets: ClassVar = {
            "job_type": forms.RadioSelect,
            "on_loss": forms.RadioSelect,
            "limit_action": forms.RadioSelect,
            "gate_action": forms.RadioSelect,
            "command": forms.Textarea,
            "description": forms.TextInput,
            "schedule": forms.TextInput,
            "script_path": forms.TextInput,
            "stop_command": forms.TextInput,
        }

    # The usual one first.
    KINDS: ClassVar = (Job.Kind.CRON, Job.Kind.INTERVAL, Job.Kind.ONCE, Job.Kind.MANUAL)

    # The fields that are always in view; a fault in any other one opens its fold.
    FOLDS: ClassVar = {
        "what": (
            *("use_shell", "working_directory", "environment"),
            *("script_path", "arguments", "parameters"),
        ),
        "conditions": (
            *("only_when_idle", "on_presence", "ask_signal", "min_vram_mb", "needs_services"),
            *("min_disk_mb", "max_load_percent", "window", "in_quiet_hours", "finish_by"),
            "gate_action",
        ),
        "asked": ("ask_signal",),
        "rules": ("timeout_seconds", "max_retries", "overlap", "max_instances", "misfire"),
        "retries": ("retry_backoff_seconds", "retry_exit_codes", "retry_on_timeout", "on_loss"),
        "line": (
            *("pools", "priority", "deadline", "max_wait_seconds", "misfire_age_seconds"),
            *("nice", "idle_io"),
        ),
        "limits": (
            *("soft_timeout_seconds", "cpu_limit_seconds", "memory_limit_mb"),
            *("limit_sustain_seconds", "limit_action"),
        ),
        "ending": ("grace_seconds", "stop_command", "leave_descendants"),
        "keeping": ("keep_days", "keep_runs", "keep_output_mb"),
    }

    # Folds that stand in the one of the rules.
    WITHIN_RULES: ClassVar = frozenset({"retries", "line", "limits", "ending", "keeping"})

    # Left empty, these are as a new job has them.
    DEFAULTED: ClassVar = (
        *("timeout_seconds", "grace_seconds", "nice", "overlap", "misfire", "misfire_age_seconds"),
        *("max_retries", "retry_backoff_seconds", "on_loss", "priority"),
        *("limit_sustain_seconds", "limit_action", "ask_signal", "gate_action"),
    )
    # Two at once is the least that "run at the same time" can mean.
    FEWEST_AT_ONCE: ClassVar = 2

    # What the job of a skill has no say in, or no use for.
    NOT_OF_SKILLS: ClassVar = (
        *OF_THE_SKILL,
        *("timezone", "max_instances", "misfire", "misfire_age_seconds", "deadline"),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial.setdefault("version", self.instance.version)
        self.fields["name"].error_messages["required"] = _("The job needs a name.")
        self.fields["name"].error_messages["unique"] = _("There is a job with this name already.")
        for name in (*self.DEFAULTED, "max_instances"):
            self.fields[name].required = False
        if self.instance.skill:
            for name in self.NOT_OF_SKILLS:
                self.fields.pop(name, None)
        given = options.get("initial") or {}
        if self.instance.overlap != Job.Overlap.PARALLEL and "max_instances" not in given:
            self.initial["max_instances"] = self.FEWEST_AT_ONCE
        if self.instance.deadline and "deadline" not in given:
            zone = zone_named(self.instance.timezone)
            self.initial["deadline"] = self.instance.deadline.astimezone(zone)
        if self.instance._state.adding and "on_presence" not in given:  # noqa: SLF001 - Django's own
            # Nothing is chosen yet: it goes by whether the job is for idle times alone.
            self.initial["on_presence"] = ""
        if "job_type" in self.fields:
            kinds = cast("forms.ChoiceField", self.fields["job_type"])
            kinds.choices = [(kind, Job.Kind(kind).label) for kind in self.KINDS]
        for field in self.fields.values():
            field.error_messages.setdefault("invalid", _("Enter a whole number."))
            # Browsers cut off in silence what is pasted and too long; we say so instead.
            field.widget.attrs.pop("maxlength", None)
        say_bounds(self)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        # What was left empty stays as a new job has it.
        fresh = Job()
        for name in self.DEFAULTED:
            if name in self.fields and name not in self.errors and cleaned.get(name) in {None, ""}:
                cleaned[name] = getattr(fresh, name)
        if not cleaned.get("on_presence") and "on_presence" not in self.errors:
            idle = cleaned.get("only_when_idle")
            cleaned["on_presence"] = Job.Presence.DISPLACE if idle else Job.Presence.CONTINUE
        if self.instance.skill:
            self._refuse_stale()
            return cleaned
        self._clean_schedule(cleaned, fresh)
        self._refuse_stale()
        return cleaned

    def _clean_schedule(self, cleaned: dict[str, Any], fresh: Job) -> None:
        if cleaned.get("overlap") != Job.Overlap.PARALLEL:
            # Out of sight: what is wrong with it is not to be corrected.
            cleaned["max_instances"] = fresh.max_instances
            self.errors.pop("max_instances", None)
        elif "max_instances" not in self.errors and cleaned.get("max_instances") is None:
            cleaned["max_instances"] = self.FEWEST_AT_ONCE
        if cleaned.get("deadline") is not None:
            zone = zone_named(cleaned.get("timezone") or self.instance.timezone)
            cleaned["deadline"] = cleaned["deadline"].replace(tzinfo=zone)
        if cleaned.get("job_type") == Job.Kind.MANUAL:
            # These are out of sight: what is wrong with them is not to be corrected.
            cleaned["schedule"] = ""
            if cleaned.get("timezone") not in available_timezones():
                cleaned["timezone"] = self.instance.timezone
            for name in ("schedule", "timezone"):
                self.errors.pop(name, None)

    def _refuse_stale(self) -> None:
        """Refuse what was written over somebody else's change. Raises ValidationError."""
        seen = self.cleaned_data.get("version")
        if self.instance.pk and seen is not None and seen != self.instance.version:
            said = _t(
                "%(who)s changed this job while you were editing. Nothing has been saved; "
                "saving again replaces those changes."
            )
            refuse(self, said, self.instance.version, self.instance.updated_by)

    def store(self, *, now: datetime, by: str) -> Job | None:
        """Write the job; None when it can't be, and the form then says why."""
        try:
            return self.instance.store(now=now, by=by)
        except ValidationError as error:
            for name, messages in error.message_dict.items():
                for message in messages:
                    self.add_error(name if name in self.fields else None, message)
        except IntegrityError:
            self.add_error("name", self.fields["name"].error_messages["unique"])
        return None

    def open_folds(self) -> set[str]:
        """Return the folds that hold a fault or something that differs from a new job."""
        open_ones = set()
        fresh = Job()
        for fold, names in self.FOLDS.items():
            for name in names:
                said = getattr(self.instance, name)
                if name in self.errors or (said or None) != (getattr(fresh, name) or None):
                    open_ones.add(fold)
        if open_ones & self.WITHIN_RULES:
            open_ones.add("rules")
        return open_ones

    def rules(self) -> str:
        """Return the rules as they stand in the form, in one line."""
        told, wrong = Job(), self.errors if self.is_bound else {}
        for name in (*self.FOLDS["rules"], "pools", "priority", "memory_limit_mb"):
            if not self.is_bound:
                setattr(told, name, getattr(self.instance, name))
            elif name in self.cleaned_data and name not in wrong:
                setattr(told, name, self.cleaned_data[name])
        language = "en" if (get_language() or "de").startswith("en") else "de"
        return " · ".join(terms.rules(told, language))

    def conditions(self) -> str:
        """Return the conditions as they stand in the form, in one line; "" for none."""
        said = self._as_told()
        language = "en" if (get_language() or "de").startswith("en") else "de"
        return " · ".join(terms.of(said.needs(), said.on_presence, language))

    def opening(self, now: datetime) -> str:
        """Return what the times in the form mean, and how they stand now; "" for none."""
        said = self._as_told()
        language = "en" if (get_language() or "de").startswith("en") else "de"
        return terms.opening(said.window, said.timezone, now, language) if said.window else ""

    def _as_told(self) -> Job:
        """Return a job with what the form says of conditions, as far as that can be meant."""
        if not self.is_bound:
            return self.instance
        told = Job(timezone=self.instance.timezone)
        wrong = self.errors  # asking for them cleans the rest
        for name in (*self.FOLDS["conditions"], "timezone"):
            if name in self.cleaned_data and name not in wrong:
                setattr(told, name, self.cleaned_data[name])
        return told

    def boxes(self) -> list[str]:
        """Return the fields that are ticked; a browser does not send one that is not."""
        fields = self.fields.items()
        return [name for name, field in fields if isinstance(field, forms.BooleanField)]

    def pool_rows(self) -> list[PoolRow]:
        """Return each pool there is, and those the job needs although they are gone."""
        wanted = self["pools"].value() or {}
        known = {pool.name: pool for pool in Pool.objects.all()}
        return [
            PoolRow(
                name,
                known[name].size if name in known else None,
                known[name].description if name in known else "",
                wanted.get(name, ""),
                "pools" in self.errors
                and self._is_wrong(str(wanted.get(name, "")).strip(), known.get(name)),
            )
            for name in sorted({*known, *wanted})
        ]

    @staticmethod
    def _is_wrong(typed: str, pool: Pool | None) -> bool:
        """Return whether this can't be what a run needs of a pool."""
        if not is_weight(typed):
            return bool(typed)
        return int(typed) > (pool.size if pool else 0)

    @staticmethod
    def zones() -> list[str]:
        """Return the names of all zones, for the list of suggestions."""
        return sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC")


def refuse(form: forms.BaseForm, words: str, version: object, by: str) -> None:
    """Refuse what was written over somebody else's change; what is sent next knows of it.

    Raises ValidationError with `words`, which name %(who)s.
    """
    sent = cast("QueryDict", form.data).copy()
    sent["version"] = str(version)
    form.data = sent
    raise ValidationError(words % {"who": by or _t("Somebody")})


# ── Rules for all jobs ───────────────────────────────────────────────────────────────────────────
class _RulesForm(_PolicyModelForm):
    """Some of the rules for all jobs; refused when somebody else has changed any meanwhile."""

    use_required_attribute = False

    version = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        say_plainly(self)
        self.initial["version"] = version_of(self.instance)

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if is_stale(self, self.instance):
            said = _t(
                "%(who)s changed the settings while you were editing. Nothing has been saved; "
                "saving again replaces those changes."
            )
            refuse(self, said, version_of(self.instance), self.instance.updated_by)
        return cleaned


class PolicyForm(_RulesForm):
    """How much runs at once, and what is kept."""

    class Meta:
        model = Policy
        fields = ("max_parallel", "keep_days", "keep_runs", "keep_output_mb")
        labels: ClassVar = {
            "max_parallel": _("At most"),
            "keep_days": _("Keep runs for"),
            "keep_runs": _("Of each job at most"),
            "keep_output_mb": _("Output up to"),
        }
        help_texts: ClassVar = {
            "max_parallel": _("What goes beyond that waits in line."),
            "keep_days": _("Older runs are deleted with their output."),
            "keep_runs": _("The oldest go first."),
            "keep_output_mb": _("Of all jobs together; the oldest output goes first."),
        }


class WatchForm(_RulesForm):
    """What is looked at, from when on it counts, and when it is to be quiet."""

    idle_after_seconds = SpanField(
        label=_("Idle after"),
        highest=DAY,
        lowest=1,
        help_text=_("So long nobody may have been here, and no model in use: 2m, 10m."),
    )
    config_folders = LinesField(
        label=_("Folders"),
        required=False,
        help_text=_("One per line, with their whole path. Configuration files in them are read."),
    )

    class Meta:
        model = Policy
        fields = WATCHED
        labels: ClassVar = {
            "gpu_service_url": _("Address of the GPU service"),
            "ollama_url": _("Address of Ollama"),
            "slow_ms": _("Slow from"),
            "vram_high_percent": _("VRAM is scarce from"),
            "vram_target_percent": _("Freed down to"),
            "disk_low_gb": _("Disk is scarce below"),
            "foreign_load_percent": _("Load of other programs counts from"),
            "watch_logins": _("People at this machine count"),
            "watch_gpu": _("Other programs on the GPU count"),
            "quiet_hours": _("Times"),
        }
        help_texts: ClassVar = {
            "slow_ms": _("Of the answers of both services."),
            "vram_high_percent": _("Then models nobody uses are unloaded."),
            "disk_low_gb": _("0: only a full disk is told."),
            "foreign_load_percent": _("Of all processors; our own jobs are left out."),
            "watch_logins": _("Keyboard, mouse and terminals, as far as the system tells."),
            "watch_gpu": _("Programs that compute on it and are none of our jobs."),
            "quiet_hours": _(
                "Nothing starts by itself then, unless its job may. For example 22:00-06:00, or "
                "mon-fri 09:00-12:00; sat,sun 00:00-24:00."
            ),
        }


class PoolForm(_PoolModelForm):
    """One pool: its name, how much of it there is, and what it stands for."""

    use_required_attribute = False

    version = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Pool
        fields = ("name", "size", "description")
        labels: ClassVar = {
            "name": _("Name"),
            "size": _("Size"),
            "description": _("What it stands for"),
        }
        help_texts: ClassVar = {"name": "", "size": "", "description": ""}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        say_plainly(self)
        self.fields["name"].error_messages["required"] = _("The pool needs a name.")
        self.fields["name"].error_messages["unique"] = _("There is a pool with this name already.")
        self.initial["version"] = version_of(self.instance)

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or self.cleaned_data)
        if self.instance.pk and is_stale(self, self.instance):
            said = _t(
                "%(who)s changed this pool while you were editing. Nothing has been saved; "
                "saving again replaces those changes."
            )
            refuse(self, said, version_of(self.instance), self.instance.updated_by)
        return cleaned


def version_of(stored: Policy | Pool) -> str:
    """Return what tells one state of a row from a later one: when it was last changed."""
    return stored.updated_at.isoformat() if stored.updated_at else ""


def is_stale(form: forms.BaseForm, stored: Policy | Pool) -> bool:
    """Return whether a form was opened before the last change of what it is about to change."""
    return "version" in form.data and form.data["version"] != version_of(stored)


def say_plainly(form: forms.BaseForm) -> None:
    """Let the fields of a form complain in our words, and cut nothing off in silence."""
    for field in form.fields.values():
        field.error_messages.setdefault("invalid", _("Enter a whole number."))
        field.error_messages["required"] = _("Something must stand here.")
        field.widget.attrs.pop("maxlength", None)
    say_bounds(form)


def say_bounds(form: forms.BaseForm) -> None:
    """Let each field for a number name both its bounds, whichever was crossed."""
    language = "en" if (get_language() or "de").startswith("en") else "de"
    model = cast("forms.ModelForm[Any]", form).instance._meta  # noqa: SLF001 - Django's own name
    for name, field in form.fields.items():
        if not isinstance(field, forms.IntegerField) or name == "version":
            continue
        limits = model.get_field(name).validators
        lowest = [v.limit_value for v in limits if isinstance(v, MinValueValidator)]
        highest = [v.limit_value for v in limits if isinstance(v, MaxValueValidator)]
        said = _t("A number from %(lowest)s to %(highest)s.") % {
            "lowest": formats.number(max(lowest), language),
            "highest": formats.number(min(highest), language),
        }
        field.error_messages |= {"min_value": said, "max_value": said}

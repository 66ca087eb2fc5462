"""The form of a job. The rules stand on the model; here is how people write them down."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast
from zoneinfo import available_timezones

from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app.models import Job

UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
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
        return seconds


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


if TYPE_CHECKING:  # Django's form classes take no parameters at run time
    from django.http import QueryDict

    _JobModelForm = forms.ModelForm[Job]
else:
    _JobModelForm = forms.ModelForm


class JobForm(_JobModelForm):
    """Everything a person decides about a job."""

    use_required_attribute = False

    timeout_seconds = SpanField(
        label=_("Time limit"),
        required=False,
        highest=30 * 86_400,
        help_text=_("After this the command is stopped: 90s, 5m, 2h. 0 means no limit."),
    )
    soft_timeout_seconds = SpanField(
        label=_("Warn after"),
        required=False,
        highest=30 * 86_400,
        help_text=_("A run that takes longer is remarked on, and goes on."),
    )
    grace_seconds = SpanField(
        label=_("Time to finish"),
        required=False,
        highest=3600,
        help_text=_("Between the request to stop and the end by force."),
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
            "grace_seconds",
            "overlap",
            "max_instances",
            "nice",
            "idle_io",
            "leave_descendants",
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
            "nice": _("Courtesy"),
            "idle_io": _("Disk access only when nobody else wants it"),
            "leave_descendants": _("Let background processes live on"),
            "is_active": _("Active"),
        }
        help_texts: ClassVar = {
            "name": _("Short and telling, for example nightly-backup."),
            "command": _("As in a terminal. Several lines are one script."),
            "use_shell": _("Needed for pipes, wildcards and variables (| * $ &&)."),
            "script_path": _("Instead of a command: a file to be executed."),
            "arguments": _("Handed to the script."),
            "working_directory": _("Empty means your home folder."),
            "max_instances": _("With “run at the same time”."),
            "nice": _("0 is usual, 19 leaves the processor to all others first."),
            "leave_descendants": _("Otherwise what the command left behind is ended with it."),
            "is_active": _("Starts by its schedule. By hand it starts in any case."),
        }
        widgets: ClassVar = {
            "job_type": forms.RadioSelect,
            "command": forms.Textarea,
            "description": forms.TextInput,
            "schedule": forms.TextInput,
            "script_path": forms.TextInput,
        }

    # The usual one first.
    KINDS: ClassVar = (Job.Kind.CRON, Job.Kind.INTERVAL, Job.Kind.ONCE, Job.Kind.MANUAL)

    # The fields that are always in view; a fault in any other one opens its fold.
    FOLDS: ClassVar = {
        "what": ("script_path", "arguments", "parameters"),
        "rules": (
            "soft_timeout_seconds",
            "max_instances",
            "nice",
            "idle_io",
            "leave_descendants",
        ),
    }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.initial.setdefault("version", self.instance.version)
        self.fields["name"].error_messages["required"] = _("The job needs a name.")
        self.fields["name"].error_messages["unique"] = _("There is a job with this name already.")
        self.fields["max_instances"].required = False
        self.fields["nice"].required = False
        self.fields["overlap"].required = False
        kinds = cast("forms.ChoiceField", self.fields["job_type"])
        kinds.choices = [(kind, Job.Kind(kind).label) for kind in self.KINDS]
        for field in self.fields.values():
            field.error_messages.setdefault("invalid", _("Enter a whole number."))
            # Browsers cut off in silence what is pasted and too long; we say so instead.
            field.widget.attrs.pop("maxlength", None)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        # What was left empty stays as a new job has it.
        fresh = Job()
        for name in ("timeout_seconds", "grace_seconds", "max_instances", "nice", "overlap"):
            if name not in self.errors and cleaned.get(name) in {None, ""}:
                cleaned[name] = getattr(fresh, name)
        if cleaned.get("job_type") == Job.Kind.MANUAL:
            # These are out of sight: what is wrong with them is not to be corrected.
            cleaned["schedule"] = ""
            if cleaned.get("timezone") not in available_timezones():
                cleaned["timezone"] = self.instance.timezone
            for name in ("schedule", "timezone"):
                self.errors.pop(name, None)
        seen = cleaned.get("version")
        if self.instance.pk and seen is not None and seen != self.instance.version:
            # What is sent next time overwrites knowingly.
            sent = cast("QueryDict", self.data).copy()
            sent["version"] = str(self.instance.version)
            self.data = sent
            raise ValidationError(
                _t(
                    "%(who)s changed this job while you were editing. Nothing has been saved; "
                    "saving again replaces those changes."
                )
                % {"who": self.instance.updated_by or _t("Somebody")}
            )
        return cleaned

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
        return open_ones

    @staticmethod
    def zones() -> list[str]:
        """Return the names of all zones, for the list of suggestions."""
        return sorted(zone for zone in available_timezones() if "/" in zone or zone == "UTC")

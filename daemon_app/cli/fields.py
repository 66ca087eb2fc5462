"""The fields of a job as options: what its form asks for, asked for in a terminal.

Names, meanings, choices and rules are the form's (`forms.JobForm`); here is only how a field
becomes an option, and how what was typed gets back into the form.
"""

import re
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from daemon_app.cli import project, terminal
from daemon_app.cli.clicks import Command
from daemon_app.cli.language import gettext as _
from daemon_app.cli.language import pgettext
from daemon_app.cli.outcome import Code, Refusal

if TYPE_CHECKING:
    from django.forms import Field
    from django.http import QueryDict

    from daemon_app.forms import JobForm
    from daemon_app.models import Job

DATE = re.compile(r"\s*\d+[-./]\d+[-./]\d+")  # begins what is meant as one
PREFIX = "field_"  # of the parameters that are fields
OPTION_WIDTH = 34  # columns of help; longer ones stand on a line of their own
# Units that the value is written with, so that the option needs none.
WRITTEN_WITH_UNIT = {"SpanField": "_seconds", "SizeField": "_mb"}
NAMED = frozenset({"environment", "parameters", "pools"})  # NAME=VALUE, as often as needed
# What the form settles by other fields when nobody says otherwise.
SETTLED_BY_FORM = frozenset({"max_instances", "on_presence", "schedule", "version"})


def sections() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the headings of the form with the fields below each, in its order."""
    from daemon_app.forms import JobForm

    titles = {
        "what": _("Folder, environment, script"),
        "conditions": _("Conditions"),
        "rules": _("Rules"),
        "retries": _("Trying again"),
        "line": _("Place in line"),
        "limits": _("Limits"),
        "ending": _("Ending"),
        "keeping": _("Keeping"),
    }
    folded = {name for names in JobForm.FOLDS.values() for name in names}
    first = tuple(name for name in JobForm.Meta.fields if name not in folded)
    return (
        (_("What and when"), first),
        *((title, JobForm.FOLDS[fold]) for fold, title in titles.items()),
    )


class OfFields(Command):
    """A command with an option for each field of a job; they are made when somebody asks.

    `without` are fields that it asks for in another way.
    """

    def __init__(self, *arguments: Any, without: Iterable[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._without = frozenset(without)
        self._of_fields: list[click.Option] | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the arguments and options, those of the fields included."""
        if self._of_fields is None:
            self._of_fields = options(self._without)
        return [*super().get_params(ctx), *self._of_fields]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those of the fields under the form's headings."""
        fields = {str(each.name)[len(PREFIX) :]: each for each in self._fields(ctx)}
        mine = (each for each in self.get_params(ctx) if isinstance(each, click.Option))
        own = [each for each in mine if each not in fields.values()]
        with formatter.section(_("Options")):
            formatter.write_dl([told for each in own if (told := each.get_help_record(ctx))])
        for title, names in sections():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        told
                        for name in names
                        if name in fields and (told := fields[name].get_help_record(ctx))
                    ],
                    col_max=OPTION_WIDTH,
                )

    def _fields(self, ctx: click.Context) -> list[click.Option]:
        self.get_params(ctx)
        return self._of_fields or []


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields among the parameters of a command that were typed: {name: value}."""
    return {
        name.removeprefix(PREFIX): value
        for name, value in parameters.items()
        if name.startswith(PREFIX) and value is not None and value != ()
    }


def options(without: Container[str] = ()) -> list[click.Option]:
    """Return an option for each field of the form."""
    project.configure_models(queue=False)
    from daemon_app.forms import JobForm

    fields: dict[str, Field] = JobForm.base_fields
    return [_option(name, fields[name]) for name in JobForm.Meta.fields if name not in without]


def option_of(name: str) -> str:
    """Return how the option of a field is called: "--timeout" for "timeout_seconds"."""
    from daemon_app.forms import JobForm

    unit = WRITTEN_WITH_UNIT.get(type(JobForm.base_fields[name]).__name__, "")
    return "--" + name.removesuffix(unit).removeprefix("is_").replace("_", "-")


def _option(name: str, field: "Field") -> click.Option:
    from django import forms

    called, parameter = option_of(name), PREFIX + name
    told = _told(name, field)
    if isinstance(field, forms.BooleanField):
        both = f"{called}/--no-{called[2:]}"
        return click.Option([both, parameter], default=None, help=told)
    if isinstance(field, forms.ChoiceField):
        words = [str(value) for value, _label in _choices(name, field)]
        several = isinstance(field, forms.MultipleChoiceField)
        return click.Option(
            [called, parameter],
            type=click.Choice([*words, ""] if several else words),
            metavar="|".join(words),
            multiple=several,
            help=told,
        )
    return click.Option(
        [called, parameter], metavar=_metavar(name, field), multiple=name in NAMED, help=told
    )


def _choices(name: str, field: Any) -> list[tuple[str, str]]:
    from daemon_app.forms import JobForm

    found = [(value, str(label)) for value, label in field.choices if value]
    if name == "job_type":
        return [pair for kind in JobForm.KINDS for pair in found if pair[0] == kind]
    return found


def _told(name: str, field: "Field") -> str:
    """Return what the form says of a field, in a sentence or two."""
    label, told = str(field.label).rstrip("?:"), str(field.help_text)
    choices = [] if not hasattr(field, "choices") else _choices(name, field)
    words = ", ".join(f"{value} ({said})" for value, said in choices)
    if name in NAMED:
        # What the form says of lines does not hold here.
        told = told.partition("; ")[2]
        told = (
            f"{told[:1].upper()}{told[1:]} {_('May be given several times; NAME- takes one away.')}"
        )
    told = _beside_the_form().get(name, told)
    said = f"{label}: {words}." if words else f"{label}. "
    return " ".join(f"{said} {told}".split())


def _beside_the_form() -> dict[str, str]:
    """Return what is said beside these fields on the page, and not by the form itself."""
    return {
        "schedule": _("30 3 * * mon-fri, 24h, or 2026-12-24 18:00; empty: started by hand alone."),
        "window": _(
            "Empty: at any time. For example 22:00-06:00, or mon-fri 22:00-06:00; sat,sun "
            "00:00-24:00."
        ),
        "pools": _("How much a run needs of each, for example gpu=1; NAME- takes one away."),
        "max_instances": _("With --overlap parallel."),
    }


def _metavar(name: str, field: "Field") -> str:
    from django import forms

    kind = type(field).__name__
    if name in NAMED:
        return pgettext("option", "NAME=VALUE")
    if isinstance(field, forms.IntegerField):
        return _("NUMBER")
    words = {
        "SpanField": _("LENGTH"),
        "SizeField": _("SIZE"),
        "MomentField": _("TIME"),
        "CodesField": _("NUMBERS"),
    }
    return words.get(kind, _("TEXT"))


# ── Back into the form ───────────────────────────────────────────────────────────────────────────
def filled(job: "Job", typed: Mapping[str, Any]) -> "JobForm":
    """Return the form of a job as it stands, with what was typed in its place.

    What was not typed stays exactly as it is, also what the form shows less exactly. Raises Refusal
    with all that is wrong at once, each beside its option.
    """
    from daemon_app.forms import JobForm

    shown = JobForm(instance=job)
    stored = {name: getattr(job, name) for name in JobForm.Meta.fields}
    if foreign := [name for name in typed if name not in shown.fields]:
        said = _("This job belongs to the skill “%(skill)s”, which decides on this.")
        _refuse([f"{option_of(name)}: {said % {'skill': job.skill}}" for name in foreign])
    typed = _with_kind(typed, job)
    form = JobForm(_sent(shown, typed, stored), instance=job)
    if not form.is_valid():
        _refuse(faults(form.errors))
    for name, value in stored.items():
        if name in form.fields and name not in typed and name not in SETTLED_BY_FORM:
            setattr(form.instance, name, value)
    return form


def _sent(form: "JobForm", typed: Mapping[str, Any], stored: Mapping[str, Any]) -> "QueryDict":
    """Return what a browser would send of this form, with what was typed in its place."""
    from django import forms
    from django.http import QueryDict

    data = QueryDict(mutable=True)
    for name, field in form.fields.items():
        value = typed.get(name, form[name].value())
        if name in NAMED:
            value = _named(name, stored.get(name) or {}, typed.get(name, ()))
        elif name == "on_presence" and "only_when_idle" in typed and name not in typed:
            value = ""  # as is usual for a job that is for idle times, or is not any more
        if isinstance(field, forms.BooleanField):
            data.update({name: "on"} if value else {})
        elif isinstance(field, forms.MultipleChoiceField):
            data.setlist(name, [each for each in value or () if each])
        else:
            data[name] = "" if value is None else str(field.prepare_value(value))
    return data


def _with_kind(typed: Mapping[str, Any], job: "Job") -> dict[str, Any]:
    """Return what was typed with the kind that its schedule is of, unless that was typed, too."""
    from daemon_app import schedules
    from daemon_app.models import Job
    from daemon_app.schedules import ScheduleError

    typed = dict(typed)
    if "job_type" in typed or ("schedule" not in typed and job.pk):
        return typed
    text = str(typed.get("schedule") or "")
    if not text.strip():
        return typed | {"job_type": Job.Kind.MANUAL}
    for kind in dict.fromkeys([Job.Kind(job.job_type), *Job.Kind]):
        try:
            if kind != Job.Kind.MANUAL:
                schedules.parse(kind, text, typed.get("timezone") or job.timezone)
                return typed | {"job_type": kind}
        except ScheduleError:
            continue
    # It is nothing yet: what is wrong with it is told by what it was meant to be.
    if DATE.match(text):
        return typed | {"job_type": Job.Kind.ONCE}
    looks_like_cron = len(text.split()) > 2
    return typed | {"job_type": Job.Kind.CRON if looks_like_cron else Job.Kind.INTERVAL}


def _named(name: str, stored: Mapping[str, Any], typed: Iterable[str]) -> str:
    """Return lines of NAME=VALUE: the stored ones with what was typed; one empty text drops all."""
    values = {key: str(value) for key, value in stored.items()}
    for each in typed:
        key, equals, value = each.partition("=")
        if not each:
            values.clear()
        elif equals and len(value.splitlines()) > 1:
            said = _("The value of “%(name)s” must be one line.") % {"name": terminal.shown(key)}
            _refuse([f"{option_of(name)}: {said}"])
        elif equals:
            values[key.strip()] = value
        elif each.endswith("-"):
            values.pop(each[:-1].strip(), None)
        else:
            said = _("Write NAME=VALUE, or NAME- to take one away (here: “%(text)s”).")
            _refuse([f"{option_of(name)}: {said % {'text': terminal.shown(each)[:60]}}"])
    return "\n".join(f"{key}={value}" for key, value in values.items())


def faults(errors: Mapping[str, Iterable[Any]]) -> list[str]:
    """Return what is wrong, a line for each, with the option it stands at."""
    from daemon_app.forms import JobForm

    return [
        f"{option_of(name)}: {said}" if name in JobForm.base_fields else str(said)
        for name, messages in errors.items()
        for said in messages
    ]


def _refuse(lines: list[str]) -> None:
    """Raise Refusal with these reasons; the names of the options stand before them."""
    lines = [terminal.shown(line) for line in lines]
    raise Refusal(lines[0], "\n".join(lines[1:]), code=Code.USAGE)

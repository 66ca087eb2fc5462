"""What people have changed of jobs, in words: who, when, and from what to what."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model
from django.utils import timezone
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy

from daemon_app import formats, schedules
from daemon_app.models import Account, Change, Job, Policy, Pool, Token
from daemon_app.models.change import NEVER_TOLD, SECRET
from daemon_app.schedules import ScheduleError
from daemon_app.tiles.marks import Mark
from daemon_app.tiles.regions import current_language

LONGEST = 600  # characters of a value
SIGNS = {
    Change.Kind.CREATED: ("plus", "is-ok"),
    Change.Kind.EDITED: ("pencil", "is-quiet"),
    Change.Kind.SWITCHED_ON: ("power", "is-ok"),
    Change.Kind.SWITCHED_OFF: ("pause", "is-quiet"),
    Change.Kind.PAUSED: ("pause", "is-quiet"),
    Change.Kind.RESUMED: ("power", "is-ok"),
    Change.Kind.DELETED: ("trash-2", "is-fail"),
    Change.Kind.MUTED: ("bell-off", "is-quiet"),
    Change.Kind.UNMUTED: ("bell", "is-quiet"),
    Change.Kind.STARTED: ("play", "is-ok"),
    Change.Kind.CANCELLED: ("square", "is-fail"),
    Change.Kind.FORCED: ("play", "is-warn"),
    Change.Kind.HELD: ("hand", "is-warn"),
    Change.Kind.RELEASED: ("play", "is-ok"),
    Change.Kind.SEEN: ("eye", "is-quiet"),
    Change.Kind.LINK: ("key-round", "is-warn"),
    Change.Kind.SIGNED_IN: ("circle-user", "is-quiet"),
    Change.Kind.SIGNED_OUT: ("log-out", "is-quiet"),
    Change.Kind.REVOKED: ("ban", "is-fail"),
}
OTHER_SIGN = ("pencil", "is-quiet")
# What the fields of other subjects than jobs belong to.
MODELS: dict[str, type[Model]] = {
    Change.Subject.POOL: Pool,
    Change.Subject.POLICY: Policy,
    Change.Subject.HOLD: Policy,
    Change.Subject.PRESENCE: Policy,
    Change.Subject.ACCOUNT: Account,
    Change.Subject.TOKEN: Token,
}
# Fields without a name of their own, and words beside what was done.
LABELS = {
    "hold": gettext_lazy("hold"),
    "hold_note": gettext_lazy("note"),
    "presence": gettext_lazy("presence"),
    "presence_until": gettext_lazy("until"),
}
HOW = {
    "link": gettext_lazy("by a one-time link"),
    "password": gettext_lazy("by password"),
    "first": gettext_lazy("to the front"),
    "up": gettext_lazy("one place up"),
    "down": gettext_lazy("one place down"),
    "last": gettext_lazy("to the end"),
}
# Texts that are read as they were typed.
TYPED = {
    *("command", "script_path", "arguments", "working_directory", "stop_command"),
    *("schedule", "window", "environment", "parameters"),
}


@dataclass(frozen=True)
class Difference:
    """One field: what it is called, and both values as people write them; "" for nothing."""

    label: str
    before: str
    after: str
    is_typed: bool = False
    remark: str = ""  # instead of both


@dataclass(frozen=True)
class ChangeRow:
    """A change as a list shows it."""

    change: Change
    mark: Mark
    by: str
    about: str = ""
    differences: list[Difference] = field(default_factory=list)


def change_rows(changes: Iterable[Change], now: datetime) -> list[ChangeRow]:
    """Return changes as rows."""
    return [_row(change, now) for change in changes]


def _row(change: Change, now: datetime) -> ChangeRow:
    kind = Change.Kind(change.kind)
    word = str(kind.label)
    mark = Mark(word[:1].upper() + word[1:], *SIGNS.get(kind, OTHER_SIGN), calm=True)
    by = change.by or _t("by itself")
    if kind in {Change.Kind.PAUSED, Change.Kind.MUTED}:
        return ChangeRow(change, mark, by, _pause(change.fields, now))
    model = MODELS.get(change.subject, Job)
    fields = change.fields.items()
    found = [_difference(name, pair, model) for name, pair in fields if _is_pair(pair)]
    how = HOW.get(change.fields.get("how") or change.fields.get("to") or "", "")
    return ChangeRow(change, mark, by, str(how), differences=found)


def _pause(fields: dict[str, Any], now: datetime) -> str:
    here, language = timezone.get_current_timezone(), current_language()
    try:
        until = datetime.fromisoformat(fields["until"])
    except (KeyError, TypeError, ValueError):
        return ""
    said = _t("until %(at)s") % {"at": formats.moment(until, now, here, language)}
    note = fields.get("note")
    return f"{said} – {note}" if note else said


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _difference(name: str, pair: list[Any], model: type[Model] = Job) -> Difference:
    try:
        known = model._meta.get_field(name)  # noqa: SLF001 - its fields
    except FieldDoesNotExist:  # of an older version of the program
        known = None
    label = str(LABELS[name] if name in LABELS else getattr(known, "verbose_name", name))
    label = label[:1].upper() + label[1:]
    old, new = pair
    if name == NEVER_TOLD:
        return Difference(label, "", "", remark=_t("was changed"))
    if name in SECRET:
        return _of_names(label, old or [], new or [])
    said = _words_of(name, known if isinstance(known, Field) else None)
    return Difference(label, said(old)[:LONGEST], said(new)[:LONGEST], name in TYPED)


def _of_names(label: str, old: list[str], new: list[str]) -> Difference:
    """Return what became of names whose values nobody keeps."""
    if old == new:
        kept = _t("a value of %(names)s was changed") % {"names": ", ".join(new)}
        return Difference(label, "", "", remark=kept)
    return Difference(label, ", ".join(old), ", ".join(new), is_typed=True)


def _words_of(name: str, known: "Field[Any, Any] | None") -> Callable[[Any], str]:  # noqa: PLR0911
    """Return how values of a field are written."""
    language = current_language()
    if name == "schedule":
        return _schedule
    if known is not None and known.flatchoices:
        labels = {value: str(label) for value, label in known.flatchoices}
        return lambda value: labels.get(value, str(value or ""))
    if name.endswith("_seconds"):
        return lambda value: formats.duration(value, language) if value else _t("none")
    if name.endswith("_mb"):
        return lambda value: f"{formats.number(value, language)}{formats.NBSP}MB" if value else ""
    if name.endswith("_percent"):
        return lambda value: f"{value}{formats.NBSP}%" if value else ""
    if known is not None and known.get_internal_type() == "DateTimeField":
        return _instant
    return _plain


def _schedule(text: Any) -> str:
    """Return a schedule as it was written, with what it means; of which kind it is, it tells."""
    for kind in ("cron", "interval", "once"):
        try:
            plan = schedules.parse(kind, str(text or ""))
        except ScheduleError:
            continue
        return f"{text} ({plan.describe(current_language())})"
    return str(text or "")


def _instant(value: Any) -> str:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return ""
    here, language = timezone.get_current_timezone(), current_language()
    return f"{formats.day(at, here, language)}, {at.astimezone(here):%H:%M}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return _t("yes") if value else _t("no")
    if isinstance(value, dict):
        return ", ".join(f"{name} {weight}" for name, weight in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)

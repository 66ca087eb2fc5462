"""What a client sends, read strictly: types alone, and every slip named."""

import difflib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from daemon_app.api.errors import Fields, Problem

MOST_UNKNOWN_NAMED = 20
SHOWN_CHARACTERS = 60
LARGEST = 2**63 - 1
# One year of room at the end of time, so that each zone can show what is stored.
LAST_YEAR = 9998


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
        super().fail(
            key, words=", ".join(str(each) for each in self.choices if each != ""), **facts
        )

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


class _Named(Spoken, serializers.DictField):
    """An object, unchanged; the model judges what is in it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("type")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Variables(_Named):
    """Names with their texts."""

    child = serializers.CharField()
    default_error_messages: ClassVar = {
        "null": _('Give an object, for example {"LANG": "C"}; an empty one is written as {}.'),
        "type": _('Give an object, for example {"LANG": "C"}.'),
    }


class Weights(_Named):
    """Names of pools with how much of each a run takes."""

    child = serializers.IntegerField(min_value=1)
    default_error_messages: ClassVar = {
        "null": _('Give an object, for example {"gpu": 1}; an empty one is written as {}.'),
        "type": _('Give an object, for example {"gpu": 1}.'),
    }


class _Listed(Spoken, serializers.ListField):
    """A list, unchanged; the model judges what is in it."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if not isinstance(data, list):
            self.fail("type")
        return data

    def to_representation(self, data: Any) -> Any:
        return data


class ExitCodes(_Listed):
    """Exit codes."""

    child = serializers.IntegerField(min_value=1, max_value=255)
    default_error_messages: ClassVar = {
        "null": _("Give a list, for example [1, 75]; an empty one is written as []."),
        "type": _("Give a list, for example [1, 75]."),
    }


class CheckNames(_Listed):
    """Names of checks."""

    child = serializers.CharField()
    default_error_messages: ClassVar = {
        "null": _('Give a list, for example ["ollama"]; an empty one is written as [].'),
        "type": _('Give a list, for example ["ollama"].'),
    }


class Folders(_Listed):
    """Paths of folders."""

    child = serializers.CharField()
    default_error_messages: ClassVar = {
        "null": _('Give a list, for example ["/etc/bach"]; an empty one is written as [].'),
        "type": _('Give a list, for example ["/etc/bach"].'),
    }


class Instant(Spoken, serializers.DateTimeField):
    """An instant, ISO 8601: written in UTC, read with any zone but not without."""

    default_error_messages: ClassVar = {
        "null": _('Give an instant with its zone, for example "2026-12-24T18:00:00+01:00".'),
        "type": _('Give an instant with its zone, for example "2026-12-24T18:00:00+01:00".'),
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(default_timezone=UTC, **options)

    def to_internal_value(self, data: Any) -> datetime:
        try:
            instant = parse_datetime(data) if isinstance(data, str) else None
            if instant is None or instant.tzinfo is None:
                self.fail("type")
            instant = instant.astimezone(UTC)
        except (ValueError, OverflowError):  # the 30th of February; a time before the first
            self.fail("type")
        if instant.year > LAST_YEAR:
            self.fail("type")
        return instant


class InstantWord(Instant):
    """An instant in a query string, where a plus that nobody wrote as %2B arrives as a blank."""

    def to_internal_value(self, data: Any) -> datetime:
        return super().to_internal_value(data.replace(" ", "+") if "T" in data else data)


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


def one_line(text: str) -> str:
    """Return a name fit to be shown: on one line, without controls."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def nearest(word: str, known: Iterable[object]) -> str | None:
    """Return the one of the known words that somebody may have meant; None for none like it."""
    found = difflib.get_close_matches(word[:SHOWN_CHARACTERS], [str(k) for k in known], n=1)
    return found[0] if found else None

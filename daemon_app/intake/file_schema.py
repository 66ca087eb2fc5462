"""What a file of definitions may hold, as JSON Schema: editors complete and check fields by it."""

from __future__ import annotations

from typing import Any, Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from daemon_app.intake.definitions import FIELDS, FORMERLY, OF_A_POOL, PARTS, RULES, SECRET, default
from daemon_app.models import Job, Policy, Pool
from daemon_app.models.job import MAX_EXIT_CODE
from daemon_app.models.policy import SERVICES

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# What is taken as the text of a variable; null is the one that is there.
AS_TEXT: Final = ("string", "integer", "boolean", "null")
# What stands in lists and below names; the model judges the rest.
INSIDE: Final[dict[str, dict[str, Any]]] = {
    **{name: {"additionalProperties": {"type": list(AS_TEXT)}} for name in SECRET},
    "pools": {"additionalProperties": {"type": "integer", "minimum": 1}},
    "needs_services": {"items": {"enum": list(SERVICES)}},
    "retry_exit_codes": {"items": {"type": "integer", "minimum": 1, "maximum": MAX_EXIT_CODE}},
    "config_folders": {"items": {"type": "string"}},
}


def schema() -> dict[str, Any]:
    """Return the schema, with descriptions in the current language."""
    fields = {name: _of_field(Job, name) for name in FIELDS} | {FORMERLY: {"type": "string"}}
    size = _of_field(Pool, "size")
    pool = {name: _of_field(Pool, name) for name in OF_A_POOL if name != "name"}
    rules = {name: _of_field(Policy, name) for name in RULES}
    without_name = {name: field for name, field in fields.items() if name != "name"}
    parts: dict[str, Any] = {
        "jobs": {"type": "array", "items": {"$ref": "#/$defs/job"}},
        "pools": {"type": "object", "additionalProperties": {"anyOf": [size, _object(pool)]}},
        "policy": _object(rules),
        "defaults": _object(without_name),
    }
    several = _object({name: parts[name] for name in PARTS})
    return {
        "$schema": DIALECT,
        "title": "BACH",
        "if": {"required": ["name"]},
        "then": {"$ref": "#/$defs/job"},
        "else": {**several, "minProperties": 1},
        "$defs": {"job": {**_object(fields), "required": ["name"]}},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _of_field(model: type[models.Model], name: str) -> dict[str, Any]:
    found = model._meta.get_field(name)  # noqa: SLF001 - its fields
    assert isinstance(found, models.Field)
    kind = _kind(found)
    said: dict[str, Any] = {"type": [kind, "null"] if found.null else kind}
    told = [str(found.verbose_name), str(found.help_text)]
    said["description"] = ". ".join(each for each in told if each)
    if found.choices:
        said["enum"] = [value for value, _label in found.flatchoices]
    if found.max_length:
        said["maxLength"] = found.max_length
    for validator in found.validators:
        if isinstance(validator, MinValueValidator) and kind == "integer":
            said["minimum"] = max(validator.limit_value, said.get("minimum", validator.limit_value))
        elif isinstance(validator, MaxValueValidator) and kind == "integer":
            said["maximum"] = min(validator.limit_value, said.get("maximum", validator.limit_value))
    if name not in {"name", "timezone"}:  # the zone's is that of each machine
        said["default"] = default(name, model)
    return said | INSIDE.get(name, {})


def _kind(found: models.Field[Any, Any]) -> str:
    if isinstance(found, models.BooleanField):
        return "boolean"
    if isinstance(found, models.IntegerField):
        return "integer"
    if isinstance(found, models.JSONField):
        return "array" if isinstance(found.get_default(), list) else "object"
    return "string"

"""The REST interface, to be read: each operation with what to send and what comes back.

Made from the description that programs get, so both say the same.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from daemon_app.models.access import Role
from daemon_app.permissions import requires
from daemon_app.views.page import page

Schema = dict[str, Any]
ROOT: Final = "/api/daemon"
# In this order; what has another name comes after them.
TITLES: Final = {
    "daemon": _("Daemon"),
    "jobs": _("Jobs"),
    "runs": _("Runs"),
    "queue": _("Queue"),
    "calendar": _("Calendar"),
    "rules": _("Rules and pools"),
    "health": _("Health"),
    "presence": _("Presence"),
    "incidents": _("Incidents"),
    "tokens": _("Tokens"),
    "audit": _("Audit log"),
}
# What can happen to every request is told once.
EVERYWHERE: Final = frozenset({"400", "401", "403", "406", "413", "415", "429"})
FEW: Final = 16  # fields that are told where they are sent; more of them stand with the shapes
# What a line for a shell asks for, the most telling first.
TELLING: Final = (
    *("schedule", "q", "lines", "around", "check", "range", "state", "head", "at"),
    *("job_id", "since", "limit"),
)
KEY: Final = re.compile(r'^( *)("(?:[^"\\]|\\.)*")(: )', re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """Something that is sent or comes back; `shape` is the name of what is in it."""

    name: str
    kind: str
    text: str
    is_needed: bool = False
    shape: str = ""


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    status: str
    text: str
    code: str = ""
    shape: str = ""
    example: SafeString | str = ""


@dataclass(frozen=True)
class Operation:
    """One method of one address."""

    name: str
    method: str
    path: str
    summary: str
    paragraphs: list[str]
    role: str
    calls: list[tuple[str, str]]
    asked: list[Field]
    sent: list[Field]
    sent_shape: str
    answer: Answer | None
    others: list[Answer]


@dataclass
class Group:
    """The operations on one kind of thing."""

    name: str
    title: str
    operations: list[Operation] = field(default_factory=list)


@require_safe
@requires("view")
def reference(request: HttpRequest, described: Callable[[], Schema]) -> HttpResponse:
    """Show the whole interface; `described` returns its description."""
    told = described()
    groups = _groups(told)
    context = {
        "groups": groups,
        "errors": _errors(told),
        "shapes": _shapes(told),
        "count": sum(len(group.operations) for group in groups),
        "address": request.build_absolute_uri(ROOT),
        "file": f"{ROOT}/openapi.json",
    }
    return page(request, "daemon/reference.html", context, section="settings", now=timezone.now())


# ── Operations ───────────────────────────────────────────────────────────────────────────────────
def _groups(told: Schema) -> list[Group]:
    groups = {name: Group(name, str(title)) for name, title in TITLES.items()}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            name = operation.get("tags", [""])[0]
            group = groups.setdefault(name, Group(name, name.capitalize()))
            group.operations.append(_operation(told, method.upper(), path, operation))
    for group in groups.values():
        group.operations.sort(key=lambda each: not each.path.startswith(f"/{group.name}"))
    return [group for group in groups.values() if group.operations]


def _operation(told: Schema, method: str, path: str, operation: Schema) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    shape = _shape_of(body.get("schema", {}))
    sent = [*_fields(told, shape)] if shape else []
    answers = [*_answers(operation)]
    good = [answer for answer in answers if answer.status < "400"]
    return Operation(
        name=operation["operationId"],
        method=method,
        path=path.removeprefix(ROOT),
        summary=operation.get("summary", ""),
        paragraphs=operation.get("description", "").split("\n\n"),
        role=_role(operation),
        calls=_calls(method, path, operation, body),
        asked=[_parameter(each) for each in operation.get("parameters", [])],
        sent=sent if len(sent) <= FEW else [],
        sent_shape=shape,
        answer=good[0] if good else None,
        others=[*good[1:], *(each for each in answers if each.status not in EVERYWHERE | _good())],
    )


def _good() -> frozenset[str]:
    return frozenset(str(status) for status in range(100, 400))


def _role(operation: Schema) -> str:
    if {} in operation.get("security", []):
        return _t("everybody")
    return str(Role(operation["x-role"]).label) if "x-role" in operation else ""


def _calls(method: str, path: str, operation: Schema, body: Schema) -> list[tuple[str, str]]:
    """Return lines for a shell, each with what it is an example of."""
    bodies = [(each.get("summary", name), each["value"]) for name, each in _examples(body)]
    return [
        (title, _call(method, path, operation, value)) for title, value in bodies or [("", None)]
    ]


def _examples(body: Schema) -> Iterator[tuple[str, Schema]]:
    if "example" in body:
        yield "", {"value": body["example"]}
    yield from body.get("examples", {}).items()


def _call(method: str, path: str, operation: Schema, value: Any) -> str:
    parameters = operation.get("parameters", [])
    words = ["curl", '-H "$AUTH"']
    if value is not None:
        words.append('-H "$JSON"')
    if method != ("GET" if value is None else "POST"):
        words += ["-X", method]
    for each in parameters:
        if each["in"] == "header" and each["name"] == "Idempotency-Key":
            words.append(f'-H "{each["name"]}: {each["example"]}"')
    words.append(_address(path, parameters))
    if value is not None:
        words += ["-d", shlex.quote(json.dumps(value, ensure_ascii=False))]
    return " ".join(words)


def _address(path: str, parameters: list[Schema]) -> str:
    """Return an address as an example, with two of what may stand behind its question mark."""
    query: dict[str, Any] = {}
    for each in sorted(parameters, key=_rank):
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", quote(str(each["example"])))
        elif each["in"] == "query" and len(query) < 2 and each["name"] in TELLING:
            query[each["name"]] = each["example"]
    address = f"$API{path.removeprefix(ROOT)}"
    return f'"{address}?{urlencode(query, safe=":")}"' if query else address


def _rank(parameter: Schema) -> tuple[bool, int]:
    """Return where a parameter stands among those that an example has room for."""
    name = parameter["name"]
    return not parameter.get("required"), TELLING.index(name) if name in TELLING else len(TELLING)


def _parameter(parameter: Schema) -> Field:
    where = {"path": _t("address"), "query": _t("query"), "header": _t("header")}[parameter["in"]]
    return Field(
        parameter["name"],
        f"{where} · {_kind(parameter['schema'])}",
        parameter.get("description", ""),
        is_needed=parameter.get("required", False),
    )


def _answers(operation: Schema) -> Iterator[Answer]:
    for status, answer in sorted(operation["responses"].items()):
        content: Schema = next(iter(answer.get("content", {}).values()), {})
        example = content.get("example", "")
        if not example:
            example = next((each["value"] for _name, each in _examples(content)), "")
        is_error = isinstance(example, dict) and "error" in example and status >= "400"
        yield Answer(
            status,
            answer.get("description", ""),
            code=example["error"]["code"] if is_error else "",
            shape=_shape_of(content.get("schema", {})),
            example=example if isinstance(example, str) else _coloured(example),
        )


def _coloured(value: Any) -> SafeString:
    """Return JSON with its names marked."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    parts = []
    end = 0
    for found in KEY.finditer(text):
        parts += [(text[end : found.start(2)], found[2])]
        end = found.end(2)
    return format_html("{}{}", format_html_join("", "{}<b>{}</b>", parts), text[end:])


# ── Shapes ───────────────────────────────────────────────────────────────────────────────────────
def _shapes(told: Schema) -> list[tuple[str, str, list[Field]]]:
    """Return all objects that are sent or come back: name, text, fields."""
    found = told["components"]["schemas"]
    return [
        (name, " ".join(shape.get("description", "").split()), [*_fields(told, name)])
        for name, shape in sorted(found.items())
        if "properties" in shape
    ]


def _fields(told: Schema, shape: str) -> Iterator[Field]:
    found = told["components"]["schemas"][shape]
    needed = found.get("required", [])
    is_sent = shape.endswith("Request")
    for name, each in found.get("properties", {}).items():
        inner = _shape_of(each)
        yield Field(
            name,
            _kind(each, told["components"]["schemas"]),
            each.get("description", ""),
            is_needed=is_sent and name in needed,
            shape=inner if "properties" in told["components"]["schemas"].get(inner, {}) else "",
        )


def _shape_of(schema: Schema) -> str:
    """Return the name of the shape that a schema is, or is a list of; empty for none."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    inside = [*schema.get("allOf", []), *schema.get("oneOf", []), schema.get("items")]
    more = schema.get("additionalProperties")
    for each in [*inside, more]:
        if isinstance(each, dict) and (found := _shape_of(each)):
            return found
    return ""


def _kind(schema: Schema, shapes: Mapping[str, Schema] | None = None) -> str:
    """Return what a value may be, in a few words that programs use, too."""
    shapes = shapes or {}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _kind(shapes.get(name, {"type": "object"}), shapes)
    for several in ("allOf", "oneOf", "anyOf"):
        if several in schema:
            return " | ".join(dict.fromkeys(_kind(each, shapes) for each in schema[several]))
    if "enum" in schema:
        return " | ".join("null" if each is None else str(each) or '""' for each in schema["enum"])
    kinds = schema.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    words = ["instant" if schema.get("format") == "date-time" else kinds[0]]
    if kinds[0] == "array":
        words = [f"[{_kind(schema['items'], shapes)}]"]
    elif kinds[0] == "object" and isinstance(schema.get("additionalProperties"), dict):
        words = [f"{{name: {_kind(schema['additionalProperties'], shapes)}}}"]
    return " | ".join([*words, *kinds[1:]])


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────
def _errors(told: Schema) -> list[tuple[str, str, str, str]]:
    """Return each refusal once: status, code, meaning, and what people are told."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for methods in told["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    error = status >= "400" and content.get("example", {}).get("error")
                    if error:
                        key = (status, error["code"])
                        found.setdefault(key, (answer["description"], error["message"]))
    return [(status, code, *said) for (status, code), said in sorted(found.items())]

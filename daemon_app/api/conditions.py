"""What the description says of ETags, conditions and ranges (a hook of its maker)."""

import re
from typing import Any

from django.conf import settings
from django.utils import translation

from daemon_app.api.preconditions import changed
from daemon_app.api.urls import urlpatterns
from daemon_app.models.policy import POOL_NAME

Schema = dict[str, Any]

TAG = r'(W/)?"[!#-~]*"'
TAGS = rf"^(\*|{TAG}(\s*,\s*{TAG})*)$"
ETAG: Schema = {
    "description": "What this answer is known by, in If-None-Match; in If-Match the version in it.",
    "schema": {"type": "string"},
}
IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "schema": {"type": "string", "pattern": TAGS},
    "example": '"5f0eae9b1c"',
}
IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "description": "Only if it is as this ETag says, or bears this version; * for any.",
    "schema": {"type": "string", "pattern": TAGS},
    "example": "*",
}
RANGE: Schema = {
    "name": "Range",
    "in": "header",
    "description": "A range of the body; of several all of it is sent.",
    "schema": {"type": "string"},
    "example": "bytes=0-99",
}
IF_RANGE: Schema = {
    "name": "If-Range",
    "in": "header",
    "description": "The range only if the body still bears this ETag; else all of it.",
    "schema": {"type": "string"},
    "example": '"5f0eae9b1c"',
}
UNITS: Schema = {"description": "In what ranges count.", "schema": {"const": "bytes"}}
CONTENT_RANGE: Schema = {
    "description": "Which bytes these are, and of how many.",
    "schema": {"type": "string"},
    "example": "bytes 0-99/5120",
}
KNOWN = "ETags of answers that are known already."
ONLY_NEW = "* to make it only if there is none; ETags of what is not to be changed."
CHANGED: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "fields": {"type": "object"},
                "version": {
                    "type": ["string", "null"],
                    "description": "The present one; null: there is nothing of this name.",
                },
            },
            "required": ["code", "message", "fields", "version"],
        }
    },
    "required": ["error"],
}


def describe(result: Schema, **_about: Any) -> Schema:
    """Return the description with what is asked and told of versions."""
    result["components"]["schemas"]["ChangedMeanwhile"] = CHANGED
    heeded = {*_heeded()}
    for path, methods in result["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            if method == "get" and "application/json" in answers["200"]["content"]:
                answers["200"].setdefault("headers", {})["ETag"] = ETAG
                answers["304"] = {"description": "It is known already.", "headers": {"ETag": ETAG}}
                _ask(operation, IF_NONE_MATCH | {"description": KNOWN})
            if (method.upper(), path) in heeded:
                answers["412"] = _refused()
                _ask(operation, IF_MATCH)
                _ask(operation, IF_NONE_MATCH | {"description": ONLY_NEW})
            if "206" in answers:
                answers["200"]["headers"] |= {"ETag": ETAG, "Accept-Ranges": UNITS}
                answers["206"]["headers"] = {"ETag": ETAG, "Content-Range": CONTENT_RANGE}
                answers["416"]["headers"] = {"Content-Range": CONTENT_RANGE}
                answers["304"] = {"description": "It is known already.", "headers": {"ETag": ETAG}}
                _ask(operation, IF_NONE_MATCH | {"description": KNOWN})
                _ask(operation, RANGE)
                _ask(operation, IF_RANGE)
            for parameter in operation.get("parameters", []):
                if (parameter["in"], parameter["name"]) == ("path", "name"):
                    parameter["schema"]["pattern"] = f"^{POOL_NAME.pattern}$"
            operation["responses"] = dict(sorted(answers.items()))
    return result


def _ask(operation: Schema, parameter: Schema) -> None:
    operation.setdefault("parameters", []).append(parameter)


def _refused() -> Schema:
    with translation.override(settings.LANGUAGE_CODE):
        problem = changed("13")
    body = {"code": problem.code, "message": problem.message, "fields": {}} | problem.more
    content = {
        "schema": {"$ref": "#/components/schemas/ChangedMeanwhile"},
        "example": {"error": body},
    }
    return {
        "description": "It is no longer as If-Match says.",
        "content": {"application/json": content},
    }


def _heeded() -> list[tuple[str, str]]:
    """Return (method, path) of each change that heeds conditions."""
    found = []
    for pattern in (each for each in urlpatterns if each.name):
        view: Any = getattr(pattern.callback, "view_class")  # noqa: B009 - Django adds it
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern)).replace("{pk}", "{id}")
        found += [(method, f"/api/daemon/{path}") for method in view.conditional]
    return found

"""The description of this interface, OpenAPI 3.1, at /api/daemon/openapi.json."""

from functools import cache
from typing import Any, ClassVar

from django.conf import settings
from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from daemon_app.api.endpoint import Endpoint
from daemon_app.api.examples import operations
from daemon_app.api.serializers import RunSerializer

SEED_JOB = {
    "name": "mein-job",
    "job_type": "interval",
    "schedule": "1h",
    "command": "python tools/mein_script.py",
}


def _error(name: str, **more: serializers.Field[Any, Any, Any, Any]) -> Any:
    body = inline_serializer(
        f"{name}Body",
        {
            "code": serializers.CharField(help_text="For programs; does not change."),
            "message": serializers.CharField(help_text="For people, in German."),
            "fields": serializers.DictField(
                child=serializers.ListField(child=serializers.CharField()),
                help_text="What is wrong with each field; empty when none is to blame.",
            ),
            **more,
        },
    )
    return inline_serializer(name, {"error": body})


Schema = dict[str, Any]

ERROR = _error("Error")
NOT_STARTED = _error("NotStarted", blocking_run=RunSerializer(allow_null=True))

MEANINGS = {
    400: "What was sent can't be right; the fields say why.",
    401: "Nobody is signed in, or the token is not valid.",
    403: "The role does not suffice.",
    404: "There is no such thing.",
    406: "Only JSON is to be had.",
    409: "The present state does not allow it.",
    410: "It has been tidied away.",
    413: "The body is larger than 256 KiB.",
    415: "The body is not application/json.",
    416: "There is no byte in this range.",
    429: "Too many requests within a minute; Retry-After says when to go on.",
    503: "No room for one more that follows, or the database is not ready; try again later.",
}
# Headers of answers, which of them come with a status, and which with that of an operation.
HEADS: Schema = {
    "Location": {
        "description": "Where to look after it.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "After how many seconds to try again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to sign in.",
        "schema": {"type": "string"},
    },
}
HEADERS_OF: dict[str, tuple[str, ...]] = {
    "201": ("Location",),
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
HEADERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("run_job", "200"): ("Location",),
    ("run_job", "202"): ("Location",),
}


def answers(success: dict[Any, Any], *errors: int, changes: bool = False) -> dict[Any, Any]:
    """Return the answers of an operation: its own, and the errors that can happen to it.

    `changes`: it takes a body, with what can be wrong with bodies.
    """
    codes = sorted({400, 401, 403, 406, 429, *errors} | ({413, 415} if changes else set()))
    return {code: OpenApiResponse(ERROR, MEANINGS[code]) for code in codes} | success


def complete(result: Schema, **_about: Any) -> Schema:
    """Return the description with what no serializer says (a hook of its maker)."""
    shapes: dict[str, Schema] = result["components"]["schemas"]
    for operation in operations(result):
        for code, answer in operation["responses"].items():
            for name in HEADERS.get((operation["operationId"], code), HEADERS_OF.get(code, ())):
                answer.setdefault("headers", {}).setdefault(name, HEADS[name])
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body and "$ref" in body["schema"]:
            # A name that is not known is refused: a slip must not look like success.
            shapes[body["schema"]["$ref"].rpartition("/")[2]]["additionalProperties"] = False
    return result


class _Token(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "daemon_app.api.authentication.BearerToken"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "bach_<id>_<secret>"}


class _Session(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "daemon_app.api.authentication.SameOriginSession"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "Our own pages. Changes also need X-CSRFToken and the exact Origin.",
        }


class OpenAPI(Endpoint):
    """The description of all the others."""

    rights: ClassVar = {"GET": "view"}

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """Return the description; it does not change while the server runs."""
        return Response(description())


@cache
def description() -> dict[str, Any]:
    """Return the whole description. Written for developers, in English."""
    with translation.override("en"):
        generator = SchemaGenerator()  # type: ignore[no-untyped-call]
        found: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found

"""Everything that goes wrong, in one shape: {"error": {"code", "message", "fields"}}."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import IntegrityError
from django.http import Http404
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions
from rest_framework.response import Response

from daemon_app import database
from daemon_app.models import Job, Pool

log = logging.getLogger(__name__)

Fields = dict[str, list[str]]

# What the frameworks raise: the kinds, status, code and text. The first that fits counts.
KNOWN: Final = (
    (
        exceptions.AuthenticationFailed,
        401,
        "invalid_token",
        _("This token is unknown, has expired or was revoked."),
    ),
    (
        exceptions.NotAuthenticated,
        401,
        "not_signed_in",
        _("Not signed in. Send a token: “Authorization: Bearer bach_…”."),
    ),
    (
        (PermissionDenied, exceptions.PermissionDenied),
        403,
        "forbidden",
        _("You may not do this."),
    ),
    (
        (Http404, exceptions.NotFound),
        404,
        "not_found",
        _("There is nothing at this address."),
    ),
    (
        exceptions.NotAcceptable,
        406,
        "not_acceptable",
        _("Only JSON is to be had here. Ask with “Accept: application/json”."),
    ),
    (
        IntegrityError,
        409,
        "conflict",
        _("Somebody else changed this at the same moment. Please try again."),
    ),
    (
        RequestDataTooBig,
        413,
        "too_large",
        _("The body is too large: at most 256 KiB are accepted."),
    ),
    (
        exceptions.UnsupportedMediaType,
        415,
        "unsupported_media_type",
        _("Only JSON is accepted here. Send “Content-Type: application/json”."),
    ),
    (
        exceptions.Throttled,
        429,
        "too_many",
        _("Too many requests. Try again in a while."),
    ),
    (
        (SuspiciousOperation, exceptions.ParseError),
        400,
        "bad_request",
        _("This request can't be understood."),
    ),
)


# A name that is given away already, by model, in the words of the forms.
TAKEN: Final = {
    Job: _("There is a job with this name already."),
    Pool: _("There is a pool with this name already."),
}


class Problem(exceptions.APIException):
    """An answer other than the one asked for. `more` goes into the answer beside the message."""

    def __init__(
        self,
        status_code: int,
        code: str,
        message: str,
        *,
        fields: Fields | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message, code)
        self.status_code = status_code
        self.code = code
        self.message = message
        self.fields = fields or {}
        self.headers = headers or {}
        self.more = more


def refused(fields: Fields) -> Problem:
    """Return the answer to input that can't be right; `fields` says what is wrong with each."""
    names = ", ".join(fields)
    return Problem(
        400,
        "invalid",
        _t("Please check: %(fields)s.") % {"fields": names},
        fields=fields,
    )


def by_field(error: ValidationError) -> Fields:
    """Return a model's refusal as messages by field; what concerns no single field stands first."""
    if not hasattr(error, "error_dict"):
        return {NON_FIELD_ERRORS: list(error.messages)}
    return {
        name: [message for each in errors for message in _said(each)]
        for name, errors in error.error_dict.items()
    }


def _said(error: ValidationError) -> list[str]:
    if error.code == "unique" and error.params:
        model = error.params["model_class"]
        if model in TAKEN:
            return [str(TAKEN[model])]
    return list(error.messages)


def handle(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Return the answer to any exception a view raised (REST_FRAMEWORK's EXCEPTION_HANDLER)."""
    problem = _problem(exc, context)
    headers = {**problem.headers}
    challenge = getattr(exc, "auth_header", None)
    if challenge:
        if isinstance(exc, exceptions.AuthenticationFailed):
            challenge += ', error="invalid_token"'
        headers["WWW-Authenticate"] = challenge
    wait = getattr(exc, "wait", None)
    if wait:
        headers["Retry-After"] = str(int(wait))
    body = {"code": problem.code, "message": problem.message, "fields": problem.fields}
    return Response({"error": body | problem.more}, status=problem.status_code, headers=headers)


def _problem(exc: Exception, context: Mapping[str, Any]) -> Problem:
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, ValidationError):
        return refused(by_field(exc))
    if isinstance(exc, exceptions.MethodNotAllowed):
        methods = ", ".join(context["view"].allowed_methods)
        message = _t("This method is not possible here. Possible are: %(methods)s.")
        return Problem(405, "method_not_allowed", message % {"methods": methods})
    for kind, status_code, code, text in KNOWN:
        if isinstance(exc, kind):
            return Problem(status_code, code, str(text))
    if database.is_not_ready(exc):
        words = _t("The server is not ready yet. Try again in a few seconds.")
        return Problem(503, "not_ready", words, headers={"Retry-After": "5"})
    log.error("%s %s failed", *_request_line(context), exc_info=exc)
    return Problem(
        500, "failed", _t("Something went wrong here. The log of the web server says what.")
    )


def _request_line(context: Mapping[str, Any]) -> tuple[str, str]:
    request = context.get("request")
    return (request.method, request.path) if request else ("?", "?")

"""What all endpoints share: rights, strict bodies, strict query strings."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _t
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from daemon_app.api import preconditions
from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import SHOWN_CHARACTERS, Strict
from daemon_app.api.parsers import StrictJSON
from daemon_app.api.throttle import Reads, Writes
from daemon_app.models import Account, Run, Token

CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)


class Endpoint(APIView):
    """An address of the interface. `rights`: method → right; what is not listed is denied."""

    rights: ClassVar[Mapping[str, str]] = {}
    # What may stand behind the question mark of a GET; each name is one of this class's fields.
    query_class: ClassVar[type[Strict]] = Strict
    parser_classes = (StrictJSON,)
    throttle_classes = (Writes, Reads)
    # Methods that heed If-Match and If-None-Match; the other changes refuse them.
    conditional: ClassVar[frozenset[str]] = frozenset()

    query: dict[str, Any]
    # Of what the answer shows, where it has one: the part of its ETag that If-Match looks at.
    version: str | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in who may, then refuse what is not well formed."""
        super().initial(request, *args, **kwargs)
        self.now = timezone.now()
        preconditions.check(request, heeds=request.method in self.conditional)
        if request.method not in SAFE_METHODS:
            _require_json(request)
        self.query, wrong = self.query_class().read(
            dict(request.query_params.items()), kind="parameter"
        )
        for name, values in request.query_params.lists():
            if len(values) > 1:
                wrong[name[:SHOWN_CHARACTERS]] = [_t("Give this parameter once.")]
        if wrong:
            raise refused(wrong)

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Give what is shown its ETag, or say that whoever asks has it already."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        for name, value in getattr(request, "allowance", {}).items():
            answer[name] = value
        if hasattr(answer, "add_post_render_callback"):  # output of a run is no such answer
            answer.add_post_render_callback(
                partial(preconditions.tagged, request, version=self.version)
            )
        return answer

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer with the methods there are, in the header Allow."""
        return Response(status=204)


def _require_json(request: Request) -> None:
    # An empty body needs no type, but a wrong type is refused even so: a page elsewhere can send
    # forms and plain text without being asked first.
    media_type, _semicolon, rest = request.content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type and media_type != StrictJSON.media_type:
        raise UnsupportedMediaType(media_type)
    charset = CHARSET.search(rest)
    if charset and charset[1].lower() not in {"utf-8", "utf8"}:
        raise Problem(415, "unsupported_media_type", _t("Send the body in UTF-8."))
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        words = _t("Send the body as it is, without “Content-Encoding”.")
        raise Problem(415, "unsupported_media_type", words)
    if not media_type and request.headers.get("Content-Length", "0") not in {"", "0"}:
        raise UnsupportedMediaType(media_type)
    if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
        raise Problem(411, "length_required", _t("Send the body's length: “Content-Length”."))


def asking(request: Request) -> str:
    """Return the name of whoever asks, for the record."""
    account = request.user
    assert isinstance(account, Account)  # nobody else passes ByRole
    return account.get_username()


def may(request: Request, right: str) -> bool:
    """Return whether whoever asks has a right; who has not signed in has none."""
    who = request.auth or request.user
    return isinstance(who, Account | Token) and who.can(right)


def trigger_of(request: Request) -> Run.Trigger:
    """Return how a run started by this request came about."""
    return Run.Trigger.API if request.auth else Run.Trigger.MANUAL


def following(request: Request, **cursor: int | str) -> str:
    """Return the address of the next page: this one's, from `cursor` on."""
    query = request.query_params.copy()
    for name, value in cursor.items():
        query[name] = str(value)
    return f"{request.path}?{query.urlencode()}"

"""What all endpoints share: rights, strict bodies, strict query strings."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _t
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from daemon_app.api.errors import Problem, refused
from daemon_app.api.fields import Strict
from daemon_app.api.parsers import StrictJSON
from daemon_app.api.throttle import Writes
from daemon_app.models import Account, Run, Token


class Endpoint(APIView):
    """An address of the interface. `rights`: method → right; what is not listed is denied."""

    rights: ClassVar[Mapping[str, str]] = {}
    # What may stand behind the question mark of a GET; each name is one of this class's fields.
    query_class: ClassVar[type[Strict]] = Strict
    parser_classes = (StrictJSON,)
    throttle_classes = (Writes,)

    query: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in who may, then refuse what is not well formed."""
        super().initial(request, *args, **kwargs)
        self.now = timezone.now()
        if request.method not in SAFE_METHODS:
            _require_json(request)
        self.query, wrong = self.query_class().read(
            dict(request.query_params.items()), kind="parameter"
        )
        if wrong:
            raise refused(wrong)

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer with the methods there are, in the header Allow."""
        return Response(status=204)


def _require_json(request: Request) -> None:
    # An empty body needs no type, but a wrong type is refused even so: a page elsewhere can send
    # forms and plain text without being asked first.
    media_type = request.content_type.partition(";")[0].strip().lower()
    if media_type and media_type != StrictJSON.media_type:
        raise UnsupportedMediaType(media_type)
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


def following(request: Request, **cursor: int) -> str:
    """Return the address of the next page: this one's, from `cursor` on."""
    query = request.query_params.copy()
    for name, value in cursor.items():
        query[name] = str(value)
    return f"{request.path}?{query.urlencode()}"

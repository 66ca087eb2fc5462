"""JSON bodies, within bounds and of one meaning."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.utils.translation import gettext as _t
from rest_framework.parsers import BaseParser

from daemon_app.api.errors import Problem

MAX_DEPTH = 32
SHOWN_CHARACTERS = 60


class StrictJSON(BaseParser):
    """Reads UTF-8 JSON: bounded in size and depth, each name once, no NaN, no half characters."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value a body holds. Raises Problem when it is none we take."""
        body = stream.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if len(body) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise RequestDataTooBig
        try:
            value = json.loads(
                body.decode(), parse_constant=_no_constant, object_pairs_hook=_once_each
            )
        except RecursionError:
            raise _too_deep() from None
        except json.JSONDecodeError as error:
            raise _malformed(
                _t("The body is not valid JSON (line %(line)s, column %(column)s).")
                % {"line": error.lineno, "column": error.colno}
            ) from None
        except UnicodeDecodeError:
            raise _malformed(_t("The body is not valid UTF-8.")) from None
        except ValueError:
            raise _malformed(_t("The body holds a number that is none or too long.")) from None
        if isinstance(value, dict | list) and _depth_exceeds(value, MAX_DEPTH):
            raise _too_deep()
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # Half a surrogate pair can be written as \ud800, but neither stored nor sent back.
            raise _malformed(
                _t("The body holds half a character (an unpaired surrogate).")
            ) from None
        return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _depth in range(limit):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for some in inside for inner in some if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two is meant nobody knows, and programs on the way may take the other one.
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice = Counter(name for name, _value in pairs).most_common(1)[0][0]
    shown = twice[:SHOWN_CHARACTERS].encode(errors="replace").decode()
    raise Problem(
        400,
        "duplicate_name",
        _t("The body holds the name “%(name)s” twice in one object.") % {"name": shown},
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _malformed(message: str) -> Problem:
    return Problem(400, "malformed", message)


def _too_deep() -> Problem:
    return Problem(
        400,
        "too_deep",
        _t("The body is nested too deeply: at most %(n)s levels.") % {"n": MAX_DEPTH},
    )

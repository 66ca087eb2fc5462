"""Long lists in pages: each says where the next one is, and what comes or goes moves no row.

The place is the last row that was shown, never a count: the thousandth page costs what the first
does.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db.models import CharField, DateTimeField, F, Field, IntegerField, Model, Q, QuerySet
from django.utils.translation import gettext as _t
from rest_framework.request import Request

from daemon_app.api.endpoint import following
from daemon_app.api.errors import refused

LONGEST_CURSOR = 600
# What stands in a cursor for each kind of field that lists are sorted by.
KINDS = ((DateTimeField, datetime), (IntegerField, int), (CharField, str))
Row = TypeVar("Row", bound=Model)


def newest_first(
    request: Request, rows: QuerySet[Row], query: Mapping[str, Any]
) -> tuple[list[Row], str | None]:
    """Return the rows that `before` and `limit` of a query ask for, 50 unless it says how many.

    And the address of the next page; None: there is none.
    """
    limit = query.get("limit", 50)
    if "before" in query:
        rows = rows.filter(pk__lt=query["before"])
    found = list(rows.order_by("-pk")[: limit + 1])
    shown = found[:limit]
    return shown, following(request, before=shown[-1].pk) if len(found) > limit else None


def page_of(rows: QuerySet[Row], order: str, limit: int, cursor: str) -> tuple[list[Row], str]:
    """Return the rows after `cursor` by the field `order`, and the cursor of the next page.

    `order` is the name of a field, "-" before it for the other way round; rows of which it is null
    come last, those that have the same by their number. "" is the first page, and that there is no
    other. Raises Problem for a cursor that is none of this order.
    """
    field, down = order.removeprefix("-"), order.startswith("-")
    first = F(field).desc(nulls_last=True) if down else F(field).asc(nulls_last=True)
    rows = rows.order_by(first, "pk")
    if cursor:
        sorted_by: Any = getattr(rows.model, field).field
        rows = rows.filter(_after(field, *_place(cursor, order, sorted_by), down=down))
    found = list(rows[: limit + 1])
    shown = found[:limit]
    if len(found) <= limit:
        return shown, ""
    last = shown[-1]
    return shown, _cursor(order, getattr(last, field), last.pk)


def _after(field: str, value: Any, pk: int, *, down: bool) -> Q:
    if value is None:
        return Q((f"{field}__isnull", True), pk__gt=pk)
    beyond = Q((f"{field}__{'lt' if down else 'gt'}", value)) | Q((field, value), pk__gt=pk)
    return beyond | Q((f"{field}__isnull", True))


def _cursor(order: str, value: Any, pk: int) -> str:
    if isinstance(value, datetime):
        value = {"at": value.isoformat()}
    text = json.dumps([order, value, pk], ensure_ascii=False, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str, order: str, field: "Field[Any, Any]") -> tuple[Any, int]:
    """Return the value and the number that a cursor says."""
    try:
        padded = cursor[:LONGEST_CURSOR] + "=" * (-len(cursor) % 4)
        of, value, pk = json.loads(urlsafe_b64decode(padded.encode("ascii")))
        if isinstance(value, dict):
            value = datetime.fromisoformat(value["at"])
        if of == order and _fits(value, field) and _is_number(pk):
            return value, pk
    except (ValueError, KeyError, TypeError, OverflowError, BinasciiError, RecursionError):
        pass
    said = _t("This is no place in this list. Begin at the first page, without “cursor”.")
    raise refused({"cursor": [said]})


def _fits(value: Any, field: "Field[Any, Any]") -> bool:
    """Return whether `field` can hold a value; raises as arithmetic does for one beyond time."""
    if value is None:
        return field.null
    if not any(isinstance(field, of) and type(value) is kind for of, kind in KINDS):
        return False
    if isinstance(value, datetime):
        return value.astimezone(UTC) is not None and value.tzinfo is not None
    return "\0" not in value if isinstance(value, str) else _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63

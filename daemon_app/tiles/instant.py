"""What several regions of one page ask in the same instant is asked once."""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import wraps
from threading import get_ident
from typing import TypeVar

from django.db import connection
from django.utils import translation

Answer = TypeVar("Answer")
KEPT = 8  # answers: pages are made side by side, and in two languages


def once(question: Callable[[datetime], Answer]) -> Callable[[datetime], Answer]:
    """Let a question about `now` be asked once by each thread for each `now` and language.

    The regions of a page, and those that the hub renders together, are all of one instant. Inside
    a transaction each asks for itself: it may have changed something since.
    """
    kept: OrderedDict[tuple[int, str | None, str, datetime], Answer] = OrderedDict()

    @wraps(question)
    def asked(now: datetime) -> Answer:
        if connection.in_atomic_block:
            return question(now)
        database = str(connection.settings_dict["NAME"])
        key = (get_ident(), translation.get_language(), database, now)
        if key in kept:
            with suppress(KeyError):  # another thread's answer has pushed it out
                return kept[key]
        kept[key] = answer = question(now)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return answer

    return asked

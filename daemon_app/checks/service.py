"""What the answer of a service says of it, and how its numbers are taken with a pinch of salt."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from daemon_app.fetch import Answer, Kind, Why
from daemon_app.readings import Reading, State, storable

STATES: Final = {
    Kind.OK: State.OK,
    Kind.DOWN: State.DOWN,
    Kind.TIMEOUT: State.UNKNOWN,
    Kind.NONSENSE: State.UNKNOWN,
}
# What a service may say of itself in `status`. Any other word is taken for well.
ILL: Final = {"critical", "down", "error", "fail", "failed", "failing", "unavailable", "unhealthy"}
MOST_LISTED: Final = 100
LONGEST: Final = 200  # characters of a name


class OddError(ValueError):
    """An answer in JSON that does not have the form it should have."""


def reading(name: str, url: str, answer: Answer, *, seconds: float, slow_ms: int) -> Reading:
    """Return what `answer` says of the service at `url`, which was given `seconds`.

    The value is the time to the answer in milliseconds.
    """
    facts = {"url": shown(url), "seconds": seconds, "status": answer.status}
    took = round(answer.seconds * 1000, 1)
    if answer.kind is not Kind.OK:
        state, code = STATES[answer.kind], f"service_{answer.why}"
        return Reading(name, state, None, code, facts, answer.said, answer.seconds)
    if slow_ms <= took:
        facts |= {"ms": round(took), "limit": slow_ms}
        return Reading(name, State.SLOW, took, "service_slow", facts, "", answer.seconds)
    facts["ms"] = round(took)
    return Reading(name, State.OK, took, "service_ok", facts, "", answer.seconds)


def odd(name: str, url: str, answer: Answer, code: str = "service_odd") -> Reading:
    """Return the reading of a service whose JSON makes no sense."""
    facts = {"url": shown(url), "status": answer.status}
    return Reading(name, State.UNKNOWN, None, code, facts, answer.said, answer.seconds)


def why_not(answer: Answer) -> str:
    """Return the code of why an answer can't be used."""
    return f"service_{answer.why}" if answer.why is not Why.NOTHING else "service_odd"


def shown(url: str) -> str:
    """Return an address without the name and password that may stand in it."""
    return re.sub(r"//[^/?#]*@", "//", url, count=1)


# ── Values, for which no service is believed ─────────────────────────────────────────────────────
def table(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object; raises OddError."""
    if not isinstance(value, dict):
        raise OddError("not an object")
    return value


def rows(value: Any) -> list[Mapping[str, Any]]:
    """Return the first objects of a list; raises OddError for anything else, or in it."""
    if not isinstance(value, list):
        raise OddError("not a list")
    return [table(each) for each in value[:MOST_LISTED]]


def amount(value: Any) -> float:
    """Return a number that is finite and not negative; raises OddError."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number) and number >= 0:
                return number
    except OverflowError:
        pass
    raise OddError("not an amount")


def name_in(row: Mapping[str, Any], *keys: str) -> str:
    """Return the name under the first of `keys` that is there; raises OddError without one.

    What can't be kept of it is left out.
    """
    for key in keys:
        if isinstance(value := row.get(key), str) and value:
            return storable(value[:LONGEST]) or "?"
    raise OddError("no name")


def plain(value: Any) -> str | float | None:
    """Return a number or a short text as it is, None for anything else."""
    if isinstance(value, str):
        return storable(value[:LONGEST])
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15:
        return value
    return None

"""A systemd timer with its service, read as far as a schedule of ours can say the same.

See systemd.timer(5), systemd.time(7), systemd.exec(5). What is not understood is never guessed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST: Final = 100_000  # characters of a unit

SHORTHANDS: Final = {
    "minutely": "* * * * *",
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * MON",
    "monthly": "0 0 1 * *",
    "quarterly": "0 0 1 1,4,7,10 *",
    "semiannually": "0 0 1 1,7 *",
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
}
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}
SPAN = re.compile(r"(?:\s*\d+\s*[a-z]*)+", re.ASCII)
PART = re.compile(r"(\d+)\s*([a-z]*)", re.ASCII)
# A value of a calendar field: *, 5, 1,15, 8..17, 0/15, 8..17/2
VALUE = re.compile(
    r"(?:\*|\d+(?:\.\.\d+)?)(?:/\d+)?(?:,(?:\*|\d+(?:\.\.\d+)?)(?:/\d+)?)*", re.ASCII
)


class UnreadableError(Exception):
    """What a unit says can't be said by a schedule of ours; `code` tells why."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


@dataclass(frozen=True)
class Timer:
    """When a timer starts its service, as kind and text of our schedules."""

    kind: str  # "cron" or "interval"
    schedule: str
    timezone: str = ""
    is_persistent: bool = False
    is_random: bool = False  # RandomizedDelaySec
    description: str = ""
    unit: str = ""  # the service's name where it is not the timer's


@dataclass(frozen=True)
class Service:
    """What a service runs. `user` is "" for that of the service manager."""

    commands: tuple[str, ...]
    user: str = ""
    folder: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    timeout_seconds: int | None = None


def unit(text: str) -> dict[str, dict[str, list[str]]]:
    """Return {section: {key: [values]}} of a unit file. Raises UnreadableError."""
    if len(text) > LONGEST or "\0" in text:
        raise UnreadableError("unit_odd")
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    whole = re.sub(r"\\\n[ \t]*", " ", text)
    for raw in whole.split("\n"):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise UnreadableError("unit_odd", line[:100])
        values = section.setdefault(key.strip(), [])
        if value.strip():
            values.append(value.strip())
        else:
            values.clear()  # an empty value begins anew
    return found


def timer(text: str) -> Timer:
    """Return what a .timer unit says. Raises UnreadableError."""
    parts = unit(text)
    told = parts.get("Timer", {})
    calendars = told.get("OnCalendar", [])
    repeats = [*told.get("OnUnitActiveSec", []), *told.get("OnUnitInactiveSec", [])]
    if len(calendars) + len(repeats) > 1:
        raise UnreadableError("timer_several")
    if calendars:
        kind, (schedule, zone) = "cron", calendar(calendars[0])
    elif repeats:
        kind, schedule, zone = "interval", f"{span(repeats[0])}s", ""
    else:
        raise UnreadableError("timer_boot" if told else "timer_none")
    return Timer(
        kind,
        schedule,
        zone,
        is_persistent=_last(told, "Persistent").lower() in {"yes", "true", "1", "on"},
        is_random=bool(_last(told, "RandomizedDelaySec").strip("0s")),
        description=_last(parts.get("Unit", {}), "Description"),
        unit=_last(told, "Unit"),
    )


def service(text: str) -> Service:
    """Return what a .service unit runs. Raises UnreadableError."""
    parts = unit(text)
    told = parts.get("Service", {})
    commands = [_command(line) for line in told.get("ExecStart", [])]
    if not commands:
        raise UnreadableError("service_empty")
    environment: dict[str, str] = {}
    for line in told.get("Environment", []):
        try:
            words = shlex.split(line)
        except ValueError:
            raise UnreadableError("unit_odd", line[:100]) from None
        environment |= dict(word.split("=", 1) for word in words if "=" in word)
    if told.get("EnvironmentFile"):
        raise UnreadableError("service_environment_file")
    limit = _last(told, "TimeoutStartSec") or _last(told, "RuntimeMaxSec")
    return Service(
        tuple(commands),
        user=_last(told, "User"),
        folder=_last(told, "WorkingDirectory").removeprefix("-"),
        environment=environment,
        description=_last(parts.get("Unit", {}), "Description"),
        timeout_seconds=None if limit in {"", "infinity", "0"} else span(limit),
    )


def _last(section: Mapping[str, list[str]], key: str) -> str:
    values = section.get(key, [])
    return values[-1] if values else ""


def _command(line: str) -> str:
    """Return the command of an ExecStart line for the shell. Raises UnreadableError.

    A "-" before it lets a failure count as success; so it does here.
    """
    found = re.match(r"[-@:+!|]*", line)
    assert found
    marks, bare = found[0], line[found.end() :]
    if set(marks) - {"-", ":"}:
        raise UnreadableError("service_privileged", line[:100])
    if re.search(r"(?<!%)%(?!%)", bare):
        raise UnreadableError("service_specifier", line[:100])
    bare = bare.replace("%%", "%").strip()
    return f"{bare} || true" if "-" in marks else bare


def span(text: str) -> int:
    """Return the seconds of a time span: "1h 30min", "90". Raises UnreadableError."""
    if not SPAN.fullmatch(text.strip().lower()):
        raise UnreadableError("span_odd", text[:100])
    total = 0
    for number, name in PART.findall(text.lower()):
        if (name or "s") not in UNITS:
            raise UnreadableError("span_odd", text[:100])
        total += int(number[:12]) * UNITS[name or "s"]
    if not total:
        raise UnreadableError("span_odd", text[:100])
    return total


def calendar(text: str) -> tuple[str, str]:
    """Return (cron expression, zone or "") of an OnCalendar value. Raises UnreadableError.

    >>> calendar("Mon..Fri *-*-* 03:30:00 Europe/Berlin")
    ('30 3 * * MON-FRI', 'Europe/Berlin')
    >>> calendar("*:0/15")
    ('*/15 * * * *', '')
    """
    words = text.split()
    zone = ""
    if len(words) > 1 and re.fullmatch(r"UTC|[A-Z][A-Za-z_]+/[\w/+-]+", words[-1]):
        zone = words.pop()
    if len(words) == 1 and words[0].lower() in SHORTHANDS:
        return SHORTHANDS[words[0].lower()], zone
    days = "*"
    if words and words[0][:1].isalpha():
        days = _days(words.pop(0))
    date = next((word for word in words if "-" in word), "*-*-*")
    clock = next((word for word in words if ":" in word), "00:00:00")
    if set(words) - {date, clock} or "~" in text:
        raise UnreadableError("calendar_odd", text[:100])
    year, month, day = _date(date, text)
    hour, minute = _clock(clock, text)
    if year != "*":
        raise UnreadableError("calendar_year", text[:100])
    if days != "*" and day != "*":
        # systemd wants both, cron either.
        raise UnreadableError("calendar_both", text[:100])
    return f"{minute} {hour} {day} {month} {days}", zone


def _days(text: str) -> str:
    found = []
    for part in text.lower().split(","):
        ends = part.split("..")
        if len(ends) > 2 or any(end[:3] not in DAYS for end in ends):
            raise UnreadableError("calendar_odd", text[:100])
        found.append("-".join(end[:3].upper() for end in ends))
    return ",".join(found)


def _date(date: str, text: str) -> Iterable[str]:
    parts = date.split("-")
    if len(parts) == 2:
        parts = ["*", *parts]
    if len(parts) != 3:
        raise UnreadableError("calendar_odd", text[:100])
    return [_value(part, text) for part in parts]


def _clock(clock: str, text: str) -> tuple[str, str]:
    parts = clock.split(":")
    if len(parts) == 3 and parts.pop() not in {"0", "00"}:
        raise UnreadableError("calendar_seconds", text[:100])
    if len(parts) != 2:
        raise UnreadableError("calendar_odd", text[:100])
    return _value(parts[0], text), _value(parts[1], text)


def _value(part: str, text: str) -> str:
    """Return a field in cron's words: "0/15" is "*/15" there, "8..17" is "8-17"."""
    if not VALUE.fullmatch(part):
        raise UnreadableError("calendar_odd", text[:100])
    found = []
    for each in part.split(","):
        base, slash, step = each.partition("/")
        low, dots, high = base.partition("..")
        if base == "*" or (slash and not dots and int(low) == 0):
            word = "*"
        elif slash and not dots:
            raise UnreadableError("calendar_odd", text[:100])
        else:
            word = f"{int(low)}-{int(high)}" if dots else str(int(low))
        found.append(f"{word}/{int(step)}" if slash else word)
    return ",".join(found)

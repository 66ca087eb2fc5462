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
WHOLE_DAYS: Final = (
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
)
UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}
# What is matched is not given back: else a long row of digits would take for ever.
SPAN = re.compile(r"(?:\s*+\d++\s*+[a-z]*+)+", re.ASCII)
PART = re.compile(r"(\d+)\s*([a-z]*)", re.ASCII)
# A value of a calendar field: *, 5, 1,15, 8..17, 0/15, 8..17/2
NUMBER = r"(?:\d{1,4}(?:\.\.\d{1,4})?(?:/\d{1,4})?)"
VALUE = re.compile(rf"\*|{NUMBER}(?:,{NUMBER})*", re.ASCII)
# What a service may say and a job says too, or need not.
UNDERSTOOD: Final = {
    *("Type", "ExecStart", "ExecStartPre", "ExecStartPost", "User", "WorkingDirectory"),
    *("Environment", "TimeoutStartSec", "TimeoutSec", "RuntimeMaxSec", "Nice", "Restart"),
    *("StandardOutput", "StandardError", "SyslogIdentifier", "RemainAfterExit", "KillMode"),
}
REFUSED: Final = {
    "EnvironmentFile": "service_environment_file",
    "ExecCondition": "service_condition",
}
SHELL_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|\$)", re.ASCII)


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
    is_after_end: bool = False  # counted from the end of the service, not from its start
    description: str = ""
    unit: str = ""  # the service's name where it is not the timer's


@dataclass(frozen=True)
class Service:
    """What a service runs. `user` is "" for that of the service manager.

    `left_out` names what it says besides that no job can say.
    """

    commands: tuple[str, ...]
    user: str = ""
    folder: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    timeout_seconds: int | None = None
    nice: int = 0
    left_out: tuple[str, ...] = ()


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
    active, inactive = told.get("OnUnitActiveSec", []), told.get("OnUnitInactiveSec", [])
    if len(calendars) + len(active) + len(inactive) > 1:
        raise UnreadableError("timer_several")
    if calendars:
        kind, (schedule, zone) = "cron", calendar(calendars[0])
    elif active or inactive:
        kind, schedule, zone = "interval", _in_units(span([*active, *inactive][0])), ""
    else:
        raise UnreadableError("timer_boot" if told else "timer_none")
    return Timer(
        kind,
        schedule,
        zone,
        is_persistent=_last(told, "Persistent").lower() in {"yes", "true", "1", "on"},
        is_random=_last(told, "RandomizedDelaySec") not in {"", "0", "0s"},
        is_after_end=bool(inactive),
        description=_last(parts.get("Unit", {}), "Description"),
        unit=_last(told, "Unit"),
    )


def service(text: str, specifiers: Mapping[str, str]) -> Service:
    """Return what a .service unit runs; `specifiers` says what "%h" and such are.

    Raises UnreadableError.
    """
    parts = unit(text)
    told = {
        key: [_specified(value, specifiers) for value in values]
        for key, values in parts.get("Service", {}).items()
    }
    if not told.get("ExecStart"):
        raise UnreadableError("service_empty")
    for key, code in REFUSED.items():
        if told.get(key):
            raise UnreadableError(code)
    lines = [line for step in ("Pre", "", "Post") for line in told.get(f"ExecStart{step}", [])]
    environment: dict[str, str] = {}
    for line in told.get("Environment", []):
        environment |= dict(word.split("=", 1) for word in _words(line) if "=" in word)
    whole = _last(told, "Type") == "oneshot"
    limit = _last(told, "RuntimeMaxSec")
    if whole:
        limit = _last(told, "TimeoutStartSec") or _last(told, "TimeoutSec")
    nice = _last(told, "Nice")
    return Service(
        tuple(command for line in lines for command in _commands(line)),
        user=_last(told, "User"),
        folder=_last(told, "WorkingDirectory").removeprefix("-"),
        environment=environment,
        description=_last(parts.get("Unit", {}), "Description"),
        timeout_seconds=None if limit in {"", "infinity", "0"} else span(limit),
        nice=int(nice) if re.fullmatch(r"1?\d", nice, re.ASCII) else 0,
        left_out=tuple(sorted(key for key, said in told.items() if said and key not in UNDERSTOOD)),
    )


def _specified(value: str, specifiers: Mapping[str, str]) -> str:
    """Return a value with "%h" and such filled in. Raises UnreadableError for others."""

    def known(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        if found[1] not in specifiers:
            raise UnreadableError("service_specifier", value[:100])
        return specifiers[found[1]]

    return re.sub(r"%(.|$)", known, value)


def _last(section: Mapping[str, list[str]], key: str) -> str:
    values = section.get(key, [])
    return values[-1] if values else ""


def _commands(line: str) -> list[str]:
    """Return the commands of an ExecStart line for the shell. Raises UnreadableError.

    systemd knows no shell: to it "|", ">" and "*" are letters, and stay so. A "-" before it lets a
    failure count as success; so it does here.
    """
    found = re.match(r"[-@:+!|]*", line)
    assert found
    marks, bare = found[0], line[found.end() :]
    if set(marks) & {"+", "!"}:
        raise UnreadableError("service_privileged", line[:100])
    if set(marks) & {"@", "|"}:
        raise UnreadableError("unit_odd", line[:100])
    commands: list[list[str]] = [[]]
    for word in _words(bare):
        if word == ";":
            commands.append([])
        else:
            commands[-1].append(shlex.quote(word) if ":" in marks else _for_shell(word))
    joined = [" ".join(words) for words in commands if words]
    if not joined:
        raise UnreadableError("unit_odd", line[:100])
    return [f"{command} || true" if "-" in marks else command for command in joined]


def _words(line: str) -> list[str]:
    # Its escapes are those of C and not of the shell.
    if "\\" in line:
        raise UnreadableError("unit_odd", line[:100])
    try:
        return shlex.split(line)
    except ValueError:
        raise UnreadableError("unit_odd", line[:100]) from None


def _for_shell(word: str) -> str:
    """Return a word so that the shell fills in the variables that systemd would, and no more."""
    if re.fullmatch(r"\$[A-Za-z_]\w*", word, re.ASCII):
        return word  # alone it is split into words, as by the shell
    parts, end = [], 0
    for found in SHELL_VARIABLE.finditer(word):
        parts.append(re.sub(r'([\\"`$])', r"\\\1", word[end : found.start()]))
        parts.append(f"${{{found[1]}}}" if found[1] else r"\$")
        end = found.end()
    if not parts:
        return shlex.quote(word)
    parts.append(re.sub(r'([\\"`$])', r"\\\1", word[end:]))
    return f'"{"".join(parts)}"'


def _in_units(seconds: int) -> str:
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def span(text: str) -> int:
    """Return the seconds of a time span: "1h 30min", "90". Raises UnreadableError."""
    # A capital M is a month.
    if not SPAN.fullmatch(text.strip()):
        raise UnreadableError("span_odd", text[:100])
    total = 0
    for number, name in PART.findall(text):
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
        # A single dash is what ranges were written with once.
        ends = [_day(end, text) for end in re.split(r"\.\.|-", part)]
        if len(ends) > 2:
            raise UnreadableError("calendar_odd", text[:100])
        first, last = ends[0], ends[-1]
        if first < last < 6:
            found.append("-".join(DAYS[end].upper() for end in ends))
        else:
            # Cron's week begins with Sunday, and none of its ranges goes beyond the end.
            count = (last - first) % 7 + 1
            found += [DAYS[(first + n) % 7].upper() for n in range(count)]
    return ",".join(found)


def _day(name: str, text: str) -> int:
    for names in (DAYS, WHOLE_DAYS):
        if name in names:
            return names.index(name)
    raise UnreadableError("calendar_odd", text[:100])


def _date(date: str, text: str) -> Iterable[str]:
    parts = date.split("-")
    if len(parts) == 2:
        parts = ["*", *parts]
    if len(parts) != 3:
        raise UnreadableError("calendar_odd", text[:100])
    if any(re.search(r"(?:^|,)0*/", part) for part in parts[1:]):
        raise UnreadableError("calendar_odd", text[:100])  # no day and no month is called 0
    return [_value(part, text) for part in parts]


def _clock(clock: str, text: str) -> tuple[str, str]:
    parts = clock.split(":")
    if len(parts) == 3 and parts.pop() not in {"0", "00"}:
        raise UnreadableError("calendar_seconds", text[:100])
    if len(parts) != 2:
        raise UnreadableError("calendar_odd", text[:100])
    return _value(parts[0], text), _value(parts[1], text)


def _value(part: str, text: str) -> str:
    """Return a field in cron's words: "0/15" is "*/15" there, "8..17" is "8-17", "5/15" stays."""
    if not VALUE.fullmatch(part):
        raise UnreadableError("calendar_odd", text[:100])
    found = []
    for each in part.split(","):
        base, slash, step = each.partition("/")
        low, dots, high = base.partition("..")
        if base == "*" or (slash and not dots and int(low) == 0):
            word = "*"
        else:
            word = f"{int(low)}-{int(high)}" if dots else str(int(low))
        found.append(f"{word}/{int(step)}" if slash else word)
    return ",".join(found)

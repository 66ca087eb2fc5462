"""A crontab, read as cron itself reads it (crontab(5) of Debian's cron and of cronie).

`read` turns the text into entries and faults, line by line. What an entry means for a job of ours
is decided elsewhere; here stands only what cron would do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from io import StringIO
from typing import Final

LONGEST: Final = 12_000_000  # characters of a crontab
MOST: Final = 10_000  # lines of it
MOST_VARIABLES: Final = 200
MOST_COMMENTS: Final = 20  # lines of a description
LONGEST_LINE: Final = 16_384  # characters; a longer command is refused by jobs, too

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
REBOOT: Final = "@reboot"
BLANKS: Final = " \t"
# NAME = value, NAME="value", "NAME"='value'; cron looks for this before it looks for an entry.
ASSIGNMENT = re.compile(
    r"""(?:"(?P<double>[^"=]*)"|'(?P<single>[^'=]*)'|(?P<bare>[^\s='"][^\s=]*))\s*=\s*(?P<value>.*?)\s*""",
    re.ASCII,
)
QUOTED = re.compile(r"""(["'])((?:(?!\1).)*)\1\s*""", re.ASCII)
FIELD = re.compile(r"[0-9*][0-9A-Za-z*,/~#?-]*|[A-Za-z]{3}[0-9A-Za-z,/#-]*|\?", re.ASCII)
USER = re.compile(r"[A-Za-z_][\w.-]*\$?(?::[\w.-]+)?(?:/[\w.-]+)?", re.ASCII)
# What makes a comment an entry that somebody has switched off, not a description.
SWITCHED_OFF = re.compile(r"#+\s*(?:@[a-z]+\s+\S|[0-9*](?:\S*\s+\S+){5})")


@dataclass(frozen=True)
class Entry:
    """A line that starts a command.

    `schedule` has five fields, or is "@reboot". `user` is "" in the crontab of one user. `command`
    is what the shell gets, `stdin` what it reads ("": nothing), both with `%` resolved.
    `environment` is what was assigned above it, `comment` what stands directly above it.
    """

    line: int
    schedule: str
    command: str
    user: str = ""
    stdin: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    comment: str = ""
    is_quiet: bool = False  # a "-" before it: cron logs nothing (SUSE, cronie)


@dataclass(frozen=True)
class Fault:
    """A line that cron would not take: its number, its text, and what is wrong (a code)."""

    line: int
    text: str
    code: str


@dataclass(frozen=True)
class Crontab:
    """What stands in a crontab, in its order."""

    entries: tuple[Entry, ...] = ()
    faults: tuple[Fault, ...] = ()


def read(text: str, *, system: bool = False) -> Crontab:
    """Return what stands in the text of a crontab; with `system` each entry names its user.

    Never raises: what can't be read is a fault of its line, with one of the codes `file_long`,
    `nul`, `too_long`, `too_many`, `variables`, `no_entry`, `no_user`, `no_command`, `nickname`.
    """
    if len(text) > LONGEST:
        return Crontab(faults=(Fault(1, "", "file_long"),))
    entries: list[Entry] = []
    faults: list[Fault] = []
    environment: dict[str, str] = {}
    comment: list[str] = []
    # Not splitlines(): cron knows one end of a line.
    for number, raw in enumerate(StringIO(text.removeprefix("\ufeff"), newline="\n"), 1):
        if number > MOST:
            faults.append(Fault(number, "", "too_many"))
            break
        line = raw.rstrip("\r\n").lstrip(BLANKS)
        if not line.strip():
            comment = []
        elif line.startswith("#"):
            comment = _described(line, comment)
        elif assigned := _assignment(line):
            environment = {**environment, **assigned}
            comment = []
            if len(environment) > MOST_VARIABLES:
                faults.append(Fault(number, line[:200], "variables"))
                break
        else:
            found = _entry(number, line, system=system)
            if isinstance(found, Fault):
                faults.append(found)
            else:
                told = " ".join(comment)
                entries.append(replace(found, environment=environment, comment=told))
            comment = []
    return Crontab(tuple(entries), tuple(faults))


def looks_like_system(text: str) -> bool:
    """Return whether each entry of a crontab seems to name a user before its command.

    The sixth word of every entry is then one of few names, none of which is a path or an option.
    """
    as_users = read(text, system=True)
    if not as_users.entries or as_users.faults:
        return False
    users = {entry.user for entry in as_users.entries}
    return len(users) <= max(2, len(as_users.entries) // 4) and users <= COMMON_USERS | {"root"}


COMMON_USERS: Final = {
    *("root", "www-data", "nobody", "daemon", "backup", "postgres", "mysql", "git", "nginx"),
    *("apache", "http", "man", "news", "mail", "smmsp", "munin", "logcheck", "amavis", "list"),
}


def _described(line: str, above: list[str]) -> list[str]:
    """Return the lines of a description, with one more; an entry switched off ends it."""
    if len(line) > LONGEST_LINE or SWITCHED_OFF.match(line):
        return []
    words = line.lstrip("#").strip().strip("-=*─ ").strip()
    return [*above, words][-MOST_COMMENTS:] if words else above


def _assignment(line: str) -> dict[str, str]:
    """Return {name: value} of a line that sets a variable; {} for any other."""
    found = ASSIGNMENT.fullmatch(line) if len(line) <= LONGEST_LINE and "\0" not in line else None
    if found is None:
        return {}
    value = found["value"]
    if value[:1] in {"'", '"'}:
        quoted = QUOTED.fullmatch(value)
        if quoted is None:
            return {}  # it goes on behind the quotation mark, and so cron takes it for no value
        value = quoted[2]
    return {found["double"] or found["single"] or found["bare"] or "": value}


class _FaultError(Exception):
    pass


def _entry(number: int, line: str, *, system: bool) -> Entry | Fault:
    try:
        return _read_entry(number, line, system=system)
    except _FaultError as error:
        return Fault(number, line[:200], str(error))


def _read_entry(number: int, line: str, *, system: bool) -> Entry:
    if "\0" in line or len(line) > LONGEST_LINE:
        raise _FaultError("nul" if "\0" in line else "too_long")
    is_quiet = line.startswith("-")
    line = line[1:].lstrip(BLANKS) if is_quiet else line
    schedule, rest = _schedule(line)
    user = ""
    if system:
        user, _, rest = _split(rest)
        if not USER.fullmatch(user):
            raise _FaultError("no_user")
    command, stdin = _percent(rest)
    if not command.strip():
        raise _FaultError("no_command")
    return Entry(number, schedule, command.strip(), user, stdin, is_quiet=is_quiet)


def _schedule(line: str) -> tuple[str, str]:
    """Return the schedule that a line begins with, and what follows it."""
    if line.startswith("@"):
        nickname, _, rest = _split(line)
        known = {**NICKNAMES, REBOOT: REBOOT}
        if nickname.lower() not in known:
            raise _FaultError("nickname")
        return known[nickname.lower()], rest
    words = re.split(r"[ \t]+", line, maxsplit=5)
    fields = words[:5]
    if len(fields) < 5 or not all(FIELD.fullmatch(word) for word in fields):
        raise _FaultError("no_entry")
    return " ".join(fields), "".join(words[5:])


def _split(text: str) -> tuple[str, str, str]:
    """Return the first word, the blanks after it, and the rest."""
    found = re.match(r"([^ \t]*)([ \t]*)(.*)", text, re.DOTALL)
    assert found
    return found[1], found[2], found[3]


def _percent(text: str) -> tuple[str, str]:
    r"""Return command and standard input, divided by the first "%" that no backslash is before.

    >>> _percent(r"mail -s 100\% anna%Hello%there")
    ('mail -s 100% anna', 'Hello\nthere\n')
    """
    found = re.match(r"((?:\\.|[^\\%]|\\$)*)(?:%(.*))?$", text, re.DOTALL)
    assert found
    command = re.sub(r"\\(.)", lambda pair: "%" if pair[1] == "%" else pair[0], found[1])
    # Here a backslash before a "%" always belongs to it, also when another stands before it.
    stdin = re.sub(r"(\\?)%", lambda sign: "%" if sign[1] else "\n", found[2] or "")
    return command, stdin if not stdin or stdin.endswith("\n") else f"{stdin}\n"

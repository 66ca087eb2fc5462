"""What becomes a job of ours, and what has to be said of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from daemon_app.intake.words import REMARKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_NAME: Final = 80
UNFIT = re.compile(r"[^\w .:+@()-]+")
SLUG = re.compile(r"[^\w.-]+")
# Words before the program that a command line is about.
PRELUDE: Final = {"sudo", "nice", "ionice", "nohup", "env", "exec", "time", "chronic", "flock"}
INTERPRETERS: Final = {
    "sh",
    "bash",
    "dash",
    "zsh",
    "python",
    "python3",
    "perl",
    "php",
    "node",
    "ruby",
}


@dataclass(frozen=True)
class Remark:
    """Something to be said of a draft: a code of `words.REMARKS` and its facts."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(REMARKS[self.code]) % self.facts


@dataclass(frozen=True)
class Draft:
    """A job as another program knew it.

    `origin` tells it from all others of its kind at each reading; with `is_by_name` a job of this
    name is taken for it, too. `fields` are those of `Job`. With a `refusal` it can't come.
    `was_active` is whether it ran there, `past` the numbers there of those of its runs that come
    too, newest first.
    """

    name: str
    origin: str
    where: str  # "line 12"
    fields: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    refusal: Remark | None = None
    was_active: bool = True
    past: tuple[int, ...] = ()
    is_by_name: bool = False

    def refused(self, code: str, **facts: Any) -> Draft:
        """Return this draft as one that can't come."""
        return replace(self, refusal=Remark(code, facts))


def origin(kind: str, *parts: object) -> str:
    """Return what tells a draft from others of its kind: short, and the same at each reading."""
    text = "\0".join(str(part) for part in parts)
    return f"{kind}:{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"


def came_from(origin: str) -> str:
    """Return of `Job.origin` where the job came from; behind a plus stands what files define it."""
    return origin.partition("+")[0]


def told_apart(drafts: Iterable[Draft]) -> list[Draft]:
    """Return drafts without two of the same origin: what is there twice comes twice."""
    seen: dict[str, int] = {}
    found = []
    for draft in drafts:
        seen[draft.origin] = count = seen.get(draft.origin, 0) + 1
        again = count > 1 and draft.origin
        found.append(
            replace(draft, origin=origin("again", draft.origin, count)) if again else draft
        )
    return found


def named(drafts: Iterable[Draft]) -> list[Draft]:
    """Return drafts with names that jobs may have, each once; who is renamed says so."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    found = []
    for draft in drafts:
        fit = fit_name(draft.name)
        name, count = fit, counts.get(fit.casefold(), 1)
        while name.casefold() in taken:
            count += 1
            name = f"{fit[: LONGEST_NAME - 6]}-{count}"
        counts[fit.casefold()] = count
        taken.add(name.casefold())
        renamed = (Remark("renamed", {"name": draft.name[:120]}),) if fit != draft.name else ()
        found.append(replace(draft, name=name, remarks=(*draft.remarks, *renamed)))
    return found


def fit_name(name: str) -> str:
    """Return the nearest name that a job may have."""
    fit = " ".join(UNFIT.sub("-", name).split())
    fit = fit.lstrip(" -_.:+@()")[:LONGEST_NAME].rstrip(" -.:+@(")
    return fit or "job"


def name_of(command: str) -> str:
    """Return a short name for a command line: that of the program or script it is about.

    >>> name_of("cd /srv && /usr/bin/python3 -u tools/backup.py --all >/dev/null 2>&1")
    'backup.py'
    """
    line = re.split(r"&&|\|\||;|\|", command)
    steps = [step.split() for step in line]
    chosen = next((step for step in steps if step and step[0] not in {"cd", "[", "test", "."}), [])
    for word in chosen:
        bare = word.strip("\"'()").rstrip("/").rpartition("/")[2]
        if not bare or word.startswith("-") or "=" in word.split("/")[0]:
            continue
        if bare in PRELUDE or bare in INTERPRETERS or bare.isdigit():
            continue
        if slug := SLUG.sub("-", bare).strip("-."):
            return slug[:40]
    first = next(iter(chosen), "job").rpartition("/")[2]
    return SLUG.sub("-", first).strip("-.")[:40] or "job"

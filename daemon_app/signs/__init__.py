"""Signs of presence: what shows that somebody needs this machine, and our own work left out.

A sign is one file here and one line below. It looks at the scene and says whether it sees somebody
now, and when it last did. The sentry (`daemon_app.presence`) makes idle or busy of all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from daemon_app.models import Policy
from daemon_app.readings import Reading
from daemon_app.registry import Registry
from daemon_app.signs.marks import Mark


@dataclass(frozen=True, slots=True)
class Sign:
    """What one sign says. `code` and `facts` make its sentence (`models.reasons`).

    `busy` is None when it can't be told, which counts as busy. `last` is when activity was last
    seen, on the monotonic clock, None for never or where there is only "now". `users` counts the
    people it sees.
    """

    signal: str
    busy: bool | None
    code: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    last: float | None = None
    users: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it: the cause of a displacement, a reason not to be idle."""
        return {"signal": self.signal, "code": self.code, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the rules for all jobs concerns presence (`models.Policy`)."""

    idle_after: float = 120.0  # seconds
    foreign_load: int | None = 90  # percent of all processors; None: not looked at
    watch_logins: bool = True
    watch_gpu: bool = True
    services: Mapping[str, str] = field(default_factory=dict)  # addresses, by check
    said: str = ""  # "here", "away", or nothing
    until: datetime | None = None
    by: str = ""

    def hand(self, now: datetime) -> str:
        """Return what somebody has said of being here, as long as it holds."""
        return self.said if self.until is None or now < self.until else ""

    @property
    def window(self) -> float:
        """For how many seconds somebody who was seen is counted as a user."""
        return max(USER_WINDOW, self.idle_after)


USER_WINDOW = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """What the signs may look at, at one moment."""

    now: datetime
    wall: float  # seconds since 1970
    mono: float  # on the monotonic clock
    rules: Rules = field(default_factory=Rules)
    marks: tuple[Mark, ...] = ()
    readings: Mapping[str, Reading] | None = None  # the newest tick's; None when there is none
    # The services that runs of ours have used since the last look.
    our_services: frozenset[str] = frozenset()
    runs: bool = False  # whether any run of ours runs
    token: str = ""  # marks our runs' processes
    elsewhere: Mapping[str, float] = field(default_factory=dict)  # last activity by other host


class Looker(Protocol):
    """Looks for one sign, again and again; it may remember what it saw before.

    `is_person`: "I am away" overrides it. `quick`: it costs microseconds and never waits, so it is
    looked at with every ring; the others are looked at with each tick, and every so many seconds
    (`often`) while runs may have to make way.
    """

    is_person: ClassVar[bool]
    quick: ClassVar[bool]
    often: ClassVar[float | None]

    def look(self, scene: Scene) -> Sign | None:
        """Return what is seen; None where this sign does not exist or is switched off."""


SIGNS: Registry[Callable[[], Looker]] = Registry("sign")


def rules_of(policy: Policy, services: Mapping[str, str]) -> Rules:
    """Return what of the rules concerns presence; `services` are the addresses in force."""
    return Rules(
        idle_after=float(policy.idle_after_seconds),
        foreign_load=policy.foreign_load_percent,
        watch_logins=policy.watch_logins,
        watch_gpu=policy.watch_gpu,
        services=services,
        said=policy.presence,
        until=policy.presence_until,
        by=policy.presence_by,
    )


# One line each; their order is the order in which they are told: what people say goes first.
from daemon_app.signs import hand  # noqa: E402, F401, I001
from daemon_app.signs import requests  # noqa: E402, F401
from daemon_app.signs import programs  # noqa: E402, F401
from daemon_app.signs import logins  # noqa: E402, F401
from daemon_app.signs import elsewhere  # noqa: E402, F401
from daemon_app.signs import models  # noqa: E402, F401
from daemon_app.signs import gpu  # noqa: E402, F401
from daemon_app.signs import load  # noqa: E402, F401

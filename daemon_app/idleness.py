"""Whether people or the machine have the right of way now, as one sentence of a page needs it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Q

from daemon_app.gates.conditions import silence, speaks_of_now
from daemon_app.models import Job, Node, Policy, Run, Snapshot, reasons

# Signs that are people; the others are what works for somebody, or for nobody.
PEOPLE = {"hand", "requests", "programs", "logins", "elsewhere"}
YIELDING = (Job.Presence.DISPLACE, Job.Presence.CANCEL)


@dataclass(frozen=True)
class Idleness:
    """What is known of people and of the machine's rest.

    `kind` is "idle", "busy", "soon" (nobody is here, and the time until idle runs), "making_way"
    (runs are being stopped for somebody) or "unknown".
    """

    kind: str
    since: datetime | None = None
    idle_from: datetime | None = None
    active_at: datetime | None = None
    users: int = 0
    reasons: Sequence[str] = ()
    besides: Sequence[str] = ()  # of these, what is no person
    yielding: int = 0  # running runs that would make way for a person
    making_way: int = 0
    cause: str = ""  # for which they were asked
    is_idle: bool = False  # as the tiles show it: for whom runs make way may be gone already
    kept_waiting: int = 0  # runs in line that need an idle machine
    matters: bool = False  # whether any job heeds idleness at all

    @property
    def quiet_since(self) -> datetime | None:
        """Since when nobody has been active, as far as that is known."""
        return self.active_at or self.since

    @property
    def is_busy(self) -> bool:
        """Whether it is known that the machine is not idle."""
        return self.kind in {"busy", "soon", "making_way"}


@dataclass(frozen=True)
class Said:
    """What a person has said of being here, for as long as it holds."""

    here: bool
    by: str
    at: datetime | None
    until: datetime | None


def current(node: Node | None, now: datetime) -> Idleness:
    """Return what is known of the host of `node`: nothing of one that is away or stands still."""
    newest = Snapshot.objects.newest(now, node.host) if node else None
    if node is None or not speaks_of_now(node, newest, now):
        causes = sentences(silence(newest, now))
        return Idleness("unknown", reasons=causes, matters=_matters())
    leaving = Q(reason_code="displacing")
    may_leave = Q(definition__on_presence__in=YIELDING, forced_by="") & ~leaving
    running = Run.objects.running().aggregate(
        making_way=Count("pk", filter=leaving), yielding=Count("pk", filter=may_leave)
    )
    waiting = Run.objects.queued().filter(not_before__lte=now, needs__idle=True)
    if running["making_way"]:
        kind = "making_way"
    elif node.idle is None:
        kind = "unknown"
    elif node.idle:
        kind = "idle"
    else:
        kind = "soon" if node.idle_from and not node.users else "busy"
    return Idleness(
        kind,
        since=node.idle_since,
        idle_from=node.idle_from if kind in {"soon", "busy"} else None,
        active_at=node.active_at,
        users=node.users,
        reasons=sentences(node.idle_reasons),
        besides=sentences(each for each in node.idle_reasons if each.get("signal") not in PEOPLE),
        **running,
        cause=_cause(leaving) if kind == "making_way" else "",
        is_idle=bool(node.idle),
        kept_waiting=waiting.count(),
        matters=node.idle is not None or _matters(),
    )


def said(policy: Policy, now: datetime) -> Said | None:
    """Return what somebody said of being here; None when nobody has, or when it is over."""
    until = policy.presence_until
    if not policy.presence or (until is not None and until <= now):
        return None
    here = policy.presence == Policy.Presence.HERE
    return Said(here, policy.presence_by, policy.presence_at, until)


def sentence(sign: object) -> str:
    """Return what a sign of somebody, {"signal", "code", "facts"}, says to people."""
    if not isinstance(sign, dict):
        return ""
    facts = sign.get("facts")
    return reasons.sentence(str(sign.get("code") or ""), facts if isinstance(facts, dict) else {})


def sentences(signs: Iterable[object]) -> list[str]:
    """Return what signs say to people, each sentence once."""
    return list(dict.fromkeys(filter(None, map(sentence, signs))))


def _cause(leaving: Q) -> str:
    """Return for what runs were asked to make way; "" where nothing more is known."""
    asked = Run.objects.running().filter(leaving).order_by("pk")
    for facts in asked.values_list("reason_facts", flat=True):
        if facts.get("code") not in {None, "came_back"}:
            return sentence(facts)
    return ""


def _matters() -> bool:
    # So that an index answers: each by itself, and "in", for SQLite looks no bare column up.
    of = Job.objects.filter(is_active__in=[True])
    waiting = of.filter(only_when_idle__in=[True])
    leaving = of.filter(only_when_idle__in=[False], on_presence__in=YIELDING)
    return waiting.exists() or leaving.exists()

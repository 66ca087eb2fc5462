"""Tell of each tick what it found: a line in the journal, and incidents of what gets bad and lasts.

It is part of the tick itself, for it is done 2,880 times a day: what other skills have in runs, it
has in snapshots and in the journal.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError
from django.utils import translation
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app import formats, journal
from daemon_app.models import Incident, reasons
from daemon_app.readings import Level, Reading, State
from daemon_app.skills.skill import ERROR, INFO, WARN, Context, Result, Skill, registered

# One tick may be an accident; two of the same say that it is so.
TICKS: Final = 2
# What gets bad again so soon is the same incident, told once more.
FLAPPING: Final = timedelta(minutes=10)
BADNESS: Final = {Level.OK: 0, Level.UNKNOWN: 1, Level.WARN: 1, Level.BAD: 2}
# What a person is told of, beside the journal: what VRAM needs is `cleanup_vram`'s business.
TOLD: Final = {State.DOWN, State.FULL, State.LOW}
TITLES: Final = {
    "gpu_service": _("GPU service"),
    "ollama": _("Ollama"),
    "vram": _("VRAM"),
    "disk": _("Disk"),
    "active_users": _("Active users"),
}


@registered
class HealthCheck(Skill):
    """Looks at services, VRAM, disk and people, with every tick."""

    name = "health_check"
    title = _("Check health")
    description = _(
        "Writes down the state of services, VRAM, disk and people, and warns of what gets worse."
    )
    in_tick = True

    def run(self, context: Context) -> Result:  # noqa: ARG002 - the same for all
        """Say where its history is: what it does, the tick does."""
        said = _t("This is done by the daemon with every tick; see %(file)s.")
        return Result(said % {"file": journal.path()})


@dataclass
class _State:
    """What is known of one check over time."""

    reading: Reading
    since: datetime  # of this state
    ticks: int = 0  # in a row
    bad_since: datetime | None = None  # of what counts as one time of being bad
    was_well: bool = False  # ever, as far as is known
    incident: int | None = None  # the row that tells of it
    code: str = ""  # by which it does
    is_remembered: bool = False  # what was told before this daemon was started
    ended_at: datetime | None = None
    times: int = 0  # it got bad within this incident

    @property
    def is_bad(self) -> bool:
        return self.reading.state in TOLD


@dataclass
class Watch:
    """Compares each tick with those before it."""

    _states: dict[str, _State] = field(default_factory=dict)

    def after_tick(
        self,
        readings: Mapping[str, Reading],
        previous: Mapping[str, Reading] | None,
        idle: bool | None,
        now: datetime,
    ) -> None:
        """Write the tick's line, and tell of what got bad and lasts, or is over.

        `previous` is the tick's before, None when there was none; it only counts at the first call.
        """
        with translation.override(settings.LANGUAGE_CODE):
            self._remember(readings, previous or {}, now)
            changes = [
                change
                for name, reading in readings.items()
                if (change := self._take_in(name, reading, now))
            ]
            level = max((self._level(name) for name in readings), key=RANK.index, default=INFO)
            data = {
                "idle": idle,
                "checks": {
                    name: {"state": str(reading.state), "value": reading.value}
                    for name, reading in readings.items()
                },
                "changes": [change for change, _sentence in changes],
            }
            message = " ".join(said for _change, said in changes) or _summary(readings)
            journal.write("health_check", level, message, data, now=now)
            for name in readings:
                self._tell(name, now)

    # ── What a tick says of a check ──────────────────────────────────────────────────────────────
    def _take_in(
        self, name: str, reading: Reading, now: datetime
    ) -> tuple[dict[str, Any], str] | None:
        """Take in a reading; return the change and its sentence, None when there is none."""
        known = self._states[name]
        old, known.reading = known.reading, reading
        known.was_well = known.was_well or reading.level is Level.OK
        if old.state == reading.state:
            known.ticks += 1
            return None
        lasted = now - known.since
        known.since, known.ticks = now, 1
        change: dict[str, Any] = {"check": name, "from": str(old.state), "to": str(reading.state)}
        if reading.level is Level.OK and BADNESS[old.level]:
            begun = known.bad_since if old.state in TOLD and known.bad_since else now - lasted
            change["after_seconds"] = round((now - begun).total_seconds())
        return change, _sentence(name, reading, change)

    def _level(self, name: str) -> str:
        """Return how loud a check is: an error is what was well once, is bad, and lasts.

        What has never been well is perhaps not installed: that is told once.
        """
        known = self._states[name]
        level = known.reading.level
        if level is Level.OK or (not known.was_well and known.ticks >= TICKS):
            return INFO
        return ERROR if level is Level.BAD and known.ticks >= TICKS else WARN

    # ── Incidents ────────────────────────────────────────────────────────────────────────────────
    def _tell(self, name: str, now: datetime) -> None:
        """Note what has got bad and lasts, what has got worse, and the end.

        What the database does not take is noted with a later tick.
        """
        known = self._states[name]
        if known.ticks < TICKS or not known.is_remembered:
            return
        if known.is_bad and known.was_well:
            if known.code != CODES.get((name, known.reading.state), "health_bad"):
                self._note(name, known, now)
        elif known.bad_since is not None and known.reading.level is Level.OK:
            self._note_end(name, known, now)

    def _note(self, name: str, known: _State, now: datetime) -> None:
        """Note that a check is bad: for the first time, again so soon, or worse."""
        again = known.ended_at is not None and now - known.ended_at < FLAPPING
        goes_on = known.bad_since is not None
        times = known.times + 1 if again else max(known.times, 1) if goes_on else 1
        since = known.bad_since or known.since
        facts: dict[str, Any] = {"check": name, "since": since.isoformat(), "times": times}
        facts |= {"state": str(known.reading.state), "free": known.reading.value}
        code = CODES.get((name, known.reading.state), "health_bad")
        level = ERROR if known.reading.level is Level.BAD else WARN
        same = again or goes_on
        if not (same and Incident.rewrite(known.incident, code, now=now, level=level, **facts)):
            known.incident = Incident.note(code, now=now, level=level, **facts).pk
        known.code, known.times, known.bad_since, known.ended_at = code, times, since, None

    def _note_end(self, name: str, known: _State, now: datetime) -> None:
        assert known.bad_since is not None  # what has an end has begun
        lasted = (known.since - known.bad_since).total_seconds()
        facts: dict[str, Any] = {"check": name, "since": known.bad_since.isoformat()}
        facts |= {"seconds": round(lasted), "times": known.times}
        code = ENDED.get(name, "health_was_bad")
        Incident.rewrite(known.incident, code, now=now, even_seen=True, **facts)
        known.bad_since, known.code, known.ended_at = None, "", now

    # ── Before this daemon was started ───────────────────────────────────────────────────────────
    def _remember(
        self, readings: Mapping[str, Reading], previous: Mapping[str, Reading], now: datetime
    ) -> None:
        """Know of each check what the daemon before has seen and told."""
        for name, reading in readings.items():
            if name not in self._states:
                before = previous.get(name)
                well = (before or reading).level is Level.OK
                ticks = int(before is not None)
                self._states[name] = _State(before or reading, now, ticks, was_well=well)
            known = self._states[name]
            # The journal is written whether the database answers or not.
            with suppress(DatabaseError):
                if not known.is_remembered:
                    _remember_incident(name, known)


RANK: Final = (INFO, WARN, ERROR)
CODES: Final = {
    ("gpu_service", State.DOWN): "health_gpu_service_down",
    ("ollama", State.DOWN): "health_ollama_down",
    ("disk", State.LOW): "health_disk_low",
    ("disk", State.FULL): "health_disk_full",
}
ENDED: Final = {
    "gpu_service": "health_gpu_service_was_down",
    "ollama": "health_ollama_was_down",
    "disk": "health_disk_was_low",
}


def _remember_incident(name: str, known: _State) -> None:
    """Go on with what was told of a check, and had not ended."""
    told = [code for (check, _state), code in CODES.items() if check == name] or ["health_bad"]
    newest = Incident.objects.filter(code__in=told, facts__check=name).order_by("-id").first()
    if newest is not None:
        known.bad_since = datetime.fromisoformat(newest.facts["since"])
        known.incident, known.code, known.was_well = newest.pk, newest.code, True
        known.times = newest.facts.get("times", 1)
        if known.is_bad:
            known.since = known.bad_since
    known.is_remembered = True


def _title(name: str) -> str:
    return str(TITLES.get(name, name))


def _sentence(name: str, reading: Reading, change: Mapping[str, Any]) -> str:
    about = {
        "check": _title(name),
        "why": reasons.sentence(reading.code, reading.facts).rstrip("."),
    }
    if "after_seconds" in change:
        language = "en" if (translation.get_language() or "de").startswith("en") else "de"
        about["span"] = formats.duration(change["after_seconds"], language)
        return _t("%(check)s is well again after %(span)s.") % about
    if reading.level is Level.OK:
        return _t("%(check)s is well.") % about
    about["state"] = str(_STATES[reading.state])
    if about["why"]:
        return _t("%(check)s: %(state)s (%(why)s).") % about
    return _t("%(check)s: %(state)s.") % about


_STATES: Final = {
    State.OK: _("well"),
    State.SLOW: _("slow"),
    State.DOWN: _("down"),
    State.HIGH: _("nearly full"),
    State.LOW: _("low"),
    State.FULL: _("full"),
    State.UNKNOWN: _("unknown"),
}


def _summary(readings: Mapping[str, Reading]) -> str:
    ill = [
        f"{_title(name)}: {_STATES[reading.state]}"
        for name, reading in readings.items()
        if reading.level is not Level.OK
    ]
    return "; ".join(ill) + "." if ill else _t("All is well.")


_watch = Watch()


def after_tick(
    readings: Mapping[str, Reading],
    previous: Mapping[str, Reading] | None,
    idle: bool | None,
    now: datetime,
) -> None:
    """Write the tick's line in the journal, and tell of what has changed; see `Watch`."""
    _watch.after_tick(readings, previous, idle, now)

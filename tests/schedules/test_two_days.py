"""Two days of a daemon's life: reloads, edits and restarts, and every due instant starts once.

The daemon keeps two things per job, the anchor of its schedule and the watermark (the last
instant that was handled). Everything else is read anew.
"""

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from daemon_app.schedules import KINDS, Schedule

BERLIN = "Europe/Berlin"
RELOAD = timedelta(minutes=5)
RESTART = timedelta(hours=1)
TWO_DAYS = timedelta(hours=48)


@dataclass
class Daemon:
    """A beat with a clock of its own; `saved` is all that survives a restart."""

    saved: str
    started: list[datetime] = field(default_factory=list)
    delays: list[timedelta] = field(default_factory=list)

    def boot(self) -> None:
        self.job = json.loads(self.saved)
        self.reload()

    def reload(self) -> None:
        """Read the text again, past the memory of `parse`."""
        self.schedule: Schedule = KINDS[self.job["kind"]].read(self.job["text"], self.job["tz"])
        self.watermark = datetime.fromisoformat(self.job["watermark"])
        self.anchor = datetime.fromisoformat(self.job["anchor"])

    def edit(self, name: str) -> None:
        """Change something that is not the schedule."""
        self.job["name"] = name
        self.save()
        self.reload()

    def save(self) -> None:
        self.saved = json.dumps(self.job)

    def tick(self, now: datetime) -> None:
        while True:
            due = self.schedule.next_due(self.watermark, self.watermark, self.anchor)
            if due is None or due > now:
                return
            self.started.append(due)
            self.delays.append(now - due)
            self.watermark = due
            self.job["watermark"] = due.isoformat()
            self.save()


def live(daemon: Daemon, start: datetime, rng: random.Random) -> None:
    """Let two days pass in uneven ticks."""
    now = start
    reload_at, restart_at = now + RELOAD, now + RESTART
    while now < start + TWO_DAYS:
        now += timedelta(seconds=rng.uniform(2, 40), milliseconds=rng.uniform(0, 20))
        if now >= restart_at:
            now += timedelta(seconds=rng.uniform(0, 40))
            daemon = Daemon(daemon.saved, daemon.started, daemon.delays)
            daemon.boot()
            restart_at += RESTART
        if now >= reload_at:
            daemon.reload()
            if rng.random() < 0.3:
                daemon.edit(f"edited at {now}")
            reload_at += RELOAD
        daemon.tick(min(now, start + TWO_DAYS))


def every(period: timedelta, first: datetime, start: datetime) -> list[datetime]:
    """Return the grid from `first` on, within the two days, by arithmetic alone."""
    count = (start + TWO_DAYS - first) // period
    grid = [first + k * period for k in range(count + 1)]
    return [moment for moment in grid if moment > start]


MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
THREE_IN_BERLIN = MIDNIGHT + 2 * HOUR  # in winter

# kind, text, period, a point of the grid at or before the start (None: the start itself)
JOBS = [
    ("cron", "*/5 * * * *", 5 * MINUTE, MIDNIGHT, 576),
    ("cron", "0 * * * *", HOUR, MIDNIGHT, 48),
    ("cron", "0 3 * * *", DAY, THREE_IN_BERLIN - DAY, 2),
    ("interval", "30m", 30 * MINUTE, None, 96),
    ("interval", "24h", DAY, None, 2),
]
# Seconds after midnight at which the daemon starts for the first time.
PHASES = [0, 299.99, 7 * 3600 + 1234.567, 86_399]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("kind", "text", "period", "grid", "count"), JOBS)
def test_every_due_instant_starts_once(
    kind: str, text: str, period: timedelta, grid: datetime | None, count: int, phase: float
) -> None:
    start = MIDNIGHT + timedelta(seconds=phase)
    moment = start.isoformat()
    job = {"kind": kind, "text": text, "tz": BERLIN, "anchor": moment, "watermark": moment}
    daemon = Daemon(json.dumps(job))
    daemon.boot()
    expected = every(period, grid or start, start)

    live(daemon, start, random.Random(f"{text} {phase}"))

    assert len(expected) == count
    assert daemon.started == expected
    assert max(daemon.delays) <= timedelta(seconds=81)


@pytest.mark.parametrize(
    ("text", "zone", "night", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2027-03-28", ["03:00+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2027-10-31", ["02:30+02:00"]),
        ("30 */2 * * *", "Europe/Berlin", "2027-03-28", ["00:30+01:00", "04:30+02:00"]),
        (
            *("30 */2 * * *", "Europe/Berlin", "2027-10-31"),
            ["00:30+02:00", "02:30+02:00", "02:30+01:00", "04:30+01:00"],
        ),
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-03", ["02:30+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2027-04-04", ["01:45+11:00"]),
        (
            *("*/15 1 * * *", "Australia/Lord_Howe", "2027-04-04"),
            [
                *("01:00+11:00", "01:15+11:00", "01:30+11:00", "01:45+11:00"),
                *("01:30+10:30", "01:45+10:30"),
            ],
        ),
        ("0 0 * * *", "Africa/Cairo", "2027-04-30", ["01:00+03:00"]),
        ("30 23 * * *", "Africa/Cairo", "2027-10-28", ["23:30+03:00"]),
        ("30 0 * * *", "America/Santiago", "2027-09-05", ["01:00-03:00"]),
        ("0 * * * 6", "America/Santiago", "2027-04-03", ["23:00-03:00", "23:00-04:00"]),
    ],
)
def test_in_the_nights_of_clock_changes_too(
    text: str, zone: str, night: str, expected: list[str]
) -> None:
    moments = [datetime.fromisoformat(f"{night}T{moment}") for moment in expected]
    start = moments[0].astimezone(UTC) - timedelta(minutes=29)
    job = {"kind": "cron", "text": text, "tz": zone}
    job |= {"anchor": start.isoformat(), "watermark": start.isoformat()}
    daemon = Daemon(json.dumps(job))
    daemon.boot()

    live(daemon, start, random.Random(text))

    last = moments[-1].astimezone(UTC)
    assert [
        moment for moment in daemon.started if moment <= last + timedelta(minutes=29)
    ] == moments

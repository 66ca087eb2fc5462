"""T1: the clock goes as it likes, and still no occurrence starts twice or is forgotten."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon_app import scheduler
from daemon_app.models import Job, Run
from daemon_app.models.run import Ending
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
NOTICED = 2 * SECOND  # a smaller step is no step
HELD = 3 * HOUR  # after a step back by up to this, the next instants hold

# name, kind, schedule, other rules
JOBS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("often", "interval", "7s", {}),
    ("minutes", "interval", "5m", {}),
    ("hours", "interval", "1h30m", {"misfire": "skip"}),
    ("days", "interval", "24h", {"misfire_age_seconds": 3600}),
    ("each minute", "cron", "* * * * *", {}),
    ("quarters", "cron", "*/15 * * * *", {"misfire": "all", "overlap": "queue"}),
    ("nightly", "cron", "30 2 * * *", {}),
    ("weekly", "cron", "0 4 * * MON", {"overlap": "replace"}),
)

Step = tuple[str, timedelta]
passing = st.timedeltas(timedelta(milliseconds=50), timedelta(minutes=10))
steps = st.one_of(
    st.tuples(st.just("passes"), passing),
    st.tuples(st.just("passes"), passing),
    st.tuples(st.just("sleeps"), st.timedeltas(SECOND, 5 * DAY)),
    st.tuples(st.just("is set"), st.timedeltas(-6 * HOUR, 6 * HOUR)),
    st.tuples(st.just("is set"), st.sampled_from([-400 * DAY, -HELD, -HOUR, HOUR, 30 * 365 * DAY])),
)


class Life:
    """A daemon with its jobs and a clock of its own, and what it has started."""

    def __init__(self) -> None:
        self.now = NOON
        self.jobs = [
            job(name, job_type=kind, schedule=text, **rules) for name, kind, text, rules in JOBS
        ]
        self.started: list[tuple[int, datetime]] = []
        # From here on every instant that has passed must be told of.
        self.since = {each.pk: NOON for each in self.jobs}

    def live(self, step: Step) -> None:
        kind, much = step
        self.now += much
        if kind == "is set" and abs(much) > NOTICED:
            waited_for = dict(Job.objects.values_list("pk", "next_due_at"))
            scheduler.clock_stepped(much.total_seconds(), self.now)
            for pk, next_due_at in Job.objects.values_list("pk", "next_due_at"):
                if next_due_at != waited_for[pk]:
                    # It begins anew; whatever was told of the future is still told.
                    self.since[pk] = self.now
        self.beat()

    def beat(self) -> None:
        scheduler.tick(self.now)
        ready = Run.objects.queued().filter(not_before__lte=self.now)
        mine = Run.objects.claim(
            list(ready.values_list("pk", flat=True)), owner="here", now=self.now
        )
        self.started += Run.objects.filter(pk__in=mine).values_list("job_id", "due_at")
        Run.objects.finish(
            Ending(pk, fence, Run.State.SUCCEEDED, self.now) for pk, fence in mine.items()
        )

    def check(self) -> None:
        assert len(self.started) == len(set(self.started))
        for each in Job.objects.all():
            assert each.schedule_error == ""
            assert each.next_due_at is not None
            assert each.next_due_at > self.now
            assert self.forgotten(each) == []

    def forgotten(self, of: Job) -> list[datetime]:
        """Return instants up to now of which no row tells."""
        told = set()
        spans = []
        for run in of.runs.filter(due_at__gte=self.since[of.pk] - DAY):
            told.add(run.due_at)
            if run.reason_code == "misfire_summary":
                first, last = (
                    datetime.fromisoformat(run.reason_facts[k]) for k in ("first", "last")
                )
                spans.append((first, last))
        found = []
        at = of.plan.next_due(self.since[of.pk], anchor=of.anchor)
        while at is not None and at <= self.now:
            if span := next((s for s in spans if s[0] <= at <= s[1]), None):
                at = span[1]
            elif at not in told:
                found.append(at)
            at = of.plan.next_due(at, previous=at, anchor=of.anchor)
        return found


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(steps, min_size=1, max_size=12))
def test_whatever_the_clock_does_each_occurrence_is_told_of_once(course: list[Step]) -> None:
    with transaction.atomic():
        life = Life()

        for step in course:
            life.live(step)

            life.check()

        transaction.set_rollback(True)


def test_a_clock_that_once_said_2056_does_not_silence_a_job_for_thirty_years() -> None:
    life = Life()

    for step in [("is set", 30 * 365 * DAY), ("is set", -30 * 365 * DAY), ("passes", 10 * SECOND)]:
        life.live(step)

    life.check()
    assert [due for name, due in life.started if name == life.jobs[0].pk][-1] < NOON + HOUR

"""What is usual of a job's runs, and which of them stand out."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon_app import durations
from daemon_app.durations import Memory, Usual
from daemon_app.models import Job, Run
from tests.jobs import NOON, job, run

SECONDS = st.floats(0, 1e6)
MANY = st.lists(SECONDS, min_size=durations.LEAST, max_size=durations.OF)


def lasted(of: Job, *seconds: float, state: str = "succeeded", **fields: Any) -> None:
    for each in seconds:
        ended = NOON + timedelta(seconds=each)
        run(of, state=state, started_at=NOON, ended_at=ended, **fields)


# ── What is usual ────────────────────────────────────────────────────────────────────────────────
@given(st.lists(SECONDS, max_size=durations.LEAST - 1), SECONDS)
def test_few_runs_say_nothing(lengths: list[float], seconds: float) -> None:
    assert Usual.of(lengths) is None


@given(MANY)
def test_the_usual_length_never_stands_out(lengths: list[float]) -> None:
    usual = Usual.of(lengths)

    assert usual
    assert 0 <= usual.short <= usual.median <= usual.long
    assert usual.judge(usual.median) == ""


@given(MANY, SECONDS, SECONDS)
def test_what_is_longer_than_what_stands_out_stands_out(
    lengths: list[float], one: float, other: float
) -> None:
    usual = Usual.of(lengths)
    assert usual
    shorter, longer = sorted((one, other))

    if usual.judge(shorter) == "long":
        assert usual.judge(longer) == "long"
    if usual.judge(longer) == "short":
        assert usual.judge(shorter) == "short"


@given(MANY, st.randoms())
def test_the_order_of_runs_says_nothing(lengths: list[float], random: object) -> None:
    other = [*lengths]
    random.shuffle(other)  # type: ignore[attr-defined]

    assert Usual.of(lengths) == Usual.of(other)


@given(st.floats(0, 1e5), st.floats(0, 5))
def test_a_few_seconds_more_or_less_are_never_told(usual: float, more: float) -> None:
    told = Usual.of([usual] * 20)

    assert told
    assert told.judge(usual + more * 0.999) == ""
    assert told.judge(max(usual - more * 0.999, 0)) == ""


@pytest.mark.parametrize(
    ("lengths", "seconds", "said"),
    [
        ([240.0] * 20, 500, "long"),
        ([240.0] * 20, 470, ""),
        ([240.0] * 20, 110, "short"),
        ([240.0] * 20, 130, ""),
        ([0.3] * 20, 4, ""),
        ([0.3] * 20, 6, "long"),
        ([0.3] * 20, 0, ""),
        ([240.0] * 19 + [90_000.0], 500, "long"),  # one outlier does not move what is usual
        ([100.0, 400.0] * 10, 900, ""),  # who varies a lot stands out late
    ],
)
def test_what_stands_out_is_far_beyond_the_others(
    lengths: list[float], seconds: float, said: str
) -> None:
    usual = Usual.of(lengths)

    assert usual
    assert usual.judge(seconds) == said


# ── Learned from the history ─────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_only_whole_runs_that_succeeded_count_the_newest_first() -> None:
    of = job()
    lasted(of, *range(100, 160))
    lasted(of, 7, 7, state="failed")
    lasted(of, 3, 3, displacements=1)  # only its last piece is measured
    run(of)
    run(of, state="running", started_at=NOON)

    assert durations.lengths(of.pk) == [float(n) for n in range(159, 109, -1)]


@pytest.mark.django_db
def test_a_job_that_never_succeeds_costs_no_more_than_others(
    django_assert_num_queries,
) -> None:
    of = job()
    lasted(of, 5)
    Run.objects.bulk_create(
        [
            Run(
                job=of,
                state="skipped",
                trigger="manual",
                due_at=NOON,
                not_before=NOON,
                queued_at=NOON,
            )
            for _ in range(durations.LOOKED_AT)
        ]
    )

    with django_assert_num_queries(1):
        assert durations.lengths(of.pk) == []


@pytest.mark.django_db
def test_an_end_is_judged_by_those_before_it_and_asks_the_history_once(
    django_assert_num_queries,
) -> None:
    of, memory = job(), Memory()
    lasted(of, *[60.0] * 12)

    with django_assert_num_queries(1):
        said = [memory.judge(of.pk, 600)]
        memory.remember(of.pk, 600)
        for _ in range(durations.OF):
            memory.judge(of.pk, 600)
            memory.remember(of.pk, 600)
        said += [memory.judge(of.pk, 600), memory.judge(of.pk, 60)]

    assert said == ["long", "", "short"]


@pytest.mark.django_db
def test_what_is_judged_twice_counts_once() -> None:
    of, memory = job(), Memory()
    lasted(of, *[60.0] * 10)

    said = {memory.judge(of.pk, 600) for _ in range(50)}

    assert said == {"long"}
    assert memory.judge(of.pk, None) == ""


@pytest.mark.django_db
def test_of_many_jobs_those_looked_at_last_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr(durations, "JOBS", 2)
    memory = Memory()
    jobs = [job(f"job-{n}") for n in range(3)]

    for each in (*jobs, jobs[1]):
        memory.judge(each.pk, 1)

    assert list(memory._lengths) == [jobs[2].pk, jobs[1].pk]

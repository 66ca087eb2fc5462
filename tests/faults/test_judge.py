"""The judge of the fault harness: whatever goes wrong is counted, and nothing else."""

from typing import Any

import pytest

from faults.judge import COUNTERS, Facts, Fault, Plan, Press, judge
from faults.ledger import End, Ledger, Start

SECOND = 1_000_000


def start(run: int = 1, due: int = 10, *, job: str = "a", attempt: int = 1, at: float = 0) -> Start:
    return Start(run, job, due * SECOND, attempt, 100 + run, int((at or due) * SECOND))


def end(run: int = 1, at: float = 11, *, attempt: int = 1, code: int = 0, size: int = 5) -> End:
    return End(run, attempt, 100 + run, int(at * SECOND), code, size)


def row(run: int = 1, due: int = 10, state: str = "succeeded", **changed: Any) -> dict[str, Any]:
    return {
        "id": run,
        "job_name": "a",
        "state": state,
        "trigger": "schedule",
        "due": due * SECOND,
        "started": due * SECOND,
        "ended": (due + 1) * SECOND,
        "attempt": 1,
        "exit_code": 0,
        "reason_code": "",
        "reason_facts": {},
        "blocking_run_id": None,
        "idempotency_key": None,
        "output_bytes": 5,
        "dropped_bytes": 0,
        **changed,
    }


def plan(*due: int, **rules: Any) -> Plan:
    return Plan("a", {at * SECOND for at in due}, **rules)


def supervisor_killed(run: int, at: float) -> Fault:
    return Fault("kill supervisor", 1.0, int(at * SECOND), 7, run)


LOST: dict[str, Any] = {"state": "lost", "reason_code": "supervisor_gone", "exit_code": None}
SKIPPED: dict[str, Any] = {
    "state": "skipped",
    "reason_code": "overlap",
    "started": None,
    "exit_code": None,
}
MISSED: dict[str, Any] = {
    "state": "missed",
    "reason_code": "misfire",
    "started": None,
    "exit_code": None,
}

NO_ROOM: dict[str, Any] = {
    "state": "failed",
    "reason_code": "start_failed",
    "reason_facts": {"error": "ENOSPC"},
    "exit_code": None,
}

GOOD = {
    "a run that starts and ends": Facts(
        [plan(10)], ledger=Ledger([start()], [end()]), rows=[row()]
    ),
    "a run that fails as it should": Facts(
        [plan(10)],
        ledger=Ledger([start()], [end(code=3)]),
        rows=[row(state="failed", exit_code=3, reason_code="exit")],
    ),
    "an occurrence that met a running one, which is named": Facts(
        [plan(10, 11)],
        ledger=Ledger([start()], [end(at=12)]),
        rows=[row(), row(2, 11, **SKIPPED, blocking_run_id=1)],
    ),
    "an occurrence that was missed": Facts(
        [plan(9, 10)], ledger=Ledger([start(2)], [end(2)]), rows=[row(1, 9, **MISSED), row(2)]
    ),
    "a row that stands for many missed ones": Facts(
        [plan(5, 6, 7, 8, 9, 10)],
        ledger=Ledger([start(2)], [end(2)]),
        rows=[
            row(
                1,
                9,
                **MISSED
                | {
                    "reason_code": "misfire_summary",
                    "reason_facts": {
                        "count": 5,
                        "first": "1970-01-01T00:00:05+00:00",
                        "last": "1970-01-01T00:00:09+00:00",
                    },
                },
            ),
            row(2),
        ],
    ),
    "a run whose supervisor was killed": Facts(
        [plan(10)],
        faults=[supervisor_killed(1, 10.5)],
        ledger=Ledger([start()]),
        rows=[row(**LOST)],
    ),
    "a launch that died with the supervisor that took it": Facts(
        [plan(10)],
        faults=[Fault("kill supervisor idle", 1.0, 10 * SECOND + 5, 7)],
        rows=[row(**LOST | {"reason_code": "never_begun"})],
    ),
    "a command that could not begin on a full disk": Facts(
        [plan(10)],
        faults=[Fault("disk full", 1.0, 9 * SECOND)],
        rows=[row(**NO_ROOM)],
    ),
    "a run that was tried again as its rules allow": Facts(
        [plan(10, attempts=2)],
        ledger=Ledger([start(), start(attempt=2, at=13)], [end(code=1), end(attempt=2, at=14)]),
        rows=[row(attempt=2, ended=14 * SECOND)],
    ),
    "a start by hand": Facts(
        [plan()],
        [Press("k", 1)],
        ledger=Ledger([start()], [end()]),
        rows=[row(trigger="api", idempotency_key="k")],
    ),
    "runs of a job that was deleted": Facts(
        [plan(10, removed=True)], ledger=Ledger([start()], [end()]), rows=[]
    ),
}


@pytest.mark.parametrize("facts", GOOD.values(), ids=GOOD.keys())
def test_what_is_right_is_not_counted(facts: Facts) -> None:
    assert judge(facts).findings == []


WRONG = {
    "an occurrence without row and start": ("L", Facts([plan(10)])),
    "an occurrence that is missed and does not say why": (
        "L",
        Facts([plan(10)], rows=[row(**MISSED | {"reason_code": ""})]),
    ),
    "a start by hand that was acknowledged and is gone": ("L", Facts([plan()], [Press("k", 1)])),
    "an attempt that starts twice": (
        "D",
        Facts([plan(10)], ledger=Ledger([start(), start(at=10.5)], [end()]), rows=[row()]),
    ),
    "an occurrence that is two runs": (
        "D",
        Facts(
            [plan(10)],
            ledger=Ledger([start(1), start(2, at=12)], [end(1), end(2, 13)]),
            rows=[row(1), row(2)],
        ),
    ),
    "a key that made two runs": (
        "D",
        Facts(
            [plan(overlapping=True)],
            ledger=Ledger([start(1), start(2)], [end(1), end(2)]),
            rows=[row(n, trigger="api", idempotency_key="k") for n in (1, 2)],
        ),
    ),
    "a run that is tried again although nobody said so": (
        "D2",
        Facts(
            [plan(10)],
            ledger=Ledger([start(), start(attempt=2, at=13)], [end(), end(attempt=2, at=14)]),
            rows=[row(attempt=2)],
        ),
    ),
    "a process of a run that has ended": (
        "O",
        Facts([plan(10)], ledger=Ledger([start()], [end()]), rows=[row()], living=[(101, 1)]),
    ),
    "a process of a run nobody knows": ("O", Facts(living=[(101, 9)])),
    "a run that never ends": (
        "G",
        Facts([plan(10)], ledger=Ledger([start()], [end()]), rows=[row(state="running")]),
    ),
    "a start without a row": (
        "U",
        Facts([plan(10)], ledger=Ledger([start()], [end()])),
    ),
    "a row that has run and never started": ("U", Facts([plan()], rows=[row()])),
    "a success without an end": (
        "U",
        Facts([plan(10)], ledger=Ledger([start()]), rows=[row()]),
    ),
    "another exit code than the command's": (
        "U",
        Facts(
            [plan(10)],
            ledger=Ledger([start()], [end(code=3)]),
            rows=[row(state="failed", exit_code=1, reason_code="exit")],
        ),
    ),
    "output that is missing": (
        "U",
        Facts([plan(10)], ledger=Ledger([start()], [end(size=6)]), rows=[row()]),
    ),
    "a run that is lost although nobody touched it": (
        "U",
        Facts([plan(10)], ledger=Ledger([start()]), rows=[row(**LOST)]),
    ),
    "a lost run excused by the death of another's supervisor": (
        "U",
        Facts(
            [plan(10)],
            faults=[supervisor_killed(2, 10.5)],
            ledger=Ledger([start()]),
            rows=[row(**LOST)],
        ),
    ),
    "a full disk that nobody filled": ("U", Facts([plan()], rows=[row(**NO_ROOM)])),
    "a skipped run that names nothing in its way": (
        "U",
        Facts([plan(11)], rows=[row(2, 11, **SKIPPED)]),
    ),
    "a skipped run that ran": (
        "U",
        Facts(
            [plan(10)],
            ledger=Ledger([start()], [end()]),
            rows=[row(**SKIPPED, blocking_run_id=1)],
        ),
    ),
    "a line of the ledger that is torn": ("U", Facts(ledger=Ledger(torn=["1 a"]))),
    "an end before its start": (
        "W",
        Facts([plan(10)], ledger=Ledger([start(at=12)], [end(at=11)]), rows=[row()]),
    ),
    "two runs of a job at once": (
        "W",
        Facts(
            [plan(10, 11)],
            ledger=Ledger([start(1), start(2, 11)], [end(1, 15), end(2, 12)]),
            rows=[row(1), row(2, 11)],
        ),
    ),
    "two runs at once of jobs that share a pool of one": (
        "W",
        Facts(
            [plan(10, pool="one"), Plan("b", {11 * SECOND}, pool="one")],
            ledger=Ledger([start(1), start(2, 11, job="b")], [end(1, 15), end(2, 12)]),
            rows=[row(1), row(2, 11, job_name="b")],
        ),
    ),
    "a later occurrence before an earlier one": (
        "W",
        Facts(
            [plan(10, 11)],
            ledger=Ledger([start(1, at=13), start(2, 11)], [end(1, 14), end(2, 12)]),
            rows=[row(1), row(2, 11)],
        ),
    ),
    "a database that is broken": ("I", Facts(broken=["row 7 missing from index"])),
}


@pytest.mark.parametrize(("counter", "facts"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_counted(counter: str, facts: Facts) -> None:
    verdict = judge(facts)

    assert {name for name in COUNTERS if verdict.counts[name]} == {counter}


def test_a_row_for_many_missed_ones_must_tell_their_number() -> None:
    many = MISSED | {"reason_code": "misfire_many", "reason_facts": {"more": 2}}
    facts = Facts(
        [plan(5, 6, 7, 8, 10)],
        ledger=Ledger([start(2)], [end(2)]),
        rows=[row(1, 5, **many), row(2)],
    )

    verdict = judge(facts)

    assert verdict.findings == ["U: a at 5000000: tells of 2 missed, 3 were"]


def test_how_long_a_loss_went_unnoticed_is_told() -> None:
    verdict = judge(GOOD["a run whose supervisor was killed"])

    assert verdict.noticed == [SECOND // 2]

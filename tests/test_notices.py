"""What a person should know now, and what to do about it."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import DatabaseError
from django.utils import translation

from daemon_app import alarms, doorbell, notices, pidfile
from daemon_app.models import Incident, Job, Node, Policy, Pool
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture
def board() -> Iterator[alarms.Board]:
    board = alarms.Board(doorbell.runtime_dir(settings.DATA_DIR))
    yield board
    board.clear(*(alarm.code for alarm in board.read()))


def node(**fields) -> Node:
    wanted = {"pid": 4711, "started_at": NOON, "seen_at": NOON, **fields}
    return Node.objects.create(host="here", **wanted)


def codes() -> list[str]:
    return [notice.code for notice in notices.current(NOON)]


def test_nothing_is_said_while_all_is_well(board) -> None:
    node()

    assert notices.current(NOON) == []


def test_an_alarm_tells_what_is_wrong_and_what_to_do(board) -> None:
    node()
    board.raise_("disk_full", free_mb=3)

    (notice,) = notices.current(NOON)

    assert (notice.level, notice.title) == ("error", "The disk is full")
    assert "3 MB" in notice.text
    assert str(settings.DATA_DIR) in notice.text


def test_every_alarm_of_the_beat_has_a_sentence() -> None:
    assert {*alarms.BEAT, alarms.PART_FAILS} <= notices.SENTENCES.keys()


def test_alarms_of_a_daemon_that_is_gone_are_no_news_of_now(board) -> None:
    node(seen_at=NOON - timedelta(hours=1))
    board.raise_("disk_full", free_mb=3)

    (notice,) = notices.current(NOON)

    assert (notice.code, notice.level) == ("daemon_away", "error")


def test_a_daemon_that_was_stopped_on_purpose_is_no_error(board) -> None:
    node(seen_at=NOON - timedelta(hours=1), stopped_at=NOON - timedelta(hours=1))

    (notice,) = notices.current(NOON)

    assert (notice.code, notice.level) == ("daemon_away", "info")


def test_a_daemon_that_is_there_and_silent_is_told_from_one_that_is_away(board) -> None:
    node(seen_at=NOON - timedelta(hours=1))
    board.raise_("database_locked", seconds=60)

    with pidfile.held(settings.DATA_DIR / "daemon.pid"):
        found = codes()

    assert set(found) == {"daemon_silent", "database_locked"}


def test_a_hold_is_shown_with_who_and_why(board) -> None:
    node()
    Policy.set_hold("drain", now=NOON, by="anna", note="back at six")

    (notice,) = notices.current(NOON)

    assert "anna" in notice.title
    assert notice.text == "back at six"


def test_a_rule_that_became_impossible_is_told(board) -> None:
    node()
    Pool(name="gpu", size=4).store(now=NOON, by="anna")
    needy = job("train", pools={"gpu": 3})
    Pool.objects.update(size=2)

    (notice,) = notices.current(NOON)

    assert (notice.code, notice.job_id) == ("impossible", needy.pk)
    assert "gpu" in notice.text


def test_jobs_that_miss_the_same_pool_are_told_as_one(board) -> None:
    node()
    pool = Pool(name="gpu", size=4).store(now=NOON, by="anna")
    both = [job(name, pools={"gpu": 3}) for name in ("bench", "train")]
    Pool.objects.update(size=2)

    (small,) = notices.current(NOON)
    pool.remove()
    (gone,) = notices.current(NOON)

    assert small.title == "Pool “gpu” is too small: 2 jobs can't start"
    assert gone.title == "Pool “gpu” is missing: 2 jobs can't start"
    assert gone.jobs == tuple((each.pk, each.name) for each in both)
    assert "bench, train" in gone.text


def test_a_broken_schedule_is_told_once(board) -> None:
    node()
    broken = job("odd")
    Job.objects.filter(pk=broken.pk).update(schedule_error="no such zone")
    Incident.note("schedule_broken", now=NOON, job=broken, error="no such zone")

    assert codes() == ["schedule_broken"]


def test_a_broken_schedule_is_told_in_the_readers_language(board) -> None:
    node()
    broken = job("odd", job_type="cron", schedule="0 3 * * *")
    Job.objects.filter(pk=broken.pk).update(timezone="Europe/Atlantis", schedule_error="no such")
    stored = job("old")
    Job.objects.filter(pk=stored.pk).update(schedule_error="cause that is gone")

    with translation.override("de"):
        german = [notice.text for notice in notices.current(NOON)]
    with translation.override("en"):
        english = [notice.text for notice in notices.current(NOON)]

    assert "Zeitzone" in german[0]
    assert "zone" in english[0]
    assert "Atlantis" in english[0]
    assert "no such " not in german[0] + english[0]
    assert "cause that is gone" in german[1]


def test_what_happened_stays_until_somebody_has_seen_it(board) -> None:
    node()
    incident = Incident.note("asleep", now=NOON, seconds=7200)

    (notice,) = notices.current(NOON)
    assert (notice.incident_id, notice.code) == (incident.pk, "asleep")

    incident.acknowledge(by="anna", now=NOON)
    assert notices.current(NOON) == []


def test_the_worst_comes_first(board) -> None:
    node()
    Incident.note("asleep", now=NOON, level="info", seconds=7200)
    board.raise_("cluster_silent", seconds=40)
    board.raise_("disk_full", free_mb=3)

    assert [n.level for n in notices.current(NOON)] == ["error", "warn", "info"]


def test_a_database_in_trouble_is_itself_the_news(board, monkeypatch) -> None:
    def broken() -> None:
        raise DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Node, "latest", broken)
    board.raise_("disk_full", free_mb=3)

    found = {notice.code: notice for notice in notices.current(NOON)}

    assert found.keys() == {"database_failing", "disk_full"}
    assert "malformed" in found["database_failing"].text

"""The sentry: who comes is seen at once, who went is believed after a while."""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import ClassVar

import pytest
from django.db import DataError, connection
from django.utils import timezone

from daemon_app import doorbell, supervisor
from daemon_app.models import IdleSpan, Node, Policy, Run
from daemon_app.presence import Idleness, Sentry
from daemon_app.readings import Reading, State
from daemon_app.signs import Scene, Sign
from tests.ground.conftest import Site, site  # noqa: F401 - a fixture
from tests.jobs import job
from tests.jobs import run as job_run
from tests.presence.post import Post
from tests.presence.scenes import ticked
from tests.service import until


class Flag:
    """A sign that the test sets."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = True
    often: ClassVar[float | None] = None

    def __init__(self) -> None:
        self.busy: bool | None = False

    def look(self, scene: Scene) -> Sign:
        return Sign("flag", self.busy, "sign_ollama", {"model": "llama"})


@pytest.fixture
def quiet(post: Post) -> Post:
    """Return a post whose machine is idle."""
    post.sentry_with()
    post.clock.passes(130)
    post.becomes(True)
    return post


# ── Idle and busy ────────────────────────────────────────────────────────────────────────────────
def test_one_sign_makes_busy_at_once_and_only_two_quiet_minutes_make_idle(quiet: Post) -> None:
    quiet.activity()
    busy = quiet.becomes(False)

    assert busy.reasons == (
        {"signal": "requests", "code": "sign_requests", "facts": {"who": "anna"}},
    )
    assert (busy.idle_from - quiet.clock.now()).total_seconds() == pytest.approx(120, abs=1)
    for _seven_seconds in range(17):
        quiet.passes(7)
        assert quiet.becomes(False).since == busy.since
    quiet.passes(2)
    assert quiet.becomes(True).reasons == ()


def test_the_time_after_which_a_machine_is_idle_is_a_rule(quiet: Post) -> None:
    Policy(pk=1, idle_after_seconds=10).store(now=timezone.now(), by="anna")
    quiet.activity()
    quiet.becomes(False)

    quiet.passes(11)

    quiet.becomes(True)


def test_a_clock_that_is_set_makes_nobody_leave_and_nobody_come(quiet: Post) -> None:
    quiet.mark()
    quiet.activity()
    quiet.becomes(False)

    quiet.clock.time += 7200
    quiet.passes(60)
    assert quiet.becomes(False).idle_from > quiet.clock.now()
    quiet.clock.time -= 10_000
    quiet.passes(61)

    quiet.becomes(True)


def test_a_mark_alone_is_seen_when_its_bell_was_lost(quiet: Post) -> None:
    quiet.clock.passes(5)
    quiet.mark("ben")

    assert quiet.becomes(False).reasons[0]["facts"] == {"who": "ben"}


def test_a_sign_that_can_not_be_told_is_no_idleness(post: Post) -> None:
    flag = Flag()
    post.sentry_with(flag=flag)
    post.clock.passes(130)
    post.becomes(True)

    flag.busy = None
    unknown = post.becomes(None)
    flag.busy = False

    assert [reason["signal"] for reason in unknown.reasons] == ["flag"]
    post.becomes(True)


def test_what_was_there_has_to_be_gone_for_as_long(post: Post) -> None:
    flag = Flag()
    post.sentry_with(flag=flag)
    post.clock.passes(130)
    post.becomes(True)
    flag.busy = True
    assert post.becomes(False).idle_from is None

    flag.busy = False
    post.passes(30)
    still = until(lambda: post.becomes(False).idle_from and post.becomes(False))

    assert still.reasons[0]["code"] == "sign_lately"
    assert still.reasons[0]["facts"]["facts"] == {"model": "llama"}
    post.passes(100)
    post.becomes(True)


def test_signs_that_nobody_has_looked_at_yet_are_not_known(post: Post) -> None:
    post.sentry_with("models")
    post.clock.passes(130)

    assert post.becomes(None).reasons[0]["code"] == "sign_no_reading"


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────
def test_who_is_away_by_their_own_word_does_not_count_until_the_end_of_it(quiet: Post) -> None:
    quiet.activity()
    quiet.becomes(False)

    end = quiet.clock.now() + timedelta(minutes=30)
    Policy.set_presence("away", now=quiet.clock.now(), by="anna", until=end)
    quiet.becomes(True)
    quiet.activity()
    quiet.passes(5)
    assert quiet.sentry
    assert quiet.sentry.state.idle
    quiet.clock.passes(1800)
    quiet.mark(age=10)

    assert quiet.becomes(False).reasons[0]["signal"] == "requests"


def test_away_does_not_override_what_the_machine_does(post: Post) -> None:
    flag = Flag()
    post.sentry_with(flag=flag)
    post.clock.passes(130)
    Policy.set_presence("away", now=post.clock.now(), by="anna")

    flag.busy = True

    post.becomes(False)


def test_who_is_here_by_their_own_word_is_until_its_end_or_until_they_take_it_back(
    quiet: Post,
) -> None:
    end = quiet.clock.now() + timedelta(minutes=30)
    Policy.set_presence("here", now=quiet.clock.now(), by="anna", until=end)
    here = quiet.becomes(False)

    assert here.reasons[0]["facts"]["who"] == "anna"
    quiet.passes(1700)
    assert quiet.becomes(False).reasons[0]["code"] == "sign_hand"
    quiet.passes(300)
    quiet.passes(0)
    quiet.becomes(True)
    Policy.set_presence("here", now=quiet.clock.now(), by="anna")
    quiet.becomes(False)
    Policy.set_presence("", now=quiet.clock.now(), by="anna")
    quiet.passes(121)
    quiet.becomes(True)


# ── Making way ───────────────────────────────────────────────────────────────────────────────────
def test_a_real_command_makes_way_for_a_request_before_anything_is_written_down(
    quiet: Post,
    site: Site,  # noqa: F811
) -> None:
    run = site.launch("trap 'echo asked > asked; exit 0' TERM; echo up > up; sleep 60 & wait")
    site.wrote("up")
    assert quiet.sentry
    quiet.sentry.watch(run, site.of(run), 1, "displace")
    at = quiet.clock.wall()

    quiet.activity(at=at)

    result = site.ended(run)
    assert result["outcome"] == "displaced"
    news = quiet.news("displaced")
    assert (news["run"], news["fence"], news["at"]) == (run, 1, at)
    assert news["cause"] == {
        "signal": "requests",
        "code": "sign_requests",
        "facts": {"who": "anna"},
    }


def test_a_run_that_people_end_is_stopped(quiet: Post, site: Site) -> None:  # noqa: F811
    run = site.launch("echo up > up; exec sleep 60")
    site.wrote("up")
    assert quiet.sentry
    quiet.sentry.watch(run, site.of(run), 1, "cancel")

    quiet.activity()

    assert site.ended(run)["outcome"] == "stopped"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of folders whose runs are asked to stop."""
    folders: list[str] = []

    def note(folder: Path, how: str, fence: int) -> bool:
        folders.append(f"{folder.name} {how} {fence}")
        return True

    monkeypatch.setattr(supervisor, "request_stop", note)
    return folders


def test_the_machine_is_busy_before_anything_is_asked_to_make_way(
    quiet: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentry, then = quiet.sentry, []
    assert sentry

    def ends_at_once(_folder: Path, _how: str, _fence: int) -> bool:
        then.append(sentry.state.idle)
        return True

    monkeypatch.setattr(supervisor, "request_stop", ends_at_once)
    sentry.watch(1, Path("/runs/1"), 1, "displace")

    quiet.activity()

    quiet.news("displaced")
    assert then == [False]


def test_all_watched_runs_are_asked_once_and_those_released_are_not(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    for number in (1, 2, 3):
        quiet.sentry.watch(number, Path(f"/runs/{number}"), 7, "displace")
    quiet.sentry.release(2)

    quiet.activity()
    quiet.activity("ben")
    quiet.becomes(False)
    quiet.passes(1)
    quiet.becomes(False)

    assert sorted(asked) == ["1 displace 7", "3 displace 7"]


@pytest.mark.parametrize("cause", ["mark", "flag", "here"])
def test_every_sign_makes_runs_give_way(post: Post, asked: list[str], cause: str) -> None:
    flag = Flag()
    sentry = post.sentry_with(flag=flag)
    post.clock.passes(130)
    post.becomes(True)
    sentry.watch(1, Path("/runs/1"), 1, "displace")
    post.clock.passes(10)

    if cause == "mark":
        post.mark()
    elif cause == "flag":
        flag.busy = True
    else:
        Policy.set_presence("here", now=post.clock.now(), by="anna")
    post.becomes(False)

    until(lambda: asked == ["1 displace 1"])
    wanted = {"mark": "requests", "flag": "flag", "here": "hand"}
    assert post.news("displaced")["cause"]["signal"] == wanted[cause]


def test_runs_make_way_while_the_database_is_locked(quiet: Post, asked: list[str]) -> None:
    assert quiet.sentry
    until(lambda: Node.objects.get(host="here").idle)
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")

    with closing(sqlite3.connect(str(connection.settings_dict["NAME"]))) as other:
        other.execute("BEGIN IMMEDIATE")
        quiet.activity()
        until(lambda: asked == ["1 displace 1"])
        quiet.becomes(False)
        quiet.news("displaced")
        other.rollback()

    until(lambda: Node.objects.filter(host="here", idle=False).exists())


def test_a_sign_that_hangs_holds_up_nobody(post: Post, asked: list[str]) -> None:
    class Hanging(Flag):
        quick: ClassVar[bool] = False

        def look(self, scene: Scene) -> Sign:
            released.wait(60)
            return super().look(scene)

    released = Event()
    sentry = post.sentry_with(hanging=Hanging())
    try:
        post.clock.passes(130)
        assert post.becomes(None).reasons[0]["code"] == "sign_no_reading"
        sentry.watch(1, Path("/runs/1"), 1, "displace")

        post.activity()

        until(lambda: asked == ["1 displace 1"])
        post.becomes(False)
    finally:
        released.set()


def test_a_sign_that_breaks_is_unknown_and_the_others_go_on(post: Post) -> None:
    class Broken(Flag):
        quick: ClassVar[bool] = False

        def look(self, scene: Scene) -> Sign:
            raise ZeroDivisionError

    post.sentry_with(flag=Broken())
    post.clock.passes(130)
    post.ticks({})
    assert post.becomes(None).reasons[0]["code"] == "sign_failed"

    post.activity()

    assert post.becomes(False).reasons[0]["code"] == "sign_requests"


def test_a_sign_that_can_not_be_told_disturbs_nobody(post: Post, asked: list[str]) -> None:
    flag = Flag()
    sentry = post.sentry_with(flag=flag)
    post.clock.passes(130)
    post.becomes(True)
    sentry.watch(1, Path("/runs/1"), 1, "displace")
    post.clock.passes(10)

    flag.busy = None
    post.becomes(None)

    assert asked == []


def test_who_starts_a_run_does_not_chase_it_away_by_that_nor_by_what_they_do_next(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    quiet.activity()
    quiet.becomes(False)
    quiet.clock.passes(0.1)

    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")
    quiet.sentry.watch(2, Path("/runs/2"), 1, "cancel")
    quiet.passes(1)
    quiet.becomes(False)
    quiet.activity()
    quiet.passes(100)
    quiet.mark()
    quiet.becomes(False)

    assert asked == []


def test_a_click_whose_bell_was_lost_chases_away_nothing_that_it_started(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    quiet.mark()
    quiet.clock.passes(0.1)
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")
    quiet.becomes(False)

    quiet.activity()
    quiet.becomes(False)

    assert asked == []


def test_a_run_that_needs_no_idle_machine_makes_way_to_who_comes_back_to_it(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    quiet.activity()
    quiet.becomes(False)
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")
    quiet.passes(121)
    quiet.becomes(True)

    quiet.activity()

    until(lambda: asked == ["1 displace 1"])


def test_a_run_adopted_while_people_are_here_makes_way_if_it_needs_an_idle_machine(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    quiet.activity()
    quiet.becomes(False)
    quiet.clock.passes(30)

    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace", {"idle": True})

    until(lambda: asked == ["1 displace 1"])


def test_what_no_person_has_started_makes_way_to_the_next_sign_of_one(
    quiet: Post, asked: list[str]
) -> None:
    quiet.activity()
    quiet.becomes(False)
    quiet.clock.passes(5)
    assert quiet.sentry
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace", beside=False)
    quiet.sentry.watch(2, Path("/runs/2"), 1, "displace", beside=True)
    quiet.clock.passes(5)

    quiet.activity()

    until(lambda: asked == ["1 displace 1"])


def test_somebody_at_another_host_makes_runs_give_way_here(quiet: Post, asked: list[str]) -> None:
    now = quiet.clock.now()
    there = Node.objects.create(host="there", pid=1, started_at=now, seen_at=now)
    assert quiet.sentry
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")
    quiet.clock.passes(10)

    Node.objects.filter(pk=there.pk).update(active_at=quiet.clock.now())
    quiet.look()

    until(lambda: asked == ["1 displace 1"])
    assert quiet.becomes(False).reasons[0]["facts"] == {"host": "there"}


def test_two_hosts_do_not_keep_each_other_awake(quiet: Post) -> None:
    now = quiet.clock.now()
    Node.objects.create(host="there", pid=1, started_at=now, seen_at=now, active_at=now)
    quiet.look()
    quiet.becomes(False)

    saw_them = Node.objects.filter(host="here", idle_reasons__0__signal="elsewhere")
    seen = until(saw_them.first)

    assert seen.active_at is None, "what they saw is not what we saw"
    quiet.passes(121)
    quiet.becomes(True)


def test_the_last_activity_that_others_read_changes_with_activity_alone(quiet: Post) -> None:
    quiet.activity()
    quiet.becomes(False)
    active = Node.objects.filter(host="here", idle=False, active_at__isnull=False)
    busy = until(active.first)

    quiet.passes(60.3)
    quiet.clock.time += 3600
    quiet.passes(60.3)
    quiet.becomes(True)
    idle = until(lambda: Node.objects.filter(host="here", idle=True).first())

    assert idle.active_at == busy.active_at
    quiet.passes(1)
    quiet.activity()
    quiet.becomes(False)
    again = until(active.first)
    assert again.active_at > idle.active_at


# ── Our own work ─────────────────────────────────────────────────────────────────────────────────
def in_use(model: str) -> dict[str, Reading]:
    models = [{"backend": "t2i", "model": model, "in_use": 1}]
    return ticked(
        gpu_service=(State.OK, {}),
        vram=(State.OK, {"source": "service", "models": models if model else []}),
        ollama=(State.DOWN, {}),
    )


def test_a_service_that_a_run_of_ours_needs_works_for_us_until_the_tick_after_it(
    post: Post,
) -> None:
    post.sentry_with("models")
    post.clock.passes(130)
    now = post.clock.now()
    needs = {"services": ["gpu_service"]}
    run = job_run(job(needs_services=["gpu_service"]), now=now, not_before=now, needs=needs)
    assert run.claim(owner="here", now=now)

    post.ticks(in_use("sdxl"))
    post.becomes(True)
    post.clock.passes(30)
    run.finish(Run.State.SUCCEEDED, now=post.clock.now(), exit_code=0)
    post.ticks(in_use("sdxl"))
    post.becomes(True)
    post.clock.passes(30)
    post.ticks(in_use("sdxl"))

    assert post.becomes(False).reasons[0]["facts"] == {"model": "sdxl"}


def test_a_model_in_use_that_is_not_ours_makes_runs_give_way(post: Post, asked: list[str]) -> None:
    sentry = post.sentry_with("models")
    post.clock.passes(130)
    post.ticks(in_use(""))
    post.becomes(True)
    sentry.watch(1, Path("/runs/1"), 1, "displace", {"services": ["ollama"]})
    post.clock.passes(30)

    post.ticks(in_use("sdxl"))

    until(lambda: asked == ["1 displace 1"])
    assert post.news("displaced")["cause"]["code"] == "sign_gpu_service"


def test_readings_too_old_say_nothing_of_now(post: Post) -> None:
    post.sentry_with("models")
    post.clock.passes(130)
    post.ticks(in_use(""))
    post.becomes(True)

    post.passes(100)

    assert post.becomes(None).reasons[0]["signal"] == "models"


def test_nonsense_at_the_bell_changes_nothing(quiet: Post, asked: list[str]) -> None:
    assert quiet.sentry
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")

    for message in (b"\xff", b"[]", b'{"op": "activity"}', b'{"op": "activity", "at": "x"}', b"1"):
        doorbell.ring(quiet.runtime, "presence", message)
    quiet.becomes(True)

    assert asked == []


# ── What is written down ─────────────────────────────────────────────────────────────────────────
def test_what_is_seen_is_written_down_with_its_spans(quiet: Post) -> None:
    until(lambda: Node.objects.get(host="here").idle)
    quiet.clock.passes(10)
    quiet.activity()
    quiet.becomes(False)

    node = until(lambda: Node.objects.filter(host="here", idle=False, users=1).first())

    assert node.idle_reasons[0]["code"] == "sign_requests"
    assert node.active_at == pytest.approx(quiet.clock.now(), abs=timedelta(seconds=1))
    lasting = until(lambda: IdleSpan.objects.filter(ended_at=None, idle=False).first())
    before = IdleSpan.objects.exclude(pk=lasting.pk).get(idle=True)
    assert before.ended_at == lasting.began_at == node.idle_since
    assert lasting.reasons == node.idle_reasons
    assert quiet.news("conditions")


def test_the_end_of_the_daemon_ends_the_span_and_a_killed_one_s_ends_at_its_last_sign(
    quiet: Post,
) -> None:
    until(lambda: IdleSpan.objects.filter(ended_at=None, idle=True).exists())
    quiet.clock.passes(50)
    quiet.relieve()
    ended = IdleSpan.objects.order_by("-id").first()
    assert ended
    assert ended.ended_at == quiet.clock.now()

    left = IdleSpan.objects.create(host="here", idle=True, began_at=quiet.clock.now())
    last_sign = quiet.clock.now() + timedelta(seconds=100)
    Node.objects.filter(host="here").update(seen_at=last_sign)
    quiet.clock.passes(500)
    quiet.sentry_with()

    left.refresh_from_db()
    assert left.ended_at == last_sign


def test_a_restart_while_idle_stays_idle_unless_a_mark_says_that_somebody_came(
    quiet: Post,
) -> None:
    until(lambda: Node.objects.get(host="here").idle)
    quiet.relieve()
    Node.objects.filter(host="here").update(seen_at=quiet.clock.now())

    quiet.clock.passes(30)
    quiet.sentry_with()
    quiet.becomes(True)
    quiet.relieve()
    quiet.mark(age=20)
    quiet.clock.passes(30)
    sentry = quiet.sentry_with()

    back = quiet.becomes(False)
    assert back.reasons[0]["code"] == "sign_requests"
    assert (back.idle_from - quiet.clock.now()).total_seconds() == pytest.approx(70, abs=1)
    assert sentry.state.users == 1


def test_a_first_start_waits_before_it_calls_the_machine_idle(post: Post) -> None:
    post.sentry_with()

    assert post.becomes(False).reasons[0]["code"] == "sign_start"
    post.passes(121)
    post.becomes(True)


# ── Sleep ────────────────────────────────────────────────────────────────────────────────────────
def test_a_machine_that_wakes_up_is_no_longer_idle_from_before_it_slept(quiet: Post) -> None:
    until(lambda: IdleSpan.objects.filter(ended_at=None, idle=True).exists())
    fell_asleep = quiet.clock.now()
    quiet.clock.sleeps(8 * 3600)

    woken = quiet.becomes(False)

    assert woken.reasons[0]["code"] == "sign_woke"
    assert woken.since == quiet.clock.now()
    lasting = until(lambda: IdleSpan.objects.filter(ended_at=None, idle=False).first())
    assert lasting.began_at == woken.since
    before = IdleSpan.objects.get(idle=True)
    assert before.ended_at == pytest.approx(fell_asleep, abs=timedelta(seconds=1))
    quiet.passes(119)
    quiet.becomes(False)
    quiet.passes(2)
    assert quiet.becomes(True).since == quiet.clock.now()


def test_a_sentry_that_stood_still_has_not_seen_the_machine_idle_meanwhile(quiet: Post) -> None:
    until(lambda: IdleSpan.objects.filter(ended_at=None, idle=True).exists())
    quiet.becomes(True)
    last_look = quiet.clock.now()
    quiet.clock.passes(60)

    going_on = quiet.becomes(True)

    assert going_on.since == quiet.clock.now()
    lasting = until(lambda: IdleSpan.objects.filter(ended_at=None, began_at=going_on.since).first())
    assert lasting.idle
    before = IdleSpan.objects.get(idle=True, ended_at=last_look)
    assert before.began_at <= last_look


def test_who_was_here_before_the_machine_slept_is_not_here_when_it_wakes_up(quiet: Post) -> None:
    quiet.mark()
    quiet.activity()
    quiet.becomes(False)

    quiet.clock.sleeps(8 * 3600)
    quiet.look()

    woken = until(lambda: (state := quiet.becomes(False)).users == 0 and state)
    assert woken.reasons[0]["code"] == "sign_woke"
    assert woken.since == quiet.clock.now()


def test_what_was_measured_before_the_machine_slept_says_nothing_of_now(post: Post) -> None:
    post.sentry_with("models")
    post.clock.passes(130)
    post.ticks(in_use(""))
    post.becomes(True)

    post.clock.sleeps(3600)

    assert post.becomes(None).reasons[0]["signal"] == "models"


def test_waking_up_is_nobody_s_return_but_the_first_sign_afterwards_is(
    quiet: Post, asked: list[str]
) -> None:
    assert quiet.sentry
    quiet.sentry.watch(1, Path("/runs/1"), 1, "displace")
    quiet.becomes(True)
    quiet.clock.sleeps(3600)
    quiet.becomes(False)
    assert asked == []
    quiet.clock.passes(5)

    quiet.activity()

    until(lambda: asked == ["1 displace 1"])


def test_reasons_that_the_database_refuses_do_not_keep_the_rest_from_being_written(
    quiet: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Sentry._span

    def refuse(self: Sentry, state: Idleness, unseen_from: datetime | None) -> None:
        if state.reasons:
            raise DataError("unsupported Unicode escape sequence")
        begin(self, state, unseen_from)

    until(lambda: Node.objects.get(host="here").idle)
    monkeypatch.setattr(Sentry, "_span", refuse)

    quiet.activity()

    busy = until(lambda: Node.objects.filter(host="here", idle=False).first())
    assert busy.idle_reasons == []

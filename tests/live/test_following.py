"""A run's output over REST, as it is written: complete, in order, until the run ends."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from django.conf import settings

from daemon_app import output
from daemon_app import web as server
from tests.live.web import PATIENCE, Web

STDOUT = output.STDOUT
MIB = 1024 * 1024


@pytest.fixture
def token(web: Web, request: pytest.FixtureRequest) -> str:
    """A token of a viewer of this test's own."""
    return make_token(web, request.node.name)


def make_token(web: Web, name: str) -> str:
    made: str = web.tell(
        f"Token.issue(Account.objects.create_user({name[:70]!r}), name={name[:70]!r}, "
        "role='viewer', now=timezone.now(), life=timedelta(days=1))[1]"
    )
    return made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def following(
    web: Web, run: int, headers: dict[str, str], query: str = "follow=1"
) -> Iterator[httpx.Response]:
    """Follow a run; the answer is open as long as the block lasts."""
    address = f"{web.origin}/api/daemon/runs/{run}/log?{query}"
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", address, headers=headers) as answer,
    ):
        yield answer


class Output:
    """What comes of a stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.parts = answer.iter_raw()
        self.text = b""

    def until(self, end: bytes) -> bytes:
        """Return all that came, once it ends with `end`."""
        while not self.text.endswith(end):
            self.text += next(self.parts)
        return self.text

    def rest(self) -> bytes:
        """Return all that came, once nothing more comes."""
        self.text += b"".join(self.parts)
        return self.text


def until(answer: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := answer():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_lines_come_as_they_are_written_and_the_end_with_the_run(web: Web, token: str) -> None:
    run = web.tell("running('is followed')")
    writer = web.writer(run)
    writer.write(b"one\n", STDOUT, 0.0)

    with following(web, run, bearer(token)) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert "Content-Length" not in answer.headers
        found = Output(answer)
        assert found.until(b"one\n") == b"one\n"
        writer.write(b"two \xff\n", STDOUT, 0.0)
        web.ring(f"log:{run}")
        assert found.until(b"\xff\n") == b"one\ntwo \xff\n"
        writer.write(b"last", STDOUT, 0.0)
        web.tell(f"finish({run})")
        assert found.rest() == b"one\ntwo \xff\nlast"


def test_what_no_bell_told_comes_too(web: Web, token: str) -> None:
    run = web.tell("running('is followed silently')")

    with following(web, run, bearer(token)) as answer:
        web.writer(run).write(b"heard by nobody\n", STDOUT, 0.0)
        assert Output(answer).until(b"\n") == b"heard by nobody\n"


@pytest.mark.parametrize(
    ("query", "begins"),
    [
        ("follow=true&offset=4", b"two\nthree\n"),
        ("follow=1&lines=1", b"three\n"),
        ("follow=1&offset=99", b""),
    ],
)
def test_it_begins_where_it_is_told_to(web: Web, token: str, query: str, begins: bytes) -> None:
    run = web.tell(f"running('begins {len(begins)} before its end')")
    web.writer(run).write(b"one\ntwo\nthree\n", STDOUT, 0.0)
    web.tell(f"finish({run})")

    with following(web, run, bearer(token), query) as answer:
        assert Output(answer).rest() == begins


def test_a_run_that_is_tried_again_is_followed_to_its_last_attempt(web: Web, token: str) -> None:
    run = web.tell("running('is tried again')")
    folder = web.folder(run)
    web.writer(run).write(b"first try\n", STDOUT, 0.0)

    with following(web, run, bearer(token)) as answer:
        found = Output(answer)
        found.until(b"try\n")
        with (folder / "output.0").open("ab") as late:
            late.write(b"its last word\n")
        kept = folder / "attempts" / "1"
        kept.mkdir(parents=True)
        (folder / "output.0").rename(kept / "output.0")
        web.writer(run).write(b"second\n", STDOUT, 0.0)
        web.tell(f"finish({run})")

        assert found.rest() == b"first try\nits last word\nsecond\n"


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("revoked", "Token.objects.get(account=a).revoke(timezone.now())"),
        ("switched off", "setattr(a, 'is_active', False) or a.save()"),
        ("deleted", "a.delete()"),
    ],
)
def test_it_ends_when_the_right_to_look_does(web: Web, how: str, end: str) -> None:
    token = make_token(web, how)
    run = web.tell(f"running('reader is {how}')")

    with following(web, run, bearer(token)) as answer:
        assert answer.status_code == 200
        web.tell(f"[({end}) for a in Account.objects.filter(username={how!r})] and None")

        assert Output(answer).rest() == b""


def test_it_ends_when_a_tokens_time_is_over_though_no_bell_rings(web: Web, token: str) -> None:
    run = web.tell("running('outlives its reader')")

    with following(web, run, bearer(token)) as answer:
        assert answer.status_code == 200
        number = int(token.split("_")[1])
        web.tell(f"Token.objects.filter(pk={number}).update(expires_at=timezone.now())")

        assert Output(answer).rest() == b""


def test_a_session_follows_too_and_ends_with_the_sign_in(web: Web, session: str) -> None:
    run = web.tell("running('by a session')")
    web.writer(run).write(b"hello\n", STDOUT, 0.0)
    cookie = {"Cookie": f"bach_{web.port}={session}", "Sec-Fetch-Site": "same-origin"}

    with following(web, run, cookie) as answer:
        found = Output(answer)
        found.until(b"hello\n")
        web.tell(f"Session.objects.filter(pk={session!r}).delete()")

        assert found.rest() == b"hello\n"


def test_it_ends_when_the_run_is_deleted(web: Web, token: str) -> None:
    run = web.tell("running('is deleted')")

    with following(web, run, bearer(token)) as answer:
        assert answer.status_code == 200
        web.tell(f"Run.objects.filter(pk={run}).delete()")

        assert Output(answer).rest() == b""


def test_a_look_at_the_head_alone_follows_nothing(web: Web, token: str) -> None:
    run = web.tell("running('only its head')")
    address = f"{web.origin}/api/daemon/runs/{run}/log?follow=1"

    answer = httpx.head(address, headers=bearer(token), trust_env=False, timeout=PATIENCE)

    assert answer.status_code == 200


# ── Bounds ───────────────────────────────────────────────────────────────────────────────────────
def place_is_free(web: Web, run: int, token: str) -> bool:
    with following(web, run, bearer(token)) as answer:
        return answer.status_code == 200


def test_one_token_follows_ten_outputs_and_whoever_leaves_makes_room(web: Web, token: str) -> None:
    run = web.tell("running('is popular')")
    with ExitStack() as open_streams:
        for _n in range(settings.LOG_STREAMS_EACH):
            answer = open_streams.enter_context(following(web, run, bearer(token)))
            assert answer.status_code == 200

        with following(web, run, bearer(token)) as refused:
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0
            refused.read()
            assert refused.json()["error"]["code"] == "too_many_streams"
        other = make_token(web, "is not concerned")
        assert place_is_free(web, run, other)

    assert until(lambda: place_is_free(web, run, token))


def test_of_many_who_ask_at_once_no_more_are_let_in(web: Web, token: str) -> None:
    run = web.tell("running('is asked for by many')")
    with ExitStack() as open_streams, ThreadPoolExecutor(20) as pool:
        wanted = [
            pool.submit(open_streams.enter_context, following(web, run, bearer(token)))
            for _n in range(20)
        ]
        statuses = [each.result().status_code for each in wanted]

    assert sorted(statuses) == [200] * 10 + [429] * 10


def test_only_so_many_outputs_are_followed_at_one_time_and_none_keeps_a_thread(web: Web) -> None:
    run = web.tell("running('is very popular')")
    server = psutil.Process(web.process.pid)
    tokens = [make_token(web, f"reader {n}") for n in range(settings.LOG_STREAMS // 10)]
    assert until(lambda: place_is_free(web, run, tokens[0]))
    threads = server.num_threads()
    with ExitStack() as open_streams:
        for token in tokens:
            for _n in range(settings.LOG_STREAMS_EACH):
                answer = open_streams.enter_context(following(web, run, bearer(token)))
                assert answer.status_code == 200

        with following(web, run, bearer(make_token(web, "one too many"))) as refused:
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            refused.read()
            assert refused.json()["error"]["code"] == "no_room"
        # A few serve requests and files; none is there for a stream.
        assert until(lambda: server.num_threads() <= threads + 10)


class Transport:
    is_there = True

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.is_there = False


def answering() -> tuple[server.Request, server.Flow, Transport]:
    request = object.__new__(server.Request)
    transport, flow = Transport(), server.Flow()
    request.channel, request.flow = SimpleNamespace(transport=transport), flow
    return request, flow, transport


async def test_of_many_clients_that_read_nothing_who_has_waited_longest_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MOST_UNREAD", 250)
    requests = [answering() for _n in range(3)]
    waiting = []
    for request, flow, _transport in requests:
        flow.pauseProducing()
        request.left = 100
        waiting.append(asyncio.create_task(request.drained()))
        await asyncio.sleep(0)

    assert [transport.is_there for _request, _flow, transport in requests] == [False, True, True]

    for _request, flow, _transport in requests:
        flow.stopProducing()
    await asyncio.gather(*waiting)
    assert not server.Request.unread


async def test_a_client_that_reads_nothing_for_long_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request, flow, transport = answering()
    await request.drained()
    assert transport.is_there
    flow.pauseProducing()

    monkeypatch.setattr(server, "STALLED", 0.01)
    await request.drained()

    assert not transport.is_there


def test_readers_that_read_nothing_cost_no_memory(web: Web, token: str) -> None:
    run = web.tell("running('is long')")
    writer = web.writer(run)
    line = b"%0100d\n"
    wrote = b"".join(line % n for n in range(8 * MIB // 101))
    writer.write(wrote, STDOUT, 0.0)
    server = psutil.Process(web.process.pid)
    assert until(lambda: place_is_free(web, run, token))
    before = server.memory_info().rss
    with ExitStack() as open_streams:
        answers = [
            open_streams.enter_context(following(web, run, bearer(token))) for _n in range(10)
        ]
        found = Output(answers[0])
        found.until(b"\n") if wrote[:65_536].endswith(b"\n") else found.until(wrote[:65_536][-8:])

        # Unread they would be 80 MiB.
        assert server.memory_info().rss - before < 30 * MIB
        web.tell(f"finish({run})")
        assert found.rest() == wrote

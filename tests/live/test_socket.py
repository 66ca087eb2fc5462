"""Who may open a socket, what may be said over it, and when it is closed."""

import asyncio
import json
from contextlib import suppress

import pytest
import websockets
from websockets.asyncio.client import connect

from tests.live.web import PATIENCE, Web

NOT_SUCH_A_MESSAGE, SIGNED_OUT, RIGHTS_CHANGED, TOO_MANY = 4400, 4401, 4403, 4429


@pytest.mark.parametrize("key", ["", "invented", "a" * 500])
async def test_somebody_who_is_not_signed_in_is_told_so(web: Web, key: str) -> None:
    async with web.page(key) as page:
        code = await page.closed()

    assert code == SIGNED_OUT


@pytest.mark.parametrize("path", ["/ws/", "/ws/daemon", "/ws/daemon/x/", "/daemon/"])
async def test_there_is_no_socket_at_another_address(web: Web, session: str, path: str) -> None:
    headers = {"Cookie": f"bach_{web.port}={session}"}

    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(
            f"ws://127.0.0.1:{web.port}{path}",
            origin=websockets.Origin(web.origin),
            additional_headers=headers,
            proxy=None,
        )

    assert refused.value.response.status_code == 403


async def test_a_foreign_page_gets_no_socket(web: Web, session: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(
            f"ws://127.0.0.1:{web.port}/ws/daemon/",
            origin=websockets.Origin(f"http://localhost:{web.port}"),
            additional_headers={"Cookie": f"bach_{web.port}={session}"},
            proxy=None,
        )

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "message",
    [
        "",
        "x",
        "[]",
        "null",
        '"hello"',
        "[" * 4000,
        '{"t": "hello"}',
        '{"t": "hello", "regions": []}',
        '{"t": "show", "regions": {"nav:jobs": 1}}',
        '{"t": "log", "run": "17", "from": null, "id": 1}',
        '{"t": "log", "run": -1, "from": null, "id": 1}',
        '{"t": "log", "run": 1, "from": -1, "id": 1}',
        '{"t": "log", "run": 1, "from": 1e9, "id": 1}',
        '{"t": "log", "run": 99999999999999999999, "from": 0, "id": 1}',
        '{"t": "seen"}',
        '{"t": "start", "job": 1}',
        '{"t": "cancel", "run": 1}',
        '{"t": "show", "regions": {"' + "x" * 4096 + '": null}}',
        '{"t": "show", "regions": {"' + "ä" * 2048 + '": null}}',
        r'{"t": "show", "regions": {"nav:\ud800": null}}',
        b"\x00\xff",
        b'{"t": "show", "regions": {}}',
    ],
    ids=lambda message: repr(message)[:50],
)
async def test_what_no_page_says_ends_the_socket_and_changes_nothing(
    web: Web, session: str, message: str | bytes
) -> None:
    before = web.tell("[Job.objects.count(), Run.objects.count()]")

    async with web.page(session) as page:
        await page.socket.send(message)
        code = await page.closed()

    assert code == NOT_SUCH_A_MESSAGE
    assert web.tell("[Job.objects.count(), Run.objects.count()]") == before


async def test_a_huge_message_is_cut_off_while_it_comes(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("nav:jobs")
        await page.ops()
        with suppress(websockets.ConnectionClosed):
            await page.socket.send("x" * 10_000_000)
        code = await page.closed()

    # The line is dead: not even a reason is given.
    assert code in {None, 1009}


async def test_who_says_more_than_a_page_is_cut_off(web: Web, session: str) -> None:
    async with web.page(session) as page:
        for _ in range(200):
            try:
                await page.socket.send(json.dumps({"t": "seen", "seq": 0}))
            except websockets.ConnectionClosed:
                break
        code = await page.closed()

    assert code == NOT_SUCH_A_MESSAGE


async def test_unknown_regions_and_runs_do_no_harm(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("nowhere", "job-head:../../etc", "run-head:0", "nav:jobs", "x" * 900)
        await page.read(999_999_999)
        ops = await page.ops()
        log = await page.log(lambda _text, ended: ended)

    # The region of a job that can't exist is gone; names that are none are not answered.
    assert {(op[0], op[1]) for op in ops} == {
        ("morph", "nav:jobs"),
        ("gone", "job-head:../../etc"),
        ("gone", "run-head:0"),
    }
    assert log == ""


async def test_a_session_opens_ten_sockets_and_no_more(web: Web, session: str) -> None:
    async with asyncio.TaskGroup() as group:
        opened, enough = asyncio.Semaphore(0), asyncio.Event()

        async def hold() -> None:
            async with web.page(session) as page:
                await page.show("nav:jobs")
                await page.ops()
                opened.release()
                await enough.wait()

        for _ in range(10):
            group.create_task(hold())
        for _ in range(10):
            await opened.acquire()

        async with web.page(session) as page:
            code = await page.closed()
        enough.set()

    assert code == TOO_MANY


# ── Rights that change while a page is open ──────────────────────────────────────────────────────
CHANGES = [
    ("Account.objects.filter(username='{name}')[0].delete()", SIGNED_OUT),
    ("[setattr(a, 'is_active', False) or a.save() for a in {mine}]", SIGNED_OUT),
    ("[a.set_password('another one 42') or a.save() for a in {mine}]", SIGNED_OUT),
    ("[setattr(a, 'role', 'viewer') or a.save() for a in {mine}]", RIGHTS_CHANGED),
    # Without a bell: found by the slow look.
    ("{mine}.update(role='operator')", RIGHTS_CHANGED),
    ("{mine}.update(is_active=False)", SIGNED_OUT),
    ("Session.objects.filter(session_key='{key}').delete()", SIGNED_OUT),
]  # fmt: skip


@pytest.mark.parametrize(("change", "code"), CHANGES)
async def test_a_socket_ends_when_its_rights_do(
    web: Web, request: pytest.FixtureRequest, change: str, code: int
) -> None:
    name = f"rights {CHANGES.index((change, code))}"
    key = web.tell(f"sign_in({name!r})")
    mine = f"Account.objects.filter(username={name!r})"

    async with web.page(key) as page:
        await page.show("nav:jobs")
        await page.ops()
        web.tell(change.format(name=name, mine=mine, key=key))
        found = await page.closed()

    assert found == code


async def test_others_stay_when_somebody_is_signed_out(web: Web, session: str) -> None:
    other = web.tell("sign_in('somebody else')")
    async with web.page(session) as page, web.page(other) as others:
        for each in (page, others):
            await each.show("jobs-table:q=after+the+sign-out")
            await each.ops()

        web.tell("Account.objects.get(username='somebody else').delete()")

        assert await others.closed() == SIGNED_OUT
        web.tell("job('after the sign-out').pk")
        assert await page.region("jobs-table:q=after+the+sign-out", "after the sign-out")


# ── API tokens ───────────────────────────────────────────────────────────────────────────────────
async def test_a_token_shows_what_its_role_may_see_until_it_is_revoked(web: Web) -> None:
    web.tell("sign_in('token owner')")
    owner = "Account.objects.get(username='token owner')"
    token = web.tell(
        f"Token.issue({owner}, name='t', role='viewer', now=timezone.now(), life=None)[1]"
    )
    pk = web.tell("job('seen by token').pk")

    async with web.page(token=token) as page:
        await page.show(f"job-head:{pk}")
        html = await page.region(f"job-head:{pk}")
        web.tell("[t.revoke(timezone.now()) for t in Token.objects.all()]")
        code = await page.closed()

    # A viewer can't start it, whoever the token belongs to.
    assert "seen by token" in html
    assert "job-start" not in html
    assert f"/daemon/jobs/{pk}/start/" not in html
    assert code == SIGNED_OUT


# ── Asleep ───────────────────────────────────────────────────────────────────────────────────────
async def test_without_open_pages_there_is_no_bell(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("nav:jobs")
        await page.ops()
        assert len(web.bells()) == 1

    async with asyncio.timeout(PATIENCE):
        while web.bells():  # noqa: ASYNC110 - another process removes it
            await asyncio.sleep(0.01)

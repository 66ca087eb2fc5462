"""What changes anywhere is shown on every open page, once."""

import asyncio
import signal

from tests.live.web import Web


async def test_a_page_gets_the_present_look_of_all_it_shows(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("nav:jobs", "daemon", "jobs-table")
        ops = await page.ops()

    assert sorted(op[1] for op in ops) == ["daemon", "jobs-table", "nav:jobs"]
    assert all(f'data-region="{op[1]}"' in op[2] for op in ops)


async def test_what_lies_within_another_region_is_told_after_it(web: Web, session: str) -> None:
    pk = web.tell("running('one that writes')")
    async with web.page(session) as page:
        await page.show(f"last-line:{pk}", "running")
        ops = await page.ops()
    web.tell(f"finish({pk})")

    assert [op[1] for op in ops] == ["running", f"last-line:{pk}"]


async def test_what_another_process_changes_is_shown(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("jobs-table:q=made+elsewhere", "nav:runs")
        await page.ops()

        web.tell("job('made elsewhere').pk")

        assert await page.region("jobs-table:q=made+elsewhere", "made elsewhere")


async def test_a_page_that_returns_gets_what_it_lacks_and_no_more(web: Web, session: str) -> None:
    pk = web.tell("job('before the break').pk")
    async with web.page(session) as page:
        await page.show(f"job-next:{pk}", f"job-facts:{pk}")
        digests = {op[1]: op[3] for op in await page.ops()}

    web.tell(f"Job.objects.filter(pk={pk}).update(is_active=False)")
    async with web.page(session) as page:
        await page.show(**digests, **{"nav:jobs": ""})
        ops = await page.ops()

    assert {op[1] for op in ops} <= {f"job-next:{pk}", "nav:jobs"}


async def test_what_looks_the_same_is_not_sent_again(web: Web, session: str) -> None:
    pk = web.tell("job('the same').pk")
    table = "jobs-table:q=something+else"
    async with web.page(session) as page:
        await page.show(f"job-next:{pk}", table)
        await page.region(f"job-next:{pk}")
        seen = len(page.frames)

        web.ring(f"job:{pk}")
        web.tell("job('something else').pk")
        await page.region(table, "something else")

    sent = {op[1] for frame in page.frames[seen:] for op in frame.get("ops", [])}
    assert sent == {table}


async def test_what_was_deleted_is_gone(web: Web, session: str) -> None:
    pk = web.tell("job('to be deleted').pk")
    async with web.page(session) as page:
        await page.show(f"job-head:{pk}")
        await page.region(f"job-head:{pk}")

        web.tell(f"Job.objects.get(pk={pk}).remove(now=timezone.now(), by='a')")
        ops = await page.ops()

    assert ops == [["gone", f"job-head:{pk}"]]


async def test_a_lost_bell_only_delays(web: Web, session: str) -> None:
    pk = web.tell("job('silent').pk")
    async with web.page(session) as page:
        await page.show("jobs-table:q=silent")
        await page.ops()

        web.tell(f"Job.objects.filter(pk={pk}).update(name='silently changed')")

        assert await page.region("jobs-table:q=silent", "silently changed")


async def test_nonsense_at_the_bell_does_no_harm(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("jobs-table:q=after+the+nonsense")
        await page.ops()

        nonsense: list[list[object]] = [
            ["jobs" * 5000],
            ["log:" + "9" * 6000],
            ["account:", "run:x", ""],
            [[[]]],
        ]
        for topics in nonsense:
            web.ring(*topics)
        web.tell("job('after the nonsense').pk")

        assert await page.region("jobs-table:q=after+the+nonsense", "after the nonsense")


async def test_each_role_sees_its_own_buttons(web: Web, session: str) -> None:
    pk = web.tell("job('for all roles').pk")
    viewer = web.tell("sign_in('only looks', 'viewer')")
    async with web.page(session) as page, web.page(viewer) as other:
        for each in (page, other):
            await each.show(f"job-head:{pk}")
        mine = await page.region(f"job-head:{pk}")
        theirs = await other.region(f"job-head:{pk}")

    assert f"/daemon/jobs/{pk}/start/" in mine
    assert f"/daemon/jobs/{pk}/start/" not in theirs


async def test_a_page_is_served_in_its_language(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.say({"t": "hello", "language": "en", "regions": {"situation": None}})
        english = await page.region("situation")
        await page.say({"t": "hello", "language": "de", "regions": {"situation": None}})
        german = await page.region("situation")

    assert english != german


async def test_a_page_finds_the_server_that_was_started_again(session: str, web: Web) -> None:
    async with web.page(session) as page:
        await page.show("jobs-table:q=made+while")
        table = (await page.ops())[0]
        web.process.send_signal(signal.SIGKILL)
        web.ended()
        assert await page.closed() is None

    web.tell("job('made while the server was down').pk")
    web.start()

    async with web.page(session) as page:
        await page.show(**{"jobs-table:q=made+while": table[3]})
        assert await page.region("jobs-table:q=made+while", "made while the server was down")


async def test_many_changes_at_once_are_few_frames(web: Web, session: str) -> None:
    async with web.page(session) as page:
        await page.show("jobs-table:q=one+of+many")
        await page.ops()
        seen = len(page.frames)

        begun = asyncio.get_running_loop().time()
        web.tell("[job(f'one of many {i}').pk for i in range(40)]")
        await page.region("jobs-table:q=one+of+many", "one of many 39")
        lasted = asyncio.get_running_loop().time() - begun

    # At most four a second, after a pause two at once.
    assert len(page.frames) - seen <= 3 + lasted * 4

"""Output reaches a page by offset: complete, in order, once; however slowly the page reads."""

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from daemon_app import hub, output, transcript
from daemon_app.tiles import Viewer
from tests.live.web import Page, Web

STDOUT, STDERR = output.STDOUT, output.STDERR


async def test_lines_come_as_they_are_written(web: Web, session: str) -> None:
    run = web.tell("running('writes')")
    writer = web.writer(run)
    writer.write(b"one\n", STDOUT, time.time())

    async with web.page(session) as page:
        await page.read(run)
        assert await page.log(lambda text, _: "\n" in text) == "one\n"
        for line in ("two\n", "three\n"):
            writer.write(line.encode(), STDOUT, time.time())
            web.ring(f"log:{run}")
            assert await page.log(lambda text, _: "\n" in text) == line

        writer.write(b"the end", STDOUT, time.time())
        web.tell(f"finish({run})")
        assert await page.log(lambda _, ended: ended) == "the end"


async def test_a_log_that_is_complete_is_sent_with_its_end(web: Web, session: str) -> None:
    run = web.tell("running('complete')")
    web.writer(run).write(b"all of it\n", STDOUT, time.time())
    web.tell(f"finish({run}, 'failed')")

    async with web.page(session) as page:
        await page.read(run)
        text = await page.log(lambda _, ended: ended)

    assert text == "all of it\n"


async def test_a_run_that_waits_has_a_log_that_is_to_come(web: Web, session: str) -> None:
    run = web.tell("running('waits')")

    async with web.page(session) as page:
        await page.read(run)
        await page.show("nav:jobs")
        await page.ops()
        web.writer(run).write(b"at last\n", STDOUT, time.time())
        web.ring(f"log:{run}")

        assert await page.log(lambda text, _: bool(text)) == "at last\n"


async def test_output_without_a_bell_is_found(web: Web, session: str) -> None:
    run = web.tell("running('without a bell')")
    writer = web.writer(run)
    writer.write(b"one\n", STDOUT, time.time())

    async with web.page(session) as page:
        await page.read(run)
        await page.log(lambda text, _: bool(text))
        writer.write(b"two\n", STDOUT, time.time())

        assert await page.log(lambda text, _: bool(text)) == "two\n"


async def test_stderr_is_told_apart(web: Web, session: str) -> None:
    run = web.tell("running('two streams')")
    writer = web.writer(run)
    for stream, text in ((STDOUT, b"out "), (STDERR, b"err "), (STDERR, b"more "), (STDOUT, b"x")):
        writer.write(text, stream, time.time())

    async with web.page(session) as page:
        await page.read(run)
        await page.log(lambda text, _: text.endswith("x"))

    text = page.frames[-1]["log"]["text"]
    assert [part[:2] for part in text] == [[1, "out "], [2, "err more "], [1, "x"]]


async def test_after_breaks_nothing_is_missing_and_nothing_double(web: Web, session: str) -> None:
    run = web.tell("running('breaks')")
    writer = web.writer(run)
    # Written in pieces that cut its characters apart.
    whole = "".join(f"{i} Grüße aus Köln, 5 € und ein 🙂\n" for i in range(600))
    pieces = [whole.encode()[at : at + 97] for at in range(0, len(whole.encode()), 97)]

    async def write() -> None:
        for piece in pieces:
            writer.write(piece, STDOUT, time.time())
            web.ring(f"log:{run}")
            await asyncio.sleep(0)
        web.tell(f"finish({run})")

    text, ended, offset = "", False, None
    writing = asyncio.create_task(write())
    while not ended:
        async with web.page(session) as page:
            await page.read(run, offset)
            page.next = offset or 0
            for _ in range(3):
                text += await page.log(lambda some, ended: bool(some) or ended)
                ended = page.frames[-1].get("log", {}).get("end", False)
                if ended:
                    break
            offset = page.next
    await writing

    assert text == whole


@pytest.mark.parametrize("bell", ["before", "after"])
async def test_what_another_attempt_writes_begins_anew(web: Web, session: str, bell: str) -> None:
    run = web.tell(f"running('tried again {bell}')")
    writer = web.writer(run)
    writer.write(b"a long first attempt\n" * 9, STDOUT, time.time())

    async with web.page(session) as page:
        await page.read(run)
        await page.log(lambda text, _: text.count("\n") == 9)

        # The row tells of the next attempt; the files are moved a moment sooner or later.
        for step in ("row", "files") if bell == "before" else ("files", "row"):
            if step == "row":
                web.tell(f"Run.objects.filter(pk={run}).update(attempt=2, fence=2)")
                web.ring(f"run:{run}")
                await asyncio.sleep(0.3)
            else:
                kept = web.folder(run) / "attempts" / "1"
                kept.mkdir(parents=True)
                for file in web.folder(run).glob("output.*"):
                    file.rename(kept / file.name)
                web.writer(run).write(b"short\n", STDOUT, time.time())
                web.ring(f"log:{run}")

        assert (await page._next("log"))["anew"]
        page.next = 0
        assert await page.log(lambda text, _: "\n" in text) == "short\n"


async def test_a_big_log_begins_with_its_newest_lines(web: Web, session: str) -> None:
    run = web.tell("running('big')")
    writer = web.writer(run)
    lines = [f"line {number}\n" for number in range(1, 25_001)]
    writer.write("".join(lines).encode(), STDOUT, time.time())
    web.tell(f"finish({run})")

    async with web.page(session) as page:
        page.next = len("".join(lines[:15_000]))
        await page.read(run)
        text = await page.log(lambda _, ended: ended)

    first = next(frame["log"] for frame in page.frames if "log" in frame)
    assert first["line"] == 15_001
    assert text == "".join(lines[15_000:])


async def test_what_was_dropped_is_a_gap_and_the_lines_after_it_keep_their_numbers(
    web: Web, session: str
) -> None:
    run = web.tell("running('gap')")
    writer = web.writer(run, chunk=4096, tail_chunks=2)
    lines = [f"line {number:04}\n".encode() for number in range(1, 2001)]
    for line in lines:
        writer.write(line, STDOUT, time.time())
    web.tell(f"finish({run})")

    async with web.page(session) as page:
        await page.read(run, 0)
        text = await page.log(lambda _, ended: ended)

    after = next(f["log"] for f in page.frames if f.get("log", {}).get("gap"))
    complete = after["text"][0][1].split("\n")[1]  # the first one may have lost its beginning
    assert complete == f"line {after['line'] + 1:04}"
    assert len(text) + after["gap"] == len(b"".join(lines))


async def test_pages_at_the_same_place_get_the_same_frame(web: Web, session: str) -> None:
    run = web.tell("running('shared')")
    writer = web.writer(run)
    writer.write(b"x" * 200_000 + b"\n", STDOUT, time.time())

    async with web.page(session) as one, web.page(session) as other:
        for page in (one, other):
            await page.read(run)
        texts = [await page.log(lambda text, _: "\n" in text) for page in (one, other)]

    assert texts[0] == texts[1]


async def test_a_page_that_asks_anew_in_the_middle_gets_the_answer_to_that(
    web: Web, session: str
) -> None:
    run = web.tell("running('asks anew')")
    lines = [f"line {number:06}\n" for number in range(40_000)]
    web.writer(run).write("".join(lines).encode(), STDOUT, time.time())
    web.tell(f"finish({run})")

    async with web.page(session) as page:
        await page.read(run, 0)
        await page.log(lambda text, _: bool(text))
        for line in (30_000, 10, 39_000):
            page.next = line * 12
            await page.read(run, line * 12)
        text = await page.log(lambda _, ended: ended)

    assert text == "".join(lines[39_000:])


# ── Pages that read slowly ───────────────────────────────────────────────────────────────────────
async def test_a_page_that_does_not_say_it_has_read_gets_no_more_than_a_window(
    web: Web, session: str
) -> None:
    run = web.tell("running('unread')")
    whole = b"".join(b"%07d\n" % number for number in range(400_000))
    web.writer(run).write(whole, STDOUT, time.time())
    web.tell(f"finish({run})")

    async with web.page(session, acknowledges=False) as page:
        await page.read(run, 0)
        await drained(page)
        size = page.unseen
        await page.say({"t": "seen", "seq": len(page.frames)})
        text = await page.log(lambda text, _: bool(text))

    assert hub.WINDOW <= size <= hub.WINDOW + 2 * transcript.BYTES
    # And then it goes on where it had stopped.
    assert int(text[:7]) * 8 == page.frames[-1]["log"]["offset"]


async def drained(page: Page) -> None:
    """Read until the page has its window full."""
    while page.unseen < hub.WINDOW:
        frame = await page.frame()
        if "log" in frame:
            page.next = frame["log"]["next"]


async def test_pages_that_read_nothing_cost_no_memory(web: Web, session: str) -> None:
    run = web.tell("running('stalled')")
    web.writer(run).write(b"x" * 99 + b"\n", STDOUT, time.time())
    writer = web.writer(run)
    server = psutil.Process(web.process.pid)

    async with asyncio.TaskGroup() as group:
        waiting, enough = asyncio.Semaphore(0), asyncio.Event()

        async def stall() -> None:
            async with web.page(session) as page:
                await page.read(run, 0)
                await page.log(lambda text, _: bool(text))
                # From here on nothing is read from the socket; the last page reads all.
                page.socket.transport.pause_reading()
                waiting.release()
                await enough.wait()
                page.socket.transport.abort()

        for _ in range(9):
            group.create_task(stall())
        for _ in range(9):
            await waiting.acquire()

        async with web.page(session) as page:
            page.next = 0
            await page.read(run, 0)
            before = server.memory_info().rss
            for _ in range(20):
                writer.write(b"y" * 299_999 + b"\n", STDOUT, time.time())
                web.ring(f"log:{run}")
                await page.log(lambda text, _: text.endswith("\n"))
            grown = server.memory_info().rss - before
        enough.set()

    # Six megabytes for each of nine pages would be 54; a window each is 4.5.
    assert grown < 24 * 2**20


async def test_many_pages_that_have_all_there_is_ask_the_disk_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(hub, "_piece", lambda *_, **__: asked.append(1))
    here = hub.Hub(asyncio.get_running_loop())
    feed = hub.Feed(17, tmp_path, ended=False)

    async def nothing_comes() -> bool:
        readers = [hub.Reader(asked=1, wanted=0, found=True) for _ in range(100)]
        return not any([await here._next_piece(feed, reader) for reader in readers])

    assert await nothing_comes()
    assert len(asked) == 1
    here._log_rung(feed)
    assert await nothing_comes()
    assert len(asked) == 2


async def test_a_look_that_found_nothing_does_not_hold_up_the_next_line(tmp_path: Path) -> None:
    here = hub.Hub(asyncio.get_running_loop())
    viewer = Viewer("viewer", "de")
    page = hub.Page(viewer, "session", lambda: viewer)
    feed = hub.Feed(17, tmp_path, pages={page}, ended=False)
    here._feeds[17] = feed

    here._look(changed=False)
    assert page.wake.is_set(), "what no bell told is looked for"
    page.wake.clear()
    here._rung("log:17")

    assert page.wake.is_set(), "at once, not after a pause"
    page.wake.clear()
    here._rung("log:17")
    assert not page.wake.is_set(), "a busy log is read after its pause"
    assert feed.timer is not None
    feed.timer.cancel()

r"""What open pages are told: one hub per web process hears the bells and renders what changed once.

Nothing is ever queued for a page. A page remembers what it has been sent, a digest for each region
and an offset for each log, and its writer asks the hub for the difference. So a page that reads
slowly costs no memory, one that returns gets exactly what it lacks, and a lost bell only delays.

Frames to a page, numbered from 1 on each socket, are JSON objects:
    {"seq": 7, "time": "2026-11-24T13:31:05.120Z"}                   a sign of life
    {"seq": 8, "time": …, "ops": [["morph", region, html, digest], ["gone", region]]}
    {"seq": 9, "time": …, "asked": 1, "log": {"run": 17, "offset": 0, "next": 20, …, "text": …}}
    {"seq": 10, "time": …, "asked": 1, "log": {"run": 17, "offset": 20, "next": 20, "end": true}}
    {"seq": 11, "time": …, "asked": 1, "log": {"run": 17, "offset": 0, "next": 0, "anew": true}}
A piece of a log is as in `transcript`. `asked` is the page's number of its question: what still
answers an earlier one is on its way when it asks anew.
`anew`: the run is tried again, and what it writes now begins at 0; what is shown goes.
The page answers with the last number it has seen: no server tells an application how much a
client has read.
"""

import asyncio
import hashlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, connections
from django.utils import timezone

from daemon_app import doorbell, tiles, transcript
from daemon_app.models import Run
from daemon_app.models.run import folder_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds.
FLUSH = 0.25  # regions are rendered at most this often
LOG_FLUSH = 0.04  # a busy log is read at most this often; its first line after a pause at once
LOOK = 1.5  # a slow look finds what no bell told
BLIND_LOOK = 5.0  # the same where the database can't be asked whether anything changed
BEAT = 15.0  # a page that hears nothing for longer distrusts what it shows
CHECK = 30.0  # sessions are looked at anew at least this often
STALLED = 60.0  # a page that has read nothing for so long is told to come back

# Sizes.
WINDOW = 512 * 1024  # characters a page may leave unseen before it gets no more
MAX_REGIONS, MAX_LOGS = 64, 4  # that one page may show
KEPT_PIECES = 32  # pieces of logs that several pages may want at the same time

# Why the hub closes a socket (RFC 6455 leaves 4000 to 4999 to applications).
SIGNED_OUT, RIGHTS_CHANGED, STALLED_PAGE, TOO_MANY = 4401, 4403, 4408, 4429


class Key(NamedTuple):
    """What one rendering serves: a region as one role sees it in one language."""

    region: str
    role: str
    language: str


class Shown(NamedTuple):
    """How a region looks now: a digest of it, and the operation that makes a page look so."""

    digest: str
    op: str


@dataclass
class Reader:
    """How far one page has been sent one log; `line` is the one that holds `offset`.

    `wanted` is where the page wants to begin (None: with the newest lines) until that was found.
    `turn` tells of which attempt's output it is.
    """

    asked: int
    wanted: int | None
    found: bool = False
    offset: int = 0
    line: int = 1
    ended: bool = False
    turn: int = 0


@dataclass
class Feed:
    """A log that pages show. `ended` is None until the run's row has been looked at.

    A run that is tried again writes anew: its earlier output is moved away when the next attempt
    begins. That is seen by the file (`head`), for bells may come before it or after.
    """

    run: int
    folder: Path
    pages: "set[Page]" = field(default_factory=set)
    ended: bool | None = None
    tried_again: bool = False
    head: int | None = None  # identity of the output's first file
    turn: int = 0  # of how many outputs this is the one after
    woken_at: float = 0.0
    timer: asyncio.TimerHandle | None = None
    heard: int = 0  # bells, and looks for want of one
    # Where there was nothing (more) to read: of which file, from where, after how many bells, and
    # whether the run had ended. A hundred pages at the same place then ask the disk once.
    nothing: tuple[int | None, int, int, bool] | None = None

    def wake(self) -> None:
        """Let all pages that show it read on."""
        for page in self.pages:
            page.wake.set()


@dataclass(eq=False)
class Page:
    """One open page: who looks, what it shows, and what it has been sent of that.

    `check` returns the viewer anew, None when the session is over; it is called in a thread.
    """

    viewer: tiles.Viewer
    session: str
    check: Callable[[], tiles.Viewer | None]
    regions: dict[str, str | None] = field(default_factory=dict)  # with the digest it has
    stale: set[str] = field(default_factory=set)
    logs: dict[int, Reader] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None  # why it is to be closed
    beat: bool = False
    sent_at: float = 0.0
    seq: int = 0
    unseen: deque[tuple[int, int]] = field(default_factory=deque)  # (number, characters)
    unseen_size: int = 0
    full_since: float | None = None

    def key(self, region: str) -> Key:
        return Key(region, self.viewer.role, self.viewer.language)

    def is_open(self) -> bool:
        """Whether nobody has asked to close the page."""
        return self.code is None

    @property
    def has_room(self) -> bool:
        """Whether the page has read enough of what it was sent to get more."""
        return self.unseen_size < WINDOW

    def number(self, body: str, now: float) -> str:
        """Return `body` as this page's next frame, and note it as unseen."""
        self.seq += 1
        self.sent_at = now
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        frame = f'{{"seq":{self.seq},"time":"{time}"{body}}}'
        self.unseen.append((self.seq, len(frame)))
        self.unseen_size += len(frame)
        if self.full_since is None and not self.has_room:
            self.full_since = now
        return frame

    def saw(self, seq: int) -> None:
        """Note that the page has read its frames up to number `seq`."""
        while self.unseen and self.unseen[0][0] <= seq:
            self.unseen_size -= self.unseen.popleft()[1]
        if self.has_room:
            self.full_since = None
        self.wake.set()

    def close(self, code: int) -> None:
        """Let the page's writer end and its socket be closed with `code`."""
        self.code = self.code or code
        self.wake.set()


class Ear:
    """Hears some bells for somebody who is no page; `rung` has the topics since it was emptied."""

    def __init__(self) -> None:
        self.rung: set[str] = set()
        self._woken = asyncio.Event()

    def hear(self, topic: str) -> None:
        self.rung.add(topic)
        self._woken.set()

    async def wait(self, seconds: float) -> set[str]:
        """Return the topics that rang since the last call, after `seconds` none."""
        if not self.rung:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
        self._woken.clear()
        rung, self.rung = self.rung, set()
        return rung


def current() -> "Hub":
    """Return the hub of the running event loop, made on first use."""
    global _hub  # noqa: PLW0603 - one per process is its meaning
    loop = asyncio.get_running_loop()
    if _hub is None or _hub.loop is not loop:
        _hub = Hub(loop)
    return _hub


class Hub:
    """Serves the open pages of one process. Works while there are any, else costs nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pages: set[Page] = set()
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._watchers: dict[Key, set[Page]] = {}
        self._topics: dict[str, set[Key]] = {}
        self._shown: dict[Key, Shown] = {}
        self._feeds: dict[int, Feed] = {}
        self._ears: dict[str, set[Ear]] = {}
        self._pieces: dict[tuple[int, int, int], asyncio.Future[transcript.Piece | None]] = {}
        # What the next flush is to look at.
        self._dirty: set[Key] = set()
        self._unsettled: set[int] = set()
        self._suspects: set[Page] = set()
        # One thread for the database: one connection, and pages never compete with requests.
        self._database = ThreadPoolExecutor(1, thread_name_prefix="hub-database")
        self._files = ThreadPoolExecutor(2, thread_name_prefix="hub-files")

    # ── What a socket calls ──────────────────────────────────────────────────────────────────────
    def has_room(self, session: str) -> bool:
        """Whether one more page of this session may be served."""
        mine = sum(page.session == session for page in self.pages)
        return mine < settings.LIVE_SOCKETS_PER_SESSION and len(self.pages) < settings.LIVE_SOCKETS

    def join(self, page: Page) -> None:
        """Serve `page` until it leaves."""
        page.sent_at = self.loop.time()
        self.pages.add(page)
        # Its rights may have gone since they were looked up, and no bell was heard for it yet.
        self._suspects.add(page)
        self._news.set()
        self._wake()

    @contextmanager
    def listening(self, *topics: str) -> Iterator[Ear]:
        """Give an ear for `topics` to whoever asks, as long as they need it."""
        ear = Ear()
        for topic in topics:
            self._ears.setdefault(topic, set()).add(ear)
        self._wake()
        try:
            yield ear
        finally:
            for topic in topics:
                self._ears[topic].discard(ear)
                if not self._ears[topic]:
                    del self._ears[topic]
            self._rest()

    def _wake(self) -> None:
        if self._task is None:
            self._task = self.loop.create_task(self._work())

    def _rest(self) -> None:
        if not self.pages and not self._ears and self._task is not None:
            self._task.cancel()
            self._task = None

    def suspect(self, page: Page) -> None:
        """Look anew whether `page` may still be served."""
        if page in self.pages:
            self._suspects.add(page)
            self._news.set()

    def leave(self, page: Page) -> None:
        """Forget `page`; without pages and ears the hub falls asleep."""
        if page not in self.pages:
            return
        self.show(page, {})
        for run in [*page.logs]:
            self._unread(page, run)
        self.pages.discard(page)
        self._suspects.discard(page)
        self._rest()

    def show(
        self, page: Page, regions: Mapping[str, str | None], language: str | None = None
    ) -> None:
        """Keep these regions of `page` up to date, each with the digest of what it has (or None).

        All are rendered now: what changed since the page was written may have rung before it
        could hear. Regions that do not exist are left out.
        """
        for region in [*page.regions]:
            self._unwatch(page, region)
        if language:
            page.viewer = replace(page.viewer, language=language)
        for region, digest in [*regions.items()][:MAX_REGIONS]:
            name, colon, arg = region.partition(":")
            topics = tiles.topics(name, arg if colon else None)
            if not topics:
                continue
            key = page.key(region)
            page.regions[region] = digest
            self._watchers.setdefault(key, set()).add(page)
            for topic in topics:
                self._topics.setdefault(topic, set()).add(key)
            self._dirty.add(key)
        if self._dirty:
            self._news.set()

    def read(self, page: Page, run: int, offset: int | None, asked: int) -> None:
        """Send `page` the log of a run from `offset` on; None: the newest lines first.

        Ends what was sent of it until now; `asked` is in each frame that answers this question.
        """
        if run not in page.logs and len(page.logs) >= MAX_LOGS:
            return
        page.logs[run] = Reader(asked, offset)
        feed = self._feeds.setdefault(run, Feed(run, folder_of(run)))
        feed.pages.add(page)
        if feed.ended is None:
            self._unsettled.add(run)
            self._news.set()
        page.wake.set()

    async def frames(self, page: Page) -> AsyncIterator[str]:
        """Yield each frame `page` is to get, until it is to be closed (`page.code` says why)."""
        while page.is_open():
            await page.wake.wait()
            page.wake.clear()
            while page.is_open() and page.has_room:
                body = await self._difference(page)
                if body is None:
                    break
                yield page.number(body, self.loop.time())

    async def read_file(self, reading: Callable[[], T]) -> T:
        """Return what `reading` returns in a thread for files."""
        return await self.loop.run_in_executor(self._files, reading)

    async def ask(self, question: Callable[[], T]) -> T:
        """Return what `question` returns in the thread that may use the database."""
        return await self.loop.run_in_executor(self._database, self._with_database, question)

    def _with_database(self, question: Callable[[], T]) -> T:
        # SQLite counts what others wrote for each connection: ours stays while pages are open.
        if connection.vendor != "sqlite":
            close_old_connections()
        try:
            return question()
        except DatabaseError:
            connections.close_all()
            raise
        finally:
            if not self.pages and not self._ears:
                connections.close_all()

    # ── What a page lacks ────────────────────────────────────────────────────────────────────────
    async def _difference(self, page: Page) -> str | None:
        """Return the body of one frame with something `page` lacks; None when it lacks nothing."""
        if page.stale:
            ops = []
            # What lies within another one comes after it: it may have been rendered later.
            for region in sorted(page.stale, key=lambda each: (":" in each, each)):
                shown = self._shown.get(page.key(region))
                if shown is not None and page.regions.get(region) != shown.digest:
                    page.regions[region] = shown.digest
                    ops.append(shown.op)
            page.stale.clear()
            if ops:
                return f',"ops":[{",".join(ops)}]'
        for run in [*page.logs]:
            body = await self._log(page, run)
            if body is not None:
                return body
        if page.beat:
            page.beat = False
            return ""
        return None

    async def _log(self, page: Page, run: int) -> str | None:
        reader, feed = page.logs[run], self._feeds[run]
        if reader.ended or feed.ended is None:
            return None
        if anew := await self._find_place(feed, reader):
            return anew
        ended = feed.ended
        piece = await self._next_piece(feed, reader)
        if piece is not None:
            reader.offset, reader.line = piece.end, piece.line
            return f',"asked":{reader.asked}{piece.body}'
        if not ended:
            return None
        reader.ended = True
        end = {"run": run, "offset": reader.offset, "next": reader.offset, "end": True}
        return f',"asked":{reader.asked},"log":{json.dumps(end, separators=(",", ":"))}'

    async def _next_piece(self, feed: Feed, reader: Reader) -> transcript.Piece | None:
        """Return what comes next for `reader`, read once for all who are there; None: nothing."""
        while True:
            key, ended = (feed.run, feed.head or 0, reader.offset), bool(feed.ended)
            here = (feed.head, reader.offset, feed.heard, ended)
            if feed.nothing == here:
                return None
            shared = self._pieces.get(key)
            mine = shared is None
            if shared is None:
                shared = self.loop.run_in_executor(
                    self._files, _piece, feed.folder, feed.run, reader.offset, reader.line, ended
                )
                self._pieces[key] = shared
                while len(self._pieces) > KEPT_PIECES:
                    del self._pieces[next(iter(self._pieces))]
            try:
                piece = await asyncio.shield(shared)
            finally:
                if self._pieces.get(key) is shared and _is_empty(shared):
                    del self._pieces[key]
            # What another page found empty may have been read before our bell rang.
            if piece is not None or mine:
                feed.nothing = here if piece is None else feed.nothing
                return piece

    async def _find_place(self, feed: Feed, reader: Reader) -> str | None:
        """Find where `reader` goes on; return the body that tells of another attempt's output."""
        if feed.head is None or feed.tried_again:
            head = await self.loop.run_in_executor(self._files, _head, feed.folder)
            if feed.head is not None and head is not None and head != feed.head:
                feed.turn += 1
            feed.head = head or feed.head
        known, reader.turn = reader.turn, feed.turn
        if not reader.found:
            reader.offset, reader.line = await self.loop.run_in_executor(
                self._files, transcript.begin, feed.folder, reader.wanted
            )
            reader.found = True
        elif known != feed.turn:
            reader.offset, reader.line = 0, 1
            anew = {"run": feed.run, "offset": 0, "next": 0, "anew": True}
            return f',"asked":{reader.asked},"log":{json.dumps(anew, separators=(",", ":"))}'
        return None

    # ── Who watches what ─────────────────────────────────────────────────────────────────────────
    def _unwatch(self, page: Page, region: str) -> None:
        key = page.key(region)
        del page.regions[region]
        page.stale.discard(region)
        watchers = self._watchers[key]
        watchers.discard(page)
        if watchers:
            return
        del self._watchers[key]
        self._shown.pop(key, None)
        self._dirty.discard(key)
        name, colon, arg = region.partition(":")
        for topic in tiles.topics(name, arg if colon else None):
            keys = self._topics[topic]
            keys.discard(key)
            if not keys:
                del self._topics[topic]

    def _unread(self, page: Page, run: int) -> None:
        del page.logs[run]
        feed = self._feeds[run]
        feed.pages.discard(page)
        if not feed.pages:
            if feed.timer:
                feed.timer.cancel()
            del self._feeds[run]
            self._unsettled.discard(run)

    # ── Bells ────────────────────────────────────────────────────────────────────────────────────
    def _heard(self, bell: doorbell.Bell) -> None:
        for payload in bell.drain():
            try:
                topics = json.loads(payload)
            except (ValueError, RecursionError):
                continue
            if isinstance(topics, list):
                for topic in topics:
                    if isinstance(topic, str):
                        self._rung(topic)

    def _rung(self, topic: str) -> None:
        self._dirty |= self._topics.get(topic, set())
        for ear in self._ears.get(topic, ()):
            ear.hear(topic)
        kind, _, number = topic.partition(":")
        if number.isascii() and number.isdigit() and len(number) < 19:
            feed = self._feeds.get(int(number)) if kind in {"log", "run"} else None
            if feed and kind == "log":
                self._log_rung(feed)
            elif feed and not feed.ended:
                self._unsettled.add(feed.run)
            elif kind == "account":
                ident = int(number)
                self._suspects |= {p for p in self.pages if p.viewer.user_id == ident}
        if self._dirty or self._unsettled or self._suspects:
            self._news.set()

    def _log_rung(self, feed: Feed) -> None:
        """Let the pages of a log read on: at once after a pause, else when its pause is over."""
        feed.heard += 1
        if feed.timer is None:
            wait = feed.woken_at + LOG_FLUSH - self.loop.time()
            if wait > 0:
                feed.timer = self.loop.call_later(wait, self._wake_readers, feed)
            else:
                self._wake_readers(feed)

    def _wake_readers(self, feed: Feed) -> None:
        feed.timer = None
        feed.woken_at = self.loop.time()
        feed.wake()

    # ── The hub's own work ───────────────────────────────────────────────────────────────────────
    async def _work(self) -> None:
        bell = None
        try:
            bell = doorbell.Bell(doorbell.runtime_dir(settings.DATA_DIR), "live-*")
            self.loop.add_reader(bell.fileno(), self._heard, bell)
        except (OSError, doorbell.DoorbellError):
            logger.exception("no bell for open pages; they are served by the slow look alone")
        try:
            await self._serve()
        finally:
            if bell:
                self.loop.remove_reader(bell.fileno())
                bell.close()
            self._database.submit(self._with_database, lambda: None)

    async def _serve(self) -> None:
        can_ask = connection.vendor == "sqlite"
        look_every = LOOK if can_ask else BLIND_LOOK
        known = None
        begun = self.loop.time()
        flush_at, look_at, beat_at, check_at = begun, begun + look_every, begun + 1, begun + CHECK
        while True:
            now = self.loop.time()
            try:
                if self._news.is_set() and now >= flush_at:
                    self._news.clear()
                    await self._flush()
                    # However dear the regions are, rendering takes a fifth of one core at most.
                    # After a pause there are two turns: a look must not delay what rings next.
                    spent = self.loop.time() - now
                    flush_at = max(flush_at, now - FLUSH) + max(FLUSH, 5 * spent)
                if now >= look_at:
                    look_at = now + look_every
                    version = await self.ask(_data_version) if can_ask else None
                    self._look(changed=not can_ask or version != known)
                    known = version
                if now >= beat_at:
                    beat_at = now + 1
                    self._beat(now)
                if now >= check_at:
                    check_at = now + CHECK
                    self._suspects |= self.pages
                    self._news.set()
            except Exception:
                logger.exception("the hub of the open pages failed and goes on")
                self._look(changed=True)  # what the flush was to look at is not forgotten
                flush_at = self.loop.time() + look_every
            until = min(look_at, beat_at, check_at)
            if self._news.is_set():
                await asyncio.sleep(max(0.0, min(flush_at, until) - self.loop.time()))
                continue
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _look(self, *, changed: bool) -> None:
        """Find what no bell told. `changed`: something was written to the database since."""
        for feed in self._feeds.values():
            if not feed.ended and feed.timer is None:
                # No pause follows: most looks find nothing, and must not delay the next line.
                feed.heard += 1
                feed.wake()
        if changed:
            self._dirty |= self._watchers.keys()
            self._unsettled |= {feed.run for feed in self._feeds.values() if not feed.ended}
            self._suspects |= self.pages
            self._news.set()

    def _beat(self, now: float) -> None:
        """Give a sign of life to who heard nothing, and leave those that have stopped reading."""
        for page in self.pages:
            if page.full_since is not None and now - page.full_since > STALLED:
                page.close(STALLED_PAGE)
            elif now - page.sent_at >= BEAT - 0.5:
                page.sent_at = now
                page.beat = True
                page.wake.set()
                # Silence itself is news: that the daemon fell silent is written nowhere.
                self._dirty |= {page.key(region) for region in page.regions}
        if self._dirty:
            self._news.set()

    async def _flush(self) -> None:
        """Look anew at all that is said to have changed, and wake the pages that lack it."""
        suspects, self._suspects = self._suspects, set()
        if suspects:
            await self._check(suspects)
        unsettled, self._unsettled = self._unsettled, set()
        if unsettled:
            active = await self.ask(lambda: _active(unsettled))
            for run in unsettled & self._feeds.keys():
                feed = self._feeds[run]
                feed.ended = run not in active
                feed.tried_again = active.get(run, 1) > 1
                self._wake_readers(feed)
        dirty, self._dirty = self._dirty & self._watchers.keys(), set()
        if dirty:
            now = timezone.now()
            for key, shown in (await self.ask(lambda: _rendered(dirty, now))).items():
                if key in self._watchers:
                    self._shown[key] = shown
                for page in self._watchers.get(key, ()):
                    if page.regions[key.region] != shown.digest:
                        page.stale.add(key.region)
                        page.wake.set()

    async def _check(self, suspects: Iterable[Page]) -> None:
        """Close the pages whose session is over or whose viewer has other rights now."""
        checks = {page.session: page.check for page in suspects}
        viewers = await self.ask(lambda: {key: check() for key, check in checks.items()})
        for page in suspects:
            viewer = viewers[page.session]
            if viewer is None:
                page.close(SIGNED_OUT)
            elif (viewer.user_id, viewer.role) != (page.viewer.user_id, page.viewer.role):
                page.close(RIGHTS_CHANGED)


_hub: Hub | None = None


# ── In the database's thread ─────────────────────────────────────────────────────────────────────
def _data_version() -> int:
    """Return a number that changes whenever another connection has written to the database."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA data_version")
        return int(cursor.fetchone()[0])


def _active(runs: set[int]) -> dict[int, int]:
    """Return those of `runs` that may still write, each with the number of its attempt.

    The others ended, or were deleted.
    """
    return dict(Run.objects.active().filter(pk__in=runs).values_list("pk", "attempt"))


def _rendered(keys: Iterable[Key], now: datetime) -> dict[Key, Shown]:
    """Return how each region looks; one that fails is logged, left out, and spoils no other."""
    found = {}
    for key in keys:
        name, colon, arg = key.region.partition(":")
        viewer = tiles.Viewer(role=key.role, language=key.language)
        try:
            html = tiles.render(name, arg if colon else None, viewer, now)
        except Exception:
            logger.exception("region %s could not be rendered", key.region)
            continue
        if html is None:
            found[key] = Shown("gone", json.dumps(["gone", key.region]))
        else:
            digest = hashlib.blake2b(html.encode(), digest_size=6).hexdigest()
            op = ["morph", key.region, html, digest]
            found[key] = Shown(digest, json.dumps(op, ensure_ascii=False))
    return found


# ── In a thread for files ────────────────────────────────────────────────────────────────────────
def _head(folder: Path) -> int | None:
    """Return what tells this output's first file from that of an earlier attempt."""
    try:
        return (folder / "output.0").stat().st_ino
    except OSError:
        return None


def _piece(folder: Path, run: int, offset: int, line: int, ended: bool) -> transcript.Piece | None:
    return transcript.piece(folder, run, offset, line, ended=ended)


def _is_empty(shared: asyncio.Future[transcript.Piece | None]) -> bool:
    """Whether a piece that was asked for brought nothing that another page could use."""
    if not shared.done():
        return False
    return shared.cancelled() or shared.exception() is not None or shared.result() is None

"""A run's output as it is written, until the run ends: one answer that goes on.

A view judges the request and leaves a `Follower` in its `Place` (`follow`). `Followed` stands
around Django, waits until that has let go of the request with its thread and its connection to the
database, and then sends what the run writes. Nothing is kept for a slow reader: the next bytes are
read when the server has room for them (`web`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _t
from rest_framework.request import Request

from daemon_app import hub, output
from daemon_app.api.errors import Problem
from daemon_app.guard import Application, Message, Receive, Scope, Send
from daemon_app.models import Account, Run, Token
from daemon_app.viewers import viewer_by_session

log = logging.getLogger(__name__)

PLACE: Final = "bach.follow"
PIECE = 65_536  # bytes
LOOK = 1.0  # seconds; so often at least: whether it still may, and whether the run goes on
COME_BACK = 10  # seconds

_open: Counter[str] = Counter()  # by caller
_lock = Lock()


# ── What a view does ─────────────────────────────────────────────────────────────────────────────
def follow(request: Request, run: Run, offset: int, attempt: int | None) -> bool:
    """Let the answer to this request go on with what `run` writes from the byte `offset` on.

    Of one attempt, or of all that come. False where nothing serves such answers. Raises Problem
    when too many go on already (429 of this caller, 503 in all).
    """
    place: Place | None = getattr(request._request, "scope", {}).get(PLACE)  # noqa: SLF001
    if place is None:
        return False
    who = request.auth or request.user
    assert isinstance(who, Account | Token)
    account = who.account if isinstance(who, Token) else who
    return place.take(
        Follower(
            run=run.pk,
            caller=f"{type(who).__name__} {who.pk}",
            account=account.pk,
            offset=offset,
            attempt=attempt,
            may=_check(request),
        )
    )


class Place:
    """Room for what follows one request: taken in the view's thread, left when all is sent."""

    def __init__(self) -> None:
        self.follower: Follower | None = None
        self._is_over = False

    def take(self, follower: "Follower") -> bool:
        """Count one more; False when whoever asked is gone. Raises Problem without room."""
        with _lock:
            if self._is_over:
                return False
            _refuse_too_many(follower.caller)
            _open[follower.caller] += 1
            self.follower = follower
        return True

    def leave(self) -> None:
        """Make room."""
        with _lock:
            self._is_over = True
            if self.follower is not None:
                _open.subtract([self.follower.caller])
                if not _open[self.follower.caller]:
                    del _open[self.follower.caller]


def _refuse_too_many(caller: str) -> None:
    headers = {"Retry-After": str(COME_BACK)}
    if _open[caller] >= settings.LOG_STREAMS_EACH:
        words = _t("You follow %(n)s outputs already. End one of them first.")
        message = words % {"n": _open[caller]}
        raise Problem(429, "too_many_streams", message, headers=headers)
    if _open.total() >= settings.LOG_STREAMS:
        words = _t("As many outputs as this server allows are followed already (%(n)s).")
        message = words % {"n": settings.LOG_STREAMS}
        raise Problem(503, "no_room", message, headers=headers)


def _check(request: Request) -> Callable[[], bool]:
    """Return what says whether the caller still may look, in any thread and at any time."""
    if isinstance(request.auth, Token):
        text = request.headers["Authorization"].partition(" ")[2].strip()
        return partial(_token_may, text)
    return partial(_session_may, str(request._request.session.session_key))  # noqa: SLF001


def _token_may(text: str) -> bool:
    token = Token.find(text, timezone.now())
    return token is not None and token.can("view")


def _session_may(key: str) -> bool:
    viewer = viewer_by_session(key)
    return viewer is not None and Account(role=viewer.role).can("view")


class Follower:
    """What one caller is yet to be sent of one run."""

    def __init__(  # noqa: PLR0913 - who, of what, from where
        self,
        *,
        run: int,
        caller: str,
        account: int,
        offset: int,
        attempt: int | None,
        may: Callable[[], bool],
    ) -> None:
        self.run, self.account, self.caller = run, account, caller
        self.offset, self.attempt, self.may = offset, attempt, may
        self._mark: int | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the output until the run has ended, or the caller may not look any more."""
        here = hub.current()
        look_at, ends = 0.0, False
        with here.listening(f"log:{self.run}", f"run:{self.run}", f"account:{self.account}") as ear:
            while True:
                if here.loop.time() >= look_at:
                    folder = await here.ask(self._look)
                    if folder is None:
                        return
                    where, ends = folder
                    look_at = here.loop.time() + LOOK
                data = await here.read_file(partial(self._next, where))
                if data:
                    yield data
                elif ends:
                    return
                else:
                    rung = await ear.wait(max(0.0, look_at - here.loop.time()))
                    if rung - {f"log:{self.run}"}:
                        look_at = 0.0

    def _look(self) -> tuple[Path, bool] | None:
        """Return where the output is and whether no more comes; None when nothing may be sent."""
        run = Run.objects.filter(pk=self.run).first()
        if run is None or not self.may():
            return None
        if self.attempt is None or self.attempt >= run.attempt:
            return run.folder, not run.is_active
        past = run.attempts.filter(number=self.attempt).first()
        # Until the next attempt begins it lies where it was written.
        stays = run.is_active and self.attempt == run.attempt - 1
        if past is None or (past.folder == run.folder and not stays):
            return None
        return past.folder, True

    def _next(self, folder: Path) -> bytes:
        """Return the next bytes: of an attempt that is over its last ones, then those of the next.

        What was dropped before it could be sent is left out.
        """
        mark, _stretches = output.kept(folder)
        if self._mark not in {None, mark}:
            rest = self._rest(folder)
            if rest or not mark or self.attempt is not None:
                return rest
            self.offset = 0
        if not mark:
            return b""
        self._mark = mark
        return self._read(folder)

    def _rest(self, folder: Path) -> bytes:
        """Return what is left of the output that was moved away for the next attempt."""
        for past in (folder / "attempts").glob("*"):
            if output.kept(past)[0] == self._mark:
                return self._read(past)
        return b""

    def _read(self, folder: Path) -> bytes:
        piece = output.read(folder, self.offset, PIECE)
        if piece.data:
            self.offset = piece.end
        return piece.data


# ── Around Django ────────────────────────────────────────────────────────────────────────────────
class Followed:
    """An ASGI application that lets the answers of `app` go on where a view said so."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and go on with the answer until there is no more or nobody is there."""
        place = Place()
        is_gone = goes_on = False

        async def received() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or message["type"] == "http.disconnect"
            return message

        async def sent(message: Message) -> None:
            nonlocal goes_on
            if message["type"] == "http.response.start":
                goes_on = place.follower is not None and message["status"] == 200
                if goes_on:
                    headers = [h for h in message["headers"] if h[0].lower() != b"content-length"]
                    message = {**message, "headers": headers}
            elif goes_on:
                message = {**message, "more_body": True}
            await send(message)

        try:
            await self.app({**scope, PLACE: place}, received, sent)
            if place.follower is not None and goes_on and not is_gone:
                await _go_on(place.follower, receive, send)
        finally:
            place.leave()


async def _go_on(follower: Follower, receive: Receive, send: Send) -> None:
    sending = asyncio.create_task(_send(follower, send))
    leaving = asyncio.ensure_future(receive())  # after the request only its end can come
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(follower: Follower, send: Send) -> None:
    try:
        async for data in follower.pieces():
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except Exception:
        log.exception("the output of run %s could not be followed to its end", follower.run)
    await send({"type": "http.response.body", "body": b""})

"""The websocket: open pages say what they show and are told what changed. Nothing else goes in.

A page sends JSON of at most 4 KiB, at most ten messages a second:
    {"t": "hello", "language": "de", "regions": {"run-head:17": digest or null, …}}   at first
    {"t": "show", "regions": {…}}            when the page shows other regions than before
    {"t": "log", "run": 17, "from": 4711, "id": 1}
        the output from this byte on (null: its newest lines); `id` numbers the page's questions
    {"t": "seen", "seq": 9}                  the last frame it has read
What it gets back stands in `daemon_app.hub`. Closed with 4400: not such a message; 4401: not
signed in (any more); 4403: the account's role was changed, load the page anew; 4408: it read
nothing for a minute; 4429: too many open pages. A browser learns a code only of a socket that was
accepted, so that a stranger's socket is accepted, told, and closed; the guard in front of us has
judged its host and origin.
"""

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.urls import path, re_path

from daemon_app import hub
from daemon_app.viewers import life_left, viewer_by_session, viewer_by_token

logger = logging.getLogger(__name__)

BAD_MESSAGE = 4400
FAILED = 1011
LONGEST_MESSAGE = 4096  # bytes
PER_SECOND, AT_ONCE = 10, 20
LONGEST_NUMBER = 10**18


class Live(AsyncWebsocketConsumer):
    """One open page."""

    page: hub.Page | None = None
    writer: asyncio.Task[None] | None = None
    ending: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # However the socket ended: the server does not always say so.
            self.forget()

    async def connect(self) -> None:
        await self.accept()
        self.allowance, self.allowed_at = float(AT_ONCE), time.monotonic()
        token = bearer_token(self.scope["headers"])
        session = token or self.scope["cookies"].get(settings.SESSION_COOKIE_NAME, "")
        check = partial(viewer_by_token if token else viewer_by_session, session)
        here = hub.current()
        viewer = await here.ask(check)
        if viewer is None:
            await self.close(hub.SIGNED_OUT)
        elif not here.has_room(session):
            await self.close(hub.TOO_MANY)
        else:
            self.hub = here
            self.page = hub.Page(viewer, session, check)
            here.join(self.page)
            self.writer = asyncio.create_task(self.write(self.page))
            # No bell rings when a token's time is over.
            left = await here.ask(partial(life_left, token)) if token else None
            if left is not None and self.page is not None:
                loop = asyncio.get_running_loop()
                self.ending = loop.call_later(left, here.suspect, self.page)

    async def write(self, page: hub.Page) -> None:
        """Send what the hub has for this page until it says that it ends."""
        try:
            async for frame in self.hub.frames(page):
                await self.send(text_data=frame)
            await self.close(page.code)
        except Exception:
            logger.exception("the socket of a page of account %s failed", page.viewer.user_id)
            await self.close(FAILED)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.page is None or self.page.code is not None:
            return
        try:
            self.count()
            self.obey(self.page, message_in(text_data if bytes_data is None else None))
        except BadMessageError:
            self.page.close(BAD_MESSAGE)

    def count(self) -> None:
        """Raise BadMessageError for a message too many."""
        now = time.monotonic()
        self.allowance += (now - self.allowed_at) * PER_SECOND
        self.allowance, self.allowed_at = min(self.allowance, AT_ONCE) - 1, now
        if self.allowance < 0:
            raise BadMessageError

    def obey(self, page: hub.Page, message: dict[str, Any]) -> None:
        """Show or send what the page asks for. Raises BadMessageError for anything else."""
        match message:
            case {"t": "hello" | "show" as kind, "regions": dict(regions)}:
                if not all(isinstance(digest, str | None) for digest in regions.values()):
                    raise BadMessageError
                language = message.get("language")
                known = isinstance(language, str) and language in dict(settings.LANGUAGES)
                self.hub.show(page, regions, language if kind == "hello" and known else None)
            case {
                "t": "log",
                "run": int(run),
                "from": int() | None as offset,
                "id": int(asked),
            } if (
                0 < run < LONGEST_NUMBER
                and 0 <= (offset or 0) < LONGEST_NUMBER
                and 0 <= asked < LONGEST_NUMBER
            ):
                self.hub.read(page, run, offset, asked)
            case {"t": "seen", "seq": int(seq)}:
                page.saw(seq)
            case _:
                raise BadMessageError

    async def disconnect(self, code: int) -> None:  # noqa: ARG002
        self.forget()

    def forget(self) -> None:
        """Let the hub forget this page."""
        if self.page is not None:
            self.hub.leave(self.page)
        if self.writer is not None:
            self.writer.cancel()
        if self.ending is not None:
            self.ending.cancel()


class Nowhere(AsyncWebsocketConsumer):
    """Any other address: refused before the handshake, as HTTP 403."""

    async def connect(self) -> None:
        await self.close()


class BadMessageError(Exception):
    """A page said something that pages don't say."""


def message_in(text: str | None) -> dict[str, Any]:
    """Return the JSON object in `text`. Raises BadMessageError."""
    if text is None or len(text) > LONGEST_MESSAGE or len(text.encode()) > LONGEST_MESSAGE:
        raise BadMessageError
    try:
        message = json.loads(text)
        # Escapes can spell half characters, with which no text can be rendered or sent.
        json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadMessageError from None
    if not isinstance(message, dict):
        raise BadMessageError
    return message


def bearer_token(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the API token among `headers`; empty without one."""
    for name, value in headers:
        kind, _, text = value.decode("latin-1").partition(" ")
        if name == b"authorization" and kind.lower() == "bearer":
            return text.strip()
    return ""


websocket = CookieMiddleware(
    URLRouter([path("ws/daemon/", Live.as_asgi()), re_path("", Nowhere.as_asgi())])
)

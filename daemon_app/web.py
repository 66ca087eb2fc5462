"""The web server: Daphne, with bounds on what it takes in before anybody has judged it.

Daphne writes whole bodies to disk before the application hears of a request, and answers broken
requests by itself, without our headers.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from autobahn.exception import Disconnected
from daphne import http_protocol, ws_protocol
from django.conf import settings

from daemon_app.guard import FIXED, NO_STORE, Application

# So long may a client leave what it is sent unread, in seconds.
STALLED = 60.0
# So many bytes may lie unread by all of them together, before who has waited longest is left.
MOST_UNREAD = 256 * 1024 * 1024


class Request(http_protocol.WebRequest):
    """A request of which no more is kept than the guard accepts, and no more sent than is read."""

    kept = 0
    left = 0  # bytes of the answer that are still to be sent, as far as its length is known
    flow: "Flow | None" = None
    # Whose client has yet to read how much, who has waited longest first.
    unread: ClassVar[dict["Request", int]] = {}

    def handle_reply(self, message: Any) -> None:
        """Send a part of the answer; from the first on, learn how fast the client reads."""
        if self.channel is not None and not self.finished and self.flow is None:
            self.flow = Flow()
            self.registerProducer(self.flow, True)
            with suppress(AttributeError):  # not every transport is a socket
                # A peer that is gone without a word is noticed although nothing is sent.
                self.channel.transport.setTcpKeepAlive(True)
        given = dict(message.get("headers", ()))
        self.left = int(given.get(b"content-length", self.left)) - len(message.get("body", b""))
        super().handle_reply(message)

    async def drained(self) -> None:
        """Return when there is room for more.

        A client that reads nothing for long is left, and earlier where many leave much unread.
        """
        flow = self.flow
        if flow is None or flow.has_room.is_set():
            return
        self.unread[self] = self.left
        while len(self.unread) > 1 and sum(self.unread.values()) > MOST_UNREAD:
            longest = next(iter(self.unread))
            del self.unread[longest]
            longest.leave()
        try:
            async with asyncio.timeout(STALLED):
                await flow.has_room.wait()
        except TimeoutError:
            self.leave()
        finally:
            self.unread.pop(self, None)

    def leave(self) -> None:
        """End the connection to a client that does not read."""
        if self.channel is not None:
            self.channel.transport.abortConnection()

    def finish(self) -> None:
        """End the answer."""
        if self.flow is not None and self.channel is not None:
            self.unregisterProducer()
        super().finish()

    def connectionLost(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        """Let nobody wait for a client that is gone."""
        if self.flow is not None:
            self.flow.has_room.set()
        super().connectionLost(reason)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Keep one byte more than is allowed, by which the guard sees that it is too much."""
        room = settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1 - self.kept
        if room > 0:
            self.kept += min(len(data), room)
            super().handleContentChunk(data[:room])

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        """Answer what never reached the guard: plainly, and with its headers."""
        headers = [*FIXED, NO_STORE, (b"content-type", b"text/plain; charset=utf-8")]
        text = f"{status} {status_text.decode()}: {body}\n".encode()
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": text})


class Flow:
    """Whether there is room in the buffer towards one client, as Twisted tells a producer."""

    def __init__(self) -> None:
        self.has_room = asyncio.Event()
        self.has_room.set()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.has_room.clear()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.has_room.set()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.has_room.set()


class Socket(ws_protocol.WebSocketProtocol):
    """A websocket whose refusals carry our headers too, and that keeps no large message."""

    def onConnect(self, request: Any) -> Any:  # noqa: N802 - Autobahn's name
        """Bound what is kept before anybody judges it; Autobahn ends the socket beyond (1009)."""
        self.maxFramePayloadSize = self.maxMessagePayloadSize = 16_384
        return super().onConnect(request)

    def sendMessage(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802 - Autobahn's name
        """Send a message of any length: the bound is for what comes in.

        A page that leaves while something is on its way to it is no error.
        """
        bound, self.maxMessagePayloadSize = self.maxMessagePayloadSize, 0
        try:
            with suppress(Disconnected):
                super().sendMessage(*args, **kwargs)
        finally:
            self.maxMessagePayloadSize = bound

    def sendHttpErrorResponse(  # noqa: N802 - Autobahn's name
        self,
        code: int,
        reason: str,
        responseHeaders: Any = None,  # noqa: N803
    ) -> None:
        """Answer a handshake that leads to no websocket."""
        ours = [(name.decode(), value.decode()) for name, value in [*FIXED, NO_STORE]]
        more = [*(responseHeaders or []), *ours, ("content-length", "0"), ("connection", "close")]
        super().sendHttpErrorResponse(code, reason, more)


def serve(application: Application, *, endpoint: str, ready: Callable[[], None]) -> None:
    """Serve `application` at a Twisted endpoint until SIGTERM or SIGINT; then return."""
    # Installs the event loop's reactor, so only in the process that serves.
    from daphne.server import Server  # noqa: PLC0415

    # Daphne has no setting for any of these.
    class Patient(Server):
        """A server whose applications wait for clients that read slowly."""

        async def handle_reply(self, protocol: Any, message: Any) -> None:
            await super().handle_reply(protocol, message)
            if isinstance(protocol, Request):
                await protocol.drained()

    http_protocol.WebRequest = Request
    ws_protocol.WebSocketFactory.protocol = Socket
    Patient(
        application,
        endpoints=[endpoint],
        signal_handlers=True,
        ready_callable=ready,
        server_name="",
        http_timeout=None,
        websocket_timeout=-1,
        websocket_connect_timeout=10,
        request_buffer_size=65_536,
        verbosity=0,
    ).run()

"""The web server: Daphne, with bounds on what it takes in before anybody has judged it.

Daphne writes whole bodies to disk before the application hears of a request, and answers broken
requests by itself, without our headers.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from autobahn.exception import Disconnected
from daphne import http_protocol, ws_protocol
from django.conf import settings

from daemon_app.guard import FIXED, NO_STORE, Application


class Request(http_protocol.WebRequest):
    """A request of which no more is kept than the guard accepts."""

    kept = 0

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

    # Daphne has no setting for either.
    http_protocol.WebRequest = Request
    ws_protocol.WebSocketFactory.protocol = Socket
    Server(
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

"""Servers that answer over real sockets, byte by byte as a test wants it."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Answer = Callable[["Line"], None]


class Line:
    """The server's end of one connection, and the event that ends the test."""

    def __init__(self, connection: socket.socket, over: threading.Event) -> None:
        self.connection = connection
        self.over = over

    def request(self) -> bytes:
        """Return the request, as far as its headers."""
        received = b""
        while b"\r\n\r\n" not in received and (part := self.connection.recv(65536)):
            received += part
        return received

    def say(self, data: bytes) -> None:
        """Send `data`."""
        self.connection.sendall(data)

    def drip(self, data: bytes, pause: float) -> None:
        """Send `data` byte by byte until it is all sent or nobody listens any more."""
        for byte in data:
            self.say(bytes([byte]))
            if self.over.wait(pause):
                return

    def flood(self, data: bytes, size: int) -> None:
        """Send `data` again and again, up to `size` bytes."""
        for _ in range(size // len(data)):
            self.say(data)

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self.over.wait(60)


class Server:
    """Answers each connection by `answer`; `connections` counts them."""

    def __init__(self, answer: Answer, wrap: Callable[[socket.socket], socket.socket]) -> None:
        self.answer = answer
        self.connections = 0
        self.over = threading.Event()
        self._wrap = wrap
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _listen(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            if self.over.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # Whoever is asked breaks off when it has had enough: that is what is tested.
        with contextlib.suppress(OSError), self._wrap(connection) as wrapped:
            self.answer(Line(wrapped, self.over))

    def close(self) -> None:
        """Let everybody go."""
        self.over.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        self._listener.join(20)
        self._socket.close()
        for thread in self._threads:
            thread.join(20)


@contextlib.contextmanager
def serving(
    answer: Answer, wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain
) -> Iterator[Server]:
    """Yield a server that answers so."""
    server = Server(answer, wrap)
    try:
        yield server
    finally:
        server.close()


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return a whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def saying(data: bytes) -> Answer:
    """Return an answer that is always the same."""

    def answer(line: Line) -> None:
        line.request()
        line.say(data)

    return answer


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate that nobody trusts, and its key; made by the openssl command."""
    import subprocess

    made: Any = (folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-out", str(made[0]), "-keyout", str(made[1])),
        ],
        check=True,
        capture_output=True,
    )
    return made

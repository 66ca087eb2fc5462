"""How a double answers: properly, or in one of the ways in which services have failed people.

Each mode yields what goes over the wire, head and all; the connection is closed after it.
"""

from __future__ import annotations

import gzip as compression
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from daemon_app.registry import Registry

MEGABYTE: Final = 1_000_000
BLOCK: Final = b"x" * 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What a double says: JSON, or lines of it that come one by one."""

    status: int
    body: Mapping[str, Any] | str | Iterable[Mapping[str, Any]]

    def as_bytes(self) -> bytes:
        """Return the body whole."""
        if isinstance(self.body, str):
            return self.body.encode()
        if isinstance(self.body, Mapping):
            return json.dumps(self.body).encode()
        return b"".join(self.lines())

    def lines(self) -> Iterator[bytes]:
        """Yield the body as its parts come."""
        if isinstance(self.body, str | Mapping):
            yield self.as_bytes()
            return
        for each in self.body:
            yield json.dumps(each).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Mode:
    """Which way to answer, and how badly.

    `path` confines it to addresses that begin so. `seconds` is the delay of slow, the time between
    two bytes of drip, and how long down lasts (0: until it is told otherwise).
    """

    name: str = "ok"
    path: str = ""
    seconds: float = 0.0
    headers: bool = False  # hang: only after the head
    length: bool = False  # bomb: with its size in the head
    megabytes: int = 1000
    depth: int = 1_000_000
    status: int = 500
    to: str = ""  # redirect: where to; itself if not given


# True once so many seconds have passed (None: never), False as soon as the mode has changed.
Wait = Callable[[float | None], bool]
Parts = Generator[bytes, None, None]
Writer = Callable[[Mode, Answer, str, Wait], Parts]
MODES: Registry[Writer] = Registry("mode")


def head(status: int, *, kind: str = "application/json", **fields: object) -> bytes:
    """Return the first lines of an answer; `fields` are more of them, with _ for -."""
    said = {"Content-Type": kind, "Connection": "close", **fields}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in said.items()]
    return "\r\n".join([f"HTTP/1.1 {status} {_phrase(status)}", *lines, "", ""]).encode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


@MODES.register("ok")
def ok(_mode: Mode, answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Answer as the real service does."""
    if isinstance(answer.body, str | Mapping):
        body = answer.as_bytes()
        kind = "text/plain" if isinstance(answer.body, str) else "application/json"
        yield head(answer.status, kind=kind, Content_Length=len(body)) + body
        return
    yield head(answer.status, kind="application/x-ndjson")
    yield from answer.lines()


@MODES.register("slow")
def slow(mode: Mode, answer: Answer, path: str, wait: Wait) -> Parts:
    """Answer properly, but late."""
    if wait(mode.seconds or 2.0):
        yield from ok(mode, answer, path, wait)


@MODES.register("hang")
def hang(mode: Mode, _answer: Answer, _path: str, wait: Wait) -> Parts:
    """Accept the request and say nothing more; with `headers`, only the head of an answer."""
    yield head(200, Content_Length=1000) if mode.headers else b""
    wait(None)


@MODES.register("drip")
def drip(mode: Mode, answer: Answer, _path: str, wait: Wait) -> Parts:
    """Send the right answer byte by byte: each read is in time, the whole never is."""
    body = answer.as_bytes()
    yield head(answer.status, Content_Length=len(body))
    for byte in body:
        if not wait(mode.seconds or 1.0):
            return
        yield bytes([byte])


@MODES.register("garbage")
def garbage(_mode: Mode, _answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Send what is no JSON, and would do harm where it is shown as it is."""
    body = b"\x00\xff\xfe<script>alert('garbage')</script>\x1b[31m{{ 7*7 }}\xe2\x80\xae" * 50
    yield head(200, Content_Length=len(body)) + body


@MODES.register("wrong")
def wrong(_mode: Mode, _answer: Answer, path: str, _wait: Wait) -> Parts:
    """Send JSON in which everything is of another type than it should be."""
    body = (
        b'{"status": ["ok"], "version": {}, "free_mb": "plenty", "total_mb": -1e999,'
        b' "registered_backends": 7, "loaded_models": [null, "sdxl", {"vram_mb": NaN,'
        b' "in_use": "yes", "model": {"a": 1}, "last_used": "never"}], "eviction_in_progress": [],'
        b' "models": [3, null, {"name": [], "size_vram": "big", "expires_at": "tomorrow"}]}'
    )
    body = b"[1, 2, 3]" if path.endswith("?list") else body
    yield head(200, Content_Length=len(body)) + body


@MODES.register("bomb")
def bomb(mode: Mode, _answer: Answer, _path: str, wait: Wait) -> Parts:
    """Send one JSON object of a gigabyte."""
    begin, end = b'{"status": "ok", "models": [], "filler": "', b'"}'
    blocks = -(-mode.megabytes * MEGABYTE // len(BLOCK))
    size = len(begin) + blocks * len(BLOCK) + len(end)
    yield (head(200, Content_Length=size) if mode.length else head(200)) + begin
    for _ in range(blocks):
        if not wait(0):
            return
        yield BLOCK
    yield end


@MODES.register("nest")
def nest(mode: Mode, _answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Send JSON that is nested so deep that a parser may break."""
    body = b'{"models": ' + b"[" * mode.depth + b"]" * mode.depth + b"}"
    yield head(200, Content_Length=len(body)) + body


@MODES.register("gzip")
def gzip(mode: Mode, _answer: Answer, _path: str, wait: Wait) -> Parts:
    """Send little that unpacks to a gigabyte."""
    # Members of one archive: packing each anew would keep the double busy, not its caller.
    member = compression.compress(b" " * (10 * MEGABYTE), compresslevel=9)
    yield head(200, Content_Encoding="gzip")
    for _ in range(-(-mode.megabytes // 10)):
        if not wait(0):
            return
        yield member


@MODES.register("redirect")
def redirect(mode: Mode, _answer: Answer, path: str, _wait: Wait) -> Parts:
    """Send the caller somewhere else, or in circles."""
    yield head(302, Location=mode.to or path, Content_Length=0)


@MODES.register("error")
def error(mode: Mode, _answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Answer with an error of HTTP: 500, 429, 418, …"""
    body = json.dumps({"status": "error", "error": f"demonstrated: {mode.status}"}).encode()
    yield head(mode.status, Content_Length=len(body)) + body


@MODES.register("nohttp")
def nohttp(_mode: Mode, _answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Speak another protocol."""
    yield b"SSH-2.0-OpenSSH_9.9\r\n"


@MODES.register("down")
def down(_mode: Mode, _answer: Answer, _path: str, _wait: Wait) -> Parts:
    """Say nothing; new connections are refused by then."""
    yield b""

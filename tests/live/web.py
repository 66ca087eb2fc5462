"""A web server alone, another process of ours beside it, and pages that talk to it."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from daemon_app import doorbell, hub, output
from tests.stack import free_port

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 30.0  # seconds; only a test that fails waits so long

SERVER = """
import sys
from bachweb.asgi import application
from daemon_app import web
web.serve(application, endpoint=sys.argv[1], ready=lambda: print("ready", flush=True))
"""
# Runs what it is told, in a process that knows the database and the bells, but not the server.
ELSEWHERE = """
import json, sys, traceback
import django
django.setup()
from datetime import timedelta
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from daemon_app import live
from daemon_app.models import Account, Job, Run, Token
from daemon_app.models.access import Role

def sign_in(name, role="admin"):
    found = Account.objects.filter(username=name).first()
    account = found or Account.objects.create_user(name, role=role)
    client = Client()
    client.force_login(account)
    return client.cookies[settings.SESSION_COOKIE_NAME].value

def job(name):
    return Job(name=name, job_type="manual", command="true").store(now=timezone.now(), by="test")

def running(name):
    now = timezone.now()
    made = Run.objects.create(job=job(name), job_name=name, trigger="manual", due_at=now,
        queued_at=now, state="queued")
    made.claim(owner="test", now=now)
    return made.pk

def finish(pk, state="succeeded"):
    Run.objects.get(pk=pk).finish(state, now=timezone.now(), started_at=timezone.now(), exit_code=0)

names = dict(globals())
for line in sys.stdin:
    try:
        answer = {"value": eval(compile(json.loads(line), "told", "eval"), names)}
        text = json.dumps(answer, default=str)
    except Exception:
        text = json.dumps({"error": traceback.format_exc()})
    print(text, flush=True)
"""


class Web:
    """The web process of an installation in a folder of its own, and a second process of ours."""

    def __init__(self) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="bach-live-", dir="/tmp"))
        self.runtime = doorbell.runtime_dir(self.data_dir)
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
            "DJANGO_SETTINGS_MODULE": "bachweb.settings",
            "BACH_DATA_DIR": str(self.data_dir),
            "BACH_HOST": "127.0.0.1",
            "BACH_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
        }
        self.log_file = self.data_dir.with_suffix(".log")
        subprocess.run(
            [sys.executable, ROOT / "manage.py", "migrate", "-v0"], env=self.env, check=True
        )
        self.elsewhere = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start()

    def start(self) -> None:
        """Start the web process and return when it answers."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, f"tcp:port={self.port}:interface=127.0.0.1"],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n", self.log_file.read_text()

    def stop(self) -> None:
        """End the web process as its supervisor does."""
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def ended(self) -> None:
        """Wait until the web process is gone."""
        self.process.wait(PATIENCE)
        assert self.process.stdout
        self.process.stdout.close()

    def close(self) -> None:
        self.stop()
        assert self.elsewhere.stdin
        assert self.elsewhere.stdout
        self.elsewhere.stdin.close()
        self.elsewhere.wait(PATIENCE)
        self.elsewhere.stdout.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self.log_file.unlink(missing_ok=True)

    def tell(self, expression: str) -> Any:
        """Return what `expression` is in the other process."""
        assert self.elsewhere.stdin
        assert self.elsewhere.stdout
        self.elsewhere.stdin.write(json.dumps(expression) + "\n")
        self.elsewhere.stdin.flush()
        answer = json.loads(self.elsewhere.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def bells(self) -> list[str]:
        """Return the bells that web processes listen to now."""
        return sorted(path.name for path in self.runtime.glob("live-*.sock"))

    def folder(self, run: int) -> Path:
        """Return the folder of a run's output, made when it is missing."""
        folder = self.data_dir / "runs" / str(run // 1000) / str(run)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def writer(self, run: int, **bounds: int) -> output.Writer:
        """Return what a supervisor writes a run's output with."""
        return output.Writer(str(self.folder(run)), **bounds)

    def ring(self, *topics: object) -> None:
        """Ring the open pages, as whoever changed something does."""
        doorbell.ring(self.runtime, "live-*", json.dumps(topics).encode())

    @asynccontextmanager
    async def page(
        self, session: str = "", *, token: str = "", acknowledges: bool = True
    ) -> AsyncIterator["Page"]:
        """Open a socket as a page does; it need not stay open for long."""
        headers = {"Cookie": f"bach_{self.port}={session}"} if session else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with connect(
            f"ws://127.0.0.1:{self.port}/ws/daemon/",
            origin=None if token else websockets.Origin(self.origin),
            additional_headers=headers,
            max_size=None,
            proxy=None,
        ) as socket:
            yield Page(socket, acknowledges=acknowledges)


class Page:
    """One open page: what it asks, and what it is told."""

    def __init__(self, socket: ClientConnection, *, acknowledges: bool) -> None:
        self.socket = socket
        self.acknowledges = acknowledges
        self.frames: list[dict[str, Any]] = []
        # What came while something else was waited for.
        self.kept: dict[str, deque[Any]] = {"ops": deque(), "log": deque()}
        self.next = 0  # the byte of the log to go on from
        self.unseen = 0
        self.said_at = 0.0
        self.asked = 0

    async def say(self, message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def read(self, run: int, offset: int | None = None) -> None:
        """Ask for the log of a run from a byte on."""
        self.asked += 1
        self.kept["log"].clear()
        await self.say({"t": "log", "run": run, "from": offset, "id": self.asked})

    async def show(self, *regions: str, **known: str) -> None:
        wanted = dict.fromkeys(regions) | known
        await self.say({"t": "hello", "language": "de", "regions": wanted})

    async def frame(self) -> dict[str, Any]:
        """Return the next frame; its number must be the next one."""
        text = await asyncio.wait_for(self.socket.recv(), PATIENCE)
        frame: dict[str, Any] = json.loads(text)
        assert frame["seq"] == len(self.frames) + 1
        self.frames.append(frame)
        self.unseen += len(text)
        if self.acknowledges and self.unseen > hub.WINDOW // 2:
            self.unseen = 0
            # As a page does: a tenth of a second apart, or the server takes it for a flood.
            await asyncio.sleep(max(0.0, self.said_at + 0.1 - time.monotonic()))
            self.said_at = time.monotonic()
            await self.say({"t": "seen", "seq": frame["seq"]})
        return frame

    async def _next(self, kind: str) -> Any:
        while not self.kept[kind]:
            frame = await self.frame()
            for each, kept in self.kept.items():
                if each in frame and frame.get("asked", self.asked) == self.asked:
                    kept.append(frame[each])
        return self.kept[kind].popleft()

    async def ops(self) -> list[Any]:
        """Return the operations of the next frame that has any."""
        found: list[Any] = await self._next("ops")
        return found

    async def region(self, region: str, text: str = "") -> str:
        """Return the HTML of `region` once it contains `text`."""
        while True:
            for op in await self.ops():
                if op[:2] == ["morph", region] and text in op[2]:
                    return str(op[2])

    async def log(self, until: Callable[[str, bool], bool]) -> str:
        """Return what the log's frames say from here on, until `until(text, ended)`.

        Each begins where the last one ended: nothing is missing, nothing is double.
        """
        text, ended = "", False
        while not until(text, ended):
            said = await self._next("log")
            assert said["offset"] - said.get("gap", 0) == self.next
            self.next = said["next"]
            text += "".join(part for _stream, part, _at in said.get("text", []))
            ended = said.get("end", False)
        return text

    async def closed(self) -> int | None:
        """Return the code the socket is closed with."""
        try:
            while True:
                await asyncio.wait_for(self.socket.recv(), PATIENCE)
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

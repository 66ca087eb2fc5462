"""What the health tick makes of services that misbehave: `python bench/tick.py [--ticks 8]`.

Each misbehaviour is served to all three checks that ask services, from another process. Told are
how late the worst tick began, how late a thread beside it was woken that sleeps 10 ms at a time as
the beat might (and without any tick, alone), how much the process grew, and the CPU of one tick.
"""

import argparse
import gzip
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.health.hostile import Answer, Line, http, saying, serving

PERIOD = 1.0
GIGABYTE = 1_000_000_000
MB = 1_000_000
GOOD = {
    "/api/health/vram": b'{"free_mb": 4096, "total_mb": 8192, "loaded_models": []}',
    "/api/health": b'{"status": "ok"}',
    "/api/tags": b'{"models": []}',
    "/api/ps": b'{"models": []}',
}
BOMB = gzip.compress(b"0" * 200 * MB, 9)


# ── What services may do ─────────────────────────────────────────────────────────────────────────
def well(line: Line) -> None:
    asked = line.request()
    path = next((path for path in GOOD if f" {path} ".encode() in asked), "")
    line.say(http(GOOD.get(path, b"")))


def late(seconds: float) -> Answer:
    def answer(line: Line) -> None:
        if not line.over.wait(seconds):
            well(line)

    return answer


def after(head: bytes, then: Callable[[Line], None]) -> Answer:
    def answer(line: Line) -> None:
        line.request()
        line.say(head)
        then(line)

    return answer


def flapping() -> Answer:
    count = 0

    def answer(line: Line) -> None:
        nonlocal count
        count += 1
        (well, saying(b"no http"), saying(http(b"x", status="503 Busy")))[count % 3](line)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\n"
SERVED: dict[str, Answer] = {
    "well": well,
    "latency 0.1 s": late(0.1),
    "latency 2 s": late(2),
    "latency 60 s": late(60),
    "hangs at once": lambda line: line.hang(),
    "hangs after its headers": after(HEAD + b"Content-Length: 9\r\n\r\n", Line.hang),
    "headers, 1 byte a second": after(HEAD, lambda line: line.drip(b"X: " + b"y" * 9999, 1)),
    "body, 1 byte a second": after(
        HEAD + b"Content-Length: 9999\r\n\r\n", lambda line: line.drip(b" " * 9999, 1)
    ),
    "garbage": saying(os.urandom(100_000)),
    "1 GB of JSON": after(
        HEAD + f"Content-Length: {GIGABYTE}\r\n\r\n[".encode(),
        lambda line: line.flood(b"1," * 50_000, GIGABYTE),
    ),
    "1 GB of headers": after(
        HEAD, lambda line: line.flood(b"X: " + b"x" * 9_999 + b"\r\n", GIGABYTE)
    ),
    "10^6 levels": saying(http(b"[" * 1_000_000)),
    "150,000 small values": saying(http(b"[" + b'{"":0},' * 149_000 + b"0]")),
    "gzip bomb": saying(http(BOMB, "Content-Encoding: gzip")),
    "gzip bomb as a redirect": saying(
        http(BOMB, "Content-Encoding: gzip", "Location: /", status="302 Found")
    ),
    "wrong types": saying(http(b'{"status": [1], "models": 7, "free_mb": {}, "total_mb": "x"}')),
    "error 500": saying(http(b"x" * 100_000, status="500 Internal Server Error")),
    "error 429": saying(http(b"", status="429 Too Many Requests")),
    "error 418": saying(http(b"tea", status="418 I'm a teapot")),
    "redirect loop": saying(http(b"", "Location: /", status="302 Found")),
    "flapping": flapping(),
}


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep a database locked."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


# ── The table ────────────────────────────────────────────────────────────────────────────────────
COLUMNS = "ticks", "late ms", "beside ms", "alone ms", "grown MB", "CPU ms", "states"


def main() -> None:
    """Measure each in a process of its own and print the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--ticks", type=int, default=8)
    asked.add_argument("--only", default="", help="part of a name")
    asked.add_argument("--child", nargs=2, metavar=("GOOD", "BAD"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.child:
        good, bad = options.child
        print(json.dumps(child(good, bad, options.ticks)))
        return
    print(f"{'':<26}{''.join(f'{column:>11}' for column in COLUMNS)}")
    for name in [*SERVED, *OTHERS]:
        if options.only in name:
            print(f"{name:<26}{row(measured(name, options.ticks))}", flush=True)


def row(told: dict[str, Any]) -> str:
    """Return a line of the table."""
    figures = (
        str(told["ticks"]),
        f"{told['late']:.1f}",
        f"{told['beside']:.1f}",
        f"{told['alone']:.1f}",
        f"{told['grown'] / MB:.1f}",
        f"{told['cpu']:.1f}",
        "  " + " ".join(sorted(set(told["states"]))),
    )
    return "".join(f"{figure:>11}" for figure in figures)


OTHERS: dict[str, str] = {
    "nothing listens": "http://127.0.0.1:9",
    "TLS expected, none spoken": "https",
    "no such name": "http://no-such-host.invalid",
    "name not found out in 60 s": "http://slow.invalid",
    "database locked": "",
}


def measured(name: str, ticks: int) -> dict[str, Any]:
    """Return what a process says of itself that watched services which behave like `name`."""
    folder = Path(tempfile.mkdtemp(prefix="bach-bench-", dir="/tmp"))
    env = {
        **os.environ,
        "BACH_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "bachweb.settings",
        "BACH_TICK_SECONDS": str(int(PERIOD)),
    }
    try:
        with ExitStack() as stack:
            good = stack.enter_context(serving(well)).url
            bad = stack.enter_context(serving(SERVED.get(name, well))).url
            bad = OTHERS.get(name) or bad
            if bad == "https":
                bad = stack.enter_context(serving(well)).url.replace("http:", "https:")
            command = [sys.executable, __file__, "--child", good, bad, "--ticks", str(ticks)]
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stdout
            assert process.stdin
            process.stdout.readline()  # it has seen good services, and knows its size
            if name == "database locked":
                stack.enter_context(locked(folder / "bach.sqlite3"))
            process.stdin.write("go\n")
            process.stdin.flush()
            told: dict[str, Any] = json.loads(process.stdout.readline())
            process.communicate()
            return told
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ── The process that watches ─────────────────────────────────────────────────────────────────────
def child(good: str, bad: str, ticks: int) -> dict[str, Any]:
    """Take ticks of good services, then of bad ones; return what the latter cost."""
    import logging

    import django

    django.setup()
    logging.disable(logging.ERROR)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    slow_names()
    watch(good, 4)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    size = memory("VmRSS")
    print("ready", flush=True)
    sys.stdin.readline()
    alone = oversleep(lambda: False, PERIOD * ticks)
    told = watch(bad, ticks)
    return {**told, "alone": alone * 1000, "grown": memory("VmHWM") - size}


def oversleep(is_over: Callable[[], bool], seconds: float = 600.0) -> float:
    """Sleep 10 ms at a time until it is over; return by how much the longest was too long."""
    longest, end = 0.0, time.monotonic() + seconds
    while not is_over() and time.monotonic() < end:
        begun = time.perf_counter()
        time.sleep(0.01)
        longest = max(longest, time.perf_counter() - begun - 0.01)
    return longest


def watch(url: str, ticks: int) -> dict[str, Any]:
    """Take so many ticks of services at `url`."""
    from django.conf import settings

    from daemon_app import doorbell
    from daemon_app.pulse import Pulse

    settings.GPU_SERVICE_URL = settings.OLLAMA_URL = url
    states: list[str] = []

    class Sentry:
        idle = True

        def __init__(self) -> None:
            self.state = self

        def readings(self, readings: dict[str, Any]) -> None:
            states.extend(str(readings[name].state) for name in ("gpu_service", "ollama"))

    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    pulse = Pulse(host="bench", runtime=runtime, period=PERIOD, sentry=Sentry())  # type: ignore[arg-type]
    pulse.start()
    beside = oversleep(lambda: len(pulse.beats) >= ticks)
    beats = list(pulse.beats)
    pulse.close()
    return {
        "ticks": len(beats),
        "late": max(beat.late or 0.0 for beat in beats) * 1000,
        "beside": beside * 1000,
        "cpu": max(beat.cpu for beat in beats) * 1000,
        "states": states,
    }


def slow_names() -> None:
    """Have one name that is not found out for a minute."""
    real: Any = socket.getaddrinfo

    def slow(host: Any, *args: Any, **options: Any) -> Any:
        if host == "slow.invalid" and not options.get("flags"):
            time.sleep(60)
        return real(host, *args, **options)

    socket.getaddrinfo = slow


def memory(name: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith(name)).split()[1]) * 1024


if __name__ == "__main__":
    main()

"""Memory: a process that watches services which send as much as they can stays small."""

import gzip
import json
import os
import subprocess
import sys
from itertools import count

import pytest

from tests.health.hostile import Answer, Line, http, saying, serving

MB = 1_000_000
WATCHER = """
import json, sys
import django
django.setup()
from datetime import UTC, datetime
from pathlib import Path
from daemon_app.checks import Context
from daemon_app.checks.lookout import Lookout
from daemon_app.models import Policy

def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(next(r for r in status.splitlines() if r.startswith(name)).split()[1]) * 1024

good, bad, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
lookout = Lookout()
def look(url):
    policy = Policy(gpu_service_url=url, ollama_url=url, slow_ms=60_000)
    readings = lookout.look(Context(datetime.now(UTC), policy, Path("/nowhere")), 30.0)
    return [str(readings[name].state) for name in ("gpu_service", "ollama", "vram")]
for _ in range(5):
    first = look(good)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
size = memory("VmRSS")
states = [look(bad) for _ in range(rounds)]
print(json.dumps({"first": first, "states": states, "grown": memory("VmHWM") - size}))
"""


def well(line: Line) -> None:
    vram = b'{"free_mb": 1, "total_mb": 2, "loaded_models": [], "models": []}'
    line.request()
    line.say(http(vram))


def flood(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n[")
    line.flood(b"[1.5]," * 20_000, 1_000_000_000)


def flood_of_headers(line: Line) -> None:
    line.request()
    line.say(b"HTTP/1.1 200 OK\r\n")
    line.flood(b"X: " + b"x" * 10_000 + b"\r\n", 1_000_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")
def test_whatever_services_send_memory_grows_by_less_than_50_mb() -> None:
    bomb = gzip.compress(b"0" * 200 * MB, 9)
    answers: list[Answer] = [
        flood,
        flood_of_headers,
        saying(http(b"[" * MB)),
        saying(http(b"[" + b'{"":0},' * 149_000 + b"0]")),
        saying(http(b"[" + b"[9]," * 12_000 + b"0]")),  # as much as is read at all
        saying(http(bomb, "Content-Encoding: gzip")),
        saying(http(bomb, "Content-Encoding: gzip", "Location: /", status="302 Found")),
        saying(http(bomb, "Content-Encoding: gzip", status="500 Oh")),
    ]
    turn = count()

    def each_in_turn(line: Line) -> None:
        answers[next(turn) // 3 % len(answers)](line)  # three checks ask at the same time

    with serving(well) as good, serving(each_in_turn) as bad:
        command = [sys.executable, "-c", WATCHER, good.url, bad.url, str(2 * len(answers))]
        told = json.loads(subprocess.check_output(command, env=dict(os.environ), timeout=100))

    assert told["first"] == ["ok", "ok", "ok"]
    assert len(told["states"]) == 2 * len(answers)
    assert {state for states in told["states"] for state in states} == {"unknown"}
    assert told["grown"] < 50 * MB

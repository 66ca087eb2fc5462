"""What the daemon was built for, checked as it was first asked for: five steps, all of it real."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import requests

from daemon_app.demo import GpuService, Ollama
from tests.stack import Stack

CHECKS = {"gpu_service", "ollama", "vram", "disk", "active_users"}
RUNS = "SELECT id, job_name, state, trigger, exit_code FROM daemon_runs WHERE job_name = ?"


class Machine:
    """BACH as a person starts it, beside a GPU service and an Ollama of its own."""

    def __init__(self, stack: Stack, gpu_service: GpuService, ollama: Ollama) -> None:
        self.stack, self.gpu_service, self.ollama = stack, gpu_service, ollama
        self.journal = stack.data_dir / "exports" / "experience" / "daemon_log.jsonl"
        told = stack.bach("daemon", "token", "create", "--name", "monitoring", "--json")
        self.token = json.loads(told)["token"]

    def lines(self) -> list[dict[str, Any]]:
        """Return what the journal has."""
        if not self.journal.exists():
            return []
        text = self.journal.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def status(self, **headers: str) -> dict[str, Any]:
        """Return the status as anybody on this machine sees it; that is nobody's presence."""
        answer = requests.get(f"{self.stack.url}/api/daemon/status", headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def reasons(self) -> str:
        """Return why the machine is not idle, as a program with a token is told."""
        told = self.status(Authorization=f"Bearer {self.token}")
        return "\n".join(reason["sentence"] for reason in told["idle_reasons"])

    def runs_of(self, job: str) -> list[dict[str, Any]]:
        """Return a job's runs, newest last."""
        with closing(sqlite3.connect(self.stack.data_dir / "bach.sqlite3")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(f"{RUNS} ORDER BY id", [job])]

    def until(self, answer: Callable[[], Any]) -> Any:
        """Return once that is true; fail with what everything says when it does not become so."""
        assert self.stack.wait_for(answer), self.told()
        return answer()

    def told(self) -> str:
        """Return what everything says, for a failure."""
        status = {name: said for name, said in self.status().items() if name != "health_history"}
        log = (self.stack.data_dir / "logs" / "daemon.log").read_text()
        return f"{status}\n{self.lines()[-3:]}\n{log}\n{self.stack.log()}"

    def changes(self, check: str, to: str, after: int) -> list[dict[str, Any]]:
        """Return the lines, from line `after` on, that tell of a check that got so."""
        return [
            line
            for line in self.lines()[after:]
            if any(
                (change["check"], change["to"]) == (check, to)
                for change in line["data"].get("changes", [])
            )
        ]


@pytest.fixture
def machine() -> Iterator[Machine]:
    stack = Stack()
    with GpuService() as gpu_service, Ollama() as ollama:
        stack.env |= {
            "BACH_TICK_SECONDS": "1",
            "GPU_SERVICE_URL": gpu_service.url,
            "OLLAMA_URL": ollama.url,
        }
        try:
            stack.start()
            # How busy the machine is that runs the tests is nobody's presence, nor is who sits
            # at it.
            others = ("--foreign-load-percent", "0", "--no-watch-logins", "--no-watch-gpu")
            stack.bach("daemon", "policy", "--idle-after-seconds", "3600", *others)
            yield Machine(stack, gpu_service, ollama)
        finally:
            stack.close()


@pytest.mark.timeout(400)
def test_the_five_steps_of_the_seed(machine: Machine) -> None:
    gpu_service = machine.gpu_service

    # 1. The daemon starts: its log appears, with checks.
    line = machine.until(machine.lines)[0]
    assert set(line) == {"timestamp", "level", "skill", "message", "data"}
    assert line["skill"] == "health_check"
    assert set(line["data"]["checks"]) == CHECKS

    # 2. The status shows health and idleness.
    machine.until(lambda: machine.status()["idle"] is not None)
    status = machine.status()
    assert status["running"] is True
    states = {name: check["state"] for name, check in status["health"].items()}
    assert set(states) == CHECKS
    assert (states["gpu_service"], states["ollama"], states["vram"]) == ("ok", "ok", "ok")

    # 3. The GPU service stops: a warning; it comes back: that is told, too.
    before = len(machine.lines())
    gpu_service.mode("down")
    warned = machine.until(lambda: machine.changes("gpu_service", "down", before))
    assert warned[0]["level"] in {"warn", "error"}
    gpu_service.mode("ok")
    back = machine.until(lambda: machine.changes("gpu_service", "ok", before))
    assert back[0]["timestamp"] > warned[0]["timestamp"]

    # 4. A generation: not idle while it goes on, and why.
    gpu_service.load("sdxl", vram_mb=6000)
    gpu_service.use("sdxl")
    machine.until(lambda: "sdxl" in machine.reasons())
    assert machine.status()["idle"] is False
    assert validations(machine) == []

    # 5. Nobody for a while: idle, and what waits for that runs.
    gpu_service.release("sdxl")
    machine.stack.bach("daemon", "policy", "--idle-after-seconds", "3")
    machine.until(lambda: machine.status()["idle"] is True)
    machine.until(lambda: [run for run in validations(machine) if run["state"] == "succeeded"])
    (validation,) = validations(machine)
    assert (validation["trigger"], validation["exit_code"]) == ("tick", 0)
    assert any(line["skill"] == "validate_configs" for line in machine.lines())

    # And the next generation ends it.
    gpu_service.use("sdxl")
    machine.until(lambda: machine.status()["idle"] is False)


def validations(machine: Machine) -> list[dict[str, Any]]:
    return machine.runs_of("validate_configs")

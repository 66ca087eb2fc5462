"""The real daemon and cluster for tests, on their own database, and how to wait for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.db import connection
from django.utils import timezone

from daemon_app import output, scheduler
from daemon_app.models import Job, Node, Run
from tests.jobs import job

PATIENCE = 30.0  # seconds; the machine may be busy

UP = """
import sys, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = sys.argv[1]
from django.db import connections
connections["default"].settings_dict["NAME"] = sys.argv[1]
from daemon_app.cli import up
sys.exit(up.run({"daemon", "cluster"}, ready=lambda: print("ready", flush=True)))
"""


class Service:
    """Daemon and cluster on the tests' own database and data folder."""

    def __init__(self, **env: str) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.env = env

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", UP, str(connection.settings_dict["NAME"])],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "BACH_DATA_DIR": str(settings.DATA_DIR),
                "CANARY": "ours",
                **self.env,
            },
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def parts(self, name: str) -> list[psutil.Process]:
        assert self.process is not None
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if child.name() == name
        ]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


def until(answer: Callable[[], Any], what: str = "it", why: Callable[[], object] = str) -> Any:
    """Return the first true answer; fail when there is none in good time, with what `why` says."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := answer():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {PATIENCE:.0f} s {why()}")


def ended(run: Run) -> Run:
    """Return the run once it has ended."""

    def look() -> Run | None:
        run.refresh_from_db()
        return None if run.is_active else run

    return until(look, f"the end of {run!r}")


def running(run: Run) -> Run:
    """Return the run once its command writes."""

    def look() -> Run | None:
        run.refresh_from_db()
        return run if run.state == Run.State.RUNNING and output.size(run.folder) else None

    return until(look, f"the start of {run!r}", lambda: keeping(run))


def keeping(run: Run) -> str:
    """Return what is known of why a run does not go on, for whoever reads a failure."""
    run.refresh_from_db()
    nodes = Node.objects.values("idle", "idle_reasons", "seen_at")
    log = Path(settings.LOGS_DIR, "daemon.log").read_text(errors="replace")[-2000:]
    return f"({run.state}: {run.reason})\n{list(nodes)}\n{log}"


def started(of: Job, **wishes: Any) -> Run:
    """Return the run of a start by hand."""
    begun = scheduler.start(of, trigger="manual", by="anna", now=timezone.now(), **wishes)
    assert begun.run is not None, begun.reason
    return begun.run


def text(run: Run) -> str:
    """Return what the run has written."""
    return output.read(run.folder, 0).data.decode()


def soon(**fields: Any) -> Job:
    """Return a job stored now."""
    return job(now=timezone.now(), **fields)


def belongs_to(process: psutil.Process, run: Run) -> bool:
    """Return whether a process bears the run's mark."""
    try:
        return process.environ().get("BACH_RUN_ID") == str(run.pk)
    except psutil.Error:
        return False

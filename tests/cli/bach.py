"""`bach` in a process of its own, with data of its own, as a person calls it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "daemon_app.cli")


class Bach:
    """One data folder and the commands that work on it."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self.environment = {
            **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
            "BACH_DATA_DIR": str(data),
            "BACH_TIME_ZONE": "Europe/Berlin",
            # What is open at the end of a process is closed by its end.
            "PYTHONWARNINGS": "error,ignore::ResourceWarning",
            **environment,
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `bach …` to its end; nothing it may say is a traceback."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **environment},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    @contextmanager
    def open(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start `bach …`, with pipes to talk to it; it is killed if it outlives the block."""
        with subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As in a terminal: Ctrl+C goes to this command and what it started, not to the tests.
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def python(self, code: str) -> str:
        """Run Python with Django set up on the same data; return what it printed."""
        prelude = "import django; django.setup()\n"
        done = subprocess.run(
            [sys.executable, "-c", prelude + code],
            env={**self.environment, "DJANGO_SETTINGS_MODULE": "bachweb.settings"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def add_jobs(self, **commands: str) -> None:
        """Store jobs that are started by hand: name → command."""
        self.python(
            "from django.utils import timezone\n"
            "from daemon_app.models import Job\n"
            f"for name, command in {commands!r}.items():\n"
            "    job = Job(name=name, job_type='manual', command=command)\n"
            "    job.store(now=timezone.now(), by='anna')\n"
        )

    def migrate(self) -> None:
        """Set up the database, as the first start does."""
        self.python("from daemon_app.cli import up; up.prepare()")


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines a process writes, as they come."""
    assert process.stdout
    for line in process.stdout:
        yield line.rstrip("\n")

"""How long commands take, beside an empty start of Django, in one run: `python bench/cli.py`.

Ratios, for the figures of a busy machine differ from minute to minute: each round starts every
command once, and of each the least CPU time counts.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
BARE = "from django.conf import settings; settings.configure(); import django; django.setup()"
OURS = "import django; django.setup()"
BASE, BASE_OF_OURS = "Django, empty", "Django, with these settings"
GOAL = "≤ 2x"
COMMANDS = {
    "bach --version": ["--version"],
    "bach --help": ["--help"],
    "bach daemon jobs": ["daemon", "jobs"],
    "bach daemon jobs --json": ["daemon", "jobs", "--json"],
    "bach daemon status": ["daemon", "status"],
    "bach daemon queue": ["daemon", "queue"],
    "bach daemon logs": ["daemon", "logs"],
    "bach daemon why 1": ["daemon", "why", "1"],
    "bach daemon run 1": ["daemon", "run", "1"],
}
# What no table of five jobs says.
MANY = ("bach daemon jobs", "bach daemon jobs --json", "bach daemon status")


def main() -> None:
    """Print a line for each command: name, tab, CPU time and its ratio to an empty Django."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--jobs", type=int, default=10_000)
    options = asked.parse_args()
    with data(5) as environment:
        program = [sys.executable, "-m", "daemon_app.cli"]
        asking = {
            **environment,
            "_BACH_COMPLETE": "zsh_complete",
            "COMP_WORDS": "bach\ndaemon\nrun\njob",
            "COMP_CWORD": "3",
        }
        starts = {
            BASE: ([sys.executable, "-c", BARE], environment),
            BASE_OF_OURS: ([sys.executable, "-c", OURS], environment),
            **{name: ([*program, *words], environment) for name, words in COMMANDS.items()},
            "a job's name completed": (program, asking),
        }
        least = {name: float("inf") for name in starts}
        for _round in range(options.rounds):
            for name, (command, variables) in starts.items():
                least[name] = min(least[name], cpu_seconds(command, variables))
    for name, seconds in least.items():
        ratio = f"{seconds / least[BASE]:.2f}x, {seconds / least[BASE_OF_OURS]:.2f}x with settings"
        print(f"{name}\t{1000 * seconds:.0f} ms CPU ({ratio})")
    with data(options.jobs) as environment:
        for name in MANY:
            command = [*program, *COMMANDS[name]]
            seconds = min(cpu_seconds(command, environment) for _round in range(2))
            print(f"{name}, {options.jobs} jobs\t{1000 * seconds:.0f} ms CPU")


def cpu_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    """Return the CPU time of a process from its start to its end."""
    with Path(os.devnull).open("wb") as nowhere:
        quiet = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), number) for number in (1, 2)]
        pid = os.posix_spawn(command[0], command, environment, file_actions=quiet)
        _pid, _status, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime


@contextmanager
def data(count: int) -> Iterator[dict[str, str]]:
    """Give the environment of an installation with so many jobs, each with three runs."""
    folder = tempfile.mkdtemp(prefix="bench-cli-")
    environment = {
        "HOME": folder,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "BACH_DATA_DIR": f"{folder}/data",
        "DJANGO_SETTINGS_MODULE": "bachweb.settings",
    }
    try:
        # In a process of its own: two installations don't fit into one.
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ.update(environment)
                fill(count)
                code = 0
            finally:
                os._exit(code)
        _pid, status = os.waitpid(pid, 0)
        assert status == 0
        yield environment
    finally:
        shutil.rmtree(folder)


def fill(count: int) -> None:
    """Make the database, the jobs and their runs."""
    sys.path.insert(0, str(ROOT))
    import django

    django.setup()
    from django.utils import timezone

    from daemon_app.cli import up
    from daemon_app.models import Job, Run

    up.prepare()
    now = timezone.now()
    plans = [
        ("cron", "0 3 * * *"),
        ("interval", "30m"),
        ("cron", "*/15 8-18 * * MON-FRI"),
        ("manual", ""),
    ]
    jobs = [
        Job(
            name=f"job-{number:05}",
            job_type=plans[number % len(plans)][0],
            schedule=plans[number % len(plans)][1],
            command="true",
            anchor=now,
            created_at=now,
            updated_at=now,
            next_due_at=now + timedelta(minutes=number),
        )
        for number in range(count)
    ]
    made = Job.objects.bulk_create(jobs, batch_size=500)
    runs = []
    for number, job in enumerate(made):
        for days in (3, 2, 1):
            at = now - timedelta(days=days, minutes=number % 1000)
            state = Run.State.FAILED if (number + days) % 7 == 0 else Run.State.SUCCEEDED
            times = {"due_at": at, "queued_at": at, "not_before": at, "started_at": at}
            ended = at + timedelta(seconds=5)
            runs.append(Run(job=job, job_name=job.name, state=state, ended_at=ended, **times))
    Run.objects.bulk_create(runs, batch_size=500)


if __name__ == "__main__":
    main()

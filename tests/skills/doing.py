"""Skills for tests: run here, or as the process that a run is."""

import subprocess
import threading
from typing import Any

from django.utils import timezone

from daemon_app import skills
from daemon_app.models import Policy
from daemon_app.skills import SKILLS, Context, Result


def context(name: str, *, stop: threading.Event | None = None, **rules: Any) -> Context:
    """Return what the skill `name` is given, with these rules in force."""
    policy = Policy.current()
    for rule, value in rules.items():
        setattr(policy, rule, value)
    return Context(
        name,
        now=timezone.now(),
        policy=policy,
        stop_event=stop or threading.Event(),
        journal=lambda *_line: True,
    )


def done(name: str, **rules: Any) -> Result:
    """Run a skill in this process."""
    return SKILLS[name]().run(context(name, **rules))


def process(name: str, *, folder: str = "/", **env: str) -> "subprocess.Popen[str]":
    """Start a skill as a run does."""
    return subprocess.Popen(
        skills.command_line(name),
        env={**skills.environment(), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **env},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

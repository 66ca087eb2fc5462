"""All that the package shows, and the skills that come with the program."""

from daemon_app.skills.health_check import after_tick
from daemon_app.skills.jobs import due, install, overview
from daemon_app.skills.plugins import load
from daemon_app.skills.process import command_line, environment
from daemon_app.skills.skill import (
    SKILLS,
    Context,
    Due,
    Failure,
    Result,
    Situation,
    Skill,
    Stopped,
    registered,
)

# One line each; their order is the order in which they are told.
# isort: off
from daemon_app.skills import health_check  # noqa: F401
from daemon_app.skills import validate_configs  # noqa: F401
from daemon_app.skills import cleanup_vram  # noqa: F401
# isort: on

__all__ = [
    "SKILLS",
    "Context",
    "Due",
    "Failure",
    "Result",
    "Situation",
    "Skill",
    "Stopped",
    "after_tick",
    "command_line",
    "due",
    "environment",
    "install",
    "load",
    "overview",
    "registered",
]

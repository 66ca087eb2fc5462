"""Actions of the daemon's own: a skill is one file here and one line in `catalogue.py`.

A skill has a job like any command, and its run is a process like any other: with output, a time
limit, a stop button and a history. Only what is part of each tick has neither (docs/skills.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daemon_app.skills.catalogue import (
        SKILLS,
        Context,
        Due,
        Failure,
        Result,
        Situation,
        Skill,
        Stopped,
        after_tick,
        command_line,
        due,
        environment,
        install,
        load,
        overview,
        registered,
    )

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


def __getattr__(name: str) -> Any:
    """Return what `catalogue` has: it needs Django, which `python -m daemon_app.skills` sets up."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("daemon_app.skills.catalogue"), name)

"""What the health tick looks at: services, VRAM, disk, people.

A check is one file here and one line below. It is called in a thread of its own at each tick, with
a `Context`, and returns a `Reading`; beyond its `seconds` nobody waits for it. It touches neither
the database nor anything that others change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings

from daemon_app.models import Policy
from daemon_app.readings import Reading
from daemon_app.registry import Registry


@dataclass(frozen=True)
class Context:
    """What a check is given.

    `filling` is by how many bytes a second the disk fills up, None while there is no clear trend.
    """

    now: datetime
    policy: Policy
    runtime: Path
    filling: float | None = None

    @property
    def gpu_service_url(self) -> str:
        """The address of the GPU service, without a slash at its end."""
        return (self.policy.gpu_service_url or settings.GPU_SERVICE_URL).rstrip("/")

    @property
    def ollama_url(self) -> str:
        """The address of Ollama, without a slash at its end."""
        return (self.policy.ollama_url or settings.OLLAMA_URL).rstrip("/")

    @property
    def exports(self) -> Path:
        """The folder whose disk is looked at."""
        return Path(settings.EXPORTS_DIR)


Look = Callable[[Context], Reading]


@dataclass(frozen=True)
class Check:
    """Something to look at, and for how many seconds a tick waits for it."""

    name: str
    look: Look
    seconds: float


CHECKS: Registry[Check] = Registry("check")


def check(name: str, *, seconds: float) -> Callable[[Look], Look]:
    """Return a decorator that registers a function as the check `name`."""

    def file(look: Look) -> Look:
        CHECKS.register(name)(Check(name, look, seconds))
        return look

    return file


# One line each; their order is the order in which they are shown.
# isort: off
from daemon_app.checks import gpu_service  # noqa: E402, F401
from daemon_app.checks import ollama  # noqa: E402, F401
from daemon_app.checks import vram  # noqa: E402, F401
from daemon_app.checks import disk  # noqa: E402, F401
from daemon_app.checks import active_users  # noqa: E402, F401

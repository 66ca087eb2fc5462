"""Skills that other distributions bring, by the entry point group `bach.skills`.

Code comes in by installing it, never by lying in a folder: who may write into the data folder must
not thereby be able to run what they like.
"""

import logging
from dataclasses import dataclass
from importlib import metadata

from daemon_app.skills.skill import SKILLS, Skill, registered

log = logging.getLogger(__name__)

GROUP = "bach.skills"


@dataclass(frozen=True, slots=True)
class Broken:
    """A plug-in that could not be loaded: its name, where its code is said to be, and why."""

    name: str
    source: str
    error: str


_loaded: dict[str, str] = {}  # entry point → the skill it brought
_broken: dict[str, Broken] = {}


def load() -> list[Broken]:
    """Load what is installed and not loaded yet; return all that could not be.

    A plug-in that can't be loaded is told once in the log, and hinders no other.
    """
    for point in metadata.entry_points(group=GROUP):
        known = f"{point.name} = {point.value}"
        if known in _loaded or known in _broken:
            continue
        try:
            _loaded[known] = _skill(point).name
        # A plug-in may do anything at all while it is imported, `sys.exit` included.
        except (Exception, SystemExit) as error:
            _broken[known] = Broken(point.name, point.value, f"{type(error).__name__}: {error}")
            log.exception("the skill %r (%s) could not be loaded", point.name, point.value)
    return list(_broken.values())


def unload() -> None:
    """Forget all plug-ins; for tests."""
    for name in _loaded.values():
        SKILLS.pop(name, None)
    _loaded.clear()
    _broken.clear()


def _skill(point: metadata.EntryPoint) -> type[Skill]:
    found = point.load()
    if not (isinstance(found, type) and issubclass(found, Skill)):
        raise TypeError(f"{point.value} is no subclass of daemon_app.skills.Skill")
    if getattr(found, "name", None) != point.name:
        raise ValueError(f"its name {getattr(found, 'name', None)!r} is not the entry point's")
    if not getattr(found, "title", ""):
        raise ValueError("it has no title")
    return registered(found)

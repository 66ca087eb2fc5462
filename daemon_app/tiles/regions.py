"""What a live region is: for whom it is rendered, which topics concern it, and its HTML."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.template.loader import render_to_string
from django.utils import translation
from django.utils.html import format_html

from daemon_app.models.access import RIGHTS, Role
from daemon_app.registry import Registry


@dataclass(frozen=True)
class Viewer:
    """Who looks: all a region may know of them."""

    role: str
    language: str
    user_id: int | None = None
    username: str = ""

    def may(self, right: str) -> bool:
        """Return whether somebody of this role has `right`."""
        return self.role in RIGHTS[right]

    @property
    def role_label(self) -> str:
        return str(Role(self.role).label)

    @property
    def may_operate(self) -> bool:
        return self.may("operate")

    @property
    def may_edit(self) -> bool:
        return self.may("edit")

    @property
    def may_manage(self) -> bool:
        return self.may("manage")


Context = dict[str, Any]
Build = Callable[[Viewer, str | None, datetime], Context | None]


@dataclass(frozen=True)
class Region:
    """A part of a page: which topics concern it and how its facts are gathered."""

    topics: frozenset[str]
    build: Build


REGIONS: Registry[Region] = Registry("region")


def region(name: str, topics: Iterable[str]) -> Callable[[Build], Build]:
    """Register a function as the region `name`; "{arg}" in a topic stands for its argument."""

    def file(build: Build) -> Build:
        REGIONS.register(name)(Region(frozenset(topics), build))
        return build

    return file


def topics(name: str, arg: str | None) -> frozenset[str]:
    """Return the topics that concern a region; none for a region that does not exist."""
    if name not in REGIONS:
        return frozenset()
    return frozenset(topic.replace("{arg}", arg or "") for topic in REGIONS[name].topics)


def render(name: str, arg: str | None, viewer: Viewer, now: datetime) -> str | None:
    """Return the HTML of a region, one element; None when it does not exist (any more)."""
    if name not in REGIONS or not viewer.may("view"):
        return None
    with translation.override(viewer.language):
        context = REGIONS[name].build(viewer, arg, now)
        if context is None:
            return None
        key, ident = (name, name) if arg is None else (f"{name}:{arg}", f"{name}-{arg}")
        attributes = format_html('id="{}" data-region="{}"', ident, key)
        return render_to_string(
            f"daemon/regions/{name}.html",
            {**context, "viewer": viewer, "now": now, "region": attributes, "arg": arg},
        ).strip()


def current_language() -> str:
    """Return "de" or "en", whichever is active."""
    return "en" if (translation.get_language() or "de").startswith("en") else "de"


def number_in(text: str | None) -> int | None:
    """Return a positive whole number that fits a primary key; None for anything else."""
    if text and text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0:
        return int(text)
    return None

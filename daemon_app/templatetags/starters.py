"""The jobs that are offered where there are none yet."""

from collections.abc import Sequence

from django import template

from daemon_app import starters
from daemon_app.starters import Starter

register = template.Library()


@register.simple_tag
def first_starters() -> Sequence[Starter]:
    """Return the three jobs of the first minute."""
    return starters.FIRST

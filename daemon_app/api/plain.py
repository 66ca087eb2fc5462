"""Answers that are plain text, whatever the request accepts; what goes wrong is told in JSON."""

from collections.abc import Iterable

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class PlainText(BaseContentNegotiation):
    """Takes any Accept header."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the one there is."""
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        """Return the one there is, for errors."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)

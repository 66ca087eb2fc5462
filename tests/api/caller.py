"""Somebody who calls the interface."""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.test import Client

HOST = f"localhost:{settings.PORT}"
ORIGIN = f"http://{HOST}"


class Caller:
    """A client that speaks JSON under our own name and keeps its headers."""

    def __init__(self, **headers: str) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.headers = {"Host": HOST, **headers}

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """Send `body`, as JSON unless it is text already; without a body no type either."""
        wanted = {**self.headers, **headers}
        if body is not None:
            wanted = {"Content-Type": "application/json", **wanted}
        if content_type is not None:
            wanted["Content-Type"] = content_type
        data = body if isinstance(body, str | bytes) else json.dumps(body)
        return self.client.generic(
            method,
            f"/api/daemon/{path}",
            b"" if body is None else data,
            content_type=wanted.get("Content-Type", ""),
            headers=wanted,
        )


# What makes a caller of a role.
Maker = Callable[..., Caller]

"""How much one token or person may ask: a program that runs wild must not keep others waiting.

Each has so many reads and so many changes a minute. They may come at once, and come back evenly.
Counted in this process: there is one web server, and a restart forgives. Answers say what is left
(RateLimit and RateLimit-Policy, draft-ietf-httpapi-ratelimit-headers-10).
"""

import time
from dataclasses import dataclass
from math import ceil
from threading import Lock
from typing import ClassVar

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

MINUTE = 60.0  # seconds


@dataclass
class _Bucket:
    """What is left to somebody, as it was at `at` (monotonic seconds)."""

    left: float
    at: float


class Limit(BaseThrottle):
    """Lets each token or account through so many times a minute; strangers count as one."""

    name = ""
    buckets: ClassVar[dict[tuple[str, str, int], _Bucket]] = {}
    lock: ClassVar[Lock] = Lock()

    def __init__(self) -> None:
        self.missing = 0.0

    def counts(self, request: Request) -> bool:
        """Return whether this limit is for such requests."""
        raise NotImplementedError

    def limit(self) -> int:
        """Return how many there may be in a minute; 0: any number."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether the request may go on, and count it."""
        limit = self.limit()
        if not limit or not self.counts(request):
            return True
        who = request.auth or request.user
        now = time.monotonic()
        with self.lock:
            key = (self.name, type(who).__name__, who.pk or 0)
            bucket = self.buckets.setdefault(key, _Bucket(limit, now))
            back = (now - bucket.at) * limit / MINUTE
            bucket.left, bucket.at = min(limit, bucket.left + back), now
            self.missing = max(0.0, 1 - bucket.left) * MINUTE / limit
            if not self.missing:
                bucket.left -= 1
            left = bucket.left
        # Told with every answer, so that a program need not be turned away to learn of it.
        request.allowance = {  # type: ignore[attr-defined] # looked at by Endpoint
            "RateLimit-Policy": f'"{self.name}";q={limit};w={MINUTE:.0f}',
            "RateLimit": f'"{self.name}";r={int(left)};t={ceil((limit - left) * MINUTE / limit)}',
        }
        return not self.missing

    def wait(self) -> float:
        """Return after how many seconds to try again, a whole one at least."""
        return max(1, ceil(self.missing))


class Writes(Limit):
    """The bound of what changes something: it must not fill the database."""

    name = "changes"

    def counts(self, request: Request) -> bool:
        return request.method not in SAFE_METHODS

    def limit(self) -> int:
        return int(settings.API_WRITES_PER_MINUTE)


class Reads(Limit):
    """The bound of looking, a generous one."""

    name = "reads"

    def counts(self, request: Request) -> bool:
        return request.method in SAFE_METHODS

    def limit(self) -> int:
        return int(settings.API_READS_PER_MINUTE)

"""How much one token or person may change: a program that runs wild must not fill the database."""

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


class Writes(BaseThrottle):
    """Lets each token or account change `API_WRITES_PER_MINUTE` things a minute; 0: no limit.

    A minute's worth may come at once; it then comes back evenly. Counted in this process: there is
    one web server, and a restart forgives.
    """

    buckets: ClassVar[dict[tuple[str, int], _Bucket]] = {}
    lock: ClassVar[Lock] = Lock()

    def __init__(self) -> None:
        self.missing = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether the request may go on, and count it."""
        limit: int = settings.API_WRITES_PER_MINUTE
        who = request.auth or request.user
        if not limit or request.method in SAFE_METHODS or who.pk is None:
            return True
        now = time.monotonic()
        with self.lock:
            bucket = self.buckets.setdefault((type(who).__name__, who.pk), _Bucket(limit, now))
            back = (now - bucket.at) * limit / MINUTE
            bucket.left, bucket.at = min(limit, bucket.left + back), now
            self.missing = max(0.0, 1 - bucket.left) * MINUTE / limit
            if self.missing:
                return False
            bucket.left -= 1
        return True

    def wait(self) -> float:
        """Return after how many seconds to try again, a whole one at least."""
        return max(1, ceil(self.missing))

"""Measure what noting a person costs a request: `python bench/presence.py`.

The middleware alone, with a real folder of marks and a real bell; microseconds of 20,000 requests.
What the whole request costs is `bench/displacement.py --only cost`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

FOLDER = tempfile.TemporaryDirectory(prefix="bach-")
os.environ |= {"BACH_DATA_DIR": FOLDER.name, "DJANGO_SETTINGS_MODULE": "bachweb.settings"}
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402

from daemon_app import doorbell, middleware  # noqa: E402

ROUNDS = 20_000
ANNA = SimpleNamespace(is_authenticated=True, get_username=lambda: "anna")


def main() -> None:
    """Measure and print the table."""
    runtime = doorbell.runtime_dir(settings.DATA_DIR)
    factory = RequestFactory()

    def person() -> HttpRequest:
        request = factory.get("/daemon/")
        request.COOKIES[settings.SESSION_COOKIE_NAME] = "x"
        request.user = ANNA  # type: ignore[assignment]
        request.session = SimpleNamespace(session_key="k" * 32)  # type: ignore[assignment]
        return request

    print("microseconds; p50 / p95 / p99")
    measure("a program with a token", lambda: factory.get("/", headers={"Authorization": "x"}))
    measure("a person, while no daemon runs", person)
    with doorbell.Bell(runtime, "presence") as bell:
        measure("a person, the bell rung twice a second", person)

        def ringing() -> HttpRequest:
            bell.drain()
            middleware.notebook._rung_at = float("-inf")  # noqa: SLF001 - as after a pause
            return person()

        measure("a person, the bell rung each time", ringing)
    FOLDER.cleanup()


def measure(name: str, request: Callable[[], HttpRequest]) -> None:
    """Print what the middleware adds to such requests."""
    answer = middleware.Presence(lambda _request: HttpResponse())
    times = []
    for _round in range(ROUNDS):
        asked = request()
        begun = time.perf_counter()
        answer(asked)
        times.append((time.perf_counter() - begun) * 1_000_000)
    times.sort()
    told = " / ".join(f"{times[ROUNDS * percent // 100]:.1f}" for percent in (50, 95, 99))
    print(f"{name:<42} {told}")


if __name__ == "__main__":
    main()

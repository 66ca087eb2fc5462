"""Whether the GPU service answers, and how fast."""

from typing import Final

from daemon_app import fetch
from daemon_app.checks import Context, check, service
from daemon_app.fetch import Kind
from daemon_app.readings import Reading

SECONDS: Final = 5.0


@check("gpu_service", seconds=SECONDS + 1)
def gpu_service(context: Context) -> Reading:
    """Ask for its health; the value is the time to the answer in milliseconds."""
    url = context.gpu_service_url
    answer = fetch.get(f"{url}/api/health", seconds=SECONDS)
    if answer.kind is Kind.OK:
        if not isinstance(answer.json, dict):
            return service.odd("gpu_service", url, answer)
        if str(answer.json.get("status", "")).lower() in service.ILL:
            return service.odd("gpu_service", url, answer, "service_ill")
    slow_ms = context.policy.slow_ms
    return service.reading("gpu_service", url, answer, seconds=SECONDS, slow_ms=slow_ms)

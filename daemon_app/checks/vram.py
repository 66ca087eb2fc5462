"""How much GPU memory is used, and by which models: as the GPU service says, else as NVML says."""

import logging
import threading
from typing import Any, Final

from daemon_app import fetch, gpu
from daemon_app.checks import Context, check, service
from daemon_app.fetch import Answer, Kind
from daemon_app.readings import Reading, State

log = logging.getLogger(__name__)

SECONDS: Final = 5.0
FOR_NVML: Final = 3.0


@check("vram", seconds=SECONDS + FOR_NVML + 1)
def vram(context: Context) -> Reading:
    """Measure; the value is the used share in per cent.

    Facts: used_mb, free_mb, total_mb, source "service" or "nvml", devices (of NVML: name, free_mb,
    total_mb), models (of the service: backend, model, vram_mb, in_use, last_used, priority; None
    when it does not tell which are loaded), evicting.
    """
    high = context.policy.vram_high_percent
    answer = fetch.get(f"{context.gpu_service_url}/api/health/vram", seconds=SECONDS)
    if answer.kind is Kind.OK:
        try:
            return _reading(_by_service(answer.json), high, answer.seconds)
        except service.OddError:
            pass
    try:
        return _reading(_by_nvml(), high, answer.seconds)
    except gpu.NoMemoryError as trouble:
        return _unknown(trouble, answer, context.gpu_service_url)


def _by_service(json: Any) -> dict[str, Any]:
    """Return the facts that the GPU service tells; raises OddError."""
    told = service.table(json)
    free, total = service.amount(told.get("free_mb")), service.amount(told.get("total_mb"))
    if free > total or not total:
        raise service.OddError("more free than there is")
    return {
        **_amounts(free, total),
        "source": "service",
        "devices": [],
        "models": _models(told["loaded_models"]) if "loaded_models" in told else None,
        "evicting": told.get("eviction_in_progress") is True,
    }


def _models(listed: Any) -> list[dict[str, Any]]:
    return [
        {
            "backend": service.name_in(row, "backend"),
            "model": service.name_in(row, "model"),
            "vram_mb": round(service.amount(row.get("vram_mb"))),
            # How many calls use it; some say only whether any does.
            "in_use": _uses(row.get("in_use")),
            "last_used": service.plain(row.get("last_used")),
            "priority": service.plain(row.get("priority")),
        }
        for row in service.rows(listed)
    ]


def _uses(value: Any) -> int:
    return int(value) if isinstance(value, bool) else int(service.amount(value))


class Aside:
    """Asks NVML in a thread: in a driver that hangs a call may never come back.

    Then nobody asks again before it has, but the GPU service is still heard.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._found: list[gpu.Memory] | gpu.NoMemoryError = []

    def ask(self, seconds: float) -> list[gpu.Memory]:
        """Return the memory of each GPU; raises gpu.NoMemoryError, also when it takes too long."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
            self._thread.start()
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise gpu.NoMemoryError("failed", f"no answer within {seconds:g} s")
        if isinstance(self._found, gpu.NoMemoryError):
            raise self._found
        return self._found

    def _run(self) -> None:
        try:
            self._found = gpu.memories()
        except gpu.NoMemoryError as trouble:
            self._found = trouble
        except Exception as error:
            log.exception("NVML could not be asked")
            self._found = gpu.NoMemoryError("failed", str(error))


_nvml = Aside()


def _by_nvml() -> dict[str, Any]:
    """Return the facts that NVML tells; raises gpu.NoMemoryError."""
    memories = _nvml.ask(FOR_NVML)
    free = sum(each.free_mb for each in memories)
    total = sum(each.total_mb for each in memories)
    if not 0 <= free <= total or not total:
        raise gpu.NoMemoryError("failed", f"{free:.0f} of {total:.0f} MB free")
    devices = [
        {"name": each.name, "free_mb": round(each.free_mb), "total_mb": round(each.total_mb)}
        for each in memories
    ]
    return {**_amounts(free, total), "source": "nvml", "devices": devices, "models": []}


def _amounts(free: float, total: float) -> dict[str, Any]:
    used = total - free
    return {
        "used_mb": round(used),
        "free_mb": round(free),
        "total_mb": round(total),
        "percent": round(100 * used / total, 1),
    }


def _reading(facts: dict[str, Any], high: int, seconds: float) -> Reading:
    percent = facts["percent"]
    if percent > high:
        facts["limit"] = high
        return Reading("vram", State.HIGH, percent, "vram_high", facts, seconds=seconds)
    return Reading("vram", State.OK, percent, "vram_ok", facts, seconds=seconds)


def _unknown(trouble: gpu.NoMemoryError, answer: Answer, url: str) -> Reading:
    """Say why nobody knows: what the service did, unless the GPU itself has more to tell."""
    facts = {"url": service.shown(url), "seconds": SECONDS, "status": answer.status}
    if trouble.code == "asleep":
        code, said = "vram_asleep", ""
    elif trouble.code == "failed":
        code, said = "vram_failed", str(trouble)
    elif answer.kind is Kind.DOWN:
        code, said = "vram_none", answer.said
    else:
        code, said = service.why_not(answer), answer.said
    return Reading("vram", State.UNKNOWN, None, code, facts, said, answer.seconds)

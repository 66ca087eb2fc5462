"""Models at work: a model of the GPU service in use, or a call to Ollama.

What both told the health tick is read here. Ollama has no address that tells of running calls. But
it moves a loaded model's `expires_at` at the end of each call, tells another one with each look
while a model loads for its first call, and keeps one that is past while a long call goes on. So a
model that is new, has another `expires_at` than before, or one that is past, was called.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from daemon_app.readings import Reading, State
from daemon_app.signs import SIGNS, Scene, Sign

GPU_SERVICE, OLLAMA, VRAM = "gpu_service", "ollama", "vram"
UNLOADING = timedelta(seconds=15)  # that a model may be listed after its time without a call


@SIGNS.register("models")
class Models:
    """Models that are in use, and not by a run of ours."""

    is_person: ClassVar[bool] = False
    quick: ClassVar[bool] = False
    often: ClassVar[float | None] = None

    def __init__(self) -> None:
        self._expiries: dict[str, str] | None = None  # of Ollama's models, at the last look
        self._looked_at: object = None  # the readings of that look

    def look(self, scene: Scene) -> Sign:
        """Return whether a model works for somebody; unknown when a service does not say.

        While a run of ours that needs a service runs, that service's models work for us.
        """
        readings = scene.readings
        if readings is None:
            return Sign("models", None, "sign_no_reading")
        unknown = None
        for service, seen in (
            (GPU_SERVICE, self._gpu_service(readings)),
            (OLLAMA, self._ollama(readings, scene.now)),
        ):
            if service in scene.our_services:
                continue
            if isinstance(seen, str):
                return Sign("models", True, f"sign_{service}", {"model": seen})
            if seen is None:
                unknown = Sign("models", None, f"sign_{service}_unknown")
        return unknown or Sign("models", False)

    def _gpu_service(self, readings: Mapping[str, Reading]) -> str | bool | None:
        """Return a model in use, False for none, None when nobody knows."""
        service, vram = readings.get(GPU_SERVICE), readings.get(VRAM)
        if service is None or service.state == State.DOWN:
            return False
        if vram is None or vram.facts.get("source") != "service":
            return None
        if vram.facts.get("models") is None:  # it tells numbers alone
            return None
        for model in _models(vram):
            if model.get("in_use"):
                return str(model.get("model") or "?")[:100]
        return False

    def _ollama(self, readings: Mapping[str, Reading], now: datetime) -> str | bool | None:
        ollama = readings.get(OLLAMA)
        if ollama is None or ollama.state == State.DOWN:
            self._expiries = {}
            return False
        if ollama.state == State.UNKNOWN or ollama.facts.get("models") is None:
            return None
        before, is_new = self._expiries, readings is not self._looked_at
        found = {
            str(model.get("model") or "?"): str(model.get("expires_at") or "")
            for model in _models(ollama)
        }
        self._expiries, self._looked_at = found, readings
        for name, expires_at in found.items():
            expired = _instant(expires_at)
            if expired is not None and expired + UNLOADING < now:
                return name[:100]
            if is_new and before is not None and before.get(name) != expires_at:
                return name[:100]
        return False


def _models(reading: Reading) -> Iterator[Mapping[str, Any]]:
    models = reading.facts.get("models")
    for model in models if isinstance(models, list | tuple) else ():
        if isinstance(model, Mapping):
            yield model


def _instant(text: str) -> datetime | None:
    """Return Ollama's time, which has nanoseconds; None for what is none."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)

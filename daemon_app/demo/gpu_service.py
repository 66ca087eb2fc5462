"""A GPU service that only keeps books: models, their VRAM, and who uses them.

The shapes are those of a service with one coordinator for the VRAM of several backends (diffusers,
text, …): `in_use` counts generations, `last_used` is in seconds since 1970, `priority` is a name.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from daemon_app.demo.double import ConflictError, Double, UnknownModelError, WishError
from daemon_app.demo.modes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BACKENDS: Final = ("diffusers", "text", "heartmula")
PRIORITIES: Final = ("LOW", "NORMAL", "HIGH", "CRITICAL")
VERSION: Final = "demo"
GENERATION: Final = 5.0  # seconds


@dataclass
class _Model:
    backend: str
    name: str
    vram_mb: float
    priority: str
    in_use: int
    last_used: float

    def as_json(self) -> dict[str, Any]:
        return {
            "backend": self.backend,
            "model": self.name,
            "vram_mb": self.vram_mb,
            # As the real one has it: what is in use is hard to evict, whatever it is.
            "priority": "HIGH" if self.in_use else self.priority,
            "in_use": self.in_use,
            "last_used": self.last_used,
        }


class GpuService(Double):
    """The GPU service of the seed, without a GPU.

    `GET /api/health`, `GET /api/health/vram`, `POST /api/<backend>/unload` with `model_id` (the
    real one's name for it) or `model`, and `POST /api/<backend>/generate`, which keeps a model in
    use for some `seconds`. The real one may unload what is in use; this one refuses with 409, so
    that nobody's generation is lost to a mistake of ours unseen.
    """

    default_port: ClassVar[int] = 17803
    setting: ClassVar[str] = "GPU_SERVICE_URL"

    def __init__(self, port: int = 0, *, total_mb: float = 24_576.0) -> None:
        super().__init__(port)
        self.total_mb = total_mb
        self._models: dict[str, _Model] = {}

    # ── Steering ─────────────────────────────────────────────────────────────────────────────────
    def load(  # noqa: PLR0913 - what is to be known of a model
        self,
        model: str,
        *,
        vram_mb: float = 6000.0,
        backend: str = "diffusers",
        in_use: int = 0,
        last_used: float | None = None,
        unused: float = 0.0,
        priority: str = "NORMAL",
    ) -> None:
        """Have a model in VRAM, last used at `last_used`, or `unused` seconds ago."""
        if priority not in PRIORITIES:
            raise WishError(f"unknown priority {priority!r}; known: {', '.join(PRIORITIES)}")
        if not _is_name(backend) or not model:
            raise WishError("a model and a backend have names")
        if vram_mb < 0 or in_use < 0 or unused < 0:
            raise WishError("vram_mb, in_use and unused are numbers from 0")
        at = time.time() - unused if last_used is None else last_used
        with self._lock:
            others = sum(each.vram_mb for each in self._models.values() if each.name != model)
            if others + vram_mb > self.total_mb:
                raise ConflictError(
                    f"{vram_mb:g} MB do not fit into {self.total_mb - others:g} MB", "no_vram"
                )
            self._models[model] = _Model(backend, model, vram_mb, priority, in_use, at)

    def unload(self, model: str) -> None:
        """Take a model out of VRAM, even one in use."""
        with self._lock:
            del self._models[self._known(model).name]

    def use(self, model: str, *, seconds: float = 0.0) -> None:
        """Begin a generation with a model; it ends after `seconds`, or with `release`."""
        with self._lock:
            self._known(model).in_use += 1
            self._known(model).last_used = time.time()
        if seconds:
            self.after(seconds, lambda: self._end_use(model))

    def release(self, model: str) -> None:
        """End a generation with a model."""
        with self._lock:
            found = self._known(model)
            if not found.in_use:
                raise ConflictError(f"{model!r} is not in use", "not_in_use")
            found.in_use -= 1
            found.last_used = time.time()

    def actions(self) -> dict[str, Callable[..., None]]:
        """Return what it can be told to do."""
        return {
            "load": self.load,
            "unload": self.unload,
            "use": self.use,
            "release": self.release,
        }

    def forget(self) -> None:
        """Lose every model: who is stopped has nothing in VRAM."""
        with self._lock:
            self._models.clear()

    def state(self) -> dict[str, Any]:
        """Return what `/api/health/vram` says, and more."""
        with self._lock:
            return {**super().state(), **self._vram()}

    # ── Answering ────────────────────────────────────────────────────────────────────────────────
    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Return what the real service would say."""
        if (method, path) == ("GET", "/api/health"):
            return Answer(200, self._health())
        if (method, path) == ("GET", "/api/health/vram"):
            return Answer(200, self._vram())
        match method, path.strip("/").split("/"):
            case "POST", ["api", backend, "unload"]:
                return Answer(200, self._unload(backend, body))
            case "POST", ["api", backend, "generate"]:
                return self._generate(backend, body)
        return Answer(404, {"error": "not found"})

    def _health(self) -> dict[str, Any]:
        with self._lock:
            vram = self._vram()
        used = (vram["total_mb"] - vram["free_mb"]) / 1024
        total = vram["total_mb"] / 1024
        return {
            "status": "ok",
            "version": VERSION,
            "gpu": {
                "gpu_name": "BACH demo GPU",
                "total_vram_gb": round(total, 2),
                "allocated_gb": round(used, 2),
                "reserved_gb": round(used, 2),
                "free_gb": round(total - used, 2),
            },
            "vram_coordinator": vram,
        }

    def _vram(self) -> dict[str, Any]:
        models = list(self._models.values())
        return {
            "free_mb": self.total_mb - sum(model.vram_mb for model in models),
            "total_mb": self.total_mb,
            "registered_backends": list(BACKENDS),
            "loaded_models": [model.as_json() for model in models],
            "eviction_in_progress": False,
        }

    def _unload(self, backend: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Unload the model that is named, or the one of the backend that is unused longest."""
        wanted = body.get("model_id") or body.get("model")
        with self._lock:
            here = [each for each in self._models.values() if each.backend == backend]
            if wanted:
                here = [each for each in here if each.name == wanted]
            if not here:
                what = f"model {wanted!r}" if wanted else "no model"
                raise UnknownModelError(f"{what} of backend {backend!r} not loaded")
            free = [each for each in here if not each.in_use]
            if not free:
                raise ConflictError(f"{wanted or here[0].name!r} is in use", "in_use")
            oldest = min(free, key=lambda each: each.last_used)
            del self._models[oldest.name]
            freed = {"freed_mb": oldest.vram_mb, "free_mb": self._vram()["free_mb"]}
        if self.told:
            self.told(f"unloaded {oldest.backend}/{oldest.name}: {oldest.vram_mb:g} MB")
        names = {"backend": oldest.backend, "model_id": oldest.name, "model": oldest.name}
        return {"success": True, **names, **freed}

    def _generate(self, backend: str, body: Mapping[str, Any]) -> Answer:
        """Use a model for some seconds, loading it first where need be."""
        name, seconds = body.get("model_id") or body.get("model"), body.get("seconds", GENERATION)
        if not isinstance(name, str) or not isinstance(seconds, int | float):
            raise WishError("a generation needs a model_id, and seconds as a number")
        with self._lock:
            if name not in self._models:
                self.load(name, backend=backend)
        with self._in_use(name):
            finished = self.pause(min(max(float(seconds), 0.0), 3600.0))
        return Answer(200, {"success": True}) if finished else Answer(503, {"success": False})

    @contextmanager
    def _in_use(self, model: str) -> Iterator[None]:
        self.use(model)
        try:
            yield
        finally:
            self._end_use(model)

    def _end_use(self, model: str) -> None:
        """End a generation, if nobody has ended it or taken the model away meanwhile."""
        with self._lock:
            if model in self._models and self._models[model].in_use:
                self.release(model)

    def _known(self, model: str) -> _Model:
        try:
            return self._models[model]
        except KeyError:
            loaded = ", ".join(self._models) or "none"
            raise UnknownModelError(f"{model!r} is not loaded; loaded: {loaded}") from None


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text.replace("_", "").replace("-", "").isalnum()

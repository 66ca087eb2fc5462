"""An Ollama that only keeps books: which models are loaded, until when, and who calls them.

**How a daemon sees that an LLM call is running.** Ollama does not say so: `/api/ps` has no mark for
a model in use. What it has is `expires_at`, and that is moved by Ollama's scheduler alone:

- It is set when a call *ends*: to that moment plus the model's keep-alive.
- While a call runs on a model that was loaded before, it keeps its old value. A call that takes
  longer than the keep-alive therefore shows a time that has passed.
- In the first call since a model was loaded it has no value yet; each look is then told "now plus
  keep-alive", so it moves with every look.
- Looking (`/api/ps`, `/api/tags`) moves nothing.

Compare two looks, then, model by model:

==========================================  =====================================================
a model that was not there                  a call is running or has just ended
another `expires_at` than before            the same: that was activity, just now
an `expires_at` that has passed             a call is running (or the model is being unloaded)
the same `expires_at`, in the future        no call has ended in between; one that began on a
                                            loaded model and still runs can't be seen here
==========================================  =====================================================

The last line is a blind spot. Who wants it closed looks at the process that serves the model (a
child of Ollama's, on this host): processor time since the last look, or use of the GPU by it.
A first look knows nothing of what was before it: unknown, which counts as busy.

This double keeps the same books, so it has the same blind spot; `GET /demo` tells the truth.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from daemon_app.demo.double import MIB, ConflictError, Double, UnknownModelError, WishError
from daemon_app.demo.modes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

KEEP_ALIVE: Final = 300.0  # seconds
FOR_EVER: Final = 292 * 365.25 * 86_400  # what Ollama makes of a negative keep-alive
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
TOKENS: Final = 20  # of an answer, where nothing else is asked for
TOKENS_PER_SECOND: Final = 20.0
VERSION: Final = "0.12.6"
# By name: parameters, family, and MB of VRAM
INSTALLED: Final = {
    "llama3.2:latest": ("3.2B", "llama", 3400.0),
    "qwen2.5:14b": ("14.8B", "qwen2", 10_800.0),
    "nomic-embed-text:latest": ("137M", "nomic-bert", 560.0),
}
UNUSUAL: Final = ("7B", "llama", 4000.0)


@dataclass
class _Runner:
    """A loaded model."""

    vram_mb: float
    keep_alive: float  # seconds
    calls: int = 0
    expires_at: float | None = None  # seconds since 1970; None in its first call


class Ollama(Double):
    """Ollama's HTTP interface, without a model.

    `GET /api/tags`, `/api/ps`, `/api/version`; `POST /api/generate` and `/api/chat`, which take
    `options.num_predict` / 20 seconds, and unload with `keep_alive: 0` and nothing to answer.
    """

    default_port: ClassVar[int] = 11434
    setting: ClassVar[str] = "OLLAMA_URL"

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self._installed = dict(INSTALLED)
        self._loaded: dict[str, _Runner] = {}

    # ── Steering ─────────────────────────────────────────────────────────────────────────────────
    def load(  # noqa: PLR0913 - what is to be known of a model
        self,
        model: str,
        *,
        vram_mb: float | None = None,
        keep_alive: float = KEEP_ALIVE,
        in_use: int = 0,
        last_used: float | None = None,
        unused: float = 0.0,
    ) -> None:
        """Have a model loaded whose last call ended at `last_used`, or `unused` seconds ago.

        With `in_use` it is in its first calls since it was loaded.
        """
        name = full_name(model)
        if in_use < 0 or unused < 0 or (vram_mb is not None and vram_mb < 0):
            raise WishError("vram_mb, in_use and unused are numbers from 0")
        with self._lock:
            size = (
                vram_mb if vram_mb is not None else self._installed.get(name, ("", "", 4000.0))[2]
            )
            self._installed.setdefault(name, ("7B", "llama", size))
            runner = self._loaded[name] = _Runner(size, keep_alive, in_use)
            if not in_use:
                at = time.time() - unused if last_used is None else last_used
                runner.expires_at = at + (keep_alive if keep_alive >= 0 else FOR_EVER)

    def unload(self, model: str) -> None:
        """Have a model loaded no more, whatever it does."""
        with self._lock:
            self._known(model)
            del self._loaded[full_name(model)]

    def use(self, model: str, *, seconds: float = 0.0) -> None:
        """Begin a call; it ends after `seconds`, or with `release`. Loads the model if need be."""
        with self._lock:
            self._begin(full_name(model), None)
        if seconds:
            self.after(seconds, lambda: self._end(full_name(model)))

    def release(self, model: str) -> None:
        """End a call."""
        with self._lock:
            if not self._known(model).calls:
                raise ConflictError(f"{model!r} is not in use", "not_in_use")
            self._end(full_name(model))

    def actions(self) -> dict[str, Callable[..., None]]:
        """Return what it can be told to do."""
        return {
            "load": self.load,
            "unload": self.unload,
            "use": self.use,
            "release": self.release,
        }

    def forget(self) -> None:
        """Lose every loaded model: who is stopped has nothing in VRAM."""
        with self._lock:
            self._loaded.clear()

    def state(self) -> dict[str, Any]:
        """Return what `/api/ps` says, and the calls that it does not tell of."""
        with self._lock:
            models = self._ps()["models"]
            calls = {name: runner.calls for name, runner in self._loaded.items()}
            return {**super().state(), "models": models, "calls": calls}

    # ── Answering ────────────────────────────────────────────────────────────────────────────────
    def answer(self, method: str, path: str, body: Mapping[str, Any]) -> Answer:
        """Return what Ollama would say."""
        match method, path:
            case "GET", "/":
                return Answer(200, "Ollama is running")
            case "GET", "/api/version":
                return Answer(200, {"version": VERSION})
            case "GET", "/api/tags":
                return Answer(200, self._tags())
            case "GET", "/api/ps":
                return Answer(200, self._ps())
            case "POST", "/api/generate" | "/api/chat":
                return self._call(body, is_chat=path.endswith("chat"))
        return Answer(404, "404 page not found")

    def _tags(self) -> dict[str, Any]:
        with self._lock:
            return {"models": [self._described(name, tags=True) for name in self._installed]}

    def _ps(self) -> dict[str, Any]:
        now = time.time()
        with self._lock:
            for name in [
                name
                for name, each in self._loaded.items()
                if not each.calls and each.expires_at is not None and each.expires_at <= now
            ]:
                del self._loaded[name]
            models = []
            for name, runner in self._loaded.items():
                stays = runner.keep_alive if runner.keep_alive >= 0 else FOR_EVER
                expires = now + stays if runner.expires_at is None else runner.expires_at
                vram = {"size_vram": round(runner.vram_mb * MIB), "context_length": 4096}
                told = {**self._described(name), "expires_at": as_go_writes(expires), **vram}
                models.append((expires, told))
        models.sort(key=lambda pair: -pair[0])
        return {"models": [told for _expires, told in models]}

    def _described(self, name: str, *, tags: bool = False) -> dict[str, Any]:
        parameters, family, vram_mb = self._installed[name]
        runner = self._loaded.get(name)
        size = vram_mb if runner is None else runner.vram_mb
        written = {"modified_at": "2026-01-05T09:30:00.123456789+01:00"} if tags else {}
        return {
            "name": name,
            "model": name,
            **written,
            "size": round(size * MIB),
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": family,
                "families": [family],
                "parameter_size": parameters,
                "quantization_level": "Q4_K_M",
            },
        }

    def _call(self, body: Mapping[str, Any], *, is_chat: bool) -> Answer:
        """Answer a call, word by word, or load and unload where there is nothing to answer."""
        if not isinstance(body.get("model"), str) or not body["model"]:
            return Answer(400, {"error": "model is required"})
        name, keep_alive = full_name(body["model"]), seconds_of(body.get("keep_alive"))
        if name not in self._installed:
            return Answer(404, {"error": f"model '{body['model']}' not found"})
        if not body.get("messages" if is_chat else "prompt"):
            return Answer(200, self._load_or_unload(name, keep_alive, is_chat=is_chat))
        options = body.get("options") or {}
        tokens = options.get("num_predict", TOKENS) if isinstance(options, dict) else TOKENS
        tokens = max(int(tokens), 1) if isinstance(tokens, int | float) else TOKENS
        said = self._words(name, keep_alive, tokens, is_chat=is_chat)
        if body.get("stream", True):
            return Answer(200, said)
        parts = list(said)
        whole = _said(name, "word " * tokens, is_chat=is_chat)
        return Answer(200, {**parts[-1], **whole, "done": True, "done_reason": "stop"})

    def _load_or_unload(
        self, name: str, keep_alive: float | None, *, is_chat: bool
    ) -> dict[str, Any]:
        with self._lock:
            if keep_alive == 0:
                runner = self._loaded.get(name)
                if runner is not None and runner.calls:
                    # Unloaded when its calls have ended, as the real one does.
                    runner.keep_alive, runner.expires_at = 0.0, time.time()
                else:
                    self._loaded.pop(name, None)
            else:
                self._begin(name, keep_alive)
                self._end(name)
        reason = "unload" if keep_alive == 0 else "load"
        if self.told:
            self.told(f"{reason} {name}")
        return {**_said(name, "", is_chat=is_chat), "done": True, "done_reason": reason}

    def _words(
        self, name: str, keep_alive: float | None, tokens: int, *, is_chat: bool
    ) -> Generator[dict[str, Any], None, None]:
        """Yield the parts of an answer; the call lasts from the first to the last."""
        with self._lock:
            self._begin(name, keep_alive)
        try:
            for _ in range(tokens):
                if not self.pause(1 / TOKENS_PER_SECOND):
                    return
                yield {**_said(name, "word ", is_chat=is_chat), "done": False}
        finally:
            with self._lock:
                self._end(name)
        took = int(tokens / TOKENS_PER_SECOND * 1e9)  # nanoseconds
        counts = {"total_duration": took, "eval_count": tokens, "eval_duration": took}
        yield {**_said(name, "", is_chat=is_chat), "done": True, "done_reason": "stop", **counts}

    # ── The scheduler's books ────────────────────────────────────────────────────────────────────
    def _begin(self, name: str, keep_alive: float | None) -> None:
        if name not in self._loaded:
            size = self._installed.setdefault(name, UNUSUAL)[2]
            self._loaded[name] = _Runner(size, KEEP_ALIVE)
        runner = self._loaded[name]
        runner.calls += 1
        if keep_alive is not None:
            runner.keep_alive = keep_alive

    def _end(self, name: str) -> None:
        """End a call, if nobody has ended it or unloaded the model meanwhile."""
        runner = self._loaded.get(name)
        if runner is None or not runner.calls:
            return
        runner.calls -= 1
        if runner.calls:
            return
        if runner.keep_alive == 0:
            del self._loaded[name]
        else:
            stays = runner.keep_alive if runner.keep_alive > 0 else FOR_EVER
            runner.expires_at = time.time() + stays

    def _known(self, model: str) -> _Runner:
        try:
            return self._loaded[full_name(model)]
        except KeyError:
            loaded = ", ".join(self._loaded) or "none"
            raise UnknownModelError(f"{model!r} is not loaded; loaded: {loaded}") from None


def full_name(model: str) -> str:
    """Return a model's name with its tag.

    >>> full_name("llama3.2"), full_name("qwen2.5:14b")
    ('llama3.2:latest', 'qwen2.5:14b')
    """
    if not model:
        raise WishError("a model has a name")
    return model if ":" in model else f"{model}:latest"


def seconds_of(keep_alive: object) -> float | None:
    """Return a keep-alive in seconds, below zero for ever; None where none is given.

    >>> seconds_of("5m"), seconds_of(0), seconds_of(-1), seconds_of(None)
    (300.0, 0.0, -1.0, None)
    """
    if isinstance(keep_alive, int | float):
        return float(keep_alive)
    if not isinstance(keep_alive, str):
        return None
    for unit, seconds in UNITS.items():
        if keep_alive.endswith(unit):
            try:
                return float(keep_alive.removesuffix(unit)) * seconds
            except ValueError:
                continue
    raise WishError(f'{keep_alive!r} is no duration; right ones: 300, "5m", "24h", -1')


def as_go_writes(seconds: float) -> str:
    """Return an instant as Ollama writes it: local time, up to nine digits, no final zeros."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
    local = at.astimezone()
    fraction = f"{local:%f}789".rstrip("0")
    offset = local.isoformat()[-6:]
    return f"{local:%Y-%m-%dT%H:%M:%S}.{fraction}{'Z' if offset == '+00:00' else offset}"


def _said(name: str, text: str, *, is_chat: bool) -> dict[str, Any]:
    answer = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
    return {"model": name, "created_at": datetime.now(UTC).isoformat(), **answer}

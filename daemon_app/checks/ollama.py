"""Whether Ollama answers, how fast, and which models it has loaded."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from daemon_app import fetch
from daemon_app.checks import Context, check, service
from daemon_app.fetch import Kind
from daemon_app.readings import Reading

SECONDS: Final = 3.0  # for each of two questions
MEBIBYTE: Final = 1 << 20


@check("ollama", seconds=2 * SECONDS + 1)
def ollama(context: Context) -> Reading:
    """Ask what it has; the value is the time to that answer in milliseconds.

    Facts: `installed`, how many models there are, and `models`, those that are loaded: each with
    backend, model, vram_mb and expires_at. None where it would not say.
    """
    url = context.ollama_url
    answer = fetch.get(f"{url}/api/tags", seconds=SECONDS)
    slow_ms = context.policy.slow_ms
    found = service.reading("ollama", url, answer, seconds=SECONDS, slow_ms=slow_ms)
    if answer.kind is not Kind.OK:
        return found
    try:
        installed = len(service.rows(service.table(answer.json).get("models")))
    except service.OddError:
        return service.odd("ollama", url, answer)
    loaded = fetch.get(f"{url}/api/ps", seconds=SECONDS)
    models, said = None, loaded.said
    if loaded.kind is Kind.OK:
        with suppress(service.OddError):
            models, said = _models(loaded.json), ""
    facts = {**found.facts, "installed": installed, "models": models}
    return replace(found, facts=facts, said=said, seconds=answer.seconds + loaded.seconds)


def _models(answer: Any) -> list[dict[str, Any]]:
    """Return the loaded models; raises OddError."""
    listed = service.table(answer).get("models")
    return [
        {
            "backend": "ollama",
            "model": service.name_in(row, "model", "name"),
            "vram_mb": round(service.amount(row.get("size_vram", 0)) / MEBIBYTE),
            "expires_at": service.plain(row.get("expires_at")),
        }
        for row in service.rows([] if listed is None else listed)
    ]

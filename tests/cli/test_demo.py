"""The stand-ins for the GPU service and Ollama, over real HTTP and from the command line."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import requests

from daemon_app.cli import demo as commands
from daemon_app.cli.outcome import Code
from daemon_app.demo import DOUBLES, MODES, GpuService, Ollama, PortTakenError, WishError
from tests.cli.bach import Bach, lines
from tests.stack import free_port


@pytest.fixture
def service() -> Iterator[GpuService]:
    with GpuService() as service:
        yield service


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama() as ollama:
        yield ollama


def get(url: str, timeout: float = 10) -> Any:
    answer = requests.get(url, timeout=timeout)
    assert answer.status_code == 200
    return answer.json()


def post(url: str, **body: Any) -> requests.Response:
    return requests.post(url, json=body, timeout=10)


def until(answer: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := answer()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


# ── the GPU service ──────────────────────────────────────────────────────────────────────────────
def test_the_gpu_service_tells_its_vram_and_models(service: GpuService) -> None:
    service.load("sdxl", vram_mb=6000, in_use=1, last_used=1000.0)

    vram = get(f"{service.url}/api/health/vram")

    assert get(f"{service.url}/api/health")["status"] == "ok"
    assert (vram["free_mb"], vram["total_mb"]) == (18_576, 24_576)
    assert vram["registered_backends"]
    assert vram["eviction_in_progress"] is False
    assert vram["loaded_models"] == [
        {
            "backend": "diffusers",
            "model": "sdxl",
            "vram_mb": 6000,
            "priority": "HIGH",
            "in_use": 1,
            "last_used": 1000.0,
        }
    ]


def test_unloading_takes_the_model_unused_longest_and_never_one_in_use(service: GpuService) -> None:
    service.load("old, in use", in_use=1, unused=900)
    service.load("older", vram_mb=500, unused=600)
    service.load("newer", unused=60)
    service.load("other backend", backend="text", unused=9000)
    unload = f"{service.url}/api/diffusers/unload"

    first = post(unload)
    refused = post(unload, model_id="old, in use")
    named = post(unload, model="newer")
    left = post(unload)

    assert first.json()["model_id"] == "older"
    assert first.json()["freed_mb"] == 500
    assert (refused.status_code, left.status_code) == (409, 409)
    assert named.json()["success"] is True
    assert [m["model"] for m in service.state()["loaded_models"]] == [
        "old, in use",
        "other backend",
    ]
    assert ("POST", "/api/diffusers/unload", {"model": "newer"}) in service.requests


def test_a_generation_keeps_its_model_in_use_until_it_ends(service: GpuService) -> None:
    call = threading.Thread(
        target=post, args=[f"{service.url}/api/diffusers/generate"], kwargs={"model_id": "flux"}
    )

    call.start()

    def use() -> list[int]:
        return [m["in_use"] for m in get(f"{service.url}/api/health/vram")["loaded_models"]]

    assert until(lambda: use() == [1])
    service.release("flux")
    assert use() == [0]
    service.mode("down")
    call.join(20)
    assert not call.is_alive()


def test_what_does_not_fit_or_is_not_there_is_refused(service: GpuService) -> None:
    with pytest.raises(WishError, match="do not fit"):
        service.load("huge", vram_mb=50_000)
    with pytest.raises(WishError, match="is not loaded"):
        service.use("sdxl")
    with pytest.raises(WishError, match="unknown 'wish'"):
        service.mode("slow", wish=1)
    assert post(f"{service.url}/demo/load", model="a", vram_mb="much").status_code == 400
    assert post(f"{service.url}/demo/dance").status_code == 400
    assert requests.post(f"{service.url}/demo/ok", data="[]", timeout=10).status_code == 400


def test_no_web_page_steers_a_double(service: GpuService) -> None:
    answer = requests.post(
        f"{service.url}/demo/down", json={}, headers={"Origin": "http://a.example"}, timeout=10
    )

    assert answer.status_code == 403
    assert get(f"{service.url}/api/health")["status"] == "ok"


# ── Ollama ───────────────────────────────────────────────────────────────────────────────────────
def expires(ollama: Ollama) -> str:
    (model,) = get(f"{ollama.url}/api/ps")["models"]
    datetime.fromisoformat(model["expires_at"])
    return str(model["expires_at"])


def test_ollama_lists_what_is_installed_and_what_is_loaded(ollama: Ollama) -> None:
    ollama.load("llama3.2", vram_mb=3000)

    (loaded,) = get(f"{ollama.url}/api/ps")["models"]

    installed = get(f"{ollama.url}/api/tags")["models"]
    assert "llama3.2:latest" in [model["name"] for model in installed]
    assert loaded["model"] == loaded["name"] == "llama3.2:latest"
    assert loaded["size_vram"] == 3000 * 1024**2
    assert loaded["size"] >= loaded["size_vram"]


def test_the_time_of_a_first_call_moves_with_each_look_until_the_call_ends(ollama: Ollama) -> None:
    ollama.use("llama3.2")
    during = expires(ollama)
    assert until(lambda: expires(ollama) != during)

    ollama.release("llama3.2")

    assert expires(ollama) == expires(ollama)


def test_a_call_of_a_loaded_model_moves_the_time_only_when_it_ends(ollama: Ollama) -> None:
    ollama.load("llama3.2", unused=10)
    before = expires(ollama)

    ollama.use("llama3.2")
    during = expires(ollama)
    ollama.release("llama3.2")

    assert during == before
    assert expires(ollama) > before


def test_a_model_that_is_used_beyond_its_time_stays_and_an_unused_one_goes(ollama: Ollama) -> None:
    ollama.load("llama3.2", unused=400)
    ollama.use("llama3.2")
    assert datetime.fromisoformat(expires(ollama)).timestamp() < time.time()

    ollama.load("llama3.2", unused=400)

    assert get(f"{ollama.url}/api/ps")["models"] == []


def test_keep_alive_zero_unloads_but_lets_calls_end(ollama: Ollama) -> None:
    ollama.load("llama3.2")
    ollama.load("qwen2.5:14b")
    ollama.use("qwen2.5:14b")

    for model in ("llama3.2", "qwen2.5:14b"):
        answer = post(f"{ollama.url}/api/generate", model=model, keep_alive=0)
        assert answer.json()["done_reason"] == "unload"

    def loaded() -> list[str]:
        return [model["name"] for model in get(f"{ollama.url}/api/ps")["models"]]

    assert loaded() == ["qwen2.5:14b"]
    ollama.release("qwen2.5:14b")
    assert loaded() == []


def test_a_chat_is_answered_word_by_word_and_is_a_call_until_its_end(ollama: Ollama) -> None:
    asked = {"model": "llama3.2", "messages": [{"role": "user", "content": "?"}]}
    endless = {**asked, "options": {"num_predict": 1_000_000}}

    with requests.post(f"{ollama.url}/api/chat", json=endless, stream=True, timeout=10) as answer:
        part = json.loads(next(answer.iter_lines(chunk_size=1)))
        assert part["message"]["content"]
        assert part["done"] is False
        assert ollama.state()["calls"] == {"llama3.2:latest": 1}
    until(lambda: ollama.state()["calls"] == {"llama3.2:latest": 0})  # its caller has gone
    whole = post(f"{ollama.url}/api/chat", **asked, stream=False, options={"num_predict": 2})

    assert whole.json()["done"] is True
    assert ollama.state()["calls"] == {"llama3.2:latest": 0}
    assert post(f"{ollama.url}/api/chat", model="gpt-x").status_code == 404


# ── how they fail ────────────────────────────────────────────────────────────────────────────────
def test_a_hanging_service_answers_as_soon_as_it_is_well_again(service: GpuService) -> None:
    service.mode("hang", path="/api/health/vram")

    with pytest.raises(requests.Timeout):
        get(f"{service.url}/api/health/vram", timeout=0.2)

    assert get(f"{service.url}/api/health")["status"] == "ok"
    service.mode("ok")
    assert get(f"{service.url}/api/health/vram")["total_mb"]


def test_a_service_that_is_down_refuses_connections_and_comes_back(ollama: Ollama) -> None:
    ollama.load("llama3.2")
    ollama.mode("down")

    with pytest.raises(requests.ConnectionError, match="refused"):
        get(f"{ollama.url}/api/ps")
    assert get(f"{ollama.control_url}/demo")["mode"] == "down"
    assert post(f"{ollama.control_url}/demo/ok").status_code == 200

    assert get(f"{ollama.url}/api/ps")["models"] == []


def test_a_service_can_be_down_for_a_while(service: GpuService) -> None:
    assert post(f"{service.url}/demo/down", seconds=0.1).json()["mode"] == "down"

    until(lambda: service.state()["mode"] == "ok")

    assert get(f"{service.url}/api/health")["status"] == "ok"


@pytest.mark.parametrize(
    ("mode", "wishes", "size"),
    [
        ("bomb", {"megabytes": 3}, 3_000_000),
        ("bomb", {"megabytes": 3, "length": True}, 3_000_000),
        ("gzip", {"megabytes": 20}, 20_000_000),
        ("nest", {"depth": 1000}, 2000),
    ],
)
def test_too_much_is_as_much_as_was_asked_for(
    service: GpuService, mode: str, wishes: dict[str, Any], size: int
) -> None:
    service.mode(mode, **wishes)

    answer = requests.get(f"{service.url}/api/health", timeout=20)

    assert len(answer.content) >= size
    assert ("Content-Length" in answer.headers) == (mode == "nest" or "length" in wishes)


def test_lies_are_told_as_asked_for(service: GpuService) -> None:
    health = f"{service.url}/api/health"

    service.mode("garbage")
    with pytest.raises(ValueError):
        get(health)
    service.mode("error", status=418)
    assert requests.get(health, timeout=10).status_code == 418
    service.mode("redirect")
    with pytest.raises(requests.TooManyRedirects):
        get(health)
    service.mode("wrong")
    assert not isinstance(get(health)["loaded_models"][0], dict)
    service.mode("nohttp")
    with pytest.raises(requests.ConnectionError):
        get(health)
    service.mode("drip", seconds=0.001)
    assert get(health)["status"] == "ok"
    service.mode("slow", seconds=0.01)
    assert get(health)["status"] == "ok"


def test_a_port_that_is_taken_is_named(service: GpuService) -> None:
    with pytest.raises(PortTakenError, match=str(service.port)):
        Ollama(service.port).start()


# ── from the command line ────────────────────────────────────────────────────────────────────────
def test_the_command_line_names_what_the_doubles_have() -> None:
    assert {name: each.default_port for name, each in DOUBLES.items()} == commands.DOUBLES
    assert tuple(MODES) == commands.MODES
    for double in DOUBLES.values():
        assert tuple(double().actions()) == commands.ACTIONS


def test_a_double_says_how_to_try_it_and_is_steered_from_another_terminal(bach: Bach) -> None:
    port = free_port()

    with bach.open("demo", "gpu-service", "--port", str(port)) as running:
        said = lines(running)
        assert str(port) in next(said)
        assert f"GPU_SERVICE_URL=http://127.0.0.1:{port} " in next(said)
        control = ("demo", "control", "gpu-service")
        at = ("--port", str(port), "--json")
        loaded = bach(*control, "load", "sdxl", "--vram", "6000", "--in-use", *at)
        state = json.loads(loaded.stdout)
        assert state["loaded_models"][0]["in_use"] == 1
        assert get(f"http://127.0.0.1:{port}/api/health/vram") == {
            name: state[name] for name in state if name not in {"mode", "port", "url"}
        }
        assert "sdxl" in bach(*control, *at[:2]).stdout
        assert bach(*control, "down", *at).returncode == Code.OK
        with pytest.raises(requests.ConnectionError, match="refused"):
            get(f"http://127.0.0.1:{port}/api/health")
        assert bach(*control, "ok", *at).returncode == Code.OK
        assert bach(*control, "use", "flux", *at).returncode == Code.NOT_FOUND
        assert bach(*control, "use", *at).returncode == Code.USAGE
        running.terminate()
        assert running.wait(20) == Code.OK


def test_a_port_that_can_not_be_had_is_a_usage_error(bach: Bach, service: GpuService) -> None:
    taken = bach("demo", "ollama", "--port", str(service.port))
    no_port = bach("demo", "ollama", "--port", "65535")
    nobody = bach("demo", "control", "ollama", "ok", "--port", str(free_port()))

    assert taken.returncode == no_port.returncode == Code.USAGE
    assert str(service.port) in taken.stderr
    assert f"--port {service.port}" not in taken.stderr
    assert "65534" in no_port.stderr
    assert nobody.returncode == Code.NOT_RUNNING
    assert "demo ollama" in nobody.stderr

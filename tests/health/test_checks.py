"""Each check against a real service, one that lies, and one that is not there."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings

from daemon_app import gpu
from daemon_app.checks import CHECKS, Context, vram
from daemon_app.demo import GpuService, Ollama
from daemon_app.models import Policy, reasons
from daemon_app.readings import Level, Reading, State
from daemon_app.signs import Sign
from daemon_app.signs.models import Models
from tests.health.hostile import Line, http, saying, serving
from tests.presence.scenes import scene
from tests.test_gpu import DRIVER_NOT_LOADED, GPU_IS_LOST, ONE, TWO, UNKNOWN, Machine, library

__all__ = ["library"]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
GB = 1_000_000_000


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def look(runtime: Path, monkeypatch: pytest.MonkeyPatch):
    """Return how one check is called, with rules of a test's own."""
    # No GPU but those that a test plugs in.
    monkeypatch.setattr(gpu.memories, "__defaults__", (runtime / "no-devices",))
    monkeypatch.setattr(gpu, "LIBRARY", "libno-such-nvml.so")

    def look(name: str, *, filling: float | None = None, now: datetime = NOON, **rules) -> Reading:
        reading = CHECKS[name].look(Context(now, Policy(**rules), runtime, filling))
        assert reading.name == name
        assert Reading.of(reading.as_json()) == reading
        sentence = reasons.sentence(reading.code, reading.facts)
        assert "%(" not in sentence
        assert sentence != reading.code, "a code has its sentence"
        return reading

    return look


@pytest.fixture
def service() -> Iterator[GpuService]:
    with GpuService() as service:
        yield service


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama() as ollama:
        yield ollama


def test_the_checks_have_their_names_and_order() -> None:
    assert list(CHECKS) == ["gpu_service", "ollama", "vram", "disk", "active_users"]


# ── Services ─────────────────────────────────────────────────────────────────────────────────────
def test_a_service_that_answers_is_well_and_its_time_is_the_value(look, service) -> None:
    reading = look("gpu_service", gpu_service_url=f"{service.url}/", slow_ms=60_000)

    assert (reading.state, reading.level, reading.said) == (State.OK, Level.OK, "")
    assert reading.value == pytest.approx(reading.seconds * 1000, abs=0.1)
    assert [(method, path) for method, path, _body in service.requests] == [("GET", "/api/health")]


def test_one_that_answers_late_is_slow(look, service) -> None:
    reading = look("gpu_service", gpu_service_url=service.url, slow_ms=0)

    assert (reading.state, reading.code) == (State.SLOW, "service_slow")
    assert reading.value > 0


def test_one_that_is_gone_is_down(look, service) -> None:
    service.mode("down")
    reading = look("gpu_service", gpu_service_url=service.url)

    assert (reading.state, reading.level, reading.value) == (State.DOWN, Level.BAD, None)
    assert reading.code == "service_refused"


def test_the_settings_name_the_services_unless_the_rules_do(look, service, settings) -> None:
    settings.GPU_SERVICE_URL = service.url
    assert look("gpu_service").level is not Level.BAD

    settings.GPU_SERVICE_URL = "http://127.0.0.1:9"
    assert look("gpu_service", gpu_service_url=service.url).level is not Level.BAD


@pytest.mark.parametrize("name", ["gpu_service", "ollama", "vram"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http(b"garbage"), "service_not_json"),
        (http(b"[]"), "service_odd"),
        (http(b'"ok"'), "service_odd"),
        (http(b"[" * 1_000_000), "service_not_json"),
        (http(b"ill", status="500 Internal Server Error"), "service_status"),
        (http(b"", "Retry-After: 1", status="429 Too Many Requests"), "service_status"),
        (http(b"tea", status="418 I'm a teapot"), "service_status"),
        (http(b"", "Location: /", status="302 Found"), "service_redirect"),
        (http(b"x", "Content-Encoding: gzip"), "service_encoded"),
        (b"no http\r\n", "service_broke_off"),
    ],
)
def test_nonsense_is_unknown_and_what_was_said_is_kept(look, name, answer, code) -> None:
    with serving(saying(answer)) as server:
        reading = look(name, gpu_service_url=server.url, ollama_url=server.url)

    assert (reading.state, reading.level, reading.value) == (State.UNKNOWN, Level.UNKNOWN, None)
    assert reading.code == code
    assert reading.said
    assert len(reading.said) <= 200


def test_one_that_calls_itself_ill_is_not_believed_to_be_well(look) -> None:
    with serving(saying(http(b'{"status": "ERROR", "error": "CUDA"}'))) as server:
        reading = look("gpu_service", gpu_service_url=server.url)

    assert (reading.state, reading.code) == (State.UNKNOWN, "service_ill")
    assert "CUDA" in reading.said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://anna:geheim@127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://anna:ge@heim@127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://anna:geheim@[::1", "http://[::1"),
        ("http://anna:geheim@", "http://"),
    ],
)
def test_a_password_in_the_address_is_not_told(look, url, shown) -> None:
    for name in ("gpu_service", "ollama", "vram"):
        reading = look(name, gpu_service_url=url, ollama_url=url)

        assert "heim" not in str(reading.as_json())
        assert reading.facts["url"] == shown


def test_a_service_that_comes_and_goes_is_told_as_it_is(look, service) -> None:
    states = []
    for mode in ["ok", "down", "garbage"] * 3:
        service.mode(mode)
        states.append(look("gpu_service", gpu_service_url=service.url, slow_ms=60_000).state)

    assert states == [State.OK, State.DOWN, State.UNKNOWN] * 3


@pytest.mark.parametrize(
    ("name", "shown"),
    [(r"a\u0000b", "ab"), (r"\ud800", "?"), (r"a\nb", "a\nb")],
)
def test_of_names_that_can_not_be_kept_the_rest_is_told(look, name, shown) -> None:
    row = f'"name": "{name}", "model": "{name}", "backend": "{name}", "expires_at": "{name}"'
    bodies = {
        b"/api/tags": '{"models": []}',
        b"/api/ps": f'{{"models": [{{{row}, "size_vram": 1}}]}}',
        b"/api/health/vram": '{"free_mb": 1, "total_mb": 2, "loaded_models": '
        f'[{{{row}, "vram_mb": 1, "in_use": 0}}]}}',
    }

    def answer(line: Line) -> None:
        asked = line.request().split()[1]
        line.say(http(bodies[asked].encode()))

    with serving(answer) as server:
        readings = [
            look(check, ollama_url=server.url, gpu_service_url=server.url)
            for check in ("ollama", "vram")
        ]

    for reading in readings:
        assert reading.facts["models"][0]["model"] == shown


# ── Ollama ───────────────────────────────────────────────────────────────────────────────────────
def test_ollama_tells_what_it_has_and_what_is_loaded(look, ollama) -> None:
    ollama.load("llama3:8b", vram_mb=5000)
    reading = look("ollama", ollama_url=ollama.url, slow_ms=60_000)

    assert reading.state is State.OK
    assert reading.facts["installed"] >= 1
    (model,) = reading.facts["models"]
    assert (model["backend"], model["model"], model["vram_mb"]) == ("ollama", "llama3:8b", 5000)
    assert model["expires_at"]


@pytest.mark.parametrize("mode", ["error", "garbage", "wrong", "redirect"])
def test_what_is_loaded_may_be_unknown_while_ollama_is_well(look, ollama, mode) -> None:
    ollama.mode(mode, path="/api/ps")
    reading = look("ollama", ollama_url=ollama.url, slow_ms=60_000)

    assert (reading.state, reading.facts["models"]) == (State.OK, None)
    assert reading.said


@pytest.mark.parametrize(
    "body",
    [
        b'{"models": [{"name": "a", "size_vram": -1}]}',
        b'{"models": [{"name": "a", "size_vram": "much"}]}',
        b'{"models": [{"name": 7, "size_vram": 1}]}',
        b'{"models": ["a"]}',
        b'{"models": {}}',
        b'{"models": [{"name": "a", "size_vram": 1e999}]}',
    ],
)
def test_loaded_models_that_make_no_sense_are_unknown(look, body) -> None:
    def answer(line: Line) -> None:
        tags = b"/api/tags" in line.request()
        line.say(http(b'{"models": []}' if tags else body))

    with serving(answer) as server:
        reading = look("ollama", ollama_url=server.url, slow_ms=60_000)

    assert (reading.state, reading.facts["models"]) == (State.OK, None)


# ── VRAM ─────────────────────────────────────────────────────────────────────────────────────────
def test_vram_is_what_the_service_says(look, service) -> None:
    service.load("sdxl", vram_mb=6144, in_use=1, unused=600)
    reading = look("vram", gpu_service_url=service.url)

    assert (reading.state, reading.value) == (State.OK, 25.0)
    assert reading.facts | {"models": []} == {
        "used_mb": 6144,
        "free_mb": 18_432,
        "total_mb": 24_576,
        "percent": 25.0,
        "source": "service",
        "devices": [],
        "models": [],
        "evicting": False,
    }
    (model,) = reading.facts["models"]
    assert (model["model"], model["vram_mb"], model["in_use"]) == ("sdxl", 6144, 1)
    assert model.keys() == {"backend", "model", "vram_mb", "in_use", "last_used", "priority"}


@pytest.mark.parametrize(("high", "state"), [(24, State.HIGH), (25, State.OK)])
def test_more_than_the_threshold_is_high(look, service, high, state) -> None:
    service.load("sdxl", vram_mb=6144)
    assert look("vram", gpu_service_url=service.url, vram_high_percent=high).state is state


@pytest.mark.parametrize(
    "body",
    [
        b'{"free_mb": -1, "total_mb": 8192}',
        b'{"free_mb": 9000, "total_mb": 8192}',
        b'{"free_mb": 0, "total_mb": 0}',
        b'{"free_mb": "4096", "total_mb": 8192}',
        b'{"free_mb": true, "total_mb": 8192}',
        b'{"free_mb": null, "total_mb": 8192}',
        b'{"free_mb": 1, "total_mb": 1e999}',
        b'{"free_mb": 1, "total_mb": ' + b"9" * 400 + b"}",
        b'{"free_mb": [1], "total_mb": {}}',
        b'{"total_mb": 8192}',
        b'{"free_mb": 1, "total_mb": 2, "loaded_models": "sdxl"}',
        b'{"free_mb": 1, "total_mb": 2, "loaded_models": [{"backend": "a", "model": "b"}]}',
        b'{"free_mb": 1, "total_mb": 2, "loaded_models":[{"backend":"a","model":"b","vram_mb":1}]}',
    ],
)
def test_numbers_that_can_t_be_true_are_unknown(look, body) -> None:
    with serving(saying(http(body))) as server:
        reading = look("vram", gpu_service_url=server.url)

    assert (reading.state, reading.code, reading.value) == (State.UNKNOWN, "service_odd", None)
    assert reading.said == body.decode()[:200]


def test_a_service_that_names_no_models_has_numbers_and_may_be_in_use(look) -> None:
    with serving(saying(http(b'{"free_mb": 6000, "total_mb": 8000}'))) as server:
        reading = look("vram", gpu_service_url=server.url)
    service = Reading("gpu_service", State.OK)

    sign = Models().look(scene(readings={"gpu_service": service, "vram": reading}))

    assert (reading.state, reading.value, reading.facts["models"]) == (State.OK, 25.0, None)
    assert sign == Sign("models", None, "sign_gpu_service_unknown")


def test_a_list_without_end_is_cut(look) -> None:
    row = b'{"backend": "a", "model": "' + b"m" * 300 + b'", "vram_mb": 1, "in_use": 0}'
    body = b'{"free_mb": 1, "total_mb": 2, "loaded_models": [' + b",".join([row] * 2000) + b"]}"
    with serving(saying(http(body))) as server:
        reading = look("vram", gpu_service_url=server.url)

    assert len(reading.facts["models"]) == 100
    assert len(reading.facts["models"][0]["model"]) == 200


def test_without_service_and_library_vram_is_unknown(look) -> None:
    reading = look("vram", gpu_service_url="http://127.0.0.1:9")

    assert (reading.state, reading.code) == (State.UNKNOWN, "vram_none")


@pytest.fixture
def machine(look, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Yield a machine with an NVML that answers from a file, and no GPU service."""
    machine = Machine(tmp_path)
    monkeypatch.setenv("FAKE_NVML", str(machine.file))
    monkeypatch.setattr(gpu, "LIBRARY", "libnvidia-ml.so.1")
    monkeypatch.setattr(gpu.memories, "__defaults__", (machine.pci_devices,))
    return machine


linux = pytest.mark.skipif(sys.platform != "linux", reason="GPUs are looked at on Linux only")
NOWHERE = "http://127.0.0.1:9"


@linux
def test_without_the_service_nvml_is_asked_and_let_go_of(look, machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    machine.answer(
        f"memory {ONE} {8 << 30} {2 << 30} RTX One",
        f"memory {TWO} {8 << 30} {4 << 30} RTX Two",
    )
    reading = look("vram", gpu_service_url=NOWHERE)

    assert (reading.state, reading.value) == (State.OK, 37.5)
    assert (reading.facts["source"], reading.facts["used_mb"]) == ("nvml", 6144)
    assert reading.facts["devices"] == [
        {"name": "RTX One", "free_mb": 6144, "total_mb": 8192},
        {"name": "RTX Two", "free_mb": 4096, "total_mb": 8192},
    ]
    assert machine.calls()[-1] == "nvmlShutdown"


@linux
def test_a_service_that_lies_does_not_keep_nvml_from_being_asked(look, machine: Machine) -> None:
    machine.plug_in(ONE)
    with serving(saying(http(b'{"free_mb": -5, "total_mb": 1}'))) as server:
        reading = look("vram", gpu_service_url=server.url)

    assert (reading.state, reading.facts["source"]) == (State.OK, "nvml")


@linux
def test_a_gpu_that_sleeps_is_not_woken(look, machine: Machine) -> None:
    machine.plug_in(ONE, status="suspended")
    reading = look("vram", gpu_service_url=NOWHERE)

    assert (reading.state, reading.code) == (State.UNKNOWN, "vram_asleep")
    assert machine.calls() == []

    machine.plug_in(TWO)
    reading = look("vram", gpu_service_url=NOWHERE)

    assert len(reading.facts["devices"]) == 1
    assert not [call for call in machine.calls() if ONE in call]


@linux
@pytest.mark.parametrize(
    "trouble",
    [
        f"error nvmlInit {DRIVER_NOT_LOADED}",
        f"error nvmlDeviceGetHandle {GPU_IS_LOST}",
        f"error nvmlDeviceGetMemoryInfo {UNKNOWN}",
    ],
)
def test_a_driver_in_trouble_is_unknown_until_it_is_well(look, machine: Machine, trouble) -> None:
    machine.plug_in(ONE)
    machine.answer(trouble)
    ill = look("vram", gpu_service_url=NOWHERE)
    machine.answer()
    well = look("vram", gpu_service_url=NOWHERE)

    assert (ill.state, ill.code) == (State.UNKNOWN, "vram_failed")
    assert ill.said
    assert well.state is State.OK


def test_a_driver_that_hangs_hides_neither_the_service_nor_its_own_return(
    look, service, monkeypatch
) -> None:
    asked, go = [], threading.Event()

    def hang() -> list[gpu.Memory]:
        asked.append(1)
        go.wait(60)
        return [gpu.Memory("RTX", 4096.0, 8192.0)]

    monkeypatch.setattr(gpu, "memories", hang)
    monkeypatch.setattr(vram, "FOR_NVML", 0.05)
    hanging = [look("vram", gpu_service_url=NOWHERE) for _ in range(3)]
    told = look("vram", gpu_service_url=service.url)
    threads = [thread for thread in threading.enumerate() if thread.name == "nvml"]
    go.set()
    threads[0].join(20)

    assert {(r.state, r.code) for r in hanging} == {(State.UNKNOWN, "vram_failed")}
    assert told.facts["source"] == "service"
    assert (len(asked), len(threads)) == (1, 1)
    assert look("vram", gpu_service_url=NOWHERE).value == 50.0


@linux
def test_a_gpu_that_vanishes_leaves_the_other_one(look, machine: Machine) -> None:
    machine.plug_in(ONE)
    machine.plug_in(TWO)
    machine.answer(f"error nvmlDeviceGetHandle {GPU_IS_LOST} {ONE}")
    reading = look("vram", gpu_service_url=NOWHERE)

    assert (reading.state, reading.facts["total_mb"]) == (State.OK, 8192)


# ── Disk ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch):
    """Return how a disk's size is set, in bytes."""

    def put(free: float, total: float) -> None:
        monkeypatch.setattr(
            "shutil.disk_usage", lambda _: (int(total), int(total - free), int(free))
        )

    return put


def test_the_real_disk_has_its_free_gigabytes(look) -> None:
    reading = look("disk", disk_low_gb=0)

    assert 0 < reading.value < reading.facts["total_bytes"] / GB
    assert 0 < reading.facts["used_bytes"] <= reading.facts["total_bytes"]
    assert Path(reading.facts["path"]) in [settings.EXPORTS_DIR, *settings.EXPORTS_DIR.parents]


@pytest.mark.parametrize(
    ("free", "total", "low", "state"),
    [
        (11 * GB, 500 * GB, 10, State.OK),
        (9 * GB, 500 * GB, 10, State.LOW),
        (9 * GB, 500 * GB, 0, State.OK),
        (0.9 * GB, 500 * GB, 10, State.FULL),
        (0.9 * GB, 500 * GB, 0, State.FULL),
        (9 * GB, 8000 * GB, 10, State.LOW),  # 1 % of it would be 80 GB
        (0.3 * GB, 20 * GB, 0, State.OK),
        (0.1 * GB, 20 * GB, 0, State.FULL),
        (30_000_000, GB, 0, State.FULL),  # less than the ballast needs
        (0, 500 * GB, 10, State.FULL),
    ],
)
def test_little_room_is_low_and_hardly_any_is_full(look, room, free, total, low, state) -> None:
    room(free, total)
    reading = look("disk", disk_low_gb=low)

    assert reading.state is state
    assert reading.value == pytest.approx(free / GB, abs=0.001)


def test_when_it_will_be_full_is_told_with_a_trend_and_not_without(look, room) -> None:
    room(50 * GB, 500 * GB)

    assert look("disk").facts["full_in_seconds"] is None
    assert look("disk", filling=GB / 86_400).facts["full_in_seconds"] == 50 * 86_400


def test_a_disk_that_can_t_be_looked_at_is_unknown(look, monkeypatch) -> None:
    def gone(_path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("shutil.disk_usage", gone)
    assert look("disk").state is State.UNKNOWN


# ── People ───────────────────────────────────────────────────────────────────────────────────────
def test_sessions_with_a_request_in_the_last_five_minutes_count(look, runtime: Path) -> None:
    assert look("active_users").value == 0
    here, now = runtime / "here", time.time()
    here.mkdir()
    for name, ago in {"a": 0, "b": 299, "c": 301, "d": 86_400, "e": -60, "f": -86_400}.items():
        (here / name).write_text("{}")
        os.utime(here / name, (now - ago, now - ago))

    reading = look("active_users", now=datetime.fromtimestamp(now, UTC))

    assert (reading.state, reading.value) == (State.OK, 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_marks_that_can_t_be_read_are_unknown_people(look, runtime: Path) -> None:
    (runtime / "here").mkdir(mode=0o000)
    try:
        assert look("active_users").state is State.UNKNOWN
    finally:
        (runtime / "here").chmod(0o700)

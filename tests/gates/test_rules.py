"""What jobs and rules refuse to ask for, and the way out they name."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import translation

from daemon_app.models import Job, Policy, Snapshot
from daemon_app.readings import Reading, State
from tests.gates.gating import vram
from tests.jobs import NOON, job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


def refused(**fields: Any) -> dict[str, list[str]]:
    """Return the messages with which a job with these fields is refused."""
    with pytest.raises(ValidationError) as caught:
        job(**fields)
    return caught.value.message_dict


def refused_rules(**fields: Any) -> dict[str, list[str]]:
    """Return the messages with which these rules are refused."""
    with pytest.raises(ValidationError) as caught:
        Policy(**fields).store(now=NOON, by="anna")
    return caught.value.message_dict


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_window_is_kept_in_one_way_of_writing() -> None:
    assert job(window=" Mon-Fri 22 - 6 ").window == "mon-fri 22:00-06:00"


@pytest.mark.parametrize(
    ("window", "says"),
    [("25:00-26:00", "24:00"), ("22:00-22:00", "never opens"), ("xyz 1-2", "weekday")],
)
def test_a_window_that_never_opens_is_refused(window: str, says: str) -> None:
    assert says in refused(window=window)["window"][0]


def test_a_window_in_an_unknown_zone_is_the_zones_fault_alone() -> None:
    assert refused(window="1-2", timezone="Europe/Atlantis").keys() == {"timezone"}


def test_a_window_wholly_in_quiet_hours_is_refused_unless_it_may_run_there() -> None:
    Policy(quiet_hours="22:00-06:00").store(now=NOON, by="anna")

    nightly: dict[str, Any] = {"job_type": "cron", "schedule": "0 1 * * *"}

    (message,) = refused(**nightly, window="23:00-05:00")["window"]

    assert "quiet hours" in message
    assert job("may", **nightly, window="23:00-05:00", in_quiet_hours=True).pk
    assert job("partly", **nightly, window="23:00-07:00").pk


def test_quiet_hours_do_not_refuse_the_times_of_a_job_that_only_people_start() -> None:
    Policy(quiet_hours="22:00-06:00").store(now=NOON, by="anna")

    assert job("by-hand", window="23:00-05:00").pk


def test_more_vram_than_the_largest_gpu_has_is_refused_once_that_is_known() -> None:
    assert job("before", min_vram_mb=30_000).pk
    Snapshot.objects.create(host="here", at=NOON, readings=[vram(1, 2).as_json()])

    (message,) = refused(min_vram_mb=30_000)["min_vram_mb"]

    assert "could never start" in message
    assert "24000" in message
    assert job("fits", min_vram_mb=24_000).pk


def test_services_are_those_that_are_looked_at() -> None:
    assert job(needs_services=["ollama", "gpu_service", "ollama"]).needs_services == [
        "gpu_service",
        "ollama",
    ]


def test_more_disk_than_there_is_is_refused() -> None:
    (message,) = refused(min_disk_mb=1_000_000_000)["min_disk_mb"]

    assert "could never start" in message
    Snapshot.objects.create(
        host="here",
        at=NOON,
        readings=[Reading("disk", State.OK, 1.0, facts={"total_bytes": 2_000_000_000}).as_json()],
    )
    assert "2000 MB" in refused(min_disk_mb=2001)["min_disk_mb"][0]
    assert job("fits", min_disk_mb=2000).pk


@pytest.mark.parametrize(
    ("schedule", "window", "finish_by"),
    [
        ("0 13 * * *", "22:00-06:00", "15:00"),
        ("0 3 * * mon-fri", "sat-sun 00:00-24:00", "06:00"),
        ("0 13 * * *", "20:00-22:00", "20:00"),
    ],
)
def test_times_at_which_nothing_would_ever_be_done_are_refused(
    schedule: str, window: str, finish_by: str
) -> None:
    fields: dict[str, Any] = {"schedule": schedule, "window": window, "finish_by": finish_by}

    (message,) = refused(**fields, job_type="cron")["finish_by"]

    assert "could never start" in message
    assert job("anyway", **fields, job_type="cron", gate_action="run").pk
    assert job("by-hand", window=window, finish_by=finish_by).pk


@pytest.mark.parametrize(
    ("schedule", "window", "finish_by"),
    [
        ("0 13 * * *", "22:00-06:00", "06:00"),
        ("* * * * *", "22:00-06:00", "15:00"),  # what is due after 15:00 is done by the next day
        ("0 3 * * *", "sat-sun 00:00-24:00", "06:00"),
        ("0 3 1 * *", "sun 00:00-24:00", "06:00"),
        ("0 13 * * *", "14:00-14:30", "15:00"),
    ],
)
def test_times_of_which_some_can_be_kept_are_allowed(
    schedule: str, window: str, finish_by: str
) -> None:
    assert job(job_type="cron", schedule=schedule, window=window, finish_by=finish_by).pk


@pytest.mark.parametrize("services", [["vram"], ["olama"], "ollama", [1], [["ollama"]], {"a": 1}])
def test_other_services_are_refused_with_those_that_are_known(services: Any) -> None:
    assert "gpu_service, ollama" in refused(needs_services=services)["needs_services"][0]


@pytest.mark.parametrize(("given", "kept"), [("6:00", "06:00"), ("23:59", "23:59"), ("", "")])
def test_a_time_to_be_done_by_is_kept_with_two_digits(given: str, kept: str) -> None:
    assert job(finish_by=given).finish_by == kept


@pytest.mark.parametrize("given", ["24:00", "6", "6:5", "soon", "12:60", "-1:00"])
def test_what_is_no_time_of_day_is_refused(given: str) -> None:
    assert "06:00" in refused(finish_by=given)["finish_by"][0]


def test_start_it_anyway_needs_a_time_at_which() -> None:
    (message,) = refused(gate_action="run", only_when_idle=True)["gate_action"]

    assert "skip it" in message
    assert job("waits", gate_action="run", max_wait_seconds=60).pk
    assert job("ends", gate_action="run", finish_by="06:00").pk


@pytest.mark.parametrize(
    "fields",
    [
        {"only_when_idle": True, "on_presence": "continue"},
        {"only_when_idle": False, "on_presence": "displace"},
        {"only_when_idle": True, "on_presence": "cancel"},
    ],
)
def test_idleness_and_making_way_go_together_in_any_way(fields: dict[str, Any]) -> None:
    assert job(**fields).pk


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_vram_mb", -1),
        ("min_vram_mb", 0),
        ("min_disk_mb", -5),
        ("max_load_percent", 101),
        ("max_load_percent", 0),
        ("on_presence", "flee"),
        ("gate_action", "hope"),
        ("ask_signal", "KILL"),
    ],
)
def test_what_is_out_of_range_is_refused(field: str, value: Any) -> None:
    assert field in refused(**{field: value})


def test_what_a_job_asks_for_is_what_its_runs_need() -> None:
    made = job(only_when_idle=True, min_vram_mb=8000, window="22-6", needs_services=["ollama"])

    assert Job.objects.get(pk=made.pk).needs() == {
        "idle": True,
        "vram_mb": 8000,
        "services": ["ollama"],
        "window": "22:00-06:00",
        "zone": "Europe/Berlin",
    }


# ── Rules for all jobs ───────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:11434",
        "https://gpu.example.org/ollama",
        "http://[::1]:17803",
        "http://10.0.0.7",
        "",
    ],
)
def test_addresses_of_services_are_taken(address: str) -> None:
    Policy(gpu_service_url=f"  {address}/ " if address else "").store(now=NOON, by="anna")

    assert Policy.current().gpu_service_url == address


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("localhost:11434", "http://"),
        ("ftp://localhost", "http://"),
        ("file:///etc/passwd", "http://"),
        ("http://", "host"),
        ("http://:11434", "host"),
        ("http://localhost:0", "65535"),
        ("http://localhost:65536", "65535"),
        ("http://localhost:abc", "65535"),
        ("http://localhost:-1", "65535"),
        ("http://[::1", "no host that there can be"),
        ("http://[::1]x:8080", "no host that there can be"),
        ("http://a..b", "no host that there can be"),
        ("http://.a", "no host that there can be"),
        ("http://-x", "no host that there can be"),
        ("http://x-:80", "no host that there can be"),
        ("http://localhost:99999999", "65535"),
        ("http://anna:secret@localhost", "password"),
        ("http://anna@localhost", "user"),
        ("http://localhost?x=1", "“?”"),
        ("http://localhost/#top", "“#”"),
        ("http://local host", "blanks"),
        ("http://localhost\\evil", "backslashes"),
        ("http://localhost:port", "65535"),
    ],
)
def test_wrong_addresses_are_refused_with_an_example(address: str, says: str) -> None:
    (message,) = refused_rules(ollama_url=address)["ollama_url"]

    assert says in message
    assert "http://localhost:11434" in message


def test_vram_is_freed_down_to_less_than_where_it_begins() -> None:
    assert "80" in refused_rules(vram_target_percent=80)["vram_target_percent"][0]
    Policy(vram_high_percent=90, vram_target_percent=80).store(now=NOON, by="anna")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slow_ms", 0),
        ("slow_ms", -1),
        ("vram_high_percent", 101),
        ("vram_high_percent", None),
        ("vram_target_percent", -1),
        ("disk_low_gb", -1),
        ("idle_after_seconds", 0),
        ("foreign_load_percent", 0),
    ],
)
def test_thresholds_out_of_range_are_refused(field: str, value: Any) -> None:
    assert field in refused_rules(**{field: value})


def test_quiet_hours_are_kept_in_one_way_of_writing() -> None:
    Policy(quiet_hours="Mo-Fr 22 bis 6").store(now=NOON, by="anna")

    assert Policy.current().quiet_hours == "mo-fr 22:00-06:00"


@pytest.mark.parametrize(
    ("hours", "says"),
    [
        ("22:00-22:00", "00:00-24:00"),
        ("00:00-24:00", "never end"),
        ("0-12, 12-24", "never end"),
        ("xyz 1-2", "weekday"),
    ],
)
def test_quiet_hours_that_never_begin_or_never_end_are_refused(hours: str, says: str) -> None:
    (message,) = refused_rules(quiet_hours=hours)["quiet_hours"]

    assert says in message


def test_folders_are_whole_paths_each_once_and_say_when_they_are_not_there(tmp_path) -> None:
    there, missing = str(tmp_path), str(tmp_path / "later")

    Policy(config_folders=[there, f" {missing} ", there, ""]).store(now=NOON, by="anna")

    rules = Policy.current()
    assert rules.config_folders == [there, missing]
    assert rules.missing_folders == [missing]


@pytest.mark.parametrize(
    "folders", ["/etc", ["etc"], ["~/x"], [1], {"a": 1}, ["/a\0b"], [f"/{n}" for n in range(101)]]
)
def test_what_is_no_list_of_folders_is_refused(folders: Any) -> None:
    assert refused_rules(config_folders=folders)["config_folders"]

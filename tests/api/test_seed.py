"""What the two founding documents promise of the interface, by their own words.

The texts below stand in those documents as they stand here.
"""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from daemon_app.api.original import LATER, RUN_FIELDS
from daemon_app.checks import CHECKS, Context, gpu_service, ollama
from daemon_app.demo import GpuService, Ollama
from daemon_app.models import Account, Job, Node, Policy, Run
from daemon_app.models.access import Role
from daemon_app.models.job import LATER_KINDS
from daemon_app.readings import State
from daemon_app.skills import SKILLS
from tests.api.caller import HOST, Caller
from tests.jobs import job, run

pytestmark = pytest.mark.django_db

# ── BACH WARTUNG (System-Jobs) ───────────────────────────────────────────────────────────────────
VIA_API = """
  POST /api/daemon/jobs
  {
    "name": "mein-job",
    "job_type": "interval",
    "schedule": "1h",
    "command": "python tools/mein_script.py"
  }
"""
JOB_TYPES = """
  interval    Periodisch (z.B. "30m", "1h", "24h")
  cron        Cron-Ausdruck (z.B. "0 3 * * *" = taeglich 03:00)
  manual      Nur manuell ausfuehrbar
  chain       Chain-Ausfuehrung (job.command = chain_id)
  event       Event-basiert (TODO)
"""
JOBS = """
  backup-daily   interval   24h         Taegliches Backup erstellen
  token-check    interval   30m         Token-Verbrauch pruefen
  cleanup        cron       0 4 * * *   Alte Logs bereinigen
"""
ADDRESS = "/daemon (http://localhost:8000/daemon)"
BUTTON = '- Wartung > "Neuer Job"'
TIME_LIMIT = "- Timeout pro Job konfigurierbar (Standard: 300s)"
RETRIES = "- Bei Fehler optional Retry (max_retries konfigurierbar)"
# ── The addresses behind its page ────────────────────────────────────────────────────────────────
TOGGLE = "PUT /api/daemon/jobs/{id}/toggle"
RUN = "POST /api/daemon/jobs/{id}/run"
RUNS = "GET /api/daemon/runs?job_id=&limit="
# ── Phase 0: Daemon Foundation ───────────────────────────────────────────────────────────────────
CHECKED = """
| GPU Service | `GET localhost:17803/api/health` | requests.get, 5s timeout |
| Ollama | `GET localhost:11434/api/tags` | requests.get, 3s timeout |
| VRAM | GPU Service `/api/health/vram` | Parse VRAMCoordinator status |
| Disk | `os.statvfs(exports_path)` | Warnung <10GB |
| Active Users | Import `user_activity` aus `sse_routes.py` | 5min Timeout |
"""
DID = """
| `health_check` | Alle 30s | Loggt Status, Warnung bei Problemen |
| `validate_configs` | Idle + taeglich | ConfigLoader.validate() ausfuehren |
| `cleanup_vram` | VRAM >80% | `POST /api/{backend}/unload` fuer aelteste Modelle |
"""
STATUS = "`GET /api/daemon/status` -> Aktueller Status, letzte Skill-Ausfuehrungen, Health-History."
IDLE = "and status.seconds_since_last_activity > 120"
UNDER = "/api/daemon/"


def rows(text: str) -> list[list[str]]:
    """Return the columns of each line."""
    found = [line.strip().strip("|").strip() for line in text.strip().splitlines()]
    return [re.split(r"\s+\|\s+|\s{2,}", line) for line in found]


def request(line: str, **numbers: int) -> tuple[str, str]:
    """Return method and path of a line such as `PUT /api/…/{id}/toggle`."""
    method, address = line.format(**numbers).split(" ", 1)
    assert address.startswith(UNDER)
    return method, address.removeprefix(UNDER)


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────
def test_the_body_of_the_document_creates_a_job_byte_by_byte(admin: Caller) -> None:
    line, body = VIA_API.strip().split("\n", 1)

    answer = admin(*request(line), body)

    assert answer.status_code == 201
    told, wanted = answer.json(), json.loads(body)
    assert {name: told[name] for name in wanted} == wanted
    assert (told["id"], told["status"]) == (Job.objects.get().pk, "created")
    assert told["timeout_seconds"] == int(re.findall(r"(\d+)s", TIME_LIMIT)[0])
    assert told["next_run"] == told["next_due_at"] is not None


def kinds_with_schedules() -> list[tuple[str, str]]:
    found = []
    for kind, meaning in rows(JOB_TYPES):
        if kind not in LATER_KINDS:
            found += [(kind, schedule) for schedule in re.findall(r'"([^"]+)"', meaning) or [""]]
    return found


@pytest.mark.parametrize(("kind", "schedule"), kinds_with_schedules())
def test_each_kind_of_job_takes_the_schedules_named_for_it(
    admin: Caller, kind: str, schedule: str
) -> None:
    body = {"name": "a", "job_type": kind, "schedule": schedule, "command": "true"}

    answer = admin("POST", "jobs", body)

    assert answer.status_code == 201
    assert answer.json()["schedule"] == schedule
    assert (answer.json()["next_run"] is None) == (kind == "manual")


def test_the_kinds_that_come_later_are_named_as_that(admin: Caller) -> None:
    named = [kind for kind, _meaning in rows(JOB_TYPES)]
    assert set(named) == {*LATER_KINDS, "interval", "cron", "manual"}

    for kind in LATER_KINDS:
        answer = admin("POST", "jobs", {"name": "a", "job_type": kind, "command": "7"})

        assert answer.status_code == 400
        (message,) = answer.json()["error"]["fields"]["job_type"]
        assert f"„{kind}“" in message
        assert "noch nicht" in message
        assert "interval" in message
    assert not Job.objects.exists()


@pytest.mark.parametrize(("name", "kind", "schedule", "meaning"), rows(JOBS))
def test_its_examples_are_jobs(
    admin: Caller, name: str, kind: str, schedule: str, meaning: str
) -> None:
    body = {"name": name, "job_type": kind, "schedule": schedule, "description": meaning}

    answer = admin("POST", "jobs", body | {"command": "true"})

    assert answer.status_code == 201
    assert {field: answer.json()[field] for field in body} == body
    assert Job.objects.get().next_due_at > timezone.now()


def test_retries_are_there_where_they_are_wanted(admin: Caller) -> None:
    assert "max_retries" in RETRIES
    told = [
        admin("POST", "jobs", {"name": f"n{n}", "schedule": "0 4 * * *", "command": "true"} | more)
        for n, more in enumerate(({}, {"max_retries": 2}))
    ]

    assert [one.json()["retry_on_fail"] for one in told] == [False, True]


def test_jobs_are_listed_with_their_count_and_next_start(viewer: Caller) -> None:
    job("b", job_type="interval", schedule="1h", now=timezone.now())
    job("c", job_type="interval", schedule="1h", is_active=False)

    told = viewer("GET", "jobs").json()

    assert told["count"] == len(told["jobs"]) == 2
    assert [one["next_run"] is None for one in told["jobs"]] == [False, True]
    # What the page of the original reads of each.
    for one in told["jobs"]:
        assert {"id", "name", "description", "job_type", "schedule", "is_active"} <= set(one)


def test_toggle_switches_to_the_other_state_and_says_which(operator: Caller) -> None:
    there = job("a", job_type="interval", schedule="1h")

    said = [operator(*request(TOGGLE, id=there.pk)) for _n in range(2)]

    assert [one.status_code for one in said] == [200, 200]
    assert [one.json()["is_active"] for one in said] == [False, True]


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_job_is_run_at_once_also_when_it_is_switched_off(operator: Caller) -> None:
    there = job(is_active=False)

    answer = operator(*request(RUN, id=there.pk))

    assert answer.status_code == 202
    told = answer.json()
    assert (told["status"], told["job_id"]) == ("started", there.pk)
    assert Run.objects.get().pk == told["id"]


def test_runs_are_told_by_their_old_names_beside_ours(viewer: Caller) -> None:
    now = timezone.now()
    there, other = job("backup"), job("other")
    run(other)
    begun = {"started_at": now, "ended_at": now + timedelta(seconds=2)}
    run(there, state="succeeded", exit_code=0, last_line="hi", trigger="schedule", **begun)
    run(there, state="failed", reason_code="exit", reason_facts={"code": 7}, trigger="api", **begun)
    for state in ("timed_out", "cancelled", "lost"):
        run(there, state=state, **begun)
    run(there)
    method, path = request(RUNS)

    whole = viewer(method, path.replace("job_id=", f"job_id={there.pk}").replace("limit=", "l=2"))
    told = viewer(
        method, path.replace("job_id=", f"job_id={there.pk}").replace("limit=", "limit=6")
    ).json()

    assert whole.status_code == 400  # a slip does not look like success
    assert told["count"] == len(told["runs"]) == 6
    assert {one["job_id"] for one in told["runs"]} == {there.pk}
    results = [None, "lost", "cancelled", "timeout", "failed", "success"]
    assert [one["result"] for one in told["runs"]] == results
    failed, good = told["runs"][-2:]
    assert set(RUN_FIELDS) <= set(good)
    assert (good["name"], good["output"], good["error"]) == ("backup", "hi", None)
    assert good["finished_at"] == good["ended_at"]
    assert good["duration_seconds"] == 2
    assert good["triggered_by"] == "schedule"
    assert (failed["triggered_by"], failed["error"]) == ("manual", failed["reason"])
    assert "7" in failed["error"]
    assert told["runs"][0]["error"] is told["runs"][0]["finished_at"] is None


def test_of_many_runs_so_many_are_told_as_were_asked_for(viewer: Caller) -> None:
    there = job()
    numbers = [run(there).pk for _n in range(3)]
    method, path = request(RUNS)

    told = viewer(method, path.replace("job_id=&", "") + "2").json()

    assert [one["id"] for one in told["runs"]] == numbers[:0:-1]
    assert told["count"] == 2


# ── Start and stop ───────────────────────────────────────────────────────────────────────────────
def alive() -> None:
    now = timezone.now()
    Node.objects.create(host="hal", pid=1, started_at=now, seen_at=now)


def test_stop_lets_nothing_start_and_start_lets_it_go_on(operator: Caller) -> None:
    alive()
    there = job()

    said = [operator("POST", word).json()["status"] for word in ("stop", "stop")]
    refused = operator(*request(RUN, id=there.pk))
    said += [operator("POST", word).json()["status"] for word in ("start", "start")]

    assert said == ["stopped", "not_running", "starting", "already_running"]
    assert refused.json()["error"]["code"] == "held"
    assert operator(*request(RUN, id=there.pk)).status_code == 202


def test_stop_does_not_let_go_on_what_was_ended(operator: Caller) -> None:
    Policy.set_hold("stop", now=timezone.now(), by="anna")

    operator("POST", "stop")

    assert Policy.current().hold == "stop"


def test_a_daemon_that_is_not_there_is_not_said_to_have_started(operator: Caller) -> None:
    Policy.set_hold("drain", now=timezone.now(), by="anna")

    answer = operator("POST", "start")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "daemon_away"
    assert "bach daemon start --bg" in answer.json()["error"]["message"]
    assert Policy.current().hold == "drain"


@pytest.mark.parametrize("word", ["start", "stop"])
def test_start_and_stop_take_nothing_and_are_not_for_viewers(
    viewer: Caller, operator: Caller, word: str
) -> None:
    alive()

    assert viewer("POST", word).status_code == 403
    assert operator("POST", word, {"now": True}).status_code == 400
    assert operator("GET", word).status_code == 405
    assert Policy.current().hold == ""


# ── What comes later ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("address", LATER)
def test_what_comes_later_says_so_to_who_is_signed_in(
    admin: Caller, anonymous: Caller, address: str
) -> None:
    for method, path in (("GET", address), ("POST", f"{address}/1/run")):
        answer = admin(method, path)

        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] == "not_in_this_version"
        assert "noch keine" in error["message"]
        assert anonymous(method, path).status_code == 401


def test_the_table_for_people_names_it_all() -> None:
    table = (Path(settings.BASE_DIR) / "docs" / "compatibility.md").read_text()

    for address in LATER:
        assert f"/api/daemon/{address}" in table
    for word in (*LATER_KINDS, *RUN_FIELDS, "retry_on_fail", "next_run"):
        assert f"`{word}`" in table


def test_what_differs_is_refused_and_never_taken_for_something_else(admin: Caller) -> None:
    body = json.loads(VIA_API.strip().split("\n", 1)[1])

    refused = [
        admin("POST", "jobs", body | {"description": None}),
        admin("POST", "jobs", body | {"schedule": "60"}),
        admin("POST", "jobs", {name: body[name] for name in body if name != "job_type"}),
        admin("POST", "jobs", body | {"retry_on_fail": True}),
    ]

    fields = [answer.json()["error"]["fields"] for answer in refused]
    assert [[*one] for one in fields] == [
        ["description"],
        ["schedule"],
        ["schedule"],
        ["retry_on_fail"],
    ]
    assert "60m" in fields[1]["schedule"][0]
    assert admin("POST", "kill-all").json()["error"]["code"] == "not_found"
    assert not Job.objects.exists()


# ── The page ─────────────────────────────────────────────────────────────────────────────────────
def test_the_page_is_where_it_was_and_has_the_button(client: Client) -> None:
    path, address = re.fullmatch(r"(\S+) \((\S+)\)", ADDRESS).groups()
    client.force_login(Account.objects.create(username="anna", role=Role.ADMIN))

    page = client.get(path, follow=True, headers={"Host": HOST})

    assert address == f"http://localhost:8000{path}"
    assert page.status_code == 200
    assert page.redirect_chain == [("/daemon/", 301)]
    assert re.findall(r'"(.+)"', BUTTON)[0] in page.content.decode()


# ── Phase 0 ──────────────────────────────────────────────────────────────────────────────────────
def test_what_is_looked_at_is_told_by_status_with_history_and_skills(viewer: Caller) -> None:
    line = re.findall(r"`(.+?)`", STATUS)[0]

    told = viewer(*request(line)).json()

    assert [name.lower().replace(" ", "_") for name, *_more in rows(CHECKED)] == list(CHECKS)
    assert set(told["health"]) == set(told["health_history"]["checks"]) == {*CHECKS}
    assert {"idle", "idle_reasons", "health_history", "running"} <= set(told)
    named = [name.strip("`") for name, *_more in rows(DID)]
    assert {skill["name"] for skill in told["skills"]} == {*named} == {*SKILLS}
    assert all("last_run" in skill for skill in told["skills"])


def test_the_services_are_asked_where_and_as_long_as_it_says(tmp_path: Path) -> None:
    (_n, gpu, gpu_limit), (_m, llm, llm_limit), (_k, memory, _how), (_d, _of, disk), _users = rows(
        CHECKED
    )
    with GpuService() as service, Ollama() as model:
        rules = Policy(gpu_service_url=service.url, ollama_url=model.url)
        context = Context(timezone.now(), rules, tmp_path, None)
        found = [CHECKS[name].look(context) for name in ("gpu_service", "ollama", "vram")]
        asked = [path for _method, path, _body in [*service.requests, *model.requests]]

    assert [reading.state for reading in found] == [State.OK, State.OK, State.OK]
    for line in (gpu, llm):
        assert line.strip("`").partition("/")[2] in [path.strip("/") for path in asked]
    assert memory.split("`")[1] in asked
    assert f"{gpu_service.SECONDS:g}s" in gpu_limit
    assert f"{ollama.SECONDS:g}s" in llm_limit
    assert f"<{Policy.current().disk_low_gb}GB" in disk
    for line, default in ((gpu, "17803"), (llm, "11434")):
        assert f"localhost:{default}/" in line
    assert settings.GPU_SERVICE_URL.endswith(":17803")
    assert settings.OLLAMA_URL.endswith(":11434")


def test_idle_and_full_begin_where_it_says() -> None:
    policy = Policy.current()

    assert IDLE.endswith(f"> {policy.idle_after_seconds}")
    assert f"VRAM >{policy.vram_high_percent}%" in DID
    assert f"Alle {settings.TICK_SECONDS}s" in DID

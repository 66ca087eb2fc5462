"""What the two founding documents promise of the command line and the files, by their own words.

The texts below stand in those documents as they stand here.
"""

import json
import re
import shutil
import signal
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from daemon_app import cli
from daemon_app.cli.original import LATER, LATER_OF_DAEMON
from daemon_app.cli.outcome import Code
from daemon_app.demo import GpuService, Ollama
from tests.cli.bach import Bach, lines
from tests.cli.conftest import end_all
from tests.cli.test_daemon import until
from tests.stack import free_port

# ── BACH WARTUNG (System-Jobs) ───────────────────────────────────────────────────────────────────
IN_FRONT = "bach daemon start          Wartungs-Daemon im Vordergrund starten (Ctrl+C beendet)"
BEHIND = "bach daemon start --bg     Wartungs-Daemon im Hintergrund starten"
STOP = "bach daemon stop           Laufenden Daemon stoppen"
STATUS = "bach daemon status         Status und letzte Laeufe anzeigen"
JOBS = "bach daemon jobs           Alle definierten Jobs auflisten"
RUN = "bach daemon run <ID>       Job manuell ausfuehren"
LOGS = "bach daemon logs [N]       Letzte N Log-Zeilen anzeigen (Standard: 20)"
GUI = "bach gui start              Web-Dashboard mit Job-Verwaltung"
SESSIONS = """
  bach daemon session start [--profile NAME]   Session-Daemon starten
  bach daemon session stop                     Session-Daemon stoppen
  bach daemon session status                   Session-Status anzeigen
  bach daemon session trigger [--profile NAME] Session manuell ausloesen
  bach daemon session profiles                 Verfuegbare Profile auflisten
"""
TOPICS = """
  bach --help backup          Backup-System
  bach --help dirscan            Directory Scanner
  bach --help recurring       Wiederkehrende Tasks (keine GUI)
  bach --help prompt-generator  Prompt-Management (GUI geplant)
"""
A_COMMAND = '"bach backup create" taeglich um 03:00'
FILES = """
  data/logs/daemon.log                     Wartungs-Aktivitaeten
  data/daemon.pid                          PID-Datei (wenn laufend)
"""
LATER_FILE = "data/logs/session_daemon.log"
BODY = """
  {
    "name": "mein-job",
    "job_type": "interval",
    "schedule": "1h",
    "command": "python tools/mein_script.py"
  }
"""
# ── Phase 0: Daemon Foundation ───────────────────────────────────────────────────────────────────
JOURNAL = "exports/experience/daemon_log.jsonl"
LINE = (
    '{"timestamp": "...", "level": "info|warn|error", "skill": "health_check", '
    '"message": "...", "data": {...}}'
)
CURL = "`curl localhost:17802/api/daemon/status` -> JSON mit Health + Idle-Status"


def words(line: str) -> list[str]:
    """Return the arguments of a command that a line describes."""
    command = re.split(r"\s{2,}|\] (?=[A-Z])", line.strip())[0]
    return re.sub(r"[\[\]<>]", "", command).split()[1:]


def usual(line: str) -> list[str]:
    """Return them without what may be left out."""
    return words(re.sub(r"\[.*?\]", "", line))


# ── What this version has not ────────────────────────────────────────────────────────────────────
def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command in this process that is refused as called wrongly; return what it said."""
    assert cli.run(arguments) == Code.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


@pytest.mark.parametrize("line", SESSIONS.strip().splitlines())
def test_sessions_are_said_to_come_later(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words(line)[:2] == ["daemon", "session"]

    for arguments in (words(line), usual(line), [*usual(line), "--help"]):
        told = said(arguments, capsys)

        assert "startet noch keine Sitzungen" in told
        assert "bach daemon --help" in told


@pytest.mark.parametrize("line", TOPICS.strip().splitlines())
def test_a_topic_that_this_version_has_not_is_said_to_be_none(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(words(line), capsys)

    assert "Diese Version" in told
    assert "Aufruf" not in told


def test_the_command_of_its_own_example_fails_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = re.findall(r'"(.+)"', A_COMMAND)

    assert "macht noch keine Sicherungen" in said(command.split()[1:], capsys)


def test_the_table_for_people_names_each() -> None:
    table = (Path(settings.BASE_DIR) / "docs" / "compatibility.md").read_text()

    for word in LATER:
        assert re.search(rf"`bach (--help )?{word}`", table)
    for word in LATER_OF_DAEMON:
        assert f"`bach daemon {word} " in table


# ── Help ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("topic", "command"),
    [
        ("daemon", "daemon"),
        ("wartung", "daemon"),
        ("gui", "gui"),
        ("import", "import"),
        ("daemon run", "daemon run"),
    ],
)
def test_help_on_a_topic_is_the_help_of_the_command(
    topic: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--help", "-h"):
        assert cli.run([option, *topic.split()]) == Code.OK
        asked = capsys.readouterr().out
        assert cli.run([*command.split(), "--help"]) == Code.OK

        assert asked == capsys.readouterr().out
        assert asked.startswith(f"Aufruf: bach {command} ")


def test_a_topic_that_never_was_is_a_slip(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nonsense" in said(["--help", "nonsense"], capsys)


# ── The daemon, from its start to its end ────────────────────────────────────────────────────────
@dataclass
class Running:
    """A daemon as the document starts it, the services it looks at, and the pages."""

    bach: Bach
    gpu: GpuService
    pages: str = ""

    def status(self) -> dict[str, Any]:
        """Ask as the document does; anybody on this machine may."""
        (command,) = re.findall(r"`curl (\S+)`", CURL)
        address = f"http://{command}".replace("localhost:17802", self.pages)
        with urllib.request.urlopen(address, timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def journal(self) -> list[dict[str, Any]]:
        """Return the lines of the journal."""
        path = self.bach.data / JOURNAL
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def noted(self, skill: str, *levels: str) -> bool:
        """Return whether a skill has written a line of one of these levels."""
        return any(line["skill"] == skill and line["level"] in levels for line in self.journal())


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="bach-cli-", dir="/tmp"))
    port = str(free_port())
    with GpuService() as gpu, Ollama() as ollama:
        bach = Bach(
            folder / "data",
            BACH_PORT=port,
            BACH_TICK_SECONDS="1",
            GPU_SERVICE_URL=gpu.url,
            OLLAMA_URL=ollama.url,
        )
        bach.python(
            "from django.utils import timezone\n"
            "from daemon_app.cli import up; up.prepare()\n"
            "from daemon_app.models import Job, Policy\n"
            "now = timezone.now()\n"
            "Job(name='greet', job_type='manual', command='echo hello').store(now=now, by='anna')\n"
            # Whatever else this machine does.
            "Policy(pk=1, idle_after_seconds=1, foreign_load_percent=None, watch_logins=False,"
            " watch_gpu=False).store(now=now, by='anna')"
        )
        assert bach(*words(BEHIND)).returncode == Code.OK
        with bach.open(*words(GUI)) as pages:
            assert f"http://localhost:{port}/daemon" in next(lines(pages))
            yield Running(bach, gpu, f"localhost:{port}")
            pages.send_signal(signal.SIGINT)
            pages.communicate(timeout=60)
        stopped = bach(*words(STOP))
        end_all(bach)
    assert stopped.returncode == Code.OK
    assert not (bach.data / "daemon.pid").exists()
    shutil.rmtree(folder, ignore_errors=True)


def becomes(condition: Callable[[], object], what: str) -> None:
    until(condition, what, seconds=60)


def test_the_commands_of_the_document_do_what_it_says(running: Running) -> None:
    bach = running.bach

    listed = bach(*words(JOBS)).stdout
    number = next(line.split()[0] for line in listed.splitlines() if " greet " in line)
    started = bach(*[number if word == "ID" else word for word in words(RUN)])
    becomes(lambda: "Fertig" in bach(*words(STATUS)).stdout, "the run is among the last ones")

    assert started.returncode == Code.OK
    assert "greet ist gestartet" in started.stdout
    assert words(LOGS) == ["daemon", "logs", "N"]
    log = (bach.data / "logs" / "daemon.log").read_text().splitlines()
    assert bach(*usual(LOGS)).stdout.splitlines()[-1] in log
    assert len(bach("daemon", "logs", "1").stdout.splitlines()) == 1


def test_a_program_of_the_original_needs_a_token_and_nothing_else(running: Running) -> None:
    token = running.bach("daemon", "token", "create", "--name", "old", "--role", "admin").stdout

    def ask(line: str, body: str = "") -> Any:
        method, path = line.split()
        headers = {"Authorization": f"Bearer {token.strip()}"}
        if body:
            headers["Content-Type"] = "application/json"
        asked = urllib.request.Request(
            f"http://{running.pages}{path}", body.encode() or None, headers, method=method
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return json.load(answer)

    made = ask("POST /api/daemon/jobs", BODY)
    off = ask(f"PUT /api/daemon/jobs/{made['id']}/toggle")
    started = ask(f"POST /api/daemon/jobs/{made['id']}/run")
    address = f"GET /api/daemon/runs?job_id={made['id']}&limit=1"
    becomes(lambda: ask(address)["runs"][0]["result"], "the run has ended")

    assert (made["status"], off["is_active"]) == ("created", False)
    assert (started["status"], started["job_id"]) == ("started", made["id"])
    told = ask(address)
    assert told["count"] == 1
    (run,) = told["runs"]
    # There is no such script here.
    assert (run["name"], run["result"], run["triggered_by"]) == ("mein-job", "failed", "manual")
    assert "mein_script.py" in run["output"]
    assert run["finished_at"] > run["started_at"]


def test_its_files_are_where_it_says(running: Running) -> None:
    for line in FILES.strip().splitlines():
        assert (running.bach.data.parent / line.split()[0]).is_file()
    assert not (running.bach.data.parent / LATER_FILE).exists()
    pid = json.loads(running.bach("daemon", "status", "--json").stdout)["pid"]
    assert (running.bach.data / "daemon.pid").read_text().split()[0] == str(pid)


def test_what_is_seen_is_noted_and_told(running: Running) -> None:
    """The document's own verification: five steps, in its order."""
    becomes(lambda: running.noted("health_check", "info"), "1: the journal has health checks")
    for line in running.journal():
        assert list(line) == re.findall(r'"(\w+)": (?:"|\{\.)', LINE)
        assert line["level"] in re.findall(r'"level": "(.+?)"', LINE)[0].split("|")

    told = running.status()

    assert {"idle", "health", "health_history", "skills"} <= set(told), "2: health and idle"
    assert set(told["health"]) >= {"gpu_service", "ollama", "vram", "disk", "active_users"}

    running.gpu.mode("down")
    becomes(lambda: running.noted("health_check", "warn", "error"), "3: a warning")
    running.gpu.mode("ok")

    running.gpu.load("sdxl", vram_mb=6000)
    running.gpu.use("sdxl")
    becomes(lambda: running.status()["idle"] is False, "4: busy while a model is used")
    running.gpu.release("sdxl")

    becomes(lambda: running.status()["idle"] is True, "5: idle again")
    becomes(lambda: running.noted("validate_configs", "info", "warn", "error"), "5: it looks")


def test_in_front_it_runs_until_ctrl_c(folder: Path) -> None:
    bach = Bach(folder / "data")
    try:
        with bach.open(*words(IN_FRONT)) as process:
            assert "Der Daemon läuft" in next(lines(process))
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)

        assert process.returncode == Code.OK
        assert not (bach.data / "daemon.pid").exists()
    finally:
        end_all(bach)

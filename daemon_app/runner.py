"""The running runs of a host: claim, launch, adopt, stop, and write their ends in batches."""

import contextlib
import hashlib
import heapq
import itertools
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction

from daemon_app import processes, supervisor
from daemon_app.models import Run
from daemon_app.models.run import Ending, folder_of

log = logging.getLogger(__name__)

# A bell may be lost: folders and rows are looked at this often while anything runs.
LOOK_EVERY = 5.0  # seconds
WISHES_EVERY = 1.0  # seconds between looks for stop wishes on the rows of running runs
REMOVED_A_TURN = 20
BEGINS_WITHIN = 20.0  # seconds; a launch that has left no trace by then is lost
PER_CLAIM = 200
NO_RUN = 0  # a number that no run has
MOST_PREPARED = 1000  # launches made ready before their time
# A sleep ends late by up to a millisecond, and after it the processor's caches are cold: the last
# moment before a start is spent awake.
AWAKE = 0.003  # seconds
WARM = 1

# What a command gets from our own environment; everything else of ours stays ours.
ALLOWED = (  # noqa: SIM905 - twenty lines otherwise
    "HOME LANG LANGUAGE LOGNAME SHELL TERM TMPDIR TZ USER XDG_RUNTIME_DIR DISPLAY SSH_AUTH_SOCK "
    "DBUS_SESSION_BUS_ADDRESS CUDA_VISIBLE_DEVICES CUDA_HOME LD_LIBRARY_PATH http_proxy "
    "https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE"
).split()
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Held:
    """A run of ours that has not ended: under which fence, and since when it is ours."""

    fence: int
    since: float  # on the monotonic clock
    soft_timeout: float | None = None  # seconds after which the run's length is remarked on


@dataclass(frozen=True)
class Prepared:
    """What a supervisor is to be told of a queued run, read before it is due."""

    order: tuple[int, float, int]  # what goes first: priority, due instant, number
    launch: dict[str, Any]
    error: str = ""  # why there is none


class Runner:
    """Runs the runs of one host. Lives in the daemon's one thread; nothing here blocks for long.

    The caller waits until `runner` rings or `patience()` is over, then calls `turn(messages)`.
    """

    def __init__(self, *, host: str, runtime: Path, max_parallel: int) -> None:
        self.owner = host
        self.runtime = runtime
        self.max_parallel = max_parallel
        self.launcher = supervisor.Launcher(runtime, warm=WARM)
        self._waiting: list[tuple[float, int]] = []  # a heap of (due instant, run id)
        self._known: set[int] = set()  # ids in the heap
        self._unprepared: set[int] = set()  # those for which no launch is ready
        self._prepared: dict[int, Prepared] = {}
        self._held: dict[int, Held] = {}  # run id → what runs here
        self._endings: dict[int, Ending] = {}  # ends that are still to be written
        self._forgotten: set[int] = set()  # runs whose rows are gone, and that still live
        self._doomed: list[Path] = []  # folders to remove when there is time
        # Due instants are wall time; how long we wait between looks is not.
        self._look_at = 0.0
        self._wishes_at = 0.0
        self._retry_at = 0.0

    # ── One turn ─────────────────────────────────────────────────────────────────────────────────
    def turn(self, messages: Iterable[bytes]) -> None:
        """Take in what was rung, start what is due, write what has ended."""
        for message in messages:
            self._take_in(message)
        self._await_start()
        now = time.time()
        # Starts go before ends: a command waits for its second, an ended one for nothing.
        self._start_due(now)
        self._write_endings()
        self._remove_some()
        if self._unprepared:
            room = max(MOST_PREPARED - len(self._prepared), 0)
            self._prepare(list(itertools.islice(self._unprepared, min(room, PER_CLAIM))))
        clock = time.monotonic()
        if self._held and clock >= self._wishes_at:
            self._wishes_at = clock + WISHES_EVERY
            self._heed_wishes()
        if clock >= self._look_at:
            self._look_at = clock + LOOK_EVERY
            self._look()

    def patience(self) -> float:
        """Return how many seconds the next turn may wait when nobody rings."""
        clock = time.monotonic()
        waits = [60.0]
        if self._waiting and len(self._held) < self.max_parallel:
            waits.append(self._waiting[0][0] - AWAKE - time.time())
        if self._endings:
            waits.append(self._retry_at - clock)
        if self._held:
            waits += [self._wishes_at - clock, self._look_at - clock]
        if self._doomed:
            waits.append(0.01)
        return max(min(waits), 0.0)

    def close(self) -> None:
        """Let go: what runs goes on without us and is adopted at the next start."""
        self._write_endings()
        self.launcher.close()

    # ── Messages ─────────────────────────────────────────────────────────────────────────────────
    def _take_in(self, message: bytes) -> None:
        try:
            told = json.loads(message)
            kind = told["op"]
            if kind == "start":
                for run_id, due in told["runs"]:
                    self._expect(int(run_id), float(due))
            elif kind == "stop":
                self._stop(int(told["run"]))
            elif kind == "ended":
                self._ended(int(told["run"]), told["result"])
            elif kind == "forget":
                for run_id in told["runs"]:
                    self._forget(int(run_id))
        except (ValueError, KeyError, TypeError):
            # Bells are hints; a torn one costs nothing but the next look.
            log.warning("a message could not be read: %.200r", message)

    def _expect(self, run_id: int, due: float) -> None:
        if run_id not in self._known and run_id not in self._held:
            self._known.add(run_id)
            self._unprepared.add(run_id)
            heapq.heappush(self._waiting, (due, run_id))

    # ── Starting ─────────────────────────────────────────────────────────────────────────────────
    def _prepare(self, run_ids: list[int]) -> None:
        """Make launches ready: what a run is to do is settled when its row is written."""
        for run in Run.objects.filter(pk__in=run_ids):
            order = (-run.priority, run.due_at.timestamp(), run.pk)
            try:
                ready = Prepared(order, specification(run, self.runtime))
            except Exception as error:
                log.exception("run %s can't be described", run.pk)
                ready = Prepared(order, {}, repr(error))
            self._prepared[run.pk] = ready
        self._unprepared.difference_update(run_ids)

    def _await_start(self) -> None:
        """Wait out the last moment before a due instant, warming up by claiming nothing."""
        if self._waiting and len(self._held) < self.max_parallel:
            due = self._waiting[0][0]
            if due - AWAKE <= time.time() < due:
                with contextlib.suppress(DatabaseError):
                    Run.objects.claim([NO_RUN], owner=self.owner, now=_instant(due))
                while time.time() < due:
                    pass

    def _start_due(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            free = min(self.max_parallel - len(self._held), PER_CLAIM)
            if free <= 0:
                return
            batch: list[tuple[float, int]] = []
            while self._waiting and self._waiting[0][0] <= now and len(batch) < free:
                batch.append(heapq.heappop(self._waiting))
            ids = [run_id for _due, run_id in batch]
            try:
                self._claim(ids)
            except DatabaseError:
                log.exception("runs could not be claimed; trying again in a second")
                for _due, run_id in batch:
                    heapq.heappush(self._waiting, (now + 1, run_id))
                return
            self._known.difference_update(ids)
            self._unprepared.difference_update(ids)
            for run_id in ids:
                self._prepared.pop(run_id, None)

    def _claim(self, ids: list[int]) -> None:
        """Claim runs and launch those that are ours."""
        fences: dict[int, int] = {}
        with transaction.atomic():
            # Asked for before the claim asks for the pages' bell: the commands go first.
            transaction.on_commit(lambda: self._launch_all(fences))
            fences |= Run.objects.claim(ids, owner=self.owner, now=_instant(time.time()))
            if late := [run_id for run_id in fences if run_id not in self._prepared]:
                self._prepare(late)

    def _launch_all(self, fences: dict[int, int]) -> None:
        # Held before the first launch: what an error leaves out is given up by a later look.
        for run_id, fence in fences.items():
            soft = self._prepared[run_id].launch.get("soft_timeout")
            self._held[run_id] = Held(fence, time.monotonic(), soft)
        for run_id in sorted(fences, key=lambda run_id: self._prepared[run_id].order):
            self._launch(run_id, fences[run_id], self._prepared[run_id])

    def _launch(self, run_id: int, fence: int, prepared: Prepared) -> None:
        try:
            if prepared.error:
                raise supervisor.LaunchError(prepared.error)  # noqa: TRY301 - one place says so
            self.launcher.launch(prepared.launch | {"fence": fence})
        except (OSError, supervisor.LaunchError) as error:
            log.exception("run %s could not be launched", run_id)
            self._end(
                Ending(
                    run_id=run_id,
                    fence=fence,
                    state=Run.State.FAILED,
                    ended_at=_instant(time.time()),
                    reason_code="start_failed",
                    reason_facts={"error": str(error)[:200]},
                )
            )

    # ── Stopping ─────────────────────────────────────────────────────────────────────────────────
    def _stop(self, run_id: int) -> None:
        if run_id in self._held:
            try:
                supervisor.request_stop(folder_of(run_id))
            except OSError:
                # Said again by the row, a second later.
                log.exception("run %s could not be asked to stop", run_id)

    def _heed_wishes(self) -> None:
        """Stop runs whose row says so, or is gone, although no bell did."""
        try:
            rows = Run.objects.filter(pk__in=list(self._held))
            wishes = dict(rows.values_list("pk", "stop_requested_at"))
        except DatabaseError:
            log.warning("the database did not answer a look for stop wishes")
            return
        for run_id in list(self._held):
            if run_id not in wishes:
                self._forget(run_id)
            elif wishes[run_id] is not None:
                self._stop(run_id)

    # ── Ending ───────────────────────────────────────────────────────────────────────────────────
    def _ended(self, run_id: int, result: dict[str, Any]) -> None:
        held = self._held.get(run_id)
        if held and held.fence == result["fence"]:
            self._end(ending(run_id, result, held.soft_timeout))

    def _end(self, end: Ending) -> None:
        self._held.pop(end.run_id, None)
        self._endings[end.run_id] = end
        self._retry_at = 0.0

    def _write_endings(self) -> None:
        if not self._endings or time.monotonic() < self._retry_at:
            return
        try:
            Run.objects.finish(self._endings.values())
        except DatabaseError:
            # The results are in their folders too: nothing is lost, only late.
            log.exception("%s ends could not be written; trying again", len(self._endings))
            self._retry_at = time.monotonic() + 2
            return
        for run_id in self._forgotten & self._endings.keys():
            self._remove_folder(run_id)
        self._endings.clear()

    # ── What bells did not tell ──────────────────────────────────────────────────────────────────
    def adopt(self) -> None:
        """Take over what ran here before this daemon: watch the living, finish the ended.

        A run whose supervisor is gone is lost; what is left of its processes is ended.
        """
        for run in Run.objects.running():
            # By the folder, too: a host that was given another name is still this host.
            if run.owner == self.owner or run.folder.exists():
                soft = run.definition.get("soft_timeout_seconds")
                self._held[run.pk] = Held(run.fence, 0.0, soft)
        self._look()
        for run_id, due in Run.objects.queued().values_list("pk", "due_at"):
            self._expect(run_id, due.timestamp())
        self._remove_orphaned_folders()

    def _look(self) -> None:
        now = time.monotonic()
        lost: list[int] = []
        for run_id, held in list(self._held.items()):
            seen = supervisor.look(folder_of(run_id))
            if seen.kind == "ended" and seen.result and seen.result["fence"] == held.fence:
                self._end(ending(run_id, seen.result, held.soft_timeout))
            elif seen.kind == "gone" or (
                seen.kind == "absent"
                and now - held.since > BEGINS_WITHIN
                and self._never_begins(run_id)
            ):
                lost.append(run_id)
        if lost:
            self._give_up(lost)
        self._write_endings()

    def _never_begins(self, run_id: int) -> bool:
        """Make sure that a launch which was lost on its way does not begin later after all."""
        supervisor.request_stop(folder_of(run_id), "kill")
        return supervisor.look(folder_of(run_id)).kind == "absent"

    def _give_up(self, run_ids: list[int]) -> None:
        rows = Run.objects.running().in_bulk(run_ids)
        for run_id in run_ids:
            seen = supervisor.look(folder_of(run_id))
            left = processes.end_marked(run_id, run_token(), seen.session)
            log.error("run %s lost its supervisor; %s processes ended", run_id, left)
            if seen.kind != "gone":
                code = "never_begun"
            elif seen.identity and seen.identity.boot != processes.boot_id():
                code = "restarted"
            else:
                code = "supervisor_gone"
            if run_id in rows:
                rows[run_id].give_up(now=_instant(time.time()), code=code)
            self._held.pop(run_id, None)
            if run_id in self._forgotten:
                self._remove_folder(run_id)

    def _forget(self, run_id: int) -> None:
        self._forgotten.add(run_id)
        if run_id in self._held:
            self._stop(run_id)
        else:
            self._remove_folder(run_id)

    def _remove_folder(self, run_id: int) -> None:
        self._forgotten.discard(run_id)
        self._doomed.append(folder_of(run_id))

    def _remove_some(self) -> None:
        """Remove a few folders: a job with many runs must not hold up a start."""
        for folder in self._doomed[:REMOVED_A_TURN]:
            shutil.rmtree(folder, ignore_errors=True)
            # A supervisor may be about to make its folder beside it.
            if not any(folder_of(pk).parent == folder.parent for pk in self._held):
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()
        del self._doomed[:REMOVED_A_TURN]

    def _remove_orphaned_folders(self) -> None:
        """Remove output whose row was deleted while no runner was there to hear of it.

        What still runs of it is stopped first.
        """
        for bucket in Path(settings.RUNS_DIR).glob("*"):
            if not bucket.name.isdecimal():
                continue
            ids = {int(entry.name) for entry in bucket.iterdir() if entry.name.isdecimal()}
            kept = set(Run.objects.filter(pk__in=ids).values_list("pk", flat=True))
            for run_id in ids - kept - self._held.keys():
                seen = supervisor.look(folder_of(run_id))
                if seen.kind == "running" and seen.fence is not None:
                    self._held[run_id] = Held(seen.fence, 0.0)
                self._forget(run_id)


def specification(run: Run, runtime: Path) -> dict[str, Any]:
    """Return what a supervisor is told of a run: command, environment, limits, where to write.

    The fence is added by the claim.
    """
    wanted = run.definition
    return {
        "run": run.pk,
        "folder": str(run.folder),
        "argv": command_line(wanted),
        "env": environment(run),
        "cwd": os.path.expanduser(wanted["working_directory"] or "~"),  # noqa: PTH111 - a string is sent
        "timeout": wanted["timeout_seconds"] or None,
        "soft_timeout": wanted["soft_timeout_seconds"],
        "grace": wanted["grace_seconds"],
        "nice": wanted["nice"] or None,
        "ionice": "idle" if wanted["idle_io"] else None,
        "leave_descendants": wanted["leave_descendants"],
        "stop_command": None,
        "runtime": str(runtime),
    }


def command_line(wanted: dict[str, Any]) -> list[str]:
    """Return the arguments to execute: by the shell, split, or a script with its arguments."""
    if wanted["script_path"]:
        script = os.path.expanduser(wanted["script_path"])  # noqa: PTH111 - a string is sent
        start = [sys.executable, script] if script.endswith(".py") else [script]
        return [*start, *shlex.split(wanted["arguments"])]
    line = f"{wanted['command']} {wanted['arguments']}".strip()
    if wanted["use_shell"]:
        return ["/bin/sh", "-c", line]
    words = shlex.split(line)
    if words and words[0] in {"python", "python3"}:
        words[0] = sys.executable
    return words


@cache
def inherited() -> dict[str, str]:
    """Return what commands get of our own environment, which does not change while we live."""
    kept = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    # `python` and `bach` mean ours.
    path = f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH') or PLAIN_PATH}"  # noqa: PTH120
    return kept | {"PATH": path}


def environment(run: Run) -> dict[str, str]:
    """Return the command's environment: an allow-list of ours, the job's own, and who it is."""
    parameters = {
        f"BACH_PARAM_{name.upper()}": value for name, value in run.definition["parameters"].items()
    }
    return {
        **inherited(),
        **run.definition["environment"],
        **parameters,
        **processes.marks(run.pk, run_token()),
        "BACH_JOB": run.job_name,
        "BACH_DUE": run.due_at.astimezone(UTC).isoformat(),
        "BACH_ATTEMPT": str(run.attempt),
    }


def run_token() -> str:
    """Return what tells this installation's runs from those of another on the same host."""
    return hashlib.sha256(os.fsencode(settings.DATA_DIR)).hexdigest()[:16]


def ending(run_id: int, result: dict[str, Any], soft_timeout: float | None = None) -> Ending:
    """Return what is written of a supervisor's result: the state, and a reason or a remark."""
    state, code, facts = _verdict(result)
    if not code:
        code, facts = _remark(result, soft_timeout)
    return Ending(
        run_id=run_id,
        fence=result["fence"],
        state=state,
        ended_at=_instant(result["ended_at"]),
        started_at=_instant(result["started_at"]) if result.get("started_at") else None,
        reason_code=code,
        reason_facts=facts,
        exit_code=result.get("exit_code"),
        signal=result.get("signal"),
        cpu_seconds=result.get("cpu_seconds"),
        peak_rss_bytes=result.get("peak_rss_bytes"),
        output_bytes=result.get("output_bytes", 0),
        dropped_bytes=result.get("dropped_bytes", 0),
        output_lines=result.get("lines", 0),
        last_line=(result.get("last_line") or "")[:200],
    )


NOT_STARTED = {
    "ENOENT": "not_found",
    "EACCES": "not_executable",
    "EPERM": "not_executable",
    "ENOEXEC": "bad_interpreter",
    "ELIBBAD": "bad_interpreter",
}
SHELL_CODES = {126, 127}
SIGKILL = 9


def _verdict(result: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:  # noqa: PLR0911 - one for each end
    """Return state, reason code and facts of a result."""
    outcome = result["outcome"]
    if outcome == "timed_out":
        return Run.State.TIMED_OUT, "timed_out", {}
    if outcome == "stopped":
        return Run.State.CANCELLED, "cancelled", {}
    if outcome == "not_started":
        error = str(result.get("error") or "")
        path = str(result.get("error_path") or "")
        if result.get("error_what") == "cwd":
            return Run.State.FAILED, "no_folder", {"path": path}
        code = NOT_STARTED.get(error, "start_failed")
        return Run.State.FAILED, code, {"path": path, "error": error}
    if outcome == "signaled":
        number = result["signal"]
        if number == SIGKILL:
            return Run.State.FAILED, "killed", {}
        return Run.State.FAILED, "signal", {"signal": number}
    exit_code = result["exit_code"]
    if exit_code == 0:
        return Run.State.SUCCEEDED, "", {}
    if exit_code in SHELL_CODES:
        return Run.State.FAILED, f"exit_{exit_code}", {}
    return Run.State.FAILED, "exit", {"code": exit_code}


def _remark(result: dict[str, Any], soft_timeout: float | None) -> tuple[str, dict[str, Any]]:
    """Return what has to be said of a run that went well: a reason code, "" for nothing."""
    if result.get("output_error"):
        return "output_cut", {"error": result["output_error"]}
    if result.get("survivors"):
        return "survivors", {"n": result["survivors"]}
    if result.get("left_behind"):
        return "left_behind", {"n": result["left_behind"]}
    if soft_timeout and result["duration"] > soft_timeout:
        return "slow", {"limit": round(soft_timeout)}
    return "", {}


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

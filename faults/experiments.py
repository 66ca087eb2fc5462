"""The experiments: what is done to the product, and what must hold beyond the counters.

The names are those of the plan: K kills, C storage, S sleep, O output, B bursts, A edits. What
needs no processes (T1, T3, C2, A2) is a test: tests/faults.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from faults.arena import GREY, Arena, Made
from faults.ledger import MICROSECOND, micros
from faults.service import now_micros, parts_of


def _possible() -> str:
    return ""


def _nothing(_arena: Arena) -> None:
    return


@dataclass(frozen=True)
class Experiment:
    """One kind of round."""

    name: str
    act: Callable[[Arena], None]
    parallel: int = 64  # runs at once
    impossible: Callable[[], str] = _possible  # why it can't be played here; "" when it can
    before: Callable[[Arena], None] = _nothing  # what comes before the service's first start


# ── Jobs of most rounds ──────────────────────────────────────────────────────────────────────────
def usual_jobs(arena: Arena, count: int, *, longest: float = 20.0) -> None:
    """Make jobs with intervals of 1 to 5 s, of 0.1 to `longest` seconds, of all overlap rules."""
    chance = arena.random
    for number in range(count):
        seconds = round(chance.choice((0.1, 0.3, chance.uniform(0.5, 3), longest)), 2)
        size = chance.choice((0, 100, 5_000, 200_000))
        every = chance.randint(1, 5)
        if number % 5 == 4:
            arena.job(
                *(f"side-{number}",),
                every=max(every, 2),
                seconds=min(seconds, 6.0),
                size=size,
                overlap="parallel",
                max_instances=4,
            )
        else:
            codes = "3" if number % 7 == 6 else "0"
            arena.job(f"each-{number}", every=every, seconds=seconds, size=size, codes=codes)


def ruled_jobs(arena: Arena) -> None:
    """Make jobs whose rules bend the time, the order and the number of their runs."""
    arena.job(
        *("again",),
        every=4,
        codes="1,1,0",
        max_retries=2,
        retry_backoff_seconds=1,
        plan={"attempts": 3},
    )
    arena.job("repeated", every=5, seconds=2.0, on_loss="repeat", plan={"attempts": 2})
    arena.job("queues", every=3, seconds=4.0, overlap="queue")
    arena.job("replaces", every=5, seconds=7.0, overlap="replace", plan={"stoppable": True})
    arena.job("all", every=5, seconds=0.1, misfire="all")
    arena.job("none", every=7, seconds=0.1, misfire="skip")
    arena.service.ask("POST", "pools", {"name": "one", "size": 1})
    for number in range(2):
        name = f"swims-{number}"
        arena.job(name, every=3 + number, seconds=1.0, pools={"one": 1}, plan={"pool": "one"})


def every_minute(arena: Arena) -> Made:
    """Make a job of the other kind of schedule."""
    return arena.job("minute", job_type="cron", schedule="* * * * *", seconds=0.3)


# ── Q: quiet ─────────────────────────────────────────────────────────────────────────────────────
QUIET_LATE = 2 * MICROSECOND


def quiet(arena: Arena) -> None:
    """Q: nothing is done to it at all: what is late then, or grows, is so without a fault."""
    usual_jobs(arena, 12, longest=3.0)
    ruled_jobs(arena)
    every_minute(arena)
    arena.calm()
    since = now_micros()
    time.sleep(600 if arena.long else 6)
    late = [s.at - s.due for s in arena.ledger().starts if s.due > since and s.attempt == 1]
    if sorted(late)[int(len(late) * 0.99)] > QUIET_LATE:
        arena.seen.append(
            f"P: {max(late) / MICROSECOND:.1f} s late although nothing was done to it"
        )


# ── K: kills ─────────────────────────────────────────────────────────────────────────────────────
# A supervisor's death is the only one that a run may not survive; a command's is its own.
TARGETS = (
    *("daemon", "web", "cluster", "worker", "pusher", "monitor", "zygote"),
    *("supervisor idle", "supervisor", "command", "up"),
)


MISSES = 60  # one after another: more than the longest pause of `bach up` explains


def kills(arena: Arena) -> None:
    """K1: SIGKILL to a process chosen at random, again and again."""
    usual_jobs(arena, 16)
    ruled_jobs(arena)
    every_minute(arena)
    button = arena.job("button", seconds=0.5, overlap="parallel", max_instances=50)
    arena.calm()
    with arena.presser(button, every=2.0):
        struck = missed = 0
        deck: list[str] = []
        while struck < (300 if arena.long else 13):
            time.sleep(arena.random.uniform(0.2, 1.0))
            # Shuffled, not drawn: each has its turn, also in a short round.
            deck = deck or arena.random.sample(TARGETS, len(TARGETS))
            # What is down can't be struck; if nothing comes up again, that is what was found.
            missed = 0 if arena.kill(deck.pop()) else missed + 1
            struck += not missed
            if missed > MISSES:
                arena.calm()


def idle_worker(arena: Arena) -> None:
    """K2: the worker that waits is killed; django-q2 alone may then freeze for ever."""
    for number in range(3):
        arena.job(f"each-{number}", every=2 + number, seconds=0.1)
    arena.calm()
    for _ in range(12 if arena.long else 3):
        for role in ("worker", "pusher", "monitor") if arena.long else ("worker",):
            arena.until("there is something to kill", partial(arena.kill, role), 60)
            arena.calm(75)


def all_at_once(arena: Arena) -> None:
    """K3: every process of the service dies at the same moment; runs go on, and are caught up."""
    usual_jobs(arena, 8, longest=8.0)
    ruled_jobs(arena)
    arena.calm()
    for _ in range(6 if arena.long else 2):
        time.sleep(arena.random.uniform(1, 3))
        arena.service.wanted = False
        for role, pid in [*parts_of(arena.service)]:
            if "supervisor" in role:
                arena.kill_supervisor(f"kill all: {role}", pid)
            else:
                arena.strike(f"kill all: {role}", pid)
        time.sleep(arena.random.uniform(0, 12 if arena.long else 4))
        arena.service.wanted = True
        arena.calm()


def young(arena: Arena) -> None:
    """K7: `bach up` is killed while it starts, again and again; what it had begun dies with it."""
    usual_jobs(arena, 4, longest=3.0)
    arena.calm()
    for _ in range(60 if arena.long else 5):
        before = arena.service.process
        arena.until("there is something to kill", partial(arena.kill, "up"), 60)
        arena.until("it is started again", partial(_another, arena, before), 60)
        time.sleep(arena.random.uniform(0, 2.5))
    arena.calm()


def _another(arena: Arena, before: object) -> bool:
    return arena.service.process is not before


def told_to_stop(arena: Arena) -> None:
    """K4: SIGTERM with ten running commands, to the main process or to all, and once more."""
    for number in range(10):
        arena.job(f"long-{number}", every=2, seconds=7.0 + number / 5)
    arena.job("short", every=1, seconds=0.1)
    arena.calm()
    service = arena.service
    for turn in range(6 if arena.long else 2):
        time.sleep(2)
        service.wanted = False
        main = service.process
        assert main is not None
        parts = {role: process.pid for role, process in service.roles().items()}
        for again in range(2):
            # A service manager that asks only the main process, or the whole group.
            for role, pid in parts.items() if turn % 2 else [("up", main.pid)]:
                arena.strike(f"term {'group' if turn % 2 else 'main'}: {role}", pid, how=TERM)
            if not again:
                time.sleep(arena.random.uniform(0.1, 3.0))
            if main.poll() is not None:
                break
        arena.until("bach up has ended", partial(_has_ended, main), 40)
        left = [name for name, pid in parts.items() if _lives(pid)]
        if left:
            arena.seen.append(f"O: {', '.join(left)} outlived bach up")
        service.wanted = True
        arena.calm()


TERM = signal.SIGTERM


def frozen(arena: Arena) -> None:
    """K5: one process sleeps for a while and goes on; nobody is judged by a judge who slept."""
    usual_jobs(arena, 8, longest=6.0)
    arena.job("slow", every=3, seconds=15.0)
    arena.calm()
    for role in ("daemon", "cluster", "web", "pusher", "worker")[: 5 if arena.long else 3]:
        seconds = arena.random.uniform(20, 45) if arena.long else 3.0
        process = arena.service.roles().get(role)
        if process:
            arena.freeze(role, [process.pid], seconds)
            arena.calm()
    running = arena.service.supervisors()
    if running:
        run, supervisor, _command = arena.random.choice(running)
        # No excuse for its run: it must go on to its end.
        arena.freeze(f"supervisor of run {run}" if arena.long else "supervisor", [supervisor], 6.0)
        arena.calm()


ZOO = {
    "setsid": "setsid sleep {mark} & wait",
    "double-fork": "(setsid sh -c 'sleep {mark} & sleep {mark}' &) ; sleep {mark}",
    "nohup": "nohup sleep {mark} > /dev/null 2>&1 & sleep {mark}",
    "deaf": "trap '' TERM HUP INT; sleep {mark} & while :; do sleep {mark}; done",
    "pipe-holder": "(sleep {mark} &) ; exit 0",
    "bare": "env -i setsid sleep {mark} & sleep {mark}",
    "crowd": "i=0; while [ $i -lt {crowd} ]; do sleep {mark} & i=$((i+1)); done; wait",
    "chain": "exec {python} -I -S -c '{chain}' {mark}",
}
# Each link lives for a moment only, in a session of its own, and has begun the next one.
CHAIN = (
    "import os, sys, time\n"
    "while True:\n"
    "    if os.fork(): time.sleep(0.01); os._exit(0)\n"
    "    os.setsid(); time.sleep(0.02)\n"
)


def zoo(arena: Arena) -> None:
    """K6: commands that try to get away; after time limit, cancel and end nothing of them lives."""
    made: dict[str, tuple[str, int]] = {}
    crowd = 2000 if arena.long else 400
    for number, (kind, line) in enumerate(ZOO.items()):
        for how in ("limit", "cancel"):
            mark = f"6{os.getpid() % 10000:04}{number}{how == 'limit':d}.5"
            job = arena.job(
                f"{kind}-{how}",
                seconds=0,
                then=line.format(mark=mark, crowd=crowd, python=sys.executable, chain=CHAIN),
                plan={"stoppable": True},
                timeout_seconds=3 if how == "limit" else 60,
                grace_seconds=1,
            )
            run = arena.press(job, job.plan.name)
            assert run is not None
            made[job.plan.name] = mark, run
    time.sleep(2.5)
    for name, (_mark, run) in made.items():
        if name.endswith("cancel"):
            arena.note(f"cancel {name}")
            arena.service.ask("POST", f"runs/{run}/cancel", {})
        else:
            arena.note(f"limit {name}")
    arena.until("all of the zoo has ended", lambda: not arena.active(), 60)
    time.sleep(1)
    for name, (mark, run) in made.items():
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if mark in process.cmdline():
                    arena.seen.append(f"O: {name}: {process.pid} of run {run} still lives")


# ── C: storage ───────────────────────────────────────────────────────────────────────────────────
def locked(arena: Arena) -> None:
    """C1: a foreign writer holds the database's write lock."""
    usual_jobs(arena, 8, longest=4.0)
    arena.calm()
    for seconds in (
        (5, 30, 120) if arena.long and arena.seed % 5 == 0 else (5, 30)[: 1 + arena.long]
    ):
        daemon = arena.service.roles()["daemon"]
        with closing(sqlite3.connect(arena.service.database, timeout=60)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            arena.note(f"locked for {seconds} s")
            before = sum(daemon.cpu_times()[:2])
            time.sleep(seconds)
            if seconds >= LOCKED_TOLD and "database_locked" not in arena.service.notices():
                arena.seen.append(f"P: nobody is told that the database was locked for {seconds} s")
            share = (sum(daemon.cpu_times()[:2]) - before) / seconds
            foreign.rollback()
        arena.figures["locked_cpu"] = round(max(share, arena.figures.get("locked_cpu", 0)), 3)
        if share > 0.2:
            arena.seen.append(f"P: the daemon used {share:.0%} of a core while it was locked out")
        arena.calm()
        _is_told_no_more(arena, "database_locked")


LOCKED_TOLD = 30  # seconds after which a person must be told
TOLD_WITHIN = 60.0  # seconds in which a notice must come, or go


def _is_told_no_more(arena: Arena, code: str) -> None:
    arena.until(
        f"the notice {code} is gone", lambda: code not in arena.service.notices(), TOLD_WITHIN
    )


SMALL = 192  # MB; what the jobs write meanwhile needs some of it


def can_mount() -> str:
    """Return why no file system can be mounted; "" when it can."""
    if os.geteuid():
        return "only root may mount a small file system"
    place = Path("/tmp") / f"bach-faults-mount-{os.getpid()}"
    place.mkdir()
    try:
        told = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            return f"mount says: {told.stderr.strip()}"
        subprocess.run(["umount", place], check=True)
    except OSError as error:
        return str(error)
    finally:
        place.rmdir()
    return ""


def small_disk(arena: Arena) -> None:
    """Lay the data folder onto a small file system."""
    place = arena.service.data_dir
    options = f"size={SMALL}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    arena.after.callback(lambda: subprocess.run(["umount", "-l", place], check=False))


def full(arena: Arena) -> None:
    """C4: the disk is full to the last byte while jobs run, then there is room again."""
    usual_jobs(arena, 12, longest=5.0)
    arena.job("talker", every=3, seconds=1.0, size=300_000)
    arena.calm()
    for _ in range(3 if arena.long else 1):
        filler = arena.service.data_dir / "filler"
        arena.note("disk full")
        told = False
        with filler.open("wb", buffering=0) as file:
            until = time.monotonic() + (arena.random.uniform(10, 40) if arena.long else 8.0)
            while time.monotonic() < until:
                told = told or "disk_full" in arena.service.notices()
                # What the product frees meanwhile is taken too.
                for size in (1 << 20, 1 << 12, 1):
                    with suppress(OSError):
                        while file.write(b"x" * size):
                            pass
                time.sleep(0.2)
        arena.figures["free_when_full"] = shutil.disk_usage(arena.service.data_dir).free
        filler.unlink()
        if not told:
            arena.seen.append("P: nobody is told that the disk is full")
        arena.calm()
        _is_told_no_more(arena, "disk_full")


def damaged(arena: Arena) -> None:
    """C5: the database is gone, empty, garbage or another one at the start: it is refused."""
    job = arena.job("before", seconds=0.1)
    arena.press(job, "before-1")
    arena.until("the first run has ended", lambda: not arena.active(), 30)
    service = arena.service
    service.wanted = False
    service.stop(signal.SIGTERM)
    service.query("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = service.data_dir.with_suffix(".kept")
    shutil.copy(service.database, kept)
    arena.after.callback(kept.unlink, missing_ok=True)
    for kind, damage in DAMAGES.items():
        for file in service.data_dir.glob("bach.sqlite3*"):
            file.unlink()
        shutil.copy(kept, service.database)
        damage(service.database)
        arena.note(f"database {kind}")
        before = service.database.read_bytes() if service.database.exists() else None
        code = _starts(arena)
        after = service.database.read_bytes() if service.database.exists() else None
        if code is None:
            arena.seen.append(f"I: the service starts although its database is {kind}")
        elif after != before:
            arena.seen.append(f"I: it is refused that the database is {kind}, and changed it")
    for file in service.data_dir.glob("bach.sqlite3*"):
        file.unlink()
    shutil.copy(kept, service.database)
    service.wanted = True
    arena.until("it starts again with its own database", service.is_whole, 60)


def _starts(arena: Arena) -> int | None:
    """Return the exit code of `bach up` that refuses; None when it is up after a while."""
    service = arena.service
    service.launch()
    assert service.process is not None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (code := service.process.poll()) is not None:
            return code or None
        if service.is_whole():
            break
        time.sleep(0.05)
    service.stop(signal.SIGTERM)
    return None


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _garbage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[:4096] = os.urandom(4096)
    file.write_bytes(content)


def _flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    # A page in the middle of everything, and the root of the schema's table stays as it is.
    for place in range(8192, len(content) - 4096, 4096):
        content[place : place + 64] = bytes(byte ^ 0xFF for byte in content[place : place + 64])
    file.write_bytes(content)


def _foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE somebody_else (id INTEGER)")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": _empty,
    "garbage": _garbage,
    "corrupt": _flipped,
    "another one": _foreign,
}


# ── S: sleep ─────────────────────────────────────────────────────────────────────────────────────
def asleep(arena: Arena) -> None:
    """S1: everything stops for a while, as when the machine sleeps; nothing is given up for it."""
    usual_jobs(arena, 8, longest=6.0)
    ruled_jobs(arena)
    arena.calm()
    for _ in range(3 if arena.long else 1):
        arena.freeze("everything", arena.everything(), 90 if arena.long else 8)
        arena.calm()


# ── O: output ────────────────────────────────────────────────────────────────────────────────────
ODD = (
    rb"\377\376 caf\303\251 \303 \0 \360\237\230\200 \355\240\200 a\r\nb\rc\n"
    rb"\033[31mred\033[0m \033]0;title\007 <script>alert(1)</script> tab\there\n"
)
KEPT = 11 << 20  # bytes at most of one run, the file being written included
SUPERVISOR_MB = 60


def floods(arena: Arena) -> None:
    """O1 to O3: floods with and without line ends, odd bytes, streams closed early or kept open."""
    flood = (1 << 30) if arena.long else (100 << 20)
    lines = {
        "flood-lines": (f"yes 'a line of forty bytes or so, again' | head -c {flood}", flood),
        "flood-bytes": (f"head -c {flood} /dev/zero", flood),
        "long-line": ("head -c 10485760 /dev/zero | tr '\\0' x", 10 << 20),
        "odd": (f"printf '%b' '{_shell(ODD)}'", None),
        "closed-early": ("exec 1>&- 2>&-; sleep 1", 0),
        "late-writer": ("(trap '' PIPE HUP; sleep 1; echo late; sleep 1) & echo main", None),
        "deaf-to-pipe": ("trap '' PIPE; yes 2> /dev/null | head -n 1", 2),
    }
    runs = {}
    for name, (line, size) in lines.items():
        job = arena.job(name, seconds=0, size=0, then=line, plan={"stoppable": True})
        runs[name] = arena.press(job, name), size
        arena.note(f"output {name}")
    most = 0
    deadline = time.monotonic() + 120
    while arena.active() and time.monotonic() < deadline:
        for _run, pid, _command in arena.service.supervisors():
            with suppress(psutil.Error):
                most = max(most, psutil.Process(pid).memory_info().rss)
        time.sleep(0.05)
    arena.figures["supervisor_mb"] = round(most / 1e6, 1)
    if most > SUPERVISOR_MB * 1e6:
        arena.seen.append(f"P: a supervisor took {most / 1e6:.0f} MB")
    rows = {row["id"]: row for row in arena.service.rows()}
    for name, (run, size) in runs.items():
        row = rows[run]
        if row["state"] != "succeeded":
            arena.seen.append(f"U: {name} is {row['state']} {row['reason_code']}")
        if size is not None and row["output_bytes"] != size:
            arena.seen.append(f"U: {name} wrote {size} bytes, the row says {row['output_bytes']}")
        folder = arena.service.data_dir / "runs" / str(run // 1000) / str(run)  # type: ignore[operator]
        stored = sum(file.stat().st_size for file in folder.glob("output.*") if _is_part(file))
        if stored + row["dropped_bytes"] != row["output_bytes"] or stored > KEPT:
            told = f"{stored} kept + {row['dropped_bytes']} dropped of {row['output_bytes']}"
            arena.seen.append(f"U: {name}: {told}")
        if name == "odd" and (folder / "output.0").read_bytes() != _bytes(ODD):
            arena.seen.append("U: odd bytes were changed")


def _is_part(file: Path) -> bool:
    return file.suffix[1:].isdecimal()


def _shell(text: bytes) -> str:
    return text.decode("ascii").replace("\\0 ", "\\0000 ").replace("'", "'\\''")


def _bytes(text: bytes) -> bytes:
    """Return what printf makes of the escapes."""
    return text.decode("unicode_escape").encode("latin-1")


# ── B: bursts ────────────────────────────────────────────────────────────────────────────────────
STORED_WITHIN = 5.0  # seconds for all rows of 10,000 jobs
CLONED = "INSERT INTO daemon_jobs ({columns}) SELECT {values} FROM daemon_jobs WHERE id = ?"


def burst(arena: Arena) -> None:
    """B1: thousands of jobs are due at the same second, in several priorities."""
    count = 10_000 if arena.long else 2_000
    line = (
        't="$BACH_RUN_ID $BACH_JOB $BACH_DUE $BACH_ATTEMPT $$ $(date +%s%N)"; '
        f'printf \'%s start\\n%s end 0 0\\n\' "$t" "$t" >> {arena.ledger_file}'
    )
    template = arena.job("template", command=line, use_shell=True)
    service = arena.service
    names = [name for _n, name, *_ in service.query("PRAGMA table_info(daemon_jobs)")]
    columns = ", ".join(f'"{name}"' for name in names if name != "id")
    changed = {"name": "?", "next_due_at": "?", "anchor": "?", "priority": "?", "job_type": "?"}
    changed["schedule"] = "?"
    values = ", ".join(changed.get(name, f'"{name}"') for name in names if name != "id")
    order = [name for name in names if name in changed]
    due = (now_micros() // MICROSECOND + 6) * MICROSECOND
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(due / MICROSECOND))
    chance = arena.random
    with closing(sqlite3.connect(service.database, timeout=60)) as connection, connection:
        for number in range(count):
            given = {
                "name": f"burst-{number}",
                "next_due_at": text,
                "anchor": text,
                "priority": chance.choice((-50, 0, 0, 0, 50)),
                "job_type": "interval",
                "schedule": "7d",
            }
            statement = CLONED.format(columns=columns, values=values)
            connection.execute(statement, [*(given[name] for name in order), template.id])
    for number in range(count):
        made = Made(0, template.plan.__class__(f"burst-{number}", due={due}), 1.0)
        arena.jobs.append(made)
    arena.note(f"{count} jobs due at once")
    template.plan.due.clear()
    # Rings the daemon's bell: behind its back it would not look before its next beat.
    service.ask("PATCH", f"jobs/{template.id}", {"description": "rung"})
    rows = "SELECT COUNT(*) FROM daemon_runs WHERE job_name LIKE 'burst-%'"
    arena.until("all rows are there", lambda: service.query(rows)[0][0] == count, 60)
    took = (now_micros() - due) / MICROSECOND
    arena.figures["rows_within"] = round(took, 2)
    if took > STORED_WITHIN:
        arena.seen.append(f"P: {count} rows took {took:.1f} s")
    arena.until("all have run", lambda: not arena.active(), 300)
    arena.figures["all_within"] = round((now_micros() - due) / MICROSECOND, 2)
    _check_priorities(arena)


# Starts overlap, 64 at once: only a start that is this much too early counts.
BESIDE = 1.5 * MICROSECOND


def _check_priorities(arena: Arena) -> None:
    ranks = dict(arena.service.query("SELECT id, priority FROM daemon_runs"))
    starts = sorted(arena.ledger().starts, key=lambda start: start.at)
    last: dict[int, int] = {}
    for start in starts:
        last[ranks[start.run]] = start.at
    for start in starts:
        rank = ranks[start.run]
        late = [other for other, at in last.items() if other > rank and at > start.at + BESIDE]
        if late:
            arena.seen.append(
                f"W: run {start.run} of priority {rank} began before the last of {max(late)}"
            )
            return


def storm(arena: Arena) -> None:
    """B2: far more starts than can run; each one that meets a running one is recorded, no more."""
    count = 150 if arena.long else 60
    for number in range(count):
        arena.job(f"storm-{number}", every=1, seconds=2.5, size=0)
    arena.note(f"{count} jobs each second")
    time.sleep(20 if arena.long else 6)


# ── A: edits ─────────────────────────────────────────────────────────────────────────────────────
def edits(arena: Arena) -> None:
    """A3: jobs are changed, switched, deleted, started and stopped while they run."""
    jobs = [
        arena.job(
            f"edited-{n}",
            every=1 + n % 4,
            seconds=0.2 + n % 3,
            plan={"stoppable": True, "unordered": True},
        )
        for n in range(14)
    ]
    arena.job("steady", every=1, seconds=0.1, plan={"stoppable": True})
    arena.calm()
    chance, service = arena.random, arena.service
    for turn in range(300 if arena.long else 60):
        time.sleep(chance.uniform(0.02, 0.25))
        job = chance.choice(jobs)
        what = chance.choices(tuple(EDITS), (6, 4, 4, 4, 4, 1, 1))[0]
        if job.plan.removed:
            continue
        arena.note(what)
        EDITS[what](arena, job, turn)
    for job in jobs:
        if not job.plan.removed:
            _status, told = service.ask("PUT", f"jobs/{job.id}/toggle", {"is_active": False})
            _went_over(job, told, 0)


def _describe(arena: Arena, job: Made, turn: int) -> None:
    arena.service.ask("PATCH", f"jobs/{job.id}", {"description": f"turn {turn}"})


def _reschedule(arena: Arena, job: Made, _turn: int) -> None:
    every = arena.random.randint(1, 4)
    _status, told = arena.service.ask("PATCH", f"jobs/{job.id}", {"schedule": f"{every}s"})
    _went_over(job, told, every)


def _switch(arena: Arena, job: Made, _turn: int) -> None:
    _status, told = arena.service.ask("PUT", f"jobs/{job.id}/toggle")
    _went_over(job, told, int(told["schedule"].removesuffix("s")))


def _went_over(job: Made, told: dict[str, Any], every: int) -> None:
    """Let a new grid begin where the answer says so; the same grid goes on as it was."""
    first = told["next_due_at"] and micros(told["next_due_at"])
    at = micros(told["updated_at"])
    if job.grids and job.grids[-1][2] is None and first:
        begun, period, _ = job.grids[-1]
        if period == every * MICROSECOND and (first - begun) % period == 0:
            return
    job.ends(at - GREY)
    job.begins(first or None, every * MICROSECOND)


def _press(arena: Arena, job: Made, turn: int) -> None:
    arena.press(job, f"{job.plan.name}-{turn}")


def _cancel(arena: Arena, job: Made, _turn: int) -> None:
    found = arena.service.query(
        "SELECT id FROM daemon_runs WHERE job_id = ? ORDER BY id DESC LIMIT 1", job.id
    )
    for (run,) in found:
        arena.service.ask("POST", f"runs/{run}/cancel", {})


def _delete(arena: Arena, job: Made, _turn: int) -> None:
    job.plan.removed = True
    gone = {
        run for (run,) in arena.service.query("SELECT id FROM daemon_runs WHERE job_id = ?", job.id)
    }
    arena.service.ask("DELETE", f"jobs/{job.id}")
    arena.presses[:] = [press for press in arena.presses if press.run not in gone]


def _hold(arena: Arena, _job: Made, _turn: int) -> None:
    arena.service.ask("POST", "hold", {"mode": arena.random.choice(("drain", "stop"))})
    time.sleep(arena.random.uniform(0.5, 2))
    arena.service.ask("POST", "resume", {})


EDITS: dict[str, Callable[[Arena, Made, int], None]] = {
    "describe": _describe,
    "reschedule": _reschedule,
    "switch": _switch,
    "press": _press,
    "cancel": _cancel,
    "delete": _delete,
    "hold": _hold,
}


# ── All ──────────────────────────────────────────────────────────────────────────────────────────
def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is not None


def _lives(pid: int) -> bool:
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


ALL = {
    experiment.name: experiment
    for experiment in (
        Experiment("Q", quiet),
        Experiment("K1", kills),
        Experiment("K2", idle_worker),
        Experiment("K3", all_at_once),
        Experiment("K4", told_to_stop),
        Experiment("K5", frozen),
        Experiment("K6", zoo),
        Experiment("K7", young),
        Experiment("C1", locked),
        Experiment("C4", full, impossible=can_mount, before=small_disk),
        Experiment("C5", damaged),
        Experiment("S1", asleep),
        Experiment("O", floods),
        Experiment("B1", burst),
        Experiment("B2", storm, parallel=200),
        Experiment("A3", edits),
    )
}

"""What could keep this installation from working, looked for on purpose: `bach daemon doctor`.

Each check is one function: it yields findings, and says of what is not well what can be done.
"""

import ctypes
import os
import platform
import resource
import shlex
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import available_timezones

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone, translation
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from bachweb import machine
from daemon_app import database, formats, notices, pidfile, processes
from daemon_app.ballast import MEBIBYTE, Ballast
from daemon_app.gpu import LIBRARY
from daemon_app.models import Node, Run
from daemon_app.registry import Registry
from daemon_app.runner import run_token
from daemon_app.watchdog import WRONG_CLOCK

OK, INFO, WARN, ERROR = "ok", "info", "warn", "error"
LITTLE_ROOM = 1024 * MEBIBYTE
FEW_FILES = 1024
LONG_WAIT = timedelta(seconds=60)
JUST_ENDED = timedelta(seconds=60)
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"),
    *("lustre", "ncpfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone"),
    *("fuse.s3fs", "davfs"),
}


@dataclass(frozen=True)
class Finding:
    """What a check found: how bad, what it is about, how it is, and what can be done."""

    level: str  # "ok", "info", "warn" or "error"
    check: str  # its name, for programs
    title: str
    text: str
    way_out: str = ""


Check = Callable[[datetime], Iterator[Finding]]
CHECKS: Registry[Check] = Registry("check")


def examine(now: datetime, told: Callable[[int], None] = lambda _checks: None) -> list[Finding]:
    """Return the findings of all checks, in the language of the moment.

    A check that fails is itself a finding. `told` hears of each check that is done.
    """
    found: list[Finding] = []
    # A look must not make an empty database, nor trust a damaged one.
    usable = connection.vendor != "sqlite" or _is_usable()
    for name, check in CHECKS.items():
        if not usable and name not in WITHOUT_DATABASE:
            continue
        try:
            found += check(now)
        except (OSError, DatabaseError) as error:
            text = _t("It could not be looked at: %(error)s") % {"error": error}
            found.append(Finding(ERROR, name, name, text))
        told(1)
    return found


WITHOUT_DATABASE = {"database", "sqlite", "files", "disk", "filesystem", "python", "limits", "gpu"}


def _is_usable() -> bool:
    file = Path(connection.settings_dict["NAME"])
    return file.exists() and database.examine(file, Path(settings.DATA_DIR)) is None


def exit_code(findings: list[Finding]) -> int:
    """Return 0 when all is well, 1 with warnings, 2 with problems."""
    levels = {finding.level for finding in findings}
    return 2 if ERROR in levels else int(WARN in levels)


def _bach() -> str:
    return machine.program(Path(settings.BASE_DIR))


def _language() -> str:
    return (translation.get_language() or "de")[:2]


# ── Who runs ─────────────────────────────────────────────────────────────────────────────────────
@CHECKS.register("daemon")
def the_daemon(now: datetime) -> Iterator[Finding]:
    """Is it there, and when did it last speak?"""
    process = pidfile.holder(Path(settings.DATA_DIR) / "daemon.pid")
    node = Node.latest()
    title = _t("Daemon")
    if node is not None and node.is_alive(now):
        seen = {"seconds": round((now - node.seen_at).total_seconds())}
        text = _t("Running; its last sign of life was %(seconds)s s ago.") % seen
        yield Finding(OK, "daemon", title, text)
    elif process is None:
        way_out = _t("Start it: %(command)s") % {"command": f"{_bach()} daemon start --bg"}
        yield Finding(WARN, "daemon", title, _t("Not running: no job starts."), way_out)
    else:
        text = _t("There (process %(pid)s), but it gives no sign of life.") % {"pid": process.pid}
        way_out = _t(
            "What it says: %(bach)s daemon logs. If it lasts: %(bach)s daemon stop, then start it"
        ) % {"bach": _bach()}
        yield Finding(ERROR, "daemon", title, text, way_out)


@CHECKS.register("cluster")
def the_cluster(now: datetime) -> Iterator[Finding]:
    """Is it there, when a daemon is?"""
    cluster = pidfile.holder(Path(settings.DATA_DIR) / "cluster.pid")
    node = Node.latest()
    if cluster is not None:
        text = _t("Running (process %(pid)s).") % {"pid": cluster.pid}
        yield Finding(OK, "cluster", _t("Cluster"), text)
    elif node is not None and node.is_alive(now):
        text = _t("Not running: the daemon starts runs by itself, up to 25 s late.")
        way_out = _t("It should come back within half a minute. What it says: %(log)s") % {
            "log": settings.LOGS_DIR / "cluster.log"
        }
        yield Finding(WARN, "cluster", _t("Cluster"), text, way_out)


@CHECKS.register("web")
def the_pages(_now: datetime) -> Iterator[Finding]:
    """Are they there?"""
    found = [pidfile.holder(file) for file in Path(settings.DATA_DIR).glob("web-*.pid")]
    addresses = [server.address for server in found if server]
    text = ", ".join(addresses) or _t("Not running. Start them: %(bach)s gui start") % {
        "bach": _bach()
    }
    yield Finding(OK if addresses else INFO, "web", _t("Web pages"), text)


@CHECKS.register("queue")
def the_line(now: datetime) -> Iterator[Finding]:
    """How many runs wait, and for how long?"""
    due = Run.objects.queued().filter(not_before__lte=now)
    oldest = due.order_by("not_before").first()
    if oldest is None:
        yield Finding(OK, "queue", _t("Queue"), _t("Nothing waits."))
        return
    waited = now - oldest.not_before
    text = _t("%(n)s runs wait, the oldest for %(seconds)s s.") % {
        "n": due.count(),
        "seconds": round(waited.total_seconds()),
    }
    room = Run.objects.running().count() < settings.MAX_PARALLEL
    if waited > LONG_WAIT and room:
        way_out = _t("Why it waits stands on its page and in: %(bach)s daemon status") % {
            "bach": _bach()
        }
        yield Finding(WARN, "queue", _t("Queue"), text, way_out)
    else:
        yield Finding(OK, "queue", _t("Queue"), text)


@CHECKS.register("alarms")
def what_is_wrong_now(now: datetime) -> Iterator[Finding]:
    """What do the alarm board and the rules say?"""
    seen = {"daemon_away", "daemon_silent"}
    told = [n for n in notices.current(now) if n.code not in seen and n.incident_id is None]
    for notice in told:
        yield Finding(notice.level, f"alarm:{notice.code}", notice.title, notice.text)
    if not told:
        yield Finding(OK, "alarms", _t("Alarms"), _t("None."))


@CHECKS.register("leftovers")
def what_ended_runs_left(now: datetime) -> Iterator[Finding]:
    """Do processes of runs live on that have ended?"""
    title = _t("Left behind")
    marked = marked_processes()
    ended = Run.objects.filter(pk__in=marked, ended_at__lt=now - JUST_ENDED)
    left = {run.pk for run in ended if not run.definition.get("leave_descendants")}
    left |= marked.keys() - set(Run.objects.filter(pk__in=marked).values_list("pk", flat=True))
    if not left:
        yield Finding(OK, "leftovers", title, _t("No processes of ended runs."))
    for run_id in sorted(left):
        text = _t("Run %(run)s has ended, but these processes of it live on: %(pids)s") % {
            "run": run_id,
            "pids": " ".join(map(str, marked[run_id])),
        }
        kill = {"command": f"kill {' '.join(map(str, marked[run_id]))}"}
        way_out = _t("If you don't want them: %(command)s") % kill
        yield Finding(WARN, "leftovers", title, text, way_out)


def marked_processes() -> dict[int, list[int]]:
    """Return the processes that carry this installation's mark, by run (Linux)."""
    token = f"{processes.TOKEN_MARK}={run_token()}".encode()
    mark = f"{processes.RUN_MARK}=".encode()
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        run = next((v[len(mark) :] for v in variables if v.startswith(mark)), b"")
        if token in variables and run.isdigit():
            found.setdefault(int(run), []).append(int(folder.name))
    return found


# ── What it stands on ────────────────────────────────────────────────────────────────────────────
@CHECKS.register("database")
def the_database(_now: datetime) -> Iterator[Finding]:
    """Is it whole, ours, and in the right mode?"""
    title = _t("Database")
    if connection.vendor != "sqlite":
        yield Finding(OK, "database", title, connection.vendor)
        return
    file, folder = Path(connection.settings_dict["NAME"]), Path(settings.DATA_DIR)
    if trouble := database.examine(file, folder):
        why, _line, way_out = what_to_do(trouble, file, folder).partition("\n")
        yield Finding(ERROR, "database", title, why, way_out)
        return
    if not file.exists():
        text = _t("Nothing has been set up yet.")
        way_out = _t("Start BACH: %(bach)s up") % {"bach": _bach()}
        yield Finding(WARN, "database", title, text, way_out)
        return
    size = formats.size(file.stat().st_size, _language())
    checked = file.stat().st_size <= database.MOST_CHECKED
    text = _t("Whole, %(size)s.") if checked else _t("%(size)s; too large to be read as a whole.")
    yield Finding(OK, "database", title, text % {"size": size})
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = cursor.fetchone()[0]
    if mode != "wal":
        text = _t(
            "Its journal mode is “%(mode)s”, not “wal”: readers and writers wait for each other."
        ) % {"mode": mode}
        way_out = _t("Its folder may be on a file system that can't do it. Move the data folder.")
        yield Finding(ERROR, "journal", title, text, way_out)


@CHECKS.register("sqlite")
def the_version_of_sqlite(_now: datetime) -> Iterator[Finding]:
    """Has it the WAL-reset bug?"""
    version = sqlite3.sqlite_version
    if not database.has_wal_bug(sqlite3.sqlite_version_info):
        yield Finding(OK, "sqlite", "SQLite", version)
        return
    text = _t(
        "%(version)s can damage a database when a checkpoint and a commit meet (mended in 3.51.3). "
        "Here only the daemon makes checkpoints, and nothing meets."
    ) % {"version": version}
    way_out = _t("A Python with a newer SQLite needs no such care.")
    yield Finding(INFO, "sqlite", "SQLite", text, way_out)


@CHECKS.register("files")
def who_may_read(_now: datetime) -> Iterator[Finding]:
    """Is everything for this user alone?"""
    folder = Path(settings.DATA_DIR)
    title = _t("Data folder")
    wrong = []
    for path in (folder, *(folder / name for name in PRIVATE)):
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_uid != os.geteuid():
            yield Finding(
                ERROR,
                "files",
                title,
                _t("%(path)s belongs to another user.") % {"path": path},
                f"sudo chown -R {os.geteuid()} {shlex.quote(str(path))}",
            )
        elif stat.S_IMODE(found.st_mode) & 0o077:
            wrong.append(path)
    for path in wrong:
        yield Finding(
            WARN,
            "files",
            title,
            _t("Others may read %(path)s.") % {"path": path},
            f"chmod go-rwx {shlex.quote(str(path))}",
        )
    if not wrong:
        yield Finding(OK, "files", title, _t("%(path)s is for you alone.") % {"path": folder})


PRIVATE = (
    *("bach.sqlite3", "bach.sqlite3-wal", "secret.key", "secret.key.old"),
    *("runs", "logs", "sock", "static", "backups"),
)


@CHECKS.register("disk")
def room_on_the_disk(_now: datetime) -> Iterator[Finding]:
    """Is there room, and some put by?"""
    store = Ballast(Path(settings.DATA_DIR) / "ballast")
    free, kept = store.free(), store.size()
    text = _t("%(free)s free, %(kept)s put by for when it is full.") % {
        "free": formats.size(free, _language()),
        "kept": formats.size(kept, _language()),
    }
    level = ERROR if free < store.low() else WARN if free < LITTLE_ROOM else OK
    way_out = (
        _t("Delete what is not needed, or keep less: rules for all jobs") if level != OK else ""
    )
    yield Finding(level, "disk", _t("Disk"), text, way_out)


@CHECKS.register("filesystem")
def where_the_data_lies(_now: datetime) -> Iterator[Finding]:
    """Is it a disk of this machine?"""
    kind = file_system(Path(settings.DATA_DIR))
    if kind in NETWORK:
        text = _t("The data lie on a network drive (%(kind)s). SQLite can lose them there.")
        way_out = _t("Choose a folder on a disk of this machine in BACH_DATA_DIR.")
        yield Finding(ERROR, "filesystem", _t("File system"), text % {"kind": kind}, way_out)
    else:
        yield Finding(OK, "filesystem", _t("File system"), kind or _t("unknown"))


def file_system(folder: Path, table: str = "/proc/self/mountinfo") -> str:
    """Return the kind of file system on which `folder` lies; "" when it can't be told."""
    place = os.path.realpath(folder)
    best, kind = "", ""
    try:
        lines = Path(table).read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _dash, source = line.partition(" - ")
        point = mount.split()[4].replace(r"\040", " ")
        inside = point in {"/", place} or place.startswith(f"{point}/")
        # Of two on the same point the later one is seen.
        if inside and len(point) >= len(best):
            best, kind = point, source.split()[0]
    return kind


@CHECKS.register("clock")
def the_clock(now: datetime) -> Iterator[Finding]:
    """Is it behind what is recorded, and is the zone known?"""
    times = [
        Node.objects.order_by("-seen_at").values_list("seen_at", flat=True).first(),
        Run.objects.order_by("-id").values_list("queued_at", flat=True).first(),
    ]
    newest = max((at for at in times if at), default=datetime.min.replace(tzinfo=UTC))
    if newest - now > WRONG_CLOCK:
        text = _t("It shows %(now)s, but %(newest)s is recorded already.") % {
            "now": timezone.localtime(now).strftime("%Y-%m-%d %H:%M"),
            "newest": timezone.localtime(newest).strftime("%Y-%m-%d %H:%M"),
        }
        way_out = _t("Set it, best by a time server: sudo timedatectl set-ntp true")
        yield Finding(ERROR, "clock", _t("Clock"), text, way_out)
    else:
        shown = timezone.localtime(now).strftime("%Y-%m-%d %H:%M:%S")
        yield Finding(OK, "clock", _t("Clock"), shown)
    if settings.TIME_ZONE not in available_timezones() or not machine.knows_time_zone():
        text = _t("The machine does not say which it is in; taken is %(zone)s.")
        way_out = _t("Set BACH_TIME_ZONE, for example to Europe/Berlin")
        found = {"zone": settings.TIME_ZONE}
        yield Finding(WARN, "zone", _t("Time zone"), text % found, way_out)
    else:
        yield Finding(OK, "zone", _t("Time zone"), settings.TIME_ZONE)


@CHECKS.register("python")
def the_interpreter(_now: datetime) -> Iterator[Finding]:
    """Which Python, on what?"""
    text = f"{platform.python_version()} ({sys.executable}), {platform.system()}"
    yield Finding(OK, "python", "Python", text)
    if sys.platform not in {"linux", "darwin"}:
        text = _t("Running commands can't be watched on %(system)s.") % {"system": sys.platform}
        yield Finding(ERROR, "python", "Python", text, _t("Use WSL 2."))


@CHECKS.register("limits")
def how_many_files(_now: datetime) -> Iterator[Finding]:
    """May enough files be open?"""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        text = _t("Only %(n)s may be open at once.") % {"n": soft}
        yield Finding(WARN, "limits", _t("Open files"), text, "ulimit -n 4096")
    else:
        yield Finding(OK, "limits", _t("Open files"), str(soft))


@CHECKS.register("gpu")
def the_gpu(_now: datetime) -> Iterator[Finding]:
    """Can its use be measured?"""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        text = _t("None that can be measured (%(library)s is not there).")
        yield Finding(INFO, "gpu", "GPU", text % {"library": LIBRARY})
    else:
        yield Finding(OK, "gpu", "GPU", _t("Measured by NVML."))


# ── Ways out ─────────────────────────────────────────────────────────────────────────────────────
WHY: Final = {
    "gone": _("The database %(file)s is gone, but there was one: this folder has been used."),
    "empty": _("The database %(file)s is empty, but there was something in it."),
    "not_sqlite": _("%(file)s is not a database: something else has taken its place."),
    "damaged": _("The database %(file)s is damaged: %(detail)s"),
    "other": _("The database %(file)s belongs to another installation of BACH."),
    "unknown": _("%(file)s is not the database that was used in this folder."),
    "unreadable": _("The database %(file)s can't be read: %(detail)s"),
}


def what_to_do(trouble: database.Trouble, file: Path, folder: Path) -> str:
    """Return why the database can't be used, and the ways out."""
    lines = [
        str(WHY[trouble.code]) % {"file": file, "detail": trouble.detail},
        _t("BACH does not start, so that nothing is lost. What you can do:"),
    ]
    if trouble.code == "unreadable":
        return "\n".join([*lines[:1], _t("Look at the rights of the file and of its folder.")])
    if backup := database.newest_backup(folder):
        lines.append(
            "• "
            + _t("Put back the last backup, of %(when)s: %(commands)s")
            % {
                "when": timezone.localtime(
                    datetime.fromtimestamp(backup.stat().st_mtime, UTC)
                ).strftime("%Y-%m-%d %H:%M"),
                "commands": (
                    f"rm -f {shlex.quote(f'{file}-wal')} {shlex.quote(f'{file}-shm')} && "
                    f"cp {shlex.quote(str(backup))} {shlex.quote(str(file))}"
                ),
            }
        )
    else:
        lines.append("• " + _t("Put the right file back in its place, if you have a copy of it."))
    number = folder / database.NUMBER_FILE
    if trouble.code in {"other", "unknown"}:
        lines.append(
            "• "
            + _t("If this one is right, say so: rm %(number)s")
            % {"number": shlex.quote(str(number))}
        )
    else:
        lines.append(
            "• "
            + _t("Begin anew, without the jobs and runs there were: %(commands)s")
            % {"commands": f"mv {shlex.quote(str(folder))} {shlex.quote(f'{folder}.old')}"}
        )
    return "\n".join(lines)

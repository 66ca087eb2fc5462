"""Jobs to begin with: what many machines need, to be adjusted and switched on.

Plain data. Each command says in its first lines what is to be adjusted; nothing here runs before
somebody has read it and switched it on.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from daemon_app.models import Job


@dataclass(frozen=True, slots=True)
class Starter:
    """One job to begin with; `key` is its name, `adjust` says what is one's own affair in it."""

    key: str
    icon: str
    title: Promise
    about: Promise
    adjust: Promise
    fields: Mapping[str, Any]

    @property
    def plan(self) -> str:
        """When it runs, in words in the current language."""
        return Job(**self.fields).describe()

    def job(self) -> Job:
        """Return the job, not stored, under a name that is free."""
        values = {
            name: value.strip().replace("~/Documents", documents()) if name == "command" else value
            for name, value in self.fields.items()
        }
        return Job(name=free_name(self.key), description=str(self.about), **values)


BACKUP = """\
set -e
SOURCE=~/Documents
TARGET=~/backups
mkdir -p "$TARGET"
tar -czf "$TARGET/$(date +%F).tar.gz" -C "$SOURCE" .
find "$TARGET" -name '*.tar.gz' -mtime +14 -delete
du -sh "$TARGET"
"""

TOKENS = """\
python - <<'END'
import json, pathlib, time
FOLDER = pathlib.Path("~/logs/llm").expanduser()
LIMIT = 5_000_000
since = time.time() - 86_400
used = 0
for file in FOLDER.rglob("*.jsonl"):
    if file.stat().st_mtime < since:
        continue
    for line in file.open(errors="replace"):
        try:
            said = json.loads(line)
            usage = said.get("usage") or said["message"]["usage"]
            used += usage["input_tokens"] + usage["output_tokens"]
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
print(f"{used:,} tokens in 24 h, limit {LIMIT:,}")
raise SystemExit(used > LIMIT)
END
"""

CLEANUP = """\
FOLDER=~/logs
DAYS=30
test -d "$FOLDER" || { echo "$FOLDER: -"; exit 0; }
find "$FOLDER" -type f -name '*.log*' -mtime +"$DAYS" -print -delete
"""

TRAINING = """\
cd ~/training
python train.py --resume
"""

RESTIC = """\
set -e
export RESTIC_REPOSITORY=/mnt/backup/restic
export RESTIC_PASSWORD_FILE=~/.config/restic/password
restic backup ~/Documents --exclude-caches
restic forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --prune
"""

MIRROR = """\
set -e
SOURCE=~/Pictures/
TARGET=/mnt/mirror/pictures/
test -d "$TARGET"
rsync -a --delete --stats "$SOURCE" "$TARGET"
"""

UPDATES = """\
apt list --upgradable 2>/dev/null | tail -n +2
python -m pip list --outdated
"""

DATABASE = """\
set -e
FILE=~/app.sqlite3
test -f "$FILE"
sqlite3 "$FILE" 'PRAGMA integrity_check; VACUUM; PRAGMA optimize;'
"""

ROTATE = "logrotate --verbose --state ~/.local/state/logrotate ~/.config/logrotate.conf"
PRUNE = "docker system prune --force --filter until=168h"
CERTIFICATE = """\
FILE=/etc/ssl/certs/example.pem
openssl x509 -in "$FILE" -noout -subject -enddate -checkend 1209600
"""
PING = "curl -fsS --max-time 10 --output /dev/null http://localhost:8080/health && echo ok"

STARTERS: Final = (
    Starter(
        "backup-daily",
        "archive",
        _("Daily backup"),
        _("Packs a folder once a day and keeps two weeks of it."),
        _("SOURCE is what is kept, TARGET where."),
        {"job_type": "interval", "schedule": "24h", "command": BACKUP, "timeout_seconds": 3600},
    ),
    Starter(
        "token-check",
        "gauge",
        _("Token use"),
        _("Adds up the tokens of the last 24 hours, and fails beyond a limit."),
        _("FOLDER is where the programs write down their use, LIMIT what is allowed a day."),
        {"job_type": "interval", "schedule": "30m", "command": TOKENS},
    ),
    Starter(
        "cleanup",
        "brush-cleaning",
        _("Clean up old logs"),
        _("Deletes log files that nobody has written for a month."),
        _("FOLDER is where the logs are, DAYS how long they stay."),
        {"job_type": "cron", "schedule": "0 4 * * *", "command": CLEANUP},
    ),
    Starter(
        "lora-training",
        "gpu",
        _("GPU training when idle"),
        _("Trains at night while nobody needs the GPU, makes way, and goes on later."),
        _("Folder and program are yours; --resume must go on from where it was stopped."),
        {
            "job_type": "cron",
            "schedule": "0 20 * * *",
            "command": TRAINING,
            "timeout_seconds": 0,
            "only_when_idle": True,
            "on_presence": "displace",
            "min_vram_mb": 8000,
        },
    ),
    Starter(
        "restic-backup",
        "vault",
        _("Backup with restic"),
        _("Encrypted and without doubles, with a week of days and a year of months."),
        _("Once before: restic init. Repository and password file stand in the first lines."),
        {
            "job_type": "cron",
            "schedule": "30 1 * * *",
            "command": RESTIC,
            "timeout_seconds": 14_400,
            "max_retries": 2,
            "idle_io": True,
        },
    ),
    Starter(
        "mirror",
        "folder-sync",
        _("Mirror with rsync"),
        _("Keeps a second disk like the first; what was deleted here is deleted there."),
        _("SOURCE and TARGET. Without the folder TARGET nothing is copied."),
        {
            "job_type": "cron",
            "schedule": "15 1 * * *",
            "command": MIRROR,
            "timeout_seconds": 14_400,
            "idle_io": True,
        },
    ),
    Starter(
        "docker-prune",
        "container",
        _("Tidy up Docker"),
        _("Removes what no container has used for a week; volumes stay."),
        _("The user of the daemon must be allowed to use Docker."),
        {"job_type": "cron", "schedule": "0 5 * * SUN", "command": PRUNE, "timeout_seconds": 1800},
    ),
    Starter(
        "updates-check",
        "package",
        _("Look for updates"),
        _("Lists what is out of date every Monday; installs nothing."),
        _("Leave the line that fits your machine."),
        {"job_type": "cron", "schedule": "0 9 * * MON", "command": UPDATES},
    ),
    Starter(
        "log-rotation",
        "scroll-text",
        _("Rotate logs"),
        _("Lets logrotate pack and number your own programs' logs, without root."),
        _("Your rules stand in ~/.config/logrotate.conf."),
        {"job_type": "cron", "schedule": "15 0 * * *", "command": ROTATE},
    ),
    Starter(
        "sqlite-vacuum",
        "database",
        _("Tend a SQLite database"),
        _("Checks it and makes it small again once a week, when idle."),
        _("FILE is the database."),
        {
            "job_type": "cron",
            "schedule": "0 4 * * SUN",
            "command": DATABASE,
            "timeout_seconds": 1800,
            "only_when_idle": True,
        },
    ),
    Starter(
        "certificate-check",
        "lock",
        _("Watch a certificate"),
        _("Fails two weeks before a TLS certificate runs out."),
        _("FILE is the certificate; 1209600 are two weeks in seconds."),
        {"job_type": "cron", "schedule": "0 8 * * MON", "command": CERTIFICATE},
    ),
    Starter(
        "health-ping",
        "heart-pulse",
        _("Does it still answer?"),
        _("Asks a program for its health every five minutes, and fails when it is silent."),
        _("The address is that of your own program."),
        {
            "job_type": "interval",
            "schedule": "5m",
            "command": PING,
            "timeout_seconds": 60,
            "max_retries": 1,
        },
    ),
)
# Those of the first minute, which are offered together.
FIRST: Final = STARTERS[:3]


def named(key: str) -> Starter | None:
    """Return the starter of this name; None where there is none."""
    return next((starter for starter in STARTERS if starter.key == key), None)


def missing() -> list[Starter]:
    """Return those of the first minute whose name no job has."""
    taken = set(Job.objects.filter(name__in=[each.key for each in FIRST]).values_list("name"))
    return [starter for starter in FIRST if (starter.key,) not in taken]


def begin(*, now: datetime, by: str) -> list[Job]:
    """Create the jobs of the first minute that are not there yet, switched off; return them."""
    made = []
    for starter in missing():
        first = starter.job()
        first.is_active = False
        with suppress(ValidationError, IntegrityError):  # somebody else has just created it
            made.append(first.store(now=now, by=by))
    return made


def free_name(wanted: str) -> str:
    """Return a name that no job has: "cleanup", or "cleanup-2"."""
    taken = set(Job.objects.filter(name__startswith=wanted).values_list("name", flat=True))
    names = (wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def documents() -> str:
    """Return how the folder of documents is called here: "~/Documents", or "~/Dokumente"."""
    names = ("Documents", "Dokumente")
    there = next((name for name in names if (Path.home() / name).is_dir()), names[0])
    return f"~/{there}"

"""An example of each request, answer and error, for the description of the interface.

They are put together from the shapes the description has. A shape that is told by nothing but its
types says little: what its fields may hold stands in SHAPES, by the name of the shape.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from django.utils import translation
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from daemon_app.api.errors import KNOWN

Schema = dict[str, Any]

NOON: Final = "2026-11-22T11:00:00Z"
NIGHT: Final = "2026-11-22T02:30:00Z"
NEXT_NIGHT: Final = "2026-11-23T02:30:00Z"

BACKUP: Final = {
    "id": 2,
    "name": "nightly-backup",
    "job_type": "cron",
    "schedule": "30 3 * * *",
    "schedule_text": "täglich um 3:30 Uhr",
    "timezone": "Europe/Berlin",
    "is_active": True,
    "next_due_at": NEXT_NIGHT,
    "command": "tar -czf /srv/backup/home.tgz /home",
    "use_shell": True,
    "timeout_seconds": 3600,
    "grace_seconds": 10,
    "max_instances": 1,
    "misfire_age_seconds": 86_400,
    "max_retries": 2,
    "retry_backoff_seconds": 60,
    "retry_exit_codes": [],
    "pools": {},
    "limit_sustain_seconds": 30,
    "environment": {"LANG": "C.UTF-8"},
    "version": 3,
    "created_at": "2026-10-01T08:00:00Z",
    "updated_at": "2026-11-02T09:15:00Z",
    "updated_by": "anna",
}
RAN: Final = {
    "id": 17,
    "job_id": 2,
    "job_name": "nightly-backup",
    "trigger": "schedule",
    "started_by": "",
    "state": "succeeded",
    "due_at": NIGHT,
    "not_before": NIGHT,
    "queued_at": "2026-11-22T02:30:00.012Z",
    "started_at": "2026-11-22T02:30:00.094Z",
    "ended_at": "2026-11-22T02:34:41.530Z",
    "duration_seconds": 281.4,
    "waiting": None,
    "attempt": 1,
    "exit_code": 0,
    "cpu_seconds": 212.8,
    "peak_rss_bytes": 18_350_080,
    "read_bytes": 4_294_967_296,
    "write_bytes": 3_221_225_472,
    "output_bytes": 1_204,
    "output_lines": 18,
    "last_line": "3,0 GB geschrieben",
}
RUNNING: Final = {
    **RAN,
    "id": 18,
    "trigger": "api",
    "started_by": "anna",
    "state": "running",
    "ended_at": None,
    "duration_seconds": 94.0,
    "eta_seconds": 187.0,
    "progress": 33,
    "progress_label": "12 von 36 Ordnern",
    "exit_code": None,
}
QUEUED: Final = {
    **RAN,
    "id": 19,
    "trigger": "api",
    "started_by": "anna",
    "state": "queued",
    "started_at": None,
    "ended_at": None,
    "duration_seconds": None,
    "exit_code": None,
    "cpu_seconds": None,
    "peak_rss_bytes": None,
    "read_bytes": None,
    "write_bytes": None,
    "output_bytes": 0,
    "output_lines": 0,
    "last_line": "",
}
LOAD: Final = {
    "signal": "load",
    "code": "sign_load",
    "sentence": "Fremde Last: 42 %.",
    "facts": {"percent": 42},
}
# Shape → field → what it may hold. What is not named follows from its type.
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "Job": BACKUP,
    "Run": RAN,
    "OneRun": RAN
    | {
        "attempt": 2,
        "definition": {"command": BACKUP["command"], "timeout_seconds": 3600},
        "waits": [],
        "displaced": [],
        "start_readings": [],
        "progress_token": "",
    },
    "Attempt": {
        "number": 1,
        "state": "failed",
        "reason_code": "exit_code",
        "reason": "Beendet mit Code 2.",
        "started_at": "2026-11-22T02:29:00Z",
        "ended_at": "2026-11-22T02:29:12Z",
        "exit_code": 2,
        "output_bytes": 88,
        "output_lines": 2,
        "last_line": "tar: /srv/backup: Kein Platz mehr",
    },
    "Waiting": {
        "position": 1,
        "code": "waits_pool",
        "sentence": "Wartet auf den Pool „gpu“: braucht 1, frei sind 0 von 1.",
    },
    "InLine": {
        "position": 1,
        "code": "waits_pool",
        "sentence": "Wartet auf den Pool „gpu“: braucht 1, frei sind 0 von 1.",
        "run_id": 19,
        "job_id": 3,
        "job_name": "bericht",
        "trigger": "schedule",
        "due_at": NOON,
        "not_before": NOON,
        "attempt": 1,
        "pools": {"gpu": 1},
    },
    "Queue": {"parallel": 4, "running": 1, "length": 1},
    "Hold": {
        "hold": "drain",
        "held_at": NOON,
        "held_by": "anna",
        "hold_note": "Kernel update",
    },
    "Policy": {
        "max_parallel": None,
        "parallel": 4,
        "keep_days": 90,
        "keep_runs": 1000,
        "keep_output_mb": 2000,
        "slow_ms": 1000,
        "vram_high_percent": 80,
        "vram_target_percent": 70,
        "disk_low_gb": 10,
        "idle_after_seconds": 300,
        "foreign_load_percent": 50,
        "watch_logins": True,
        "watch_gpu": True,
        "quiet_hours": "22:00-06:00",
        "config_folders": [],
        "updated_at": "2026-11-02T09:15:00Z",
        "updated_by": "anna",
    },
    "Pool": {
        "name": "gpu",
        "size": 1,
        "description": "RTX 4090",
        "taken": 1,
        "updated_at": "2026-11-02T09:15:00Z",
        "updated_by": "anna",
    },
    "OnePool": {
        "name": "gpu",
        "size": 1,
        "description": "RTX 4090",
        "taken": 1,
        "updated_at": "2026-11-02T09:15:00Z",
        "updated_by": "anna",
    },
    "PoolChange": {"size": 2, "description": "RTX 4090"},
    "GonePool": {"name": "gpu"},
    "NeedOfPool": {"id": 3, "name": "bericht", "need": 2},
    "Incident": {
        "id": 4,
        "at": NIGHT,
        "level": "warn",
        "code": "stalled",
        "message": "Der Daemon stand 40 s still.",
        "facts": {"seconds": 40},
    },
    "Health": {
        "state": "high",
        "level": "warn",
        "value": 91.0,
        "unit": "%",
        "sentence": "VRAM zu 91 % belegt.",
        "age_seconds": 12.4,
        "facts": {"used_mb": 21_840, "free_mb": 2_160},
        "said": "",
    },
    "Newest": {"host": "vm", "at": NOON},
    "History": {
        "host": "vm",
        "since": "2026-11-22T10:00:00Z",
        "until": NOON,
    },
    "Course": {"unit": "%", "seconds": 300.0},
    "Point": {
        "at": "2026-11-22T10:55:00Z",
        "value": 41.5,
        "least": 38.0,
        "most": 47.0,
        "state": "ok",
    },
    "Column": {"unit": "%", "values": [41.5], "states": ["ok"]},
    "LastHour": {"at": [NOON], "idle": [False]},
    "IdleReason": LOAD,
    "IdleTime": {
        "host": "vm",
        "idle": False,
        "began_at": "2026-11-22T10:12:00Z",
        "ended_at": "2026-11-22T10:40:00Z",
    },
    "MadeWay": {
        "id": 31,
        "run_id": 16,
        "job_id": 3,
        "job_name": "bericht",
        "host": "vm",
        "at": "2026-11-22T10:12:00Z",
        "cause": LOAD,
        "asked_seconds": 0.011,
        "yielded_seconds": 1.3,
        "phase": "asked",
        "slice_seconds": 611.0,
    },
    "Spread": {"p50": 0.011, "p95": 0.02, "p99": 0.034},
    "YieldTimes": {"today": 2, "total": 31},
    "Skill": {
        "name": "validate_configs",
        "title": "Konfigurationen prüfen",
        "enabled": True,
        "job_id": 1,
        "next_due_at": NEXT_NIGHT,
    },
    "LastRun": {
        "id": 17,
        "state": "succeeded",
        "at": NIGHT,
        "summary": "12 Dateien geprüft, alle lesbar",
    },
    "Presence": {
        "state": "away",
        "until": "2026-11-22T13:00:00Z",
        "at": NOON,
        "by": "anna",
    },
    "NowPresent": {
        "idle": False,
        "idle_since": "2026-11-22T10:12:00Z",
        "idle_from": "2026-11-22T11:05:00Z",
        "users": 1,
        "active_at": "2026-11-22T10:59:48Z",
        "host": "vm",
    },
    "Explanation": {
        "state": "waiting",
        "sentence": "Wartet auf VRAM: braucht 12 GB, frei sind 6,2 GB.",
        "job_id": 2,
        "run_id": 19,
    },
    "Rule": {
        "name": "vram",
        "label": "Freier VRAM",
        "state": "blocked",
        "code": "waits_vram",
        "sentence": "Wartet auf VRAM: braucht 12 GB, frei sind 6,2 GB.",
        "facts": {"value": 6200, "threshold": 12_000},
    },
    "Event": {
        "at": NIGHT,
        "code": "queued",
        "sentence": "In die Warteschlange gestellt.",
        "run_id": 19,
    },
    "JobAtAGlance": {
        "id": 2,
        "name": "nightly-backup",
        "state": "succeeded",
        "schedule_text": "täglich um 3:30 Uhr",
        "is_active": True,
        "next_due_at": NEXT_NIGHT,
        "success_percent": 97,
        "runs": ["succeeded", "succeeded", "failed"],
    },
    "PastRun": {
        "id": 17,
        "state": "succeeded",
        "started_at": "2026-11-22T02:30:00.094Z",
        "ended_at": "2026-11-22T02:34:41.530Z",
        "duration_seconds": 281.4,
    },
    "Figures": {
        "job_id": 2,
        "success_percent": 97,
        "judged": 30,
        "median_seconds": 281.4,
        "p95_seconds": 340.0,
        "longest_seconds": 612.5,
        "peak_rss_bytes": 18_350_080,
        "unusual": [],
    },
    "JobChange": {
        "id": 41,
        "at": NOON,
        "by": "anna",
        "via": "api",
        "kind": "edited",
        "job_id": 2,
        "name": "nightly-backup",
        "version": 3,
        "fields": {"schedule": ["0 3 * * *", "30 3 * * *"]},
    },
    "Entry": {
        "id": 41,
        "at": "2026-11-22T11:00:00.120934+00:00",
        "by": "anna",
        "via": "api",
        "address": "192.0.2.7",
        "token": 3,
        "kind": "edited",
        "subject": "job",
        "subject_id": 2,
        "name": "nightly-backup",
        "version": 3,
        "fields": {"schedule": ["0 3 * * *", "30 3 * * *"]},
        "previous": "9f1c" * 16,
        "digest": "c04b" * 16,
    },
    "Token": {
        "id": 3,
        "name": "monitoring",
        "role": "viewer",
        "account": "anna",
        "is_live": True,
        "created_at": "2026-10-01T08:00:00Z",
        "expires_at": "2027-10-01T08:00:00Z",
        "last_used_at": NOON,
    },
    "NewToken": {
        "id": 3,
        "name": "monitoring",
        "role": "viewer",
        "account": "anna",
        "is_live": True,
        "created_at": NOON,
        "expires_at": "2027-11-22T11:00:00Z",
        "token": "bach_3_" + "fbad" * 16,
    },
    "Preview": {
        "job_type": "cron",
        "schedule": "30 3 * * *",
        "timezone": "Europe/Berlin",
        "sentence": "täglich um 03:30 Uhr",
        "times": [NEXT_NIGHT],
        "warnings": [],
    },
    "Meeting": {"job_id": 3, "name": "bericht", "at": NEXT_NIGHT},
    "Checked": {
        "valid": True,
        "fields": {},
        "conditions": ["nur im Leerlauf"],
        "rules": ["höchstens 1 h", "ein Lauf zur Zeit, der nächste Start fällt aus"],
    },
    "CommandReport": {"user": "anna", "folder": "/home/anna", "shell": "/bin/sh"},
    "Finding": {"level": "ok", "code": "found", "what": "tar", "path": "/usr/bin/tar"},
    "Starter": {
        "key": "backup-daily",
        "title": "Tägliche Sicherung",
        "about": "Packt einmal am Tag einen Ordner und behält zwei Wochen davon.",
        "adjust": "SOURCE ist, was gesichert wird, TARGET wohin.",
        "schedule_text": "alle 24 Stunden",
        "is_first": True,
        "job": {
            "name": "backup-daily",
            "job_type": "interval",
            "schedule": "24h",
            "command": "set -e\nSOURCE=~/Documents\n…",
            "timeout_seconds": 3600,
        },
    },
    "PlannedStart": {
        "at": NEXT_NIGHT,
        "job_id": 2,
        "job_name": "nightly-backup",
        "usual_seconds": 281.4,
    },
    "FrequentJob": {"job_id": 5, "job_name": "watch", "count": 10_080},
    "BusyHour": {"at": "2026-11-23T02:00:00Z", "count": 61},
    "Room": {"since": "2026-11-23T04:00:00Z", "until": "2026-11-23T09:00:00Z", "most": 60},
    "Calendar": {"since": NOON, "until": "2026-11-29T11:00:00Z", "total": 10_087},
    "Upcoming": {"job_id": 2, "times": [NEXT_NIGHT], "is_active": True},
    "Muted": {"job_id": 2, "muted_until": "2026-11-30T07:00:00Z", "muted_by": "anna"},
    "Piece": {"run_id": 17, "offset": 0, "next_offset": 16, "line": 1, "is_end": True},
    "Part": {"stream": "stdout", "at": NIGHT, "text": "Ordner 1 von 36\n"},
    "Hits": {"size": 1_204},
    "Hit": {"line": 18, "excerpt": "3,0 GB geschrieben"},
    "Stats": {"total_jobs": 12, "active_jobs": 9, "runs_today": 41, "failed_today": 1},
    "Notice": {
        "level": "warn",
        "code": "impossible",
        "title": "Ein Job kann nie starten",
        "text": "„bericht“ braucht 2 vom Pool „gpu“, es gibt nur 1.",
        "job_id": 3,
    },
    "Status": {
        "running": True,
        "host": "vm",
        "since": "2026-11-22T04:55:45.548199Z",
        "level": "warn",
        "queue_length": 1,
        "idle": False,
        "idle_since": "2026-11-22T10:12:00Z",
        "idle_from": "2026-11-22T11:05:00Z",
        "users": 1,
    },
}
# What a part of the address, the query or the head of a request may be.
ASKED: Final[dict[str, Any]] = {
    "id": 2,
    "name": "gpu",
    "job_id": 2,
    "limit": 10,
    "at": "2026-11-22T02:30:00Z",
    "since": "2026-11-21T00:00:00Z",
    "until": "2026-11-22T00:00:00Z",
    "check": "vram",
    "lines": 20,
    "offset": 4096,
    "attempt": 1,
    "points": 300,
    "after": 200,
    "before": 200,
    "Idempotency-Key": "deploy-17",
    "q": "backup",
    "by": "anna",
    "subject_id": 2,
    "token": 3,
    "head": "c04b" * 16,
    "schedule": "30 3 * * *",
    "timezone": "Europe/Berlin",
    "times": 5,
    "cursor": "WyJuYW1lIiwiYmFja3VwIiwyXQ",
    "line": 1,
    "before_line": 200,
    "around": 120,
}
# (operation, name) → where it is something else than elsewhere.
ASKED_OF: Final[dict[tuple[str, str], Any]] = {
    ("read_calendar", "since"): NEXT_NIGHT,
    ("read_calendar", "until"): "2026-11-24T00:00:00Z",
    ("read_calendar", "cursor"): f"{NEXT_NIGHT}~2",
}
TEXT: Final = "Ordner 1 von 36\nOrdner 2 von 36\n"
# Operation → answer that an example of its shape would tell wrongly.
ANSWERS: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("run_job", "200"): RUNNING,
    ("run_job", "202"): QUEUED,
    ("run_again", "200"): RUNNING,
    ("run_again", "202"): QUEUED,
    ("cancel_run", "202"): RUNNING
    | {
        "is_stopping": True,
        "phase": "term",
        "stop_requested_at": NOON,
        "stop_requested_by": "anna",
    },
    ("move_run", "200"): QUEUED
    | {
        "waiting": {
            "position": 1,
            "code": "waits_slots",
            "sentence": "Wartet auf einen Platz: 4 von 4 laufen.",
        }
    },
    ("force_run", "202"): QUEUED | {"forced_by": "anna"},
    ("toggle_job", "200"): BACKUP | {"is_active": False, "next_due_at": None},
    ("pause_job", "200"): BACKUP
    | {
        "is_active": False,
        "next_due_at": None,
        "paused_until": "2026-12-24T07:00:00Z",
        "paused_by": "anna",
        "pause_note": "disk is being replaced",
    },
    ("resume", "200"): {"hold": "", "held_at": None, "held_by": "", "hold_note": ""},
    ("acknowledge_incident", "200"): SHAPES["Incident"]
    | {"acknowledged_at": NOON, "acknowledged_by": "anna"},
}
# Operation → status → code and message of its own refusal.
REFUSALS: Final[dict[tuple[str, str], tuple[str, Any]]] = {
    ("cancel_run", "409"): ("ended", _("This run has already ended.")),
    ("force_run", "409"): ("not_waiting", _("This run does not wait in line.")),
    ("move_run", "409"): ("not_waiting", _("This run does not wait in line.")),
    ("delete_job", "409"): (
        "of_a_skill",
        _("The job of a skill can't be deleted. Switch it off, and it does not run."),
    ),
    ("export_definitions", "409"): (
        "of_a_skill",
        "„cleanup_vram“ gehört zu einem Skill; Dateien können ihn nicht festlegen.",
    ),
    ("copy_job", "409"): ("of_a_skill", _("The job of a skill can't be copied.")),
    ("run_again", "409"): ("overlap", "Nicht gestartet: läuft bereits (Lauf 18)."),
    ("verify_audit_log", "409"): (
        "being_verified",
        _("The audit log is being verified right now."),
    ),
    ("read_transcript", "410"): (
        "tidied_away",
        _("The output of this run has been tidied away."),
    ),
    ("search_log", "410"): ("tidied_away", _("The output of this run has been tidied away.")),
    ("run_job", "409"): ("overlap", "Nicht gestartet: läuft bereits (Lauf 18)."),
    ("read_log", "410"): ("tidied_away", _("The output of this run has been tidied away.")),
}


def fill(result: Schema, **_about: Any) -> Schema:
    """Return the description with an example wherever one is missing (a hook of its maker)."""
    shapes: dict[str, Schema] = result["components"]["schemas"]
    with translation.override("de"):  # as the server answers
        for operation in operations(result):
            _fill_request(operation, shapes)
            for status, answer in operation["responses"].items():
                _fill_answer(operation, status, answer, shapes)
    return result


def operations(described: Schema) -> Iterator[Schema]:
    """Yield each operation of a description."""
    for methods in described["paths"].values():
        yield from methods.values()


def _fill_request(operation: Schema, shapes: Mapping[str, Schema]) -> None:
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        usual = ASKED.get(name, _first(parameter["schema"]))
        value = ASKED_OF.get((operation["operationId"], name), usual)
        if value is not None and not {"example", "examples"} & parameter.keys():
            parameter["example"] = value
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body and not {"example", "examples"} & body.keys():
        body["example"] = compose(body["schema"], shapes, is_wanted=_is_writable)


def _first(schema: Schema) -> Any:
    words = schema.get("enum", [True] if schema.get("type") == "boolean" else [])
    return words[0] if words else None


def _fill_answer(
    operation: Schema, status: str, answer: Schema, shapes: Mapping[str, Schema]
) -> None:
    for media_type, content in answer.get("content", {}).items():
        if {"example", "examples"} & content.keys():
            continue
        if int(status) >= 400:
            content["example"] = _refusal(operation, status, content["schema"], shapes)
        elif media_type != "application/json":
            content["example"] = TEXT
        else:
            own = ANSWERS.get((operation["operationId"], status), {})
            told = compose(content["schema"], shapes)
            content["example"] = told | own if own else told


def _refusal(
    operation: Schema, status: str, schema: Schema, shapes: Mapping[str, Schema]
) -> dict[str, Any]:
    error: dict[str, Any] = compose(schema, shapes)["error"]
    own = REFUSALS.get((operation["operationId"], status))
    if own:
        error |= {"code": own[0], "message": str(own[1])}
    elif status == "400":
        error |= _slip(operation)
    else:
        found = [(code, text) for _kind, known, code, text in KNOWN if str(known) == status]
        if found:
            error |= {"code": found[0][0], "message": str(found[0][1])}
    if "blocking_run" in error:
        error["blocking_run"] |= RUNNING
    return {"error": error}


def _slip(operation: Schema) -> dict[str, Any]:
    """Return what is said to the slip somebody may make here."""
    if operation["operationId"] in {"create_job", "change_job"}:
        fields = {"schedule": ["„60“ hat keine Einheit. Meinten Sie 60m?"]}
    elif operation.get("requestBody"):
        fields = {"nam": [_t("There is no such field.")]}
    else:
        fields = {"page": [_t("There is no such parameter.")]}
    message = _t("Please check: %(fields)s.") % {"fields": ", ".join(fields)}
    return {"code": "invalid", "message": message, "fields": fields}


def _is_writable(schema: Schema) -> bool:
    return not schema.get("readOnly")


def compose(
    schema: Schema,
    shapes: Mapping[str, Schema],
    *,
    is_wanted: Callable[[Schema], bool] = bool,
    shape: str = "",
) -> Any:
    """Return a value of this schema; `shape` is the name it goes by.

    Of an object those fields whose schemas are wanted.
    """
    if "$ref" in schema:
        shape = schema["$ref"].rpartition("/")[2]
        return compose(shapes[shape], shapes, is_wanted=is_wanted, shape=shape)
    for several in ("allOf", "oneOf", "anyOf"):
        if several in schema:
            return compose(schema[several][0], shapes, is_wanted=is_wanted)
    if "properties" in schema:
        known = SHAPES.get(shape.removeprefix("Patched").removesuffix("Request"), {})
        return {
            name: known[name] if name in known else compose(each, shapes, is_wanted=is_wanted)
            for name, each in schema["properties"].items()
            if is_wanted(each)
        }
    return _plain(schema, shapes)


def _plain(schema: Schema, shapes: Mapping[str, Schema]) -> Any:
    """Return a value of a schema that is no object with fields of its own."""
    kinds = schema.get("type", "object")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if "enum" in schema or "default" in schema or "null" in kinds:
        return schema.get("default", _first(schema))
    if kind == "array":
        return [compose(schema["items"], shapes)]
    if kind == "object":
        inside = schema.get("additionalProperties")
        is_of_checks = isinstance(inside, dict) and "$ref" in inside
        return {"vram": compose(inside or {}, shapes)} if is_of_checks else {}
    if kind == "string":
        return NOON if schema.get("format") == "date-time" else ""
    return {"boolean": False, "number": 0.0}.get(kind, schema.get("minimum", 0))

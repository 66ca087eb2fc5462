"""Databases as an original BACH left them, of both generations of its tables."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

JOBS = """
CREATE TABLE {prefix}_jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, {more} description TEXT,
    job_type TEXT NOT NULL, schedule TEXT, command TEXT, script_path TEXT, arguments TEXT,
    parameters TEXT, is_active INTEGER DEFAULT 1, last_run TEXT, next_run TEXT,
    run_count INTEGER DEFAULT 0, success_count INTEGER DEFAULT 0, fail_count INTEGER DEFAULT 0,
    last_result TEXT, last_output TEXT, timeout_seconds INTEGER DEFAULT 300,
    retry_on_fail INTEGER DEFAULT 0, max_retries INTEGER DEFAULT 0,
    created_at TEXT DEFAULT '2026-01-05T08:00:00', updated_at TEXT
)"""
RUNS = """
CREATE TABLE {prefix}_runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id INTEGER, started_at TEXT, finished_at TEXT,
    duration_seconds REAL, result TEXT, output TEXT, error TEXT, triggered_by TEXT
)"""


def database(
    path: Path, *jobs: dict[str, Any], generation: str = "daemon", journal: str = "delete"
) -> Path:
    """Make a database of a generation, "scheduler" or "daemon", with these jobs."""
    more = "profile_name TEXT," if generation == "scheduler" else ""
    with closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA journal_mode = {journal}")
        made.execute(JOBS.format(prefix=generation, more=more))
        made.execute(RUNS.format(prefix=generation))
        made.execute("CREATE TABLE toolchains (id INTEGER PRIMARY KEY, name TEXT)")
        made.executemany("INSERT INTO toolchains (name) VALUES (?)", [("a",), ("b",)])
        for job in jobs:
            said = {"job_type": "manual", "command": "true", **job}
            marks = ", ".join("?" * len(said))
            made.execute(
                f"INSERT INTO {generation}_jobs ({', '.join(said)}) VALUES ({marks})",
                [*said.values()],
            )
        made.commit()
    return path


def add_runs(path: Path, count: int, *, jobs: int = 1, generation: str = "daemon") -> None:
    """Add runs, one a minute, every tenth failed, spread over the jobs in turn."""
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA synchronous = OFF")
        made.execute(
            f"""
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
            INSERT INTO {generation}_runs
              (job_id, started_at, finished_at, duration_seconds, result, output, error)
            SELECT 1 + i % {jobs},
              strftime('%Y-%m-%dT%H:%M:%S', 1700000000 + i * 60, 'unixepoch'),
              strftime('%Y-%m-%dT%H:%M:%S', 1700000002 + i * 60, 'unixepoch'), 2.0,
              CASE WHEN i % 10 THEN 'success' ELSE 'failed' END, 'run ' || i, ''
            FROM n
            """
        )
        made.commit()


def change(path: Path, statement: str, *values: object) -> None:
    """Do something with a database."""
    with closing(sqlite3.connect(path)) as made:
        made.execute(statement, values)
        made.commit()

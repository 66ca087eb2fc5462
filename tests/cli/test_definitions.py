"""Jobs come from files and go to files."""

from pathlib import Path

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach

JOBS = """\
jobs:
  - name: a
    job_type: cron
    schedule: 30 3 * * MON-FRI
    timezone: Europe/Berlin
    command: |
      set -e
      ls "a: #b"

  - name: ä b
    job_type: manual
    timezone: Europe/Berlin
    command: 'echo ä: #1'
"""


def test_jobs_come_from_a_file_and_go_to_one(bach: Bach, folder: Path) -> None:
    bach.migrate()
    file = folder / "jobs.yaml"
    file.write_text(JOBS)

    done = bach("apply", str(file))
    told = bach("export", "a", "ä b")

    assert done.returncode == Code.OK
    assert told.stdout == JOBS

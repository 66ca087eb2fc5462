"""Jobs go from one installation to another as files."""

from pathlib import Path

from daemon_app.cli.outcome import Code
from tests.cli.bach import Bach


def test_jobs_go_from_one_installation_to_another(bach: Bach, folder: Path) -> None:
    other = Bach(folder / "other")
    for each in (bach, other):
        each.migrate()
    bach.add_jobs(a="set -e\nls", b="echo ä: #1")
    file = folder / "jobs.yaml"

    file.write_text(bach("export").stdout)
    would = other("apply", str(file), "--check")
    done = other("apply", str(file))

    assert (would.returncode, done.returncode) == (Code.WOULD_CHANGE, Code.OK)
    assert other("export").stdout == file.read_text()
